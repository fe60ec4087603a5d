//! From the input to the producer, and the end of both.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use ottla::{AsyncProducer, FlushError, Message, Topic};

use crate::account::{Account, Counts};
use crate::input::{Input, Lines, Piece};
use crate::options::{OnOverflow, Options};
use crate::stop::{LOOK, Stop};

/// Moves lines until the input ends or somebody says stop.
pub struct Pump<'a> {
    options: &'a Options,
    topic: Topic,
    producer: AsyncProducer,
    account: Account,
    stop: Stop,
    /// Set by the first line that found the queue full, where that ends the run.
    overflowed: bool,
    /// Lines that were read and will not be tried any more: at most as many as are read at once.
    left: Vec<Message<'static>>,
    progress: Progress,
}

impl<'a> Pump<'a> {
    pub fn new(options: &'a Options, topic: Topic, producer: AsyncProducer, account: Account, stop: Stop) -> Self {
        Self { options, topic, producer, account, stop, overflowed: false, left: Vec::new(), progress: Progress::new() }
    }

    /// Reads, produces, shuts down. The counts, and a sentence if something went wrong.
    pub fn run(mut self) -> (Counts, Option<String>) {
        let input_error = self.read_all().err();
        self.account.end_long_line();
        self.stop.end();
        self.wait_for_fates();
        let shutdown_error = self.shut_down().err();
        self.progress.clear();
        let (counts, problem) = self.account.close();
        let problem = shutdown_error.or(input_error.map(|error| format!("standard input: {error}"))).or(problem);
        (counts, problem)
    }

    fn read_all(&mut self) -> io::Result<()> {
        let input = Input::start(self.options.max_message_bytes)?;
        loop {
            let stopped = self.stop.ending();
            if stopped {
                input.stop();
            }
            match input.pieces.recv_timeout(LOOK) {
                Ok(Ok(Piece::Lines(lines))) => self.produce_all(lines),
                Ok(Ok(Piece::Long { bytes, is_last })) => self.account.long_line(&bytes, is_last),
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                // After a stop, what was read until then has come by now.
                Err(RecvTimeoutError::Timeout) if stopped => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.progress.show(&self.account);
        }
    }

    fn produce_all(&mut self, lines: Lines) {
        let (options, topic) = (self.options, self.topic.clone());
        for line in lines {
            self.account.read += 1;
            let (key, value) = match &options.key_separator {
                Some(separator) => split(&line, separator),
                None => (None, &line[..]),
            };
            let mut message = Message::new(&topic, value);
            if let Some(key) = key {
                message = message.with_key(key);
            }
            self.produce(message);
        }
    }

    fn produce(&mut self, message: Message<'_>) {
        // Lines that were read together with the last one that was tried.
        if self.overflowed || self.stop.given_up() {
            return self.left.push(message.into_owned());
        }
        let refused = match self.options.on_overflow {
            OnOverflow::Wait => return self.produce_waiting(message),
            OnOverflow::Drop | OnOverflow::Fail => self.producer.produce(message),
        };
        match refused {
            Ok(()) => self.account.accepted += 1,
            Err(error) if error.is_buffer_overflow() => {
                self.account.overflowed(&error, error.message());
                if self.options.on_overflow == OnOverflow::Fail {
                    self.overflowed = true;
                    self.stop.end();
                }
            }
            Err(error) => self.account.refused(&error, error.message()),
        }
    }

    /// Waits for room in the queue, without limit but with an eye on the signals.
    fn produce_waiting(&mut self, message: Message<'_>) {
        let mut refused = self.producer.produce_timeout(message, LOOK);
        loop {
            match refused {
                Ok(()) => {
                    self.account.accepted += 1;
                    return;
                }
                Err(error) if !error.is_buffer_overflow() => {
                    return self.account.refused(&error, error.message());
                }
                Err(error) if self.stop.given_up() => {
                    self.account.note(&error);
                    return self.left.push(error.into_message());
                }
                Err(error) => {
                    self.progress.show(&self.account);
                    refused = self.producer.produce_timeout(error.into_message(), LOOK);
                }
            }
        }
    }

    /// Waits until every accepted line is delivered or has failed, or until it is time to give up.
    ///
    /// `shutdown` would wait as well, but a second signal could not end that.
    fn wait_for_fates(&mut self) {
        while !self.stop.given_up() {
            match self.producer.flush(LOOK) {
                Err(FlushError::Timeout { .. }) => self.progress.show(&self.account),
                _ => return,
            }
        }
    }

    /// Shuts the producer down, which hands back what has no fate yet. What came after it was never taken.
    fn shut_down(&mut self) -> Result<(), String> {
        let report = self.producer.shutdown_within(Duration::ZERO).map_err(|error| format!("shutdown: {error}"))?;
        for error in report.undelivered {
            self.account.note(&error);
            self.account.undelivered(error.message());
        }
        for message in self.left.drain(..) {
            self.account.undelivered(&message);
        }
        Ok(())
    }
}

/// Key and value of a line, or no key where there is no separator.
fn split<'l>(line: &'l [u8], separator: &[u8]) -> (Option<&'l [u8]>, &'l [u8]) {
    match line.windows(separator.len()).position(|bytes| bytes == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

/// A line on a terminal's standard error, once a second; nothing when standard error goes elsewhere.
struct Progress {
    shown: Option<Instant>,
    terminal: bool,
    began: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { shown: None, terminal: io::stderr().is_terminal(), began: Instant::now() }
    }

    fn show(&mut self, account: &Account) {
        if !self.terminal || self.shown.unwrap_or(self.began).elapsed() < Duration::from_secs(1) {
            return;
        }
        self.shown = Some(Instant::now());
        let seconds = self.began.elapsed().as_secs();
        let (read, delivered) = (account.read, account.delivered_so_far());
        let _ = write!(io::stderr(), "\r{seconds:>5} s  {read:>12} read  {delivered:>12} delivered ");
    }

    /// Leaves the progress line, so that what follows has its own.
    fn clear(&self) {
        if self.shown.is_some() {
            let _ = writeln!(io::stderr());
        }
    }
}

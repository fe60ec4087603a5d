//! The account: how every line ended, and the file of the lines that were not delivered.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ottla::Message;

use crate::options::Options;

/// Counts of lines. `read = delivered + failed + undelivered + overflowed`.
#[derive(Debug)]
pub struct Counts {
    pub read: u64,
    pub accepted: u64,
    pub delivered: u64,
    pub failed: u64,
    pub undelivered: u64,
    pub overflowed: u64,
}

impl Counts {
    pub fn all_delivered(&self) -> bool {
        self.delivered == self.read
    }
}

/// What the reading side counts, and the fates that the callback counts.
pub struct Account {
    pub read: u64,
    pub accepted: u64,
    undelivered: u64,
    overflowed: u64,
    max_message_bytes: usize,
    /// How many bytes of a line that is too long were read.
    long_line: Option<u64>,
    fates: Arc<Fates>,
}

impl Account {
    /// An empty account. The file is appended to: it may hold the lines of an earlier run.
    pub fn open(options: &Options) -> io::Result<Self> {
        let file = match &options.undelivered {
            Some(path) => Some(BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?)),
            None => None,
        };
        let kept = Kept { file, inside_line: false, file_error: None, first_error: None };
        let fates = Fates {
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            key_separator: options.key_separator.clone().unwrap_or_default(),
            kept: Mutex::new(kept),
            line_ended: Condvar::new(),
        };
        Ok(Self {
            read: 0,
            accepted: 0,
            undelivered: 0,
            overflowed: 0,
            max_message_bytes: options.max_message_bytes,
            long_line: None,
            fates: Arc::new(fates),
        })
    }

    /// The part that the delivery callback shares.
    pub fn fates(&self) -> Arc<Fates> {
        Arc::clone(&self.fates)
    }

    /// The line that was read last, which `produce` refused for good.
    pub fn refused(&self, why: &dyn Display, message: &Message<'_>) {
        self.fates.failed(&format_args!("line {}: {why}", self.read), message);
    }

    /// A piece of a line that is too long for any message. It fails, and is kept as it comes: it may be longer than the
    /// memory.
    pub fn long_line(&mut self, piece: &[u8], is_last: bool) {
        if self.long_line.is_none() {
            self.read += 1;
        }
        *self.long_line.get_or_insert(0) += piece.len() as u64;
        self.fates.keep_piece(piece);
        if is_last {
            self.end_long_line();
        }
    }

    /// The line that is too long has ended, or what was read of it has; if there is one.
    pub fn end_long_line(&mut self) {
        let Some(bytes) = self.long_line.take() else { return };
        let (line, limit) = (self.read, self.max_message_bytes);
        self.fates.end_piece(&format_args!(
            "line {line} has {bytes} bytes, too many for --max-message-bytes {limit}: break it up, or raise that, and \
             max.message.bytes of the topic"
        ));
    }

    /// A line that was left out because the queue was full.
    pub fn overflowed(&mut self, why: &dyn Display, message: &Message<'_>) {
        self.overflowed += 1;
        self.fates.note(why);
        self.fates.keep(message);
    }

    /// A line without a fate when the time was up.
    pub fn undelivered(&mut self, message: &Message<'_>) {
        self.undelivered += 1;
        self.fates.keep(message);
    }

    /// Something that kept lines from being delivered: the first is told at the end.
    pub fn note(&self, why: &dyn Display) {
        self.fates.note(why);
    }

    pub fn delivered_so_far(&self) -> u64 {
        self.fates.delivered.load(Ordering::Relaxed)
    }

    /// The counts, and the first reason why a line was not delivered.
    pub fn close(self) -> (Counts, Option<String>) {
        let mut kept = self.fates.lock();
        if let Some(Err(error)) = kept.file.as_mut().map(Write::flush) {
            kept.file_error.get_or_insert(error);
        }
        let counts = Counts {
            read: self.read,
            accepted: self.accepted,
            delivered: self.delivered_so_far(),
            failed: self.fates.failed.load(Ordering::Relaxed),
            undelivered: self.undelivered,
            overflowed: self.overflowed,
        };
        let problem = match &kept.file_error {
            Some(error) => Some(format!("--undelivered: lines are missing in the file: {error}")),
            None => kept.first_error.as_ref().map(|error| format!("not all was delivered, the first reason: {error}")),
        };
        drop(kept);
        (counts, problem)
    }
}

/// What the delivery callback counts and keeps.
pub struct Fates {
    delivered: AtomicU64,
    failed: AtomicU64,
    key_separator: Vec<u8>,
    /// Between the delivery thread and the main thread: both write lines that were not delivered.
    kept: Mutex<Kept>,
    /// A line that came in pieces has ended.
    line_ended: Condvar,
}

struct Kept {
    file: Option<BufWriter<File>>,
    /// A line is in the file whose other pieces follow: the delivery thread waits until it ends.
    inside_line: bool,
    file_error: Option<io::Error>,
    first_error: Option<String>,
}

impl Fates {
    pub fn delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self, why: &dyn Display, message: &Message<'_>) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(why);
        self.keep(message);
    }

    fn note(&self, why: &dyn Display) {
        self.lock().first_error.get_or_insert_with(|| why.to_string());
    }

    fn keep(&self, message: &Message<'_>) {
        let mut kept = self.lock();
        while kept.inside_line {
            kept = self.line_ended.wait(kept).unwrap_or_else(PoisonError::into_inner);
        }
        kept.write(|file| write_line(file, &self.key_separator, message));
    }

    fn keep_piece(&self, piece: &[u8]) {
        let mut kept = self.lock();
        kept.inside_line = true;
        kept.write(|file| file.write_all(piece));
    }

    /// The line whose pieces were kept failed.
    fn end_piece(&self, why: &dyn Display) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.note(why);
        let mut kept = self.lock();
        kept.inside_line = false;
        kept.write(|file| file.write_all(b"\n"));
        self.line_ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if let Some(Err(error)) = self.file.as_mut().map(write) {
            self.file_error.get_or_insert(error);
        }
    }
}

/// The line that the message was made of.
fn write_line(file: &mut impl Write, key_separator: &[u8], message: &Message<'_>) -> io::Result<()> {
    if let Some(key) = message.key() {
        file.write_all(key)?;
        file.write_all(key_separator)?;
    }
    file.write_all(message.value().unwrap_or_default())?;
    file.write_all(b"\n")
}

//! The threads of the program: each calls one function of the producer after the other, and waits where that waits.
//! Who waits looks again when the worker or a callback has moved on, not always at once, and sometimes for nothing.

use std::time::{Duration, Instant};

use crate::unthreaded::{Flush, Totals};
use ottla::deadline::Deadline;
use ottla::engine::producer::FailedMessages;
use ottla::fate::slot::Awaited;
use ottla::{BufferLimit, Message, ProduceErrorKind};

use crate::check::{Anomaly, Said};
use crate::ledger::{Eyes, Sent, id_of, told_of};
use crate::planted::Bug;
use crate::worker::TOO_LATE;
use crate::world::{Happening, TOPICS, World};

/// One thread.
#[derive(Default)]
pub struct Caller {
    blocked: Option<Blocked>,
}

/// What it waits for.
enum Blocked {
    Room { message: Box<Message<'static>>, id: u64, lookout: Option<Awaited>, until: Instant },
    Flush { flush: Flush, before: u64, until: Deadline },
    Purge { number: u64 },
    Handle { id: u64 },
    End(Ending),
}

/// A shutdown, or a drop.
#[derive(Clone, Copy)]
struct Ending {
    first: bool,
    report: bool,
    until: Deadline,
    abandoned: Option<Instant>,
}

/// What shutdown told, summed up once all is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Failures of which nobody was told one by one.
    pub untold: u64,
}

impl World {
    /// A caller that waits for nothing does something.
    pub fn call(&mut self, caller: usize) {
        if self.callers[caller].blocked.is_some() || self.dropped {
            return;
        }
        match self.below(100) {
            0..10 => self.side.deliver(),
            10..18 => self.flush(caller),
            18..23 => {
                self.tell(|| format!("{caller} purges"));
                if let Some(number) = self.side.begin_purge() {
                    self.callers[caller].blocked = Some(Blocked::Purge { number });
                }
            }
            23..30 => self.wait_for_a_handle(caller),
            30..32 => self.side.ask_for_partitions(TOPICS[self.random.u64(..) as usize >> 9 & 1]),
            32..35 => self.drop_a_handle(),
            _ => self.produce(caller),
        }
        self.look_soon(caller);
        self.after_call();
    }

    /// Who waits looks before.
    fn look_soon(&mut self, caller: usize) {
        if self.callers[caller].blocked.is_some() {
            self.at(self.elapsed(), Happening::Look);
        }
    }

    /// The last thing a program does before it ends: nothing is left lying.
    pub fn last_call(&mut self) {
        if self.dropped {
            return;
        }
        for caller in 0..self.callers.len() {
            if self.callers[caller].blocked.is_none() {
                self.produce(caller);
            }
        }
        self.side.deliver();
        self.after_call();
    }

    /// Those who wait look whether it has come.
    pub fn look_again(&mut self) {
        for caller in 0..self.callers.len() {
            let Some(blocked) = self.callers[caller].blocked.take() else { continue };
            self.callers[caller].blocked = self.look(caller, blocked);
        }
        self.after_call();
    }

    /// The next moment at which somebody gives up waiting.
    pub fn somebody_waits(&self) -> bool {
        self.callers.iter().any(|caller| caller.blocked.is_some())
    }

    /// Shuts down, or drops the producer (`report` false), which nobody can do while another uses it.
    pub fn shut_down(&mut self, caller: usize, timeout: Option<Duration>, report: bool) {
        if self.dropped {
            return;
        }
        // The caller waits for something else: so it is another thread that shuts down.
        if self.callers[caller].blocked.is_some() {
            self.callers.push(Caller::default());
            return self.shut_down(self.callers.len() - 1, timeout, report);
        }
        let uses = |caller: &Caller| !matches!(caller.blocked, None | Some(Blocked::Handle { .. }));
        let report = report || self.callers.iter().any(uses);
        self.dropped = !report;
        self.tell(|| format!("{caller} shuts down, within {timeout:?}, with a report: {report}"));
        let first = self.side.close();
        let until = timeout.map_or(Deadline::NEVER, |timeout| Deadline::after(self.now, timeout));
        if let Some(until) = until.moment() {
            self.at(until - self.start, Happening::Look);
        }
        self.callers[caller].blocked = Some(Blocked::End(Ending { first, report, until, abandoned: None }));
        self.closed = true;
        self.look_soon(caller);
        self.after_call();
    }

    fn produce(&mut self, caller: usize) {
        for _ in 0..=self.below(12) {
            let id = self.ledger.next_id();
            let mut value = id.to_be_bytes().to_vec();
            value.resize(8 + self.below(60) as usize, b'.');
            let topic = self.below(2) as usize;
            let mut message = Message::new(TOPICS[topic], value).with_tag(id + 1);
            match self.below(4) {
                0 => {}
                1 => message = message.with_partition(self.below(self.partitions as u64) as i32),
                _ => message = message.with_key(vec![self.below(4) as u8]),
            }
            let lookout = (self.below(3) == 0).then(|| self.side.lookout());
            let eyes = match &lookout {
                Some(_) => Eyes::Handle,
                None if self.callbacks => Eyes::Callback,
                None => Eyes::None,
            };
            let keyless = message.key().is_none();
            self.ledger.sent.push(Sent { caller, eyes, keyless, second: topic == 1, ..Sent::default() });
            let message = Box::new(message);
            if let Some((message, lookout)) = self.offer(id, message, lookout) {
                if self.below(2) == 0 {
                    let wait = self.within(Duration::from_secs(10));
                    let until = self.now + wait;
                    self.at(self.elapsed() + wait, Happening::Look);
                    self.callers[caller].blocked = Some(Blocked::Room { message, id, lookout, until });
                }
                break;
            }
        }
    }

    /// Offers a message; gives it back if there is no room.
    fn offer(
        &mut self,
        id: u64,
        message: Box<Message<'static>>,
        lookout: Option<Awaited>,
    ) -> Option<(Box<Message<'static>>, Option<Awaited>)> {
        match self.side.offer(&message, lookout.as_ref().map(Awaited::slot), self.clock()) {
            Ok(ticket) => {
                self.tell(|| format!("{id} is accepted with ticket {ticket}"));
                let sent = &mut self.ledger.sent[id as usize];
                (sent.accepted, sent.ticket) = (true, ticket);
                self.ledger.accepted += 1;
                if let Some(lookout) = lookout {
                    self.ledger.keep_handle(id, lookout);
                }
                self.check_places();
                None
            }
            Err(ProduceErrorKind::BufferOverflow(full)) => {
                self.tell(|| format!("no room for {id}"));
                self.overflows += 1;
                let most = self.queue.max_queue_size;
                let right = match full.limit {
                    BufferLimit::QueueSize(limit) => full.queued == limit,
                    BufferLimit::HalfOfQueueSize(limit) => {
                        full.queued >= limit && limit == (most / 2).max(1) && full.last_error.is_some()
                    }
                    BufferLimit::QueueBytesize(_) | BufferLimit::HalfOfQueueBytesize(_) => true,
                    _ => false,
                };
                if full.queued > most || !right {
                    self.wrong(Anomaly::WrongPlaces, format!("{id} was refused with {full:?}"));
                }
                if id_of(message.value()) != id {
                    self.wrong(Anomaly::NoOutcome, format!("{id} was refused, and another came back"));
                }
                Some((message, lookout))
            }
            Err(ProduceErrorKind::Closed) if self.closed || self.gave_up => None,
            Err(ProduceErrorKind::Fatal(_)) => None,
            Err(error) => {
                self.wrong(Anomaly::WrongCount, format!("{id} was refused: {error}"));
                None
            }
        }
    }

    /// A message keeps its place until a socket took it, or it failed.
    pub fn check_places(&mut self) {
        let counts = self.side.counts();
        // Those that failed without anyone being told yet have perhaps left, too.
        let unseen = (counts.failed + counts.given_up).saturating_sub(self.ledger.told_and_counted);
        let held = self.side.queue(|queue| queue.held());
        let (accepted, left) = (self.ledger.accepted, self.ledger.left + unseen);
        if accepted > left + held as u64 || held > self.queue.max_queue_size {
            self.wrong(Anomaly::WrongPlaces, format!("{accepted} were accepted, {left} left, {held} are held"));
        }
    }

    fn flush(&mut self, caller: usize) {
        let before = self.ledger.accepted;
        let Some(flush) = self.side.begin_flush() else { return };
        let timeout = [0, 100, 5_000, 1 << 40][self.below(4) as usize];
        self.tell(|| format!("{caller} flushes for {timeout} ms"));
        let until = Deadline::after(self.now, Duration::from_millis(timeout));
        if timeout < 1 << 20 {
            self.at(self.elapsed() + Duration::from_millis(timeout), Happening::Look);
        }
        self.callers[caller].blocked = Some(Blocked::Flush { flush, before, until });
    }

    fn wait_for_a_handle(&mut self, caller: usize) {
        if self.ledger.untold.is_empty() {
            return;
        }
        let chosen = self.below(self.ledger.untold.len() as u64) as usize;
        let id = self.ledger.handles[self.ledger.untold[chosen]].0;
        self.tell(|| format!("{caller} waits for {id}"));
        self.side.due(self.ledger.sent[id as usize].ticket);
        self.callers[caller].blocked = Some(Blocked::Handle { id });
    }

    /// A handle that nobody waits for is dropped: its message goes on.
    fn drop_a_handle(&mut self) {
        self.note_fates();
        let Some(at) = self.ledger.untold.pop() else { return };
        let id = self.ledger.handles[at].0;
        let awaited = |caller: &Caller| matches!(caller.blocked, Some(Blocked::Handle { id: it }) if it == id);
        if self.callers.iter().any(awaited) {
            self.ledger.untold.push(at);
            return;
        }
        self.tell(|| format!("the handle of {id} is dropped"));
        self.ledger.handles[at].1 = None;
        self.ledger.sent[id as usize].eyes = Eyes::None;
    }

    /// Looks whether what a caller waits for has come; what it goes on waiting for.
    fn look(&mut self, caller: usize, blocked: Blocked) -> Option<Blocked> {
        match blocked {
            Blocked::Room { message, id, lookout, until } => {
                let (message, lookout) = self.offer(id, message, lookout)?;
                (self.now < until).then_some(Blocked::Room { message, id, lookout, until })
            }
            Blocked::Flush { flush, before, until } => {
                let early = self.bug == Some(Bug::FlushEarly) && !self.side.queue(|queue| queue.has_due());
                let ended = self.side.end_flush(flush, early || until.passed(self.now));
                match ended {
                    None => return Some(Blocked::Flush { flush, before, until }),
                    Some(Ok(counts)) => self.check_flush(caller, before, counts),
                    Some(Err(_)) if early => self.check_flush(caller, before, Totals::default()),
                    Some(Err(_)) => {}
                }
                None
            }
            Blocked::Purge { number } => {
                let Some(purged) = self.side.end_purge(number) else { return Some(Blocked::Purge { number }) };
                self.purged(caller, purged);
                None
            }
            Blocked::Handle { id } => {
                let told = !self.ledger.sent[id as usize].said.is_empty();
                (!told).then_some(Blocked::Handle { id })
            }
            Blocked::End(ending) => self.look_at_end(ending).map(Blocked::End),
        }
    }

    /// Everything accepted before a flush has its fate when it returns.
    fn check_flush(&mut self, caller: usize, before: u64, counts: Totals) {
        self.tell(|| format!("{caller} has flushed: {counts:?}"));
        self.note_fates();
        self.hear_callbacks();
        // What a purge handed back has its fate, also while its caller has not looked.
        for other in 0..self.callers.len() {
            if let Some(Blocked::Purge { number }) = self.callers[other].blocked {
                self.callers[other].blocked = self.look(other, Blocked::Purge { number });
            }
        }
        let unfinished =
            |sent: &Sent| sent.accepted && sent.ticket < before && sent.eyes != Eyes::None && sent.said.is_empty();
        let left = self.ledger.sent.iter().position(unfinished);
        // What was given up is in a report that its caller has perhaps not read.
        if let Some(id) = left.filter(|_| !self.abandoned) {
            self.wrong(Anomaly::NoOutcome, format!("{id} has none, and a flush has returned"));
        }
        let finished = self.side.counts();
        if finished.delivered + finished.failed + finished.given_up < before {
            self.wrong(Anomaly::NoOutcome, format!("{finished:?} of {before}, and a flush has returned"));
        }
    }

    fn purged(&mut self, caller: usize, purged: Vec<FailedMessages>) {
        self.tell(|| format!("{caller} has purged {} messages", purged.iter().map(FailedMessages::len).sum::<usize>()));
        for error in purged.into_iter().flatten() {
            self.say(id_of(error.message().value()), (Said::Failed(error.persistence()), None));
        }
    }

    fn look_at_end(&mut self, mut ending: Ending) -> Option<Ending> {
        let all = ending.abandoned.is_none() || !ending.report;
        let late = |at: Instant| self.now >= at + AFTER_DROP;
        if !self.side.has_ended(all) && (ending.report || !ending.abandoned.is_some_and(late)) {
            if ending.abandoned.is_none() && ending.until.passed(self.now) {
                ending.abandoned = Some(self.now);
                self.abandoned = true;
                self.side.abandon(ending.report);
                self.at(self.elapsed() + AFTER_DROP, Happening::Look);
            }
            return Some(ending);
        }
        let since = self.running_since();
        if ending.until.moment().is_some_and(|until| self.now > until.max(since) + TOO_LATE) {
            self.wrong(Anomaly::NoOutcome, "shutdown came back much too late");
        }
        self.note_fates();
        if ending.first {
            let report = self.side.remains();
            let counts = self.side.counts();
            self.tell(|| format!("shut down: {counts:?}"));
            // Who drops a producer reads no report.
            self.ended.untold = if ending.report { report.failures_dropped } else { u64::MAX };
            if ending.report {
                for error in report.undelivered.into_iter().chain(report.failures).flatten() {
                    let (id, told) = told_of(error);
                    self.say(id, told);
                }
            }
        }
        None
    }
}

/// What dropping a producer waits for the threads after it gave up.
const AFTER_DROP: Duration = Duration::from_millis(250);

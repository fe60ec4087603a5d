//! The way of fates to their receivers: the handles of their messages, the callback, or the messages that `shutdown`
//! and `purge` hand back. Owned by the worker; survives a panic of the engine.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use super::delivery::Item;
use super::state::{Abandon, Called, Remains, WorkerUpdate};
use crate::engine::producer::{Amount, BatchFate, FailedMessages};
use crate::error::DeliveryErrorKind;
use crate::sync::channel::Sender;
use crate::threads::spawn::contain;

pub struct Outlet {
    /// To the delivery thread, if there is a callback.
    callbacks: Option<Sender<Item>>,
    /// For the delivery thread, once the gate has got back the places of these messages: a callback may produce. The
    /// amount of each is held until its callbacks have returned.
    ready: Vec<Item>,
    /// The amount of the messages whose callbacks have not returned.
    held: Amount,
    failures: Failures,
    undelivered: Vec<FailedMessages>,
    log: FailureLog,
    /// The receiver of messages that are given up: the callback where nobody reads the report.
    abandon: Abandon,
}

/// Failures that no handle and no callback took, by batches.
struct Failures {
    kept: VecDeque<FailedMessages>,
    messages: usize,
    bytes: usize,
    dropped: u64,
    max_messages: usize,
    max_bytes: usize,
}

/// One line for many failures.
#[derive(Default)]
struct FailureLog {
    last: Option<Instant>,
    untold: u64,
}

/// The end of a message without a handle.
#[derive(Clone, Copy)]
enum FailureKind {
    Failed,
    Purged,
    GivenUp,
}

impl Outlet {
    pub fn new(callbacks: Option<Sender<Item>>, max_messages: usize, max_bytes: usize) -> Self {
        Self {
            callbacks,
            ready: Vec::new(),
            held: Amount::default(),
            failures: Failures { kept: VecDeque::new(), messages: 0, bytes: 0, dropped: 0, max_messages, max_bytes },
            undelivered: Vec::new(),
            log: FailureLog::default(),
            abandon: Abandon::ToReport,
        }
    }

    pub fn has_callbacks(&self) -> bool {
        self.callbacks.is_some()
    }

    pub fn abandon_to(&mut self, abandon: Abandon) {
        self.abandon = abandon;
    }

    /// Sends the fates of a batch where they belong. Returns what no callback holds.
    pub fn dispatch(&mut self, mut fate: BatchFate, report: &mut WorkerUpdate, now: Instant) -> Called {
        let (messages, held) = (fate.count(), fate.held());
        // Failures whose handle was dropped go on as if they had none, because nobody would see them in the handle.
        if fate.has_slots() {
            // After a fault the fate still goes where it belongs.
            let _ = contain(|| fate.tell_handles());
        }
        let Some((kind, _)) = fate.error() else {
            report.totals.delivered += messages as u64;
            return self.delivered(fate, held);
        };
        let failure = match **kind {
            DeliveryErrorKind::Purged => FailureKind::Purged,
            DeliveryErrorKind::ShutDown { .. } => FailureKind::GivenUp,
            _ => FailureKind::Failed,
        };
        match failure {
            FailureKind::Failed => {
                let _ = contain(|| self.log.failed(&fate, kind, now));
                report.totals.failed += messages as u64;
            }
            FailureKind::Purged => report.totals.failed += messages as u64,
            FailureKind::GivenUp => report.totals.given_up += messages as u64,
        }
        let called =
            matches!((failure, self.abandon), (FailureKind::Failed, _) | (FailureKind::GivenUp, Abandon::ToCallback));
        if called && self.callbacks.is_some() {
            self.call(Item::Failed(fate));
            return Called::default();
        }
        let rest = fate.into_errors();
        match failure {
            _ if rest.len() == 0 => {}
            FailureKind::Failed => self.failures.keep(rest),
            FailureKind::Purged => report.purged.push(rest),
            FailureKind::GivenUp => self.undelivered.push(rest),
        }
        Called { held, buffers: Vec::new() }
    }

    /// Tells the delivery thread that the fates of all messages with tickets below `upto` are on their way to it.
    /// Returns `true` if there is such a thread.
    pub fn mark_finished(&self, upto: u64) -> bool {
        self.callbacks.as_ref().is_some_and(|callbacks| callbacks.send(Item::Finished(upto)).is_ok())
    }

    /// Ends the delivery thread after the callbacks that are on their way, and hands out the messages that nobody took.
    pub fn close(&mut self, now: Instant) -> Remains {
        self.callbacks = None;
        // A logger that panics must not take the rest from its receiver.
        let _ = contain(|| self.log.tell(now));
        Remains {
            undelivered: mem::take(&mut self.undelivered),
            failures: mem::take(&mut self.failures.kept).into(),
            failures_dropped: self.failures.dropped,
        }
    }

    fn delivered(&mut self, fate: BatchFate, held: Amount) -> Called {
        if self.callbacks.is_none() {
            return Called { held, buffers: fate.into_buffer().into_iter().collect() };
        }
        match fate.into_delivered() {
            Ok((batch, buffer)) => {
                // The memory that goes on is held no more.
                let held = Amount { messages: 0, bytes: held.bytes - batch.held().bytes };
                self.call(Item::Delivered(batch));
                Called { held, buffers: buffer.into_iter().collect() }
            }
            Err(fate) => {
                self.call(Item::Failed(fate));
                Called::default()
            }
        }
    }

    fn call(&mut self, item: Item) {
        self.held.add(item.held());
        self.ready.push(item);
    }

    /// The amount of the messages whose callbacks have not returned.
    pub fn held(&self) -> Amount {
        self.held
    }

    /// The callbacks of messages that held this have returned.
    pub fn callbacks_returned(&mut self, held: Amount) {
        self.held.subtract(held);
    }

    /// Sends the delivery thread all fates that it is to tell. Returns what no callback holds.
    pub fn hand_on(&mut self) -> Called {
        let mut called = Called::default();
        for item in self.ready.drain(..) {
            let held = item.held();
            if self.callbacks.as_ref().is_none_or(|callbacks| callbacks.send(item).is_err()) {
                // The delivery thread has ended before its time, which only a fault inside ottla can cause.
                self.callbacks = None;
                self.held.subtract(held);
                called.held.add(held);
            }
        }
        called
    }
}

impl Failures {
    fn keep(&mut self, errors: FailedMessages) {
        self.messages += errors.len();
        self.bytes += errors.bytes();
        self.kept.push_back(errors);
        // The last batch stays: it had room in the queue, too.
        while self.bytes > self.max_bytes && self.kept.len() > 1 {
            let dropped = self.kept.front().map_or(0, FailedMessages::len);
            self.drop_first(dropped);
        }
        while self.messages > self.max_messages {
            self.drop_first(1);
        }
    }

    /// Drops this number of messages of the oldest batch, which holds its memory until the last of them has gone.
    fn drop_first(&mut self, messages: usize) {
        let Some(oldest) = self.kept.front_mut() else { return };
        self.messages -= oldest.drop_first(messages);
        self.dropped += messages as u64;
        if oldest.len() == 0 {
            self.bytes -= oldest.bytes();
            self.kept.pop_front();
        }
    }
}

impl FailureLog {
    fn failed(&mut self, fate: &BatchFate, kind: &DeliveryErrorKind, now: Instant) {
        self.untold += fate.count() as u64;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            return;
        }
        log::warn!("{} messages were not delivered, the last ones to {}: {kind}", self.untold, fate.topic());
        self.untold = 0;
        self.last = Some(now);
    }

    fn tell(&mut self, now: Instant) {
        if self.untold > 0 {
            log::warn!("{} more messages were not delivered", self.untold);
            self.untold = 0;
            self.last = Some(now);
        }
    }
}

const BETWEEN_LINES: Duration = Duration::from_secs(1);

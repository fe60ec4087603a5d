//! Where fates go: into the handles of their messages, to the callback, or into what `shutdown` and `purge` hand back.
//! Owned by the worker; survives a panic of the engine.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use super::delivery::Item;
use super::state::{Abandon, Called, Remains, Report};
use crate::engine::producer::BatchFate;
use crate::error::{DeliveryError, DeliveryErrorKind};
use crate::message::Message;
use crate::sync::channel::Sender;

pub(super) struct Outlet {
    /// To the delivery thread, if there is a callback.
    callbacks: Option<Sender<Item>>,
    failures: Failures,
    undelivered: Vec<DeliveryError>,
    log: FailureLog,
    /// Whether what is given up goes to the callback, because nobody reads the report.
    abandon: Abandon,
}

/// Failures that no handle and no callback took.
struct Failures {
    kept: VecDeque<DeliveryError>,
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

/// What is to become of a message without a handle.
#[derive(Clone, Copy)]
enum Way {
    Failed,
    Purged,
    GivenUp,
}

impl Outlet {
    pub fn new(callbacks: Option<Sender<Item>>, max_messages: usize, max_bytes: usize) -> Self {
        Self {
            callbacks,
            failures: Failures { kept: VecDeque::new(), bytes: 0, dropped: 0, max_messages, max_bytes },
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

    /// Sends the fates of a batch where they belong. Returns what no callback holds any more.
    pub fn dispatch(&mut self, mut fate: BatchFate, report: &mut Report, now: Instant) -> Called {
        let (messages, bytes) = (fate.count(), fate.buffer_bytes());
        // Failures whose handle was dropped go on, because nobody would ever see them there.
        if fate.has_slots() {
            fate.tell_handles();
        }
        let Some((kind, _)) = fate.error() else {
            report.totals.delivered += messages as u64;
            return self.delivered(fate);
        };
        let way = match **kind {
            DeliveryErrorKind::Purged => Way::Purged,
            DeliveryErrorKind::ShutDown { .. } => Way::GivenUp,
            _ => Way::Failed,
        };
        match way {
            Way::Failed => {
                self.log.failed(&fate, kind, now);
                report.totals.failed += messages as u64;
            }
            Way::Purged => report.totals.failed += messages as u64,
            Way::GivenUp => report.totals.given_up += messages as u64,
        }
        let called = matches!((way, self.abandon), (Way::Failed, _) | (Way::GivenUp, Abandon::ToCallback));
        if called && self.callbacks.is_some() {
            return self.call(Item::Fate(fate));
        }
        let rest = fate.into_errors();
        match way {
            Way::Failed => rest.into_iter().for_each(|error| self.failures.keep(error)),
            Way::Purged => report.purged.extend(rest.into_iter().map(DeliveryError::into_message)),
            Way::GivenUp => self.undelivered.extend(rest),
        }
        Called { messages, bytes, fates: Vec::new() }
    }

    /// Tells the delivery thread that the fates of all messages with tickets below `upto` are on their way to it.
    /// Returns whether there is one.
    pub fn mark_finished(&self, upto: u64) -> bool {
        self.callbacks.as_ref().is_some_and(|callbacks| callbacks.send(Item::Finished(upto)).is_ok())
    }

    /// Ends the delivery thread after the callbacks that are on their way, and hands out what nobody took.
    pub fn close(&mut self, now: Instant) -> Remains {
        self.callbacks = None;
        self.log.tell(now);
        Remains {
            undelivered: mem::take(&mut self.undelivered),
            failures: mem::take(&mut self.failures.kept).into(),
            failures_dropped: self.failures.dropped,
        }
    }

    fn delivered(&mut self, fate: BatchFate) -> Called {
        if self.callbacks.is_some() {
            return self.call(Item::Fate(fate));
        }
        Called { messages: fate.count(), bytes: fate.buffer_bytes(), fates: vec![fate] }
    }

    fn call(&mut self, item: Item) -> Called {
        let (messages, bytes) = item.places();
        if self.callbacks.as_ref().is_some_and(|callbacks| callbacks.send(item).is_ok()) {
            return Called::default();
        }
        // The delivery thread has ended before its time, which only a fault inside ottla can cause.
        self.callbacks = None;
        Called { messages, bytes, fates: Vec::new() }
    }
}

impl Failures {
    fn keep(&mut self, error: DeliveryError) {
        self.bytes += footprint(error.message());
        self.kept.push_back(error);
        while self.kept.len() > self.max_messages || self.bytes > self.max_bytes {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= footprint(oldest.message());
            self.dropped += 1;
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

/// Bytes that a kept message takes, about.
fn footprint(message: &Message<'_>) -> usize {
    let headers: usize = message.headers().map(|(name, value)| 96 + name.len() + value.map_or(0, <[u8]>::len)).sum();
    // A message and each of its parts is an allocation of its own, of at least 32 bytes as a rule.
    size_of::<DeliveryError>()
        + size_of::<Message<'_>>()
        + 64
        + headers
        + message.key().map_or(0, <[u8]>::len)
        + message.value().map_or(0, <[u8]>::len)
        + message.partition_key().map_or(0, <[u8]>::len)
}

const BETWEEN_LINES: Duration = Duration::from_secs(1);

//! The ends of messages of a partition without an answer: they are too old, purged or given up, or their topic is gone.

use std::sync::Arc;
use std::time::Instant;

use super::{Batch, BatchState, Departures, Doubt, Gap, Leadership, Partition, freed, settled};
use crate::deadline::Deadline;
use crate::error::{DeliveryErrorKind, Persistence};

impl Partition {
    /// The topic was made anew (KIP-516). The batches that were sent to the old one are waited for; then all messages
    /// that are not in its log go to the new one, in order and under another epoch, and those that may be in it fail
    /// with `why`.
    ///
    /// Without sequences nothing tells which messages are in a log, and all that are not acknowledged go again.
    pub fn recreated(&mut self, why: &Arc<DeliveryErrorKind>) {
        let clean = self.gap == Gap::Clean;
        for batch in &mut self.flight {
            // Nobody leads the new one as yet, so every answer of the old leader is late.
            batch.sent_to = Leadership::default();
            if self.rules.idempotent {
                if clean && batch.restamp {
                    batch.doubt = Doubt::None;
                }
                batch.restamp = true;
            }
        }
        if self.rules.idempotent {
            (self.gap, self.anew) = (Gap::Unknown, Some(Arc::clone(why)));
        }
        (self.proven, self.failures, self.retry_at) = (false, 0, Deadline::NEVER);
    }

    /// `true` if answers that come are about a topic that is gone.
    #[must_use]
    pub fn is_anew(&self) -> bool {
        self.anew.is_some()
    }

    /// Fails the messages that are too old. `why` makes the error from the last one of the batch.
    pub fn expire(
        &mut self,
        now: Instant,
        why: impl Fn(Option<&Arc<DeliveryErrorKind>>) -> Arc<DeliveryErrorKind>,
        out: &mut Departures,
    ) {
        let mut index = 0;
        while index < self.flight.len() {
            let batch = &self.flight[index];
            let before = self.flight.len();
            if !batch.ghost && batch.deadline.passed(now) {
                let why = why(batch.last_error.as_ref());
                self.give_up(index, &why, out);
            }
            if self.flight.len() == before {
                index += 1;
            }
        }
        while self.unsent.front().is_some_and(|batch| batch.deadline.passed(now)) {
            if let Some(batch) = self.unsent.pop_front() {
                let why = why(batch.last_error.as_ref());
                let persistence = batch.persistence(false);
                out.settled.push_back(settled(self.id, *batch, Err((why, persistence))));
            }
        }
    }

    /// A batch in the hands of a connection does not become too old before `until`, if it was not put off before: only
    /// once, so that it ends however late everything is.
    pub fn extend_timeouts(&mut self, until: Instant) {
        for batch in self.flight.iter_mut().filter(|batch| batch.is_in_flight() && !batch.was_extended) {
            if batch.deadline.passed(until) {
                (batch.deadline, batch.was_extended) = (Deadline::at(until), true);
            }
        }
    }

    /// Fails the messages that were never written to a socket, and are not in the hands of a connection.
    pub fn purge(&mut self, why: &Arc<DeliveryErrorKind>, out: &mut Departures) {
        for index in (0..self.flight.len()).rev() {
            let batch = &self.flight[index];
            if !batch.written && !batch.is_in_flight() && !batch.ghost {
                self.give_up(index, why, out);
            }
        }
        for batch in std::mem::take(&mut self.unsent) {
            // It was written under the epoch before this one: it goes on.
            if batch.written {
                self.unsent.push_back(batch);
            } else {
                out.settled.push_back(settled(self.id, *batch, Err((Arc::clone(why), Persistence::No))));
            }
        }
    }

    /// Fails everything, and forgets the batches in flight.
    pub fn fail_all(&mut self, why: &Arc<DeliveryErrorKind>, out: &mut Departures) {
        let unknown_gap = self.gap == Gap::Unknown;
        for batch in std::mem::take(&mut self.flight) {
            out.freed.add(freed(&batch));
            if batch.ghost {
                continue;
            }
            let unproven = batch.doubt != Doubt::None && (!batch.restamp || unknown_gap);
            // A batch that no socket took yet may still leave.
            let persistence = batch.persistence(unproven || batch.is_in_flight());
            out.settled.push_back(settled(self.id, *batch, Err((Arc::clone(why), persistence))));
        }
        for batch in std::mem::take(&mut self.unsent) {
            let persistence = batch.persistence(false);
            out.settled.push_back(settled(self.id, *batch, Err((Arc::clone(why), persistence))));
        }
        (self.epoch, self.next_sequence, self.proven, self.gap, self.anew) = (None, 0, false, Gap::None, None);
    }

    /// The connections are closed: a batch that waits for an answer, and of which no socket took a byte, never leaves.
    pub fn unsend(&mut self) {
        for batch in self.flight.iter_mut().filter(|batch| !batch.written) {
            batch.state = BatchState::Waiting;
        }
    }

    /// Sets every deadline anew, counted from `now`: the messages stay, for another try.
    pub fn extend(&mut self, now: Instant) {
        for batch in self.flight.iter_mut().chain(&mut self.unsent) {
            batch.deadline = Deadline::after(now, self.rules.delivery_timeout);
            batch.attempts = 0;
        }
    }

    /// `true` if a batch waits that was attempted more than `retries` times after the first.
    pub fn is_exhausted(&self, retries: u32) -> bool {
        self.flight.iter().any(|batch| !batch.ghost && !batch.is_in_flight() && batch.attempts > retries)
    }

    /// `true` if an answer is awaited.
    pub fn is_in_flight(&self) -> bool {
        self.flight.iter().any(|batch| batch.is_in_flight())
    }

    /// Takes out the next batch whose messages have no fate, after a panic.
    pub fn take_batch(&mut self) -> Option<Batch> {
        loop {
            let batch = self.flight.pop_front().or_else(|| self.unsent.pop_front())?;
            if !batch.ghost && !batch.is_empty() {
                return Some(*batch);
            }
        }
    }
}

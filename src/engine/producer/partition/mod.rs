//! One partition: its open and unsent batches, the ones in flight, and the sequence that keeps them in order.
//!
//! Batches wait in `unsent` until their first send, which gives them a sequence; from then on they are in `flight`, in
//! the order of their sequences, until their fate is settled. KIP-98: a broker appends a batch only if its sequence
//! follows the last one it has, so a batch that leaves `flight` without having been appended leaves a gap: the batches
//! behind it wait until nothing is in flight and then go out again under the next epoch (KIP-360).
//!
//! A batch whose fate nobody knows is never sent under another sequence. When its time is up its messages are
//! reported as possibly written, and it stays as a *ghost*: sent again under its old sequence while later batches
//! need that, and dropped, with a new epoch, once none does.
//!
//! A topic that is made anew (KIP-516) has another log. Once all batches in flight are answered, the messages that the
//! old log did not get go to the new one, in order and under the next epoch; those that it may have got are reported as
//! possibly written.

mod beginnings;
mod endings;
mod sizes;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

pub use self::beginnings::NewMessage;

use super::batch::{Batch, BatchState, Queued};
use super::delivered::Ack;
use super::fate::Outcome;
use super::leadership::Leadership;
use super::send_queue::{Amount, SendPosition};
use super::verdict::Doubt;
use crate::deadline::Deadline;
use crate::error::{DeliveryErrorKind, Persistence};
use crate::ids::{Destination, TopicPartition};
use crate::queue::extras::Extras;
use crate::record::batch::{Records, Stamp};
use crate::wire::frame::RequestId;

/// The state of one partition.
#[derive(Debug)]
pub struct Partition {
    /// Its leader.
    pub leader: Leadership,
    /// Its position among the partitions that have something to send, if it has one.
    pub place: Option<SendPosition>,
    /// Its topic, and its number.
    pub id: TopicPartition,
    /// The earliest moment for which an alarm is set.
    pub alarm: Option<Instant>,
    /// The reason that brokers give why it has no leader, while messages wait for one.
    pub no_leader: Option<Arc<DeliveryErrorKind>>,
    rules: PartitionRules,
    // In boxes, so that a partition that is idle keeps room for some pointers, and not for some batches.
    unsent: VecDeque<Box<Batch>>,
    flight: VecDeque<Box<Batch>>,
    epoch: Option<Epoch>,
    next_sequence: i32,
    /// `true` if a batch succeeded under this producer id, leader and topic id. Until then one batch is sent at a time:
    /// a broker without state accepts any first sequence, so a second batch could overtake a refused first.
    proven: bool,
    gap: Gap,
    /// Set from the moment when its topic is known to have been made anew until the batches that were sent to the old
    /// one are answered.
    anew: Option<Arc<DeliveryErrorKind>>,
    failures: u32,
    retry_at: Deadline,
}

/// The options that hold for every partition of a producer.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRules {
    /// `true` if batches carry sequences.
    pub idempotent: bool,
    /// Batches in flight once the order is proven.
    pub max_in_flight: usize,
    /// Bytes of a batch.
    pub max_batch_bytes: usize,
    /// From due to failed.
    pub delivery_timeout: std::time::Duration,
    /// Attempts after the first.
    pub max_retries: Option<u32>,
}

/// A producer id and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The producer id.
    pub producer_id: i64,
    /// The epoch.
    pub epoch: i16,
}

/// Messages whose fate is settled.
#[derive(Debug)]
pub struct Settled {
    /// Their partition, or their topic if they have no partition.
    pub to: Destination,
    /// The messages.
    pub records: Records,
    /// What some of them have beside their records.
    pub extras: Extras,
    /// Their end.
    pub outcome: Outcome,
    /// Queue places that they still held.
    pub queued: Queued,
}

/// What has left a partition: messages with their ends, and the amount that batches held in the buffer. The methods of
/// a partition note it here, and `ProducerEngine::with_partition` does what follows.
#[derive(Debug, Default)]
pub struct Departures {
    /// The messages whose fate is settled.
    pub settled: VecDeque<Settled>,
    /// The amount that no batch holds any more.
    pub freed: Amount,
}

impl Departures {
    /// `true` if nothing has left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.freed == Amount::default()
    }
}

/// The batch that goes out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one in flight, again.
    Again(usize),
    /// The first unsent.
    Unsent,
}

/// The kind of gap in the sequence at the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    None,
    /// Nothing behind the gap can have been appended, because the batch that left it was not.
    Clean,
    /// The batch that left the gap may have been appended, and so may those behind it.
    Unknown,
}

impl Partition {
    /// A partition without a leader and without messages.
    #[must_use]
    pub fn new(rules: PartitionRules, id: TopicPartition) -> Self {
        Self {
            leader: Leadership::default(),
            place: None,
            id,
            alarm: None,
            no_leader: None,
            rules,
            unsent: VecDeque::new(),
            flight: VecDeque::new(),
            epoch: None,
            next_sequence: 0,
            proven: false,
            gap: Gap::None,
            anew: None,
            failures: 0,
            retry_at: Deadline::NEVER,
        }
    }

    /// The batch that may be sent now, if any.
    #[must_use]
    pub fn pick(&self, now: Instant) -> Option<Pick> {
        if self.retry_at != Deadline::NEVER && !self.retry_at.passed(now) {
            return None;
        }
        let mut in_flight = 0;
        let mut waiting = None;
        for (index, batch) in self.flight.iter().enumerate() {
            if batch.is_in_flight() {
                // Something before it has to go again: wait until all behind it is answered.
                if waiting.is_some() {
                    return None;
                }
                in_flight += 1;
            } else if waiting.is_none() && !batch.restamp {
                waiting = Some(index);
            }
        }
        if in_flight >= if self.proven { self.rules.max_in_flight } else { 1 } {
            return None;
        }
        match waiting {
            Some(index) => {
                let needed = self.flight.iter().skip(index).any(|batch| !batch.ghost && !batch.restamp);
                needed.then_some(Pick::Again(index))
            }
            None if self.gap != Gap::None || self.flight.iter().any(|batch| batch.restamp || batch.ghost) => None,
            None => (!self.unsent.is_empty()).then_some(Pick::Unsent),
        }
    }

    /// Bytes on the wire of the batch that `pick` chose, and the amount that it holds in the buffer.
    #[must_use]
    pub fn picked(&self, pick: Pick) -> (usize, Amount) {
        let batch = match pick {
            Pick::Again(index) => self.flight.get(index),
            Pick::Unsent => self.unsent.front(),
        };
        batch.map_or((0, Amount::default()), |batch| (batch.len(), holds(batch)))
    }

    /// Marks the picked batch as handed to a connection, and gives its header and records.
    ///
    /// `current` is the producer's id and epoch; the partition adopts it with the first batch it sends.
    pub fn send(&mut self, pick: Pick, current: Option<Epoch>, request: RequestId) -> Option<([u8; 61], Arc<Vec<u8>>)> {
        let index = match pick {
            Pick::Again(index) => index,
            Pick::Unsent => {
                let batch = self.unsent.pop_front()?;
                self.flight.push_back(batch);
                self.flight.len() - 1
            }
        };
        if self.epoch.is_none() {
            (self.epoch, self.next_sequence) = (current, 0);
        }
        let (epoch, next_sequence) = (self.epoch, self.next_sequence);
        let batch = self.flight.get_mut(index)?;
        let stamp = match (batch.stamp, epoch) {
            (Some(stamp), _) => stamp,
            (None, Some(epoch)) if self.rules.idempotent => {
                self.next_sequence = next_sequence.wrapping_add(batch.count() as i32) & i32::MAX;
                Stamp { producer_id: epoch.producer_id, epoch: epoch.epoch, base_sequence: next_sequence }
            }
            _ => Stamp::NONE,
        };
        batch.state = BatchState::InFlight(request);
        batch.sent_to = self.leader;
        batch.attempts += 1;
        let header = batch.header(stamp);
        Some((header, batch.seal().shared()))
    }

    /// Notes that the first byte of this request was accepted by the socket; returns the queue places it let go.
    pub fn started(&mut self, request: RequestId) -> Queued {
        match self.find(request).and_then(|index| self.flight.get_mut(index)) {
            Some(batch) => {
                batch.written = true;
                std::mem::take(&mut batch.queued)
            }
            None => Queued::default(),
        }
    }

    /// The index of the batch in flight that waits for the answer to this request.
    #[must_use]
    pub fn find(&self, request: RequestId) -> Option<usize> {
        self.flight.iter().position(|batch| batch.state == BatchState::InFlight(request))
    }

    /// The batch at this place in flight.
    #[must_use]
    pub fn batch(&self, index: usize) -> Option<&Batch> {
        self.flight.get(index).map(|batch| &**batch)
    }

    /// The batch in flight at `index` was appended.
    pub fn delivered(&mut self, index: usize, ack: Ack, out: &mut Departures) {
        let Some(batch) = self.flight.remove(index) else { return };
        // A topic that is made anew and is called by its name takes any first sequence: the batches that were let past
        // cannot follow.
        for past in self.flight.iter_mut().take(index).filter(|past| past.doubt == Doubt::Deleted) {
            past.doubt = Doubt::Any;
        }
        self.proven = true;
        self.failures = 0;
        self.retry_at = Deadline::NEVER;
        out.freed.add(freed(&batch));
        if !batch.ghost {
            out.settled.push_back(settled(self.id, *batch, Ok(ack)));
        }
    }

    /// The attempt of the batch at `index` failed, and it may be sent again, not before `retry_at`.
    pub fn retry(
        &mut self,
        index: usize,
        doubt: Doubt,
        why: Arc<DeliveryErrorKind>,
        retry_at: Deadline,
        out: &mut Departures,
    ) {
        let Some(batch) = self.flight.get_mut(index) else { return };
        batch.state = BatchState::Waiting;
        batch.doubt = batch.doubt.max(doubt);
        batch.last_error = Some(Arc::clone(&why));
        let attempts = batch.attempts;
        let exhausted = self.rules.max_retries.is_some_and(|max| attempts > max) && !batch.ghost;
        self.proven = false;
        self.retry_at = retry_at;
        if exhausted {
            self.give_up(index, &Arc::new(DeliveryErrorKind::RetriesExhausted { attempts, last: why }), out);
        }
    }

    /// A broker answered the batch at `index` with a code that nobody knows: as [`retry`](Self::retry) the first
    /// time, then the batch fails.
    pub fn unknown_code(
        &mut self,
        index: usize,
        why: Arc<DeliveryErrorKind>,
        retry_at: Deadline,
        out: &mut Departures,
    ) {
        let Some(batch) = self.flight.get_mut(index) else { return };
        if !std::mem::replace(&mut batch.had_unknown_code, true) {
            return self.retry(index, Doubt::Any, why, retry_at, out);
        }
        batch.state = BatchState::Waiting;
        batch.doubt = Doubt::Any;
        self.proven = false;
        self.retry_at = retry_at;
        self.give_up(index, &why, out);
    }

    /// The moment at which the batch at `index`, whose attempt has just failed, may go again: after the `pause` of the
    /// n-th failure in a row.
    ///
    /// Batches that were in flight together fail together, and that is one failure. A leader that no longer leads costs
    /// no pause: another one is there to be asked.
    pub fn pause_after(&mut self, index: usize, pause: impl FnOnce(u32) -> Deadline) -> Deadline {
        let Some(batch) = self.flight.get(index) else { return Deadline::NEVER };
        if batch.restamp || self.flight.iter().take(index).any(|batch| !batch.is_in_flight()) {
            return self.retry_at;
        }
        if self.has_moved_since(index) {
            return Deadline::NEVER;
        }
        self.failures = self.failures.saturating_add(1);
        pause(self.failures)
    }

    /// `true` if there is another leader, or the same one anew, since the batch at `index` was sent.
    #[must_use]
    pub fn has_moved_since(&self, index: usize) -> bool {
        self.flight.get(index).is_some_and(|batch| batch.sent_to != self.leader)
    }

    /// This request has no answer, and none will come; `started` if the socket had taken its first byte. It may go
    /// again, not before `retry_at`.
    pub fn lost(
        &mut self,
        request: RequestId,
        started: bool,
        why: &Arc<DeliveryErrorKind>,
        retry_at: Deadline,
        out: &mut Departures,
    ) {
        if let Some(index) = self.find(request) {
            let doubt = if started { Doubt::Any } else { Doubt::None };
            self.retry(index, doubt, Arc::clone(why), retry_at, out);
        }
    }

    /// Fails the batch at `index`; if it is unknown whether it was appended, it stays as a ghost.
    pub fn give_up(&mut self, index: usize, why: &Arc<DeliveryErrorKind>, out: &mut Departures) {
        let unknown_gap = self.gap == Gap::Unknown;
        let Some(batch) = self.flight.get_mut(index) else { return };
        let in_flight = batch.is_in_flight();
        let unknown = in_flight || (batch.doubt != Doubt::None && (!batch.restamp || unknown_gap));
        let persistence = batch.persistence(unknown);
        if !batch.ghost {
            let (records, extras) = batch.report();
            let queued = std::mem::take(&mut batch.queued);
            let outcome = Err((Arc::clone(why), persistence));
            out.settled.push_back(Settled { to: Destination::Partition(self.id), records, extras, outcome, queued });
            batch.ghost = true;
        }
        if in_flight || (unknown && self.rules.idempotent && !batch.restamp) {
            return;
        }
        let gap = if unknown { Gap::Unknown } else { Gap::Clean };
        self.leave(index, gap, out);
    }

    /// The broker refused the batch at `index` for good. `doubt` speaks of this attempt.
    pub fn refuse(&mut self, index: usize, doubt: Doubt, why: &Arc<DeliveryErrorKind>, out: &mut Departures) {
        let Some(batch) = self.flight.get_mut(index) else { return };
        batch.state = BatchState::Waiting;
        batch.doubt = batch.doubt.max(doubt);
        let unproven = batch.doubt != Doubt::None;
        if !batch.ghost {
            let (records, extras) = batch.report();
            let persistence = batch.persistence(unproven);
            let queued = std::mem::take(&mut batch.queued);
            let outcome = Err((Arc::clone(why), persistence));
            out.settled.push_back(Settled { to: Destination::Partition(self.id), records, extras, outcome, queued });
        }
        self.leave(index, if unproven { Gap::Unknown } else { Gap::Clean }, out);
    }

    /// The broker did not follow the sequence of the batch at `index`.
    ///
    /// Behind a batch that has to go again this is expected. Otherwise the state of the broker and ours have parted:
    /// batches that were not appended go on under the next epoch, not before `retry_at`, and those that may have been
    /// are given up. The next epoch of the same producer id and not a new id, because the broker then refuses copies of
    /// the old one that come late (KIP-360).
    pub fn out_of_order(
        &mut self,
        index: usize,
        doubt: Doubt,
        why: &Arc<DeliveryErrorKind>,
        retry_at: Deadline,
        out: &mut Departures,
    ) {
        if !self.rules.idempotent {
            // It has no sequence that could be wrong.
            return self.retry(index, doubt, Arc::clone(why), retry_at, out);
        }
        let first = self.flight.iter().take(index).all(|batch| batch.is_in_flight());
        let Some(batch) = self.flight.get_mut(index) else { return };
        batch.state = BatchState::Waiting;
        batch.last_error = Some(Arc::clone(why));
        batch.doubt = batch.doubt.max(doubt);
        let attempts = batch.attempts;
        self.proven = false;
        if batch.restamp || !first {
            return;
        }
        self.retry_at = retry_at;
        if batch.doubt != Doubt::None || batch.ghost {
            return self.refuse(index, doubt, why, out);
        }
        if self.rules.max_retries.is_some_and(|max| attempts > max) {
            let why = Arc::new(DeliveryErrorKind::RetriesExhausted { attempts, last: Arc::clone(why) });
            return self.refuse(index, doubt, &why, out);
        }
        self.open_gap(index, Gap::Clean);
    }

    /// Puts others in the place of the refused batch at `index`; they go out under the next epoch. The refused one
    /// must be proven not to be appended.
    pub fn replace(
        &mut self,
        index: usize,
        out: &mut Departures,
        make: impl FnOnce(Batch, &mut VecDeque<Settled>) -> Vec<Batch>,
    ) {
        let Some(batch) = self.flight.remove(index) else { return };
        out.freed.add(freed(&batch));
        let pieces = make(*batch, &mut out.settled);
        if self.rules.idempotent {
            for (offset, mut piece) in pieces.into_iter().enumerate() {
                piece.restamp = true;
                self.flight.insert(index + offset, Box::new(piece));
            }
            self.open_gap(index, Gap::Clean);
        } else {
            for piece in pieces.into_iter().rev() {
                self.unsent.push_front(Box::new(piece));
            }
        }
    }

    /// The reason why no message can be sent to it: it has no leader, or its batches are refused again and again.
    #[must_use]
    pub fn cause(&self) -> Option<&Arc<DeliveryErrorKind>> {
        self.no_leader.as_ref().or_else(|| self.keeps_failing())
    }

    /// The reason why its batches are refused, if not only once: the messages behind them fill the queue.
    #[must_use]
    pub fn keeps_failing(&self) -> Option<&Arc<DeliveryErrorKind>> {
        if self.failures > 1 { self.last_error() } else { None }
    }

    /// The last error of the oldest batch that has met one.
    #[must_use]
    pub fn last_error(&self) -> Option<&Arc<DeliveryErrorKind>> {
        self.flight.iter().chain(&self.unsent).find_map(|batch| batch.last_error.as_ref())
    }

    /// `true` if nothing stands in the way of the next epoch, which the partition needs.
    ///
    /// Ghosts that nothing later needs are dropped here; so are those of a producer without sequences.
    pub fn needs_epoch(&mut self, out: &mut Departures) -> bool {
        if !self.rules.idempotent {
            self.flight.retain(|batch| {
                let gone = batch.ghost && !batch.is_in_flight();
                if gone {
                    out.freed.add(freed(batch));
                }
                !gone
            });
            self.gap = Gap::None;
            return false;
        }
        if self.flight.iter().any(|batch| batch.is_in_flight()) {
            return false;
        }
        let mut old = self.flight.iter().take_while(|batch| !batch.restamp).count();
        while old > 0 && self.flight[old - 1].ghost {
            old -= 1;
            if let Some(ghost) = self.flight.remove(old) {
                out.freed.add(freed(&ghost));
            }
            if self.gap == Gap::None {
                self.gap = Gap::Unknown;
            }
        }
        old == 0 && self.gap != Gap::None
    }

    /// The epoch that the partition is in.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// Goes on in another epoch (`None`: the one that comes): sequences begin at 0, and the batches that waited for it
    /// are unsent again, in order.
    pub fn adopt(&mut self, epoch: Option<Epoch>, out: &mut Departures) {
        let unknown = self.gap == Gap::Unknown;
        let anew = self.anew.take();
        // A batch that is at most in the log of a topic that is gone goes to the new one.
        let harmless = if anew.is_some() { Doubt::Deleted } else { Doubt::None };
        while let Some(mut batch) = self.flight.pop_back() {
            out.freed.add(freed(&batch));
            if batch.ghost {
                continue;
            }
            if unknown && batch.doubt > harmless {
                let why = anew.clone().or_else(|| batch.last_error.clone()).unwrap_or_else(|| {
                    Arc::new(DeliveryErrorKind::Internal("a batch of unknown fate has no error".to_owned()))
                });
                out.settled.push_back(settled(self.id, *batch, Err((why, Persistence::Possibly))));
                continue;
            }
            batch.in_deleted |= unknown && batch.doubt == Doubt::Deleted;
            batch.forget_stamp();
            self.unsent.push_front(batch);
        }
        self.epoch = epoch;
        self.next_sequence = 0;
        self.proven = false;
        self.gap = Gap::None;
    }

    /// Another broker leads, or the same one anew: the order has to be proven again, and nothing waits for a pause.
    pub fn lead_by(&mut self, leader: Leadership) {
        if self.leader != leader {
            self.proven = false;
            self.retry_at = Deadline::NEVER;
            self.failures = 0;
        }
        if leader.node.is_some() {
            self.no_leader = None;
        }
        self.leader = leader;
    }

    /// `true` if a message waits for its first send.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// `true` if it has no message without a fate and nothing to settle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unsent.is_empty() && self.flight.is_empty()
    }

    /// The next moment at which something changes by itself: a batch is too old, or a pause is over.
    #[must_use]
    pub fn next_alarm(&self) -> Deadline {
        let batches = self.flight.iter().filter(|batch| !batch.ghost).chain(self.unsent.front());
        let deadline = batches.fold(Deadline::NEVER, |earliest, batch| earliest.min(batch.deadline));
        if self.is_idle() { deadline } else { deadline.min(self.retry_at) }
    }

    /// Ends a pause that is over.
    pub fn end_pause(&mut self, now: Instant) {
        if self.retry_at.passed(now) {
            self.retry_at = Deadline::NEVER;
        }
    }

    /// Ticket of the oldest message without a fate.
    #[must_use]
    pub fn oldest_ticket(&self) -> Option<u64> {
        let mut batches = self.flight.iter().filter(|batch| !batch.ghost).chain(self.unsent.front());
        batches.next().map(|batch| batch.first_ticket)
    }

    /// Removes the batch at `index`, which nobody needs any more, and minds the gap.
    fn leave(&mut self, index: usize, gap: Gap, out: &mut Departures) {
        let Some(batch) = self.flight.remove(index) else { return };
        out.freed.add(freed(&batch));
        if self.rules.idempotent && !batch.restamp {
            self.open_gap(index, gap);
        }
    }

    /// Everything from `index` on goes out under the next epoch.
    fn open_gap(&mut self, index: usize, gap: Gap) {
        for batch in self.flight.iter_mut().skip(index) {
            batch.restamp = true;
        }
        if self.gap == Gap::None || gap == Gap::Unknown {
            self.gap = gap;
        }
        self.proven = false;
    }
}

fn freed(batch: &Batch) -> Amount {
    // Only a batch that was sent counts; a piece of a split batch was not.
    if batch.stamp.is_some() { holds(batch) } else { Amount::default() }
}

fn holds(batch: &Batch) -> Amount {
    Amount { messages: batch.count() as usize, bytes: batch.buffer_bytes() }
}

/// The end of a batch.
pub(super) fn settled(id: TopicPartition, mut batch: Batch, outcome: Outcome) -> Settled {
    let queued = std::mem::take(&mut batch.queued);
    let (records, extras) = batch.into_parts();
    Settled { to: Destination::Partition(id), records, extras, outcome, queued }
}

#[cfg(test)]
mod tests;

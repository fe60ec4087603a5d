//! The way into a queue: takes a message, or says why not.

use std::time::Instant;

use super::chunk::To;
use super::filling::Incoming;
use super::places::{ChunkTime, LEAST_HEAD, LikeLast, Phase, Queue, Target};
use super::prepared::Prepared;
use crate::error::InvalidTopic;
use crate::fate::slot::Slot;
use crate::ids::TopicIndex;
use crate::message::Topic;
use crate::record::batch::BatchBuilder;

/// A message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its ticket.
    pub ticket: u64,
    /// `true` if the worker must be woken.
    pub wake: bool,
    /// `true` if the timer must be woken.
    pub arm: bool,
}

/// The reason why a message was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// No thread runs yet.
    Idle,
    /// The queue was closed.
    Closed,
    /// No place, or no bytes, are left.
    Full(Full),
    /// The topic's name is not allowed.
    InvalidTopic(InvalidTopic),
    /// The clock says that this process is another one.
    Forked,
    /// There is room, and the message is large: it is to be offered again with its record.
    Unencoded,
}

/// The state of a full queue.
#[derive(Clone, Copy, Debug)]
pub struct Full {
    /// Messages that hold a place.
    pub queued: usize,
    /// The limit that was reached.
    pub limit: Limit,
    /// The time at which the oldest message came, to the precision of a chunk.
    pub oldest: Option<Instant>,
    /// The topic, if the limit is that of [topics that are held up](Queue::held_up).
    pub held_up: Option<TopicIndex>,
    /// `true` if the worker must be woken.
    pub wake: bool,
}

/// A limit of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// This number of messages.
    Messages(usize),
    /// This number of their bytes.
    Bytes(usize),
}

impl Queue {
    /// **The fast path**, of almost all messages when many come: appends a message that goes where the last one went,
    /// if nothing else is to be done for it, and gives its ticket. It decides nothing: [`offer`](Self::offer) has
    /// counted before how many messages may take it.
    // Always inlined: 351 instructions instead of 437, and 512 instead of 637 with keys.
    #[inline(always)]
    pub fn append_like_last(&mut self, message: &Prepared<'_, '_>, slot: Option<Slot<'_>>) -> Option<u64> {
        let LikeLast { messages, topic, serial, target, chunk_bytes } = self.like_last;
        if messages == 0 || message.topic?.serial() != serial {
            return None;
        }
        let cost = message.cost(slot);
        let bytes = self.bytes + cost;
        let waiting_bytes = self.waiting_bytes + message.record.tail_len + LEAST_HEAD;
        if waiting_bytes >= self.limits.batch_bytes || bytes > self.limits.bytes {
            return None;
        }
        let chunk = match target {
            Target::Run if message.goes_anywhere() => &mut self.filling.open,
            Target::Lanes { partitions } if message.partition.is_none() => {
                let partition = self.filling.place(message.partitioned_by(), partitions)?;
                self.filling.lanes.get_mut(partition)
            }
            Target::Mixed => &mut self.filling.open,
            Target::Run | Target::Lanes { .. } => return None,
        };
        chunk.push_behind(chunk_bytes, message, slot, cost)?;
        if let Target::Mixed = target {
            let to = To { topic, placed: !self.filling.partitioner.is_custom() && message.goes_anywhere() };
            chunk.route(to, message.partition, message.record.create_time, message.record.tail_len);
        }
        let ticket = self.accepted;
        self.accepted += 1;
        self.like_last.messages -= 1;
        (self.bytes, self.waiting_bytes) = (bytes, waiting_bytes);
        Some(ticket)
    }

    /// Takes the message, or says why not. `large` is the record of a [large](Prepared::encode_large) message, once it
    /// was said that it is wanted: a message that is refused is not copied, however often it is offered. `clock` is
    /// asked for the first message of a chunk and for every 1,024th behind it; it gives none in a process that is
    /// another one.
    ///
    /// # Errors
    /// All of [`Refused`]; the message can be offered again.
    pub fn offer(
        &mut self,
        message: &Prepared<'_, '_>,
        large: &mut Option<BatchBuilder>,
        slot: Option<Slot<'_>>,
        clock: impl FnOnce() -> Option<Instant>,
    ) -> Result<Accepted, Refused> {
        let cost = message.cost(slot);
        let topic = self.admit(message, cost)?;
        if message.is_large() && large.is_none() {
            return Err(Refused::Unencoded);
        }
        let anywhere = !self.filling.partitioner.is_custom() && message.goes_anywhere();
        let partitions = self.topics.partitions(topic);
        let incoming = Incoming { message, slot, topic, cost, large: large.take() };
        let mut way = self.filling.way(&incoming, partitions, anywhere);
        if let Some(why) = self.filling.is_full_for(&incoming, way) {
            if why.is_batch {
                self.all_due();
            }
            if why.cannot_wait || self.filling.has_capacity() {
                self.seal();
            }
            way = self.filling.way(&incoming, partitions, anywhere);
        }
        let begins = self.filling.first().is_none();
        if begins || self.open_len() % LOOKS_AT_CLOCK == 0 {
            let at = clock().ok_or(Refused::Forked)?;
            if begins && self.arrivals.back().is_none_or(|last| at >= last.at + self.precision()) {
                self.arrivals.push_back(ChunkTime { first: self.accepted, at });
            }
        }
        self.topics.note_accepted(topic);
        self.filling.put(incoming, way, self.accepted);
        let ticket = self.accepted;
        self.accepted += 1;
        self.bytes += cost;
        self.waiting_bytes += message.record.tail_len + LEAST_HEAD;
        if self.open_len() >= self.chunk_messages() && self.filling.has_capacity() {
            self.seal();
        }
        if self.has_enough() {
            self.all_due();
        }
        let accepted = Accepted { ticket, wake: self.wake(), arm: self.arm() };
        self.filling.sum_up(self.bytes);
        self.count_like_last(topic, message.topic);
        Ok(accepted)
    }

    /// The index of the topic, if there is a place for a message of this cost to it.
    fn admit(&mut self, message: &Prepared<'_, '_>, cost: usize) -> Result<TopicIndex, Refused> {
        match self.phase {
            Phase::Idle => return Err(Refused::Idle),
            Phase::Running => {}
            Phase::Closed => return Err(Refused::Closed),
        }
        if let Some(limit) = self.limit_reached(self.limits.messages, self.limits.bytes, cost) {
            return Err(self.refuse(limit, None));
        }
        let topic = self.topics.seat(message.topic_name, message.topic).map_err(Refused::InvalidTopic)?;
        if self.held_up(topic).is_some() && !self.topics.lets_pass(topic) {
            if let Some(limit) = self.limit_reached((self.limits.messages / 2).max(1), self.limits.bytes / 2, cost) {
                return Err(self.refuse(limit, Some(topic)));
            }
        }
        Ok(topic)
    }

    /// Counts the messages like the last one that can follow with nothing else to do for them.
    fn count_like_last(&mut self, topic: TopicIndex, checked: Option<&Topic>) {
        self.like_last = LikeLast::default();
        let armed = self.is_armed() || self.limits.interval.is_zero();
        let Some(serial) = checked.map(Topic::serial) else { return };
        if !armed || self.filling.first().is_none() || self.topics.held_up(topic).is_some() {
            return;
        }
        let places = self.limits.messages - self.held();
        let below_threshold = match self.limits.threshold {
            0 => usize::MAX,
            threshold => threshold - (self.accepted - self.due_upto) as usize,
        };
        let in_chunk = self.chunk_messages().saturating_sub(self.open_len());
        let until_look = LOOKS_AT_CLOCK - self.open_len() % LOOKS_AT_CLOCK;
        // The last message within each bound needs more than appending.
        let messages = places.min(below_threshold).min(in_chunk).min(until_look).saturating_sub(1);
        let target = if self.filling.lanes.first().is_some() {
            Target::Lanes { partitions: self.topics.partitions(topic) }
        } else if self.filling.open.run() == Some(topic) {
            Target::Run
        } else {
            Target::Mixed
        };
        let chunk_bytes = self.filling.until(topic, self.bytes);
        self.like_last = LikeLast { messages, topic, serial, target, chunk_bytes };
    }

    /// The next message is looked at in every respect.
    pub fn leave_fast_path(&mut self) {
        self.like_last = LikeLast::default();
    }

    #[inline]
    fn limit_reached(&self, messages: usize, bytes: usize, cost: usize) -> Option<Limit> {
        if self.held() >= messages {
            Some(Limit::Messages(messages))
        } else if self.held() > 0 && self.bytes.saturating_add(cost) > bytes {
            Some(Limit::Bytes(bytes))
        } else {
            None
        }
    }

    /// A full queue is a reason to deliver, whichever of its bounds it reached.
    #[cold]
    fn refuse(&mut self, limit: Limit, held_up: Option<TopicIndex>) -> Refused {
        // A topic that is held up makes others leave early only where too few are due for it to be heard again.
        let enough_due = matches!(limit, Limit::Messages(most) if self.due_upto - self.released >= most as u64);
        if held_up.is_none() || !enough_due {
            self.all_due();
        }
        let (queued, oldest) = (self.held(), self.oldest());
        Refused::Full(Full { queued, limit, oldest, held_up, wake: self.wake() })
    }
}

const LOOKS_AT_CLOCK: usize = 1024;

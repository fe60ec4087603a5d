//! The messages that hold a place of the queue, and their times of arrival. `offer` lets them in, `due` lets them out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::filling::{Filling, Sealed};
use super::topics::Topics;
use crate::error::{DeliveryErrorKind, InvalidTopic};
use crate::ids::TopicIndex;
use crate::message::Topic;
use crate::partitioner::Partitioner;

/// Messages in the order in which they were accepted; the n-th accepted has ticket n, counted from 0.
#[derive(Debug)]
pub struct Queue {
    pub(super) limits: Limits,
    pub(super) phase: Phase,
    pub(super) topics: Topics,
    pub(super) filling: Filling,
    /// When the first message of each chunk came, for every chunk that still holds places, ascending.
    pub(super) arrivals: VecDeque<ChunkTime>,
    /// Tickets below these were accepted, were taken by the worker, are due, and gave their places back.
    pub(super) accepted: u64,
    pub(super) taken: u64,
    pub(super) due_upto: u64,
    pub(super) released: u64,
    /// The number of sealed chunks that are due: all that were there when `due_upto` moved last.
    pub(super) due_chunks: usize,
    /// The bytes of the limit that the messages with a place take (`entry::cost`), and the records' bytes of those
    /// among them that are not due.
    pub(super) bytes: usize,
    pub(super) waiting_bytes: usize,
    /// The worker waits for its sockets, and must be woken for anything new.
    pub(super) worker_sleeps: bool,
    /// The timer waits for the moment at which the oldest message becomes due, or will look for a new one then.
    pub(super) timer_armed: bool,
    /// For the fast path. A change that this does not allow for sets it to none, and the next `offer` counts anew.
    pub(super) like_last: LikeLast,
}

/// The bounds of a queue, and the bounds at which its messages leave by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages: at least 1.
    pub messages: usize,
    /// Bytes; a message alone always fits.
    pub bytes: usize,
    /// So many messages that are not due become due; 0 is off.
    pub threshold: usize,
    /// A message that is not due becomes due at this age; zero is off.
    pub interval: Duration,
    /// Bytes of a batch: a run of messages that fills a batch becomes due, and so do messages of that many bytes in
    /// all.
    pub batch_bytes: usize,
}

/// The state of a queue towards new messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was accepted yet, and no thread runs.
    Idle,
    /// Open.
    Running,
    /// Closed: accepted messages leave, and no more are accepted.
    Closed,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkTime {
    pub first: u64,
    pub at: Instant,
}

/// The destination of messages like the last one, and the number of them that can follow with nothing to do but to
/// append them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LikeLast {
    pub messages: usize,
    /// To this topic: its index, and its serial.
    pub topic: TopicIndex,
    pub serial: u64,
    pub target: Target,
    /// Up to this number of bytes of a chunk.
    pub chunk_bytes: usize,
}

/// The chunks that take messages like the last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Target {
    /// The open chunk, any message.
    #[default]
    Mixed,
    /// The open chunk, which is a run: messages for any partition.
    Run,
    /// The lanes: messages whose keys choose among this number of partitions.
    Lanes { partitions: u32 },
}

impl Queue {
    /// An empty queue that no thread serves yet, and the worker's end of its channel. Messages with keys are placed by
    /// the partitioner as soon as the number of partitions is [told](Self::tell_partitions), unless it is a user's;
    /// before that the engine places them.
    #[must_use]
    pub fn new(limits: Limits, partitioner: &Partitioner) -> (Self, Sealed) {
        let (filling, sealed) = Filling::new(limits.batch_bytes, limits.messages, limits.bytes, partitioner);
        let queue = Self {
            limits,
            phase: Phase::Idle,
            topics: Topics::default(),
            filling,
            arrivals: VecDeque::new(),
            accepted: 0,
            taken: 0,
            due_upto: 0,
            released: 0,
            due_chunks: 0,
            bytes: 0,
            waiting_bytes: 0,
            worker_sleeps: false,
            timer_armed: false,
            like_last: LikeLast::default(),
        };
        (queue, sealed)
    }

    /// `true` if messages are taken.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes messages from now on, unless it was closed.
    pub fn start(&mut self) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Running;
        }
    }

    /// Takes no more messages, and makes all that it has due.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
        self.leave_fast_path();
        self.all_due();
    }

    /// Takes more bytes for messages that already hold places; they become free with those messages.
    pub fn charge(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Frees the places of this number of messages, oldest first.
    pub fn release(&mut self, messages: u64, bytes: usize) {
        debug_assert!(self.released + messages <= self.taken, "only what was taken has left");
        self.released = (self.released + messages).min(self.taken);
        self.bytes = if self.held() == 0 { 0 } else { self.bytes.saturating_sub(bytes) };
        while self.arrivals.get(1).is_some_and(|next| next.first <= self.released) {
            self.arrivals.pop_front();
        }
        if self.held() == 0 {
            self.arrivals.clear();
        }
    }

    /// Takes a chunk back whose messages have left it, to use its memory again.
    pub fn recycle(&mut self, chunk: Chunk) {
        self.filling.spare.put(chunk);
    }

    /// The topic's index, which it gets if it has none.
    ///
    /// # Errors
    /// The name is not allowed.
    pub fn topic(&mut self, name: &str) -> Result<TopicIndex, InvalidTopic> {
        self.topics.seat(name, None)
    }

    /// Notes the number of partitions of a topic; 0 if it is not known any more.
    pub fn tell_partitions(&mut self, topic: TopicIndex, partitions: u32) {
        if self.topics.partitions(topic) != partitions {
            self.leave_fast_path();
            if self.filling.lanes.first().is_some() {
                self.seal();
            }
            self.topics.tell_partitions(topic, partitions);
        }
    }

    /// The number of partitions of a topic, if it is known.
    pub fn partitions(&self, topic: TopicIndex) -> Option<u32> {
        Some(self.topics.partitions(topic)).filter(|count| *count > 0)
    }

    /// Notes the reason why no message can be sent to a topic now, or that messages can be sent again. Returns the reason
    /// that it replaces, to be dropped without the lock: it may be a user's error.
    pub fn hold_up(
        &mut self,
        topic: TopicIndex,
        why: Option<Arc<DeliveryErrorKind>>,
    ) -> Option<Arc<DeliveryErrorKind>> {
        self.leave_fast_path();
        self.topics.hold_up(topic, why)
    }

    /// The reason why no message can be sent to a topic, while there are other topics to which messages can.
    pub fn held_up(&self, topic: TopicIndex) -> Option<&Arc<DeliveryErrorKind>> {
        self.topics.held_up(topic)
    }

    /// The topics by index.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        self.topics.all()
    }

    /// The number of messages that hold a place.
    #[must_use]
    pub fn held(&self) -> usize {
        (self.accepted - self.released) as usize
    }

    /// Bytes of the messages that hold a place.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of messages that were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The number of messages that the worker ever took.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The time at which the oldest message with a place came, to the precision of a chunk.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.arrivals.front().map(|arrival| arrival.at)
    }

    /// The number of messages in the open chunk or lanes.
    pub(super) fn open_len(&self) -> usize {
        self.filling.first().map_or(0, |first| (self.accepted - first) as usize)
    }

    /// The number of messages that a chunk holds: a small queue has small chunks, so that it can be filled while others
    /// are under way.
    #[inline]
    pub(super) fn chunk_messages(&self) -> usize {
        (self.limits.messages / 4).max(1)
    }
}

/// Bytes of a record in front of its tail, at least.
pub(super) const LEAST_HEAD: usize = 4;

//! The queue by itself: its bounds, what is due when, and a plain model of all of it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::offer::Accepted;
use super::*;
use crate::fate::slot::{Awaited, Slot, testing};
use crate::ids::TopicIndex;
use crate::message::{Message, Timestamp, Topic};
use crate::partitioner::Partitioner;

mod bounds;
mod chunks;
mod model;

fn queue(messages: usize, bytes: usize) -> Both {
    let mut queue = Both::new(limits(messages, bytes));
    queue.start();
    queue
}

fn limits(messages: usize, bytes: usize) -> Limits {
    let (threshold, interval, batch_bytes) = (0, Duration::ZERO, usize::MAX);
    Limits { messages, bytes, threshold, interval, batch_bytes }
}

/// A queue, and the worker's end of its channel.
pub(super) struct Both {
    queue: Queue,
    pub sealed: Sealed,
}

impl Both {
    pub fn new(limits: Limits) -> Self {
        Self::placed_by(limits, &Partitioner::crc32())
    }

    pub fn placed_by(limits: Limits, partitioner: &Partitioner) -> Self {
        let (queue, sealed) = Queue::new(limits, partitioner);
        Self { queue, sealed }
    }

    pub fn take_due(&mut self, out: &mut VecDeque<Chunk>) -> bool {
        self.queue.take_due(&self.sealed, out)
    }
}

impl Deref for Both {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

impl DerefMut for Both {
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }
}

fn offer(queue: &mut Queue, topic: &str, len: usize) -> Result<Accepted, Refused> {
    let value = vec![0; len];
    let message = Message::new(topic, &value);
    offer_message(queue, &message, None, now)
}

fn offer_message(
    queue: &mut Queue,
    message: &Message<'_>,
    slot: Option<Slot<'_>>,
    clock: impl Fn() -> Option<Instant>,
) -> Result<Accepted, Refused> {
    let message = prepare(message);
    match queue.offer(&message, &mut None, slot, &clock) {
        Err(Refused::Unencoded) => queue.offer(&message, &mut message.encode_large(), slot, &clock),
        outcome => outcome,
    }
}

fn quietly(queue: &mut Queue, message: &Message<'_>) -> Option<u64> {
    let message = prepare(message);
    if message.is_good(Prepared::good_bytes(1_000_000)) { queue.append_like_last(&message, None) } else { None }
}

fn prepare<'m, 'd>(message: &'m Message<'d>) -> Prepared<'m, 'd> {
    Prepared::new(message, 1_000_000, Timestamp::from_millis(0)).expect("a good message")
}

fn full(outcome: Result<Accepted, Refused>) -> Full {
    match outcome {
        Err(Refused::Full(full)) => full,
        other => panic!("not full: {other:?}"),
    }
}

fn now() -> Option<Instant> {
    Some(start())
}

#[expect(clippy::disallowed_methods, reason = "there is no other way to get a first moment")]
fn start() -> Instant {
    Instant::now()
}

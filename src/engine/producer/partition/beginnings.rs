//! The ways of messages into the batches of a partition: one by one into the open batch, or as a run that callers have
//! made, which becomes a batch as it is.

use std::time::Instant;

use super::{Partition, PartitionRules};
use crate::deadline::Deadline;
use crate::engine::producer::batch::{BATCH, Batch};
use crate::queue::entry::Entry;

/// A message's place on its way into a batch.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage {
    /// Its ticket.
    pub ticket: u64,
    /// The time at which it became due.
    pub due: Instant,
    /// The bytes that it holds in the queue; zero if none.
    pub queued: usize,
}

impl Partition {
    /// Appends a message to the open batch, or to a new one in a buffer that `buffer` gives. Returns `true` if it began
    /// a new one.
    #[inline]
    pub fn append(&mut self, entry: &Entry<'_>, arrival: NewMessage, buffer: impl FnOnce() -> Vec<u8>) -> bool {
        let NewMessage { ticket, due, queued } = arrival;
        let max = self.rules.max_batch_bytes;
        if let Some(open) = self.unsent.back_mut() {
            if !open.written && open.takes(due) && open.append(entry, queued, max) {
                return false;
            }
            open.seal();
        }
        let mut batch = Batch::new(buffer(), ticket, due, Deadline::NEVER);
        let first = batch.append(entry, queued, max);
        debug_assert!(first, "the first message always fits");
        self.open(batch);
        true
    }

    /// The first ticket of the batch that still takes messages, and the bytes that it leaves unused, if they are many.
    #[must_use]
    pub fn unused(&self) -> Option<(u64, usize)> {
        let open = self.unsent.back()?;
        Some((open.first_ticket, open.unused()?))
    }

    /// Gives the batch that begins with this ticket memory of its size, if it still takes messages and has far more,
    /// and returns the memory that it had.
    pub fn fit_open(&mut self, first: u64) -> Option<Vec<u8>> {
        self.unsent.back_mut().filter(|open| open.first_ticket == first)?.fit()
    }

    /// `true` if a run of this many bytes begins a batch as it is. While another batch waits, messages are put together
    /// with it, so that batches are fuller where the broker is slow; half a batch is full enough.
    #[must_use]
    pub fn takes_runs_of(&self, len: usize) -> bool {
        let max = self.rules.max_batch_bytes;
        len <= max && (self.unsent.is_empty() || len >= max / 2)
    }

    /// Appends a batch that callers have begun; later messages may go into it, too.
    pub fn append_run(&mut self, batch: Batch) {
        if let Some(open) = self.unsent.back_mut() {
            open.seal();
        }
        self.open(batch);
    }

    /// Puts a new batch behind the others.
    fn open(&mut self, mut batch: Batch) {
        batch.deadline = Deadline::after(batch.due, self.rules.delivery_timeout);
        batch.takes_until = self.rules.takes_until(batch.due);
        batch.queued.bytes += BATCH;
        self.unsent.push_back(Box::new(batch));
    }
}

impl PartitionRules {
    /// The moment until which messages are put together with one that is due since `due`. They fail together: a batch
    /// that has waited for a part of `delivery_timeout` takes no more messages, or late messages would fail early.
    pub fn takes_until(&self, due: Instant) -> Deadline {
        Deadline::after(due, self.delivery_timeout / TAKES_FOR)
    }
}

const TAKES_FOR: u32 = 16;

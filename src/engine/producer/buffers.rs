//! The memory of finished batches, for the next ones. Bounds the memory that it keeps, and the memory that it has lent
//! to batches that may stay small: with many partitions and no leader, each would keep a large buffer for few bytes.

use crate::ids::TopicPartition;
use std::collections::VecDeque;

/// Spare buffers, and the batches that have taken one.
#[derive(Debug)]
pub struct Buffers {
    spare: Vec<Vec<u8>>,
    /// The bytes that the spare buffers hold, and may hold.
    bytes: usize,
    most_bytes: usize,
    /// A buffer that was made for one huge message would be kept for small ones.
    most_each: usize,
    /// The batches that have got a buffer that they may not fill, the last ones last; the bytes that they leave unused
    /// together, and may leave unused.
    lent: VecDeque<Lease>,
    unused: usize,
    most_unused: usize,
}

/// A buffer that a batch may not fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The partition of the batch.
    pub to: TopicPartition,
    /// The first ticket of the batch.
    pub first: u64,
    /// Bytes that it left unused when it began.
    pub unused: usize,
}

impl Buffers {
    /// No buffer yet, for batches of this size that are sent from a buffer of this size.
    pub fn new(batch_bytes: usize, buffer_bytes: usize) -> Self {
        let most_bytes = MOST_BYTES.min(buffer_bytes / 4);
        let most_each = batch_bytes.saturating_mul(2);
        let (lent, most_unused) = (VecDeque::new(), most_bytes);
        Self { spare: Vec::new(), bytes: 0, most_bytes, most_each, lent, unused: 0, most_unused }
    }

    /// One of them, or an empty one.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer, if it is worth it.
    pub fn put(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let good = (LEAST_EACH..=self.most_each).contains(&capacity);
        if good && self.spare.len() < MOST && self.bytes.saturating_add(capacity) <= self.most_bytes {
            self.bytes += capacity;
            self.spare.push(buffer);
        }
    }

    /// Notes that the open batch of a partition has got one.
    pub fn lend(&mut self, loan: Lease) {
        self.unused += loan.unused;
        self.lent.push_back(loan);
    }

    /// Makes the next loan panic, for tests of what a panic costs.
    #[cfg(test)]
    pub fn break_account(&mut self) {
        self.unused = usize::MAX;
    }

    /// The oldest loan while too much is unused: its batch should be asked whether it needs its buffer, if it is still
    /// there.
    pub fn call_in(&mut self) -> Option<Lease> {
        let loan = self.lent.front().copied().filter(|_| self.unused > self.most_unused)?;
        self.lent.pop_front();
        self.unused -= loan.unused;
        Some(loan)
    }
}

const MOST: usize = 8;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// A smaller one is made faster than it is kept.
const LEAST_EACH: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionId, TopicIndex};

    #[test]
    fn what_it_keeps_is_bounded() {
        let mut buffers = Buffers::new(1_000_000, 32 * 1024 * 1024);
        for capacity in [100, LEAST_EACH, 1_000_000, 2_000_000, 2_000_001] {
            (0..20).for_each(|_| buffers.put(Vec::with_capacity(capacity)));
            assert!(buffers.bytes <= MOST_BYTES && buffers.spare.len() <= MOST);
        }
        assert_eq!((buffers.spare.len(), buffers.bytes), (MOST, MOST * LEAST_EACH));
        assert!((0..MOST).all(|_| buffers.take().capacity() == LEAST_EACH));
        assert_eq!((buffers.take().capacity(), buffers.bytes), (0, 0));
        (0..20).for_each(|_| buffers.put(Vec::with_capacity(2_000_000)));
        assert_eq!(buffers.spare.len(), 4);
        let mut small = Buffers::new(1_000_000, 1_000_000);
        small.put(Vec::with_capacity(1_000_000));
        assert_eq!(small.spare.len(), 0, "most of the bound would be spare");
    }

    #[test]
    fn loans_are_called_in_the_oldest_first_while_too_much_is_unused() {
        let mut buffers = Buffers::new(1_000_000, 4_000_000);
        let loan = |first| Lease {
            to: TopicPartition { topic: TopicIndex(0), partition: PartitionId(first as i32) },
            first,
            unused: 400_000,
        };
        for first in 0..2 {
            buffers.lend(loan(first));
            assert_eq!(buffers.call_in(), None);
        }
        buffers.lend(loan(2));
        assert_eq!((buffers.call_in(), buffers.call_in()), (Some(loan(0)), None));
        buffers.lend(Lease { unused: 1_000_000, ..loan(3) });
        assert_eq!((buffers.call_in(), buffers.call_in(), buffers.call_in()), (Some(loan(1)), Some(loan(2)), None));
    }
}

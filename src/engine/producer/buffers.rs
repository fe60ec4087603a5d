//! The memory of finished batches, for the next ones. Bounded in what it keeps, and in what it has lent to batches that
//! may stay small: with many partitions and no leader, each would keep a large buffer for few bytes.

use std::collections::VecDeque;

/// Buffers that no batch is in, and who has taken one.
#[derive(Debug)]
pub struct Buffers {
    spare: Vec<Vec<u8>>,
    /// What the spare ones hold, and may hold.
    bytes: usize,
    most_bytes: usize,
    /// A buffer that was made for one huge message would be kept for small ones.
    most_each: usize,
    /// Partitions whose open batch has got one, the last ones last.
    lent: VecDeque<(u32, i32)>,
}

impl Buffers {
    /// None yet, for batches of so many bytes that are sent from a buffer of so many.
    pub fn new(batch_bytes: usize, buffer_bytes: usize) -> Self {
        let most_bytes = MOST_BYTES.min(buffer_bytes / 4);
        let most_each = batch_bytes.saturating_mul(2);
        Self { spare: Vec::new(), bytes: 0, most_bytes, most_each, lent: VecDeque::new() }
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

    /// Notes that the open batch of a partition has got one. Returns the partition whose batch has had one for so long
    /// that it should be asked whether it needs it.
    pub fn lend(&mut self, to: (u32, i32)) -> Option<(u32, i32)> {
        self.lent.push_back(to);
        if self.lent.len() > MOST_LENT { self.lent.pop_front() } else { None }
    }
}

const MOST: usize = 8;
const MOST_BYTES: usize = 8 * 1024 * 1024;
const MOST_LENT: usize = 4;
/// A smaller one is made faster than it is kept.
const LEAST_EACH: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn whoever_has_had_one_for_long_is_asked() {
        let mut buffers = Buffers::new(1_000_000, 1_000_000);
        let asked: Vec<_> = (0..6).map(|number| buffers.lend((0, number))).collect();
        assert_eq!(asked, [None, None, None, None, Some((0, 0)), Some((0, 1))]);
    }
}

//! Spreads the messages without a key over the partitions of a topic (KIP-794, "uniform sticky").

use crate::ids::PartitionId;

/// The bytes of records that a partition takes before another one's turn, whatever the batch size.
pub const STICKY_BYTES: usize = 64 * 1024;

/// The partition of a topic that takes the messages without a key at the moment.
#[derive(Clone, Debug, Default)]
pub struct Sticky {
    partition: Option<PartitionId>,
    // Its last index in the slice of available partitions, to find it again at once.
    index: usize,
    bytes_left: usize,
}

impl Sticky {
    /// The partition for a record of `record_len` bytes: one of `available`, or `None` if that is empty.
    ///
    /// It stays until it took 64 KiB or is no longer available; then it is any other, all with the same chance.
    pub fn choose(&mut self, available: &[PartitionId], record_len: usize, random: u64) -> Option<PartitionId> {
        let current = self.find(available);
        self.index = match current {
            Some(index) if self.bytes_left > 0 => index,
            _ => {
                self.bytes_left = STICKY_BYTES;
                another(current, available.len(), random)?
            }
        };
        self.partition = Some(available[self.index]);
        self.bytes_left = self.bytes_left.saturating_sub(record_len);
        self.partition
    }

    fn find(&self, available: &[PartitionId]) -> Option<usize> {
        let partition = self.partition?;
        if available.get(self.index) == Some(&partition) {
            return Some(self.index);
        }
        available.iter().position(|&other| other == partition)
    }
}

/// An index below `count` that is not `current`, unless it is the only one.
fn another(current: Option<usize>, count: usize, random: u64) -> Option<usize> {
    match current {
        Some(current) if count > 1 => {
            let index = (random % (count as u64 - 1)) as usize;
            Some(if index < current { index } else { index + 1 })
        }
        _ => random.checked_rem(count as u64).map(|index| index as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(sticky: &mut Sticky, available: &[i32], record_len: usize, random: u64) -> Option<i32> {
        let available: Vec<PartitionId> = available.iter().copied().map(PartitionId).collect();
        sticky.choose(&available, record_len, random).map(|partition| partition.0)
    }

    #[test]
    fn a_partition_takes_64_kib_then_it_is_another_ones_turn() {
        let mut sticky = Sticky::default();
        let first = choose(&mut sticky, &[0, 1, 2], 1024, 5).unwrap();
        for random in 1..64 {
            assert_eq!(choose(&mut sticky, &[0, 1, 2], 1024, random), Some(first));
        }
        assert_ne!(choose(&mut sticky, &[0, 1, 2], 1024, 5), Some(first));
    }

    #[test]
    fn the_record_that_crosses_the_limit_stays() {
        let mut sticky = Sticky::default();
        let first = choose(&mut sticky, &[0, 1], STICKY_BYTES - 1, 0);
        assert_eq!(choose(&mut sticky, &[0, 1], 1_000_000, 0), first);
        assert_ne!(choose(&mut sticky, &[0, 1], 1, 0), first);
    }

    #[test]
    fn every_other_partition_has_the_same_chance() {
        let available = [3, 5, 8, 9];
        for current in 0..available.len() {
            let mut turns = Vec::new();
            for random in 0..300 {
                let mut sticky =
                    Sticky { partition: Some(PartitionId(available[current])), index: current, bytes_left: 0 };
                turns.push(choose(&mut sticky, &available, 1, random).unwrap());
            }
            for (index, partition) in available.iter().enumerate() {
                let turns = turns.iter().filter(|turn| *turn == partition).count();
                assert_eq!(turns, if index == current { 0 } else { 100 });
            }
        }
    }

    #[test]
    fn the_only_partition_stays() {
        let mut sticky = Sticky::default();
        for random in 0..10 {
            assert_eq!(choose(&mut sticky, &[4], STICKY_BYTES, random), Some(4));
        }
    }

    #[test]
    fn a_partition_that_is_not_available_is_left_at_once() {
        let mut sticky = Sticky::default();
        assert_eq!(choose(&mut sticky, &[0, 1, 2], 1, 1), Some(1));
        assert_eq!(choose(&mut sticky, &[0, 2], 1, 1), Some(2));
        assert_eq!(choose(&mut sticky, &[0, 2], 1, 0), Some(2));
    }

    #[test]
    fn a_partition_that_moved_in_the_list_keeps_its_turn() {
        let mut sticky = Sticky::default();
        assert_eq!(choose(&mut sticky, &[0, 1, 2], 1, 2), Some(2));
        assert_eq!(choose(&mut sticky, &[2], 1, 0), Some(2));
        assert_eq!(choose(&mut sticky, &[0, 1, 2], 1, 0), Some(2));
    }

    #[test]
    fn empty() {
        let mut sticky = Sticky::default();
        assert_eq!(choose(&mut sticky, &[], 1, 7), None);
        assert_eq!(choose(&mut sticky, &[6], 1, 7), Some(6));
        assert_eq!(choose(&mut sticky, &[], 1, 7), None);
    }
}

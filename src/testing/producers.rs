//! A partition's memory of idempotent producers, and the rules for the next batch (KIP-98, KIP-360).

use std::collections::{HashMap, VecDeque};

/// The producers that wrote to one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Producers {
    by_id: HashMap<i64, ProducerState>,
}

#[derive(Clone, Debug)]
struct ProducerState {
    epoch: i16,
    last: VecDeque<Remembered>,
}

/// One batch of those that are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remembered {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub max_timestamp: i64,
}

/// The producer fields of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    /// The number of its records, at least 1.
    pub count: i32,
}

/// The turn of a batch by its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is the next.
    Append,
    /// It is in the log already.
    Duplicate(Remembered),
    /// Something is missing before it, or it is too old to be remembered.
    OutOfOrder,
    /// A newer epoch of the producer wrote already.
    OldEpoch,
}

impl Producers {
    pub fn judge(&self, batch: Numbered) -> Turn {
        // If it knows nothing of a producer, Kafka takes any first sequence: its state may have expired.
        let Some(entry) = self.by_id.get(&batch.producer_id) else {
            return Turn::Append;
        };
        if batch.epoch == entry.epoch {
            let same = |seen: &&Remembered| {
                seen.first_sequence == batch.first_sequence && seen.last_sequence == batch.last_sequence()
            };
            if let Some(seen) = entry.last.iter().find(same) {
                return Turn::Duplicate(*seen);
            }
        }
        if batch.epoch < entry.epoch {
            return Turn::OldEpoch;
        }
        let next = match entry.last.back() {
            Some(seen) if batch.epoch == entry.epoch => add(seen.last_sequence, 1),
            _ => 0,
        };
        if batch.first_sequence == next { Turn::Append } else { Turn::OutOfOrder }
    }

    pub fn note(&mut self, batch: Numbered, base_offset: i64, max_timestamp: i64) {
        let entry =
            self.by_id.entry(batch.producer_id).or_insert(ProducerState { epoch: batch.epoch, last: VecDeque::new() });
        if entry.epoch != batch.epoch {
            entry.epoch = batch.epoch;
            entry.last.clear();
        }
        if entry.last.len() == REMEMBERED {
            entry.last.pop_front();
        }
        entry.last.push_back(Remembered {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence(),
            base_offset,
            max_timestamp,
        });
    }
}

impl Numbered {
    fn last_sequence(self) -> i32 {
        add(self.first_sequence, self.count - 1)
    }
}

/// A sequence number some records later: behind 2^31 - 1 comes 0.
pub(super) fn add(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

// As many as a client may have in flight.
const REMEMBERED: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first_sequence: i32, count: i32) -> Numbered {
        Numbered { producer_id: 7, epoch, first_sequence, count }
    }

    /// A partition that holds these batches of epoch 3, one offset per record.
    fn wrote(batches: &[(i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = 0;
        for (first, count) in batches {
            producers.note(batch(3, *first, *count), offset, 1000);
            offset += i64::from(*count);
        }
        producers
    }

    #[test]
    fn the_next_batch_by_sequence() {
        let six: Vec<_> = (0..6).map(|at| (at * 10, 10)).collect();
        let duplicate = |first, last, base_offset| {
            Turn::Duplicate(Remembered { first_sequence: first, last_sequence: last, base_offset, max_timestamp: 1000 })
        };
        type Case<'a> = (&'a str, &'a [(i32, i32)], Numbered, Turn);
        let cases: &[Case<'_>] = &[
            ("the first of all may begin anywhere", &[], batch(0, 4711, 2), Turn::Append),
            ("the next", &[(0, 10)], batch(3, 10, 5), Turn::Append),
            ("a gap", &[(0, 10)], batch(3, 11, 5), Turn::OutOfOrder),
            ("an overlap", &[(0, 10)], batch(3, 9, 5), Turn::OutOfOrder),
            ("the same again", &[(0, 10)], batch(3, 0, 10), duplicate(0, 9, 0)),
            ("the same start with fewer records", &[(0, 10)], batch(3, 0, 9), Turn::OutOfOrder),
            ("the fifth last again", &six, batch(3, 10, 10), duplicate(10, 19, 10)),
            ("the sixth last again", &six, batch(3, 0, 10), Turn::OutOfOrder),
            ("an older epoch", &[(0, 10)], batch(2, 10, 1), Turn::OldEpoch),
            ("an older epoch that repeats", &[(0, 10)], batch(2, 0, 10), Turn::OldEpoch),
            ("a newer epoch from 0", &[(0, 10)], batch(4, 0, 10), Turn::Append),
            ("a newer epoch that goes on", &[(0, 10)], batch(4, 10, 1), Turn::OutOfOrder),
            ("behind the highest sequence comes 0", &[(i32::MAX - 1, 2)], batch(3, 0, 1), Turn::Append),
            ("a batch over the end", &[(i32::MAX - 1, 5)], batch(3, 3, 1), Turn::Append),
            (
                "a batch over the end again",
                &[(i32::MAX - 1, 5)],
                batch(3, i32::MAX - 1, 5),
                duplicate(i32::MAX - 1, 2, 0),
            ),
        ];
        for (what, before, next, turn) in cases {
            assert_eq!(wrote(before).judge(*next), *turn, "{what}");
        }
    }

    #[test]
    fn producers_do_not_disturb_each_other() {
        let producers = wrote(&[(0, 10)]);
        let other = Numbered { producer_id: 8, epoch: 0, first_sequence: 0, count: 1 };
        assert_eq!(producers.judge(other), Turn::Append);
    }

    #[test]
    fn a_new_epoch_forgets_the_batches_of_the_old_one() {
        let mut producers = wrote(&[(0, 10)]);
        producers.note(batch(4, 0, 1), 10, 1000);
        assert_eq!(producers.judge(batch(4, 0, 10)), Turn::OutOfOrder);
        assert_eq!(producers.judge(batch(4, 1, 1)), Turn::Append);
    }
}

//! The times of a batch's records, beside the records.
//!
//! Messages that are produced one after the other mostly have the same time, that of the clock's last tick. So it is
//! enough to note where the time changes, and callbacks can be told the times of a batch whose memory is used again.
//! [`BatchBuilder`](super::batch::BatchBuilder) notes each record.

use std::ops::Range;

/// The times of records in their order, in milliseconds, as long as they change a few times only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    first: i64,
    last: i64,
    max: i64,
    /// Index and time of each record that has another time than the one before it, up to [`MOST`].
    changes: Vec<(u32, i64)>,
    /// There were more changes.
    is_cut: bool,
}

impl Times {
    /// The time of one record.
    #[must_use]
    pub fn of_first(time: i64) -> Self {
        Self { first: time, last: time, max: time, ..Self::default() }
    }

    /// Adds the time of the next record, which has this index.
    #[inline]
    pub fn note(&mut self, index: u32, time: i64) {
        if time != self.last {
            self.change(index, time);
        }
    }

    #[cold]
    fn change(&mut self, index: u32, time: i64) {
        self.last = time;
        self.max = self.max.max(time);
        if self.changes.len() < MOST {
            self.changes.push((index, time));
        } else {
            self.is_cut = true;
        }
    }

    /// The time of the first record.
    #[must_use]
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The latest time.
    #[must_use]
    pub fn max(&self) -> i64 {
        self.max
    }

    /// `true` if the time of every record is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.is_cut
    }

    /// The time of each run of records with the same one, and their indexes, if there are `count` records in all. Right
    /// only if they are [complete](Self::is_complete).
    pub fn runs(&self, count: u32) -> impl Iterator<Item = (Range<u32>, i64)> {
        let ends = self.changes.iter().map(|(index, _)| *index).chain([count]);
        let mut run = (0, self.first);
        let mut changes = self.changes.iter();
        ends.map(move |end| {
            let (start, time) = run;
            run = changes.next().copied().unwrap_or(run);
            (start..end, time)
        })
    }
}

/// Ticks of 4 ms make few changes in the milliseconds that a batch takes messages for. With these a batch takes no more
/// than 256 bytes beside its records.
const MOST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(times: &[i64]) -> Times {
        let mut noted = Times::of_first(times[0]);
        (0..).zip(times).for_each(|(index, time)| noted.note(index, *time));
        noted
    }

    fn read(times: &Times, count: usize) -> Vec<i64> {
        times.runs(count as u32).flat_map(|(run, time)| run.map(move |_| time)).collect()
    }

    #[test]
    fn too_many_changes_are_not_kept() {
        let times: Vec<i64> = (0..=MOST as i64).collect();
        let noted = of(&times);
        assert!(noted.is_complete());
        assert_eq!(read(&noted, times.len()), times);
        let noted = of(&(0..=MOST as i64 + 1).collect::<Vec<_>>());
        assert!(!noted.is_complete());
        assert_eq!((noted.first(), noted.max()), (0, MOST as i64 + 1));
        assert_eq!(noted.changes.capacity(), MOST);
    }

    proptest! {
        #[test]
        fn what_is_noted_is_read_back(runs in proptest::collection::vec((any::<i64>(), 1..5_usize), 1..=MOST)) {
            let times: Vec<i64> = runs.iter().flat_map(|(time, count)| vec![*time; *count]).collect();
            let noted = of(&times);
            prop_assert!(noted.is_complete());
            prop_assert_eq!(read(&noted, times.len()), &times[..]);
            prop_assert_eq!((noted.first(), noted.max()), (times[0], times.iter().copied().max().unwrap()));
        }
    }
}

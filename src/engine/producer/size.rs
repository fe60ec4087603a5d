//! The largest batch of a topic, learned from the batches that its brokers refuse and take.
//!
//! `max.message.bytes` is an option of the topic, and no broker tells producers of it. If a batch of several messages
//! is refused as too large, the limit is below its size: the next batches have a quarter of that, or the size of the
//! largest one that was taken before. Each batch that is about full and is taken lets them grow again, to twice the
//! size or half-way to the refused size, as long as that is well below it. So a limit is found with one refusal for
//! each power of four between it and `max_batch_bytes`, and one or two more. The limit may be raised later: a refusal
//! is forgotten after ten minutes, and after twice as long each time, and batches grow until one is refused again. A
//! message that is too large alone says nothing of batches.

use std::time::{Duration, Instant};

/// Bytes that a batch of a topic may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSize {
    most: usize,
    /// The largest batch that was taken since the first refusal.
    taken: usize,
    /// The smallest batch that was refused not long ago, and when.
    refused: Option<(usize, Instant)>,
    /// The time for which that is believed.
    believed: Duration,
}

impl BatchSize {
    /// The configured size, until brokers refuse it.
    pub fn new(most: usize) -> Self {
        Self { most, taken: 0, refused: None, believed: TRIED_AGAIN_AFTER }
    }

    /// Bytes that a batch may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A batch of several messages was refused.
    pub fn refused(&mut self, len: usize, now: Instant) {
        if self.refused.is_some_and(|(smallest, _)| len >= smallest) {
            // It was under way when the smaller size became known.
            return;
        }
        self.refused = Some((len, now));
        if self.taken >= len {
            // The limit was lowered.
            self.taken = 0;
        }
        self.most = self.most.min((len / 4).max(self.taken).max(1));
    }

    /// A batch was taken. Returns `true` if batches may be larger from now on, up to `configured`.
    #[inline]
    pub fn taken(&mut self, len: usize, configured: usize, now: Instant) -> bool {
        self.most < configured && self.grow(len, configured, now)
    }

    fn grow(&mut self, len: usize, configured: usize, now: Instant) -> bool {
        if self.refused.is_some_and(|(_, at)| now.saturating_duration_since(at) >= self.believed) {
            self.refused = None;
            self.believed = self.believed.saturating_mul(2).min(TRIED_AGAIN_AFTER_MOST);
        }
        self.taken = self.taken.max(len);
        let twice = self.most.saturating_mul(2).min(configured);
        let (next, most) = match self.refused {
            None => (twice, configured),
            Some((smallest, _)) => (twice.min(self.most.midpoint(smallest)), smallest / 4 * 3),
        };
        let grows = len > self.most / 2 && (self.most + 1..=most).contains(&next);
        if grows {
            self.most = next;
        }
        grows
    }
}

/// The time for which a refused size is believed to be too large: at first, and at most.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(600);
const TRIED_AGAIN_AFTER_MOST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: usize = 1_000_000;

    /// Sends batches, as full as they may be with messages of this size, to a topic with this limit; returns the number
    /// of refused ones.
    fn send(size: &mut BatchSize, batches: u32, (limit, message): (usize, usize), now: Instant) -> u32 {
        let mut refused = 0;
        for _ in 0..batches {
            let len = 61 + (size.most().saturating_sub(61) / message).max(1) * message;
            if len > limit {
                refused += 1;
                size.refused(len, now);
            } else {
                let _ = size.taken(len, CONFIGURED, now);
            }
        }
        refused
    }

    #[test]
    fn a_limit_is_found_with_a_handful_of_refusals_and_well_used() {
        let now = crate::engine::test_clock();
        for limit in [800, 1000, 2000, 10_000, 123_456, 600_000, 999_000] {
            let mut size = BatchSize::new(CONFIGURED);
            let refused = send(&mut size, 1000, (limit, 100), now);
            assert!((1..=7).contains(&refused), "{refused} for {limit}");
            assert!(size.most() >= limit / 2, "{} of {limit}", size.most());
            assert_eq!(send(&mut size, 1000, (limit, 100), now), 0, "it is known");
        }
    }

    #[test]
    fn a_limit_that_was_raised_is_found_after_some_minutes_and_one_that_was_not_costs_little() {
        let now = crate::engine::test_clock();
        let mut size = BatchSize::new(CONFIGURED);
        send(&mut size, 1000, (10_000, 100), now);
        let later = now + TRIED_AGAIN_AFTER;
        assert_eq!(send(&mut size, 1000, (10_000, 100), later), 1);
        assert!(size.most() < 10_000);
        let later = later + 2 * TRIED_AGAIN_AFTER;
        assert_eq!(send(&mut size, 1000, (CONFIGURED, 100), later), 0);
        assert_eq!(size.most(), CONFIGURED);
    }

    #[test]
    fn what_was_under_way_when_a_size_was_refused_teaches_nothing_more() {
        let now = crate::engine::test_clock();
        let mut size = BatchSize::new(CONFIGURED);
        send(&mut size, 1000, (2000, 100), now);
        let most = size.most();
        size.refused(CONFIGURED, now);
        assert_eq!(size.most(), most);
    }

    #[test]
    fn small_batches_do_not_show_that_larger_ones_are_taken() {
        let now = crate::engine::test_clock();
        let mut size = BatchSize::new(CONFIGURED);
        size.refused(CONFIGURED, now);
        assert!(!size.taken(CONFIGURED / 8, CONFIGURED, now));
        assert!(size.taken(CONFIGURED / 8 + 1, CONFIGURED, now));
    }
}

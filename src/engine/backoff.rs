//! The pause after the n-th failure in a row: exponential, bounded, with jitter. And the pace of connections that fail
//! after they were made: a limit on those that begin in a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;

/// Bounds of a growing pause.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Backoff {
    /// The pause after `failures` failures in a row (1 or more), within 20 % of its middle, by `random`.
    ///
    /// KIP-580: doubles each time up to the bound; the jitter keeps clients from returning in step.
    #[must_use]
    pub fn pause(&self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let middle = self.first.saturating_mul(1 << doublings).min(self.max);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        middle.mul_f64(0.8 + 0.4 * share)
    }
}

/// The times at which something was begun, to bound its pace: at most five times in a second.
#[derive(Clone, Debug, Default)]
pub struct RateLimit {
    /// The last times, the newest at the end.
    begun: VecDeque<Instant>,
}

impl RateLimit {
    /// Notes that it begins.
    pub fn begin(&mut self, now: Instant) {
        self.begun.push_back(now);
        if self.begun.len() > MOST_IN_A_SECOND {
            self.begun.pop_front();
        }
    }

    /// The moment at which it may begin again, at least `apart` after the last time; never if it has not begun yet.
    #[must_use]
    pub fn next(&self, apart: Duration) -> Deadline {
        let first = self.begun.front().filter(|_| self.begun.len() == MOST_IN_A_SECOND);
        let after =
            |begun: Option<&Instant>, wait| begun.map_or(Deadline::NEVER, |begun| Deadline::after(*begun, wait));
        after(self.begun.back(), apart).max(after(first, Duration::from_secs(1)))
    }
}

const MOST_IN_A_SECOND: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound_within_a_fifth() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let mut random = fastrand::Rng::with_seed(7);
        for (failures, middle) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (u32::MAX, 1000)] {
            for _ in 0..100 {
                let pause = backoff.pause(failures, random.u64(..));
                assert!(pause >= Duration::from_millis(middle * 8 / 10), "{pause:?} after {failures}");
                assert!(pause <= Duration::from_millis(middle * 12 / 10), "{pause:?} after {failures}");
            }
        }
    }

    #[test]
    fn a_pace_allows_five_times_in_any_second() {
        let (start, apart) = (crate::engine::test_clock(), Duration::from_millis(30));
        let (mut pace, mut begun) = (RateLimit::default(), Vec::new());
        for millis in 0..3000 {
            let now = start + Duration::from_millis(millis);
            if begun.is_empty() || pace.next(apart).passed(now) {
                pace.begin(now);
                begun.push(millis);
            }
        }
        assert_eq!(begun, [0, 30, 60, 90, 120, 1000, 1030, 1060, 1090, 1120, 2000, 2030, 2060, 2090, 2120]);
        assert!(pace.next(Duration::from_secs(9)).moment() > Some(start + Duration::from_secs(11)));
    }

    #[test]
    fn a_huge_bound_does_not_overflow() {
        let backoff = Backoff { first: Duration::MAX, max: Duration::from_secs(3600) };
        assert!(backoff.pause(9, u64::MAX) <= Duration::from_secs(3600 * 12 / 10));
    }
}

//! A moment that may be *never*, so that no arithmetic on times can overflow.

use std::time::{Duration, Instant};

/// A moment in time, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// A moment that does not come.
    pub const NEVER: Self = Self(None);

    /// This moment.
    #[must_use]
    pub const fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// `wait` after `now`, or never if that cannot be represented.
    #[must_use]
    pub fn after(now: Instant, wait: Duration) -> Self {
        Self(now.checked_add(wait))
    }

    /// `true` once the moment has come.
    #[must_use]
    pub fn passed(self, now: Instant) -> bool {
        self.0.is_some_and(|moment| moment <= now)
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// The later of the two, where *never* is no reason to wait.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.max(b))),
            (a, b) => Self(a.or(b)),
        }
    }

    /// The moment, or `None` if it does not come.
    #[must_use]
    pub fn moment(self) -> Option<Instant> {
        self.0
    }

    /// The time until it comes; zero if it has passed, `None` if it never comes.
    #[must_use]
    pub fn left(self, now: Instant) -> Option<Duration> {
        self.0.map(|moment| moment.saturating_duration_since(now))
    }
}

//! The time of a message, as Kafka stores it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in milliseconds since the Unix epoch, as Kafka stores it; earlier times are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A time from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The same moment as a `SystemTime`, or `None` where the system cannot hold it.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_millis(self.0.unsigned_abs());
        if self.0 >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
    }
}

impl From<SystemTime> for Timestamp {
    /// The time cut to milliseconds; one that does not fit is the nearest that does.
    #[inline]
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => Self(i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_a_system_time_cut_to_milliseconds() {
        let time = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        let stamp = Timestamp::from(time);
        assert_eq!(stamp.as_millis(), 1_700_000_000_123);
        let cut = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(stamp.to_system_time(), Some(cut));
        let before = UNIX_EPOCH - Duration::from_millis(5);
        assert_eq!(Timestamp::from(before).as_millis(), -5);
        assert_eq!(Timestamp::from_millis(-5).to_system_time(), Some(before));
    }

    #[test]
    fn the_most_distant_times_do_not_panic() {
        for millis in [i64::MIN, i64::MIN + 1, i64::MAX] {
            if let Some(time) = Timestamp::from_millis(millis).to_system_time() {
                assert_eq!(Timestamp::from(time).as_millis(), millis);
            }
        }
    }
}

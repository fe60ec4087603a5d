//! Reads the clocks, as the only file of the threads. Deadlines come from the steady clock; the wall clock only stamps
//! messages, so its jumps move no deadline.
//!
//! A message without a time of its own gets the wall clock's time of the system's last tick, where the system has that
//! (Linux): 4 ms behind at most as kernels are usually built, 10 ms in the worst case. Reading the exact time takes
//! more than 20 ns, a quarter of all that `produce` takes, for milliseconds that a message spends in the queue anyway.
//! A caller that needs the exact time sets `create_time`.
#![expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]

#[cfg(not(all(test, shuttle)))]
use std::time::Instant;
use std::time::SystemTime;

use crate::message::Timestamp;

#[cfg(not(all(test, shuttle)))]
pub fn now() -> Instant {
    #[cfg(feature = "_internal")]
    if let Some(now) = SET.get() {
        return now;
    }
    Instant::now()
}

#[cfg(all(test, shuttle))]
pub(crate) use crate::sync::model::now;

/// From now on it is this time on this thread: for the simulation.
#[cfg(all(feature = "_internal", not(all(test, shuttle))))]
pub fn set(now: Instant) {
    SET.set(Some(now));
}

#[cfg(all(feature = "_internal", not(all(test, shuttle))))]
thread_local! {
    static SET: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn timestamp() -> Timestamp {
    use nix::time::{ClockId, clock_gettime};
    match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
        Ok(time) => Timestamp::from_millis(time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000),
        // No kernel is known to lack it.
        Err(_) => Timestamp::from(SystemTime::now()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_message_is_that_of_the_system_but_for_a_tick() {
        let before = Timestamp::from(SystemTime::now()).as_millis();
        let stamped = timestamp().as_millis();
        let after = Timestamp::from(SystemTime::now()).as_millis();
        assert!((before - 11..=after).contains(&stamped), "{stamped} is not {before} to {after}");
    }
}

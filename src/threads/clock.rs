//! The only place of the threads that reads clocks. Deadlines come from the steady clock; the wall clock only stamps
//! messages, so its jumps move no deadline.
//!
//! A message without a time of its own is stamped with the system's clock, 26 ns per read. A cached or coarse clock
//! would save most of that and make times late by its grain; change `timestamp` to try one.
#![expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]

#[cfg(not(all(test, shuttle)))]
use std::time::Instant;
use std::time::SystemTime;

use crate::message::Timestamp;

#[cfg(not(all(test, shuttle)))]
pub(crate) fn now() -> Instant {
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
pub(super) fn set(now: Instant) {
    SET.set(Some(now));
}

#[cfg(all(feature = "_internal", not(all(test, shuttle))))]
thread_local! {
    static SET: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

pub(crate) fn timestamp() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

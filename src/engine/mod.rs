//! The producer's logic without I/O: no socket, clock, lock or thread. Inputs and the time go in, actions and
//! fates come out; `threads::driver` connects it to the world, and the simulation to a simulated one.

mod action;
mod advice;
pub mod backoff;
pub mod cluster;
pub mod producer;

pub use self::action::Action;

/// A moment from which tests count.
#[cfg(test)]
pub(crate) fn test_clock() -> std::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "tests need one moment to count from; they never read it again")]
    std::time::Instant::now()
}

//! Locks, channels, threads and the worker's waker, by the names that the rest uses. Ordinary builds get parking_lot,
//! crossbeam, mio and std under these names and nothing in between. The unit tests under `--cfg shuttle` get the
//! `model` instead, which shuttle schedules, so that the real code of the threads runs in every order that it picks.
//!
//! `fate`, `threads` and `producer` take these from here and nowhere else.

#[cfg(all(test, shuttle))]
pub(crate) mod model;

#[cfg(all(test, shuttle))]
pub(crate) use self::model::{Condvar, Mutex, MutexGuard, Waker, atomic, channel, thread, thread_local};
#[cfg(not(all(test, shuttle)))]
pub(crate) use {
    crossbeam_channel as channel, mio::Waker, parking_lot::Condvar, parking_lot::Mutex, parking_lot::MutexGuard,
    std::sync::atomic, std::thread, std::thread_local,
};

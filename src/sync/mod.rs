//! Locks, channels, threads and the worker's waker, by the names that all other code uses. Ordinary builds get
//! crossbeam, mio and std under these names. The unit tests under `--cfg shuttle` get the `model` instead, which
//! shuttle schedules, so that the real code of the threads runs in every order that it picks.
//!
//! `fate`, `threads` and `producer` take these from here and nowhere else, except for the watch of a caller, which a
//! model does not run.

#[cfg(not(all(test, shuttle)))]
mod locks;
#[cfg(all(test, shuttle))]
pub(crate) mod model;

#[cfg(all(test, shuttle))]
pub(crate) use self::model::{Condvar, Mutex, MutexGuard, Waker, atomic, channel, thread, thread_local};
#[cfg(not(all(test, shuttle)))]
pub(crate) use {
    self::locks::{Condvar, Mutex, MutexGuard},
    crossbeam_channel as channel,
    mio::Waker,
    std::sync::atomic,
    std::thread,
    std::thread_local,
};

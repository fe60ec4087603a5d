//! The standard library's locks with the calls of parking_lot: without poisoning, and a guard that can be given away
//! for a moment.
//!
//! Not parking_lot itself: it keeps its waiting threads in one table for the whole process. After a fork the table
//! still has the parent's threads, in memory that the child's new threads use again, and wake-ups of a new producer in
//! the child are lost. A lock of the standard library is a word of its own.

use std::fmt;
use std::hint;
use std::ops::{Deref, DerefMut};
use std::sync::{self, PoisonError, TryLockError, WaitTimeoutResult};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Away only inside `unlocked` and `wait`.
    held: Option<sync::MutexGuard<'a, T>>,
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(sync::Condvar);

impl<T> Mutex<T> {
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock_soon().unwrap_or_else(|| self.join())
    }

    /// The lock, in its turn among those that wait for it: for a caller that has stood back before.
    pub fn join(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { mutex: self, held: Some(held) }
    }

    /// The lock, unless it is held each time that it is tried for a while. Holders here are so quick that a lock which
    /// is held is free a moment later; one that is held again then is one that many want. Further tries would take the
    /// memory behind it from processor to processor with every message, and cost each of them more than the work: so a
    /// caller that comes too late stands back for a while, in which the others get a lot done.
    #[inline]
    pub fn lock_soon(&self) -> Option<MutexGuard<'_, T>> {
        self.try_lock().or_else(|| self.try_again())
    }

    #[cold]
    #[expect(clippy::disallowed_methods, reason = "standing back is a sleep that nobody needs to end")]
    fn try_again(&self) -> Option<MutexGuard<'_, T>> {
        for turn in 1..=TURNS {
            if turn <= BUSY_TURNS {
                (0..1 << turn).for_each(|_| hint::spin_loop());
            } else {
                thread::sleep(STAND_BACK);
            }
            let held = self.try_lock();
            if held.is_some() {
                return held;
            }
        }
        None
    }

    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never locks, and shows nothing of what it guards.
        f.write_str("Mutex")
    }
}

impl<T> MutexGuard<'_, T> {
    /// Runs `run` with the lock released for that time.
    pub fn unlocked<U>(guard: &mut Self, run: impl FnOnce() -> U) -> U {
        guard.held = None;
        let result = run();
        guard.held = guard.mutex.lock().held;
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.held.as_ref().expect(HELD)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect(HELD)
    }
}

impl Condvar {
    pub const fn new() -> Self {
        Self(sync::Condvar::new())
    }

    /// Blocks until somebody notifies, or for no reason.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect(HELD);
        guard.held = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    /// As `wait`, and until this moment at most.
    #[expect(clippy::disallowed_methods, reason = "the standard library waits for a duration, callers for a moment")]
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        let held = guard.held.take().expect(HELD);
        let left = until.saturating_duration_since(Instant::now());
        let (held, result) = self.0.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner);
        guard.held = Some(held);
        result
    }

    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The number of times that a held lock is tried again, and the number of these turns that do not give up the
/// processor.
const TURNS: u32 = 10;
const BUSY_TURNS: u32 = 3;
/// Systems make about three times that of it.
const STAND_BACK: Duration = Duration::from_micros(20);
const HELD: &str = "a guard holds its lock but inside `unlocked` and `wait`, which have it to themselves";

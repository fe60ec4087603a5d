//! Takes the place of `sync` under shuttle: the same names and calls, on shuttle's own locks and threads, and a clock
//! that moves only when a wait ends by its time. All threads are one operating-system thread, and take turns.
//!
//! Time either *stands*: a wait with an end is a wait without one, so that a lost wake-up ends in a deadlock, which
//! shuttle reports. Or it *runs*: a wait ends when it is woken, or by its time after a few turns of the others.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync as inner;

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::{thread, thread_local};

pub(crate) mod channel;

/// The course of time for waits that have a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Stands,
    Runs,
}

std::thread_local! {
    static TIME: Cell<Time> = const { Cell::new(Time::Stands) };
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The first thing in an execution.
pub(crate) fn begin(time: Time) {
    TIME.set(time);
    PASSED.set(Duration::ZERO);
}

pub(crate) fn time() -> Time {
    TIME.get()
}

#[expect(clippy::disallowed_methods, reason = "there is no other way to get a first moment")]
pub(crate) fn now() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + PASSED.get()
}

fn pass_until(moment: Instant) {
    PASSED.set(PASSED.get() + moment.saturating_duration_since(now()));
}

/// As that of `locks`: without poisoning, and its guard can be given away for a moment.
#[derive(Default)]
pub(crate) struct Mutex<T>(inner::Mutex<T>);

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Away only inside `unlocked` and `wait`.
    held: Option<inner::MutexGuard<'a, T>>,
}

#[derive(Debug, Default)]
pub(crate) struct Condvar {
    inner: inner::Condvar,
    /// The number of calls to wake, for waits that look for themselves.
    calls: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(inner::Mutex::new(value))
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard { mutex: self, held: Some(held) })
    }

    pub fn lock_soon(&self) -> Option<MutexGuard<'_, T>> {
        self.try_lock()
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.join()
    }

    pub fn join(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())) }
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> MutexGuard<'_, T> {
    pub fn unlocked<U>(guard: &mut Self, run: impl FnOnce() -> U) -> U {
        guard.held = None;
        let result = run();
        guard.held = guard.mutex.lock().held;
        result
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("held but inside `unlocked`")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("held but inside `unlocked`")
    }
}

impl Condvar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.held.take().expect("held by who waits");
        guard.held = Some(self.inner.wait(held).unwrap_or_else(|poisoned| poisoned.into_inner()));
    }

    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Instant) -> WaitTimeoutResult {
        if time() == Time::Stands {
            self.wait(guard);
            return WaitTimeoutResult(false);
        }
        let calls = self.calls.load(Ordering::Relaxed);
        for _ in 0..thread_rng().gen_range(1..PATIENCE) {
            MutexGuard::unlocked(guard, thread::yield_now);
            if self.calls.load(Ordering::Relaxed) != calls {
                return WaitTimeoutResult(false);
            }
        }
        pass_until(until);
        WaitTimeoutResult(true)
    }

    pub fn notify_one(&self) {
        // Wakes all waits that look for themselves: a wake-up too many is allowed.
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.notify_one();
    }

    pub fn notify_all(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.inner.notify_all();
    }
}

impl WaitTimeoutResult {
    pub fn timed_out(self) -> bool {
        self.0
    }
}

/// As mio's: what wakes a worker that waits for its sockets, or keeps it from waiting the next time.
#[derive(Debug, Default)]
pub(crate) struct Waker {
    called: Mutex<bool>,
    sleeper: Condvar,
}

impl Waker {
    pub fn wake(&self) -> io::Result<()> {
        *self.called.lock() = true;
        self.sleeper.notify_one();
        Ok(())
    }

    /// Blocks until it is called, or `ready` by the time of a `look_again`, for at most `wait`.
    pub fn sleep(&self, wait: Option<Duration>, ready: impl Fn() -> bool) {
        let until = wait.map(|wait| now() + wait);
        let mut called = self.called.lock();
        while !std::mem::take(&mut *called) && !ready() {
            match until {
                None => self.sleeper.wait(&mut called),
                Some(until)
                    if wait == Some(Duration::ZERO) || self.sleeper.wait_until(&mut called, until).timed_out() =>
                {
                    return;
                }
                Some(_) => {}
            }
        }
    }

    /// Something else than a call is ready.
    pub fn look_again(&self) {
        drop(self.called.lock());
        self.sleeper.notify_one();
    }
}

/// So many turns the others get at most before a wait ends by its time.
const PATIENCE: u32 = 12;

//! The due messages, and the threads that must be woken for them: the worker, which takes them, or the timer.

use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::filling::Sealed;
use super::places::Queue;
use crate::deadline::Deadline;

impl Queue {
    /// Makes all messages due, since they leave together, unless the worker has taken the one with this ticket. Returns
    /// `true` if the worker must be woken.
    #[must_use = "the worker must be woken"]
    pub fn due(&mut self, ticket: u64) -> bool {
        if ticket >= self.taken && ticket < self.accepted {
            self.all_due();
        }
        self.wake()
    }

    /// Makes every message due. Returns `true` if the worker must be woken.
    #[must_use = "the worker must be woken"]
    pub fn deliver(&mut self) -> bool {
        self.all_due();
        self.wake()
    }

    /// Moves every chunk that holds a due message to `out`, whole: first the sealed chunks from the channel, then, when
    /// the channel is empty, the open chunk or lanes. Returns `true` if there was any.
    pub fn take_due(&mut self, Sealed(sealed): &Sealed, out: &mut VecDeque<Chunk>) -> bool {
        if !self.has_due() {
            return false;
        }
        out.extend(sealed.try_iter().take(mem::take(&mut self.due_chunks)).map(|chunk| *chunk));
        if self.open_is_due() {
            debug_assert!(sealed.is_empty(), "all that was sealed before is due with it");
            out.extend(iter::from_fn(|| self.filling.take(self.accepted)));
            self.all_due();
            self.leave_fast_path();
        }
        if let Some(last) = out.back() {
            self.taken = last.upto;
        }
        true
    }

    /// The worker is about to wait: from now on it must be woken. Not if something is due.
    pub fn sleep(&mut self) {
        self.worker_sleeps |= !self.has_due();
    }

    /// `true` if the worker must be woken for something that is no message; it counts as woken then.
    #[must_use = "the worker must be woken"]
    pub fn rouse(&mut self) -> bool {
        mem::take(&mut self.worker_sleeps)
    }

    /// The timer asks for its next wait: messages that are old enough at `now` become due. Returns the next moment,
    /// *never* if nothing waits, and `true` if the worker must be woken.
    #[must_use = "the worker must be woken"]
    pub fn tick(&mut self, now: Instant) -> (Deadline, bool) {
        let deadline = self.interval_end();
        if deadline.passed(now) {
            self.all_due();
        }
        self.timer_armed = self.waits();
        self.leave_fast_path();
        (if self.timer_armed { deadline } else { Deadline::NEVER }, self.wake())
    }

    /// `true` if there are due messages that the worker has not taken.
    #[must_use]
    pub fn has_due(&self) -> bool {
        self.taken < self.due_upto
    }

    /// `true` if the worker must be woken for anything new.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.worker_sleeps
    }

    /// `true` if the timer must look when the oldest message becomes due.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.timer_armed
    }

    /// The time at which the oldest message that is not due came, or an earlier one that leaves with it.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Instant> {
        if !self.waits() {
            return None;
        }
        let later = self.arrivals.partition_point(|arrival| arrival.first <= self.due_upto);
        self.arrivals.get(later.checked_sub(1)?).map(|arrival| arrival.at)
    }

    /// Chunks that begin within this time of each other share an arrival. Without it there would be as many arrivals as
    /// messages where each message is a chunk.
    pub(super) fn precision(&self) -> Duration {
        if self.limits.interval.is_zero() { ARRIVED_TOGETHER } else { ARRIVED_TOGETHER.min(self.limits.interval / 8) }
    }

    pub(super) fn has_enough(&self) -> bool {
        let waiting = self.accepted - self.due_upto;
        (self.limits.threshold > 0 && waiting >= self.limits.threshold as u64)
            || self.held() >= self.limits.messages
            || self.waiting_bytes >= self.limits.batch_bytes
    }

    fn waits(&self) -> bool {
        self.accepted > self.due_upto
    }

    pub(super) fn all_due(&mut self) {
        self.due_upto = self.accepted;
        self.due_chunks = self.filling.sealed();
        self.waiting_bytes = 0;
    }

    pub(super) fn wake(&mut self) -> bool {
        self.has_due() && self.rouse()
    }

    pub(super) fn arm(&mut self) -> bool {
        let arm = !self.timer_armed && !self.limits.interval.is_zero() && self.waits();
        self.timer_armed |= arm;
        arm
    }

    fn interval_end(&self) -> Deadline {
        match self.oldest_waiting() {
            Some(since) if !self.limits.interval.is_zero() => Deadline::after(since, self.limits.interval),
            _ => Deadline::NEVER,
        }
    }

    /// Seals the open chunk or lanes, and sends them to the worker.
    pub(super) fn seal(&mut self) {
        let due = self.open_is_due();
        self.filling.seal(self.accepted);
        if due {
            self.all_due();
        }
        self.leave_fast_path();
    }

    /// `true` if the open chunk or lanes hold a due message. They leave as a whole, so their other messages become due
    /// when they are sealed.
    fn open_is_due(&self) -> bool {
        self.filling.first().is_some_and(|first| first < self.due_upto)
    }
}

const ARRIVED_TOGETHER: Duration = Duration::from_millis(1);

//! The end of a producer: callers close the queue, wait for the threads, and take the messages that are left.

use std::mem;

use super::super::state::{Abandon, Delivery, Ended, Remains, State, Totals, Unfinished};
use super::{Gate, tell_and_leave};
use crate::deadline::Deadline;
use crate::queue::Phase;

impl Gate {
    /// Closes the queue: its messages become due, and callers that wait for room get an answer.
    pub fn close(&self) {
        let mut state = self.state.lock();
        if state.queue.phase() == Phase::Idle {
            state.worker_ended = true;
            state.finished_upto = u64::MAX;
            state.purges_done = u64::MAX;
        }
        state.queue.close();
        self.room.notify_all();
        self.timer.notify_all();
        tell_and_leave(state);
    }

    /// Makes the worker give up the messages without a fate.
    pub fn abandon(&self, to: Abandon) {
        let mut state = self.state.lock();
        state.abandon.get_or_insert(to);
        tell_and_leave(state);
    }

    /// Blocks until the worker, or all threads, have ended, for at most `until`. Returns `true` if they have.
    pub fn wait_ended(&self, which: Ended, until: Deadline) -> bool {
        let ended =
            |state: &State| state.worker_ended && (which == Ended::Worker || state.delivery != Delivery::Running);
        self.wait_for(until, |state| ended(state).then_some(())).is_some()
    }

    /// `true` for the first call.
    pub fn claim(&self) -> bool {
        !mem::replace(&mut self.state.lock().claimed, true)
    }

    /// The counts of messages by their ends, and of those without one, unless the worker has ended. If this is for the
    /// `first` call, which goes on without the messages, the next call is the first again.
    pub fn leave_behind(&self, first: bool) -> Option<(Totals, u64)> {
        let mut state = self.state.lock();
        if state.worker_ended {
            return None;
        }
        state.claimed &= !first;
        Some((state.totals, state.unfinished().messages))
    }

    pub fn take_remains(&self) -> Remains {
        mem::take(&mut self.state.lock().remains)
    }

    pub fn totals(&self) -> Totals {
        self.state.lock().totals
    }

    pub fn unfinished(&self) -> Unfinished {
        self.state.lock().unfinished()
    }
}

//! The end of a producer: callers close the queue, have messages given up, and wait for the threads.

use super::super::state::{Abandon, Ended, Totals};
use super::Gate;
use crate::deadline::Deadline;
use crate::queue::Phase;

impl Gate {
    /// Closes the queue: its messages become due, and callers that wait for room get an answer.
    pub fn close(&self) {
        self.with(|state| {
            if state.queue.phase() == Phase::Idle {
                state.worker_ended = true;
                state.finished_upto = u64::MAX;
                state.purges_done = u64::MAX;
            }
            state.queue.close();
            state.tell();
        });
        self.room.notify_all();
        self.timer.notify_all();
    }

    /// Makes the worker give up the messages without a fate.
    pub fn abandon(&self, to: Abandon) {
        self.with(|state| {
            state.asked.abandon.get_or_insert(to);
            state.tell();
        });
    }

    /// Blocks until the worker, or all threads, have ended, for at most `until`. Returns `true` if they have.
    pub fn wait_ended(&self, which: Ended, until: Deadline) -> bool {
        self.wait_for(until, |state| state.has_ended(which).then_some(())).is_some()
    }

    /// The counts of messages by their ends, and of those without one, unless the worker has ended. If this is for the
    /// `first` call, which goes on without the messages, the next call is the first again.
    pub fn leave_behind(&self, first: bool) -> Option<(Totals, u64)> {
        self.with(|state| {
            let runs = !state.worker_ended;
            state.claimed &= !(first && runs);
            runs.then(|| (state.totals, state.unfinished().messages))
        })
    }
}

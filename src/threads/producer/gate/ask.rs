//! The requests of callers to the worker, with a wait for the answer: a flush, a purge, the number of partitions of a
//! topic. Each wait has a step before it and one behind it, which the simulation calls by themselves, because it cannot
//! wait.

use std::sync::Arc;
use std::time::Duration;

use super::super::state::{Flush, State, Totals, Unfinished};
use super::{Gate, tell, wait_until, wake_unlocked};
use crate::deadline::Deadline;
use crate::engine::producer::FailedMessages;
use crate::error::{DeliveryErrorKind, FatalError, InvalidTopic};
use crate::queue::Phase;
use crate::sync::MutexGuard;
use crate::threads::clock;

#[derive(Debug)]
pub enum Unanswered {
    Idle,
    Timeout(Option<Arc<DeliveryErrorKind>>),
    InvalidTopic(InvalidTopic),
    Closed,
    Fatal(Arc<FatalError>),
}

impl Gate {
    /// Makes all messages leave now, and blocks until those accepted before have their fates and their callbacks have
    /// returned, for at most `timeout`. Returns the counts of the meantime.
    pub fn flush(&self, timeout: Duration) -> Result<Totals, Unfinished> {
        let until = Deadline::after(clock::now(), timeout);
        let Some(flush) = self.begin_flush() else { return Ok(Totals::default()) };
        self.wait_for(until, |state| state.is_flushed(&flush).then_some(()));
        self.end_flush(&flush)
    }

    /// Asks for a flush, if any message has no fate yet; [`end_flush`](Self::end_flush) follows.
    pub fn begin_flush(&self) -> Option<Flush> {
        let mut state = self.state.lock();
        let flush = state.flush();
        if state.is_flushed(&flush) {
            return None;
        }
        state.flushing += 1;
        state.awaited = true;
        tell_to_deliver(&mut state);
        Some(flush)
    }

    /// Ends a flush that is finished, or whose time is up.
    pub fn end_flush(&self, flush: &Flush) -> Result<Totals, Unfinished> {
        let mut state = self.state.lock();
        state.flushing -= 1;
        state.flushed(flush)
    }

    /// Takes back what was never written. Blocks until the worker has looked, for at most `timeout`; what it takes back
    /// later is for the next call.
    pub fn purge(&self, timeout: Duration) -> Option<Vec<FailedMessages>> {
        let until = Deadline::after(clock::now(), timeout);
        let Some(mine) = self.begin_purge() else { return Some(Vec::new()) };
        self.wait_for(until, |state| state.end_purge(mine))
    }

    /// Asks for a purge, and gives its number; not if there was never a message.
    pub fn begin_purge(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.queue.phase() == Phase::Idle {
            return None;
        }
        state.purges += 1;
        let mine = state.purges;
        tell_to_deliver(&mut state);
        Some(mine)
    }

    /// The number of partitions of the topic. Blocks until a broker has told it, for at most `timeout`.
    pub fn partitions(&self, topic: &str, timeout: Duration) -> Result<i32, Unanswered> {
        let until = Deadline::after(clock::now(), timeout);
        let mut state = self.state.lock();
        if state.queue.phase() == Phase::Idle {
            return Err(Unanswered::Idle);
        }
        let topic = state.queue.topic(topic).map_err(Unanswered::InvalidTopic)?;
        state.ask(topic);
        tell(&mut state);
        drop(state);
        let answer = self.wait_for(until, |state| {
            let fatal = || state.fatal.as_ref().map(|fatal| Err(Unanswered::Fatal(Arc::clone(fatal))));
            let ended = || state.worker_ended.then_some(Err(Unanswered::Closed));
            state.answer(topic).map(Ok).or_else(fatal).or_else(ended)
        });
        let mut state = self.state.lock();
        let answer = answer.unwrap_or_else(|| Err(Unanswered::Timeout(state.cause(topic))));
        let gone = state.ask_no_more(topic);
        drop(state);
        drop(gone);
        answer
    }

    /// Blocks until `look` finds something, at most until `until`.
    pub(super) fn wait_for<T>(&self, until: Deadline, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            let found = look(&mut state);
            if found.is_some() || until.passed(clock::now()) {
                return found;
            }
            wait_until(&self.done, &mut state, until);
        }
    }

    /// Looks at the state under the lock.
    #[cfg(feature = "_internal")]
    pub fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }
}

/// Makes the worker look at its orders, with every message due.
fn tell_to_deliver(state: &mut MutexGuard<'_, State>) {
    state.news = true;
    // Either may find the worker asleep, and then the other does not.
    if state.queue.deliver() || state.queue.rouse() {
        wake_unlocked(state);
    }
}

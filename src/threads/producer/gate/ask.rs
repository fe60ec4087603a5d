//! The requests of callers to the worker, with a wait for the answer: a flush, a purge, the number of partitions of a
//! topic. Each wait has a step before it and one behind it, which the simulation calls by themselves, because it cannot
//! wait.

use std::sync::Arc;
use std::time::Duration;

use super::super::state::{Flush, State, Totals, Unfinished};
use super::{Gate, wait_until};
use crate::deadline::Deadline;
use crate::engine::producer::FailedMessages;
use crate::error::{DeliveryErrorKind, FatalError, InvalidTopic};
use crate::queue::Phase;
use crate::threads::clock;

#[derive(Debug)]
pub enum Unanswered {
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
        self.with(|state| {
            let flush = state.flush();
            if state.is_flushed(&flush) {
                return None;
            }
            state.asked.flushing += 1;
            state.asked.awaited = true;
            state.tell_to_deliver();
            Some(flush)
        })
    }

    /// Ends a flush that is finished, or whose time is up.
    pub fn end_flush(&self, flush: &Flush) -> Result<Totals, Unfinished> {
        self.with(|state| {
            state.asked.flushing -= 1;
            state.flushed(flush)
        })
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
        self.with(|state| {
            (state.queue.phase() != Phase::Idle).then(|| {
                state.asked.purges += 1;
                state.tell_to_deliver();
                state.asked.purges
            })
        })
    }

    /// The number of partitions of the topic, once the threads have started. Blocks until a broker has told it, for at
    /// most `timeout`.
    pub fn partitions(&self, topic: &str, timeout: Duration) -> Result<i32, Unanswered> {
        let until = Deadline::after(clock::now(), timeout);
        let topic = self.with(|state| {
            let topic = state.queue.topic(topic).map_err(Unanswered::InvalidTopic)?;
            state.asks.entry(topic).or_default().callers += 1;
            state.tell();
            Ok(topic)
        })?;
        let answer = self.wait_for(until, |state| {
            let fatal = state.fatal.as_ref().map(|fatal| Err(Unanswered::Fatal(Arc::clone(fatal))));
            let ended = || state.worker_ended.then_some(Err(Unanswered::Closed));
            let count = || state.queue.partitions(topic).map(|count| Ok(count as i32));
            fatal.or_else(ended).or_else(count)
        });
        let (answer, _ask) = self.with(|state| {
            let answer = answer.unwrap_or_else(|| Err(Unanswered::Timeout(state.cause(topic))));
            (answer, state.ask_no_more(topic))
        });
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
}

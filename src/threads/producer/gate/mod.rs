//! The meeting point of callers and threads: the queue under its lock, and the requests of callers to the worker. The
//! worker's side is `exchange`: once per turn it hands in its report and takes its orders, under one lock. Nobody
//! blocks while holding the lock, and the worker is woken after it is released.
//!
//! Every request is a number or a flag that the worker compares with what it has done (`due_upto` in the queue,
//! `finished_upto`, `purges`), so requests merge, none is dropped, and no queue of commands is needed.

use std::io;
use std::mem;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::role::GateId;
use super::state::State;
use super::{Role, role};
use crate::config::{ProducerConfig, QueueConfig};
use crate::deadline::Deadline;
use crate::error::ProduceErrorKind;
use crate::fate::slot::{Owner, Slot};
use crate::message::{Message, Timestamp, Topic};
use crate::queue::{Limits, Prepared, Queue, Refused, Sealed};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, Waker};
use crate::threads::clock;

mod ask;
mod end;
mod serve;

pub use self::ask::Unanswered;
pub use self::serve::Next;

pub struct Gate {
    id: GateId,
    max_message_bytes: usize,
    /// See [`Prepared::is_good`].
    good_bytes: usize,
    /// The process in which the threads run; 0 before they start. Kept outside the lock, which a forked child may have
    /// inherited locked.
    pid: AtomicU32,
    /// All that the callers, the worker, the timer and the delivery thread tell each other.
    state: Mutex<State>,
    /// For the worker, which may be started more than once if threads run out.
    sealed: Sealed,
    /// Signalled when places became free, or the queue was closed.
    room: Condvar,
    /// Signalled when the timer has something to wait for, or must end.
    timer: Condvar,
    /// Signalled when a flush, a purge, an answer or a thread is done.
    done: Condvar,
}

impl Gate {
    pub fn new(config: &QueueConfig, producer: &ProducerConfig) -> Self {
        let limits = Limits {
            messages: config.max_queue_size,
            bytes: config.max_queue_bytesize,
            threshold: config.delivery_threshold,
            interval: config.delivery_interval,
            batch_bytes: producer.max_batch_bytes,
        };
        let (queue, sealed) = Queue::new(limits, &producer.partitioner);
        Self {
            id: GateId::next(),
            max_message_bytes: producer.max_message_bytes,
            good_bytes: Prepared::good_bytes(producer.max_message_bytes),
            pid: AtomicU32::new(0),
            state: Mutex::new(State::new(queue)),
            sealed,
            room: Condvar::new(),
            timer: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// Tells it from all other gates of this process.
    pub(crate) fn id(&self) -> GateId {
        self.id
    }

    /// `true` if the threads run in another process, of which this is a fork. Never locks.
    pub fn forked(&self) -> bool {
        self.pid().is_some_and(|pid| pid != process::id())
    }

    /// `true` if the threads were ever started. Never locks.
    pub fn started(&self) -> bool {
        self.pid().is_some()
    }

    /// The process in which the threads run, once they were started.
    fn pid(&self) -> Option<u32> {
        let pid = self.pid.load(Ordering::Relaxed);
        (pid != 0).then_some(pid)
    }

    /// The worker's end of the channel of sealed chunks.
    pub fn sealed(&self) -> Sealed {
        self.sealed.clone()
    }

    /// Opens the queue: the threads run.
    pub fn open(&self, waker: Option<Arc<Waker>>, has_delivery: bool) {
        self.pid.store(process::id(), Ordering::Relaxed);
        let mut state = self.state.lock();
        state.waker = waker;
        state.delivery_runs = has_delivery;
        state.queue.start();
    }

    /// Queues the message and returns its ticket. Blocks while the queue is full, for at most `wait`. `now` is the time
    /// of a message that has none; `start` starts the threads, for the first message.
    ///
    /// # Errors
    /// The reason why it is not queued.
    // Always inlined: 351 instructions instead of 423, and 512 instead of 588 with keys.
    #[inline(always)]
    pub fn offer(
        &self,
        message: &Message<'_>,
        now: Timestamp,
        slot: Option<Slot<'_>>,
        wait: Duration,
        start: &dyn Fn() -> io::Result<()>,
    ) -> Result<u64, ProduceErrorKind> {
        // Three times the same: the compiler makes shorter ways where it knows the parts of a message, which it does
        // where the message was just made. By `append_any` alone it is 526 instead of 351 instructions, and 686 instead
        // of 512 with keys.
        let (time, tag) = (message.create_time.unwrap_or(now), message.tag);
        let topic = message.topic.checked().filter(|_| message.has_only_key_and_value());
        let like_last = match (topic, message.key(), message.value()) {
            (Some(topic), None, Some(value)) => self.append_value(topic, value, time, tag, slot),
            (Some(topic), Some(key), Some(value)) => self.append_key_and_value(topic, key, value, time, tag, slot),
            _ => self.append_any(message, now, slot),
        };
        match like_last {
            Some(ticket) => Ok(ticket),
            None => self.offer_slow(message, now, slot, wait, start),
        }
    }

    #[inline(never)]
    fn append_value(
        &self,
        topic: &Topic,
        value: &[u8],
        time: Timestamp,
        tag: u64,
        slot: Option<Slot<'_>>,
    ) -> Option<u64> {
        self.append_like_last(&Prepared::of_key_and_value(topic, None, value, time, tag), slot)
    }

    #[inline(never)]
    fn append_key_and_value(
        &self,
        topic: &Topic,
        key: &[u8],
        value: &[u8],
        time: Timestamp,
        tag: u64,
        slot: Option<Slot<'_>>,
    ) -> Option<u64> {
        self.append_like_last(&Prepared::of_key_and_value(topic, Some(key), value, time, tag), slot)
    }

    #[inline(never)]
    fn append_any(&self, message: &Message<'_>, now: Timestamp, slot: Option<Slot<'_>>) -> Option<u64> {
        self.append_like_last(&Prepared::of(message, now), slot)
    }

    /// [The fast path](Queue::append_like_last), if the lock is free.
    // Always inlined: 351 instructions instead of 451, and 512 instead of 626 with keys.
    #[inline(always)]
    fn append_like_last(&self, message: &Prepared<'_, '_>, slot: Option<Slot<'_>>) -> Option<u64> {
        if !message.is_good(self.good_bytes) {
            return None;
        }
        self.state.lock_soon()?.queue.append_like_last(message, slot)
    }

    /// As [`offer`](Self::offer), for a message that needs more than appending, or has no room.
    #[inline(never)]
    fn offer_slow(
        &self,
        message: &Message<'_>,
        now: Timestamp,
        slot: Option<Slot<'_>>,
        wait: Duration,
        start: &dyn Fn() -> io::Result<()>,
    ) -> Result<u64, ProduceErrorKind> {
        let message = Prepared::new(message, self.max_message_bytes, now)?;
        // Places become free only after the user's code on this thread has returned.
        let wait = if role(self.id).is_some() { Duration::ZERO } else { wait };
        let (mut large, mut until) = (None, None);
        let mut state = self.lock_unless_forked().ok_or(ProduceErrorKind::AfterFork)?;
        loop {
            if let Some(fatal) = &state.fatal {
                return Err(ProduceErrorKind::Fatal(Arc::clone(fatal)));
            }
            // The process id is looked at for the first message of a chunk and every 1,024th.
            let clock = || (!self.forked()).then(clock::now);
            let full = match state.queue.offer(&message, &mut large, slot, clock) {
                Ok(accepted) => {
                    // A forked child touches no condition or waker of its parent's threads.
                    if (accepted.arm || accepted.wake) && self.forked() {
                        return Err(ProduceErrorKind::AfterFork);
                    }
                    if accepted.arm {
                        self.timer.notify_one();
                    }
                    if accepted.wake {
                        leave_and_wake(state);
                    }
                    return Ok(accepted.ticket);
                }
                Err(Refused::Full(full)) => full,
                Err(Refused::Idle) => {
                    drop(state);
                    start().map_err(ProduceErrorKind::Start)?;
                    state = self.state.lock();
                    continue;
                }
                Err(Refused::Unencoded) => {
                    large = MutexGuard::unlocked(&mut state, || message.encode_large());
                    continue;
                }
                Err(Refused::Forked) => return Err(ProduceErrorKind::AfterFork),
                Err(Refused::Closed) => return Err(ProduceErrorKind::Closed),
                Err(Refused::InvalidTopic(error)) => return Err(ProduceErrorKind::InvalidTopic(error)),
            };
            if self.forked() {
                return Err(ProduceErrorKind::AfterFork);
            }
            if full.wake {
                wake_unlocked(&mut state);
                continue;
            }
            let now = clock::now();
            let until = *until.get_or_insert(Deadline::after(now, wait));
            if wait.is_zero() || until.passed(now) {
                return Err(state.overflow(&full));
            }
            state.waiters += 1;
            wait_until(&self.room, &mut state, until);
            state.waiters -= 1;
        }
    }

    /// The lock; none in a forked child that inherited it locked, where nobody would ever unlock it. To wait for a
    /// holder costs more than a look at the process id. A caller that comes here without the lock has stood back for it
    /// in `offer`.
    fn lock_unless_forked(&self) -> Option<MutexGuard<'_, State>> {
        let soon = self.state.try_lock();
        if soon.is_some() || self.forked() { soon } else { Some(self.state.join()) }
    }

    /// Does this under the lock, and wakes the worker behind it if that must be.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = act(&mut state);
        if mem::take(&mut state.wake) {
            leave_and_wake(state);
        }
        result
    }

    /// Makes the message with this ticket leave now.
    pub fn due(&self, ticket: u64) {
        self.with(|state| {
            state.asked.awaited = true;
            state.wake = state.queue.due(ticket);
        });
    }

    /// Makes all messages leave now.
    pub fn deliver(&self) {
        self.with(|state| state.wake = state.queue.deliver());
    }
}

/// Wakes the worker, which counts as woken. The wake-up is a system call, and its failure is a line in the log: both
/// come after the lock is released, and the lock is not taken again only to be released.
fn leave_and_wake(state: MutexGuard<'_, State>) {
    if let Some(waker) = state.waker.clone() {
        drop(state);
        wake(&waker);
    }
}

/// The same for a caller that goes on under the lock.
fn wake_unlocked(state: &mut MutexGuard<'_, State>) {
    if let Some(waker) = state.waker.clone() {
        MutexGuard::unlocked(state, || wake(&waker));
    }
}

fn wake(waker: &Waker) {
    if let Err(error) = waker.wake() {
        log::error!("the worker cannot be woken ({error}); it goes on at its next deadline");
    }
}

fn wait_until(condvar: &Condvar, state: &mut MutexGuard<'_, State>, until: Deadline) {
    match until.moment() {
        Some(moment) => {
            condvar.wait_until(state, moment);
        }
        None => condvar.wait(state),
    }
}

impl Owner for Gate {
    fn due(&self, ticket: u64) {
        self.due(ticket);
    }

    fn works_here(&self) -> bool {
        role(self.id) == Some(Role::Worker)
    }

    fn process(&self) -> Option<u32> {
        self.pid()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests;

//! Where callers and threads meet: the queue under its lock, and what callers ask of the worker. The worker's side is
//! `exchange`: once per turn it hands in what happened and takes what is asked, under one lock. Nobody blocks while
//! holding the lock, and the worker is woken after it is released.
//!
//! Everything asked for is a number or a flag that the worker compares with what it did (`due_upto` in the queue,
//! `finished_upto`, `purges`), so requests merge, none is dropped, and no queue of commands is needed.

use std::mem;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::state::{Abandon, Delivery, Ended, Flush, Orders, Remains, Report, State, Totals, Unfinished};
use super::{Role, role};
use crate::config::{ProducerConfig, QueueConfig};
use crate::deadline::Deadline;
use crate::engine::producer::{BatchFate, Errors};
use crate::error::{DeliveryErrorKind, FatalError, InvalidTopic, ProduceErrorKind};
use crate::fate::slot::{Owner, Slot};
use crate::message::{Message, Timestamp};
use crate::queue::{Checked, Limits, Phase, Queue, Refused, Usual};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard, Waker};
use crate::threads::clock;

pub(crate) struct Gate {
    number: u32,
    /// Bytes of a usual message.
    usual_bytes: usize,
    /// The process in which the threads run; 0 before they start. Apart from the lock, which a forked child may have
    /// inherited locked.
    pid: AtomicU32,
    /// Between the callers, the worker, the timer and the delivery thread: all that they tell each other.
    state: Mutex<State>,
    /// Places became free, or the queue was closed.
    room: Condvar,
    /// The timer has something to wait for, or must end.
    timer: Condvar,
    /// A flush, a purge, an answer or a thread is done.
    done: Condvar,
}

/// Why `offer` did not take a message.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The threads do not run yet.
    Idle,
    For(ProduceErrorKind),
}

#[derive(Debug)]
pub(crate) enum Unanswered {
    Idle,
    Timeout(Option<Arc<DeliveryErrorKind>>),
    InvalidTopic(InvalidTopic),
    Closed,
    Fatal(Arc<FatalError>),
}

/// What the worker does after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Look,
    /// Nothing is asked: it may wait, and will be woken.
    Sleep,
}

impl Gate {
    pub fn new(config: &QueueConfig, producer: &ProducerConfig) -> Self {
        let mut queue = Queue::new(Limits {
            messages: config.max_queue_size,
            bytes: config.max_queue_bytesize,
            threshold: config.delivery_threshold,
            interval: config.delivery_interval,
            batch_bytes: producer.max_batch_bytes,
            spreads: !producer.partitioner.is_custom(),
        });
        queue.place_by(&producer.partitioner);
        Self {
            number: queue.number(),
            usual_bytes: Usual::bytes(producer.max_message_bytes),
            pid: AtomicU32::new(0),
            state: Mutex::new(State::new(queue)),
            room: Condvar::new(),
            timer: Condvar::new(),
            done: Condvar::new(),
        }
    }

    /// A number that no other gate has.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether the threads run in another process, of which this is a fork. Never locks.
    pub fn forked(&self) -> bool {
        let pid = self.pid.load(Ordering::Relaxed);
        pid != 0 && pid != process::id()
    }

    /// Whether the threads were ever started. Never locks.
    pub fn started(&self) -> bool {
        self.pid.load(Ordering::Relaxed) != 0
    }

    /// Opens the queue: the threads run.
    pub(super) fn open(&self, waker: Option<Arc<Waker>>, has_delivery: bool) {
        self.pid.store(process::id(), Ordering::Relaxed);
        let mut state = self.state.lock();
        state.waker = waker;
        if has_delivery {
            state.delivery = Delivery::Running;
        }
        state.queue.start();
    }

    /// Queues a message, if it is of the usual kind, the lock is to be had, and nothing else is to be done. Gives its
    /// ticket. `create_time` is for a message that has none.
    #[inline(always)]
    pub fn offer_quietly(
        &self,
        message: &Message<'_>,
        create_time: impl Fn() -> Timestamp,
        slot: Option<Slot<'_>>,
    ) -> Option<u64> {
        match Usual::plain(message, self.usual_bytes, &create_time) {
            Some(message) => self.state.lock_soon()?.queue.offer_plain(&message, slot),
            None => self.offer_not_plain(message, create_time, slot),
        }
    }

    #[inline(never)]
    fn offer_not_plain(
        &self,
        message: &Message<'_>,
        create_time: impl Fn() -> Timestamp,
        slot: Option<Slot<'_>>,
    ) -> Option<u64> {
        self.offer_keyed_quietly(message, create_time, slot)
    }

    /// As [`offer_quietly`](Self::offer_quietly), shorter for a message with a key.
    #[inline(always)]
    pub fn offer_keyed_quietly(
        &self,
        message: &Message<'_>,
        create_time: impl Fn() -> Timestamp,
        slot: Option<Slot<'_>>,
    ) -> Option<u64> {
        match Usual::keyed(message, self.usual_bytes, &create_time) {
            Some(message) => self.state.lock_soon()?.queue.offer_keyed(&message, slot),
            None => self.offer_usual(message, create_time, slot),
        }
    }

    #[inline(never)]
    fn offer_usual(
        &self,
        message: &Message<'_>,
        create_time: impl Fn() -> Timestamp,
        slot: Option<Slot<'_>>,
    ) -> Option<u64> {
        let message = Usual::new(message, self.usual_bytes, create_time)?;
        self.state.lock_soon()?.queue.offer_usual(&message, slot)
    }

    /// Queues the message and returns its ticket. Blocks while the queue is full, for at most `wait`.
    pub fn offer(&self, message: &mut Checked<'_, '_>, slot: Option<Slot<'_>>, wait: Duration) -> Result<u64, Refusal> {
        let after_fork = || Refusal::For(ProduceErrorKind::AfterFork);
        let mut until = None;
        let mut state = self.lock_unless_forked().ok_or_else(after_fork)?;
        loop {
            if let Some(fatal) = &state.fatal {
                return Err(Refusal::For(ProduceErrorKind::Fatal(Arc::clone(fatal))));
            }
            // The process id is looked at for the first message of a chunk and every 1,024th.
            let clock = || (!self.forked()).then(clock::now);
            let full = match state.queue.offer(message, slot, clock) {
                Ok(accepted) => {
                    // A forked child touches nothing that its parent's threads wait for.
                    if (accepted.arm || accepted.wake) && self.forked() {
                        return Err(after_fork());
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
                Err(Refused::Idle) => return Err(Refusal::Idle),
                Err(Refused::Forked) => return Err(after_fork()),
                Err(Refused::Closed) => return Err(Refusal::For(ProduceErrorKind::Closed)),
                Err(Refused::InvalidTopic(error)) => return Err(Refusal::For(ProduceErrorKind::InvalidTopic(error))),
            };
            if self.forked() {
                return Err(after_fork());
            }
            if full.wake {
                state.wake_unlocked();
                continue;
            }
            if wait.is_zero() {
                return Err(state.overflow(&full));
            }
            let now = clock::now();
            let until = *until.get_or_insert(Deadline::after(now, wait));
            if until.passed(now) {
                return Err(state.overflow(&full));
            }
            state.waiters += 1;
            wait_until(&self.room, &mut state, until);
            state.waiters -= 1;
        }
    }

    /// The lock; nothing in a forked child that inherited it locked, where nobody would ever unlock it. Whoever must be
    /// waited for costs more than a look at the process id. Who comes here without having it has stood back for it in
    /// `offer_quietly`.
    fn lock_unless_forked(&self) -> Option<MutexGuard<'_, State>> {
        let soon = self.state.try_lock();
        if soon.is_some() || self.forked() { soon } else { Some(self.state.join()) }
    }

    /// Makes the message with this ticket leave now.
    pub fn due(&self, ticket: u64) {
        let mut state = self.state.lock();
        state.awaited = true;
        if state.queue.due(ticket) {
            leave_and_wake(state);
        }
    }

    /// Makes all messages leave now.
    pub fn deliver(&self) {
        let mut state = self.state.lock();
        if state.queue.deliver() {
            leave_and_wake(state);
        }
    }

    /// Makes all messages leave now, and blocks until those accepted before have their fates and their callbacks have
    /// returned, for at most `timeout`. Returns what happened meanwhile.
    pub fn flush(&self, timeout: Duration) -> Result<Totals, Unfinished> {
        let until = Deadline::after(clock::now(), timeout);
        let mut state = self.state.lock();
        let Some(flush) = state.begin_flush() else { return Ok(Totals::default()) };
        state.awaited = true;
        while !state.is_flushed(&flush) && !until.passed(clock::now()) {
            wait_until(&self.done, &mut state, until);
        }
        state.flushing -= 1;
        state.flushed(&flush)
    }

    /// Takes back what was never written. Blocks until the worker has looked, for at most `timeout`; what it takes back
    /// later is for the next call.
    pub fn purge(&self, timeout: Duration) -> Option<Vec<Errors>> {
        let until = Deadline::after(clock::now(), timeout);
        let mut state = self.state.lock();
        let Some(mine) = state.begin_purge() else { return Some(Vec::new()) };
        while state.purges_done < mine {
            if until.passed(clock::now()) {
                return None;
            }
            wait_until(&self.done, &mut state, until);
        }
        Some(mem::take(&mut state.purged))
    }

    /// How many partitions the topic has. Blocks until a broker told, for at most `timeout`.
    pub fn partitions(&self, topic: &str, timeout: Duration) -> Result<i32, Unanswered> {
        let until = Deadline::after(clock::now(), timeout);
        let mut state = self.state.lock();
        if state.queue.phase() == Phase::Idle {
            return Err(Unanswered::Idle);
        }
        let topic = state.queue.topic(topic).map_err(Unanswered::InvalidTopic)?;
        state.ask(topic);
        state.tell();
        let answer = loop {
            if let Some(count) = state.answer(topic) {
                break Ok(count);
            }
            if let Some(fatal) = &state.fatal {
                break Err(Unanswered::Fatal(Arc::clone(fatal)));
            }
            if state.worker_ended {
                break Err(Unanswered::Closed);
            }
            if until.passed(clock::now()) {
                break Err(Unanswered::Timeout(state.cause(topic)));
            }
            wait_until(&self.done, &mut state, until);
        };
        state.ask_no_more(topic);
        answer
    }

    /// Closes the queue; what it holds is due, and who waits for room gets an answer.
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

    /// Makes the worker give up what has no fate.
    pub fn abandon(&self, to: Abandon) {
        let mut state = self.state.lock();
        state.abandon.get_or_insert(to);
        tell_and_leave(state);
    }

    /// Blocks until the worker, or all threads, have ended, and returns whether they have.
    pub fn wait_ended(&self, which: Ended, until: Deadline) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.worker_ended && (which == Ended::Worker || state.delivery != Delivery::Running) {
                return true;
            }
            if until.passed(clock::now()) {
                return false;
            }
            wait_until(&self.done, &mut state, until);
        }
    }

    /// Whether this is the first call.
    pub fn claim(&self) -> bool {
        !mem::replace(&mut self.state.lock().claimed, true)
    }

    /// How many messages ended which way and how many did not, unless the worker has ended. For the `first` call, which
    /// does without the messages: the next one is the first again.
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

    pub fn queue_size(&self) -> usize {
        self.state.lock().queue.held()
    }

    pub fn last_error(&self) -> Option<Arc<DeliveryErrorKind>> {
        self.state.lock().last_error.clone()
    }

    /// Hands in what happened, and takes what is asked. `known_topics` is how many topics the worker was told.
    pub(super) fn exchange(&self, report: &mut Report, orders: &mut Orders, known_topics: usize) -> Next {
        let mut state = self.state.lock();
        let room = (report.released.messages > 0 || !report.held_up.is_empty()) && state.waiters > 0;
        if state.take_in(report) {
            self.done.notify_all();
        }
        let took = state.queue.take_due(&mut orders.chunks);
        let news = mem::take(&mut state.news);
        if !took && !news {
            state.queue.sleep();
        }
        state.hand_out(orders, known_topics);
        drop(state);
        if room {
            self.room.notify_all();
        }
        if took || news { Next::Look } else { Next::Sleep }
    }

    /// The worker has its new waker.
    pub(super) fn set_waker(&self, waker: Option<Arc<Waker>>) {
        self.state.lock().waker = waker;
    }

    /// The worker's last words.
    pub(super) fn worker_ended(&self, report: &mut Report, remains: Remains) {
        let mut state = self.state.lock();
        state.take_in(report);
        state.queue.close();
        state.purges_done = u64::MAX;
        if state.delivery != Delivery::Running {
            state.finished_upto = u64::MAX;
        }
        state.remains = remains;
        // It has a descriptor, which would be kept until the last clone of the producer goes.
        state.waker = None;
        state.worker_ended = true;
        self.room.notify_all();
        self.timer.notify_all();
        self.done.notify_all();
    }

    /// The callbacks of a batch have returned: its places, and its fate, for its memory.
    pub(super) fn called(&self, messages: usize, bytes: usize, fate: Option<BatchFate>) {
        let mut state = self.state.lock();
        state.called.messages += messages;
        state.called.bytes += bytes;
        state.called.fates.extend(fate);
        tell_and_leave(state);
    }

    /// The callbacks of all messages with tickets below this have returned.
    pub(super) fn finished(&self, upto: u64) {
        let mut state = self.state.lock();
        state.finished_upto = state.finished_upto.max(upto);
        self.done.notify_all();
    }

    /// No callback runs any more.
    pub(super) fn delivery_ended(&self) {
        let mut state = self.state.lock();
        state.delivery = Delivery::Ended;
        if state.worker_ended {
            state.finished_upto = u64::MAX;
        }
        self.done.notify_all();
    }

    /// The timer's whole life: makes messages due when they are old enough. Returns when the queue is closed.
    pub(super) fn tick_until_closed(&self) {
        let mut state = self.state.lock();
        while state.queue.phase() != Phase::Closed {
            let (next, wake) = state.queue.tick(clock::now());
            if wake {
                state.wake_unlocked();
            } else {
                wait_until(&self.timer, &mut state, next);
            }
        }
    }
}

/// What blocks, in the steps between which it waits: for the simulation, where nobody can.
#[cfg(all(feature = "_internal", not(all(test, shuttle))))]
impl Gate {
    pub(super) fn begin_flush(&self) -> Option<Flush> {
        self.state.lock().begin_flush()
    }

    /// How the flush ended, if it has or must.
    pub(super) fn end_flush(&self, flush: &Flush, give_up: bool) -> Option<Result<Totals, Unfinished>> {
        let mut state = self.state.lock();
        if !give_up && !state.is_flushed(flush) {
            return None;
        }
        state.flushing -= 1;
        Some(state.flushed(flush))
    }

    pub(super) fn begin_purge(&self) -> Option<u64> {
        self.state.lock().begin_purge()
    }

    /// What this purge got, once it is done.
    pub(super) fn end_purge(&self, mine: u64) -> Option<Vec<Errors>> {
        let mut state = self.state.lock();
        (state.purges_done >= mine).then(|| mem::take(&mut state.purged))
    }

    /// Looks at what is kept under the lock.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }
}

/// Wakes the worker, which counts as woken. That is a system call, and its failure is a line in the log: neither has
/// the lock, and it is not taken again only to be left.
fn leave_and_wake(state: MutexGuard<'_, State>) {
    if let Some(waker) = state.waker.clone() {
        drop(state);
        wake(&waker);
    }
}

fn wake(waker: &Waker) {
    if let Err(error) = waker.wake() {
        log::error!("the worker cannot be woken ({error}); it goes on at its next deadline");
    }
}

/// Makes the worker look at what was asked, and wakes it for that if it sleeps.
fn tell_and_leave(mut state: MutexGuard<'_, State>) {
    state.news = true;
    if state.queue.rouse() {
        leave_and_wake(state);
    }
}

/// The same for who goes on under the lock, which is released while the worker is woken.
trait Wake {
    /// Wakes the worker, which counts as woken.
    fn wake_unlocked(&mut self);
    /// Makes the worker look at what was asked, and wakes it for that if it sleeps.
    fn tell(&mut self);
    /// The same, with every message due.
    fn tell_to_deliver(&mut self);
    /// Asks for a flush, if any message has no fate yet. Who waits for it ends it with `flushing -= 1`.
    fn begin_flush(&mut self) -> Option<Flush>;
    /// Asks for a purge, and gives its number; not if there was never a message.
    fn begin_purge(&mut self) -> Option<u64>;
}

impl Wake for MutexGuard<'_, State> {
    fn wake_unlocked(&mut self) {
        if let Some(waker) = self.waker.clone() {
            MutexGuard::unlocked(self, || wake(&waker));
        }
    }

    fn tell(&mut self) {
        self.news = true;
        if self.queue.rouse() {
            self.wake_unlocked();
        }
    }

    fn tell_to_deliver(&mut self) {
        self.news = true;
        // Either may find the worker asleep, and then the other does not.
        let wake = self.queue.deliver();
        if self.queue.rouse() || wake {
            self.wake_unlocked();
        }
    }

    fn begin_flush(&mut self) -> Option<Flush> {
        let flush = self.flush();
        if self.is_flushed(&flush) {
            return None;
        }
        self.flushing += 1;
        self.tell_to_deliver();
        Some(flush)
    }

    fn begin_purge(&mut self) -> Option<u64> {
        if self.queue.phase() == Phase::Idle {
            return None;
        }
        self.purges += 1;
        let mine = self.purges;
        self.tell_to_deliver();
        Some(mine)
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
        role(self.number) == Some(Role::Worker)
    }

    fn process(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::collections::HashMap;
    use std::thread;

    use super::*;
    use crate::error::Persistence;
    use crate::message::Timestamp;
    use crate::net::Net;

    #[test]
    fn everything_that_is_asked_wakes_a_sleeping_worker() {
        type Ask = (&'static str, fn(&Gate));
        let asked: [Ask; 8] = [
            ("due", |gate| gate.due(0)),
            ("deliver", Gate::deliver),
            ("flush", |gate| drop(gate.flush(Duration::ZERO))),
            ("partitions", |gate| drop(gate.partitions("orders", Duration::ZERO))),
            ("called", |gate| gate.called(1, 1, None)),
            ("abandon", |gate| gate.abandon(Abandon::ToReport)),
            ("close", Gate::close),
            ("a full queue", |gate| (1..10).for_each(|n| drop(put(gate, 0, n, Duration::ZERO)))),
        ];
        for (name, ask) in asked {
            let (gate, mut net) = open(10);
            put(&gate, 0, 0, Duration::ZERO).expect("accepted");
            assert_eq!(gate.exchange(&mut Report::default(), &mut Orders::default(), 0), Next::Sleep, "{name}");
            ask(&gate);
            assert!(poll(&mut net) < SLEEP, "{name} did not wake it");
            let next = gate.exchange(&mut Report::default(), &mut Orders::default(), 0);
            assert_eq!(next, Next::Look, "{name} has something to look at");
        }
    }

    #[test]
    fn the_worker_is_told_once_that_somebody_began_to_wait_for_a_fate() {
        let awaited_after = |ask: fn(&Gate)| {
            let (gate, _net) = open(10);
            put(&gate, 0, 0, Duration::ZERO).expect("accepted");
            ask(&gate);
            let mut orders = Orders::default();
            [0, 1].map(|known_topics| {
                gate.exchange(&mut Report::default(), &mut orders, known_topics);
                orders.awaited
            })
        };
        assert_eq!(awaited_after(|gate| gate.due(0)), [true, false]);
        assert_eq!(awaited_after(|gate| drop(gate.flush(Duration::ZERO))), [true, false]);
        assert_eq!(awaited_after(Gate::deliver), [false, false]);
    }

    #[test]
    fn purge_wakes_a_sleeping_worker_and_gets_its_answer() {
        let (gate, mut net) = open(10);
        put(&gate, 0, 0, Duration::ZERO).expect("accepted");
        let (mut report, mut orders) = (Report::default(), Orders::default());
        gate.exchange(&mut report, &mut orders, 0);
        scope(|scope| {
            let purge = spawn(scope, || gate.purge(SLEEP).expect("in time").len());
            assert!(poll(&mut net) < SLEEP);
            gate.exchange(&mut report, &mut orders, 0);
            assert_eq!((orders.purges, orders.chunks.len()), (1, 1));
            report.purges_done = Some(1);
            report.purged.push(Errors::of(&["v"], DeliveryErrorKind::Purged, Persistence::No));
            gate.exchange(&mut report, &mut orders, 1);
            assert_eq!(purge.join().expect("no panic"), 1);
        });
    }

    #[test]
    fn eight_callers_and_a_sleepy_worker_never_hang_or_swap() {
        const EACH: u64 = 20_000;
        for max_queue_size in [1, 7, 1000] {
            let (gate, mut net) = open(max_queue_size);
            let each = if max_queue_size == 1 { EACH / 20 } else { EACH };
            scope(|scope| {
                for caller in 0..8 {
                    let gate = &gate;
                    spawn(scope, move || {
                        for n in 0..each {
                            put(gate, caller, n, 2 * SLEEP).expect("accepted");
                        }
                        gate.deliver();
                    });
                }
                let (mut report, mut orders) = (Report::default(), Orders::default());
                let mut next: HashMap<u64, u64> = HashMap::new();
                let mut known = 0;
                while next.values().sum::<u64>() < 8 * each {
                    if gate.exchange(&mut report, &mut orders, known) == Next::Sleep {
                        assert!(poll(&mut net) < SLEEP, "a wake-up was lost");
                    }
                    known += orders.topics.drain(..).count();
                    assert!(gate.queue_size() <= max_queue_size);
                    for mut chunk in orders.chunks.drain(..) {
                        for entry in chunk.entries() {
                            let tag = entry.tag;
                            let expected = next.entry(tag >> 32).or_default();
                            assert_eq!(tag & 0xffff_ffff, *expected);
                            *expected += 1;
                        }
                        report.released.messages += chunk.len() as u64;
                        report.released.bytes += chunk.cost;
                        report.spent.push(chunk);
                    }
                }
            });
        }
    }

    fn put(gate: &Gate, caller: u64, n: u64, wait: Duration) -> Result<u64, Refusal> {
        let message = Message::new("orders", "value").with_tag(caller << 32 | n);
        let mut checked = Checked::new(&message, 1000, || Timestamp::from_millis(0)).expect("a good message");
        gate.offer(&mut checked, None, wait)
    }

    fn open(max_queue_size: usize) -> (Gate, Net) {
        let gate = Gate::new(&QueueConfig { max_queue_size, ..QueueConfig::default() }, &ProducerConfig::default());
        let net = Net::new().expect("a place to wait");
        gate.open(Some(net.waker()), false);
        (gate, net)
    }

    /// How long it waited.
    fn poll(net: &mut Net) -> Duration {
        let began = clock::now();
        net.poll(Some(SLEEP), &mut Vec::new()).expect("it can wait");
        clock::now() - began
    }

    #[expect(clippy::disallowed_methods, reason = "callers are threads")]
    fn scope<'env, T>(run: impl for<'scope> FnOnce(&'scope thread::Scope<'scope, 'env>) -> T) -> T {
        thread::scope(run)
    }

    fn spawn<'scope, T: Send + 'scope>(
        scope: &'scope thread::Scope<'scope, '_>,
        run: impl FnOnce() -> T + Send + 'scope,
    ) -> thread::ScopedJoinHandle<'scope, T> {
        scope.spawn(run)
    }

    const SLEEP: Duration = Duration::from_secs(10);
}

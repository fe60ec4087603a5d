//! The plain data that callers and threads exchange. The `gate` keeps it under its lock.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::producer::{Amount, FailedMessages, PartitionCount, Released, TopicCause};
use crate::error::{BufferLimit, BufferOverflow, DeliveryErrorKind, FatalError, ProduceErrorKind};
use crate::ids::TopicIndex;
use crate::message::Topic;
use crate::queue::chunk::Chunk;
use crate::queue::{Full, Limit, Phase, Queue};
use crate::sync::Waker;
use crate::threads::clock;

pub struct State {
    pub queue: Queue,
    pub waker: Option<Arc<Waker>>,
    /// The worker must be woken, once the lock is released.
    pub wake: bool,
    /// Callers that wait for room.
    pub waiters: u32,
    /// A caller asks for something that is no message: the worker looks once more before it sleeps.
    pub news: bool,
    pub asked: Asked,
    /// Messages with tickets below this have their fate, and their callbacks have returned.
    pub finished_upto: u64,
    pub purges_done: u64,
    pub purged: Vec<FailedMessages>,
    /// Requests for the numbers of partitions of topics.
    pub asks: BTreeMap<TopicIndex, Ask>,
    pub totals: Totals,
    pub last_error: Option<Arc<DeliveryErrorKind>>,
    pub fatal: Option<Arc<FatalError>>,
    pub worker_ended: bool,
    pub delivery_runs: bool,
    pub remains: Remains,
    pub claimed: bool,
}

/// What callers and the delivery thread ask of the worker.
#[derive(Debug, Default)]
pub struct Asked {
    /// The number of callers that flush.
    pub flushing: u32,
    /// `true` if a caller began to wait for a fate since the last exchange.
    pub awaited: bool,
    pub purges: u64,
    pub abandon: Option<Abandon>,
    /// Fates whose callbacks have returned since the last exchange.
    pub called: Called,
}

/// A request for the number of partitions of a topic.
#[derive(Default)]
pub struct Ask {
    pub callers: u32,
    /// The error in the way of an answer.
    pub cause: Option<Arc<DeliveryErrorKind>>,
}

/// The counts of messages by their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub delivered: u64,
    pub failed: u64,
    pub given_up: u64,
}

/// Messages that nobody has taken when the worker ends.
#[derive(Debug, Default)]
pub struct Remains {
    pub undelivered: Vec<FailedMessages>,
    pub failures: Vec<FailedMessages>,
    pub failures_dropped: u64,
}

/// The receiver of the messages that are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandon {
    ToReport,
    ToCallback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Worker,
    All,
}

/// The goal of a flush, and the counts before it.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    upto: u64,
    before: Totals,
}

#[derive(Clone, Debug)]
pub struct Unfinished {
    pub messages: u64,
    pub last_error: Option<Arc<DeliveryErrorKind>>,
}

/// The worker's report.
#[derive(Debug, Default)]
pub struct WorkerUpdate {
    pub released: Released,
    pub totals: Totals,
    pub spent: Vec<Chunk>,
    pub finished_upto: Option<u64>,
    pub purges_done: Option<u64>,
    pub purged: Vec<FailedMessages>,
    /// The errors in the way of the numbers of partitions that callers ask for.
    pub causes: Vec<TopicCause>,
    /// The numbers of partitions that have changed.
    pub partitions: Vec<PartitionCount>,
    /// Topics to which no message can be sent, with the reason, and topics to which messages can be sent again.
    pub held_up: Vec<TopicCause>,
    /// The engine's last error, if it has changed.
    pub last_error: Option<Option<Arc<DeliveryErrorKind>>>,
    pub fatal: Option<Arc<FatalError>>,
}

/// The orders to the worker.
#[derive(Debug, Default)]
pub struct WorkerRequests {
    /// New chunks; what the worker left there stays in front.
    pub chunks: VecDeque<Chunk>,
    /// Topics that the worker was not told before.
    pub topics: Vec<Topic>,
    pub taken: u64,
    pub closed: bool,
    pub asked: Asked,
    /// Topics, and the errors in the way of an answer that callers know already.
    pub asks: Vec<TopicCause>,
    /// The time at which the oldest message came that nothing has made due yet.
    pub oldest_waiting: Option<Instant>,
}

/// The amount that callbacks no longer hold.
#[derive(Debug, Default)]
pub struct Called {
    pub held: Amount,
    /// The memory of their records.
    pub buffers: Vec<Vec<u8>>,
}

impl State {
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            waker: None,
            wake: false,
            waiters: 0,
            news: false,
            asked: Asked::default(),
            finished_upto: 0,
            purges_done: 0,
            purged: Vec::new(),
            asks: BTreeMap::new(),
            totals: Totals::default(),
            last_error: None,
            fatal: None,
            worker_ended: false,
            delivery_runs: false,
            remains: Remains::default(),
            claimed: false,
        }
    }

    /// Takes the worker's report; returns whether somebody may wait for what is in it. The errors that it replaces are
    /// in the report then: their drop may run a user's code, which must not find the lock held.
    pub fn take_in(&mut self, report: &mut WorkerUpdate) -> bool {
        let released = mem::take(&mut report.released);
        self.queue.charge(released.charged);
        self.queue.release(released.messages, released.bytes);
        self.totals.add(mem::take(&mut report.totals));
        report.spent.drain(..).for_each(|chunk| self.queue.recycle(chunk));
        let mut awaited = !report.partitions.is_empty();
        report.partitions.drain(..).for_each(|told| self.queue.tell_partitions(told.topic, told.partitions));
        report.held_up.iter_mut().for_each(|told| told.cause = self.queue.hold_up(told.topic, told.cause.take()));
        for TopicCause { topic, cause } in &mut report.causes {
            if let Some(ask) = self.asks.get_mut(topic) {
                mem::swap(&mut ask.cause, cause);
            }
        }
        if let Some(last) = &mut report.last_error {
            mem::swap(&mut self.last_error, last);
        }
        if self.fatal.is_none() && report.fatal.is_some() {
            self.fatal = report.fatal.take();
            self.queue.leave_fast_path();
        }
        self.purged.append(&mut report.purged);
        if let Some(upto) = report.finished_upto.take() {
            self.finished_upto = self.finished_upto.max(upto);
            awaited = true;
        }
        if let Some(upto) = report.purges_done.take() {
            self.purges_done = upto;
            awaited = true;
        }
        awaited || self.fatal.is_some()
    }

    pub fn hand_out(&mut self, orders: &mut WorkerRequests, known_topics: usize) {
        orders.topics.extend_from_slice(&self.queue.topics()[known_topics..]);
        orders.taken = self.queue.taken();
        orders.closed = self.queue.phase() == Phase::Closed;
        orders.asked = Asked { called: mem::take(&mut self.asked.called), ..self.asked };
        self.asked.awaited = false;
        let open = self.asks.iter().filter(|(topic, _)| self.queue.partitions(**topic).is_none());
        orders.asks.extend(open.map(|(topic, ask)| TopicCause { topic: *topic, cause: ask.cause.clone() }));
        orders.oldest_waiting = self.queue.oldest_waiting();
    }

    pub fn overflow(&self, full: &Full) -> ProduceErrorKind {
        let oldest_age = full.oldest.map_or(Duration::ZERO, |at| clock::now().saturating_duration_since(at));
        let limit = match (full.limit, full.held_up) {
            (Limit::Messages(most), None) => BufferLimit::QueueSize(most),
            (Limit::Bytes(most), None) => BufferLimit::QueueBytesize(most),
            (Limit::Messages(most), Some(_)) => BufferLimit::HalfOfQueueSize(most),
            (Limit::Bytes(most), Some(_)) => BufferLimit::HalfOfQueueBytesize(most),
        };
        ProduceErrorKind::BufferOverflow(BufferOverflow {
            queued: full.queued,
            limit,
            oldest_age,
            last_error: full.held_up.and_then(|topic| self.queue.held_up(topic)).or(self.last_error.as_ref()).cloned(),
        })
    }

    pub fn unfinished(&self) -> Unfinished {
        let Totals { delivered, failed, given_up } = self.totals;
        let messages = self.queue.accepted().saturating_sub(delivered + failed + given_up);
        Unfinished { messages, last_error: self.last_error.clone() }
    }

    /// A flush of the messages accepted until now.
    pub fn flush(&self) -> Flush {
        Flush { upto: self.queue.accepted(), before: self.totals }
    }

    /// `true` if all messages that it waits for have their fates, and the callbacks have returned.
    pub fn is_flushed(&self, flush: &Flush) -> bool {
        self.finished_upto >= flush.upto
    }

    /// The result of a flush that ends now.
    pub fn flushed(&self, flush: &Flush) -> Result<Totals, Unfinished> {
        if self.is_flushed(flush) { Ok(self.totals.since(flush.before)) } else { Err(self.unfinished()) }
    }

    /// The messages that this purge took back, once it is done.
    pub fn end_purge(&mut self, mine: u64) -> Option<Vec<FailedMessages>> {
        (self.purges_done >= mine).then(|| mem::take(&mut self.purged))
    }

    /// The error in the way of an answer.
    pub fn cause(&self, topic: TopicIndex) -> Option<Arc<DeliveryErrorKind>> {
        let own = self.asks.get(&topic).and_then(|ask| ask.cause.as_ref());
        own.or(self.last_error.as_ref()).cloned()
    }

    /// A caller asks no more. The request, if that was the last one, is to be dropped without the lock, as an error.
    #[must_use]
    pub fn ask_no_more(&mut self, topic: TopicIndex) -> Option<Ask> {
        let ask = self.asks.get_mut(&topic)?;
        ask.callers -= 1;
        if ask.callers == 0 { self.asks.remove(&topic) } else { None }
    }

    /// Makes the worker look at its orders.
    pub fn tell(&mut self) {
        self.news = true;
        self.wake |= self.queue.rouse();
    }

    /// The same, with every message due.
    pub fn tell_to_deliver(&mut self) {
        self.wake |= self.queue.deliver();
        self.tell();
    }

    /// `true` for the first call of `shutdown`, which gets the messages that are left.
    pub fn claim(&mut self) -> bool {
        !mem::replace(&mut self.claimed, true)
    }

    pub fn take_remains(&mut self) -> Remains {
        mem::take(&mut self.remains)
    }

    /// `true` if the worker, or all threads, have ended.
    pub fn has_ended(&self, which: Ended) -> bool {
        self.worker_ended && (which == Ended::Worker || !self.delivery_runs)
    }

    /// A thread has ended: behind the last one all that will ever be told was told.
    pub fn end(&mut self) {
        if self.has_ended(Ended::All) {
            self.finished_upto = u64::MAX;
        }
    }
}

impl Totals {
    pub fn add(&mut self, more: Self) {
        self.delivered += more.delivered;
        self.failed += more.failed;
        self.given_up += more.given_up;
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            delivered: self.delivered - before.delivered,
            failed: self.failed - before.failed,
            given_up: self.given_up - before.given_up,
        }
    }
}

impl WorkerUpdate {
    /// Drops the errors that were handed in, or that these replaced.
    pub fn drop_errors(&mut self) {
        self.held_up.clear();
        self.causes.clear();
        (self.last_error, self.fatal) = (None, None);
    }

    /// `true` if somebody may wait for something in it, or choose partitions by numbers that are no longer true.
    pub fn is_urgent(&self) -> bool {
        self.released.messages > 0
            || self.totals != Totals::default()
            || self.finished_upto.is_some()
            || self.purges_done.is_some()
            || self.last_error.is_some()
            || self.fatal.is_some()
            || !self.causes.is_empty()
            || !self.partitions.is_empty()
            || !self.held_up.is_empty()
    }
}

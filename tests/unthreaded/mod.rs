//! The gate, the worker and the outlet of ottla without their threads: each step that one of the threads or a caller
//! makes is a call, so that the simulation can put them in any order, at any time. What runs is the code of the threads.
//! Only what waits is not here: the sockets (`Wires` keeps what the worker asks of them), the condition variables, and
//! the clock, which is set by hand.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, unbounded};
use mio::Waker;
use ottla::config::{BrokerAddress, ClientConfig, ProducerConfig, QueueConfig};
use ottla::deadline::Deadline;
use ottla::engine::Action;
use ottla::engine::producer::{BatchFate, FailedMessages, ProducerEngine};
use ottla::fate::slot::{self, Awaited, Slot};
use ottla::net::Event;
use ottla::queue::chunk::Chunk;
use ottla::queue::{Queue, only_borrows};
use ottla::threads::clock;
use ottla::threads::driver::{Driver, Network};
use ottla::threads::producer::delivery::{Callback, Item, tell};
use ottla::threads::producer::feed::Feed;
use ottla::threads::producer::gate::Gate;
use ottla::threads::producer::outlet::Outlet;
use ottla::threads::producer::state::{Abandon, Ended, State};
pub use ottla::threads::producer::state::{Flush, Remains, Totals};
use ottla::threads::producer::worker::Worker;
use ottla::wire::frame::{ConnId, Frame};
use ottla::{Message, ProduceErrorKind, Timestamp};

/// A producer whose threads are steps.
pub struct Unthreaded {
    gate: Arc<Gate>,
    worker: Worker<Wires>,
    items: Option<Receiver<Item>>,
    callback: Option<Callback>,
    /// When the worker is to look at its sockets next.
    next_look: Deadline,
    ended: bool,
}

/// What the simulation does to a turn of the worker, to break it or to plant a bug in it. `()` leaves it alone.
pub trait Meddler {
    /// Sees the chunks that the worker is about to give to the engine, and whether the queue is closed.
    fn chunks(&mut self, _chunks: &mut VecDeque<Chunk>, _closed: bool) {}

    /// Sees the fates that the engine gives, on their way to handles, the callback and reports.
    fn fates(&mut self, _fates: &mut VecDeque<BatchFate>) {}
}

impl Meddler for () {}

/// How a turn of the worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It waits for the sockets or to be woken, at most until then.
    Wait(Deadline),
    /// Everything has its fate, and the worker has ended.
    Ended,
    /// It panicked: [`Unthreaded::survive`] follows.
    Broke,
}

/// What the worker asked of the sockets.
#[derive(Debug)]
pub enum Asked {
    /// This.
    Do(Action),
    /// To forget all connections.
    Renew,
}

impl Unthreaded {
    /// A producer that has started.
    #[must_use]
    pub fn new(
        client: Arc<ClientConfig>,
        producer: Arc<ProducerConfig>,
        queue: &QueueConfig,
        callback: Option<Callback>,
        seed: u64,
    ) -> Self {
        let gate = Arc::new(Gate::new(queue, &producer));
        let (callbacks, items) = if callback.is_some() { Some(unbounded()).unzip() } else { (None, None) };
        let outlet = Outlet::new(callbacks, queue.max_queue_size, queue.max_queue_bytesize);
        let mut feed = Feed::new(Arc::clone(&client), producer, callback.is_some(), seed);
        let driver = Driver::over(Wires::default(), client, feed.new_engine());
        let never_by_itself = queue.delivery_threshold == 0 && queue.delivery_interval.is_zero();
        let worker = Worker::new(Arc::clone(&gate), driver, feed, outlet, never_by_itself);
        gate.open(None, items.is_some());
        Self { gate, worker, items, callback, next_look: Deadline::NEVER, ended: false }
    }

    /// It is this time now, on this thread.
    pub fn set_clock(now: Instant) {
        clock::set(now);
    }

    /// Produces a message without waiting for room; gives its ticket.
    ///
    /// # Errors
    /// Why it was refused.
    #[inline(always)]
    pub fn produce(
        &self,
        message: Message<'_>,
        slot: Option<Slot<'_>>,
        time: Timestamp,
    ) -> Result<u64, ProduceErrorKind> {
        let borrows = only_borrows(&message);
        let accepted = self.offer(&message, slot, time);
        if borrows {
            mem::forget(message);
        }
        accepted
    }

    /// As [`produce`](Self::produce), of a message that is still the caller's.
    ///
    /// # Errors
    /// Why it was refused.
    #[inline(always)]
    pub fn offer(
        &self,
        message: &Message<'_>,
        slot: Option<Slot<'_>>,
        time: Timestamp,
    ) -> Result<u64, ProduceErrorKind> {
        self.gate.offer(message, time, slot, Duration::ZERO, &|| unreachable!("it has started"))
    }

    /// What a handle is made of.
    #[must_use]
    pub fn lookout(&self) -> Awaited {
        slot::await_fate(&self.gate)
    }

    /// A waiting handle makes its message due.
    pub fn due(&self, ticket: u64) {
        self.gate.due(ticket);
    }

    /// `deliver_messages`.
    pub fn deliver(&self) {
        self.gate.deliver();
    }

    /// `partitions_for`, by a caller who does not wait.
    pub fn ask_for_partitions(&self, topic: &str) {
        // Without a wait there is an answer only if it is there already, and none is awaited here.
        let _ = self.gate.partitions(topic, Duration::ZERO);
    }

    /// Begins a flush, if there is anything to wait for.
    #[must_use]
    pub fn begin_flush(&self) -> Option<Flush> {
        self.gate.begin_flush()
    }

    /// Ends a flush that is finished or must be; says whether it finished, and how many are left if not.
    #[must_use]
    pub fn end_flush(&self, flush: Flush, give_up: bool) -> Option<Result<Totals, u64>> {
        let finished = self.gate.with(|state| state.is_flushed(&flush));
        (finished || give_up).then(|| self.gate.end_flush(&flush).map_err(|unfinished| unfinished.messages))
    }

    /// Begins a purge.
    #[must_use]
    pub fn begin_purge(&self) -> Option<u64> {
        self.gate.begin_purge()
    }

    /// What a purge handed back, once it is done.
    #[must_use]
    pub fn end_purge(&self, number: u64) -> Option<Vec<FailedMessages>> {
        self.gate.with(|state| state.end_purge(number))
    }

    /// The first half of `shutdown` and of drop; whether this call owns the messages that are left.
    pub fn close(&self) -> bool {
        let first = self.gate.with(State::claim);
        self.gate.close();
        first
    }

    /// Gives up what has no fate, for a report or, without one, for the callback.
    pub fn abandon(&self, has_report: bool) {
        self.gate.abandon(if has_report { Abandon::ToReport } else { Abandon::ToCallback });
    }

    /// Whether the worker has ended, and with `all` the callbacks too.
    #[must_use]
    pub fn has_ended(&self, all: bool) -> bool {
        let which = if all { Ended::All } else { Ended::Worker };
        self.gate.wait_ended(which, Deadline::at(clock::now()))
    }

    /// The second half of `shutdown`, for the call that owns the messages.
    #[must_use]
    pub fn remains(&self) -> Remains {
        self.gate.with(State::take_remains)
    }

    /// How many messages ended which way until now.
    #[must_use]
    pub fn counts(&self) -> Totals {
        self.gate.with(|state| state.totals)
    }

    /// Looks at the queue.
    pub fn queue<T>(&self, look: impl FnOnce(&mut Queue) -> T) -> T {
        self.gate.with(|state| look(&mut state.queue))
    }

    /// Whether something waits that the worker must see: a due message, or a word from a caller.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.ended && self.gate.with(|state| state.news || state.queue.has_due())
    }

    /// Whether the worker waits, and nobody has woken it since.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.queue(|queue| queue.is_asleep())
    }

    /// The timer looks; gives the moment it waits for.
    pub fn tick(&self, now: Instant) -> Deadline {
        self.queue(|queue| queue.tick(now).0)
    }

    /// When the worker looked at the sockets last.
    pub fn looked_at(&self) -> Instant {
        self.worker.driver.now()
    }

    /// The worker hears what happened on the sockets, and makes a turn.
    pub fn turn(&mut self, events: impl Iterator<Item = Event>, now: Instant, meddler: &mut dyn Meddler) -> Turn {
        let (worker, next_look) = (&mut self.worker, self.next_look);
        worker.driver.events().extend(events);
        let turned = catch_unwind(AssertUnwindSafe(|| {
            worker.driver.hear(next_look, now);
            let next = worker.listen();
            meddler.chunks(&mut worker.orders.chunks, worker.orders.closed);
            worker.obey();
            worker.driver.go();
            meddler.fates(worker.driver.engine.fates_mut());
            worker.pass_on(next)
        }));
        match turned {
            Ok(Some(wait)) => {
                self.next_look = self.worker.driver.next_look(wait);
                Turn::Wait(self.next_look)
            }
            Ok(None) => self.end(),
            Err(_) => Turn::Broke,
        }
    }

    /// The worker goes on after a panic, with what is in its hand.
    pub fn survive(&mut self, fault: &str) -> Turn {
        if self.worker.survive(fault.to_owned()) {
            self.next_look = Deadline::at(clock::now());
            return Turn::Wait(self.next_look);
        }
        self.end()
    }

    /// Chunks on their way into the engine.
    pub fn hand(&mut self) -> &mut VecDeque<Chunk> {
        &mut self.worker.feed.hand
    }

    /// The sockets of the worker.
    pub fn wires(&mut self) -> &mut Wires {
        self.worker.driver.network()
    }

    /// The engine that decides.
    #[must_use]
    pub fn engine(&self) -> &ProducerEngine {
        &self.worker.driver.engine
    }

    /// What waits for the delivery thread: fates, or its end.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        self.items.as_ref().is_some_and(|items| !items.is_empty() || self.ended)
    }

    /// The delivery thread takes the next fate, and calls the callback for all its messages.
    pub fn call(&mut self) {
        let (Some(items), Some(callback)) = (&self.items, &mut self.callback) else { return };
        match items.try_recv() {
            Ok(item) => tell(&self.gate, item, callback),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                self.gate.delivery_ended();
                self.items = None;
            }
        }
    }

    fn end(&mut self) -> Turn {
        self.worker.end();
        self.ended = true;
        Turn::Ended
    }
}

impl fmt::Debug for Unthreaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unthreaded").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Sockets that only keep what is asked of them.
#[derive(Debug, Default)]
pub struct Wires {
    /// All of it, in order.
    pub asked: Vec<Asked>,
    /// After so many more requests, the next panics.
    pub panic_after: Option<usize>,
    /// What has come behind the last look, for one that is made without a wait.
    pub came: Vec<Event>,
}

impl Wires {
    fn ask(&mut self, action: Action) {
        if let Some(left) = self.panic_after {
            self.panic_after = left.checked_sub(1);
            if self.panic_after.is_none() {
                // Not with `panic!`, which would tell the user of the simulation.
                resume_unwind(Box::new("the sockets broke"));
            }
        }
        self.asked.push(Asked::Do(action));
    }
}

impl Network for Wires {
    fn connect(&mut self, conn: ConnId, address: &BrokerAddress, within: Duration, _: bool, _: Instant) {
        self.ask(Action::Connect { conn, address: address.clone(), within });
    }

    fn send(&mut self, conn: ConnId, frame: Frame, _: &mut Vec<Event>) {
        self.ask(Action::Send { conn, frame });
    }

    fn close(&mut self, conn: ConnId) {
        self.ask(Action::Close { conn });
    }

    fn limit_responses(&mut self, conn: ConnId, max_response_bytes: usize) {
        self.ask(Action::Limit { conn, max_response_bytes });
    }

    fn look(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.came);
    }

    fn renew(&mut self, _: &ClientConfig) {
        self.asked.push(Asked::Renew);
    }

    fn waker(&self) -> Option<Arc<Waker>> {
        None
    }
}

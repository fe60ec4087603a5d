//! The worker: takes due messages from the queue, drives the engine and the sockets, and sends each fate to its
//! receiver. Everything it must not lose lives in `Worker`, outside the frame that a panic unwinds: after a panic it
//! goes on with a new engine, on the same thread.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Role;
use super::feed::Feed;
use super::gate::{Gate, Next};
use super::outlet::Outlet;
use super::role::serve;
use super::state::{Abandon, Called, WorkerRequests, WorkerUpdate};
use crate::deadline::Deadline;
use crate::engine::producer::{BatchFate, PartitionCount, ProducerEngine, TopicCause};
use crate::error::{DeliveryErrorKind, FatalError};
use crate::ids::TopicIndex;
use crate::queue::Sealed;
use crate::threads::driver::{Driver, Net, Network};
use crate::threads::spawn::{contain, panic_text};

pub struct Worker<N = Net> {
    gate: Arc<Gate>,
    /// The sealed chunks of callers.
    sealed: Sealed,
    pub driver: Driver<ProducerEngine, N>,
    pub feed: Feed,
    outlet: Outlet,
    /// `true` if the engine was told that messages keep their buffer place until their callbacks have returned.
    has_callbacks: bool,
    report: WorkerUpdate,
    pub orders: WorkerRequests,
    /// The number of purges that are done, of those that callers asked for.
    purges_done: u64,
    finished_upto: u64,
    /// The mark for the delivery thread, sent once the gate has the counts that go with it: a flush must not return
    /// before.
    to_mark: Option<u64>,
    /// The last error that callers were told.
    last_error: Option<Arc<DeliveryErrorKind>>,
    fatal_told: bool,
    /// Faults in a row, without a delivered batch between.
    faults: u32,
    /// The number of next waits during which somebody waits.
    attention: u32,
    /// The moment of the only look for messages that nothing makes due.
    look_at_idle: Deadline,
}

impl Worker {
    /// The thread's whole life. Ends when the queue is closed and every message has its fate.
    pub fn run(mut self) {
        serve(self.gate.id(), Role::Worker);
        loop {
            let fault = match catch_unwind(AssertUnwindSafe(|| self.work())) {
                Ok(Ok(())) => break,
                Ok(Err(error)) => format!("the sockets cannot be waited for: {error}"),
                Err(panic) => panic_text(panic),
            };
            if !self.survive(fault) {
                break;
            }
        }
        self.end();
    }

    fn work(&mut self) -> std::io::Result<()> {
        // The work that is to be done at once may be all that there is: another turn shows it without a look at the
        // sockets, which is a system call. After that turn the sockets are looked at.
        let mut at_once = false;
        while let Some(wait) = self.turn() {
            at_once = !at_once && wait == Deadline::at(self.driver.now());
            if !at_once {
                self.driver.poll(wait, self.attention > 0)?;
                self.attention = self.attention.saturating_sub(1);
            }
        }
        Ok(())
    }
}

impl<N: Network> Worker<N> {
    /// `never_by_itself` says that neither a threshold nor an interval makes messages leave.
    pub fn new(
        gate: Arc<Gate>,
        driver: Driver<ProducerEngine, N>,
        feed: Feed,
        outlet: Outlet,
        never_by_itself: bool,
    ) -> Self {
        let look_at_idle = if never_by_itself { Deadline::after(driver.now(), IDLE_AFTER) } else { Deadline::NEVER };
        Self {
            sealed: gate.sealed(),
            gate,
            driver,
            feed,
            has_callbacks: outlet.has_callbacks(),
            outlet,
            report: WorkerUpdate::default(),
            orders: WorkerRequests::default(),
            purges_done: 0,
            finished_upto: 0,
            to_mark: None,
            last_error: None,
            fatal_told: false,
            faults: 0,
            attention: 0,
            look_at_idle,
        }
    }

    /// One turn of the loop: takes the orders, does them, and lets the engine go on. Returns the time to wait for the
    /// sockets then, or `None` if all is over.
    pub fn turn(&mut self) -> Option<Deadline> {
        let next = self.listen();
        self.obey();
        self.carry_on(next)
    }

    /// Hands in the report, and takes the orders.
    pub fn listen(&mut self) -> Next {
        let next = self.gate.exchange(&self.sealed, &mut self.report, &mut self.orders, self.feed.topic_count());
        self.hand_on();
        if let Some(upto) = self.to_mark.take() {
            if !self.outlet.mark_finished(upto) {
                self.report.finished_upto = Some(upto);
            }
        }
        next
    }

    /// Lets the engine go on.
    fn carry_on(&mut self, next: Next) -> Option<Deadline> {
        self.driver.go();
        self.pass_on(next)
    }

    /// Sends the fates that the engine has decided to their receivers; returns the result of a turn.
    pub fn pass_on(&mut self, next: Next) -> Option<Deadline> {
        self.collect();
        if self.orders.closed && self.driver.engine.unfinished() == 0 {
            return None;
        }
        Some(match next {
            Next::Sleep if !self.report.is_urgent() && self.to_mark.is_none() => self.look_at_idle,
            _ => Deadline::at(self.driver.now()),
        })
    }

    /// Goes on after a fault with a new engine. Returns `false` if the next engine would not fare better.
    pub fn survive(&mut self, fault: String) -> bool {
        self.faults += 1;
        // The fault may be the logger's.
        let _ = contain(|| log::error!("a fault inside ottla, please report it: {fault}"));
        match contain(|| self.feed.replace(&mut self.driver)) {
            Ok(()) => self.save(&fault),
            Err(second) => {
                let _ =
                    contain(|| log::error!("the engine goes on after that fault, because of another one: {second}"));
            }
        }
        if self.faults < FAULTS_IN_A_ROW {
            return true;
        }
        self.give_up(fault);
        false
    }

    /// The worker's last words.
    pub fn end(&mut self) {
        self.hand_on();
        let remains = self.outlet.close(self.driver.now());
        self.report.released = self.report.released.and(self.feed.take_last_released(&mut self.driver.engine));
        self.gate.worker_ended(&mut self.report, remains);
    }

    /// Does the orders.
    pub fn obey(&mut self) {
        for topic in self.orders.topics.drain(..) {
            self.feed.add_topic(topic, &mut self.driver.engine);
        }
        if mem::take(&mut self.orders.asked.awaited) {
            self.attention = ATTENTION;
        }
        let now = self.driver.now();
        self.feed.hand.append(&mut self.orders.chunks);
        self.feed.append(&mut self.driver.engine, now);
        self.report.spent.append(&mut self.feed.spent);
        self.callbacks_returned();
        for TopicCause { topic, cause: known } in self.orders.asks.drain(..) {
            if self.driver.engine.partition_count(topic, now).is_some() {
                // Callers were told when it became known.
                continue;
            }
            let cause = self.driver.engine.cause_of_topic(topic);
            if cause.map(Arc::as_ptr) != known.as_ref().map(Arc::as_ptr) {
                self.report.causes.push(TopicCause { topic, cause: cause.cloned() });
            }
        }
        if self.orders.asked.purges > self.purges_done {
            self.driver.engine.purge(now);
            self.collect();
            self.purges_done = self.orders.asked.purges;
            self.report.purges_done = Some(self.purges_done);
        }
        if let Some(to) = self.orders.asked.abandon {
            self.outlet.abandon_to(to);
            // Reads the answers that have come, so that their messages are not given up, even if this process was
            // stopped since the last look.
            self.driver.look();
            self.driver.engine.abandon(self.driver.now());
        }
        self.warn_of_idle_messages();
    }

    /// Sends all fates to their receivers, and notes what callers must learn.
    fn collect(&mut self) {
        while let Some(fate) = self.driver.engine.next_fate() {
            self.dispatch(fate);
        }
        self.report.released = self.report.released.and(self.feed.take_released(&mut self.driver.engine));
        self.driver.engine.take_counts(&mut self.report.partitions);
        self.driver.engine.take_held_up(&mut self.report.held_up);
        let last = self.driver.engine.last_error();
        if last.map(Arc::as_ptr) != self.last_error.as_ref().map(Arc::as_ptr) {
            self.last_error = last.cloned();
            self.report.last_error = Some(self.last_error.clone());
        }
        if !self.fatal_told {
            self.report.fatal = self.driver.engine.fatal().cloned();
            self.fatal_told = self.report.fatal.is_some();
        }
        if self.orders.asked.flushing > 0 {
            self.tell_finished();
        }
    }

    fn dispatch(&mut self, fate: BatchFate) {
        if fate.is_delivered() {
            self.faults = 0;
        }
        let called = self.outlet.dispatch(fate, &mut self.report, self.driver.now());
        self.called(called);
    }

    /// Sends the delivery thread what it is to tell.
    fn hand_on(&mut self) {
        let called = self.outlet.hand_on();
        self.called(called);
    }

    /// Sends the fates that broken engines have left to their receivers.
    fn pass_on_saved(&mut self) {
        while let Some(fate) = self.feed.next_fate() {
            // No engine counts what callbacks do not hold.
            let _ = self.outlet.dispatch(fate, &mut self.report, self.driver.now());
        }
    }

    /// Callbacks have returned since the last exchange.
    fn callbacks_returned(&mut self) {
        let called = mem::take(&mut self.orders.asked.called);
        self.outlet.callbacks_returned(called.held);
        self.called(called);
    }

    fn called(&mut self, called: Called) {
        if self.has_callbacks {
            self.driver.engine.callbacks_done(called.held);
        }
        for buffer in called.buffers {
            self.driver.engine.recycle(buffer);
        }
    }

    fn tell_finished(&mut self) {
        let upto = self.driver.engine.oldest_unfinished().unwrap_or(self.orders.taken);
        if upto > self.finished_upto {
            self.finished_upto = upto;
            if self.outlet.has_callbacks() {
                self.to_mark = Some(upto);
            } else {
                self.report.finished_upto = Some(upto);
            }
        }
    }

    fn warn_of_idle_messages(&mut self) {
        let now = self.driver.now();
        if !self.look_at_idle.passed(now) {
            return;
        }
        self.look_at_idle = Deadline::NEVER;
        let Some(since) = self.orders.oldest_waiting else { return };
        let age = now.saturating_duration_since(since);
        if age < IDLE_AFTER {
            self.look_at_idle = Deadline::after(since, IDLE_AFTER);
            return;
        }
        log::warn!(
            "messages have waited for {age:?}: with delivery_threshold and delivery_interval both 0 they leave only by \
             deliver_messages, flush, shutdown, a waiting handle, or a full queue or batch"
        );
    }

    /// Saves what broken engines have left. A second panic costs no more than the piece that it meets.
    fn save(&mut self, fault: &str) {
        for _ in 0..SECOND_FAULTS {
            let Err(second) = contain(|| self.try_to_save(fault)) else { return };
            let _ = contain(|| log::error!("a fault inside ottla after another one: {second}"));
        }
    }

    fn try_to_save(&mut self, fault: &str) {
        self.feed.salvage(fault, self.driver.now());
        self.pass_on_saved();
        self.callbacks_returned();
        // The new engine has yet to learn of the topics.
        for topic in TopicIndex::below(self.feed.topic_count()) {
            self.report.partitions.push(PartitionCount { topic, partitions: 0 });
            self.report.held_up.push(TopicCause { topic, cause: None });
        }
        let waker = self.driver.waker();
        self.gate.with(|state| state.waker = waker);
        // As the last step, because it must not be done twice.
        self.driver.engine.callbacks_hold(self.outlet.held());
    }

    /// Ends the producer: the messages that are left fail, and so does every later call.
    fn give_up(&mut self, fault: String) {
        let cause = DeliveryErrorKind::Internal(fault.clone());
        let advice = "please report it; a new producer may work";
        self.report.fatal = Some(Arc::new(FatalError { cause, advice }));
        self.outlet.abandon_to(Abandon::ToCallback);
        let given_up = contain(|| {
            self.gate.close();
            self.gate.exchange(&self.sealed, &mut self.report, &mut self.orders, self.feed.topic_count());
            self.obey();
            self.driver.engine.abandon(self.driver.now());
            self.collect();
        });
        if given_up.is_err() {
            self.give_up_without_engine(fault);
        }
    }

    /// The same after a fault on that way, too.
    fn give_up_without_engine(&mut self, fault: String) {
        if contain(|| self.feed.replace(&mut self.driver)).is_ok() {
            self.save(&fault);
        }
        self.feed.hand.append(&mut self.orders.chunks);
        let last = Some(Arc::new(DeliveryErrorKind::Internal(fault)));
        let why = Arc::new(DeliveryErrorKind::ShutDown { last });
        for _ in 0..SECOND_FAULTS {
            let failed = contain(|| {
                self.feed.fail_all(&why, self.driver.now());
                self.pass_on_saved();
            });
            if failed.is_ok() {
                return;
            }
        }
        let _ = contain(|| log::error!("messages were lost to a fault inside ottla"));
    }
}

/// After a fault, so many others do not keep the worker from saving what is left.
const SECOND_FAULTS: u32 = 8;

/// The wait for the answer, the one for the caller's next message, and one for whatever comes between.
const ATTENTION: u32 = 3;
const IDLE_AFTER: Duration = Duration::from_secs(30);
/// After this many faults in a row the next engine would not fare better.
const FAULTS_IN_A_ROW: u32 = 8;

#[cfg(all(test, not(shuttle)))]
mod tests;

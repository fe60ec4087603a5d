//! The calls of the producer's own threads: the worker's exchange, the timer's wait, and the reports of the delivery
//! thread.

use std::mem;

use super::super::state::{Remains, WorkerRequests, WorkerUpdate};
use super::{Gate, wait_until, wake_unlocked};
use crate::engine::producer::Amount;
use crate::queue::{Phase, Sealed};
use crate::threads::clock;

/// The worker's next step after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Look,
    /// Nobody asks for anything: the worker may wait, and will be woken.
    Sleep,
}

impl Gate {
    /// Hands in what happened, and takes what is asked, and what is due out of `sealed`. `known_topics` is how many
    /// topics the worker was told.
    pub fn exchange(
        &self,
        sealed: &Sealed,
        report: &mut WorkerUpdate,
        orders: &mut WorkerRequests,
        known_topics: usize,
    ) -> Next {
        orders.asks.clear();
        let mut state = self.state.lock();
        let room = (report.released.messages > 0 || !report.held_up.is_empty()) && state.waiters > 0;
        if state.take_in(report) {
            self.done.notify_all();
        }
        let took = state.queue.take_due(sealed, &mut orders.chunks);
        let news = mem::take(&mut state.news);
        if !took && !news {
            state.queue.sleep();
        }
        state.hand_out(orders, known_topics);
        drop(state);
        report.drop_errors();
        if room {
            self.room.notify_all();
        }
        if took || news { Next::Look } else { Next::Sleep }
    }

    /// The worker's last words.
    pub fn worker_ended(&self, report: &mut WorkerUpdate, remains: Remains) {
        self.with(|state| {
            state.take_in(report);
            state.queue.close();
            state.purges_done = u64::MAX;
            state.remains = remains;
            // The waker has a descriptor, which would be kept until the last clone of the producer goes.
            state.waker = None;
            state.worker_ended = true;
            state.end();
        });
        self.room.notify_all();
        self.timer.notify_all();
        self.done.notify_all();
    }

    /// The callbacks of a batch have returned: takes the amount that it held, and its memory, if they needed it.
    pub fn called(&self, held: Amount, buffer: Option<Vec<u8>>) {
        self.with(|state| {
            // Behind the worker nobody takes it any more, and the memory would stay as long as the producer.
            if !state.worker_ended {
                state.asked.called.held.add(held);
                state.asked.called.buffers.extend(buffer);
                state.tell();
            }
        });
    }

    /// The callbacks of all messages with tickets below this have returned.
    pub fn finished(&self, upto: u64) {
        self.with(|state| state.finished_upto = state.finished_upto.max(upto));
        self.done.notify_all();
    }

    /// No callback runs any more.
    pub fn delivery_ended(&self) {
        self.with(|state| {
            state.delivery_runs = false;
            state.end();
        });
        self.done.notify_all();
    }

    /// The timer's whole life: makes messages due when they are old enough. Returns when the queue is closed.
    pub fn tick_until_closed(&self) {
        let mut state = self.state.lock();
        while state.queue.phase() != Phase::Closed {
            let (next, wake) = state.queue.tick(clock::now());
            if wake {
                wake_unlocked(&mut state);
            } else {
                wait_until(&self.timer, &mut state, next);
            }
        }
    }
}

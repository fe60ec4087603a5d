//! A process that is stopped for a while, as by the lid of a laptop: its sockets and the brokers go on, and nothing else
//! does.

use std::time::{Duration, Instant};

use ottla::Persistence;

use crate::check::{Anomaly, Said};
use crate::wires::Load;
use crate::world::{Happening, Story, TROUBLE, World};

/// From when to when the process is stopped.
#[derive(Clone, Copy)]
pub struct Stop {
    from: Instant,
    until: Instant,
}

impl World {
    /// Chooses when the process is stopped, each time for longer than a message has.
    pub fn plan_stops(&mut self) {
        let mut at = BETWEEN + self.within(BETWEEN);
        while at < TROUBLE {
            let stopped = self.plan_stop(at);
            if self.below(4) == 0 {
                let before = self.within(SOON);
                self.at(at - before, Happening::ShutDown(0));
            }
            at += stopped + BETWEEN + self.within(BETWEEN);
        }
    }

    /// The process is stopped while messages are under way, for longer than they have.
    fn plan_stop(&mut self, at: Duration) -> Duration {
        for caller in 0..self.callers.len() {
            for _ in 0..3 {
                let before = self.within(SOON);
                self.at(at - before, Happening::Call(caller));
            }
        }
        let stopped = self.config.delivery_timeout + Duration::from_secs(1) + self.within(BETWEEN);
        self.at(at, Happening::Suspend(stopped));
        stopped
    }

    /// The process is stopped for so long.
    pub fn suspend(&mut self, time: Duration) {
        let now = self.now;
        self.stop = Some(Stop { from: now, until: now + time });
        // What no socket has taken by now is taken behind the stop.
        for load in self.loads.values_mut() {
            if let Load::Request(_, written) = load {
                *written += if *written > now { time } else { Duration::ZERO };
            }
        }
        self.wires.values_mut().for_each(|wire| wire.hold(now, time));
    }

    /// When something happens instead that was to happen at a moment when the process is stopped, if it is what the
    /// process does.
    pub fn held_back(&mut self, at: Instant, happening: Happening) -> Option<Instant> {
        let stop = self.stop.filter(|stop| at < stop.until)?;
        match happening {
            // The sockets are there before the threads are.
            Happening::Wrote(..) => Some(stop.until),
            Happening::Call(_)
            | Happening::Look
            | Happening::Turn
            | Happening::Tick
            | Happening::CallBack
            | Happening::Awake
            | Happening::Break(_)
            | Happening::ShutDown(_)
            | Happening::LastCall
            | Happening::Settled => Some(stop.until + self.late()),
            _ => None,
        }
    }

    /// When a request comes to the broker that the stop held back, if it is this one.
    pub fn behind_the_stop(&self, number: u64) -> Option<Instant> {
        let (stop, Load::Request(_, written)) = (self.stop?, self.loads.get(&number)?) else { return None };
        (*written > self.now).then(|| self.now + (stop.until - stop.from))
    }

    /// Since when the process runs.
    pub fn running_since(&self) -> Instant {
        self.stop.map_or(self.start, |stop| stop.until)
    }

    /// An answer that says that these messages were appended is in a socket.
    pub fn note_answer(&mut self, ids: &[u64]) {
        if self.now < self.running_since() {
            self.answered_in_a_stop += ids.len() as u64;
        }
        for id in ids {
            self.ledger.sent[*id as usize].answered = true;
        }
    }

    /// Nothing is possibly written whose answer was in a socket before it was told so. Of the rest only what is given
    /// up may be: all answers come soon.
    pub fn look_at_doubt(&mut self, id: u64, said: Said) {
        if self.story != Story::Stopped || said != Said::Failed(Persistence::Possibly) {
            return;
        }
        let answered = self.ledger.sent[id as usize].answered;
        if answered || !self.abandoned {
            let what = format!("{id} is possibly written; its answer was in a socket: {answered}");
            self.wrong(Anomaly::FalseDoubt, what);
        }
    }
}

/// Longer than it takes until all that was under way is answered: what is put off is put off once.
const BETWEEN: Duration = Duration::from_secs(4);

/// As long as many messages are under way.
const SOON: Duration = Duration::from_millis(200);

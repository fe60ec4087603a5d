//! When the worker, the timer and the delivery thread run: woken on time or late, or for nothing, and broken by a
//! panic at any step.

use std::cell::Cell;
use std::panic;
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::unthreaded::Turn;
use ottla::engine::producer::batch::BATCH;
use ottla::net::Event;
use ottla::queue::extras;
use ottla::{DeliveryErrorKind, ErrorCode, Persistence};

use crate::check::{Anomaly, Said};
use crate::ledger::Told;
use crate::meddling::Cut;
use crate::planted::Bug;
use crate::world::{Happening, Story, World};

/// Where the worker breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    AtOnce,
    /// While it gives this message of a chunk to the engine.
    InChunk(usize),
    /// While it carries out what the engine asks, after so many requests.
    AtRequest(usize),
}

impl World {
    /// The worker runs soon, for whatever reason.
    pub fn wake(&mut self) {
        let late = self.late();
        self.run_at(self.now + late);
    }

    /// Something happened on the sockets.
    pub fn hear(&mut self, event: Event) {
        self.inbox.push(event);
        self.wake();
    }

    /// What follows from any call: somebody may have been woken.
    pub fn after_call(&mut self) {
        if self.sleeps && !self.side.is_asleep() {
            self.sleeps = false;
            if self.bug == Some(Bug::LoseWakeUp) && self.below(4) == 0 {
                self.tell(|| "a wake-up is lost".to_owned());
            } else {
                self.wake();
            }
        }
        let listens = self.has_timer && self.tick_at.is_none() && self.bug != Some(Bug::TimerNotArmed);
        if listens && self.side.queue(|queue| queue.is_armed()) {
            let at = self.now + self.late();
            self.tick_at = Some(at);
            self.at(at - self.start, Happening::Tick);
        }
        self.look_for_sleepers();
    }

    /// The timer's turn.
    pub fn tick(&mut self) {
        if self.tick_at.is_none_or(|at| at > self.now) {
            return;
        }
        let mut next = self.side.tick(self.now);
        if self.sleeps && !self.side.is_asleep() {
            next = self.side.tick(self.now);
        }
        self.tick_at = next.moment();
        if let Some(at) = self.tick_at {
            self.at(at - self.start, Happening::Tick);
        }
        self.after_call();
    }

    /// The worker's turn.
    pub fn turn(&mut self) {
        if self.turn_at.is_none_or(|at| at > self.now) || self.stopped {
            return;
        }
        self.turn_at = None;
        let (counts, told) = (self.side.counts(), self.ledger.told_failed);
        let mut cut = None;
        let turn = self.make_turn(&mut cut);
        if turn != Turn::Broke {
            // What was told before was handed in at the beginning of this turn.
            self.ledger.told_and_counted = told;
        }
        let turn = if turn == Turn::Broke { self.survive(cut) } else { turn };
        let asked = std::mem::take(&mut self.side.wires().asked);
        asked.into_iter().for_each(|asked| self.carry(asked));
        match turn {
            Turn::Wait(until) => {
                self.sleeps = self.side.is_asleep();
                if !self.inbox.is_empty() {
                    self.wake();
                }
                if let Some(until) = until.moment() {
                    // A deadline that has passed and changes nothing must not go on for ever.
                    let at = until.max(self.now + Duration::from_micros(1)) + self.late();
                    self.run_at(at);
                }
            }
            Turn::Ended | Turn::Broke => {
                self.stopped = true;
                self.sleeps = false;
                self.gave_up = !self.closed;
            }
        }
        if counts != self.side.counts() || self.stopped {
            self.note_fates();
        }
        if self.bug == Some(Bug::ReleaseTwice) && self.below(4) == 0 {
            // Only what was taken can be given back.
            self.side.queue(|queue| {
                if queue.taken() > queue.accepted() - queue.held() as u64 {
                    queue.release(1, 1);
                }
            });
        }
        self.plan_calls();
        self.check_places();
        self.check_buffer();
        if self.somebody_waits() {
            if self.below(8) > 0 {
                self.look_again();
            } else {
                let late = self.late();
                self.at(self.elapsed() + late, Happening::Look);
            }
        }
        self.after_call();
    }

    /// The delivery thread's turn.
    pub fn call_back(&mut self) {
        self.calling = false;
        self.side.call();
        self.hear_callbacks();
        self.plan_calls();
        if self.somebody_waits() {
            self.look_again();
        }
        self.after_call();
    }

    /// Tells of what stands in handles now.
    pub fn note_fates(&mut self) {
        for (id, told) in self.ledger.take_filled() {
            self.say(id, told);
        }
    }

    /// Tells of what the callback heard.
    pub fn hear_callbacks(&mut self) {
        for (id, told) in self.ledger.take_heard() {
            self.say(id, told);
        }
    }

    pub fn say(&mut self, id: u64, (said, why): Told) {
        self.look_at_blame(id, said, why.as_ref());
        self.look_at_doubt(id, said);
        self.tell(|| format!("{id}: {said:?} {}", why.map_or_else(String::new, |why| why.to_string())));
        self.ledger.say(id, said);
        self.mark(&(id, matches!(said, Said::Delivered { .. })));
    }

    /// A message that a broker refuses for what it is, is one without a key in a topic that wants one, and no other. A
    /// batch that once went unanswered fails whole, possibly (KIP-467).
    fn look_at_blame(&mut self, id: u64, said: Said, why: Option<&DeliveryErrorKind>) {
        let blamed = matches!(why, Some(DeliveryErrorKind::Broker(error)) if error.code == ErrorCode::INVALID_RECORD);
        if !self.compacted || !blamed || said != Said::Failed(Persistence::No) {
            return;
        }
        self.blamed += 1;
        if !self.ledger.sent[id as usize].second || !self.ledger.sent[id as usize].keyless {
            self.wrong(Anomaly::FalseBlame, format!("{id} was refused, and nothing is wrong with it"));
        }
    }

    fn make_turn(&mut self, cut: &mut Option<Cut>) -> Turn {
        let breaks = self.breaking.take();
        if breaks == Some(Break::AtOnce) {
            return Turn::Broke;
        }
        if let Some(Break::AtRequest(after)) = breaks {
            self.side.wires().panic_after = Some(after);
        }
        let (mut events, mut now) = (std::mem::take(&mut self.inbox), self.now);
        if self.story == Story::Stopped && self.below(4) == 0 && !events.is_empty() {
            // It has come behind the look, which was made before the process was stopped: what had come by the time
            // of a look was read.
            now = self.side.looked_at();
            self.side.wires().came = std::mem::take(&mut events);
        }
        let armed = self.side.wires().panic_after.is_some();
        let now_and_then = self.bug.is_some() && self.below(4) == 0;
        self.meddling.begin(breaks, self.lost_below, now_and_then);
        QUIET.set(matches!(breaks, Some(Break::InChunk(_))) || self.bug == Some(Bug::CompleteTwice));
        let turn = self.side.turn(events.into_iter(), now, &mut self.meddling);
        QUIET.set(false);
        self.inbox = std::mem::take(&mut self.side.wires().came);
        *cut = self.meddling.take_cut();
        if turn == Turn::Broke && cut.is_none() && !(armed && self.side.wires().panic_after.is_none()) {
            self.look_at_handles();
            self.wrong(Anomaly::Panic, "in a turn of the worker");
        }
        if let (Some(Break::InChunk(_)), None) = (breaks, &cut) {
            // No chunk came: the next one, then.
            self.breaking = breaks;
        }
        turn
    }

    /// The worker goes on after a panic.
    fn survive(&mut self, cut: Option<Cut>) -> Turn {
        self.tell(|| "the worker panics".to_owned());
        self.panics += 1;
        self.side.wires().panic_after = None;
        if self.bug == Some(Bug::LoseOpenChunkAfterPanic) {
            self.lost_below = self.side.queue(|queue| queue.accepted());
        }
        if let Some(Cut { first, index, start }) = cut {
            if let Some(chunk) = self.side.hand().iter_mut().find(|chunk| chunk.first == first) {
                chunk.mend(index, start);
            } else {
                self.wrong(Anomaly::NoOutcome, format!("the chunk from {first} is not in hand after a panic"));
            }
        }
        self.side.survive("a test")
    }

    /// The delivery thread takes its time.
    fn plan_calls(&mut self) {
        if self.calling || !self.side.has_calls() {
            return;
        }
        self.calling = true;
        let late = match self.below(8) {
            // A buffer that is full for long lets messages leave when their time is nearly up, and their answers come
            // too late whether the process is stopped or not.
            0 if self.story != Story::Stopped => Duration::from_millis(self.below(2000)),
            _ => Duration::from_micros(self.below(1000)),
        };
        self.at(self.elapsed() + late, Happening::CallBack);
    }

    fn check_buffer(&mut self) {
        let (held, most) = (self.side.engine().held(), self.config.max_buffer_bytesize);
        // One batch alone always may, whatever is kept beside its records. Its memory grows by a half, or 256 bytes.
        let records = held.bytes.saturating_sub(BATCH + held.messages * extras::EXTRA);
        let alone = self.config.max_batch_bytes + (self.config.max_batch_bytes / 2).max(256) + 200;
        if !self.callbacks && held.bytes > most && records > alone {
            self.wrong(Anomaly::WrongPlaces, format!("{held:?} are in a buffer of {most}"));
        }
    }

    /// Nothing that the worker must see waits for longer than it may be late.
    fn look_for_sleepers(&mut self) {
        if self.stopped || !self.side.is_awaited() {
            self.awaited_since = None;
            return;
        }
        let since = (*self.awaited_since.get_or_insert(self.now)).max(self.running_since());
        if self.now > since + TOO_LATE && self.turn_at.is_none_or(|at| at > self.now) {
            self.wrong(Anomaly::LostWakeUp, format!("something waits since {:?}", since - self.start));
        }
    }

    fn run_at(&mut self, at: Instant) {
        if self.stopped || self.turn_at.is_some_and(|before| before <= at) {
            return;
        }
        self.turn_at = Some(at);
        self.at(at - self.start, Happening::Turn);
    }

    /// How late a thread runs.
    pub fn late(&mut self) -> Duration {
        match self.below(64) {
            0 => Duration::from_millis(self.below(300)),
            1..8 => Duration::from_micros(self.below(20_000)),
            _ => Duration::from_micros(self.below(50)),
        }
    }
}

/// Panics that belong to the plan are not printed.
pub fn hush_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Longer than any thread is late.
pub const TOO_LATE: Duration = Duration::from_secs(1);

//! The queue between callers and the worker, as plain data: which messages wait, which of them are due, how many
//! places are taken, and who must be woken. Never locks, waits or reads the clock; `threads::producer::gate` keeps it
//! under one lock, and the sync producer keeps its buffer in one.
//!
//! Sealed chunks wait in a deque beside the open one, under the same lock, and the worker takes them all at once. A
//! channel beside the lock would be no faster, since the lock is taken anyway, and would leave a question of order
//! between the channel and the open chunk. A message holds its place until the engine wrote it (`release`), so
//! taking chunks frees nothing, and the worker needs no second queue to keep the bound.
//!
//! A topic that does not exist, or of which a partition has no leader or refuses, may fill half of the places while
//! there are other topics: with all of them it would make the others be refused until its messages fail. Half for all
//! such topics together, so that nothing is counted for each, and messages to other topics pay nothing for it. What
//! such a topic filled before that was known was accepted, and stays until it can be sent or its time is up. Once none
//! of its messages is left, the next one passes, whoever fills the queue: it finds out whether something can be sent
//! again.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

mod checked;
pub mod chunk;
pub mod entry;
pub mod extras;
mod filling;
mod lanes;
mod offered;
mod topics;

pub use self::checked::{Checked, Usual};
use self::chunk::Chunk;
use self::filling::Filling;
pub use self::offered::{Accepted, Full, Refused};
use self::topics::Topics;
use crate::deadline::Deadline;
use crate::error::{DeliveryErrorKind, InvalidTopic};
use crate::fate::slot::Slot;
use crate::message::{Message, Timestamp, Topic, TopicRef};
use crate::partitioner::Partitioner;

/// Messages in the order in which they were accepted; the n-th accepted has ticket n, counted from 0.
#[derive(Debug)]
pub struct Queue {
    number: u32,
    limits: Limits,
    phase: Phase,
    topics: Topics,
    filling: Filling,
    /// When the first message of each chunk came, for every chunk that still holds places, ascending.
    arrivals: VecDeque<Arrival>,
    /// Tickets below these were accepted, were taken by the worker, are due, and gave their places back.
    accepted: u64,
    taken: u64,
    due_upto: u64,
    released: u64,
    /// What the messages that hold a place take of the limit (`entry::cost`), and the records' bytes of those among
    /// them that are not due.
    bytes: usize,
    waiting_bytes: usize,
    worker: Worker,
    timer: Timer,
    /// For `offer_quietly`. Whatever changes more than this allows for sets it to none, and the next `offer` counts
    /// anew.
    quiet: Quiet,
}

/// What can come before anything but appending it is to be done.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet {
    messages: usize,
    /// To this topic: its index, and its number.
    topic: u32,
    number: u64,
    taker: Taker,
    /// Up to so many bytes of a chunk.
    chunk_bytes: usize,
}

/// What takes the next messages quietly.
#[derive(Clone, Copy, Debug, Default)]
enum Taker {
    /// The open chunk, any message.
    #[default]
    Open,
    /// The open chunk, which is a run: messages for whichever partition.
    Run,
    /// The lanes: messages whose keys choose among so many partitions.
    Lanes { partitions: u32 },
}

/// What a queue holds, and what makes its messages leave by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages: at least 1.
    pub messages: usize,
    /// Bytes; a message alone always fits.
    pub bytes: usize,
    /// So many messages that are not due become due; 0 is off.
    pub threshold: usize,
    /// A message that is not due becomes due at this age; zero is off.
    pub interval: Duration,
    /// Bytes of a batch: a run of messages that fills one becomes due, and so do messages of so many bytes.
    pub batch_bytes: usize,
    /// Whether a message without a key may go to whichever partition.
    pub spreads: bool,
}

/// Whether messages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was accepted yet, and no thread runs.
    Idle,
    /// Open.
    Running,
    /// Closed: what was accepted leaves, nothing more is accepted.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Awake,
    /// It waits for its sockets, and must be woken for anything new.
    Asleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// No message waits for it, or there is none.
    Parked,
    /// It waits for the moment at which the oldest message becomes due, or will look for a new one then.
    Armed,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    first: u64,
    at: Instant,
}

impl Queue {
    /// An empty queue that no thread serves yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            number: next_number(),
            limits,
            phase: Phase::Idle,
            topics: Topics::default(),
            filling: Filling::new(limits.batch_bytes),
            arrivals: VecDeque::new(),
            accepted: 0,
            taken: 0,
            due_upto: 0,
            released: 0,
            bytes: 0,
            waiting_bytes: 0,
            worker: Worker::Awake,
            timer: Timer::Parked,
            quiet: Quiet::default(),
        }
    }

    /// Places messages with keys by this from now on, as soon as the number of partitions is
    /// [told](Self::tell_partitions); else it is left to the engine.
    pub fn place_by(&mut self, partitioner: &Partitioner) {
        self.filling.partitioner = Some(partitioner.clone()).filter(|partitioner| !partitioner.is_custom());
    }

    /// A number that no other queue of this process has; never 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether messages are taken.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Takes messages from now on, unless it was closed.
    pub fn start(&mut self) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Running;
        }
    }

    /// Takes no more messages, and makes all that it has due.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
        self.quiet = Quiet::default();
        self.all_due();
    }

    /// Takes a message on the shortest way that there is for it, if nothing else is to be done with it than to append
    /// it; gives its ticket. Of the usual kind are messages of at most so many [`bytes`](Usual::bytes).
    #[inline]
    pub fn offer_quietly(
        &mut self,
        message: &Message<'_>,
        usual_bytes: usize,
        create_time: impl Fn() -> Timestamp,
    ) -> Option<u64> {
        match Usual::plain(message, usual_bytes, &create_time) {
            Some(message) => self.offer_plain(&message, None),
            None => match Usual::keyed(message, usual_bytes, &create_time) {
                Some(message) => self.offer_keyed(&message, None),
                None => self.offer_usual(&Usual::new(message, usual_bytes, create_time)?, None),
            },
        }
    }

    /// Takes a message that is not more than a value, if nothing else is to be done with it than to append it to the
    /// open chunk; gives its ticket. The way of almost all messages when many come.
    #[inline(always)]
    pub fn offer_plain(&mut self, message: &Usual<'_, '_>, slot: Option<Slot<'_>>) -> Option<u64> {
        match self.quiet_taker(message)? {
            Taker::Run if self.limits.spreads => self.append_quietly(message, slot, |queue| &mut queue.filling.open),
            // By value: a reference would keep the other way, which needs it only in registers, from having it there.
            Taker::Open => self.offer_to_mixed(*message, slot),
            Taker::Run | Taker::Lanes { .. } => None,
        }
    }

    /// As [`offer_plain`](Self::offer_plain), a message that is a key and a value.
    #[inline(always)]
    pub fn offer_keyed(&mut self, message: &Usual<'_, '_>, slot: Option<Slot<'_>>) -> Option<u64> {
        match self.quiet_taker(message)? {
            Taker::Lanes { partitions } => {
                let partition = self.filling.place(message.record.key(), partitions)?;
                self.append_quietly(message, slot, |queue| queue.filling.lanes.get_mut(partition))
            }
            Taker::Open => self.offer_to_mixed(*message, slot),
            Taker::Run => None,
        }
    }

    /// As [`offer_plain`](Self::offer_plain), any message of the usual kind.
    #[inline(always)]
    pub fn offer_usual(&mut self, message: &Usual<'_, '_>, slot: Option<Slot<'_>>) -> Option<u64> {
        match self.quiet_taker(message)? {
            Taker::Lanes { partitions } if message.message.partition.is_none() => {
                let partition = self.filling.place(message.partition_key.or(message.record.key()), partitions)?;
                self.append_quietly(message, slot, |queue| queue.filling.lanes.get_mut(partition))
            }
            Taker::Run if self.limits.spreads && message.anywhere => {
                self.append_quietly(message, slot, |queue| &mut queue.filling.open)
            }
            Taker::Run | Taker::Lanes { .. } => None,
            Taker::Open => self.offer_to_mixed(*message, slot),
        }
    }

    /// What takes the next message quietly, if it goes where the last one went.
    #[inline(always)]
    fn quiet_taker(&self, message: &Usual<'_, '_>) -> Option<Taker> {
        let Quiet { messages, number, taker, .. } = self.quiet;
        (messages > 0 && message.message.topic.checked()?.number() == number).then_some(taker)
    }

    #[inline(always)]
    fn append_quietly(
        &mut self,
        message: &Usual<'_, '_>,
        slot: Option<Slot<'_>>,
        chunk: impl FnOnce(&mut Self) -> &mut Chunk,
    ) -> Option<u64> {
        let cost = message.cost(slot.is_some());
        let bytes = self.bytes + cost;
        let waiting_bytes = self.waiting_bytes + message.record.tail_len() + LEAST_HEAD;
        if waiting_bytes >= self.limits.batch_bytes || bytes > self.limits.bytes {
            return None;
        }
        let most = self.quiet.chunk_bytes;
        let chunk = chunk(self);
        chunk.push_usual(most.min(chunk.records.capacity()), message, slot, cost)?;
        let ticket = self.accepted;
        self.accepted += 1;
        self.quiet.messages -= 1;
        (self.bytes, self.waiting_bytes) = (bytes, waiting_bytes);
        Some(ticket)
    }

    /// Among messages that the engine will sort.
    #[inline(never)]
    fn offer_to_mixed(&mut self, message: Usual<'_, '_>, slot: Option<Slot<'_>>) -> Option<u64> {
        let anywhere = self.limits.spreads && message.anywhere;
        let ticket = self.append_quietly(&message, slot, |queue| &mut queue.filling.open)?;
        self.filling.open.note_usual(self.quiet.topic, &message, anywhere);
        Some(ticket)
    }

    /// Takes the message, or says why not; `clock` is asked for the first message of a chunk and every 1,024th behind
    /// it, and says nothing in a process that is another one.
    ///
    /// # Errors
    /// All of [`Refused`]; the message can be offered again.
    pub fn offer(
        &mut self,
        message: &mut Checked<'_, '_>,
        slot: Option<Slot<'_>>,
        clock: impl FnOnce() -> Option<Instant>,
    ) -> Result<Accepted, Refused> {
        if self.phase != Phase::Running {
            return Err(if self.phase == Phase::Idle { Refused::Idle } else { Refused::Closed });
        }
        let cost = message.cost(slot.is_some());
        if let Some(limit) = self.limit_reached(self.limits.messages, self.limits.bytes, cost) {
            return Err(self.refuse(limit, None));
        }
        let topic = self.topics.seat(&message.message.topic).map_err(Refused::InvalidTopic)?;
        if let Some(why) = self.topics.held_up(topic) {
            if let Some(limit) = self.limit_reached((self.limits.messages / 2).max(1), self.limits.bytes / 2, cost) {
                let why = Arc::clone(why);
                if !self.topics.let_pass(topic) {
                    return Err(self.refuse(limit, Some(why)));
                }
            }
        }
        let anywhere = self.limits.spreads && message.goes_anywhere();
        let partitions = self.topics.partitions(topic);
        let mut way = self.filling.way(message, topic, partitions, anywhere);
        if let Some(batch) = self.filling.is_full_for(message, topic, way) {
            if batch {
                self.all_due();
            }
            self.seal();
            way = self.filling.way(message, topic, partitions, anywhere);
        }
        let begins = self.filling.first().is_none();
        if begins || self.open_len() % LOOKS_AT_CLOCK == 0 {
            let at = clock().ok_or(Refused::Forked)?;
            if begins && self.arrivals.back().is_none_or(|last| at >= last.at + self.precision()) {
                self.arrivals.push_back(Arrival { first: self.accepted, at });
            }
        }
        self.filling.put(message, (topic, way), self.accepted, slot, cost);
        let ticket = self.accepted;
        self.accepted += 1;
        self.bytes += cost;
        self.waiting_bytes += message.tail_len + LEAST_HEAD;
        if self.open_len() >= self.chunk_messages() {
            self.seal();
        }
        if self.has_enough() {
            self.all_due();
        }
        let accepted = Accepted { ticket, wake: self.wake(), arm: self.arm() };
        self.filling.sum_up(self.bytes);
        self.count_quiet(topic, &message.message.topic);
        Ok(accepted)
    }

    /// Counts how many messages like the last one can follow without anything to be done for them.
    fn count_quiet(&mut self, topic: u32, name: &TopicRef<'_>) {
        self.quiet = Quiet::default();
        let armed = self.timer == Timer::Armed || self.limits.interval.is_zero();
        let Some(number) = name.checked().map(Topic::number) else { return };
        if !armed || self.filling.first().is_none() || self.topics.held_up(topic).is_some() {
            return;
        }
        let places = self.limits.messages - self.held();
        let below_threshold = match self.limits.threshold {
            0 => usize::MAX,
            threshold => threshold - (self.accepted - self.due_upto) as usize,
        };
        let in_chunk = self.chunk_messages() - self.open_len();
        let until_look = LOOKS_AT_CLOCK - self.open_len() % LOOKS_AT_CLOCK;
        // The last of each kind has something to be done for it.
        let messages = places.min(below_threshold).min(in_chunk).min(until_look).saturating_sub(1);
        let taker = if self.filling.lanes.first().is_some() {
            Taker::Lanes { partitions: self.topics.partitions(topic) }
        } else if self.filling.open.run() == Some(topic) {
            Taker::Run
        } else {
            Taker::Open
        };
        let chunk_bytes = self.filling.until(topic, self.bytes);
        self.quiet = Quiet { messages, topic, number, taker, chunk_bytes };
    }

    /// Makes the message with this ticket due, and all others with it, since they leave together. Returns whether the
    /// worker must be woken.
    #[must_use = "the worker must be woken"]
    pub fn due(&mut self, ticket: u64) -> bool {
        if ticket >= self.taken && ticket < self.accepted {
            self.all_due();
        }
        self.wake()
    }

    /// Makes every message due. Returns whether the worker must be woken.
    #[must_use = "the worker must be woken"]
    pub fn deliver(&mut self) -> bool {
        self.all_due();
        self.wake()
    }

    /// The next message is looked at in every respect.
    pub fn look_closer(&mut self) {
        self.quiet = Quiet::default();
    }

    /// Moves every chunk that holds a due message to `out`, whole. Returns whether there was any.
    pub fn take_due(&mut self, out: &mut VecDeque<Chunk>) -> bool {
        if self.taken >= self.due_upto {
            return false;
        }
        // Of chunks that were sealed together all messages are due, or none.
        self.filling.take(self.due_upto, out);
        if self.filling.first().is_some_and(|first| first < self.due_upto) {
            self.filling.seal(self.accepted);
            self.all_due();
            self.filling.take(self.due_upto, out);
            self.quiet = Quiet::default();
        }
        if let Some(last) = out.back() {
            self.taken = last.upto;
        }
        true
    }

    /// Takes so many bytes more for messages that hold places already; they become free with these.
    pub fn charge(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Frees the places of so many messages, oldest first.
    pub fn release(&mut self, messages: u64, bytes: usize) {
        debug_assert!(self.released + messages <= self.taken, "only what was taken has left");
        self.released = (self.released + messages).min(self.taken);
        self.bytes = if self.held() == 0 { 0 } else { self.bytes.saturating_sub(bytes) };
        while self.arrivals.get(1).is_some_and(|next| next.first <= self.released) {
            self.arrivals.pop_front();
        }
        if self.held() == 0 {
            self.arrivals.clear();
        }
    }

    /// Takes a chunk back whose messages have left it, to use its memory again.
    pub fn recycle(&mut self, chunk: Chunk) {
        self.filling.recycle(chunk, self.limits.bytes);
    }

    /// The worker is about to wait: from now on it must be woken. Not if something is due.
    pub fn sleep(&mut self) {
        if self.taken >= self.due_upto {
            self.worker = Worker::Asleep;
        }
    }

    /// Whether the worker must be woken for something that is no message; it counts as woken then.
    #[must_use = "the worker must be woken"]
    pub fn rouse(&mut self) -> bool {
        mem::replace(&mut self.worker, Worker::Awake) == Worker::Asleep
    }

    /// The timer looks what it should wait for: what became old enough at `now` is due. Returns the next moment,
    /// *never* if nothing waits, and whether the worker must be woken.
    #[must_use = "the worker must be woken"]
    pub fn tick(&mut self, now: Instant) -> (Deadline, bool) {
        let deadline = self.interval_end();
        if deadline.passed(now) {
            self.all_due();
        }
        let waits = self.waits();
        self.timer = if waits { Timer::Armed } else { Timer::Parked };
        self.quiet = Quiet::default();
        (if waits { deadline } else { Deadline::NEVER }, self.wake())
    }

    /// The topic's index, which it gets if it has none.
    ///
    /// # Errors
    /// The name is not allowed.
    pub fn topic(&mut self, name: &str) -> Result<u32, InvalidTopic> {
        self.topics.seat(&TopicRef::from(name))
    }

    /// How many partitions a topic has; 0 if that is not known any more.
    pub fn tell_partitions(&mut self, topic: u32, partitions: u32) {
        if self.topics.partitions(topic) != partitions {
            self.look_closer();
            if self.filling.lanes.first().is_some() {
                self.seal();
            }
            self.topics.tell_partitions(topic, partitions);
        }
    }

    /// Why nothing can be sent to a topic now, or that something can again.
    pub fn hold_up(&mut self, topic: u32, why: Option<Arc<DeliveryErrorKind>>) {
        self.look_closer();
        self.topics.hold_up(topic, why);
    }

    /// The topics by index.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        self.topics.all()
    }

    /// How many messages hold a place.
    #[must_use]
    pub fn held(&self) -> usize {
        (self.accepted - self.released) as usize
    }

    /// Bytes of the messages that hold a place.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many messages the worker ever took.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether messages are due that the worker has not taken.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn has_due(&self) -> bool {
        self.taken < self.due_upto
    }

    /// Whether the worker must be woken for anything new.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.worker == Worker::Asleep
    }

    /// Whether the timer must look when the oldest message becomes due.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.timer == Timer::Armed
    }

    /// When the oldest message that holds a place came, to the precision of a chunk.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.arrivals.front().map(|arrival| arrival.at)
    }

    /// When the oldest message that is not due came, or an earlier one that leaves with it.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Instant> {
        if !self.waits() {
            return None;
        }
        let later = self.arrivals.partition_point(|arrival| arrival.first <= self.due_upto);
        self.arrivals.get(later.checked_sub(1)?).map(|arrival| arrival.at)
    }

    /// Chunks that begin so soon after each other share an arrival: where each message is a chunk, there would be as
    /// many of them.
    fn precision(&self) -> Duration {
        if self.limits.interval.is_zero() { ARRIVED_TOGETHER } else { ARRIVED_TOGETHER.min(self.limits.interval / 8) }
    }

    #[inline]
    fn limit_reached(&self, messages: usize, bytes: usize, cost: usize) -> Option<(usize, bool)> {
        if self.held() >= messages {
            Some((messages, false))
        } else if self.held() > 0 && self.bytes.saturating_add(cost) > bytes {
            Some((bytes, true))
        } else {
            None
        }
    }

    /// A full queue is a reason to deliver, whichever of its bounds it reached.
    #[cold]
    fn refuse(&mut self, (limit, bytes): (usize, bool), held_up: Option<Arc<DeliveryErrorKind>>) -> Refused {
        // A topic that is held up makes others leave early only where too few are due for it to be heard again.
        if held_up.is_none() || bytes || self.due_upto - self.released < limit as u64 {
            self.all_due();
        }
        let (queued, oldest) = (self.held(), self.oldest());
        Refused::Full(Full { queued, limit, bytes, oldest, held_up, wake: self.wake() })
    }

    /// How many messages are in what is open.
    fn open_len(&self) -> usize {
        self.filling.first().map_or(0, |first| (self.accepted - first) as usize)
    }

    /// How many messages a chunk holds: a small queue has small chunks, so that it can be filled while others are under
    /// way.
    #[inline]
    fn chunk_messages(&self) -> usize {
        (self.limits.messages / 4).max(1)
    }

    /// Ends what is open.
    fn seal(&mut self) {
        if self.filling.first().is_some_and(|first| first < self.due_upto) {
            self.all_due();
        }
        self.filling.seal(self.accepted);
        self.look_closer();
    }

    fn has_enough(&self) -> bool {
        let waiting = self.accepted - self.due_upto;
        (self.limits.threshold > 0 && waiting >= self.limits.threshold as u64)
            || self.held() >= self.limits.messages
            || self.waiting_bytes >= self.limits.batch_bytes
    }

    fn waits(&self) -> bool {
        self.accepted > self.due_upto
    }

    fn all_due(&mut self) {
        self.due_upto = self.accepted;
        self.waiting_bytes = 0;
    }

    fn wake(&mut self) -> bool {
        self.taken < self.due_upto && self.rouse()
    }

    fn arm(&mut self) -> bool {
        let arm = self.timer == Timer::Parked && !self.limits.interval.is_zero() && self.waits();
        if arm {
            self.timer = Timer::Armed;
        }
        arm
    }

    fn interval_end(&self) -> Deadline {
        match self.oldest_waiting() {
            Some(since) if !self.limits.interval.is_zero() => Deadline::after(since, self.limits.interval),
            _ => Deadline::NEVER,
        }
    }
}

fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if number != 0 {
            return number;
        }
    }
}

const ARRIVED_TOGETHER: Duration = Duration::from_millis(1);
const LOOKS_AT_CLOCK: usize = 1024;
/// Bytes of a record in front of its tail, at least.
const LEAST_HEAD: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fate::slot;
    use crate::queue::checked::ENCODED_BEFORE;
    use crate::queue::entry;
    use crate::queue::filling::{BEHIND, SUMMED_TOGETHER};
    use crate::record::batch::BatchBuilder;
    use crate::record::tail;

    #[test]
    fn refuses_exactly_at_its_bound_and_takes_again_after_a_release() {
        let mut queue = queue(3, 1_000_000);
        for _ in 0..3 {
            assert!(offer(&mut queue, "orders", 1).is_ok());
        }
        let full = full(offer(&mut queue, "orders", 1));
        assert_eq!((full.queued, full.limit, full.bytes), (3, 3, false));
        let mut out = VecDeque::new();
        assert!(queue.take_due(&mut out), "a full queue is due");
        assert!(offer(&mut queue, "orders", 1).is_err(), "taken is not written");
        queue.release(1, 20);
        assert!(offer(&mut queue, "orders", 1).is_ok());
        assert!(offer(&mut queue, "orders", 1).is_err());
    }

    #[test]
    fn bytes_bound_it_too_but_a_message_alone_always_fits() {
        let mut queue = queue(100, 1000);
        assert!(offer(&mut queue, "orders", 5000).is_ok());
        let full = full(offer(&mut queue, "orders", 1));
        assert_eq!((full.queued, full.limit, full.bytes), (1, 1000, true));
    }

    #[test]
    fn a_topic_that_is_held_up_fills_half_of_the_places_while_there_are_others() {
        let why = || Some(Arc::new(DeliveryErrorKind::Purged));
        for (messages, bytes, limit, by_bytes) in [(10, 1_000_000, 5, false), (100, 1000, 500, true)] {
            let mut queue = queue(messages, bytes);
            let offer_all = |queue: &mut Queue, topic: &str| (0..).map_while(|_| offer(queue, topic, 60).ok()).count();
            assert!(offer(&mut queue, "bad", 60).is_ok());
            queue.hold_up(0, why());
            let whole = offer_all(&mut queue, "bad") + 1;
            assert_eq!(whole, 10, "it is alone");
            queue.deliver_and_release(whole as u64 - 1);
            assert!(offer(&mut queue, "good", 60).is_ok());
            let bad = offer_all(&mut queue, "bad");
            assert_eq!(bad, 3, "half is full with them and one of another topic");
            let refused = full(offer(&mut queue, "bad", 60));
            assert_eq!((refused.limit, refused.bytes, refused.held_up.is_some()), (limit, by_bytes, true));
            assert_eq!(offer_all(&mut queue, "good"), 5, "the other half is for the others");
            assert!(full(offer(&mut queue, "good", 60)).held_up.is_none());
            assert!(full(offer(&mut queue, "bad", 60)).held_up.is_none(), "the whole queue is full");
            queue.deliver_and_release(5);
            assert!(offer(&mut queue, "bad", 60).is_err());
            queue.hold_up(0, None);
            assert_eq!(offer_all(&mut queue, "bad"), 5, "something can be sent to it again");
            queue.deliver_and_release(10);
            (0..2).for_each(|topic| queue.hold_up(topic, why()));
            assert_eq!(offer_all(&mut queue, "good"), 10, "no topic is better than another");
        }
    }

    #[test]
    fn a_message_to_a_topic_that_is_held_up_passes_once_none_is_left() {
        let mut queue = queue(10, 1_000_000);
        let why = Arc::new(DeliveryErrorKind::Purged);
        assert!(offer(&mut queue, "bad", 1).is_ok());
        (0..6).for_each(|_| assert!(offer(&mut queue, "good", 1).is_ok()));
        queue.hold_up(0, Some(Arc::clone(&why)));
        assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
        for _ in 0..2 {
            // Told again: it has no message.
            queue.hold_up(0, Some(Arc::clone(&why)));
            assert!(offer(&mut queue, "bad", 1).is_ok());
            assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
        }
        queue.hold_up(0, Some(Arc::new(DeliveryErrorKind::Purged)));
        assert!(offer(&mut queue, "bad", 1).is_err(), "another reason is none to look");
    }

    #[test]
    fn a_refusal_for_a_topic_that_is_held_up_leaves_what_others_wait_for() {
        let mut queue = queue(1000, 1_000_000);
        assert!(offer(&mut queue, "bad", 1).is_ok());
        (0..499).for_each(|_| assert!(offer(&mut queue, "good", 1).is_ok()));
        queue.hold_up(0, Some(Arc::new(DeliveryErrorKind::Purged)));
        assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
        assert_eq!(queue.due_upto, 500, "too few were due, and half of the queue is full");
        assert!(offer(&mut queue, "good", 1).is_ok());
        let due = queue.due_upto;
        assert!(full(offer(&mut queue, "bad", 1)).held_up.is_some());
        assert_eq!((due, queue.due_upto), (500, 500));
    }

    #[test]
    fn nothing_goes_quietly_to_a_topic_that_is_held_up() {
        let mut queue = queue(1000, 1_000_000);
        let [bad, good] = ["bad", "good"].map(|name| Topic::new(name).expect("a good name"));
        assert!(offer(&mut queue, "good", 1).is_ok());
        assert!(queue.offer(&mut check(&Message::new(&bad, "v")), None, now).is_ok());
        queue.hold_up(1, Some(Arc::new(DeliveryErrorKind::Purged)));
        for topic in [&bad, &good, &bad] {
            assert!(queue.offer(&mut check(&Message::new(topic, "v")), None, now).is_ok());
            let quiet = quietly(&mut queue, &Message::new(topic, "v")).is_some();
            assert_eq!(quiet, topic == &good);
        }
    }

    impl Queue {
        fn deliver_and_release(&mut self, messages: u64) {
            let _ = self.deliver();
            self.take_due(&mut VecDeque::new());
            let bytes = self.bytes() / self.held() * messages as usize;
            self.release(messages, bytes);
        }
    }

    #[test]
    fn a_refused_call_wakes_a_sleeping_worker_once() {
        let mut queue = queue(100, 1000);
        queue.sleep();
        assert!(!offer(&mut queue, "orders", 900).expect("accepted").wake);
        assert!(full(offer(&mut queue, "orders", 900)).wake, "what is queued is due now");
        assert!(!full(offer(&mut queue, "orders", 900)).wake, "the worker is awake");
        queue.take_due(&mut VecDeque::new());
        queue.sleep();
        assert!(!full(offer(&mut queue, "orders", 900)).wake, "the worker has it all");
    }

    #[test]
    fn a_large_message_travels_alone_and_in_order() {
        let mut queue = queue(100, 1_000_000);
        for len in [1, 20_000, 2] {
            offer(&mut queue, "orders", len).expect("accepted");
        }
        let mut out = VecDeque::new();
        assert!(!queue.deliver(), "it was never asleep");
        queue.take_due(&mut out);
        let seen: Vec<(u64, usize)> = out.iter().map(|chunk| (chunk.first, chunk.len())).collect();
        assert_eq!(seen, [(0, 1), (1, 1), (2, 1)]);
        assert!(out[1].records.len() > 20_000);
    }

    #[test]
    fn callers_compute_checksums_of_runs_when_much_waits_before_them() {
        fn fill(queue: &mut Queue, topic: &Topic, messages: usize) -> Chunk {
            let value = [0; 1000];
            let message = Message::new(topic, &value[..]);
            for _ in 0..messages {
                let mut checked = check(&message);
                if quietly(queue, &message).is_none() {
                    queue.offer(&mut checked, None, now).expect("room");
                }
            }
            let mut out = VecDeque::new();
            assert!(!queue.deliver(), "it was never asleep");
            queue.take_due(&mut out);
            out.pop_back().expect("a chunk")
        }
        let mut queue = queue(1_000_000, 2 * BEHIND);
        let orders = Topic::new("orders").expect("a good name");
        let first = fill(&mut queue, &orders, 80).records;
        assert_eq!(first.summed_len(), BatchBuilder::default().len(), "nothing waits: the worker does it");
        fill(&mut queue, &orders, BEHIND / 1000);
        let late = fill(&mut queue, &orders, 80).records;
        assert!(late.len() > 80_000 && late.len() - late.summed_len() < SUMMED_TOGETHER + 2000);
    }

    #[test]
    fn topics_are_numbered_as_they_come_and_bad_names_come_back() {
        let mut queue = queue(100, 1_000_000);
        let checked = Topic::new("parcels").expect("a good name");
        offer(&mut queue, "orders", 1).expect("accepted");
        for _ in 0..2 {
            let message = Message::new(&checked, "v");
            queue.offer(&mut check(&message), None, now).expect("accepted");
        }
        offer(&mut queue, "orders", 1).expect("accepted");
        offer(&mut queue, "parcels", 1).expect("accepted");
        assert!(matches!(offer(&mut queue, "no topic!", 1), Err(Refused::InvalidTopic(_))));
        assert_eq!(queue.topics(), [Topic::trusted("orders"), Topic::trusted("parcels")]);
        assert!(!queue.deliver(), "it was never asleep");
        let mut out = VecDeque::new();
        queue.take_due(&mut out);
        let topics: Vec<u32> =
            out.iter_mut().flat_map(|chunk| chunk.entries().map(|entry| entry.topic).collect::<Vec<_>>()).collect();
        assert_eq!(topics, [0, 1, 1, 0, 1]);
    }

    #[test]
    fn handles_keep_the_index_of_their_message() {
        let mut queue = queue(8, 1_000_000);
        let lookouts = slot::of_nobody::<2>();
        let [first, second] = lookouts.each_ref().map(slot::Lookout::slot);
        for (len, slot) in [(1, None), (2, Some(first)), (30_000, Some(second))] {
            let value = vec![0; len];
            let message = Message::new("orders", &value);
            queue.offer(&mut check(&message), slot, now).expect("accepted");
        }
        assert!(!queue.deliver(), "it was never asleep");
        let mut out = VecDeque::new();
        queue.take_due(&mut out);
        let indexes: Vec<Vec<u32>> =
            out.iter().map(|chunk| chunk.extras.iter().map(|extra| extra.index).collect()).collect();
        assert_eq!(indexes, [vec![1], vec![0]], "the first two fill a chunk of a queue this small");
    }

    #[test]
    fn the_timer_is_armed_once_and_fires_for_the_oldest() {
        let mut queue = Queue::new(Limits { interval: Duration::from_secs(5), ..limits(100, 1_000_000) });
        queue.start();
        let at = start();
        let later = |seconds| at + Duration::from_secs(seconds);
        assert_eq!(queue.tick(at), (Deadline::NEVER, false), "nothing waits");
        let put = |queue: &mut Queue, seconds| {
            let message = Message::new("orders", "v");
            queue.offer(&mut check(&message), None, || Some(later(seconds))).expect("accepted").arm
        };
        assert!(put(&mut queue, 1));
        assert!(!put(&mut queue, 2), "it is armed");
        assert_eq!(queue.tick(later(2)), (Deadline::at(later(6)), false));
        queue.sleep();
        assert_eq!(queue.tick(later(6)), (Deadline::NEVER, true), "it fires, and wakes the worker");
        assert!(queue.take_due(&mut VecDeque::new()));
        assert_eq!(queue.tick(later(20)), (Deadline::NEVER, false), "once");
        assert!(put(&mut queue, 30));
        assert_eq!(queue.tick(later(30)), (Deadline::at(later(35)), false));
    }

    #[test]
    fn an_endless_interval_does_not_overflow() {
        let mut queue = Queue::new(Limits { interval: Duration::MAX, ..limits(100, 1_000_000) });
        queue.start();
        assert!(offer(&mut queue, "orders", 1).expect("accepted").arm);
        assert_eq!(queue.tick(start()), (Deadline::NEVER, false));
        assert!(!offer(&mut queue, "orders", 1).expect("accepted").arm, "armed, if for a moment that never comes");
    }

    #[test]
    fn nothing_is_accepted_before_the_start_and_after_the_end() {
        let mut queue = Queue::new(limits(3, 1000));
        assert!(matches!(offer(&mut queue, "orders", 1), Err(Refused::Idle)));
        queue.start();
        offer(&mut queue, "orders", 1).expect("accepted");
        queue.close();
        queue.start();
        assert!(matches!(offer(&mut queue, "orders", 1), Err(Refused::Closed)));
        assert!(queue.take_due(&mut VecDeque::new()), "what was accepted is due");
    }

    #[test]
    fn what_a_message_takes_is_known_before() {
        let plain = Message::new("orders", "value");
        let rich = plain.clone().with_key("k").with_tag(7).with_partition_key("pk").with_header("h", "v");
        for message in [plain, rich] {
            let chunk = Chunk::of(0, 0, &message, Timestamp::from_millis(0));
            let (_, tail) = chunk.records.record_at(0);
            assert_eq!(check(&message).tail_len, tail.len());
            assert_eq!(chunk.cost, entry::cost(tail.len(), chunk.extras.first()));
        }
    }

    #[test]
    fn a_run_that_fills_a_batch_is_due_and_leaves_the_next_one_behind() {
        let mut queue = Queue::new(Limits { batch_bytes: 5_000, ..limits(1_000, 1_000_000) });
        queue.start();
        queue.sleep();
        let mut count = 0;
        while !offer(&mut queue, "orders", 100).expect("accepted").wake {
            count += 1;
        }
        let mut out = VecDeque::new();
        assert!(queue.take_due(&mut out));
        let [run] = out.make_contiguous() else { panic!("{out:?}") };
        assert_eq!((run.run(), run.len()), (Some(0), count));
        assert!((4_850..=5_000).contains(&run.records.len()), "{} bytes", run.records.len());
        assert_eq!(queue.accepted() - queue.taken(), 1, "the message that did not fit");
        assert!(!queue.take_due(&mut out));
    }

    #[test]
    fn what_names_a_key_or_a_partition_or_another_topic_ends_a_run_and_no_chunk() {
        let plain = Message::new("orders", "v");
        let others = [
            plain.clone().with_key("k"),
            plain.clone().with_partition(3),
            plain.clone().with_partition_key("k"),
            Message::new("parcels", "v"),
        ];
        for other in others {
            let mut queue = queue(100, 1_000_000);
            for message in [&plain, &plain, &other, &plain] {
                queue.offer(&mut check(message), None, now).expect("accepted");
            }
            assert!(!queue.deliver(), "it was never asleep");
            let mut out = VecDeque::new();
            queue.take_due(&mut out);
            let [chunk] = out.make_contiguous() else { panic!("{out:?}") };
            assert_eq!(chunk.run(), None);
            let seen: Vec<_> =
                chunk.entries().map(|entry| (entry.partition, tail::key(entry.tail).is_some())).collect();
            let kind = (other.partition(), other.key().is_some());
            assert_eq!(seen, [(None, false), (None, false), kind, (None, false)]);
        }
    }

    #[test]
    fn with_a_partitioner_of_the_users_nothing_is_a_run() {
        let mut queue = Queue::new(Limits { spreads: false, ..limits(100, 1_000_000) });
        queue.start();
        offer(&mut queue, "orders", 1).expect("accepted");
        assert!(!queue.deliver(), "it was never asleep");
        let mut out = VecDeque::new();
        queue.take_due(&mut out);
        assert_eq!(out[0].run(), None);
    }

    #[test]
    fn most_of_many_plain_messages_are_taken_quietly() {
        let mut queue = Queue::new(Limits { batch_bytes: 100_000, ..limits(100_000, 100_000_000) });
        queue.start();
        let topic = Topic::new("orders").expect("a good name");
        let message = Message::new(&topic, "a value");
        let quiet = (0..50_000).filter(|_| {
            quietly(&mut queue, &message).is_some() || queue.offer(&mut check(&message), None, now).is_err()
        });
        let quiet = quiet.count();
        assert!(quiet > 49_900, "{quiet}");
        assert_eq!(queue.accepted(), 50_000);
    }

    #[test]
    fn another_process_gets_nothing_in() {
        let mut queue = queue(100, 1_000_000);
        let message = Message::new("orders", "v");
        assert!(matches!(queue.offer(&mut check(&message), None, || None), Err(Refused::Forked)));
        assert_eq!((queue.accepted(), queue.oldest()), (0, None));
    }

    /// The same queue, written as slowly and plainly as possible. All messages are of one run.
    struct Model {
        limits: Limits,
        messages: Vec<Told>,
        /// Which chunk is open.
        chunk: usize,
        asleep: bool,
        armed: bool,
        closed: bool,
    }

    struct Told {
        tail_len: usize,
        cost: usize,
        chunk: usize,
        due: bool,
        taken: bool,
        released: bool,
    }

    impl Model {
        fn held(&self) -> (usize, usize) {
            let held = self.messages.iter().filter(|message| !message.released);
            (held.clone().count(), held.map(|message| message.cost).sum())
        }

        fn all_due(&mut self) {
            self.messages.iter_mut().for_each(|message| message.due = true);
        }

        fn wake(&mut self) -> bool {
            let wake = self.asleep && self.messages.iter().any(|message| message.due && !message.taken);
            self.asleep &= !wake;
            wake
        }

        fn of_chunk(&self, chunk: usize) -> impl Iterator<Item = &Told> + Clone {
            self.messages.iter().filter(move |message| message.chunk == chunk)
        }

        /// A chunk that holds a due message is all due once nothing more can come into it.
        fn seal(&mut self) {
            if self.of_chunk(self.chunk).any(|message| message.due) {
                self.all_due();
            }
            self.chunk += 1;
        }

        /// Bytes of the open chunk as a batch, with this message. A message's time is its ticket.
        fn batch_with(&self, tail_len: usize) -> usize {
            let mut batch = BatchBuilder::default();
            for (ticket, message) in (0..).zip(&self.messages).filter(|(_, message)| message.chunk == self.chunk) {
                batch.append(ticket, &vec![0; message.tail_len]);
            }
            batch.append(self.messages.len() as i64, &vec![0; tail_len]);
            batch.len()
        }

        /// Accepted, and whether the worker and the timer must be woken.
        fn offer(&mut self, tail_len: usize, cost: usize) -> (bool, bool, bool) {
            let (count, bytes) = self.held();
            if self.closed {
                return (false, false, false);
            }
            if count >= self.limits.messages || (count > 0 && bytes + cost > self.limits.bytes) {
                self.all_due();
                return (false, self.wake(), false);
            }
            let large = tail_len > ENCODED_BEFORE;
            let begun = self.of_chunk(self.chunk).next().is_some();
            if begun && !large && self.batch_with(tail_len) > self.limits.batch_bytes {
                self.all_due();
                self.seal();
            } else if large {
                self.seal();
            }
            let chunk = self.chunk;
            self.messages.push(Told { tail_len, cost, chunk, due: false, taken: false, released: false });
            if large {
                self.chunk += 1;
            } else if self.of_chunk(chunk).count() >= (self.limits.messages / 4).max(1) {
                self.seal();
            }
            let waiting = self.messages.iter().filter(|message| !message.due);
            let enough = (self.limits.threshold > 0 && waiting.clone().count() >= self.limits.threshold)
                || waiting.map(|message| message.tail_len + LEAST_HEAD).sum::<usize>() >= self.limits.batch_bytes
                || self.held().0 == self.limits.messages;
            if enough {
                self.all_due();
            }
            let wake = self.wake();
            let arm = !self.armed && self.messages.iter().any(|message| !message.due);
            self.armed |= arm;
            (true, wake, arm)
        }

        fn take(&mut self) -> Vec<u64> {
            let due = self.messages.iter().filter(|message| message.due && !message.taken);
            let Some(last) = due.map(|message| message.chunk).max() else { return Vec::new() };
            let mut tickets = Vec::new();
            for (ticket, message) in (0..).zip(&mut self.messages) {
                if !message.taken && message.chunk <= last {
                    (message.due, message.taken) = (true, true);
                    tickets.push(ticket);
                }
            }
            if last == self.chunk {
                self.chunk += 1;
            }
            tickets
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Offer(usize),
        Due(u64),
        Deliver,
        Take,
        TakeAndSleep,
        Rouse,
        Release(u64),
        Tick,
        Close,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            24 => (0usize..80).prop_map(Op::Offer),
            1 => (17_000usize..18_000).prop_map(Op::Offer),
            2 => (0u64..40).prop_map(Op::Due),
            1 => Just(Op::Deliver),
            2 => Just(Op::Take),
            6 => Just(Op::TakeAndSleep),
            1 => Just(Op::Rouse),
            4 => (1u64..6).prop_map(Op::Release),
            2 => Just(Op::Tick),
            1 => Just(Op::Close),
        ];
        prop::collection::vec(op, 1..120)
    }

    fn any_limits() -> impl Strategy<Value = Limits> {
        (1usize..60, 60usize..9000, prop_oneof![Just(0usize), 1usize..20], 30usize..2000).prop_map(
            |(messages, bytes, threshold, batch_bytes)| {
                let interval = Duration::from_secs(1);
                Limits { messages, bytes, threshold, interval, batch_bytes, spreads: true }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_behaves_as_the_plain_model(limits in any_limits(), ops in ops()) {
            let mut queue = Queue::new(limits);
            queue.start();
            let messages = Vec::new();
            let mut model = Model { limits, messages, chunk: 0, asleep: false, armed: false, closed: false };
            let at = start();
            let topic = Topic::new("orders").expect("a good name");
            for op in ops {
                match op {
                    Op::Offer(len) => {
                        let value = vec![7; len];
                        let ticket = queue.accepted();
                        let time = Timestamp::from_millis(ticket as i64);
                        let message = Message::new(&topic, &value).with_create_time(time);
                        let mut checked = check(&message);
                        let cost = checked.cost(false);
                        let expected = model.offer(checked.tail_len, cost);
                        let seen = if quietly(&mut queue, &message) == Some(ticket) {
                            (true, false, false)
                        } else {
                            match queue.offer(&mut checked, None, || Some(at)) {
                                Ok(accepted) => {
                                    prop_assert_eq!(accepted.ticket, ticket);
                                    (true, accepted.wake, accepted.arm)
                                }
                                Err(Refused::Full(full)) => (false, full.wake, false),
                                Err(_) => (false, false, false),
                            }
                        };
                        prop_assert_eq!(seen, expected);
                    }
                    Op::Due(ticket) => {
                        if model.messages.get(ticket as usize).is_some_and(|message| !message.taken) {
                            model.all_due();
                        }
                        prop_assert_eq!(queue.due(ticket), model.wake());
                    }
                    Op::Deliver => {
                        model.all_due();
                        prop_assert_eq!(queue.deliver(), model.wake());
                    }
                    Op::Take | Op::TakeAndSleep => {
                        let mut out = VecDeque::new();
                        let took = queue.take_due(&mut out);
                        let expected = model.take();
                        prop_assert_eq!(took, !expected.is_empty());
                        let mut tickets = Vec::new();
                        for chunk in &mut out {
                            let first = chunk.first;
                            for (ticket, entry) in (first..).zip(chunk.entries()) {
                                prop_assert_eq!(entry.create_time, ticket as i64);
                                tickets.push(ticket);
                            }
                        }
                        prop_assert_eq!(tickets, expected);
                        out.into_iter().for_each(|chunk| queue.recycle(chunk));
                        if matches!(op, Op::TakeAndSleep) {
                            queue.sleep();
                            model.asleep = true;
                        }
                    }
                    Op::Rouse => {
                        prop_assert_eq!(queue.rouse(), model.asleep);
                        model.asleep = false;
                    }
                    Op::Release(most) => {
                        let leave = model.messages.iter_mut().filter(|message| message.taken && !message.released);
                        let (mut count, mut bytes) = (0, 0);
                        for message in leave.take(most as usize) {
                            message.released = true;
                            count += 1;
                            bytes += message.cost;
                        }
                        queue.release(count, bytes);
                    }
                    Op::Tick => {
                        // A moment before or after every message's interval has ended.
                        let late = queue.accepted() % 2 == 0;
                        let now = if late { at + Duration::from_secs(1) } else { at };
                        let waits = model.messages.iter().any(|message| !message.due);
                        if late {
                            model.all_due();
                        }
                        model.armed = waits && !late;
                        let next = if model.armed { Deadline::at(at + Duration::from_secs(1)) } else { Deadline::NEVER };
                        prop_assert_eq!(queue.tick(now), (next, model.wake()));
                    }
                    Op::Close => {
                        queue.close();
                        model.all_due();
                        model.closed = true;
                    }
                }
                prop_assert_eq!((queue.held(), queue.bytes()), model.held());
                prop_assert_eq!(queue.oldest().is_some(), queue.held() > 0);
                let waits = model.messages.iter().any(|message| !message.due);
                prop_assert_eq!(queue.oldest_waiting().is_some(), waits);
            }
        }
    }

    fn queue(messages: usize, bytes: usize) -> Queue {
        let mut queue = Queue::new(limits(messages, bytes));
        queue.start();
        queue
    }

    fn limits(messages: usize, bytes: usize) -> Limits {
        let (threshold, interval, batch_bytes) = (0, Duration::ZERO, usize::MAX);
        Limits { messages, bytes, threshold, interval, batch_bytes, spreads: true }
    }

    fn offer(queue: &mut Queue, topic: &str, len: usize) -> Result<Accepted, Refused> {
        let value = vec![0; len];
        let message = Message::new(topic, &value);
        queue.offer(&mut check(&message), None, now)
    }

    fn quietly(queue: &mut Queue, message: &Message<'_>) -> Option<u64> {
        queue.offer_quietly(message, Usual::bytes(1_000_000), || Timestamp::from_millis(0))
    }

    fn check<'a, 'm>(message: &'a Message<'m>) -> Checked<'a, 'm> {
        Checked::new(message, 1_000_000, || Timestamp::from_millis(0)).expect("a good message")
    }

    fn full(outcome: Result<Accepted, Refused>) -> Full {
        match outcome {
            Err(Refused::Full(full)) => full,
            other => panic!("not full: {other:?}"),
        }
    }

    fn now() -> Option<Instant> {
        Some(start())
    }

    #[expect(clippy::disallowed_methods, reason = "there is no other way to get a first moment")]
    fn start() -> Instant {
        Instant::now()
    }
}

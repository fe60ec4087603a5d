//! The queue between callers and the worker, as plain data: which messages wait, which of them are due, how many
//! places are taken, and who must be woken. Never locks, waits or reads the clock; `threads::gate` keeps it under
//! one lock, and the sync producer keeps its buffer in one.
//!
//! Sealed chunks wait in a deque beside the open one, under the same lock, and the worker takes them all at once. A
//! channel beside the lock would be no faster, since the lock is taken anyway, and would leave a question of order
//! between the channel and the open chunk. A message holds its place until the engine wrote it (`release`), so
//! taking chunks frees nothing, and the worker needs no second queue to keep the bound.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::deadline::Deadline;
use super::entry;
use crate::error::{InvalidTopic, ProduceErrorKind};
use crate::fate::Slot;
use crate::message::{Message, Timestamp, Topic, TopicRef};
use crate::record::{batch, tail};

/// Messages in the order in which they were accepted; the n-th accepted has ticket n, counted from 0.
#[derive(Debug)]
pub struct Queue {
    number: u32,
    limits: Limits,
    phase: Phase,
    topics: Topics,
    open: Chunk,
    sealed: VecDeque<Chunk>,
    spare: Vec<Chunk>,
    /// When the first message of each chunk came, for every chunk that still holds places, ascending.
    arrivals: VecDeque<Arrival>,
    /// Tickets below these were accepted, were taken by the worker, are due, and gave their places back.
    accepted: u64,
    taken: u64,
    due_upto: u64,
    released: u64,
    /// What the messages that hold a place take of the limit (`entry::cost`), and the entries' bytes of those among
    /// them that are not due.
    bytes: usize,
    waiting_bytes: usize,
    worker: Worker,
    timer: Timer,
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
    /// Messages of so many bytes that are not due become due: they fill a batch.
    pub batch_bytes: usize,
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

/// A message that can be queued: its sizes were checked.
#[derive(Debug)]
pub struct Checked<'a, 'm> {
    message: &'a Message<'m>,
    create_time: Timestamp,
    len: usize,
    /// The entry of a large message, for topic 0: encoded before the lock is taken.
    encoded: Option<Vec<u8>>,
}

/// A message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its ticket.
    pub ticket: u64,
    /// Whether the worker must be woken.
    pub wake: bool,
    /// Whether the timer must be woken.
    pub arm: bool,
}

/// Why a message was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// No thread runs yet.
    Idle,
    /// The queue was closed.
    Closed,
    /// No place, or no bytes, are left.
    Full(Full),
    /// The topic's name is not allowed.
    InvalidTopic(InvalidTopic),
}

/// What a full queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Messages that hold a place.
    pub queued: usize,
    /// The limit that was reached.
    pub limit: usize,
    /// Whether it counts bytes.
    pub bytes: bool,
    /// When the oldest message came, to the precision of a chunk.
    pub oldest: Option<Instant>,
    /// Whether the worker must be woken.
    pub wake: bool,
}

impl<'a, 'm> Checked<'a, 'm> {
    /// Checks what can be checked without the queue; `create_time` is for a message that has none.
    ///
    /// # Errors
    /// `MessageTooLarge` and `InvalidMessage`.
    pub fn new(
        message: &'a Message<'m>,
        max_message_bytes: usize,
        create_time: impl FnOnce() -> Timestamp,
    ) -> Result<Self, ProduceErrorKind> {
        if message.partition.is_some_and(|partition| partition < 0) {
            return Err(ProduceErrorKind::InvalidMessage("the partition is negative"));
        }
        let tail_len = tail::len_of(message.key(), message.value(), message.headers());
        let size = batch::len_of_one(tail_len);
        if size > max_message_bytes {
            return Err(ProduceErrorKind::MessageTooLarge { size, limit: max_message_bytes });
        }
        if message.partition_key().is_some_and(|key| key.len() > max_message_bytes) {
            return Err(ProduceErrorKind::InvalidMessage("the partition key is longer than max_message_bytes"));
        }
        let len = entry::len_of(message, tail_len);
        let create_time = message.create_time.unwrap_or_else(create_time);
        let encoded = (len > ENCODED_BEFORE).then(|| {
            let mut bytes = Vec::with_capacity(len);
            entry::put(&mut bytes, 0, message, create_time);
            bytes
        });
        Ok(Self { message, create_time, len, encoded })
    }
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
            open: Chunk::default(),
            sealed: VecDeque::new(),
            spare: Vec::new(),
            arrivals: VecDeque::new(),
            accepted: 0,
            taken: 0,
            due_upto: 0,
            released: 0,
            bytes: 0,
            waiting_bytes: 0,
            worker: Worker::Awake,
            timer: Timer::Parked,
        }
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
        self.all_due();
    }

    /// Whether this message would be the first of its chunk.
    #[must_use]
    pub fn begins_chunk(&self, message: &Checked<'_, '_>) -> bool {
        self.open.is_empty() || message.encoded.is_some()
    }

    /// Takes the message, or says why not; `clock` is asked for the first message of a chunk only.
    ///
    /// # Errors
    /// All of [`Refused`]; the message can be offered again.
    pub fn offer(
        &mut self,
        message: &mut Checked<'_, '_>,
        slot: Option<&Arc<Slot>>,
        clock: impl FnOnce() -> Instant,
    ) -> Result<Accepted, Refused> {
        match self.phase {
            Phase::Running => {}
            Phase::Idle => return Err(Refused::Idle),
            Phase::Closed => return Err(Refused::Closed),
        }
        let cost = entry::cost_of(message.message, message.len, slot.is_some());
        if let Some(limit) = self.limit_reached(cost) {
            // A full queue is a reason to deliver, whichever of its bounds it reached.
            self.all_due();
            let (queued, oldest) = (self.held(), self.oldest());
            let (limit, bytes) = limit;
            return Err(Refused::Full(Full { queued, limit, bytes, oldest, wake: self.wake() }));
        }
        let topic = self.topics.seat(&message.message.topic).map_err(Refused::InvalidTopic)?;
        if self.begins_chunk(message) {
            self.arrivals.push_back(Arrival { first: self.accepted, at: clock() });
        }
        self.put(message, topic, slot);
        let ticket = self.accepted;
        self.accepted += 1;
        self.bytes += cost;
        self.waiting_bytes += message.len;
        if self.has_enough() {
            self.all_due();
        }
        Ok(Accepted { ticket, wake: self.wake(), arm: self.arm() })
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

    /// If any message is due, moves every chunk to `out`, because what came later may as well go along. Returns
    /// whether it did.
    pub fn take_due(&mut self, out: &mut VecDeque<Chunk>) -> bool {
        if self.taken >= self.due_upto {
            return false;
        }
        out.append(&mut self.sealed);
        if !self.open.is_empty() {
            out.push_back(mem::replace(&mut self.open, self.spare.pop().unwrap_or_default()));
        }
        self.taken = self.accepted;
        self.all_due();
        true
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
    pub fn recycle(&mut self, mut chunk: Chunk) {
        if self.spare.len() < SPARE_CHUNKS && chunk.bytes.capacity() <= 2 * CHUNK_BYTES {
            chunk.reset();
            self.spare.push(chunk);
        }
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
        (if waits { deadline } else { Deadline::NEVER }, self.wake())
    }

    /// The topic's index, which it gets if it has none.
    ///
    /// # Errors
    /// The name is not allowed.
    pub fn topic(&mut self, name: &str) -> Result<u32, InvalidTopic> {
        self.topics.seat(&TopicRef::from(name))
    }

    /// The topics by index.
    #[must_use]
    pub fn topics(&self) -> &[Topic] {
        &self.topics.all
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

    fn limit_reached(&self, cost: usize) -> Option<(usize, bool)> {
        if self.held() >= self.limits.messages {
            Some((self.limits.messages, false))
        } else if self.held() > 0 && self.bytes.saturating_add(cost) > self.limits.bytes {
            Some((self.limits.bytes, true))
        } else {
            None
        }
    }

    fn put(&mut self, message: &mut Checked<'_, '_>, topic: u32, slot: Option<&Arc<Slot>>) {
        let first = self.accepted;
        if let Some(mut bytes) = message.encoded.take() {
            entry::set_topic(&mut bytes, topic);
            self.seal();
            let handles = slot.map(|slot| (0, Arc::clone(slot))).into_iter().collect();
            let ends = vec![bytes.len() as u32];
            self.sealed.push_back(Chunk { bytes, ends, first, handles, taken: 0 });
            return;
        }
        let open = &mut self.open;
        if open.is_empty() {
            open.first = first;
        }
        entry::put(&mut open.bytes, topic, message.message, message.create_time);
        if let Some(slot) = slot {
            open.handles.push((open.len() as u32, Arc::clone(slot)));
        }
        open.ends.push(open.bytes.len() as u32);
        // A small queue has small chunks, so that it can be filled while others are under way.
        let most = (self.limits.messages / 4).clamp(1, CHUNK_MESSAGES);
        if open.bytes.len() >= CHUNK_BYTES || open.len() >= most {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.sealed.push_back(mem::replace(&mut self.open, self.spare.pop().unwrap_or_default()));
        }
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

/// The topics that messages went to; only ever grows, so an index stays true.
#[derive(Debug, Default)]
struct Topics {
    all: Vec<Topic>,
    by_name: HashMap<Topic, u32>,
    /// The index that was asked for last.
    last: u32,
    /// Numbers and indexes of `Topic`s seen lately, each at the place that its number gives: no hash of a name for a
    /// message that comes with its topic.
    seen: [(u64, u32); SEEN_TOPICS],
}

impl Topics {
    fn seat(&mut self, topic: &TopicRef<'_>) -> Result<u32, InvalidTopic> {
        let Some(checked) = topic.checked() else { return self.seat_of(topic.name(), None) };
        let place = checked.number() as usize % SEEN_TOPICS;
        if self.seen[place].0 != checked.number() {
            self.seen[place] = (checked.number(), self.seat_of(checked.name(), Some(checked))?);
        }
        Ok(self.seen[place].1)
    }

    fn seat_of(&mut self, name: &str, checked: Option<&Topic>) -> Result<u32, InvalidTopic> {
        if self.all.get(self.last as usize).is_none_or(|last| last.name() != name) {
            self.last = match self.by_name.get(name) {
                Some(index) => *index,
                None => self.add(checked.cloned().map_or_else(|| Topic::new(name), Ok)?),
            };
        }
        Ok(self.last)
    }

    fn add(&mut self, topic: Topic) -> u32 {
        let index = self.all.len() as u32;
        self.all.push(topic.clone());
        self.by_name.insert(topic, index);
        index
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

const CHUNK_BYTES: usize = 64 * 1024;
const CHUNK_MESSAGES: usize = 1024;
/// A larger entry is encoded before the lock, so that no caller waits for the copy of another.
const ENCODED_BEFORE: usize = 16 * 1024;
const SPARE_CHUNKS: usize = 32;
const SEEN_TOPICS: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert!(out[1].bytes.len() > 20_000);
    }

    #[test]
    fn topics_are_numbered_as_they_come_and_bad_names_come_back() {
        let mut queue = queue(100, 1_000_000);
        let checked = Topic::new("parcels").expect("a good name");
        offer(&mut queue, "orders", 1).expect("accepted");
        for _ in 0..2 {
            let message = Message::new(&checked, "v");
            queue.offer(&mut check(&message), None, start).expect("accepted");
        }
        offer(&mut queue, "orders", 1).expect("accepted");
        offer(&mut queue, "parcels", 1).expect("accepted");
        assert!(matches!(offer(&mut queue, "no topic!", 1), Err(Refused::InvalidTopic(_))));
        assert_eq!(queue.topics(), [Topic::trusted("orders"), Topic::trusted("parcels")]);
        assert!(!queue.deliver(), "it was never asleep");
        let mut out = VecDeque::new();
        queue.take_due(&mut out);
        let topics: Vec<u32> = out.iter().flat_map(|chunk| (0..chunk.len()).map(|i| chunk.entry(i).topic)).collect();
        assert_eq!(topics, [0, 1, 1, 0, 1]);
    }

    #[test]
    fn handles_keep_the_index_of_their_message() {
        let mut queue = queue(8, 1_000_000);
        let slot = Slot::shared();
        for (len, slot) in [(1, None), (2, Some(&slot)), (30_000, Some(&slot))] {
            let value = vec![0; len];
            let message = Message::new("orders", &value);
            queue.offer(&mut check(&message), slot, start).expect("accepted");
        }
        assert!(!queue.deliver(), "it was never asleep");
        let mut out = VecDeque::new();
        queue.take_due(&mut out);
        let indexes: Vec<Vec<u32>> =
            out.iter().map(|chunk| chunk.handles.iter().map(|(index, _)| *index).collect()).collect();
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
            queue.offer(&mut check(&message), None, || later(seconds)).expect("accepted").arm
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
    fn what_cannot_be_sent_is_refused() {
        let kind = |message: &Message<'_>| Checked::new(message, 1000, || Timestamp::from_millis(0)).map(drop);
        let large = Message::new("orders", vec![0; 1000]);
        assert!(matches!(kind(&large), Err(ProduceErrorKind::MessageTooLarge { size: 1001.., limit: 1000 })));
        let negative = Message::new("orders", "v").with_partition(-1);
        assert!(matches!(kind(&negative), Err(ProduceErrorKind::InvalidMessage(_))));
        let key = Message::new("orders", "v").with_partition_key(vec![0; 2000]);
        assert!(matches!(kind(&key), Err(ProduceErrorKind::InvalidMessage(_))));
        assert!(kind(&Message::new("orders", "v")).is_ok());
    }

    #[test]
    fn the_predicted_length_is_the_written_one() {
        let plain = Message::new("orders", "value");
        let rich = plain.clone().with_key("k").with_tag(7).with_partition_key("pk").with_header("h", "v");
        for message in [plain, rich] {
            let mut bytes = Vec::new();
            entry::put(&mut bytes, 0, &message, Timestamp::from_millis(0));
            assert_eq!(check(&message).len, bytes.len());
        }
    }

    /// The same queue, written as slowly and plainly as possible.
    struct Model {
        limits: Limits,
        messages: Vec<Told>,
        asleep: bool,
        armed: bool,
        closed: bool,
    }

    struct Told {
        len: usize,
        cost: usize,
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

        /// Accepted, and whether the worker and the timer must be woken.
        fn offer(&mut self, len: usize, cost: usize) -> (bool, bool, bool) {
            let (count, bytes) = self.held();
            if self.closed {
                return (false, false, false);
            }
            if count >= self.limits.messages || (count > 0 && bytes + cost > self.limits.bytes) {
                self.all_due();
                return (false, self.wake(), false);
            }
            self.messages.push(Told { len, cost, due: false, taken: false, released: false });
            let waiting = self.messages.iter().filter(|message| !message.due);
            let enough = (self.limits.threshold > 0 && waiting.clone().count() >= self.limits.threshold)
                || waiting.map(|message| message.len).sum::<usize>() >= self.limits.batch_bytes
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
            if !self.messages.iter().any(|message| message.due && !message.taken) {
                return Vec::new();
            }
            let tickets = (0..).zip(&self.messages).filter(|(_, message)| !message.taken).map(|(ticket, _)| ticket);
            let tickets = tickets.collect();
            for message in &mut self.messages {
                (message.due, message.taken) = (true, true);
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
            12 => (0usize..80).prop_map(Op::Offer),
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
        (1usize..14, 60usize..2500, prop_oneof![Just(0usize), 1usize..6], 30usize..600).prop_map(
            |(messages, bytes, threshold, batch_bytes)| {
                let interval = Duration::from_secs(1);
                Limits { messages, bytes, threshold, interval, batch_bytes }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_behaves_as_the_plain_model(limits in any_limits(), ops in ops()) {
            let mut queue = Queue::new(limits);
            queue.start();
            let mut model = Model { limits, messages: Vec::new(), asleep: false, armed: false, closed: false };
            let at = start();
            for op in ops {
                match op {
                    Op::Offer(len) => {
                        let value = vec![7; len];
                        let message = Message::new("orders", &value).with_tag(queue.accepted() + 1);
                        let mut checked = check(&message);
                        let mut entry = Vec::new();
                        entry::put(&mut entry, 0, &message, Timestamp::from_millis(0));
                        let expected = model.offer(checked.len, entry::cost(&entry, false));
                        let ticket = queue.accepted();
                        let seen = match queue.offer(&mut checked, None, || at) {
                            Ok(accepted) => {
                                prop_assert_eq!(accepted.ticket, ticket);
                                (true, accepted.wake, accepted.arm)
                            }
                            Err(Refused::Full(full)) => (false, full.wake, false),
                            Err(_) => (false, false, false),
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
                        for chunk in &out {
                            for index in 0..chunk.len() {
                                prop_assert_eq!(chunk.entry(index).tag, chunk.first + index as u64 + 1);
                                tickets.push(chunk.first + index as u64);
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
        Limits { messages, bytes, threshold: 0, interval: Duration::ZERO, batch_bytes: usize::MAX }
    }

    fn offer(queue: &mut Queue, topic: &str, len: usize) -> Result<Accepted, Refused> {
        let value = vec![0; len];
        let message = Message::new(topic, &value);
        queue.offer(&mut check(&message), None, start)
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

    #[expect(clippy::disallowed_methods, reason = "there is no other way to get a first moment")]
    fn start() -> Instant {
        Instant::now()
    }
}

//! A run of queued messages that travels from callers to the engine as one piece.
//!
//! Its bytes are those of a batch from the first message on. As long as all messages go to one topic, and to any
//! partition or to that of one lane, the chunk has nothing else, and the engine can send the bytes as they are. When
//! another kind of message comes, each message gets a route beside the bytes, and the engine copies the messages one by
//! one into the batches of their partitions.

use super::entry::Entry;
use super::extras::{Extra, Extras};
use super::prepared::Prepared;
use crate::fate::slot::Slot;
use crate::ids::{PartitionId, TopicIndex};
#[cfg(any(test, feature = "_internal"))]
use crate::message::{Message, Timestamp};
use crate::record::batch::{BatchBuilder, Plan};

/// Messages in the order in which they were accepted; message `i` has ticket `first + i`.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The messages as the records of a batch.
    pub records: BatchBuilder,
    /// The destination of each message, and its position in the bytes; empty while the chunk is a run.
    routes: Vec<Route>,
    /// The topic of all messages of a run.
    topic: TopicIndex,
    /// The partition that the keys of all messages without an own partition choose; none if it is not chosen yet.
    pub lane: Option<PartitionId>,
    /// Ticket of the first message. If this chunk has a lane, other chunks may have messages that came between its own.
    pub first: u64,
    /// Tickets below this are in this chunk, in one before it, or in one that was sealed with it.
    pub upto: u64,
    /// The extras of the few messages that have some.
    pub extras: Extras,
    /// The bytes that its messages take of the queue's limit.
    pub cost: usize,
    /// The number of messages that the engine has taken. It moves only after a message is safe in its batch, so that a
    /// panic on the way costs that message and no other.
    pub taken: usize,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    create_time: i64,
    topic: TopicIndex,
    partition: AskedPartition,
    /// The start of the tail in the chunk's bytes.
    start: u32,
    end: u32,
}

/// The partition that a message asks for, if it asks for one, in four bytes: `Option<PartitionId>` takes eight.
#[derive(Clone, Copy, Debug)]
struct AskedPartition(i32);

impl AskedPartition {
    const NOTHING: Self = Self(-1);

    fn new(partition: Option<PartitionId>) -> Self {
        partition.map_or(Self::NOTHING, |partition| Self(partition.0))
    }

    fn get(self) -> Option<PartitionId> {
        (self.0 >= 0).then_some(PartitionId(self.0))
    }
}

/// The destination of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct To {
    /// Index of the topic in the queue's table.
    pub topic: TopicIndex,
    /// `true` if any partition will do, or if the message has that of the chunk's lane.
    pub placed: bool,
}

impl Chunk {
    /// An empty chunk whose first message will have this ticket.
    #[must_use]
    pub fn from_ticket(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// A chunk of one message, whose record is encoded already.
    #[must_use]
    pub(super) fn of_one(
        records: BatchBuilder,
        message: &Prepared<'_, '_>,
        slot: Option<Slot<'_>>,
        to: To,
        cost: usize,
    ) -> Self {
        let mut chunk = Self { records, ..Self::default() };
        chunk.note(message, slot, cost);
        chunk.route(to, message.partition, message.record.create_time, message.record.tail_len);
        chunk
    }

    /// A chunk of one message, for tests.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn of(first: u64, topic: TopicIndex, message: &Message<'_>, create_time: Timestamp) -> Self {
        let message = Prepared::new(message, usize::MAX, create_time).expect("a good message");
        let mut chunk = Self { first, upto: first + 1, ..Self::default() };
        let plan = chunk.records.plan(message.record.create_time, message.record.tail_len);
        let to = To { topic, placed: false };
        chunk.push(plan.expect("the first message always fits"), &message, None, to, message.cost(None));
        chunk
    }

    /// The messages of a chunk, for tests.
    #[cfg(any(test, feature = "_internal"))]
    pub fn entries(&mut self) -> impl Iterator<Item = Entry<'_>> {
        self.expand_routes();
        let (chunk, mut row) = (&*self, 0);
        (0..chunk.len()).map(move |index| chunk.entry(index, &mut row))
    }

    /// Breaks message `index`, so that whoever reads it panics, and returns what [`mend`](Self::mend) puts back.
    #[cfg(any(test, feature = "_internal"))]
    pub fn break_at(&mut self, index: usize) -> u32 {
        self.expand_routes();
        std::mem::replace(&mut self.routes[index].start, u32::MAX)
    }

    /// Mends what [`break_at`](Self::break_at) broke.
    #[cfg(feature = "_internal")]
    pub fn mend(&mut self, index: usize, start: u32) {
        self.routes[index].start = start;
    }

    /// The number of messages in it, taken ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.count() as usize
    }

    /// Bytes of memory that it keeps for records, routes and extras.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.records.capacity() + self.routes.capacity() * size_of::<Route>() + self.extras.capacity()
    }

    /// `true` if it holds no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Ticket of message `index`, or that of an earlier message if its own is not known.
    #[must_use]
    pub fn ticket(&self, index: usize) -> u64 {
        if self.lane.is_some() { self.first } else { self.first + index as u64 }
    }

    /// The topic, if all messages go there, to any partition or to that of their lane, and none was taken.
    #[inline]
    #[must_use]
    pub fn run(&self) -> Option<TopicIndex> {
        (self.routes.is_empty() && !self.is_empty() && self.taken == 0).then_some(self.topic)
    }

    /// Appends a message behind others within the first `room` bytes of the batch; `None` as for
    /// [`append_usual`](BatchBuilder::append_usual). If it does not go where all others go,
    /// [`route`](Self::route) follows.
    // Always inlined: 351 instructions instead of 397, and 512 instead of 560 with keys.
    #[inline(always)]
    pub(super) fn push_behind(
        &mut self,
        room: usize,
        message: &Prepared<'_, '_>,
        slot: Option<Slot<'_>>,
        cost: usize,
    ) -> Option<()> {
        self.records.append_usual(room.min(self.records.capacity()), &message.record, message.headers())?;
        self.note(message, slot, cost);
        Some(())
    }

    /// Appends a message that was planned for its [`records`](Self::records).
    pub(super) fn push(&mut self, plan: Plan, message: &Prepared<'_, '_>, slot: Option<Slot<'_>>, to: To, cost: usize) {
        self.records.append_parts(plan, message.record.key, message.record.value, message.headers());
        self.note(message, slot, cost);
        self.route(to, message.partition, message.record.create_time, message.record.tail_len);
    }

    /// Notes the extras of the message that was just appended.
    // Always inlined: 351 instructions instead of 382, and 512 instead of 545 with keys.
    #[inline(always)]
    fn note(&mut self, message: &Prepared<'_, '_>, slot: Option<Slot<'_>>, cost: usize) {
        self.cost += cost;
        if let Some(slot) = slot {
            slot.note_time(message.record.create_time);
        }
        if slot.is_some() || message.tag != 0 || message.partition_key.is_some() {
            self.put_extra(message.tag, message.partition_key, slot);
        }
    }

    #[inline(never)]
    fn put_extra(&mut self, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot<'_>>) {
        self.extras.push(self.records.count() - 1, &Extra { tag, partition_key, slot, told: false });
    }

    /// Appends a message of another chunk or batch; `placed` as in [`To`].
    pub fn push_entry(&mut self, entry: &Entry<'_>, placed: bool, cost: usize) {
        self.extras.push_copy(self.records.count(), entry.extra.as_ref());
        self.records.append(entry.create_time, entry.tail);
        self.cost += cost;
        self.route(To { topic: entry.topic, placed }, entry.partition, entry.create_time, entry.tail.len());
    }

    /// Gives every message of a run its route, so that it can be read by its index.
    pub fn expand_routes(&mut self) {
        if self.routes.is_empty() && !self.is_empty() {
            self.route_run(self.len());
        }
    }

    /// The topic of message `index`.
    #[must_use]
    pub fn topic(&self, index: usize) -> TopicIndex {
        self.routes.get(index).map_or(self.topic, |route| route.topic)
    }

    /// Message `index` of a chunk whose routes are spelled out; `row` is where to look for its extra, as for
    /// [`Extras::of`].
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    #[must_use]
    pub fn entry(&self, index: usize, row: &mut usize) -> Entry<'_> {
        let Route { create_time, topic, partition, start, end } = self.routes[index];
        Entry {
            topic,
            partition: partition.get(),
            create_time,
            extra: self.extras.of(index as u32, row),
            tail: &self.records.bytes()[start as usize..end as usize],
        }
    }

    /// Takes out the records and their extras, and leaves an empty chunk with the memory of `buffer`.
    #[must_use]
    pub fn take_run(&mut self, buffer: Vec<u8>) -> (BatchBuilder, Extras, usize) {
        let records = std::mem::replace(&mut self.records, BatchBuilder::new(buffer));
        (records, std::mem::take(&mut self.extras), std::mem::take(&mut self.cost))
    }

    /// Moves a run into a chunk that keeps no memory for more, and leaves an empty one.
    #[must_use]
    pub fn split_run(&mut self) -> Self {
        let Self { first, upto, lane, topic, .. } = *self;
        if self.records.is_wasteful() {
            drop(self.records.fit());
        }
        let (records, extras, cost) = self.take_run(Vec::new());
        Self { records, extras, cost, first, upto, lane, topic, ..Self::default() }
    }

    /// Its memory, for a batch.
    #[must_use]
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        self.records.finish().into_buffer()
    }

    /// Empties it for the next use; the memory stays.
    pub fn reset(&mut self) {
        self.records.clear();
        self.routes.clear();
        self.extras.clear();
        (self.cost, self.taken, self.lane) = (0, 0, None);
    }

    /// Notes the destination of the message that was just appended.
    pub(super) fn route(
        &mut self,
        To { topic, placed }: To,
        partition: Option<PartitionId>,
        create_time: i64,
        tail_len: usize,
    ) {
        let before = self.len() - 1;
        if before == 0 && placed {
            self.topic = topic;
        }
        if placed && self.routes.is_empty() && topic == self.topic {
            return;
        }
        if self.routes.is_empty() {
            // All before this one were a run.
            self.route_run(before);
        }
        let end = self.records.bytes().len();
        let (start, end) = ((end - tail_len) as u32, end as u32);
        if self.routes.len() == self.routes.capacity() {
            // By a half, as the records do.
            self.routes.reserve_exact(LEAST_ROUTES.max(self.routes.len() / 2));
        }
        self.routes.push(Route { create_time, topic, partition: AskedPartition::new(partition), start, end });
    }

    /// Gives the first `count` messages the route of a run.
    fn route_run(&mut self, count: usize) {
        self.routes.reserve_exact(count);
        let mut at = 0;
        for _ in 0..count {
            let (create_time, tail) = self.records.record_at(at);
            at = tail.end;
            let (start, end) = (tail.start as u32, tail.end as u32);
            self.routes.push(Route { create_time, topic: self.topic, partition: AskedPartition::NOTHING, start, end });
        }
    }
}

const LEAST_ROUTES: usize = 16;

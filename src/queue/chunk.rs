//! A run of queued messages that travels from callers to the engine as one piece.
//!
//! Its bytes are those of a batch from the first message on. As long as all messages go to one topic, and to whichever
//! partition or to that of one lane, that is all, and the engine can send them as they are. When another kind of
//! message comes, each message gets a route beside the bytes, and the engine copies them one by one into the batches of
//! their partitions.

use super::checked::Usual;
#[cfg(any(test, feature = "_internal"))]
use super::entry;
use super::entry::Entry;
use super::extras::{Extra, Extras};
use crate::fate::slot::Slot;
#[cfg(feature = "_internal")]
pub use crate::fate::{Outcome, Receipt, slot};
use crate::message::Header;
#[cfg(any(test, feature = "_internal"))]
use crate::message::{Message, Timestamp};
use crate::record::batch::{BatchBuilder, Plan};
#[cfg(any(test, feature = "_internal"))]
use crate::record::tail;

/// Messages in the order in which they were accepted; message `i` has ticket `first + i`.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The messages as the records of a batch.
    pub records: BatchBuilder,
    /// Where each message goes and where in the bytes it is; none while the chunk is a run.
    routes: Vec<Route>,
    /// Where all messages of a run go.
    topic: u32,
    /// The partition that all messages without one of their own have by their keys; none if it is not chosen yet.
    pub lane: Option<i32>,
    /// Ticket of the first message; what came between the others may be in other chunks if this one has a lane.
    pub first: u64,
    /// Tickets below this are in this chunk, in one before it, or in one that was sealed with it.
    pub upto: u64,
    /// What only some messages have.
    pub extras: Extras,
    /// What its messages take of the queue's limit.
    pub cost: usize,
    /// How many messages the engine has taken; it moves only after a message is safe in its batch, so that a
    /// panic on the way costs that message and no other.
    pub taken: usize,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    create_time: i64,
    topic: u32,
    /// -1 if none was asked for.
    partition: i32,
    /// The tail in the chunk's bytes.
    start: u32,
    end: u32,
}

/// A message on its way into a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    /// Index of the topic in the queue's table.
    pub topic: u32,
    /// The partition that was asked for.
    pub partition: Option<i32>,
    /// The user's tag, 0 if there is none.
    pub tag: u64,
    /// What chooses the partition in place of the key.
    pub partition_key: Option<&'a [u8]>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [Header<'a>],
}

impl Chunk {
    /// An empty chunk whose first message will have this ticket.
    #[must_use]
    pub fn from_ticket(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    /// A chunk of one message, whose record is there.
    #[must_use]
    pub(super) fn of_one(
        records: BatchBuilder,
        message: Parts<'_>,
        slot: Option<Slot<'_>>,
        anywhere: bool,
        cost: usize,
    ) -> Self {
        let mut chunk = Self { records, cost, ..Self::default() };
        let (create_time, tail) = chunk.records.record_at(0);
        chunk.note_extra(message.tag, message.partition_key, slot, create_time);
        chunk.note(0, (message.topic, message.partition), (create_time, tail.len()), anywhere);
        chunk
    }

    /// A chunk of one message, for tests.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn of(first: u64, topic: u32, message: &Message<'_>, create_time: Timestamp) -> Self {
        let tail_len = tail::len_of(message.key(), message.value(), message.headers());
        let mut chunk = Self { first, upto: first + 1, ..Self::default() };
        let plan = chunk.records.plan(create_time.as_millis(), tail_len).expect("the first message always fits");
        let (key, value, partition_key) = (message.key(), message.value(), message.partition_key());
        let cost = entry::cost_of(tail_len, message.tag, partition_key.map(<[u8]>::len), false);
        let (partition, tag, headers) = (message.partition, message.tag, &*message.headers);
        let parts = Parts { topic, partition, tag, partition_key, key, value, headers };
        chunk.push(plan, parts, None, false, cost);
        chunk
    }

    /// The messages of a chunk, for tests.
    #[cfg(any(test, feature = "_internal"))]
    pub fn entries(&mut self) -> impl Iterator<Item = Entry<'_>> {
        self.spell_out();
        let chunk = &*self;
        let extra = |index| chunk.extras.iter().find(move |extra| extra.index as usize == index);
        (0..chunk.len()).map(move |index| chunk.entry(index, extra(index)))
    }

    /// Breaks message `index`, so that whoever reads it panics, and returns what [`mend`](Self::mend) puts back.
    #[cfg(feature = "_internal")]
    pub fn break_at(&mut self, index: usize) -> u32 {
        self.spell_out();
        std::mem::replace(&mut self.routes[index].start, u32::MAX)
    }

    /// Mends what [`break_at`](Self::break_at) broke.
    #[cfg(feature = "_internal")]
    pub fn mend(&mut self, index: usize, start: u32) {
        self.routes[index].start = start;
    }

    /// How many messages it holds, taken ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.count() as usize
    }

    /// Bytes that it can hold without taking more memory, and what says where they go.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.records.capacity() + self.routes.capacity() * size_of::<Route>() + self.extras.capacity()
    }

    /// Whether it holds no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Ticket of message `index`, or that of an earlier one where it is not known.
    #[must_use]
    pub fn ticket(&self, index: usize) -> u64 {
        if self.lane.is_some() { self.first } else { self.first + index as u64 }
    }

    /// The topic, if all messages go there, to the partition of their lane or to whichever, and none was taken.
    #[inline]
    #[must_use]
    pub fn run(&self) -> Option<u32> {
        (self.routes.is_empty() && !self.is_empty() && self.taken == 0).then_some(self.topic)
    }

    /// Appends a message of the usual kind within the first `room` bytes of the batch; `None` as for
    /// [`append_usual`](BatchBuilder::append_usual). If it does not go where all others go,
    /// [`note_usual`](Self::note_usual) follows.
    #[inline(always)]
    pub(super) fn push_usual(
        &mut self,
        room: usize,
        message: &Usual<'_, '_>,
        slot: Option<Slot<'_>>,
        cost: usize,
    ) -> Option<()> {
        self.records.append_usual(room, &message.record, message.headers.iter().map(Header::parts))?;
        self.cost += cost;
        let (tag, partition_key) = (message.message.tag, message.partition_key);
        self.note_extra(tag, partition_key, slot, message.record.create_time());
        Some(())
    }

    /// Notes what the message that was just pushed has beside its record.
    #[inline]
    fn note_extra(&mut self, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot<'_>>, create_time: i64) {
        if let Some(slot) = slot {
            slot.note_time(create_time);
        }
        if slot.is_some() || tag != 0 || partition_key.is_some() {
            self.put_extra(tag, partition_key, slot);
        }
    }

    #[inline(never)]
    fn put_extra(&mut self, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot<'_>>) {
        self.extras.push(self.records.count() - 1, tag, partition_key, slot);
    }

    /// Notes where the message that was just pushed goes.
    pub(super) fn note_usual(&mut self, topic: u32, message: &Usual<'_, '_>, anywhere: bool) {
        let record = (message.record.create_time(), message.record.tail_len());
        self.note(self.records.count() - 1, (topic, message.message.partition), record, anywhere);
    }

    /// Appends a message that was planned for its [`records`](Self::records). `anywhere` says that any partition will
    /// do, or that of the chunk's lane. The handle waits in `slot`.
    pub(crate) fn push(&mut self, plan: Plan, message: Parts<'_>, slot: Option<Slot<'_>>, anywhere: bool, cost: usize) {
        let index = self.records.count();
        self.records.append_parts(plan, message.key, message.value, message.headers.iter().map(Header::parts));
        self.note_extra(message.tag, message.partition_key, slot, plan.create_time());
        self.cost += cost;
        self.note(index, (message.topic, message.partition), (plan.create_time(), plan.tail_len()), anywhere);
    }

    /// Appends a message of another chunk or batch; `anywhere` as for [`push`](Self::push).
    pub fn push_entry(&mut self, entry: &Entry<'_>, slot: Option<Slot<'_>>, anywhere: bool, cost: usize) {
        let index = self.records.count();
        self.records.append(entry.create_time, entry.tail);
        self.extras.push_copy(index, entry, slot);
        self.cost += cost;
        self.note(index, (entry.topic, entry.partition), (entry.create_time, entry.tail.len()), anywhere);
    }

    /// Gives every message of a run its route, so that it can be read by its index.
    pub fn spell_out(&mut self) {
        if self.routes.is_empty() && !self.is_empty() {
            self.route_run(self.len());
        }
    }

    /// Message `index` of a chunk that is spelled out; `extra` is what it has, if it has.
    ///
    /// # Panics
    /// If there is none.
    #[inline]
    #[must_use]
    pub fn entry<'a>(&'a self, index: usize, extra: Option<&'a Extra>) -> Entry<'a> {
        let Route { create_time, topic, partition, start, end } = self.routes[index];
        Entry {
            topic,
            partition: (partition >= 0).then_some(partition),
            create_time,
            tag: extra.map_or(0, |extra| extra.tag),
            partition_key: extra.and_then(|extra| extra.partition_key.as_deref()),
            tail: &self.records.bytes()[start as usize..end as usize],
        }
    }

    /// Takes the records and what is beside them out, and leaves an empty chunk with the memory of `buffer`.
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

    /// Notes where the last message, with this index, goes.
    #[inline]
    fn note(&mut self, index: u32, to: (u32, Option<i32>), record: (i64, usize), anywhere: bool) {
        if index == 0 && anywhere {
            self.topic = to.0;
        } else if !(anywhere && self.routes.is_empty() && to.0 == self.topic) {
            self.route(index, to, record);
        }
    }

    /// The chunk is no run, or no longer.
    fn route(&mut self, index: u32, (topic, partition): (u32, Option<i32>), (create_time, tail_len): (i64, usize)) {
        if self.routes.is_empty() {
            // All before this one were a run.
            self.route_run(index as usize);
        }
        let end = self.records.bytes().len();
        let (start, end) = ((end - tail_len) as u32, end as u32);
        if self.routes.len() == self.routes.capacity() {
            // By a half, as the records do.
            self.routes.reserve_exact(LEAST_ROUTES.max(self.routes.len() / 2));
        }
        self.routes.push(Route { create_time, topic, partition: partition.unwrap_or(-1), start, end });
    }

    /// Routes the first so many messages as those of a run.
    fn route_run(&mut self, count: usize) {
        self.routes.reserve_exact(count);
        let mut at = 0;
        for _ in 0..count {
            let (create_time, tail) = self.records.record_at(at);
            at = tail.end;
            let (start, end) = (tail.start as u32, tail.end as u32);
            self.routes.push(Route { create_time, topic: self.topic, partition: -1, start, end });
        }
    }
}

const LEAST_ROUTES: usize = 16;

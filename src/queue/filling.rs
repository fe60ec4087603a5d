//! The chunks that callers fill: the open one, or the lanes of a topic. Decides which of them takes a message, and when
//! they are sealed and sent to the worker; the queue decides when they are due.
//!
//! The channel is never full when a chunk is sent. A chunk that is full waits for a slot as the open one, and takes
//! more messages meanwhile. Some slots are only for chunks that cannot wait: lanes, because later messages go to the
//! open chunk, and a chunk that cannot take the next message however long it may become, because it would have more than
//! 2 GiB.

use std::mem;

use super::chunk::{Chunk, To};
use super::lanes::{self, Lanes};
use super::prepared::Prepared;
use crate::fate::slot::Slot;
use crate::ids::{PartitionId, TopicIndex, TopicPartition};
use crate::partitioner::Partitioner;
use crate::record::batch::{BatchBuilder, Draft, Plan};
use crate::sync::channel::{Receiver, Sender, bounded};

/// The worker's end of the channel: sealed chunks, in their order.
#[derive(Clone, Debug)]
pub struct Sealed(pub(super) Receiver<Box<Chunk>>);

/// At any time either the open chunk or the lanes have messages, so those in one kind are all older than those in the
/// other.
#[derive(Debug)]
pub(super) struct Filling {
    /// Bytes of a batch.
    batch_bytes: usize,
    /// Chooses the partition of messages with keys already here, where the number of partitions is known, and leaves
    /// those without a key to any partition; not if it is a user's.
    pub partitioner: Partitioner,
    pub open: Chunk,
    pub lanes: Lanes,
    /// To the worker. Boxed, so that a slot takes little memory.
    sealed: Sender<Box<Chunk>>,
    /// Slots for chunks that could wait.
    capacity: usize,
    pub spare: Spare,
}

/// A message on its way into a chunk.
#[derive(Debug)]
pub(super) struct Incoming<'a, 'm, 'd> {
    pub message: &'a Prepared<'m, 'd>,
    /// The slot of its handle.
    pub slot: Option<Slot<'a>>,
    /// Index of its topic.
    pub topic: TopicIndex,
    /// The bytes that it takes of the queue's limit.
    pub cost: usize,
    /// Its record, if it is large.
    pub large: Option<BatchBuilder>,
}

/// The way in which a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In the batch of a partition, among this number of partitions.
    Lane { partition: PartitionId, partitions: u32 },
    /// In a batch for any partition.
    Run,
    /// With any others; the engine sorts them.
    Mixed,
}

impl Way {
    /// The plan of a message in a chunk; none if the chunk cannot take it, however long it may become.
    fn plan(self, records: &BatchBuilder, message: &Prepared<'_, '_>) -> Option<Plan> {
        let Draft { create_time, tail_len, .. } = message.record;
        match self {
            Self::Lane { .. } | Self::Run => records.plan(create_time, tail_len),
            // Routes have the times beside the records.
            Self::Mixed => records.plan_any_time(create_time, tail_len),
        }
    }
}

impl Filling {
    /// Chunks for batches of this size, and for at most this number of messages and bytes at a time; and the worker's
    /// end of the channel.
    pub fn new(batch_bytes: usize, messages: usize, bytes: usize, partitioner: &Partitioner) -> (Self, Sealed) {
        // Each chunk has a message, so a queue of few messages never has more chunks. Full chunks of all the bytes have
        // a slot each: a chunk that grew would take its memory twice when its messages become batches.
        let capacity = messages.min((bytes / CHUNK_BYTES).clamp(LEAST_SLOTS, MOST_SLOTS));
        let (sealed, received) = bounded(capacity + KEPT_CAPACITY);
        let spare = Spare { chunks: Vec::new(), bytes: 0, most_bytes: SPARE_BYTES.min(bytes / 4) };
        let (open, lanes) = (Chunk::default(), Lanes::default());
        let partitioner = partitioner.clone();
        (Self { batch_bytes, partitioner, open, lanes, sealed, capacity, spare }, Sealed(received))
    }

    /// Ticket of the first message in the open chunk or the lanes.
    #[inline]
    pub fn first(&self) -> Option<u64> {
        self.lanes.first().or_else(|| (!self.open.is_empty()).then_some(self.open.first))
    }

    /// The partition that the key, or the bytes in its place, chooses, if that is quickly found. Only built-in hashes
    /// are asked here, on the caller's thread: they neither block nor panic.
    #[inline]
    pub fn place(&self, key: Option<&[u8]>, partitions: u32) -> Option<PartitionId> {
        let key = key.filter(|key| key.len() <= HASHED_HERE)?;
        self.partitioner.keyed(key, partitions as i32).map(PartitionId)
    }

    /// The way of the message. `anywhere` says that any partition will do; `partitions` is the number of partitions of
    /// its topic, 0 if that is not known.
    pub fn way(&self, incoming: &Incoming<'_, '_, '_>, partitions: u32, anywhere: bool) -> Way {
        let Incoming { message, topic, .. } = *incoming;
        let begun = self.lanes.first().is_some();
        let free = self.open.is_empty() && self.lanes.accepts(topic) && incoming.large.is_none();
        let suit = !anywhere && free && Lanes::suit(partitions) && message.partition.is_none();
        let suit = suit && (begun || self.has_capacity());
        match suit.then(|| self.place(message.partitioned_by(), partitions)).flatten() {
            Some(partition) => Way::Lane { partition, partitions },
            None if anywhere && self.open.records.takes_time(message.record.create_time) => Way::Run,
            None => Way::Mixed,
        }
    }

    /// The reason to seal the open chunk or the lanes before they take this message; none if they can take it.
    pub fn is_full_for(&self, incoming: &Incoming<'_, '_, '_>, way: Way) -> Option<NoRoom> {
        // Messages behind the lanes may go to partitions of the lanes, too.
        let past_lanes = !matches!(way, Way::Lane { .. }) && self.lanes.first().is_some();
        if past_lanes || (incoming.large.is_some() && self.has_capacity()) {
            return Some(NoRoom { is_batch: false, cannot_wait: past_lanes });
        }
        let chunk = match way {
            Way::Lane { partition, .. } => self.lanes.get(partition)?,
            Way::Run | Way::Mixed => &self.open,
        };
        if chunk.is_empty() {
            return None;
        }
        // A batch may be filled; a chunk that the engine takes apart anyway is better taken early.
        let is_batch = match way {
            Way::Lane { .. } => true,
            Way::Run => chunk.run() == Some(incoming.topic),
            Way::Mixed => false,
        };
        let most = if is_batch { self.batch_bytes } else { CHUNK_BYTES };
        let plan = way.plan(&chunk.records, incoming.message);
        let fits = plan.is_some_and(|plan| plan.len <= most);
        (!fits).then_some(NoRoom { is_batch, cannot_wait: plan.is_none() || matches!(way, Way::Lane { .. }) })
    }

    /// Puts a message in, for which there is room.
    pub fn put(&mut self, incoming: Incoming<'_, '_, '_>, way: Way, ticket: u64) {
        let Incoming { message, slot, topic, cost, large } = incoming;
        let to = To { topic, placed: way != Way::Mixed };
        if let Some(records) = large.filter(|_| self.has_capacity()) {
            let mut chunk = Chunk::of_one(records, message, slot, to, cost);
            (chunk.first, chunk.upto) = (ticket, ticket + 1);
            self.send(chunk);
            return;
        }
        // Memory is taken in few, large steps: repeated doubling, in the midst of other memory, would leave as much
        // unused as is used.
        let (chunk, times) = match way {
            Way::Lane { partition, partitions } => {
                let id = TopicPartition { topic, partition };
                (self.lanes.chunk(id, partitions, ticket, || self.spare.take()), 4)
            }
            Way::Run | Way::Mixed => (&mut self.open, 16),
        };
        if chunk.is_empty() {
            chunk.first = ticket;
        }
        let plan = way.plan(&chunk.records, message);
        debug_assert!(plan.is_some(), "what is full was sealed before");
        if let Some(plan) = plan {
            let mut step = FIRST_BYTES;
            while step < plan.len {
                step = step.saturating_mul(times);
            }
            // A chunk that waits for a slot grows by itself, in larger steps.
            if plan.len <= self.batch_bytes {
                chunk.records.grow_to(step.min(self.batch_bytes));
            }
            chunk.push(plan, message, slot, to, cost);
        }
    }

    /// The number of bytes of a batch up to which the open chunk, or a lane, takes messages of its kind before anything
    /// else is to be done. `behind` is the number of bytes that wait before it.
    pub fn until(&self, topic: TopicIndex, behind: usize) -> usize {
        if self.lanes.first().is_some() {
            self.batch_bytes
        } else if self.open.run() != Some(topic) {
            CHUNK_BYTES
        } else if behind < BEHIND {
            self.batch_bytes
        } else {
            self.batch_bytes.min(self.open.records.summed_len() + SUMMED_TOGETHER)
        }
    }

    /// Computes the checksum of the open chunk, if it will be sent as it is, and if so many bytes wait before it that
    /// the caches will have lost it by then. If few bytes wait, callers are the slower side, and the worker computes
    /// it.
    pub fn sum_up(&mut self, behind: usize) {
        let records = &self.open.records;
        let much = records.len() >= records.summed_len() + SUMMED_TOGETHER;
        if behind >= BEHIND && much && self.open.run().is_some() {
            self.open.records.sum_up();
        }
    }

    /// `true` if there is a slot for a chunk that could wait.
    pub fn has_capacity(&self) -> bool {
        self.sealed.len() < self.capacity
    }

    /// The number of chunks on their way to the worker.
    pub fn sealed(&self) -> usize {
        self.sealed.len()
    }

    /// Seals the open chunk or the lanes, and sends them to the worker; all messages before have tickets below `upto`.
    pub fn seal(&mut self, upto: u64) {
        while let Some(chunk) = self.take(upto) {
            self.send(chunk);
        }
    }

    /// Takes the open chunk or the lanes out, a chunk at a time; all messages before have tickets below `upto`.
    pub fn take(&mut self, upto: u64) -> Option<Chunk> {
        let open = (!self.open.is_empty()).then(|| mem::replace(&mut self.open, self.spare.take()));
        let mut chunk = open.or_else(|| self.lanes.take_next())?;
        chunk.upto = upto;
        Some(chunk)
    }

    fn send(&self, chunk: Chunk) {
        let sent = self.sealed.try_send(Box::new(chunk));
        debug_assert!(sent.is_ok(), "the caller saw a slot under the lock, and the worker's end is there");
    }
}

/// The reason why a chunk does not take a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom {
    /// It is a full batch.
    pub is_batch: bool,
    /// It must be sealed, also where there is no slot but those for such chunks.
    pub cannot_wait: bool,
}

/// Emptied chunks for the next messages, and the bytes that they can hold.
#[derive(Debug)]
pub(super) struct Spare {
    chunks: Vec<Chunk>,
    bytes: usize,
    most_bytes: usize,
}

impl Spare {
    fn take(&mut self) -> Chunk {
        let chunk = self.chunks.pop().unwrap_or_default();
        self.bytes -= chunk.capacity();
        chunk
    }

    /// Takes a chunk whose messages have left it, unless there are enough.
    pub fn put(&mut self, mut chunk: Chunk) {
        let capacity = chunk.capacity();
        if self.chunks.len() < SPARE_CHUNKS && self.bytes.saturating_add(capacity) <= self.most_bytes {
            chunk.reset();
            self.bytes += capacity;
            self.chunks.push(chunk);
        }
    }
}

const CHUNK_BYTES: usize = 64 * 1024;
/// This number of chunks may wait for the worker, however few bytes the queue may have; later ones grow instead.
const LEAST_SLOTS: usize = 1024;
/// For 4 GiB. A slot takes 16 bytes.
const MOST_SLOTS: usize = 64 * 1024;
/// For all lanes, and for open chunks that cannot wait: no queue holds as many of 2 GiB, and lanes begin only in front of
/// these.
const KEPT_CAPACITY: usize = 2 * lanes::MOST as usize;
/// A longer key is hashed by the engine: nobody else can produce meanwhile.
const HASHED_HERE: usize = 256;
/// The memory that a chunk takes first, in bytes; after two or four larger steps it is one mebibyte.
const FIRST_BYTES: usize = 4 * 1024;
/// If this many bytes wait before a chunk, the caches will have lost it when it is sent.
pub(super) const BEHIND: usize = 8 * 1024 * 1024;
/// The number of bytes that are summed together, as long as they are in the fastest cache.
pub(super) const SUMMED_TOGETHER: usize = 16 * 1024;
const SPARE_CHUNKS: usize = 256;
const SPARE_BYTES: usize = 8 * 1024 * 1024;

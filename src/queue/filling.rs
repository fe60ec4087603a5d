//! The chunks that callers fill: the open one, or the lanes of a topic, and those that are full. Which of them takes a
//! message, and when they are full, is decided here; when they leave is the queue's.

use std::collections::VecDeque;
use std::mem;

use super::checked::Checked;
use super::chunk::Chunk;
use super::lanes::Lanes;
use crate::fate::slot::Slot;
use crate::partitioner::Partitioner;

/// At any time either the open chunk or the lanes have messages, so those in one kind are all older than those in the
/// other.
#[derive(Debug)]
pub(super) struct Filling {
    /// Bytes of a batch.
    batch_bytes: usize,
    /// What places messages with keys already here, where the number of partitions is known.
    pub partitioner: Option<Partitioner>,
    pub open: Chunk,
    pub lanes: Lanes,
    sealed: VecDeque<Chunk>,
    spare: Spare,
}

/// How a message can travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In the batch of a partition, among so many.
    Lane { partition: u32, partitions: u32 },
    /// In a batch for whichever partition.
    Run,
    /// With any others; the engine sorts them.
    Mixed,
}

impl Filling {
    pub fn new(batch_bytes: usize) -> Self {
        Self {
            batch_bytes,
            partitioner: None,
            open: Chunk::default(),
            lanes: Lanes::default(),
            sealed: VecDeque::new(),
            spare: Spare::default(),
        }
    }

    /// Ticket of the first message in what takes messages.
    #[inline]
    pub fn first(&self) -> Option<u64> {
        self.lanes.first().or_else(|| (!self.open.is_empty()).then_some(self.open.first))
    }

    /// The partition that a message has by its key, or what stands for it, where that is quickly found. Only hashes
    /// that are built in are asked here, on the caller's thread: they neither block nor panic.
    #[inline]
    pub fn place(&self, key: Option<&[u8]>, partitions: u32) -> Option<u32> {
        let key = key.filter(|key| key.len() <= HASHED_HERE)?;
        self.partitioner.as_ref()?.keyed(key, partitions as i32).map(|partition| partition as u32)
    }

    /// How the message travels. `anywhere` says that any partition will do; `partitions` is how many its topic has, 0
    /// if that is not known.
    pub fn way(&self, message: &Checked<'_, '_>, topic: u32, partitions: u32, anywhere: bool) -> Way {
        let free = self.open.is_empty() && self.lanes.take(topic) && message.encoded.is_none();
        let suit = !anywhere && free && Lanes::suit(partitions) && message.message.partition.is_none();
        match suit.then(|| self.place(message.partition_key.or(message.key), partitions)).flatten() {
            Some(partition) => Way::Lane { partition, partitions },
            None if anywhere => Way::Run,
            None => Way::Mixed,
        }
    }

    /// Whether what takes messages must be sealed before it can take this one, and if so, whether it is a full batch.
    pub fn is_full_for(&self, message: &Checked<'_, '_>, topic: u32, way: Way) -> Option<bool> {
        // Behind the lanes comes what some of their partitions may get, too.
        let past_lanes = !matches!(way, Way::Lane { .. }) && self.lanes.first().is_some();
        if past_lanes || message.encoded.is_some() {
            return Some(false);
        }
        let chunk = match way {
            Way::Lane { partition, .. } => self.lanes.get(partition)?,
            Way::Run | Way::Mixed => &self.open,
        };
        if chunk.is_empty() {
            return None;
        }
        // What is a batch may fill one; what the engine takes apart anyway is better taken early.
        let is_batch = match way {
            Way::Lane { .. } => true,
            Way::Run => chunk.run() == Some(topic),
            Way::Mixed => false,
        };
        let most = if is_batch { self.batch_bytes } else { CHUNK_BYTES };
        let plan = chunk.records.plan(message.create_time.as_millis(), message.tail_len);
        if plan.is_some_and(|plan| plan.len <= most) { None } else { Some(is_batch) }
    }

    /// Puts a message in, for which there is room.
    pub fn put(
        &mut self,
        message: &mut Checked<'_, '_>,
        (topic, way): (u32, Way),
        ticket: u64,
        slot: Option<Slot<'_>>,
        cost: usize,
    ) {
        let placed = way != Way::Mixed;
        if let Some(records) = message.encoded.take() {
            let mut chunk = Chunk::of_one(records, message.parts(topic), slot, placed, cost);
            (chunk.first, chunk.upto) = (ticket, ticket + 1);
            self.sealed.push_back(chunk);
            return;
        }
        // Memory is taken in few, large steps: to double it time and again, in the midst of others, would leave as much
        // unused as is used.
        let (chunk, times) = match way {
            Way::Lane { partition, partitions } => {
                (self.lanes.chunk(topic, (partition, partitions), ticket, || self.spare.take()), 4)
            }
            Way::Run | Way::Mixed => (&mut self.open, 16),
        };
        if chunk.is_empty() {
            chunk.first = ticket;
        }
        let plan = chunk.records.plan(message.create_time.as_millis(), message.tail_len);
        debug_assert!(plan.is_some(), "what is full was sealed before");
        if let Some(plan) = plan {
            let mut step = FIRST_BYTES;
            while step < plan.len {
                step = step.saturating_mul(times);
            }
            chunk.records.grow_to(step.min(self.batch_bytes).max(plan.len));
            chunk.push(plan, message.parts(topic), slot, placed, cost);
        }
    }

    /// Up to how many bytes of a batch the open chunk, or a lane, takes messages of its kind before anything else is to
    /// be done. `behind` is how many bytes wait before it.
    pub fn until(&self, topic: u32, behind: usize) -> usize {
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

    /// Computes the checksum of the open chunk, if it will be sent as it is, and so many bytes wait before it that the
    /// caches will have lost it then. Where few wait, callers are the slower ones, and the worker does it.
    pub fn sum_up(&mut self, behind: usize) {
        let records = &self.open.records;
        let much = records.len() >= records.summed_len() + SUMMED_TOGETHER;
        if behind >= BEHIND && much && self.open.run().is_some() {
            self.open.records.sum_up();
        }
    }

    /// Ends what takes messages; all before have tickets below `upto`.
    pub fn seal(&mut self, upto: u64) {
        let open = (!self.open.is_empty()).then(|| mem::replace(&mut self.open, self.spare.take()));
        for mut chunk in open.into_iter().chain(self.lanes.seal()) {
            chunk.upto = upto;
            self.sealed.push_back(chunk);
        }
    }

    /// Moves the sealed chunks with messages below this ticket to `out`.
    pub fn take(&mut self, below: u64, out: &mut VecDeque<Chunk>) {
        while self.sealed.front().is_some_and(|chunk| chunk.first < below) {
            out.extend(self.sealed.pop_front());
        }
    }

    /// Takes a chunk back whose messages have left it, to use its memory again. `queue_bytes` is the limit of the
    /// queue.
    pub fn recycle(&mut self, chunk: Chunk, queue_bytes: usize) {
        self.spare.put(chunk, SPARE_BYTES.min(queue_bytes / 4));
    }
}

/// Emptied chunks for the next messages, and the bytes that they can hold.
#[derive(Debug, Default)]
struct Spare {
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Spare {
    fn take(&mut self) -> Chunk {
        let chunk = self.chunks.pop().unwrap_or_default();
        self.bytes -= chunk.capacity();
        chunk
    }

    fn put(&mut self, mut chunk: Chunk, most_bytes: usize) {
        let capacity = chunk.capacity();
        if self.chunks.len() < SPARE_CHUNKS && self.bytes.saturating_add(capacity) <= most_bytes {
            chunk.reset();
            self.bytes += capacity;
            self.chunks.push(chunk);
        }
    }
}

const CHUNK_BYTES: usize = 64 * 1024;
/// A longer key is hashed by the engine: nobody else can produce meanwhile.
const HASHED_HERE: usize = 256;
/// What a chunk takes first. Bytes of two or four steps more are one mebibyte.
const FIRST_BYTES: usize = 4 * 1024;
/// So many bytes before a chunk, and the caches will have lost it when it is sent.
pub(super) const BEHIND: usize = 8 * 1024 * 1024;
/// So many bytes are summed together, as long as they are in the fastest cache.
pub(super) const SUMMED_TOGETHER: usize = 16 * 1024;
const SPARE_CHUNKS: usize = 256;
const SPARE_BYTES: usize = 8 * 1024 * 1024;

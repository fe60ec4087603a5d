//! From the queue into batches: each message to the open batch of its partition, in one copy.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::ProducerEngine;
use super::batch::Batch;
use super::partition::{Arrival, Settled};
use super::topic::TopicState;
use crate::engine::backoff::Random;
use crate::engine::chunk::Chunk;
use crate::engine::deadline::Deadline;
use crate::engine::entry::{self, Entry};
use crate::engine::partitioner::{PartitionInput, Partitioner};
use crate::error::{DeliveryErrorKind, Persistence};
use crate::fate::Slot;
use crate::record::tail;

impl ProducerEngine {
    /// Takes every message of the chunk from `chunk.taken` on; they are due since `now`.
    ///
    /// `taken` moves after a message is safe, so that after a panic (in a partitioner that ignores its catch, or in
    /// this engine) exactly one message is in doubt. The caller resets the chunk.
    pub fn append(&mut self, chunk: &mut Chunk, now: Instant) {
        let mut handle = chunk.handles.partition_point(|(index, _)| (*index as usize) < chunk.taken);
        while chunk.taken < chunk.len() {
            let index = chunk.taken;
            let slot = match chunk.handles.get(handle) {
                Some((at, slot)) if *at as usize == index => {
                    handle += 1;
                    Some(Arc::clone(slot))
                }
                _ => None,
            };
            let bytes = chunk.entry_bytes(index);
            let queued = entry::cost(bytes, slot.is_some());
            let arrival = Arrival { ticket: chunk.first + index as u64, due: now, queued, slot };
            self.unfinished += 1;
            self.place(bytes, arrival);
            chunk.taken += 1;
        }
        self.touch_fresh(now);
    }

    /// Gives the message at the chunk's cursor the fate `Internal`, not written, and moves the cursor behind it: the
    /// engine before this one broke on it.
    pub fn fail_next(&mut self, chunk: &mut Chunk, what: &str, now: Instant) {
        let index = chunk.taken;
        if index >= chunk.len() {
            return;
        }
        let handles = chunk.handles.iter().find(|(at, _)| *at as usize == index);
        let slot = handles.map(|(_, slot)| Arc::clone(slot));
        let bytes = chunk.entry_bytes(index);
        let entry = Entry::read(bytes);
        let queued = entry::cost(bytes, slot.is_some());
        let arrival = Arrival { ticket: chunk.first + index as u64, due: now, queued, slot };
        self.unfinished += 1;
        self.fail_one(entry.topic, &entry, arrival, Arc::new(DeliveryErrorKind::Internal(what.to_owned())));
        chunk.taken += 1;
    }

    /// Appends what waited for the metadata of a topic that is known now.
    pub(super) fn unpark(&mut self, topic: u32, now: Instant) {
        let parked = std::mem::take(&mut self.topics[topic as usize].parked);
        each(parked, |bytes, arrival| self.place(bytes, arrival));
        self.touch_fresh(now);
    }

    /// Fails all that waits for the metadata of a topic.
    pub(super) fn fail_parked(&mut self, topic: u32, why: &Arc<DeliveryErrorKind>) {
        let runs = self.topics[topic as usize].parked.len();
        self.fail_oldest_parked(topic, runs, why);
    }

    /// Fails the oldest so many runs of what waits for the metadata of a topic.
    pub(super) fn fail_oldest_parked(&mut self, topic: u32, runs: usize, why: &Arc<DeliveryErrorKind>) {
        let state = &mut self.topics[topic as usize];
        let parked: Vec<(Chunk, Instant)> = state.parked.drain(..runs).collect();
        if !state.has_messages() {
            // The next message has all the time again.
            state.missing_since = None;
        }
        let mut group: Option<(Option<i32>, Batch)> = None;
        each(parked, |bytes, arrival| {
            let entry = Entry::read(bytes);
            let joins = |(partition, batch): &(Option<i32>, Batch)| {
                *partition == entry.partition && batch.fits(entry.create_time, entry.tail.len(), FAILED_TOGETHER)
            };
            if !group.as_ref().is_some_and(joins) {
                self.fail_group(topic, group.take(), why);
            }
            let empty = || (entry.partition, Batch::new(Vec::new(), arrival.ticket, arrival.due, Deadline::NEVER));
            group.get_or_insert_with(empty).1.append(&entry, arrival.slot, arrival.queued);
        });
        self.fail_group(topic, group, why);
    }

    /// Gives messages to one partition, or to none, that are in no batch, their fate.
    fn fail_group(&mut self, topic: u32, group: Option<(Option<i32>, Batch)>, why: &Arc<DeliveryErrorKind>) {
        let Some((partition, batch)) = group else { return };
        let (queued, outcome) = (batch.queued, Err((Arc::clone(why), Persistence::No)));
        let number = (topic, partition.unwrap_or(-1));
        self.settled.push(Settled { number, parts: batch.into_parts(), outcome, queued });
        self.settle();
    }

    /// Puts one message where it belongs: a batch, the list of those that wait for metadata, or the fates.
    fn place(&mut self, bytes: &[u8], arrival: Arrival) {
        let entry = Entry::read(bytes);
        let index = entry.topic;
        let Some(topic) = self.topics.get_mut(index as usize) else {
            debug_assert!(false, "topic {index} was not told");
            return;
        };
        if let Some(fatal) = &self.fatal {
            let why = Arc::new(DeliveryErrorKind::Fatal(Arc::clone(fatal)));
            return self.fail_one(index, &entry, arrival, why);
        }
        if !topic.is_known() {
            if topic.parked.is_empty() {
                self.refresh.want();
                self.outbox.fresh(index, -1);
            }
            return park(topic, bytes, arrival);
        }
        match choose(&self.config.partitioner, topic, &entry, &mut self.random) {
            Ok(number) => {
                topic.used = true;
                if let Some(partition) = topic.partition(number) {
                    if !partition.has_unsent() {
                        self.outbox.fresh(index, number);
                    }
                    let buffers = &mut self.buffers;
                    partition.append(&entry, arrival, || buffers.pop().unwrap_or_default());
                }
            }
            Err(why) => self.fail_one(index, &entry, arrival, Arc::new(why)),
        }
    }

    /// Looks at what got its first message since the last call.
    fn touch_fresh(&mut self, now: Instant) {
        while let Some((topic, partition)) = self.outbox.next_fresh() {
            if partition < 0 {
                self.set_topic_alarm(topic, now);
            } else {
                self.touch(topic, partition, now);
            }
        }
    }

    /// Gives one message, which is in no batch, its fate.
    fn fail_one(&mut self, topic: u32, entry: &Entry<'_>, arrival: Arrival, why: Arc<DeliveryErrorKind>) {
        let mut batch = Batch::new(Vec::new(), arrival.ticket, arrival.due, Deadline::NEVER);
        batch.append(entry, arrival.slot, arrival.queued);
        self.fail_group(topic, Some((entry.partition, batch)), &why);
    }
}

/// Bytes of messages that share one fate when they fail before they are in a batch: a fate for each would take many
/// times the memory of the messages, if they are small.
const FAILED_TOGETHER: usize = 64 * 1024;

/// The partition of a message.
fn choose(
    partitioner: &Partitioner,
    topic: &mut TopicState,
    entry: &Entry<'_>,
    random: &mut Random,
) -> Result<i32, DeliveryErrorKind> {
    let count = topic.partitions.len() as i32;
    if let Some(partition) = entry.partition {
        if partition >= count {
            let topic = topic.name.clone();
            return Err(DeliveryErrorKind::UnknownPartition { topic, partition, count });
        }
        return Ok(partition);
    }
    let input = PartitionInput {
        topic: topic.name.name(),
        key: entry.partition_key.or_else(|| tail::key(entry.tail)),
        partition_count: count,
    };
    let chosen = if partitioner.is_custom() {
        catch_unwind(AssertUnwindSafe(|| partitioner.choose(input)))
            .map_err(|_| DeliveryErrorKind::Partitioner { what: "panicked".to_owned() })?
    } else {
        partitioner.choose(input)
    };
    match chosen {
        Some(partition) if (0..count).contains(&partition) => Ok(partition),
        Some(partition) => Err(DeliveryErrorKind::Partitioner {
            what: format!("chose partition {partition}, the topic has 0 to {}", count - 1),
        }),
        // Without a leader anywhere, any partition is as good as another.
        None => Ok(topic.sticky.choose(&topic.available, entry.tail.len(), random.draw()).unwrap_or(0)),
    }
}

/// Calls `act` for each message of these runs, in order.
fn each(parked: impl IntoIterator<Item = (Chunk, Instant)>, mut act: impl FnMut(&[u8], Arrival)) {
    for (chunk, due) in parked {
        let mut handles = chunk.handles.iter().peekable();
        for index in 0..chunk.len() {
            let slot = handles.next_if(|(at, _)| *at as usize == index).map(|(_, slot)| Arc::clone(slot));
            let bytes = chunk.entry_bytes(index);
            // Tickets in a run have gaps, so each message counts as old as the oldest.
            let queued = entry::cost(bytes, slot.is_some());
            act(bytes, Arrival { ticket: chunk.first, due, queued, slot });
        }
    }
}

/// Keeps a message until the metadata of its topic is there.
fn park(topic: &mut TopicState, bytes: &[u8], arrival: Arrival) {
    if topic.parked.back().is_none_or(|(_, due)| *due != arrival.due) {
        let chunk = Chunk { first: arrival.ticket, ..Chunk::default() };
        topic.parked.push_back((chunk, arrival.due));
    }
    if let Some((chunk, _)) = topic.parked.back_mut() {
        put(chunk, arrival.slot, |out| out.extend_from_slice(bytes));
    }
}

/// The messages of a batch as a chunk, each bound to its partition.
pub(super) fn chunk_of(topic: u32, partition: i32, batch: Batch) -> Chunk {
    let mut chunk = Chunk { first: batch.first_ticket, ..Chunk::default() };
    let (records, extras) = batch.into_parts();
    let mut extras = extras.into_iter().peekable();
    for (index, record) in (0u32..).zip(records.iter()) {
        let extra = extras.next_if(|extra| extra.index == index);
        let (slot, tag, partition_key) = match extra {
            Some(extra) => (extra.slot, extra.tag, extra.partition_key),
            None => (None, 0, None),
        };
        let mut bytes = Vec::new();
        let headers: Vec<_> = record.headers.flatten().collect();
        tail::put(&mut bytes, record.key, record.value, headers.iter().copied());
        let entry = Entry {
            topic,
            partition: Some(partition),
            create_time: record.timestamp,
            tag,
            partition_key: partition_key.as_deref(),
            tail: &bytes,
        };
        put(&mut chunk, slot, |out| entry::put_entry(out, &entry));
    }
    chunk
}

fn put(chunk: &mut Chunk, slot: Option<Arc<Slot>>, write: impl FnOnce(&mut Vec<u8>)) {
    if let Some(slot) = slot {
        chunk.handles.push((chunk.ends.len() as u32, slot));
    }
    write(&mut chunk.bytes);
    chunk.ends.push(chunk.bytes.len() as u32);
}

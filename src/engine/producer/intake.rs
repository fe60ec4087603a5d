//! Moves messages from the queue into batches: a run becomes a batch as it is, other messages are copied one by one
//! into the open batch of their partition.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use super::ProducerEngine;
use super::batch::{BATCH, Batch};
use super::buffers::Lease;
use super::partition::{NewMessage, Partition, PartitionRules, Settled};
use super::topic::TopicState;
use crate::deadline::Deadline;
use crate::error::{DeliveryErrorKind, Persistence};
use crate::ids::{Destination, PartitionId, TopicIndex, TopicPartition};
use crate::partitioner::{PartitionInput, Partitioner};
use crate::queue::chunk::Chunk;
use crate::queue::entry::Entry;
use crate::record::tail;

impl ProducerEngine {
    /// Takes every message of the chunk from `chunk.taken` on; they are due since `now`.
    ///
    /// `taken` moves right behind the place that takes a message, and what follows from that comes later. So after a
    /// panic, in the user's partitioner or in this engine, the message at the cursor is in no other place, and those
    /// before it are. The caller resets the chunk.
    pub fn append(&mut self, chunk: &mut Chunk, now: Instant) {
        self.unfinished += chunk.len() - chunk.taken;
        if !self.append_run(chunk, now) && !self.park_run(chunk, now) {
            let anywhere = chunk.run().is_some();
            self.append_each(chunk, now, anywhere, Chunk::ticket);
        }
        self.reschedule_fresh(now);
    }

    /// Takes the messages of the chunk one by one. `ticket` gives that of each.
    fn append_each(&mut self, chunk: &mut Chunk, due: Instant, anywhere: bool, ticket: impl Fn(&Chunk, usize) -> u64) {
        chunk.expand_routes();
        let mut row = 0;
        while chunk.taken < chunk.len() {
            let entry = chunk.entry(chunk.taken, &mut row);
            let arrival = NewMessage { ticket: ticket(chunk, chunk.taken), due, queued: entry.cost() };
            let taker = self.place(&entry, arrival, chunk.lane, anywhere);
            chunk.taken += 1;
            self.follow(taker);
        }
    }

    /// Makes a batch of the chunk as it is, if it is a run to a known topic, and if its partition, or the partition
    /// whose turn it is, takes it so. Its messages are due since `due`.
    fn append_run(&mut self, chunk: &mut Chunk, due: Instant) -> bool {
        let len = chunk.records.len();
        let Some(index) = chunk.run().filter(|_| self.fatal.is_none()) else { return false };
        let Some(topic) = self.topics.get_mut(index.get()).filter(|topic| topic.is_known()) else { return false };
        let id = match chunk.lane {
            None => topic.next_sticky(len, self.random.u64(..), |partition| partition.takes_runs_of(len)),
            lane => lane.filter(|id| topic.partition(*id).is_some_and(|it| it.takes_runs_of(len))),
        };
        topic.used |= id.is_some();
        let Some(partition) = id.and_then(|id| topic.partition(id)) else { return false };
        let id = partition.id;
        if !partition.has_unsent() {
            self.send_queue.fresh(Destination::Partition(id));
        }
        // A large buffer is not spent on few bytes. Nor is a buffer that leaves much unused where a copy is quick.
        let few = chunk.records.capacity() > MOST_SPARE * len || (len < SOON_COPIED && chunk.records.is_wasteful());
        let buffer = if few { chunk.records.fit() } else { self.buffers.take() };
        let (records, extras, queued) = chunk.take_run(buffer);
        partition.append_run(Batch::of_run(records, extras, queued, chunk.first, due));
        self.released.charged += BATCH;
        self.lend_buffer(id);
        true
    }

    /// Keeps the chunk as it is until the metadata of its topic is there, if it is a run to one topic, and not small:
    /// many small ones would take many times the memory of their messages.
    fn park_run(&mut self, chunk: &mut Chunk, now: Instant) -> bool {
        let Some(index) = chunk.run().filter(|_| self.fatal.is_none()) else { return false };
        let Some(topic) = self.topics.get_mut(index.get()).filter(|topic| !topic.is_known()) else { return false };
        if chunk.records.len() < PARKED_ALONE {
            return false;
        }
        if topic.parked.is_empty() {
            self.cluster.want_metadata_for(topic.last_error.is_none());
            self.send_queue.fresh(Destination::Topic(index));
        }
        topic.parked.push_back((chunk.split_run(), now));
        self.released.charged += BATCH;
        true
    }

    /// Appends the messages that waited for the metadata of a topic. If it has no partition yet, they wait on.
    pub(super) fn unpark(&mut self, topic: TopicIndex, now: Instant) {
        let state = &self.topics[topic.get()];
        if !state.is_known() && !state.parked.is_empty() {
            self.cluster.want_metadata_for(state.last_error.is_none());
            self.send_queue.fresh(Destination::Topic(topic));
        }
        while self.topics[topic.get()].is_known() {
            let Some((mut chunk, due)) = self.topics[topic.get()].parked.pop_front() else { break };
            let appended = catch_unwind(AssertUnwindSafe(|| {
                if !self.append_run(&mut chunk, due) {
                    // Tickets in it may have gaps, so each message counts as old as the oldest.
                    self.append_each(&mut chunk, due, false, |chunk, _| chunk.first);
                }
            }));
            if let Err(panic) = appended {
                // What has no other place yet is found where it was.
                self.topics[topic.get()].parked.push_front((chunk, due));
                self.broke_on = Some(topic);
                resume_unwind(panic);
            }
            self.released.bytes += BATCH;
            // Nobody fills it again.
            chunk.into_buffer().into_iter().for_each(|buffer| self.buffers.put(buffer));
        }
        self.reschedule_fresh(now);
    }

    /// Fails all messages that wait for the metadata of a topic.
    pub(super) fn fail_parked(&mut self, topic: TopicIndex, why: &Arc<DeliveryErrorKind>) {
        let runs = self.topics[topic.get()].parked.len();
        self.fail_oldest_parked(topic, runs, why);
    }

    /// Fails the oldest `runs` runs of messages that wait for the metadata of a topic.
    pub(super) fn fail_oldest_parked(&mut self, topic: TopicIndex, runs: usize, why: &Arc<DeliveryErrorKind>) {
        let state = &mut self.topics[topic.get()];
        let parked: Vec<(Chunk, Instant)> = state.parked.drain(..runs).collect();
        if !state.has_messages() {
            // The next message has all the time again.
            state.missing_since = None;
        }
        let mut groups: BTreeMap<Option<PartitionId>, Batch> = BTreeMap::new();
        for (mut chunk, due) in parked {
            self.released.bytes += BATCH;
            if chunk.run().is_some() {
                groups
                    .remove(&None)
                    .into_iter()
                    .for_each(|before| self.fail_group(Destination::Topic(topic), before, why));
                let (records, extras, queued) = chunk.take_run(Vec::new());
                let batch = Batch::of_run(records, extras, queued, chunk.first, due);
                self.fail_group(Destination::Topic(topic), batch, why);
                continue;
            }
            each(&mut chunk, due, |entry, arrival| {
                let group = groups.get_mut(&entry.partition);
                if group.is_none_or(|batch| !batch.append(entry, arrival.queued, FAILED_TOGETHER)) {
                    if let Some(full) = groups.insert(entry.partition, alone(entry, arrival)) {
                        self.fail_group(Destination::new(topic, entry.partition), full, why);
                    }
                }
            });
        }
        for (partition, batch) in groups {
            self.fail_group(Destination::new(topic, partition), batch, why);
        }
    }

    /// Gives messages that are in no batch, to one partition or to none, their fate.
    fn fail_group(&mut self, to: Destination, batch: Batch, why: &Arc<DeliveryErrorKind>) {
        self.fail_unplaced(to, batch, why);
        self.settle_unplaced(to.topic());
    }

    fn fail_unplaced(&mut self, to: Destination, batch: Batch, why: &Arc<DeliveryErrorKind>) {
        let (queued, outcome) = (batch.queued, Err((Arc::clone(why), Persistence::No)));
        let (records, extras) = batch.into_parts();
        self.departures.settled.push_back(Settled { to, records, extras, outcome, queued });
    }

    /// Gives messages that are in no batch their fates.
    fn settle_unplaced(&mut self, topic: TopicIndex) {
        self.settle();
        if self.topics.get(topic.get()).is_some_and(|state| state.held_up.is_some()) {
            self.tell_held_up(topic);
        }
    }

    /// Puts one message into a batch, the list of those that wait for metadata, or the fates: once it is there, nothing
    /// can panic before this returns. In a `lane` a key has already chosen the partition, and the message stays with
    /// that if the number of partitions has changed since: in another partition it would come behind later ones that
    /// were in another lane.
    #[inline]
    fn place(&mut self, entry: &Entry<'_>, arrival: NewMessage, lane: Option<PartitionId>, anywhere: bool) -> Taker {
        let index = entry.topic;
        let Some(topic) = self.topics.get_mut(index.get()) else {
            debug_assert!(false, "{index:?} was not told");
            return Taker::Other;
        };
        if let Some(fatal) = &self.fatal {
            let why = Arc::new(DeliveryErrorKind::Fatal(Arc::clone(fatal)));
            return self.fail_one(entry, arrival, why);
        }
        if !topic.is_known() {
            if topic.parked.is_empty() {
                self.cluster.want_metadata_for(topic.last_error.is_none());
                self.send_queue.fresh(Destination::Topic(index));
            }
            let began = park(topic, self.rules, entry, arrival, lane, anywhere);
            self.released.charged += if began { BATCH } else { 0 };
            return Taker::Other;
        }
        match choose(&self.config.partitioner, topic, entry, lane, &mut self.random) {
            Ok(id) => {
                topic.used = true;
                let Some(partition) = topic.partition(id) else { return Taker::Other };
                let id = partition.id;
                if !partition.has_unsent() {
                    self.send_queue.fresh(Destination::Partition(id));
                }
                let buffers = &mut self.buffers;
                if partition.append(entry, arrival, || buffers.take()) { Taker::NewBatch(id) } else { Taker::Other }
            }
            Err(why) => self.fail_one(entry, arrival, Arc::new(why)),
        }
    }

    /// Does what follows from a message that was [placed](Self::place), once the cursor is behind it.
    #[inline]
    fn follow(&mut self, taker: Taker) {
        match taker {
            Taker::Other => {}
            Taker::NewBatch(id) => {
                self.released.charged += BATCH;
                self.lend_buffer(id);
            }
            Taker::Fates(topic) => self.settle_unplaced(topic),
        }
    }

    /// The open batch of this partition is new, and may have got a buffer that it does not fill.
    fn lend_buffer(&mut self, to: TopicPartition) {
        let Some((first, unused)) = self.partition(to).and_then(|partition| partition.unused()) else { return };
        self.buffers.lend(Lease { to, first, unused });
        while let Some(loan) = self.buffers.call_in() {
            if let Some(buffer) = self.partition(loan.to).and_then(|partition| partition.fit_open(loan.first)) {
                self.buffers.put(buffer);
            }
        }
    }

    fn partition(&mut self, id: TopicPartition) -> Option<&mut Partition> {
        self.topics.get_mut(id.topic.get())?.partition(id.partition)
    }

    /// Looks at what got its first message since the last call.
    fn reschedule_fresh(&mut self, now: Instant) {
        while let Some(to) = self.send_queue.next_fresh() {
            match to {
                Destination::Topic(topic) => self.set_topic_alarm(topic, now),
                Destination::Partition(id) => self.reschedule(id, now),
            }
        }
    }

    /// Gives one message, which is in no batch, its fate.
    fn fail_one(&mut self, entry: &Entry<'_>, arrival: NewMessage, why: Arc<DeliveryErrorKind>) -> Taker {
        self.fail_unplaced(Destination::new(entry.topic, entry.partition), alone(entry, arrival), &why);
        Taker::Fates(entry.topic)
    }
}

/// Bytes of messages that share one fate when they fail before they are in a batch: a fate for each would take many
/// times the memory of the messages, if they are small.
const FAILED_TOGETHER: usize = 64 * 1024;

/// A run of fewer bytes is put together with others while it waits for metadata.
const PARKED_ALONE: usize = 16 * 1024;

/// A run whose buffer is larger than this many times its bytes is copied.
const MOST_SPARE: usize = 4;
/// And one of fewer bytes, if its buffer is too large at all.
const SOON_COPIED: usize = 16 * 1024;

/// The place that took a message, if anything follows from it.
enum Taker {
    /// A new batch of this partition.
    NewBatch(TopicPartition),
    /// The fates, because no message to this topic can have another place.
    Fates(TopicIndex),
    Other,
}

/// The partition of a message.
#[inline]
fn choose(
    partitioner: &Partitioner,
    topic: &mut TopicState,
    entry: &Entry<'_>,
    lane: Option<PartitionId>,
    random: &mut Rng,
) -> Result<PartitionId, DeliveryErrorKind> {
    let count = topic.partitions.len() as i32;
    if let Some(partition) = entry.partition.or(lane) {
        if partition.0 >= count {
            let topic = topic.name.clone();
            return Err(DeliveryErrorKind::UnknownPartition { topic, partition: partition.0, count });
        }
        return Ok(partition);
    }
    let input = PartitionInput {
        topic: topic.name.name(),
        key: entry.extra.and_then(|extra| extra.partition_key).or_else(|| tail::key(entry.tail)),
        partition_count: count,
    };
    let chosen = if partitioner.is_custom() {
        catch_unwind(AssertUnwindSafe(|| partitioner.choose(input)))
            .map_err(|_| DeliveryErrorKind::Partitioner { what: "panicked".to_owned() })?
    } else {
        partitioner.choose(input)
    };
    match chosen {
        Some(partition) if (0..count).contains(&partition) => Ok(PartitionId(partition)),
        Some(partition) => Err(DeliveryErrorKind::Partitioner {
            what: format!("chose partition {partition}, the topic has 0 to {}", count - 1),
        }),
        // Without a leader anywhere, any partition is as good as another.
        None => Ok(topic.sticky.choose(&topic.available, entry.tail.len(), random.u64(..)).unwrap_or(PartitionId(0))),
    }
}

/// A batch of one message.
pub(super) fn alone(entry: &Entry<'_>, NewMessage { ticket, due, queued }: NewMessage) -> Batch {
    let mut batch = Batch::new(Vec::new(), ticket, due, Deadline::NEVER);
    let fits = batch.append(entry, queued, usize::MAX);
    debug_assert!(fits, "the first message always fits");
    batch
}

/// Calls `act` for each message of a chunk that was parked, in order.
fn each(chunk: &mut Chunk, due: Instant, mut act: impl FnMut(&Entry<'_>, NewMessage)) {
    chunk.expand_routes();
    let mut row = 0;
    for index in 0..chunk.len() {
        let entry = chunk.entry(index, &mut row);
        // Tickets in it may have gaps, so each message counts as old as the oldest.
        act(&entry, NewMessage { ticket: chunk.first, due, queued: entry.cost() });
    }
}

/// Keeps a message until the metadata of its topic is there, together with the last ones if it can; messages that are
/// kept together fail together, like a batch. Returns `true` if it is the first of its group.
fn park(
    topic: &mut TopicState,
    rules: PartitionRules,
    entry: &Entry<'_>,
    arrival: NewMessage,
    lane: Option<PartitionId>,
    anywhere: bool,
) -> bool {
    let joins = |(chunk, due): &(Chunk, Instant)| {
        let len = chunk.records.len_with(entry.create_time, entry.tail.len());
        let in_time = rules.takes_until(*due).moment().is_none_or(|until| arrival.due <= until);
        in_time && chunk.lane == lane && len.is_some_and(|len| len <= rules.max_batch_bytes)
    };
    let begins = !topic.parked.back().is_some_and(joins);
    if begins {
        let mut chunk = Chunk::from_ticket(arrival.ticket);
        chunk.lane = lane;
        topic.parked.push_back((chunk, arrival.due));
    }
    if let Some((chunk, _)) = topic.parked.back_mut() {
        chunk.push_entry(entry, anywhere, arrival.queued);
    }
    begins
}

/// The messages of a batch as a chunk, each bound to its partition.
pub(super) fn chunk_of(id: TopicPartition, batch: &mut Batch) -> Chunk {
    let mut chunk = Chunk::from_ticket(batch.first_ticket);
    let (records, extras) = (batch.seal().clone(), &batch.extras);
    let (bytes, mut row) = (records.shared(), 0);
    for (index, (create_time, tail)) in (0u32..).zip(records.create_times().zip(records.tails())) {
        let extra = extras.of(index, &mut row);
        let entry = Entry { topic: id.topic, partition: Some(id.partition), create_time, extra, tail: &bytes[tail] };
        chunk.push_entry(&entry, false, entry.cost());
    }
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerAddress, ClientConfig};
    use crate::message::Topic;

    #[test]
    fn a_run_that_waited_for_metadata_costs_no_spare_buffer() {
        let now = crate::engine::test_clock();
        let client = ClientConfig::new(vec![BrokerAddress { host: "b".into(), port: 9092 }]);
        let mut engine = ProducerEngine::new(Arc::new(client), Arc::default(), 7);
        engine.add_topic(Topic::new("orders").unwrap());
        let mut record = Vec::new();
        tail::put(&mut record, None, Some(&[0; PARKED_ALONE]), std::iter::empty());
        let entry = Entry { topic: TopicIndex(0), partition: None, create_time: 0, extra: None, tail: &record };
        let mut chunk = Chunk::from_ticket(0);
        chunk.push_entry(&entry, true, record.len());
        engine.append(&mut chunk, now);
        assert_eq!(engine.topics[0].parked.len(), 1);
        engine.buffers.put(Vec::with_capacity(9000));
        let id = TopicPartition { topic: TopicIndex(0), partition: PartitionId(0) };
        engine.topics[0].partitions.push(Partition::new(engine.rules, id));
        engine.unpark(TopicIndex(0), now);
        assert!(engine.topics[0].partitions[0].has_unsent());
        assert_eq!(engine.buffers.take().capacity(), 9000);
    }
}

//! The producer's engine: messages and answers go in, requests and fates come out.
//!
//! Owns the topics with their partitions, and the producer's id; its [`Cluster`] has the links to the brokers. Pure: no
//! socket, clock, lock or thread. One driver calls it: it hands in chunks, connection events and the time, calls
//! [`advance`](crate::engine::Engine::advance), and then carries out the actions and passes on the fates.
//!
//! Every message that was appended gets exactly one fate, by [`next_fate`](ProducerEngine::next_fate).

mod alarms;
mod answers;
pub mod batch;
mod buffers;
mod causes;
mod delivered;
mod dispatch;
mod events;
mod fate;
mod identity;
mod init_producer_id;
mod intake;
mod leadership;
mod metadata;
pub mod partition;
mod salvage;
mod send_queue;
mod size;
mod topic;
pub mod verdict;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

#[cfg(feature = "_internal")]
pub use self::delivered::Ack;
pub use self::delivered::DeliveredBatch;
pub use self::fate::{BatchFate, FailedMessages};
pub use self::salvage::Salvage;
pub use self::send_queue::Amount;

use self::alarms::Alarms;
use self::buffers::Buffers;
use self::identity::Identity;
use self::partition::{Departures, Partition, PartitionRules, Settled};
use self::send_queue::SendQueue;
use self::topic::TopicState;
use self::waiting::Waiting;
use crate::config::{ClientConfig, ProducerConfig};
use crate::engine::backoff::Backoff;
#[cfg(any(test, feature = "_internal"))]
use crate::engine::cluster::description::ClusterDescription;
use crate::engine::cluster::{Cluster, ClusterOptions};
use crate::error::{DeliveryErrorKind, FatalError};
use crate::ids::{Destination, PartitionId, TopicIndex, TopicPartition};
use crate::message::Topic;
use crate::wire::Api;

/// The logic of a producer.
#[derive(Debug)]
pub struct ProducerEngine {
    client: Arc<ClientConfig>,
    config: Arc<ProducerConfig>,
    rules: PartitionRules,
    retry: Backoff,
    random: Rng,
    topics: Vec<TopicState>,
    /// Topics by name and, where the cluster has them, by id.
    by_name: HashMap<Topic, TopicIndex>,
    by_id: HashMap<[u8; 16], TopicIndex>,
    cluster: Cluster,
    identity: Identity,
    send_queue: SendQueue,
    alarms: Alarms,
    fates: VecDeque<BatchFate>,
    /// What has left a partition, until [`settle`](Self::settle) has done what follows.
    departures: Departures,
    /// Topics that got another number of partitions, with that number.
    counts: Vec<PartitionCount>,
    /// Topics to which no message can be sent any more, with the reason, and topics to which messages can be sent
    /// again.
    held_up: Vec<TopicCause>,
    released: Released,
    unfinished: usize,
    /// `true` if delivered messages keep their buffer place until their callback has returned.
    callbacks: bool,
    fatal: Option<Arc<FatalError>>,
    buffers: Buffers,
    /// The topic of the message that a panic has come from, if that waited for metadata; for the salvage.
    broke_on: Option<TopicIndex>,
}

/// The reason why no message can be sent to a topic. The same reason once more says that no message to it is left.
#[derive(Clone, Debug)]
pub struct TopicCause {
    /// The topic.
    pub topic: TopicIndex,
    /// The reason; none if messages can be sent again.
    pub cause: Option<Arc<DeliveryErrorKind>>,
}

/// The number of partitions that a topic has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCount {
    /// The topic.
    pub topic: TopicIndex,
    /// The number; 0 if the topic is gone, or nothing is known of it.
    pub partitions: u32,
}

/// The queue places that became free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: usize,
    /// Bytes that batches take in addition to their messages, which hold places; they become free with these.
    pub charged: usize,
}

impl Released {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            charged: self.charged + other.charged,
        }
    }
}

impl ProducerEngine {
    /// An engine that knows nothing yet. `seed` feeds jitter and random choices.
    #[must_use]
    pub fn new(client: Arc<ClientConfig>, config: Arc<ProducerConfig>, seed: u64) -> Self {
        let rules = PartitionRules {
            idempotent: config.idempotent,
            max_in_flight: if config.idempotent { config.max_in_flight } else { 1 },
            max_batch_bytes: config.max_batch_bytes,
            delivery_timeout: config.delivery_timeout,
            max_retries: config.max_retries,
        };
        let mut random = Rng::with_seed(seed);
        let retry = Backoff { first: config.retry_backoff, max: config.retry_backoff_max };
        let needed = if config.idempotent { NEEDED } else { NEEDED_WITHOUT_ID };
        let options = ClusterOptions { needed, creates_topics: config.allow_auto_topic_creation, retry };
        let buffers = Buffers::new(config.max_batch_bytes, config.max_buffer_bytesize);
        Self {
            rules,
            retry,
            cluster: Cluster::new(&client, options, random.u64(..)),
            identity: Identity::new(&config),
            send_queue: SendQueue::default(),
            client,
            config,
            random,
            topics: Vec::new(),
            by_name: HashMap::new(),
            by_id: HashMap::new(),
            alarms: Alarms::default(),
            fates: VecDeque::new(),
            departures: Departures::default(),
            counts: Vec::new(),
            held_up: Vec::new(),
            released: Released::default(),
            unfinished: 0,
            callbacks: false,
            fatal: None,
            buffers,
            broke_on: None,
        }
    }

    /// Makes delivered and failed messages keep their buffer place until
    /// [`callbacks_done`](Self::callbacks_done) says that their callbacks have returned.
    #[must_use]
    pub fn with_callbacks(mut self, callbacks: bool) -> Self {
        self.callbacks = callbacks;
        self
    }

    /// Tells the next topic of the queue's table: the first call is index 0.
    pub fn add_topic(&mut self, topic: Topic) {
        self.by_name.insert(topic.clone(), TopicIndex(self.topics.len() as u32));
        self.topics.push(TopicState::new(topic, &self.rules));
    }

    /// The number of topics that it was told.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The cluster, and the needs of the messages for it.
    fn cluster_and_demand(&mut self) -> (&mut Cluster, Waiting<'_>) {
        let Self { cluster, topics, send_queue, identity, unfinished, .. } = self;
        (cluster, Waiting { topics, send_queue, identity, unfinished: *unfinished })
    }

    fn waiting(&self) -> Waiting<'_> {
        let Self { topics, send_queue, identity, unfinished, .. } = self;
        Waiting { topics, send_queue, identity, unfinished: *unfinished }
    }

    /// The description of the cluster in the last metadata.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterDescription> {
        self.cluster.description()
    }

    /// The next fate.
    pub fn next_fate(&mut self) -> Option<BatchFate> {
        self.fates.pop_front()
    }

    /// The fates that were not passed on yet, for the simulation to falsify.
    #[cfg(feature = "_internal")]
    pub fn fates_mut(&mut self) -> &mut VecDeque<BatchFate> {
        &mut self.fates
    }

    /// Takes the memory of a finished batch for the next one.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.put(buffer);
    }

    /// Moves the topics that got another number of partitions since the last call to `out`, with that number; 0 if they
    /// are gone.
    pub fn take_counts(&mut self, out: &mut Vec<PartitionCount>) {
        out.append(&mut self.counts);
    }

    /// Moves to `out` the topics to which no message can be sent since the last call, with the reason, and those to
    /// which messages can be sent again.
    pub fn take_held_up(&mut self, out: &mut Vec<TopicCause>) {
        out.append(&mut self.held_up);
    }

    /// Queue places that became free since the last call. None while callbacks hold more than the buffer may: messages
    /// that fail unsent go to them without a place in the buffer, and callers must not go on for ever.
    pub fn take_released(&mut self) -> Released {
        if self.callbacks && self.is_overfull() {
            return Released { charged: std::mem::take(&mut self.released.charged), ..Released::default() };
        }
        std::mem::take(&mut self.released)
    }

    /// The same at the end, when no caller can come any more: all of them, whatever callbacks hold.
    pub fn take_last_released(&mut self) -> Released {
        std::mem::take(&mut self.released)
    }

    /// Callbacks for messages of an engine before this one hold this until [`callbacks_done`](Self::callbacks_done).
    pub fn callbacks_hold(&mut self, held: Amount) {
        self.send_queue.hold(held);
    }

    /// The callbacks for messages that held this (see [`BatchFate::held`]) have returned.
    pub fn callbacks_done(&mut self, held: Amount) {
        self.send_queue.free(held);
    }

    /// Ticket of the oldest message without a fate, or `None` if every message has its own.
    #[must_use]
    pub fn oldest_unfinished(&self) -> Option<u64> {
        if self.unfinished == 0 {
            return None;
        }
        self.topics.iter().filter_map(TopicState::oldest_ticket).min()
    }

    /// The number of messages without a fate.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// The messages and bytes that were sent and have no fate, or whose callback has not returned.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn held(&self) -> Amount {
        self.send_queue.held()
    }

    /// Set once the producer cannot go on: all later messages fail with it.
    #[must_use]
    pub fn fatal(&self) -> Option<&Arc<FatalError>> {
        self.fatal.as_ref()
    }

    /// Hands back, as fates with [`DeliveryErrorKind::Purged`], the messages that were never written to a socket and
    /// are not in the hands of a connection, which may write them at any moment.
    pub fn purge(&mut self, now: Instant) {
        self.take_back(&Arc::new(DeliveryErrorKind::Purged), now);
    }

    /// The same with any error.
    fn take_back(&mut self, why: &Arc<DeliveryErrorKind>, now: Instant) {
        self.for_each_partition(now, |partition, out| partition.purge(why, out));
        for topic in TopicIndex::below(self.topics.len()) {
            self.fail_parked(topic, why);
        }
    }

    /// Counts `delivery_timeout` and attempts anew from `now` for every message that is left.
    pub fn extend(&mut self, now: Instant) {
        self.for_each_partition(now, |partition, _| partition.extend(now));
        for topic in &mut self.topics {
            topic.extend(now);
        }
    }

    /// `true` if no answer is awaited, and some batch was attempted more than `retries` times after the first.
    #[must_use]
    pub fn is_exhausted(&self, retries: u32) -> bool {
        let partitions = || self.topics.iter().flat_map(|topic| &topic.partitions);
        partitions().any(|it| it.is_exhausted(retries)) && !partitions().any(Partition::is_in_flight)
    }

    /// Gives every unfinished message the fate [`DeliveryErrorKind::ShutDown`], and closes the connections.
    pub fn abandon(&mut self, now: Instant) {
        self.cluster.close_all();
        for topic in TopicIndex::below(self.topics.len()) {
            for partition in PartitionId::below(self.topics[topic.get()].partitions.len()) {
                if self.topics[topic.get()].partitions[partition.get()].is_idle() {
                    continue;
                }
                let id = TopicPartition { topic, partition };
                let (own, way) = self.causes_of(Destination::Partition(id));
                self.with_partition(id, now, |partition, out| {
                    partition.unsend();
                    let last = own.or_else(|| partition.last_error().cloned()).or(way);
                    partition.fail_all(&Arc::new(DeliveryErrorKind::ShutDown { last }), out);
                });
            }
            let (own, way) = self.causes_of(Destination::Topic(topic));
            self.fail_parked(topic, &Arc::new(DeliveryErrorKind::ShutDown { last: own.or(way) }));
        }
    }

    /// Fails every message, whatever its state.
    fn fail_everything(&mut self, why: &Arc<DeliveryErrorKind>, now: Instant) {
        self.for_each_partition(now, |partition, out| partition.fail_all(why, out));
        for topic in TopicIndex::below(self.topics.len()) {
            self.fail_parked(topic, why);
        }
    }

    /// Stops the producer for good.
    fn fail_for_good(&mut self, cause: DeliveryErrorKind, advice: &'static str, now: Instant) {
        log::error!("the producer cannot go on: {cause}; {advice}");
        let fatal = Arc::new(FatalError { cause, advice });
        let why = Arc::new(DeliveryErrorKind::Fatal(Arc::clone(&fatal)));
        self.fatal = Some(fatal);
        self.fail_everything(&why, now);
    }

    /// Acts on every partition that has messages.
    fn for_each_partition(&mut self, now: Instant, mut act: impl FnMut(&mut Partition, &mut Departures)) {
        for topic in TopicIndex::below(self.topics.len()) {
            for partition in PartitionId::below(self.topics[topic.get()].partitions.len()) {
                if !self.topics[topic.get()].partitions[partition.get()].is_idle() {
                    self.with_partition(TopicPartition { topic, partition }, now, &mut act);
                }
            }
        }
    }

    /// Acts on a partition, and does all that follows from that. `None` if there is no such partition.
    fn with_partition<R>(
        &mut self,
        id: TopicPartition,
        now: Instant,
        act: impl FnOnce(&mut Partition, &mut Departures) -> R,
    ) -> Option<R> {
        let partition = self.topics.get_mut(id.topic.get())?.partition(id.partition)?;
        let result = act(partition, &mut self.departures);
        self.reschedule(id, now);
        Some(result)
    }

    /// Frees the places of what has left a partition, and turns the settled messages into fates.
    fn settle(&mut self) {
        self.send_queue.free(std::mem::take(&mut self.departures.freed));
        // They are of one partition.
        let mut delivered = None;
        while let Some(settled) = self.departures.settled.pop_front() {
            if let (Ok(_), Destination::Partition(id)) = (&settled.outcome, settled.to) {
                delivered = Some(id);
            }
            self.released.messages += settled.queued.messages;
            self.released.bytes += settled.queued.bytes;
            let fate = fate_of(&self.topics, settled);
            let (count, held) = (fate.count(), fate.held());
            // Before the accounts: if they are wrong, the fate is not lost.
            self.fates.push_back(fate);
            self.unfinished -= count;
            if self.callbacks {
                // Held until its callback has returned; the amount that it held before was freed when it left its
                // partition.
                self.send_queue.hold(held);
            }
        }
        if let Some(id) = delivered {
            self.end_causes_of(id);
        }
    }

    /// Looks at a partition whose alarm went off.
    fn visit(&mut self, id: TopicPartition, now: Instant) {
        let after = self.config.delivery_timeout;
        // Only the errors in its own way: others may be delivered all the time, or fail for other reasons.
        let (own, way) = self.causes_of(Destination::Partition(id));
        let why = |error: Option<&Arc<DeliveryErrorKind>>| {
            Arc::new(DeliveryErrorKind::Timeout { after, last: own.as_ref().or(error).or(way.as_ref()).cloned() })
        };
        self.with_partition(id, now, |partition, out| {
            partition.alarm = None;
            partition.end_pause(now);
            partition.expire(now, why, out);
        });
    }

    /// Brings all that depends on a partition up to date, after anything about it has changed: its epoch, its place in
    /// the list of partitions that have something to send, its alarm, the fates of what has left it, and what callers
    /// know of its topic.
    fn reschedule(&mut self, id: TopicPartition, now: Instant) {
        let Some(partition) = self.topics.get_mut(id.topic.get()).and_then(|topic| topic.partition(id.partition))
        else {
            return;
        };
        if partition.needs_epoch(&mut self.departures) {
            let epoch = self.identity.after(partition.epoch());
            partition.adopt(epoch, &mut self.departures);
        }
        let sends = partition.pick(now).is_some();
        if sends && partition.leader.node.is_none() {
            self.cluster.want_metadata();
        }
        let leader = partition.leader.node.filter(|_| sends);
        self.send_queue.list(id, leader, &mut partition.place);
        if let Some(moment) = partition.next_alarm().moment() {
            self.alarms.set(&mut partition.alarm, moment, Destination::Partition(id));
        }
        let (fails, left) = (partition.keeps_failing().is_some(), !self.departures.is_empty());
        self.settle();
        if fails || (left && self.topics[id.topic.get()].held_up.is_some()) {
            self.tell_held_up(id.topic);
        }
    }
}

/// The APIs that a broker must have.
const NEEDED: &[Api] = &[Api::Metadata, Api::Produce, Api::InitProducerId];
const NEEDED_WITHOUT_ID: &[Api] = &[Api::Metadata, Api::Produce];

fn fate_of(topics: &[TopicState], settled: Settled) -> BatchFate {
    let name = topics[settled.to.topic().get()].name.clone();
    BatchFate::new(name, settled.to.partition(), settled.records, settled.extras, settled.outcome)
}

//! The places of topics and their leaders: takes in the topics of metadata. The `cluster` asks for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::leadership::Leadership;
use super::partition::{Departures, Partition, PartitionRules};
use super::verdict::TopicVerdict;
use super::{PartitionCount, ProducerEngine, TopicCause};
use crate::deadline::Deadline;
use crate::engine::cluster::causes::{LogPolicy, Subject};
use crate::engine::cluster::link::Peer;
use crate::error::{BrokerError, ConnectionErrorKind, DeliveryErrorKind, ErrorCode, Persistence};
use crate::ids::{Destination, PartitionId, TopicIndex, TopicPartition};
use crate::message::Topic;
use crate::wire::Api;
use crate::wire::api::metadata::{PartitionMetadata, TopicMetadata};

/// Without topic ids nobody can tell a stale answer from one about a topic that was made anew; after this many such
/// answers an older epoch, or a smaller number of partitions, is believed.
const STALE_ANSWERS: u32 = 5;

/// No topic has more partitions: a topic with more is not believed, because each of them takes memory.
const MOST_PARTITIONS: usize = 100_000;

/// The time for which a caller's request to know a topic keeps the engine asking; the driver repeats it.
const ASKED_FOR: Duration = Duration::from_secs(5);

impl ProducerEngine {
    /// Makes the engine fetch metadata, even if it needs none.
    #[cfg(any(test, feature = "_internal"))]
    pub fn ask_for_metadata(&mut self) {
        self.cluster.ask_for_metadata();
    }

    /// The number of partitions of the topic; `None` while it is not known. A call makes the engine find out, for some
    /// seconds.
    pub fn partition_count(&mut self, topic: TopicIndex, now: Instant) -> Option<i32> {
        let state = self.topics.get_mut(topic.get())?;
        if state.is_known() {
            return Some(state.partitions.len() as i32);
        }
        if state.asked_until.is_none_or(|until| until <= now) {
            self.cluster.want_metadata();
        }
        state.asked_until = now.checked_add(ASKED_FOR);
        None
    }

    /// Takes in the topics of a broker's answer.
    pub(super) fn take_topics(&mut self, peer: Peer, topics: &[TopicMetadata], now: Instant) {
        for topic in topics {
            let index = self.by_name.get(&*topic.name).or_else(|| self.by_id.get(&topic.id?)).copied();
            if let Some(index) = index {
                self.take_topic(peer, index, topic, now);
            }
        }
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.took_topics(&waiting, now);
    }

    /// Looks at a topic whose alarm went off: fails the messages that have waited too long for its metadata.
    pub(super) fn visit_topic(&mut self, index: TopicIndex, now: Instant) {
        let (timeout, grace) = (self.config.delivery_timeout, self.config.unknown_topic_grace);
        let Some(topic) = self.topics.get_mut(index.get()) else { return };
        topic.alarm = None;
        if topic.missing_since.is_some_and(|since| Deadline::after(since, grace).passed(now)) {
            let name = topic.name.clone();
            if topic.has_messages() {
                log::warn!("topic {name} does not exist; its messages fail after {grace:?}");
            }
            let why = Arc::new(DeliveryErrorKind::UnknownTopic { topic: name, waited: grace });
            self.fail_parked(index, &why);
            self.fail_topic(index, &why, now);
        }
        let topic = &mut self.topics[index.get()];
        let late = topic.parked.iter().take_while(|(_, due)| Deadline::after(*due, timeout).passed(now)).count();
        if late > 0 {
            let (own, way) = self.causes_of(Destination::Topic(index));
            let why = Arc::new(DeliveryErrorKind::Timeout { after: timeout, last: own.or(way) });
            self.fail_oldest_parked(index, late, &why);
        }
        self.set_topic_alarm(index, now);
    }

    /// Sets the alarm of a topic whose messages wait for metadata.
    pub(super) fn set_topic_alarm(&mut self, index: TopicIndex, now: Instant) {
        let topic = &mut self.topics[index.get()];
        let mut next = Deadline::NEVER;
        if let Some(since) = topic.missing_since {
            next = next.min(Deadline::after(since, self.config.unknown_topic_grace));
        }
        if let Some((_, due)) = topic.parked.front() {
            next = next.min(Deadline::after(*due, self.config.delivery_timeout));
        }
        if let Some(moment) = next.moment() {
            // Never for the past again: all that was due has just been judged.
            let moment = moment.max(now + Duration::from_millis(1));
            self.alarms.set(&mut topic.alarm, moment, Destination::Topic(index));
        }
    }

    fn take_topic(&mut self, peer: Peer, index: TopicIndex, answer: &TopicMetadata, now: Instant) {
        let state = &mut self.topics[index.get()];
        match TopicVerdict::of(answer.error) {
            TopicVerdict::Known if answer.partitions.len() > MOST_PARTITIONS => {
                let (name, count) = (&state.name, answer.partitions.len());
                let what = format!("it gives {name} {count} partitions, and no topic has more than {MOST_PARTITIONS}");
                let kind = ConnectionErrorKind::BadResponse { api: Api::Metadata.name(), what };
                let why = self.cluster.connection_error(peer, kind);
                self.topic_waits(index, why, now, LogPolicy::AtOnce);
            }
            TopicVerdict::Known if !answer.partitions.is_empty() => self.take_partitions(peer, index, answer, now),
            TopicVerdict::Known | TopicVerdict::Missing => {
                let waited_for = state.has_messages();
                state.missing_since = waited_for.then(|| state.missing_since.unwrap_or(now));
                if waited_for || state.is_waiting(now) {
                    let before = state.last_error.take();
                    let why = before.filter(|it| matches!(**it, DeliveryErrorKind::UnknownTopic { .. }));
                    let (topic, waited) = (&state.name, Duration::ZERO);
                    let missing = || Arc::new(DeliveryErrorKind::UnknownTopic { topic: topic.clone(), waited });
                    let why = why.unwrap_or_else(missing);
                    self.topic_waits(index, why, now, LogPolicy::IfItLasts);
                }
                self.set_topic_alarm(index, now);
            }
            TopicVerdict::Coming => {
                state.missing_since = None;
                if state.has_messages() || state.is_waiting(now) {
                    let topic = state.name.clone();
                    let why = self.metadata_error(peer, answer.error, &topic);
                    self.topic_waits(index, why, now, LogPolicy::IfItLasts);
                }
            }
            verdict @ (TopicVerdict::Fail | TopicVerdict::Wait) => {
                let topic = state.name.clone();
                let why = self.metadata_error(peer, answer.error, &topic);
                let state = &mut self.topics[index.get()];
                if !state.has_messages() && !state.is_waiting(now) {
                    log::debug!("{why}");
                    return;
                }
                self.topic_waits(index, Arc::clone(&why), now, LogPolicy::AtOnce);
                if verdict == TopicVerdict::Fail {
                    self.fail_parked(index, &why);
                }
            }
        }
    }

    /// Nothing can be sent to a topic because of this.
    fn topic_waits(&mut self, index: TopicIndex, why: Arc<DeliveryErrorKind>, now: Instant, tell: LogPolicy) {
        self.topics[index.get()].last_error = Some(Arc::clone(&why));
        self.cluster.note(Subject::Topic(index), why, now, tell);
        self.tell_held_up(index);
    }

    /// Tells callers if messages can be sent to the topic.
    pub(super) fn tell_held_up(&mut self, index: TopicIndex) {
        let topic = &mut self.topics[index.get()];
        let why = topic.cause().cloned();
        let is_news = why.as_ref().map(Arc::as_ptr) != topic.held_up.as_ref().map(Arc::as_ptr);
        // The same reason once more says that none of its messages is left, so that the next one may find out.
        if is_news || (why.is_some() && !topic.has_messages()) {
            topic.held_up.clone_from(&why);
            self.held_up.retain(|told| told.topic != index);
            self.held_up.push(TopicCause { topic: index, cause: why });
        }
    }

    fn take_partitions(&mut self, peer: Peer, index: TopicIndex, answer: &TopicMetadata, now: Instant) {
        // Numbers have no gaps in Kafka and come once; an answer with a gap is believed up to it, one that repeats
        // itself is believed the first time.
        let mut found: Vec<&PartitionMetadata> = answer.partitions.iter().collect();
        found.sort_by_key(|partition| partition.index);
        found.dedup_by_key(|partition| partition.index);
        let count = (0i32..).zip(&found).take_while(|(number, partition)| partition.index == *number).count();
        let state = &mut self.topics[index.get()];
        let before = state.partitions.len();
        let another = matches!((state.id, answer.id), (Some(old), Some(new)) if old != new);
        // No topic loses partitions, so without ids this tells that it was made anew.
        let shrunk = answer.id.is_none() && count == found.len() && count < before;
        if std::mem::take(&mut state.replaced) || another || (shrunk && state.stale >= STALE_ANSWERS) {
            self.recreate(index, answer.id, count, now);
        }
        let topic = &mut self.topics[index.get()];
        let rules = PartitionRules { max_batch_bytes: topic.size.most(), ..self.rules };
        (topic.missing_since, topic.asked_until, topic.last_error) = (None, None, None);
        topic.used = false;
        if let Some(id) = answer.id {
            topic.id = Some(id);
            self.by_id.insert(id, index);
        }
        while topic.partitions.len() < count {
            let partition = PartitionId(topic.partitions.len() as i32);
            topic.partitions.push(Partition::new(rules, TopicPartition { topic: index, partition }));
        }
        let mut stale = shrunk && topic.partitions.len() > count;
        for (partition, answer) in topic.partitions.iter_mut().zip(&found[..count]) {
            let told = Leadership::told(answer.leader, answer.leader_epoch);
            let older = told.epoch.is_some() && told.epoch < partition.leader.epoch;
            stale |= older;
            if older && (topic.id.is_some() || topic.stale < STALE_ANSWERS) {
                continue;
            }
            let leads = TopicVerdict::has_leader(answer.error);
            partition.lead_by(Leadership { node: told.node.filter(|_| leads), ..told });
            let waits = !partition.is_idle() || !topic.parked.is_empty();
            if partition.leader.node.is_none() && waits && partition.no_leader.is_none() {
                let code = if answer.error == ErrorCode::NONE { ErrorCode::LEADER_NOT_AVAILABLE } else { answer.error };
                let error = self.cluster.broker_error(peer, Api::Metadata, code);
                let error = BrokerError { topic: Some(topic.name.clone()), partition: Some(answer.index), ..error };
                partition.no_leader = Some(Arc::new(DeliveryErrorKind::Broker(error)));
            }
        }
        topic.stale = if stale && topic.id.is_none() { topic.stale + 1 } else { 0 };
        let led = topic.partitions.iter().filter(|partition| partition.leader.node.is_some());
        topic.available = led.map(|partition| partition.id.partition).collect();
        let count = topic.partitions.len();
        self.note_leaderless(index, now);
        if before == 0 {
            // Callers may have learned more from an engine before this one.
            self.held_up.push(TopicCause { topic: index, cause: self.topics[index.get()].held_up.clone() });
        }
        self.tell_held_up(index);
        if count != before {
            self.tell_count(index);
        }
        for partition in PartitionId::below(count) {
            self.reschedule(TopicPartition { topic: index, partition }, now);
        }
        if before == 0 {
            self.unpark(index, now);
        }
    }

    /// The partitions without a leader that messages wait for have a cause each, and together one line in the log.
    fn note_leaderless(&mut self, index: TopicIndex, now: Instant) {
        let partitions = self.topics[index.get()].partitions.iter();
        let leaderless: Vec<(TopicPartition, Arc<DeliveryErrorKind>)> = partitions
            .filter(|partition| !partition.is_idle())
            .filter_map(|partition| Some((partition.id, Arc::clone(partition.no_leader.as_ref()?))))
            .collect();
        for (at, (id, why)) in leaderless.into_iter().enumerate() {
            let tell = if at == 0 { LogPolicy::IfItLasts } else { LogPolicy::Never };
            self.cluster.note(Subject::Leader(id), why, now, tell);
        }
    }

    fn metadata_error(&self, peer: Peer, code: ErrorCode, topic: &Topic) -> Arc<DeliveryErrorKind> {
        let error = self.cluster.broker_error(peer, Api::Metadata, code);
        Arc::new(DeliveryErrorKind::Broker(BrokerError { topic: Some(topic.clone()), ..error }))
    }

    /// The topic was deleted and made anew, perhaps with fewer partitions.
    ///
    /// A message that waits for a partition that is gone fails, even if the caller did not choose the partition: a
    /// batch does not note who chose it, and messages that got another partition would come behind later ones of the
    /// same thread. They come back without a partition, so that they can be produced again.
    fn recreate(&mut self, index: TopicIndex, id: Option<[u8; 16]>, count: usize, now: Instant) {
        self.rename(index, id);
        let topic = &mut self.topics[index.get()];
        let (name, before) = (topic.name.clone(), topic.partitions.len());
        topic.stamps = false;
        if before > 0 {
            log::warn!("topic {name} was deleted and made anew; what is not in the old one goes to the new one");
        }
        if count < before {
            self.identity.leave_epoch();
        }
        let why = Arc::new(DeliveryErrorKind::TopicRecreated { topic: name.clone() });
        for partition in PartitionId::below(before) {
            let id = TopicPartition { topic: index, partition };
            self.with_partition(id, now, |partition, out| {
                partition.recreated(&why);
                partition.lead_by(Leadership::default());
                if id.partition.get() >= count {
                    let (topic, count) = (name.clone(), count as i32);
                    let gone = DeliveryErrorKind::UnknownPartition { topic, partition: id.partition.0, count };
                    close(partition, &Arc::new(gone), &why, out);
                }
            });
        }
        self.topics[index.get()].partitions.truncate(count);
    }

    /// A topic has another id. Answers that are under way speak of the one before.
    fn rename(&mut self, index: TopicIndex, id: Option<[u8; 16]>) {
        let topic = &mut self.topics[index.get()];
        if !topic.partitions.iter().any(Partition::is_in_flight) {
            for former in topic.former_ids.drain(..).filter(|former| topic.id != Some(*former)) {
                self.by_id.remove(&former);
            }
        }
        topic.former_ids.retain(|former| Some(*former) != id);
        topic.former_ids.extend(topic.id.take().filter(|old| Some(*old) != id));
    }

    /// Another cluster is where the one before was, with other topics under the same names, and with producer ids of
    /// its own: the one that this producer has may be given to another.
    pub(super) fn meet_cluster(&mut self, now: Instant) {
        self.identity.forget();
        for index in TopicIndex::below(self.topics.len()) {
            self.topics[index.get()].replaced = true;
            for partition in PartitionId::below(self.topics[index.get()].partitions.len()) {
                let id = TopicPartition { topic: index, partition };
                self.with_partition(id, now, |partition, _| partition.lead_by(Leadership::default()));
            }
        }
    }

    /// The topic is gone: fails the messages of its partitions, and forgets the partitions.
    fn fail_topic(&mut self, index: TopicIndex, why: &Arc<DeliveryErrorKind>, now: Instant) {
        for partition in PartitionId::below(self.topics[index.get()].partitions.len()) {
            self.with_partition(TopicPartition { topic: index, partition }, now, |partition, out| {
                partition.fail_all(why, out);
            });
        }
        let topic = &mut self.topics[index.get()];
        topic.partitions.clear();
        topic.available.clear();
        topic.missing_since = None;
        self.tell_count(index);
        self.identity.leave_epoch();
    }

    /// Notes the number of partitions of a topic for callers. Only the last number of each topic is kept until it is
    /// taken.
    fn tell_count(&mut self, index: TopicIndex) {
        self.counts.retain(|told| told.topic != index);
        let partitions = self.topics[index.get()].partitions.len() as u32;
        self.counts.push(PartitionCount { topic: index, partitions });
    }
}

/// Fails the messages of a partition that is gone: with `anew` those that may be in the log, which is gone as well.
fn close(
    partition: &mut Partition,
    gone: &Arc<DeliveryErrorKind>,
    anew: &Arc<DeliveryErrorKind>,
    out: &mut Departures,
) {
    partition.fail_all(gone, out);
    for settled in &mut out.settled {
        settled.to = Destination::Topic(settled.to.topic());
        if let Err((why, Persistence::Possibly)) = &mut settled.outcome {
            *why = Arc::clone(anew);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::config::{BrokerAddress, ClientConfig, ProducerConfig};
    use crate::engine::cluster::MOST_BROKERS;
    use crate::engine::producer::Salvage;
    use crate::ids::NodeId;
    use crate::message::{Message, Timestamp};
    use crate::partitioner::Partitioner;
    use crate::queue::chunk::Chunk;
    use crate::queue::{Limits, Prepared, Queue};
    use crate::wire::api::metadata::{BrokerMetadata, MetadataResponse};

    fn engine() -> ProducerEngine {
        let seed = BrokerAddress { host: "seed".into(), port: 9092 };
        let client = Arc::new(ClientConfig::new(vec![seed]));
        let mut engine = ProducerEngine::new(client, Arc::new(ProducerConfig::default()), 7);
        engine.add_topic(Topic::new("orders").unwrap());
        engine
    }

    fn answer(brokers: i32, partitions: &[(i32, i32)]) -> MetadataResponse {
        let partition =
            |&(index, leader)| PartitionMetadata { error: ErrorCode::NONE, index, leader, leader_epoch: -1 };
        let partitions = partitions.iter().map(partition).collect();
        MetadataResponse {
            throttle: Duration::ZERO,
            error: ErrorCode::NONE,
            brokers: (0..brokers).map(|node| BrokerMetadata { node, host: "b".into(), port: 9092 }).collect(),
            cluster_id: None,
            controller: 0,
            topics: vec![TopicMetadata { error: ErrorCode::NONE, name: "orders".into(), id: None, partitions }],
        }
    }

    /// A bootstrap address gives this answer.
    fn tell(engine: &mut ProducerEngine, answer: MetadataResponse, now: Instant) {
        let (cluster, waiting) = engine.cluster_and_demand();
        cluster.take_metadata(Peer::Seed(0), answer, &waiting, now);
        engine.heed_news(now);
    }

    fn leaders(engine: &ProducerEngine) -> Vec<i32> {
        let nodes = engine.topics[0].partitions.iter().map(|partition| partition.leader.node);
        nodes.map(|node| node.map_or(-1, |node| node.0)).collect()
    }

    #[test]
    fn an_answer_with_gaps_gives_no_partition_the_leader_of_another() {
        let (mut engine, now) = (engine(), crate::engine::test_clock());
        tell(&mut engine, answer(4, &[(0, 1), (1, 2), (2, 3)]), now);
        assert_eq!(leaders(&engine), [1, 2, 3]);
        for gaps in [&[(1, 3), (2, 1)][..], &[(i32::MAX, 0)], &[(-1, 0), (0, 0), (1, 0)], &[(0, 1), (2, 1), (3, 1)]] {
            tell(&mut engine, answer(4, gaps), now);
            assert_eq!(leaders(&engine), [1, 2, 3], "after {gaps:?}");
        }
        tell(&mut engine, answer(4, &[(1, 3), (0, 3), (0, 2)]), now);
        assert_eq!(leaders(&engine)[0], 3, "what comes before the gap is believed");
    }

    #[test]
    fn messages_wait_on_when_the_topic_is_told_without_a_partition() {
        let (mut engine, now) = (engine(), crate::engine::test_clock());
        for ticket in 0..3 {
            let message = Message::new("orders", vec![ticket as u8]);
            engine.append(&mut Chunk::of(ticket, TopicIndex(0), &message, Timestamp::from_millis(0)), now);
        }
        for nothing in [&[][..], &[(1, 1)]] {
            tell(&mut engine, answer(4, nothing), now);
            let alarm = engine.alarms.next_deadline();
            assert!(!engine.topics[0].parked.is_empty() && alarm != Deadline::NEVER, "{nothing:?}");
        }
        tell(&mut engine, answer(4, &[(0, 1)]), now);
        assert!(engine.topics[0].parked.is_empty());
        assert!(engine.topics[0].partitions[0].has_unsent());
        assert_eq!(engine.unfinished(), 3);
    }

    #[test]
    fn what_callers_have_placed_stays_there_and_fails_where_the_partition_is_gone() {
        let now = crate::engine::test_clock();
        for (callers_knew, known_before) in [(2, true), (3, true), (4, true), (2, false), (3, false), (4, false)] {
            let mut engine = engine();
            let learn = |engine: &mut ProducerEngine| {
                tell(engine, answer(4, &[(0, 1), (1, 2), (2, 3)]), now);
                tell(engine, answer(4, &[(0, 2), (1, 2), (2, 3)]), now);
                let mut told = Vec::new();
                engine.take_counts(&mut told);
                assert_eq!(told, [PartitionCount { topic: TopicIndex(0), partitions: 3 }], "once");
            };
            if known_before {
                learn(&mut engine);
            }
            let (messages, bytes, batch_bytes) = (1000, 1_000_000, 1_000_000);
            let (threshold, interval) = (0, Duration::ZERO);
            let limits = Limits { messages, bytes, threshold, interval, batch_bytes };
            let (mut queue, sealed) = Queue::new(limits, &Partitioner::crc32());
            queue.start();
            queue.topic("orders").unwrap();
            queue.tell_partitions(TopicIndex(0), callers_knew);
            for key in 0..100_u8 {
                let message = Message::new("orders", "v").with_key(vec![key]);
                let message = Prepared::new(&message, 1000, Timestamp::from_millis(0)).unwrap();
                queue.offer(&message, &mut None, None, || Some(now)).unwrap();
            }
            let mut chunks = VecDeque::new();
            assert!(!queue.deliver() && queue.take_due(&sealed, &mut chunks));
            assert_eq!(chunks.len(), callers_knew as usize);
            chunks.iter_mut().for_each(|chunk| engine.append(chunk, now));
            if !known_before {
                learn(&mut engine);
            }
            let (mut placed, mut failed) = (0, 0);
            while let Some(fate) = engine.next_fate() {
                for error in fate.into_errors() {
                    assert!(matches!(error.kind(), DeliveryErrorKind::UnknownPartition { partition: 3, count: 3, .. }));
                    assert_eq!(error.message().partition(), None, "so it can be produced again");
                    failed += 1;
                }
            }
            let mut saved = Salvage::default();
            engine.salvage("the test looks", &mut saved);
            for mut chunk in saved.take_chunks() {
                for entry in chunk.entries() {
                    let key = crate::record::tail::key(entry.tail).unwrap();
                    assert_eq!(entry.partition.map(|it| it.0), Partitioner::crc32().keyed(key, callers_knew as i32));
                    placed += 1;
                }
            }
            assert_eq!((placed + failed, failed > 0), (100, callers_knew == 4));
        }
    }

    #[test]
    fn an_older_epoch_is_believed_after_five_answers_and_only_where_topics_have_no_ids() {
        let now = crate::engine::test_clock();
        for id in [None, Some([7; 16])] {
            let mut engine = engine();
            let mut tell = |leader, epoch| {
                let mut answer = answer(4, &[(0, leader)]);
                (answer.topics[0].id, answer.topics[0].partitions[0].leader_epoch) = (id, epoch);
                tell(&mut engine, answer, now);
                leaders(&engine)[0]
            };
            assert_eq!(tell(1, 5), 1);
            for _ in 0..5 {
                assert_eq!(tell(2, 0), 1, "it may come from a broker that lags behind");
            }
            assert_eq!(tell(1, 5), 1, "and so the count begins anew");
            for _ in 0..5 {
                assert_eq!(tell(2, 0), 1);
            }
            // A topic that was made anew begins at epoch 0 again; with ids it would have another.
            assert_eq!(tell(2, 0), if id.is_none() { 2 } else { 1 });
            assert_eq!(tell(3, 1), if id.is_none() { 3 } else { 1 });
        }
    }

    #[test]
    fn an_answer_with_more_brokers_than_any_cluster_has_is_not_believed_and_the_next_one_is() {
        let (mut engine, now) = (engine(), crate::engine::test_clock());
        let known = |engine: &ProducerEngine, node| engine.cluster.link(Peer::Node(NodeId(node))).is_some();
        tell(&mut engine, answer(2, &[(0, 1)]), now);
        tell(&mut engine, answer(MOST_BROKERS as i32 + 1, &[(0, 2)]), now);
        assert_eq!((leaders(&engine), known(&engine, 1), known(&engine, 2)), (vec![1], true, false));
        let error = engine.last_error().expect("why").to_string();
        assert!(error.contains("it names 10001 brokers"), "{error}");
        tell(&mut engine, answer(MOST_BROKERS as i32, &[(0, 2)]), now);
        assert_eq!((leaders(&engine), known(&engine, MOST_BROKERS as i32 - 1)), (vec![2], true));
        assert!(engine.last_error().is_none());
    }

    #[test]
    fn answers_that_name_other_brokers_each_time_make_no_more_links_than_a_cluster_has() {
        let (mut engine, now) = (engine(), crate::engine::test_clock());
        let known = |engine: &ProducerEngine| {
            (0..20_000).filter(|node| engine.cluster.link(Peer::Node(NodeId(*node))).is_some()).count()
        };
        for first in (0..20_000).step_by(1000) {
            let mut brokers = answer(1000, &[]).brokers;
            brokers.iter_mut().for_each(|broker| broker.node += first);
            let (cluster, waiting) = engine.cluster_and_demand();
            cluster.take_brokers(Peer::Seed(0), &brokers, &waiting, now);
        }
        assert_eq!(known(&engine), MOST_BROKERS);
        tell(&mut engine, answer(3, &[(0, 1)]), now);
        assert_eq!(known(&engine), 3, "metadata ends it");
    }

    #[test]
    fn a_topic_with_more_partitions_than_any_has_is_not_believed_and_the_next_answer_is() {
        let (mut engine, now) = (engine(), crate::engine::test_clock());
        let many = |count| (0..count).map(|number| (number, 1)).collect::<Vec<_>>();
        assert_eq!(engine.partition_count(TopicIndex(0), now), None);
        tell(&mut engine, answer(2, &many(MOST_PARTITIONS as i32 + 1)), now);
        assert!(leaders(&engine).is_empty());
        let error = engine.cause_of_topic(TopicIndex(0)).expect("why").to_string();
        assert!(error.contains("it gives orders 100001 partitions"), "{error}");
        tell(&mut engine, answer(2, &many(3)), now);
        assert_eq!((leaders(&engine).len(), engine.cause_of_topic(TopicIndex(0)).is_some()), (3, false));
        tell(&mut engine, answer(2, &many(MOST_PARTITIONS as i32)), now);
        assert_eq!(leaders(&engine).len(), MOST_PARTITIONS);
    }
}

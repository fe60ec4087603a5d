//! Where things are: when to ask for metadata, and what an answer changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::partition::Partition;
use super::{ProducerEngine, set_alarm};
use crate::config::{BrokerAddress, ClientConfig, ProducerConfig};
use crate::engine::connection::in_flight::Purpose;
use crate::engine::connection::{Link, Peer};
use crate::engine::deadline::Deadline;
use crate::error::{BrokerError, ConnectionErrorKind, DeliveryErrorKind};
use crate::message::Topic;
use crate::wire::Api;
use crate::wire::error_code::ErrorCode;
use crate::wire::frame::ConnId;
use crate::wire::metadata::{self, BrokerMetadata, MetadataResponse, PartitionMetadata, TopicMetadata};

/// When to ask for metadata.
#[derive(Debug)]
pub struct Refresh {
    wanted: bool,
    /// Whether a caller wants it, although no message does.
    asked_for: bool,
    asked: Option<ConnId>,
    last_good: Option<Instant>,
    not_before: Deadline,
    /// Answers in a row that did not have what was wanted.
    failures: u32,
    max_age: Duration,
    min_age: Duration,
    grace: Duration,
    cluster: Option<Cluster>,
}

/// What the last metadata said of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The id that the cluster gave itself.
    pub id: Option<Box<str>>,
    /// Node id of the controller, or -1.
    pub controller: i32,
    /// The brokers: node id and address.
    pub brokers: Vec<(i32, BrokerAddress)>,
}

/// For how long a caller's wish to know a topic keeps the engine asking; the driver repeats it.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// Without topic ids nobody can tell a stale epoch from that of a topic that was made anew; after so many answers
/// the epoch is believed.
const STALE_ANSWERS: u32 = 5;

impl Refresh {
    pub(super) fn new(client: &ClientConfig, config: &ProducerConfig) -> Self {
        Self {
            wanted: false,
            asked_for: false,
            asked: None,
            last_good: None,
            not_before: Deadline::NEVER,
            failures: 0,
            max_age: client.metadata_max_age,
            min_age: client.metadata_min_age,
            grace: config.unknown_topic_grace,
            cluster: None,
        }
    }

    /// Asks for metadata as soon as that is allowed.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted && self.asked.is_none()
    }

    fn is_pausing(&self, now: Instant) -> bool {
        self.not_before != Deadline::NEVER && !self.not_before.passed(now)
    }
}

impl ProducerEngine {
    /// Makes the engine fetch metadata, whether or not it needs any.
    pub fn ask_for_metadata(&mut self) {
        self.refresh.asked_for = true;
        self.refresh.want();
    }

    /// What the last metadata said of the cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.refresh.cluster.as_ref()
    }

    /// How many partitions the topic has; `None` while that is not known. Asking makes the engine find out, for
    /// some seconds.
    pub fn partition_count(&mut self, topic: u32, now: Instant) -> Option<i32> {
        let state = self.topics.get_mut(topic as usize)?;
        if state.is_known() {
            return Some(state.partitions.len() as i32);
        }
        if state.asked_until.is_none_or(|until| until <= now) {
            self.refresh.want();
        }
        state.asked_until = now.checked_add(ASKED_FOR);
        None
    }

    /// Sends a request for metadata, if one is wanted and allowed.
    pub(super) fn refresh_metadata(&mut self, now: Instant) {
        let old =
            self.refresh.last_good.is_some_and(|good| now.saturating_duration_since(good) >= self.refresh.max_age);
        if old && self.unfinished > 0 {
            self.refresh.want();
        }
        if !self.refresh.is_wanted() || self.refresh.is_pausing(now) {
            return;
        }
        let idle = self.unfinished == 0 && !self.topics.iter().any(|topic| topic.is_waiting(now));
        if idle && !self.refresh.asked_for {
            // Nothing needs it any more: dead brokers are left alone until something does.
            self.refresh.wanted = false;
            return;
        }
        let Some(peer) = self.any_ready() else { return };
        // Only what something waits for: to ask for a topic may make it, also one that was deleted on purpose.
        let needed = self.topics.iter().filter(|topic| topic.has_messages() || topic.is_waiting(now));
        let names: Vec<Topic> = needed.map(|topic| topic.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(Topic::name).collect();
        let create = self.config.allow_auto_topic_creation;
        let conn = self.request(peer, Api::Metadata, Purpose::Metadata, now, |version, correlation, client| {
            metadata::request(version, correlation, client, &names, create)
        });
        if conn.is_some() {
            self.refresh.wanted = false;
            self.refresh.asked = conn;
            self.refresh.not_before = Deadline::after(now, self.refresh.min_age);
        }
    }

    pub(super) fn refresh_deadline(&self) -> Deadline {
        if self.refresh.is_wanted() {
            // Without a connection it is that which has to be waited for.
            return if self.any_ready().is_some() { self.refresh.not_before } else { Deadline::NEVER };
        }
        match self.refresh.last_good {
            Some(good) if self.unfinished > 0 && self.refresh.asked.is_none() => {
                Deadline::after(good, self.refresh.max_age)
            }
            _ => Deadline::NEVER,
        }
    }

    pub(super) fn metadata_lost(&mut self, conn: ConnId) {
        if self.refresh.asked == Some(conn) {
            self.refresh.asked = None;
            self.refresh.want();
        }
    }

    /// Takes an answer in.
    pub(super) fn metadata_answer(&mut self, peer: Peer, answer: MetadataResponse, now: Instant) {
        self.refresh.asked = None;
        if answer.error != ErrorCode::NONE || answer.brokers.is_empty() {
            // Keep what was good.
            let why = if answer.error == ErrorCode::NONE {
                let what = "it names no brokers".to_owned();
                self.connection_error(peer, ConnectionErrorKind::BadResponse { api: Api::Metadata.name(), what })
            } else {
                Arc::new(metadata_error(peer, answer.error, None))
            };
            self.note_error(why, now);
            return self.ask_again(now);
        }
        self.take_brokers(peer, &answer, now);
        let mut missing: Vec<bool> = self.topics.iter().map(|_| true).collect();
        for topic in &answer.topics {
            let index = self.by_name.get(&*topic.name).or_else(|| self.by_id.get(&topic.id?)).copied();
            let Some(index) = index else { continue };
            missing[index as usize] = false;
            self.take_topic(peer, index, topic, now);
        }
        for (index, missing) in (0u32..).zip(missing) {
            // A topic that came up after the question was asked is simply not in the answer.
            if missing && self.topics[index as usize].is_waiting(now) {
                self.refresh.want();
            }
        }
        self.refresh.last_good = Some(now);
        self.refresh.asked_for = false;
        if self.wants_more(now) {
            self.ask_again(now);
        } else {
            self.refresh.failures = 0;
        }
    }

    /// Looks at a topic whose alarm went off: fails what has waited too long for its metadata.
    pub(super) fn visit_topic(&mut self, index: u32, now: Instant) {
        let (timeout, grace) = (self.config.delivery_timeout, self.refresh.grace);
        let Some(topic) = self.topics.get_mut(index as usize) else { return };
        let last = topic.last_error.clone().or(self.last_error.clone());
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
        let topic = &mut self.topics[index as usize];
        let late = topic.parked.iter().take_while(|(_, due)| Deadline::after(*due, timeout).passed(now)).count();
        if late > 0 {
            let why = Arc::new(DeliveryErrorKind::Timeout { after: timeout, last });
            self.fail_oldest_parked(index, late, &why);
        }
        self.set_topic_alarm(index, now);
    }

    /// Sets the alarm of a topic whose messages wait for metadata.
    pub(super) fn set_topic_alarm(&mut self, index: u32, now: Instant) {
        let topic = &mut self.topics[index as usize];
        let mut next = Deadline::NEVER;
        if let Some(since) = topic.missing_since {
            next = next.min(Deadline::after(since, self.refresh.grace));
        }
        if let Some((_, due)) = topic.parked.front() {
            next = next.min(Deadline::after(*due, self.config.delivery_timeout));
        }
        if let Some(moment) = next.moment() {
            // Never for the past again: what was due has just been judged.
            let moment = moment.max(now + Duration::from_millis(1));
            set_alarm(&mut self.alarms, &mut topic.alarm, (moment, index, -1));
        }
    }

    /// Whether something is still missing that another answer may have.
    fn wants_more(&self, now: Instant) -> bool {
        self.refresh.wanted
            || self.topics.iter().any(|topic| {
                topic.is_waiting(now)
                    || (topic.missing_since.is_some() && topic.has_messages())
                    || topic.partitions.iter().any(|partition| partition.leader < 0 && !partition.is_idle())
            })
    }

    fn ask_again(&mut self, now: Instant) {
        self.refresh.failures = self.refresh.failures.saturating_add(1);
        let pause = self.retry.pause(self.refresh.failures, self.random.draw()).max(self.refresh.min_age);
        self.refresh.not_before = Deadline::after(now, pause);
        self.refresh.want();
    }

    fn take_brokers(&mut self, peer: Peer, answer: &MetadataResponse, now: Instant) {
        let listed: Vec<(i32, BrokerAddress)> = answer.brokers.iter().map(address_of).collect();
        for (node, address) in &listed {
            self.note_broker(*node, address, now);
        }
        let unlisted: Vec<Peer> = self
            .brokers
            .links
            .iter_mut()
            .filter_map(|(peer, link)| {
                let Peer::Node(node) = peer else { return None };
                link.listed = listed.iter().any(|(listed, _)| listed == node);
                (!link.listed && link.is_down()).then_some(*peer)
            })
            .collect();
        for peer in unlisted {
            self.brokers.links.remove(&peer);
        }
        if let Peer::Seed(_) = peer {
            self.leave_seed(peer, &listed);
        }
        self.refresh.cluster =
            Some(Cluster { id: answer.cluster_id.clone(), controller: answer.controller, brokers: listed });
    }

    /// Notes where a broker is.
    pub(super) fn note_broker(&mut self, node: i32, address: &BrokerAddress, now: Instant) {
        let peer = Peer::Node(node);
        if self.brokers.links.get(&peer).is_some_and(|link| link.address != *address) {
            log::info!("broker {node} is at {address} now");
            self.fail_link(peer, ConnectionErrorKind::Closed, now);
            self.brokers.links.remove(&peer);
        }
        self.brokers.links.entry(peer).or_insert_with(|| Link::new(address.clone()));
    }

    /// A bootstrap connection has done its work: the broker behind it takes it over, or it is closed.
    fn leave_seed(&mut self, seed: Peer, listed: &[(i32, BrokerAddress)]) {
        let Some(mut link) = self.brokers.links.remove(&seed) else { return };
        let broker = listed.iter().find(|(_, address)| *address == link.address).map(|(node, _)| Peer::Node(*node));
        let free = broker.filter(|peer| self.brokers.links.get(peer).is_some_and(Link::is_down));
        if let (Some(peer), Some(conn)) = (free, link.conn()) {
            if let Some(node) = self.brokers.links.get_mut(&peer) {
                node.adopt(&mut link);
                self.brokers.rename(conn, peer);
            }
        }
        let done = link.live().is_some_and(|live| live.in_flight.is_empty());
        self.brokers.links.insert(seed, link);
        if done {
            self.hang_up(seed);
        }
    }

    fn take_topic(&mut self, peer: Peer, index: u32, answer: &TopicMetadata, now: Instant) {
        match answer.error {
            ErrorCode::NONE if !answer.partitions.is_empty() => self.take_partitions(peer, index, answer, now),
            ErrorCode::NONE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::LEADER_NOT_AVAILABLE => {
                let topic = &mut self.topics[index as usize];
                let exists = answer.error == ErrorCode::LEADER_NOT_AVAILABLE;
                if exists || !topic.has_messages() {
                    topic.missing_since = None;
                } else {
                    topic.missing_since.get_or_insert(now);
                    self.set_topic_alarm(index, now);
                }
            }
            error => {
                let name = self.topics[index as usize].name.clone();
                let why = Arc::new(metadata_error(peer, error, Some(name)));
                if !self.topics[index as usize].has_messages() {
                    log::debug!("{why}");
                    return;
                }
                self.topics[index as usize].last_error = Some(Arc::clone(&why));
                self.note_error(Arc::clone(&why), now);
                if matches!(error, ErrorCode::INVALID_TOPIC_EXCEPTION | ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
                    self.fail_parked(index, &why);
                }
            }
        }
    }

    fn take_partitions(&mut self, peer: Peer, index: u32, answer: &TopicMetadata, now: Instant) {
        let was_known = self.topics[index as usize].is_known();
        let recreated = matches!((self.topics[index as usize].id, answer.id), (Some(old), Some(new)) if old != new);
        if recreated {
            self.recreate(index, answer.partitions.len(), now);
        }
        let rules = self.rules;
        let topic = &mut self.topics[index as usize];
        (topic.missing_since, topic.asked_until, topic.last_error) = (None, None, None);
        if let Some(id) = answer.id {
            if let Some(old) = topic.id.replace(id).filter(|old| *old != id) {
                self.by_id.remove(&old);
            }
            self.by_id.insert(id, index);
        }
        // Numbers have no gaps in Kafka; an answer with a gap is believed up to it.
        let mut found: Vec<&PartitionMetadata> = answer.partitions.iter().collect();
        found.sort_unstable_by_key(|partition| partition.index);
        let count = (0i32..).zip(&found).take_while(|(number, partition)| partition.index == *number).count();
        while topic.partitions.len() < count {
            topic.partitions.push(Partition::new(rules));
        }
        let mut stale = false;
        for (partition, answer) in topic.partitions.iter_mut().zip(&found) {
            let older = answer.leader_epoch >= 0 && answer.leader_epoch < partition.leader_epoch;
            let has_leader = answer.leader >= 0 && answer.error == ErrorCode::NONE;
            stale |= older;
            if older && (topic.id.is_some() || topic.stale < STALE_ANSWERS) {
                continue;
            }
            let leader = if has_leader { answer.leader } else { -1 };
            partition.lead_by(leader, answer.leader_epoch);
            if leader < 0 && !partition.is_idle() {
                let code = if answer.error == ErrorCode::NONE { ErrorCode::LEADER_NOT_AVAILABLE } else { answer.error };
                partition.no_leader = Some(Arc::new(no_leader(peer, code, (&topic.name, answer.index))));
            }
        }
        topic.stale = if stale && topic.id.is_none() { topic.stale + 1 } else { 0 };
        topic.available = (0i32..).zip(&topic.partitions).filter(|(_, it)| it.leader >= 0).map(|(at, _)| at).collect();
        for number in 0..topic.partitions.len() as i32 {
            self.touch(index, number, now);
        }
        if !was_known {
            self.unpark(index, now);
        }
    }

    /// The topic was deleted and made anew, perhaps with fewer partitions.
    fn recreate(&mut self, index: u32, count: usize, now: Instant) {
        let name = self.topics[index as usize].name.clone();
        log::warn!("topic {name} was deleted and made anew; what was under way to the old one may be lost");
        let why = Arc::new(DeliveryErrorKind::UnknownTopic { topic: name.clone(), waited: Duration::ZERO });
        for number in 0..self.topics[index as usize].partitions.len() {
            let partition = &mut self.topics[index as usize].partitions[number];
            let mut freed = partition.recreated(&why, &mut self.settled);
            if number >= count {
                let why = Arc::new(DeliveryErrorKind::UnknownPartition {
                    topic: name.clone(),
                    partition: number as i32,
                    count: count as i32,
                });
                freed.add(partition.fail_all(&why, &mut self.settled));
            }
            partition.lead_by(-1, -1);
            self.outbox.free(freed);
            self.settle(index, number as i32);
            self.touch(index, number as i32, now);
        }
        self.topics[index as usize].partitions.truncate(count);
        self.identity.leave_epoch();
    }

    /// The topic is gone: fails what its partitions hold, and forgets them.
    fn fail_topic(&mut self, index: u32, why: &Arc<DeliveryErrorKind>, now: Instant) {
        for number in 0..self.topics[index as usize].partitions.len() {
            let freed = self.topics[index as usize].partitions[number].fail_all(why, &mut self.settled);
            self.outbox.free(freed);
            self.settle(index, number as i32);
            self.touch(index, number as i32, now);
        }
        let topic = &mut self.topics[index as usize];
        topic.partitions.clear();
        topic.available.clear();
        topic.missing_since = None;
        self.identity.leave_epoch();
    }
}

fn address_of(broker: &BrokerMetadata) -> (i32, BrokerAddress) {
    (broker.node, BrokerAddress { host: broker.host.clone(), port: broker.port })
}

fn no_leader(peer: Peer, code: ErrorCode, (topic, partition): (&Topic, i32)) -> DeliveryErrorKind {
    DeliveryErrorKind::Broker(BrokerError {
        node: peer.node(),
        api: Api::Metadata.name(),
        partition: Some((topic.clone(), partition)),
        code: code.0,
        name: code.name(),
        message: None,
    })
}

fn metadata_error(peer: Peer, code: ErrorCode, topic: Option<Topic>) -> DeliveryErrorKind {
    DeliveryErrorKind::Broker(BrokerError {
        node: peer.node(),
        api: Api::Metadata.name(),
        partition: None,
        code: code.0,
        name: code.name(),
        message: topic.map(|topic| format!("topic {topic}").into()),
    })
}

//! The state that the brokers of a cluster share: topics, leaders, faults, ids, and the requests that came.
//!
//! No sockets, no clock, no locks: the time is an argument. `requests` answers from it, and a test changes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use log::Level;

#[cfg(feature = "_internal")]
use super::Fault;
use super::builder::{NewTopic, Settings};
use super::fault::Faults;
use super::frame::RequestHeader;
use super::lines::LogLines;
use super::topic::{Topic, TopicId, TopicKind};
use super::{ClusterBuilder, SeenRequest, StoredMessage};
use crate::message::Timestamp;

/// All brokers of a cluster, with the state that they share.
#[derive(Clone, Debug)]
pub struct ClusterState {
    pub(super) settings: Settings,
    pub(super) brokers: Vec<Broker>,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) faults: Faults,
    next_producer_id: i64,
    /// The number of clusters that were here before.
    pub(super) replaced: u64,
    /// The topics that clients asked for, each with the time at which it is there.
    creating: BTreeMap<String, Timestamp>,
    /// The topics that are there or asked for, by their names in metrics, where `.` is `_`.
    metric_names: HashMap<String, String>,
    /// The names that clients asked for and that cannot be beside others.
    collisions: BTreeSet<String>,
    topics_made: u64,
    requests: VecDeque<SeenRequest>,
    /// The logins on connections that are open.
    #[cfg(feature = "sasl")]
    pub(super) sessions: super::sessions::Sessions,
    /// Grows whenever a fetch that waits should look again.
    pub(super) news: u64,
    /// The lines for the log.
    pub(super) lines: LogLines,
}

/// One broker.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub node: i32,
    /// The host at which clients are told to reach it.
    pub host: String,
    pub port: u16,
    /// The number of its starts, while it is up.
    pub up: Option<u64>,
    starts: u64,
    /// The time from which it has ids for producers, once it was asked for one since it started.
    ids_from: Option<Timestamp>,
}

impl ClusterState {
    /// The cluster that is described, with brokers 1, 2, ... on these ports, all up.
    ///
    /// # Errors
    /// The fault of the description, in words.
    pub fn new(builder: ClusterBuilder, ports: &[u16]) -> Result<Self, String> {
        let ClusterBuilder { brokers, topics, settings, .. } = builder;
        if brokers < 1 || settings.default_partitions < 1 {
            return Err("a cluster needs at least one broker, and topics at least one partition".to_owned());
        }
        let broker = |(node, port): (i32, &u16)| Broker {
            node,
            host: "127.0.0.1".to_owned(),
            port: *port,
            up: Some(1),
            starts: 1,
            ids_from: None,
        };
        let mut state = Self {
            settings,
            brokers: (1..=brokers).zip(ports).map(broker).collect(),
            topics: BTreeMap::new(),
            faults: Faults::default(),
            next_producer_id: FIRST_PRODUCER_ID,
            replaced: 0,
            creating: BTreeMap::new(),
            metric_names: HashMap::new(),
            collisions: BTreeSet::new(),
            topics_made: 0,
            requests: VecDeque::new(),
            #[cfg(feature = "sasl")]
            sessions: super::sessions::Sessions::default(),
            news: 0,
            lines: LogLines::default(),
        };
        for NewTopic { name, partitions, kind } in topics {
            if state.create_topic(&name, partitions, kind).is_none() {
                return Err(format!("topic {name:?} with {partitions} partitions cannot be made"));
            }
        }
        Ok(state)
    }

    pub(super) fn note_request(&mut self, node: i32, header: &RequestHeader, at: Timestamp) {
        if self.requests.len() == REQUESTS_KEPT {
            self.requests.pop_front();
        }
        let RequestHeader { api, version, client_id, .. } = header.clone();
        self.requests.push_back(SeenRequest { api, version, node, client_id, at });
    }

    /// Injects a fault for as long as the state lives.
    #[cfg(feature = "_internal")]
    pub fn inject(&mut self, fault: Fault) {
        self.faults.inject(fault);
    }

    /// Ends all faults.
    #[cfg(feature = "_internal")]
    pub fn heal(&mut self) {
        self.faults = Faults::default();
    }

    /// Another cluster takes the place of this one, at the same addresses: it has its own id, no topics, and gives the
    /// producer ids out again.
    #[cfg(feature = "_internal")]
    pub fn replace(&mut self) {
        self.replaced += 1;
        self.topics.clear();
        self.creating.clear();
        self.metric_names.clear();
        self.next_producer_id = FIRST_PRODUCER_ID;
        self.brokers.iter_mut().for_each(|broker| broker.ids_from = None);
        self.note_news();
    }

    /// The requests that came, the oldest first; the last 10,000.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.requests.iter().cloned().collect()
    }

    /// Lets fetches that wait look again.
    pub(super) fn note_news(&mut self) {
        self.news += 1;
    }
}

/// Topics.
impl ClusterState {
    /// Lets a topic be made that a client asked for, unless its name collides with that of another.
    pub(super) fn begin_topic(&mut self, name: &str, now: Timestamp) {
        let delay = i64::try_from(self.settings.creation_delay.as_millis()).unwrap_or(i64::MAX);
        match self.collision(name) {
            None => {
                let at = Timestamp::from_millis(now.as_millis().saturating_add(delay));
                self.metric_names.insert(metric_name(name), name.to_owned());
                self.creating.entry(name.to_owned()).or_insert(at);
            }
            Some(other) => {
                let other = other.to_owned();
                if self.collisions.insert(name.to_owned()) {
                    let why = "is not made when clients ask for it: its name collides with";
                    self.lines.note(Level::Warn, format_args!("topic {name} {why} {other}"));
                }
            }
        }
    }

    /// Makes the topics that clients asked for and whose time has come.
    pub(super) fn create_due_topics(&mut self, now: Timestamp) {
        let due = self.creating.iter().filter(|(_, at)| **at <= now);
        for name in due.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.create_topic(&name, self.settings.default_partitions, TopicKind::default());
        }
    }

    /// Another topic whose name differs only in `.` and `_`.
    fn collision(&self, name: &str) -> Option<&str> {
        let other = self.metric_names.get(&metric_name(name))?;
        (other != name).then_some(other)
    }

    /// Makes a topic whose partitions are led by the brokers in turn; `None` if there is one of this name or one that
    /// collides with it, or if the name or the number of partitions cannot be.
    pub(super) fn create_topic(&mut self, name: &str, partitions: i32, kind: TopicKind) -> Option<&Topic> {
        if self.topics.contains_key(name) || partitions < 1 || crate::message::Topic::new(name).is_err() {
            return None;
        }
        if self.collision(name).is_some() {
            return None;
        }
        self.creating.remove(name);
        self.metric_names.insert(metric_name(name), name.to_owned());
        self.topics_made += 1;
        let mut id = *b"ottla topic\0\0\0\0\0";
        id[8..].copy_from_slice(&self.topics_made.to_be_bytes());
        let leaders: Vec<_> = (0..partitions).map(|index| self.leader_of(index)).collect();
        self.note_news();
        let topic = Topic::new(name, TopicId(id), leaders.into_iter(), kind);
        Some(self.topics.entry(name.to_owned()).or_insert(topic))
    }

    /// Makes a topic. Returns `true` if it was made.
    #[cfg(feature = "_internal")]
    pub fn make_topic(&mut self, name: &str, partitions: i32) -> bool {
        self.create_topic(name, partitions, TopicKind::default()).is_some()
    }

    /// Sets the largest batch, in bytes, from now on.
    #[cfg(feature = "_internal")]
    pub fn limit_messages(&mut self, bytes: usize) {
        self.settings.max_message_bytes = bytes;
    }

    /// Removes a topic with its messages. Returns `true` if it was there.
    pub fn delete_topic(&mut self, name: &str) -> bool {
        self.note_news();
        let was_asked_for = self.creating.remove(name).is_some();
        let was_there = self.topics.remove(name).is_some() || was_asked_for;
        if was_there {
            self.metric_names.remove(&metric_name(name));
        }
        was_there
    }

    pub(super) fn topic_by_id(&self, id: &[u8; 16]) -> Option<&Topic> {
        self.topics.values().find(|topic| topic.id.0 == *id)
    }

    /// All messages of a topic, by partition and offset.
    #[must_use]
    pub fn messages(&self, topic: &str) -> Vec<StoredMessage> {
        let partitions = self.topics.get(topic).map_or(&[][..], |topic| &topic.partitions);
        (0..).zip(partitions).flat_map(|(index, partition)| partition.log.messages(index)).collect()
    }

    /// The number of messages in a topic.
    #[must_use]
    pub fn count(&self, topic: &str) -> u64 {
        let partitions = self.topics.get(topic).map_or(&[][..], |topic| &topic.partitions);
        partitions.iter().map(|partition| partition.log.next_offset().unsigned_abs()).sum()
    }

    fn leader_of(&self, partition: i32) -> Option<i32> {
        let live: Vec<_> = self.live_brokers().map(|broker| broker.node).collect();
        let at = usize::try_from(partition).ok()?.checked_rem(live.len())?;
        Some(live[at])
    }
}

/// Brokers and leaders.
impl ClusterState {
    pub(super) fn live_brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().filter(|broker| broker.up.is_some())
    }

    pub(super) fn broker(&self, node: i32) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.node == node)
    }

    /// `true` if this broker is up.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn is_up(&self, node: i32) -> bool {
        self.broker(node).is_some_and(|broker| broker.up.is_some())
    }

    /// The broker that listens on this port, up or not.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn node_at(&self, port: u16) -> Option<i32> {
        self.brokers.iter().find(|broker| broker.port == port).map(|broker| broker.node)
    }

    /// The broker listens on another port, and says so from now on.
    #[cfg(feature = "_internal")]
    pub fn broker_moves(&mut self, node: i32, port: u16) {
        self.set_up(node, |broker| broker.port = port);
    }

    /// The broker goes; each partition that it led goes to the next broker that is up, or to none.
    pub fn broker_stops(&mut self, node: i32) {
        self.set_up(node, |broker| broker.up = None);
        let live: Vec<_> = self.live_brokers().map(|broker| broker.node).collect();
        let heir = live.iter().find(|other| **other > node).or(live.first()).copied();
        self.elect(|leader| leader == Some(node), heir);
    }

    /// The broker is back, and leads the partitions that nobody led. Gives the number of this start.
    pub fn broker_starts(&mut self, node: i32) -> u64 {
        self.set_up(node, |broker| {
            broker.starts += 1;
            broker.up = Some(broker.starts);
            broker.ids_from = None;
        });
        self.elect(|leader| leader.is_none(), Some(node));
        self.broker(node).and_then(|broker| broker.up).unwrap_or(0)
    }

    /// A fresh id for a producer; `None` while the broker has none since it started. It gets some when it is asked.
    pub(super) fn producer_id(&mut self, node: i32, now: Timestamp) -> Option<i64> {
        let wait = i64::try_from(self.settings.loading_time.as_millis()).unwrap_or(i64::MAX);
        let broker = self.brokers.iter_mut().find(|broker| broker.node == node)?;
        let from = *broker.ids_from.get_or_insert(Timestamp::from_millis(now.as_millis().saturating_add(wait)));
        if now < from {
            return None;
        }
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        Some(id)
    }

    /// Makes a broker the leader of a partition. Returns `false` if one of them is not there.
    pub fn move_leader(&mut self, topic: &str, partition: i32, node: i32) -> bool {
        let is_broker = self.broker(node).is_some_and(|broker| broker.up.is_some());
        let partition = self.topics.get_mut(topic).and_then(|topic| {
            let index = usize::try_from(partition).ok()?;
            topic.partitions.get_mut(index)
        });
        match partition {
            Some(partition) if is_broker => partition.elect(Some(node)),
            _ => return false,
        }
        self.note_news();
        true
    }

    /// Leaves a partition without a leader, until [`move_leader`](Self::move_leader) or a broker that starts.
    #[cfg(feature = "_internal")]
    pub fn depose_leader(&mut self, topic: &str, partition: usize) {
        if let Some(partition) = self.topics.get_mut(topic).and_then(|topic| topic.partitions.get_mut(partition)) {
            partition.elect(None);
        }
    }

    /// Clients are told from now on that the broker is there.
    pub(super) fn advertise(&mut self, node: i32, host: String, port: u16) {
        self.set_up(node, |broker| (broker.host, broker.port) = (host, port));
    }

    fn set_up(&mut self, node: i32, change: impl FnOnce(&mut Broker)) {
        if let Some(broker) = self.brokers.iter_mut().find(|broker| broker.node == node) {
            change(broker);
        }
    }

    fn elect(&mut self, whose: impl Fn(Option<i32>) -> bool, leader: Option<i32>) {
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if whose(partition.leader) {
                partition.elect(leader);
            }
        }
        self.note_news();
    }
}

fn metric_name(topic: &str) -> String {
    topic.replace('.', "_")
}

const REQUESTS_KEPT: usize = 10_000;

const FIRST_PRODUCER_ID: i64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Api;
    use crate::testing::asking::{Asking, api_versions};

    #[test]
    fn leaders_move_when_brokers_stop_and_nobody_leads_when_all_are_down() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(3).topic("t", 3));
        let leaders = |asking: &Asking| {
            let partitions = asking.state.topics["t"].partitions.iter();
            partitions.map(|partition| (partition.leader, partition.leader_epoch)).collect::<Vec<_>>()
        };
        assert_eq!(leaders(&asking), [(Some(1), 0), (Some(2), 0), (Some(3), 0)]);
        asking.state.broker_stops(3);
        assert_eq!(leaders(&asking), [(Some(1), 0), (Some(2), 0), (Some(1), 1)]);
        asking.state.broker_stops(1);
        assert_eq!(leaders(&asking), [(Some(2), 1), (Some(2), 0), (Some(2), 2)]);
        asking.state.broker_stops(2);
        assert_eq!(leaders(&asking), [(None, 2), (None, 1), (None, 3)]);
        asking.state.broker_starts(3);
        assert_eq!(leaders(&asking), [(Some(3), 3), (Some(3), 2), (Some(3), 4)]);
    }

    #[test]
    fn requests_are_noted_and_bounded() {
        let mut asking = Asking::one_broker();
        for _ in 0..REQUESTS_KEPT + 5 {
            asking.ask(1, 3, &api_versions(3));
        }
        let requests = asking.state.requests();
        assert_eq!(requests.len(), REQUESTS_KEPT);
        let last = requests.last().unwrap();
        assert_eq!((last.api, last.version, last.node), (Api::ApiVersions, 3, 1));
        assert_eq!((last.client_id.as_deref(), last.at), (Some("a test"), asking.now));
    }
}

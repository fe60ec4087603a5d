//! The cluster's logic: brokers, topics, faults, and the answer to every request.
//!
//! No sockets, no clock, no locks: the time is an argument, and what takes time is in the [`Reply`]. `server` drives
//! it with real connections; a simulation can drive it on one thread.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use log::{debug, warn};

#[cfg(feature = "_internal")]
use super::Fault;
use super::api::Versions;
use super::builder::NewTopic;
use super::fault::{Cut, FaultId, Faults, Hits};
use super::frame::{self, Body, Header};
use super::handlers::{self, Context, Outcome};
use super::topic::{Topic, TopicId, TopicKind};
use super::{Api, ClusterBuilder, SeenRequest, StoredMessage};
use crate::message::Timestamp;

/// All brokers of a cluster, with what they share.
#[derive(Clone, Debug)]
pub struct ClusterState {
    pub(super) settings: Settings,
    pub(super) brokers: Vec<Broker>,
    pub(super) topics: BTreeMap<String, Topic>,
    pub(super) faults: Faults,
    next_producer_id: i64,
    /// How many clusters were here before.
    pub(super) replaced: u64,
    /// The topics that clients asked for, and when each is there.
    creating: BTreeMap<String, Timestamp>,
    /// The topics that are there or asked for, by what their names are in metrics, where `.` is `_`.
    metric_names: HashMap<String, String>,
    /// The names that clients asked for and that cannot be beside others.
    collisions: BTreeSet<String>,
    topics_made: u64,
    requests: VecDeque<SeenRequest>,
    /// Grows whenever a fetch that waits should look again.
    news: u64,
}

/// What the cluster is made of and what it allows.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub auto_create: bool,
    pub default_partitions: i32,
    pub creation_delay: Duration,
    pub loading_time: Duration,
    pub max_message_bytes: usize,
    /// The versions that brokers say they know.
    pub apis: BTreeMap<Api, Versions>,
}

/// One broker.
#[derive(Clone, Debug)]
pub(super) struct Broker {
    pub node: i32,
    /// Where clients are told to reach it.
    pub host: String,
    pub port: u16,
    /// How often it started, while it is up.
    pub up: Option<u64>,
    starts: u64,
    /// From when on it has ids for producers, once it was asked for one since it started.
    ids_from: Option<Timestamp>,
}

/// What a broker does with a request.
#[derive(Debug)]
pub enum Reply {
    /// Sends these bytes, size field included, which may be none, after this time.
    Send {
        /// How long to wait before.
        after: Duration,
        /// What to send.
        bytes: Vec<u8>,
        /// What becomes of the connection then.
        then: Then,
    },
    /// Waits until [`ClusterState::is_ready`], then goes on with [`ClusterState::resume`].
    Park(Box<Parked>),
}

/// What becomes of a connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request is served.
    Continue,
    /// Nothing is read for so long, then the next request is served: the broker asked for silence (KIP-219).
    Mute(Duration),
    /// It is closed.
    Close,
}

/// A request that waits.
#[derive(Debug)]
pub struct Parked {
    request: Request,
    until: Until,
}

#[derive(Debug)]
struct Request {
    node: i32,
    header: Header,
    body: Body,
    hits: Hits,
    arrived: Timestamp,
}

#[derive(Debug)]
enum Until {
    FaultEnds(FaultId),
    News { seen: u64, deadline: Timestamp },
}

impl Parked {
    /// When it is ready at the latest, if that is known.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.until {
            Until::FaultEnds(_) => None,
            Until::News { deadline, .. } => Some(deadline),
        }
    }
}

impl ClusterState {
    /// The cluster that is described, with brokers 1, 2, ... on these ports, all up.
    ///
    /// # Errors
    /// What cannot be in the description, in words.
    pub fn new(builder: ClusterBuilder, ports: &[u16]) -> Result<Self, String> {
        let ClusterBuilder { brokers, topics, settings } = builder;
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
            news: 0,
        };
        for NewTopic { name, partitions, kind } in topics {
            if state.create_topic(&name, partitions, kind).is_none() {
                return Err(format!("topic {name:?} with {partitions} partitions cannot be made"));
            }
        }
        Ok(state)
    }

    /// What a broker that is up does with the request in a frame, which comes without its size.
    pub fn receive(&mut self, node: i32, frame: &Bytes, now: Timestamp) -> Reply {
        let (header, bytes) = match frame::read_header(frame) {
            Ok(read) => read,
            Err(bad) => return refuse(node, &bad),
        };
        debug!("broker {node}: {} v{} from {:?}", header.api, header.version, header.client_id);
        self.note_request(node, &header, now);
        self.create_due_topics(now);
        let offered = self.settings.apis.get(&header.api).is_some_and(|offered| offered.contains(header.version));
        if !offered || !header.api.versions().contains(header.version) {
            return self.refuse_version(node, &header);
        }
        let body = match frame::read_body(&header, bytes) {
            Ok(body) => body,
            Err(bad) => return refuse(node, &bad),
        };
        let hits = self.faults.hit(header.api, node, &handlers::targets(self, &body));
        let stall = hits.stall;
        let request = Request { node, header, body, hits, arrived: now };
        match stall {
            Some(fault) => Reply::Park(Box::new(Parked { request, until: Until::FaultEnds(fault) })),
            None => self.attempt(request, now),
        }
    }

    /// Whether a request that waits can go on.
    #[must_use]
    pub fn is_ready(&self, parked: &Parked, now: Timestamp) -> bool {
        match parked.until {
            Until::FaultEnds(fault) => !self.faults.is_there(fault),
            Until::News { seen, deadline } => seen != self.news || now >= deadline,
        }
    }

    /// What is done with a request that waited until it was ready.
    pub fn resume(&mut self, parked: Parked, now: Timestamp) -> Reply {
        let Parked { mut request, until } = parked;
        if let Until::FaultEnds(_) = until {
            request.arrived = now;
        }
        self.create_due_topics(now);
        self.attempt(request, now)
    }

    fn attempt(&mut self, request: Request, now: Timestamp) -> Reply {
        let Request { node, header, body, hits, arrived } = &request;
        let after = hits.delay;
        let then = match hits.throttle_ms.unsigned_abs() {
            0 => Then::Continue,
            millis => Then::Mute(Duration::from_millis(millis.into())),
        };
        let close = |bytes| Reply::Send { after, bytes, then: Then::Close };
        if hits.cut == Some(Cut::Before) {
            return close(Vec::new());
        }
        if let Some(raw) = &hits.raw {
            return Reply::Send { after, bytes: frame::with_size(raw), then: Then::Continue };
        }
        let context = Context { node: *node, header, hits, now, arrived: *arrived };
        let mut bytes = match handlers::handle(self, &context, body) {
            Outcome::Answer(bytes) => bytes,
            Outcome::Silence => {
                return Reply::Send { after, bytes: Vec::new(), then };
            }
            Outcome::Close => return close(Vec::new()),
            Outcome::WaitForNews { deadline } => {
                let until = Until::News { seen: self.news, deadline };
                return Reply::Park(Box::new(Parked { request, until }));
            }
        };
        if hits.wrong_correlation {
            let wrong = header.correlation_id.wrapping_add(1000);
            bytes[4..8].copy_from_slice(&wrong.to_be_bytes());
        }
        match hits.cut {
            Some(Cut::Inside(length)) => {
                bytes.truncate(length);
                close(bytes)
            }
            Some(Cut::After | Cut::Before) => close(Vec::new()),
            None => Reply::Send { after, bytes, then },
        }
    }

    fn refuse_version(&self, node: i32, header: &Header) -> Reply {
        let Header { api, version, .. } = header;
        // KIP-511: only ApiVersions is answered in a version that is not known.
        let answer = match self.settings.apis.get(api) {
            Some(_) if *api == Api::ApiVersions => handlers::api_versions_unsupported(self, header),
            _ => None,
        };
        match answer {
            Some(bytes) => Reply::Send { after: Duration::ZERO, bytes, then: Then::Continue },
            None => refuse(node, &format_args!("{api} request of version {version}, which was not offered")),
        }
    }

    fn note_request(&mut self, node: i32, header: &Header, at: Timestamp) {
        if self.requests.len() == REQUESTS_KEPT {
            self.requests.pop_front();
        }
        let Header { api, version, client_id, .. } = header.clone();
        self.requests.push_back(SeenRequest { api, version, node, client_id, at });
    }

    /// Lets something go wrong for as long as the state lives.
    #[cfg(feature = "_internal")]
    pub fn inject(&mut self, fault: Fault) {
        self.faults.inject(fault);
    }

    /// Nothing goes wrong any more.
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
                    warn!("topic {name} is not made when clients ask for it: its name collides with {other}");
                }
            }
        }
    }

    /// Makes the topics that clients asked for and whose time has come.
    fn create_due_topics(&mut self, now: Timestamp) {
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

    /// Makes a topic; whether it was made.
    #[cfg(feature = "_internal")]
    pub fn make_topic(&mut self, name: &str, partitions: i32) -> bool {
        self.create_topic(name, partitions, TopicKind::default()).is_some()
    }

    /// From now on batches may have so many bytes.
    #[cfg(feature = "_internal")]
    pub fn limit_messages(&mut self, bytes: usize) {
        self.settings.max_message_bytes = bytes;
    }

    /// Removes a topic with its messages; whether it was there.
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

    /// How many messages a topic has.
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

    /// Whether this broker is up.
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

    /// Makes a broker the leader of a partition; false if one of them is not there.
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

fn refuse(node: i32, why: &dyn std::fmt::Display) -> Reply {
    warn!("broker {node}: {why}; the connection is closed");
    Reply::Send { after: Duration::ZERO, bytes: Vec::new(), then: Then::Close }
}

const REQUESTS_KEPT: usize = 10_000;

const FIRST_PRODUCER_ID: i64 = 1000;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, InitProducerIdRequest};
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::testing::asking::{Asking, api_versions, batch, frame};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A broker with topic `t`, and the reply to a batch with one record for t-0.
    fn reply_to_produce(asking: &mut Asking) -> (Duration, Vec<u8>, Then) {
        let request = asking.produce_request(9, "t", 0, batch(1).bytes());
        match asking.reply(1, 9, &request) {
            Reply::Send { after, bytes, then } => (after, bytes, then),
            Reply::Park(_) => panic!("parked"),
        }
    }

    fn with(fault: Fault) -> Asking {
        let mut asking = Asking::one_broker();
        asking.state.inject(fault);
        asking
    }

    #[test]
    fn cut_before_does_nothing_and_closes() {
        let mut asking = with(Fault::on(Api::Produce).cut_before());
        assert_eq!(reply_to_produce(&mut asking), (ms(0), Vec::new(), Then::Close));
        assert_eq!(asking.state.count("t"), 0);
    }

    #[test]
    fn cut_after_appends_and_closes_without_an_answer() {
        let mut asking = with(Fault::on(Api::Produce).cut_after());
        assert_eq!(reply_to_produce(&mut asking), (ms(0), Vec::new(), Then::Close));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn cut_inside_sends_the_beginning_of_the_answer() {
        let whole = reply_to_produce(&mut Asking::one_broker()).1;
        let mut asking = with(Fault::on(Api::Produce).cut_inside(7));
        assert_eq!(reply_to_produce(&mut asking), (ms(0), whole[..7].to_vec(), Then::Close));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn delays_add_up_and_the_batch_is_appended_at_once() {
        let mut asking = with(Fault::on(Api::Produce).delay(ms(20)));
        asking.state.inject(Fault::on_any().delay(ms(5)));
        let (after, bytes, then) = reply_to_produce(&mut asking);
        assert_eq!((after, bytes.is_empty(), then), (ms(25), false, Then::Continue));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn a_throttled_connection_is_not_read_from_also_where_no_answer_is_due() {
        let mut asking = with(Fault::on(Api::Produce).throttle(ms(700)));
        let (after, bytes, then) = reply_to_produce(&mut asking);
        assert_eq!((after, bytes.is_empty(), then), (ms(0), false, Then::Mute(ms(700))));
        let request = asking.produce_request(9, "t", 0, batch(1).bytes()).with_acks(0);
        let Reply::Send { bytes, then, .. } = asking.reply(1, 9, &request) else { panic!("parked") };
        assert_eq!((bytes.is_empty(), then), (true, Then::Mute(ms(700))));
    }

    #[test]
    fn a_wrong_correlation_id_changes_nothing_else() {
        let right = reply_to_produce(&mut Asking::one_broker()).1;
        let wrong = reply_to_produce(&mut with(Fault::on(Api::Produce).wrong_correlation())).1;
        assert_ne!(right[4..8], wrong[4..8]);
        assert_eq!((&right[..4], &right[8..]), (&wrong[..4], &wrong[8..]));
    }

    #[test]
    fn raw_bytes_stand_in_for_the_answer() {
        let mut asking = with(Fault::on(Api::Produce).raw(*b"HTTP"));
        assert_eq!(reply_to_produce(&mut asking).1, b"\0\0\0\x04HTTP");
        assert_eq!(asking.state.count("t"), 0);
    }

    #[test]
    fn a_stalled_request_is_handled_when_the_fault_ends() {
        let mut asking = Asking::one_broker();
        let id = asking.state.faults.inject(Fault::on(Api::Produce).stall());
        let request = asking.produce_request(9, "t", 0, batch(1).bytes());
        let Reply::Park(parked) = asking.reply(1, 9, &request) else { panic!("answered") };
        assert!(!asking.state.is_ready(&parked, Timestamp::from_millis(i64::MAX)));
        assert_eq!((parked.deadline(), asking.state.count("t")), (None, 0));
        asking.state.faults.remove(id);
        assert!(asking.state.is_ready(&parked, asking.now));
        let Reply::Send { then: Then::Continue, .. } = asking.state.resume(*parked, asking.now) else {
            panic!("not answered")
        };
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn a_fault_skips_hits_so_often_and_is_over() {
        let mut asking = Asking::one_broker();
        let id = asking.state.faults.inject(Fault::on(Api::Produce).error(6).skip(1).times(2));
        let codes: Vec<_> = (0..5).map(|_| asking.produce(9, "t", 0, batch(1).bytes()).error_code).collect();
        assert_eq!(codes, [0, 6, 6, 0, 0]);
        assert_eq!(asking.state.faults.hits(id), 2);
    }

    #[test]
    fn a_fault_bites_only_where_it_is_meant_to() {
        let cases = [
            (Fault::on(Api::Produce), true),
            (Fault::on_any(), true),
            (Fault::on(Api::Fetch), false),
            (Fault::on_any().node(1), true),
            (Fault::on_any().node(2), false),
            (Fault::on_any().topic("t"), true),
            (Fault::on_any().topic("other"), false),
            (Fault::on_any().topic("t").partition(0), true),
            (Fault::on_any().topic("t").partition(1), false),
        ];
        for version in [9, 13] {
            for (fault, bites) in &cases {
                let mut asking = with(fault.clone().error(19));
                let code = asking.produce(version, "t", 0, batch(1).bytes()).error_code;
                assert_eq!(code == 19, *bites, "{fault:?} in version {version}");
            }
        }
    }

    #[test]
    fn an_error_after_the_append_is_told_although_the_batch_is_there() {
        let mut asking = with(Fault::on(Api::Produce).error_after(20));
        let answer = asking.produce(9, "t", 0, batch(1).bytes());
        assert_eq!((answer.error_code, answer.base_offset), (20, 0));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn errors_of_whole_requests() {
        let mut asking = with(Fault::on(Api::InitProducerId).error(15).times(1));
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let refused = asking.ask(1, 4, &request);
        assert_eq!((refused.error_code, *refused.producer_id), (15, -1));
        let first = asking.ask(1, 4, &request);
        let second = asking.ask(1, 4, &request);
        assert_eq!((first.error_code, first.producer_epoch), (0, 0));
        assert_ne!(first.producer_id, second.producer_id);
    }

    #[test]
    fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
        let mut asking = Asking::one_broker();
        let bytes = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 0]);
        let Reply::Send { bytes, then: Then::Continue, .. } = asking.state.receive(1, &bytes, asking.now) else {
            panic!("closed")
        };
        let mut body = Bytes::from(bytes).slice(8..);
        let response = ApiVersionsResponse::decode(&mut body, 0).unwrap();
        let range = &response.api_keys[0];
        assert_eq!((response.error_code, response.api_keys.len()), (35, 1));
        assert_eq!((range.api_key, range.min_version, range.max_version), (18, 0, 4));
    }

    #[test]
    fn brokers_offer_what_the_cluster_was_built_with() {
        let builder = ClusterBuilder::new().without_api(Api::InitProducerId).api_version(Api::Metadata, 1, 4);
        let mut asking = Asking::with(builder);
        let offered = asking.ask(1, 3, &api_versions(3)).api_keys;
        let find = |key: ApiKey| offered.iter().find(|api| api.api_key == key as i16);
        let range = |key| find(key).map(|api| (api.min_version, api.max_version));
        assert_eq!(range(ApiKey::InitProducerId), None);
        assert_eq!(range(ApiKey::Metadata), Some((1, 4)));
        assert_eq!(range(ApiKey::Produce), Some((0, 13)));
        let closed = |reply| matches!(reply, Reply::Send { bytes, then: Then::Close, .. } if bytes.is_empty());
        assert!(closed(asking.reply(1, 4, &InitProducerIdRequest::default())));
        assert!(closed(asking.reply(1, 5, &kafka_protocol::messages::MetadataRequest::default())));
    }

    #[test]
    fn bad_requests_close_the_connection() {
        let mut asking = Asking::one_broker();
        let metadata = frame(1, 9, &kafka_protocol::messages::MetadataRequest::default());
        let produce_of_version_2 = [0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        let cases: &[(&str, &[u8])] = &[
            ("nothing", b""),
            ("one byte", b"x"),
            ("a header cut", &metadata[..7]),
            ("a body cut", &metadata[..metadata.len() - 2]),
            ("an unknown API", b"\x7f\x7f\0\0\0\0\0\x01\0\0"),
            ("more topics than bytes", b"\0\x03\0\x01\0\0\0\x01\0\0\x7f\xff\xff\xff"),
            ("a version that was removed", &produce_of_version_2),
            ("text", b"GET / HTTP/1.1\r\n\r\n"),
        ];
        for (what, bytes) in cases {
            let reply = asking.state.receive(1, &Bytes::copy_from_slice(bytes), asking.now);
            assert!(matches!(reply, Reply::Send { then: Then::Close, .. }), "{what}");
        }
        assert!(matches!(asking.state.receive(1, &metadata, asking.now), Reply::Send { then: Then::Continue, .. }));
    }

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

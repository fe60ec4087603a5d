//! The engine of `Client::check`: asks the bootstrap addresses for the cluster, again and again, until one tells of it;
//! then calls each broker that was named, all at the same time, and each once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::cluster::causes::{Standing, Subject};
use super::cluster::demand::{Demand, TopicDemand};
use super::cluster::link::Peer;
use super::cluster::news::News;
use super::cluster::{Cluster, ClusterOptions};
use super::{Action, Engine};
use crate::config::ClientConfig;
#[cfg(feature = "sasl")]
use crate::config::sasl::Token;
use crate::deadline::Deadline;
use crate::error::{BrokerError, CheckError, ClusterInfo, ConnectionError, ConnectionErrorKind, DeliveryErrorKind};
use crate::ids::{NodeId, TopicIndex};
use crate::message::Topic;
use crate::wire::Api;
use crate::wire::frame::ConnId;

/// The engine that checks that a cluster can be reached.
#[derive(Debug)]
pub struct CheckEngine {
    client: Arc<ClientConfig>,
    cluster: Cluster,
    /// The last error of each bootstrap address.
    errors: BTreeMap<Arc<str>, ConnectionError>,
    /// The last answer that told of no cluster, which is among these errors.
    refusal: Option<Arc<DeliveryErrorKind>>,
    /// The brokers that have not answered their call; `None` until the cluster has told of them.
    open: Option<Vec<NodeId>>,
    /// The number of brokers that can be used, and the errors of the others.
    answered: usize,
    unreachable: Vec<ConnectionError>,
}

impl CheckEngine {
    /// Begins by asking for the cluster. `seed` feeds jitter and random choices.
    #[must_use]
    pub fn new(client: &Arc<ClientConfig>, seed: u64) -> Self {
        let mut cluster = Cluster::new(client, OPTIONS, seed);
        cluster.ask_for_metadata();
        let (errors, unreachable) = (BTreeMap::new(), Vec::new());
        Self { client: Arc::clone(client), cluster, errors, refusal: None, open: None, answered: 0, unreachable }
    }

    /// `true` if waiting can bring nothing more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.open {
            Some(open) => open.is_empty(),
            None => self.is_hopeless(),
        }
    }

    /// The result of the check, `after` it began.
    ///
    /// # Errors
    /// No broker could be used.
    pub fn into_outcome(mut self, after: Duration) -> Result<ClusterInfo, CheckError> {
        let unready = self.cluster.unready(ConnectionErrorKind::CheckTimeout(after));
        let Some(cluster) = self.cluster.description().filter(|_| self.open.is_some()) else {
            for error in unready {
                self.errors.entry(Arc::clone(&error.address)).or_insert(error);
            }
            return Err(CheckError::Unreachable { after, errors: self.errors.into_values().collect() });
        };
        // A bootstrap address may be on its way as well.
        self.unreachable.extend(unready.filter(|error| error.advertised.is_some()));
        self.unreachable.sort_by_key(|error| error.advertised.as_ref().map(|advertised| advertised.node));
        if self.answered == 0 {
            return Err(CheckError::Unreachable { after, errors: self.unreachable });
        }
        Ok(ClusterInfo {
            cluster_id: cluster.id.as_deref().map(str::to_owned),
            controller: cluster.controller.map(|node| node.0),
            brokers: cluster.brokers.clone(),
            unreachable: self.unreachable,
        })
    }

    /// `true` if no address can become good by waiting: each of them is something other than a broker that can be used.
    fn is_hopeless(&self) -> bool {
        let is_permanent = |error: &ConnectionError| error.kind.is_permanent();
        self.client.seeds.iter().all(|seed| self.errors.get(&*seed.to_string()).is_some_and(is_permanent))
    }

    fn heed_news(&mut self, now: Instant) {
        while let Some(news) = self.cluster.next_news() {
            match news {
                News::Ended { lost: Some(lost), .. } => self.note(&lost.error),
                News::Topics { .. } => {
                    let brokers = self.cluster.description().map(|cluster| &cluster.brokers);
                    let nodes = || brokers.into_iter().flatten().map(|broker| NodeId(broker.node)).collect();
                    self.open.get_or_insert_with(nodes);
                    self.cluster.took_topics(&Nothing, now);
                }
                News::Ended { lost: None, .. } | News::Replaced => {}
            }
        }
        // An answer that names no brokers, or that has an error instead, comes on a good connection.
        let refusal = self.cluster.causes().last_of(|about| about == Subject::Metadata).cloned();
        if refusal.as_ref().map(Arc::as_ptr) != self.refusal.as_ref().map(Arc::as_ptr) {
            refusal.iter().for_each(|error| self.note(error));
            self.refusal = refusal;
        }
    }

    /// Notes the error of a bootstrap address, until the cluster is known.
    fn note(&mut self, error: &DeliveryErrorKind) {
        let error = match error {
            _ if self.open.is_some() => return,
            DeliveryErrorKind::Connection(error) => error.clone(),
            DeliveryErrorKind::Broker(BrokerError { address, api, code, .. }) => {
                let kind = ConnectionErrorKind::Refused { api, code: *code };
                ConnectionError { address: Arc::clone(address), advertised: None, kind }
            }
            _ => return,
        };
        self.errors.insert(Arc::clone(&error.address), error);
    }

    /// Calls the brokers that were not called, and notes the results.
    fn call(&mut self, now: Instant) {
        for node in self.open.as_mut().map(std::mem::take).unwrap_or_default() {
            match self.call_broker(node, now) {
                None => self.open.get_or_insert_default().push(node),
                Some(Ok(())) => self.answered += 1,
                Some(Err(error)) => self.unreachable.push(error),
            }
        }
    }

    /// Calls a broker, unless that was done. Returns the result, once; `None` while it is not known.
    fn call_broker(&mut self, node: NodeId, now: Instant) -> Option<Result<(), ConnectionError>> {
        let peer = Peer::Node(node);
        if self.cluster.link(peer).is_some_and(|link| link.is_down() && link.last_error.is_none()) {
            self.cluster.connect(peer, &Nothing, now);
        }
        let link = self.cluster.link(peer)?;
        if let Some(DeliveryErrorKind::Connection(error)) = link.last_error.as_deref() {
            return Some(Err(error.clone()));
        }
        link.ready()?;
        // The others may need its descriptor.
        self.cluster.hang_up(peer);
        Some(Ok(()))
    }
}

impl Engine for CheckEngine {
    fn connected(&mut self, conn: ConnId, now: Instant) {
        self.cluster.connected(conn, now);
    }

    fn closed(&mut self, conn: ConnId, why: ConnectionErrorKind, now: Instant) {
        self.cluster.closed(conn, why, &Nothing, now);
        self.heed_news(now);
    }

    fn wrote(&mut self, conn: ConnId, started: usize, finished: usize, now: Instant) -> bool {
        !self.cluster.wrote(conn, started, finished, now, |_| ()).is_empty()
    }

    fn response(&mut self, conn: ConnId, frame: &[u8], now: Instant) {
        // It has no requests of its own.
        let _ = self.cluster.response(conn, frame, &Nothing, now);
        self.heed_news(now);
    }

    #[cfg(feature = "sasl")]
    fn token(&mut self, token: Result<Token, String>, now: Instant) {
        self.cluster.token(token, &Nothing, now);
        self.heed_news(now);
    }

    fn extend_timeouts(&mut self, until: Instant) {
        self.cluster.extend_timeouts(until);
    }

    fn advance(&mut self, now: Instant) {
        self.cluster.judge_links(&Nothing, now);
        self.cluster.refresh(&Nothing, now);
        self.heed_news(now);
        self.call(now);
        self.cluster.connect_as_needed(&Nothing, now);
        self.heed_news(now);
    }

    fn next_deadline(&self) -> Deadline {
        self.cluster.next_deadline(&Nothing)
    }

    fn next_action(&mut self) -> Option<Action> {
        self.cluster.next_action()
    }

    fn is_busy(&self) -> bool {
        true
    }
}

/// A look at the cluster waits only for its own requests.
struct Nothing;

impl Demand for Nothing {
    fn is_busy(&self) -> bool {
        false
    }

    fn needs_any_broker(&self) -> bool {
        false
    }

    fn next_node(&self, _: Option<NodeId>) -> Option<NodeId> {
        None
    }

    fn needs_node(&self, _: NodeId) -> bool {
        false
    }

    fn topic_count(&self) -> usize {
        0
    }

    fn topic_name(&self, _: TopicIndex) -> Option<&Topic> {
        None
    }

    fn is_topic(&self, _: TopicIndex, _: TopicDemand, _: Instant) -> bool {
        false
    }

    fn standing(&self, _: Subject, _: Instant) -> Standing {
        Standing::Over
    }
}

/// As a producer, without options of its own: it says whether one could work.
const OPTIONS: ClusterOptions = ClusterOptions {
    needed: &[Api::Metadata, Api::Produce, Api::InitProducerId],
    creates_topics: false,
    retry: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) },
};

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::collections::HashMap;
    use std::io;

    use bytes::Bytes;

    use super::*;
    use crate::config::BrokerAddress;
    use crate::engine::test_clock;
    use crate::error::ErrorCode;
    use crate::message::Timestamp;
    use crate::testing::Cluster as TestCluster;
    use crate::testing::requests::Reply;
    use crate::testing::state::ClusterState;
    use crate::wire::api::metadata::MetadataResponse;

    /// Three brokers, of which `up` answer, the `silent` one does not, and others refuse. The engine, the ports that
    /// were called, and those to which there are connections at the end.
    fn check(up: &[u16], silent: u16, seeds: &[u16]) -> (CheckEngine, Vec<u16>, Vec<u16>) {
        check_with(up, silent, seeds, 0)
    }

    /// The same, where connections to the port `breaks` break right behind their second answer.
    fn check_with(up: &[u16], silent: u16, seeds: &[u16], breaks: u16) -> (CheckEngine, Vec<u16>, Vec<u16>) {
        let mut brokers = ClusterState::new(TestCluster::builder().brokers(3), &[9001, 9002, 9003]).unwrap();
        let address = |port: &u16| BrokerAddress { host: "127.0.0.1".into(), port: *port };
        let client = Arc::new(ClientConfig::new(seeds.iter().map(address).collect()));
        let mut engine = CheckEngine::new(&client, 7);
        let (mut now, mut called, mut ports) = (test_clock(), Vec::new(), HashMap::new());
        let mut answers: HashMap<ConnId, u32> = HashMap::new();
        for _ in 0..2000 {
            engine.advance(now);
            while let Some(action) = engine.next_action() {
                match action {
                    Action::Connect { conn, address, .. } => {
                        called.push(address.port);
                        ports.insert(conn, address.port);
                        if up.contains(&address.port) {
                            engine.connected(conn, now);
                        } else if address.port != silent {
                            ports.remove(&conn);
                            engine.closed(conn, ConnectionErrorKind::Closed, now);
                        }
                    }
                    Action::Send { conn, frame } => {
                        engine.wrote(conn, 1, 1, now);
                        let (node, request) = (i32::from(ports[&conn] - 9000), Bytes::from(frame.to_vec()).slice(4..));
                        let answer = brokers.receive(node, &request, Timestamp::from_millis(0));
                        let Reply::Send { bytes, .. } = answer else { panic!("it answers") };
                        engine.response(conn, &bytes[4..], now);
                        let count = answers.entry(conn).or_default();
                        *count += 1;
                        if *count == 2 && ports[&conn] == breaks {
                            ports.remove(&conn);
                            let why = io::Error::from(io::ErrorKind::ConnectionReset);
                            engine.closed(conn, ConnectionErrorKind::Io(Arc::new(why)), now);
                        }
                    }
                    Action::Close { conn } => drop(ports.remove(&conn)),
                    Action::Limit { .. } => {}
                    #[cfg(feature = "sasl")]
                    Action::AskForToken => {}
                }
            }
            now += Duration::from_millis(1);
        }
        (engine, called, ports.into_values().collect())
    }

    #[test]
    fn each_broker_is_called_once_and_those_that_do_not_answer_are_told() {
        let (engine, mut called, open) = check(&[9001, 9003], 0, &[9001]);
        called.sort_unstable();
        assert_eq!(called, [9001, 9002, 9003], "the first one by its own address");
        assert!(engine.is_done() && open.is_empty());
        let cluster = engine.into_outcome(Duration::from_secs(10)).unwrap();
        assert_eq!(cluster.brokers.len(), 3);
        let unreachable: Vec<&str> = cluster.unreachable.iter().map(|error| &*error.address).collect();
        assert_eq!(unreachable, ["127.0.0.1:9002"]);
    }

    #[test]
    fn a_broker_that_answered_is_left_before_the_others_have() {
        let (engine, _, open) = check(&[9001, 9002], 9003, &[9001]);
        assert!(!engine.is_done());
        assert_eq!(open, [9003]);
        let cluster = engine.into_outcome(Duration::from_secs(2)).unwrap();
        let [error] = &cluster.unreachable[..] else { panic!("{:?}", cluster.unreachable) };
        assert!(matches!(error.kind, ConnectionErrorKind::CheckTimeout(_)), "{error}");
    }

    #[test]
    fn a_cluster_that_was_told_of_is_not_asked_for_again() {
        let (engine, mut called, _) = check_with(&[9001, 9003], 9002, &[9001], 9001);
        called.sort_unstable();
        assert_eq!(called, [9001, 9002, 9003], "each once");
        let cluster = engine.into_outcome(Duration::from_secs(2)).unwrap();
        let unreachable: Vec<&str> = cluster.unreachable.iter().map(|error| &*error.address).collect();
        assert_eq!(unreachable, ["127.0.0.1:9001", "127.0.0.1:9002"]);
    }

    #[test]
    fn an_address_that_refuses_metadata_as_a_whole_is_told_with_the_code() {
        let seed = BrokerAddress { host: "127.0.0.1".into(), port: 9001 };
        let (mut engine, now) = (CheckEngine::new(&Arc::new(ClientConfig::new(vec![seed])), 7), test_clock());
        engine.advance(now);
        let answer = MetadataResponse {
            throttle: Duration::ZERO,
            error: ErrorCode::REBOOTSTRAP_REQUIRED,
            brokers: Vec::new(),
            cluster_id: None,
            controller: -1,
            topics: Vec::new(),
        };
        engine.cluster.take_metadata(Peer::Seed(0), answer, &Nothing, now);
        engine.heed_news(now);
        let Err(CheckError::Unreachable { errors, .. }) = engine.into_outcome(Duration::from_secs(10)) else {
            panic!("nobody told of the cluster");
        };
        let [error] = &errors[..] else { panic!("{errors:?}") };
        let ConnectionErrorKind::Refused { api: "Metadata", code } = error.kind else { panic!("{error}") };
        assert_eq!((&*error.address, code), ("127.0.0.1:9001", ErrorCode::REBOOTSTRAP_REQUIRED));
    }

    #[test]
    fn bootstrap_addresses_are_tried_again_until_the_time_is_up() {
        let (engine, called, _) = check(&[], 0, &[9001, 9002]);
        assert!(!engine.is_done() && called.len() > 4, "{called:?}");
        let Err(CheckError::Unreachable { errors, .. }) = engine.into_outcome(Duration::from_secs(10)) else {
            panic!("nobody is there");
        };
        let errors: Vec<String> = errors.iter().map(|error| error.address.to_string()).collect();
        assert_eq!(errors, ["127.0.0.1:9001", "127.0.0.1:9002"]);
    }
}

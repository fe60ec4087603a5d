//! The cluster as a test holds it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::server::{self, Listening, Shared};
use super::state::ClusterState;
use super::topic::TopicKind;
use super::{ClusterBuilder, Fault, FaultGuard, SeenRequest, StoredMessage, Timeout};

/// A Kafka cluster inside this process, for tests.
///
/// Any Kafka client reaches it at [`bootstrap`](Self::bootstrap). Dropping it closes all connections and ports, and
/// ends its threads.
///
/// ```
/// use ottla::testing::Cluster;
///
/// # fn main() -> std::io::Result<()> {
/// let cluster = Cluster::start()?;
/// // ... the program under test produces to cluster.bootstrap() ...
/// assert_eq!(cluster.messages("orders").len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    /// Shared by the threads of a test that stop and restart brokers. Never held while a broker starts or stops.
    brokers: Mutex<Vec<BrokerServer>>,
}

#[derive(Debug)]
struct BrokerServer {
    port: u16,
    listening: Option<Listening>,
}

impl Cluster {
    /// Starts one broker without topics, which makes topics of 3 partitions when a client asks for them.
    ///
    /// # Errors
    /// Any error of opening a port on loopback or starting a thread.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// A builder of a cluster, to change it before it starts.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::new()
    }

    /// The addresses of all brokers, stopped ones included, as clients take them: `127.0.0.1:p1,127.0.0.1:p2`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let brokers = self.brokers.lock();
        let addresses: Vec<_> = brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        addresses.join(",")
    }

    /// All messages of a topic, by partition and then by offset; none if there is no such topic.
    #[must_use]
    pub fn messages(&self, topic: &str) -> Vec<StoredMessage> {
        self.shared.look(|state| state.messages(topic))
    }

    /// Blocks until a topic has at least `count` messages, for at most `timeout`, and gives all it has.
    ///
    /// # Errors
    /// [`Timeout`] if there are fewer when `timeout` has passed.
    pub fn wait_for(&self, topic: &str, count: usize, timeout: Duration) -> Result<Vec<StoredMessage>, Timeout> {
        let wanted = count as u64;
        if self.shared.wait_for(timeout, |state| state.count(topic) >= wanted) {
            return Ok(self.messages(topic));
        }
        let found = self.shared.look(|state| state.count(topic));
        Err(Timeout::new("messages", wanted, found, timeout))
    }

    /// Makes a topic.
    ///
    /// # Panics
    /// If there is a topic of this name or one that differs only in `.` and `_`, if Kafka does not allow the name, or
    /// if there are no partitions.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        let made = self.shared.change(|state| state.create_topic(name, partitions, TopicKind::default()).is_some());
        assert!(made, "topic {name:?} with {partitions} partitions cannot be made");
    }

    /// Removes a topic with its messages. Returns `true` if there was one. A topic made later under the same name has
    /// another topic id.
    pub fn delete_topic(&self, name: &str) -> bool {
        self.shared.change(|state| state.delete_topic(name))
    }

    /// Stops a broker: its connections are cut and its port is closed when this returns.
    ///
    /// Each partition that it led goes to the next broker that is up, under a new leader epoch, or has no leader if
    /// there is none. Messages and producers' sequences survive. Stopping a stopped broker does nothing.
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn stop_broker(&self, node: i32) {
        let listening = self.with_broker(node, |broker| broker.listening.take());
        if listening.is_some() {
            self.shared.change(|state| state.broker_stops(node));
        }
    }

    /// Starts a stopped broker again, on the same port. It leads the partitions that have no leader.
    ///
    /// Starting a running broker does nothing.
    ///
    /// # Errors
    /// Any error of opening the port, which another program may have taken, or of starting a thread.
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn restart_broker(&self, node: i32) -> io::Result<()> {
        let (port, is_up) = self.with_broker(node, |broker| (broker.port, broker.listening.is_some()));
        if is_up {
            return Ok(());
        }
        let listener = server::bind(port)?;
        let start = self.shared.change(|state| state.broker_starts(node));
        match Listening::start(Arc::clone(&self.shared), listener, node, start) {
            Ok(listening) => {
                self.with_broker(node, |broker| broker.listening = Some(listening));
                Ok(())
            }
            Err(error) => {
                self.shared.change(|state| state.broker_stops(node));
                Err(error)
            }
        }
    }

    /// Makes a broker the leader of a partition, under a new leader epoch. Clients of the old leader learn it from its
    /// next answer.
    ///
    /// # Panics
    /// If there is no such topic or partition, or if the broker is not up.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) {
        let moved = self.shared.change(|state| state.move_leader(topic, partition, node));
        assert!(moved, "{topic}-{partition} cannot be led by broker {node}");
    }

    /// Tells clients from now on that a broker is at this address, as `advertised.listeners` does: the address of a
    /// proxy in front of it, or one without a listener. The broker goes on listening at its own address, which
    /// [`bootstrap`](Self::bootstrap) names.
    ///
    /// # Panics
    /// If there is no such broker.
    pub fn advertise(&self, node: i32, host: impl Into<String>, port: u16) {
        self.with_broker(node, |_| ());
        let host = host.into();
        self.shared.change(|state| state.advertise(node, host, port));
    }

    /// Injects a fault until the guard is dropped.
    pub fn inject(&self, fault: Fault) -> FaultGuard {
        FaultGuard::new(Arc::clone(&self.shared), fault)
    }

    /// The requests that came to any broker, the oldest first; the last 10,000 of them.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.look(ClusterState::requests)
    }

    /// The number of open connections to all brokers together.
    #[must_use]
    pub fn connections(&self) -> usize {
        let brokers = self.brokers.lock();
        let doors: Vec<_> =
            brokers.iter().filter_map(|broker| broker.listening.as_ref()).map(Listening::doors).collect();
        drop(brokers);
        doors.iter().map(|doors| doors.open()).sum()
    }

    fn with_broker<T>(&self, node: i32, change: impl FnOnce(&mut BrokerServer) -> T) -> T {
        let mut brokers = self.brokers.lock();
        let at = usize::try_from(node - 1).ok().filter(|at| *at < brokers.len());
        let Some(at) = at else { panic!("no broker {node}: there are brokers 1 to {}", brokers.len()) };
        change(&mut brokers[at])
    }
}

impl ClusterBuilder {
    /// Starts the cluster: opens a port on loopback for every broker, and starts a thread for each.
    ///
    /// # Errors
    /// - [`io::ErrorKind::InvalidInput`]: no brokers, a topic name that Kafka does not allow, that comes twice or that
    ///   collides with another, no partitions, or certificates and keys that cannot be used;
    /// - any other error of opening a port or starting a thread.
    pub fn start(self) -> io::Result<Cluster> {
        let listeners = (0..self.brokers).map(|_| server::bind_any(random())).collect::<io::Result<Vec<_>>>()?;
        let ports = listeners.iter().map(|listener| listener.local_addr().map(|address| address.port()));
        let ports = ports.collect::<io::Result<Vec<_>>>()?;
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let encryption = self.encryption().map_err(invalid)?;
        let state = ClusterState::new(self, &ports).map_err(invalid)?;
        let shared = Arc::new(Shared::new(state, encryption));
        let mut brokers = Vec::new();
        for ((node, listener), port) in (1..).zip(listeners).zip(ports) {
            let listening = Listening::start(Arc::clone(&shared), listener, node, 1)?;
            brokers.push(BrokerServer { port, listening: Some(listening) });
        }
        Ok(Cluster { shared, brokers: Mutex::new(brokers) })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let brokers = std::mem::take(self.brokers.get_mut());
        // Down first, so that requests that wait give up; dropping the brokers then ends their threads.
        for (node, _) in (1..).zip(&brokers) {
            self.shared.change(|state| state.broker_stops(node));
        }
    }
}

/// Numbers that differ from process to process, without a source of randomness of our own.
fn random() -> impl Iterator<Item = u64> {
    std::iter::repeat_with(|| RandomState::new().build_hasher().finish())
}

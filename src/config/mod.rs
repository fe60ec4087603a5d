//! Options as plain data: parsed and checked once by the builders, read by every layer.
//!
//! This file has the fields and their defaults, `check` the limits and contradictions; `address` reads addresses, and
//! `tls` makes of its options what encrypts connections. The builders, which document each option for users, are in
//! `client` and `producer`.

mod address;
mod check;
#[cfg(feature = "sasl")]
pub mod sasl;
#[cfg(feature = "_tls")]
pub mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use address::Security;
pub(crate) use check::resolve_idempotence;
#[cfg(feature = "_tls")]
pub use tls::{KeyExchangeGroup, Tls};

/// The address of a broker: a host and a port, read from text such as `kafka-1.example.org:9092`.
///
/// ```
/// use ottla::BrokerAddress;
///
/// let address: BrokerAddress = "kafka-1.example.org".parse()?;
/// assert_eq!(address.to_string(), "kafka-1.example.org:9092");
/// let address: BrokerAddress = "kafka://[::1]:9093".parse()?;
/// assert_eq!((&*address.host, address.port), ("::1", 9093));
/// # Ok::<(), ottla::InvalidAddress>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BrokerAddress {
    /// Name or address, without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
}

/// What encrypts connections.
#[cfg(feature = "_tls")]
pub type Encryption = Arc<rustls::ClientConfig>;

/// Nothing encrypts connections in this build.
#[cfg(not(feature = "_tls"))]
#[derive(Clone, Debug)]
pub enum Encryption {}

/// Looks up host names: the system, unless something stands in for it.
#[derive(Clone, Default)]
pub struct Resolver(pub Option<Arc<LookUp>>);

/// Gives the addresses of a host, in the order to try them; port 0 stands for the broker's own port. May block.
pub type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a stand-in" } else { "the system" })
    }
}

/// The options of connections to a cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The addresses to begin with: never empty.
    pub seeds: Vec<BrokerAddress>,
    /// Sent with every request.
    pub client_id: Arc<str>,
    /// From the start of a name look-up until the broker answered the handshake.
    pub connect_timeout: Duration,
    /// The longest time that a broker may take to answer, or to accept a byte.
    pub socket_timeout: Duration,
    /// A connection without a request for this long is closed; the next request opens it again.
    pub connections_max_idle: Duration,
    /// First pause after a failed connection; doubles up to `reconnect_backoff_max`, with 20 % jitter.
    pub reconnect_backoff: Duration,
    /// Longest pause after failed connections.
    pub reconnect_backoff_max: Duration,
    /// Metadata older than this is fetched again.
    pub metadata_max_age: Duration,
    /// Metadata is not fetched more often than this.
    pub metadata_min_age: Duration,
    /// Tries every address of a host name, or only the first.
    pub resolve_all_addresses: bool,
    /// Bound of a response, in bytes.
    pub max_response_bytes: usize,
    /// Encrypts connections; `None` for plaintext.
    pub encryption: Option<Encryption>,
    /// Looks up host names.
    pub resolver: Resolver,
    /// How it logs in, if it does.
    #[cfg(feature = "sasl")]
    pub sasl: Option<sasl::Sasl>,
    /// A login goes over TLS only.
    #[cfg(feature = "sasl")]
    pub sasl_over_ssl: bool,
}

impl ClientConfig {
    /// These seeds, and defaults for the rest. The builder checks that there is a seed.
    #[must_use]
    pub fn new(seeds: Vec<BrokerAddress>) -> Self {
        Self {
            seeds,
            client_id: "ottla".into(),
            connect_timeout: Duration::from_secs(10),
            socket_timeout: Duration::from_secs(30),
            connections_max_idle: Duration::from_secs(9 * 60),
            reconnect_backoff: Duration::from_millis(100),
            reconnect_backoff_max: Duration::from_secs(10),
            metadata_max_age: Duration::from_secs(5 * 60),
            metadata_min_age: Duration::from_millis(250),
            resolve_all_addresses: true,
            max_response_bytes: 16 * 1024 * 1024,
            encryption: None,
            resolver: Resolver::default(),
            #[cfg(feature = "sasl")]
            sasl: None,
            #[cfg(feature = "sasl")]
            sasl_over_ssl: true,
        }
    }
}

/// The options of batching and delivery.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// The acknowledgement that makes a message delivered.
    pub required_acks: RequiredAcks,
    /// The longest time that the leader may wait for its followers.
    pub ack_timeout: Duration,
    /// Has brokers drop repeats and keep the order under retries.
    pub idempotent: bool,
    /// Requests under way for one partition: at most 5; 1 without idempotence.
    pub max_in_flight: usize,
    /// The bound on everything that happens to a message after it became due.
    pub delivery_timeout: Duration,
    /// Attempts after the first, or no bound but `delivery_timeout`.
    pub max_retries: Option<u32>,
    /// First pause before another attempt; doubles up to `retry_backoff_max`, with 20 % jitter.
    pub retry_backoff: Duration,
    /// Longest pause before another attempt.
    pub retry_backoff_max: Duration,
    /// Messages that were written and have no fate yet, or no bound but bytes.
    pub max_buffer_size: Option<usize>,
    /// Bytes that were written and have no fate yet.
    pub max_buffer_bytesize: usize,
    /// Bytes of a batch that holds one message.
    pub max_message_bytes: usize,
    /// Bytes of a batch.
    pub max_batch_bytes: usize,
    /// Bytes of a request.
    pub max_request_bytes: usize,
    /// Chooses the partition of a message that names none.
    pub partitioner: crate::partitioner::Partitioner,
    /// The longest time that a topic may be unknown.
    pub unknown_topic_grace: Duration,
    /// Lets a request for a topic create it.
    pub allow_auto_topic_creation: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            required_acks: RequiredAcks::All,
            ack_timeout: Duration::from_secs(5),
            idempotent: true,
            max_in_flight: 5,
            delivery_timeout: Duration::from_secs(120),
            max_retries: None,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            max_buffer_size: None,
            max_buffer_bytesize: 32 * 1024 * 1024,
            max_message_bytes: 1_000_000,
            max_batch_bytes: 1_000_000,
            max_request_bytes: 8 * 1024 * 1024,
            partitioner: crate::partitioner::Partitioner::default(),
            unknown_topic_grace: Duration::from_secs(30),
            allow_auto_topic_creation: true,
        }
    }
}

/// The queue between callers and the worker.
#[derive(Clone, Debug)]
pub struct QueueConfig {
    /// Messages.
    pub max_queue_size: usize,
    /// Bytes.
    pub max_queue_bytesize: usize,
    /// Queued messages that make all of them leave; 0 is off.
    pub delivery_threshold: usize,
    /// Age of the oldest queued message that makes all of them leave; zero is off.
    pub delivery_interval: Duration,
    /// The longest time that `shutdown` waits; `None` until every message has its fate.
    pub shutdown_timeout: Option<Duration>,
    /// The longest time that dropping the last clone waits.
    pub drop_timeout: Duration,
    /// The behaviour of `produce` when the queue is full.
    pub on_overflow: OnOverflow,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            max_queue_size: 1000,
            max_queue_bytesize: 32 * 1024 * 1024,
            delivery_threshold: 0,
            delivery_interval: Duration::ZERO,
            shutdown_timeout: None,
            drop_timeout: Duration::from_secs(5),
            on_overflow: OnOverflow::Refuse,
        }
    }
}

/// The acknowledgement that makes a message delivered.
///
/// The promises about the log hold with `All` on a topic with replication factor 3, `min.insync.replicas` 2 and no
/// unclean leader election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RequiredAcks {
    /// None (0): delivered means written to the socket, and no offset is known. Messages may be lost unseen.
    None,
    /// The leader's (1). Messages may be lost when the leader fails.
    Leader,
    /// That of all replicas in sync (-1, `all`).
    #[default]
    All,
}

impl RequiredAcks {
    /// The number that the protocol uses.
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// The behaviour of `produce` when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnOverflow {
    /// Refuses the message with `BufferOverflow` at once; it comes back in the error.
    #[default]
    Refuse,
    /// Blocks until there is room, at most this long, and then refuses with `BufferOverflow`;
    /// `Duration::MAX` waits without limit.
    Block(Duration),
}

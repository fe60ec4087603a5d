//! A Kafka producer for Rust programs without async.
//!
//! Your threads hand in messages, one background thread delivers them, and every message ends as delivered, as failed
//! with a reason, or handed back. Pure Rust: no C compiler, no async runtime. Names and meanings are ruby-kafka's.
//!
//! ```no_run
//! use ottla::{Client, Message};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::builder(["kafka-1:9092", "kafka-2:9092"]).build()?;
//!     let producer = client.async_producer().streaming().build()?;
//!
//!     for number in 0..1_000 {
//!         let order = format!("order {number}");
//!         producer.produce(Message::new("orders", order).with_key("customer 7"))?;
//!     }
//!
//!     let report = producer.shutdown()?;
//!     println!("{} delivered, {} failed", report.delivered, report.failed);
//!     Ok(())
//! }
//! ```
//!
//! # Where to begin
//!
//! - [`Client`] says where the cluster is; from it come the producers.
//! - [`AsyncProducer`] delivers on a thread of its own. [`AsyncProducerBuilder`] has its options: with
//!   [`streaming`](AsyncProducerBuilder::streaming) messages leave by themselves. Without it they wait for
//!   [`deliver_messages`](AsyncProducer::deliver_messages), as in ruby-kafka.
//! - [`Producer`] delivers on the caller's thread. It starts no thread that stays.
//! - [`Message`] has a value, a [`Topic`], and perhaps a key, headers and a time. The [`Partitioner`] chooses its
//!   partition.
//! - [`Fate`], [`Delivered`] and [`DeliveryError`] say how a message ended. They come from a [`DeliveryHandle`], the
//!   callback of [`on_delivery`](AsyncProducerBuilder::on_delivery), or the [`ShutdownReport`].
//! - [`ProduceError`] holds a message that was refused, and the reason.
//!
//! The callback or the handle gets each failure. Without either it is counted, logged and kept for the report of
//! [`shutdown`](AsyncProducer::shutdown), up to `max_queue_size` messages and `max_queue_bytesize` bytes. Beyond that
//! the oldest failures are dropped, and the report says how many.
//!
//! # Partitions of keys
//!
//! By default a key goes where ruby-kafka, librdkafka and rust-rdkafka put it: CRC-32 modulo the number of partitions.
//! An empty key counts as a key, as in ruby-kafka; librdkafka spreads messages with an empty key like those without.
//! [`Partitioner::murmur2`] puts it where the Java client and franz-go do. Choose once for a topic.
//!
//! # Threads
//!
//! A producer starts its threads with the first message, however many brokers there are:
//!
//! | thread | exists | does |
//! |---|---|---|
//! | `ottla-worker` | always | batches, sends, receives, retries |
//! | `ottla-timer` | if `delivery_interval` is above zero | makes messages leave when the oldest is old enough |
//! | `ottla-delivery` | if a callback is registered | calls it |
//! | `ottla-resolve` | while a host name is looked up | asks the system's resolver, which blocks |
//! | `ottla-token` | while a token for a login is asked for | calls your `TokenProvider`, which may block |
//!
//! A sync [`Producer`] has only the last two. Fork before the first message, or make a new producer in the child, where
//! the parent's producer answers `AfterFork`.
//!
//! A panic in a callback or a partitioner is caught, logged, and costs at most its message. With `panic = "abort"` it
//! ends the process, and undelivered messages are lost.
//!
//! # Features
//!
//! | feature | gives |
//! |---|---|
//! | `tls` | encrypted connections, [`ClientBuilder`]`::tls`, without C. Needs Rust 1.89, and an x86-64 or AArch64 processor of about 2014 or later |
//! | `tls-ring` | the same with ring's cryptography, for other processors or an older Rust; needs a C compiler |
//! | `tls-aws-lc-rs` | the same with that of aws-lc-rs; needs a C compiler |
//! | `tls-encrypted-keys` | reads encrypted private keys (PKCS#8) |
//! | `sasl` | logins: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (`Sasl`) |
//! | `testing` | `ottla::testing`, an in-process Kafka cluster for the tests of your program |
//! | `real-kafka` | ottla's own tests against Apache Kafka; nothing for users |
//! | `kfake` | ottla's own tests against kfake, franz-go's fake Kafka; nothing for users |
//! | `_tls` | what all of TLS shares; nothing for users |
//! | `_internal` | the inside, for ottla's own tests. No promises: never use it |
//!
//! None is on by default. Compression, transactions, consumers and administration are not there yet.
#![forbid(unsafe_code)]

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

mod client;
mod error;
mod message;
mod producer;
mod sync;

#[cfg(not(feature = "_internal"))]
mod config;
#[cfg(all(feature = "_tls", not(feature = "_internal")))]
mod crypto;
#[cfg(not(feature = "_internal"))]
mod deadline;
#[cfg(not(feature = "_internal"))]
mod engine;
#[cfg(not(feature = "_internal"))]
mod fate;
#[cfg(not(feature = "_internal"))]
mod ids;
#[cfg(not(feature = "_internal"))]
mod net;
#[cfg(not(feature = "_internal"))]
mod partitioner;
#[cfg(not(feature = "_internal"))]
mod queue;
#[cfg(not(feature = "_internal"))]
mod record;
#[cfg(not(feature = "_internal"))]
mod threads;
#[cfg(not(feature = "_internal"))]
mod wire;

// The same, for ottla's own tests, benches and fuzzers. No promises.
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod config;
#[cfg(all(feature = "_tls", feature = "_internal"))]
#[doc(hidden)]
pub mod crypto;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod deadline;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod engine;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod fate;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod ids;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod net;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod partitioner;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod queue;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod record;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod threads;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod wire;

#[cfg(feature = "testing")]
pub mod testing;

/// Certificates for the unit tests, which make them themselves.
#[cfg(all(test, feature = "_tls", not(shuttle)))]
#[path = "../tests/certificates/mod.rs"]
mod certificates;
/// Looks for secrets that the unit tests have used.
#[cfg(all(test, target_os = "linux", any(feature = "sasl", feature = "_tls"), not(shuttle)))]
#[path = "../tests/left_in_memory/mod.rs"]
mod left_in_memory;

pub use client::{Client, ClientBuilder};
#[cfg(feature = "sasl")]
pub use config::sasl::{Sasl, Token, TokenProvider};
pub use config::{BrokerAddress, OnOverflow, RequiredAcks};
#[cfg(feature = "_tls")]
pub use config::{KeyExchangeGroup, Tls};
pub use error::{
    Advertised, ApiRange, BrokerError, BrokerInfo, BufferLimit, BufferOverflow, CheckError, ClusterInfo, ConfigError,
    ConfigProblem, ConnectionError, ConnectionErrorKind, DeliveryError, DeliveryErrorKind, ErrorCode, FatalError,
    InvalidAddress, InvalidTopic, Persistence, ProduceError, ProduceErrorKind, Speaks, TlsAlert, TlsFault,
};
pub use fate::{Delivered, Fate};
pub use message::{HeaderValue, Message, Payload, Timestamp, Topic, TopicRef};
pub use partitioner::{PartitionInput, Partitioner};
pub use producer::{
    AsyncProducer, AsyncProducerBuilder, DeliveryFailed, DeliveryHandle, FlushError, FlushReport, MetadataError,
    Produce, Producer, ProducerBuilder, PurgeError, ShutdownError, ShutdownReport, Undelivered, WaitTimeout,
};

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::collections::BTreeSet;
    use std::error::Error;
    use std::fmt::Debug;

    use super::*;

    /// Has `$check` look at each type, and gives their names.
    macro_rules! names {
        ($check:ident: $($name:ty),* $(,)?) => {{
            $($check::<$name>();)*
            [$(stringify!($name)),*].map(|name| name.split('<').next().unwrap_or(name)).into_iter()
        }};
    }

    #[test]
    fn every_public_type_crosses_threads_and_every_error_is_one() {
        fn error<T: Error + Send + Sync + 'static>() {}
        fn value<T: Debug + Send + Sync + 'static>() {}
        fn shared<T: Debug + Send + Sync + Clone + 'static>() {}
        fn sent<T: Debug + Send + 'static>() {}
        #[cfg(feature = "_tls")]
        let _ = names!(value: KeyExchangeGroup, Tls);
        #[cfg(feature = "sasl")]
        let _ = names!(shared: Sasl, Token);
        let errors = names!(error:
            BrokerError, CheckError, ConfigError, ConnectionError, DeliveryError, DeliveryErrorKind, DeliveryFailed,
            FatalError, FlushError, InvalidAddress, InvalidTopic, MetadataError, ProduceError, ProduceErrorKind,
            PurgeError, ShutdownError, WaitTimeout,
        );
        let shared = names!(shared:
            Advertised, ApiRange, AsyncProducer, BrokerAddress, BrokerInfo, BufferLimit, BufferOverflow, Client,
            ClientBuilder, ClusterInfo, ConfigProblem, ConnectionErrorKind, Delivered, ErrorCode, FlushReport,
            HeaderValue<'static>, Message<'static>, OnOverflow, PartitionInput<'static>, Partitioner, Payload<'static>,
            Persistence, ProducerBuilder, RequiredAcks, Speaks, Timestamp, TlsAlert, TlsFault, Topic,
            TopicRef<'static>,
        );
        let values = names!(value: DeliveryHandle, Fate, ShutdownReport, Undelivered);
        let sent = names!(sent: AsyncProducerBuilder, Producer);
        // Two traits, and what features add.
        let others = ["Produce", "TokenProvider", "KeyExchangeGroup", "Tls", "Sasl", "Token"];
        let looked_at: BTreeSet<&str> = errors.chain(shared).chain(values).chain(sent).chain(others).collect();

        let exports =
            include_str!("lib.rs").split("\npub use ").skip(1).map(|export| export.split(';').next().unwrap_or(export));
        let words = exports.flat_map(|export| export.split(|c: char| !c.is_alphanumeric()));
        let public: BTreeSet<&str> = words.filter(|word| word.starts_with(char::is_uppercase)).collect();
        assert_eq!(looked_at, public, "what is public is looked at here");
    }
}

//! An in-process Kafka cluster for tests: real TCP listeners on loopback that speak Kafka's protocol.
//!
//! A [`Cluster`] needs no set-up, no files and no network beyond loopback. Any Kafka client can talk to it, so a
//! program's tests run the code that runs in production, and then look at what arrived:
//!
//! ```
//! use ottla::testing::Cluster;
//!
//! # fn main() -> std::io::Result<()> {
//! let cluster = Cluster::builder().topic("orders", 3).start()?;
//! println!("a client connects to {}", cluster.bootstrap());
//! assert!(cluster.messages("orders").is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! It answers the requests that [`Api`] lists, checks batches, checksums and sequences as a broker does, and misbehaves
//! on demand: brokers [stop](Cluster::stop_broker) and [come back](Cluster::restart_broker), leaders
//! [move](Cluster::move_leader), and a [`Fault`] refuses, delays or cuts any answer. It keeps everything in memory,
//! does not replicate, knows no groups, no transactions and no permissions, and refuses compressed batches.
//!
//! Its answers are those of Kafka 4.3.1, even odd ones, because programs rely on them: the first answer about a topic
//! that is made on demand says that there is none; of a partition that stands twice in one request only the last batch
//! is stored; answers have another order than the request. So that tests are quick and go the same way whenever they
//! run, nothing takes time unless the test asks for it. Each thing that takes time with Kafka is an option:
//!
//! | with Kafka | here |
//! |---|---|
//! | a topic made on demand is there after about 0.1 s | [`ClusterBuilder::creation_delay`], none by default |
//! | a broker that has started has ids for producers after about 0.03 s | [`ClusterBuilder::loading_time`], none by default |
//! | a client that used up its quota is answered, and then not read from | [`Fault::throttle`] |
//! | a login that fails is answered after 0.1 to 0.3 s | [`ClusterBuilder::login_failure_delay`], none by default |
//! | an answer comes when the replicas have the batch | [`Fault::delay`] |
//!
//! The brokers' logic is in `state`, `requests`, `handlers` and the files beside them: it has no socket, no clock and
//! no thread. `server` gives it those.

#[cfg(test)]
mod asking;
mod batch_check;
mod builder;
mod cluster;
mod fault;
mod frame;
mod guard;
mod handlers;
mod lines;
mod log;
#[cfg(feature = "sasl")]
mod logins;
mod message;
mod producers;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod requests;
#[cfg(not(feature = "_internal"))]
mod requests;
#[cfg(feature = "sasl")]
mod scram;
mod server;
#[cfg(feature = "sasl")]
mod sessions;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod state;
#[cfg(not(feature = "_internal"))]
mod state;
#[cfg(feature = "_tls")]
mod tls;
#[cfg(not(feature = "_tls"))]
#[path = "no_tls.rs"]
mod tls;
mod topic;

pub use builder::ClusterBuilder;
pub use cluster::Cluster;
pub use fault::Fault;
pub use guard::{FaultGuard, Timeout};
#[cfg(feature = "sasl")]
pub use logins::Logins;
pub use message::{SeenRequest, StoredMessage};
#[cfg(feature = "_tls")]
pub use tls::BrokerTls;

pub use crate::wire::Api;

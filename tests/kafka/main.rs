//! ottla against a real Apache Kafka, read back by Kafka's own consumer.
//!
//! `cargo test --features real-kafka --test kafka` needs Java 17 and Maven, which fetches Kafka once.
//! `OTTLA_KAFKA=4.4.0` before it takes brokers of that version.

// Real brokers run on the real clock, and so do their tests.
#![expect(clippy::disallowed_methods, reason = "these tests wait for processes and sockets")]

mod anew;
mod by_hand;
#[cfg(feature = "_tls")]
#[path = "../certificates/mod.rs"]
#[expect(dead_code, reason = "the unit tests use all of it")]
mod certificates;
mod conformance;
mod delivery;
mod failover;
mod fixture;
mod fixture_tests;
mod in_process;
mod load;
mod logins;
mod long_run;
mod metadata;
mod pipe;
mod refusals;
#[path = "../examples/run.rs"]
mod run;
#[cfg(feature = "_tls")]
mod secured;
#[cfg(feature = "_tls")]
mod tls;
mod tools;
mod topics;

#[cfg(feature = "_tls")]
use ottla::crypto;

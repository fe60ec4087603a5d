//! The Kafka client for Rust programs without async.
#![forbid(unsafe_code)]

mod client;
mod error;
mod fate;
mod message;
mod producer;
mod threads;

#[cfg(not(feature = "_internal"))]
mod config;
#[cfg(not(feature = "_internal"))]
mod engine;
#[cfg(not(feature = "_internal"))]
mod net;
#[cfg(not(feature = "_internal"))]
mod record;
#[cfg(not(feature = "_internal"))]
mod wire;

// The same, for ottla's own tests, benches and fuzzers. No promises.
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod config;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod engine;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod net;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod record;
#[cfg(feature = "_internal")]
#[doc(hidden)]
pub mod wire;

#[cfg(feature = "testing")]
pub mod testing;

pub use client::{Client, ClientBuilder};
pub use config::{BrokerAddress, OnOverflow, RequiredAcks};
pub use engine::partitioner::{PartitionInput, Partitioner};
pub use error::*;
pub use fate::{Delivered, Fate};
pub use message::*;
pub use producer::{
    AsyncProducer, AsyncProducerBuilder, DeliveryHandle, FlushError, FlushReport, MetadataError, Produce, Producer,
    ProducerBuilder, ShutdownError, ShutdownReport,
};

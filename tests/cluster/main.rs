//! The whole library through its public API, against in-process clusters and scripted servers: a file per concern.
#![expect(clippy::disallowed_methods, reason = "threads, clocks and sockets are what is tested")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod callbacks;
#[cfg(feature = "_tls")]
#[path = "../certificates/mod.rs"]
#[expect(dead_code, reason = "the unit tests use all of it")]
mod certificates;
mod check;
mod common;
#[path = "../proxy/door.rs"]
#[expect(dead_code, reason = "the tests of bad networks use all of it")]
mod door;
mod errors;
mod fates;
mod leaders;
#[path = "../links/mod.rs"]
#[expect(dead_code, reason = "the tests of bad networks use all of it")]
mod links;
mod logins;
mod lost_connections;
mod messages;
mod promises;
mod queue;
mod resources;
mod shutdown;
mod strangers;
mod sync_producer;
mod topics;
mod versions;

#[cfg(feature = "_tls")]
use ottla::crypto;

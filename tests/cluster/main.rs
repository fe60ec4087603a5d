//! The whole library through its public API, against in-process clusters and scripted servers: a file per concern.
#![expect(clippy::disallowed_methods, reason = "threads, clocks and sockets are what is tested")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod callbacks;
mod check;
mod common;
mod errors;
mod fates;
mod leaders;
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

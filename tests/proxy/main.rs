//! Whole producers behind bad networks and bad brokers: connections cut at every byte, split, slow, stalled, names that
//! nobody knows, responses that make no sense. A file per kind; the proxies are in `door`, `proxy` and `meddler`.
#![expect(clippy::disallowed_methods, reason = "threads, clocks and sockets are what is tested")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod answers;
#[cfg(feature = "_tls")]
#[path = "../certificates/mod.rs"]
#[expect(dead_code, reason = "the unit tests use all of it")]
mod certificates;
#[path = "../cluster/common.rs"]
#[expect(dead_code, reason = "the tests of the cluster use all of it")]
mod common;
mod cuts;
mod descriptors;
mod door;
mod frames;
mod liar;
#[path = "../links/mod.rs"]
mod links;
mod meddler;
mod names;
mod pace;
mod proxy;
mod storm;

#[cfg(feature = "_tls")]
use ottla::crypto;

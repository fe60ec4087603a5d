//! The only place that starts threads, waits and reads clocks. `driver` is the loop that connects an engine to its
//! sockets: the sync producer runs it on its caller's thread, the asynchronous one on a thread of its own
//! (`producer`).
//!
//! The simulation (`tests/unthreaded`) calls the steps of these threads one by one, so they are public to it.
#![cfg_attr(all(test, shuttle), expect(private_interfaces, reason = "the model is private to the crate"))]
#![cfg_attr(feature = "_internal", expect(missing_debug_implementations, reason = "only ottla's own tests see it"))]

pub(crate) mod check;
pub mod clock;
pub mod driver;
pub mod producer;
pub(crate) mod spawn;
#[cfg(feature = "sasl")]
mod tokens;
pub(crate) mod watch;

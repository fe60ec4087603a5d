//! The only place that starts threads, waits and reads clocks. `driver` is the loop that connects an engine to its
//! sockets: the sync producer runs it on its caller's thread, the asynchronous one on a thread of its own
//! (`producer`).

pub(crate) mod check;
pub(crate) mod clock;
pub(crate) mod driver;
pub mod producer;
pub(crate) mod spawn;
pub(crate) mod watch;

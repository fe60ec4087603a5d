//! The timer: makes queued messages leave when the oldest is as old as `delivery_interval`. Runs only if there is an
//! interval, parks while nothing waits, and never touches a message.

use std::sync::Arc;

use super::gate::Gate;

/// The thread's whole life. Ends when the queue is closed.
pub(super) fn run(gate: &Arc<Gate>) {
    gate.tick_until_closed();
}

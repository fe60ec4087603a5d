//! Knows whether the user's code runs on a thread of its producer, so that this code does not wait for itself.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sync::thread_local;

/// The role of a thread of a producer that runs the user's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It calls partitioners, and must not wait for its own work.
    Worker,
    /// It calls the callback, and must not wait for a callback.
    Delivery,
}

/// A number for a gate, which no other one of this process has; never 0.
pub(super) fn new_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).max(1)
}

/// The role of this thread for the producer with this gate, so that it does not wait for itself: a callback, a
/// partitioner, a logger or a panic hook may call the producer.
pub(crate) fn role(gate: u32) -> Option<Role> {
    // A thread that ends has no role any more.
    let (served, role) = SERVED.try_with(Cell::get).ok()?;
    (served == gate).then_some(role)
}

/// Notes that this thread serves the producer with this gate.
pub(super) fn serve(gate: u32, role: Role) {
    SERVED.with(|served| served.set((gate, role)));
}

thread_local! {
    /// Number of the gate whose thread this is, 0 for threads of others.
    static SERVED: Cell<(u32, Role)> = const { Cell::new((0, Role::Worker)) };
}

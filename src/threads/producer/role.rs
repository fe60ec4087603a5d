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

/// Tells a gate from all others of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateId(u32);

impl GateId {
    pub fn next() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The role of this thread for the producer with this gate, so that it does not wait for itself: a callback, a
/// partitioner, a logger or a panic hook may call the producer.
pub(crate) fn role(gate: GateId) -> Option<Role> {
    // A thread that ends has no role any more.
    let (served, role) = SERVED.try_with(Cell::get).ok()??;
    (served == gate).then_some(role)
}

/// Notes that this thread serves the producer with this gate.
pub(super) fn serve(gate: GateId, role: Role) {
    SERVED.with(|served| served.set(Some((gate, role))));
}

thread_local! {
    /// The gate whose thread this is, if it is one.
    static SERVED: Cell<Option<(GateId, Role)>> = const { Cell::new(None) };
}

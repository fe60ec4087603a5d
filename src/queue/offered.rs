//! What becomes of a message that is offered to the queue.

use std::sync::Arc;
use std::time::Instant;

use crate::error::{DeliveryErrorKind, InvalidTopic};

/// A message was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its ticket.
    pub ticket: u64,
    /// Whether the worker must be woken.
    pub wake: bool,
    /// Whether the timer must be woken.
    pub arm: bool,
}

/// Why a message was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// No thread runs yet.
    Idle,
    /// The queue was closed.
    Closed,
    /// No place, or no bytes, are left.
    Full(Full),
    /// The topic's name is not allowed.
    InvalidTopic(InvalidTopic),
    /// The clock says that this process is another one.
    Forked,
}

/// What a full queue holds.
#[derive(Clone, Debug)]
pub struct Full {
    /// Messages that hold a place.
    pub queued: usize,
    /// The limit that was reached.
    pub limit: usize,
    /// Whether it counts bytes.
    pub bytes: bool,
    /// When the oldest message came, to the precision of a chunk.
    pub oldest: Option<Instant>,
    /// Why nothing can be sent to the topic, if the limit is that of such topics.
    pub held_up: Option<Arc<DeliveryErrorKind>>,
    /// Whether the worker must be woken.
    pub wake: bool,
}

//! A queued message as the engine sees it, and the bytes that it takes of the queue's limit.

use super::extras::Extra;
use crate::ids::{PartitionId, TopicIndex};

/// A queued message, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Index of the topic in the queue's table.
    pub topic: TopicIndex,
    /// The partition that was asked for.
    pub partition: Option<PartitionId>,
    /// Milliseconds since the Unix epoch.
    pub create_time: i64,
    /// Its tag, partition key and handle, if it has one of them.
    pub extra: Option<Extra<'a>>,
    /// Key, value and headers, encoded as in a record.
    pub tail: &'a [u8],
}

impl Entry<'_> {
    /// Bytes of the queue's limit that it takes.
    #[must_use]
    pub fn cost(&self) -> usize {
        cost(self.tail.len(), self.extra.as_ref())
    }
}

/// Bytes of the queue's limit that a message takes as long as it has no fate: its tail, the head of its record, its
/// route, and its extra.
#[inline]
#[must_use]
pub fn cost(tail_len: usize, extra: Option<&Extra<'_>>) -> usize {
    BESIDE + tail_len + extra.map_or(0, Extra::bytes)
}

/// The head of its record, and its route.
const BESIDE: usize = 32;

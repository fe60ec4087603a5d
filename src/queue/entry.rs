//! A queued message as the engine sees it, and the bytes that it takes of the queue's limit.

use super::extras::{EXTRA, Extra};
use crate::ids::TopicIndex;

/// A queued message, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Index of the topic in the queue's table.
    pub topic: TopicIndex,
    /// The partition that was asked for.
    pub partition: Option<i32>,
    /// Milliseconds since the Unix epoch.
    pub create_time: i64,
    /// The user's tag, 0 if there is none.
    pub tag: u64,
    /// The bytes that choose the partition in place of the key.
    pub partition_key: Option<&'a [u8]>,
    /// Key, value and headers, encoded as in a record.
    pub tail: &'a [u8],
}

/// Bytes of the queue's limit that a message takes as long as it has no fate: its tail, the head of its record, its
/// route, and its extra.
#[inline]
#[must_use]
pub fn cost(tail_len: usize, extra: Option<&Extra>) -> usize {
    BESIDE + tail_len + extra.map_or(0, Extra::bytes)
}

/// As [`cost`], before the message is queued: its tag, and the length of its partition key.
#[inline]
#[must_use]
pub fn cost_of(tail_len: usize, tag: u64, partition_key: Option<usize>, has_handle: bool) -> usize {
    let extra = match partition_key {
        Some(len) => EXTRA + len,
        None if has_handle || tag != 0 => EXTRA,
        None => 0,
    };
    BESIDE + tail_len + extra
}

/// The head of its record, and its route.
const BESIDE: usize = 32;

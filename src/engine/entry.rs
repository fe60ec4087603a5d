//! A queued message as the engine sees it, and what it takes of the queue's limit in bytes.

use crate::fate::slot::Slot;

/// A queued message, read in place.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Index of the topic in the queue's table.
    pub topic: u32,
    /// The partition that was asked for.
    pub partition: Option<i32>,
    /// Milliseconds since the Unix epoch.
    pub create_time: i64,
    /// The user's tag, 0 if there is none.
    pub tag: u64,
    /// What chooses the partition in place of the key.
    pub partition_key: Option<&'a [u8]>,
    /// Key, value and headers, encoded as in a record.
    pub tail: &'a [u8],
}

/// What only some messages have; it stays beside their bytes.
#[derive(Debug)]
pub struct Extra {
    /// Index of the message in its chunk or batch.
    pub index: u32,
    /// Where a handle waits for its fate.
    pub slot: Option<Slot>,
    /// The user's tag.
    pub tag: u64,
    /// What chose the partition in place of the key.
    pub partition_key: Option<Box<[u8]>>,
    /// Whether its failure was already told to its handle.
    pub told: bool,
}

impl Extra {
    /// What this message has, if it has anything of the kind.
    #[must_use]
    pub fn of(index: u32, tag: u64, partition_key: Option<&[u8]>, slot: Option<Slot>) -> Option<Self> {
        if tag == 0 && partition_key.is_none() && slot.is_none() {
            return None;
        }
        Some(Self { index, slot, tag, partition_key: partition_key.map(Box::from), told: false })
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        EXTRA + self.partition_key.as_ref().map_or(0, |key| key.len())
    }
}

/// Bytes of the queue's limit that a message takes as long as it has no fate: its tail, and what is kept beside it.
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
/// What a chunk and a batch keep for a message with a tag, a partition key or a handle, and the place for its fate.
pub const EXTRA: usize = 96;

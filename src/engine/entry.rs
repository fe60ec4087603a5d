//! A message in the queue, as bytes: what the batch needs first, then the record's tail, ready to be copied.
//!
//! Layout, little endian: topic index `u32`, partition `i32` (-1: not chosen), create time `i64`, flags `u8`,
//! then by flag the tag `u64` and the partition key (`u32` length, bytes), then the tail (see
//! [`record::tail`](crate::record::tail)). The end of an entry is known from outside.

use crate::message::{Message, Timestamp};
use crate::record::tail;

const FIXED: usize = 17;
const HAS_TAG: u8 = 1;
const HAS_PARTITION_KEY: u8 = 2;
/// Where an entry ends in its chunk.
const END: usize = size_of::<u32>();
/// Bytes that a batch and a chunk keep for a message with a tag, a partition key or a handle, and of the place for its
/// fate.
pub const EXTRA: usize = 96;

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

/// Bytes of the queue's limit that a message takes: its entry, and what is kept beside it as long as it has no fate.
#[must_use]
pub fn cost(entry: &[u8], has_handle: bool) -> usize {
    cost_with(entry.len(), has_handle || entry[FIXED - 1] != 0)
}

/// As [`cost`], for an entry of `len` bytes that is not encoded yet.
#[must_use]
pub fn cost_of(message: &Message<'_>, len: usize, has_handle: bool) -> usize {
    cost_with(len, has_handle || message.tag != 0 || message.partition_key.is_some())
}

/// As [`cost`], for a message that is no entry any more: its tail had `tail_len` bytes.
#[must_use]
pub fn cost_again(tag: u64, partition_key: Option<&[u8]>, tail_len: usize, has_handle: bool) -> usize {
    let has_extra = has_handle || tag != 0 || partition_key.is_some();
    cost_with(len_with(tag, partition_key, tail_len), has_extra)
}

fn len_with(tag: u64, partition_key: Option<&[u8]>, tail_len: usize) -> usize {
    let tag = if tag == 0 { 0 } else { size_of::<u64>() };
    FIXED + tag + partition_key.map_or(0, |key| size_of::<u32>() + key.len()) + tail_len
}

fn cost_with(len: usize, has_extra: bool) -> usize {
    len + END + if has_extra { EXTRA } else { 0 }
}

/// Appends a message to `out` as an entry.
pub fn put(out: &mut Vec<u8>, topic: u32, message: &Message<'_>, create_time: Timestamp) {
    let create_time = create_time.as_millis();
    let (partition, tag, partition_key) = (message.partition, message.tag, message.partition_key());
    put_entry(out, &Entry { topic, partition, create_time, tag, partition_key, tail: &[] });
    tail::put(out, message.key(), message.value(), message.headers());
}

/// Appends an entry to `out`.
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let mut flags = 0;
    if entry.tag != 0 {
        flags |= HAS_TAG;
    }
    if entry.partition_key.is_some() {
        flags |= HAS_PARTITION_KEY;
    }
    let mut fixed = [0; FIXED];
    fixed[0..4].copy_from_slice(&entry.topic.to_le_bytes());
    fixed[4..8].copy_from_slice(&entry.partition.unwrap_or(-1).to_le_bytes());
    fixed[8..16].copy_from_slice(&entry.create_time.to_le_bytes());
    fixed[16] = flags;
    out.extend_from_slice(&fixed);
    if flags & HAS_TAG != 0 {
        out.extend_from_slice(&entry.tag.to_le_bytes());
    }
    if let Some(key) = entry.partition_key {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
    }
    out.extend_from_slice(entry.tail);
}

/// How many bytes [`put`] appends for a message whose tail has `tail_len` bytes.
#[must_use]
pub fn len_of(message: &Message<'_>, tail_len: usize) -> usize {
    len_with(message.tag, message.partition_key(), tail_len)
}

/// Changes the topic of the entry that `bytes` begin with.
pub fn set_topic(bytes: &mut [u8], topic: u32) {
    bytes[0..4].copy_from_slice(&topic.to_le_bytes());
}

impl<'a> Entry<'a> {
    /// Reads an entry that [`put`] wrote.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Self {
        let (fixed, mut rest) = bytes.split_at(FIXED);
        let topic = u32::from_le_bytes(four(fixed));
        let partition = i32::from_le_bytes(four(&fixed[4..]));
        let create_time = i64::from_le_bytes(eight(&fixed[8..]));
        let flags = fixed[16];
        let mut tag = 0;
        if flags & HAS_TAG != 0 {
            tag = u64::from_le_bytes(eight(rest));
            rest = &rest[8..];
        }
        let mut partition_key = None;
        if flags & HAS_PARTITION_KEY != 0 {
            let (key, tail) = rest[4..].split_at(u32::from_le_bytes(four(rest)) as usize);
            partition_key = Some(key);
            rest = tail;
        }
        Self { topic, partition: (partition >= 0).then_some(partition), create_time, tag, partition_key, tail: rest }
    }
}

fn four(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}

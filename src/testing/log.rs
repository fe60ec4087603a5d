//! The log of one partition: batches as they were produced, with their offset and leader epoch written in.

use bytes::Bytes;

use super::StoredMessage;
use super::producers::add;
use crate::message::Timestamp;
use crate::record::batch_reader::{Record, RecordBatch};

/// The batches of a partition in order, from offset 0 on without a gap.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    batches: Vec<Stored>,
    next_offset: i64,
    /// Each epoch that wrote, and its first offset; ascending.
    epochs: Vec<(i32, i64)>,
}

/// A record that was found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundRecord {
    pub offset: i64,
    /// Its time in milliseconds.
    pub timestamp: i64,
    /// The leader's epoch that appended it.
    pub epoch: i32,
}

#[derive(Clone, Debug)]
struct Stored {
    base_offset: i64,
    max_timestamp: i64,
    bytes: Bytes,
}

impl Log {
    /// The offset of the next record.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Appends a sound batch of this many records and gives its base offset.
    pub fn append(&mut self, mut bytes: Vec<u8>, count: i32, max_timestamp: i64, leader_epoch: i32) -> i64 {
        let base_offset = self.next_offset;
        // The checksum begins behind these two fields, so that a broker can write them.
        bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < leader_epoch) {
            self.epochs.push((leader_epoch, base_offset));
        }
        self.next_offset += i64::from(count);
        self.batches.push(Stored { base_offset, max_timestamp, bytes: bytes.into() });
        base_offset
    }

    /// The batches from the one with this offset on, cut at `max_bytes`. The first one is whole, even above `max_bytes`
    /// if asked for; else there is nothing.
    pub fn read(&self, offset: i64, max_bytes: usize, first_in_any_case: bool) -> Vec<u8> {
        let from = self.batches.partition_point(|batch| batch.base_offset <= offset).saturating_sub(1);
        let first = match self.batches.get(from) {
            Some(first) if offset < self.next_offset => first.bytes.len(),
            _ => return Vec::new(),
        };
        if first > max_bytes && !first_in_any_case {
            return Vec::new();
        }
        let most = max_bytes.max(first);
        let mut read = Vec::new();
        for batch in &self.batches[from..] {
            let room = most - read.len();
            if room == 0 {
                break;
            }
            read.extend_from_slice(&batch.bytes[..room.min(batch.bytes.len())]);
        }
        read
    }

    /// The epoch that wrote the first record.
    pub fn first_epoch(&self) -> Option<i32> {
        self.epochs.first().map(|(epoch, _)| *epoch)
    }

    /// The first record that is not older than this.
    pub fn at_or_after(&self, millis: i64) -> Option<FoundRecord> {
        self.batches.iter().filter(|batch| batch.max_timestamp >= millis).find_map(|batch| {
            let epoch = batch.batch().partition_leader_epoch;
            let (offset, record) = batch.records().find(|(_, record)| record.timestamp >= millis)?;
            Some(FoundRecord { offset, timestamp: record.timestamp, epoch })
        })
    }

    /// The first record with the latest time.
    pub fn latest(&self) -> Option<FoundRecord> {
        self.batches.iter().map(|batch| batch.max_timestamp).max().and_then(|latest| self.at_or_after(latest))
    }

    /// The last epoch that is not above this one, and the offset where it ends.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let found = after.checked_sub(1).map(|at| self.epochs[at].0)?;
        Some((found, self.epochs.get(after).map_or(self.next_offset, |(_, start)| *start)))
    }

    /// All messages, with this as their partition.
    pub fn messages(&self, partition: i32) -> impl Iterator<Item = StoredMessage> + '_ {
        self.batches.iter().flat_map(move |stored| {
            let batch = stored.batch();
            stored.records().map(move |(offset, record)| stored_message(partition, offset, &batch, &record))
        })
    }
}

impl Stored {
    fn batch(&self) -> RecordBatch<'_> {
        RecordBatch::read(&self.bytes).expect(CHECKED).0
    }

    fn records(&self) -> impl Iterator<Item = (i64, Record<'_>)> {
        let base_offset = self.base_offset;
        self.batch().records().map(move |record| {
            let record = record.expect(CHECKED);
            (base_offset + i64::from(record.offset_delta), record)
        })
    }
}

fn stored_message(partition: i32, offset: i64, batch: &RecordBatch<'_>, record: &Record<'_>) -> StoredMessage {
    StoredMessage {
        partition,
        offset,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers
            .clone()
            .map(|header| {
                let (name, value) = header.expect(CHECKED);
                (name.to_owned(), value.map(<[u8]>::to_vec))
            })
            .collect(),
        timestamp: Timestamp::from_millis(record.timestamp),
        producer_id: batch.producer_id,
        producer_epoch: batch.producer_epoch,
        sequence: if batch.base_sequence < 0 { -1 } else { add(batch.base_sequence, record.offset_delta) },
    }
}

const CHECKED: &str = "every batch was read to its end before it was appended";

//! The record batches inside a Produce request: which messages they hold, and how a client with other ideas would
//! stamp them.

use ottla::record::batch_reader::RecordBatch;

use crate::ledger::id_of;

/// A record batch inside a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub at: usize,
    pub len: usize,
    pub partition: i32,
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    pub ids: Vec<u64>,
}

/// The batches of a request without its size field; none if it is not a Produce request.
pub fn batches(frame: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    if frame.get(..2) != Some(&[0, 0]) {
        return found;
    }
    let mut at = 0;
    while at < frame.len() {
        let Ok((batch, rest)) = RecordBatch::read(&frame[at..]) else {
            at += 1;
            continue;
        };
        let len = frame.len() - at - rest.len();
        // Before it stand the partition and, as a varint, the length and one.
        let prefix = (u32::BITS - (len as u32 + 1).leading_zeros()).div_ceil(7) as usize;
        let partition = frame.get(at - prefix - 4..at - prefix).and_then(|bytes| bytes.try_into().ok());
        found.push(Found {
            at,
            len,
            partition: i32::from_be_bytes(partition.expect("a partition stands before its batch")),
            producer_id: batch.producer_id,
            epoch: batch.producer_epoch,
            base_sequence: batch.base_sequence,
            ids: batch.records().flatten().map(|record| id_of(record.value)).collect(),
        });
        at += len;
    }
    found
}

/// Puts another sequence into a batch, with the checksum that goes with it.
pub fn restamp(frame: &mut [u8], found: &Found, base_sequence: i32) {
    let batch = &mut frame[found.at..found.at + found.len];
    batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Bit by bit: it is needed seldom.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

//! Reads record batches that come from outside. Nothing in them is trusted: no panic, and no allocation at all.

use super::RecordError;
use super::layout::{BEFORE_LENGTH_END, CRC_AT, CRC_START, HEADER_LEN, MAGIC_AT};
pub use super::tail::Headers;
use super::tail::Tail;
use super::varint::{take_varint, take_varlong};

const COMPRESSION: i16 = 0b0111;
const LOG_APPEND_TIME: i16 = 0b1000;
// Length, attributes, time, offset, key length, value length and header count, one byte each.
const MIN_RECORD: usize = 7;

/// A record batch, its header decoded and its checksum verified, its records still bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Epoch of the leader that appended it, -1 from a producer.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything behind it.
    pub crc: u32,
    /// Bits 0 to 2: codec; 3: log append time; 4: transactional; 5: control.
    pub attributes: i16,
    /// Offset of the last record as the batch was produced, less the base offset.
    pub last_offset_delta: i32,
    /// The time in milliseconds to which the records' times are relative.
    pub base_timestamp: i64,
    /// The latest time, or the log append time.
    pub max_timestamp: i64,
    /// Id of an idempotent producer, or -1.
    pub producer_id: i64,
    /// Epoch of that id, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// The number of records: not negative, and not more than the bytes can hold unless compressed.
    pub record_count: i32,
    /// The records, possibly compressed.
    pub records: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// Reads the batch at the front of `bytes`; also gives what is behind it.
    ///
    /// # Errors
    /// [`RecordError::Truncated`] if the batch is not there in full, [`RecordError::Magic`] for an older format,
    /// [`RecordError::Checksum`], and [`RecordError::Implausible`] for a length or count that cannot be.
    pub fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), RecordError> {
        let what = "record batch";
        if bytes.len() <= MAGIC_AT {
            return Err(RecordError::Truncated { what, needed: HEADER_LEN, available: bytes.len() });
        }
        // The older formats have the version at the same place, and may be shorter than our header.
        let magic = bytes[MAGIC_AT] as i8;
        if magic != 2 {
            return Err(RecordError::Magic(magic));
        }
        let length = i32::from_be_bytes(array(bytes, 8));
        let implausible = RecordError::Implausible { what: "record batch length", value: length };
        let needed = match usize::try_from(length).ok().and_then(|length| length.checked_add(BEFORE_LENGTH_END)) {
            Some(needed) if needed >= HEADER_LEN => needed,
            _ => return Err(implausible),
        };
        if needed > bytes.len() {
            return Err(RecordError::Truncated { what, needed, available: bytes.len() });
        }
        let (bytes, rest) = bytes.split_at(needed);
        let batch = Self::decode(bytes);
        let computed = crc32c::crc32c(&bytes[CRC_START..]);
        if computed != batch.crc {
            return Err(RecordError::Checksum { stated: batch.crc, computed });
        }
        let most = if batch.codec() == 0 { batch.records.len() / MIN_RECORD } else { usize::MAX };
        if usize::try_from(batch.record_count).map_or(true, |count| count > most) {
            return Err(RecordError::Implausible { what: "record count", value: batch.record_count });
        }
        Ok((batch, rest))
    }

    // `bytes` is one whole batch, at least a header.
    fn decode(bytes: &'a [u8]) -> Self {
        Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            partition_leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
            records: &bytes[HEADER_LEN..],
        }
    }

    /// `true` if the header claims a record for every offset: so it is as produced, and no longer after compaction.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.record_count > 0 && self.last_offset_delta == self.record_count - 1
    }

    /// The records in their order; the iterator ends after the first error.
    ///
    /// Gives one error if they are [compressed](RecordError::Compressed), and one if bytes are left behind the last.
    pub fn records(&self) -> RecordIter<'a> {
        let codec = self.codec();
        RecordIter {
            compressed: (codec != 0).then_some(codec),
            log_append_time: (self.attributes & LOG_APPEND_TIME != 0).then_some(self.max_timestamp),
            ..RecordIter::plain(self.records, self.record_count, self.base_timestamp)
        }
    }

    fn codec(&self) -> u8 {
        (self.attributes & COMPRESSION) as u8
    }
}

/// A record of a batch.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Its offset less the batch's base offset.
    pub offset_delta: i32,
    /// Its time in milliseconds, or the log append time if the batch has one.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value, or `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The records of a batch, read one by one.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    index: i32,
    count: i32,
    done: bool,
    base_timestamp: i64,
    log_append_time: Option<i64>,
    compressed: Option<u8>,
}

impl<'a> RecordIter<'a> {
    pub(super) fn plain(records: &'a [u8], count: i32, base_timestamp: i64) -> Self {
        Self { rest: records, index: 0, count, done: false, base_timestamp, log_append_time: None, compressed: None }
    }

    fn take(&mut self) -> Result<Record<'a>, RecordError> {
        let mut body = take_body(&mut self.rest)?;
        let delta = take_varlong(&mut body, "record time")?;
        let offset_delta = take_varint(&mut body, "record offset")?;
        let timestamp = match self.log_append_time {
            Some(time) => time,
            None => self
                .base_timestamp
                .checked_add(delta)
                .ok_or(RecordError::Timestamp { base: self.base_timestamp, delta })?,
        };
        let Tail { key, value, headers } = Tail::read(body)?;
        Ok(Record { offset_delta, timestamp, key, value, headers })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if let Some(codec) = self.compressed {
            self.done = true;
            return Some(Err(RecordError::Compressed(codec)));
        }
        if self.index >= self.count {
            self.done = true;
            let bytes = self.rest.len();
            return (bytes > 0).then_some(Err(RecordError::Trailing { what: "record batch", bytes }));
        }
        let index = self.index;
        self.index += 1;
        let record = self.take();
        self.done = record.is_err();
        Some(record.map_err(|error| RecordError::InRecord { index, error: Box::new(error) }))
    }
}

/// Takes a record from the front of `bytes` and gives its body from the time on.
pub(super) fn take_body<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], RecordError> {
    let what = "record";
    let mut rest = *bytes;
    let length = take_varint(&mut rest, "record length")?;
    let implausible = || RecordError::Implausible { what: "record length", value: length };
    let needed = usize::try_from(length).map_err(|_| implausible())?;
    if needed > rest.len() {
        return Err(RecordError::Truncated { what, needed, available: rest.len() });
    }
    let (body, rest) = rest.split_at(needed);
    // The first byte is a record's attributes, of which Kafka uses none.
    let (_, body) = body.split_first().ok_or_else(implausible)?;
    *bytes = rest;
    Ok(body)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::{Sample, any_samples, encode};
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records as oracle;
    use proptest::prelude::*;

    fn bytes() -> Vec<u8> {
        encode(&[Sample::at(5).key("k").value("v").header("h", Some("1")), Sample::at(6).value("w")])
    }

    /// The batch with other bytes somewhere, and a checksum that agrees.
    fn with(mut bytes: Vec<u8>, at: usize, other: &[u8]) -> Vec<u8> {
        bytes[at..at + other.len()].copy_from_slice(other);
        let crc = crc32c::crc32c(&bytes[CRC_START..]);
        bytes[CRC_AT..CRC_START].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn first_error(bytes: &[u8]) -> Option<RecordError> {
        let (batch, _) = RecordBatch::read(bytes).unwrap();
        let mut records = batch.records();
        let error = records.find_map(Result::err);
        assert!(records.next().is_none(), "nothing comes after an error");
        error
    }

    #[test]
    fn batches_stand_one_behind_the_other() {
        let two = [bytes(), encode(&[Sample::at(9)])].concat();
        let (first, rest) = RecordBatch::read(&two).unwrap();
        let (second, rest) = RecordBatch::read(rest).unwrap();
        assert_eq!((first.record_count, second.record_count), (2, 1));
        assert!(rest.is_empty());
    }

    #[test]
    fn truncated() {
        let bytes = bytes();
        for len in 0..bytes.len() {
            let error = RecordBatch::read(&bytes[..len]).unwrap_err();
            assert!(matches!(error, RecordError::Truncated { .. }), "{len} bytes: {error}");
        }
    }

    #[test]
    fn a_cut_in_the_records_is_found_under_a_good_length_and_checksum() {
        let whole = bytes();
        for len in HEADER_LEN..whole.len() {
            let length = (len - BEFORE_LENGTH_END) as i32;
            let cut = with(whole[..len].to_vec(), 8, &length.to_be_bytes());
            let broken =
                RecordBatch::read(&cut).map_or(true, |(batch, _)| batch.records().any(|record| record.is_err()));
            assert!(broken, "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = bytes();
        // The checksum covers what stands behind it; offset and leader epoch are the broker's.
        for at in CRC_AT..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(matches!(RecordBatch::read(&bad), Err(RecordError::Checksum { .. })), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn hostile_length() {
        let read = |at, value: i32| RecordBatch::read(&with(bytes(), at, &value.to_be_bytes())).unwrap_err();
        for value in [i32::MIN, -1, 0, 48] {
            assert_eq!(read(8, value), RecordError::Implausible { what: "record batch length", value });
        }
        assert!(matches!(read(8, 5000), RecordError::Truncated { available: 82, .. }));
        // 21 bytes of records have room for three.
        for value in [i32::MIN, -1, 4, 5000] {
            assert_eq!(read(57, value), RecordError::Implausible { what: "record count", value });
        }
    }

    #[test]
    fn a_count_that_does_not_agree_with_the_records_is_found() {
        let fewer = with(bytes(), 57, &1_i32.to_be_bytes());
        assert_eq!(first_error(&fewer), Some(RecordError::Trailing { what: "record batch", bytes: 8 }));
        let more = with(bytes(), 57, &3_i32.to_be_bytes());
        let error = first_error(&more).unwrap();
        assert_eq!(error.to_string(), "record 2: record length is cut: 0 of 1 bytes are there");
    }

    #[test]
    fn a_broken_record_length_is_found() {
        let cases: [(&[u8], &str); 4] = [
            (&[0x00], "record 0: record length of 0 is impossible"),
            (&[0x01], "record 0: record length of -1 is impossible"),
            (&[0x7e], "record 0: record is cut: 20 of 63 bytes are there"),
            (&[0xff; 6], "record 0: record length is not a number of its type"),
        ];
        for (length, text) in cases {
            let error = first_error(&with(bytes(), HEADER_LEN, length)).unwrap();
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn a_time_out_of_range_is_an_error() {
        let late = with(bytes(), 27, &i64::MAX.to_be_bytes());
        let error = Box::new(RecordError::Timestamp { base: i64::MAX, delta: 1 });
        assert_eq!(first_error(&late), Some(RecordError::InRecord { index: 1, error }));
    }

    #[test]
    fn an_offset_or_a_sequence_at_the_end_of_its_numbers_is_read_as_it_is() {
        let far = with(with(bytes(), 0, &i64::MAX.to_be_bytes()), 53, &i32::MAX.to_be_bytes());
        let (batch, _) = RecordBatch::read(&far).unwrap();
        assert_eq!((batch.base_offset, batch.base_sequence), (i64::MAX, i32::MAX));
        let deltas: Vec<_> = batch.records().map(|record| record.unwrap().offset_delta).collect();
        assert_eq!(deltas, [0, 1], "the sum with the base offset is left to whoever needs it");
    }

    #[test]
    fn records_have_the_log_append_time_if_the_batch_has_one() {
        let appended = with(with(bytes(), 21, &LOG_APPEND_TIME.to_be_bytes()), 35, &77_i64.to_be_bytes());
        let (batch, _) = RecordBatch::read(&appended).unwrap();
        assert!(batch.records().all(|record| record.unwrap().timestamp == 77));
    }

    #[test]
    fn compressed_records_are_named_and_not_read() {
        for codec in 1..=7_u8 {
            // The count is of the records, which may be more than the compressed bytes.
            let bytes = with(with(bytes(), 21, &[0, codec]), 57, &1000_i32.to_be_bytes());
            assert_eq!(first_error(&bytes), Some(RecordError::Compressed(codec)));
        }
    }

    #[test]
    fn an_older_format_is_named() {
        for magic in [0_u8, 1, 3, 0xff] {
            assert_eq!(RecordBatch::read(&with(bytes(), MAGIC_AT, &[magic])), Err(RecordError::Magic(magic as i8)));
        }
    }

    #[test]
    fn a_compacted_batch_is_read_and_is_not_contiguous() {
        let bytes = with(bytes(), 23, &9_i32.to_be_bytes());
        let (batch, _) = RecordBatch::read(&bytes).unwrap();
        assert!(!batch.is_contiguous());
        assert_eq!(batch.records().filter_map(Result::ok).count(), 2);
    }

    #[test]
    fn empty() {
        // Compaction keeps an empty batch for the sequence of its producer.
        let length = (HEADER_LEN - BEFORE_LENGTH_END) as i32;
        let bytes = with(with(bytes()[..HEADER_LEN].to_vec(), 8, &length.to_be_bytes()), 57, &[0; 4]);
        let (batch, rest) = RecordBatch::read(&bytes).unwrap();
        assert!(rest.is_empty() && !batch.is_contiguous());
        assert_eq!(batch.records().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_records_are_read_or_refused(at in HEADER_LEN..82_usize, noise in prop::collection::vec(any::<u8>(), 1..24)) {
            let noise = &noise[..noise.len().min(82 - at)];
            let bytes = with(bytes(), at, noise);
            let (batch, _) = RecordBatch::read(&bytes).unwrap();
            for record in batch.records().filter_map(Result::ok) {
                prop_assert!(record.headers.len() <= 24);
                prop_assert!(record.headers.filter_map(Result::ok).count() <= 24);
            }
        }

        #[test]
        fn any_headers_are_read_or_refused(
            at in 0..HEADER_LEN,
            noise in prop_oneof![
                prop::collection::vec(any::<u8>(), 1..24),
                Just(i64::MAX.to_be_bytes().to_vec()),
                Just(i64::MIN.to_be_bytes().to_vec()),
                Just(vec![0xff; 8]),
            ],
        ) {
            let noise = &noise[..noise.len().min(82 - at)];
            if let Ok((batch, _)) = RecordBatch::read(&with(bytes(), at, noise)) {
                // 21 bytes of records have room for three.
                prop_assert!(batch.records().filter_map(Result::ok).count() <= 3);
            }
        }

        #[test]
        fn we_read_what_kafka_protocol_writes(samples in any_samples(0..1_i64 << 40)) {
            let records: Vec<_> = samples.iter().enumerate().map(|(at, sample)| record(at, sample)).collect();
            let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
            let mut bytes = BytesMut::new();
            oracle::RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();

            let (batch, rest) = RecordBatch::read(&bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert!(batch.is_contiguous());
            prop_assert_eq!((batch.base_offset, batch.partition_leader_epoch), (100, 3));
            prop_assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), (7, 2, 5));
            prop_assert_eq!(batch.max_timestamp, samples.iter().map(|sample| sample.time).max().unwrap());
            let read: Vec<_> = batch.records().map(|record| record.unwrap()).collect();
            prop_assert_eq!(read.len(), records.len());
            for (at, (ours, theirs)) in read.into_iter().zip(&records).enumerate() {
                prop_assert_eq!(ours.offset_delta, at as i32);
                prop_assert_eq!(ours.timestamp, theirs.timestamp);
                prop_assert_eq!(ours.key, theirs.key.as_deref());
                prop_assert_eq!(ours.value, theirs.value.as_deref());
                let headers = theirs.headers.iter().map(|(name, value)| Ok((&name[..], value.as_deref())));
                prop_assert!(ours.headers.eq(headers));
            }
        }
    }

    fn record(at: usize, sample: &Sample) -> oracle::Record {
        let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map(Bytes::from);
        oracle::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 3,
            producer_id: 7,
            producer_epoch: 2,
            timestamp_type: oracle::TimestampType::Creation,
            offset: 100 + at as i64,
            sequence: 5 + at as i32,
            timestamp: sample.time,
            key: bytes(&sample.key),
            value: bytes(&sample.value),
            headers: sample.headers.iter().map(|(name, value)| (name.clone().into(), bytes(value))).collect(),
        }
    }
}

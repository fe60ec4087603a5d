//! Puts records into a batch: the hot path of the producer's worker.
//!
//! The records of a batch are one buffer. Its header is apart, because a retry under a new epoch needs another header
//! and the same records. This file trusts the bytes that it reads, because it wrote them.

mod usual;

use std::fmt;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use super::batch_reader::{Record, RecordIter, take_body};
use super::checksum;
use super::layout::{BEFORE_LENGTH_END, CRC_AT, CRC_START, MAGIC_AT};
use super::tail;
use super::times::Times;
use super::varint::{put_varlong, take_varint, take_varlong, varint_len, varlong_len};

pub use self::usual::{Draft, MOST_AROUND};
pub use super::layout::HEADER_LEN;

const MAGIC: u8 = 2;
/// Numbers are put down in pieces of this size, of which only a part counts.
const PIECE: usize = 16;
/// The least growth of a batch behind its first record: most batches that wait for more records get it.
const LEAST_GROWTH: usize = 256;
/// No record has any: a byte of zeros, which is the number 0, too.
const NO_ATTRIBUTES: i64 = 0;

/// Bytes of the batch that holds only the record with a tail of this length, header included.
///
/// This is what `max_message_bytes` bounds.
#[inline]
#[must_use]
pub fn len_of_one(tail_len: usize) -> usize {
    HEADER_LEN + record_len(body_len(0, 0, tail_len))
}

/// A batch that takes records.
#[derive(Default)]
pub struct BatchBuilder {
    records: Vec<u8>,
    count: i32,
    times: Times,
    summed: Summed,
}

/// The checksum of the first `len` bytes of the records.
#[derive(Clone, Copy, Debug, Default)]
struct Summed {
    len: u32,
    sum: u32,
}

impl BatchBuilder {
    /// An empty batch, in the memory of `buffer`.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { records: buffer, ..Self::default() }
    }

    /// The number of records.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// The latest time of its records, in milliseconds.
    #[must_use]
    pub fn max_create_time(&self) -> i64 {
        self.times.max()
    }

    /// `true` if it has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Bytes of the batch after a record with this time and tail was appended.
    ///
    /// `None` if this batch cannot take it, however long it may become: its time is too far from the first
    /// record's for 64 bits, or the number of records or bytes would not fit 32.
    #[inline]
    #[must_use]
    pub fn len_with(&self, create_time: i64, tail_len: usize) -> Option<usize> {
        self.plan(create_time, tail_len).map(|plan| plan.len)
    }

    /// Appends a record: its time in milliseconds, and its [tail](super::tail).
    ///
    /// # Panics
    /// If [`len_with`](Self::len_with) is `None` for it.
    pub fn append(&mut self, create_time: i64, tail: &[u8]) {
        let plan = self.plan(create_time, tail.len()).expect("the caller asked len_with");
        self.append_planned(plan, tail);
    }

    /// As [`append`](Self::append), if the batch with it has at most `max` bytes, or if it is the first. Returns
    /// whether it was.
    #[inline]
    #[must_use = "what was not appended goes elsewhere"]
    pub fn append_within(&mut self, max: usize, create_time: i64, tail: &[u8]) -> bool {
        if self.append_usual_tail(max, create_time, tail).is_some() {
            return true;
        }
        let plan = self.plan(create_time, tail.len());
        let fitting = plan.filter(|plan| plan.len <= max || self.count == 0);
        fitting.map(|plan| self.append_planned(plan, tail)).is_some()
    }

    /// The plan of the record with this time and a tail of this length; `None` as for [`len_with`](Self::len_with).
    #[inline]
    #[must_use]
    pub fn plan(&self, create_time: i64, tail_len: usize) -> Option<Plan> {
        if self.takes_time(create_time) { self.plan_any_time(create_time, tail_len) } else { None }
    }

    /// As [`plan`](Self::plan), for a batch that is not sent as it is: the time may be any.
    #[inline]
    #[must_use]
    pub fn plan_any_time(&self, create_time: i64, tail_len: usize) -> Option<Plan> {
        let delta = if self.is_empty() { 0 } else { create_time.wrapping_sub(self.times.first()) };
        let body = body_len(delta, self.count, tail_len);
        let len = self.len().checked_add(record_len(body))?;
        (len <= i32::MAX as usize && self.count < i32::MAX).then_some(Plan { create_time, delta, body, len })
    }

    /// `true` if 64 bits hold the distance of this time to that of the first record.
    #[inline]
    #[must_use]
    pub fn takes_time(&self, create_time: i64) -> bool {
        self.is_empty() || create_time.checked_sub(self.times.first()).is_some()
    }

    /// Appends the record that was planned for this batch as it is; its tail is made of these parts.
    pub fn append_parts<'a>(
        &mut self,
        plan: Plan,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        self.put_head(plan);
        tail::put(&mut self.records, key, value, headers);
        self.count_in(plan);
    }

    #[inline]
    fn append_planned(&mut self, plan: Plan, tail: &[u8]) {
        self.put_head(plan);
        self.records.extend_from_slice(tail);
        self.count_in(plan);
    }

    /// Appends length, attributes, time and offset.
    fn put_head(&mut self, plan: Plan) {
        self.make_room(plan.len - self.len());
        for number in [plan.body as i64, NO_ATTRIBUTES, plan.delta, i64::from(self.count)] {
            put_varlong(&mut self.records, number);
        }
    }

    /// Takes memory for more bytes. It grows by a half: repeated doubling, in many batches at once, would leave as much
    /// unused as is used.
    fn make_room(&mut self, more: usize) {
        let (len, free) = (self.records.len(), self.records.capacity() - self.records.len());
        if free < more + PIECE {
            let least = if len == 0 { 0 } else { LEAST_GROWTH };
            self.records.reserve_exact((more + PIECE).max(len / 2).max(least));
        }
    }

    #[inline]
    fn count_in(&mut self, plan: Plan) {
        debug_assert_eq!(self.len(), plan.len, "it was planned for this batch");
        if self.count == 0 {
            self.times = Times::of_first(plan.create_time);
        }
        self.times.note(self.count as u32, plan.create_time);
        self.count += 1;
    }

    /// Computes the checksum of the records that are there, as long as they are in the caches.
    pub fn sum_up(&mut self) {
        let Summed { len, sum } = self.summed;
        let sum = crc32c::crc32c_append(sum, &self.records[len as usize..]);
        self.summed = Summed { len: self.records.len() as u32, sum };
    }

    /// Bytes of the batch, header included, up to which the checksum was computed.
    #[must_use]
    pub fn summed_len(&self) -> usize {
        HEADER_LEN + self.summed.len as usize
    }

    /// The time and the tail's position of the record that begins at `start`.
    ///
    /// # Panics
    /// If no record begins there.
    #[must_use]
    pub fn record_at(&self, start: usize) -> (i64, Range<usize>) {
        span(&self.records, start, self.times.first())
    }

    /// The records, encoded, without the header.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.records
    }

    /// Bytes that it can hold without taking more memory.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// Takes memory for a batch of `len` bytes, header included, and no more.
    pub fn grow_to(&mut self, len: usize) {
        // The header stays outside; that leaves room for the fixed piece that `append_parts` copies.
        self.records.reserve_exact(len.saturating_sub(self.records.len()));
    }

    /// `true` if it holds memory for far more than it has.
    #[must_use]
    pub fn is_wasteful(&self) -> bool {
        self.records.capacity() > self.records.len() + self.records.len() / 2 + LEAST_GROWTH
    }

    /// The same records in memory of their size, and the memory that they were in.
    #[must_use]
    pub fn fit(&mut self) -> Vec<u8> {
        let fitting = self.records.clone();
        mem::replace(&mut self.records, fitting)
    }

    /// Empties it for the next batch; the memory stays.
    pub fn clear(&mut self) {
        *self = Self::new(mem::take(&mut self.records));
    }

    /// Ends the batch.
    #[must_use]
    pub fn finish(self) -> Records {
        Records {
            bytes: Arc::new(self.records),
            count: self.count,
            times: self.times,
            attributes: 0,
            summed: self.summed,
        }
    }
}

/// The plan of the next record.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    create_time: i64,
    /// Distance of its time to the first record's.
    delta: i64,
    /// Bytes behind its length.
    body: usize,
    /// Bytes of the batch with it, header included.
    pub len: usize,
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder").field("count", &self.count).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The records of a finished batch, and what its header says of them.
#[derive(Clone)]
pub struct Records {
    bytes: Arc<Vec<u8>>,
    count: i32,
    times: Times,
    attributes: i16,
    summed: Summed,
}

impl Records {
    /// Bytes of the batch, header included.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a length in bytes; no empty batch is sent")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.bytes.len()
    }

    /// As many records, of which no byte is left: whoever reads them panics.
    #[cfg(test)]
    pub fn broken(&self) -> Self {
        Self { bytes: Arc::default(), ..self.clone() }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        HEADER_LEN + self.bytes.capacity()
    }

    /// The number of records.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// The latest time of its records, in milliseconds.
    #[must_use]
    pub fn max_create_time(&self) -> i64 {
        self.times.max()
    }

    /// The encoded records, without the header.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to be sent.
    #[must_use]
    pub fn shared(&self) -> Arc<Vec<u8>> {
        Arc::clone(&self.bytes)
    }

    /// The time and the tail's position of the record that begins at `start`.
    ///
    /// # Panics
    /// If no record begins there.
    #[must_use]
    pub fn record_at(&self, start: usize) -> (i64, Range<usize>) {
        span(&self.bytes, start, self.times.first())
    }

    /// The header of the batch for this stamp.
    #[must_use]
    pub fn header(&self, stamp: Stamp) -> [u8; HEADER_LEN] {
        let length = (self.len() - BEFORE_LENGTH_END) as i32;
        let mut header = [0; HEADER_LEN];
        // The base offset at 0 stays 0: the leader assigns offsets.
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        header[MAGIC_AT] = MAGIC;
        header[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        header[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        header[27..35].copy_from_slice(&self.times.first().to_be_bytes());
        header[35..43].copy_from_slice(&self.times.max().to_be_bytes());
        header[43..51].copy_from_slice(&stamp.producer_id.to_be_bytes());
        header[51..53].copy_from_slice(&stamp.epoch.to_be_bytes());
        header[53..57].copy_from_slice(&stamp.base_sequence.to_be_bytes());
        header[57..61].copy_from_slice(&self.count.to_be_bytes());
        let (summed, rest) = self.bytes.split_at(self.summed.len as usize);
        let before = checksum::join(crc32c::crc32c(&header[CRC_START..]), self.summed.sum, summed.len());
        let crc = crc32c::crc32c_append(before, rest);
        header[CRC_AT..CRC_START].copy_from_slice(&crc.to_be_bytes());
        header
    }

    /// The records in their order, decoded. Their headers give no error.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        RecordIter::plain(&self.bytes, self.count, self.times.first())
            .map(|record| record.expect("append wrote every record whole"))
    }

    /// The times of the records, without them.
    #[must_use]
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// The time of every record in its order, in milliseconds, from the records; cheaper than [`iter`](Self::iter).
    pub fn create_times(&self) -> impl Iterator<Item = i64> {
        self.spans().map(|(time, _)| time)
    }

    /// The positions of the tails of all records, in order.
    pub fn tails(&self) -> impl Iterator<Item = Range<usize>> {
        self.spans().map(|(_, tail)| tail)
    }

    fn spans(&self) -> impl Iterator<Item = (i64, Range<usize>)> {
        let mut at = 0;
        (0..self.count).map(move |_| {
            let (time, tail) = span(&self.bytes, at, self.times.first());
            at = tail.end;
            (time, tail)
        })
    }

    /// The times of the records, and the memory for the next batch, if nobody else holds the records any more.
    #[must_use]
    pub fn into_times(self) -> (Times, Option<Vec<u8>>) {
        (self.times, Arc::into_inner(self.bytes))
    }

    /// The memory for the next batch, if nobody else holds the records any more.
    #[must_use]
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        Arc::into_inner(self.bytes)
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("count", &self.count).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The producer of a batch, and the position of the batch among that producer's: the broker finds repeats by it
/// (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The producer id, or -1.
    pub producer_id: i64,
    /// The epoch of the producer id, or -1.
    pub epoch: i16,
    /// The sequence of the first record, or -1.
    pub base_sequence: i32,
}

impl Stamp {
    /// The stamp of a producer that is not idempotent.
    pub const NONE: Self = Self { producer_id: -1, epoch: -1, base_sequence: -1 };
}

/// The time and the tail's position of the record that begins at `start`.
fn span(records: &[u8], start: usize, base_timestamp: i64) -> (i64, Range<usize>) {
    const WHOLE: &str = "append wrote every record whole";
    let mut rest = &records[start..];
    let mut body = take_body(&mut rest).expect(WHOLE);
    let end = records.len() - rest.len();
    let delta = take_varlong(&mut body, "record time").expect(WHOLE);
    take_varint(&mut body, "record offset").expect(WHOLE);
    (base_timestamp.wrapping_add(delta), end - body.len()..end)
}

// Attributes, time, offset, tail.
#[inline]
fn body_len(delta: i64, count: i32, tail_len: usize) -> usize {
    (1 + varlong_len(delta) + varint_len(count)).saturating_add(tail_len)
}

#[inline]
fn record_len(body_len: usize) -> usize {
    varlong_len(i64::try_from(body_len).unwrap_or(i64::MAX)).saturating_add(body_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch_reader::RecordBatch;
    use crate::record::samples::{Sample, any_samples, encode, finish};
    use bytes::Bytes;
    use kafka_protocol::records::RecordBatchDecoder;
    use proptest::prelude::*;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    #[test]
    fn a_batch_has_these_bytes() {
        let first = Sample::at(1000).key("k").value("v").header("h", Some("1")).header("h", None);
        let second = Sample::at(998).value("");
        let bytes = encode(&[first, second]);
        #[rustfmt::skip]
        let golden = [
            0, 0, 0, 0, 0, 0, 0, 0,             // base offset
            0, 0, 0, 72,                        // bytes from here
            0xff, 0xff, 0xff, 0xff,             // partition leader epoch
            2,                                  // magic
            0xb9, 0xa7, 0x87, 0xf9,             // CRC-32C of the rest
            0, 0,                               // attributes
            0, 0, 0, 1,                         // last offset delta
            0, 0, 0, 0, 0, 0, 0x03, 0xe8,       // base timestamp
            0, 0, 0, 0, 0, 0, 0x03, 0xe8,       // max timestamp
            0, 0, 0, 0, 0, 0, 0, 7,             // producer id
            0, 2,                               // producer epoch
            0, 0, 0, 5,                         // base sequence
            0, 0, 0, 2,                         // records
            30, 0, 0, 0, 2, b'k', 2, b'v', 4, 2, b'h', 2, b'1', 2, b'h', 1,
            12, 0, 3, 2, 1, 0, 0,
        ];
        assert_eq!(bytes, golden);
    }

    #[test]
    fn empty() {
        let batch = BatchBuilder::new(vec![1, 2, 3]);
        assert!(batch.is_empty());
        assert_eq!(batch.len(), HEADER_LEN);
        let records = batch.finish();
        assert_eq!((records.count(), records.len()), (0, HEADER_LEN));
        assert_eq!(records.iter().count(), 0);
        assert_eq!(records.create_times().count(), 0);
    }

    #[test]
    fn times_far_apart_share_a_batch() {
        let times = [0, 30 * DAY, -30 * DAY, i64::MAX, i64::MIN];
        let samples = times.map(Sample::at);
        let records = finish(&samples);
        assert_eq!(records.create_times().collect::<Vec<_>>(), times);
        assert_eq!(records.iter().map(|record| record.timestamp).collect::<Vec<_>>(), times);
        let bytes = encode(&samples);
        let (batch, _) = RecordBatch::read(&bytes).unwrap();
        assert_eq!((batch.base_timestamp, batch.max_timestamp), (0, i64::MAX));
    }

    #[test]
    fn a_batch_tells_which_time_it_cannot_take() {
        let mut batch = BatchBuilder::new(Vec::new());
        assert!(batch.len_with(i64::MIN, 3).is_some(), "the first time may be any");
        batch.append(1, &Sample::at(1).tail());
        assert_eq!(batch.len_with(i64::MIN, 3), None);
        assert!(batch.len_with(i64::MIN + 1, 3).is_some());
        assert!(batch.len_with(i64::MAX, 3).is_some());
    }

    #[test]
    #[should_panic(expected = "asked len_with")]
    fn append_refuses_what_does_not_fit() {
        let mut batch = BatchBuilder::new(Vec::new());
        batch.append(1, &Sample::at(1).tail());
        batch.append(i64::MIN, &Sample::at(1).tail());
    }

    #[test]
    fn hostile_length() {
        let batch = BatchBuilder::new(Vec::new());
        let most = i32::MAX as usize - len_of_one(0);
        assert_eq!(batch.len_with(0, most + 5), None, "the lengths of batch and record have 32 bits");
        assert!(batch.len_with(0, most - 5).is_some());
        assert_eq!(batch.len_with(0, usize::MAX), None);
        let full = BatchBuilder { count: i32::MAX, ..BatchBuilder::new(Vec::new()) };
        assert_eq!(full.len_with(-1, 3), None, "the count has 32 bits");
    }

    #[test]
    fn len_of_one_is_the_length_of_a_batch_with_one_record() {
        for value_len in [0, 1, 50, 60, 200, 8_180, 8_200, 1_048_570, 1_048_590] {
            let tail = Sample::at(5).value(&"v".repeat(value_len)).tail();
            let mut batch = BatchBuilder::new(Vec::new());
            batch.append(5, &tail);
            assert_eq!(batch.len(), len_of_one(tail.len()), "{value_len} bytes");
        }
    }

    #[test]
    fn another_stamp_changes_nothing_but_its_fields_and_the_checksum() {
        let records = finish(&[Sample::at(5).key("k").value("v")]);
        let header = records.header(Stamp::NONE);
        let other = records.header(Stamp { producer_id: i64::MAX, epoch: i16::MAX, base_sequence: i32::MAX });
        assert_eq!(header[43..57], [0xff; 14]);
        for (at, (left, right)) in header.iter().zip(&other).enumerate() {
            assert!(left == right || (CRC_AT..CRC_START).contains(&at) || (43..57).contains(&at), "byte {at}");
        }
        let bytes = [&other[..], &records.shared()].concat();
        let (batch, rest) = RecordBatch::read(&bytes).unwrap();
        assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), (i64::MAX, i16::MAX, i32::MAX));
        assert!(rest.is_empty());
    }

    #[test]
    fn the_buffer_comes_back_when_nobody_shares_it() {
        let mut batch = BatchBuilder::new(Vec::with_capacity(4096));
        batch.append(0, &Sample::at(0).tail());
        let buffer = batch.finish().into_buffer().unwrap();
        assert_eq!(buffer.capacity(), 4096);
        let mut batch = BatchBuilder::new(buffer);
        assert!(batch.is_empty());
        batch.append(0, &Sample::at(0).tail());
        let records = batch.finish();
        let shared = records.shared();
        assert!(records.into_buffer().is_none());
        assert!(!shared.is_empty());
    }

    #[test]
    fn debug_shows_no_payload() {
        let records = finish(&[Sample::at(5).key("k").value("v")]);
        assert_eq!(format!("{records:?}"), "Records { count: 1, len: 70, .. }");
    }

    proptest! {
        #[test]
        fn checksums_computed_on_the_way_change_no_byte(samples in any_samples(0..DAY), on_the_way in any::<u128>()) {
            let mut batch = BatchBuilder::default();
            for (at, sample) in samples.iter().enumerate() {
                batch.append(sample.time, &sample.tail());
                if on_the_way >> at & 1 == 1 {
                    batch.sum_up();
                    prop_assert_eq!(batch.summed_len(), batch.len());
                }
            }
            prop_assert_eq!(batch.finish().header(Stamp::NONE), finish(&samples).header(Stamp::NONE));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn round_trip(samples in any_samples(-(1_i64 << 61)..1 << 61)) {
            let records = finish(&samples);
            prop_assert_eq!(records.iter().map(Sample::read).collect::<Vec<_>>(), &samples[..]);
            let times: Vec<_> = samples.iter().map(|sample| sample.time).collect();
            prop_assert_eq!(records.create_times().collect::<Vec<_>>(), &times[..]);
            if records.times().is_complete() {
                let runs = records.times().runs(records.count());
                prop_assert_eq!(runs.flat_map(|(run, time)| run.map(move |_| time)).collect::<Vec<_>>(), times);
            }

            let bytes = encode(&samples);
            prop_assert_eq!(bytes.len(), records.len());
            let (batch, rest) = RecordBatch::read(&bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert!(batch.is_contiguous());
            prop_assert_eq!(batch.record_count as u32, records.count());
            let read: Vec<_> = batch.records().map(|record| record.unwrap()).collect();
            prop_assert!(read.iter().enumerate().all(|(at, record)| record.offset_delta == at as i32));
            prop_assert_eq!(read.into_iter().map(Sample::read).collect::<Vec<_>>(), samples);
        }

        #[test]
        fn the_length_is_known_before(samples in any_samples(any::<i64>())) {
            let mut batch = BatchBuilder::new(Vec::new());
            for sample in &samples {
                let tail = sample.tail();
                if let Some(len) = batch.len_with(sample.time, tail.len()) {
                    batch.append(sample.time, &tail);
                    prop_assert_eq!(batch.len(), len);
                }
            }
            prop_assert!(batch.count() > 0);
        }

        #[test]
        fn kafka_protocol_reads_what_we_write(mut samples in any_samples(0..30 * DAY)) {
            for sample in &mut samples {
                // It keeps headers in a map: one value per name.
                sample.headers.sort();
                sample.headers.dedup_by(|left, right| left.0 == right.0);
            }
            let mut bytes = Bytes::from(encode(&samples));
            let decoded = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(decoded.len(), samples.len());
            for (at, (record, sample)) in decoded.iter().zip(&samples).enumerate() {
                prop_assert_eq!(record.offset, at as i64);
                prop_assert_eq!(record.sequence, 5 + at as i32);
                prop_assert_eq!((record.producer_id, record.producer_epoch), (7, 2));
                prop_assert_eq!(record.timestamp, sample.time);
                prop_assert_eq!(record.key.as_deref(), sample.key.as_deref());
                prop_assert_eq!(record.value.as_deref(), sample.value.as_deref());
                let headers = record.headers.iter().map(|(name, value)| (&name[..], value.as_deref()));
                prop_assert!(headers.eq(sample.header_slices()));
            }
        }
    }
}

//! Records of the usual kind, behind others in a batch: their numbers are short, and put together in registers. Other
//! records take the longer way of [`BatchBuilder::append_parts`], to the same bytes.

use super::{BatchBuilder, HEADER_LEN};
use crate::record::tail;
use crate::record::varint::Packed;

/// A record, with what can be computed before its batch is known. Its headers are apart.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Its time in milliseconds.
    pub create_time: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    key_len: Packed,
    value_len: Packed,
    /// Bytes of its tail.
    pub tail_len: usize,
}

impl<'a> Draft<'a> {
    /// The record with this time, key, value and headers.
    #[inline]
    pub fn new<'h>(
        create_time: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: impl ExactSizeIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Self {
        let len = |bytes: Option<&[u8]>| bytes.map_or(Packed::NULL, |bytes| Packed::long_length(bytes.len()));
        let (key_len, value_len) = (len(key), len(value));
        let headers = if headers.len() == 0 { 1 } else { tail::headers_len(headers) };
        let (key_bytes, value_bytes) = (key.map_or(0, <[u8]>::len), value.map_or(0, <[u8]>::len));
        let tail_len = key_len.len() + key_bytes + value_len.len() + value_bytes + headers;
        Self { create_time, key, value, key_len, value_len, tail_len }
    }
}

impl BatchBuilder {
    /// Appends a record of less than a mebibyte behind others, if it is a few seconds from the first and certainly
    /// within the first `room` bytes of the batch, for which there is memory. `None` if it is not, and nothing happened.
    // Always inlined: 351 instructions instead of 396, and 512 instead of 551 with keys.
    #[inline(always)]
    pub fn append_usual<'a>(
        &mut self,
        room: usize,
        record: &Draft<'_>,
        headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Option<()> {
        let (head, offset) = self.usual_head(room, record.create_time, record.tail_len)?;
        let out = &mut self.records;
        head.put(out);
        match record.key {
            None => offset.then(record.key_len).then(record.value_len).put(out),
            Some(key) => {
                offset.then(record.key_len).put(out);
                out.extend_from_slice(key);
                record.value_len.put(out);
            }
        }
        if let Some(value) = record.value {
            out.extend_from_slice(value);
        }
        if headers.len() == 0 {
            out.push(0);
        } else {
            tail::put_headers(out, headers);
        }
        self.count += 1;
        Some(())
    }

    /// As [`append_usual`](Self::append_usual), with a tail that was put together before.
    #[inline]
    pub(super) fn append_usual_tail(&mut self, most: usize, create_time: i64, tail: &[u8]) -> Option<()> {
        let (head, offset) = self.usual_head(most.min(self.capacity()), create_time, tail.len())?;
        let out = &mut self.records;
        head.put(out);
        offset.put(out);
        out.extend_from_slice(tail);
        self.count += 1;
        Some(())
    }

    /// Length, attributes and time of a record of the usual kind, which follows, and its offset. Notes its time.
    // Always inlined: 351 instructions instead of 370, and 512 instead of 537 with keys.
    #[inline(always)]
    fn usual_head(&mut self, room: usize, create_time: i64, tail_len: usize) -> Option<(Packed, Packed)> {
        if self.count == 0 || self.len() + MOST_HEAD + tail_len > room {
            return None;
        }
        let delta = Packed::number(create_time.checked_sub(self.times.first())?)?;
        let offset = Packed::length(self.count as usize)?;
        let body = Packed::ZERO.len() + delta.len() + offset.len() + tail_len;
        let head = Packed::length(body)?.then(Packed::ZERO).then(delta);
        // Nothing is in the way of the record any more. Its time need not be kept until its bytes are there.
        self.times.note(self.count as u32, create_time);
        Some((head, offset))
    }
}

/// Bytes of a record in front of its tail, at most.
const MOST_HEAD: usize = 5 + 1 + 10 + 5;
/// Bytes around a tail in a batch that holds only it, at most.
pub const MOST_AROUND: usize = HEADER_LEN + MOST_HEAD;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::samples::any_samples;

    proptest! {
        /// Times of seconds, days and more; sizes and memory as they come.
        #[test]
        fn it_is_the_bytes_of_the_longer_way(
            samples in any_samples(-(1_i64 << 61)..1 << 61),
            bits in 1..62_u32,
            room in 0..2000_usize,
            many in prop_oneof![Just(0), Just(100), Just(8191), Just(1 << 20)],
        ) {
            let (mut usual, mut longer) = (BatchBuilder::default(), BatchBuilder::default());
            usual.grow_to(room);
            for sample in &samples {
                let (time, headers) = (sample.time >> bits, || sample.header_slices());
                let (key, value) = (sample.key.as_deref(), sample.value.as_deref());
                let record = Draft::new(time, key, value, headers());
                let tail_len = tail::len_of(key, value, headers());
                prop_assert_eq!((record.tail_len, record.create_time), (tail_len, time));
                let plan = longer.plan(time, tail_len).expect("it fits");
                let before = (usual.count(), usual.len());
                if usual.append_usual(room.min(usual.capacity()), &record, headers()).is_none() {
                    prop_assert_eq!((usual.count(), usual.len()), before);
                    usual.append_parts(plan, key, value, headers());
                }
                longer.append_parts(plan, key, value, headers());
                // As if many were there already, whose offsets are longer.
                if longer.count() == 1 {
                    (usual.count, longer.count) = (usual.count + many, longer.count + many);
                }
                prop_assert_eq!(usual.bytes(), longer.bytes());
                prop_assert_eq!((usual.count, &usual.times), (longer.count, &longer.times));
            }
        }
    }

    #[test]
    fn most_records_are_usual() {
        let mut batch = BatchBuilder::default();
        batch.grow_to(1 << 20);
        batch.append(1_000, &[1, 1, 0]);
        let usual = |batch: &mut BatchBuilder, room: usize, time: i64, value: &[u8]| {
            let record = Draft::new(time, Some(b"key"), Some(value), std::iter::empty());
            batch.append_usual(room, &record, std::iter::empty())
        };
        let room = batch.capacity();
        for time in [1_000, 1_004, 500, 600_000] {
            assert!(usual(&mut batch, room, time, b"value").is_some(), "{time}");
        }
        assert!(usual(&mut batch, room, 1_000 + (1 << 20), b"value").is_none(), "17 minutes");
        assert!(usual(&mut batch, room, i64::MIN, b"value").is_none());
        assert!(usual(&mut batch, room, 1_000, &[0; 1 << 20]).is_none());
        let len = batch.len();
        assert!(usual(&mut batch, len + 30, 1_000, b"value").is_none(), "perhaps there is no room");
        assert!(usual(&mut batch, len + 40, 1_000, b"value").is_some());
        let mut empty = BatchBuilder::default();
        empty.grow_to(1000);
        assert!(usual(&mut empty, 1000, 0, b"value").is_none(), "it has no time to count from");
    }
}

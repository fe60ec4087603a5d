//! A cursor over the bytes of a message. It never reads past the end, and reserves memory only for what the bytes
//! that are left can hold. It knows whether the version is flexible (KIP-482), so that a decoder names each field once.

use std::time::Duration;

use super::{Api, WireError, WireErrorKind};

/// A text as it may stand in a log or on a terminal, whoever wrote it: without line breaks, escapes and the like, and
/// not too long. A host name, a cluster's id or a plain sentence stays as it is.
#[must_use]
pub fn shown(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len().min(MOST_SHOWN));
    for c in text.chars().take(MOST_SHOWN) {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out.into()
}

/// Characters of a broker's text that are kept.
const MOST_SHOWN: usize = 1000;

/// Reads the fields of a message from front to back. The name of each field goes into the error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// A reader of bare bytes; flexible versions have compact lengths and tagged fields.
    #[must_use]
    pub const fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { rest: bytes, flexible }
    }

    /// A reader of the body of a response frame: the header, whose correlation id begins the frame, is passed over.
    pub fn body(api: Api, version: i16, frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Self::new(frame, api.is_flexible(version));
        reader.i32("correlation_id")?;
        if api.has_tags_in_header(version) {
            reader.skip_tags("response header")?;
        }
        Ok(reader)
    }

    /// The number of bytes that are left.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes that are left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        match self.rest.split_at_checked(count) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => {
                Err(WireError { field, kind: WireErrorKind::Truncated { needed: count, remaining: self.rest.len() } })
            }
        }
    }

    fn array_of<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(field, N)?);
        Ok(array)
    }

    /// A signed number of one byte.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, WireError> {
        self.array_of(field).map(i8::from_be_bytes)
    }

    /// A signed number of two bytes.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, WireError> {
        self.array_of(field).map(i16::from_be_bytes)
    }

    /// A signed number of four bytes.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, WireError> {
        self.array_of(field).map(i32::from_be_bytes)
    }

    /// A signed number of eight bytes.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, WireError> {
        self.array_of(field).map(i64::from_be_bytes)
    }

    /// A boolean: any byte but 0 is true, as in Kafka.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, WireError> {
        self.i8(field).map(|byte| byte != 0)
    }

    /// A UUID, or `None` for the one of zeros, which means that there is none.
    pub fn uuid(&mut self, field: &'static str) -> Result<Option<[u8; 16]>, WireError> {
        self.array_of(field).map(|id: [u8; 16]| (id != [0; 16]).then_some(id))
    }

    /// A time in milliseconds; below zero counts as zero.
    pub fn millis(&mut self, field: &'static str) -> Result<Duration, WireError> {
        self.i32(field).map(millis)
    }

    /// An unsigned number of variable length, at most 32 bits in at most five bytes.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, WireError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of(field)?;
            // The fifth byte has room for four bits, and none may follow.
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError { field, kind: WireErrorKind::BadVarint })
    }

    /// A text that may not be null.
    pub fn string(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        self.nullable_string(field)?.ok_or(WireError { field, kind: WireErrorKind::Null })
    }

    /// A text that may be null.
    pub fn nullable_string(&mut self, field: &'static str) -> Result<Option<&'a str>, WireError> {
        let length = if self.flexible {
            self.unsigned_varint(field)?.checked_sub(1)
        } else {
            length(field, self.i16(field)?.into())?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let bytes = self.bytes(field, length as usize)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(WireError { field, kind: WireErrorKind::BadUtf8 }),
        }
    }

    /// Bytes that may be null.
    pub fn nullable_bytes(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        match self.nullable_length(field)? {
            Some(length) => self.bytes(field, length as usize).map(Some),
            None => Ok(None),
        }
    }

    /// A text that may be null, and that people may see: as [`shown`] makes it.
    pub fn nullable_words(&mut self, field: &'static str) -> Result<Option<Box<str>>, WireError> {
        Ok(self.nullable_string(field)?.map(shown))
    }

    /// The number of elements of an array that may not be null, each of which takes at least `element` bytes.
    ///
    /// Never more than fit into the bytes that are left.
    pub fn count(&mut self, field: &'static str, element: usize) -> Result<usize, WireError> {
        self.nullable_count(field, element)?.ok_or(WireError { field, kind: WireErrorKind::Null })
    }

    /// The same for an array that may be null.
    pub fn nullable_count(&mut self, field: &'static str, element: usize) -> Result<Option<usize>, WireError> {
        let Some(count) = self.nullable_length(field)? else { return Ok(None) };
        if count as usize > self.rest.len() / element {
            let kind = WireErrorKind::CountTooLarge { count, remaining: self.rest.len() };
            return Err(WireError { field, kind });
        }
        Ok(Some(count as usize))
    }

    fn nullable_length(&mut self, field: &'static str) -> Result<Option<u32>, WireError> {
        if self.flexible {
            self.unsigned_varint(field).map(|length| length.checked_sub(1))
        } else {
            length(field, self.i32(field)?)
        }
    }

    /// An array that may not be null; `element` is the fewest bytes that an element takes in any version.
    ///
    /// An element for which `read` gives `None` is left out.
    pub fn array<T>(
        &mut self,
        field: &'static str,
        element: usize,
        mut read: impl FnMut(&mut Self) -> Result<Option<T>, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count(field, element)?;
        let mut elements = Vec::with_capacity(count);
        #[cfg(test)]
        reserved::add(count * size_of::<T>());
        for _ in 0..count {
            elements.extend(read(self)?);
        }
        Ok(elements)
    }

    /// Passes over an array of elements of `element` bytes each.
    pub fn skip_array(&mut self, field: &'static str, element: usize) -> Result<(), WireError> {
        let count = self.count(field, element)?;
        self.bytes(field, count * element).map(|_| ())
    }

    /// The tagged fields that end a structure, if the version has them: `read` gets each tag and a reader of its bytes
    /// alone. Bytes that it does not read are passed over.
    pub fn tags(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(u32, &mut Self) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint(field)? {
            let tag = self.unsigned_varint(field)?;
            let size = self.unsigned_varint(field)?;
            read(tag, &mut Self::new(self.bytes(field, size as usize)?, true))?;
        }
        Ok(())
    }

    /// Passes over the tagged fields that end a structure, if the version has them.
    pub fn skip_tags(&mut self, field: &'static str) -> Result<(), WireError> {
        self.tags(field, |_, _| Ok(()))
    }
}

/// A time in milliseconds; below zero counts as zero.
pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// A length from the wire, or `None` for null.
fn length(field: &'static str, length: i32) -> Result<Option<u32>, WireError> {
    match length {
        -1 => Ok(None),
        _ => match u32::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(WireError { field, kind: WireErrorKind::NegativeLength(length) }),
        },
    }
}

/// The number of bytes that arrays have reserved on this thread, so that tests can hold decoders to a bound.
#[cfg(test)]
pub(super) mod reserved {
    use std::cell::Cell;

    thread_local!(static BYTES: Cell<usize> = const { Cell::new(0) });

    pub(super) fn add(bytes: usize) {
        BYTES.set(BYTES.get() + bytes);
    }

    /// The bytes since the last call.
    pub(in crate::wire) fn take() -> usize {
        BYTES.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::put_varint;
    use super::*;

    fn classic(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, false)
    }

    fn flexible(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, true)
    }

    fn error<T>(kind: WireErrorKind) -> Result<T, WireError> {
        Err(WireError { field: "f", kind })
    }

    #[test]
    fn numbers_are_read_from_front_to_back() {
        let mut reader = classic(&[0x80, 0x80, 1, 0x80, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 3, 0, 9]);
        assert_eq!(reader.i8("f"), Ok(-128));
        assert_eq!(reader.i16("f"), Ok(-32767));
        assert_eq!(reader.i32("f"), Ok(i32::MIN + 2));
        assert_eq!(reader.i64("f"), Ok(i64::MIN + 3));
        assert_eq!((reader.bool("f"), reader.bool("f")), (Ok(false), Ok(true)));
        assert_eq!(reader.remaining(), 0);
        assert_eq!(reader.i16("f"), error(WireErrorKind::Truncated { needed: 2, remaining: 0 }));
    }

    #[test]
    fn what_fails_names_the_field() {
        let error = classic(&[1, 2, 3]).i32("leader_epoch").unwrap_err();
        assert_eq!(error.to_string(), "leader_epoch is cut off: it needs 4 bytes, 3 are left");
        let error = classic(&[0x7f, 0xff, 0xff, 0xff]).count("brokers", 10).unwrap_err();
        assert_eq!(error.to_string(), "brokers claims 2147483647 elements in 0 bytes");
    }

    #[test]
    fn varints_are_read_up_to_32_bits() {
        let read = |bytes: &[u8]| classic(bytes).unsigned_varint("f");
        assert_eq!(read(&[0]), Ok(0));
        assert_eq!(read(&[0xac, 0x02]), Ok(300));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), error(WireErrorKind::BadVarint));
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), error(WireErrorKind::BadVarint));
        assert_eq!(read(&[0xff, 0xff]), error(WireErrorKind::Truncated { needed: 1, remaining: 0 }));
    }

    proptest! {
        #[test]
        fn varints_round_trip_in_the_fewest_bytes(value: u32) {
            // Small values are as likely as large ones.
            for value in [value, value >> 4, value >> 11, value >> 18, value >> 25] {
                let mut ours = Vec::new();
                put_varint(&mut ours, value);
                let bits = 32 - value.leading_zeros() as usize;
                prop_assert_eq!(ours.len(), bits.max(1).div_ceil(7));
                let mut reader = classic(&ours);
                prop_assert_eq!(reader.unsigned_varint("f"), Ok(value));
                prop_assert_eq!(reader.remaining(), 0);
            }
        }
    }

    #[test]
    fn strings_are_read_in_both_forms() {
        assert_eq!(classic(&[0, 2, b'h', b'i', 9]).string("f"), Ok("hi"));
        assert_eq!(flexible(&[3, b'h', b'i', 9]).string("f"), Ok("hi"));
        assert_eq!(classic(&[0, 0]).nullable_string("f"), Ok(Some("")));
        assert_eq!(flexible(&[1]).nullable_string("f"), Ok(Some("")));
        assert_eq!(classic(&[0xff, 0xff]).nullable_string("f"), Ok(None));
        assert_eq!(flexible(&[0]).nullable_string("f"), Ok(None));
    }

    #[test]
    fn bad_strings_are_refused() {
        assert_eq!(classic(&[0xff, 0xff]).string("f"), error(WireErrorKind::Null));
        assert_eq!(flexible(&[0]).string("f"), error(WireErrorKind::Null));
        assert_eq!(classic(&[0xff, 0xfe]).string("f"), error(WireErrorKind::NegativeLength(-2)));
        assert_eq!(classic(&[0, 2, 0xc3, 0x28]).string("f"), error(WireErrorKind::BadUtf8));
        let kind = WireErrorKind::Truncated { needed: 32767, remaining: 1 };
        assert_eq!(classic(&[0x7f, 0xff, 1]).string("f"), error(kind));
        let kind = WireErrorKind::Truncated { needed: 5000, remaining: 1 };
        assert_eq!(flexible(&[0x89, 0x27, 1]).string("f"), error(kind));
    }

    #[test]
    fn arrays_hold_no_more_than_fits() {
        let two = |reader: &mut Reader<'_>| reader.array("f", 2, |reader| reader.i16("f").map(Some));
        assert_eq!(two(&mut classic(&[0, 0, 0, 2, 0, 1, 0, 2])), Ok(vec![1, 2]));
        assert_eq!(two(&mut flexible(&[3, 0, 1, 0, 2])), Ok(vec![1, 2]));
        assert_eq!(two(&mut flexible(&[1])), Ok(vec![]));
        let kind = WireErrorKind::CountTooLarge { count: 2, remaining: 3 };
        assert_eq!(two(&mut classic(&[0, 0, 0, 2, 0, 1, 0])), error(kind));
        assert_eq!(two(&mut classic(&[0xff; 4])), error(WireErrorKind::Null));
        assert_eq!(two(&mut flexible(&[0])), error(WireErrorKind::Null));
        assert_eq!(two(&mut classic(&[0x80, 0, 0, 0])), error(WireErrorKind::NegativeLength(i32::MIN)));
    }

    #[test]
    fn an_array_that_is_passed_over_is_checked_too() {
        let mut reader = flexible(&[3, 0, 0, 0, 1, 0, 0, 0, 2, 9]);
        assert_eq!(reader.skip_array("f", 4), Ok(()));
        assert_eq!(reader.rest(), [9]);
        let kind = WireErrorKind::CountTooLarge { count: 5000, remaining: 0 };
        assert_eq!(flexible(&[0x89, 0x27]).skip_array("f", 4), error(kind));
    }

    #[test]
    fn tags_are_read_each_within_its_size() {
        // Tags 0, 5 and 300 of 2, 3 and 0 bytes.
        let bytes = [3, 0, 2, 0, 7, 5, 3, 1, 2, 3, 0xac, 2, 0, 9];
        let mut seen = Vec::new();
        let mut reader = flexible(&bytes);
        let read = reader.tags("f", |tag, field| {
            seen.push((tag, field.remaining()));
            if tag == 0 { field.i16("f").map(|value| assert_eq!(value, 7)) } else { Ok(()) }
        });
        assert_eq!((read, seen, reader.rest()), (Ok(()), vec![(0, 2), (5, 3), (300, 0)], &[9][..]));

        let over = flexible(&bytes).tags("f", |_, field| field.i32("f").map(|_| ()));
        assert_eq!(over, error(WireErrorKind::Truncated { needed: 4, remaining: 2 }));
    }

    #[test]
    fn tags_exist_only_where_the_version_is_flexible() {
        let mut reader = classic(&[9]);
        assert_eq!((reader.skip_tags("f"), reader.remaining()), (Ok(()), 1));
    }

    #[test]
    fn tags_with_big_sizes_and_counts_are_refused() {
        let big = flexible(&[1, 9, 0x88, 0x27, 1]).skip_tags("f");
        assert_eq!(big, error(WireErrorKind::Truncated { needed: 5000, remaining: 1 }));
        let many = flexible(&[0x88, 0x27, 9, 0]).skip_tags("f");
        assert_eq!(many, error(WireErrorKind::Truncated { needed: 1, remaining: 0 }));
    }

    #[test]
    fn ids_and_times_below_zero_mean_none() {
        assert_eq!(classic(&[0; 16]).uuid("f"), Ok(None));
        assert_eq!(classic(&[1; 16]).uuid("f"), Ok(Some([1; 16])));
        assert_eq!(classic(&[0xff; 4]).millis("f"), Ok(Duration::ZERO));
        assert_eq!(classic(&[0, 0, 1, 0]).millis("f"), Ok(Duration::from_millis(256)));
    }

    #[test]
    fn a_text_that_people_see_is_one_line_and_not_too_long() {
        for plain in ["kafka-1.example", "::1", "b\u{fc}cher.example", "Topic 'a_b' collides, \"a.b\" is there\\"] {
            assert_eq!(*shown(plain), *plain);
        }
        let forged = shown("b\n2026-01-01 ERROR all is lost\r\u{1b}[2J\u{202e}\u{2028}\0");
        assert_eq!(&*forged, "b\\n2026-01-01 ERROR all is lost\\r\\u{1b}[2J\\u{202e}\\u{2028}\\0");
        assert_eq!(shown(&"\u{1b}".repeat(30_000)).len(), 6 * 1000);
    }
}

//! The part of a record that does not depend on its batch: key, value and headers.
//!
//! A message is encoded into it once, when it is produced; from there on it is only copied.

use super::RecordError;
use super::varint::{put_varlong, take_varint, varlong_len};

// A name length and a value length, one byte each.
const MIN_HEADER: usize = 2;

/// Appends the tail of a record to `out`.
///
/// No length may exceed `i32::MAX`, or no reader takes it; the caller checks the size before.
pub fn put<'a>(
    out: &mut Vec<u8>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>,
) {
    put_bytes(out, key);
    put_bytes(out, value);
    put_headers(out, headers);
}

/// Appends the end of a tail.
pub(super) fn put_headers<'a>(out: &mut Vec<u8>, headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>) {
    put_varlong(out, headers.len() as i64);
    for (name, value) in headers {
        put_bytes(out, Some(name.as_bytes()));
        put_bytes(out, value);
    }
}

/// The number of bytes that [`put`] appends.
#[cfg(test)]
pub fn len_of<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> usize {
    bytes_len(key) + bytes_len(value) + headers_len(headers)
}

/// Bytes of the end of a tail.
pub(super) fn headers_len<'a>(headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>) -> usize {
    let count = varlong_len(headers.len() as i64);
    headers.fold(count, |len, (name, value)| len + bytes_len(Some(name.as_bytes())) + bytes_len(value))
}

/// The key in a tail that [`put`] wrote.
#[inline]
#[must_use]
pub fn key(tail: &[u8]) -> Option<&[u8]> {
    let mut rest = tail;
    take_bytes(&mut rest, "key").ok().flatten()
}

/// A tail that was read.
#[derive(Clone, Debug)]
pub struct Tail<'a> {
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value, or `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

impl<'a> Tail<'a> {
    /// Reads a tail, which has no other bytes behind it.
    ///
    /// # Errors
    /// Any [`RecordError`] about lengths, if the bytes are no tail.
    pub fn read(mut bytes: &'a [u8]) -> Result<Self, RecordError> {
        let key = take_bytes(&mut bytes, "key")?;
        let value = take_bytes(&mut bytes, "value")?;
        let headers = Headers::read(bytes)?;
        Ok(Self { key, value, headers })
    }
}

/// The headers of a record in their order: an iterator that reads them as it goes, and ends after an error.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Headers<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Self, RecordError> {
        let count = take_varint(&mut bytes, "header count")?;
        match usize::try_from(count) {
            Ok(0) if !bytes.is_empty() => Err(RecordError::Trailing { what: "record", bytes: bytes.len() }),
            Ok(left) if left <= bytes.len() / MIN_HEADER => Ok(Self { rest: bytes, left }),
            _ => Err(RecordError::Implausible { what: "header count", value: count }),
        }
    }

    /// The number of headers that are still to come, if none is broken.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn len(&self) -> usize {
        self.left
    }

    /// `true` if no header is to come.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn take(&mut self) -> Result<(&'a str, Option<&'a [u8]>), RecordError> {
        let name = take_bytes(&mut self.rest, "header name")?
            .ok_or(RecordError::Implausible { what: "header name length", value: -1 })?;
        let name = std::str::from_utf8(name).map_err(|_| RecordError::HeaderName)?;
        let value = take_bytes(&mut self.rest, "header value")?;
        if self.left == 1 && !self.rest.is_empty() {
            return Err(RecordError::Trailing { what: "record", bytes: self.rest.len() });
        }
        Ok((name, value))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<(&'a str, Option<&'a [u8]>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let header = self.take();
        self.left = if header.is_ok() { self.left - 1 } else { 0 };
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1), Some(self.left))
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varlong(out, -1),
    }
}

#[inline]
fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_len(bytes.len() as i64) + bytes.len())
}

#[inline]
fn take_bytes<'a>(bytes: &mut &'a [u8], what: &'static str) -> Result<Option<&'a [u8]>, RecordError> {
    let length = take_varint(bytes, what)?;
    if length == -1 {
        return Ok(None);
    }
    let needed = usize::try_from(length).map_err(|_| RecordError::Implausible { what, value: length })?;
    if needed > bytes.len() {
        return Err(RecordError::Truncated { what, needed, available: bytes.len() });
    }
    let (taken, rest) = bytes.split_at(needed);
    *bytes = rest;
    Ok(Some(taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::{Sample, any_samples};
    use proptest::prelude::*;

    #[test]
    fn empty() {
        let tail = Sample::at(0).tail();
        assert_eq!(tail, [0x01, 0x01, 0x00], "null key, null value, no header");
        assert_eq!(key(&tail), None);
        assert_eq!(key(&Sample::at(0).key("").tail()), Some(&[][..]));
        assert!(Tail::read(&tail).unwrap().headers.is_empty());
    }

    #[test]
    fn headers_keep_their_order_and_repeated_names() {
        let sample = Sample::at(0).header("b", Some("1")).header("a", None).header("b", Some("2"));
        let tail = sample.tail();
        let mut headers = Tail::read(&tail).unwrap().headers;
        assert_eq!(headers.len(), 3);
        assert_eq!(headers.next(), Some(Ok(("b", Some(&b"1"[..])))));
        assert_eq!(headers.next(), Some(Ok(("a", None))));
        assert_eq!(headers.next(), Some(Ok(("b", Some(&b"2"[..])))));
        assert_eq!(headers.next(), None);
    }

    #[test]
    fn truncated() {
        let tail = Sample::at(0).key("key").value("value").header("a", Some("1")).header("b", None).tail();
        for len in 0..tail.len() {
            let broken =
                Tail::read(&tail[..len]).map_or(true, |tail| tail.headers.clone().any(|header| header.is_err()));
            assert!(broken, "{len} bytes");
        }
    }

    #[test]
    fn hostile_length() {
        let read = |bytes: &[u8]| Tail::read(bytes).unwrap_err();
        // Zigzag: 0x03 is -2; 90 4e is 5,000.
        assert_eq!(read(&[0x03]), RecordError::Implausible { what: "key", value: -2 });
        let longest = RecordError::Truncated { what: "value", needed: 5000, available: 1 };
        assert_eq!(read(&[0x01, 0x90, 0x4e, 0x00]), longest);
        let most = RecordError::Implausible { what: "header count", value: 5000 };
        assert_eq!(read(&[0x01, 0x01, 0x90, 0x4e, 0x00, 0x01]), most);
        assert_eq!(read(&[0x01, 0x01, 0x01]), RecordError::Implausible { what: "header count", value: -1 });
        assert_eq!(read(&[0x01, 0x01, 0x00, 0x00]), RecordError::Trailing { what: "record", bytes: 1 });
    }

    #[test]
    fn a_broken_header_ends_the_headers() {
        let headers = |bytes| Tail::read(bytes).unwrap().headers.collect::<Vec<_>>();
        assert_eq!(headers(&[0x01, 0x01, 0x04, 0x02, 0xff, 0x01, 0x00, 0x01]), [Err(RecordError::HeaderName)]);
        let null_name = RecordError::Implausible { what: "header name length", value: -1 };
        assert_eq!(headers(&[0x01, 0x01, 0x04, 0x01, 0x01, 0x00, 0x01]), [Err(null_name)]);
        let trailing = RecordError::Trailing { what: "record", bytes: 1 };
        assert_eq!(headers(&[0x01, 0x01, 0x02, 0x00, 0x01, 0x00]), [Err(trailing)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn the_length_is_known_before(samples in any_samples(Just(0))) {
            for sample in &samples {
                let tail = sample.tail();
                let len = len_of(sample.key.as_deref(), sample.value.as_deref(), sample.header_slices());
                prop_assert_eq!(tail.len(), len);
                prop_assert_eq!(key(&tail), sample.key.as_deref());
            }
        }
    }
}

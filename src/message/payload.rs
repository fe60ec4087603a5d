//! The bytes of a message: [`Payload`], which borrows, owns or shares them.
//!
//! Making one copies nothing; only [`Payload::into_owned`] copies, and only borrowed bytes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes of a key, a value or a header, borrowed, owned or shared; making one copies nothing.
///
/// It is made from `&str`, `String`, `&String`, `&[u8]`, `&[u8; N]`, `Vec<u8>`, `&Vec<u8>`, `Arc<[u8]>` and
/// `bytes::Bytes`. Of these only `Bytes` takes a small allocation; `&bytes[..]` takes none.
///
/// ```
/// use ottla::Payload;
///
/// let payload = Payload::from(vec![1, 2, 3]);
/// assert_eq!(&payload[..], [1, 2, 3]);
/// assert_eq!(payload, Payload::from(&[1, 2, 3]));
/// ```
#[derive(Clone)]
pub struct Payload<'a>(Bits<'a>);

#[derive(Clone)]
enum Bits<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    /// In a box, because a `Bytes` has something in it that can change behind a shared reference. The compiler would
    /// not trust what it knows of a message once `produce` has seen it, and would copy and look at all of it again.
    Bytes(Box<Bytes>),
}

impl Payload<'_> {
    /// The same bytes, owned: borrowed ones are copied.
    #[must_use]
    pub fn into_owned(self) -> Payload<'static> {
        Payload(match self.0 {
            Bits::Borrowed(bytes) => Bits::Owned(bytes.to_vec()),
            Bits::Owned(bytes) => Bits::Owned(bytes),
            Bits::Shared(bytes) => Bits::Shared(bytes),
            Bits::Bytes(bytes) => Bits::Bytes(bytes),
        })
    }
}

impl Payload<'_> {
    #[inline]
    pub(super) fn is_borrowed(&self) -> bool {
        matches!(self.0, Bits::Borrowed(_))
    }

    #[inline(never)]
    fn not_borrowed(&self) -> &[u8] {
        match &self.0 {
            Bits::Borrowed(bytes) => bytes,
            Bits::Owned(bytes) => bytes,
            Bits::Shared(bytes) => bytes,
            Bits::Bytes(bytes) => bytes,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if let Bits::Borrowed(bytes) = self.0 { bytes } else { self.not_borrowed() }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Payload<'_> {}

impl AsRef<[u8]> for Payload<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Payload(Bits::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Payload(Bits::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Payload(Bits::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Payload(Bits::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Self {
        Payload(Bits::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Payload(Bits::Owned(bytes))
    }
}

impl From<String> for Payload<'_> {
    #[inline]
    fn from(text: String) -> Self {
        Payload(Bits::Owned(text.into_bytes()))
    }
}

impl From<Arc<[u8]>> for Payload<'_> {
    #[inline]
    fn from(bytes: Arc<[u8]>) -> Self {
        Payload(Bits::Shared(bytes))
    }
}

impl From<Bytes> for Payload<'_> {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Payload(Bits::Bytes(Box::new(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_bytes_is_a_payload() {
        let (text, bytes) = (String::from("abc"), b"abc".to_vec());
        let shared: Arc<[u8]> = Arc::from(&b"abc"[..]);
        for payload in [
            Payload::from("abc"),
            Payload::from(&text),
            Payload::from(text.clone()),
            Payload::from(b"abc"),
            Payload::from(&b"abc"[..]),
            Payload::from(&bytes),
            Payload::from(bytes.clone()),
            Payload::from(shared),
            Payload::from(Bytes::from_static(b"abc")),
        ] {
            assert_eq!(&*payload, b"abc");
            assert_eq!(payload.clone().into_owned(), payload);
            assert_eq!(format!("{payload:?}"), "b\"abc\"");
        }
    }
}

//! The headers of a message: a name, and a value that may be null.

use std::borrow::Cow;

use super::Payload;

/// A header of a message: a name, and a value that may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Option<Payload<'a>>,
}

impl Header<'_> {
    pub(crate) fn parts(&self) -> (&str, Option<&[u8]>) {
        (&self.name, self.value.as_deref())
    }

    pub(super) fn into_owned(self) -> Header<'static> {
        Header { name: Cow::Owned(self.name.into_owned()), value: self.value.map(Payload::into_owned) }
    }
}

/// The value of a header: bytes, or null. It is made from `None`, and from anything that a [`Payload`] is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValue<'a>(pub(super) Option<Payload<'a>>);

impl<'a, P: Into<Payload<'a>>> From<P> for HeaderValue<'a> {
    #[inline]
    fn from(payload: P) -> Self {
        Self(Some(payload.into()))
    }
}

impl<'a> From<Option<Payload<'a>>> for HeaderValue<'a> {
    #[inline]
    fn from(payload: Option<Payload<'a>>) -> Self {
        Self(payload)
    }
}

//! A request as bytes, and the number of the connection that it goes to.

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;

use super::WireError;
use super::reader::Reader;

/// One connection, numbered anew each time one is opened, so that what comes late for an old one is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// The number that a broker repeats in its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrelationId(pub i32);

/// A request on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The connection.
    pub conn: ConnId,
    /// Its number there.
    pub correlation: CorrelationId,
}

/// A request with its size in front: own bytes, with shared record bytes spliced in, so that no batch is copied.
#[derive(Clone, Default)]
pub struct Frame {
    own: Vec<u8>,
    #[cfg(feature = "sasl")]
    is_secret: bool,
    /// The position in `own` of each shared piece, ascending.
    splices: Vec<(usize, Arc<Vec<u8>>)>,
}

impl Frame {
    /// A frame of these bytes alone, which include the size.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn new(own: Vec<u8>) -> Self {
        Self::with_splices(own, Vec::new())
    }

    /// A frame with shared pieces; each position is where in `own` the piece comes, ascending.
    #[must_use]
    pub fn with_splices(own: Vec<u8>, splices: Vec<(usize, Arc<Vec<u8>>)>) -> Self {
        Self {
            own,
            #[cfg(feature = "sasl")]
            is_secret: false,
            splices,
        }
    }

    /// Its own bytes are wiped when it is dropped.
    #[cfg(feature = "sasl")]
    #[must_use]
    pub fn into_secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Writes the size of what follows it into the first four bytes.
    ///
    /// # Panics
    ///
    /// If the frame has no room for its size, or is 2 GiB or more.
    pub fn stamp_size(&mut self) {
        let size = i32::try_from(self.len() - 4).expect("a request is far below 2 GiB: batches are limited");
        self.own[..4].copy_from_slice(&size.to_be_bytes());
    }

    /// Bytes of the whole frame, the size field included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.splices.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// `true` if it has no bytes.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends what comes after the first `skip` bytes to `out`, as slices, until `out` holds `most`.
    pub fn slices<'a>(&'a self, mut skip: usize, out: &mut Vec<IoSlice<'a>>, most: usize) {
        let mut push = |bytes: &'a [u8]| {
            if skip >= bytes.len() {
                skip -= bytes.len();
            } else if out.len() < most {
                out.push(IoSlice::new(&bytes[skip..]));
                skip = 0;
            }
        };
        let mut from = 0;
        for (at, bytes) in &self.splices {
            push(&self.own[from..*at]);
            push(bytes);
            from = *at;
        }
        push(&self.own[from..]);
    }

    /// All bytes in one piece, for tests and small frames.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut slices = Vec::new();
        self.slices(0, &mut slices, usize::MAX);
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }
}

/// A frame may hold a password, and messages of a user.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.len())
    }
}

#[cfg(feature = "sasl")]
impl Drop for Frame {
    fn drop(&mut self) {
        if self.is_secret {
            zeroize::Zeroize::zeroize(&mut self.own);
        }
    }
}

/// The number of the request that a response answers; the frame is without its size.
pub fn correlation_of(frame: &[u8]) -> Result<CorrelationId, WireError> {
    Reader::new(frame, false).i32("correlation_id").map(CorrelationId)
}

#[cfg(test)]
mod tests {
    use super::super::WireErrorKind;
    use super::*;

    #[test]
    fn slices_begin_at_any_byte() {
        let shared = |text: &str| Arc::new(text.as_bytes().to_vec());
        let frame = Frame::with_splices(b"abefi".to_vec(), vec![(2, shared("cd")), (4, shared("gh")), (5, shared(""))]);
        assert_eq!(frame.len(), 9);
        for skip in 0..=9 {
            let mut slices = Vec::new();
            frame.slices(skip, &mut slices, usize::MAX);
            let seen: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(seen, b"abcdefghi"[skip..], "skip {skip}");
        }
    }

    #[test]
    fn no_more_slices_than_asked_for() {
        let frame = Frame::with_splices(b"ab".to_vec(), vec![(1, Arc::new(b"x".to_vec()))]);
        let mut slices = Vec::new();
        frame.slices(0, &mut slices, 2);
        assert_eq!(slices.iter().map(|slice| &**slice).collect::<Vec<_>>(), [b"a", b"x"]);
    }

    #[test]
    fn the_size_counts_what_follows_it() {
        let mut frame = Frame::with_splices(b"....ab".to_vec(), vec![(5, Arc::new(vec![b'x'; 300]))]);
        frame.stamp_size();
        assert_eq!(frame.to_vec()[..6], [0, 0, 1, 46, b'a', b'x']);
    }

    #[test]
    fn a_response_begins_with_the_number_of_its_request() {
        let frame = [0, 0, 1, 0, 99];
        assert_eq!(correlation_of(&frame), Ok(CorrelationId(256)));
        let kind = WireErrorKind::Truncated { needed: 4, remaining: 3 };
        assert_eq!(correlation_of(&frame[..3]), Err(WireError { field: "correlation_id", kind }));
    }
}

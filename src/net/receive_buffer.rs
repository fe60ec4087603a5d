//! Puts the responses of one connection together from the pieces that arrive. Pure: bytes in, whole responses out. A
//! size is checked before any memory is taken for it, and memory grows only with the bytes that have come.

use std::mem;

use crate::error::{ConnectionErrorKind, Speaks};

/// The unfinished response of one connection.
#[derive(Debug)]
pub struct ReceiveBuffer {
    limit: usize,
    /// `true` until one response was whole: only until then can the peer turn out not to be a Kafka broker.
    first: bool,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Size { bytes: [u8; SIZE_BYTES], have: usize },
    Body { bytes: Vec<u8>, size: usize },
}

impl ReceiveBuffer {
    /// A receive buffer for responses of up to `limit` bytes, their size field not counted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, first: true, part: Part::START }
    }

    /// Changes the limit, for the sizes read from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes from the front of `bytes` until a response is whole (it comes without its size field) or `bytes` is empty.
    ///
    /// # Errors
    /// The size cannot be or is above the limit, or the peer speaks another protocol. Nothing more can be read then.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, ConnectionErrorKind> {
        loop {
            match &mut self.part {
                Part::Size { bytes: field, have } => {
                    let piece = take(bytes, SIZE_BYTES - *have);
                    field[*have..*have + piece.len()].copy_from_slice(piece);
                    *have += piece.len();
                    if *have < SIZE_BYTES {
                        return Ok(None);
                    }
                    let field = *field;
                    let size = self.size(field)?;
                    self.part = Part::Body { bytes: Vec::with_capacity(size.min(FIRST_RESERVE_BYTES)), size };
                }
                Part::Body { bytes: body, size } => {
                    let piece = take(bytes, *size - body.len());
                    grow(body, piece.len(), *size);
                    body.extend_from_slice(piece);
                    if body.len() < *size {
                        return Ok(None);
                    }
                    let body = mem::take(body);
                    self.part = Part::START;
                    self.first = false;
                    return Ok(Some(body));
                }
            }
        }
    }

    fn size(&self, field: [u8; SIZE_BYTES]) -> Result<usize, ConnectionErrorKind> {
        let announced = i32::from_be_bytes(field);
        match usize::try_from(announced) {
            Ok(size) if (FEWEST_BYTES..=self.limit).contains(&size) => Ok(size),
            _ => Err(match other_protocol(field) {
                Some(speaks) if self.first => ConnectionErrorKind::NotKafka(speaks),
                _ => ConnectionErrorKind::BadSize { api: None, size: i64::from(announced), limit: self.limit },
            }),
        }
    }
}

impl Part {
    const START: Self = Self::Size { bytes: [0; SIZE_BYTES], have: 0 };
}

/// The other protocol that begins with these bytes. No size of a response is among them: each is above 300 MiB, or
/// below 4 bytes.
fn other_protocol(field: [u8; SIZE_BYTES]) -> Option<Speaks> {
    match &field {
        b"HTTP" => Some(Speaks::Http),
        b"SSH-" => Some(Speaks::Ssh),
        // Too short for the number of its request: zeros without end, for example.
        [0, 0, 0, short] if usize::from(*short) < FEWEST_BYTES => Some(Speaks::Unknown),
        // A TLS alert or handshake record; the second byte is the major version in all of TLS 1.0 to 1.3.
        [0x15 | 0x16, 0x03, ..] => Some(Speaks::Tls),
        _ => None,
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (piece, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    piece
}

/// Makes room for `more` bytes: at least doubles, so that small pieces are cheap, and never takes more than `size`.
fn grow(body: &mut Vec<u8>, more: usize, size: usize) {
    if body.capacity() - body.len() < more {
        let room = more.max(body.len()).min(size - body.len());
        body.reserve_exact(room);
    }
}

const SIZE_BYTES: usize = 4;

/// Bytes of the shortest response: the number of the request that it answers.
const FEWEST_BYTES: usize = 4;

/// Taken for a body before any of its bytes came.
const FIRST_RESERVE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    /// The responses that come out when `pieces` arrive one after the other.
    fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Result<(), ConnectionErrorKind>) {
        let mut receive_buffer = ReceiveBuffer::new(LIMIT);
        let mut bodies = Vec::new();
        for mut piece in pieces {
            loop {
                match receive_buffer.next(&mut piece) {
                    Ok(Some(body)) => bodies.push(body),
                    Ok(None) => break,
                    Err(kind) => return (bodies, Err(kind)),
                }
            }
            assert!(piece.is_empty(), "bytes were left behind");
        }
        (bodies, Ok(()))
    }

    fn response(body: &[u8]) -> Vec<u8> {
        let mut bytes = i32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn the_split_does_not_matter() {
        let bodies = vec![b"four".to_vec(), b"fives".to_vec(), b"seventh".to_vec()];
        let bytes: Vec<u8> = bodies.iter().flat_map(|body| response(body)).collect();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let (seen, result) = feed([&bytes[..first], &bytes[first..second], &bytes[second..]]);
                assert!(result.is_ok());
                assert_eq!(seen, bodies, "split at {first} and {second}");
            }
        }
        assert_eq!(feed(bytes.chunks(1)).0, bodies, "one byte per piece");
    }

    #[test]
    fn truncated() {
        let bytes = response(b"whole");
        for length in 0..bytes.len() {
            let (seen, result) = feed([&bytes[..length]]);
            assert!(seen.is_empty() && result.is_ok(), "{length} bytes are no response and no error");
        }
    }

    #[test]
    fn hostile_length() {
        let sizes = [-1, i32::MIN, 1001, 6000];
        for announced in sizes {
            let (_, result) = feed(announced.to_be_bytes().chunks(1));
            assert!(
                matches!(result, Err(ConnectionErrorKind::BadSize { size, limit: LIMIT, .. }) if size == i64::from(announced)),
                "{announced}: {result:?}"
            );
        }
        for announced in 0..4_i32 {
            let (seen, result) = feed([&*response(b"good"), &announced.to_be_bytes()]);
            let told = matches!(result, Err(ConnectionErrorKind::BadSize { size, .. }) if size == i64::from(announced));
            assert!(told && seen.len() == 1, "{announced}: {result:?}");
        }
        let (seen, result) = feed([&*response(&[7; LIMIT])]);
        assert!(result.is_ok());
        assert_eq!(seen, [[7; LIMIT]], "exactly the limit");
    }

    #[test]
    fn a_size_that_lies_takes_no_memory() {
        let mut receive_buffer = ReceiveBuffer::new(usize::MAX);
        let mut sent = 0;
        let mut pieces = vec![1_000_000_i32.to_be_bytes().to_vec()];
        pieces.resize(20, vec![0; 50_000]);
        for piece in pieces {
            sent += piece.len();
            assert!(receive_buffer.next(&mut &*piece).unwrap().is_none());
            let Part::Body { bytes, .. } = &receive_buffer.part else { panic!("not in the body") };
            assert!(bytes.capacity() <= FIRST_RESERVE_BYTES.max(2 * sent), "{} for {sent}", bytes.capacity());
        }
    }

    #[test]
    fn a_body_takes_no_more_memory_than_its_size() {
        let mut receive_buffer = ReceiveBuffer::new(usize::MAX);
        let size = 150_001;
        let bytes = response(&vec![1; size]);
        let mut body = None;
        for mut piece in bytes.chunks(1000) {
            body = receive_buffer.next(&mut piece).unwrap();
        }
        assert_eq!(body.unwrap().capacity(), size);
    }

    #[test]
    fn other_protocols_are_told_apart() {
        let cases: [(&[u8], Speaks); 9] = [
            (b"HTTP/1.1 400 Bad Request\r\n", Speaks::Http),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Speaks::Ssh),
            (&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46], Speaks::Tls),
            (&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46], Speaks::Tls),
            // The answer of Kafka's TLS listener to a plaintext client.
            (&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50], Speaks::Tls),
            (&[0; 40], Speaks::Unknown),
            (&[0, 0, 0, 3, 1, 2, 3], Speaks::Unknown),
            (&[0x16, 0x03, 0x03, 0x00, 0x7a], Speaks::Tls),
            (&[0x16, 0x03, 0x04, 0x00, 0x7a], Speaks::Tls),
        ];
        for (bytes, speaks) in cases {
            let (_, result) = feed(bytes.chunks(1));
            assert!(matches!(result, Err(ConnectionErrorKind::NotKafka(found)) if found == speaks), "{result:?}");
        }
    }

    #[test]
    fn a_broker_that_once_answered_speaks_kafka() {
        let (seen, result) = feed([&*response(b"okay"), b"HTTP"]);
        assert_eq!(seen, [b"okay"]);
        assert!(matches!(result, Err(ConnectionErrorKind::BadSize { size: 0x4854_5450, .. })), "{result:?}");
    }

    #[test]
    fn an_error_stays() {
        let mut receive_buffer = ReceiveBuffer::new(LIMIT);
        for _ in 0..3 {
            assert!(receive_buffer.next(&mut &b"HTTP/1.1"[..]).is_err());
        }
    }
}

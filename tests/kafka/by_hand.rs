//! Requests by hand, over a socket: encoded with kafka-protocol, with batches that may be wrong on purpose.
//!
//! Knows no answer that is right. `conformance` asks with it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Request, StrBytes, encode_request_header_into_buffer};

/// A connection to a broker, which is opened again when the broker has closed it.
pub struct Connection {
    address: String,
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub fn to(address: &str) -> Self {
        Self { address: address.to_owned(), stream: open(address), correlation: 0 }
    }

    /// The answer; `None` if the broker closes the connection in place of one.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.send(version, request);
        match self.receive::<R>(version) {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
                self.stream = open(&self.address);
                None
            }
        }
    }

    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("by hand")));
        let mut bytes = BytesMut::new();
        encode_request_header_into_buffer(&mut bytes, &header).expect("a header");
        request.encode(&mut bytes, body_version(R::KEY, version)).expect("a request");
        let size = i32::try_from(bytes.len()).expect("short");
        self.stream.write_all(&[&size.to_be_bytes(), &bytes[..]].concat()).expect("it takes requests");
    }

    /// Whether the broker closes the connection; a new one is opened then.
    pub fn is_closed(&mut self) -> bool {
        let closed = matches!(self.stream.read(&mut [0]), Ok(0));
        if closed {
            self.stream = open(&self.address);
        }
        closed
    }

    fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a size")];
        self.stream.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        let key = ApiKey::try_from(R::KEY).expect("it is one");
        let header = ResponseHeader::decode(&mut frame, key.response_header_version(version)).expect("a header");
        assert_eq!(header.correlation_id, self.correlation);
        Ok(R::Response::decode(&mut frame, body_version(R::KEY, version)).expect("an answer"))
    }
}

fn open(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker is up");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout that is not zero");
    stream
}

/// kafka-protocol knows no ListOffsets 11, which is 10 with one more time to ask for.
fn body_version(key: i16, version: i16) -> i16 {
    if key == ApiKey::ListOffsets as i16 { version.min(10) } else { version }
}

/// A record of a [`Batch`].
#[derive(Clone, Copy)]
pub struct Rec {
    pub key: Option<&'static str>,
    pub time: i64,
}

/// A batch as a producer makes it, or not.
pub struct Batch {
    records: Vec<Rec>,
    deltas: Vec<i32>,
    value_bytes: usize,
    producer: (i64, i16, i32),
}

impl Batch {
    /// So many records of this time, without keys.
    pub fn of(time: i64, count: usize) -> Self {
        Self::with_records(&vec![Rec { key: None, time }; count])
    }

    pub fn with_records(records: &[Rec]) -> Self {
        Self {
            records: records.to_vec(),
            deltas: (0..).take(records.len()).collect(),
            value_bytes: 5,
            producer: (-1, -1, -1),
        }
    }

    /// From this producer id, in this epoch, with this first sequence.
    pub fn from(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    /// The offsets of the records in the batch.
    pub fn deltas(mut self, deltas: &[i32]) -> Self {
        self.deltas = deltas.to_vec();
        self
    }

    pub fn values_of(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    /// With values so long that the batch has this many bytes or few less.
    pub fn grown_to(mut self, bytes: usize) -> Self {
        while self.bytes().len() < bytes {
            self.value_bytes += 1;
        }
        if self.bytes().len() > bytes {
            self.value_bytes -= 1;
        }
        self
    }

    /// The batch with these bytes at this place, and the checksum that goes with them.
    pub fn with(&self, at: usize, change: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes[at..at + change.len()].copy_from_slice(change);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub fn bytes(&self) -> Vec<u8> {
        let base = self.records[0].time;
        let latest = self.records.iter().map(|record| record.time).max().expect("there are records");
        let (id, epoch, sequence) = self.producer;
        let count = i32::try_from(self.records.len()).expect("few");
        let mut behind_crc = Vec::new();
        behind_crc.extend(0_i16.to_be_bytes());
        behind_crc.extend((count - 1).to_be_bytes());
        behind_crc.extend(base.to_be_bytes());
        behind_crc.extend(latest.to_be_bytes());
        behind_crc.extend(id.to_be_bytes());
        behind_crc.extend(epoch.to_be_bytes());
        behind_crc.extend(sequence.to_be_bytes());
        behind_crc.extend(count.to_be_bytes());
        for (record, delta) in self.records.iter().zip(&self.deltas) {
            let mut body = vec![0];
            body.extend(varint(record.time - base));
            body.extend(varint((*delta).into()));
            match record.key {
                Some(key) => {
                    body.extend(varint(key.len() as i64));
                    body.extend(key.bytes());
                }
                None => body.extend(varint(-1)),
            }
            body.extend(varint(self.value_bytes as i64));
            body.extend(vec![b'v'; self.value_bytes]);
            body.extend(varint(0));
            behind_crc.extend(varint(body.len() as i64));
            behind_crc.extend(body);
        }
        let length = i32::try_from(4 + 1 + 4 + behind_crc.len()).expect("short");
        let crc = crc32c::crc32c(&behind_crc).to_be_bytes();
        [&0_i64.to_be_bytes()[..], &length.to_be_bytes(), &(-1_i32).to_be_bytes(), &[2], &crc, &behind_crc].concat()
    }
}

/// Zigzag, seven bits a byte.
fn varint(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

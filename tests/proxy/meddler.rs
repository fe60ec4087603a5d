//! A proxy that understands frames: it sees each request, and answers it with whatever the test makes of the broker's
//! response.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::door::{Door, End};

/// A request that passed, as far as its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The connection, from 0.
    pub connection: usize,
    pub api: ApiKey,
    pub version: i16,
    pub correlation: i32,
    /// The name that the client gave itself.
    pub client: String,
}

/// What the client gets in place of a response.
pub enum Answer {
    /// These bytes, size fields included.
    Bytes(Vec<u8>),
    /// The same, and then the end of the connection.
    Last(Vec<u8>),
}

/// The proxy.
pub struct Meddler(Door);

impl Meddler {
    /// `answer` gets each request with the broker's response, which comes without its size.
    pub fn before(broker: SocketAddr, answer: impl FnMut(Asked, Vec<u8>) -> Answer + Send + 'static) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        Self(Door::before(broker, move |number, pair| {
            let asked = Arc::new(Mutex::new(VecDeque::new()));
            let (client, broker) = (Arc::clone(&pair), pair);
            let (answer, noted) = (Arc::clone(&answer), Arc::clone(&asked));
            thread::spawn(move || {
                while let Ok(frame) = read_frame(&client.client) {
                    noted.lock().expect("no panic").push_back(header_of(number, &frame));
                    if write(&client.broker, &framed(&frame)).is_err() {
                        break;
                    }
                }
                client.end(End::Close);
            });
            thread::spawn(move || {
                while let Ok(response) = read_frame(&broker.broker) {
                    let request = asked.lock().expect("no panic").pop_front().expect("answers follow requests");
                    let answer = (answer.lock().expect("no panic"))(request, response);
                    let (bytes, more) = match answer {
                        Answer::Bytes(bytes) => (bytes, true),
                        Answer::Last(bytes) => (bytes, false),
                    };
                    if write(&broker.client, &bytes).is_err() || !more {
                        break;
                    }
                }
                broker.end(End::Close);
            });
        }))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

impl Asked {
    /// The response in a frame without its size, decoded.
    pub fn decode<T: Decodable>(&self, frame: &[u8]) -> T {
        let mut rest = Bytes::copy_from_slice(frame);
        ResponseHeader::decode(&mut rest, self.api.response_header_version(self.version)).expect("a header");
        T::decode(&mut rest, self.version).expect("a response")
    }

    /// A response to this request, in a frame with its size.
    pub fn encode(&self, body: &impl Encodable) -> Answer {
        let mut bytes = self.header();
        body.encode(&mut bytes, self.version).expect("a response");
        Answer::Bytes(framed(&bytes))
    }

    /// A response to this request with these bytes for its body.
    pub fn with_body(&self, body: &[u8]) -> Answer {
        Answer::Bytes(framed(&[&self.header(), body].concat()))
    }

    /// How many bytes of a response come before its body.
    pub fn header_len(&self) -> usize {
        self.header().len()
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = ResponseHeader::default().with_correlation_id(self.correlation);
        header.encode(&mut bytes, self.api.response_header_version(self.version)).expect("a header");
        bytes
    }
}

/// A frame with its size.
pub fn framed(frame: &[u8]) -> Vec<u8> {
    let size = i32::try_from(frame.len()).expect("a short frame");
    [&size.to_be_bytes(), frame].concat()
}

/// The broker's own answer.
pub fn honest(response: &[u8]) -> Answer {
    Answer::Bytes(framed(response))
}

fn header_of(connection: usize, frame: &[u8]) -> Asked {
    let i16_at = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
    let correlation = i32::from_be_bytes(frame[4..8].try_into().expect("four bytes"));
    let api = ApiKey::try_from(i16_at(0)).expect("an API of Kafka");
    let client = String::from_utf8_lossy(&frame[10..10 + i16_at(8) as usize]).into_owned();
    Asked { connection, api, version: i16_at(2), correlation, client }
}

fn read_frame(mut from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    from.read_exact(&mut size)?;
    let mut frame = vec![0; u32::from_be_bytes(size) as usize];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

fn write(mut to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)
}

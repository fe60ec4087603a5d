//! A broker that acknowledges at once and keeps nothing: one topic of any name with three partitions. It speaks one
//! version of each API that a producer needs, so that both clients speak the same, and never looks at records.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Prints where it listens, and serves until its standard input ends.
pub fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    println!("127.0.0.1:{port}");
    thread::spawn(|| {
        // Whoever started it has gone, or will kill it.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    for connection in listener.incoming() {
        let connection = connection?;
        thread::spawn(move || {
            // A connection that ends is no error here: clients end theirs without a word.
            let _ = converse(connection, port);
        });
    }
    Ok(())
}

fn converse(mut connection: TcpStream, port: u16) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut frame = Vec::new();
    loop {
        let mut size = [0; 4];
        connection.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        // Kept as long as the longest request: to clear it for each would cost more than to read it.
        if frame.len() < size {
            frame.resize(size, 0);
        }
        connection.read_exact(&mut frame[..size])?;
        let answer = answer(&frame[..size], port).ok_or(io::ErrorKind::InvalidData)?;
        connection.write_all(&answer)?;
    }
}

/// The frame of the answer to a request; `None` if it is not one of those known here.
fn answer(request: &[u8], port: u16) -> Option<Vec<u8>> {
    let mut rest = Rest(request);
    let (api, version, correlation) = (rest.i16()?, rest.i16()?, rest.i32()?);
    rest.string()?;
    let mut out = Out::default();
    // The size comes at the end.
    out.i32(0).i32(correlation);
    match (api, version) {
        (PRODUCE, 7) => produce(&mut rest, &mut out)?,
        (METADATA, 4) => metadata(&mut rest, &mut out, port)?,
        (INIT_PRODUCER_ID, 0) => {
            // No throttle, no error, the id and its epoch.
            out.i32(0).i16(0).i64(4711).i16(0);
        }
        (API_VERSIONS, 0..=2) => api_versions(&mut out, 0, version),
        // KIP-511: whoever asks in a newer version is told so in the oldest.
        (API_VERSIONS, _) => api_versions(&mut out, UNSUPPORTED_VERSION, 0),
        _ => return None,
    }
    let size = (out.0.len() - 4) as u32;
    out.0[..4].copy_from_slice(&size.to_be_bytes());
    Some(out.0)
}

fn api_versions(out: &mut Out, error: i16, version: i16) {
    out.i16(error).i32(APIS.len() as i32);
    for (api, least, most) in APIS {
        out.i16(api).i16(least).i16(most);
    }
    if version > 0 {
        out.i32(0);
    }
}

fn metadata(rest: &mut Rest<'_>, out: &mut Out, port: u16) -> Option<()> {
    // No throttle; one broker, with the node id 1 and no rack, that is the controller.
    out.i32(0).i32(1).i32(1).string(b"127.0.0.1").i32(port.into()).i16(-1);
    out.string(b"sink").i32(1);
    // There are no topics but those that are asked for.
    let topics = rest.i32()?.max(0);
    out.i32(topics);
    for _ in 0..topics {
        out.i16(0).string(rest.string()?).i8(0).i32(PARTITIONS);
        for partition in 0..PARTITIONS {
            // Leader, replicas and those in sync: the one broker.
            out.i16(0).i32(partition).i32(1).i32(1).i32(1).i32(1).i32(1);
        }
    }
    Some(())
}

fn produce(rest: &mut Rest<'_>, out: &mut Out) -> Option<()> {
    // Transactional id, acks and time limit.
    rest.string()?;
    rest.i16()?;
    rest.i32()?;
    let topics = rest.i32()?;
    out.i32(topics);
    for _ in 0..topics {
        out.string(rest.string()?);
        let partitions = rest.i32()?;
        out.i32(partitions);
        for _ in 0..partitions {
            // No error; the offset, no time, and where the log begins.
            out.i32(rest.i32()?).i16(0).i64(0).i64(-1).i64(0);
            let length = rest.i32()?;
            rest.take(length.max(0) as usize)?;
        }
    }
    out.i32(0);
    Some(())
}

/// What is left of a request.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take(2)?.try_into().ok().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take(4)?.try_into().ok().map(i32::from_be_bytes)
    }

    /// Empty if there is none.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.i16()?.max(0);
        self.take(length as usize)
    }
}

/// What is said so far.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    fn string(&mut self, text: &[u8]) -> &mut Self {
        self.i16(text.len() as i16).bytes(text)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
const UNSUPPORTED_VERSION: i16 = 35;
/// With the versions that are offered. Nobody fetches here, but librdkafka writes record batches only to brokers that
/// can give them back.
const APIS: [(i16, i16, i16); 5] =
    [(PRODUCE, 7, 7), (1, 4, 4), (METADATA, 4, 4), (API_VERSIONS, 0, 2), (INIT_PRODUCER_ID, 0, 0)];
const PARTITIONS: i32 = 3;

//! The frame reader, fed with any bytes in any pieces: it must give what the bytes say, whatever the pieces.

use ottla::ConnectionErrorKind;
use ottla::net::receive_buffer::ReceiveBuffer;

use super::input::Input;

/// Limits before and after the handshake, the sizes of the pieces, then the bytes of the stream.
pub fn frame_reader(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = [limit(&mut input), limit(&mut input)];
    // The limit changes after so many responses.
    let change = input.below(4);
    let sizes: Vec<usize> = (0..input.below(8)).map(|_| 1 + usize::from(input.byte())).collect();
    let stream = input.rest();

    let expected = by_the_book(stream, limits, change);
    let whole = feed(stream, &[], limits, change);
    assert_eq!(whole, expected, "in one piece");
    assert_eq!(feed(stream, &sizes, limits, change), expected, "in pieces of {sizes:?} bytes");
    assert_eq!(feed(stream, &[1], limits, change), expected, "byte by byte");
}

type Read = (Vec<Vec<u8>>, Option<String>);

/// What comes out of the buffer when the stream arrives in pieces of these sizes, in turn.
fn feed(mut stream: &[u8], sizes: &[usize], limits: [usize; 2], change: usize) -> Read {
    let mut buffer = ReceiveBuffer::new(limits[0]);
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    if change == 0 {
        buffer.set_limit(limits[1]);
    }
    let mut sizes = sizes.iter().cycle();
    while !stream.is_empty() {
        let size = sizes.next().copied().unwrap_or(stream.len()).min(stream.len());
        let (mut piece, rest) = stream.split_at(size);
        stream = rest;
        loop {
            match buffer.next(&mut piece) {
                Ok(Some(body)) => {
                    assert!(body.capacity() <= body.len().max(64 * 1024), "{} for {}", body.capacity(), body.len());
                    bodies.push(body);
                    if bodies.len() == change {
                        buffer.set_limit(limits[1]);
                    }
                }
                Ok(None) => break,
                Err(kind) => {
                    let text = describe(&kind);
                    assert!(buffer.next(&mut &b"more"[..]).is_err(), "an error stays");
                    return (bodies, Some(text));
                }
            }
        }
        assert!(piece.is_empty(), "{} bytes were left behind", piece.len());
    }
    (bodies, None)
}

/// What the stream says by the rule alone: a size of four bytes, then so many bytes.
fn by_the_book(mut stream: &[u8], limits: [usize; 2], change: usize) -> Read {
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    while let Some((size, rest)) = stream.split_first_chunk::<4>() {
        let limit = limits[usize::from(bodies.len() >= change)];
        let announced = i32::from_be_bytes(*size);
        let size = match usize::try_from(announced) {
            Ok(size) if (4..=limit).contains(&size) => size,
            Ok(0..4) if bodies.is_empty() => return (bodies, Some("not Kafka".to_owned())),
            _ if bodies.is_empty() && (matches!(size, b"HTTP" | b"SSH-") || matches!(size, [0x15 | 0x16, 3, ..])) => {
                return (bodies, Some("not Kafka".to_owned()));
            }
            _ => return (bodies, Some(format!("{announced} above {limit}"))),
        };
        let Some((body, rest)) = rest.split_at_checked(size) else { break };
        bodies.push(body.to_vec());
        stream = rest;
    }
    (bodies, None)
}

fn describe(kind: &ConnectionErrorKind) -> String {
    match kind {
        ConnectionErrorKind::BadSize { size, limit, .. } => format!("{size} above {limit}"),
        ConnectionErrorKind::NotKafka(_) => "not Kafka".to_owned(),
        other => panic!("{other}"),
    }
}

fn limit(input: &mut Input<'_>) -> usize {
    match input.byte() {
        0 => 512 * 1024,
        1 => 16 * 1024 * 1024,
        small => usize::from(small) - 2,
    }
}

//! The connections of the scripted producer: what its sockets take, and what comes back.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ottla::ConnectionErrorKind;
use ottla::engine::{Action, Engine};
use ottla::net::receive_buffer::ReceiveBuffer;
use ottla::testing::requests::{Reply, Then};
use ottla::wire::Api;
use ottla::wire::frame::ConnId;

use super::input::Input;
use super::responses::Theirs;
use super::script::{FIRST_PORT, Script};

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Connections open; answers come when the fuzzer says so.
    Up,
    /// Connections open, and every request is answered at once.
    Right,
    /// Connections are refused.
    Refuses,
    /// Nothing is answered, and no connection opens.
    Silent,
    /// Connections open; sockets take nothing.
    Stuffed,
}

/// One connection.
pub struct Wire {
    node: i32,
    buffer: ReceiveBuffer,
    /// Requests without their sizes that the broker has not answered, and how many of them the socket has taken.
    requests: VecDeque<Vec<u8>>,
    unwritten: usize,
    /// Whether the socket has taken a part of the first unwritten one.
    begun: bool,
}

impl Script<'_> {
    /// Does what the engine wants.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Connect { conn, address, .. } => {
                let node = i32::from(address.port.wrapping_sub(FIRST_PORT)) + 1;
                match self.network {
                    Network::Silent => {}
                    Network::Up | Network::Right | Network::Stuffed if self.cluster.is_up(node) => {
                        let buffer = ReceiveBuffer::new(HANDSHAKE_LIMIT);
                        self.wires
                            .insert(conn, Wire { node, buffer, requests: VecDeque::new(), unwritten: 0, begun: false });
                        self.engine.connected(conn, self.now);
                    }
                    _ => {
                        let why = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
                        self.engine.closed(conn, ConnectionErrorKind::Connect(why), self.now);
                    }
                }
            }
            Action::Send { conn, frame } => {
                let Some(wire) = self.wires.get_mut(&conn) else { return };
                wire.requests.push_back(frame.to_vec().split_off(4));
                if self.network == Network::Stuffed || wire.unwritten > 0 {
                    wire.unwritten += 1;
                    return;
                }
                self.engine.wrote(conn, 1, 1, self.now);
                if self.network == Network::Right {
                    while let Some(answer) = self.right_answer(conn, 0) {
                        self.receive(conn, &answer, usize::MAX);
                    }
                }
            }
            Action::Close { conn } => {
                self.wires.remove(&conn);
            }
            // No token is what the engine logs in with.
            Action::AskForToken => {}
            Action::Limit { conn, max_response_bytes } => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.buffer.set_limit(max_response_bytes);
                }
            }
        }
    }

    /// A broker answers, more or less.
    pub fn answer(&mut self) {
        let Some(conn) = self.some_wire() else { return };
        let how = self.input.byte();
        let which = usize::from(how >> 7);
        let Some(request) = self.wires[&conn].requests.get(which).cloned() else { return };
        let answer = match how & 15 {
            0..=7 => self.right_answer(conn, which),
            8 => Some(framed(&request, self.input.piece())),
            9 => self.right_answer(conn, which).map(|answer| damaged(answer, &mut self.input)),
            10 => self.right_answer(conn, which).map(|answer| {
                let keep = usize::from(self.input.byte()).min(answer.len().saturating_sub(8));
                framed(&request, answer.get(8..8 + keep).unwrap_or_default())
            }),
            11 => self.right_answer(conn, which).map(|answer| [answer.clone(), answer].concat()),
            12 => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.requests.remove(which);
                }
                None
            }
            _ => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    wire.requests.remove(which);
                }
                made_up(&request, &mut self.input)
            }
        };
        let pieces = [usize::MAX, 1, 5, 64][usize::from(how >> 4 & 3)];
        if let Some(answer) = answer {
            self.receive(conn, &answer, pieces);
        }
    }

    /// A broker says something that nobody asked for.
    pub fn say(&mut self) {
        let Some(conn) = self.some_wire() else { return };
        let words = self.input.piece();
        self.receive(conn, words, usize::MAX);
    }

    /// A connection ends.
    pub fn cut(&mut self) {
        if let Some(conn) = self.some_wire() {
            self.wires.remove(&conn);
            self.engine.closed(conn, ConnectionErrorKind::Closed, self.now);
        }
    }

    /// A socket takes something again.
    pub fn write(&mut self) {
        let Some(conn) = self.some_wire() else { return };
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        let frames = (1 + self.input.below(3)).min(wire.unwritten);
        let partly = usize::from(frames > 0 && self.input.flag());
        // What was begun before begins no second time.
        let started = frames.saturating_sub(usize::from(wire.begun));
        wire.unwritten -= frames - partly;
        wire.begun = partly > 0;
        self.engine.wrote(conn, started, frames - partly, self.now);
    }

    pub fn change_network(&mut self) {
        let networks = [Network::Up, Network::Right, Network::Refuses, Network::Silent, Network::Stuffed];
        self.network = networks[self.input.below(networks.len())];
    }

    /// What the in-process broker answers to a request that waits, size included; `None` if nothing.
    fn right_answer(&mut self, conn: ConnId, which: usize) -> Option<Vec<u8>> {
        let wire = self.wires.get_mut(&conn)?;
        let (node, request) = (wire.node, wire.requests.remove(which)?);
        match self.cluster.receive(node, &Bytes::from(request), self.clock()) {
            Reply::Send { bytes, then: Then::Continue, .. } => Some(bytes),
            Reply::Send { .. } | Reply::Park(_) => {
                self.wires.remove(&conn);
                self.engine.closed(conn, ConnectionErrorKind::Closed, self.now);
                None
            }
        }
    }

    /// Bytes arrive in pieces of this size, as the network layer takes them.
    fn receive(&mut self, conn: ConnId, bytes: &[u8], size: usize) {
        for mut piece in bytes.chunks(size.min(bytes.len()).max(1)) {
            loop {
                let Some(wire) = self.wires.get_mut(&conn) else { return };
                match wire.buffer.next(&mut piece) {
                    Ok(Some(frame)) => self.engine.response(conn, &frame, self.now),
                    Ok(None) => break,
                    Err(why) => {
                        self.wires.remove(&conn);
                        return self.engine.closed(conn, why, self.now);
                    }
                }
            }
        }
    }

    fn some_wire(&mut self) -> Option<ConnId> {
        let place = self.input.below(self.wires.len().clamp(1, 256));
        self.wires.keys().nth(place).copied()
    }
}

/// A frame that has the number of the request, and this behind it.
fn framed(request: &[u8], body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32 + 4).to_be_bytes();
    [&size[..], &request[4..8], body].concat()
}

/// The frame with other bytes in some places.
fn damaged(mut frame: Vec<u8>, input: &mut Input<'_>) -> Vec<u8> {
    for _ in 0..=input.below(4) {
        let at = usize::from(input.i16() as u16) % frame.len().max(1);
        if let Some(byte) = frame.get_mut(at) {
            *byte = input.byte();
        }
    }
    frame
}

/// An answer that is well formed, and says anything.
fn made_up(request: &[u8], input: &mut Input<'_>) -> Option<Vec<u8>> {
    let api = Api::from_key(i16::from_be_bytes([request[0], request[1]]))?;
    let version = i16::from_be_bytes([request[2], request[3]]);
    let frame = Theirs::made_of(api, version, input).frame(api, version);
    Some(framed(request, &frame[4..]))
}

const HANDSHAKE_LIMIT: usize = 512 * 1024;

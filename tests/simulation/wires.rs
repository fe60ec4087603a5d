//! The connections between the engine and the brokers: how long a frame takes, and what a cut loses.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla::engine::producer::Action;
use ottla::record::batch_reader::Batch;
use ottla::testing::state::{Reply, Then};
use ottla::wire::frame::{ConnId, Frame};

use crate::messages::id_of;
use crate::world::{FIRST_PORT, Happening, World};

/// One connection.
pub struct Wire {
    pub node: i32,
    pub open: bool,
    /// When the client's side ended: what its socket had not taken by then never leaves.
    ended: Option<Instant>,
    /// When the last frame reaches the broker, and the last answer the client: a wire keeps its order.
    there: Instant,
    back: Instant,
    /// The broker closed it: what comes later is not served.
    deaf: bool,
}

impl Wire {
    /// Ends the client's side; says whether it was open.
    pub fn end(&mut self, now: Instant) -> bool {
        self.ended.get_or_insert(now);
        std::mem::replace(&mut self.open, false)
    }
}

/// What a happening carries.
pub enum Load {
    /// A request, and when the client's socket took it.
    Request(Bytes, Instant),
    Answer(Vec<u8>),
}

impl World {
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Connect { conn, address, .. } => {
                let node = i32::from(address.port - FIRST_PORT) + 1;
                let up = self.cluster.is_up(node);
                let (now, soon) = (self.now, self.latency());
                self.wires.insert(conn, Wire { node, open: up, ended: None, there: now, back: now, deaf: false });
                let happening = if up { Happening::Connected(conn) } else { Happening::Refused(conn) };
                self.at(self.elapsed() + soon, happening);
            }
            Action::Send { conn, frame } => self.send(conn, &frame),
            Action::Close { conn } => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    // What is on the wire already may still arrive.
                    wire.end(self.now);
                }
            }
            Action::Limit { .. } => {}
        }
    }

    pub fn send(&mut self, conn: ConnId, frame: &Frame) {
        let (write, travel) = (self.latency() / 10, self.latency());
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.open) else { return };
        let written = self.now.max(wire.there) + write;
        wire.there = written + travel;
        let there = wire.there - self.start;
        self.at(written - self.start, Happening::Wrote(conn));
        let number = self.at(there, Happening::AtBroker(conn));
        self.loads.insert(number, Load::Request(Bytes::from(frame.to_vec()).slice(4..), written));
    }

    pub fn serve(&mut self, number: u64, conn: ConnId) {
        let Some(Load::Request(frame, written)) = self.loads.remove(&number) else { return };
        let Some(wire) = self.wires.get(&conn) else { return };
        if wire.ended.is_some_and(|ended| ended <= written) || wire.deaf || !self.cluster.is_up(wire.node) {
            return;
        }
        let (node, clock) = (wire.node, self.clock());
        let reply = self.cluster.receive(node, &frame, clock);
        self.tell(|| format!("broker {node} answers {:?} with {reply:?}", Batches(&frame)));
        let Reply::Send { after, bytes, then } = reply else { return };
        let travel = self.latency();
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.back = (self.now + after).max(wire.back) + travel;
        wire.deaf |= then == Then::Close;
        let back = wire.back - self.start;
        // Only a whole answer is one; of a part of it the client sees the end of the connection.
        let whole = bytes
            .get(..4)
            .is_some_and(|size| u32::from_be_bytes(size.try_into().expect("four bytes")) as usize + 4 == bytes.len());
        if whole {
            let number = self.at(back, Happening::AtClient(conn));
            self.loads.insert(number, Load::Answer(bytes[4..].to_vec()));
        }
        if then == Then::Close {
            self.at(back + Duration::from_micros(1), Happening::Closed(conn));
        }
    }

    /// Ends a connection, as seen by both sides, not at once by the client.
    pub fn cut(&mut self, conn: ConnId) {
        let late = self.below(3) == 0;
        if let Some(wire) = self.wires.get_mut(&conn) {
            // What is on the wire may still be served.
            wire.deaf = !late;
        }
        let soon = self.elapsed() + self.latency();
        self.at(soon, Happening::Closed(conn));
    }
}

/// The record batches inside a frame, for a look at one seed.
struct Batches<'a>(&'a [u8]);

impl std::fmt::Debug for Batches<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "request {}", i16::from_be_bytes([self.0[0], self.0[1]]))?;
        let found = (0..self.0.len()).filter_map(|at| Batch::read(&self.0[at..]).ok());
        for (batch, _) in found {
            write!(f, " [id {} epoch {} sequence {}:", batch.producer_id, batch.producer_epoch, batch.base_sequence)?;
            for record in batch.records().flatten() {
                write!(f, " {}", id_of(record.value))?;
            }
            write!(f, "]")?;
        }
        Ok(())
    }
}

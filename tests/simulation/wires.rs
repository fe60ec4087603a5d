//! The connections between the worker and the brokers: how long a frame takes, and what a cut loses. An encrypted one
//! has got a frame before its socket has taken anything of it, and tells that the socket took it some time later.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::unthreaded::Asked;
use bytes::Bytes;
use kafka_protocol::messages::ProduceResponse;
use ottla::ConnectionErrorKind;
use ottla::config::RequiredAcks;
use ottla::engine::Action;
use ottla::net::Event;
use ottla::testing::requests::{Reply, Then};
use ottla::wire::frame::{ConnId, Frame};

use crate::bench::rewrite;
use crate::frames::{Found, batches, restamp};
use crate::planted::{Bug, Key};
use crate::records::change_blame;
use crate::world::{Happening, NAMES, Story, World};

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
    /// The broker asked for silence: what comes before is served then.
    muted: Instant,
    /// Frames that were sent and not answered yet, and what the client has not noted of what its socket took, for
    /// planted bugs.
    unanswered: Vec<Bytes>,
    unnoted: (usize, usize),
    /// If it is encrypted: when its socket takes the frames of which the client has not heard that, and for a planted
    /// bug their messages.
    sealed: Vec<(Instant, Vec<u64>)>,
}

impl Wire {
    /// Ends the client's side; says whether it was open.
    pub fn end(&mut self, now: Instant) -> bool {
        self.ended.get_or_insert(now);
        mem::replace(&mut self.open, false)
    }

    /// What comes behind the frames that are on their way waits for so long: no socket may have taken them yet.
    pub fn hold(&mut self, now: Instant, time: Duration) {
        if self.there > now {
            self.there += time;
        }
    }
}

fn blame_the_neighbours(answer: &mut Vec<u8>, version: i16) {
    if !is_whole(answer) {
        return;
    }
    let mut frame = answer.split_off(4);
    rewrite(&mut frame, version, |response: &mut ProduceResponse| {
        change_blame(response, |records| records.iter_mut().for_each(|record| record.batch_index += 1));
    });
    answer.append(&mut frame);
}

/// Only a whole answer is one; of a part of it the client sees the end of the connection.
fn is_whole(answer: &[u8]) -> bool {
    let size = answer.get(..4).and_then(|size| size.try_into().ok()).map(u32::from_be_bytes);
    size.is_some_and(|size| size as usize + 4 == answer.len())
}

/// What a happening carries.
pub enum Load {
    /// A request, and when the client's socket took it.
    Request(Bytes, Instant),
    /// An answer, and the messages that it says were appended, if the story asks for them.
    Answer(Vec<u8>, Vec<u64>),
    /// The messages of a frame whose first byte is taken.
    Ids(Vec<u64>),
}

impl World {
    /// What is on its way reaches nobody any more.
    pub fn deafen(&mut self) {
        self.wires.values_mut().for_each(|wire| wire.deaf = true);
    }

    pub fn carry(&mut self, asked: Asked) {
        let action = match asked {
            Asked::Do(action) => action,
            Asked::Renew => {
                let now = self.now;
                self.inbox.clear();
                self.wires.values_mut().for_each(|wire| {
                    wire.end(now);
                });
                return;
            }
        };
        match action {
            Action::Connect { conn, address, within } => {
                let node = if address.port >= crate::world::FIRST_PORT {
                    self.cluster.node_at(address.port)
                } else {
                    Some(i32::from(address.port - NAMES) + 1)
                };
                let up = node.is_some_and(|node| self.cluster.is_up(node));
                let (now, soon) = (self.now, self.latency());
                let (there, back) = (now, now);
                let node = node.unwrap_or(0);
                let wire = Wire {
                    node,
                    open: true,
                    ended: None,
                    there,
                    back,
                    deaf: !up,
                    muted: now,
                    unanswered: Vec::new(),
                    unnoted: (0, 0),
                    sealed: Vec::new(),
                };
                self.wires.insert(conn, wire);
                let (soon, happening) = match self.below(40) {
                    0 if !self.healed && self.story != Story::Stopped => (within, Happening::Refused(conn)),
                    _ if up => (soon.min(within), Happening::Connected(conn)),
                    _ => (soon.min(within), Happening::Refused(conn)),
                };
                self.at(self.elapsed() + soon, happening);
            }
            Action::Send { conn, frame } => self.send(conn, &frame),
            Action::Close { conn } => {
                if let Some(wire) = self.wires.get_mut(&conn) {
                    // What is on the wire already may still arrive.
                    wire.end(self.now);
                }
            }
            Action::Limit { .. } | Action::AskForToken => {}
        }
    }

    fn send(&mut self, conn: ConnId, frame: &Frame) {
        let (write, travel) = (self.latency() / 10, self.latency());
        // Now and then a frame stops in the middle, or long in the session that encrypts it.
        let slow = if self.below(if self.encrypted { 3 } else { 8 }) == 0 { self.latency() } else { Duration::ZERO };
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.open) else { return };
        let begun = self.now.max(wire.there) + write;
        let written = begun + slow;
        wire.there = written + travel;
        let there = wire.there - self.start;
        let mut bytes = frame.to_vec().split_off(4);
        let found = batches(&bytes);
        if self.bug == Some(Bug::ResendWithNewSequence) {
            for batch in found.iter().filter(|batch| batch.producer_id >= 0) {
                let sequence = self.sequences.by_send(self.key_of(batch), batch);
                restamp(&mut bytes, batch, sequence);
            }
        }
        let bytes = Bytes::from(bytes);
        if !found.is_empty() && self.bug == Some(Bug::AcknowledgeAfterCut) {
            self.wires.get_mut(&conn).expect("it was there").unanswered.push(bytes.clone());
        }
        let ids = found.into_iter().flat_map(|batch| batch.ids).collect();
        self.plan_progress(conn, ids, begun, written);
        let number = self.at(there, Happening::AtBroker(conn));
        self.loads.insert(number, Load::Request(bytes, written));
    }

    /// When the client hears that a frame with these messages has begun, and that it is written.
    fn plan_progress(&mut self, conn: ConnId, ids: Vec<u64>, begun: Instant, written: Instant) {
        let (begun, end) = (begun - self.start, written - self.start);
        if self.encrypted {
            // What the session has got may leave at any time. That the socket took it is seen with a later look.
            let look = if self.below(4) == 0 { self.within(MOST_BETWEEN_LOOKS) } else { self.latency() };
            self.at(end + look, Happening::Wrote(conn, 0, 0));
            let wire = self.wires.get_mut(&conn).expect("it is open");
            if self.bug == Some(Bug::NotStartedUntilWritten) {
                return wire.sealed.push((written, ids));
            }
            wire.sealed.push((written, Vec::new()));
            let number = self.at(self.elapsed(), Happening::Wrote(conn, 1, 0));
            self.loads.insert(number, Load::Ids(ids));
            return;
        }
        let at_once = begun == end;
        let number = self.at(begun, Happening::Wrote(conn, 1, usize::from(at_once)));
        self.loads.insert(number, Load::Ids(ids));
        if !at_once {
            self.at(end, Happening::Wrote(conn, 0, 1));
        }
    }

    /// What the client hears of an encrypted connection whenever it looks at it.
    fn look_at_sealed(&mut self, conn: ConnId) -> (usize, usize) {
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.open) else { return (0, 0) };
        let now = self.now;
        let (taken, left): (Vec<_>, _) = mem::take(&mut wire.sealed).into_iter().partition(|(taken, _)| *taken <= now);
        wire.sealed = left;
        taken.iter().for_each(|(_, ids)| self.ledger.wrote(ids));
        let late = self.bug == Some(Bug::NotStartedUntilWritten);
        (if late { taken.len() } else { 0 }, taken.len())
    }

    /// A frame, or a part of it, was taken by the client's socket, or by what encrypts it.
    pub fn wrote(&mut self, number: u64, conn: ConnId, started: usize, finished: usize) {
        let ids = self.loads.remove(&number);
        let taken = self.look_at_sealed(conn);
        let (started, finished) = (started + taken.0, finished + taken.1);
        if self.wires.get(&conn).is_some_and(|wire| wire.open) {
            if let Some(Load::Ids(ids)) = ids {
                self.ledger.wrote(&ids);
            }
            if self.bug == Some(Bug::NotWrittenUntilAnswered) && self.config.required_acks != RequiredAcks::None {
                let unnoted = &mut self.wires.get_mut(&conn).expect("it was there").unnoted;
                *unnoted = (unnoted.0 + started, unnoted.1 + finished);
                return;
            }
            if started + finished > 0 {
                self.hear(Event::Wrote { conn, started, finished });
            }
        }
    }

    pub fn serve(&mut self, number: u64, conn: ConnId) {
        let later = self.wires.get(&conn).map(|wire| wire.muted).max(self.behind_the_stop(number));
        if let Some(later) = later.filter(|later| *later > self.now) {
            let load = self.loads.remove(&number);
            let number = self.at(later - self.start, Happening::AtBroker(conn));
            self.loads.extend(load.map(|load| (number, load)));
            return;
        }
        let Some(Load::Request(frame, written)) = self.loads.remove(&number) else { return };
        let Some(wire) = self.wires.get(&conn) else { return };
        if wire.ended.is_some_and(|ended| ended <= written) || wire.deaf || !self.cluster.is_up(wire.node) {
            return;
        }
        let node = wire.node;
        let ids = if self.story == Story::Stopped { batches(&frame) } else { Vec::new() };
        let ids = ids.into_iter().flat_map(|batch| batch.ids).collect();
        let reply = self.ask_broker(conn, node, frame);
        let Reply::Send { after, bytes, then } = reply else { return };
        let travel = self.latency();
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.back = (self.now + after).max(wire.back) + travel;
        match then {
            Then::Continue => {}
            Then::Mute(time) => wire.muted = self.now + after + time,
            Then::Close => wire.deaf = true,
        }
        let back = wire.back - self.start;
        if is_whole(&bytes) {
            let number = self.at(back, Happening::AtClient(conn));
            self.loads.insert(number, Load::Answer(bytes[4..].to_vec(), ids));
        }
        if then == Then::Close {
            self.at(back + Duration::from_micros(1), Happening::Closed(conn));
        }
    }

    fn ask_broker(&mut self, conn: ConnId, node: i32, frame: Bytes) -> Reply {
        let clock = self.clock();
        let mut bytes = frame;
        let mut arriving = Vec::new();
        if self.bug == Some(Bug::RetryOutOfOrder) {
            let mut changed = bytes.to_vec();
            for batch in batches(&bytes).into_iter().filter(|batch| batch.producer_id >= 0) {
                let key = self.key_of(&batch);
                restamp(&mut changed, &batch, self.sequences.by_arrival(key, &batch));
                arriving.push((key, self.messages_in(key), batch));
            }
            bytes = Bytes::from(changed);
        }
        let mut reply = self.cluster.receive_on(conn.0, node, &bytes, clock);
        if let (Some(Bug::BlameTheNeighbour), Reply::Send { bytes: answer, .. }, [0, 0, high, low]) =
            (self.bug, &mut reply, [bytes[0], bytes[1], bytes[2], bytes[3]])
        {
            blame_the_neighbours(answer, i16::from_be_bytes([high, low]));
        }
        for (key, before, batch) in arriving {
            if self.messages_in(key) > before {
                self.sequences.arrived(key, &batch);
            }
        }
        self.tell(|| {
            let what = batches(&bytes).into_iter().map(|it| {
                format!(" [id {} epoch {} sequence {}: {:?}]", it.producer_id, it.epoch, it.base_sequence, it.ids)
            });
            let api = i16::from_be_bytes([bytes[0], bytes[1]]);
            format!("broker {node} answers request {api}{} with {reply:?}", what.collect::<String>())
        });
        reply
    }

    pub fn answered(&mut self, number: u64, conn: ConnId) {
        let Some(Load::Answer(bytes, ids)) = self.loads.remove(&number) else { return };
        // Sometimes the client hears it although it has given up that connection, and has perhaps another.
        let stray = self.below(4) == 0;
        if self.wires.get(&conn).is_some_and(|wire| wire.open) {
            self.note_answer(&ids);
        }
        if let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.open || stray) {
            wire.unanswered.retain(|frame| frame[4..8] != bytes[..4]);
            let (started, finished) = mem::take(&mut wire.unnoted);
            if started + finished > 0 {
                self.hear(Event::Wrote { conn, started, finished });
            }
            self.hear(Event::Response(conn, bytes));
            // A socket is read before it is written.
            let (started, finished) = self.look_at_sealed(conn);
            if started + finished > 0 {
                self.hear(Event::Wrote { conn, started, finished });
            }
        }
    }

    /// The client sees the end of a connection.
    pub fn closed(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| wire.open) else { return };
        wire.end(now);
        let (node, unanswered) = (wire.node, mem::take(&mut wire.unanswered));
        for frame in unanswered {
            // The answer of a broker that nobody will see again.
            let mut gone = self.cluster.clone();
            if let Reply::Send { bytes, .. } = gone.receive_on(conn.0, node, &frame, self.clock()) {
                if bytes.len() > 8 {
                    self.hear(Event::Response(conn, bytes[4..].to_vec()));
                }
            }
        }
        self.hear(Event::Closed(conn, ConnectionErrorKind::Closed));
    }

    pub fn refused(&mut self, conn: ConnId) {
        let now = self.now;
        if self.wires.get_mut(&conn).is_some_and(|wire| wire.end(now)) {
            let why = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            self.hear(Event::Closed(conn, ConnectionErrorKind::Connect(Arc::new(why))));
        }
    }

    /// Ends all connections to a broker.
    pub fn cut_all(&mut self, node: i32) {
        let on: Vec<ConnId> =
            self.wires.iter().filter(|(_, wire)| wire.open && wire.node == node).map(|it| *it.0).collect();
        on.into_iter().for_each(|conn| self.cut(conn));
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

    fn key_of(&self, batch: &Found) -> Key {
        let second = batch.ids.first().is_some_and(|id| self.ledger.sent[*id as usize].second);
        (second, batch.partition, batch.producer_id, batch.epoch)
    }

    fn messages_in(&self, (second, partition, ..): Key) -> usize {
        let messages = self.cluster.messages(crate::world::TOPICS[usize::from(second)]);
        messages.iter().filter(|message| message.partition == partition).count()
    }
}

/// So long may it take until the client sees what a socket took while it was read.
const MOST_BETWEEN_LOOKS: Duration = Duration::from_secs(3);

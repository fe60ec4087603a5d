//! A proxy that treats bytes badly: cuts, splits, delays, slows down and stalls what passes, in either direction.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::door::{Door, End, Pair};

/// A proxy in front of a broker.
pub struct Proxy {
    door: Door,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What happens to a connection: on the way up to the broker, and down to the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    pub up: Lane,
    pub down: Lane,
    /// So long after its beginning the connection is reset.
    pub lasts: Option<Duration>,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lane {
    /// After so many bytes the connection ends.
    pub cut: Option<(usize, End)>,
    /// After so many bytes nothing passes in this direction any more, nor is it read.
    pub stall: Option<usize>,
    /// Segments have at most so many bytes, with a pause between.
    pub piece: Option<usize>,
    /// So long is every byte on its way.
    pub delay: Duration,
    /// Bytes a second.
    pub rate: Option<usize>,
}

/// What passed on one connection.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The first bytes that the client sent, up to 64 KiB.
    pub up: Vec<u8>,
    /// How many bytes the client was sent.
    pub down: usize,
    /// Requests that came whole, and the most of them without a response at once.
    requests: Frames,
    responses: Frames,
    pub most_unanswered: usize,
}

impl Proxy {
    /// Each connection gets its plan by its number, from 0.
    pub fn before(broker: SocketAddr, plan: impl Fn(usize) -> Plan + Send + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        let door = Door::before(broker, move |number, pair| {
            let plan = plan(number);
            lock(&shared).push(Seen::default());
            for (way, lane) in [(Way::Up, plan.up), (Way::Down, plan.down)] {
                let road = Road { way, lane, number, pair: Arc::clone(&pair), seen: Arc::clone(&shared) };
                thread::spawn(move || road.run());
            }
            if let Some(lasts) = plan.lasts {
                thread::spawn(move || {
                    thread::sleep(lasts);
                    pair.end(End::Reset);
                });
            }
        });
        Self { door, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    pub fn connections(&self) -> usize {
        self.door.connections()
    }

    /// What passed on each connection.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }
}

impl Lane {
    pub fn cut(at: usize, end: End) -> Self {
        Self { cut: Some((at, end)), ..Self::default() }
    }

    pub fn stall(at: usize) -> Self {
        Self { stall: Some(at), ..Self::default() }
    }

    pub fn pieces(bytes: usize) -> Self {
        Self { piece: Some(bytes), ..Self::default() }
    }

    pub fn delay(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    pub fn rate(bytes: usize) -> Self {
        Self { rate: Some(bytes), ..Self::default() }
    }

    /// How many more bytes may pass, when so many did.
    fn room(&self, passed: usize) -> usize {
        let ends = [self.cut.map(|(at, _)| at), self.stall];
        ends.into_iter().flatten().min().map_or(usize::MAX, |at| at - passed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// One direction of one connection.
#[derive(Clone)]
struct Road {
    way: Way,
    lane: Lane,
    number: usize,
    pair: Arc<Pair>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Road {
    fn run(self) {
        let (mut from, to) = match self.way {
            Way::Up => (&self.pair.client, &self.pair.broker),
            Way::Down => (&self.pair.broker, &self.pair.client),
        };
        let late = (!self.lane.delay.is_zero()).then(|| {
            let (late, queue) = mpsc::channel();
            let to = to.try_clone().expect("a socket");
            let road = self.clone();
            thread::spawn(move || road.deliver_late(&queue, &to));
            late
        });
        let mut buffer = [0; 16 * 1024];
        let mut passed = 0;
        loop {
            let room = self.lane.room(passed);
            if room == 0 {
                return self.at_the_end(to);
            }
            let most = room.min(self.lane.piece.unwrap_or(usize::MAX)).min(self.slice()).min(buffer.len());
            let Ok(read @ 1..) = from.read(&mut buffer[..most]) else { break };
            if self.pair.is_cut() {
                return;
            }
            passed += read;
            let bytes = &buffer[..read];
            if late.is_none() || self.way == Way::Up {
                self.note(bytes);
            }
            match &late {
                Some(late) => late.send((Instant::now(), bytes.to_vec())).expect("it listens as long as we speak"),
                None if to_write(to, bytes) => {}
                None => break,
            }
            self.pause(read);
        }
        if !self.pair.is_cut() {
            drop(late);
            let _ = to.shutdown(Shutdown::Write);
        }
    }

    fn at_the_end(&self, to: &TcpStream) {
        match self.lane.cut {
            Some((_, End::HalfClose)) => drop(to.shutdown(Shutdown::Write)),
            Some((_, end)) => self.pair.end(end),
            None => self.pair.stall(),
        }
    }

    /// Bytes at once, so that a slow lane is slow all the time.
    fn slice(&self) -> usize {
        self.lane.rate.map_or(usize::MAX, |rate| (rate / 50).max(1))
    }

    fn pause(&self, bytes: usize) {
        if let Some(rate) = self.lane.rate {
            thread::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64));
        }
        if self.lane.piece.is_some() {
            // Long enough that the next bytes are a segment of their own for who waits for them.
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn deliver_late(&self, queue: &Receiver<(Instant, Vec<u8>)>, to: &TcpStream) {
        for (at, bytes) in queue {
            thread::sleep((at + self.lane.delay).saturating_duration_since(Instant::now()));
            if self.way == Way::Down {
                self.note(&bytes);
            }
            if self.pair.is_over() || !to_write(to, &bytes) {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn note(&self, bytes: &[u8]) {
        let mut all = lock(&self.seen);
        let seen = &mut all[self.number];
        if self.way == Way::Up {
            let room = (64 * 1024_usize).saturating_sub(seen.up.len());
            seen.up.extend(&bytes[..bytes.len().min(room)]);
            seen.requests.take(bytes);
            seen.most_unanswered = seen.most_unanswered.max(seen.requests.whole - seen.responses.whole);
        } else {
            seen.down += bytes.len();
            seen.responses.take(bytes);
        }
    }
}

fn to_write(mut to: &TcpStream, bytes: &[u8]) -> bool {
    to.write_all(bytes).is_ok()
}

/// Counts the frames in a stream.
#[derive(Clone, Debug, Default)]
struct Frames {
    size: Vec<u8>,
    left: usize,
    whole: usize,
}

impl Frames {
    fn take(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - taken, &bytes[taken..]);
            } else {
                self.size.push(*first);
                bytes = rest;
                let Ok(size) = <[u8; 4]>::try_from(&*self.size) else { continue };
                self.left = u32::from_be_bytes(size) as usize;
                self.size.clear();
            }
            self.whole += usize::from(self.left == 0 && self.size.is_empty());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

//! A fixed amount of work, for whoever counts instructions: `benches/instructions.sh` does, under valgrind.
//!
//!     instructions plain|keyed|handles|callback COUNT
//!
//! It sends COUNT messages of 100 bytes the way of an `AsyncProducer`'s, through the gate, the queue, the worker and
//! the engine to frames, and their fates the way back; on one thread, with a clock that stands still, so that each run
//! does the same. What belongs to the producer happens inside `measured`, and only there: the brokers are those of the
//! in-process cluster, and what they do must not count. Sockets are not in it, nor is what threads cost each other.

use std::collections::VecDeque;
use std::mem;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla::config::{ClientConfig, ProducerConfig, QueueConfig};
use ottla::engine::Action;
use ottla::fate::slot::Awaited;

use ottla::net::Event;
use ottla::testing::Cluster;
use ottla::testing::requests::Reply;
use ottla::testing::state::ClusterState;
use ottla::wire::frame::{ConnId, Frame};
use ottla::{Delivered, DeliveryError, Message, Timestamp, Topic};

use unthreaded::{Asked, Turn, Unthreaded};

#[expect(dead_code, reason = "the simulation calls every step, and others some")]
#[path = "../tests/unthreaded/mod.rs"]
mod unthreaded;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, count] = &arguments[..] else { return usage() };
    let (Some(mode), Ok(count)) = (Mode::named(mode), count.parse()) else { return usage() };
    let delivered = Run::new(mode).deliver(count);
    println!("delivered {delivered} of {count}");
    if delivered == count { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> ExitCode {
    eprintln!("usage: instructions plain|keyed|handles|callback COUNT");
    ExitCode::from(2)
}

/// What is particular about the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing: no key, and fates are counted.
    Plain,
    /// A key of 16 bytes.
    Keyed,
    /// A handle for each.
    Handles,
    /// A callback for each.
    Callback,
}

impl Mode {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "plain" => Self::Plain,
            "keyed" => Self::Keyed,
            "handles" => Self::Handles,
            "callback" => Self::Callback,
            _ => return None,
        })
    }
}

/// What the producer does next.
enum Step {
    /// The caller produces so many messages.
    Produce(u64),
    /// The caller wants all to leave.
    Deliver,
    /// The worker makes a turn.
    Turn,
    /// Whoever learns of fates looks.
    Learn,
}

/// The only code that is counted.
#[inline(never)]
fn measured(run: &mut Run, step: Step) {
    match step {
        Step::Produce(count) => run.produce(count),
        Step::Deliver => run.side.deliver(),
        Step::Turn => run.turn(),
        Step::Learn => run.learn(),
    }
}

struct Run {
    mode: Mode,
    side: Unthreaded,
    cluster: ClusterState,
    /// It never is another time.
    now: Instant,
    topic: Topic,
    value: [u8; 100],
    keys: Vec<[u8; 16]>,
    produced: u64,
    /// What a handle is made of, of messages whose fate was not seen yet.
    handles: VecDeque<(Topic, Awaited)>,
    /// Messages that the callback was called for, or whose handle had a fate.
    learned: Arc<AtomicU64>,
    /// What the worker is told with its next turn.
    inbox: Vec<Event>,
    /// Whether the worker wants another turn at once.
    again: bool,
}

impl Run {
    fn new(mode: Mode) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let now = Instant::now();
        Unthreaded::set_clock(now);
        let seed = format!("127.0.0.1:{PORT}").parse().expect("an address");
        let client = Arc::new(ClientConfig::new(vec![seed]));
        let producer = Arc::new(ProducerConfig::default());
        // As with `streaming`.
        let queue = QueueConfig {
            max_queue_size: 100_000,
            delivery_threshold: 10_000,
            delivery_interval: Duration::from_millis(5),
            ..QueueConfig::default()
        };
        let learned = Arc::new(AtomicU64::new(0));
        let callback = (mode == Mode::Callback).then(|| counting(&learned));
        let side = Unthreaded::new(client, producer, &queue, callback, SEED);
        let cluster = ClusterState::new(Cluster::builder().brokers(1).topic("bench", 3), &[PORT]);
        let key = |number| *format!("key-{number:012}").as_bytes().first_chunk().expect("16 bytes");
        Self {
            mode,
            side,
            cluster: cluster.expect("the description is good"),
            now,
            topic: Topic::new("bench").expect("a good name"),
            value: [b'x'; 100],
            keys: (0..10_000).map(key).collect(),
            produced: 0,
            handles: VecDeque::new(),
            learned,
            inbox: Vec::new(),
            again: false,
        }
    }

    /// Produces the messages, waits for their fates, and gives how many were delivered.
    fn deliver(mut self, count: u64) -> u64 {
        while self.produced < count {
            let round = ROUND.min(count - self.produced);
            measured(&mut self, Step::Produce(round));
            self.settle();
        }
        measured(&mut self, Step::Deliver);
        self.settle();
        match self.mode {
            Mode::Plain | Mode::Keyed => self.side.counts().delivered,
            Mode::Handles | Mode::Callback => self.learned.load(Ordering::Relaxed),
        }
    }

    /// The worker, the brokers and whoever learns of fates go on until there is nothing to do.
    fn settle(&mut self) {
        while self.again || !self.inbox.is_empty() || self.side.is_awaited() {
            measured(self, Step::Turn);
            for asked in mem::take(&mut self.side.wires().asked) {
                self.serve(asked);
            }
            measured(self, Step::Learn);
        }
    }

    fn produce(&mut self, count: u64) {
        let (topic, value, time) = (&self.topic, &self.value[..], Timestamp::from_millis(TIME));
        for number in self.produced..self.produced + count {
            let accepted = match self.mode {
                Mode::Plain | Mode::Callback => self.side.produce(Message::new(topic, value), None, time),
                Mode::Keyed => {
                    let key = &self.keys[number as usize % self.keys.len()][..];
                    self.side.produce(Message::new(topic, value).with_key(key), None, time)
                }
                Mode::Handles => {
                    let lookout = self.side.lookout();
                    let accepted = self.side.produce(Message::new(topic, value), Some(lookout.slot()), time);
                    self.handles.push_back((topic.clone(), lookout));
                    accepted
                }
            };
            accepted.expect("there is room");
        }
        self.produced += count;
    }

    fn turn(&mut self) {
        match self.side.turn(self.inbox.drain(..), self.now, &mut ()) {
            Turn::Wait(until) => self.again = until.passed(self.now),
            Turn::Ended | Turn::Broke => panic!("the worker goes on"),
        }
    }

    fn learn(&mut self) {
        while self.side.has_calls() {
            self.side.call();
        }
        while let Some(Ok(fate)) = self.handles.front_mut().map(|(_, lookout)| lookout.look()) {
            self.handles.pop_front();
            if fate.is_ok() {
                self.learned.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn serve(&mut self, asked: Asked) {
        match asked {
            Asked::Do(Action::Connect { conn, .. }) => self.inbox.push(Event::Connected(conn)),
            Asked::Do(Action::Send { conn, frame }) => self.answer(conn, frame),
            Asked::Do(Action::Close { .. } | Action::Limit { .. } | Action::AskForToken) | Asked::Renew => {}
        }
    }

    fn answer(&mut self, conn: ConnId, frame: Frame) {
        let request = Bytes::from(frame.to_vec()).slice(4..);
        // Sockets let go of what they have written.
        drop(frame);
        self.inbox.push(Event::Wrote { conn, started: 1, finished: 1 });
        match self.cluster.receive(1, &request, Timestamp::from_millis(TIME)) {
            Reply::Send { bytes, .. } => self.inbox.push(Event::Response(conn, bytes[4..].to_vec())),
            Reply::Park(_) => panic!("nothing is in the way of an answer"),
        }
    }
}

/// A callback that counts what was delivered.
fn counting(delivered: &Arc<AtomicU64>) -> Box<dyn FnMut(Result<&Delivered, DeliveryError>) + Send> {
    let delivered = Arc::clone(delivered);
    Box::new(move |fate| {
        if fate.is_ok() {
            delivered.fetch_add(1, Ordering::Relaxed);
        }
    })
}

const PORT: u16 = 9000;
const SEED: u64 = 7;
/// Milliseconds since 1970, of every message.
const TIME: i64 = 1_700_000_000_000;
/// So many messages come before the worker has its turn: half a batch.
const ROUND: u64 = 5_000;

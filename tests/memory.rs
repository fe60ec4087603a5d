//! How much memory a producer takes at every rate, counted by an allocator that replaces the system's in this test
//! alone: messages that come at full speed, or one by one for a whole `delivery_timeout`, while something keeps them
//! from being delivered. The producer is `Unthreaded`, so that the time is set by hand and all it allocates is counted
//! on one thread. At no moment it takes more than one and a half times what it counts itself, and 16 MiB; and no more
//! while it hands back what it holds.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
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
mod unthreaded;

const MIB: i64 = 1024 * 1024;
/// The default of `max_queue_bytesize` and of `max_buffer_bytesize`.
const LIMIT: usize = 32 * MIB as usize;
const PORT: u16 = 9000;
const TOPICS: usize = 100;
const PARTITIONS: i32 = 200;
/// The default of `delivery_timeout`.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What keeps messages from being delivered, or their fates from being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// No broker tells where topics are.
    NoMetadata,
    /// No partition has a leader.
    NoLeader,
    /// The broker takes messages and does not answer.
    NoAnswer,
    /// Messages are delivered, and a callback blocks.
    BlockedCallback,
}

/// What messages have beside their values.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Keys,
    Partitions,
    PartitionKeys,
    Headers,
    Topics,
    Handles,
    /// One of each in turn.
    Mixed,
}

/// How fast messages come.
#[derive(Clone, Copy, Debug)]
enum Rate {
    /// So many in a burst, as long as they are taken.
    Bursts(u32),
    /// One each so long, for a whole `delivery_timeout`.
    Each(Duration),
    /// As long as they are taken, before the worker comes.
    Unheeded,
}

const OBSTACLES: [Obstacle; 4] =
    [Obstacle::NoMetadata, Obstacle::NoLeader, Obstacle::NoAnswer, Obstacle::BlockedCallback];
const KINDS: [Kind; 8] = [
    Kind::Plain,
    Kind::Keys,
    Kind::Partitions,
    Kind::PartitionKeys,
    Kind::Headers,
    Kind::Topics,
    Kind::Handles,
    Kind::Mixed,
];
const SIZES: [usize; 5] = [0, 1, 100, 1000, 100_000];

#[test]
fn one_message_each_millisecond_for_the_whole_delivery_timeout() {
    for obstacle in OBSTACLES {
        Run::new(obstacle, LIMIT).bounded(Kind::Plain, 1, Rate::Each(Duration::from_millis(1)));
    }
}

#[test]
fn one_message_each_five_milliseconds_for_the_whole_delivery_timeout_of_every_size() {
    for obstacle in OBSTACLES {
        for size in SIZES {
            Run::new(obstacle, LIMIT).bounded(Kind::Plain, size, Rate::Each(Duration::from_millis(5)));
        }
    }
}

#[test]
fn one_message_each_20_milliseconds_for_the_whole_delivery_timeout_of_every_kind() {
    for obstacle in OBSTACLES {
        for kind in KINDS {
            Run::new(obstacle, LIMIT).bounded(kind, 10, Rate::Each(Duration::from_millis(20)));
        }
    }
}

#[test]
fn full_speed_of_every_size() {
    for obstacle in OBSTACLES {
        for size in SIZES {
            Run::new(obstacle, LIMIT).bounded(Kind::Plain, size, Rate::Bursts(10_000));
        }
    }
}

#[test]
fn full_speed_of_every_kind() {
    for obstacle in OBSTACLES {
        for kind in KINDS {
            Run::new(obstacle, LIMIT).bounded(kind, 10, Rate::Bursts(10_000));
        }
    }
}

#[test]
fn one_by_one_as_fast_as_they_are_taken() {
    for obstacle in OBSTACLES {
        Run::new(obstacle, LIMIT / 8).bounded(Kind::Plain, 10, Rate::Bursts(1));
        Run::new(obstacle, LIMIT / 8).bounded(Kind::Mixed, 10, Rate::Bursts(1));
    }
}

#[test]
fn full_speed_while_the_worker_does_not_come() {
    for kind in [Kind::Plain, Kind::Keys] {
        Run::new(Obstacle::NoMetadata, 4 * LIMIT).bounded(kind, 100, Rate::Unheeded);
    }
}

struct Run {
    obstacle: Obstacle,
    side: Unthreaded,
    cluster: ClusterState,
    start: Instant,
    now: Instant,
    topics: Vec<Topic>,
    handles: Vec<Awaited>,
    inbox: Vec<Event>,
    /// Bytes that the queue may hold, and as many the buffer.
    limit: i64,
    /// Bytes that the producer has, and had at most.
    allocated: i64,
    peak: i64,
    /// Bytes that it counted at most. What was delivered is counted no more, so it may count little in the end.
    counted: i64,
}

impl Run {
    /// With so many bytes for the queue, and for the buffer.
    fn new(obstacle: Obstacle, limit: usize) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let now = Instant::now();
        Unthreaded::set_clock(now);
        let client = Arc::new(ClientConfig::new(vec![format!("127.0.0.1:{PORT}").parse().expect("an address")]));
        let producer = ProducerConfig {
            delivery_timeout: TIMEOUT,
            unknown_topic_grace: TIMEOUT,
            max_buffer_bytesize: limit,
            ..ProducerConfig::default()
        };
        let (max_queue_size, max_queue_bytesize) = (100_000_000, limit);
        let queue = QueueConfig { max_queue_size, max_queue_bytesize, ..QueueConfig::default() };
        let topics: Vec<_> = (0..TOPICS).map(|n| Topic::new(format!("topic-{n}")).expect("a good name")).collect();
        let builder = topics.iter().fold(Cluster::builder().brokers(1), |builder, topic| {
            builder.topic(topic.name(), if topic.name() == "topic-0" { PARTITIONS } else { 1 })
        });
        let mut cluster = ClusterState::new(builder, &[PORT]).expect("the description is good");
        if obstacle == Obstacle::NoLeader {
            topics.iter().for_each(|topic| cluster.depose_leader(topic.name(), 0));
            (0..PARTITIONS as usize).for_each(|partition| cluster.depose_leader("topic-0", partition));
        }
        let ignore = |_: Result<&Delivered, DeliveryError>| ();
        let callback = (obstacle == Obstacle::BlockedCallback).then(|| Box::new(ignore) as _);
        let side = Unthreaded::new(client, Arc::new(producer), &queue, callback, 7);
        let (handles, inbox) = (Vec::new(), Vec::new());
        let limit = limit as i64;
        let (allocated, peak, counted) = (0, 0, 0);
        Self { obstacle, side, cluster, start: now, now, topics, handles, inbox, limit, allocated, peak, counted }
    }

    fn bounded(mut self, kind: Kind, size: usize, rate: Rate) {
        let value = vec![b'x'; size];
        // It knows the topic, if it can.
        self.take(Kind::Plain, 0, b"");
        self.settle();
        match rate {
            Rate::Each(pause) => {
                for n in 1..TIMEOUT.as_nanos() / pause.as_nanos() {
                    self.take(kind, n as usize, &value);
                    self.settle();
                    self.pass(pause);
                }
            }
            Rate::Bursts(many) => {
                let mut n = 0;
                while (0..many).all(|_| {
                    n += 1;
                    self.take(kind, n, &value)
                }) {
                    self.settle();
                    // Or it would spin.
                    self.pass(Duration::from_micros(1));
                }
                self.settle();
            }
            Rate::Unheeded => {
                while self.take(kind, self.taken() as usize, &value) {}
                self.settle();
            }
        }
        let what = format!("{:?}, {kind:?} of {size} bytes, {rate:?}", self.obstacle);
        self.check(&what);
    }

    fn check(mut self, what: &str) {
        let counted = self.counted;
        println!("{what}: {} KiB counted, {} KiB at the peak", counted / 1024, self.peak / 1024);
        // A batch alone may take more than there is room for.
        let most = 2 * self.limit + 2 * MIB;
        assert!(counted <= most, "{what}: {counted} counted, where {most} are allowed");
        assert!(self.peak <= counted + counted / 2 + 16 * MIB, "{what}: {counted} counted, {} at the peak", self.peak);
        let before = self.peak;
        let held = self.side.queue(|queue| queue.accepted()) - self.side.counts().delivered - self.side.counts().failed;
        self.peak = self.allocated;
        let purge = self.side.begin_purge().expect("it runs");
        self.settle();
        let mut handed_back = 0;
        self.measured(|run| {
            let purged = run.side.end_purge(purge).expect("it is done");
            handed_back += purged.into_iter().flatten().count();
        });
        self.side.close();
        self.side.abandon(true);
        self.settle();
        self.measured(|run| {
            while run.side.has_calls() {
                run.side.call();
            }
        });
        self.measured(|run| {
            let report = run.side.remains();
            handed_back += report.undelivered.into_iter().chain(report.failures).flatten().count();
        });
        println!("    {handed_back} of {held} handed back, {} KiB at the peak", self.peak / 1024);
        assert!(self.peak <= before.max(counted + counted / 2 + 16 * MIB), "{what}: {} handed back", self.peak);
        // Beside what has its handle.
        let others = held as usize - self.handles.len().min(held as usize);
        assert!(handed_back >= others || self.obstacle == Obstacle::BlockedCallback, "{handed_back} of {held}");
    }

    fn taken(&self) -> u64 {
        self.side.queue(|queue| queue.accepted())
    }

    /// Notes what the producer says that it holds.
    fn count(&mut self) {
        let counted = self.side.queue(|queue| queue.bytes()) + self.side.engine().held().bytes;
        self.counted = self.counted.max(counted as i64);
    }

    /// Whether the message was taken.
    fn take(&mut self, kind: Kind, n: usize, value: &[u8]) -> bool {
        let kind = if let Kind::Mixed = kind { KINDS[n / 3 % (KINDS.len() - 1)] } else { kind };
        let topic = self.topics[if let Kind::Topics = kind { n % TOPICS } else { 0 }].clone();
        let key = (n as u32).to_be_bytes();
        let message = || {
            let message = Message::new(&topic, value);
            match kind {
                Kind::Plain | Kind::Topics | Kind::Handles | Kind::Mixed => message,
                Kind::Keys => message.with_key(&key),
                Kind::Partitions => message.with_partition(n as i32 % PARTITIONS),
                Kind::PartitionKeys => message.with_partition_key(&key).with_tag(n as u64),
                Kind::Headers => message.with_header("name", &key).with_header("other", &key),
            }
        };
        let time = Timestamp::from_millis(1_700_000_000_000 + (self.now - self.start).as_millis() as i64);
        let handle = matches!(kind, Kind::Handles).then(|| self.side.lookout());
        let mut taken = false;
        self.measured(|run| {
            taken = run.side.produce(message(), handle.as_ref().map(Awaited::slot), time).is_ok();
        });
        self.handles.extend(handle.filter(|_| taken));
        self.measured(|run| run.side.deliver());
        taken
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        Unthreaded::set_clock(self.now);
    }

    /// The worker and the brokers go on until there is nothing to do.
    fn settle(&mut self) {
        self.count();
        let mut again = true;
        while again || !self.inbox.is_empty() || self.side.is_awaited() {
            let inbox = mem::take(&mut self.inbox);
            let mut ended = false;
            self.measured(|run| match run.side.turn(inbox.into_iter(), run.now, &mut ()) {
                Turn::Wait(until) => again = until.passed(run.now),
                Turn::Ended => ended = true,
                Turn::Broke => panic!("the worker goes on"),
            });
            let mut asked = Vec::new();
            self.measured(|run| asked = mem::take(&mut run.side.wires().asked));
            asked.into_iter().for_each(|asked| self.serve(asked));
            self.count();
            if ended {
                break;
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
        self.measured(|_| drop(frame));
        self.inbox.push(Event::Wrote { conn, started: 1, finished: 1 });
        let silent = match (self.obstacle, request[1]) {
            (Obstacle::NoMetadata, api) => api == 3,
            (Obstacle::NoAnswer, api) => api == 0,
            _ => false,
        };
        if silent {
            return;
        }
        let now = Timestamp::from_millis(1_700_000_000_000 + (self.now - self.start).as_millis() as i64);
        match self.cluster.receive(1, &request, now) {
            Reply::Send { bytes, .. } => {
                let mut response = Vec::new();
                self.measured(|_| response = bytes[4..].to_vec());
                self.inbox.push(Event::Response(conn, response));
            }
            Reply::Park(_) => panic!("nothing is in the way of an answer"),
        }
    }

    /// The only code whose memory is counted.
    fn measured(&mut self, act: impl FnOnce(&mut Self)) {
        let info = measure(|| act(self));
        self.peak = self.peak.max(self.allocated + info.bytes_max as i64);
        self.allocated += info.bytes_current;
    }
}

//! One run: an engine, brokers, the wires between them, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla::config::{BrokerAddress, ClientConfig, ProducerConfig, RequiredAcks};
use ottla::engine::backoff::Random;
use ottla::engine::chunk::Slot;
use ottla::engine::entry;
use ottla::engine::producer::{Freed, ProducerEngine};
use ottla::testing::state::ClusterState;
use ottla::testing::{Cluster, StoredMessage};
use ottla::wire::frame::ConnId;
use ottla::{ConnectionErrorKind, Timestamp, Topic};

use crate::check::{Rules, Said, check};
use crate::wires::{Load, Wire};

pub const TOPICS: [&str; 2] = ["a", "b"];
pub const FIRST_PORT: u16 = 9000;
/// After this the world is repaired.
pub const TROUBLE: Duration = Duration::from_secs(30);
/// By then everything must have its fate.
const END: Duration = Duration::from_secs(400);

pub struct World {
    pub random: Random,
    pub start: Instant,
    pub now: Instant,
    pub engine: ProducerEngine,
    pub cluster: ClusterState,
    pub client: Arc<ClientConfig>,
    pub config: Arc<ProducerConfig>,
    pub brokers: i32,
    pub partitions: i32,
    pub auto_create: bool,
    pub callbacks: bool,
    pub wires: HashMap<ConnId, Wire>,
    events: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    /// What happenings carry, by their number.
    pub loads: HashMap<u64, Load>,
    next: u64,
    pub produced: u64,
    pub held: u64,
    pub said: HashMap<u64, Vec<Said>>,
    /// Where the fates of those messages are waited for that have a handle.
    pub slots: HashMap<u64, Arc<Slot>>,
    /// What was in topics that were deleted.
    pub gone: Vec<StoredMessage>,
    /// Engines that panicked. Each has numbered its connections from 1.
    pub panics: u64,
    pub abandoned: bool,
    pub problems: Vec<String>,
    steps: u64,
    /// Whether what happens is told, for a look at one seed.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    Produce,
    Connected(ConnId),
    Refused(ConnId),
    Wrote(ConnId),
    AtBroker(ConnId),
    AtClient(ConnId),
    Closed(ConnId),
    Cut,
    Stop(i32),
    Start(i32),
    Move,
    Refuse,
    Delete,
    Purge,
    /// The callbacks for so many messages and bytes have returned.
    Called(usize, usize),
    Panic,
    Abandon,
    Repair,
    /// Whatever can be delivered was delivered by now.
    Settled,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        for _ in 0..4 {
            random.draw();
        }
        let below = |random: &mut Random, most: u64| (random.draw() >> 20) % most;
        let brokers = 1 + below(&mut random, 3) as i32;
        let partitions = 1 + below(&mut random, 3) as i32;
        let ports: Vec<u16> = (0..brokers as u16).map(|at| FIRST_PORT + at).collect();
        // A topic that is made anew has perhaps another number of partitions.
        let mut builder = Cluster::builder().brokers(brokers).default_partitions(1 + below(&mut random, 3) as i32);
        if below(&mut random, 4) > 0 {
            builder = builder.topic(TOPICS[0], partitions);
        }
        if below(&mut random, 8) == 0 {
            builder = builder.max_message_bytes(300);
        }
        let auto_create = below(&mut random, 6) > 0;
        let cluster = ClusterState::new(builder.auto_create(auto_create), &ports).expect("the topics are good");
        let seeds = ports.iter().map(|port| BrokerAddress { host: "127.0.0.1".into(), port: *port }).collect();
        let mut client = ClientConfig::new(seeds);
        client.socket_timeout = Duration::from_secs([1, 6, 30][below(&mut random, 3) as usize]);
        let mut config = ProducerConfig { idempotent: below(&mut random, 6) > 0, ..ProducerConfig::default() };
        if !config.idempotent {
            let acks = [RequiredAcks::All, RequiredAcks::Leader, RequiredAcks::None];
            config.required_acks = acks[below(&mut random, 3) as usize];
        }
        config.max_in_flight = 1 + below(&mut random, 5) as usize;
        config.max_batch_bytes = [150, 400, 2000, 100_000][below(&mut random, 4) as usize];
        config.max_buffer_bytesize = [300, 3000, 1 << 20][below(&mut random, 3) as usize];
        config.delivery_timeout = Duration::from_secs([1, 5, 20, 120][below(&mut random, 4) as usize]);
        config.unknown_topic_grace = Duration::from_secs([1, 30][below(&mut random, 2) as usize]);
        if below(&mut random, 8) == 0 {
            config.max_retries = Some(below(&mut random, 4) as u32);
        }
        let callbacks = below(&mut random, 3) == 0;
        let (client, config) = (Arc::new(client), Arc::new(config));
        let engine = engine(&client, &config, callbacks, random.draw());
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let mut world = Self {
            random,
            start,
            now: start,
            engine,
            cluster,
            client,
            config,
            brokers,
            partitions,
            auto_create,
            callbacks,
            wires: HashMap::new(),
            events: BinaryHeap::new(),
            loads: HashMap::new(),
            next: 0,
            produced: 0,
            held: 0,
            said: HashMap::new(),
            slots: HashMap::new(),
            gone: Vec::new(),
            panics: 0,
            abandoned: false,
            problems: Vec::new(),
            steps: 0,
            told: std::env::var_os("OTTLA_SIM_TRACE").is_some(),
        };
        world.plan();
        world
    }

    /// Runs to the end, and names what went wrong.
    pub fn run(mut self) -> Vec<String> {
        while self.problems.is_empty() {
            self.steps += 1;
            if self.steps > 200_000 {
                self.problems.push("it spins".to_owned());
                break;
            }
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let deadline = self.engine.next_deadline().moment().map(|at| at.max(self.now));
            let Some(next) = event.into_iter().chain(deadline).min() else { break };
            if next > self.start + END {
                break;
            }
            if deadline == Some(next) && event != Some(next) && next == self.now && self.steps % 64 == 0 {
                // A deadline that has passed and changes nothing would go on for ever.
                self.now += Duration::from_micros(1);
            }
            self.now = next.max(self.now);
            while let Some(Reverse((at, number, happening))) = self.events.peek().copied() {
                if at > self.now {
                    break;
                }
                self.events.pop();
                self.happen(number, happening);
            }
            self.turn();
        }
        if self.problems.is_empty() {
            self.judge();
        }
        self.problems.truncate(5);
        if !self.problems.is_empty() {
            let (idempotent, acks) = (self.config.idempotent, self.config.required_acks);
            self.problems.push(format!("idempotent {idempotent}, acks {acks:?}, {} brokers", self.brokers));
        }
        self.problems
    }

    /// Compares what was said with what is there, once all is over.
    fn judge(&mut self) {
        // Both topics at once: numbers tell the messages apart.
        let mut logs = vec![std::mem::take(&mut self.gone)];
        logs.extend(TOPICS.map(|topic| self.log_of(topic)));
        let rules = Rules {
            idempotent: self.config.idempotent,
            acknowledged: self.config.required_acks != RequiredAcks::None,
            // After a panic nobody sends again what was possibly written, and a late copy may still arrive.
            late_copies: !self.config.idempotent || self.panics > 0 || self.abandoned,
        };
        self.problems = check(self.produced, &self.said, &logs, rules);
        if self.engine.unfinished() > 0 {
            self.problems.push(format!("{} are unfinished", self.engine.unfinished()));
        }
        if self.held > 0 {
            self.problems.push(format!("{} queue places were not released", self.held));
        }
        if self.panics == 0 && self.engine.held() != Freed::default() {
            self.problems.push(format!("{:?} of the buffer were not freed", self.engine.held()));
        }
        if let Some((id, _)) = self.slots.iter().next() {
            self.problems.push(format!("the handle of {id} was never told"));
        }
    }

    pub fn log_of(&self, topic: &str) -> Vec<StoredMessage> {
        let mut log = self.cluster.messages(topic);
        if topic == TOPICS[1] {
            log.iter_mut().for_each(|message| message.partition += 1000);
        }
        log
    }

    fn happen(&mut self, number: u64, happening: Happening) {
        self.tell(|| format!("{happening:?}"));
        match happening {
            Happening::Produce if self.abandoned => {}
            Happening::Produce => self.produce(),
            Happening::Connected(conn) => {
                if self.wires.get(&conn).is_some_and(|wire| wire.open) {
                    self.engine.connected(conn, self.now);
                }
            }
            Happening::Refused(conn) => {
                if self.wires.remove(&conn).is_some() {
                    let why = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                    self.engine.closed(conn, ConnectionErrorKind::Connect(Arc::new(why)), self.now);
                }
            }
            Happening::Wrote(conn) => {
                if self.wires.get(&conn).is_some_and(|wire| wire.open) {
                    self.engine.wrote(conn, 1, 1, self.now);
                }
            }
            Happening::AtBroker(conn) => self.serve(number, conn),
            Happening::AtClient(conn) => {
                let Some(Load::Answer(bytes)) = self.loads.remove(&number) else { return };
                if self.wires.get(&conn).is_some_and(|wire| wire.open) {
                    self.engine.response(conn, &bytes, self.now);
                }
            }
            Happening::Closed(conn) => {
                if self.wires.get_mut(&conn).is_some_and(|wire| wire.end(self.now)) {
                    self.engine.closed(conn, ConnectionErrorKind::Closed, self.now);
                }
            }
            Happening::Cut => {
                let mut open: Vec<ConnId> = self.wires.iter().filter(|(_, it)| it.open).map(|(id, _)| *id).collect();
                open.sort_unstable();
                if !open.is_empty() {
                    let conn = open[self.below(open.len() as u64) as usize];
                    self.cut(conn);
                }
            }
            Happening::Stop(node) => {
                self.cluster.broker_stops(node);
                let mut on: Vec<ConnId> = self.wires.iter().filter(|(_, it)| it.node == node).map(|it| *it.0).collect();
                on.sort_unstable();
                on.into_iter().for_each(|conn| self.cut(conn));
            }
            Happening::Start(node) => {
                self.cluster.broker_starts(node);
            }
            Happening::Move => {
                let topic = TOPICS[self.below(2) as usize];
                let (partition, node) = (self.below(self.partitions as u64), 1 + self.below(self.brokers as u64));
                self.cluster.move_leader(topic, partition as i32, node as i32);
            }
            Happening::Refuse => self.refuse(),
            Happening::Delete => {
                let topic = TOPICS[self.below(2) as usize];
                self.gone.extend(self.log_of(topic));
                self.cluster.delete_topic(topic);
            }
            Happening::Purge => self.engine.purge(self.now),
            Happening::Called(messages, bytes) => self.engine.callbacks_done(messages, bytes),
            Happening::Panic => self.salvage(),
            Happening::Abandon => {
                self.abandoned = true;
                self.engine.abandon(self.now);
                if self.engine.unfinished() > 0 {
                    self.problems.push("abandoned messages have no fate".to_owned());
                }
            }
            Happening::Settled => {
                if self.auto_create && self.engine.unfinished() > 0 {
                    self.problems.push(format!("{} wait for nothing", self.engine.unfinished()));
                }
            }
            Happening::Repair => {
                // Perhaps one never comes back.
                let lost = 2 + self.below(4) as i32;
                for node in 1..=self.brokers {
                    self.cluster.broker_starts(node);
                }
                if lost <= self.brokers {
                    self.happen(0, Happening::Stop(lost));
                }
            }
        }
    }

    /// Lets the engine decide, does what it says, and notes the fates.
    fn turn(&mut self) {
        for _ in 0..100 {
            self.engine.advance(self.now);
            let mut acted = false;
            while let Some(action) = self.engine.next_action() {
                acted = true;
                self.act(action);
            }
            if !acted {
                break;
            }
        }
        while let Some(fate) = self.engine.next_fate() {
            self.note(fate);
        }
        let released = self.engine.take_released();
        match self.held.checked_sub(released.messages) {
            Some(held) => self.held = held,
            None => self.problems.push("a queue place was released twice".to_owned()),
        }
        let (held, most) = (self.engine.held(), self.config.max_buffer_bytesize);
        // One batch alone always may, whatever is kept beside its records.
        let records = held.bytes.saturating_sub(held.messages * entry::EXTRA);
        if !self.callbacks && held.bytes > most && records > self.config.max_batch_bytes + 200 {
            self.problems.push(format!("{held:?} are in a buffer of {most}"));
        }
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{:>12.6} {}", self.elapsed().as_secs_f64(), what());
        }
    }

    pub fn at(&mut self, elapsed: Duration, happening: Happening) -> u64 {
        let number = self.next;
        self.next += 1;
        self.events.push(Reverse((self.start + elapsed, number, happening)));
        number
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// What the brokers' clocks show.
    pub fn clock(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + self.elapsed().as_millis() as i64)
    }

    pub fn latency(&mut self) -> Duration {
        match self.below(20) {
            0 => Duration::from_micros(self.below(3_000_000)),
            1..=4 => Duration::from_micros(self.below(200_000)),
            _ => Duration::from_micros(100 + self.below(2_000)),
        }
    }

    pub fn within(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64))
    }

    pub fn below(&mut self, most: u64) -> u64 {
        (self.random.draw() >> 20) % most
    }
}

/// An engine that knows both topics.
pub fn engine(client: &Arc<ClientConfig>, config: &Arc<ProducerConfig>, callbacks: bool, seed: u64) -> ProducerEngine {
    let mut engine = ProducerEngine::new(Arc::clone(client), Arc::clone(config), seed).with_callbacks(callbacks);
    for name in TOPICS {
        engine.add_topic(Topic::new(name).expect("a good name"));
    }
    engine
}

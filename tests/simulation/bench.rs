//! An engine and brokers without delay or chance: every byte arrives at once unless a test says otherwise.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use ottla::config::{ClientConfig, ProducerConfig};
use ottla::engine::producer::ProducerEngine;
use ottla::engine::{Action, Engine};
use ottla::ids::TopicIndex;
use ottla::queue::chunk::Chunk;
use ottla::testing::requests::{Reply, Then};
use ottla::testing::state::ClusterState;
use ottla::testing::{Api, ClusterBuilder};
use ottla::wire::frame::ConnId;
use ottla::{ConnectionErrorKind, Delivered, DeliveryError, Message, Timestamp, Token, Topic};

const FIRST_PORT: u16 = 9000;

/// An engine under test.
pub struct Bench {
    pub engine: ProducerEngine,
    pub cluster: ClusterState,
    /// Brokers that close a connection as soon as its handshake is done.
    pub rude: HashSet<i32>,
    /// Whether sockets take no byte of a Produce request.
    pub stuffed: bool,
    /// Connections that were begun.
    pub connects: usize,
    /// Brokers that Produce requests are on their way to, until `arrive`.
    pub far: HashSet<i32>,
    /// Whether every answer comes twice.
    pub echo: bool,
    /// Changes answers on their way to the engine.
    pub twist: Option<Twist>,
    /// How often a token for logins was asked for.
    pub asks: usize,
    pub delivered: Vec<Delivered>,
    pub failed: Vec<DeliveryError>,
    wires: HashMap<ConnId, i32>,
    on_the_way: VecDeque<(ConnId, Bytes)>,
    topics: Vec<String>,
    start: Instant,
    now: Instant,
    tickets: u64,
}

/// Changes the frame of an answer.
pub struct Twist(pub Box<dyn FnMut(&mut Answer)>);

/// An answer on its way to the engine.
pub struct Answer {
    /// The number of the API, and the version that it was asked in.
    pub api: i16,
    pub version: i16,
    /// The frame, size field included.
    pub bytes: Vec<u8>,
}

/// Changes a response in a frame without its size.
pub fn rewrite<R: Decodable + Encodable + HeaderVersion>(
    frame: &mut Vec<u8>,
    version: i16,
    change: impl FnOnce(&mut R),
) {
    let header_version = R::header_version(version);
    let mut rest = &frame[..];
    let header = ResponseHeader::decode(&mut rest, header_version).expect("a header");
    let mut answer = R::decode(&mut rest, version).expect("an answer");
    change(&mut answer);
    frame.clear();
    header.encode(frame, header_version).expect("a header");
    answer.encode(frame, version).expect("an answer");
}

impl Twist {
    /// Changes every answer to requests of this API.
    pub fn of<R: Decodable + Encodable + HeaderVersion>(api: Api, mut change: impl FnMut(&mut R) + 'static) -> Self {
        Self(Box::new(move |answer: &mut Answer| {
            if answer.api == api.key() {
                let mut frame = answer.bytes.split_off(4);
                rewrite(&mut frame, answer.version, &mut change);
                answer.bytes.append(&mut frame);
            }
        }))
    }
}

impl fmt::Debug for Twist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twist")
    }
}

impl Bench {
    /// Brokers as described, and an engine that knows topics `a` and `b`.
    pub fn new(brokers: u16, describe: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Self {
        Self::with(brokers, describe, |_| ())
    }

    pub fn with(
        brokers: u16,
        describe: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
        configure: impl FnOnce(&mut ProducerConfig),
    ) -> Self {
        Self::tuned(brokers, describe, |_, config| configure(config))
    }

    pub fn tuned(
        brokers: u16,
        describe: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
        configure: impl FnOnce(&mut ClientConfig, &mut ProducerConfig),
    ) -> Self {
        let ports: Vec<u16> = (0..brokers).map(|at| FIRST_PORT + at).collect();
        let builder = describe(ottla::testing::Cluster::builder().brokers(i32::from(brokers)));
        let cluster = ClusterState::new(builder, &ports).expect("the description is good");
        let seeds = ports.iter().map(|port| format!("127.0.0.1:{port}").parse().expect("an address")).collect();
        let (mut client, mut config) = (ClientConfig::new(seeds), ProducerConfig::default());
        configure(&mut client, &mut config);
        let engine = ProducerEngine::new(Arc::new(client), Arc::new(config), 7);
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        let mut bench = Self {
            engine,
            cluster,
            rude: HashSet::new(),
            stuffed: false,
            connects: 0,
            far: HashSet::new(),
            echo: false,
            twist: None,
            asks: 0,
            delivered: Vec::new(),
            failed: Vec::new(),
            wires: HashMap::new(),
            on_the_way: VecDeque::new(),
            topics: Vec::new(),
            start,
            now: start,
            tickets: 0,
        };
        bench.know("a");
        bench.know("b");
        bench
    }

    /// Tells the engine a topic, and returns its index.
    pub fn know(&mut self, name: &str) -> TopicIndex {
        self.engine.add_topic(Topic::new(name).expect("a good name"));
        self.topics.push(name.to_owned());
        TopicIndex(self.topics.len() as u32 - 1)
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    /// Appends a message to a topic that the engine knows.
    pub fn append(&mut self, message: &Message<'_>) {
        let topic = self.topics.iter().position(|known| known == message.topic()).expect("a topic that it knows");
        self.append_to(TopicIndex(topic as u32), message);
    }

    /// Appends a message to the topic with this index.
    pub fn append_to(&mut self, topic: TopicIndex, message: &Message<'_>) {
        let time = message.create_time().unwrap_or_else(|| self.clock());
        let mut chunk = Chunk::of(self.tickets, topic, message, time);
        self.tickets += 1;
        self.engine.append(&mut chunk, self.now);
    }

    /// Appends a message and sends what can be sent at once.
    pub fn send(&mut self, message: &Message<'_>) {
        self.append(message);
        self.turn();
    }

    /// Requests of this API that brokers got until now.
    pub fn requests(&self, api: Api) -> usize {
        self.cluster.requests().iter().filter(|request| request.api == api).count()
    }

    /// How many Produce requests are on their way.
    pub fn on_the_way(&self) -> usize {
        self.on_the_way.len()
    }

    /// The oldest request that is on its way arrives.
    pub fn let_one_arrive(&mut self) {
        if let Some((conn, request)) = self.on_the_way.pop_front() {
            self.answer(conn, &request);
        }
    }

    /// What is on its way arrives, in order.
    pub fn arrive(&mut self) {
        for (conn, request) in std::mem::take(&mut self.on_the_way) {
            self.answer(conn, &request);
        }
        self.turn();
    }

    /// The user's provider gives a token, or says why not.
    pub fn give(&mut self, token: Result<Token, String>) {
        self.engine.token(token, self.now);
        self.turn();
    }

    /// Lets so much time pass; returns how often the engine had to be woken.
    pub fn pass(&mut self, time: Duration) -> usize {
        let end = self.now + time;
        let mut wakes = 0;
        loop {
            self.turn();
            let Some(next) = self.engine.next_deadline().moment().filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            wakes += 1;
            assert!(wakes < 1_000_000, "it spins");
        }
        self.now = end;
        self.turn();
        wakes
    }

    /// The broker stops, and its connections end.
    pub fn stop(&mut self, node: i32) {
        self.cluster.broker_stops(node);
        self.cut(node);
    }

    /// The broker's connections end.
    pub fn cut(&mut self, node: i32) {
        let mut ended: Vec<ConnId> = self.wires.iter().filter(|(_, on)| **on == node).map(|(conn, _)| *conn).collect();
        ended.sort_unstable();
        for conn in ended {
            self.wires.remove(&conn);
            self.engine.closed(conn, ConnectionErrorKind::Closed, self.now);
        }
    }

    fn turn(&mut self) {
        for _ in 0..1000 {
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
            match fate.into_delivered() {
                Ok((batch, _)) => batch.for_each(|delivered| self.delivered.push(delivered.clone())),
                Err(fate) => self.failed.extend(fate.into_errors()),
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Connect { conn, address, .. } => {
                self.connects += 1;
                let node = i32::from(address.port) - i32::from(FIRST_PORT) + 1;
                if self.cluster.is_up(node) {
                    self.wires.insert(conn, node);
                    self.engine.connected(conn, self.now);
                } else {
                    let why = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
                    self.engine.closed(conn, ConnectionErrorKind::Connect(Arc::new(why)), self.now);
                }
            }
            Action::Send { conn, frame } => self.serve(conn, Bytes::from(frame.to_vec()).slice(4..)),
            Action::Close { conn } => {
                self.wires.remove(&conn);
            }
            Action::AskForToken => self.asks += 1,
            Action::Limit { .. } => {}
        }
    }

    fn serve(&mut self, conn: ConnId, request: Bytes) {
        let Some(&node) = self.wires.get(&conn) else { return };
        let api = request[1];
        if self.stuffed && api == 0 {
            return;
        }
        self.engine.wrote(conn, 1, 1, self.now);
        // A broker serves one request of a connection at a time.
        let behind = self.on_the_way.iter().any(|(before, _)| *before == conn);
        if behind || (self.far.contains(&node) && api == 0) {
            return self.on_the_way.push_back((conn, request));
        }
        self.answer(conn, &request);
    }

    fn answer(&mut self, conn: ConnId, request: &Bytes) {
        let Some(&node) = self.wires.get(&conn) else { return };
        let (api, version) = (request[1], i16::from_be_bytes([request[2], request[3]]));
        let Reply::Send { mut bytes, then, .. } = self.cluster.receive_on(conn.0, node, request, self.clock()) else {
            return;
        };
        if bytes.len() > 4 {
            if let Some(Twist(twist)) = &mut self.twist {
                let mut answer = Answer { api: api.into(), version, bytes };
                twist(&mut answer);
                bytes = answer.bytes;
            }
            for _ in 0..=usize::from(self.echo) {
                self.engine.response(conn, &bytes[4..], self.now);
            }
        }
        if (then == Then::Close || (api == 18 && self.rude.contains(&node))) && self.wires.remove(&conn).is_some() {
            self.engine.closed(conn, ConnectionErrorKind::Closed, self.now);
        }
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + (self.now - self.start).as_millis() as i64)
    }
}

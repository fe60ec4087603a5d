//! A whole producer without threads and sockets, the queue and the engine, while brokers do whatever the fuzzer says:
//! right answers, other answers, damaged ones, any bytes in any pieces, or none, at any time.
//!
//! Nothing is true about the brokers' logs here (the simulation looks at those), but this holds whatever they do: every
//! message has one fate, the bounds hold, it ends in time, and it does not spin.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla::config::{ClientConfig, ProducerConfig};
use ottla::engine::Engine;
use ottla::engine::producer::batch::BATCH;
use ottla::engine::producer::{Amount, BatchFate, ProducerEngine, Released, Salvage};
use ottla::fate::slot::{Awaited, Owner, await_fate};
use ottla::queue::chunk::Chunk;
use ottla::queue::extras;
use ottla::queue::{Limits, Prepared, Queue, Refused, Sealed};
use ottla::testing::state::ClusterState;
use ottla::testing::{Api, Cluster, Fault};
use ottla::wire::frame::ConnId;
use ottla::{ConnectionErrorKind, ErrorCode, Message, RequiredAcks, Timestamp};

use super::input::Input;
use super::wires::{Network, Wire};

/// How producer and cluster are set up, then what happens, step by step, and how it ends.
pub fn producer_script(data: &[u8]) {
    let mut script = Script::new(Input::new(data));
    for _ in 0..MOST_STEPS {
        if script.input.is_empty() {
            break;
        }
        script.step();
        script.turn();
    }
    script.end();
}

pub struct Script<'a> {
    pub input: Input<'a>,
    pub now: Instant,
    pub engine: ProducerEngine,
    pub cluster: ClusterState,
    pub network: Network,
    pub wires: BTreeMap<ConnId, Wire>,
    start: Instant,
    client: Arc<ClientConfig>,
    config: Arc<ProducerConfig>,
    queue: Queue,
    sealed: Sealed,
    limits: Limits,
    told_topics: usize,
    callbacks: bool,
    /// Messages and bytes whose callbacks have not returned.
    called: VecDeque<Amount>,
    /// Fates by ticket.
    fates: Vec<u32>,
    handles: BTreeMap<u64, Awaited>,
    /// When the time of messages last began to count.
    due: Instant,
    salvaged: bool,
}

impl<'a> Script<'a> {
    fn new(mut input: Input<'a>) -> Self {
        let brokers = 1 + input.below(2) as u16;
        let ports: Vec<u16> = (0..brokers).map(|at| FIRST_PORT + at).collect();
        let builder = Cluster::builder().brokers(i32::from(brokers)).topic("a", 2);
        let cluster = ClusterState::new(builder, &ports).expect("the description is good");
        let seeds = ports.iter().map(|port| format!("127.0.0.1:{port}").parse().expect("an address")).collect();
        let mut client = ClientConfig::new(seeds);
        client.socket_timeout = Duration::from_secs(3);
        let bits = input.byte();
        let mut config = ProducerConfig { delivery_timeout: DELIVERY_TIMEOUT, ..ProducerConfig::default() };
        config.unknown_topic_grace = Duration::from_secs(3);
        config.max_batch_bytes = if bits & 1 == 0 { 300 } else { 100_000 };
        config.max_message_bytes = 300;
        config.max_buffer_bytesize = if bits & 2 == 0 { 500 } else { 1 << 20 };
        config.max_buffer_size = (bits & 4 != 0).then_some(3);
        config.idempotent = bits & 8 == 0;
        if !config.idempotent {
            config.required_acks = if bits & 16 == 0 { RequiredAcks::None } else { RequiredAcks::Leader };
        }
        config.max_retries = (bits & 32 != 0).then_some(1);
        let callbacks = bits & 64 != 0;
        let (client, config) = (Arc::new(client), Arc::new(config));
        let engine = ProducerEngine::new(Arc::clone(&client), Arc::clone(&config), 7).with_callbacks(callbacks);
        let (interval, batch_bytes) = (Duration::ZERO, config.max_batch_bytes);
        let limits = Limits { messages: 30, bytes: 3000, threshold: 3, interval, batch_bytes };
        let (mut queue, sealed) = Queue::new(limits, &config.partitioner);
        queue.start();
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        Self {
            input,
            now: start,
            engine,
            cluster,
            network: Network::Up,
            wires: BTreeMap::new(),
            start,
            client,
            config,
            queue,
            sealed,
            limits,
            told_topics: 0,
            callbacks,
            called: VecDeque::new(),
            fates: Vec::new(),
            handles: BTreeMap::new(),
            due: start,
            salvaged: false,
        }
    }

    fn step(&mut self) {
        match self.input.below(24) {
            0..=4 => self.produce(),
            5 => {
                let _ = self.queue.deliver();
            }
            6 | 7 => self.let_pass(),
            8..=14 => self.answer(),
            15 => self.say(),
            16 => self.cut(),
            17 => self.write(),
            18 => self.change_network(),
            19 => self.change_cluster(),
            20 => {
                let _ = self.queue.deliver();
                self.turn();
                self.engine.purge(self.now);
            }
            21 => self.callbacks_return(),
            22 => {
                self.engine.extend(self.now);
                self.due = self.now;
            }
            _ => self.salvage(),
        }
    }

    fn produce(&mut self) {
        let id = self.fates.len() as u64;
        let shape = self.input.byte();
        let mut value = id.to_be_bytes().to_vec();
        value.resize(8 + usize::from(shape >> 4) * 12, b'.');
        let mut message = Message::new(if shape & 1 == 0 { "a" } else { "b" }, value);
        match shape >> 1 & 3 {
            0 => {}
            1 => message = message.with_partition(self.input.i32().max(0)),
            2 => message = message.with_partition_key(self.input.piece()),
            _ => message = message.with_key(self.input.piece()),
        }
        let clock = self.clock();
        let Ok(message) = Prepared::new(&message, self.config.max_message_bytes, clock) else { return };
        let handle = (shape & 8 == 8).then(|| await_fate(&Arc::new(Nobody)));
        let now = self.now;
        let slot = handle.as_ref().map(Awaited::slot);
        match self.queue.offer(&message, &mut message.encode_large(), slot, || Some(now)) {
            Ok(accepted) => {
                assert_eq!(accepted.ticket, id);
                self.fates.push(0);
                self.handles.extend(handle.map(|handle| (id, handle)));
            }
            Err(Refused::Full(full)) => assert!(full.queued <= self.limits.messages, "{full:?}"),
            Err(refused) => panic!("{refused:?}"),
        }
        assert!(self.queue.held() <= self.limits.messages);
        assert!(self.queue.held() == 1 || self.queue.bytes() <= self.limits.bytes);
    }

    /// Time passes: from deadline to deadline, or in one step, for a producer that was not run for long.
    fn let_pass(&mut self) {
        let time = match self.input.byte() {
            ms @ ..200 => Duration::from_millis(u64::from(ms) * u64::from(ms)),
            late => Duration::from_secs(u64::from(late - 200) * 60),
        };
        if self.input.flag() {
            self.now += time;
        } else {
            self.pass(time.min(Duration::from_secs(60)));
        }
    }

    /// Goes from deadline to deadline for so long.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut wakes = 0;
        loop {
            self.turn();
            let next = self.engine.next_deadline().moment().filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            wakes += 1;
            assert!(wakes < MOST_WAKES, "it spins: {wakes} times within {:?}", self.now - (end - time));
        }
        self.now = end;
    }

    fn change_cluster(&mut self) {
        let node = 1 + self.input.below(2) as i32;
        match self.input.below(8) {
            0 => self.cluster.broker_stops(node),
            1 => {
                self.cluster.broker_starts(node);
            }
            2 => {
                self.cluster.move_leader("a", self.input.below(2) as i32, node);
            }
            3 => {
                self.cluster.delete_topic(["a", "b"][self.input.below(2)]);
            }
            what => {
                let number = self.input.i32();
                let fault = match what {
                    4 => Fault::on(Api::Produce).throttle(Duration::from_millis(number.unsigned_abs().into())),
                    5 => Fault::on(Api::Metadata).error(ErrorCode(number as i16)),
                    6 => Fault::on(Api::InitProducerId).error(ErrorCode(number as i16)),
                    _ if self.input.flag() => Fault::on(Api::Produce).error(ErrorCode(number as i16)),
                    _ => Fault::on(Api::Produce).error_after(ErrorCode(number as i16)),
                };
                self.cluster.inject(fault.times(1 + self.input.below(3) as u64));
            }
        }
    }

    fn callbacks_return(&mut self) {
        if let Some(held) = self.called.pop_front() {
            self.engine.callbacks_done(held);
        }
    }

    /// The engine is given up after a panic, and another one goes on, as the driver does it.
    fn salvage(&mut self) {
        let seed = u64::from(self.input.byte());
        let mut fresh = ProducerEngine::new(Arc::clone(&self.client), Arc::clone(&self.config), seed << 32)
            .with_callbacks(self.callbacks);
        for topic in self.queue.topics().iter().take(self.told_topics) {
            fresh.add_topic(topic.clone());
        }
        let mut salvage = Salvage::default();
        std::mem::replace(&mut self.engine, fresh).salvage("the fuzzer", &mut salvage);
        self.salvaged = true;
        self.wires.clear();
        self.called.clear();
        self.release(salvage.released);
        for fate in std::mem::take(&mut salvage.fates) {
            self.note(fate, false);
        }
        for mut chunk in salvage.take_chunks() {
            self.append(&mut chunk);
        }
    }

    /// Takes what is due from the queue, lets the engine decide, does what it says, and notes the fates.
    pub fn turn(&mut self) {
        let mut chunks = VecDeque::new();
        self.queue.take_due(&self.sealed, &mut chunks);
        for topic in &self.queue.topics()[self.told_topics..] {
            self.engine.add_topic(topic.clone());
            self.told_topics += 1;
        }
        for mut chunk in chunks {
            self.append(&mut chunk);
            self.queue.recycle(chunk);
        }
        for turns in 0.. {
            assert!(turns < 1000, "it goes in circles");
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
        let mut counts = Vec::new();
        self.engine.take_counts(&mut counts);
        counts.into_iter().for_each(|told| self.queue.tell_partitions(told.topic, told.partitions));
        while let Some(fate) = self.engine.next_fate() {
            self.note(fate, true);
        }
        let released = self.engine.take_released();
        self.release(released);
        let (held, most) = (self.engine.held(), self.config.max_buffer_bytesize);
        // One batch alone always may, whatever is kept beside its records.
        let records = held.bytes.saturating_sub(BATCH + held.messages * extras::EXTRA);
        let alone = records <= self.config.max_batch_bytes + 200;
        if !self.callbacks {
            assert!(held.bytes <= most || alone, "{held:?} in a buffer of {most}");
        }
    }

    fn append(&mut self, chunk: &mut Chunk) {
        self.due = self.now;
        self.engine.append(chunk, self.now);
    }

    fn release(&mut self, released: Released) {
        assert!(released.messages <= self.queue.held() as u64, "{released:?} of {}", self.queue.held());
        self.queue.release(released.messages, released.bytes);
    }

    /// Notes a fate; with `holds`, its buffer place is held until the callbacks have returned.
    fn note(&mut self, mut fate: BatchFate, holds: bool) {
        assert!(fate.count() > 0, "an empty fate");
        if self.callbacks && holds {
            self.called.push_back(fate.held());
        }
        let ids: Vec<u64> = fate.values().map(id_of).collect();
        fate.tell_handles();
        let mut others = Vec::new();
        let mut unheard = ids.iter().filter(|id| !self.handles.contains_key(id));
        match fate.into_delivered() {
            Ok((batch, _)) => {
                batch.for_each(|_| others.push(*unheard.next().expect("who has a handle is not told beside it")));
            }
            Err(fate) => others.extend(fate.into_errors().iter().map(|error| id_of(error.message().value()))),
        }
        let mut others = others.into_iter();
        for id in ids {
            self.fates[id as usize] += 1;
            assert_eq!(self.fates[id as usize], 1, "message {id} has another fate");
            match self.handles.remove(&id).map(|mut handle| handle.look()) {
                None => assert_eq!(others.next(), Some(id), "everyone in the batch is told, in order"),
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(error))) => assert_eq!(id_of(error.message().value()), id, "another's error"),
                Some(sight) => panic!("the handle of {id} sees {sight:?}"),
            }
        }
        assert_eq!(others.next(), None, "told twice");
    }

    /// What the brokers' clocks show.
    pub fn clock(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + (self.now - self.start).as_millis() as i64)
    }

    /// All messages leave; the network is as it was, right, dead or silent from now on, or the producer gives up.
    fn end(&mut self) {
        self.queue.close();
        self.turn();
        match self.input.below(5) {
            0 => {}
            1 => {
                (self.network, self.input) = (Network::Right, Input::new(&[]));
                (1..=2).for_each(|node| {
                    self.cluster.broker_starts(node);
                });
                self.close_all();
            }
            2 => {
                self.network = Network::Refuses;
                self.close_all();
            }
            3 => self.network = Network::Silent,
            _ => {
                self.engine.abandon(self.now);
                self.turn();
                assert_eq!(self.engine.unfinished(), 0, "abandoned messages have no fate");
            }
        }
        let until = self.due + DELIVERY_TIMEOUT + Duration::from_secs(1);
        while self.engine.unfinished() > 0 {
            assert!(self.now < until, "{} have no fate in time", self.engine.unfinished());
            self.pass(Duration::from_millis(500));
            while !self.called.is_empty() {
                self.callbacks_return();
            }
        }
        self.turn();
        while !self.called.is_empty() {
            self.callbacks_return();
        }
        // As the worker, which is woken for that.
        self.turn();
        for (id, fates) in self.fates.iter().enumerate() {
            assert_eq!(*fates, 1, "message {id} has no fate");
        }
        assert!(self.handles.is_empty(), "handles without a fate: {:?}", self.handles.keys());
        assert_eq!((self.queue.held(), self.queue.bytes()), (0, 0), "places were not released");
        // What was written and given up keeps its memory until its request is answered or lost (a ghost): after the
        // longest silence that a broker can ask for at the latest.
        self.pass(Duration::from_secs(26 * 24 * 60 * 60));
        if !self.salvaged {
            assert_eq!(self.engine.held(), Amount::default(), "the buffer was not freed");
        }
    }

    fn close_all(&mut self) {
        for conn in std::mem::take(&mut self.wires).into_keys() {
            self.engine.closed(conn, ConnectionErrorKind::Closed, self.now);
        }
    }
}

fn id_of(value: Option<&[u8]>) -> u64 {
    let number = value.and_then(|value| value.first_chunk()).expect("every value begins with a number");
    u64::from_be_bytes(*number)
}

pub const FIRST_PORT: u16 = 9000;
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_STEPS: usize = 500;
const MOST_WAKES: usize = 3000;

/// In the place of a producer.
struct Nobody;

impl Owner for Nobody {
    fn due(&self, _ticket: u64) {}

    fn works_here(&self) -> bool {
        false
    }

    fn process(&self) -> Option<u32> {
        Some(std::process::id())
    }
}

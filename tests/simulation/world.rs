//! One run: a producer without threads, its callers, brokers, the wires between them, and what goes wrong.

use std::cmp::Reverse;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::unthreaded::Unthreaded;
use fastrand::Rng;
use ottla::Timestamp;
use ottla::config::{ClientConfig, ProducerConfig, QueueConfig, RequiredAcks};
use ottla::engine::producer::Amount;
use ottla::net::Event;
use ottla::testing::state::ClusterState;
use ottla::wire::frame::ConnId;

use crate::callers::{Caller, Ended};
use crate::check::{Anomaly, Problem, Rules, Said, Stored, check};
use crate::ledger::{Eyes, Ledger, Sent, id_of};
use crate::meddling::Meddling;
use crate::planted::{Bug, Sequences};
use crate::setup::Setup;
use crate::stops::Stop;
use crate::wires::{Load, Wire};
use crate::worker::Break;

pub const TOPICS: [&str; 2] = ["a", "b"];
/// Where brokers listen, and where names lead to them: those of the first broker, and the next ones for the others.
pub const FIRST_PORT: u16 = 9000;
pub const NAMES: u16 = 8000;
/// After this the world is repaired.
pub const TROUBLE: Duration = Duration::from_secs(30);
/// By then everything must have its fate.
const END: Duration = Duration::from_secs(600);

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Whatever may go wrong.
    Any,
    /// Topics and whole clusters are made anew.
    Anew,
    /// The process is stopped again and again, and nothing else goes wrong.
    Stopped,
    /// Whatever may go wrong, and brokers let in only those who log in, now and then not even them, and not for long.
    Logins,
}

impl Story {
    /// Whether whatever may go wrong does.
    pub fn is_any(self) -> bool {
        matches!(self, Self::Any | Self::Logins)
    }
}

pub struct World {
    pub story: Story,
    /// Whether topics are named in requests, and not told by their ids.
    pub by_name: bool,
    /// Whether no message fails for want of time, no connection is lost, and no topic loses partitions.
    pub calm: bool,
    /// Whether a cluster took the place of another.
    pub replaced: bool,
    pub random: Rng,
    pub start: Instant,
    pub now: Instant,
    pub side: Unthreaded,
    pub cluster: ClusterState,
    pub client: Arc<ClientConfig>,
    pub config: Arc<ProducerConfig>,
    pub queue: QueueConfig,
    pub brokers: i32,
    pub partitions: i32,
    pub auto_create: bool,
    pub callbacks: bool,
    /// Whether the second topic began as one that refuses messages without a key.
    pub compacted: bool,
    pub names: bool,
    pub encrypted: bool,
    pub bug: Option<Bug>,
    pub sequences: Sequences,
    pub meddling: Meddling,
    pub wires: BTreeMap<ConnId, Wire>,
    /// What the worker hears of the sockets when it runs next.
    pub inbox: Vec<Event>,
    events: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    /// What happenings carry, by their number.
    pub loads: HashMap<u64, Load>,
    next: u64,
    pub callers: Vec<Caller>,
    pub ledger: Ledger,
    pub overflows: u64,
    /// Messages that brokers refused by their place in a batch.
    pub blamed: u64,
    /// When the process was stopped last, and how many messages were answered meanwhile.
    pub stop: Option<Stop>,
    pub answered_in_a_stop: u64,
    /// What was in topics that were deleted.
    gone: Vec<Vec<Stored>>,
    /// When the worker runs next, whether it waits to be woken, and whether it has ended.
    pub turn_at: Option<Instant>,
    pub sleeps: bool,
    pub stopped: bool,
    pub awaited_since: Option<Instant>,
    pub breaking: Option<Break>,
    pub panics: u64,
    /// For a planted bug: what came before the last panic.
    pub lost_below: u64,
    /// When the timer looks next, and whether there is one.
    pub tick_at: Option<Instant>,
    pub has_timer: bool,
    /// Whether the delivery thread is about to call.
    pub calling: bool,
    /// Whether the world was repaired, and whether the producer was shut down, was dropped, gave up by itself, or gave
    /// up what had no fate.
    pub healed: bool,
    pub closed: bool,
    pub dropped: bool,
    pub gave_up: bool,
    pub abandoned: bool,
    pub ended: Ended,
    problems: Vec<Problem>,
    steps: u64,
    trace: DefaultHasher,
    /// Whether what happens is told, for a look at one seed.
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// A caller does something.
    Call(usize),
    /// Those who wait look again.
    Look,
    /// The worker, the timer, the delivery thread run.
    Turn,
    Tick,
    CallBack,
    /// The worker wakes for nothing.
    Awake,
    Connected(ConnId),
    Refused(ConnId),
    Wrote(ConnId, usize, usize),
    AtBroker(ConnId),
    AtClient(ConnId),
    Closed(ConnId),
    Cut,
    /// The process is stopped for so long.
    Suspend(Duration),
    Stop(i32),
    Start(i32),
    /// A broker comes back at another address.
    Elsewhere(i32),
    Move,
    Refuse,
    Delete,
    /// A topic is deleted, and some time later made anew, or the whole cluster is.
    Recreate,
    Make(usize, i32),
    ClusterAnew,
    Break(Break),
    ShutDown(usize),
    Repair,
    /// Messages are produced for the last time.
    LastCall,
    /// Whatever can be delivered was delivered by now.
    Settled,
}

/// How a run went.
pub struct Outcome {
    pub problems: Vec<Problem>,
    /// Two runs with the same hash went the same way.
    pub trace: u64,
    /// Messages that were accepted, and calls that were refused for want of room.
    pub accepted: u64,
    pub overflows: u64,
    /// Messages that brokers refused by their place in a batch (KIP-467).
    pub blamed: u64,
    /// Messages that were answered while the process was stopped.
    pub answered_in_a_stop: u64,
}

impl World {
    pub fn new(seed: u64, story: Story, bug: Option<Bug>) -> Self {
        let mut random = Rng::with_seed(seed);
        let setup = Setup::draw(&mut random, story);
        let Setup { cluster, client, producer, queue, brokers, partitions, auto_create, callbacks, .. } = setup;
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let start = Instant::now();
        Unthreaded::set_clock(start);
        let ledger = Ledger::default();
        let callback = callbacks.then(|| ledger.callback());
        let side = Unthreaded::new(Arc::clone(&client), Arc::clone(&producer), &queue, callback, random.u64(..));
        let mut world = Self {
            story,
            by_name: setup.by_name,
            calm: setup.calm,
            replaced: false,
            random,
            start,
            now: start,
            side,
            cluster,
            client,
            config: producer,
            has_timer: !queue.delivery_interval.is_zero(),
            queue,
            brokers,
            partitions,
            auto_create,
            callbacks,
            compacted: setup.compacted,
            names: setup.names,
            encrypted: setup.encrypted,
            bug,
            sequences: Sequences::default(),
            meddling: Meddling::with(bug),
            wires: BTreeMap::new(),
            inbox: Vec::new(),
            events: BinaryHeap::new(),
            loads: HashMap::new(),
            next: 0,
            callers: (0..setup.callers).map(|_| Caller::default()).collect(),
            ledger,
            overflows: 0,
            blamed: 0,
            stop: None,
            answered_in_a_stop: 0,
            gone: Vec::new(),
            turn_at: None,
            sleeps: false,
            stopped: false,
            awaited_since: None,
            breaking: None,
            panics: 0,
            lost_below: 0,
            tick_at: None,
            calling: false,
            healed: false,
            closed: false,
            dropped: false,
            gave_up: false,
            abandoned: false,
            ended: Ended::default(),
            problems: Vec::new(),
            steps: 0,
            trace: DefaultHasher::new(),
            told: std::env::var_os("OTTLA_SIM_TRACE").is_some(),
        };
        world.plan();
        world.wake();
        world
    }

    /// Runs to the end, and names what went wrong.
    pub fn run(mut self) -> Outcome {
        while self.problems.is_empty() {
            let Some(Reverse((at, number, happening))) = self.events.pop() else { break };
            if let Some(later) = self.held_back(at, happening) {
                self.events.push(Reverse((later, number, happening)));
                continue;
            }
            self.steps += 1;
            if self.steps > 200_000 {
                self.wrong(Anomaly::Spin, "so many steps are not needed");
            }
            if at > self.start + END {
                break;
            }
            self.now = at.max(self.now);
            Unthreaded::set_clock(self.now);
            self.mark(&(self.elapsed(), number));
            self.happen(number, happening);
        }
        if self.problems.is_empty() {
            self.judge();
        }
        self.problems.truncate(5);
        let Self { problems, trace, ledger, overflows, blamed, answered_in_a_stop, .. } = self;
        Outcome { problems, trace: trace.finish(), accepted: ledger.accepted, overflows, blamed, answered_in_a_stop }
    }

    /// Compares what was said with what is there, once all is over.
    fn judge(&mut self) {
        for (id, told) in self.ledger.take_filled() {
            self.say(id, told);
        }
        self.look_at_handles();
        if self.somebody_waits() {
            self.wrong(Anomaly::NoOutcome, "somebody waits for ever");
        }
        if !self.stopped {
            self.wrong(Anomaly::NoOutcome, "the worker has not ended");
        }
        // Both topics at once: numbers tell the messages apart.
        let mut logs = std::mem::take(&mut self.gone);
        logs.extend([0, 1].map(|topic| self.log_of(topic)));
        let rules = Rules {
            idempotent: self.config.idempotent,
            acknowledged: self.config.required_acks != RequiredAcks::None,
            // After a panic nobody sends again what was possibly written, and a late copy may still arrive.
            // A cluster that took the place of another may get it by name under the id before, which is no older epoch.
            late_copies: !self.config.idempotent
                || self.panics > 0
                || self.abandoned
                || (self.by_name && self.replaced),
            untold: self.ended.untold,
        };
        self.problems.extend(check(&self.ledger.sent, &logs, rules));
        self.check_calm();
        self.check_counts();
        let (held, bytes) = self.side.queue(|queue| (queue.held(), queue.bytes()));
        if held > 0 || bytes > 0 {
            self.wrong(Anomaly::WrongPlaces, format!("{held} places with {bytes} bytes were not given back"));
        }
        let unfinished = self.side.engine().unfinished();
        if unfinished > 0 {
            self.wrong(Anomaly::NoOutcome, format!("{unfinished} are unfinished"));
        }
    }

    /// A handle is filled once: a second fate would hide the first from who has not looked yet.
    pub fn look_at_handles(&mut self) {
        let twice = self
            .ledger
            .handles
            .iter()
            .find(|(_, lookout)| lookout.as_ref().is_some_and(|it| it.fills() > 1))
            .map(|(id, _)| *id);
        if let Some(id) = twice {
            self.wrong(Anomaly::TwoOutcomes, format!("the handle of {id} was filled twice"));
        }
    }

    /// Delivered, failed and given up together are all that were accepted, and what was said sums up to them.
    fn check_counts(&mut self) {
        let counts = self.side.counts();
        let accepted = self.ledger.accepted;
        if counts.delivered + counts.failed + counts.given_up != accepted {
            self.wrong(Anomaly::NoOutcome, format!("{accepted} were accepted, {counts:?} have ended"));
        }
        let seen = |sent: &&Sent| sent.accepted && sent.eyes != Eyes::None;
        let delivered = |sent: &&Sent| matches!(sent.said[..], [Said::Delivered { .. }]);
        let told = self.ledger.sent.iter().filter(seen).filter(delivered).count() as u64;
        let unseen = self.ledger.sent.iter().filter(|sent| sent.accepted && sent.said.is_empty()).count() as u64;
        let most = told + unseen;
        if counts.delivered < told || counts.delivered > most {
            self.wrong(Anomaly::WrongCount, format!("{counts:?}, but {told} to {most} were delivered"));
        }
    }

    /// Deletes a topic, and keeps in mind what is in it.
    pub fn delete(&mut self, topic: usize) {
        let log = self.log_of(topic);
        self.gone.push(log);
        self.cluster.delete_topic(TOPICS[topic]);
    }

    fn log_of(&self, topic: usize) -> Vec<Stored> {
        let stored = self.cluster.messages(TOPICS[topic]);
        let apart = topic as i32 * 1000;
        let read = stored.into_iter().map(|message| Stored {
            id: id_of(message.value.as_deref()),
            partition: message.partition + apart,
            offset: message.offset,
        });
        read.collect()
    }

    fn happen(&mut self, number: u64, happening: Happening) {
        if !matches!(happening, Happening::Turn | Happening::Look | Happening::Tick) {
            self.tell(|| format!("{happening:?}"));
        }
        match happening {
            Happening::Call(caller) => self.call(caller),
            Happening::Look => self.look_again(),
            Happening::Turn => self.turn(),
            Happening::Tick => self.tick(),
            Happening::CallBack => self.call_back(),
            Happening::Awake => self.wake(),
            Happening::Connected(conn) => {
                if self.wires.get(&conn).is_some_and(|wire| wire.open) {
                    self.hear(Event::Connected(conn));
                }
            }
            Happening::Refused(conn) => self.refused(conn),
            Happening::Wrote(conn, started, finished) => self.wrote(number, conn, started, finished),
            Happening::AtBroker(conn) => self.serve(number, conn),
            Happening::AtClient(conn) => self.answered(number, conn),
            Happening::Closed(conn) => self.closed(conn),
            Happening::Cut => {
                let open: Vec<ConnId> = self.wires.iter().filter(|(_, it)| it.open).map(|(id, _)| *id).collect();
                if !open.is_empty() {
                    let conn = open[self.below(open.len() as u64) as usize];
                    self.cut(conn);
                }
            }
            Happening::Suspend(time) => self.suspend(time),
            Happening::Stop(node) => {
                self.cluster.broker_stops(node);
                self.cut_all(node);
            }
            Happening::Start(node) => {
                self.cluster.broker_starts(node);
            }
            Happening::Elsewhere(node) => {
                self.cluster.broker_stops(node);
                self.cut_all(node);
                let port = FIRST_PORT + 100 + (number % 1000) as u16;
                self.cluster.broker_moves(node, port);
                self.cluster.broker_starts(node);
            }
            Happening::Move => {
                let topic = TOPICS[self.below(2) as usize];
                let (partition, node) = (self.below(self.partitions as u64), 1 + self.below(self.brokers as u64));
                self.cluster.move_leader(topic, partition as i32, node as i32);
            }
            Happening::Refuse => self.refuse(),
            Happening::Delete => {
                let topic = self.below(2) as usize;
                self.delete(topic);
                if self.below(2) == 0 {
                    // Made anew at once, perhaps of another size.
                    let partitions = 1 + self.below(4) as i32;
                    self.cluster.make_topic(TOPICS[topic], partitions);
                }
            }
            Happening::Recreate => self.recreate(),
            Happening::Make(topic, partitions) => self.make(topic, partitions),
            Happening::ClusterAnew => self.cluster_anew(),
            Happening::Break(how) => {
                self.breaking = Some(how);
                self.wake();
            }
            Happening::ShutDown(caller) => {
                let timeout = [0, 10, 3000, 20_000][self.below(4) as usize];
                let timeout = (self.below(3) > 0).then_some(Duration::from_millis(timeout));
                // Dropping has always a limit.
                let report = timeout.is_none() || self.below(3) > 0;
                self.shut_down(caller, timeout, report);
            }
            Happening::Repair => self.repair(),
            Happening::LastCall => self.last_call(),
            Happening::Settled => {
                self.settled();
                self.shut_down(0, None, true);
            }
        }
    }

    /// Nothing goes wrong any more: what can be delivered has been, and nothing is held that nobody needs.
    fn settled(&mut self) {
        let engine = self.side.engine();
        let (unfinished, held) = (engine.unfinished(), engine.held());
        if (self.auto_create || !self.story.is_any()) && unfinished > 0 {
            self.wrong(Anomaly::NoOutcome, format!("{unfinished} wait for nothing"));
        }
        if unfinished == 0 && !self.stopped && !self.side.has_calls() && held != Amount::default() {
            self.wrong(Anomaly::WrongPlaces, format!("{held:?} of the buffer were not freed"));
        }
        let Some(since) = self.side.queue(|queue| queue.oldest_waiting()) else { return };
        if self.has_timer && since + self.queue.delivery_interval + Duration::from_secs(1) < self.now {
            self.wrong(Anomaly::LostWakeUp, format!("a message waits since {:?}", since - self.start));
        }
    }

    fn repair(&mut self) {
        self.cluster.heal();
        self.healed = true;
        if self.story == Story::Stopped {
            return;
        }
        // Perhaps one never comes back.
        let lost = 2 + self.below(4) as i32;
        for node in 1..=self.brokers {
            self.cluster.broker_starts(node);
        }
        if lost <= self.brokers {
            self.cluster.broker_stops(lost);
            self.cut_all(lost);
        }
    }

    pub fn wrong(&mut self, anomaly: Anomaly, what: impl Into<String>) {
        self.problems.push(Problem::new(anomaly, what));
    }

    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{:>12.6} {}", self.elapsed().as_secs_f64(), what());
        }
    }

    /// Makes this a part of what tells one run from another.
    pub fn mark(&mut self, what: &impl Hash) {
        what.hash(&mut self.trace);
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

    /// What everybody's clock shows.
    pub fn clock(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + self.elapsed().as_millis() as i64)
    }

    pub fn latency(&mut self) -> Duration {
        if self.story == Story::Stopped {
            return Duration::from_micros(100 + self.below(80_000));
        }
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
        self.random.u64(0..most)
    }
}

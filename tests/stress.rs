//! Real threads that do all that a producer offers, at random and at once, while connections are cut and others shut
//! it down. Afterwards every message is looked for: each that was accepted has one fate, and that fate is true.
//!
//! Some rounds of each kind by default; `OTTLA_STRESS_SECONDS=n` goes on for so long.
#![expect(clippy::disallowed_methods, reason = "threads and clocks are what is tested")]
#![expect(clippy::unwrap_used, reason = "it is a test, helpers included")]

use std::collections::{HashMap, HashSet};
use std::env;
use std::mem;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault, StoredMessage};
use ottla::{
    AsyncProducer, Client, DeliveryError, DeliveryHandle, Fate, Message, Persistence, ProduceErrorKind, ShutdownReport,
    WaitTimeout,
};

#[test]
fn eight_callers_and_two_shutdowns_leave_every_message_with_one_true_fate() {
    rounds("eight callers", |cluster, number| {
        // In every second round the brokers are down at the end, so that messages are handed back.
        let plan = Plan { callers: 8, messages: 20_000, handed_back: number % 2 == 1, callback: number % 3 == 1 };
        round(cluster, number, &plan);
    });
}

#[test]
fn sixty_four_callers_produce_flush_and_purge() {
    rounds("64 callers", |cluster, number| {
        let plan = Plan { callers: 64, messages: 20_000, handed_back: false, callback: number % 2 == 1 };
        round(cluster, number, &plan);
    });
}

struct Plan {
    callers: u64,
    /// The shutdowns begin after so many.
    messages: u64,
    handed_back: bool,
    callback: bool,
}

/// What one caller had to do with.
#[derive(Default)]
struct Told {
    /// Tags of accepted messages, and of those whose handle was dropped: nobody may learn of their failure.
    accepted: Vec<u64>,
    unheard: Vec<u64>,
    purged: Vec<Message<'static>>,
    fates: Vec<(u64, Fate)>,
}

/// What became of the messages of a round, each by its tag.
#[derive(Default)]
struct Account {
    delivered: HashSet<u64>,
    not_delivered: HashMap<u64, Persistence>,
}

fn round(cluster: &Cluster, number: u64, plan: &Plan) {
    let topic = format!("round-{number}-of-{}", plan.callers);
    cluster.create_topic(&topic, 6);
    let called: Arc<Mutex<Account>> = Arc::default();
    let mut builder =
        client(cluster).async_producer().streaming().retry_backoff(ms(2)).retry_backoff_max(ms(20)).max_queue_size(400);
    if plan.callback {
        let called = Arc::clone(&called);
        builder = builder.on_delivery(move |fate| match fate {
            Ok(delivered) => called.lock().unwrap().delivered(delivered.tag),
            Err(error) => called.lock().unwrap().failed(error.message(), error.persistence()),
        });
    }
    let producer = builder.build().unwrap();
    let produced = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    let (told, reports) = thread::scope(|scope| {
        let callers: Vec<_> = (0..plan.callers)
            .map(|caller| {
                let (producer, topic, produced) = (producer.clone(), &topic, &produced);
                scope.spawn(move || Caller::new(caller, topic, producer, produced).run())
            })
            .collect();
        let cutting = scope.spawn(|| {
            let mut random = Random(number + 1);
            while !ended.load(Ordering::Relaxed) {
                let fault = Fault::on(Api::Produce).times(1);
                let fault = cluster.inject(match random.below(3) {
                    0 => fault.cut_before(),
                    1 => fault.cut_after(),
                    _ => fault.cut_inside(5),
                });
                thread::sleep(ms(4));
                drop(fault);
                // Else the one request that is tried again could be cut each time.
                thread::sleep(ms(random.below(30)));
            }
        });
        wait_until(|| produced.load(Ordering::Relaxed) >= plan.messages);
        if plan.handed_back {
            (1..=3).for_each(|node| cluster.stop_broker(node));
        }
        let shut_down = || {
            let report = if plan.handed_back { producer.shutdown_within(ms(30)) } else { producer.shutdown() };
            report.unwrap()
        };
        let closing = [scope.spawn(shut_down), scope.spawn(shut_down)];
        let reports = closing.map(|closing| closing.join().unwrap());
        ended.store(true, Ordering::Relaxed);
        cutting.join().unwrap();
        (callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>(), reports)
    });
    (1..=3).for_each(|node| cluster.restart_broker(node).unwrap());
    drop(producer);
    let account = mem::take(&mut *called.lock().unwrap());
    check(account, told, reports, plan, &cluster.messages(&topic));
}

/// One caller, which does at random what can be done until it is told that the producer is closed.
struct Caller<'a> {
    number: u64,
    topic: &'a str,
    producer: AsyncProducer,
    produced: &'a AtomicU64,
    random: Random,
    told: Told,
    handles: Vec<(u64, DeliveryHandle)>,
}

impl<'a> Caller<'a> {
    fn new(number: u64, topic: &'a str, producer: AsyncProducer, produced: &'a AtomicU64) -> Self {
        let random = Random(number * 7919 + 17);
        Self { number, topic, producer, produced, random, told: Told::default(), handles: Vec::new() }
    }

    fn run(mut self) -> Told {
        while self.step() {}
        let (tags, handles): (Vec<_>, Vec<_>) = mem::take(&mut self.handles).into_iter().unzip();
        self.told.fates.extend(tags.into_iter().zip(DeliveryHandle::wait_all(handles)));
        self.told
    }

    /// Whether the producer is open.
    fn step(&mut self) -> bool {
        match self.random.below(2000) {
            0 => self.told.purged.extend(self.producer.purge().unwrap().map(DeliveryError::into_message)),
            1..4 => self.flush(),
            4..10 => assert!(self.producer.queue_size() <= 400),
            10..50 => self.producer.deliver_messages(),
            50..100 => self.look_at_a_handle(),
            100..200 => return self.produce_with_handle(),
            200..1500 => return self.produce(|producer, message| producer.produce(message)),
            _ => return self.produce(|producer, message| producer.produce_timeout(message, LONG)),
        }
        true
    }

    fn produce(&mut self, produce: impl Fn(&AsyncProducer, Message<'_>) -> Result<(), ottla::ProduceError>) -> bool {
        let tag = self.next_tag();
        let refused = produce(&self.producer, self.message(tag)).err();
        self.accepted(tag, refused)
    }

    fn produce_with_handle(&mut self) -> bool {
        let tag = self.next_tag();
        match self.producer.produce_with_handle(self.message(tag)) {
            Ok(handle) if self.random.below(4) == 0 => {
                self.told.unheard.push(tag);
                drop(handle);
            }
            Ok(handle) => self.handles.push((tag, handle)),
            Err(error) => return self.accepted(tag, Some(error)),
        }
        self.accepted(tag, None)
    }

    fn look_at_a_handle(&mut self) {
        let Some((tag, handle)) = self.handles.pop() else { return };
        let fate = match self.random.below(3) {
            0 => handle.try_get(),
            1 => handle.wait_timeout(ms(1)).map_err(WaitTimeout::into_handle),
            _ => Ok(handle.wait()),
        };
        match fate {
            Ok(fate) => self.told.fates.push((tag, fate)),
            Err(handle) => self.handles.push((tag, handle)),
        }
    }

    /// All that it produced before has its fate then.
    fn flush(&mut self) {
        let timeout = [ms(2), LONG][self.random.below(2) as usize];
        if self.producer.flush(timeout).is_err() {
            return;
        }
        for (tag, handle) in mem::take(&mut self.handles) {
            let fate = handle.try_get().unwrap_or_else(|_| panic!("message {tag:x} has no fate after a flush"));
            self.told.fates.push((tag, fate));
        }
    }

    fn next_tag(&self) -> u64 {
        self.number << 32 | self.told.accepted.len() as u64
    }

    fn message(&self, tag: u64) -> Message<'_> {
        // The key says the caller, and which of its orders: all of one key go to one partition.
        Message::new(self.topic, tag.to_string()).with_key(format!("{} {}", tag >> 32, tag % 3)).with_tag(tag)
    }

    fn accepted(&mut self, tag: u64, refused: Option<ottla::ProduceError>) -> bool {
        let Some(error) = refused else {
            self.told.accepted.push(tag);
            self.produced.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        assert_eq!((error.message().tag(), number(error.message().value())), (tag, tag), "it gives the message back");
        match error.kind() {
            ProduceErrorKind::BufferOverflow(_) => true,
            ProduceErrorKind::Closed => false,
            _ => panic!("{error}"),
        }
    }
}

fn check(mut account: Account, told: Vec<Told>, reports: [ShutdownReport; 2], plan: &Plan, log: &[StoredMessage]) {
    let counts = |report: &ShutdownReport| (report.delivered, report.failed, report.given_up);
    assert_eq!(counts(&reports[0]), counts(&reports[1]));
    let (delivered, failed, given_up) = counts(&reports[0]);
    assert!(plan.handed_back || given_up == 0);
    for error in reports.into_iter().flat_map(|report| report.failures.chain(report.undelivered)) {
        account.failed(error.message(), error.persistence());
    }
    let mut accepted = HashSet::new();
    let mut unheard = HashSet::new();
    let mut purged = 0;
    for caller in told {
        accepted.extend(caller.accepted);
        unheard.extend(caller.unheard);
        purged += caller.purged.len();
        caller.purged.iter().for_each(|message| account.failed(message, Persistence::No));
        for (tag, fate) in caller.fates {
            match fate {
                Ok(delivered) => account.delivered(delivered.tag),
                Err(error) => account.failed(error.message(), error.persistence()),
            }
            assert!(account.delivered.contains(&tag) || account.not_delivered.contains_key(&tag));
        }
    }
    assert_eq!(delivered + failed + given_up, accepted.len() as u64, "every message has one fate");
    assert!(account.not_delivered.len() as u64 <= failed + given_up);
    assert!(account.not_delivered.len() + unheard.len() >= (failed + given_up) as usize);

    let mut written = HashSet::new();
    let mut last: HashMap<_, u64> = HashMap::new();
    for message in log {
        let tag = number(message.value.as_deref());
        assert!(accepted.contains(&tag) && written.insert(tag), "{tag:x} is written twice, or was refused");
        let before = last.insert((message.partition, message.key.clone()), tag);
        assert!(before.is_none_or(|before| before < tag), "{tag:x} is behind {before:x?}");
    }
    for tag in &accepted {
        match account.not_delivered.get(tag) {
            Some(Persistence::No) => assert!(!written.contains(tag), "{tag:x} was not to be written"),
            Some(_) => {}
            None => assert!(written.contains(tag) || unheard.contains(tag), "{tag:x} is lost"),
        }
    }
    assert!(account.delivered.iter().all(|tag| written.contains(tag)));
    println!(
        "accepted={} delivered={delivered} failed={} purged={purged} given_up={given_up}",
        accepted.len(),
        failed - (purged as u64).min(failed)
    );
}

impl Account {
    fn delivered(&mut self, tag: u64) {
        let first = self.delivered.insert(tag) && !self.not_delivered.contains_key(&tag);
        assert!(first, "{tag:x} has two fates");
    }

    fn failed(&mut self, message: &Message<'_>, persistence: Persistence) {
        let tag = message.tag();
        assert_eq!(number(message.value()), tag);
        let first = self.not_delivered.insert(tag, persistence).is_none() && !self.delivered.contains(&tag);
        assert!(first, "{tag:x} has two fates");
    }
}

/// Runs rounds until the time is up, and ends the process if they hang.
fn rounds(what: &'static str, run: impl Fn(&Cluster, u64)) {
    let time = env::var("OTTLA_STRESS_SECONDS").map_or(0, |seconds| seconds.parse().unwrap());
    let (done, watched) = mpsc::channel::<()>();
    thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(time) + HANGS) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("stress, {what}: a call has hung for {HANGS:?}; attach a debugger to a run to see which");
            process::exit(101);
        }
    });
    let cluster = Cluster::builder().brokers(3).start().unwrap();
    let began = Instant::now();
    let mut number = 0;
    while number < ROUNDS || began.elapsed() < Duration::from_secs(time) {
        run(&cluster, number);
        number += 1;
    }
    drop(done);
}

fn client(cluster: &Cluster) -> Client {
    let client = Client::builder([cluster.bootstrap()]).reconnect_backoff(ms(1)).reconnect_backoff_max(ms(10));
    client.metadata_min_age(ms(5)).build().unwrap()
}

fn number(text: Option<&[u8]>) -> u64 {
    String::from_utf8_lossy(text.unwrap_or_default()).parse().unwrap()
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        thread::sleep(ms(1));
    }
}

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Longer than anything here takes, on the slowest machine.
const LONG: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 6;
/// So long without an end is a hang.
const HANGS: Duration = Duration::from_secs(100);

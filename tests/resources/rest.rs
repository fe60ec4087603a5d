//! Processor time, wake-ups and connections of producers that cannot do their work, and of those that have none. All
//! of them for ten seconds of real time, at once and in one process, the threads of each counted together.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use ottla::testing::{Api, Cluster, Fault, FaultGuard};
use ottla::{AsyncProducer, AsyncProducerBuilder, ErrorCode, Message, Partitioner};

use crate::common::*;
use crate::processes::{Tids, Used, name, own_tid, threads, used};

/// How long all of it is watched.
const WATCH: Duration = Duration::from_secs(10);

#[test]
fn producers_in_trouble_and_idle_ones_leave_the_machine_alone() {
    alone("rest::producers_in_trouble_and_idle_ones_leave_the_machine_alone", || {
        log::set_logger(&CALLS).unwrap();
        log::set_max_level(LevelFilter::Debug);
        let mut scenes = idle();
        scenes.extend(in_trouble());
        let began = Instant::now();
        thread::sleep(WATCH);
        let complaints: Vec<String> = scenes.iter().flat_map(|scene| scene.complaints(began)).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        assert!(CALLS.count() >= 10, "connections are counted");
        // Shutting them down would prove nothing more, and take its time.
        scenes.into_iter().for_each(std::mem::forget);
    });
}

/// What all threads of a producer together may use in each second, and how many connections to one address they may
/// open in all ten.
#[derive(Clone, Copy)]
struct Allowed {
    processor: Duration,
    wake_ups: u32,
    connects: usize,
}

/// 2 % of a core.
const IN_TROUBLE: Allowed = Allowed { processor: Duration::from_millis(20), wake_ups: 20, connects: 15 };
/// The broker shakes hands: five in a second, and what was begun before the watch.
const CUT: Allowed = Allowed { connects: 55, ..IN_TROUBLE };
/// 0.1 % of a core.
const IDLE: Allowed = Allowed { processor: Duration::from_millis(1), wake_ups: 2, connects: 0 };

fn in_trouble() -> Vec<Scene> {
    let mut scenes = Vec::new();
    let address = nobody();
    scenes.push(Scene::begin("nobody listens", &address, full_of_topics, ()));
    let address = nobody();
    let tiny = |address: &str| full_of_topics_with(streaming(address).delivery_interval(Duration::from_nanos(1)));
    scenes.push(Scene::begin("nobody listens, with an interval of one nanosecond", &address, tiny, ()));
    let address = nobody();
    scenes.push(Scene::begin("nobody listens, and a caller goes on", &address, offered_again_and_again, ()));
    let address = nobody();
    scenes.push(Scene::of_sync_producer("nobody listens to the sync producer", &address));

    let server = Stranger::hanging_up();
    scenes.push(Scene::begin("a server that hangs up", &server.address(), full_of_topics, server));
    let server = Stranger::hanging_up_on_a_word();
    scenes.push(Scene::begin("a server that hangs up on the first word", &server.address(), full_of_topics, server));
    let server = Stranger::mute();
    scenes.push(Scene::begin("a server that says nothing", &server.address(), full_of_topics, server));

    let cluster = cluster(8);
    let before_the_stop = |address: &str| stopped(address, &cluster);
    let mut scene = Scene::begin("the broker stopped", &cluster.bootstrap(), before_the_stop, ());
    // The one that was good.
    scene.connects_before = 1;
    scene.keep(cluster);
    scenes.push(scene);
    for (name, fault) in [
        ("brokers that stall", Fault::on(Api::Produce).stall()),
        ("brokers that are not the leader", Fault::on(Api::Produce).error(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        ("too few replicas", Fault::on(Api::Produce).error(ErrorCode::NOT_ENOUGH_REPLICAS)),
        ("nobody gives producer ids", Fault::on(Api::InitProducerId).error(ErrorCode::COORDINATOR_NOT_AVAILABLE)),
        ("no leader", Fault::on(Api::Metadata).topic("orders").error(ErrorCode::LEADER_NOT_AVAILABLE)),
    ] {
        scenes.push(Scene::faulty(name, fault));
    }
    for (name, fault) in [
        ("cut at metadata", Fault::on(Api::Metadata).cut_before()),
        ("cut at each batch", Fault::on(Api::Produce).cut_before()),
        ("cut after each batch", Fault::on(Api::Produce).cut_after()),
    ] {
        let mut scene = Scene::faulty(name, fault);
        scene.allowed = CUT;
        scenes.push(scene);
    }
    let none = Cluster::builder().auto_create(false).start().unwrap();
    let address = none.bootstrap();
    scenes.push(Scene::begin("topics that do not exist", &address, full_of_topics, none));
    scenes
}

fn idle() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for (name, interval) in [
        ("idle after deliveries", Duration::from_millis(5)),
        ("idle with an interval of one nanosecond", Duration::from_nanos(1)),
        ("idle with an endless interval", Duration::MAX),
        ("idle without an interval", Duration::ZERO),
    ] {
        let cluster = cluster(8);
        let deliver = |address: &str| {
            let producer = streaming(address).delivery_interval(interval).build().unwrap();
            produce_to_partitions(&producer);
            assert_eq!(producer.flush(LONG).unwrap().failed, 0);
            producer
        };
        scenes.push(Scene::begin(name, &cluster.bootstrap(), deliver, ()));
        scenes.last_mut().unwrap().keep(cluster);
    }
    for (name, threshold, interval) in
        [("a message that waits", 0, Duration::ZERO), ("a message that waits for ever", usize::MAX, Duration::MAX)]
    {
        let wait = |address: &str| {
            let builder = producer(address).delivery_threshold(threshold).delivery_interval(interval);
            let producer = builder.max_queue_size(i32::MAX as usize).build().unwrap();
            producer.produce(Message::new("orders", "v")).unwrap();
            producer
        };
        scenes.push(Scene::begin(name, &nobody(), wait, ()));
    }
    let given_up = |address: &str| {
        let producer = streaming(address).delivery_timeout(ms(200)).build().unwrap();
        producer.produce(Message::new("orders", "v")).unwrap();
        assert_eq!(producer.flush(LONG).unwrap().failed, 1);
        producer
    };
    scenes.push(Scene::begin("nobody listens, and nothing waits any more", &nobody(), given_up, ()));
    // The last answers and callbacks are over, and threads have gone to sleep.
    thread::sleep(ms(300));
    scenes.iter_mut().for_each(Scene::expect_idleness);
    scenes
}

fn streaming(address: &str) -> AsyncProducerBuilder {
    producer(address).streaming().on_delivery(|_| {})
}

fn full_of_topics(address: &str) -> AsyncProducer {
    full_of_topics_with(streaming(address))
}

fn full_of_topics_with(builder: AsyncProducerBuilder) -> AsyncProducer {
    let producer = builder.max_queue_size(100).build().unwrap();
    for n in 0..100 {
        producer.produce(Message::new(format!("topic-{}", n % 10), "v").with_partition(n % 5)).unwrap();
    }
    producer
}

fn offered_again_and_again(address: &str) -> AsyncProducer {
    let producer = full_of_topics(address);
    let offering = producer.clone();
    thread::spawn(move || {
        loop {
            assert!(offering.produce(Message::new("orders", "v")).unwrap_err().is_buffer_overflow());
            thread::sleep(ms(1));
        }
    });
    producer
}

fn produce_to_partitions(producer: &AsyncProducer) {
    for partition in 0..8 {
        for _ in 0..10 {
            producer.produce(Message::new("orders", "v").with_partition(partition)).unwrap();
        }
    }
}

fn stopped(address: &str, cluster: &Cluster) -> AsyncProducer {
    let producer = streaming(address).build().unwrap();
    produce_to_partitions(&producer);
    assert_eq!(producer.flush(LONG).unwrap().failed, 0);
    cluster.stop_broker(1);
    produce_to_partitions(&producer);
    producer
}

/// A producer, and what its threads may use.
struct Scene {
    name: &'static str,
    address: String,
    threads: Tids,
    before: HashMap<u32, Used>,
    allowed: Allowed,
    connects_before: usize,
    kept: Vec<Box<dyn Any>>,
}

impl Scene {
    fn begin(name: &'static str, address: &str, produce: impl FnOnce(&str) -> AsyncProducer, kept: impl Any) -> Self {
        let others = threads();
        let producer = produce(address);
        let threads = threads().difference(&others).copied().collect();
        Self {
            name,
            address: address.to_owned(),
            threads,
            before: HashMap::new(),
            allowed: IN_TROUBLE,
            connects_before: 0,
            kept: vec![Box::new(producer), Box::new(kept)],
        }
    }

    fn faulty(name: &'static str, fault: Fault) -> Self {
        let cluster = cluster(8);
        let guard: FaultGuard = cluster.inject(fault);
        let produce = |address: &str| {
            let producer = streaming(address).build().unwrap();
            produce_to_partitions(&producer);
            producer
        };
        Self::begin(name, &cluster.bootstrap(), produce, (guard, cluster))
    }

    fn of_sync_producer(name: &'static str, address: &str) -> Self {
        let (send, tid) = mpsc::channel();
        let mut producer = client(address).producer().delivery_timeout(LONG).build().unwrap();
        let thread = thread::Builder::new().name("ottla-caller".into()).spawn(move || {
            for n in 0..100 {
                producer.produce(Message::new(format!("topic-{}", n % 10), "v")).unwrap();
            }
            send.send(own_tid()).unwrap();
            let _ = producer.deliver_messages();
        });
        let threads = [tid.recv().unwrap()].into();
        Self {
            name,
            address: address.to_owned(),
            threads,
            before: HashMap::new(),
            allowed: IN_TROUBLE,
            connects_before: 0,
            kept: vec![Box::new(thread)],
        }
    }

    fn keep(&mut self, what: impl Any) {
        self.kept.push(Box::new(what));
    }

    /// From now on its threads have nothing to do.
    fn expect_idleness(&mut self) {
        self.allowed = IDLE;
        self.before = self.ottla_threads().filter_map(|tid| Some((tid, used(tid)?))).collect();
        self.connects_before = CALLS.to(&self.address);
    }

    /// Threads of the in-process cluster may have been started meanwhile, too.
    fn ottla_threads(&self) -> impl Iterator<Item = u32> {
        self.threads.iter().copied().filter(|tid| name(*tid).is_some_and(|name| name.starts_with("ottla-")))
    }

    /// What its threads together have used above what they may.
    fn complaints(&self, began: Instant) -> Vec<String> {
        let time = began.elapsed();
        let connects = CALLS.to(&self.address) - self.connects_before;
        let mut complaints = Vec::new();
        if self.ottla_threads().next().is_none() {
            complaints.push(format!("{}: has no threads", self.name));
        }
        if connects > self.allowed.connects {
            complaints.push(format!("{}: {connects} connections", self.name));
        }
        let mut all = Used { processor: Duration::ZERO, wake_ups: 0 };
        for tid in self.ottla_threads() {
            let none = Used { processor: Duration::ZERO, wake_ups: 0 };
            let (now, before) = (used(tid).unwrap_or(none), self.before.get(&tid).copied().unwrap_or(none));
            let processor = now.processor.saturating_sub(before.processor);
            let wake_ups = now.wake_ups.saturating_sub(before.wake_ups);
            println!("  {}, {}: {processor:?}, {wake_ups} wake-ups", self.name, name(tid).unwrap_or_default());
            all = Used { processor: all.processor + processor, wake_ups: all.wake_ups + wake_ups };
        }
        let Used { processor, wake_ups } = all;
        let line = format!("{}: {processor:?}, {wake_ups} wake-ups, {connects} connections", self.name);
        println!("  {line}");
        if processor > self.allowed.processor.mul_f64(time.as_secs_f64())
            || wake_ups as f64 > f64::from(self.allowed.wake_ups) * time.as_secs_f64()
        {
            complaints.push(line);
        }
        complaints
    }
}

/// Counts connections by address: the engine has a line for each that it begins.
struct Calls(Mutex<Vec<String>>);

static CALLS: Calls = Calls(Mutex::new(Vec::new()));

impl Calls {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn to(&self, address: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|called| *called == address).count()
    }
}

impl Log for Calls {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("ottla::engine") {
            let line = record.args().to_string();
            if let Some(address) = line.strip_prefix("broker ").and_then(|rest| rest.strip_suffix(": connecting")) {
                self.0.lock().unwrap().push(address.to_owned());
            }
        }
    }

    fn flush(&self) {}
}

#[test]
fn ticks_while_the_worker_is_stuck_come_to_one_and_take_no_place() {
    alone("rest::ticks_while_the_worker_is_stuck_come_to_one_and_take_no_place", || {
        let cluster = cluster(1);
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let stuck = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stuck);
        let producer = producer(&cluster.bootstrap())
            .delivery_interval(ms(1))
            .max_queue_size(100)
            // A partitioner runs on the worker, and this one stands for whatever may hold it up.
            .partitioner(Partitioner::custom(move |_| {
                seen.store(true, Ordering::Relaxed);
                let _ = blocked.lock().unwrap().recv();
                0
            }))
            .build()
            .unwrap();
        producer.produce(Message::new("orders", "0")).unwrap();
        wait_until("the worker is stuck", || stuck.load(Ordering::Relaxed));
        for n in 1..100 {
            producer.produce(Message::new("orders", n.to_string())).unwrap();
        }
        assert!(producer.produce(Message::new("orders", "one too many")).unwrap_err().is_buffer_overflow());
        thread::sleep(ms(50));
        let timer = threads().into_iter().find(|tid| name(*tid).as_deref() == Some("ottla-timer")).unwrap();
        let before = used(timer).unwrap();
        for _ in 0..150 {
            // Nothing can happen: that is what is measured.
            thread::sleep(ms(10));
            (0..100).for_each(|_| producer.deliver_messages());
        }
        let after = used(timer).unwrap();
        assert!(after.wake_ups - before.wake_ups <= 5, "{} ticks for nobody", after.wake_ups - before.wake_ups);
        assert_eq!(producer.queue_size(), 100);
        drop(release);
        assert_eq!(producer.shutdown().unwrap().delivered, 100);
        let values: Vec<String> =
            cluster.messages("orders").iter().map(|stored| stored.value_str().unwrap().to_owned()).collect();
        assert_eq!(values, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        let requests = cluster.requests().iter().filter(|request| request.api == Api::Produce).count();
        assert!(requests <= 3, "{requests} requests");
    });
}

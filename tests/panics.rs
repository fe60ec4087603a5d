//! Faults inside the worker: a logger that panics stands for a fault in the code that logs. One test, because a
//! process has one logger.
#![expect(clippy::disallowed_methods, reason = "threads and clocks are what is tested")]
#![expect(clippy::unwrap_used, reason = "it is a test, helpers included")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};
use ottla::testing::{Api, Cluster, Fault};
use ottla::{Client, DeliveryErrorKind, DeliveryHandle, Message, Partitioner, Persistence, ProduceErrorKind};

/// So many of the next lines panic that come from `FROM`.
static PANICS: AtomicUsize = AtomicUsize::new(0);
static FROM: Mutex<&str> = Mutex::new(ENGINE);
const ENGINE: &str = "ottla::engine";

struct PanickingLogger;

impl Log for PanickingLogger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let inside = record.target().starts_with(*FROM.lock().unwrap_or_else(PoisonError::into_inner));
        let left = PANICS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert!(!inside || left.is_err(), "a fault of the test");
        if !inside && left.is_ok() {
            PANICS.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_fault_in_the_worker_loses_nothing_and_hangs_nobody() {
    log::set_logger(&PanickingLogger).unwrap();
    log::set_max_level(LevelFilter::Debug);

    what_was_never_written_survives_a_fault();
    a_worker_that_only_faults_ends_the_producer(ENGINE);
    a_worker_that_only_faults_ends_the_producer("ottla");
    a_panicking_callback_and_logger_cost_no_other_callback();
    the_sync_producer_survives_a_fault();
    what_was_written_is_possibly_there_and_the_rest_goes_out();
}

fn what_was_never_written_survives_a_fault() {
    let producer = client().async_producer().build().unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "v").with_tag(100)).unwrap();
    for n in 0..100 {
        producer.produce(Message::new("orders", "v").with_tag(n)).unwrap();
    }
    panic_times(3);
    producer.deliver_messages();
    wait_until(|| PANICS.load(Ordering::Relaxed) == 0);
    producer.produce(Message::new("parcels", "a new topic").with_tag(101)).unwrap();
    assert_eq!(producer.queue_size(), 102);
    let report = producer.shutdown_within(Duration::from_millis(300)).unwrap();
    assert_eq!((report.delivered, report.failed, report.given_up), (0, 0, 102));
    let mut tags: Vec<u64> = report.undelivered.iter().map(|error| error.message().tag()).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..100).chain([101]).collect::<Vec<_>>());
    assert!(report.undelivered.iter().all(|error| error.persistence() == Persistence::No));
    assert_eq!(handle.wait().unwrap_err().message().tag(), 100);
}

fn a_worker_that_only_faults_ends_the_producer(from: &'static str) {
    *FROM.lock().unwrap() = from;
    let producer = client().async_producer().build().unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", "v").with_tag(n)).unwrap();
    }
    panic_times(usize::MAX);
    assert!(producer.flush(Duration::from_secs(60)).is_ok(), "it does not hang");
    panic_times(0);
    let error = producer.produce(Message::new("orders", "late")).unwrap_err();
    let ProduceErrorKind::Fatal(fatal) = error.kind() else { panic!("{error}") };
    assert!(matches!(&fatal.cause, DeliveryErrorKind::Internal(what) if what.contains("a fault of the test")));
    *FROM.lock().unwrap() = ENGINE;
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered + report.failed + report.given_up, report.undelivered.len()), (10, 10));
}

fn a_panicking_callback_and_logger_cost_no_other_callback() {
    let cluster = Cluster::builder().topic("orders", 1).start().unwrap();
    let client = Client::builder([cluster.bootstrap()]).build().unwrap();
    let (send, told) = mpsc::channel();
    let builder = client.async_producer().on_delivery(move |fate| {
        send.send(fate.unwrap().tag).unwrap();
        std::panic::panic_any(Bomb);
    });
    let producer = builder.build().unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", "v").with_tag(n)).unwrap();
    }
    *FROM.lock().unwrap() = "ottla::threads::producer::delivery";
    panic_times(10);
    let report = producer.shutdown_within(Duration::from_secs(20)).unwrap();
    *FROM.lock().unwrap() = ENGINE;
    assert_eq!((report.delivered, PANICS.load(Ordering::Relaxed)), (10, 0));
    assert_eq!(told.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
}

fn the_sync_producer_survives_a_fault() {
    let timeout = Duration::from_millis(500);
    let mut producer = client().producer().delivery_timeout(timeout).build().unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", "v").with_tag(n)).unwrap();
    }
    panic_times(2);
    let failed = producer.deliver_messages().unwrap_err();
    assert_eq!((failed.failed.len(), failed.remaining), (0, 10));
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "it met the faults");
    assert_eq!(producer.shutdown().len(), 10);
}

/// Panics when it is dropped. What a partitioner panics with is dropped on the worker, where nothing catches this.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a fault of the test");
    }
}

fn what_was_written_is_possibly_there_and_the_rest_goes_out() {
    let cluster = Cluster::builder().topic("orders", 2).start().unwrap();
    let producer = Client::builder([cluster.bootstrap()])
        .build()
        .unwrap()
        .async_producer()
        .partitioner(Partitioner::custom(|message| match message.key {
            Some(b"bomb") => std::panic::panic_any(Bomb),
            _ => 0,
        }))
        .build()
        .unwrap();
    let produce = |values: std::ops::Range<u64>| -> Vec<DeliveryHandle> {
        values
            .map(|n| producer.produce_with_handle(Message::new("orders", n.to_string()).with_tag(n)).unwrap())
            .collect()
    };
    let stalled = cluster.inject(Fault::on(Api::Produce).stall().times(1));
    let written = produce(0..5);
    producer.deliver_messages();
    stalled.wait_for_hits(1, Duration::from_secs(20)).unwrap();
    wait_until(|| producer.queue_size() == 0);
    // Until the first batch is answered, the second stays.
    let unsent = produce(5..15);
    producer.deliver_messages();
    let bomb = producer.produce_with_handle(Message::new("orders", "v").with_key("bomb").with_tag(99)).unwrap();
    let behind = produce(15..20);
    let error = bomb.wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::Internal(what) if what.contains("a fault of the test")));
    assert_eq!((error.persistence(), error.message().tag()), (Persistence::No, 99));
    for (handle, tag) in written.into_iter().zip(0..) {
        let error = handle.wait().unwrap_err();
        assert!(matches!(error.kind(), DeliveryErrorKind::Internal(_)), "{error}");
        assert_eq!((error.persistence(), error.message().tag()), (Persistence::Possibly, tag));
    }
    let rest: Vec<u64> =
        DeliveryHandle::wait_all(unsent.into_iter().chain(behind)).into_iter().map(|fate| fate.unwrap().tag).collect();
    assert_eq!(rest, (5..20).collect::<Vec<_>>());
    drop(stalled);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.given_up), (15, 6, 0));
    let stored: Vec<u64> =
        cluster.messages("orders").iter().map(|stored| stored.value_str().unwrap().parse().unwrap()).collect();
    let after: Vec<u64> = stored.into_iter().filter(|n| *n >= 5).collect();
    assert_eq!(after, (5..20).collect::<Vec<_>>(), "once and in order, by the new engine");
}

fn panic_times(times: usize) {
    PANICS.store(times, Ordering::Relaxed);
}

fn wait_until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client of a port where nobody listens.
fn client() -> Client {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Client::builder([format!("127.0.0.1:{port}")]).build().unwrap()
}

//! Calls from outside while a user's code never returns to the thread that called it.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla::testing::Cluster;
use ottla::{
    AsyncProducer, DeliveryErrorKind, FlushError, Message, MetadataError, OnOverflow, Partitioner, PurgeError,
};

use crate::places::client;
use crate::spy;

#[test]
fn a_partitioner_that_never_returns_holds_up_no_call_beyond_its_time() {
    let _turn = spy::turn();
    let cluster = Cluster::builder().topic("orders", 1).start().unwrap();
    let (block, release) = Block::new();
    let inside = block.clone();
    let custom = Partitioner::custom(move |_| {
        inside.enter();
        0
    });
    let builder = client(&cluster).async_producer().partitioner(custom).max_queue_size(3).max_buffer_size(100);
    let producer = builder.on_overflow(OnOverflow::Block(SHORT)).build().unwrap();
    let handle = producer.produce_with_handle(message(0)).unwrap();
    producer.deliver_messages();
    block.wait_until_entered();
    (1..3).for_each(|tag| producer.produce(message(tag)).unwrap());
    assert!(within_its_time(|| producer.produce(message(9))).unwrap_err().is_buffer_overflow());
    assert!(within_its_time(|| producer.produce_timeout(message(9), SHORT)).unwrap_err().is_buffer_overflow());
    let handle = within_its_time(|| handle.wait_timeout(SHORT)).unwrap_err().into_handle();
    let flushed = within_its_time(|| producer.flush(SHORT));
    assert!(matches!(flushed, Err(FlushError::Timeout { unfinished: 3, .. })), "{flushed:?}");
    let purged = within_its_time(|| producer.purge());
    assert!(matches!(purged, Err(PurgeError::Timeout(_))), "{purged:?}");
    let partitions = within_its_time(|| producer.partitions_for("parcels", SHORT));
    assert!(matches!(partitions, Err(MetadataError::Timeout { .. })), "{partitions:?}");
    for _ in 0..2 {
        let report = within_its_time(|| producer.shutdown_within(SHORT)).unwrap();
        assert_eq!((report.delivered, report.failed, report.given_up, report.out_of_reach), (0, 0, 3, 3));
        assert_eq!(report.undelivered.len(), 0);
    }

    drop(release);
    let report = within_its_time(|| producer.shutdown_within(LONG)).unwrap();
    assert_eq!((report.out_of_reach, report.delivered + report.failed + report.given_up), (0, 3));
    if let Err(error) = within_its_time(|| handle.wait()) {
        assert!(matches!(error.kind(), DeliveryErrorKind::ShutDown { .. } | DeliveryErrorKind::Purged), "{error}");
    }
    let mut left: Vec<u64> = report.undelivered.map(|error| error.message().tag()).collect();
    left.extend(producer.purge().unwrap().map(|error| error.message().tag()));
    left.sort_unstable();
    assert_eq!(left, [1, 2], "what was out of reach comes with the next call");
}

#[test]
fn a_partitioner_that_never_returns_holds_up_no_drop() {
    let _turn = spy::turn();
    let cluster = Cluster::builder().topic("orders", 1).start().unwrap();
    let (block, release) = Block::new();
    let inside = block.clone();
    let custom = Partitioner::custom(move |_| {
        inside.enter();
        0
    });
    let producer = client(&cluster).async_producer().partitioner(custom).drop_timeout(SHORT).build().unwrap();
    let handle = producer.produce_with_handle(message(0)).unwrap();
    producer.deliver_messages();
    block.wait_until_entered();
    within_its_time(|| drop(producer));
    drop(release);
    // The worker that was left behind goes on, and ends.
    drop(within_its_time(|| handle.wait()));
}

#[test]
fn a_callback_that_never_returns_holds_up_no_call_beyond_its_time() {
    let _turn = spy::turn();
    let cluster = Cluster::builder().topic("orders", 1).topic("parcels", 2).start().unwrap();
    let (block, release) = Block::new();
    let blocking = |dropped: Option<Sender<()>>| {
        let inside = block.clone();
        let builder = client(&cluster).async_producer().drop_timeout(SHORT);
        let producer = builder
            .on_delivery(move |_| {
                let _captured = &dropped;
                inside.enter();
            })
            .build()
            .unwrap();
        producer.produce(message(0)).unwrap();
        producer.deliver_messages();
        block.wait_until_entered();
        producer
    };
    let producer: AsyncProducer = blocking(None);
    let flushed = within_its_time(|| producer.flush(SHORT));
    assert!(matches!(flushed, Err(FlushError::Timeout { .. })), "{flushed:?}");
    assert_eq!(within_its_time(|| producer.partitions_for("parcels", LONG)).unwrap(), 2);
    producer.produce(message(1)).unwrap();
    let handle = producer.produce_with_handle(message(2)).unwrap();
    assert!(within_its_time(|| handle.wait()).is_ok());
    let purged = within_its_time(|| producer.purge()).unwrap();
    assert_eq!(purged.len(), 0, "the handle made all leave");
    let report = within_its_time(|| producer.shutdown_within(SHORT)).unwrap();
    assert_eq!((report.delivered, report.given_up, report.out_of_reach), (3, 0, 0));
    within_its_time(|| drop(producer));
    let (alive, gone) = mpsc::channel();
    within_its_time(|| drop(blocking(Some(alive))));
    drop(release);
    assert_eq!(gone.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected), "the thread left behind ends");
}

#[test]
fn a_drop_of_a_callback_that_never_returns_holds_up_no_shutdown() {
    let _turn = spy::turn();
    let cluster = Cluster::builder().topic("orders", 1).start().unwrap();
    let (block, release) = Block::new();
    let on_drop = OnDrop(block.clone());
    let builder = client(&cluster).async_producer().on_delivery(move |_| {
        let _captured = &on_drop;
    });
    let producer = builder.build().unwrap();
    producer.produce(message(0)).unwrap();
    let report = within_its_time(|| producer.shutdown_within(Duration::from_secs(1))).unwrap();
    assert_eq!((report.delivered, report.out_of_reach), (1, 0));
    block.wait_until_entered();
    within_its_time(|| drop(producer));
    drop(release);
}

#[test]
fn a_logger_on_a_thread_of_the_in_process_cluster_may_call_the_cluster() {
    let _turn = spy::turn();
    let cluster = Arc::new(Cluster::builder().topic("orders", 1).start().unwrap());
    let (told, tells) = mpsc::channel();
    let inside = Arc::clone(&cluster);
    spy::arm_logger("kafka-1-0", move || told.send(inside.messages("orders").len()).unwrap());
    let producer = client(&cluster).async_producer().drop_timeout(SHORT).build().unwrap();
    producer.produce(message(0)).unwrap();
    producer.deliver_messages();
    let told = tells.recv_timeout(LONG / 2);
    if told.is_err() {
        // Nobody can end a cluster whose lock is never free.
        std::mem::forget(cluster);
    }
    assert_eq!(told, Ok(0), "its line was written under the lock");
}

struct OnDrop(Block);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.enter();
    }
}

/// A place that nobody leaves before it is released.
#[derive(Clone)]
struct Block {
    entered: Sender<()>,
    seen: Arc<Mutex<Receiver<()>>>,
    released: Arc<Mutex<Receiver<()>>>,
}

impl Block {
    fn new() -> (Self, Sender<()>) {
        let (entered, seen) = mpsc::channel();
        let (release, released) = mpsc::channel();
        (Self { entered, seen: Arc::new(Mutex::new(seen)), released: Arc::new(Mutex::new(released)) }, release)
    }

    fn enter(&self) {
        self.entered.send(()).unwrap();
        assert!(self.released.lock().unwrap().recv().is_err());
    }

    fn wait_until_entered(&self) {
        self.seen.lock().unwrap().recv_timeout(LONG).unwrap();
    }
}

fn message(tag: u64) -> Message<'static> {
    Message::new("orders", "v").with_tag(tag)
}

fn within_its_time<T>(call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let answer = call();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    answer
}

const SHORT: Duration = Duration::from_millis(50);
/// Longer than anything here takes, on the slowest machine.
const LONG: Duration = Duration::from_secs(30);

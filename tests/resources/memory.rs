//! Memory is bounded by `max_queue_bytesize` and `max_buffer_bytesize`, whatever brokers and callers do. The bound that
//! is tested: the process grows by no more than one and a half times what these options allow, and 16 MiB.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Fault};
use ottla::{
    AsyncProducer, AsyncProducerBuilder, BufferLimit, ErrorCode, Message, Produce, ProduceErrorKind, Undelivered,
};

use crate::common::*;
use crate::processes::{resident, resident_peak};

const MIB: u64 = 1024 * 1024;
/// The defaults of `max_queue_bytesize` and `max_buffer_bytesize`.
const QUEUE: u64 = 32 * MIB;
const BUFFER: u64 = 32 * MIB;
/// So many messages that bytes are what is bounded.
const MANY: usize = 100_000_000;

#[test]
fn a_queue_full_of_tiny_messages_while_the_brokers_are_down() {
    alone("memory::a_queue_full_of_tiny_messages_while_the_brokers_are_down", || {
        let growth = Growth::begin();
        let producer = full_speed(producer(&nobody()));
        let accepted = offer_from_threads(&producer, (ms(1000), 0), || Message::new("orders", "v"));
        assert!(accepted > 500_000, "{accepted} messages");
        let more = fill_up(&producer, &Message::new("orders", "v"), QUEUE);
        growth.assert_within(QUEUE, "tiny messages");
        assert_eq!(taken_one_by_one(producer.purge().unwrap()), accepted + more);
        growth.assert_within(QUEUE, "purged tiny messages");
    });
}

#[test]
fn a_queue_full_of_tagged_messages_of_two_hundred_partitions() {
    alone("memory::a_queue_full_of_tagged_messages_of_two_hundred_partitions", || {
        let cluster = cluster(200);
        let growth = Growth::begin();
        let _refused = cluster.inject(Fault::on(Api::InitProducerId).error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        let producer = full_speed(producer(&cluster.bootstrap()));
        let next = AtomicU64::new(1);
        // In batches, which have a place for what only some messages have.
        let accepted = offer_from_threads(&producer, (ms(1000), 0), || {
            let tag = next.fetch_add(1, Ordering::Relaxed);
            Message::new("orders", "v").with_tag(tag).with_partition_key("key").with_partition((tag % 200) as i32)
        });
        assert!(accepted > 100_000, "{accepted} messages");
        growth.assert_within(QUEUE, "tagged messages");
        let report = producer.shutdown_within(Duration::ZERO).unwrap();
        assert_eq!(report.given_up, accepted);
        taken_one_by_one(report.undelivered);
        growth.assert_within(QUEUE, "tagged messages that were given up");
    });
}

#[test]
fn a_queue_full_of_large_messages_while_the_brokers_are_down() {
    alone("memory::a_queue_full_of_large_messages_while_the_brokers_are_down", || {
        // The largest that one may be.
        let value = "x".repeat(1_000_000 - 100);
        let growth = Growth::begin();
        let producer = full_speed(producer(&nobody()));
        let accepted = offer_from_threads(&producer, (ms(500), 0), || Message::new("orders", &value));
        assert!((30..=34).contains(&accepted), "{accepted} messages");
        let more = fill_up(&producer, &Message::new("orders", &value), QUEUE);
        growth.assert_within(QUEUE, "large messages");
        assert_eq!(taken_one_by_one(producer.purge().unwrap()), accepted + more);
        growth.assert_within(QUEUE, "purged large messages");
    });
}

#[test]
fn brokers_that_stall_after_they_took_what_the_buffer_holds() {
    alone("memory::brokers_that_stall_after_they_took_what_the_buffer_holds", || {
        let value = "x".repeat(1000);
        let accepted = stalled_with(|_| Message::new("orders", &value));
        assert!(accepted * 1000 > QUEUE, "{accepted} messages: a part is written");
    });
}

#[test]
fn brokers_that_stall_after_they_took_tiny_tagged_messages() {
    alone("memory::brokers_that_stall_after_they_took_tiny_tagged_messages", || {
        stalled_with(|n| Message::new("orders", "v").with_tag(n + 1).with_partition_key("key"));
    });
}

#[test]
fn a_sync_producer_that_delivers_again_and_again() {
    alone("memory::a_sync_producer_that_delivers_again_and_again", || {
        let cluster = cluster(1);
        let mut producer = client(&cluster.bootstrap()).producer().build().unwrap();
        let mut deliver = |count: u32| {
            for _ in 0..count {
                producer.produce(Message::new("orders", "v")).unwrap();
                producer.deliver_messages().unwrap();
            }
        };
        deliver(100);
        let growth = Growth::begin();
        deliver(15_000);
        // The cluster keeps them, too.
        growth.assert_at_most(16 * MIB, "15,000 deliveries of one message");
    });
}

/// Fills the queue and the buffer of a producer whose broker stalls, and returns how many messages that took.
fn stalled_with<'a>(message: impl Fn(u64) -> Message<'a> + Sync) -> u64 {
    let cluster = cluster(20);
    // Full batches leave, so that the five requests that may be under way are large ones.
    let producer = producer(&cluster.bootstrap()).max_queue_size(MANY).build().unwrap();
    // A partition that has delivered may have five batches under way, one that has not only one. A link that has
    // carried 16 MiB may have any number of bytes under way.
    let value = "x".repeat(900_000);
    for partition in 0..20 {
        producer.produce(Message::new("orders", &value).with_partition(partition)).unwrap();
    }
    assert_eq!(producer.flush(LONG).unwrap().failed, 0);
    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let growth = Growth::begin();
    let next = AtomicU64::new(0);
    let accepted = offer_from_threads(&producer, (ms(1000), 0), || {
        let n = next.fetch_add(1, Ordering::Relaxed);
        message(n).with_partition((n % 20) as i32)
    });
    // The broker that stalls is in this process, and has one request of 8 MiB in its hands.
    growth.assert_within(QUEUE + BUFFER + 8 * MIB, "a stalled broker");
    drop(stalled);
    assert_eq!(producer.shutdown().unwrap().delivered, accepted + 20);
    accepted
}

#[test]
fn failures_that_nobody_takes_while_callers_go_on() {
    alone("memory::failures_that_nobody_takes_while_callers_go_on", || {
        failing(&nobody(), |_| Message::new("orders", "v"));
    });
}

#[test]
fn failures_of_whole_batches_that_nobody_takes() {
    alone("memory::failures_of_whole_batches_that_nobody_takes", || {
        let cluster = cluster(20);
        let _no_id = cluster.inject(Fault::on(Api::InitProducerId).error(ErrorCode::COORDINATOR_NOT_AVAILABLE));
        failing(&cluster.bootstrap(), |n| Message::new("orders", "v").with_partition((n % 20) as i32));
    });
}

/// Lets messages fail that nobody asks for, while callers go on.
fn failing<'a>(address: &str, message: impl Fn(u64) -> Message<'a> + Sync) {
    let growth = Growth::begin();
    let producer = full_speed(producer(address).delivery_timeout(ms(200)));
    let next = AtomicU64::new(0);
    let accepted =
        offer_from_threads(&producer, (ms(2000), 1_500_000), || message(next.fetch_add(1, Ordering::Relaxed)));
    // The queue, and as much of failures for the report.
    growth.assert_within(2 * QUEUE, "failures");
    let report = producer.shutdown().unwrap();
    assert_eq!(report.failed, accepted);
    assert_eq!(taken_one_by_one(report.failures) + report.failures_dropped, accepted);
    growth.assert_within(2 * QUEUE, "failures that are read");
}

/// Looks at each message that is handed back, and returns how many there were.
fn taken_one_by_one(undelivered: Undelivered) -> u64 {
    let len = undelivered.len() as u64;
    let taken = undelivered.filter(|error| error.message().topic() == "orders").count() as u64;
    assert_eq!(taken, len);
    taken
}

#[test]
fn failures_that_a_blocked_callback_does_not_take() {
    alone("memory::failures_that_a_blocked_callback_does_not_take", || {
        let growth = Growth::begin();
        let (release, blocked) = mpsc::channel::<()>();
        let mut called = 0;
        let (send, sum) = mpsc::channel();
        let builder = producer(&nobody()).delivery_timeout(ms(200)).on_delivery(move |fate| {
            assert!(fate.is_err() && blocked.recv().is_err());
            called += 1;
            let _ = send.send(called);
        });
        let producer = full_speed(builder);
        let accepted = offer_from_threads(&producer, (ms(2500), 0), || Message::new("orders", "0123456789"));
        growth.assert_within(QUEUE + BUFFER, "a blocked callback");
        drop(release);
        assert_eq!(producer.shutdown().unwrap().failed, accepted);
        assert_eq!(sum.iter().last(), Some(accepted), "each was told");
    });
}

#[test]
fn a_sync_producer_that_cannot_deliver() {
    alone("memory::a_sync_producer_that_cannot_deliver", || {
        let growth = Growth::begin();
        let mut producer = client(&nobody()).producer().delivery_timeout(ms(100)).build().unwrap();
        let began = Instant::now();
        while began.elapsed() < ms(1500) {
            while Produce::produce(&mut producer, Message::new("orders", "v")).is_ok() {}
            assert!(producer.buffer_bytesize() as u64 <= BUFFER);
            let failed = producer.deliver_messages().unwrap_err();
            assert_eq!((failed.failed.len(), failed.remaining), (0, producer.buffer_size()));
        }
        assert!(producer.buffer_size() > 500_000, "{} messages", producer.buffer_size());
        growth.assert_within(BUFFER, "the sync producer");
    });
}

fn full_speed(builder: AsyncProducerBuilder) -> AsyncProducer {
    builder.streaming().max_queue_size(MANY).build().unwrap()
}

/// Four threads produce without a pause for so long and until so many messages were accepted, and go on when they are
/// refused. Returns how many were accepted.
fn offer_from_threads<'a>(
    producer: &AsyncProducer,
    (time, enough): (Duration, u64),
    message: impl Fn() -> Message<'a> + Sync,
) -> u64 {
    let (accepted, refused, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 1.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    // Some have a handle, so that every batch has a message with one.
                    let produced = match n % 64 {
                        0 => producer.produce_with_handle(message()).map(drop),
                        _ => producer.produce(message()),
                    };
                    match produced {
                        Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            assert!(error.is_buffer_overflow(), "{error}");
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
        let began = Instant::now();
        // It is the full queue that is tested, however slow the machine is.
        wait_until("callers are refused", || refused.load(Ordering::Relaxed) > 0 && began.elapsed() >= time);
        wait_until("messages fail, and others take their places", || accepted.load(Ordering::Relaxed) >= enough);
        over.store(true, Ordering::Relaxed);
    });
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    println!("  {accepted} messages accepted, {refused} refused");
    accepted
}

/// Produces until the producer says that its account of bytes is at the limit; one with a handle was refused earlier.
/// Returns how many messages it took.
fn fill_up(producer: &AsyncProducer, message: &Message<'_>, limit: u64) -> u64 {
    for taken in 0.. {
        let Err(error) = producer.produce(message.clone()) else { continue };
        let ProduceErrorKind::BufferOverflow(overflow) = error.kind() else { panic!("{error}") };
        assert_eq!(overflow.limit, BufferLimit::QueueBytesize(limit as usize), "{error}");
        assert_eq!(overflow.queued, producer.queue_size());
        return taken;
    }
    unreachable!("it is bounded");
}

struct Growth(u64);

impl Growth {
    fn begin() -> Self {
        Self(resident())
    }

    fn assert_within(&self, limit: u64, what: &str) {
        self.assert_at_most(limit + limit / 2 + 16 * MIB, what);
    }

    fn assert_at_most(&self, most: u64, what: &str) {
        let growth = resident_peak().saturating_sub(self.0);
        println!("  {what}: grew by {} MiB, limit {} MiB", growth / MIB, most / MIB);
        assert!(growth <= most, "{what}: {growth} bytes more, and at most {most} are allowed");
    }
}

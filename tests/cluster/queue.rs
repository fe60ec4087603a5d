//! The queue between callers and the worker: its bounds, and what happens there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Fault};
use ottla::{BufferLimit, DeliveryErrorKind, Message, OnOverflow, Persistence, ProduceErrorKind, Timestamp};

use crate::common::*;

#[test]
fn eight_threads_fill_the_queue_exactly() {
    let cluster = cluster(1);
    cluster.stop_broker(1);
    for size in [1, 7, 100, 1000, 1025] {
        let producer = async_producer(&cluster).max_queue_size(size).build().unwrap();
        let accepted = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..size {
                        match producer.produce(Message::new("orders", "v")) {
                            Ok(()) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                            Err(error) => assert!(error.is_buffer_overflow(), "{error}"),
                        }
                    }
                });
            }
        });
        assert_eq!((accepted.into_inner(), producer.queue_size()), (size, size));
        let report = producer.shutdown_within(Duration::ZERO).unwrap();
        assert_eq!((report.given_up, report.undelivered.len()), (size as u64, size));
    }
}

#[test]
fn a_caller_that_waits_gets_room_when_the_broker_is_back() {
    let cluster = cluster(1);
    cluster.stop_broker(1);
    let producer = async_producer(&cluster).max_queue_size(10).build().unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", format!("{n}"))).unwrap();
    }
    let began = Instant::now();
    let error = producer.produce_timeout(Message::new("orders", "10"), ms(30)).unwrap_err();
    assert!(error.is_buffer_overflow() && began.elapsed() >= ms(30));
    let waiting = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 10..50 {
                waiting.store(n, Ordering::Relaxed);
                producer.produce_timeout(Message::new("orders", format!("{n}")), LONG).unwrap();
            }
        });
        wait_until("a caller waits", || waiting.load(Ordering::Relaxed) == 10);
        cluster.restart_broker(1).unwrap();
    });
    assert_eq!(producer.shutdown().unwrap().delivered, 50);
    assert_eq!(values(&cluster.messages("orders")), (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn blocking_on_overflow_slows_callers_down_and_refuses_nobody() {
    let cluster = cluster(4);
    let producer =
        async_producer(&cluster).max_queue_size(10).on_overflow(OnOverflow::Block(Duration::MAX)).build().unwrap();
    thread::scope(|scope| {
        for caller in 0..4 {
            let producer = &producer;
            scope.spawn(move || {
                for n in 0..500 {
                    let message = Message::new("orders", n.to_string()).with_key(format!("caller {caller}"));
                    producer.produce(message).unwrap();
                }
            });
        }
    });
    assert_eq!(producer.shutdown().unwrap().delivered, 2000);
    assert_in_order(&cluster.messages("orders"), 2000);
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let cluster = cluster(1);
    cluster.stop_broker(1);
    let producer = async_producer(&cluster).max_message_bytes(2000).max_queue_bytesize(10_000).build().unwrap();
    let value = "x".repeat(1000);
    let refused = (0..).find_map(|n| match producer.produce(Message::new("orders", &value)) {
        Ok(()) => None,
        Err(error) => Some((n, error)),
    });
    let (accepted, error) = refused.unwrap();
    assert!((5..=10).contains(&accepted), "{accepted}");
    let ProduceErrorKind::BufferOverflow(overflow) = error.kind() else { panic!("{error}") };
    assert_eq!((overflow.queued, overflow.limit), (accepted, BufferLimit::QueueBytesize(10_000)));
    assert!(error.to_string().contains("max_queue_bytesize is 10000"), "{error}");
    cluster.restart_broker(1).unwrap();
    for _ in 0..100 {
        producer.produce_timeout(Message::new("orders", &value), LONG).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, accepted as u64 + 100);
}

#[test]
fn purge_hands_back_whole_messages_and_leaves_what_was_written() {
    let cluster = cluster(1);
    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let producer = async_producer(&cluster).build().unwrap();
    let written = producer.produce_with_handle(Message::new("orders", "written")).unwrap();
    producer.deliver_messages();
    stalled.wait_for_hits(1, LONG).unwrap();
    let time = Timestamp::from_millis(1_700_000_000_000);
    for tag in 0..5 {
        let message = Message::new("orders", "v").with_key("k").with_partition_key("p").with_create_time(time);
        let message = message.with_header("a", "1").with_header("a", "2").with_tag(tag);
        producer.produce(message).unwrap();
    }
    let purged = producer.purge().unwrap();
    assert_eq!((purged.len(), producer.queue_size()), (5, 0));
    for (error, tag) in purged.zip(0..) {
        assert_eq!(
            (error.kind().to_string(), error.persistence()),
            (DeliveryErrorKind::Purged.to_string(), Persistence::No)
        );
        let message = error.into_message();
        assert_eq!((message.topic(), message.tag(), message.value()), ("orders", tag, Some(&b"v"[..])));
        assert_eq!((message.key(), message.partition_key()), (Some(&b"k"[..]), Some(&b"p"[..])));
        assert_eq!(message.create_time(), Some(time));
        assert_eq!(message.headers().collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("a", Some(&b"2"[..]))]);
    }
    drop(stalled);
    assert_eq!(written.wait().unwrap().offset, Some(0));
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (1, 5));
    assert_eq!(values(&cluster.messages("orders")), ["written"]);
}

#[test]
fn a_purge_divides_exactly_between_what_was_written_and_what_was_not() {
    let cluster = cluster(3);
    let producer = async_producer(&cluster).max_in_flight(1).build().unwrap();
    let produce = |count: usize, partition: i32| {
        (0..count).for_each(|_| producer.produce(Message::new("orders", "v").with_partition(partition)).unwrap());
        producer.produce_with_handle(Message::new("orders", "v").with_partition(partition)).unwrap()
    };
    assert_eq!(produce(0, 0).wait().unwrap().offset, Some(0));
    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let written = produce(9, 0);
    producer.deliver_messages();
    stalled.wait_for_hits(1, LONG).unwrap();
    wait_until("the queue lets them go", || producer.queue_size() == 0);
    // In batches that wait for their turn, to the same partition and to another, and not even due.
    let batched = [produce(19, 0), produce(29, 1)];
    producer.deliver_messages();
    let queued = [produce(39, 1), produce(49, 2)];
    let purged = producer.purge().unwrap();
    assert_eq!((purged.len(), producer.queue_size()), (19 + 29 + 39 + 49, 0));
    for handle in batched.into_iter().chain(queued) {
        let error = handle.wait().unwrap_err();
        assert!(matches!(error.kind(), DeliveryErrorKind::Purged), "{error}");
        assert_eq!(error.persistence(), Persistence::No);
    }
    assert!(producer.purge().unwrap().is_empty());
    let written = written.try_get().expect_err("it was written, and waits for its answer");
    drop(stalled);
    assert_eq!(written.wait().unwrap().offset, Some(10));
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.given_up), (11, 140, 0));
    assert_eq!((report.failures.len(), report.failures_dropped, cluster.messages("orders").len()), (0, 0, 11));
}

#[test]
fn extreme_thresholds_intervals_and_sizes_work() {
    let cluster = cluster(1);
    let mut count = 0;
    for (threshold, interval, size) in [
        (0, Duration::from_nanos(1), 1000),
        (1, Duration::ZERO, 1000),
        (usize::MAX, Duration::MAX, 1),
        (5, Duration::MAX, 3),
        (usize::MAX, Duration::from_nanos(1), 1),
        (2, Duration::from_millis(1), i32::MAX as usize),
    ] {
        let producer = async_producer(&cluster)
            .delivery_threshold(threshold)
            .delivery_interval(interval)
            .max_queue_size(size)
            .build()
            .unwrap();
        for _ in 0..30 {
            producer.produce_timeout(Message::new("orders", "v"), LONG).unwrap();
        }
        count += 30;
        cluster.wait_for("orders", count, LONG).unwrap();
        assert_eq!(producer.shutdown().unwrap().delivered, 30);
    }
}

#[test]
fn a_flush_that_had_too_little_time_can_be_called_again() {
    let cluster = cluster(1);
    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let producer = async_producer(&cluster).build().unwrap();
    for _ in 0..10 {
        producer.produce(Message::new("orders", "v")).unwrap();
    }
    for _ in 0..3 {
        let error = producer.flush(ms(20)).unwrap_err();
        assert!(error.to_string().starts_with("10 messages are still under way"), "{error}");
    }
    drop(stalled);
    let report = producer.flush(LONG).unwrap();
    assert_eq!(report.failed, 0);
    assert_eq!(cluster.messages("orders").len(), 10);
    assert_eq!(producer.flush(LONG).unwrap().delivered, 0);
    assert_eq!(producer.shutdown().unwrap().delivered, 10);
}

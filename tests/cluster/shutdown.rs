//! The end of a producer: by `shutdown`, in time or not, and by `Drop`.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Fault};
use ottla::{AsyncProducer, DeliveryErrorKind, Message, Persistence, ProduceErrorKind, ShutdownReport};

use crate::common::*;

#[test]
fn a_second_shutdown_tells_the_same_counts() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", "v").with_partition(n % 5 / 4 * 3)).unwrap();
    }
    let first = producer.shutdown().unwrap();
    let second = producer.shutdown().unwrap();
    assert_eq!((first.delivered, first.failed, first.failures.len()), (8, 2, 2));
    assert_eq!((second.delivered, second.failed, second.failures.len()), (8, 2, 0), "the first got the messages");
    let error = producer.produce(Message::new("orders", "late")).unwrap_err();
    assert!(matches!(error.kind(), ProduceErrorKind::Closed));
    assert_eq!(error.into_message().value(), Some(&b"late"[..]));
}

#[test]
fn two_threads_shut_down_while_eight_produce_and_the_sums_match() {
    let cluster = cluster(8);
    for round in 0..10 {
        let producer = async_producer(&cluster).streaming().max_queue_size(300).build().unwrap();
        let accepted: [AtomicU64; 8] = Default::default();
        let begin = Barrier::new(11);
        let [first, second]: [ShutdownReport; 2] = thread::scope(|scope| {
            for (caller, accepted) in accepted.iter().enumerate() {
                let (producer, begin) = (&producer, &begin);
                scope.spawn(move || {
                    begin.wait();
                    produce_until_closed(producer, &format!("round {round} caller {caller}"), accepted);
                });
            }
            let ending: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        begin.wait();
                        while accepted.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>() < 1000 {
                            thread::yield_now();
                        }
                        producer.shutdown().unwrap()
                    })
                })
                .collect();
            begin.wait();
            ending.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>().try_into().unwrap()
        });
        let accepted: u64 = accepted.into_iter().map(AtomicU64::into_inner).sum();
        for report in [&first, &second] {
            assert_eq!((report.delivered, report.failed, report.given_up), (accepted, 0, 0));
        }
        let mut stored = cluster.messages("orders");
        stored.retain(|message| message.key_str().unwrap().starts_with(&format!("round {round} ")));
        assert_in_order(&stored, accepted as usize);
    }
}

fn produce_until_closed(producer: &AsyncProducer, key: &str, accepted: &AtomicU64) {
    loop {
        let value = accepted.load(Ordering::Relaxed).to_string();
        match producer.produce(Message::new("orders", &value).with_key(key)) {
            Ok(()) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
            Err(error) if error.is_buffer_overflow() => thread::yield_now(),
            Err(error) => {
                assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}");
                assert_eq!(error.message().value(), Some(value.as_bytes()));
                return;
            }
        }
    }
}

#[test]
fn shutdown_with_a_full_queue_delivers_all_of_it() {
    let cluster = cluster(4);
    let mut expected = 0;
    for (threshold, interval) in [(usize::MAX, Duration::MAX), (0, Duration::ZERO)] {
        let stalled = cluster.inject(Fault::on(Api::Metadata).stall());
        let builder = async_producer(&cluster).delivery_threshold(threshold).delivery_interval(interval);
        let producer = builder.max_queue_size(500).build().unwrap();
        for n in 0..500 {
            producer.produce(Message::new("orders", n.to_string()).with_key(format!("{threshold}"))).unwrap();
        }
        assert!(producer.produce(Message::new("orders", "v")).unwrap_err().is_buffer_overflow());
        thread::scope(|scope| {
            let ending = scope.spawn(|| producer.shutdown().unwrap());
            wait_until("it is closed", || {
                let error = producer.produce(Message::new("orders", "v")).unwrap_err();
                matches!(error.kind(), ProduceErrorKind::Closed)
            });
            assert_eq!(producer.queue_size(), 500, "all of it is still there");
            drop(stalled);
            let report = ending.join().unwrap();
            assert_eq!((report.delivered, report.failed, report.given_up), (500, 0, 0));
        });
        expected += 500;
        assert_in_order(&cluster.messages("orders"), expected);
    }
}

#[test]
fn shutdown_with_the_brokers_down_ends_in_time_and_hands_back_every_message() {
    let cluster = three_brokers(6);
    (1..=3).for_each(|node| cluster.stop_broker(node));
    assert_in_time("shutdown", |limit| {
        let producer = async_producer(&cluster).build().unwrap();
        for tag in 0..500 {
            producer.produce(Message::new("orders", tag.to_string()).with_key("k").with_tag(tag)).unwrap();
        }
        let began = Instant::now();
        let report = producer.shutdown_within(limit).unwrap();
        let took = began.elapsed();
        assert_eq!((report.delivered, report.failed, report.given_up), (0, 0, 500));
        assert_eq!(tags(&report), (0..500).collect::<Vec<_>>());
        for error in report.undelivered.iter() {
            assert_eq!(error.persistence(), Persistence::No);
            assert!(matches!(error.kind(), DeliveryErrorKind::ShutDown { last: Some(_) }), "{error}");
            assert!(cluster.bootstrap().contains(&*connection(error.kind()).address));
            assert_eq!(error.message().value(), Some(error.message().tag().to_string().as_bytes()));
            assert_eq!(error.message().partition(), None, "nobody chose one");
        }
        took
    });
}

#[test]
fn what_is_given_up_says_whether_it_may_be_written() {
    let cluster = cluster(1);
    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let producer = async_producer(&cluster).shutdown_timeout(ms(200)).build().unwrap();
    for tag in 0..5 {
        producer.produce(Message::new("orders", "v").with_tag(tag)).unwrap();
    }
    producer.deliver_messages();
    stalled.wait_for_hits(1, LONG).unwrap();
    for tag in 5..12 {
        producer.produce(Message::new("orders", "v").with_tag(tag)).unwrap();
    }
    let handle = producer.produce_with_handle(Message::new("orders", "v").with_tag(12)).unwrap();
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.given_up), (0, 0, 13));
    let mut errors: Vec<_> =
        report.undelivered.iter().map(|error| (error.message().tag(), error.persistence())).collect();
    errors.sort_by_key(|(tag, _)| *tag);
    assert_eq!(errors.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    for (tag, persistence) in errors {
        let expected = if tag < 5 { Persistence::Possibly } else { Persistence::No };
        assert_eq!(persistence, expected, "message {tag}");
    }
    assert_eq!(handle.wait().unwrap_err().persistence(), Persistence::No);
}

#[test]
fn shutdown_waits_for_a_broker_that_comes_back() {
    let cluster = cluster(1);
    cluster.stop_broker(1);
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..100 {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
    }
    thread::scope(|scope| {
        let ending = scope.spawn(|| producer.shutdown().unwrap());
        wait_until("it tries", || producer.last_error().is_some());
        cluster.restart_broker(1).unwrap();
        let report = ending.join().unwrap();
        assert_eq!((report.delivered, report.given_up), (100, 0));
    });
    assert_in_order(&cluster.messages("orders"), 100);
}

#[test]
fn dropping_the_last_clone_is_bounded_and_tells_the_handles() {
    let cluster = cluster(1);
    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let producer = async_producer(&cluster).drop_timeout(ms(100)).build().unwrap();
    let written = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    stalled.wait_for_hits(1, LONG).unwrap();
    let queued = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    let took = timed(|| drop(producer));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(written.wait().unwrap_err().persistence(), Persistence::Possibly);
    assert_eq!(queued.wait().unwrap_err().persistence(), Persistence::No);
}

fn tags(report: &ShutdownReport) -> Vec<u64> {
    report.undelivered.iter().map(|error| error.message().tag()).collect()
}

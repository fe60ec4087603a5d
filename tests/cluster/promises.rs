//! The promises that a newcomer reads first.

use std::time::Duration;

use ottla::{BufferLimit, FlushError, Message, ProduceErrorKind};

use crate::common::*;

#[test]
fn a_huge_threshold_and_interval_deliver_25_of_25_on_shutdown() {
    let cluster = cluster(1);
    for (threshold, interval) in
        [(usize::MAX, Duration::MAX), (1_000_000, Duration::from_secs(3600)), (0, Duration::ZERO)]
    {
        let producer =
            async_producer(&cluster).delivery_threshold(threshold).delivery_interval(interval).build().unwrap();
        for n in 0..25 {
            producer.produce(Message::new("orders", format!("{n}"))).unwrap();
        }
        assert_eq!(producer.queue_size(), 25, "nothing left before");
        let report = producer.shutdown().unwrap();
        assert_eq!((report.delivered, report.failed, report.given_up), (25, 0, 0));
    }
    let numbers: Vec<String> = (0..75).map(|n| (n % 25).to_string()).collect();
    assert_eq!(values(&cluster.messages("orders")), numbers);
}

#[test]
fn one_message_more_than_max_queue_size_is_refused_with_what_is_behind_it() {
    let cluster = cluster(1);
    cluster.stop_broker(1);
    let producer = async_producer(&cluster).max_queue_size(100).build().unwrap();
    for n in 0..100 {
        producer.produce(Message::new("orders", format!("{n}"))).unwrap();
    }
    wait_until("an error is seen", || producer.last_error().is_some());
    let error = producer.produce(Message::new("orders", "number 101").with_key("k").with_tag(101)).unwrap_err();
    let text = error.to_string();
    let ProduceErrorKind::BufferOverflow(overflow) = error.kind() else { panic!("{text}") };
    assert_eq!((overflow.queued, overflow.limit), (100, BufferLimit::QueueSize(100)));
    assert_eq!(&*connection(overflow.last_error.as_deref().unwrap()).address, cluster.bootstrap());
    for part in [
        "orders",
        "100 messages, max_queue_size is 100",
        "the oldest has waited",
        &cluster.bootstrap(),
        "check that a broker",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let message = error.into_message();
    assert_eq!((message.value(), message.key(), message.tag()), (Some(&b"number 101"[..]), Some(&b"k"[..]), 101));

    cluster.restart_broker(1).unwrap();
    producer.produce_timeout(message, LONG).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 101);
    assert_eq!(cluster.messages("orders").len(), 101);
}

#[test]
fn a_broker_that_stops_in_the_middle_costs_no_message_and_repeats_none() {
    let cluster = cluster(4);
    let producer = async_producer(&cluster).streaming().max_queue_size(20_000).build().unwrap();
    let mut produced = 0;
    let mut produce = |count: usize| {
        for _ in 0..count {
            let message = Message::new("orders", (produced / 8).to_string()).with_key(format!("key {}", produced % 8));
            producer.produce_timeout(message, LONG).unwrap();
            produced += 1;
        }
    };
    for round in 0..3 {
        produce(8000);
        cluster.wait_for("orders", round * 9600 + 4000, LONG).unwrap();
        cluster.stop_broker(1);
        produce(1600);
        let error = producer.flush(ms(50)).unwrap_err();
        assert!(matches!(error, FlushError::Timeout { unfinished: 1600.., last_error: Some(_), .. }), "{error:?}");
        cluster.restart_broker(1).unwrap();
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.given_up), (28_800, 0, 0));
    assert_in_order(&cluster.messages("orders"), 28_800);
}

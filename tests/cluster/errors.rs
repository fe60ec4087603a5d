//! Brokers that refuse: what is tried again, what is not, and what is promised about the log.

use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault};
use ottla::{DeliveryErrorKind, DeliveryHandle, ErrorCode, Message, Persistence, ProduceErrorKind};

use crate::common::*;

/// Errors that a broker answers before it appends: the batch is sent again.
const BEFORE: [i16; 24] = [-1, 2, 3, 5, 6, 7, 8, 9, 13, 14, 19, 20, 45, 47, 51, 56, 59, 72, 74, 75, 89, 100, 103, 9999];

/// Errors that can follow the append: the batch is sent again with its sequence, and the broker sees the repeat.
const AFTER: [i16; 14] = [-1, 3, 5, 6, 7, 8, 9, 13, 20, 51, 56, 74, 89, 9999];

#[test]
fn each_retriable_error_is_survived_once_without_loss_repeat_or_swap() {
    let cluster = cluster(2);
    for (round, code) in BEFORE.into_iter().enumerate() {
        survives(&cluster, round, Fault::on(Api::Produce).partition(0).times(1).error(ErrorCode(code)), code);
    }
}

#[test]
fn each_error_after_the_append_is_survived_once_without_loss_repeat_or_swap() {
    let cluster = cluster(2);
    for (round, code) in AFTER.into_iter().enumerate() {
        survives(&cluster, round, Fault::on(Api::Produce).partition(0).times(1).error_after(ErrorCode(code)), code);
    }
}

#[test]
fn errors_that_come_and_go_under_load_cost_nothing() {
    let cluster = cluster(2);
    let faults: Vec<_> = [2, 6, 7, 19, 45, 56]
        .into_iter()
        .enumerate()
        .map(|(at, code)| {
            cluster.inject(Fault::on(Api::Produce).skip(3 * at as u64 + 2).times(1).error(ErrorCode(code)))
        })
        .chain([7, 20, 13].into_iter().enumerate().map(|(at, code)| {
            cluster.inject(Fault::on(Api::Produce).skip(7 * at as u64 + 4).times(1).error_after(ErrorCode(code)))
        }))
        .collect();
    let producer = async_producer(&cluster).delivery_threshold(20).build().unwrap();
    for n in 0..2000 {
        let message = Message::new("orders", (n / 2).to_string()).with_key(["a", "b"][n % 2]);
        producer.produce_timeout(message, LONG).unwrap();
        if n % 50 == 0 {
            producer.flush(LONG).unwrap();
        }
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 2000);
    assert_in_order(&cluster.messages("orders"), 2000);
    assert!(faults.iter().all(|fault| fault.hits() == 1));
}

fn survives(cluster: &Cluster, round: usize, fault: Fault, code: i16) {
    let producer = async_producer(cluster).build().unwrap();
    let mut expected = cluster.messages("orders").len();
    let mut produce = |from: usize| {
        for n in from..from + 10 {
            for partition in 0..2 {
                let message = Message::new("orders", n.to_string()).with_key(format!("{round} {partition}"));
                producer.produce(message.with_partition(partition)).unwrap();
            }
        }
        expected += 20;
        let report = producer.flush(LONG).unwrap();
        assert_eq!((report.failed, cluster.messages("orders").len()), (0, expected), "error {code}");
    };
    produce(0);
    let fault = cluster.inject(fault);
    produce(10);
    assert_eq!(fault.hits(), 1);
    produce(20);
    assert_eq!(producer.shutdown().unwrap().delivered, 60, "error {code}");
    let mut stored = cluster.messages("orders");
    stored.retain(|message| message.key_str().unwrap().starts_with(&format!("{round} ")));
    assert_in_order(&stored, 60);
}

#[test]
fn an_error_that_cannot_go_away_fails_its_messages_and_no_others() {
    use Persistence::{No, Possibly};
    let cluster = cluster(2);
    let producer = async_producer(&cluster).build().unwrap();
    for (code, persistence) in [(17, No), (21, No), (29, No), (42, No), (43, No), (44, Possibly)] {
        let _refused = cluster.inject(Fault::on(Api::Produce).partition(0).times(1).error(ErrorCode(code)));
        let handles: Vec<_> = (0..6)
            .map(|n| producer.produce_with_handle(Message::new("orders", "v").with_partition(n % 2)).unwrap())
            .collect();
        for (n, fate) in DeliveryHandle::wait_all(handles).into_iter().enumerate() {
            assert_eq!(fate.is_ok(), n % 2 == 1, "error {code}: {fate:?}");
            let Err(error) = fate else { continue };
            let DeliveryErrorKind::Broker(broker) = error.kind() else { panic!("{error}") };
            assert_eq!((broker.node, broker.api, broker.code.0), (Some(1), "Produce", code));
            assert_eq!(error.persistence(), persistence, "error {code}");
            assert!(
                error
                    .to_string()
                    .contains(&format!("broker 1 at {} refused Produce for orders-0", cluster.bootstrap())),
                "{error}"
            );
        }
        let fate = producer.produce_with_handle(Message::new("orders", "v").with_partition(0)).unwrap().wait();
        assert!(fate.is_ok(), "error {code}: {fate:?}");
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (24, 18));
}

#[test]
fn an_unknown_error_that_repeats_fails_with_its_number_and_may_be_written() {
    let cluster = cluster(1);
    let refused = cluster.inject(Fault::on(Api::Produce).times(2).error(ErrorCode(9999)));
    let producer = async_producer(&cluster).build().unwrap();
    let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
    assert_eq!((code(error.kind()), error.persistence(), refused.hits()), (9999, Persistence::Possibly, 2));
    assert!(error.to_string().contains("9999"), "{error}");
    assert!(producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().is_ok());
}

#[test]
fn max_retries_ends_the_attempts() {
    let cluster = cluster(1);
    for retries in [0, 2] {
        let refused = cluster.inject(Fault::on(Api::Produce).error(ErrorCode::NOT_ENOUGH_REPLICAS));
        let producer = async_producer(&cluster).max_retries(retries).build().unwrap();
        let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
        let DeliveryErrorKind::RetriesExhausted { attempts, .. } = error.kind() else { panic!("{error}") };
        assert_eq!((*attempts, refused.hits(), code(error.kind())), (retries + 1, u64::from(retries) + 1, 19));
        assert_eq!(error.persistence(), Persistence::No, "it proves that nothing was appended");
        drop(refused);
        assert!(producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().is_ok());
    }
}

#[test]
fn the_delivery_timeout_ends_what_waits_and_what_is_under_way() {
    let cluster = cluster(1);
    let refused = cluster.inject(Fault::on(Api::Produce).error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let timeout = ms(300);
    let producer = async_producer(&cluster).delivery_timeout(timeout).build().unwrap();
    let began = Instant::now();
    let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
    assert!((timeout..timeout + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { after, .. } if *after == timeout), "{error}");
    assert_eq!((code(error.kind()), error.persistence()), (19, Persistence::No));
    drop(refused);

    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let under_way = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    let began = Instant::now();
    let error = under_way.wait().unwrap_err();
    assert!((timeout..timeout + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
    assert_eq!(error.persistence(), Persistence::Possibly);
    drop(stalled);
    let fate = producer.produce_with_handle(Message::new("orders", "after")).unwrap().wait().unwrap();
    assert_eq!(cluster.messages("orders")[fate.offset.unwrap() as usize].value_str(), Some("after"));
}

#[test]
fn a_batch_that_is_too_large_for_the_broker_is_split_and_one_message_fails_alone() {
    let cluster = Cluster::builder().topic("orders", 1).max_message_bytes(2000).start().unwrap();
    let producer = async_producer(&cluster).build().unwrap();
    let value = |n: usize| format!("{n:>0width$}", width = if n == 57 { 3000 } else { 100 });
    let handles: Vec<_> =
        (0..100).map(|n| producer.produce_with_handle(Message::new("orders", value(n))).unwrap()).collect();
    let fates = DeliveryHandle::wait_all(handles);
    for (n, fate) in fates.iter().enumerate() {
        match fate {
            Ok(delivered) => assert_eq!(delivered.offset, Some(n as i64 - i64::from(n > 57))),
            Err(error) => {
                assert_eq!((n, code(error.kind()), error.persistence()), (57, 10, Persistence::No), "{error}");
                assert_eq!(error.message().value(), Some(value(57).as_bytes()));
            }
        }
    }
    let stored = cluster.messages("orders");
    let expected: Vec<_> = (0..100).filter(|n| *n != 57).map(value).collect();
    assert_eq!(values(&stored), expected);
    assert_eq!(producer.shutdown().unwrap().delivered, 99);
}

#[test]
fn a_compacted_topic_refuses_only_the_messages_without_a_key() {
    let cluster = Cluster::builder().compacted_topic("state", 1).start().unwrap();
    let producer = async_producer(&cluster).build().unwrap();
    let handles: Vec<_> = (0..30)
        .map(|n| {
            let message = Message::new("state", n.to_string()).with_partition(0);
            producer.produce_with_handle(if n % 10 == 4 { message } else { message.with_key("k") }).unwrap()
        })
        .collect();
    for (n, fate) in DeliveryHandle::wait_all(handles).into_iter().enumerate() {
        assert_eq!(fate.is_err(), n % 10 == 4, "{n}: {fate:?}");
        if let Err(error) = fate {
            assert_eq!((code(error.kind()), error.persistence()), (87, Persistence::No));
        }
    }
    let expected: Vec<_> = (0..30).filter(|n| n % 10 != 4).map(|n| n.to_string()).collect();
    assert_eq!(values(&cluster.messages("state")), expected);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (27, 3));
}

#[test]
fn without_idempotence_errors_are_retried_in_order() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).idempotent(false).build().unwrap();
    let fault = cluster.inject(Fault::on(Api::Produce).skip(2).times(3).error(ErrorCode::NOT_ENOUGH_REPLICAS));
    for n in 0..500 {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
        if n % 50 == 0 {
            producer.deliver_messages();
            cluster.wait_for("orders", n / 2, LONG).unwrap();
        }
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 500);
    let stored = cluster.messages("orders");
    assert_in_order(&stored, 500);
    assert_eq!((stored[0].producer_id, fault.hits()), (-1, 3));
}

#[test]
fn a_producer_id_is_asked_for_until_it_is_there() {
    let cluster = cluster(1);
    for code in [14, 15, 16, 7, 41] {
        let fault = cluster.inject(Fault::on(Api::InitProducerId).times(2).error(ErrorCode(code)));
        let producer = async_producer(&cluster).build().unwrap();
        producer.produce(Message::new("orders", "v")).unwrap();
        assert_eq!(producer.shutdown().unwrap().delivered, 1, "error {code}");
        assert_eq!(fault.hits(), 2);
    }
}

#[test]
fn a_right_that_is_missing_at_the_start_ends_messages_and_not_the_producer() {
    let cluster = cluster(1);
    let denied = cluster.inject(Fault::on(Api::InitProducerId).error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    let producer = async_producer(&cluster).build().unwrap();
    for _ in 0..2 {
        let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
        assert_eq!((code(error.kind()), error.persistence()), (31, Persistence::No), "{error}");
        for part in ["CLUSTER_AUTHORIZATION_FAILED", "grant this client Write on the topic", "IdempotentWrite"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(!error.to_string().contains("idempotent(false)"), "that is no cure without Write: {error}");
    }
    assert!(producer.last_error().is_some_and(|error| code(&error) == 31));
    drop(denied);
    assert!(producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().is_ok());
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (1, 2));

    let denied = cluster.inject(Fault::on(Api::InitProducerId).error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    let mut producer = sync_producer(&cluster).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    let error = producer.deliver_messages().unwrap_err();
    assert_eq!((error.failed.len(), error.remaining), (1, 0));
    assert!(error.failed.into_iter().all(|error| code(error.kind()) == 31));
    drop(denied);
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages().unwrap();
}

#[test]
fn a_fenced_producer_reports_every_message_and_refuses_what_follows() {
    let cluster = cluster(2);
    let producer = async_producer(&cluster).max_queue_size(1000).build().unwrap();
    let fate = producer.produce_with_handle(Message::new("orders", "before")).unwrap().wait();
    assert!(fate.is_ok());
    let _fenced = cluster.inject(Fault::on(Api::Produce).partition(0).error(ErrorCode::PRODUCER_FENCED));
    let handles: Vec<_> = (0..20)
        .map(|n| producer.produce_with_handle(Message::new("orders", "v").with_partition(n % 2)).unwrap())
        .collect();
    // Accepted in the instant before the producer knows: each has its fate all the same.
    let mut accepted = 0;
    producer.deliver_messages();
    let refused = loop {
        match producer.produce(Message::new("orders", "later").with_tag(9)) {
            Ok(()) => accepted += 1,
            Err(error) if error.is_buffer_overflow() => thread::yield_now(),
            Err(error) => break error,
        }
    };
    let ProduceErrorKind::Fatal(fatal) = refused.kind() else { panic!("{refused}") };
    assert_eq!((code(&fatal.cause), refused.message().tag()), (90, 9));
    assert!(refused.to_string().contains("another producer took its place"), "{refused}");
    for (n, fate) in DeliveryHandle::wait_all(handles).into_iter().enumerate() {
        // Partition 1 may have been answered before.
        let Err(error) = fate else {
            assert_eq!(n % 2, 1);
            continue;
        };
        assert!(code_of_fatal(error.kind()) == 90 || (n % 2 == 0 && code(error.kind()) == 90), "{error}");
    }
    let began = Instant::now();
    for late in [
        producer.produce_timeout(Message::new("orders", "v"), LONG),
        producer.produce_with_handle(Message::new("orders", "v")).map(drop),
    ] {
        assert!(matches!(late.unwrap_err().kind(), ProduceErrorKind::Fatal(_)));
    }
    assert!(producer.flush(LONG).is_ok(), "nothing is left");
    let report = producer.shutdown().unwrap();
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!(report.delivered + report.failed, 21 + accepted);
    assert_eq!(report.given_up, 0);
    let stored = cluster.messages("orders").len() as u64;
    assert!(stored >= report.delivered && stored <= 21 + accepted, "{stored}");
}

fn code_of_fatal(error: &DeliveryErrorKind) -> i16 {
    match error {
        DeliveryErrorKind::Fatal(fatal) => code(&fatal.cause),
        _ => 0,
    }
}

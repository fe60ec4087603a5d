//! What becomes of a message, as handles and reports tell it.

use std::sync::mpsc;
use std::time::{Instant, SystemTime};

use ottla::testing::{Api, Cluster, Fault};
use ottla::{
    Delivered, DeliveryErrorKind, DeliveryHandle, ErrorCode, Message, Persistence, RequiredAcks, Timestamp, Topic,
};

use crate::common::*;

#[test]
fn a_delivered_message_says_where_it_is_and_when() {
    let cluster = Cluster::builder().topic("orders", 3).log_append_time_topic("stamped", 1).start().unwrap();
    let producer = async_producer(&cluster).build().unwrap();
    let time = Timestamp::from_millis(1_600_000_000_123);
    for n in 0..3 {
        let message = Message::new("orders", "v").with_partition(2).with_create_time(time).with_tag(40 + n);
        let fate = producer.produce_with_handle(message).unwrap().wait().unwrap();
        assert_eq!((fate.topic.name(), fate.partition, fate.offset), ("orders", 2, Some(n as i64)));
        assert_eq!((fate.timestamp, fate.tag), (Some(time), 40 + n));
    }
    let stamped = Topic::new("stamped").unwrap();
    let message = Message::new(&stamped, "v").with_create_time(time);
    let fate = producer.produce_with_handle(message).unwrap().wait().unwrap();
    let stored = cluster.messages("stamped").remove(0);
    assert_eq!((fate.topic, fate.timestamp), (stamped, Some(stored.timestamp)));
    assert_ne!(stored.timestamp, time);
    let fate = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
    let age = Timestamp::from(SystemTime::now()).as_millis() - fate.timestamp.unwrap().as_millis();
    assert!((0..60_000).contains(&age), "{age}");
    assert_eq!(producer.shutdown().unwrap().delivered, 5);
}

#[test]
fn a_batch_that_was_sent_twice_is_told_with_its_own_times() {
    let cluster = cluster(1);
    let times = [1_600_000_003_000, 1_600_000_001_000, 1_600_000_002_000].map(Timestamp::from_millis);
    let messages = || times.map(|time| Message::new("orders", "v").with_create_time(time));
    let lose_an_answer = || cluster.inject(Fault::on(Api::Produce).times(1).cut_after());

    let producer = async_producer(&cluster).build().unwrap();
    let lost = lose_an_answer();
    let handles = messages().map(|message| producer.produce_with_handle(message).unwrap());
    let told = DeliveryHandle::wait_all(handles).into_iter().map(|fate| fate.unwrap().timestamp.unwrap());
    assert_eq!((told.collect::<Vec<_>>(), lost.hits()), (times.to_vec(), 1), "by handle");
    assert_eq!(producer.shutdown().unwrap().delivered, 3);

    let (send, told) = mpsc::channel();
    let callback = move |fate: Result<&Delivered, _>| send.send(fate.unwrap().timestamp.unwrap()).unwrap();
    let producer = async_producer(&cluster).on_delivery(callback).build().unwrap();
    let lost = lose_an_answer();
    for message in messages() {
        producer.produce(message).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 3);
    assert_eq!((told.iter().collect::<Vec<_>>(), lost.hits()), (times.to_vec(), 1), "by callback");
    assert_eq!(cluster.messages("orders").len(), 6, "each is there once");
}

#[test]
fn fewer_acks_say_less() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).required_acks(RequiredAcks::None).build().unwrap();
    let fate = producer.produce_with_handle(Message::new("orders", "v").with_tag(7)).unwrap().wait().unwrap();
    assert_eq!((fate.partition, fate.offset, fate.timestamp, fate.tag), (0, None, None, 7));
    cluster.wait_for("orders", 1, LONG).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    let producer = async_producer(&cluster).required_acks(RequiredAcks::Leader).build().unwrap();
    let fate = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
    assert_eq!(fate.offset, Some(1));
    assert_eq!(cluster.messages("orders")[1].producer_id, -1, "not idempotent");
}

#[test]
fn waiting_makes_a_message_leave_and_asking_does_not() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    producer.produce(Message::new("orders", "0")).unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "1")).unwrap();
    let handle = handle.try_get().unwrap_err();
    assert_eq!(producer.queue_size(), 2);
    let fate = handle.wait().unwrap();
    assert_eq!(fate.offset, Some(1), "what was produced before left before");

    let handle = producer.produce_with_handle(Message::new("orders", "2")).unwrap();
    let fate = handle.wait_timeout(LONG).expect("in time").unwrap();
    assert_eq!(fate.offset, Some(2));

    let stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let handle = producer.produce_with_handle(Message::new("orders", "3")).unwrap();
    let began = Instant::now();
    let mut handle = handle.wait_timeout(ms(50)).unwrap_err().into_handle();
    assert!(began.elapsed() >= ms(50));
    drop(stalled);
    cluster.wait_for("orders", 4, LONG).unwrap();
    let fate = loop {
        match handle.try_get() {
            Ok(fate) => break fate.unwrap(),
            Err(not_yet) => handle = not_yet,
        }
    };
    assert_eq!(fate.offset, Some(3));
    assert_eq!(producer.shutdown().unwrap().delivered, 4);
}

#[test]
fn many_handles_are_waited_for_together_and_in_their_order() {
    let cluster = Cluster::start().unwrap();
    let producer = async_producer(&cluster).build().unwrap();
    let topics = ["orders", "parcels", "invoices"].map(|name| Topic::new(name).unwrap());
    let handles: Vec<DeliveryHandle> = (0..300)
        .map(|n| producer.produce_with_handle(Message::new(&topics[n % 3], n.to_string()).with_tag(n as u64)).unwrap())
        .collect();
    let fates = DeliveryHandle::wait_all(handles);
    for (n, fate) in fates.into_iter().enumerate() {
        let fate = fate.unwrap();
        assert_eq!((&fate.topic, fate.tag), (&topics[n % 3], n as u64));
        let stored = cluster.messages(fate.topic.name());
        let there = |stored: &&ottla::testing::StoredMessage| {
            (stored.partition, Some(stored.offset)) == (fate.partition, fate.offset)
        };
        assert_eq!(stored.iter().find(there).unwrap().value_str(), Some(&*n.to_string()));
    }
    assert!(cluster.requests().iter().filter(|request| request.api == Api::Produce).count() < 60, "they left together");
}

#[test]
fn a_handle_outlives_its_producer_and_a_dropped_one_changes_nothing() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    drop(producer.produce_with_handle(Message::new("orders", "nobody waits for me")).unwrap());
    let handle = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    let bad = producer.produce_with_handle(Message::new("orders", "v").with_partition(5)).unwrap();
    drop(producer);
    assert_eq!(handle.wait().unwrap().offset, Some(1));
    assert!(matches!(bad.wait().unwrap_err().kind(), DeliveryErrorKind::UnknownPartition { .. }));
    assert_eq!(cluster.messages("orders").len(), 2);
}

#[test]
fn a_failure_that_nobody_takes_is_in_the_shutdown_report() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..10 {
        let message = Message::new("orders", format!("{n}")).with_key("k").with_header("h", "1").with_tag(n);
        producer.produce(if n % 5 == 3 { message.with_partition(9) } else { message }).unwrap();
    }
    let flushed = producer.flush(LONG).unwrap();
    assert_eq!((flushed.delivered, flushed.failed), (8, 2));
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.failures.len(), report.failures_dropped), (8, 2, 2, 0));
    for (error, tag) in report.failures.zip([3, 8]) {
        assert_eq!(error.persistence(), Persistence::No);
        let message = error.into_message();
        assert_eq!((message.topic(), message.tag(), message.partition()), ("orders", tag, Some(9)));
        assert_eq!((message.key(), message.value()), (Some(&b"k"[..]), Some(tag.to_string().as_bytes())));
        assert_eq!(message.headers().collect::<Vec<_>>(), [("h", Some(&b"1"[..]))]);
    }
}

#[test]
fn a_failed_message_can_be_produced_again_as_it_is() {
    let cluster = cluster(2);
    let refuse = cluster.inject(Fault::on(Api::Produce).error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let producer = async_producer(&cluster).build().unwrap();
    let message = Message::new("orders", "v").with_key("k").with_header("h", "1").with_header("h", "2").with_tag(1);
    let error = producer.produce_with_handle(message).unwrap().wait().unwrap_err();
    assert_eq!((code(error.kind()), error.persistence()), (29, Persistence::No));
    assert!(error.to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
    drop(refuse);
    let fate = producer.produce_with_handle(error.into_message()).unwrap().wait().unwrap();
    assert_eq!((fate.offset, fate.tag), (Some(0), 1));
    let stored = cluster.messages("orders").remove(0);
    assert_eq!((stored.key_str(), stored.headers.len()), (Some("k"), 2));
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
}

#[test]
fn a_failure_whose_handle_was_dropped_is_in_the_report() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    let absent = |tag| Message::new("orders", "v").with_partition(9).with_tag(tag);
    drop(producer.produce_with_handle(absent(1)).unwrap());
    let kept = producer.produce_with_handle(absent(2)).unwrap();
    let report = producer.shutdown().unwrap();
    assert_eq!(report.failed, 2);
    assert_eq!(report.failures.iter().map(|failure| failure.message().tag()).collect::<Vec<_>>(), [1]);
    assert_eq!(kept.wait().unwrap_err().message().tag(), 2);
}

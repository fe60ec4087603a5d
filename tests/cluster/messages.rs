//! What can be in a message, how it arrives, and which messages are refused.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use ottla::testing::Cluster;
use ottla::{
    DeliveryErrorKind, DeliveryHandle, Message, Partitioner, Payload, Persistence, ProduceErrorKind, Timestamp, Topic,
};

use crate::common::*;

#[test]
fn everything_in_a_message_arrives_as_it_was_given() {
    let cluster = cluster(4);
    let producer = async_producer(&cluster).build().unwrap();
    let time = Timestamp::from_millis(1_650_000_000_001);
    let message = Message::new("orders", "value")
        .with_key("key")
        .with_header("b", "1")
        .with_header("a", "2")
        .with_header("b", None)
        .with_header("", "no name")
        .with_header("b", "")
        .with_header("ü", &[0u8, 255])
        .with_partition(3)
        .with_create_time(time);
    producer.produce(message).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    let stored = cluster.messages("orders").remove(0);
    assert_eq!((stored.partition, stored.offset, stored.timestamp), (3, 0, time));
    assert_eq!((stored.key_str(), stored.value_str()), (Some("key"), Some("value")));
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let expected = [
        header("b", Some(b"1")),
        header("a", Some(b"2")),
        header("b", None),
        header("", Some(b"no name")),
        header("b", Some(b"")),
        header("ü", Some(&[0, 255])),
    ];
    assert_eq!(stored.headers, expected);
}

#[test]
fn null_and_empty_are_not_the_same() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    for message in [
        Message::new("orders", "v"),
        Message::new("orders", "v").with_key(""),
        Message::new("orders", ""),
        Message::tombstone("orders", "k"),
        Message::tombstone("orders", "").with_header("h", "1"),
    ] {
        producer.produce(message).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 5);
    let stored = cluster.messages("orders");
    let stored: Vec<_> = stored.iter().map(|message| (message.key_str(), message.value_str())).collect();
    assert_eq!(
        stored,
        [(None, Some("v")), (Some(""), Some("v")), (None, Some("")), (Some("k"), None), (Some(""), None)]
    );
}

#[test]
fn every_kind_of_bytes_can_be_sent() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    let (text, vec) = ("bytes".to_owned(), b"bytes".to_vec());
    let payloads: Vec<Payload<'_>> = vec![
        "bytes".into(),
        (&text).into(),
        text.clone().into(),
        (&b"bytes"[..]).into(),
        b"bytes".into(),
        (&vec).into(),
        vec.clone().into(),
        Arc::<[u8]>::from(&b"bytes"[..]).into(),
        Bytes::from_static(b"bytes").into(),
    ];
    let topic = Topic::new("orders").unwrap();
    let count = payloads.len();
    for payload in payloads {
        let message = Message::new(&topic, payload.clone()).with_key(payload.clone()).with_header("h", payload);
        producer.produce(message.into_owned()).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, count as u64);
    for stored in cluster.messages("orders") {
        assert_eq!((stored.key_str(), stored.value_str()), (Some("bytes"), Some("bytes")));
        assert_eq!(stored.headers[0].1.as_deref(), Some(&b"bytes"[..]));
    }
}

#[test]
fn times_far_apart_and_a_hundred_thousand_headers_are_encoded_right() {
    const HEADERS: usize = 100_000;
    let cluster = Cluster::builder().topic("orders", 1).max_message_bytes(4_000_000).start().unwrap();
    let producer = async_producer(&cluster).max_message_bytes(2_000_000).max_batch_bytes(2_000_000).build().unwrap();
    let day = 86_400_000;
    let times = [1_600_000_000_000, 1_600_000_000_000 - 30 * day, i64::MIN, 1_600_000_000_000 + 30 * day, 1];
    for time in times {
        producer.produce(Message::new("orders", "v").with_create_time(Timestamp::from_millis(time))).unwrap();
    }
    let many = (0..HEADERS).fold(Message::new("orders", "v"), |message, n| message.with_header("name", n.to_string()));
    producer.produce(many).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 6);
    let stored = cluster.messages("orders");
    assert_eq!(stored[..5].iter().map(|message| message.timestamp.as_millis()).collect::<Vec<_>>(), times);
    assert_eq!(stored[5].headers.len(), HEADERS);
    let in_order = |(n, (name, value)): (usize, &(String, Option<Vec<u8>>))| {
        name == "name" && value.as_deref() == Some(n.to_string().as_bytes())
    };
    assert!(stored[5].headers.iter().enumerate().all(in_order));
}

#[test]
fn a_wall_clock_that_jumped_costs_only_the_messages_of_the_far_future() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).build().unwrap();
    let now = Timestamp::from(SystemTime::now()).as_millis();
    let hour = 3_600_000;
    let time = |millis| Timestamp::from_millis(millis);
    // What a clock stamps that goes an hour back, right again, ten years ahead, and right again.
    let times = [now, now - hour, now + 1, now + 87_600 * hour, now + 2];
    let handles: Vec<_> = times
        .iter()
        .map(|at| producer.produce_with_handle(Message::new("orders", "v").with_create_time(time(*at))).unwrap())
        .collect();
    let fates = DeliveryHandle::wait_all(handles);
    for (at, fate) in times.into_iter().zip(fates) {
        match fate {
            Ok(delivered) => assert_eq!(delivered.timestamp, Some(time(at))),
            Err(error) => {
                assert_eq!((at, error.message().create_time()), (times[3], Some(time(at))));
                assert_eq!(error.persistence(), Persistence::No);
                assert!(error.to_string().contains("out of range"), "{error}");
            }
        }
    }
    let stored: Vec<i64> = cluster.messages("orders").iter().map(|stored| stored.timestamp.as_millis()).collect();
    assert_eq!(stored, [times[0], times[1], times[2], times[4]], "the others, once and in order");
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (4, 1));
}

#[test]
fn a_key_chooses_the_partition_and_a_partition_key_chooses_before_it() {
    let cluster = cluster(12);
    for (partitioner, same) in [(None, Partitioner::crc32()), (Some(Partitioner::murmur2()), Partitioner::murmur2())] {
        let builder = async_producer(&cluster);
        let producer = match partitioner {
            None => builder,
            Some(partitioner) => builder.partitioner(partitioner),
        };
        let producer = producer.build().unwrap();
        for n in 0..50 {
            let key = format!("key {n}");
            let expected = same.keyed(key.as_bytes(), 12).unwrap();
            let by_key = producer.produce_with_handle(Message::new("orders", "v").with_key(&key)).unwrap();
            let message = Message::new("orders", "v").with_key("other").with_partition_key(&key);
            let by_partition_key = producer.produce_with_handle(message).unwrap();
            let message =
                Message::new("orders", "v").with_key(&key).with_partition_key(&key).with_partition(11 - n % 12);
            let by_partition = producer.produce_with_handle(message).unwrap();
            assert_eq!(by_key.wait().unwrap().partition, expected);
            assert_eq!(by_partition_key.wait().unwrap().partition, expected);
            assert_eq!(by_partition.wait().unwrap().partition, 11 - n % 12);
        }
        assert_eq!(producer.shutdown().unwrap().delivered, 150);
    }
    assert!(cluster.messages("orders").iter().all(|message| message.key.is_some()), "partition keys are not sent");
    assert_eq!(Partitioner::murmur2().keyed(b"foobar", 12), Some(6));
}

#[test]
fn a_custom_partitioner_that_errs_costs_its_message_alone() {
    let cluster = cluster(3);
    let producer = async_producer(&cluster)
        .partitioner(Partitioner::custom(|message| {
            assert_eq!((message.topic, message.partition_count), ("orders", 3));
            match message.key {
                Some(b"panic") => panic!("a partitioner of the test panics"),
                Some(b"negative") => -1,
                Some(b"above") => 3,
                Some(key) => i32::from(key[0] - b'0'),
                None => 2,
            }
        }))
        .build()
        .unwrap();
    let handle = |key: &str| producer.produce_with_handle(Message::new("orders", "v").with_key(key)).unwrap();
    let good = [handle("0"), handle("1"), handle("2")];
    let bad = ["panic", "negative", "above"].map(|key| (key, handle(key)));
    let after = [handle("2"), handle("1"), handle("0")];
    let keyless = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    assert_eq!(good.map(|handle| handle.wait().unwrap().partition), [0, 1, 2]);
    for (key, handle) in bad {
        let error = handle.wait().unwrap_err();
        assert!(matches!(error.kind(), DeliveryErrorKind::Partitioner { .. }), "{key}: {error}");
        assert_eq!((error.persistence(), error.message().key()), (Persistence::No, Some(key.as_bytes())));
    }
    assert_eq!(after.map(|handle| handle.wait().unwrap().partition), [2, 1, 0]);
    assert_eq!(keyless.wait().unwrap().partition, 2);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (7, 3));
}

#[test]
fn a_message_that_is_too_large_is_refused_alone() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).max_message_bytes(1000).build().unwrap();
    producer.produce(Message::new("orders", "before")).unwrap();
    let error = producer.produce(Message::new("orders", "x".repeat(2000)).with_tag(3)).unwrap_err();
    let &ProduceErrorKind::MessageTooLarge { size, limit: 1000 } = error.kind() else { panic!("{error}") };
    assert!(error.to_string().contains("max_message_bytes (1000)"), "{error}");
    assert!((2061..2100).contains(&size), "{size}");
    assert_eq!((error.message().tag(), error.message().value().unwrap().len()), (3, 2000));
    // Two bytes less of lengths.
    let largest = 2000 - (size - 1000) + 2;
    let error = producer.produce(Message::new("orders", "x".repeat(largest + 1))).unwrap_err();
    assert!(matches!(error.kind(), ProduceErrorKind::MessageTooLarge { .. }), "{error}");
    let fits =
        (largest - 4..=largest).rev().find(|size| producer.produce(Message::new("orders", "x".repeat(*size))).is_ok());
    assert!(fits.is_some());
    producer.produce(Message::new("orders", "after")).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 3);
    assert_eq!(cluster.messages("orders").len(), 3);
}

#[test]
fn what_no_broker_would_take_is_refused_at_once_with_the_message() {
    let cluster = Cluster::start().unwrap();
    let producer = async_producer(&cluster).build().unwrap();
    let mut sync = sync_producer(&cluster).build().unwrap();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "no spaces", "ümlaut", "a/b", "a\nb", "a\0b", &long] {
        for error in [
            producer.produce(Message::new(name, "v").with_tag(1)).unwrap_err(),
            producer.produce_with_handle(Message::new(name, "v").with_tag(1)).unwrap_err(),
            sync.produce(Message::new(name, "v").with_tag(1)).unwrap_err(),
        ] {
            let ProduceErrorKind::InvalidTopic(why) = error.kind() else { panic!("{error}") };
            assert_eq!(why.name(), name);
            assert_eq!((error.message().topic(), error.message().tag()), (name, 1));
            assert!(!error.to_string().contains(['\n', '\0']), "{error}");
        }
    }
    for partition in [-1, i32::MIN] {
        let error = producer.produce(Message::new("orders", "v").with_partition(partition)).unwrap_err();
        assert!(matches!(error.kind(), ProduceErrorKind::InvalidMessage(_)), "{error}");
        assert!(error.to_string().contains("partition is negative"), "{error}");
    }
    let longest = "x".repeat(249);
    producer.produce(Message::new(&longest, "v")).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    assert_eq!(cluster.messages(&longest).len(), 1);
}

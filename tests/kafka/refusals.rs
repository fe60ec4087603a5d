//! Messages that Kafka does not take: they fail alone, and those around them are delivered in order.

use std::time::{Duration, SystemTime};

use ottla::{
    AsyncProducer, Client, DeliveryErrorKind, DeliveryHandle, Fate, Message, Persistence, ProduceErrorKind, Timestamp,
};

use crate::fixture::RealKafka;
use crate::tools;

#[test]
fn a_message_that_cannot_be_stored_fails_alone() {
    let kafka = RealKafka::shared();
    kafka.create_topic("strict", 1, &["max.message.bytes=10000"]);
    let producer = producer(kafka);
    let refused = producer.produce(Message::new("strict", "x".repeat(2_000_000))).expect_err("above max_message_bytes");
    assert!(matches!(refused.kind(), ProduceErrorKind::MessageTooLarge { limit: 1_000_000, .. }), "{refused}");
    assert_eq!(refused.message().value().map(<[u8]>::len), Some(2_000_000));
    let refused = producer.produce(Message::new("no topic", "v")).expect_err("a name that Kafka does not allow");
    assert!(matches!(refused.kind(), ProduceErrorKind::InvalidTopic(_)), "{refused}");
    assert_eq!(refused.message().value(), Some(&b"v"[..]));

    let produce = |message| producer.produce_with_handle(message).expect("accepted");
    let before = produce(Message::new("strict", "before"));
    let too_large = produce(Message::new("strict", "y".repeat(50_000)));
    let nowhere = produce(Message::new("strict", "nowhere").with_partition(7));
    let after = produce(Message::new("strict", "after"));
    let [before, too_large, nowhere, after] =
        <[_; 4]>::try_from(DeliveryHandle::wait_all([before, too_large, nowhere, after])).expect("four fates");
    before.expect("delivered");
    after.expect("delivered");
    let too_large = too_large.expect_err("the broker refuses it");
    assert!(matches!(too_large.kind(), DeliveryErrorKind::Broker(_)), "{too_large}");
    assert_eq!(too_large.message().value().map(<[u8]>::len), Some(50_000));
    let nowhere = nowhere.expect_err("there is no such partition");
    assert!(matches!(nowhere.kind(), DeliveryErrorKind::UnknownPartition { partition: 7, count: 1, .. }), "{nowhere}");
    drop(producer.shutdown().expect("shut down"));
    assert_eq!(texts(kafka, "strict"), ["before", "after"]);
}

#[test]
fn a_batch_that_is_too_large_is_cut_until_only_the_message_that_is_fails() {
    let kafka = RealKafka::shared();
    kafka.create_topic("cut", 1, &["max.message.bytes=20000"]);
    let too_large = |number: usize| number == 700;
    let fates = produce_at_once(kafka, 2_000, |number| {
        let value = if too_large(number) { "x".repeat(50_000) } else { format!("{number:0100}") };
        Message::new("cut", value)
    });
    assert_refused(&fates, too_large, "MESSAGE_TOO_LARGE");
    assert_left_in_order(kafka, "cut", 2_000, too_large);
    for batch in kafka.dump_batches(1, "cut", 0) {
        let size = tools::field(&batch, "size:");
        assert!(size <= 20_000, "{batch}");
    }
}

#[test]
fn a_topic_that_takes_small_batches_only_refuses_a_handful_and_is_no_trouble() {
    let kafka = RealKafka::shared();
    kafka.create_topic("small", 1, &["max.message.bytes=2000"]);
    let producer = producer(kafka);
    for number in 0..3_000 {
        let message = Message::new("small", format!("{number:0700}"));
        producer.produce_timeout(message, Duration::from_secs(30)).expect("there is room soon");
        assert!(producer.last_error().is_none(), "{:?}", producer.last_error());
    }
    let report = producer.shutdown().expect("shut down");
    assert_eq!((report.delivered, report.failed), (3_000, 0));
    assert_left_in_order(kafka, "small", 3_000, |_| false);
    let batches = kafka.dump_batches(1, "small", 0);
    assert!(batches.len() < 1_600, "{} batches: two messages fit into each", batches.len());
    // The producer goes on to the next epoch after each refusal.
    let refusals = batches.iter().map(|batch| tools::field(batch, "producerEpoch:")).max();
    println!("{} batches, {} refusals", batches.len(), refusals.unwrap_or_default());
    assert!(refusals.is_some_and(|refusals| (1..=8).contains(&refusals)), "{refusals:?} refusals");
}

#[test]
fn records_without_a_key_fail_alone_in_a_compacted_topic() {
    let kafka = RealKafka::shared();
    kafka.create_topic("compacted", 1, &["cleanup.policy=compact"]);
    let keyless = |number: usize| number % 10 == 3;
    let fates = produce_at_once(kafka, 500, |number| {
        let message = Message::new("compacted", number.to_string());
        if keyless(number) { message } else { message.with_key(format!("key {number}")) }
    });
    assert_refused(&fates, keyless, "INVALID_RECORD");
    assert_left_in_order(kafka, "compacted", 500, keyless);
}

#[test]
fn messages_from_the_future_fail_alone() {
    let kafka = RealKafka::shared();
    // What Kafka 4 has by default: an hour at the most, and any past. Kafka 3 takes any future.
    kafka.create_topic("future", 1, &["message.timestamp.after.max.ms=3600000"]);
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3_600));
    let early = |number: usize| number % 10 == 3;
    let fates = produce_at_once(kafka, 500, |number| {
        let message = Message::new("future", number.to_string());
        match number % 10 {
            3 => message.with_create_time(Timestamp::from(now + 2 * hour)),
            4 => message.with_create_time(Timestamp::from(now - 24 * 365 * 10 * hour)),
            5 => message.with_create_time(Timestamp::from(now + hour / 2)),
            _ => message,
        }
    });
    assert_refused(&fates, early, "INVALID_TIMESTAMP");
    assert_left_in_order(kafka, "future", 500, early);
}

/// Produces messages that leave together, so that they share batches; returns their fates.
fn produce_at_once(kafka: &RealKafka, count: usize, message: impl Fn(usize) -> Message<'static>) -> Vec<Fate> {
    let client = Client::builder([kafka.bootstrap()]).build().expect("an address");
    let producer = client.async_producer().max_queue_size(10_000).build().expect("options that fit together");
    let handles: Vec<DeliveryHandle> =
        (0..count).map(|number| producer.produce_with_handle(message(number)).expect("accepted")).collect();
    let fates = DeliveryHandle::wait_all(handles);
    drop(producer.shutdown().expect("shut down"));
    fates
}

/// Exactly these failed, with this code, and none of them is in the log.
fn assert_refused(fates: &[Fate], refused: impl Fn(usize) -> bool, code: &str) {
    for (number, fate) in fates.iter().enumerate() {
        match fate {
            Ok(delivered) => assert!(!refused(number), "{number} was taken: {delivered:?}"),
            Err(error) => {
                assert!(refused(number), "{number} should have been delivered: {error}");
                let DeliveryErrorKind::Broker(broker) = error.kind() else { panic!("{error}") };
                assert_eq!((broker.code.name(), error.persistence()), (code, Persistence::No), "{error}");
            }
        }
    }
}

/// The others are in the log, once and in order.
fn assert_left_in_order(kafka: &RealKafka, topic: &str, count: usize, refused: impl Fn(usize) -> bool) {
    let stored = texts(kafka, topic);
    let stored: Vec<usize> = stored.iter().map(|text| text.parse().expect("a number")).collect();
    assert!(stored.iter().copied().eq((0..count).filter(|number| !refused(*number))), "{stored:?}");
}

fn producer(kafka: &RealKafka) -> AsyncProducer {
    let client = Client::builder([kafka.bootstrap()]).build().expect("an address");
    client.async_producer().streaming().build().expect("options that fit together")
}

fn texts(kafka: &RealKafka, topic: &str) -> Vec<String> {
    kafka.read_all(topic).iter().map(|record| record.text().to_owned()).collect()
}

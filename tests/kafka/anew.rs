//! Topics that are deleted and made anew under a producer, and a cluster that takes the place of another. With brokers
//! before 4.1 topics are told by name, with others by id.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ottla::{
    AsyncProducerBuilder, Client, DeliveryErrorKind, DeliveryHandle, Fate, Message, Persistence, Producer, RequiredAcks,
};

use crate::fixture::RealKafka;
use crate::tools;

/// Who idles for this long is what others call long-lived.
const IDLE: Duration = Duration::from_secs(3);

#[test]
fn an_idle_producer_loses_nothing_when_its_topic_is_made_anew() {
    let kafka = RealKafka::shared();
    let ways: [fn(AsyncProducerBuilder) -> AsyncProducerBuilder; 3] = [
        |builder| builder,
        |builder| builder.idempotent(false),
        |builder| builder.required_acks(RequiredAcks::Leader).max_in_flight(1),
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let topic = format!("idles-{n}");
        kafka.create_topic(&topic, 6, &[]);
        let producer = way(async_producer(kafka)).build().expect("good options");
        let mut sync = sync_producer(kafka);
        (0..600).for_each(|n| producer.produce(numbered(&topic, n)).expect("accepted"));
        assert_eq!(producer.flush(Duration::from_secs(30)).expect("flushed").delivered, 600);
        sync.produce(Message::new(&*topic, "sync").with_partition(1)).expect("accepted");
        sync.deliver_messages().expect("delivered");

        let partitions = [6, 6, 9][n];
        make_anew(kafka, &topic, partitions, Duration::ZERO);
        thread::sleep(IDLE);
        let first = producer.produce_with_handle(numbered(&topic, 0)).expect("accepted");
        assert!(first.wait().is_ok(), "the first message");
        (1..60_000).for_each(|n| producer.produce(numbered(&topic, n)).expect("accepted"));
        let report = producer.shutdown().expect("shut down");
        assert_eq!((report.delivered, report.failed), (600 + 60_000, 0), "{:?}", report.failures.iter().next());
        assert_whole(kafka, &topic, 60_000);

        make_anew(kafka, &topic, partitions, Duration::ZERO);
        thread::sleep(IDLE);
        (0..600).for_each(|n| sync.produce(numbered(&topic, n)).expect("accepted"));
        sync.deliver_messages().expect("delivered");
        assert_whole(kafka, &topic, 600);
    }
}

#[test]
fn a_topic_made_anew_under_load_gets_what_was_not_in_the_old_one() {
    let kafka = RealKafka::shared();
    for pause in [Duration::ZERO, Duration::from_secs(2)] {
        let topic = format!("reborn-{}", pause.as_secs());
        kafka.create_topic(&topic, 6, &[]);
        let producer = async_producer(kafka).build().expect("good options");
        let mut handles = Vec::new();
        let mut produce_for = |time: Duration| {
            let until = Instant::now() + time;
            while Instant::now() < until {
                for _ in 0..100 {
                    handles.push(producer.produce_with_handle(numbered(&topic, handles.len())).expect("accepted"));
                }
                thread::sleep(Duration::from_millis(2));
            }
        };
        produce_for(Duration::from_secs(1));
        thread::scope(|scope| {
            let made = scope.spawn(|| make_anew(kafka, &topic, 6, pause));
            while !made.is_finished() {
                produce_for(Duration::from_millis(200));
            }
            made.join().expect("made anew");
            produce_for(Duration::from_secs(3));
        });
        let fates = DeliveryHandle::wait_all(handles);
        drop(producer.shutdown().expect("shut down"));
        let stored = assert_in_order(kafka, &topic);
        // Where no connection was lost, every batch was answered.
        let by_id = tools::broker_version().starts_with("4.") && !tools::broker_version().starts_with("4.0");
        let possibly = fates.iter().filter(|fate| fate.is_err()).count();
        println!("{} messages, {} in the new topic, {possibly} failed", fates.len(), stored.len());
        assert!(!by_id || possibly == 0, "{possibly} of {} failed", fates.len());
        for (number, fate) in fates.iter().enumerate() {
            assert_told_right(fate, stored.contains_key(&number), number);
        }
        let first = (0..fates.len()).find(|number| stored.contains_key(number)).expect("the new one is written to");
        assert!(first > 0, "and the old one was before");
        for (number, fate) in fates.iter().enumerate().skip(fates.len() - 1000) {
            assert!(fate.is_ok() && stored.contains_key(&number), "{number}: {fate:?}");
        }
    }
}

#[test]
fn a_cluster_made_anew_at_the_same_addresses_gets_what_is_sent() {
    let mut kafka = RealKafka::start(1);
    kafka.create_topic("moves", 6, &[]);
    let producer = async_producer(&kafka).build().expect("good options");
    let mut sync = sync_producer(&kafka);
    (0..600).for_each(|n| producer.produce(numbered("moves", n)).expect("accepted"));
    assert_eq!(producer.flush(Duration::from_secs(30)).expect("flushed").delivered, 600);
    sync.produce(numbered("moves", 0)).expect("accepted");
    sync.deliver_messages().expect("delivered");

    kafka.replace();
    kafka.create_topic("moves", 6, &[]);
    let handles: Vec<_> =
        (0..6_000).map(|n| producer.produce_with_handle(numbered("moves", n)).expect("accepted")).collect();
    for (number, fate) in DeliveryHandle::wait_all(handles).iter().enumerate() {
        assert!(fate.is_ok(), "{number}: {fate:?}");
    }
    assert_whole(&kafka, "moves", 6_000);
    assert_eq!(producer.shutdown().expect("shut down").failed, 0);
    (6_000..6_600).for_each(|n| sync.produce(numbered("moves", n)).expect("accepted"));
    sync.deliver_messages().expect("delivered");
    assert_whole(&kafka, "moves", 6_600);
}

#[test]
fn a_cluster_made_anew_under_load_gets_what_was_not_in_the_old_one() {
    let mut kafka = RealKafka::start(1);
    kafka.create_topic("moves", 6, &[]);
    let producer = async_producer(&kafka).build().expect("good options");
    let fates = thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let producer = &producer;
        let load = scope.spawn(move || {
            let mut handles = Vec::new();
            while stopped.recv_timeout(Duration::from_millis(2)).is_err() {
                for _ in 0..10 {
                    handles.push(producer.produce_with_handle(numbered("moves", handles.len())).expect("accepted"));
                }
            }
            DeliveryHandle::wait_all(handles)
        });
        thread::sleep(Duration::from_secs(1));
        kafka.replace();
        kafka.create_topic("moves", 6, &[]);
        thread::sleep(Duration::from_secs(3));
        stop.send(()).expect("it produces");
        load.join().expect("every message has its fate")
    });
    assert_eq!(producer.shutdown().expect("shut down").given_up, 0);
    let stored = assert_in_order(&kafka, "moves");
    let possibly = fates.iter().filter(|fate| fate.is_err()).count();
    println!("{} messages, {} in the new cluster, {possibly} failed", fates.len(), stored.len());
    let first_of = |partition: usize| {
        let first = (partition..fates.len()).step_by(6).find(|number| stored.contains_key(number));
        first.expect("the new one is written to")
    };
    let firsts: Vec<usize> = (0..6).map(first_of).collect();
    for (number, fate) in fates.iter().enumerate() {
        assert_told_right(fate, stored.contains_key(&number), number);
        assert!(fate.is_err() || number < firsts[number % 6] || stored.contains_key(&number), "{number} is lost");
        // What the old cluster had in its hands when it was killed, and nothing behind it.
        assert!(fate.is_ok() || number < firsts[number % 6], "{number}: {fate:?}");
    }
}

fn async_producer(kafka: &RealKafka) -> AsyncProducerBuilder {
    let client = Client::builder([kafka.bootstrap()]).build().expect("an address");
    client.async_producer().streaming().allow_auto_topic_creation(false).max_queue_size(1_000_000)
}

fn sync_producer(kafka: &RealKafka) -> Producer {
    let client = Client::builder([kafka.bootstrap()]).build().expect("an address");
    client.producer().allow_auto_topic_creation(false).build().expect("good options")
}

/// A message that knows its number, for one of six partitions.
fn numbered(topic: &str, number: usize) -> Message<'static> {
    Message::new(topic.to_owned(), number.to_string()).with_partition((number % 6) as i32)
}

/// Deletes the topic, and makes it again once its name is free, after this pause.
fn make_anew(kafka: &RealKafka, topic: &str, partitions: usize, pause: Duration) {
    tools::delete_topic(&kafka.bootstrap(), topic);
    thread::sleep(pause);
    kafka.create_topic(topic, partitions, &[]);
}

/// What is in the topic: each number at most once, in its partition and in order.
fn assert_in_order(kafka: &RealKafka, topic: &str) -> HashMap<usize, i32> {
    let (mut stored, mut last) = (HashMap::new(), HashMap::new());
    for record in kafka.read_all(topic) {
        let number: usize = record.text().parse().expect("a number");
        assert_eq!(record.partition as usize, number % 6);
        assert!(stored.insert(number, record.partition).is_none(), "{number} is there twice");
        assert!(last.insert(record.partition, number).is_none_or(|before| before < number), "{number} is late");
    }
    stored
}

/// The topic holds the numbers from 0 on, so many, and nothing else.
fn assert_whole(kafka: &RealKafka, topic: &str, count: usize) {
    let stored = assert_in_order(kafka, topic);
    let missing = (0..count).filter(|number| !stored.contains_key(number)).count();
    assert_eq!((stored.len(), missing), (count, 0));
}

fn assert_told_right(fate: &Fate, is_there: bool, number: usize) {
    let Err(error) = fate else { return };
    assert!(matches!(error.kind(), DeliveryErrorKind::TopicRecreated { .. }), "{number}: {error}");
    assert_eq!(error.persistence(), Persistence::Possibly, "{number}");
    assert!(!is_there, "{number} was not for the new topic: {error}");
}

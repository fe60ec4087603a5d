//! Topics that are not there, go, come back and grow while they are written to, and permissions that come and go.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use ottla::{
    AsyncProducer, AsyncProducerBuilder, Client, DeliveryErrorKind, DeliveryHandle, Fate, Message, Persistence,
};

use crate::fixture::RealKafka;
use crate::tools;

#[test]
fn a_topic_that_is_deleted_while_it_is_written_to_fails_within_its_grace_and_alone() {
    let kafka = RealKafka::shared();
    let grace = Duration::from_secs(3);
    kafka.create_topic("goes", 3, &[]);
    kafka.create_topic("stays", 1, &[]);
    let producer = build(kafka, |builder| builder.allow_auto_topic_creation(false).unknown_topic_grace(grace));
    let mut handles = Vec::new();
    let mut produce_for = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let number = (handles.len() / 2).to_string();
            for topic in ["goes", "stays"] {
                handles.push(producer.produce_with_handle(Message::new(topic, number.as_str())).expect("accepted"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    };
    produce_for(Duration::from_secs(1));
    thread::scope(|scope| {
        scope.spawn(|| tools::delete_topic(&kafka.bootstrap(), "goes"));
        produce_for(Duration::from_secs(8));
    });
    let began = Instant::now();
    let fates = DeliveryHandle::wait_all(handles);
    assert!(began.elapsed() < grace + Duration::from_secs(4), "what is left fails in time");
    drop(producer.shutdown().expect("shut down"));

    let (of_goes, of_stays): (Vec<_>, Vec<_>) = fates.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    assert!(of_stays.iter().all(|(_, fate)| fate.is_ok()), "the other topic goes on");
    let stored: Vec<String> = kafka.read_all("stays").iter().map(|record| record.text().to_owned()).collect();
    assert!(
        stored.iter().map(|text| text.parse::<usize>().unwrap()).eq(0..of_stays.len()),
        "and is complete and in order"
    );
    let first = of_goes.iter().position(|(_, fate)| fate.is_err()).expect("the deleted topic fails");
    assert!(first > 0, "it was there at first");
    for (_, fate) in &of_goes[first..] {
        // In some partition the last message before the end may have been delivered after a failure in another.
        if let Err(error) = fate {
            assert!(matches!(error.kind(), DeliveryErrorKind::UnknownTopic { .. }), "{error}");
        }
    }
    let (_, last) = of_goes.last().expect("many were produced");
    let last = last.as_ref().expect_err("the topic is gone");
    assert_eq!(last.persistence(), Persistence::No, "it was never sent");
}

#[test]
fn a_topic_made_anew_with_fewer_partitions_gets_nothing_in_a_wrong_one() {
    let kafka = RealKafka::shared();
    kafka.create_topic("anew", 6, &[]);
    let producer = build(kafka, |builder| builder.allow_auto_topic_creation(false));
    let mut handles = Vec::new();
    let mut produce_for = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let number = handles.len();
            let message = Message::new("anew", format!("{} {number}", number % 6)).with_partition((number % 6) as i32);
            handles.push(producer.produce_with_handle(message).expect("accepted"));
            thread::sleep(Duration::from_millis(2));
        }
    };
    produce_for(Duration::from_secs(1));
    thread::scope(|scope| {
        let made = scope.spawn(|| {
            tools::delete_topic(&kafka.bootstrap(), "anew");
            // The name is free a moment later.
            thread::sleep(Duration::from_secs(2));
            kafka.create_topic("anew", 2, &[]);
        });
        while !made.is_finished() {
            produce_for(Duration::from_millis(500));
        }
        made.join().expect("made anew");
        produce_for(Duration::from_secs(4));
    });
    let fates = DeliveryHandle::wait_all(handles);
    drop(producer.shutdown().expect("shut down"));

    let records = kafka.read_all("anew");
    assert_eq!(kafka.counts("anew").len(), 2);
    let mut stored = HashSet::new();
    let mut last = HashMap::new();
    for record in &records {
        let (partition, number) = record.text().split_once(' ').expect("partition and number");
        let number: usize = number.parse().expect("a number");
        assert_eq!(partition, record.partition.to_string(), "{number} is where it was meant to be");
        assert!(stored.insert(number), "{number} is there twice");
        assert!(last.insert(record.partition, number).is_none_or(|before| before < number), "{number} is late");
        let not_sent = matches!(&fates[number], Err(error) if error.persistence() == Persistence::No);
        assert!(!not_sent, "{number} is in the log and was said not to be");
    }
    assert_eq!(last.len(), 2, "both partitions are written to again");
    for (number, fate) in fates.iter().enumerate() {
        match fate {
            Ok(_) => {}
            Err(error) => match error.kind() {
                DeliveryErrorKind::UnknownPartition { partition, count: 2, .. } => {
                    assert_eq!((*partition as usize, *partition >= 2), (number % 6, true), "{error}");
                }
                // It was under way to the old topic.
                DeliveryErrorKind::TopicRecreated { .. } => assert_eq!(error.persistence(), Persistence::Possibly),
                _ => panic!("{error}"),
            },
        }
    }
    for (number, fate) in fates.iter().enumerate().skip(fates.len() - 60) {
        match number % 6 {
            0 | 1 => assert!(fate.is_ok() && stored.contains(&number), "{number}: {fate:?}"),
            _ => assert!(fate.is_err(), "{number}: {fate:?}"),
        }
    }
}

#[test]
fn new_partitions_are_used_once_they_are_known() {
    let kafka = RealKafka::shared();
    kafka.create_topic("grows", 1, &[]);
    let client = Client::builder([kafka.bootstrap()]).metadata_max_age(Duration::from_secs(1)).build().unwrap();
    // Turns of 64 KiB, where one of a whole batch could be all there is.
    let small = client.async_producer().streaming().max_batch_bytes(16_384).max_message_bytes(16_384);
    let producer = small.build().unwrap();
    let mut handles = Vec::new();
    let mut produce = || {
        let message = Message::new("grows", handles.len().to_string());
        handles.push(producer.produce_with_handle(message).expect("accepted"));
        thread::sleep(Duration::from_millis(2));
    };
    (0..100).for_each(|_| produce());
    tools::grow_topic(&kafka.bootstrap(), "grows", 3);
    let limit = Instant::now() + Duration::from_secs(20);
    while producer.partitions_for("grows", Duration::from_secs(10)).expect("known") < 3 {
        assert!(Instant::now() < limit, "the new partitions are not seen");
        produce();
    }
    let grown = Message::new("grows", "explicit").with_partition(2);
    producer.produce_with_handle(grown).expect("accepted").wait().expect("delivered to a new partition");
    // Each partition in its turn gets some of what has no key.
    for _ in 0..3_000 {
        let message = Message::new("grows", format!("{:<1000}", handles.len()));
        handles.push(producer.produce_with_handle(message).expect("accepted"));
    }
    let fates = DeliveryHandle::wait_all(handles);
    assert!(fates.iter().all(Result::is_ok));
    drop(producer.shutdown().expect("shut down"));
    let records = kafka.read_all("grows");
    assert_eq!(records.len(), fates.len() + 1);
    assert!(kafka.counts("grows").iter().all(|count| *count > 50), "{:?}", kafka.counts("grows"));
    let mut last = HashMap::new();
    for record in records.iter().filter(|record| record.text() != "explicit") {
        let number: usize = record.text().trim_end().parse().expect("a number");
        assert!(last.insert(record.partition, number).is_none_or(|before| before < number), "{number} is late");
    }
}

#[test]
fn an_unknown_topic_fails_after_its_grace_where_topics_are_not_made_by_themselves() {
    let kafka = strict();
    kafka.create_topic("known", 1, &[]);
    let grace = Duration::from_secs(2);
    let producer = build(kafka, |builder| builder.unknown_topic_grace(grace));
    let began = Instant::now();
    let unknown = producer.produce_with_handle(Message::new("unknown", "v")).expect("accepted");
    produce(&producer, "known").expect("the other topic does not wait");
    let error = unknown.wait().expect_err("nobody makes it");
    assert!(matches!(error.kind(), DeliveryErrorKind::UnknownTopic { .. }), "{error}");
    assert_eq!((error.persistence(), error.message().value()), (Persistence::No, Some(&b"v"[..])));
    assert!((grace..grace + Duration::from_secs(5)).contains(&began.elapsed()), "{:?}", began.elapsed());
    drop(producer.shutdown().expect("shut down"));
}

#[test]
fn a_misspelt_topic_beside_a_good_one_is_named_and_leaves_it_half_of_the_queue() {
    let kafka = strict();
    kafka.create_topic("well-spelt", 1, &[]);
    let producer = build(kafka, |builder| builder.max_queue_size(1000).unknown_topic_grace(Duration::from_secs(60)));
    produce(&producer, "well-spelt").expect("delivered");
    // What comes before the brokers have told that there is no such topic may fill the whole queue.
    producer.produce(Message::new("mispelt", "v")).expect("there is room for it");
    producer.deliver_messages();
    let limit = Instant::now() + Duration::from_secs(30);
    while !producer.last_error().is_some_and(|error| error.to_string().contains("mispelt does not exist")) {
        assert!(Instant::now() < limit, "brokers tell that there is no such topic");
        thread::sleep(Duration::from_millis(10));
    }
    let (mut waiting, mut refused) = (1, 0);
    for number in 0..3000 {
        match producer.produce(Message::new("mispelt", "v")) {
            Ok(()) => waiting += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("mispelt does not exist"), "{error}");
            }
        }
        let message = Message::new("well-spelt", number.to_string());
        producer.produce_timeout(message, Duration::from_secs(10)).expect("there is room for it");
        if number % 10 == 9 {
            thread::sleep(Duration::from_millis(1));
        }
        let last = producer.last_error().expect("it is waited for").to_string();
        assert!(last.contains("mispelt does not exist"), "{last}");
    }
    assert!((1..=500).contains(&waiting) && refused > 0, "{waiting} accepted, {refused} refused");
    let report = producer.shutdown_within(Duration::from_secs(5)).expect("shut down");
    assert_eq!((report.delivered, report.undelivered.len()), (3001, waiting));
    assert_eq!(kafka.counts("well-spelt"), [3001]);
}

#[test]
fn a_connection_that_the_broker_closed_for_idleness_is_opened_again_without_an_error() {
    let kafka = strict();
    kafka.create_topic("idle", 1, &[]);
    let producer = build(kafka, |builder| builder);
    for _ in 0..3 {
        produce(&producer, "idle").expect("delivered");
        assert!(connections(kafka).is_none_or(|open| open > 0), "there is a connection");
        let limit = Instant::now() + Duration::from_secs(30);
        thread::sleep(Duration::from_secs(4));
        while connections(kafka).is_some_and(|open| open > 0) {
            assert!(Instant::now() < limit, "the broker closes what is idle for two seconds");
            thread::sleep(Duration::from_millis(100));
        }
    }
    produce(&producer, "idle").expect("delivered");
    assert!(producer.last_error().is_none(), "{:?}", producer.last_error());
    assert_eq!(producer.shutdown().expect("shut down").delivered, 4);
    assert_eq!(kafka.counts("idle"), [4]);
}

#[test]
fn a_permission_that_is_taken_fails_the_topic_alone_until_it_is_given_back() {
    let kafka = strict();
    for topic in ["guarded", "guarded-from-the-start", "open"] {
        kafka.create_topic(topic, 1, &[]);
    }
    let producer = build(kafka, |builder| builder);
    produce(&producer, "guarded").expect("it is allowed yet");
    // The one is known to the producer, so the broker refuses its batches; the other does not get that far.
    let guarded = ["guarded", "guarded-from-the-start"];
    for topic in guarded {
        tools::deny_writing(&kafka.bootstrap(), topic);
    }
    for topic in guarded {
        let error = produce(&producer, topic).expect_err("it is forbidden");
        let DeliveryErrorKind::Broker(broker) = error.kind() else { panic!("{error}") };
        assert_eq!(
            (broker.code.name(), error.persistence()),
            ("TOPIC_AUTHORIZATION_FAILED", Persistence::No),
            "{error}"
        );
        assert!(error.to_string().contains(topic), "{error}");
        produce(&producer, "open").expect("the other topic goes on");
    }
    for topic in guarded {
        tools::allow_writing(&kafka.bootstrap(), topic);
        produce(&producer, topic).expect("it is allowed again");
    }
    let report = producer.shutdown().expect("shut down");
    assert_eq!((report.delivered, report.failed), (5, 2));
    assert_eq!((kafka.counts("guarded"), kafka.counts("guarded-from-the-start")), (vec![2], vec![1]));
}

#[test]
fn a_right_to_write_that_comes_late_ends_the_messages_before_it_and_no_producer() {
    let kafka = RealKafka::start_with(1, &WITH_RULES);
    kafka.create_topic("guarded", 1, &[]);
    tools::deny_identity(&kafka.bootstrap());
    let producer = build(&kafka, |builder| builder);
    for _ in 0..2 {
        let error = produce(&producer, "guarded").expect_err("it is forbidden");
        let DeliveryErrorKind::Broker(broker) = error.kind() else { panic!("{error}") };
        assert_eq!((broker.code.name(), broker.api), ("CLUSTER_AUTHORIZATION_FAILED", "InitProducerId"), "{error}");
        assert_eq!(error.persistence(), Persistence::No);
    }
    // Write is enough: IdempotentWrite stays forbidden.
    tools::allow_writing(&kafka.bootstrap(), "*");
    produce(&producer, "guarded").expect("it is allowed now");
    let report = producer.shutdown().expect("shut down");
    assert_eq!((report.delivered, report.failed, kafka.counts("guarded")), (1, 2, vec![1]));
}

/// Everybody may do everything that no rule is about.
const WITH_RULES: [&str; 2] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found=true",
];

/// A node that makes no topics by itself, has rules about who may what, and hangs up after two idle seconds.
fn strict() -> &'static RealKafka {
    static STRICT: OnceLock<RealKafka> = OnceLock::new();
    STRICT.get_or_init(|| {
        let own = ["auto.create.topics.enable=false", "connections.max.idle.ms=2000"];
        RealKafka::start_with(1, &[own, WITH_RULES].concat())
    })
}

fn build(kafka: &RealKafka, options: impl FnOnce(AsyncProducerBuilder) -> AsyncProducerBuilder) -> AsyncProducer {
    let client = Client::builder([kafka.bootstrap()]).build().expect("an address");
    options(client.async_producer().streaming()).build().expect("options that fit together")
}

fn produce(producer: &AsyncProducer, topic: &str) -> Fate {
    producer.produce_with_handle(Message::new(topic, "v")).expect("accepted").wait()
}

/// Connections of this process to the broker, where the system says it (Linux).
fn connections(kafka: &RealKafka) -> Option<usize> {
    const ESTABLISHED: &str = "01";
    let port: u16 = kafka.address(1).rsplit(':').next()?.parse().ok()?;
    let remote = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let open = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.len() > 3 && fields[2].ends_with(&remote) && fields[3] == ESTABLISHED
    });
    Some(open.count())
}

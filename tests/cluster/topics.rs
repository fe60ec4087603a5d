//! Topics and partitions that are not there, come, and go.

use std::sync::mpsc;
use std::time::Instant;

use ottla::testing::{Api, Cluster, Fault};
use ottla::{DeliveryErrorKind, DeliveryHandle, ErrorCode, Message, MetadataError, Partitioner, Persistence};

use crate::common::*;

#[test]
fn a_partition_that_does_not_exist_costs_its_messages_alone() {
    let cluster = cluster(2);
    let producer = async_producer(&cluster).build().unwrap();
    let handles: Vec<_> = (0..40)
        .map(|n| producer.produce_with_handle(Message::new("orders", "v").with_partition(n % 4)).unwrap())
        .collect();
    for (n, fate) in DeliveryHandle::wait_all(handles).into_iter().enumerate() {
        match fate {
            Ok(delivered) => assert_eq!(delivered.partition as usize, n % 4),
            Err(error) => {
                let DeliveryErrorKind::UnknownPartition { topic, partition, count: 2, .. } = error.kind() else {
                    panic!("{error}")
                };
                assert_eq!((topic.name(), *partition as usize), ("orders", n % 4));
                assert_eq!(error.persistence(), Persistence::No);
                assert!(n % 4 >= 2 && error.to_string().contains("only 0 to 1"), "{error}");
            }
        }
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (20, 20));
}

#[test]
fn an_unknown_topic_fails_after_its_grace_and_holds_up_no_other() {
    let cluster = Cluster::builder().topic("orders", 3).auto_create(false).start().unwrap();
    let producer = async_producer(&cluster).unknown_topic_grace(ms(400)).build().unwrap();
    let began = Instant::now();
    let missing: Vec<_> = (0..5)
        .map(|n| producer.produce_with_handle(Message::new("ordres", format!("{n}")).with_tag(n)).unwrap())
        .collect();
    let mut others = 0;
    while began.elapsed() < ms(150) {
        let fate = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
        assert_eq!(fate.topic.name(), "orders");
        others += 1;
    }
    for (tag, fate) in DeliveryHandle::wait_all(missing).into_iter().enumerate() {
        let error = fate.unwrap_err();
        assert!(matches!(error.kind(), DeliveryErrorKind::UnknownTopic { .. }), "{error}");
        assert_eq!((error.persistence(), error.message().tag()), (Persistence::No, tag as u64));
        for part in ["ordres", "does not exist", "auto.create.topics.enable"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert!(began.elapsed() >= ms(400), "{:?}", began.elapsed());
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (others, 5));
}

#[test]
fn a_misspelt_topic_leaves_half_of_the_queue_to_others_and_says_why_it_is_refused() {
    let cluster = Cluster::builder().topic("orders", 3).auto_create(false).start().unwrap();
    let producer = async_producer(&cluster).streaming().max_queue_size(100).unknown_topic_grace(2 * LONG);
    let producer = producer.build().unwrap();
    let (mut waiting, mut refused) = (0, Vec::new());
    for n in 0..3000 {
        match producer.produce(Message::new("ordres", "v")) {
            Ok(()) => waiting += 1,
            Err(error) => refused.push(error),
        }
        producer.produce_timeout(Message::new("orders", n.to_string()).with_key("k"), LONG).unwrap();
    }
    assert_in_order(&cluster.wait_for("orders", 3000, LONG).unwrap(), 3000);
    assert!((1..=100).contains(&waiting), "{waiting} accepted");
    let error = refused.last().expect("the queue does not take 3,000").to_string();
    for part in ["half of max_queue_size is 50", "ordres does not exist", "auto.create.topics.enable"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    for error in [producer.last_error().unwrap().to_string(), producer.flush(ms(10)).unwrap_err().to_string()] {
        assert!(error.contains("ordres does not exist"), "{error}");
    }
    let report = producer.shutdown_within(ms(10)).unwrap();
    assert_eq!((report.delivered, report.undelivered.len()), (3000, waiting), "what was accepted comes back");
    for error in report.undelivered {
        assert!(error.to_string().contains("ordres does not exist"), "{error}");
    }
}

#[test]
fn a_topic_that_appears_within_the_grace_gets_its_messages_in_order() {
    let cluster = Cluster::builder().auto_create(false).start().unwrap();
    let asked = cluster.inject(Fault::on(Api::Metadata).topic("late").delay(ms(0)));
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..100 {
        producer.produce(Message::new("late", n.to_string()).with_key("k")).unwrap();
    }
    producer.deliver_messages();
    asked.wait_for_hits(2, LONG).unwrap();
    cluster.create_topic("late", 5);
    assert_eq!(producer.shutdown().unwrap().delivered, 100);
    assert_in_order(&cluster.messages("late"), 100);
}

#[test]
fn a_topic_is_created_by_its_first_message_unless_that_is_forbidden() {
    let cluster = Cluster::builder().default_partitions(4).start().unwrap();
    let producer = async_producer(&cluster).build().unwrap();
    producer.produce(Message::new("fresh", "v")).unwrap();
    assert_eq!(producer.flush(LONG).unwrap().delivered, 1);
    assert_eq!(producer.partitions_for("fresh", LONG).unwrap(), 4);
    assert_eq!(producer.shutdown().unwrap().delivered, 1);

    let producer =
        async_producer(&cluster).allow_auto_topic_creation(false).unknown_topic_grace(ms(50)).build().unwrap();
    let error = producer.produce_with_handle(Message::new("typo", "v")).unwrap().wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::UnknownTopic { .. }), "{error}");
    let error = producer.partitions_for("typo", ms(500)).unwrap_err();
    assert!(matches!(error, MetadataError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("topic typo does not exist"), "{error}");
    assert!(matches!(producer.partitions_for("not a name", LONG), Err(MetadataError::InvalidTopic(_))));
    assert!(cluster.messages("typo").is_empty());
}

#[test]
fn a_topic_made_anew_under_its_name_gets_what_follows() {
    let cluster = cluster(2);
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", n.to_string()).with_key("k")).unwrap();
    }
    assert_eq!(producer.flush(LONG).unwrap().delivered, 10);
    assert!(cluster.delete_topic("orders"));
    cluster.create_topic("orders", 2);
    for n in 0..10 {
        producer.produce(Message::new("orders", n.to_string()).with_key("k")).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 20);
    assert_in_order(&cluster.messages("orders"), 10);
}

#[test]
fn a_topic_made_anew_loses_no_message_of_either_producer() {
    // By id and by name, with as many partitions and with more.
    for (produce, partitions) in [(13, 8), (13, 12), (12, 8), (12, 12)] {
        let cluster = Cluster::builder().topic("orders", 8).auto_create(false).api_version(Api::Produce, 0, produce);
        let cluster = cluster.start().unwrap();
        let anew = || {
            assert!(cluster.delete_topic("orders"));
            cluster.create_topic("orders", partitions);
        };
        let message = |n: usize| Message::new("orders", (n / 8).to_string()).with_key((n % 8).to_string());
        let (send, told) = mpsc::channel();
        let producer = async_producer(&cluster)
            .streaming()
            .partitioner(Partitioner::custom(|input| (input.key.unwrap()[0] - b'0').into()))
            .on_delivery(move |fate| send.send(fate.map(|_| ())).unwrap())
            .build()
            .unwrap();
        (0..800).for_each(|n| producer.produce(message(n)).unwrap());
        assert_eq!(producer.flush(LONG).unwrap().delivered, 800);
        anew();
        (0..4000).for_each(|n| producer.produce(message(n)).unwrap());
        assert_eq!(producer.shutdown().unwrap().failed, 0, "Produce {produce}");
        let failed: Vec<_> = told.iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "Produce {produce}: {failed:?}");
        assert_in_order(&cluster.messages("orders"), 4000);

        let mut producer = sync_producer(&cluster).build().unwrap();
        for n in 4000..4100 {
            producer.produce(message(n)).unwrap();
        }
        producer.deliver_messages().unwrap();
        anew();
        for n in 0..400 {
            producer.produce(message(n)).unwrap();
        }
        producer.deliver_messages().unwrap();
        assert_in_order(&cluster.messages("orders"), 400);
    }
}

#[test]
fn a_topic_that_may_not_be_read_fails_and_recovers() {
    let cluster = Cluster::builder().topic("orders", 1).topic("secret", 1).start().unwrap();
    let denied = cluster.inject(Fault::on(Api::Metadata).topic("secret").error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let producer = async_producer(&cluster).delivery_timeout(ms(400)).build().unwrap();
    let error = producer.produce_with_handle(Message::new("secret", "v")).unwrap().wait().unwrap_err();
    assert_eq!((code(error.kind()), error.persistence()), (29, Persistence::No));
    assert!(error.to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
    assert!(producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().is_ok());
    drop(denied);
    assert!(producer.produce_with_handle(error.into_message()).unwrap().wait().is_ok());
    assert_eq!(producer.shutdown().unwrap().delivered, 2);
}

#[test]
fn a_partition_without_a_leader_waits_and_keeps_its_order() {
    let cluster = cluster(1);
    let hidden = cluster.inject(Fault::on(Api::Metadata).topic("orders").error(ErrorCode::LEADER_NOT_AVAILABLE));
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..50 {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
    }
    producer.deliver_messages();
    hidden.wait_for_hits(3, LONG).unwrap();
    assert_eq!(producer.queue_size(), 50, "nothing was written");
    drop(hidden);
    assert_eq!(producer.shutdown().unwrap().delivered, 50);
    assert_in_order(&cluster.messages("orders"), 50);
}

#[test]
fn ten_thousand_topics_get_a_message_each_and_cost_little() {
    const TOPICS: usize = 10_000;
    alone("topics::ten_thousand_topics_get_a_message_each_and_cost_little", || {
        let cluster = Cluster::builder().default_partitions(1).start().unwrap();
        let producer = async_producer(&cluster).max_queue_size(TOPICS).build().unwrap();
        let before = resident_bytes();
        for n in 0..TOPICS {
            producer.produce(Message::new(format!("topic-{n}"), n.to_string())).unwrap();
        }
        assert_eq!(producer.flush(LONG).unwrap().failed, 0);
        let grown = resident_bytes().saturating_sub(before);
        // The cluster's own topics are in it, too.
        assert!(grown <= TOPICS * 8 * 1024, "{grown} bytes for {TOPICS} topics");
        assert_eq!(producer.shutdown().unwrap().delivered, TOPICS as u64);
        for n in 0..TOPICS {
            assert_eq!(values(&cluster.messages(&format!("topic-{n}"))), [n.to_string()]);
        }
        let asked = cluster.requests().iter().filter(|request| request.api == Api::Metadata).count();
        assert!(asked < 100, "{asked} requests for metadata");
    });
}

/// What of this process is in memory, where the system tells it.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kib| kib.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) * 1024
}

//! Metadata that is empty, late, large, or an invitation to begin anew.

use std::time::Duration;

use kafka_protocol::messages::MetadataResponse;
use ottla::ids::TopicIndex;
use ottla::testing::{Api, Fault};
use ottla::{DeliveryErrorKind, ErrorCode, Message};

use crate::bench::{Bench, Twist};

pub type Change = MetadataResponse;

/// Changes every answer to a Metadata request.
pub fn twist(change: impl FnMut(&mut Change) + 'static) -> Option<Twist> {
    Some(Twist::of(Api::Metadata, change))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn metadata_without_brokers_leaves_what_was_known_and_is_asked_for_again_with_pauses() {
    let mut bench = Bench::with(2, |cluster| cluster.topic("a", 1), |config| config.delivery_timeout = secs(20));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.twist = twist(|answer| {
        answer.brokers.clear();
        answer.topics.clear();
    });
    bench.engine.ask_for_metadata();
    let asked = bench.requests(Api::Metadata);
    let wakes = bench.pass(secs(10));
    assert!(wakes <= 30, "{wakes}");
    assert!((5..=25).contains(&(bench.requests(Api::Metadata) - asked)));
    bench.append(&Message::new("a", "goes where it went before"));
    bench.pass(secs(1));
    assert_eq!(bench.delivered.len(), 2, "{:?}", bench.failed);
    bench.append(&Message::new("b", "a topic that nobody can tell of"));
    bench.pass(secs(21));
    assert!(bench.failed[0].to_string().contains("no brokers"), "{}", bench.failed[0]);
    bench.twist = None;
    bench.append(&Message::new("b", "and now they can"));
    bench.pass(secs(2));
    assert_eq!(bench.delivered.len(), 3);
}

#[test]
fn metadata_with_more_brokers_than_any_cluster_has_loses_nothing_and_is_asked_for_again() {
    let mut bench = Bench::with(2, |cluster| cluster.topic("a", 1), |config| config.delivery_timeout = secs(20));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.twist = twist(|answer| {
        let first = answer.brokers[0].clone();
        answer.brokers.extend((0..20_000).map(|node| first.clone().with_node_id(node.into())));
    });
    bench.engine.ask_for_metadata();
    bench.append(&Message::new("a", "goes where it went before"));
    bench.append(&Message::new("b", "a topic that nobody can tell of"));
    bench.pass(secs(10));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (2, 0));
    let why = bench.engine.last_error().expect("nobody tells of a topic").to_string();
    assert!(why.contains("it names 20002 brokers"), "{why}");
    bench.twist = None;
    bench.pass(secs(3));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (3, 0));
}

#[test]
fn a_client_that_is_told_to_begin_anew_asks_the_addresses_that_it_was_given() {
    const REBOOTSTRAP_REQUIRED: i16 = 129;
    // Broker 1 was once of this cluster and is of another one now; the address of broker 2 is given, too.
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 2));
    for partition in [0, 1] {
        bench.append(&Message::new("a", "0").with_partition(partition));
    }
    bench.pass(secs(1));
    assert_eq!(bench.delivered.len(), 2);
    let connects = bench.connects;
    bench.twist = {
        let mut told = false;
        twist(move |answer| {
            if !std::mem::replace(&mut told, true) {
                answer.error_code = REBOOTSTRAP_REQUIRED;
                answer.brokers.clear();
                answer.topics.clear();
            }
        })
    };
    bench.engine.ask_for_metadata();
    bench.pass(secs(2));
    assert!(bench.connects > connects, "what was open is left");
    for partition in [0, 1] {
        bench.append(&Message::new("a", "1").with_partition(partition));
    }
    bench.pass(secs(2));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (4, 0));
}

#[test]
fn brokers_that_tell_nothing_for_five_minutes_are_left_for_the_addresses_that_were_given() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    // It answers, and knows nothing any more: so no connection ends.
    bench.twist = twist(|answer| answer.brokers.clear());
    let connects = bench.connects;
    for _ in 0..280 {
        bench.append(&Message::new("a", "1"));
        bench.engine.ask_for_metadata();
        bench.pass(secs(1));
    }
    assert_eq!(bench.connects, connects);
    for _ in 0..30 {
        bench.append(&Message::new("a", "2"));
        bench.engine.ask_for_metadata();
        bench.pass(secs(1));
    }
    assert!(bench.connects > connects, "nobody else was asked");
    bench.twist = None;
    bench.pass(secs(5));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (311, 0));
}

#[test]
fn partitions_that_are_added_are_used_soon_after_the_age_of_metadata() {
    let mut bench = Bench::tuned(
        1,
        |cluster| cluster.topic("a", 2).topic("b", 1),
        |client, _| {
            client.metadata_max_age = secs(60);
        },
    );
    // The topic has four; for the first minutes two are told.
    let grown = std::rc::Rc::new(std::cell::Cell::new(false));
    bench.twist = {
        let grown = grown.clone();
        twist(move |answer| {
            for topic in &mut answer.topics {
                let keep = if grown.get() { 4 } else { 2 };
                let a = topic.name.as_ref().is_some_and(|name| name.as_str() == "a");
                while a && topic.partitions.len() < keep {
                    let mut more = topic.partitions[0].clone();
                    more.partition_index = topic.partitions.len() as i32;
                    topic.partitions.push(more);
                }
            }
        })
    };
    // A message now and then, never one in the buffer when the age is judged; another topic is always busy.
    let produce = |bench: &mut Bench, seconds: u64| {
        for tenth in 0..10 * seconds {
            bench.append(&Message::new("b", "v"));
            bench.pass(Duration::from_millis(50));
            if tenth % 70 == 35 {
                bench.append(&Message::new("a", "v"));
            }
            bench.pass(Duration::from_millis(50));
        }
    };
    produce(&mut bench, 30);
    assert_eq!(bench.engine.partition_count(TopicIndex(0), bench.now()), Some(2));
    grown.set(true);
    produce(&mut bench, 130);
    assert_eq!(bench.engine.partition_count(TopicIndex(0), bench.now()), Some(4), "it grew two minutes ago");
}

#[test]
fn the_age_of_metadata_does_not_make_a_deleted_topic_again() {
    let mut bench = Bench::tuned(1, |cluster| cluster, |client, _| client.metadata_max_age = secs(60));
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    assert!(bench.cluster.delete_topic("a"));
    for _ in 0..150 {
        bench.append(&Message::new("b", "v"));
        bench.pass(secs(1));
    }
    assert!(!bench.cluster.delete_topic("a"), "it was asked for, and so made again");
}

#[test]
fn ten_thousand_topics_are_asked_for_in_bounded_pieces_and_soon() {
    const TOPICS: usize = 10_000;
    let mut bench = Bench::new(1, |cluster| cluster.default_partitions(1));
    bench.pass(secs(1));
    let largest = std::rc::Rc::new(std::cell::Cell::new(0));
    bench.twist = {
        let largest = largest.clone();
        twist(move |answer| largest.set(largest.get().max(answer.topics.len())))
    };
    for n in 0..TOPICS {
        let topic = bench.know(&format!("topic-{n}"));
        bench.append_to(topic, &Message::new("topic", "v"));
    }
    let wakes = bench.pass(secs(2));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (TOPICS, 0));
    assert!(largest.get() <= 1000, "{} topics in one answer", largest.get());
    // 25 pieces, and the same again: the first answer is that a topic is not there yet.
    assert!(bench.requests(Api::Metadata) <= 50, "{} requests", bench.requests(Api::Metadata));
    assert!(wakes < 100, "{wakes}");
}

#[test]
fn a_piece_of_many_topics_that_is_refused_comes_again_and_the_others_go_on() {
    const TOPICS: usize = 3000;
    let mut bench = Bench::new(1, |cluster| cluster.default_partitions(1));
    for n in 0..TOPICS {
        let topic = bench.know(&format!("topic-{n}"));
        bench.append_to(topic, &Message::new("topic", "v"));
    }
    bench.cluster.inject(Fault::on(Api::Metadata).skip(1).times(1).cut_before());
    bench.cluster.inject(Fault::on(Api::Metadata).topic("topic-7").times(3).error(ErrorCode::LEADER_NOT_AVAILABLE));
    bench.pass(secs(5));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (TOPICS, 0));
}

#[test]
fn a_topic_that_is_missing_holds_up_no_question_about_others() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("b", 1).auto_create(false));
    let index = bench.know("c");
    bench.cluster.make_topic("c", 1);
    bench.append(&Message::new("a", "v"));
    bench.pass(Duration::from_millis(9_777));
    for (delivered, topic) in [(1, TopicIndex(1)), (2, index)] {
        bench.append_to(topic, &Message::new("new", "v"));
        bench.pass(Duration::from_millis(250));
        assert_eq!(bench.delivered.len(), delivered, "the pause is that of another topic");
    }
    let asked = bench.requests(Api::Metadata);
    bench.pass(secs(10));
    assert!(bench.requests(Api::Metadata) - asked <= 15, "{} more", bench.requests(Api::Metadata) - asked);
}

#[test]
fn a_topic_that_cannot_be_made_says_why_although_others_go_on() {
    let configure = |config: &mut ottla::config::ProducerConfig| config.delivery_timeout = secs(5);
    let mut bench = Bench::with(1, |cluster| cluster.topic("b", 1), configure);
    // INVALID_REPLICATION_FACTOR: fewer brokers than its topics shall have replicas.
    bench.cluster.inject(Fault::on(Api::Metadata).topic("a").error(ErrorCode::INVALID_REPLICATION_FACTOR));
    bench.append(&Message::new("a", "v"));
    for _ in 0..10 {
        bench.append(&Message::new("b", "v"));
        bench.pass(secs(1));
    }
    assert!(matches!(bench.failed[0].kind(), DeliveryErrorKind::Timeout { .. }));
    assert!(bench.failed[0].to_string().contains("INVALID_REPLICATION_FACTOR"), "{}", bench.failed[0]);
}

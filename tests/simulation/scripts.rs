//! What went wrong once, or must not, each as a short story.

use std::time::Duration;

use ottla::config::RequiredAcks;
use ottla::ids::TopicIndex;
use ottla::testing::{Api, Fault};
use ottla::{DeliveryErrorKind, ErrorCode, Message, Persistence};

use crate::bench::Bench;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_partition_whose_leader_died_goes_on_with_the_next() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    assert_eq!(bench.delivered.len(), 1);
    // Broker 1 leads partition 0. What waits for it must not wait for ever.
    bench.stop(1);
    bench.append(&Message::new("a", "after"));
    bench.pass(secs(10));
    assert_eq!(bench.delivered.len(), 2, "{:?}", bench.failed);
}

#[test]
fn nobody_is_asked_about_a_dead_broker_that_nothing_waits_for() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    bench.stop(1);
    bench.append(&Message::new("a", "after"));
    bench.pass(secs(200));
    let (connects, requests) = (bench.connects, bench.cluster.requests().len());
    bench.pass(secs(300));
    assert_eq!((bench.connects, bench.cluster.requests().len()), (connects, requests));
}

#[test]
fn a_missing_topic_whose_messages_timed_out_wakes_nobody() {
    let mut bench = Bench::with(1, |cluster| cluster.auto_create(false), |config| config.delivery_timeout = secs(5));
    bench.append(&Message::new("a", "x"));
    bench.pass(secs(40));
    assert!(matches!(bench.failed[0].kind(), DeliveryErrorKind::Timeout { .. }), "{}", bench.failed[0]);
    assert!(bench.pass(secs(60)) < 10);
}

#[test]
fn a_missing_topic_that_was_only_asked_for_wakes_nobody() {
    let mut bench = Bench::new(1, |cluster| cluster.auto_create(false));
    assert_eq!(bench.engine.partition_count(TopicIndex(0), bench.now()), None);
    bench.pass(secs(40));
    assert!(bench.pass(secs(60)) < 10);
}

#[test]
fn each_message_to_a_missing_topic_gets_the_whole_grace() {
    let mut bench = Bench::with(1, |cluster| cluster.auto_create(false), |config| config.delivery_timeout = secs(20));
    bench.append(&Message::new("a", "first"));
    bench.pass(secs(60));
    bench.append(&Message::new("a", "second"));
    bench.pass(secs(10));
    assert_eq!(bench.failed.len(), 1, "{:?}", bench.failed);
}

#[test]
fn a_caller_who_asks_for_a_topic_again_later_is_answered() {
    let mut bench = Bench::new(1, |cluster| cluster.auto_create(false).topic("b", 3));
    bench.cluster.inject(Fault::on(Api::Metadata).topic("b").error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).times(40));
    assert_eq!(bench.engine.partition_count(TopicIndex(1), bench.now()), None);
    bench.pass(secs(60));
    for _ in 0..30 {
        if bench.engine.partition_count(TopicIndex(1), bench.now()).is_some() {
            return;
        }
        bench.pass(secs(2));
    }
    panic!("it was never told");
}

#[test]
fn a_message_that_fails_without_a_partition_comes_back_without_one() {
    let mut bench = Bench::new(1, |cluster| cluster.auto_create(false));
    bench.append(&Message::new("a", "x"));
    bench.pass(secs(60));
    assert_eq!(bench.failed[0].message().partition(), None);
}

#[test]
fn what_a_fatal_error_finds_on_its_way_is_possibly_written() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 2));
    for partition in [0, 1] {
        bench.append(&Message::new("a", "proves the order").with_partition(partition));
    }
    bench.pass(secs(1));
    bench.stuffed = true;
    bench.append(&Message::new("a", "lies in a socket's buffer").with_partition(1));
    bench.pass(secs(1));
    bench.stuffed = false;
    bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode::PRODUCER_FENCED));
    bench.append(&Message::new("a", "is fenced").with_partition(0));
    bench.pass(secs(1));
    let said: Vec<Persistence> = bench.failed.iter().map(|error| error.persistence()).collect();
    let expected = [Persistence::No, Persistence::Possibly];
    assert_eq!(said, expected, "what is fenced was not appended, and the frame leaves as soon as the socket takes it");
}

#[test]
fn what_no_socket_took_is_not_written_when_the_producer_is_abandoned() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    bench.stuffed = true;
    bench.append(&Message::new("a", "lies in a socket's buffer"));
    bench.pass(secs(1));
    bench.engine.abandon(bench.now());
    bench.pass(secs(1));
    assert_eq!(bench.failed[0].persistence(), Persistence::No);
}

#[test]
fn a_topic_that_was_thought_gone_gets_no_sequence_twice() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "one"));
    bench.pass(secs(1));
    // The brokers disagree for long whether it exists.
    bench.cluster.inject(Fault::on(Api::Metadata).topic("a").error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).times(45));
    bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode::NOT_LEADER_OR_FOLLOWER).times(100));
    bench.append(&Message::new("a", "two"));
    bench.pass(secs(50));
    assert!(matches!(bench.failed[0].kind(), DeliveryErrorKind::UnknownTopic { .. }), "{}", bench.failed[0]);
    bench.append(&Message::new("a", "three"));
    bench.pass(secs(110));
    assert_eq!(bench.delivered.len(), 2, "{:?}", bench.failed);
    let offset = bench.delivered[1].offset;
    assert!(offset > bench.delivered[0].offset, "taken for a repeat of the first: {offset:?}");
}

#[test]
fn a_link_that_is_cut_again_and_again_is_opened_again_at_once_and_once() {
    for brokers in [1, 3] {
        let mut bench = Bench::new(brokers, |cluster| cluster.topic("a", 1));
        bench.append(&Message::new("a", "before"));
        bench.pass(secs(1));
        bench.far.insert(1);
        bench.append(&Message::new("a", "cut nine times"));
        bench.connects = 0;
        // A broker that was cut off is asked for no metadata if another is known, which is asked at once, and stays.
        let beside = usize::from(brokers > 1);
        for cut in 1..=9 {
            bench.pass(Duration::from_millis(200));
            bench.cut(1);
            bench.pass(Duration::from_millis(1));
            assert_eq!(bench.connects, cut + beside, "for {cut} cuts, of {brokers} brokers");
        }
        bench.far.clear();
        bench.pass(Duration::from_millis(200));
        bench.cut(1);
        bench.pass(Duration::from_millis(200));
        assert_eq!(bench.connects, 10 + beside);
        assert_eq!(bench.delivered.len(), 2);
    }
}

#[test]
fn a_broker_that_keeps_no_connection_is_connected_to_five_times_a_second_at_most() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    bench.far.insert(1);
    bench.append(&Message::new("a", "after"));
    let mut begun = Vec::new();
    for millis in 0..3000 {
        let before = bench.connects;
        bench.cut(1);
        bench.pass(Duration::from_millis(1));
        begun.extend((before..bench.connects).map(|_| millis));
    }
    assert!(begun.windows(6).all(|six| six[5] - six[0] >= 999), "{begun:?}");
    assert!(begun.windows(2).all(|two| two[1] - two[0] >= 80), "none at once: {begun:?}");
    assert!(begun.len() >= 11, "{begun:?}");
}

#[test]
fn another_broker_is_asked_where_the_partition_is_when_its_leader_keeps_no_connection() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 1));
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    bench.rude.insert(1);
    bench.cut(1);
    bench.cluster.move_leader("a", 0, 2);
    bench.append(&Message::new("a", "after"));
    bench.pass(secs(2));
    assert_eq!(bench.delivered.len(), 2);
}

#[test]
fn a_broker_that_greets_and_hangs_up_is_not_tried_without_pause() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.rude.insert(1);
    bench.append(&Message::new("a", "x"));
    bench.pass(secs(10));
    assert!(bench.connects <= 51, "{} connects", bench.connects);
}

#[test]
fn a_broker_that_answers_all_but_produce_is_not_tried_without_pause() {
    for partitions in [1, 20] {
        let mut bench = Bench::new(1, |cluster| cluster.topic("a", partitions));
        bench.cluster.inject(Fault::on(Api::Produce).cut_before());
        for partition in 0..partitions {
            bench.append(&Message::new("a", "x").with_partition(partition));
        }
        let wakes = bench.pass(secs(10));
        assert!(bench.connects <= 51, "{} connects", bench.connects);
        assert!(wakes <= 200, "{wakes} wake-ups");
    }
}

#[test]
fn partitions_that_are_refused_together_try_again_together() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 100));
    bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode::NOT_ENOUGH_REPLICAS));
    for partition in 0..100 {
        bench.append(&Message::new("a", "x").with_partition(partition));
    }
    let wakes = bench.pass(secs(10));
    assert!((5..=50).contains(&wakes), "{wakes} wake-ups");
}

#[test]
fn a_dead_broker_with_many_topics_and_partitions_is_tried_fifteen_times_in_ten_seconds() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 20).topic("b", 20));
    for round in 0..2 {
        for partition in 0..20 {
            bench.append(&Message::new("a", "x").with_partition(partition));
            bench.append(&Message::new("b", "x").with_partition(partition));
        }
        if round == 0 {
            bench.pass(secs(1));
            bench.stop(1);
            bench.connects = 0;
        }
    }
    let wakes = bench.pass(secs(10));
    assert!((5..=15).contains(&bench.connects), "{} connects", bench.connects);
    assert!(wakes <= 200, "{wakes} wake-ups");
}

#[test]
fn a_producer_without_sequences_that_hears_of_them_tries_again() {
    let configure = |config: &mut ottla::config::ProducerConfig| {
        config.idempotent = false;
        config.required_acks = RequiredAcks::Leader;
    };
    for code in [45, 47, 59] {
        let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1), configure);
        bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode(code)).times(1));
        bench.append(&Message::new("a", "x"));
        bench.pass(secs(5));
        assert_eq!(bench.delivered.len(), 1, "code {code}");
    }
}

#[test]
fn max_retries_counts_what_the_next_epoch_sends_again() {
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1), |config| config.max_retries = Some(2));
    bench.cluster.inject(Fault::on(Api::Produce).error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER).times(100));
    bench.append(&Message::new("a", "x"));
    bench.pass(secs(10));
    assert!(matches!(bench.failed[0].kind(), DeliveryErrorKind::RetriesExhausted { attempts: 3, .. }));
    assert_eq!(bench.failed[0].persistence(), Persistence::No);
}

#[test]
fn a_partition_of_a_topic_that_was_gone_stands_in_no_list_twice() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.cluster.inject(Fault::on(Api::Produce).throttle(secs(50)).times(1));
    bench.append(&Message::new("a", "one"));
    bench.pass(secs(1));
    bench.cluster.inject(Fault::on(Api::Metadata).topic("a").error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).times(40));
    bench.append(&Message::new("a", "waits for the end of the silence"));
    bench.engine.ask_for_metadata();
    bench.pass(secs(45));
    assert_eq!(bench.failed.len(), 1, "the topic is gone");
    bench.append(&Message::new("a", "two"));
    bench.pass(secs(20));
    assert_eq!(bench.delivered.len(), 2, "{:?}", bench.failed);
    assert_eq!(bench.engine.held().messages, 0, "two places hold the buffer twice");
}

#[test]
fn the_grace_of_a_missing_topic_begins_with_the_first_answer() {
    let mut bench = Bench::new(1, |cluster| cluster);
    bench.cluster.broker_stops(1);
    bench.append(&Message::new("a", "x"));
    bench.pass(secs(45));
    bench.cluster.broker_starts(1);
    // A topic that is being created is not there at once.
    bench.cluster.inject(Fault::on(Api::Metadata).topic("a").error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).times(3));
    bench.pass(secs(30));
    assert_eq!(bench.delivered.len(), 1, "{:?}", bench.failed);
}

#[test]
fn a_deleted_topic_that_nothing_waits_for_is_not_made_again() {
    let mut bench = Bench::new(1, |cluster| cluster);
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    assert!(bench.cluster.delete_topic("a"));
    bench.engine.ask_for_metadata();
    bench.pass(secs(10));
    assert!(!bench.cluster.delete_topic("a"), "it was asked for, and so made again");
}

#[test]
fn an_idle_producer_leaves_dead_brokers_alone() {
    let mut bench = Bench::with(1, |cluster| cluster, |config| config.delivery_timeout = secs(5));
    bench.stop(1);
    bench.append(&Message::new("a", "x"));
    bench.pass(secs(60));
    assert_eq!(bench.failed.len(), 1);
    let connects = bench.connects;
    bench.pass(secs(300));
    assert_eq!(bench.connects, connects);
}

#[test]
fn a_duplicate_sequence_number_is_a_success() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.cluster.inject(Fault::on(Api::Produce).error_after(ErrorCode::DUPLICATE_SEQUENCE_NUMBER).times(1));
    bench.append(&Message::new("a", "v"));
    bench.pass(secs(1));
    assert_eq!((bench.delivered.len(), bench.failed.len(), bench.cluster.count("a")), (1, 0, 1));
}

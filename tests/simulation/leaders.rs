//! Leaders that move, are missing, or cannot be reached: no wait that is not needed, and no step back.

use std::time::{Duration, Instant};

use ottla::config::RequiredAcks;
use ottla::testing::{Api, ClusterBuilder};
use ottla::{DeliveryErrorKind, ErrorCode, Message, Persistence};

use crate::bench::Bench;
use crate::metadata::{self, Change};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Two brokers of which broker 1 leads the only partition, after a first message. Five more are on their way.
fn five_on_their_way(describe: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Bench {
    let mut bench = Bench::new(2, |cluster| describe(cluster.topic("a", 1)));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    // Nothing has to be connected first.
    bench.cluster.move_leader("a", 0, 2);
    bench.send(&Message::new("a", "1"));
    bench.pass(secs(5));
    bench.cluster.move_leader("a", 0, 1);
    bench.send(&Message::new("a", "2"));
    bench.pass(secs(5));
    assert_eq!(bench.delivered.len(), 3);
    bench.far.insert(1);
    for n in 3..8 {
        bench.send(&Message::new("a", n.to_string()));
    }
    assert_eq!(bench.on_the_way(), 5);
    bench
}

fn in_order(bench: &Bench, count: usize) {
    assert!(bench.failed.is_empty(), "{:?}", bench.failed);
    let stored = bench.cluster.messages("a");
    let values: Vec<_> = stored.iter().map(|message| message.value_str().expect("a text").to_owned()).collect();
    assert_eq!(values, (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_leader_named_in_the_refusal_gets_all_that_was_in_flight_without_a_pause() {
    let mut bench = five_on_their_way(|cluster| cluster);
    bench.cluster.move_leader("a", 0, 2);
    let (metadata, produce) = (bench.requests(Api::Metadata), bench.requests(Api::Produce));
    bench.arrive();
    in_order(&bench, 8);
    assert_eq!(bench.delivered.len(), 8, "no time has passed");
    assert_eq!(bench.requests(Api::Metadata), metadata, "the refusal said where the leader is");
    assert_eq!(bench.requests(Api::Produce), produce + 10, "one more round trip for each");
}

#[test]
fn a_leader_found_by_metadata_ends_the_pause_of_all_that_was_in_flight() {
    let mut bench = five_on_their_way(|cluster| cluster.api_version(Api::Produce, 3, 9));
    bench.cluster.move_leader("a", 0, 2);
    let metadata = bench.requests(Api::Metadata);
    bench.arrive();
    bench.pass(ms(300));
    in_order(&bench, 8);
    assert_eq!(bench.delivered.len(), 8);
    assert!(bench.requests(Api::Metadata) <= metadata + 2);
}

#[test]
fn a_burst_of_refusals_is_one_failure_with_the_first_pause() {
    let mut bench = five_on_their_way(|cluster| cluster);
    // NOT_ENOUGH_REPLICAS for all five; then it is over.
    bench.cluster.inject(ottla::testing::Fault::on(Api::Produce).error(ErrorCode::NOT_ENOUGH_REPLICAS).times(5));
    bench.arrive();
    assert_eq!(bench.delivered.len(), 3);
    bench.far.clear();
    bench.pass(ms(130));
    in_order(&bench, 8);
    assert_eq!(bench.delivered.len(), 8, "the pause is the first one, 100 ms, not the fifth");
}

/// Moves the leader every 200 ms under load; returns how old a message was at most when it was delivered.
fn oldest_under_moves(describe: impl FnOnce(ClusterBuilder) -> ClusterBuilder) -> Duration {
    let mut bench = Bench::new(3, |cluster| describe(cluster.topic("a", 1)));
    let mut appended: Vec<Instant> = Vec::new();
    let mut oldest = Duration::ZERO;
    for step in 0..1000_u64 {
        if step % 20 == 19 {
            bench.cluster.move_leader("a", 0, (step / 20 % 3) as i32 + 1);
        }
        bench.append(&Message::new("a", step.to_string()));
        appended.push(bench.now());
        bench.pass(ms(10));
        if let Some(ticket) = bench.engine.oldest_unfinished() {
            oldest = oldest.max(bench.now() - appended[ticket as usize]);
        }
    }
    bench.pass(secs(5));
    in_order(&bench, 1000);
    assert_eq!(bench.delivered.len(), 1000);
    oldest
}

#[test]
fn leaders_that_move_every_200_ms_hold_up_no_message() {
    let oldest = oldest_under_moves(|cluster| cluster);
    assert!(oldest <= ms(20), "{oldest:?}");
    // Without leaders in refusals, metadata is asked for every 250 ms at most.
    let oldest = oldest_under_moves(|cluster| cluster.api_version(Api::Produce, 3, 9));
    assert!(oldest <= ms(1000), "{oldest:?}");
}

#[test]
fn an_older_epoch_does_not_move_a_partition_back() {
    let mut bench = Bench::tuned(2, |cluster| cluster.topic("a", 1), |client, _| client.metadata_max_age = secs(5));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.cluster.move_leader("a", 0, 2);
    bench.append(&Message::new("a", "1"));
    bench.pass(secs(1));
    // A broker that lags behind says what was true before.
    bench.twist = metadata::twist(|answer: &mut Change| {
        for topic in &mut answer.topics {
            for partition in &mut topic.partitions {
                (partition.leader_id, partition.leader_epoch) = (1.into(), 0);
            }
        }
    });
    for n in 2..20 {
        bench.append(&Message::new("a", n.to_string()));
        if n % 3 == 0 {
            bench.engine.ask_for_metadata();
        }
        bench.pass(secs(1));
    }
    in_order(&bench, 20);
    let to_the_old = bench.cluster.requests().iter().filter(|it| it.api == Api::Produce && it.node == 1).count();
    assert_eq!(to_the_old, 2, "before the move and right after it");
}

#[test]
fn a_partition_without_a_leader_waits_in_order_and_wakes_nobody_often() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 1).topic("b", 1));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.cluster.depose_leader("a", 0);
    let mut wakes = 0;
    for n in 1..=10 {
        bench.append(&Message::new("a", n.to_string()));
        bench.append(&Message::new("b", "another partition goes on"));
        wakes += bench.pass(secs(1));
        assert_eq!(bench.delivered.len(), 1 + n, "{:?}", bench.failed);
    }
    assert!(wakes <= 10 * 10, "{wakes} wake-ups in 10 s");
    bench.cluster.move_leader("a", 0, 2);
    bench.pass(secs(2));
    in_order(&bench, 11);
}

#[test]
fn a_message_without_a_leader_fails_in_time_and_says_why() {
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1).topic("b", 1), |it| it.delivery_timeout = secs(8));
    bench.append(&Message::new("a", "0"));
    bench.append(&Message::new("b", "0"));
    bench.pass(secs(1));
    bench.cluster.depose_leader("a", 0);
    bench.append(&Message::new("a", "1"));
    bench.append(&Message::new("a", "2"));
    for _ in 0..10 {
        bench.append(&Message::new("b", "delivered all the time"));
        bench.pass(secs(1));
    }
    assert_eq!(bench.failed.len(), 2);
    for error in &bench.failed {
        assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
        assert!(!error.to_string().contains("no error was seen"), "{error}");
    }
    // The refusal of a former leader does not prove that nothing was appended.
    let said: Vec<_> = bench.failed.iter().map(|error| error.persistence()).collect();
    assert_eq!(said, [Persistence::Possibly; 2]);
}

#[test]
fn a_partition_that_never_had_a_leader_says_so() {
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1).topic("b", 1), |it| it.delivery_timeout = secs(8));
    bench.cluster.depose_leader("a", 0);
    bench.append(&Message::new("a", "0"));
    for _ in 0..10 {
        bench.append(&Message::new("b", "delivered all the time"));
        bench.pass(secs(1));
    }
    let error = &bench.failed[0];
    assert_eq!(error.persistence(), Persistence::No);
    for part in ["a-0", "LEADER_NOT_AVAILABLE"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn an_advertised_host_that_cannot_be_reached_is_named_and_holds_up_no_other() {
    let mut bench = Bench::with(2, |cluster| cluster.topic("a", 2), |config| config.delivery_timeout = secs(5));
    bench.twist = metadata::twist(|answer: &mut Change| {
        for broker in &mut answer.brokers {
            if broker.node_id == 2 {
                (broker.host, broker.port) = ("kafka-2.internal".to_owned().into(), 7777);
            }
        }
    });
    bench.append(&Message::new("a", "lost").with_partition(1));
    for n in 0..10 {
        bench.append(&Message::new("a", n.to_string()).with_partition(0));
        bench.pass(secs(1));
        assert_eq!(bench.delivered.len(), n + 1, "{:?}", bench.failed);
    }
    let error = &bench.failed[0];
    assert_eq!(error.persistence(), Persistence::No);
    for part in ["broker 2 at kafka-2.internal:7777", "broker 127.0.0.1:900", "check its advertised.listeners"] {
        assert!(error.to_string().contains(part), "{part} is not in {error}");
    }
}

#[test]
fn without_acks_a_connection_that_the_broker_ended_means_that_the_leader_may_have_moved() {
    let configure = |config: &mut ottla::config::ProducerConfig| {
        (config.idempotent, config.required_acks) = (false, RequiredAcks::None);
    };
    let mut bench = Bench::with(2, |cluster| cluster.topic("a", 1), configure);
    bench.append(&Message::new("a", "before"));
    bench.pass(secs(1));
    bench.cluster.move_leader("a", 0, 2);
    for n in 0..5 {
        bench.append(&Message::new("a", n.to_string()));
        bench.pass(secs(1));
    }
    // The first after the move is lost, as acks 0 allows: only its end tells that the broker refused it.
    let stored = bench.cluster.messages("a").len();
    assert_eq!((stored, bench.delivered.len()), (5, 6));
}

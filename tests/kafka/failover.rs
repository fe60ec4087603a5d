//! Three nodes that die, stop, freeze and return under load, and what their refusals cost: nothing.
//!
//! The long run kills leaders without end; here is what it does not show.

use std::thread;
use std::time::{Duration, Instant};

use ottla::{Client, DeliveryHandle, Message, Persistence};

use crate::fixture::RealKafka;
use crate::load::{Load, Size};
use crate::tools;

#[test]
fn all_nodes_die_for_fifteen_seconds_and_nothing_fails() {
    let mut kafka = RealKafka::three();
    kafka.create_topic("all-die", 3, &[]);
    kafka.wait_until_whole("all-die", 3);
    let load = start(&kafka, "all-die");
    for node in 1..=3 {
        kafka.kill(node);
    }
    thread::sleep(Duration::from_secs(15));
    kafka.restart_all(&[1, 2, 3]);
    kafka.wait_until_whole("all-die", 3);
    let account = load.finish(&kafka);
    account.assert_whole();
    assert!(account.longest_silence >= Duration::from_secs(15), "they were away: {account}");
}

#[test]
fn nodes_that_are_restarted_one_after_the_other_hold_up_nothing_for_long() {
    let mut kafka = RealKafka::three();
    kafka.create_placed_topic("rolling", "1:2:3,2:3:1,3:1:2", &[]);
    kafka.wait_until_whole("rolling", 3);
    let load = start(&kafka, "rolling");
    for node in 1..=3 {
        let led: Vec<usize> =
            (0..3).filter(|partition| kafka.partitions("rolling")[*partition].leader == Some(node)).collect();
        assert!(!led.is_empty(), "node {node} leads nothing, this shows nothing");
        load.listen_for_silence();
        // In order: it gives its partitions away before it ends.
        kafka.stop(node);
        for partition in led {
            kafka.wait_until_another_leads("rolling", partition, node);
        }
        kafka.restart(node);
        kafka.wait_until_whole("rolling", 3);
        let silence = load.silences().into_iter().max().expect("three partitions");
        println!("node {node} was restarted, the longest silence was {silence:?}");
        // Under two seconds also where the processors have ten times too much to do.
        assert!(silence < Duration::from_secs(5), "node {node} was restarted, and a partition stood for {silence:?}");
    }
    load.finish(&kafka).assert_whole();
}

#[test]
fn a_frozen_leader_is_given_up_and_holds_up_no_other_node() {
    let kafka = RealKafka::three();
    // Partition 1 has no replica on node 1.
    kafka.create_placed_topic("frozen-leader", "1:2,2:3,3:1", &["min.insync.replicas=1"]);
    kafka.wait_until_whole("frozen-leader", 2);
    let client = Client::builder([kafka.bootstrap()]).socket_timeout(Duration::from_secs(6)).build().unwrap();
    // On a busy machine an election takes its time.
    let load =
        Load::start(&client, "frozen-leader", SIZE, |builder| builder.delivery_timeout(Duration::from_secs(240)));
    kafka.pause(1);
    load.listen_for_silence();
    load.wait_for_silence_and_its_end(0, Duration::from_secs(4));
    let silences = load.silences();
    // Only now, so it was not the end of the frost that helped.
    kafka.resume(1);
    println!("silences with a frozen node: {silences:?}");
    assert!(silences[1] < Duration::from_secs(4), "the other nodes went on: {silences:?}");
    kafka.wait_until_whole("frozen-leader", 2);
    // What the frozen node had not read yet comes as a repeat: it must not be there twice.
    load.finish(&kafka).assert_whole();
}

#[test]
fn nodes_that_are_all_frozen_take_nothing_twice_afterwards() {
    let kafka = RealKafka::three();
    kafka.create_topic("all-frozen", 3, &[]);
    kafka.wait_until_whole("all-frozen", 3);
    let client = Client::builder([kafka.bootstrap()]).socket_timeout(Duration::from_secs(6)).build().unwrap();
    let load = Load::start(&client, "all-frozen", SIZE, |builder| builder);
    for node in 1..=3 {
        kafka.pause(node);
    }
    // The requests under way are given up and sent again, and the nodes find both.
    load.wait_for_error("no answer to Produce within socket_timeout");
    thread::sleep(Duration::from_secs(2));
    for node in 1..=3 {
        kafka.resume(node);
    }
    kafka.wait_until_whole("all-frozen", 3);
    load.finish(&kafka).assert_whole();
}

#[test]
fn replicas_that_are_missing_are_waited_for() {
    let mut kafka = RealKafka::three();
    kafka.create_topic("needs-all", 3, &["min.insync.replicas=3"]);
    kafka.create_topic("needs-two", 3, &["min.insync.replicas=2"]);
    for topic in ["needs-all", "needs-two"] {
        kafka.wait_until_whole(topic, 3);
    }
    let (needs_all, needs_two) = (start(&kafka, "needs-all"), start(&kafka, "needs-two"));
    kafka.kill(1);
    needs_all.wait_for_error("NOT_ENOUGH_REPLICAS");
    kafka.wait_until_whole("needs-two", 2);
    needs_two.listen_for_silence();
    thread::sleep(Duration::from_secs(2));
    let silence = needs_two.silences().into_iter().max().expect("three partitions");
    assert!(silence < Duration::from_secs(2), "two of three are enough, not {silence:?} without a delivery");
    // Two of three are down now: neither topic takes anything.
    kafka.kill(2);
    thread::sleep(Duration::from_secs(8));
    assert!(needs_two.silences().into_iter().all(|silence| silence > Duration::from_secs(5)));
    kafka.restart_all(&[1, 2]);
    for (topic, load) in [("needs-all", needs_all), ("needs-two", needs_two)] {
        kafka.wait_until_whole(topic, 3);
        load.finish(&kafka).assert_whole();
    }
}

#[test]
fn a_broker_that_asks_for_silence_gets_it_and_no_other() {
    let kafka = RealKafka::three();
    kafka.create_placed_topic("quota", "1:2:3,2:3:1", &[]);
    kafka.wait_until_whole("quota", 3);
    tools::limit_client(&kafka.bootstrap(), "greedy", 50_000);
    let client = Client::builder([kafka.bootstrap()]).client_id("greedy").build().unwrap();
    let producer = client.async_producer().streaming().build().unwrap();
    let produce = |partition, bytes| {
        let message = Message::new("quota", "x".repeat(bytes)).with_partition(partition);
        producer.produce_with_handle(message).expect("accepted")
    };
    // 50,000 a second, counted over ten seconds: these cost about four seconds of silence.
    let burst = || DeliveryHandle::wait_all((0..700).map(|_| produce(0, 1_000)).collect::<Vec<_>>());
    assert!(burst().into_iter().all(|fate| fate.is_ok()), "what is above the quota is late, and no failure");
    let (muted, other) = (produce(0, 1), produce(1, 1));
    let began = Instant::now();
    other.wait().expect("delivered");
    let other = began.elapsed();
    muted.wait().expect("delivered");
    let muted = began.elapsed();
    println!("above the quota: {muted:?}, the other broker: {other:?}");
    assert!(muted > Duration::from_secs(2), "the broker asked for silence, not {muted:?}");
    assert!(other < muted / 2, "another broker goes on: {other:?}, not {muted:?}");

    assert!(burst().into_iter().all(|fate| fate.is_ok()));
    let late = produce(0, 1);
    let began = Instant::now();
    let report = producer.shutdown_within(Duration::from_millis(300)).expect("shut down");
    assert!(began.elapsed() < Duration::from_millis(1_300), "shutdown does not wait for the end of the silence");
    let late = late.wait().expect_err("the producer was silent until its end");
    assert_eq!(late.persistence(), Persistence::No, "it was not sent: {late}");
    assert_eq!((report.delivered, report.failed, report.given_up), (1_402, 0, 1));
    assert_eq!(kafka.counts("quota"), [1_401, 1]);
}

fn start(kafka: &RealKafka, topic: &str) -> Load {
    let client = Client::builder([kafka.bootstrap()]).build().expect("addresses");
    // On a busy machine the nodes take their time to come back.
    Load::start(&client, topic, SIZE, |builder| builder.delivery_timeout(Duration::from_secs(240)))
}

const SIZE: Size = Size { partitions: 3, callers: 3, rate: 1_500 };

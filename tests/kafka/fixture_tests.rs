//! The fixture itself, with Kafka's programs on both ends: what it reads is what was written, and it cleans up.

use std::net::TcpStream;

use crate::fixture::RealKafka;
use crate::tools;

#[test]
fn kafkas_own_messages_read_back() {
    let kafka = RealKafka::shared();
    kafka.create_topic("fixture", 2, &["max.message.bytes=5000"]);
    tools::console_produce(&kafka.bootstrap(), "fixture", true, "k1\tone\nk2\ttwo\nk1\tthree\n");
    let records = kafka.read_all("fixture");
    let mut of_k1 = records.iter().filter(|record| record.key.as_deref() == Some(b"k1"));
    assert_eq!(of_k1.next().map(tools::Record::text), Some("one"));
    assert_eq!(of_k1.next().map(tools::Record::text), Some("three"));
    assert_eq!(kafka.counts("fixture").iter().sum::<usize>(), 3);
    assert_eq!(kafka.leader("fixture", 1), Some(1));
    assert!(records.iter().all(|record| record.create_time && record.headers.is_empty()));
}

#[test]
fn the_brokers_are_of_the_version_that_was_asked_for() {
    let kafka = RealKafka::shared();
    let said = format!("Kafka version: {} ", tools::broker_version());
    assert!(kafka.log(1).lines().any(|line| format!("{line} ").contains(&said)), "no {said}in the broker's log");
}

#[test]
fn a_node_keeps_its_data_over_a_kill_and_is_gone_when_dropped() {
    let mut kafka = RealKafka::start(1);
    kafka.create_topic("kept", 1, &[]);
    tools::console_produce(&kafka.bootstrap(), "kept", false, "before\n");
    kafka.kill(1);
    assert!(TcpStream::connect(kafka.bootstrap()).is_err(), "the killed node still listens");
    kafka.restart(1);
    tools::console_produce(&kafka.bootstrap(), "kept", false, "after\n");
    let records = kafka.read_all("kept");
    assert_eq!(records.iter().map(tools::Record::text).collect::<Vec<_>>(), ["before", "after"]);
    assert!(kafka.dump_batches(1, "kept", 0).len() >= 2);
    kafka.stop(1);
    kafka.restart(1);
    let address = kafka.bootstrap();
    drop(kafka);
    assert!(TcpStream::connect(address).is_err(), "the dropped node still listens");
}

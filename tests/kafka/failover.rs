//! Three nodes, one of which dies without a word.

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ottla::{Client, Message, Topic};

use crate::delivery::assert_numbers_in_order;
use crate::fixture::RealKafka;

#[test]
fn a_leader_killed_in_the_middle_costs_no_message_and_no_order() {
    const COUNT: usize = 30_000;
    let mut kafka = RealKafka::start(3);
    kafka.create_topic("failover", 3, &[]);
    let leader = kafka.leader("failover", 0).expect("a leader");

    let (sender, fates) = mpsc::channel();
    let producer = Client::builder([kafka.bootstrap()])
        .build()
        .unwrap()
        .async_producer()
        .streaming()
        .on_delivery(move |fate| {
            let fate = fate.map(|delivered| (delivered.partition, delivered.offset.expect("acks all"), delivered.tag));
            sender.send(fate.map_err(|error| error.to_string())).expect("the test waits");
        })
        .build()
        .unwrap();
    let load = producer.clone();
    let feeder = thread::spawn(move || {
        let topic = Topic::new("failover").expect("a topic name");
        for number in 0..COUNT {
            let message = Message::new(&topic, number.to_string()).with_partition((number % 3) as i32);
            let message = message.with_tag(number as u64);
            load.produce_timeout(message, Duration::from_secs(60)).expect("there is room in time");
            // 2,000 a second, so that the kill, the election and the return fall into the run.
            if number % 20 == 0 {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    thread::sleep(Duration::from_secs(3));
    kafka.kill(leader);
    feeder.join().expect("all was accepted");
    let report = producer.shutdown().expect("shut down");
    drop(producer);
    let fates: Vec<(i32, i64, u64)> = fates.iter().map(|fate| fate.expect("delivered")).collect();
    assert_eq!((report.delivered, report.failed, report.undelivered.len()), (COUNT as u64, 0, 0));
    assert_eq!(fates.len(), COUNT);

    assert_ne!(kafka.leader("failover", 0), Some(leader), "the leader moved, or this test shows nothing");
    // Kafka's consumer wants its own topics with three replicas.
    kafka.restart(leader);
    let records = kafka.read_all("failover");
    assert_eq!(records.len(), COUNT, "nothing is there twice");
    assert_numbers_in_order(&records, COUNT);
    let stored: HashMap<(i32, i64), &str> =
        records.iter().map(|record| ((record.partition, record.offset), record.text())).collect();
    for (partition, offset, tag) in fates {
        assert_eq!(stored[&(partition, offset)], tag.to_string(), "the offset in a fate is that in the log");
    }
}

#[test]
fn a_frozen_node_costs_no_message_and_no_order() {
    const COUNT: usize = 10_000;
    let kafka = RealKafka::start(1);
    kafka.create_topic("frozen", 2, &[]);
    let client = Client::builder([kafka.bootstrap()]).socket_timeout(Duration::from_secs(6)).build().unwrap();
    let producer = client.async_producer().streaming().build().unwrap();
    for number in 0..COUNT {
        if number == COUNT / 2 {
            kafka.pause(1);
        }
        let message = Message::new("frozen", number.to_string()).with_partition((number % 2) as i32);
        producer.produce_timeout(message, Duration::from_secs(60)).expect("there is room in time");
    }
    // Longer than the socket timeout: the requests under way are given up, and sent again on a new connection.
    thread::sleep(Duration::from_secs(8));
    kafka.resume(1);
    let report = producer.shutdown().expect("shut down");
    assert_eq!((report.delivered, report.failed, report.undelivered.len()), (COUNT as u64, 0, 0));
    assert_numbers_in_order(&kafka.read_all("frozen"), COUNT);
}

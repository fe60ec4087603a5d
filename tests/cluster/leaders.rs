//! Leaders that move and brokers that stop and come back, under load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ottla::testing::{Api, Cluster};
use ottla::{AsyncProducer, Message};

use crate::common::*;

#[test]
fn leaders_that_move_under_load_cost_no_message_no_repeat_and_no_order() {
    let cluster = three_brokers(6);
    let producer = async_producer(&cluster).delivery_interval(ms(1)).build().unwrap();
    let count = under_load(&producer, || {
        for round in 0..60 {
            cluster.move_leader("orders", round % 6, round % 3 + 1);
            thread::sleep(ms(10));
        }
    });
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (count, 0));
    assert_in_order(&cluster.messages("orders"), count as usize);
}

#[test]
fn a_rolling_restart_of_three_brokers_costs_nothing() {
    let cluster = three_brokers(6);
    let producer = async_producer(&cluster).delivery_interval(ms(1)).build().unwrap();
    let count = under_load(&producer, || {
        for round in 0..9 {
            let node = round % 3 + 1;
            cluster.stop_broker(node);
            wait_for_more(&cluster);
            cluster.restart_broker(node).unwrap();
            (0..6).for_each(|partition| cluster.move_leader("orders", partition, (partition + round) % 3 + 1));
            wait_for_more(&cluster);
        }
    });
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (count, 0));
    assert_in_order(&cluster.messages("orders"), count as usize);
}

#[test]
fn a_new_leader_is_found_without_waiting_for_the_age_of_metadata() {
    let cluster = three_brokers(1);
    let producer = async_producer(&cluster).build().unwrap();
    for node in [2, 3, 1, 3, 2, 1] {
        cluster.move_leader("orders", 0, node);
        producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
        let last = cluster.requests().into_iter().rfind(|request| request.api == Api::Produce).unwrap();
        assert_eq!(last.node, node);
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 6);
}

#[test]
fn while_all_brokers_but_one_are_down_everything_goes_there() {
    let cluster = three_brokers(3);
    let producer = async_producer(&cluster).build().unwrap();
    producer.produce_with_handle(Message::new("orders", "0").with_key("k")).unwrap().wait().unwrap();
    cluster.stop_broker(1);
    cluster.stop_broker(3);
    for n in 1..50 {
        producer.produce(Message::new("orders", n.to_string()).with_key("k")).unwrap();
    }
    assert_eq!(producer.flush(LONG).unwrap().failed, 0);
    assert_eq!(producer.shutdown().unwrap().delivered, 50);
    assert_in_order(&cluster.messages("orders"), 50);
}

#[test]
fn a_producer_starts_when_only_the_last_seed_is_up() {
    let cluster = three_brokers(3);
    cluster.stop_broker(1);
    cluster.stop_broker(2);
    let info = client(&cluster).check(LONG).unwrap();
    assert!(info.brokers.iter().any(|broker| broker.node == 3), "{info:?}");
    let producer = async_producer(&cluster).build().unwrap();
    for n in 0..30 {
        producer.produce(Message::new("orders", n.to_string()).with_key("k")).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 30);
    assert_in_order(&cluster.messages("orders"), 30);
}

/// Produces from two threads for as long as `trouble` runs, and returns how many messages.
fn under_load(producer: &AsyncProducer, trouble: impl FnOnce()) -> u64 {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|caller| {
                let over = &over;
                scope.spawn(move || {
                    let mut counts = [0u64; 8];
                    while !over.load(Ordering::Relaxed) {
                        for (key, n) in counts.iter_mut().enumerate() {
                            let message = Message::new("orders", n.to_string()).with_key(format!("{caller} {key}"));
                            producer.produce_timeout(message, LONG).unwrap();
                            *n += 1;
                        }
                        thread::sleep(ms(1));
                    }
                    counts.iter().sum::<u64>()
                })
            })
            .collect();
        trouble();
        over.store(true, Ordering::Relaxed);
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    })
}

fn wait_for_more(cluster: &Cluster) {
    cluster.wait_for("orders", cluster.messages("orders").len() + 50, LONG).unwrap();
}

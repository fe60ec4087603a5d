//! Threads, descriptors and memory are given back by each producer, however it ended.

use std::thread;
use std::time::Duration;

use ottla::testing::Cluster;
use ottla::{AsyncProducerBuilder, Client, Message};

use crate::common::*;
use crate::processes::{descriptors, name, ottla_threads, resident, threads};

const CYCLES: usize = 500;

#[test]
fn nothing_is_left_of_five_hundred_producers() {
    alone("cycles::nothing_is_left_of_five_hundred_producers", || {
        let cluster = Cluster::builder().brokers(3).topic("orders", 3).start().unwrap();
        let up = client(&cluster.bootstrap());
        let down = client(&nobody());
        // What is only made once, by the first ones.
        (0..20).for_each(|round| cycle(round, &up, &down));
        wait_until("ottla's threads end", || ottla_threads().is_empty());
        settle(&cluster);
        let before = (threads().len(), descriptors());
        let memory = resident();
        for round in 0..CYCLES {
            cycle(round, &up, &down);
            if round % 50 == 49 {
                wait_until("ottla's threads end", || ottla_threads().is_empty());
            }
        }
        settle(&cluster);
        // Fewer than before, if one was just about to end then.
        let is_back = || threads().len() <= before.0 && descriptors() <= before.1;
        wait_until("threads end and descriptors are closed", is_back);
        let growth = resident().saturating_sub(memory);
        println!("  {CYCLES} producers left {} KiB", growth / 1024);
        assert!(growth < 24 * 1024 * 1024, "{growth} bytes after {CYCLES} producers, the cluster's log included");
    });
}

/// The cluster has a thread for each connection, `kafka-1-2`, which ends a little after it.
fn settle(cluster: &Cluster) {
    wait_until("the connections are closed", || cluster.connections() == 0);
    let serves = |tid: u32| name(tid).is_some_and(|name| name.starts_with("kafka-") && name.matches('-').count() == 2);
    wait_until("their threads have ended", || !threads().into_iter().any(serves));
}

fn cycle(round: usize, up: &Client, down: &Client) {
    let message = || Message::new("orders", "v").with_partition((round % 3) as i32);
    let filled = |builder: AsyncProducerBuilder| {
        let producer = builder.streaming().drop_timeout(Duration::ZERO).on_delivery(|_| {}).build().unwrap();
        (0..3).for_each(|_| producer.produce(message()).unwrap());
        producer
    };
    match round % 8 {
        0 => assert_eq!(filled(up.async_producer()).shutdown().unwrap().delivered, 3),
        1 => drop(filled(up.async_producer()).flush(LONG).unwrap()),
        2 => drop(filled(up.async_producer())),
        3 => assert_eq!(filled(down.async_producer()).shutdown_within(Duration::ZERO).unwrap().given_up, 3),
        4 => drop(filled(down.async_producer())),
        5 => {
            let producer = filled(down.async_producer());
            // The last clone is dropped by another thread, while it may just have begun to connect.
            thread::spawn(move || drop(producer)).join().unwrap();
        }
        6 => {
            let mut producer = up.producer().build().unwrap();
            producer.produce(message()).unwrap();
            producer.deliver_messages().unwrap();
        }
        _ => {
            let mut producer = down.producer().delivery_timeout(ms(1)).build().unwrap();
            producer.produce(message()).unwrap();
            assert_eq!(producer.deliver_messages().unwrap_err().remaining, 1);
            assert!(down.check(ms(1)).is_err());
        }
    }
}

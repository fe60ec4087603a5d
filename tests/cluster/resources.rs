//! Threads, descriptors and wake-ups, each counted in a process of its own.
#![cfg(target_os = "linux")]

use std::fs;
use std::thread;
use std::time::Duration;

use ottla::testing::Cluster;
use ottla::{Client, Message};

use crate::common::*;

#[test]
fn two_threads_exist_beside_the_callers_and_three_with_a_callback() {
    alone("resources::two_threads_exist_beside_the_callers_and_three_with_a_callback", || {
        let cluster = three_brokers(9);
        let builder = || async_producer(&cluster).streaming();
        let producer = builder().build().unwrap();
        assert_eq!(ottla_threads(), [""; 0], "none before the first message");
        produce_to_all(&cluster, &producer);
        assert_eq!(ottla_threads(), ["ottla-timer", "ottla-worker"]);
        let with_callback = builder().on_delivery(|_| {}).build().unwrap();
        produce_to_all(&cluster, &with_callback);
        assert_eq!(producer.shutdown().unwrap().delivered, 90);
        only_these_are_left(&["ottla-delivery", "ottla-timer", "ottla-worker"]);
        assert_eq!(with_callback.shutdown().unwrap().delivered, 90);
        only_these_are_left(&[]);
        let producer = async_producer(&cluster).build().unwrap();
        produce_to_all(&cluster, &producer);
        assert_eq!(ottla_threads(), ["ottla-worker"], "no interval, no timer");
        drop(producer);
        only_these_are_left(&[]);
    });
}

#[test]
fn the_sync_producer_starts_no_thread() {
    alone("resources::the_sync_producer_starts_no_thread", || {
        let cluster = three_brokers(3);
        let before = threads().len();
        let mut producer = sync_producer(&cluster).build().unwrap();
        for partition in 0..3 {
            producer.produce(Message::new("orders", "v").with_partition(partition)).unwrap();
            producer.deliver_messages().unwrap();
            assert_eq!(ottla_threads(), [""; 0]);
        }
        assert!(producer.shutdown().is_empty());
        wait_until("the cluster's threads end", || threads().len() == before);
    });
}

#[test]
fn threads_and_descriptors_are_given_back_after_fifty_producers() {
    alone("resources::threads_and_descriptors_are_given_back_after_fifty_producers", || {
        let cluster = three_brokers(3);
        let (threads_before, descriptors_before) = (threads().len(), descriptors());
        for round in 0..50 {
            let producer = async_producer(&cluster).streaming().on_delivery(|_| {}).build().unwrap();
            for partition in 0..3 {
                producer.produce(Message::new("orders", "v").with_partition(partition)).unwrap();
            }
            match round % 3 {
                0 => assert_eq!(producer.shutdown().unwrap().delivered, 3),
                1 => drop(producer),
                _ => {
                    drop(producer);
                    let mut sync = sync_producer(&cluster).build().unwrap();
                    sync.produce(Message::new("orders", "v")).unwrap();
                    sync.deliver_messages().unwrap();
                }
            }
            client(&cluster).check(LONG).unwrap();
        }
        assert_eq!(ottla_threads(), [""; 0]);
        wait_until("the cluster's threads end", || threads().len() == threads_before);
        wait_until("the descriptors are closed", || descriptors() == descriptors_before);
        assert_eq!(cluster.messages("orders").len(), 166);
    });
}

#[test]
fn with_the_brokers_down_the_worker_sleeps() {
    alone("resources::with_the_brokers_down_the_worker_sleeps", || {
        let cluster = three_brokers(3);
        (1..=3).for_each(|node| cluster.stop_broker(node));
        let client = Client::builder([cluster.bootstrap()]).build().unwrap();
        let producer = client.async_producer().streaming().max_queue_size(10).build().unwrap();
        for _ in 0..10 {
            producer.produce(Message::new("orders", "v")).unwrap();
        }
        wait_until("an error is seen", || producer.last_error().is_some());
        let before = wake_ups();
        // Nothing happens here: that is what is measured.
        thread::sleep(Duration::from_secs(2));
        let woken = wake_ups() - before;
        assert!(woken <= 2 * 2 * 20, "{woken} wake-ups of two threads in 2 s");
        assert_eq!(producer.shutdown_within(Duration::ZERO).unwrap().given_up, 10);
    });
}

fn produce_to_all(cluster: &Cluster, producer: &ottla::AsyncProducer) {
    for n in 0..90 {
        producer.produce(Message::new("orders", "v").with_partition(n % 9)).unwrap();
    }
    assert_eq!(producer.flush(LONG).unwrap().failed, 0);
    assert!(cluster.connections() >= 3, "to all brokers");
}

/// The names of all threads of this process.
fn threads() -> Vec<String> {
    let names = tasks().filter_map(|task| fs::read_to_string(task.join("comm")).ok());
    let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    names.sort();
    names
}

/// A thread that has ended is in the system's list for an instant longer.
fn only_these_are_left(names: &[&str]) {
    wait_until("the other threads end", || ottla_threads() == names);
}

fn ottla_threads() -> Vec<String> {
    let mut names = threads();
    names.retain(|name| name.starts_with("ottla-"));
    names
}

/// How often ottla's threads went to sleep and were woken.
fn wake_ups() -> u64 {
    let own = tasks().filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("ottla-")));
    let switches = |status: String| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    own.filter_map(|task| switches(fs::read_to_string(task.join("status")).ok()?)).sum()
}

fn tasks() -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir("/proc/self/task").expect("Linux").filter_map(|task| Some(task.ok()?.path()))
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

//! Which threads there are, counted in a process of its own. What they use is in `tests/resources`.
#![cfg(target_os = "linux")]

use std::fs;

use ottla::Message;
use ottla::testing::Cluster;

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

fn tasks() -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir("/proc/self/task").expect("Linux").filter_map(|task| Some(task.ok()?.path()))
}

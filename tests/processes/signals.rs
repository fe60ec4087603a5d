//! What signals do to a process with producers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ottla::testing::Cluster;
use ottla::{Client, Message, Partitioner};
use signal_hook::consts::SIGPIPE;
use signal_hook::flag::register_conditional_default;

use crate::apart::*;

/// Rust programs ignore SIGPIPE, but not those that restore its default for the sake of their output, nor a program in
/// another language that has ottla inside.
#[test]
fn a_broker_that_closes_while_requests_are_written_does_not_end_a_process_with_the_default_of_sigpipe() {
    let test =
        "signals::a_broker_that_closes_while_requests_are_written_does_not_end_a_process_with_the_default_of_sigpipe";
    apart(test, |_| {
        register_conditional_default(SIGPIPE, Arc::new(AtomicBool::new(true))).unwrap();
        // In this process, too: neither side may raise the signal.
        let cluster = Cluster::builder().topic("orders", 2).start().unwrap();
        let (go_on, may_go_on) = mpsc::channel();
        let may_go_on = Mutex::new(may_go_on);
        let held = Partitioner::custom(move |_| {
            may_go_on.lock().unwrap().recv().unwrap();
            0
        });
        // Two messages need two requests.
        let builder =
            builder(&cluster.bootstrap()).max_message_bytes(2000).max_batch_bytes(2000).max_request_bytes(3024);
        let producer = builder.streaming().partitioner(held).build().unwrap();
        producer.produce_with_handle(message("connected").with_partition(1)).unwrap().wait().unwrap();
        for round in 0..10 {
            // The worker waits for its partitioner while the broker goes, and then writes before it reads.
            let value = vec![b'v'; 1800];
            producer.produce(Message::new("orders", &value)).unwrap();
            let handle = producer.produce_with_handle(Message::new("orders", &value).with_partition(1)).unwrap();
            cluster.stop_broker(1);
            cluster.restart_broker(1).unwrap();
            go_on.send(()).unwrap();
            assert!(handle.wait().is_ok(), "round {round}");
        }
        assert_eq!(producer.shutdown().unwrap().delivered, 21);
    });
}

/// What was sent before or while the process was stopped is answered, and no answer is lost: none is told as possibly
/// written. What is told as not written is not.
#[test]
fn a_process_that_was_stopped_for_longer_than_the_delivery_timeout_hears_all_that_it_was_answered() {
    let test =
        "signals::a_process_that_was_stopped_for_longer_than_the_delivery_timeout_hears_all_that_it_was_answered";
    let apart = apart_with_pauses(test, (STOPPED, Duration::ZERO), |brokers| {
        // Requests too large for a socket to take each at once: some are half written when the process is stopped.
        let producer = builder(brokers).streaming().delivery_timeout(TIMEOUT).on_delivery(|fate| {
            if let Err(error) = fate {
                let value = String::from_utf8(error.message().value().unwrap()[..NUMBER].to_vec()).unwrap();
                println!("failed {} {:?}: {error}", value.trim_end(), error.persistence());
            }
        });
        let producer = producer.build().unwrap();
        let (began, mut number) = (Instant::now(), 0_u64);
        while began.elapsed() < running() {
            for _ in 0..200 {
                let value = format!("{number:<2000}");
                producer.produce_timeout(Message::new("orders", &value), LONG).unwrap();
                number += 1;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = producer.shutdown().unwrap();
        println!("produced {number}");
    });
    let Some((cluster, told)) = apart else { return };
    let number = |text: &str| text.split_whitespace().next().unwrap().parse::<usize>().unwrap();
    let produced = told.lines().find_map(|line| line.strip_prefix("produced ")).map(number).unwrap();
    let mut ends = vec![0; produced];
    for line in told.lines().filter_map(|line| line.strip_prefix("failed ")) {
        assert!(line.contains(" No: "), "the brokers have answered all that was sent: {line}");
        ends[number(line)] += 1;
    }
    for value in values(&cluster.messages("orders")) {
        ends[number(value)] += 1;
    }
    let wrong: Vec<_> = ends.iter().enumerate().filter(|(_, ends)| **ends != 1).collect();
    assert!(wrong.is_empty(), "neither in the log nor told as failed, or both: {wrong:?}");
}

#[test]
fn a_sync_producer_that_was_stopped_for_longer_than_the_delivery_timeout_delivers_what_it_was_about() {
    let test =
        "signals::a_sync_producer_that_was_stopped_for_longer_than_the_delivery_timeout_delivers_what_it_was_about";
    let apart = apart_with_pauses(test, (STOPPED, Duration::from_millis(40)), |brokers| {
        let client = Client::builder([brokers]).build().unwrap();
        // A call has one request after the other: most of them are still to be sent when the process is stopped.
        let builder = client.producer().delivery_timeout(TIMEOUT).max_in_flight(1);
        let mut producer =
            builder.max_message_bytes(2000).max_batch_bytes(2000).max_request_bytes(3024).build().unwrap();
        let (began, mut number) = (Instant::now(), 0);
        while began.elapsed() < running() {
            for _ in 0..8 {
                producer.produce(Message::new("orders", format!("{number:<1500}"))).unwrap();
                number += 1;
            }
            producer.deliver_messages().unwrap();
        }
        println!("produced {number}");
    });
    let Some((cluster, told)) = apart else { return };
    let in_log = cluster.messages("orders");
    assert!(in_log.iter().enumerate().all(|(n, message)| message.value_str().unwrap().trim_end() == n.to_string()));
    assert!(told.contains(&format!("produced {}\n", in_log.len())), "{} are in the log; {told}", in_log.len());
}

/// No machine is that busy.
const TIMEOUT: Duration = Duration::from_secs(2);
const STOPPED: Duration = Duration::from_secs(3);

/// For all pauses, and a while after.
fn running() -> Duration {
    PAUSES * (STOPPED + Duration::from_millis(400)) + Duration::from_secs(1)
}

/// Digits of a number, and more.
const NUMBER: usize = 20;

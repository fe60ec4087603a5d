//! What signals do to a process with producers.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};

use ottla::testing::Cluster;
use ottla::{Message, Partitioner};
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

//! A process that ends without `shutdown` ends at once, whatever its producers are doing. What they had not delivered
//! is lost with it, and nothing else is promised.

use std::process;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use ottla::AsyncProducer;

use crate::apart::*;

/// A producer that is never dropped, as in many programs.
static KEPT: OnceLock<AsyncProducer> = OnceLock::new();

#[test]
fn main_returns_while_a_producer_has_messages() {
    let apart = apart_until_it_leaves("exit::main_returns_while_a_producer_has_messages", |brokers| {
        let producer = KEPT.get_or_init(|| builder(brokers).streaming().on_delivery(|_| {}).build().unwrap());
        producer.produce_with_handle(message("delivered")).unwrap().wait().unwrap();
        (0..1000).for_each(|_| producer.produce(message("perhaps lost")).unwrap());
        leaving();
    });
    let Some(cluster) = apart else { return };
    let messages = cluster.messages("orders");
    assert_eq!(messages.iter().filter(|message| message.value_str() == Some("delivered")).count(), 3);
}

#[test]
fn main_returns_while_no_broker_answers() {
    let apart = apart_until_it_leaves("exit::main_returns_while_no_broker_answers", |_| {
        let producer = KEPT.get_or_init(|| builder("127.0.0.1:9").streaming().build().unwrap());
        (0..1000).for_each(|_| producer.produce(message("lost")).unwrap());
        leaving();
    });
    let Some(cluster) = apart else { return };
    assert!(cluster.requests().is_empty());
}

#[test]
fn the_process_exits_inside_a_callback() {
    let apart = apart_until_it_leaves("exit::the_process_exits_inside_a_callback", |brokers| {
        let producer = builder(brokers)
            .delivery_threshold(1)
            .on_delivery(|fate| {
                assert!(fate.is_ok());
                leaving();
                process::exit(7);
            })
            .build()
            .unwrap();
        producer.produce(message("delivered")).unwrap();
        // Others wait for what never comes.
        drop(producer.flush(LONG));
        unreachable!("the callback ended the process");
    });
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), ["delivered"; 3]);
}

#[test]
fn the_process_exits_while_others_wait() {
    let apart = apart_until_it_leaves("exit::the_process_exits_while_others_wait", |_| {
        let producer = builder("127.0.0.1:9").max_queue_size(1).build().unwrap();
        let handle = producer.produce_with_handle(message("lost")).unwrap();
        let (send, waiting) = mpsc::channel();
        let told = || send.clone().send(()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                told();
                drop(producer.produce_timeout(message("lost"), Duration::MAX));
            });
            scope.spawn(|| {
                told();
                drop(producer.flush(Duration::MAX));
            });
            scope.spawn(|| {
                told();
                drop(handle.wait());
            });
            scope.spawn(|| {
                told();
                drop(producer.shutdown());
            });
            (0..4).for_each(|_| waiting.recv().unwrap());
            std::thread::sleep(Duration::from_millis(20));
            leaving();
            process::exit(7);
        });
    });
    let Some(cluster) = apart else { return };
    assert!(cluster.requests().is_empty());
}

//! Both producers against the in-process cluster: what they promise about threads, waiting and order.
#![expect(clippy::disallowed_methods, reason = "threads and clocks are what is tested")]
#![expect(clippy::unwrap_used, reason = "it is a test, helpers included")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault, StoredMessage};
use ottla::{Client, DeliveryHandle, ErrorCode, Message, Persistence, Produce, Topic};

#[test]
fn messages_of_eight_threads_arrive_once_and_in_the_order_of_each() {
    let cluster = cluster(6);
    let producer = client(&cluster).async_producer().streaming().max_queue_size(1000).build().unwrap();
    let orders = Topic::new("orders").unwrap();
    thread::scope(|scope| {
        for caller in 0..8u64 {
            let (producer, orders) = (&producer, &orders);
            scope.spawn(move || {
                for n in 0..5000u64 {
                    let value = format!("{n}");
                    let topic = if n % 2 == 0 { orders.into() } else { ottla::TopicRef::from("orders") };
                    let message = Message::new(topic, &value).with_key(format!("{caller}"));
                    producer.produce_timeout(message, WAIT).unwrap();
                }
            });
        }
    });
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.given_up), (40_000, 0, 0));
    let stored = cluster.messages("orders");
    assert_eq!(stored.len(), 40_000);
    let mut next: HashMap<Vec<u8>, u64> = HashMap::new();
    for message in stored {
        let n = next.entry(key(&message)).or_default();
        assert_eq!(value(&message), n.to_string());
        *n += 1;
    }
    assert!(next.len() == 8 && next.values().all(|n| *n == 5000));
}

#[test]
fn nothing_leaves_by_itself_without_threshold_and_interval() {
    let cluster = cluster(1);
    let producer = client(&cluster).async_producer().max_queue_size(10).build().unwrap();
    for _ in 0..9 {
        producer.produce(Message::new("orders", "v")).unwrap();
    }
    thread::sleep(Duration::from_millis(100));
    assert_eq!((cluster.messages("orders").len(), producer.queue_size()), (0, 9));
    producer.produce(Message::new("orders", "the tenth fills the queue")).unwrap();
    cluster.wait_for("orders", 10, WAIT).unwrap();
    wait_until(|| producer.queue_size() == 0);
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    cluster.wait_for("orders", 11, WAIT).unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    let report = producer.flush(WAIT).unwrap();
    assert_eq!((report.failed, cluster.messages("orders").len()), (0, 12));
    assert!((1..=12).contains(&report.delivered), "{report:?}");
    let fate = producer.produce_with_handle(Message::new("orders", "v").with_tag(5)).unwrap().wait().unwrap();
    assert_eq!((fate.partition, fate.offset, fate.tag), (0, Some(12), 5));
    producer.produce(Message::new("orders", "v")).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 14);
}

#[test]
fn a_threshold_and_an_interval_make_messages_leave() {
    let cluster = cluster(1);
    let producer = client(&cluster).async_producer().delivery_threshold(3).build().unwrap();
    for n in 1..=2 {
        producer.produce(Message::new("orders", "v")).unwrap();
        assert_eq!(producer.queue_size(), n);
    }
    producer.produce(Message::new("orders", "v")).unwrap();
    cluster.wait_for("orders", 3, WAIT).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 3);

    let interval = Duration::from_millis(60);
    let producer = client(&cluster).async_producer().delivery_interval(interval).build().unwrap();
    for n in 4..=6 {
        let began = Instant::now();
        producer.produce(Message::new("orders", "v")).unwrap();
        cluster.wait_for("orders", n, WAIT).unwrap();
        assert!(began.elapsed() >= interval, "{:?}", began.elapsed());
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 3);
}

#[test]
fn callbacks_learn_of_each_delivery_before_flush_and_shutdown_return() {
    let cluster = cluster(3);
    let called = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&called);
    let producer = client(&cluster)
        .async_producer()
        .on_delivery(move |fate| {
            thread::sleep(Duration::from_micros(20));
            seen.lock().unwrap().push(fate.unwrap().tag);
        })
        .build()
        .unwrap();
    let mut handles = Vec::new();
    for n in 0..500 {
        let message = Message::new("orders", "v").with_tag(n);
        if n % 10 == 0 {
            handles.push(producer.produce_with_handle(message).unwrap());
        } else {
            producer.produce(message).unwrap();
        }
    }
    assert_eq!(producer.flush(WAIT).unwrap().delivered, 500);
    assert_eq!(called.lock().unwrap().len(), 450, "those with a handle are told there only");
    assert!(DeliveryHandle::wait_all(handles).iter().all(|fate| fate.as_ref().unwrap().tag % 10 == 0));
    producer.produce(Message::new("orders", "v").with_tag(999)).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 501);
    assert_eq!(called.lock().unwrap().last(), Some(&999));
}

#[test]
fn slow_callbacks_hold_the_buffer_and_nothing_is_lost() {
    let cluster = cluster(1);
    let called = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&called);
    let producer = client(&cluster)
        .async_producer()
        .max_buffer_size(50)
        .max_queue_size(20)
        .on_delivery(move |fate| {
            fate.unwrap();
            seen.fetch_add(1, Ordering::Relaxed);
        })
        .build()
        .unwrap();
    for _ in 0..3000 {
        producer.produce_timeout(Message::new("orders", "v"), WAIT).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 3000);
    assert_eq!((called.load(Ordering::Relaxed), cluster.messages("orders").len()), (3000, 3000));
}

#[test]
fn lost_connections_repeat_nothing_and_swap_nothing() {
    let cluster = cluster(2);
    let producer = client(&cluster).async_producer().streaming().build().unwrap();
    let faults = [
        cluster.inject(Fault::on(Api::Produce).skip(2).times(1).cut_after()),
        cluster.inject(Fault::on(Api::Produce).skip(5).times(1).cut_before()),
    ];
    for n in 0..3000u64 {
        producer.produce_timeout(Message::new("orders", format!("{n}")).with_key("k"), WAIT).unwrap();
        if n % 300 == 0 {
            thread::sleep(Duration::from_millis(6));
        }
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 3000);
    let values: Vec<String> = cluster.messages("orders").iter().map(value).collect();
    assert_eq!(values, (0..3000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(faults.iter().any(|fault| fault.hits() > 0));
}

#[test]
fn what_was_written_and_not_answered_comes_back_as_possibly_written() {
    let cluster = cluster(1);
    let _stalled = cluster.inject(Fault::on(Api::Produce).stall());
    let producer = client(&cluster).async_producer().build().unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "v").with_tag(1)).unwrap();
    producer.produce(Message::new("orders", "v").with_tag(2)).unwrap();
    producer.deliver_messages();
    wait_until(|| producer.queue_size() == 0);
    assert!(producer.purge().unwrap().is_empty(), "it was written");
    let began = Instant::now();
    let report = producer.shutdown_within(Duration::from_millis(200)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!((report.given_up, report.undelivered.len()), (2, 1));
    assert!(report.undelivered.iter().all(|error| error.persistence() == Persistence::Possibly));
    assert_eq!(handle.wait().unwrap_err().persistence(), Persistence::Possibly);
}

#[test]
fn the_number_of_partitions_is_told_before_the_first_message() {
    let cluster = cluster(6);
    let producer = client(&cluster).async_producer().build().unwrap();
    assert_eq!(producer.partitions_for("orders", WAIT).unwrap(), 6);
    assert_eq!(producer.partitions_for("orders", WAIT).unwrap(), 6);
    assert_eq!(producer.shutdown().unwrap().delivered, 0);
}

#[test]
fn a_dropped_producer_delivers_what_it_can() {
    let cluster = cluster(1);
    let producer = client(&cluster).async_producer().build().unwrap();
    for _ in 0..100 {
        producer.produce(Message::new("orders", "v")).unwrap();
    }
    drop(producer);
    assert_eq!(cluster.messages("orders").len(), 100);
}

#[test]
fn flushes_and_purges_of_many_threads_keep_the_sums() {
    let cluster = cluster(4);
    let producer = client(&cluster).async_producer().max_queue_size(200).build().unwrap();
    let purged = AtomicU64::new(0);
    thread::scope(|scope| {
        for caller in 0..8 {
            let (producer, purged) = (&producer, &purged);
            scope.spawn(move || {
                for n in 0..500 {
                    producer.produce_timeout(Message::new("orders", "v"), WAIT).unwrap();
                    match (n + caller * 7) % 50 {
                        0 => drop(producer.flush(WAIT).unwrap()),
                        1 => drop(purged.fetch_add(producer.purge().unwrap().len() as u64, Ordering::Relaxed)),
                        2 => producer.produce_with_handle(Message::new("orders", "v")).map(drop).unwrap_or_default(),
                        _ => {}
                    }
                }
            });
        }
    });
    let report = producer.shutdown().unwrap();
    assert_eq!(report.delivered as usize, cluster.messages("orders").len());
    assert!(report.failed >= purged.into_inner(), "with handles, purged messages go there");
    assert_eq!((report.given_up, report.failures.len()), (0, 0));
    assert!(report.delivered + report.failed >= 4000);
}

#[test]
fn the_sync_producer_delivers_and_goes_on_after_a_time_out() {
    let cluster = cluster(2);
    let mut producer = client(&cluster).producer().delivery_timeout(Duration::from_millis(300)).build().unwrap();
    for n in 0..1000 {
        producer.produce(Message::new("orders", format!("{n}")).with_key("k")).unwrap();
    }
    producer.deliver_messages().unwrap();
    assert_eq!((producer.buffer_size(), producer.buffer_bytesize()), (0, 0));

    let stalled = cluster.inject(Fault::on(Api::Produce).delay(Duration::from_millis(500)).times(1));
    producer.produce(Message::new("orders", "1000").with_key("k")).unwrap();
    let failed = producer.deliver_messages().unwrap_err();
    assert_eq!((failed.failed.len(), failed.remaining, producer.buffer_size()), (0, 1, 1));
    stalled.wait_for_hits(1, WAIT).unwrap();
    wait_until(|| cluster.messages("orders").len() == 1001);
    producer.produce(Message::new("orders", "1001").with_key("k")).unwrap();
    producer.deliver_messages().unwrap();
    let values: Vec<String> = cluster.messages("orders").iter().map(value).collect();
    assert_eq!(values, (0..1002).map(|n| n.to_string()).collect::<Vec<_>>(), "once each, in order");
    assert!(producer.shutdown().is_empty());
}

#[test]
fn the_sync_producer_keeps_what_ran_out_of_retries() {
    let cluster = cluster(1);
    let mut producer =
        client(&cluster).producer().max_retries(1).retry_backoff(Duration::from_millis(5)).build().unwrap();
    let fault = cluster.inject(Fault::on(Api::Produce).error(ErrorCode::NOT_ENOUGH_REPLICAS));
    producer.produce(Message::new("orders", "v")).unwrap();
    let error = producer.deliver_messages().unwrap_err();
    assert_eq!((error.failed.len(), error.remaining, fault.hits()), (0, 1, 2));
    assert!(error.to_string().contains("NOT_ENOUGH_REPLICAS"), "{error}");
    drop(fault);
    producer.deliver_messages().unwrap();
    assert_eq!((cluster.messages("orders").len(), producer.buffer_size()), (1, 0));
}

#[test]
fn a_program_can_be_given_any_producer() {
    let cluster = cluster(1);
    let shared = client(&cluster).async_producer().build().unwrap();
    let mut by_reference = &shared;
    let mut sync = client(&cluster).producer().build().unwrap();
    let producers: [&mut dyn Produce; 3] = [&mut shared.clone(), &mut by_reference, &mut sync];
    for producer in producers {
        producer.produce(Message::new("orders", "v")).unwrap();
        producer.deliver_messages().unwrap();
    }
    cluster.wait_for("orders", 3, WAIT).unwrap();
    let changed = sync.into_async().build().unwrap();
    changed.produce(Message::new("orders", "v")).unwrap();
    assert_eq!((changed.shutdown().unwrap().delivered, shared.shutdown().unwrap().delivered), (1, 2));
}

#[test]
fn a_callback_may_produce() {
    let cluster = cluster(1);
    let (own, wanted) = mpsc::channel::<ottla::AsyncProducer>();
    let mut rest = 20;
    let producer = client(&cluster)
        .async_producer()
        .delivery_threshold(1)
        .on_delivery(move |_| {
            rest -= 1;
            if rest > 0 {
                let producer = wanted.recv().unwrap();
                producer.produce(Message::new("orders", "again")).unwrap();
            }
        })
        .build()
        .unwrap();
    for _ in 0..20 {
        own.send(producer.clone()).unwrap();
    }
    producer.produce(Message::new("orders", "first")).unwrap();
    cluster.wait_for("orders", 20, WAIT).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 20);
}

fn cluster(partitions: i32) -> Cluster {
    Cluster::builder().topic("orders", partitions).start().unwrap()
}

fn client(cluster: &Cluster) -> Client {
    Client::builder([cluster.bootstrap()]).build().unwrap()
}

fn key(message: &StoredMessage) -> Vec<u8> {
    message.key.as_deref().unwrap_or_default().to_vec()
}

fn value(message: &StoredMessage) -> String {
    String::from_utf8_lossy(message.value.as_deref().unwrap_or_default()).into_owned()
}

fn wait_until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < WAIT, "it never happened");
        thread::sleep(Duration::from_millis(1));
    }
}

const WAIT: Duration = Duration::from_secs(30);

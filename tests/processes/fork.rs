//! A producer that had started, in a forked child: it does nothing, and nothing hangs. One that had not works.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid_nohang};
use ottla::testing::Api;
use ottla::{
    AsyncProducer, Client, DeliveryErrorKind, DeliveryHandle, FlushError, Message, MetadataError, Persistence,
    ProduceErrorKind, PurgeError, ShutdownError,
};

use crate::apart::*;

#[test]
fn every_call_in_the_child_is_refused_and_the_parent_goes_on() {
    let apart = apart("fork::every_call_in_the_child_is_refused_and_the_parent_goes_on", |brokers| {
        let producer = builder(brokers).on_delivery(|fate| assert!(fate.is_ok())).build().unwrap();
        produce(&producer, "before the fork", 3);
        producer.flush(LONG).unwrap();
        let handles: Vec<_> = (0..3).map(|_| producer.produce_with_handle(message("with a handle")).unwrap()).collect();
        let mut handles = handles.into_iter();
        producer.flush(LONG).unwrap();
        // The child's copies of what the parent holds go away with it.
        let (mut in_child, mut in_parent) = (Some((producer.clone(), handles.next(), handles.next())), Some(producer));
        in_a_child(|| {
            let (producer, filled, tried) = in_child.take().unwrap();
            everything_is_refused(&producer);
            assert!(filled.unwrap().wait().is_ok(), "it was there before the fork");
            assert!(tried.unwrap().try_get().is_ok());
            drop(producer);
            drop(in_parent.take());
        });
        drop(in_child);
        let producer = in_parent.take().unwrap();
        produce(&producer, "after the fork", 3);
        assert_eq!(producer.shutdown().unwrap().delivered, 9);
    });
    let Some(cluster) = apart else { return };
    let mut expected = vec!["before the fork"; 3];
    expected.extend(["with a handle"; 3]);
    expected.extend(["after the fork"; 3]);
    assert_eq!(values(&cluster.messages("orders")), expected);
    let connects = cluster.requests().iter().filter(|request| request.api == Api::ApiVersions).count();
    assert_eq!(connects, 1, "the child wrote to no socket and closed none, so the parent's connection stayed");
}

#[test]
fn an_inherited_queue_leaves_from_the_parent_alone() {
    let apart = apart("fork::an_inherited_queue_leaves_from_the_parent_alone", |brokers| {
        let producer = builder(brokers).delivery_threshold(20).build().unwrap();
        let handle = producer.produce_with_handle(message("parent")).unwrap();
        produce(&producer, "parent", 9);
        let mut inherited = Some((handle, producer));
        in_a_child(|| {
            let (handle, producer) = inherited.take().unwrap();
            // It may go into the inherited open chunk, up to its end, or to where the worker would be woken for it.
            let accepted = (0..1000).take_while(|_| producer.produce(message("child")).is_ok()).count();
            assert!(accepted <= 250, "{accepted}");
            let error = handle.wait_timeout(LONG).expect("at once").unwrap_err();
            assert_eq!(error.persistence(), Persistence::Possibly);
            assert!(matches!(error.kind(), DeliveryErrorKind::AfterFork), "{error}");
            assert!(!error.to_string().contains("report it"), "{error}");
            producer.deliver_messages();
            assert!(matches!(producer.purge(), Err(PurgeError::AfterFork)));
        });
        let (handle, producer) = inherited.take().unwrap();
        assert_eq!(producer.queue_size(), 10);
        assert!(handle.wait().is_ok());
        assert_eq!(producer.shutdown().unwrap().delivered, 10);
    });
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), ["parent"; 10]);
}

#[test]
fn a_full_queue_refuses_in_the_child_without_waiting() {
    let apart = apart("fork::a_full_queue_refuses_in_the_child_without_waiting", |brokers| {
        let producer = builder(&nobody()).max_queue_size(5).drop_timeout(Duration::ZERO).build().unwrap();
        produce(&producer, "v", 5);
        in_a_child(|| {
            let error = producer.produce_timeout(message("child"), Duration::MAX).unwrap_err();
            assert!(matches!(error.kind(), ProduceErrorKind::AfterFork), "{error}");
        });
        assert!(producer.produce(message("parent")).unwrap_err().is_buffer_overflow());
        let _ = brokers;
    });
    let Some(cluster) = apart else { return };
    assert!(cluster.requests().is_empty());
}

#[test]
fn a_producer_that_had_not_started_works_in_both() {
    let apart = apart("fork::a_producer_that_had_not_started_works_in_both", |brokers| {
        let producer = builder(brokers).on_delivery(|fate| assert!(fate.is_ok())).build().unwrap();
        let mut unused = Some(builder(brokers).build().unwrap());
        in_a_child(|| {
            drop(unused.take());
            produce(&producer, "child", 10);
            assert!(producer.produce_with_handle(message("child")).unwrap().wait().is_ok());
            assert_eq!(producer.shutdown().unwrap().delivered, 11);
        });
        produce(&producer, "parent", 10);
        assert_eq!(producer.shutdown().unwrap().delivered, 10);
    });
    let Some(cluster) = apart else { return };
    let messages = cluster.messages("orders");
    assert_eq!(values(&messages), [["child"; 11].as_slice(), &["parent"; 10]].concat());
    assert_ne!(messages[0].producer_id, messages[20].producer_id);
}

#[test]
fn a_new_producer_of_the_child_outlives_the_inherited_one() {
    let apart = apart("fork::a_new_producer_of_the_child_outlives_the_inherited_one", |brokers| {
        let new = || builder(brokers).streaming().on_delivery(|fate| assert!(fate.is_ok())).build().unwrap();
        let mut inherited = Some(new());
        produce(inherited.as_ref().unwrap(), "parent", 5);
        inherited.as_ref().unwrap().flush(LONG).unwrap();
        in_a_child(|| {
            let own = new();
            produce(&own, "child", 5);
            own.flush(LONG).unwrap();
            // The threads of the two have the same names for the system: nothing may be done to the inherited ones.
            drop(inherited.take());
            produce(&own, "child", 5);
            assert_eq!(own.shutdown().unwrap().delivered, 10);
        });
        assert_eq!(inherited.unwrap().shutdown().unwrap().delivered, 5);
    });
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), [["parent"; 5].as_slice(), &["child"; 10]].concat());
}

#[test]
fn the_sync_producer_belongs_to_the_process_of_its_first_message() {
    let apart = apart("fork::the_sync_producer_belongs_to_the_process_of_its_first_message", |brokers| {
        let client = Client::builder([brokers]).build().unwrap();
        let mut producer = Some(client.producer().build().unwrap());
        let parents = producer.as_mut().unwrap();
        parents.produce(message("parent")).unwrap();
        parents.deliver_messages().unwrap();
        parents.produce(message("parent")).unwrap();
        in_a_child(|| {
            let mut inherited = producer.take().unwrap();
            let accepted = (0..2000).take_while(|_| inherited.produce(message("child")).is_ok()).count();
            assert!(accepted <= 1024, "{accepted}");
            let error = inherited.deliver_messages().unwrap_err();
            assert!(matches!(error.last_error.as_deref(), Some(DeliveryErrorKind::AfterFork)), "{error}");
            assert_eq!(error.failed.len(), 0);
            assert!(inherited.clear_buffer().is_empty());
            drop(inherited);
        });
        let mut producer = producer.unwrap();
        producer.deliver_messages().unwrap();
        assert!(producer.shutdown().is_empty());
    });
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), ["parent"; 2]);
    let connects = cluster.requests().iter().filter(|request| request.api == Api::ApiVersions).count();
    assert_eq!(connects, 1, "the parent's connection stayed");
}

#[test]
#[cfg(feature = "_tls")]
fn a_child_says_nothing_on_the_encrypted_connections_of_its_parent() {
    use crate::certificates::{Authority, Leaf};
    use ottla::Tls;
    use ottla::testing::BrokerTls;

    let test = "fork::a_child_says_nothing_on_the_encrypted_connections_of_its_parent";
    let broker = Authority::new("root").issue(&Leaf::default());
    let tls = BrokerTls::new(&broker.certificates, &broker.key);
    let apart = apart_from(
        test,
        |cluster| cluster.tls(tls),
        |brokers| {
            let tls = Tls::new().dangerous_accept_any_certificate();
            let client = Client::builder([brokers]).tls(tls).build().unwrap();
            let mut sync = Some(client.producer().build().unwrap());
            let mut threaded = Some(client.async_producer().build().unwrap());
            for _ in 0..2 {
                let producer = sync.as_mut().unwrap();
                producer.produce(message("parent")).unwrap();
                producer.deliver_messages().unwrap();
                let producer = threaded.as_ref().unwrap();
                producer.produce_with_handle(message("parent")).unwrap().wait().unwrap();
                // Not even that it ends.
                in_a_child(|| drop((sync.take(), threaded.take())));
            }
        },
    );
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), ["parent"; 4]);
    let connects = cluster.requests().iter().filter(|request| request.api == Api::ApiVersions).count();
    assert_eq!(connects, 2, "the parent's connections stayed");
}

#[test]
fn no_call_hangs_on_a_lock_that_was_held_when_the_process_forked() {
    let apart = apart("fork::no_call_hangs_on_a_lock_that_was_held_when_the_process_forked", |brokers| {
        let producer = builder(brokers).streaming().max_queue_size(1000).build().unwrap();
        let (stop, accepted) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let n = accepted.fetch_add(1, Ordering::Relaxed);
                        producer.produce_timeout(Message::new("orders", "v"), LONG).unwrap();
                        if n % 64 == 0 {
                            drop(producer.produce_with_handle(message("v")).unwrap().wait_timeout(LONG));
                            accepted.fetch_add(1, Ordering::Relaxed);
                        }
                        assert!(producer.queue_size() <= 1000);
                    }
                });
            }
            // What the forking thread's next handles lie beside is waited for while it forks.
            let (hand_over, handed) = mpsc::channel::<DeliveryHandle>();
            scope.spawn(move || handed.into_iter().for_each(|handle| drop(handle.wait_timeout(LONG))));
            for _ in 0..forks() {
                let [waited, handle] = [(); 2].map(|()| producer.produce_with_handle(message("v")).unwrap());
                accepted.fetch_add(2, Ordering::Relaxed);
                hand_over.send(waited).unwrap();
                let mut inherited = Some((producer.clone(), handle));
                in_a_child(|| {
                    let (producer, handle) = inherited.take().unwrap();
                    everything_is_refused(&producer);
                    drop(handle.try_get().or_else(DeliveryHandle::try_get).unwrap_or_else(DeliveryHandle::wait));
                    drop(producer);
                });
            }
            drop(hand_over);
            stop.store(true, Ordering::Relaxed);
        });
        let report = producer.shutdown().unwrap();
        assert_eq!((report.delivered, report.failed), (accepted.into_inner(), 0));
        println!("delivered={}", report.delivered);
    });
    let Some(cluster) = apart else { return };
    assert!(cluster.messages("orders").iter().all(|message| message.value_str() == Some("v")), "only the parent's");
}

fn everything_is_refused(producer: &AsyncProducer) {
    // The inherited open chunk may take some.
    let refused = |produce: &dyn Fn() -> Result<(), ottla::ProduceError>| {
        let error = (0..2000).find_map(|_| produce().err()).expect("a chunk is not so long");
        assert!(matches!(error.kind(), ProduceErrorKind::AfterFork), "{error}");
        assert_eq!(error.message().value(), Some(&b"child"[..]));
    };
    refused(&|| producer.produce(message("child")));
    refused(&|| producer.produce_timeout(message("child"), Duration::MAX));
    refused(&|| producer.produce_with_handle(message("child")).map(drop));
    producer.deliver_messages();
    assert!(matches!(producer.flush(LONG), Err(FlushError::AfterFork)));
    assert!(matches!(producer.partitions_for("orders", LONG), Err(MetadataError::AfterFork)));
    assert!(matches!(producer.shutdown(), Err(ShutdownError::AfterFork)));
    assert!(matches!(producer.shutdown_within(LONG), Err(ShutdownError::AfterFork)));
    assert!(matches!(producer.purge(), Err(PurgeError::AfterFork)));
    assert!(producer.queue_size() == 0 && producer.last_error().is_none());
}

/// Forks, runs `run` in the child, and waits for it. The child never returns from here.
fn in_a_child(run: impl FnOnce()) {
    let child = match fork().unwrap() {
        Fork::Child => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            std::process::exit(i32::from(done.is_err()));
        }
        Fork::Parent(child) => child,
    };
    let began = Instant::now();
    loop {
        if let Some(status) = waitpid_nohang(child).unwrap() {
            assert_eq!(status, 0, "the child failed");
            return;
        }
        if began.elapsed() > LONG / 2 {
            drop(std::process::Command::new("kill").args(["-9", &child.to_string()]).status());
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_micros(200));
    }
}

fn produce(producer: &AsyncProducer, value: &'static str, times: usize) {
    (0..times).for_each(|_| producer.produce(message(value)).unwrap());
}

/// An address where nobody listens.
fn nobody() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("127.0.0.1:{port}")
}

fn forks() -> usize {
    std::env::var("OTTLA_FORKS").map_or(200, |forks| forks.parse().unwrap())
}

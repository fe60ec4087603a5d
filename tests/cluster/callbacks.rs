//! What `on_delivery` callbacks are told, and what they may do.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use ottla::testing::{Api, Fault};
use ottla::{AsyncProducer, Delivered, DeliveryErrorKind, ErrorCode, FlushError, Message, Persistence, ShutdownError};

use crate::common::*;

#[test]
fn callbacks_are_told_each_message_once_and_in_the_order_of_its_partition() {
    let cluster = cluster(3);
    let (send, told) = mpsc::channel::<(Delivered, Option<String>)>();
    let producer = async_producer(&cluster)
        .streaming()
        .on_delivery(move |fate| {
            let thread = thread::current().name().map(str::to_owned);
            send.send((fate.unwrap().clone(), thread)).unwrap();
        })
        .build()
        .unwrap();
    for n in 0..3000 {
        producer.produce(Message::new("orders", "v").with_partition(n % 3).with_tag(n as u64)).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 3000);
    let mut next = [0; 3];
    for (fate, thread) in told {
        let at = fate.partition as usize;
        assert_eq!(
            (fate.topic.name(), fate.offset, fate.tag),
            ("orders", Some(next[at]), next[at] as u64 * 3 + at as u64)
        );
        assert_eq!((fate.timestamp.is_some(), thread.as_deref()), (true, Some("ottla-delivery")));
        next[at] += 1;
    }
    assert_eq!(next, [1000; 3]);
}

#[test]
fn a_callback_owns_the_failures() {
    let cluster = cluster(1);
    let (send, told) = mpsc::channel();
    let producer = async_producer(&cluster)
        .on_delivery(move |fate| {
            if let Err(error) = fate {
                send.send(error).unwrap();
            }
        })
        .build()
        .unwrap();
    for n in 0..10 {
        producer.produce(Message::new("orders", "v").with_partition(n % 2 * 7).with_tag(n as u64)).unwrap();
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed, report.failures.len()), (5, 5, 0));
    let errors: Vec<_> = told.iter().collect();
    assert_eq!(errors.iter().map(|error| error.message().tag()).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    assert!(errors.iter().all(|error| error.persistence() == Persistence::No));
}

#[test]
fn a_callback_that_panics_is_called_for_the_next_message() {
    let cluster = cluster(1);
    let (send, told) = mpsc::channel();
    let producer = async_producer(&cluster)
        .on_delivery(move |fate| {
            send.send(fate.unwrap().tag).unwrap();
            panic!("a callback of the test panics");
        })
        .build()
        .unwrap();
    for tag in 0..20 {
        producer.produce(Message::new("orders", "v").with_tag(tag)).unwrap();
    }
    assert_eq!(producer.flush(LONG).unwrap().delivered, 20);
    assert_eq!(producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap().offset, Some(20));
    assert_eq!(producer.shutdown().unwrap().delivered, 21);
    assert_eq!(told.iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[test]
fn a_callback_that_meets_a_full_queue_is_refused_at_once() {
    let cluster = cluster(1);
    let stalled = cluster.inject(Fault::on(Api::Produce).skip(1).stall());
    let own: Arc<OnceLock<AsyncProducer>> = Arc::default();
    let inside = Arc::clone(&own);
    let (send, told) = mpsc::channel();
    let mut first = true;
    let producer = async_producer(&cluster)
        .max_queue_size(3)
        .max_in_flight(1)
        .on_delivery(move |fate| {
            fate.unwrap();
            if !std::mem::take(&mut first) {
                return;
            }
            let producer = inside.get().unwrap();
            let refused = loop {
                match producer.produce_timeout(Message::new("orders", "from a callback"), LONG) {
                    Ok(()) => {}
                    Err(error) => break error,
                }
            };
            send.send((refused.is_buffer_overflow(), refused.into_message().value().map(<[u8]>::to_vec))).unwrap();
        })
        .build()
        .unwrap();
    own.set(producer.clone()).unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    let (overflow, value) = told.recv_timeout(LONG / 2).expect("it did not wait");
    assert!(overflow && value.as_deref() == Some(b"from a callback"));
    drop(stalled);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.failed, report.given_up), (0, 0));
    assert_eq!(report.delivered as usize, cluster.messages("orders").len());
    assert!(report.delivered >= 4);
}

#[test]
fn a_callback_sends_what_failed_to_another_topic() {
    let cluster = cluster(1);
    let own: Arc<OnceLock<AsyncProducer>> = Arc::default();
    let inside = Arc::clone(&own);
    let producer = async_producer(&cluster)
        .streaming()
        .on_delivery(move |fate| {
            if let Err(error) = fate {
                let value = error.message().value().unwrap();
                inside.get().unwrap().produce(Message::new("dead-letters", value)).unwrap();
            }
        })
        .build()
        .unwrap();
    own.set(producer.clone()).unwrap();
    for n in 0..100 {
        producer.produce(Message::new("orders", format!("{n}")).with_partition(i32::from(n % 10 == 0))).unwrap();
    }
    cluster.wait_for("dead-letters", 10, LONG).unwrap();
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (100, 10));
    assert_eq!(cluster.messages("orders").len(), 90);
}

#[test]
fn calls_that_would_wait_for_the_callback_are_refused_inside_it() {
    let cluster = cluster(1);
    let own: Arc<OnceLock<AsyncProducer>> = Arc::default();
    let inside = Arc::clone(&own);
    let (send, told) = mpsc::channel();
    let producer = async_producer(&cluster)
        .on_delivery(move |_| {
            let producer = inside.get().unwrap();
            let flush = matches!(producer.flush(LONG), Err(FlushError::InCallback));
            let shutdown = matches!(producer.shutdown(), Err(ShutdownError::InCallback));
            let within = matches!(producer.shutdown_within(LONG), Err(ShutdownError::InCallback));
            let handle = producer.produce_with_handle(Message::new("orders", "waited for inside")).unwrap();
            send.send((flush, shutdown, within, handle.wait().unwrap().offset)).unwrap();
        })
        .build()
        .unwrap();
    own.set(producer.clone()).unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    assert_eq!(told.recv_timeout(LONG), Ok((true, true, true, Some(1))));
    assert_eq!(producer.shutdown().unwrap().delivered, 2);
}

#[test]
fn the_last_clone_dropped_in_a_callback_hangs_nobody_and_what_is_queued_is_delivered() {
    let cluster = cluster(1);
    let own: Arc<Mutex<Option<AsyncProducer>>> = Arc::default();
    let inside = Arc::clone(&own);
    let (send, told) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let producer = async_producer(&cluster)
        .on_delivery(move |fate| {
            let _ = may_go.recv();
            drop(inside.lock().unwrap().take());
            send.send(fate.unwrap().tag).unwrap();
        })
        .build()
        .unwrap();
    producer.produce(Message::new("orders", "v").with_tag(0)).unwrap();
    producer.deliver_messages();
    cluster.wait_for("orders", 1, LONG).unwrap();
    for tag in 1..10 {
        producer.produce(Message::new("orders", "v").with_tag(tag)).unwrap();
    }
    *own.lock().unwrap() = Some(producer);
    drop(go);
    for tag in 0..10 {
        assert_eq!(told.recv_timeout(LONG), Ok(tag));
    }
    assert_eq!(told.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected), "the threads ended");
    assert_eq!(cluster.messages("orders").len(), 10);
}

#[test]
fn a_slow_callback_holds_up_neither_handles_nor_their_messages() {
    let cluster = cluster(1);
    let (release, blocked) = mpsc::channel::<()>();
    let producer = async_producer(&cluster).on_delivery(move |_| assert!(blocked.recv().is_err())).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    for n in 1..20 {
        let fate = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
        assert_eq!(fate.offset, Some(n));
    }
    assert!(matches!(producer.flush(ms(20)), Err(FlushError::Timeout { .. })), "the callback did not return");
    let error =
        producer.produce_with_handle(Message::new("orders", "v").with_partition(3)).unwrap().wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::UnknownPartition { .. }));
    drop(release);
    assert_eq!(producer.shutdown().unwrap().delivered, 20);
}

#[test]
fn deadlines_and_other_partitions_go_on_while_a_callback_blocks() {
    let cluster = cluster(3);
    let (release, blocked) = mpsc::channel::<()>();
    let (send, begun) = mpsc::channel();
    let producer = async_producer(&cluster)
        .delivery_timeout(ms(500))
        .on_delivery(move |_| {
            let _ = send.send(());
            assert!(blocked.recv().is_err());
        })
        .build()
        .unwrap();
    producer.produce(Message::new("orders", "v").with_partition(0)).unwrap();
    producer.deliver_messages();
    begun.recv_timeout(LONG).unwrap();
    let stalled = cluster.inject(Fault::on(Api::Produce).partition(2).error(ErrorCode::NOT_ENOUGH_REPLICAS));
    for n in 0..50 {
        producer.produce(Message::new("orders", n.to_string()).with_partition(1).with_key("k")).unwrap();
    }
    let late = producer.produce_with_handle(Message::new("orders", "v").with_partition(2)).unwrap();
    let began = Instant::now();
    let error = late.wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    let stored = cluster.wait_for("orders", 51, LONG).unwrap();
    assert_eq!(stored.iter().filter(|message| message.partition == 1).count(), 50);
    assert!(stalled.hits() > 0);
    assert_eq!(begun.try_recv(), Err(mpsc::TryRecvError::Empty), "the callback still blocks");
    drop(release);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (51, 1));
}

#[test]
fn a_wait_in_a_callback_for_which_the_buffer_has_no_place_ends_with_delivery_timeout() {
    let cluster = cluster(1);
    let own: Arc<OnceLock<AsyncProducer>> = Arc::default();
    let inside = Arc::clone(&own);
    let (send, told) = mpsc::channel();
    // The message of the callback has the only place, and so the one that is waited for cannot leave.
    let producer = async_producer(&cluster)
        .max_buffer_size(1)
        .delivery_timeout(ms(400))
        .on_delivery(move |_| {
            let handle = |tag| {
                let message = Message::new("orders", "waited for inside").with_tag(tag);
                inside.get().unwrap().produce_with_handle(message).unwrap()
            };
            let patient = handle(1).wait();
            let hasty = handle(2).wait_timeout(ms(20));
            send.send((patient, hasty)).unwrap();
        })
        .build()
        .unwrap();
    own.set(producer.clone()).unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    let (patient, hasty) = told.recv_timeout(LONG).unwrap();
    let error = patient.unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
    assert_eq!((error.persistence(), error.message().tag()), (Persistence::No, 1));
    let handle = hasty.expect_err("no fate yet").into_handle();
    assert_eq!(handle.wait().unwrap().tag, 2, "the callback has returned, and it goes on");
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (2, 1));
}

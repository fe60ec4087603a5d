//! Both producers while no broker answers: nothing is lost, nothing hangs, every bound holds.

#![expect(clippy::disallowed_methods, reason = "threads and clocks are what is tested")]
#![expect(clippy::unwrap_used, reason = "it is a test, helpers included")]

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ottla::{
    AsyncProducer, AsyncProducerBuilder, BufferLimit, Client, Delivered, DeliveryError, DeliveryErrorKind,
    DeliveryHandle, FlushError, FlushReport, Message, MetadataError, OnOverflow, Persistence, ProduceErrorKind,
    ShutdownError,
};

#[test]
fn shutdown_in_time_hands_back_every_message_in_order() {
    let producer = down().build().unwrap();
    for n in 0..300 {
        producer.produce(Message::new("orders", format!("{n}")).with_key("k").with_tag(n)).unwrap();
    }
    let began = Instant::now();
    let report = producer.shutdown_within(ms(300)).unwrap();
    assert!(began.elapsed() < ms(2000), "{:?}", began.elapsed());
    assert_eq!((report.delivered, report.failed, report.given_up), (0, 0, 300));
    let tags: Vec<u64> = report.undelivered.iter().map(|error| error.message().tag()).collect();
    assert_eq!(tags, (0..300).collect::<Vec<_>>());
    for error in report.undelivered {
        assert!(matches!(error.kind(), DeliveryErrorKind::ShutDown { last: Some(_) }), "{error}");
        assert_eq!(error.persistence(), Persistence::No);
        assert_eq!(error.message().value(), Some(error.message().tag().to_string().as_bytes()));
    }
}

#[test]
fn shutdown_again_and_from_many_threads_gives_the_messages_once() {
    let producer = down().build().unwrap();
    for _ in 0..10 {
        producer.produce(Message::new("orders", "v")).unwrap();
    }
    let (begin, handed) = (Barrier::new(4), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                begin.wait();
                let report = producer.shutdown_within(ms(100)).unwrap();
                assert_eq!(report.given_up, 10);
                handed.fetch_add(report.undelivered.len() as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(handed.into_inner(), 10);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.given_up, report.undelivered.len()), (10, 0));
}

#[test]
fn messages_after_shutdown_come_back() {
    let producer = down().build().unwrap();
    assert_eq!(producer.shutdown().unwrap().given_up, 0, "nothing was started");
    let error = producer.produce(Message::new("orders", "late")).unwrap_err();
    assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}");
    assert_eq!(error.into_message().value(), Some(&b"late"[..]));
    assert!(producer.purge().unwrap().is_empty());
    assert_eq!(producer.flush(ms(10)).unwrap(), FlushReport::default());
}

#[test]
fn sums_match_when_shutdown_meets_producing_threads() {
    for round in 0..20 {
        let producer = down().max_queue_size(500).delivery_threshold(round % 3 * 50).build().unwrap();
        let accepted = AtomicU64::new(0);
        let begin = Barrier::new(9);
        let report = thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    begin.wait();
                    loop {
                        match producer.produce(Message::new("orders", "v")) {
                            Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                            Err(error) if error.is_buffer_overflow() => continue,
                            Err(error) => {
                                assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}");
                                break;
                            }
                        };
                    }
                });
            }
            begin.wait();
            while producer.queue_size() < 100 {
                thread::yield_now();
            }
            producer.shutdown_within(ms(20)).unwrap()
        });
        let accepted = accepted.into_inner();
        assert_eq!(report.delivered + report.failed + report.given_up, accepted);
        assert_eq!(report.undelivered.len() as u64, accepted);
        assert!(accepted <= 500, "nothing was written, so no place became free: {accepted}");
    }
}

#[test]
fn purge_takes_back_what_waits_and_handles_get_purged() {
    let producer = down().build().unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "with a handle")).unwrap();
    for n in 0..20 {
        producer.produce(Message::new(if n % 2 == 0 { "orders" } else { "parcels" }, "v").with_tag(n)).unwrap();
        if n == 10 {
            producer.deliver_messages();
        }
    }
    let mut tags: Vec<u64> = producer.purge().unwrap().map(|error| error.message().tag()).collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..20).collect::<Vec<_>>());
    let error = handle.wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::Purged), "{error}");
    assert_eq!(producer.queue_size(), 0);
    let report = producer.shutdown().unwrap();
    assert_eq!((report.failed, report.given_up, report.failures.len()), (21, 0, 0));
}

#[test]
fn flush_says_what_is_left_and_what_is_in_the_way() {
    let producer = down().delivery_timeout(ms(1000)).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    let error = producer.flush(ms(100)).unwrap_err();
    let FlushError::Timeout { unfinished: 1, last_error: Some(_), .. } = error else { panic!("{error:?}") };
    let report = producer.flush(Duration::MAX).unwrap();
    assert_eq!((report.delivered, report.failed), (0, 1), "delivery_timeout ended it");
    assert_eq!(producer.shutdown().unwrap().failures.len(), 1);
}

#[test]
fn a_full_queue_refuses_exactly_and_a_waiting_caller_gets_a_place() {
    let producer = down().max_queue_size(10).delivery_timeout(ms(500)).build().unwrap();
    for _ in 0..10 {
        producer.produce(Message::new("orders", "v")).unwrap();
    }
    let error = producer.produce(Message::new("orders", "one too many")).unwrap_err();
    let ProduceErrorKind::BufferOverflow(overflow) = error.kind() else { panic!("{error}") };
    assert_eq!((overflow.queued, overflow.limit), (10, BufferLimit::QueueSize(10)));
    assert_eq!(producer.queue_size(), 10);
    let began = Instant::now();
    let error = producer.produce_timeout(Message::new("orders", "v"), ms(50)).unwrap_err();
    assert!(error.is_buffer_overflow() && began.elapsed() >= ms(50));
    producer.produce_timeout(error.into_message(), Duration::MAX).unwrap();
    assert_eq!(producer.shutdown().unwrap().failed, 11);
}

#[test]
fn blocking_on_overflow_is_an_option() {
    let producer = down().max_queue_size(1).on_overflow(OnOverflow::Block(ms(60))).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    let began = Instant::now();
    assert!(producer.produce(Message::new("orders", "v")).unwrap_err().is_buffer_overflow());
    assert!(began.elapsed() >= ms(60));
    assert_eq!(producer.shutdown_within(ms(1)).unwrap().given_up, 1);
}

#[test]
fn who_waits_for_room_learns_of_the_shutdown() {
    let producer = down().max_queue_size(1).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    let waiting = producer.clone();
    let waiter = thread::spawn(move || waiting.produce_timeout(Message::new("orders", "w"), Duration::MAX));
    thread::sleep(ms(50));
    assert_eq!(producer.shutdown_within(ms(50)).unwrap().given_up, 1);
    let error = waiter.join().unwrap().unwrap_err();
    assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}");
}

#[test]
fn failures_that_nobody_took_are_kept_up_to_the_size_of_the_queue() {
    let producer = down().max_queue_size(5).delivery_timeout(ms(200)).build().unwrap();
    for n in 0..12 {
        producer.produce_timeout(Message::new("orders", "v").with_tag(n), Duration::MAX).unwrap();
    }
    let mut report = producer.shutdown().unwrap();
    assert_eq!((report.failed, report.failures.len(), report.failures_dropped), (12, 5, 7));
    let tags: Vec<u64> = report.failures.iter().map(|error| error.message().tag()).collect();
    assert_eq!(tags, [7, 8, 9, 10, 11], "the last ones");
    assert!(report.failures.all(|error| matches!(error.kind(), DeliveryErrorKind::Timeout { last: Some(_), .. })));
}

#[test]
fn a_dropped_producer_gives_up_in_time_and_tells_its_handles() {
    let producer = down().drop_timeout(ms(100)).build().unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "v").with_tag(9)).unwrap();
    let clone = producer.clone();
    drop(producer);
    clone.produce(Message::new("orders", "still open")).unwrap();
    let began = Instant::now();
    drop(clone);
    assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());
    let error = handle.wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::ShutDown { .. }), "{error}");
    assert_eq!(error.message().tag(), 9);
}

#[test]
fn a_producer_that_never_produced_ends_at_once() {
    let began = Instant::now();
    drop(down().drop_timeout(Duration::from_secs(60)).build().unwrap());
    assert!(began.elapsed() < ms(500));
}

#[test]
fn callbacks_get_failures_once_and_may_panic() {
    let (send, seen) = mpsc::channel();
    let producer = with_callback(move |fate| {
        let tag = fate.unwrap_err().message().tag();
        send.send(tag).unwrap();
        assert!(tag % 2 == 0, "a callback of the test panics");
    });
    let handle = producer.produce_with_handle(Message::new("orders", "v").with_tag(99)).unwrap();
    for n in 0..6 {
        producer.produce(Message::new("orders", "v").with_tag(n)).unwrap();
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.failed, report.failures.len()), (7, 0));
    assert_eq!(handle.wait().unwrap_err().message().tag(), 99);
    assert_eq!(seen.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "and the callback was dropped");
}

#[test]
fn waiting_inside_a_callback_is_refused_and_producing_does_not_block() {
    let (send, seen) = mpsc::channel();
    let own: Arc<Mutex<Option<AsyncProducer>>> = Arc::default();
    let inside = Arc::clone(&own);
    let producer = down()
        .delivery_timeout(ms(150))
        .max_queue_size(1)
        .on_overflow(OnOverflow::Block(Duration::from_secs(600)))
        .on_delivery(move |_| {
            let producer = inside.lock().unwrap().take();
            if let Some(producer) = producer {
                assert!(matches!(producer.flush(ms(1)), Err(FlushError::InCallback)));
                assert!(matches!(producer.shutdown(), Err(ShutdownError::InCallback)));
                producer.produce(Message::new("orders", "from inside")).unwrap();
                let error = producer.produce(Message::new("orders", "v")).unwrap_err();
                assert!(error.is_buffer_overflow());
                send.send(producer.purge().unwrap().len()).unwrap();
            }
        })
        .build()
        .unwrap();
    *own.lock().unwrap() = Some(producer.clone());
    producer.produce(Message::new("orders", "v")).unwrap();
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(1));
    assert_eq!(producer.shutdown().unwrap().failed, 2);
}

#[test]
fn the_last_clone_can_be_dropped_inside_a_callback() {
    let (send, seen) = mpsc::channel();
    let own: Arc<Mutex<Option<AsyncProducer>>> = Arc::default();
    let inside = Arc::clone(&own);
    let producer = with_callback(move |_| {
        let last = inside.lock().unwrap().take();
        if last.is_some() {
            drop(last);
            send.send(()).unwrap();
        }
    });
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    *own.lock().unwrap() = Some(producer);
    seen.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Err(mpsc::RecvTimeoutError::Disconnected), "all ended");
}

#[test]
fn a_blocked_callback_does_not_hold_up_a_shutdown_in_time() {
    let (release, blocked) = mpsc::channel::<()>();
    let producer = with_callback(move |_| assert!(blocked.recv().is_err()));
    producer.produce(Message::new("orders", "v")).unwrap();
    let began = Instant::now();
    let report = producer.shutdown_within(ms(600)).unwrap();
    assert!(began.elapsed() < ms(2500), "{:?}", began.elapsed());
    assert_eq!(report.failed, 1);
    drop(release);
}

#[test]
fn handles_wait_together_and_can_be_asked() {
    let producer = down().delivery_timeout(ms(200)).build().unwrap();
    let handle = |tag| producer.produce_with_handle(Message::new("orders", "v").with_tag(tag)).unwrap();
    let handles: Vec<DeliveryHandle> = (0..5).map(handle).collect();
    let late = handle(9).try_get().unwrap_err().wait_timeout(ms(1)).unwrap_err().into_handle();
    let fates = DeliveryHandle::wait_all(handles);
    let tags: Vec<u64> = fates.into_iter().map(|fate| fate.unwrap_err().message().tag()).collect();
    assert_eq!(tags, [0, 1, 2, 3, 4]);
    drop(producer);
    assert_eq!(late.wait().unwrap_err().message().tag(), 9, "it outlives its producer");
}

#[test]
fn an_interval_makes_messages_leave_by_themselves() {
    let producer = down().delivery_interval(ms(20)).delivery_timeout(ms(100)).max_queue_size(4).build().unwrap();
    let began = Instant::now();
    let mut handle = Some(producer.produce_with_handle(Message::new("orders", "v")).unwrap());
    while let Some(waiting) = handle.take() {
        assert!(began.elapsed() < Duration::from_secs(10), "it never left");
        thread::sleep(ms(5));
        handle = waiting.try_get().err();
    }
    assert!(began.elapsed() >= ms(100));
    assert_eq!(producer.shutdown().unwrap().failed, 1);
}

#[test]
fn the_number_of_partitions_needs_a_broker() {
    let producer = down().build().unwrap();
    let error = producer.partitions_for("orders", ms(200)).unwrap_err();
    assert!(matches!(error, MetadataError::Timeout { last_error: Some(_), .. }), "{error:?}");
    assert!(matches!(producer.partitions_for("no topic!", ms(1)), Err(MetadataError::InvalidTopic(_))));
    drop(producer.shutdown().unwrap());
    assert!(matches!(producer.partitions_for("orders", ms(1)), Err(MetadataError::Closed)));
}

#[test]
fn the_sync_buffer_keeps_what_was_not_delivered() {
    let mut producer = client().producer().delivery_timeout(ms(200)).max_buffer_size(3).build().unwrap();
    assert!(producer.deliver_messages().is_ok(), "nothing to do");
    for n in 0..3 {
        producer.produce(Message::new("orders", "value").with_tag(n)).unwrap();
    }
    let error = producer.produce(Message::new("orders", "value")).unwrap_err();
    assert!(error.is_buffer_overflow(), "{error}");
    for _ in 0..2 {
        let began = Instant::now();
        let failed = producer.deliver_messages().unwrap_err();
        assert!(began.elapsed() >= ms(200) && began.elapsed() < ms(2000), "{:?}", began.elapsed());
        assert_eq!((failed.failed.len(), failed.remaining), (0, 3));
        assert!(failed.last_error.is_some());
        assert_eq!(producer.buffer_size(), 3);
        assert!(producer.buffer_bytesize() > 15);
    }
    let errors = producer.clear_buffer();
    let tags: Vec<u64> = errors.iter().map(|error| error.message().tag()).collect();
    assert_eq!(tags, [0, 1, 2]);
    assert!(errors.iter().all(|error| error.persistence() == Persistence::No));
    assert_eq!((producer.buffer_size(), producer.buffer_bytesize()), (0, 0));
    producer.produce(Message::new("orders", "value").with_tag(7)).unwrap();
    assert!(producer.deliver_messages().is_err(), "it goes on with new connections");
    assert_eq!(producer.shutdown().next().map(|error| error.message().tag()), Some(7));
}

fn with_callback<F>(callback: F) -> AsyncProducer
where
    F: FnMut(Result<&Delivered, DeliveryError>) + Send + 'static,
{
    down().delivery_timeout(ms(150)).on_delivery(callback).build().unwrap()
}

fn down() -> AsyncProducerBuilder {
    client().async_producer()
}

/// A client of a port where nobody listens.
fn client() -> Client {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Client::builder([format!("127.0.0.1:{port}")]).build().unwrap()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

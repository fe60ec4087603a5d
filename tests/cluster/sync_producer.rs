//! The producer that works on the caller's thread.

use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault};
use ottla::{BufferLimit, ErrorCode, Message, Persistence, ProduceErrorKind, RequiredAcks};

use crate::common::*;

#[test]
fn it_sends_nothing_before_it_delivers_and_everything_then() {
    let cluster = cluster(3);
    let mut producer = sync_producer(&cluster).build().unwrap();
    producer.deliver_messages().unwrap();
    assert!(cluster.requests().is_empty(), "there was nothing to deliver");
    for round in 1..4 {
        let mut bytes = 0;
        for n in 0..200 {
            let n = n + 200 * (round - 1);
            producer.produce(Message::new("orders", n.to_string()).with_key("k")).unwrap();
            assert!(producer.buffer_bytesize() > bytes);
            bytes = producer.buffer_bytesize();
        }
        assert_eq!((producer.buffer_size(), cluster.messages("orders").len()), (200, 200 * (round - 1)));
        producer.deliver_messages().unwrap();
        assert_eq!((producer.buffer_size(), producer.buffer_bytesize()), (0, 0));
        assert_in_order(&cluster.messages("orders"), 200 * round);
    }
    assert!(producer.shutdown().is_empty());
    wait_until("the connections are closed", || cluster.connections() == 0);
}

#[test]
fn what_was_not_delivered_stays_and_is_delivered_once_the_broker_is_back() {
    let cluster = cluster(2);
    let mut producer = sync_producer(&cluster).delivery_timeout(ms(200)).build().unwrap();
    let mut count = 0;
    for round in 0..3 {
        cluster.stop_broker(1);
        for _ in 0..100 {
            producer.produce(Message::new("orders", count.to_string()).with_key("k")).unwrap();
            count += 1;
        }
        for _ in 0..2 {
            let began = Instant::now();
            let failed = producer.deliver_messages().unwrap_err();
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            assert_eq!((failed.failed.len(), failed.remaining, producer.buffer_size()), (0, 100, 100));
            assert_eq!(&*connection(failed.last_error.as_deref().unwrap()).address, cluster.bootstrap());
            assert!(failed.to_string().contains("100 stay in the buffer"), "{failed}");
        }
        cluster.restart_broker(1).unwrap();
        deliver_at_last(&mut producer);
        assert_in_order(&cluster.messages("orders"), 100 * (round + 1));
    }
}

#[test]
fn what_is_delivered_gives_back_all_the_bytes_that_it_took() {
    let cluster = cluster(2);
    let _refused = cluster.inject(Fault::on(Api::Produce).partition(1).error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let mut producer = sync_producer(&cluster).max_retries(0).build().unwrap();
    producer.produce(Message::new("orders", "stays").with_partition(1)).unwrap();
    let bytes = producer.buffer_bytesize();
    for round in 0..20 {
        for n in 0..50 {
            let message = Message::new("orders", n.to_string()).with_partition(0);
            let message = if n % 3 == 0 { message.with_tag(n).with_header("name", "value") } else { message };
            let message = if n % 5 == 0 { message.with_key("k").with_partition_key("partition") } else { message };
            producer.produce(message).unwrap();
        }
        let failed = producer.deliver_messages().unwrap_err();
        assert_eq!((failed.failed.len(), failed.remaining), (0, 1));
        assert_eq!((producer.buffer_size(), producer.buffer_bytesize()), (1, bytes), "after round {round}");
    }
    assert_eq!(cluster.messages("orders").len(), 1000);
}

#[test]
fn an_append_that_was_not_acknowledged_is_not_repeated_by_the_next_call() {
    let cluster = cluster(1);
    let mut producer = sync_producer(&cluster).delivery_timeout(ms(150)).build().unwrap();
    producer.produce(Message::new("orders", "0")).unwrap();
    deliver_at_last(&mut producer);
    let faults = [
        Fault::on(Api::Produce).cut_after(),
        Fault::on(Api::Produce).error_after(ErrorCode::REQUEST_TIMED_OUT),
        Fault::on(Api::Produce).wrong_correlation(),
        Fault::on(Api::Produce).cut_inside(9),
    ];
    let mut count = 1;
    for fault in faults {
        let guard = cluster.inject(fault);
        for _ in 0..10 {
            producer.produce(Message::new("orders", count.to_string())).unwrap();
            count += 1;
        }
        let failed = producer.deliver_messages().unwrap_err();
        assert_eq!((failed.failed.len(), failed.remaining), (0, 10));
        drop(guard);
        deliver_at_last(&mut producer);
        assert_in_order(&cluster.messages("orders"), count);
    }
}

#[test]
fn what_can_never_be_delivered_leaves_the_buffer_and_the_rest_is_delivered() {
    let cluster = cluster(2);
    let mut producer = sync_producer(&cluster).build().unwrap();
    for n in 0..9 {
        producer.produce(Message::new("orders", "v").with_partition(n % 3).with_tag(n as u64)).unwrap();
    }
    let failed = producer.deliver_messages().unwrap_err();
    assert_eq!((failed.remaining, producer.buffer_size()), (0, 0));
    assert_eq!(failed.failed.iter().map(|error| error.message().tag()).collect::<Vec<_>>(), [2, 5, 8]);
    assert!(failed.failed.iter().all(|error| error.persistence() == Persistence::No));
    assert!(failed.to_string().contains("no partition 2"), "{failed}");
    assert_eq!(cluster.messages("orders").len(), 6);
    producer.deliver_messages().unwrap();
}

#[test]
fn the_buffer_can_be_cleared_and_says_what_may_be_written() {
    let cluster = cluster(1);
    let mut producer = sync_producer(&cluster).delivery_timeout(ms(100)).build().unwrap();
    let stalled = cluster.inject(Fault::on(Api::Produce).times(1).stall());
    for tag in 0..3 {
        producer.produce(Message::new("orders", "v").with_key("k").with_tag(tag)).unwrap();
    }
    assert_eq!(producer.deliver_messages().unwrap_err().remaining, 3);
    producer.produce(Message::new("orders", "v").with_tag(3)).unwrap();
    let cleared = producer.clear_buffer();
    assert_eq!((cleared.len(), producer.buffer_size(), producer.buffer_bytesize()), (4, 0, 0));
    for error in cleared.iter() {
        let expected = if error.message().tag() < 3 { Persistence::Possibly } else { Persistence::No };
        assert_eq!(error.persistence(), expected, "{error}");
    }
    drop(stalled);
    wait_until("the broker handles it", || cluster.connections() == 0);
    let before = cluster.messages("orders").len();
    producer.produce(Message::new("orders", "after")).unwrap();
    deliver_at_last(&mut producer);
    let stored = cluster.messages("orders");
    assert_eq!((stored.len(), stored.last().unwrap().value_str()), (before + 1, Some("after")));
    producer.produce(Message::new("orders", "never sent").with_tag(9)).unwrap();
    let left = producer.shutdown();
    let left: Vec<_> = left.map(|error| (error.message().tag(), error.persistence())).collect();
    assert_eq!(left, [(9, Persistence::No)]);
}

#[test]
fn what_was_answered_after_the_last_call_is_not_handed_back_as_possibly_written() {
    let cluster = cluster(1);
    let late = ms(200);
    let _late = cluster.inject(Fault::on(Api::Produce).delay(late));
    // On a busy machine the answer may need more than twice its time.
    let requests = || cluster.requests().iter().filter(|request| request.api == Api::Produce).count();
    let left = [2, 20, 100].map(|times| {
        let mut producer = sync_producer(&cluster).delivery_timeout(ms(100)).build().unwrap();
        producer.produce(Message::new("orders", "v")).unwrap();
        let before = requests();
        while requests() == before {
            let _ = producer.deliver_messages();
        }
        thread::sleep(times * late);
        producer.shutdown().len()
    });
    assert!(left.contains(&0), "{left:?}");
}

#[test]
fn the_buffer_is_bounded_in_messages_and_bytes() {
    let cluster = cluster(1);
    let mut producer = sync_producer(&cluster).max_buffer_size(10).build().unwrap();
    for _ in 0..10 {
        producer.produce(Message::new("orders", "v")).unwrap();
    }
    let error = producer.produce(Message::new("orders", "one more")).unwrap_err();
    let ProduceErrorKind::BufferOverflow(overflow) = error.kind() else { panic!("{error}") };
    assert_eq!((overflow.queued, overflow.limit), (10, BufferLimit::BufferSize(10)));
    producer.deliver_messages().unwrap();
    producer.produce(error.into_message()).unwrap();
    producer.deliver_messages().unwrap();
    assert_eq!(cluster.messages("orders").len(), 11);

    let mut producer = sync_producer(&cluster).max_message_bytes(1000).max_buffer_bytesize(5000).build().unwrap();
    let value = "x".repeat(500);
    let refused = (0..20).find_map(|_| producer.produce(Message::new("orders", &value)).err()).unwrap();
    let ProduceErrorKind::BufferOverflow(overflow) = refused.kind() else { panic!("{refused}") };
    assert_eq!(overflow.limit, BufferLimit::BufferBytesize(5000));
    assert!(producer.buffer_bytesize() <= 5000);
}

#[test]
fn fewer_acks_and_an_async_producer_from_its_options() {
    let cluster = cluster(1);
    for acks in [RequiredAcks::None, RequiredAcks::Leader, RequiredAcks::All] {
        let mut producer = sync_producer(&cluster).required_acks(acks).max_message_bytes(500).build().unwrap();
        producer.produce(Message::new("orders", "v")).unwrap();
        producer.deliver_messages().unwrap();
        let changed = producer.into_async().build().unwrap();
        let error = changed.produce(Message::new("orders", "x".repeat(600))).unwrap_err();
        assert!(matches!(error.kind(), ProduceErrorKind::MessageTooLarge { limit: 500, .. }));
        changed.produce(Message::new("orders", "v")).unwrap();
        assert_eq!(changed.shutdown().unwrap().delivered, 1);
    }
    cluster.wait_for("orders", 6, LONG).unwrap();
    let idempotent = cluster.messages("orders").iter().filter(|message| message.producer_id >= 0).count();
    assert_eq!(idempotent, 2);
}

#[test]
fn three_brokers_stop_and_come_back_between_its_calls() {
    let cluster = Cluster::builder().brokers(3).topic("orders", 6).start().unwrap();
    let mut producer = sync_producer(&cluster).build().unwrap();
    let mut count = 0;
    for node in [1, 2, 3, 1, 2, 3] {
        cluster.stop_broker(node);
        for _ in 0..20 {
            for key in ["a", "b", "c"] {
                producer.produce(Message::new("orders", count.to_string()).with_key(key)).unwrap();
            }
            count += 1;
        }
        producer.deliver_messages().unwrap();
        cluster.restart_broker(node).unwrap();
    }
    assert_in_order(&cluster.messages("orders"), 3 * count);
}

/// Delivers; on a busy machine one call may have too little time.
fn deliver_at_last(producer: &mut ottla::Producer) {
    let began = Instant::now();
    while let Err(failed) = producer.deliver_messages() {
        assert!(failed.failed.is_empty() && began.elapsed() < LONG, "{failed}");
    }
}

//! What is said of the causes of waits: each topic, partition and broker has its own, and only its own success ends it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ProduceResponse;
use ottla::queue::{Limits, Prepared, Queue, Refused, Sealed};
use ottla::testing::{Api, Fault};
use ottla::{DeliveryErrorKind, ErrorCode, Message, Partitioner, Persistence, Timestamp};

use crate::bench::{Bench, Twist};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What the engine says is in the way.
fn said(bench: &Bench) -> String {
    bench.engine.last_error().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

#[test]
fn a_missing_topic_is_named_as_long_as_it_is_waited_for_although_others_are_delivered() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("b", 1).auto_create(false));
    bench.append(&Message::new("a", "v"));
    bench.pass(ms(500));
    for n in 0..200 {
        bench.append(&Message::new("b", "v"));
        bench.pass(ms(100));
        assert!(said(&bench).contains("topic a does not exist"), "look {n}: {}", said(&bench));
    }
    bench.cluster.make_topic("a", 1);
    bench.pass(secs(2));
    assert_eq!((bench.delivered.len(), bench.failed.len(), &*said(&bench)), (201, 0, "nothing"));
}

#[test]
fn a_partition_without_a_leader_is_named_until_it_has_one() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 2).topic("b", 1));
    bench.append(&Message::new("a", "v").with_partition(0));
    bench.pass(secs(1));
    bench.cluster.depose_leader("a", 1);
    bench.append(&Message::new("a", "v").with_partition(1));
    bench.pass(ms(500));
    for _ in 0..100 {
        bench.append(&Message::new("b", "v"));
        bench.append(&Message::new("a", "v").with_partition(0));
        bench.pass(ms(100));
        for part in ["a-1", "LEADER_NOT_AVAILABLE"] {
            assert!(said(&bench).contains(part), "{}", said(&bench));
        }
    }
    bench.cluster.move_leader("a", 1, 1);
    bench.pass(secs(2));
    assert_eq!((bench.delivered.len(), bench.failed.len(), &*said(&bench)), (202, 0, "nothing"));
}

#[test]
fn a_topic_whose_batches_are_refused_is_named_while_others_are_delivered() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1).topic("b", 1));
    // NOT_ENOUGH_REPLICAS
    bench.cluster.inject(Fault::on(Api::Produce).topic("a").error(ErrorCode::NOT_ENOUGH_REPLICAS));
    bench.append(&Message::new("a", "v"));
    bench.pass(ms(500));
    for _ in 0..100 {
        bench.append(&Message::new("b", "v"));
        bench.pass(ms(100));
        assert!(said(&bench).contains("a-0: NOT_ENOUGH_REPLICAS"), "{}", said(&bench));
    }
    bench.cluster.heal();
    bench.pass(secs(2));
    assert_eq!((bench.delivered.len(), bench.failed.len(), &*said(&bench)), (101, 0, "nothing"));
}

#[test]
fn a_topic_whose_messages_fail_at_once_is_named_for_a_while_and_not_for_ever() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1).topic("b", 1));
    // TOPIC_AUTHORIZATION_FAILED
    bench.cluster.inject(Fault::on(Api::Produce).topic("a").error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    for n in 0..40 {
        bench.append(&Message::new("a", "v"));
        bench.append(&Message::new("b", "v"));
        bench.pass(ms(100));
        assert!(said(&bench).contains("TOPIC_AUTHORIZATION_FAILED"), "look {n}: {}", said(&bench));
    }
    assert_eq!(bench.failed.len(), 40);
    for _ in 0..15 {
        bench.append(&Message::new("b", "v"));
        bench.pass(secs(1));
    }
    assert_eq!(said(&bench), "nothing", "nobody produces to it any more");
}

#[test]
fn what_is_given_up_names_the_cause_of_its_own_topic_and_partition() {
    let configure = |config: &mut ottla::config::ProducerConfig| config.delivery_timeout = secs(5);
    for gives_up in [true, false] {
        let describe = |cluster: ottla::testing::ClusterBuilder| cluster.topic("b", 2).auto_create(false);
        let mut bench = Bench::with(1, describe, configure);
        let c = bench.know("c");
        bench.cluster.make_topic("c", 2);
        bench.cluster.inject(Fault::on(Api::Produce).topic("b").error(ErrorCode::NOT_ENOUGH_REPLICAS));
        bench.cluster.depose_leader("c", 1);
        bench.append(&Message::new("a", "a"));
        bench.append(&Message::new("b", "b").with_partition(1));
        bench.append_to(c, &Message::new("c", "c").with_partition(1));
        bench.pass(secs(2));
        if gives_up {
            bench.engine.abandon(bench.now());
        }
        bench.pass(secs(4));
        assert_eq!(bench.failed.len(), 3);
        for error in &bench.failed {
            let (text, kind) = (error.to_string(), error.kind());
            let timed_out = matches!(kind, DeliveryErrorKind::Timeout { after, .. } if *after == secs(5));
            assert!(timed_out || matches!(kind, DeliveryErrorKind::ShutDown { .. }), "{text}");
            let cause = match error.message().value() {
                Some(b"a") => "topic a does not exist",
                Some(b"b") => "b-1: NOT_ENOUGH_REPLICAS",
                _ => "c-1: LEADER_NOT_AVAILABLE",
            };
            assert!(text.contains(cause), "not {cause}: {text}");
        }
    }
}

#[test]
fn a_quota_is_named_while_its_silence_is_waited_for() {
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1), |config| config.delivery_timeout = secs(3));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.cluster.inject(Fault::on(Api::Produce).times(1).throttle(secs(5)));
    bench.append(&Message::new("a", "1"));
    bench.pass(ms(100));
    bench.append(&Message::new("a", "2"));
    bench.pass(ms(100));
    assert!(said(&bench).contains("quota"), "{}", said(&bench));
    bench.pass(secs(3));
    let [error] = &bench.failed[..] else { panic!("{:?}", bench.failed) };
    assert_eq!(error.persistence(), Persistence::No);
    for part in ["delivery_timeout", "127.0.0.1:9000", "5s", "quota"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    bench.pass(secs(2));
    bench.append(&Message::new("a", "3"));
    bench.pass(secs(1));
    assert_eq!((bench.delivered.len(), &*said(&bench)), (3, "nothing"), "its next answer asks for none");
}

#[test]
fn ten_thousand_missing_topics_are_waited_for_and_then_forgotten() {
    let configure = |config: &mut ottla::config::ProducerConfig| config.unknown_topic_grace = secs(3);
    let mut bench = Bench::with(1, |cluster| cluster.topic("b", 1).auto_create(false), configure);
    for n in 0..10_000 {
        let topic = bench.know(&format!("topic-{n}"));
        bench.append_to(topic, &Message::new("topic", "v"));
    }
    bench.pass(secs(2));
    assert!(said(&bench).contains("does not exist"), "{}", said(&bench));
    bench.pass(secs(3));
    assert_eq!(bench.failed.len(), 10_000);
    bench.append(&Message::new("b", "v"));
    bench.pass(secs(20));
    bench.append(&Message::new("b", "v"));
    bench.pass(secs(1));
    assert_eq!((bench.delivered.len(), &*said(&bench)), (2, "nothing"));
}

/// A queue of 100 places before the engine. Offers a message; what is due goes into the engine, and what it let go is
/// free.
fn offer(bench: &mut Bench, (queue, sealed): &mut (Queue, Sealed), topic: &str) -> Result<(), Refused> {
    let (message, now) = (Message::new(topic, "v"), bench.now());
    let message = Prepared::new(&message, 1000, Timestamp::from_millis(0)).expect("a good message");
    let offered = queue.offer(&message, &mut None, None, || Some(now)).map(drop);
    let (mut chunks, mut told) = (VecDeque::new(), Vec::new());
    let _ = queue.deliver();
    queue.take_due(sealed, &mut chunks);
    chunks.iter_mut().for_each(|chunk| bench.engine.append(chunk, now));
    bench.pass(ms(1));
    let released = bench.engine.take_released();
    queue.release(released.messages, released.bytes);
    bench.engine.take_held_up(&mut told);
    told.into_iter().for_each(|told| drop(queue.hold_up(told.topic, told.cause)));
    offered
}

/// Or it would stay refused as long as another topic fills half of the queue, also after it is well again: the engine
/// asks only for topics that have messages.
#[test]
fn a_topic_that_is_held_up_is_spoken_of_again_when_its_last_message_has_failed() {
    let configure = |config: &mut ottla::config::ProducerConfig| config.delivery_timeout = secs(5);
    for is_missing in [true, false] {
        let mut bench = Bench::with(1, |cluster| cluster.topic("b", 1).auto_create(false), configure);
        if !is_missing {
            bench.cluster.make_topic("a", 1);
            bench.cluster.depose_leader("a", 0);
        }
        let words = |bench: &mut Bench| {
            let mut told = Vec::new();
            bench.engine.take_held_up(&mut told);
            told.into_iter().map(|told| told.cause.map(|why| Arc::as_ptr(&why))).collect::<Vec<_>>()
        };
        bench.append(&Message::new("a", "v"));
        bench.pass(secs(4));
        let told = words(&mut bench);
        assert!(told.last().is_some_and(Option::is_some), "{told:?}");
        bench.pass(secs(40));
        assert_eq!(bench.failed.len(), 1);
        let again = words(&mut bench);
        let again = again.last().expect("it has no message any more");
        assert!(again.is_none() || told.last() == Some(again), "{told:?} {again:?}");
    }
}

#[test]
fn a_bad_topic_beside_a_good_one_does_not_use_up_the_queue() {
    for cause in ["topic a does not exist", "a-0: LEADER_NOT_AVAILABLE", "a-0: NOT_ENOUGH_REPLICAS"] {
        let configure = |config: &mut ottla::config::ProducerConfig| config.delivery_timeout = secs(30);
        let mut bench = Bench::with(1, |cluster| cluster.topic("b", 1).auto_create(false), configure);
        if cause.contains("a-0") {
            bench.cluster.make_topic("a", 1);
        }
        if cause.contains("LEADER") {
            bench.cluster.depose_leader("a", 0);
        }
        if cause.contains("REPLICAS") {
            bench.cluster.inject(Fault::on(Api::Produce).topic("a").error(ErrorCode::NOT_ENOUGH_REPLICAS));
        }
        let interval = Duration::ZERO;
        let (messages, bytes, batch_bytes) = (100, 1_000_000, 1_000_000);
        let limits = Limits { messages, bytes, threshold: 0, interval, batch_bytes };
        let mut queue = Queue::new(limits, &Partitioner::crc32());
        queue.0.start();
        let (mut accepted, mut refused) = (0, 0);
        let bad = queue.0.topic("a").expect("a good name");
        assert!(offer(&mut bench, &mut queue, "b").is_ok());
        bench.pass(secs(1));
        // For 54 s. The messages of the bad one fail after 30, and it fills its half again.
        for round in 0..5_400 {
            let why = queue.0.held_up(bad).map_or_else(String::new, |why| why.to_string());
            match offer(&mut bench, &mut queue, "a") {
                Ok(()) => accepted += 1,
                Err(Refused::Full(full)) => {
                    assert!(full.held_up == Some(bad) && why.contains(cause), "round {round}: {why:?}");
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
            let good = offer(&mut bench, &mut queue, "b");
            assert!(good.is_ok(), "round {round}: {good:?}");
            bench.pass(ms(8));
        }
        assert!((100..=200).contains(&accepted) && refused > 5_000, "{accepted} accepted, {refused} refused: {cause}");
        let failed = bench.failed.len();
        assert!((50..100).contains(&failed), "{failed} failed: {cause}");
        // It appears, has a leader, or refuses no more.
        bench.cluster.heal();
        bench.cluster.make_topic("a", 1);
        bench.cluster.move_leader("a", 0, 1);
        bench.pass(secs(3));
        assert!(offer(&mut bench, &mut queue, "b").is_ok());
        for _ in 0..200 {
            assert!(offer(&mut bench, &mut queue, "a").is_ok());
        }
        bench.pass(secs(1));
        let ended = bench.delivered.len() + bench.failed.len();
        assert_eq!((ended, bench.failed.len()), (5_602 + accepted, failed), "nothing that was accepted is lost");
    }
}

/// Notes the error codes of every answer to a Produce request.
fn codes(bench: &mut Bench) -> Rc<RefCell<Vec<i16>>> {
    let codes = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&codes);
    bench.twist = Some(Twist::of(Api::Produce, move |answer: &mut ProduceResponse| {
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        noted.borrow_mut().extend(partitions.map(|partition| partition.error_code));
    }));
    codes
}

const TOO_LARGE: i16 = 10;

#[test]
fn a_topic_with_small_batches_refuses_a_handful_and_is_no_trouble() {
    for idempotent in [true, false] {
        let configure = |config: &mut ottla::config::ProducerConfig| config.idempotent = idempotent;
        let mut bench = Bench::with(1, |cluster| cluster.topic("a", 3).max_message_bytes(2000), configure);
        let codes = codes(&mut bench);
        for n in 0..3000 {
            bench.append(&Message::new("a", format!("{n:0700}")).with_partition(n % 3));
            if n % 500 == 499 {
                bench.pass(ms(10));
                assert_eq!(said(&bench), "nothing", "what is cut is delivered");
            }
        }
        bench.pass(secs(20));
        assert_eq!((bench.delivered.len(), bench.failed.len()), (3000, 0), "idempotent: {idempotent}");
        for partition in 0..3 {
            let log = bench.cluster.messages("a");
            let of_it = log.iter().filter(|message| message.partition == partition);
            let values: Vec<i32> = of_it.map(|it| it.value_str().unwrap().parse().unwrap()).collect();
            assert!(values.iter().copied().eq((0..3000).filter(|n| n % 3 == partition)), "{partition}: {values:?}");
        }
        let refused = codes.borrow().iter().filter(|code| **code == TOO_LARGE).count();
        assert!((1..=15).contains(&refused), "{refused} of {} batches were refused", codes.borrow().len());
        let batches = codes.borrow().len() - refused;
        assert!((1500..1700).contains(&batches), "{batches} batches of two messages");
    }
}

#[test]
fn a_message_that_is_too_large_alone_teaches_nothing() {
    let configure = |config: &mut ottla::config::ProducerConfig| config.max_batch_bytes = 1_000_000;
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1).max_message_bytes(100_000), configure);
    let codes = codes(&mut bench);
    bench.send(&Message::new("a", "x".repeat(200_000)));
    bench.pass(secs(1));
    assert_eq!((bench.failed.len(), bench.failed[0].persistence()), (1, Persistence::No));
    codes.borrow_mut().clear();
    for n in 0..900 {
        bench.append(&Message::new("a", format!("{n:0100}")));
    }
    bench.pass(secs(1));
    assert_eq!(bench.delivered.len(), 900);
    assert_eq!(*codes.borrow(), [0], "one batch is enough");
}

#[test]
fn what_was_refused_is_tried_again_now_and_then_and_batches_grow_if_it_is_taken() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1).max_message_bytes(10_000));
    let codes = codes(&mut bench);
    let rounds = |bench: &mut Bench, rounds: usize| {
        for _ in 0..rounds {
            for n in 0..1000 {
                bench.append(&Message::new("a", format!("{n:0100}")));
            }
            bench.pass(secs(10));
        }
    };
    rounds(&mut bench, 30);
    let refused = |codes: &RefCell<Vec<i16>>| codes.borrow().iter().filter(|code| **code == TOO_LARGE).count();
    assert!((1..=8).contains(&refused(&codes)), "{}", refused(&codes));
    codes.borrow_mut().clear();
    rounds(&mut bench, 180);
    // Those that are in flight together, twice.
    assert!((1..=10).contains(&refused(&codes)), "{} in half an hour", refused(&codes));
    bench.cluster.limit_messages(1_000_000);
    rounds(&mut bench, 240);
    codes.borrow_mut().clear();
    rounds(&mut bench, 10);
    assert_eq!(*codes.borrow(), [0; 10], "each round is one batch again");
    assert_eq!((bench.delivered.len(), bench.failed.len()), (460_000, 0));
}

//! Whole producers under shuttle: callers, worker, timer, delivery thread and broker take turns in the orders that it
//! picks, on the real code of all but locks, sockets and clocks (`sync::model`, `net::model`). tests/README.md says how
//! to run them, and how to run a failed order again.

use std::collections::BTreeSet;
use std::env;
use std::mem;
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, ReplayScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};

use crate::fate::Receipt;
use crate::fate::slot::testing::kept_of_nobody;
use crate::net::model::{self as net, ModelBroker};
use crate::sync::model::{self, Time};
use crate::{
    AsyncProducer, AsyncProducerBuilder, Client, DeliveryError, DeliveryErrorKind, DeliveryHandle, FlushError, Message,
    MetadataError, Partitioner, Persistence, ProduceErrorKind, PurgeError, ShutdownError, ShutdownReport, Timestamp,
    Topic,
};

#[test]
fn callers_that_wait_for_room_all_get_in_and_keep_their_order() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().max_queue_size(2).build().unwrap();
        each(3, &producer, |caller, producer| {
            for n in 0..3 {
                producer.produce_timeout(message(caller, n), Duration::MAX).unwrap();
                assert!(producer.queue_size() <= 2);
            }
        });
        assert_eq!(producer.shutdown().unwrap().delivered, 9);
        assert_in_order(&[3, 3, 3]);
    });
}

#[test]
fn chunks_leave_in_the_order_in_which_they_were_filled() {
    check(Time::Stands, ModelBroker::Answers, || {
        // Chunks of two messages, so that one is sealed while another is open.
        let producer = builder().max_queue_size(8).build().unwrap();
        each(2, &producer, |caller, producer| {
            for n in 0..5 {
                producer.produce_timeout(message(caller, n), Duration::MAX).unwrap();
                producer.deliver_messages();
            }
        });
        assert_eq!(producer.shutdown().unwrap().delivered, 10);
        assert_in_order(&[5, 5]);
    });
}

#[test]
fn a_queue_that_is_full_of_bytes_is_emptied_for_who_waits() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().max_message_bytes(128).max_queue_bytesize(128).build().unwrap();
        each(2, &producer, |caller, producer| {
            for n in 0..5 {
                producer.produce_timeout(message(caller, n), Duration::MAX).unwrap();
            }
        });
        assert_eq!(producer.shutdown().unwrap().delivered, 10);
        assert_in_order(&[5, 5]);
    });
}

#[test]
fn exactly_max_queue_size_messages_are_accepted() {
    check(Time::Stands, ModelBroker::Silent, || {
        let producer = builder().max_queue_size(3).build().unwrap();
        let accepted = each(3, &producer, |caller, producer| {
            let accepted = (0..2).filter(|n| match producer.produce(message(caller, *n)) {
                Ok(()) => true,
                Err(error) => {
                    let ProduceErrorKind::BufferOverflow(full) = error.kind() else { panic!("{error}") };
                    assert_eq!((full.queued, value(error.message())), (3, n.to_string()));
                    false
                }
            });
            accepted.count()
        });
        assert_eq!((accepted.iter().sum::<usize>(), producer.queue_size()), (3, 3));
        let report = producer.shutdown_within(Duration::ZERO).unwrap();
        assert_eq!((report.given_up, report.undelivered.len()), (3, 3));
    });
}

#[test]
fn who_waits_for_room_gets_in_or_gets_closed_with_its_message() {
    check(Time::Stands, ModelBroker::Silent, || {
        let producer = builder().max_queue_size(1).build().unwrap();
        let closer = spawn(&producer, |producer| producer.shutdown_within(Duration::ZERO).unwrap());
        let accepted = each(3, &producer, |caller, producer| {
            match producer.produce_timeout(message(caller, caller), Duration::MAX) {
                Ok(()) => 1,
                Err(error) => {
                    assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}");
                    assert_eq!(value(error.message()), caller.to_string());
                    0
                }
            }
        });
        let report = closer.join().unwrap();
        let accepted = accepted.iter().sum::<u64>();
        assert!(accepted <= 1);
        assert_eq!((report.given_up, report.undelivered.len() as u64), (accepted, accepted));
    });
}

#[test]
fn who_waits_for_room_is_told_of_a_shutdown_long_before_its_end() {
    check(Time::Stands, ModelBroker::Silent, || {
        let producer = builder().max_queue_size(1).build().unwrap();
        producer.produce(message(0, 0)).unwrap();
        let waiting = spawn(&producer, |producer| producer.produce_timeout(message(1, 0), Duration::MAX));
        let endless = spawn(&producer, |producer| producer.shutdown().unwrap());
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}");
        let report = producer.shutdown_within(Duration::ZERO).unwrap();
        let first = endless.join().unwrap();
        assert_eq!((first.given_up, report.given_up), (1, 1));
        assert_eq!(first.undelivered.len() + report.undelivered.len(), 1);
    });
}

#[test]
fn flush_returns_only_after_what_preceded_it_and_purge_takes_the_rest() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().delivery_interval(Duration::from_secs(1)).max_queue_size(3).build().unwrap();
        let purging = spawn(&producer, |producer| producer.purge().unwrap());
        let missing = each(2, &producer, |caller, producer| {
            for n in 0..2 {
                producer.produce_timeout(message(caller, n), Duration::MAX).unwrap();
            }
            let report = producer.flush(Duration::MAX).unwrap();
            assert!(report.delivered + report.failed <= 4);
            let there = log();
            (0..2).map(|n| (caller, n)).filter(|id| !there.contains(id)).collect::<Vec<_>>()
        });
        let purged: BTreeSet<_> = purging.join().unwrap().iter().map(|error| id(error.message())).collect();
        assert!(missing.iter().flatten().all(|id| purged.contains(id)), "{missing:?} {purged:?}");
        let report = producer.shutdown().unwrap();
        assert_eq!((report.delivered as usize, report.failed as usize), (4 - purged.len(), purged.len()));
        let there = log();
        assert!(there.len() == 4 - purged.len() && there.iter().all(|id| !purged.contains(id)));
    });
}

#[test]
fn what_a_partitioner_cannot_wait_for_is_refused_while_others_purge_and_shut_down() {
    check(Time::Stands, ModelBroker::Answers, || {
        let own: Arc<Mutex<Option<AsyncProducer>>> = Arc::default();
        let inside = Arc::clone(&own);
        let partitioner = Partitioner::custom(move |_| {
            // Once: what it produces comes here, too.
            let producer = inside.lock().unwrap().take();
            if let Some(producer) = producer {
                assert!(matches!(producer.purge(), Err(PurgeError::OnWorker)));
                assert!(matches!(producer.flush(Duration::MAX), Err(FlushError::OnWorker)));
                assert!(matches!(producer.shutdown(), Err(ShutdownError::OnWorker)));
                let partitions = producer.partitions_for("orders", Duration::MAX);
                assert!(matches!(partitions, Err(MetadataError::OnWorker)), "{partitions:?}");
                if let Ok(handle) = producer.produce_with_handle(message(1, 0)) {
                    assert!(matches!(handle.wait().unwrap_err().kind(), DeliveryErrorKind::OnWorker));
                }
            }
            0
        });
        let producer = builder().partitioner(partitioner).max_queue_size(4).build().unwrap();
        *own.lock().unwrap() = Some(producer.clone());
        let purging = spawn(&producer, |producer| producer.purge().unwrap().len());
        (0..2).for_each(|n| producer.produce(message(0, n)).unwrap());
        let report = producer.shutdown().unwrap();
        // If all was purged before.
        drop(own.lock().unwrap().take());
        let purged = purging.join().unwrap() as u64;
        assert!(report.delivered + report.failed >= 2 && report.failed >= purged && report.given_up == 0, "{report:?}");
    });
}

#[test]
fn two_callers_purge_at_once_and_each_message_goes_to_one() {
    check(Time::Stands, ModelBroker::Silent, || {
        let producer = builder().build().unwrap();
        (0..3).for_each(|n| producer.produce(message(0, n)).unwrap());
        let purged = each(2, &producer, |_, producer| producer.purge().unwrap().len());
        assert_eq!((purged.iter().sum::<usize>(), producer.queue_size()), (3, 0));
        assert_eq!(producer.shutdown().unwrap().failed, 3);
    });
}

#[test]
fn of_two_shutdowns_one_gets_the_messages_and_both_the_counts() {
    check(Time::Stands, ModelBroker::Silent, || {
        let producer = builder().build().unwrap();
        (0..2).for_each(|n| producer.produce(message(9, n)).unwrap());
        let late = spawn(&producer, |producer| (0..2).filter(|n| producer.produce(message(8, *n)).is_ok()).count());
        let reports = each(2, &producer, |_, producer| producer.shutdown_within(Duration::ZERO).unwrap());
        let accepted = 2 + late.join().unwrap();
        let owned = |report: &ShutdownReport| report.undelivered.len();
        assert!(reports.iter().all(|report| report.given_up == accepted as u64), "{reports:?}");
        let mut owned: Vec<_> = reports.iter().map(owned).collect();
        owned.sort_unstable();
        assert_eq!(owned, [0, accepted]);
    });
}

#[test]
fn shutdown_delivers_what_was_accepted_while_others_produce() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().max_queue_size(2).delivery_threshold(2).build().unwrap();
        let closing = spawn(&producer, |producer| producer.shutdown().unwrap());
        let accepted = each(2, &producer, |caller, producer| {
            let mut wait = [Duration::ZERO, Duration::MAX].into_iter().cycle();
            (0..3)
                .take_while(|n| match producer.produce_timeout(message(caller, *n), wait.next().unwrap()) {
                    Ok(()) => true,
                    Err(error) => {
                        assert!(
                            error.is_buffer_overflow() || matches!(error.kind(), ProduceErrorKind::Closed),
                            "{error}"
                        );
                        false
                    }
                })
                .count()
        });
        let report = closing.join().unwrap();
        assert_eq!(report.delivered as usize, accepted.iter().sum::<usize>());
        assert_in_order(&accepted);
    });
}

#[test]
fn a_handle_gets_one_fate_whoever_waits_tries_or_goes_away() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().build().unwrap();
        let offsets = each(3, &producer, |caller, producer| {
            let handle = producer.produce_with_handle(message(caller, 0)).unwrap();
            drop(producer);
            let fate = match caller {
                0 => Some(handle.wait()),
                1 => Some(handle.try_get().or_else(DeliveryHandle::try_get).unwrap_or_else(DeliveryHandle::wait)),
                _ => None,
            };
            fate.map(|fate| fate.unwrap().offset.unwrap())
        });
        let report = producer.shutdown().unwrap();
        assert_eq!((report.delivered, offsets[2]), (3, None));
        assert!(offsets[0].is_some() && offsets[1].is_some() && offsets[0] != offsets[1], "{offsets:?}");
    });
}

#[test]
fn handles_learn_of_a_shutdown() {
    check(Time::Stands, ModelBroker::Silent, || {
        let producer = builder().build().unwrap();
        let handle = |n| producer.produce_with_handle(message(0, n)).unwrap();
        let (waited, dropped) = (handle(0), handle(1));
        let waiting = thread::spawn(move || waited.wait());
        let dropping = thread::spawn(move || drop(dropped));
        let report = producer.shutdown_within(Duration::ZERO).unwrap();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(matches!(error.kind(), DeliveryErrorKind::ShutDown { .. }), "{error}");
        assert_eq!((id(error.message()), error.persistence()), ((0, 0), Persistence::No));
        dropping.join().unwrap();
        assert_eq!(report.given_up, 2);
        // A thread that dropped the handle with the fate in it could have looked.
        assert!(report.undelivered.len() <= 1);
    });
}

#[test]
fn fates_of_one_page_wake_those_who_wait_for_them() {
    check(Time::Stands, ModelBroker::Answers, || {
        let [(first, mut a), (second, mut b), (third, mut c), (fourth, d)] = kept_of_nobody();
        let delivered = thread::spawn(move || a.wait(None));
        let failed = thread::spawn(move || b.wait(None));
        let lost = thread::spawn(move || c.wait(None));
        let dropping = thread::spawn(move || drop((third, d)));
        first.deliver(Receipt { partition: 7, offset: None, timestamp: None });
        second.slot().fail(error(2).0).unwrap();
        fourth.deliver(Receipt { partition: 8, offset: None, timestamp: None });
        assert!(matches!(delivered.join().unwrap(), Ok(Ok(Receipt { partition: 7, .. }))));
        assert!(matches!(failed.join().unwrap(), Ok(Err(error)) if error.message().tag() == 2));
        assert!(matches!(lost.join().unwrap(), Err(TryRecvError::Disconnected)));
        dropping.join().unwrap();
    });
}

#[test]
fn an_error_does_not_stay_behind_when_its_handle_goes_away() {
    check(Time::Stands, ModelBroker::Answers, || {
        let [(slot, lookout), (other, mut neighbour)] = kept_of_nobody();
        let (error, kind) = error(1);
        let dropping = thread::spawn(move || drop(lookout));
        // Holds the lock now and then.
        let looking = thread::spawn(move || neighbour.look());
        let back = slot.slot().fail(error).err();
        dropping.join().unwrap();
        assert!(looking.join().unwrap().is_err());
        assert_eq!(Arc::strong_count(&kind), 1 + usize::from(back.is_some()));
        drop(other);
    });
}

#[test]
fn the_last_clone_goes_while_others_shut_down() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().max_queue_size(2).build().unwrap();
        let first = spawn(&producer, |producer| producer.produce_with_handle(message(0, 0)));
        let second = spawn(&producer, |producer| {
            drop(producer.produce(message(1, 0)));
            producer.shutdown().unwrap()
        });
        drop(producer);
        let report = second.join().unwrap();
        match first.join().unwrap() {
            Ok(handle) => assert_eq!(handle.wait().unwrap().partition, 0),
            Err(error) => assert!(matches!(error.kind(), ProduceErrorKind::Closed), "{error}"),
        }
        assert_eq!(report.delivered as usize, log().len());
    });
}

#[test]
fn dropping_the_last_clone_delivers() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().build().unwrap();
        let clone = producer.clone();
        let other = thread::spawn(move || clone.produce(message(1, 0)).unwrap());
        producer.produce(message(0, 0)).unwrap();
        drop(producer);
        other.join().unwrap();
        assert_eq!(log().len(), 2);
    });
}

#[test]
fn flush_and_shutdown_return_after_the_callbacks() {
    check(Time::Stands, ModelBroker::Answers, || {
        let called: Arc<Mutex<Vec<u64>>> = Arc::default();
        let seen = Arc::clone(&called);
        let producer = builder()
            .max_queue_size(2)
            .max_buffer_size(2)
            .on_delivery(move |fate| {
                let tag = fate.unwrap().tag;
                thread::yield_now();
                seen.lock().unwrap().push(tag);
            })
            .build()
            .unwrap();
        let told = Arc::clone(&called);
        each(2, &producer, move |caller, producer| {
            let tag = caller as u64;
            for n in 0..2 {
                producer.produce_timeout(message(caller, n).with_tag(tag), Duration::MAX).unwrap();
            }
            assert_eq!(producer.flush(Duration::MAX).unwrap().failed, 0);
            let count = told.lock().unwrap().iter().filter(|seen| **seen == tag).count();
            assert_eq!(count, 2);
            producer.produce_timeout(message(caller, 2).with_tag(tag), Duration::MAX).unwrap();
        });
        assert_eq!(producer.shutdown().unwrap().delivered, 6);
        assert_eq!(called.lock().unwrap().len(), 6);
        assert_in_order(&[3, 3]);
    });
}

#[test]
fn a_callback_may_drop_the_last_clone_and_what_is_queued_is_delivered() {
    check(Time::Stands, ModelBroker::Answers, || {
        let own: Arc<Mutex<Option<AsyncProducer>>> = Arc::default();
        let inside = Arc::clone(&own);
        let producer = builder()
            .on_delivery(move |_| {
                let last = inside.lock().unwrap().take();
                drop(last);
            })
            .build()
            .unwrap();
        let handle = producer.produce_with_handle(message(0, 0)).unwrap();
        producer.produce(message(0, 1)).unwrap();
        producer.deliver_messages();
        *own.lock().unwrap() = Some(producer);
        assert!(handle.wait().is_ok());
        // The last of the two does it: this thread, if the callback came before the producer was there.
        let last = own.lock().unwrap().take();
        drop(last);
    });
}

#[test]
fn the_threads_start_once_however_many_are_first() {
    check(Time::Stands, ModelBroker::Answers, || {
        let producer = builder().build().unwrap();
        let counts = each(3, &producer, |caller, producer| {
            if caller == 0 {
                return producer.partitions_for("orders", Duration::MAX).unwrap();
            }
            producer.produce(message(caller, 0)).unwrap();
            1
        });
        assert_eq!((counts, net::made()), (vec![1; 3], 1));
        assert_eq!(producer.shutdown().unwrap().delivered, 2);
    });
}

#[test]
fn the_timer_makes_messages_leave_by_themselves() {
    check(Time::Runs, ModelBroker::Answers, || {
        let producer = builder().delivery_interval(Duration::from_millis(5)).build().unwrap();
        for n in 0..2 {
            let mut handle = Some(producer.produce_with_handle(message(0, n)).unwrap());
            while let Some(waiting) = handle.take() {
                thread::yield_now();
                handle = waiting.try_get().err();
            }
        }
        drop(producer.shutdown().unwrap());
    });
}

#[test]
fn the_sums_match_when_time_passes_and_connections_are_cut() {
    check(Time::Runs, ModelBroker::Answers, || {
        let producer = builder().max_queue_size(3).delivery_interval(Duration::from_millis(5)).build().unwrap();
        let purging = spawn(&producer, |producer| {
            drop(producer.flush(TIMEOUT));
            // A message that comes too late for one call is for the next.
            loop {
                match producer.purge() {
                    Ok(purged) => return purged,
                    Err(error) => assert!(matches!(error, PurgeError::Timeout(_)), "{error}"),
                }
            }
        });
        let closing = spawn(&producer, |producer| {
            thread::yield_now();
            let handle = producer.produce_with_handle(message(7, 0)).ok();
            let fate =
                handle.map(|handle| handle.wait_timeout(TIMEOUT).unwrap_or_else(|late| late.into_handle().wait()));
            // A worker that has had no turn in time is as one that is blocked: the next call gets the messages.
            let mut hasty = producer.shutdown_within(TIMEOUT).unwrap();
            let report = producer.shutdown().unwrap();
            let left = mem::take(&mut hasty.failures).chain(mem::take(&mut hasty.undelivered));
            (left.collect::<Vec<_>>(), report, fate)
        });
        let accepted = each(2, &producer, |caller, producer| {
            (0..3).filter(|n| producer.produce_timeout(message(caller, *n), TIMEOUT).is_ok()).count()
        });
        let purged = purging.join().unwrap();
        let (left, mut report, fate) = closing.join().unwrap();
        let accepted = accepted.iter().sum::<usize>() + usize::from(fate.is_some());
        assert_eq!((report.delivered + report.failed + report.given_up) as usize, accepted);
        let failed = mem::take(&mut report.failures).into_iter().chain(mem::take(&mut report.undelivered));
        let failed: Vec<_> = left.into_iter().chain(failed).chain(fate.and_then(Result::err)).collect();
        // A message of the closer may be purged, and then its handle has it.
        assert_eq!(failed.len() + purged.len() + report.delivered as usize, accepted);
        let there = log();
        let purged: Vec<_> = purged.collect();
        for never in failed.iter().chain(&purged).filter(|error| error.persistence() == Persistence::No) {
            assert!(!there.contains(&id(never.message())), "{never:?} is there");
        }
        let possibly = failed.iter().filter(|error| error.persistence() == Persistence::Possibly).count();
        let delivered = report.delivered as usize;
        assert!((delivered..=delivered + possibly).contains(&there.len()));
    });
}

/// Runs `test` in many orders, or in the one that is to be replayed.
fn check(time: Time, broker: ModelBroker, test: fn()) {
    let run = move || {
        model::begin(time);
        net::begin(broker);
        test();
    };
    let mut config = Config::new();
    config.stack_size = 0x40_000;
    // That it takes every ordering for sequential consistency.
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(50_000);
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    if let Ok(schedule) = env::var("OTTLA_SHUTTLE_REPLAY") {
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config).run(run);
        return;
    }
    let schedules = env::var("OTTLA_SHUTTLE_SCHEDULES").map_or(SCHEDULES, |n| n.parse().expect("a number"));
    Runner::new(shuttle::scheduler::RandomScheduler::new(schedules / 2), config.clone()).run(run);
    Runner::new(PctScheduler::new(PREEMPTIONS, schedules / 2), config).run(run);
}

/// An error of a message with this tag, and the count of those that have it.
fn error(tag: u64) -> (DeliveryError, Arc<DeliveryErrorKind>) {
    let message = Message::bare(Topic::new("orders").unwrap().into(), None, None).with_tag(tag);
    let kind = Arc::new(DeliveryErrorKind::Purged);
    (DeliveryError::new(Arc::clone(&kind), Persistence::No, message), kind)
}

fn builder() -> AsyncProducerBuilder {
    Client::builder(["127.0.0.1:9000"]).build().unwrap().async_producer()
}

/// Runs this number of callers, each with a clone of the producer, and waits for all.
fn each<T: Send + 'static>(
    callers: usize,
    producer: &AsyncProducer,
    run: impl Fn(usize, AsyncProducer) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let start = |caller| {
        let run = run.clone();
        spawn(producer, move |producer| run(caller, producer))
    };
    let running: Vec<_> = (0..callers).map(start).collect();
    running.into_iter().map(|caller| caller.join().unwrap()).collect()
}

fn spawn<T: Send + 'static>(
    producer: &AsyncProducer,
    run: impl FnOnce(AsyncProducer) -> T + Send + 'static,
) -> JoinHandle<T> {
    let producer = producer.clone();
    thread::spawn(move || run(producer))
}

/// The n-th message of a caller.
fn message(caller: usize, n: usize) -> Message<'static> {
    Message::new("orders", n.to_string()).with_key(caller.to_string()).with_create_time(Timestamp::from_millis(0))
}

fn id(message: &Message<'_>) -> (usize, usize) {
    let number = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).parse().unwrap();
    (number(message.key()), number(message.value()))
}

fn value(message: &Message<'_>) -> String {
    String::from_utf8_lossy(message.value().unwrap()).into_owned()
}

/// The written messages, as caller and number, in their order. No message twice.
fn log() -> Vec<(usize, usize)> {
    let number = |text: Option<&str>| text.unwrap().parse().unwrap();
    let log: Vec<_> = net::messages().iter().map(|m| (number(m.key_str()), number(m.value_str()))).collect();
    assert_eq!(log.iter().collect::<BTreeSet<_>>().len(), log.len(), "{log:?}");
    log
}

/// Panics unless this number of messages of each caller is written, from the first on, in order.
fn assert_in_order(counts: &[usize]) {
    let log = log();
    for (caller, count) in counts.iter().enumerate() {
        let own: Vec<_> = log.iter().filter(|id| id.0 == caller).map(|id| id.1).collect();
        assert_eq!(own, (0..*count).collect::<Vec<_>>(), "caller {caller}");
    }
    assert_eq!(log.len(), counts.iter().sum::<usize>());
}

/// Longer than the interval; time is made up.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For each test, half of them at random and half by priorities.
const SCHEDULES: usize = 3000;
/// The largest number of changes of priorities.
const PREEMPTIONS: usize = 3;

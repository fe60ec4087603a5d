//! The way of fates: handles, the places where they look, and callbacks.

use std::sync::mpsc::TryRecvError;

use super::*;
use crate::fate::Receipt;
use crate::fate::slot::testing::kept_of_nobody;

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

//! The way in: room in the queue, the start of the threads, and the timer.

use super::*;

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

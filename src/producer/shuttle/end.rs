//! Flush, purge, shutdown and the drop of the last clone.

use super::*;

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

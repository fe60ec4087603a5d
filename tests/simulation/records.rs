//! Records that a broker refuses by their place in a batch (KIP-467).

use std::time::Duration;

use kafka_protocol::messages::ProduceResponse;
use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use ottla::testing::{Api, Fault};
use ottla::{ErrorCode, Message, Persistence};

use crate::bench::{Bench, Twist};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Changes the records that are refused, for each partition that an answer to Produce refuses so.
pub fn change_blame(answer: &mut ProduceResponse, mut change: impl FnMut(&mut Vec<BatchIndexAndErrorMessage>)) {
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        if partition.error_code == ErrorCode::INVALID_RECORD.0 {
            change(&mut partition.record_errors);
        }
    }
}

/// Names these records in every answer that refuses some.
fn blame(places: &'static [i32]) -> Option<Twist> {
    let record = |place: &i32| BatchIndexAndErrorMessage::default().with_batch_index(*place);
    Some(Twist::of(Api::Produce, move |answer| {
        change_blame(answer, |records| *records = places.iter().map(record).collect());
    }))
}

/// A batch of `count` messages of which the broker refuses those at `places`; what failed, by tag.
fn refused(count: u64, places: &'static [i32]) -> (Bench, Vec<u64>) {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.twist = blame(places);
    bench.cluster.inject(Fault::on(Api::Produce).times(1).error(ErrorCode::INVALID_RECORD));
    for tag in 0..count {
        bench.append(&Message::new("a", "v").with_tag(tag));
    }
    bench.pass(secs(2));
    assert!(bench.failed.iter().all(|error| error.persistence() == Persistence::No), "{:?}", bench.failed);
    let mut failed: Vec<u64> = bench.failed.iter().map(|error| error.message().tag()).collect();
    failed.sort_unstable();
    (bench, failed)
}

#[test]
fn a_record_that_is_named_twice_fails_once_and_alone() {
    for (count, places, culprits) in
        [(2, &[1, 1][..], &[1][..]), (3, &[2, 0, 2], &[0, 2]), (2, &[0, 0, 0, 7, -1], &[0])]
    {
        let (bench, failed) = refused(count, places);
        assert_eq!(failed, culprits, "{places:?}");
        assert_eq!(bench.delivered.len() as u64, count - culprits.len() as u64, "{places:?}");
    }
}

#[test]
fn a_batch_whose_refused_records_are_nowhere_in_it_fails_whole() {
    for places in [&[][..], &[2], &[-1, 9], &[0, 1], &[1, 0, 1]] {
        let (bench, failed) = refused(2, places);
        assert_eq!((failed, bench.delivered.len()), (vec![0, 1], 0), "{places:?}");
    }
}

#[test]
fn a_refused_batch_that_once_went_unanswered_fails_whole_and_is_possibly_written() {
    // A copy of it may still be on its way, so that nothing of it may go under another sequence.
    for code in [ErrorCode::MESSAGE_TOO_LARGE, ErrorCode::INVALID_RECORD] {
        for unanswered in [true, false] {
            let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
            bench.twist = blame(&[0]);
            let times = u64::from(unanswered);
            bench.cluster.inject(Fault::on(Api::Produce).times(times).cut_before());
            bench.cluster.inject(Fault::on(Api::Produce).skip(times).times(1).error(code));
            for n in ["0", "1", "2"] {
                bench.append(&Message::new("a", n));
            }
            bench.pass(secs(5));
            let possibly = bench.failed.iter().filter(|error| error.persistence() == Persistence::Possibly).count();
            let failed = if code == ErrorCode::INVALID_RECORD { 1 } else { 0 };
            let expected = if unanswered { (3, 3, 0) } else { (failed, 0, 3 - failed) };
            assert_eq!((bench.failed.len(), possibly, bench.delivered.len()), expected, "{code}, {unanswered}");
            bench.append(&Message::new("a", "and what follows goes on"));
            bench.pass(secs(1));
            assert_eq!(bench.delivered.len(), expected.2 + 1, "{code}, {unanswered}");
        }
    }
}

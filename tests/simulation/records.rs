//! Records that a broker refuses by their place in a batch (KIP-467).

use std::time::Duration;

use kafka_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use kafka_protocol::messages::{ProduceResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use ottla::testing::{Api, Fault};
use ottla::{Message, Persistence};

use crate::bench::{Answer, Bench, Twist};

const PRODUCE: i16 = 0;
pub const INVALID_RECORD: i16 = 87;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Changes the records that are refused, for each partition that an answer to Produce refuses so. The frame is without
/// its size.
pub fn change_blame(frame: &mut Vec<u8>, version: i16, mut change: impl FnMut(&mut Vec<BatchIndexAndErrorMessage>)) {
    let header_version = i16::from(version >= 9);
    let mut rest = &frame[..];
    let header = ResponseHeader::decode(&mut rest, header_version).expect("a header");
    let mut answer = ProduceResponse::decode(&mut rest, version).expect("an answer");
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        if partition.error_code == INVALID_RECORD {
            change(&mut partition.record_errors);
        }
    }
    frame.clear();
    header.encode(frame, header_version).expect("a header");
    answer.encode(frame, version).expect("an answer");
}

/// Names these records in every answer that refuses some.
fn blame(places: &'static [i32]) -> Option<Twist> {
    Some(Twist(Box::new(move |Answer { api, version, bytes }| {
        if *api == PRODUCE {
            let mut frame = bytes.split_off(4);
            let record = |place: &i32| BatchIndexAndErrorMessage::default().with_batch_index(*place);
            change_blame(&mut frame, *version, |records| *records = places.iter().map(record).collect());
            bytes.append(&mut frame);
        }
    })))
}

/// A batch of `count` messages of which the broker refuses those at `places`; what failed, by tag.
fn refused(count: u64, places: &'static [i32]) -> (Bench, Vec<u64>) {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.twist = blame(places);
    bench.cluster.inject(Fault::on(Api::Produce).times(1).error(INVALID_RECORD));
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

//! Answers that are well-formed and wrong: swapped, repeated, late, about other partitions, from a broker that cannot
//! make up its mind. Acknowledgements never reach the wrong batch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, InitProducerIdResponse, MetadataResponse, ProduceResponse,
};
use ottla::testing::{Api, Fault};
use ottla::{ApiRange, ConnectionErrorKind, DeliveryErrorKind, ErrorCode, Message, Persistence};

use crate::common::*;
use crate::liar::Liar;
use crate::meddler::{Answer, Asked, framed, honest};

#[test]
fn swapped_responses_end_the_connection_and_nobody_gets_anothers_offset() {
    let mut liar = Liar::new();
    for _ in 0..5 {
        let (held, swapped) = (Mutex::new(None), Arc::new(AtomicUsize::new(0)));
        let (seen, count) = (Mutex::new(0), Arc::clone(&swapped));
        liar.lie(ApiKey::Produce, move |asked, response| {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            // Two requests for the same partition, with nothing but the number to tell their answers apart.
            let mut held = held.lock().unwrap();
            match held.take() {
                None if *seen == 3 => {
                    *held = Some((asked.connection, framed(&response)));
                    Answer::Bytes(Vec::new())
                }
                Some((connection, first)) if connection == asked.connection => {
                    count.fetch_add(1, Ordering::SeqCst);
                    Answer::Bytes([framed(&response), first].concat())
                }
                _ => honest(&response),
            }
        });
        let producer = liar.producer().build().unwrap();
        liar.deliver_one_by_one(&producer);
        assert_eq!(swapped.load(Ordering::SeqCst), 1);
        assert_eq!(producer.shutdown().unwrap().delivered, 12);
    }
}

#[test]
fn a_response_that_comes_twice_acknowledges_once() {
    let mut liar = Liar::new();
    for api in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce] {
        let connections = liar.once(api, |_, response| Answer::Bytes(framed(&response).repeat(2)));
        assert!(connections >= 2, "{api:?}: the connection is out of step");
    }
}

#[test]
fn a_response_that_nobody_asked_for_ends_the_connection() {
    let mut liar = Liar::new();
    for correlation in [-1, 0, i32::MAX] {
        let connections = liar.once(ApiKey::Metadata, move |_, response| {
            let bogus = [&i32::to_be_bytes(correlation)[..], &[0; 20]].concat();
            Answer::Bytes([framed(&bogus), framed(&response)].concat())
        });
        assert!(connections >= 2, "number {correlation}");
    }
}

#[test]
fn a_number_that_was_not_asked_with_is_told_with_the_api() {
    let error = Liar::new().always(ApiKey::Produce, |asked, response| {
        let body = &response[asked.header_len()..];
        Asked { correlation: asked.correlation + 1, ..asked }.with_body(body)
    });
    let ConnectionErrorKind::BadResponse { api: "Produce", .. } = connection(error.kind()).kind else {
        panic!("{error}")
    };
    assert_eq!(error.persistence(), Persistence::Possibly);
    assert!(error.to_string().contains("does not belong to the oldest request"), "{error}");
}

#[test]
fn a_message_whose_responses_all_stop_in_their_middle_may_be_written() {
    let liar = Liar::new();
    liar.lie(ApiKey::Produce, |_, response| Answer::Bytes(framed(&response)[..response.len()].to_vec()));
    let producer = liar.producer_of(|client| client.socket_timeout(ms(300))).ack_timeout(ms(100));
    let producer = producer.delivery_timeout(ms(800)).build().unwrap();
    let began = Instant::now();
    let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
    assert!((ms(800)..ms(1800)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(error.persistence(), Persistence::Possibly);
    let ConnectionErrorKind::SocketTimeout { api, after } = connection(error.kind()).kind else { panic!("{error}") };
    assert_eq!(api, Some("Produce"));
    assert_eq!((after, liar.cluster.messages("orders").len()), (ms(300), 1));
    for part in [&*liar.meddler.address().to_string(), "socket_timeout (300ms)", "check"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_late_response_is_not_taken_for_that_of_a_newer_message() {
    let cluster = cluster(1);
    let producer = async_producer(&cluster).delivery_timeout(ms(300)).build().unwrap();
    producer.produce_with_handle(Message::new("orders", "first")).unwrap().wait().unwrap();
    let late = cluster.inject(Fault::on(Api::Produce).times(1).delay(ms(700)));
    let began = Instant::now();
    let error = producer.produce_with_handle(Message::new("orders", "late")).unwrap().wait().unwrap_err();
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
    assert_eq!((error.persistence(), late.hits()), (Persistence::Possibly, 1));
    // Behind it on the same connection: its answer comes after the late one.
    let mut newer = Vec::new();
    while began.elapsed() < ms(1000) {
        newer.push(producer.produce_with_handle(Message::new("orders", "newer")).unwrap().wait());
    }
    let last = newer.pop().unwrap().unwrap();
    let stored = cluster.messages("orders");
    assert_eq!(values(&stored)[..2], ["first", "late"]);
    assert_eq!(stored[last.offset.unwrap() as usize].value_str(), Some("newer"));
    let report = producer.shutdown().unwrap();
    let delivered = 2 + newer.iter().filter(|fate| fate.is_ok()).count();
    assert_eq!((report.delivered, report.failed), (delivered as u64, 1 + (newer.len() + 2 - delivered) as u64));
}

#[test]
fn a_partition_that_the_answer_leaves_out_is_sent_again() {
    let mut liar = Liar::new();
    for missing in [0, 1] {
        liar.once(ApiKey::Produce, move |asked, response| {
            let mut body: ProduceResponse = asked.decode(&response);
            body.responses[0].partition_responses.retain(|partition| partition.index != missing);
            asked.encode(&body)
        });
    }
    liar.once(ApiKey::Produce, |asked, response| {
        let mut body: ProduceResponse = asked.decode(&response);
        body.responses.clear();
        asked.encode(&body)
    });
    let error = liar.always(ApiKey::Produce, |asked, response| {
        let mut body: ProduceResponse = asked.decode(&response);
        body.responses.clear();
        asked.encode(&body)
    });
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
    assert_eq!(error.persistence(), Persistence::Possibly);
    assert!(error.to_string().contains("missing") && error.to_string().contains("Produce"), "{error}");
}

#[test]
fn partitions_that_were_not_asked_about_change_nothing() {
    let mut liar = Liar::new();
    for unknown in [2, 99, -1, i32::MIN, i32::MAX] {
        let connections = liar.once(ApiKey::Produce, move |asked, response| {
            let mut body: ProduceResponse = asked.decode(&response);
            let mut partition = body.responses[0].partition_responses[0].clone();
            (partition.index, partition.base_offset, partition.error_code) = (unknown, 1_000_000, 3);
            body.responses[0].partition_responses.insert(0, partition);
            let mut topic = body.responses[0].clone();
            topic.topic_id = "00000000-0000-0000-0000-00000000ffff".parse().unwrap();
            body.responses.insert(0, topic);
            asked.encode(&body)
        });
        assert_eq!(connections, 1, "partition {unknown}");
    }
}

#[test]
fn of_two_answers_for_a_partition_the_first_counts() {
    let mut liar = Liar::new();
    for code in [0, 3, 6, 19, 29, 45, 87] {
        liar.once(ApiKey::Produce, move |asked, response| {
            let mut body: ProduceResponse = asked.decode(&response);
            let mut again = body.responses[0].partition_responses[0].clone();
            (again.error_code, again.base_offset) = (code, 1_000_000);
            body.responses[0].partition_responses.push(again);
            let topic = body.responses[0].clone();
            body.responses.push(topic);
            asked.encode(&body)
        });
    }
}

#[test]
fn an_offset_at_the_end_of_all_numbers_overflows_nothing() {
    let liar = Liar::new();
    liar.lie(ApiKey::Produce, |asked, response| {
        let mut body: ProduceResponse = asked.decode(&response);
        for partition in &mut body.responses[0].partition_responses {
            (partition.base_offset, partition.log_append_time_ms) = (i64::MAX, i64::MAX);
            (partition.current_leader.leader_id, partition.current_leader.leader_epoch) = (i32::MAX.into(), i32::MAX);
        }
        asked.encode(&body)
    });
    let producer = liar.producer().build().unwrap();
    let handles: Vec<_> = (0..3).map(|_| producer.produce_with_handle(Message::new("orders", "v")).unwrap()).collect();
    for handle in handles {
        assert_eq!(handle.wait().unwrap().offset, Some(i64::MAX));
    }
    liar.lie(ApiKey::InitProducerId, |asked, response| {
        let mut body: InitProducerIdResponse = asked.decode(&response);
        (body.producer_id, body.producer_epoch) = (i64::MAX.into(), i16::MAX);
        asked.encode(&body)
    });
    let producer = liar.producer().build().unwrap();
    assert!(producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().is_ok());
}

#[test]
fn a_producer_id_that_cannot_be_is_not_used() {
    let mut liar = Liar::new();
    for (id, epoch) in [(-1, 0), (i64::MIN, -1), (7, -1), (7, i16::MIN)] {
        liar.once(ApiKey::InitProducerId, move |asked, response| {
            let mut body: InitProducerIdResponse = asked.decode(&response);
            (body.producer_id, body.producer_epoch) = (id.into(), epoch);
            asked.encode(&body)
        });
    }
    let stored = liar.cluster.messages("orders");
    assert!(stored.iter().all(|message| message.producer_id >= 1000 && message.producer_epoch >= 0));
}

#[test]
fn metadata_with_numbers_that_cannot_be_is_survived() {
    let mut liar = Liar::new();
    let lies: [fn(&mut MetadataResponse); 8] = [
        |body| body.brokers.clear(),
        |body| body.topics.clear(),
        |body| body.topics[0].partitions.clear(),
        |body| body.topics[0].partitions[0].partition_index = i32::MAX,
        |body| body.topics[0].partitions[1].partition_index = -1,
        |body| body.topics[0].partitions[0].leader_id = i32::MIN.into(),
        |body| body.topics[0].partitions[0].leader_id = 55.into(),
        |body| {
            let twice = body.topics[0].partitions[0].clone();
            body.topics[0].partitions.push(twice);
        },
    ];
    for lie in lies {
        let connections = liar.once(ApiKey::Metadata, move |asked, response| {
            let mut body: MetadataResponse = asked.decode(&response);
            lie(&mut body);
            asked.encode(&body)
        });
        assert_eq!(connections, 1);
    }
    for port in [-1, 65_536] {
        let connections = liar.once(ApiKey::Metadata, move |asked, response| {
            let mut body: MetadataResponse = asked.decode(&response);
            body.brokers[0].port = port;
            asked.encode(&body)
        });
        assert!(connections >= 2, "port {port} was believed");
    }
}

#[test]
fn a_broker_that_refuses_every_version_of_its_versions_is_refused() {
    let liar = Liar::new();
    let asked_for = Arc::new(Mutex::new(Vec::new()));
    for claims in [None, Some(4), Some(i16::MAX), Some(i16::MIN), Some(3)] {
        let versions = Arc::clone(&asked_for);
        versions.lock().unwrap().clear();
        let error = liar.always(ApiKey::ApiVersions, move |asked, _| {
            versions.lock().unwrap().push((asked.connection, asked.version));
            let range = |max| ApiVersion::default().with_api_key(18).with_max_version(max);
            let body = ApiVersionsResponse::default().with_error_code(35);
            let body = body.with_api_keys(claims.map(range).into_iter().collect());
            Asked { version: 0, ..asked }.encode(&body)
        });
        let ConnectionErrorKind::Refused { api: "ApiVersions", code: ErrorCode::UNSUPPORTED_VERSION, .. } =
            connection(error.kind()).kind
        else {
            panic!("{error}")
        };
        assert!(error.to_string().contains("UNSUPPORTED_VERSION (35)"), "{error}");
        assert_eq!(error.persistence(), Persistence::No);
        let asked_for = asked_for.lock().unwrap().clone();
        let on_first = asked_for.iter().filter(|(connection, _)| *connection == asked_for[0].0);
        let first: Vec<i16> = on_first.map(|(_, version)| *version).collect();
        assert!(first.is_sorted_by(|a, b| a > b) && first.last() == Some(&0), "each once, downwards: {first:?}");
    }
}

#[test]
fn versions_that_cannot_be_are_an_error_that_names_them() {
    type Lie = fn(&mut ApiVersionsResponse);
    let lies: [(Lie, &str, Option<ApiRange>); 4] = [
        (|body| body.api_keys.clear(), "Metadata", None),
        (|body| body.api_keys.retain(|api| api.api_key != 0), "Produce", None),
        (|body| flip(body, 0), "Produce", Some(ApiRange::new(13, 0))),
        (|body| flip(body, 3), "Metadata", Some(ApiRange::new(13, 0))),
    ];
    let liar = Liar::new();
    for (lie, expected, range) in lies {
        let error = liar.always(ApiKey::ApiVersions, move |asked, response| {
            let mut body: ApiVersionsResponse = asked.decode(&response);
            lie(&mut body);
            asked.encode(&body)
        });
        let ConnectionErrorKind::UnsupportedApi { api, ours, theirs } = connection(error.kind()).kind.clone() else {
            panic!("{error}")
        };
        assert_eq!((api, theirs, error.persistence()), (expected, range, Persistence::No));
        for part in [expected, &ours.to_string(), "upgrade"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[test]
fn versions_that_are_no_versions_are_asked_for_again() {
    let mut liar = Liar::new();
    for garbage in [&[0x80; 200][..], &[0x00], &[0x01; 200], b"ApiVersions"] {
        let connections = liar.once(ApiKey::ApiVersions, move |asked, _| asked.with_body(garbage));
        assert!(connections >= 2, "{garbage:02x?}");
    }
    // Only the numbers of the APIs that ottla knows are of interest, however many others there are.
    let connections = liar.once(ApiKey::ApiVersions, |asked, response| {
        let mut body: ApiVersionsResponse = asked.decode(&response);
        let others = (0..10_000).map(|key| ApiVersion::default().with_api_key(i16::MAX - key).with_max_version(-7));
        body.api_keys.splice(0..0, others);
        asked.encode(&body)
    });
    assert_eq!(connections, 1);
}

/// Swaps the ends of a range.
fn flip(body: &mut ApiVersionsResponse, key: i16) {
    let api = body.api_keys.iter_mut().find(|api| api.api_key == key).unwrap();
    (api.min_version, api.max_version) = (13, 0);
}

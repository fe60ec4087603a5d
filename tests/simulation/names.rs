//! What brokers say of themselves and of each other, and how it is told on: in one line, with the address.

use std::time::Duration;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsResponse, ProduceResponse};
use ottla::testing::{Api, Fault};
use ottla::{DeliveryErrorKind, ErrorCode, Message};

use crate::bench::{Bench, Twist};
use crate::metadata::{self, Change};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_host_that_forges_lines_is_told_in_one_and_never_looked_up() {
    let mut bench = Bench::with(2, |cluster| cluster.topic("a", 2), |config| config.delivery_timeout = secs(5));
    bench.twist = metadata::twist(|answer: &mut Change| {
        answer.cluster_id = Some("x\ny".into());
        for broker in answer.brokers.iter_mut().filter(|broker| broker.node_id == 2) {
            broker.host = "b\n2026-01-01 ERROR all is lost".into();
        }
    });
    bench.append(&Message::new("a", "lost").with_partition(1));
    bench.append(&Message::new("a", "0").with_partition(0));
    bench.pass(secs(10));
    assert_eq!((bench.delivered.len(), bench.failed.len()), (1, 1));
    let text = bench.failed[0].to_string();
    assert!(text.contains("broker 2 at b\\n2026-01-01 ERROR all is lost:9001") && !text.contains('\n'), "{text}");
    assert!(text.contains("check its advertised.listeners"), "{text}");
    let cluster = bench.engine.cluster().expect("it was told");
    assert_eq!(cluster.id.as_deref(), Some("x\\ny"));
    assert!(bench.connects < 5, "{} connects", bench.connects);
}

#[test]
fn a_brokers_words_are_told_in_one_line() {
    let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1));
    bench.twist = Some(Twist::of(Api::Produce, |answer: &mut ProduceResponse| {
        for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
            (partition.error_code, partition.error_message) = (44, Some("no\nWARN more".into()));
        }
    }));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    let DeliveryErrorKind::Broker(error) = bench.failed[0].kind() else { panic!("{}", bench.failed[0]) };
    assert_eq!(error.message.as_deref(), Some("no\\nWARN more"));
}

#[test]
fn a_refusal_names_the_address_that_it_came_from() {
    for api in [Api::Metadata, Api::InitProducerId] {
        let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1), |it| it.delivery_timeout = secs(2));
        // UNKNOWN_SERVER_ERROR, from the only address that there is.
        bench.cluster.inject(Fault::on(api).error(ErrorCode::UNKNOWN_SERVER_ERROR));
        bench.append(&Message::new("a", "0"));
        bench.pass(secs(3));
        let text = bench.failed[0].to_string();
        assert!(text.contains("127.0.0.1:9000 refused") && !text.contains("broker -1"), "{text}");
    }
}

#[test]
fn a_controller_is_not_taken_for_an_old_broker() {
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1), |it| it.delivery_timeout = secs(2));
    bench.twist = Some(Twist::of(Api::ApiVersions, |answer: &mut ApiVersionsResponse| {
        // What Kafka's controllers have for clients, and the number of BrokerRegistration.
        answer.api_keys.retain(|range| range.api_key == Api::ApiVersions.key());
        answer.api_keys.push(ApiVersion::default().with_api_key(62).with_max_version(4));
    }));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(3));
    let text = bench.failed[0].to_string();
    assert!(text.contains("a KRaft controller listens there") && !text.contains("upgrade"), "{text}");
}

#[test]
fn an_answer_that_nobody_awaits_is_called_so() {
    let mut bench = Bench::with(1, |cluster| cluster.topic("a", 1), |it| it.delivery_timeout = secs(2));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    // The answer comes a second time, when nothing is in flight.
    bench.echo = true;
    bench.append(&Message::new("a", "1"));
    bench.pass(secs(1));
    let error = bench.engine.last_error().expect("an error").to_string();
    assert!(error.contains("a response came that nobody asked for") && !error.contains("unexpected"), "{error}");
}

//! Brokers of other versions: the highest common one is spoken, and where there is none the error names both.

use ottla::testing::{Api, Cluster, ClusterBuilder};
use ottla::{ApiRange, CheckError, ConnectionErrorKind, Message};

use crate::common::*;

#[test]
fn every_common_version_delivers() {
    for (api, versions) in
        [(Api::Produce, 3..=13), (Api::Metadata, 4..=13), (Api::InitProducerId, 0..=5), (Api::ApiVersions, 0..=4)]
    {
        for version in versions {
            let cluster = Cluster::builder().topic("orders", 2).api_version(api, 0, version).start().unwrap();
            let producer = async_producer(&cluster).build().unwrap();
            let message = Message::tombstone("orders", "k").with_header("h", "1").with_header("h", "2");
            let fate = producer.produce_with_handle(message).unwrap().wait();
            assert!(fate.is_ok(), "{api} {version}: {fate:?}");
            let stored = cluster.messages("orders").remove(0);
            assert_eq!((stored.key_str(), stored.headers.len()), (Some("k"), 2));
            let used =
                cluster.requests().into_iter().filter(|request| request.api == api).map(|request| request.version);
            assert!(api == Api::ApiVersions || used.max().unwrap() <= version, "{api} {version}");
            assert_eq!(producer.shutdown().unwrap().delivered, 1);
        }
    }
}

#[test]
fn no_common_version_is_an_error_that_names_both_ranges() {
    for (min, max, api, name) in [
        (100, 101, Api::Produce, "Produce"),
        (0, 2, Api::Produce, "Produce"),
        (90, 99, Api::Metadata, "Metadata"),
        (50, 60, Api::InitProducerId, "InitProducerId"),
    ] {
        let builder = Cluster::builder().topic("orders", 1).api_version(api, min, max);
        let error = check_fails(&builder, api != Api::InitProducerId);
        let (text, kind) = fate_of(builder);
        for (text, kind) in error.into_iter().chain([(text, kind)]) {
            let ConnectionErrorKind::UnsupportedApi { api, ours, theirs } = kind else { panic!("{text}") };
            assert_eq!((api, theirs), (name, Some(ApiRange::new(min, max))));
            assert!(ours.max < min || ours.min > max, "{text}");
            for part in [name, &ours.to_string(), &format!("{min} to {max}"), "127.0.0.1:", "upgrade"] {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
        }
    }
}

#[test]
fn an_api_that_is_not_offered_is_named() {
    for (api, name) in [(Api::Produce, "Produce"), (Api::Metadata, "Metadata"), (Api::InitProducerId, "InitProducerId")]
    {
        let (text, kind) = fate_of(Cluster::builder().topic("orders", 1).without_api(api));
        let ConnectionErrorKind::UnsupportedApi { api, theirs: None, .. } = kind else { panic!("{text}") };
        assert_eq!(api, name);
        assert!(text.contains("does not offer"), "{text}");
    }
}

#[test]
fn a_broker_without_producer_ids_takes_messages_without_idempotence() {
    let cluster = Cluster::builder().topic("orders", 1).without_api(Api::InitProducerId).start().unwrap();
    let producer = async_producer(&cluster).idempotent(false).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    assert_eq!(cluster.messages("orders")[0].producer_id, -1);
}

fn check_fails(builder: &ClusterBuilder, fails: bool) -> Option<(String, ConnectionErrorKind)> {
    let cluster = builder.clone().start().unwrap();
    match client(&cluster).check(LONG) {
        Err(error) => {
            let text = error.to_string();
            let CheckError::Unreachable { errors, .. } = error else { panic!("{text}") };
            Some((text, errors[0].kind.clone()))
        }
        Ok(_) => {
            assert!(!fails);
            None
        }
    }
}

/// What a message that cannot be delivered there fails with.
fn fate_of(builder: ClusterBuilder) -> (String, ConnectionErrorKind) {
    let cluster = builder.start().unwrap();
    let producer = async_producer(&cluster).delivery_timeout(ms(600)).build().unwrap();
    let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
    (error.to_string(), connection(error.kind()).kind.clone())
}

//! The decoders of responses: any bytes, and responses that kafka-protocol encoded. What is read by hand must be what
//! kafka-protocol reads behind the walk of its bounds, which must keep it from any harm.

use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsResponse, MetadataResponse, ProduceResponse};
use ottla::wire::WireError;
use ottla::wire::api::api_versions::{self, Versions};
use ottla::wire::api::metadata::{self, BrokerMetadata, PartitionMetadata, TopicMetadata};
use ottla::wire::api::produce::{self, PartitionResult, TopicResult};
use ottla::wire::api::{Api, init_producer_id};
use ottla::wire::bounds::{self, Shape, array, array_of_int32, int8, int16, int32, int64, structure, text, uuid};
use ottla::wire::reader::shown;
use ottla::{ApiRange, ErrorCode};

use super::input::Input;
use super::responses::{Meant, Theirs};

/// How the rest is meant (`Meant`), then a response without its size, or what one is made of.
pub fn response_decode(data: &[u8]) {
    let mut input = Input::new(data);
    match Meant::by(&mut input) {
        Meant::AnyBytes(api, version) => any_bytes(api, version, input.rest()),
        Meant::Response(api, version) => {
            a_response(api, version, &Theirs::made_of(api, version, &mut input), &mut input);
        }
    }
}

fn any_bytes(api: Api, version: i16, frame: &[u8]) {
    let ours = match read(api, version, frame) {
        Ok(ours) => ours,
        Err(error) => {
            // Whatever comes of it: the walk keeps kafka-protocol from harm.
            let _ = their_reading(api, version, frame);
            let text = error.in_response_to(api).to_string();
            assert!(text.len() < 1000 && !text.contains('\n'), "{text}");
            return;
        }
    };
    same_with_more_behind(api, version, frame, &ours);
    let version = ours.version(version);
    match their_reading(api, version, frame) {
        Ok(theirs) => assert_eq!(ours, Ours::from(version, &theirs), "{api} version {version}"),
        Err(error) => assert!(may_refuse(api, version), "{api} version {version}: {error}, but {ours:?}"),
    }
}

fn a_response(api: Api, version: i16, theirs: &Theirs, input: &mut Input<'_>) {
    let frame = theirs.frame(api, version);
    let ours = read(api, version, &frame).unwrap_or_else(|error| panic!("{api} version {version}: {error}"));
    assert_eq!(ours, Ours::from(version, theirs), "{api} version {version}");
    same_with_more_behind(api, version, &frame, &ours);
    let cut = usize::from(input.i16() as u16) % frame.len();
    assert!(read(api, version, &frame[..cut]).is_err(), "{cut} of {} bytes are enough", frame.len());
}

/// Bytes behind the last field change nothing.
fn same_with_more_behind(api: Api, version: i16, frame: &[u8], ours: &Ours) {
    let longer = [frame, &[0xff, 0, 0x7f, 3]].concat();
    assert_eq!(read(api, version, &longer).as_ref(), Ok(ours));
}

/// What was read, in our words.
#[derive(Debug, PartialEq)]
enum Ours {
    ApiVersions(api_versions::ApiVersionsResponse),
    Metadata(metadata::MetadataResponse),
    InitProducerId(init_producer_id::InitProducerIdResponse),
    Produce(produce::ProduceResponse),
}

fn read(api: Api, version: i16, frame: &[u8]) -> Result<Ours, WireError> {
    match api {
        Api::ApiVersions => api_versions::decode(version, frame).map(Ours::ApiVersions),
        Api::Metadata => metadata::decode(version, frame).map(Ours::Metadata),
        Api::InitProducerId => init_producer_id::decode(version, frame).map(Ours::InitProducerId),
        Api::Produce => produce::decode(version, frame).map(Ours::Produce),
        other => panic!("{other} is not in READ"),
    }
}

impl Ours {
    /// The version that the body has: UNSUPPORTED_VERSION comes in version 0 (KIP-511).
    fn version(&self, asked: i16) -> i16 {
        match self {
            Self::ApiVersions(response) if response.error == ErrorCode::UNSUPPORTED_VERSION => 0,
            _ => asked,
        }
    }

    /// The same in our words.
    fn from(version: i16, theirs: &Theirs) -> Self {
        match theirs {
            Theirs::ApiVersions(theirs) => Self::ApiVersions(api_versions_of(theirs)),
            Theirs::Metadata(theirs) => Self::Metadata(metadata_of(theirs)),
            Theirs::InitProducerId(theirs) => Self::InitProducerId(init_producer_id::InitProducerIdResponse {
                throttle: millis(theirs.throttle_time_ms),
                error: ErrorCode(theirs.error_code),
                producer_id: theirs.producer_id.0,
                epoch: theirs.producer_epoch,
            }),
            Theirs::Produce(theirs) => Self::Produce(produce_of(version, theirs)),
        }
    }
}

fn api_versions_of(theirs: &ApiVersionsResponse) -> api_versions::ApiVersionsResponse {
    let known = theirs
        .api_keys
        .iter()
        .filter_map(|key| Some((Api::from_key(key.api_key)?, ApiRange::new(key.min_version, key.max_version))));
    api_versions::ApiVersionsResponse {
        error: ErrorCode(theirs.error_code),
        throttle: millis(theirs.throttle_time_ms),
        versions: Versions::from_iter(known),
        registers_brokers: theirs.api_keys.iter().any(|key| key.api_key == 62),
    }
}

fn metadata_of(theirs: &MetadataResponse) -> metadata::MetadataResponse {
    let topics = theirs.topics.iter().filter_map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| PartitionMetadata {
            error: ErrorCode(partition.error_code),
            index: partition.partition_index,
            leader: partition.leader_id.0,
            leader_epoch: partition.leader_epoch,
        });
        Some(TopicMetadata {
            error: ErrorCode(topic.error_code),
            name: topic.name.as_ref()?.0.as_str().into(),
            id: id_of(topic.topic_id.as_bytes()),
            partitions: partitions.collect(),
        })
    });
    let broker = |node: i32, host: &str, port| BrokerMetadata { node, host: shown(host), port: port_of(port) };
    metadata::MetadataResponse {
        throttle: millis(theirs.throttle_time_ms),
        error: ErrorCode(theirs.error_code),
        brokers: theirs.brokers.iter().map(|it| broker(it.node_id.0, &it.host, it.port)).collect(),
        cluster_id: theirs.cluster_id.as_ref().map(|id| shown(id)),
        controller: theirs.controller_id.0,
        topics: topics.collect(),
    }
}

fn produce_of(version: i16, theirs: &ProduceResponse) -> produce::ProduceResponse {
    let topics = theirs.responses.iter().map(|topic| {
        let partitions = topic.partition_responses.iter().map(|it| PartitionResult {
            index: it.index,
            error: ErrorCode(it.error_code),
            base_offset: it.base_offset,
            log_append_time: it.log_append_time_ms,
            record_errors: (it.record_errors.iter())
                .map(|error| (error.batch_index, error.batch_index_error_message.as_deref().map(shown)))
                .collect(),
            error_message: it.error_message.as_deref().map(shown),
            current_leader: (it.current_leader.leader_id.0 >= 0)
                .then_some((it.current_leader.leader_id.0, it.current_leader.leader_epoch)),
        });
        TopicResult {
            name: topic.name.0.as_str().into(),
            id: if version >= 13 { id_of(topic.topic_id.as_bytes()) } else { None },
            partitions: partitions.collect(),
        }
    });
    let endpoints = theirs.node_endpoints.iter();
    produce::ProduceResponse {
        throttle: millis(theirs.throttle_time_ms),
        topics: topics.collect(),
        node_endpoints: endpoints
            .map(|it| BrokerMetadata { node: it.node_id.0, host: shown(&it.host), port: port_of(it.port) })
            .collect(),
    }
}

fn their_reading(api: Api, version: i16, frame: &[u8]) -> Result<Theirs, WireError> {
    match api {
        Api::ApiVersions => bounds::response(api, version, API_VERSIONS, frame).map(Theirs::ApiVersions),
        Api::Metadata => bounds::response(api, version, METADATA, frame).map(Theirs::Metadata),
        Api::InitProducerId => bounds::response(api, version, INIT_PRODUCER_ID, frame).map(Theirs::InitProducerId),
        Api::Produce => bounds::response(api, version, PRODUCE, frame).map(Theirs::Produce),
        other => panic!("{other} is not in READ"),
    }
}

const API_VERSIONS: Shape = &[
    int16("error_code"),
    array("api_keys", &[int16("api_key"), int16("min_version"), int16("max_version")]),
    int32("throttle_time_ms").since(1),
    array("supported_features", &[text("name"), int16("min_version"), int16("max_version")]).since(3).tagged(0),
    int64("finalized_features_epoch").since(3).tagged(1),
    array("finalized_features", &[text("name"), int16("max_version_level"), int16("min_version_level")])
        .since(3)
        .tagged(2),
    int8("zk_migration_ready").since(3).tagged(3),
];

const METADATA: Shape = &[
    int32("throttle_time_ms").since(3),
    array("brokers", &[int32("node_id"), text("host"), int32("port"), text("rack").since(1)]),
    text("cluster_id").since(2),
    int32("controller_id").since(1),
    array(
        "topics",
        &[
            int16("error_code"),
            text("name"),
            uuid("topic_id").since(10),
            int8("is_internal").since(1),
            array(
                "partitions",
                &[
                    int16("error_code"),
                    int32("partition_index"),
                    int32("leader_id"),
                    int32("leader_epoch").since(7),
                    array_of_int32("replica_nodes"),
                    array_of_int32("isr_nodes"),
                    array_of_int32("offline_replicas").since(5),
                ],
            ),
            int32("topic_authorized_operations").since(8),
        ],
    ),
    int32("cluster_authorized_operations").since(8).until(10),
    int16("error_code").since(13),
];

const INIT_PRODUCER_ID: Shape =
    &[int32("throttle_time_ms"), int16("error_code"), int64("producer_id"), int16("producer_epoch")];

const PRODUCE: Shape = &[
    array(
        "responses",
        &[
            text("name").until(12),
            uuid("topic_id").since(13),
            array(
                "partition_responses",
                &[
                    int32("index"),
                    int16("error_code"),
                    int64("base_offset"),
                    int64("log_append_time_ms"),
                    int64("log_start_offset").since(5),
                    array("record_errors", &[int32("batch_index"), text("batch_index_error_message")]).since(8),
                    text("error_message").since(8),
                    structure("current_leader", &[int32("leader_id"), int32("leader_epoch")]).since(10).tagged(0),
                ],
            ),
        ],
    ),
    int32("throttle_time_ms"),
    array("node_endpoints", &[int32("node_id"), text("host"), int32("port"), text("rack")]).since(10).tagged(0),
];

/// Where kafka-protocol, or the walk before it, may refuse what we take: null in versions that do not have it, a tag
/// before its version, and a tagged field that we do not read or that has more in it.
fn may_refuse(api: Api, version: i16) -> bool {
    match api {
        Api::Metadata => version < 12,
        Api::Produce => version >= 9,
        Api::ApiVersions => version >= 3,
        _ => false,
    }
}

fn id_of(id: &[u8; 16]) -> Option<[u8; 16]> {
    (*id != [0; 16]).then_some(*id)
}

fn port_of(port: i32) -> u16 {
    u16::try_from(port).expect("other ports are refused")
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

//! Metadata: the brokers of a cluster, and the partitions of topics with their leaders.

use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;
use crate::wire::reader::{Reader, shown};
use crate::wire::request::request as frame_of;
use crate::wire::{Api, CorrelationId, Frame, WireError, WireErrorKind};

/// A request for the brokers and these topics; without topics, for the brokers alone.
///
/// Before version 4 brokers create missing topics as their own configuration says, whatever is asked for here. The
/// names must be topic names: Kafka's are at most 249 bytes.
#[must_use]
pub fn request(
    version: i16,
    correlation: CorrelationId,
    client_id: &str,
    topics: &[&str],
    allow_auto_topic_creation: bool,
) -> Frame {
    let topic = |name: &&str| {
        let name = TopicName(StrBytes::from_string((*name).to_owned()));
        MetadataRequestTopic::default().with_name(Some(name))
    };
    let message = MetadataRequest::default()
        .with_topics(Some(topics.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(allow_auto_topic_creation || version < 4);
    frame_of(Api::Metadata, version, correlation, client_id, &message)
}

/// Reads a response frame without its size. Topics without a name are left out.
pub fn decode(version: i16, frame: &[u8]) -> Result<MetadataResponse, WireError> {
    let mut body = Reader::body(Api::Metadata, version, frame)?;
    let throttle = if version >= 3 { body.millis("throttle_time_ms")? } else { Duration::ZERO };
    let brokers = body.array("brokers", MIN_BROKER, |body| broker(body).map(Some))?;
    let cluster_id = if version >= 2 { body.nullable_words("cluster_id")? } else { None };
    let controller = body.i32("controller_id")?;
    let topics = body.array("topics", MIN_TOPIC, |body| topic(version, body))?;
    if (8..=10).contains(&version) {
        body.i32("cluster_authorized_operations")?;
    }
    let error = if version >= 13 { ErrorCode(body.i16("error_code")?) } else { ErrorCode::NONE };
    body.skip_tags("response")?;
    Ok(MetadataResponse { throttle, error, brokers, cluster_id, controller, topics })
}

/// A broker's answer about its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataResponse {
    /// The time for which the broker asks to be left alone.
    pub throttle: Duration,
    /// An error of the whole response, such as REBOOTSTRAP_REQUIRED (version 13 and up, KIP-1102).
    pub error: ErrorCode,
    /// The brokers that are alive.
    pub brokers: Vec<BrokerMetadata>,
    /// The cluster's id, if it has one (version 2 and up), [shown].
    pub cluster_id: Option<Box<str>>,
    /// The node id of the controller, or -1.
    pub controller: i32,
    /// The topics that were asked for.
    pub topics: Vec<TopicMetadata>,
}

/// A broker and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerMetadata {
    /// Its node id.
    pub node: i32,
    /// Its host name or address, [shown].
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
}

/// A topic and its partitions, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The reason why the topic cannot be used.
    pub error: ErrorCode,
    /// Its name.
    pub name: Box<str>,
    /// Its id, which a topic that was deleted and created again does not share (version 10 and up, KIP-516).
    pub id: Option<[u8; 16]>,
    /// Its partitions, in any order.
    pub partitions: Vec<PartitionMetadata>,
}

/// A partition and its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Such as LEADER_NOT_AVAILABLE.
    pub error: ErrorCode,
    /// Its number in the topic.
    pub index: i32,
    /// The node id of its leader, or -1.
    pub leader: i32,
    /// The number of its leader's changes, or -1 where that is unknown (before version 7).
    pub leader_epoch: i32,
}

/// A broker as Metadata and Produce responses have it; version 0 of Metadata, without racks, is not spoken.
pub(super) fn broker(body: &mut Reader<'_>) -> Result<BrokerMetadata, WireError> {
    let node = body.i32("node_id")?;
    let host = shown(body.string("host")?);
    let port = body.i32("port")?;
    let port =
        u16::try_from(port).map_err(|_| WireError { field: "port", kind: WireErrorKind::OutOfRange(port.into()) })?;
    body.nullable_string("rack")?;
    body.skip_tags("brokers")?;
    Ok(BrokerMetadata { node, host, port })
}

fn topic(version: i16, body: &mut Reader<'_>) -> Result<Option<TopicMetadata>, WireError> {
    let error = ErrorCode(body.i16("error_code")?);
    let name = body.nullable_string("name")?;
    let id = if version >= 10 { body.uuid("topic_id")? } else { None };
    body.bool("is_internal")?;
    let partitions = body.array("partitions", MIN_PARTITION, |body| partition(version, body).map(Some))?;
    if version >= 8 {
        body.i32("topic_authorized_operations")?;
    }
    body.skip_tags("topics")?;
    Ok(name.map(|name| TopicMetadata { error, name: name.into(), id, partitions }))
}

fn partition(version: i16, body: &mut Reader<'_>) -> Result<PartitionMetadata, WireError> {
    let partition = PartitionMetadata {
        error: ErrorCode(body.i16("error_code")?),
        index: body.i32("partition_index")?,
        leader: body.i32("leader_id")?,
        leader_epoch: if version >= 7 { body.i32("leader_epoch")? } else { -1 },
    };
    body.skip_array("replica_nodes", 4)?;
    body.skip_array("isr_nodes", 4)?;
    if version >= 5 {
        body.skip_array("offline_replicas", 4)?;
    }
    body.skip_tags("partitions")?;
    Ok(partition)
}

// Bytes of the shortest elements in any version: compact lengths and tag counts take one byte.
pub(super) const MIN_BROKER: usize = 4 + 1 + 4 + 1;
const MIN_TOPIC: usize = 2 + 1 + 1 + 1;
const MIN_PARTITION: usize = 2 + 4 + 4 + 1 + 1;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::MetadataResponse as Theirs;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };

    use super::*;
    use crate::wire::oracle::*;

    const API: Api = Api::Metadata;

    #[test]
    fn requests_are_what_kafka_protocol_encodes() {
        for version in versions(API) {
            for names in [vec![], vec!["orders"], vec!["a", "b.c-d_e"]] {
                for create in [true, false] {
                    let topic = |name: &&str| {
                        let name = TopicName(StrBytes::from_string((*name).to_owned()));
                        MetadataRequestTopic::default().with_name(Some(name))
                    };
                    let theirs = MetadataRequest::default()
                        .with_topics(Some(names.iter().map(topic).collect()))
                        .with_allow_auto_topic_creation(version < 4 || create);
                    let ours = request(version, CorrelationId(9), "me", &names, create).to_vec();
                    assert_eq!(ours, their_request(API, version, 9, "me", &theirs), "version {version}, {names:?}");
                }
            }
        }
    }

    #[test]
    fn no_topics_means_none_rather_than_all() {
        let classic = request(1, CorrelationId(9), "me", &[], true).to_vec();
        assert!(classic.ends_with(&[b'e', 0, 0, 0, 0]), "{classic:02x?}");
        let flexible = request(9, CorrelationId(9), "me", &[], false).to_vec();
        // Header tags, one more than the count, no creation, no authorized operations twice, tags.
        assert!(flexible.ends_with(&[b'e', 0, 1, 0, 0, 0, 0]), "{flexible:02x?}");
    }

    #[test]
    fn round_trip() {
        for version in versions(API) {
            let epoch = if version >= 7 { 42 } else { -1 };
            let partition = |error, index, leader| PartitionMetadata { error, index, leader, leader_epoch: epoch };
            let expected = MetadataResponse {
                throttle: Duration::from_millis(if version >= 3 { 250 } else { 0 }),
                error: if version >= 13 { ErrorCode::REBOOTSTRAP_REQUIRED } else { ErrorCode::NONE },
                brokers: vec![
                    BrokerMetadata { node: 1, host: "one.example".into(), port: 9092 },
                    BrokerMetadata { node: 2, host: "two.example".into(), port: 65535 },
                ],
                cluster_id: (version >= 2).then(|| "the cluster".into()),
                controller: 2,
                topics: vec![
                    TopicMetadata {
                        error: ErrorCode::NONE,
                        name: "orders".into(),
                        id: (version >= 10).then_some([3; 16]),
                        partitions: vec![
                            partition(ErrorCode::NONE, 0, 1),
                            partition(ErrorCode::LEADER_NOT_AVAILABLE, 1, -1),
                        ],
                    },
                    TopicMetadata {
                        error: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                        name: "żółw".into(),
                        id: None,
                        partitions: vec![],
                    },
                ],
            };
            assert_eq!(decode(version, &full(version)), Ok(expected), "version {version}");
        }
    }

    #[test]
    fn empty() {
        for version in versions(API) {
            let read = decode(version, &response(API, version, &Theirs::default())).unwrap();
            assert_eq!((read.brokers, read.cluster_id, read.controller, read.topics), (vec![], None, -1, vec![]));
        }
    }

    #[test]
    fn the_shortest_elements_pass_the_check_of_counts() {
        for version in versions(API) {
            let topic = MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::new())));
            let partitions = vec![MetadataResponsePartition::default(); 100];
            let theirs =
                |brokers, topics| response(API, version, &Theirs::default().with_brokers(brokers).with_topics(topics));
            let read = |frame: Vec<u8>| decode(version, &frame).unwrap();
            let many = read(theirs(vec![MetadataResponseBroker::default(); 100], vec![]));
            assert_eq!(many.brokers.len(), 100, "version {version}");
            let many = read(theirs(vec![], vec![topic.clone(); 100]));
            assert_eq!(many.topics.len(), 100, "version {version}");
            let many = read(theirs(vec![], vec![topic.with_partitions(partitions)]));
            assert_eq!(many.topics[0].partitions.len(), 100, "version {version}");
        }
    }

    #[test]
    fn truncated() {
        for version in versions(API) {
            every_cut_is_refused(&full(version), |frame| decode(version, frame));
        }
    }

    #[test]
    fn bytes_behind_the_last_field_are_ignored() {
        for version in versions(API) {
            bytes_behind_are_ignored(&full(version), |frame| decode(version, frame));
        }
    }

    #[test]
    fn hostile_length() {
        let body = [0, 0, 0, 0, 0x89, 0x27];
        let error = bounded(&response_of_bytes(API, 12, &body), |frame| decode(12, frame)).unwrap_err();
        let kind = WireErrorKind::CountTooLarge { count: 5000, remaining: 0 };
        assert_eq!(error, WireError { field: "brokers", kind });

        // As many brokers as can be claimed, then nonsense.
        let claim = [&[0, 0, 0, 0, 0xe8, 0x07][..], &[0xff; 10_000]].concat();
        assert!(bounded(&response_of_bytes(API, 12, &claim), |frame| decode(12, frame)).is_err());
    }

    #[test]
    fn noise() {
        noise_is_survived(API, full, decode);
    }

    #[test]
    fn a_topic_without_a_name_is_left_out() {
        let topic = |name: Option<&'static str>| {
            MetadataResponseTopic::default()
                .with_name(name.map(|name| TopicName(name.into())))
                .with_partitions(vec![MetadataResponsePartition::default()])
        };
        let theirs = Theirs::default().with_topics(vec![topic(None), topic(Some("orders"))]);
        let read = decode(12, &response(API, 12, &theirs)).unwrap();
        assert_eq!(read.topics.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["orders"]);
    }

    #[test]
    fn a_port_beyond_16_bits_is_refused() {
        for port in [-1, 65_536] {
            let theirs = Theirs::default().with_brokers(vec![MetadataResponseBroker::default().with_port(port)]);
            let error = decode(12, &response(API, 12, &theirs)).unwrap_err();
            assert_eq!(error, WireError { field: "port", kind: WireErrorKind::OutOfRange(port.into()) });
            assert_eq!(error.to_string(), format!("port cannot be {port}"));
        }
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_refused() {
        let name = full(12).windows(6).position(|bytes| bytes == b"orders").unwrap();
        let mut frame = full(12);
        frame[name + 2] = 0xff;
        assert_eq!(decode(12, &frame), Err(WireError { field: "name", kind: WireErrorKind::BadUtf8 }));
    }

    #[test]
    fn a_name_of_any_length_is_read() {
        let name = "n".repeat(32_767);
        for version in [1, 12] {
            let topic =
                MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.clone()))));
            let read = decode(version, &response(API, version, &Theirs::default().with_topics(vec![topic]))).unwrap();
            assert_eq!(*read.topics[0].name, *name);
        }
    }

    fn full(version: i16) -> Vec<u8> {
        let broker = |node: i32, host: &'static str, port| {
            let rack = (version >= 1).then_some("rack".into());
            let mut broker = MetadataResponseBroker::default()
                .with_node_id(node.into())
                .with_host(host.into())
                .with_port(port)
                .with_rack(rack);
            if version >= 9 {
                broker.unknown_tagged_fields.extend([unknown_tag()]);
            }
            broker
        };
        let partition = |error: ErrorCode, index, leader: i32| {
            let mut partition = MetadataResponsePartition::default()
                .with_error_code(error.0)
                .with_partition_index(index)
                .with_leader_id(leader.into())
                .with_replica_nodes(vec![1.into(), 2.into(), 3.into()])
                .with_isr_nodes(vec![1.into()]);
            if version >= 5 {
                partition.offline_replicas = vec![2.into(), 3.into()];
            }
            if version >= 7 {
                partition.leader_epoch = 42;
            }
            if version >= 9 {
                partition.unknown_tagged_fields.extend([unknown_tag()]);
            }
            partition
        };
        let topic = |error: ErrorCode, name: &'static str, id: String, partitions| {
            let mut topic = MetadataResponseTopic::default()
                .with_error_code(error.0)
                .with_name(Some(TopicName(name.into())))
                .with_is_internal(version >= 1)
                .with_partitions(partitions);
            if version >= 8 {
                topic.topic_authorized_operations = 77;
            }
            if version >= 9 {
                topic.unknown_tagged_fields.extend([unknown_tag()]);
            }
            if version >= 10 {
                topic.topic_id = id.parse().unwrap();
            }
            topic
        };
        let partitions = vec![partition(ErrorCode::NONE, 0, 1), partition(ErrorCode::LEADER_NOT_AVAILABLE, 1, -1)];
        let mut theirs = Theirs::default()
            .with_brokers(vec![broker(1, "one.example", 9092), broker(2, "two.example", 65535)])
            .with_controller_id(2.into())
            .with_topics(vec![
                topic(ErrorCode::NONE, "orders", "03".repeat(16), partitions),
                topic(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "żółw", "00".repeat(16), vec![]),
            ]);
        if version >= 2 {
            theirs.cluster_id = Some("the cluster".into());
        }
        if version >= 3 {
            theirs.throttle_time_ms = 250;
        }
        if (8..=10).contains(&version) {
            theirs.cluster_authorized_operations = 77;
        }
        if version >= 13 {
            theirs.error_code = 129;
        }
        if version >= 9 {
            theirs.unknown_tagged_fields.extend([unknown_tag()]);
        }
        response(API, version, &theirs)
    }
}

//! Responses as a broker may send them, encoded by kafka-protocol, each made from the fuzzer's bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, InitProducerIdResponse, MetadataResponse, ProduceResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use ottla::wire::Api;

use super::input::Input;

/// The APIs whose responses are read here: all that are decoded by hand, and one that kafka-protocol decodes behind the
/// walk of its bounds.
pub const READ: [Api; 4] = [Api::Produce, Api::Metadata, Api::ApiVersions, Api::InitProducerId];

/// How the fuzzer's bytes are meant, and for which API and version.
pub enum Meant {
    /// As a response without its size.
    AnyBytes(Api, i16),
    /// As what a response is made of.
    Response(Api, i16),
}

impl Meant {
    /// By the first bytes.
    pub fn by(input: &mut Input<'_>) -> Self {
        let choice = input.byte();
        let api = READ[usize::from(choice) % READ.len()];
        let range = api.ours();
        let version = range.min + input.below((range.max - range.min + 1) as usize) as i16;
        if choice & 0x80 == 0 { Self::AnyBytes(api, version) } else { Self::Response(api, version) }
    }
}

/// A response that kafka-protocol can tell.
pub enum Theirs {
    ApiVersions(ApiVersionsResponse),
    Metadata(MetadataResponse),
    InitProducerId(InitProducerIdResponse),
    Produce(ProduceResponse),
}

impl Theirs {
    /// A response of this version.
    pub fn made_of(api: Api, version: i16, input: &mut Input<'_>) -> Self {
        let mut make = Make { version, flexible: api.is_flexible(version), input };
        match api {
            Api::ApiVersions => Self::ApiVersions(make.api_versions()),
            Api::Metadata => Self::Metadata(make.metadata()),
            Api::InitProducerId => Self::InitProducerId(make.init_producer_id()),
            Api::Produce => Self::Produce(make.produce()),
            other => panic!("{other} is not in READ"),
        }
    }

    /// The frame without its size.
    pub fn frame(&self, api: Api, version: i16) -> Vec<u8> {
        let mut frame = Vec::new();
        let header = ResponseHeader::default().with_correlation_id(7);
        let header_version = i16::from(api.has_tags_in_header(version));
        header.encode(&mut frame, header_version).expect("a header can be encoded");
        let body = match self {
            Self::ApiVersions(response) => response.encode(&mut frame, version),
            Self::Metadata(response) => response.encode(&mut frame, version),
            Self::InitProducerId(response) => response.encode(&mut frame, version),
            Self::Produce(response) => response.encode(&mut frame, version),
        };
        body.unwrap_or_else(|error| panic!("{api} version {version}: {error:#}"));
        frame
    }
}

struct Make<'a, 'b> {
    version: i16,
    flexible: bool,
    input: &'a mut Input<'b>,
}

impl Make<'_, '_> {
    fn api_versions(&mut self) -> ApiVersionsResponse {
        let mut response = ApiVersionsResponse::default();
        // UNSUPPORTED_VERSION comes in another version: see decoders.
        response.error_code = Some(self.input.i16()).filter(|code| *code != 35).unwrap_or(0);
        response.api_keys = self.many(|make| {
            let mut key = ApiVersion::default()
                .with_api_key(make.input.i32() as i16)
                .with_min_version(make.input.i32() as i16)
                .with_max_version(make.input.i32() as i16);
            key.unknown_tagged_fields = make.tags();
            key
        });
        if self.version >= 1 {
            response.throttle_time_ms = self.input.i32();
        }
        if self.version >= 3 {
            response.supported_features = self.many(|make| {
                let mut feature = SupportedFeatureKey::default().with_name(make.text());
                feature.max_version = make.input.i16();
                feature
            });
            response.finalized_features_epoch = self.input.i64();
            response.finalized_features = self.many(|make| FinalizedFeatureKey::default().with_name(make.text()));
            response.zk_migration_ready = self.input.flag();
            response.unknown_tagged_fields = self.tags();
        }
        response
    }

    fn metadata(&mut self) -> MetadataResponse {
        let version = self.version;
        let mut response = MetadataResponse::default();
        if version >= 3 {
            response.throttle_time_ms = self.input.i32();
        }
        response.brokers = self.many(|make| {
            let mut broker = MetadataResponseBroker::default()
                .with_node_id(make.input.i32().into())
                .with_host(make.text())
                .with_port(i32::from(make.input.i16() as u16))
                .with_rack(make.maybe_text());
            broker.unknown_tagged_fields = make.tags();
            broker
        });
        if version >= 2 {
            response.cluster_id = self.maybe_text();
        }
        response.controller_id = self.input.i32().into();
        response.topics = self.many(|make| {
            let name = if version >= 12 { make.maybe_text() } else { Some(make.text()) };
            let mut topic = MetadataResponseTopic::default()
                .with_error_code(make.input.i16())
                .with_name(name.map(TopicName))
                .with_is_internal(make.input.flag());
            if version >= 10 {
                topic.topic_id = make.uuid();
            }
            topic.partitions = make.many(|make| {
                let mut partition = MetadataResponsePartition::default()
                    .with_error_code(make.input.i16())
                    .with_partition_index(make.input.i32())
                    .with_leader_id(make.input.i32().into())
                    .with_replica_nodes(make.many(|make| make.input.i32().into()))
                    .with_isr_nodes(make.many(|make| make.input.i32().into()));
                if version >= 5 {
                    partition.offline_replicas = make.many(|make| make.input.i32().into());
                }
                if version >= 7 {
                    partition.leader_epoch = make.input.i32();
                }
                partition.unknown_tagged_fields = make.tags();
                partition
            });
            if version >= 8 {
                topic.topic_authorized_operations = make.input.i32();
            }
            topic.unknown_tagged_fields = make.tags();
            topic
        });
        if (8..=10).contains(&version) {
            response.cluster_authorized_operations = self.input.i32();
        }
        if version >= 13 {
            response.error_code = self.input.i16();
        }
        response.unknown_tagged_fields = self.tags();
        response
    }

    fn init_producer_id(&mut self) -> InitProducerIdResponse {
        let mut response = InitProducerIdResponse::default()
            .with_throttle_time_ms(self.input.i32())
            .with_error_code(self.input.i16())
            .with_producer_id(self.input.i64().into())
            .with_producer_epoch(self.input.i16());
        response.unknown_tagged_fields = self.tags();
        response
    }

    fn produce(&mut self) -> ProduceResponse {
        let version = self.version;
        let mut response = ProduceResponse::default();
        response.responses = self.many(|make| {
            let mut topic = TopicProduceResponse::default();
            if version >= 13 {
                topic.topic_id = make.uuid();
            } else {
                topic.name = TopicName(make.text());
            }
            topic.partition_responses = make.many(Self::produced);
            topic.unknown_tagged_fields = make.tags();
            topic
        });
        response.throttle_time_ms = self.input.i32();
        if version >= 10 {
            response.node_endpoints = self.many(|make| {
                let mut endpoint = NodeEndpoint::default()
                    .with_node_id(make.input.i32().into())
                    .with_host(make.text())
                    .with_port(i32::from(make.input.i16() as u16))
                    .with_rack(make.maybe_text());
                endpoint.unknown_tagged_fields = make.tags();
                endpoint
            });
        }
        response.unknown_tagged_fields = self.tags();
        response
    }

    fn produced(&mut self) -> PartitionProduceResponse {
        let mut partition = PartitionProduceResponse::default()
            .with_index(self.input.i32())
            .with_error_code(self.input.i16())
            .with_base_offset(self.input.i64())
            .with_log_append_time_ms(self.input.i64());
        if self.version >= 5 {
            partition.log_start_offset = self.input.i64();
        }
        if self.version >= 8 {
            partition.record_errors = self.many(|make| {
                let mut error = BatchIndexAndErrorMessage::default()
                    .with_batch_index(make.input.i32())
                    .with_batch_index_error_message(make.maybe_text());
                error.unknown_tagged_fields = make.tags();
                error
            });
            partition.error_message = self.maybe_text();
        }
        if self.version >= 10 && self.input.flag() {
            partition.current_leader =
                LeaderIdAndEpoch::default().with_leader_id(self.input.i32().into()).with_leader_epoch(self.input.i32());
        }
        partition.unknown_tagged_fields = self.tags();
        partition
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.input.below(5);
        (0..count).map(|_| one(self)).collect()
    }

    fn text(&mut self) -> StrBytes {
        StrBytes::from_string(self.input.text())
    }

    fn maybe_text(&mut self) -> Option<StrBytes> {
        self.input.flag().then(|| self.text())
    }

    /// Tags above all that are known today.
    fn tags(&mut self) -> BTreeMap<i32, Bytes> {
        if !self.flexible {
            return BTreeMap::new();
        }
        let tag = |input: &mut Input<'_>| 100 + (input.i32().unsigned_abs() / 2) as i32;
        (0..self.input.below(3)).map(|_| (tag(self.input), Bytes::copy_from_slice(self.input.piece()))).collect()
    }

    fn uuid<T: TryFrom<Vec<u8>> + Default>(&mut self) -> T {
        let mut id = self.input.take(16).to_vec();
        id.resize(16, 0);
        T::try_from(id).unwrap_or_default()
    }
}

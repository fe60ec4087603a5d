//! For tests: asks the cluster's logic as a client does, with kafka-protocol's encoder, and makes batches.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Request, StrBytes, encode_request_header_into_buffer};

use super::handlers;
use super::requests::Reply;
use super::state::ClusterState;
use super::topic::TopicId;
use super::{Api, ClusterBuilder};
use crate::message::Timestamp;
use crate::record::batch::{BatchBuilder, Stamp};
use crate::record::tail;
use crate::wire::bounds::{self, Shape};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A cluster at a time that stands still.
pub(super) struct Asking {
    pub state: ClusterState,
    pub now: Timestamp,
}

impl Asking {
    /// One broker with topic `t` of one partition.
    pub fn one_broker() -> Self {
        Self::with(ClusterBuilder::new().topic("t", 1))
    }

    pub fn with(builder: ClusterBuilder) -> Self {
        Self { state: ClusterState::new(builder, &[9091, 9092, 9093]).unwrap(), now: NOW }
    }

    pub fn topic_id(&self, topic: &str) -> TopicId {
        self.state.topics[topic].id
    }

    pub fn reply<R: Request>(&mut self, node: i32, version: i16, request: &R) -> Reply {
        self.state.receive(node, &frame(node, version, request), self.now)
    }

    /// The answer, which must come at once.
    pub fn ask<R: Request>(&mut self, node: i32, version: i16, request: &R) -> R::Response {
        match self.reply(node, version, request) {
            Reply::Send { bytes, .. } => read_answer::<R>(&bytes, version),
            Reply::Park(_) => panic!("the request waits"),
        }
    }

    pub fn produce_request(&self, version: i16, topic: &str, partition: i32, records: Vec<u8>) -> ProduceRequest {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(records.into()));
        let topic_data = TopicProduceData::default().with_partition_data(vec![data]);
        let topic_data = match version {
            13.. => topic_data.with_topic_id(self.topic_id(topic).to_wire()),
            _ => topic_data.with_name(name(topic)),
        };
        ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic_data])
    }

    /// Produces to broker 1.
    pub fn produce(&mut self, version: i16, topic: &str, partition: i32, records: Vec<u8>) -> PartitionProduceResponse {
        let request = self.produce_request(version, topic, partition, records);
        let mut response = self.ask(1, version, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }
}

/// A request as a frame without its size; its number is the node's.
pub(super) fn frame<R: Request>(node: i32, version: i16, request: &R) -> Bytes {
    let mut bytes = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(node)
        .with_client_id(Some(StrBytes::from_static_str("a test")));
    encode_request_header_into_buffer(&mut bytes, &header).unwrap();
    request.encode(&mut bytes, body_version::<R>(version)).unwrap();
    bytes.freeze()
}

/// The response in a frame with its size, which must end with it.
pub(super) fn read_answer<R: Request>(frame: &[u8], version: i16) -> R::Response {
    let size = i32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(size as usize, frame.len() - 4);
    let mut rest = Bytes::copy_from_slice(&frame[4..]);
    let key = ApiKey::try_from(R::KEY).unwrap();
    ResponseHeader::decode(&mut rest, key.response_header_version(version)).unwrap();
    let response = R::Response::decode(&mut rest, body_version::<R>(version)).unwrap();
    assert!(rest.is_empty(), "{} bytes behind the response", rest.len());
    response
}

/// Checks that a request of every version that the cluster speaks has the bounds of its shape, to the last byte, and
/// that a claim of some thousand bytes or elements in the place of one of its counts or lengths does no harm.
pub(super) fn has_its_bounds<R: Request>(shape: Shape, example: impl Fn(i16) -> R) {
    let api = Api::from_key(R::KEY).unwrap();
    let versions = api.of_the_cluster();
    for version in versions.min..=versions.max {
        let mut bytes = BytesMut::new();
        example(version).encode(&mut bytes, body_version::<R>(version)).unwrap();
        let length = |bytes: &[u8]| bounds::length(api, version, shape, bytes);
        assert_eq!(length(&bytes), Ok(bytes.len()), "{api} v{version}");
        assert!(handlers::read(api, version, bytes.clone().freeze()).is_ok(), "{api} v{version}");
        for end in 0..bytes.len() {
            assert!(length(&bytes[..end]).is_err(), "{api} v{version}, {end} of {} bytes", bytes.len());
        }
        for at in (1..bytes.len()).filter(|at| (1..10).contains(&bytes[*at])) {
            let (before, behind) = (&bytes[..at], &bytes[at + 1..]);
            let classic = [&before[..at - 1], &[0x13, 0x88], behind].concat();
            let flexible = [before, &[0x89, 0x27], behind].concat();
            // A frame that passes is decoded, and must not end the process.
            for hostile in [classic, flexible] {
                let _ = handlers::read(api, version, hostile.into());
            }
        }
    }
}

fn body_version<R: Request>(version: i16) -> i16 {
    Api::from_key(R::KEY).map_or(version, |api| api.version_in_kafka_protocol(version))
}

/// A request of a client that gives its name, from version 3 on.
pub(super) fn api_versions(version: i16) -> ApiVersionsRequest {
    let named = |text| if version < 3 { StrBytes::default() } else { StrBytes::from_static_str(text) };
    ApiVersionsRequest::default().with_client_software_name(named("a-test")).with_client_software_version(named("1"))
}

pub(super) fn name(topic: &str) -> TopicName {
    StrBytes::from_string(topic.to_owned()).into()
}

/// A batch of this many records `k0: v0`, `k1: v1`, ... at [`NOW`], from no idempotent producer.
pub(super) fn batch(count: usize) -> BatchMaker {
    let stamp = Stamp { producer_id: -1, epoch: -1, base_sequence: -1 };
    BatchMaker { stamp, times: vec![NOW.as_millis(); count], keys: vec![true; count], value_bytes: 0 }
}

pub(super) struct BatchMaker {
    stamp: Stamp,
    times: Vec<i64>,
    keys: Vec<bool>,
    value_bytes: usize,
}

impl BatchMaker {
    pub fn numbered(mut self, producer_id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.stamp = Stamp { producer_id, epoch, base_sequence };
        self
    }

    pub fn at(mut self, millis: i64) -> Self {
        self.times.fill(millis);
        self
    }

    /// The time of one record.
    pub fn time_of(mut self, index: usize, millis: i64) -> Self {
        self.times[index] = millis;
        self
    }

    pub fn without_keys(mut self) -> Self {
        self.keys.fill(false);
        self
    }

    /// One record without a key.
    pub fn keyless(mut self, index: usize) -> Self {
        self.keys[index] = false;
        self
    }

    /// Fills values up to this many bytes.
    pub fn values_of(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Vec::new());
        for (index, (time, has_key)) in self.times.iter().zip(&self.keys).enumerate() {
            let mut value = format!("v{index}").into_bytes();
            value.resize(value.len().max(self.value_bytes), b'.');
            let key = format!("k{index}");
            let key = has_key.then_some(key.as_bytes());
            let mut record = Vec::new();
            tail::put(&mut record, key, Some(&value), [("h", Some(&b"1"[..])), ("h", None)].into_iter());
            builder.append(*time, &record);
        }
        let records = builder.finish();
        [&records.header(self.stamp), &records.shared()[..]].concat()
    }
}

/// The batch with these changes, and the checksum that goes with them.
pub(super) fn changed(mut batch: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut batch);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

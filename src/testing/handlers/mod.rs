//! The answer to each request, one file per API. Pure: the cluster's state, the request and the time go in, an
//! answer and a changed state come out.

mod api_versions;
mod fetch;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::fault::{Errors, Hits, Target};
use super::frame::{self, Body, Header};
use super::state::ClusterState;
use super::topic::{Partition, Topic, TopicId};
use crate::message::Timestamp;

pub(super) use api_versions::unsupported as api_versions_unsupported;

/// What a handler knows besides the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    /// The broker that was asked.
    pub node: i32,
    pub header: &'a Header,
    pub hits: &'a Hits,
    pub now: Timestamp,
    /// When the request came.
    pub arrived: Timestamp,
}

/// What a handler makes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A frame with its size.
    Answer(Vec<u8>),
    /// No answer is due.
    Silence,
    /// The connection ends.
    Close,
    /// Nothing to answer with yet: ask again when something is new, at the latest at this time.
    WaitForNews { deadline: Timestamp },
}

/// Answers a request in a version that is offered.
pub(super) fn handle(state: &mut ClusterState, context: &Context<'_>, body: &Body) -> Outcome {
    match body {
        Body::Produce(request) => produce::handle(state, context, request),
        Body::Fetch(request) => fetch::handle(state, context, request),
        Body::ListOffsets(request) => list_offsets::handle(state, context, request),
        Body::Metadata(request) => metadata::handle(state, context, request),
        Body::OffsetForLeaderEpoch(request) => offset_for_leader_epoch::handle(state, context, request),
        Body::ApiVersions(request) => api_versions::handle(state, context, request),
        Body::InitProducerId(request) => init_producer_id::handle(state, context, request),
    }
}

/// The topics and partitions that a request names; topics of unknown id are left out.
pub(super) fn targets(state: &ClusterState, body: &Body) -> Vec<Target> {
    let of = |topic: String, partition| Target { topic, partition: Some(partition) };
    let named = |name: &TopicName, id: &[u8; 16]| state.wanted(name, id).map(|topic| topic.name.clone());
    match body {
        Body::Produce(request) => (request.topic_data.iter())
            .flat_map(|topic| {
                let name = named(&topic.name, topic.topic_id.as_bytes()).unwrap_or_else(|| topic.name.to_string());
                topic.partition_data.iter().map(move |partition| of(name.clone(), partition.index))
            })
            .collect(),
        Body::Fetch(request) => (request.topics.iter())
            .flat_map(|topic| {
                let name = named(&topic.topic, topic.topic_id.as_bytes()).unwrap_or_else(|| topic.topic.to_string());
                topic.partitions.iter().map(move |partition| of(name.clone(), partition.partition))
            })
            .collect(),
        Body::ListOffsets(request) => (request.topics.iter())
            .flat_map(|topic| topic.partitions.iter().map(|asked| of(topic.name.to_string(), asked.partition_index)))
            .collect(),
        Body::OffsetForLeaderEpoch(request) => (request.topics.iter())
            .flat_map(|topic| topic.partitions.iter().map(|asked| of(topic.topic.to_string(), asked.partition)))
            .collect(),
        Body::Metadata(request) => {
            metadata::names(state, request).into_iter().map(|topic| Target { topic, partition: None }).collect()
        }
        Body::ApiVersions(_) | Body::InitProducerId(_) => Vec::new(),
    }
}

impl Context<'_> {
    fn version(&self) -> i16 {
        self.header.version
    }

    fn answer(&self, body: &impl Encodable) -> Outcome {
        self.answer_as(body, self.version())
    }

    fn answer_as(&self, body: &impl Encodable, version: i16) -> Outcome {
        frame::write(self.header, body, version).map_or(Outcome::Close, Outcome::Answer)
    }

    fn errors_for(&self, topic: &str, partition: i32) -> Errors {
        self.hits.errors_for(topic, Some(partition))
    }
}

impl ClusterState {
    /// The topic of this id, or of this name where the id is nil.
    fn wanted(&self, name: &str, id: &[u8; 16]) -> Option<&Topic> {
        if *id == [0; 16] { self.topics.get(name) } else { self.topic_by_id(id) }
    }

    /// The partition if this node leads it, under an epoch that the client agrees with if it names one.
    fn led_partition(&self, node: i32, topic: &str, index: i32, epoch: i32) -> Result<&Partition, ResponseError> {
        let partition = self.topics.get(topic).and_then(|topic| topic.partition(index));
        let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
        if partition.leader != Some(node) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        // KIP-320.
        match epoch {
            ..0 => Ok(partition),
            _ if epoch < partition.leader_epoch => Err(ResponseError::FencedLeaderEpoch),
            _ if epoch > partition.leader_epoch => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(partition),
        }
    }
}

impl TopicId {
    /// As kafka-protocol has it.
    pub fn to_wire<T: TryFrom<Vec<u8>> + Default>(self) -> T {
        T::try_from(self.0.to_vec()).unwrap_or_default()
    }
}

/// A number that depends on this and on nothing else. What Kafka's brokers answer in the order of a hash map stands in
/// the order of such numbers here: another one in every answer, and the same whenever a test runs.
fn shuffled(place: impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(place)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    text(name).into()
}

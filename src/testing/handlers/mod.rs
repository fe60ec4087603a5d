//! The answer to each request, one file per API. Pure: the cluster's state, the request and the time go in, an
//! answer and a changed state come out.

mod api_versions;
mod context;
mod fetch;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

use kafka_protocol::messages::TopicName;

use super::fault::Target;
use super::frame::Body;
use super::state::ClusterState;

pub(super) use api_versions::unsupported as api_versions_unsupported;
pub(super) use context::{Context, Outcome};

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

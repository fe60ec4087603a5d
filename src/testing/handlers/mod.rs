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
mod sasl_authenticate;
mod sasl_handshake;

use bytes::Bytes;
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::Decodable;

use super::Api;
use crate::wire::WireError;
use crate::wire::bounds::{self, Shape};

pub(super) use api_versions::unsupported as api_versions_unsupported;
pub(super) use context::{Asked, Context, Response};

/// The request in a body of this version, which the cluster must speak.
pub(super) fn read(api: Api, version: i16, body: Bytes) -> Result<Box<dyn Asked>, WireError> {
    match api {
        Api::Produce => decode::<ProduceRequest>(api, version, produce::REQUEST, body),
        Api::Fetch => decode::<FetchRequest>(api, version, fetch::REQUEST, body),
        Api::ListOffsets => decode::<ListOffsetsRequest>(api, version, list_offsets::REQUEST, body),
        Api::Metadata => decode::<MetadataRequest>(api, version, metadata::REQUEST, body),
        Api::ApiVersions => decode::<ApiVersionsRequest>(api, version, api_versions::REQUEST, body),
        Api::InitProducerId => decode::<InitProducerIdRequest>(api, version, init_producer_id::REQUEST, body),
        Api::OffsetForLeaderEpoch => {
            decode::<OffsetForLeaderEpochRequest>(api, version, offset_for_leader_epoch::REQUEST, body)
        }
        Api::SaslHandshake => decode::<SaslHandshakeRequest>(api, version, sasl_handshake::REQUEST, body),
        Api::SaslAuthenticate => decode::<SaslAuthenticateRequest>(api, version, sasl_authenticate::REQUEST, body),
    }
}

fn decode<R: Asked + Decodable + 'static>(
    api: Api,
    version: i16,
    shape: Shape,
    body: Bytes,
) -> Result<Box<dyn Asked>, WireError> {
    Ok(Box::new(bounds::decode::<R>(api, version, "request", shape, body)?))
}

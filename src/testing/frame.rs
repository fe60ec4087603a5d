//! Requests out of frames, and answers into them. A frame here comes without its size, an answer leaves with it.

use std::fmt;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::Api;
use super::shape::{self, Walk};

/// What comes before every request.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

/// A decoded request.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Produce(ProduceRequest),
    Fetch(Box<FetchRequest>),
    ListOffsets(ListOffsetsRequest),
    Metadata(MetadataRequest),
    OffsetForLeaderEpoch(OffsetForLeaderEpochRequest),
    ApiVersions(ApiVersionsRequest),
    InitProducerId(InitProducerIdRequest),
}

/// Why a frame is no request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    Header,
    UnknownApi(i16),
    Body(Api, i16),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("no request header"),
            Self::UnknownApi(key) => write!(f, "request with API key {key}, which was not offered"),
            Self::Body(api, version) => {
                write!(f, "{api} request of version {version} is not sound")
            }
        }
    }
}

/// The header of the request in a frame, and the bytes behind it.
///
/// The bytes are empty if the version is not one that can be decoded.
pub(super) fn read_header(frame: &Bytes) -> Result<(Header, Bytes), BadFrame> {
    let mut start = Walk::new(frame, false);
    let (key, version) = start.i16().zip(start.i16()).ok_or(BadFrame::Header)?;
    let correlation_id = start.i32().ok_or(BadFrame::Header)?;
    let api = Api::from_key(key).ok_or(BadFrame::UnknownApi(key))?;
    if !api.of_the_cluster().contains(version) {
        return Ok((Header { api, version, correlation_id, client_id: None }, Bytes::new()));
    }
    let client_id = start.short_string().ok_or(BadFrame::Header)?;
    let client_id = client_id.map(|name| String::from_utf8_lossy(name).into_owned());
    let mut end = Walk::new(start.rest(), api.is_flexible(version));
    end.tags().ok_or(BadFrame::Header)?;
    let body = frame.slice(frame.len() - end.rest().len()..);
    Ok((Header { api, version, correlation_id, client_id }, body))
}

/// The request behind a header.
pub(super) fn read_body(header: &Header, mut bytes: Bytes) -> Result<Body, BadFrame> {
    let Header { api, version, .. } = *header;
    let bad = BadFrame::Body(api, version);
    if !shape::is_sound(api, version, &bytes) {
        return Err(bad);
    }
    let bytes = &mut bytes;
    let version = api.version_in_kafka_protocol(version);
    let body = match api {
        Api::Produce => ProduceRequest::decode(bytes, version).map(Body::Produce),
        Api::Fetch => FetchRequest::decode(bytes, version).map(Box::new).map(Body::Fetch),
        Api::ListOffsets => ListOffsetsRequest::decode(bytes, version).map(Body::ListOffsets),
        Api::Metadata => MetadataRequest::decode(bytes, version).map(Body::Metadata),
        Api::OffsetForLeaderEpoch => {
            OffsetForLeaderEpochRequest::decode(bytes, version).map(Body::OffsetForLeaderEpoch)
        }
        Api::ApiVersions => ApiVersionsRequest::decode(bytes, version).map(Body::ApiVersions),
        Api::InitProducerId => InitProducerIdRequest::decode(bytes, version).map(Body::InitProducerId),
    };
    body.map_err(|_| bad)
}

/// An answer as a frame with its size; its body has the version of the request, or the one given.
pub(super) fn write(header: &Header, body: &impl Encodable, version: i16) -> Option<Vec<u8>> {
    let mut bytes = BytesMut::new();
    let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
    let encoded = head
        .encode(&mut bytes, header.api.has_tags_in_header(version).into())
        .and_then(|()| body.encode(&mut bytes, header.api.version_in_kafka_protocol(version)));
    match encoded {
        Ok(()) => Some(with_size(&bytes)),
        Err(error) => {
            log::error!("{} answer of version {version} cannot be encoded: {error}", header.api);
            None
        }
    }
}

/// A frame with its size in front.
pub(super) fn with_size(frame: &[u8]) -> Vec<u8> {
    let size = i32::try_from(frame.len()).expect("answers are far below 2 GiB");
    [&size.to_be_bytes(), frame].concat()
}

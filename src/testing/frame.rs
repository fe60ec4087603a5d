//! The headers of requests, and answers in their frames. A frame here comes without its size, an answer leaves with it.

use std::fmt;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::Encodable;

use super::Api;
use crate::wire::WireError;
use crate::wire::reader::Reader;

/// The header of every request.
#[derive(Clone, Debug)]
pub(super) struct RequestHeader {
    pub api: Api,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

/// The reason why a frame is no request that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    Header(WireError),
    UnknownApi(i16),
    Body(Api, i16, WireError),
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => write!(f, "no request header: {error}"),
            Self::UnknownApi(key) => write!(f, "request with API key {key}, which was not offered"),
            Self::Body(api, version, error) => write!(f, "{api} request of version {version} cannot be read: {error}"),
        }
    }
}

/// The header of the request in a frame, and the bytes behind it.
///
/// The bytes are empty if the version is not one that can be decoded.
pub(super) fn read_header(frame: &Bytes) -> Result<(RequestHeader, Bytes), BadFrame> {
    let mut start = Reader::new(frame, false);
    let mut short = |field| start.i16(field).map_err(BadFrame::Header);
    let (key, version) = (short("request_api_key")?, short("request_api_version")?);
    let correlation_id = start.i32("correlation_id").map_err(BadFrame::Header)?;
    let api = Api::from_key(key).ok_or(BadFrame::UnknownApi(key))?;
    if !api.of_the_cluster().contains(version) {
        return Ok((RequestHeader { api, version, correlation_id, client_id: None }, Bytes::new()));
    }
    let length = start.i16("client_id").map_err(BadFrame::Header)?;
    // As with Kafka's brokers: any length below 0 is null, and bytes that are not UTF-8 are replaced.
    let client_id = match usize::try_from(length) {
        Ok(length) => Some(start.bytes("client_id", length).map_err(BadFrame::Header)?),
        Err(_) => None,
    };
    let client_id = client_id.map(|name| String::from_utf8_lossy(name).into_owned());
    let mut end = Reader::new(start.rest(), api.is_flexible(version));
    end.skip_tags("request header").map_err(BadFrame::Header)?;
    let body = frame.slice(frame.len() - end.rest().len()..);
    Ok((RequestHeader { api, version, correlation_id, client_id }, body))
}

/// An answer as a frame with its size; its body has the version of the request, or the one given. Otherwise the reason
/// why kafka-protocol cannot encode it.
pub(super) fn write(header: &RequestHeader, body: &impl Encodable, version: i16) -> Result<Vec<u8>, String> {
    let mut bytes = BytesMut::new();
    let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
    let encoded = head
        .encode(&mut bytes, header.api.has_tags_in_header(version).into())
        .and_then(|()| body.encode(&mut bytes, header.api.version_in_kafka_protocol(version)));
    let why = |error| format!("{} answer of version {version} cannot be encoded: {error}", header.api);
    encoded.map(|()| with_size(&bytes)).map_err(why)
}

/// A frame with its size in front.
pub(super) fn with_size(frame: &[u8]) -> Vec<u8> {
    let size = i32::try_from(frame.len()).expect("answers are far below 2 GiB");
    [&size.to_be_bytes(), frame].concat()
}

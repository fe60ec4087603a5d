//! The header of requests, and frames around the bodies that kafka-protocol encodes.

use std::sync::Arc;

use kafka_protocol::protocol::Encodable;

use super::{Api, CorrelationId, Frame};

/// A frame with this message, whose fields the version must have and whose texts are at most 32,767 bytes.
pub(super) fn request(
    api: Api,
    version: i16,
    correlation: CorrelationId,
    client_id: &str,
    message: &impl Encodable,
) -> Frame {
    let mut own = Vec::with_capacity(128);
    begin(&mut own, api, version, correlation, client_id);
    message
        .encode(&mut own, version)
        .expect("the version is one of `Api::ours`, its fields are chosen by it, and no text is above 32,767 bytes");
    finish(own, Vec::new())
}

/// Appends room for the size and the request header: version 1, or version 2 where the API is flexible.
pub(super) fn begin(own: &mut Vec<u8>, api: Api, version: i16, correlation: CorrelationId, client_id: &str) {
    own.extend([0; 4]);
    own.extend(api.key().to_be_bytes());
    own.extend(version.to_be_bytes());
    own.extend(correlation.0.to_be_bytes());
    // The client id keeps its two-byte length in every version of the header.
    put_string(own, client_id);
    if api.is_flexible(version) {
        own.push(0);
    }
}

/// A frame of these bytes, which began with [`begin`], with its size stamped.
pub(super) fn finish(own: Vec<u8>, splices: Vec<(usize, Arc<Vec<u8>>)>) -> Frame {
    let mut frame = Frame::with_splices(own, splices);
    frame.stamp_size();
    frame
}

/// Appends a text with a two-byte length, cut at 32,767 bytes.
pub(super) fn put_string(own: &mut Vec<u8>, text: &str) {
    let most = i16::MAX as usize;
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    // Not above 32,767: cut above.
    own.extend((end as u16).to_be_bytes());
    own.extend(&text.as_bytes()[..end]);
}

/// Appends an unsigned number of variable length.
pub(super) fn put_varint(own: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        own.push(value as u8 | 0x80);
        value >>= 7;
    }
    own.push(value as u8);
}

//! The tests of the decoders: kafka-protocol's encoder, cut and damaged frames, and noise.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};

use super::reader::reserved;
use super::{Api, WireError};

/// Every version that ottla speaks.
pub fn versions(api: Api) -> RangeInclusive<i16> {
    api.ours().min..=api.ours().max
}

/// A request with its size, as kafka-protocol frames it.
pub fn their_request(api: Api, version: i16, correlation: i32, client_id: &str, body: &impl Encodable) -> Vec<u8> {
    let mut frame = vec![0; 4];
    RequestHeader::default()
        .with_request_api_key(api.key())
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())))
        .encode(&mut frame, if api.is_flexible(version) { 2 } else { 1 })
        .unwrap();
    body.encode(&mut frame, version).unwrap();
    let size = i32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

/// A response without its size, as kafka-protocol frames it, with an unknown tag in the header where that can be.
pub fn response(api: Api, version: i16, body: &impl Encodable) -> Vec<u8> {
    let mut frame = Vec::new();
    let header = ResponseHeader::default().with_correlation_id(7);
    if api.has_tags_in_header(version) {
        let tag = Bytes::from_static(b"unknown");
        header.with_unknown_tagged_field(5, tag).encode(&mut frame, 1).unwrap();
    } else {
        header.encode(&mut frame, 0).unwrap();
    }
    body.encode(&mut frame, version).unwrap();
    frame
}

/// A response without its size: a plain header and this body.
pub fn response_of_bytes(api: Api, version: i16, body: &[u8]) -> Vec<u8> {
    let tags: &[u8] = if api.has_tags_in_header(version) { &[0] } else { &[] };
    [&[0, 0, 0, 7], tags, body].concat()
}

/// An unknown tagged field that nothing may trip over.
pub fn unknown_tag() -> (i32, Bytes) {
    (200, Bytes::from_static(&[0xff; 40]))
}

/// Cuts a response after every byte: each piece must be refused.
pub fn every_cut_is_refused<T: Debug>(frame: &[u8], decode: impl Fn(&[u8]) -> Result<T, WireError>) {
    decode(frame).expect("the whole frame can be read");
    for length in 0..frame.len() {
        let cut = decode(&frame[..length]);
        assert!(cut.is_err(), "{length} of {} bytes were read as {cut:?}", frame.len());
    }
}

/// Appends bytes to a response: they must change nothing, as in Kafka's own clients.
pub fn bytes_behind_are_ignored<T: Debug + PartialEq>(frame: &[u8], decode: impl Fn(&[u8]) -> Result<T, WireError>) {
    let whole = decode(frame).expect("the whole frame can be read");
    for behind in [&[0][..], &[1], &[0xff; 9], &[0x7f, 0xff, 0xff, 0xff], frame] {
        let longer = [frame, behind].concat();
        assert_eq!(decode(&longer).as_ref(), Ok(&whole), "{behind:02x?} behind {} bytes", frame.len());
    }
}

/// Decodes without a panic and without reserving more than the bound; gives what was decoded.
pub fn bounded<T>(frame: &[u8], decode: impl Fn(&[u8]) -> Result<T, WireError>) -> Result<T, WireError> {
    reserved::take();
    let decoded = decode(frame);
    let reserved = reserved::take();
    assert!(reserved <= 128 * frame.len(), "{reserved} bytes for a response of {}", frame.len());
    decoded
}

/// Decodes noise, and responses of every version with some bytes damaged.
pub fn noise_is_survived<T>(
    api: Api,
    valid: impl Fn(i16) -> Vec<u8>,
    decode: impl Fn(i16, &[u8]) -> Result<T, WireError>,
) {
    let valid: Vec<_> = versions(api).map(|version| (version, valid(version))).collect();
    let byte = || prop_oneof![select(vec![0, 1, 2, 0x23, 0x7f, 0x80, 0xfe, 0xff]), any::<u8>()];
    let damage = (select(valid), vec((any::<Index>(), byte()), 0..6), any::<Index>());
    let noise = (versions(api), vec(byte(), 0..200));
    let config = Config { cases: 10_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    runner
        .run(&noise, |(version, body)| {
            let _ = bounded(&response_of_bytes(api, version, &body), |frame| decode(version, frame));
            Ok(())
        })
        .unwrap();
    runner
        .run(&damage, |((version, mut frame), bytes, swap)| {
            for (at, byte) in bytes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            let half = swap.index(frame.len());
            let _ = bounded(&frame, |frame| decode(version, frame));
            frame.drain(4.min(half)..half);
            let _ = bounded(&frame, |frame| decode(version, frame));
            Ok(())
        })
        .unwrap();
}

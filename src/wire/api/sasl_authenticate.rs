//! SaslAuthenticate: carries the messages of a login to the broker, and the broker's back (KIP-152).
//!
//! A request is written by hand, so that its secret is in one place, which is wiped.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::SaslAuthenticateResponse as Theirs;

use crate::error::ErrorCode;
use crate::wire::bounds::{self, Shape, bytes, int16, int64, text};
use crate::wire::reader::shown;
use crate::wire::request::{begin, finish, put_varint};
use crate::wire::{Api, CorrelationId, Frame, WireError};

/// A request with this message of the mechanism.
#[must_use]
pub fn request(version: i16, correlation: CorrelationId, client_id: &str, message: &[u8]) -> Frame {
    // All of it from the start: a buffer that grows leaves its bytes behind.
    let mut own = Vec::with_capacity(HEADER + client_id.len() + message.len());
    begin(&mut own, Api::SaslAuthenticate, version, correlation, client_id);
    let length = message.len() as u32;
    if Api::SaslAuthenticate.is_flexible(version) {
        put_varint(&mut own, length + 1);
        own.extend(message);
        own.push(0);
    } else {
        own.extend(length.to_be_bytes());
        own.extend(message);
    }
    finish(own, Vec::new()).into_secret()
}

/// Reads a response frame without its size.
pub fn decode(version: i16, frame: &[u8]) -> Result<SaslAuthenticateResponse, WireError> {
    let theirs: Theirs = bounds::response(Api::SaslAuthenticate, version, RESPONSE, frame)?;
    let said = theirs.error_message.as_deref().filter(|text| !text.is_empty());
    Ok(SaslAuthenticateResponse {
        error: ErrorCode(theirs.error_code),
        message: said.map(|text| shown(text).into()),
        bytes: theirs.auth_bytes.to_vec(),
        lifetime: Duration::from_millis(u64::try_from(theirs.session_lifetime_ms).unwrap_or(0)),
    })
}

const RESPONSE: Shape =
    &[int16("error_code"), text("error_message"), bytes("auth_bytes"), int64("session_lifetime_ms").since(1)];

/// A broker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslAuthenticateResponse {
    /// The reason why the login has failed.
    pub error: ErrorCode,
    /// The broker's own words about it, fit for a log.
    pub message: Option<Arc<str>>,
    /// The message of the mechanism.
    pub bytes: Vec<u8>,
    /// The time until another login is due (KIP-368); zero if none is.
    pub lifetime: Duration,
}

/// Bytes of a request around its client id and message, and some to spare.
const HEADER: usize = 32;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::SaslAuthenticateRequest;
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::wire::WireErrorKind;
    use crate::wire::oracle::*;

    const API: Api = Api::SaslAuthenticate;

    #[test]
    fn requests_are_what_kafka_protocol_encodes() {
        for version in versions(API) {
            for length in [0, 1, 126, 127, 300, 70_000] {
                let message = vec![7; length];
                let theirs = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message.clone()));
                let ours = request(version, CorrelationId(9), "me", &message).to_vec();
                assert_eq!(ours, their_request(API, version, 9, "me", &theirs), "version {version}, {length}");
            }
        }
    }

    #[test]
    fn the_secret_is_not_copied_while_the_request_is_written() {
        let room = HEADER + "me".len() + 1000;
        for version in versions(API) {
            assert!(request(version, CorrelationId(9), "me", &[7; 1000]).len() <= room);
        }
    }

    #[test]
    fn round_trip() {
        for version in versions(API) {
            let expected = SaslAuthenticateResponse {
                error: ErrorCode::SASL_AUTHENTICATION_FAILED,
                message: Some("no\\nroom".into()),
                bytes: b"v=1".to_vec(),
                lifetime: Duration::from_millis(if version >= 1 { 20_000 } else { 0 }),
            };
            assert_eq!(decode(version, &full(version)), Ok(expected), "version {version}");
        }
    }

    #[test]
    fn an_empty_text_is_none_and_a_lifetime_below_zero_is_none() {
        let theirs = Theirs::default().with_error_message(Some(StrBytes::default())).with_session_lifetime_ms(-5);
        let answer = decode(2, &response(API, 2, &theirs)).unwrap();
        assert_eq!((answer.message, answer.lifetime), (None, Duration::ZERO));
    }

    #[test]
    fn empty() {
        for version in versions(API) {
            let frame = response_of_bytes(API, version, &[]);
            let kind = WireErrorKind::Truncated { needed: 2, remaining: 0 };
            assert_eq!(decode(version, &frame), Err(WireError { field: "error_code", kind }));
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
        let body = [0, 0, 1, 0x89, 0x27, 1];
        let error = bounded(&response_of_bytes(API, 2, &body), |frame| decode(2, frame)).unwrap_err();
        let kind = WireErrorKind::Truncated { needed: 5000, remaining: 1 };
        assert_eq!(error, WireError { field: "auth_bytes", kind });
    }

    #[test]
    fn noise() {
        noise_is_survived(API, full, decode);
    }

    fn full(version: i16) -> Vec<u8> {
        let mut theirs = Theirs::default()
            .with_error_code(58)
            .with_error_message(Some(StrBytes::from_static_str("no\nroom")))
            .with_auth_bytes(Bytes::from_static(b"v=1"));
        if version >= 1 {
            theirs = theirs.with_session_lifetime_ms(20_000);
        }
        if version >= 2 {
            theirs.unknown_tagged_fields.extend([unknown_tag()]);
        }
        response(API, version, &theirs)
    }
}

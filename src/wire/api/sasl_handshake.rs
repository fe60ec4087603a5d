//! SaslHandshake: names the mechanism of the login that follows (KIP-43).

use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse as Theirs};
use kafka_protocol::protocol::StrBytes;

use crate::error::ErrorCode;
use crate::wire::bounds::{self, Shape, array, int16, text};
use crate::wire::reader::shown;
use crate::wire::request::request as frame_of;
use crate::wire::{Api, CorrelationId, Frame, WireError};

/// A request for a login by this mechanism.
#[must_use]
pub fn request(version: i16, correlation: CorrelationId, client_id: &str, mechanism: &'static str) -> Frame {
    let message = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
    frame_of(Api::SaslHandshake, version, correlation, client_id, &message)
}

/// Reads a response frame without its size.
pub fn decode(version: i16, frame: &[u8]) -> Result<SaslHandshakeResponse, WireError> {
    let theirs: Theirs = bounds::response(Api::SaslHandshake, version, RESPONSE, frame)?;
    let names: Vec<&str> = theirs.mechanisms.iter().take(MOST_MECHANISMS).map(|name| &**name).collect();
    Ok(SaslHandshakeResponse { error: ErrorCode(theirs.error_code), mechanisms: shown(&names.join(", ")) })
}

// No version is flexible, so a text is read like a structure of one.
const RESPONSE: Shape = &[int16("error_code"), array("mechanisms", &[text("mechanism")])];

/// A broker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslHandshakeResponse {
    /// The reason why there is no login.
    pub error: ErrorCode,
    /// The mechanisms of the listener, fit for a log.
    pub mechanisms: Box<str>,
}

/// Kafka knows five.
const MOST_MECHANISMS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireErrorKind;
    use crate::wire::oracle::*;

    const API: Api = Api::SaslHandshake;

    #[test]
    fn requests_are_what_kafka_protocol_encodes() {
        for version in versions(API) {
            let theirs = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
            let ours = request(version, CorrelationId(9), "me", "PLAIN").to_vec();
            assert_eq!(ours, their_request(API, version, 9, "me", &theirs), "version {version}");
        }
    }

    #[test]
    fn round_trip() {
        for version in versions(API) {
            let expected = SaslHandshakeResponse {
                error: ErrorCode::UNSUPPORTED_SASL_MECHANISM,
                mechanisms: "PLAIN, SCRAM-SHA-256\\n".into(),
            };
            assert_eq!(decode(version, &full(version)), Ok(expected), "version {version}");
        }
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
        let body = [0, 33, 0, 0, 0x13, 0x88, 0, 1, b'x'];
        let error = bounded(&response_of_bytes(API, 1, &body), |frame| decode(1, frame)).unwrap_err();
        let kind = WireErrorKind::CountTooLarge { count: 5000, remaining: 3 };
        assert_eq!(error, WireError { field: "mechanisms", kind });
    }

    #[test]
    fn many_long_names_are_cut() {
        let names = vec![StrBytes::from_string("x".repeat(300)); 50];
        let frame = response(API, 1, &Theirs::default().with_mechanisms(names));
        let answer = decode(1, &frame).unwrap();
        assert!((900..1100).contains(&answer.mechanisms.len()), "{}", answer.mechanisms.len());
    }

    #[test]
    fn noise() {
        noise_is_survived(API, full, decode);
    }

    fn full(version: i16) -> Vec<u8> {
        let mechanisms = ["PLAIN", "SCRAM-SHA-256\n"].map(StrBytes::from_static_str);
        response(API, version, &Theirs::default().with_error_code(33).with_mechanisms(mechanisms.to_vec()))
    }
}

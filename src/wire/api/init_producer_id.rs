//! InitProducerId: the producer id and epoch under which a broker recognises repeated batches (KIP-98).

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse as Theirs};

use crate::error::ErrorCode;
use crate::wire::bounds::{self, Shape, int16, int32, int64};
use crate::wire::reader::millis;
use crate::wire::request::request as frame_of;
use crate::wire::{Api, CorrelationId, Frame, WireError};

/// A request for a new producer id, without a transactional id.
#[must_use]
pub fn request(version: i16, correlation: CorrelationId, client_id: &str) -> Frame {
    let message = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    frame_of(Api::InitProducerId, version, correlation, client_id, &message)
}

/// Reads a response frame without its size.
pub fn decode(version: i16, frame: &[u8]) -> Result<InitProducerIdResponse, WireError> {
    let theirs: Theirs = bounds::response(Api::InitProducerId, version, RESPONSE, frame)?;
    Ok(InitProducerIdResponse {
        throttle: millis(theirs.throttle_time_ms),
        error: ErrorCode(theirs.error_code),
        producer_id: theirs.producer_id.0,
        epoch: theirs.producer_epoch,
    })
}

const RESPONSE: Shape =
    &[int32("throttle_time_ms"), int16("error_code"), int64("producer_id"), int16("producer_epoch")];

/// A producer id with its epoch, if there is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitProducerIdResponse {
    /// The time for which the broker asks to be left alone.
    pub throttle: Duration,
    /// The reason why there is no producer id.
    pub error: ErrorCode,
    /// The producer id, or -1 with an error.
    pub producer_id: i64,
    /// The epoch of the producer id, or -1 with an error.
    pub epoch: i16,
}

/// Without a transactional id the broker ignores it.
const TRANSACTION_TIMEOUT_MS: i32 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::WireErrorKind;
    use crate::wire::oracle::*;
    use crate::wire::reader::Reader;

    const API: Api = Api::InitProducerId;

    #[test]
    fn requests_are_what_kafka_protocol_encodes() {
        for version in versions(API) {
            let theirs =
                InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
            let ours = request(version, CorrelationId(9), "me").to_vec();
            assert_eq!(ours, their_request(API, version, 9, "me", &theirs), "version {version}");
        }
    }

    #[test]
    fn an_idempotent_producer_asks_without_an_id_of_its_own() {
        let bytes = request(4, CorrelationId(9), "me").to_vec();
        // Null transactional id, timeout, producer id -1, epoch -1, no tags.
        let body = [&[0][..], &60_000_i32.to_be_bytes(), &[0xff; 10], &[0]].concat();
        assert!(bytes.ends_with(&body), "{bytes:02x?}");
    }

    #[test]
    fn round_trip() {
        for version in versions(API) {
            let expected = InitProducerIdResponse {
                throttle: Duration::from_millis(250),
                error: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                producer_id: 1 << 40,
                epoch: 3,
            };
            assert_eq!(decode(version, &full(version)), Ok(expected), "version {version}");
        }
    }

    #[test]
    fn empty() {
        for version in versions(API) {
            let frame = response_of_bytes(API, version, &[]);
            let kind = WireErrorKind::Truncated { needed: 4, remaining: 0 };
            assert_eq!(decode(version, &frame), Err(WireError { field: "throttle_time_ms", kind }));
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
        // One tagged field that claims 5,000 bytes.
        let body = [&[0; 16][..], &[1, 9, 0x88, 0x27, 1, 2, 3]].concat();
        let error = bounded(&response_of_bytes(API, 2, &body), |frame| decode(2, frame)).unwrap_err();
        let kind = WireErrorKind::Truncated { needed: 5000, remaining: 3 };
        assert_eq!(error, WireError { field: "response", kind });
    }

    #[test]
    fn noise() {
        noise_is_survived(API, full, decode);
    }

    /// As it was decoded before kafka-protocol did it.
    fn by_hand(version: i16, frame: &[u8]) -> Result<InitProducerIdResponse, WireError> {
        let mut body = Reader::body(API, version, frame)?;
        let response = InitProducerIdResponse {
            throttle: body.millis("throttle_time_ms")?,
            error: ErrorCode(body.i16("error_code")?),
            producer_id: body.i64("producer_id")?,
            epoch: body.i16("producer_epoch")?,
        };
        body.skip_tags("response")?;
        Ok(response)
    }

    #[test]
    fn it_is_read_as_by_hand() {
        let same = |version, frame: &[u8]| {
            let read = decode(version, frame);
            assert_eq!(read, by_hand(version, frame), "version {version}: {frame:02x?}");
            read
        };
        noise_is_survived(API, full, same);
        for version in versions(API) {
            every_cut_is_refused(&full(version), |frame| same(version, frame));
        }
    }

    fn full(version: i16) -> Vec<u8> {
        let mut theirs = Theirs::default()
            .with_throttle_time_ms(250)
            .with_error_code(31)
            .with_producer_id((1 << 40).into())
            .with_producer_epoch(3);
        if version >= 2 {
            theirs.unknown_tagged_fields.extend([unknown_tag()]);
        }
        response(API, version, &theirs)
    }
}

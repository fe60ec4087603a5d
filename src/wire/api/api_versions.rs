//! ApiVersions: the APIs and versions that a broker has. The first request on every connection.
//!
//! The response is decoded by hand: it may come in version 0 whatever was asked for, the listener may be no broker at
//! all, and of the many fields only one list is wanted.

use std::time::Duration;

use kafka_protocol::messages::ApiVersionsRequest;
use kafka_protocol::protocol::StrBytes;

use crate::error::{ApiRange, ConnectionErrorKind, ErrorCode};
use crate::wire::reader::Reader;
use crate::wire::request::request as frame_of;
use crate::wire::{Api, CorrelationId, Frame, WireError};

/// A request that also tells the name and version of this library (from version 3 on).
#[must_use]
pub fn request(version: i16, correlation: CorrelationId, client_id: &str) -> Frame {
    let mut message = ApiVersionsRequest::default();
    if version >= 3 {
        message = message
            .with_client_software_name(StrBytes::from_static_str(SOFTWARE_NAME))
            .with_client_software_version(StrBytes::from_static_str(SOFTWARE_VERSION));
    }
    frame_of(Api::ApiVersions, version, correlation, client_id, &message)
}

/// Reads a response frame without its size.
///
/// A broker that does not know the version of the request answers UNSUPPORTED_VERSION in the form of version 0, which
/// is read as such; since KIP-511 it has the range of ApiVersions in it, to ask again with.
pub fn decode(version: i16, frame: &[u8]) -> Result<ApiVersionsResponse, WireError> {
    let mut body = Reader::body(Api::ApiVersions, version, frame)?;
    let error = ErrorCode(body.i16("error_code")?);
    let version = if error == ErrorCode::UNSUPPORTED_VERSION { 0 } else { version };
    let mut body = Reader::new(body.rest(), Api::ApiVersions.is_flexible(version));

    let (mut versions, mut registers_brokers) = (Versions::default(), false);
    for _ in 0..body.count("api_keys", MIN_API_VERSION)? {
        let key = body.i16("api_key")?;
        let range = ApiRange::new(body.i16("min_version")?, body.i16("max_version")?);
        body.skip_tags("api_keys")?;
        versions.set(key, range);
        registers_brokers |= key == BROKER_REGISTRATION;
    }
    let throttle = if version >= 1 { body.millis("throttle_time_ms")? } else { Duration::ZERO };
    body.skip_tags("response")?;
    Ok(ApiVersionsResponse { error, throttle, versions, registers_brokers })
}

/// A broker's answer about its APIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    /// The broker's verdict on the request.
    pub error: ErrorCode,
    /// The time for which the broker asks to be left alone.
    pub throttle: Duration,
    /// The APIs that it named.
    pub versions: Versions,
    /// `true` if it named the API with which brokers register, so that it is a controller (KIP-631).
    pub registers_brokers: bool,
}

/// The versions that a broker speaks, of the APIs that ottla knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    ranges: [Option<ApiRange>; Api::ALL.len()],
}

impl Versions {
    /// The versions of this API that the broker speaks, as it said them, or `None` if it did not name the API.
    #[must_use]
    pub fn range(&self, api: Api) -> Option<ApiRange> {
        self.ranges[api as usize]
    }

    /// The highest version that both sides speak.
    ///
    /// # Errors
    ///
    /// - [`ConnectionErrorKind::UnsupportedApi`]: there is none, for example because the broker is too old.
    pub fn choose(&self, api: Api) -> Result<i16, ConnectionErrorKind> {
        self.choose_at_most(api, i16::MAX)
    }

    /// The highest version up to `cap` that both sides speak.
    ///
    /// # Errors
    ///
    /// - [`ConnectionErrorKind::UnsupportedApi`]: there is none, for example because the broker is too old.
    pub fn choose_at_most(&self, api: Api, cap: i16) -> Result<i16, ConnectionErrorKind> {
        let ours = ApiRange::new(api.ours().min, api.ours().max.min(cap));
        let theirs = self.range(api);
        // Brokers still advertise Produce 0 to 2, which Kafka 4 removed (KIP-896); ours begins above them.
        match theirs {
            Some(theirs) if ours.min.max(theirs.min) <= ours.max.min(theirs.max) => Ok(ours.max.min(theirs.max)),
            _ => Err(ConnectionErrorKind::UnsupportedApi { api: api.name(), ours, theirs }),
        }
    }

    fn set(&mut self, key: i16, range: ApiRange) {
        if let Some(api) = Api::from_key(key) {
            self.ranges[api as usize] = Some(range);
        }
    }
}

impl FromIterator<(Api, ApiRange)> for Versions {
    fn from_iter<I: IntoIterator<Item = (Api, ApiRange)>>(ranges: I) -> Self {
        let mut versions = Self::default();
        for (api, range) in ranges {
            versions.set(api.key(), range);
        }
        versions
    }
}

// KIP-511: both must match `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`, or the broker refuses the request.
const SOFTWARE_NAME: &str = "ottla";
const SOFTWARE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The number of an API that KRaft controllers have, and no broker.
const BROKER_REGISTRATION: i16 = 62;

/// Bytes of the shortest element of `api_keys`.
const MIN_API_VERSION: usize = 6;

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
    use kafka_protocol::messages::{ApiKey, ApiVersionsResponse as Theirs};

    use super::*;
    use crate::wire::WireErrorKind;
    use crate::wire::oracle::*;

    const API: Api = Api::ApiVersions;

    #[test]
    fn requests_are_what_kafka_protocol_encodes() {
        for version in versions(API) {
            let mut theirs = ApiVersionsRequest::default();
            if version >= 3 {
                theirs.client_software_name = "ottla".into();
                theirs.client_software_version = env!("CARGO_PKG_VERSION").into();
            }
            let ours = request(version, CorrelationId(9), "me").to_vec();
            assert_eq!(ours, their_request(API, version, 9, "me", &theirs), "version {version}");
        }
    }

    #[test]
    fn the_software_version_is_one_that_brokers_accept() {
        let inner = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
        for text in [SOFTWARE_NAME, SOFTWARE_VERSION] {
            assert!(text.chars().all(inner), "{text}");
            assert!(!text.starts_with(['-', '.']) && !text.ends_with(['-', '.']) && !text.is_empty(), "{text}");
        }
    }

    #[test]
    fn round_trip() {
        for version in versions(API) {
            let read = decode(version, &full(version)).unwrap();
            assert_eq!(read.error, ErrorCode::NONE);
            assert_eq!(read.throttle, Duration::from_millis(if version >= 1 { 250 } else { 0 }));
            let expected = Versions::from_iter([
                (Api::Produce, ApiRange::new(0, 13)),
                (Api::Fetch, ApiRange::new(4, 17)),
                (Api::Metadata, ApiRange::new(0, 7)),
                (Api::ApiVersions, ApiRange::new(0, 4)),
            ]);
            assert_eq!(read.versions, expected, "version {version}");
        }
    }

    #[test]
    fn empty() {
        for version in versions(API) {
            let read = decode(version, &response(API, version, &Theirs::default())).unwrap();
            assert_eq!(read.versions, Versions::default());
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
        let frame = response_of_bytes(API, 0, &[0, 0, 0, 0, 0x13, 0x88]);
        let error = bounded(&frame, |frame| decode(0, frame)).unwrap_err();
        let kind = WireErrorKind::CountTooLarge { count: 5000, remaining: 0 };
        assert_eq!(error, WireError { field: "api_keys", kind });

        let frame = response_of_bytes(API, 3, &[0, 0, 0x89, 0x27]);
        let error = bounded(&frame, |frame| decode(3, frame)).unwrap_err();
        let kind = WireErrorKind::CountTooLarge { count: 5000, remaining: 0 };
        assert_eq!(error, WireError { field: "api_keys", kind });
    }

    #[test]
    fn noise() {
        noise_is_survived(API, full, decode);
    }

    #[test]
    fn a_refused_version_is_answered_in_the_form_of_version_0() {
        let key = ApiVersion::default().with_api_key(ApiKey::ApiVersions as i16).with_max_version(2);
        let theirs = Theirs::default().with_error_code(35).with_api_keys(vec![key]);
        let frame = response(API, 0, &theirs);
        for version in versions(API) {
            let read = decode(version, &frame).unwrap();
            assert_eq!(read.error, ErrorCode::UNSUPPORTED_VERSION);
            assert_eq!(read.versions.choose(API).unwrap(), 2);
            every_cut_is_refused(&frame, |frame| decode(version, frame));
        }
        // Before KIP-511 (Kafka 2.4) the list is empty.
        let read = decode(4, &response(API, 0, &Theirs::default().with_error_code(35))).unwrap();
        assert_eq!(read.versions.range(API), None);
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let chosen = |api, min, max| Versions::from_iter([(api, ApiRange::new(min, max))]).choose(api).ok();
        assert_eq!(chosen(Api::Produce, 0, 9), Some(9));
        assert_eq!(chosen(Api::Produce, 0, 99), Some(13));
        assert_eq!(chosen(Api::Produce, 13, 14), Some(13));
        assert_eq!(chosen(Api::Metadata, 0, 1), Some(1));
        assert_eq!(chosen(Api::InitProducerId, 5, 6), Some(5));
        // Too old, too new, flipped.
        assert_eq!(chosen(Api::Produce, 0, 2), None);
        assert_eq!(chosen(Api::Produce, 14, 20), None);
        assert_eq!(chosen(Api::Metadata, 12, 3), None);
        assert_eq!(chosen(Api::Metadata, i16::MAX, i16::MIN), None);
    }

    #[test]
    fn a_cap_lowers_the_highest_version() {
        let versions = Versions::from_iter([(Api::Produce, ApiRange::new(0, 13))]);
        assert_eq!(versions.choose_at_most(Api::Produce, 12).unwrap(), 12);
        let versions = Versions::from_iter([(Api::Produce, ApiRange::new(13, 13))]);
        assert!(versions.choose_at_most(Api::Produce, 12).is_err());
    }

    #[test]
    fn no_common_version_names_both_sides() {
        let error = Versions::from_iter([(Api::Produce, ApiRange::new(0, 2))]).choose(Api::Produce).unwrap_err();
        let text = "no common version of Produce: ottla speaks 3 to 13, the broker 0 to 2";
        assert!(error.to_string().starts_with(text), "{error}");
        let error = Versions::default().choose(Api::InitProducerId).unwrap_err();
        assert!(matches!(error, ConnectionErrorKind::UnsupportedApi { api: "InitProducerId", theirs: None, .. }));
    }

    fn full(version: i16) -> Vec<u8> {
        let key = |api: ApiKey, min, max| {
            let mut key = ApiVersion::default().with_api_key(api as i16).with_min_version(min).with_max_version(max);
            if version >= 3 {
                key.unknown_tagged_fields.extend([unknown_tag()]);
            }
            key
        };
        let mut theirs = Theirs::default().with_throttle_time_ms(250).with_api_keys(vec![
            key(ApiKey::Produce, 0, 13),
            key(ApiKey::Fetch, 4, 17),
            key(ApiKey::Metadata, 0, 7),
            key(ApiKey::ApiVersions, 0, 4),
        ]);
        if version >= 3 {
            let name = StrBytes::from_static_str("transaction.version");
            theirs.supported_features = vec![SupportedFeatureKey::default().with_name(name.clone())];
            theirs.finalized_features_epoch = 4;
            theirs.finalized_features = vec![FinalizedFeatureKey::default().with_name(name)];
            theirs.zk_migration_ready = true;
            theirs.unknown_tagged_fields.extend([unknown_tag()]);
        }
        response(API, version, &theirs)
    }
}

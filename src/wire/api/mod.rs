//! The kinds of requests that ottla knows, and in which versions.

use std::fmt;

use crate::error::ApiRange;

pub mod api_versions;
pub mod init_producer_id;
pub mod metadata;
pub mod produce;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::enum_variant_names, reason = "these are Kafka's names")]
pub enum Api {
    /// Appends batches to partitions.
    Produce,
    /// Tells brokers, topics, partitions and their leaders.
    Metadata,
    /// Tells which APIs a broker has, in which versions.
    ApiVersions,
    /// Gives a producer id and epoch.
    InitProducerId,
}

impl Api {
    /// Every API that ottla knows.
    pub const ALL: [Self; 4] = [Self::Produce, Self::Metadata, Self::ApiVersions, Self::InitProducerId];

    /// Its number on the wire.
    #[must_use]
    pub const fn key(self) -> i16 {
        match self {
            Self::Produce => 0,
            Self::Metadata => 3,
            Self::ApiVersions => 18,
            Self::InitProducerId => 22,
        }
    }

    /// The API with this number, if ottla knows it.
    #[must_use]
    pub fn from_key(key: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.key() == key)
    }

    /// Its name in Kafka.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Produce => "Produce",
            Self::Metadata => "Metadata",
            Self::ApiVersions => "ApiVersions",
            Self::InitProducerId => "InitProducerId",
        }
    }

    /// The versions that ottla speaks.
    ///
    /// Produce begins at 3, the first with record batches of version 2 (KIP-98); Metadata at 1, because version 0 has
    /// no way to ask for no topic.
    #[must_use]
    pub const fn ours(self) -> ApiRange {
        match self {
            Self::Produce => ApiRange::new(3, 13),
            Self::Metadata => ApiRange::new(1, 13),
            Self::ApiVersions => ApiRange::new(0, 4),
            Self::InitProducerId => ApiRange::new(0, 5),
        }
    }

    /// Whether a throttle time in an answer of this version asks the client to be silent. In older ones the broker
    /// holds the answer back for that time, and only tells of it (KIP-219).
    #[must_use]
    pub const fn leaves_silence_to_clients(self, version: i16) -> bool {
        version
            >= match self {
                Self::Produce | Self::Metadata => 6,
                Self::ApiVersions => 2,
                Self::InitProducerId => 1,
            }
    }

    /// Whether this version has compact lengths and tagged fields (KIP-482).
    #[must_use]
    pub const fn is_flexible(self, version: i16) -> bool {
        version
            >= match self {
                Self::Produce | Self::Metadata => 9,
                Self::ApiVersions => 3,
                Self::InitProducerId => 2,
            }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
        MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
    };
    use kafka_protocol::protocol::{HeaderVersion, Message};

    use super::*;

    #[test]
    fn keys_are_those_of_kafka_protocol() {
        for api in Api::ALL {
            let theirs = ApiKey::try_from(api.key()).unwrap();
            assert_eq!(format!("{theirs:?}"), api.name());
            assert_eq!(Api::from_key(api.key()), Some(api));
        }
        assert_eq!(Api::from_key(1), None);
    }

    #[test]
    fn versions_are_those_of_kafka_protocol_and_flexible_where_it_says() {
        fn check<Q: Message + HeaderVersion, S: Message + HeaderVersion>(api: Api) {
            let ours = api.ours();
            assert!(Q::VERSIONS.min <= ours.min && ours.max <= Q::VERSIONS.max.min(S::VERSIONS.max), "{api}");
            for version in ours.min..=ours.max {
                assert_eq!(api.is_flexible(version), Q::header_version(version) == 2, "{api} {version}");
                let tags = api.is_flexible(version) && api != Api::ApiVersions;
                assert_eq!(tags, S::header_version(version) == 1, "{api} {version}");
            }
        }
        check::<ProduceRequest, ProduceResponse>(Api::Produce);
        check::<MetadataRequest, MetadataResponse>(Api::Metadata);
        check::<ApiVersionsRequest, ApiVersionsResponse>(Api::ApiVersions);
        check::<InitProducerIdRequest, InitProducerIdResponse>(Api::InitProducerId);
    }
}

//! The requests that the cluster answers, and in which versions.

use std::fmt;

use kafka_protocol::messages::ApiKey;

/// A request that the cluster answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Api {
    /// Appends batches to partitions.
    Produce,
    /// Reads batches from partitions.
    Fetch,
    /// Finds offsets by time, among them the first and the next.
    ListOffsets,
    /// Lists brokers, topics and leaders; may create topics.
    Metadata,
    /// Finds where an epoch of a leader ends.
    OffsetForLeaderEpoch,
    /// Lists the requests and versions that the broker knows: the first request of a connection.
    ApiVersions,
    /// Gives an idempotent producer its id.
    InitProducerId,
}

impl Api {
    pub(super) const ALL: [Self; 7] = [
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::OffsetForLeaderEpoch,
        Self::ApiVersions,
        Self::InitProducerId,
    ];

    /// Its number in Kafka's protocol.
    #[must_use]
    pub fn key(self) -> i16 {
        self.kafka() as i16
    }

    pub(super) fn from_key(key: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.key() == key)
    }

    /// The versions that can be decoded and encoded.
    pub(super) fn versions(self) -> Versions {
        match self {
            Self::Produce => Versions { min: 3, max: 13 },
            Self::Fetch => Versions { min: 4, max: 18 },
            Self::ListOffsets => Versions { min: 1, max: 11 },
            Self::Metadata => Versions { min: 0, max: 13 },
            Self::OffsetForLeaderEpoch => Versions { min: 2, max: 4 },
            Self::ApiVersions => Versions { min: 0, max: 4 },
            Self::InitProducerId => Versions { min: 0, max: 5 },
        }
    }

    /// The version in which kafka-protocol reads and writes it: ListOffsets 11 is 10 with one more time to ask for.
    pub(super) fn body_version(self, version: i16) -> i16 {
        if self == Self::ListOffsets { version.min(10) } else { version }
    }

    pub(super) fn request_header_version(self, version: i16) -> i16 {
        self.kafka().request_header_version(version)
    }

    pub(super) fn response_header_version(self, version: i16) -> i16 {
        self.kafka().response_header_version(version)
    }

    fn kafka(self) -> ApiKey {
        match self {
            Self::Produce => ApiKey::Produce,
            Self::Fetch => ApiKey::Fetch,
            Self::ListOffsets => ApiKey::ListOffsets,
            Self::Metadata => ApiKey::Metadata,
            Self::OffsetForLeaderEpoch => ApiKey::OffsetForLeaderEpoch,
            Self::ApiVersions => ApiKey::ApiVersions,
            Self::InitProducerId => ApiKey::InitProducerId,
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

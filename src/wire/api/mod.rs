//! The table of APIs: one row for each that ottla or the in-process cluster speaks, with its number, their versions,
//! and what changes with the version for every API alike. The API's file here has ottla's requests and its reading of
//! responses; its file in `testing/handlers` has the cluster's reading of requests and its answers.

use std::fmt;

use crate::error::ApiRange;

pub mod api_versions;
pub mod init_producer_id;
pub mod metadata;
pub mod produce;
#[cfg(feature = "sasl")]
pub mod sasl_authenticate;
#[cfg(feature = "sasl")]
pub mod sasl_handshake;

/// Makes [`Api`] of the rows.
macro_rules! apis {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident = $key:literal,
        $(ottla $min:literal..=$max:literal,)?
        cluster $cluster_min:literal..=$cluster_max:literal,
        flexible $flexible:literal..
        $(, throttle $throttle:literal..)?;
    )+) => {
        /// A kind of request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(clippy::enum_variant_names, reason = "these are Kafka's names")]
        #[non_exhaustive]
        pub enum Api {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Api {
            /// All of them, by their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// Its number in Kafka's protocol.
            #[must_use]
            pub const fn key(self) -> i16 {
                match self {
                    $(Self::$name => $key,)+
                }
            }

            /// Its name in Kafka.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The versions that ottla speaks: none of an API that only the cluster speaks.
            #[doc(hidden)]
            #[must_use]
            pub const fn ours(self) -> ApiRange {
                match self {
                    $(Self::$name => [$(ApiRange::new($min, $max),)? NO_VERSION][0],)+
                }
            }

            /// The versions that the in-process cluster speaks.
            #[cfg(feature = "testing")]
            #[doc(hidden)]
            #[must_use]
            pub const fn of_the_cluster(self) -> ApiRange {
                match self {
                    $(Self::$name => ApiRange::new($cluster_min, $cluster_max),)+
                }
            }

            /// `true` if this version has compact lengths and tagged fields (KIP-482).
            #[doc(hidden)]
            #[must_use]
            pub const fn is_flexible(self, version: i16) -> bool {
                match self {
                    $(Self::$name => version >= $flexible,)+
                }
            }

            /// `true` if a throttle time in an answer of this version asks the client to be silent. In older versions
            /// the broker holds the answer back for that time, and only tells of it (KIP-219).
            #[doc(hidden)]
            #[must_use]
            pub const fn leaves_silence_to_clients(self, version: i16) -> bool {
                match self {
                    $(Self::$name => [$(version >= $throttle,)? false][0],)+
                }
            }
        }
    };
}

// By number: the versions that ottla speaks, if any; those that the in-process cluster speaks; the first version that
// is flexible, and the first in which a throttle time asks for silence, if the API's answers have one.
apis! {
    /// Appends batches to partitions.
    // From 3 on there are record batches of version 2 (KIP-98).
    Produce = 0, ottla 3..=13, cluster 3..=13, flexible 9.., throttle 6..;

    /// Reads batches from partitions.
    Fetch = 1, cluster 4..=18, flexible 12.., throttle 8..;

    /// Finds offsets by time, among them the first and the next.
    ListOffsets = 2, cluster 1..=11, flexible 6.., throttle 3..;

    /// Lists brokers, topics and leaders; may create topics.
    // Version 0 has no way to ask for no topic.
    Metadata = 3, ottla 1..=13, cluster 0..=13, flexible 9.., throttle 6..;

    /// Names the mechanism of a login.
    // After version 0 come bytes without a frame.
    SaslHandshake = 17, ottla 1..=1, cluster 0..=1, flexible 32767..;

    /// Lists the requests and versions that the broker knows: the first request of a connection.
    ApiVersions = 18, ottla 0..=4, cluster 0..=4, flexible 3.., throttle 2..;

    /// Gives a producer its id and epoch.
    InitProducerId = 22, ottla 0..=5, cluster 0..=5, flexible 2.., throttle 1..;

    /// Finds where an epoch of a leader ends.
    OffsetForLeaderEpoch = 23, cluster 2..=4, flexible 4..;

    /// Carries the messages of a login (KIP-152).
    SaslAuthenticate = 36, ottla 0..=2, cluster 0..=2, flexible 2..;
}

impl Api {
    /// The API with this number, if it is in the table.
    #[must_use]
    pub fn from_key(key: i16) -> Option<Self> {
        Self::ALL.iter().copied().find(|api| api.key() == key)
    }

    /// `true` if the header of a response of this version ends with tagged fields.
    #[doc(hidden)]
    #[must_use]
    pub fn has_tags_in_header(self, version: i16) -> bool {
        // KIP-511: the header of ApiVersions never has any, because a client that asks does not know yet what the
        // broker understands.
        self.is_flexible(version) && self != Self::ApiVersions
    }

    /// The version in which kafka-protocol reads and writes the body: ListOffsets 11 is 10 with one more time to ask
    /// for, and not known to it.
    #[doc(hidden)]
    #[must_use]
    pub fn version_in_kafka_protocol(self, version: i16) -> i16 {
        if self == Self::ListOffsets { version.min(10) } else { version }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const NO_VERSION: ApiRange = ApiRange::new(0, -1);

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiKey;

    use super::*;

    #[test]
    fn keys_are_those_of_kafka_protocol() {
        for api in Api::ALL.iter().copied() {
            let theirs = ApiKey::try_from(api.key()).unwrap();
            assert_eq!(format!("{theirs:?}"), api.name());
            assert_eq!(Api::from_key(api.key()), Some(api));
        }
        assert!(Api::ALL.is_sorted_by_key(|api| api.key()));
        assert_eq!(Api::from_key(4), None);
    }

    #[cfg(feature = "testing")]
    #[test]
    fn versions_are_those_of_kafka_protocol_and_flexible_where_it_says() {
        for api in Api::ALL.iter().copied() {
            let theirs = ApiKey::try_from(api.key()).unwrap();
            let known = theirs.valid_versions();
            let (ours, cluster) = (api.ours(), api.of_the_cluster());
            for version in (ours.min..=ours.max).chain(cluster.min..=cluster.max) {
                let body = api.version_in_kafka_protocol(version);
                assert!((known.min..=known.max).contains(&body), "{api} {version}");
                assert_eq!(api.is_flexible(version), theirs.request_header_version(body) == 2, "{api} {version}");
                assert_eq!(
                    api.has_tags_in_header(version),
                    theirs.response_header_version(body) == 1,
                    "{api} {version}"
                );
            }
        }
    }

    #[cfg(feature = "testing")]
    #[test]
    fn the_cluster_speaks_all_that_ottla_speaks() {
        for api in Api::ALL {
            let (ours, cluster) = (api.ours(), api.of_the_cluster());
            let is_spoken = ours.min <= ours.max;
            assert!(!is_spoken || (cluster.min <= ours.min && ours.max <= cluster.max), "{api}");
        }
    }
}

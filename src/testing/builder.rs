//! The description of a cluster, before it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Api;
use super::topic::TopicKind;
use crate::error::ApiRange;

/// The description of a [`Cluster`](super::Cluster): brokers, topics, and settings.
///
/// Without any setting: one broker, no topics, and topics made with 3 partitions when a client asks for them.
#[derive(Clone, Debug)]
#[must_use = "a cluster listens once it is started"]
pub struct ClusterBuilder {
    pub(super) brokers: i32,
    pub(super) topics: Vec<NewTopic>,
    pub(super) settings: Settings,
    #[cfg(feature = "_tls")]
    pub(super) tls: Option<super::BrokerTls>,
}

#[derive(Clone, Debug)]
pub(super) struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub kind: TopicKind,
}

/// The settings of the cluster.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub auto_create: bool,
    pub default_partitions: i32,
    pub creation_delay: Duration,
    pub loading_time: Duration,
    pub login_failure_delay: Duration,
    #[cfg(feature = "sasl")]
    pub logins: Option<super::Logins>,
    pub max_message_bytes: usize,
    /// The versions that brokers say they know.
    pub apis: BTreeMap<Api, ApiRange>,
}

impl ClusterBuilder {
    pub(super) fn new() -> Self {
        let mut apis: BTreeMap<_, _> = Api::ALL.iter().map(|api| (*api, api.of_the_cluster())).collect();
        // As Kafka 4 does for the sake of old librdkafka, although it refuses versions 0 to 2 (KIP-896).
        apis.insert(Api::Produce, ApiRange::new(0, Api::Produce.of_the_cluster().max));
        Self {
            brokers: 1,
            topics: Vec::new(),
            #[cfg(feature = "_tls")]
            tls: None,
            settings: Settings {
                auto_create: true,
                default_partitions: 3,
                creation_delay: Duration::ZERO,
                loading_time: Duration::ZERO,
                login_failure_delay: Duration::ZERO,
                #[cfg(feature = "sasl")]
                logins: None,
                max_message_bytes: MAX_MESSAGE_BYTES,
                apis,
            },
        }
    }

    /// This many brokers, with the node ids 1, 2, ... Default: 1. Every broker is a replica of every partition.
    pub fn brokers(mut self, brokers: i32) -> Self {
        self.brokers = brokers;
        self
    }

    /// A topic with this many partitions. The brokers lead them in turn: broker 1 leads partition 0.
    pub fn topic(self, name: impl Into<String>, partitions: i32) -> Self {
        self.any_topic(name, partitions, TopicKind::default())
    }

    /// A topic that refuses messages without a key, as compacted topics do. Nothing is ever compacted away.
    pub fn compacted_topic(self, name: impl Into<String>, partitions: i32) -> Self {
        self.any_topic(name, partitions, TopicKind { compacted: true, ..TopicKind::default() })
    }

    /// A topic whose messages get the time at which the broker appends them.
    pub fn log_append_time_topic(self, name: impl Into<String>, partitions: i32) -> Self {
        self.any_topic(name, partitions, TopicKind { log_append_time: true, ..TopicKind::default() })
    }

    fn any_topic(mut self, name: impl Into<String>, partitions: i32, kind: TopicKind) -> Self {
        self.topics.push(NewTopic { name: name.into(), partitions, kind });
        self
    }

    /// Makes topics when a client asks for them (`true`), or never (`false`). Default: true.
    ///
    /// As with Kafka, the answer to the first client that asks is UNKNOWN_TOPIC_OR_PARTITION: the topic is there for
    /// the next request, or after the [`creation_delay`](Self::creation_delay). A name that differs from that of a
    /// topic only in `.` and `_` is never made, and is unknown for ever.
    pub fn auto_create(mut self, auto_create: bool) -> Self {
        self.settings.auto_create = auto_create;
        self
    }

    /// The number of partitions of a topic that is made when a client asks for it. Default: 3.
    pub fn default_partitions(mut self, partitions: i32) -> Self {
        self.settings.default_partitions = partitions;
        self
    }

    /// The time until a topic is there that is made when a client asks for it. Default: none, so it is there for the
    /// next request. With Kafka it is about 0.1 s.
    pub fn creation_delay(mut self, delay: Duration) -> Self {
        self.settings.creation_delay = delay;
        self
    }

    /// The time for which a broker that has started has no ids for idempotent producers: from the first InitProducerId
    /// on it answers COORDINATOR_LOAD_IN_PROGRESS for this long. Default: none, so it has them from the start. With
    /// Kafka it is about 0.03 s.
    pub fn loading_time(mut self, time: Duration) -> Self {
        self.settings.loading_time = time;
        self
    }

    /// Lets in only those who log in (SASL), on every listener.
    #[cfg(feature = "sasl")]
    pub fn sasl(mut self, logins: super::Logins) -> Self {
        self.settings.logins = Some(logins);
        self
    }

    /// The time after which a broker answers a login that has failed, before it closes the connection. Default: none.
    /// With Kafka it is 0.1 to 0.3 s.
    pub fn login_failure_delay(mut self, delay: Duration) -> Self {
        self.settings.login_failure_delay = delay;
        self
    }

    /// The largest batch in bytes that the brokers append (`message.max.bytes`). Default: 1,048,588, as Kafka's.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_message_bytes = bytes;
        self
    }

    /// Has the brokers take encrypted connections only. Default: plaintext.
    #[cfg(feature = "_tls")]
    pub fn tls(mut self, tls: super::BrokerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What makes encrypted connections of sockets, if they are to be.
    #[cfg(feature = "_tls")]
    pub(super) fn encryption(&self) -> Result<Option<super::tls::Encryption>, String> {
        self.tls.as_ref().map(super::BrokerTls::encryption).transpose()
    }

    #[cfg(not(feature = "_tls"))]
    pub(super) fn encryption(&self) -> Result<Option<super::tls::Encryption>, String> {
        Ok(None)
    }

    /// Offers this API in these versions, both included, in place of all that the cluster knows. A version that it does
    /// not know may be offered, and closes the connection when it is used.
    pub fn api_version(mut self, api: Api, min: i16, max: i16) -> Self {
        self.settings.apis.insert(api, ApiRange::new(min, max));
        self
    }

    /// Does not offer this API, and closes a connection on which it is used.
    pub fn without_api(mut self, api: Api) -> Self {
        self.settings.apis.remove(&api);
        self
    }
}

// message.max.bytes of Kafka: 1 MiB and the overhead of a batch.
const MAX_MESSAGE_BYTES: usize = 1_048_588;

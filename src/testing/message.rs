//! The messages in the logs and the requests that came, for tests to look at.

use super::Api;
use crate::message::Timestamp;

/// A message as it is in a partition's log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoredMessage {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition, from 0.
    pub offset: i64,
    /// The key, if the message has one.
    pub key: Option<Vec<u8>>,
    /// The value, or `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in their order: name, and value or `None` for a null value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The time that the producer gave, or the time of the append in a topic made with
    /// [`log_append_time_topic`](super::ClusterBuilder::log_append_time_topic).
    pub timestamp: Timestamp,
    /// The id of the idempotent producer that wrote it, or -1.
    pub producer_id: i64,
    /// The epoch of that id, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the message, or -1.
    pub sequence: i32,
}

impl StoredMessage {
    /// The value as text, or `None` if it is null or not UTF-8.
    #[must_use]
    pub fn value_str(&self) -> Option<&str> {
        self.value.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The key as text, or `None` if it is null or not UTF-8.
    #[must_use]
    pub fn key_str(&self) -> Option<&str> {
        self.key.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }
}

/// A request that reached a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// The API that was called.
    pub api: Api,
    /// The version of the request.
    pub version: i16,
    /// The broker that it came to.
    pub node: i32,
    /// The name that the client gave itself.
    pub client_id: Option<String>,
    /// The time at which it came.
    pub at: Timestamp,
}

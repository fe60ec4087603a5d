//! What an engine waits for, as far as the cluster has to know it: which brokers to connect to, when to ask for
//! metadata, and about which topics.

use std::time::Instant;

use super::causes::{Standing, Subject};
use crate::message::Topic;

/// What an engine waits for. The cluster asks whenever it decides something, so nothing of it is kept twice.
pub trait Demand {
    /// Whether anything waits at all: as long as it does, metadata is kept fresh.
    fn is_busy(&self) -> bool;

    /// Whether a request waits that any broker can answer, beside the one for metadata.
    fn needs_any_broker(&self) -> bool;

    /// The first broker that something waits for, from this node id on.
    fn next_node(&self, from: i32) -> Option<i32>;

    /// Whether something waits for this broker.
    fn needs_node(&self, node: i32) -> bool {
        self.next_node(node) == Some(node)
    }

    /// How many topics there are. Each is known by its index.
    fn topic_count(&self) -> u32;

    /// The name of this topic.
    fn topic_name(&self, topic: u32) -> Option<&Topic>;

    /// Whether this is so of the topic.
    fn is_topic(&self, topic: u32, standing: TopicDemand, now: Instant) -> bool;

    /// Whether an error that is about something of the engine's own still matters.
    fn standing(&self, about: Subject, now: Instant) -> Standing;
}

/// What may be so of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicDemand {
    /// Something waits for its metadata.
    Awaited,
    /// The same, or there are messages for it. To ask for it may make it, also if it was deleted on purpose.
    Wanted,
    /// It is known, and in use.
    InUse,
    /// Something is missing that another answer may have: the topic, or the leader of a partition.
    Lacking,
}

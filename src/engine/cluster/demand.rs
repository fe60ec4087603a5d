//! The needs of an engine, as far as the cluster has to know them: the brokers to connect to, and the topics to ask
//! metadata for.

use std::time::Instant;

use super::causes::{Standing, Subject};
use crate::ids::{NodeId, TopicIndex};
use crate::message::Topic;

/// The needs of an engine. The cluster asks for them whenever it decides something, so no part of them is kept twice.
pub trait Demand {
    /// `true` if anything waits at all: as long as it does, metadata is kept fresh.
    fn is_busy(&self) -> bool;

    /// `true` if a request waits that any broker can answer, beside the one for metadata.
    fn needs_any_broker(&self) -> bool;

    /// The broker that something waits for with the next id after this one, or with the least.
    fn next_node(&self, after: Option<NodeId>) -> Option<NodeId>;

    /// `true` if something waits for this broker.
    fn needs_node(&self, node: NodeId) -> bool;

    /// The number of topics. Each is known by its index.
    fn topic_count(&self) -> usize;

    /// The name of this topic.
    fn topic_name(&self, topic: TopicIndex) -> Option<&Topic>;

    /// `true` if this holds for the topic.
    fn is_topic(&self, topic: TopicIndex, standing: TopicDemand, now: Instant) -> bool;

    /// The standing of an error about something of the engine's own.
    fn standing(&self, about: Subject, now: Instant) -> Standing;
}

/// A statement that may hold for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicDemand {
    /// Something waits for its metadata.
    Awaited,
    /// The same, or there are messages for it. A request for it may create it, even if it was deleted on purpose.
    Wanted,
    /// It is known, and in use.
    InUse,
    /// Something is missing that another answer may have: the topic, or the leader of a partition.
    Lacking,
}

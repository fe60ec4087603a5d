//! The needs of messages, as the cluster sees them.

use std::time::Instant;

use super::identity::Identity;
use super::partition::Partition;
use super::send_queue::SendQueue;
use super::topic::TopicState;
use crate::engine::cluster::causes::{Standing, Subject};
use crate::engine::cluster::demand::{Demand, TopicDemand};
use crate::ids::{NodeId, TopicIndex, TopicPartition};
use crate::message::Topic;

/// The needs of a producer's messages.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    pub(super) topics: &'a [TopicState],
    pub(super) send_queue: &'a SendQueue,
    pub(super) identity: &'a Identity,
    /// The number of messages without a fate.
    pub(super) unfinished: usize,
}

impl Waiting<'_> {
    fn partition(&self, id: TopicPartition) -> Option<&Partition> {
        self.topics.get(id.topic.get())?.partitions.get(id.partition.get())
    }
}

impl Demand for Waiting<'_> {
    #[inline]
    fn is_busy(&self) -> bool {
        self.unfinished > 0
    }

    #[inline]
    fn needs_any_broker(&self) -> bool {
        self.unfinished > 0 && self.identity.current().is_err()
    }

    #[inline]
    fn next_node(&self, after: Option<NodeId>) -> Option<NodeId> {
        self.send_queue.next_node(after)
    }

    #[inline]
    fn needs_node(&self, node: NodeId) -> bool {
        self.send_queue.has(node)
    }

    fn topic_count(&self) -> usize {
        self.topics.len()
    }

    fn topic_name(&self, topic: TopicIndex) -> Option<&Topic> {
        self.topics.get(topic.get()).map(|topic| &topic.name)
    }

    fn is_topic(&self, topic: TopicIndex, demand: TopicDemand, now: Instant) -> bool {
        let topic = &self.topics[topic.get()];
        match demand {
            TopicDemand::Awaited => topic.is_waiting(now),
            TopicDemand::Wanted => topic.has_messages() || topic.is_waiting(now),
            TopicDemand::InUse => topic.is_known() && (topic.used || topic.has_messages()),
            TopicDemand::Lacking => topic.lacks_metadata(now),
        }
    }

    fn standing(&self, about: Subject, now: Instant) -> Standing {
        let waits = match about {
            Subject::Topic(topic) => match self.topics.get(topic.get()) {
                Some(state) if state.last_error.is_some() => state.has_messages() || state.is_waiting(now),
                _ => return Standing::Over,
            },
            Subject::Leader(id) => match self.partition(id) {
                Some(partition) if partition.no_leader.is_some() => !partition.is_idle(),
                _ => return Standing::Over,
            },
            Subject::Partition(id) => self.partition(id).is_some_and(|partition| !partition.is_idle()),
            // The cluster's own.
            Subject::Metadata | Subject::Identity | Subject::Broker(_) | Subject::Quota(_) => self.is_busy(),
        };
        if waits { Standing::Waiting } else { Standing::Idle }
    }
}

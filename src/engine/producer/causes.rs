//! The errors in the way of a topic's messages, and of a partition's: for the errors that they end with, and for
//! callers.

use std::sync::Arc;

use super::ProducerEngine;
use crate::engine::cluster::causes::Subject;
use crate::engine::cluster::link::Peer;
use crate::error::DeliveryErrorKind;
use crate::ids::{Destination, TopicIndex, TopicPartition};

impl ProducerEngine {
    /// The error that last kept messages from being delivered. Each topic, partition and broker has its own, which its
    /// own success ends.
    #[must_use]
    pub fn last_error(&self) -> Option<&Arc<DeliveryErrorKind>> {
        self.cluster.causes().last()
    }

    /// A message was delivered to this partition.
    #[inline]
    pub(super) fn end_causes_of(&mut self, id: TopicPartition) {
        if !self.cluster.causes().is_empty() {
            self.cluster.causes_mut().end(|about| match about {
                Subject::Topic(topic) => topic == id.topic,
                Subject::Leader(of) | Subject::Partition(of) => of == id,
                _ => false,
            });
        }
    }

    /// The error in the way of a topic's messages, or of a caller that asked for it, until its metadata is there.
    #[must_use]
    pub fn cause_of_topic(&self, topic: TopicIndex) -> Option<&Arc<DeliveryErrorKind>> {
        self.topics.get(topic.get())?.last_error.as_ref()
    }

    /// The errors in the way of the messages of a partition, or of those that wait for the metadata of a topic: the
    /// error of the partition or topic itself, and the error of the way to it. A batch's own error stands between the
    /// two.
    pub(super) fn causes_of(&self, to: Destination) -> Ways {
        let Some(state) = self.topics.get(to.topic().get()) else { return (None, None) };
        let partition = to.partition().and_then(|partition| state.partitions.get(partition.get()));
        let own = state.last_error.as_ref().or(partition.and_then(|partition| partition.no_leader.as_ref()));
        let leader = partition.and_then(|partition| partition.leader.node).map(Peer::Node);
        let link = leader.and_then(|leader| self.cluster.link(leader));
        let causes = self.cluster.causes();
        let quota = leader.and_then(|leader| causes.last_of(|about| about == Subject::Quota(leader)));
        let way = link.and_then(|link| link.last_error.as_ref()).or(quota).or_else(|| {
            // Without a link to the leader, any broker could tell of it.
            causes.last_of(|about| match about {
                Subject::Metadata | Subject::Identity => true,
                Subject::Broker(_) | Subject::Quota(_) => link.is_none(),
                Subject::Topic(_) | Subject::Leader(..) | Subject::Partition(..) => false,
            })
        });
        (own.cloned(), way.cloned())
    }
}

/// The errors in the way of a message: the one of its topic or partition, and the one of the brokers.
pub(super) type Ways = (Option<Arc<DeliveryErrorKind>>, Option<Arc<DeliveryErrorKind>>);

//! Numbers that must not be taken for each other, each as a type of its own. Used from the queue up; the public API and
//! `wire` have Kafka's plain numbers.

use std::fmt;

/// Index of a topic in the queue's table, which is the engine's, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct TopicIndex(pub u32);

impl TopicIndex {
    /// The indexes below this one: those of a table of this length, in order.
    pub fn below(count: usize) -> impl Iterator<Item = Self> {
        (0..count as u32).map(Self)
    }

    /// The index into the table.
    #[inline]
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// Number of a partition in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PartitionId(pub i32);

impl PartitionId {
    /// The partitions of a topic that has this number of them, in order.
    pub fn below(count: usize) -> impl Iterator<Item = Self> {
        (0..count as i32).map(Self)
    }

    /// The index into a table of all partitions. That of a negative number, which no partition has, is in no table.
    #[inline]
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Index of the topic.
    pub topic: TopicIndex,
    /// Number of the partition.
    pub partition: PartitionId,
}

/// A partition, or a topic of which no partition is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The topic.
    Topic(TopicIndex),
    /// The partition.
    Partition(TopicPartition),
}

impl Destination {
    /// The topic, and the partition, if one is meant.
    #[must_use]
    pub fn new(topic: TopicIndex, partition: Option<PartitionId>) -> Self {
        partition.map_or(Self::Topic(topic), |partition| Self::Partition(TopicPartition { topic, partition }))
    }

    /// The topic.
    #[must_use]
    pub fn topic(self) -> TopicIndex {
        match self {
            Self::Topic(topic) | Self::Partition(TopicPartition { topic, .. }) => topic,
        }
    }

    /// The partition, if one is meant.
    #[must_use]
    pub fn partition(self) -> Option<PartitionId> {
        match self {
            Self::Topic(_) => None,
            Self::Partition(TopicPartition { partition, .. }) => Some(partition),
        }
    }
}

/// The id of a broker in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NodeId(pub i32);

impl NodeId {
    /// The id where a field has one: Kafka writes -1 for none.
    #[must_use]
    pub fn known(number: i32) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

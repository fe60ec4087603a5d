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

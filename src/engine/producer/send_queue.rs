//! The partitions that have something to send, the brokers they send to, and the amount that was sent and has no fate.

use crate::ids::{Destination, NodeId, TopicPartition};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The partitions that have something to send, and the account of messages that were sent and have no fate.
#[derive(Debug, Default)]
pub struct SendQueue {
    /// By node id of the leader, first come first served. `ProducerEngine::reschedule` keeps it exact: a partition
    /// stands here once if it may send now, and under its leader, else not at all.
    ready: BTreeMap<NodeId, BTreeMap<u64, TopicPartition>>,
    next_place: u64,
    /// Partitions that just got their first unsent message, and topics that got one to wait for metadata.
    fresh: Vec<Destination>,
    held: Amount,
}

/// The position of a partition among those that have something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPosition {
    node: NodeId,
    number: u64,
}

impl SendQueue {
    /// Puts a partition behind those that are there: under `leader`, or nowhere.
    pub(super) fn list(&mut self, id: TopicPartition, leader: Option<NodeId>, place: &mut Option<SendPosition>) {
        if place.map(|place| place.node) == leader {
            return;
        }
        self.unlist(place);
        if let Some(node) = leader {
            *place = Some(SendPosition { node, number: self.next_place });
            self.ready.entry(node).or_default().insert(self.next_place, id);
            self.next_place += 1;
        }
    }

    pub(super) fn unlist(&mut self, place: &mut Option<SendPosition>) {
        let Some(SendPosition { node, number }) = place.take() else { return };
        if let Some(list) = self.ready.get_mut(&node) {
            list.remove(&number);
            if list.is_empty() {
                self.ready.remove(&node);
            }
        }
    }

    pub(super) fn fresh(&mut self, to: Destination) {
        self.fresh.push(to);
    }

    pub(super) fn next_fresh(&mut self) -> Option<Destination> {
        self.fresh.pop()
    }

    pub(super) fn hold(&mut self, more: Amount) {
        self.held.add(more);
    }

    pub(super) fn free(&mut self, less: Amount) {
        self.held.subtract(less);
    }

    pub(super) fn held(&self) -> Amount {
        self.held
    }

    /// The partitions that may send to this broker, in their order.
    pub(super) fn ready_for(&self, node: NodeId) -> impl Iterator<Item = &TopicPartition> {
        self.ready.get(&node).into_iter().flat_map(BTreeMap::values)
    }

    /// `true` if anything waits for this broker.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.ready.contains_key(&node)
    }

    /// The next node that something waits for after this one, or the first.
    pub(super) fn next_node(&self, after: Option<NodeId>) -> Option<NodeId> {
        let rest = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.ready.range(rest).next().map(|(node, _)| *node)
    }
}

/// Messages and their bytes in the account of what was sent and has no fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Amount {
    /// Adds another.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    /// Takes another away.
    pub fn subtract(&mut self, other: Self) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

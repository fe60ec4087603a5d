//! A topic: its partitions once metadata is there, and until then the messages that wait for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::partition::{Partition, PartitionRules};
use super::size::BatchSize;
use super::verdict::Doubt;
use crate::error::DeliveryErrorKind;
use crate::ids::PartitionId;
use crate::message::Topic;
use crate::partitioner::sticky::Sticky;
use crate::queue::chunk::Chunk;

/// A topic that messages were produced to.
#[derive(Debug)]
pub struct TopicState {
    /// Its name.
    pub name: Topic,
    /// Its id, where the cluster has ids.
    pub id: Option<[u8; 16]>,
    /// Its ids before, while answers about them may come.
    pub former_ids: Vec<[u8; 16]>,
    /// `true` if it is of a cluster that was replaced by another: the next answer about it is about another topic.
    pub replaced: bool,
    /// By number; empty until metadata is there.
    pub partitions: Vec<Partition>,
    /// Numbers of the partitions that have a leader.
    pub available: Vec<PartitionId>,
    /// Chooses among these for messages without a key.
    pub sticky: Sticky,
    /// The time since which brokers say that it does not exist, while something waits for it.
    pub missing_since: Option<Instant>,
    /// The moment for which an alarm is set.
    pub alarm: Option<Instant>,
    /// The number of metadata responses in a row with a leader epoch older than ours (without topic ids).
    pub stale: u32,
    /// `true` if its messages are known to be stored with the broker's time (`message.timestamp.type`).
    pub stamps: bool,
    /// Messages that came before the metadata did, in runs that became due together.
    pub parked: VecDeque<(Chunk, Instant)>,
    /// `true` if a message came since brokers told of it last.
    pub used: bool,
    /// The reason why it cannot be sent to, as brokers told last; none once they told of its partitions.
    pub last_error: Option<Arc<DeliveryErrorKind>>,
    /// The moment until which a caller wants to know the number of partitions.
    pub asked_until: Option<Instant>,
    /// The reason why no message can be sent to it, as callers were told.
    pub held_up: Option<Arc<DeliveryErrorKind>>,
    /// The partition to which nothing could be sent at the last look.
    culprit: usize,
    /// Bytes that its batches may have.
    pub(super) size: BatchSize,
}

impl TopicState {
    /// A topic of which nothing is known.
    #[must_use]
    pub fn new(name: Topic, rules: &PartitionRules) -> Self {
        Self {
            name,
            id: None,
            former_ids: Vec::new(),
            replaced: false,
            partitions: Vec::new(),
            available: Vec::new(),
            sticky: Sticky::default(),
            missing_since: None,
            alarm: None,
            stale: 0,
            stamps: false,
            parked: VecDeque::new(),
            used: false,
            last_error: None,
            asked_until: None,
            held_up: None,
            culprit: 0,
            size: BatchSize::new(rules.max_batch_bytes),
        }
    }

    /// `true` if it has partitions to append to.
    #[must_use]
    pub fn is_known(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// The partition with this number.
    pub fn partition(&mut self, id: PartitionId) -> Option<&mut Partition> {
        self.partitions.get_mut(id.get())
    }

    /// The time with which the batch in flight at `index` was stored, if that is the broker's and not each message's
    /// own. `told` is the time in the broker's acknowledgement, if it has one.
    ///
    /// The answer to a repeat has a time on any topic: where messages keep their own, it is the greatest of the batch.
    pub fn stored_time(&mut self, id: PartitionId, index: usize, told: Option<i64>) -> Option<i64> {
        let batch = self.partitions.get(id.get())?.batch(index)?;
        if batch.doubt == Doubt::None {
            self.stamps = told.is_some();
        }
        told.filter(|told| self.stamps || *told != batch.max_create_time())
    }

    /// The partition for this many bytes to which any will do, if `wants` says that it takes them; else it is nobody's
    /// turn yet.
    pub fn next_sticky(
        &mut self,
        bytes: usize,
        random: u64,
        wants: impl FnOnce(&Partition) -> bool,
    ) -> Option<PartitionId> {
        let mut sticky = self.sticky.clone();
        // Without a leader anywhere, any partition is as good as another.
        let id = sticky.choose(&self.available, bytes, random).unwrap_or(PartitionId(0));
        let wanted = self.partitions.get(id.get()).is_some_and(wants);
        if wanted {
            self.sticky = sticky;
        }
        wanted.then_some(id)
    }

    /// A batch of several messages was refused as too large: its batches are smaller from now on.
    pub fn refused_size(&mut self, len: usize, now: Instant) {
        self.size.refused(len, now);
        self.limit_batches();
    }

    /// A batch was taken: perhaps its batches may be larger from now on, up to `configured`.
    #[inline]
    pub fn took_size(&mut self, len: usize, configured: usize, now: Instant) {
        if self.size.taken(len, configured, now) {
            self.limit_batches();
        }
    }

    fn limit_batches(&mut self) {
        let most = self.size.most();
        self.partitions.iter_mut().for_each(|partition| partition.limit_batches(most));
    }

    /// The reason why no message can be sent to it, or to one of its partitions, if there is one. It is asked with
    /// every batch that is delivered, so as long as it is the same partition, the others, of which there may be
    /// thousands, are not looked at.
    pub fn cause(&mut self) -> Option<&Arc<DeliveryErrorKind>> {
        if self.last_error.is_some() {
            return self.last_error.as_ref();
        }
        let has_cause = |partition: &Partition| partition.cause().is_some();
        if !self.partitions.get(self.culprit).is_some_and(has_cause) {
            self.culprit = self.partitions.iter().position(has_cause)?;
        }
        self.partitions.get(self.culprit).and_then(Partition::cause)
    }

    /// `true` if any message has no fate yet.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        let is_busy = |partition: &Partition| !partition.is_idle();
        !self.parked.is_empty()
            || self.partitions.get(self.culprit).is_some_and(is_busy)
            || self.partitions.iter().any(is_busy)
    }

    /// `true` if anything waits for its metadata.
    #[must_use]
    pub fn is_waiting(&self, now: Instant) -> bool {
        !self.parked.is_empty() || (!self.is_known() && self.asked_until.is_some_and(|until| until > now))
    }

    /// `true` if something is missing that another answer may have: the topic, or the leader of a partition.
    #[must_use]
    pub fn lacks_metadata(&self, now: Instant) -> bool {
        self.is_waiting(now)
            || (self.missing_since.is_some() && self.has_messages())
            || self.partitions.iter().any(|partition| partition.leader.node.is_none() && !partition.is_idle())
    }

    /// Ticket of the oldest message without a fate.
    #[must_use]
    pub fn oldest_ticket(&self) -> Option<u64> {
        let parked = self.parked.front().map(|(chunk, _)| chunk.first);
        let batched = self.partitions.iter().filter_map(Partition::oldest_ticket).min();
        parked.into_iter().chain(batched).min()
    }

    /// Counts the waiting anew from `now`.
    pub fn extend(&mut self, now: Instant) {
        for (_, due) in &mut self.parked {
            *due = now;
        }
        self.missing_since = self.missing_since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::{TopicIndex, TopicPartition};

    #[test]
    fn the_partition_that_stood_in_the_way_is_asked_first() {
        let rules = PartitionRules {
            idempotent: true,
            max_in_flight: 5,
            max_batch_bytes: 1000,
            delivery_timeout: Duration::from_secs(120),
            max_retries: None,
        };
        let mut topic = TopicState::new(Topic::new("orders").unwrap(), &rules);
        let id = |partition| TopicPartition { topic: TopicIndex(0), partition };
        topic.partitions.extend(PartitionId::below(4).map(|partition| Partition::new(rules, id(partition))));
        assert!(topic.cause().is_none());
        let causes = [(); 4].map(|()| Arc::new(DeliveryErrorKind::Purged));
        let mut set = |number: usize, is_so: bool| {
            topic.partitions[number].no_leader = is_so.then(|| Arc::clone(&causes[number]));
            topic.cause().and_then(|cause| causes.iter().position(|it| Arc::ptr_eq(it, cause)))
        };
        assert_eq!(set(2, true), Some(2));
        assert_eq!(set(0, true), Some(2), "what callers were told is still so");
        assert_eq!(set(3, true), Some(2));
        assert_eq!(set(2, false), Some(0));
        assert_eq!(set(0, false), Some(3));
        assert_eq!(set(3, false), None);
    }
}

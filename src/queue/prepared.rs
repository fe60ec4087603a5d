//! A message on its way into the queue: checked and measured, before the lock is taken.

use std::iter;

use super::entry;
use super::extras::Extra;
use crate::error::ProduceErrorKind;
use crate::fate::slot::Slot;
use crate::ids::PartitionId;
use crate::message::{Header, Message, Timestamp, Topic};
use crate::record::batch::{self, BatchBuilder, Draft, MOST_AROUND};

/// A message that can be queued, with all that can be computed without the queue.
#[derive(Clone, Copy, Debug)]
pub struct Prepared<'m, 'd> {
    /// Its topic, if that was checked before, and the name in any case.
    pub(super) topic: Option<&'m Topic>,
    pub(super) topic_name: &'m str,
    pub(super) record: Draft<'m>,
    pub(super) headers: &'m [Header<'d>],
    pub(super) partition: Option<PartitionId>,
    pub(super) partition_key: Option<&'m [u8]>,
    pub(super) tag: u64,
}

impl<'m, 'd> Prepared<'m, 'd> {
    /// A message that was checked; `now` is the time of one that has none.
    ///
    /// # Errors
    /// `MessageTooLarge` and `InvalidMessage`.
    pub fn new(message: &'m Message<'d>, max_message_bytes: usize, now: Timestamp) -> Result<Self, ProduceErrorKind> {
        let this = Self::of(message, now);
        let size = batch::len_of_one(this.record.tail_len);
        if this.partition.is_some_and(|partition| partition.0 < 0) {
            Err(ProduceErrorKind::InvalidMessage("the partition is negative"))
        } else if size > max_message_bytes {
            Err(ProduceErrorKind::MessageTooLarge { size, limit: max_message_bytes })
        } else if this.partition_key.is_some_and(|key| key.len() > max_message_bytes) {
            Err(ProduceErrorKind::InvalidMessage("the partition key is longer than max_message_bytes"))
        } else {
            Ok(this)
        }
    }

    /// A message that was not checked: for the fast path, if it [is good](Self::is_good).
    #[inline]
    pub fn of(message: &'m Message<'d>, now: Timestamp) -> Self {
        Self {
            topic: message.topic.checked(),
            topic_name: message.topic.name(),
            record: Draft::new(
                message.create_time.unwrap_or(now).as_millis(),
                message.key(),
                message.value(),
                message.headers(),
            ),
            headers: &message.headers,
            partition: message.partition.map(PartitionId),
            partition_key: message.partition_key(),
            tag: message.tag,
        }
    }

    /// As [`of`](Self::of), for a message that has only these parts: the compiler knows which ones it lacks, and makes a
    /// shorter way for it.
    #[inline]
    pub fn of_key_and_value(
        topic: &'m Topic,
        key: Option<&'m [u8]>,
        value: &'m [u8],
        create_time: Timestamp,
        tag: u64,
    ) -> Self {
        let record = Draft::new(create_time.as_millis(), key, Some(value), iter::empty());
        let (topic_name, topic) = (topic.name(), Some(topic));
        Self { topic, topic_name, record, headers: &[], partition: None, partition_key: None, tag }
    }

    /// Bytes of a tail, and of a partition key, that certainly may be sent.
    #[must_use]
    pub fn good_bytes(max_message_bytes: usize) -> usize {
        max_message_bytes.saturating_sub(MOST_AROUND).min(ENCODED_BEFORE)
    }

    /// `true` if it is certainly good without a closer look: of at most so many [bytes](Self::good_bytes), and to a
    /// partition number that can exist.
    #[inline]
    #[must_use]
    pub fn is_good(&self, good_bytes: usize) -> bool {
        self.record.tail_len <= good_bytes
            && self.partition.is_none_or(|partition| partition.0 >= 0)
            && self.partition_key.is_none_or(|key| key.len() <= good_bytes)
    }

    /// `true` if its record is encoded without the lock.
    pub(super) fn is_large(&self) -> bool {
        self.record.tail_len > ENCODED_BEFORE
    }

    /// The record of a large message, in a batch of its own: encoded without the lock, so that no caller waits for the
    /// copy of another.
    #[must_use]
    pub fn encode_large(&self) -> Option<BatchBuilder> {
        if !self.is_large() {
            return None;
        }
        let Draft { create_time, key, value, tail_len, .. } = self.record;
        let mut record = BatchBuilder::new(Vec::with_capacity(batch::len_of_one(tail_len)));
        record.append_parts(record.plan(create_time, tail_len)?, key, value, self.headers());
        Some(record)
    }

    /// `true` if it may go to any partition, where messages without a key may.
    #[inline]
    pub(super) fn goes_anywhere(&self) -> bool {
        self.record.key.is_none() && self.partition.is_none() && self.partition_key.is_none()
    }

    /// The input of a partitioner for this message.
    #[inline]
    pub(super) fn partitioned_by(&self) -> Option<&'m [u8]> {
        self.partition_key.or(self.record.key)
    }

    #[inline]
    pub(super) fn headers(&self) -> impl ExactSizeIterator<Item = (&'m str, Option<&'m [u8]>)> + use<'m, 'd> {
        self.headers.iter().map(Header::parts)
    }

    /// Bytes of the queue's limit that it takes.
    #[inline]
    pub(super) fn cost(&self, slot: Option<Slot<'_>>) -> usize {
        entry::cost(self.record.tail_len, self.extra(slot).as_ref())
    }

    #[inline]
    pub(super) fn extra<'a>(&self, slot: Option<Slot<'a>>) -> Option<Extra<'a>>
    where
        'm: 'a,
    {
        Extra::of(self.tag, self.partition_key, slot)
    }
}

/// `true` if a drop of the message has nothing to do. A caller that asks before the message is queued, where it was
/// just made, has the answer from the compiler, which then forgets the message without a drop: 351 instructions instead
/// of 413, and 512 instead of 594 with keys.
#[inline]
#[must_use]
pub fn only_borrows(message: &Message<'_>) -> bool {
    message.only_borrows()
}

/// A larger tail is encoded without the lock.
pub(super) const ENCODED_BEFORE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let kind = |message: &Message<'_>| Prepared::new(message, 1000, Timestamp::from_millis(0)).map(drop);
        let large = Message::new("orders", vec![0; 1000]);
        assert!(matches!(kind(&large), Err(ProduceErrorKind::MessageTooLarge { size: 1001.., limit: 1000 })));
        let negative = Message::new("orders", "v").with_partition(-1);
        assert!(matches!(kind(&negative), Err(ProduceErrorKind::InvalidMessage(_))));
        let key = Message::new("orders", "v").with_partition_key(vec![0; 2000]);
        assert!(matches!(kind(&key), Err(ProduceErrorKind::InvalidMessage(_))));
        assert!(kind(&Message::new("orders", "v")).is_ok());
    }
}

//! The shared fate of a batch's messages, on its way to handles, callbacks and reports.

use std::ops::Range;
use std::sync::Arc;

use super::batch::BATCH;
use super::delivered::{Ack, DeliveredBatch};
use super::send_queue::Amount;
use crate::error::{DeliveryError, DeliveryErrorKind, Persistence};
#[cfg(feature = "_internal")]
use crate::fate::slot::Slot;
use crate::ids::PartitionId;
use crate::message::{Header, Message, Payload, Timestamp, Topic};
use crate::queue::entry;
use crate::queue::extras::{Extra, Extras};
use crate::record::batch::Records;
use crate::record::tail::Tail;

/// Messages of one partition that share a fate.
#[derive(Debug)]
pub struct BatchFate {
    topic: Topic,
    partition: Option<PartitionId>,
    records: Records,
    extras: Extras,
    outcome: Outcome,
}

/// The end of a batch: the broker's receipt, or the reason why it failed with the possibility that it is in the log.
pub type Outcome = Result<Ack, (Arc<DeliveryErrorKind>, Persistence)>;

impl BatchFate {
    pub(super) fn new(
        topic: Topic,
        partition: Option<PartitionId>,
        records: Records,
        extras: Extras,
        outcome: Outcome,
    ) -> Self {
        Self { topic, partition, records, extras, outcome }
    }

    /// The number of messages.
    #[must_use]
    pub fn count(&self) -> usize {
        self.records.count() as usize
    }

    /// `true` if they were delivered.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.outcome.is_ok()
    }

    /// The reason why they were not delivered, and the possibility that they are in the log.
    #[must_use]
    pub fn error(&self) -> Option<(&Arc<DeliveryErrorKind>, Persistence)> {
        self.outcome.as_ref().err().map(|(kind, persistence)| (kind, *persistence))
    }

    /// `true` if any message has a handle.
    #[must_use]
    pub fn has_slots(&self) -> bool {
        self.extras.has_slots()
    }

    /// The amount that the messages hold in the buffer until their callbacks have returned: the memory that they have
    /// now.
    #[must_use]
    pub fn held(&self) -> Amount {
        let bytes = BATCH + self.records.memory() + self.extras.bytes();
        Amount { messages: self.count(), bytes }
    }

    /// Bytes that the messages took of a queue's limit.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        let mut row = 0;
        let cost =
            |(index, tail): (u32, Range<usize>)| entry::cost(tail.len(), self.extras.of(index, &mut row).as_ref());
        (0u32..).zip(self.records.tails()).map(cost).sum()
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The values of the messages, in order, for the simulation.
    #[cfg(any(test, feature = "_internal"))]
    pub fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.records.iter().map(|record| record.value)
    }

    /// The slots of the messages, in order, for the simulation.
    #[cfg(feature = "_internal")]
    pub fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        self.extras.slots()
    }

    /// Its end, for the simulation to falsify.
    #[cfg(feature = "_internal")]
    pub fn outcome_mut(&mut self) -> &mut Outcome {
        &mut self.outcome
    }

    /// The part of a delivered batch that the callback is told, and the memory of its records for the next batch, if it
    /// is free.
    ///
    /// # Errors
    /// The fate, if the batch failed.
    #[expect(clippy::result_large_err, reason = "a failed fate goes on as it is")]
    pub fn into_delivered(self) -> Result<(DeliveredBatch, Option<Vec<u8>>), Self> {
        let held = self.held();
        match self.outcome {
            Ok(ack) => Ok(DeliveredBatch::new(self.topic, ack, self.records, self.extras, held)),
            Err(_) => Err(self),
        }
    }

    /// Puts the fates of messages with handles into their slots. A failure goes there only if the handle is still
    /// there, and `into_errors` then leaves it out.
    pub fn tell_handles(&mut self) {
        let why = match &self.outcome {
            Ok(Ack { partition, base_offset, log_append_time }) => {
                return self.extras.deliver(*partition, *base_offset, *log_append_time);
            }
            Err(why) => why,
        };
        let mut spans = (0u32..).zip(self.records.create_times().zip(self.records.tails()));
        self.extras.tell(|index, extra, slot| {
            let Some((_, (create_time, tail))) = spans.find(|(at, _)| *at == index) else { return false };
            let failed = Next { create_time, tail, extra: Some(*extra) };
            let error = failure(&self.topic, self.partition, &self.records, failed, why);
            // The handle may have gone meanwhile.
            slot.fail(error).is_ok()
        });
    }

    /// The failed messages, without those whose handles were told; none if they were delivered.
    #[must_use]
    pub fn into_errors(self) -> FailedMessages {
        let left = if self.outcome.is_ok() { 0 } else { self.count() - self.extras.told() };
        FailedMessages { fate: self, cursor: Cursor { index: 0, at: 0, row: 0, left } }
    }

    /// The buffer, for the next batch, if nothing else uses it.
    #[must_use]
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        self.records.into_buffer()
    }
}

/// The failed messages of a batch in their order: each is decoded when its turn comes, because owned messages take many
/// times the memory of their records, if they are small.
#[derive(Debug)]
pub struct FailedMessages {
    fate: BatchFate,
    cursor: Cursor,
}

/// The position of a reader in the messages of a batch.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// The next message, and where its record begins.
    index: u32,
    at: usize,
    /// Where to look for its extra.
    row: usize,
    /// The number of messages that are still to come.
    left: usize,
}

/// The next message of a batch: its time, its tail's position, and its extra.
struct Next<'a> {
    create_time: i64,
    tail: Range<usize>,
    extra: Option<Extra<'a>>,
}

impl FailedMessages {
    /// Messages of these values, for tests.
    #[cfg(test)]
    pub fn of(values: &[&str], kind: DeliveryErrorKind, persistence: Persistence) -> Self {
        let mut batch = crate::record::batch::BatchBuilder::default();
        for value in values {
            let mut tail = Vec::new();
            crate::record::tail::put(&mut tail, None, Some(value.as_bytes()), std::iter::empty());
            batch.append(0, &tail);
        }
        let topic = Topic::new("orders").expect("a good name");
        let outcome = Err((Arc::new(kind), persistence));
        BatchFate::new(topic, None, batch.finish(), Extras::default(), outcome).into_errors()
    }

    /// The reason why the messages were not delivered.
    #[must_use]
    pub fn kind(&self) -> Option<&Arc<DeliveryErrorKind>> {
        self.fate.error().map(|(kind, _)| kind)
    }

    /// Bytes of memory that they hold until the last one was taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fate.held().bytes
    }

    /// Drops messages that are still to come, without decoding them. Returns the number of dropped ones.
    pub fn drop_first(&mut self, messages: usize) -> usize {
        let dropped = messages.min(self.cursor.left);
        if dropped == self.cursor.left {
            self.cursor.left = 0;
        } else {
            (0..dropped).for_each(|_| _ = self.cursor.next(&self.fate));
        }
        dropped
    }

    /// Copies of those that are still to come.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = DeliveryError> {
        let mut cursor = self.cursor;
        (0..cursor.left).map(move |_| cursor.next_of(&self.fate).expect("so many are left"))
    }
}

impl Iterator for FailedMessages {
    type Item = DeliveryError;

    fn next(&mut self) -> Option<DeliveryError> {
        self.cursor.next_of(&self.fate)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.cursor.left, Some(self.cursor.left))
    }
}

impl ExactSizeIterator for FailedMessages {}

impl Cursor {
    fn next<'a>(&mut self, fate: &'a BatchFate) -> Option<Next<'a>> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let (create_time, tail) = fate.records.record_at(self.at);
            let extra = fate.extras.of(self.index, &mut self.row);
            self.at = tail.end;
            self.index += 1;
            if extra.is_none_or(|extra| !extra.told) {
                return Some(Next { create_time, tail, extra });
            }
        }
    }

    fn next_of(&mut self, fate: &BatchFate) -> Option<DeliveryError> {
        let failed = self.next(fate)?;
        let why = fate.outcome.as_ref().err()?;
        Some(failure(&fate.topic, fate.partition, &fate.records, failed, why))
    }
}

/// A message of a batch that failed.
fn failure(
    topic: &Topic,
    partition: Option<PartitionId>,
    records: &Records,
    Next { create_time, tail, extra }: Next<'_>,
    (kind, persistence): &(Arc<DeliveryErrorKind>, Persistence),
) -> DeliveryError {
    let Tail { key, value, headers } = Tail::read(&records.bytes()[tail]).expect("append wrote every record whole");
    let owned = |bytes: Option<&[u8]>| bytes.map(|bytes| Payload::from(bytes.to_vec()));
    let mut message = Message::bare(topic.clone().into(), owned(value), owned(key));
    message.headers =
        headers.flatten().map(|(name, value)| Header { name: name.to_owned().into(), value: owned(value) }).collect();
    message.partition = partition.map(|partition| partition.0);
    message.create_time = Some(Timestamp::from_millis(create_time));
    if let Some(extra) = extra {
        message.tag = extra.tag;
        message.partition_key = owned(extra.partition_key);
    }
    DeliveryError::new(Arc::clone(kind), *persistence, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::batch::BatchBuilder;

    #[test]
    fn what_is_dropped_is_not_read() {
        let unreadable: &[u8] = &[0xff; 3];
        let good: &[u8] = &[1, 1, 0];
        let errors = |tails: &[&[u8]]| {
            let mut batch = BatchBuilder::new(Vec::new());
            (0..).zip(tails).for_each(|(time, tail)| batch.append(time, tail));
            let outcome = Err((Arc::new(DeliveryErrorKind::Purged), Persistence::No));
            let topic = Topic::new("orders").unwrap();
            BatchFate::new(topic, Some(PartitionId(0)), batch.finish(), Extras::default(), outcome).into_errors()
        };
        let mut some = errors(&[unreadable, unreadable, good]);
        assert_eq!((some.drop_first(2), some.len()), (2, 1));
        let left: Vec<_> = some.map(|error| error.message().create_time()).collect();
        assert_eq!(left, [Some(Timestamp::from_millis(2))]);
        let mut all = errors(&[unreadable; 3]);
        assert_eq!((all.drop_first(9), all.len(), all.next().is_none()), (3, 0, true));
    }
}

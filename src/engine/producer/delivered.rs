//! A delivered batch on its way to the callback: the receipts of its messages, without their records.
//!
//! The delivery thread may be far behind. If the records waited for it, each new batch would need new memory, which is
//! slow and in no cache; so their memory goes to the next batch at once.

use super::batch::BATCH;
use super::send_queue::Amount;
use crate::fate::Delivered;
use crate::ids::PartitionId;
use crate::message::{Timestamp, Topic};
use crate::queue::extras::Extras;
use crate::record::batch::Records;
use crate::record::times::Times;

/// The messages of a delivered batch.
#[derive(Debug)]
pub struct DeliveredBatch {
    topic: Topic,
    ack: Ack,
    times: CreateTimes,
    extras: Extras,
    held: Amount,
}

/// The broker's receipt for a delivered batch.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// The partition.
    pub partition: PartitionId,
    /// Offset of the first message.
    pub base_offset: Option<i64>,
    /// The broker's time, where the topic is known to store that instead of the message's.
    pub log_append_time: Option<i64>,
}

#[derive(Debug)]
enum CreateTimes {
    Apart(Times),
    /// They change too often to be kept apart.
    InRecords(Records),
}

impl DeliveredBatch {
    /// The batch, and the memory of its records, if it is not needed here and nothing else uses it. `held` is the amount
    /// that it held with its records.
    pub(super) fn new(
        topic: Topic,
        ack: Ack,
        records: Records,
        extras: Extras,
        held: Amount,
    ) -> (Self, Option<Vec<u8>>) {
        if !records.times().is_complete() {
            let times = CreateTimes::InRecords(records);
            return (Self { topic, ack, times, extras, held }, None);
        }
        let (times, buffer) = records.into_times();
        // Without its record a message counts as its receipt: else callbacks could be any number of messages behind.
        let receipts = BATCH + extras.bytes() + held.messages * size_of::<Delivered>();
        let held = Amount { bytes: receipts.min(held.bytes), ..held };
        (Self { topic, ack, times: CreateTimes::Apart(times), extras, held }, buffer)
    }

    /// The amount that it holds in the buffer until its callbacks have returned.
    #[must_use]
    pub fn held(&self) -> Amount {
        self.held
    }

    /// Calls `f` for each message without a handle, in order.
    #[inline]
    pub fn for_each(&self, mut f: impl FnMut(&Delivered)) {
        let ack = self.ack;
        let mut delivered =
            Delivered { topic: self.topic.clone(), partition: ack.partition.0, offset: None, timestamp: None, tag: 0 };
        let mut row = 0;
        let mut tell = |index: u32, create_time: i64| {
            let extra = self.extras.of(index, &mut row);
            if extra.is_some_and(|extra| extra.slot.is_some()) {
                return;
            }
            delivered.offset = ack.base_offset.map(|base| base.saturating_add(i64::from(index)));
            // With acks 0 no broker tells what was stored.
            delivered.timestamp =
                ack.base_offset.map(|_| Timestamp::from_millis(ack.log_append_time.unwrap_or(create_time)));
            delivered.tag = extra.map_or(0, |extra| extra.tag);
            f(&delivered);
        };
        match &self.times {
            CreateTimes::Apart(times) => {
                for (run, time) in times.runs(self.held.messages as u32) {
                    run.for_each(|index| tell(index, time));
                }
            }
            CreateTimes::InRecords(records) => {
                (0u32..).zip(records.create_times()).for_each(|(index, time)| tell(index, time));
            }
        }
    }

    /// The memory of its records, after its callbacks, if it had to be kept for them.
    #[must_use]
    pub fn into_buffer(self) -> Option<Vec<u8>> {
        match self.times {
            CreateTimes::Apart(_) => None,
            CreateTimes::InRecords(records) => records.into_buffer(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::producer::BatchFate;
    use crate::record::batch::BatchBuilder;

    #[test]
    fn an_offset_at_the_end_of_its_numbers_is_told_without_overflow() {
        let (batch, _) = delivered(&[i64::MAX, 0], Some(i64::MAX));
        assert_eq!(told(&batch), [(i64::MAX, i64::MAX), (i64::MAX, 0)]);
    }

    #[test]
    fn the_memory_goes_on_before_the_callbacks_unless_times_change_too_often() {
        for (changes, at_once) in [(0, true), (3, true), (200, false)] {
            let times: Vec<i64> = (0..1000).map(|number| number * changes / 999).collect();
            let (batch, before) = delivered(&times, Some(5));
            let expected: Vec<(i64, i64)> = (5..).zip(times).collect();
            assert_eq!(told(&batch), expected, "{changes} changes");
            let receipts = 1000 * size_of::<Delivered>() + BATCH;
            assert_eq!(batch.held().bytes > receipts, !at_once, "{changes} changes: what has gone on is not held");
            let after = batch.into_buffer();
            assert_eq!((before.is_some(), after.is_some()), (at_once, !at_once), "{changes} changes");
        }
    }

    fn delivered(times: &[i64], base_offset: Option<i64>) -> (DeliveredBatch, Option<Vec<u8>>) {
        let mut batch = BatchBuilder::new(Vec::new());
        let mut tail = Vec::new();
        crate::record::tail::put(&mut tail, None, Some(&[0; 200]), std::iter::empty());
        times.iter().for_each(|time| batch.append(*time, &tail));
        let ack = Ack { partition: PartitionId(0), base_offset, log_append_time: None };
        let topic = Topic::new("orders").expect("a good name");
        let fate = BatchFate::new(topic, Some(ack.partition), batch.finish(), Extras::default(), Ok(ack));
        fate.into_delivered().expect("it was delivered")
    }

    fn told(batch: &DeliveredBatch) -> Vec<(i64, i64)> {
        let mut told = Vec::new();
        batch.for_each(|delivered| {
            told.push((delivered.offset.expect("known"), delivered.timestamp.expect("known").as_millis()));
        });
        told
    }
}

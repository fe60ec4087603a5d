//! Topics and their partitions: leaders, logs, and the rules of each topic.

use super::batch_check::{self, BatchRules, Refusal};
use super::log::Log;
use super::producers::{Producers, Turn};
use crate::message::Timestamp;
use kafka_protocol::ResponseError;

/// A topic.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub name: String,
    pub id: TopicId,
    pub partitions: Vec<Partition>,
    pub kind: TopicKind,
}

/// The id that tells a topic from an earlier one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicId(pub [u8; 16]);

/// The kind of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TopicKind {
    /// Messages need a key. Nothing is ever compacted away.
    pub compacted: bool,
    /// The broker writes the times.
    pub log_append_time: bool,
}

/// One partition, as all its replicas have it.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// The node that leads it, while there is one.
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub log: Log,
    producers: Producers,
}

/// A batch that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub base_offset: i64,
    /// The time that the broker gave it in milliseconds, or -1 where the producer's stays.
    pub log_append_time: i64,
}

impl Topic {
    pub fn new(name: &str, id: TopicId, leaders: impl Iterator<Item = Option<i32>>, kind: TopicKind) -> Self {
        Self { name: name.to_owned(), id, partitions: leaders.map(Partition::new).collect(), kind }
    }

    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Checks a batch and appends it to the partition with this index.
    pub fn append(
        &mut self,
        index: i32,
        bytes: &[u8],
        max_message_bytes: usize,
        now: Timestamp,
    ) -> Result<Appended, Refusal> {
        let kind = self.kind;
        let partition = usize::try_from(index).ok().and_then(|index| self.partitions.get_mut(index));
        let Some(partition) = partition else {
            return Err(Refusal::at_the_door(ResponseError::UnknownTopicOrPartition, "no such partition"));
        };
        let rules = BatchRules {
            name: &format!("{}-{index}", self.name),
            max_message_bytes,
            compacted: kind.compacted,
            now: (!kind.log_append_time).then_some(now.as_millis()),
        };
        partition.append(bytes, rules, kind.log_append_time.then_some(now))
    }
}

impl Partition {
    fn new(leader: Option<i32>) -> Self {
        Self { leader, leader_epoch: 0, log: Log::default(), producers: Producers::default() }
    }

    /// Another leader, or none; a new epoch begins with every leader.
    pub fn elect(&mut self, leader: Option<i32>) {
        if self.leader != leader {
            self.leader = leader;
            self.leader_epoch += 1;
        }
    }

    fn append(
        &mut self,
        bytes: &[u8],
        rules: BatchRules<'_>,
        append_time: Option<Timestamp>,
    ) -> Result<Appended, Refusal> {
        let (sound, numbered) = batch_check::check(bytes, rules)?;
        if let Some(numbered) = numbered {
            match self.producers.judge(numbered) {
                Turn::Append => {}
                // Kafka's brokers give a repeated batch its latest time as the time of the append.
                Turn::Duplicate(seen) => {
                    return Ok(Appended { base_offset: seen.base_offset, log_append_time: seen.max_timestamp });
                }
                Turn::OutOfOrder => {
                    let why = format!("sequence {} of producer {}", numbered.first_sequence, numbered.producer_id);
                    return Err(Refusal::new(ResponseError::OutOfOrderSequenceNumber, why));
                }
                Turn::OldEpoch => {
                    let why = format!("epoch {} of producer {}", numbered.epoch, numbered.producer_id);
                    return Err(Refusal::new(ResponseError::InvalidProducerEpoch, why));
                }
            }
        }
        let mut bytes = bytes.to_vec();
        let max_timestamp = append_time.map_or(sound.max_timestamp, Timestamp::as_millis);
        if append_time.is_some() {
            stamp_append_time(&mut bytes, max_timestamp);
        }
        let base_offset = self.log.append(bytes, sound.count, max_timestamp, self.leader_epoch);
        if let Some(numbered) = numbered {
            self.producers.note(numbered, base_offset, max_timestamp);
        }
        Ok(Appended { base_offset, log_append_time: append_time.map_or(-1, Timestamp::as_millis) })
    }
}

/// Writes the time of the append into a batch, which changes its checksum.
fn stamp_append_time(batch: &mut [u8], millis: i64) {
    batch[22] |= 0b1000;
    batch[35..43].copy_from_slice(&millis.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

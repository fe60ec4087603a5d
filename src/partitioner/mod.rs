//! The partition of a message: the [`Partitioner`] hashes keys, [`Sticky`](sticky::Sticky) spreads messages without a
//! key. Pure; the engine calls it for every message without a partition of its own.

mod murmur2;
pub mod sticky;

use std::fmt;
use std::sync::Arc;

use murmur2::murmur2;

/// Chooses the partition of a message by its key, so that messages with the same key keep their order.
///
/// It chooses for messages that name no partition themselves. Programs in several languages agree on the partition of a
/// key only if they hash it alike:
///
/// | constructor | the same as | hash of the key |
/// |---|---|---|
/// | [`crc32`](Self::crc32), the default | ruby-kafka; but for empty keys, librdkafka's `consistent_random`, its default | CRC-32, as in zlib |
/// | [`murmur2`](Self::murmur2) | the Java client, librdkafka's `murmur2_random` | MurmurHash2, as in Kafka |
/// | [`custom`](Self::custom) | | yours |
///
/// | key | CRC-32 | `crc32`, 12 partitions | MurmurHash2 | `murmur2`, 12 partitions |
/// |---|---|---|---|---|
/// | *(empty)* | `00000000` | 0 | `106e08d9` | 9 |
/// | `123456789` | `cbf43926` | 2 | `9362de66` | 6 |
/// | `foobar` | `9ef61f95` | 5 | `d0e47bbe` | 6 |
///
/// The built-in ones spread messages without a key: a partition takes 64 KiB, or a whole batch if messages come fast
/// enough to fill it; then another partition, chosen at random, takes its turn (KIP-794). That makes fuller batches
/// than a new choice for every message.
///
/// ```
/// # use ottla::Partitioner;
/// assert_eq!(Partitioner::crc32().keyed(b"foobar", 12), Some(5));
/// assert_eq!(Partitioner::murmur2().keyed(b"foobar", 12), Some(6));
/// ```
#[derive(Clone, Default)]
pub struct Partitioner(Choice);

#[derive(Clone, Default)]
enum Choice {
    #[default]
    Crc32,
    Murmur2,
    Custom(Arc<Custom>),
}

type Custom = dyn Fn(PartitionInput<'_>) -> i32 + Send + Sync;

impl Partitioner {
    /// CRC-32 of the key, modulo the number of partitions: as ruby-kafka does it. The default.
    ///
    /// An empty key goes to partition 0, as with ruby-kafka. librdkafka's default spreads messages with an empty key
    /// like those without one: leave the key out for that.
    #[must_use]
    pub fn crc32() -> Self {
        Self(Choice::Crc32)
    }

    /// MurmurHash2 of the key without its sign, modulo the number of partitions: as the Java client does it.
    #[must_use]
    pub fn murmur2() -> Self {
        Self(Choice::Murmur2)
    }

    /// Your own choice: the function gives a partition from 0 to below
    /// [`partition_count`](PartitionInput::partition_count).
    ///
    /// It also chooses for messages without a key. It runs on the producer's worker thread and must not block: while it
    /// runs, no message of this producer is delivered or expires. Calls that would wait for the worker (`flush`,
    /// `purge`, `shutdown`, `partitions_for`, a handle) are refused inside it. A message for which it panics, or gives
    /// a partition that does not exist, fails alone.
    ///
    /// ```
    /// # use ottla::Partitioner;
    /// // The first byte of the key is the shard.
    /// let by_shard = Partitioner::custom(|message| {
    ///     let shard = message.key.and_then(|key| key.first()).copied().unwrap_or(0);
    ///     i32::from(shard) % message.partition_count
    /// });
    /// # assert_eq!(by_shard.keyed(b"a", 3), None);
    /// ```
    #[must_use]
    pub fn custom<F>(choose: F) -> Self
    where
        F: Fn(PartitionInput<'_>) -> i32 + Send + Sync + 'static,
    {
        Self(Choice::Custom(Arc::new(choose)))
    }

    /// The partition of a key in a topic with `partition_count` partitions.
    ///
    /// `None` for a custom partitioner, which knows more than the key, and if `partition_count` is not positive.
    #[inline]
    #[must_use]
    pub fn keyed(&self, key: &[u8], partition_count: i32) -> Option<i32> {
        let hash = match self.0 {
            Choice::Crc32 => crc32fast::hash(key),
            // `toPositive` of the Java client: the sign is cut off.
            Choice::Murmur2 => murmur2(key) & 0x7fff_ffff,
            Choice::Custom(_) => return None,
        };
        let count = u32::try_from(partition_count).ok().filter(|&count| count > 0)?;
        Some((hash % count) as i32)
    }

    /// `true` if the user's code runs in [`choose`](Self::choose).
    #[inline]
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.0, Choice::Custom(_))
    }

    /// The partition of a message, or `None` if any will do. A custom partitioner may panic here, and may give
    /// a partition that does not exist.
    #[inline]
    pub(crate) fn choose(&self, input: PartitionInput<'_>) -> Option<i32> {
        match &self.0 {
            Choice::Custom(choose) => Some(choose(input)),
            Choice::Crc32 | Choice::Murmur2 => self.keyed(input.key?, input.partition_count),
        }
    }
}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Choice::Crc32 => "Partitioner::crc32",
            Choice::Murmur2 => "Partitioner::murmur2",
            Choice::Custom(_) => "Partitioner::custom",
        })
    }
}

/// The input of a [custom](Partitioner::custom) partitioner.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PartitionInput<'a> {
    /// The name of the topic.
    pub topic: &'a str,
    /// The message's partition key if it has one, else its key if it has one.
    pub key: Option<&'a [u8]>,
    /// The number of partitions of the topic; at least 1.
    pub partition_count: i32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn input(key: Option<&[u8]>) -> PartitionInput<'_> {
        PartitionInput { topic: "orders", key, partition_count: 12 }
    }

    #[test]
    fn matches_zlib_vectors() {
        // Zlib.crc32 of Ruby, on which ruby-kafka builds.
        let crc32 = Partitioner::crc32();
        for (key, hash, partition) in [("", 0_u32, 0), ("123456789", 0xcbf4_3926, 2), ("foobar", 0x9ef6_1f95, 5)] {
            assert_eq!(crc32fast::hash(key.as_bytes()), hash, "{key}");
            assert_eq!(crc32.keyed(key.as_bytes(), 12), Some(partition), "{key}");
            assert_eq!(crc32.keyed(key.as_bytes(), i32::MAX), Some((hash % 0x7fff_ffff) as i32), "{key}");
        }
    }

    #[test]
    fn matches_java_vectors() {
        // toPositive(murmur2(key)) % 12, also where the hash is negative.
        let murmur2 = Partitioner::murmur2();
        for (key, partition) in [("", 9), ("123456789", 6), ("foobar", 6), ("abc", 3)] {
            assert_eq!(murmur2.keyed(key.as_bytes(), 12), Some(partition), "{key}");
        }
    }

    #[test]
    fn same_key_same_partition() {
        for partitioner in [Partitioner::crc32(), Partitioner::murmur2()] {
            for number in 0..1000_u32 {
                let key = number.to_be_bytes();
                let partition = partitioner.keyed(&key, 12);
                assert!(partition.is_some_and(|partition| (0..12).contains(&partition)));
                assert_eq!(partitioner.clone().choose(input(Some(&key))), partition);
            }
        }
    }

    #[test]
    fn an_empty_key_is_a_key_and_no_key_is_none() {
        // zlib's crc32 of nothing is 0: ruby-kafka, and librdkafka's `consistent`. Its `consistent_random`, the
        // default, asks for the length first and chooses at random (rd_kafka_msg_partitioner_consistent_random,
        // 2.12.1).
        assert_eq!(Partitioner::default().choose(input(Some(b""))), Some(0));
        // As the Java client, whose `partitionForKey` takes any key that is not null.
        assert_eq!(Partitioner::murmur2().choose(input(Some(b""))), Some(9));
        assert_eq!(Partitioner::crc32().choose(input(None)), None);
        assert_eq!(Partitioner::murmur2().choose(input(None)), None);
    }

    #[test]
    fn a_topic_without_partitions_has_none_for_a_key() {
        for count in [0, -1, i32::MIN] {
            assert_eq!(Partitioner::crc32().keyed(b"k", count), None);
            assert_eq!(Partitioner::murmur2().keyed(b"k", count), None);
        }
    }

    #[test]
    fn a_custom_partitioner_sees_every_message_and_its_answer_is_not_changed() {
        let custom = Partitioner::custom(|input| match input.key {
            Some(key) => key.len() as i32 * 1000,
            None => input.topic.len() as i32 + input.partition_count,
        });
        assert_eq!(custom.choose(input(Some(b"abc"))), Some(3000), "the engine refuses it");
        assert_eq!(custom.choose(input(None)), Some(18));
        assert_eq!(custom.keyed(b"abc", 12), None);
    }

    #[test]
    fn a_panic_of_a_custom_partitioner_reaches_the_engine_and_it_works_on() {
        let custom = Partitioner::custom(|input| i32::from(input.key.expect("a key")[0]));
        assert!(catch_unwind(AssertUnwindSafe(|| custom.choose(input(None)))).is_err());
        assert_eq!(custom.choose(input(Some(&[7]))), Some(7));
    }

    #[test]
    fn debug_names_the_kind() {
        assert_eq!(format!("{:?}", Partitioner::default()), "Partitioner::crc32");
        assert_eq!(format!("{:?}", Partitioner::custom(|_| 0)), "Partitioner::custom");
    }
}

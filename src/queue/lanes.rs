//! Open chunks side by side, one for each partition of a topic: messages with keys are encoded as the batches of their
//! partitions, as soon as the number of partitions is known. For few partitions only: with many, each gets so few
//! messages that a chunk for each costs more than sorting them later.

use super::chunk::Chunk;
use crate::ids::{PartitionId, TopicIndex, TopicPartition};

/// The open chunks of one topic; they are begun and sealed together. Their messages have all tickets from that of the
/// first one on.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Index of the topic.
    topic: TopicIndex,
    /// Ticket of the first message in any, if there is one.
    first: Option<u64>,
    /// By partition; one that got no message since the last ones were sealed has no memory.
    chunks: Vec<Chunk>,
}

impl Lanes {
    /// `true` if a topic with so many partitions has lanes.
    pub fn suit(partitions: u32) -> bool {
        (1..=MOST).contains(&partitions)
    }

    /// Ticket of the first message in any.
    #[inline]
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// `true` if they take messages to this topic.
    pub fn accepts(&self, topic: TopicIndex) -> bool {
        self.first.is_none() || self.topic == topic
    }

    /// The chunk of a partition; none while no lane has a message.
    #[inline]
    pub fn get(&self, partition: PartitionId) -> Option<&Chunk> {
        self.chunks.get(partition.get()).filter(|_| self.first.is_some())
    }

    /// The chunk of a partition, if any has a message.
    ///
    /// # Panics
    /// If the topic has no such partition.
    #[inline]
    pub fn get_mut(&mut self, partition: PartitionId) -> &mut Chunk {
        &mut self.chunks[partition.get()]
    }

    /// Begins the chunk of a partition, if it has no message, with one that `fresh` gives; `ticket` is that of the next
    /// message. They must [`take`](Self::take) the topic, and be empty if its number of partitions has changed.
    pub fn chunk(
        &mut self,
        TopicPartition { topic, partition }: TopicPartition,
        partitions: u32,
        ticket: u64,
        fresh: impl FnOnce() -> Chunk,
    ) -> &mut Chunk {
        if self.first.is_none() {
            (self.topic, self.first) = (topic, Some(ticket));
            self.chunks.resize_with(partitions as usize, Chunk::default);
        }
        debug_assert!(self.topic == topic && self.chunks.len() == partitions as usize, "sealed before another topic");
        let chunk = &mut self.chunks[partition.get()];
        if chunk.is_empty() {
            *chunk = fresh();
            chunk.first = ticket;
            chunk.lane = Some(partition);
        }
        chunk
    }

    /// Takes one that has messages; all are to be taken, before any gets another message.
    pub fn take_next(&mut self) -> Option<Chunk> {
        self.first = None;
        self.chunks.iter_mut().find(|chunk| !chunk.is_empty()).map(std::mem::take)
    }
}

/// The most partitions of a topic that has lanes.
pub(super) const MOST: u32 = 64;

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};
    use std::time::Duration;

    use proptest::prelude::*;

    use crate::engine::test_clock;
    use crate::ids::{PartitionId, TopicIndex};
    use crate::message::{Message, Timestamp, Topic};
    use crate::partitioner::Partitioner;
    use crate::queue::chunk::Chunk;
    use crate::queue::tests::Both;
    use crate::queue::{Limits, Prepared, Queue, Refused};
    use crate::record::tail;

    /// The kind of a message; its value is its ticket.
    #[derive(Clone, Debug)]
    enum Kind {
        Bare,
        Key(u8),
        LongKey(u8),
        PartitionKey(u8),
        Partition(i32),
        Large(u8),
    }

    #[derive(Clone, Debug)]
    enum Step {
        Offer(usize, Kind),
        Deliver,
        Take,
        Tell(u32, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let kind = prop_oneof![
            1 => Just(Kind::Bare),
            20 => (0..8_u8).prop_map(Kind::Key),
            1 => (0..8_u8).prop_map(Kind::LongKey),
            2 => (0..8_u8).prop_map(Kind::PartitionKey),
            1 => (0..PARTITIONS as i32).prop_map(Kind::Partition),
            1 => (0..8_u8).prop_map(Kind::Large),
        ];
        let topic = prop_oneof![20 => Just(0), 1 => Just(1)];
        let step = prop_oneof![
            40 => (topic, kind).prop_map(|(topic, kind)| Step::Offer(topic, kind)),
            1 => Just(Step::Deliver),
            1 => Just(Step::Take),
            1 => (0..2_u32, prop_oneof![Just(0), Just(PARTITIONS)]).prop_map(|(topic, count)| Step::Tell(topic, count)),
        ];
        prop::collection::vec(step, 1..400)
    }

    fn message(topic: &Topic, kind: &Kind, ticket: u64) -> Message<'static> {
        let mut value = ticket.to_be_bytes().to_vec();
        if matches!(kind, Kind::Large(_)) {
            value.resize(20_000, 0);
        }
        let message = Message::new(topic.clone(), value);
        match *kind {
            Kind::Bare => message,
            Kind::Key(key) | Kind::Large(key) => message.with_key(vec![key; 3]),
            Kind::LongKey(key) => message.with_key(vec![key; 300]),
            Kind::PartitionKey(key) => message.with_key("k").with_partition_key(vec![key; 3]),
            Kind::Partition(partition) => message.with_key("another").with_partition(partition),
        }
    }

    proptest! {
        #[test]
        fn each_message_leaves_once_in_the_lane_of_its_key_and_in_the_order_of_its_partition(steps in steps()) {
            let (interval, batch_bytes) = (Duration::ZERO, 1500);
            let limits = Limits { messages: 400, bytes: usize::MAX, threshold: 0, interval, batch_bytes };
            let murmur2 = Partitioner::murmur2();
            let mut queue = Both::placed_by(limits, &murmur2);
            queue.start();
            let topics = ["orders", "parcels"].map(|name| Topic::new(name).expect("a good name"));
            for topic in &topics {
                queue.topic(topic.name()).expect("a good name");
            }
            let (mut kinds, mut seen, mut out) = (Vec::new(), Vec::new(), VecDeque::new());
            let mut last = HashMap::new();
            for step in steps.into_iter().chain([Step::Deliver, Step::Take]) {
                match step {
                    Step::Offer(topic, kind) => {
                        let message = message(&topics[topic], &kind, queue.accepted());
                        prop_assert!(offer(&mut queue, &message).is_ok());
                        kinds.push(kind);
                    }
                    Step::Deliver => drop(queue.deliver()),
                    Step::Tell(topic, partitions) => queue.tell_partitions(TopicIndex(topic), partitions),
                    Step::Take => drop(queue.take_due(&mut out)),
                }
                for mut chunk in out.drain(..) {
                    let (lane, is_run) = (chunk.lane, chunk.run().is_some());
                    prop_assert!(lane.is_none() || is_run);
                    for entry in chunk.entries() {
                        let value = tail::Tail::read(entry.tail).expect("a tail").value.expect("a value");
                        let ticket = u64::from_be_bytes(value[..8].try_into().expect("8 bytes"));
                        let key = entry.extra.and_then(|extra| extra.partition_key).or_else(|| tail::key(entry.tail));
                        let of_key = key.and_then(|key| murmur2.keyed(key, PARTITIONS as i32)).map(PartitionId);
                        let asked = match kinds[ticket as usize] {
                            Kind::Partition(partition) => Some(PartitionId(partition)),
                            _ => None,
                        };
                        prop_assert_eq!(entry.partition, asked);
                        prop_assert!(lane.is_none() || lane == of_key);
                        if let Some(partition) = entry.partition.or(of_key) {
                            let before = last.insert((entry.topic, partition), ticket);
                            prop_assert!(before < Some(ticket), "{before:?} {ticket}");
                        }
                        seen.push(ticket);
                    }
                }
                seen.sort_unstable();
                prop_assert_eq!(&seen, &(0..queue.taken()).collect::<Vec<_>>());
                let left = queue.taken() + queue.held() as u64 - queue.accepted();
                queue.release(left, 0);
            }
            prop_assert_eq!(queue.taken(), kinds.len() as u64);
        }
    }

    #[test]
    fn keys_of_a_known_topic_make_a_chunk_for_each_partition() {
        let lanes = |partitions: u32, spare: Option<Chunk>| {
            let interval = Duration::ZERO;
            let (messages, bytes, batch_bytes) = (1000, usize::MAX, usize::MAX);
            let mut queue = Both::new(Limits { messages, bytes, threshold: 0, interval, batch_bytes });
            queue.start();
            spare.into_iter().for_each(|chunk| queue.recycle(chunk));
            let topic = Topic::new("orders").expect("a good name");
            queue.topic(topic.name()).expect("a good name");
            queue.tell_partitions(TopicIndex(0), partitions);
            let mut quiet = 0;
            for ticket in 0..200 {
                let message = message(&topic, &Kind::Key(ticket as u8), ticket);
                let fast = offer(&mut queue, &message).expect("room");
                quiet += u32::from(fast);
            }
            let mut out = VecDeque::new();
            assert!(!queue.deliver() && queue.take_due(&mut out));
            let sizes = out.iter().map(Chunk::len).sum::<usize>();
            assert_eq!(sizes, 200);
            (out.iter().filter(|chunk| chunk.lane.is_some()).count(), out.len(), quiet)
        };
        let mut used = Chunk::default();
        (used.taken, used.lane) = (7, Some(PartitionId(1)));
        let (with_lane, all, quiet) = lanes(3, Some(used));
        assert_eq!((with_lane, all), (3, 3));
        assert!(quiet > 180, "{quiet} of 200 were taken quietly");
        assert_eq!(lanes(0, None).0, 0, "nothing is known");
        assert_eq!(lanes(super::MOST + 1, None).0, 0, "too many");
    }

    #[test]
    fn they_begin_when_what_came_before_the_number_of_partitions_was_known_fills_its_chunk() {
        let (bytes, batch_bytes) = (usize::MAX, usize::MAX);
        let (messages, threshold, interval) = (100_000, 0, Duration::ZERO);
        let mut queue = Both::new(Limits { messages, bytes, threshold, interval, batch_bytes });
        queue.start();
        let topic = Topic::new("orders").expect("a good name");
        for ticket in 0..5000 {
            let message = message(&topic, &Kind::Key(ticket as u8), ticket);
            offer(&mut queue, &message).expect("room");
            queue.tell_partitions(TopicIndex(0), PARTITIONS);
        }
        let mut out = VecDeque::new();
        assert!(!queue.deliver() && queue.take_due(&mut out));
        let lanes: Vec<_> = out.iter().map(|chunk| chunk.lane.map(|lane| lane.0)).collect();
        assert_eq!(lanes, [None, Some(0), Some(1), Some(2)]);
    }

    /// `true` if it went the fast way.
    fn offer(queue: &mut Queue, message: &Message<'_>) -> Result<bool, Refused> {
        let message = Prepared::new(message, usize::MAX, Timestamp::from_millis(0)).expect("good");
        if message.is_good(Prepared::good_bytes(usize::MAX)) && queue.append_like_last(&message, None).is_some() {
            return Ok(true);
        }
        queue.offer(&message, &mut message.encode_large(), None, || Some(test_clock())).map(|_| false)
    }

    const PARTITIONS: u32 = 3;
}

//! The salvage of an engine after a panic inside it: what is left of it is taken out piece by piece, so that a second
//! panic, on the way, costs no more than the piece that it meets.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::batch::{BATCH, Batch, Queued};
use super::fate::BatchFate;
use super::intake::{alone, chunk_of};
use super::partition::NewMessage;
use super::{ProducerEngine, Released, fate_of};
use crate::error::{DeliveryErrorKind, Persistence};
use crate::ids::{PartitionId, TopicIndex, TopicPartition};
use crate::message::Topic;
use crate::queue::chunk::Chunk;
use crate::queue::entry::Entry;
use crate::record::tail;

/// The messages and places that are left of engines after a panic inside them.
#[derive(Debug, Default)]
pub struct Salvage {
    /// Fates that were not passed on yet, those of batches that were ever sent, which failed, possibly written, and
    /// those of messages that an engine broke on.
    pub fates: VecDeque<BatchFate>,
    /// The messages that were never sent, to append to a new engine that was told the same topics.
    pub chunks: Vec<Chunk>,
    /// Queue places that are free now.
    pub released: Released,
}

impl ProducerEngine {
    /// Takes the engine apart after a panic inside it: its own account is not trusted any more, but the messages are
    /// still there. After another panic a second call goes on behind the piece that it met.
    pub fn salvage(&mut self, what: &str, out: &mut Salvage) {
        let why = Arc::new(DeliveryErrorKind::Internal(what.to_owned()));
        out.released = out.released.and(std::mem::take(&mut self.released));
        out.fates.append(&mut self.fates);
        // The panic came between a fate and its way out.
        while let Some(settled) = self.departures.settled.pop_front() {
            out.release(settled.queued);
            out.fates.push_back(fate_of(&self.topics, settled));
        }
        for (index, topic) in (0..).map(TopicIndex).zip(&mut self.topics) {
            let name = topic.name.clone();
            while let Some((mut chunk, due)) = topic.parked.pop_front() {
                out.released.bytes += BATCH;
                if self.broke_on.take_if(|broke| *broke == index).is_some() {
                    out.fail_next((&mut chunk, due), |_| name.clone(), &why);
                }
                out.chunks.push(chunk);
            }
            for partition in &mut topic.partitions {
                while let Some(batch) = partition.take_batch() {
                    out.take(batch, partition.id, &name, &why);
                }
            }
        }
    }
}

impl Salvage {
    /// The chunks in order. A batch holds messages of one partition only, so the order that is kept is that of each
    /// partition.
    pub fn take_chunks(&mut self) -> Vec<Chunk> {
        self.chunks.sort_by_key(|chunk| chunk.first);
        std::mem::take(&mut self.chunks)
    }

    /// Gives the message at the chunk's cursor, which an engine broke on, the fate `why`, not written, and moves the
    /// cursor behind it. If it cannot even be read, it comes back empty. It is due since `due`.
    pub fn fail_next(
        &mut self,
        (chunk, due): (&mut Chunk, Instant),
        name: impl Fn(TopicIndex) -> Topic,
        why: &Arc<DeliveryErrorKind>,
    ) {
        if chunk.taken >= chunk.len() {
            return;
        }
        let read = catch_unwind(AssertUnwindSafe(|| {
            chunk.expand_routes();
            let entry = chunk.entry(chunk.taken, &mut 0);
            ((entry.topic, entry.partition), next_alone(chunk, &entry, due))
        }));
        let ((topic, partition), batch) = read.unwrap_or_else(|_| {
            let topic = chunk.topic(chunk.taken);
            let extra = chunk.extras.of(chunk.taken as u32, &mut 0);
            let mut tail = Vec::new();
            tail::put(&mut tail, None, None, std::iter::empty());
            let empty = Entry { topic, partition: None, create_time: 0, extra, tail: &tail };
            ((topic, None), next_alone(chunk, &empty, due))
        });
        chunk.taken += 1;
        self.fail((name(topic), partition), batch, Persistence::No, why);
    }

    /// Takes a batch: one that was ever sent fails, possibly written, and another one goes on.
    fn take(&mut self, mut batch: Batch, id: TopicPartition, name: &Topic, why: &Arc<DeliveryErrorKind>) {
        let to = (name.clone(), Some(id.partition));
        if batch.written || batch.is_in_flight() {
            return self.fail(to, batch, Persistence::Possibly, why);
        }
        match catch_unwind(AssertUnwindSafe(|| chunk_of(id, &mut batch))) {
            Ok(chunk) => {
                // The bytes that it holds beside its messages are free; the new engine takes them again.
                self.released.bytes += batch.queued.bytes.saturating_sub(chunk.cost);
                self.chunks.push(chunk);
            }
            Err(_) => self.fail(to, batch, Persistence::No, why),
        }
    }

    fn fail(
        &mut self,
        (topic, partition): (Topic, Option<PartitionId>),
        mut batch: Batch,
        persistence: Persistence,
        why: &Arc<DeliveryErrorKind>,
    ) {
        self.release(std::mem::take(&mut batch.queued));
        let outcome = Err((Arc::clone(why), persistence));
        let (records, extras) = batch.into_parts();
        self.fates.push_back(BatchFate::new(topic, partition, records, extras, outcome));
    }

    fn release(&mut self, queued: Queued) {
        self.released.messages += queued.messages;
        self.released.bytes += queued.bytes;
    }
}

/// A batch of the message at a chunk's cursor, alone; `entry` is what is known of it.
fn next_alone(chunk: &Chunk, entry: &Entry<'_>, due: Instant) -> Batch {
    alone(entry, NewMessage { ticket: chunk.ticket(chunk.taken), due, queued: entry.cost() })
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;
    use crate::config::{BrokerAddress, ClientConfig, ProducerConfig};
    use crate::engine::producer::partition::{Partition, settled};
    use crate::engine::test_clock;
    use crate::message::{Message, Timestamp};
    use crate::partitioner::Partitioner;
    use crate::queue::extras::Extra;

    fn engine(config: ProducerConfig) -> ProducerEngine {
        let client = ClientConfig::new(vec![BrokerAddress { host: "b".into(), port: 9092 }]);
        let mut engine = ProducerEngine::new(Arc::new(client), Arc::new(config), 7);
        engine.add_topic(Topic::new("orders").unwrap());
        engine
    }

    /// Messages with these values, the first with this ticket.
    fn chunk(first: u64, values: &[&str]) -> Chunk {
        let mut all = Chunk::from_ticket(first);
        for value in values {
            let message = Message::new("orders", *value).with_key(*value);
            let mut one = Chunk::of(0, TopicIndex(0), &message, Timestamp::from_millis(0));
            let entry = one.entries().next().expect("one message");
            all.push_entry(&entry, false, entry.cost());
        }
        all
    }

    fn cost(values: &[&str]) -> usize {
        chunk(0, values).cost
    }

    fn learn(engine: &mut ProducerEngine) {
        let rules = engine.rules;
        engine.topics[0].partitions.push(Partition::new(rules, of(0)));
    }

    fn of(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicIndex(0), partition: PartitionId(partition) }
    }

    /// The engine breaks here.
    fn breaks(act: impl FnOnce()) {
        assert!(catch_unwind(AssertUnwindSafe(act)).is_err(), "it was to panic");
    }

    /// The values of what has failed, and of what goes on, without the messages before the cursors.
    fn saved(mut saved: Salvage) -> (Vec<String>, Vec<String>) {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or(b"unread")).into_owned();
        let failed = saved.fates.iter().flat_map(|fate| fate.values().map(text).collect::<Vec<_>>()).collect();
        let mut left = Vec::new();
        for mut chunk in saved.take_chunks() {
            let taken = chunk.taken;
            let values = chunk.entries().skip(taken).map(|entry| text(tail::Tail::read(entry.tail).unwrap().value));
            left.extend(values);
        }
        (failed, left)
    }

    fn salvage(engine: &mut ProducerEngine) -> Salvage {
        let mut out = Salvage::default();
        engine.salvage("a test", &mut out);
        out
    }

    #[test]
    fn a_panic_between_a_fate_and_its_way_out_keeps_it() {
        let mut engine = engine(ProducerConfig::default());
        let mut first = chunk(0, &["a"]);
        let entry = first.entries().next().expect("one message");
        let arrival = NewMessage { ticket: 0, due: test_clock(), queued: entry.cost() };
        let batch = alone(&Entry { extra: Extra::of(7, None, None), ..entry }, arrival);
        let why = Arc::new(DeliveryErrorKind::Purged);
        engine.departures.settled.push_back(settled(of(3), batch, Err((why, Persistence::No))));
        let salvage = salvage(&mut engine);
        assert_eq!(salvage.released, Released { messages: 1, bytes: cost(&["a"]), charged: 0 });
        let [fate] = <[BatchFate; 1]>::try_from(Vec::from(salvage.fates)).expect("one fate");
        let error = fate.into_errors().next().expect("one message");
        assert_eq!(
            (error.persistence(), error.message().tag(), error.message().partition()),
            (Persistence::No, 7, Some(3))
        );
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_panic_over_wrong_accounts_costs_no_fate() {
        let (mut engine, now) = (engine(ProducerConfig::default()), test_clock());
        engine.append(&mut chunk(0, &["a", "b"]), now);
        learn(&mut engine);
        engine.unpark(TopicIndex(0), now);
        engine.topics[0].partitions[0].append_run(batch_of(&["c"]));
        engine.unfinished = 0;
        breaks(|| engine.purge(now));
        let salvage = salvage(&mut engine);
        assert_eq!(salvage.released.messages, 3);
        assert_eq!(saved(salvage).0, ["a", "b", "c"]);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_panic_behind_the_place_that_took_a_message_gives_it_no_second_fate() {
        let (mut engine, now) = (engine(ProducerConfig::default()), test_clock());
        learn(&mut engine);
        engine.buffers.put(Vec::with_capacity(100_000));
        engine.buffers.break_account();
        let (mut hand, mut out) = (chunk(0, &["a", "b", "c"]), Salvage::default());
        breaks(|| engine.append(&mut hand, now));
        assert_eq!(hand.taken, 1, "it is in a batch");
        engine.salvage("a test", &mut out);
        assert_eq!(saved(out), (vec![], vec!["a".to_owned()]));
    }

    #[test]
    fn a_partitioner_that_breaks_the_engine_costs_its_message_and_none_that_waited_for_metadata_with_it() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a fault of the test");
            }
        }
        let partitioner = Partitioner::custom(|input| if input.key == Some(b"b") { panic_any(Bomb) } else { 0 });
        let mut engine = engine(ProducerConfig { partitioner, ..ProducerConfig::default() });
        let now = test_clock();
        engine.append(&mut chunk(0, &["a", "b", "c"]), now);
        engine.topics[0].parked.push_back((chunk(3, &["d"]), now));
        learn(&mut engine);
        breaks(|| engine.unpark(TopicIndex(0), now));
        let salvage = salvage(&mut engine);
        assert_eq!(salvage.released.messages, 1);
        let (failed, mut left) = saved(salvage);
        left.sort_unstable();
        assert_eq!((failed, left), (vec!["b".to_owned()], ["a", "c", "d"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_message_that_cannot_be_read_fails_empty_and_alone() {
        let (mut hand, mut out) = (chunk(0, &["a", "b", "c"]), Salvage::default());
        hand.taken = 1;
        hand.break_at(1);
        let (name, why) = (Topic::new("orders").unwrap(), Arc::new(DeliveryErrorKind::Internal("a test".to_owned())));
        out.fail_next((&mut hand, test_clock()), |_| name.clone(), &why);
        out.fail_next((&mut hand, test_clock()), |_| name.clone(), &why);
        out.fail_next((&mut hand, test_clock()), |_| name.clone(), &why);
        assert_eq!((hand.taken, out.released.messages), (3, 2));
        assert_eq!(saved(out).0, ["unread", "c"]);
    }

    #[test]
    fn a_batch_that_cannot_be_read_fails_and_the_others_go_on() {
        let mut engine = engine(ProducerConfig::default());
        learn(&mut engine);
        let partition = &mut engine.topics[0].partitions[0];
        for (values, is_broken) in [(["a", "b"], false), (["c", "d"], true), (["e", "f"], false)] {
            let mut batch = batch_of(&values);
            if is_broken {
                batch.break_records();
            }
            partition.append_run(batch);
        }
        let mut salvage = salvage(&mut engine);
        let fates = std::mem::take(&mut salvage.fates);
        let counts: Vec<_> = fates.iter().map(|fate| (fate.count(), fate.error().map(|(_, it)| it))).collect();
        assert_eq!(counts, [(2, Some(Persistence::No))]);
        assert_eq!(salvage.released.messages, 2, "the others hold theirs");
        assert_eq!(saved(salvage), (vec![], ["a", "b", "e", "f"].map(str::to_owned).to_vec()));
    }

    fn batch_of(values: &[&str]) -> Batch {
        let mut batch = Batch::new(Vec::new(), 0, test_clock(), crate::deadline::Deadline::NEVER);
        for entry in chunk(0, values).entries() {
            assert!(batch.append(&entry, entry.cost(), usize::MAX));
        }
        batch
    }
}

//! The salvage of an engine after a panic inside it.

use std::sync::Arc;

use super::batch::BATCH;
use super::fate::BatchFate;
use super::intake::chunk_of;
use super::{ProducerEngine, Released, fate_of};
use crate::error::{DeliveryErrorKind, Persistence};
use crate::queue::chunk::Chunk;

/// The messages and places that are left of an engine after a panic.
#[derive(Debug)]
pub struct Salvage {
    /// Fates that were not passed on yet, and those of batches that were ever sent: failed, possibly written.
    pub fates: Vec<BatchFate>,
    /// The messages that were never sent, in order, to append to a new engine that was told the same topics.
    pub chunks: Vec<Chunk>,
    /// Queue places that are free now.
    pub released: Released,
}

impl ProducerEngine {
    /// Takes the engine apart after a panic inside it: its own account is not trusted any more, but the messages are
    /// still there.
    #[must_use]
    pub fn salvage(mut self, what: &str) -> Salvage {
        let why = Arc::new(DeliveryErrorKind::Internal(what.to_owned()));
        let mut salvage =
            Salvage { fates: self.fates.drain(..).collect(), chunks: Vec::new(), released: self.released };
        // The panic came between a fate and its way out.
        for settled in self.departures.settled.drain(..) {
            salvage.released.messages += settled.queued.messages;
            salvage.released.bytes += settled.queued.bytes;
            salvage.fates.push(fate_of(&self.topics, settled));
        }
        for topic in &mut self.topics {
            let parked = salvage.chunks.len();
            salvage.chunks.extend(topic.take_parked());
            salvage.released.bytes += (salvage.chunks.len() - parked) * BATCH;
            let name = topic.name.clone();
            for partition in &mut topic.partitions {
                let id = partition.id;
                let (sent, unsent) = partition.dismantle();
                for batch in sent {
                    let outcome = Err((Arc::clone(&why), Persistence::Possibly));
                    salvage.released.messages += batch.queued.messages;
                    salvage.released.bytes += batch.queued.bytes;
                    let (records, extras) = batch.into_parts();
                    salvage.fates.push(BatchFate::new(name.clone(), Some(id.partition), records, extras, outcome));
                }
                for mut batch in unsent {
                    let queued = std::mem::take(&mut batch.queued);
                    let chunk = chunk_of(id, batch);
                    // The bytes that it holds beside its messages are free; the new engine takes them again.
                    salvage.released.bytes += queued.bytes.saturating_sub(chunk.cost);
                    salvage.chunks.push(chunk);
                }
            }
        }
        // A batch holds messages of one partition only, so the order that is kept is that of each partition.
        salvage.chunks.sort_by_key(|chunk| chunk.first);
        salvage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BrokerAddress, ClientConfig, ProducerConfig};
    use crate::deadline::Deadline;
    use crate::engine::producer::{batch, partition};
    use crate::ids::{PartitionId, TopicIndex, TopicPartition};
    use crate::message::Topic;
    use crate::queue::extras::Extra;

    #[test]
    fn a_panic_between_a_fate_and_its_way_out_keeps_it() {
        let client = ClientConfig::new(vec![BrokerAddress { host: "b".into(), port: 9092 }]);
        let mut engine = ProducerEngine::new(Arc::new(client), Arc::new(ProducerConfig::default()), 7);
        engine.add_topic(Topic::new("orders").unwrap());
        let mut tail = Vec::new();
        crate::record::tail::put(&mut tail, None, Some(b"v"), std::iter::empty());
        let entry = crate::queue::entry::Entry {
            topic: TopicIndex(0),
            partition: None,
            create_time: 0,
            extra: Extra::of(7, None, None),
            tail: &tail,
        };
        let mut batch = batch::Batch::new(Vec::new(), 0, crate::engine::test_clock(), Deadline::NEVER);
        assert!(batch.append(&entry, tail.len(), usize::MAX));
        let why = Arc::new(DeliveryErrorKind::Purged);
        engine.departures.settled.push_back(partition::settled(
            TopicPartition { topic: TopicIndex(0), partition: PartitionId(3) },
            batch,
            Err((why, Persistence::No)),
        ));
        let salvage = engine.salvage("a test");
        assert_eq!(salvage.released, Released { messages: 1, bytes: tail.len(), charged: 0 });
        let [fate] = <[BatchFate; 1]>::try_from(salvage.fates).expect("one fate");
        let error = fate.into_errors().next().expect("one message");
        assert_eq!(
            (error.persistence(), error.message().tag(), error.message().partition()),
            (Persistence::No, 7, Some(3))
        );
    }
}

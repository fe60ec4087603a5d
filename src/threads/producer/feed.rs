//! Feeds a producer's engine, and outlives it: keeps the topics, and the chunks on their way in. Puts a new engine in
//! the place of one that panicked. The worker has one, and so has the sync producer.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;

use crate::config::{ClientConfig, ProducerConfig};
use crate::engine::producer::{BatchFate, ProducerEngine, Released, Salvage};
use crate::error::DeliveryErrorKind;
use crate::message::Topic;
use crate::queue::chunk::Chunk;
use crate::threads::driver::{Driver, Network};

/// The source of all that a producer's engine takes in.
#[derive(Debug)]
pub struct Feed {
    client: Arc<ClientConfig>,
    producer: Arc<ProducerConfig>,
    callbacks: bool,
    /// Begins each engine differently.
    seeds: Rng,
    topics: Vec<Topic>,
    /// Chunks on their way into the engine, in order. They live here, and the cursor in each says what the engine
    /// has, so that a panic on the way costs one message.
    pub hand: VecDeque<Chunk>,
    /// Chunks that the engine has emptied.
    pub spent: Vec<Chunk>,
    /// Queue places that a broken engine left free.
    released: Released,
    /// Engines that have broken, until all that is left of them is saved; with `true` if one broke on the message at
    /// the cursor of the first chunk in hand.
    broken: Vec<(ProducerEngine, bool)>,
    saved: Salvage,
}

impl Feed {
    /// `callbacks` says that messages keep their buffer place until `callbacks_done`.
    pub fn new(client: Arc<ClientConfig>, producer: Arc<ProducerConfig>, callbacks: bool, seed: u64) -> Self {
        Self {
            client,
            producer,
            callbacks,
            seeds: Rng::with_seed(seed),
            topics: Vec::new(),
            hand: VecDeque::new(),
            spent: Vec::new(),
            released: Released::default(),
            broken: Vec::new(),
            saved: Salvage::default(),
        }
    }

    /// An engine that was told the topics.
    pub fn new_engine(&mut self) -> ProducerEngine {
        let (client, producer) = (Arc::clone(&self.client), Arc::clone(&self.producer));
        let mut engine = ProducerEngine::new(client, producer, self.seeds.u64(..)).with_callbacks(self.callbacks);
        self.topics.iter().for_each(|topic| engine.add_topic(topic.clone()));
        engine
    }

    /// The number of topics that the engine was told.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Tells the engine another topic.
    pub fn add_topic(&mut self, topic: Topic, engine: &mut ProducerEngine) {
        self.topics.push(topic.clone());
        engine.add_topic(topic);
    }

    /// Gives the engine all chunks in hand.
    pub fn append(&mut self, engine: &mut ProducerEngine, now: Instant) {
        while let Some(chunk) = self.hand.front_mut() {
            engine.append(chunk, now);
            // A message with a handle is lost when no chunk, batch or fate has it any more: from here on the engine's
            // batches have these.
            chunk.extras.clear();
            // Many at once would take as much memory again, until callers have them.
            let spent = self.hand.pop_front();
            self.spent.extend(spent.filter(|_| self.spent.len() < MOST_SPENT));
        }
    }

    /// Queue places that became free since the last call.
    pub fn take_released(&mut self, engine: &mut ProducerEngine) -> Released {
        mem::take(&mut self.released).and(engine.take_released())
    }

    /// The same at the end, when no caller can come any more.
    pub fn take_last_released(&mut self, engine: &mut ProducerEngine) -> Released {
        mem::take(&mut self.released).and(engine.take_last_released())
    }

    /// Puts a new engine and new connections in the place of broken ones. [`salvage`](Self::salvage) follows.
    pub fn replace<N: Network>(&mut self, driver: &mut Driver<ProducerEngine, N>) {
        let broken = driver.replace(self.new_engine());
        // Chunks stay in hand only while the engine takes them: the first one holds the message that broke it.
        self.broken.push((broken, !self.hand.is_empty()));
    }

    /// Saves what is left of the engines that `what` broke: the messages that they never wrote are in hand again, and
    /// [`next_fate`](Self::next_fate) gives the fates of the others. After a second panic another call goes on.
    pub fn salvage(&mut self, what: &str, now: Instant) {
        while let Some((engine, at_cursor)) = self.broken.last_mut() {
            if mem::take(at_cursor) {
                self.fail_next(&Arc::new(DeliveryErrorKind::Internal(what.to_owned())), now);
                continue;
            }
            engine.salvage(what, &mut self.saved);
            self.broken.pop();
        }
        self.released = self.released.and(mem::take(&mut self.saved.released));
        for chunk in self.saved.take_chunks().into_iter().rev() {
            self.hand.push_front(chunk);
        }
    }

    /// Gives every message in hand the fate `why`, without an engine.
    pub fn fail_all(&mut self, why: &Arc<DeliveryErrorKind>, now: Instant) {
        while let Some(chunk) = self.hand.front() {
            if chunk.taken < chunk.len() {
                self.fail_next(why, now);
            } else {
                self.hand.pop_front();
            }
        }
        self.released = self.released.and(mem::take(&mut self.saved.released));
    }

    /// The next fate that broken engines have left.
    pub fn next_fate(&mut self) -> Option<BatchFate> {
        self.saved.fates.pop_front()
    }

    fn fail_next(&mut self, why: &Arc<DeliveryErrorKind>, now: Instant) {
        let Some(chunk) = self.hand.front_mut() else { return };
        let topics = &self.topics;
        self.saved.fail_next((chunk, now), |topic| topics[topic.get()].clone(), why);
    }
}

const MOST_SPENT: usize = 8;

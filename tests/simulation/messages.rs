//! What goes into the engine and what comes out: messages, and their fates.

use std::sync::Arc;
use std::time::Duration;

use ottla::engine::chunk::Chunk;
use ottla::engine::chunk::Slot;
use ottla::engine::entry;
use ottla::engine::producer::BatchFate;
use ottla::{Message, Timestamp};

use crate::check::Said;
use crate::world::{Happening, TOPICS, World, engine};

impl World {
    pub fn produce(&mut self) {
        let mut chunk = Chunk { first: self.produced, ..Chunk::default() };
        for _ in 0..=self.below(12) {
            let mut value = self.produced.to_be_bytes().to_vec();
            value.resize(8 + self.below(60) as usize, b'.');
            let topic = self.below(2) as usize;
            let mut message = Message::new(TOPICS[topic], value);
            match self.below(4) {
                0 => {}
                1 => message = message.with_partition(self.below(self.partitions as u64) as i32),
                _ => message = message.with_key(vec![self.below(4) as u8]),
            }
            if self.below(4) == 0 {
                let slot = Slot::shared();
                chunk.handles.push((chunk.len() as u32, Arc::clone(&slot)));
                self.slots.insert(self.produced, slot);
            }
            let time = Timestamp::from_millis(self.clock().as_millis());
            entry::put(&mut chunk.bytes, topic as u32, &message, time);
            chunk.ends.push(chunk.bytes.len() as u32);
            self.produced += 1;
            self.held += 1;
        }
        self.tell(|| format!("append {} from {}", chunk.len(), chunk.first));
        self.engine.append(&mut chunk, self.now);
    }

    /// The engine panics: another one goes on with what it never sent.
    pub fn salvage(&mut self) {
        self.panics += 1;
        let fresh = engine(&self.client, &self.config, self.callbacks, self.random.draw());
        let salvage = std::mem::replace(&mut self.engine, fresh).salvage("a test");
        self.wires.values_mut().for_each(|wire| {
            wire.end(self.now);
        });
        self.held -= salvage.released.messages;
        for fate in salvage.fates {
            self.note(fate);
        }
        for mut chunk in salvage.chunks {
            self.tell(|| format!("append again {} from {}", chunk.len(), chunk.first));
            self.engine.append(&mut chunk, self.now);
        }
    }

    pub fn note(&mut self, fate: BatchFate) {
        if self.callbacks {
            let after = Duration::from_millis(self.below(500));
            self.at(self.elapsed() + after, Happening::Called(fate.count(), fate.buffer_bytes()));
        }
        if fate.count() == 0 {
            self.problems.push("an empty fate".to_owned());
        }
        let second = if fate.topic().name() == TOPICS[0] { 0 } else { 1000 };
        let mut places = Vec::new();
        fate.for_each_delivered(&mut |delivered, slot| {
            places.push((delivered.partition + second, delivered.offset, slot.map(Arc::clone)));
        });
        let ids: Vec<u64> = fate.values().map(id_of).collect();
        for (id, (partition, offset, slot)) in ids.into_iter().zip(places) {
            self.tell(|| format!("{id} delivered to {partition} at {offset:?}"));
            self.say(id, Said::Delivered { partition, offset }, slot.as_ref());
        }
        let persistence = fate.error().map(|(_, persistence)| persistence);
        for (error, slot) in fate.into_errors() {
            let id = id_of(error.message().value());
            self.tell(|| format!("{id}: {error}"));
            if let Some(persistence) = persistence {
                self.say(id, Said::Failed(persistence), slot.as_ref());
            }
        }
    }

    fn say(&mut self, id: u64, said: Said, slot: Option<&Arc<Slot>>) {
        self.said.entry(id).or_default().push(said);
        let expected = self.slots.remove(&id);
        if slot.map(Arc::as_ptr) != expected.as_ref().map(Arc::as_ptr) {
            self.problems.push(format!("{id} was told to another handle"));
        }
    }
}

pub fn id_of(value: Option<&[u8]>) -> u64 {
    let value = value.and_then(|value| value.get(..8)).and_then(|value| value.try_into().ok());
    u64::from_be_bytes(value.expect("the simulation's values begin with a number"))
}

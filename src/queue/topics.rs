//! The topics of a queue by their indexes, and the engine's news of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{DeliveryErrorKind, InvalidTopic};
use crate::ids::TopicIndex;
use crate::message::Topic;

/// The topics that messages went to; only ever grows, so an index stays true.
#[derive(Debug, Default)]
pub(super) struct Topics {
    all: Vec<Topic>,
    /// The numbers of partitions by index; 0 where it is not known.
    partitions: Vec<u32>,
    /// The reasons why no message can be sent to a topic, for the topics where that is so.
    held_up: HashMap<TopicIndex, HeldUp>,
    by_name: HashMap<Topic, TopicIndex>,
    /// The index that was asked for last.
    last: TopicIndex,
    /// Serials and indexes of `Topic`s seen lately, each at the place that its serial gives: no hash of a name for a
    /// message that comes with its topic.
    seen: [(u64, TopicIndex); SEEN_TOPICS],
}

impl Topics {
    /// By index.
    pub fn all(&self) -> &[Topic] {
        &self.all
    }

    /// The index of the topic with this name, which it gets if it has none; `checked` is the topic, if it was checked
    /// before.
    pub fn seat(&mut self, name: &str, checked: Option<&Topic>) -> Result<TopicIndex, InvalidTopic> {
        let Some(checked) = checked else { return self.seat_of(name, None) };
        let place = checked.serial() as usize % SEEN_TOPICS;
        if self.seen[place].0 != checked.serial() {
            self.seen[place] = (checked.serial(), self.seat_of(name, Some(checked))?);
        }
        Ok(self.seen[place].1)
    }

    fn seat_of(&mut self, name: &str, checked: Option<&Topic>) -> Result<TopicIndex, InvalidTopic> {
        if self.all.get(self.last.get()).is_none_or(|last| last.name() != name) {
            self.last = match self.by_name.get(name) {
                Some(index) => *index,
                None => self.add(checked.cloned().map_or_else(|| Topic::new(name), Ok)?),
            };
        }
        Ok(self.last)
    }

    fn add(&mut self, topic: Topic) -> TopicIndex {
        let index = TopicIndex(self.all.len() as u32);
        self.all.push(topic.clone());
        self.partitions.push(0);
        self.by_name.insert(topic, index);
        index
    }

    /// The number of partitions that it has; 0 if that is not known.
    #[inline]
    pub fn partitions(&self, topic: TopicIndex) -> u32 {
        self.partitions[topic.get()]
    }

    /// Notes the number of partitions that it has.
    pub fn tell_partitions(&mut self, topic: TopicIndex, partitions: u32) {
        self.partitions[topic.get()] = partitions;
    }

    /// The reason why no message can be sent to it, while there are other topics to which messages can.
    pub fn held_up(&self, topic: TopicIndex) -> Option<&Arc<DeliveryErrorKind>> {
        if self.held_up.len() < self.all.len() { self.held_up.get(&topic).map(|held_up| &held_up.why) } else { None }
    }

    /// Notes the reason why no message can be sent to it, or that messages can be sent again. The same reason once more
    /// says that no message to it is left: then the next one may pass, or nobody would learn that messages can be sent
    /// again. Returns the reason that it replaces.
    pub fn hold_up(
        &mut self,
        topic: TopicIndex,
        why: Option<Arc<DeliveryErrorKind>>,
    ) -> Option<Arc<DeliveryErrorKind>> {
        let before = self.held_up.remove(&topic).map(|held_up| held_up.why);
        if let Some(why) = why {
            let passes = before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &why));
            self.held_up.insert(topic, HeldUp { why, passes });
        }
        before
    }

    /// `true` if a message to a topic that is held up passes all the same.
    pub fn lets_pass(&self, topic: TopicIndex) -> bool {
        self.held_up.get(&topic).is_some_and(|held_up| held_up.passes)
    }

    /// A message to it was accepted, which finds out if messages can be sent again: no other one passes.
    pub fn note_accepted(&mut self, topic: TopicIndex) {
        if let Some(held_up) = self.held_up.get_mut(&topic) {
            held_up.passes = false;
        }
    }
}

/// A topic that nothing can be sent to.
#[derive(Debug)]
struct HeldUp {
    why: Arc<DeliveryErrorKind>,
    /// `true` if one message may find out if that is still so.
    passes: bool,
}

const SEEN_TOPICS: usize = 32;

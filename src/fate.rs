//! What became of a message: [`Delivered`], [`Fate`], and the [`Slot`] in which a waiting caller finds it.
//!
//! A slot is written once by the thread that drives the engine, and read by the one caller that holds the handle.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crate::error::DeliveryError;
use crate::message::{Timestamp, Topic};
use crate::sync::{Condvar, Mutex};

/// Where a message was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition; `None` with `required_acks` none, where no broker answers.
    pub offset: Option<i64>,
    /// The time stored with the message: its own, or the broker's where the topic says so; `None` with
    /// `required_acks` none.
    pub timestamp: Option<Timestamp>,
    /// The tag that the message was given, or 0.
    pub tag: u64,
}

/// What became of a message: delivered, or failed and handed back.
pub type Fate = Result<Delivered, DeliveryError>;

/// Where a message was written, without what its owner knows. To put the topic into each slot would take the count of
/// its holders from the caller's processor, message by message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: Option<i64>,
    /// The time stored with the message.
    pub timestamp: Option<Timestamp>,
}

impl From<&Delivered> for Receipt {
    fn from(delivered: &Delivered) -> Self {
        let Delivered { partition, offset, timestamp, .. } = *delivered;
        Self { partition, offset, timestamp }
    }
}

/// Where the fate of one message is put. There may be a hundred thousand of them under way, each made by one processor,
/// written by another and read by the first again: so it is small.
#[derive(Debug, Default)]
pub struct Slot {
    /// Between the thread that drives the engine, which writes it once, and the caller that waits.
    held: Mutex<Held>,
    filled: Condvar,
    /// How often a fate was put in: a second one could hide the first.
    #[cfg(feature = "_internal")]
    fills: std::sync::atomic::AtomicU32,
}

#[derive(Debug)]
enum Held {
    Nothing {
        /// Whether the caller waits: to wake nobody would cost a system call for each message.
        awaited: bool,
    },
    /// A [`Receipt`] with both numbers, as all have where a broker answered.
    Stored {
        partition: i32,
        offset: i64,
        timestamp: Timestamp,
    },
    Other(Box<Outcome>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Nothing { awaited: false }
    }
}

impl Held {
    fn of(fate: Outcome) -> Self {
        match fate {
            Ok(Receipt { partition, offset: Some(offset), timestamp: Some(timestamp) }) => {
                Self::Stored { partition, offset, timestamp }
            }
            other => Self::Other(Box::new(other)),
        }
    }

    /// Takes the fate out, if it is there.
    fn take(&mut self) -> Option<Outcome> {
        match mem::take(self) {
            Self::Nothing { awaited } => {
                *self = Self::Nothing { awaited };
                None
            }
            Self::Stored { partition, offset, timestamp } => {
                Some(Ok(Receipt { partition, offset: Some(offset), timestamp: Some(timestamp) }))
            }
            Self::Other(fate) => Some(*fate),
        }
    }
}

/// What is put into a slot.
pub type Outcome = Result<Receipt, DeliveryError>;

impl Slot {
    /// An empty slot, shared between the message and its handle.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// Puts the fate in, and wakes who waits for it.
    pub fn fill(&self, fate: Outcome) {
        #[cfg(feature = "_internal")]
        self.fills.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let before = mem::replace(&mut *self.held.lock(), Held::of(fate));
        let Held::Nothing { awaited } = before else {
            debug_assert!(false, "a message has one fate");
            return;
        };
        if awaited {
            self.filled.notify_one();
        }
    }

    /// How often a fate was put in, for the simulation.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn fills(&self) -> u32 {
        self.fills.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The fate, if it is there: it is taken out. Never waits: a fate that is just being put in is not there yet, and
    /// in a forked child that inherited it so it never will be.
    pub fn take(&self) -> Option<Outcome> {
        self.held.try_lock()?.take()
    }

    /// Blocks until the fate is there, or until `until` has passed.
    pub fn wait(&self, until: Option<Instant>) -> Option<Outcome> {
        let mut held = self.held.lock();
        loop {
            if let Some(fate) = held.take() {
                return Some(fate);
            }
            *held = Held::Nothing { awaited: true };
            match until {
                None => self.filled.wait(&mut held),
                Some(until) => {
                    if self.filled.wait_until(&mut held, until).timed_out() {
                        break;
                    }
                }
            }
        }
        let fate = held.take();
        if fate.is_none() {
            *held = Held::default();
        }
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_and_its_counts_fill_a_line_of_the_cache() {
        // As it is without what only tests have.
        let counted = if cfg!(feature = "_internal") { 8 } else { 0 };
        assert!(size_of::<Slot>() <= 40 + counted, "{}", size_of::<Slot>());
    }
}

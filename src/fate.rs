//! What became of a message: [`Delivered`], [`Fate`], and the [`Slot`] in which a waiting caller finds it.
//!
//! A slot is written once by the thread that drives the engine, and read by the one caller that holds the handle.

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

/// Where the fate of one message is put.
#[derive(Debug, Default)]
pub struct Slot {
    /// Between the thread that drives the engine, which writes it once, and the caller that waits.
    held: Mutex<Held>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    fate: Option<Outcome>,
    /// Whether the caller waits: to wake nobody would cost a system call for each message.
    awaited: bool,
    /// How often a fate was put in: a second one could hide the first.
    #[cfg(feature = "_internal")]
    fills: u32,
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
        let mut held = self.held.lock();
        #[cfg(feature = "_internal")]
        {
            held.fills += 1;
        }
        let before = held.fate.replace(fate);
        let awaited = held.awaited;
        drop(held);
        debug_assert!(before.is_none(), "a message has one fate");
        if awaited {
            self.filled.notify_one();
        }
    }

    /// How often a fate was put in, for the simulation.
    #[cfg(feature = "_internal")]
    #[must_use]
    pub fn fills(&self) -> u32 {
        self.held.lock().fills
    }

    /// The fate, if it is there: it is taken out. Never waits: a fate that is just being put in is not there yet, and
    /// in a forked child that inherited it so it never will be.
    pub fn take(&self) -> Option<Outcome> {
        self.held.try_lock()?.fate.take()
    }

    /// Blocks until the fate is there, or until `until` has passed.
    pub fn wait(&self, until: Option<Instant>) -> Option<Outcome> {
        let mut held = self.held.lock();
        while held.fate.is_none() {
            held.awaited = true;
            match until {
                None => self.filled.wait(&mut held),
                Some(until) => {
                    if self.filled.wait_until(&mut held, until).timed_out() {
                        break;
                    }
                }
            }
        }
        held.awaited = false;
        held.fate.take()
    }
}

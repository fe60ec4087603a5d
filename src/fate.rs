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

/// Where the fate of one message is put.
#[derive(Debug, Default)]
pub struct Slot {
    /// Between the thread that drives the engine, which writes it once, and the caller that waits.
    fate: Mutex<Option<Fate>>,
    filled: Condvar,
}

impl Slot {
    /// An empty slot, shared between the message and its handle.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// Puts the fate in, and wakes who waits for it.
    pub fn fill(&self, fate: Fate) {
        let before = self.fate.lock().replace(fate);
        debug_assert!(before.is_none(), "a message has one fate");
        self.filled.notify_one();
    }

    /// The fate, if it is there: it is taken out. Never waits: a fate that is just being put in is not there yet, and
    /// in a forked child that inherited it so it never will be.
    pub fn take(&self) -> Option<Fate> {
        self.fate.try_lock()?.take()
    }

    /// Blocks until the fate is there, or until `until` has passed.
    pub fn wait(&self, until: Option<Instant>) -> Option<Fate> {
        let mut fate = self.fate.lock();
        while fate.is_none() {
            match until {
                None => self.filled.wait(&mut fate),
                Some(until) => {
                    if self.filled.wait_until(&mut fate, until).timed_out() {
                        break;
                    }
                }
            }
        }
        fate.take()
    }
}

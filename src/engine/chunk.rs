//! A run of queued messages that travels from callers to the engine as one piece.

use std::sync::Arc;

#[cfg(any(test, feature = "_internal"))]
use super::entry::Entry;
pub use crate::fate::Slot;

/// Messages in the order in which they were accepted; message `i` has ticket `first + i`.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The entries, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each entry ends in `bytes`.
    pub ends: Vec<u32>,
    /// Ticket of the first message.
    pub first: u64,
    /// Slots of the messages that have a handle, by index, ascending.
    pub handles: Vec<(u32, Arc<Slot>)>,
    /// How many messages the engine has taken; it moves only after a message is safe in its batch, so that a
    /// panic on the way costs that message and no other.
    pub taken: usize,
}

impl Chunk {
    /// How many messages it holds, taken ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it holds no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of entry `index`.
    #[must_use]
    pub fn entry_bytes(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// Entry `index`, for tests.
    #[cfg(any(test, feature = "_internal"))]
    #[must_use]
    pub fn entry(&self, index: usize) -> Entry<'_> {
        Entry::read(self.entry_bytes(index))
    }

    /// Empties it for the next use; the memory stays.
    pub fn reset(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.handles.clear();
        self.taken = 0;
    }
}

//! A message on its way into the queue: what can be checked and computed before the lock is taken.

use std::iter;

use super::chunk::Parts;
use super::entry;
use crate::error::ProduceErrorKind;
use crate::message::{Header, Message, Timestamp};
use crate::record::batch::{self, BatchBuilder};
use crate::record::tail;

/// A message that can be queued: its sizes were checked.
#[derive(Debug)]
pub struct Checked<'a, 'm> {
    pub(super) message: &'a Message<'m>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) partition_key: Option<&'a [u8]>,
    pub(super) create_time: Timestamp,
    /// Bytes of its record's tail.
    pub(super) tail_len: usize,
    /// The record of a large message, encoded before the lock is taken.
    pub(super) encoded: Option<BatchBuilder>,
}

impl<'a, 'm> Checked<'a, 'm> {
    /// Checks what can be checked without the queue; `create_time` is for a message that has none.
    ///
    /// # Errors
    /// `MessageTooLarge` and `InvalidMessage`.
    pub fn new(
        message: &'a Message<'m>,
        max_message_bytes: usize,
        create_time: impl FnOnce() -> Timestamp,
    ) -> Result<Self, ProduceErrorKind> {
        if message.partition.is_some_and(|partition| partition < 0) {
            return Err(ProduceErrorKind::InvalidMessage("the partition is negative"));
        }
        let (key, value, partition_key) = (message.key(), message.value(), message.partition_key());
        let tail_len = tail::len_of(key, value, message.headers());
        let size = batch::len_of_one(tail_len);
        if size > max_message_bytes {
            return Err(ProduceErrorKind::MessageTooLarge { size, limit: max_message_bytes });
        }
        if partition_key.is_some_and(|key| key.len() > max_message_bytes) {
            return Err(ProduceErrorKind::InvalidMessage("the partition key is longer than max_message_bytes"));
        }
        let create_time = message.create_time.unwrap_or_else(create_time);
        let encoded = (tail_len > ENCODED_BEFORE).then(|| encode(message, create_time, tail_len));
        Ok(Self { message, key, value, partition_key, create_time, tail_len, encoded })
    }

    pub(super) fn parts(&self, topic: u32) -> Parts<'_> {
        let (key, value, headers) = (self.key, self.value, &*self.message.headers);
        let Message { partition, tag, .. } = *self.message;
        Parts { topic, partition, tag, partition_key: self.partition_key, key, value, headers }
    }

    /// Whether it may go to whichever partition, where messages without a key may.
    pub(super) fn goes_anywhere(&self) -> bool {
        goes_anywhere(self.message)
    }

    /// Bytes of the queue's limit that it takes.
    pub(super) fn cost(&self, has_handle: bool) -> usize {
        entry::cost_of(self.tail_len, self.message.tag, self.partition_key.map(<[u8]>::len), has_handle)
    }
}

/// A message of the usual kind, small and with nothing wrong: it can be queued if there is room.
#[derive(Clone, Copy, Debug)]
pub struct Usual<'a, 'm> {
    pub(super) message: &'a Message<'m>,
    pub(super) record: batch::Usual<'a>,
    pub(super) headers: &'a [Header<'m>],
    pub(super) partition_key: Option<&'a [u8]>,
    /// Whether it may go to whichever partition, where messages without a key may.
    pub(super) anywhere: bool,
}

impl<'a, 'm> Usual<'a, 'm> {
    /// Bytes of a tail that certainly may be sent, and is not encoded before it is queued.
    pub fn bytes(max_message_bytes: usize) -> usize {
        max_message_bytes.saturating_sub(batch::MOST_AROUND).min(ENCODED_BEFORE)
    }

    /// A message that is not more than a value, whose tail has at most so many [`bytes`](Self::bytes). Nothing if it is
    /// more: this is apart from the others so that the compiler makes a shorter way for it.
    #[inline(always)]
    pub fn plain(message: &'a Message<'m>, bytes: usize, create_time: impl FnOnce() -> Timestamp) -> Option<Self> {
        if !goes_anywhere(message) || !message.headers.is_empty() {
            return None;
        }
        let value = message.value()?;
        let create_time = message.create_time.unwrap_or_else(create_time).as_millis();
        let record = batch::Usual::new(create_time, None, Some(value), iter::empty())?;
        let fits = record.tail_len() <= bytes;
        fits.then_some(Self { message, record, headers: &[], partition_key: None, anywhere: true })
    }

    /// As [`plain`](Self::plain), a message that is a key and a value.
    #[inline(always)]
    pub fn keyed(message: &'a Message<'m>, bytes: usize, create_time: impl FnOnce() -> Timestamp) -> Option<Self> {
        if message.partition.is_some() || message.partition_key.is_some() || !message.headers.is_empty() {
            return None;
        }
        let (key, value) = (message.key()?, message.value()?);
        let create_time = message.create_time.unwrap_or_else(create_time).as_millis();
        let record = batch::Usual::new(create_time, Some(key), Some(value), iter::empty())?;
        let fits = record.tail_len() <= bytes;
        fits.then_some(Self { message, record, headers: &[], partition_key: None, anywhere: false })
    }

    /// A message whose tail has at most so many [`bytes`](Self::bytes). Nothing if it is of another kind: then it must
    /// be [`Checked`]. `create_time` is for a message that has none.
    #[inline(always)]
    pub fn new(message: &'a Message<'m>, bytes: usize, create_time: impl FnOnce() -> Timestamp) -> Option<Self> {
        let (headers, partition_key) = (&*message.headers, message.partition_key());
        let create_time = message.create_time.unwrap_or_else(create_time).as_millis();
        let record = batch::Usual::new(create_time, message.key(), message.value(), message.headers())?;
        let long = record.tail_len() > bytes || partition_key.is_some_and(|key| key.len() > bytes);
        let nowhere = message.partition.is_some_and(|partition| partition < 0);
        let anywhere = goes_anywhere(message);
        (!long && !nowhere).then_some(Self { message, record, headers, partition_key, anywhere })
    }

    /// Bytes of the queue's limit that it takes.
    #[inline(always)]
    pub(super) fn cost(&self, has_handle: bool) -> usize {
        entry::cost_of(self.record.tail_len(), self.message.tag, self.partition_key.map(<[u8]>::len), has_handle)
    }
}

#[inline(always)]
fn goes_anywhere(message: &Message<'_>) -> bool {
    message.key.is_none() && message.partition.is_none() && message.partition_key.is_none()
}

/// The record of a large message, in a batch of its own.
#[cold]
fn encode(message: &Message<'_>, create_time: Timestamp, tail_len: usize) -> BatchBuilder {
    let mut record = BatchBuilder::new(Vec::with_capacity(batch::len_of_one(tail_len)));
    if let Some(plan) = record.plan(create_time.as_millis(), tail_len) {
        record.append_parts(plan, message.key(), message.value(), message.headers());
    }
    record
}

/// A larger tail is encoded before the lock, so that no caller waits for the copy of another.
pub(super) const ENCODED_BEFORE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let kind = |message: &Message<'_>| Checked::new(message, 1000, || Timestamp::from_millis(0)).map(drop);
        let large = Message::new("orders", vec![0; 1000]);
        assert!(matches!(kind(&large), Err(ProduceErrorKind::MessageTooLarge { size: 1001.., limit: 1000 })));
        let negative = Message::new("orders", "v").with_partition(-1);
        assert!(matches!(kind(&negative), Err(ProduceErrorKind::InvalidMessage(_))));
        let key = Message::new("orders", "v").with_partition_key(vec![0; 2000]);
        assert!(matches!(kind(&key), Err(ProduceErrorKind::InvalidMessage(_))));
        assert!(kind(&Message::new("orders", "v")).is_ok());
    }
}

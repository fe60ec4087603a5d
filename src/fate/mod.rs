//! The fate of a message: [`Delivered`], [`Fate`], and the [`slot`] in which a waiting caller finds it.

use crate::error::DeliveryError;
use crate::message::{Timestamp, Topic};

mod page;
pub mod slot;

/// The place in the log where a message was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition; `None` if no broker told it: with `required_acks` none nobody answers, and a broker
    /// that only says that it has the message already (DUPLICATE_SEQUENCE_NUMBER) names none.
    pub offset: Option<i64>,
    /// The time stored with the message: its own, or the broker's where the topic is known to store that
    /// (`message.timestamp.type`); `None` where the offset is.
    pub timestamp: Option<Timestamp>,
    /// The tag that the message was given, or 0.
    pub tag: u64,
}

/// The fate of a message: delivered, or failed and handed back.
pub type Fate = Result<Delivered, DeliveryError>;

/// The place where a message was written, without what the handle knows: topic and tag. A topic in each slot would take
/// the count of its holders from the caller's processor, message by message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: Option<i64>,
    /// The time stored with the message.
    pub timestamp: Option<Timestamp>,
}

/// The content of a filled slot.
pub type Outcome = Result<Receipt, DeliveryError>;

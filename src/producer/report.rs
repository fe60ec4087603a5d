//! What `flush`, `shutdown` and `partitions_for` answer.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{DeliveryError, DeliveryErrorKind, FatalError, InvalidTopic};

/// What happened to messages while [`AsyncProducer::flush`](crate::AsyncProducer::flush) waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushReport {
    /// Messages that were delivered between the call and its return.
    pub delivered: u64,
    /// Messages that were not, and will not be: their handles, the callback or the shutdown report say why.
    pub failed: u64,
}

/// Why `flush` did not wait for every message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FlushError {
    /// Some messages are still under way; they go on, and `flush` can be called again.
    Timeout {
        /// Messages of this producer without a fate.
        unfinished: u64,
        /// What kept them from being delivered, if anything went wrong.
        last_error: Option<Arc<DeliveryErrorKind>>,
    },
    /// It was called inside a delivery callback of the same producer, for which it would have to wait.
    InCallback,
    /// The process forked after this producer had started; make a new one in the child.
    AfterFork,
}

/// What became of all messages of a producer: `delivered + failed + undelivered` is how many it accepted, where
/// `undelivered` includes those whose handle has the error.
#[derive(Debug, Default)]
#[must_use = "it may hold messages that were not delivered"]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that failed before, and purged ones.
    pub failed: u64,
    /// How many messages had no fate when the time was up. They are in `undelivered`, or in the error of their handle.
    pub given_up: u64,
    /// Messages that had no fate when the time was up, each saying whether it may be in the log. Only the first call
    /// of `shutdown` gets them.
    pub undelivered: Vec<DeliveryError>,
    /// Messages that failed before and that no handle or callback took. Only the first call of `shutdown` gets them.
    pub failures: Vec<DeliveryError>,
    /// Failures that `failures` had no room for: the oldest ones.
    pub failures_dropped: u64,
}

/// Why `shutdown` did not shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownError {
    /// It was called inside a delivery callback of the same producer, for which it would have to wait.
    InCallback,
    /// The process forked after this producer had started: it belongs to the parent.
    AfterFork,
}

/// Why the number of partitions is not known.
#[derive(Debug)]
#[non_exhaustive]
pub enum MetadataError {
    /// No broker told it in time; `last_error` is what went wrong, if anything did.
    Timeout {
        /// How long it was waited for.
        after: Duration,
        /// The last error that this producer met.
        last_error: Option<Arc<DeliveryErrorKind>>,
    },
    /// The topic has a name that Kafka does not allow.
    InvalidTopic(InvalidTopic),
    /// `shutdown` was called.
    Closed,
    /// The process forked after this producer had started; make a new one in the child.
    AfterFork,
    /// A thread of the producer could not start.
    Start(io::Error),
    /// The producer cannot go on at all, and why.
    Fatal(Arc<FatalError>),
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { unfinished, last_error } => {
                write!(f, "{unfinished} messages are still under way")?;
                because(f, last_error.as_deref())
            }
            Self::InCallback => f.write_str("flush was called inside a delivery callback"),
            Self::AfterFork => f.write_str(AFTER_FORK),
        }
    }
}

impl Error for FlushError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Timeout { last_error: Some(error), .. } => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for ShutdownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InCallback => "shutdown was called inside a delivery callback",
            Self::AfterFork => AFTER_FORK,
        })
    }
}

impl Error for ShutdownError {}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { after, last_error } => {
                write!(f, "no broker told the number of partitions within {after:?}")?;
                because(f, last_error.as_deref())
            }
            Self::InvalidTopic(error) => fmt::Display::fmt(error, f),
            Self::Closed => f.write_str("the producer was shut down"),
            Self::AfterFork => f.write_str(AFTER_FORK),
            Self::Start(error) => write!(f, "the producer's threads did not start: {error}"),
            Self::Fatal(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Error for MetadataError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Timeout { last_error: Some(error), .. } => Some(&**error),
            Self::InvalidTopic(error) => Some(error),
            Self::Start(error) => Some(error),
            Self::Fatal(error) => Some(&**error),
            _ => None,
        }
    }
}

fn because(f: &mut fmt::Formatter<'_>, last: Option<&DeliveryErrorKind>) -> fmt::Result {
    match last {
        Some(error) => write!(f, ", last error: {error}"),
        None => Ok(()),
    }
}

const AFTER_FORK: &str = "the process forked after the producer had started; make a new one in the child";

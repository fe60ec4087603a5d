//! The results of `flush`, `purge`, `shutdown`, `partitions_for` and `deliver_messages`.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::undelivered::Undelivered;
use crate::error::{DeliveryErrorKind, FatalError, InvalidTopic, NotStarted};

/// The counts of messages delivered and failed while [`AsyncProducer::flush`](crate::AsyncProducer::flush) waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushReport {
    /// Messages that were delivered between the call and its return.
    pub delivered: u64,
    /// Messages that failed for good: their handles, the callback or the shutdown report say why.
    pub failed: u64,
}

/// The reason why `flush` did not wait for every message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FlushError {
    /// Some messages are still under way; they go on, and `flush` can be called again.
    Timeout {
        /// Messages of this producer without a fate.
        unfinished: u64,
        /// The error that kept them from being delivered, if there was one.
        last_error: Option<Arc<DeliveryErrorKind>>,
    },
    /// It was called inside a delivery callback of the same producer, for which it would have to wait.
    InCallback,
    /// It was called on the worker of the same producer, inside a partitioner, a logger or a panic hook.
    OnWorker,
    /// The process forked after this producer had started; make a new one in the child.
    AfterFork,
}

/// The reason why `purge` took nothing back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PurgeError {
    /// The worker did not do it in this time: a partitioner, a logger or a panic hook blocks it. If the worker does it
    /// later, the next call gets the messages.
    Timeout(Duration),
    /// It was called on the worker of the same producer, inside a partitioner, a logger or a panic hook.
    OnWorker,
    /// The process forked after this producer had started: the messages are the parent's.
    AfterFork,
}

/// The fates of all messages of a producer: it accepted `delivered + failed + given_up` messages.
#[derive(Debug, Default)]
#[must_use = "it may hold messages that were not delivered"]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that failed before, and purged ones.
    pub failed: u64,
    /// The number of messages that had no fate when the time was up. They are in `undelivered`, or in the error of
    /// their handle, except those that are `out_of_reach`.
    pub given_up: u64,
    /// The number of messages in `given_up` that could not be handed back, because a partitioner, a logger or a panic
    /// hook never returned to the worker that has them. Its thread is left behind. If it returns, they are given up,
    /// their handles learn it, and the next call of `shutdown` gets the others. 0 unless the worker is blocked.
    pub out_of_reach: u64,
    /// Messages that had no fate when the time was up; each says if it may be in the log. Only the first call of
    /// `shutdown` gets them.
    pub undelivered: Undelivered,
    /// Messages that failed before and that no handle or callback took. Only the first call of `shutdown` gets them.
    pub failures: Undelivered,
    /// The number of failures for which `failures` had no room: the oldest ones.
    pub failures_dropped: u64,
}

/// The messages that [`Producer::deliver_messages`](crate::Producer) did not deliver.
#[non_exhaustive]
pub struct DeliveryFailed {
    /// Messages that failed for good. They left the buffer and are yours.
    pub failed: Undelivered,
    /// Messages that stay in the buffer for the next call.
    pub remaining: usize,
    /// The error that kept the remaining messages from being delivered.
    pub last_error: Option<Arc<DeliveryErrorKind>>,
}

/// The reason why `shutdown` did not shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShutdownError {
    /// It was called inside a delivery callback of the same producer, for which it would have to wait.
    InCallback,
    /// It was called on the worker of the same producer, inside a partitioner, a logger or a panic hook.
    OnWorker,
    /// The process forked after this producer had started: it belongs to the parent.
    AfterFork,
}

/// The reason why the number of partitions is not known.
#[derive(Debug)]
#[non_exhaustive]
pub enum MetadataError {
    /// No broker told it in time; `last_error` is the error in the way, if there is one.
    Timeout {
        /// The time that the call waited.
        after: Duration,
        /// The error in the way of the topic's metadata, or else the last error that this producer met.
        last_error: Option<Arc<DeliveryErrorKind>>,
    },
    /// The topic has a name that Kafka does not allow.
    InvalidTopic(InvalidTopic),
    /// `shutdown` was called.
    Closed,
    /// It was called on the worker of the same producer, inside a partitioner, a logger or a panic hook.
    OnWorker,
    /// The process forked after this producer had started; make a new one in the child.
    AfterFork,
    /// A thread of the producer could not start.
    Start(io::Error),
    /// The producer cannot go on at all; the error says why.
    Fatal(Arc<FatalError>),
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { unfinished, last_error } => {
                let are = if *unfinished == 1 { "message is" } else { "messages are" };
                write!(f, "{unfinished} {are} still under way")?;
                because(f, last_error.as_deref())
            }
            Self::InCallback => f.write_str("flush was called inside a delivery callback"),
            Self::OnWorker => write!(f, "flush {ON_WORKER}"),
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
        match self {
            Self::InCallback => f.write_str("shutdown was called inside a delivery callback"),
            Self::OnWorker => write!(f, "shutdown {ON_WORKER}"),
            Self::AfterFork => f.write_str(AFTER_FORK),
        }
    }
}

impl Error for ShutdownError {}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(after) => write!(
                f,
                "the producer's worker did not come to a purge within {after:?}; a partitioner, a logger or a panic hook \
                 blocks it"
            ),
            Self::OnWorker => write!(f, "purge {ON_WORKER}"),
            Self::AfterFork => f.write_str(AFTER_FORK),
        }
    }
}

impl Error for PurgeError {}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { after, last_error } => {
                write!(f, "no broker told the number of partitions within {after:?}")?;
                because(f, last_error.as_deref())
            }
            Self::InvalidTopic(error) => fmt::Display::fmt(error, f),
            Self::Closed => f.write_str("the producer was shut down"),
            Self::OnWorker => write!(f, "partitions_for {ON_WORKER}"),
            Self::AfterFork => f.write_str(AFTER_FORK),
            Self::Start(error) => write!(f, "{}, and ask again", NotStarted(error)),
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

impl fmt::Display for DeliveryFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages failed, {} stay in the buffer", self.failed.len(), self.remaining)?;
        match (&self.last_error, self.failed.kind()) {
            (Some(error), _) => write!(f, ", last error: {error}"),
            (None, Some(error)) => write!(f, ", first error: {error}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for DeliveryFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryFailed")
            .field("failed", &self.failed)
            .field("remaining", &self.remaining)
            .field("last_error", &self.last_error)
            .finish()
    }
}

impl Error for DeliveryFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.last_error {
            Some(error) => Some(&**error),
            None => self.failed.kind().map(|kind| kind as &(dyn Error + 'static)),
        }
    }
}

fn because(f: &mut fmt::Formatter<'_>, last: Option<&DeliveryErrorKind>) -> fmt::Result {
    match last {
        Some(error) => write!(f, ", last error: {error}"),
        None => Ok(()),
    }
}

const ON_WORKER: &str = "was called on the producer's own worker (in a partitioner, a logger or a panic hook); call it \
                         from a thread of yours";
const AFTER_FORK: &str = "the process forked after the producer had started; make a new one in the child";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::producer::FailedMessages;
    use crate::error::Persistence;
    use crate::error::tests::assert_text;

    #[test]
    fn threads_that_do_not_start_are_told_with_what_to_do() {
        assert_text(
            MetadataError::Start(io::Error::other("no threads left")),
            "the producer's threads did not start (no threads left); free resources or raise their limits, and ask again",
        );
    }

    #[test]
    fn delivery_failed_counts_and_says_why() {
        let purged = FailedMessages::of(&["v"], DeliveryErrorKind::Purged, Persistence::No);
        let mut failed = DeliveryFailed { failed: vec![purged].into(), remaining: 2, last_error: None };
        assert_text(
            &failed,
            "1 messages failed, 2 stay in the buffer, first error: it was taken back (purge or \
             clear_buffer)",
        );
        assert!(failed.source().unwrap().downcast_ref::<DeliveryErrorKind>().is_some());
        failed.last_error = Some(Arc::new(DeliveryErrorKind::Internal("boom".into())));
        assert_text(
            &failed,
            "1 messages failed, 2 stay in the buffer, last error: a fault inside ottla, please \
             report it: boom",
        );
        assert_eq!(failed.source().unwrap().to_string(), "a fault inside ottla, please report it: boom");
        failed = DeliveryFailed { failed: Undelivered::default(), remaining: 0, last_error: None };
        assert_text(&failed, "0 messages failed, 0 stay in the buffer");
    }
}

//! The reasons why an accepted message was not delivered. The error holds the message.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{BrokerError, ConnectionError, OneLine};
use crate::message::{Message, Topic};

/// A message that was accepted and not delivered, why, and whether it may be in the log all the same.
pub struct DeliveryError {
    kind: Arc<DeliveryErrorKind>,
    persistence: Persistence,
    message: Box<Message<'static>>,
}

impl DeliveryError {
    pub(crate) fn new(kind: Arc<DeliveryErrorKind>, persistence: Persistence, message: Message<'static>) -> Self {
        Self { kind, persistence, message: Box::new(message) }
    }

    /// The reason why the message was not delivered.
    #[must_use]
    pub fn kind(&self) -> &DeliveryErrorKind {
        &self.kind
    }

    /// Tells if the message may be in the log: with `No`, producing it again cannot make a duplicate.
    #[must_use]
    pub fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// The message. If it was given a partition before it failed, it names that partition, unless the partition is
    /// gone.
    pub fn message(&self) -> &Message<'static> {
        &self.message
    }

    /// Takes the message back, to produce it again or to keep it.
    pub fn into_message(self) -> Message<'static> {
        *self.message
    }
}

/// The possibility that an undelivered message is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It is not in the log: it was never sent, or the broker proved that it refused it.
    No,
    /// It was sent, and no answer proved its fate.
    Possibly,
}

/// The reason why a message was not delivered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DeliveryErrorKind {
    /// `delivery_timeout` passed; `last` is the error that kept the message from being delivered.
    Timeout {
        /// The timeout in force.
        after: Duration,
        /// The last error met on the way, if there was one.
        last: Option<Arc<Self>>,
    },
    /// `max_retries` retries were made; `last` is the error of the last attempt.
    RetriesExhausted {
        /// Attempts made.
        attempts: u32,
        /// The error of the last attempt.
        last: Arc<Self>,
    },
    /// A broker refused it.
    Broker(BrokerError),
    /// A connection failed.
    Connection(ConnectionError),
    /// The topic does not exist, and did not appear within `unknown_topic_grace`. As the cause of a wait, it means that
    /// the topic does not exist yet.
    UnknownTopic {
        /// The topic.
        topic: Topic,
        /// The time that the message waited for the topic; zero while it still waits.
        waited: Duration,
    },
    /// A broker uses a quota: it asked for silence, or answered late. It only makes messages wait: no message fails by
    /// it alone.
    Throttled {
        /// The broker's address as `host:port`.
        address: Arc<str>,
        /// The throttle time.
        throttle: Duration,
    },
    /// The topic was deleted and made anew after the message was sent, and no answer proved the message's fate: it may
    /// be in the log of the old topic. A message that cannot be in that log goes to the new topic, and does not fail.
    TopicRecreated {
        /// The topic.
        topic: Topic,
    },
    /// The topic has no such partition. Either the message named a partition that does not exist, or the topic was
    /// deleted and made anew with fewer partitions while the message waited for this one, which the message named or
    /// ottla chose. In the second case the message comes back without a partition: produced again, it goes to a
    /// partition that exists.
    UnknownPartition {
        /// The topic.
        topic: Topic,
        /// The partition that was asked for, or chosen.
        partition: i32,
        /// The number of partitions of the topic; they are numbered from 0.
        count: i32,
    },
    /// The partitioner panicked, or chose a partition that does not exist.
    Partitioner {
        /// The partitioner's fault, in words.
        what: String,
    },
    /// `purge` or `clear_buffer` took it back before it was sent.
    Purged,
    /// The producer was shut down, or dropped, before the message was delivered; `last` is the error in the way.
    ShutDown {
        /// The last error met on the way, if there was one.
        last: Option<Arc<Self>>,
    },
    /// A caller waited for a handle on the producer's worker: in a partitioner, a logger or a panic hook. The message
    /// goes on, and its fate goes where the fate of a message without a handle goes. The message in this error has only
    /// topic and tag.
    OnWorker,
    /// The producer cannot go on.
    Fatal(Arc<FatalError>),
    /// The process forked after the producer had started: the message, and its fate, belong to the parent.
    AfterFork,
    /// A fault inside ottla, which is a bug: please report it with the text.
    Internal(String),
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message to {}", self.message.topic())?;
        if let Some(partition) = self.message.partition() {
            write!(f, "-{partition}")?;
        }
        write!(f, " was not delivered: {}", self.kind)?;
        match self.persistence {
            Persistence::No => Ok(()),
            Persistence::Possibly => f.write_str(" (it may have been written)"),
        }
    }
}

impl fmt::Debug for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryError")
            .field("kind", &self.kind)
            .field("persistence", &self.persistence)
            .field("topic", &self.message.topic())
            .field("partition", &self.message.partition())
            .field("tag", &self.message.tag())
            .finish_non_exhaustive()
    }
}

impl Error for DeliveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.kind)
    }
}

impl fmt::Display for DeliveryErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { after, last } => {
                write!(f, "delivery_timeout ({after:?}) passed")?;
                let slow = ", no error was seen: the brokers are slower than the program";
                because(f, last.as_deref(), slow)
            }
            Self::RetriesExhausted { attempts, last } => {
                write!(f, "gave up after {attempts} attempts (max_retries): {last}")
            }
            Self::Broker(error) => fmt::Display::fmt(error, f),
            Self::Connection(error) => fmt::Display::fmt(error, f),
            Self::UnknownTopic { topic, waited } => {
                write!(f, "topic {topic} does not exist")?;
                if !waited.is_zero() {
                    write!(f, " and did not appear within {waited:?}")?;
                }
                f.write_str(
                    "; create it, or allow its creation (allow_auto_topic_creation here, auto.create.topics.enable on \
                     the brokers)",
                )
            }
            Self::Throttled { address, throttle } => write!(
                f,
                "broker {address} uses a quota and throttles this client for {throttle:?}; send less, or raise the \
                 quotas of its user or client_id"
            ),
            Self::TopicRecreated { topic } => write!(
                f,
                "topic {topic} was deleted and made anew while the message was under way; produce it again if it belongs \
                 into the new one"
            ),
            Self::UnknownPartition { topic, partition, count } => {
                write!(f, "topic {topic} has no partition {partition}")?;
                match count {
                    ..=0 => f.write_str(", it has none yet"),
                    1 => f.write_str(", only 0"),
                    _ => write!(f, ", only 0 to {}", count - 1),
                }
            }
            Self::Partitioner { what } => write!(f, "the partitioner {}", OneLine(what)),
            Self::Purged => f.write_str("it was taken back (purge or clear_buffer)"),
            Self::ShutDown { last } => {
                f.write_str("the producer was shut down first")?;
                because(f, last.as_deref(), "; call shutdown and give it more time")
            }
            Self::OnWorker => f.write_str(
                "its handle was waited for on the producer's worker (in a partitioner, a logger or a panic hook), which \
                 is to deliver it; look there with try_get",
            ),
            Self::Fatal(error) => fmt::Display::fmt(error, f),
            Self::AfterFork => f.write_str(
                "the process forked after the producer had started; the message and its fate are the parent's, make a new \
                 producer in the child",
            ),
            Self::Internal(what) => {
                let what = OneLine(what);
                write!(f, "a fault inside ottla, please report it: {what}")
            }
        }
    }
}

/// The error that was in the way, or else `unknown`.
fn because(f: &mut fmt::Formatter<'_>, last: Option<&DeliveryErrorKind>, unknown: &str) -> fmt::Result {
    match last {
        Some(error) => write!(f, ", last error: {error}"),
        None => f.write_str(unknown),
    }
}

impl Error for DeliveryErrorKind {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Timeout { last: Some(last), .. }
            | Self::ShutDown { last: Some(last) }
            | Self::RetriesExhausted { last, .. } => Some(&**last),
            Self::Broker(error) => Some(error),
            Self::Connection(error) => Some(error),
            Self::Fatal(error) => Some(&**error),
            _ => None,
        }
    }
}

/// The reason why a producer cannot go on: every message it holds, and every later one, fails with this.
#[derive(Debug)]
#[non_exhaustive]
pub struct FatalError {
    /// The broker's or client's error.
    pub cause: DeliveryErrorKind,
    /// The cure, in words.
    pub advice: &'static str,
}

impl fmt::Display for FatalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the producer cannot go on: {}; {}", self.cause, self.advice)
    }
}

impl Error for FatalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_reads_well, assert_text};
    use super::super::{ApiRange, ConnectionErrorKind};
    use super::*;

    fn closed() -> DeliveryErrorKind {
        let address = "kafka-1:9092".into();
        let kind = ConnectionErrorKind::Closed;
        DeliveryErrorKind::Connection(ConnectionError { address, advertised: None, kind })
    }

    fn purged() -> Arc<DeliveryErrorKind> {
        Arc::new(DeliveryErrorKind::Purged)
    }

    #[test]
    fn every_kind_says_why() {
        use DeliveryErrorKind as Kind;
        let topic = Topic::new("orders").unwrap();
        let after = Duration::from_secs(120);
        let no_partition = |partition, count| Kind::UnknownPartition { topic: topic.clone(), partition, count };
        for (kind, text) in [
            (
                Kind::Timeout { after, last: None },
                "delivery_timeout (120s) passed, no error was seen: the brokers are slower than \
                 the program",
            ),
            (
                Kind::Timeout { after, last: Some(purged()) },
                "delivery_timeout (120s) passed, last error: it was taken back (purge or \
                 clear_buffer)",
            ),
            (
                Kind::RetriesExhausted { attempts: 3, last: purged() },
                "gave up after 3 attempts (max_retries): it was taken back (purge or clear_buffer)",
            ),
            (
                Kind::UnknownTopic { topic: topic.clone(), waited: Duration::from_secs(30) },
                "topic orders does not exist and did not appear within 30s; create it, or allow \
                 its creation (allow_auto_topic_creation here, auto.create.topics.enable on the \
                 brokers)",
            ),
            (
                Kind::UnknownTopic { topic: topic.clone(), waited: Duration::ZERO },
                "topic orders does not exist; create it, or allow its creation (allow_auto_topic_creation here, \
                 auto.create.topics.enable on the brokers)",
            ),
            (
                Kind::Throttled { address: "kafka-1:9092".into(), throttle: Duration::from_millis(1500) },
                "broker kafka-1:9092 uses a quota and throttles this client for 1.5s; send less, or raise the quotas of \
                 its user or client_id",
            ),
            (
                Kind::TopicRecreated { topic: topic.clone() },
                "topic orders was deleted and made anew while the message was under way; produce it again if it belongs \
                 into the new one",
            ),
            (no_partition(9, 3), "topic orders has no partition 9, only 0 to 2"),
            (no_partition(9, 1), "topic orders has no partition 9, only 0"),
            (no_partition(9, 0), "topic orders has no partition 9, it has none yet"),
            (no_partition(9, i32::MIN), "topic orders has no partition 9, it has none yet"),
            (Kind::Partitioner { what: "panicked: left\n right".into() }, "the partitioner panicked: left right"),
            (Kind::Purged, "it was taken back (purge or clear_buffer)"),
            (Kind::ShutDown { last: None }, "the producer was shut down first; call shutdown and give it more time"),
            (
                Kind::ShutDown { last: Some(purged()) },
                "the producer was shut down first, last error: it was taken back (purge or \
                 clear_buffer)",
            ),
            (
                Kind::OnWorker,
                "its handle was waited for on the producer's worker (in a partitioner, a logger or a panic hook), which \
                 is to deliver it; look there with try_get",
            ),
            (
                Kind::Fatal(Arc::new(FatalError { cause: Kind::Purged, advice: "try again" })),
                "the producer cannot go on: it was taken back (purge or clear_buffer); try again",
            ),
            (
                Kind::AfterFork,
                "the process forked after the producer had started; the message and its fate are the parent's, make a \
                 new producer in the child",
            ),
            (Kind::Internal("boom\n".into()), "a fault inside ottla, please report it: boom"),
        ] {
            assert_text(kind, text);
        }
        assert_reads_well(&closed().to_string());
    }

    #[test]
    fn a_delivery_error_names_topic_and_partition_and_whether_it_may_be_written() {
        let error = DeliveryError::new(
            purged(),
            Persistence::Possibly,
            Message::new("orders", "v").with_partition(7).into_owned(),
        );
        assert_text(
            &error,
            "a message to orders-7 was not delivered: it was taken back (purge or clear_buffer) \
             (it may have been written)",
        );
        let message = Message::new("orders", "v").into_owned();
        let error = DeliveryError::new(purged(), Persistence::No, message);
        assert_text(&error, "a message to orders was not delivered: it was taken back (purge or clear_buffer)");
        assert_eq!(error.into_message().value(), Some(&b"v"[..]));
    }

    #[test]
    fn the_debug_form_of_a_delivery_error_does_not_show_the_message() {
        let message = Message::new("orders", "secret").with_key("hidden").into_owned();
        let text = format!("{:?}", DeliveryError::new(purged(), Persistence::No, message));
        assert!(text.contains("orders") && text.contains("Purged"), "{text}");
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn the_sources_lead_to_the_first_cause() {
        let timeout = DeliveryErrorKind::Timeout {
            after: Duration::from_secs(1),
            last: Some(Arc::new(DeliveryErrorKind::Connection(ConnectionError {
                address: "kafka-1:9092".into(),
                advertised: None,
                kind: ConnectionErrorKind::UnsupportedApi { api: "Produce", ours: ApiRange::new(3, 12), theirs: None },
            }))),
        };
        let message = Message::new("orders", "v").into_owned();
        let error = DeliveryError::new(Arc::new(timeout), Persistence::No, message);
        let mut depth = 0;
        let mut cause: &dyn Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
            depth += 1;
        }
        assert_eq!(depth, 3);
        assert!(cause.downcast_ref::<ConnectionError>().is_some(), "{cause}");
    }
}

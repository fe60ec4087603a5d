//! The reasons why `produce` refused a message. The error holds the message.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::topic::cut;
use super::{DeliveryErrorKind, FatalError, InvalidTopic, NotStarted};
use crate::message::Message;

/// A message that was not accepted, and why. It owns the message, so nothing is lost.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let producer = ottla::Client::builder(["127.0.0.1:1"]).build()?.async_producer().build()?;
/// if let Err(error) = producer.produce(ottla::Message::new("bad topic!", "v")) {
///     println!("{error}");
///     let message = error.into_message();
///     assert_eq!(message.value(), Some(&b"v"[..]));
/// }
/// # Ok(()) }
/// ```
pub struct ProduceError {
    kind: ProduceErrorKind,
    message: Box<Message<'static>>,
}

impl ProduceError {
    /// The error with which a producer refuses this message; borrowed parts are copied.
    ///
    /// For other implementations of [`Produce`](crate::Produce), such as test doubles.
    #[must_use]
    pub fn new(kind: ProduceErrorKind, message: Message<'_>) -> Self {
        Self { kind, message: Box::new(message.into_owned()) }
    }

    /// The reason why the message was refused.
    #[must_use]
    pub fn kind(&self) -> &ProduceErrorKind {
        &self.kind
    }

    /// The message that was refused.
    pub fn message(&self) -> &Message<'static> {
        &self.message
    }

    /// Takes the message back, to produce it again or to keep it.
    pub fn into_message(self) -> Message<'static> {
        *self.message
    }

    /// `true` if the queue or buffer was full, so that a later attempt can succeed.
    #[must_use]
    pub fn is_buffer_overflow(&self) -> bool {
        matches!(self.kind, ProduceErrorKind::BufferOverflow(_))
    }
}

/// The reason why `produce` refused a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProduceErrorKind {
    /// The queue or buffer is full; try again later, wait with `produce_timeout`, or raise the limit.
    BufferOverflow(BufferOverflow),
    /// The message alone would make a batch of `size` bytes, above `max_message_bytes`.
    MessageTooLarge {
        /// Bytes of a batch that holds only this message, before compression.
        size: usize,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// `shutdown` was called before; make a new producer to go on.
    Closed,
    /// The process forked after this producer had started; make a new producer in the child.
    AfterFork,
    /// A thread of the producer could not start.
    Start(io::Error),
    /// The topic has a name that Kafka does not allow.
    InvalidTopic(InvalidTopic),
    /// The message has something that cannot be sent; the text names it.
    InvalidMessage(&'static str),
    /// The producer cannot go on at all; the error says why.
    ///
    /// A message that was accepted just before `produce` learned of it fails with the same error.
    Fatal(Arc<FatalError>),
}

/// The fill level of the queue or buffer, and the error behind it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BufferOverflow {
    /// Messages in the queue or buffer.
    pub queued: usize,
    /// The limit that was reached.
    pub limit: BufferLimit,
    /// The age of the oldest message.
    pub oldest_age: Duration,
    /// The error that keeps messages from being delivered, if one is known: the one of the message's topic where the
    /// limit is half of a queue, else the last one met.
    pub last_error: Option<Arc<DeliveryErrorKind>>,
}

/// A limit of a queue or buffer, with the name of its option, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferLimit {
    /// `max_queue_size` of an [`AsyncProducer`](crate::AsyncProducer), in messages.
    QueueSize(usize),
    /// `max_queue_bytesize` of an [`AsyncProducer`](crate::AsyncProducer), in bytes.
    QueueBytesize(usize),
    /// Half of `max_queue_size`, in messages. Topics that do not exist, have no leader, or refuse messages may fill no
    /// more of the queue while there are other topics; the other half is for the other topics.
    HalfOfQueueSize(usize),
    /// Half of `max_queue_bytesize`, in bytes, for such topics.
    HalfOfQueueBytesize(usize),
    /// `max_buffer_size` of a [`Producer`](crate::Producer), in messages.
    BufferSize(usize),
    /// `max_buffer_bytesize` of a [`Producer`](crate::Producer), in bytes.
    BufferBytesize(usize),
}

impl fmt::Display for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ProduceErrorKind::InvalidTopic(error) => write!(f, "cannot produce: {error}"),
            kind => write!(f, "cannot produce to {}: {kind}", cut(self.message.topic()).escape_debug()),
        }
    }
}

impl fmt::Debug for ProduceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProduceError").field("kind", &self.kind).field("topic", &self.message.topic()).finish()
    }
}

impl Error for ProduceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.kind.source()
    }
}

impl fmt::Display for ProduceErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferOverflow(overflow) => fmt::Display::fmt(overflow, f),
            Self::MessageTooLarge { size, limit } => {
                write!(
                    f,
                    "the message takes {size} bytes, above max_message_bytes ({limit}); make it \
                     smaller, or raise the limit here and max.message.bytes of the topic"
                )
            }
            Self::Closed => f.write_str("the producer was shut down; make a new one"),
            Self::AfterFork => {
                f.write_str("the process forked after the producer had started; make a new one in the child")
            }
            Self::Start(error) => write!(f, "{}, and produce again", NotStarted(error)),
            Self::InvalidTopic(error) => fmt::Display::fmt(error, f),
            Self::InvalidMessage(why) => write!(f, "the message cannot be sent: {why}"),
            Self::Fatal(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl Error for ProduceErrorKind {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::BufferOverflow(overflow) => overflow.last_error.as_deref().map(|error| error as _),
            Self::Start(error) => Some(error),
            Self::InvalidTopic(error) => Some(error),
            Self::Fatal(error) => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for BufferOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use BufferLimit as Limit;
        const HALF: &str = "half of the queue is full, and topics that nothing can be sent to may fill no more";
        let (full, option, limit) = match self.limit {
            Limit::QueueSize(limit) => ("the queue is full", "max_queue_size", limit),
            Limit::QueueBytesize(limit) => ("the queue is full", "max_queue_bytesize", limit),
            Limit::HalfOfQueueSize(limit) => (HALF, "half of max_queue_size", limit),
            Limit::HalfOfQueueBytesize(limit) => (HALF, "half of max_queue_bytesize", limit),
            Limit::BufferSize(limit) => ("the buffer is full", "max_buffer_size", limit),
            Limit::BufferBytesize(limit) => ("the buffer is full", "max_buffer_bytesize", limit),
        };
        write!(f, "{full} ({} messages, {option} is {limit})", self.queued)?;
        write!(f, ", the oldest has waited {:.1} s", self.oldest_age.as_secs_f64())?;
        match (&self.last_error, self.limit) {
            (Some(error), _) => write!(f, ", last error: {error}"),
            (None, Limit::BufferSize(_) | Limit::BufferBytesize(_)) => {
                f.write_str("; call deliver_messages, or raise the limit")
            }
            (None, _) => f.write_str(
                ", no error was seen: messages come faster than they leave; wait for room, or raise the limit",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_reads_well, assert_text};
    use super::*;

    fn overflow(limit: BufferLimit) -> BufferOverflow {
        BufferOverflow { queued: 7, limit, oldest_age: Duration::from_millis(3_260), last_error: None }
    }

    #[test]
    fn an_overflow_names_its_limit_and_what_is_behind_it() {
        use BufferLimit as Limit;
        let fast = ", no error was seen: messages come faster than they leave; wait for room, or raise the limit";
        let call = "; call deliver_messages, or raise the limit";
        let half = "half of the queue is full, and topics that nothing can be sent to may fill no more";
        for (limit, full, option, advice) in [
            (Limit::QueueSize(9), "the queue is full", "max_queue_size", fast),
            (Limit::QueueBytesize(9), "the queue is full", "max_queue_bytesize", fast),
            (Limit::HalfOfQueueSize(9), half, "half of max_queue_size", fast),
            (Limit::HalfOfQueueBytesize(9), half, "half of max_queue_bytesize", fast),
            (Limit::BufferSize(9), "the buffer is full", "max_buffer_size", call),
            (Limit::BufferBytesize(9), "the buffer is full", "max_buffer_bytesize", call),
        ] {
            let text = format!("{full} (7 messages, {option} is 9), the oldest has waited 3.3 s");
            assert_text(overflow(limit), &format!("{text}{advice}"));
            let last_error = Some(Arc::new(DeliveryErrorKind::Internal("boom".into())));
            assert_text(
                BufferOverflow { last_error, ..overflow(limit) },
                &format!("{text}, last error: a fault inside ottla, please report it: boom"),
            );
        }
        let for_ever = BufferOverflow { oldest_age: Duration::MAX, ..overflow(Limit::QueueSize(9)) };
        assert_reads_well(&for_ever.to_string());
    }

    #[test]
    fn every_kind_says_what_to_do() {
        use ProduceErrorKind as Kind;
        let fatal = FatalError { cause: DeliveryErrorKind::Purged, advice: "make a new one" };
        for (kind, text) in [
            (
                Kind::MessageTooLarge { size: 2_000_000, limit: 1_000_000 },
                "the message takes 2000000 bytes, above max_message_bytes (1000000); make it \
                 smaller, or raise the limit here and max.message.bytes of the topic",
            ),
            (Kind::Closed, "the producer was shut down; make a new one"),
            (Kind::AfterFork, "the process forked after the producer had started; make a new one in the child"),
            (
                Kind::Start(io::Error::other("no threads left")),
                "the producer's threads did not start (no threads left); free resources or raise \
                 their limits, and produce again",
            ),
            (Kind::InvalidTopic(InvalidTopic::new("a b", "only letters")), "\"a b\" is not a topic name: only letters"),
            (
                Kind::InvalidMessage("the partition is negative"),
                "the message cannot be sent: the partition is negative",
            ),
            (
                Kind::Fatal(Arc::new(fatal)),
                "the producer cannot go on: it was taken back (purge or clear_buffer); make a new one",
            ),
        ] {
            assert_text(kind, text);
        }
    }

    #[test]
    fn the_message_comes_back_and_its_topic_is_named() {
        let message = Message::new("orders", "v").with_tag(7);
        let error = ProduceError::new(ProduceErrorKind::Closed, message.clone());
        assert_text(&error, "cannot produce to orders: the producer was shut down; make a new one");
        assert!(!error.is_buffer_overflow());
        assert_eq!(error.message(), &message);
        assert_eq!(error.into_message(), message);
        let error = ProduceError::new(ProduceErrorKind::BufferOverflow(overflow(BufferLimit::QueueSize(7))), message);
        assert!(error.is_buffer_overflow());
    }

    #[test]
    fn a_hostile_topic_name_stays_short_and_on_one_line() {
        let name = "\n".repeat(10_000);
        let invalid = InvalidTopic::new(&name, "only letters");
        assert_eq!(invalid.name().len(), 300);
        for kind in [ProduceErrorKind::Closed, ProduceErrorKind::InvalidTopic(invalid)] {
            let text = ProduceError::new(kind, Message::new(&name, "v")).to_string();
            assert_reads_well(&text);
            assert!(text.len() < 1000, "{}", text.len());
        }
    }

    #[test]
    fn the_debug_form_does_not_show_the_message() {
        let message = Message::new("orders", "secret").with_key("hidden");
        let text = format!("{:?}", ProduceError::new(ProduceErrorKind::Closed, message));
        assert!(text.contains("orders") && text.contains("Closed"), "{text}");
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn an_error_fits_in_few_words() {
        assert!(size_of::<ProduceError>() <= 96, "{}", size_of::<ProduceError>());
    }

    #[test]
    fn the_sources_lead_to_the_cause() {
        let fatal = FatalError { cause: DeliveryErrorKind::Purged, advice: "" };
        for (kind, source) in [
            (ProduceErrorKind::Closed, None),
            (ProduceErrorKind::BufferOverflow(overflow(BufferLimit::QueueSize(7))), None),
            (ProduceErrorKind::Start(io::Error::other("why")), Some("why")),
            (ProduceErrorKind::InvalidTopic(InvalidTopic::new("", "why")), Some("\"\" is not a topic name: why")),
        ] {
            let error = ProduceError::new(kind, Message::new("orders", "v"));
            assert_eq!(error.source().map(ToString::to_string).as_deref(), source);
        }
        let last_error = Some(Arc::new(DeliveryErrorKind::Purged));
        let overflow = BufferOverflow { last_error, ..overflow(BufferLimit::QueueSize(7)) };
        let behind = ProduceErrorKind::BufferOverflow(overflow).source().expect("it has a cause").to_string();
        assert_eq!(behind, "it was taken back (purge or clear_buffer)");
        let cause = fatal.source().expect("it has a cause").to_string();
        assert_eq!(cause, "it was taken back (purge or clear_buffer)");
    }
}

//! The options that both producers have, written once: [`Options`] holds and checks them, and the macro
//! `producer_options` gives a builder with a field `options` a documented method for each.

use std::sync::Arc;

use crate::config::{ClientConfig, ProducerConfig, resolve_idempotence};
use crate::error::ConfigProblem;

/// The options that both builders collect.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) client: Arc<ClientConfig>,
    pub(super) producer: ProducerConfig,
    /// Unset until asked for: the default follows `required_acks`.
    pub(super) idempotent: Option<bool>,
}

impl Options {
    pub(super) fn new(client: Arc<ClientConfig>) -> Self {
        Self { client, producer: ProducerConfig::default(), idempotent: None }
    }

    /// The options of a producer that was built before, to build another. Idempotence counts as asked for only where it
    /// differs from what `required_acks` implies.
    pub(super) fn from_checked(client: Arc<ClientConfig>, producer: ProducerConfig) -> Self {
        let implied = resolve_idempotence(None, producer.required_acks, &mut Vec::new());
        let asked = (producer.idempotent != implied).then_some(producer.idempotent);
        Self { client, producer, idempotent: asked }
    }

    /// Settles options that depend on others, and adds all faults to `problems`.
    pub(super) fn check(self, problems: &mut Vec<ConfigProblem>) -> (Arc<ClientConfig>, ProducerConfig) {
        let mut producer = self.producer;
        producer.idempotent = resolve_idempotence(self.idempotent, producer.required_acks, problems);
        producer.check(&self.client, problems);
        if !producer.idempotent {
            // Without sequence numbers a broker cannot tell that a retried batch was overtaken.
            producer.max_in_flight = 1;
        }
        (self.client, producer)
    }
}

macro_rules! producer_options {
    () => {
        /// The acknowledgement that makes a message delivered.
        ///
        /// Default [`RequiredAcks::All`]. With less, messages can be lost when a broker fails, and
        /// [`idempotent`](Self::idempotent) is off.
        #[doc(alias = "acks")]
        #[doc(alias = "request.required.acks")]
        pub fn required_acks(mut self, acks: RequiredAcks) -> Self {
            self.options.producer.required_acks = acks;
            self
        }

        /// The longest time that the leader may wait for its followers before it answers that they are too slow.
        ///
        /// Default 5 s; at least 1 ms, and below the client's [`socket_timeout`](crate::ClientBuilder::socket_timeout).
        /// After such an answer the batch is tried again.
        #[doc(alias = "request.timeout.ms")]
        pub fn ack_timeout(mut self, timeout: Duration) -> Self {
            self.options.producer.ack_timeout = timeout;
            self
        }

        /// Has brokers drop the batches that a retry repeats, and keep the order of messages under retries (KIP-98).
        ///
        /// Default: on exactly when [`required_acks`](Self::required_acks) is `All`; an explicit `true`
        /// with less is an error. With `false` a retry can write a message twice, and
        /// [`max_in_flight`](Self::max_in_flight) is 1 so that the order is kept.
        #[doc(alias = "enable.idempotence")]
        pub fn idempotent(mut self, idempotent: bool) -> Self {
            self.options.idempotent = Some(idempotent);
            self
        }

        /// The largest number of unanswered requests with messages of one partition.
        ///
        /// Default 5; from 1 to 5 with [`idempotent`](Self::idempotent), because brokers remember 5
        /// batches. Without it the number is always 1, whatever is set here, so that a retry cannot
        /// change the order.
        #[doc(alias = "max.in.flight.requests.per.connection")]
        #[doc(alias = "max.in.flight")]
        pub fn max_in_flight(mut self, requests: usize) -> Self {
            self.options.producer.max_in_flight = requests;
            self
        }

        /// The longest time for delivery in all, with every wait and retry, counted from when a message became due. A
        /// message that is late fails.
        ///
        /// Default 120 s; above zero; `Duration::MAX` retries for ever. A message becomes due when a threshold, an
        /// interval, a full queue, a call that delivers or a caller who waits makes it leave; before that it may wait
        /// as long as the program likes. After a stop of the process, messages under way have a second more for their
        /// answer.
        #[doc(alias = "delivery.timeout.ms")]
        #[doc(alias = "message.timeout.ms")]
        pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
            self.options.producer.delivery_timeout = timeout;
            self
        }

        /// The number of times that a batch is tried again after its first attempt failed.
        ///
        /// Default `None`: as often as [`delivery_timeout`](Self::delivery_timeout) allows. `2` gives
        /// ruby-kafka's three attempts, `0` a single one.
        #[doc(alias = "retries")]
        #[doc(alias = "message.send.max.retries")]
        pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
            self.options.producer.max_retries = retries.into();
            self
        }

        /// The pause before a batch is tried again. It doubles with each further failure up to
        /// [`retry_backoff_max`](Self::retry_backoff_max), with 20 % jitter (KIP-580).
        ///
        /// Default 100 ms; above zero, not above the longest pause.
        #[doc(alias = "retry.backoff.ms")]
        pub fn retry_backoff(mut self, pause: Duration) -> Self {
            self.options.producer.retry_backoff = pause;
            self
        }

        /// The longest pause before a batch is tried again, give or take 20 %.
        ///
        /// Default 1 s; at most one year.
        #[doc(alias = "retry.backoff.max.ms")]
        pub fn retry_backoff_max(mut self, pause: Duration) -> Self {
            self.options.producer.retry_backoff_max = pause;
            self
        }

        /// The largest number of messages in the buffer: those that are being delivered and have no fate yet.
        ///
        /// Default `None`: only [`max_buffer_bytesize`](Self::max_buffer_bytesize) bounds it; else at least 1. A low
        /// number keeps batches small, and few of them under way.
        pub fn max_buffer_size(mut self, messages: impl Into<Option<usize>>) -> Self {
            self.options.producer.max_buffer_size = messages.into();
            self
        }

        /// The largest number of bytes in the buffer, which has the messages that are being delivered and have no fate
        /// yet. It counts the memory that batches keep: their records with the room that they have to grow, about 500
        /// bytes for each batch, and about 100 for each message with a tag, a partition key or a handle. A delivered
        /// message whose callback has not returned counts at most 64 bytes beside that, if its record is not needed
        /// for the callback.
        ///
        /// Default 32 MiB; not below [`max_message_bytes`](Self::max_message_bytes), at most 64 GiB.
        pub fn max_buffer_bytesize(mut self, bytes: usize) -> Self {
            self.options.producer.max_buffer_bytesize = bytes;
            self
        }

        /// The largest message, as the bytes of a batch that holds only it, before compression; a larger one
        /// is refused by `produce`.
        ///
        /// Default 1,000,000, just below what brokers accept (`message.max.bytes`, 1,048,588, and a topic's
        /// `max.message.bytes`); at least 128, and not above [`max_batch_bytes`](Self::max_batch_bytes) and
        /// the bounds of queue and buffer. A batch has some 70 bytes besides key, value and headers.
        #[doc(alias = "message.max.bytes")]
        #[doc(alias = "max.request.size")]
        pub fn max_message_bytes(mut self, bytes: usize) -> Self {
            self.options.producer.max_message_bytes = bytes;
            self
        }

        /// The largest batch of messages to one partition, in bytes, before compression; a full one leaves.
        ///
        /// Default 1,000,000; not below [`max_message_bytes`](Self::max_message_bytes), and 1 KiB or more
        /// below [`max_request_bytes`](Self::max_request_bytes). A topic refuses batches above its
        /// `max.message.bytes`. It is a bound, not a size to wait for: small batches leave when they are due.
        #[doc(alias = "batch.size")]
        pub fn max_batch_bytes(mut self, bytes: usize) -> Self {
            self.options.producer.max_batch_bytes = bytes;
            self
        }

        /// The largest request, in bytes: batches to several partitions of one broker travel together.
        ///
        /// Default 8 MiB; 1 KiB or more above [`max_batch_bytes`](Self::max_batch_bytes), at most 100 MiB,
        /// which is all that brokers accept (`socket.request.max.bytes`).
        pub fn max_request_bytes(mut self, bytes: usize) -> Self {
            self.options.producer.max_request_bytes = bytes;
            self
        }

        /// Chooses the partition of a message that names none.
        ///
        /// Default: by CRC-32 of the key, as ruby-kafka, librdkafka and rust-rdkafka do; messages without a
        /// key fill one partition for a while and then another (KIP-794). An empty key is a key, as in
        /// ruby-kafka; librdkafka's default takes it for none. `Partitioner::murmur2()` puts keys where the
        /// Java client and franz-go do. Choose once for a topic: another partitioner sends the same key
        /// elsewhere.
        #[doc(alias = "partitioner.class")]
        pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
            self.options.producer.partitioner = partitioner;
            self
        }

        /// The longest time that messages wait for a topic that brokers do not know (yet) before they fail.
        ///
        /// Default 30 s, because a new topic takes a while to be known everywhere; at most one year. Messages
        /// to other topics do not wait with them.
        #[doc(alias = "topic.metadata.propagation.max.ms")]
        pub fn unknown_topic_grace(mut self, grace: Duration) -> Self {
            self.options.producer.unknown_topic_grace = grace;
            self
        }

        /// Lets a message to a topic that does not exist create the topic.
        ///
        /// Default `true`; the brokers must allow it too (`auto.create.topics.enable`). With `false` a
        /// misspelt name fails instead of becoming a topic.
        #[doc(alias = "allow.auto.create.topics")]
        pub fn allow_auto_topic_creation(mut self, allow: bool) -> Self {
            self.options.producer.allow_auto_topic_creation = allow;
            self
        }
    };
}
pub(super) use producer_options;

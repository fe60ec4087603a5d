//! The builders of both producers. They collect options, report every problem of them, and hand plain data on; they
//! open and start nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::options::{Options, producer_options};
use crate::config::{ClientConfig, OnOverflow, ProducerConfig, QueueConfig, RequiredAcks};
use crate::error::{ConfigError, DeliveryError};
use crate::fate::Delivered;
use crate::partitioner::Partitioner;

/// The callback that gets the fate of each message.
pub(crate) type DeliveryCallback = Box<dyn FnMut(Result<&Delivered, DeliveryError>) + Send>;

/// The parts from which an asynchronous producer is made.
pub(crate) type AsyncParts = (Arc<ClientConfig>, ProducerConfig, QueueConfig, Option<DeliveryCallback>);

/// Options of a [`Producer`](crate::Producer), which works on the caller's own thread.
///
/// ```
/// use std::time::Duration;
///
/// use ottla::Client;
///
/// let client = Client::builder(["kafka-1:9092"]).build()?;
/// let producer = client
///     .producer()
///     .delivery_timeout(Duration::from_secs(20))
///     .max_retries(2)
///     .build()?;
/// # drop(producer);
/// # Ok::<(), ottla::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ProducerBuilder {
    options: Options,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Arc<ClientConfig>) -> Self {
        Self { options: Options::new(client) }
    }

    producer_options!();

    /// The checked options as plain data.
    pub(crate) fn check(self) -> Result<(Arc<ClientConfig>, ProducerConfig), ConfigError> {
        let mut problems = Vec::new();
        let parts = self.options.check(&mut problems);
        ConfigError::unless_empty(problems)?;
        Ok(parts)
    }
}

/// Options of an [`AsyncProducer`](crate::AsyncProducer), which works on a thread of its own.
///
/// With the defaults nothing leaves before `deliver_messages`, a full queue or `shutdown`, as in ruby-kafka. Most
/// programs want [`streaming`](Self::streaming).
///
/// ```
/// use ottla::Client;
///
/// let client = Client::builder(["kafka-1:9092"]).build()?;
/// let producer = client
///     .async_producer()
///     .streaming()
///     .on_delivery(|fate| {
///         if let Err(error) = fate {
///             eprintln!("{error}");
///         }
///     })
///     .build()?;
/// # drop(producer);
/// # Ok::<(), ottla::ConfigError>(())
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct AsyncProducerBuilder {
    options: Options,
    queue: QueueConfig,
    callback: Option<DeliveryCallback>,
}

impl AsyncProducerBuilder {
    pub(crate) fn new(client: Arc<ClientConfig>) -> Self {
        Self::with_options(Options::new(client))
    }

    /// A builder that starts from the checked options of a producer; the queue has its defaults.
    pub(crate) fn from_parts(client: Arc<ClientConfig>, producer: ProducerConfig) -> Self {
        Self::with_options(Options::from_checked(client, producer))
    }

    fn with_options(options: Options) -> Self {
        Self { options, queue: QueueConfig::default(), callback: None }
    }

    /// Delivers by itself, soon and in large batches: sets [`delivery_interval`](Self::delivery_interval) to 5 ms,
    /// [`delivery_threshold`](Self::delivery_threshold) to 10,000 messages and [`max_queue_size`](Self::max_queue_size)
    /// to 100,000. An option that is set after it wins.
    #[doc(alias = "linger")]
    pub fn streaming(mut self) -> Self {
        self.queue.delivery_interval = Duration::from_millis(5);
        self.queue.delivery_threshold = 10_000;
        self.queue.max_queue_size = 100_000;
        self
    }

    /// The largest number of messages in the queue: those accepted and not yet written to a broker. The next one meets
    /// [`on_overflow`](Self::on_overflow).
    ///
    /// Default 1,000; from 1 to 2,147,483,647. The messages of a full queue leave by themselves. Topics that do not
    /// exist, have no leader, or refuse messages may fill half of it while there are other topics.
    #[doc(alias = "queue.buffering.max.messages")]
    pub fn max_queue_size(mut self, messages: usize) -> Self {
        self.queue.max_queue_size = messages;
        self
    }

    /// The largest number of bytes in the queue; it is full when this limit or [`max_queue_size`](Self::max_queue_size)
    /// is reached. A message takes its own bytes, and about 25 more; about 100 more with a tag, a partition key or a
    /// handle. If small messages leave one at a time, each batch of them takes about 500 bytes more, because the limit
    /// counts the memory that is kept. Topics that do not exist, have no leader, or refuse messages may fill half of it
    /// while there are other topics.
    ///
    /// Default 32 MiB; not below [`max_message_bytes`](Self::max_message_bytes), at most 64 GiB.
    #[doc(alias = "buffer.memory")]
    #[doc(alias = "queue.buffering.max.kbytes")]
    pub fn max_queue_bytesize(mut self, bytes: usize) -> Self {
        self.queue.max_queue_bytesize = bytes;
        self
    }

    /// The number of queued messages at which all of them leave.
    ///
    /// Default 0, which is off. A number that the queue cannot reach is legal: messages then leave for
    /// another reason.
    #[doc(alias = "batch.num.messages")]
    pub fn delivery_threshold(mut self, messages: usize) -> Self {
        self.queue.delivery_threshold = messages;
        self
    }

    /// The age of the oldest queued message at which all of them leave.
    ///
    /// Default zero, which is off: without it and [`delivery_threshold`](Self::delivery_threshold) messages
    /// leave only by `deliver_messages`, `flush`, `shutdown`, a waiting handle, or a full queue. Any duration
    /// is legal; `Duration::MAX` never comes. Unlike ruby-kafka's, it counts from the oldest message and does
    /// not tick while nothing waits.
    #[doc(alias = "linger")]
    #[doc(alias = "linger.ms")]
    #[doc(alias = "queue.buffering.max.ms")]
    pub fn delivery_interval(mut self, interval: Duration) -> Self {
        self.queue.delivery_interval = interval;
        self
    }

    /// The behaviour of `produce` when the queue is full.
    ///
    /// Default [`OnOverflow::Refuse`]: `BufferOverflow` at once. The timeout of `produce_timeout` overrides it for one
    /// call.
    #[doc(alias = "max.block.ms")]
    pub fn on_overflow(mut self, on_overflow: OnOverflow) -> Self {
        self.queue.on_overflow = on_overflow;
        self
    }

    /// The longest time that `shutdown` waits for messages to be delivered; its report has those that are left then.
    ///
    /// Default `None`: until every message has its fate, which
    /// [`delivery_timeout`](Self::delivery_timeout) bounds. Any duration is legal; zero does not wait.
    #[doc(alias = "close")]
    pub fn shutdown_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.queue.shutdown_timeout = timeout.into();
        self
    }

    /// The longest time that dropping the last clone, without `shutdown`, waits for messages to be delivered. Then it
    /// logs the number of lost messages.
    ///
    /// Default 5 s; at most one year; zero does not wait.
    pub fn drop_timeout(mut self, timeout: Duration) -> Self {
        self.queue.drop_timeout = timeout;
        self
    }

    /// Calls `f` with the fate of every message that has no handle.
    ///
    /// It is called on a thread of its own, one message at a time, in each partition in the order of the
    /// messages. A message counts as buffered until `f` returned, so a slow `f` slows delivery down. In it
    /// `produce` never blocks, and `flush` and `shutdown` are refused; waiting for a handle works, and holds up
    /// the callbacks behind it. A panic in it is logged and ends no thread. Set a second time, it replaces the
    /// first.
    ///
    /// A clone of the producer that `f` keeps, to produce from inside, keeps the producer open: end it with
    /// [`shutdown`](crate::AsyncProducer::shutdown), dropping the other clones does not.
    #[doc(alias = "delivery_report")]
    #[doc(alias = "dr_cb")]
    #[doc(alias = "callback")]
    pub fn on_delivery<F>(mut self, f: F) -> Self
    where
        F: FnMut(Result<&Delivered, DeliveryError>) + Send + 'static,
    {
        self.callback = Some(Box::new(f));
        self
    }

    producer_options!();

    /// The checked options as plain data.
    pub(crate) fn check(self) -> Result<AsyncParts, ConfigError> {
        let mut problems = Vec::new();
        let (client, producer) = self.options.check(&mut problems);
        self.queue.check(&producer, &mut problems);
        ConfigError::unless_empty(problems)?;
        Ok((client, producer, self.queue, self.callback))
    }
}

impl fmt::Debug for AsyncProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncProducerBuilder")
            .field("options", &self.options)
            .field("queue", &self.queue)
            .field("on_delivery", &self.callback.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests;

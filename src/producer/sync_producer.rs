//! [`Producer`]: the producer without threads. Its buffer is a queue of its own, and `deliver_messages` runs the same
//! driver as the async producer's worker, on the caller's thread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::{AsyncProducerBuilder, DeliveryFailed, ProducerBuilder, Undelivered};
use crate::config::{ClientConfig, ProducerConfig};
use crate::deadline::Deadline;
use crate::engine::producer::{BatchFate, FailedMessages, ProducerEngine};
use crate::error::{
    BufferLimit, BufferOverflow, ConfigError, ConnectionError, ConnectionErrorKind, DeliveryErrorKind, ProduceError,
    ProduceErrorKind,
};
use crate::message::Message;
use crate::queue::chunk::Chunk;
use crate::queue::{Full, Limit, Limits, Prepared, Queue, Refused, Sealed};
use crate::threads::clock;
use crate::threads::driver::{Driver, new_seed};
use crate::threads::producer::feed::Feed;
use crate::threads::spawn::panic_text;

/// Sends messages on the caller's own thread: `produce` buffers them, `deliver_messages` sends them and waits.
///
/// It starts no thread that stays. Messages that are in the buffer when it is dropped are lost, and a line in the log
/// says how many; [`shutdown`](Self::shutdown) hands them back.
#[must_use = "it delivers nothing by itself"]
pub struct Producer {
    client: Arc<ClientConfig>,
    producer: Arc<ProducerConfig>,
    /// For the engine: each call of `deliver_messages` has its own deadline and attempts, after which messages stay.
    without_timeout: Arc<ProducerConfig>,
    /// Its places are those of the buffer: each is held until the message has its fate.
    queue: Queue,
    /// The chunks that are full.
    sealed: Sealed,
    /// What left it, and no engine has got yet.
    taken: VecDeque<Chunk>,
    /// Made with the first delivery.
    running: Option<Box<Running>>,
    /// The process in which the first message was produced.
    pid: Option<u32>,
}

impl ProducerBuilder {
    /// Checks the options and makes the producer. Opens no connection: the first `deliver_messages` does.
    ///
    /// # Errors
    /// [`ConfigError`] lists everything that is wrong: options outside their limits or that contradict each
    /// other or the client's.
    pub fn build(self) -> Result<Producer, ConfigError> {
        let (client, producer) = self.check()?;
        Ok(Producer::new(client, Arc::new(producer)))
    }
}

impl Producer {
    pub(crate) fn new(client: Arc<ClientConfig>, producer: Arc<ProducerConfig>) -> Self {
        let limits = Limits {
            messages: producer.max_buffer_size.unwrap_or(usize::MAX),
            bytes: producer.max_buffer_bytesize,
            threshold: 0,
            interval: Duration::ZERO,
            batch_bytes: producer.max_batch_bytes,
        };
        let (queue, sealed) = Queue::new(limits, &producer.partitioner);
        let unbounded = ProducerConfig { delivery_timeout: Duration::MAX, max_retries: None, ..(*producer).clone() };
        let without_timeout = Arc::new(unbounded);
        let taken = VecDeque::new();
        let mut this = Self { client, producer, without_timeout, queue, sealed, taken, running: None, pid: None };
        this.queue.start();
        this
    }

    /// Puts a message into the buffer. Never blocks, and sends nothing.
    ///
    /// # Errors
    /// The message comes back in the error, which copies what it had borrowed;
    /// [`try_produce`](Self::try_produce) leaves it where it is.
    /// - [`BufferOverflow`](ProduceErrorKind::BufferOverflow): the buffer holds `max_buffer_size` messages or
    ///   `max_buffer_bytesize` bytes; call [`deliver_messages`](Self::deliver_messages), or raise the limit.
    /// - [`MessageTooLarge`](ProduceErrorKind::MessageTooLarge), [`InvalidTopic`](ProduceErrorKind::InvalidTopic),
    ///   [`InvalidMessage`](ProduceErrorKind::InvalidMessage): it can never be sent.
    /// - [`AfterFork`](ProduceErrorKind::AfterFork), [`Fatal`](ProduceErrorKind::Fatal): make a new producer.
    pub fn produce<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), ProduceError> {
        let message = message.into();
        self.accept(&message).map_err(|kind| ProduceError::new(kind, message))
    }

    /// As [`produce`](Self::produce), but borrows the message. A refused message is not copied, so this is for programs
    /// that try again.
    ///
    /// # Errors
    /// As [`produce`](Self::produce).
    ///
    /// ```no_run
    /// use ottla::{Message, ProduceErrorKind, Producer};
    ///
    /// fn produce(producer: &mut Producer, line: &str) -> Result<(), Box<dyn std::error::Error>> {
    ///     let message = Message::new("lines", line);
    ///     while let Err(refused) = producer.try_produce(&message) {
    ///         match refused {
    ///             ProduceErrorKind::BufferOverflow(_) => producer.deliver_messages()?,
    ///             other => return Err(other.into()),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn try_produce(&mut self, message: &Message<'_>) -> Result<(), ProduceErrorKind> {
        self.accept(message)
    }

    /// Sends all messages in the buffer. Blocks until each has its fate, for at most `delivery_timeout`, or until one
    /// was attempted `max_retries` times after the first attempt, if that is set.
    ///
    /// # Errors
    /// [`DeliveryFailed`]: some messages failed for good, and are in the error; or some were not delivered in time.
    /// Those stay in the buffer, and the next call goes on with them where this one stopped, without repeating any.
    pub fn deliver_messages(&mut self) -> Result<(), DeliveryFailed> {
        if self.queue.held() == 0 {
            return Ok(());
        }
        let mut failed = Vec::new();
        let problem =
            if self.forked() { Some(Arc::new(DeliveryErrorKind::AfterFork)) } else { self.deliver(&mut failed) };
        let remaining = self.queue.held();
        if failed.is_empty() && remaining == 0 {
            return Ok(());
        }
        let last_error = problem.filter(|_| remaining > 0);
        Err(DeliveryFailed { failed: failed.into(), remaining, last_error })
    }

    /// Takes all messages out of the buffer; each says if it may be in the log. Closes the connections. In a forked
    /// child it takes nothing: the messages are the parent's.
    #[must_use = "these messages will not be delivered"]
    pub fn clear_buffer(&mut self) -> Undelivered {
        if self.forked() {
            // All that it holds belongs to the parent.
            mem::forget(self.running.take());
            return Undelivered::default();
        }
        if self.queue.held() == 0 {
            return Undelivered::default();
        }
        let (mut engine, mut chunks) = match self.running.take() {
            Some(running) => {
                let Running { mut driver, feed } = *running;
                // Reads the answers that came since, so that their messages are not reported as possibly written.
                driver.look();
                (driver.into_engine(), feed.hand)
            }
            None => (ProducerEngine::new(self.client.clone(), self.without_timeout.clone(), 0), VecDeque::new()),
        };
        for topic in &self.queue.topics()[engine.topic_count()..] {
            engine.add_topic(topic.clone());
        }
        self.take_all(&mut chunks);
        let now = clock::now();
        chunks.iter_mut().for_each(|chunk| engine.append(chunk, now));
        engine.purge(now);
        engine.abandon(now);
        let mut errors = Vec::new();
        while let Some(fate) = engine.next_fate() {
            self.settle(fate, &mut errors);
        }
        errors.into()
    }

    /// The number of messages in the buffer.
    #[must_use]
    pub fn buffer_size(&self) -> usize {
        self.queue.held()
    }

    /// The number of bytes that the messages in the buffer take.
    #[must_use]
    pub fn buffer_bytesize(&self) -> usize {
        self.queue.bytes()
    }

    /// Closes the connections, and returns the messages in the buffer; each says if it may be in the log. It delivers
    /// nothing: call [`deliver_messages`](Self::deliver_messages) before.
    #[must_use = "these messages will not be delivered"]
    pub fn shutdown(mut self) -> Undelivered {
        self.clear_buffer()
    }

    /// The options of this producer, to begin a producer with threads. Messages in the buffer are lost: deliver them
    /// before.
    pub fn into_async(self) -> AsyncProducerBuilder {
        AsyncProducerBuilder::from_parts(Arc::clone(&self.client), (*self.producer).clone())
    }

    fn accept(&mut self, message: &Message<'_>) -> Result<(), ProduceErrorKind> {
        if let Some(fatal) = self.running.as_ref().and_then(|running| running.driver.engine.fatal()) {
            return Err(ProduceErrorKind::Fatal(Arc::clone(fatal)));
        }
        let message = Prepared::new(message, self.producer.max_message_bytes, clock::timestamp())?;
        let good = message.is_good(Prepared::good_bytes(self.producer.max_message_bytes));
        if good && self.queue.append_like_last(&message, None).is_some() {
            return Ok(());
        }
        let mut large = None;
        loop {
            let pid = &mut self.pid;
            let clock = || {
                // Looked at for the first message of a chunk and every 1,024th.
                let now = process::id();
                (*pid.get_or_insert(now) == now).then(clock::now)
            };
            return match self.queue.offer(&message, &mut large, None, clock) {
                Ok(_) => {
                    // There is no worker to make room in the channel: without any, one chunk would grow until the
                    // buffer is full, and its messages would take their memory twice while they become batches.
                    self.queue.take_due(&self.sealed, &mut self.taken);
                    Ok(())
                }
                Err(Refused::Unencoded) => {
                    large = message.encode_large();
                    continue;
                }
                Err(Refused::Full(full)) => Err(self.overflow(&full)),
                Err(Refused::InvalidTopic(error)) => Err(ProduceErrorKind::InvalidTopic(error)),
                Err(Refused::Forked) => Err(ProduceErrorKind::AfterFork),
                Err(Refused::Idle | Refused::Closed) => Err(ProduceErrorKind::Closed),
            };
        }
    }

    fn overflow(&self, full: &Full) -> ProduceErrorKind {
        let limit = match full.limit {
            Limit::Messages(most) => BufferLimit::BufferSize(most),
            Limit::Bytes(most) => BufferLimit::BufferBytesize(most),
        };
        ProduceErrorKind::BufferOverflow(BufferOverflow {
            queued: full.queued,
            limit,
            oldest_age: full.oldest.map_or(Duration::ZERO, |at| clock::now().saturating_duration_since(at)),
            last_error: self.running.as_ref().and_then(|running| running.driver.engine.last_error().cloned()),
        })
    }

    /// Delivers until each message has its fate or the time is up, and returns what is in the way of those left.
    fn deliver(&mut self, failed: &mut Vec<FailedMessages>) -> Option<Arc<DeliveryErrorKind>> {
        let mut running = match self.ready() {
            Ok(running) => running,
            Err(error) => return Some(Arc::new(self.io_error(error))),
        };
        let Running { driver, feed } = &mut *running;
        // The messages that the last call left have new attempts, too.
        driver.engine.extend(driver.now());
        self.take_all(&mut feed.hand);
        driver.begin(Deadline::after(driver.now(), self.producer.delivery_timeout));
        let retries = self.producer.max_retries;
        let mut faults = 0;
        let problem = loop {
            let step = step(driver, feed, |fate| self.settle(fate, failed), retries);
            feed.spent.drain(..).for_each(|chunk| self.queue.recycle(chunk));
            match step {
                Ok(Step::Wait) => {}
                Ok(Step::Done) => break driver.engine.last_error().cloned(),
                Err(fault) => {
                    log::error!("a fault inside ottla, please report it: {fault}");
                    feed.replace(driver);
                    feed.salvage(&fault, driver.now());
                    while let Some(fate) = feed.next_fate() {
                        let _ = self.settle(fate, failed);
                    }
                    faults += 1;
                    if faults == FAULTS_IN_A_CALL {
                        break Some(Arc::new(DeliveryErrorKind::Internal(fault)));
                    }
                }
            }
        };
        self.running = Some(running);
        problem
    }

    /// The driver, after it has read what arrived since the last call.
    fn ready(&mut self) -> io::Result<Box<Running>> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => {
                let mut feed = Feed::new(self.client.clone(), self.without_timeout.clone(), false, new_seed());
                let driver = Driver::new(self.client.clone(), feed.new_engine())?;
                Box::new(Running { driver, feed })
            }
        };
        let Running { driver, feed } = &mut *running;
        for topic in &self.queue.topics()[feed.topic_count()..] {
            feed.add_topic(topic.clone(), &mut driver.engine);
        }
        // To look at the sockets is a system call; what came since so short a time ago is seen a moment later.
        if clock::now().saturating_duration_since(driver.now()) < JUST_LOOKED {
            return Ok(running);
        }
        let now = Deadline::at(driver.now());
        match driver.poll(now, false) {
            Ok(()) => Ok(running),
            Err(error) => {
                self.running = Some(running);
                Err(error)
            }
        }
    }

    fn take_all(&mut self, chunks: &mut VecDeque<Chunk>) {
        // There is no worker to wake.
        let _ = self.queue.deliver();
        self.queue.take_due(&self.sealed, &mut self.taken);
        chunks.append(&mut self.taken);
    }

    /// Gives a delivered batch back, for its memory.
    fn settle(&mut self, fate: BatchFate, failed: &mut Vec<FailedMessages>) -> Option<BatchFate> {
        self.queue.release(fate.count() as u64, fate.queue_bytes());
        if fate.is_delivered() {
            return Some(fate);
        }
        failed.push(fate.into_errors());
        None
    }

    fn io_error(&self, error: io::Error) -> DeliveryErrorKind {
        let address = self.client.seeds.first().map_or_else(String::new, ToString::to_string).into();
        let kind = ConnectionErrorKind::Io(Arc::new(error));
        DeliveryErrorKind::Connection(ConnectionError { address, advertised: None, kind })
    }

    fn forked(&self) -> bool {
        self.pid.is_some_and(|pid| pid != process::id())
    }
}

/// The parts that the first delivery makes.
struct Running {
    driver: Driver<ProducerEngine>,
    feed: Feed,
}

enum Step {
    Wait,
    Done,
}

/// One turn: all in hand to the engine, its fates out, and a wait for the sockets. Done when every message has its
/// fate, when the caller's time is up, or when a batch was attempted `retries` times more.
fn step(
    driver: &mut Driver<ProducerEngine>,
    feed: &mut Feed,
    mut settle: impl FnMut(BatchFate) -> Option<BatchFate>,
    retries: Option<u32>,
) -> Result<Step, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let now = driver.now();
        feed.append(&mut driver.engine, now);
        driver.go();
        while let Some(fate) = driver.engine.next_fate() {
            if let Some(buffer) = settle(fate).and_then(BatchFate::into_buffer) {
                driver.engine.recycle(buffer);
            }
        }
        // The buffer counts until the fate, not until the first byte is written.
        feed.take_released(&mut driver.engine);
        let exhausted = retries.is_some_and(|retries| driver.engine.is_exhausted(retries));
        if driver.engine.unfinished() == 0 || exhausted || driver.is_overdue() {
            return Ok(Step::Done);
        }
        driver.poll(driver.until(), true).map(|()| Step::Wait)
    }));
    match result {
        Ok(Ok(step)) => Ok(step),
        Ok(Err(error)) => Err(format!("the sockets cannot be waited for: {error}")),
        Err(panic) => Err(panic_text(panic)),
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.forked() {
            // Its sockets are the parent's: even to forget them in the poll would be felt there.
            mem::forget(self.running.take());
        } else if self.queue.held() > 0 {
            log::warn!("a producer was dropped with {} messages in its buffer, which are lost", self.queue.held());
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.client.client_id)
            .field("buffer_size", &self.buffer_size())
            .finish_non_exhaustive()
    }
}

const JUST_LOOKED: Duration = Duration::from_millis(1);
/// After this many faults in one call another engine would not fare better.
const FAULTS_IN_A_CALL: u32 = 8;

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::{Client, Topic};

    #[test]
    fn however_much_is_in_the_buffer_its_chunks_are_small() {
        let client = Client::builder(["127.0.0.1:1"]).build().expect("good options");
        let builder = client.producer().max_message_bytes(700).max_batch_bytes(1000);
        let mut producer = builder.build().expect("good options");
        let (topic, value) = (Topic::new("orders").expect("a good name"), [0; 600]);
        for _ in 0..MANY {
            producer.produce(Message::new(&topic, &value[..])).expect("there is room");
        }
        let mut chunks = VecDeque::new();
        producer.take_all(&mut chunks);
        assert_eq!(chunks.iter().map(Chunk::len).sum::<usize>(), MANY);
        let largest = chunks.iter().map(|chunk| chunk.records.len()).max();
        assert!(largest <= Some(1000), "{largest:?}");
    }

    /// More than any channel has slots for.
    const MANY: usize = 10_000;
}

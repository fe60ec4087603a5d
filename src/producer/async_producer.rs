//! [`AsyncProducer`]: the producer whose messages leave on threads of its own. Owns the gate and the threads of one
//! producer, and starts and ends them; `threads/` has their work.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::delivery::DeliveryHandle;
use super::report::{FlushError, FlushReport, MetadataError, PurgeError, ShutdownError, ShutdownReport};
use super::undelivered::Undelivered;
use super::{AsyncProducerBuilder, DeliveryCallback};
use crate::config::{ClientConfig, OnOverflow, ProducerConfig, QueueConfig};
use crate::deadline::Deadline;
use crate::error::{ConfigError, DeliveryErrorKind, ProduceError, ProduceErrorKind};
use crate::fate::slot::{self, Slot};
use crate::message::Message;
use crate::queue::{Phase, only_borrows};
use crate::sync::Mutex;
use crate::threads::clock;
use crate::threads::producer::delivery::Callback;
use crate::threads::producer::gate::{Gate, Unanswered};
use crate::threads::producer::state::{Abandon, Ended, State, Totals};
use crate::threads::producer::{self as threads, Role, Threads};

/// Sends messages from threads of its own: `produce` queues a message and returns.
///
/// Cloning it is cheap, and all clones are one producer, for use by many threads. The messages of one thread to one
/// partition are written in the order in which that thread produced them.
///
/// End it with [`shutdown`](Self::shutdown), whose report counts the fates of all messages. If the last clone is
/// dropped without it, the producer delivers what it can within `drop_timeout`, and logs how many messages it gave up.
///
/// A producer that has produced belongs to its process: after a fork, the child must make a new one.
#[must_use = "dropping it closes it"]
#[derive(Clone)]
pub struct AsyncProducer {
    shared: Arc<Shared>,
}

struct Shared {
    client: Arc<ClientConfig>,
    producer: Arc<ProducerConfig>,
    queue: QueueConfig,
    gate: Arc<Gate>,
    /// Held here until the delivery thread takes it as it starts.
    callback: Arc<Mutex<Option<Callback>>>,
    /// The lock between callers that start the threads with their first message and callers that join them at the end.
    /// A caller that needs the gate's lock too, at the start only, takes this one first.
    threads: Mutex<Option<Threads>>,
}

impl AsyncProducerBuilder {
    /// Checks the options and makes the producer. Opens no connection and starts no thread: the first
    /// `produce` does.
    ///
    /// # Errors
    /// [`ConfigError`] lists everything that is wrong: options outside their limits or that contradict each
    /// other or the client's.
    pub fn build(self) -> Result<AsyncProducer, ConfigError> {
        let (client, producer, queue, callback) = self.check()?;
        Ok(AsyncProducer::new(client, Arc::new(producer), queue, callback))
    }
}

impl AsyncProducer {
    pub(crate) fn new(
        client: Arc<ClientConfig>,
        producer: Arc<ProducerConfig>,
        queue: QueueConfig,
        callback: Option<DeliveryCallback>,
    ) -> Self {
        let gate = Arc::new(Gate::new(&queue, &producer));
        let callback = Arc::new(Mutex::new(callback));
        Self { shared: Arc::new(Shared { client, producer, queue, gate, callback, threads: Mutex::new(None) }) }
    }

    /// Queues a message. The first one starts the threads.
    ///
    /// Does not block, unless `on_overflow` says so for a full queue, and never inside a delivery callback or on this
    /// producer's worker.
    ///
    /// # Errors
    /// The message comes back in the error, which copies what it had borrowed;
    /// [`try_produce`](Self::try_produce) leaves it where it is.
    /// - [`BufferOverflow`](ProduceErrorKind::BufferOverflow): the queue holds `max_queue_size` messages or
    ///   `max_queue_bytesize` bytes; the error says what is wrong behind it. Slow down, use
    ///   [`produce_timeout`](Self::produce_timeout), or raise the limit. A topic that does not exist, has no leader, or
    ///   refuses messages may fill half of the queue while there are other topics, so that it does not hold them up.
    /// - [`MessageTooLarge`](ProduceErrorKind::MessageTooLarge): it can never be sent; raise `max_message_bytes`, here
    ///   and on the brokers, or send less.
    /// - [`InvalidTopic`](ProduceErrorKind::InvalidTopic), [`InvalidMessage`](ProduceErrorKind::InvalidMessage): it can
    ///   never be sent.
    /// - [`Closed`](ProduceErrorKind::Closed), [`AfterFork`](ProduceErrorKind::AfterFork),
    ///   [`Fatal`](ProduceErrorKind::Fatal): make a new producer.
    /// - [`Start`](ProduceErrorKind::Start): the system had no thread or descriptor left; the next call tries again.
    #[doc(alias = "send")]
    #[inline]
    pub fn produce<'a>(&self, message: impl Into<Message<'a>>) -> Result<(), ProduceError> {
        self.shared.accept_or_return(message.into(), self.shared.usual_wait())
    }

    /// As [`produce`](Self::produce), but blocks while the queue is full, for at most `timeout`. Inside a delivery
    /// callback, and inside a partitioner, a logger or a panic hook on this producer's worker, it never blocks: places
    /// become free only after those return.
    ///
    /// # Errors
    /// As [`produce`](Self::produce); `BufferOverflow` if the queue was still full after `timeout`.
    #[inline]
    pub fn produce_timeout<'a>(&self, message: impl Into<Message<'a>>, timeout: Duration) -> Result<(), ProduceError> {
        self.shared.accept_or_return(message.into(), timeout)
    }

    /// As [`produce`](Self::produce), but borrows the message, and never blocks, whatever `on_overflow` says. A refused
    /// message is not copied, so this is for programs that try again.
    ///
    /// # Errors
    /// As [`produce`](Self::produce).
    ///
    /// ```no_run
    /// use ottla::{AsyncProducer, Message, ProduceErrorKind};
    ///
    /// fn produce(producer: &AsyncProducer, line: &str) -> Result<(), ProduceErrorKind> {
    ///     let message = Message::new("lines", line);
    ///     loop {
    ///         match producer.try_produce(&message) {
    ///             Err(ProduceErrorKind::BufferOverflow(_)) => do_something_else(),
    ///             result => return result,
    ///         }
    ///     }
    /// }
    /// # fn do_something_else() {}
    /// ```
    pub fn try_produce(&self, message: &Message<'_>) -> Result<(), ProduceErrorKind> {
        self.shared.accept(message, None, Duration::ZERO).map(drop)
    }

    /// As [`produce`](Self::produce), and gives a handle to wait for the message's fate, which then goes to no
    /// callback.
    ///
    /// # Errors
    /// As [`produce`](Self::produce).
    // Inlined, a message with a handle takes 0.104 us in place of 0.119 (`producer_perf --handles`).
    #[inline(always)]
    pub fn produce_with_handle<'a>(&self, message: impl Into<Message<'a>>) -> Result<DeliveryHandle, ProduceError> {
        let mut message = message.into();
        // A name becomes a topic that the message owns.
        let borrows = message.topic.checked().is_some() && only_borrows(&message);
        // Left where it was made: to move it would mean to wait until it is written.
        match self.shared.accept_with_handle(&mut message) {
            Ok(handle) => {
                if borrows {
                    mem::forget(message);
                }
                Ok(handle)
            }
            Err(kind) => Err(ProduceError::new(kind, message)),
        }
    }

    /// Makes all queued messages leave now. Does not wait for them.
    pub fn deliver_messages(&self) {
        if !self.shared.gate.forked() {
            self.shared.gate.deliver();
        }
    }

    /// Makes all queued messages leave now, and blocks until each message that was accepted before the call has its
    /// fate and its callback has returned, for at most `timeout`.
    ///
    /// # Errors
    /// - [`FlushError::Timeout`]: some have none yet; they go on.
    /// - [`FlushError::InCallback`]: it was called inside a delivery callback of this producer.
    /// - [`FlushError::OnWorker`]: it was called inside a partitioner, a logger or a panic hook, on this producer's
    ///   worker.
    /// - [`FlushError::AfterFork`]: the process forked; make a new producer in the child.
    pub fn flush(&self, timeout: Duration) -> Result<FlushReport, FlushError> {
        let in_callback = Some(FlushError::InCallback);
        let gate = self.shared.gate_to_wait_at(FlushError::AfterFork, FlushError::OnWorker, in_callback)?;
        match gate.flush(timeout) {
            Ok(Totals { delivered, failed, given_up }) => Ok(FlushReport { delivered, failed: failed + given_up }),
            Err(left) => Err(FlushError::Timeout { unfinished: left.messages, last_error: left.last_error }),
        }
    }

    /// Takes back the messages that wait to be sent, and of which no socket ever took a byte. A message that a
    /// connection has got goes on, even if its socket has not taken the first byte yet, because it may at any moment;
    /// so does a message that was written and waits to be sent again. The error of every message taken back is
    /// [`Purged`](DeliveryErrorKind::Purged). A message with a handle is not returned: its handle has the error. No
    /// callback is called.
    ///
    /// Blocks until the worker has done it, usually for a moment, for at most 5 s.
    ///
    /// # Errors
    /// - [`PurgeError::Timeout`]: a partitioner, a logger or a panic hook blocks the worker.
    /// - [`PurgeError::OnWorker`]: it was called inside a partitioner, a logger or a panic hook, on this producer's
    ///   worker.
    /// - [`PurgeError::AfterFork`]: the process forked; the messages are the parent's.
    pub fn purge(&self) -> Result<Undelivered, PurgeError> {
        let gate = self.shared.gate_to_wait_at(PurgeError::AfterFork, PurgeError::OnWorker, None)?;
        gate.purge(PURGE_WITHIN).map(Undelivered::from).ok_or(PurgeError::Timeout(PURGE_WITHIN))
    }

    /// Takes no more messages, delivers all that were accepted, and ends the threads. Blocks until every message has
    /// its fate and every callback has returned, for at most `shutdown_timeout` if one is set. Without one, each
    /// message has its fate at the latest when its `delivery_timeout` has passed, but the call waits without end for a
    /// callback or a partitioner that never returns.
    ///
    /// It may be called again, and from several threads: all calls wait for the same end and get the counts, and the
    /// first gets the messages.
    ///
    /// # Errors
    /// - [`ShutdownError::InCallback`]: it was called inside a delivery callback of this producer.
    /// - [`ShutdownError::OnWorker`]: it was called inside a partitioner, a logger or a panic hook, on this producer's
    ///   worker.
    /// - [`ShutdownError::AfterFork`]: the process forked; the producer belongs to the parent.
    #[doc(alias = "close")]
    pub fn shutdown(&self) -> Result<ShutdownReport, ShutdownError> {
        self.shared.shutdown(self.shared.queue.shutdown_timeout)
    }

    /// As [`shutdown`](Self::shutdown), but gives up the messages that have no fate after `timeout`. They come back in
    /// the report, and each says if it may be in the log; the error of a message with a handle goes to the handle. A
    /// callback that is still running then is not waited for.
    ///
    /// The worker has 2 s more to hand them back. If it does not, because a partitioner, a logger or a panic hook never
    /// returns to it, its messages are [`out_of_reach`](ShutdownReport::out_of_reach), a line in the log says so, and
    /// its thread is left behind.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub fn shutdown_within(&self, timeout: Duration) -> Result<ShutdownReport, ShutdownError> {
        self.shared.shutdown(Some(timeout))
    }

    /// The number of messages in the queue: those that were never written to a socket. It is 0 in a forked child,
    /// because the messages are the parent's.
    #[must_use]
    pub fn queue_size(&self) -> usize {
        if self.shared.gate.forked() { 0 } else { self.shared.gate.with(|state| state.queue.held()) }
    }

    /// The error that keeps messages from being delivered: the last one met of those that are not over. Each topic,
    /// partition and broker has its own error, which ends with its own success, or ten seconds after nothing waits for
    /// it any more. `None` if there is none, and in a forked child.
    ///
    /// A wait for a topic that does not exist, for a leader, or for a broker's quota counts, too.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<DeliveryErrorKind>> {
        if self.shared.gate.forked() { None } else { self.shared.gate.with(|state| state.last_error.clone()) }
    }

    /// The number of partitions of a topic. Blocks until a broker has told it, for at most `timeout`. Starts the
    /// threads if no message did before.
    ///
    /// # Errors
    /// - [`MetadataError::Timeout`]: no broker told in time; a topic that does not exist ends here too.
    /// - [`MetadataError::InvalidTopic`]: no topic can have this name.
    /// - [`MetadataError::OnWorker`]: it was called inside a partitioner, a logger or a panic hook, on this producer's
    ///   worker.
    /// - [`MetadataError::Closed`], [`MetadataError::AfterFork`], [`MetadataError::Fatal`]: make a new producer.
    /// - [`MetadataError::Start`]: the system had no thread or descriptor left.
    pub fn partitions_for(&self, topic: &str, timeout: Duration) -> Result<i32, MetadataError> {
        let gate = self.shared.gate_to_wait_at(MetadataError::AfterFork, MetadataError::OnWorker, None)?;
        if gate.with(|state| state.queue.phase()) == Phase::Idle {
            self.shared.start().map_err(MetadataError::Start)?;
        }
        gate.partitions(topic, timeout).map_err(|unanswered| match unanswered {
            Unanswered::Timeout(last_error) => MetadataError::Timeout { after: timeout, last_error },
            Unanswered::InvalidTopic(error) => MetadataError::InvalidTopic(error),
            Unanswered::Closed => MetadataError::Closed,
            Unanswered::Fatal(error) => MetadataError::Fatal(error),
        })
    }
}

impl Shared {
    #[inline]
    fn accept_or_return(&self, message: Message<'_>, wait: Duration) -> Result<(), ProduceError> {
        // Asked before the call: the compiler knows the answer here, where the message was just made, and not behind
        // the call.
        let borrows = only_borrows(&message);
        match self.accept(&message, None, wait) {
            Ok(_) => {
                if borrows {
                    mem::forget(message);
                }
                Ok(())
            }
            Err(kind) => Err(ProduceError::new(kind, message)),
        }
    }

    #[inline(never)]
    fn accept_with_handle(&self, message: &mut Message<'_>) -> Result<DeliveryHandle, ProduceErrorKind> {
        let topic = message.check_topic().map_err(ProduceErrorKind::InvalidTopic)?;
        let lookout = slot::await_fate(&self.gate);
        let ticket = self.accept(message, Some(lookout.slot()), self.usual_wait())?;
        Ok(DeliveryHandle::new(lookout, ticket, topic, message.tag))
    }

    #[inline]
    fn accept(&self, message: &Message<'_>, slot: Option<Slot<'_>>, wait: Duration) -> Result<u64, ProduceErrorKind> {
        self.gate.offer(message, clock::timestamp(), slot, wait, &|| self.start())
    }

    fn usual_wait(&self) -> Duration {
        match self.queue.on_overflow {
            OnOverflow::Refuse => Duration::ZERO,
            OnOverflow::Block(wait) => wait,
        }
    }

    /// The gate, for a call that waits: an error in a fork, and on a thread for which it would wait.
    fn gate_to_wait_at<E>(&self, after_fork: E, on_worker: E, in_callback: Option<E>) -> Result<&Gate, E> {
        if self.gate.forked() {
            return Err(after_fork);
        }
        let refused = match threads::role(self.gate.id()) {
            Some(Role::Worker) => Some(on_worker),
            Some(Role::Delivery) => in_callback,
            None => None,
        };
        refused.map_or(Ok(&*self.gate), Err)
    }

    fn start(&self) -> io::Result<()> {
        let mut threads = self.threads.lock();
        // Another caller may have been faster, and shutdown may have ended the threads that it started.
        if !self.gate.started() {
            *threads = Some(threads::start(&self.gate, &self.client, &self.producer, &self.queue, &self.callback)?);
        }
        Ok(())
    }

    fn shutdown(&self, timeout: Option<Duration>) -> Result<ShutdownReport, ShutdownError> {
        let in_callback = Some(ShutdownError::InCallback);
        let gate = self.gate_to_wait_at(ShutdownError::AfterFork, ShutdownError::OnWorker, in_callback)?;
        let first = gate.with(State::claim);
        let until = timeout.map_or(Deadline::NEVER, |timeout| Deadline::after(clock::now(), timeout));
        gate.close();
        if !gate.wait_ended(Ended::All, until) {
            gate.abandon(Abandon::ToReport);
            // Soon: the worker waits for nothing but its sockets, unless the user's code holds it.
            if !gate.wait_ended(Ended::Worker, Deadline::after(clock::now(), HAND_BACK_WITHIN)) {
                if let Some((totals, unfinished)) = gate.leave_behind(first) {
                    return Ok(Self::left_behind(totals, unfinished));
                }
            }
        }
        self.join();
        let remains = if first { gate.with(State::take_remains) } else { Default::default() };
        let Totals { delivered, failed, given_up } = gate.with(|state| state.totals);
        Ok(ShutdownReport {
            delivered,
            failed,
            given_up,
            out_of_reach: 0,
            undelivered: remains.undelivered.into(),
            failures: remains.failures.into(),
            failures_dropped: remains.failures_dropped,
        })
    }

    /// The report as far as it is known while the worker does not come to its end.
    fn left_behind(Totals { delivered, failed, given_up }: Totals, unfinished: u64) -> ShutdownReport {
        // The worker also has the messages that it has reported as given up.
        let out_of_reach = given_up + unfinished;
        log::warn!(
            "{out_of_reach} messages cannot be handed back by shutdown: the worker did not end within \
             {HAND_BACK_WITHIN:?} of its time, a partitioner, a logger or a panic hook blocks it; its thread is left behind"
        );
        ShutdownReport { delivered, failed, given_up: out_of_reach, out_of_reach, ..Default::default() }
    }

    fn join(&self) {
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            threads.join(&self.gate);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // First of all: in a forked child the gate's lock may be locked for ever.
        if self.gate.forked() {
            // To let go of the parent's threads could let go of threads that this process started since, because the
            // system uses their memory, which is their name, again.
            mem::forget(self.threads.get_mut().take());
            return;
        }
        if !self.gate.started() {
            return;
        }
        let gate = &self.gate;
        gate.close();
        if threads::role(gate.id()).is_some() {
            return;
        }
        let now = clock::now();
        if !gate.wait_ended(Ended::All, Deadline::after(now, self.queue.drop_timeout)) {
            gate.abandon(Abandon::ToCallback);
            gate.wait_ended(Ended::All, Deadline::after(clock::now(), AFTER_DROP));
        }
        let (remains, left, totals) = gate.with(|state| (state.take_remains(), state.unfinished(), state.totals));
        let lost = totals.given_up + left.messages;
        if lost > 0 && gate.with(State::claim) {
            let cause = left.last_error.map_or_else(|| "no error was seen".to_owned(), |error| error.to_string());
            log::warn!(
                "a producer was dropped without shutdown, and {lost} messages were not delivered within drop_timeout \
                 ({:?}): {cause}",
                self.queue.drop_timeout
            );
        }
        drop(remains);
        self.join();
    }
}

impl fmt::Debug for AsyncProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncProducer").field("client_id", &self.shared.client.client_id).finish_non_exhaustive()
    }
}

/// The worker needs only a moment of it; the rest is for a machine with much to do.
const PURGE_WITHIN: Duration = Duration::from_secs(5);
const HAND_BACK_WITHIN: Duration = Duration::from_secs(2);
/// The time that the last clone's drop waits until the errors of given-up messages have reached handles and callbacks.
const AFTER_DROP: Duration = Duration::from_millis(200);

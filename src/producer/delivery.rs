//! The handle of one message, with which a caller waits for its fate.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{DeliveryError, DeliveryErrorKind, Persistence};
use crate::fate::slot::Awaited;
use crate::fate::{Delivered, Fate, Outcome, Receipt};
use crate::message::{Message, Topic};
use crate::threads::clock;
use crate::threads::watch::Caller;

/// A handle to wait for the fate of one message, from
/// [`AsyncProducer::produce_with_handle`](crate::AsyncProducer::produce_with_handle).
///
/// Dropping it changes nothing for the message. A handle does not keep its producer alive, and may outlive it: then it
/// already has the message's fate.
///
/// The handles of one thread share memory, thirty at a time, so a single handle holds about 1 KiB.
#[must_use = "it has the message's fate; `produce` is for messages that are not waited for"]
pub struct DeliveryHandle {
    lookout: Awaited,
    ticket: u64,
    topic: Topic,
    tag: u64,
}

impl DeliveryHandle {
    pub(super) fn new(lookout: Awaited, ticket: u64, topic: Topic, tag: u64) -> Self {
        Self { lookout, ticket, topic, tag }
    }

    /// Makes the message leave now, and blocks until it has its fate: at the latest a little after
    /// `delivery_timeout`.
    ///
    /// A caller that waits alone looks for the fate again and again for up to 50 us before it sleeps, as long as
    /// brokers answer that soon: a wake-up takes about as long.
    ///
    /// Inside a delivery callback this works too, and holds up the callbacks behind it. But messages keep their place
    /// in the buffer until their callback has returned. With a full buffer the awaited message does not leave
    /// meanwhile, and fails when its `delivery_timeout` has passed. Prefer to end the callback, and to learn the fate
    /// by another callback.
    ///
    /// On the producer's worker, which also calls partitioners, loggers and panic hooks, it would wait for itself: it
    /// returns [`OnWorker`](DeliveryErrorKind::OnWorker) at once. While such a partitioner, logger or panic hook does
    /// not return, no message gets a fate, and no timeout passes except that of [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    /// The message was not delivered; it comes back in the error. With [`OnWorker`](DeliveryErrorKind::OnWorker) and
    /// [`AfterFork`](DeliveryErrorKind::AfterFork) its fate is not known here, and the error has only its topic and
    /// tag.
    #[doc(alias = "join")]
    pub fn wait(mut self) -> Fate {
        if let Ok(outcome) = self.lookout.look() {
            return self.told(outcome);
        }
        if !self.make_due() {
            return self.refused();
        }
        self.wait_until(Deadline::NEVER).unwrap_or_else(Self::orphaned)
    }

    /// As [`wait`](Self::wait), for at most `timeout`; on the producer's worker it does not wait.
    ///
    /// # Errors
    /// [`WaitTimeout`], if the message has no fate yet. It has the handle, to wait again.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use ottla::{AsyncProducer, Message};
    ///
    /// fn store(producer: &AsyncProducer, order: &str) -> Result<(), Box<dyn std::error::Error>> {
    ///     let handle = producer.produce_with_handle(Message::new("orders", order))?;
    ///     // The first `?` is for a time that was too short, the second for a message that was not delivered.
    ///     let delivered = handle.wait_timeout(Duration::from_secs(5))??;
    ///     println!("{order} is in partition {}", delivered.partition);
    ///     Ok(())
    /// }
    /// ```
    pub fn wait_timeout(mut self, timeout: Duration) -> Result<Fate, WaitTimeout> {
        if let Ok(outcome) = self.lookout.look() {
            return Ok(self.told(outcome));
        }
        if !self.make_due() {
            return Err(WaitTimeout { handle: self, waited: Duration::ZERO });
        }
        let until = Deadline::after(clock::now(), timeout);
        self.wait_until(until).map_err(|handle| WaitTimeout { handle, waited: timeout })
    }

    /// The message's fate, if it has one. Never blocks, and does not make the message leave.
    ///
    /// # Errors
    /// The handle itself, if the message has no fate yet.
    pub fn try_get(mut self) -> Result<Fate, Self> {
        let seen = self.lookout.look();
        self.seen(seen)
    }

    /// Makes all these messages leave now, together, and blocks until each has its fate: at the latest a little after
    /// `delivery_timeout`. The fates are in the order of the handles.
    ///
    /// As [`wait`](Self::wait) for each: on the producer's worker it does not wait, and each fate is
    /// [`OnWorker`](DeliveryErrorKind::OnWorker).
    #[must_use = "a message that was not delivered is in its fate"]
    pub fn wait_all(handles: impl IntoIterator<Item = Self>) -> Vec<Fate> {
        let handles: Vec<Self> = handles.into_iter().collect();
        for handle in &handles {
            handle.make_due();
        }
        handles.into_iter().map(Self::wait).collect()
    }

    /// Returns `true` if this thread may wait for the fate.
    fn make_due(&self) -> bool {
        // Without a producer it has its fate.
        let Some(producer) = self.lookout.owner().filter(|_| !self.lookout.forked()) else { return true };
        producer.due(self.ticket);
        !producer.works_here()
    }

    fn wait_until(mut self, until: Deadline) -> Result<Fate, Self> {
        if self.lookout.forked() {
            return self.try_get().or_else(|handle| Ok(handle.orphaned()));
        }
        let waiting = Caller::begin();
        let soon = waiting.watch(until, || match self.lookout.look() {
            Err(TryRecvError::Empty) => None,
            seen => Some(seen),
        });
        let seen = soon.unwrap_or_else(|| self.lookout.wait(until.moment()));
        self.seen(seen)
    }

    #[inline]
    fn seen(self, seen: Result<Outcome, TryRecvError>) -> Result<Fate, Self> {
        match seen {
            Ok(outcome) => Ok(self.told(outcome)),
            Err(TryRecvError::Disconnected) => Ok(self.orphaned()),
            Err(TryRecvError::Empty) => Err(self),
        }
    }

    #[inline]
    fn told(self, outcome: Outcome) -> Fate {
        let Self { topic, tag, .. } = self;
        outcome.map(|Receipt { partition, offset, timestamp }| Delivered { topic, partition, offset, timestamp, tag })
    }

    /// Nobody will put a fate in: the message belongs to another process, or was lost to a fault inside ottla.
    fn orphaned(self) -> Fate {
        let kind = match self.lookout.forked() {
            true => DeliveryErrorKind::AfterFork,
            false => DeliveryErrorKind::Internal("the message was lost".to_owned()),
        };
        self.unknown(kind)
    }

    /// It would wait for the thread that it is on. The fate goes on as if nobody had the handle.
    fn refused(self) -> Fate {
        self.unknown(DeliveryErrorKind::OnWorker)
    }

    fn unknown(self, kind: DeliveryErrorKind) -> Fate {
        let mut message = Message::bare(self.topic.into(), None, None);
        message.tag = self.tag;
        Err(DeliveryError::new(Arc::new(kind), Persistence::Possibly, message))
    }
}

impl fmt::Debug for DeliveryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryHandle").field("topic", &self.topic).field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// A message had no fate yet when the time of [`DeliveryHandle::wait_timeout`] was up. It goes on, and its handle is in
/// the error.
#[derive(Debug)]
pub struct WaitTimeout {
    handle: DeliveryHandle,
    /// Zero on the producer's worker, where nothing can be waited for.
    waited: Duration,
}

impl WaitTimeout {
    /// Takes the handle back, to wait again.
    pub fn into_handle(self) -> DeliveryHandle {
        self.handle
    }
}

impl fmt::Display for WaitTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message to {} has no fate yet", self.handle.topic)?;
        if self.waited.is_zero() {
            return Ok(());
        }
        write!(f, ", after {:?}; it goes on until its delivery_timeout: wait again with its handle", self.waited)
    }
}

impl Error for WaitTimeout {}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::{OnOverflow, ProducerConfig, QueueConfig};
    use crate::error::tests::assert_text;
    use crate::fate::slot;
    use crate::fate::slot::testing::Kept;
    use crate::threads::producer::gate::Gate;

    #[cfg(not(shuttle))]
    #[test]
    fn a_handle_is_send_and_may_cross_a_caught_panic() {
        fn holds<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
        holds::<DeliveryHandle>();
    }

    #[test]
    fn a_fate_is_there_once_it_is_filled_in() {
        let (handle, slot) = handle();
        let handle = handle.try_get().expect_err("no fate yet");
        let handle = handle.wait_timeout(Duration::from_millis(1)).expect_err("no fate yet").into_handle();
        slot.deliver(receipt());
        assert_eq!(handle.try_get().expect("a fate").expect("delivered").offset, Some(7));
    }

    #[test]
    fn a_wait_that_is_too_short_is_an_error_that_holds_the_handle() {
        fn store(handle: DeliveryHandle) -> Result<Delivered, Box<dyn Error + Send + Sync>> {
            Ok(handle.wait_timeout(Duration::from_millis(1))??)
        }
        let (handle, slot) = handle();
        let error = store(handle).expect_err("no fate yet");
        assert_text(
            &error,
            "a message to orders has no fate yet, after 1ms; it goes on until its delivery_timeout: wait again with its \
             handle",
        );
        let handle = error.downcast::<WaitTimeout>().expect("it is the error of the wait").into_handle();
        assert_text(WaitTimeout { handle, waited: Duration::ZERO }, "a message to orders has no fate yet");
        drop(slot);
    }

    #[test]
    fn a_waiting_caller_is_woken() {
        let (handle, slot) = handle();
        let waiting = spawn(move || handle.wait());
        slot.deliver(receipt());
        assert_eq!(waiting.join().expect("no panic").expect("delivered").tag, 3);
    }

    #[test]
    fn a_timeout_without_end_does_not_overflow() {
        let (handle, slot) = handle();
        slot.deliver(receipt());
        assert!(handle.wait_timeout(Duration::MAX).expect("a fate").is_ok());
    }

    #[test]
    fn a_lost_message_ends_the_wait() {
        let (handle, slot) = handle();
        drop(slot);
        let error = handle.wait().expect_err("lost");
        assert!(matches!(error.kind(), DeliveryErrorKind::Internal(_)), "{error}");
        assert_eq!((error.persistence(), error.message().tag()), (Persistence::Possibly, 3));
    }

    #[test]
    fn many_handles_answer_in_their_order() {
        let (handles, slots): (Vec<_>, Vec<_>) = (0..3).map(|_| handle()).unzip();
        for (slot, offset) in slots.into_iter().rev().zip([2, 1, 0]) {
            slot.deliver(Receipt { offset: Some(offset), ..receipt() });
        }
        let fates = DeliveryHandle::wait_all(handles);
        let offsets: Vec<_> = fates.into_iter().map(|fate| fate.expect("delivered").offset).collect();
        assert_eq!(offsets, [Some(0), Some(1), Some(2)]);
    }

    fn handle() -> (DeliveryHandle, Kept) {
        let queue = QueueConfig {
            max_queue_size: 10,
            max_queue_bytesize: 1000,
            delivery_threshold: 0,
            delivery_interval: Duration::ZERO,
            shutdown_timeout: None,
            drop_timeout: Duration::ZERO,
            on_overflow: OnOverflow::Refuse,
        };
        let gate = Arc::new(Gate::new(&queue, &ProducerConfig::default()));
        let lookout = slot::await_fate(&gate);
        let slot = Kept::of(&lookout);
        let topic = Topic::new("orders").expect("a good name");
        (DeliveryHandle::new(lookout, 0, topic, 3), slot)
    }

    fn receipt() -> Receipt {
        Receipt { partition: 0, offset: Some(7), timestamp: None }
    }

    #[expect(clippy::disallowed_methods, reason = "one thread waits, another fills in")]
    fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        thread::spawn(run)
    }
}

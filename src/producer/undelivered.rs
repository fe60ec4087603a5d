//! [`Undelivered`]: the messages that a producer hands back. Owns the batches that they are in, and decodes each when
//! it is asked for, because owned messages take many times the memory of their records, if they are small.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;

use crate::engine::producer::FailedMessages;
use crate::error::{DeliveryError, DeliveryErrorKind};

/// Messages that were not delivered, handed back: an iterator that makes each one as it goes. Each comes as an error
/// with the reason, and says if the message may be in the log.
///
/// It holds the messages as densely as the queue did, a batch until its last message was taken. Collected, small ones
/// take about ten times that: rather take them one by one. Those that are left when it is dropped are gone.
///
/// ```no_run
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let producer = ottla::Client::builder(["localhost:9092"]).build()?.async_producer().build()?;
/// let report = producer.shutdown_within(Duration::from_secs(5))?;
/// println!("{} messages were given up", report.undelivered.len());
/// for error in report.undelivered {
///     eprintln!("{error}");
///     let message = error.into_message();
///     println!("{}\t{}", message.topic(), String::from_utf8_lossy(message.value().unwrap_or_default()));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "these messages will not be delivered"]
pub struct Undelivered {
    /// In their order; each has at least one message left.
    batches: VecDeque<FailedMessages>,
    len: usize,
}

impl Undelivered {
    /// The number of messages that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// `true` if no message is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies of the messages that are left, made as it goes; they stay.
    pub fn iter(&self) -> impl Iterator<Item = DeliveryError> {
        self.batches.iter().flat_map(FailedMessages::iter)
    }

    /// All messages that are left, each owning its bytes.
    #[must_use = "these messages will not be delivered"]
    pub fn into_vec(self) -> Vec<DeliveryError> {
        self.collect()
    }

    /// The reason why the first one was not delivered.
    pub(crate) fn kind(&self) -> Option<&DeliveryErrorKind> {
        self.batches.front()?.kind().map(|kind| &**kind)
    }
}

impl Iterator for Undelivered {
    type Item = DeliveryError;

    fn next(&mut self) -> Option<DeliveryError> {
        let batch = self.batches.front_mut()?;
        let error = batch.next();
        self.len -= usize::from(error.is_some());
        if batch.len() == 0 {
            self.batches.pop_front();
        }
        error
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len, Some(self.len))
    }
}

impl ExactSizeIterator for Undelivered {}

impl FusedIterator for Undelivered {}

impl From<Vec<FailedMessages>> for Undelivered {
    fn from(batches: Vec<FailedMessages>) -> Self {
        let batches: VecDeque<FailedMessages> = batches.into_iter().filter(|batch| batch.len() > 0).collect();
        let len = batches.iter().map(FailedMessages::len).sum();
        Self { batches, len }
    }
}

impl fmt::Debug for Undelivered {
    /// Their number, and why the first was not delivered; never the messages themselves.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered").field("len", &self.len).field("first", &self.kind()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Persistence;

    fn undelivered() -> Undelivered {
        let purged = |values: &[&str]| FailedMessages::of(values, DeliveryErrorKind::Purged, Persistence::No);
        let failed = FailedMessages::of(&["c"], DeliveryErrorKind::Internal("boom".into()), Persistence::Possibly);
        vec![purged(&[]), purged(&["a", "b"]), failed, purged(&["d"]), purged(&[])].into()
    }

    fn values(errors: impl Iterator<Item = DeliveryError>) -> Vec<String> {
        let text = |error: DeliveryError| String::from_utf8_lossy(error.message().value().unwrap()).into_owned();
        errors.map(text).collect()
    }

    #[test]
    fn each_comes_once_in_order_and_the_number_left_is_known() {
        let mut left = undelivered();
        for (expected, value) in (1..=4).rev().zip(["a", "b", "c", "d"]) {
            assert_eq!((left.len(), left.size_hint(), left.is_empty()), (expected, (expected, Some(expected)), false));
            let error = left.next().unwrap();
            assert_eq!(error.message().value(), Some(value.as_bytes()));
            let persistence = if value == "c" { Persistence::Possibly } else { Persistence::No };
            assert_eq!((error.persistence(), error.message().topic()), (persistence, "orders"));
        }
        assert!(left.is_empty() && left.next().is_none() && left.next().is_none());
        assert!(Undelivered::default().next().is_none());
    }

    #[test]
    fn a_look_takes_nothing() {
        let mut left = undelivered();
        assert_eq!(values(left.iter()), ["a", "b", "c", "d"]);
        left.next();
        assert_eq!(values(left.iter()), ["b", "c", "d"]);
        assert_eq!(values(left.into_vec().into_iter()), ["b", "c", "d"]);
    }

    #[test]
    fn a_batch_goes_with_its_last_message() {
        let mut left = undelivered();
        let batches = |left: &Undelivered| left.batches.len();
        assert_eq!(batches(&left), 3);
        let after: Vec<_> = (0..4).map(|_| (left.next().is_some(), batches(&left))).collect();
        assert_eq!(after, [(true, 3), (true, 2), (true, 1), (true, 0)]);
    }

    #[test]
    fn the_debug_form_says_how_many_and_why_and_not_what() {
        let text = format!(
            "{:?}",
            Undelivered::from(vec![FailedMessages::of(&["secret"], DeliveryErrorKind::Purged, Persistence::No)])
        );
        assert_eq!(text, "Undelivered { len: 1, first: Some(Purged), .. }");
    }
}

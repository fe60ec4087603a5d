//! Bugs that can be planted, one at a time, to see that the simulation finds them. They are not in the client: they
//! sit where it meets its callers, the wires and its own threads, and make it behave exactly as a client with that bug
//! would.

use std::collections::HashMap;

use crate::check::Anomaly;
use crate::frames::Found;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The last batch is forgotten when the queue is closed.
    DropLastBatchAtShutdown,
    /// A batch that is sent again gets a new sequence.
    ResendWithNewSequence,
    /// What was under way when a connection ended counts as delivered.
    AcknowledgeAfterCut,
    /// The messages of a batch that was too large are forgotten.
    ForgetTooLarge,
    /// A queue place is given back twice.
    ReleaseTwice,
    /// A handle is told twice.
    CompleteTwice,
    /// Batches have the sequence of their arrival, so that a refused one is let past by those behind it.
    RetryOutOfOrder,
    /// What waits in the queue is lost when the loop restarts after a panic.
    LoseOpenChunkAfterPanic,
    /// A sleeping worker is not always woken.
    LoseWakeUp,
    /// A flush returns when the worker took the messages.
    FlushEarly,
    /// A purge hands back what a socket already took.
    PurgeWritten,
    /// A failed message is always said not to be in the log.
    FailForCertain,
    /// The timer is not told of the first message.
    TimerNotArmed,
    /// All messages of a batch are said to be at its first offset.
    FirstOffsetForAll,
}

impl Bug {
    /// Each, with what may be seen of it.
    pub const ALL: [(Self, &'static [Anomaly]); 14] = [
        (Self::DropLastBatchAtShutdown, &[Anomaly::NoOutcome, Anomaly::LostWrite]),
        (Self::ResendWithNewSequence, &[Anomaly::Duplicate]),
        (Self::AcknowledgeAfterCut, &[Anomaly::LostWrite, Anomaly::InconsistentOffset]),
        (Self::ForgetTooLarge, &[Anomaly::NoOutcome]),
        (Self::ReleaseTwice, &[Anomaly::WrongPlaces]),
        (Self::CompleteTwice, &[Anomaly::TwoOutcomes]),
        (Self::RetryOutOfOrder, &[Anomaly::Reordering]),
        (Self::LoseOpenChunkAfterPanic, &[Anomaly::NoOutcome, Anomaly::LostWrite]),
        (Self::LoseWakeUp, &[Anomaly::LostWakeUp]),
        (Self::FlushEarly, &[Anomaly::NoOutcome]),
        (Self::PurgeWritten, &[Anomaly::FalseNotPersisted, Anomaly::TwoOutcomes]),
        (Self::FailForCertain, &[Anomaly::FalseNotPersisted]),
        (Self::TimerNotArmed, &[Anomaly::LostWakeUp]),
        (Self::FirstOffsetForAll, &[Anomaly::InconsistentOffset]),
    ];
}

/// The sequences of a client that numbers otherwise, for each partition of a topic and each producer id and epoch.
#[derive(Debug, Default)]
pub struct Sequences {
    next: HashMap<Key, i32>,
    /// What a batch got, by its own sequence.
    given: HashMap<(Key, i32), i32>,
}

/// The topic by its first message, which the caller knows.
pub type Key = (bool, i32, i64, i16);

impl Sequences {
    /// The next sequence of the partition, whatever the batch had before.
    pub fn by_send(&mut self, key: Key, batch: &Found) -> i32 {
        let next = self.next.entry(key).or_default();
        let given = *next;
        *next += batch.ids.len() as i32;
        given
    }

    /// The sequence that the batch had when it arrived first, or the next.
    pub fn by_arrival(&self, key: Key, batch: &Found) -> i32 {
        let given = self.given.get(&(key, batch.base_sequence));
        given.or_else(|| self.next.get(&key)).copied().unwrap_or(0)
    }

    /// The batch was appended.
    pub fn arrived(&mut self, key: Key, batch: &Found) {
        let next = self.next.entry(key).or_default();
        if self.given.insert((key, batch.base_sequence), *next).is_none() {
            *next += batch.ids.len() as i32;
        }
    }
}

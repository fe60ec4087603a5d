//! Bugs that can be planted, one at a time, to see that the simulation finds them. They are not in the source of the
//! client: they sit on its ways from callers to the worker, from the engine to handles and callbacks, and from the
//! sockets and back, and change what passes there as a client with that bug would. What callers are told and what the
//! brokers store is never touched by them.

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
    /// The fate of a batch that was too large is lost on its way out of the engine.
    ForgetTooLarge,
    /// A queue place is given back twice.
    ReleaseTwice,
    /// A handle is filled twice, before or after its caller has looked.
    CompleteTwice,
    /// Batches have the sequence of their arrival, so that a refused one is let past by those behind it.
    RetryOutOfOrder,
    /// What waits in the queue is lost when the loop restarts after a panic.
    LoseOpenChunkAfterPanic,
    /// A sleeping worker is not always woken.
    LoseWakeUp,
    /// A flush returns when the worker took the messages.
    FlushEarly,
    /// What a socket took counts as written only once it was answered: a purge hands it back, and a failure is certain.
    NotWrittenUntilAnswered,
    /// What is encrypted counts as written only once it is known that the socket took it.
    NotStartedUntilWritten,
    /// A failed message is always said not to be in the log.
    FailForCertain,
    /// The timer is not told of the first message.
    TimerNotArmed,
    /// The records that a broker refuses are counted from one.
    BlameTheNeighbour,
    /// The offset that a broker tells is taken for that of the last message of a batch.
    OffsetOfTheLast,
}

impl Bug {
    /// Each, with what may be seen of it.
    pub const ALL: [(Self, &'static [Anomaly]); 16] = [
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
        (Self::NotWrittenUntilAnswered, &[Anomaly::FalseNotPersisted]),
        (Self::NotStartedUntilWritten, &[Anomaly::FalseNotPersisted]),
        (Self::FailForCertain, &[Anomaly::FalseNotPersisted]),
        (Self::TimerNotArmed, &[Anomaly::LostWakeUp]),
        (Self::BlameTheNeighbour, &[Anomaly::FalseBlame]),
        (Self::OffsetOfTheLast, &[Anomaly::InconsistentOffset]),
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

//! Messages of one partition that are sent, answered and retried together.

use std::sync::Arc;
use std::time::Instant;

use super::leadership::Leadership;
use super::verdict::Doubt;
use crate::deadline::Deadline;
use crate::error::{DeliveryErrorKind, Persistence};
use crate::ids::TopicIndex;
use crate::queue::entry::Entry;
use crate::queue::extras::Extras;
use crate::record::batch::{BatchBuilder, HEADER_LEN, Records, Stamp};
use crate::record::tail;
use crate::wire::frame::RequestId;

/// A batch, from its first message to its fate.
#[derive(Debug)]
pub struct Batch {
    body: Body,
    /// The moment until which it takes messages.
    pub takes_until: Deadline,
    /// The extras of the few messages that have some.
    pub extras: Extras,
    /// Bytes of the extras that have gone out with a report.
    reported: usize,
    /// Ticket of its oldest message.
    pub first_ticket: u64,
    /// The time at which its first message became due.
    pub due: Instant,
    /// The moment at which its messages fail.
    pub deadline: Deadline,
    /// `true` if the deadline was put off, because nobody had looked for the answer.
    pub was_extended: bool,
    /// The places of its messages in the queue, and the bytes that it takes beside them, until it is first written;
    /// zero messages once they let go.
    pub queued: Queued,
    /// Its state: waiting, or in flight with a request.
    pub state: BatchState,
    /// The leader that it was last sent to.
    pub sent_to: Leadership,
    /// Attempts that were made.
    pub attempts: u32,
    /// `true` if its first byte was ever accepted by a socket.
    pub written: bool,
    /// The doubt that its attempts leave, under the stamp that it has.
    pub doubt: Doubt,
    /// `true` if it may be in the log of a topic that was deleted and whose name another topic has now.
    pub in_deleted: bool,
    /// `true` if its messages were already reported as possibly written: it is only kept to settle its sequence.
    pub ghost: bool,
    /// Whether a broker answered it with a code that nobody knows.
    pub had_unknown_code: bool,
    /// Whether it goes out again under the next epoch, because something before it did not get its sequence.
    pub restamp: bool,
    /// The error of the last attempt.
    pub last_error: Option<Arc<DeliveryErrorKind>>,
    /// Producer id, epoch and sequence that it was first sent with.
    pub stamp: Option<Stamp>,
    /// The header for that stamp, so that a retry sends the same bytes.
    header: Option<[u8; 61]>,
}

/// Places in the queue that are still held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: usize,
}

/// The state of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    /// It waits for its turn.
    Waiting,
    /// It was handed to this connection with this request.
    InFlight(RequestId),
}

#[derive(Debug)]
enum Body {
    Open(BatchBuilder),
    Sealed(Records),
}

impl Batch {
    /// An empty batch that uses this buffer.
    #[must_use]
    pub fn new(buffer: Vec<u8>, first_ticket: u64, due: Instant, deadline: Deadline) -> Self {
        Self {
            body: Body::Open(BatchBuilder::new(buffer)),
            takes_until: Deadline::NEVER,
            extras: Extras::default(),
            reported: 0,
            first_ticket,
            due,
            deadline,
            was_extended: false,
            queued: Queued::default(),
            state: BatchState::Waiting,
            sent_to: Leadership::default(),
            attempts: 0,
            written: false,
            doubt: Doubt::None,
            in_deleted: false,
            ghost: false,
            had_unknown_code: false,
            restamp: false,
            last_error: None,
            stamp: None,
            header: None,
        }
    }

    /// `true` if it takes a message that became due at this time.
    #[inline]
    #[must_use]
    pub fn takes(&self, due: Instant) -> bool {
        self.takes_until.moment().is_none_or(|until| due <= until)
    }

    /// A batch that callers have begun; it takes more messages. `queued` is the places that its messages hold in the
    /// queue.
    #[must_use]
    pub fn of_run(records: BatchBuilder, extras: Extras, queued: usize, first_ticket: u64, due: Instant) -> Self {
        let mut batch = Self::new(Vec::new(), first_ticket, due, Deadline::NEVER);
        batch.queued = Queued { messages: u64::from(records.count()), bytes: queued };
        (batch.body, batch.extras) = (Body::Open(records), extras);
        batch
    }

    /// Appends a message, if the batch is open and has at most `max` bytes with it, or if it is the first. Returns
    /// `true` if it was appended. `queued` is the bytes that it holds in the queue.
    #[inline]
    #[must_use = "what was not appended goes elsewhere"]
    pub fn append(&mut self, entry: &Entry<'_>, queued: usize, max: usize) -> bool {
        let Body::Open(builder) = &mut self.body else { return false };
        let index = builder.count();
        if !builder.append_within(max, entry.create_time, entry.tail) {
            return false;
        }
        self.extras.push_copy(index, entry.extra.as_ref());
        if queued > 0 {
            self.queued.messages += 1;
            self.queued.bytes += queued;
        }
        true
    }

    /// The number of messages.
    #[must_use]
    pub fn count(&self) -> u32 {
        match &self.body {
            Body::Open(builder) => builder.count(),
            Body::Sealed(records) => records.count(),
        }
    }

    /// Bytes on the wire, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Open(builder) => builder.len(),
            Body::Sealed(records) => records.len(),
        }
    }

    /// The latest time of its messages, in milliseconds.
    #[must_use]
    pub fn max_create_time(&self) -> i64 {
        match &self.body {
            Body::Open(builder) => builder.max_create_time(),
            Body::Sealed(records) => records.max_create_time(),
        }
    }

    /// Bytes that it holds in the buffer once it was sent: the memory that it has.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        let memory = match &self.body {
            Body::Open(builder) => HEADER_LEN + builder.capacity(),
            Body::Sealed(records) => records.memory(),
        };
        BATCH + memory + self.extras.bytes() + self.reported
    }

    /// Bytes of memory that it leaves unused, if it takes messages and they are many.
    #[must_use]
    pub fn unused(&self) -> Option<usize> {
        match &self.body {
            Body::Open(builder) if builder.is_wasteful() => {
                Some((builder.capacity() + HEADER_LEN).saturating_sub(builder.len()))
            }
            _ => None,
        }
    }

    /// Gives it memory of its size, if it takes messages and has far more, and returns the memory that it had.
    pub fn fit(&mut self) -> Option<Vec<u8>> {
        match &mut self.body {
            Body::Open(builder) if builder.is_wasteful() => Some(builder.fit()),
            _ => None,
        }
    }

    /// Makes its records unreadable, for tests of what a panic costs.
    #[cfg(test)]
    pub fn break_records(&mut self) {
        self.body = Body::Sealed(self.seal().broken());
    }

    /// `true` if it has no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// `true` if an answer is awaited.
    #[must_use]
    pub fn is_in_flight(&self) -> bool {
        matches!(self.state, BatchState::InFlight(..))
    }

    /// Its records; from now on it takes no more.
    pub fn seal(&mut self) -> &Records {
        if let Body::Open(builder) = &mut self.body {
            let builder = std::mem::replace(builder, BatchBuilder::new(Vec::new()));
            self.body = Body::Sealed(builder.finish());
        }
        match &self.body {
            Body::Sealed(records) => records,
            Body::Open(_) => unreachable!("sealed above"),
        }
    }

    /// The header under this stamp, computed at the first call for a stamp.
    pub fn header(&mut self, stamp: Stamp) -> [u8; 61] {
        match &self.header {
            Some(header) if self.stamp == Some(stamp) => *header,
            _ => {
                let header = self.seal().header(stamp);
                (self.stamp, self.header) = (Some(stamp), Some(header));
                header
            }
        }
    }

    /// `Possibly` if its messages may be in a log; `doubtful` says that an attempt under its stamp left a doubt.
    #[must_use]
    pub fn persistence(&self, doubtful: bool) -> Persistence {
        if doubtful || self.in_deleted { Persistence::Possibly } else { Persistence::No }
    }

    /// Makes it as if it was never sent, for the next epoch.
    pub fn forget_stamp(&mut self) {
        self.stamp = None;
        self.header = None;
        self.restamp = false;
        self.doubt = Doubt::None;
        self.state = BatchState::Waiting;
    }

    /// Its records and extras.
    #[must_use]
    pub fn into_parts(mut self) -> (Records, Extras) {
        self.seal();
        match self.body {
            Body::Sealed(records) => (records, self.extras),
            Body::Open(_) => unreachable!("sealed above"),
        }
    }

    /// The same messages for a report, while this one stays as a ghost. Costs no copy of the records.
    pub fn report(&mut self) -> (Records, Extras) {
        let records = self.seal().clone();
        self.reported += self.extras.bytes();
        (records, std::mem::take(&mut self.extras))
    }

    /// The messages cut into batches: those that `keep` says no to go to the second list, each alone; the others go
    /// to the first, in order, at most `most` bytes in each. A message alone may have more.
    #[must_use]
    pub fn cut(self, most: usize, keep: impl Fn(u32) -> bool) -> (Vec<Self>, Vec<Self>) {
        let (first_ticket, due, deadline) = (self.first_ticket, self.due, self.deadline);
        let (takes_until, queues) = (self.takes_until, self.queued.messages > 0);
        let (attempts, written, last_error) = (self.attempts, self.written, self.last_error.clone());
        let in_deleted = self.in_deleted;
        let (records, extras) = self.into_parts();
        let fresh = || {
            let mut batch = Self::new(Vec::new(), first_ticket, due, deadline);
            (batch.attempts, batch.written, batch.last_error) = (attempts, written, last_error.clone());
            (batch.takes_until, batch.in_deleted) = (takes_until, in_deleted);
            batch
        };
        let (mut kept, mut refused): (Vec<Self>, Vec<Self>) = (Vec::new(), Vec::new());
        let mut row = 0;
        let mut bytes = Vec::new();
        for (index, record) in (0u32..).zip(records.iter()) {
            bytes.clear();
            let headers: Vec<_> = record.headers.flatten().collect();
            tail::put(&mut bytes, record.key, record.value, headers.iter().copied());
            let extra = extras.of(index, &mut row);
            let entry = Entry {
                topic: TopicIndex::default(),
                partition: None,
                create_time: record.timestamp,
                extra,
                tail: &bytes,
            };
            let queued = if queues { entry.cost() } else { 0 };
            let add = |batch: &mut Self| batch.append(&entry, queued, most);
            let list = if keep(index) { &mut kept } else { &mut refused };
            if !keep(index) || !list.last_mut().is_some_and(add) {
                let mut batch = fresh();
                let first = add(&mut batch);
                debug_assert!(first, "the first message always fits");
                list.push(batch);
            }
        }
        (kept, refused)
    }
}

/// Bytes that a batch takes beside its records, in the lists that it is in, and its fate after it.
pub const BATCH: usize = 512;

//! What callers know: which messages they sent, and what they were told of each, by handle, callback or report.

use std::sync::{Arc, Mutex};

use ottla::fate::Outcome;
use ottla::fate::slot::Awaited;
use ottla::{Delivered, DeliveryError, DeliveryErrorKind};

use crate::check::Said;
use crate::world::TOPICS;

/// Who looks at a message's fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eyes {
    /// Nobody: of failures the report tells, of deliveries nobody.
    #[default]
    None,
    Callback,
    Handle,
}

/// A message that a caller offered.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub caller: usize,
    pub accepted: bool,
    pub ticket: u64,
    pub eyes: Eyes,
    /// Whether it goes to the second topic.
    pub second: bool,
    pub keyless: bool,
    /// Whether a socket took the first byte of a batch with it.
    pub written: bool,
    /// Whether the client's socket has the answer that it was appended, if the story asks for that.
    pub answered: bool,
    pub said: Vec<Said>,
}

/// Everything that was offered, and what was said of it. Ids are counted from 0 in the order of the calls.
#[derive(Debug, Default)]
pub struct Ledger {
    pub sent: Vec<Sent>,
    pub accepted: u64,
    /// Messages that were written, or were said to have failed without that: these may have given their place back.
    pub left: u64,
    /// Failures and purged messages of which somebody was told.
    pub told_failed: u64,
    /// Those of them that are in the producer's counts.
    pub told_and_counted: u64,
    /// Handles by id, unless they were dropped, and those among them that were not told.
    pub handles: Vec<(u64, Option<Awaited>)>,
    pub untold: Vec<usize>,
    heard: Heard,
}

/// As `on_delivery` takes it.
pub type Callback = Box<dyn FnMut(Result<&Delivered, DeliveryError>) + Send>;

/// What the callback heard since the world looked.
type Heard = Arc<Mutex<Vec<(u64, Told)>>>;

/// An outcome, and what it was for.
pub type Told = (Said, Option<DeliveryErrorKind>);

impl Ledger {
    /// A callback that remembers.
    pub fn callback(&self) -> Callback {
        let heard = Arc::clone(&self.heard);
        Box::new(move |fate| {
            let heard_now = match fate {
                Ok(delivered) => (
                    delivered.tag - 1,
                    (said_of(delivered.topic.name() != TOPICS[0], delivered.partition, delivered.offset), None),
                ),
                Err(error) => told_of(error),
            };
            heard.lock().expect("nobody panics with it").push(heard_now);
        })
    }

    /// What the callback heard since the last call.
    pub fn take_heard(&self) -> Vec<(u64, Told)> {
        std::mem::take(&mut *self.heard.lock().expect("nobody panics with it"))
    }

    /// The next id.
    pub fn next_id(&self) -> u64 {
        self.sent.len() as u64
    }

    pub fn keep_handle(&mut self, id: u64, lookout: Awaited) {
        self.untold.push(self.handles.len());
        self.handles.push((id, Some(lookout)));
    }

    /// What stands in handles that were not told yet.
    pub fn take_filled(&mut self) -> Vec<(u64, Told)> {
        let mut filled = Vec::new();
        let Self { handles, untold, sent, .. } = self;
        untold.retain(|at| {
            let (id, lookout) = &mut handles[*at];
            let Some(Ok(fate)) = lookout.as_mut().map(Awaited::look) else { return true };
            filled.push(told_by_handle(*id, sent[*id as usize].second, fate));
            false
        });
        filled
    }

    /// A socket took the first byte of a batch with these messages.
    pub fn wrote(&mut self, ids: &[u64]) {
        for id in ids {
            let Some(sent) = self.sent.get_mut(*id as usize) else { continue };
            if !std::mem::replace(&mut sent.written, true) && sent.said.is_empty() {
                self.left += 1;
            }
        }
    }

    /// Somebody was told of a message.
    pub fn say(&mut self, id: u64, said: Said) {
        let Some(sent) = self.sent.get_mut(id as usize) else { return };
        if !sent.written && sent.said.is_empty() {
            self.left += 1;
        }
        if matches!(said, Said::Failed(_)) {
            self.told_failed += 1;
        }
        sent.said.push(said);
    }
}

/// The topics are in one space of partitions.
fn said_of(second: bool, partition: i32, offset: Option<i64>) -> Said {
    Said::Delivered { partition: partition + if second { 1000 } else { 0 }, offset }
}

/// What an error tells of which message.
pub fn told_of(error: DeliveryError) -> (u64, Told) {
    let id = id_of(error.message().value());
    let said = Said::Failed(error.persistence());
    (id, (said, Some(error.kind().clone())))
}

fn told_by_handle(id: u64, second: bool, outcome: Outcome) -> (u64, Told) {
    match outcome {
        Ok(receipt) => (id, (said_of(second, receipt.partition, receipt.offset), None)),
        Err(error) => (id, told_of(error).1),
    }
}

pub fn id_of(value: Option<&[u8]>) -> u64 {
    let value = value.and_then(|value| value.get(..8)).and_then(|value| value.try_into().ok());
    u64::from_be_bytes(value.expect("the simulation's values begin with a number"))
}

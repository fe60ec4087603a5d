//! The producer's id and epoch.

use super::partition::Epoch;
use crate::config::ProducerConfig;
use crate::deadline::Deadline;
use crate::wire::frame::ConnId;

/// The producer's identity towards the brokers.
#[derive(Debug)]
pub struct Identity {
    pub(super) needed: bool,
    pub(super) current: Option<Epoch>,
    /// The last one that it had from a cluster that was replaced by another.
    former: Option<Epoch>,
    pub(super) asked: Option<ConnId>,
    pub(super) not_before: Deadline,
    pub(super) failures: u32,
}

impl Identity {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        let (current, former, asked) = (None, None, None);
        Self { needed: config.idempotent, current, former, asked, not_before: Deadline::NEVER, failures: 0 }
    }

    /// The id and epoch, once there is one. `Err` if one is needed and not there.
    pub(super) fn current(&self) -> Result<Option<Epoch>, ()> {
        if self.needed && self.current.is_none() { Err(()) } else { Ok(self.current) }
    }

    /// The epoch for a partition that cannot go on in `old`: the current one if it is another, else the next.
    ///
    /// KIP-360: an idempotent producer raises its epoch by itself; only a used-up epoch needs a new id.
    pub(super) fn after(&mut self, old: Option<Epoch>) -> Option<Epoch> {
        let current = self.current?;
        if Some(current) != old {
            return Some(current);
        }
        self.current = (current.epoch < i16::MAX).then(|| Epoch { epoch: current.epoch + 1, ..current });
        self.current
    }

    /// Goes on to the next epoch, for partitions whose sequences were forgotten: under the old one a first sequence
    /// could be taken for a repeat, and its messages be lost.
    pub(super) fn leave_epoch(&mut self) {
        let _ = self.after(self.current);
    }

    /// Asks for another id with the next message; an answer that is under way is not for it.
    pub(super) fn forget(&mut self) {
        self.former = self.current.take().or(self.former);
        (self.asked, self.not_before, self.failures) = (None, Deadline::NEVER, 0);
    }

    /// A broker gave this one. A cluster gives out the ids of the one before it again, and may have taken batches under
    /// that before the producer knew: then a first sequence could be taken for a repeat, and its messages be lost.
    pub(super) fn take(&mut self, given: Epoch) {
        self.current = Some(given);
        if let Some(former) = self.former.filter(|former| former.producer_id == given.producer_id) {
            self.current = Some(Epoch { epoch: former.epoch.max(given.epoch), ..given });
            self.leave_epoch();
        }
    }

    pub(super) fn lost(&mut self, conn: ConnId) {
        if self.asked == Some(conn) {
            self.asked = None;
        }
    }
}

//! The producer's id and epoch, and when to ask for one.

use std::sync::Arc;
use std::time::Instant;

use super::ProducerEngine;
use super::partition::Epoch;
use super::verdict::{FENCED, IdVerdict};
use crate::config::ProducerConfig;
use crate::deadline::Deadline;
use crate::engine::cluster::causes::{About, Tell};
use crate::engine::cluster::in_flight::Purpose;
use crate::engine::cluster::link::Peer;
use crate::error::{BrokerError, DeliveryErrorKind};
use crate::wire::ErrorCode;
use crate::wire::frame::ConnId;
use crate::wire::{Api, init_producer_id};

/// Who this producer is to the brokers.
#[derive(Debug)]
pub struct Identity {
    needed: bool,
    current: Option<Epoch>,
    /// The last one that it had from a cluster that was replaced by another.
    former: Option<Epoch>,
    asked: Option<ConnId>,
    not_before: Deadline,
    failures: u32,
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
    fn take(&mut self, given: Epoch) {
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

impl ProducerEngine {
    /// Asks a broker for a producer id, if one is needed and something waits to be sent.
    pub(super) fn ask_for_identity(&mut self, now: Instant) {
        let identity = &self.identity;
        let pause = identity.not_before != Deadline::NEVER && !identity.not_before.passed(now);
        let idle = self.unfinished == 0;
        if !identity.needed || identity.current.is_some() || identity.asked.is_some() || pause || idle {
            return;
        }
        let Some(peer) = self.cluster.any_ready() else { return };
        let write = init_producer_id::request;
        let sent = self.cluster.request(peer, Api::InitProducerId, Purpose::InitProducerId, now, write);
        self.identity.asked = sent;
    }

    pub(super) fn identity_deadline(&self) -> Deadline {
        let identity = &self.identity;
        let waits = self.identity.current().is_err() && identity.asked.is_none() && self.unfinished > 0;
        // Without a connection it is that which has to be waited for.
        if waits && self.cluster.any_ready().is_some() { identity.not_before } else { Deadline::NEVER }
    }

    pub(super) fn identity_answer(
        &mut self,
        (peer, conn): (Peer, ConnId),
        answer: &init_producer_id::InitProducerIdResponse,
        now: Instant,
    ) {
        if self.identity.asked.take_if(|asked| *asked == conn).is_none() {
            return;
        }
        if answer.error == ErrorCode::NONE && answer.producer_id >= 0 && answer.epoch >= 0 {
            self.cluster.causes_mut().end(|about| about == About::Identity);
            self.identity.failures = 0;
            self.identity.not_before = Deadline::NEVER;
            self.identity.take(Epoch { producer_id: answer.producer_id, epoch: answer.epoch });
            return;
        }
        let verdict = IdVerdict::of(answer.error);
        let error = self.cluster.broker_error(peer, Api::InitProducerId, answer.error);
        let cause = DeliveryErrorKind::Broker(BrokerError {
            message: (answer.error == ErrorCode::NONE)
                .then(|| format!("producer id {} with epoch {} cannot be", answer.producer_id, answer.epoch).into()),
            advice: if verdict == IdVerdict::Fatal { "" } else { error.advice },
            ..error
        });
        match verdict {
            IdVerdict::Fatal => return self.fail_for_good(cause, FENCED, now),
            IdVerdict::Denied => return self.identity_denied(cause, now),
            IdVerdict::Loading => {
                log::debug!("{cause}");
                self.cluster.note(About::Identity, Arc::new(cause), now, Tell::Never);
            }
            // An id below 0 is none, whatever the code.
            IdVerdict::Given | IdVerdict::Retry => {
                self.cluster.note(About::Identity, Arc::new(cause), now, Tell::AtOnce);
            }
        }
        self.identity.failures = self.identity.failures.saturating_add(1);
        let pause = self.retry.pause(self.identity.failures, self.random.u64(..));
        self.identity.not_before = Deadline::after(now, pause);
    }

    /// A missing right ends what waits, and not the producer: it may be granted while the program runs. Until then
    /// messages ask for the id, but not often.
    fn identity_denied(&mut self, cause: DeliveryErrorKind, now: Instant) {
        let why = Arc::new(cause);
        self.identity.not_before = Deadline::after(now, self.config.retry_backoff_max);
        self.cluster.note(About::Identity, Arc::clone(&why), now, Tell::AtOnce);
        self.take_back(&why, now);
    }
}

//! Asks for a producer id when one is needed, and judges the answer.

use std::sync::Arc;
use std::time::Instant;

use super::ProducerEngine;
use super::partition::Epoch;
use super::verdict::{FENCED, IdVerdict};
use crate::deadline::Deadline;
use crate::engine::cluster::causes::{LogPolicy, Subject};
use crate::engine::cluster::link::Peer;
use crate::error::{BrokerError, ConnectionErrorKind, DeliveryErrorKind, ErrorCode};
use crate::wire::api::{Api, init_producer_id};
use crate::wire::frame::ConnId;

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
        let sent = self.cluster.request(peer, Api::InitProducerId, now, write);
        self.identity.asked = sent;
    }

    pub(super) fn identity_deadline(&self) -> Deadline {
        let identity = &self.identity;
        let waits = self.identity.current().is_err() && identity.asked.is_none() && self.unfinished > 0;
        // Without a connection the wait is for the connection.
        if waits && self.cluster.any_ready().is_some() { identity.not_before } else { Deadline::NEVER }
    }

    pub(super) fn identity_answer(
        &mut self,
        peer: Peer,
        conn: ConnId,
        answer: &init_producer_id::InitProducerIdResponse,
        now: Instant,
    ) {
        if self.identity.asked.take_if(|asked| *asked == conn).is_none() {
            return;
        }
        if answer.error == ErrorCode::NONE && answer.producer_id >= 0 && answer.epoch >= 0 {
            self.cluster.causes_mut().end(|about| about == Subject::Identity);
            self.identity.failures = 0;
            self.identity.not_before = Deadline::NEVER;
            self.identity.take(Epoch { producer_id: answer.producer_id, epoch: answer.epoch });
            return;
        }
        let error = self.cluster.broker_error(peer, Api::InitProducerId, answer.error);
        let broker = |advice| DeliveryErrorKind::Broker(BrokerError { advice, ..error.clone() });
        match IdVerdict::of(answer.error) {
            IdVerdict::Fatal => return self.fail_for_good(broker(""), FENCED, now),
            IdVerdict::Denied => return self.identity_denied(broker(error.advice), now),
            IdVerdict::Loading => {
                let why = broker(error.advice);
                log::debug!("{why}");
                self.cluster.note(Subject::Identity, Arc::new(why), now, LogPolicy::Never);
            }
            IdVerdict::Retry => {
                self.cluster.note(Subject::Identity, Arc::new(broker(error.advice)), now, LogPolicy::AtOnce);
            }
            IdVerdict::Given => {
                // A number below 0 is no id, whatever the code.
                let what = format!("it gives producer id {} with epoch {}", answer.producer_id, answer.epoch);
                let kind = ConnectionErrorKind::BadResponse { api: Api::InitProducerId.name(), what };
                let why = self.cluster.connection_error(peer, kind);
                self.cluster.note(Subject::Identity, why, now, LogPolicy::AtOnce);
            }
        }
        self.identity.failures = self.identity.failures.saturating_add(1);
        let pause = self.retry.pause(self.identity.failures, self.random.u64(..));
        self.identity.not_before = Deadline::after(now, pause);
    }

    /// A missing right ends the messages that wait, and not the producer: the right may be granted while the program
    /// runs. Until then messages ask for the id, but not often.
    fn identity_denied(&mut self, cause: DeliveryErrorKind, now: Instant) {
        let why = Arc::new(cause);
        self.identity.not_before = Deadline::after(now, self.config.retry_backoff_max);
        self.cluster.note(Subject::Identity, Arc::clone(&why), now, LogPolicy::AtOnce);
        self.take_back(&why, now);
    }
}

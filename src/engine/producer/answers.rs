//! Applies an answer to the batches that waited for it.

use std::sync::Arc;
use std::time::Instant;

use super::ProducerEngine;
use super::batch::Batch;
use super::delivered::Ack;
use super::partition;
use super::verdict::{Doubt, FENCED, Reaction, Verdict};
use crate::deadline::Deadline;
use crate::engine::cluster::causes::{LogPolicy, Subject};
use crate::engine::cluster::in_flight::Request;
use crate::engine::cluster::link::Peer;
use crate::engine::cluster::news::Answered;
use crate::error::{BrokerError, ConnectionErrorKind, DeliveryErrorKind};
use crate::ids::TopicIndex;
use crate::wire::api::produce::{self, PartitionResult, ProduceResponse};
use crate::wire::api::{Api, init_producer_id};
use crate::wire::frame::{ConnId, CorrelationId};

impl ProducerEngine {
    /// Takes in the answer to a request of its own.
    pub(super) fn answer(&mut self, answered: Answered, frame: &[u8], now: Instant) -> Result<(), ConnectionErrorKind> {
        let Answered { peer, conn, request } = answered;
        let (version, sent) = (request.version, &request.partitions);
        match request.api {
            Api::InitProducerId => {
                let answer = init_producer_id::decode(version, frame)
                    .map_err(|error| error.in_response_to(Api::InitProducerId))?;
                self.cluster.answered(peer, (Api::InitProducerId, version), answer.throttle, now);
                self.identity_answer((peer, conn), &answer, now);
            }
            Api::Produce => match produce::decode(version, frame) {
                Ok(answer) => {
                    self.cluster.answered(peer, (Api::Produce, version), answer.throttle, now);
                    self.cluster.carried(peer, request.bytes);
                    self.produce_answer(peer, (conn, request.correlation), sent, answer, now);
                }
                Err(error) => {
                    let kind = error.in_response_to(Api::Produce);
                    let why = self.cluster.connection_error(peer, kind.clone());
                    // The connection ends, and has its own pause.
                    self.unanswered(sent, (conn, request.correlation), &why, (None, now));
                    return Err(kind);
                }
            },
            // A producer asks for nothing else by itself.
            _ => {}
        }
        Ok(())
    }

    /// With acks 0 nobody answers: a batch is delivered when its last byte is written.
    pub(super) fn delivered_unanswered(&mut self, conn: ConnId, request: Request, now: Instant) {
        for (topic, number) in request.partitions {
            let Some(partition) = self.topics.get_mut(topic.get()).and_then(|it| it.partition(number)) else {
                continue;
            };
            let Some(index) = partition.find(conn, request.correlation) else { continue };
            let ack = Ack { base_offset: None, log_append_time: None };
            let freed = partition.delivered(index, ack, &mut self.settled);
            self.send_queue.free(freed);
            self.settle();
            self.reschedule(topic, number, now);
        }
    }

    fn produce_answer(
        &mut self,
        peer: Peer,
        number: (ConnId, CorrelationId),
        sent: &[(TopicIndex, i32)],
        answer: ProduceResponse,
        now: Instant,
    ) {
        // KIP-951: the addresses of the new leaders.
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.take_brokers(peer, &answer.node_endpoints, &waiting, now);
        self.heed_news(now);
        // One for all: partitions that are refused together try again together, in one request.
        let random = self.random.u64(..);
        let mut answered = vec![false; sent.len()];
        let mut refused = 0;
        for topic in answer.topics {
            let index = match topic.id {
                Some(id) => self.by_id.get(&id),
                None => self.by_name.get(&*topic.name),
            };
            let Some(index) = index.copied() else { continue };
            for result in topic.partitions {
                let Ok(place) = sent.binary_search(&(index, result.index)) else { continue };
                if std::mem::replace(&mut answered[place], true) {
                    continue;
                }
                let number_of = result.index;
                if let Some(why) = self.judge((peer, random), index, number, result, now) {
                    refused += 1;
                    // Partitions that are refused together are one incident.
                    let tell = if refused == 1 { LogPolicy::AtOnce } else { LogPolicy::Never };
                    self.cluster.note(Subject::Partition(index, number_of), why, now, tell);
                }
            }
        }
        if refused > 1 {
            log::debug!("{refused} partitions were refused in one answer");
        }
        // A topic that was made anew since may have fewer partitions.
        let mut awaited = |(topic, partition): (TopicIndex, i32)| {
            let partition = self.topics.get_mut(topic.get()).and_then(|topic| topic.partition(partition));
            partition.is_some_and(|partition| partition.find(number.0, number.1).is_some())
        };
        let mut missing: Vec<(TopicIndex, i32)> =
            sent.iter().zip(answered).filter(|(_, answered)| !answered).map(|(sent, _)| *sent).collect();
        missing.retain(|sent| awaited(*sent));
        if !missing.is_empty() {
            let what = format!("{} partitions of the request are missing", missing.len());
            let kind = ConnectionErrorKind::BadResponse { api: Api::Produce.name(), what };
            let why = self.cluster.connection_error(peer, kind);
            self.cluster.note(Subject::Broker(peer), Arc::clone(&why), now, LogPolicy::AtOnce);
            self.unanswered(&missing, number, &why, (Some(random), now));
        }
    }

    /// Judges the answer for one partition; returns the error if it was refused. `random` is for the pause.
    fn judge(
        &mut self,
        (peer, random): (Peer, u64),
        topic: TopicIndex,
        request: (ConnId, CorrelationId),
        result: PartitionResult,
        now: Instant,
    ) -> Option<Arc<DeliveryErrorKind>> {
        let verdict = Verdict::of(result.error);
        if verdict.action != Reaction::Delivered {
            return self.refused((peer, random), topic, request, (result, verdict), now);
        }
        let state = self.topics.get_mut(topic.get())?;
        let partition = state.partition(result.index)?;
        let index = partition.find(request.0, request.1)?;
        let len = partition.batch(index).map_or(0, Batch::len);
        let log_append_time = state.stored_time((result.index, index), result.log_append_time);
        let base_offset = (result.base_offset >= 0).then_some(result.base_offset);
        let partition = state.partition(result.index)?;
        let freed = partition.delivered(index, Ack { base_offset, log_append_time }, &mut self.settled);
        state.took_size(len, self.rules.max_batch_bytes, now);
        let held_up = state.held_up.is_some();
        self.send_queue.free(freed);
        self.settle();
        self.reschedule(topic, result.index, now);
        if held_up {
            self.tell_held_up(topic);
        }
        None
    }

    /// Acts on a refusal. Returns it, unless it was expected or only makes batches smaller.
    fn refused(
        &mut self,
        (peer, random): (Peer, u64),
        topic: TopicIndex,
        (conn, correlation): (ConnId, CorrelationId),
        (result, verdict): (PartitionResult, Verdict),
        now: Instant,
    ) -> Option<Arc<DeliveryErrorKind>> {
        let number = result.index;
        let name = self.topics.get(topic.get())?.name.clone();
        let address = self.cluster.address(peer);
        let broker_error = |message: Option<&str>| {
            Arc::new(DeliveryErrorKind::Broker(BrokerError {
                node: peer.node().map(|node| node.0),
                address: Arc::clone(&address),
                api: Api::Produce.name(),
                topic: Some(name.clone()),
                partition: Some(number),
                code: result.error,
                message: message.map(Arc::from),
                advice: if verdict.action == Reaction::Fatal { "" } else { verdict.advice },
            }))
        };
        let why = broker_error(result.error_message.as_deref());
        let retry = self.retry;
        let pause = |failures| Deadline::after(now, retry.pause(failures, random));
        let partition = self.topics.get_mut(topic.get())?.partition(number)?;
        let index = partition.find(conn, correlation)?;
        let batch = partition.batch(index)?;
        let (count, len, doubtful) = (batch.count(), batch.len(), batch.doubt != Doubt::None || batch.ghost);
        if verdict.action == Reaction::Split && count > 1 {
            self.topics.get_mut(topic.get())?.refused_size(len, now);
        }
        let partition = self.topics.get_mut(topic.get())?.partition(number)?;
        // A refusal is expected if the topic is known to be gone.
        let (doubt, mut expected) = (verdict.doubt, partition.is_anew());
        let settled = &mut self.settled;
        let freed = match verdict.action {
            Reaction::Delivered => unreachable!("that is no refusal"),
            Reaction::Retry => {
                let until = partition.pause_after(index, pause);
                partition.retry(index, doubt, Arc::clone(&why), until, settled)
            }
            Reaction::Refresh => {
                let moved = partition.has_moved_since(index);
                let until = partition.pause_after(index, pause);
                let freed = partition.retry(index, doubt, Arc::clone(&why), until, settled);
                match result.current_leader {
                    // A newer leader ends the pause.
                    Some((leader, epoch)) if leader >= 0 && epoch > partition.leader_epoch && !expected => {
                        partition.lead_by(leader, epoch);
                    }
                    // It is about a leader that was left already.
                    _ if moved => {}
                    _ => self.cluster.want_metadata(),
                }
                freed
            }
            Reaction::RetryOnce => {
                let until = partition.pause_after(index, pause);
                partition.unknown_code(index, Arc::clone(&why), until, settled)
            }
            Reaction::Split if count > 1 && !doubtful => {
                log::debug!("{why}; a batch of {count} messages and {len} bytes is cut");
                expected = true;
                partition.split(index)
            }
            Reaction::Records if !doubtful => {
                let culprits = culprits_in_order(&result, count);
                if culprits.is_empty() || culprits.len() as u32 >= count {
                    partition.refuse(index, doubt, &why, settled)
                } else {
                    partition.replace(index, |batch| {
                        let (kept, refused) = batch.cut(usize::MAX, |at| culprits.iter().all(|(bad, _)| *bad != at));
                        for (batch, (_, text)) in refused.into_iter().zip(&culprits) {
                            let outcome = Err((broker_error(*text), batch.persistence(false)));
                            settled.push(partition::settled((topic, number), batch, outcome));
                        }
                        kept
                    })
                }
            }
            Reaction::NextEpoch => {
                let until = partition.pause_after(index, pause);
                partition.out_of_order(index, doubt, &why, until, settled)
            }
            Reaction::Split | Reaction::Records | Reaction::Fail | Reaction::Fatal => {
                partition.refuse(index, doubt, &why, settled)
            }
        };
        self.send_queue.free(freed);
        self.settle();
        self.reschedule(topic, number, now);
        if self.topics[topic.get()].partition(number).is_some_and(|it| it.keeps_failing().is_some()) {
            self.tell_held_up(topic);
        }
        if verdict.action == Reaction::Fatal {
            self.fail_for_good((*why).clone(), FENCED, now);
        }
        (!expected).then_some(why)
    }

    /// No answer will come for these. They go again after a pause, if there is a `random` number for it.
    fn unanswered(
        &mut self,
        sent: &[(TopicIndex, i32)],
        number: (ConnId, CorrelationId),
        why: &Arc<DeliveryErrorKind>,
        (random, now): (Option<u64>, Instant),
    ) {
        let retry = self.retry;
        for &(topic, partition) in sent {
            let Some(state) = self.topics.get_mut(topic.get()).and_then(|it| it.partition(partition)) else {
                continue;
            };
            let pause = random.zip(state.find(number.0, number.1)).map_or(Deadline::NEVER, |(random, index)| {
                state.pause_after(index, |failures| Deadline::after(now, retry.pause(failures, random)))
            });
            let freed = state.lost(number, true, (why, pause), &mut self.settled);
            self.send_queue.free(freed);
            self.settle();
            self.reschedule(topic, partition, now);
        }
    }
}

/// The records of a batch of `count` that the broker refuses, in their order and each once, with the broker's words
/// about them.
fn culprits_in_order(result: &PartitionResult, count: u32) -> Vec<(u32, Option<&str>)> {
    let mut culprits: Vec<(u32, Option<&str>)> = result
        .record_errors
        .iter()
        .filter_map(|(at, text)| Some((u32::try_from(*at).ok()?, text.as_deref())))
        .filter(|(at, _)| *at < count)
        .collect();
    culprits.sort_by_key(|(at, _)| *at);
    culprits.dedup_by_key(|(at, _)| *at);
    culprits
}

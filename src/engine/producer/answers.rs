//! Applies an answer to the batches that waited for it.

use std::sync::Arc;
use std::time::Instant;

use super::ProducerEngine;
use super::batch::Batch;
use super::delivered::Ack;
use super::leadership::Leadership;
use super::partition::{self, Departures, Partition};
use super::verdict::{Doubt, FENCED, Reaction, Verdict};
use crate::deadline::Deadline;
use crate::engine::cluster::causes::{LogPolicy, Subject};
use crate::engine::cluster::in_flight::Request;
use crate::engine::cluster::link::Peer;
use crate::engine::cluster::news::Answered;
use crate::error::{BrokerError, ConnectionErrorKind, DeliveryErrorKind};
use crate::ids::{PartitionId, TopicPartition};
use crate::wire::api::produce::{self, PartitionResult, ProduceResponse};
use crate::wire::api::{Api, init_producer_id};
use crate::wire::frame::{ConnId, RequestId};

impl ProducerEngine {
    /// Takes in the answer to a request of its own.
    pub(super) fn answer(&mut self, answered: Answered, frame: &[u8], now: Instant) -> Result<(), ConnectionErrorKind> {
        let Answered { peer, conn, request } = answered;
        let (version, sent) = (request.version, &request.partitions);
        let id = RequestId { conn, correlation: request.correlation };
        match request.api {
            Api::InitProducerId => {
                let answer = init_producer_id::decode(version, frame)
                    .map_err(|error| error.in_response_to(Api::InitProducerId))?;
                self.cluster.answered(peer, Api::InitProducerId, version, answer.throttle, now);
                self.identity_answer(peer, conn, &answer, now);
            }
            Api::Produce => match produce::decode(version, frame) {
                Ok(answer) => {
                    self.cluster.answered(peer, Api::Produce, version, answer.throttle, now);
                    self.cluster.carried(peer, request.bytes);
                    self.produce_answer(peer, id, sent, answer, now);
                }
                Err(error) => {
                    let kind = error.in_response_to(Api::Produce);
                    let why = self.cluster.connection_error(peer, kind.clone());
                    // The connection ends, and has its own pause.
                    self.unanswered(sent, id, &why, None, now);
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
        let answered = RequestId { conn, correlation: request.correlation };
        for id in request.partitions {
            let ack = Ack { partition: id.partition, base_offset: None, log_append_time: None };
            self.with_partition(id, now, |partition, out| {
                if let Some(index) = partition.find(answered) {
                    partition.delivered(index, ack, out);
                }
            });
        }
    }

    fn produce_answer(
        &mut self,
        peer: Peer,
        request: RequestId,
        sent: &[TopicPartition],
        answer: ProduceResponse,
        now: Instant,
    ) {
        // KIP-951: the addresses of the new leaders.
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.take_brokers(peer, &answer.node_endpoints, &waiting, now);
        self.heed_news(now);
        // One for all: partitions that are refused together try again together, in one request.
        let random = self.random.u64(..);
        let from = Answering { peer, request, random, now };
        let mut answered = vec![false; sent.len()];
        let mut refused = 0;
        for topic in answer.topics {
            let index = match topic.id {
                Some(id) => self.by_id.get(&id),
                None => self.by_name.get(&*topic.name),
            };
            let Some(index) = index.copied() else { continue };
            for result in topic.partitions {
                let id = TopicPartition { topic: index, partition: PartitionId(result.index) };
                let Ok(place) = sent.binary_search(&id) else { continue };
                if std::mem::replace(&mut answered[place], true) {
                    continue;
                }
                if let Some(why) = self.judge(from, id, result) {
                    refused += 1;
                    // Partitions that are refused together are one incident.
                    let tell = if refused == 1 { LogPolicy::AtOnce } else { LogPolicy::Never };
                    self.cluster.note(Subject::Partition(id), why, now, tell);
                }
            }
        }
        if refused > 1 {
            log::debug!("{refused} partitions were refused in one answer");
        }
        // A topic that was made anew since may have fewer partitions.
        let mut awaited = |id: TopicPartition| {
            let partition = self.topics.get_mut(id.topic.get()).and_then(|topic| topic.partition(id.partition));
            partition.is_some_and(|partition| partition.find(request).is_some())
        };
        let mut missing: Vec<TopicPartition> =
            sent.iter().zip(answered).filter(|(_, answered)| !answered).map(|(sent, _)| *sent).collect();
        missing.retain(|sent| awaited(*sent));
        if !missing.is_empty() {
            let what = format!("{} partitions of the request are missing", missing.len());
            let kind = ConnectionErrorKind::BadResponse { api: Api::Produce.name(), what };
            let why = self.cluster.connection_error(peer, kind);
            self.cluster.note(Subject::Broker(peer), Arc::clone(&why), now, LogPolicy::AtOnce);
            self.unanswered(&missing, request, &why, Some(random), now);
        }
    }

    /// Judges the answer for one partition; returns the error if it was refused.
    fn judge(
        &mut self,
        from: Answering,
        id: TopicPartition,
        result: PartitionResult,
    ) -> Option<Arc<DeliveryErrorKind>> {
        let verdict = Verdict::of(result.error);
        if verdict.action != Reaction::Delivered {
            return self.refused(from, id, &result, verdict);
        }
        let state = self.topics.get_mut(id.topic.get())?;
        let partition = state.partition(id.partition)?;
        let index = partition.find(from.request)?;
        let len = partition.batch(index).map_or(0, Batch::len);
        let told = (result.log_append_time >= 0).then_some(result.log_append_time);
        let log_append_time = state.stored_time(id.partition, index, told);
        let base_offset = (result.base_offset >= 0).then_some(result.base_offset);
        state.took_size(len, self.rules.max_batch_bytes, from.now);
        let ack = Ack { partition: id.partition, base_offset, log_append_time };
        self.with_partition(id, from.now, |partition, out| partition.delivered(index, ack, out));
        None
    }

    /// Acts on a refusal. Returns it, unless it was expected or only makes batches smaller.
    fn refused(
        &mut self,
        Answering { peer, request, random, now }: Answering,
        id: TopicPartition,
        result: &PartitionResult,
        verdict: Verdict,
    ) -> Option<Arc<DeliveryErrorKind>> {
        let name = self.topics.get(id.topic.get())?.name.clone();
        let address = self.cluster.address(peer);
        let broker_error = |message: Option<&str>| {
            Arc::new(DeliveryErrorKind::Broker(BrokerError {
                node: peer.node().map(|node| node.0),
                address: Arc::clone(&address),
                api: Api::Produce.name(),
                topic: Some(name.clone()),
                partition: Some(result.index),
                code: result.error,
                message: message.map(Arc::from),
                advice: if verdict.action == Reaction::Fatal { "" } else { verdict.advice },
            }))
        };
        let why = broker_error(result.error_message.as_deref());
        let retry = self.retry;
        let pause = |failures| Deadline::after(now, retry.pause(failures, random));
        let partition = self.topics.get_mut(id.topic.get())?.partition(id.partition)?;
        let index = partition.find(request)?;
        let batch = partition.batch(index)?;
        let (count, len, doubtful) = (batch.count(), batch.len(), batch.doubt != Doubt::None || batch.ghost);
        if verdict.action == Reaction::Split && count > 1 {
            self.topics.get_mut(id.topic.get())?.refused_size(len, now);
        }
        let cuts = verdict.action == Reaction::Split && count > 1 && !doubtful;
        let (expected, asks) = self.with_partition(id, now, |partition, out| {
            // A refusal is expected if the topic is known to be gone.
            let (doubt, gone) = (verdict.doubt, partition.is_anew());
            let moved = partition.has_moved_since(index);
            let mut asks = false;
            match verdict.action {
                Reaction::Delivered => unreachable!("that is no refusal"),
                Reaction::Retry => {
                    let until = partition.pause_after(index, pause);
                    partition.retry(index, doubt, Arc::clone(&why), until, out);
                }
                Reaction::Refresh => {
                    let until = partition.pause_after(index, pause);
                    partition.retry(index, doubt, Arc::clone(&why), until, out);
                    match result.current_leader.map(|(node, epoch)| Leadership::told(node, epoch)) {
                        // A newer leader ends the pause.
                        Some(leader) if leader.node.is_some() && leader.epoch > partition.leader.epoch && !gone => {
                            partition.lead_by(leader);
                        }
                        // Unless it is about a leader that was left already.
                        _ => asks = !moved,
                    }
                }
                Reaction::RetryOnce => {
                    let until = partition.pause_after(index, pause);
                    partition.unknown_code(index, Arc::clone(&why), until, out);
                }
                Reaction::Split if cuts => {
                    log::debug!("{why}; a batch of {count} messages and {len} bytes is cut");
                    partition.split(index, out);
                }
                Reaction::Records if !doubtful => {
                    refuse_records(partition, index, result, doubt, &broker_error, out);
                }
                Reaction::NextEpoch => {
                    let until = partition.pause_after(index, pause);
                    partition.out_of_order(index, doubt, &why, until, out);
                }
                Reaction::Split | Reaction::Records | Reaction::Fail | Reaction::Fatal => {
                    partition.refuse(index, doubt, &why, out);
                }
            }
            (gone || cuts, asks)
        })?;
        if asks {
            self.cluster.want_metadata();
        }
        if verdict.action == Reaction::Fatal {
            self.fail_for_good((*why).clone(), FENCED, now);
        }
        (!expected).then_some(why)
    }

    /// No answer will come for these. They go again after a pause, if there is a `random` number for it.
    fn unanswered(
        &mut self,
        sent: &[TopicPartition],
        request: RequestId,
        why: &Arc<DeliveryErrorKind>,
        random: Option<u64>,
        now: Instant,
    ) {
        let retry = self.retry;
        for &id in sent {
            self.with_partition(id, now, |partition, out| {
                let pause = random.zip(partition.find(request)).map_or(Deadline::NEVER, |(random, index)| {
                    partition.pause_after(index, |failures| Deadline::after(now, retry.pause(failures, random)))
                });
                partition.lost(request, true, why, pause, out);
            });
        }
    }
}

/// A broker that answers a request.
#[derive(Clone, Copy)]
struct Answering {
    peer: Peer,
    request: RequestId,
    /// For the pause before the next attempt.
    random: u64,
    now: Instant,
}

/// The broker refuses records of the batch at `index`: these fail alone, unless they are all or none. `error` makes the
/// error from the broker's words about a record.
fn refuse_records(
    partition: &mut Partition,
    index: usize,
    result: &PartitionResult,
    doubt: Doubt,
    error: &impl Fn(Option<&str>) -> Arc<DeliveryErrorKind>,
    out: &mut Departures,
) {
    let count = partition.batch(index).map_or(0, Batch::count);
    let culprits = culprits_in_order(result, count);
    if culprits.is_empty() || culprits.len() as u32 >= count {
        return partition.refuse(index, doubt, &error(result.error_message.as_deref()), out);
    }
    let id = partition.id;
    partition.replace(index, out, |batch, out| {
        let (kept, refused) = batch.cut(usize::MAX, |at| culprits.iter().all(|(bad, _)| *bad != at));
        for (batch, (_, text)) in refused.into_iter().zip(&culprits) {
            let outcome = Err((error(*text), batch.persistence(false)));
            out.push_back(partition::settled(id, batch, outcome));
        }
        kept
    });
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

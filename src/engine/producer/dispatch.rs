//! Puts batches into requests: which batches go to which broker, and how many bytes at a time.

use std::time::Instant;

use super::ProducerEngine;
use super::partition::Pick;
use super::send_queue::Amount;
use crate::engine::cluster::in_flight::{Answer, Request};
use crate::engine::cluster::link::Peer;
use crate::ids::{NodeId, TopicPartition};
use crate::wire::Api;
use crate::wire::api::produce::{self, ProduceBatch, ProduceRequest};

impl ProducerEngine {
    /// Sends all requests that can be sent.
    pub(super) fn dispatch(&mut self, now: Instant) {
        if self.identity.current().is_err() {
            return;
        }
        let mut next = self.send_queue.next_node(None);
        while let Some(node) = next {
            while self.send_to(node, now) {}
            next = self.send_queue.next_node(Some(node));
        }
    }

    /// Sends one request to a broker, if it may have one more and something waits for it.
    fn send_to(&mut self, node: NodeId, now: Instant) -> bool {
        let peer = Peer::Node(node);
        let Some(link) = self.cluster.link(peer) else { return false };
        let Some((live, versions)) = link.ready() else { return false };
        if link.is_throttled() || live.in_flight.produce_requests() >= self.config.max_in_flight {
            return false;
        }
        let busy = live.in_flight.produce_requests() > 0;
        let bound = Bound { batch: link.window.batch_bytes().unwrap_or(usize::MAX), room: link.room(), busy };
        let Ok(version) = versions.choose(Api::Produce) else { return false };
        let Some(chosen) = self.choose_batches(node, version, bound, now) else { return false };
        // KIP-516: topic ids from version 13 on; a topic without one is named.
        let version = if chosen.ids { version } else { version.min(12) };
        self.send_produce(peer, version, chosen.partitions, now);
        true
    }

    /// The partitions that go into the next request to a broker, ascending; `None` if none can.
    fn choose_batches(&mut self, node: NodeId, version: i16, bound: Bound, now: Instant) -> Option<Chosen> {
        let mut chosen = Chosen { partitions: Vec::new(), ids: true };
        let mut bytes = produce::request_overhead(&self.client.client_id);
        let mut more = Amount::default();
        let most = bound.room.unwrap_or(usize::MAX).min(self.config.max_request_bytes);
        // One batch always goes, however large it is.
        let mut waits = bound.busy && bound.room.is_some();
        for &id in self.send_queue.ready_for(node) {
            let Some(state) = self.topics.get_mut(id.topic.get()) else { continue };
            let has_id = state.id.is_some();
            let overhead = produce::topic_overhead(state.name.name());
            let Some(partition) = state.partition(id.partition) else { continue };
            let Some(pick) = partition.pick(now) else { continue };
            if pick == Pick::Unsent {
                partition.cut_next(bound.batch);
            }
            let (len, holds) = partition.picked(pick);
            if waits && bytes + overhead + len > most {
                break;
            }
            let mixed = version >= 13 && !chosen.partitions.is_empty() && chosen.ids != has_id;
            if mixed || (pick == Pick::Unsent && !self.has_room(more, holds)) {
                continue;
            }
            if pick == Pick::Unsent {
                more.add(holds);
            }
            bytes += overhead + len;
            waits = true;
            chosen.ids &= has_id;
            chosen.partitions.push((id, pick));
        }
        self.send_queue.hold(more);
        chosen.partitions.sort_unstable_by_key(|(id, _)| *id);
        (!chosen.partitions.is_empty()).then_some(chosen)
    }

    /// `true` if `batch` may be sent beside the amount that is held, and `more`. One batch always may, or nothing would
    /// ever leave.
    fn has_room(&self, more: Amount, batch: Amount) -> bool {
        let mut held = self.send_queue.held();
        held.add(more);
        let alone = held.messages == 0;
        held.add(batch);
        alone || !self.is_above_bound(held)
    }

    /// `true` if more is held than may be.
    pub(super) fn is_overfull(&self) -> bool {
        self.is_above_bound(self.send_queue.held())
    }

    fn is_above_bound(&self, held: Amount) -> bool {
        held.bytes > self.config.max_buffer_bytesize
            || self.config.max_buffer_size.is_some_and(|most| held.messages > most)
    }

    fn send_produce(&mut self, peer: Peer, version: i16, partitions: Vec<(TopicPartition, Pick)>, now: Instant) {
        let Some(request) = self.cluster.next_correlation(peer, now) else { return };
        let current = self.identity.current().ok().flatten();
        let mut sent = Vec::with_capacity(partitions.len());
        let mut parts = Vec::with_capacity(partitions.len());
        for (id, pick) in partitions {
            let Some(partition) = self.topics[id.topic.get()].partition(id.partition) else { continue };
            // A partition that has more to send goes behind the others.
            self.send_queue.unlist(&mut partition.place);
            if let Some((header, records)) = partition.send(pick, current, request) {
                sent.push(id);
                parts.push((header, records));
            }
        }
        let batches: Vec<ProduceBatch<'_>> = sent
            .iter()
            .zip(parts)
            .map(|(id, (header, records))| {
                let state = &self.topics[id.topic.get()];
                let topic_id = state.id.unwrap_or_default();
                ProduceBatch { topic: state.name.name(), topic_id, partition: id.partition.0, header, records }
            })
            .collect();
        let (correlation, acks) = (request.correlation, self.config.required_acks.code());
        let timeout_ms = i32::try_from(self.config.ack_timeout.as_millis()).unwrap_or(i32::MAX);
        let client_id = &self.client.client_id;
        let frame = ProduceRequest { version, correlation, client_id, acks, timeout_ms, batches: &batches }.frame();
        drop(batches);
        let again = sent.clone();
        let answer = if acks == 0 { Answer::None } else { Answer::Expected };
        let (api, bytes) = (Api::Produce, frame.len());
        self.cluster.send(peer, Request { correlation, version, api, partitions: sent, answer, bytes }, frame, now);
        for id in again {
            self.reschedule(id, now);
        }
    }
}

/// The bytes that may go to a broker now, as its link has shown.
#[derive(Clone, Copy)]
struct Bound {
    /// Bytes of a new batch.
    batch: usize,
    /// Bytes that may be on their way, beside those that are; `None` for any number.
    room: Option<usize>,
    /// `true` if some are on their way.
    busy: bool,
}

/// The batches of one request.
struct Chosen {
    partitions: Vec<(TopicPartition, Pick)>,
    /// `true` if every topic has an id.
    ids: bool,
}

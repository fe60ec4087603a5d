//! The events of connections and of time, and their effect on batches: the side of the engine that a driver sees.

use std::time::Instant;

use super::ProducerEngine;
use super::leadership::Leadership;
use super::partition::Partition;
use crate::config::RequiredAcks;
#[cfg(feature = "sasl")]
use crate::config::sasl::Token;
use crate::deadline::Deadline;
use crate::engine::cluster::link::Peer;
use crate::engine::cluster::news::{Lost, News};
use crate::engine::{Action, Engine};
use crate::error::ConnectionErrorKind;
use crate::ids::{Destination, PartitionId, TopicIndex, TopicPartition};
use crate::wire::frame::{ConnId, RequestId};

impl Engine for ProducerEngine {
    fn connected(&mut self, conn: ConnId, now: Instant) {
        self.cluster.connected(conn, now);
    }

    fn closed(&mut self, conn: ConnId, why: ConnectionErrorKind, now: Instant) {
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.closed(conn, why, &waiting, now);
        self.heed_news(now);
    }

    fn wrote(&mut self, conn: ConnId, started: usize, finished: usize, now: Instant) -> bool {
        let (topics, released) = (&mut self.topics, &mut self.released);
        let done = self.cluster.wrote(conn, started, finished, now, |request| {
            for id in &request.partitions {
                if let Some(partition) = topics.get_mut(id.topic.get()).and_then(|topic| topic.partition(id.partition))
                {
                    let queued = partition.started(RequestId { conn, correlation: request.correlation });
                    released.messages += queued.messages;
                    released.bytes += queued.bytes;
                }
            }
        });
        let unanswered = !done.is_empty();
        for request in done {
            self.delivered_unanswered(conn, request, now);
        }
        unanswered
    }

    fn response(&mut self, conn: ConnId, frame: &[u8], now: Instant) {
        let (cluster, waiting) = self.cluster_and_demand();
        if let Some(answered) = cluster.response(conn, frame, &waiting, now) {
            let peer = answered.peer;
            if let Err(why) = self.answer(answered, frame, now) {
                let (cluster, waiting) = self.cluster_and_demand();
                cluster.fail(peer, why, &waiting, now);
            }
        }
        self.heed_news(now);
    }

    #[cfg(feature = "sasl")]
    fn token(&mut self, token: Result<Token, String>, now: Instant) {
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.token(token, &waiting, now);
        self.heed_news(now);
    }

    fn extend_timeouts(&mut self, until: Instant) {
        self.topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
            .for_each(|partition| partition.extend_timeouts(until));
        self.cluster.extend_timeouts(until);
    }

    fn advance(&mut self, now: Instant) {
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.judge_links(&waiting, now);
        self.heed_news(now);
        self.heed_alarms(now);
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.forget_causes(&waiting, now);
        cluster.refresh(&waiting, now);
        self.heed_news(now);
        self.ask_for_identity(now);
        self.dispatch(now);
        let (cluster, waiting) = self.cluster_and_demand();
        cluster.connect_as_needed(&waiting, now);
        self.heed_news(now);
    }

    fn next_deadline(&self) -> Deadline {
        let cluster = self.cluster.next_deadline(&self.waiting());
        self.alarms.next_deadline().min(cluster).min(self.identity_deadline())
    }

    fn next_action(&mut self) -> Option<Action> {
        self.cluster.next_action()
    }

    fn is_busy(&self) -> bool {
        self.unfinished > 0
    }
}

impl ProducerEngine {
    /// Looks at the partitions and topics whose moment has come.
    fn heed_alarms(&mut self, now: Instant) {
        while let Some(of) = self.alarms.next_due(now) {
            match of {
                Destination::Topic(topic) => self.visit_topic(topic, now),
                Destination::Partition(id) => self.visit(id, now),
            }
        }
    }

    /// Takes in the news of the cluster.
    pub(super) fn heed_news(&mut self, now: Instant) {
        while let Some(news) = self.cluster.next_news() {
            match news {
                News::Ended { peer, conn, lost } => {
                    self.identity.lost(conn);
                    if let Some(lost) = lost {
                        self.retry_all(conn, lost, now);
                    }
                    self.doubt_leader(peer, now);
                }
                News::Replaced => self.meet_cluster(now),
                News::Topics { peer, topics } => self.take_topics(peer, &topics, now),
            }
        }
    }

    /// The batches in flight on a connection that ended go out again.
    fn retry_all(&mut self, conn: ConnId, lost: Lost, now: Instant) {
        for (request, started) in lost.requests {
            for id in request.partitions {
                self.with_partition(id, now, |partition, out| {
                    // The link has its own pause before it is used again.
                    let request = RequestId { conn, correlation: request.correlation };
                    partition.lost(request, started, &lost.error, Deadline::NEVER, out);
                });
            }
        }
    }

    /// Without acks the end of a connection is the only sign of an error at the broker: perhaps it no longer leads, so
    /// the engine asks for the leader before the next message.
    fn doubt_leader(&mut self, peer: Peer, now: Instant) {
        if self.config.required_acks != RequiredAcks::None {
            return;
        }
        let leads = |partition: &Partition| peer.is_node_of(|node| Some(node) == partition.leader.node);
        for topic in TopicIndex::below(self.topics.len()) {
            for partition in PartitionId::below(self.topics[topic.get()].partitions.len()) {
                if leads(&self.topics[topic.get()].partitions[partition.get()]) {
                    self.with_partition(TopicPartition { topic, partition }, now, |partition, _| {
                        partition.lead_by(Leadership { node: None, ..partition.leader });
                    });
                }
            }
        }
    }
}

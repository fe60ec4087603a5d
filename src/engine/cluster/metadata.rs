//! Metadata: asks for it, and takes in the cluster part of the answers. The topics in them go on to the engine.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::causes::{LogPolicy, Subject};
use super::demand::Demand;
use super::description::ClusterDescription;
use super::link::{Link, Peer};
use super::news::News;
use super::{Cluster, MOST_BROKERS};
use crate::config::BrokerAddress;
use crate::error::{BrokerInfo, ConnectionErrorKind, DeliveryErrorKind, ErrorCode};
use crate::ids::NodeId;
use crate::message::Topic;
use crate::wire::api::metadata::{BrokerMetadata, MetadataResponse};
use crate::wire::api::{Api, metadata};

impl Cluster {
    /// Sends a request for metadata, if one is wanted and allowed.
    pub fn refresh(&mut self, demand: &impl Demand, now: Instant) {
        if !self.refresh.is_due(demand, now) {
            return;
        }
        if self.refresh.is_fruitless(now) {
            self.rebootstrap("nobody has answered with metadata for minutes", demand, now);
        }
        let Some(peer) = self.any_ready() else { return };
        let question = self.refresh.next_question(demand, now);
        let names: Vec<&str> = question.topics.iter().map(Topic::name).collect();
        let create = self.options.creates_topics && !question.all;
        let sent = self.request(peer, Api::Metadata, now, |version, correlation, client| {
            metadata::request(version, correlation, client, &names, create)
        });
        if let Some(conn) = sent {
            self.refresh.asked(conn, now);
        }
    }

    /// The topics of an answer were taken in: goes on with the round, or decides when the next one is due.
    pub fn took_topics(&mut self, demand: &impl Demand, now: Instant) {
        self.refresh.answered(demand, now, self.random.u64(..));
    }

    /// Takes in an answer to a request for metadata.
    pub fn take_metadata(&mut self, peer: Peer, answer: MetadataResponse, demand: &impl Demand, now: Instant) {
        let named = answer.brokers.len();
        if answer.error != ErrorCode::NONE || !(1..=MOST_BROKERS).contains(&named) {
            // Keep what was good.
            let why = if answer.error == ErrorCode::NONE {
                let what = match named {
                    0 => "it names no brokers".to_owned(),
                    _ => format!("it names {named} brokers, and no cluster has more than {MOST_BROKERS}"),
                };
                self.connection_error(peer, ConnectionErrorKind::BadResponse { api: Api::Metadata.name(), what })
            } else {
                Arc::new(DeliveryErrorKind::Broker(self.broker_error(peer, Api::Metadata, answer.error)))
            };
            self.note(Subject::Metadata, why, now, LogPolicy::AtOnce);
            if answer.error == ErrorCode::REBOOTSTRAP_REQUIRED {
                self.rebootstrap("a broker asks for it", demand, now);
            }
            return self.refresh.ask_again(now, self.random.u64(..));
        }
        self.causes.end(|about| matches!(about, Subject::Metadata | Subject::Broker(Peer::Seed(_))));
        let brokers: Vec<BrokerInfo> = answer.brokers.iter().map(info_of).collect();
        self.drop_others(&brokers);
        self.take_brokers(peer, &answer.brokers, demand, now);
        if let Peer::Seed(_) = peer {
            self.leave_seed(peer, &brokers);
        }
        let before = self.description.as_ref().and_then(|before| before.id.as_deref());
        if let (Some(before), Some(id)) = (before, &answer.cluster_id) {
            if *before != **id {
                log::warn!("cluster {id} is in the place of cluster {before}");
                self.news.push_back(News::Replaced);
            }
        }
        let controller = NodeId::known(answer.controller);
        self.description = Some(ClusterDescription { id: answer.cluster_id, controller, brokers });
        self.news.push_back(News::Topics { peer, topics: answer.topics });
    }

    /// Takes in the addresses of brokers, as `by` says; of new ones no more than a cluster has.
    pub fn take_brokers(&mut self, by: Peer, brokers: &[BrokerMetadata], demand: &impl Demand, now: Instant) {
        if brokers.is_empty() {
            return;
        }
        let told_by = self.address(by);
        let mut known = self.links.to_nodes().count();
        for BrokerInfo { node, address } in brokers.iter().map(info_of) {
            let peer = Peer::Node(NodeId(node));
            if self.links.get(peer).is_some_and(|link| link.address != address) {
                log::info!("broker {node} is at {address} now");
                let why = ConnectionErrorKind::GivenUp("the cluster says that the broker is elsewhere");
                self.fail(peer, why, demand, now);
                self.links.remove(peer);
                known -= 1;
            }
            if self.links.get(peer).is_none() {
                if known >= MOST_BROKERS {
                    continue;
                }
                known += 1;
            }
            self.links.get_or_make(peer, address).told_by = Some(Arc::clone(&told_by));
        }
    }

    /// Marks the links to brokers that were not named, and forgets those without a connection.
    fn drop_others(&mut self, named: &[BrokerInfo]) {
        // A set, because the broker that answers decides how many there are.
        let nodes: HashSet<NodeId> = named.iter().map(|broker| NodeId(broker.node)).collect();
        let mut unlisted = Vec::new();
        for (peer, link) in self.links.iter_mut() {
            let Peer::Node(node) = peer else { continue };
            link.listed = nodes.contains(&node);
            unlisted.extend((!link.listed).then_some(peer));
        }
        for peer in unlisted {
            self.links.drop_unlisted(peer);
        }
    }

    /// A bootstrap connection has done its work: the broker behind it takes it over, or it is closed.
    fn leave_seed(&mut self, seed: Peer, brokers: &[BrokerInfo]) {
        let Some(link) = self.links.get(seed) else { return };
        let broker = brokers.iter().find(|broker| broker.address == link.address);
        let broker = broker.map(|broker| Peer::Node(NodeId(broker.node)));
        let free = broker.filter(|peer| self.links.get(*peer).is_some_and(Link::is_down));
        if let (Some(node), Some(_)) = (free, link.conn()) {
            self.links.adopt(seed, node);
            self.causes.rename(seed, node);
        }
        let live = self.links.get(seed).and_then(Link::live);
        if live.is_some_and(|live| live.in_flight.is_empty()) {
            self.links.hang_up(seed);
        }
    }

    /// Leaves all brokers that the cluster told of for the addresses that the user gave (KIP-899, KIP-1102).
    ///
    /// Leaders keep their node ids: what is for them waits until metadata says again where they are.
    fn rebootstrap(&mut self, why: &str, demand: &impl Demand, now: Instant) {
        log::info!("asking the bootstrap addresses again: {why}");
        let peers: Vec<Peer> = self.links.iter().map(|(peer, _)| peer).collect();
        for peer in peers {
            let why = ConnectionErrorKind::GivenUp("the bootstrap addresses are asked again");
            self.fail(peer, why, demand, now);
            if matches!(peer, Peer::Node(_)) {
                self.links.remove(peer);
            }
        }
    }
}

fn info_of(broker: &BrokerMetadata) -> BrokerInfo {
    BrokerInfo { node: broker.node, address: BrokerAddress { host: broker.host.clone(), port: broker.port } }
}

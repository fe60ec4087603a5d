//! The links to the brokers: which to open, what their events mean, and requests that any of them can answer.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::causes::{About, Tell};
use super::partition::Partition;
use super::{Action, ProducerEngine};
use crate::config::{ClientConfig, RequiredAcks};
use crate::deadline::Deadline;
use crate::engine::backoff::Backoff;
use crate::engine::cluster::in_flight::{Answer, Purpose, Request};
use crate::engine::cluster::link::{Link, Live, Overdue, Patience, Peer};
use crate::error::{Advertised, ConnectionError, ConnectionErrorKind, DeliveryErrorKind};
use crate::wire::ErrorCode;
use crate::wire::frame::{ConnId, CorrelationId, Frame};
use crate::wire::{Api, api_versions};

/// Every broker that is known, and every bootstrap address.
#[derive(Debug)]
pub struct Brokers {
    pub(super) links: BTreeMap<Peer, Link>,
    pub(super) patience: Patience,
    /// Which link a connection belongs to. A connection that is not here is closed already.
    conns: BTreeMap<ConnId, Peer>,
    next_conn: u64,
    /// The place in the round of bootstrap addresses and brokers that may be asked for metadata.
    turn: usize,
    /// Since when something that any broker can answer has no answer, and when the last connection for that alone was
    /// begun.
    wanting_since: Option<Instant>,
    last_attempt: Option<Instant>,
}

/// Connections that did not bring the answer after this long are not waited for alone: another address is tried beside
/// them.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(1);

impl Brokers {
    pub(super) fn new(client: &ClientConfig, random: u64) -> Self {
        let links =
            client.seeds.iter().enumerate().map(|(at, seed)| (Peer::Seed(at), Link::new(seed.clone()))).collect();
        Self {
            links,
            patience: Patience {
                connect_timeout: client.connect_timeout,
                socket_timeout: client.socket_timeout,
                max_idle: client.connections_max_idle,
                backoff: Backoff { first: client.reconnect_backoff, max: client.reconnect_backoff_max },
            },
            conns: BTreeMap::new(),
            // Anywhere: an engine that takes the place of another must not take the numbers of its connections.
            next_conn: random >> 1,
            turn: random as usize % client.seeds.len().max(1),
            wanting_since: None,
            last_attempt: None,
        }
    }

    pub(super) fn rename(&mut self, conn: ConnId, peer: Peer) {
        self.conns.insert(conn, peer);
    }
}

impl ProducerEngine {
    /// A connection is open.
    pub fn connected(&mut self, conn: ConnId, now: Instant) {
        let Some(&peer) = self.brokers.conns.get(&conn) else { return };
        let Some(link) = self.brokers.links.get_mut(&peer) else { return };
        link.opened(now);
        // KIP-511: the newest version we have; a broker that does not know it says in version 0 what it knows.
        self.shake_hands(peer, Api::ApiVersions.ours().max, now);
    }

    /// A connection could not be opened, or ended.
    pub fn closed(&mut self, conn: ConnId, why: ConnectionErrorKind, now: Instant) {
        let Some(peer) = self.brokers.conns.remove(&conn) else { return };
        let is_wanted = self.wants_any_answer() || peer.is_node_of(|node| self.outbox.has(node));
        let Some(link) = self.brokers.links.get_mut(&peer) else { return };
        let name = Arc::clone(&link.name);
        let why = link.explain(why);
        if link.is_at_rest() && matches!(why, ConnectionErrorKind::Closed) {
            // The broker closes what is idle for long: no failure.
            log::debug!("broker {name}: closed an idle connection");
            let _ = link.down();
            self.doubt_leader(peer, now);
            self.drop_unlisted(peer);
            return;
        }
        let again = link.is_failing();
        let random = self.random.u64(..);
        let live = link.failed(now, &self.brokers.patience, random);
        let error = error_of(peer, link, why);
        let requests = live.as_ref().map_or(0, |live| live.in_flight.len());
        if again {
            log::debug!("{error}; {requests} requests will be retried");
        } else if requests > 0 {
            log::warn!("{error}; {requests} requests will be retried");
        } else if is_wanted {
            log::warn!("{error}; it is tried again, in silence");
        } else {
            log::warn!("{error}");
        }
        let error = Arc::new(DeliveryErrorKind::Connection(error));
        link.last_error = Some(Arc::clone(&error));
        self.note(About::Broker(peer), Arc::clone(&error), now, Tell::Never);
        self.identity.lost(conn);
        self.metadata_lost(conn);
        if self.unfinished > 0 {
            // KIP-899: what is unreachable may have moved; ask where the partitions are now.
            self.refresh.want_for(!again);
        }
        if let Some(live) = live {
            self.retry_all(*live, &error, now);
        }
        self.doubt_leader(peer, now);
        self.drop_unlisted(peer);
    }

    /// The socket accepted bytes: of the frames sent on this connection, in order, `started` more had their first
    /// byte accepted and `finished` more their last. Returns whether there is something to decide then: if no answer is
    /// awaited, more may be sent.
    pub fn wrote(&mut self, conn: ConnId, started: usize, finished: usize, now: Instant) -> bool {
        let Some(&peer) = self.brokers.conns.get(&conn) else { return false };
        let Some(link) = self.brokers.links.get_mut(&peer) else { return false };
        let Some(live) = link.live_mut() else { return false };
        let (topics, released) = (&mut self.topics, &mut self.released);
        let done = live.in_flight.wrote(started, finished, now, |request| {
            let Purpose::Produce(sent) = &request.purpose else { return };
            for &(topic, number) in sent {
                if let Some(partition) = topics.get_mut(topic as usize).and_then(|topic| topic.partition(number)) {
                    let queued = partition.started(conn, request.correlation);
                    released.messages += queued.messages;
                    released.bytes += queued.bytes;
                }
            }
        });
        let unanswered = !done.is_empty();
        if unanswered {
            link.window.answered(done.iter().map(|request| request.bytes).sum());
        }
        for request in done {
            self.delivered_unanswered(conn, request, now);
        }
        unanswered
    }

    /// A whole response, without its size field.
    pub fn response(&mut self, conn: ConnId, frame: &[u8], now: Instant) {
        let Some(&peer) = self.brokers.conns.get(&conn) else { return };
        let Some(live) = self.brokers.links.get_mut(&peer).and_then(Link::live_mut) else { return };
        let request = crate::wire::frame::correlation_of(frame)
            .ok()
            .and_then(|correlation| live.in_flight.answered(correlation, now));
        let Some(request) = request else {
            let why = live.in_flight.oldest_api().map_or(ConnectionErrorKind::Unasked, |api| {
                ConnectionErrorKind::BadResponse { api, what: "it does not belong to the oldest request".to_owned() }
            });
            return self.fail_link(peer, why, now);
        };
        if let Err(error) = self.answer(peer, conn, request, frame, now) {
            self.fail_link(peer, error, now);
        }
    }

    /// Closes a connection that cannot be used any more, as if it had ended by itself.
    pub(super) fn fail_link(&mut self, peer: Peer, why: ConnectionErrorKind, now: Instant) {
        let Some(conn) = self.brokers.links.get(&peer).and_then(Link::conn) else { return };
        self.actions.push_back(Action::Close { conn });
        self.closed(conn, why, now);
    }

    /// Closes every connection without a word.
    pub(super) fn close_links(&mut self) {
        for link in self.brokers.links.values_mut() {
            if let Some(conn) = link.conn() {
                self.actions.push_back(Action::Close { conn });
                self.brokers.conns.remove(&conn);
                let _ = link.down();
            }
        }
    }

    /// Fails the links whose time is up, and closes those that were idle for long.
    pub(super) fn judge_links(&mut self, now: Instant) {
        self.brokers.links.values_mut().for_each(|link| link.end_silence(now));
        let patience = &self.brokers.patience;
        let overdue: Vec<(Peer, Overdue)> =
            self.brokers.links.iter().filter_map(|(peer, link)| Some((*peer, link.overdue(now, patience)?))).collect();
        for (peer, overdue) in overdue {
            match overdue {
                Overdue::Connect => {
                    let after = self.brokers.patience.connect_timeout;
                    self.fail_link(peer, ConnectionErrorKind::ConnectTimeout(after), now);
                }
                Overdue::Answer => {
                    let live = self.brokers.links.get(&peer).and_then(Link::live);
                    let api = live.and_then(|live| live.in_flight.awaited_api());
                    let after = self.brokers.patience.socket_timeout;
                    self.fail_link(peer, ConnectionErrorKind::SocketTimeout { api, after }, now);
                }
                Overdue::Idle => self.hang_up(peer),
            }
        }
    }

    pub(super) fn links_deadline(&self) -> Deadline {
        let (brokers, mut earliest) = (&self.brokers, Deadline::NEVER);
        let needs_any = self.needs_any_broker();
        // While one address hangs the next one gets its turn.
        let turn = if needs_any && self.is_one_on_its_way() { self.next_turn() } else { Deadline::NEVER };
        for (peer, link) in &brokers.links {
            earliest = earliest.min(link.next_deadline(&brokers.patience)).min(link.mute_deadline());
            if peer.is_node_of(|node| self.outbox.has(node)) {
                earliest = earliest.min(link.may_connect_at());
            } else if needs_any && link.is_down() && !self.is_led_to_twice(*peer, link) {
                earliest = earliest.min(link.may_connect_at().max(turn));
            }
        }
        earliest
    }

    /// Opens the connections that something waits for.
    pub(super) fn connect_as_needed(&mut self, now: Instant) {
        let mut next = self.outbox.node_from(i32::MIN);
        while let Some(node) = next {
            next = node.checked_add(1).and_then(|from| self.outbox.node_from(from));
            let peer = Peer::Node(node);
            match self.brokers.links.get(&peer) {
                Some(link) if link.may_connect(now) => self.connect(peer, now),
                Some(_) => {}
                // A leader that metadata does not list as a broker: ask again.
                None => self.refresh.want(),
            }
        }
        if self.wants_any_answer() {
            self.brokers.wanting_since.get_or_insert(now);
        } else {
            self.brokers.wanting_since = None;
        }
        if !self.needs_any_broker() || (self.is_one_on_its_way() && !self.next_turn().passed(now)) {
            return;
        }
        if let Some(peer) = self.next_candidate(now) {
            self.brokers.last_attempt = Some(now);
            self.connect(peer, now);
        }
    }

    /// A connection that is ready for a request that any broker can answer: the one with the least to do. None to a
    /// broker that asked for silence (KIP-219): it would let the request wait.
    pub(super) fn any_ready(&self) -> Option<Peer> {
        // What is not listed any more may be of a cluster that another one has replaced.
        let is_ready = |link: &Link| link.listed && link.ready().is_some() && !link.is_muted();
        let ready = self.brokers.links.iter().filter(|(_, link)| is_ready(link));
        ready.min_by_key(|(_, link)| link.live().map_or(0, |live| live.in_flight.len())).map(|(peer, _)| *peer)
    }

    /// Sends a small request; returns the connection it went to.
    pub(super) fn request(
        &mut self,
        peer: Peer,
        api: Api,
        purpose: Purpose,
        now: Instant,
        write: impl FnOnce(i16, CorrelationId, &str) -> Frame,
    ) -> Option<ConnId> {
        let link = self.brokers.links.get_mut(&peer)?;
        let version = link.ready()?.1.choose(api).ok()?;
        self.send(peer, version, purpose, now, write)
    }

    /// Closes a connection that nobody needs.
    pub(super) fn hang_up(&mut self, peer: Peer) {
        let Some(link) = self.brokers.links.get_mut(&peer) else { return };
        if let Some(conn) = link.conn() {
            log::debug!("broker {}: closing an idle connection", link.name);
            self.actions.push_back(Action::Close { conn });
            self.brokers.conns.remove(&conn);
            let _ = link.down();
        }
        self.drop_unlisted(peer);
    }

    /// The handshake's answer.
    pub(super) fn handshake(
        &mut self,
        peer: Peer,
        conn: ConnId,
        version: i16,
        answer: api_versions::ApiVersionsResponse,
        now: Instant,
    ) -> Result<(), ConnectionErrorKind> {
        if answer.error == ErrorCode::UNSUPPORTED_VERSION && version > 0 {
            // KIP-511: it came in version 0 and says which versions there are; none known means 0.
            let theirs = answer.versions.range(Api::ApiVersions).map_or(0, |range| range.max);
            self.shake_hands(peer, theirs.clamp(0, version - 1), now);
            return Ok(());
        }
        if answer.error != ErrorCode::NONE {
            return Err(ConnectionErrorKind::Refused { api: Api::ApiVersions.name(), code: answer.error });
        }
        if answer.registers_brokers && answer.versions.range(Api::Produce).is_none() {
            return Err(ConnectionErrorKind::Controller);
        }
        for api in [Api::Metadata, Api::Produce] {
            answer.versions.choose(api)?;
        }
        if self.config.idempotent {
            answer.versions.choose(Api::InitProducerId)?;
        }
        let Some(link) = self.brokers.links.get_mut(&peer) else { return Ok(()) };
        link.greeted(answer.versions);
        log::debug!("broker {}: connected", link.name);
        self.actions.push_back(Action::Limit { conn, max_response_bytes: self.client.max_response_bytes });
        Ok(())
    }

    fn shake_hands(&mut self, peer: Peer, version: i16, now: Instant) {
        let _ = self.send(peer, version, Purpose::ApiVersions, now, api_versions::request);
    }

    fn send(
        &mut self,
        peer: Peer,
        version: i16,
        purpose: Purpose,
        now: Instant,
        write: impl FnOnce(i16, CorrelationId, &str) -> Frame,
    ) -> Option<ConnId> {
        let live = self.brokers.links.get_mut(&peer)?.live_mut()?;
        let correlation = live.next_correlation(now);
        let frame = write(version, correlation, &self.client.client_id);
        let bytes = frame.len();
        live.in_flight.sent(Request { correlation, version, purpose, answer: Answer::Expected, bytes }, now);
        let conn = live.conn;
        self.actions.push_back(Action::Send { conn, frame });
        Some(conn)
    }

    pub(super) fn connect(&mut self, peer: Peer, now: Instant) {
        let Some(link) = self.brokers.links.get_mut(&peer) else { return };
        let conn = ConnId(self.brokers.next_conn);
        self.brokers.next_conn += 1;
        self.brokers.conns.insert(conn, peer);
        link.connecting(conn, now, &self.brokers.patience);
        let (address, within) = (link.address.clone(), self.brokers.patience.connect_timeout);
        log::debug!("broker {address}: connecting");
        if address.is_sound() {
            self.actions.push_back(Action::Connect { conn, address, within });
        } else {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "no host can have it");
            self.closed(conn, ConnectionErrorKind::Resolve(Arc::new(why)), now);
        }
    }

    /// Whether there is, or waits, a request that any broker can answer.
    fn wants_any_answer(&self) -> bool {
        self.refresh.is_open() || (self.unfinished > 0 && self.identity.current().is_err())
    }

    /// Whether a request waits that any broker can answer, and no broker is ready for it.
    pub(super) fn needs_any_broker(&self) -> bool {
        let wanted = self.refresh.is_wanted() || (self.unfinished > 0 && self.identity.current().is_err());
        wanted && self.any_ready().is_none()
    }

    /// Whether a connection is on its way, or will be at once, because something waits for that broker.
    fn is_one_on_its_way(&self) -> bool {
        self.brokers.links.iter().any(|(peer, link)| {
            let wanted = || peer.is_node_of(|node| self.outbox.has(node));
            link.is_starting() || (link.is_down_for_a_moment() && wanted())
        })
    }

    /// When another address is tried beside the connection that is on its way.
    fn next_turn(&self) -> Deadline {
        let after = |moment: Option<Instant>| {
            moment.map_or(Deadline::NEVER, |moment| Deadline::after(moment, NEXT_ADDRESS_AFTER))
        };
        after(self.brokers.wanting_since).max(after(self.brokers.last_attempt))
    }

    /// Whether this is a bootstrap address, and that of a broker's own link, too, which is enough unless it must not be
    /// used for long.
    fn is_led_to_twice(&self, peer: Peer, link: &Link) -> bool {
        let same = |node: &Link| node.listed && node.address == link.address && !node.is_muted();
        let mut nodes = self.brokers.links.range(Peer::Node(i32::MIN)..);
        matches!(peer, Peer::Seed(_)) && nodes.any(|(_, node)| same(node))
    }

    /// Whom to try for metadata: a broker that has not failed, else all in turn, bootstrap addresses included
    /// (KIP-899).
    fn next_candidate(&mut self, now: Instant) -> Option<Peer> {
        let free: Vec<(Peer, bool)> = self
            .brokers
            .links
            .iter()
            .filter(|(peer, link)| link.may_connect(now) && !self.is_led_to_twice(**peer, link))
            .map(|(peer, link)| (*peer, matches!(peer, Peer::Node(_)) && !link.is_failing()))
            .collect();
        let good: Vec<Peer> = free.iter().filter(|(_, good)| *good).map(|(peer, _)| *peer).collect();
        let candidates = if good.is_empty() { free.into_iter().map(|(peer, _)| peer).collect() } else { good };
        if candidates.is_empty() {
            return None;
        }
        self.brokers.turn = self.brokers.turn.wrapping_add(1);
        candidates.get(self.brokers.turn % candidates.len()).copied()
    }

    /// What was in flight on a connection that ended goes out again.
    fn retry_all(&mut self, live: Live, error: &Arc<DeliveryErrorKind>, now: Instant) {
        let conn = live.conn;
        for (request, started) in live.in_flight.into_rest() {
            let Purpose::Produce(sent) = request.purpose else { continue };
            for (topic, number) in sent {
                let Some(partition) = self.topics.get_mut(topic as usize).and_then(|it| it.partition(number)) else {
                    continue;
                };
                // The link has its own pause before it is used again.
                let why = (error, Deadline::NEVER);
                let freed = partition.lost((conn, request.correlation), started, why, &mut self.settled);
                self.outbox.free(freed);
                self.settle();
                self.touch(topic, number, now);
            }
        }
    }

    /// Without acks the end of a connection is all that a broker says of an error: perhaps it no longer leads, and who
    /// does is asked before the next message.
    fn doubt_leader(&mut self, peer: Peer, now: Instant) {
        if self.config.required_acks != RequiredAcks::None {
            return;
        }
        let leads = |partition: &Partition| peer.is_node_of(|node| node == partition.leader);
        for topic in 0..self.topics.len() {
            for number in 0..self.topics[topic].partitions.len() {
                let partition = &mut self.topics[topic].partitions[number];
                if leads(partition) {
                    partition.lead_by(-1, partition.leader_epoch);
                    self.touch(topic as u32, number as i32, now);
                }
            }
        }
    }

    fn drop_unlisted(&mut self, peer: Peer) {
        if self.brokers.links.get(&peer).is_some_and(|link| !link.listed && link.is_down()) {
            self.brokers.links.remove(&peer);
        }
    }
}

pub(super) fn error_of(peer: Peer, link: &Link, kind: ConnectionErrorKind) -> ConnectionError {
    let told_by = peer.node().zip(link.told_by.clone());
    let advertised = told_by.map(|(node, by)| Advertised { node, by });
    ConnectionError { address: Arc::clone(&link.name), advertised, kind }
}

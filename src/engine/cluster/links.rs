//! The links to all brokers that are known, and to every bootstrap address: opens and closes their connections and
//! hands requests to them, as actions for the driver.
//!
//! [`Cluster`](super::Cluster) decides the meaning of a connection's end, and `routes` which connections to open.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::in_flight::{Answer, Request};
use super::link::{Link, Overdue, Peer, Timeouts};
use crate::config::{BrokerAddress, ClientConfig};
use crate::deadline::Deadline;
use crate::engine::action::Action;
use crate::engine::backoff::Backoff;
use crate::error::{Advertised, ConnectionError, ConnectionErrorKind, DeliveryErrorKind};
use crate::wire::Api;
use crate::wire::frame::{ConnId, CorrelationId, Frame, RequestId};

/// Every broker that is known, and every bootstrap address.
#[derive(Debug)]
pub struct Links {
    links: BTreeMap<Peer, Link>,
    timeouts: Timeouts,
    client: Arc<ClientConfig>,
    /// The link of each connection. A connection that is not here is closed already.
    conns: BTreeMap<ConnId, Peer>,
    next_conn: u64,
    actions: VecDeque<Action>,
}

impl Links {
    /// One to each bootstrap address. Connections are numbered from `first_conn` on.
    #[must_use]
    pub fn new(client: Arc<ClientConfig>, first_conn: u64) -> Self {
        let links =
            client.seeds.iter().enumerate().map(|(at, seed)| (Peer::Seed(at), Link::new(seed.clone()))).collect();
        let timeouts = Timeouts {
            connect_timeout: client.connect_timeout,
            socket_timeout: client.socket_timeout,
            max_idle: client.connections_max_idle,
            backoff: Backoff { first: client.reconnect_backoff, max: client.reconnect_backoff_max },
        };
        let (conns, actions) = (BTreeMap::new(), VecDeque::new());
        Self { links, timeouts, client, conns, next_conn: first_conn, actions }
    }

    /// The link to this broker.
    #[must_use]
    pub fn get(&self, peer: Peer) -> Option<&Link> {
        self.links.get(&peer)
    }

    /// The link to this broker.
    pub fn get_mut(&mut self, peer: Peer) -> Option<&mut Link> {
        self.links.get_mut(&peer)
    }

    /// The link to this broker, a new one if there is none.
    pub fn get_or_make(&mut self, peer: Peer, address: BrokerAddress) -> &mut Link {
        self.links.entry(peer).or_insert_with(|| Link::new(address))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Peer, &Link)> {
        self.links.iter().map(|(peer, link)| (*peer, link))
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Peer, &mut Link)> {
        self.links.iter_mut().map(|(peer, link)| (*peer, link))
    }

    /// Those to brokers that the cluster told of.
    pub fn to_nodes(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|(peer, _)| matches!(peer, Peer::Node(_))).map(|(_, link)| link)
    }

    /// Forgets a link.
    pub fn remove(&mut self, peer: Peer) -> Option<Link> {
        self.links.remove(&peer)
    }

    /// Forgets a link that the last metadata did not name, if there is no connection.
    pub fn drop_unlisted(&mut self, peer: Peer) {
        if self.get(peer).is_some_and(|link| !link.listed && link.is_down()) {
            self.links.remove(&peer);
        }
    }

    /// The link of a connection; `None` if it is closed.
    #[must_use]
    pub fn peer_of(&self, conn: ConnId) -> Option<Peer> {
        self.conns.get(&conn).copied()
    }

    /// A connection has ended, and is nobody's any more.
    pub fn forget_conn(&mut self, conn: ConnId) -> Option<Peer> {
        self.conns.remove(&conn)
    }

    /// The time limits of the links.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The next thing to do for them.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The connection of a bootstrap address goes on as that of the broker that is there.
    pub fn adopt(&mut self, seed: Peer, node: Peer) {
        let Some(mut link) = self.links.remove(&seed) else { return };
        if let (Some(node_link), Some(conn)) = (self.links.get_mut(&node), link.conn()) {
            node_link.adopt(&mut link);
            self.conns.insert(conn, node);
        }
        self.links.insert(seed, link);
    }

    /// Begins a connection, or says that no host can have the address.
    pub fn connect(&mut self, peer: Peer, now: Instant) -> Result<(), ConnId> {
        let Some(link) = self.links.get_mut(&peer) else { return Ok(()) };
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(conn, peer);
        link.connecting(conn, now, &self.timeouts);
        let (address, within) = (link.address.clone(), self.timeouts.connect_timeout);
        log::debug!("broker {address}: connecting");
        if !address.is_sound() {
            return Err(conn);
        }
        self.actions.push_back(Action::Connect { conn, address, within });
        Ok(())
    }

    /// Hands a request to the connection: any API, in any version.
    pub fn send(
        &mut self,
        peer: Peer,
        api: Api,
        version: i16,
        now: Instant,
        write: impl FnOnce(i16, CorrelationId, &str) -> Frame,
    ) -> Option<ConnId> {
        let RequestId { conn, correlation } = self.next_correlation(peer, now)?;
        let frame = write(version, correlation, &self.client.client_id);
        let request =
            Request { correlation, version, api, partitions: Vec::new(), answer: Answer::Expected, bytes: frame.len() };
        self.send_frame(peer, request, frame, now);
        Some(conn)
    }

    /// The same for a small request in the newest version that both sides have, once the handshake is done.
    pub fn request(
        &mut self,
        peer: Peer,
        api: Api,
        now: Instant,
        write: impl FnOnce(i16, CorrelationId, &str) -> Frame,
    ) -> Option<ConnId> {
        let version = self.get(peer)?.ready()?.1.choose(api).ok()?;
        self.send(peer, api, version, now, write)
    }

    /// The connection, and the number for the next request on it; [`send_frame`](Self::send_frame) hands that over.
    pub fn next_correlation(&mut self, peer: Peer, now: Instant) -> Option<RequestId> {
        let live = self.links.get_mut(&peer)?.live_mut()?;
        Some(RequestId { conn: live.conn, correlation: live.next_correlation(now) })
    }

    /// Hands a request to the connection for which its number was made.
    pub fn send_frame(&mut self, peer: Peer, request: Request, frame: Frame, now: Instant) {
        let Some(live) = self.links.get_mut(&peer).and_then(Link::live_mut) else { return };
        live.in_flight.sent(request, now);
        self.actions.push_back(Action::Send { conn: live.conn, frame });
    }

    /// The handshake is done: from now on responses may be as large as the user allows.
    pub fn allow_responses(&mut self, conn: ConnId) {
        self.actions.push_back(Action::Limit { conn, max_response_bytes: self.client.max_response_bytes });
    }

    /// Asks for a token for logins.
    #[cfg(feature = "sasl")]
    pub fn ask_for_token(&mut self) {
        self.actions.push_back(Action::AskForToken);
    }

    /// Closes the socket; the link knows nothing of it yet.
    pub fn close(&mut self, conn: ConnId) {
        self.actions.push_back(Action::Close { conn });
    }

    /// Closes a connection that nobody needs.
    pub fn hang_up(&mut self, peer: Peer) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if let Some(conn) = link.conn() {
            log::debug!("broker {}: closing an idle connection", link.name);
            self.actions.push_back(Action::Close { conn });
            self.conns.remove(&conn);
            let _ = link.down();
        }
        self.drop_unlisted(peer);
    }

    /// Closes every connection without a word.
    pub fn close_all(&mut self) {
        for link in self.links.values_mut() {
            if let Some(conn) = link.conn() {
                self.actions.push_back(Action::Close { conn });
                self.conns.remove(&conn);
                let _ = link.down();
            }
        }
    }

    /// Nobody has looked at the sockets for long: no link is given up before `until`, each once.
    pub fn extend_timeouts(&mut self, until: Instant) {
        let timeouts = &self.timeouts;
        self.links.values_mut().for_each(|link| link.extend_timeouts(until, timeouts));
    }

    /// Ends the silences that are over; returns the links whose time is up.
    pub fn overdue(&mut self, now: Instant) -> Vec<(Peer, Overdue)> {
        self.links.values_mut().for_each(|link| link.end_throttle(now));
        let timeouts = &self.timeouts;
        self.links.iter().filter_map(|(peer, link)| Some((*peer, link.overdue(now, timeouts)?))).collect()
    }

    /// The next moment at which something about a link changes by itself.
    #[must_use]
    pub fn next_deadline(&self, link: &Link) -> Deadline {
        link.next_deadline(&self.timeouts).min(link.throttle_deadline())
    }

    /// A connection that is ready for a request that any broker can answer: the one with the least to do. None to a
    /// broker that asked for silence (KIP-219): it would let the request wait.
    #[must_use]
    pub fn any_ready(&self) -> Option<Peer> {
        // A broker that is not listed any more may belong to a cluster that another one has replaced.
        let is_ready = |link: &Link| link.listed && link.ready().is_some() && !link.is_throttled();
        let ready = self.links.iter().filter(|(_, link)| is_ready(link));
        ready.min_by_key(|(_, link)| link.live().map_or(0, |live| live.in_flight.len())).map(|(peer, _)| *peer)
    }

    /// A failure of the connection to this broker, as the error of the messages that wait for it.
    #[must_use]
    pub fn error(&self, peer: Peer, kind: ConnectionErrorKind) -> Arc<DeliveryErrorKind> {
        let error = match self.get(peer) {
            Some(link) => error_of(peer, link, kind),
            None => ConnectionError { address: UNKNOWN_ADDRESS.into(), advertised: None, kind },
        };
        Arc::new(DeliveryErrorKind::Connection(error))
    }

    /// The address of a broker that has just answered.
    #[must_use]
    pub fn address(&self, peer: Peer) -> Arc<str> {
        self.get(peer).map_or_else(|| UNKNOWN_ADDRESS.into(), |link| Arc::clone(&link.name))
    }
}

/// The error of a link.
#[must_use]
pub fn error_of(peer: Peer, link: &Link, kind: ConnectionErrorKind) -> ConnectionError {
    let told_by = peer.node().zip(link.told_by.clone());
    let advertised = told_by.map(|(node, by)| Advertised { node: node.0, by });
    ConnectionError { address: Arc::clone(&link.name), advertised, kind }
}

/// For a link that is gone already.
const UNKNOWN_ADDRESS: &str = "an unknown address";

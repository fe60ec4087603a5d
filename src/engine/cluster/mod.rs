//! Speaks with the brokers of a cluster, for every engine that needs it: owns the links and their handshakes, takes in
//! the metadata of the cluster, and decides when to ask for it.
//!
//! [`Cluster`] decides which connections to open and to close, and takes in the answers that are the same for every
//! engine: the handshake, the brokers in metadata, throttling. It asks the engine's [`Demand`] for its needs. News for
//! the engine comes back as [`News`], or as an answer to a request of the engine's own.

pub mod causes;
pub mod demand;
pub mod description;
mod handshake;
pub mod in_flight;
pub mod link;
mod links;
#[cfg(feature = "sasl")]
mod login;
mod metadata;
pub mod news;
mod refresh;
mod routes;
#[cfg(feature = "sasl")]
pub mod sasl;
pub mod window;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::causes::{Causes, LogPolicy, Standing, Subject};
use self::demand::Demand;
use self::description::ClusterDescription;
use self::handshake::Handshake;
use self::in_flight::Request;
use self::link::{Link, Overdue, Peer};
use self::links::{Links, error_of};
use self::news::{Answered, Lost, News};
use self::refresh::Refresh;
use self::routes::Routes;
#[cfg(feature = "sasl")]
use self::sasl::logins::{Logins, NO_TOKEN_IN_TIME};
use crate::config::ClientConfig;
use crate::deadline::Deadline;
use crate::engine::action::Action;
use crate::engine::advice::advice;
use crate::engine::backoff::Backoff;
use crate::error::{BrokerError, ConnectionError, ConnectionErrorKind, DeliveryErrorKind, ErrorCode};
use crate::wire::api::api_versions::Versions;
use crate::wire::api::{Api, api_versions, metadata as metadata_api};
use crate::wire::frame::{ConnId, CorrelationId, Frame, RequestId};

/// The cluster as one engine knows it, and its connections.
#[derive(Debug)]
pub struct Cluster {
    options: ClusterOptions,
    links: Links,
    routes: Routes,
    refresh: Refresh,
    causes: Causes,
    #[cfg(feature = "sasl")]
    logins: Logins,
    description: Option<ClusterDescription>,
    random: Rng,
    news: VecDeque<News>,
}

/// The options of an engine's cluster.
#[derive(Clone, Copy, Debug)]
pub struct ClusterOptions {
    /// The APIs that a broker must have.
    pub needed: &'static [Api],
    /// `true` if a request for a topic that something waits for may create it.
    pub creates_topics: bool,
    /// Between questions for metadata that bring nothing.
    pub retry: Backoff,
}

/// No cluster has more brokers: an answer that names more is not believed, because each of them takes memory.
pub const MOST_BROKERS: usize = 10_000;

impl Cluster {
    /// A cluster of which only the bootstrap addresses are known. `seed` feeds jitter and random choices.
    #[must_use]
    pub fn new(client: &Arc<ClientConfig>, options: ClusterOptions, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let first = random.u64(..);
        Self {
            options,
            // The first number is random: an engine that takes the place of another must not take the numbers of its
            // connections.
            links: Links::new(Arc::clone(client), first >> 1),
            routes: Routes::new(first as usize % client.seeds.len().max(1)),
            refresh: Refresh::new(client, options.retry),
            causes: Causes::default(),
            #[cfg(feature = "sasl")]
            logins: Logins::new(client),
            description: None,
            random,
            news: VecDeque::new(),
        }
    }

    /// The description of the cluster in the last metadata.
    #[must_use]
    pub fn description(&self) -> Option<&ClusterDescription> {
        self.description.as_ref()
    }

    /// Fetches metadata as soon as that is allowed.
    pub fn want_metadata(&mut self) {
        self.refresh.want();
    }

    /// The same for a topic or broker: if that is new, it does not wait for the pause that follows from others, which
    /// were asked about in vain.
    pub fn want_metadata_for(&mut self, is_new: bool) {
        self.refresh.want_for(is_new);
    }

    /// The same for a caller, whether or not anything else needs it.
    pub fn ask_for_metadata(&mut self) {
        self.refresh.ask_for();
    }

    /// The next thing that the engine must learn.
    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// The next thing to do for it.
    pub fn next_action(&mut self) -> Option<Action> {
        self.links.next_action()
    }

    /// The link to this broker.
    #[must_use]
    pub fn link(&self, peer: Peer) -> Option<&Link> {
        self.links.get(peer)
    }

    /// A connection that is ready for a request that any broker can answer.
    #[must_use]
    pub fn any_ready(&self) -> Option<Peer> {
        self.links.any_ready()
    }

    /// Sends a small request; returns the connection it went to.
    pub fn request(
        &mut self,
        peer: Peer,
        api: Api,
        now: Instant,
        write: impl FnOnce(i16, CorrelationId, &str) -> Frame,
    ) -> Option<ConnId> {
        self.links.request(peer, api, now, write)
    }

    /// The connection, and the number for the next request on it; [`send`](Self::send) hands that over.
    pub fn next_correlation(&mut self, peer: Peer, now: Instant) -> Option<RequestId> {
        self.links.next_correlation(peer, now)
    }

    /// Hands a request to the connection for which its number was made.
    pub fn send(&mut self, peer: Peer, request: Request, frame: Frame, now: Instant) {
        self.links.send_frame(peer, request, frame, now);
    }

    /// A failure of the connection to this broker, as the error of the messages that wait for it.
    #[must_use]
    pub fn connection_error(&self, peer: Peer, kind: ConnectionErrorKind) -> Arc<DeliveryErrorKind> {
        self.links.error(peer, kind)
    }

    /// The address of a broker that has just answered.
    #[must_use]
    pub fn address(&self, peer: Peer) -> Arc<str> {
        self.links.address(peer)
    }

    /// The error for a code that a broker gave instead of an answer.
    #[must_use]
    pub fn broker_error(&self, peer: Peer, api: Api, code: ErrorCode) -> BrokerError {
        BrokerError {
            node: peer.node().map(|node| node.0),
            address: self.address(peer),
            api: api.name(),
            topic: None,
            partition: None,
            code,
            message: None,
            advice: advice(code),
        }
    }

    /// The connections that are not ready yet, as errors of something that ends now.
    pub fn unready(&self, kind: ConnectionErrorKind) -> impl Iterator<Item = ConnectionError> {
        let starting = self.links.iter().filter(|(_, link)| link.is_starting());
        starting.map(move |(peer, link)| error_of(peer, link, kind.clone()))
    }

    /// The causes that keep messages from being delivered.
    #[must_use]
    pub fn causes(&self) -> &Causes {
        &self.causes
    }

    /// The causes that keep messages from being delivered.
    pub fn causes_mut(&mut self) -> &mut Causes {
        &mut self.causes
    }

    /// Remembers an error that keeps messages from being delivered, and logs it unless that was done not long ago.
    pub fn note(&mut self, about: Subject, error: Arc<DeliveryErrorKind>, now: Instant, tell: LogPolicy) {
        self.causes.note(about, error, now, tell);
    }

    /// A connection is open.
    pub fn connected(&mut self, conn: ConnId, now: Instant) {
        let Some(peer) = self.links.peer_of(conn) else { return };
        let Some(link) = self.links.get_mut(peer) else { return };
        link.opened(now);
        self.send_api_versions(peer, handshake::first_version(), now);
    }

    /// A connection could not be opened, or ended.
    pub fn closed(&mut self, conn: ConnId, why: ConnectionErrorKind, demand: &impl Demand, now: Instant) {
        let Some(peer) = self.links.forget_conn(conn) else { return };
        let is_wanted = self.wants_any_answer(demand) || peer.is_node_of(|node| demand.needs_node(node));
        let timeouts = self.links.timeouts().clone();
        let Some(link) = self.links.get_mut(peer) else { return };
        let why = link.explain(why);
        if link.is_at_rest() && matches!(why, ConnectionErrorKind::Closed) {
            // The broker closes connections that are idle for long: no failure.
            log::debug!("broker {}: closed an idle connection", link.name);
            let _ = link.down();
            self.news.push_back(News::Ended { peer, conn, lost: None });
            return self.links.drop_unlisted(peer);
        }
        if why.is_about_login() {
            link.was_turned_away();
        }
        let again = link.is_failing();
        let live = link.failed(now, &timeouts, self.random.u64(..));
        let error = error_of(peer, link, why);
        let requests = live.map_or_else(Vec::new, |live| live.in_flight.into_rest().collect());
        match requests.len() {
            requests if again => log::debug!("{error}; {requests} requests will be retried"),
            requests if requests > 0 => log::warn!("{error}; {requests} requests will be retried"),
            _ if is_wanted => log::warn!("{error}; it is tried again, in silence"),
            _ => log::warn!("{error}"),
        }
        let error = Arc::new(DeliveryErrorKind::Connection(error));
        link.last_error = Some(Arc::clone(&error));
        self.causes.note(Subject::Broker(peer), Arc::clone(&error), now, LogPolicy::Never);
        self.refresh.lost(conn);
        if demand.is_busy() {
            // KIP-899: a broker that is unreachable may have moved; ask for the leaders again.
            self.refresh.want_for(!again);
        }
        self.news.push_back(News::Ended { peer, conn, lost: Some(Lost { requests, error }) });
        self.links.drop_unlisted(peer);
    }

    /// The socket accepted bytes: of the frames sent on this connection, in order, `started` more had their first byte
    /// accepted and `finished` more their last. Calls `on_start` for each request whose first byte was among them;
    /// returns the requests that are done by that, because nobody answers them.
    pub fn wrote(
        &mut self,
        conn: ConnId,
        started: usize,
        finished: usize,
        now: Instant,
        on_start: impl FnMut(&Request),
    ) -> Vec<Request> {
        let Some(peer) = self.links.peer_of(conn) else { return Vec::new() };
        let Some(link) = self.links.get_mut(peer) else { return Vec::new() };
        let Some(live) = link.live_mut() else { return Vec::new() };
        let done = live.in_flight.wrote(started, finished, now, on_start);
        if !done.is_empty() {
            link.window.answered(done.iter().map(|request| request.bytes).sum());
        }
        done
    }

    /// Takes a whole response in, without its size field; returns it if the engine is to judge it.
    pub fn response(&mut self, conn: ConnId, frame: &[u8], demand: &impl Demand, now: Instant) -> Option<Answered> {
        let peer = self.links.peer_of(conn)?;
        let live = self.links.get_mut(peer)?.live_mut()?;
        let request = crate::wire::frame::correlation_of(frame)
            .ok()
            .and_then(|correlation| live.in_flight.answered(correlation, now));
        let Some(request) = request else {
            let why = live.in_flight.oldest_api().map_or(ConnectionErrorKind::Unasked, |api| {
                ConnectionErrorKind::BadResponse { api, what: "it does not belong to the oldest request".to_owned() }
            });
            self.fail(peer, why, demand, now);
            return None;
        };
        let taken = match request.api {
            Api::ApiVersions => self.take_api_versions(peer, conn, request.version, frame, now),
            Api::Metadata => match metadata_api::decode(request.version, frame) {
                Ok(answer) => {
                    self.answered(peer, Api::Metadata, request.version, answer.throttle, now);
                    self.take_metadata(peer, answer, demand, now);
                    Ok(())
                }
                Err(error) => Err(error.in_response_to(Api::Metadata)),
            },
            #[cfg(feature = "sasl")]
            Api::SaslHandshake | Api::SaslAuthenticate => self.take_login(peer, conn, &request, frame, now),
            _ => return Some(Answered { peer, conn, request }),
        };
        if let Err(why) = taken {
            self.fail(peer, why, demand, now);
        }
        None
    }

    /// A broker answered anything but the handshake, and asks for this much silence.
    pub fn answered(&mut self, peer: Peer, api: Api, version: i16, throttle: Duration, now: Instant) {
        if let Some(link) = self.links.get_mut(peer) {
            if link.is_failing() {
                log::info!("broker {}: answers again", link.name);
            }
            link.answered();
        }
        self.throttled(peer, api, version, throttle, now);
    }

    /// Notes bytes that came through to a broker.
    pub fn carried(&mut self, peer: Peer, bytes: usize) {
        if let Some(link) = self.links.get_mut(peer) {
            link.window.answered(bytes);
        }
    }

    /// Closes a connection that cannot be used any more, as if it had ended by itself.
    pub fn fail(&mut self, peer: Peer, why: ConnectionErrorKind, demand: &impl Demand, now: Instant) {
        let Some(conn) = self.links.get(peer).and_then(Link::conn) else { return };
        self.links.close(conn);
        self.closed(conn, why, demand, now);
    }

    /// Closes a connection that nobody needs.
    pub fn hang_up(&mut self, peer: Peer) {
        self.links.hang_up(peer);
    }

    /// Closes every connection without a word.
    pub fn close_all(&mut self) {
        self.links.close_all();
    }

    /// Nobody has looked at the sockets for long: no link is given up before `until`, each once.
    pub fn extend_timeouts(&mut self, until: Instant) {
        self.links.extend_timeouts(until);
    }

    /// Fails the links whose time is up, and closes those that were idle for long.
    pub fn judge_links(&mut self, demand: &impl Demand, now: Instant) {
        for (peer, overdue) in self.links.overdue(now) {
            let why = match overdue {
                Overdue::Idle => {
                    self.links.hang_up(peer);
                    continue;
                }
                #[cfg(feature = "sasl")]
                Overdue::Connect if self.awaits_token(peer) => self.no_credentials(NO_TOKEN_IN_TIME),
                Overdue::Connect => ConnectionErrorKind::ConnectTimeout(self.links.timeouts().connect_timeout),
                Overdue::Answer => {
                    let live = self.links.get(peer).and_then(Link::live);
                    let api = live.and_then(|live| live.in_flight.awaited_api());
                    ConnectionErrorKind::SocketTimeout { api, after: self.links.timeouts().socket_timeout }
                }
            };
            self.fail(peer, why, demand, now);
        }
        #[cfg(feature = "sasl")]
        self.log_in(demand, now);
    }

    /// Forgets errors that no longer matter.
    pub fn forget_causes(&mut self, demand: &impl Demand, now: Instant) {
        if self.causes.is_empty() {
            return;
        }
        let mut causes = std::mem::take(&mut self.causes);
        causes.forget(now, |about| self.standing(about, demand, now));
        self.causes = causes;
    }

    /// Opens the connections that something waits for.
    pub fn connect_as_needed(&mut self, demand: &impl Demand, now: Instant) {
        let mut next = demand.next_node(None);
        while let Some(node) = next {
            next = demand.next_node(Some(node));
            let peer = Peer::Node(node);
            match self.links.get(peer) {
                Some(link) if link.may_connect(now) => self.connect(peer, demand, now),
                Some(_) => {}
                // A leader that metadata does not list as a broker: ask again.
                None => self.refresh.want(),
            }
        }
        self.routes.note_wanting(self.wants_any_answer(demand), now);
        if self.needs_any_broker(demand) {
            if let Some(peer) = self.routes.next(&self.links, demand, now) {
                self.connect(peer, demand, now);
            }
        }
    }

    /// Begins a connection to this broker.
    pub fn connect(&mut self, peer: Peer, demand: &impl Demand, now: Instant) {
        if let Err(conn) = self.links.connect(peer, now) {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "no host can have it");
            self.closed(conn, ConnectionErrorKind::Resolve(Arc::new(why)), demand, now);
        }
    }

    /// The moment at which there is something to do without any input.
    #[must_use]
    pub fn next_deadline(&self, demand: &impl Demand) -> Deadline {
        let links = self.routes.next_deadline(&self.links, demand, self.needs_any_broker(demand));
        let ready = self.refresh.is_wanted() && self.any_ready().is_some();
        #[cfg(feature = "sasl")]
        let links = links.min(self.login_deadline());
        links.min(self.refresh.next_deadline(demand, ready))
    }

    /// The handshake's answer.
    fn take_api_versions(
        &mut self,
        peer: Peer,
        conn: ConnId,
        version: i16,
        frame: &[u8],
        now: Instant,
    ) -> Result<(), ConnectionErrorKind> {
        let answer = api_versions::decode(version, frame).map_err(|error| error.in_response_to(Api::ApiVersions))?;
        let throttle = answer.throttle;
        match handshake::judge(answer, version, self.options.needed)? {
            Handshake::Again(version) => self.send_api_versions(peer, version, now),
            #[cfg(feature = "sasl")]
            Handshake::Done(versions) if self.logins.are_needed() => self.begin_login(peer, versions, now)?,
            Handshake::Done(versions) => self.greeted(peer, conn, versions),
        }
        self.throttled(peer, Api::ApiVersions, version, throttle, now);
        Ok(())
    }

    /// The connection can be used.
    fn greeted(&mut self, peer: Peer, conn: ConnId, versions: Versions) {
        if let Some(link) = self.links.get_mut(peer) {
            link.greeted(versions);
            log::debug!("broker {}: connected", link.name);
            self.links.allow_responses(conn);
        }
    }

    fn send_api_versions(&mut self, peer: Peer, version: i16, now: Instant) {
        let _ = self.links.send(peer, Api::ApiVersions, version, now, api_versions::request);
    }

    /// KIP-219: the broker asks for silence. Before that it held the answer back, and the silence is over.
    fn throttled(&mut self, peer: Peer, api: Api, version: i16, throttle: Duration, now: Instant) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if throttle.is_zero() {
            if !self.causes.is_empty() && !link.is_throttled() {
                self.causes.end(|about| about == Subject::Quota(peer));
            }
            return;
        }
        let why = Arc::new(DeliveryErrorKind::Throttled { address: Arc::clone(&link.name), throttle });
        if api.leaves_silence_to_clients(version) {
            link.throttle(Deadline::after(now, throttle));
        }
        // With a quota in force, every answer may say so: nothing for the log of operators.
        log::debug!("{why}");
        self.note(Subject::Quota(peer), why, now, LogPolicy::Never);
    }

    /// `true` if there is, or waits, a request that any broker can answer.
    fn wants_any_answer(&self, demand: &impl Demand) -> bool {
        self.refresh.is_open() || demand.needs_any_broker()
    }

    /// `true` if a request waits that any broker can answer, and no broker is ready for it.
    fn needs_any_broker(&self, demand: &impl Demand) -> bool {
        (self.refresh.is_wanted() || demand.needs_any_broker()) && self.any_ready().is_none()
    }

    /// The standing of an error.
    fn standing(&self, about: Subject, demand: &impl Demand, now: Instant) -> Standing {
        let waits = match about {
            Subject::Metadata | Subject::Identity => demand.is_busy(),
            Subject::Broker(peer) => {
                if self.links.get(peer).is_some_and(|link| link.last_error.is_none()) {
                    return Standing::Over;
                }
                peer.is_node_of(|node| demand.needs_node(node)) || self.needs_any_broker(demand)
            }
            Subject::Quota(peer) => self.links.get(peer).is_some_and(Link::is_throttled),
            Subject::Topic(_) | Subject::Leader(..) | Subject::Partition(..) => return demand.standing(about, now),
        };
        if waits { Standing::Waiting } else { Standing::Idle }
    }
}

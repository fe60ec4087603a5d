//! One broker as the engine sees it: its address, the state of the connection to it, and the requests in flight.
//!
//! Decides when to connect, when a connection has failed, and for how long to stay away after a failure. Opens nothing:
//! the engine turns its answers into actions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::in_flight::InFlight;
#[cfg(feature = "sasl")]
use super::sasl::logins::Login;
use super::window::Window;
use crate::config::BrokerAddress;
use crate::deadline::Deadline;
use crate::engine::backoff::{Backoff, RateLimit};
use crate::error::{ConnectionErrorKind, DeliveryErrorKind, Speaks};
use crate::ids::NodeId;
use crate::wire::api::api_versions::Versions;
use crate::wire::frame::{ConnId, CorrelationId};

/// The broker that a link leads to: one that the user named, or one that the cluster told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// A bootstrap address, by its place in the list.
    Seed(usize),
    /// A broker, by its node id.
    Node(NodeId),
}

/// The way to one broker.
#[derive(Debug)]
pub struct Link {
    /// Its address.
    pub address: BrokerAddress,
    /// The same for error texts.
    pub name: Arc<str>,
    /// The broker that told of the address; `None` for a bootstrap address.
    pub told_by: Option<Arc<str>>,
    /// `true` if the last metadata named it. A link that it no longer names is dropped when its connection ends.
    pub listed: bool,
    state: LinkState,
    /// Its last failure since it last answered.
    pub last_error: Option<Arc<DeliveryErrorKind>>,
    /// `true` if it failed since it answered anything but the handshake.
    failing: bool,
    /// Attempts in a row that came to no finished handshake.
    failures: u32,
    /// The times at which connections were begun.
    pace: RateLimit,
    /// The bytes that may be on their way.
    pub window: Window,
    /// `true` if the time for the start of this connection was put off.
    was_extended: bool,
    not_before: Deadline,
    /// KIP-219: the broker asked for silence until then.
    throttled_until: Deadline,
}

#[derive(Debug)]
enum LinkState {
    Down,
    Connecting { conn: ConnId, until: Deadline },
    Up(Box<Live>),
}

/// An open connection.
#[derive(Debug)]
pub struct Live {
    /// Its number.
    pub conn: ConnId,
    /// Requests without an answer, in the order in which they were sent.
    pub in_flight: InFlight,
    /// How far it is.
    pub stage: Stage,
    /// The handshake must be done by then.
    pub handshake_until: Deadline,
    /// Another login is due from then on (KIP-368).
    #[cfg(feature = "sasl")]
    pub renew_at: Deadline,
    next_correlation: i32,
    last_used: Instant,
    /// `true` if anything but the handshake was answered.
    has_answered: bool,
}

/// How far an open connection is.
#[derive(Debug)]
pub enum Stage {
    /// The broker was asked for the versions that it speaks.
    Greeting,
    /// A login goes on: the first, or another on a connection that was ready.
    #[cfg(feature = "sasl")]
    LoggingIn(Box<Login>),
    /// It can be used, in these versions.
    Ready(Versions),
}

/// The time limits of links.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the start of a look-up to the end of the handshake.
    pub connect_timeout: Duration,
    /// For an answer, or for a byte to be accepted.
    pub socket_timeout: Duration,
    /// For a connection without requests.
    pub max_idle: Duration,
    /// Between attempts.
    pub backoff: Backoff,
}

/// The meaning of a passed deadline of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The connection was not ready in time.
    Connect,
    /// No answer, or no byte accepted, in time.
    Answer,
    /// Nothing was asked for a long time: close it without a word.
    Idle,
}

impl Peer {
    /// The node id; that of a bootstrap address is not known.
    #[must_use]
    pub fn node(self) -> Option<NodeId> {
        match self {
            Self::Seed(_) => None,
            Self::Node(node) => Some(node),
        }
    }

    /// `true` if it is a broker of which `is_so` holds.
    pub fn is_node_of(self, is_so: impl FnOnce(NodeId) -> bool) -> bool {
        matches!(self, Self::Node(node) if is_so(node))
    }
}

impl Link {
    /// A link to a broker that was not tried yet.
    #[must_use]
    pub fn new(address: BrokerAddress) -> Self {
        let name = address.to_string().into();
        let (not_before, throttled_until) = (Deadline::NEVER, Deadline::NEVER);
        Self {
            address,
            name,
            told_by: None,
            listed: true,
            state: LinkState::Down,
            last_error: None,
            failing: false,
            failures: 0,
            pace: RateLimit::default(),
            window: Window::default(),
            was_extended: false,
            not_before,
            throttled_until,
        }
    }

    /// `true` if a connection may be opened now.
    #[must_use]
    pub fn may_connect(&self, now: Instant) -> bool {
        matches!(self.state, LinkState::Down) && (self.not_before == Deadline::NEVER || self.not_before.passed(now))
    }

    /// The moment at which a connection may be opened, if that is the thing to wait for.
    #[must_use]
    pub fn may_connect_at(&self) -> Deadline {
        if matches!(self.state, LinkState::Down) { self.not_before } else { Deadline::NEVER }
    }

    /// `true` if it failed since it last answered.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing
    }

    /// `true` if there is neither a connection nor an attempt at one.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, LinkState::Down)
    }

    /// `true` if a connection is on its way: connecting, or in its handshake.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        match &self.state {
            LinkState::Down => false,
            LinkState::Connecting { .. } => true,
            LinkState::Up(live) => !live.is_ready(),
        }
    }

    /// `true` if the broker was there when last tried, so that a connection to it is a matter of a moment.
    #[must_use]
    pub fn is_down_for_a_moment(&self) -> bool {
        self.is_down() && self.failures == 0
    }

    /// The number of the connection, or of the attempt at one.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        match &self.state {
            LinkState::Down => None,
            LinkState::Connecting { conn, .. } => Some(*conn),
            LinkState::Up(live) => Some(live.conn),
        }
    }

    /// The open connection.
    #[must_use]
    pub fn live(&self) -> Option<&Live> {
        match &self.state {
            LinkState::Up(live) => Some(live),
            _ => None,
        }
    }

    /// The open connection.
    pub fn live_mut(&mut self) -> Option<&mut Live> {
        match &mut self.state {
            LinkState::Up(live) => Some(live),
            _ => None,
        }
    }

    /// The open connection and its versions, if the handshake is done.
    #[must_use]
    pub fn ready(&self) -> Option<(&Live, &Versions)> {
        match self.live()? {
            live @ Live { stage: Stage::Ready(versions), .. } => Some((live, versions)),
            _ => None,
        }
    }

    /// Notes that a connection is being opened.
    pub fn connecting(&mut self, conn: ConnId, now: Instant, timeouts: &Timeouts) {
        self.state = LinkState::Connecting { conn, until: Deadline::after(now, timeouts.connect_timeout) };
        (self.not_before, self.was_extended) = (Deadline::NEVER, false);
        self.pace.begin(now);
    }

    /// Notes that the connection is open: the handshake begins.
    pub fn opened(&mut self, now: Instant) {
        if let LinkState::Connecting { conn, until } = self.state {
            self.state = LinkState::Up(Box::new(Live {
                conn,
                in_flight: InFlight::new(now),
                stage: Stage::Greeting,
                handshake_until: until,
                #[cfg(feature = "sasl")]
                renew_at: Deadline::NEVER,
                next_correlation: 0,
                last_used: now,
                has_answered: false,
            }));
        }
    }

    /// `true` if the connection did its work and has nothing to do now, so that its end is no failure. A connection
    /// that ended right after its handshake was of no use, and is not opened again without a pause.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.live().is_some_and(|live| live.has_answered && live.in_flight.is_empty())
    }

    /// Notes that the handshake is done: the broker is there, and the growth of pauses ends.
    pub fn greeted(&mut self, versions: Versions) {
        self.failures = 0;
        if let Some(live) = self.live_mut() {
            live.stage = Stage::Ready(versions);
        }
    }

    /// The reason why the connection ended, as far as it is known here and not by the socket.
    #[must_use]
    pub fn explain(&self, why: ConnectionErrorKind) -> ConnectionErrorKind {
        let Some(live) = self.live() else { return why };
        let api = live.in_flight.oldest_api();
        match (why, api) {
            // No answer to a handshake is that large, whatever the user allows.
            (ConnectionErrorKind::BadSize { .. }, _) if live.is_starting() => {
                ConnectionErrorKind::NotKafka(Speaks::Unknown)
            }
            (ConnectionErrorKind::BadSize { size, limit, .. }, api) => {
                ConnectionErrorKind::BadSize { api, size, limit }
            }
            (ConnectionErrorKind::Closed, Some(api)) if live.is_unanswered() => {
                ConnectionErrorKind::ClosedUnanswered { api }
            }
            (why, _) => why,
        }
    }

    /// Notes that the connection, or the attempt at one, has failed, and stays away for a while.
    ///
    /// The pauses grow from one attempt to the next that comes to no handshake. After one that did there is a pause
    /// only if it began not long ago, or too many have: a bad link is used as long as it lasts each time, and a
    /// broker that only shakes hands is not stormed. Returns the connection as it was, with what was in flight.
    pub fn failed(&mut self, now: Instant, timeouts: &Timeouts, random: u64) -> Option<Box<Live>> {
        self.failing = true;
        if self.live().is_some_and(|live| live.in_flight.produce_requests() > 0) {
            self.window.lost();
        }
        self.not_before = if self.ready().is_some() {
            self.pace.next(timeouts.backoff.pause(1, random))
        } else {
            self.failures = self.failures.saturating_add(1);
            Deadline::after(now, timeouts.backoff.pause(self.failures, random))
        };
        self.down()
    }

    /// Notes that the broker refuses the login, or that there is none to send: stays away for longer, because nothing
    /// gets better by itself soon.
    pub fn was_turned_away(&mut self) {
        self.failures = self.failures.max(TURNED_AWAY);
    }

    /// Notes that the connection was closed in peace: it may be opened again at once.
    pub fn down(&mut self) -> Option<Box<Live>> {
        match std::mem::replace(&mut self.state, LinkState::Down) {
            LinkState::Up(live) => Some(live),
            _ => None,
        }
    }

    /// Is not overdue before `until`, if it was not put off before: nobody had looked for what it waits for.
    pub fn extend_timeouts(&mut self, until: Instant, timeouts: &Timeouts) {
        let start = match &mut self.state {
            LinkState::Down => return,
            LinkState::Connecting { until, .. } => until,
            LinkState::Up(live) if live.waits_for_handshake() => &mut live.handshake_until,
            LinkState::Up(live) => return live.in_flight.extend_timeouts(until, timeouts.socket_timeout),
        };
        if start.passed(until) && !self.was_extended {
            (*start, self.was_extended) = (Deadline::at(until), true);
        }
    }

    /// Notes that the broker answered a request other than the handshake.
    pub fn answered(&mut self) {
        self.failing = false;
        self.last_error = None;
        if let Some(live) = self.live_mut() {
            live.has_answered = true;
        }
    }

    /// The number of further bytes of Produce requests that may be on their way; `None` for any number.
    #[must_use]
    pub fn room(&self) -> Option<usize> {
        let taken = self.live().map_or(0, |live| live.in_flight.produce_bytes());
        self.window.bytes().map(|bytes| bytes.saturating_sub(taken))
    }

    /// Takes over the connection of another link that leads to the same address, and the silence that the broker asked
    /// for on it.
    pub fn adopt(&mut self, other: &mut Self) {
        self.state = std::mem::replace(&mut other.state, LinkState::Down);
        self.throttle(std::mem::replace(&mut other.throttled_until, Deadline::NEVER));
        self.failing = false;
        (self.failures, self.not_before) = (0, Deadline::NEVER);
        self.pace = std::mem::take(&mut other.pace);
    }

    /// Sends no more until `until`, or until the end of a longer silence that was asked for before: with several
    /// requests in flight a later answer may ask for less.
    pub fn throttle(&mut self, until: Deadline) {
        self.throttled_until = self.throttled_until.max(until);
    }

    /// Ends the silence that the broker asked for, once it is over.
    pub fn end_throttle(&mut self, now: Instant) {
        if self.throttled_until.passed(now) {
            self.throttled_until = Deadline::NEVER;
            if let Some(live) = self.live_mut() {
                live.in_flight.resume(now);
            }
        }
    }

    /// `true` if nothing may be sent, because the broker asked for silence.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.throttled_until != Deadline::NEVER
    }

    /// The moment at which it may be sent to again after a silence that it asked for; never if there is none.
    #[must_use]
    pub fn throttle_deadline(&self) -> Deadline {
        self.throttled_until
    }

    /// The thing that is overdue, if there is one.
    #[must_use]
    pub fn overdue(&self, now: Instant, timeouts: &Timeouts) -> Option<Overdue> {
        let (deadline, meaning) = self.next(timeouts)?;
        let silent = meaning == Overdue::Answer && self.is_throttled();
        (deadline.passed(now) && !silent).then_some(meaning)
    }

    /// The next moment at which something can be overdue.
    #[must_use]
    pub fn next_deadline(&self, timeouts: &Timeouts) -> Deadline {
        self.next(timeouts).map_or(Deadline::NEVER, |(deadline, _)| deadline)
    }

    fn next(&self, timeouts: &Timeouts) -> Option<(Deadline, Overdue)> {
        match &self.state {
            LinkState::Down => None,
            LinkState::Connecting { until, .. } => Some((*until, Overdue::Connect)),
            LinkState::Up(live) if live.waits_for_handshake() => Some((live.handshake_until, Overdue::Connect)),
            LinkState::Up(live) if live.in_flight.is_empty() => {
                Some((Deadline::after(live.last_used, timeouts.max_idle), Overdue::Idle))
            }
            // KIP-219: it may keep what is in flight waiting as long as it keeps us from sending.
            LinkState::Up(_) if self.is_throttled() => Some((self.throttled_until, Overdue::Answer)),
            LinkState::Up(live) => {
                Some((Deadline::after(live.in_flight.last_progress(), timeouts.socket_timeout), Overdue::Answer))
            }
        }
    }
}

impl Live {
    /// `true` if it can be used.
    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// `true` if it was never ready.
    fn is_starting(&self) -> bool {
        match &self.stage {
            Stage::Greeting => true,
            #[cfg(feature = "sasl")]
            Stage::LoggingIn(login) => !login.renews,
            Stage::Ready(_) => false,
        }
    }

    /// `true` if the broker has not answered anything but what had to come first.
    fn is_unanswered(&self) -> bool {
        !matches!(self.stage, Stage::Greeting) && !self.has_answered
    }

    /// `true` if the time of its handshake counts, and not that of requests. What is in flight when another login is
    /// due is answered before.
    fn waits_for_handshake(&self) -> bool {
        match &self.stage {
            Stage::Greeting => true,
            #[cfg(feature = "sasl")]
            Stage::LoggingIn(login) => !login.renews || self.in_flight.is_empty(),
            Stage::Ready(_) => false,
        }
    }

    /// The login that goes on.
    #[cfg(feature = "sasl")]
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        if let Stage::LoggingIn(login) = &self.stage { Some(login) } else { None }
    }

    /// The login that goes on.
    #[cfg(feature = "sasl")]
    pub fn login_mut(&mut self) -> Option<&mut Login> {
        if let Stage::LoggingIn(login) = &mut self.stage { Some(login) } else { None }
    }

    /// Another login begins on a connection that is ready. `new` makes it.
    #[cfg(feature = "sasl")]
    pub fn renew(&mut self, new: impl FnOnce(Versions) -> Login) {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Greeting) {
            Stage::Ready(versions) => Stage::LoggingIn(Box::new(new(versions))),
            other => other,
        };
    }

    /// The number for the next request, which is about to be sent.
    pub fn next_correlation(&mut self, now: Instant) -> CorrelationId {
        self.last_used = now;
        let correlation = CorrelationId(self.next_correlation);
        self.next_correlation = self.next_correlation.wrapping_add(1) & i32::MAX;
        correlation
    }
}

/// A refused login counts like so many failures before it: the first pause is 16 times as long as after others.
const TURNED_AWAY: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::in_flight::{Answer, Request};
    use crate::wire::Api;

    fn timeouts() -> Timeouts {
        Timeouts {
            connect_timeout: Duration::from_secs(10),
            socket_timeout: Duration::from_secs(30),
            max_idle: Duration::from_secs(540),
            backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(10) },
        }
    }

    fn link() -> Link {
        Link::new(BrokerAddress { host: "b".into(), port: 9092 })
    }

    #[test]
    fn a_dead_broker_is_tried_at_most_fifteen_times_in_ten_seconds() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let (mut link, mut connects) = (link(), 0);
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            if link.may_connect(now) {
                connects += 1;
                link.connecting(ConnId(connects), now, &timeouts);
                link.failed(now, &timeouts, 0);
            }
        }
        assert!((5..=15).contains(&connects), "{connects}");
    }

    #[test]
    fn a_start_that_nobody_looked_at_is_put_off_once() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let seconds = |seconds| start + Duration::from_secs(seconds);
        for opened in [false, true] {
            let mut link = link();
            link.extend_timeouts(seconds(60), &timeouts);
            link.connecting(ConnId(1), start, &timeouts);
            if opened {
                link.opened(start);
            }
            link.extend_timeouts(seconds(5), &timeouts);
            assert_eq!(link.next_deadline(&timeouts), Deadline::at(seconds(10)), "it has as much time anyway");
            link.extend_timeouts(seconds(60), &timeouts);
            assert_eq!((link.overdue(seconds(59), &timeouts), link.is_down()), (None, false));
            link.extend_timeouts(seconds(90), &timeouts);
            assert_eq!(link.overdue(seconds(60), &timeouts), Some(Overdue::Connect));
        }
    }

    #[test]
    fn a_broker_that_accepts_and_closes_is_not_a_working_one() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let mut link = link();
        for _ in 0..5 {
            link.connecting(ConnId(1), start, &timeouts);
            link.opened(start);
            link.failed(start, &timeouts, u64::MAX / 2);
        }
        assert!(!link.may_connect(start + Duration::from_secs(1)), "backoff keeps growing");
        assert!(link.may_connect(start + Duration::from_secs(2)));
        assert!(!link.is_down_for_a_moment());
    }

    #[test]
    fn a_broker_that_only_shakes_hands_is_tried_at_most_five_times_a_second() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let (mut link, mut begun) = (link(), Vec::new());
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            if link.may_connect(now) {
                begun.push(millis);
                link.connecting(ConnId(millis), now, &timeouts);
                link.opened(now);
                link.greeted(Versions::default());
                link.failed(now, &timeouts, 0);
                assert!(link.is_down_for_a_moment());
            }
        }
        assert!(begun.windows(6).all(|six| six[5] - six[0] >= 1000), "{begun:?}");
        assert!(begun.windows(2).all(|two| two[1] - two[0] >= 80), "{begun:?}");
        assert_eq!(begun.len(), 50, "{begun:?}");
    }

    #[test]
    fn a_handshake_ends_the_growth_of_pauses_and_a_connection_that_lasted_is_opened_again_at_once() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let mut link = link();
        let mut now = start;
        for round in 0..5 {
            for _ in 0..8 {
                link.connecting(ConnId(1), now, &timeouts);
                link.opened(now);
                link.failed(now, &timeouts, 0);
            }
            now += Duration::from_secs(60);
            link.connecting(ConnId(1), now, &timeouts);
            link.opened(now);
            link.greeted(Versions::default());
            now += Duration::from_millis(200);
            link.failed(now, &timeouts, 0);
            assert!(link.may_connect(now), "round {round}");
            link.connecting(ConnId(1), now, &timeouts);
            link.failed(now, &timeouts, 0);
            assert!(link.may_connect(now + Duration::from_millis(100)), "round {round}: the first of its kind");
        }
    }

    #[test]
    fn the_handshake_counts_towards_the_connect_timeout() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let mut link = link();
        link.connecting(ConnId(1), start, &timeouts);
        link.opened(start + Duration::from_secs(9));
        assert_eq!(link.overdue(start + Duration::from_secs(9), &timeouts), None);
        assert_eq!(link.overdue(start + Duration::from_secs(10), &timeouts), Some(Overdue::Connect));
    }

    #[test]
    fn a_shorter_silence_does_not_end_a_longer_one() {
        let (start, mut link) = (crate::engine::test_clock(), link());
        let after = |millis| start + Duration::from_millis(millis);
        for millis in [5000, 100, 0] {
            link.throttle(Deadline::at(after(millis)));
            link.end_throttle(after(4999));
            assert!(link.is_throttled(), "the last answer asked for {millis} ms");
        }
        link.throttle(Deadline::at(after(6000)));
        link.end_throttle(after(5999));
        assert!(link.is_throttled(), "a longer one goes on");
        link.end_throttle(after(6000));
        assert!(!link.is_throttled());
    }

    #[test]
    fn a_silence_goes_with_the_connection_that_is_taken_over() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let (mut seed, mut node) = (link(), link());
        seed.connecting(ConnId(1), start, &timeouts);
        seed.opened(start);
        seed.throttle(Deadline::after(start, Duration::from_secs(5)));
        node.adopt(&mut seed);
        assert!(node.is_throttled());
        assert!(!seed.is_throttled(), "it has no connection any more");
        let mut longer = link();
        longer.throttle(Deadline::after(start, Duration::from_secs(9)));
        longer.adopt(&mut node);
        longer.end_throttle(start + Duration::from_secs(5));
        assert!(longer.is_throttled(), "it was asked for more");
    }

    #[test]
    fn a_broker_that_asked_for_silence_is_not_overdue_in_it() {
        let (start, timeouts) = (crate::engine::test_clock(), timeouts());
        let mut link = link();
        link.connecting(ConnId(1), start, &timeouts);
        link.opened(start);
        let live = link.live_mut().unwrap();
        live.stage = Stage::Ready(Versions::default());
        let correlation = live.next_correlation(start);
        let (api, partitions, answer) = (Api::Metadata, Vec::new(), Answer::Expected);
        live.in_flight.sent(Request { correlation, version: 9, api, partitions, answer, bytes: 10 }, start);
        link.throttle(Deadline::after(start, Duration::from_secs(50)));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(link.overdue(after(49), &timeouts), None);
        link.end_throttle(after(50));
        assert_eq!(link.overdue(after(79), &timeouts), None, "its timeouts begins anew");
        assert_eq!(link.overdue(after(80), &timeouts), Some(Overdue::Answer));
    }
}

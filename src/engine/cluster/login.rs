//! Logs in on connections (SASL): which request follows which answer, when another login is due, and with which token.
//! What the messages say is `sasl`'s.
//!
//! Nothing else goes over a connection between SaslHandshake and the last answer; another login on a connection that
//! is in use waits until all that is in flight is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Cluster;
use super::demand::Demand;
use super::in_flight::Request;
use super::link::{Link, Live, Peer, Stage};
use super::sasl::exchange::Exchange;
use super::sasl::logins::{Login, Step, TokenState};
use super::sasl::oauthbearer;
use super::sasl::reply::{Fault, Reply};
use crate::config::sasl::{Sasl, Secret, Token};
use crate::deadline::Deadline;
use crate::error::{ConnectionErrorKind, ErrorCode};
use crate::wire::api::api_versions::Versions;
use crate::wire::api::{Api, sasl_authenticate, sasl_handshake};
use crate::wire::frame::ConnId;

impl Cluster {
    /// The versions of a broker are known, and a login comes next.
    pub(super) fn begin_login(
        &mut self,
        peer: Peer,
        versions: Versions,
        now: Instant,
    ) -> Result<(), ConnectionErrorKind> {
        for api in [Api::SaslHandshake, Api::SaslAuthenticate] {
            versions.choose(api)?;
        }
        if let Some(live) = self.links.get_mut(peer).and_then(Link::live_mut) {
            live.stage = Stage::LoggingIn(Box::new(Login { step: Step::Waits, begun: now, versions, renews: false }));
        }
        Ok(())
    }

    /// Goes on with logins as far as no answer is needed, and begins those that are due again.
    pub(super) fn log_in(&mut self, demand: &impl Demand, now: Instant) {
        if !self.logins.are_needed() {
            return;
        }
        if matches!(self.logins.token, TokenState::None(not_before) if not_before.passed(now)) {
            self.logins.token = TokenState::None(Deadline::NEVER);
        }
        self.renew_sessions(demand, now);
        self.compute(now);
        let waiting: Vec<Peer> = self.waiting().filter(|(_, live)| live.in_flight.is_empty()).map(|it| it.0).collect();
        for peer in &waiting {
            match self.logins.exchange(now) {
                None => return self.await_token(&waiting, now),
                Some(Err(why)) => self.fail(*peer, self.no_credentials(why), demand, now),
                Some(Ok(exchange)) => self.shake_hands(*peer, exchange, now),
            }
        }
        // A token without a lifetime was for those that waited for it.
        let is_used = !waiting.is_empty() && self.waiting().next().is_none();
        if is_used && matches!(self.logins.token, TokenState::There(_, Deadline::NEVER)) {
            self.logins.token = TokenState::None(Deadline::NEVER);
        }
    }

    /// The connections on which a login waits for a token, or for answers to what is in flight.
    fn waiting(&self) -> impl Iterator<Item = (Peer, &Live)> {
        let live = self.links.iter().filter_map(|(peer, link)| Some((peer, link.live()?)));
        live.filter(|(_, live)| live.login().is_some_and(Login::waits))
    }

    /// Asks for a token, for which these connections wait as long as for any other part of their start.
    fn await_token(&mut self, waiting: &[Peer], now: Instant) {
        let until = Deadline::after(now, self.links.timeouts().connect_timeout);
        for peer in waiting {
            if let Some(live) = self.links.get_mut(*peer).and_then(Link::live_mut) {
                live.handshake_until = live.handshake_until.min(until);
            }
        }
        self.ask_for_token(now);
    }

    /// The moment at which a login goes on without an answer.
    pub(super) fn login_deadline(&self) -> Deadline {
        let computes = self.logins.computes.map_or(Deadline::NEVER, Deadline::at);
        let token = match self.logins.token {
            TokenState::None(not_before) => not_before,
            TokenState::Asked | TokenState::There(..) => Deadline::NEVER,
        };
        computes.min(token)
    }

    /// The user's provider gave a token, or did not.
    pub fn token(&mut self, token: Result<Token, String>, demand: &impl Demand, now: Instant) {
        let message = token.and_then(|token| match oauthbearer::message(&token) {
            Ok(message) => Ok((message, token.lifetime)),
            Err(what) => Err(format!("the token provider gave {what}")),
        });
        match message {
            Ok((message, lifetime)) => {
                let until = lifetime.map_or(Deadline::NEVER, |lifetime| Deadline::after(now, lifetime.mul_f64(FRESH)));
                self.logins.token = TokenState::There(message, until);
            }
            Err(what) => {
                self.logins.token = TokenState::None(Deadline::after(now, ASK_AGAIN));
                let waiting: Vec<Peer> = self.waiting().map(|(peer, _)| peer).collect();
                if waiting.is_empty() {
                    log::warn!("no token for the next login: {what}");
                }
                for peer in waiting {
                    self.fail(peer, self.no_credentials(&what), demand, now);
                }
            }
        }
    }

    /// `true` if a connection waits for a token.
    pub(super) fn awaits_token(&self, peer: Peer) -> bool {
        let login = self.links.get(peer).and_then(Link::live).and_then(Live::login);
        login.is_some_and(Login::waits) && self.logins.sasl.as_ref().is_some_and(|sasl| sasl.provider().is_some())
    }

    /// There is nothing to log in with.
    pub(super) fn no_credentials(&self, what: &str) -> ConnectionErrorKind {
        ConnectionErrorKind::NoCredentials { mechanism: self.mechanism(), what: what.into() }
    }

    /// A broker's answer to a request of a login.
    pub(super) fn take_login(
        &mut self,
        peer: Peer,
        conn: ConnId,
        &Request { api, version, .. }: &Request,
        frame: &[u8],
        now: Instant,
    ) -> Result<(), ConnectionErrorKind> {
        let Some(login) = self.links.get_mut(peer).and_then(Link::live_mut).and_then(Live::login_mut) else {
            return Ok(());
        };
        match std::mem::replace(&mut login.step, Step::Nothing) {
            Step::Handshake(exchange) => {
                let renews = login.renews;
                let answer = sasl_handshake::decode(version, frame).map_err(|error| error.in_response_to(api))?;
                match answer.error {
                    ErrorCode::NONE => self.authenticate(peer, exchange.first(), exchange, now),
                    // The last login was less than a second ago, or the broker wants no other: the session goes on.
                    ErrorCode::ILLEGAL_SASL_STATE if renews => self.logged_in(peer, conn, SOON, now),
                    code => return Err(self.refusal_of_handshake(code, answer.mechanisms)),
                }
            }
            Step::Answer(mut exchange) => {
                let answer = sasl_authenticate::decode(version, frame).map_err(|error| error.in_response_to(api))?;
                if answer.error != ErrorCode::NONE {
                    return Err(self.authentication_failed(answer.error, answer.message));
                }
                match exchange.answer(&answer.bytes, self.logins.salted.as_ref()) {
                    Ok(Reply::Send(message)) => self.authenticate(peer, message, exchange, now),
                    Ok(Reply::Work) => {
                        login.step = Step::Computes(exchange);
                        self.logins.computes = Some(now);
                    }
                    Ok(Reply::Done) => self.logged_in(peer, conn, answer.lifetime, now),
                    Err(Fault::Refused(why)) => return Err(self.authentication_failed(ErrorCode::NONE, Some(why))),
                    Err(Fault::Untrusted(what)) => {
                        return Err(ConnectionErrorKind::UntrustedBroker { mechanism: self.mechanism(), what });
                    }
                }
            }
            other => login.step = other,
        }
        Ok(())
    }

    /// Connections whose session is near its end stop sending, so that they can log in again. An idle one does so
    /// before its next request: a broker takes that also after the end.
    fn renew_sessions(&mut self, demand: &impl Demand, now: Instant) {
        let is_due = |link: &Link| link.ready().is_some_and(|(live, _)| live.renew_at.passed(now));
        let is_used = |peer: Peer, link: &Link| {
            let is_in_flight = link.live().is_some_and(|live| !live.in_flight.is_empty());
            is_in_flight || peer.is_node_of(|node| demand.needs_node(node)) || self.wants_any_answer(demand)
        };
        let due = self.links.iter().filter(|(_, link)| is_due(link) && !link.is_throttled());
        let due: Vec<Peer> = due.filter(|(peer, link)| is_used(*peer, link)).map(|(peer, _)| peer).collect();
        // Without a token it goes on in the old session meanwhile.
        if !due.is_empty() && self.logins.exchange(now).is_none() {
            return self.ask_for_token(now);
        }
        for peer in due {
            let Some(link) = self.links.get_mut(peer) else { continue };
            log::debug!("broker {}: the session is near its end", link.name);
            if let Some(live) = link.live_mut() {
                live.renew(|versions| Login { step: Step::Waits, begun: now, versions, renews: true });
                // Its time begins when nothing is in flight any more.
                live.handshake_until = Deadline::NEVER;
            }
        }
    }

    /// Computes the next message of one login, for a moment.
    fn compute(&mut self, now: Instant) {
        if self.logins.computes.take().is_none() {
            return;
        }
        let computes = |link: &Link| link.live().is_some_and(|live| live.login().is_some_and(Login::computes));
        let computing: Vec<Peer> = self.links.iter().filter(|it| computes(it.1)).map(|(peer, _)| peer).collect();
        let Some(&peer) = computing.first() else { return };
        let Some(login) = self.links.get_mut(peer).and_then(Link::live_mut).and_then(Live::login_mut) else { return };
        let Step::Computes(mut exchange) = std::mem::replace(&mut login.step, Step::Nothing) else { return };
        match exchange.work(self.logins.salted.as_ref()) {
            None => login.step = Step::Computes(exchange),
            Some((message, salted)) => {
                self.logins.salted = salted.or(self.logins.salted.take());
                self.authenticate(peer, message, exchange, now);
                if computing.len() == 1 {
                    return;
                }
            }
        }
        self.logins.computes = Some(now);
    }

    /// Names the mechanism.
    fn shake_hands(&mut self, peer: Peer, exchange: Exchange, now: Instant) {
        let Some(login) = self.links.get_mut(peer).and_then(Link::live_mut).and_then(Live::login_mut) else { return };
        let Ok(version) = login.versions.choose(Api::SaslHandshake) else { return };
        let renews = login.renews;
        (login.step, login.begun) = (Step::Handshake(exchange), now);
        let (mechanism, within) = (self.mechanism(), self.links.timeouts().connect_timeout);
        let _ = self.links.send(peer, Api::SaslHandshake, version, now, |version, correlation, client_id| {
            sasl_handshake::request(version, correlation, client_id, mechanism)
        });
        if let Some(live) = self.links.get_mut(peer).and_then(Link::live_mut).filter(|_| renews) {
            live.handshake_until = Deadline::after(now, within);
        }
    }

    /// Sends a message of the mechanism.
    fn authenticate(&mut self, peer: Peer, message: Secret, exchange: Exchange, now: Instant) {
        let Some(login) = self.links.get_mut(peer).and_then(Link::live_mut).and_then(Live::login_mut) else { return };
        let Ok(version) = login.versions.choose(Api::SaslAuthenticate) else { return };
        login.step = Step::Answer(exchange);
        let _ = self.links.send(peer, Api::SaslAuthenticate, version, now, |version, correlation, client_id| {
            sasl_authenticate::request(version, correlation, client_id, message.bytes())
        });
    }

    /// The connection can be used, for `lifetime` if that is not zero.
    fn logged_in(&mut self, peer: Peer, conn: ConnId, lifetime: Duration, now: Instant) {
        let share = SHARE + JITTER * self.random.f64();
        let Some(live) = self.links.get_mut(peer).and_then(Link::live_mut) else { return };
        let Stage::LoggingIn(login) = std::mem::replace(&mut live.stage, Stage::Greeting) else { return };
        live.renew_at = if lifetime.is_zero() {
            Deadline::NEVER
        } else {
            // A broker refuses another login within a second.
            Deadline::after(login.begun, lifetime.mul_f64(share)).max(Deadline::after(now, SOON))
        };
        self.greeted(peer, conn, login.versions);
    }

    /// Asks the user's provider for a token, unless that was done.
    fn ask_for_token(&mut self, now: Instant) {
        let may_ask = match &self.logins.token {
            TokenState::None(not_before) => *not_before == Deadline::NEVER || not_before.passed(now),
            TokenState::Asked => false,
            TokenState::There(_, until) => until.passed(now),
        };
        if may_ask {
            self.logins.token = TokenState::Asked;
            self.links.ask_for_token();
        }
    }

    fn refusal_of_handshake(&self, code: ErrorCode, offered: Box<str>) -> ConnectionErrorKind {
        match code {
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                ConnectionErrorKind::UnsupportedMechanism { mechanism: self.mechanism(), offered }
            }
            ErrorCode::ILLEGAL_SASL_STATE => ConnectionErrorKind::NoLogin,
            code => ConnectionErrorKind::Refused { api: Api::SaslHandshake.name(), code },
        }
    }

    fn authentication_failed(&mut self, code: ErrorCode, message: Option<Arc<str>>) -> ConnectionErrorKind {
        if let TokenState::There(..) = self.logins.token {
            // The next one may be better.
            self.logins.token = TokenState::None(Deadline::NEVER);
        }
        ConnectionErrorKind::AuthenticationFailed { mechanism: self.mechanism(), code, message }
    }

    fn mechanism(&self) -> &'static str {
        self.logins.sasl.as_ref().map_or("", Sasl::name)
    }
}

/// The share of a session's lifetime after which another login is due: between these two together and the first.
const SHARE: f64 = 0.8;
const JITTER: f64 = 0.1;
/// The share of a token's lifetime in which it is used for logins.
const FRESH: f64 = 0.8;
/// The least time between two logins on a connection.
const SOON: Duration = Duration::from_secs(1);
/// After a provider has failed.
const ASK_AGAIN: Duration = Duration::from_secs(1);

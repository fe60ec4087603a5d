//! The logins on a cluster's connections: what may be asked before, in what order a login goes, and when it is over.

use std::collections::BTreeMap;

use super::Api;
use super::frame::RequestHeader;
use super::logins::Logins;
use super::scram::{Challenged, First, Hash};
use crate::message::Timestamp;

/// The login on each connection, by its number.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<u64, Session>,
    next: u64,
    /// For nonces.
    challenges: u64,
}

/// The login on one connection.
#[derive(Clone, Debug, Default)]
struct Session {
    /// `true` if ApiVersions was answered.
    greeted: bool,
    step: Step,
    /// The login that is good, or was.
    login: Option<Login>,
    /// When the last one began that followed another.
    renewed: Option<Timestamp>,
}

#[derive(Clone, Debug, Default)]
enum Step {
    #[default]
    None,
    /// The mechanism is known, and its first message comes.
    Begun(String),
    /// The client's proof comes.
    Challenged(Box<Challenged>),
    /// The client is to say that it has read why its token is refused.
    Refusing,
}

#[derive(Clone, Debug)]
struct Login {
    user: String,
    mechanism: String,
    /// For ever, if there is none.
    until: Option<Timestamp>,
}

/// The answer to a SaslHandshake.
pub(super) enum Begun {
    Goes(Vec<&'static str>),
    Unknown(Vec<&'static str>),
    /// There is no login to begin now.
    OutOfPlace,
}

/// The answer to a SaslAuthenticate.
pub(super) enum Heard {
    Goes {
        bytes: Vec<u8>,
        lifetime_ms: i64,
    },
    Refused(String),
    /// The connection is closed.
    Unanswered,
    /// There is no login now.
    OutOfPlace,
}

impl Sessions {
    /// A number for a connection that was opened.
    pub fn connected(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The connection has ended.
    pub fn disconnected(&mut self, connection: u64) {
        self.open.remove(&connection);
    }

    /// Sees that nothing comes on a connection but what its login allows.
    pub fn let_in(&mut self, connection: u64, header: &RequestHeader, now: Timestamp) -> Result<(), &'static str> {
        let session = self.open.entry(connection).or_default();
        let RequestHeader { api, version, .. } = header;
        if matches!(api, Api::SaslHandshake | Api::SaslAuthenticate) {
            return Ok(());
        }
        if !matches!(session.step, Step::None) {
            return Err("a request inside a login");
        }
        match &session.login {
            Some(login) if login.until.is_some_and(|until| until <= now) => Err("the session is over"),
            Some(_) => Ok(()),
            // One that is answered UNSUPPORTED_VERSION may come again.
            None if *api == Api::ApiVersions && !session.greeted => {
                session.greeted = api.of_the_cluster().contains(*version);
                Ok(())
            }
            None => Err("a request before the login"),
        }
    }

    /// Takes the name of a mechanism.
    pub fn begin(&mut self, connection: u64, logins: &Logins, mechanism: &str, now: Timestamp) -> Begun {
        let session = self.open.entry(connection).or_default();
        if !matches!(session.step, Step::None) {
            return Begun::OutOfPlace;
        }
        if session.login.is_some() {
            let is_soon = session.renewed.is_some_and(|last| now.as_millis() - last.as_millis() < 1000);
            if logins.lifetime().is_zero() || is_soon {
                return Begun::OutOfPlace;
            }
            session.renewed = Some(now);
        }
        let mechanisms = logins.mechanisms();
        if !mechanisms.contains(&mechanism) {
            return Begun::Unknown(mechanisms);
        }
        session.step = Step::Begun(mechanism.to_owned());
        Begun::Goes(mechanisms)
    }

    /// Takes a message of the mechanism.
    pub fn hear(&mut self, connection: u64, logins: &Logins, message: &[u8], now: Timestamp) -> Heard {
        let Self { open, challenges, .. } = self;
        let session = open.entry(connection).or_default();
        let is_another = |name: &str| session.login.as_ref().is_some_and(|login| login.mechanism != name);
        let (user, mechanism, bytes) = match std::mem::take(&mut session.step) {
            Step::None if session.login.is_none() => return Heard::Unanswered,
            Step::None => return Heard::OutOfPlace,
            // Kafka sees that only after it has answered the handshake.
            Step::Begun(mechanism) if is_another(&mechanism) => return Heard::Unanswered,
            Step::Begun(mechanism) if mechanism == "PLAIN" => match plain(message) {
                Some((_, user, password)) if !logins.is_user(user, password) => {
                    return Heard::Refused("Authentication failed: Invalid username or password".into());
                }
                Some((acts_for, user, _)) if !acts_for.is_empty() && acts_for != user => {
                    let why = "Client requested an authorization id that is different from username";
                    return Heard::Refused(format!("Authentication failed: {why}"));
                }
                Some((_, user, _)) => (user.to_owned(), mechanism, Vec::new()),
                None => return Heard::Refused("Invalid SASL/PLAIN response: expected 3 tokens".into()),
            },
            Step::Begun(mechanism) if mechanism == "OAUTHBEARER" => {
                if !bearer(message).is_some_and(|token| logins.is_token(token)) {
                    session.step = Step::Refusing;
                    return Heard::Goes { bytes: INVALID_TOKEN.into(), lifetime_ms: 0 };
                }
                ("a bearer".to_owned(), mechanism, Vec::new())
            }
            Step::Begun(mechanism) => {
                let first = First::read(message);
                let known = first.as_ref().zip(Hash::named(&mechanism)).and_then(|(first, hash)| {
                    logins.credential(hash, &first.user, first.is_token).map(|credential| (first, credential))
                });
                let Some((first, credential)) = known else { return refused_scram(&mechanism) };
                *challenges += 1;
                let (challenged, bytes) = credential.challenge(first, *challenges);
                session.step = Step::Challenged(Box::new(challenged));
                return Heard::Goes { bytes, lifetime_ms: 0 };
            }
            Step::Challenged(challenged) => match challenged.verify(message) {
                Some(bytes) => (challenged.user.clone(), challenged.mechanism().to_owned(), bytes),
                None => return refused_scram(challenged.mechanism()),
            },
            Step::Refusing => return Heard::Refused(INVALID_TOKEN.into()),
        };
        if let Some(before) = session.login.as_ref().filter(|before| before.user != user) {
            let why = format!("User.{}: User.{user}", before.user);
            return Heard::Refused(format!("Cannot change principals during re-authentication from {why}"));
        }
        let lifetime_ms = i64::try_from(logins.lifetime().as_millis()).unwrap_or(i64::MAX);
        let until = (lifetime_ms > 0).then(|| Timestamp::from_millis(now.as_millis().saturating_add(lifetime_ms)));
        session.login = Some(Login { user, mechanism, until });
        Heard::Goes { bytes, lifetime_ms }
    }
}

fn refused_scram(mechanism: &str) -> Heard {
    let why = "Authentication failed during authentication due to invalid credentials with SASL mechanism";
    Heard::Refused(format!("{why} {mechanism}"))
}

/// Whom the user acts for, the user, and the password.
fn plain(message: &[u8]) -> Option<(&str, &str, &str)> {
    let mut parts = std::str::from_utf8(message).ok()?.split('\0');
    let all = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(all)
}

fn bearer(message: &[u8]) -> Option<&str> {
    let message = std::str::from_utf8(message).ok()?.strip_prefix("n,,\x01")?;
    message.split('\x01').find_map(|pair| pair.strip_prefix("auth=Bearer "))
}

const INVALID_TOKEN: &str = "{\"status\":\"invalid_token\"}";

//! How far the login on a connection is, and what all logins of an engine share: the salted password, and the token.

use std::time::Instant;

use super::exchange::Exchange;
use super::scram::Salted;
use crate::config::ClientConfig;
use crate::config::sasl::{Sasl, Secret};
use crate::deadline::Deadline;
use crate::wire::api::api_versions::Versions;

/// One login on one connection.
#[derive(Debug)]
pub struct Login {
    /// What it waits for.
    pub step: Step,
    /// When it began.
    pub begun: Instant,
    /// The versions that the broker speaks.
    pub versions: Versions,
    /// `true` if the connection was in use before.
    pub renews: bool,
}

/// What a login waits for.
#[derive(Debug)]
pub enum Step {
    /// It waits for a token, or for answers to what is in flight.
    Waits,
    /// The answer to SaslHandshake comes.
    Handshake(Exchange),
    /// An answer to SaslAuthenticate comes.
    Answer(Exchange),
    /// The next message is computed.
    Computes(Exchange),
    /// None: it is in somebody's hands.
    Nothing,
}

/// What all logins of an engine share.
#[derive(Debug)]
pub struct Logins {
    /// How the client logs in, if it does.
    pub sasl: Option<Sasl>,
    /// The salted password of the last login.
    pub salted: Option<Salted>,
    /// The token that they use.
    pub token: TokenState,
    /// The last time at which something was computed, if there is more.
    pub computes: Option<Instant>,
}

/// The token that logins use.
#[derive(Debug)]
pub enum TokenState {
    /// There is none; the provider may be asked from then on.
    None(Deadline),
    /// The provider was asked.
    Asked,
    /// This message, for logins until then; with no time, for those that wait for it now.
    There(Secret, Deadline),
}

impl Logins {
    /// Those of this client.
    #[must_use]
    pub fn new(client: &ClientConfig) -> Self {
        Self { sasl: client.sasl.clone(), salted: None, token: TokenState::None(Deadline::NEVER), computes: None }
    }

    /// `true` if it logs in.
    #[must_use]
    pub fn are_needed(&self) -> bool {
        self.sasl.is_some()
    }

    /// The exchange of a login that begins now; `None` if a token is missing, or `Err` if there are no random numbers.
    pub fn exchange(&self, now: Instant) -> Option<Result<Exchange, &'static str>> {
        let sasl = self.sasl.as_ref()?;
        let token = match &self.token {
            TokenState::There(token, until) if !until.passed(now) => Some(token),
            _ if sasl.provider().is_some() => return None,
            _ => None,
        };
        Some(Exchange::new(sasl, token).ok_or(NO_RANDOM_NUMBERS))
    }
}

impl Login {
    /// `true` if it waits for a token, or for answers to what is in flight.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(self.step, Step::Waits)
    }

    /// `true` if there is something to compute.
    #[must_use]
    pub fn computes(&self) -> bool {
        matches!(self.step, Step::Computes(_))
    }
}

/// A provider that is still at work when the connection's time is up.
pub const NO_TOKEN_IN_TIME: &str = "the token provider gave none within connect_timeout";
const NO_RANDOM_NUMBERS: &str = "the system gives no random numbers";

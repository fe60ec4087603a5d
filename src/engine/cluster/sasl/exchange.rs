//! The exchange of messages of one login, whatever its mechanism.

use super::oauthbearer::OauthBearer;
use super::reply::{Fault, Reply};
use super::scram::{Salted, Scram};
use crate::config::sasl::{Mechanism, Sasl, Secret};

/// The exchange of one login.
#[derive(Debug)]
pub enum Exchange {
    /// PLAIN (RFC 4616), or any other in which the broker has nothing to say: this message, if it was not sent.
    Plain(Secret),
    /// SCRAM.
    Scram(Box<Scram>),
    /// OAUTHBEARER, with the message of the token.
    OauthBearer(Secret, OauthBearer),
}

impl Exchange {
    /// A new one; with the message of a token where the mechanism needs one. `None` if that is missing, or if there
    /// are no random numbers.
    #[must_use]
    pub fn new(sasl: &Sasl, token: Option<&Secret>) -> Option<Self> {
        Some(match &sasl.mechanism {
            Mechanism::Plain { user, password } => {
                Self::Plain(Secret::of(&[b"\0", user.as_bytes(), b"\0", password.bytes()]))
            }
            Mechanism::Scram { hash, user, password } => {
                Self::Scram(Box::new(Scram::new(*hash, user, password, sasl.is_token, sasl.nonces.next()?)))
            }
            Mechanism::OauthBearer(_) => Self::OauthBearer(token?.clone(), OauthBearer::default()),
        })
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> Secret {
        match self {
            Self::Plain(message) | Self::OauthBearer(message, _) => message.clone(),
            Self::Scram(scram) => scram.first(),
        }
    }

    /// Takes a message of the broker, and the salted password of an earlier login.
    ///
    /// # Errors
    /// The login has failed.
    pub fn answer(&mut self, message: &[u8], known: Option<&Salted>) -> Result<Reply, Fault> {
        match self {
            Self::Plain(_) => Ok(Reply::Done),
            Self::Scram(scram) => scram.answer(message, known),
            Self::OauthBearer(_, login) => login.answer(message),
        }
    }

    /// Computes for a moment; gives the next message when there is one, and what it has computed for later logins.
    pub fn work(&mut self, known: Option<&Salted>) -> Option<(Secret, Option<Salted>)> {
        match self {
            Self::Scram(scram) => scram.work(SLICE, known),
            Self::Plain(_) | Self::OauthBearer(..) => None,
        }
    }
}

/// Rounds of PBKDF2 in one go.
const SLICE: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_sends_user_and_password_and_has_nothing_to_hear() {
        let mut exchange = Exchange::new(&Sasl::plain("bücher", "a,b"), None).unwrap();
        assert_eq!(exchange.first().bytes(), "\0bücher\0a,b".as_bytes());
        assert!(matches!(exchange.answer(b"whatever", None), Ok(Reply::Done)));
    }
}

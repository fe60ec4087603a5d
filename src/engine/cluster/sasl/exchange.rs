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

    #[cfg(all(target_os = "linux", not(shuttle)))]
    #[test]
    fn what_a_login_was_made_of_is_wiped_once_it_was_sent() {
        use crate::config::sasl::{NONCE_BYTES, Token};
        use crate::engine::cluster::sasl::oauthbearer;
        use crate::left_in_memory;
        use crate::net::send_buffer::SendBuffer;
        use crate::wire::CorrelationId;
        use crate::wire::api::sasl_authenticate;

        const PASSWORD: &str = "a password that only this test has";
        const TOKEN: &str = "a.token.that.only.this.test.has";
        const CHALLENGE: &str = "r=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHx,s=dGhlIHNhbHQgb2YgdGhpcw==,i=4096";
        // Of this password, salt and nonce, by another program.
        const SALTED: &[u8] =
            &[0x56, 0x7f, 0xbd, 0x70, 0xc2, 0xc3, 0x9c, 0x11, 0xac, 0x94, 0x2d, 0x6a, 0x0e, 0x93, 0x09];
        const CLIENT_KEY: &[u8] = &[0x68, 0xae, 0x90, 0xa9, 0xb7, 0xc2, 0x94, 0x52, 0xf6, 0xc9, 0x8b, 0x9e, 0x98, 0x4c];
        const SERVER_KEY: &[u8] = &[0xa3, 0xc7, 0xa8, 0x42, 0xf4, 0x60, 0x38, 0x51, 0x15, 0x7d, 0x36, 0x78, 0x41, 0xeb];
        const PROOF: &[u8] = b"xNu/H4eE9VN5Ae7ZCr6hlWrmj/LacLRgwcu2bl3MsP0=";
        const PROOF_BYTES: &[u8] =
            &[0xc4, 0xdb, 0xbf, 0x1f, 0x87, 0x84, 0xf5, 0x53, 0x79, 0x01, 0xee, 0xd9, 0x0a, 0xbe];

        let mut sent = SendBuffer::default();
        let mut send = |message: Secret| {
            sent.push(sasl_authenticate::request(2, CorrelationId(1), "me", message.bytes()));
        };
        send(Exchange::new(&Sasl::plain("ann", PASSWORD), None).unwrap().first());
        let scram = Sasl::scram_sha_256("ann", PASSWORD).nonces(|| [7; NONCE_BYTES]);
        let mut exchange = Exchange::new(&scram, None).unwrap();
        send(exchange.first());
        assert!(matches!(exchange.answer(CHALLENGE.as_bytes(), None), Ok(Reply::Work)));
        let (message, salted) = (0..9).find_map(|_| exchange.work(None)).unwrap();
        assert!(message.bytes().ends_with(PROOF));
        send(message);
        send(oauthbearer::message(&Token::new(TOKEN)).unwrap());
        let secrets = [PASSWORD.as_bytes(), TOKEN.as_bytes(), SALTED, CLIENT_KEY, SERVER_KEY, PROOF, PROOF_BYTES];
        let held = [true, true, true, false, true, true, false];
        assert_eq!(secrets.map(left_in_memory::has), held);
        drop((exchange, scram, salted));
        let length = sent.slices(usize::MAX).iter().map(|slice| slice.len()).sum();
        sent.accept(length);
        assert_eq!(secrets.map(left_in_memory::has), [false; 7]);
    }
}

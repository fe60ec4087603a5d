//! SCRAM (RFC 5802, RFC 7677) as Kafka has it: without channel binding and without SASLprep, and with an extension for
//! delegation tokens (KIP-48). The server proves that it knows the password's verifier, or it is not trusted.

use std::fmt;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use zeroize::Zeroizing;

use super::pbkdf2::{Salting, hash, hmac, is_hmac};
use super::reply::{Fault, Reply};
use crate::config::sasl::{NONCE_BYTES, ScramHash, Secret};

/// One login by SCRAM.
pub struct Scram {
    hash: ScramHash,
    password: Secret,
    nonce: String,
    /// The client's first message, without the header that says that there is no channel binding.
    first: String,
    state: State,
}

enum State {
    /// The client's first message is to be sent, or was.
    First,
    /// The salted password is computed.
    Salting { salting: Box<Salting>, challenge: Challenge },
    /// The client's last message was sent: the server must know this key, and sign this text with it.
    Last { server_key: Secret, signed: String },
}

/// A server's first message.
struct Challenge {
    text: String,
    nonce: String,
    salt: Vec<u8>,
    rounds: u32,
}

/// A salted password with what it was made of; user, password and hash are those of the client.
#[derive(Debug)]
pub struct Salted {
    salt: Vec<u8>,
    rounds: u32,
    password: Secret,
}

impl Scram {
    /// A login of this user.
    #[must_use]
    pub fn new(hash: ScramHash, user: &str, password: &Secret, is_token: bool, nonce: [u8; NONCE_BYTES]) -> Self {
        let nonce = Base64::encode_string(&nonce);
        let extension = if is_token { ",tokenauth=true" } else { "" };
        // `=` before `,`, or the escape itself would be escaped.
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}{extension}");
        Self { hash, password: password.clone(), nonce, first, state: State::First }
    }

    /// The first message.
    #[must_use]
    pub fn first(&self) -> Secret {
        Secret::of(&[NO_BINDING.as_bytes(), self.first.as_bytes()])
    }

    /// Takes a message of the server.
    ///
    /// # Errors
    /// It is refused, or cannot be trusted.
    pub fn answer(&mut self, message: &[u8], known: Option<&Salted>) -> Result<Reply, Fault> {
        let text = std::str::from_utf8(message).map_err(|_| Fault::Untrusted("its message is not UTF-8"))?;
        match &self.state {
            State::First => self.take_challenge(text, known),
            State::Salting { .. } => Err(Fault::Untrusted("it sent more than one challenge")),
            State::Last { server_key, signed } => {
                let proof = attribute(text.split(',').next(), 'v')?;
                let proof = decoded(proof).ok_or(Fault::Untrusted("its signature is not base64"))?;
                if is_hmac(self.hash, server_key, signed.as_bytes(), &proof) {
                    return Ok(Reply::Done);
                }
                Err(Fault::Untrusted("its signature is wrong, so it does not know the password's verifier"))
            }
        }
    }

    fn take_challenge(&mut self, text: &str, known: Option<&Salted>) -> Result<Reply, Fault> {
        let challenge = Challenge::read(text, &self.nonce)?;
        if let Some(known) = known.filter(|known| known.rounds == challenge.rounds && known.salt == challenge.salt) {
            return Ok(Reply::Send(self.prove(&challenge, &known.password)));
        }
        let salting = Box::new(Salting::new(self.hash, &self.password, &challenge.salt, challenge.rounds));
        self.state = State::Salting { salting, challenge };
        Ok(Reply::Work)
    }

    /// Goes on for so many rounds; gives the next message when they are enough, with the salted password for later
    /// logins.
    pub fn work(&mut self, rounds: u32, known: Option<&Salted>) -> Option<(Secret, Option<Salted>)> {
        let State::Salting { salting, challenge } = &mut self.state else { return None };
        // Another connection may have come to the same in the meantime.
        let known = known.filter(|known| known.rounds == challenge.rounds && known.salt == challenge.salt);
        let (password, is_new) = match known {
            Some(known) => (known.password.clone(), false),
            None => (salting.work(rounds)?, true),
        };
        let State::Salting { challenge, .. } = std::mem::replace(&mut self.state, State::First) else { return None };
        let message = self.prove(&challenge, &password);
        let salted = is_new.then_some(Salted { salt: challenge.salt, rounds: challenge.rounds, password });
        Some((message, salted))
    }

    /// The last message, with the proof.
    fn prove(&mut self, challenge: &Challenge, salted: &Secret) -> Secret {
        // `biws` is the header without a channel binding, in base64.
        let bare = format!("c=biws,r={}", challenge.nonce);
        let signed = format!("{},{},{bare}", self.first, challenge.text);
        let client_key = hmac(self.hash, salted, b"Client Key");
        let stored_key = hash(self.hash, &client_key);
        let signature = hmac(self.hash, &stored_key, signed.as_bytes());
        let keys = client_key.bytes().iter().zip(signature.bytes());
        let proof: Zeroizing<Vec<u8>> = Zeroizing::new(keys.map(|(key, byte)| key ^ byte).collect());
        let proof = Zeroizing::new(Base64::encode_string(&proof));
        self.state = State::Last { server_key: hmac(self.hash, salted, b"Server Key"), signed };
        Secret::of(&[bare.as_bytes(), b",p=", proof.as_bytes()])
    }
}

impl Challenge {
    fn read(text: &str, ours: &str) -> Result<Self, Fault> {
        let mut attributes = text.split(',');
        let nonce = attribute(attributes.next(), 'r')?;
        // The server's part is what keeps an old answer from being played again.
        if !is_prefix(ours.as_bytes(), nonce.as_bytes()) {
            return Err(Fault::Untrusted("its nonce does not go on from the client's"));
        }
        let salt = attribute(attributes.next(), 's')?;
        let salt = decoded(salt).filter(|salt| !salt.is_empty());
        let salt = salt.ok_or(Fault::Untrusted("its salt is not base64"))?;
        let rounds = attribute(attributes.next(), 'i')?;
        let rounds = Some(rounds).filter(|rounds| rounds.bytes().all(|digit| digit.is_ascii_digit()));
        let rounds = rounds.and_then(|rounds| rounds.parse().ok());
        let rounds = rounds.ok_or(Fault::Untrusted("its count of iterations is not a number"))?;
        match rounds {
            ..MIN_ROUNDS => Err(Fault::Untrusted("it asks for fewer than 4096 iterations, which guard no password")),
            MIN_ROUNDS..=MAX_ROUNDS => Ok(Self { text: text.to_owned(), nonce: nonce.to_owned(), salt, rounds }),
            _ => Err(Fault::Untrusted("it asks for more than 131072 iterations")),
        }
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scram")
    }
}

/// The value of an attribute that must come now.
fn attribute(found: Option<&str>, name: char) -> Result<&str, Fault> {
    let (found_name, value) = found.and_then(|found| found.split_once('=')).ok_or(Fault::Untrusted(NOT_SCRAM))?;
    match found_name {
        // RFC 5802: the server's reason.
        "e" => Err(Fault::Refused(Arc::from(crate::wire::reader::shown(value)))),
        "m" => Err(Fault::Untrusted("it demands an extension that is not known")),
        found if found.chars().eq([name]) => Ok(value),
        _ => Err(Fault::Untrusted(NOT_SCRAM)),
    }
}

/// `true` if `long` goes on where `short` ends. All bytes are looked at, whichever differs.
fn is_prefix(short: &[u8], long: &[u8]) -> bool {
    let differing = short.iter().zip(long).fold(0, |bits, (a, b)| bits | (a ^ b));
    long.len() > short.len() && differing == 0
}

fn decoded(base64: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(base64).ok()
}

/// The header that says: no channel binding, and the user acts for itself.
const NO_BINDING: &str = "n,,";
const NOT_SCRAM: &str = "its message is not what SCRAM has there";

/// As Kafka's own least.
const MIN_ROUNDS: u32 = 4096;
/// Eight times Kafka's own most.
const MAX_ROUNDS: u32 = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    /// A login whose nonce is this text instead.
    fn login(hash: ScramHash, user: &str, password: &str, nonce: &str) -> Scram {
        let mut login = Scram::new(hash, user, &Secret::of(&[password.as_bytes()]), false, [0; NONCE_BYTES]);
        login.first = login.first.replace(&login.nonce, nonce);
        nonce.clone_into(&mut login.nonce);
        login
    }

    fn text(secret: &Secret) -> &str {
        std::str::from_utf8(secret.bytes()).unwrap()
    }

    fn worked(login: &mut Scram) -> (Secret, Option<Salted>) {
        (0..1000).find_map(|_| login.work(1000, None)).unwrap()
    }

    // The exchange of RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const PROOF: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SIGNATURE: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    #[test]
    fn the_exchange_of_rfc_7677() {
        let mut login = login(ScramHash::Sha256, "user", "pencil", NONCE);
        assert_eq!(text(&login.first()), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        assert!(matches!(login.answer(CHALLENGE.as_bytes(), None), Ok(Reply::Work)));
        let (message, salted) = worked(&mut login);
        assert_eq!(text(&message), PROOF);
        assert!(matches!(login.answer(SIGNATURE.as_bytes(), None), Ok(Reply::Done)));

        // With the salted password of the first the second has nothing to compute.
        let mut second = self::login(ScramHash::Sha256, "user", "pencil", NONCE);
        let reply = second.answer(CHALLENGE.as_bytes(), salted.as_ref());
        assert!(matches!(reply, Ok(Reply::Send(message)) if text(&message) == PROOF));
        assert!(matches!(second.answer(SIGNATURE.as_bytes(), None), Ok(Reply::Done)));
    }

    #[test]
    fn a_salted_password_is_for_its_salt_and_count_only() {
        let mut first = login(ScramHash::Sha256, "user", "pencil", NONCE);
        let _ = first.answer(CHALLENGE.as_bytes(), None);
        let salted = worked(&mut first).1;
        for (from, to) in [("i=4096", "i=4097"), ("W22Z", "W22a")] {
            let mut second = login(ScramHash::Sha256, "user", "pencil", NONCE);
            let reply = second.answer(CHALLENGE.replace(from, to).as_bytes(), salted.as_ref());
            assert!(matches!(reply, Ok(Reply::Work)), "{to}");
        }
    }

    #[test]
    fn two_logins_at_once_compute_once() {
        let [mut first, mut second] = [0, 1].map(|_| login(ScramHash::Sha256, "user", "pencil", NONCE));
        for login in [&mut first, &mut second] {
            assert!(matches!(login.answer(CHALLENGE.as_bytes(), None), Ok(Reply::Work)));
        }
        let salted = worked(&mut first).1;
        let (message, new) = second.work(1, salted.as_ref()).unwrap();
        assert_eq!((text(&message), new.is_none()), (PROOF, true));
    }

    #[test]
    fn names_are_escaped_and_a_token_says_that_it_is_one() {
        let password = Secret::of(&[b"p"]);
        let first = |user, token| {
            text(&Scram::new(ScramHash::Sha512, user, &password, token, [0; NONCE_BYTES]).first()).to_owned()
        };
        let nonce = "A".repeat(32);
        assert_eq!(first("a,b=c", false), format!("n,,n=a=2Cb=3Dc,r={nonce}"));
        assert_eq!(first("=2C", false), format!("n,,n==3D2C,r={nonce}"));
        assert_eq!(first("id", true), format!("n,,n=id,r={nonce},tokenauth=true"));
    }

    #[test]
    fn a_bad_challenge_is_refused_before_any_work() {
        for (challenge, why) in [
            ("", NOT_SCRAM),
            ("r", NOT_SCRAM),
            ("s=c2FsdA==,r=nonceX,i=4096", NOT_SCRAM),
            ("rr=nonceX,s=c2FsdA==,i=4096", NOT_SCRAM),
            ("r=nonceX,s=c2FsdA==", NOT_SCRAM),
            ("m=x,r=nonceX,s=c2FsdA==,i=4096", "it demands an extension that is not known"),
            ("r=nonce,s=c2FsdA==,i=4096", "its nonce does not go on from the client's"),
            ("r=noncE2,s=c2FsdA==,i=4096", "its nonce does not go on from the client's"),
            ("r=non,s=c2FsdA==,i=4096", "its nonce does not go on from the client's"),
            ("r=,s=c2FsdA==,i=4096", "its nonce does not go on from the client's"),
            ("r=another,s=c2FsdA==,i=4096", "its nonce does not go on from the client's"),
            ("r=nonceX,s=,i=4096", "its salt is not base64"),
            ("r=nonceX,s=c2FsdA=,i=4096", "its salt is not base64"),
            ("r=nonceX,s=?,i=4096", "its salt is not base64"),
            ("r=nonceX,s=c2FsdA==,i=", "its count of iterations is not a number"),
            ("r=nonceX,s=c2FsdA==,i=+4096", "its count of iterations is not a number"),
            ("r=nonceX,s=c2FsdA==,i=-1", "its count of iterations is not a number"),
            ("r=nonceX,s=c2FsdA==,i=4294967296", "its count of iterations is not a number"),
            ("r=nonceX,s=c2FsdA==,i=1", "it asks for fewer than 4096 iterations, which guard no password"),
            ("r=nonceX,s=c2FsdA==,i=4095", "it asks for fewer than 4096 iterations, which guard no password"),
            ("r=nonceX,s=c2FsdA==,i=131073", "it asks for more than 131072 iterations"),
            ("r=nonceX,s=c2FsdA==,i=4000000000", "it asks for more than 131072 iterations"),
        ] {
            let reply = login(ScramHash::Sha256, "user", "p", "nonce").answer(challenge.as_bytes(), None);
            assert!(matches!(reply, Err(Fault::Untrusted(what)) if what == why), "{challenge}: {reply:?}");
        }
        let mut login = login(ScramHash::Sha256, "user", "p", "nonce");
        assert!(matches!(login.answer(b"\xff", None), Err(Fault::Untrusted("its message is not UTF-8"))));
    }

    #[test]
    fn a_good_challenge_is_taken_at_its_limits_and_with_extensions_behind() {
        for challenge in ["r=nonceX,s=c2FsdA==,i=4096", "r=nonceX,s=c2FsdA==,i=131072,x=y", "r=nonce==,s=AA==,i=4096"] {
            let reply = login(ScramHash::Sha512, "user", "p", "nonce").answer(challenge.as_bytes(), None);
            assert!(matches!(reply, Ok(Reply::Work)), "{challenge}: {reply:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_sign_is_not_trusted() {
        let wrong = "its signature is wrong, so it does not know the password's verifier";
        let swapped = SIGNATURE.replace("6rri", "7rri");
        for (message, why) in [
            (&*swapped, wrong),
            ("v=", wrong),
            ("v=AA==", wrong),
            ("v=?", "its signature is not base64"),
            ("", NOT_SCRAM),
            ("p=AA==", NOT_SCRAM),
            (CHALLENGE, NOT_SCRAM),
        ] {
            let mut login = login(ScramHash::Sha256, "user", "pencil", NONCE);
            let _ = login.answer(CHALLENGE.as_bytes(), None);
            let _ = worked(&mut login);
            let reply = login.answer(message.as_bytes(), None);
            assert!(matches!(reply, Err(Fault::Untrusted(what)) if what == why), "{message}: {reply:?}");
        }
    }

    #[test]
    fn a_server_may_refuse_in_scram_s_own_words() {
        let mut login = login(ScramHash::Sha256, "user", "pencil", NONCE);
        let reply = login.answer(b"e=unknown-user\n", None);
        assert!(matches!(reply, Err(Fault::Refused(why)) if &*why == "unknown-user\\n"));
        let _ = login.answer(CHALLENGE.as_bytes(), None);
        assert!(matches!(login.answer(CHALLENGE.as_bytes(), None), Err(Fault::Untrusted(_))), "one challenge");
        let _ = worked(&mut login);
        let reply = login.answer(b"e=invalid-proof", None);
        assert!(matches!(reply, Err(Fault::Refused(why)) if &*why == "invalid-proof"));
    }
}

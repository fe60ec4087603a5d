//! The server's side of SCRAM (RFC 5802), as Kafka has it: what a broker stores of a user, and what it checks. It
//! shares no code with the client's side, so that a fault cannot hide in both.

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// The hash of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// What a broker knows of a user.
#[derive(Clone)]
pub(super) struct Credential {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// A login that waits for the client's proof.
#[derive(Clone, Debug)]
pub(super) struct Challenged {
    credential: Credential,
    pub user: String,
    nonce: String,
    /// The client's first message without its header, and the server's first.
    messages: String,
}

impl Hash {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|hash| hash.name() == name)
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        const ANY: &str = "a key of any length";
        match self {
            Self::Sha256 => {
                Hmac::<Sha256>::new_from_slice(key).expect(ANY).chain_update(text).finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                Hmac::<Sha512>::new_from_slice(key).expect(ANY).chain_update(text).finalize().into_bytes().to_vec()
            }
        }
    }

    fn hash(self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(text).to_vec(),
            Self::Sha512 => Sha512::digest(text).to_vec(),
        }
    }

    /// RFC 5802's `Hi`.
    fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut last = self.hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
        let mut sum = last.clone();
        for _ in 1..iterations {
            last = self.hmac(password.as_bytes(), &last);
            sum = xor(&sum, &last);
        }
        sum
    }
}

impl Credential {
    pub fn new(hash: Hash, user: &str, password: &str, iterations: u32) -> Self {
        // Of every user its own, and the same whenever a test runs.
        let salt = hash.hash(format!("salt of {user}").as_bytes())[..16].to_vec();
        let salted = hash.salted(password, &salt, iterations);
        let stored_key = hash.hash(&hash.hmac(&salted, b"Client Key"));
        Self { hash, salt, iterations, stored_key, server_key: hash.hmac(&salted, b"Server Key") }
    }

    /// The server's first message, to this first message of a client.
    pub fn challenge(&self, first: &First<'_>, number: u64) -> (Challenged, Vec<u8>) {
        let nonce = format!("{}server{number}", first.nonce);
        let message = format!("r={nonce},s={},i={}", Base64::encode_string(&self.salt), self.iterations);
        let messages = format!("{},{message}", first.bare);
        let challenged = Challenged { credential: self.clone(), user: first.user.clone(), nonce, messages };
        (challenged, message.into_bytes())
    }
}

impl Challenged {
    pub fn mechanism(&self) -> &'static str {
        self.credential.hash.name()
    }

    /// The server's last message, to a proof that is right.
    pub fn verify(&self, last: &[u8]) -> Option<Vec<u8>> {
        let last = std::str::from_utf8(last).ok()?;
        let (bare, proof) = last.rsplit_once(",p=")?;
        if bare != format!("c=biws,r={}", self.nonce) {
            return None;
        }
        let Credential { hash, stored_key, server_key, .. } = &self.credential;
        let text = format!("{},{bare}", self.messages);
        let signature = hash.hmac(stored_key, text.as_bytes());
        let key = xor(&Base64::decode_vec(proof).ok()?, &signature);
        (hash.hash(&key) == *stored_key)
            .then(|| format!("v={}", Base64::encode_string(&hash.hmac(server_key, text.as_bytes()))).into_bytes())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.hash.name())
    }
}

/// A client's first message.
pub(super) struct First<'a> {
    pub user: String,
    nonce: &'a str,
    pub is_token: bool,
    bare: &'a str,
}

impl<'a> First<'a> {
    pub fn read(message: &'a [u8]) -> Option<Self> {
        let bare = std::str::from_utf8(message).ok()?.strip_prefix("n,,")?;
        let mut attributes = bare.split(',');
        let user = unescaped(attributes.next()?.strip_prefix("n=")?)?;
        let nonce = attributes.next()?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        let is_token = attributes.any(|it| it == "tokenauth=true");
        Some(Self { user, nonce, is_token, bare })
    }
}

/// Kafka takes the escapes in upper case only, and no user whose name is not ASCII.
fn unescaped(user: &str) -> Option<String> {
    let plain = user.replace("=2C", ",").replace("=3D", "\0");
    (!plain.contains('=') && user.is_ascii()).then(|| plain.replace('\0', "="))
}

fn xor(one: &[u8], other: &[u8]) -> Vec<u8> {
    one.iter().zip(other).map(|(one, other)| one ^ other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_rfc_7677() {
        let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let salted = Hash::Sha256.salted("pencil", &salt, 4096);
        let stored_key = Hash::Sha256.hash(&Hash::Sha256.hmac(&salted, b"Client Key"));
        let server_key = Hash::Sha256.hmac(&salted, b"Server Key");
        let credential = Credential { hash: Hash::Sha256, salt, iterations: 4096, stored_key, server_key };
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let messages = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let challenged = Challenged { credential, user: "user".into(), nonce: nonce.into(), messages };
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let last = challenged.verify(format!("c=biws,r={nonce},p={proof}").as_bytes());
        assert_eq!(last.as_deref(), Some(&b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="[..]));
        assert_eq!(challenged.verify(format!("c=biws,r={nonce},p=d{proof}").as_bytes()), None);
        assert_eq!(challenged.verify(format!("c=biws,r={nonce}x,p={proof}").as_bytes()), None);
    }

    #[test]
    fn names_are_taken_in_kafka_s_form_only() {
        for (user, name) in [("a=2Cb=3Dc", Some("a,b=c")), ("a=2c", None), ("a=", None), ("ä", None), ("", Some(""))] {
            assert_eq!(unescaped(user).as_deref(), name, "{user}");
        }
    }
}

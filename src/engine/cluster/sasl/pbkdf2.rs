//! The keyed hashes of SCRAM, and the salted password (PBKDF2 with one block), which is computed in slices: at 131,072
//! rounds a worker would otherwise miss its deadlines. The hashes are RustCrypto's; this file has the loop over them,
//! because the one of their crate cannot stop in the middle.

use hmac::digest::{FixedOutput, Output};
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::config::sasl::{ScramHash, Secret};

/// A salted password, as far as it is computed.
pub struct Salting {
    keyed: Keyed,
    /// The hash of the last round, and the sum of all.
    last: Zeroizing<Vec<u8>>,
    sum: Zeroizing<Vec<u8>>,
    rounds_left: u32,
}

/// A hash with a key, as it is before the first byte.
#[derive(Clone)]
enum Keyed {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl Salting {
    /// Begins with the first of `rounds`, which is at least one.
    #[must_use]
    pub fn new(hash: ScramHash, password: &Secret, salt: &[u8], rounds: u32) -> Self {
        let keyed = Keyed::new(hash, password.bytes());
        let first = keyed.hash(&[salt, &1_u32.to_be_bytes()]);
        let last = Zeroizing::new(first.bytes().to_vec());
        Self { keyed, sum: last.clone(), last, rounds_left: rounds.saturating_sub(1) }
    }

    /// Goes on for so many rounds; gives the salted password when it is done.
    pub fn work(&mut self, rounds: u32) -> Option<Secret> {
        let rounds = rounds.min(self.rounds_left);
        match &self.keyed {
            Keyed::Sha256(keyed) => go_on(keyed, &mut self.last, &mut self.sum, rounds),
            Keyed::Sha512(keyed) => go_on(keyed, &mut self.last, &mut self.sum, rounds),
        }
        self.rounds_left -= rounds;
        (self.rounds_left == 0).then(|| Secret::of(&[&self.sum]))
    }
}

/// The keyed state is copied for each round: a new one would hash the key again, which doubles the time. The hash is
/// written where the last one was, so that none is left on the stack.
fn go_on<D: EagerHash>(keyed: &Hmac<D>, last: &mut [u8], sum: &mut [u8], rounds: u32)
where
    Hmac<D>: Mac + FixedOutput + Clone,
{
    let last = <&mut Output<Hmac<D>>>::try_from(last).expect("it is a hash of this kind");
    for _ in 0..rounds {
        let mut mac = keyed.clone();
        Mac::update(&mut mac, last);
        mac.finalize_into(last);
        sum.iter_mut().zip(last.iter()).for_each(|(sum, byte)| *sum ^= byte);
    }
}

impl Keyed {
    fn new(hash: ScramHash, key: &[u8]) -> Self {
        const ANY: &str = "HMAC takes a key of any length";
        match hash {
            ScramHash::Sha256 => Self::Sha256(Hmac::new_from_slice(key).expect(ANY)),
            ScramHash::Sha512 => Self::Sha512(Hmac::new_from_slice(key).expect(ANY)),
        }
    }

    fn hash(&self, parts: &[&[u8]]) -> Secret {
        match self.clone() {
            Self::Sha256(keyed) => moved(fed(keyed, parts).finalize().into_bytes()),
            Self::Sha512(keyed) => moved(fed(keyed, parts).finalize().into_bytes()),
        }
    }
}

fn fed<M: Mac>(mut mac: M, parts: &[&[u8]]) -> M {
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// The keyed hash of a text.
#[must_use]
pub fn hmac(hash: ScramHash, key: &Secret, text: &[u8]) -> Secret {
    Keyed::new(hash, key.bytes()).hash(&[text])
}

/// `true` if this is the keyed hash of the text: compared in constant time.
#[must_use]
pub fn is_hmac(hash: ScramHash, key: &Secret, text: &[u8], what: &[u8]) -> bool {
    match Keyed::new(hash, key.bytes()) {
        Keyed::Sha256(keyed) => fed(keyed, &[text]).verify_slice(what).is_ok(),
        Keyed::Sha512(keyed) => fed(keyed, &[text]).verify_slice(what).is_ok(),
    }
}

/// The hash of a key.
#[must_use]
pub fn hash(hash: ScramHash, key: &Secret) -> Secret {
    match hash {
        ScramHash::Sha256 => moved(Sha256::digest(key.bytes())),
        ScramHash::Sha512 => moved(Sha512::digest(key.bytes())),
    }
}

/// A hash; what it was in is wiped.
fn moved(mut hash: impl AsMut<[u8]>) -> Secret {
    let bytes = hash.as_mut();
    let secret = Secret::of(&[bytes]);
    bytes.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn salted(hash: ScramHash, password: &str, salt: &[u8], rounds: u32, slice: u32) -> (String, u32) {
        let mut salting = Salting::new(hash, &Secret::of(&[password.as_bytes()]), salt, rounds);
        let mut slices = 1;
        loop {
            if let Some(done) = salting.work(slice) {
                return (hex(done.bytes()), slices);
            }
            slices += 1;
        }
    }

    #[test]
    fn known_answers() {
        // RFC 7914, section 11, cut to one block.
        for (password, salt, rounds, expected) in [
            ("passwd", "salt", 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"),
            ("Password", "NaCl", 80_000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"),
        ] {
            assert_eq!(salted(ScramHash::Sha256, password, salt.as_bytes(), rounds, 5000).0, expected);
        }
    }

    #[test]
    fn the_size_of_slices_changes_nothing() {
        for hash in [ScramHash::Sha256, ScramHash::Sha512] {
            let whole = salted(hash, "password", b"salt", 4096, u32::MAX);
            assert_eq!(whole.1, 1);
            let sliced = salted(hash, "password", b"salt", 4096, 1000);
            assert_eq!(sliced, (whole.0, 5));
        }
    }

    #[test]
    fn a_keyed_hash_is_told_from_others() {
        for kind in [ScramHash::Sha256, ScramHash::Sha512] {
            let key = Secret::of(&[b"key"]);
            let right = hmac(kind, &key, b"text");
            assert!(is_hmac(kind, &key, b"text", right.bytes()));
            for at in 0..right.bytes().len() {
                let mut wrong = right.bytes().to_vec();
                wrong[at] ^= 1;
                assert!(!is_hmac(kind, &key, b"text", &wrong));
                assert!(!is_hmac(kind, &key, b"text", &right.bytes()[..at]), "{at} bytes are not all");
            }
        }
    }
}

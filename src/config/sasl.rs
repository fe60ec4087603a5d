//! How a client logs in to brokers: the mechanism, the user and the secret, as plain data, and the trait of what gives
//! tokens. Secrets are never shown, and wiped when they are dropped.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::ConfigProblem;

/// A login by SASL: the mechanism, the user, and the secret.
///
/// ```
/// use ottla::{Client, Sasl};
///
/// # let password = "a secret";
/// let client = Client::builder(["kafka-1:9093"])
///     .sasl(Sasl::scram_sha_512("billing", password))
///     .sasl_over_ssl(false) // the network is trusted
///     .build()?;
/// # Ok::<(), ottla::ConfigError>(())
/// ```
///
/// GSSAPI (Kerberos) is left out on purpose, because it needs a C library.
#[derive(Clone, Debug)]
pub struct Sasl {
    pub(crate) mechanism: Mechanism,
    /// `true` if a delegation token stands for user and password.
    pub(crate) is_token: bool,
    pub(crate) nonces: Nonces,
}

/// A mechanism with what it needs.
#[derive(Clone, Debug)]
pub enum Mechanism {
    /// RFC 4616.
    Plain { user: String, password: Secret },
    /// RFC 5802 and 7677.
    Scram { hash: ScramHash, user: String, password: Secret },
    /// RFC 7628.
    OauthBearer(Provider),
}

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramHash {
    Sha256,
    Sha512,
}

impl Sasl {
    /// User and password, as they are (PLAIN). Use it over TLS only.
    ///
    /// There is no other user to act for (ruby-kafka's `sasl_plain_authzid`), as with Kafka's own clients and librdkafka:
    /// Kafka's brokers take none but the user itself.
    #[doc(alias = "sasl_plain_authzid")]
    #[doc(alias = "sasl_plain_username")]
    #[doc(alias = "sasl_plain_password")]
    #[must_use]
    pub fn plain(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::by(Mechanism::Plain { user: user.into(), password: Secret::from(password.into()) })
    }

    /// User and password, of which the broker never sees the password (SCRAM-SHA-256).
    ///
    /// The user's name must be ASCII: brokers can store others, and never let them in. Nothing is normalized, as in
    /// Kafka itself (no SASLprep).
    #[doc(alias = "sasl_scram_username")]
    #[doc(alias = "sasl_scram_password")]
    #[doc(alias = "sasl_scram_mechanism")]
    #[must_use]
    pub fn scram_sha_256(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::scram(ScramHash::Sha256, user.into(), password.into())
    }

    /// As [`scram_sha_256`](Self::scram_sha_256), with SCRAM-SHA-512.
    #[must_use]
    pub fn scram_sha_512(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self::scram(ScramHash::Sha512, user.into(), password.into())
    }

    /// A token that a provider gives, once for each login or until it is near its end (OAUTHBEARER).
    ///
    /// The provider is called on a thread of its own, `ottla-token`, one call at a time. It may block; a connection
    /// waits for it up to `connect_timeout`. If it fails or panics, the login fails, and is tried again after a pause.
    #[doc(alias = "sasl_oauth_token_provider")]
    #[must_use]
    pub fn oauthbearer(provider: impl TokenProvider + 'static) -> Self {
        Self::by(Mechanism::OauthBearer(Provider(Arc::new(provider))))
    }

    /// User and password of a login by SCRAM are the id and the HMAC of a delegation token (KIP-48).
    #[must_use]
    pub fn delegation_token(mut self) -> Self {
        self.is_token = true;
        self
    }

    /// Takes the nonces of SCRAM from elsewhere, for ottla's own tests. No promises.
    #[cfg(feature = "_internal")]
    #[doc(hidden)]
    #[must_use]
    pub fn nonces(mut self, next: impl Fn() -> [u8; NONCE_BYTES] + Send + Sync + 'static) -> Self {
        self.nonces = Nonces(Some(Arc::new(next)));
        self
    }

    fn scram(hash: ScramHash, user: String, password: String) -> Self {
        Self::by(Mechanism::Scram { hash, user, password: Secret::from(password) })
    }

    fn by(mechanism: Mechanism) -> Self {
        Self { mechanism, is_token: false, nonces: Nonces(None) }
    }

    /// The mechanism's name in Kafka.
    pub(crate) fn name(&self) -> &'static str {
        match &self.mechanism {
            Mechanism::Plain { .. } => "PLAIN",
            Mechanism::Scram { hash: ScramHash::Sha256, .. } => "SCRAM-SHA-256",
            Mechanism::Scram { hash: ScramHash::Sha512, .. } => "SCRAM-SHA-512",
            Mechanism::OauthBearer(_) => "OAUTHBEARER",
        }
    }

    /// What gives the tokens, if they are what it logs in with.
    pub(crate) fn provider(&self) -> Option<&Arc<dyn TokenProvider>> {
        match &self.mechanism {
            Mechanism::OauthBearer(Provider(provider)) => Some(provider),
            _ => None,
        }
    }

    /// Adds the faults of the login to `problems`.
    pub(crate) fn check(&self, problems: &mut Vec<ConfigProblem>) {
        let is_scram = matches!(self.mechanism, Mechanism::Scram { .. });
        if self.is_token && !is_scram {
            let text = format!("sasl: {} takes no delegation token: use SCRAM for it", self.name());
            problems.push(ConfigProblem::new(&["sasl"], text));
        }
        let (Mechanism::Plain { user, password } | Mechanism::Scram { user, password, .. }) = &self.mechanism else {
            return;
        };
        let fault = if user.is_empty() || password.bytes().is_empty() {
            Some("needs a user and a password, one of them is empty: give both")
        } else if user.contains('\0') || password.bytes().contains(&0) {
            Some("cannot carry a zero byte in the user or the password: choose others")
        } else if is_scram && !user.is_ascii() {
            Some("lets in no user whose name is not ASCII, although brokers can store one: choose another name")
        } else {
            None
        };
        problems.extend(fault.map(|fault| ConfigProblem::new(&["sasl"], format!("sasl: {} {fault}", self.name()))));
    }
}

/// Gives the tokens of OAUTHBEARER logins. A closure is one.
///
/// ```
/// use std::time::Duration;
///
/// use ottla::{Client, Sasl, Token};
///
/// # fn ask_the_identity_provider() -> Result<String, std::io::Error> { Ok("token".into()) }
/// let sasl = Sasl::oauthbearer(|| {
///     let token = ask_the_identity_provider()?;
///     Ok(Token::new(token).with_lifetime(Duration::from_secs(3600)))
/// });
/// # let _ = sasl;
/// ```
pub trait TokenProvider: Send + Sync {
    /// A token for a login that follows at once. May block.
    ///
    /// # Errors
    /// Whatever keeps it from giving one. The text goes into the error of the connection, as that of a panic does, so it
    /// must hold no secret.
    fn token(&self) -> Result<Token, Box<dyn Error + Send + Sync>>;
}

impl<F: Fn() -> Result<Token, Box<dyn Error + Send + Sync>> + Send + Sync> TokenProvider for F {
    fn token(&self) -> Result<Token, Box<dyn Error + Send + Sync>> {
        self()
    }
}

/// A token for OAUTHBEARER, from a [`TokenProvider`].
#[derive(Clone, Debug)]
pub struct Token {
    pub(crate) value: Secret,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) extensions: Vec<(String, Secret)>,
}

impl Token {
    /// A token that is asked for anew with each login.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: Secret::from(value.into()), lifetime: None, extensions: Vec::new() }
    }

    /// Is good for so long from now on: for the first four fifths of it no other token is asked for.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Sends a name and a value with the token (KIP-342). The name has letters only, and is not `auth`.
    #[must_use]
    pub fn with_extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), Secret::from(value.into())));
        self
    }
}

/// What gives tokens; it does not show itself.
#[derive(Clone)]
pub struct Provider(pub Arc<dyn TokenProvider>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a provider")
    }
}

/// Random bytes of a nonce.
pub const NONCE_BYTES: usize = 24;

/// Where the nonces of SCRAM come from: the system, unless something stands in for it.
#[derive(Clone)]
pub struct Nonces(Option<Arc<dyn Fn() -> [u8; NONCE_BYTES] + Send + Sync>>);

impl Nonces {
    /// The next one; `None` if the system has no random numbers.
    pub fn next(&self) -> Option<[u8; NONCE_BYTES]> {
        match &self.0 {
            Some(next) => Some(next()),
            None => {
                let mut nonce = [0; NONCE_BYTES];
                getrandom::fill(&mut nonce).ok().map(|()| nonce)
            }
        }
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a stand-in" } else { "the system" })
    }
}

/// Bytes that nobody may see. They are wiped when they are dropped.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Parts, one behind the other.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        // With room for all of it: a buffer that grows leaves its bytes behind.
        let mut all = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| all.extend_from_slice(part));
        Self(Zeroizing::new(all))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(sasl: &Sasl) -> Vec<String> {
        let mut problems = Vec::new();
        sasl.check(&mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_can_never_log_in_is_refused_early() {
        let empty = "needs a user and a password, one of them is empty: give both";
        let zero = "cannot carry a zero byte in the user or the password: choose others";
        let foreign = "lets in no user whose name is not ASCII, although brokers can store one: choose another name";
        for (sasl, fault) in [
            (Sasl::plain("", "b"), format!("sasl: PLAIN {empty}")),
            (Sasl::plain("a", ""), format!("sasl: PLAIN {empty}")),
            (Sasl::plain("a", "b\0c"), format!("sasl: PLAIN {zero}")),
            (Sasl::scram_sha_256("a\0", "b"), format!("sasl: SCRAM-SHA-256 {zero}")),
            (Sasl::scram_sha_256("bücher", "b"), format!("sasl: SCRAM-SHA-256 {foreign}")),
            (
                Sasl::plain("a", "b").delegation_token(),
                "sasl: PLAIN takes no delegation token: use SCRAM for it".to_owned(),
            ),
            (Sasl::scram_sha_512("", "b"), format!("sasl: SCRAM-SHA-512 {empty}")),
        ] {
            assert_eq!(faults(&sasl), [fault]);
        }
        for good in [
            Sasl::plain("bücher", "ö"),
            Sasl::scram_sha_256("a,b=c", "ö"),
            Sasl::scram_sha_512("a", "b").delegation_token(),
            Sasl::oauthbearer(|| Ok(Token::new(""))),
        ] {
            assert_eq!(faults(&good), [""; 0]);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let token = Token::new("geheim").with_extension("name", "geheim").with_lifetime(Duration::from_secs(1));
        let shown = format!(
            "{:?} {:?} {:?} {token:?}",
            Sasl::plain("user", "geheim"),
            Sasl::scram_sha_512("user", "geheim").delegation_token(),
            Sasl::oauthbearer(|| Ok(Token::new("geheim")))
        );
        assert!(!shown.contains("geheim") && shown.contains("[hidden]"), "{shown}");
    }

    #[test]
    fn nonces_differ() {
        let sasl = Sasl::plain("a", "b");
        assert_ne!(sasl.nonces.next().unwrap(), sasl.nonces.next().unwrap());
    }
}

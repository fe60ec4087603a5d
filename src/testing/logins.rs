//! Who may log in to a cluster, as a test says it: users with their secrets, and how long a login is good.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::scram::{Credential, Hash};

/// Who may log in to a [`Cluster`](super::Cluster), and how (SASL). A mechanism is on if there is a user for it.
///
/// ```
/// use ottla::testing::{Cluster, Logins};
///
/// # fn main() -> std::io::Result<()> {
/// let logins = Logins::new().scram_sha_512("billing", "a secret");
/// let cluster = Cluster::builder().topic("orders", 3).sasl(logins).start()?;
/// # drop(cluster);
/// # Ok(())
/// # }
/// ```
///
/// The cluster answers as Kafka does, with its texts: one ApiVersions before a login and nothing else, the login's
/// requests in their order, and no answer at all once a session is over.
#[derive(Clone, Default)]
#[must_use = "a cluster needs it to know its users"]
pub struct Logins {
    plain: BTreeMap<String, String>,
    scram: BTreeMap<(Hash, String), Credential>,
    tokens: BTreeSet<String>,
    check: Option<Check>,
    lifetime: Duration,
}

/// Says if a token is good.
type Check = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl Logins {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// This user, by PLAIN.
    pub fn plain(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.plain.insert(user.into(), password.into());
        self
    }

    /// This user, by SCRAM-SHA-256.
    pub fn scram_sha_256(self, user: impl Into<String>, password: impl AsRef<str>) -> Self {
        self.scram(Hash::Sha256, user.into(), password.as_ref(), 4096)
    }

    /// This user, by SCRAM-SHA-512.
    pub fn scram_sha_512(self, user: impl Into<String>, password: impl AsRef<str>) -> Self {
        self.scram(Hash::Sha512, user.into(), password.as_ref(), 4096)
    }

    /// This user, by SCRAM-SHA-512 with so many iterations, of which Kafka itself has 4,096 to 16,384.
    pub fn scram_sha_512_with(self, user: impl Into<String>, password: impl AsRef<str>, iterations: u32) -> Self {
        self.scram(Hash::Sha512, user.into(), password.as_ref(), iterations)
    }

    /// The owner of this delegation token, by either SCRAM.
    pub fn delegation_token(mut self, id: impl Into<String>, hmac: impl AsRef<str>) -> Self {
        let id = id.into();
        self.tokens.insert(id.clone());
        self.scram(Hash::Sha256, id.clone(), hmac.as_ref(), 4096).scram(Hash::Sha512, id, hmac.as_ref(), 4096)
    }

    /// Whoever has a token of which this says that it is good, by OAUTHBEARER.
    pub fn oauthbearer(mut self, is_good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(is_good));
        self
    }

    /// A login is good for this long, then another one is due (`connections.max.reauth.ms`). Default: for ever.
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    fn scram(mut self, hash: Hash, user: String, password: &str, iterations: u32) -> Self {
        let credential = Credential::new(hash, &user, password, iterations);
        self.scram.insert((hash, user), credential);
        self
    }

    /// The names of the mechanisms that are on.
    pub(super) fn mechanisms(&self) -> Vec<&'static str> {
        let scram = |hash| self.scram.keys().any(|(other, _)| *other == hash).then_some(hash.name());
        let plain = (!self.plain.is_empty()).then_some("PLAIN");
        let oauthbearer = self.check.is_some().then_some("OAUTHBEARER");
        [scram(Hash::Sha512), oauthbearer, plain, scram(Hash::Sha256)].into_iter().flatten().collect()
    }

    pub(super) fn is_user(&self, user: &str, password: &str) -> bool {
        self.plain.get(user).is_some_and(|theirs| theirs == password)
    }

    pub(super) fn credential(&self, hash: Hash, user: &str, is_token: bool) -> Option<&Credential> {
        let credential = self.scram.get(&(hash, user.to_owned()))?;
        (self.tokens.contains(user) == is_token).then_some(credential)
    }

    pub(super) fn is_token(&self, token: &str) -> bool {
        self.check.as_ref().is_some_and(|is_good| is_good(token))
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins")
            .field("mechanisms", &self.mechanisms())
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

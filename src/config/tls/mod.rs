//! The options of encrypted connections: [`Tls`]. Plain data; `build` checks them and makes what connections use.

mod build;
mod pem;
#[cfg(all(test, feature = "_tls", not(shuttle)))]
mod tests;
mod verifier;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::verifier::{SelfSigned, ShortKey};
use super::Encryption;

/// Encrypted connections (TLS 1.2 and 1.3), for [`ClientBuilder::tls`](crate::ClientBuilder::tls).
///
/// The broker's certificate and host name are always verified, unless told otherwise: against the certificates that are
/// given here, or else those of the system. A client certificate is sent if one is given. The names are ruby-kafka's.
///
/// ```
/// use ottla::{Client, Tls};
///
/// # fn main() -> Result<(), ottla::ConfigError> {
/// // The certificates that the system trusts.
/// # if false {
/// let client = Client::builder(["ssl://kafka-1:9093"]).tls(Tls::new()).build()?;
/// # }
/// // Those of a company's own CA.
/// let error = Client::builder(["ssl://kafka-1:9093"])
///     .tls(Tls::new().ssl_ca_cert_file_path("no/such/ca.pem"))
///     .build()
///     .expect_err("there is no such file");
/// assert_eq!(error.problems()[0].options(), ["ssl_ca_cert_file_path"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "options do nothing until they are given to `ClientBuilder::tls`"]
pub struct Tls {
    given: Option<Encryption>,
    roots: Vec<Source>,
    system_roots: Option<bool>,
    /// A text that may have the key, too.
    client_cert: Option<Secret>,
    client_chain: Vec<u8>,
    client_key: Option<Secret>,
    key_password: Option<Secret>,
    ignores_names: bool,
    accepts_all: bool,
    groups: Option<Vec<KeyExchangeGroup>>,
}

/// The origin of trusted certificates.
#[derive(Clone, Debug)]
enum Source {
    Pem(Vec<u8>),
    File(PathBuf),
}

/// Bytes that are never shown, and are wiped when they are no longer needed.
#[derive(Clone)]
struct Secret(Zeroizing<Vec<u8>>);

/// A way to agree on keys, for [`Tls::key_exchange_groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyExchangeGroup {
    /// X25519 with ML-KEM-768, which also a quantum computer cannot break. Its first message is more than 1 KiB long.
    X25519MlKem768,
    /// X25519.
    X25519,
    /// The NIST curve P-256.
    P256,
    /// The NIST curve P-384.
    P384,
}

impl Tls {
    /// The defaults: the system's trusted certificates, and no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these certificates, as PEM, one or several in a text. May be called several times; with it the system's
    /// are not trusted, unless [`ssl_ca_certs_from_system`](Self::ssl_ca_certs_from_system) says so.
    #[doc(alias = "ssl.ca.pem")]
    #[doc(alias = "ssl.truststore.certificates")]
    pub fn ssl_ca_cert(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots.push(Source::Pem(pem.as_ref().to_vec()));
        self
    }

    /// The same from a file, which is read once, by [`ClientBuilder::build`](crate::ClientBuilder::build).
    #[doc(alias = "ssl.ca.location")]
    #[doc(alias = "ssl.truststore.location")]
    pub fn ssl_ca_cert_file_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(Source::File(path.into()));
        self
    }

    /// Trusts the system's certificates (`true`), or not. Default: `true` if no others are given.
    ///
    /// They are read once, by [`ClientBuilder::build`](crate::ClientBuilder::build), which takes some milliseconds.
    pub fn ssl_ca_certs_from_system(mut self, trust: bool) -> Self {
        self.system_roots = Some(trust);
        self
    }

    /// Sends this certificate to brokers that ask for one: PEM, perhaps with those between it and its CA behind it.
    /// Needs [`ssl_client_cert_key`](Self::ssl_client_cert_key).
    #[doc(alias = "ssl.certificate.pem")]
    #[doc(alias = "ssl.keystore.certificate.chain")]
    pub fn ssl_client_cert(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.client_cert = Some(Secret::new(pem.as_ref()));
        self
    }

    /// The private key of the client certificate: PEM of PKCS#8, PKCS#1 or SEC 1.
    ///
    /// It is not part of any debug output, and is wiped when the options are dropped.
    #[doc(alias = "ssl.key.pem")]
    #[doc(alias = "ssl.keystore.key")]
    pub fn ssl_client_cert_key(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.client_key = Some(Secret::new(pem.as_ref()));
        self
    }

    /// The password of the private key, if it is encrypted: PKCS#8, with ottla's feature `tls-encrypted-keys`.
    #[doc(alias = "ssl.key.password")]
    pub fn ssl_client_cert_key_password(mut self, password: impl AsRef<[u8]>) -> Self {
        self.key_password = Some(Secret::new(password.as_ref()));
        self
    }

    /// Certificates between the client's and its CA, as PEM, in this order; they are sent behind the client's.
    pub fn ssl_client_cert_chain(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.client_chain = pem.as_ref().to_vec();
        self
    }

    /// Checks that the broker's certificate is for the host that was connected to. Default: `true`.
    ///
    /// With `false` whoever has any certificate of a trusted CA can pass for the broker; the log warns of it.
    #[doc(alias = "ssl.endpoint.identification.algorithm")]
    pub fn ssl_verify_hostname(mut self, verify: bool) -> Self {
        self.ignores_names = !verify;
        self
    }

    /// Takes any certificate of a broker. Whoever is on the way can then read and change everything; the log warns of
    /// it. For tests only.
    #[doc(alias = "enable.ssl.certificate.verification")]
    pub fn dangerous_accept_any_certificate(mut self) -> Self {
        self.accepts_all = true;
        self
    }

    /// Agrees on keys in these ways only, the preferred one first. Default: all that the provider has.
    ///
    /// Some devices on the way do not pass a first message as large as that of
    /// [`X25519MlKem768`](KeyExchangeGroup::X25519MlKem768), so that the handshake ends with `connect_timeout`: leave it
    /// out then.
    pub fn key_exchange_groups(mut self, groups: impl IntoIterator<Item = KeyExchangeGroup>) -> Self {
        self.groups = Some(groups.into_iter().collect());
        self
    }

    /// Uses a configuration of rustls 0.23 as it is; no other option may be set then.
    pub fn from_rustls_0_23(config: Arc<rustls::ClientConfig>) -> Self {
        Self { given: Some(config), ..Self::default() }
    }
}

impl Secret {
    fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("from_rustls_0_23", &self.given.is_some())
            .field("own_roots", &self.roots.len())
            .field("ssl_ca_certs_from_system", &self.system_roots)
            .field("ssl_client_cert", &self.client_cert.is_some())
            .field("ssl_client_cert_key", &self.client_key)
            .field("ssl_verify_hostname", &!self.ignores_names)
            .field("dangerous_accept_any_certificate", &self.accepts_all)
            .field("key_exchange_groups", &self.groups)
            .finish_non_exhaustive()
    }
}

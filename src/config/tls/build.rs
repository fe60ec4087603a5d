//! Checks the options of TLS, and makes of them what connections use. Reads files and the system's certificates, once
//! for a client; finds every fault, so that a user repairs all of them at once.

use std::fs;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, NamedGroup, RootCertStore};

use super::verifier::{Strictness, Verifier};
use super::{KeyExchangeGroup, Source, Tls, pem};
use crate::config::Encryption;
use crate::crypto;
use crate::error::ConfigProblem;

type Identity = (Vec<CertificateDer<'static>>, pem::Key);

impl Tls {
    /// What connections use; `None`, with the faults of these options in `problems`, if there are any.
    pub(crate) fn encryption(&self, problems: &mut Vec<ConfigProblem>) -> Option<Encryption> {
        let before = problems.len();
        if let Some(given) = &self.given {
            if !self.is_only_given() {
                let text = "from_rustls_0_23 takes a whole configuration: set no other option of TLS, or leave it out";
                problems.push(ConfigProblem::new(&["from_rustls_0_23"], text));
            }
            return (problems.len() == before).then(|| Arc::clone(given));
        }
        let provider = self.provider(problems);
        let roots = self.roots(problems);
        let identity = self.identity(problems);
        if problems.len() > before {
            return None;
        }
        let made = client_config(provider?, roots, self.strictness(), identity);
        match made {
            Ok(config) => {
                self.warn();
                Some(Arc::new(config))
            }
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    fn is_only_given(&self) -> bool {
        self.roots.is_empty()
            && self.system_roots.is_none()
            && self.client_cert.is_none()
            && self.client_chain.is_empty()
            && self.client_key.is_none()
            && self.key_password.is_none()
            && !self.ignores_names
            && !self.accepts_all
            && self.groups.is_none()
    }

    fn strictness(&self) -> Strictness {
        if self.accepts_all {
            Strictness::Nothing
        } else if self.ignores_names {
            Strictness::WithoutName
        } else {
            Strictness::All
        }
    }

    fn warn(&self) {
        match self.strictness() {
            Strictness::All => {}
            Strictness::WithoutName => log::warn!(
                "ssl_verify_hostname is off: whoever has a certificate of a trusted CA can pass for a broker"
            ),
            Strictness::Nothing => log::warn!(
                "dangerous_accept_any_certificate is on: whoever is on the way can read and change everything"
            ),
        }
    }

    fn provider(&self, problems: &mut Vec<ConfigProblem>) -> Option<CryptoProvider> {
        let Ok(mut provider) = crypto::provider() else {
            let text = "tls needs a processor with AES and its vector instructions, which this one lacks: build ottla \
                        with its feature tls-ring or tls-aws-lc-rs";
            problems.push(ConfigProblem::new(&["tls"], text));
            return None;
        };
        if let Some(groups) = &self.groups {
            let option = &["key_exchange_groups"];
            if groups.is_empty() {
                let text = "key_exchange_groups is empty: name at least one, or leave it out";
                problems.push(ConfigProblem::new(option, text));
            }
            let known = std::mem::take(&mut provider.kx_groups);
            for group in groups {
                match known.iter().find(|known| known.name() == group.named()) {
                    Some(known) => provider.kx_groups.push(*known),
                    None => problems.push(ConfigProblem::new(
                        option,
                        format!("key_exchange_groups has {group:?}, which this build's provider lacks: leave it out"),
                    )),
                }
            }
        }
        Some(provider)
    }

    fn roots(&self, problems: &mut Vec<ConfigProblem>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for source in &self.roots {
            let (option, what, pem) = match source {
                Source::Pem(pem) => ("ssl_ca_cert", "ssl_ca_cert".to_owned(), Ok(pem.clone())),
                Source::File(path) => {
                    let what = format!("ssl_ca_cert_file_path {path:?}");
                    ("ssl_ca_cert_file_path", what, fs::read(path))
                }
            };
            let added = pem
                .map_err(|error| format!("cannot be read ({error}): check the path and its permissions"))
                .and_then(|pem| pem::certificates(&pem).map_err(str::to_owned))
                .and_then(|certificates| {
                    certificates.into_iter().try_for_each(|certificate| roots.add(certificate)).map_err(|error| {
                        format!("has a certificate that cannot be a root ({error}): give the CA's certificate")
                    })
                });
            if let Err(why) = added {
                problems.push(ConfigProblem::new(&[option], format!("{what} {why}")));
            }
        }
        if self.accepts_all {
            return roots;
        }
        if self.system_roots.unwrap_or(self.roots.is_empty()) {
            add_system_roots(&mut roots, problems);
        } else if self.roots.is_empty() {
            let text = "ssl_ca_certs_from_system is false, and nothing else is trusted: give ssl_ca_cert or \
                        ssl_ca_cert_file_path";
            problems.push(ConfigProblem::new(&["ssl_ca_certs_from_system"], text));
        }
        roots
    }

    fn identity(&self, problems: &mut Vec<ConfigProblem>) -> Option<Identity> {
        let mut missing = |has: &'static str, needs: &'static str| {
            problems.push(ConfigProblem::new(&[has, needs], format!("{has} needs {needs}: give both, or neither")));
        };
        let (certificate, key) = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                missing("ssl_client_cert", "ssl_client_cert_key");
                return None;
            }
            (None, key) => {
                if key.is_some() {
                    missing("ssl_client_cert_key", "ssl_client_cert");
                } else if self.key_password.is_some() {
                    missing("ssl_client_cert_key_password", "ssl_client_cert_key");
                }
                if !self.client_chain.is_empty() {
                    missing("ssl_client_cert_chain", "ssl_client_cert");
                }
                return None;
            }
        };
        let mut read = |option: &'static str, pem: &[u8]| {
            pem::certificates(pem)
                .map_err(|why| problems.push(ConfigProblem::new(&[option], format!("{option} {why}"))))
                .unwrap_or_default()
        };
        let mut certificates = read("ssl_client_cert", &certificate.0);
        if !self.client_chain.is_empty() {
            certificates.extend(read("ssl_client_cert_chain", &self.client_chain));
        }
        let password = self.key_password.as_ref().map(|password| &**password.0);
        match pem::private_key(&key.0, password) {
            Ok(key) => Some((certificates, key)),
            Err(why) => {
                problems.push(ConfigProblem::new(&["ssl_client_cert_key"], format!("ssl_client_cert_key {why}")));
                None
            }
        }
    }
}

impl KeyExchangeGroup {
    fn named(self) -> NamedGroup {
        match self {
            Self::X25519MlKem768 => NamedGroup::X25519MLKEM768,
            Self::X25519 => NamedGroup::X25519,
            Self::P256 => NamedGroup::secp256r1,
            Self::P384 => NamedGroup::secp384r1,
        }
    }
}

/// The system's certificates that can be used; some systems have others, too.
fn add_system_roots(roots: &mut RootCertStore, problems: &mut Vec<ConfigProblem>) {
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    let first = found.errors.first();
    if added == 0 {
        let why = first.map_or_else(|| "none is there".to_owned(), ToString::to_string);
        problems.push(ConfigProblem::new(
            &["ssl_ca_certs_from_system"],
            format!(
                "ssl_ca_certs_from_system finds no certificate ({why}): install the system's (ca-certificates), or \
                 give ssl_ca_cert_file_path"
            ),
        ));
    } else if let Some(error) = first {
        log::warn!("some of the system's certificates cannot be read: {error}");
    }
    log::debug!("{added} of the system's certificates are trusted, {ignored} cannot be used");
}

fn client_config(
    provider: CryptoProvider,
    roots: RootCertStore,
    strictness: Strictness,
    identity: Option<Identity>,
) -> Result<ClientConfig, ConfigProblem> {
    let failed = |what: &'static str, error: &dyn std::fmt::Display| {
        ConfigProblem::new(&["tls"], format!("tls cannot be set up ({what}: {error}): report it"))
    };
    let provider = Arc::new(provider);
    let inner = match (strictness, roots.is_empty()) {
        // Its verifier wants a root, whether or not it is asked for one.
        (Strictness::Nothing, true) => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(no_root()), Arc::clone(&provider))
        }
        _ => WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)),
    };
    let inner = inner.build().map_err(|error| failed("verifier", &error))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("versions", &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { inner, strictness }));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => builder.with_client_auth_cert(certificates, key.clone_key()).map_err(|error| {
            ConfigProblem::new(
                &["ssl_client_cert", "ssl_client_cert_key"],
                format!(
                    "ssl_client_cert and ssl_client_cert_key do not work together ({error}): give the key of this \
                     certificate, of RSA, P-256, P-384 or Ed25519"
                ),
            )
        })?,
    };
    // Each of a broker's network threads has tickets of its own, so that one is almost never taken.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A root that signs nothing.
fn no_root() -> RootCertStore {
    let name = rustls::pki_types::Der::from_slice(&[]);
    let nobody =
        rustls::pki_types::TrustAnchor { subject: name.clone(), subject_public_key_info: name, name_constraints: None };
    RootCertStore { roots: vec![nobody] }
}

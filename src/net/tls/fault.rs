//! What an error of rustls means for a user. Pure.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible};

use crate::config::tls::{SelfSigned, ShortKey};
use crate::error::{ConnectionErrorKind, Speaks, TlsAlert, TlsFault};

/// The kind of an error, of a peer whose first bytes were these.
pub(super) fn kind(error: &Error, first: &[u8], in_handshake: bool, has_answered: bool) -> ConnectionErrorKind {
    match error {
        Error::AlertReceived(alert) if !has_answered => ConnectionErrorKind::TlsRefused { alert: alert_of(*alert) },
        Error::AlertReceived(alert) => broken(&format!("the broker ended TLS with the alert {}", alert_of(*alert))),
        _ if !in_handshake => broken(&format!("TLS: {error}")),
        Error::InvalidMessage(why) => match first {
            b"HTTP" => ConnectionErrorKind::NotKafka(Speaks::Http),
            b"SSH-" => ConnectionErrorKind::NotKafka(Speaks::Ssh),
            _ => ConnectionErrorKind::Tls(invalid(why, first, error)),
        },
        Error::InvalidCertificate(why) => ConnectionErrorKind::Tls(certificate(why)),
        Error::PeerIncompatible(why) => ConnectionErrorKind::Tls(match why {
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => TlsFault::Version,
            _ => TlsFault::NothingInCommon,
        }),
        _ => ConnectionErrorKind::Tls(TlsFault::Protocol(error.to_string().into())),
    }
}

fn broken(why: &str) -> ConnectionErrorKind {
    ConnectionErrorKind::Io(Arc::new(io::Error::other(why)))
}

fn alert_of(alert: AlertDescription) -> TlsAlert {
    TlsAlert::new(alert.into())
}

/// The records of TLS are alerts, handshakes, and so on, from 20 to 23.
fn invalid(why: &InvalidMessage, first: &[u8], error: &Error) -> TlsFault {
    match (why, first) {
        (_, [kind, 3, ..]) if (20..=23).contains(kind) => TlsFault::Protocol(error.to_string().into()),
        _ => TlsFault::NotTls,
    }
}

fn certificate(why: &CertificateError) -> TlsFault {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotValidYet,
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::BadSignature => TlsFault::BadSignature,
        CertificateError::NotValidForName => TlsFault::NoName,
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => TlsFault::NoName,
        CertificateError::NotValidForNameContext { presented, .. } => {
            TlsFault::WrongName { presented: names(presented).into() }
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => TlsFault::NotForServers,
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => TlsFault::SignatureAlgorithm,
        CertificateError::Other(OtherError(cause)) if cause.is::<SelfSigned>() => TlsFault::SelfSigned,
        CertificateError::Other(OtherError(cause)) if cause.is::<ShortKey>() => TlsFault::ShortKey,
        CertificateError::Other(OtherError(cause)) => match cause.downcast_ref() {
            Some(webpki::Error::UnsupportedCertVersion) => TlsFault::X509V1,
            Some(webpki::Error::CaUsedAsEndEntity) => TlsFault::CaUsedAsEndEntity,
            _ => TlsFault::Certificate(cause.to_string().into()),
        },
        other => TlsFault::Certificate(other.to_string().into()),
    }
}

/// The first names of a certificate: it may have hundreds, and was made by who knows whom.
fn names(presented: &[String]) -> String {
    let mut names: Vec<String> = presented.iter().take(MOST_NAMES).map(|name| plain(name)).collect();
    if presented.len() > MOST_NAMES {
        names.push("...".to_owned());
    }
    names.join(", ")
}

/// `DnsName("a.test")` is how rustls tells of a name.
fn plain(presented: &str) -> String {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(presented);
    inner.trim_matches('"').chars().take(MOST_CHARS).flat_map(char::escape_debug).collect()
}

const MOST_NAMES: usize = 5;

const MOST_CHARS: usize = 100;

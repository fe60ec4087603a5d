//! The failures of TLS: what is wrong with a broker's certificate or with the handshake, and the alert by which a broker
//! refuses. Plain data; `net` makes them.

use std::fmt;
use std::sync::Arc;

use super::OneLine;

/// The reason why no encrypted connection came about: this side refused, or the handshake did not end.
///
/// A refusal by the broker is [`TlsRefused`](super::ConnectionErrorKind::TlsRefused).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// What answers there does not speak TLS.
    NotTls,
    /// The connection ended after the first message of the handshake, without a byte in return.
    ClosedAtOnce,
    /// The connection ended in the middle of the handshake, without an alert.
    ClosedInHandshake,
    /// The broker and ottla have no version of TLS in common.
    Version,
    /// The broker and ottla have no cipher suite, key-exchange group or signature algorithm in common.
    NothingInCommon,
    /// No certificate can have this host name.
    HostName,
    /// No trusted root certificate leads to the broker's certificate.
    UnknownIssuer,
    /// The broker's certificate is signed by itself, and is not trusted.
    SelfSigned,
    /// The broker's certificate, or one between it and the root, is no longer valid.
    Expired,
    /// The broker's certificate, or one between it and the root, is not valid yet.
    NotValidYet,
    /// The broker's certificate is for other names.
    WrongName {
        /// The names that it is for, as one line.
        presented: Arc<str>,
    },
    /// The broker's certificate is for no name at all: it has no subjectAltName.
    NoName,
    /// The broker's certificate is a CA's.
    CaUsedAsEndEntity,
    /// The broker's certificate is of the first version of X.509.
    X509V1,
    /// The broker's certificate does not allow its use by a server.
    NotForServers,
    /// The signature in the broker's certificate is wrong, or the key of its CA is too short.
    BadSignature,
    /// The RSA key of the broker's certificate has fewer than 2048 bits.
    ShortKey,
    /// The broker's certificate is signed with an algorithm that is not accepted, such as SHA-1.
    SignatureAlgorithm,
    /// The broker's certificate is unacceptable for another reason.
    Certificate(Arc<str>),
    /// The broker broke the rules of TLS.
    Protocol(Arc<str>),
}

/// The alert by which a broker ended TLS (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TlsAlert(u8);

impl TlsAlert {
    /// The alert with this number.
    #[must_use]
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Its name in the specification, such as `bad_certificate`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            _ => "an unknown alert",
        }
    }

    /// The cure, in words.
    pub(super) fn advice(self) -> &'static str {
        match self.0 {
            42..=46 | 48 | 49 | 51 | 116 => {
                "it wants a client certificate that it trusts: check ssl_client_cert, its key and chain, and the \
                 broker's ssl.client.auth and truststore"
            }
            70 => "it takes no TLS 1.2 or 1.3: check its ssl.enabled.protocols",
            40 | 71 => {
                "there is no cipher suite, group or signature algorithm in common: check its ssl.cipher.suites and the \
                 kind of its key; RSA, P-256 and P-384 work"
            }
            112 => "it does not know the host name: use a name that it has a certificate for",
            _ => "read the broker's log",
        }
    }
}

impl fmt::Display for TlsAlert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "what answers there does not speak TLS; check that the port is a TLS listener",
            Self::ClosedAtOnce => {
                "the connection was closed before a word of TLS came back; check that the port is a TLS listener and \
                 not a plaintext one"
            }
            Self::ClosedInHandshake => {
                "the connection was closed in the TLS handshake, without an alert; often the broker's key is of a kind \
                 that is not in common (P-521, RSASSA-PSS): use RSA, P-256 or P-384, and read the broker's log"
            }
            Self::Version => "the broker speaks no TLS 1.2 or 1.3; check its ssl.enabled.protocols",
            Self::NothingInCommon => {
                "no TLS cipher suite, group or signature algorithm is in common; check the broker's ssl.cipher.suites \
                 and key_exchange_groups"
            }
            Self::HostName => {
                "no certificate can have this host name; use a DNS name of ASCII letters, or an IP address"
            }
            Self::UnknownIssuer => {
                "the broker's certificate is not signed by a trusted CA; give its CA with ssl_ca_cert_file_path, and \
                 check that the broker sends the certificates between"
            }
            Self::SelfSigned => {
                "the broker's certificate is signed by itself and not trusted; give it with ssl_ca_cert_file_path, or \
                 have it signed by a CA"
            }
            Self::Expired => "the broker's certificate has expired; renew it, or check this machine's clock",
            Self::NotValidYet => "the broker's certificate is not valid yet; check this machine's clock and its dates",
            Self::WrongName { presented } => {
                return write!(
                    f,
                    "the broker's certificate is for other names ({}); use one of them as the address, or add this one \
                     to its subjectAltName",
                    OneLine(presented)
                );
            }
            Self::NoName => {
                "the broker's certificate is for no name, a common name does not count; make it with the address in \
                 subjectAltName"
            }
            Self::CaUsedAsEndEntity => {
                "the broker's certificate is a CA's, as one signed by itself with CA:TRUE; make one with CA:FALSE"
            }
            Self::X509V1 => {
                "the broker's certificate is of X.509 version 1; make it with an extension file (openssl x509 \
                 -extfile) that has a subjectAltName"
            }
            Self::NotForServers => {
                "the broker's certificate is not for servers; make it with the extended key usage serverAuth"
            }
            Self::BadSignature => {
                "the signature of the broker's certificate is wrong, or the RSA key of its CA is below 2048 bits; check \
                 the trusted CA"
            }
            Self::ShortKey => {
                "the RSA key of the broker's certificate is below 2048 bits; make it with a longer key"
            }
            Self::SignatureAlgorithm => {
                "the broker's certificate is signed with an algorithm that is not accepted, such as SHA-1; make it \
                 with SHA-256"
            }
            Self::Certificate(why) => {
                return write!(f, "the broker's certificate is not accepted ({}); make another", OneLine(why));
            }
            Self::Protocol(why) => {
                return write!(
                    f,
                    "the TLS handshake failed ({}); check what stands between here and the broker, or report it",
                    OneLine(why)
                );
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::ConnectionErrorKind;
    use super::super::tests::assert_text;
    use super::*;

    #[test]
    fn every_fault_says_what_is_wrong_and_what_to_do() {
        for (fault, text) in [
            (TlsFault::NotTls, "what answers there does not speak TLS; check that the port is a TLS listener"),
            (
                TlsFault::ClosedAtOnce,
                "the connection was closed before a word of TLS came back; check that the port is a TLS listener and \
                 not a plaintext one",
            ),
            (
                TlsFault::ClosedInHandshake,
                "the connection was closed in the TLS handshake, without an alert; often the broker's key is of a \
                 kind that is not in common (P-521, RSASSA-PSS): use RSA, P-256 or P-384, and read the broker's log",
            ),
            (TlsFault::Version, "the broker speaks no TLS 1.2 or 1.3; check its ssl.enabled.protocols"),
            (
                TlsFault::NothingInCommon,
                "no TLS cipher suite, group or signature algorithm is in common; check the broker's \
                 ssl.cipher.suites and key_exchange_groups",
            ),
            (
                TlsFault::HostName,
                "no certificate can have this host name; use a DNS name of ASCII letters, or an IP address",
            ),
            (
                TlsFault::UnknownIssuer,
                "the broker's certificate is not signed by a trusted CA; give its CA with ssl_ca_cert_file_path, and \
                 check that the broker sends the certificates between",
            ),
            (
                TlsFault::SelfSigned,
                "the broker's certificate is signed by itself and not trusted; give it with ssl_ca_cert_file_path, \
                 or have it signed by a CA",
            ),
            (TlsFault::Expired, "the broker's certificate has expired; renew it, or check this machine's clock"),
            (
                TlsFault::NotValidYet,
                "the broker's certificate is not valid yet; check this machine's clock and its dates",
            ),
            (
                TlsFault::WrongName { presented: "a.test,\nb.test".into() },
                "the broker's certificate is for other names (a.test, b.test); use one of them as the address, or \
                 add this one to its subjectAltName",
            ),
            (
                TlsFault::NoName,
                "the broker's certificate is for no name, a common name does not count; make it with the address in \
                 subjectAltName",
            ),
            (
                TlsFault::CaUsedAsEndEntity,
                "the broker's certificate is a CA's, as one signed by itself with CA:TRUE; make one with CA:FALSE",
            ),
            (
                TlsFault::X509V1,
                "the broker's certificate is of X.509 version 1; make it with an extension file (openssl x509 \
                 -extfile) that has a subjectAltName",
            ),
            (
                TlsFault::NotForServers,
                "the broker's certificate is not for servers; make it with the extended key usage serverAuth",
            ),
            (
                TlsFault::BadSignature,
                "the signature of the broker's certificate is wrong, or the RSA key of its CA is below 2048 bits; \
                 check the trusted CA",
            ),
            (
                TlsFault::ShortKey,
                "the RSA key of the broker's certificate is below 2048 bits; make it with a longer key",
            ),
            (
                TlsFault::SignatureAlgorithm,
                "the broker's certificate is signed with an algorithm that is not accepted, such as SHA-1; make it \
                 with SHA-256",
            ),
            (
                TlsFault::Certificate("bad\nencoding".into()),
                "the broker's certificate is not accepted (bad encoding); make another",
            ),
            (
                TlsFault::Protocol("odd".into()),
                "the TLS handshake failed (odd); check what stands between here and the broker, or report it",
            ),
        ] {
            assert_text(&fault, text);
            assert_text(ConnectionErrorKind::Tls(fault), text);
        }
    }

    #[test]
    fn a_refusal_has_the_alert_with_its_number_and_the_cure() {
        for (code, name, cure) in [
            (42, "bad_certificate", "ssl_client_cert"),
            (116, "certificate_required", "ssl_client_cert"),
            (48, "unknown_ca", "ssl_client_cert"),
            (40, "handshake_failure", "ssl.cipher.suites"),
            (70, "protocol_version", "ssl.enabled.protocols"),
            (80, "internal_error", "broker's log"),
            (255, "an unknown alert", "broker's log"),
        ] {
            let alert = TlsAlert::new(code);
            assert_eq!((alert.code(), alert.name()), (code, name));
            let text = ConnectionErrorKind::TlsRefused { alert }.to_string();
            let begin = format!("the broker refused TLS with the alert {name} ({code}); ");
            assert!(text.starts_with(&begin) && text.contains(cure), "{text}");
            super::super::tests::assert_reads_well(&text);
        }
    }
}

//! Verifies a broker's certificate as rustls does, and tells more: that a certificate is signed by itself, or has a key
//! that is too short; and, if the user wants it so, nothing about its name or nothing at all.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime, alg_id};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

/// The broker's certificate is signed by itself, and no root is it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfSigned;

/// The broker's certificate has an RSA key that is too short for any provider, to which each signature is a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortKey;

/// How much of a certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    All,
    WithoutName,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    pub(super) strictness: Strictness,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.strictness == Strictness::Nothing {
            return Ok(ServerCertVerified::assertion());
        }
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let why = match verified {
            Err(rustls::Error::InvalidCertificate(why)) => why,
            other => return other,
        };
        match why {
            // The name is looked at last, when all else is well.
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
                if self.strictness == Strictness::WithoutName =>
            {
                Ok(ServerCertVerified::assertion())
            }
            CertificateError::UnknownIssuer if is_self_signed(end_entity) => {
                Err(CertificateError::Other(OtherError(Arc::new(SelfSigned))).into())
            }
            why => Err(why.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss).map_err(|error| explained(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss).map_err(|error| explained(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// By its names alone: nothing depends on it but a text.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate).is_ok_and(|certificate| certificate.issuer() == certificate.subject())
}

/// The reason why a signature with the key of this certificate is refused.
fn explained(error: rustls::Error, certificate: &CertificateDer<'_>) -> rustls::Error {
    let is_bad = error == rustls::Error::InvalidCertificate(CertificateError::BadSignature);
    if is_bad && has_short_key(certificate) {
        return CertificateError::Other(OtherError(Arc::new(ShortKey))).into();
    }
    error
}

/// Nothing depends on it but a text.
fn has_short_key(certificate: &CertificateDer<'_>) -> bool {
    let certificate = webpki::EndEntityCert::try_from(certificate);
    let bits = certificate.ok().and_then(|it| rsa_bits(&it.subject_public_key_info()));
    bits.is_some_and(|bits| bits < LEAST_RSA_BITS)
}

/// The length of a public key of RSA (RFC 8017, appendix A.1.1, in RFC 5280, section 4.1); `None` for any other.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let (algorithm, rest) = value(0x30, value(0x30, key)?.0)?;
    let (numbers, _) = value(0x03, rest).filter(|_| algorithm == alg_id::RSA_ENCRYPTION.as_ref())?;
    let (modulus, _) = value(0x02, value(0x30, numbers.strip_prefix(&[0])?)?.0)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    Some((modulus.len() - first) * 8 - modulus[first].leading_zeros() as usize)
}

/// The value of DER at the beginning, with this tag, and what is behind it.
fn value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *der {
        [found, length @ ..=0x7f, ref rest @ ..] if found == tag => (usize::from(length), rest),
        [found, 0x81, length, ref rest @ ..] if found == tag => (usize::from(length), rest),
        [found, 0x82, high, low, ref rest @ ..] if found == tag => (usize::from(high) << 8 | usize::from(low), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// Of all providers.
const LEAST_RSA_BITS: usize = 2048;

impl fmt::Display for SelfSigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is signed by itself")
    }
}

impl Error for SelfSigned {}

impl fmt::Display for ShortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its RSA key is too short")
    }
}

impl Error for ShortKey {}

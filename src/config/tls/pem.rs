//! Reads certificates and private keys from PEM. An error says what is wrong with a text and never shows any of it.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
#[cfg(feature = "tls-encrypted-keys")]
use zeroize::Zeroizing;

/// All certificates of a text: at least one.
///
/// # Errors
/// What is wrong with it, and the cure.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|_| BROKEN)?;
    if all.is_empty() { Err(nothing(text, "has no certificate: give PEM with a BEGIN CERTIFICATE")) } else { Ok(all) }
}

/// The private key of a text: its first.
///
/// # Errors
/// What is wrong with it, and the cure.
pub(super) fn private_key(text: &[u8], password: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, &'static str> {
    if has(text, ENCRYPTED_BEGIN) {
        return encrypted_key(text, password);
    }
    if has(text, "Proc-Type: 4,ENCRYPTED") {
        return Err("is encrypted in the old form of OpenSSL: convert it with openssl pkcs8 -topk8");
    }
    if password.is_some() {
        return Err("is not encrypted: leave ssl_client_cert_key_password out");
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(text);
    match keys.next() {
        Some(Ok(key)) => Ok(key),
        Some(Err(_)) => Err(BROKEN),
        None => Err(nothing(text, "has no private key: give PEM with a BEGIN PRIVATE KEY")),
    }
}

#[cfg(not(feature = "tls-encrypted-keys"))]
fn encrypted_key(_: &[u8], _: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, &'static str> {
    Err("is encrypted: turn on ottla's feature tls-encrypted-keys, or decrypt it with openssl pkcs8")
}

#[cfg(feature = "tls-encrypted-keys")]
fn encrypted_key(text: &[u8], password: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, &'static str> {
    let Some(password) = password else {
        return Err("is encrypted: give ssl_client_cert_key_password");
    };
    // The reader knows no encrypted keys; what is between the lines is read under the name of a plain one.
    let text = std::str::from_utf8(text).map_err(|_| BROKEN)?;
    let text = Zeroizing::new(text.replace("ENCRYPTED PRIVATE KEY", "PRIVATE KEY"));
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| BROKEN)?;
    let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der.secret_der())
        .map_err(|_| "is encrypted in a way that is not known: use PBES2 with PBKDF2 or scrypt, and AES")?;
    let key = sealed
        .decrypt(password)
        .map_err(|_| "cannot be decrypted: check ssl_client_cert_key_password, and use PBES2 with AES")?;
    PrivateKeyDer::try_from(key.as_bytes().to_vec()).map_err(|_| BROKEN)
}

fn nothing(text: &[u8], otherwise: &'static str) -> &'static str {
    // The first byte of every certificate and key in DER.
    if text.first() == Some(&0x30) { "is DER, not PEM: convert it with openssl" } else { otherwise }
}

fn has(text: &[u8], what: &str) -> bool {
    text.windows(what.len()).any(|window| window == what.as_bytes())
}

const BROKEN: &str = "is broken PEM: copy it whole, with its BEGIN and END lines";

const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

//! Reads certificates and private keys from PEM. An error says what is wrong with a text and never shows any of it. A key
//! is read here, and not by rustls, so that no copy of it stays in memory that was given back.

use base64ct::{Base64, Encoding};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

/// A private key; wiped when it is dropped.
pub(super) type Key = Zeroizing<PrivateKeyDer<'static>>;

/// All certificates of a text: at least one.
///
/// # Errors
/// What is wrong with it, and the cure.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().map_err(|_| BROKEN)?;
    if all.is_empty() { Err(nothing(text, "has no certificate: give PEM with a BEGIN CERTIFICATE")) } else { Ok(all) }
}

/// The private key of a text.
///
/// # Errors
/// What is wrong with it, and the cure.
pub(super) fn private_key(text: &[u8], password: Option<&[u8]>) -> Result<Key, &'static str> {
    if let Some(der) = section(text, "ENCRYPTED PRIVATE KEY") {
        return encrypted_key(&der?, password);
    }
    if find(text, "Proc-Type: 4,ENCRYPTED").is_some() {
        return Err("is encrypted in the old form of OpenSSL: convert it with openssl pkcs8 -topk8");
    }
    if password.is_some() {
        return Err("is not encrypted: leave ssl_client_cert_key_password out");
    }
    for (label, form) in
        [("PRIVATE KEY", Form::Pkcs8), ("RSA PRIVATE KEY", Form::Pkcs1), ("EC PRIVATE KEY", Form::Sec1)]
    {
        if let Some(der) = section(text, label) {
            let der = der?.to_vec();
            return Ok(Zeroizing::new(match form {
                Form::Pkcs8 => PrivatePkcs8KeyDer::from(der).into(),
                Form::Pkcs1 => PrivatePkcs1KeyDer::from(der).into(),
                Form::Sec1 => PrivateSec1KeyDer::from(der).into(),
            }));
        }
    }
    Err(nothing(text, "has no private key: give PEM with a BEGIN PRIVATE KEY"))
}

enum Form {
    Pkcs8,
    Pkcs1,
    Sec1,
}

/// What is between the lines of the first section with this label.
fn section(text: &[u8], label: &str) -> Option<Result<Zeroizing<Vec<u8>>, &'static str>> {
    let begin = format!("-----BEGIN {label}-----");
    let inner = &text[find(text, &begin)? + begin.len()..];
    let Some(end) = find(inner, &format!("-----END {label}-----")) else { return Some(Err(BROKEN)) };
    // With room for all of it: a buffer that grows leaves its bytes behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(end));
    bytes.extend(inner[..end].iter().filter(|byte| !byte.is_ascii_whitespace()));
    let der = Base64::decode_in_place(&mut bytes).map_err(|_| BROKEN);
    Some(der.map(|der| Zeroizing::new(der.to_vec())))
}

#[cfg(not(feature = "tls-encrypted-keys"))]
fn encrypted_key(_: &[u8], _: Option<&[u8]>) -> Result<Key, &'static str> {
    Err("is encrypted: turn on ottla's feature tls-encrypted-keys, or decrypt it with openssl pkcs8")
}

#[cfg(feature = "tls-encrypted-keys")]
fn encrypted_key(der: &[u8], password: Option<&[u8]>) -> Result<Key, &'static str> {
    let Some(password) = password else {
        return Err("is encrypted: give ssl_client_cert_key_password");
    };
    let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der)
        .map_err(|_| "is encrypted in a way that is not known: use PBES2 with PBKDF2 or scrypt, and AES")?;
    let key = sealed
        .decrypt(password)
        .map_err(|_| "cannot be decrypted: check ssl_client_cert_key_password, and use PBES2 with AES")?;
    Ok(Zeroizing::new(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into()))
}

fn nothing(text: &[u8], otherwise: &'static str) -> &'static str {
    // The first byte of every certificate and key in DER.
    if text.first() == Some(&0x30) { "is DER, not PEM: convert it with openssl" } else { otherwise }
}

fn find(text: &[u8], what: &str) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what.as_bytes())
}

const BROKEN: &str = "is broken PEM: copy it whole, with its BEGIN and END lines";

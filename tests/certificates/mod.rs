//! Certificates for tests of TLS, good and bad ones, made by the test itself: small keys, X.509 as DER and PEM, and no
//! program of the machine. It writes the few forms that the tests need, also those that no usual generator makes. The
//! cryptography is that of the build, which whoever includes this file names `crypto`.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;

use super::crypto;

/// A CA, or one between it and the leaf.
pub struct Authority {
    name: String,
    key: Key,
    der: Vec<u8>,
    /// The certificates to send behind a leaf.
    between: Vec<Vec<u8>>,
}

/// A certificate that is not a CA's: by default a server's, for this machine, and good for many years.
#[derive(Clone, Debug)]
pub struct Leaf<'a> {
    pub dns: &'a [&'a str],
    pub ips: &'a [IpAddr],
    /// As YYMMDD.
    pub from: &'a str,
    pub to: &'a str,
    /// `serverAuth`, or `clientAuth` alone.
    pub for_servers: bool,
    /// Says that it is a CA's.
    pub is_ca: bool,
    /// Without extensions, as the first version of X.509 had none.
    pub version_1: bool,
    /// The signature does not fit.
    pub is_forged: bool,
    /// The length of an RSA key that nobody has, in place of the leaf's own; 0 for that.
    pub rsa_bits: usize,
}

/// A certificate with those between it and its CA, and its key: all PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificates: String,
    pub key: String,
}

struct Key {
    pkcs8: Vec<u8>,
    signer: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
}

impl Default for Leaf<'_> {
    fn default() -> Self {
        const HERE: [IpAddr; 2] =
            [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
        Self {
            dns: &["localhost"],
            ips: &HERE,
            from: "200101",
            to: "491231",
            for_servers: true,
            is_ca: false,
            version_1: false,
            is_forged: false,
            rsa_bits: 0,
        }
    }
}

impl Authority {
    /// A root.
    pub fn new(name: &str) -> Self {
        let key = Key::new();
        let leaf = Leaf { dns: &[], ips: &[], is_ca: true, ..Leaf::default() };
        let der = certificate(&leaf, name, &key, name, &key);
        Self { name: name.to_owned(), key, der, between: Vec::new() }
    }

    /// A CA below this one.
    pub fn below(&self, name: &str) -> Self {
        let key = Key::new();
        let leaf = Leaf { dns: &[], ips: &[], is_ca: true, ..Leaf::default() };
        let der = certificate(&leaf, name, &key, &self.name, &self.key);
        let between = [std::slice::from_ref(&der), &self.between].concat();
        Self { name: name.to_owned(), key, der, between }
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub fn issue(&self, leaf: &Leaf<'_>) -> Identity {
        let key = Key::new();
        let der = certificate(leaf, "leaf", &key, &self.name, &self.key);
        let chain = std::iter::once(&der).chain(&self.between).map(|der| pem("CERTIFICATE", der));
        Identity { certificates: chain.collect(), key: key.pem() }
    }
}

impl Identity {
    /// Signed by itself.
    pub fn self_signed(leaf: &Leaf<'_>) -> Self {
        let key = Key::new();
        let der = certificate(leaf, "self", &key, "self", &key);
        Self { certificates: pem("CERTIFICATE", &der), key: key.pem() }
    }

    /// Without those between the first certificate and its CA.
    pub fn alone(&self) -> Self {
        let end = self.certificates.find("-----END").map_or(0, |at| at + "-----END CERTIFICATE-----\n".len());
        Self { certificates: self.certificates[..end].to_owned(), key: self.key.clone() }
    }
}

impl Key {
    /// Of P-256; or Ed25519, if the provider takes no key of P-256 without its public half, as ring.
    fn new() -> Self {
        let mut secret = [0; 32];
        provider().secure_random.fill(&mut secret).expect("the system has random numbers");
        // Below the order of the curve, and above zero.
        secret[0] = 0x7f;
        let sec1 = sequence(&[&tlv(0x02, &[1]), &tlv(0x04, &secret)]);
        let p256 = Self::of(&[EC_PUBLIC_KEY, P256], &sec1, SignatureScheme::ECDSA_NISTP256_SHA256);
        let ed25519 = || Self::of(&[ED25519], &tlv(0x04, &secret), SignatureScheme::ED25519);
        p256.or_else(ed25519).expect("the provider takes one of them")
    }

    /// RFC 5958.
    fn of(algorithm: &[&[u8]], secret: &[u8], scheme: SignatureScheme) -> Option<Self> {
        let algorithm: Vec<u8> = algorithm.iter().flat_map(|id| oid(id)).collect();
        let pkcs8 = sequence(&[&tlv(0x02, &[0]), &sequence(&[&algorithm]), &tlv(0x04, secret)]);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.clone()));
        let signer = provider().key_provider.load_private_key(key).ok()?;
        Some(Self { pkcs8, signer, scheme })
    }

    fn pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    /// How it signs, as certificates tell it.
    fn algorithm(&self) -> Vec<u8> {
        sequence(&[&oid(if self.scheme == SignatureScheme::ED25519 { ED25519 } else { ECDSA_WITH_SHA256 })])
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signer = self.signer.choose_scheme(&[self.scheme]).expect("the key is for it");
        signer.sign(message).expect("it signs")
    }
}

pub fn provider() -> CryptoProvider {
    crypto::provider().expect("this processor has what the provider needs")
}

/// RFC 5280, section 4.1.
fn certificate(leaf: &Leaf<'_>, subject: &str, key: &Key, issuer: &str, issuer_key: &Key) -> Vec<u8> {
    let mut serial = [0; 8];
    provider().secure_random.fill(&mut serial).expect("the system has random numbers");
    serial[0] = 1;
    let algorithm = issuer_key.algorithm();
    let time = |day: &str| tlv(0x17, format!("{day}000000Z").as_bytes());
    let public_key = match leaf.rsa_bits {
        0 => key.signer.public_key().expect("the provider tells it").to_vec(),
        bits => rsa_public_key(bits),
    };
    let (version, extensions) = if leaf.version_1 {
        (Vec::new(), Vec::new())
    } else {
        (tlv(0xa0, &tlv(0x02, &[2])), tlv(0xa3, &extensions(leaf)))
    };
    let to_be_signed = sequence(&[
        &version,
        &tlv(0x02, &serial),
        &algorithm,
        &name(issuer),
        &sequence(&[&time(leaf.from), &time(leaf.to)]),
        &name(subject),
        &public_key,
        &extensions,
    ]);
    let mut signature = issuer_key.sign(&to_be_signed);
    if leaf.is_forged {
        let last = signature.len() - 1;
        signature[last] ^= 1;
    }
    let signature = [&[0], &*signature].concat();
    sequence(&[&to_be_signed, &algorithm, &tlv(0x03, &signature)])
}

fn extensions(leaf: &Leaf<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    let mut add = |id: &[u8], value: Vec<u8>| all.push(sequence(&[&oid(id), &tlv(0x04, &value)]));
    add(BASIC_CONSTRAINTS, tlv(0x30, &if leaf.is_ca { tlv(0x01, &[0xff]) } else { Vec::new() }));
    let dns = leaf.dns.iter().map(|name| tlv(0x82, name.as_bytes()));
    let ips = leaf.ips.iter().map(|ip| match ip {
        IpAddr::V4(ip) => tlv(0x87, &ip.octets()),
        IpAddr::V6(ip) => tlv(0x87, &ip.octets()),
    });
    let names: Vec<Vec<u8>> = dns.chain(ips).collect();
    if !names.is_empty() {
        add(SUBJECT_ALT_NAME, tlv(0x30, &names.concat()));
    }
    if !leaf.is_ca {
        add(EXTENDED_KEY_USAGE, sequence(&[&oid(if leaf.for_servers { SERVER_AUTH } else { CLIENT_AUTH })]));
    }
    tlv(0x30, &all.concat())
}

/// RFC 8017, appendix A.1.1.
fn rsa_public_key(bits: usize) -> Vec<u8> {
    let modulus = [vec![0], vec![0xff; bits / 8]].concat();
    let numbers = sequence(&[&tlv(0x02, &modulus), &tlv(0x02, &[1, 0, 1])]);
    sequence(&[&sequence(&[&oid(RSA), &tlv(0x05, &[])]), &tlv(0x03, &[vec![0], numbers].concat())])
}

fn name(common: &str) -> Vec<u8> {
    sequence(&[&tlv(0x31, &sequence(&[&oid(COMMON_NAME), &tlv(0x0c, common.as_bytes())]))])
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv(0x06, bytes)
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A value of DER: its tag, its length, itself.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match value.len() {
        short @ 0..=127 => der.push(short as u8),
        middle @ 128..=255 => der.extend([0x81, middle as u8]),
        long => der.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    der.extend_from_slice(value);
    der
}

/// RFC 7468.
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for digit in 0..4 {
                let at = (bits >> (18 - 6 * digit)) as usize & 63;
                text.push(if digit <= three.len() { char::from(DIGITS[at]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

// 1.2.840.10045.2.1, 1.2.840.10045.3.1.7, 1.2.840.10045.4.3.2
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1];
// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 101, 112];
// 2.5.4.3, 2.5.29.17, 2.5.29.19, 2.5.29.37
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 29, 37];
// 1.3.6.1.5.5.7.3.1 and 2
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

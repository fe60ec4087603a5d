//! The options of TLS: each fault by itself and all at once, the forms of keys, and that no secret is shown.

use std::fs;

use rustls::NamedGroup;

use super::{KeyExchangeGroup, Tls};
use crate::certificates::{self, Authority, Leaf};
use crate::error::ConfigError;
use crate::error::tests::assert_reads_well;

/// The options at fault and the text about them.
fn faults(tls: &Tls) -> Vec<(Vec<&'static str>, String)> {
    let mut problems = Vec::new();
    assert!(tls.encryption(&mut problems).is_none(), "{tls:?}");
    for problem in &problems {
        assert_reads_well(&problem.to_string());
    }
    problems.iter().map(|problem| (problem.options().to_vec(), problem.to_string())).collect()
}

fn assert_good(tls: &Tls) {
    let mut problems = Vec::new();
    let made = tls.encryption(&mut problems);
    assert_eq!(ConfigError::unless_empty(problems), Ok(()));
    assert!(made.is_some());
}

#[test]
fn each_fault_names_its_option_what_is_wrong_and_the_cure() {
    let authority = Authority::new("root");
    let (own, other) = (authority.issue(&Leaf::default()), authority.issue(&Leaf::default()));
    let tls = || Tls::new().ssl_ca_cert(authority.pem());
    let with_key = |key: &str| tls().ssl_client_cert(&own.certificates).ssl_client_cert_key(key);
    let pair: &[&str] = &["ssl_client_cert", "ssl_client_cert_key"];
    let old = format!("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n{}", &own.key[28..]);
    for (tls, options, text) in [
        (Tls::new().ssl_ca_cert("nothing"), &["ssl_ca_cert"][..], "ssl_ca_cert has no certificate"),
        (Tls::new().ssl_ca_cert([0x30, 0x82]), &["ssl_ca_cert"], "ssl_ca_cert is DER, not PEM"),
        (Tls::new().ssl_ca_cert(&authority.pem()[..99]), &["ssl_ca_cert"], "ssl_ca_cert is broken PEM"),
        (Tls::new().ssl_ca_cert(certificates::pem("CERTIFICATE", b"no")), &["ssl_ca_cert"], "that cannot be a root"),
        (Tls::new().ssl_ca_cert(&own.key), &["ssl_ca_cert"], "ssl_ca_cert has no certificate"),
        (
            Tls::new().ssl_ca_cert_file_path("/no/such.pem"),
            &["ssl_ca_cert_file_path"],
            "ssl_ca_cert_file_path \"/no/such.pem\" cannot be read",
        ),
        (
            Tls::new().ssl_ca_certs_from_system(false),
            &["ssl_ca_certs_from_system"],
            "nothing else is trusted: give ssl_ca_cert",
        ),
        (tls().ssl_client_cert(&own.certificates), pair, "ssl_client_cert needs ssl_client_cert_key"),
        (
            tls().ssl_client_cert_key(&own.key),
            &["ssl_client_cert_key", "ssl_client_cert"],
            "ssl_client_cert_key needs ssl_client_cert",
        ),
        (
            tls().ssl_client_cert_chain(authority.pem()),
            &["ssl_client_cert_chain", "ssl_client_cert"],
            "ssl_client_cert_chain needs ssl_client_cert",
        ),
        (
            tls().ssl_client_cert_key_password("secret-word"),
            &["ssl_client_cert_key_password", "ssl_client_cert_key"],
            "ssl_client_cert_key_password needs ssl_client_cert_key",
        ),
        (with_key(&other.key), pair, "do not work together"),
        (with_key(&certificates::pem("PRIVATE KEY", b"no key")), pair, "do not work together"),
        (with_key("nothing"), &["ssl_client_cert_key"], "ssl_client_cert_key has no private key"),
        (with_key(&own.key[..99]), &["ssl_client_cert_key"], "ssl_client_cert_key is broken PEM"),
        (with_key(&old), &["ssl_client_cert_key"], "is encrypted in the old form of OpenSSL"),
        (
            with_key(&certificates::pem("ENCRYPTED PRIVATE KEY", b"what")),
            &["ssl_client_cert_key"],
            "ssl_client_cert_key is encrypted",
        ),
        (
            with_key(&own.key).ssl_client_cert_key_password("secret-word"),
            &["ssl_client_cert_key"],
            "is not encrypted: leave ssl_client_cert_key_password out",
        ),
        (with_key(&own.key).ssl_client_cert_chain("x"), &["ssl_client_cert_chain"], "has no certificate"),
        (tls().key_exchange_groups([]), &["key_exchange_groups"], "key_exchange_groups is empty"),
        (
            Tls::from_rustls_0_23(tls().encryption(&mut Vec::new()).unwrap()).ssl_verify_hostname(false),
            &["from_rustls_0_23"],
            "set no other option",
        ),
    ] {
        let found = faults(&tls);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, options, "{found:?}");
        assert!(found[0].1.contains(text), "{} has not: {text}", found[0].1);
        assert!(!found[0].1.contains("secret-word"));
    }
}

#[test]
fn all_faults_are_listed_at_once() {
    let tls = Tls::new()
        .ssl_ca_cert("nothing")
        .ssl_ca_cert_file_path("/no/such.pem")
        .ssl_client_cert("nothing")
        .ssl_client_cert_key("nothing")
        .key_exchange_groups([]);
    assert_eq!(faults(&tls).len(), 5);
}

#[test]
fn these_work() {
    let authority = Authority::new("root");
    let own = authority.issue(&Leaf::default());
    let two = authority.pem() + &Authority::new("another").pem();
    assert_good(&Tls::new().ssl_ca_cert(two).ssl_client_cert(&own.certificates).ssl_client_cert_key(&own.key));
    let groups = [KeyExchangeGroup::X25519, KeyExchangeGroup::P256, KeyExchangeGroup::P384];
    let mut problems = Vec::new();
    let made = Tls::new().ssl_ca_cert(authority.pem()).key_exchange_groups(groups).encryption(&mut problems);
    let made: Vec<NamedGroup> = made.unwrap().crypto_provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(made, [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1]);
    assert_good(&Tls::new().dangerous_accept_any_certificate());
    let file = std::env::temp_dir().join(format!("ottla-ca-{}.pem", std::process::id()));
    fs::write(&file, authority.pem()).unwrap();
    assert_good(&Tls::new().ssl_ca_cert_file_path(&file));
    fs::remove_file(file).unwrap();
}

/// The key that openssl makes with `genpkey`, in the forms in which it writes it, behind this password.
#[cfg(feature = "tls-encrypted-keys")]
#[test]
fn an_encrypted_key_needs_its_password() {
    let own = Authority::new("root").issue(&Leaf::default());
    let tls = || Tls::new().ssl_ca_cert(Authority::new("a").pem()).ssl_client_cert(&own.certificates);
    let parameters =
        pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &[7; 16], [9; 16]).unwrap();
    let der = super::pem::private_key(own.key.as_bytes(), None).unwrap();
    let plain = pkcs8::PrivateKeyInfoRef::try_from(der.secret_der()).unwrap();
    let sealed = plain.encrypt_with_params(parameters, "secret-word").unwrap();
    let sealed = certificates::pem("ENCRYPTED PRIVATE KEY", sealed.as_bytes());
    assert_good(&tls().ssl_client_cert_key(&sealed).ssl_client_cert_key_password("secret-word"));
    for (password, text) in [(Some("another"), "cannot be decrypted"), (None, "give ssl_client_cert_key_password")] {
        let mut tls = tls().ssl_client_cert_key(&sealed);
        if let Some(password) = password {
            tls = tls.ssl_client_cert_key_password(password);
        }
        let found = faults(&tls);
        assert!(found[0].1.contains(text), "{found:?}");
    }
}

#[test]
fn no_output_has_the_key_or_its_password() {
    let own = Authority::new("root").issue(&Leaf::default());
    let tls = Tls::new()
        .ssl_client_cert(&own.certificates)
        .ssl_client_cert_key(&own.key)
        .ssl_client_cert_key_password("secret-word");
    let shown = format!("{tls:?} {tls:#?}");
    assert!(shown.contains("[secret]"), "{shown}");
    let key = own.key.lines().nth(1).unwrap();
    for bytes in [key, "secret-word", &format!("{:?}", own.key.as_bytes())[1..20]] {
        assert!(!shown.contains(bytes), "{shown}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_key_is_wiped_with_its_options_and_when_it_was_read() {
    use crate::left_in_memory;
    // A key for the reader, which does not look inside.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
                       dGhlIGluc2lkZSBvZiBhIHByaXZhdGUga2V5IHRoYXQgbm9ib2R5IGhhcyBzZWVuIGFzIHlldCwg\n\
                       YW5kIG5vYm9keSB3aWxsIHNlZSBsYXRlcg==\n\
                       -----END PRIVATE KEY-----\n";
    const PASSWORD: &str = "the password of a key that nobody has seen";
    let tls = Tls::new().ssl_client_cert(PEM).ssl_client_cert_key(PEM).ssl_client_cert_key_password(PASSWORD);
    let key = super::pem::private_key(PEM.as_bytes(), None).unwrap();
    let inside: &[u8] = b"the inside of a private key that nobody has seen as yet, and nobody will see later";
    assert!(left_in_memory::has(&PEM.as_bytes()[28..60]) && left_in_memory::has(inside));
    assert_eq!(key.secret_der(), inside);
    drop((tls.clone(), tls, key));
    for bytes in [&PEM.as_bytes()[28..60], inside, PASSWORD.as_bytes()] {
        assert!(!left_in_memory::has(bytes), "{bytes:?}");
    }
}

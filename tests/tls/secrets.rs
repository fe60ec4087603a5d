//! Private keys and their passwords are in no log, no error and no `Debug`, in whatever form.

use std::error::Error;
use std::fmt::{Debug, Write};
use std::sync::Mutex;

use base64ct::{Base64, Encoding};
use log::{LevelFilter, Log, Metadata, Record};
use ottla::{ClientBuilder, Message, Tls};

use crate::certificates::{Authority, Identity, Leaf};
use crate::common::*;
use crate::forms::forms;
use crate::{brokers, shown};

#[test]
fn no_key_and_no_password_of_a_key_is_shown_in_any_form() {
    log::set_logger(&SAID).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let authority = Authority::new("root");
    let server = shown(&authority.issue(&Leaf::default())).client_ca(authority.pem());
    let cluster = brokers(server);
    let own = authority.issue(&Leaf { for_servers: false, ..Leaf::default() });
    let foreign = Authority::new("another").issue(&Leaf { for_servers: false, ..Leaf::default() });
    let with = |certificates: &str, key: &str| {
        Tls::new().ssl_ca_cert(authority.pem()).ssl_client_cert(certificates).ssl_client_cert_key(key)
    };
    let cut = &own.key[..own.key.len() / 2];
    let torn = own.key.replace("END PRIVATE", "END");
    let spoilt = own.key.replace("KEY-----\nM", "KEY-----\nM*");
    for (tls, is_right) in [
        (with(&own.certificates, &own.key), true),
        // A text with both, as many programs have it.
        (with(&(own.certificates.clone() + &own.key), &(own.certificates.clone() + &own.key)), true),
        (with(&foreign.certificates, &foreign.key), false),
        (with(&own.certificates, &foreign.key), false),
        (with(&own.key, &own.key), false),
        (with(&own.certificates, cut), false),
        (with(&own.certificates, &torn), false),
        (with(&own.certificates, &spoilt), false),
        (with(&own.certificates, &own.key).ssl_client_cert_key_password(PASSWORD), false),
        (with(&own.certificates, &own.key).ssl_ca_cert(&own.key), false),
        (Tls::new().ssl_client_cert_key(&own.key), false),
    ] {
        look(tls, &cluster.bootstrap(), is_right);
    }
    #[cfg(feature = "tls-encrypted-keys")]
    {
        let sealed = sealed(&own.key);
        look(with(&own.certificates, &sealed).ssl_client_cert_key_password(PASSWORD), &cluster.bootstrap(), true);
        look(with(&own.certificates, &sealed).ssl_client_cert_key_password(WRONG), &cluster.bootstrap(), false);
        look(with(&own.certificates, &sealed), &cluster.bootstrap(), false);
    }
    let said = SAID.0.lock().unwrap().clone();
    assert!(said.contains("[secret]") && said.contains("ssl_client_cert_key is broken PEM"), "{said}");
    for secret in [secrets(&own), secrets(&foreign), vec![PASSWORD.into(), WRONG.into()]].concat() {
        for form in forms(&secret) {
            assert!(!said.contains(&form), "{form} was shown");
        }
    }
}

/// Shows all that is told of a client with these options.
fn look(tls: Tls, address: &str, is_right: bool) {
    say(&tls);
    let builder = quick(address).tls(tls);
    say(&builder);
    let is_good = deliver(builder).map_err(|error| chain(&*error)).is_ok();
    assert_eq!(is_good, is_right);
}

fn deliver(builder: ClientBuilder) -> Result<(), Box<dyn Error>> {
    let client = builder.build()?;
    say(&client);
    client.check(LONG)?;
    let producer = client.async_producer().streaming().delivery_timeout(ms(2000)).build()?;
    say(&producer);
    let handle = producer.produce_with_handle(Message::new("orders", "v"))?;
    say(&handle.wait()?);
    Ok(())
}

/// An error, and all that caused it.
fn chain(mut error: &(dyn Error + 'static)) {
    loop {
        say(&error);
        say(&error.to_string());
        let Some(source) = error.source() else { return };
        error = source;
    }
}

fn say(what: &dyn Debug) {
    writeln!(SAID.0.lock().unwrap(), "{what:?} {what:#?}").unwrap();
}

/// The lines of a key's text, the bytes in it, and the number that is the key.
fn secrets(identity: &Identity) -> Vec<Vec<u8>> {
    let lines: Vec<&str> = identity.key.lines().filter(|line| !line.starts_with('-')).collect();
    let der = Base64::decode_vec(&lines.concat()).unwrap();
    let number = der[der.len() - 32..].to_vec();
    lines.iter().map(|line| line.as_bytes().to_vec()).chain([der, number]).collect()
}

/// The same key behind the password.
#[cfg(feature = "tls-encrypted-keys")]
fn sealed(key: &str) -> String {
    let der = secrets(&Identity { certificates: String::new(), key: key.to_owned() });
    let plain = pkcs8::PrivateKeyInfoRef::try_from(&*der[der.len() - 2]).unwrap();
    let parameters = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &[7; 16], [9; 16]);
    let sealed = plain.encrypt_with_params(parameters.unwrap(), PASSWORD).unwrap();
    crate::certificates::pem("ENCRYPTED PRIVATE KEY", sealed.as_bytes())
}

/// All that was said, and shown.
struct Said(Mutex<String>);

static SAID: Said = Said(Mutex::new(String::new()));

impl Log for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        writeln!(self.0.lock().unwrap(), "{}", record.args()).unwrap();
    }

    fn flush(&self) {}
}

const PASSWORD: &str = "k3y.Pa55-w0rd/1";
const WRONG: &str = "wr0ng-k3y Pa55+";

//! Secrets of logins are in no log, no error and no `Debug`, in whatever form.

use std::fmt::Write;
use std::sync::Mutex;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use ottla::testing::{Cluster, Logins};
use ottla::{Client, ClientBuilder, Message, Sasl, Token};
use sha2::{Digest, Sha256};

use crate::common::*;
use crate::forms::forms;
use crate::said::{LINES, listen};

#[test]
fn no_secret_of_a_login_is_shown_in_any_form() {
    alone("secrets::no_secret_of_a_login_is_shown_in_any_form", || {
        listen();
        let cluster = Cluster::builder().topic("orders", 1).sasl(logins()).start().unwrap();
        let shown = Mutex::new(String::new());
        let show = |what: &dyn std::fmt::Debug| writeln!(shown.lock().unwrap(), "{what:?} {what:#?}").unwrap();
        // What is right, and the same with another secret, or where no login is, or no broker.
        let token = |value: &'static str| {
            Sasl::oauthbearer(move || Ok(Token::new(value).with_extension("name", EXTENSION).with_lifetime(ms(1000))))
        };
        show(&Token::new(TOKEN).with_extension("name", EXTENSION));
        let panicking = Sasl::oauthbearer(|| -> Result<Token, _> { panic!("no {:?}", Token::new(TOKEN)) });
        for (sasl, is_right) in [
            (Sasl::plain("ann", PLAIN), true),
            (Sasl::plain("ann", WRONG), false),
            (Sasl::scram_sha_256("ann", SCRAM).nonces(|| [7; 24]), true),
            (Sasl::scram_sha_256("ann", WRONG).nonces(|| [7; 24]), false),
            (Sasl::scram_sha_512("ann", SCRAM), true),
            (Sasl::scram_sha_512("ann", WRONG).delegation_token(), false),
            (token(TOKEN), true),
            (token(WRONG), false),
            (panicking, false),
        ] {
            show(&sasl);
            for address in [cluster.bootstrap(), crate::common::cluster(1).bootstrap(), nobody()] {
                let builder = builder(&address, sasl.clone());
                show(&builder);
                let client = builder.build().unwrap();
                show(&client);
                let checked = client.check(ms(300));
                show(&checked);
                if let Err(error) = &checked {
                    shown.lock().unwrap().push_str(&chain(error));
                }
                deliver(&client, &shown, is_right && address == cluster.bootstrap());
            }
        }
        // Options that are refused.
        let refused = builder("x", Sasl::plain("ann", format!("{PLAIN}\0"))).build().unwrap_err();
        writeln!(shown.lock().unwrap(), "{refused} {refused:?}").unwrap();

        let lines = LINES.lines(|_, _| true);
        assert!(lines.iter().any(|line| line.contains("AUTHENTICATION_FAILED")), "refusals were logged: {lines:?}");
        let shown = shown.into_inner().unwrap() + &lines.join("\n");
        assert!(shown.contains("[hidden]") && shown.contains("invalid_token"), "{shown}");
        for secret in secrets() {
            for form in forms(&secret) {
                assert!(!shown.contains(&form), "{form} was shown");
            }
        }
    });
}

fn logins() -> Logins {
    let logins = Logins::new().plain("ann", PLAIN).scram_sha_256("ann", SCRAM).scram_sha_512("ann", SCRAM);
    logins.oauthbearer(|token| token == TOKEN).session_lifetime(ms(1200))
}

fn builder(address: &str, sasl: Sasl) -> ClientBuilder {
    Client::builder([address]).sasl(sasl).sasl_over_ssl(false)
}

/// Produces until a session was renewed, or fails; all that is told of it is shown.
fn deliver(client: &Client, shown: &Mutex<String>, is_right: bool) {
    let builder = client.async_producer().streaming().delivery_timeout(ms(if is_right { 30_000 } else { 100 }));
    let mut text = format!("{builder:?}");
    let producer = builder.build().unwrap();
    for _ in 0..if is_right { 15 } else { 1 } {
        producer.produce(Message::new("orders", "v")).unwrap();
        std::thread::sleep(ms(if is_right { 100 } else { 0 }));
    }
    let handle = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    let fate = handle.wait();
    assert_eq!(fate.is_ok(), is_right, "{fate:?}");
    write!(text, "{fate:?} {producer:?} {:?}", producer.last_error()).unwrap();
    if let Err(error) = &fate {
        text.push_str(&chain(error));
    }
    write!(text, "{:?}", producer.shutdown()).unwrap();
    shown.lock().unwrap().push_str(&text);
}

/// An error, and all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut source) = (String::new(), Some(error));
    while let Some(error) = source {
        writeln!(text, "{error} {error:?} {error:#?}").unwrap();
        source = error.source();
    }
    text
}

/// Passwords, tokens, and what SCRAM makes of them for user `ann` of the in-process cluster.
fn secrets() -> Vec<Vec<u8>> {
    let mut secrets: Vec<Vec<u8>> = [PLAIN, SCRAM, WRONG, TOKEN, EXTENSION].map(|text| text.as_bytes().to_vec()).into();
    for password in [SCRAM, WRONG] {
        let salt = &Sha256::digest(b"salt of ann")[..16];
        let mut last = hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
        let mut salted = last.clone();
        for _ in 1..4096 {
            last = hmac(password.as_bytes(), &last);
            salted.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
        }
        let client_key = hmac(&salted, b"Client Key");
        let stored_key = Sha256::digest(&client_key);
        // The nonces are 24 times 7 and a count, which begins with 1.
        for count in 1..100 {
            let nonce = format!("{}server{count}", Base64::encode_string(&[7; 24]));
            let first = format!("n=ann,r={}", Base64::encode_string(&[7; 24]));
            let challenge = format!("r={nonce},s={},i=4096", Base64::encode_string(salt));
            let signature = hmac(&stored_key, format!("{first},{challenge},c=biws,r={nonce}").as_bytes());
            secrets.push(client_key.iter().zip(&signature).map(|(key, byte)| key ^ byte).collect());
        }
        secrets.extend([salted, client_key]);
    }
    secrets
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
}

const PLAIN: &str = "pl4in/Pa55 w0rd";
const SCRAM: &str = "scr4m+Pa55=w0rd";
const WRONG: &str = "wr0ng.Pa55-w0rd";
const TOKEN: &str = "t0k3n.pa55.w0rd";
const EXTENSION: &str = "ext3nsi0n Pa55";

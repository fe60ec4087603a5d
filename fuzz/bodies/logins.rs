//! Logins: what brokers answer to SaslHandshake and SaslAuthenticate, and the messages of the mechanisms in it.

use ottla::config::sasl::Sasl;
use ottla::engine::cluster::sasl::exchange::Exchange;
use ottla::engine::cluster::sasl::oauthbearer;
use ottla::engine::cluster::sasl::reply::{Fault, Reply};
use ottla::wire::api::{Api, sasl_authenticate, sasl_handshake};
use ottla::{ConnectionErrorKind, Token};

use super::input::Input;

/// The mechanism, then pieces: each an answer in a frame, or a message of the broker.
pub fn sasl_login(data: &[u8]) {
    let mut input = Input::new(data);
    let token = oauthbearer::message(&Token::new(TEXT)).unwrap_or_else(|what| panic!("{what}"));
    let (sasl, is_scram) = match input.below(4) {
        0 => (Sasl::plain("ann", TEXT), false),
        1 => (Sasl::oauthbearer(|| Ok(Token::new(TEXT))), false),
        2 => (Sasl::scram_sha_256("ann", TEXT), true),
        _ => (Sasl::scram_sha_512("ann", TEXT).delegation_token(), true),
    };
    let Some(mut exchange) = Exchange::new(&sasl.nonces(|| [7; 24]), Some(&token)) else { panic!("no exchange") };
    assert!(!exchange.first().bytes().is_empty());
    while !input.is_empty() {
        let (kind, version, piece) = (input.below(4), input.below(3) as i16, input.piece());
        match kind {
            0 => handshake(piece),
            1 => authenticate(version, piece),
            _ => {
                // The nonce, so that what comes behind it is read, too.
                let text = String::from_utf8_lossy(piece).replace('@', NONCE);
                let message = if kind == 2 { text.as_bytes() } else { piece };
                if hear(&mut exchange, message, is_scram) {
                    return;
                }
            }
        }
    }
}

/// The mechanism takes a message; `true` if that ends the login.
fn hear(exchange: &mut Exchange, message: &[u8], is_scram: bool) -> bool {
    match exchange.answer(message, None) {
        Ok(Reply::Done) => {
            assert!(!is_scram, "the broker does not know the password: {message:?}");
            true
        }
        Ok(Reply::Send(message)) => {
            assert!(!message.bytes().is_empty());
            false
        }
        Ok(Reply::Work) => {
            // Not to its end: the fuzzer would only be slow.
            (0..4).any(|_| exchange.work(None).is_some());
            false
        }
        Err(Fault::Refused(why)) => {
            fits_a_log(&why);
            true
        }
        Err(Fault::Untrusted(what)) => {
            fits_a_log(&ConnectionErrorKind::UntrustedBroker { mechanism: "SCRAM-SHA-256", what }.to_string());
            true
        }
    }
}

fn handshake(frame: &[u8]) {
    match sasl_handshake::decode(1, frame) {
        Ok(answer) => fits_a_log(&answer.mechanisms),
        Err(error) => fits_a_log(&error.in_response_to(Api::SaslHandshake).to_string()),
    }
}

fn authenticate(version: i16, frame: &[u8]) {
    match sasl_authenticate::decode(version, frame) {
        Ok(answer) => {
            fits_a_log(answer.message.as_deref().unwrap_or_default());
            assert!(answer.bytes.len() <= frame.len());
        }
        Err(error) => fits_a_log(&error.in_response_to(Api::SaslAuthenticate).to_string()),
    }
}

fn fits_a_log(text: &str) {
    assert!(text.len() <= 12_000 && !text.chars().any(char::is_control), "{text:?}");
}

const TEXT: &str = "secret";
/// 24 times 7, in base64.
const NONCE: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

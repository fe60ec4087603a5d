//! Logins: what brokers answer to SaslHandshake and SaslAuthenticate, and the messages of the mechanisms in it.

use std::sync::LazyLock;

use ottla::config::sasl::{Sasl, Secret};
use ottla::engine::cluster::sasl::exchange::Exchange;
use ottla::engine::cluster::sasl::oauthbearer;
use ottla::engine::cluster::sasl::reply::{Fault, Reply};
use ottla::engine::cluster::sasl::scram::Salted;
use ottla::wire::api::{Api, sasl_authenticate, sasl_handshake};
use ottla::{ConnectionErrorKind, Token};

use super::input::Input;

/// The mechanism, then pieces: each an answer in a frame, or a message of the broker.
pub fn sasl_login(data: &[u8]) {
    let mut input = Input::new(data);
    let token = oauthbearer::message(&Token::new(TEXT)).unwrap_or_else(|what| panic!("{what}"));
    let (sasl, salted) = match input.below(4) {
        0 => (Sasl::plain("ann", TEXT), None),
        1 => (Sasl::oauthbearer(|| Ok(Token::new(TEXT))), None),
        2 => (sha_256(), Some(&*SALTED_256)),
        _ => (sha_512(), Some(&*SALTED_512)),
    };
    let mut exchange = begin(&sasl, Some(&token));
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
                if hear(&mut exchange, message, salted) {
                    return;
                }
            }
        }
    }
}

/// The mechanism takes a message; `true` if that ends the login.
fn hear(exchange: &mut Exchange, message: &[u8], salted: Option<&Salted>) -> bool {
    match exchange.answer(message, salted) {
        Ok(Reply::Done) => {
            assert!(salted.is_none(), "the broker does not know the password: {message:?}");
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

fn sha_256() -> Sasl {
    Sasl::scram_sha_256("ann", TEXT)
}

fn sha_512() -> Sasl {
    Sasl::scram_sha_512("ann", TEXT).delegation_token()
}

fn begin(sasl: &Sasl, token: Option<&Secret>) -> Exchange {
    Exchange::new(&sasl.clone().nonces(|| [7; 24]), token).expect("there is a token and a nonce")
}

/// Of the salt `salt` and 4096 rounds: a challenge with both is answered at once, so that the signature is read, too.
static SALTED_256: LazyLock<Salted> = LazyLock::new(|| salted(&sha_256()));
static SALTED_512: LazyLock<Salted> = LazyLock::new(|| salted(&sha_512()));

fn salted(sasl: &Sasl) -> Salted {
    let mut exchange = begin(sasl, None);
    let challenge = format!("r={NONCE}x,s=c2FsdA==,i=4096");
    let reply = exchange.answer(challenge.as_bytes(), None);
    assert!(matches!(reply, Ok(Reply::Work)), "{reply:?}");
    (0..4096).find_map(|_| exchange.work(None)?.1).expect("it was computed anew")
}

const TEXT: &str = "secret";
/// 24 times 7, in base64.
const NONCE: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

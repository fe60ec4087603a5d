//! OAUTHBEARER (RFC 7628) as Kafka has it (KIP-255, KIP-342): the token in the first message, and its refusal in an
//! answer that looks like a success, to which the client must say that it has read it.

use std::sync::Arc;

use super::reply::{Fault, Reply};
use crate::config::sasl::{Secret, Token};
use crate::wire::reader::shown;

/// One login by OAUTHBEARER, once its token was sent.
#[derive(Debug, Default)]
pub struct OauthBearer {
    /// The broker's reason against the token.
    refusal: Option<Arc<str>>,
}

impl OauthBearer {
    /// Takes a message of the broker.
    ///
    /// # Errors
    /// It refuses the token.
    pub fn answer(&mut self, message: &[u8]) -> Result<Reply, Fault> {
        if let Some(refusal) = self.refusal.take() {
            // It should have ended with an error code.
            return Err(Fault::Refused(refusal));
        }
        if message.is_empty() {
            return Ok(Reply::Done);
        }
        self.refusal = Some(shown(&String::from_utf8_lossy(message)).into());
        Ok(Reply::Send(Secret::of(&[&[SEPARATOR]])))
    }
}

/// The message with a token.
///
/// # Errors
/// The reason why it cannot be sent, in words.
pub fn message(token: &Token) -> Result<Secret, &'static str> {
    let value = token.value.bytes();
    if value.is_empty() || value.iter().any(|byte| !byte.is_ascii_graphic()) {
        return Err("a token that is empty, or has other than visible ASCII letters");
    }
    let mut parts: Vec<&[u8]> = vec![b"n,,\x01auth=Bearer ", value, &[SEPARATOR]];
    for (name, value) in &token.extensions {
        if name.is_empty() || name == "auth" || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err("an extension whose name is `auth`, or has other than letters");
        }
        let is_fine = |byte: &u8| byte.is_ascii_graphic() || b" \t\r\n".contains(byte);
        if !value.bytes().iter().all(is_fine) {
            return Err("an extension whose value has other than ASCII letters and spaces");
        }
        parts.extend([name.as_bytes(), b"=", value.bytes(), &[SEPARATOR]]);
    }
    parts.push(&[SEPARATOR]);
    Ok(Secret::of(&parts))
}

const SEPARATOR: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_that_of_rfc_7628() {
        let token = Token::new("abc.def").with_extension("traceId", "1 2").with_extension("b", "");
        assert_eq!(message(&token).unwrap().bytes(), b"n,,\x01auth=Bearer abc.def\x01traceId=1 2\x01b=\x01\x01");
        assert_eq!(message(&Token::new("t")).unwrap().bytes(), b"n,,\x01auth=Bearer t\x01\x01");
    }

    #[test]
    fn nothing_else_gets_into_the_message() {
        for bad in [
            Token::new(""),
            Token::new("a\x01auth=Bearer b"),
            Token::new("a b"),
            Token::new("ä"),
            Token::new("t").with_extension("auth", "x"),
            Token::new("t").with_extension("", "x"),
            Token::new("t").with_extension("a1", "x"),
            Token::new("t").with_extension("a=b\x01", "x"),
            Token::new("t").with_extension("a", "x\x01y=z"),
        ] {
            assert!(message(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_with_bytes_is_a_refusal_that_must_be_read() {
        let mut login = OauthBearer::default();
        assert!(matches!(login.answer(b""), Ok(Reply::Done)));
        let reply = login.answer(b"{\"status\":\"invalid_token\"}\n");
        assert!(matches!(reply, Ok(Reply::Send(message)) if message.bytes() == [1]));
        // Kafka ends with an error code here; whatever else comes is no login.
        let reply = login.answer(b"");
        assert!(matches!(reply, Err(Fault::Refused(why)) if &*why == "{\"status\":\"invalid_token\"}\\n"));
    }
}

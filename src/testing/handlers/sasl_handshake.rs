//! SaslHandshake: a login begins, if there is one, and its mechanism is on.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

#[cfg(feature = "sasl")]
use super::context::str_bytes;
use super::context::{Asked, Context, Response};
#[cfg(feature = "sasl")]
use crate::testing::sessions::Begun;
use crate::testing::state::ClusterState;
use crate::wire::bounds::{Shape, text};

pub(super) const REQUEST: Shape = &[text("mechanism")];

impl Asked for SaslHandshakeRequest {
    #[cfg_attr(not(feature = "sasl"), expect(unused_variables, reason = "there is no login"))]
    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let answer = |code: i16| SaslHandshakeResponse::default().with_error_code(code);
        if let Some(code) = context.hits.errors().before {
            return context.answer(&answer(code));
        }
        #[cfg(feature = "sasl")]
        let logins = state.settings.logins.as_ref();
        #[cfg(feature = "sasl")]
        match logins.map(|logins| state.sessions.begin(context.connection, logins, &self.mechanism, context.now)) {
            Some(Begun::Goes(mechanisms)) => {
                return context.answer(&answer(0).with_mechanisms(mechanisms.into_iter().map(str_bytes).collect()));
            }
            Some(Begun::Unknown(mechanisms)) => {
                let answer = answer(ResponseError::UnsupportedSaslMechanism.code());
                let answer = answer.with_mechanisms(mechanisms.into_iter().map(str_bytes).collect());
                return context.refusal(&answer);
            }
            Some(Begun::OutOfPlace) | None => {}
        }
        context.answer(&answer(ResponseError::IllegalSaslState.code()))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::testing::asking::{Asking, has_its_bounds};

    fn handshake() -> SaslHandshakeRequest {
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"))
    }

    #[test]
    fn without_logins_there_is_nothing_to_begin() {
        let answer = Asking::one_broker().ask(1, 1, &handshake());
        assert_eq!((answer.error_code, answer.mechanisms.len()), (34, 0));
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |_| handshake());
    }
}

//! SaslAuthenticate: the messages of a login.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use super::context::{Asked, Context, Response, str_bytes};
#[cfg(feature = "sasl")]
use crate::testing::sessions::Heard;
use crate::testing::state::ClusterState;
use crate::wire::bounds::{Shape, bytes};

pub(super) const REQUEST: Shape = &[bytes("auth_bytes")];

impl Asked for SaslAuthenticateRequest {
    #[cfg_attr(not(feature = "sasl"), expect(unused_variables, reason = "there is no login"))]
    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let refused = |code: i16, why: &str| {
            SaslAuthenticateResponse::default().with_error_code(code).with_error_message(Some(str_bytes(why)))
        };
        if let Some(code) = context.hits.errors().before {
            return context.refusal(&refused(code, ""));
        }
        #[cfg(feature = "sasl")]
        let logins = state.settings.logins.as_ref();
        #[cfg(feature = "sasl")]
        match logins.map(|logins| state.sessions.hear(context.connection, logins, &self.auth_bytes, context.now)) {
            Some(Heard::Goes { bytes, lifetime_ms }) => {
                let lifetime_ms = if context.version() >= 1 { lifetime_ms } else { 0 };
                let answer = refused(0, "").with_auth_bytes(bytes.into()).with_session_lifetime_ms(lifetime_ms);
                return context.answer(&answer);
            }
            Some(Heard::Refused(why)) => {
                return context.refusal(&refused(ResponseError::SaslAuthenticationFailed.code(), &why));
            }
            Some(Heard::Unanswered) => return Response::Close,
            Some(Heard::OutOfPlace) | None => {}
        }
        let why = "SaslAuthenticate request received after successful authentication";
        context.answer(&refused(ResponseError::IllegalSaslState.code(), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::asking::{Asking, has_its_bounds};

    #[test]
    fn without_logins_there_is_nothing_to_hear() {
        let answer = Asking::one_broker().ask(1, 2, &SaslAuthenticateRequest::default());
        let why = answer.error_message.unwrap();
        assert_eq!(
            (answer.error_code, &*why),
            (34, "SaslAuthenticate request received after successful authentication")
        );
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |_| SaslAuthenticateRequest::default().with_auth_bytes(vec![7; 5].into()));
    }
}

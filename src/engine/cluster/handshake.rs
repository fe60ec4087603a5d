//! The handshake of a connection: the versions to go on with, or the reason why the broker cannot be used.

use crate::error::{ConnectionErrorKind, ErrorCode};
use crate::wire::Api;
use crate::wire::api::api_versions::{ApiVersionsResponse, Versions};

/// The step that follows an answer to ApiVersions.
#[derive(Debug)]
pub enum Handshake {
    /// Ask again, in this version.
    Again(i16),
    /// The broker speaks these.
    Done(Versions),
}

/// KIP-511: the newest version we have; a broker that does not know it answers in version 0 with the versions that it
/// knows.
#[must_use]
pub fn first_version() -> i16 {
    Api::ApiVersions.ours().max
}

/// Takes the answer to a question in `version`, of a broker that must have these APIs.
///
/// # Errors
/// It cannot be used.
pub fn judge(answer: ApiVersionsResponse, version: i16, needed: &[Api]) -> Result<Handshake, ConnectionErrorKind> {
    if answer.error == ErrorCode::UNSUPPORTED_VERSION && version > 0 {
        // KIP-511: it came in version 0 and says which versions there are; none known means 0.
        let theirs = answer.versions.range(Api::ApiVersions).map_or(0, |range| range.max);
        return Ok(Handshake::Again(theirs.clamp(0, version - 1)));
    }
    if answer.error != ErrorCode::NONE {
        return Err(ConnectionErrorKind::Refused { api: Api::ApiVersions.name(), code: answer.error });
    }
    if answer.registers_brokers && answer.versions.range(Api::Produce).is_none() {
        return Err(ConnectionErrorKind::Controller);
    }
    for api in needed {
        answer.versions.choose(*api)?;
    }
    Ok(Handshake::Done(answer.versions))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ApiRange;

    const NEEDED: &[Api] = &[Api::Metadata, Api::Produce];

    fn answer(error: ErrorCode, apis: &[Api]) -> ApiVersionsResponse {
        let versions = apis.iter().map(|api| (*api, ApiRange::new(0, 3))).collect();
        ApiVersionsResponse { throttle: Duration::ZERO, error, versions, registers_brokers: false }
    }

    #[test]
    fn a_broker_that_does_not_know_the_version_is_asked_in_one_that_it_names() {
        for (apis, version, again) in [(&[Api::ApiVersions][..], 4, 3), (&[], 4, 0), (&[Api::ApiVersions], 2, 1)] {
            let judged = judge(answer(ErrorCode::UNSUPPORTED_VERSION, apis), version, NEEDED);
            assert!(matches!(judged, Ok(Handshake::Again(next)) if next == again), "{judged:?}");
        }
        let judged = judge(answer(ErrorCode::UNSUPPORTED_VERSION, &[]), 0, NEEDED);
        assert!(
            matches!(judged, Err(ConnectionErrorKind::Refused { code: ErrorCode::UNSUPPORTED_VERSION, .. })),
            "there is none below: {judged:?}"
        );
    }

    #[test]
    fn a_broker_must_have_what_is_needed_and_be_no_controller() {
        let judged = judge(answer(ErrorCode::NONE, NEEDED), 4, NEEDED);
        assert!(matches!(judged, Ok(Handshake::Done(_))), "{judged:?}");
        let judged = judge(answer(ErrorCode::NONE, &[Api::Metadata]), 4, NEEDED);
        assert!(matches!(judged, Err(ConnectionErrorKind::UnsupportedApi { api: "Produce", .. })), "{judged:?}");
        let controller = ApiVersionsResponse { registers_brokers: true, ..answer(ErrorCode::NONE, &[Api::Metadata]) };
        let judged = judge(controller, 4, NEEDED);
        assert!(matches!(judged, Err(ConnectionErrorKind::Controller)), "{judged:?}");
    }
}

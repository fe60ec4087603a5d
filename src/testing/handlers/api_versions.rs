//! ApiVersions: what the brokers say they know.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;

use super::{Context, Outcome};
use crate::testing::Api;
use crate::testing::frame::{self, Header};
use crate::testing::state::ClusterState;

pub(super) fn handle(state: &ClusterState, context: &Context<'_>) -> Outcome {
    let errors = context.hits.errors();
    let error = errors.before.or(errors.after).unwrap_or(0);
    if error == ResponseError::UnsupportedVersion.code() {
        return unsupported(state, context.header).map_or(Outcome::Close, Outcome::Answer);
    }
    let offered = state.settings.apis.keys().map(|api| entry(state, *api)).collect();
    let response = ApiVersionsResponse::default()
        .with_error_code(error)
        .with_api_keys(if error == 0 { offered } else { Vec::new() })
        .with_throttle_time_ms(context.hits.throttle_ms);
    context.answer(&response)
}

/// The answer to a version that is not known: in version 0, with the range to choose from (KIP-511).
pub(crate) fn unsupported(state: &ClusterState, header: &Header) -> Option<Vec<u8>> {
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![entry(state, Api::ApiVersions)]);
    frame::write(header, &response, 0)
}

fn entry(state: &ClusterState, api: Api) -> ApiVersion {
    let offered = state.settings.apis.get(&api).copied().unwrap_or(api.versions());
    ApiVersion::default().with_api_key(api.key()).with_min_version(offered.min).with_max_version(offered.max)
}

//! ApiVersions: the APIs and versions that the brokers claim to know.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::{Asked, Context, Response};
use crate::testing::Api;
use crate::testing::frame::{self, RequestHeader};
use crate::testing::state::ClusterState;
use crate::wire::bounds::{Shape, text};

pub(super) const REQUEST: Shape = &[text("client_software_name").since(3), text("client_software_version").since(3)];

impl Asked for ApiVersionsRequest {
    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let errors = context.hits.errors();
        let names = [&*self.client_software_name, &*self.client_software_version];
        let unnamed = context.version() >= 3 && !names.into_iter().all(is_software_name);
        let refused = unnamed.then_some(ResponseError::InvalidRequest.code());
        let error = errors.before.or(refused).or(errors.after).unwrap_or(0);
        if error == ResponseError::UnsupportedVersion.code() {
            return unsupported(state, context.header).map_or_else(Response::Fault, Response::Answer);
        }
        let offered = state.settings.apis.keys().map(|api| entry(state, *api)).collect();
        let response = ApiVersionsResponse::default()
            .with_error_code(error)
            .with_api_keys(if error == 0 { offered } else { Vec::new() })
            .with_throttle_time_ms(context.hits.throttle_ms);
        context.answer(&if context.version() < 3 || error != 0 { response } else { with_features(response, context) })
    }
}

/// KIP-511: letters, digits, and between them also `-` and `.`.
fn is_software_name(name: &str) -> bool {
    let is_inside = |letter: char| letter.is_ascii_alphanumeric() || "-.".contains(letter);
    let is_end = |letter: &str| letter.starts_with(|it: char| it.is_ascii_alphanumeric());
    let last = name.char_indices().last().map_or("", |(at, _)| &name[at..]);
    is_end(name) && is_end(last) && name.chars().all(is_inside)
}

fn with_features(response: ApiVersionsResponse, context: &Context<'_>) -> ApiVersionsResponse {
    // Clients of version 3 cannot read a feature that begins at 0 (KIP-1022).
    let supported = FEATURES.iter().filter(|feature| feature.min > 0 || context.version() >= 4).map(|feature| {
        let key = SupportedFeatureKey::default().with_name(StrBytes::from_static_str(feature.name));
        key.with_min_version(feature.min).with_max_version(feature.max)
    });
    let finalized = FEATURES.iter().filter(|feature| feature.level > 0).map(|feature| {
        let key = FinalizedFeatureKey::default().with_name(StrBytes::from_static_str(feature.name));
        key.with_min_version_level(feature.level).with_max_version_level(feature.level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features_epoch(0)
        .with_finalized_features(finalized.collect())
}

/// A feature that the brokers of a cluster agree on (KIP-584).
struct Feature {
    name: &'static str,
    min: i16,
    max: i16,
    /// The level that they agreed on.
    level: i16,
}

const fn feature(name: &'static str, min: i16, max: i16, level: i16) -> Feature {
    Feature { name, min, max, level }
}

/// Those of Kafka 4.3.1 after a fresh format.
const FEATURES: [Feature; 7] = [
    feature("metadata.version", 7, 30, 30),
    feature("kraft.version", 0, 1, 0),
    feature("transaction.version", 0, 2, 2),
    feature("group.version", 0, 1, 1),
    feature("eligible.leader.replicas.version", 0, 1, 1),
    feature("share.version", 0, 1, 1),
    feature("streams.version", 0, 1, 1),
];

/// The answer to a version that is not known: in version 0, with the range to choose from (KIP-511).
pub(crate) fn unsupported(state: &ClusterState, header: &RequestHeader) -> Result<Vec<u8>, String> {
    let response = ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(vec![entry(state, Api::ApiVersions)]);
    frame::write(header, &response, 0)
}

fn entry(state: &ClusterState, api: Api) -> ApiVersion {
    let offered = state.settings.apis.get(&api).copied().unwrap_or(api.of_the_cluster());
    ApiVersion::default().with_api_key(api.key()).with_min_version(offered.min).with_max_version(offered.max)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiVersionsResponse;

    use super::*;
    use crate::testing::asking::{Asking, api_versions, has_its_bounds};

    fn ask(version: i16) -> ApiVersionsResponse {
        Asking::one_broker().ask(1, version, &api_versions(version))
    }

    #[test]
    fn a_client_that_has_no_good_name_is_refused_from_version_3_on() {
        for (name, is_good) in [("a", true), ("a-1.b", true), ("", false), ("a b", false), ("-a", false), ("a.", false)]
        {
            for version in 3..=4 {
                for request in [
                    api_versions(version).with_client_software_name(StrBytes::from_static_str(name)),
                    api_versions(version).with_client_software_version(StrBytes::from_static_str(name)),
                ] {
                    let answer = Asking::one_broker().ask(1, version, &request);
                    let told = (answer.error_code, answer.api_keys.is_empty(), answer.finalized_features.is_empty());
                    assert_eq!(told, if is_good { (0, false, false) } else { (42, true, true) }, "{name:?}");
                }
            }
        }
    }

    #[test]
    fn all_that_is_answered_is_offered_and_versions_of_produce_that_are_not() {
        let expected: Vec<_> = (Api::ALL.iter())
            .map(|api| (*api, api.of_the_cluster()))
            .map(|(api, known)| (api.key(), if api == Api::Produce { 0 } else { known.min }, known.max))
            .collect();
        for version in 0..=4 {
            let apis = ask(version).api_keys;
            let mut offered: Vec<_> = apis.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
            offered.sort_unstable();
            assert_eq!(offered, expected, "version {version}");
        }
    }

    #[test]
    fn features_are_those_of_a_fresh_cluster_and_version_3_leaves_out_what_begins_at_0() {
        for version in 0..=2 {
            assert_eq!(ask(version).finalized_features, []);
        }
        for version in 3..=4 {
            let answer = ask(version);
            let mut finalized: Vec<_> =
                answer.finalized_features.iter().map(|it| (&*it.name, it.max_version_level)).collect();
            finalized.sort_unstable();
            let expected = [
                ("eligible.leader.replicas.version", 1),
                ("group.version", 1),
                ("metadata.version", 30),
                ("share.version", 1),
                ("streams.version", 1),
                ("transaction.version", 2),
            ];
            assert_eq!(finalized, expected, "version {version}");
            assert!(answer.finalized_features_epoch >= 0);
            let supported: Vec<_> = answer.supported_features.iter().map(|it| (&*it.name, it.min_version)).collect();
            assert!(supported.contains(&("metadata.version", 7)));
            assert_eq!(supported.iter().all(|(_, min)| *min > 0), version == 3, "{supported:?}");
        }
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, api_versions);
    }
}

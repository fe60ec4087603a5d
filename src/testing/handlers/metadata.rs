//! Metadata: the brokers that are up, the topics and the leaders of their partitions; makes topics that are asked for.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::context::{Asked, Context, Response, shuffled, str_bytes, topic_name};
use crate::testing::fault::FaultTarget;
use crate::testing::state::ClusterState;
use crate::testing::topic::{Partition, Topic};
use crate::wire::bounds::{Shape, array, int8, text, uuid};

pub(super) const REQUEST: Shape = &[
    array("topics", &[uuid("topic_id").since(10), text("name")]),
    int8("allow_auto_topic_creation").since(4),
    int8("include_cluster_authorized_operations").since(8).until(10),
    int8("include_topic_authorized_operations").since(8),
];

impl Asked for MetadataRequest {
    fn targets(&self, state: &ClusterState) -> Vec<FaultTarget> {
        names(state, self).into_iter().map(|topic| FaultTarget { topic, partition: None }).collect()
    }

    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let mut topics: Vec<_> = match asked_for(self, context.version()) {
            Some(asked) => once_each(asked).map(|asked| one_topic(state, context, self, asked)).collect(),
            None => state.topics.values().map(|topic| known_topic(state, context, topic)).collect(),
        };
        // Kafka's brokers answer in the order of a hash map, and put refused topics behind it.
        topics.sort_by_cached_key(|topic| {
            let place = (context.header.correlation_id, topic.name.as_deref(), topic.topic_id);
            (topic.error_code != 0, shuffled(place))
        });
        let broker = |broker: &crate::testing::state::Broker| {
            MetadataResponseBroker::default()
                .with_node_id(broker.node.into())
                .with_host(str_bytes(&broker.host))
                .with_port(broker.port.into())
        };
        let controller = state.live_brokers().map(|broker| broker.node).next().unwrap_or(-1);
        let response = MetadataResponse::default()
            .with_throttle_time_ms(context.hits.throttle_ms)
            .with_brokers(state.live_brokers().map(broker).collect())
            .with_cluster_id(Some(str_bytes(&format!("{CLUSTER}{}", state.replaced))))
            .with_controller_id(controller.into())
            .with_topics(topics);
        context.answer(&response)
    }
}

/// The names of the topics that a request asks for, all where it asks for all.
fn names(state: &ClusterState, request: &MetadataRequest) -> Vec<String> {
    match &request.topics {
        None => state.topics.keys().cloned().collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| match &asked.name {
                Some(name) => Some(name.to_string()),
                None => state.topic_by_id(asked.topic_id.as_bytes()).map(|topic| topic.name.clone()),
            })
            .collect(),
    }
}

/// `None` where all topics are asked for: no list, or in version 0 an empty one.
fn asked_for(request: &MetadataRequest, version: i16) -> Option<&Vec<MetadataRequestTopic>> {
    request.topics.as_ref().filter(|asked| version > 0 || !asked.is_empty())
}

// Kafka's brokers gather the names in a set.
fn once_each(asked: &[MetadataRequestTopic]) -> impl Iterator<Item = &MetadataRequestTopic> {
    let by_name = asked.iter().map(|asked| ((asked.name.as_deref(), asked.topic_id), asked));
    by_name.collect::<BTreeMap<_, _>>().into_values()
}

fn one_topic(
    state: &mut ClusterState,
    context: &Context<'_>,
    request: &MetadataRequest,
    asked: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let refused = |error: ResponseError| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(asked.name.clone())
            .with_topic_id(asked.topic_id)
    };
    if context.version() < 12 && !asked.topic_id.is_nil() {
        return refused(ResponseError::InvalidRequest);
    }
    let Some(name) = &asked.name else {
        return match state.topic_by_id(asked.topic_id.as_bytes()) {
            Some(topic) => known_topic(state, context, topic),
            None => refused(ResponseError::UnknownTopicId),
        };
    };
    if let Some(code) = context.hits.errors_for(name, None).before {
        return refused(ResponseError::UnknownServerError).with_error_code(code);
    }
    if crate::message::Topic::new(name.as_str()).is_err() {
        return refused(ResponseError::InvalidTopicException);
    }
    if let Some(topic) = state.topics.get(name.as_str()) {
        return known_topic(state, context, topic);
    }
    if state.settings.auto_create && request.allow_auto_topic_creation {
        state.begin_topic(name, context.now);
    }
    refused(ResponseError::UnknownTopicOrPartition)
}

fn known_topic(state: &ClusterState, context: &Context<'_>, topic: &Topic) -> MetadataResponseTopic {
    let response =
        MetadataResponseTopic::default().with_name(Some(topic_name(&topic.name))).with_topic_id(topic.id.to_wire());
    let errors = context.hits.errors_for(&topic.name, None);
    match errors.before.or(errors.after) {
        Some(code) => response.with_error_code(code),
        None => response
            .with_partitions((0..).zip(&topic.partitions).map(|(at, found)| partition(state, at, found)).collect()),
    }
}

fn partition(state: &ClusterState, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let error = match partition.leader {
        Some(_) => 0,
        None => ResponseError::LeaderNotAvailable.code(),
    };
    let (up, down): (Vec<_>, Vec<_>) = state.brokers.iter().partition(|broker| broker.up.is_some());
    let nodes = |brokers: &[&crate::testing::state::Broker]| brokers.iter().map(|broker| broker.node.into()).collect();
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(partition.leader.unwrap_or(-1).into())
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(state.brokers.iter().map(|broker| broker.node.into()).collect())
        .with_isr_nodes(nodes(&up))
        .with_offline_replicas(nodes(&down))
}

/// Followed by the number of clusters that were there before.
const CLUSTER: &str = "ottla-testing-cluster";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorCode;
    use crate::message::Timestamp;
    use crate::testing::asking::{Asking, NOW, has_its_bounds, name};
    use crate::testing::{Api, ClusterBuilder, Fault};

    fn ask_for(topics: &[&str]) -> MetadataRequest {
        let topic = |topic: &&str| MetadataRequestTopic::default().with_name(Some(name(topic)));
        MetadataRequest::default()
            .with_topics(Some(topics.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(true)
    }

    /// The names of the topics and their error codes.
    fn codes(response: &MetadataResponse) -> Vec<(String, i16)> {
        let topics = response.topics.iter();
        topics.map(|topic| (topic.name.as_ref().unwrap().to_string(), topic.error_code)).collect()
    }

    #[test]
    fn every_version_says_who_leads_what_and_where_it_is() {
        for version in 0..=13 {
            let mut asking = Asking::with(ClusterBuilder::new().brokers(3).topic("t", 3));
            asking.state.move_leader("t", 1, 3);
            let response = asking.ask(1, version, &ask_for(&["t"]));
            let brokers: Vec<_> =
                response.brokers.iter().map(|broker| (*broker.node_id, &*broker.host, broker.port)).collect();
            assert_eq!(brokers, [(1, "127.0.0.1", 9091), (2, "127.0.0.1", 9092), (3, "127.0.0.1", 9093)]);
            let partitions: Vec<_> = (response.topics[0].partitions.iter())
                .map(|partition| (partition.partition_index, *partition.leader_id))
                .collect();
            assert_eq!(partitions, [(0, 1), (1, 3), (2, 3)], "version {version}");
            let epoch = response.topics[0].partitions[1].leader_epoch;
            assert_eq!(epoch, if version >= 7 { 1 } else { -1 }, "version {version}");
        }
    }

    #[test]
    fn all_topics_are_an_absent_list_and_in_version_0_an_empty_one() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("a", 1).topic("b", 1));
        let all = ask_for(&[]).with_topics(None);
        assert_eq!(asking.ask(1, 1, &all).topics.len(), 2);
        assert_eq!(asking.ask(1, 12, &all).topics.len(), 2);
        assert_eq!(asking.ask(1, 0, &ask_for(&[])).topics.len(), 2);
        assert_eq!(asking.ask(1, 1, &ask_for(&[])).topics.len(), 0);
    }

    #[test]
    fn topics_are_made_when_client_and_cluster_want_it() {
        let unwanted = ask_for(&["new"]).with_allow_auto_topic_creation(false);
        let mut forbids = Asking::with(ClusterBuilder::new().auto_create(false));
        let mut allows = Asking::with(ClusterBuilder::new().default_partitions(2));
        for _ in 0..3 {
            assert_eq!(codes(&forbids.ask(1, 9, &ask_for(&["new"]))), [("new".to_owned(), 3)]);
            assert_eq!(codes(&allows.ask(1, 9, &unwanted)), [("new".to_owned(), 3)]);
        }
        let mut found = codes(&allows.ask(1, 9, &ask_for(&["new", "not a name"])));
        found.sort();
        assert_eq!(found, [("new".to_owned(), 3), ("not a name".to_owned(), 17)]);
        let made = allows.ask(1, 9, &unwanted);
        assert_eq!(codes(&made), [("new".to_owned(), 0)]);
        assert_eq!(made.topics[0].partitions.len(), 2);
    }

    #[test]
    fn a_topic_that_is_asked_for_is_there_after_the_creation_delay() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).creation_delay(Duration::from_millis(100)));
        for (node, millis, code) in [(1, 0, 3), (2, 50, 3), (1, 99, 3), (2, 100, 0), (1, 100, 0)] {
            asking.now = Timestamp::from_millis(NOW.as_millis() + millis);
            let answer = asking.ask(node, 12, &ask_for(&["new"])).topics.remove(0);
            assert_eq!(answer.error_code, code, "after {millis} ms");
            let leaders = answer.partitions.iter().filter(|partition| *partition.leader_id > 0).count();
            assert_eq!((leaders, answer.topic_id.is_nil()), if code == 3 { (0, true) } else { (3, false) });
        }
    }

    #[test]
    fn a_name_that_collides_is_never_made() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("a.b", 1));
        for _ in 0..3 {
            assert_eq!(codes(&asking.ask(1, 12, &ask_for(&["a_b"]))), [("a_b".to_owned(), 3)]);
        }
        assert!(!asking.state.make_topic("a_b", 1));
        assert_eq!(codes(&asking.ask(1, 12, &ask_for(&["a.b"]))), [("a.b".to_owned(), 0)]);
        asking.state.delete_topic("a.b");
        for code in [3, 0] {
            assert_eq!(codes(&asking.ask(1, 12, &ask_for(&["a_b"]))), [("a_b".to_owned(), code)]);
        }
        // One that is about to be made stands in the way, too.
        asking.ask(1, 12, &ask_for(&["c_d"]));
        assert!(!asking.state.make_topic("c.d", 1));
    }

    #[test]
    fn answers_come_in_another_order_what_is_refused_last_and_each_name_once() {
        let names = ["missing", "a", "b", "c", "d", "e", "f", "a"];
        let builder =
            || names[1..7].iter().fold(ClusterBuilder::new().auto_create(false), |it, name| it.topic(*name, 1));
        let ask = |request: &MetadataRequest| -> Vec<_> {
            let answer = Asking::with(builder()).ask(1, 12, request);
            codes(&answer).into_iter().map(|(name, _)| name).collect()
        };
        let mut found = ask(&ask_for(&names));
        assert_eq!(ask(&ask_for(&names)), found, "the same request is answered in the same order");
        assert_eq!(found.pop().as_deref(), Some("missing"));
        assert_ne!(found, names[1..7]);
        assert_ne!(ask(&ask_for(&[]).with_topics(None)), names[1..7]);
        found.sort();
        assert_eq!(found, names[1..7]);
    }

    #[test]
    fn ids_are_for_versions_that_know_them() {
        let mut asking = Asking::one_broker();
        let by_id = MetadataRequestTopic::default().with_topic_id(asking.topic_id("t").to_wire());
        for (version, code) in [(10, 42), (11, 42), (12, 0), (13, 0)] {
            let name = if version < 12 { Some(name("")) } else { None };
            let request = ask_for(&[]).with_topics(Some(vec![by_id.clone().with_name(name)]));
            assert_eq!(asking.ask(1, version, &request).topics[0].error_code, code, "version {version}");
        }
    }

    #[test]
    fn a_topic_made_again_has_another_id() {
        let mut asking = Asking::one_broker();
        let mut id = || {
            let id = asking.ask(1, 10, &ask_for(&["t"])).topics[0].topic_id;
            asking.state.delete_topic("t");
            id
        };
        let (first, second) = (id(), id());
        assert_ne!(first, second);
        let by_id = MetadataRequestTopic::default().with_topic_id(first).with_name(None);
        let response = asking.ask(1, 12, &ask_for(&[]).with_topics(Some(vec![by_id])));
        assert_eq!(response.topics[0].error_code, ResponseError::UnknownTopicId.code());
    }

    #[test]
    fn a_stopped_broker_is_not_listed_and_leads_nothing() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).topic("t", 2));
        asking.state.broker_stops(1);
        let response = asking.ask(2, 12, &ask_for(&["t"]));
        assert_eq!(response.brokers.len(), 1);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((*partition.leader_id, partition.leader_epoch, partition.error_code), (2, 1, 0));
        assert_eq!((*partition.isr_nodes[0], *partition.offline_replicas[0]), (2, 1));
    }

    #[test]
    fn a_broker_is_where_it_advertises_to_be() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).topic("t", 1));
        asking.state.advertise(1, "proxy.test".to_owned(), 7);
        let response = asking.ask(1, 12, &ask_for(&["t"]));
        let brokers: Vec<_> = response.brokers.iter().map(|broker| (&*broker.host, broker.port)).collect();
        assert_eq!(brokers, [("proxy.test", 7), ("127.0.0.1", 9092)]);
    }

    #[test]
    fn a_fault_refuses_its_topic_alone() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("a", 1).topic("b", 1));
        asking.state.inject(Fault::on(Api::Metadata).topic("a").error(ErrorCode::LEADER_NOT_AVAILABLE));
        let expected = [("a".to_owned(), 5), ("b".to_owned(), 0)];
        for request in [ask_for(&["a", "b"]), ask_for(&[]).with_topics(None)] {
            let mut found = codes(&asking.ask(1, 9, &request));
            found.sort();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |_| ask_for(&["t", "u"]));
    }
}

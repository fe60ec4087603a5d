//! Fetch: batches as they are in the log. Every fetch stands alone: the answer opens no session (KIP-227).

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::context::{Asked, Context, Response, str_bytes, targets_of};
use crate::message::Timestamp;
use crate::testing::fault::FaultTarget;
use crate::testing::state::{Broker, ClusterState};
use crate::wire::bounds::{Shape, array, array_of_int32, int8, int32, int64, structure, text, uuid};

pub(super) const REQUEST: Shape = &[
    int32("replica_id").until(14),
    int32("max_wait_ms"),
    int32("min_bytes"),
    int32("max_bytes"),
    int8("isolation_level"),
    int32("session_id").since(7),
    int32("session_epoch").since(7),
    array("topics", &[text("topic").until(12), uuid("topic_id").since(13), array("partitions", PARTITION)]),
    array(
        "forgotten_topics_data",
        &[text("topic").until(12), uuid("topic_id").since(13), array_of_int32("partitions")],
    )
    .since(7),
    text("rack_id").since(11),
    text("cluster_id").since(12).tagged(0),
    structure("replica_state", &[int32("replica_id"), int64("replica_epoch")]).since(15).tagged(1),
];

impl Asked for FetchRequest {
    fn targets(&self, state: &ClusterState) -> Vec<FaultTarget> {
        let topics = self.topics.iter().map(|topic| {
            let name = state.name_of(&topic.topic, topic.topic_id.as_bytes());
            targets_of(name, topic.partitions.iter().map(|partition| partition.partition))
        });
        topics.flatten().collect()
    }

    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        if self.session_id != 0 {
            return context.answer(&whole(context).with_error_code(ResponseError::FetchSessionIdNotFound.code()));
        }
        let mut room = Room { left: bytes(self.max_bytes), used: 0, refused: false };
        let mut topics = Vec::new();
        for asked in &self.topics {
            let found = state.wanted(&asked.topic, asked.topic_id.as_bytes()).map(|topic| topic.name.as_str());
            let partitions = asked.partitions.iter().map(|partition| {
                let found = found.ok_or(unknown_topic(context));
                let name = found.unwrap_or(&asked.topic);
                read(state, context, name, found, partition, self.isolation_level, &mut room)
            });
            topics.push(topic_response(asked, partitions.collect()));
        }
        let deadline = context.arrived.as_millis().saturating_add(self.max_wait_ms.max(0).into());
        let enough = room.used >= bytes(self.min_bytes) || room.refused || topics.is_empty();
        if !enough && context.now.as_millis() < deadline {
            return Response::WaitForNews { deadline: Timestamp::from_millis(deadline) };
        }
        let node_endpoints = endpoints(state, context, &topics);
        context.answer(&whole(context).with_responses(topics).with_node_endpoints(node_endpoints))
    }
}

const PARTITION: Shape = &[
    int32("partition"),
    int32("current_leader_epoch").since(9),
    int64("fetch_offset"),
    int32("last_fetched_epoch").since(12),
    int64("log_start_offset").since(5),
    int32("partition_max_bytes"),
    uuid("replica_directory_id").since(17).tagged(0),
    int64("high_watermark").since(18).tagged(1),
];

/// The bytes that may still be answered, and the progress so far.
struct Room {
    left: usize,
    used: usize,
    refused: bool,
}

fn whole(context: &Context<'_>) -> FetchResponse {
    FetchResponse::default().with_throttle_time_ms(context.hits.throttle_ms)
}

fn unknown_topic(context: &Context<'_>) -> ResponseError {
    if context.version() >= 13 { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition }
}

fn topic_response(asked: &FetchTopic, partitions: Vec<PartitionData>) -> FetchableTopicResponse {
    FetchableTopicResponse::default()
        .with_topic(asked.topic.clone())
        .with_topic_id(asked.topic_id)
        .with_partitions(partitions)
}

fn read(
    state: &ClusterState,
    context: &Context<'_>,
    name: &str,
    found: Result<&str, ResponseError>,
    asked: &FetchPartition,
    isolation_level: i8,
    room: &mut Room,
) -> PartitionData {
    let response = PartitionData::default()
        .with_partition_index(asked.partition)
        .with_aborted_transactions((isolation_level == READ_COMMITTED).then(Vec::new));
    let errors = context.errors_for(name, asked.partition);
    let batches = match errors.before.or(errors.after) {
        Some(code) => Err(code),
        None => found.and_then(|topic| read_log(state, context, topic, asked, room)).map_err(|error| error.code()),
    };
    match batches {
        Ok((next_offset, records)) => response
            .with_high_watermark(next_offset)
            .with_last_stable_offset(next_offset)
            .with_log_start_offset(0)
            .with_records(Some(records)),
        Err(code) => {
            room.refused = true;
            let response = response
                .with_error_code(code)
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1)
                .with_records(Some(Bytes::new()));
            with_leader(state, context, name, response)
        }
    }
}

fn read_log(
    state: &ClusterState,
    context: &Context<'_>,
    topic: &str,
    asked: &FetchPartition,
    room: &mut Room,
) -> Result<(i64, Bytes), ResponseError> {
    let partition = state.led_partition(context.node, topic, asked.partition, asked.current_leader_epoch)?;
    let next_offset = partition.log.next_offset();
    if !(0..=next_offset).contains(&asked.fetch_offset) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    // KIP-74: the first batch of the first partition that has one comes whatever its size.
    let most = room.left.min(bytes(asked.partition_max_bytes));
    let records = partition.log.read(asked.fetch_offset, most, room.used == 0);
    room.used += records.len();
    room.left = room.left.saturating_sub(records.len());
    Ok((next_offset, records.into()))
}

/// Names the leader to a client that asked another broker (KIP-951).
fn with_leader(state: &ClusterState, context: &Context<'_>, topic: &str, response: PartitionData) -> PartitionData {
    let moved = [ResponseError::NotLeaderOrFollower.code(), ResponseError::FencedLeaderEpoch.code()];
    if context.version() < 12 || !moved.contains(&response.error_code) {
        return response;
    }
    match state.topics.get(topic).and_then(|topic| topic.partition(response.partition_index)) {
        Some(partition) => response.with_current_leader(
            LeaderIdAndEpoch::default()
                .with_leader_id(partition.leader.unwrap_or(-1).into())
                .with_leader_epoch(partition.leader_epoch),
        ),
        None => response,
    }
}

fn endpoints(state: &ClusterState, context: &Context<'_>, topics: &[FetchableTopicResponse]) -> Vec<NodeEndpoint> {
    if context.version() < 16 {
        return Vec::new();
    }
    let partitions = || topics.iter().flat_map(|topic| &topic.partitions);
    let named = |broker: &&Broker| partitions().any(|partition| *partition.current_leader.leader_id == broker.node);
    let endpoint = |broker: &Broker| {
        NodeEndpoint::default()
            .with_node_id(broker.node.into())
            .with_host(str_bytes(&broker.host))
            .with_port(broker.port.into())
    };
    state.live_brokers().filter(named).map(endpoint).collect()
}

fn bytes(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}

const READ_COMMITTED: i8 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kafka_protocol::messages::fetch_request::{ForgottenTopic, ReplicaState};
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::error::ErrorCode;
    use crate::record::batch_reader::RecordBatch;
    use crate::testing::asking::{Asking, batch, has_its_bounds, name, read_answer};
    use crate::testing::requests::Reply;
    use crate::testing::topic::TopicId;
    use crate::testing::{Api, ClusterBuilder, Fault};

    fn fetch(asking: &Asking, version: i16, partition: i32, offset: i64) -> FetchRequest {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1_000_000);
        let topic = FetchTopic::default().with_partitions(vec![partition]);
        let topic = match version {
            13.. => topic.with_topic_id(asking.topic_id("t").to_wire()),
            _ => topic.with_topic(name("t")),
        };
        FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1_000_000)
            .with_topics(vec![topic])
    }

    fn partition(mut response: FetchResponse) -> PartitionData {
        response.responses.remove(0).partitions.remove(0)
    }

    /// The base offset of each whole batch.
    fn offsets(data: &PartitionData) -> Vec<i64> {
        let mut rest = data.records.as_deref().unwrap();
        let mut offsets = Vec::new();
        while let Ok((batch, behind)) = RecordBatch::read(rest) {
            offsets.push(batch.base_offset);
            rest = behind;
        }
        offsets
    }

    /// A broker whose t-0 has three batches of two records.
    fn six_records() -> Asking {
        let mut asking = Asking::one_broker();
        for _ in 0..3 {
            asking.produce(9, "t", 0, batch(2).bytes());
        }
        asking
    }

    #[test]
    fn every_version_reads_whole_batches_from_the_one_with_the_offset() {
        let mut asking = six_records();
        for version in 4..=18 {
            for (offset, expected) in [(0, &[0, 2, 4][..]), (1, &[0, 2, 4]), (2, &[2, 4]), (5, &[4])] {
                let request = fetch(&asking, version, 0, offset);
                let data = partition(asking.ask(1, version, &request));
                assert_eq!((data.error_code, data.high_watermark), (0, 6));
                assert_eq!(offsets(&data), expected, "version {version}, offset {offset}");
            }
        }
    }

    #[test]
    fn at_least_one_batch_comes_whole_and_the_last_is_cut_where_the_limit_is() {
        let mut asking = six_records();
        let size = i32::try_from(batch(2).bytes().len()).unwrap();
        for (bytes, length) in [(0, size), (1, size), (size, size), (size + 24, size + 24), (3 * size + 1, 3 * size)] {
            let mut of_partition = fetch(&asking, 12, 0, 0);
            of_partition.topics[0].partitions[0].partition_max_bytes = bytes;
            for request in [fetch(&asking, 12, 0, 0).with_max_bytes(bytes), of_partition] {
                let data = partition(asking.ask(1, 12, &request));
                assert_eq!(data.records.as_ref().unwrap().len(), length as usize, "limit {bytes}");
                assert_eq!(offsets(&data), [0, 2, 4][..(length / size) as usize], "limit {bytes}");
            }
        }
    }

    #[test]
    fn a_second_partition_is_empty_where_its_first_batch_does_not_fit() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("t", 2));
        for partition in [0, 0, 1, 1] {
            asking.produce(9, "t", partition, batch(2).bytes());
        }
        let size = i32::try_from(batch(2).bytes().len()).unwrap();
        for (of_second, length) in [(0, 0), (size - 1, 0), (size, size), (size + 9, size + 9)] {
            let mut request = fetch(&asking, 12, 0, 0);
            let mut second = request.topics[0].partitions[0].clone().with_partition(1);
            second.partition_max_bytes = of_second;
            request.topics[0].partitions.push(second);
            let partitions = asking.ask(1, 12, &request).responses.remove(0).partitions;
            let lengths: Vec<_> = partitions.iter().map(|data| data.records.as_ref().unwrap().len()).collect();
            assert_eq!(lengths, [2 * size as usize, length as usize], "limit {of_second}");
        }
    }

    #[test]
    fn a_fetch_at_the_end_waits_for_a_message() {
        let mut asking = six_records();
        let request = fetch(&asking, 12, 0, 6);
        let Reply::Park(parked) = asking.reply(1, 12, &request) else { panic!("answered") };
        assert_eq!(parked.deadline().unwrap().as_millis(), asking.now.as_millis() + 500);
        assert!(!asking.state.is_ready(&parked, asking.now));
        asking.produce(9, "t", 0, batch(1).bytes());
        assert!(asking.state.is_ready(&parked, asking.now));
        let Reply::Send { bytes, .. } = asking.state.resume(*parked, asking.now) else { panic!("waits again") };
        assert_eq!(offsets(&partition(read_answer::<FetchRequest>(&bytes, 12))), [6]);
    }

    #[test]
    fn a_fetch_at_the_end_waits_no_longer_than_asked_for() {
        let mut asking = six_records();
        let request = fetch(&asking, 12, 0, 6);
        let Reply::Park(parked) = asking.reply(1, 12, &request) else { panic!("answered") };
        // News that are too few do not make it wait longer.
        asking.state.note_news();
        let Reply::Park(parked) = asking.state.resume(*parked, asking.now) else { panic!("answered") };
        let end = parked.deadline().unwrap();
        assert_eq!(end.as_millis(), asking.now.as_millis() + 500);
        let Reply::Send { bytes, after, .. } = asking.state.resume(*parked, end) else { panic!("waits again") };
        assert_eq!(after, Duration::ZERO);
        let data = partition(read_answer::<FetchRequest>(&bytes, 12));
        assert_eq!((data.error_code, offsets(&data)), (0, vec![]));
    }

    #[test]
    fn what_a_broker_refuses() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).topic("t", 2));
        asking.state.move_leader("t", 0, 2);
        asking.state.move_leader("t", 0, 1);
        let cases = [
            ("an offset behind the end", 0, 1, -1, ResponseError::OffsetOutOfRange),
            ("an offset before the start", 0, -1, -1, ResponseError::OffsetOutOfRange),
            ("another leader", 1, 0, -1, ResponseError::NotLeaderOrFollower),
            ("no such partition", 2, 0, -1, ResponseError::UnknownTopicOrPartition),
            ("an older epoch", 0, 0, 1, ResponseError::FencedLeaderEpoch),
            ("a newer epoch", 0, 0, 3, ResponseError::UnknownLeaderEpoch),
        ];
        for (what, index, offset, epoch, error) in cases {
            for version in [12, 18] {
                let mut request = fetch(&asking, version, index, offset);
                request.topics[0].partitions[0].current_leader_epoch = epoch;
                let response = asking.ask(1, version, &request);
                let named = response.node_endpoints.len();
                let data = partition(response);
                assert_eq!(data.error_code, error.code(), "{what}");
                let leader = if index == 1 { 2 } else { -1 };
                assert!(leader < 0 || *data.current_leader.leader_id == leader, "{what}");
                assert_eq!(named == 1, version == 18 && *data.current_leader.leader_id >= 0, "{what}");
            }
        }
    }

    #[test]
    fn sessions_are_not_there() {
        let mut asking = six_records();
        let request = fetch(&asking, 12, 0, 0).with_session_id(7);
        assert_eq!(asking.ask(1, 12, &request).error_code, ResponseError::FetchSessionIdNotFound.code());
        let request = fetch(&asking, 12, 0, 0).with_session_epoch(0);
        assert_eq!(asking.ask(1, 12, &request).session_id, 0);
    }

    #[test]
    fn a_fault_refuses_its_partition_alone() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("t", 2));
        asking.state.inject(
            Fault::on(Api::Fetch)
                .topic("t")
                .partition(1)
                .error(ErrorCode::KAFKA_STORAGE_ERROR)
                .throttle(Duration::from_millis(9)),
        );
        let mut request = fetch(&asking, 12, 0, 0);
        let other = request.topics[0].partitions[0].clone().with_partition(1);
        request.topics[0].partitions.push(other);
        let response = asking.ask(1, 12, &request);
        let codes: Vec<_> = response.responses[0].partitions.iter().map(|data| data.error_code).collect();
        assert_eq!((codes, response.throttle_time_ms), (vec![0, 56], 9));
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(REQUEST, |version| {
            let partition = FetchPartition::default();
            let partition = match version {
                18.. => partition.with_replica_directory_id(TopicId([7; 16]).to_wire()).with_high_watermark(9),
                17 => partition.with_replica_directory_id(TopicId([7; 16]).to_wire()),
                _ => partition,
            };
            let topic = FetchTopic::default().with_partitions(vec![partition; 2]);
            let forgotten = ForgottenTopic::default().with_partitions(vec![1, 2]);
            let request = FetchRequest::default().with_topics(vec![topic; 2]);
            let request = if version < 7 { request } else { request.with_forgotten_topics_data(vec![forgotten; 2]) };
            let cluster = (version >= 12).then(|| StrBytes::from_static_str("a cluster"));
            let request = request.with_cluster_id(cluster);
            let replica = ReplicaState::default().with_replica_id(1.into()).with_replica_epoch(2);
            if version < 15 { request } else { request.with_replica_state(replica) }
        });
    }
}

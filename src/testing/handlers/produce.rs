//! Produce: checks each partition's batch and appends it.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use log::Level;

use super::context::{Asked, Context, Response, shuffled, str_bytes, targets_of};
use crate::testing::batch_check::{self, Refusal};
use crate::testing::fault::FaultTarget;
use crate::testing::state::ClusterState;
use crate::testing::topic::Appended;
use crate::wire::bounds::{Shape, array, bytes, int16, int32, text, uuid};

pub(super) const REQUEST: Shape = &[
    text("transactional_id"),
    int16("acks"),
    int32("timeout_ms"),
    array(
        "topic_data",
        &[
            text("name").until(12),
            uuid("topic_id").since(13),
            array("partition_data", &[int32("index"), bytes("records")]),
        ],
    ),
];

impl Asked for ProduceRequest {
    fn targets(&self, state: &ClusterState) -> Vec<FaultTarget> {
        let topics = self.topic_data.iter().map(|topic| {
            let name = state.name_of(&topic.name, topic.topic_id.as_bytes());
            targets_of(name, topic.partition_data.iter().map(|partition| partition.index))
        });
        topics.flatten().collect()
    }

    fn answer(&self, state: &mut ClusterState, context: &Context<'_>) -> Response {
        let mut told: Vec<_> =
            entries(self).map(|(topic, data)| (topic, data.index, one(state, context, self, topic, data))).collect();
        // Kafka's brokers answer in the order of a hash map.
        told.sort_by_cached_key(|(topic, index, _)| {
            shuffled((context.header.correlation_id, &*topic.name, topic.topic_id, index))
        });
        if told.iter().any(|(.., told)| told.appended.is_some()) {
            state.note_news();
        }
        let topics = by_topic(state, context, told);
        if self.acks == 0 {
            return without_answer(&topics);
        }
        let node_endpoints = endpoints(state, context, &topics);
        let response = ProduceResponse::default()
            .with_responses(topics)
            .with_throttle_time_ms(context.hits.throttle_ms)
            .with_node_endpoints(node_endpoints);
        context.answer(&response)
    }
}

/// The entry of each partition in a request. If a partition stands twice, the last entry counts, and the answer does
/// not mention the first: Kafka's brokers gather them in a map.
fn entries(request: &ProduceRequest) -> impl Iterator<Item = (&TopicProduceData, &PartitionProduceData)> {
    let mut entries = BTreeMap::new();
    for topic in &request.topic_data {
        for data in &topic.partition_data {
            entries.insert((&*topic.name, topic.topic_id, data.index), (topic, data));
        }
    }
    entries.into_values()
}

/// The answer for a batch.
struct BatchAnswer {
    code: i16,
    /// The place of the batch in the log, even if an error came after the append.
    appended: Option<Appended>,
    text: Option<String>,
    records: Vec<(i32, String)>,
    reached_partition: bool,
}

impl BatchAnswer {
    fn with(code: i16, appended: Option<Appended>) -> Self {
        let at_the_door = [ResponseError::UnknownTopicOrPartition.code(), ResponseError::UnknownTopicId.code()];
        let reached_partition = !at_the_door.contains(&code);
        Self { code, appended, text: None, records: Vec::new(), reached_partition }
    }

    fn log_start(&self) -> i64 {
        let knows = self.reached_partition && !WITHOUT_LOG_START.map(|error| error.code()).contains(&self.code);
        if knows || self.appended.is_some() { 0 } else { -1 }
    }
}

impl From<Refusal> for BatchAnswer {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.error.code(),
            appended: None,
            text: refusal.text().map(str::to_owned),
            reached_partition: refusal.reached_partition,
            records: refusal.records,
        }
    }
}

fn one(
    state: &mut ClusterState,
    context: &Context<'_>,
    request: &ProduceRequest,
    topic: &TopicProduceData,
    data: &PartitionProduceData,
) -> BatchAnswer {
    let found = state.wanted(&topic.name, topic.topic_id.as_bytes()).map(|topic| topic.name.clone());
    let errors = context.errors_for(found.as_deref().unwrap_or(&topic.name), data.index);
    if let Some(code) = errors.before {
        return BatchAnswer::with(code, None);
    }
    match append(state, context, request, found.as_deref(), data) {
        Ok(appended) => match errors.after {
            Some(code) if !ENDS_A_WAIT.map(|error| error.code()).contains(&code) => BatchAnswer::with(code, None),
            after => BatchAnswer::with(after.unwrap_or(0), Some(appended)),
        },
        Err(refusal) => {
            let Refusal { error, why, .. } = &refusal;
            let (node, partition) = (context.node, data.index);
            state.lines.note(
                Level::Debug,
                format_args!("broker {node}: no batch for {found:?}, partition {partition}: {error}: {why}"),
            );
            refusal.into()
        }
    }
}

fn append(
    state: &mut ClusterState,
    context: &Context<'_>,
    request: &ProduceRequest,
    topic: Option<&str>,
    data: &PartitionProduceData,
) -> Result<Appended, Refusal> {
    let bytes = data.records.as_deref().unwrap_or_default();
    if request.transactional_id.is_none() && has_transactional(request) {
        let why = "a transactional batch without a transactional id";
        return Err(Refusal::at_the_door(ResponseError::TransactionalIdAuthorizationFailed, why));
    }
    let unknown = match context.version() {
        13.. => ResponseError::UnknownTopicId,
        _ => ResponseError::UnknownTopicOrPartition,
    };
    let topic = topic.ok_or_else(|| Refusal::at_the_door(unknown, "no such topic"))?;
    let led = state.led_partition(context.node, topic, data.index, -1).map(drop);
    if led == Err(ResponseError::UnknownTopicOrPartition) {
        return Err(Refusal::at_the_door(ResponseError::UnknownTopicOrPartition, "no such partition"));
    }
    batch_check::check_shape(bytes)?;
    if !(-1..=1).contains(&request.acks) {
        let why = format!("required acks {}, not -1, 0 or 1", request.acks);
        return Err(Refusal::new(ResponseError::InvalidRequiredAcks, why));
    }
    if batch_check::is_transactional(bytes) {
        let why = "this cluster knows no transactions";
        return Err(Refusal::new(ResponseError::InvalidProducerIdMapping, why));
    }
    led.map_err(|error| Refusal::new(error, format!("broker {} does not lead it", context.node)))?;
    let max_message_bytes = state.settings.max_message_bytes;
    let topic = state.topics.get_mut(topic).expect("led_partition found it");
    topic.append(data.index, bytes, max_message_bytes, context.now)
}

// One such batch decides for the whole request.
fn has_transactional(request: &ProduceRequest) -> bool {
    let mut batches = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    batches.any(|data| batch_check::is_transactional(data.records.as_deref().unwrap_or_default()))
}

/// The entries of each topic together, the topics in the order of their first ones.
fn by_topic(
    state: &ClusterState,
    context: &Context<'_>,
    told: Vec<(&TopicProduceData, i32, BatchAnswer)>,
) -> Vec<TopicProduceResponse> {
    let mut topics: Vec<TopicProduceResponse> = Vec::new();
    for (asked, index, told) in told {
        let known = topics.iter().position(|topic| topic.name == asked.name && topic.topic_id == asked.topic_id);
        let at = known.unwrap_or_else(|| {
            let topic = TopicProduceResponse::default().with_name(asked.name.clone()).with_topic_id(asked.topic_id);
            topics.push(topic);
            topics.len() - 1
        });
        topics[at].partition_responses.push(partition_response(state, context, asked, index, told));
    }
    topics
}

fn partition_response(
    state: &ClusterState,
    context: &Context<'_>,
    topic: &TopicProduceData,
    index: i32,
    told: BatchAnswer,
) -> PartitionProduceResponse {
    let (log_start, code) = (told.log_start(), told.code);
    let Appended { base_offset, log_append_time } = told.appended.unwrap_or(NOWHERE);
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(code)
        .with_base_offset(base_offset)
        .with_log_append_time_ms(log_append_time)
        .with_log_start_offset(log_start);
    let response = if context.version() < 8 {
        response
    } else {
        let blame = |(index, why): &(i32, String)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(Some(str_bytes(why)))
        };
        response
            .with_record_errors(told.records.iter().map(blame).collect())
            .with_error_message(told.text.as_deref().map(str_bytes))
    };
    let partition = state.wanted(&topic.name, topic.topic_id.as_bytes()).and_then(|topic| topic.partition(index));
    match partition {
        Some(partition) if code == ResponseError::NotLeaderOrFollower.code() && context.version() >= 10 => response
            .with_current_leader(
                LeaderIdAndEpoch::default()
                    .with_leader_id(partition.leader.unwrap_or(-1).into())
                    .with_leader_epoch(partition.leader_epoch),
            ),
        _ => response,
    }
}

/// The addresses of the leaders that are named in the answer (KIP-951).
fn endpoints(state: &ClusterState, context: &Context<'_>, topics: &[TopicProduceResponse]) -> Vec<NodeEndpoint> {
    if context.version() < 10 {
        return Vec::new();
    }
    let mut named: Vec<_> = topics
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .filter(|partition| partition.error_code == ResponseError::NotLeaderOrFollower.code())
        .filter_map(|partition| state.broker(*partition.current_leader.leader_id))
        .collect();
    named.sort_by_key(|broker| broker.node);
    named.dedup_by_key(|broker| broker.node);
    let endpoint = |broker: &crate::testing::state::Broker| {
        NodeEndpoint::default()
            .with_node_id(broker.node.into())
            .with_host(str_bytes(&broker.host))
            .with_port(broker.port.into())
    };
    named.into_iter().map(endpoint).collect()
}

const NOWHERE: Appended = Appended { base_offset: -1, log_append_time: -1 };

/// With these, a wait for replicas ends: Kafka's brokers have the answer by then, and only change its code.
const ENDS_A_WAIT: [ResponseError; 5] = [
    ResponseError::RequestTimedOut,
    ResponseError::NotEnoughReplicasAfterAppend,
    ResponseError::NotLeaderOrFollower,
    ResponseError::UnknownTopicOrPartition,
    ResponseError::KafkaStorageError,
];

/// With these, Kafka's brokers have not looked up the start of the partition's log.
const WITHOUT_LOG_START: [ResponseError; 8] = [
    ResponseError::CorruptMessage,
    ResponseError::NotLeaderOrFollower,
    ResponseError::MessageTooLarge,
    ResponseError::RecordListTooLarge,
    ResponseError::InvalidRequiredAcks,
    ResponseError::InvalidProducerIdMapping,
    ResponseError::TransactionalIdAuthorizationFailed,
    ResponseError::KafkaStorageError,
];

// A producer with acks 0 reads no answer: Kafka's brokers close its connection so that it notices an error.
fn without_answer(topics: &[TopicProduceResponse]) -> Response {
    let mut partitions = topics.iter().flat_map(|topic| &topic.partition_responses);
    if partitions.any(|partition| partition.error_code != 0) { Response::Close } else { Response::Silence }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ResponseError::*;
    use kafka_protocol::ResponseError;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
    use kafka_protocol::protocol::StrBytes;

    use crate::error::ErrorCode;
    use crate::testing::asking::{Asking, NOW, batch, changed, has_its_bounds, name};
    use crate::testing::requests::{Reply, Then};
    use crate::testing::{Api, ClusterBuilder, Fault, StoredMessage};

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn what_a_broker_refuses() {
        let two = [batch(1).bytes(), batch(1).bytes()].concat();
        let set = |at: usize, bytes: &'static [u8]| {
            changed(batch(2).bytes(), |batch| batch[at..at + bytes.len()].copy_from_slice(bytes))
        };
        let mut bad_crc = batch(1).bytes();
        *bad_crc.last_mut().unwrap() ^= 1;
        // The answer has the start of the log only if the batch came as far as that.
        let cases = [
            ("no bytes", Vec::new(), InvalidRecord, -1),
            ("a batch cut", batch(1).bytes()[..70].to_vec(), InvalidRecord, -1),
            ("a header cut", batch(1).bytes()[..9].to_vec(), InvalidRecord, -1),
            ("a length that cannot be", set(8, &[0, 0, 0, 13]), CorruptMessage, -1),
            ("another checksum", bad_crc, CorruptMessage, -1),
            ("two batches", two, InvalidRecord, -1),
            ("format version 1", set(16, &[1]), InvalidRecord, -1),
            ("format version 3", set(16, &[3]), CorruptMessage, -1),
            ("a base offset", set(7, &[1]), InvalidRecord, 0),
            ("compressed records that are none", set(22, &[1]), UnknownServerError, 0),
            ("a control batch", set(22, &[0x20]), InvalidRecord, 0),
            ("a transactional batch", set(22, &[0x10]), TransactionalIdAuthorizationFailed, -1),
            ("a last offset that is not count - 1", set(26, &[2]), InvalidRecord, 0),
            ("fewer records than counted", set(57, &[0, 0, 0, 3]), InvalidRecord, 0),
            ("a producer id without a sequence", batch(1).numbered(5, 0, -1).bytes(), InvalidRecord, 0),
            ("a batch over the limit", batch(1).values_of(2000).bytes(), MessageTooLarge, -1),
        ];
        for (what, bytes, error, log_start) in cases {
            let mut asking = Asking::with(ClusterBuilder::new().topic("t", 1).max_message_bytes(2000));
            let answer = asking.produce(9, "t", 0, bytes);
            assert_eq!(answer.error_code, error.code(), "{what}");
            assert_eq!((answer.base_offset, answer.log_start_offset), (-1, log_start), "{what}");
            // There are words only if it is no batch at all.
            let text = match what {
                "a length that cannot be" => Some("Record size 13 is less than the minimum record overhead (14)"),
                "format version 3" => Some("Invalid magic found in record: 3"),
                _ => None,
            };
            assert_eq!((answer.error_message.as_deref(), answer.record_errors.len()), (text, 0), "{what}");
            assert_eq!(asking.state.count("t"), 0, "{what}");
        }
    }

    #[test]
    fn compressed_records_are_refused_as_what_this_cluster_cannot_read() {
        for (codec, begin) in [(1, &b"\x1f\x8b"[..]), (3, b"\x04\x22\x4d\x18"), (4, b"\x28\xb5\x2f\xfd"), (2, b"?")] {
            let compressed = changed(batch(2).bytes(), |batch| {
                batch[22] = codec;
                batch[61..61 + begin.len()].copy_from_slice(begin);
            });
            let answer = Asking::one_broker().produce(9, "t", 0, compressed);
            assert_eq!(answer.error_code, UnsupportedCompressionType.code(), "codec {codec}");
            assert!(answer.error_message.unwrap().contains("this cluster cannot read"));
        }
    }

    #[test]
    fn what_looks_wrong_and_is_taken() {
        let cases = [
            ("an offset twice", changed(batch(2).bytes(), |batch| same_offset_twice(batch))),
            ("a producer id without an epoch", batch(2).numbered(5, -1, 0).bytes()),
            ("a sequence without a producer id", batch(2).numbered(-1, -1, 3).bytes()),
            ("from long ago", batch(2).at(0).bytes()),
            ("without a time", batch(2).at(-1).bytes()),
            ("an hour ahead", batch(2).at(NOW.as_millis() + HOUR_MS).bytes()),
        ];
        for (what, bytes) in cases {
            let mut asking = Asking::one_broker();
            let answer = asking.produce(9, "t", 0, bytes);
            assert_eq!((answer.error_code, answer.base_offset, asking.state.count("t")), (0, 0, 2), "{what}");
        }
    }

    // Record 0: length, attributes, time, offset. The second record begins behind the first; both are equally long.
    fn same_offset_twice(batch: &mut [u8]) {
        let record = (batch.len() - 61) / 2;
        assert_eq!(batch[61 + record + 3], 2, "zigzag of offset delta 1");
        batch[61 + record + 3] = 0;
    }

    #[test]
    fn times_out_of_range_are_named_with_the_range() {
        let mut asking = Asking::one_broker();
        let late = NOW.as_millis() + HOUR_MS + 1;
        let answer = asking.produce(9, "t", 0, batch(2).time_of(1, late).bytes());
        assert_eq!((answer.error_code, answer.base_offset, answer.log_start_offset), (InvalidTimestamp.code(), -1, 0));
        let text = answer.error_message.unwrap();
        assert_eq!(&*text, "One or more records have been rejected due to invalid timestamp");
        let blamed: Vec<_> = answer.record_errors.iter().map(blame).collect();
        // All times in the past are allowed: message.timestamp.before.max.ms is the largest number.
        let earliest = NOW.as_millis() - i64::MAX;
        let latest = NOW.as_millis() + HOUR_MS;
        let why = format!(
            "Timestamp {late} of message with offset 1 is out of range. The timestamp should be within \
             [{earliest}, {latest}]"
        );
        assert_eq!(blamed, [(1, why)]);
        assert_eq!(asking.produce(7, "t", 0, batch(1).at(late).bytes()).error_code, InvalidTimestamp.code());
        assert_eq!(asking.state.count("t"), 0);
    }

    #[test]
    fn every_version_appends() {
        let mut asking = Asking::one_broker();
        for (offset, version) in (0..).zip(3..=13) {
            let answer = asking.produce(version, "t", 0, batch(1).bytes());
            assert_eq!((answer.error_code, answer.base_offset), (0, offset), "version {version}");
            assert_eq!(answer.log_append_time_ms, -1);
        }
        for version in 3..=13 {
            let answer = asking.produce(version, "t", 7, batch(1).bytes());
            assert_eq!(answer.error_code, UnknownTopicOrPartition.code(), "version {version}");
        }
    }

    #[test]
    fn messages_are_as_they_were_produced() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("t", 2));
        asking.produce(9, "t", 1, batch(1).bytes());
        asking.produce(9, "t", 0, batch(1).bytes());
        asking.produce(9, "t", 0, batch(2).numbered(7, 3, i32::MAX).bytes());
        let messages = asking.state.messages("t");
        let places: Vec<_> = messages.iter().map(|message| (message.partition, message.offset)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0)]);
        let expected = StoredMessage {
            partition: 0,
            offset: 2,
            key: Some(b"k1".to_vec()),
            value: Some(b"v1".to_vec()),
            headers: vec![("h".to_owned(), Some(b"1".to_vec())), ("h".to_owned(), None)],
            timestamp: NOW,
            producer_id: 7,
            producer_epoch: 3,
            sequence: 0,
        };
        assert_eq!(messages[2], expected);
        assert_eq!((messages[0].producer_id, messages[0].sequence), (-1, -1));
    }

    #[test]
    fn a_repeated_batch_has_its_first_offset_and_is_not_appended() {
        let mut asking = Asking::one_broker();
        asking.produce(9, "t", 0, batch(2).bytes());
        for _ in 0..2 {
            let answer = asking.produce(9, "t", 0, batch(3).numbered(7, 0, 0).bytes());
            assert_eq!((answer.error_code, answer.base_offset), (0, 2));
        }
        let gap = asking.produce(9, "t", 0, batch(1).numbered(7, 0, 4).bytes());
        assert_eq!((gap.error_code, gap.base_offset), (OutOfOrderSequenceNumber.code(), -1));
        assert_eq!(asking.produce(9, "t", 0, batch(1).numbered(7, 1, 0).bytes()).error_code, 0);
        let old = asking.produce(9, "t", 0, batch(1).numbered(7, 0, 3).bytes());
        assert_eq!(old.error_code, InvalidProducerEpoch.code());
        assert_eq!(asking.state.count("t"), 6);
    }

    #[test]
    fn compacted_topics_name_the_records_without_a_key() {
        let mut asking = Asking::with(ClusterBuilder::new().compacted_topic("t", 1));
        let answer = asking.produce(9, "t", 0, batch(5).without_keys().bytes());
        assert_eq!((answer.error_code, answer.base_offset, answer.log_start_offset), (InvalidRecord.code(), -1, 0));
        let why = "Compacted topic cannot accept message without key in topic partition t-0";
        let blamed: Vec<_> = answer.record_errors.iter().map(blame).collect();
        assert_eq!(blamed, (0..5).map(|index| (index, why.to_owned())).collect::<Vec<_>>());
        let text = answer.error_message.unwrap();
        assert!(text.starts_with("One or more records have been rejected due to 5 record errors in total"), "{text}");
        assert_eq!(text.matches(why).count(), 3, "{text}");
        assert_eq!(asking.produce(7, "t", 0, batch(2).without_keys().bytes()).error_code, InvalidRecord.code());
        assert_eq!(asking.produce(9, "t", 0, batch(2).bytes()).error_code, 0);
    }

    #[test]
    fn culprits_of_both_kinds_stand_in_the_order_of_their_records() {
        let mut asking = Asking::with(ClusterBuilder::new().compacted_topic("t", 1));
        let late = NOW.as_millis() + HOUR_MS + 1;
        let mixed = batch(4).time_of(1, late).keyless(0).keyless(2).time_of(2, late);
        let answer = asking.produce(9, "t", 0, mixed.bytes());
        assert_eq!(answer.error_code, InvalidTimestamp.code());
        let blamed: Vec<_> = answer.record_errors.iter().map(blame).collect();
        // The record with both faults is blamed for its missing key.
        let kinds: Vec<_> = blamed.iter().map(|(index, why)| (*index, why.starts_with("Timestamp"))).collect();
        assert_eq!(kinds, [(0, false), (1, true), (2, false)]);
        let only_both = batch(1).keyless(0).time_of(0, late);
        assert_eq!(asking.produce(9, "t", 0, only_both.bytes()).error_code, InvalidRecord.code());
        assert_eq!(asking.state.count("t"), 0);
    }

    fn blame(record: &super::BatchIndexAndErrorMessage) -> (i32, String) {
        (record.batch_index, record.batch_index_error_message.as_ref().unwrap().to_string())
    }

    #[test]
    fn the_broker_writes_the_time_where_the_topic_says_so() {
        let mut asking = Asking::with(ClusterBuilder::new().log_append_time_topic("t", 1));
        let answer = asking.produce(9, "t", 0, batch(2).at(NOW.as_millis() + 2 * HOUR_MS).bytes());
        assert_eq!((answer.error_code, answer.log_append_time_ms), (0, NOW.as_millis()));
        assert!(asking.state.messages("t").iter().all(|message| message.timestamp == NOW));
    }

    #[test]
    fn another_broker_names_the_leader() {
        let mut asking = Asking::with(ClusterBuilder::new().brokers(2).topic("t", 2));
        for version in 3..=13 {
            let request = asking.produce_request(version, "t", 0, batch(1).bytes());
            let response = asking.ask(2, version, &request);
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(answer.error_code, NotLeaderOrFollower.code(), "version {version}");
            let endpoints: Vec<_> =
                response.node_endpoints.iter().map(|node| (*node.node_id, &*node.host, node.port)).collect();
            if version >= 10 {
                assert_eq!((*answer.current_leader.leader_id, answer.current_leader.leader_epoch), (1, 0));
                assert_eq!(endpoints, [(1, "127.0.0.1", 9091)]);
            } else {
                assert_eq!(endpoints, []);
            }
        }
    }

    #[test]
    fn a_topic_that_is_gone_is_unknown_by_name_and_by_id() {
        let mut asking = Asking::one_broker();
        let by_id = asking.produce_request(13, "t", 0, batch(1).bytes());
        let by_name = asking.produce_request(12, "t", 0, batch(1).bytes());
        asking.state.delete_topic("t");
        let code = |response: ProduceResponse| response.responses[0].partition_responses[0].error_code;
        assert_eq!(code(asking.ask(1, 13, &by_id)), UnknownTopicId.code());
        assert_eq!(code(asking.ask(1, 12, &by_name)), UnknownTopicOrPartition.code());
    }

    #[test]
    fn other_acks_than_kafka_knows_are_refused() {
        let mut asking = Asking::one_broker();
        let request = asking.produce_request(9, "t", 0, batch(1).bytes()).with_acks(2);
        let response = asking.ask(1, 9, &request);
        assert_eq!(response.responses[0].partition_responses[0].error_code, InvalidRequiredAcks.code());
        assert_eq!(asking.state.count("t"), 0);
    }

    #[test]
    fn without_acks_only_an_error_is_noticed_by_the_end_of_the_connection() {
        let mut asking = Asking::one_broker();
        let good = asking.produce_request(9, "t", 0, batch(1).bytes()).with_acks(0);
        let bad = asking.produce_request(9, "t", 7, batch(1).bytes()).with_acks(0);
        let mut then = |request| match asking.reply(1, 9, &request) {
            Reply::Send { bytes, then, .. } => (bytes.len(), then),
            Reply::Park(_) => panic!("parked"),
        };
        assert_eq!(then(good), (0, Then::Continue));
        assert_eq!(then(bad), (0, Then::Close));
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn one_bad_partition_does_not_touch_the_others() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("t", 2));
        let mut request = asking.produce_request(9, "t", 0, vec![1, 2, 3]);
        let other = asking.produce_request(9, "t", 1, batch(1).bytes());
        request.topic_data[0].partition_data.extend(other.topic_data[0].partition_data.clone());
        request.topic_data.push(request.topic_data[0].clone().with_name(name("unknown")));
        let mut found = answers(&asking.ask(1, 9, &request));
        found.sort_unstable();
        let unknown = UnknownTopicOrPartition.code();
        let expected = [("t", 0, InvalidRecord.code()), ("t", 1, 0), ("unknown", 0, unknown), ("unknown", 1, unknown)];
        assert_eq!(found, expected.map(|(topic, partition, code)| (topic.to_owned(), partition, code)));
    }

    /// Topic, partition and error code of each entry, in the order in which they come.
    fn answers(response: &ProduceResponse) -> Vec<(String, i32, i16)> {
        let topics = response.responses.iter();
        topics
            .flat_map(|topic| {
                let name = topic.name.to_string();
                topic.partition_responses.iter().map(move |it| (name.clone(), it.index, it.error_code))
            })
            .collect()
    }

    #[test]
    fn answers_come_in_another_order_than_what_was_asked() {
        let mut asking = Asking::with(ClusterBuilder::new().topic("t", 6));
        let mut request = asking.produce_request(9, "t", 0, Vec::new());
        request.topic_data[0].partition_data = [7, 0, 1, 2, 3, 4, 5]
            .map(|index| {
                let records = if index == 2 { Vec::new() } else { batch(1).bytes() };
                PartitionProduceData::default().with_index(index).with_records(Some(records.into()))
            })
            .to_vec();
        let mut ask = || -> Vec<_> {
            let entries = answers(&asking.ask(1, 9, &request));
            entries.into_iter().map(|(_, index, code)| (index, code)).collect()
        };
        let found = ask();
        assert_eq!(ask(), found, "the same request is answered in the same order");
        let (invalid, unknown) = (InvalidRecord.code(), UnknownTopicOrPartition.code());
        let as_asked = [(7, unknown), (0, 0), (1, 0), (2, invalid), (3, 0), (4, 0), (5, 0)];
        assert_ne!(found, as_asked);
        assert_eq!(BTreeSet::from_iter(found), BTreeSet::from(as_asked));
    }

    #[test]
    fn of_a_partition_that_stands_twice_only_the_last_batch_is_stored() {
        for version in 3..=13 {
            let mut asking = Asking::one_broker();
            let mut request = asking.produce_request(version, "t", 0, batch(1).bytes());
            let last = asking.produce_request(version, "t", 0, batch(3).numbered(7, 0, 1).bytes());
            let topic_again = last.clone();
            request.topic_data[0].partition_data.extend(last.topic_data[0].partition_data.clone());
            request.topic_data.extend(topic_again.topic_data);
            let response = asking.ask(1, version, &request);
            let entries: Vec<_> = response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
            assert_eq!(entries.len(), 1, "version {version}");
            assert_eq!((entries[0].error_code, entries[0].base_offset), (0, 0));
            let sequences: Vec<_> = asking.state.messages("t").iter().map(|message| message.sequence).collect();
            assert_eq!(sequences, [1, 2, 3], "version {version}");
        }
    }

    #[test]
    fn transactional_batches_need_a_transactional_id_and_this_cluster_knows_none() {
        let transactional = || changed(batch(1).numbered(5, 0, 0).bytes(), |batch| batch[22] = 0x10);
        let mut asking = Asking::with(ClusterBuilder::new().topic("t", 2));
        let mut request = asking.produce_request(9, "t", 0, transactional());
        let plain = asking.produce_request(9, "t", 1, batch(1).bytes());
        request.topic_data[0].partition_data.extend(plain.topic_data[0].partition_data.clone());
        let codes = |response: &ProduceResponse| {
            let mut codes: Vec<_> = answers(response).iter().map(|(_, index, code)| (*index, *code)).collect();
            codes.sort_unstable();
            codes
        };
        let denied = TransactionalIdAuthorizationFailed.code();
        assert_eq!(codes(&asking.ask(1, 9, &request)), [(0, denied), (1, denied)]);
        assert_eq!(asking.state.count("t"), 0);
        let id = StrBytes::from_static_str("unknown");
        let request = request.with_transactional_id(Some(id.into()));
        assert_eq!(codes(&asking.ask(1, 9, &request)), [(0, InvalidProducerIdMapping.code()), (1, 0)]);
        assert_eq!(asking.state.count("t"), 1);
    }

    #[test]
    fn an_error_after_the_append_has_the_offset_of_the_batch() {
        let mut asking = Asking::with(ClusterBuilder::new().log_append_time_topic("t", 1));
        asking.produce(9, "t", 0, batch(2).bytes());
        // DUPLICATE_SEQUENCE_NUMBER does not come from a wait for replicas.
        for (error, base_offset) in
            [(RequestTimedOut, 2), (NotEnoughReplicasAfterAppend, 3), (DuplicateSequenceNumber, -1)]
        {
            asking.state.inject(Fault::on(Api::Produce).error_after(ErrorCode(error.code())).times(1));
            let answer = asking.produce(9, "t", 0, batch(1).bytes());
            assert_eq!(
                (answer.error_code, answer.base_offset, answer.log_start_offset),
                (error.code(), base_offset, 0)
            );
            assert_eq!(answer.log_append_time_ms, if base_offset < 0 { -1 } else { NOW.as_millis() });
            assert_eq!(answer.error_message, None);
        }
        assert_eq!(asking.state.count("t"), 5);
    }

    #[test]
    fn refusals_say_where_the_log_starts_where_kafka_does() {
        let cases = [(3, -1), (6, -1), (10, -1), (56, -1), (100, -1), (19, 0), (32, 0), (45, 0), (47, 0), (87, 0)];
        for (code, log_start) in cases {
            let mut asking = Asking::one_broker();
            asking.state.inject(Fault::on(Api::Produce).error(ErrorCode(code)));
            let answer = asking.produce(9, "t", 0, batch(1).bytes());
            assert_eq!((answer.error_code, answer.base_offset, answer.log_start_offset), (code, -1, log_start));
            assert_eq!(answer.error_message, None);
        }
    }

    #[test]
    fn every_version_has_its_bounds() {
        has_its_bounds(super::REQUEST, |version| {
            let partition = PartitionProduceData::default().with_records(Some(vec![1, 2, 3].into()));
            let topic = TopicProduceData::default().with_partition_data(vec![partition; 2]);
            let topic = if version < 13 { topic.with_name(name("t")) } else { topic };
            ProduceRequest::default().with_topic_data(vec![topic; 2])
        });
    }
}

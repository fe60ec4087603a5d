//! Produce: checks each partition's batch and appends it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::{Context, Outcome, text};
use crate::testing::batch_check::Refusal;
use crate::testing::state::ClusterState;
use crate::testing::topic::Appended;

pub(super) fn handle(state: &mut ClusterState, context: &Context<'_>, request: &ProduceRequest) -> Outcome {
    let mut topics = Vec::new();
    for asked in &request.topic_data {
        let name = state.wanted(&asked.name, asked.topic_id.as_bytes()).map(|topic| topic.name.clone());
        let partitions = asked.partition_data.iter().map(|data| {
            let answer = match &name {
                Some(name) => with_faults(state, context, request, name, data),
                None => Err(unknown_topic(context, &asked.name, data)),
            };
            partition_response(state, context, name.as_deref(), data.index, answer)
        });
        let partitions = partitions.collect();
        topics.push(topic_response(asked, partitions));
    }
    if topics.iter().flat_map(|topic| &topic.partition_responses).any(|partition| partition.error_code == 0) {
        state.note_news();
    }
    if request.acks == 0 {
        return without_answer(&topics);
    }
    let node_endpoints = endpoints(state, context, &topics);
    let response = ProduceResponse::default()
        .with_responses(topics)
        .with_throttle_time_ms(context.hits.throttle_ms)
        .with_node_endpoints(node_endpoints);
    context.answer(&response)
}

/// A refusal, with the code that an injected fault may have given in place of Kafka's.
struct Refused {
    code: i16,
    refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.error.code(), refusal }
    }
}

impl Refused {
    fn injected(code: i16) -> Self {
        Self { code, refusal: Refusal::new(ResponseError::UnknownServerError, "an injected fault") }
    }
}

fn with_faults(
    state: &mut ClusterState,
    context: &Context<'_>,
    request: &ProduceRequest,
    topic: &str,
    data: &PartitionProduceData,
) -> Result<Appended, Refused> {
    let errors = context.errors_for(topic, data.index);
    if let Some(code) = errors.before {
        return Err(Refused::injected(code));
    }
    let appended = append(state, context, request, topic, data)?;
    errors.after.map_or(Ok(appended), |code| Err(Refused::injected(code)))
}

fn append(
    state: &mut ClusterState,
    context: &Context<'_>,
    request: &ProduceRequest,
    topic: &str,
    data: &PartitionProduceData,
) -> Result<Appended, Refusal> {
    if !(-1..=1).contains(&request.acks) {
        let why = format!("required acks {}, not -1, 0 or 1", request.acks);
        return Err(Refusal::new(ResponseError::InvalidRequiredAcks, why));
    }
    let led = state.led_partition(context.node, topic, data.index, -1).map(drop);
    led.map_err(|error| Refusal::new(error, format!("broker {} does not lead it", context.node)))?;
    let max_message_bytes = state.settings.max_message_bytes;
    let topic = state.topics.get_mut(topic).expect("led_partition found it");
    topic.append(data.index, data.records.as_deref().unwrap_or_default(), max_message_bytes, context.now)
}

fn unknown_topic(context: &Context<'_>, name: &str, data: &PartitionProduceData) -> Refused {
    if let Some(code) = context.errors_for(name, data.index).before {
        return Refused::injected(code);
    }
    let error = match context.version() {
        13.. => ResponseError::UnknownTopicId,
        _ => ResponseError::UnknownTopicOrPartition,
    };
    Refusal::new(error, "no such topic").into()
}

fn topic_response(asked: &TopicProduceData, partitions: Vec<PartitionProduceResponse>) -> TopicProduceResponse {
    TopicProduceResponse::default()
        .with_name(asked.name.clone())
        .with_topic_id(asked.topic_id)
        .with_partition_responses(partitions)
}

fn partition_response(
    state: &ClusterState,
    context: &Context<'_>,
    topic: Option<&str>,
    index: i32,
    answer: Result<Appended, Refused>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    let Refused { code, refusal } = match answer {
        Ok(Appended { base_offset, log_append_time }) => {
            return response
                .with_base_offset(base_offset)
                .with_log_append_time_ms(log_append_time)
                .with_log_start_offset(0);
        }
        Err(refused) => refused,
    };
    let response = response.with_error_code(code).with_base_offset(-1).with_log_append_time_ms(-1);
    let response = if context.version() < 8 {
        response
    } else {
        let blame = |(index, why): &(i32, String)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(Some(text(why)))
        };
        response
            .with_record_errors(refusal.records.iter().map(blame).collect())
            .with_error_message(Some(text(&refusal.why)))
    };
    let partition = topic.and_then(|topic| state.topics.get(topic)?.partition(index));
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
            .with_host(text(&broker.host))
            .with_port(broker.port.into())
    };
    named.into_iter().map(endpoint).collect()
}

// A producer with acks 0 reads no answer: Kafka's brokers close its connection so that it notices an error.
fn without_answer(topics: &[TopicProduceResponse]) -> Outcome {
    let mut partitions = topics.iter().flat_map(|topic| &topic.partition_responses);
    if partitions.any(|partition| partition.error_code != 0) { Outcome::Close } else { Outcome::Silence }
}

#[cfg(test)]
mod tests {
    use ResponseError::*;
    use kafka_protocol::ResponseError;

    use crate::testing::asking::{Asking, NOW, batch, changed, name};
    use crate::testing::state::{Reply, Then};
    use crate::testing::{ClusterBuilder, StoredMessage};

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn what_a_broker_refuses() {
        let two = [batch(1).bytes(), batch(1).bytes()].concat();
        let set = |at: usize, bytes: &'static [u8]| {
            changed(batch(2).bytes(), |batch| batch[at..at + bytes.len()].copy_from_slice(bytes))
        };
        let mut bad_crc = batch(1).bytes();
        *bad_crc.last_mut().unwrap() ^= 1;
        let cases = [
            ("no bytes", Vec::new(), CorruptMessage),
            ("a batch cut", batch(1).bytes()[..70].to_vec(), CorruptMessage),
            ("another checksum", bad_crc, CorruptMessage),
            ("two batches", two, InvalidRecord),
            ("format version 1", set(16, &[1]), InvalidRecord),
            ("a base offset", set(7, &[1]), InvalidRecord),
            ("compressed records", set(22, &[1]), UnsupportedCompressionType),
            ("a control batch", set(22, &[0x20]), InvalidRecord),
            ("a transactional batch", set(22, &[0x10]), InvalidTxnState),
            ("a last offset that is not count - 1", set(26, &[2]), InvalidRecord),
            ("fewer records than counted", set(57, &[0, 0, 0, 3]), InvalidRecord),
            ("a producer id without a sequence", batch(1).numbered(5, 0, -1).bytes(), InvalidRecord),
            ("the first offset twice", changed(batch(2).bytes(), |batch| same_offset_twice(batch)), InvalidRecord),
            ("a batch over the limit", batch(1).values_of(2000).bytes(), MessageTooLarge),
            ("more than an hour ahead", batch(2).at(NOW.as_millis() + HOUR_MS + 1).bytes(), InvalidTimestamp),
        ];
        for (what, bytes, error) in cases {
            let mut asking = Asking::with(ClusterBuilder::new().topic("t", 1).max_message_bytes(2000));
            let answer = asking.produce(9, "t", 0, bytes);
            assert_eq!(answer.error_code, error.code(), "{what}: {:?}", answer.error_message);
            assert_eq!((answer.base_offset, asking.state.count("t")), (-1, 0), "{what}");
        }
    }

    // Record 0: length, attributes, time, offset. The second record begins behind the first; both are equally long.
    fn same_offset_twice(batch: &mut [u8]) {
        let record = (batch.len() - 61) / 2;
        assert_eq!(batch[61 + record + 3], 2, "zigzag of offset delta 1");
        batch[61 + record + 3] = 0;
    }

    #[test]
    fn an_hour_ahead_is_not_too_far() {
        let mut asking = Asking::one_broker();
        let answer = asking.produce(9, "t", 0, batch(1).at(NOW.as_millis() + HOUR_MS).bytes());
        assert_eq!(answer.error_code, 0);
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
        let answer = asking.produce(9, "t", 0, batch(2).without_keys().bytes());
        assert_eq!(answer.error_code, InvalidRecord.code());
        let blamed: Vec<_> = answer.record_errors.iter().map(|record| record.batch_index).collect();
        assert_eq!(blamed, [0, 1]);
        assert_eq!(asking.produce(7, "t", 0, batch(2).without_keys().bytes()).error_code, InvalidRecord.code());
        assert_eq!(asking.produce(9, "t", 0, batch(2).bytes()).error_code, 0);
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
        let code = |response: kafka_protocol::messages::ProduceResponse| {
            response.responses[0].partition_responses[0].error_code
        };
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
        let response = asking.ask(1, 9, &request);
        let codes: Vec<Vec<_>> = (response.responses.iter())
            .map(|topic| topic.partition_responses.iter().map(|partition| partition.error_code).collect())
            .collect();
        let unknown = UnknownTopicOrPartition.code();
        assert_eq!(codes, [[CorruptMessage.code(), 0], [unknown, unknown]]);
    }
}

//! Produce: appends batches to partitions. Requests are framed by hand around the batches, so that records are not
//! copied again.

use std::sync::Arc;
use std::time::Duration;

use super::metadata::{self, BrokerMetadata};
use crate::error::ErrorCode;
use crate::wire::reader::Reader;
use crate::wire::request::{begin, finish, put_string, put_varint};
use crate::wire::{Api, CorrelationId, Frame, WireError};

/// Bytes in front of the records of a batch.
pub const BATCH_HEADER: usize = 61;

/// A request to append batches, without a transaction.
#[derive(Clone, Copy, Debug)]
pub struct ProduceRequest<'a> {
    /// 3 to 13.
    pub version: i16,
    /// The number that the broker repeats in its answer.
    pub correlation: CorrelationId,
    /// The client's name.
    pub client_id: &'a str,
    /// The number of replicas that must have the batches: 0 (then no answer comes), 1, or -1 for all in sync.
    pub acks: i16,
    /// The time that the broker may wait for them, in milliseconds.
    pub timeout_ms: i32,
    /// The batches, at most one for each partition, those of a topic next to each other.
    pub batches: &'a [ProduceBatch<'a>],
}

/// A batch and the partition that it goes to.
#[derive(Clone, Debug)]
pub struct ProduceBatch<'a> {
    /// The topic's name, sent before version 13: at most 249 bytes.
    pub topic: &'a str,
    /// The topic's id, sent from version 13 on (KIP-516).
    pub topic_id: [u8; 16],
    /// The partition.
    pub partition: i32,
    /// The batch's header, from the base offset to the record count.
    pub header: [u8; BATCH_HEADER],
    /// The bytes behind the header: the records, compressed or not.
    pub records: Arc<Vec<u8>>,
}

impl ProduceRequest<'_> {
    /// The request with its size in front; the records are shared with the batches.
    ///
    /// # Panics
    ///
    /// If it is 2 GiB or more.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let overhead: usize = self.batches.iter().map(|batch| topic_overhead(batch.topic) + BATCH_OVERHEAD).sum();
        let mut own = Vec::with_capacity(request_overhead(self.client_id) + overhead);
        let mut splices = Vec::with_capacity(self.batches.len());

        begin(&mut own, Api::Produce, self.version, self.correlation, self.client_id);
        self.put_null_string(&mut own);
        own.extend(self.acks.to_be_bytes());
        own.extend(self.timeout_ms.to_be_bytes());
        self.put_length(&mut own, self.topics().count());
        for batches in self.topics() {
            self.put_topic(&mut own, &batches[0]);
            self.put_length(&mut own, batches.len());
            for batch in batches {
                own.extend(batch.partition.to_be_bytes());
                self.put_length(&mut own, BATCH_HEADER + batch.records.len());
                own.extend(batch.header);
                splices.push((own.len(), batch.records.clone()));
                self.put_no_tags(&mut own);
            }
            self.put_no_tags(&mut own);
        }
        self.put_no_tags(&mut own);
        finish(own, splices)
    }

    /// The batches by topic: never an empty slice.
    fn topics(&self) -> impl Iterator<Item = &[ProduceBatch<'_>]> {
        let by_id = self.version >= FIRST_WITH_IDS;
        self.batches.chunk_by(move |a, b| if by_id { a.topic_id == b.topic_id } else { a.topic == b.topic })
    }

    fn put_topic(&self, own: &mut Vec<u8>, batch: &ProduceBatch<'_>) {
        if self.version >= FIRST_WITH_IDS {
            own.extend(batch.topic_id);
        } else if self.is_flexible() {
            self.put_length(own, batch.topic.len());
            own.extend(batch.topic.as_bytes());
        } else {
            put_string(own, batch.topic);
        }
    }

    fn put_null_string(&self, own: &mut Vec<u8>) {
        if self.is_flexible() {
            own.push(0);
        } else {
            own.extend((-1_i16).to_be_bytes());
        }
    }

    fn put_length(&self, own: &mut Vec<u8>, length: usize) {
        let length = i32::try_from(length).expect("a request is far below 2 GiB: batches are limited");
        if self.is_flexible() {
            put_varint(own, length.unsigned_abs() + 1);
        } else {
            own.extend(length.to_be_bytes());
        }
    }

    fn put_no_tags(&self, own: &mut Vec<u8>) {
        if self.is_flexible() {
            own.push(0);
        }
    }

    fn is_flexible(&self) -> bool {
        Api::Produce.is_flexible(self.version)
    }
}

/// The most bytes of a request that are neither topics nor batches.
#[must_use]
pub fn request_overhead(client_id: &str) -> usize {
    4 + 8 + 2 + client_id.len() + 1 + 2 + 2 + 4 + 5 + 1
}

/// The most bytes around the batches of a topic.
#[must_use]
pub fn topic_overhead(name: &str) -> usize {
    (5 + name.len()).max(16) + 5 + 1
}

/// The most bytes around the records of a batch, its header included.
pub const BATCH_OVERHEAD: usize = 4 + 5 + BATCH_HEADER + 1;

/// Reads a response frame without its size.
pub fn decode(version: i16, frame: &[u8]) -> Result<ProduceResponse, WireError> {
    let mut body = Reader::body(Api::Produce, version, frame)?;
    let topics = body.array("responses", MIN_TOPIC, |body| topic(version, body).map(Some))?;
    let throttle = body.millis("throttle_time_ms")?;
    let mut node_endpoints = Vec::new();
    body.tags("response", |tag, body| {
        if tag == 0 && version >= FIRST_WITH_LEADERS {
            node_endpoints =
                body.array("node_endpoints", metadata::MIN_BROKER, |body| metadata::broker(body).map(Some))?;
        }
        Ok(())
    })?;
    Ok(ProduceResponse { throttle, topics, node_endpoints })
}

/// The results of the batches of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    /// The time for which the broker asks to be left alone.
    pub throttle: Duration,
    /// The topics of the request.
    pub topics: Vec<TopicResult>,
    /// The addresses of the brokers that are named as current leaders (version 10 and up, KIP-951).
    pub node_endpoints: Vec<BrokerMetadata>,
}

/// The results of the batches of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicResult {
    /// The topic's name; empty from version 13 on.
    pub name: Box<str>,
    /// The topic's id, from version 13 on.
    pub id: Option<[u8; 16]>,
    /// Its partitions.
    pub partitions: Vec<PartitionResult>,
}

/// The result of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResult {
    /// The partition.
    pub index: i32,
    /// The reason why the batch was not appended.
    pub error: ErrorCode,
    /// The offset of its first record, or -1.
    pub base_offset: i64,
    /// The time at which the broker appended it, in milliseconds since 1970, if the topic keeps that time rather than
    /// the messages' own; else -1.
    pub log_append_time: i64,
    /// Records for which the batch was refused: their index in the batch, and why (version 8 and up, KIP-467).
    pub record_errors: Vec<(i32, Option<Box<str>>)>,
    /// The reason why the batch was refused, in words (version 8 and up).
    pub error_message: Option<Box<str>>,
    /// The node id and epoch of the leader, where the broker knows a newer one (version 10 and up, KIP-951).
    pub current_leader: Option<(i32, i32)>,
}

fn topic(version: i16, body: &mut Reader<'_>) -> Result<TopicResult, WireError> {
    let (name, id) = if version >= FIRST_WITH_IDS {
        (Box::default(), body.uuid("topic_id")?)
    } else {
        (body.string("name")?.into(), None)
    };
    let partitions = body.array("partition_responses", MIN_PARTITION, |body| partition(version, body).map(Some))?;
    body.skip_tags("responses")?;
    Ok(TopicResult { name, id, partitions })
}

fn partition(version: i16, body: &mut Reader<'_>) -> Result<PartitionResult, WireError> {
    let index = body.i32("index")?;
    let error = ErrorCode(body.i16("error_code")?);
    let base_offset = body.i64("base_offset")?;
    let log_append_time = body.i64("log_append_time_ms")?;
    if version >= 5 {
        body.i64("log_start_offset")?;
    }
    let mut record_errors = Vec::new();
    let mut error_message = None;
    if version >= 8 {
        record_errors = body.array("record_errors", MIN_RECORD_ERROR, |body| record_error(body).map(Some))?;
        error_message = body.nullable_words("error_message")?;
    }
    let mut current_leader = None;
    body.tags("partition_responses", |tag, body| {
        if tag == 0 && version >= FIRST_WITH_LEADERS {
            let (node, epoch) = (body.i32("leader_id")?, body.i32("leader_epoch")?);
            body.skip_tags("current_leader")?;
            current_leader = (node >= 0).then_some((node, epoch));
        }
        Ok(())
    })?;
    Ok(PartitionResult { index, error, base_offset, log_append_time, record_errors, error_message, current_leader })
}

fn record_error(body: &mut Reader<'_>) -> Result<(i32, Option<Box<str>>), WireError> {
    let index = body.i32("batch_index")?;
    let message = body.nullable_words("batch_index_error_message")?;
    body.skip_tags("record_errors")?;
    Ok((index, message))
}

const FIRST_WITH_LEADERS: i16 = 10;
const FIRST_WITH_IDS: i16 = 13;

// Bytes of the shortest elements in any version: compact lengths and tag counts take one byte.
const MIN_TOPIC: usize = 1 + 1 + 1;
const MIN_PARTITION: usize = 4 + 2 + 8 + 8;
const MIN_RECORD_ERROR: usize = 4 + 1 + 1;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{ProduceRequest as TheirRequest, ProduceResponse as Theirs, TopicName};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::WireErrorKind;
    use crate::wire::oracle::*;

    const API: Api = Api::Produce;

    #[test]
    fn one_batch_is_framed_as_kafka_protocol_does() {
        for version in versions(API) {
            let batches = [batch("orders", 7, 0, b"some records")];
            same_frame(&request_with(version, "me", &batches));
        }
    }

    #[test]
    fn several_topics_and_partitions_are_framed_as_kafka_protocol_does() {
        // Records whose compact lengths take one, two and three bytes.
        let long = vec![9; 300];
        let longer = vec![9; 20_000];
        for version in versions(API) {
            let batches = [
                batch("orders", 1, 0, b""),
                batch("orders", 1, 5, &long),
                batch("orders", 1, 2, &longer),
                batch("a", 2, i32::MAX, b"x"),
                batch("żółw", 3, 1, b"y"),
                batch("żółw", 3, 0, &long),
            ];
            let request = ProduceRequest { acks: 1, timeout_ms: i32::MAX, ..request_with(version, "", &batches) };
            same_frame(&request);
        }
    }

    #[test]
    fn a_recreated_topic_is_another_one_where_ids_are_sent() {
        let batches = [batch("orders", 1, 0, b"old"), batch("orders", 2, 1, b"new")];
        for version in versions(API) {
            let request = request_with(version, "me", &batches);
            same_frame(&request);
            assert_eq!(request.topics().count(), if version >= 13 { 2 } else { 1 });
        }
    }

    #[test]
    fn no_batch_is_framed_as_kafka_protocol_does() {
        for version in versions(API) {
            same_frame(&request_with(version, "me", &[]));
        }
    }

    proptest! {
        #[test]
        fn any_batches_are_framed_as_kafka_protocol_does(
            version in 3_i16..=13,
            topics in proptest::collection::vec((0_u8..4, any::<i32>(), 0_usize..300), 0..200),
            client_id in "[a-z]{0,200}",
        ) {
            let names = ["t", "orders", "a-topic-with-a-name-of-no-less-than-sixty-four-bytes-for-a-longer-length", "u"];
            let batches: Vec<_> = topics
                .into_iter()
                .map(|(topic, partition, length)| batch(names[usize::from(topic)], topic, partition, &vec![topic; length]))
                .collect();
            same_frame(&request_with(version, &client_id, &batches));
        }
    }

    #[test]
    fn many_topics_take_no_more_than_foretold() {
        let names: Vec<_> = (0..200).map(|topic| format!("{topic:0249}")).collect();
        let batches: Vec<_> = names.iter().zip(0..).map(|(name, id)| batch(name, id, 0, b"")).collect();
        for version in versions(API) {
            same_frame(&request_with(version, "me", &batches));
        }
    }

    #[test]
    fn records_are_shared_rather_than_copied() {
        let batches = [batch("orders", 1, 0, &[1; 5000])];
        let frame = request_with(9, "me", &batches).frame();
        assert_eq!(Arc::strong_count(&batches[0].records), 2);
        drop(frame);
        assert_eq!(Arc::strong_count(&batches[0].records), 1);
    }

    #[test]
    fn a_client_id_that_no_header_can_hold_is_cut() {
        let id = format!("{}ł", "x".repeat(32_766));
        let frame = request_with(9, &id, &[]).frame().to_vec();
        assert_eq!(frame, request_with(9, &id[..32_766], &[]).frame().to_vec());
    }

    #[test]
    fn round_trip() {
        for version in versions(API) {
            let leaders = version >= 10;
            let first = PartitionResult {
                index: 0,
                error: ErrorCode::NONE,
                base_offset: 1 << 40,
                log_append_time: 1_700_000_000_000,
                record_errors: vec![],
                error_message: None,
                current_leader: None,
            };
            let refused = PartitionResult {
                index: 5,
                error: ErrorCode::INVALID_RECORD,
                base_offset: -1,
                log_append_time: -1,
                record_errors: if version >= 8 { vec![(2, Some("no key".into())), (3, None)] } else { vec![] },
                error_message: (version >= 8).then(|| "refused".into()),
                current_leader: leaders.then_some((2, 43)),
            };
            let by_id = version >= 13;
            let topic = |name: &str, id: u8, partitions| TopicResult {
                name: if by_id { "".into() } else { name.into() },
                id: by_id.then_some([id; 16]),
                partitions,
            };
            let endpoint = |node, host: &str, port| BrokerMetadata { node, host: host.into(), port };
            let expected = ProduceResponse {
                throttle: Duration::from_millis(250),
                topics: vec![topic("orders", 1, vec![first, refused]), topic("a", 2, vec![])],
                node_endpoints: if leaders {
                    vec![endpoint(2, "two.example", 9092), endpoint(3, "three.example", 9093)]
                } else {
                    vec![]
                },
            };
            assert_eq!(decode(version, &full(version)), Ok(expected), "version {version}");
        }
    }

    #[test]
    fn empty() {
        for version in versions(API) {
            let read = decode(version, &response(API, version, &Theirs::default())).unwrap();
            assert_eq!((read.topics, read.node_endpoints), (vec![], vec![]));
        }
    }

    #[test]
    fn the_shortest_elements_pass_the_check_of_counts() {
        for version in versions(API) {
            let read = |topics| {
                let frame = response(API, version, &Theirs::default().with_responses(topics));
                decode(version, &frame).unwrap().topics
            };
            let topic = TopicProduceResponse::default();
            assert_eq!(read(vec![topic.clone(); 100]).len(), 100, "version {version}");
            let mut partition = PartitionProduceResponse::default();
            let many = topic.clone().with_partition_responses(vec![partition.clone(); 100]);
            assert_eq!(read(vec![many])[0].partitions.len(), 100, "version {version}");
            if version >= 8 {
                partition.record_errors = vec![BatchIndexAndErrorMessage::default(); 100];
                let many = topic.with_partition_responses(vec![partition]);
                assert_eq!(read(vec![many])[0].partitions[0].record_errors.len(), 100, "version {version}");
            }
        }
    }

    #[test]
    fn truncated() {
        for version in versions(API) {
            every_cut_is_refused(&full(version), |frame| decode(version, frame));
        }
    }

    #[test]
    fn hostile_length() {
        let refused = |version, body: &[u8], count| {
            let error = bounded(&response_of_bytes(API, version, body), |frame| decode(version, frame)).unwrap_err();
            let kind = WireErrorKind::CountTooLarge { count, remaining: 0 };
            assert_eq!(error, WireError { field: "responses", kind });
        };
        refused(3, &[0, 0, 0x13, 0x88], 5000);
        refused(9, &[0x89, 0x27], 5000);
    }

    #[test]
    fn counts_that_just_fit_reserve_no_more_than_the_bound() {
        // A million bytes that claim, at each level, as many elements as could be there.
        let mut body = Vec::new();
        put_varint(&mut body, 330_000);
        body.push(1);
        put_varint(&mut body, 45_000);
        body.extend([0; 4 + 2 + 8 + 8 + 8]);
        put_varint(&mut body, 160_000);
        body.resize(1_000_000, 0x80);
        let error = bounded(&response_of_bytes(API, 9, &body), |frame| decode(9, frame)).unwrap_err();
        assert_eq!(error, WireError { field: "batch_index_error_message", kind: WireErrorKind::BadVarint });
    }

    #[test]
    fn noise() {
        noise_is_survived(API, full, decode);
    }

    #[test]
    fn an_unknown_leader_is_none() {
        let mut partition = PartitionProduceResponse::default();
        partition.current_leader = LeaderIdAndEpoch::default().with_leader_epoch(3);
        let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
        let frame = response(API, 12, &Theirs::default().with_responses(vec![topic]));
        assert_eq!(decode(12, &frame).unwrap().topics[0].partitions[0].current_leader, None);
    }

    #[test]
    fn a_leader_may_not_reach_beyond_its_tag() {
        // Tag 0 of three bytes, in front of what would be a leader.
        let partition = [&[0; 22 + 8][..], &[1, 0], &[1, 0, 3, 0, 0, 0], &[9; 20]].concat();
        let body = [&[2, 1, 2][..], &partition].concat();
        let kind = WireErrorKind::Truncated { needed: 4, remaining: 3 };
        let error = decode(10, &response_of_bytes(API, 10, &body)).unwrap_err();
        assert_eq!(error, WireError { field: "leader_id", kind });
    }

    #[test]
    fn bytes_behind_the_last_field_are_ignored() {
        for version in versions(API) {
            bytes_behind_are_ignored(&full(version), |frame| decode(version, frame));
        }
    }

    #[test]
    fn texts_that_are_not_utf_8_are_refused() {
        for (version, text, field) in [
            (3, "orders", "name"),
            (12, "orders", "name"),
            (12, "refused", "error_message"),
            (12, "no key", "batch_index_error_message"),
            (12, "two.example", "host"),
        ] {
            let mut frame = full(version);
            let at = frame.windows(text.len()).position(|bytes| bytes == text.as_bytes()).unwrap();
            frame[at + 2] = 0xff;
            assert_eq!(decode(version, &frame), Err(WireError { field, kind: WireErrorKind::BadUtf8 }));
        }
    }

    #[test]
    fn texts_of_any_length_are_read() {
        for version in [8, 12] {
            let long = "n".repeat(32_767);
            let partition = PartitionProduceResponse::default().with_error_message(Some(long.clone().into()));
            let topic = TopicProduceResponse::default()
                .with_name(TopicName(long.clone().into()))
                .with_partition_responses(vec![partition]);
            let read =
                decode(version, &response(API, version, &Theirs::default().with_responses(vec![topic]))).unwrap();
            assert_eq!(*read.topics[0].name, *long);
            // The text for people is cut.
            assert_eq!(read.topics[0].partitions[0].error_message.as_deref(), Some(&long[..1000]));
        }
    }

    fn request_with<'a>(version: i16, client_id: &'a str, batches: &'a [ProduceBatch<'a>]) -> ProduceRequest<'a> {
        let correlation = CorrelationId(0x0102_0304);
        ProduceRequest { version, correlation, client_id, acks: -1, timeout_ms: 1500, batches }
    }

    fn batch<'a>(topic: &'a str, id: u8, partition: i32, records: &[u8]) -> ProduceBatch<'a> {
        let mut header = [0xab; BATCH_HEADER];
        header[..4].copy_from_slice(&partition.to_be_bytes());
        ProduceBatch { topic, topic_id: [id; 16], partition, header, records: Arc::new(records.to_vec()) }
    }

    fn same_frame(ours: &ProduceRequest<'_>) {
        let mut theirs = TheirRequest::default().with_acks(ours.acks).with_timeout_ms(ours.timeout_ms);
        for batch in ours.batches {
            let mut topic = TopicProduceData::default();
            if ours.version >= 13 {
                topic.topic_id = hex(batch.topic_id[0]).parse().unwrap();
            } else {
                topic.name = TopicName(batch.topic.to_owned().into());
            }
            let known =
                theirs.topic_data.last().is_some_and(|last| last.name == topic.name && last.topic_id == topic.topic_id);
            if !known {
                theirs.topic_data.push(topic);
            }
            let records = Bytes::from([&batch.header[..], &batch.records].concat());
            let data = PartitionProduceData::default().with_index(batch.partition).with_records(Some(records));
            theirs.topic_data.last_mut().unwrap().partition_data.push(data);
        }
        let frame = ours.frame();
        let theirs = their_request(API, ours.version, ours.correlation.0, ours.client_id, &theirs);
        assert!(frame.to_vec() == theirs, "version {}", ours.version);

        let mut most = request_overhead(ours.client_id);
        for batch in ours.batches {
            most += topic_overhead(batch.topic) + BATCH_OVERHEAD + batch.records.len();
        }
        assert!(frame.len() <= most, "{} bytes, {most} foretold", frame.len());
    }

    fn full(version: i16) -> Vec<u8> {
        let tags = || (version >= 9).then(unknown_tag);
        let mut first =
            PartitionProduceResponse::default().with_base_offset(1 << 40).with_log_append_time_ms(1_700_000_000_000);
        if version >= 5 {
            first.log_start_offset = 17;
        }
        let mut refused = PartitionProduceResponse::default()
            .with_index(5)
            .with_error_code(87)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1);
        if version >= 8 {
            let record = |index, message: Option<&'static str>| {
                let mut error = BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(message.map(Into::into));
                error.unknown_tagged_fields.extend(tags());
                error
            };
            refused.record_errors = vec![record(2, Some("no key")), record(3, None)];
            refused.error_message = Some("refused".into());
        }
        if version >= 10 {
            refused.current_leader = LeaderIdAndEpoch::default().with_leader_id(2.into()).with_leader_epoch(43);
            refused.current_leader.unknown_tagged_fields.extend(tags());
        }
        refused.unknown_tagged_fields.extend(tags());
        let topic = |name: &'static str, id, partitions| {
            let mut topic = TopicProduceResponse::default().with_partition_responses(partitions);
            if version >= 13 {
                topic.topic_id = hex(id).parse().unwrap();
            } else {
                topic.name = TopicName(name.into());
            }
            topic.unknown_tagged_fields.extend(tags());
            topic
        };
        let mut theirs = Theirs::default()
            .with_responses(vec![topic("orders", 1, vec![first, refused]), topic("a", 2, vec![])])
            .with_throttle_time_ms(250);
        if version >= 10 {
            let endpoint = |node: i32, host: &'static str, port| {
                let mut endpoint = NodeEndpoint::default()
                    .with_node_id(node.into())
                    .with_host(host.into())
                    .with_port(port)
                    .with_rack(Some("rack".into()));
                endpoint.unknown_tagged_fields.extend(tags());
                endpoint
            };
            theirs.node_endpoints = vec![endpoint(2, "two.example", 9092), endpoint(3, "three.example", 9093)];
        }
        theirs.unknown_tagged_fields.extend(tags());
        response(API, version, &theirs)
    }

    /// A UUID of this byte alone, in hexadecimal.
    fn hex(byte: u8) -> String {
        format!("{byte:02x}").repeat(16)
    }
}

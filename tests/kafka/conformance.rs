//! The in-process cluster beside Apache Kafka: both are asked the same requests, and must answer alike.
//!
//! The requests are made with kafka-protocol, their batches by hand, since many are wrong on purpose. Nothing here uses
//! ottla's own client. What is compared is what a client can rely on: not the time, nor ids, nor the order of what
//! comes in any order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use ottla::testing::{Api, Cluster};

use crate::by_hand::{Batch, Connection, Rec};
use crate::fixture::RealKafka;
use crate::tools;

/// What a partition is answered, without times.
type Lines = Vec<(String, String)>;

const MAX_BYTES: usize = 2000;
const HOUR_MS: i64 = 3_600_000;
const PLAIN: &str = "plain";
const COMPACTED: &str = "compacted";
const STAMPED: &str = "stamped";

#[test]
fn the_in_process_cluster_answers_as_kafka_does() {
    // Others have other versions and features.
    if tools::broker_version() != "4.3.1" {
        println!("not compared: the brokers are {}", tools::broker_version());
        return;
    }
    let kafka = RealKafka::start(1);
    let cluster = Cluster::builder()
        .topic(PLAIN, 6)
        .compacted_topic(COMPACTED, 1)
        .log_append_time_topic(STAMPED, 1)
        .max_message_bytes(MAX_BYTES)
        .creation_delay(Duration::from_millis(100))
        .loading_time(Duration::from_millis(30))
        .start()
        .expect("loopback");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis() as i64;
    let mut of_kafka = Asking::new(Connection::to(&kafka.address(1)), now);
    of_kafka.create_topics();
    let mut of_cluster = Asking::new(Connection::to(&cluster.bootstrap()), now);
    let (expected, found) = (of_kafka.everything(), of_cluster.everything());
    assert_eq!(expected.len(), found.len());
    let differ: Vec<String> = expected
        .iter()
        .zip(&found)
        .filter(|(expected, found)| expected != found)
        .map(|(expected, found)| format!("{}\n  Kafka:   {}\n  cluster: {}", expected.0, expected.1, found.1))
        .collect();
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), expected.len(), differ.join("\n"));
}

struct Asking {
    connection: Connection,
    now: i64,
    lines: Lines,
}

impl Asking {
    fn new(connection: Connection, now: i64) -> Self {
        Self { connection, now, lines: Vec::new() }
    }

    fn everything(&mut self) -> Lines {
        self.versions();
        self.first_ids();
        self.metadata();
        self.refused_batches();
        self.taken_batches();
        self.records_to_blame();
        self.sequences();
        self.requests_with_many();
        self.offsets_by_time();
        self.pieces_of_a_log();
        std::mem::take(&mut self.lines)
    }

    fn note(&mut self, what: impl Into<String>, answer: impl Into<String>) {
        self.lines.push((what.into(), without_times(&answer.into())));
    }

    fn create_topics(&mut self) {
        let max = MAX_BYTES.to_string();
        let topic = |name: &str, partitions, config: Option<(&'static str, &'static str)>| {
            let config = config.into_iter().chain([("max.message.bytes", &*max)]).map(|(name, value)| {
                CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
            });
            CreatableTopic::default()
                .with_name(topic(name))
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(config.collect())
        };
        let topics = vec![
            topic(PLAIN, 6, None),
            topic(COMPACTED, 1, Some(("cleanup.policy", "compact"))),
            topic(STAMPED, 1, Some(("message.timestamp.type", "LogAppendTime"))),
        ];
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
        let made = self.connection.ask(7, &request).expect("an answer");
        assert!(made.topics.iter().all(|topic| topic.error_code == 0), "{made:?}");
        for name in [PLAIN, COMPACTED, STAMPED] {
            self.until(|asking| asking.topic(12, name, false).1 > 0);
        }
        // A coordinator for transactions, which is there once somebody asks for it and it has loaded.
        let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("unknown")]);
        self.until(|asking| {
            let found = asking.connection.ask(4, &request).expect("an answer");
            found.coordinators[0].error_code == 0
        });
    }

    fn until(&mut self, is_so: impl Fn(&mut Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < Duration::from_secs(30), "never");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn versions(&mut self) {
        let named = |name: &str| {
            ApiVersionsRequest::default()
                .with_client_software_name(text(name))
                .with_client_software_version(text("1.0"))
        };
        let requests = (0..=4).map(|version| (version, "a-client.x")).chain([(3, ""), (3, "a client"), (4, "client-")]);
        for (version, name) in requests {
            let request = if version < 3 { ApiVersionsRequest::default() } else { named(name) };
            let answer = self.connection.ask(version, &request).expect("an answer");
            let apis: BTreeSet<_> = answer
                .api_keys
                .iter()
                .filter(|api| Api::from_key(api.api_key).is_some())
                .map(|api| (api.api_key, api.min_version, api.max_version))
                .collect();
            self.note(format!("versions, v{version}, {name:?}"), format!("{} {apis:?}", answer.error_code));
            let features: BTreeSet<_> = answer
                .supported_features
                .iter()
                .map(|it| (it.name.to_string(), it.min_version, it.max_version))
                .collect();
            self.note(format!("supported features, v{version}, {name:?}"), format!("{features:?}"));
            let features: BTreeSet<_> = answer
                .finalized_features
                .iter()
                .map(|it| (it.name.to_string(), it.min_version_level, it.max_version_level))
                .collect();
            self.note(format!("finalized features, v{version}, {name:?}"), format!("{features:?}"));
        }
    }

    fn first_ids(&mut self) {
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let answer = self.connection.ask(4, &request).expect("an answer");
            seen.insert((answer.error_code, *answer.producer_id >= 0, answer.producer_epoch));
            if answer.error_code == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.note("the first producer ids", format!("{seen:?}"));
    }

    /// The code and the number of partitions of a topic.
    fn topic(&mut self, version: i16, name: &str, create: bool) -> (i16, usize) {
        let answer = self.ask_topics(version, &[MetadataRequestTopic::default().with_name(Some(topic(name)))], create);
        (answer.topics[0].error_code, answer.topics[0].partitions.len())
    }

    fn ask_topics(&mut self, version: i16, topics: &[MetadataRequestTopic], create: bool) -> MetadataResponse {
        let request = MetadataRequest::default()
            .with_topics(Some(topics.to_vec()))
            .with_allow_auto_topic_creation(version < 4 || create);
        self.connection.ask(version, &request).expect("an answer")
    }

    fn metadata(&mut self) {
        for create in [false, true] {
            let answer = self.topic(12, "not a name", create);
            self.note(format!("a bad name, create {create}"), format!("{answer:?}"));
        }
        let missing = self.topic(12, "missing", false);
        self.note("a missing topic", format!("{missing:?}"));
        let mut seen = Vec::new();
        self.until_created("made-on-demand", &mut seen);
        self.note("a topic that is made on demand", format!("{seen:?}"));
        let colliding: Vec<_> = (0..3)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(200));
                self.topic(12, "made.on-demand", true).0 == 3 && self.topic(12, "made_on-demand", true).0 == 0
            })
            .collect();
        self.note("a dot and an underscore", format!("{colliding:?}"));
        self.until_created("with.dot", &mut seen);
        let colliding = [self.topic(12, "with_dot", true), self.topic(12, "with_dot", true)];
        self.note("a name that collides", format!("{colliding:?}"));
        let names = ["missing", PLAIN, "not a name", COMPACTED, "missing too", STAMPED, "with.dot", "made-on-demand"];
        let asked = names.map(|name| MetadataRequestTopic::default().with_name(Some(topic(name))));
        let answer = self.ask_topics(12, &asked, false);
        let known = answer.topics.iter().take_while(|topic| topic.error_code == 0).count();
        self.note("known topics, then the others", format!("{known} of {}", answer.topics.len()));
        let twice = MetadataRequestTopic::default().with_name(Some(topic(PLAIN)));
        let twice = self.ask_topics(12, &[twice.clone(), twice], false).topics.len();
        self.note("a topic twice", twice.to_string());
        for version in 10..=13 {
            let name = (version < 12).then(|| topic(""));
            let asked = MetadataRequestTopic::default().with_name(name).with_topic_id(an_id());
            let answer = self.ask_topics(version, &[asked], false);
            self.note(format!("an id that never was, v{version}"), answer.topics[0].error_code.to_string());
        }
    }

    /// Asks for a topic until it is there; notes what was answered, each once.
    fn until_created(&mut self, name: &str, seen: &mut Vec<(i16, usize)>) {
        seen.clear();
        for _ in 0..500 {
            let answer = self.topic(12, name, true);
            if seen.last() != Some(&answer) {
                seen.push(answer);
            }
            if answer.0 == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn refused_batches(&mut self) {
        let now = self.now;
        let two = || Batch::of(now, 2);
        let mut bad_crc = two().bytes();
        *bad_crc.last_mut().expect("not empty") ^= 1;
        let cases = [
            ("no bytes", Vec::new()),
            ("a batch cut", two().bytes()[..70].to_vec()),
            ("a header cut", two().bytes()[..9].to_vec()),
            ("another checksum", bad_crc),
            ("two batches", [two().bytes(), two().bytes()].concat()),
            ("format version 1", two().with(16, &[1])),
            ("format version 3", two().with(16, &[3])),
            ("a length that cannot be", two().with(8, &[0, 0, 0, 13])),
            ("a base offset", two().with(7, &[1])),
            ("compressed records that are none", two().with(22, &[1])),
            ("a control batch", two().with(22, &[0x20])),
            ("a transactional batch", two().with(22, &[0x10])),
            ("a last offset that is not count - 1", two().with(26, &[2])),
            ("fewer records than counted", two().with(57, &[0, 0, 0, 3])),
            ("a producer id without a sequence", two().from(5, 0, -1).bytes()),
            ("a batch over the limit", Batch::of(now, 1).values_of(MAX_BYTES).bytes()),
        ];
        for (what, bytes) in cases {
            for version in [3, 9, 12] {
                self.produce(what, version, -1, PLAIN, &[(5, bytes.clone())]);
            }
        }
        for acks in [2, -2, 0] {
            self.produce("acks", 9, acks, PLAIN, &[(77, two().bytes())]);
        }
        for version in [9, 12] {
            self.produce("no such partition", version, -1, PLAIN, &[(77, two().bytes())]);
            self.produce("no such topic", version, -1, "missing", &[(0, two().bytes())]);
        }
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![
            TopicProduceData::default().with_topic_id(an_id()).with_partition_data(vec![data(0, two().bytes())]),
        ]);
        self.note_produce("an id that never was", 13, &request);
        let unknown: TransactionalId = text("unknown").into();
        let request = produce(-1, PLAIN, &[(5, two().from(5, 0, 0).with(22, &[0x10]))]);
        self.note_produce("a transaction that never was", 9, &request.with_transactional_id(Some(unknown)));
    }

    fn taken_batches(&mut self) {
        let now = self.now;
        let two = || Batch::of(now, 2);
        let cases = [
            ("an offset twice", two().deltas(&[0, 0]).bytes()),
            ("a producer id without an epoch", two().from(5, -1, 0).bytes()),
            ("a sequence without a producer id", two().from(-1, -1, 3).bytes()),
            ("from long ago", Batch::of(0, 2).bytes()),
            ("without a time", Batch::of(-1, 2).bytes()),
            ("nearly an hour ahead", Batch::of(now + HOUR_MS - 60_000, 2).bytes()),
            ("as large as it may be", two().grown_to(MAX_BYTES).bytes()),
        ];
        for (what, bytes) in cases {
            self.produce(what, 9, -1, PLAIN, &[(4, bytes)]);
        }
        self.produce("a time of the broker", 9, -1, STAMPED, &[(0, Batch::of(now + 2 * HOUR_MS, 2).bytes())]);
    }

    fn records_to_blame(&mut self) {
        let late = self.now + 2 * HOUR_MS;
        let rec = |key: Option<&'static str>, time| Rec { key, time };
        let now = self.now;
        let cases = [
            (PLAIN, "too late", vec![rec(None, now), rec(None, late), rec(None, now), rec(None, late)]),
            (COMPACTED, "without keys", vec![rec(None, now); 5]),
            (COMPACTED, "one without a key", vec![rec(Some("k"), now), rec(None, now)]),
            (
                COMPACTED,
                "of both kinds",
                vec![rec(None, now), rec(Some("k"), late), rec(None, late), rec(Some(""), now)],
            ),
            (COMPACTED, "with both faults", vec![rec(None, late)]),
            (STAMPED, "too late for others", vec![rec(None, late)]),
        ];
        for (topic, what, records) in cases {
            for version in [7, 8, 12] {
                self.produce(what, version, -1, topic, &[(0, Batch::with_records(&records).bytes())]);
            }
        }
    }

    fn sequences(&mut self) {
        let steps = [
            ("the first begins anywhere", 0, 3, 2),
            ("the next", 0, 5, 2),
            ("a repeat", 0, 5, 2),
            ("a repeat of the first", 0, 3, 2),
            ("a gap", 0, 9, 1),
            ("the same start with another count", 0, 5, 1),
            ("the next epoch not from 0", 1, 7, 1),
            ("the next epoch", 1, 0, 1),
            ("the old epoch", 0, 7, 1),
        ];
        for (what, epoch, sequence, count) in steps {
            let batch = Batch::of(self.now - 5000, count).from(4711, epoch, sequence);
            self.produce(what, 9, -1, PLAIN, &[(3, batch.bytes())]);
            self.produce(what, 9, -1, STAMPED, &[(0, batch.bytes())]);
        }
    }

    fn requests_with_many(&mut self) {
        let batch = |count| Batch::of(self.now, count).bytes();
        let numbered = |sequence| Batch::of(self.now, 1).from(77, 0, sequence).bytes();
        let (one, three, first, second) = (batch(1), batch(3), numbered(0), numbered(1));
        for version in [3, 9, 12] {
            self.produce("a partition twice", version, -1, PLAIN, &[(2, one.clone()), (2, three.clone())]);
        }
        self.produce("a partition twice, in sequence", 9, -1, PLAIN, &[(2, first.clone()), (2, second)]);
        self.produce("behind that", 9, -1, PLAIN, &[(2, first)]);
        let mut twice = produce(-1, PLAIN, &[(1, one.clone())]);
        twice.topic_data.extend(produce(-1, PLAIN, &[(1, three)]).topic_data);
        self.note_produce("a topic twice", 9, &twice);
        let many: Vec<_> = (0..6).map(|index| (index, if index == 3 { Vec::new() } else { one.clone() })).collect();
        self.produce("some of many", 9, -1, PLAIN, &[&[(66, one.clone())], &many[..]].concat());
        let transactional = Batch::of(self.now, 1).from(9, 0, 0).with(22, &[0x10]);
        self.produce("one of two is transactional", 9, -1, PLAIN, &[(1, transactional), (2, one)]);
    }

    fn offsets_by_time(&mut self) {
        // So that the last of these times is that of one batch.
        std::thread::sleep(Duration::from_millis(5));
        self.produce("at another time", 9, -1, STAMPED, &[(0, Batch::of(self.now, 2).bytes())]);
        // Partition 0 of the plain topic begins with this.
        let base = self.now - 100_000;
        for millis in [500, 100, 900, 300, 200, 900, 50] {
            self.produce("at a time", 9, -1, PLAIN, &[(0, Batch::of(base + millis, 1).bytes())]);
        }
        for version in 1..=11 {
            for (topic, time) in [0, base, base + 101, base + 900, base + 901]
                .into_iter()
                .chain(-7..=-1)
                .map(|time| (PLAIN, time))
                .chain([(COMPACTED, -1), (COMPACTED, -2), (COMPACTED, -3), (STAMPED, -3)])
            {
                let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(time);
                let asked = ListOffsetsTopic::default().with_name(self::topic(topic)).with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
                let answer = self.connection.ask(version, &request).expect("an answer");
                let found = &answer.topics[0].partitions[0];
                let found = (found.error_code, found.offset, found.timestamp, found.leader_epoch);
                let time = if time > 0 { format!("base {:+}", time - base) } else { time.to_string() };
                self.note(format!("offset of {topic} at {time}, v{version}"), format!("{found:?}"));
            }
        }
    }

    fn pieces_of_a_log(&mut self) {
        let size = i32::try_from(Batch::of(self.now, 1).bytes().len()).expect("short");
        let cases = [
            (0, 0, 1_000_000),
            (0, size - 1, 1_000_000),
            (0, size + 24, 1_000_000),
            (0, 1_000_000, size + 24),
            (0, 2 * size, 2 * size),
            (2, 1_000_000, 1_000_000),
            (500, 1_000_000, 1_000_000),
            (-1, 1_000_000, 1_000_000),
        ];
        for version in [4, 11, 12] {
            for (offset, of_partition, of_all) in cases {
                for second in [0, size + 9] {
                    let partition = |index, bytes| {
                        FetchPartition::default()
                            .with_partition(index)
                            .with_fetch_offset(offset)
                            .with_partition_max_bytes(bytes)
                    };
                    let asked = FetchTopic::default()
                        .with_topic(topic(PLAIN))
                        .with_partitions(vec![partition(0, of_partition), partition(1, second)]);
                    let request =
                        FetchRequest::default().with_max_bytes(of_all).with_isolation_level(1).with_topics(vec![asked]);
                    let answer = self.connection.ask(version, &request).expect("an answer");
                    let mut found: Vec<_> = answer.responses[0].partitions.iter().collect();
                    found.sort_by_key(|it| it.partition_index);
                    let found = found.iter().map(|it| {
                        let records = it.records.as_ref().map_or(0, bytes::Bytes::len);
                        (it.error_code, it.high_watermark, it.last_stable_offset, it.log_start_offset, records)
                    });
                    let found = found.collect::<Vec<_>>();
                    let what = format!("fetch from {offset}, {of_partition} of {of_all}, then {second}, v{version}");
                    self.note(what, format!("{found:?}"));
                }
            }
        }
    }

    fn produce(&mut self, what: &str, version: i16, acks: i16, topic: &str, batches: &[(i32, Vec<u8>)]) {
        self.note_produce(&format!("{what}, {topic}, acks {acks}"), version, &produce(acks, topic, batches));
    }

    fn note_produce(&mut self, what: &str, version: i16, request: &ProduceRequest) {
        if request.acks == 0 {
            self.connection.send(version, request);
            let closed = self.connection.is_closed();
            return self.note(what, format!("closed {closed}"));
        }
        let answer = self.connection.ask(version, request).unwrap_or_else(|| panic!("no answer: {what}, v{version}"));
        let entries: Vec<_> = answer.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
        let mut told: Vec<String> = entries
            .iter()
            .map(|it| {
                let blamed =
                    it.record_errors.iter().map(|it| (it.batch_index, it.batch_index_error_message.as_deref()));
                let place = (it.base_offset, it.log_append_time_ms, it.log_start_offset);
                let (index, code, text) = (it.index, it.error_code, it.error_message.as_deref());
                format!("{index}: {code} {place:?} {text:?} {:?}", blamed.collect::<Vec<_>>())
            })
            .collect();
        told.sort();
        self.note(format!("{what}, v{version}"), format!("{told:?}"));
    }
}

fn produce(acks: i16, name: &str, batches: &[(i32, Vec<u8>)]) -> ProduceRequest {
    let partitions = batches.iter().map(|(index, bytes)| data(*index, bytes.clone())).collect();
    let topic = TopicProduceData::default().with_name(topic(name)).with_partition_data(partitions);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(5000).with_topic_data(vec![topic])
}

fn data(index: i32, bytes: Vec<u8>) -> PartitionProduceData {
    PartitionProduceData::default().with_index(index).with_records(Some(bytes.into()))
}

/// One that no topic has.
fn an_id<T: TryFrom<Vec<u8>>>() -> T {
    T::try_from(b"never was an id!".to_vec()).unwrap_or_else(|_| unreachable!("16 bytes"))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    text(name).into()
}

/// The same with `T` for every number so long that it is a time.
fn without_times(text: &str) -> String {
    let mut shown = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        shown += if digits.len() >= 12 { "T" } else { &digits };
        digits.clear();
        shown.push(letter);
    }
    shown.trim_end().to_owned()
}

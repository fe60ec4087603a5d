//! The in-process cluster over real sockets, asked by hand, without ottla's own client.

#![expect(clippy::disallowed_methods, reason = "a test of sockets has threads of its own")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Request, StrBytes, encode_request_header_into_buffer};
use ottla::testing::{Api, Cluster, Fault};

const PATIENCE: Duration = Duration::from_secs(20);

/// The value of the record in [`batch`].
const BATCH_VALUE: &str = "value";

struct Connection(TcpStream);

impl Connection {
    fn to(cluster: &Cluster, node: usize) -> Self {
        Self::open(address(cluster, node)).expect("the broker is up")
    }

    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) {
        let mut bytes = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("by hand")));
        encode_request_header_into_buffer(&mut bytes, &header).unwrap();
        request.encode(&mut bytes, version).unwrap();
        let size = i32::try_from(bytes.len()).unwrap();
        self.0.write_all(&[&size.to_be_bytes(), &bytes[..]].concat()).unwrap();
    }

    fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut size = [0; 4];
        self.0.read_exact(&mut size)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(size)).unwrap()];
        self.0.read_exact(&mut frame)?;
        let mut frame = Bytes::from(frame);
        let key = ApiKey::try_from(R::KEY).unwrap();
        let header = ResponseHeader::decode(&mut frame, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, 7);
        Ok(R::Response::decode(&mut frame, version).unwrap())
    }

    fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version).expect("an answer")
    }

    /// Whether the broker closed it, or the wait for that ended.
    fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn address(cluster: &Cluster, node: usize) -> SocketAddr {
    let bootstrap = cluster.bootstrap();
    bootstrap.split(',').nth(node - 1).unwrap().parse().unwrap()
}

fn name(topic: &str) -> TopicName {
    StrBytes::from_string(topic.to_owned()).into()
}

fn metadata(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true)
}

/// One record with a null key and [`BATCH_VALUE`], as bytes that are written down here on purpose.
fn batch() -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1, 10];
    record.extend(BATCH_VALUE.bytes());
    record.push(0);
    let mut behind_crc = Vec::new();
    behind_crc.extend(0_i16.to_be_bytes());
    behind_crc.extend(0_i32.to_be_bytes());
    behind_crc.extend(1000_i64.to_be_bytes());
    behind_crc.extend(1000_i64.to_be_bytes());
    behind_crc.extend((-1_i64).to_be_bytes());
    behind_crc.extend((-1_i16).to_be_bytes());
    behind_crc.extend((-1_i32).to_be_bytes());
    behind_crc.extend(1_i32.to_be_bytes());
    behind_crc.push(u8::try_from(record.len() * 2).unwrap());
    behind_crc.extend(record);
    let length = i32::try_from(4 + 1 + 4 + behind_crc.len()).unwrap();
    [
        &0_i64.to_be_bytes()[..],
        &length.to_be_bytes(),
        &(-1_i32).to_be_bytes(),
        &[2],
        &crc32c::crc32c(&behind_crc).to_be_bytes(),
        &behind_crc,
    ]
    .concat()
}

fn produce(topic: &str) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch().into()));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

fn fetch(topic: &str, offset: i64, max_wait: Duration) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1_000_000);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap())
        .with_min_bytes(1)
        .with_max_bytes(1_000_000)
        .with_topics(vec![topic])
}

#[test]
fn a_message_goes_in_and_comes_out() {
    let cluster = Cluster::start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let named = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("by-hand"))
        .with_client_software_version(StrBytes::from_static_str("1"));
    assert!(connection.ask(3, &named).api_keys.len() >= 7);
    // The answer to the first who asks for a topic is that it is not there.
    assert_eq!(connection.ask(12, &metadata("t")).topics[0].error_code, 3);
    assert_eq!(connection.ask(12, &metadata("t")).topics[0].partitions.len(), 3);
    let produced = connection.ask(9, &produce("t"));
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let fetched = connection.ask(12, &fetch("t", 0, PATIENCE));
    let records = fetched.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(records[21..], batch()[21..]);
    let messages = cluster.messages("t");
    assert_eq!((messages.len(), messages[0].value_str()), (1, Some(BATCH_VALUE)));
    let requests: Vec<_> = cluster.requests().iter().map(|request| (request.api, request.version)).collect();
    let expected =
        [(Api::ApiVersions, 3), (Api::Metadata, 12), (Api::Metadata, 12), (Api::Produce, 9), (Api::Fetch, 12)];
    assert_eq!(requests, expected);
    assert_eq!(cluster.connections(), 1);
}

#[test]
fn requests_that_are_sent_together_are_answered_in_order() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    for _ in 0..10 {
        connection.send(9, &produce("t"));
    }
    for offset in 0..10 {
        let answer = connection.receive::<ProduceRequest>(9).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, offset);
    }
}

#[test]
fn a_fetch_waits_for_the_message_of_another_connection() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let mut reader = Connection::to(&cluster, 1);
    reader.send(12, &fetch("t", 0, PATIENCE));
    Connection::to(&cluster, 1).ask(9, &produce("t"));
    let fetched = reader.receive::<FetchRequest>(12).unwrap();
    assert_eq!(fetched.responses[0].partitions[0].high_watermark, 1);
}

#[test]
fn wait_for_gives_the_messages_or_says_how_many_there_are() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let error = cluster.wait_for("t", 1, Duration::from_millis(5)).unwrap_err();
    assert_eq!(error.to_string(), "0 of 1 messages after 5ms");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| cluster.wait_for("t", 2, PATIENCE));
        let mut connection = Connection::to(&cluster, 1);
        connection.ask(9, &produce("t"));
        connection.ask(9, &produce("t"));
        assert_eq!(waiting.join().unwrap().unwrap().len(), 2);
    });
}

#[test]
fn a_stopped_broker_cuts_refuses_and_comes_back_with_its_log_on_the_same_port() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let bootstrap = cluster.bootstrap();
    let mut connection = Connection::to(&cluster, 1);
    connection.ask(9, &produce("t"));
    cluster.stop_broker(1);
    assert!(connection.is_closed());
    let refused = Connection::open(address(&cluster, 1)).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    cluster.restart_broker(1).unwrap();
    assert_eq!(cluster.bootstrap(), bootstrap);
    let mut connection = Connection::to(&cluster, 1);
    let answer = connection.ask(9, &produce("t"));
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
    let epoch = connection.ask(12, &metadata("t")).topics[0].partitions[0].leader_epoch;
    assert!(epoch >= 1, "{epoch}");
}

#[test]
fn the_next_broker_leads_when_one_stops() {
    let cluster = Cluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.stop_broker(1);
    let mut second = Connection::to(&cluster, 2);
    let response = second.ask(12, &metadata("t"));
    assert_eq!((response.brokers.len(), *response.topics[0].partitions[0].leader_id), (1, 2));
    assert_eq!(second.ask(9, &produce("t")).responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn a_stalled_request_is_answered_once_the_guard_is_dropped() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let guard = cluster.inject(Fault::on(Api::Produce).stall());
    let mut connection = Connection::to(&cluster, 1);
    connection.send(9, &produce("t"));
    guard.wait_for_hits(1, PATIENCE).unwrap();
    assert_eq!(cluster.messages("t").len(), 0);
    drop(guard);
    let answer = connection.receive::<ProduceRequest>(9).unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn a_delay_holds_the_answer_and_a_stop_does_not_wait_for_it() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let guard = cluster.inject(Fault::on(Api::Produce).delay(Duration::from_secs(3600)));
    let mut connection = Connection::to(&cluster, 1);
    connection.send(9, &produce("t"));
    guard.wait_for_hits(1, PATIENCE).unwrap();
    assert_eq!(cluster.wait_for("t", 1, PATIENCE).unwrap().len(), 1);
    cluster.stop_broker(1);
    assert!(connection.is_closed());
}

#[test]
fn a_throttled_connection_is_answered_at_once_and_read_again_when_the_time_is_over() {
    const SILENCE: Duration = Duration::from_millis(400);
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let mut connection = Connection::to(&cluster, 1);
    let mut other = Connection::to(&cluster, 1);
    let throttled = cluster.inject(Fault::on(Api::Produce).throttle(SILENCE).times(1));
    let began = Instant::now();
    connection.send(9, &produce("t"));
    connection.send(9, &produce("t"));
    let first = connection.receive::<ProduceRequest>(9).unwrap();
    assert_eq!((first.throttle_time_ms, throttled.hits()), (400, 1));
    other.ask(9, &produce("t"));
    assert_eq!(
        cluster.messages("t").len(),
        2,
        "the answer and the other connection did not wait: {:?}",
        began.elapsed()
    );
    let second = connection.receive::<ProduceRequest>(9).unwrap();
    assert_eq!((second.throttle_time_ms, second.responses[0].partition_responses[0].base_offset), (0, 2));
    assert!(began.elapsed() >= SILENCE, "{:?}", began.elapsed());
}

#[test]
fn a_broker_that_is_stopped_does_not_wait_for_a_silence() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let _throttled = cluster.inject(Fault::on(Api::Produce).throttle(Duration::from_secs(3600)));
    let mut connection = Connection::to(&cluster, 1);
    connection.ask(9, &produce("t"));
    cluster.stop_broker(1);
    assert!(connection.is_closed());
}

/// In a process of its own: what it has of descriptors is used up, and what is logged is counted.
#[cfg(target_os = "linux")]
#[test]
fn without_descriptors_one_line_is_logged_and_connections_are_accepted_when_there_are_some() {
    const CHILD: &str = "OTTLA_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name = "without_descriptors_one_line_is_logged_and_connections_are_accepted_when_there_are_some";
        let done = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 24 && exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && told.contains("1 passed"), "{told}\n{said}");
        return;
    }
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    // What is closed between the rounds would be one descriptor more, at an unknown moment.
    let mut kept = Vec::new();
    for _ in 0..2 {
        let address = address(&cluster, 1);
        let mut taken: Vec<_> =
            std::iter::repeat_with(|| std::fs::File::open("/dev/null")).map_while(Result::ok).collect();
        // The broker, while it waits for a connection, may get the one that is given back; then it has none for the
        // next.
        let mut connection = loop {
            drop(taken.pop().unwrap());
            if let Ok(connection) = Connection::open(address) {
                break connection;
            }
        };
        connection.send(9, &produce("t"));
        // Nothing happens here but tries, five of them: that is what is measured.
        thread::sleep(Duration::from_millis(500));
        let lines = std::mem::take(&mut *LINES.0.lock().unwrap());
        assert_eq!(lines.len(), 1, "{lines:?}");
        drop(taken);
        let answer = connection.receive::<ProduceRequest>(9).unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        let line = &lines[0];
        assert!(line.contains("broker 1: cannot accept connections") && line.contains("(os error 24)"), "{line}");
        // The incident ends with the next connection that is accepted; the one above may have been before it.
        let mut next = Connection::to(&cluster, 1);
        next.ask(9, &produce("t"));
        kept.extend([connection, next]);
    }
}

struct Lines(std::sync::Mutex<Vec<String>>);

static LINES: Lines = Lines(std::sync::Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn an_applied_request_whose_answer_is_cut() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    for (fault, bytes) in [(Fault::on(Api::Produce).cut_after(), 0), (Fault::on(Api::Produce).cut_inside(9), 9)] {
        let guard = cluster.inject(fault.times(1));
        let mut connection = Connection::to(&cluster, 1);
        connection.send(9, &produce("t"));
        let mut seen = Vec::new();
        connection.0.read_to_end(&mut seen).unwrap();
        assert_eq!((seen.len(), guard.hits()), (bytes, 1));
    }
    assert_eq!(cluster.messages("t").len(), 2);
}

#[test]
fn what_is_not_kafka_is_hung_up_on_and_hurts_nobody() {
    let cluster = Cluster::builder().topic("t", 1).start().unwrap();
    let too_long = (100 * 1024 * 1024 + 1_i32).to_be_bytes();
    let hostile_count = *b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x07\xff\xff\0\0\x13\x88";
    let others: [&[u8]; 5] = [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0", &[0xff; 8], &too_long, &hostile_count];
    for bytes in others {
        let mut connection = Connection::to(&cluster, 1);
        connection.0.write_all(bytes).unwrap();
        assert!(connection.is_closed(), "{bytes:?}");
    }
    let mut connection = Connection::to(&cluster, 1);
    assert_eq!(connection.ask(9, &produce("t")).responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn dropping_the_cluster_ends_everything_at_once() {
    let cluster = Cluster::builder().brokers(3).topic("t", 3).start().unwrap();
    let addresses: Vec<_> = (1..=3).map(|node| address(&cluster, node)).collect();
    let mut connections: Vec<_> = (1..=3).map(|node| Connection::to(&cluster, node)).collect();
    let stall = cluster.inject(Fault::on(Api::Metadata).stall());
    // One waits for messages, one is stalled, one says nothing.
    connections[0].send(12, &fetch("t", 0, Duration::from_secs(3600)));
    connections[1].send(12, &metadata("t"));
    stall.wait_for_hits(1, PATIENCE).unwrap();
    let (done, ended) = mpsc::channel();
    let dropping = thread::spawn(move || {
        drop(cluster);
        done.send(()).unwrap();
    });
    ended.recv_timeout(PATIENCE).expect("the drop ends");
    dropping.join().unwrap();
    for connection in &mut connections {
        assert!(connection.is_closed());
    }
    for address in addresses {
        assert!(Connection::open(address).is_err());
    }
    drop(stall);
}

#[test]
fn what_cannot_be_built_is_said() {
    for builder in [
        Cluster::builder().brokers(0),
        Cluster::builder().topic("not a name", 1),
        Cluster::builder().topic("t", 0),
        Cluster::builder().topic("t", 1).topic("t", 1),
        Cluster::builder().topic("a.b", 1).topic("a_b", 1),
    ] {
        assert_eq!(builder.start().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

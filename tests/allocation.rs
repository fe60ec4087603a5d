//! How much memory hostile bytes can make this process take, counted by an allocator that replaces the system's in this
//! test alone. A response of n bytes costs at most 128 n + 1 MiB, at its peak and in all that is allocated on the way,
//! and nothing is reserved for what a size, a length or a count only claims. And what a message with a handle leaves
//! behind on its caller's side, and what one costs that is refused.

#[path = "../fuzz/bodies/input.rs"]
#[allow(dead_code, reason = "not everything that fuzzers use is used here")]
mod input;
#[path = "../fuzz/bodies/responses.rs"]
mod responses;

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{MetadataResponse, ProduceResponse, TopicName};
use ottla::config::{ClientConfig, ProducerConfig};
use ottla::engine::producer::ProducerEngine;
use ottla::engine::{Action, Engine};
use ottla::ids::TopicIndex;
use ottla::net::receive_buffer::ReceiveBuffer;
use ottla::net::{Event, Net};
use ottla::queue::chunk::Chunk;
use ottla::record::batch::{BatchBuilder, Stamp};
use ottla::record::batch_reader::RecordBatch;
use ottla::record::tail;
use ottla::testing::Cluster;
use ottla::testing::requests::Reply;
use ottla::testing::state::ClusterState;
use ottla::wire::WireError;
use ottla::wire::api::produce::{ProduceBatch, ProduceRequest};
use ottla::wire::api::{Api, api_versions, init_producer_id, metadata, produce};
use ottla::wire::frame::{ConnId, CorrelationId};
use ottla::{ConnectionErrorKind, Message, OnOverflow, ProduceErrorKind, Timestamp, Topic};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use input::Input;
use responses::{Meant, READ, Theirs};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bytes that are not for the response itself: an error's text, and the like.
const FREE: usize = MIB;
/// The same where the response is small, and less than what is claimed would take.
const LITTLE: usize = 64 * KIB;

#[test]
fn counts_and_lengths_that_are_only_claimed_cost_nothing() {
    for (api, version) in every_version() {
        let flexible = api.is_flexible(version);
        for hostile in with_claims(&sample(api, version, 3), flexible) {
            bounded_by(LITTLE, api, version, &hostile);
        }
        for claim in claims(flexible) {
            for fill in [0, 0x80] {
                let hostile = [&[0; 4], claim, &[fill; 40][..]].concat();
                bounded_by(LITTLE, api, version, &hostile);
            }
        }
    }
}

#[test]
fn counts_that_just_fit_cost_no_more_than_the_bound() {
    // Whatever the first array is, it claims as many elements as can be there, and so does each one inside.
    for (api, version) in every_version() {
        for skip in 4..24 {
            for denominator in 1..30 {
                let frame = nested(api, version, skip, 100 * KIB, denominator);
                bounded(api, version, &frame);
            }
        }
    }
}

#[test]
fn a_large_response_that_is_sound_costs_no_more_than_the_bound() {
    for (api, version) in every_version() {
        let frame = large(api, version).frame(api, version);
        let info = measure(|| assert_eq!(decode(api, version, &frame), Ok(()), "{api} {version}"));
        assert!(info.bytes_total as usize <= 128 * frame.len() + FREE, "{api} {version}: {info:?}");
    }
}

#[test]
fn unknown_tags_of_any_size_are_passed_over_without_memory() {
    for (api, version) in every_version().filter(|(api, version)| api.is_flexible(*version)) {
        // A response ends with its count of tags: here one, of a megabyte.
        let mut frame = empty(api).frame(api, version);
        assert_eq!(frame.pop(), Some(0), "{api} {version}: no tags");
        frame.extend([1, 0xe8, 0x07, 0x80, 0x80, 0x40]);
        frame.resize(frame.len() + MIB, 0xff);
        let info = measure(|| assert_eq!(decode(api, version, &frame), Ok(()), "{api} {version}"));
        // What kafka-protocol decodes is copied once, which is far within the bound.
        let copied = if api == Api::InitProducerId { frame.len() } else { 0 };
        assert!((info.bytes_total as usize) < copied + 1000, "{api} {version}: {info:?}");
        // The same, cut, and with a size of 4 GiB.
        frame.pop();
        let info = measure(|| assert!(decode(api, version, &frame).is_err(), "{api} {version}"));
        assert!(info.bytes_total < 1000, "{api} {version}: {info:?}");
    }
}

#[test]
fn a_message_with_a_handle_leaves_nothing_behind_on_the_callers_side() {
    let client = ottla::Client::builder(["127.0.0.1:9"]).build().expect("a good address");
    let producer =
        client.async_producer().max_queue_size(10_000).drop_timeout(Duration::ZERO).build().expect("good options");
    let topic = Topic::new("orders").expect("a good name");
    let kept = |message: &dyn Fn() -> Message<'static>| {
        let produce = || drop(producer.produce_with_handle(message()).expect("there is room"));
        produce();
        measure(|| (0..1000).for_each(|_| produce())).count_current
    };
    let messages: [&dyn Fn() -> Message<'static>; 4] = [
        &|| Message::new("orders", "value"),
        &|| Message::new(topic.clone(), "value"),
        &|| Message::new("orders", "value").with_key("key"),
        &|| Message::new("orders".to_owned(), "value").with_header("name", "value"),
    ];
    for message in messages {
        // Pages and chunks are kept, one for many.
        let kept = kept(message);
        assert!(kept < 100, "{kept} allocations for 1000 messages");
    }
}

#[test]
fn a_refused_message_that_is_borrowed_costs_nothing_however_often_it_is_tried() {
    let client = ottla::Client::builder(["127.0.0.1:9"]).build().expect("a good address");
    let queue = client.async_producer().max_queue_size(1).drop_timeout(Duration::ZERO);
    let queue = queue.on_overflow(OnOverflow::Block(Duration::MAX)).build().expect("good options");
    let mut buffer = client.producer().max_buffer_size(1).build().expect("good options");
    let (topic, value) = ("orders".to_owned(), "a value".repeat(100));
    let message = Message::new(&topic, &value).with_key(&value).with_header("name", &value);
    let large_value = value.repeat(100);
    let large = Message::new(&topic, &large_value);
    queue.try_produce(&message).expect("there is room");
    buffer.try_produce(&message).expect("there is room");
    for message in [message, large] {
        let refusals: [&mut dyn FnMut() -> Result<(), ProduceErrorKind>; 2] =
            [&mut || queue.try_produce(&message), &mut || buffer.try_produce(&message)];
        for refusal in refusals {
            let mut refused = || assert!(matches!(refusal(), Err(ProduceErrorKind::BufferOverflow(_))));
            refused();
            let cost = measure(|| (0..1000).for_each(|_| refused()));
            assert_eq!(cost.count_total, 0, "{cost:?}");
        }
    }
}

#[test]
fn what_the_fuzzers_kept_costs_no_more_than_the_bound() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/response_decode");
    let mut kept = 0;
    for file in fs::read_dir(corpus).expect("the corpora can be read") {
        let bytes = fs::read(file.expect("the corpora can be read").path()).expect("the corpora can be read");
        let mut input = Input::new(&bytes);
        match Meant::by(&mut input) {
            Meant::AnyBytes(api, version) => bounded(api, version, input.rest()),
            Meant::Response(api, version) => {
                bounded(api, version, &Theirs::made_of(api, version, &mut input).frame(api, version));
            }
        }
        kept += 1;
    }
    assert!(kept >= 5, "{kept} files");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_responses_cost_no_more_than_the_bound(
        which in any::<Index>(),
        made_of in vec(any::<u8>(), 0..300),
        damage in vec((any::<Index>(), prop_oneof![Just(0xff_u8), Just(0x7f), Just(0), any::<u8>()]), 1..8),
        cut in any::<Index>(),
    ) {
        let all: Vec<_> = every_version().collect();
        let (api, version) = all[which.index(all.len())];
        let mut frame = sample_of(api, version, &made_of);
        bounded(api, version, &frame);
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        bounded(api, version, &frame);
        let cut = cut.index(frame.len());
        bounded(api, version, &frame[..cut]);
        // What was the middle becomes the beginning.
        frame.drain(4.min(cut)..cut);
        bounded(api, version, &frame);
    }

    #[test]
    fn noise_costs_no_more_than_the_bound(which in any::<Index>(), noise in vec(any::<u8>(), 0..2_000)) {
        let all: Vec<_> = every_version().collect();
        let (api, version) = all[which.index(all.len())];
        bounded(api, version, &noise);
    }

    #[test]
    fn no_batch_costs_any_memory(
        damage in vec((any::<Index>(), any::<u8>()), 0..6),
        repaired: bool,
    ) {
        let mut bytes = batch();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if repaired {
            repair(&mut bytes);
        }
        prop_assert!(cost_of_batch(&bytes).bytes_total <= 200);
    }

    #[test]
    fn damaged_requests_cost_the_cluster_little(
        which in 0..REQUESTS,
        damage in vec((any::<Index>(), 0_u8..0x80), 0..6),
        cut in any::<Index>(),
    ) {
        let mut frame = request(which);
        for (at, byte) in damage {
            let at = at.index(frame.len());
            // Not the upper bytes of a number, where it would claim millions.
            if frame[at] != 0 {
                frame[at] = byte;
            }
        }
        ask_bounded(FREE, &frame);
        ask_bounded(FREE, &frame[..cut.index(frame.len())]);
    }
}

#[test]
fn record_counts_that_are_only_claimed_cost_nothing() {
    // The number of records, then each byte of the records in turn: lengths of key, value and headers are among them.
    let batch = batch();
    let count = std::iter::once((57, &[0, 0, 0x13, 0x88][..]));
    for (at, claim) in count.chain((61..batch.len() - 1).map(|at| (at, &[0x90, 0x4e][..]))) {
        let mut bytes = batch.clone();
        bytes[at..at + claim.len()].copy_from_slice(claim);
        repair(&mut bytes);
        let info = cost_of_batch(&bytes);
        // An error in a record is boxed, and that is all.
        assert!(info.bytes_total <= 200, "{claim:02x?} at {at}: {info:?}");
    }
}

#[test]
fn a_size_is_refused_before_memory_is_taken_for_it() {
    for limit in [512 * KIB, 16 * MIB] {
        // The last two are below zero.
        for announced in [limit + 1, limit + 5000, 17 * MIB, u32::MAX as usize, 1 << 31] {
            let field = (announced as u32).to_be_bytes();
            let info = measure(|| {
                let refused = ReceiveBuffer::new(limit).next(&mut &field[..]);
                assert!(matches!(refused, Err(ConnectionErrorKind::BadSize { .. })), "{announced}");
            });
            assert_eq!(info.bytes_total, 0, "{announced} bytes above {limit}");
        }
    }
}

#[test]
fn a_connection_takes_512_kib_before_its_handshake_and_16_mib_after_it() {
    const CONN: ConnId = ConnId(1);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port()).parse().expect("an address");
    for (handshake, limit) in [(Handshake::Open, 512 * KIB), (Handshake::Done, 16 * MIB)] {
        let (mut net, mut events) = (Net::new().unwrap(), Vec::new());
        #[expect(clippy::disallowed_methods, reason = "real sockets take real time")]
        let now = Instant::now();
        net.connect(CONN, &address, Duration::from_secs(10), true, now);
        let (mut peer, _) = listener.accept().unwrap();
        while events.is_empty() {
            net.poll(Some(Duration::from_secs(10)), &mut events).unwrap();
        }
        assert!(matches!(events[..], [Event::Connected(CONN)]), "{events:?}");
        events.clear();
        if let Handshake::Done = handshake {
            net.limit_responses(CONN, limit_after_the_handshake());
        }
        // One that is small enough, then the size of one that is not.
        peer.write_all(&[&4_u32.to_be_bytes()[..], b"fine", &(limit as u32 + 1).to_be_bytes()].concat()).unwrap();
        let info = measure(|| {
            while !matches!(events.last(), Some(Event::Closed(..))) {
                net.poll(Some(Duration::from_secs(10)), &mut events).unwrap();
            }
        });
        let [Event::Response(CONN, body), Event::Closed(CONN, why)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(body, b"fine");
        let told = matches!(why, ConnectionErrorKind::BadSize { size, limit: most, .. }
            if *most == limit && *size == limit as i64 + 1);
        assert!(told, "{why}");
        assert!(info.bytes_max < 16 * KIB as u64, "{info:?}");
    }
}

#[test]
fn a_size_within_the_limit_takes_memory_only_as_bytes_come() {
    for sent in [0, 1, 60 * KIB, 70 * KIB, MIB, 5 * MIB] {
        let bytes = [&(16 * MIB as u32).to_be_bytes()[..], &vec![7; sent]].concat();
        let mut buffer = ReceiveBuffer::new(16 * MIB);
        let info = measure(|| {
            for mut piece in bytes.chunks(64 * KIB) {
                assert_eq!(buffer.next(&mut piece).map(|body| body.is_some()).ok(), Some(false));
            }
        });
        // A buffer that grows is there twice while it does, the old one and the new one of twice its size.
        assert!(info.bytes_max as usize <= 3 * sent + 128 * KIB, "{sent} bytes came: {info:?}");
    }
}

#[test]
fn counts_that_requests_only_claim_cost_the_cluster_little() {
    for which in 0..REQUESTS {
        let frame = request(which);
        for hostile in with_claims(&frame, which != CLASSIC_REQUEST) {
            if hostile.starts_with(&frame[..8]) {
                ask_bounded(LITTLE, &hostile);
            }
        }
    }
}

/// Decodes a response, which is without its size, and lets go of what was read.
fn decode(api: Api, version: i16, frame: &[u8]) -> Result<(), WireError> {
    match api {
        Api::ApiVersions => api_versions::decode(version, frame).map(drop),
        Api::Metadata => metadata::decode(version, frame).map(drop),
        Api::InitProducerId => init_producer_id::decode(version, frame).map(drop),
        Api::Produce => produce::decode(version, frame).map(drop),
        other => panic!("{other} is not in READ"),
    }
}

/// Decodes, and counts what that allocates. `bytes_total` is all of it, also what was let go of at once.
fn bounded(api: Api, version: i16, frame: &[u8]) {
    bounded_by(FREE, api, version, frame);
}

fn bounded_by(free: usize, api: Api, version: i16, frame: &[u8]) {
    let info = measure(|| drop(decode(api, version, frame)));
    let most = 128 * frame.len() + free;
    assert!(info.bytes_total as usize <= most, "{api} {version}, {} bytes: {info:?}", frame.len());
    assert!(info.bytes_max as usize <= most, "{api} {version}, {} bytes: {info:?}", frame.len());
}

fn cost_of_batch(bytes: &[u8]) -> AllocationInfo {
    measure(|| {
        if let Ok((batch, _)) = RecordBatch::read(bytes) {
            for record in batch.records().flatten() {
                assert!(record.headers.count() <= bytes.len());
            }
        }
    })
}

#[derive(Clone, Copy)]
enum Handshake {
    Open,
    Done,
}

/// What the engine allows a connection once its broker has told its versions, and not before.
fn limit_after_the_handshake() -> usize {
    let seed = "127.0.0.1:9000".parse().expect("an address");
    let client = Arc::new(ClientConfig::new(vec![seed]));
    let mut engine = ProducerEngine::new(client, Arc::new(ProducerConfig::default()), 7);
    engine.add_topic(Topic::new("t").expect("a good name"));
    #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
    let now = Instant::now();
    let mut chunk = Chunk::of(0, TopicIndex(0), &Message::new("t", "v"), Timestamp::from_millis(0));
    engine.append(&mut chunk, now);
    engine.advance(now);
    let Some(Action::Connect { conn, .. }) = engine.next_action() else { panic!("it does not connect") };
    engine.connected(conn, now);
    let mut actions: Vec<Action> = std::iter::from_fn(|| engine.next_action()).collect();
    assert!(matches!(actions[..], [Action::Send { .. }]), "{actions:?}");
    let mut cluster = ClusterState::new(Cluster::builder(), &[9000]).expect("the description is good");
    let Some(Action::Send { frame, .. }) = actions.pop() else { panic!("no handshake") };
    let request = Bytes::from(frame.to_vec().split_off(4));
    let Reply::Send { bytes, .. } = cluster.receive(1, &request, Timestamp::from_millis(0)) else { panic!("it waits") };
    engine.wrote(conn, 1, 1, now);
    engine.response(conn, &bytes[4..], now);
    let actions: Vec<Action> = std::iter::from_fn(|| engine.next_action()).collect();
    let [Action::Limit { max_response_bytes, .. }] = actions[..] else { panic!("{actions:?}") };
    max_response_bytes
}

/// Lets a broker answer a request. The cluster is for tests and decodes with kafka-protocol, whose structs are large,
/// so its bound is another: still so many bytes for each that came, and nothing for what is only claimed.
fn ask_bounded(free: usize, frame: &[u8]) {
    let builder = Cluster::builder().topic("t", 1);
    let mut cluster = ClusterState::new(builder, &[9000]).expect("the description is good");
    let frame = Bytes::copy_from_slice(frame);
    let info = measure(|| {
        let _ = cluster.receive(1, &frame, Timestamp::from_millis(1_700_000_000_000));
    });
    assert!(info.bytes_total as usize <= 1024 * frame.len() + free, "{} bytes: {info:?}", frame.len());
}

fn every_version() -> impl Iterator<Item = (Api, i16)> {
    READ.into_iter().flat_map(|api| versions(api).map(move |version| (api, version)))
}

fn versions(api: Api) -> RangeInclusive<i16> {
    api.ours().min..=api.ours().max
}

/// The frame with a claim in the place of each number where one may be. Not across two of them, where it would claim
/// millions: other readers, which reserve memory for what is claimed, live through these.
fn with_claims(frame: &[u8], flexible: bool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for claim in claims(flexible) {
        for at in 0..frame.len() {
            let (before, rest) = frame.split_at(at);
            let behind = rest.get(claim.len()..).unwrap_or_default();
            let is_number = rest.iter().position(|byte| *byte != 0).is_some_and(|zeros| zeros + 1 == claim.len());
            if flexible || is_number {
                all.push([before, claim, behind].concat());
            }
        }
    }
    all
}

/// Lengths and counts some thousand above what is there, in every form that the protocol has.
fn claims(flexible: bool) -> [&'static [u8]; 2] {
    if flexible { [&[0x89, 0x27], &[0x81, 0x80, 0x01]] } else { [&[0, 0, 0x13, 0x88], &[0x13, 0x88]] }
}

/// A response of which every list has this many elements.
fn sample(api: Api, version: i16, elements: u8) -> Vec<u8> {
    sample_of(api, version, &[elements; 400])
}

fn sample_of(api: Api, version: i16, bytes: &[u8]) -> Vec<u8> {
    Theirs::made_of(api, version, &mut Input::new(bytes)).frame(api, version)
}

/// A response with nothing in it.
fn empty(api: Api) -> Theirs {
    match api {
        Api::ApiVersions => Theirs::ApiVersions(Default::default()),
        Api::InitProducerId => Theirs::InitProducerId(Default::default()),
        Api::Metadata => Theirs::Metadata(Default::default()),
        Api::Produce => Theirs::Produce(Default::default()),
        other => panic!("{other} is not in READ"),
    }
}

/// A response with very many of the shortest elements, which cost the most for each byte.
fn large(api: Api, version: i16) -> Theirs {
    match api {
        Api::ApiVersions | Api::InitProducerId => empty(api),
        Api::Metadata => {
            let topic = MetadataResponseTopic::default()
                .with_name(Some(TopicName::default()))
                .with_partitions(vec![MetadataResponsePartition::default(); 2]);
            let brokers = vec![MetadataResponseBroker::default(); 10_000];
            Theirs::Metadata(MetadataResponse::default().with_brokers(brokers).with_topics(vec![topic; 20_000]))
        }
        Api::Produce => {
            let mut partition = PartitionProduceResponse::default();
            if version >= 8 {
                partition.record_errors = vec![BatchIndexAndErrorMessage::default(); 2];
            }
            let topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
            let empty = vec![TopicProduceResponse::default(); 50_000];
            Theirs::Produce(ProduceResponse::default().with_responses([vec![topic; 20_000], empty].concat()))
        }
        other => panic!("{other} is not in READ"),
    }
}

/// Zeros, with a count at `skip` that claims one element for so many of the bytes behind it, and again in its element.
fn nested(api: Api, version: i16, skip: usize, size: usize, denominator: usize) -> Vec<u8> {
    let mut frame = vec![0; skip];
    while frame.len() < 200 {
        let count = (size - frame.len()) / denominator;
        if api.is_flexible(version) {
            frame.extend([count as u8 | 0x80, (count >> 7) as u8 | 0x80, (count >> 14) as u8]);
        } else {
            frame.extend((count as u32).to_be_bytes());
        }
        frame.extend(std::iter::repeat_n(0, denominator));
    }
    frame.resize(size, 0);
    frame
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Vec::new());
    for value in ["one", "two"] {
        let mut record = Vec::new();
        let headers = [("h", Some(&b"1"[..])), ("h", None)];
        tail::put(&mut record, Some(b"key"), Some(value.as_bytes()), headers.into_iter());
        builder.append(1_700_000_000_000, &record);
    }
    let records = builder.finish();
    [&records.header(Stamp::NONE), &records.shared()[..]].concat()
}

/// Makes the checksum right.
fn repair(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

const REQUESTS: usize = 5;
/// Which of them is of a version that is not flexible.
const CLASSIC_REQUEST: usize = 3;

/// A request that the cluster answers, without its size.
fn request(which: usize) -> Vec<u8> {
    let number = CorrelationId(9);
    let bytes = batch();
    let header = *bytes.first_chunk().expect("it has a header");
    let records = Arc::new(bytes[61..].to_vec());
    let produce = |version| {
        let batches =
            [ProduceBatch { topic: "t", topic_id: [0; 16], partition: 0, header, records: Arc::clone(&records) }];
        ProduceRequest { version, correlation: number, client_id: "me", acks: -1, timeout_ms: 5, batches: &batches }
            .frame()
    };
    let frame = match which {
        0 => api_versions::request(4, number, "me"),
        1 => metadata::request(12, number, "me", &["t", "new"], true),
        2 => init_producer_id::request(4, number, "me"),
        3 => produce(3),
        _ => produce(9),
    };
    frame.to_vec().split_off(4)
}

//! What the producers deliver to one node, as Kafka's own consumer sees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ottla::{
    AsyncProducer, Client, Delivered, DeliveryErrorKind, DeliveryHandle, FlushError, Message, MetadataError,
    Partitioner, Persistence, PurgeError, RequiredAcks, ShutdownError, Timestamp, Topic,
};

use crate::fixture::RealKafka;
use crate::tools::{self, Record, field};

#[test]
fn a_partitioner_may_call_its_producer_and_one_that_never_returns_is_left_behind() {
    let kafka = RealKafka::shared();
    kafka.create_topic("from-a-partitioner", 1, &[]);
    let message = |key| Message::new("from-a-partitioner", "v").with_key(key);
    let own: Arc<Mutex<Option<AsyncProducer>>> = Arc::default();
    let inside = Arc::clone(&own);
    let (tell, told) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let partitioner = Partitioner::custom(move |input| {
        match input.key {
            Some(b"call") => {
                let producer = inside.lock().expect("no panic").take().expect("once");
                let handle = producer.produce_with_handle(message("from inside")).expect("accepted");
                let wait = matches!(handle.wait().expect_err("refused").kind(), DeliveryErrorKind::OnWorker);
                let flush = matches!(producer.flush(LONG), Err(FlushError::OnWorker));
                let purge = matches!(producer.purge(), Err(PurgeError::OnWorker));
                let shutdown = matches!(producer.shutdown(), Err(ShutdownError::OnWorker));
                let partitions = producer.partitions_for("from-a-partitioner", LONG);
                let partitions = matches!(partitions, Err(MetadataError::OnWorker));
                tell.send([wait, flush, purge, shutdown, partitions]).expect("it is waited for");
            }
            Some(b"block") => {
                tell.send([true; 5]).expect("it is waited for");
                assert!(released.lock().expect("no panic").recv().is_err());
            }
            _ => {}
        }
        0
    });
    let client = Client::builder([kafka.bootstrap()]).build().expect("good options");
    let producer = client.async_producer().partitioner(partitioner).build().expect("good options");
    *own.lock().expect("no panic") = Some(producer.clone());
    producer.produce(message("call")).expect("accepted");
    assert_eq!(producer.flush(LONG).expect("nothing waits for itself").failed, 0);
    assert_eq!(told.recv_timeout(LONG), Ok([true; 5]));
    assert_eq!(producer.flush(LONG).expect("in time").failed, 0);
    assert_eq!(kafka.counts("from-a-partitioner"), [2]);

    producer.produce(message("block")).expect("accepted");
    producer.deliver_messages();
    assert_eq!(told.recv_timeout(LONG), Ok([true; 5]));
    (0..10).for_each(|_| producer.produce(message("behind")).expect("accepted"));
    let began = Instant::now();
    let report = producer.shutdown_within(Duration::from_millis(100)).expect("not inside");
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
    assert_eq!((report.delivered, report.given_up, report.out_of_reach), (2, 11, 11));
    drop(release);
    let report = producer.shutdown().expect("not inside");
    assert_eq!((report.delivered + report.given_up, report.out_of_reach), (13, 0));
    // What the partitioner held may have been written when it returned; the rest was not.
    let never = report.undelivered.filter(|error| error.persistence() == Persistence::No).count();
    assert!(never >= 10, "{never}");
    assert!(kafka.counts("from-a-partitioner")[0] <= 3);
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn every_kind_of_message_reads_back_as_it_was_produced() {
    let kafka = RealKafka::shared();
    kafka.create_topic("kinds", 3, &[]);
    let topic = Topic::new("kinds").expect("a topic name");
    let time = Timestamp::from_millis(1_700_000_000_123);
    let messages = [
        Message::new(&topic, "only a value"),
        Message::new(&topic, "with a key").with_key("key"),
        Message::new(&topic, "").with_key(""),
        Message::tombstone(&topic, "deleted"),
        Message::new(&topic, "partition").with_partition(2),
        Message::new(&topic, "key and partition").with_key("elsewhere").with_partition(1),
        Message::new(&topic, "partition key").with_partition_key("key"),
        Message::new(&topic, "time").with_create_time(time),
        Message::new(&topic, "headers")
            .with_header("trace", &b"first"[..])
            .with_header("other", &b""[..])
            .with_header("trace", &b"second"[..])
            .with_header("null", None),
        Message::new(&topic, "tab\tline\nbreak \u{e9}\u{1f980}"),
        Message::new(&topic, "x".repeat(900_000)),
    ];

    let producer = streaming(&kafka.bootstrap());
    let handles: Vec<DeliveryHandle> =
        messages.iter().map(|message| producer.produce_with_handle(message.clone()).expect("accepted")).collect();
    let fates: Vec<Delivered> =
        DeliveryHandle::wait_all(handles).into_iter().map(|fate| fate.expect("delivered")).collect();
    drop(producer.shutdown().expect("shut down"));

    let records = kafka.read_all("kinds");
    assert_eq!(records.len(), messages.len());
    for (message, fate) in messages.iter().zip(&fates) {
        let record = at(&records, fate);
        assert_eq!(record.value.as_deref(), message.value());
        assert_eq!(record.key.as_deref(), message.key());
        let headers: Vec<_> =
            message.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
        assert_eq!(record.headers, headers);
        assert!(record.create_time);
        assert_eq!(Some(record.timestamp), fate.timestamp.map(Timestamp::as_millis));
        assert_eq!(record.partition, message.partition().unwrap_or(record.partition));
    }
    let record_of =
        |value: &str| records.iter().find(|record| record.value.as_deref() == Some(value.as_bytes())).unwrap();
    assert_eq!(record_of("time").timestamp, time.as_millis());
    assert_eq!(record_of("partition key").partition, record_of("with a key").partition);
    let now = Timestamp::from(std::time::SystemTime::now()).as_millis();
    assert!((now - record_of("only a value").timestamp).abs() < 60_000, "a message without a time has the present one");
}

#[test]
fn a_topic_that_stamps_its_messages_tells_its_time() {
    let kafka = RealKafka::shared();
    kafka.create_topic("stamped", 1, &["message.timestamp.type=LogAppendTime"]);
    let producer = streaming(&kafka.bootstrap());
    let old = Timestamp::from_millis(1_000_000_000_000);
    let message = Message::new("stamped", "v").with_create_time(old);
    let fate = producer.produce_with_handle(message).expect("accepted").wait().expect("delivered");
    drop(producer.shutdown().expect("shut down"));
    let records = kafka.read_all("stamped");
    assert!(!records[0].create_time);
    assert_eq!(fate.timestamp.map(Timestamp::as_millis), Some(records[0].timestamp));
    assert!(records[0].timestamp > old.as_millis());
}

#[test]
fn a_hundred_thousand_messages_are_complete_and_in_order() {
    const COUNT: usize = 100_000;
    let kafka = RealKafka::shared();
    kafka.create_topic("hundred-thousand", 3, &[]);
    let (sender, fates) = mpsc::channel();
    let producer = Client::builder([kafka.bootstrap()])
        .build()
        .unwrap()
        .async_producer()
        .streaming()
        .on_delivery(move |fate| {
            let delivered = fate.expect("delivered");
            sender
                .send((delivered.tag, delivered.partition, delivered.offset.expect("acks all")))
                .expect("the test waits");
        })
        .build()
        .unwrap();
    let topic = Topic::new("hundred-thousand").expect("a topic name");
    for number in 0..COUNT {
        let (key, value) = (format!("key-{}", number % 97), number.to_string());
        let message = Message::new(&topic, value).with_key(key).with_tag(number as u64);
        producer.produce_timeout(message, Duration::from_secs(60)).expect("there is room in time");
    }
    let report = producer.shutdown().expect("shut down");
    assert_eq!((report.delivered, report.failed, report.undelivered.len()), (COUNT as u64, 0, 0));
    // The callback goes with the last clone, and its end of the channel with it.
    drop(producer);

    let records = kafka.read_all("hundred-thousand");
    assert_numbers_in_order(&records, COUNT);
    let stored: HashMap<(i32, i64), &str> =
        records.iter().map(|record| ((record.partition, record.offset), record.text())).collect();
    let mut told = 0;
    while let Ok((tag, partition, offset)) = fates.recv_timeout(Duration::from_secs(10)) {
        assert_eq!(stored[&(partition, offset)], tag.to_string(), "the offset in a fate is that in the log");
        told += 1;
    }
    assert_eq!(told, COUNT);
    let mut partitions = HashMap::new();
    for record in &records {
        let before = partitions.insert(record.key.clone(), record.partition);
        assert!(before.is_none_or(|before| before == record.partition), "a key is in one partition");
    }
}

#[test]
fn the_sync_producer_delivers_what_it_buffers() {
    let kafka = RealKafka::shared();
    kafka.create_topic("sync", 2, &[]);
    let mut producer = Client::builder([kafka.bootstrap()]).build().unwrap().producer().build().unwrap();
    for round in 0..5 {
        for number in 0..2_000 {
            let number = round * 2_000 + number;
            let message = Message::new("sync", number.to_string()).with_partition(number % 2);
            producer.produce(message).expect("buffered");
        }
        assert_eq!(producer.buffer_size(), 2_000);
        producer.deliver_messages().expect("delivered");
        assert_eq!(producer.buffer_size(), 0);
        assert_eq!(kafka.counts("sync").iter().sum::<usize>(), (round as usize + 1) * 2_000);
    }
    assert!(producer.shutdown().is_empty());
    assert_numbers_in_order(&kafka.read_all("sync"), 10_000);
}

#[test]
fn all_acks_deliver() {
    let kafka = RealKafka::shared();
    for (topic, acks) in
        [("acks-0", RequiredAcks::None), ("acks-1", RequiredAcks::Leader), ("acks-all", RequiredAcks::All)]
    {
        kafka.create_topic(topic, 1, &[]);
        let client = Client::builder([kafka.bootstrap()]).build().unwrap();
        let producer = client.async_producer().required_acks(acks).max_queue_size(1_000).build().unwrap();
        for number in 0..1_000 {
            producer.produce(Message::new(topic, number.to_string())).expect("accepted");
        }
        let last = producer.produce_timeout(Message::new(topic, "1000"), Duration::from_secs(30));
        last.expect("a full queue leaves by itself");
        let last = producer.produce_with_handle(Message::new(topic, "1001")).expect("accepted").wait();
        // Nobody answers without acknowledgement: delivered is what was written to the socket.
        assert_eq!(last.expect("delivered").offset, (acks != RequiredAcks::None).then_some(1_001), "{acks:?}");
        let report = producer.shutdown().expect("shut down");
        assert_eq!((report.delivered, report.failed), (1_002, 0), "{acks:?}");
        // Without acknowledgement the broker may still be reading when shutdown returns.
        let limit = Instant::now() + Duration::from_secs(20);
        while kafka.counts(topic)[0] < 1_002 {
            assert!(Instant::now() < limit, "{acks:?}: messages are missing");
        }
        assert_numbers_in_order(&kafka.read_all(topic), 1_002);
    }
}

#[test]
fn idempotent_batches_are_stored_with_their_sequence() {
    let kafka = RealKafka::shared();
    kafka.create_topic("idempotent", 1, &[]);
    let client = Client::builder([kafka.bootstrap()]).build().unwrap();
    let builder = client.async_producer().streaming().max_batch_bytes(10_000).max_message_bytes(10_000);
    let producer = builder.build().unwrap();
    for number in 0..20_000 {
        let message = Message::new("idempotent", number.to_string());
        producer.produce_timeout(message, Duration::from_secs(30)).expect("there is room in time");
    }
    let report = producer.shutdown().expect("shut down");
    assert_eq!(report.delivered, 20_000);

    let batches = kafka.dump_batches(1, "idempotent", 0);
    assert!(batches.len() >= 20, "many batches, or this test shows nothing: {}", batches.len());
    let mut next_sequence = 0;
    for batch in &batches {
        assert_eq!(field(batch, "producerEpoch:"), 0, "{batch}");
        assert!(field(batch, "producerId:") >= 0, "{batch}");
        assert_eq!(field(batch, "baseSequence:"), next_sequence, "{batch}");
        next_sequence = field(batch, "lastSequence:") + 1;
        assert!(batch.contains("isvalid: true"), "{batch}");
    }
    assert_eq!(next_sequence, 20_000);
    assert_numbers_in_order(&kafka.read_all("idempotent"), 20_000);
}

#[test]
fn murmur2_chooses_the_partitions_of_kafkas_own_producer() {
    let kafka = RealKafka::shared();
    let keys: Vec<String> =
        (0..200).map(|number| format!("key {}", "\u{e9}".repeat(number % 7) + &number.to_string())).collect();
    for topic in ["murmur-theirs", "murmur-ours"] {
        kafka.create_topic(topic, 12, &[]);
    }
    let lines: String = keys.iter().map(|key| format!("{key}\tv\n")).collect();
    tools::console_produce(&kafka.bootstrap(), "murmur-theirs", true, &lines);
    let client = Client::builder([kafka.bootstrap()]).build().unwrap();
    let producer = client.async_producer().partitioner(Partitioner::murmur2()).build().unwrap();
    for key in &keys {
        producer.produce(Message::new("murmur-ours", "v").with_key(key.as_str())).expect("accepted");
    }
    assert_eq!(producer.shutdown().expect("shut down").delivered, 200);

    let partitions = |topic| -> HashMap<_, _> {
        kafka.read_all(topic).into_iter().map(|record| (record.key, record.partition)).collect()
    };
    let theirs = partitions("murmur-theirs");
    assert_eq!(theirs.len(), 200);
    assert_eq!(partitions("murmur-ours"), theirs);
}

#[test]
fn the_first_message_creates_its_topic() {
    let kafka = RealKafka::shared();
    let producer = streaming(&kafka.bootstrap());
    let message = Message::new("made-by-its-first-message", "v");
    let fate = producer.produce_with_handle(message).expect("accepted").wait().expect("delivered");
    assert_eq!(fate.offset, Some(0));
    assert_eq!(producer.partitions_for("made-by-its-first-message", Duration::from_secs(10)).expect("known by now"), 3);
    drop(producer.shutdown().expect("shut down"));
    assert_eq!(kafka.read_all("made-by-its-first-message").len(), 1);
}

#[test]
fn a_check_tells_brokers_from_the_controller_and_from_nobody() {
    let kafka = RealKafka::shared();
    let check = |address: &str| Client::builder([address]).build().unwrap().check(Duration::from_secs(10));
    check(&kafka.bootstrap()).expect("a broker is there");

    let began = Instant::now();
    let error = check(&kafka.controller_address(1)).expect_err("a controller takes no messages");
    let text = error.to_string();
    for part in [&*kafka.controller_address(1), "a KRaft controller listens there", "use the address of a broker"] {
        assert!(text.contains(part), "{part:?} is in {text:?}");
    }
    let error = check("127.0.0.1:9").expect_err("nothing listens there");
    assert!(error.to_string().contains("127.0.0.1:9"), "the address is in {error}");
    assert!(began.elapsed() < Duration::from_secs(25), "a check ends when its time is up");
}

/// The numbers from 0 are the values: each of them once, and ascending in every partition.
pub fn assert_numbers_in_order(records: &[Record], count: usize) {
    let mut seen = vec![false; count];
    let mut last: HashMap<i32, usize> = HashMap::new();
    for record in records {
        let number: usize = record.text().parse().expect("a number");
        assert!(!std::mem::replace(&mut seen[number], true), "{number} is there twice");
        if let Some(before) = last.insert(record.partition, number) {
            assert!(before < number, "{number} is after {before} in partition {}", record.partition);
        }
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    assert_eq!(missing, 0, "numbers of {count} are missing, the first is {:?}", seen.iter().position(|seen| !seen));
}

fn streaming(bootstrap: &str) -> AsyncProducer {
    let client = Client::builder([bootstrap]).build().expect("an address");
    client.async_producer().streaming().build().expect("options that fit together")
}

fn at<'r>(records: &'r [Record], fate: &Delivered) -> &'r Record {
    let found = records.iter().find(|record| record.partition == fate.partition && Some(record.offset) == fate.offset);
    found.unwrap_or_else(|| panic!("{fate:?} is not in the log"))
}

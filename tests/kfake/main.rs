//! ottla against kfake, franz-go's fake Kafka, and read back by franz-go's consumer: brokers, and a reader, that share
//! no code with Apache Kafka.
//!
//! `cargo test --features kfake --test kfake` needs Go 1.26, which fetches the modules once; `main.go` beside this file
//! is the whole program.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use ottla::{Client, Delivered, DeliveryHandle, Message, RequiredAcks, Sasl, Timestamp, Topic};

#[test]
fn every_kind_of_message_reads_back_as_it_was_produced() {
    let mut kfake = Kfake::start();
    let topic = Topic::new("kinds").expect("a topic name");
    let messages = [
        Message::new(&topic, "only a value"),
        Message::new(&topic, "with a key").with_key("key"),
        Message::new(&topic, "").with_key(""),
        Message::tombstone(&topic, "deleted"),
        Message::new(&topic, "partition").with_partition(2),
        Message::new(&topic, "time").with_create_time(Timestamp::from_millis(1_700_000_000_123)),
        Message::new(&topic, "headers")
            .with_header("trace", &b"first"[..])
            .with_header("other", &b""[..])
            .with_header("trace", &b"second"[..])
            .with_header("null", None),
        Message::new(&topic, "x".repeat(900_000)),
    ];
    let producer = kfake.client().async_producer().streaming().build().expect("options that fit together");
    let handles: Vec<DeliveryHandle> =
        messages.iter().map(|message| producer.produce_with_handle(message.clone()).expect("accepted")).collect();
    let fates: Vec<Delivered> =
        DeliveryHandle::wait_all(handles).into_iter().map(|fate| fate.expect("delivered")).collect();
    drop(producer.shutdown().expect("shut down"));

    let records = kfake.read("kinds", messages.len());
    for (message, fate) in messages.iter().zip(&fates) {
        let record = &records[&(fate.partition, fate.offset.expect("acks all"))];
        assert_eq!(record.value.as_deref(), message.value());
        assert_eq!(record.key.as_deref(), message.key());
        let headers: Vec<_> =
            message.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect();
        assert_eq!(record.headers, headers);
        assert_eq!(Some(record.timestamp), fate.timestamp.map(Timestamp::as_millis));
        assert_eq!(fate.partition, message.partition().unwrap_or(fate.partition));
    }
}

#[test]
fn many_messages_are_complete_in_order_and_where_they_were_said_to_be() {
    const COUNT: usize = 100_000;
    let mut kfake = Kfake::start();
    let (sender, fates) = mpsc::channel();
    let producer = kfake.client().async_producer().streaming().on_delivery(move |fate| {
        let delivered = fate.expect("delivered");
        let place = (delivered.partition, delivered.offset.expect("acks all"));
        sender.send((delivered.tag, place)).expect("the test waits");
    });
    let producer = producer.build().expect("options that fit together");
    for number in 0..COUNT {
        let message = Message::new("many", number.to_string()).with_key(format!("key-{}", number % 97));
        let message = message.with_tag(number as u64);
        producer.produce_timeout(message, Duration::from_secs(60)).expect("there is room in time");
    }
    let report = producer.shutdown().expect("shut down");
    assert_eq!((report.delivered, report.failed), (COUNT as u64, 0));
    // The callback goes with the last clone, and its end of the channel with it.
    drop(producer);

    let records = kfake.read("many", COUNT);
    let mut last = HashMap::new();
    for (number, place) in fates {
        let record = &records[&place];
        assert_eq!(record.value, Some(number.to_string().into_bytes()), "what is at {place:?}");
        // Fates of a partition come in the order of its log.
        let before = last.insert(record.key.clone(), (number, place));
        assert!(before.is_none_or(|before| before.0 < number && before.1 < place), "{number} at {place:?}");
    }
    assert_eq!(last.len(), 97);
}

#[test]
fn all_acks_deliver_without_idempotence() {
    let mut kfake = Kfake::start();
    for (acks, topic) in [(RequiredAcks::None, "none"), (RequiredAcks::Leader, "leader"), (RequiredAcks::All, "all")] {
        let producer = kfake.client().producer().idempotent(false).required_acks(acks).build();
        let mut producer = producer.expect("options that fit together");
        for number in 0..1_000 {
            producer.produce(Message::new(topic, number.to_string())).expect("there is room");
        }
        producer.deliver_messages().expect("delivered");
        assert_eq!(kfake.read(topic, 1_000).len(), 1_000);
    }
}

#[test]
fn logins_by_password_are_let_in_and_wrong_ones_are_refused() {
    const COUNT: usize = 1_000;
    let mut kfake = Kfake::start_with(&["sasl"]);
    for (topic, login) in
        [("plain", Sasl::plain as fn(_, _) -> Sasl), ("256", Sasl::scram_sha_256), ("512", Sasl::scram_sha_512)]
    {
        let client = |password: &str| {
            let builder = Client::builder(&kfake.bootstrap).sasl(login("admin".to_owned(), password.to_owned()));
            builder.sasl_over_ssl(false).build().expect("options that fit together")
        };
        // It closes the connection then, without a word.
        let error = client("wrong").check(Duration::from_secs(2)).expect_err("it is refused").to_string();
        assert!(error.contains("SaslAuthenticate; if that repeats, check the user"), "{topic}: {error}");
        let producer = client("secret").async_producer().streaming().build().expect("options that fit together");
        for number in 0..COUNT {
            let message = Message::new(topic, number.to_string());
            producer.produce_timeout(message, Duration::from_secs(60)).expect("there is room in time");
        }
        assert_eq!(producer.shutdown().expect("shut down").delivered, COUNT as u64);
        assert_eq!(kfake.read(topic, COUNT).len(), COUNT);
    }
}

/// A record as the consumer saw it.
struct Record {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A kfake cluster; it ends with this value, because its input ends.
struct Kfake {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    bootstrap: Vec<String>,
}

impl Kfake {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let _ = env_logger::builder().is_test(true).try_init();
        let mut kfake = Command::new(program());
        kfake.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = kfake.spawn().expect("it was built above");
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("piped above"));
        let mut kfake = Self { process, commands, answers, bootstrap: Vec::new() };
        kfake.bootstrap = kfake.line().split(',').map(str::to_owned).collect();
        kfake
    }

    fn client(&self) -> Client {
        Client::builder(&self.bootstrap).build().expect("addresses")
    }

    /// Exactly `count` records, all that are in a topic, by partition and offset.
    fn read(&mut self, topic: &str, count: usize) -> HashMap<(i32, i64), Record> {
        writeln!(self.commands.as_mut().expect("taken by drop only"), "{topic} {count}").expect("kfake reads");
        let mut records = HashMap::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (place, record) = parse(&line);
            assert!(records.insert(place, record).is_none(), "{place:?} was read twice");
        }
        assert_eq!(records.len(), count);
        records
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).expect("text");
        assert!(length > 0, "kfake has ended, its errors are above");
        line.trim_end_matches('\n').to_owned()
    }
}

impl Drop for Kfake {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.process.wait();
    }
}

/// `partition offset timestamp key value header=value ...`, as `main.go` writes it.
fn parse(line: &str) -> ((i32, i64), Record) {
    let words: Vec<&str> = line.split(' ').collect();
    let [partition, offset, timestamp, key, value, headers @ ..] = &words[..] else { panic!("not a record: {line}") };
    let headers = headers.iter().map(|header| {
        let (name, value) = header.split_once('=').expect("name=value");
        (String::from_utf8(bytes(name).expect("not null")).expect("text"), bytes(value))
    });
    let place = (partition.parse().expect("a number"), offset.parse().expect("a number"));
    let timestamp = timestamp.parse().expect("a number");
    (place, Record { timestamp, key: bytes(key), value: bytes(value), headers: headers.collect() })
}

/// Hexadecimal digits after an x, or nothing for null.
fn bytes(word: &str) -> Option<Vec<u8>> {
    let digits = word.strip_prefix('x')?;
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    Some((0..digits.len()).step_by(2).map(byte).collect())
}

/// The program of `main.go`, built by Go once in each run.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kfake");
        let built = Command::new("go")
            .args(["build", "-buildvcs=false", "-mod=readonly", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kfake"))
            .stdin(Stdio::null())
            .status()
            .expect("these tests need Go 1.26: install it, or leave out the feature kfake");
        assert!(built.success(), "Go could not build kfake, is there a network? Its errors are above");
        program
    })
}

//! Apache Kafka's jars, and its own command line programs: independent readers and writers to compare with.
//!
//! Maven fetches the jars once, into cargo's target folder. The brokers are of the version that `OTTLA_KAFKA` names,
//! the programs always of [`PROGRAMS`], which speak to all of them: what they are called and asked differs from version
//! to version. Nothing here uses ottla.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::{env, thread};

/// A record as Kafka's console consumer shows it. `None` is null, which differs from empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970, and whether they are the producer's (`CreateTime`) or the broker's.
    pub timestamp: i64,
    pub create_time: bool,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// In order, repeats included.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The value as text; null is a panic.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().expect("a value that is not null")).expect("text")
    }
}

/// The version of the brokers: what the environment variable `OTTLA_KAFKA` says, else that of the programs.
pub fn broker_version() -> String {
    env::var("OTTLA_KAFKA").unwrap_or_else(|_| PROGRAMS.to_owned())
}

/// A `java` command with the jars of the brokers' Kafka, up to the name of the class.
pub fn broker_java(options: &[&str]) -> Command {
    java(&broker_version(), options)
}

fn java(version: &str, options: &[&str]) -> Command {
    let mut command = Command::new("java");
    command.args(options).arg("-cp").arg(jars(version).join("*"));
    command
}

/// Creates a topic; `configs` are `name=value`.
pub fn create_topic(bootstrap: &str, name: &str, partitions: usize, configs: &[&str]) {
    create(bootstrap, name, ["--partitions", &partitions.to_string()], configs);
}

/// Creates a topic with its replicas at these places: `1:2,2:3` is two partitions, led by nodes 1 and 2.
pub fn create_placed_topic(bootstrap: &str, name: &str, places: &str, configs: &[&str]) {
    create(bootstrap, name, ["--replica-assignment", places], configs);
}

fn create(bootstrap: &str, name: &str, size: [&str; 2], configs: &[&str]) {
    let mut arguments = [&["--create", "--topic", name], &size[..]].concat();
    arguments.extend(configs.iter().flat_map(|config| ["--config", config]));
    call("org.apache.kafka.tools.TopicCommand", bootstrap, &arguments);
}

/// Deletes a topic.
pub fn delete_topic(bootstrap: &str, name: &str) {
    call("org.apache.kafka.tools.TopicCommand", bootstrap, &["--delete", "--topic", name]);
}

/// Gives a topic more partitions.
pub fn grow_topic(bootstrap: &str, name: &str, partitions: usize) {
    let partitions = partitions.to_string();
    let arguments = ["--alter", "--topic", name, "--partitions", &partitions];
    call("org.apache.kafka.tools.TopicCommand", bootstrap, &arguments);
}

/// Lets a client write so many bytes a second to each broker.
pub fn limit_client(bootstrap: &str, client_id: &str, bytes: usize) {
    let quota = format!("producer_byte_rate={bytes}");
    let arguments = ["--alter", "--entity-type", "clients", "--entity-name", client_id, "--add-config", &quota];
    call("kafka.admin.ConfigCommand", bootstrap, &arguments);
}

/// Forbids everybody to write to a topic.
pub fn deny_writing(bootstrap: &str, topic: &str) {
    access(bootstrap, "--add", topic);
}

/// Takes back what [`deny_writing`] said.
pub fn allow_writing(bootstrap: &str, topic: &str) {
    access(bootstrap, "--remove", topic);
}

fn access(bootstrap: &str, verb: &str, topic: &str) {
    let rule = ["--deny-principal", "User:*", "--operation", "Write", "--topic", topic];
    let force: &[&str] = if verb == "--remove" { &["--force"] } else { &[] };
    acl(bootstrap, &[&[verb], force, &rule[..]].concat());
}

/// Forbids everybody to be idempotent, by itself and by the right to write to any topic, and nothing else. The rule
/// that allows comes first: where rules are, what none of them allows is forbidden, the brokers' own work included.
pub fn deny_identity(bootstrap: &str) {
    for resource in [&["--cluster"][..], &["--topic", "*"]] {
        acl(bootstrap, &[&["--add", "--allow-principal", "User:*", "--operation", "All"], resource].concat());
    }
    acl(bootstrap, &["--add", "--deny-principal", "User:*", "--operation", "IdempotentWrite", "--cluster"]);
    deny_writing(bootstrap, "*");
}

fn acl(bootstrap: &str, arguments: &[&str]) {
    call("org.apache.kafka.tools.AclCommand", bootstrap, arguments);
}

/// Runs one of Kafka's programs to its end; returns what it said.
fn call(class: &str, bootstrap: &str, arguments: &[&str]) -> String {
    let mut command = program(class);
    command.args(["--bootstrap-server", bootstrap]).args(arguments);
    String::from_utf8_lossy(&run(command, b"").stdout).into_owned()
}

/// The node that leads a partition.
pub fn leader(bootstrap: &str, topic: &str, partition: i32) -> Option<usize> {
    let text = call("org.apache.kafka.tools.TopicCommand", bootstrap, &["--describe", "--topic", topic]);
    let line = text.lines().find(|line| line.contains(&format!("Partition: {partition}\t"))).expect("the partition");
    let leader = line.split("Leader: ").nth(1).expect("a leader column");
    leader.split_whitespace().next().and_then(|node| node.parse().ok())
}

/// The end offset of each partition of a topic, in the order of the partitions.
pub fn end_offsets(bootstrap: &str, topic: &str) -> Vec<usize> {
    let text = call("org.apache.kafka.tools.GetOffsetShell", bootstrap, &["--topic", topic]);
    let mut ends: Vec<(usize, usize)> = text
        .lines()
        .map(|line| {
            let mut fields = line.rsplit(':');
            let end = fields.next().and_then(|field| field.parse().ok());
            let partition = fields.next().and_then(|field| field.parse().ok());
            (partition.expect("topic:partition:offset"), end.expect("topic:partition:offset"))
        })
        .collect();
    ends.sort_unstable();
    ends.into_iter().map(|(_, end)| end).collect()
}

/// Everything in a topic by the console consumer: all partitions, from the first record to the present end.
///
/// Asserts that the offsets of each partition count from 0 without a gap.
pub fn read_all(bootstrap: &str, topic: &str) -> Vec<Record> {
    let count = end_offsets(bootstrap, topic).iter().sum();
    let records = consume(bootstrap, topic, None, count);
    for pair in records.windows(2) {
        let expected = if pair[0].partition == pair[1].partition { pair[0].offset + 1 } else { 0 };
        assert_eq!(pair[1].offset, expected, "offsets of partition {} have a gap", pair[1].partition);
    }
    assert!(records.first().is_none_or(|record| record.offset == 0), "the topic does not begin with offset 0");
    records
}

/// Exactly `count` records by the console consumer, of one partition or of all, ordered by partition and offset.
///
/// One partition is read without a consumer group.
pub fn consume(bootstrap: &str, topic: &str, partition: Option<i32>, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    each_record(bootstrap, topic, partition, count, |record| records.push(record));
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Gives `act` exactly `count` records by the console consumer, as they come, so that any number needs no memory.
pub fn each_record(bootstrap: &str, topic: &str, partition: Option<i32>, count: usize, mut act: impl FnMut(Record)) {
    if count == 0 {
        return;
    }
    let mut command = program("org.apache.kafka.tools.consumer.ConsoleConsumer");
    command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
    match partition {
        Some(partition) => command.args(["--partition", &partition.to_string(), "--offset", "earliest"]),
        None => command.arg("--from-beginning"),
    };
    command.args(["--max-messages", &count.to_string(), "--timeout-ms", "30000"]);
    for shown in ["partition", "offset", "timestamp", "key", "headers", "value"] {
        command.args(["--formatter-property", &format!("print.{shown}=true")]);
    }
    for (name, value) in
        [("key.separator", FIELD), ("line.separator", RECORD), ("headers.separator", HEADER), ("null.literal", NULL)]
    {
        command.args(["--formatter-property", &format!("{name}={value}")]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("java was found before");
    let output = BufReader::new(child.stdout.take().expect("piped above"));
    let mut errors = child.stderr.take().expect("piped above");
    let mut found = 0;
    let said = thread::scope(|scope| {
        // Beside the reading, or a full pipe would stop the program.
        let said = scope.spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).map(|_| text)
        });
        for line in output.split(RECORD.as_bytes()[0]) {
            let line = line.expect("the program can be read");
            if !line.is_empty() {
                act(parse(&line));
                found += 1;
            }
        }
        said.join().expect("nothing panics there").unwrap_or_default()
    });
    assert!(child.wait().expect("the program ends").success(), "{command:?} failed: {said}");
    assert_eq!(found, count, "the console consumer did not find all of {topic}: {said}");
}

/// Kafka's console producer: each line of `input` is a message, `key<TAB>value` where `keyed`.
pub fn console_produce(bootstrap: &str, topic: &str, keyed: bool, input: &str) {
    let mut command = program("org.apache.kafka.tools.ConsoleProducer");
    command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
    if keyed {
        command.args(["--reader-property", "parse.key=true"]);
    }
    run(command, input.as_bytes());
}

/// The lines that `DumpLogSegments` shows for the batches of a segment.
pub fn dump_batches(segment: &Path) -> Vec<String> {
    let mut command = program("org.apache.kafka.tools.DumpLogSegments");
    command.arg("--files").arg(segment);
    let output = run(command, b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.starts_with("baseOffset:")).map(str::to_owned).collect()
}

/// The number after `name` in a line of `DumpLogSegments`.
pub fn field(line: &str, name: &str) -> i64 {
    let mut words = line.split_whitespace();
    words.find(|word| *word == name).unwrap_or_else(|| panic!("no {name} in {line}"));
    words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no number after {name} in {line}"))
}

/// One of Kafka's programs, with a small, quickly started JVM that logs warnings only.
fn program(class: &str) -> Command {
    let options =
        ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];
    let mut command = java(PROGRAMS, &options);
    command.arg(class);
    command
}

fn run(mut command: Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("java was found before");
    let mut stdin = child.stdin.take().expect("piped above");
    let output = thread::scope(|scope| {
        // Beside the reading, or both pipes could be full. A program that does not read its input is no fault.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("the program ends")
    });
    assert!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// `CreateTime:1 Partition:0 Offset:0 headers key value`, with [`FIELD`] between.
fn parse(line: &[u8]) -> Record {
    let fields: Vec<&[u8]> = line.splitn(6, |byte| *byte == FIELD.as_bytes()[0]).collect();
    let [time, partition, offset, headers, key, value] = fields[..] else {
        panic!("not a record: {:?}", String::from_utf8_lossy(line));
    };
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let number = |field: &[u8], name: &str| -> i64 {
        let field = text(field);
        field
            .strip_prefix(name)
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("{field} is no {name}"))
    };
    let nullable = |field: &[u8]| (field != NULL.as_bytes()).then(|| field.to_vec());
    let create_time = time.starts_with(b"CreateTime:");
    Record {
        partition: i32::try_from(number(partition, "Partition:")).expect("a partition"),
        offset: number(offset, "Offset:"),
        timestamp: number(time, if create_time { "CreateTime:" } else { "LogAppendTime:" }),
        create_time,
        key: nullable(key),
        value: nullable(value),
        headers: match headers {
            b"NO_HEADERS" => Vec::new(),
            headers => headers
                .split(|byte| *byte == HEADER.as_bytes()[0])
                .map(|header| {
                    let colon = header.iter().position(|byte| *byte == b':').expect("name:value");
                    (text(&header[..colon]), nullable(&header[colon + 1..]))
                })
                .collect(),
        },
    }
}

/// The folder with Kafka's jars of this version; the first call fetches them.
fn jars(version: &str) -> PathBuf {
    static FETCHING: Mutex<()> = Mutex::new(());
    let jars = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{version}"));
    // One test fetches, the others wait for it.
    let _fetching = FETCHING.lock().unwrap_or_else(PoisonError::into_inner);
    if !jars.is_dir() {
        need("java", "-version", "Java 17 or newer (Debian: apt-get install default-jdk-headless)");
        fetch(version, &jars);
    }
    jars
}

/// Has Maven put Kafka's jars into `jars`: all of them, or the folder does not exist.
fn fetch(version: &str, jars: &Path) {
    need("mvn", "--version", "Maven 3 (Debian: apt-get install maven)");
    // Not `with_extension`, which would take the last number of the version for one.
    let part = jars.with_file_name(format!("kafka-{version}-part-{}", std::process::id()));
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/pom.xml")])
        .arg(format!("-Dkafka.version={version}"))
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", part.display()))
        .stdin(Stdio::null())
        .output()
        .expect("mvn was found above");
    assert!(
        output.status.success(),
        "Maven could not fetch Apache Kafka {version}, is there a network? {}",
        String::from_utf8_lossy(&output.stdout)
    );
    // Another test process may have been first: its jars are as good.
    if fs::rename(&part, jars).is_err() {
        assert!(jars.is_dir(), "{} cannot be renamed", part.display());
        let _ = fs::remove_dir_all(part);
    }
}

fn need(command: &str, asked: &str, what: &str) {
    let found =
        Command::new(command).arg(asked).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "the tests with real Kafka need `{command}`: install {what}, or leave out the feature real-kafka"
    );
}

/// The version of Kafka's own programs, and that of the brokers where nobody asks for another.
const PROGRAMS: &str = "4.3.1";

// Separators that no test puts into a message: unit, record and group separator, and cancel for null.
const FIELD: &str = "\u{1f}";
const RECORD: &str = "\u{1e}";
const HEADER: &str = "\u{1d}";
const NULL: &str = "\u{18}";

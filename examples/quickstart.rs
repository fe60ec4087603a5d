//! Ten thousand messages, and the proof that they arrived.
//!
//!     cargo run --release --example quickstart
//!     cargo run --release --example quickstart -- --bootstrap 127.0.0.1:9092
//!
//! Without an address it starts an in-process cluster, so that there is nothing to set up, and reads the messages back
//! from there. The last line says how it went:
//!
//!     delivered 10000 of 10000

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lexopt::Arg::{Long, Short};
use ottla::testing::Cluster;
use ottla::{AsyncProducer, Client, Message, Topic};

const COUNT: u64 = 10_000;

const USAGE: &str = "\
Produces 10,000 messages, and proves that they arrived.

usage: quickstart [--bootstrap HOST:PORT]

Without an address it starts an in-process cluster. The last line says how it went; the status is 0 only if
all was delivered, and 2 for bad usage.
";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let delivered = match arguments(lexopt::Parser::from_env()) {
        Ok(Asked::Help) => return status(say(USAGE.trim_end())),
        Ok(Asked::InProcess) => in_process(),
        Ok(Asked::Cluster(address)) => real(&address),
        Err(problem) => {
            complain(&format!("{problem}\n\nTry --help."));
            return ExitCode::from(2);
        }
    };
    status(delivered.and_then(|delivered| {
        say(&format!("delivered {delivered} of {COUNT}"))?;
        if delivered == COUNT { Ok(()) } else { Err("not all was delivered".into()) }
    }))
}

/// What the command line asks for.
enum Asked {
    InProcess,
    Cluster(String),
    Help,
}

fn arguments(mut parser: lexopt::Parser) -> Result<Asked, lexopt::Error> {
    let mut asked = Asked::InProcess;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("bootstrap") => asked = Asked::Cluster(parser.value()?.into_string()?),
            Short('h') | Long("help") => return Ok(Asked::Help),
            other => return Err(other.unexpected()),
        }
    }
    Ok(asked)
}

/// The exit status; what went wrong goes to standard error.
fn status(done: Result<(), Box<dyn Error>>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// A line on standard output. If nobody reads there any more, that is an error, and no panic.
fn say(line: &str) -> Result<(), Box<dyn Error>> {
    writeln!(io::stdout(), "{line}").map_err(|error| format!("standard output: {error}").into())
}

fn complain(problem: &str) {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr(), "quickstart: {problem}");
}

/// Produces to an in-process cluster and reads back what it stored.
fn in_process() -> Result<u64, Box<dyn Error>> {
    let cluster = Cluster::start()?;
    say(&format!("in-process cluster at {}", cluster.bootstrap()))?;
    let offsets = produce(&cluster.bootstrap())?;

    let stored = cluster.messages(TOPIC);
    let different: HashSet<_> = stored.iter().filter_map(|message| message.value_str()).collect();
    say(&format!("read back {} messages, {} different ones", stored.len(), different.len()))?;
    Ok(offsets.acknowledged.min(different.len() as u64))
}

/// Produces to a real cluster. What it acknowledged has an offset; reading back would take a consumer.
fn real(address: &str) -> Result<u64, Box<dyn Error>> {
    // Fails with a reason if nothing there speaks Kafka; producing would go on trying.
    let client = Client::builder([address]).build()?;
    for error in client.check(Duration::from_secs(10))?.unreachable {
        complain(&error.to_string());
    }
    let offsets = produce(address)?;
    if offsets.repeated > 0 {
        return Err(format!("{} messages were given the offset of another", offsets.repeated).into());
    }
    Ok(offsets.acknowledged)
}

fn produce(address: &str) -> Result<Offsets, Box<dyn Error>> {
    let offsets = Arc::new(Mutex::new(Offsets::default()));
    let seen = Arc::clone(&offsets);

    let producer: AsyncProducer = Client::builder([address])
        .build()?
        .async_producer()
        .max_queue_size(5_000)
        .delivery_threshold(1_000)
        .delivery_interval(Duration::from_millis(100))
        .on_delivery(move |fate| match fate {
            Ok(delivered) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.add(delivered.partition, delivered.offset);
            }
            Err(error) => complain(&error.to_string()),
        })
        .build()?;

    let topic = Topic::new(TOPIC)?;
    for number in 0..COUNT {
        let value = format!("message {number}");
        let key = format!("key {}", number % 100);
        let message = Message::new(&topic, value).with_key(key).with_tag(number);
        // Waits while the queue is full; `produce` would refuse the message then, and hand it back.
        producer.produce_timeout(message, Duration::from_secs(30))?;
    }
    let report = producer.shutdown()?;
    let (delivered, failed, undelivered) = (report.delivered, report.failed, report.undelivered.len());
    say(&format!("produced {COUNT} messages: {delivered} delivered, {failed} failed, {undelivered} given up"))?;

    let offsets = std::mem::take(&mut *offsets.lock().unwrap_or_else(PoisonError::into_inner));
    let mut ends: Vec<_> = offsets.last.iter().collect();
    ends.sort_unstable();
    for (partition, offset) in ends {
        say(&format!("{TOPIC}-{partition} holds them up to offset {offset}"))?;
    }
    Ok(offsets)
}

/// The offsets that were acknowledged, checked as they come: in a partition, each is above the one before.
#[derive(Default)]
struct Offsets {
    last: HashMap<i32, i64>,
    acknowledged: u64,
    repeated: u64,
}

impl Offsets {
    fn add(&mut self, partition: i32, offset: Option<i64>) {
        let Some(offset) = offset else { return };
        self.acknowledged += 1;
        let before = self.last.insert(partition, offset);
        if before.is_some_and(|before| before >= offset) {
            self.repeated += 1;
        }
    }
}

const TOPIC: &str = "quickstart";

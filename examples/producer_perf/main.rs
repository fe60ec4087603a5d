//! How fast does it go here?
//!
//!     cargo run --release --example producer_perf
//!     cargo run --release --example producer_perf -- --bootstrap 127.0.0.1:9092 --topic perf --count 10000000
//!     cargo run --release --example producer_perf -- --latency --count 20000
//!
//! Without an address it starts an in-process cluster, which shares the processors with the producer: figures that
//! mean something come from a cluster elsewhere. `--help` lists the options. The last line is the account, as JSON.
#![expect(clippy::disallowed_methods, reason = "a program has threads, and looks at the clock")]

#[path = "../pipe/login.rs"]
mod login;
mod measure;
mod messages;
mod options;
#[path = "../pipe/tls.rs"]
mod tls;
mod watch;

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::Cluster;
use ottla::{AsyncProducer, Client, DeliveryHandle, ProduceError, ProduceErrorKind, Producer};

use measure::Mark;
use messages::{Kind, Messages, Share};
use options::{Options, ToldBy};
use watch::{Told, Watch};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let options = match Options::parse(lexopt::Parser::from_env()) {
        Ok(options) => options,
        Err(problem) => return complain(&format!("{problem}\n\nTry --help."), ExitCode::from(2)),
    };
    let done = match &options {
        Some(options) => run(options),
        None => print(options::USAGE).map(|()| 0).map_err(Into::into),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => complain(&format!("{failed} messages were not delivered"), ExitCode::FAILURE),
        Err(error) => complain(&error.to_string(), ExitCode::FAILURE),
    }
}

/// Prints on standard output. If nobody reads there any more, that is an error, and no panic.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| io::Error::other(format!("standard output: {error}")))
}

fn complain(problem: &str, status: ExitCode) -> ExitCode {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr(), "producer_perf: {problem}");
    status
}

/// Produces what was asked for, prints the account, and returns how many messages were not delivered.
fn run(options: &Options) -> Result<u64, Box<dyn Error>> {
    let messages = Messages::new(options)?;
    let cluster = match options.bootstrap {
        Some(_) => None,
        None => {
            let partitions = options.partitions.unwrap_or(3);
            Some(Cluster::builder().brokers(options.brokers).topic(&*options.topic, partitions).start()?)
        }
    };
    let bootstrap = match (&options.bootstrap, &cluster) {
        (Some(address), _) => address.clone(),
        (None, Some(cluster)) => cluster.bootstrap(),
        (None, None) => unreachable!("without an address there is a cluster"),
    };
    let client = options.tls.apply(Client::builder([bootstrap]))?;
    let client = options.login.apply(client)?.build()?;
    // Fails with a reason if nothing there speaks Kafka; producing would go on trying.
    client.check(Duration::from_secs(10))?;

    let told = Told::new();
    let mut producer = Means::new(&client, options, &told)?;
    let _watch = Watch::over(&told, options.size);
    producer.produce(0..options.warmup, &messages, options, &told)?;
    let began = Mark::now();
    let mut latencies = producer.produce(0..options.count, &messages, options, &told)?;
    let failed = producer.failed(&told);
    let account = began.account(options.count, options.size, failed, latencies.as_mut());
    drop(_watch);
    producer.shutdown();
    print(&format!("{account}\n"))?;
    Ok(failed)
}

/// One of the two producers.
enum Means {
    Async { producer: AsyncProducer, told_by: ToldBy, failed: u64 },
    Sync(Box<Producer>),
}

type Latencies = Option<Vec<Duration>>;

impl Means {
    fn new(client: &Client, options: &Options, told: &Arc<Told>) -> Result<Self, Box<dyn Error>> {
        if options.sync {
            let mut builder = client
                .producer()
                .required_acks(options.acks)
                .max_buffer_bytesize(options.queue_bytes)
                .max_batch_bytes(options.batch_bytes)
                .max_message_bytes(options.batch_bytes);
            if options.idempotent {
                builder = builder.idempotent(true);
            }
            return Ok(Self::Sync(Box::new(builder.build()?)));
        }
        let mut builder = client
            .async_producer()
            .streaming()
            .delivery_interval(options.linger)
            .required_acks(options.acks)
            .max_queue_size(options.queue_messages)
            .max_queue_bytesize(options.queue_bytes)
            .max_batch_bytes(options.batch_bytes)
            .max_message_bytes(options.batch_bytes);
        if options.idempotent {
            builder = builder.idempotent(true);
        }
        let told_by = match options.told_by {
            ToldBy::Report if told.is_watched() && !options.latency => ToldBy::Callback,
            told_by => told_by,
        };
        if told_by == ToldBy::Callback {
            let told = Arc::clone(told);
            builder = builder.on_delivery(move |fate| told.note(fate.as_ref().copied()));
        }
        Ok(Self::Async { producer: builder.build()?, told_by, failed: 0 })
    }

    /// Produces these messages and waits until each has its fate. With `--latency`, how long each took.
    fn produce(
        &mut self,
        numbers: std::ops::Range<u64>,
        messages: &Messages,
        options: &Options,
        told: &Told,
    ) -> Result<Latencies, Box<dyn Error>> {
        match self {
            Self::Sync(producer) if options.latency => one_at_a_time(numbers, told, |number| {
                producer.produce(messages.get(number))?;
                producer.deliver_messages()?;
                Ok(())
            })
            .map(Some),
            Self::Sync(producer) => {
                for number in numbers {
                    produce_sync(producer, messages, number)?;
                }
                producer.deliver_messages()?;
                Ok(None)
            }
            Self::Async { producer, .. } if options.latency => one_at_a_time(numbers, told, |number| {
                producer.produce_with_handle(messages.get(number))?.wait()?;
                Ok(())
            })
            .map(Some),
            Self::Async { producer, told_by, failed } => {
                let (threads, told_by) = (options.threads, *told_by);
                thread::scope(|scope| {
                    let callers: Vec<_> = (0..threads)
                        .map(|caller| {
                            let share = messages.share(numbers.start + caller..numbers.end, threads);
                            let producer = &*producer;
                            scope.spawn(move || call(producer, told_by, share, messages, told))
                        })
                        .collect();
                    callers.into_iter().try_for_each(|caller| caller.join().expect("a caller does not panic"))
                })?;
                *failed += producer.flush(FLUSH)?.failed;
                Ok(None)
            }
        }
    }

    /// How many messages were not delivered.
    fn failed(&self, told: &Told) -> u64 {
        match self {
            // It says so at once.
            Self::Sync(_) => 0,
            Self::Async { told_by: ToldBy::Report, failed, .. } => *failed,
            Self::Async { .. } => told.failed(),
        }
    }

    fn shutdown(self) {
        match self {
            Self::Async { producer, .. } => drop(producer.shutdown()),
            Self::Sync(producer) => drop(producer.shutdown()),
        }
    }
}

/// One thread that produces.
fn call(
    producer: &AsyncProducer,
    told_by: ToldBy,
    share: Share,
    messages: &Messages,
    told: &Told,
) -> Result<(), ProduceError> {
    let kind = if told.is_watched() { Kind::Any } else { messages.kind() };
    if told_by != ToldBy::Handles {
        for place in share {
            // One call for each kind, as a program has that knows what it sends: so the compiler knows it, too.
            match kind {
                Kind::Plain => producer.produce_timeout(messages.plain(place), ROOM),
                Kind::Keyed => producer.produce_timeout(messages.keyed(place), ROOM),
                Kind::Any => producer.produce_timeout(messages.any(place).with_tag(told.tag(place.number)), ROOM),
            }?;
        }
        return Ok(());
    }
    let mut handles = VecDeque::with_capacity(HANDLES);
    let wait = |handle: DeliveryHandle| told.note(handle.wait().as_ref());
    for place in share {
        if handles.len() == HANDLES {
            handles.pop_front().into_iter().for_each(wait);
        }
        let handle = match kind {
            Kind::Plain => producer.produce_with_handle(messages.plain(place)),
            Kind::Keyed => producer.produce_with_handle(messages.keyed(place)),
            Kind::Any => producer.produce_with_handle(messages.any(place).with_tag(told.tag(place.number))),
        };
        match handle {
            Ok(handle) => handles.push_back(handle),
            Err(error) => handles.push_back(when_there_is_room(producer, error)?),
        }
    }
    handles.into_iter().for_each(wait);
    Ok(())
}

/// Tries it again while the queue is full.
#[inline(never)]
fn when_there_is_room(producer: &AsyncProducer, mut error: ProduceError) -> Result<DeliveryHandle, ProduceError> {
    let until = Instant::now() + ROOM;
    while matches!(error.kind(), ProduceErrorKind::BufferOverflow(_)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
        match producer.produce_with_handle(error.into_message()) {
            Err(again) => error = again,
            handle => return handle,
        }
    }
    Err(error)
}

/// Delivers what is there when the buffer is full.
fn produce_sync(producer: &mut Producer, messages: &Messages, number: u64) -> Result<(), Box<dyn Error>> {
    match producer.produce(messages.get(number)) {
        Err(error) if matches!(error.kind(), ProduceErrorKind::BufferOverflow(_)) => {
            producer.deliver_messages()?;
            Ok(producer.produce(error.into_message())?)
        }
        result => Ok(result?),
    }
}

/// How long each took from before `produce` until after it was told of.
fn one_at_a_time(
    numbers: std::ops::Range<u64>,
    told: &Told,
    mut deliver: impl FnMut(u64) -> Result<(), Box<dyn Error>>,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut latencies = Vec::with_capacity((numbers.end - numbers.start) as usize);
    for number in numbers {
        let began = Instant::now();
        deliver(number)?;
        let latency = began.elapsed();
        latencies.push(latency);
        told.took(latency);
    }
    Ok(latencies)
}

/// How long to wait for room in the queue, and for the last messages.
const ROOM: Duration = Duration::from_secs(60);
const FLUSH: Duration = Duration::from_secs(600);
/// Handles that are kept before the oldest is waited for.
const HANDLES: usize = 50_000;

//! Each line of standard input becomes a Kafka message: a producer for shells, and a model for programs that read a
//! stream, must not lose a line, and have to end well.
//!
//!     seq 1000000 | cargo run --release --example pipe -- --bootstrap 127.0.0.1:9092 --topic numbers
//!
//! The last line on standard output is the account, and the exit status is 0 only if all that was read was delivered:
//!
//!     {"read":1000000,"accepted":1000000,"delivered":1000000,"failed":0,"undelivered":0,"overflowed":0}
//!
//! `--help` lists the options. The end of the input, SIGINT, SIGTERM and SIGHUP shut down cleanly: what was read is
//! delivered. A second signal gives up at once. A line that is too long for a message fails, and is never in memory as a
//! whole.

#![expect(clippy::disallowed_methods, reason = "a program has threads, and looks at the clock")]

mod account;
mod input;
mod login;
mod options;
mod pump;
mod stop;
mod tls;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use ottla::{AsyncProducer, Client, Topic};

use account::{Account, Counts};
use options::{Options, USAGE};
use pump::Pump;
use stop::Stop;

fn main() -> ExitCode {
    // The library's warnings go to standard error; RUST_LOG=ottla=debug shows more.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();

    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return print(USAGE, ExitCode::SUCCESS),
        Err(error) => return bad_usage(&error.to_string()),
    };
    let topic = match Topic::new(&options.topic) {
        Ok(topic) => topic,
        Err(error) => return bad_usage(&format!("--topic: {error}")),
    };
    let account = match Account::open(&options) {
        Ok(account) => account,
        Err(error) => {
            return bad_usage(&format!("--undelivered: the file cannot be opened: {error}"));
        }
    };
    let producer = match producer(&options, &account) {
        Ok(producer) => producer,
        Err(error) => return bad_usage(&error.to_string()),
    };
    let stop = match Stop::on_signals(options.shutdown_timeout) {
        Ok(stop) => stop,
        Err(error) => {
            return complain(&format!("signals cannot be caught: {error}"), ExitCode::FAILURE);
        }
    };

    let (counts, problem) = Pump::new(&options, topic, producer, account, stop).run();
    let status = match &problem {
        None if counts.all_delivered() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    if let Some(problem) = problem {
        complain(&problem, status);
    }
    print(&format!("{}\n", json(&counts)), status)
}

/// The producer that the options describe. Its callback owns every failure, so that none is only a number.
fn producer(options: &Options, account: &Account) -> Result<AsyncProducer, Box<dyn Error>> {
    let client = options.tls.apply(Client::builder([&options.bootstrap]).client_id("ottla-pipe"))?;
    let client = options.login.apply(client)?.build()?;
    let mut builder = client
        .async_producer()
        .streaming()
        .required_acks(options.acks)
        .max_message_bytes(options.max_message_bytes)
        .max_batch_bytes(options.max_message_bytes.max(BATCH_BYTES));
    if let Some(messages) = options.delivery_threshold {
        builder = builder.delivery_threshold(messages);
    }
    if let Some(interval) = options.delivery_interval {
        builder = builder.delivery_interval(interval);
    }
    if let Some(messages) = options.max_queue_size {
        builder = builder.max_queue_size(messages);
    }
    if let Some(idempotent) = options.idempotent {
        builder = builder.idempotent(idempotent);
    }
    if let Some(timeout) = options.delivery_timeout {
        builder = builder.delivery_timeout(timeout);
    }
    if let Some(partitioner) = &options.partitioner {
        builder = builder.partitioner(partitioner.clone());
    }
    let fates = account.fates();
    let builder = builder.on_delivery(move |fate| match fate {
        Ok(_) => fates.delivered(),
        Err(error) => fates.failed(&error, error.message()),
    });
    Ok(builder.build()?)
}

/// `read` is the sum of `delivered`, `failed`, `undelivered` and `overflowed`.
fn json(counts: &Counts) -> String {
    let Counts { read, accepted, delivered, failed, undelivered, overflowed } = counts;
    format!(
        r#"{{"read":{read},"accepted":{accepted},"delivered":{delivered},"failed":{failed},"undelivered":{undelivered},"overflowed":{overflowed}}}"#
    )
}

/// Prints on standard output; a reader that went away is a failure, and no panic.
fn print(text: &str, status: ExitCode) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => status,
        Err(error) => complain(&format!("standard output: {error}"), ExitCode::FAILURE),
    }
}

fn complain(problem: &str, status: ExitCode) -> ExitCode {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr(), "pipe: {problem}");
    status
}

fn bad_usage(problem: &str) -> ExitCode {
    complain(&format!("{problem}\n\nTry --help."), ExitCode::from(2))
}

/// As large as the producer makes batches by default.
const BATCH_BYTES: usize = 1_000_000;

//! The command line, parsed once.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg::{Long, Short};
use lexopt::{Error, Parser};
use ottla::RequiredAcks;

use crate::login::{Login, sasl_usage};
use crate::tls::{TlsOptions, tls_usage};

pub const USAGE: &str = concat!(
    "\
Measures how fast this machine produces with ottla.

usage: producer_perf [options]

  --bootstrap HOST:PORT[,...]  where to find the cluster (default: a cluster inside this process, which
                               shares its processors and memory)
  --topic T                    the topic (default producer-perf)
  --count N                    how many messages are measured (default 1000000)
  --warmup N                   how many go before, unmeasured (default 0)
  --size BYTES                 bytes of a value (default 100)
  --payloads FILE              lines of exactly that size, to be used in turn (default: made up)
  --acks 0|1|all               whose acknowledgement counts (default all)
  --idempotent                 insist on idempotence, which is on anyway with --acks all
  --compression none           no codec is there yet
  --linger-ms N                deliver when the oldest message has waited for N ms (default 5; 0 is off)
  --batch-bytes N              the largest batch (default 1000000)
  --queue-messages N           how many messages may wait (default 100000)
  --queue-bytes N              how many bytes may wait (default 67108864)
  --keyed                      give each message a key of 16 bytes
  --partitions N               name a partition for each message, 0 to N-1 in turn (default: ottla chooses)
  --brokers N                  how many brokers the cluster inside this process has (default 1)
  --threads N                  how many threads produce (default 1)
  --callback                   learn each fate by a callback
  --handles                    learn each fate by a handle
  --latency                    one message at a time, the next when it is acknowledged
  --sync                       with the producer that works on the caller's thread
",
    tls_usage!(),
    sasl_usage!(),
    "  --help                       this text

On a terminal it tells each second how fast it is, with latencies of a sample of the messages, for which it
has a callback. The last line of standard output is the account, the times in seconds, of the measured
messages only:

  {\"peer\":\"ottla\",\"n\":..,\"bytes\":..,\"wall_s\":..,\"user_s\":..,\"sys_s\":..,\"max_rss_kb\":..,\"failed\":0}

and with --latency also p50_us, p99_us and p999_us. The status is 0 only if every message was delivered,
and 2 for bad usage.
"
);

/// What the program was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub bootstrap: Option<String>,
    pub login: Login,
    pub topic: String,
    pub count: u64,
    pub warmup: u64,
    pub size: usize,
    pub payloads: Option<PathBuf>,
    pub acks: RequiredAcks,
    pub idempotent: bool,
    pub linger: Duration,
    pub batch_bytes: usize,
    pub queue_messages: usize,
    pub queue_bytes: usize,
    pub keyed: bool,
    pub partitions: Option<i32>,
    pub brokers: i32,
    pub threads: u64,
    pub told_by: ToldBy,
    pub latency: bool,
    pub sync: bool,
    pub tls: TlsOptions,
}

/// How the program learns of each message's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// By the counts at the end.
    Report,
    Callback,
    Handles,
}

impl Options {
    /// The options, or `None` if help was asked for.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn parse(mut parser: Parser) -> Result<Option<Self>, Error> {
        let mut options = Self {
            bootstrap: None,
            login: Login::default(),
            topic: "producer-perf".to_owned(),
            count: 1_000_000,
            warmup: 0,
            size: 100,
            payloads: None,
            acks: RequiredAcks::All,
            idempotent: false,
            linger: Duration::from_millis(5),
            batch_bytes: 1_000_000,
            queue_messages: 100_000,
            queue_bytes: 64 << 20,
            keyed: false,
            partitions: None,
            brokers: 1,
            threads: 1,
            told_by: ToldBy::Report,
            latency: false,
            sync: false,
            tls: TlsOptions::default(),
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(None),
                Long(name) => {
                    let name = name.to_owned();
                    options.set(&name, &mut parser)?;
                }
                other => return Err(other.unexpected()),
            }
        }
        if options.sync && (options.threads > 1 || options.told_by != ToldBy::Report) {
            return Err("--sync has one thread, no callback and no handles".into());
        }
        if options.latency && (options.threads > 1 || options.told_by == ToldBy::Callback) {
            return Err("--latency has one thread, which waits for each message".into());
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, parser: &mut Parser) -> Result<(), Error> {
        match name {
            "bootstrap" => self.bootstrap = Some(value(name, parser)?),
            "topic" => self.topic = value(name, parser)?,
            "count" => self.count = value(name, parser)?,
            "warmup" => self.warmup = value(name, parser)?,
            "size" => self.size = value(name, parser)?,
            "payloads" => self.payloads = Some(parser.value()?.into()),
            "acks" => self.acks = acks(&value::<String>(name, parser)?)?,
            "idempotent" => self.idempotent = true,
            "compression" => match &*value::<String>(name, parser)? {
                "none" => {}
                codec => return Err(format!("--compression {codec}: this version of ottla has no codec").into()),
            },
            "linger-ms" => self.linger = Duration::from_millis(value(name, parser)?),
            "batch-bytes" => self.batch_bytes = value(name, parser)?,
            "queue-messages" => self.queue_messages = value(name, parser)?,
            "queue-bytes" => self.queue_bytes = value(name, parser)?,
            "keyed" => self.keyed = true,
            "partitions" => self.partitions = Some(at_least_one(name, parser)?),
            "brokers" => self.brokers = at_least_one(name, parser)?,
            "threads" => self.threads = at_least_one(name, parser)?,
            "callback" => self.told_by = ToldBy::Callback,
            "handles" => self.told_by = ToldBy::Handles,
            "latency" => self.latency = true,
            "sync" => self.sync = true,
            _ if self.login.set(name, parser)? => {}
            _ if self.tls.set(name, parser)? => {}
            _ => return Err(format!("there is no option --{name}").into()),
        }
        Ok(())
    }
}

fn value<T: FromStr<Err: Display>>(name: &str, parser: &mut Parser) -> Result<T, Error> {
    let text = parser.value()?.into_string()?;
    text.parse().map_err(|error| format!("--{name} {text}: {error}").into())
}

fn at_least_one<T: FromStr<Err: Display> + PartialOrd + From<u8>>(name: &str, parser: &mut Parser) -> Result<T, Error> {
    let number = value::<T>(name, parser)?;
    if number < T::from(1) { Err(format!("--{name} must be at least 1").into()) } else { Ok(number) }
}

fn acks(text: &str) -> Result<RequiredAcks, Error> {
    match text {
        "0" => Ok(RequiredAcks::None),
        "1" => Ok(RequiredAcks::Leader),
        "all" | "-1" => Ok(RequiredAcks::All),
        _ => Err(format!("--acks {text}: choose one of 0, 1, all").into()),
    }
}

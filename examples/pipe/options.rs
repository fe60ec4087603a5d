//! The command line, parsed once.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::Arg::{Long, Short};
use lexopt::{Error, Parser};
use ottla::{Partitioner, RequiredAcks};

use crate::login::{Login, sasl_usage};
use crate::tls::{TlsOptions, tls_usage};

pub const USAGE: &str = concat!(
    "\
Each line of standard input becomes a Kafka message.

usage: pipe --bootstrap HOST:PORT[,HOST:PORT...] --topic T [options]

  --bootstrap HOST:PORT[,...]   where to find the cluster
  --topic T                     the topic of all messages
  --delivery-threshold N        deliver when N messages wait (default 10000; 0 is off)
  --delivery-interval-ms N      deliver when the oldest has waited for N ms (default 5; 0 is off)
  --max-queue-size N            how many messages may wait (default 100000)
  --max-message-bytes N         a line with more bytes fails, some 70 bytes for the record included
                                (default 1000000); the topic's max.message.bytes must allow it, too
  --acks 0|1|all                whose acknowledgement counts (default all)
  --idempotent true|false       no repeats, and order kept, under retries (default true with --acks all)
  --delivery-timeout-ms N       how long a message may be tried (default 120000)
  --shutdown-timeout-ms N       how long to go on after the end of the input or a signal
                                (default: until every message is delivered or has failed)
  --on-overflow wait|drop|fail  when the queue is full: wait without limit (default), leave the line
                                out and go on, or stop reading
  --key-separator C             the key comes before the first C; a line without C has no key; \\t is
                                a tab
  --partitioner crc32|murmur2   partition of a key as in ruby-kafka and, but for empty keys, librdkafka
                                (default), or as in Kafka's Java client
  --undelivered FILE            append every line that was not delivered to FILE, so that it can be
                                piped in again
",
    tls_usage!(),
    sasl_usage!(),
    "  --help                        this text

The last line of standard output is the account: {\"read\":n,\"accepted\":n,\"delivered\":n,\"failed\":n,
\"undelivered\":n,\"overflowed\":n}.

  accepted     lines that the producer took
  delivered    lines that are in Kafka
  failed       lines that Kafka or the producer refused, or that ran out of time
  undelivered  lines without a fate when the time was up, and lines that were read and not taken then
  overflowed   lines left out because the queue was full (--on-overflow drop or fail)

read is the sum of the last four. The status is 0 only if all that was read was delivered, and 2 for bad
usage. A first SIGINT, SIGTERM or SIGHUP ends the input, a second one gives up at once; one that is ignored
at the start, as under nohup, stays so. SIGQUIT ends everything, without an account. If standard output
cannot be written to, standard error says so, and the status is 1.

A line that is too long for a message fails by itself. It goes to the file of --undelivered piece by piece,
so that a line of any length takes little memory.
"
);

/// What the program was asked to do. `None` where the producer's own default holds.
#[derive(Debug)]
pub struct Options {
    pub bootstrap: String,
    pub topic: String,
    pub delivery_threshold: Option<usize>,
    pub delivery_interval: Option<Duration>,
    pub max_queue_size: Option<usize>,
    pub max_message_bytes: usize,
    pub acks: RequiredAcks,
    pub idempotent: Option<bool>,
    pub delivery_timeout: Option<Duration>,
    pub shutdown_timeout: Option<Duration>,
    pub on_overflow: OnOverflow,
    pub key_separator: Option<Vec<u8>>,
    pub partitioner: Option<Partitioner>,
    pub undelivered: Option<PathBuf>,
    pub login: Login,
    pub tls: TlsOptions,
}

/// What happens to a line that finds the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOverflow {
    Wait,
    Drop,
    Fail,
}

impl Options {
    /// The options, or `None` if help was asked for.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, Error> {
        let mut options = Self {
            bootstrap: String::new(),
            topic: String::new(),
            delivery_threshold: None,
            delivery_interval: None,
            max_queue_size: None,
            max_message_bytes: 1_000_000,
            acks: RequiredAcks::All,
            idempotent: None,
            delivery_timeout: None,
            shutdown_timeout: None,
            on_overflow: OnOverflow::Wait,
            key_separator: None,
            partitioner: None,
            undelivered: None,
            login: Login::default(),
            tls: TlsOptions::default(),
        };
        let mut parser = Parser::from_args(arguments.into_iter().collect::<Vec<_>>());
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
        match options {
            Self { bootstrap, .. } if bootstrap.is_empty() => Err("--bootstrap HOST:PORT is missing".into()),
            Self { topic, .. } if topic.is_empty() => Err("--topic T is missing".into()),
            options => Ok(Some(options)),
        }
    }

    fn set(&mut self, name: &str, parser: &mut Parser) -> Result<(), Error> {
        match name {
            "bootstrap" => self.bootstrap = value(name, parser)?,
            "topic" => self.topic = value(name, parser)?,
            "delivery-threshold" => self.delivery_threshold = Some(value(name, parser)?),
            "delivery-interval-ms" => self.delivery_interval = Some(millis(name, parser)?),
            "max-queue-size" => self.max_queue_size = Some(value(name, parser)?),
            "max-message-bytes" => self.max_message_bytes = value(name, parser)?,
            "acks" => {
                let acks = [("0", RequiredAcks::None), ("1", RequiredAcks::Leader), ("all", RequiredAcks::All)];
                self.acks = choice(name, parser, acks)?;
            }
            "idempotent" => self.idempotent = Some(value(name, parser)?),
            "delivery-timeout-ms" => self.delivery_timeout = Some(millis(name, parser)?),
            "shutdown-timeout-ms" => self.shutdown_timeout = Some(millis(name, parser)?),
            "on-overflow" => {
                let ways = [("wait", OnOverflow::Wait), ("drop", OnOverflow::Drop), ("fail", OnOverflow::Fail)];
                self.on_overflow = choice(name, parser, ways)?;
            }
            "key-separator" => {
                let separator: String = value(name, parser)?;
                if separator.is_empty() || separator.contains('\n') {
                    return Err(format!("--{name} must not be empty or hold a line break").into());
                }
                self.key_separator = Some(separator.replace("\\t", "\t").into_bytes());
            }
            "partitioner" => {
                let partitioners = [("crc32", Partitioner::crc32()), ("murmur2", Partitioner::murmur2())];
                self.partitioner = Some(choice(name, parser, partitioners)?);
            }
            // The name of a file need not be text.
            "undelivered" => self.undelivered = Some(PathBuf::from(parser.value()?)),
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

fn millis(name: &str, parser: &mut Parser) -> Result<Duration, Error> {
    value(name, parser).map(Duration::from_millis)
}

fn choice<T, const N: usize>(name: &str, parser: &mut Parser, choices: [(&str, T); N]) -> Result<T, Error> {
    let chosen: String = value(name, parser)?;
    let words = choices.each_ref().map(|(word, _)| *word).join(", ");
    let choice = choices.into_iter().find(|(word, _)| *word == chosen);
    choice.map(|(_, choice)| choice).ok_or_else(|| format!("--{name} {chosen}: choose one of {words}").into())
}

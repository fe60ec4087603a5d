//! The command line, parsed once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ottla::{Partitioner, RequiredAcks};

pub const USAGE: &str = "\
Each line of standard input becomes a Kafka message.

usage: pipe --bootstrap HOST:PORT[,HOST:PORT...] --topic T [options]

  --bootstrap HOST:PORT[,...]   where to find the cluster
  --topic T                     the topic of all messages
  --delivery-threshold N        deliver when N messages wait (default 10000; 0 is off)
  --delivery-interval-ms N      deliver when the oldest has waited for N ms (default 5; 0 is off)
  --max-queue-size N            how many messages may wait (default 100000)
  --acks 0|1|all                whose acknowledgement counts (default all)
  --idempotent true|false       no repeats, and order kept, under retries (default true with --acks all)
  --delivery-timeout-ms N       how long a message may be tried (default 120000)
  --shutdown-timeout-ms N       how long to go on after the end of the input or a signal
                                (default: until every message is delivered or has failed)
  --on-overflow wait|drop|fail  when the queue is full: wait without limit (default), leave the line
                                out and go on, or stop reading
  --key-separator C             what is before the first C is the key; a line without C has no key;
                                \\t is a tab
  --partitioner crc32|murmur2   partition of a key as in ruby-kafka and, but for empty keys, librdkafka
                                (default), or as in Kafka's Java client
  --undelivered FILE            append every line that was not delivered to FILE, so that it can be
                                piped in again
  --help                        this text

The last line of standard output is the account: {\"read\":n,\"accepted\":n,\"delivered\":n,\"failed\":n,
\"undelivered\":n,\"overflowed\":n}.

  accepted     lines that the producer took
  delivered    lines that are in Kafka
  failed       lines that Kafka or the producer refused, or that ran out of time
  undelivered  lines without a fate when the time was up, and lines that were read and not taken then
  overflowed   lines left out because the queue was full (--on-overflow drop or fail)

read is the sum of the last four. The status is 0 only if all that was read was delivered, and 2 for bad
usage. A first SIGINT, SIGTERM or SIGHUP ends the input, a second one gives up at once; one that is ignored
at the start, as under nohup, stays so. SIGQUIT ends everything, without an account. Where nobody reads standard
output any more, standard error says so, and the status is 1. A line of 1 MiB or more fails.
";

/// What the program was asked to do. `None` where the producer's own default holds.
#[derive(Debug)]
pub struct Options {
    pub bootstrap: String,
    pub topic: String,
    pub delivery_threshold: Option<usize>,
    pub delivery_interval: Option<Duration>,
    pub max_queue_size: Option<usize>,
    pub acks: RequiredAcks,
    pub idempotent: Option<bool>,
    pub delivery_timeout: Option<Duration>,
    pub shutdown_timeout: Option<Duration>,
    pub on_overflow: OnOverflow,
    pub key_separator: Option<Vec<u8>>,
    pub partitioner: Option<Partitioner>,
    pub undelivered: Option<PathBuf>,
}

/// What happens to a line that finds the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOverflow {
    Wait,
    Drop,
    Fail,
}

impl Options {
    /// The options, or `None` where help was asked for.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut options = Self {
            bootstrap: String::new(),
            topic: String::new(),
            delivery_threshold: None,
            delivery_interval: None,
            max_queue_size: None,
            acks: RequiredAcks::All,
            idempotent: None,
            delivery_timeout: None,
            shutdown_timeout: None,
            on_overflow: OnOverflow::Wait,
            key_separator: None,
            partitioner: None,
            undelivered: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let argument = text(argument)?;
            // `--name value` and `--name=value` are the same.
            let (name, mut attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(OsString::from(value))),
                _ => (argument.as_str(), None),
            };
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            if !NAMES.contains(&name) {
                return Err(format!("there is no option {name}"));
            }
            let value = attached.take().or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"))?;
            options.set(name, value)?;
        }
        match options {
            Self { bootstrap, .. } if bootstrap.is_empty() => Err("--bootstrap HOST:PORT is missing".to_owned()),
            Self { topic, .. } if topic.is_empty() => Err("--topic T is missing".to_owned()),
            options => Ok(Some(options)),
        }
    }

    fn set(&mut self, name: &str, value: OsString) -> Result<(), String> {
        // A file's name need not be text.
        if name == "--undelivered" {
            self.undelivered = Some(PathBuf::from(value));
            return Ok(());
        }
        let value = text(value)?;
        match name {
            "--bootstrap" => self.bootstrap = value,
            "--topic" => self.topic = value,
            "--delivery-threshold" => self.delivery_threshold = Some(number(name, &value)?),
            "--delivery-interval-ms" => self.delivery_interval = Some(millis(name, &value)?),
            "--max-queue-size" => self.max_queue_size = Some(number(name, &value)?),
            "--acks" => {
                let acks = [("0", RequiredAcks::None), ("1", RequiredAcks::Leader), ("all", RequiredAcks::All)];
                self.acks = choice(name, &value, acks)?;
            }
            "--idempotent" => self.idempotent = Some(choice(name, &value, [("true", true), ("false", false)])?),
            "--delivery-timeout-ms" => self.delivery_timeout = Some(millis(name, &value)?),
            "--shutdown-timeout-ms" => self.shutdown_timeout = Some(millis(name, &value)?),
            "--on-overflow" => {
                let ways = [("wait", OnOverflow::Wait), ("drop", OnOverflow::Drop), ("fail", OnOverflow::Fail)];
                self.on_overflow = choice(name, &value, ways)?;
            }
            "--key-separator" => {
                if value.is_empty() || value.contains('\n') {
                    return Err(format!("{name} must not be empty or hold a line break"));
                }
                self.key_separator = Some(value.replace("\\t", "\t").into_bytes());
            }
            _ => {
                let partitioners = [("crc32", Partitioner::crc32()), ("murmur2", Partitioner::murmur2())];
                self.partitioner = Some(choice(name, &value, partitioners)?);
            }
        }
        Ok(())
    }
}

const NAMES: [&str; 13] = [
    "--bootstrap",
    "--topic",
    "--delivery-threshold",
    "--delivery-interval-ms",
    "--max-queue-size",
    "--acks",
    "--idempotent",
    "--delivery-timeout-ms",
    "--shutdown-timeout-ms",
    "--on-overflow",
    "--key-separator",
    "--undelivered",
    "--partitioner",
];

fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|argument| format!("{} is not UTF-8", argument.to_string_lossy()))
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} needs a whole number from 0, not {value:?}"))
}

fn millis(name: &str, value: &str) -> Result<Duration, String> {
    number(name, value).map(Duration::from_millis)
}

fn choice<T, const N: usize>(name: &str, value: &str, choices: [(&str, T); N]) -> Result<T, String> {
    let words = choices.each_ref().map(|(word, _)| *word).join(", ");
    let chosen = choices.into_iter().find(|(word, _)| *word == value);
    chosen.map(|(_, choice)| choice).ok_or_else(|| format!("{name} is one of {words}, not {value:?}"))
}

//! The two clients, with the same settings: acks of all replicas, idempotent, 5 ms to linger, batches of 1,000,000
//! bytes, a queue of 100,000 messages and 64 MiB; a callback counts what was delivered, and a full queue is tried again
//! after a millisecond.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ottla::{Client, Message, OnOverflow, ProduceErrorKind, RequiredAcks, Topic};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::Load;
use crate::measure::{Figures, Mark};

/// Produces with this client, first a tenth of the messages that does not count.
pub fn run(peer: &str, load: &Load) -> Result<Figures, Box<dyn Error>> {
    let lines = Lines::new(load.size);
    let told = Told::default();
    let produce: Produce = if peer == "ottla" { ottla(load, &told)? } else { rdkafka(load, &told)? };
    let warmup = load.count / 10;
    produce(&lines, 0..warmup)?;
    let mark = Mark::now()?;
    produce(&lines, warmup..warmup + load.count)?;
    let figures = mark.figures(load.count)?;
    let delivered = told.delivered.load(Ordering::Relaxed);
    if delivered != warmup + load.count {
        return Err(format!("{peer} delivered {delivered} of {}", warmup + load.count).into());
    }
    Ok(figures)
}

/// Produces the messages with these numbers, and waits until all have their fate.
type Produce = Box<dyn Fn(&Lines, std::ops::Range<u64>) -> Result<(), Box<dyn Error>>>;

fn ottla(load: &Load, told: &Told) -> Result<Produce, Box<dyn Error>> {
    let told = told.clone();
    let producer = Client::builder([&*load.bootstrap])
        .build()?
        .async_producer()
        .streaming()
        .required_acks(RequiredAcks::All)
        .idempotent(true)
        .delivery_interval(LINGER)
        .max_batch_bytes(BATCH_BYTES)
        .max_message_bytes(BATCH_BYTES)
        .max_queue_size(QUEUE_MESSAGES)
        .max_queue_bytesize(QUEUE_BYTES)
        .on_overflow(OnOverflow::Refuse)
        .on_delivery(move |fate| told.note(fate.is_ok()))
        .build()?;
    let topic = Topic::new(TOPIC)?;
    Ok(Box::new(move |lines, numbers| {
        for number in numbers {
            while let Err(error) = producer.produce(Message::new(&topic, lines.get(number))) {
                match error.kind() {
                    ProduceErrorKind::BufferOverflow(_) => thread::sleep(FULL),
                    _ => return Err(error.to_string().into()),
                }
            }
        }
        producer.flush(PATIENCE)?;
        Ok(())
    }))
}

fn rdkafka(load: &Load, told: &Told) -> Result<Produce, Box<dyn Error>> {
    let producer: ThreadedProducer<Told> = ClientConfig::new()
        .set("bootstrap.servers", &load.bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", LINGER.as_millis().to_string())
        .set("batch.size", BATCH_BYTES.to_string())
        .set("message.max.bytes", BATCH_BYTES.to_string())
        .set("queue.buffering.max.messages", QUEUE_MESSAGES.to_string())
        .set("queue.buffering.max.kbytes", (QUEUE_BYTES / 1024).to_string())
        .create_with_context(told.clone())?;
    Ok(Box::new(move |lines, numbers| {
        for number in numbers {
            let record = || BaseRecord::<(), [u8]>::to(TOPIC).payload(lines.get(number));
            while let Err((error, _)) = producer.send(record()) {
                match error {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => thread::sleep(FULL),
                    error => return Err(error.into()),
                }
            }
        }
        producer.flush(PATIENCE)?;
        Ok(())
    }))
}

pub fn ottla_version() -> String {
    "ottla".to_owned()
}

pub fn rdkafka_version() -> String {
    format!("rdkafka (librdkafka {})", rdkafka::util::get_rdkafka_version().1)
}

/// What callbacks are told.
#[derive(Clone, Default)]
struct Told {
    delivered: Arc<AtomicU64>,
}

impl Told {
    fn note(&self, is_delivered: bool) {
        if is_delivered {
            self.delivered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.note(result.is_ok());
    }
}

/// About 2 MiB of letters, from which messages are cut.
struct Lines {
    letters: Vec<u8>,
    size: usize,
}

impl Lines {
    fn new(size: usize) -> Self {
        let mut state = 1_u64;
        let mut letter = || {
            // Knuth's MMIX generator: the same letters each time.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'a' + (state >> 33) as u8 % 26
        };
        Self { letters: (0..(2 << 20) + size).map(|_| letter()).collect(), size }
    }

    fn get(&self, number: u64) -> &[u8] {
        let at = (number as usize * self.size) % (2 << 20);
        &self.letters[at..at + self.size]
    }
}

const TOPIC: &str = "compare";
const LINGER: Duration = Duration::from_millis(5);
const BATCH_BYTES: usize = 1_000_000;
const QUEUE_MESSAGES: usize = 100_000;
const QUEUE_BYTES: usize = 64 << 20;
const FULL: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(120);

//! A steady stream of messages from several callers, and the account of it: what was told of each message, compared
//! with what Kafka's own consumer reads back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ottla::{AsyncProducer, AsyncProducerBuilder, Client, Delivered, DeliveryError, Message, Topic};
use std::sync::Mutex;

use crate::fixture::RealKafka;
use crate::tools;

/// Callers that produce numbered messages to one topic until they are stopped.
///
/// The first two of every four callers name the partition, the third gives a key, the last neither.
pub struct Load {
    topic: String,
    producer: AsyncProducer,
    going: Arc<AtomicBool>,
    callers: Vec<JoinHandle<u64>>,
    /// Between the delivery thread, which writes, and the test.
    told: Arc<Mutex<Told>>,
    began: Instant,
}

/// How much of a [`Load`] there is.
#[derive(Clone, Copy)]
pub struct Size {
    pub partitions: usize,
    pub callers: usize,
    /// Messages a second, of all callers together.
    pub rate: usize,
}

impl Load {
    /// Starts the callers, and waits until the first messages of every partition are delivered.
    pub fn start(
        client: &Client,
        topic: &str,
        size: Size,
        options: impl FnOnce(AsyncProducerBuilder) -> AsyncProducerBuilder,
    ) -> Self {
        let told = Arc::new(Mutex::new(Told::new(size.partitions)));
        let teller = Arc::clone(&told);
        let builder = options(client.async_producer().streaming());
        let producer = builder
            .on_delivery(move |fate| teller.lock().expect("no holder panicked").note(fate))
            .build()
            .expect("options that fit together");
        let going = Arc::new(AtomicBool::new(true));
        let callers = (0..size.callers)
            .map(|caller| {
                let (producer, going) = (producer.clone(), Arc::clone(&going));
                let topic = Topic::new(topic).expect("a topic name");
                thread::spawn(move || call(&producer, &topic, caller, size, &going))
            })
            .collect();
        let load = Self { topic: topic.to_owned(), producer, going, callers, told, began: Instant::now() };
        while load.told.lock().expect("no holder panicked").partitions.iter().any(|partition| partition.last.is_none())
        {
            assert!(
                load.began.elapsed() < Duration::from_secs(60),
                "nothing is delivered: {:?}",
                load.producer.last_error()
            );
            thread::sleep(Duration::from_millis(20));
        }
        load.listen_for_silence();
        load
    }

    /// Forgets the silences so far.
    pub fn listen_for_silence(&self) {
        let now = Instant::now();
        for partition in &mut self.told.lock().expect("no holder panicked").partitions {
            (partition.silence, partition.last) = (Duration::ZERO, Some(now));
        }
    }

    /// The longest time without a delivery, for each partition, also if it is not over yet.
    pub fn silences(&self) -> Vec<Duration> {
        let now = Instant::now();
        self.told
            .lock()
            .expect("no holder panicked")
            .partitions
            .iter()
            .map(|partition| partition.silence_until(now))
            .collect()
    }

    /// Waits until nothing is delivered to the partition for longer than `silence`, and then something again.
    pub fn wait_for_silence_and_its_end(&self, partition: usize, silence: Duration) {
        let limit = Instant::now() + Duration::from_secs(200);
        // What is behind the last delivery counts only once there is another.
        while self.told.lock().expect("no holder panicked").partitions[partition].silence <= silence {
            assert!(Instant::now() < limit, "partition {partition}: {:?}", self.silences());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the producer meets an error that says this.
    pub fn wait_for_error(&self, text: &str) {
        let limit = Instant::now() + Duration::from_secs(60);
        while !self.producer.last_error().is_some_and(|error| error.to_string().contains(text)) {
            assert!(Instant::now() < limit, "not {text:?} but {:?}", self.producer.last_error());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the callers, waits until every message has its fate, reads the topic back and draws up the account.
    pub fn finish(mut self, kafka: &RealKafka) -> Account {
        let longest_silence = self.silences().into_iter().max().unwrap_or_default();
        self.going.store(false, Ordering::Relaxed);
        let accepted: Vec<u64> =
            self.callers.drain(..).map(|caller| caller.join().expect("all was accepted")).collect();
        let report = self.producer.shutdown().expect("shut down");
        let took = self.began.elapsed();
        // The callback goes with the last clone.
        drop(self.producer);
        let told = Arc::into_inner(self.told).expect("the callback is gone").into_inner().expect("no holder panicked");
        assert_eq!((report.delivered, report.failed), (told.delivered, told.failed), "the report is what was told");

        let mut log = Log::new(&accepted, told.partitions.len());
        let count = tools::end_offsets(&kafka.bootstrap(), &self.topic).iter().sum();
        tools::each_record(&kafka.bootstrap(), &self.topic, None, count, |record| {
            log.read(record.partition as usize, record.offset, record.text(), &told);
        });
        Account {
            accepted: accepted.iter().sum(),
            delivered: told.delivered,
            failed: told.failed,
            undelivered: report.undelivered.len() as u64,
            in_log: count as u64,
            missing: log.seen.iter().flatten().filter(|seen| !**seen).count() as u64,
            duplicates: log.duplicates,
            reordered: log.reordered,
            wrong_offsets: told.delivered - log.agreed,
            longest_silence,
            took,
            first_failure: told.first_failure,
        }
    }
}

/// What became of every message of a [`Load`].
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    pub accepted: u64,
    pub delivered: u64,
    pub failed: u64,
    pub undelivered: u64,
    pub in_log: u64,
    /// Accepted and not in the log.
    pub missing: u64,
    /// In the log once more.
    pub duplicates: u64,
    /// In the log behind a later message of the same caller in the same partition.
    pub reordered: u64,
    /// Delivered, but the log has something else at the partition and offset that was told.
    pub wrong_offsets: u64,
    /// The longest time in which one partition had no delivery.
    pub longest_silence: Duration,
    pub took: Duration,
    pub first_failure: Option<String>,
}

impl Account {
    /// Every message was delivered, and is in the log once, in order, where it was said to be.
    pub fn assert_whole(&self) {
        let faults = [self.failed, self.undelivered, self.missing, self.duplicates, self.reordered, self.wrong_offsets];
        assert_eq!(faults, [0; 6], "{self}");
        assert_eq!((self.delivered, self.in_log), (self.accepted, self.accepted), "{self}");
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.delivered as f64 / self.took.as_secs_f64();
        writeln!(f, "messages accepted     {:>12}", self.accepted)?;
        writeln!(f, "         delivered    {:>12}", self.delivered)?;
        writeln!(f, "         failed       {:>12}", self.failed)?;
        writeln!(f, "         undelivered  {:>12}", self.undelivered)?;
        writeln!(f, "in the log            {:>12}", self.in_log)?;
        writeln!(f, "           missing    {:>12}", self.missing)?;
        writeln!(f, "           duplicates {:>12}", self.duplicates)?;
        writeln!(f, "           reordered  {:>12}", self.reordered)?;
        writeln!(f, "offsets told wrong    {:>12}", self.wrong_offsets)?;
        writeln!(f, "longest stall         {:>12.1} s (of one partition)", self.longest_silence.as_secs_f64())?;
        writeln!(f, "time                  {:>12.1} s", self.took.as_secs_f64())?;
        write!(f, "rate                  {rate:>12.0} messages a second")?;
        match &self.first_failure {
            Some(failure) => write!(f, "\nfirst failure: {failure}"),
            None => Ok(()),
        }
    }
}

/// What the callback was told.
struct Told {
    delivered: u64,
    failed: u64,
    first_failure: Option<String>,
    partitions: Vec<ToldPartition>,
}

#[derive(Clone, Default)]
struct ToldPartition {
    /// The tag of the message at each offset, or [`NOTHING`].
    tags: Vec<u64>,
    last: Option<Instant>,
    silence: Duration,
}

impl Told {
    fn new(partitions: usize) -> Self {
        let partitions = vec![ToldPartition::default(); partitions];
        Self { delivered: 0, failed: 0, first_failure: None, partitions }
    }

    fn note(&mut self, fate: Result<&Delivered, DeliveryError>) {
        match fate {
            Ok(delivered) => {
                self.delivered += 1;
                let partition = &mut self.partitions[delivered.partition as usize];
                let offset = delivered.offset.expect("acks all") as usize;
                if partition.tags.len() <= offset {
                    partition.tags.resize(offset + 1, NOTHING);
                }
                partition.tags[offset] = delivered.tag;
                let now = Instant::now();
                (partition.silence, partition.last) = (partition.silence_until(now), Some(now));
            }
            Err(error) => {
                self.failed += 1;
                self.first_failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl ToldPartition {
    fn silence_until(&self, now: Instant) -> Duration {
        self.silence.max(self.last.map_or(Duration::ZERO, |last| now - last))
    }
}

/// The log, as far as it was read.
struct Log {
    /// For each caller, which of its numbers.
    seen: Vec<Vec<bool>>,
    /// For each partition: its next offset, and the last number of each caller.
    partitions: Vec<(i64, Vec<Option<usize>>)>,
    duplicates: u64,
    reordered: u64,
    /// Messages that are where they were said to be.
    agreed: u64,
}

impl Log {
    fn new(accepted: &[u64], partitions: usize) -> Self {
        Self {
            seen: accepted.iter().map(|count| vec![false; *count as usize]).collect(),
            partitions: vec![(0, vec![None; accepted.len()]); partitions],
            duplicates: 0,
            reordered: 0,
            agreed: 0,
        }
    }

    fn read(&mut self, partition: usize, offset: i64, text: &str, told: &Told) {
        let (caller, number) = text.split_once(' ').expect("caller and number");
        let (caller, number): (usize, usize) = (caller.parse().expect("a number"), number.parse().expect("a number"));
        let (next_offset, last) = &mut self.partitions[partition];
        assert_eq!(offset, *next_offset, "offsets of partition {partition} have a gap");
        *next_offset += 1;
        let before = last[caller].replace(number);
        if std::mem::replace(&mut self.seen[caller][number], true) {
            self.duplicates += 1;
        } else if before.is_some_and(|before| before > number) {
            self.reordered += 1;
        }
        let said = told.partitions[partition].tags.get(offset as usize);
        self.agreed += u64::from(said == Some(&tag(caller, number)));
    }
}

/// One caller: produces its share of the rate until told to stop; returns how many messages.
fn call(producer: &AsyncProducer, topic: &Topic, caller: usize, size: Size, going: &AtomicBool) -> u64 {
    let began = Instant::now();
    let mut number = 0;
    while going.load(Ordering::Relaxed) {
        let due = began.elapsed().as_millis() as usize * size.rate / size.callers / 1_000;
        while number < due {
            let message = Message::new(topic, format!("{caller} {number}")).with_tag(tag(caller, number));
            let message = match caller % 4 {
                0 | 1 => message.with_partition((number % size.partitions) as i32),
                2 => message.with_key(format!("key {}", number % 101)),
                _ => message,
            };
            producer.produce_timeout(message, Duration::from_secs(120)).expect("there is room in time");
            number += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
    number as u64
}

fn tag(caller: usize, number: usize) -> u64 {
    (caller as u64) << 40 | number as u64
}

const NOTHING: u64 = u64::MAX;

#[test]
fn an_account_sees_what_is_missing_twice_late_or_elsewhere() {
    let mut told = Told::new(2);
    // Caller 0 has the numbers 0 to 4, caller 1 has 0 and 1.
    told.partitions[0].tags = vec![tag(0, 0), tag(0, 2), tag(0, 1), tag(1, 0), NOTHING];
    told.partitions[1].tags = vec![tag(0, 4), tag(1, 1)];
    let mut log = Log::new(&[5, 2], 2);
    for (offset, text) in (0..).zip(["0 0", "0 2", "0 1", "1 0", "0 2"]) {
        log.read(0, offset, text, &told);
    }
    for (offset, text) in (0..).zip(["1 1", "0 4"]) {
        log.read(1, offset, text, &told);
    }
    let missing: Vec<usize> = (0..5).filter(|number| !log.seen[0][*number]).collect();
    assert_eq!(missing, [3]);
    assert_eq!((log.duplicates, log.reordered), (1, 1), "2 is there twice, 1 comes after 2");
    // The two in partition 1 were told to be where the other is.
    assert_eq!(log.agreed, 4);
}

//! The pieces that every message goes through, one by one: how long each takes, by Criterion.
//!
//!     cargo bench --bench micro
//!     cargo bench --bench micro -- --quick
//!     cargo bench --bench micro -- queue
//!
//! Each measured call handles a batch of messages, as in a producer that is busy; Criterion also prints what that is
//! per second. Compare figures of one machine only: for a change, run with `--save-baseline before`, then with
//! `--baseline before`.
//!
//! No socket, thread or lock is in any figure; `benches/instructions.rs` has the whole way of a message.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ottla::queue::chunk::Chunk;
use ottla::queue::{Limits, Prepared, Queue, Sealed};
use ottla::record::batch::{BatchBuilder, Stamp};
use ottla::{Message, Partitioner, Timestamp, Topic};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    header(&mut criterion);
    queue(&mut criterion);
    partitioner(&mut criterion);
    criterion.final_summary();
}

/// Messages of 100 and 1024 bytes into a batch, until it is full.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch/append");
    for tail_bytes in [100, 1024] {
        let tail = vec![b'x'; tail_bytes];
        let mut batch = BatchBuilder::new(Vec::with_capacity(2 * BATCH_BYTES));
        group.throughput(Throughput::Elements(fill(&mut batch, &tail)));
        group.bench_function(format!("{tail_bytes} bytes"), |bencher| {
            bencher.iter(|| fill(&mut batch, black_box(&tail)));
        });
    }
    group.finish();
}

/// Fills the batch anew; how many records it has then.
fn fill(batch: &mut BatchBuilder, tail: &[u8]) -> u64 {
    batch.clear();
    while batch.append_within(BATCH_BYTES, TIME, tail) {}
    batch.count().into()
}

/// The header of a full batch, for which all of it is read once: the checksum.
fn header(criterion: &mut Criterion) {
    let mut batch = BatchBuilder::default();
    fill(&mut batch, &[b'x'; 100]);
    let records = batch.finish();
    let mut group = criterion.benchmark_group("batch/header");
    group.throughput(Throughput::Bytes(records.len() as u64));
    group.bench_function("1 MB", |bencher| bencher.iter(|| black_box(&records).header(Stamp::NONE)));
    group.finish();
}

/// Messages into the queue, out of it as the worker takes them, and their memory back.
fn queue(criterion: &mut Criterion) {
    let (topic, value, key) = (Topic::new("bench").expect("a good name"), [b'x'; 100], *b"key-000000000001");
    let plain = Message::new(&topic, &value[..]);
    let cases = [
        ("plain", plain.clone()),
        ("keyed", plain.with_key(&key[..])),
        // Whoever hands in names has them looked up.
        ("named", Message::new("bench", &value[..])),
    ];
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(ROUND));
    for (name, message) in cases {
        let mut round = Round::new();
        group.bench_function(name, |bencher| bencher.iter(|| round.go(black_box(&message))));
    }
    group.finish();
}

/// A queue that is filled and emptied.
struct Round {
    queue: Queue,
    sealed: Sealed,
    taken: VecDeque<Chunk>,
    now: Instant,
}

impl Round {
    fn new() -> Self {
        let limits = Limits {
            messages: 100_000,
            bytes: 64 << 20,
            threshold: 0,
            interval: Duration::ZERO,
            batch_bytes: BATCH_BYTES,
        };
        let (mut queue, sealed) = Queue::new(limits, &Partitioner::crc32());
        queue.start();
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let now = Instant::now();
        Self { queue, sealed, taken: VecDeque::new(), now }
    }

    fn go(&mut self, message: &Message<'_>) {
        for _ in 0..ROUND {
            let time = Timestamp::from_millis(TIME);
            let message = Prepared::new(message, BATCH_BYTES, time).expect("it is small");
            if self.queue.append_like_last(&message, None).is_none() {
                self.queue.offer(&message, &mut None, None, || Some(self.now)).expect("there is room");
            }
        }
        // There is no worker to be woken.
        let _ = self.queue.deliver();
        self.queue.take_due(&self.sealed, &mut self.taken);
        for chunk in self.taken.drain(..) {
            self.queue.release(chunk.len() as u64, chunk.cost);
            self.queue.recycle(chunk);
        }
        assert_eq!(self.queue.held(), 0);
    }
}

/// The partition of a key.
fn partitioner(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..ROUND).map(|number| format!("key-{number:012}")).collect();
    let mut group = criterion.benchmark_group("partitioner");
    group.throughput(Throughput::Elements(ROUND));
    for (name, partitioner) in [("crc32", Partitioner::crc32()), ("murmur2", Partitioner::murmur2())] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| keys.iter().filter_map(|key| partitioner.keyed(key.as_bytes(), 12)).sum::<i32>());
        });
    }
    group.finish();
}

const BATCH_BYTES: usize = 1_000_000;
/// Milliseconds since 1970, of every message.
const TIME: i64 = 1_700_000_000_000;
/// Messages of one measured call: a little more than a batch of the queue's.
const ROUND: u64 = 10_000;

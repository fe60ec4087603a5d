//! Whole producers under shuttle: callers, worker, timer, delivery thread and broker take turns in the orders that it
//! picks, on the real code of all but locks, sockets and clocks (`sync::model`, `net::model`). tests/README.md says how
//! to run them, and how to run a failed order again.

use std::collections::BTreeSet;
use std::env;
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, ReplayScheduler};
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, MaxSteps, Runner};

use crate::net::model::{self as net, ModelBroker};
use crate::sync::model::{self, Time};
use crate::{
    AsyncProducer, AsyncProducerBuilder, Client, DeliveryError, DeliveryErrorKind, DeliveryHandle, FlushError, Message,
    MetadataError, Partitioner, Persistence, ProduceErrorKind, PurgeError, ShutdownError, ShutdownReport, Timestamp,
    Topic,
};

mod end;
mod fates;
mod room;

/// Runs `test` in many orders, or in the one that is to be replayed.
fn check(time: Time, broker: ModelBroker, test: fn()) {
    let run = move || {
        model::begin(time);
        net::begin(broker);
        test();
    };
    let mut config = Config::new();
    config.stack_size = 0x40_000;
    // That it takes every ordering for sequential consistency.
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(50_000);
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    if let Ok(schedule) = env::var("OTTLA_SHUTTLE_REPLAY") {
        Runner::new(ReplayScheduler::new_from_encoded(&schedule), config).run(run);
        return;
    }
    let schedules = env::var("OTTLA_SHUTTLE_SCHEDULES").map_or(SCHEDULES, |n| n.parse().expect("a number"));
    Runner::new(shuttle::scheduler::RandomScheduler::new(schedules / 2), config.clone()).run(run);
    Runner::new(PctScheduler::new(PREEMPTIONS, schedules / 2), config).run(run);
}

/// An error of a message with this tag, and the count of those that have it.
fn error(tag: u64) -> (DeliveryError, Arc<DeliveryErrorKind>) {
    let message = Message::bare(Topic::new("orders").unwrap().into(), None, None).with_tag(tag);
    let kind = Arc::new(DeliveryErrorKind::Purged);
    (DeliveryError::new(Arc::clone(&kind), Persistence::No, message), kind)
}

fn builder() -> AsyncProducerBuilder {
    Client::builder(["127.0.0.1:9000"]).build().unwrap().async_producer()
}

/// Runs this number of callers, each with a clone of the producer, and waits for all.
fn each<T: Send + 'static>(
    callers: usize,
    producer: &AsyncProducer,
    run: impl Fn(usize, AsyncProducer) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let start = |caller| {
        let run = run.clone();
        spawn(producer, move |producer| run(caller, producer))
    };
    let running: Vec<_> = (0..callers).map(start).collect();
    running.into_iter().map(|caller| caller.join().unwrap()).collect()
}

fn spawn<T: Send + 'static>(
    producer: &AsyncProducer,
    run: impl FnOnce(AsyncProducer) -> T + Send + 'static,
) -> JoinHandle<T> {
    let producer = producer.clone();
    thread::spawn(move || run(producer))
}

/// The n-th message of a caller.
fn message(caller: usize, n: usize) -> Message<'static> {
    Message::new("orders", n.to_string()).with_key(caller.to_string()).with_create_time(Timestamp::from_millis(0))
}

fn id(message: &Message<'_>) -> (usize, usize) {
    let number = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap()).parse().unwrap();
    (number(message.key()), number(message.value()))
}

fn value(message: &Message<'_>) -> String {
    String::from_utf8_lossy(message.value().unwrap()).into_owned()
}

/// The written messages, as caller and number, in their order. No message twice.
fn log() -> Vec<(usize, usize)> {
    let number = |text: Option<&str>| text.unwrap().parse().unwrap();
    let log: Vec<_> = net::messages().iter().map(|m| (number(m.key_str()), number(m.value_str()))).collect();
    assert_eq!(log.iter().collect::<BTreeSet<_>>().len(), log.len(), "{log:?}");
    log
}

/// Panics unless this number of messages of each caller is written, from the first on, in order.
fn assert_in_order(counts: &[usize]) {
    let log = log();
    for (caller, count) in counts.iter().enumerate() {
        let own: Vec<_> = log.iter().filter(|id| id.0 == caller).map(|id| id.1).collect();
        assert_eq!(own, (0..*count).collect::<Vec<_>>(), "caller {caller}");
    }
    assert_eq!(log.len(), counts.iter().sum::<usize>());
}

/// Longer than the interval; time is made up.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For each test, half of them at random and half by priorities.
const SCHEDULES: usize = 3000;
/// The largest number of changes of priorities.
const PREEMPTIONS: usize = 3;

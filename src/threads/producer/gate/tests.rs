//! The gate and its waker, without a worker: everything that is asked wakes, and nobody hangs or swaps.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::iter;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::super::state::{Abandon, Remains, WorkerRequests, WorkerUpdate};
use super::*;
use crate::engine::producer::{Amount, FailedMessages, PartitionCount, TopicCause};
use crate::error::{ConnectionError, ConnectionErrorKind, DeliveryErrorKind, FatalError, Persistence};
use crate::ids::TopicIndex;
use crate::message::Timestamp;
use crate::net::Net;

#[test]
fn everything_that_is_asked_wakes_a_sleeping_worker() {
    type Ask = (&'static str, fn(&Gate));
    let asked: [Ask; 8] = [
        ("due", |gate| gate.due(0)),
        ("deliver", Gate::deliver),
        ("flush", |gate| drop(gate.flush(Duration::ZERO))),
        ("partitions", |gate| drop(gate.partitions("orders", Duration::ZERO))),
        ("called", |gate| gate.called(Amount { messages: 1, bytes: 1 }, None)),
        ("abandon", |gate| gate.abandon(Abandon::ToReport)),
        ("close", Gate::close),
        ("a full queue", |gate| (1..10).for_each(|n| drop(put(gate, 0, n, Duration::ZERO)))),
    ];
    for (name, ask) in asked {
        let (gate, mut net) = open(10);
        put(&gate, 0, 0, Duration::ZERO).expect("accepted");
        assert_eq!(
            gate.exchange(&gate.sealed(), &mut WorkerUpdate::default(), &mut WorkerRequests::default(), 0),
            Next::Sleep,
            "{name}"
        );
        ask(&gate);
        assert!(poll(&mut net) < SLEEP, "{name} did not wake it");
        let next = gate.exchange(&gate.sealed(), &mut WorkerUpdate::default(), &mut WorkerRequests::default(), 0);
        assert_eq!(next, Next::Look, "{name} has something to look at");
    }
}

#[test]
fn the_worker_is_told_once_that_somebody_began_to_wait_for_a_fate() {
    let awaited_after = |ask: fn(&Gate)| {
        let (gate, _net) = open(10);
        put(&gate, 0, 0, Duration::ZERO).expect("accepted");
        ask(&gate);
        let mut orders = WorkerRequests::default();
        [0, 1].map(|known_topics| {
            gate.exchange(&gate.sealed(), &mut WorkerUpdate::default(), &mut orders, known_topics);
            orders.asked.awaited
        })
    };
    assert_eq!(awaited_after(|gate| gate.due(0)), [true, false]);
    assert_eq!(awaited_after(|gate| drop(gate.flush(Duration::ZERO))), [true, false]);
    assert_eq!(awaited_after(Gate::deliver), [false, false]);
}

#[test]
fn purge_wakes_a_sleeping_worker_and_gets_its_answer() {
    let (gate, mut net) = open(10);
    put(&gate, 0, 0, Duration::ZERO).expect("accepted");
    let (mut report, mut orders) = (WorkerUpdate::default(), WorkerRequests::default());
    gate.exchange(&gate.sealed(), &mut report, &mut orders, 0);
    scope(|scope| {
        let purge = spawn(scope, || gate.purge(SLEEP).expect("in time").len());
        assert!(poll(&mut net) < SLEEP);
        gate.exchange(&gate.sealed(), &mut report, &mut orders, 0);
        assert_eq!((orders.asked.purges, orders.chunks.len()), (1, 1));
        report.purges_done = Some(1);
        report.purged.push(FailedMessages::of(&["v"], DeliveryErrorKind::Purged, Persistence::No));
        gate.exchange(&gate.sealed(), &mut report, &mut orders, 1);
        assert_eq!(purge.join().expect("no panic"), 1);
    });
}

/// The last owner of an error may be the gate, and a user's resolver makes errors whose drop runs the user's code.
#[test]
fn no_error_is_dropped_under_the_lock() {
    type News = fn(&mut WorkerUpdate, Option<Arc<DeliveryErrorKind>>);
    let news: [(&str, News); 4] = [
        ("the last error", |report, error| report.last_error = Some(error)),
        ("a topic that is held up", |report, error| {
            report.held_up.push(TopicCause { topic: TopicIndex(1), cause: error });
        }),
        ("the cause of no answer", |report, error| {
            report.causes.push(TopicCause { topic: TopicIndex(1), cause: error });
        }),
        ("a fatal error", |report, error| {
            let cause = error.and_then(Arc::into_inner).unwrap_or(DeliveryErrorKind::Purged);
            report.fatal = Some(Arc::new(FatalError { cause, advice: "none" }));
        }),
    ];
    for (name, tell) in news {
        let gate = opened_with_two_topics();
        gate.state.lock().asks.entry(TopicIndex(1)).or_default().callers += 1;
        let locked = Arc::default();
        for error in [Some(error(&gate, &locked)), Some(error(&gate, &locked)), None] {
            let mut report = WorkerUpdate::default();
            tell(&mut report, error);
            gate.exchange(&gate.sealed(), &mut report, &mut WorkerRequests::default(), 2);
            assert!(!report.is_urgent(), "{name}");
        }
        assert!(!locked.load(Ordering::Relaxed), "{name} was dropped under the lock");
    }
}

#[test]
fn who_waits_drops_no_error_under_the_lock() {
    type Wait = fn(&Gate);
    let waits: [(&str, Wait); 2] = [
        ("for room", |gate| assert!(put(gate, 0, 2, SLEEP).is_ok())),
        ("for an answer", |gate| assert!(gate.partitions("orders", SLEEP).is_ok())),
    ];
    for (name, wait) in waits {
        let gate = opened_with_two_topics();
        let locked = Arc::default();
        let exchange = |report: &mut WorkerUpdate, orders: &mut WorkerRequests| {
            gate.exchange(&gate.sealed(), report, orders, 2);
        };
        let (mut report, mut orders) = (WorkerUpdate::default(), WorkerRequests::default());
        report.held_up.push(TopicCause { topic: TopicIndex(1), cause: Some(error(&gate, &locked)) });
        exchange(&mut report, &mut orders);
        scope(|scope| {
            let waiting = spawn(scope, || wait(&gate));
            while orders.asks.is_empty() && gate.state.lock().waiters == 0 {
                exchange(&mut report, &mut orders);
            }
            report.causes.push(TopicCause { topic: TopicIndex(1), cause: Some(error(&gate, &locked)) });
            exchange(&mut report, &mut orders);
            report.partitions.push(PartitionCount { topic: TopicIndex(1), partitions: 3 });
            report.held_up.push(TopicCause { topic: TopicIndex(1), cause: None });
            exchange(&mut report, &mut orders);
            waiting.join().expect("no panic");
        });
        assert!(!locked.load(Ordering::Relaxed), "a wait {name} dropped it under the lock");
    }
}

#[test]
fn the_memory_of_batches_that_are_told_after_the_worker_is_not_kept() {
    let (gate, _net) = open(10);
    gate.worker_ended(&mut WorkerUpdate::default(), Remains::default());
    gate.called(Amount { messages: 1, bytes: 1 }, Some(vec![0; 1000]));
    assert!(gate.state.lock().asked.called.buffers.is_empty());
}

#[test]
fn eight_callers_and_a_sleepy_worker_never_hang_or_swap() {
    const EACH: u64 = 20_000;
    for max_queue_size in [1, 7, 1000] {
        let (gate, mut net) = open(max_queue_size);
        let each = if max_queue_size == 1 { EACH / 20 } else { EACH };
        scope(|scope| {
            for caller in 0..8 {
                let gate = &gate;
                spawn(scope, move || {
                    for n in 0..each {
                        put(gate, caller, n, 2 * SLEEP).expect("accepted");
                    }
                    gate.deliver();
                });
            }
            let (mut report, mut orders) = (WorkerUpdate::default(), WorkerRequests::default());
            let mut next: HashMap<u64, u64> = HashMap::new();
            let mut known = 0;
            while next.values().sum::<u64>() < 8 * each {
                if gate.exchange(&gate.sealed(), &mut report, &mut orders, known) == Next::Sleep {
                    assert!(poll(&mut net) < SLEEP, "a wake-up was lost");
                }
                known += orders.topics.drain(..).count();
                assert!(gate.with(|state| state.queue.held()) <= max_queue_size);
                for mut chunk in orders.chunks.drain(..) {
                    for entry in chunk.entries() {
                        let tag = entry.extra.map_or(0, |extra| extra.tag);
                        let expected = next.entry(tag >> 32).or_default();
                        assert_eq!(tag & 0xffff_ffff, *expected);
                        *expected += 1;
                    }
                    report.released.messages += chunk.len() as u64;
                    report.released.bytes += chunk.cost;
                    report.spent.push(chunk);
                }
            }
        });
    }
}

fn put(gate: &Gate, caller: u64, n: u64, wait: Duration) -> Result<u64, ProduceErrorKind> {
    let message = Message::new("orders", "value").with_tag(caller << 32 | n);
    gate.offer(&message, Timestamp::from_millis(0), None, wait, &|| unreachable!("it is open"))
}

/// Half full with a message to each of two topics: no further one has room if its topic is held up.
fn opened_with_two_topics() -> Arc<Gate> {
    let (gate, _net) = open(4);
    let parcels = Message::new("parcels", "value");
    let offered = gate.offer(&parcels, Timestamp::from_millis(0), None, Duration::ZERO, &|| unreachable!("it is open"));
    offered.expect("accepted");
    put(&gate, 0, 0, Duration::ZERO).expect("accepted");
    Arc::new(gate)
}

/// An error whose drop finds out if the gate is locked.
fn error(gate: &Arc<Gate>, locked: &Arc<AtomicBool>) -> Arc<DeliveryErrorKind> {
    let error = io::Error::other(Looks { gate: Arc::downgrade(gate), locked: Arc::clone(locked) });
    let kind = ConnectionErrorKind::Io(Arc::new(error));
    Arc::new(DeliveryErrorKind::Connection(ConnectionError { address: "broker:9092".into(), advertised: None, kind }))
}

struct Looks {
    gate: Weak<Gate>,
    locked: Arc<AtomicBool>,
}

impl Drop for Looks {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.upgrade() {
            // Another thread may have it for a moment; this one would have it for ever.
            let until = clock::now() + SLEEP;
            let free = || gate.state.lock_soon().is_some();
            let locked = iter::repeat_with(free).take_while(|_| clock::now() < until).all(|free| !free);
            self.locked.fetch_or(locked, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Looks")
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such host")
    }
}

impl Error for Looks {}

fn open(max_queue_size: usize) -> (Gate, Net) {
    let gate = Gate::new(&QueueConfig { max_queue_size, ..QueueConfig::default() }, &ProducerConfig::default());
    let net = Net::new().expect("a place to wait");
    gate.open(Some(net.waker()), false);
    (gate, net)
}

/// The time that it waited.
fn poll(net: &mut Net) -> Duration {
    let began = clock::now();
    net.poll(Some(SLEEP), &mut Vec::new()).expect("it can wait");
    clock::now() - began
}

#[expect(clippy::disallowed_methods, reason = "callers are threads")]
fn scope<'env, T>(run: impl for<'scope> FnOnce(&'scope thread::Scope<'scope, 'env>) -> T) -> T {
    thread::scope(run)
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    run: impl FnOnce() -> T + Send + 'scope,
) -> thread::ScopedJoinHandle<'scope, T> {
    scope.spawn(run)
}

const SLEEP: Duration = Duration::from_secs(10);

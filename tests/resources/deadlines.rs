//! Every call with a time limit is back in time, whatever brokers and callbacks do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault, FaultGuard};
use ottla::{AsyncProducer, AsyncProducerBuilder, Client, FlushError, Message, OnOverflow};

use crate::common::*;

/// What each call is given.
const TIME: Duration = Duration::from_millis(300);
/// How much later it may be back.
const LATE: Duration = Duration::from_millis(250);

#[test]
fn every_call_with_a_time_limit_is_back_in_time() {
    let scenes = [Scene::nobody(), Scene::mute(), Scene::stalled(), Scene::blocked_callback()];
    let calls = [
        ("flush", flush as fn(&Scene) -> Duration),
        ("shutdown_within", shutdown_within),
        ("shutdown with shutdown_timeout", shutdown),
        ("drop with drop_timeout", dropped),
        ("produce_timeout", produce_timeout),
        ("produce with on_overflow", produce_that_blocks),
        ("wait_timeout", wait_timeout),
        ("wait, by delivery_timeout", wait),
        ("purge", purge),
        ("partitions_for", partitions_for),
        ("check", check),
        ("deliver_messages of the sync producer", deliver_messages),
    ];
    thread::scope(|scope| {
        for scene in &scenes {
            for (name, call) in calls {
                thread::Builder::new()
                    .name(format!("{name}: {}", scene.name))
                    .spawn_scoped(scope, move || back_in_time(scene, name, call))
                    .unwrap();
            }
        }
    });
}

/// The median of five, because the machine may be busy with something else.
fn back_in_time(scene: &Scene, name: &str, call: fn(&Scene) -> Duration) {
    let mut times = [(); 5].map(|()| call(scene));
    times.sort_unstable();
    assert!(times[2] <= TIME + LATE, "{name} with {}: {times:?} for a limit of {TIME:?}", scene.name);
}

fn flush(scene: &Scene) -> Duration {
    let producer = scene.producer();
    produce(&producer, 2);
    timed(|| assert!(matches!(producer.flush(TIME), Err(FlushError::Timeout { .. }))))
}

fn shutdown_within(scene: &Scene) -> Duration {
    let (producer, queued) = scene.full();
    timed(|| {
        let report = producer.shutdown_within(TIME).unwrap();
        assert!(report.given_up >= queued, "{report:?}");
    })
}

fn shutdown(scene: &Scene) -> Duration {
    let producer = scene.ready(scene.builder().shutdown_timeout(TIME));
    fill(&producer);
    timed(|| assert!(producer.shutdown().unwrap().given_up >= 2))
}

fn dropped(scene: &Scene) -> Duration {
    let producer = scene.ready(scene.builder().drop_timeout(TIME));
    fill(&producer);
    timed(|| drop(producer))
}

fn produce_timeout(scene: &Scene) -> Duration {
    let (producer, _) = scene.full();
    timed(|| assert!(producer.produce_timeout(message(), TIME).unwrap_err().is_buffer_overflow()))
}

fn produce_that_blocks(scene: &Scene) -> Duration {
    let producer = scene.ready(scene.builder().on_overflow(OnOverflow::Block(TIME)));
    fill(&producer);
    timed(|| assert!(producer.produce(message()).unwrap_err().is_buffer_overflow()))
}

fn wait_timeout(scene: &Scene) -> Duration {
    let producer = scene.producer();
    let handle = producer.produce_with_handle(message()).unwrap();
    timed(|| assert!(handle.wait_timeout(TIME).is_err(), "it has a fate"))
}

fn wait(scene: &Scene) -> Duration {
    let producer = scene.ready(scene.builder().delivery_timeout(TIME));
    let handle = producer.produce_with_handle(message()).unwrap();
    // A fate may come a second after its time.
    timed(|| assert!(handle.wait().is_err())).saturating_sub(Duration::from_secs(1) - LATE)
}

fn purge(scene: &Scene) -> Duration {
    let (producer, queued) = scene.full();
    timed(|| assert_eq!(producer.purge().unwrap().len() as u64, queued))
}

fn partitions_for(scene: &Scene) -> Duration {
    let producer = scene.producer();
    let topic = format!("topic-{}", scene.next.fetch_add(1, Ordering::Relaxed));
    timed(|| drop(producer.partitions_for(&topic, TIME)))
}

fn check(scene: &Scene) -> Duration {
    let client = scene.client();
    timed(|| assert_eq!(client.check(TIME).is_ok(), scene.answers))
}

fn deliver_messages(scene: &Scene) -> Duration {
    let mut producer = scene.client().producer().delivery_timeout(TIME).build().unwrap();
    producer.produce(message()).unwrap();
    timed(|| assert_eq!(producer.deliver_messages().is_ok(), scene.delivers))
}

fn message() -> Message<'static> {
    Message::new("orders", "v")
}

fn timed(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

fn produce(producer: &AsyncProducer, count: usize) {
    for _ in 0..count {
        producer.produce(message()).unwrap();
    }
}

/// Fills the queue, and waits until none of it leaves any more.
fn fill(producer: &AsyncProducer) {
    while producer.produce_timeout(message(), ms(50)).is_ok() {}
}

/// Brokers that do not do what they should, or a callback.
struct Scene {
    name: &'static str,
    seeds: String,
    /// Whether it answers what is no message, and whether it takes messages.
    answers: bool,
    delivers: bool,
    callback: Option<Callback>,
    next: AtomicUsize,
    // Dropped in this order.
    _stalled: Option<FaultGuard>,
    _cluster: Option<Cluster>,
    _server: Option<Stranger>,
}

/// A callback that blocks until the scene is over.
struct Callback {
    blocked: Arc<Mutex<Receiver<()>>>,
    _release: Sender<()>,
}

impl Scene {
    fn new(name: &'static str, seeds: String) -> Self {
        Self {
            name,
            seeds,
            answers: false,
            delivers: false,
            callback: None,
            next: AtomicUsize::new(0),
            _stalled: None,
            _cluster: None,
            _server: None,
        }
    }

    fn nobody() -> Self {
        Self::new("no broker", nobody())
    }

    fn mute() -> Self {
        let server = Stranger::mute();
        Self { _server: Some(server), ..Self::new("a server that says nothing", String::new()) }.with_seeds()
    }

    fn stalled() -> Self {
        let cluster = cluster(1);
        let stalled = cluster.inject(Fault::on(Api::Produce).stall());
        Self { answers: true, _stalled: Some(stalled), ..Self::with_cluster("a broker that stalls", cluster) }
    }

    fn blocked_callback() -> Self {
        let (release, blocked) = mpsc::channel();
        let callback = Callback { blocked: Arc::new(Mutex::new(blocked)), _release: release };
        let scene = Self::with_cluster("a callback that blocks", cluster(1));
        Self { answers: true, delivers: true, callback: Some(callback), ..scene }
    }

    fn with_cluster(name: &'static str, cluster: Cluster) -> Self {
        Self { _cluster: Some(cluster), ..Self::new(name, String::new()) }.with_seeds()
    }

    fn with_seeds(mut self) -> Self {
        let cluster = self._cluster.as_ref().map(Cluster::bootstrap);
        self.seeds = cluster.or(self._server.as_ref().map(Stranger::address)).unwrap_or_default();
        self
    }

    fn client(&self) -> Client {
        client(&self.seeds)
    }

    /// A queue for two, and a buffer for one.
    fn builder(&self) -> AsyncProducerBuilder {
        self.client().async_producer().max_queue_size(2).max_buffer_size(1).drop_timeout(Duration::ZERO)
    }

    fn producer(&self) -> AsyncProducer {
        self.ready(self.builder())
    }

    /// With a full queue, and how many messages are in it.
    fn full(&self) -> (AsyncProducer, u64) {
        let producer = self.producer();
        fill(&producer);
        let queued = producer.queue_size() as u64;
        (producer, queued)
    }

    /// A producer whose callback, if there is one, has begun to block.
    fn ready(&self, builder: AsyncProducerBuilder) -> AsyncProducer {
        let Some(callback) = &self.callback else {
            let producer = builder.build().unwrap();
            if self.answers {
                // From now on the only place in the buffer is taken, and nothing leaves the queue.
                producer.produce(message()).unwrap();
                producer.deliver_messages();
                wait_until("it is written", || producer.queue_size() == 0);
            }
            return producer;
        };
        let blocked = Arc::clone(&callback.blocked);
        let (send, begun) = mpsc::channel();
        let producer = builder
            .on_delivery(move |_| {
                let _ = send.send(());
                let _ = blocked.lock().unwrap().recv();
            })
            .build()
            .unwrap();
        producer.produce(message()).unwrap();
        producer.deliver_messages();
        begun.recv_timeout(LONG).expect("the callback is called");
        producer
    }
}

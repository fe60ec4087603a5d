//! The threads of an asynchronous producer. They start with the first message:
//!
//! | thread | runs | does |
//! |---|---|---|
//! | `ottla-worker` | always | takes due messages from the queue, drives the engine and the sockets, sends fates where they belong |
//! | `ottla-timer` | if `delivery_interval` is set | makes messages due when the oldest is old enough |
//! | `ottla-delivery` | if a callback is registered | calls it |
//!
//! They share the `gate` with the callers, and nothing else.

use std::io;
use std::sync::Arc;

use self::delivery::Callback;
use self::feed::Feed;
use self::gate::Gate;
use self::outlet::Outlet;
pub(crate) use self::role::{Role, role};
use self::state::Ended;
use self::worker::Worker;
use super::clock;
use super::driver::{Driver, new_seed};
use super::spawn::spawn;
use crate::config::{ClientConfig, ProducerConfig, QueueConfig};
use crate::deadline::Deadline;
use crate::sync::Mutex;
use crate::sync::channel::{bounded, unbounded};
use crate::sync::thread::JoinHandle;

pub mod delivery;
pub mod feed;
pub mod gate;
pub mod outlet;
mod role;
pub mod state;
mod timer;
pub mod worker;

/// The running threads of one producer.
#[derive(Debug)]
pub(crate) struct Threads {
    worker: JoinHandle<()>,
    timer: Option<JoinHandle<()>>,
    delivery: Option<JoinHandle<()>>,
}

/// Starts all threads and opens the gate, or starts none.
///
/// The callback is taken out of its place only if all started.
///
/// # Errors
/// The system has no descriptors or threads left.
pub(crate) fn start(
    gate: &Arc<Gate>,
    client: &Arc<ClientConfig>,
    producer: &Arc<ProducerConfig>,
    queue: &QueueConfig,
    callback: &Arc<Mutex<Option<Callback>>>,
) -> io::Result<Threads> {
    let has_callback = callback.lock().is_some();
    let mut feed = Feed::new(Arc::clone(client), Arc::clone(producer), has_callback, new_seed());
    let driver = Driver::new(Arc::clone(client), feed.new_engine())?;
    let waker = driver.waker();
    let (callbacks, items) = if has_callback { Some(unbounded()).unzip() } else { (None, None) };
    let outlet = Outlet::new(callbacks, queue.max_queue_size, queue.max_queue_bytesize);
    let never_by_itself = queue.delivery_threshold == 0 && queue.delivery_interval.is_zero();
    let worker = Worker::new(Arc::clone(gate), driver, feed, outlet, never_by_itself);

    // Each thread waits for `go`: if one cannot start, dropping it ends the others before they did anything.
    let (go, wait) = bounded::<()>(3);
    let worker = spawn("ottla-worker", &wait, move || worker.run())?;
    let timer = if queue.delivery_interval.is_zero() {
        None
    } else {
        let gate = Arc::clone(gate);
        Some(spawn("ottla-timer", &wait, move || timer::run(&gate))?)
    };
    let delivery = match items {
        None => None,
        Some(items) => {
            let (gate, callback) = (Arc::clone(gate), Arc::clone(callback));
            Some(spawn("ottla-delivery", &wait, move || {
                let taken = callback.lock().take();
                match taken {
                    Some(callback) => delivery::run(&gate, &items, callback),
                    None => gate.delivery_ended(),
                }
            })?)
        }
    };
    gate.open(waker, delivery.is_some());
    for _ in 0..3 {
        // There is room for three, and the receiver is here.
        let _ = go.try_send(());
    }
    Ok(Threads { worker, timer, delivery })
}

impl Threads {
    /// Waits for the threads that have ended, or are about to; lets the others go.
    pub fn join(self, gate: &Gate) {
        let now = Deadline::at(clock::now());
        // A thread that panicked has said so in the log, and left nothing.
        if gate.wait_ended(Ended::Worker, now) {
            let _ = self.worker.join();
        }
        if gate.wait_ended(Ended::All, now) {
            let _ = self.delivery.map(JoinHandle::join);
        }
        let _ = self.timer.map(JoinHandle::join);
    }
}

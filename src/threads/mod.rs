//! The only place that starts threads, waits and reads clocks. They start with the first message:
//!
//! | thread | runs | does |
//! |---|---|---|
//! | `ottla-worker` | always | takes due messages from the queue, drives the engine and the sockets, sends fates where they belong |
//! | `ottla-timer` | if `delivery_interval` is set | makes messages due when the oldest is old enough |
//! | `ottla-delivery` | if a callback is registered | calls it |
//!
//! They share the `gate` with the callers, and nothing else. The sync producer has none of them: it runs the `driver`
//! on its caller's thread.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use self::delivery::Callback;
use self::driver::Driver;
use self::gate::Gate;
use self::outlet::Outlet;
use self::state::Ended;
use self::worker::Worker;
use crate::config::{ClientConfig, ProducerConfig, QueueConfig};
use crate::engine::deadline::Deadline;
use crate::sync::channel::{Receiver, bounded, unbounded};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, thread_local};
use crate::wire::reader::shown;

pub(crate) mod check;
pub(crate) mod clock;
pub(crate) mod delivery;
pub(crate) mod driver;
pub(crate) mod gate;
mod outlet;
pub(crate) mod state;
mod timer;
#[cfg(all(feature = "_internal", not(all(test, shuttle))))]
pub mod unthreaded;
pub(crate) mod watch;
mod worker;

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
    let driver = Driver::new(Arc::clone(client), Arc::clone(producer), has_callback)?;
    let waker = driver.waker();
    let (callbacks, items) = if has_callback { Some(unbounded()).unzip() } else { (None, None) };
    let outlet = Outlet::new(callbacks, queue.max_queue_size, queue.max_queue_bytesize);
    let never_by_itself = queue.delivery_threshold == 0 && queue.delivery_interval.is_zero();
    let worker = Worker::new(Arc::clone(gate), driver, outlet, never_by_itself);

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

/// Which thread of a producer this is, where code of the user's runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It calls partitioners. Waits for nothing that only it can do.
    Worker,
    /// It calls the callback. Waits for no callback.
    Delivery,
}

/// What this thread is to the producer with this gate, so that it does not wait for itself: a callback, a partitioner,
/// a logger or a panic hook may call the producer.
pub(crate) fn role(gate: u32) -> Option<Role> {
    // A thread that ends has no role any more.
    let (served, role) = SERVED.try_with(Cell::get).ok()?;
    (served == gate).then_some(role)
}

fn serve(gate: u32, role: Role) {
    SERVED.with(|served| served.set((gate, role)));
}

thread_local! {
    /// Number of the gate whose thread this is, 0 for threads of others.
    static SERVED: Cell<(u32, Role)> = const { Cell::new((0, Role::Worker)) };
}

/// Runs code of the user's whose panic must not end this thread: a callback, a logger, a destructor. Gives what the
/// panic said.
fn contain(run: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(panic_text)
}

#[expect(clippy::disallowed_methods, reason = "this is where threads start")]
fn spawn(name: &str, go: &Receiver<()>, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let go = go.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if go.recv().is_ok() {
            run();
        }
    })
}

/// What a panic said, fit for a log: a user's code may panic with any text.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without a text"
    };
    let text = shown(text).into_string();
    // What a user's code panics with may panic when it is dropped.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(second);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_says_forges_no_line_of_the_log() {
        let forged = "no room\n2026-01-01 ERROR all is lost\r\u{1b}[2J";
        for panic in [Box::new(forged) as Box<dyn Any + Send>, Box::new(forged.to_owned())] {
            assert_eq!(panic_text(panic), r"no room\n2026-01-01 ERROR all is lost\r\u{1b}[2J");
        }
        assert_eq!(panic_text(Box::new("it's \"v\", not ä")), "it's \"v\", not ä");
        assert!(panic_text(Box::new("x".repeat(1_000_000))).len() < 10_000, "nor fills it");
        assert_eq!(panic_text(Box::new(7)), "a panic without a text");
    }
}

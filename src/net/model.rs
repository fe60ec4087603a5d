//! Takes the place of `net` under shuttle: one connection at a time to an in-process broker's logic, without a socket.
//! A thread of its own answers, so that answers come at any moment of the worker's life. In a model where time runs, it
//! also cuts connections.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shuttle::rand::{Rng, thread_rng};

use super::Event;
use super::resolve::Resolve;
use crate::config::{BrokerAddress, Encryption};
use crate::error::ConnectionErrorKind;
use crate::message::Timestamp;
use crate::sync::model::{Time, time};
use crate::sync::thread;
use crate::sync::{Condvar, Mutex, Waker};
use crate::testing::requests::{Reply, Then};
use crate::testing::state::ClusterState;
use crate::testing::{Cluster, StoredMessage};
use crate::wire::frame::{ConnId, Frame};

/// The behaviour of the broker towards messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelBroker {
    Answers,
    /// It accepts no connection to the end.
    Silent,
}

std::thread_local! {
    /// The number of instances made in this execution.
    static MADE: Cell<usize> = const { Cell::new(0) };
    static CLUSTER: RefCell<Option<(ClusterState, ModelBroker)>> = const { RefCell::new(None) };
}

/// The first thing in an execution: a new broker with the topic `orders` of one partition.
pub(crate) fn begin(broker: ModelBroker) {
    let cluster = ClusterState::new(Cluster::builder().topic("orders", 1), &[9000]).expect("a good description");
    CLUSTER.set(Some((cluster, broker)));
    MADE.set(0);
}

pub(crate) fn made() -> usize {
    MADE.get()
}

/// The messages in the broker's log.
pub(crate) fn messages() -> Vec<StoredMessage> {
    CLUSTER.with_borrow(|cluster| cluster.as_ref().expect("begun").0.messages("orders"))
}

/// As the real one, as far as the driver uses it.
pub(crate) struct Net {
    waker: Arc<Waker>,
    wires: Arc<Wires>,
}

#[derive(Default)]
struct Wires {
    /// Shared between the worker and the broker's thread.
    state: Mutex<WireState>,
    asked: Condvar,
}

#[derive(Default)]
struct WireState {
    open: BTreeSet<ConnId>,
    requests: VecDeque<(ConnId, Option<Bytes>)>,
    events: VecDeque<Event>,
    ended: bool,
}

impl Net {
    pub fn new() -> io::Result<Self> {
        MADE.set(MADE.get() + 1);
        let net = Self { waker: Arc::default(), wires: Arc::default() };
        let (waker, wires) = (Arc::clone(&net.waker), Arc::clone(&net.wires));
        thread::Builder::new().name("broker".to_owned()).spawn(move || wires.serve(&waker))?;
        Ok(net)
    }

    /// Nothing is looked up here.
    pub fn with_resolver(_: Arc<dyn Resolve>) -> io::Result<Self> {
        Self::new()
    }

    /// Nothing is encrypted here.
    pub fn encrypted(self, _: Option<Encryption>) -> Self {
        self
    }

    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub fn connect(&mut self, conn: ConnId, _: &BrokerAddress, _: Duration, _: bool, _: Instant) {
        let mut state = self.wires.state.lock();
        state.open.insert(conn);
        state.requests.push_back((conn, None));
        drop(state);
        self.wires.asked.notify_one();
    }

    pub fn limit_responses(&mut self, _: ConnId, _: usize) {}

    pub fn send(&mut self, conn: ConnId, frame: Frame, events: &mut Vec<Event>) {
        let mut state = self.wires.state.lock();
        if state.open.contains(&conn) {
            state.requests.push_back((conn, Some(Bytes::from(frame.to_vec()).slice(4..))));
            events.push(Event::Wrote { conn, started: 1, finished: 1 });
        }
        drop(state);
        self.wires.asked.notify_one();
    }

    pub fn close(&mut self, conn: ConnId) {
        self.wires.state.lock().open.remove(&conn);
    }

    pub fn close_all(&mut self) {
        self.wires.state.lock().open.clear();
    }

    pub fn poll(&mut self, wait: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        // The waker's lock is taken before that of the wires, here and in `answer`.
        self.waker.sleep(wait, || !self.wires.state.lock().events.is_empty());
        let mut state = self.wires.state.lock();
        let came = mem::take(&mut state.events);
        let open = &mut state.open;
        events.extend(came.into_iter().filter(|event| match event {
            Event::Closed(conn, _) => open.remove(conn),
            Event::Connected(conn) | Event::Response(conn, _) | Event::Wrote { conn, .. } => open.contains(conn),
        }));
        Ok(())
    }
}

impl Net {
    pub fn has_more(&self) -> bool {
        false
    }

    /// Time does not pass here without a wait.
    pub fn watch(&mut self, _: Duration, _: &mut Vec<Event>) -> io::Result<bool> {
        Ok(false)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.wires.state.lock().ended = true;
        self.wires.asked.notify_one();
    }
}

impl Wires {
    /// The broker's whole life.
    fn serve(&self, waker: &Waker) {
        loop {
            let mut state = self.state.lock();
            while state.requests.is_empty() && !state.ended {
                self.asked.wait(&mut state);
            }
            if state.ended {
                return;
            }
            let Some((conn, request)) = state.requests.pop_front() else { continue };
            drop(state);
            for event in answer(conn, request) {
                self.state.lock().events.push_back(event);
            }
            waker.look_again();
        }
    }
}

fn answer(conn: ConnId, request: Option<Bytes>) -> Vec<Event> {
    CLUSTER.with_borrow_mut(|cluster| {
        let (cluster, broker) = cluster.as_mut().expect("begun");
        let Some(request) = request else {
            return if *broker == ModelBroker::Silent { Vec::new() } else { vec![Event::Connected(conn)] };
        };
        let cut = || vec![Event::Closed(conn, ConnectionErrorKind::Closed)];
        let fate = if time() == Time::Runs { thread_rng().gen_range(0..30) } else { 2 };
        if fate == 0 {
            return cut();
        }
        let Reply::Send { bytes, then, .. } = cluster.receive(1, &request, Timestamp::from_millis(0)) else {
            return Vec::new();
        };
        if fate == 1 || then == Then::Close {
            return cut();
        }
        if bytes.is_empty() { Vec::new() } else { vec![Event::Response(conn, bytes[4..].to_vec())] }
    })
}

//! The part of crossbeam-channel that the threads use, under shuttle: a deque under a lock.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Condvar, Mutex};

pub(crate) struct Sender<T>(Arc<Shared<T>>);

pub(crate) struct Receiver<T>(Arc<Shared<T>>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Disconnected;

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    senders: usize,
    receivers: usize,
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { items: VecDeque::new(), senders: 1, receivers: 1 });
    let shared = Arc::new(Shared { state, changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// The bound is never reached where this is used.
pub(crate) fn bounded<T>(_: usize) -> (Sender<T>, Receiver<T>) {
    unbounded()
}

impl<T> Sender<T> {
    pub fn send(&self, item: T) -> Result<(), Disconnected> {
        let mut state = self.0.state.lock();
        if state.receivers == 0 {
            return Err(Disconnected);
        }
        state.items.push_back(item);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    pub fn try_send(&self, item: T) -> Result<(), Disconnected> {
        self.send(item)
    }
}

impl<T> Receiver<T> {
    pub fn recv(&self) -> Result<T, Disconnected> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Ok(item);
            }
            if state.senders == 0 {
                return Err(Disconnected);
            }
            self.0.changed.wait(&mut state);
        }
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Box<dyn Iterator<Item = T> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(std::iter::from_fn(|| self.recv().ok()))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().receivers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.state.lock().receivers -= 1;
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

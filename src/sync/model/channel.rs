//! The part of crossbeam-channel that the queue and the threads use, under shuttle: a deque under a lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::{Condvar, Mutex};

pub(crate) struct Sender<T>(Arc<Channel<T>>);

pub(crate) struct Receiver<T>(Arc<Channel<T>>);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Disconnected;

struct Channel<T> {
    state: Mutex<ChannelState<T>>,
    changed: Condvar,
}

struct ChannelState<T> {
    items: VecDeque<T>,
    slots: usize,
    senders: usize,
    receivers: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TrySendError {
    Full,
    Disconnected,
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

pub(crate) fn bounded<T>(slots: usize) -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(ChannelState { items: VecDeque::new(), slots, senders: 1, receivers: 1 });
    let shared = Arc::new(Channel { state, changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// The bound is never reached where this is used.
    pub fn send(&self, item: T) -> Result<(), Disconnected> {
        self.try_send(item).map_err(|_| Disconnected)
    }

    pub fn try_send(&self, item: T) -> Result<(), TrySendError> {
        let mut state = self.0.state.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Disconnected);
        }
        if state.items.len() >= state.slots {
            return Err(TrySendError::Full);
        }
        state.items.push_back(item);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.0.state.lock().items.len()
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

impl<T> Receiver<T> {
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.0.state.lock().items.pop_front())
    }

    pub fn is_empty(&self) -> bool {
        self.0.state.lock().items.is_empty()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
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

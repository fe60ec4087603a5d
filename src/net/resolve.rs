//! Name look-ups beside the event loop, because the system's resolver blocks. Each runs on a short-lived thread
//! `ottla-resolve`; a host is looked up once for all connections that ask meanwhile, few look-ups run at once, and the
//! rest wait. A look-up that hangs holds up only the connections that need its answer, and nobody joins its thread.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use mio::Waker;

use crate::error::is_out_of_descriptors;

/// Turns a host name into addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, in the order to try them; port 0 stands for the broker's own port. May block.
    ///
    /// # Errors
    /// The name has no address, or it cannot be found out now.
    fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

impl<F: Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync> Resolve for F {
    fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self(host)
    }
}

/// The system's resolver (`getaddrinfo`).
///
/// # Errors
/// As the system says.
pub fn system(host: &str) -> io::Result<Vec<SocketAddr>> {
    let found = (host, 0).to_socket_addrs().map_err(|error| descriptors_ran_out().unwrap_or(error))?;
    Ok(found.collect())
}

/// A resolver that may open no socket often says only that it failed for now.
fn descriptors_ran_out() -> Option<io::Error> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).err().filter(is_out_of_descriptors)
}

/// The look-ups of one event loop.
pub(super) struct LookUps {
    resolver: Arc<dyn Resolve>,
    /// Hosts with a thread.
    running: HashSet<Box<str>>,
    /// Hosts that wait for one of the others to end.
    waiting: VecDeque<Box<str>>,
    mailbox: Arc<Mailbox>,
}

/// The addresses that a host name resolved to: never an empty list.
pub(super) type Resolved = Result<Vec<SocketAddr>, Arc<io::Error>>;

struct Mailbox {
    /// Filled by `ottla-resolve` threads, emptied by the thread that polls.
    letters: Mutex<Vec<Letter>>,
    waker: Arc<Waker>,
}

struct Letter {
    host: Box<str>,
    result: io::Result<Vec<SocketAddr>>,
}

impl LookUps {
    pub(super) fn new(resolver: Arc<dyn Resolve>, waker: Arc<Waker>) -> Self {
        Self {
            resolver,
            running: HashSet::new(),
            waiting: VecDeque::new(),
            mailbox: Arc::new(Mailbox { letters: Mutex::new(Vec::new()), waker }),
        }
    }

    /// Sees to it that `answers` will have one for this host.
    pub(super) fn ask(&mut self, host: &str) {
        if self.running.contains(host) || self.waiting.iter().any(|waiting| **waiting == *host) {
            return;
        }
        if self.running.len() < MAX_THREADS {
            self.start(host.into());
        } else {
            self.waiting.push_back(host.into());
        }
    }

    /// The answers found since the last call. Starts look-ups that waited, of those hosts that are still `wanted`.
    pub(super) fn answers(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(Box<str>, Resolved)> {
        // A wait that changes nothing, which is nearly every one, costs no lock.
        if self.running.is_empty() {
            return Vec::new();
        }
        let letters = mem::take(&mut *self.mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner));
        for letter in &letters {
            self.running.remove(&letter.host);
        }
        while self.running.len() < MAX_THREADS {
            let Some(host) = self.waiting.pop_front() else { break };
            if wanted(&host) {
                self.start(host);
            }
        }
        letters.into_iter().map(|letter| (letter.host, not_empty(letter.result))).collect()
    }

    fn start(&mut self, host: Box<str>) {
        self.running.insert(host.clone());
        let resolver = Arc::clone(&self.resolver);
        let letter = Letter { host, result: Err(unfinished()) };
        // Not the mailbox itself: a look-up that hangs after the loop is gone must hold none of its descriptors.
        let reply = Resolving { letter: Some(letter), mailbox: Arc::downgrade(&self.mailbox) };
        let spawned = thread::Builder::new().name("ottla-resolve".into()).spawn(move || reply.look_up(&*resolver));
        // If no thread could start, its closure was dropped, and the reply with it: the drop has answered already.
        drop(spawned);
    }
}

impl fmt::Debug for LookUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookUps")
            .field("running", &self.running)
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// Posts its letter when dropped: also if the resolver panicked, or no thread could be started.
struct Resolving {
    letter: Option<Letter>,
    mailbox: Weak<Mailbox>,
}

impl Resolving {
    fn look_up(mut self, resolver: &dyn Resolve) {
        if let Some(letter) = &mut self.letter {
            letter.result = resolver.resolve(&letter.host);
        }
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        if let (Some(mailbox), Some(letter)) = (self.mailbox.upgrade(), self.letter.take()) {
            mailbox.letters.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
            // It fails only when the event loop is going away.
            let _ = mailbox.waker.wake();
        }
    }
}

fn not_empty(result: io::Result<Vec<SocketAddr>>) -> Resolved {
    match result {
        Ok(addresses) if addresses.is_empty() => {
            Err(Arc::new(io::Error::new(io::ErrorKind::NotFound, "the look-up found none")))
        }
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(Arc::new(error)),
    }
}

fn unfinished() -> io::Error {
    io::Error::other("the look-up could not be started or broke off")
}

/// A hung look-up keeps its thread, so this bounds the threads that a broken DNS can pile up.
const MAX_THREADS: usize = 4;

//! Sockets without blocking: framing, connecting, encrypting, name look-ups. Owns the sockets of all connections and the
//! one place to wait for them. Never decides when to connect, to send or to give up on an answer: the engine does.
#![expect(clippy::disallowed_methods, reason = "connecting has a deadline, and a look-up needs a thread of its own")]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Poll, Token, Waker};

use self::connection::Connection;
use self::dial::Dial;
use self::resolve::{LookUps, Resolve};
use self::send_buffer::Progress;
use crate::config::{BrokerAddress, Encryption};
use crate::error::ConnectionErrorKind;
use crate::wire::frame::{ConnId, Frame};

mod connection;
mod dial;
#[cfg(all(test, shuttle))]
pub(crate) mod model;
pub mod receive_buffer;
pub mod resolve;
pub mod send_buffer;
mod socket;
#[cfg(feature = "_tls")]
mod tls;
#[cfg(not(feature = "_tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;

/// All connections of one client, and the place to wait for them.
#[derive(Debug)]
pub struct Net {
    poll: Poll,
    /// The events that the last wait found.
    found: mio::Events,
    waker: Arc<Waker>,
    look_ups: LookUps,
    /// Encrypts all connections; `None` for plaintext.
    encryption: Option<Encryption>,
    /// Connections in the making.
    dials: BTreeMap<ConnId, Dial>,
    open: BTreeMap<ConnId, (Token, Connection)>,
    tokens: BTreeMap<Token, ConnId>,
    next_token: usize,
    /// Open connections that may have bytes to read: the system reports each arrival once only.
    readable: Vec<ConnId>,
    /// The buffer into which all sockets are read.
    scratch: Box<[u8]>,
}

/// An event of a connection.
#[derive(Debug)]
pub enum Event {
    /// The TCP connection stands.
    Connected(ConnId),
    /// A whole response without its size field.
    Response(ConnId, Vec<u8>),
    /// The socket accepted bytes of the frames queued on this connection, in their order.
    Wrote {
        /// The connection.
        conn: ConnId,
        /// So many more frames had their first byte accepted.
        started: usize,
        /// So many more frames had their last byte accepted.
        finished: usize,
    },
    /// It could not be made or is gone: the last event of this connection.
    Closed(ConnId, ConnectionErrorKind),
}

impl Net {
    /// No connection yet; names are looked up by the system.
    ///
    /// # Errors
    /// The system gives no means to wait for sockets, for example because too many descriptors are open.
    pub fn new() -> io::Result<Self> {
        Self::with_resolver(Arc::new(resolve::system))
    }

    /// As `new`, with another way to look up names.
    ///
    /// # Errors
    /// As `new`.
    pub fn with_resolver(resolver: Arc<dyn Resolve>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            found: mio::Events::with_capacity(FOUND_AT_ONCE),
            look_ups: LookUps::new(resolver, Arc::clone(&waker)),
            waker,
            encryption: None,
            dials: BTreeMap::new(),
            open: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: WAKER.0,
            readable: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        })
    }

    /// Encrypts the connections that are begun from now on.
    #[must_use]
    pub fn encrypted(self, encryption: Option<Encryption>) -> Self {
        Self { encryption, ..self }
    }

    /// Wakes `poll` from any thread.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Begins to connect; `Connected` or `Closed` follows from `poll`, at the latest after `within`, which bounds the
    /// look-up and all attempts together.
    ///
    /// With `all_addresses`, every address of the host has a fair share of the time; without, only the first is tried.
    pub fn connect(
        &mut self,
        conn: ConnId,
        address: &BrokerAddress,
        within: Duration,
        all_addresses: bool,
        now: Instant,
    ) {
        self.close(conn);
        let token = self.new_token();
        self.tokens.insert(token, conn);
        let (encryption, registry) = (self.encryption.as_ref(), self.poll.registry());
        let dial = Dial::new(token, address, encryption, within, all_addresses, now, registry);
        if let Some(host) = dial.host_to_look_up() {
            self.look_ups.ask(host);
        }
        self.dials.insert(conn, dial);
    }

    /// Sets the largest response this connection takes from now on, in bytes; 512 KiB at first.
    pub fn limit_responses(&mut self, conn: ConnId, max: usize) {
        if let Some((_, connection)) = self.open.get_mut(&conn) {
            connection.limit_responses(max);
        } else if let Some(dial) = self.dials.get_mut(&conn) {
            dial.receive_buffer.set_limit(max);
        }
    }

    /// Queues a frame, and writes at once what the socket takes. Before `Connected` it only queues.
    pub fn send(&mut self, conn: ConnId, frame: Frame, events: &mut Vec<Event>) {
        if let Some((_, connection)) = self.open.get_mut(&conn) {
            connection.push(frame);
            self.write(conn, events);
        } else if let Some(dial) = self.dials.get_mut(&conn) {
            dial.send_buffer.push(frame);
        }
    }

    /// Closes a connection, or stops making it; no event of it follows.
    pub fn close(&mut self, conn: ConnId) {
        if let Some((token, mut connection)) = self.open.remove(&conn) {
            self.tokens.remove(&token);
            self.readable.retain(|readable| *readable != conn);
            // Closing the descriptor is what counts; this only spares the poll an entry on some systems.
            let _ = self.poll.registry().deregister(connection.socket());
        } else if let Some(dial) = self.dials.remove(&conn) {
            self.tokens.remove(&dial.token);
        }
    }

    /// Closes all connections; no events follow.
    pub fn close_all(&mut self) {
        let all: Vec<ConnId> = self.open.keys().chain(self.dials.keys()).copied().collect();
        for conn in all {
            self.close(conn);
        }
    }

    /// Blocks until something happens, the waker is used, or `timeout` passed; `None` is no limit. May return earlier
    /// with nothing. All sockets that are readable then are read, each for its fair share.
    ///
    /// # Errors
    /// The system cannot wait; `events` has the events of the sockets all the same.
    pub fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.look(self.wait(timeout))?;
        self.take_found(events);
        Ok(())
    }

    /// As [`poll`](Self::poll), but without sleeping: looks again and again, for at most `within`. Returns `true` if
    /// anything happened.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn watch(&mut self, within: Duration, events: &mut Vec<Event>) -> io::Result<bool> {
        let until = Instant::now() + within;
        loop {
            self.look(Some(Duration::ZERO))?;
            let found = !self.found.is_empty() || !self.readable.is_empty();
            if found || Instant::now() >= until {
                self.take_found(events);
                return Ok(found);
            }
            // Another thread that wants this processor may be the one that is to answer.
            thread::yield_now();
        }
    }

    /// `true` if the last wait left something to read, for fairness.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Finds the events of the sockets, after a wait for them.
    fn look(&mut self, wait: Option<Duration>) -> io::Result<()> {
        // A process that goes on after a stop is interrupted, too, and its sockets may have events that it has missed.
        let mut wait = wait;
        loop {
            match self.poll.poll(&mut self.found, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => wait = Some(Duration::ZERO),
                done => return done,
            }
        }
    }

    /// Handles the events that were found.
    fn take_found(&mut self, events: &mut Vec<Event>) {
        let mut writable = Vec::new();
        let mut dials_moved = Vec::new();
        self.sort_found(&mut writable, &mut dials_moved);
        self.advance_dials(&dials_moved, &mut writable, events);
        self.read_all(events);
        for conn in writable {
            self.write(conn, events);
        }
    }

    /// The longest time to wait: zero if something is left from the last turn.
    fn wait(&self, timeout: Option<Duration>) -> Option<Duration> {
        if !self.readable.is_empty() || self.dials.values().any(Dial::has_failed) {
            return Some(Duration::ZERO);
        }
        let first = self.dials.values().filter_map(Dial::until).min();
        let dials = first.map(|first| first.saturating_duration_since(Instant::now()));
        let shortest = timeout.into_iter().chain(dials).min();
        shortest.map(|wait| wait.min(LONGEST_WAIT))
    }

    /// Notes the events that the wait found at each connection.
    fn sort_found(&mut self, writable: &mut Vec<ConnId>, dials_moved: &mut Vec<ConnId>) {
        for found in &self.found {
            // The waker, or a connection that was closed meanwhile.
            let Some(conn) = self.tokens.get(&found.token()) else { continue };
            let Some((_, connection)) = self.open.get_mut(conn) else {
                dials_moved.push(*conn);
                continue;
            };
            if found.is_read_closed() || found.is_error() {
                connection.set_ending();
            }
            if (found.is_readable() || found.is_read_closed() || found.is_error()) && connection.set_readable() {
                self.readable.push(*conn);
            }
            if found.is_writable() || found.is_write_closed() || found.is_error() {
                connection.set_writable();
                writable.push(*conn);
            }
        }
    }

    /// Takes look-ups, sockets and deadlines of connections in the making further.
    fn advance_dials(&mut self, moved: &[ConnId], writable: &mut Vec<ConnId>, events: &mut Vec<Event>) {
        let now = Instant::now();
        let registry = self.poll.registry();
        let mut ended: Vec<ConnId> = Vec::new();
        for conn in moved {
            if self.dials.get_mut(conn).is_some_and(|dial| dial.socket_moved(now, registry)) {
                ended.push(*conn);
            }
        }
        let dials = &self.dials;
        let wanted = |host: &str| dials.values().any(|dial| dial.host_to_look_up() == Some(host));
        for (host, answer) in self.look_ups.answers(wanted) {
            for dial in self.dials.values_mut().filter(|dial| dial.host_to_look_up() == Some(&*host)) {
                dial.looked_up(&answer, now, registry);
            }
        }
        for (conn, dial) in &mut self.dials {
            // A socket that is connected by now is not late.
            if !ended.contains(conn) {
                dial.judge(now, registry);
                if dial.has_failed() {
                    ended.push(*conn);
                }
            }
        }
        for conn in ended {
            self.end_dial(conn, writable, events);
        }
    }

    fn end_dial(&mut self, conn: ConnId, writable: &mut Vec<ConnId>, events: &mut Vec<Event>) {
        let Some(dial) = self.dials.remove(&conn) else { return };
        let token = dial.token;
        match dial.finish() {
            Ok((transport, receive_buffer, send_buffer)) => {
                self.open.insert(conn, (token, Connection::new(transport, receive_buffer, send_buffer)));
                self.readable.push(conn);
                writable.push(conn);
                events.push(Event::Connected(conn));
            }
            Err(kind) => {
                self.tokens.remove(&token);
                events.push(Event::Closed(conn, kind));
            }
        }
    }

    fn read_all(&mut self, events: &mut Vec<Event>) {
        let mut readable = std::mem::take(&mut self.readable);
        readable.retain(|conn| {
            let Some((_, connection)) = self.open.get_mut(conn) else { return false };
            let read = connection.read(&mut self.scratch, &mut |body| events.push(Event::Response(*conn, body)));
            if let Some(Progress { started, finished }) = connection.progress() {
                events.push(Event::Wrote { conn: *conn, started, finished });
            }
            let more = connection.is_readable();
            match read {
                Ok(()) => more,
                Err(kind) => {
                    self.close(*conn);
                    events.push(Event::Closed(*conn, kind));
                    false
                }
            }
        });
        self.readable = readable;
    }

    fn write(&mut self, conn: ConnId, events: &mut Vec<Event>) {
        let Some((_, connection)) = self.open.get_mut(&conn) else { return };
        let (progress, result) = connection.write();
        if let Some(progress) = progress {
            events.push(Event::Wrote { conn, started: progress.started, finished: progress.finished });
        }
        if let Err(error) = result {
            let response = &mut |body| events.push(Event::Response(conn, body));
            let kind = connection.last_words(error, &mut self.scratch, response);
            self.close(conn);
            events.push(Event::Closed(conn, kind));
        }
    }

    /// A token that no socket has, nor had as far back as late news could come from.
    fn new_token(&mut self) -> Token {
        loop {
            self.next_token = self.next_token.wrapping_add(1);
            let token = Token(self.next_token);
            if token != WAKER && !self.tokens.contains_key(&token) {
                return token;
            }
        }
    }
}

const WAKER: Token = Token(0);

const SCRATCH_BYTES: usize = 64 * 1024;

/// More sockets than a client has, so that one wait finds all that are ready.
const FOUND_AT_ONCE: usize = 1024;

/// The system counts milliseconds in 32 bits; a longer wait just ends with nothing and begins again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;

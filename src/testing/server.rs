//! Sockets, threads and the clock for the cluster's logic: one thread per broker that accepts, one per connection.
#![expect(clippy::disallowed_methods, reason = "the thin layer that gives the pure logic its clock and threads")]

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use log::{debug, warn};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::requests::{Reply, Then};
use super::state::ClusterState;
use super::tls::{self, Encryption};
use crate::message::Timestamp;

/// The cluster's state, shared by the connections' threads and the test's.
pub(super) struct Shared {
    /// The threads of connections answer from it, and the test's threads look at it and change it.
    state: Mutex<ClusterState>,
    changed: Condvar,
    clock: Clock,
    /// Encrypts all connections; `None` for plaintext.
    encryption: Option<Encryption>,
}

impl Shared {
    pub fn new(state: ClusterState, encryption: Option<Encryption>) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new(), clock: Clock::start(), encryption }
    }

    pub fn look<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&self.state.lock())
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut ClusterState) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.notify_all();
        changed
    }

    /// Blocks until this is true of the state, for at most `timeout`. Returns `false` if it is not true by then.
    pub fn wait_for(&self, timeout: Duration, is_so: impl Fn(&ClusterState) -> bool) -> bool {
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.state.lock();
        while !is_so(&state) {
            match deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) if self.changed.wait_until(&mut state, deadline).timed_out() => {
                    return is_so(&state);
                }
                Some(_) => {}
            }
        }
        true
    }

    /// The answer to a request, with all waiting done; `None` once the broker is no longer up since this start.
    fn answer(&self, connection: u64, (node, start): (i32, u64), frame: &Bytes) -> Option<(Vec<u8>, Then)> {
        let is_up = |state: &ClusterState| is_up(state, node, start);
        let mut state = self.state.lock();
        if !is_up(&state) {
            return None;
        }
        let mut reply = state.receive_on(connection, node, frame, self.clock.now());
        loop {
            self.changed.notify_all();
            // A logger is a test's code, and may look at the cluster.
            if let Some(lines) = state.lines.take() {
                MutexGuard::unlocked(&mut state, || lines.write());
            }
            match reply {
                Reply::Park(parked) => {
                    while is_up(&state) && !state.is_ready(&parked, self.clock.now()) {
                        self.wait_until(&mut state, parked.deadline());
                    }
                    if !is_up(&state) {
                        return None;
                    }
                    reply = state.resume(*parked, self.clock.now());
                }
                Reply::Send { after, bytes, then } => {
                    return self.let_pass(&mut state, after, is_up).then_some((bytes, then));
                }
            }
        }
    }

    /// Blocks for this long. Returns `false` once the broker is no longer up since this start.
    fn pause(&self, node: i32, start: u64, time: Duration) -> bool {
        self.let_pass(&mut self.state.lock(), time, |state| is_up(state, node, start))
    }

    fn let_pass(
        &self,
        state: &mut MutexGuard<'_, ClusterState>,
        time: Duration,
        is_up: impl Fn(&ClusterState) -> bool,
    ) -> bool {
        let due = self.clock.after(time);
        while !time.is_zero() && is_up(state) && self.clock.now() < due {
            self.wait_until(state, Some(due));
        }
        is_up(state)
    }

    fn wait_until(&self, state: &mut MutexGuard<'_, ClusterState>, deadline: Option<Timestamp>) {
        match deadline {
            None => self.changed.wait(state),
            Some(deadline) => {
                let millis = deadline.as_millis().saturating_sub(self.clock.now().as_millis()).max(1);
                self.changed.wait_for(state, Duration::from_millis(millis.unsigned_abs()));
            }
        }
    }
}

fn is_up(state: &ClusterState, node: i32, start: u64) -> bool {
    state.broker(node).is_some_and(|broker| broker.up == Some(start))
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The time of day, which never goes back.
struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), started_at: SystemTime::now().into() }
    }

    fn now(&self) -> Timestamp {
        self.plus(self.started.elapsed())
    }

    fn after(&self, wait: Duration) -> Timestamp {
        self.plus(self.started.elapsed().saturating_add(wait))
    }

    fn plus(&self, since_start: Duration) -> Timestamp {
        let millis = i64::try_from(since_start.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.started_at.as_millis().saturating_add(millis))
    }
}

/// A broker that listens; ends with all its threads and connections when it is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    address: SocketAddr,
    doors: Arc<Doors>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    /// Serves connections, under the number of this start of the broker.
    pub fn start(shared: Arc<Shared>, listener: TcpListener, node: i32, start: u64) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let doors = Arc::new(Doors::default());
        let accept = Accept { shared, doors: Arc::clone(&doors), node, start };
        let thread = thread::Builder::new().name(format!("kafka-{node}")).spawn(move || accept.run(&listener))?;
        Ok(Self { address, doors, thread: Some(thread) })
    }

    pub fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.doors)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.doors.close();
        // Wakes the thread from `accept`; if nothing can connect, something else is waking it.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The open connections of a broker. The accepting thread adds to them, each connection's thread takes itself out,
/// and the thread that stops the broker ends them all.
#[derive(Debug, Default)]
pub(super) struct Doors {
    inner: Mutex<DoorsInner>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct DoorsInner {
    closing: bool,
    next: u64,
    open: HashMap<u64, Arc<TcpStream>>,
}

impl Doors {
    /// The number of open connections.
    pub fn open(&self) -> usize {
        self.inner.lock().open.len()
    }

    /// `None` if the broker is stopping.
    fn enter(&self, stream: Arc<TcpStream>) -> Option<u64> {
        let mut inner = self.inner.lock();
        if inner.closing {
            return None;
        }
        let id = inner.next;
        inner.next += 1;
        inner.open.insert(id, stream);
        Some(id)
    }

    fn leave(&self, id: u64) {
        if let Some(stream) = self.inner.lock().open.remove(&id) {
            let _ = stream.shutdown(Shutdown::Both);
            self.left.notify_all();
        }
    }

    /// Ends what the threads of connections read, so that they leave; over TLS they say so to their clients.
    fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closing = true;
        for stream in inner.open.values() {
            let _ = stream.shutdown(Shutdown::Read);
        }
    }

    /// Cuts the connections whose threads do not leave: they write to clients that read nothing.
    fn cut(&self) {
        let mut inner = self.inner.lock();
        self.left.wait_while_for(&mut inner, |inner| !inner.open.is_empty(), LEAVES_WITHIN);
        for stream in inner.open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn is_closing(&self) -> bool {
        self.inner.lock().closing
    }
}

struct Accept {
    shared: Arc<Shared>,
    doors: Arc<Doors>,
    node: i32,
    start: u64,
}

impl Accept {
    fn run(&self, listener: &TcpListener) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        let mut fails = false;
        while !self.doors.is_closing() {
            threads.retain(|thread| !thread.is_finished());
            let thread = listener.accept().and_then(|(stream, _)| self.open(stream));
            let failed = thread.is_err();
            match thread {
                Ok(thread) => threads.extend(thread),
                Err(error) => {
                    // Without descriptors it fails until there are some: one line, and no loop without a pause.
                    if !fails {
                        let node = self.node;
                        warn!("broker {node}: cannot accept connections, tries again every {ACCEPT_AGAIN:?}: {error}");
                    }
                    self.shared.wait_for(ACCEPT_AGAIN, |_| self.doors.is_closing());
                }
            }
            fails = failed;
        }
        self.doors.cut();
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn open(&self, stream: TcpStream) -> io::Result<Option<JoinHandle<()>>> {
        stream.set_nodelay(true)?;
        // One descriptor for both, so that a connection that is accepted is served, however few are left.
        let stream = Arc::new(stream);
        let Some(id) = self.doors.enter(Arc::clone(&stream)) else {
            return Ok(None);
        };
        let open = Open { doors: Arc::clone(&self.doors), id };
        let (shared, node, start) = (Arc::clone(&self.shared), self.node, self.start);
        let serve = move || {
            // Dropped last, also by a panic, so that the client sees the end.
            let _open = open;
            let served = match &shared.encryption {
                None => serve(&shared, node, start, &*stream),
                Some(encryption) => {
                    tls::accept(encryption, &stream).and_then(|stream| serve(&shared, node, start, stream))
                }
            };
            match served {
                Ok(()) => debug!("broker {node}: a connection ended"),
                Err(error) => debug!("broker {node}: a connection ended: {error}"),
            }
        };
        thread::Builder::new().name(format!("kafka-{node}-{id}")).spawn(serve).map(Some)
    }
}

struct Open {
    doors: Arc<Doors>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.doors.leave(self.id);
    }
}

/// A connection that may be logged in, until it is dropped.
#[cfg(feature = "sasl")]
struct Session<'a> {
    shared: &'a Shared,
    number: u64,
}

#[cfg(feature = "sasl")]
impl<'a> Session<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, number: shared.state.lock().sessions.connected() }
    }
}

#[cfg(feature = "sasl")]
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.shared.state.lock().sessions.disconnected(self.number);
    }
}

// A broker serves one request per connection at a time, so the answers are in order.
fn serve(shared: &Shared, node: i32, start: u64, stream: impl Read + Write) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    #[cfg(feature = "sasl")]
    let session = Session::new(shared);
    #[cfg(feature = "sasl")]
    let connection = session.number;
    #[cfg(not(feature = "sasl"))]
    let connection = 0;
    loop {
        let Some(frame) = read_frame(&mut reader)? else {
            return Ok(());
        };
        let Some((bytes, then)) = shared.answer(connection, (node, start), &frame) else {
            return Ok(());
        };
        reader.get_mut().write_all(&bytes)?;
        reader.get_mut().flush()?;
        let goes_on = match then {
            Then::Continue => true,
            Then::Close => false,
            Then::Mute(time) => shared.pause(node, start, time),
        };
        if !goes_on {
            return Ok(());
        }
    }
}

/// The next frame without its size; `None` at the end of the stream.
fn read_frame(reader: &mut impl Read) -> io::Result<Option<Bytes>> {
    let mut size = [0; 4];
    match reader.read_exact(&mut size) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let size = match u64::try_from(i32::from_be_bytes(size)) {
        Ok(size) if size <= MAX_FRAME => size,
        _ => {
            warn!("a client sent {size:?} as the size of a request; the connection is closed");
            return Err(io::ErrorKind::InvalidData.into());
        }
    };
    // Grows with what comes, so that a size alone takes no memory.
    let mut frame = Vec::new();
    reader.take(size).read_to_end(&mut frame)?;
    Ok((frame.len() as u64 == size).then(|| frame.into()))
}

/// Binds a loopback port for a broker.
///
/// Outside the range from which systems give ports to outgoing connections if possible: so nothing takes the port
/// while the broker is stopped, and no client that tries to reach the stopped broker connects to itself.
pub(super) fn bind_any(random: impl Iterator<Item = u64>) -> io::Result<TcpListener> {
    for number in random.take(100) {
        let port = 15_000 + u16::try_from(number % 17_000).expect("below 17,000");
        if let Ok(listener) = bind(port) {
            return Ok(listener);
        }
    }
    bind(0)
}

/// Binds this loopback port.
pub(super) fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

// As socket.request.max.bytes of a broker.
const MAX_FRAME: u64 = 100 * 1024 * 1024;
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Enough for a thread that has nothing to do but to end.
const LEAVES_WITHIN: Duration = Duration::from_millis(200);

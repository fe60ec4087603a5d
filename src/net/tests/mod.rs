//! Real sockets on the loopback interface against scripted servers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::*;

mod connecting;
mod ending;
mod looking_up;
mod reading;
#[cfg(feature = "_tls")]
mod tls;
mod watching;
mod writing;

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);
const LONG: Duration = Duration::from_secs(10);

/// Fails a test that waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(10);

struct Rig {
    net: Net,
    events: Vec<Event>,
    polls: usize,
}

impl Rig {
    fn new() -> Self {
        Self::resolving(|host: &str| panic!("{host} was looked up"))
    }

    fn resolving(resolver: impl Resolve + 'static) -> Self {
        Self { net: Net::with_resolver(Arc::new(resolver)).unwrap(), events: Vec::new(), polls: 0 }
    }

    fn connect(&mut self, conn: ConnId, address: &BrokerAddress) {
        self.net.connect(conn, address, LONG, true, Instant::now());
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.net.send(conn, Frame::new(bytes), &mut self.events);
    }

    fn poll(&mut self, timeout: Duration) {
        self.polls += 1;
        self.net.poll(Some(timeout), &mut self.events).unwrap();
    }

    fn next(&mut self) -> Event {
        let begin = Instant::now();
        while self.events.is_empty() {
            assert!(begin.elapsed() < PATIENCE, "nothing happened");
            self.poll(PATIENCE);
        }
        self.events.remove(0)
    }

    /// The reason why this connection ended; passes over earlier events.
    fn closed(&mut self, conn: ConnId) -> ConnectionErrorKind {
        loop {
            match self.next() {
                Event::Closed(closed, kind) if closed == conn => return kind,
                _ => {}
            }
        }
    }

    /// The poll sleeps for all of its timeout, and nothing happens.
    fn assert_quiet(&mut self) {
        let begin = Instant::now();
        let timeout = Duration::from_millis(60);
        self.poll(timeout);
        assert!(self.events.is_empty(), "{:?}", self.events);
        assert!(begin.elapsed() >= timeout, "woke up after {:?}", begin.elapsed());
    }
}

/// A server for one connection.
fn serve(script: impl FnOnce(TcpStream) + Send + 'static) -> (BrokerAddress, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = broker("127.0.0.1", listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let (peer, _) = listener.accept().unwrap();
        script(peer);
    });
    (address, server)
}

fn wait_for_end(peer: &mut TcpStream) {
    // A reset is an end, too.
    let _ = peer.read_to_end(&mut Vec::new());
}

fn read_frame(peer: &mut TcpStream) -> Vec<u8> {
    let mut size = [0; 4];
    peer.read_exact(&mut size).unwrap();
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(size)).unwrap()];
    peer.read_exact(&mut body).unwrap();
    body
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn broker(host: &str, port: u16) -> BrokerAddress {
    BrokerAddress { host: host.into(), port }
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A resolver that answers 127.0.0.1, one look-up for each message sent, or fails once the sender is gone.
fn held_resolver() -> (Sender<()>, impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync) {
    let (release, released): (_, Receiver<()>) = mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let held = move |_: &str| match released.lock().unwrap().recv() {
        Ok(()) => Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]),
        Err(error) => Err(io::Error::other(error)),
    };
    (release, held)
}

/// An address on which connecting hangs: a listener that accepts nothing and whose queue is full.
#[cfg(target_os = "linux")]
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<mio::net::TcpStream>,
}

#[cfg(target_os = "linux")]
impl BlackHole {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // The standard library asks for a queue of 128.
        let queued = (0..150).map(|_| mio::net::TcpStream::connect(address).unwrap()).collect();
        Self { address, _listener: listener, _queued: queued }
    }
}

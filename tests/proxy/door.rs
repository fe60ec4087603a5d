//! A port in front of a broker: takes connections, and opens one to the broker for each. What passes between is up to
//! whoever serves them.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ottla::testing::Cluster;
use socket2::SockRef;

/// A listening port; dropping it closes all its connections.
pub struct Door {
    pub address: SocketAddr,
    inside: Arc<Inside>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Inside {
    over: AtomicBool,
    taken: AtomicUsize,
    pairs: Mutex<Vec<Weak<Pair>>>,
    /// Connections on which nothing happens any more, and which stay open.
    stalled: Mutex<Vec<Arc<Pair>>>,
}

/// A connection from a client, and the one to the broker that belongs to it. Both are closed with the last reference.
pub struct Pair {
    pub client: TcpStream,
    pub broker: TcpStream,
    door: Weak<Inside>,
    is_cut: AtomicBool,
}

/// Where the first broker of a cluster listens, and clients are not to go.
pub fn broker(cluster: &Cluster) -> SocketAddr {
    cluster.bootstrap().split(',').next().and_then(|first| first.parse().ok()).expect("a broker")
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order: FIN.
    Close,
    /// RST.
    Reset,
    /// FIN from the side that spoke last; the other way stays open.
    HalfClose,
}

impl Door {
    /// Serves each connection, by its number from 0.
    pub fn before(broker: SocketAddr, serve: impl Fn(usize, Arc<Pair>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("an address");
        let inside = Arc::new(Inside::default());
        let shared = Arc::clone(&inside);
        let thread = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                let number = shared.taken.fetch_add(1, Ordering::SeqCst);
                // Without a broker behind it the client's connection is closed.
                let Ok(broker) = TcpStream::connect(broker) else { continue };
                for stream in [&client, &broker] {
                    stream.set_nodelay(true).expect("a socket");
                }
                let (door, is_cut) = (Arc::downgrade(&shared), AtomicBool::new(false));
                let pair = Arc::new(Pair { client, broker, door, is_cut });
                let mut pairs = shared.pairs.lock().expect("no panic");
                pairs.retain(|pair| pair.strong_count() > 0);
                pairs.push(Arc::downgrade(&pair));
                drop(pairs);
                serve(number, pair);
            }
        });
        Self { address, inside, thread: Some(thread) }
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.inside.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.inside.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.inside.stalled.lock().expect("no panic").clear();
        for pair in self.inside.pairs.lock().expect("no panic").iter().filter_map(Weak::upgrade) {
            pair.end(End::Close);
        }
    }
}

impl Pair {
    /// Ends both connections; threads that read from them wake up.
    pub fn end(&self, how: End) {
        self.is_cut.store(true, Ordering::SeqCst);
        let side = if how == End::Reset { Shutdown::Read } else { Shutdown::Both };
        for stream in [&self.client, &self.broker] {
            if how == End::Reset {
                // The reset leaves with the last reference.
                SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
            }
            let _ = stream.shutdown(side);
        }
    }

    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::SeqCst)
    }

    /// Whether nothing more is wanted of it.
    pub fn is_over(&self) -> bool {
        self.is_cut() || self.door.upgrade().is_none_or(|door| door.over.load(Ordering::SeqCst))
    }

    /// Keeps both connections open, although nobody serves them any more.
    pub fn stall(self: &Arc<Self>) {
        if let Some(door) = self.door.upgrade() {
            door.stalled.lock().expect("no panic").push(Arc::clone(self));
        }
    }
}

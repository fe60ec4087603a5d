//! What the tests share: a process of their own, and addresses at which brokers misbehave.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ottla::testing::Cluster;
use ottla::{AsyncProducerBuilder, Client};

/// Longer than anything here takes, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(60);

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a test in a process of its own, where nothing else has memory, threads and sockets: `test` is its path.
pub fn alone(test: &str, run: impl FnOnce()) {
    const MARK: &str = "OTTLA_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return run();
    }
    let binary = std::env::current_exe().expect("the path of the tests");
    let mut child = Command::new(binary);
    child.args(["--exact", test, "--nocapture"]).env(MARK, "1").env("RUST_BACKTRACE", "0");
    // What ottla takes is measured, and not what glibc keeps of freed memory for each thread that ever took some: where
    // threads get the processor in turns, that comes to several times as much.
    child.env("MALLOC_ARENA_MAX", "1");
    let done = child.output().expect("a process");
    let told = String::from_utf8_lossy(&done.stdout);
    // Shown with `-- --nocapture`: the numbers that were measured.
    print!("{}", told.lines().filter(|line| line.starts_with("  ")).fold(String::new(), |all, line| all + line + "\n"));
    assert!(
        done.status.success() && told.contains("1 passed"),
        "{test}: {told}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "{what}: it never happened");
        thread::sleep(ms(1));
    }
}

/// A cluster of one broker with the topic `orders`.
pub fn cluster(partitions: i32) -> Cluster {
    Cluster::builder().topic("orders", partitions).start().expect("loopback")
}

/// A producer with the default options.
pub fn producer(address: &str) -> AsyncProducerBuilder {
    client(address).async_producer()
}

pub fn client(address: &str) -> Client {
    Client::builder([address]).build().expect("good options")
}

/// An address where nobody listens, and where no server that is started later will.
pub fn nobody() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let host = Ipv4Addr::new(127, 0, 0, NEXT.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((host, 0)).expect("loopback").local_addr().expect("an address").to_string()
}

/// A server that is no broker.
pub struct Stranger {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Takes connections, and says nothing.
    pub fn mute() -> Self {
        Self::start(Some)
    }

    /// Closes each connection at once.
    pub fn hanging_up() -> Self {
        Self::start(|_| None)
    }

    /// Closes each connection when the client has said something.
    pub fn hanging_up_on_a_word() -> Self {
        Self::start(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            None
        })
    }

    fn start(serve: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("an address");
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                open.extend(serve(stream));
            }
        });
        Self { address, over, thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

//! What the tests share: clients that are quick to try again, and looks at what arrived.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::{Cluster, StoredMessage};
use ottla::{AsyncProducerBuilder, Client, ClientBuilder, ConnectionError, DeliveryErrorKind, ProducerBuilder};

/// Longer than anything here takes, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(30);

/// A cluster of one broker with the topic `orders`.
pub fn cluster(partitions: i32) -> Cluster {
    Cluster::builder().topic("orders", partitions).start().expect("loopback")
}

/// A cluster of three brokers with the topic `orders`.
pub fn three_brokers(partitions: i32) -> Cluster {
    Cluster::builder().brokers(3).topic("orders", partitions).start().expect("loopback")
}

/// A client whose pauses are short, so that what is tried again is tried soon.
pub fn quick(seeds: &str) -> ClientBuilder {
    Client::builder([seeds]).reconnect_backoff(ms(5)).reconnect_backoff_max(ms(40)).metadata_min_age(ms(5))
}

pub fn client(cluster: &Cluster) -> Client {
    quick(&cluster.bootstrap()).build().expect("good options")
}

pub fn async_producer(cluster: &Cluster) -> AsyncProducerBuilder {
    client(cluster).async_producer().retry_backoff(ms(5)).retry_backoff_max(ms(40))
}

pub fn sync_producer(cluster: &Cluster) -> ProducerBuilder {
    client(cluster).producer().retry_backoff(ms(5)).retry_backoff_max(ms(40))
}

pub fn values(messages: &[StoredMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.value_str().expect("a text")).collect()
}

/// Panics unless the values under each key are 0, 1, 2, ... once each and in this order, and `count` in all.
pub fn assert_in_order(messages: &[StoredMessage], count: usize) {
    let mut next = std::collections::HashMap::new();
    for message in messages {
        let n: &mut usize = next.entry(message.key_str()).or_default();
        assert_eq!(message.value_str(), Some(&*n.to_string()), "key {:?}", message.key_str());
        *n += 1;
    }
    assert_eq!(messages.len(), count);
}

/// The error at the bottom: what the brokers or the sockets said.
pub fn root(mut error: &DeliveryErrorKind) -> &DeliveryErrorKind {
    loop {
        error = match error {
            DeliveryErrorKind::Timeout { last: Some(last), .. }
            | DeliveryErrorKind::ShutDown { last: Some(last) }
            | DeliveryErrorKind::RetriesExhausted { last, .. } => last,
            _ => return error,
        }
    }
}

/// The failed connection at the bottom of an error.
pub fn connection(error: &DeliveryErrorKind) -> &ConnectionError {
    match root(error) {
        DeliveryErrorKind::Connection(error) => error,
        other => panic!("not about a connection: {other}"),
    }
}

/// The code at the bottom of an error.
pub fn code(error: &DeliveryErrorKind) -> i16 {
    match root(error) {
        DeliveryErrorKind::Broker(error) => error.code.0,
        other => panic!("not a broker's error: {other}"),
    }
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < LONG, "{what}: it never happened");
        thread::sleep(ms(1));
    }
}

/// Panics unless a call is back when the time that it is given is up, or soon after: `call` says how long it took. The
/// median of three, because the machine may be busy with something else.
pub fn assert_in_time(name: &str, mut call: impl FnMut(Duration) -> Duration) {
    let (limit, late) = (ms(200), ms(250));
    let mut times = [(); 3].map(|()| call(limit));
    times.sort_unstable();
    assert!((limit..limit + late).contains(&times[1]), "{name}: {times:?} for a limit of {limit:?}");
}

/// How long a call takes.
pub fn timed(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

/// Runs a test in a process of its own, where nothing else has threads and sockets: `test` is its path.
pub fn alone(test: &str, run: impl FnOnce()) {
    const MARK: &str = "OTTLA_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return run();
    }
    let binary = std::env::current_exe().expect("the path of the tests");
    let done = Command::new(binary).args(["--exact", test, "--nocapture"]).env(MARK, "1").output().expect("a process");
    let told = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && told.contains("1 passed"),
        "{test}: {told}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

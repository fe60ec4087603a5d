//! Connections that are cut after every single byte, in either direction, in the clear and encrypted: what was accepted
//! is delivered once and in order, what is given up is told as it is, and a broker never sees the rest of a frame that
//! began on another connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ottla::testing::Cluster;
use ottla::{AsyncProducer, AsyncProducerBuilder, DeliveryHandle, Message, Persistence};

use crate::common::*;
use crate::door::{End, broker};
use crate::links::Link;
use crate::proxy::{Lane, Plan, Proxy, Seen};

/// Messages of one run: one for the handshakes, then some that are in flight together.
const MESSAGES: usize = 4;

#[test]
fn a_connection_cut_after_any_byte_to_the_broker_costs_nothing() {
    let sent = cut_up_everywhere(&Link::plain(), &[End::Close, End::Reset, End::HalfClose], run);
    assert!(sent > 350, "{sent} bytes: handshake and produce requests");
}

#[test]
fn a_connection_cut_after_any_byte_from_the_broker_costs_nothing() {
    let received = cut_down_everywhere(&Link::plain(), &[End::Close, End::Reset, End::HalfClose], run);
    assert!(received > 300, "{received} bytes: handshake and produce responses");
}

#[test]
fn a_connection_with_a_login_cut_after_any_byte_costs_nothing() {
    let link = Link::plain().and_login();
    cut_up_everywhere(&link, &[End::HalfClose, End::Reset], run);
    cut_down_everywhere(&link, &[End::HalfClose, End::Reset], run);
}

/// As above, and each byte is one of a handshake, of the head of a record, of what is in it, or of its seal.
#[test]
#[cfg(feature = "_tls")]
fn an_encrypted_connection_cut_after_any_byte_costs_nothing() {
    let sent = cut_up_everywhere(&Link::tls(), &[End::HalfClose, End::Reset], run);
    let received = cut_down_everywhere(&Link::tls(), &[End::HalfClose, End::Reset], run);
    assert!(sent > 750 && received > 1200, "{sent} and {received} bytes: more than in the clear");
}

#[test]
#[cfg(feature = "_tls")]
fn an_encrypted_connection_with_a_login_cut_after_any_byte_costs_nothing() {
    let link = Link::tls().and_login();
    cut_up_everywhere(&link, &[End::HalfClose, End::Reset], run);
    cut_down_everywhere(&link, &[End::HalfClose, End::Reset], run);
}

#[test]
fn what_is_given_up_behind_a_cut_at_any_byte_is_told_as_it_is() {
    give_up_everywhere(&Link::plain());
}

#[test]
#[cfg(feature = "_tls")]
fn what_is_given_up_behind_a_cut_at_any_byte_of_an_encrypted_connection_is_told_as_it_is() {
    give_up_everywhere(&Link::tls());
}

#[test]
fn without_idempotence_a_connection_cut_after_any_byte_may_repeat_and_loses_nothing() {
    let (link, cluster) = (Link::plain(), cluster(1));
    let received = uncut(&link).down;
    for at in (0..received).rev() {
        let before = cluster.messages("orders").len();
        let proxy = Proxy::before(broker(&cluster), move |number| match number {
            0 => Plan { down: Lane::cut(at, End::Close), ..Plan::default() },
            _ => Plan::default(),
        });
        let producer = producer(&link, &cluster, &proxy).idempotent(false).build().unwrap();
        for n in 0..MESSAGES {
            producer.produce(Message::new("orders", n.to_string())).unwrap();
        }
        assert_eq!(producer.shutdown().unwrap().delivered, MESSAGES as u64);
        let stored = cluster.messages("orders");
        let mut firsts: Vec<&str> = Vec::new();
        for value in values(&stored[before..]) {
            if !firsts.contains(&value) {
                firsts.push(value);
            }
        }
        assert_eq!(firsts, ["0", "1", "2", "3"], "cut at {at}");
    }
}

/// What passes if nothing is cut.
fn uncut(link: &Link) -> Seen {
    let cluster = cluster_behind(link);
    let proxy = Proxy::before(broker(&cluster), |_| Plan::default());
    run(link, &cluster, &proxy, 0);
    proxy.seen().remove(0)
}

fn cluster_behind(link: &Link) -> Cluster {
    link.brokers(Cluster::builder().topic("orders", 1)).start().unwrap()
}

/// What is done behind a proxy with a cluster, for the number of its turn there.
type Run = fn(&Link, &Cluster, &Proxy, usize);

/// Cuts the way to the broker. Returns how many bytes pass if nothing is cut.
fn cut_up_everywhere(link: &Link, ends: &[End], run: Run) -> usize {
    let sent = uncut(link).up.len();
    everywhere(link, sent, ends, run, |at, end| Plan { up: Lane::cut(at, end), ..Plan::default() });
    sent
}

/// As above, from the broker.
fn cut_down_everywhere(link: &Link, ends: &[End], run: Run) -> usize {
    let received = uncut(link).down;
    everywhere(link, received, ends, run, |at, end| Plan { down: Lane::cut(at, end), ..Plan::default() });
    received
}

/// A run for each position up to `bytes` and some more, and each end: its first connection is cut there in this way.
/// Messages may share a request or not, so one run has more bytes than another; a cut behind the end changes nothing.
fn everywhere(
    link: &Link,
    bytes: usize,
    ends: &[End],
    run_once: Run,
    cut: impl Fn(usize, End) -> Plan + Copy + Send + Sync + 'static,
) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let cluster = cluster_behind(link);
                let (run_now, first) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let (current, cut_first) = (Arc::clone(&run_now), Arc::clone(&first));
                let ends = ends.to_vec();
                let kinds = ends.len();
                let proxy = Proxy::before(broker(&cluster), move |number| {
                    let run = current.load(Ordering::SeqCst);
                    let is_cut = number == cut_first.load(Ordering::SeqCst);
                    if is_cut { cut(run / ends.len(), ends[run % ends.len()]) } else { Plan::default() }
                });
                for round in 0.. {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= kinds * (bytes + MORE) {
                        break;
                    }
                    run_now.store(number, Ordering::SeqCst);
                    first.store(proxy.connections(), Ordering::SeqCst);
                    run_once(link, &cluster, &proxy, round);
                }
                if link.is_plain() {
                    proxy.seen().iter().for_each(|seen| assert_frames(&seen.up));
                }
            });
        }
    });
}

/// A producer of its own delivers its messages behind those that the cluster has.
fn run(link: &Link, cluster: &Cluster, proxy: &Proxy, round: usize) {
    let producer = producer(link, cluster, proxy).build().unwrap();
    let connections = proxy.connections();
    for n in 0..MESSAGES {
        producer.produce(Message::new("orders", (round * MESSAGES + n).to_string())).unwrap();
        // The first alone, because nothing is sent beside it until it is acknowledged; then each in its own request.
        if n == 0 {
            assert_eq!(producer.flush(LONG).unwrap().failed, 0);
        } else {
            producer.deliver_messages();
        }
    }
    assert_eq!(producer.shutdown().unwrap().delivered, MESSAGES as u64);
    assert!(proxy.connections() - connections <= 4, "{} connections", proxy.connections() - connections);
    assert_in_order(&cluster.messages("orders"), (round + 1) * MESSAGES);
}

/// Runs that give up at the first trouble, at every position in both directions.
fn give_up_everywhere(link: &Link) {
    cut_up_everywhere(link, &[End::HalfClose, End::Reset], give_up);
    cut_down_everywhere(link, &[End::HalfClose, End::Reset], give_up);
}

/// A producer of its own gives up once its connection is cut, and tells the fate of each of its messages: one, and what
/// the log has.
fn give_up(link: &Link, cluster: &Cluster, proxy: &Proxy, round: usize) {
    let before = cluster.messages("orders").len();
    let patient = Duration::from_secs(60);
    let producer = producer(link, cluster, proxy).retry_backoff(patient).retry_backoff_max(patient).build().unwrap();
    let mut handles = Vec::new();
    for n in 0..MESSAGES {
        let message = Message::new("orders", format!("{round} {n}"));
        handles.push(producer.produce_with_handle(message).unwrap());
        producer.deliver_messages();
        if n == 0 {
            // Nothing is sent beside it.
            wait_for_trouble(&producer);
        }
    }
    wait_for_trouble(&producer);
    let report = producer.shutdown_within(Duration::ZERO).unwrap();
    let fates = DeliveryHandle::wait_all(handles);
    assert_eq!(report.delivered as usize, fates.iter().filter(|fate| fate.is_ok()).count());
    // What a socket took arrives, if it does, before the end of its connection.
    wait_until("the connections end", || cluster.connections() == 0);
    let stored = cluster.messages("orders");
    for (n, fate) in fates.iter().enumerate() {
        let value = format!("{round} {n}");
        let found = stored[before..].iter().filter(|message| message.value_str() == Some(&value));
        let offsets: Vec<i64> = found.map(|message| message.offset).collect();
        match fate {
            Ok(delivered) => assert_eq!(offsets, [delivered.offset.unwrap()], "message {n}"),
            Err(error) if error.persistence() == Persistence::No => assert!(offsets.is_empty(), "{error}: {offsets:?}"),
            Err(error) => assert!(offsets.len() <= 1, "{error}: {offsets:?}"),
        }
    }
}

/// Returns when all is delivered, or something is wrong.
fn wait_for_trouble(producer: &AsyncProducer) {
    while producer.last_error().is_none() && producer.flush(ms(1)).is_err() {}
}

fn producer(link: &Link, cluster: &Cluster, proxy: &Proxy) -> AsyncProducerBuilder {
    let address = proxy.address();
    cluster.advertise(1, address.ip().to_string(), address.port());
    let client = quick(&address.to_string()).reconnect_backoff(ms(1)).reconnect_backoff_max(ms(4));
    let client = link.client(client.metadata_min_age(ms(1))).build().unwrap();
    client.async_producer().retry_backoff(ms(1)).retry_backoff_max(ms(4))
}

/// Panics unless it is a stream of requests from its first byte on, numbered from 0; the last may be cut.
fn assert_frames(stream: &[u8]) {
    let mut rest = stream;
    for expected in 0.. {
        let Some((header, _)) = rest.split_at_checked(12) else { break };
        let [size, kind, correlation] = [0, 4, 8].map(|at| u32::from_be_bytes(header[at..at + 4].try_into().unwrap()));
        assert_eq!(correlation, expected, "{stream:02x?}");
        assert!([0, 3, 17, 18, 22, 36].contains(&(kind >> 16)) && size < 1000, "{stream:02x?}");
        rest = rest.get(4 + size as usize..).unwrap_or_default();
    }
}

const THREADS: usize = 4;

/// Bytes of a request or two.
const MORE: usize = 200;

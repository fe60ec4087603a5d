//! Connections that are cut after every single byte, in either direction: what was accepted is delivered once and in
//! order, and a broker never sees the rest of a frame that began on another connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ottla::testing::Cluster;
use ottla::{AsyncProducerBuilder, Message};

use crate::common::*;
use crate::door::{End, broker};
use crate::proxy::{Lane, Plan, Proxy};

/// Messages of one run: one for the handshakes, then some that are in flight together.
const MESSAGES: usize = 4;

#[test]
fn a_connection_cut_after_any_byte_to_the_broker_costs_nothing() {
    let sent = uncut().up.len();
    assert!(sent > 350, "{sent} bytes: handshake and produce requests");
    everywhere(sent, |at, end| Plan { up: Lane::cut(at, end), ..Plan::default() });
}

#[test]
fn a_connection_cut_after_any_byte_from_the_broker_costs_nothing() {
    let received = uncut().down;
    assert!(received > 300, "{received} bytes: handshake and produce responses");
    everywhere(received, |at, end| Plan { down: Lane::cut(at, end), ..Plan::default() });
}

#[test]
fn without_idempotence_a_connection_cut_after_any_byte_may_repeat_and_loses_nothing() {
    let cluster = cluster(1);
    let received = uncut().down;
    for at in (0..received).rev() {
        let before = cluster.messages("orders").len();
        let proxy = Proxy::before(broker(&cluster), move |number| match number {
            0 => Plan { down: Lane::cut(at, End::Close), ..Plan::default() },
            _ => Plan::default(),
        });
        let producer = producer(&cluster, &proxy).idempotent(false).build().unwrap();
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
fn uncut() -> crate::proxy::Seen {
    let cluster = cluster(1);
    let proxy = Proxy::before(broker(&cluster), |_| Plan::default());
    run(&cluster, &proxy, 0);
    proxy.seen().remove(0)
}

/// Two runs for each position up to `bytes` and some more: the first connection of each is cut there, once in order and
/// once with a reset. Messages may share a request or not, so one run has more bytes than another; a cut behind the end
/// changes nothing.
fn everywhere(bytes: usize, cut: impl Fn(usize, End) -> Plan + Copy + Send + Sync + 'static) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let cluster = cluster(1);
                let (run_now, first) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let (current, cut_first) = (Arc::clone(&run_now), Arc::clone(&first));
                let proxy = Proxy::before(broker(&cluster), move |number| {
                    let run = current.load(Ordering::SeqCst);
                    let end = if run % 2 == 0 { End::Close } else { End::Reset };
                    if number == cut_first.load(Ordering::SeqCst) { cut(run / 2, end) } else { Plan::default() }
                });
                for round in 0.. {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= 2 * (bytes + MORE) {
                        break;
                    }
                    run_now.store(number, Ordering::SeqCst);
                    first.store(proxy.connections(), Ordering::SeqCst);
                    run(&cluster, &proxy, round);
                }
                proxy.seen().iter().for_each(|seen| assert_frames(&seen.up));
            });
        }
    });
}

/// A producer of its own delivers its messages behind those that the cluster has.
fn run(cluster: &Cluster, proxy: &Proxy, round: usize) {
    let producer = producer(cluster, proxy).build().unwrap();
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

fn producer(cluster: &Cluster, proxy: &Proxy) -> AsyncProducerBuilder {
    let address = proxy.address();
    cluster.advertise(1, address.ip().to_string(), address.port());
    let client = quick(&address.to_string()).reconnect_backoff(ms(1)).reconnect_backoff_max(ms(4));
    let client = client.metadata_min_age(ms(1)).build().unwrap();
    client.async_producer().retry_backoff(ms(1)).retry_backoff_max(ms(4))
}

/// Panics unless it is a stream of requests from its first byte on, numbered from 0; the last may be cut.
fn assert_frames(stream: &[u8]) {
    let mut rest = stream;
    for expected in 0.. {
        let Some((header, _)) = rest.split_at_checked(12) else { break };
        let [size, kind, correlation] = [0, 4, 8].map(|at| u32::from_be_bytes(header[at..at + 4].try_into().unwrap()));
        assert_eq!(correlation, expected, "{stream:02x?}");
        assert!([0, 3, 18, 22].contains(&(kind >> 16)) && size < 1000, "{stream:02x?}");
        rest = rest.get(4 + size as usize..).unwrap_or_default();
    }
}

const THREADS: usize = 4;

/// Bytes of a request or two.
const MORE: usize = 200;

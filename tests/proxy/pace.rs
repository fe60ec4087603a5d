//! Networks that are slow, dribble, stall or fall silent: what is still possible happens, and every deadline holds.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use ottla::testing::Cluster;
use ottla::{
    AsyncProducerBuilder, ClientBuilder, ConnectionErrorKind, DeliveryErrorKind, DeliveryHandle, FlushError, Message,
    Persistence,
};

use crate::common::*;
use crate::door::{End, broker};
use crate::proxy::{Lane, Plan, Proxy};

#[test]
fn what_comes_byte_by_byte_is_what_was_sent() {
    for piece in [1, 2, 3, 7, 64] {
        let began = Instant::now();
        let lane = Lane::pieces(piece);
        let (cluster, proxy) = behind(move |_| Plan { up: lane, down: lane, lasts: None });
        let producer = async_producer(&proxy, |client| client).build().unwrap();
        let handles: Vec<_> = (0..20)
            .map(|n| {
                let message = Message::new("orders", n.to_string());
                producer.produce_with_handle(message.with_key("k").with_header("h", "1")).unwrap()
            })
            .collect();
        for (n, fate) in DeliveryHandle::wait_all(handles).into_iter().enumerate() {
            assert_eq!(fate.unwrap().offset, Some(n as i64), "in pieces of {piece}");
        }
        assert_eq!((producer.shutdown().unwrap().delivered, proxy.connections()), (20, 1), "in pieces of {piece}");
        let (took, seen) = (began.elapsed(), proxy.seen().remove(0));
        // A segment costs a wake-up or two, here and in the proxy, and nothing waits for more: a timer is 40 ms.
        let segments = (seen.up.len() + seen.down).div_ceil(piece);
        assert!(took < ms(1000 + 5 * segments as u64), "{took:?} for {segments} segments of {piece}");
        let stored = cluster.messages("orders");
        assert_in_order(&stored, 20);
        assert!(stored.iter().all(|message| message.headers == [("h".to_owned(), Some(b"1".to_vec()))]));
    }
}

#[test]
fn a_half_closed_connection_is_noticed_before_the_next_message() {
    // Behind the answer to the first message the broker ends its side, and would read on.
    let handshake = received_by_a_first_message();
    let (cluster, proxy) = behind(move |number| match number {
        0 => Plan { down: Lane::cut(handshake, End::HalfClose), ..Plan::default() },
        _ => Plan::default(),
    });
    let producer = async_producer(&proxy, |client| client).build().unwrap();
    for n in 0..3 {
        let fate = producer.produce_with_handle(Message::new("orders", n.to_string())).unwrap().wait().unwrap();
        assert_eq!(fate.offset, Some(n));
        wait_until("the end is noticed", || cluster.connections() == usize::from(n > 0));
    }
    assert!(producer.last_error().is_none(), "an idle connection may end: {:?}", producer.last_error());
    assert_eq!((producer.shutdown().unwrap().delivered, proxy.connections()), (3, 2));
    assert_in_order(&cluster.messages("orders"), 3);
}

#[test]
fn latency_is_hidden_by_requests_in_flight() {
    let latency = ms(100);
    let (cluster, proxy) = behind(move |_| Plan { down: Lane::delay(latency), ..Plan::default() });
    let producer = async_producer(&proxy, |client| client).max_in_flight(5).build().unwrap();
    producer.produce_with_handle(Message::new("orders", "0")).unwrap().wait().unwrap();
    let began = Instant::now();
    for n in 1..31 {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
        producer.deliver_messages();
        // One batch for each message, if there is room for it.
        thread::sleep(ms(1));
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 31);
    let seen = &proxy.seen()[0];
    assert_eq!(seen.most_unanswered, 5, "max_in_flight is used, and kept");
    // One after the other they would take 3 s.
    assert!(began.elapsed() < ms(2000), "{:?}", began.elapsed());
    assert_in_order(&cluster.messages("orders"), 31);
}

#[test]
fn a_slow_link_delivers_what_it_can_and_is_not_called_anew() {
    let (cluster, proxy) = behind(|_| Plan { up: Lane::rate(100_000), ..Plan::default() });
    let producer = async_producer(&proxy, |client| client)
        .max_batch_bytes(10_000)
        .max_message_bytes(10_000)
        .max_buffer_bytesize(50_000)
        .max_queue_bytesize(400_000)
        .max_queue_size(1_000)
        .delivery_threshold(1)
        .delivery_timeout(ms(1500))
        .build()
        .unwrap();
    let value = "v".repeat(4_000);
    let (began, mut handles) = (Instant::now(), Vec::new());
    let refused = loop {
        match producer.produce_with_handle(Message::new("orders", &*value).with_partition(0)) {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
        assert!(handles.len() < 200, "the bound of 450 kB was passed");
    };
    assert!(refused.is_buffer_overflow(), "{refused}");
    let accepted = handles.len();
    let fates = DeliveryHandle::wait_all(handles);
    assert!(began.elapsed() < ms(4000), "{:?}", began.elapsed());
    let delivered = fates.iter().take_while(|fate| fate.is_ok()).count();
    assert!((5..=40).contains(&delivered), "{delivered} of {accepted} in the time for 37");
    for (n, fate) in fates.into_iter().enumerate().skip(delivered) {
        let error = fate.expect_err("order is kept");
        assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "message {n}: {error}");
    }
    assert_eq!(proxy.connections(), 1, "nothing is wrong with the connection");
    // What was on its way arrives, and so does what follows.
    let after = async_producer(&proxy, |client| client).build().unwrap();
    after.produce_with_handle(Message::new("orders", "after")).unwrap().wait().unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered as usize, delivered);
    let stored = cluster.messages("orders").len() - 1;
    assert!((delivered..accepted).contains(&stored), "{stored} of {accepted}");
}

#[test]
fn a_link_too_slow_for_one_request_is_not_called_in_a_storm() {
    let slow_until = Instant::now() + ms(1600);
    let (cluster, proxy) = behind(move |_| match Instant::now() < slow_until {
        true => Plan { up: Lane::rate(5_000), ..Plan::default() },
        false => Plan::default(),
    });
    // A request takes two seconds, its answer is waited for half a second.
    let producer = async_producer(&proxy, |client| client.socket_timeout(ms(500))).ack_timeout(ms(100)).build();
    let producer = producer.unwrap();
    let fate = producer.produce_with_handle(Message::new("orders", "v".repeat(10_000))).unwrap().wait().unwrap();
    assert_eq!(fate.offset, Some(0));
    assert!(Instant::now() >= slow_until);
    // Each had its half second, with another beside it that asks where the broker is now. The pauses alone would allow
    // sixty.
    assert!((4..=12).contains(&proxy.connections()), "{} connections", proxy.connections());
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
    assert_eq!(cluster.messages("orders").len(), 1);
}

#[test]
fn a_response_that_stops_in_its_middle_is_waited_for_as_long_as_a_whole_one() {
    let whole = received_by_a_first_message();
    for (what, down) in [("falls silent", Lane::stall(whole - 20)), ("dribbles", Lane::rate(60))] {
        let (cluster, proxy) = behind(move |number| match number {
            0 => Plan { down, ..Plan::default() },
            _ => Plan::default(),
        });
        let client = async_producer(&proxy, |client| client.socket_timeout(ms(700)).connect_timeout(ms(700)));
        let producer = client.ack_timeout(ms(100)).build().unwrap();
        let handle = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
        let began = Instant::now();
        let error = producer.flush(ms(150)).unwrap_err();
        assert!(matches!(error, FlushError::Timeout { unfinished: 1, .. }), "{what}: {error}");
        assert!(began.elapsed() < ms(650), "{what}: {:?}", began.elapsed());
        assert_eq!(handle.wait().unwrap().offset, Some(0), "{what}");
        assert!((ms(600)..ms(5000)).contains(&began.elapsed()), "{what}: {:?}", began.elapsed());
        // One for the message, one to ask where the broker is now.
        assert!((2..=3).contains(&proxy.connections()), "{what}: {} connections", proxy.connections());
        assert_eq!(producer.shutdown().unwrap().delivered, 1, "{what}");
        assert_eq!(cluster.messages("orders").len(), 1, "{what}");
    }
}

#[test]
fn a_peer_that_reads_nothing_holds_up_no_caller() {
    let handshake = sent_before_a_first_message();
    let (cluster, proxy) = behind(move |_| Plan { up: Lane::stall(handshake + 10), ..Plan::default() });
    let stuck = || {
        let producer = async_producer(&proxy, |client| client.socket_timeout(ms(600)))
            .ack_timeout(ms(100))
            .max_request_bytes(8 << 20)
            .delivery_threshold(1)
            .build()
            .unwrap();
        // More than the system's buffers take: the window closes in the middle of a request.
        for n in 0..24 {
            let message = Message::new("orders", vec![b'v'; 900_000]).with_tag(n).with_partition(n as i32 % 8);
            producer.produce_timeout(message, LONG).unwrap();
        }
        producer
    };
    let producer = stuck();
    assert_in_time("flush", |limit| {
        timed(|| assert!(matches!(producer.flush(limit), Err(FlushError::Timeout { unfinished: 24, .. }))))
    });
    let mut producers = vec![stuck(), stuck(), producer];
    assert_in_time("shutdown", |limit| {
        let producer = producers.pop().unwrap();
        wait_until("the connection is given up", || producer.last_error().is_some());
        let error = producer.last_error().unwrap();
        assert!(
            matches!(connection(&error).kind, ConnectionErrorKind::SocketTimeout { after, .. } if after == ms(600)),
            "{error}"
        );
        assert!(error.to_string().contains("socket_timeout (600ms)"), "{error}");
        let began = Instant::now();
        let report = producer.shutdown_within(limit).unwrap();
        let took = began.elapsed();
        assert_eq!((report.delivered, report.given_up), (0, 24));
        let possibly = report.undelivered.iter().filter(|error| error.persistence() == Persistence::Possibly).count();
        assert!((1..=24).contains(&possibly), "what a socket took may have arrived: {possibly}");
        took
    });
    assert!(cluster.messages("orders").is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_swallows_everything_holds_up_no_caller() {
    let hole = BlackHole::new();
    let connect_timeout = ms(1000);
    let client = quick(&hole.address.to_string()).connect_timeout(connect_timeout).build().unwrap();
    let producer = client.async_producer().delivery_timeout(ms(1400)).build().unwrap();
    let began = Instant::now();
    let handle = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    assert!(began.elapsed() < ms(700), "{:?}", began.elapsed());
    assert_in_time("flush", |limit| {
        timed(|| assert!(matches!(producer.flush(limit), Err(FlushError::Timeout { unfinished: 1, .. }))))
    });
    let error = handle.wait().unwrap_err();
    let ConnectionErrorKind::ConnectTimeout(after) = connection(error.kind()).kind else { panic!("{error}") };
    assert_eq!((after, error.persistence()), (connect_timeout, Persistence::No));
    for part in [&*hole.address.to_string(), "connect_timeout (1s)", "firewalls"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    // One that answers is found beside it, and long before the hole is given up.
    let cluster = cluster(1);
    let client = quick(&format!("{},{}", hole.address, cluster.bootstrap())).build().unwrap();
    let producer = client.async_producer().build().unwrap();
    let began = Instant::now();
    producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A cluster whose broker is reached through a proxy.
fn behind(plan: impl Fn(usize) -> Plan + Send + 'static) -> (Cluster, Proxy) {
    let cluster = cluster(8);
    let proxy = Proxy::before(broker(&cluster), plan);
    let address = proxy.address();
    cluster.advertise(1, address.ip().to_string(), address.port());
    (cluster, proxy)
}

fn async_producer(proxy: &Proxy, options: impl FnOnce(ClientBuilder) -> ClientBuilder) -> AsyncProducerBuilder {
    let client = options(quick(&proxy.address().to_string())).build().unwrap();
    client.async_producer().retry_backoff(ms(5)).retry_backoff_max(ms(40))
}

/// Bytes that a client gets until its first message is acknowledged.
fn received_by_a_first_message() -> usize {
    first_message().0
}

/// Bytes that a client sends before its first message.
fn sent_before_a_first_message() -> usize {
    first_message().1
}

fn first_message() -> (usize, usize) {
    let (_cluster, proxy) = behind(|_| Plan::default());
    let producer = async_producer(&proxy, |client| client).build().unwrap();
    producer.produce_with_handle(Message::new("orders", "0")).unwrap().wait().unwrap();
    let seen = proxy.seen().remove(0);
    let mut at = 0;
    // Up to the first request of kind Produce.
    while seen.up[at + 4..at + 6] != [0, 0] {
        at += 4 + u32::from_be_bytes(seen.up[at..at + 4].try_into().unwrap()) as usize;
    }
    (seen.down, at)
}

/// An address on which connecting hangs: a listener that accepts nothing and whose queue is full.
#[cfg(target_os = "linux")]
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<socket2::Socket>,
}

#[cfg(target_os = "linux")]
impl BlackHole {
    pub fn new() -> Self {
        use socket2::{Domain, Socket, Type};

        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        let queued = (0..4).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        });
        let _queued = queued.collect();
        Self { address, _listener: listener, _queued }
    }
}

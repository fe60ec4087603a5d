//! Host names: look-ups that fail, hang, or answer something else than before.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::time::Instant;

use ottla::{
    BrokerAddress, Client, ConnectionErrorKind, FlushError, Message, Persistence, ProduceErrorKind, ShutdownReport,
};

use crate::common::*;
use crate::door::broker;
use crate::proxy::{Plan, Proxy};

#[test]
fn a_name_that_is_unknown_for_a_while_is_asked_for_again() {
    let cluster = cluster(1);
    let (asked, address) = (Arc::new(AtomicUsize::new(0)), broker(&cluster));
    let count = Arc::clone(&asked);
    let client = client_of("kafka.test:9092", move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0..4 => Err(io::Error::other("no such host today")),
        _ => Ok(vec![address]),
    });
    let producer = client.async_producer().build().unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    wait_until("an error is seen", || producer.last_error().is_some() || asked.load(Ordering::SeqCst) > 4);
    assert_eq!(handle.wait().unwrap().offset, Some(0));
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
}

#[test]
fn a_name_that_stays_unknown_is_the_reason_why_messages_fail() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = Client::builder(["kafka.test:9092"]).resolver(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::other("no such host"))
    });
    let producer = client.build().unwrap().async_producer().delivery_timeout(ms(1000)).build().unwrap();
    let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
    assert!(matches!(connection(error.kind()).kind, ConnectionErrorKind::Resolve(_)), "{error}");
    assert_eq!(error.persistence(), Persistence::No);
    for part in ["kafka.test:9092", "no such host", "check its spelling and the DNS"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    // With the pauses of a user: 100 ms, 200 ms, 400 ms, ...
    let asked = asked.load(Ordering::SeqCst);
    assert!((2..=5).contains(&asked), "{asked} look-ups in a second");
}

#[test]
fn a_look_up_that_hangs_holds_up_no_caller() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let client = client_of("hangs.test:9092", move |_| {
        let _ = held.lock().unwrap().recv_timeout(LONG);
        Err(io::Error::other("released"))
    });
    let producer = client.async_producer().max_queue_size(3).build().unwrap();
    let began = Instant::now();
    for n in 0..3 {
        producer.produce(Message::new("orders", "v").with_tag(n)).unwrap();
    }
    let error = producer.produce(Message::new("orders", "v")).unwrap_err();
    assert!(matches!(error.kind(), ProduceErrorKind::BufferOverflow(_)), "{error}");
    assert!(began.elapsed() < ms(700), "{:?}", began.elapsed());
    assert_in_time("flush", |limit| {
        timed(|| assert!(matches!(producer.flush(limit), Err(FlushError::Timeout { unfinished: 3, .. }))))
    });
    assert_all_handed_back(&producer.shutdown_within(Duration::ZERO).unwrap(), 3);
    drop(producer);
    assert_in_time("shutdown", |limit| {
        let producer = client.async_producer().build().unwrap();
        (0..3).for_each(|n| producer.produce(Message::new("orders", "v").with_tag(n)).unwrap());
        timed(|| assert_all_handed_back(&producer.shutdown_within(limit).unwrap(), 3))
    });

    // Without a deadline of the caller it is connect_timeout that ends the wait, again and again.
    assert_in_time("deliver_messages", |limit| {
        let mut sync = client.producer().delivery_timeout(limit).build().unwrap();
        sync.produce(Message::new("orders", "v")).unwrap();
        timed(|| assert_eq!(sync.deliver_messages().unwrap_err().remaining, 1))
    });
    assert_in_time("check", |limit| {
        timed(|| {
            let error = client.check(limit).unwrap_err();
            assert!(error.to_string().contains("no broker could be used within 200ms"), "{error}");
        })
    });
    drop(release);
}

#[test]
fn a_name_that_hangs_holds_up_no_other_broker() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let cluster = three_brokers(3);
    // Broker 2 is advertised under a name whose look-up hangs.
    cluster.advertise(2, "hangs.test", 9092);
    let client = client_of(&cluster.bootstrap(), move |_| {
        let _ = held.lock().unwrap().recv_timeout(LONG);
        Err(io::Error::other("released"))
    });
    let producer = client.async_producer().delivery_timeout(ms(900)).build().unwrap();
    let lost = producer.produce_with_handle(Message::new("orders", "v").with_partition(1)).unwrap();
    for n in 0..20 {
        let message = Message::new("orders", n.to_string()).with_partition(n % 2 * 2);
        let began = Instant::now();
        producer.produce_with_handle(message).unwrap().wait().unwrap();
        assert!(began.elapsed() < ms(800), "{:?}", began.elapsed());
    }
    let error = lost.wait().unwrap_err();
    assert_eq!(error.persistence(), Persistence::No);
    assert_eq!(producer.shutdown().unwrap().delivered, 20);
    drop(release);
}

#[test]
fn the_next_address_of_a_name_is_tried_while_there_is_time() {
    let cluster = cluster(1);
    let good = broker(&cluster);
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (v6, v4) = (SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)), SocketAddr::from(([127, 0, 0, 1], 0)));
    for addresses in [vec![refusing, refusing, good], vec![v6, v4]] {
        let client = client_of(&format!("kafka.test:{}", good.port()), move |_| Ok(addresses.clone()));
        let began = Instant::now();
        assert_eq!(client.check(LONG).unwrap().brokers.len(), 1);
        assert!(began.elapsed() < Duration::from_secs(2), "a refusal costs no time: {:?}", began.elapsed());
        let producer = client.async_producer().build().unwrap();
        producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
        assert!(producer.last_error().is_none());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_swallows_everything_has_only_its_share_of_the_time() {
    let cluster = cluster(1);
    let (hole, good) = (crate::pace::BlackHole::new(), broker(&cluster));
    let addresses = vec![hole.address, good];
    let client = quick("kafka.test:9092").resolver(move |_| Ok(addresses.clone())).connect_timeout(ms(2000));
    let producer = client.build().unwrap().async_producer().build().unwrap();
    let began = Instant::now();
    producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap();
    assert!((ms(900)..ms(2000)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(producer.last_error().is_none(), "the attempt as a whole was no failure");
}

#[test]
fn brokers_that_all_moved_are_found_under_the_names_of_the_beginning() {
    let cluster = three_brokers(3);
    let brokers: Vec<SocketAddr> = cluster.bootstrap().split(',').map(|address| address.parse().unwrap()).collect();
    let open = |cluster: &ottla::testing::Cluster| {
        let proxies: Vec<_> = brokers.iter().map(|broker| Proxy::before(*broker, |_| Plan::default())).collect();
        for (node, proxy) in (1..).zip(&proxies) {
            cluster.advertise(node, proxy.address().ip().to_string(), proxy.address().port());
        }
        proxies
    };
    let mut proxies = open(&cluster);
    let bootstrap = Arc::new(Mutex::new(proxies[0].address()));
    let known = Arc::clone(&bootstrap);
    let client = client_of("bootstrap.test:9092", move |_| Ok(vec![*known.lock().unwrap()]));
    let producer = client.async_producer().build().unwrap();
    let mut count = 0;
    for _ in 0..3 {
        for _ in 0..30 {
            let message = Message::new("orders", (count / 3).to_string());
            producer.produce(message.with_partition(count % 3).with_key(format!("{}", count % 3))).unwrap();
            count += 1;
        }
        assert_eq!(producer.flush(LONG).unwrap().failed, 0);
        // All old addresses go at once; the name leads to a new one.
        drop(proxies);
        proxies = open(&cluster);
        *bootstrap.lock().unwrap() = proxies[1].address();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 90);
    assert_in_order(&cluster.messages("orders"), 90);
    let told: Vec<BrokerAddress> =
        client.check(LONG).unwrap().brokers.into_iter().map(|broker| broker.address).collect();
    assert_eq!(
        told.iter().map(ToString::to_string).collect::<Vec<_>>(),
        proxies.iter().map(|proxy| proxy.address().to_string()).collect::<Vec<_>>()
    );
}

fn client_of(seeds: &str, look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Client {
    quick(seeds).resolver(look_up).build().unwrap()
}

fn assert_all_handed_back(report: &ShutdownReport, count: u64) {
    let tags: Vec<u64> = report.undelivered.iter().map(|error| error.message().tag()).collect();
    assert_eq!((report.given_up, tags), (count, (0..count).collect()));
    assert!(report.undelivered.iter().all(|error| error.persistence() == Persistence::No));
}

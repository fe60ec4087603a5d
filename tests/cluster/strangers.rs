//! Addresses at which there is no Kafka: each gives a typed error that names the address and what to do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ottla::testing::{Api, Cluster, Fault};
use ottla::{CheckError, Client, ClientBuilder, ConnectionErrorKind, DeliveryErrorKind, Message, Persistence, Speaks};

use crate::common::*;
use crate::door::Door;
use crate::links::Link;

#[test]
fn what_speaks_something_else_is_recognised() {
    let html = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>";
    let alert = b"\x15\x03\x01\x00\x02\x02\x46";
    for (says, speaks, part) in [
        (html.as_bytes(), Speaks::Http, "HTTP server"),
        (&alert[..], Speaks::Tls, "TLS listener"),
        // As Kafka's own answers a plaintext client.
        (&b"\x15\x03\x03\x00\x02\x02\x50"[..], Speaks::Tls, "TLS listener"),
        // Zeros without end.
        (&[0; 4096], Speaks::Unknown, "not Kafka"),
        (b"SSH-2.0-OpenSSH_9.6p1 Debian-4\r\n", Speaks::Ssh, "SSH server"),
    ] {
        on_each_link(&|link| {
            let server = Stranger::saying(says).behind(link);
            let fits =
                |kind: &ConnectionErrorKind| matches!(kind, ConnectionErrorKind::NotKafka(found) if *found == speaks);
            server.refused_at_once(fits, part);
        });
    }
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_read() {
    for says in
        [&b"\x7f\xff\xff\xff"[..], b"\x80\0\0\0 and so on", b"\xff\xff\xff\xff", b"220 smtp.example.org ESMTP\r\n"]
    {
        on_each_link(&|link| {
            let server = Stranger::saying(says).behind(link);
            let (kind, text) = server.fate();
            assert!(matches!(kind, ConnectionErrorKind::NotKafka(Speaks::Unknown)), "{text}");
            assert!(text.contains("check") && !text.contains("max_response_bytes"), "{text}");
            server.check_fails();
        });
    }
}

#[test]
fn frames_without_sense_are_an_error_with_the_api() {
    for says in [&b"\0\0\0\x04\0\0\0\0"[..], b"\0\0\0\x08\0\0\0\0\0\0\0\0"] {
        on_each_link(&|link| {
            let server = Stranger::saying(says).behind(link);
            let (_, text) = server.fate();
            assert!(text.contains("ApiVersions") && text.contains("check"), "{text}");
            server.check_fails();
        });
    }
}

#[test]
fn a_listener_that_wants_a_login_is_recognised() {
    let cluster = cluster(1);
    // As a SASL listener of Kafka's: versions are told, and whatever else comes before the login ends the connection.
    let _login = [Api::Metadata, Api::InitProducerId].map(|api| cluster.inject(Fault::on(api).cut_before()));
    let (kind, text) = fate(&Link::plain(), &cluster.bootstrap());
    assert!(matches!(kind, ConnectionErrorKind::ClosedUnanswered { .. }), "{text}");
    assert!(text.contains("SASL") && text.contains("plaintext listener"), "{text}");
}

#[test]
fn a_server_that_says_nothing_ends_with_the_connect_timeout() {
    on_each_link(&|link| {
        let server = Stranger::saying(b"").behind(link);
        let (kind, text) = server.fate();
        assert!(matches!(kind, ConnectionErrorKind::ConnectTimeout(after) if after == CONNECT_TIMEOUT), "{text}");
        assert!(text.contains("connect_timeout (500ms)") && text.contains("check the address"), "{text}");
        server.check_fails();
    });
}

#[test]
fn a_server_that_dribbles_ends_with_the_connect_timeout() {
    on_each_link(&|link| {
        // A frame of 64 bytes, of which one comes now and then.
        let server = Stranger::start(|mut stream| {
            let mut own = stream.try_clone().ok()?;
            thread::spawn(move || {
                let bytes = [0, 0, 0, 64].into_iter().chain(std::iter::repeat(0));
                let mut bytes = bytes.take_while(|byte| own.write_all(&[*byte]).is_ok());
                while bytes.next().is_some() {
                    thread::sleep(ms(50));
                }
            });
            let _ = stream.read(&mut [0; 1024]);
            Some(stream)
        });
        let server = server.behind(link);
        let (kind, text) = server.fate();
        assert!(matches!(kind, ConnectionErrorKind::ConnectTimeout(after) if after == CONNECT_TIMEOUT), "{text}");
        server.check_fails();
    });
}

#[test]
fn a_server_that_hangs_up_is_an_error() {
    on_each_link(&|link| {
        let server = Stranger::hanging_up().behind(link);
        let (kind, text) = server.fate();
        assert!(matches!(kind, ConnectionErrorKind::Closed | ConnectionErrorKind::Io(_)), "{text}");
        assert!(text.contains("plaintext or TLS") || text.contains("check the network"), "{text}");
        server.check_fails();
    });
}

#[test]
fn a_port_where_nobody_listens_is_an_error() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (kind, text) = fate(&Link::plain(), &address);
    assert!(matches!(kind, ConnectionErrorKind::Connect(_)), "{text}");
    assert!(text.contains(&address) && text.contains("check that a broker listens there"), "{text}");
    check_fails(&Link::plain(), &address);
}

#[test]
fn a_name_without_an_address_is_an_error() {
    let began = Instant::now();
    assert!(("host.invalid", 9092).to_socket_addrs().is_err());
    // A resolver without a network can be slower than any patience.
    let slow = began.elapsed() > CONNECT_TIMEOUT / 2;
    let (kind, text) = fate(&Link::plain(), "host.invalid:9092");
    assert!(matches!(kind, ConnectionErrorKind::Resolve(_)) || slow, "{text}");
    assert!(text.contains("host.invalid:9092") && (text.contains("check its spelling") || slow), "{text}");
    check_fails(&Link::plain(), "host.invalid:9092");
}

#[test]
fn all_bad_seeds_are_named_and_a_good_one_among_them_is_enough() {
    let (http, ssh) = (Stranger::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Stranger::saying(b"SSH-2.0-x\r\n"));
    let seeds = format!("{},{}", http.address, ssh.address);
    let error = quick(&seeds).build().unwrap().check(LONG).unwrap_err();
    let text = error.to_string();
    for part in [&*http.address.to_string(), &ssh.address.to_string(), "HTTP", "SSH"] {
        assert!(text.contains(part), "{text}");
    }
    let cluster = Cluster::start().unwrap();
    let client = quick(&format!("host.invalid:1,{seeds},{}", cluster.bootstrap())).build().unwrap();
    assert_eq!(client.check(LONG).unwrap().brokers.len(), 1);
    let producer = client.async_producer().build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    assert_eq!(producer.shutdown().unwrap().delivered, 1);
}

#[test]
fn a_dead_broker_is_called_a_few_times_and_the_worker_sleeps() {
    let server = Stranger::hanging_up();
    let client = Client::builder([server.address.to_string()]).build().unwrap();
    let producer = client.async_producer().build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
    // Nothing happens here: that is what is measured.
    thread::sleep(Duration::from_secs(3));
    let calls = server.calls.load(Ordering::Relaxed);
    assert!((3..=7).contains(&calls), "{calls} connections in 3 s");
    assert_eq!(producer.shutdown_within(Duration::ZERO).unwrap().given_up, 1);
}

/// In the clear and encrypted, with a login and without: a server that does not speak Kafka behaves so before it.
fn on_each_link(test: &(dyn Fn(Link) + Sync)) {
    thread::scope(|scope| {
        for link in Link::all() {
            scope.spawn(move || test(link));
        }
    });
}

fn client(link: &Link, address: &str) -> ClientBuilder {
    link.client(quick(address))
}

fn check_fails(link: &Link, address: &str) {
    let began = Instant::now();
    let client = client(link, address).connect_timeout(CONNECT_TIMEOUT).build().unwrap();
    let error = client.check(2 * CONNECT_TIMEOUT).unwrap_err();
    let text = error.to_string();
    let CheckError::Unreachable { errors, .. } = error else { panic!("{text}") };
    assert_eq!(errors.iter().map(|error| &*error.address).collect::<Vec<_>>(), [address], "{text}");
    assert!(text.contains(address), "{text}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// What a message that cannot be delivered to this address fails with.
fn fate(link: &Link, address: &str) -> (ConnectionErrorKind, String) {
    let client = client(link, address).connect_timeout(CONNECT_TIMEOUT).build().unwrap();
    let producer = client.async_producer().delivery_timeout(2 * CONNECT_TIMEOUT).build().unwrap();
    let began = Instant::now();
    let error = producer.produce_with_handle(Message::new("orders", "v").with_tag(1)).unwrap().wait().unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(matches!(error.kind(), DeliveryErrorKind::Timeout { .. }), "{error}");
    assert_eq!((error.persistence(), error.message().tag()), (Persistence::No, 1));
    assert_eq!(&*connection(error.kind()).address, address);
    (connection(error.kind()).kind.clone(), error.to_string())
}

/// A server that is not Kafka.
struct Stranger {
    address: SocketAddr,
    /// How clients come to it, and the port for that.
    link: Link,
    front: Option<Door>,
    calls: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Says this to everyone once they have said something, and then nothing.
    fn saying(what: &[u8]) -> Self {
        let what = what.to_vec();
        Self::start(move |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&what);
            Some(stream)
        })
    }

    fn hanging_up() -> Self {
        Self::start(|_| None)
    }

    fn start(serve: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("an address");
        let (calls, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ended) = (Arc::clone(&calls), Arc::clone(&over));
        let thread = thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                open.extend(serve(stream));
            }
        });
        Self { address, link: Link::plain(), front: None, calls, over, thread: Some(thread) }
    }

    fn behind(mut self, link: Link) -> Self {
        self.front = link.before(self.address);
        self.link = link;
        self
    }

    /// Where clients find it.
    fn seen(&self) -> String {
        self.front.as_ref().map_or(self.address, |front| front.address).to_string()
    }

    fn fate(&self) -> (ConnectionErrorKind, String) {
        fate(&self.link, &self.seen())
    }

    fn check_fails(&self) {
        check_fails(&self.link, &self.seen());
    }

    /// Panics unless `check` says so without waiting, and a message's fate names it.
    fn refused_at_once(&self, is_expected: impl Fn(&ConnectionErrorKind) -> bool, part: &str) {
        let address = self.seen();
        let began = Instant::now();
        let error = client(&self.link, &address).build().unwrap().check(LONG).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let told = error.to_string();
        let CheckError::Unreachable { errors, .. } = error else { panic!("{told}") };
        let (kind, text) = self.fate();
        for (kind, text) in [(&errors[0].kind, told), (&kind, text)] {
            assert!(is_expected(kind), "{text}");
            assert!(text.contains(&address) && text.contains(part) && text.contains("port"), "{text}");
        }
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

/// The system's resolver and a busy machine need a while.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

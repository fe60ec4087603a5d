//! Real sockets on the loopback interface against scripted servers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::*;
use crate::error::Speaks;

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);
const LONG: Duration = Duration::from_secs(10);

/// Fails a test that waits for what never comes.
const PATIENCE: Duration = Duration::from_secs(10);

// -- connecting

#[test]
fn a_request_gets_its_response() {
    let (address, server) = serve(|mut peer| {
        assert_eq!(read_frame(&mut peer), b"ping");
        peer.write_all(&framed(b"pong")).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.send(A, framed(b"ping"));
    assert!(matches!(rig.next(), Event::Wrote { conn: A, started: 1, finished: 1 }));
    assert!(matches!(rig.next(), Event::Response(A, body) if body == b"pong"));
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn what_is_sent_before_the_connection_stands_leaves_with_it() {
    let (address, server) = serve(|mut peer| {
        assert_eq!(read_frame(&mut peer), b"one");
        assert_eq!(read_frame(&mut peer), b"two");
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    rig.send(A, framed(b"one"));
    rig.send(A, framed(b"two"));
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Wrote { conn: A, started: 2, finished: 2 }));
    server.join().unwrap();
}

#[test]
fn a_refused_connection_says_so() {
    let mut rig = Rig::new();
    rig.connect(A, &broker("127.0.0.1", closed_port()));
    let kind = rig.closed(A);
    assert!(
        matches!(&kind, ConnectionErrorKind::Connect(error) if error.kind() == ErrorKind::ConnectionRefused),
        "{kind:?}"
    );
    rig.assert_quiet();
}

#[test]
fn the_next_address_is_tried_when_one_refuses() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, closed_port()));
    let alive = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port));
    let mut rig = Rig::resolving(move |_: &str| Ok(vec![dead, alive]));
    rig.connect(A, &broker("kafka.test", 1));
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn a_broker_that_listens_on_the_second_family_only_is_found() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let families = [SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let mut rig = Rig::resolving(move |_: &str| Ok(families.to_vec()));
    rig.connect(A, &broker("localhost", address.port));
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn the_system_knows_localhost() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let mut rig = Rig { net: Net::new().unwrap(), ..Rig::new() };
    rig.connect(A, &broker("localhost", address.port));
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn only_the_first_address_is_tried_if_asked_so() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, closed_port()));
    let alive = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port));
    let mut rig = Rig::resolving(move |_: &str| Ok(vec![dead, alive]));
    rig.net.connect(A, &broker("kafka.test", 1), LONG, false, Instant::now());
    assert!(matches!(rig.closed(A), ConnectionErrorKind::Connect(_)));
    drop(TcpStream::connect(alive).unwrap());
    server.join().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_swallows_everything_ends_with_the_timeout() {
    let hole = BlackHole::new();
    let mut rig = Rig::new();
    let within = Duration::from_millis(200);
    let begin = Instant::now();
    rig.net.connect(A, &broker("127.0.0.1", hole.address.port()), within, true, begin);
    assert!(matches!(rig.closed(A), ConnectionErrorKind::ConnectTimeout(after) if after == within));
    assert!(begin.elapsed() >= within && begin.elapsed() < 5 * within, "{:?}", begin.elapsed());
    assert!(rig.polls < 5, "{} polls", rig.polls);
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_swallows_everything_leaves_time_for_the_next() {
    let hole = BlackHole::new();
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let addresses = [hole.address, SocketAddr::from((Ipv4Addr::LOCALHOST, address.port))];
    let mut rig = Rig::resolving(move |_: &str| Ok(addresses.to_vec()));
    let within = Duration::from_millis(600);
    let begin = Instant::now();
    rig.net.connect(A, &broker("kafka.test", 1), within, true, begin);
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(begin.elapsed() >= within / 4, "the first address had its time");
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn no_limit_on_time_is_no_overflow() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let mut rig = Rig::new();
    rig.net.connect(A, &address, Duration::MAX, true, Instant::now());
    while rig.events.is_empty() {
        rig.net.poll(Some(Duration::MAX), &mut rig.events).unwrap();
    }
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.net.waker().wake().unwrap();
    rig.net.poll(Some(Duration::MAX), &mut rig.events).unwrap();
    assert!(rig.events.is_empty());
    rig.net.close(A);
    server.join().unwrap();
}

/// Runs itself again in a process that may open few descriptors.
#[test]
#[cfg(target_os = "linux")]
fn without_a_descriptor_left_it_fails_at_once_and_recovers() {
    const CHILD: &str = "OTTLA_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "net::tests::without_a_descriptor_left_it_fails_at_once_and_recovers";
        let status = std::process::Command::new("sh")
            .args(["-c", "ulimit -n 40 && exec \"$0\" --exact \"$1\" --test-threads 1"])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CHILD, "1")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = broker("127.0.0.1", listener.local_addr().unwrap().port());
    let mut rig = Rig::new();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let begin = Instant::now();
    rig.connect(A, &address);
    let kind = rig.closed(A);
    assert!(matches!(&kind, ConnectionErrorKind::Connect(error) if error.raw_os_error() == Some(24)), "{kind:?}");
    assert!(begin.elapsed() < PATIENCE / 2, "it waited before it said so");
    rig.assert_quiet();
    drop(taken);
    rig.connect(B, &address);
    assert!(matches!(rig.next(), Event::Connected(B)));
}

// -- looking up

#[test]
fn a_host_without_an_address_says_so() {
    let mut rig = Rig::resolving(|host: &str| match host {
        "empty.test" => Ok(Vec::new()),
        "panic.test" => panic!("on purpose"),
        _ => Err(io::Error::other("no such host")),
    });
    for host in ["empty.test", "panic.test", "unknown.test"] {
        rig.connect(A, &broker(host, 9092));
        let kind = rig.closed(A);
        assert!(matches!(&kind, ConnectionErrorKind::Resolve(_)), "{host}: {kind:?}");
    }
}

#[test]
fn a_look_up_that_failed_is_done_anew() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let asked = AtomicUsize::new(0);
    let mut rig = Rig::resolving(move |_: &str| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Err(io::Error::other("try again")),
        _ => Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]),
    });
    rig.connect(A, &broker("kafka.test", address.port));
    assert!(matches!(rig.closed(A), ConnectionErrorKind::Resolve(_)));
    rig.connect(B, &broker("kafka.test", address.port));
    assert!(matches!(rig.next(), Event::Connected(B)));
    rig.net.close(B);
    server.join().unwrap();
}

#[test]
fn a_look_up_that_hangs_stops_nobody_else() {
    let (release, held) = held_resolver();
    let (address, server) = serve(|mut peer| {
        peer.write_all(&framed(b"hello")).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::resolving(held);
    let within = Duration::from_millis(150);
    rig.net.connect(A, &broker("hangs.test", 9092), within, true, Instant::now());
    rig.connect(B, &address);
    assert!(matches!(rig.next(), Event::Connected(B)));
    assert!(matches!(rig.next(), Event::Response(B, body) if body == b"hello"));
    assert!(matches!(rig.closed(A), ConnectionErrorKind::ConnectTimeout(after) if after == within));
    let begin = Instant::now();
    drop(rig);
    assert!(begin.elapsed() < Duration::from_millis(500), "dropping waited for the look-up");
    drop(release);
    server.join().unwrap();
}

#[test]
fn a_look_up_that_comes_too_late_changes_nothing() {
    let (release, held) = held_resolver();
    let mut rig = Rig::resolving(held);
    rig.connect(A, &broker("late.test", 9092));
    rig.net.close(A);
    release.send(()).unwrap();
    // The answer wakes the poll, and nobody wants it.
    rig.poll(PATIENCE);
    rig.assert_quiet();
}

#[test]
fn a_host_is_looked_up_once_for_all_who_ask_meanwhile() {
    let (release, held) = held_resolver();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut rig = Rig::resolving(move |host: &str| {
        count.fetch_add(1, Ordering::Relaxed);
        held(host)
    });
    let (first, first_server) = serve(|mut peer| wait_for_end(&mut peer));
    let (second, second_server) = serve(|mut peer| wait_for_end(&mut peer));
    rig.connect(A, &broker("kafka.test", first.port));
    rig.connect(B, &broker("kafka.test", second.port));
    release.send(()).unwrap();
    for _ in 0..2 {
        assert!(matches!(rig.next(), Event::Connected(_)));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    rig.net.close_all();
    first_server.join().unwrap();
    second_server.join().unwrap();
}

#[test]
fn few_look_ups_run_at_once_and_all_have_their_turn() {
    let (release, held) = held_resolver();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now_running, most_running) = (Arc::clone(&running), Arc::clone(&most));
    let mut rig = Rig::resolving(move |host: &str| {
        most_running.fetch_max(now_running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _ = held(host);
        now_running.fetch_sub(1, Ordering::SeqCst);
        Err(io::Error::other("none"))
    });
    let hosts = 10;
    for host in 0..hosts {
        rig.connect(ConnId(host), &broker(&format!("{host}.test"), 9092));
    }
    for _ in 0..hosts {
        release.send(()).unwrap();
    }
    for _ in 0..hosts {
        assert!(matches!(rig.next(), Event::Closed(_, ConnectionErrorKind::Resolve(_))));
    }
    assert!((1..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}

// -- reading

#[test]
fn other_protocols_are_named() {
    let banners: [(&[u8], Speaks); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Speaks::Http),
        (&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46], Speaks::Tls),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Speaks::Ssh),
    ];
    for (banner, speaks) in banners {
        let (address, server) = serve(move |mut peer| peer.write_all(banner).unwrap());
        let mut rig = Rig::new();
        rig.connect(A, &address);
        let kind = rig.closed(A);
        assert!(matches!(kind, ConnectionErrorKind::NotKafka(found) if found == speaks), "{kind:?}");
        server.join().unwrap();
    }
}

#[test]
fn a_response_above_the_limit_closes_the_connection() {
    let (address, server) = serve(|mut peer| {
        peer.write_all(&framed(&[1; 100])).unwrap();
        peer.write_all(&framed(&[2; 101])).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    rig.net.limit_responses(A, 100);
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Response(A, body) if body == [1; 100]));
    assert!(matches!(rig.closed(A), ConnectionErrorKind::ResponseTooLarge { size: 101, limit: 100 }));
    server.join().unwrap();
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let (address, server) = serve(|mut peer| {
        peer.set_nodelay(true).unwrap();
        for byte in framed(b"drop by drop").chunks(1) {
            peer.write_all(byte).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Response(A, body) if body == b"drop by drop"));
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn what_was_whole_before_the_end_is_delivered() {
    let (address, server) = serve(|mut peer| {
        let mut bytes = framed(b"whole");
        bytes.extend_from_slice(&framed(b"cut off")[..8]);
        peer.write_all(&bytes).unwrap();
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Response(A, body) if body == b"whole"));
    assert!(matches!(rig.closed(A), ConnectionErrorKind::Closed));
    rig.assert_quiet();
    server.join().unwrap();
}

#[test]
fn an_idle_connection_that_the_broker_closes_is_noticed() {
    let (tell, told) = mpsc::channel();
    let (address, server) = serve(move |_peer| told.recv().unwrap());
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.assert_quiet();
    tell.send(()).unwrap();
    assert!(matches!(rig.closed(A), ConnectionErrorKind::Closed));
    server.join().unwrap();
}

#[test]
fn what_came_before_a_reset_is_delivered() {
    let (address, server) = serve(|mut peer| {
        peer.peek(&mut [0]).unwrap();
        peer.write_all(&framed(b"last")).unwrap();
        // Closing with unread bytes resets the connection.
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    rig.send(A, framed(b"never read"));
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Wrote { conn: A, started: 1, finished: 1 }));
    server.join().unwrap();
    assert!(matches!(rig.next(), Event::Response(A, body) if body == b"last"));
    assert!(matches!(rig.closed(A), ConnectionErrorKind::Io(_)));
}

#[test]
fn what_the_peer_said_is_heard_when_a_write_fails() {
    for (said, is_http) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], true), (&framed(b"hello"), false)] {
        let said = said.to_vec();
        let (address, server) = serve(move |mut peer| {
            peer.peek(&mut [0]).unwrap();
            peer.write_all(&said).unwrap();
        });
        let mut rig = Rig::new();
        rig.connect(A, &address);
        rig.send(A, framed(b"never read"));
        assert!(matches!(rig.next(), Event::Connected(A)));
        assert!(matches!(rig.next(), Event::Wrote { .. }));
        server.join().unwrap();
        // Without a poll between, so that the write is the first to learn of it.
        rig.send(A, framed(b"fails"));
        if !is_http {
            assert!(matches!(rig.next(), Event::Response(A, body) if body == b"hello"));
        }
        let kind = rig.closed(A);
        let expected = match &kind {
            ConnectionErrorKind::NotKafka(Speaks::Http) => is_http,
            ConnectionErrorKind::Io(_) => !is_http,
            _ => false,
        };
        assert!(expected, "{kind:?}");
    }
}

#[test]
fn a_peer_that_sends_without_end_does_not_starve_others() {
    let (stop, stopped) = mpsc::channel::<()>();
    let (flood, flood_server) = serve(move |mut peer| {
        let bytes = framed(&[0; 100_000]);
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) && peer.write_all(&bytes).is_ok() {}
    });
    let (echo, echo_server) = serve(|mut peer| {
        for _ in 0..20 {
            let body = read_frame(&mut peer);
            peer.write_all(&framed(&body)).unwrap();
        }
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &flood);
    rig.connect(B, &echo);
    while !matches!(rig.next(), Event::Response(A, _)) {}
    for round in 0..20_u8 {
        rig.send(B, framed(&[round]));
        loop {
            match rig.next() {
                Event::Response(B, body) => {
                    assert_eq!(body, [round]);
                    break;
                }
                Event::Closed(conn, kind) => panic!("{conn:?} closed: {kind:?}"),
                _ => {}
            }
        }
    }
    drop(stop);
    rig.net.close_all();
    flood_server.join().unwrap();
    echo_server.join().unwrap();
}

#[test]
fn what_a_turn_leaves_is_read_in_the_next_without_new_arrivals() {
    let responses = 50;
    let (sent, all_sent) = mpsc::channel();
    let (address, server) = serve(move |mut peer| {
        peer.write_all(&framed(&[5; 96]).repeat(responses)).unwrap();
        sent.send(()).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    // A turn is 16 reads: ten of these responses.
    rig.net.scratch = vec![0; 64].into_boxed_slice();
    rig.connect(A, &address);
    // The system accepts for the server, so all has arrived before the first poll.
    all_sent.recv().unwrap();
    let mut turns = 0;
    let mut seen = 0;
    while seen < responses {
        let begin = Instant::now();
        rig.poll(PATIENCE);
        assert!(begin.elapsed() < PATIENCE / 2, "it waited for arrivals");
        let events = std::mem::take(&mut rig.events);
        let read = events.iter().filter(|event| matches!(event, Event::Response(A, body) if body == &[5; 96])).count();
        assert!(read <= 11, "{read} responses in one turn");
        seen += read;
        turns += 1;
    }
    assert!(turns >= 5, "{turns} turns");
    rig.net.close(A);
    server.join().unwrap();
}

// -- writing

#[test]
fn much_is_written_by_and_by_and_arrives_intact() {
    let (own, shared) = (pattern(1_000_003), Arc::new(pattern(7_000_001)));
    let splices = vec![(17, Arc::clone(&shared)), (999_999, Arc::clone(&shared))];
    let expected = Frame::with_splices(own.clone(), splices.clone()).to_vec();
    let frames = 5;
    let length = expected.len();
    assert!(frames * length > 64_000_000);
    let (address, server) = serve(move |mut peer| {
        let mut seen = vec![0; length];
        for frame in 0..frames {
            peer.read_exact(&mut seen).unwrap();
            assert!(seen == expected, "frame {frame} differs");
        }
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    for _ in 0..frames {
        rig.net.send(A, Frame::with_splices(own.clone(), splices.clone()), &mut rig.events);
    }
    let (mut all_started, mut all_finished, mut writes) = (0, 0, 0);
    while all_finished < frames {
        match rig.next() {
            Event::Wrote { conn: A, started, finished } => {
                all_started += started;
                all_finished += finished;
                writes += 1;
                assert!(all_started >= all_finished && all_started <= all_finished + 1);
            }
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(all_started, frames);
    assert!(writes > 1, "it did not fit at once");
    server.join().unwrap();
}

#[test]
fn a_frame_of_very_many_pieces_arrives_intact() {
    let piece = Arc::new(b"piece".to_vec());
    let splices: Vec<_> = (0..5000).map(|at| (at, Arc::clone(&piece))).collect();
    let frame = Frame::with_splices(pattern(5000), splices);
    let expected = frame.to_vec();
    let (address, server) = serve(move |mut peer| {
        let mut seen = vec![0; expected.len()];
        peer.read_exact(&mut seen).unwrap();
        assert!(seen == expected);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    rig.net.send(A, frame, &mut rig.events);
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Wrote { conn: A, started: 1, finished: 1 }));
    server.join().unwrap();
}

#[test]
fn a_peer_that_reads_nothing_stops_the_writes_and_costs_nothing() {
    let (tell, told) = mpsc::channel::<()>();
    let (address, server) = serve(move |_peer| assert!(told.recv().is_err()));
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.send(A, vec![0; 64_000_000]);
    assert!(matches!(rig.next(), Event::Wrote { conn: A, started: 1, finished: 0 }));
    // The peer's system may take a little more into its buffers.
    while {
        rig.poll(Duration::from_millis(100));
        !std::mem::take(&mut rig.events).is_empty()
    } {}
    rig.assert_quiet();
    rig.net.close(A);
    drop(tell);
    server.join().unwrap();
}

// -- ending

#[test]
fn nothing_is_heard_of_a_connection_after_its_close() {
    let (address, server) = serve(|mut peer| {
        peer.write_all(&framed(b"unheard")).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    rig.net.close(A);
    rig.connect(A, &broker("127.0.0.1", closed_port()));
    rig.net.close_all();
    rig.assert_quiet();
    // A first connection that was never accepted would leave the server waiting.
    drop(TcpStream::connect(("127.0.0.1", address.port)));
    server.join().unwrap();
}

#[test]
fn an_unknown_connection_is_ignored() {
    let mut rig = Rig::new();
    rig.send(A, framed(b"to nobody"));
    rig.net.limit_responses(A, 1);
    rig.net.close(A);
    rig.assert_quiet();
}

#[test]
fn the_waker_ends_a_wait_from_another_thread() {
    let mut rig = Rig::new();
    let waker = rig.net.waker();
    let begin = Instant::now();
    let other = thread::spawn(move || waker.wake().unwrap());
    rig.poll(PATIENCE);
    assert!(begin.elapsed() < PATIENCE / 2);
    other.join().unwrap();
}

// -- tools

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

    /// Why this connection ended; passes over what happened before.
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
    let released = parking_lot::Mutex::new(released);
    let held = move |_: &str| match released.lock().recv() {
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

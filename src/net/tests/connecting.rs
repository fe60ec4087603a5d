//! Connections that come about, or do not.

use super::*;

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
        let name = "net::tests::connecting::without_a_descriptor_left_it_fails_at_once_and_recovers";
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

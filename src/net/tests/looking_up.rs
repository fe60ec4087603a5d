//! Host names.

use super::*;

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

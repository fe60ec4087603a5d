//! Responses, in whatever pieces they come.

use super::*;
use crate::error::Speaks;

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
    assert!(matches!(rig.closed(A), ConnectionErrorKind::BadSize { size: 101, limit: 100, .. }));
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
fn an_end_that_came_before_the_connection_was_looked_at_is_seen() {
    let (said, all_said) = mpsc::channel();
    let (address, server) = serve(move |mut peer| {
        peer.write_all(&framed(b"it all")).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        said.send(()).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    // The system tells of the connection, the bytes and the end in one: no other word of the end follows.
    all_said.recv().unwrap();
    assert!(matches!(rig.next(), Event::Connected(A)));
    assert!(matches!(rig.next(), Event::Response(A, body) if body == b"it all"));
    assert!(matches!(rig.closed(A), ConnectionErrorKind::Closed));
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
        rig.send(B, framed(&[round; 4]));
        loop {
            match rig.next() {
                Event::Response(B, body) => {
                    assert_eq!(body, [round; 4]);
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

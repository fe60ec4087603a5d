//! Requests, and peers that take them slowly.

use super::*;

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

/// The signal would end a program that has not told the system otherwise.
#[cfg(unix)]
#[test]
fn a_write_to_a_connection_that_the_peer_has_closed_raises_no_signal() {
    let raised = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&raised)).unwrap();
    let (address, server) = serve(|mut peer| assert_eq!(read_frame(&mut peer), b"last"));
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.send(A, framed(b"last"));
    server.join().unwrap();
    // Without a read in between, which would find the end.
    let broken = loop {
        rig.send(A, framed(b"unheard"));
        match rig.events.pop() {
            Some(Event::Closed(A, ConnectionErrorKind::Io(error))) => break error.kind(),
            _ => thread::yield_now(),
        }
    };
    assert_eq!(broken, ErrorKind::BrokenPipe);
    assert!(!raised.load(Ordering::SeqCst));
}

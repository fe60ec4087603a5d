//! Looking at the sockets without sleeping.

use super::*;

#[test]
fn a_response_is_seen_without_sleeping() {
    let (go, gone) = mpsc::channel::<()>();
    let (address, server) = serve(move |mut peer| {
        gone.recv().unwrap();
        peer.write_all(&framed(b"here")).unwrap();
        wait_for_end(&mut peer);
    });
    let mut rig = Rig::new();
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    // Reads the event that told the connection as writable, if there was one.
    while rig.net.watch(Duration::ZERO, &mut rig.events).unwrap() {}
    go.send(()).unwrap();
    let begin = Instant::now();
    while rig.events.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "nothing happened");
        rig.net.watch(PATIENCE, &mut rig.events).unwrap();
    }
    assert!(matches!(rig.next(), Event::Response(A, body) if body == b"here"));
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn it_ends_when_its_time_is_up_or_the_waker_is_used() {
    let mut rig = Rig::new();
    let (begin, within) = (Instant::now(), Duration::from_millis(20));
    assert!(!rig.net.watch(within, &mut rig.events).unwrap());
    assert!(begin.elapsed() >= within);
    rig.net.waker().wake().unwrap();
    assert!(rig.net.watch(PATIENCE, &mut rig.events).unwrap());
    assert!(begin.elapsed() < PATIENCE && rig.events.is_empty());
    assert!(!rig.net.watch(Duration::ZERO, &mut rig.events).unwrap(), "once is enough");
}

//! Closed connections stay silent.

use super::*;

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

//! Servers that abuse the handshake of TLS: whatever they send, and however long, it ends with an error of its own, in
//! time, and takes little memory.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use ottla::config::BrokerAddress;
use ottla::net::{Event, Net};
use ottla::testing::{BrokerTls, Cluster};
use ottla::wire::frame::ConnId;
use ottla::{ConnectionErrorKind, TlsFault};
use rustls::{ClientConfig, RootCertStore};

use crate::certificates::{self, Authority, Leaf};
use crate::common::*;

/// How a connection to this address ends, the most memory that it takes, and how long that lasts.
fn outcome(port: u16, connect_timeout: Duration) -> (ConnectionErrorKind, u64, Duration) {
    let config = ClientConfig::builder_with_provider(Arc::new(certificates::provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(RootCertStore::empty());
    let mut net = Net::new().unwrap().encrypted(Some(Arc::new(config.with_no_client_auth())));
    let (mut events, began) = (Vec::new(), Instant::now());
    let address: BrokerAddress = format!("127.0.0.1:{port}").parse().unwrap();
    let memory = measure(|| {
        net.connect(ConnId(1), &address, connect_timeout, true, began);
        while events.is_empty() {
            net.poll(Some(LONG), &mut events).unwrap();
        }
    });
    match events.pop() {
        Some(Event::Closed(_, kind)) => (kind, memory.bytes_max, began.elapsed()),
        other => panic!("{other:?}"),
    }
}

/// A server for one connection that says this for as long as somebody listens.
fn saying(mut say: impl FnMut(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        while say(&mut peer).is_ok() {}
    });
    port
}

/// A record of TLS.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3][..], &(body.len() as u16).to_be_bytes(), body].concat()
}

#[test]
fn a_handshake_without_end_takes_little_memory_and_ends() {
    let (change_cipher_spec, alert, handshake) = (20, 21, 22);
    // How it begins, and what comes again and again.
    let hello = [2, 0xff, 0xff, 0xff];
    for (what, first, again) in [
        ("a hello of 16 MiB", record(handshake, &hello), record(handshake, &[7; 16_000])),
        ("a hello of 64 KiB, byte by byte", record(handshake, &[2, 0, 0xff, 0xff]), record(handshake, &[7])),
        ("handshakes of nothing", Vec::new(), record(handshake, &[])),
        ("requests for a hello", Vec::new(), record(handshake, &[0; 4])),
        ("changes of the cipher", Vec::new(), record(change_cipher_spec, &[1])),
        ("warnings", Vec::new(), record(alert, &[1, 90])),
        ("zeros", Vec::new(), vec![0; 4096]),
    ] {
        let mut first = Some(first);
        let port = saying(move |peer| peer.write_all(&first.take().unwrap_or_else(|| again.repeat(10))));
        let (kind, memory, took) = outcome(port, LONG);
        assert!(matches!(kind, ConnectionErrorKind::Tls(_) | ConnectionErrorKind::TlsRefused { .. }), "{what}: {kind}");
        assert!(memory < 512 * 1024, "{what}: {memory} bytes");
        assert!(took < LONG / 2, "{what}: {took:?}");
    }
}

#[test]
fn a_chain_of_certificates_that_is_too_long_is_refused() {
    let identity = Authority::new("root").issue(&Leaf::default());
    let cluster = Cluster::builder().tls(BrokerTls::new(identity.certificates.repeat(1_000), &identity.key));
    let cluster = cluster.start().unwrap();
    let port = cluster.bootstrap().rsplit(':').next().unwrap().parse().unwrap();
    let (kind, memory, _) = outcome(port, LONG);
    assert!(matches!(kind, ConnectionErrorKind::Tls(TlsFault::Protocol(_))), "{kind}");
    assert!(memory < 512 * 1024, "{memory} bytes");
}

#[test]
fn a_handshake_that_dribbles_ends_with_connect_timeout() {
    // The beginning of a record that has a hello of 16 KiB.
    let mut bytes = [22, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc].into_iter().chain(std::iter::repeat(7));
    let port = saying(move |peer| {
        thread::sleep(ms(20));
        peer.write_all(&[bytes.next().expect("it has no end")])
    });
    let (kind, _, took) = outcome(port, ms(300));
    assert!(matches!(kind, ConnectionErrorKind::ConnectTimeout(after) if after == ms(300)), "{kind}");
    assert!((ms(300)..ms(1300)).contains(&took), "{took:?}");
}

//! Encrypted connections, against rustls' server over real sockets.

use std::net::IpAddr;
use std::sync::Mutex;

use proptest::prelude::*;
use rustls::ServerConnection;
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::certificates::{Authority, Identity, Leaf, provider};
use crate::config::{Encryption, Tls};
use crate::error::{ConfigError, Speaks, TlsFault};

fn encryption(tls: &Tls) -> Option<Encryption> {
    let mut problems = Vec::new();
    let made = tls.encryption(&mut problems);
    assert_eq!(ConfigError::unless_empty(problems), Ok(()));
    made
}

fn trusting(authority: &Authority) -> Tls {
    Tls::new().ssl_ca_cert(authority.pem())
}

impl Rig {
    fn with_tls(tls: &Tls) -> Self {
        let rig = Self::resolving(|_: &str| Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]));
        Self { net: rig.net.encrypted(encryption(tls)), ..rig }
    }
}

/// rustls' side of a broker.
fn server_config(
    identity: &Identity,
    client_ca: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificates = CertificateDer::pem_slice_iter(identity.certificates.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let builder =
        rustls::ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(versions).unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()));
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    // Unlike `with_single_cert` it does not look at the certificate, which may be a bad one.
    let key = provider().key_provider.load_private_key(key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(certificates, key);
    Arc::new(builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified))))
}

const BOTH: &[&rustls::SupportedProtocolVersion] = rustls::ALL_VERSIONS;

/// A broker with this certificate that answers each frame with itself, and the bytes that it was sent within TLS.
fn echo(config: Arc<rustls::ServerConfig>) -> (BrokerAddress, JoinHandle<()>, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heard);
    let (address, server) = serve(move |peer| {
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), peer);
        let mut bytes = vec![0; 100_000];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(read) => {
                    seen.lock().unwrap().extend_from_slice(&bytes[..read]);
                    if stream.write_all(&bytes[..read]).is_err() {
                        return;
                    }
                }
            }
        }
    });
    (address, server, heard)
}

fn ask_and_get(rig: &mut Rig, address: &BrokerAddress, request: &[u8]) {
    rig.connect(A, address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.send(A, framed(request));
    let mut started = false;
    let mut finished = false;
    loop {
        match rig.next() {
            Event::Wrote { started: s, finished: f, .. } => {
                started |= s == 1;
                finished |= f == 1;
            }
            Event::Response(A, body) => {
                assert_eq!(body, request);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(started && finished);
}

#[test]
fn a_request_gets_its_response_in_both_versions_of_tls() {
    let authority = Authority::new("root");
    let identity = authority.issue(&Leaf::default());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (address, server, heard) = echo(server_config(&identity, None, &[version]));
        let mut rig = Rig::with_tls(&trusting(&authority));
        let request = pattern(300_000);
        ask_and_get(&mut rig, &address, &request);
        rig.net.close(A);
        server.join().unwrap();
        assert_eq!(*heard.lock().unwrap(), framed(&request));
    }
}

#[test]
fn the_end_is_said() {
    let ends: [fn(Rig); 3] = [|mut rig| rig.net.close(A), |mut rig| rig.net.close_all(), drop];
    for end in ends {
        let authority = Authority::new("root");
        let config = server_config(&authority.issue(&Leaf::default()), None, BOTH);
        let (address, server) = serve(move |peer| {
            let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), peer);
            // Without close_notify this is an error.
            assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
        });
        let mut rig = Rig::with_tls(&trusting(&authority));
        rig.connect(A, &address);
        assert!(matches!(rig.next(), Event::Connected(A)));
        end(rig);
        server.join().unwrap();
    }
}

#[test]
fn a_name_is_verified_in_every_form_of_an_address() {
    let authority = Authority::new("root");
    let identity = authority.issue(&Leaf { dns: &["localhost", "kafka-1.test"], ..Leaf::default() });
    for host in ["localhost", "kafka-1.test", "kafka-1.test.", "KAFKA-1.test", "127.0.0.1"] {
        let (address, server, _) = echo(server_config(&identity, None, BOTH));
        let mut rig = Rig::with_tls(&trusting(&authority));
        ask_and_get(&mut rig, &broker(host, address.port), b"ping");
        rig.net.close(A);
        server.join().unwrap();
    }
}

/// The reason why a broker with this certificate is refused; nothing reaches it within TLS.
fn refused(identity: &Identity, tls: &Tls, host: &str) -> TlsFault {
    refused_by(server_config(identity, None, BOTH), tls, host)
}

fn refused_by(config: Arc<rustls::ServerConfig>, tls: &Tls, host: &str) -> TlsFault {
    let (address, server, heard) = echo(config);
    let mut rig = Rig::with_tls(tls);
    rig.connect(A, &broker(host, address.port));
    rig.send(A, framed(b"a secret"));
    let fault = match rig.closed(A) {
        ConnectionErrorKind::Tls(fault) => fault,
        other => panic!("{other:?}"),
    };
    server.join().unwrap();
    assert!(heard.lock().unwrap().is_empty(), "bytes leaked");
    fault
}

#[test]
fn each_bad_certificate_is_refused_with_its_own_reason_before_any_request() {
    let authority = Authority::new("root");
    let between = authority.below("between");
    let tls = trusting(&authority);
    let wrong = |presented: &str| TlsFault::WrongName { presented: presented.into() };
    let good = Leaf::default();
    let elsewhere = [IpAddr::from([10, 0, 0, 1])];
    for (identity, host, fault) in [
        (authority.issue(&Leaf { to: "210101", ..good.clone() }), "localhost", TlsFault::Expired),
        (authority.issue(&Leaf { from: "480101", ..good.clone() }), "localhost", TlsFault::NotValidYet),
        (Identity::self_signed(&good), "localhost", TlsFault::SelfSigned),
        (Authority::new("another").issue(&good), "localhost", TlsFault::UnknownIssuer),
        (between.issue(&good).alone(), "localhost", TlsFault::UnknownIssuer),
        (authority.issue(&Leaf { ips: &[], ..good.clone() }), "other.test", wrong("localhost")),
        (authority.issue(&Leaf { ips: &[], ..good.clone() }), "127.0.0.1", wrong("localhost")),
        (authority.issue(&Leaf { dns: &[], ips: &elsewhere, ..good.clone() }), "127.0.0.1", wrong("10.0.0.1")),
        (authority.issue(&Leaf { dns: &["*.test"], ips: &[], ..good.clone() }), "a.b.test", wrong("*.test")),
        (authority.issue(&Leaf { dns: &[], ips: &[], ..good.clone() }), "localhost", TlsFault::NoName),
        (authority.issue(&Leaf { for_servers: false, ..good.clone() }), "localhost", TlsFault::NotForServers),
        (authority.issue(&Leaf { is_ca: true, ..good.clone() }), "localhost", TlsFault::CaUsedAsEndEntity),
        (authority.issue(&Leaf { version_1: true, ..good.clone() }), "localhost", TlsFault::X509V1),
        (authority.issue(&Leaf { is_forged: true, ..good.clone() }), "localhost", TlsFault::BadSignature),
    ] {
        assert_eq!(refused(&identity, &tls, host), fault);
    }
    assert_eq!(refused(&authority.issue(&good), &tls, "b\u{fc}cher.test"), TlsFault::HostName);
    let (address, server, _) = echo(server_config(&between.issue(&good), None, BOTH));
    let mut rig = Rig::with_tls(&tls);
    ask_and_get(&mut rig, &address, b"with the one between");
    rig.net.close(A);
    server.join().unwrap();
}

/// Signs anything with the same bytes, as if by RSA.
#[derive(Debug)]
struct FakeRsa;

impl rustls::sign::SigningKey for FakeRsa {
    fn choose_scheme(&self, _: &[rustls::SignatureScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        rustls::SignatureAlgorithm::RSA
    }
}

impl rustls::sign::Signer for FakeRsa {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![1; 256])
    }

    fn scheme(&self) -> rustls::SignatureScheme {
        rustls::SignatureScheme::RSA_PSS_SHA256
    }
}

#[test]
fn a_key_that_is_too_short_is_told_from_a_wrong_signature() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let authority = Authority::new("root");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (rsa_bits, fault) in [
            (1024, TlsFault::ShortKey),
            (2040, TlsFault::ShortKey),
            (2048, TlsFault::BadSignature),
            (4096, TlsFault::BadSignature),
        ] {
            let identity = authority.issue(&Leaf { rsa_bits, ..Leaf::default() });
            let mut config = Arc::unwrap_or_clone(server_config(&identity, None, &[version]));
            let certificate = CertificateDer::from_pem_slice(identity.certificates.as_bytes()).unwrap();
            let certified = rustls::sign::CertifiedKey::new(vec![certificate], Arc::new(FakeRsa));
            config.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
            assert_eq!(refused_by(Arc::new(config), &trusting(&authority), "localhost"), fault, "{rsa_bits} bits");
        }
    }
}

#[test]
fn what_is_not_verified_is_taken_only_if_asked_for() {
    let authority = Authority::new("root");
    let other_name = authority.issue(&Leaf { dns: &["other.test"], ips: &[], ..Leaf::default() });
    let expired = authority.issue(&Leaf { to: "210101", ..Leaf::default() });
    let nameless = trusting(&authority).ssl_verify_hostname(false);
    assert_eq!(refused(&expired, &nameless, "localhost"), TlsFault::Expired);
    for (identity, tls) in [(&other_name, nameless), (&expired, Tls::new().dangerous_accept_any_certificate())] {
        let (address, server, _) = echo(server_config(identity, None, BOTH));
        let mut rig = Rig::with_tls(&tls);
        ask_and_get(&mut rig, &address, b"ping");
        rig.net.close(A);
        server.join().unwrap();
    }
}

#[test]
fn a_client_without_a_certificate_is_told_by_the_alert() {
    let authority = Authority::new("root");
    let identity = authority.issue(&Leaf::default());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = server_config(&identity, Some(&authority), &[version]);
        let (address, server, heard) = echo(config);
        let mut rig = Rig::with_tls(&trusting(&authority));
        rig.connect(A, &address);
        rig.send(A, framed(b"ping"));
        let kind = rig.closed(A);
        let refused =
            matches!(&kind, ConnectionErrorKind::TlsRefused { alert } if matches!(alert.code(), 116 | 40 | 42));
        assert!(refused, "{kind:?}");
        server.join().unwrap();
        assert!(heard.lock().unwrap().is_empty());
    }
    let client = authority.issue(&Leaf { for_servers: false, ..Leaf::default() });
    let tls = trusting(&authority).ssl_client_cert(&client.certificates).ssl_client_cert_key(&client.key);
    let (address, server, _) = echo(server_config(&identity, Some(&authority), BOTH));
    let mut rig = Rig::with_tls(&tls);
    ask_and_get(&mut rig, &address, b"with a certificate");
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn what_does_not_speak_tls_is_told_apart() {
    type Script = fn(TcpStream);
    type Fits = fn(&ConnectionErrorKind) -> bool;
    let tls = trusting(&Authority::new("root"));
    let cases: [(Script, Fits); 7] = [
        // As a plaintext listener of Kafka.
        (drop, |kind| matches!(kind, ConnectionErrorKind::Tls(TlsFault::ClosedAtOnce))),
        (
            |mut peer| {
                peer.read_exact(&mut [0; 9]).unwrap();
            },
            |kind| matches!(kind, ConnectionErrorKind::Tls(TlsFault::ClosedAtOnce)),
        ),
        (
            |mut peer| peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap(),
            |kind| matches!(kind, ConnectionErrorKind::NotKafka(Speaks::Http)),
        ),
        (
            |mut peer| peer.write_all(&framed(b"not TLS")).unwrap(),
            |kind| matches!(kind, ConnectionErrorKind::Tls(TlsFault::NotTls)),
        ),
        // An alert, as of a listener that takes no version of ours.
        (
            |mut peer| peer.write_all(&[0x15, 3, 3, 0, 2, 2, 70]).unwrap(),
            |kind| matches!(kind, ConnectionErrorKind::TlsRefused { alert } if alert.code() == 70),
        ),
        // A ServerHello of TLS 1.1.
        (
            |mut peer| {
                peer.write_all(&[&[0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat())
                    .unwrap();
            },
            |kind| matches!(kind, ConnectionErrorKind::Tls(TlsFault::Version)),
        ),
        // The beginning of a handshake, and the end.
        (
            |mut peer| peer.write_all(&[0x16, 3, 3, 0, 90, 2]).unwrap(),
            |kind| matches!(kind, ConnectionErrorKind::Tls(TlsFault::ClosedInHandshake)),
        ),
    ];
    for (number, (script, fits)) in cases.into_iter().enumerate() {
        let (address, server) = serve(script);
        let mut rig = Rig::with_tls(&tls);
        rig.connect(A, &address);
        let kind = rig.closed(A);
        assert!(fits(&kind), "case {number}: {kind:?}");
        server.join().unwrap();
    }
}

#[test]
fn a_handshake_that_stalls_ends_with_connect_timeout() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let mut rig = Rig::with_tls(&trusting(&Authority::new("root")));
    let within = Duration::from_millis(200);
    let begin = Instant::now();
    rig.net.connect(A, &address, within, true, begin);
    let kind = rig.closed(A);
    assert!(matches!(kind, ConnectionErrorKind::ConnectTimeout(after) if after == within), "{kind:?}");
    assert!(begin.elapsed() >= within && begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    server.join().unwrap();
}

#[test]
fn the_handshake_does_not_spin() {
    let (address, server) = serve(|mut peer| wait_for_end(&mut peer));
    let mut rig = Rig::with_tls(&trusting(&Authority::new("root")));
    rig.connect(A, &address);
    rig.poll(Duration::from_millis(50));
    for _ in 0..3 {
        rig.poll(Duration::from_millis(1));
    }
    rig.assert_quiet();
    rig.net.close(A);
    server.join().unwrap();
}

/// A proxy in front of a broker that passes on so many bytes to the client, one at a time, and then ends the connection.
fn cut_after(broker: &BrokerAddress, bytes: usize) -> (BrokerAddress, JoinHandle<usize>) {
    let upstream = (&*broker.host, broker.port);
    let mut up = TcpStream::connect(upstream).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = super::broker("127.0.0.1", listener.local_addr().unwrap().port());
    let proxy = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        client.set_nodelay(true).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), up.try_clone().unwrap());
        let requests = thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
        });
        let mut passed = 0;
        let mut byte = [0];
        while passed < bytes && up.read(&mut byte).is_ok_and(|read| read == 1) && client.write_all(&byte).is_ok() {
            passed += 1;
        }
        // Both ways: the threads on the other side end, too.
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = up.shutdown(std::net::Shutdown::Both);
        requests.join().unwrap();
        passed
    });
    (address, proxy)
}

#[test]
fn a_handshake_that_is_cut_at_any_byte_ends_and_says_so() {
    let authority = Authority::new("root");
    let identity = authority.issue(&Leaf::default());
    let tls = trusting(&authority);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = server_config(&identity, None, &[version]);
        let mut connected_after = None;
        for bytes in (0..).step_by(7) {
            let (behind, server, heard) = echo(Arc::clone(&config));
            let (address, proxy) = cut_after(&behind, bytes);
            let mut rig = Rig::with_tls(&tls);
            rig.connect(A, &address);
            rig.send(A, framed(b"ping"));
            let mut answered = false;
            let mut connected = false;
            let kind = loop {
                match rig.next() {
                    Event::Closed(_, kind) => break Some(kind),
                    Event::Connected(_) => connected = true,
                    Event::Response(_, body) => {
                        assert_eq!(body, b"ping");
                        answered = true;
                        rig.net.close(A);
                        break None;
                    }
                    Event::Wrote { .. } => assert!(connected, "nothing leaves before the handshake is done"),
                }
            };
            drop(rig);
            proxy.join().unwrap();
            server.join().unwrap();
            match kind {
                None => assert!(answered),
                Some(_) if connected => {
                    connected_after.get_or_insert(bytes);
                }
                Some(ConnectionErrorKind::Tls(fault)) => {
                    let cut = if bytes == 0 { TlsFault::ClosedAtOnce } else { TlsFault::ClosedInHandshake };
                    assert_eq!(fault, cut, "after {bytes} bytes");
                    assert!(heard.lock().unwrap().is_empty());
                }
                Some(other) => panic!("after {bytes} bytes: {other:?}"),
            }
            if answered {
                break;
            }
        }
        assert!(connected_after.is_some(), "some cuts are behind the handshake");
    }
}

/// A broker that takes `piece` bytes at a time, and tells how many whole frames it has.
fn slow(config: Arc<rustls::ServerConfig>, piece: usize, total: usize) -> (BrokerAddress, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = broker("127.0.0.1", listener.local_addr().unwrap().port());
    let server = thread::spawn(move || {
        let (peer, _) = listener.accept().unwrap();
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), peer);
        let mut all = Vec::new();
        let mut bytes = vec![0; piece];
        while all.len() < total {
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(read) => all.extend_from_slice(&bytes[..read]),
            }
        }
        all
    });
    (address, server)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// However small the socket's buffers, every frame starts and finishes once, in order, and not before it could.
    #[test]
    fn every_frame_starts_and_finishes_once(
        sizes in proptest::collection::vec(prop_oneof![0_usize..40, 10_000..40_000_usize, 200_000..600_000_usize], 1..12),
        piece in prop_oneof![Just(1000_usize), Just(60_000)],
    ) {
        let authority = Authority::new("root");
        let config = server_config(&authority.issue(&Leaf::default()), None, BOTH);
        let frames: Vec<Vec<u8>> = sizes.iter().map(|size| framed(&pattern(*size))).collect();
        let total = frames.iter().map(Vec::len).sum();
        let (address, server) = slow(config, piece, total);
        let mut rig = Rig::with_tls(&trusting(&authority));
        rig.connect(A, &address);
        assert!(matches!(rig.next(), Event::Connected(A)));
        for frame in &frames {
            rig.send(A, frame.clone());
        }
        let (mut all_started, mut all_finished) = (0, 0);
        while all_finished < frames.len() {
            match rig.next() {
                Event::Wrote { started, finished, .. } => {
                    all_started += started;
                    all_finished += finished;
                    prop_assert!(all_finished <= all_started && all_started <= frames.len());
                }
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!((all_started, all_finished), (frames.len(), frames.len()));
        prop_assert_eq!(server.join().unwrap(), frames.concat());
    }
}

#[test]
fn what_the_socket_has_not_taken_has_not_finished_and_little_is_ahead_of_it() {
    let authority = Authority::new("root");
    let config = server_config(&authority.issue(&Leaf::default()), None, BOTH);
    let (go, gone) = mpsc::channel::<()>();
    let (address, server) = serve(move |peer| {
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), peer);
        stream.read_exact(&mut [0; 4]).unwrap();
        // Takes nothing until the test has looked.
        let _ = gone.recv();
    });
    let mut rig = Rig::with_tls(&trusting(&authority));
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    rig.send(A, framed(&[]));
    // Each is larger than what the sockets of both sides hold: so the first is not taken whole, nor has the next begun.
    for _ in 0..2 {
        rig.send(A, framed(&vec![7; 64 * 1024 * 1024]));
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        rig.poll(Duration::from_millis(20));
    }
    let (mut started, mut finished) = (0, 0);
    for event in &rig.events {
        let Event::Wrote { started: s, finished: f, .. } = event else { panic!("{event:?}") };
        started += s;
        finished += f;
    }
    assert_eq!((started, finished), (2, 1));
    drop(go);
    rig.net.close(A);
    server.join().unwrap();
}

#[test]
fn what_a_socket_takes_while_it_is_read_is_told_with_what_came() {
    let authority = Authority::new("root");
    let config = server_config(&authority.issue(&Leaf::default()), None, BOTH);
    let (go, gone) = mpsc::channel::<()>();
    let (address, server) = serve(move |peer| {
        let mut stream = rustls::StreamOwned::new(ServerConnection::new(config).unwrap(), peer);
        stream.read_exact(&mut [0; 4]).unwrap();
        // Takes nothing until the client's socket is full, then all that there is, and answers.
        let _ = gone.recv();
        stream.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while stream.read(&mut [0; 60_000]).is_ok() {}
        stream.write_all(&framed(b"answer")).unwrap();
        stream.sock.set_read_timeout(None).unwrap();
        wait_for_end(&mut stream.sock);
    });
    let mut rig = Rig::with_tls(&trusting(&authority));
    rig.connect(A, &address);
    assert!(matches!(rig.next(), Event::Connected(A)));
    let mut sent = 0;
    while rig.net.open[&A].1.is_writable() {
        rig.send(A, framed(&[7; 4000]));
        sent += 1;
    }
    let progress = |events: &mut Vec<Event>| {
        let (mut finished, mut answered) = (0, false);
        for event in events.drain(..) {
            match event {
                Event::Wrote { finished: more, .. } => finished += more,
                Event::Response(A, _) => answered = true,
                other => panic!("{other:?}"),
            }
        }
        (finished, answered)
    };
    let (before, _) = progress(&mut rig.events);
    assert!(before < sent, "some are encrypted, and not taken");
    drop(go);
    // As if the socket had been found readable, and not yet writable.
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < PATIENCE);
        rig.net.open.get_mut(&A).unwrap().1.set_readable();
        rig.net.readable = vec![A];
        rig.net.read_all(&mut rig.events);
        let (finished, answered) = progress(&mut rig.events);
        if answered {
            assert_eq!(before + finished, sent);
            break;
        }
    }
    rig.net.close(A);
    server.join().unwrap();
}

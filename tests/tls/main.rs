//! Whole producers over encrypted connections, against in-process clusters with certificates of the test's own.
#![expect(clippy::disallowed_methods, reason = "threads, clocks and sockets are what is tested")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[path = "../certificates/mod.rs"]
#[expect(dead_code, reason = "the unit tests use all of it")]
mod certificates;
#[path = "../cluster/common.rs"]
#[expect(dead_code, reason = "the tests of the cluster use all of it")]
mod common;
#[path = "../forms/mod.rs"]
mod forms;
mod hostile;
mod secrets;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla::crypto;
use ottla::testing::{BrokerTls, Cluster, Logins};
use ottla::{CheckError, ClientBuilder, ConnectionErrorKind, DeliveryErrorKind, Message, Sasl, Speaks, Tls, TlsFault};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, RootCertStore, StreamOwned};

use crate::certificates::{Authority, Identity, Leaf};
use crate::common::*;

/// Three brokers that show this certificate, with the topic `orders`.
fn brokers(tls: BrokerTls) -> Cluster {
    Cluster::builder().brokers(3).topic("orders", 4).tls(tls).start().unwrap()
}

fn shown(identity: &Identity) -> BrokerTls {
    BrokerTls::new(&identity.certificates, &identity.key)
}

fn trusting(cluster: &Cluster, authority: &Authority) -> ClientBuilder {
    quick(&cluster.bootstrap()).tls(Tls::new().ssl_ca_cert(authority.pem()))
}

/// Why each address was of no use, with the whole text; the check knows it long before its time is up.
fn refused(client: ClientBuilder) -> (Vec<ConnectionErrorKind>, String) {
    let began = Instant::now();
    let error = client.build().unwrap().check(LONG).unwrap_err();
    assert!(began.elapsed() < LONG / 2, "{error}");
    let text = error.to_string();
    let CheckError::Unreachable { errors, .. } = error else { panic!("{text}") };
    (errors.into_iter().map(|error| error.kind).collect(), text)
}

/// The kind and the text of the error with which a message ends.
fn fate(client: ClientBuilder) -> (ConnectionErrorKind, String) {
    let producer = client.build().unwrap().async_producer().delivery_timeout(ms(700)).build().unwrap();
    let error = producer.produce_with_handle(Message::new("orders", "v")).unwrap().wait().unwrap_err();
    let text = error.to_string();
    match root(error.kind()) {
        DeliveryErrorKind::Connection(error) => (error.kind.clone(), text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_message_arrives_once_and_in_order_also_when_leaders_stop() {
    let authority = Authority::new("root");
    let cluster = brokers(shown(&authority.below("between").issue(&Leaf::default())));
    let client = trusting(&cluster, &authority).build().unwrap();
    assert_eq!(client.check(LONG).unwrap().brokers.len(), 3);
    let producer = client.async_producer().streaming().retry_backoff(ms(5)).retry_backoff_max(ms(40)).build().unwrap();
    let count = 30_000;
    for number in 0..count {
        if number == count / 3 {
            cluster.stop_broker(2);
        } else if number == count / 2 {
            cluster.restart_broker(2).unwrap();
        }
        let key = (number % 7).to_string();
        let message = Message::new("orders", (number / 7).to_string()).with_key(key);
        while producer.produce(message.clone()).is_err() {
            std::thread::yield_now();
        }
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (count as u64, 0));
    assert_in_order(&cluster.messages("orders"), count);
}

#[test]
fn messages_larger_than_many_records_arrive_whole() {
    let authority = Authority::new("root");
    let cluster = brokers(shown(&authority.issue(&Leaf::default())));
    let mut producer = trusting(&cluster, &authority).build().unwrap().producer().build().unwrap();
    let value: Vec<u8> = (0..900_000_u32).map(|at| (at % 251) as u8).collect();
    for _ in 0..8 {
        producer.produce(Message::new("orders", value.clone())).unwrap();
    }
    producer.deliver_messages().unwrap();
    let messages = cluster.messages("orders");
    assert_eq!(messages.len(), 8);
    assert!(messages.iter().all(|message| message.value.as_deref() == Some(&*value)));
}

#[test]
fn a_bad_certificate_is_told_with_its_cure_and_no_request_leaves() {
    let authority = Authority::new("root");
    for (identity, fault, cure) in [
        (authority.issue(&Leaf { to: "210101", ..Leaf::default() }), TlsFault::Expired, "renew it"),
        (Authority::new("another").issue(&Leaf::default()), TlsFault::UnknownIssuer, "ssl_ca_cert_file_path"),
        (authority.issue(&Leaf { dns: &[], ips: &[], ..Leaf::default() }), TlsFault::NoName, "subjectAltName"),
    ] {
        let cluster = brokers(shown(&identity));
        let (kinds, text) = refused(trusting(&cluster, &authority));
        assert_eq!(kinds.len(), 3, "{text}");
        assert!(kinds.iter().all(|kind| matches!(kind, ConnectionErrorKind::Tls(found) if *found == fault)), "{text}");
        assert!(text.contains(cure), "{text}");
        let (kind, text) = fate(trusting(&cluster, &authority));
        assert!(matches!(kind, ConnectionErrorKind::Tls(found) if found == fault), "{text}");
        assert!(text.contains("127.0.0.1:") && text.contains(cure), "{text}");
        assert!(cluster.requests().is_empty());
    }
}

#[test]
fn a_client_certificate_that_is_missing_is_told_by_the_alert_and_tried_with_pauses() {
    let authority = Authority::new("root");
    let tls = shown(&authority.issue(&Leaf::default())).client_ca(authority.pem());
    let cluster = brokers(tls);
    let (kinds, text) = refused(trusting(&cluster, &authority));
    assert!(kinds.iter().all(|kind| matches!(kind, ConnectionErrorKind::TlsRefused { .. })), "{text}");
    assert!(text.contains("certificate_required (116)") && text.contains("ssl_client_cert"), "{text}");
    let (kind, text) = fate(trusting(&cluster, &authority));
    assert!(matches!(kind, ConnectionErrorKind::TlsRefused { alert } if alert.code() == 116), "{text}");

    let own = authority.issue(&Leaf { for_servers: false, ..Leaf::default() });
    let tls = Tls::new().ssl_ca_cert(authority.pem()).ssl_client_cert(&own.certificates).ssl_client_cert_key(&own.key);
    let client = quick(&cluster.bootstrap()).tls(tls).build().unwrap();
    let mut producer = client.producer().build().unwrap();
    producer.produce(Message::new("orders", "with a certificate")).unwrap();
    producer.deliver_messages().unwrap();
    assert_eq!(values(&cluster.messages("orders")), ["with a certificate"]);
}

#[test]
fn a_login_goes_over_tls_and_into_no_connection_that_is_not_verified() {
    let authority = Authority::new("root");
    let expired = authority.issue(&Leaf { to: "210101", ..Leaf::default() });
    for (identity, is_good) in [(authority.issue(&Leaf::default()), true), (expired, false)] {
        let logins = Logins::new().plain("ann", "secret");
        let cluster = Cluster::builder().topic("orders", 1).tls(shown(&identity)).sasl(logins).start().unwrap();
        let client = trusting(&cluster, &authority).sasl(Sasl::plain("ann", "secret"));
        if is_good {
            let mut producer = client.build().unwrap().producer().build().unwrap();
            producer.produce(Message::new("orders", "v")).unwrap();
            producer.deliver_messages().unwrap();
        } else {
            let (kinds, text) = refused(client);
            assert!(matches!(kinds[..], [ConnectionErrorKind::Tls(TlsFault::Expired)]), "{text}");
            assert!(cluster.requests().is_empty(), "not a byte of the login");
        }
    }
}

#[test]
fn a_broker_that_is_stopped_says_that_it_ends() {
    let authority = Authority::new("root");
    let identity = authority.issue(&Leaf::default());
    // A client by hand: without close_notify its read would be an error.
    let cluster = brokers(shown(&identity));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(certificates::provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = Arc::new(config.with_no_client_auth());
    let address = cluster.bootstrap().split(',').next().unwrap().to_owned();
    let session = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(address).unwrap());
    stream.conn.complete_io(&mut stream.sock).unwrap();
    wait_until("the broker knows it", || cluster.connections() == 1);
    cluster.stop_broker(1);
    assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0, "said, and not only seen");
}

#[test]
fn tls_and_plaintext_do_not_meet_and_both_sides_are_told() {
    let authority = Authority::new("root");
    let encrypted = brokers(shown(&authority.issue(&Leaf::default())));
    let (kinds, text) = refused(quick(&encrypted.bootstrap()));
    assert!(kinds.iter().all(|kind| matches!(kind, ConnectionErrorKind::NotKafka(Speaks::Tls))), "{text}");
    assert!(text.contains("set tls up"), "{text}");

    let plain = three_brokers(1);
    let client = trusting(&plain, &authority).build().unwrap();
    let text = client.check(Duration::from_millis(500)).unwrap_err().to_string();
    assert!(text.contains("check that the port is a TLS listener"), "{text}");
    assert!(plain.requests().is_empty());
}

#[test]
fn certificates_that_brokers_cannot_use_stop_the_start() {
    let authority = Authority::new("root");
    let (one, other) = (authority.issue(&Leaf::default()), authority.issue(&Leaf::default()));
    for tls in [
        BrokerTls::new("", &one.key),
        BrokerTls::new(&one.certificates, ""),
        BrokerTls::new(&one.certificates, &other.key),
    ] {
        let error = Cluster::builder().tls(tls).start().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
}

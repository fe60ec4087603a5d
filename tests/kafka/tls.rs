//! Encrypted connections to a real broker, whose certificates the test makes.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ottla::{CheckError, Client, ConnectionErrorKind, Message, Speaks, Tls, TlsFault};

use crate::certificates::{Authority, Identity, Leaf};
use crate::delivery::assert_numbers_in_order;
use crate::fixture::RealKafka;
use crate::run::{account, example, fresh_file, text};

const LONG: Duration = Duration::from_secs(30);

/// The lines of `server.properties` for a certificate, and for clients' if they are demanded.
pub fn settings(identity: &Identity, client_ca: Option<&Authority>) -> Vec<String> {
    let line = |pem: &str| pem.replace('\n', "\\n");
    let mut settings = vec![
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.certificate.chain={}", line(&identity.certificates)),
        format!("ssl.keystore.key={}", line(&identity.key)),
    ];
    if let Some(authority) = client_ca {
        settings.push("ssl.truststore.type=PEM".to_owned());
        settings.push(format!("ssl.truststore.certificates={}", line(&authority.pem())));
        settings.push("ssl.client.auth=required".to_owned());
    }
    settings
}

fn start(identity: &Identity, client_ca: Option<&Authority>) -> RealKafka {
    let settings = settings(identity, client_ca);
    RealKafka::start_with_tls(&settings.iter().map(String::as_str).collect::<Vec<_>>())
}

fn refused(client: &Client) -> ConnectionErrorKind {
    let Err(CheckError::Unreachable { mut errors, .. }) = client.check(LONG) else { panic!("it let us in") };
    errors.remove(0).kind
}

#[test]
fn lines_arrive_complete_and_in_order_with_a_client_certificate() {
    const COUNT: usize = 100_000;
    let authority = Authority::new("root");
    let kafka = start(&authority.issue(&Leaf::default()), Some(&authority));
    kafka.create_topic("encrypted", 3, &[]);
    let own = authority.issue(&Leaf { for_servers: false, ..Leaf::default() });
    let files = [("ca", authority.pem()), ("cert", own.certificates), ("key", own.key)];
    let files = files.map(|(name, pem)| {
        let file = fresh_file(name);
        fs::write(&file, pem).expect("it can be written");
        (format!("--{name}-file"), file)
    });
    let mut pipe = Command::new(example("pipe"))
        .args(["--bootstrap", &format!("ssl://{}", kafka.tls_address()), "--topic", "encrypted"])
        .args(files.iter().flat_map(|(option, file)| [option.as_str(), text(file)]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("pipe starts");
    let mut input = pipe.stdin.take().expect("piped");
    let lines: String = (0..COUNT).map(|number| format!("{number}\n")).collect();
    input.write_all(lines.as_bytes()).expect("pipe reads");
    drop(input);
    let output = pipe.wait_with_output().expect("pipe ends");
    for (_, file) in files {
        fs::remove_file(file).expect("it is there");
    }
    let count = COUNT as u64;
    assert_eq!(account(&output), [count, count, count, 0, 0, 0]);
    assert_numbers_in_order(&kafka.read_all("encrypted"), COUNT);

    // Without the certificate, and with one of another CA: with TLS 1.3 told after the handshake.
    let trusting = || Tls::new().ssl_ca_cert(authority.pem());
    let stranger = Authority::new("another").issue(&Leaf { for_servers: false, ..Leaf::default() });
    let strange = trusting().ssl_client_cert(&stranger.certificates).ssl_client_cert_key(&stranger.key);
    for tls in [trusting(), strange] {
        let client = Client::builder([kafka.tls_address()]).tls(tls).build().expect("good options");
        let kind = refused(&client);
        assert!(matches!(kind, ConnectionErrorKind::TlsRefused { .. }), "{kind:?}");
    }
    // TLS to the plaintext listener, and the reverse.
    let client = Client::builder([kafka.bootstrap()]).tls(trusting()).build().expect("good options");
    let error = client.check(Duration::from_secs(2)).expect_err("it is plaintext").to_string();
    assert!(error.contains("check that the port is a TLS listener"), "{error}");
    let kind = refused(&Client::builder([kafka.tls_address()]).build().expect("good options"));
    assert!(matches!(kind, ConnectionErrorKind::NotKafka(Speaks::Tls)), "{kind:?}");
}

#[test]
fn a_bad_certificate_of_a_broker_is_refused_with_its_reason() {
    let authority = Authority::new("root");
    let kafka = start(&authority.issue(&Leaf { ips: &[], ..Leaf::default() }), None);
    let trusting = || Tls::new().ssl_ca_cert(authority.pem());
    let client = |address: String, tls| Client::builder([address]).tls(tls).build().expect("good options");
    let by_name = kafka.tls_address().replace("127.0.0.1", "localhost");
    // The broker advertises its address, which its certificate does not have.
    let kind = refused(&client(kafka.tls_address(), trusting()));
    let wrong = TlsFault::WrongName { presented: "localhost".into() };
    assert!(matches!(&kind, ConnectionErrorKind::Tls(fault) if *fault == wrong), "{kind:?}");
    let kind = refused(&client(by_name, Tls::new().ssl_ca_cert(Authority::new("another").pem())));
    assert!(matches!(kind, ConnectionErrorKind::Tls(TlsFault::UnknownIssuer)), "{kind:?}");

    let client = client(kafka.tls_address(), trusting().ssl_verify_hostname(false));
    assert_eq!(client.check(LONG).expect("it is let in").brokers.len(), 1);
    let mut producer = client.producer().build().expect("good options");
    producer.produce(Message::new("by-name", "0")).expect("there is room");
    producer.deliver_messages().expect("it is delivered");
}

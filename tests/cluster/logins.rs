//! Logins by SASL: every mechanism, what is refused and how that is told, and sessions that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ottla::testing::{Api, Cluster, ClusterBuilder, Fault, Logins};
use ottla::{CheckError, Client, ClientBuilder, ConnectionErrorKind, ErrorCode, Message, Sasl, Speaks, Token};

use crate::common::*;

fn with(logins: Logins) -> Cluster {
    described(logins).start().unwrap()
}

fn described(logins: Logins) -> ClusterBuilder {
    Cluster::builder().brokers(2).topic("orders", 2).sasl(logins)
}

fn everybody() -> Logins {
    Logins::new()
        .plain("ann", "plain secret")
        .scram_sha_256("a,b=c", "short secret")
        .scram_sha_512("ann", "long secret")
        .delegation_token("token id", "token hmac")
        .oauthbearer(|token| token == "good.token")
}

fn client(cluster: &Cluster, sasl: Sasl) -> Client {
    builder(cluster, sasl).build().unwrap()
}

fn builder(cluster: &Cluster, sasl: Sasl) -> ClientBuilder {
    quick(&cluster.bootstrap()).sasl(sasl).sasl_over_ssl(false)
}

fn deliver(client: &Client, messages: usize) {
    let producer = client.async_producer().streaming().build().unwrap();
    for n in 0..messages {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
    }
    let report = producer.shutdown().unwrap();
    assert_eq!((report.delivered, report.failed), (messages as u64, 0));
}

/// The only error of a check.
fn refused(client: &Client) -> ConnectionErrorKind {
    match client.check(LONG) {
        Err(CheckError::Unreachable { mut errors, .. }) => errors.remove(0).kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_mechanism_logs_in_and_delivers() {
    let cluster = with(everybody());
    let every = [
        Sasl::plain("ann", "plain secret"),
        Sasl::scram_sha_256("a,b=c", "short secret"),
        Sasl::scram_sha_512("ann", "long secret"),
        Sasl::scram_sha_256("token id", "token hmac").delegation_token(),
        Sasl::scram_sha_512("token id", "token hmac").delegation_token(),
        Sasl::oauthbearer(|| Ok(Token::new("good.token"))),
    ];
    for (n, sasl) in every.into_iter().enumerate() {
        let client = client(&cluster, sasl);
        let info = client.check(LONG).unwrap();
        assert_eq!((info.brokers.len(), info.unreachable.len()), (2, 0));
        deliver(&client, 100);
        assert_eq!(cluster.messages("orders").len(), 100 * (n + 1));
    }
}

#[test]
fn a_refused_login_ends_a_check_at_once_and_is_told_with_the_broker_s_words() {
    let cluster = with(everybody());
    let scram =
        "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512";
    for (sasl, name, words) in [
        (Sasl::plain("ann", "wrong"), "PLAIN", "Authentication failed: Invalid username or password"),
        (Sasl::scram_sha_512("ann", "wrong"), "SCRAM-SHA-512", scram),
        (Sasl::scram_sha_512("bob", "long secret"), "SCRAM-SHA-512", scram),
        (Sasl::scram_sha_512("ann", "long secret").delegation_token(), "SCRAM-SHA-512", scram),
        (Sasl::oauthbearer(|| Ok(Token::new("bad"))), "OAUTHBEARER", "{\"status\":\"invalid_token\"}"),
    ] {
        let kind = refused(&client(&cluster, sasl));
        let ConnectionErrorKind::AuthenticationFailed { mechanism, code, message } = &kind else { panic!("{kind:?}") };
        assert_eq!((*mechanism, *code), (name, ErrorCode::SASL_AUTHENTICATION_FAILED));
        assert_eq!(message.as_deref(), Some(words));
        assert!(kind.to_string().contains(words), "{kind}");
    }
}

#[test]
fn a_mechanism_that_is_off_is_told_with_those_that_are_on() {
    let cluster = with(Logins::new().plain("ann", "x").scram_sha_256("ann", "x"));
    let kind = refused(&client(&cluster, Sasl::scram_sha_512("ann", "x")));
    assert_eq!(
        kind.to_string(),
        "the listener has no login by SCRAM-SHA-512, it has: PLAIN, SCRAM-SHA-256; use one of these, or enable it \
         there (sasl.enabled.mechanisms)"
    );
}

#[test]
fn a_listener_without_logins_and_a_client_without_one_are_told_apart() {
    let plain = cluster(1);
    assert!(matches!(refused(&client(&plain, Sasl::plain("ann", "x"))), ConnectionErrorKind::NoLogin));
    let cluster = with(everybody());
    let client = quick(&cluster.bootstrap()).build().unwrap();
    let Err(CheckError::Unreachable { errors, .. }) = client.check(ms(300)) else { panic!("it let us in") };
    assert!(errors[0].to_string().contains("ClientBuilder::sasl"), "{}", errors[0]);
}

#[test]
fn messages_wait_for_a_login_and_fail_with_its_error() {
    let cluster = with(everybody());
    let producer = client(&cluster, Sasl::scram_sha_256("a,b=c", "wrong"));
    let producer = producer.async_producer().streaming().delivery_timeout(ms(700)).build().unwrap();
    let handle = producer.produce_with_handle(Message::new("orders", "x")).unwrap();
    let error = handle.wait().unwrap_err();
    let kind = &connection(error.kind()).kind;
    assert!(matches!(kind, ConnectionErrorKind::AuthenticationFailed { .. }), "{kind}");
}

#[test]
fn a_session_is_renewed_on_its_connection_while_messages_go_through() {
    let cluster = with(everybody().session_lifetime(ms(1500)));
    for sasl in [Sasl::scram_sha_512("ann", "long secret"), Sasl::oauthbearer(|| Ok(Token::new("good.token")))] {
        let before = cluster.messages("orders").len();
        let producer = client(&cluster, sasl).async_producer().streaming().build().unwrap();
        let begun = std::time::Instant::now();
        let mut count = 0_u64;
        while begun.elapsed() < ms(3500) {
            producer.produce(Message::new("orders", count.to_string()).with_partition(count as i32 % 2)).unwrap();
            count += 1;
            std::thread::sleep(ms(2));
        }
        let report = producer.shutdown().unwrap();
        assert_eq!((report.delivered, report.failed), (count, 0));
        assert_eq!(cluster.messages("orders").len() - before, count as usize);
    }
    let asked = |api: Api| cluster.requests().iter().filter(|request| request.api == api).count();
    assert!(asked(Api::SaslHandshake) >= 2 * (2 + 2 * 2), "{}", asked(Api::SaslHandshake));
    // A connection to a bootstrap address and two to the brokers at most, each greeted once.
    assert!(asked(Api::ApiVersions) <= 2 * 3, "{}", asked(Api::ApiVersions));
}

#[test]
fn after_a_pause_beyond_the_session_s_end_the_next_message_logs_in_first() {
    let cluster = with(everybody().session_lifetime(ms(1100)));
    let client = client(&cluster, Sasl::scram_sha_512("ann", "long secret"));
    let mut producer = client.producer().build().unwrap();
    for n in 0..2 {
        producer.produce(Message::new("orders", n.to_string()).with_partition(0)).unwrap();
        producer.deliver_messages().unwrap();
        std::thread::sleep(ms(1300));
    }
    let asked = |api: Api| cluster.requests().iter().filter(|request| request.api == api).count();
    let (greeted, logins) = (asked(Api::ApiVersions), asked(Api::SaslHandshake));
    assert!(logins > greeted, "{logins} logins on {greeted} connections");
    assert_eq!(values(&cluster.messages("orders")), ["0", "1"]);
}

#[test]
fn a_provider_that_fails_panics_or_hangs_holds_up_nothing_but_logins() {
    let cluster = with(everybody());
    let failing = client(&cluster, Sasl::oauthbearer(|| Err("the identity provider is down".into())));
    let panicking = client(&cluster, Sasl::oauthbearer(|| panic!("bang")));
    let hanging = builder(
        &cluster,
        Sasl::oauthbearer(|| {
            loop {
                std::thread::park();
            }
        }),
    )
    .connect_timeout(ms(200));
    for (client, words) in [
        (failing, "the token provider failed (the identity provider is down)"),
        (panicking, "the token provider panicked (bang)"),
        (hanging.build().unwrap(), "the token provider gave none within connect_timeout"),
    ] {
        let Err(CheckError::Unreachable { errors, .. }) = client.check(ms(2500)) else { panic!("it let us in") };
        let kind = &errors[0].kind;
        let ConnectionErrorKind::NoCredentials { mechanism: "OAUTHBEARER", what } = kind else { panic!("{kind:?}") };
        assert_eq!(&**what, words);
    }
}

#[test]
fn a_token_with_a_lifetime_is_asked_for_once_for_all_connections() {
    let cluster = with(everybody());
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let sasl = Sasl::oauthbearer(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(Token::new("good.token").with_lifetime(Duration::from_secs(3600)))
    });
    deliver(&client(&cluster, sasl), 100);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn an_answer_to_a_login_that_is_too_large_is_not_read() {
    let cluster = with(everybody());
    for api in [Api::SaslHandshake, Api::SaslAuthenticate] {
        let _fault = cluster.inject(Fault::on(api).raw(vec![0; 2_000_000]));
        let kind = refused(&client(&cluster, Sasl::scram_sha_256("a,b=c", "short secret")));
        assert!(matches!(kind, ConnectionErrorKind::NotKafka(Speaks::Unknown)), "{kind:?}");
    }
}

#[test]
fn a_broker_that_answers_nonsense_to_a_login_is_not_trusted() {
    let cluster = with(everybody());
    // Number 2 of the connection, no tags; no error, no text, one of these messages, no lifetime, no tags.
    let answer =
        |message: &[u8]| [&[0, 0, 0, 2, 0, 0, 0, 1, message.len() as u8 + 1][..], message, &[0; 8], &[0]].concat();
    for (message, what) in [
        (&b"r=foreign,s=c2FsdA==,i=4096"[..], "its nonce does not go on from the client's"),
        (b"v=AAAA", "its message is not what SCRAM has there"),
        (b"", "its message is not what SCRAM has there"),
    ] {
        let _fault = cluster.inject(Fault::on(Api::SaslAuthenticate).raw(answer(message)));
        let kind = refused(&client(&cluster, Sasl::scram_sha_256("a,b=c", "short secret")));
        assert!(matches!(kind, ConnectionErrorKind::UntrustedBroker { what: told, .. } if told == what), "{kind:?}");
    }
}

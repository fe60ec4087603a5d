//! Logins by SASL: hostile brokers, long computations, sessions that end, and tokens that come late or never.

use std::time::Duration;

use kafka_protocol::messages::SaslAuthenticateResponse;
use ottla::testing::{Api, Fault, Logins};
use ottla::{ConnectionErrorKind, DeliveryErrorKind, ErrorCode, Message, Persistence, Sasl, Token};

use crate::bench::{Bench, Twist};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Brokers with topic `a`, which let in those whom `logins` names, and an engine that logs in like this.
fn bench(brokers: u16, logins: Logins, sasl: Sasl) -> Bench {
    Bench::tuned(
        brokers,
        |cluster| cluster.topic("a", i32::from(brokers)).sasl(logins),
        |client, config| {
            (client.sasl, client.sasl_over_ssl) = (Some(sasl), false);
            config.delivery_timeout = secs(60);
        },
    )
}

fn scram() -> Sasl {
    Sasl::scram_sha_256("ann", "secret")
}

fn ann() -> Logins {
    Logins::new().plain("ann", "secret").scram_sha_256("ann", "secret").oauthbearer(|token| token == "good")
}

fn last_error(bench: &Bench) -> ConnectionErrorKind {
    match bench.engine.last_error().map(|error| &**error) {
        Some(DeliveryErrorKind::Connection(error)) => error.kind.clone(),
        other => panic!("not about a connection: {other:?}"),
    }
}

/// What this thread has worked; elsewhere than on Linux nobody tells.
fn processor_time() -> Duration {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        let used = getrusage(UsageWho::RUSAGE_THREAD).expect("Linux has it");
        let times = [used.user_time(), used.system_time()];
        times.iter().map(|time| Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)).sum()
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

#[test]
fn a_hostile_or_unforgiving_broker_is_tried_three_times_in_five_seconds() {
    type Spoil = fn(&mut Vec<u8>);
    let refused: Spoil = |message| *message = b"e=other-error".to_vec();
    let spoils: [Spoil; 10] = [
        refused,
        // Other nonce, no nonce of its own, few iterations, many.
        |message| *message = b"r=another,s=c2FsdA==,i=4096".to_vec(),
        |message| {
            let text = String::from_utf8(message.clone()).unwrap();
            *message = text.replacen("server", ",x=", 1).into_bytes();
        },
        |message| *message = String::from_utf8(message.clone()).unwrap().replace("i=4096", "i=1").into_bytes(),
        |message| *message = String::from_utf8(message.clone()).unwrap().replace("i=4096", "i=2147483647").into_bytes(),
        |message| *message = String::from_utf8(message.clone()).unwrap().replace("i=4096", "i=131073").into_bytes(),
        // As many as are taken, and another salt each time, so that each login has all the work.
        |message| {
            let text = String::from_utf8(message.clone()).unwrap();
            if let Some(nonce) = text.strip_prefix("r=") {
                // The client's part of it is base64, and always another.
                *message = format!("r={},s={},i=131072", nonce.split(',').next().unwrap(), &nonce[..32]).into_bytes();
            }
        },
        // Another signature, none at all, and one of another login.
        |message| {
            if message.starts_with(b"v=") {
                message[5] ^= 3;
            }
        },
        |message| {
            if message.starts_with(b"v=") {
                message.clear();
            }
        },
        |message| {
            if message.starts_with(b"v=") {
                *message = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec();
            }
        },
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let mut bench = bench(1, ann(), scram());
        bench.twist = Some(Twist::of(Api::SaslAuthenticate, move |answer: &mut SaslAuthenticateResponse| {
            let mut message = answer.auth_bytes.to_vec();
            spoil(&mut message);
            answer.auth_bytes = message.into();
        }));
        bench.append(&Message::new("a", "x"));
        let before = processor_time();
        bench.pass(secs(5));
        let worked = processor_time() - before;
        assert!((2..=3).contains(&bench.connects), "case {number}: {} attempts", bench.connects);
        assert!(worked < secs(bench.connects as u64), "case {number}: {worked:?}");
        match last_error(&bench) {
            // With another salt it is the client's proof that does not fit.
            ConnectionErrorKind::AuthenticationFailed { .. } => assert!(matches!(number, 0 | 6)),
            ConnectionErrorKind::UntrustedBroker { .. } => assert!(!matches!(number, 0 | 6)),
            other => panic!("case {number}: {other}"),
        }
        bench.twist = None;
        bench.pass(secs(20));
        assert_eq!(bench.delivered.len(), 1, "case {number}: the broker mends its ways");
    }
}

#[test]
fn a_long_computation_comes_in_slices_and_once() {
    let logins = Logins::new().scram_sha_512_with("ann", "secret", 20_000);
    let mut bench = bench(2, logins, Sasl::scram_sha_512("ann", "secret"));
    bench.far.extend([1, 2]);
    bench.append(&Message::new("a", "x").with_partition(0));
    let wakes = bench.pass(Duration::from_millis(500));
    assert!((15..=40).contains(&wakes), "{wakes} turns for 20,000 rounds");
    bench.append(&Message::new("a", "x").with_partition(1));
    let wakes = bench.pass(Duration::from_millis(500));
    assert!(wakes <= 5, "{wakes} turns although the salted password is known");
    bench.arrive();
    assert_eq!(bench.delivered.len(), 2);
}

#[test]
fn another_login_waits_for_what_is_in_flight_and_nothing_goes_in_between() {
    let mut bench = bench(1, ann().session_lifetime(secs(10)), scram());
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    assert_eq!(bench.requests(Api::SaslHandshake), 1);
    bench.far.insert(1);
    bench.pass(secs(7) - Duration::from_millis(100));
    bench.send(&Message::new("a", "in flight when the session is near its end"));
    bench.pass(secs(2) - Duration::from_millis(100));
    bench.send(&Message::new("a", "behind"));
    assert_eq!((bench.on_the_way(), bench.requests(Api::SaslHandshake)), (1, 1), "it stops sending");
    bench.far.clear();
    bench.arrive();
    bench.pass(secs(1));
    assert_eq!((bench.delivered.len(), bench.requests(Api::SaslHandshake)), (3, 2));
    assert_eq!((bench.connects, bench.failed.len()), (1, 0));
}

#[test]
fn an_idle_session_wakes_nobody_and_is_renewed_before_the_next_message() {
    let mut bench = bench(1, ann().session_lifetime(secs(10)), scram());
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    let wakes = bench.pass(secs(200));
    assert!(wakes <= 2, "{wakes}");
    assert_eq!(bench.requests(Api::SaslHandshake), 1);
    bench.append(&Message::new("a", "1"));
    bench.pass(secs(1));
    assert_eq!((bench.delivered.len(), bench.connects, bench.requests(Api::SaslHandshake)), (2, 1, 2));
}

#[test]
fn a_session_that_is_over_ends_the_connection_and_what_was_in_flight_goes_again() {
    let mut bench = bench(1, ann().session_lifetime(secs(10)), scram());
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(7));
    bench.far.insert(1);
    bench.send(&Message::new("a", "arrives too late"));
    bench.pass(secs(5));
    bench.far.clear();
    bench.arrive();
    bench.pass(secs(5));
    assert_eq!((bench.delivered.len(), bench.failed.len(), bench.connects), (2, 0, 2));
}

#[test]
fn what_meets_a_session_that_is_over_is_possibly_written_if_it_is_not_sent_again() {
    let mut bench = Bench::tuned(
        1,
        |cluster| cluster.topic("a", 1).sasl(ann().session_lifetime(secs(10))),
        |client, config| {
            (client.sasl, client.sasl_over_ssl) = (Some(scram()), false);
            (config.idempotent, config.max_retries) = (false, Some(0));
        },
    );
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(7));
    bench.far.insert(1);
    bench.send(&Message::new("a", "arrives too late"));
    bench.pass(secs(5));
    bench.arrive();
    bench.pass(secs(5));
    let said: Vec<_> = bench.failed.iter().map(|error| error.persistence()).collect();
    assert_eq!((bench.delivered.len(), said), (1, vec![Persistence::Possibly]));
}

#[test]
fn a_broker_that_wants_no_other_login_yet_is_asked_again_later_on_the_same_connection() {
    let mut bench = bench(1, ann().session_lifetime(secs(10)), scram());
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.cluster.inject(Fault::on(Api::SaslHandshake).error(ErrorCode::ILLEGAL_SASL_STATE).times(1));
    bench.pass(secs(8));
    for n in ["1", "2", "3"] {
        bench.append(&Message::new("a", n));
        bench.pass(Duration::from_millis(600));
    }
    assert_eq!((bench.delivered.len(), bench.connects, bench.requests(Api::SaslHandshake)), (4, 1, 3));
}

#[test]
fn brokers_wait_for_one_token_and_share_it() {
    let mut bench = bench(2, ann(), Sasl::oauthbearer(|| unreachable!("the test gives the tokens")));
    for partition in [0, 1] {
        bench.append(&Message::new("a", "x").with_partition(partition));
    }
    bench.pass(secs(3));
    assert_eq!((bench.asks, bench.delivered.len()), (1, 0));
    bench.give(Ok(Token::new("good").with_lifetime(secs(100))));
    bench.pass(secs(1));
    assert_eq!((bench.asks, bench.delivered.len()), (1, 2));
    // While it is fresh it is good for more, then another one is asked for.
    bench.cut(1);
    bench.append(&Message::new("a", "y").with_partition(0));
    bench.pass(secs(1));
    assert_eq!((bench.asks, bench.delivered.len()), (1, 3));
    bench.pass(secs(80));
    bench.cut(1);
    bench.append(&Message::new("a", "z").with_partition(0));
    bench.pass(secs(1));
    assert_eq!((bench.asks, bench.delivered.len()), (2, 3));
    bench.give(Ok(Token::new("good")));
    bench.pass(secs(1));
    assert_eq!(bench.delivered.len(), 4);
}

#[test]
fn messages_go_on_in_the_old_session_while_the_token_for_the_next_is_awaited() {
    let logins = ann().session_lifetime(secs(10));
    let mut bench = bench(1, logins, Sasl::oauthbearer(|| unreachable!("the test gives the tokens")));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.give(Ok(Token::new("good")));
    bench.pass(Duration::from_millis(8500));
    bench.append(&Message::new("a", "1"));
    bench.pass(Duration::from_millis(100));
    assert_eq!((bench.asks, bench.delivered.len(), bench.requests(Api::SaslHandshake)), (2, 2, 1));
    bench.give(Ok(Token::new("good")));
    bench.append(&Message::new("a", "2"));
    bench.pass(secs(5));
    assert_eq!((bench.asks, bench.delivered.len(), bench.requests(Api::SaslHandshake)), (2, 3, 2));
    assert_eq!((bench.connects, bench.failed.len()), (1, 0));
}

#[test]
fn a_refused_token_is_not_used_again() {
    let mut bench = bench(1, ann(), Sasl::oauthbearer(|| unreachable!("the test gives the tokens")));
    bench.append(&Message::new("a", "0"));
    bench.pass(secs(1));
    bench.give(Ok(Token::new("expired").with_lifetime(secs(3600))));
    bench.pass(secs(1));
    assert!(matches!(last_error(&bench), ConnectionErrorKind::AuthenticationFailed { .. }));
    bench.pass(secs(5));
    assert_eq!(bench.asks, 2);
    bench.give(Ok(Token::new("good")));
    bench.pass(secs(1));
    assert_eq!(bench.delivered.len(), 1);
}

#[test]
fn a_provider_that_fails_is_asked_again_with_pauses_and_a_bad_token_is_a_failure() {
    let mut bench = bench(1, ann(), Sasl::oauthbearer(|| unreachable!("the test gives the tokens")));
    bench.append(&Message::new("a", "0"));
    for second in 0..20 {
        bench.pass(secs(1));
        if bench.asks > second / 2 {
            bench.give(if second % 2 == 0 { Err("it is down".into()) } else { Ok(Token::new("with a space")) });
        }
    }
    assert!((4..=10).contains(&bench.asks), "{} times", bench.asks);
    let kind = last_error(&bench);
    assert!(matches!(kind, ConnectionErrorKind::NoCredentials { .. }), "{kind}");
}

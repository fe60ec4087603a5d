//! Logins (SASL) to a real broker: every mechanism, what it refuses, and sessions that end.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla::{CheckError, Client, ConnectionErrorKind, ErrorCode, Message, Sasl, Token};

use crate::delivery::assert_numbers_in_order;
use crate::fixture::{PASSWORD, RealKafka};
use crate::run::{account, example};

const LONG: Duration = Duration::from_secs(30);

/// Every mechanism writes 100,000 lines by the program that people run, and Kafka's own reader finds them.
#[test]
fn every_mechanism_writes_lines_that_are_complete_and_in_order() {
    const COUNT: usize = 100_000;
    let kafka = RealKafka::start_with_logins(&[]);
    for mechanism in ["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"] {
        kafka.create_topic(mechanism, 3, &[]);
        let secret = if mechanism == "oauthbearer" { token("ann", 3600) } else { PASSWORD.to_owned() };
        let mut pipe = start_pipe(&kafka, mechanism, &secret);
        let mut input = pipe.stdin.take().expect("piped");
        let lines: String = (0..COUNT).map(|number| format!("{number}\n")).collect();
        input.write_all(lines.as_bytes()).expect("pipe reads");
        drop(input);
        let output = pipe.wait_with_output().expect("pipe ends");
        let count = COUNT as u64;
        assert_eq!(account(&output), [count, count, count, 0, 0, 0], "{mechanism}");
        assert_numbers_in_order(&kafka.read_all(mechanism), COUNT);
    }
}

#[test]
fn what_a_broker_refuses_is_told_in_its_words() {
    let kafka = RealKafka::start_with_logins(&[]);
    let refused = |address: String, sasl: Sasl| {
        let client = Client::builder([address]).sasl(sasl).sasl_over_ssl(false).build().expect("good options");
        let began = Instant::now();
        let Err(CheckError::Unreachable { mut errors, .. }) = client.check(LONG) else { panic!("it let us in") };
        assert!(began.elapsed() < LONG / 3, "{:?}", began.elapsed());
        errors.remove(0).kind
    };
    let scram = "Authentication failed during authentication due to invalid credentials with SASL mechanism";
    for (sasl, words) in [
        (Sasl::plain("ann", "wrong"), "Authentication failed: Invalid username or password".to_owned()),
        (Sasl::scram_sha_256("ann", "wrong"), format!("{scram} SCRAM-SHA-256")),
        (Sasl::scram_sha_512("bob", PASSWORD), format!("{scram} SCRAM-SHA-512")),
        (Sasl::scram_sha_512("ann", PASSWORD).delegation_token(), format!("{scram} SCRAM-SHA-512")),
        (Sasl::oauthbearer(|| Ok(Token::new("nonsense"))), "{\"status\":\"invalid_token\"}".to_owned()),
        (Sasl::oauthbearer(|| Ok(Token::new(token("ann", -10)))), "{\"status\":\"invalid_token\"}".to_owned()),
    ] {
        let kind = refused(kafka.sasl_address(), sasl);
        let ConnectionErrorKind::AuthenticationFailed { code, message, .. } = &kind else { panic!("{kind:?}") };
        assert_eq!((*code, message.as_deref()), (ErrorCode::SASL_AUTHENTICATION_FAILED, Some(&*words)));
    }
    let kind = refused(kafka.bootstrap(), Sasl::plain("ann", PASSWORD));
    assert!(matches!(kind, ConnectionErrorKind::NoLogin), "{kind:?}");
    let client = Client::builder([kafka.sasl_address()]).build().expect("good options");
    let Err(CheckError::Unreachable { errors, .. }) = client.check(Duration::from_secs(2)) else { panic!("let in") };
    assert!(errors[0].to_string().contains("ClientBuilder::sasl"), "{}", errors[0]);
}

/// Ten sessions and more end while messages go through, and one while nothing does.
#[test]
fn sessions_end_while_messages_go_through_and_nothing_is_lost() {
    let kafka = RealKafka::start_with_logins(&["connections.max.reauth.ms=2000"]);
    kafka.create_topic("sessions", 3, &[]);
    let every = [
        Sasl::plain("ann", PASSWORD),
        Sasl::scram_sha_256("ann", PASSWORD),
        Sasl::scram_sha_512("ann", PASSWORD),
        Sasl::oauthbearer(|| Ok(Token::new(token("ann", 3600)))),
    ];
    let began = Instant::now();
    let threads = every.map(|sasl| {
        let address = kafka.sasl_address();
        thread::spawn(move || {
            let client = Client::builder([address]).sasl(sasl).sasl_over_ssl(false).build().expect("good options");
            let producer = client.async_producer().streaming().build().expect("good options");
            let mut count = 0;
            while began.elapsed() < Duration::from_secs(22) {
                producer.produce(Message::new("sessions", "v").with_partition(count % 3)).expect("there is room");
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            producer.flush(LONG).expect("in time");
            // The session is over for long when the next message comes.
            thread::sleep(Duration::from_secs(4));
            producer.produce(Message::new("sessions", "v").with_partition(0)).expect("there is room");
            let report = producer.shutdown().expect("once");
            assert_eq!((report.delivered, report.failed), (count as u64 + 1, 0));
            report.delivered
        })
    });
    let delivered: u64 = threads.into_iter().map(|thread| thread.join().expect("it delivers")).sum();
    assert_eq!(kafka.counts("sessions").iter().sum::<usize>() as u64, delivered);
    let log = kafka.log(1);
    assert!(!log.contains("Failed authentication") && !log.contains("Failed re-authentication"), "{log}");
}

fn start_pipe(kafka: &RealKafka, mechanism: &str, secret: &str) -> Child {
    Command::new(example("pipe"))
        .args(["--bootstrap", &kafka.sasl_address(), "--topic", mechanism, "--sasl-over-plaintext"])
        .args(["--sasl-mechanism", mechanism, "--sasl-username", "ann"])
        .env("OTTLA_SASL_PASSWORD", secret)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("pipe starts")
}

/// A token that nobody signed, which ends after so many seconds.
pub fn token(subject: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let claims = format!(r#"{{"sub":"{subject}","exp":{}}}"#, now + seconds);
    format!("{}.{}.", base64(br#"{"alg":"none"}"#), base64(claims.as_bytes()))
}

/// For URLs, and without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|three| {
        let number = (0..3).fold(0_u32, |number, at| number << 8 | u32::from(*three.get(at).unwrap_or(&0)));
        (0..=three.len()).map(move |at| LETTERS[(number >> (18 - 6 * at)) as usize & 63] as char)
    });
    digits.collect()
}

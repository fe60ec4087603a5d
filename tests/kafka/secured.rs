//! Logins over encrypted connections (SASL_SSL) to real brokers: every mechanism, with sessions that end and a leader that
//! is killed meanwhile.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::certificates::{Authority, Leaf};
use crate::delivery::assert_numbers_in_order;
use crate::fixture::{PASSWORD, RealKafka};
use crate::logins::token;
use crate::run::{account, example, fresh_file, text};
use crate::tls::settings;

const MECHANISMS: [&str; 4] = ["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"];
const COUNT: usize = 100_000;
/// A session's lifetime: a client logs in again before that.
const LIFETIME: &str = "connections.max.reauth.ms=1500";
/// Twenty lifetimes.
const DURATION: Duration = Duration::from_secs(32);
/// A part of the lines goes in each of so many steps.
const STEPS: usize = 200;

/// Ten sessions and more end while the lines go in, and the leader of a partition is killed among them.
#[test]
fn lines_are_complete_and_in_order_while_sessions_end_and_a_leader_is_killed() {
    let authority = Authority::new("root");
    let mut lines = settings(&authority.issue(&Leaf::default()), None);
    lines.push(LIFETIME.to_owned());
    let mut kafka = RealKafka::start_secured(3, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let ca = fresh_file("secured-ca");
    fs::write(&ca, authority.pem()).expect("it can be written");
    for mechanism in MECHANISMS {
        kafka.create_placed_topic(mechanism, "1:2:3,2:3:1,3:1:2", &[]);
        kafka.wait_until_whole(mechanism, 3);
    }
    let began = Instant::now();
    let feeds = MECHANISMS.map(|mechanism| {
        let mut pipe = start_pipe(&kafka, mechanism, text(&ca));
        thread::spawn(move || {
            let mut input = pipe.stdin.take().expect("piped");
            // Its log is read while it runs, so that it never waits for that.
            let output = thread::spawn(move || pipe.wait_with_output().expect("pipe ends"));
            for step in 0..STEPS {
                let numbers = step * COUNT / STEPS..(step + 1) * COUNT / STEPS;
                let part: String = numbers.map(|number| format!("{number}\n")).collect();
                input.write_all(part.as_bytes()).expect("pipe reads");
                let next = began + DURATION * (step as u32 + 1) / STEPS as u32;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            drop(input);
            output.join().expect("it ends")
        })
    });
    thread::sleep(DURATION / 4);
    kafka.kill(1);
    thread::sleep(DURATION / 4);
    kafka.restart(1);
    for (mechanism, feed) in MECHANISMS.iter().zip(feeds) {
        let output = feed.join().expect("the lines are fed");
        let log = String::from_utf8_lossy(&output.stderr);
        let count = COUNT as u64;
        assert_eq!(account(&output), [count, count, count, 0, 0, 0], "{mechanism}: {log}");
        assert_numbers_in_order(&kafka.read_all(mechanism), COUNT);
        let renewals = log.matches("the session is near its end").count();
        println!("{mechanism}: {renewals} sessions were renewed");
        assert!(renewals >= 10, "{mechanism}: {log}");
    }
    fs::remove_file(ca).expect("it is there");
    for node in 1..=3 {
        let log = kafka.log(node);
        assert!(!log.contains("Failed authentication") && !log.contains("Failed re-authentication"), "{log}");
    }
}

/// A connection that Kafka closes because it was idle costs nothing, and nobody is told.
#[test]
fn a_connection_that_was_idle_for_too_long_is_made_anew_without_a_word() {
    let authority = Authority::new("root");
    let mut lines = settings(&authority.issue(&Leaf::default()), None);
    lines.push("connections.max.idle.ms=1000".to_owned());
    let kafka = RealKafka::start_secured(1, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    kafka.create_topic("idle", 1, &[]);
    let ca = fresh_file("idle-ca");
    fs::write(&ca, authority.pem()).expect("it can be written");
    let mut pipe = start_pipe(&kafka, "idle", text(&ca));
    let mut input = pipe.stdin.take().expect("piped");
    for number in 0..3 {
        if number > 0 {
            thread::sleep(Duration::from_secs(3));
        }
        writeln!(input, "{number}").expect("pipe reads");
    }
    drop(input);
    let output = pipe.wait_with_output().expect("pipe ends");
    fs::remove_file(ca).expect("it is there");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(account(&output), [3, 3, 3, 0, 0, 0], "{log}");
    assert!(log.matches(": connected").count() >= 3, "no connection was closed, this shows nothing: {log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    assert_numbers_in_order(&kafka.read_all("idle"), 3);
}

/// Writes lines to a topic; the mechanism is that of the topic's name, or PLAIN.
fn start_pipe(kafka: &RealKafka, topic: &str, ca: &str) -> Child {
    let mechanism = if MECHANISMS.contains(&topic) { topic } else { "plain" };
    let secret = if mechanism == "oauthbearer" { token("ann", 3600) } else { PASSWORD.to_owned() };
    Command::new(example("pipe"))
        .args(["--bootstrap", &kafka.secured_bootstrap(), "--topic", topic, "--ca-file", ca])
        .args(["--sasl-mechanism", mechanism, "--sasl-username", "ann"])
        .env("OTTLA_SASL_PASSWORD", secret)
        .env("RUST_LOG", "ottla=debug")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pipe starts")
}

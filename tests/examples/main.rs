//! The example programs, run as users run them.

// Programs run on the real clock, and so do their tests.
#![expect(clippy::disallowed_methods, reason = "these tests wait for processes")]
#![cfg(unix)]

#[cfg(feature = "_tls")]
#[path = "../certificates/mod.rs"]
#[expect(dead_code, reason = "the unit tests use all of it")]
mod certificates;
mod pipe;
mod run;

use std::process::{Command, Output, Stdio};

#[cfg(feature = "_tls")]
use ottla::crypto;
use run::example;

#[test]
fn quickstart_proves_that_its_messages_arrived() {
    let output = output_of("quickstart", &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(last_line(&output), "delivered 10000 of 10000");
}

#[test]
fn producer_perf_ends_with_its_account() {
    for way in [&["--callback"][..], &["--handles", "--keyed"], &["--sync"], &["--latency"], &["--threads=3"]] {
        let output = output_of("producer_perf", &[&["--count", "1000"], way].concat());
        assert!(output.status.success(), "{way:?}: {}", String::from_utf8_lossy(&output.stderr));
        let account = last_line(&output);
        assert!(account.starts_with("{\"peer\":\"ottla\",\"n\":1000,"), "{way:?}: {account}");
        assert!(account.contains("\"failed\":0"), "{way:?}: {account}");
    }
}

#[test]
fn bad_usage_has_a_status_of_its_own_and_help_goes_to_standard_output() {
    for name in ["quickstart", "producer_perf", "pipe"] {
        let help = output_of(name, &["--help"]);
        assert!(help.status.success() && help.stderr.is_empty(), "{name}");
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(text.contains(&format!("usage: {name}")), "{name}");
        let options: Vec<&str> = text.lines().filter(|line| line.trim_start().starts_with("--")).collect();
        assert!(options.iter().all(|line| line.starts_with("  --")), "{name}: {options:#?}");
        for wrong in [&["--colour"][..], &["--bootstrap"], &["what"]] {
            let output = output_of(name, wrong);
            assert_eq!(output.status.code(), Some(2), "{name} {wrong:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.starts_with(&format!("{name}: ")) && said.contains(wrong[0]), "{name} {wrong:?}: {said}");
            assert!(said.ends_with("Try --help.\n") && output.stdout.is_empty(), "{name} {wrong:?}: {said}");
        }
    }
    for (arguments, word) in [
        (&["--threads", "0"][..], "at least 1"),
        (&["--acks", "2"], "--acks 2"),
        (&["--count", "many"], "--count many"),
        (&["--compression", "lz4"], "no codec"),
        (&["--sync", "--callback"], "--sync"),
        (&["--latency", "--threads", "2"], "--latency"),
    ] {
        let output = output_of("producer_perf", arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(word), "{arguments:?} should name {word}: {said}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_standard_output_that_takes_nothing_is_a_failure_and_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    for (name, arguments) in [
        ("quickstart", &[][..]),
        ("quickstart", &["--help"]),
        ("producer_perf", &["--count", "1000"]),
        ("producer_perf", &["--help"]),
        ("pipe", &["--bootstrap", "127.0.0.1:9", "--topic", "nowhere"]),
        ("pipe", &["--help"]),
    ] {
        for stderr in [Stdio::piped(), Stdio::from(full())] {
            let mut command = Command::new(example(name));
            command.args(arguments).stdin(Stdio::null()).stdout(full()).stderr(stderr);
            let output = command.spawn().and_then(|child| child.wait_with_output()).expect("it starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{name} {arguments:?}: {said}");
            assert!(said.is_empty() || said.contains(": standard output: "), "{name} {arguments:?}: {said}");
        }
    }
}

fn output_of(name: &str, arguments: &[&str]) -> Output {
    Command::new(example(name)).args(arguments).stdin(Stdio::null()).output().expect("it starts")
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

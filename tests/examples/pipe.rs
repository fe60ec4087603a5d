//! `pipe` with the in-process cluster, or with nobody to send to.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use ottla::testing::Cluster;

use crate::run::{account, example, fresh_file, pipe, signal, start_pipe, text};

#[test]
fn keys_and_values_arrive_in_order() {
    let cluster = Cluster::start().expect("it starts");
    let input: String = (0..5_000).map(|number| format!("user {}:{number}\n", number % 10)).collect();
    let arguments = ["--key-separator=:", "--partitioner", "murmur2"];
    let output = pipe(&cluster.bootstrap(), "lines", &arguments, input.as_bytes());
    assert_eq!(account(&output), [5_000, 5_000, 5_000, 0, 0, 0]);
    assert!(output.status.success());
    let messages = cluster.messages("lines");
    for user in 0..10 {
        let key = format!("user {user}");
        let of_user = messages.iter().filter(|message| message.key_str() == Some(&key));
        let numbers: Vec<usize> = of_user.filter_map(|message| message.value_str()?.parse().ok()).collect();
        assert!(numbers.iter().copied().eq((user..5_000).step_by(10)), "{numbers:?}");
    }
}

/// What it said on standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
#[cfg(not(feature = "_tls"))]
fn a_build_without_tls_says_so() {
    let output = pipe("127.0.0.1:9", "lines", &["--tls"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--features tls"), "{}", said(&output));
}

#[test]
#[cfg(feature = "_tls")]
fn lines_arrive_over_tls_with_a_client_certificate() {
    use crate::certificates::{Authority, Leaf};
    use ottla::testing::BrokerTls;

    let authority = Authority::new("root");
    let broker = authority.issue(&Leaf::default());
    let tls = BrokerTls::new(&broker.certificates, &broker.key).client_ca(authority.pem());
    let cluster = Cluster::builder().tls(tls).start().expect("it starts");
    let own = authority.issue(&Leaf { for_servers: false, ..Leaf::default() });
    let files = [("ca", authority.pem()), ("cert", own.certificates), ("key", own.key)].map(|(name, pem)| {
        let file = fresh_file(name);
        fs::write(&file, pem).expect("it can be written");
        (format!("--{name}-file"), text(&file).to_owned())
    });
    let arguments: Vec<&str> = files.iter().flat_map(|(option, file)| [&**option, &**file]).collect();
    let input: String = (0..5_000).map(|number| format!("{number}\n")).collect();
    let output = pipe(&cluster.bootstrap(), "lines", &arguments, input.as_bytes());
    assert_eq!(account(&output), [5_000, 5_000, 5_000, 0, 0, 0], "{}", said(&output));
    for (option, file) in &files {
        fs::remove_file(file).expect("it is there");
        let output = pipe(&cluster.bootstrap(), "lines", &arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{option}");
        assert!(said(&output).contains(file.as_str()), "{}", said(&output));
        fs::write(file, "").expect("it can be written");
    }
    for (_, file) in &files {
        fs::remove_file(file).expect("it is there");
    }
}

#[test]
fn a_signal_delivers_what_was_read_while_the_input_stays_open() {
    let cluster = Cluster::start().expect("it starts");
    for name in ["INT", "TERM", "HUP"] {
        let mut pipe = start_pipe(&cluster.bootstrap(), name, &["--delivery-threshold=1"]);
        let mut stdin = pipe.stdin.take().expect("piped");
        stdin.write_all(b"0\n1\n2\n").expect("pipe reads");
        // It has read them, so it has begun to listen for signals.
        cluster.wait_for(name, 3, Duration::from_secs(20)).expect("they were read");
        signal(&pipe, name);
        let output = pipe.wait_with_output().expect("pipe ends");
        drop(stdin);
        assert_eq!(account(&output), [3, 3, 3, 0, 0, 0], "{name}");
        assert!(output.status.success(), "{name}");
    }
}

#[test]
fn lines_around_the_limit_all_end_in_the_cluster_or_in_the_file() {
    let cluster = Cluster::start().expect("it starts");
    let file = fresh_file("limit");
    let lines: Vec<Vec<u8>> = [3, 1, 40, 200, 5, 127, 128, 129, 0, 65_536, 2, 200_000, 7]
        .map(|len| vec![b'a' + (len % 26) as u8; len])
        .into();
    let input = lines.join(&b'\n');
    let arguments = ["--max-message-bytes", "128", "--undelivered", text(&file)];
    let output = pipe(&cluster.bootstrap(), "limit", &arguments, &input);
    assert_eq!(account(&output), [13, 7, 7, 6, 0, 0]);
    assert_eq!(output.status.code(), Some(1));
    let mut ended: Vec<Vec<u8>> =
        cluster.messages("limit").iter().map(|message| message.value.clone().unwrap_or_default()).collect();
    let kept = fs::read(&file).expect("written");
    fs::remove_file(&file).expect("it was there");
    ended.extend(kept.strip_suffix(b"\n").expect("a last line").split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    let mut expected = lines;
    ended.sort_unstable();
    expected.sort_unstable();
    assert!(ended == expected, "{:?}", ended.iter().map(Vec::len).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("line 4 has 200 bytes") && said.contains("--max-message-bytes 128"), "{said}");
}

#[test]
fn a_line_that_the_producer_refuses_is_told_by_its_number() {
    let arguments = ["--max-message-bytes", "200", "--shutdown-timeout-ms", "0"];
    let input = [&b"short\n"[..], &[b'x'; 190], b"\n"].concat();
    let output = pipe(NOBODY, "nowhere", &arguments, &input);
    assert_eq!(account(&output), [2, 1, 0, 1, 1, 0]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("line 2: ") && said.contains("above max_message_bytes (200)"), "{said}");
}

#[test]
fn without_a_standard_input_nothing_is_read() {
    let command = r#"exec "$0" "$@" <&-"#;
    let output = Command::new("sh")
        .args(["-c", command, text(&example("pipe")), "--bootstrap", NOBODY, "--topic", "nowhere"])
        .output()
        .expect("sh exists");
    assert_eq!(account(&output), [0; 6]);
    assert!(output.status.success());
}

#[test]
fn a_hangup_keeps_all_that_was_read_unless_it_is_ignored() {
    let input: String = (0..500).map(|number| format!("{number}\n")).collect();
    let file = fresh_file("hangup");
    let arguments = ["--shutdown-timeout-ms", "200", "--undelivered", text(&file)];
    let mut pipe = start_pipe(NOBODY, "nowhere", &arguments);
    let mut stdin = pipe.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("pipe reads");
    thread::sleep(Duration::from_secs(1));
    signal(&pipe, "HUP");
    assert_eq!(account(&pipe.wait_with_output().expect("pipe ends")), [500, 500, 0, 0, 500, 0]);
    let mut kept: Vec<usize> =
        fs::read_to_string(&file).expect("written").lines().map(|line| line.parse().expect("a number")).collect();
    kept.sort_unstable();
    assert!(kept.into_iter().eq(0..500));

    let command = r#"trap "" HUP; exec "$0" "$@""#;
    let mut ignoring = Command::new("sh")
        .args(["-c", command, text(&example("pipe")), "--bootstrap", NOBODY, "--topic", "nowhere"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh exists");
    thread::sleep(Duration::from_secs(1));
    signal(&ignoring, "HUP");
    thread::sleep(Duration::from_secs(1));
    assert!(ignoring.try_wait().expect("it can be asked").is_none(), "it goes on");
    signal(&ignoring, "TERM");
    assert_eq!(account(&ignoring.wait_with_output().expect("pipe ends")), [0; 6]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_line_without_an_end_takes_little_memory_and_is_kept() {
    const BYTES: usize = 300_000_000;
    let file = fresh_file("endless");
    let arguments = ["--shutdown-timeout-ms", "200", "--undelivered", text(&file)];
    let mut pipe = start_pipe(NOBODY, "nowhere", &arguments);
    let mut stdin = pipe.stdin.take().expect("piped");
    stdin.write_all(b"before\n").expect("pipe reads");
    let piece = vec![b'x'; 1_000_000];
    (0..BYTES / piece.len()).for_each(|_| stdin.write_all(&piece).expect("pipe reads"));
    let status = fs::read_to_string(format!("/proc/{}/status", pipe.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    stdin.write_all(b"\nbehind\n").expect("pipe reads");
    drop(stdin);
    let output = pipe.wait_with_output().expect("pipe ends");
    assert!(peak < 32 * 1024, "{peak} KiB");
    assert_eq!(account(&output), [3, 2, 0, 1, 2, 0]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("line 2 has 300000000 bytes") && said.contains("break it up"), "{said}");
    let kept = fs::read(&file).expect("written");
    fs::remove_file(&file).expect("it was there");
    let mut lines: Vec<_> = kept.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect();
    lines.sort_unstable();
    assert_eq!(lines, [7, 7, BYTES + 1], "the whole line, and no other one in it");
}

#[test]
fn a_full_queue_drops_or_ends_the_run_as_asked() {
    let input: String = (0..300).map(|number| format!("{number}\n")).collect();
    let file = fresh_file("drop");
    let arguments = ["--max-queue-size", "100", "--shutdown-timeout-ms", "500", "--undelivered", text(&file)];
    let drop = [&arguments[..], &["--on-overflow", "drop"]].concat();
    assert_eq!(account(&pipe(NOBODY, "nowhere", &drop, input.as_bytes())), [300, 100, 0, 0, 100, 200]);
    let fail = [&arguments[..], &["--on-overflow", "fail"]].concat();
    let output = pipe(NOBODY, "nowhere", &fail, input.as_bytes());
    let [read, accepted, delivered, failed, undelivered, overflowed] = account(&output);
    assert_eq!((accepted, delivered, failed, overflowed), (100, 0, 0, 1));
    assert_eq!(read, undelivered + 1);
    assert_eq!(output.status.code(), Some(1));
    // Both runs appended: first everything, then all that the second one read.
    let lines = fs::read_to_string(&file).expect("written").lines().count() as u64;
    assert_eq!(lines, 300 + read);
}

#[test]
fn bad_usage_says_what_is_wrong() {
    let usage = |arguments: &[&str]| {
        let output = Command::new(example("pipe")).args(arguments).stdin(Stdio::null()).output().expect("pipe starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let base = ["--bootstrap", "127.0.0.1:9092", "--topic", "t"];
    for (arguments, word) in [
        (&["--topic", "t"][..], "--bootstrap"),
        (&base[..2], "--topic"),
        (&[&base[..], &["--acks", "2"]].concat(), "--acks"),
        (&[&base[..], &["--acks"]].concat(), "--acks"),
        (&[&base[..], &["--idempotent=perhaps"]].concat(), "--idempotent perhaps"),
        (&[&base[..], &["lines.txt"]].concat(), "lines.txt"),
        (&[&base[..], &["--colour", "red"]].concat(), "--colour"),
        (&[&base[..], &["--max-queue-size", "-1"]].concat(), "--max-queue-size"),
        (&[&base[..], &["--max-queue-size", "0"]].concat(), "max_queue_size"),
        (&[&base[..], &["--acks", "0", "--idempotent", "true"]].concat(), "idempotent"),
        (&["--bootstrap", "127.0.0.1:9092", "--topic", "no topic"], "no topic"),
        (&[&base[..], &["--undelivered", "/no/such/folder/file"]].concat(), "--undelivered"),
    ] {
        let (code, text) = usage(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?} should name {word}: {text}");
    }
    assert_eq!(usage(&["--help"]), (Some(0), String::new()));
    assert_eq!(usage(&["-h"]), (Some(0), String::new()));
}

/// Nothing listens there.
const NOBODY: &str = "127.0.0.1:9";

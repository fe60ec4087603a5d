//! The example programs against real Kafka, run as users run them; `tests/examples` has what needs no Kafka.

use std::fs;
use std::io::{BufWriter, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::delivery::assert_numbers_in_order;
use crate::fixture::RealKafka;
use crate::run::{account, example, fresh_file, pipe, signal, start_pipe, text};
use crate::tools;

#[test]
fn a_million_lines_are_complete_and_in_order() {
    const COUNT: usize = 1_000_000;
    let kafka = RealKafka::shared();
    kafka.create_topic("million", 3, &[]);
    let mut pipe = start_pipe(&kafka.bootstrap(), "million", &[]);
    let mut input = BufWriter::new(pipe.stdin.take().expect("piped"));
    for number in 0..COUNT {
        writeln!(input, "{number}").expect("pipe reads");
    }
    drop(input);
    let output = pipe.wait_with_output().expect("pipe ends");
    assert_eq!(account(&output), [1_000_000, 1_000_000, 1_000_000, 0, 0, 0]);
    assert!(output.status.success());
    assert_numbers_in_order(&kafka.read_all("million"), COUNT);
}

#[test]
fn keys_keep_their_lines_in_order() {
    let kafka = RealKafka::shared();
    kafka.create_topic("keyed-lines", 3, &[]);
    let arguments = ["--key-separator", ":", "--partitioner", "murmur2", "--delivery-interval-ms", "20"];
    let input: String = (0..5_000).map(|number| format!("user {}:{number}\n", number % 10)).collect();
    let output = pipe(&kafka.bootstrap(), "keyed-lines", &arguments, input.as_bytes());
    assert_eq!(account(&output), [5_000, 5_000, 5_000, 0, 0, 0]);
    let records = kafka.read_all("keyed-lines");
    assert_numbers_in_order(&records, 5_000);
    for record in &records {
        let number: usize = record.text().parse().expect("a number");
        assert_eq!(record.key.as_deref(), Some(format!("user {}", number % 10).as_bytes()));
    }
}

#[test]
fn a_threshold_and_an_interval_out_of_reach_deliver_at_the_end_of_the_input() {
    let kafka = RealKafka::shared();
    kafka.create_topic("out-of-reach", 1, &[]);
    let arguments = ["--delivery-threshold", "1000000000", "--delivery-interval-ms", "86400000"];
    let input: String = (0..25).map(|number| format!("{number}\n")).collect();
    let output = pipe(&kafka.bootstrap(), "out-of-reach", &arguments, input.as_bytes());
    assert_eq!(account(&output), [25, 25, 25, 0, 0, 0]);
    assert_numbers_in_order(&kafka.read_all("out-of-reach"), 25);
}

#[test]
fn bytes_that_are_no_text_are_lines_and_too_long_lines_are_kept() {
    let kafka = RealKafka::shared();
    kafka.create_topic("bytes", 1, &[]);
    let file = fresh_file("bytes");
    let long = vec![b'x'; 1_500_000];
    let input = [&b"\xff\xfe\r\n\n"[..], &long, b"\nlast"].concat();
    let output = pipe(&kafka.bootstrap(), "bytes", &["--undelivered", text(&file)], &input);
    assert_eq!(account(&output), [4, 3, 3, 1, 0, 0]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read(&file).expect("written"), [&long[..], b"\n"].concat());
    let records = kafka.read_all("bytes");
    let values: Vec<_> = records.iter().map(|record| record.value.as_deref().expect("a value")).collect();
    assert_eq!(values, [&b"\xff\xfe\r"[..], b"", b"last"]);
}

#[test]
fn a_broker_that_is_away_for_ten_seconds_costs_nothing() {
    const COUNT: usize = 200_000;
    let mut kafka = RealKafka::start(1);
    kafka.create_topic("away", 3, &[]);
    let mut pipe = start_pipe(&kafka.bootstrap(), "away", &["--max-queue-size", "20000"]);
    let mut stdin = BufWriter::new(pipe.stdin.take().expect("piped"));
    let feeder = thread::spawn(move || {
        for number in 0..COUNT {
            writeln!(stdin, "{number}").expect("pipe reads");
            // 10,000 a second: the queue is full for a part of the outage.
            if number % 100 == 0 {
                stdin.flush().expect("pipe reads");
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    thread::sleep(Duration::from_secs(3));
    assert!(kafka.counts("away").iter().sum::<usize>() > 0, "the run has begun");
    kafka.stop(1);
    thread::sleep(Duration::from_secs(10));
    assert!(!feeder.is_finished(), "the outage is in the middle of the run");
    kafka.restart(1);
    feeder.join().expect("all was read");
    let output = pipe.wait_with_output().expect("pipe ends");
    let count = COUNT as u64;
    assert_eq!(account(&output), [count, count, count, 0, 0, 0]);
    let records = kafka.read_all("away");
    assert_eq!(records.len(), COUNT, "nothing is there twice");
    assert_numbers_in_order(&records, COUNT);
}

#[test]
fn a_signal_delivers_what_was_read() {
    let kafka = RealKafka::shared();
    let arguments = ["--delivery-threshold", "0", "--delivery-interval-ms", "0"];
    for name in ["INT", "TERM", "HUP"] {
        let topic = format!("signal-{name}");
        kafka.create_topic(&topic, 1, &[]);
        let mut pipe = start_pipe(&kafka.bootstrap(), &topic, &arguments);
        let mut stdin = pipe.stdin.take().expect("piped");
        stdin.write_all(b"0\n1\n2\n").expect("pipe reads");
        thread::sleep(Duration::from_secs(1));
        signal(&pipe, name);
        let began = Instant::now();
        let output = pipe.wait_with_output().expect("pipe ends");
        assert!(began.elapsed() < Duration::from_secs(10), "the open input does not hold it up");
        drop(stdin);
        assert_eq!(account(&output), [3, 3, 3, 0, 0, 0], "{name}");
        assert!(output.status.success());
        assert_numbers_in_order(&kafka.read_all(&topic), 3);
    }
}

#[test]
fn what_a_second_signal_leaves_can_be_piped_in_again() {
    let mut kafka = RealKafka::start(1);
    kafka.create_topic("second-signal", 1, &[]);
    kafka.stop(1);
    let file = fresh_file("second-signal");
    let arguments = ["--max-queue-size", "100", "--key-separator", "=", "--undelivered", text(&file)];
    let mut pipe = start_pipe(&kafka.bootstrap(), "second-signal", &arguments);
    let mut stdin = pipe.stdin.take().expect("piped");
    let input: String = (0..300).map(|number| format!("k={number}\n")).collect();
    stdin.write_all(input.as_bytes()).expect("pipe reads");
    thread::sleep(Duration::from_secs(2));
    signal(&pipe, "TERM");
    thread::sleep(Duration::from_secs(1));
    assert!(pipe.try_wait().expect("pipe can be asked").is_none(), "the first signal waits for the broker");
    signal(&pipe, "TERM");
    let began = Instant::now();
    let output = pipe.wait_with_output().expect("pipe ends");
    assert!(began.elapsed() < Duration::from_secs(3), "the second signal does not");
    let [read, accepted, delivered, failed, undelivered, overflowed] = account(&output);
    assert_eq!((read, delivered, failed, undelivered, overflowed), (300, 0, 0, 300, 0));
    assert!(accepted >= 100, "the queue took what it had room for: {accepted}");
    assert_eq!(output.status.code(), Some(1));

    kafka.restart(1);
    let again = fs::read(&file).expect("written");
    let output = crate::run::pipe(&kafka.bootstrap(), "second-signal", &["--key-separator", "="], &again);
    assert_eq!(account(&output), [300, 300, 300, 0, 0, 0]);
    assert_numbers_in_order(&kafka.read_all("second-signal"), 300);
}

#[test]
fn quickstart_delivers_to_real_kafka() {
    let kafka = RealKafka::shared();
    let output = Command::new(example("quickstart"))
        .args(["--bootstrap", &kafka.bootstrap()])
        .output()
        .expect("quickstart starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().last(), Some("delivered 10000 of 10000"));
    assert_eq!(kafka.counts("quickstart").iter().sum::<usize>(), 10_000);
    let values = tools::read_all(&kafka.bootstrap(), "quickstart");
    let mut numbers: Vec<usize> =
        values.iter().map(|record| record.text().trim_start_matches("message ").parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..10_000));
}

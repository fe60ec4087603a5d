//! A process that may open no more descriptors: it says so, waits without spinning, and goes on when it may again.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ottla::{Client, ConnectionErrorKind, Message, ProduceErrorKind};

use crate::common::*;

#[test]
fn without_descriptors_it_waits_without_spinning_and_goes_on_when_there_are_some() {
    const CLUSTER: &str = "OTTLA_TEST_CLUSTER";
    let Ok(bootstrap) = std::env::var(CLUSTER) else {
        let cluster = cluster(1);
        let name = "descriptors::without_descriptors_it_waits_without_spinning_and_goes_on_when_there_are_some";
        let done = Command::new("sh")
            .args(["-c", "ulimit -n 24 && exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(CLUSTER, cluster.bootstrap())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && told.contains("1 passed"), "{told}\n{said}");
        assert_in_order(&cluster.messages("orders"), 4);
        return;
    };

    // With the pauses that users have.
    let client = Client::builder([&*bootstrap]).build().unwrap();
    let producer = client.async_producer().build().unwrap();
    let mut taken = take_all();
    // None for the worker's own: the message comes back, and nothing was started.
    let error = producer.produce(Message::new("orders", "0")).unwrap_err();
    let ProduceErrorKind::Start(why) = error.kind() else { panic!("{error}") };
    assert_eq!(why.raw_os_error(), Some(EMFILE), "{error}");
    assert!(error.to_string().contains(CURE), "{error}");
    let check = client.check(ms(200)).unwrap_err();
    assert!(check.to_string().contains("cannot look for brokers") && check.to_string().contains(CURE), "{check}");
    let mut sync = client.producer().build().unwrap();
    sync.produce(Message::new("orders", "lost")).unwrap();
    let failed = sync.deliver_messages().unwrap_err();
    assert!(failed.to_string().contains(CURE), "{failed}");
    drop(sync);

    // Enough for those and for a look at the worker, and none for a socket.
    taken.truncate(taken.len() - 6);
    assert_eq!(worker(), None);
    producer.produce(error.into_message()).unwrap();
    wait_until("the thread has its name", || worker().is_some());
    let worker = worker().unwrap();
    let mut status = File::open(worker.join("status")).unwrap();
    let mut stat = File::open("/proc/self/stat").unwrap();
    taken.extend(take_all());
    producer.deliver_messages();
    wait_until("it says so", || producer.last_error().is_some());
    let error = producer.last_error().unwrap();
    let ConnectionErrorKind::Connect(why) = &connection(&error).kind else { panic!("{error}") };
    assert_eq!(why.raw_os_error(), Some(EMFILE), "{error}");
    assert!(error.to_string().contains(&bootstrap) && error.to_string().contains(CURE), "{error}");
    let before = (wake_ups(&mut status), cpu_ticks(&mut stat));
    // Nothing happens here: that is what is measured.
    thread::sleep(Duration::from_millis(1500));
    let (woken, worked) = (wake_ups(&mut status) - before.0, cpu_ticks(&mut stat) - before.1);
    assert!(woken <= 30 && worked <= 10, "{woken} wake-ups, {worked} hundredths of a second of work");

    drop(taken);
    for n in 1..4 {
        producer.produce(Message::new("orders", n.to_string())).unwrap();
    }
    assert_eq!(producer.shutdown().unwrap().delivered, 4);
}

fn take_all() -> Vec<File> {
    std::iter::repeat_with(|| File::open("/dev/null")).map_while(Result::ok).collect()
}

/// What the system tells of the worker's thread.
fn worker() -> Option<PathBuf> {
    let mut tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "ottla-worker"))
}

/// How often the thread went to sleep and was woken.
fn wake_ups(status: &mut File) -> u64 {
    let status = read_again(status);
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// What this process worked, in hundredths of a second.
fn cpu_ticks(stat: &mut File) -> u64 {
    let stat = read_again(stat);
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn read_again(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

const CURE: &str = "no descriptors are left: raise their limit (ulimit -n), or close what is open";
const EMFILE: i32 = 24;

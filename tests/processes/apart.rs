//! A test that is two programs: one in a process of its own, one that looks at what it did.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ottla::testing::{Api, Cluster, ClusterBuilder, Fault, StoredMessage};
use ottla::{AsyncProducerBuilder, Client, Message};

/// Longer than anything here takes, on the slowest machine.
pub const LONG: Duration = Duration::from_secs(30);

/// Runs `program` in a process of its own with the brokers' address, and returns the cluster once it has succeeded:
/// nothing in that process. `test` is the path of the calling test.
pub fn apart(test: &str, program: impl FnOnce(&str)) -> Option<Cluster> {
    apart_from(test, |cluster| cluster, program)
}

/// As `apart`, from brokers that are described further.
pub fn apart_from(
    test: &str,
    describe: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    program: impl FnOnce(&str),
) -> Option<Cluster> {
    if let Ok(brokers) = std::env::var(BROKERS) {
        program(&brokers);
        return None;
    }
    let cluster = describe(Cluster::builder().topic("orders", 1)).start().unwrap();
    let (success, _, told) = watch(start(test, &cluster.bootstrap()));
    assert!(success && told.contains("1 passed"), "{test}: {told}");
    Some(cluster)
}

/// As `apart`, for a program that is stopped again and again, as with the lid of a laptop, each time for `stopped`, while
/// brokers answer Produce after `late`; and returns what it wrote, too.
pub fn apart_with_pauses(
    test: &str,
    (stopped, late): (Duration, Duration),
    program: impl FnOnce(&str),
) -> Option<(Cluster, String)> {
    if let Ok(brokers) = std::env::var(BROKERS) {
        program(&brokers);
        return None;
    }
    let cluster = Cluster::builder().topic("orders", 1).start().unwrap();
    let late = cluster.inject(Fault::on(Api::Produce).delay(late));
    let child = start(test, &cluster.bootstrap());
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    for _ in 0..PAUSES {
        thread::sleep(Duration::from_millis(400));
        kill(pid, Signal::SIGSTOP).unwrap();
        thread::sleep(stopped);
        kill(pid, Signal::SIGCONT).unwrap();
    }
    let (success, _, told) = watch(child);
    assert!(success && told.contains("1 passed"), "{test}: {told}");
    drop(late);
    Some((cluster, told))
}

/// As `apart`, for a program that ends its process in its own way, within a second of `leaving`. It runs three times.
pub fn apart_until_it_leaves(test: &str, program: impl FnOnce(&str)) -> Option<Cluster> {
    if let Ok(brokers) = std::env::var(BROKERS) {
        program(&brokers);
        return None;
    }
    let cluster = Cluster::builder().topic("orders", 1).start().unwrap();
    // The median of three, because the machine may be busy with something else.
    let mut took = [(); 3].map(|()| {
        let (_, took, told) = watch(start(test, &cluster.bootstrap()));
        took.unwrap_or_else(|| panic!("{test} never came to its end: {told}"))
    });
    took.sort_unstable();
    assert!(took[1] < Duration::from_secs(1), "{test} took {took:?} to leave");
    Some(cluster)
}

/// From here on the process must be gone within a second.
pub fn leaving() {
    println!("{LEAVING}");
}

pub fn builder(brokers: &str) -> AsyncProducerBuilder {
    let ms = Duration::from_millis;
    let client = Client::builder([brokers]).reconnect_backoff(ms(5)).reconnect_backoff_max(ms(40));
    client.build().unwrap().async_producer().retry_backoff(ms(5))
}

pub fn message(text: &str) -> Message<'_> {
    Message::new("orders", text)
}

pub fn values(messages: &[StoredMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.value_str().unwrap()).collect()
}

fn start(test: &str, brokers: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(BROKERS, brokers);
    // For the limit of threads_run_out, so large that other memory does not matter beside it.
    command.env("RUST_MIN_STACK", "67108864");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether it succeeded, how long it took to leave, and what it wrote. Kills it if it hangs.
fn watch(mut child: Child) -> (bool, Option<Duration>, String) {
    let (out, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reading = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let (send, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let began = Instant::now();
    let (mut told, mut left) = (String::new(), None);
    loop {
        let status = child.try_wait().unwrap();
        // After its end there is more to come only from the other thread.
        let news: Vec<_> = if status.is_some() { lines.iter().collect() } else { lines.try_iter().collect() };
        for line in news {
            if line.contains(LEAVING) {
                left = Some(Instant::now());
            }
            told += &format!("{line}\n");
        }
        if let Some(status) = status {
            return (status.success(), left.map(|left| left.elapsed()), told + &reading.join().unwrap());
        }
        if began.elapsed() > LONG {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it hangs: {told}{}", reading.join().unwrap());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// How often a program is stopped.
pub const PAUSES: u32 = 3;

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

const BROKERS: &str = "OTTLA_TEST_BROKERS";
const LEAVING: &str = "this process leaves now";

//! What Linux knows of this process and its threads.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Threads by number.
pub type Tids = BTreeSet<u32>;

/// What a thread has used since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub processor: Duration,
    /// How often it went to sleep, which is how often it was woken.
    pub wake_ups: u64,
}

/// The threads of ottla, of all producers.
pub fn ottla_threads() -> Tids {
    threads().into_iter().filter(|tid| name(*tid).is_some_and(|name| name.starts_with("ottla-"))).collect()
}

/// All threads.
pub fn threads() -> Tids {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

pub fn name(tid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/self/task/{tid}/comm")).ok().map(|name| name.trim().to_owned())
}

/// What the calling thread is to `used`.
pub fn own_tid() -> u32 {
    let link = fs::read_link("/proc/thread-self").expect("Linux 3.17");
    link.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number")
}

/// `None` if the thread has ended.
pub fn used(tid: u32) -> Option<Used> {
    // Nanoseconds on a processor, nanoseconds in a queue, turns.
    let schedule = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).ok()?;
    let status = fs::read_to_string(format!("/proc/self/task/{tid}/status")).ok()?;
    Some(Used {
        processor: Duration::from_nanos(schedule.split(' ').next()?.parse().ok()?),
        wake_ups: field(&status, "voluntary_ctxt_switches:")?,
    })
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Bytes of memory now.
pub fn resident() -> u64 {
    status("VmRSS:")
}

/// Bytes of memory at the worst moment so far.
pub fn resident_peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    field(&status, name).expect("a field of every process") * 1024
}

fn field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

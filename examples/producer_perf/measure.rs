//! The figures of a run: processor time, memory, latencies.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

/// A moment, and the processor time that this process had used by then.
#[derive(Clone, Copy)]
pub struct Mark {
    at: Instant,
    user: Duration,
    system: Duration,
}

impl Mark {
    pub fn now() -> Self {
        let (user, system) = processor_time();
        Self { at: Instant::now(), user, system }
    }

    /// The account from here until now, as one line of JSON.
    pub fn account(self, count: u64, size: usize, failed: u64, latencies: Option<&mut Vec<Duration>>) -> String {
        let end = Self::now();
        let mut line = format!(
            "{{\"peer\":\"ottla\",\"n\":{count},\"bytes\":{},\"wall_s\":{:.6},\"user_s\":{:.6},\"sys_s\":{:.6},\
             \"max_rss_kb\":{},\"failed\":{failed}",
            count * size as u64,
            (end.at - self.at).as_secs_f64(),
            (end.user - self.user).as_secs_f64(),
            (end.system - self.system).as_secs_f64(),
            peak_memory_kb(),
        );
        if let Some(latencies) = latencies {
            latencies.sort_unstable();
            for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
                // Writing to a string cannot fail.
                let _ = write!(line, ",\"{name}\":{:.1}", quantile(latencies, share).as_secs_f64() * 1e6);
            }
        }
        line.push('}');
        line
    }
}

/// The latency that this share of them does not exceed; they are sorted. Zero if there is none.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or_default()
}

/// User and system time.
#[cfg(unix)]
fn processor_time() -> (Duration, Duration) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Default::default() };
    let duration = |time: nix::sys::time::TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    (duration(usage.user_time()), duration(usage.system_time()))
}

/// Not known here.
#[cfg(not(unix))]
fn processor_time() -> (Duration, Duration) {
    Default::default()
}

/// The most memory that this process ever had, in KiB; 0 where the system does not say.
fn peak_memory_kb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

//! What is measured of a run, and how.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What a run of a client took.
#[derive(Clone, Debug)]
pub struct Figures {
    pub messages_per_second: f64,
    /// User and system time of the client.
    pub cpu_us_per_message: f64,
    /// Of the client, from its start; 0 where the system does not say.
    pub peak_mb: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages_per_second, cpu_us_per_message, peak_mb } = self;
        write!(f, "{messages_per_second:.0} messages/s, {cpu_us_per_message:.3} us/message, {peak_mb:.1} MB")
    }
}

impl FromStr for Figures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split(", ").map(|part| part.split(' ').next().unwrap_or_default().parse());
        let numbers: Vec<f64> = numbers.collect::<Result<_, _>>().map_err(|_| format!("not figures: {text:?}"))?;
        let [messages_per_second, cpu_us_per_message, peak_mb] = numbers[..] else {
            return Err(format!("not figures: {text:?}"));
        };
        Ok(Self { messages_per_second, cpu_us_per_message, peak_mb })
    }
}

/// The median of each figure by itself.
pub fn medians(runs: Vec<Figures>) -> Figures {
    let median = |figure: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = runs.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
    };
    Figures {
        messages_per_second: median(|run| run.messages_per_second),
        cpu_us_per_message: median(|run| run.cpu_us_per_message),
        peak_mb: median(|run| run.peak_mb),
    }
}

/// The moment from which a run counts.
pub struct Mark {
    at: Instant,
    cpu_us: i64,
}

impl Mark {
    pub fn now() -> Result<Self, nix::Error> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let cpu_us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Ok(Self { at: Instant::now(), cpu_us })
    }

    /// What so many messages took since.
    pub fn figures(&self, count: u64) -> Result<Figures, nix::Error> {
        let now = Self::now()?;
        Ok(Figures {
            messages_per_second: count as f64 / (now.at - self.at).as_secs_f64(),
            cpu_us_per_message: (now.cpu_us - self.cpu_us) as f64 / count as f64,
            peak_mb: peak_kb() / 1024.0,
        })
    }
}

/// Not that of `getrusage`, which begins with what the parent had.
fn peak_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0.0)
}

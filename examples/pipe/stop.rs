//! When to stop: the end of the input, signals, and the time that is left after them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether the program goes on, ends in order, or gives up.
pub struct Stop {
    signal: Arc<AtomicBool>,
    state: State,
    shutdown_timeout: Option<Duration>,
}

#[derive(Clone, Copy)]
enum State {
    Running,
    /// Until the time given, or without limit.
    Ending(Option<Instant>),
    GivenUp,
}

impl Stop {
    /// Catches SIGINT, SIGTERM and SIGHUP, but none that is ignored, as `nohup` has it. Whoever waits looks at
    /// [`Stop::ending`] every [`LOOK`].
    ///
    /// SIGQUIT is for who wants a core dump now, and keeps its meaning.
    pub fn on_signals(shutdown_timeout: Option<Duration>) -> io::Result<Self> {
        let signal = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
            for number in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|number| !is_ignored(*number)) {
                signal_hook::flag::register(number, Arc::clone(&signal))?;
            }
        }
        Ok(Self { signal, state: State::Running, shutdown_timeout })
    }

    /// The input ended, or nothing more is to be read: the time for the shutdown begins.
    pub fn end(&mut self) {
        if let State::Running = self.state {
            // A time too far for the clock is no limit.
            let until = self.shutdown_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            self.state = State::Ending(until);
        }
    }

    /// Whether nothing more is to be read.
    pub fn ending(&mut self) -> bool {
        self.look();
        !matches!(self.state, State::Running)
    }

    /// Whether it is time to give up: a second signal came, or the time for the shutdown has passed.
    pub fn given_up(&mut self) -> bool {
        self.look();
        matches!(self.state, State::GivenUp)
    }

    fn look(&mut self) {
        if self.signal.swap(false, Ordering::Relaxed) {
            match self.state {
                State::Running => self.end(),
                State::Ending(_) | State::GivenUp => self.state = State::GivenUp,
            }
        }
        if matches!(self.state, State::Ending(Some(until)) if until <= Instant::now()) {
            self.state = State::GivenUp;
        }
    }
}

/// Whether this process was started with the signal ignored. Only Linux tells without `unsafe`; elsewhere it is caught.
#[cfg(unix)]
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & 1 << (number - 1) != 0
}

/// The longest wait that does not look at the signals.
pub const LOOK: Duration = Duration::from_millis(50);

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
    /// Catches SIGINT and SIGTERM. Whoever waits looks at [`Stop::ending`] every [`LOOK`].
    pub fn on_signals(shutdown_timeout: Option<Duration>) -> io::Result<Self> {
        let signal = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(number, Arc::clone(&signal))?;
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

/// The longest wait that does not look at the signals.
pub const LOOK: Duration = Duration::from_millis(50);

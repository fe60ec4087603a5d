//! One line in the log for an incident, however often it repeats.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// What was said of errors that are met again and again while messages wait.
#[derive(Debug, Default)]
pub struct Told {
    last: Option<Instant>,
    /// Errors that were not said since.
    untold: u32,
}

/// How long an incident that goes on is not spoken of again.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

impl Told {
    /// The line to log for this error, or `None` while one was logged not long ago.
    pub fn line(&mut self, error: impl Display, now: Instant) -> Option<String> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        match std::mem::take(&mut self.untold) {
            0 => Some(error.to_string()),
            untold => Some(format!("{error} (and {untold} more errors since the last line)")),
        }
    }

    /// Messages are delivered again: the next error is another incident.
    pub fn over(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_has_a_line_and_then_one_now_and_then() {
        let start = crate::engine::test_clock();
        let mut told = Told::default();
        let lines: Vec<String> = (0..250)
            .filter_map(|tenth| told.line(format_args!("error {tenth}"), start + Duration::from_millis(100 * tenth)))
            .collect();
        assert_eq!(
            lines,
            [
                "error 0",
                "error 100 (and 99 more errors since the last line)",
                "error 200 (and 99 more errors since the last line)"
            ]
        );
        told.over();
        assert_eq!(told.line("another", start), Some("another".to_owned()));
    }
}

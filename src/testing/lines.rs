//! LogLines for the log, kept until the cluster's state is not locked any more: a logger may call the cluster.

use std::fmt;
use std::mem;

use log::Level;

/// LogLines in their order, without those that nobody would read.
#[derive(Clone, Debug, Default)]
pub(super) struct LogLines(Vec<(Level, String)>);

impl LogLines {
    /// Keeps a line. Never calls the logger.
    pub fn note(&mut self, level: Level, line: fmt::Arguments<'_>) {
        if level <= log::max_level() {
            // A test that drives the cluster without its server takes no lines.
            if self.0.len() >= MOST {
                self.0.clear();
            }
            self.0.push((level, line.to_string()));
        }
    }

    /// The lines, if there are any.
    pub fn take(&mut self) -> Option<Self> {
        (!self.0.is_empty()).then(|| mem::take(self))
    }

    /// Writes them.
    pub fn write(self) {
        for (level, line) in self.0 {
            log::log!(level, "{line}");
        }
    }
}

const MOST: usize = 1000;

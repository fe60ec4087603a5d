//! Every error a user can meet, and what each says to do.
//!
//! Plain data. Display is one line, lower case, without a full stop; `source()` leads to the cause.

use std::fmt;

mod check;
mod config;
mod connection;
mod delivery;
mod produce;

pub use check::{CheckError, ClusterInfo};
pub use config::{ConfigError, ConfigProblem, InvalidAddress};
pub use connection::{Advertised, ApiRange, BrokerError, ConnectionError, ConnectionErrorKind, Speaks};
pub use delivery::{DeliveryError, DeliveryErrorKind, Persistence};
pub use produce::{BufferOverflow, FatalError, InvalidTopic, ProduceError, ProduceErrorKind};

/// A foreign text as part of an error's single line: words with one space between, no control characters.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.split(|c: char| c.is_whitespace() || c.is_control());
        for (index, word) in words.filter(|word| !word.is_empty()).enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fmt::Display;

    /// Checks the whole text of an error and its style.
    pub(crate) fn assert_text(error: impl Display, text: &str) {
        assert_eq!(error.to_string(), text);
        assert_reads_well(text);
    }

    /// Panics unless an error's text is one line that starts in lower case (or quotes something) and ends
    /// without a full stop.
    pub(crate) fn assert_reads_well(text: &str) {
        let first = text.chars().next().expect("an error has a text");
        assert!(!first.is_uppercase() && !first.is_whitespace(), "{text:?}");
        assert!(!text.ends_with(['.', ' ', ':', ';', ',']), "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(!text.contains("  "), "{text:?}");
    }
}

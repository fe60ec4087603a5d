//! A topic name that cannot be one.

use std::error::Error;
use std::fmt;

/// A topic name that Kafka does not allow, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTopic {
    name: String,
    why: &'static str,
}

impl InvalidTopic {
    pub(crate) fn new(name: &str, why: &'static str) -> Self {
        Self { name: cut(name), why }
    }

    /// The name, cut after 300 characters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for InvalidTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a topic name: {}", self.name.escape_debug(), self.why)
    }
}

impl Error for InvalidTopic {}

/// The beginning of a name, which may be hostile and huge: enough to recognise it.
pub(super) fn cut(name: &str) -> String {
    name.chars().take(300).collect()
}

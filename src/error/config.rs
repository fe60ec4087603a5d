//! The problems of options. A builder reports all of them, not only the first.

use std::error::Error;
use std::fmt;

/// Options that cannot work: every problem that was found, each with its cure.
///
/// ```
/// let error = ottla::Client::builder(["http://example.org"])
///     .client_id("a".repeat(300))
///     .build()
///     .expect_err("two mistakes");
/// assert_eq!(error.problems().len(), 2);
/// assert_eq!(error.problems()[1].options(), ["client_id"]);
/// println!("{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<ConfigProblem>,
}

impl ConfigError {
    /// Nothing if there are no problems, else the error that lists them.
    pub(crate) fn unless_empty(problems: Vec<ConfigProblem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self { problems }) }
    }

    /// Every problem that was found: at least one, in the order of the options.
    #[must_use]
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }
}

/// One fault of options: the options, and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    options: Vec<&'static str>,
    text: String,
}

impl ConfigProblem {
    pub(crate) fn new(options: &[&'static str], text: impl Into<String>) -> Self {
        Self { options: options.to_vec(), text: text.into() }
    }

    /// The names of the options that are wrong, or that contradict each other: at least one.
    ///
    /// They are the names of the builders' methods; the seeds given to
    /// [`Client::builder`](crate::Client::builder) are called `seeds`.
    #[must_use]
    pub fn options(&self) -> &[&'static str] {
        &self.options
    }
}

/// A text that is not the address of a broker, and why.
///
/// A password in the text is not kept: the part before an `@` is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidAddress {
    text: String,
    why: String,
}

impl InvalidAddress {
    pub(crate) fn new(text: &str, why: impl Into<String>) -> Self {
        // A hostile text may be huge: keep what helps to recognise it, and no secret.
        let text = match text.rfind('@') {
            None => text.chars().take(300).collect(),
            Some(at) => format!("...{}", text[at..].chars().take(300).collect::<String>()),
        };
        Self { text, why: why.into() }
    }

    /// The text, without the part before an `@`, and cut after 300 characters.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        Ok(())
    }
}

impl Error for ConfigError {}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.escape_debug();
        write!(f, "\"{text}\" is not a broker's address: {}", self.why)
    }
}

impl Error for InvalidAddress {}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_reads_well;
    use super::*;

    #[test]
    fn all_problems_stand_in_one_line() {
        let problems =
            vec![ConfigProblem::new(&["a", "b"], "a must be below b"), ConfigProblem::new(&["c"], "c is zero")];
        let error = ConfigError::unless_empty(problems).unwrap_err();
        assert_eq!(error.to_string(), "a must be below b; c is zero");
        assert_eq!(error.problems()[0].options(), ["a", "b"]);
    }

    #[test]
    fn no_problem_is_no_error() {
        assert_eq!(ConfigError::unless_empty(Vec::new()), Ok(()));
    }

    #[test]
    fn an_address_with_a_password_does_not_show_it() {
        let error = InvalidAddress::new("kafka://me:se@cret@host:1", "it names a user");
        assert_eq!(error.text(), "...@host:1");
        assert_eq!(error.to_string(), "\"...@host:1\" is not a broker's address: it names a user");
        assert!(!format!("{error:?}").contains("cret"));
    }

    #[test]
    fn a_hostile_address_stays_short_and_on_one_line() {
        let error = InvalidAddress::new(&"\n@".repeat(9999), "it has spaces");
        assert_reads_well(&error.to_string());
        let error = InvalidAddress::new(&"\u{1b}\n".repeat(9999), "it has spaces");
        assert_reads_well(&error.to_string());
        assert_eq!(error.text().chars().count(), 300);
    }
}

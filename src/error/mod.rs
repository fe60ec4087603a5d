//! Every error that a user can meet. Each says what the user can do.
//!
//! Plain data. Display is one line, lower case, without a full stop; `source()` leads to the cause.

use std::fmt;
use std::io;

mod check;
mod code;
mod config;
mod connection;
mod delivery;
mod produce;
mod tls;
mod topic;

pub use check::{BrokerInfo, CheckError, ClusterInfo};
pub use code::ErrorCode;
pub use config::{ConfigError, ConfigProblem, InvalidAddress};
pub use connection::{Advertised, ApiRange, BrokerError, ConnectionError, ConnectionErrorKind, Speaks};
pub use delivery::{DeliveryError, DeliveryErrorKind, FatalError, Persistence};
pub use produce::{BufferLimit, BufferOverflow, ProduceError, ProduceErrorKind};
pub use tls::{TlsAlert, TlsFault};
pub use topic::InvalidTopic;

/// The advice for an error of the system: [`DESCRIPTORS`] if no descriptors are left, else `otherwise`.
fn advice<'a>(error: &io::Error, otherwise: &'a str) -> &'a str {
    if is_out_of_descriptors(error) { DESCRIPTORS } else { otherwise }
}

/// `true` if this process, or the whole system, may open no more files and sockets.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    // ENFILE and EMFILE on every Unix; WSAEMFILE.
    let codes: &[i32] = if cfg!(windows) { &[10_024] } else { &[23, 24] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

const DESCRIPTORS: &str = "no descriptors are left: raise their limit (ulimit -n), or close what is open";

/// The threads of a producer did not start.
pub(crate) struct NotStarted<'a>(pub &'a io::Error);

impl fmt::Display for NotStarted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = advice(self.0, "free resources or raise their limits");
        write!(f, "the producer's threads did not start ({}); {advice}", self.0)
    }
}

/// A foreign text as part of an error's single line: words with one space between, no control characters.
struct OneLine<T>(T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
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
    use std::fs;
    use std::path::Path;

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

    #[test]
    fn texts_name_only_options_and_methods_that_there_are() {
        let public = ["src/client.rs", "src/config/tls/mod.rs", "src/message", "src/producer"].map(source).concat();
        let mut seen = 0;
        for folder in [
            "src/client.rs",
            "src/message",
            "src/error",
            "src/config",
            "src/producer",
            "src/threads",
            "src/engine",
            "src/net",
        ] {
            for text in sentences(&source(folder)) {
                for word in text
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .filter(|it| it.trim_matches('_').contains('_'))
                {
                    let there = [format!("pub fn {word}("), format!("pub fn with_{word}(")];
                    assert!(there.iter().any(|it| public.contains(it)), "{word} in {text:?} of {folder}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen} words");
    }

    #[test]
    fn sentences_are_found_among_other_literals() {
        let code =
            "let a = (\"a word\", \"word\", '\"', \"of {a_b:?}, \\\"c_d\\\" e\"); // \"no text\"\n/// \"no text\"\n";
        assert_eq!(sentences(code), ["a word", "of , 'c_d' e"]);
    }

    /// A file, or all files of a folder, without their tests.
    fn source(path: &str) -> String {
        // The manifest may be another one, for these sources without features; then the path of this file is a full
        // one.
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(file!());
        let full = here.ancestors().nth(3).expect("src/error/mod.rs is in a folder").join(path);
        if !full.is_dir() {
            let text = fs::read_to_string(full).expect(path);
            let tests = if path.ends_with("/tests.rs") {
                0
            } else {
                text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len())
            };
            return text[..tests].split("#[cfg(test)]\npub(crate) mod tests").next().unwrap_or_default().to_owned();
        }
        let names = fs::read_dir(full).expect(path).map(|entry| entry.expect(path).file_name());
        let names = names.filter(|name| name != "shuttle.rs");
        names.map(|name| source(&format!("{path}/{}", name.to_string_lossy()))).collect()
    }

    /// The literals of more than one word, without the values that they format.
    fn sentences(code: &str) -> Vec<String> {
        let lines = code.replace("'\"'", "");
        let lines = lines.lines().map(|line| line.split(" // ").next().unwrap_or_default());
        let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n").replace("\\\"", "'");
        let texts = code.split('"').skip(1).step_by(2).filter(|text| text.contains(' '));
        let formatted = |text: &str| -> String {
            let parts = text.split('{').enumerate();
            parts.map(|(at, part)| if at == 0 { part } else { part.split_once('}').map_or("", |it| it.1) }).collect()
        };
        texts.map(formatted).collect()
    }
}

//! Starts threads, and keeps panics in the user's code from ending them.

use std::any::Any;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::channel::Receiver;
use crate::sync::thread::{self, JoinHandle};
use crate::wire::reader::shown;

/// Runs the user's code whose panic must not end this thread: a callback, a logger, a destructor. Gives the panic's
/// text.
pub(super) fn contain(run: impl FnOnce()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(panic_text)
}

/// Starts a thread that waits for a word of `go`, and does nothing if none comes.
#[expect(clippy::disallowed_methods, reason = "this is where threads start")]
pub(super) fn spawn(name: &str, go: &Receiver<()>, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let go = go.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        if go.recv().is_ok() {
            run();
        }
    })
}

/// The text of a panic, fit for a log: the user's code may panic with any text.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "a panic without a text"
    };
    let text = shown(text).into_string();
    // The value that the user's code panics with may itself panic when it is dropped.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(second);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_says_forges_no_line_of_the_log() {
        let forged = "no room\n2026-01-01 ERROR all is lost\r\u{1b}[2J";
        for panic in [Box::new(forged) as Box<dyn Any + Send>, Box::new(forged.to_owned())] {
            assert_eq!(panic_text(panic), r"no room\n2026-01-01 ERROR all is lost\r\u{1b}[2J");
        }
        assert_eq!(panic_text(Box::new("it's \"v\", not ä")), "it's \"v\", not ä");
        assert!(panic_text(Box::new("x".repeat(1_000_000))).len() < 10_000, "nor fills it");
        assert_eq!(panic_text(Box::new(7)), "a panic without a text");
    }
}

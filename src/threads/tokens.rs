//! Tokens for logins, from the user's provider. It may block, fail and panic, so each call runs on a short-lived thread
//! `ottla-token`, one at a time; nobody joins it. What it gave waits here until the driver takes it.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::spawn::panic_text;
use crate::config::sasl::{Token, TokenProvider};
use crate::sync::{Mutex, Waker, thread};
use crate::wire::reader::shown;

/// What a provider gave, or the reason why not: one line, fit for a log.
type Given = Result<Token, String>;

/// The calls of a provider.
#[derive(Debug, Default)]
pub struct Tokens {
    /// The call that goes on.
    call: Option<Arc<Call>>,
}

#[derive(Debug)]
struct Call {
    /// Filled by the thread of the call, emptied by the thread of the driver.
    given: Mutex<Option<Given>>,
}

impl Tokens {
    /// Calls the provider, unless a call goes on; the waker tells when something was given.
    pub fn ask(&mut self, provider: &Arc<dyn TokenProvider>, waker: Option<Arc<Waker>>) {
        if self.call.is_some() {
            return;
        }
        let call = Arc::new(Call { given: Mutex::new(None) });
        self.call = Some(Arc::clone(&call));
        let (provider, answer) = (Arc::clone(provider), Arc::clone(&call));
        // A call that hangs after the loop is gone must hold none of its descriptors.
        let waker = waker.map(|waker| Arc::downgrade(&waker));
        let run = move || {
            let given = ask(&*provider);
            // The user's code, too: its last owner may be this thread.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(provider))).map_err(panic_text);
            *answer.given.lock() = Some(dropped.map_err(panicked).and(given));
            if let Some(waker) = waker.and_then(|waker| waker.upgrade()) {
                // It fails only when the event loop is going away.
                let _ = waker.wake();
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the user's provider blocks")]
        let started = thread::Builder::new().name("ottla-token".to_owned()).spawn(run);
        if let Err(error) = started {
            *call.given.lock() = Some(Err(format!("the thread for the token provider did not start ({error})")));
        }
    }

    /// The token that was given, or why none was, once.
    pub fn take(&mut self) -> Option<Given> {
        // Nearly always there is no call.
        let given = self.call.as_ref()?.given.lock().take();
        if given.is_some() {
            self.call = None;
        }
        given
    }
}

fn ask(provider: &dyn TokenProvider) -> Given {
    let given = catch_unwind(AssertUnwindSafe(|| provider.token().map_err(failed)));
    given.unwrap_or_else(|panic| Err(panicked(panic_text(panic))))
}

/// The error is the user's code as well, and may panic.
fn failed(error: Box<dyn Error + Send + Sync>) -> String {
    format!("the token provider failed ({})", shown(&error.to_string()))
}

fn panicked(text: String) -> String {
    format!("the token provider panicked ({text})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a provider gives, in the end.
    fn given(provider: impl TokenProvider + 'static) -> Given {
        let (mut tokens, provider) = (Tokens::default(), Arc::new(provider) as Arc<dyn TokenProvider>);
        assert!(tokens.take().is_none());
        tokens.ask(&provider, None);
        loop {
            if let Some(given) = tokens.take() {
                assert!(tokens.take().is_none(), "once");
                return given;
            }
            thread::yield_now();
        }
    }

    #[test]
    fn what_a_provider_gives_comes_back_however_it_ends() {
        assert_eq!(given(|| Ok(Token::new("abc"))).unwrap().value.bytes(), b"abc");
        let failed = given(|| Err("no\nroute".into())).unwrap_err();
        assert_eq!(failed, "the token provider failed (no\\nroute)");
        let panicked = given(|| panic!("bang")).unwrap_err();
        assert_eq!(panicked, "the token provider panicked (bang)");
    }

    #[test]
    fn one_call_goes_on_at_a_time() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let gate = std::sync::Mutex::new(receiver);
        let counted = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let calls = Arc::clone(&counted);
        let provider: Arc<dyn TokenProvider> = Arc::new(move || {
            calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let _ = gate.lock().unwrap().recv();
            Ok(Token::new("abc"))
        });
        let mut tokens = Tokens::default();
        tokens.ask(&provider, None);
        tokens.ask(&provider, None);
        sender.send(()).unwrap();
        while tokens.take().is_none() {
            thread::yield_now();
        }
        assert_eq!(counted.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}

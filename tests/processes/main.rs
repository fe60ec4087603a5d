//! What becomes of producers when their process forks, exits, is stopped, gets signals, or may start no thread. Each
//! test runs its program in a process of its own, where it may do what would harm other tests, and looks at the brokers
//! from outside.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "threads and clocks are what is tested")]
#![expect(clippy::unwrap_used, reason = "it is a test, helpers included")]

mod apart;
#[cfg(feature = "_tls")]
#[path = "../certificates/mod.rs"]
#[expect(dead_code, reason = "the unit tests use all of it")]
mod certificates;
mod descriptors;
mod exit;
mod fork;
mod signals;
mod threads_run_out;

#[cfg(feature = "_tls")]
use ottla::crypto;

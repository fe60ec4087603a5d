//! Every public call from every place where a user's code runs on ottla's threads, or in the middle of a call: each
//! works or is refused, and returns in time. And every call from outside while that code never returns.
//!
//! A process of its own, because it has one logger and one panic hook; its tests take turns.
#![expect(clippy::disallowed_methods, reason = "threads and clocks are what is tested")]
#![expect(clippy::unwrap_used, reason = "it is a test, helpers included")]

mod blocked;
mod calls;
mod places;
mod spy;
mod table;

//! What a producer takes from its machine: memory, processor time, wake-ups, connections, threads, descriptors, time,
//! and lines in the log. What is counted for a whole process is counted in one of its own.
#![expect(clippy::disallowed_methods, reason = "threads, clocks and sockets are what is tested")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;
#[cfg(target_os = "linux")]
mod cycles;
mod deadlines;
#[path = "../forms/mod.rs"]
mod forms;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod processes;
#[cfg(target_os = "linux")]
mod rest;
mod said;
mod secrets;

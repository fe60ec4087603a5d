//! The queue between callers and the worker, as plain data: which messages wait, which of them are due, how many
//! places are taken, and who must be woken. Never locks, waits or reads the clock; `threads::producer::gate` keeps it
//! under one lock, and the sync producer keeps its buffer in one.
//!
//! **Hand-over.** Callers fill the open chunk. When it is full it is sealed, and travels to the worker through a bounded
//! channel. It is sent under the lock, and the worker receives under the lock, so that the channel is never full when
//! something is sent (`filling` says why), and the worker takes the open chunk itself only when the channel is empty:
//! messages leave in the order in which they were accepted.
//!
//! **Threshold, interval, batch.** What is sealed has not left yet: messages leave when they are *due*, which is one
//! number, the ticket up to which they are (`due_upto`). A caller moves it when `threshold` messages wait, when a batch
//! is full, or on demand; the timer moves it when the oldest message is as old as `interval`. Whoever moves it wakes the
//! worker, once, if it sleeps; the worker takes all chunks that hold a due message.
//!
//! **Overflow.** A message holds its place until the engine wrote it (`release`), wherever it is: `accepted - released`
//! is exact, and a message is refused when that reaches the limit, or the bytes do. Taking chunks frees nothing, so the
//! channel keeps no bound but its own. What refuses is due, and wakes the worker.
//!
//! A topic that does not exist, or of which a partition has no leader or refuses, may fill half of the places while
//! there are other topics: with all of them it would make the others be refused until its messages fail. Half for all
//! such topics together, so that nothing is counted for each, and messages to other topics pay nothing for it. What
//! such a topic filled before that was known was accepted, and stays until it can be sent or its time is up. Once none
//! of its messages is left, the next one passes, whoever fills the queue: it finds out whether something can be sent
//! again.

pub mod chunk;
mod due;
pub mod entry;
pub mod extras;
mod filling;
mod lanes;
mod offer;
mod places;
mod prepared;
mod topics;

pub use self::filling::Sealed;
pub use self::offer::{Full, Refused};
pub use self::places::{Limits, Phase, Queue};
pub use self::prepared::{Prepared, only_borrows};

#[cfg(test)]
mod tests;

//! The queue between callers and the worker, as plain data: the waiting messages, those of them that are due, the
//! number of taken places, and the threads that must be woken. Never locks, waits or reads the clock;
//! `threads::producer::gate` keeps it under one lock, and the sync producer keeps its buffer in one.
//!
//! **Hand-over.** Callers fill the open chunk. When it is full it is sealed, and travels to the worker through a
//! bounded channel. It is sent under the lock, and the worker receives under the lock, so that the channel is never
//! full when a chunk is sent (`filling` says why). The worker takes the open chunk itself only when the channel is
//! empty: messages leave in the order in which they were accepted.
//!
//! **Threshold, interval, batch.** A sealed message has not left yet: messages leave when they are *due*. One number
//! says which are: all with tickets below `due_upto`. A caller moves it when `threshold` messages wait, when a batch is
//! full, or on demand; the timer moves it when the oldest message is as old as `interval`. The thread that moves it
//! wakes the worker, once, if it sleeps; the worker takes all chunks that hold a due message.
//!
//! **Overflow.** A message holds its place until the engine wrote it (`release`), wherever it is: `accepted - released`
//! is exact, and a message is refused when that reaches the limit, or the bytes do. Taking chunks frees nothing, so the
//! channel needs no bound but its own. When a message is refused, all messages become due, and the worker is woken.
//!
//! A topic that does not exist, or with a partition that has no leader or refuses messages, may fill half of the places
//! while there are other topics: if it filled all of them, the other topics would be refused until its messages fail.
//! All such topics together have this half, so that nothing is counted for each, and messages to other topics pay
//! nothing for it. Messages that such a topic had in the queue before this was known were accepted, and stay until they
//! can be sent or their time is up. Once none of its messages is left, its next message passes, however full the queue:
//! it finds out if messages can be sent again.

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
pub use self::offer::{Full, Limit, Refused};
pub use self::places::{Limits, Phase, Queue};
pub use self::prepared::{Prepared, only_borrows};

#[cfg(test)]
mod tests;

//! What decides, without I/O: no socket, clock, lock or thread. Inputs and the time go in, actions come out, and what
//! the engine is for: the fates of messages from a producer's, the state of a cluster from that of a check.
//! `threads::driver` connects an engine to the world, and the simulation to a simulated one.

mod action;
mod advice;
pub mod backoff;
pub mod check;
pub mod cluster;
pub mod producer;

use std::time::Instant;

pub use self::action::Action;
#[cfg(feature = "sasl")]
use crate::config::sasl::Token;
use crate::deadline::Deadline;
use crate::error::ConnectionErrorKind;
use crate::wire::frame::ConnId;

/// The part that a driver connects to the sockets: events of connections and the time go in, actions come out.
pub trait Engine {
    /// A connection is open.
    fn connected(&mut self, conn: ConnId, now: Instant);

    /// A connection could not be opened, or ended.
    fn closed(&mut self, conn: ConnId, why: ConnectionErrorKind, now: Instant);

    /// The socket accepted bytes: of the frames sent on this connection, in order, `started` more had their first byte
    /// accepted and `finished` more their last. Returns `true` if there is something to decide then: if no answer is
    /// awaited, more may be sent.
    fn wrote(&mut self, conn: ConnId, started: usize, finished: usize, now: Instant) -> bool;

    /// A whole response, without its size field.
    fn response(&mut self, conn: ConnId, frame: &[u8], now: Instant);

    /// The user's provider gave a token for logins, or did not, and why: one line, fit for a log.
    #[cfg(feature = "sasl")]
    fn token(&mut self, token: Result<Token, String>, now: Instant);

    /// Nobody has looked at the sockets for long: requests under way are not given up before `until`. Messages that
    /// wait here are given up in time, because no answer to them can be under way. Each connection and batch is put off
    /// once.
    fn extend_timeouts(&mut self, until: Instant);

    /// Judges deadlines and decides what to send. Call it after inputs, and when
    /// [`next_deadline`](Self::next_deadline) has come.
    fn advance(&mut self, now: Instant);

    /// The moment at which [`advance`](Self::advance) has something to do without any input.
    fn next_deadline(&self) -> Deadline;

    /// The next thing to do for the engine.
    fn next_action(&mut self) -> Option<Action>;

    /// `true` if its work is not done, so that the next input is an answer, and not a caller's message.
    fn is_busy(&self) -> bool;
}

/// A moment from which tests count.
#[cfg(test)]
pub(crate) fn test_clock() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tests need one moment to count from; they never read it again")]
    Instant::now()
}

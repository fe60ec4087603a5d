//! What follows a message of the broker in a login, whatever its mechanism.

use std::sync::Arc;

use crate::config::sasl::Secret;

/// The step that follows a message of the broker.
#[derive(Debug)]
pub enum Reply {
    /// Send this.
    Send(Secret),
    /// Call `Exchange::work` until it gives a message.
    Work,
    /// The login is done.
    Done,
}

/// The reason why a message of the broker ends the login.
#[derive(Debug)]
pub enum Fault {
    /// It cannot be trusted.
    Untrusted(&'static str),
    /// It refuses, in these words, fit for a log.
    Refused(Arc<str>),
}

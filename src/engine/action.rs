//! The actions of a driver for an engine.

use std::time::Duration;

use crate::config::BrokerAddress;
use crate::wire::frame::{ConnId, Frame};

/// An action that the driver must carry out for the engine.
#[derive(Debug)]
pub enum Action {
    /// Open a connection; the driver tells when it is open, or why not.
    Connect {
        /// Its number.
        conn: ConnId,
        /// The address to connect to.
        address: BrokerAddress,
        /// Bounds the look-up and the connecting.
        within: Duration,
    },
    /// Queue a frame for writing; the driver tells the progress.
    Send {
        /// On this connection.
        conn: ConnId,
        /// The request.
        frame: Frame,
    },
    /// Close without a word: the driver tells nothing more of it.
    Close {
        /// This connection.
        conn: ConnId,
    },
    /// Ask the user's provider for a token; the driver tells what it gave.
    #[cfg(feature = "sasl")]
    AskForToken,
    /// Responses on this connection may have up to this many bytes from now on.
    Limit {
        /// This connection.
        conn: ConnId,
        /// Bytes.
        max_response_bytes: usize,
    },
}

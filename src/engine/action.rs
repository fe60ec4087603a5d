//! What a driver does for an engine.

use std::time::Duration;

use crate::config::BrokerAddress;
use crate::wire::frame::{ConnId, Frame};

/// What the driver must do for the engine.
#[derive(Debug)]
pub enum Action {
    /// Open a connection; that it is open, or why not, is told.
    Connect {
        /// Its number.
        conn: ConnId,
        /// Where to.
        address: BrokerAddress,
        /// Bounds the look-up and the connecting.
        within: Duration,
    },
    /// Queue a frame for writing; how far that is gets told.
    Send {
        /// On this connection.
        conn: ConnId,
        /// The request.
        frame: Frame,
    },
    /// Close without a word: nothing more is told of it.
    Close {
        /// This connection.
        conn: ConnId,
    },
    /// Responses on this connection may have up to this many bytes from now on.
    Limit {
        /// This connection.
        conn: ConnId,
        /// Bytes.
        max_response_bytes: usize,
    },
}

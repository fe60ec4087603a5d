//! Requests and responses as bytes: the table of APIs, and one file for each that ottla speaks, with a `request` that
//! gives a whole frame and a `decode` that reads a response. The only place that names `kafka_protocol`, beside the
//! in-process cluster.
//!
//! Responses are untrusted, and kafka-protocol reserves memory for any count that the wire claims. What comes often is
//! read by our own [`reader`], where a count is checked against the bytes that are left before anything is reserved;
//! the rest is decoded by kafka-protocol, once [`bounds`] has walked over it. Bytes behind the last field are ignored,
//! as in Kafka's own clients: frames have a size, so they cannot disturb what comes next. Nothing here does I/O or
//! keeps state.

use std::error::Error;
use std::fmt;

use crate::error::ConnectionErrorKind;

pub mod api;
pub mod bounds;
pub mod frame;
#[cfg(test)]
mod oracle;
pub mod reader;
mod request;

pub use api::Api;
pub use frame::{CorrelationId, Frame};

/// The reason why a response cannot be read, and the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The field, by its name in Kafka's message schema.
    pub field: &'static str,
    /// The fault.
    pub kind: WireErrorKind,
}

/// The fault of a field of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireErrorKind {
    /// The response ends inside the field.
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// An array claims more elements than the bytes that are left can hold.
    CountTooLarge {
        /// The elements it claims.
        count: u32,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A length or count below -1.
    NegativeLength(i32),
    /// Null where Kafka allows none.
    Null,
    /// A text that is not UTF-8.
    BadUtf8,
    /// A variable-length number that does not fit 32 bits.
    BadVarint,
    /// A number that the field cannot have.
    OutOfRange(i64),
    /// This number of bytes behind the content of a tagged field.
    Excess(usize),
    /// Something that kafka-protocol does not take, such as null where the version has none.
    AgainstSchema,
}

impl WireError {
    /// The fault as the end of its connection: the response to this API cannot be understood.
    #[must_use]
    pub fn in_response_to(&self, api: Api) -> ConnectionErrorKind {
        ConnectionErrorKind::BadResponse { api: api.name(), what: self.to_string() }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.field)?;
        match &self.kind {
            WireErrorKind::Truncated { needed, remaining } => {
                write!(f, "is cut off: it needs {needed} bytes, {remaining} are left")
            }
            WireErrorKind::CountTooLarge { count, remaining } => {
                write!(f, "claims {count} elements in {remaining} bytes")
            }
            WireErrorKind::NegativeLength(length) => write!(f, "has the length {length}"),
            WireErrorKind::Null => f.write_str("is null"),
            WireErrorKind::BadUtf8 => f.write_str("is not UTF-8"),
            WireErrorKind::BadVarint => f.write_str("has a variable-length number above 32 bits"),
            WireErrorKind::OutOfRange(value) => write!(f, "cannot be {value}"),
            WireErrorKind::Excess(bytes) => write!(f, "has {bytes} bytes too many"),
            WireErrorKind::AgainstSchema => f.write_str("is not what the schema of its version allows"),
        }
    }
}

impl Error for WireError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_response_and_which_field() {
        let error = api::metadata::decode(9, &[0, 0, 0, 7, 0, 1]).unwrap_err().in_response_to(Api::Metadata);
        let text = "the Metadata response cannot be read (throttle_time_ms is cut off: it needs 4 bytes, 1 are left)";
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

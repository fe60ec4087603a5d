//! Record batches, version 2 (KIP-98): encoding messages into them, reading them back, and the checksum.
//!
//! [`tail`] is the part of a record that is known when a message is produced, [`batch`] puts tails into a batch,
//! [`batch_reader`] reads batches that others wrote and trusts nothing in them.

pub mod batch;
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only the in-process cluster reads what others wrote"))]
pub mod batch_reader;
mod checksum;
mod layout;
#[cfg(test)]
mod samples;
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only the in-process cluster reads what others wrote"))]
pub mod tail;
pub mod times;
pub mod varint;

use std::fmt;

/// The fault of bytes that should be a record batch.
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only the in-process cluster reads what others wrote"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The bytes end inside `what`.
    Truncated {
        /// The part that is cut.
        what: &'static str,
        /// The number of bytes that it has according to the fields before.
        needed: usize,
        /// The number of bytes that are there.
        available: usize,
    },
    /// A variable-length number has more bytes than its type can use, or bits that do not fit.
    Overlong {
        /// The number.
        what: &'static str,
    },
    /// A length or a count that no sound batch has: negative, or more than the bytes can hold.
    Implausible {
        /// The length or count.
        what: &'static str,
        /// Its value.
        value: i32,
    },
    /// Bytes are left behind the end of `what`.
    Trailing {
        /// The part that ended too early.
        what: &'static str,
        /// The number of bytes that are left.
        bytes: usize,
    },
    /// The batch has another format version than 2.
    Magic(i8),
    /// The bytes are not those that the checksum was made of.
    Checksum {
        /// The checksum in the header.
        stated: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The records are compressed, by the codec with this number.
    Compressed(u8),
    /// The time of a record is beyond what 64 bits hold.
    Timestamp {
        /// The base time of the batch.
        base: i64,
        /// The distance of the record's time to it.
        delta: i64,
    },
    /// The name of a header is not UTF-8.
    HeaderName,
    /// A record of the batch is broken.
    InRecord {
        /// Its index, from 0.
        index: i32,
        /// Its fault.
        error: Box<Self>,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { what, needed, available } => {
                write!(f, "{what} is cut: {available} of {needed} bytes are there")
            }
            Self::Overlong { what } => write!(f, "{what} is not a number of its type"),
            Self::Implausible { what, value } => write!(f, "{what} of {value} is impossible"),
            Self::Trailing { what, bytes } => {
                write!(f, "{bytes} bytes are left behind the end of {what}")
            }
            Self::Magic(magic) => write!(f, "record batch has format version {magic}, only 2 is known"),
            Self::Checksum { stated, computed } => {
                write!(f, "record batch has checksum {stated:08x}, its bytes have {computed:08x}")
            }
            Self::Compressed(codec) => write!(f, "records are compressed with codec {codec}"),
            Self::Timestamp { base, delta } => {
                write!(f, "time {delta} ms after {base} is out of range")
            }
            Self::HeaderName => f.write_str("header name is not UTF-8"),
            Self::InRecord { index, error } => write!(f, "record {index}: {error}"),
        }
    }
}

// No `source`: the one error that wraps another shows it in its own line.
impl std::error::Error for RecordError {}

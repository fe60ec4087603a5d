//! The positions of the fields in a batch's header, for writers and readers of batches.

/// Bytes of a batch's header.
pub const HEADER_LEN: usize = 61;

/// Base offset and length come before the bytes that the length counts.
pub(super) const BEFORE_LENGTH_END: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// The start of the bytes that the checksum covers.
pub(super) const CRC_START: usize = 21;

//! Where the fields of a batch's header are, for whoever writes batches and whoever reads them.

/// Bytes of a batch's header.
pub const HEADER_LEN: usize = 61;

/// Base offset and length come before what the length counts.
pub(super) const BEFORE_LENGTH_END: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// Where begins what the checksum covers.
pub(super) const CRC_START: usize = 21;

//! Writes to a socket, for connections in the clear and for encrypted ones.

use std::io::{self, ErrorKind, IoSlice};

#[cfg(all(unix, not(target_vendor = "apple")))]
use libc::MSG_NOSIGNAL;
use mio::net::TcpStream;
#[cfg(all(unix, not(target_vendor = "apple")))]
use socket2::SockRef;

use crate::error::ConnectionErrorKind;

/// Takes the bytes that came.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), ConnectionErrorKind>;

/// A socket that takes nothing, and does not say why, never will.
pub(super) fn some(written: usize) -> io::Result<usize> {
    if written == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(written) }
}

/// Writes, and raises no SIGPIPE if the peer has closed: a program may leave that signal at its default, which ends it,
/// and `writev`, unlike `send`, cannot be told not to raise it.
#[cfg(all(unix, not(target_vendor = "apple")))]
pub(super) fn write_in_silence(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    stream.try_io(|| SockRef::from(stream).send_vectored_with_flags(slices, MSG_NOSIGNAL))
}

/// On Apple's systems the socket itself is told, by mio (`SO_NOSIGPIPE`); Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
pub(super) fn write_in_silence(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut stream, slices)
}

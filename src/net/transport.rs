//! The socket of a connection, in the clear or encrypted: bytes in, bytes out, and what of the requests has gone with
//! them. The rest of `net` does not see a difference.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use mio::net::TcpStream;

use super::send_buffer::{Progress, SendBuffer};
use super::socket::{Sink, some, write_in_silence};
use super::tls::TlsStream;
use crate::error::ConnectionErrorKind;

#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Transport {
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// Reads once from the socket, at most as much as `scratch` holds, and gives `sink` what came. Returns the number of
    /// bytes that the socket gave.
    pub(super) fn read(&mut self, scratch: &mut [u8], sink: Sink<'_>) -> Result<Reading, ConnectionErrorKind> {
        let read = match self {
            Self::Plain(socket) => socket.read(scratch),
            Self::Tls(stream) => stream.socket().read(scratch),
        };
        let bytes = match read {
            Ok(0) => return Err(ConnectionErrorKind::Closed),
            Ok(read) => &scratch[..read],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Reading::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(Reading::Some(scratch.len())),
            Err(error) => return Err(ConnectionErrorKind::Io(Arc::new(error))),
        };
        match self {
            Self::Plain(_) => sink(bytes)?,
            Self::Tls(stream) => stream.take(bytes, sink)?,
        }
        Ok(Reading::Some(bytes.len()))
    }

    /// Gives `sink` what came with the end of the handshake.
    pub(super) fn begin(&mut self, sink: Sink<'_>) -> Result<(), ConnectionErrorKind> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.take(&[], sink),
        }
    }

    /// What the socket took of the requests while it was read: TLS may have to answer at once.
    pub(super) fn progress(&mut self) -> Option<Progress> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.progress(),
        }
    }

    /// `true` if `write` has something to do, though the send buffer may be empty.
    pub(super) fn holds_bytes(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.holds_bytes(),
        }
    }

    /// Writes once, and adds what that means for the requests to `progress`, if the socket took anything.
    ///
    /// # Errors
    /// The socket takes no more, now or for ever; `progress` counts all the same.
    pub(super) fn write(&mut self, send_buffer: &mut SendBuffer, progress: &mut Option<Progress>) -> io::Result<()> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => return stream.write(send_buffer, progress),
        };
        let slices = send_buffer.slices(SLICES_PER_WRITE);
        let written = if slices.is_empty() { 0 } else { some(write_in_silence(socket, &slices)?)? };
        progress.get_or_insert_default().add(send_buffer.accept(written));
        Ok(())
    }

    /// Says that nothing more will come, if there is a way to say so; the socket is dropped next.
    pub(super) fn end(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(stream) => stream.end(),
        }
    }
}

/// What one read of a socket found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It would block.
    Nothing,
    /// So many bytes; as many as were asked for if it is not known whether there are more.
    Some(usize),
}

/// Systems take at most 1,024 slices in one write (`IOV_MAX`).
const SLICES_PER_WRITE: usize = 1024;

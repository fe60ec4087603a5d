//! One connected socket: the bytes that it has read and those that it still has to write. It reads and writes when told
//! to, until the socket would block (readiness comes as edges), and notes if more may be possible.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::sync::Arc;

#[cfg(all(unix, not(target_vendor = "apple")))]
use libc::MSG_NOSIGNAL;
use mio::net::TcpStream;
#[cfg(all(unix, not(target_vendor = "apple")))]
use socket2::SockRef;

use super::receive_buffer::ReceiveBuffer;
use super::send_buffer::{Progress, SendBuffer};
use crate::error::ConnectionErrorKind;
use crate::wire::frame::Frame;

#[derive(Debug)]
pub(super) struct Connection {
    transport: Transport,
    receive_buffer: ReceiveBuffer,
    send_buffer: SendBuffer,
    readable: bool,
    writable: bool,
    /// `true` if the next read may find the end: the system said that the peer has ended its side or that the socket is
    /// broken, or has not been asked yet, because its words while the connection was made are forgotten.
    ending: bool,
}

/// The transport of bytes. An encrypted connection becomes a second variant here, and its handshake a stage of `Dial`,
/// so that nothing else learns of it.
#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
}

impl Connection {
    /// A connection just made; it may hold readable bytes already, whose edge has passed.
    pub(super) fn new(stream: TcpStream, receive_buffer: ReceiveBuffer, send_buffer: SendBuffer) -> Self {
        Self {
            transport: Transport::Plain(stream),
            receive_buffer,
            send_buffer,
            readable: true,
            writable: true,
            ending: true,
        }
    }

    pub(super) fn limit_responses(&mut self, limit: usize) {
        self.receive_buffer.set_limit(limit);
    }

    /// Notes that the socket became readable. Returns `true` if it was not readable before.
    pub(super) fn set_readable(&mut self) -> bool {
        !std::mem::replace(&mut self.readable, true)
    }

    /// Notes that the next read may be the last.
    pub(super) fn set_ending(&mut self) {
        self.ending = true;
    }

    pub(super) fn set_writable(&mut self) {
        self.writable = true;
    }

    /// `true` if a read may find something, because the last one stopped for fairness.
    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        match &mut self.transport {
            Transport::Plain(stream) => stream,
        }
    }

    /// Reads until the socket would block, or for its fair share; every whole response goes to `response`.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        response: &mut impl FnMut(Vec<u8>),
    ) -> Result<(), ConnectionErrorKind> {
        for _ in 0..READS_PER_TURN {
            match self.transport.read(scratch) {
                Ok(0) => return Err(ConnectionErrorKind::Closed),
                Ok(read) => {
                    let mut bytes = &scratch[..read];
                    while let Some(body) = self.receive_buffer.next(&mut bytes)? {
                        response(body);
                    }
                    if SHORT_READ_IS_LAST && read < scratch.len() && !self.ending {
                        self.readable = false;
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    (self.readable, self.ending) = (false, false);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(ConnectionErrorKind::Io(Arc::new(error))),
            }
        }
        Ok(())
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.send_buffer.push(frame);
    }

    /// Writes as much as the socket takes. Returns the progress, even if the write failed then.
    pub(super) fn write(&mut self) -> (Option<Progress>, io::Result<()>) {
        let mut progress = None;
        while self.writable && !self.send_buffer.is_empty() {
            let slices = self.send_buffer.slices(SLICES_PER_WRITE);
            let written = if slices.is_empty() { Ok(0) } else { self.transport.write_vectored(&slices) };
            match written {
                Ok(0) if !slices.is_empty() => return (progress, Err(ErrorKind::WriteZero.into())),
                Ok(bytes) => {
                    let more = self.send_buffer.accept(bytes);
                    let all = progress.get_or_insert_with(Progress::default);
                    all.started += more.started;
                    all.finished += more.finished;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return (progress, Err(error)),
            }
        }
        (progress, Ok(()))
    }

    /// Reads the bytes that the peer sent before a write failed, and returns why the connection ended.
    ///
    /// A peer that is no broker often says something and closes: its words tell more than the failed write.
    pub(super) fn last_words(
        &mut self,
        write_error: io::Error,
        scratch: &mut [u8],
        response: &mut impl FnMut(Vec<u8>),
    ) -> ConnectionErrorKind {
        self.readable = true;
        for _ in 0..LAST_TURNS {
            match self.read(scratch, response) {
                Ok(()) if self.readable => {}
                Ok(()) | Err(ConnectionErrorKind::Closed | ConnectionErrorKind::Io(_)) => break,
                Err(kind) => return kind,
            }
        }
        ConnectionErrorKind::Io(Arc::new(write_error))
    }
}

impl Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => write_in_silence(stream, slices),
        }
    }
}

/// Writes, and raises no SIGPIPE if the peer has closed: a program may leave that signal at its default, which ends it,
/// and `writev`, unlike `send`, cannot be told not to raise it.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn write_in_silence(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    stream.try_io(|| SockRef::from(stream).send_vectored_with_flags(slices, MSG_NOSIGNAL))
}

/// On Apple's systems the socket itself is told, by mio (`SO_NOSIGPIPE`); Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn write_in_silence(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    io::Write::write_vectored(&mut stream, slices)
}

/// epoll(7): on a stream, a read of less than was asked for has emptied the socket, and later bytes are reported anew.
/// So another read, which finds nothing, can be left out, unless it would find the end.
const SHORT_READ_IS_LAST: bool = cfg!(target_os = "linux");

/// With the scratch buffer of 64 KiB, 1 MiB at most before the other connections have their turn.
const READS_PER_TURN: usize = 16;

/// Systems take at most 1,024 slices in one write (`IOV_MAX`).
const SLICES_PER_WRITE: usize = 1024;

/// More than a receive buffer holds; a peer that sends on without end is not listened to for ever.
const LAST_TURNS: usize = 16;

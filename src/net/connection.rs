//! One connected socket: the bytes that it has read and those that it still has to write. It reads and writes when told
//! to, until the socket would block (readiness comes as edges), and notes if more may be possible.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use mio::net::TcpStream;

use super::receive_buffer::ReceiveBuffer;
use super::send_buffer::{Progress, SendBuffer};
use super::transport::{Reading, Transport};
use crate::error::ConnectionErrorKind;
use crate::wire::frame::Frame;

#[derive(Debug)]
pub(super) struct Connection {
    transport: Transport,
    /// `true` until it was read first: the handshake may have read more than its own.
    is_new: bool,
    receive_buffer: ReceiveBuffer,
    send_buffer: SendBuffer,
    readable: bool,
    writable: bool,
    /// `true` if the next read may find the end: the system said that the peer has ended its side or that the socket is
    /// broken, or has not been asked yet, because its words while the connection was made are forgotten.
    ending: bool,
}

impl Connection {
    /// A connection just made; it may hold readable bytes already, whose edge has passed.
    pub(super) fn new(transport: Transport, receive_buffer: ReceiveBuffer, send_buffer: SendBuffer) -> Self {
        Self { transport, is_new: true, receive_buffer, send_buffer, readable: true, writable: true, ending: true }
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

    /// `true` if the last write has not found the socket full.
    #[cfg(all(test, feature = "_tls"))]
    pub(super) fn is_writable(&self) -> bool {
        self.writable
    }

    /// `true` if a read may find something, because the last one stopped for fairness.
    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        self.transport.socket()
    }

    /// Reads until the socket would block, or for its fair share; every whole response goes to `response`.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        response: &mut impl FnMut(Vec<u8>),
    ) -> Result<(), ConnectionErrorKind> {
        let receive_buffer = &mut self.receive_buffer;
        let sink = &mut |mut bytes: &[u8]| {
            while let Some(body) = receive_buffer.next(&mut bytes)? {
                response(body);
            }
            Ok(())
        };
        if std::mem::replace(&mut self.is_new, false) {
            self.transport.begin(sink)?;
        }
        for _ in 0..READS_PER_TURN {
            match self.transport.read(scratch, sink)? {
                Reading::Some(read) => {
                    if SHORT_READ_IS_LAST && read < scratch.len() && !self.ending {
                        self.readable = false;
                        return Ok(());
                    }
                }
                Reading::Nothing => {
                    (self.readable, self.ending) = (false, false);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What the socket took while it was read. Whoever hears of an answer must hear of it in the same turn.
    pub(super) fn progress(&mut self) -> Option<Progress> {
        self.transport.progress()
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.send_buffer.push(frame);
    }

    /// Writes as much as the socket takes. Returns the progress, even if the write failed then.
    pub(super) fn write(&mut self) -> (Option<Progress>, io::Result<()>) {
        let mut progress = None;
        while self.writable && (!self.send_buffer.is_empty() || self.transport.holds_bytes()) {
            match self.transport.write(&mut self.send_buffer, &mut progress) {
                Ok(()) => {}
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

impl Drop for Connection {
    /// Says that nothing more will come.
    fn drop(&mut self) {
        self.transport.end();
    }
}

/// epoll(7): on a stream, a read of less than was asked for has emptied the socket, and later bytes are reported anew.
/// So another read, which finds nothing, can be left out, unless it would find the end.
const SHORT_READ_IS_LAST: bool = cfg!(target_os = "linux");

/// With the scratch buffer of 64 KiB, 1 MiB at most before the other connections have their turn.
const READS_PER_TURN: usize = 16;

/// More than a receive buffer holds; a peer that sends on without end is not listened to for ever.
const LAST_TURNS: usize = 16;

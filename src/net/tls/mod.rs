//! One encrypted connection: the handshake, and the bytes of requests and responses behind it. Never waits; it goes on
//! when the socket has news.
//!
//! A request has started when its first byte is handed to rustls: what is encrypted may leave. It has finished when the
//! socket has taken the record with its last byte; `marks` has the account. About 64 KiB are encrypted ahead of the
//! socket, and nothing more before it has taken them.

mod fault;
mod marks;
mod name;

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConnection;

use self::marks::Marks;
use super::send_buffer::{Progress, SendBuffer};
use super::socket::{Sink, some, write_in_silence};
use crate::config::Encryption;
use crate::error::{ConnectionErrorKind, TlsFault};

#[derive(Debug)]
pub(super) struct TlsStream {
    socket: TcpStream,
    session: ClientConnection,
    /// Bytes that the socket has taken, and where in them frames end.
    marks: Marks,
    /// The first bytes that came, to tell other protocols by.
    first: Vec<u8>,
    /// `true` if anything came that was meant for the layer above: until then an alert is a refusal.
    has_answered: bool,
}

impl TlsStream {
    /// Begins the handshake with this host over a socket that is connected.
    ///
    /// # Errors
    /// No certificate can have the host's name.
    pub(super) fn begin(socket: TcpStream, encryption: &Encryption, host: &str) -> Result<Self, ConnectionErrorKind> {
        let name = name::server_name(host).ok_or(ConnectionErrorKind::Tls(TlsFault::HostName))?;
        let session = ClientConnection::new(Arc::clone(encryption), name)
            .map_err(|error| ConnectionErrorKind::Tls(TlsFault::Protocol(error.to_string().into())))?;
        Ok(Self { socket, session, marks: Marks::default(), first: Vec::new(), has_answered: false })
    }

    /// Takes the handshake as far as the socket lets it: `true` if it is done.
    ///
    /// # Errors
    /// It has failed; the broker was told why, if there was something to tell.
    pub(super) fn shake_hands(&mut self) -> Result<bool, ConnectionErrorKind> {
        let mut bytes = [0; HANDSHAKE_BYTES];
        loop {
            // A broker that closes may have said why: so a write that fails is no end before the read.
            let written = self.flush();
            if !self.session.is_handshaking() {
                return Ok(true);
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(self.closed()),
                Ok(read) => self.process(&bytes[..read], &mut |_| Ok(()))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return match written {
                        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(self.broken(error)),
                        _ => Ok(false),
                    };
                }
                Err(error) => return Err(self.broken(error)),
            }
        }
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Decrypts what came, and gives `sink` what was in it, and what was left by the handshake.
    pub(super) fn take(&mut self, bytes: &[u8], sink: Sink<'_>) -> Result<(), ConnectionErrorKind> {
        self.drain(sink)?;
        self.process(bytes, sink)
    }

    /// Gives rustls what came. With `sink` taking nothing during the handshake, what follows it stays with rustls.
    fn process(&mut self, mut bytes: &[u8], sink: Sink<'_>) -> Result<(), ConnectionErrorKind> {
        let missing = FIRST_BYTES.saturating_sub(self.first.len()).min(bytes.len());
        self.first.extend_from_slice(&bytes[..missing]);
        while !bytes.is_empty() {
            let was_in_handshake = self.session.is_handshaking();
            self.session.read_tls(&mut bytes).map_err(|error| match was_in_handshake {
                // A message in so many small records that it fills rustls' buffer.
                true => ConnectionErrorKind::Tls(TlsFault::Protocol(error.to_string().into())),
                false => ConnectionErrorKind::Io(Arc::new(error)),
            })?;
            let processed = self.session.process_new_packets();
            // An alert to say why, or an answer to a change of keys. If the socket takes it later, so be it.
            let _ = self.flush();
            if was_in_handshake {
                processed.map_err(|error| self.failed(&error))?;
                continue;
            }
            // What came before a fault counts.
            self.drain(sink)?;
            let state = processed.map_err(|error| self.failed(&error))?;
            if state.peer_has_closed() {
                return Err(ConnectionErrorKind::Closed);
            }
        }
        Ok(())
    }

    fn drain(&mut self, sink: Sink<'_>) -> Result<(), ConnectionErrorKind> {
        let mut reader = self.session.reader();
        while let Ok(plain) = reader.fill_buf() {
            let length = plain.len();
            if length == 0 {
                return Ok(());
            }
            self.has_answered = true;
            sink(plain)?;
            reader.consume(length);
        }
        Ok(())
    }

    pub(super) fn holds_bytes(&self) -> bool {
        self.session.wants_write()
    }

    /// What the socket took since it was asked last, as while it was read.
    pub(super) fn progress(&mut self) -> Option<Progress> {
        self.marks.has_passed().then(|| Progress { started: 0, finished: self.marks.passed() })
    }

    /// Encrypts the next requests, unless some are left that the socket has not taken, and writes.
    pub(super) fn write(&mut self, send_buffer: &mut SendBuffer, progress: &mut Option<Progress>) -> io::Result<()> {
        if !self.session.wants_write() {
            self.encrypt(send_buffer, progress)?;
        }
        let before = self.marks.taken();
        let written = self.flush();
        if self.marks.taken() > before {
            progress.get_or_insert_default().finished += self.marks.passed();
        }
        written
    }

    /// Encrypts records of the next requests until there are enough for a write.
    fn encrypt(&mut self, send_buffer: &mut SendBuffer, progress: &mut Option<Progress>) -> io::Result<()> {
        let mut pending = 0;
        for _ in 0..RECORDS_AHEAD {
            if pending >= BYTES_AHEAD || send_buffer.is_empty() {
                break;
            }
            let slices = send_buffer.slices(SLICES_PER_RECORD);
            // No more than a record, so that the end of each is known.
            self.session.set_buffer_limit(Some(pending + RECORD_BYTES));
            let taken = if slices.is_empty() { 0 } else { some(self.session.writer().write_vectored(&slices)?)? };
            let more = send_buffer.accept(taken);
            progress.get_or_insert_default().started += more.started;
            pending = self.pending();
            self.marks.set(more.finished, pending);
        }
        Ok(())
    }

    /// Bytes that are encrypted, and that the socket has not taken.
    fn pending(&mut self) -> usize {
        let mut probe = Probe(0);
        // It takes nothing, and says so: what it was offered is all that there is.
        let _ = self.session.write_tls(&mut probe);
        probe.0
    }

    /// Writes what is encrypted until nothing is left, or the socket would block.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Silent(&self.socket)).and_then(some) {
                Ok(written) => self.marks.take(written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will come, unless that would send the rest of a request, too.
    pub(super) fn end(&mut self) {
        if !self.session.wants_write() {
            self.session.send_close_notify();
            // Whoever does not take it sees the end of the stream.
            let _ = self.flush();
        }
    }

    fn failed(&self, error: &rustls::Error) -> ConnectionErrorKind {
        fault::kind(error, &self.first, self.session.is_handshaking(), self.has_answered)
    }

    /// The stream has ended in the handshake.
    fn closed(&self) -> ConnectionErrorKind {
        let at_once = self.first.is_empty();
        ConnectionErrorKind::Tls(if at_once { TlsFault::ClosedAtOnce } else { TlsFault::ClosedInHandshake })
    }

    /// The socket has failed in the handshake: a peer that closes without having read everything resets.
    fn broken(&self, error: io::Error) -> ConnectionErrorKind {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => self.closed(),
            _ => ConnectionErrorKind::Io(Arc::new(error)),
        }
    }
}

/// Writes to a socket without a signal.
struct Silent<'a>(&'a TcpStream);

impl Write for Silent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        write_in_silence(self.0, slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what it is offered, and takes nothing.
struct Probe(usize);

impl Write for Probe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0 = slices.iter().map(|slice| slice.len()).sum();
        Err(ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// More than most messages of a handshake have, and few enough for rustls to hold what follows the last one.
const HANDSHAKE_BYTES: usize = 4096;

/// The plaintext of a record (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// Encrypted in one go: large writes, and little memory for each connection.
const BYTES_AHEAD: usize = 64 * 1024;

/// rustls offers no more than 64 records to a write, and `pending` must see all of them.
const RECORDS_AHEAD: usize = 32;

/// Enough to fill a record with pieces of more than 128 bytes.
const SLICES_PER_RECORD: usize = 128;

/// Enough to recognise another protocol.
const FIRST_BYTES: usize = 4;

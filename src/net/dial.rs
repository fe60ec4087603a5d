//! A connection in the making: look-up, then one address after the other, each with its fair share of the time left,
//! in which the handshake of TLS has its place. Holds the frames to send and the buffer to read into afterwards. Never
//! waits; `Net` tells it the events and the time.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::receive_buffer::ReceiveBuffer;
use super::resolve::Resolved;
use super::send_buffer::SendBuffer;
use super::tls::TlsStream;
use super::transport::Transport;
use crate::config::{BrokerAddress, Encryption};
use crate::error::ConnectionErrorKind;

#[derive(Debug)]
pub(super) struct Dial {
    pub(super) token: Token,
    pub(super) receive_buffer: ReceiveBuffer,
    pub(super) send_buffer: SendBuffer,
    address: BrokerAddress,
    encryption: Option<Encryption>,
    all_addresses: bool,
    within: Duration,
    /// `None` is never.
    deadline: Option<Instant>,
    /// Addresses not yet tried.
    rest: VecDeque<SocketAddr>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    LookUp,
    Connect {
        stream: TcpStream,
        /// The moment at which the next address has its turn; `None` is never.
        until: Option<Instant>,
    },
    Handshake {
        stream: Box<TlsStream>,
        /// As above.
        until: Option<Instant>,
    },
    Ready(Transport),
    Failed(ConnectionErrorKind),
}

impl Dial {
    /// Begins: an address is tried at once, a name has to be looked up (`host_to_look_up`).
    pub(super) fn new(
        token: Token,
        address: &BrokerAddress,
        encryption: Option<&Encryption>,
        within: Duration,
        all_addresses: bool,
        now: Instant,
        registry: &Registry,
    ) -> Self {
        let mut dial = Self {
            token,
            receive_buffer: ReceiveBuffer::new(DEFAULT_RESPONSE_BYTES),
            send_buffer: SendBuffer::default(),
            address: address.clone(),
            encryption: encryption.cloned(),
            all_addresses,
            within,
            deadline: now.checked_add(within),
            rest: VecDeque::new(),
            stage: Stage::LookUp,
        };
        if let Ok(ip) = address.host.parse::<IpAddr>() {
            dial.rest.push_back(SocketAddr::new(ip, address.port));
            dial.try_next(no_address(), now, registry);
        }
        dial
    }

    pub(super) fn host_to_look_up(&self) -> Option<&str> {
        matches!(self.stage, Stage::LookUp).then_some(&*self.address.host)
    }

    /// The moment at which `judge` has something to say, if nothing happens before; `None` is never.
    pub(super) fn until(&self) -> Option<Instant> {
        match &self.stage {
            Stage::LookUp => self.deadline,
            Stage::Connect { until, .. } | Stage::Handshake { until, .. } => *until,
            Stage::Ready(_) | Stage::Failed(_) => None,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Failed(_))
    }

    /// The look-up ended.
    pub(super) fn looked_up(&mut self, answer: &Resolved, now: Instant, registry: &Registry) {
        match answer {
            Ok(addresses) => {
                let most = if self.all_addresses { addresses.len() } else { 1 };
                self.rest.extend(addresses.iter().take(most));
                for address in &mut self.rest {
                    if address.port() == 0 {
                        address.set_port(self.address.port);
                    }
                }
                self.try_next(no_address(), now, registry);
            }
            Err(error) => self.stage = Stage::Failed(ConnectionErrorKind::Resolve(Arc::clone(error))),
        }
    }

    /// The socket has news: `true` if it is ready now, and `finish` gives it.
    pub(super) fn socket_moved(&mut self, now: Instant, registry: &Registry) -> bool {
        let moved = match mem::replace(&mut self.stage, Stage::LookUp) {
            Stage::Connect { stream, until } => self.connect_moved(stream, until),
            Stage::Handshake { stream, until } => shake_hands(stream, until),
            other => Ok(other),
        };
        match moved {
            Ok(stage) => self.stage = stage,
            Err(kind) => self.try_next(kind, now, registry),
        }
        matches!(self.stage, Stage::Ready(_))
    }

    fn connect_moved(&self, stream: TcpStream, until: Option<Instant>) -> Result<Stage, ConnectionErrorKind> {
        match connected(&stream) {
            Ok(true) => {}
            Ok(false) => return Ok(Stage::Connect { stream, until }),
            Err(error) => return Err(connect_failed(error)),
        }
        // Without it a connection is only slower; if the socket is broken, the next read says so.
        let _ = stream.set_nodelay(true);
        match &self.encryption {
            None => Ok(Stage::Ready(Transport::Plain(stream))),
            Some(encryption) => {
                let stream = TlsStream::begin(stream, encryption, &self.address.host)?;
                shake_hands(Box::new(stream), until)
            }
        }
    }

    /// Gives up an address, or all, when its time is over.
    pub(super) fn judge(&mut self, now: Instant, registry: &Registry) {
        if self.deadline.is_some_and(|deadline| deadline <= now) && !self.has_failed() {
            self.stage = Stage::Failed(ConnectionErrorKind::ConnectTimeout(self.within));
        } else if self.until().is_some_and(|until| until <= now) {
            self.try_next(connect_failed(ErrorKind::TimedOut.into()), now, registry);
        }
    }

    /// The connection with its buffers, or the reason why there is none.
    pub(super) fn finish(self) -> Result<(Transport, ReceiveBuffer, SendBuffer), ConnectionErrorKind> {
        match self.stage {
            Stage::Ready(transport) => Ok((transport, self.receive_buffer, self.send_buffer)),
            Stage::Failed(kind) => Err(kind),
            Stage::LookUp | Stage::Connect { .. } | Stage::Handshake { .. } => Err(ConnectionErrorKind::Closed),
        }
    }

    /// Begins with the next address that lets itself be begun with; if none is left, the last error is the outcome.
    fn try_next(&mut self, mut last_error: ConnectionErrorKind, now: Instant, registry: &Registry) {
        while let Some(address) = self.rest.pop_front() {
            match start(address, self.token, registry) {
                Ok(stream) => {
                    self.stage = Stage::Connect { stream, until: self.share(now) };
                    return;
                }
                Err(error) => last_error = connect_failed(error),
            }
        }
        self.stage = Stage::Failed(last_error);
    }

    /// The end of a fair share of the time left, between the address that is begun with now and the rest.
    fn share(&self, now: Instant) -> Option<Instant> {
        let deadline = self.deadline?;
        let tries = u32::try_from(self.rest.len()).unwrap_or(u32::MAX).saturating_add(1);
        Some(now + deadline.saturating_duration_since(now) / tries)
    }
}

fn start(address: SocketAddr, token: Token, registry: &Registry) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

/// `true` if the connection stands; `false` if it does not stand yet.
fn connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // A port without a listener may be given to the very socket that tries it, which then talks to itself.
        Ok(peer) if stream.local_addr().is_ok_and(|own| own == peer) => Err(ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Goes on with the handshake.
fn shake_hands(mut stream: Box<TlsStream>, until: Option<Instant>) -> Result<Stage, ConnectionErrorKind> {
    let done = stream.shake_hands()?;
    Ok(if done { Stage::Ready(Transport::Tls(stream)) } else { Stage::Handshake { stream, until } })
}

fn connect_failed(error: io::Error) -> ConnectionErrorKind {
    ConnectionErrorKind::Connect(Arc::new(error))
}

fn no_address() -> ConnectionErrorKind {
    connect_failed(ErrorKind::AddrNotAvailable.into())
}

/// The largest response, in bytes, until the engine says otherwise.
const DEFAULT_RESPONSE_BYTES: usize = 512 * 1024;

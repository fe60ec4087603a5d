//! Stands for `tls` in a build without it: an encrypted connection that nobody can make, so that no code around it need
//! know which build it is in.
#![expect(clippy::needless_pass_by_ref_mut, reason = "the other `tls` needs it")]

use std::convert::Infallible;
use std::io;

use mio::net::TcpStream;

use super::send_buffer::{Progress, SendBuffer};
use super::socket::Sink;
use crate::config::Encryption;
use crate::error::ConnectionErrorKind;

#[derive(Debug)]
pub(super) struct TlsStream(Infallible);

impl TlsStream {
    pub(super) fn begin(_: TcpStream, encryption: &Encryption, _: &str) -> Result<Self, ConnectionErrorKind> {
        match *encryption {}
    }

    pub(super) fn shake_hands(&mut self) -> Result<bool, ConnectionErrorKind> {
        match self.0 {}
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        match self.0 {}
    }

    pub(super) fn take(&mut self, _: &[u8], _: Sink<'_>) -> Result<(), ConnectionErrorKind> {
        match self.0 {}
    }

    pub(super) fn holds_bytes(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn progress(&mut self) -> Option<Progress> {
        match self.0 {}
    }

    pub(super) fn write(&mut self, _: &mut SendBuffer, _: &mut Option<Progress>) -> io::Result<()> {
        match self.0 {}
    }

    pub(super) fn end(&mut self) {
        match self.0 {}
    }
}

//! Stands for `tls` in a build without it: what nobody can make.

use std::convert::Infallible;
use std::io;
use std::net::TcpStream;

pub(super) type Encryption = Infallible;

pub(super) fn accept<'a>(encryption: &Encryption, _: &'a TcpStream) -> io::Result<&'a TcpStream> {
    match *encryption {}
}

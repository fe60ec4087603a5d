//! The brokers' side of TLS: what a test says of it, and the connection that it makes of a socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::crypto;

/// What brokers show and demand on encrypted connections, for [`ClusterBuilder::tls`](super::ClusterBuilder::tls).
#[derive(Clone)]
#[must_use = "options do nothing until they are given to `ClusterBuilder::tls`"]
pub struct BrokerTls {
    certificates: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What makes encrypted connections of sockets.
pub(super) type Encryption = Arc<ServerConfig>;

impl BrokerTls {
    /// All brokers have this certificate, perhaps with those between it and its CA behind it, and this key: PEM.
    ///
    /// It must be for `127.0.0.1`, where the brokers listen, or for the names that
    /// [`advertise`](super::Cluster::advertise) gives them.
    pub fn new(certificates: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self { certificates: certificates.as_ref().to_vec(), key: key.as_ref().to_vec(), client_ca: None }
    }

    /// Demands a client certificate that this CA, or one below it, has signed: PEM. Without this none is asked for.
    pub fn client_ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.client_ca = Some(pem.as_ref().to_vec());
        self
    }

    pub(super) fn encryption(&self) -> Result<Encryption, String> {
        let provider = crypto::provider().map_err(|_| "this processor lacks what TLS needs".to_owned())?;
        let (provider, bad) = (Arc::new(provider), |what: &str| format!("{what} of the brokers' TLS cannot be read"));
        let read = |pem: &[u8], what: &str| {
            CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| bad(what))
        };
        let certificates = read(&self.certificates, "the certificates")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| bad("the key"))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in read(pem, "the clients' CA")? {
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        builder.with_single_cert(certificates, key).map(Arc::new).map_err(|error| error.to_string())
    }
}

/// The connection over a socket; the handshake comes with its first read.
pub(super) fn accept<'a>(encryption: &Encryption, socket: &'a TcpStream) -> io::Result<impl Read + Write + use<'a>> {
    let session = ServerConnection::new(Arc::clone(encryption)).map_err(io::Error::other)?;
    Ok(Accepted(StreamOwned::new(session, socket)))
}

/// Says that it ends, as brokers do.
struct Accepted<'a>(StreamOwned<ServerConnection, &'a TcpStream>);

impl Read for Accepted<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.0.read(bytes) {
            // A client that ends without a word.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

impl Write for Accepted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        if !self.0.conn.is_handshaking() {
            self.0.conn.send_close_notify();
            // Who reads nothing holds up no end.
            let _ = self.0.sock.set_nonblocking(true);
            let _ = self.0.flush();
        }
    }
}

impl std::fmt::Debug for BrokerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerTls").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

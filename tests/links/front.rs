//! A port that speaks TLS, in front of a server that does not: passes on what clients say, decrypted, and what the
//! server says, encrypted. So whatever is done to clients in the clear can be done to them within TLS, too.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::certificates::{Identity, provider};
use crate::door::{Door, End, Pair};

/// Opens the port; the server is called once the handshake of a connection is done.
pub fn before(server: SocketAddr, identity: &Identity) -> Door {
    let certificates = CertificateDer::pem_slice_iter(identity.certificates.as_bytes()).map(|it| it.expect("PEM"));
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(provider()));
    let config = config.with_safe_default_protocol_versions().expect("the provider has them").with_no_client_auth();
    let config = Arc::new(config.with_single_cert(certificates.collect(), key).expect("they fit"));
    Door::before(server, move |_, pair| {
        let mut session = ServerConnection::new(Arc::clone(&config)).expect("the options are good");
        thread::spawn(move || {
            let shaken = session.complete_io(&mut &pair.client);
            let session = Arc::new(Mutex::new(session));
            if shaken.is_ok() {
                let (other, shared) = (Arc::clone(&pair), Arc::clone(&session));
                thread::spawn(move || {
                    let _ = encrypt(&other, &shared);
                    other.end(End::Close);
                });
                let _ = decrypt(&pair, &session);
            }
            pair.end(End::Close);
        });
    })
}

fn decrypt(pair: &Pair, session: &Mutex<ServerConnection>) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    let mut plain = Vec::new();
    loop {
        // What came with the end of the handshake is there already.
        {
            let mut session = lock(session);
            match session.reader().read_to_end(&mut plain) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            send(&mut session, &pair.client)?;
        }
        (&pair.broker).write_all(&plain)?;
        plain.clear();
        let read = (&pair.client).read(&mut bytes)?;
        let mut rest = &bytes[..read];
        if rest.is_empty() {
            return Ok(());
        }
        let mut session = lock(session);
        while !rest.is_empty() {
            session.read_tls(&mut rest)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

fn encrypt(pair: &Pair, session: &Mutex<ServerConnection>) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = (&pair.broker).read(&mut bytes)?;
        let mut session = lock(session);
        if read == 0 {
            session.send_close_notify();
            return send(&mut session, &pair.client);
        }
        session.writer().write_all(&bytes[..read])?;
        send(&mut session, &pair.client)?;
    }
}

fn send(session: &mut ServerConnection, mut to: &TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut to)?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic")
}

//! The options of encrypted connections, for the examples that connect to a cluster.

use std::error::Error;
use std::path::PathBuf;

use lexopt::Parser;
use ottla::ClientBuilder;

/// The lines of `--help`.
macro_rules! tls_usage {
    () => {
        "  --tls                         encrypt connections (needs a build with --features tls); the options below do so, too
  --ca-file FILE                trust the certificates in FILE (PEM), and not those of the system
  --cert-file FILE              the client certificate, with those between it and its CA behind it (PEM)
  --key-file FILE               its private key (PEM)
"
    };
}
pub(crate) use tls_usage;

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    on: bool,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl TlsOptions {
    /// Takes an option of these; `false` if it is none.
    pub fn set(&mut self, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
        let file = match name {
            "tls" => {
                self.on = true;
                return Ok(true);
            }
            "ca-file" => &mut self.ca_file,
            "cert-file" => &mut self.cert_file,
            "key-file" => &mut self.key_file,
            _ => return Ok(false),
        };
        *file = Some(PathBuf::from(parser.value()?));
        self.on = true;
        Ok(true)
    }

    /// Sets the client up for it.
    #[cfg(feature = "_tls")]
    pub fn apply(&self, client: ClientBuilder) -> Result<ClientBuilder, Box<dyn Error>> {
        if !self.on {
            return Ok(client);
        }
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let mut tls = ottla::Tls::new();
        if let Some(path) = &self.ca_file {
            tls = tls.ssl_ca_cert_file_path(path);
        }
        if let Some(path) = &self.cert_file {
            tls = tls.ssl_client_cert(read(path)?);
        }
        if let Some(path) = &self.key_file {
            tls = tls.ssl_client_cert_key(read(path)?);
        }
        Ok(client.tls(tls))
    }

    /// Without TLS in this build there is nothing to set up.
    #[cfg(not(feature = "_tls"))]
    pub fn apply(&self, client: ClientBuilder) -> Result<ClientBuilder, Box<dyn Error>> {
        if self.on {
            Err("this program was built without TLS: build it with --features tls".into())
        } else {
            Ok(client)
        }
    }
}

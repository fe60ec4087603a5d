//! Ways from a client to brokers: in the clear, encrypted, and with a login. A test that goes over each of them shows
//! that none changes what it is about.

#[cfg(feature = "_tls")]
mod front;

use std::net::SocketAddr;

use ottla::testing::{ClusterBuilder, Logins};
use ottla::{ClientBuilder, Sasl};

use crate::door::Door;

/// A way, with what both ends need for it.
#[derive(Clone, Debug, Default)]
pub struct Link {
    #[cfg(feature = "_tls")]
    tls: Option<Encrypted>,
    logs_in: bool,
}

#[cfg(feature = "_tls")]
#[derive(Clone, Debug)]
struct Encrypted {
    /// The CA, and what it has signed.
    ca: String,
    broker: crate::certificates::Identity,
}

impl Link {
    /// In the clear.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Encrypted.
    #[cfg(feature = "_tls")]
    pub fn tls() -> Self {
        use crate::certificates::{Authority, Leaf};
        let authority = Authority::new("root");
        let broker = authority.issue(&Leaf::default());
        Self { tls: Some(Encrypted { ca: authority.pem(), broker }), ..Self::default() }
    }

    /// The same, with a login first.
    pub fn and_login(mut self) -> Self {
        self.logs_in = true;
        self
    }

    /// Whether everybody on the way can read what passes.
    pub fn is_plain(&self) -> bool {
        #[cfg(feature = "_tls")]
        return self.tls.is_none();
        #[cfg(not(feature = "_tls"))]
        true
    }

    /// Each way that this build has.
    pub fn all() -> Vec<Self> {
        let all = vec![Self::plain(), Self::plain().and_login()];
        #[cfg(feature = "_tls")]
        let all = [all, vec![Self::tls(), Self::tls().and_login()]].concat();
        all
    }

    /// A port for it in front of a server that knows nothing of TLS; `None` if that needs none.
    pub fn before(&self, server: SocketAddr) -> Option<Door> {
        #[cfg(feature = "_tls")]
        return self.tls.as_ref().map(|tls| front::before(server, &tls.broker));
        #[cfg(not(feature = "_tls"))]
        {
            let _ = server;
            None
        }
    }

    /// Whether a login comes first.
    pub fn logs_in(&self) -> bool {
        self.logs_in
    }

    /// Brokers at its end.
    pub fn brokers(&self, builder: ClusterBuilder) -> ClusterBuilder {
        let builder = self.brokers_in_the_clear(builder);
        #[cfg(feature = "_tls")]
        if let Some(tls) = &self.tls {
            return builder.tls(ottla::testing::BrokerTls::new(&tls.broker.certificates, &tls.broker.key));
        }
        builder
    }

    /// The same behind a port that speaks TLS for them (`before`).
    pub fn brokers_in_the_clear(&self, builder: ClusterBuilder) -> ClusterBuilder {
        if self.logs_in { builder.sasl(Logins::new().plain("ann", "secret")) } else { builder }
    }

    /// A client at its beginning.
    pub fn client(&self, mut client: ClientBuilder) -> ClientBuilder {
        if self.logs_in {
            client = client.sasl(Sasl::plain("ann", "secret")).sasl_over_ssl(!self.is_plain());
        }
        #[cfg(feature = "_tls")]
        if let Some(tls) = &self.tls {
            // The usual first group has keys of more than a kilobyte.
            let tls = ottla::Tls::new().ssl_ca_cert(&tls.ca).key_exchange_groups([ottla::KeyExchangeGroup::X25519]);
            client = client.tls(tls);
        }
        client
    }
}

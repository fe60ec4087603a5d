//! Whether brokers can be reached where the cluster says they are: for a look at the cluster, which has no messages for
//! them. Each is called once; all calls go on at the same time.

use std::time::{Duration, Instant};

use super::ProducerEngine;
use crate::engine::cluster::link::Peer;
use crate::error::{ConnectionError, ConnectionErrorKind, DeliveryErrorKind};

impl ProducerEngine {
    /// Calls a broker that metadata named, unless that was done. Returns what came of it, once; `None` while that is not
    /// known.
    pub fn call_broker(&mut self, node: i32, now: Instant) -> Option<Result<(), ConnectionError>> {
        let peer = Peer::Node(node);
        if self.cluster.link(peer).is_some_and(|link| link.is_down() && link.last_error.is_none()) {
            let (cluster, waiting) = self.cluster_and_demand();
            cluster.connect(peer, &waiting, now);
            self.heed_news(now);
        }
        let link = self.cluster.link(peer)?;
        if let Some(DeliveryErrorKind::Connection(error)) = link.last_error.as_deref() {
            return Some(Err(error.clone()));
        }
        link.ready()?;
        // The others may need its descriptor.
        self.cluster.hang_up(peer);
        Some(Ok(()))
    }

    /// The connections that are not ready yet, as errors of a look at the cluster that ends now, `after` it began.
    pub fn unready(&self, after: Duration) -> impl Iterator<Item = ConnectionError> {
        self.cluster.unready(ConnectionErrorKind::CheckTimeout(after))
    }
}

//! Whether brokers can be reached where the cluster says they are: for a look at the cluster, which has no messages for
//! them. Each is called once; all calls go on at the same time.

use std::time::{Duration, Instant};

use super::ProducerEngine;
use super::brokers::error_of;
use crate::engine::cluster::link::{Link, Peer};
use crate::error::{ConnectionError, ConnectionErrorKind, DeliveryErrorKind};

impl ProducerEngine {
    /// Calls a broker that metadata named, unless that was done. Returns what came of it, once; `None` while that is not
    /// known.
    pub fn call_broker(&mut self, node: i32, now: Instant) -> Option<Result<(), ConnectionError>> {
        let peer = Peer::Node(node);
        if self.brokers.links.get(&peer).is_some_and(|link| link.is_down() && link.last_error.is_none()) {
            self.connect(peer, now);
        }
        let link = self.brokers.links.get(&peer)?;
        if let Some(DeliveryErrorKind::Connection(error)) = link.last_error.as_deref() {
            return Some(Err(error.clone()));
        }
        link.ready()?;
        // The others may need its descriptor.
        self.hang_up(peer);
        Some(Ok(()))
    }

    /// The connections that are not ready yet, as errors of a look at the cluster that ends now, `after` it began.
    pub fn unready(&self, after: Duration) -> impl Iterator<Item = ConnectionError> {
        let starting = self.brokers.links.iter().filter(|(_, link)| Link::is_starting(link));
        starting.map(move |(peer, link)| error_of(*peer, link, ConnectionErrorKind::CheckTimeout(after)))
    }
}

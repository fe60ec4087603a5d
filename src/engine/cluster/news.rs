//! The news of a cluster for its engine.

use std::sync::Arc;

use super::in_flight::Request;
use super::link::Peer;
use crate::error::DeliveryErrorKind;
use crate::wire::api::metadata::TopicMetadata;
use crate::wire::frame::ConnId;

/// A piece of news that an engine must learn of the cluster.
#[derive(Debug)]
pub enum News {
    /// A connection ended by itself.
    Ended {
        /// To this broker.
        peer: Peer,
        /// Its number.
        conn: ConnId,
        /// The requests without an answer, and the reason; `None` if it had nothing to do.
        lost: Option<Lost>,
    },
    /// Another cluster is where the one before was, with other topics under the same names.
    Replaced,
    /// A broker told of topics. Once that is taken in, `Cluster::took_topics` follows.
    Topics {
        /// This broker.
        peer: Peer,
        /// The topics in its answer.
        topics: Vec<TopicMetadata>,
    },
}

/// The remains of a connection that failed.
#[derive(Debug)]
pub struct Lost {
    /// Requests without an answer, in order, each with `true` if the socket had taken its first byte.
    pub requests: Vec<(Request, bool)>,
    /// Why.
    pub error: Arc<DeliveryErrorKind>,
}

/// An answer to a request of the engine's own.
#[derive(Debug)]
pub struct Answered {
    /// From this broker.
    pub peer: Peer,
    /// On this connection.
    pub conn: ConnId,
    /// To this.
    pub request: Request,
}

//! What a cluster said of itself.

use crate::config::BrokerAddress;

/// What the last metadata said of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The id that the cluster gave itself.
    pub id: Option<Box<str>>,
    /// Node id of the controller, or -1.
    pub controller: i32,
    /// The brokers: node id and address.
    pub brokers: Vec<(i32, BrokerAddress)>,
}

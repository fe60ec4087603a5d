//! A cluster's description of itself.

use crate::config::BrokerAddress;

/// The description of the cluster in the last metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The id that the cluster gave itself.
    pub id: Option<Box<str>>,
    /// Node id of the controller, or -1.
    pub controller: i32,
    /// The brokers: node id and address.
    pub brokers: Vec<(i32, BrokerAddress)>,
}

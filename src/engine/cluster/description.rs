//! A cluster's description of itself.

use crate::error::BrokerInfo;
use crate::ids::NodeId;

/// The description of the cluster in the last metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDescription {
    /// The id that the cluster gave itself.
    pub id: Option<Box<str>>,
    /// The controller, if it is known.
    pub controller: Option<NodeId>,
    /// The brokers.
    pub brokers: Vec<BrokerInfo>,
}

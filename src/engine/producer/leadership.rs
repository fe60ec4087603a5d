//! The leader of a partition, and of a batch when it was sent: another one, or another epoch, makes a difference to what
//! an answer means.

use crate::ids::NodeId;

/// The leader of a partition, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Its node; none while there is no leader.
    pub node: Option<NodeId>,
    /// Its epoch, where brokers tell it.
    pub epoch: Option<i32>,
}

impl Leadership {
    /// What a response says, which has -1 for what is not known.
    #[must_use]
    pub fn told(node: i32, epoch: i32) -> Self {
        Self { node: NodeId::known(node), epoch: (epoch >= 0).then_some(epoch) }
    }
}

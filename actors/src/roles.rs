//! Where the pure roles come from: the shell drives whatever this builds.

use drachma_protocol::ids::{DirectoryId, GroupId};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::role::Role;

/// What a group's roles are built from.
#[derive(Debug)]
pub struct Birth {
    /// The group.
    pub group: GroupId,
    /// The id of the node's data directory.
    pub directory: DirectoryId,
    /// What the directory held of the group.
    pub recovered: Recovered,
    /// The wall clock at [`Time`](drachma_protocol::time::Time) zero, in microseconds since 1970.
    pub wall: u64,
}

/// Builds the roles of a group. Called once per group, on the thread that will run them.
pub trait RoleFactory: Send + Sync {
    /// The roles in the order of [`RoleKind::ALL`](drachma_protocol::role::RoleKind::ALL): replica, leader,
    /// coordinator, participant.
    fn build(&self, birth: Birth) -> [Box<dyn Role>; 4];
}

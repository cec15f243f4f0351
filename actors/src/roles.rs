//! Where the pure roles come from: the shell drives whatever this builds.

use drachma_protocol::ids::{DirectoryId, GroupId};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::role::Role;

/// Builds the roles of a group. Called once per group, on the thread that will run them.
pub trait RoleFactory: Send + Sync {
    /// The roles in the order of [`RoleKind::ALL`](drachma_protocol::role::RoleKind::ALL): replica, leader,
    /// coordinator, participant. `directory` is the id of the node's data directory, `recovered` what it held of the
    /// group.
    fn build(&self, group: GroupId, directory: DirectoryId, recovered: Recovered) -> [Box<dyn Role>; 4];
}

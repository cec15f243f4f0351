//! Where the pure roles come from: the shell drives whatever this builds.

use std::hash::{BuildHasher, Hasher, RandomState};

use drachma_protocol::ids::{DirectoryId, GroupId, NodeId};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::log::record::Recovered;
use drachma_protocol::paxos::{Leader, LeaderConfig, Replica, ReplicaConfig};
use drachma_protocol::role::{Address, Role, RoleKind};
use drachma_protocol::routing::Routes;
use drachma_protocol::table::PARTS;
use drachma_protocol::txn::{Coordinator, Participant, TxnConfig};

use crate::config::NodeConfig;

/// What a group's roles are built from.
#[derive(Debug)]
pub struct Birth {
    /// The group.
    pub group: GroupId,
    /// The id of the node's data directory.
    pub directory: DirectoryId,
    /// What the directory held of the group.
    pub recovered: Recovered,
    /// The state at which the log begins, if that is not the very first one.
    pub ledger: Option<Box<Ledger>>,
    /// The wall clock at [`Time`](drachma_protocol::time::Time) zero, in microseconds since 1970.
    pub wall: u64,
}

/// Builds the roles of a group. Called once per group, on the thread that will run them.
pub trait RoleFactory: Send + Sync {
    /// The roles in the order of [`RoleKind::ALL`](drachma_protocol::role::RoleKind::ALL): replica, leader,
    /// coordinator, participant.
    fn build(&self, birth: Birth) -> [Box<dyn Role>; 4];
}

/// Builds the real roles of a node.
pub(crate) struct RealRoles(pub(crate) NodeConfig);

// Random per process: clients choose the ids, so nobody may foresee where a table puts them.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl RoleFactory for RealRoles {
    fn build(&self, birth: Birth) -> [Box<dyn Role>; 4] {
        let Birth { group, directory, recovered, ledger, wall } = birth;
        let (config, node) = (&self.0, self.0.node);
        let genesis = config.genesis.iter().find(|genesis| genesis.group == group);
        let genesis = genesis.expect("every group has its genesis").clone();
        let members = config.groups.iter().find(|(id, _)| *id == group);
        let nodes: Vec<NodeId> = members.expect("a group of this node is in its configuration").1.clone();
        let me = Address { node, group, role: RoleKind::Coordinator };
        let txn = || TxnConfig::new(me, Routes::new(config.groups.clone()), genesis.map.clone(), seed());
        let (coordinator, participant) = (Coordinator::new(txn()), Participant::new(txn()));
        let leader = Leader::new(LeaderConfig {
            node,
            group,
            nodes: nodes.clone(),
            directory,
            heartbeat: config.timers.heartbeat,
            leader_timeout: config.timers.leader_timeout,
            promise: recovered.promise,
            wall,
            seed: seed(),
        });
        let snapshot_every = config.storage.snapshot_every_bytes;
        let (parts, seed) = (PARTS, seed());
        let replica = ReplicaConfig { node, group, nodes, directory, genesis, snapshot_every, parts, seed };
        let replica = match ledger {
            Some(ledger) => Replica::with_ledger(replica, recovered, *ledger),
            None => Replica::new(replica, recovered),
        };
        [Box::new(replica), Box::new(leader), Box::new(coordinator), Box::new(participant)]
    }
}

//! The real roles, as a node assembles them. This is the only file that knows their constructors.

use drachma_protocol::ids::GroupId;
use drachma_protocol::ledger::{Genesis, Ledger};
use drachma_protocol::message::client::{Call, Request};
use drachma_protocol::message::operator::OperatorCall;
use drachma_protocol::paxos::{Leader, LeaderConfig, Replica, ReplicaConfig};
use drachma_protocol::role::{Address, RoleKind};
use drachma_protocol::routing::Routes;
use drachma_protocol::txn::{Coordinator, Participant, TxnConfig};

use crate::checkers::Checkers;
use crate::faults::Swarm;
use crate::node::{Assembly, Birth, Hosted, PARTS};
use crate::run::Simulation;
use crate::shape::Shape;

/// A coordinator has room for at least so many transfers at a time.
const BATCH_ROOM: usize = 64;

impl Hosted for Replica {
    fn ledger(&self) -> Option<&Ledger> {
        Some(Replica::ledger(self))
    }

    fn may_vote(&self) -> bool {
        Replica::may_vote(self)
    }
}

impl Hosted for Leader {}
impl Hosted for Coordinator {}
impl Hosted for Participant {}

/// The nodes of a cluster as they really are.
pub struct RealRoles {
    shape: Shape,
}

impl RealRoles {
    /// The nodes of this cluster.
    pub fn new(shape: Shape) -> RealRoles {
        RealRoles { shape }
    }

    fn txn(&self, me: Address, seed: u64) -> TxnConfig {
        let routes = Routes::new(self.shape.groups.iter().cloned());
        let config = TxnConfig::new(me, routes, self.shape.map.clone(), seed);
        // As narrow as the shape's limits, but wide enough for any batch.
        let limit = self.shape.limits.waiting.clamp(BATCH_ROOM, config.limit);
        let peer_limit = config.peer_limit.min(self.shape.limits.in_doubt_per_group);
        let (resend, inquire_after) = (self.shape.resend, self.shape.inquire_after);
        TxnConfig { resend, inquire_after, limit, peer_limit, ..config }
    }
}

impl Assembly for RealRoles {
    fn start(&self, birth: Birth) -> Vec<(RoleKind, Box<dyn Hosted>)> {
        let Birth { node, group, directory, recovered, ledger, seed, wall } = birth;
        let nodes = self.shape.members(group).to_vec();
        let leader = Leader::new(LeaderConfig {
            node,
            group,
            nodes: nodes.clone(),
            directory,
            heartbeat: self.shape.heartbeat,
            leader_timeout: self.shape.leader_timeout,
            promise: recovered.promise,
            wall,
            seed,
        });
        let genesis = self.shape.genesis(group);
        let snapshot_every = self.shape.snapshot_every;
        let config = ReplicaConfig { node, group, nodes, directory, genesis, snapshot_every, parts: PARTS, seed };
        let replica = match ledger {
            Some(ledger) => Replica::with_ledger(config, recovered, *ledger),
            None => Replica::new(config, recovered),
        };
        let me = |role| Address { node, group, role };
        let coordinator = Coordinator::new(self.txn(me(RoleKind::Coordinator), seed ^ 1));
        let participant = Participant::new(self.txn(me(RoleKind::Participant), seed ^ 2));
        vec![
            (RoleKind::Replica, Box::new(replica)),
            (RoleKind::Leader, Box::new(leader)),
            (RoleKind::Coordinator, Box::new(coordinator)),
            (RoleKind::Participant, Box::new(participant)),
        ]
    }

    fn genesis(&self, group: GroupId) -> Option<Genesis> {
        Some(self.shape.genesis(group))
    }

    fn takes(&self, request: &Request) -> RoleKind {
        match &request.call {
            Call::Command(command) if command.kind.is_coordinated() => RoleKind::Coordinator,
            Call::Operator(OperatorCall::LeaderStatus(_) | OperatorCall::HandOver(_)) => RoleKind::Leader,
            Call::Query(query) if !query.confirmed => RoleKind::Replica,
            Call::Lookup(_) | Call::ReplicaRead(_) | Call::Operator(_) => RoleKind::Replica,
            _ => RoleKind::Leader,
        }
    }
}

fn assemble(swarm: &Swarm) -> Box<dyn Assembly> {
    Box::new(RealRoles::new(swarm.shape.clone()))
}

/// What the hunt runs: the real roles under every checker.
pub const REAL: Simulation<'static> = Simulation { assembly: &assemble, checkers: &Checkers::all };

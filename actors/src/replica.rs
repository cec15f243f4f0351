//! The actor of a group's replica: acceptor, learner and state machine.
//!
//! It hears its leader and other replicas by way of the links, its node's leader role and the log by message. Its
//! records go to the log thread; what it promises leaves when the log has confirmed. It alone is held back by the
//! log's credit (see [`crate::shell`]). Chosen entries are applied in turns, slice by slice.

use drachma_protocol::role::RoleKind;

use crate::actor::{Kind, RoleActor};

/// The actor of [`RoleKind::Replica`].
pub(crate) type ReplicaActor = RoleActor<Replica>;

/// The kind of [`ReplicaActor`].
pub(crate) enum Replica {}

impl Kind for Replica {
    const ROLE: RoleKind = RoleKind::Replica;
}

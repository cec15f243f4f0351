//! The actor of a group's leader role: election, batching, pipeline, reads.
//!
//! It gets the clients' commands and reads from the gateway, a whole read of a socket at a time, and proposes at the
//! end of the turn: what has arrived together becomes one entry. It persists nothing; its own promises and entries
//! are those of the replica beside it.

use drachma_protocol::role::RoleKind;

use crate::actor::{Kind, RoleActor};

/// The actor of [`RoleKind::Leader`].
pub(crate) type LeaderActor = RoleActor<Leader>;

/// The kind of [`LeaderActor`].
pub(crate) enum Leader {}

impl Kind for Leader {
    const ROLE: RoleKind = RoleKind::Leader;
}

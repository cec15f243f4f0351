//! The actor of a group's coordinator: begins and decides the transactions whose first account the group owns.
//!
//! It gets transactions from the gateway, applied records from the replica beside it, votes from the participants of
//! other groups; it proposes by way of the leader beside it.

use drachma_protocol::role::RoleKind;

use crate::actor::{Kind, RoleActor};

/// The actor of [`RoleKind::Coordinator`].
pub(crate) type CoordinatorActor = RoleActor<Coordinator>;

/// The kind of [`CoordinatorActor`].
pub(crate) enum Coordinator {}

impl Kind for Coordinator {
    const ROLE: RoleKind = RoleKind::Coordinator;
}

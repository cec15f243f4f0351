//! The actor of a group's participant: takes part in the transactions that other groups coordinate.
//!
//! It gets prepares and decisions from the coordinators of other groups, applied records from the replica beside it;
//! it proposes by way of the leader beside it.

use drachma_protocol::role::RoleKind;

use crate::actor::{Kind, RoleActor};

/// The actor of [`RoleKind::Participant`].
pub(crate) type ParticipantActor = RoleActor<Participant>;

/// The kind of [`ParticipantActor`].
pub(crate) enum Participant {}

impl Kind for Participant {
    const ROLE: RoleKind = RoleKind::Participant;
}

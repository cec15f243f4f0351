//! Between groups: two-phase commit. Senders name their group; the shell tells the sending node.
//!
//! Coordinator to participant: `Prepare`, `Resolve`. Participant to coordinator: `Vote`, `Resolved`, `Inquire`. Either
//! way: `Redirect`, from a node that does not lead the group that was meant.

use crate::ids::{Attempt, GroupId, NodeId, TxnId};
use crate::ledger::model::Reason;
use crate::ledger::operations::Answered;
use crate::wire::codec::{wire_enum, wire_struct};

use super::command::{Prepare, Resolve};

/// One message of two-phase commit. The tag is part of the peers' protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum TxnMessage {
    /// Coordinator: promise to be able to apply. Sent again until there is a vote.
    Prepare(Prepare),
    /// Participant: the vote, from applied state. Sent again when the `Prepare` comes again.
    Vote(Vote),
    /// Coordinator: the decision, from applied state. Sent again until acknowledged.
    Resolve(Resolve),
    /// Participant: the decision is applied here, or was.
    Resolved(Resolved),
    /// Participant: what became of this attempt? Sent again while in doubt.
    Inquire(Inquire),
    /// To whoever asked a node that does not lead the group.
    Redirect(Redirect),
}
wire_enum!(TxnMessage { 1 => Prepare, 2 => Vote, 3 => Resolve, 4 => Resolved, 5 => Inquire, 6 => Redirect });

/// What a participant says to a `Prepare`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VoteKind {
    /// Prepared: it holds what the transaction needs until the coordinator's group decides, however long that takes.
    Yes,
    /// It can never be applied as the state stands; the rejection is final.
    No(Reason),
    /// A younger one may not wait here for older ones: abort, and try again under the same age.
    Die,
    /// It waited until its deadline, or the queue is full: abort; the id stays open.
    Expired,
    /// The id has taken effect here before.
    AlreadyCommitted,
    /// The group does not own what the transaction names.
    Moved,
}

/// The vote of a participant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Vote {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// Who votes.
    pub group: GroupId,
    /// The vote.
    pub vote: VoteKind,
    /// The participant's age counter: the coordinator raises its own to it.
    pub counter: u64,
    /// Of a yes: what the operations on what it owns yield, read under its locks (hazard S5).
    pub values: Vec<Answered>,
}
wire_struct!(Vote { txn, attempt, group, vote, counter, values });

/// An acknowledgement of `Resolve`, from applied state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolved {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// Who acknowledges.
    pub group: GroupId,
}
wire_struct!(Resolved { txn, attempt, group });

/// A question about something in doubt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inquire {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// Who asks.
    pub group: GroupId,
}
wire_struct!(Inquire { txn, attempt, group });

/// This node does not lead the group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Redirect {
    /// Which group.
    pub group: GroupId,
    /// Who may lead it.
    pub leader: Option<NodeId>,
    /// This node has looked for a quorum of the group and found none.
    pub no_quorum: bool,
}
wire_struct!(Redirect { group, leader, no_quorum });

mod vote_kind {
    use super::VoteKind;
    use crate::ledger::model::Reason;
    use crate::wire::codec::{Decode, DecodeError, Encode, Reader};

    // 0 yes, 64 and above the special ones, anything else the tag of a reason.
    impl Encode for VoteKind {
        fn encode(&self, out: &mut Vec<u8>) {
            match self {
                VoteKind::Yes => 0u8.encode(out),
                VoteKind::No(reason) => reason.encode(out),
                VoteKind::Die => 64u8.encode(out),
                VoteKind::Expired => 65u8.encode(out),
                VoteKind::AlreadyCommitted => 66u8.encode(out),
                VoteKind::Moved => 67u8.encode(out),
            }
        }
    }

    impl Decode for VoteKind {
        fn decode(reader: &mut Reader<'_>) -> Result<VoteKind, DecodeError> {
            match reader.uint()? {
                0 => Ok(VoteKind::Yes),
                64 => Ok(VoteKind::Die),
                65 => Ok(VoteKind::Expired),
                66 => Ok(VoteKind::AlreadyCommitted),
                67 => Ok(VoteKind::Moved),
                tag => {
                    let reason = Reason::ALL.iter().find(|(_, n)| *n == tag).ok_or(DecodeError::Tag(tag))?;
                    Ok(VoteKind::No(reason.0))
                }
            }
        }
    }
}

//! Between the roles of one group on one node. These messages are handed over in memory, in order; they are never on
//! a wire and carry no durability: what they tell is volatile or already chosen.

use std::sync::Arc;

use crate::ids::AccountId;
use crate::ids::{Ballot, NodeId, Origin, ReplicaId, Slot};
use crate::ledger::operations::Operation;
use crate::ledger::output::{ClientOutput, TxnOutput};
use crate::ledger::records::{Coordinated, InDoubt};
use crate::time::{LogTime, Span};

use super::command::{Command, Member};

/// One message between the roles of a group on one node.
#[derive(Clone, Debug)]
pub enum LocalMessage {
    /// Replica to leader: a heartbeat of this leader was heard.
    Heard(Heard),
    /// Replica to leader, coordinator and participant: the first entry of this node's own ballot is applied; serve.
    Serve(Serve),
    /// Replica to leader: somebody else stands for election.
    Promised(Ballot),
    /// Replica to leader: who belongs to the group, once it is known.
    Members(Vec<Member>),
    /// Leader to coordinator, participant and replica: this node does not lead.
    Follow(Follow),
    /// Coordinator, participant or replica to leader: put these into the log. Never refused while leading; lost if not.
    Propose(Vec<Command>),
    /// Leader to replica: these reads are confirmed.
    Read(ConfirmedReads),
    /// Replica to leader: what applying yielded for clients.
    Answers(Vec<ClientOutput>),
    /// Replica to leader: so much is applied.
    Applied(AppliedTo),
    /// Replica to coordinator and participant: what applying yielded for transactions.
    Events(Vec<TxnOutput>),
}

macro_rules! kinds {
    ($($variant:ident),+) => {
        impl LocalMessage {
            /// Every variant's name.
            pub const KINDS: &'static [&'static str] = &[$(stringify!($variant)),+];

            /// The variant's name.
            pub fn kind(&self) -> &'static str {
                match self { $(LocalMessage::$variant(_) => stringify!($variant)),+ }
            }
        }
    };
}
kinds!(Heard, Serve, Promised, Members, Follow, Propose, Read, Answers, Applied, Events);

/// A heartbeat was heard.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Where it runs.
    pub node: NodeId,
    /// Who should stand first if it is lost.
    pub succession: Vec<ReplicaId>,
}

/// The first entry of the own ballot is applied.
#[derive(Clone, Debug)]
pub struct Serve {
    /// The ballot.
    pub ballot: Ballot,
    /// The group's log time.
    pub time: LogTime,
    /// The group's members.
    pub members: Vec<Member>,
    /// The group's age counter.
    pub counter: u64,
    /// What the group coordinates (for the coordinator).
    pub coordinated: Vec<Coordinated>,
    /// What is in doubt here, decided elsewhere (for the participant).
    pub in_doubt: Vec<InDoubt>,
}

/// This node does not lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Follow {
    /// Who may.
    pub leader: Option<NodeId>,
    /// This node has looked for a quorum and found none.
    pub no_quorum: bool,
}

/// A read that waits for its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadTicket {
    /// Where the answer goes.
    pub origin: Origin,
    /// What is read.
    pub account: AccountId,
    /// How long it may still wait.
    pub deadline: Span,
}

/// Keys and accounts that are to be read together.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryTicket {
    /// Where the answer goes.
    pub origin: Origin,
    /// What is read.
    pub operations: Arc<[Operation]>,
}

/// Something that waits for a position of the log to be read at.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// One account: it waits until nothing is in doubt there.
    Account(ReadTicket),
    /// Several things, or keys: answered at once, if only that something is in doubt.
    Query(QueryTicket),
}

impl Read {
    /// Where the answer goes.
    pub fn origin(&self) -> Origin {
        match self {
            Read::Account(ticket) => ticket.origin,
            Read::Query(ticket) => ticket.origin,
        }
    }
}

/// Reads whose leader was confirmed after they arrived.
#[derive(Clone, Debug)]
pub struct ConfirmedReads {
    /// The chosen length noted at the arrival of the last of them: apply so much first (hazard S23).
    pub at: Slot,
    /// The reads.
    pub reads: Vec<Read>,
}

/// How far the replica is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AppliedTo {
    /// The applied length.
    pub applied: Slot,
    /// The chosen length.
    pub chosen: Slot,
    /// The group's log time.
    pub time: LogTime,
    /// When, in log time, something that waits expires: an entry is needed then, or time stands still.
    pub expiry: Option<LogTime>,
}

//! What a group keeps about transactions that are under way.

use crate::ids::{Age, Attempt, GroupId, TxnId};
use crate::ledger::operations::{Action, Answered};
use crate::message::command::Verdict;
use crate::message::txn::VoteKind;
use crate::time::LogTime;
use crate::wire::codec::wire_struct;

/// A transaction that this group coordinates: from its Begin until every participant has acknowledged the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coordinated {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// Its place in the order of waiting.
    pub age: Age,
    /// Every group that takes part, this one first.
    pub participants: Vec<GroupId>,
    /// What it does.
    pub action: Action,
    /// When preparing ends at the latest, in this group's log time.
    pub deadline: LogTime,
    /// This group's own vote; nothing while its prepare waits. With a yes it holds its part.
    pub vote: Option<VoteKind>,
    /// With a yes: what the operations on what this group owns yield. Not kept: made when it is asked for.
    pub values: Vec<Answered>,
    /// The decision, once there is one.
    pub verdict: Option<Verdict>,
    /// Of a commit: what the keys of its swaps held, which the others have to be told.
    pub swapped: Vec<Answered>,
}
wire_struct!(Coordinated { txn, attempt, age, participants, action, deadline, vote, values, verdict, swapped });

/// A transaction that another group decides and that is prepared here: it holds what it needs, however long that takes
/// (hazard S10).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InDoubt {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// The group that decides.
    pub coordinator: GroupId,
    /// Since when, in this group's log time.
    pub since: LogTime,
    /// It waits for its vote; otherwise it has voted yes.
    pub waiting: bool,
    /// Its vote carries values: a copy of the `Prepare` makes them anew.
    pub yields: bool,
}

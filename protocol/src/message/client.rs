//! What clients say and what they are told: the public part of the protocol.

use crate::ids::{AccountId, Epoch, GroupId, NodeId, Session, Slot, TxnId};
use crate::ledger::model::{Account, CreateResult, ItemResult, Outcome, TransferResult};
use crate::ledger::operations::{OPERATIONS_LIMIT, Operation, Reply, Scan};
use crate::ledger::output::TransactionResult;
use crate::placement::map::ShardMap;
use crate::time::Span;
use crate::wire::codec::{wire_enum, wire_struct, wire_tags};

use super::command::ClientCommand;
use super::level::{PositionCall, PositionDone, ReplicaReadCall, ReplicaReadDone, WriteCall, WriteDone};
use super::operator::{OperatorAnswer, OperatorCall};

/// A request to one group, or to the node itself (`g0`).
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The group that it is for; `g0` means the node.
    pub group: GroupId,
    /// What is asked.
    pub call: Call,
}
wire_struct!(Request { group, call });

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A command for the log.
    Command(ClientCommand),
    /// A linearizable read of an account.
    Read(ReadCall),
    /// Settle an id for ever.
    Fence(FenceCall),
    /// The outcome of an id, if it has one; "not found" is not final.
    Lookup(FenceCall),
    /// The shard map and the groups.
    Map(MapCall),
    /// The command line's own.
    Operator(OperatorCall),
    /// Read keys and accounts of one group together.
    Query(QueryCall),
    /// A command for the log, at a level.
    Write(WriteCall),
    /// How far the group is.
    Position(PositionCall),
    /// Read keys and accounts of one group from any replica.
    ReplicaRead(ReplicaReadCall),
}
wire_enum!(Call {
    1 => Command, 2 => Read, 3 => Fence, 4 => Lookup, 5 => Map, 6 => Operator, 7 => Query,
    16 => Write, 17 => Position, 18 => ReplicaRead,
});

/// Read keys and accounts of one group together, at one position of its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueryCall {
    /// `Get`, `Scan` and `Read` operations, up to the limit of a transaction's.
    pub operations: Vec<Operation>,
    /// Linearizable. Otherwise what the leader has applied: only good for comparing versions with a later, confirmed
    /// one of the same.
    pub confirmed: bool,
    /// How long the client waits.
    pub deadline: Span,
    /// The version of the shard map that routed it.
    pub epoch: Epoch,
}
wire_struct!(QueryCall { operations, confirmed, deadline, epoch });

impl QueryCall {
    /// Whether it only reads, not too much, and scans only what lies together.
    pub(crate) fn is_sound(&self) -> bool {
        only_reads(&self.operations)
    }
}

/// Whether these only read, not too much, and scan only what lies together.
pub(crate) fn only_reads(operations: &[Operation]) -> bool {
    let sound = |operation: &Operation| match operation {
        Operation::Scan(Scan { from, to, .. }) => to.as_ref().is_none_or(|to| from.part() == to.part()),
        operation => !operation.writes(),
    };
    operations.len() <= OPERATIONS_LIMIT && operations.iter().all(sound)
}

/// Read one account, linearizably.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadCall {
    /// Which.
    pub account: AccountId,
    /// How long the client waits.
    pub deadline: Span,
    /// The version of the shard map that routed it.
    pub epoch: Epoch,
}
wire_struct!(ReadCall { account, deadline, epoch });

/// Settle, or look up, an id where it lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FenceCall {
    /// The id and its debit account.
    pub txn: TxnId,
    /// How long the client waits.
    pub deadline: Span,
}
wire_struct!(FenceCall { txn, deadline });

/// Asks for the map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MapCall {
    /// The version that the client has.
    pub epoch: Epoch,
}
wire_struct!(MapCall { epoch });

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The session is registered.
    Registered(Session),
    /// The results of a batch of transfers.
    Transfers(TransfersDone),
    /// The results of a batch of new accounts, one each.
    Created(CreatedDone),
    /// What was read.
    Read(ReadDone),
    /// What became of an id.
    Settled(SettledDone),
    /// The map.
    Map(MapDone),
    /// Not an answer: see [`Refused`].
    Refused(Refused),
    /// The command line's own.
    Operator(OperatorAnswer),
    /// What became of a transaction.
    Transaction(TransactionDone),
    /// What was read together.
    Queried(QueryDone),
    /// What became of a command at a level.
    Written(WriteDone),
    /// How far the group is.
    Position(PositionDone),
    /// What a replica has read.
    ReplicaRead(ReplicaReadDone),
}
wire_enum!(Response {
    1 => Registered, 2 => Transfers, 3 => Created, 4 => Read, 5 => Settled, 6 => Map, 7 => Refused, 8 => Operator,
    9 => Transaction, 10 => Queried, 16 => Written, 17 => Position, 18 => ReplicaRead,
});

/// The results of a batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransfersDone {
    /// All that did not simply commit now; what is not listed did.
    pub items: Vec<ItemResult>,
}
wire_struct!(TransfersDone { items });

/// What became of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransactionDone {
    /// What became of it.
    pub result: TransferResult,
    /// It had its outcome before this request.
    pub replayed: bool,
    /// Of a commit: what each operation yields, in their order. Nothing if that is not kept any more.
    pub replies: Option<Vec<Reply>>,
}
wire_struct!(TransactionDone { result, replayed, replies });

impl From<TransactionResult> for TransactionDone {
    fn from(done: TransactionResult) -> TransactionDone {
        let TransactionResult { result, replayed, replies } = done;
        TransactionDone { result, replayed, replies }
    }
}

/// What was read together, in one group, at one position of its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueryDone {
    /// The position.
    pub slot: Slot,
    /// In the order of the request; nothing if something of it is in doubt: read it in a transaction.
    pub found: Option<Vec<Found>>,
}
wire_struct!(QueryDone { slot, found });

/// One thing that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// What was found: `Value`, `Rows` or `Account`; `Done` if there is no such account.
    pub reply: Reply,
    /// Later reads with the same version have found the same, and so would have all between.
    pub version: Slot,
}
wire_struct!(Found { reply, version });

/// One result for each account of the request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CreatedDone {
    /// In the order of the request.
    pub results: Vec<CreateResult>,
}
wire_struct!(CreatedDone { results });

/// What was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadDone {
    /// The account, if it exists.
    pub account: Option<Account>,
    /// The log position at which it was read.
    pub slot: Slot,
}
wire_struct!(ReadDone { account, slot });

/// What became of an id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettledDone {
    /// The outcome; nothing if a lookup found none.
    pub outcome: Option<Outcome>,
}
wire_struct!(SettledDone { outcome });

/// The shard map and where the groups are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MapDone {
    /// Which group owns what.
    pub map: ShardMap,
    /// Every group with its nodes.
    pub groups: Vec<GroupNodes>,
    /// Every node with its address.
    pub nodes: Vec<NodeAddress>,
}
wire_struct!(MapDone { map, groups, nodes });

/// Where a group is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupNodes {
    /// The group.
    pub group: GroupId,
    /// The nodes with a replica of it.
    pub nodes: Vec<NodeId>,
}
wire_struct!(GroupNodes { group, nodes });

/// Where a node listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeAddress {
    /// The node.
    pub node: NodeId,
    /// Host and port.
    pub address: String,
}
wire_struct!(NodeAddress { node, address });

/// Not an answer: nothing is said about whether the request took or will take effect. The client tries again, under
/// the same id, until its deadline.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Why.
    pub why: Why,
    /// The node that may lead the group.
    pub leader: Option<NodeId>,
    /// When to try again, at the earliest.
    pub after: Span,
}
wire_struct!(Refused { why, leader, after });

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// This node does not lead the group; another one may.
    NotLeader,
    /// This node has looked for a quorum of the group and found none.
    NoQuorum,
    /// Too much is waiting.
    Overloaded,
    /// The group owns something else by now: ask for the map.
    Moved,
    /// The session is not registered in this group.
    UnknownSession,
    /// The sequence number lies outside the session's window, or too many requests are in flight.
    SessionWindow,
    /// The deadline passed while it waited.
    Expired,
    /// The body is not what the envelope says. Trying again does not help.
    Malformed,
    /// This node has no replica of that group. Trying again here does not help.
    WrongNode,
    /// This replica has not applied so much yet, or something that is read stays in doubt here: another one may know.
    Lagging,
    /// The level does not allow this: `any` is for what one group carries out alone. Trying again does not help.
    Level,
}
wire_tags!(Why {
    1 => NotLeader, 2 => NoQuorum, 3 => Overloaded, 4 => Moved, 5 => UnknownSession, 6 => SessionWindow,
    7 => Expired, 8 => Malformed, 9 => WrongNode, 16 => Lagging, 17 => Level,
});

impl Response {
    /// A refusal without a hint.
    pub fn refused(why: Why) -> Response {
        Response::Refused(Refused { why, leader: None, after: Span(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::operations::Key;

    #[test]
    fn a_query_only_reads_and_scans_only_what_lies_together() {
        let key = |text: &str| Key::new(text.to_owned()).expect("a key");
        let sound = |operation| {
            let operations = vec![operation];
            QueryCall { operations, confirmed: true, deadline: Span(0), epoch: Epoch(1) }.is_sound()
        };
        let scan = |to: Option<&str>| Operation::Scan(Scan { from: key("a/1"), to: to.map(key), limit: 1 });
        assert!(sound(Operation::Get(key("a"))) && sound(scan(None)) && sound(scan(Some("a/2"))));
        assert!(!sound(scan(Some("b/2"))) && !sound(Operation::Delete(key("a"))));
    }
}

//! What the command line asks of a node. Answers come from applied state; they may lag on a follower.

use bytes::Bytes;

use crate::ids::{Attempt, Ballot, Epoch, GroupId, NodeId, ShardId, Slot, TxnId};
use crate::ledger::model::{Account, Outcome, Posted};
use crate::ledger::operations::{Key, Value};
use crate::time::LogTime;
use crate::wire::codec::{wire_enum, wire_struct, wire_tags};

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub enum OperatorCall {
    /// The leader role's view. To a group.
    LeaderStatus(Nothing),
    /// The replica's view. To a group.
    ReplicaStatus(Nothing),
    /// The node's own: counters, actors. To `g0`.
    NodeStatus(Nothing),
    /// A page of accounts. To a group.
    Accounts(AccountsCall),
    /// A page of posted transfers in their order. To a group.
    Posted(PageCall),
    /// A digest of a range of posted transfers. To a group.
    PostedDigest(PageCall),
    /// A page of the log, entries as they were chosen. To a group.
    Log(PageCall),
    /// What is in doubt. To a group.
    Pending(Nothing),
    /// The totals of a replica. To a group.
    Totals(Nothing),
    /// The outcomes of ids as this replica knows them. To a group.
    Outcomes(OutcomesCall),
    /// Rates and latencies since the last such call. To `g0`.
    Performance(Nothing),
    /// Have another node lead. To a group, at its leader; refused elsewhere as commands are.
    HandOver(HandOverCall),
    /// A page of keys. To a group.
    Keys(KeysCall),
}
wire_enum!(OperatorCall {
    1 => LeaderStatus, 2 => ReplicaStatus, 3 => NodeStatus, 4 => Accounts, 5 => Posted, 6 => PostedDigest, 7 => Log,
    8 => Pending, 9 => Totals, 10 => Outcomes, 11 => Performance, 12 => HandOver, 13 => Keys,
});

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub enum OperatorAnswer {
    /// To `LeaderStatus`.
    LeaderStatus(LeaderStatus),
    /// To `ReplicaStatus`.
    ReplicaStatus(ReplicaStatus),
    /// To `NodeStatus`.
    NodeStatus(NodeStatus),
    /// To `Accounts`.
    Accounts(AccountsPage),
    /// To `Posted`.
    Posted(PostedPage),
    /// To `PostedDigest`.
    PostedDigest(PostedDigest),
    /// To `Log`.
    Log(LogPage),
    /// To `Pending`.
    Pending(PendingPage),
    /// To `Totals`.
    Totals(Totals),
    /// To `Outcomes`.
    Outcomes(OutcomesPage),
    /// To `Performance`.
    Performance(Performance),
    /// To `HandOver`.
    HandOver(HandOverDone),
    /// To `Keys`.
    Keys(KeysPage),
}
wire_enum!(OperatorAnswer {
    1 => LeaderStatus, 2 => ReplicaStatus, 3 => NodeStatus, 4 => Accounts, 5 => Posted, 6 => PostedDigest, 7 => Log,
    8 => Pending, 9 => Totals, 10 => Outcomes, 11 => Performance, 12 => HandOver, 13 => Keys,
});

/// Which keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeysCall {
    /// The shard to go on in, by its number; shards follow each other.
    pub shard: ShardId,
    /// The key of that shard to go on at; nothing: its first.
    pub from: Option<Key>,
    /// At most so many.
    pub limit: u32,
}
wire_struct!(KeysCall { shard, from, limit });

/// A page of keys, shard by shard, in order. It may be shorter than the limit and have a next one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeysPage {
    /// Keys and values.
    pub rows: Vec<(Key, Value)>,
    /// Where to go on.
    pub next: Option<(ShardId, Key)>,
    /// The replica's applied length.
    pub applied: Slot,
}
wire_struct!(KeysPage { rows, next, applied });

/// No arguments.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Nothing {}
wire_struct!(Nothing {});

/// What the leader role is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaderPhase {
    /// Follows a leader, or waits for one.
    Following,
    /// Asks whether others have lost the leader, too.
    PreCheck,
    /// Runs phase 1.
    Candidate,
    /// Leads; its first entry is not yet applied.
    Leading,
    /// Leads and serves.
    Serving,
}
wire_tags!(LeaderPhase { 1 => Following, 2 => PreCheck, 3 => Candidate, 4 => Leading, 5 => Serving });

/// The leader role's view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeaderStatus {
    /// What it is doing.
    pub phase: LeaderPhase,
    /// The highest ballot that it knows.
    pub ballot: Ballot,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// It has looked for a quorum and found none.
    pub no_quorum: bool,
    /// Commands that wait for a slot.
    pub waiting: u64,
    /// Slots that are proposed and not yet chosen.
    pub in_flight: u64,
    /// Elections that it has started.
    pub elections: u64,
}
wire_struct!(LeaderStatus { phase, ballot, leader, no_quorum, waiting, in_flight, elections });

/// The replica's view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplicaStatus {
    /// What it has promised.
    pub promise: Ballot,
    /// Under what ballot its log was last accepted.
    pub accepted: Ballot,
    /// How long its log is.
    pub length: Slot,
    /// How much of it is chosen.
    pub chosen: Slot,
    /// How much of it is applied.
    pub applied: Slot,
    /// Its log may have lost its end; it abstains.
    pub doubtful: bool,
    /// It was formatted anew, or is another directory than was admitted; it abstains.
    pub foreign: bool,
}
wire_struct!(ReplicaStatus { promise, accepted, length, chosen, applied, doubtful, foreign });

/// The node's own view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStatus {
    /// Who answers.
    pub node: NodeId,
    /// Its process.
    pub process: u32,
    /// Microseconds since it started.
    pub uptime: u64,
    /// Each role actor with its queue depth.
    pub actors: Vec<ActorStatus>,
    /// Everything that is counted, by name.
    pub counters: Vec<Counter>,
}
wire_struct!(NodeStatus { node, process, uptime, actors, counters });

/// An actor and what waits in its mailbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActorStatus {
    /// The group, `g0` for the node's own.
    pub group: GroupId,
    /// `replica`, `leader`, `coordinator`, `participant`, `gateway`.
    pub role: String,
    /// Messages in its mailbox.
    pub depth: u64,
    /// Messages that it has handled.
    pub handled: u64,
}
wire_struct!(ActorStatus { group, role, depth, handled });

/// A number with a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Counter {
    /// What is counted.
    pub name: String,
    /// How often.
    pub value: u64,
}
wire_struct!(Counter { name, value });

/// Which accounts, from which position.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountsCall {
    /// The position in the order of creation, from 0.
    pub from: u64,
    /// At most so many.
    pub limit: u32,
    /// Only those whose totals differ from the opening ones.
    pub changed: bool,
    /// The shards' reserved accounts, too.
    pub reserved: bool,
}
wire_struct!(AccountsCall { from, limit, changed, reserved });

/// Some accounts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountsPage {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// Where to go on; nothing at the end.
    pub next: Option<u64>,
    /// The applied length at which they were read.
    pub applied: Slot,
}
wire_struct!(AccountsPage { accounts, next, applied });

/// A range of positions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PageCall {
    /// The first position, from 0.
    pub from: u64,
    /// At most so many.
    pub limit: u32,
}
wire_struct!(PageCall { from, limit });

/// Some posted transfers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PostedPage {
    /// The transfers in the order of posting.
    pub rows: Vec<Posted>,
    /// How many there are in all.
    pub total: u64,
    /// The applied length at which they were read.
    pub applied: Slot,
}
wire_struct!(PostedPage { rows, total, applied });

/// A digest of a range of posted transfers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PostedDigest {
    /// Of the rows in the range, in their order.
    pub digest: u128,
    /// How many the range has here.
    pub rows: u64,
    /// How many there are in all.
    pub total: u64,
    /// The applied length at which they were read.
    pub applied: Slot,
}
wire_struct!(PostedDigest { digest, rows, total, applied });

/// Some entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogPage {
    /// The position of the first.
    pub from: Slot,
    /// The entries as they were chosen.
    pub entries: Vec<Bytes>,
    /// How much is chosen here.
    pub chosen: Slot,
}
wire_struct!(LogPage { from, entries, chosen });

/// What is in doubt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingPage {
    /// At most 1,000 of them.
    pub rows: Vec<PendingRow>,
    /// How many there are.
    pub total: u64,
    /// How many operations wait in queues.
    pub waiting: u64,
    /// The group's log time.
    pub time: LogTime,
}
wire_struct!(PendingPage { rows, total, waiting, time });

/// Something in doubt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingRow {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// The group that decides.
    pub coordinator: GroupId,
    /// Since when, in the group's log time.
    pub since: LogTime,
    /// It waits for its vote; otherwise it has voted yes.
    pub waiting: bool,
}
wire_struct!(PendingRow { txn, attempt, coordinator, since, waiting });

/// The totals of a replica at one position: equal at equal positions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Totals {
    /// The applied length.
    pub applied: Slot,
    /// An order-free digest of everything that is replicated.
    pub digest: u128,
    /// Accounts, reserved ones included.
    pub accounts: u64,
    /// Posted transfers.
    pub posted: u64,
    /// Keys.
    pub keys: u64,
    /// The bytes of all keys and values.
    pub key_bytes: u64,
    /// Ids with an outcome.
    pub ids: u64,
    /// Transactions in doubt.
    pub in_doubt: u64,
    /// Transactions that this group coordinates and has not forgotten.
    pub coordinated: u64,
    /// Operations that wait.
    pub waiting: u64,
    /// The ledgers' sums.
    pub ledgers: Vec<LedgerTotals>,
    /// The version of the shard map.
    pub epoch: Epoch,
}
wire_struct!(Totals {
    applied,
    digest,
    accounts,
    posted,
    keys,
    key_bytes,
    ids,
    in_doubt,
    coordinated,
    waiting,
    ledgers,
    epoch,
});

/// The sums of one ledger in one group, modulo 2^128: debits less credits equals sent less received.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LedgerTotals {
    /// Which.
    pub ledger: u32,
    /// The sum of all debits posted, recomputed from the accounts.
    pub debits: u128,
    /// The sum of all credits posted, recomputed from the accounts.
    pub credits: u128,
    /// What was sent to other groups.
    pub sent: u128,
    /// What was received from other groups.
    pub received: u128,
    /// The sum of all debits pending, recomputed from the accounts.
    pub debits_pending: u128,
    /// The sum of all credits pending, recomputed from the accounts.
    pub credits_pending: u128,
}
wire_struct!(LedgerTotals { ledger, debits, credits, sent, received, debits_pending, credits_pending });

/// Which ids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutcomesCall {
    /// At most 8,190.
    pub ids: Vec<TxnId>,
}
wire_struct!(OutcomesCall { ids });

/// Their outcomes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutcomesPage {
    /// One for each id, in the order of the question.
    pub outcomes: Vec<Option<Outcome>>,
    /// The applied length at which they were read.
    pub applied: Slot,
}
wire_struct!(OutcomesPage { outcomes, applied });

/// Rates and latencies since the last such call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Performance {
    /// Microseconds since the last such call.
    pub window: u64,
    /// By kind of request.
    pub kinds: Vec<KindPerformance>,
}
wire_struct!(Performance { window, kinds });

/// One kind of request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KindPerformance {
    /// `transfer`, `transact`, `balance` and so on.
    pub kind: String,
    /// Answered requests.
    pub count: u64,
    /// Refused requests.
    pub refused: u64,
    /// Microseconds.
    pub p50: u64,
    /// Microseconds.
    pub p99: u64,
    /// Microseconds.
    pub max: u64,
}
wire_struct!(KindPerformance { kind, count, refused, p50, p99, max });

/// Who is to lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HandOverCall {
    /// Which node; nothing for the follower that is closest.
    pub target: Option<NodeId>,
}
wire_struct!(HandOverCall { target });

/// What became of it. In every case but the first the leader that was asked leads on, unless a newer one was elected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HandOverEnd {
    /// Another node leads: see [`HandOverDone::leader`].
    Moved,
    /// The node that was named leads already.
    Already,
    /// The node that was named has no replica of the group.
    NotMember,
    /// The node that was named cannot be reached; or, if none was, no follower is fit.
    Down,
    /// It lacks too much of the log, or did not get the rest in time.
    Lagging,
    /// It had everything and was told, but did not lead in time.
    NotTaken,
    /// Another hand-over is under way.
    Busy,
}
wire_tags!(HandOverEnd {
    1 => Moved, 2 => Already, 3 => NotMember, 4 => Down, 5 => Lagging, 6 => NotTaken, 7 => Busy,
});

/// The end of a hand-over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HandOverDone {
    /// How it ended.
    pub end: HandOverEnd,
    /// Who leads now, as far as the node that was asked knows.
    pub leader: NodeId,
    /// With which ballot.
    pub ballot: Ballot,
}
wire_struct!(HandOverDone { end, leader, ballot });

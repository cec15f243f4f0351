//! The replicated state machine: accounts, transfers, ids, sessions, queues, and the records of transactions.
//!
//! Every replica of a group applies the same entries in the same order and holds, after each, the same state; what
//! applying yields ([`output::Output`]) is the same, too, and only the leader's node does something with it. So a vote
//! or an answer survives a failover: it is a function of the log.
//!
//! **An entry.** Log time becomes the larger of the last and the entry's own (hazard S26). Then, in this order
//! (hazard A5): what has expired goes; the waiters that this released are looked at; and for each command, it is
//! carried out, and the waiters that it released are looked at, in the order of the queue, until nobody moves any
//! more. That ends, because whoever moves leaves the queue. An entry may hold thousands of operations, so
//! [`Ledger::apply`] takes a budget and goes on where it stopped.
//!
//! **Money.** An account has its totals, an interval around them for what is in doubt (`doubt`), and what
//! waits at it (`queue`). What is granted can always be applied. In each ledger, debits less credits equal what was
//! sent to other groups less what was received (hazard A1): asserted at each posting.
//!
//! **Bad input.** The envelope of an entry was made by a leader, so bytes that are no entry are a broken invariant. The
//! body of a client's command is opaque until it is applied here: whatever it says ends in an output (hazard S4).

mod accounts;
mod apply;
mod arena;
mod chunk;
mod digest;
mod doubt;
mod execution;
mod footprint;
mod ids;
pub mod image;
mod index;
mod keys;
mod lists;
mod locks;
pub mod model;
pub mod operations;
pub mod output;
mod pages;
mod pending;
#[cfg(feature = "planted")]
mod planted;
mod posted;
mod queue;
pub mod records;
mod replies;
mod sessions;
mod sorted;
mod transact;
mod transactions;
mod transfers;
mod versions;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::{AccountId, Attempt, Ballot, Epoch, GroupId, Slot, TxnId};
use crate::message::client::Found;
use crate::message::command::Member;
use crate::message::operator::Nothing;
use crate::message::txn::VoteKind;
use crate::placement::map::ShardMap;
use crate::planted::{Bug, is_planted};
use crate::table::PARTS;
use crate::time::{LogTime, Span};
use crate::txn::table::RowCounts;
use crate::wire::codec::wire_struct;
pub(crate) use execution::{replies_of, swapped_of};

use accounts::{Accounts, Place, Whereabouts};
use apply::Work;
use doubt::Doubts;
use ids::Ids;
use index::Index;
use keys::Keys;
use lists::BalanceLog;
use locks::{Lock, Locks};
use model::{Account, Outcome, Transfer};
use operations::{Operation, REPLIES_LIMIT, Reply, Scan};
use output::Output;
use pending::Pendings;
use posted::PostedLog;
use queue::{Queue, Wake};
use records::{Coordinated, InDoubt};
use replies::Replies;
use sessions::Sessions;
use transactions::Transactions;
use versions::Versions;

/// What a group begins with: a function of the cluster's shape, the same on every replica.
#[derive(Clone, Debug)]
pub struct Genesis {
    /// The group.
    pub group: GroupId,
    /// Which group owns what.
    pub map: ShardMap,
    /// Accounts 1 to this number exist from the beginning, in the shards of their ids.
    pub accounts: u64,
    /// What each of them holds; the other side is its shard's reserved account.
    pub initial_balance: u128,
    /// The limits that apply uses.
    pub limits: Limits,
}

/// The limits that apply uses: equal on all replicas, part of the cluster's identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Operations that may wait in a group.
    pub waiting: usize,
    /// Sessions per group.
    pub sessions: usize,
    /// Log time after which an idle session expires.
    pub session_lifetime: Span,
    /// Transactions in doubt for one other group (hazard L14).
    pub in_doubt_per_group: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            waiting: 65_536,
            sessions: 100_000,
            session_lifetime: Span::from_millis(3_600_000),
            in_doubt_per_group: 65_536,
        }
    }
}

/// What a read outside the log finds.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadState {
    /// Nothing is in doubt: this is it, or there is no such account.
    Ready(Option<Account>),
    /// Something is in doubt: wait, or go through the log.
    InDoubt,
    /// The group does not own it.
    Moved,
}

/// What a read of several things outside the log finds.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryState {
    /// Nothing of it is in doubt.
    Ready(Vec<Found>),
    /// Something is in doubt, or there is more than a reply may have: go through the log.
    InDoubt,
    /// The group does not own all of it.
    Moved,
}

/// What crossed the group's border in one ledger, and what the accounts make of it; all modulo 2^128.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    sent: u128,
    received: u128,
    /// Debits posted less credits posted.
    difference: u128,
}
wire_struct!(Flow { sent, received, difference });

/// The state of a group's accounts, ids, sessions, queues and transactions.
#[derive(Clone)]
pub struct Ledger {
    group: GroupId,
    limits: Limits,
    applied: Slot,
    time: LogTime,
    leader: Ballot,
    members: Option<Vec<Member>>,
    counter: u64,
    accounts: Accounts,
    doubts: Doubts,
    keys: Keys,
    locks: Locks,
    versions: Versions,
    replies: Replies,
    ids: Ids,
    posted: PostedLog,
    pendings: Pendings,
    balances: BalanceLog,
    index: Index,
    flows: BTreeMap<u32, Flow>,
    queue: Queue,
    wake: Wake,
    sessions: Sessions,
    transactions: Transactions,
    work: Option<Box<Work>>,
    /// Kept between batches, so that they do not allocate.
    scratch: Vec<(Transfer, u128)>,
    last_work: usize,
    rows: RowCounts,
}

impl Ledger {
    /// The state before the first entry. `seed` is for the hash tables and may differ per replica.
    ///
    /// # Panics
    /// If the opening balances of a shard do not fit 128 bits: whoever reads the configuration checks that.
    pub fn new(seed: u64, genesis: &Genesis) -> Ledger {
        Ledger::with_parts(seed, genesis, PARTS)
    }

    /// As [`Ledger::new`], with so many parts of the large tables, a power of two: a model checker keeps thousands of
    /// small ledgers.
    ///
    /// # Panics
    /// As [`Ledger::new`], and if `parts` is not a power of two.
    pub fn with_parts(seed: u64, genesis: &Genesis, parts: usize) -> Ledger {
        Ledger {
            group: genesis.group,
            limits: genesis.limits,
            applied: Slot(0),
            time: LogTime(0),
            leader: Ballot::default(),
            members: None,
            counter: 0,
            accounts: Accounts::new(seed, genesis, parts),
            doubts: Doubts::new(seed),
            keys: Keys::new(genesis.group, &genesis.map),
            locks: Locks::new(seed),
            versions: Versions::new(parts),
            replies: Replies::new(seed),
            ids: Ids::new(seed, parts),
            posted: PostedLog::new(),
            pendings: Pendings::new(seed),
            balances: BalanceLog::new(),
            index: Index::new(seed, parts),
            flows: BTreeMap::new(),
            queue: Queue::new(seed, genesis.limits.waiting),
            wake: Wake::default(),
            sessions: Sessions::new(seed, &genesis.limits),
            transactions: Transactions::default(),
            work: None,
            scratch: Vec::new(),
            last_work: 0,
            rows: RowCounts::default(),
        }
    }

    /// Begins to apply the entry at `slot`. `entry` is an encoded `command::Entry`.
    ///
    /// # Panics
    /// If `slot` is not the next, the last entry is not done, or the bytes are no entry: only what a leader has made
    /// is ever chosen.
    pub fn begin(&mut self, slot: Slot, entry: &[u8]) {
        assert!(self.work.is_none(), "entries are applied one after the other");
        assert_eq!(slot, self.applied, "entries are applied in their order");
        let work = Work::new(slot, entry);
        let latest = if is_planted(Bug::LogTimeBack) { LogTime(0) } else { self.time };
        self.time = latest.max(work.time());
        self.work = Some(Box::new(work));
    }

    /// Applies up to about `budget` operations of the entry begun; returns whether it is done.
    ///
    /// # Panics
    /// If no entry is begun.
    pub fn apply(&mut self, budget: usize, outputs: &mut Vec<Output>) -> bool {
        let mut work = self.work.take().expect("an entry is begun before it is applied");
        for done in 1..=budget.max(1) {
            self.last_work = done;
            if self.advance(&mut work, outputs) {
                assert!(self.wake.is_empty(), "an entry ends when nobody moves any more");
                self.applied = self.applied.next();
                return true;
            }
        }
        self.work = Some(work);
        false
    }

    /// How many operations the last call of `apply` has done.
    pub fn last_work(&self) -> usize {
        self.last_work
    }

    /// How often each row of the tables of two-phase commit was taken here; no part of the replicated state.
    pub fn rows(&self) -> &RowCounts {
        &self.rows
    }

    /// When, in log time, the first of the operations that wait expires, or the first pending transfer.
    pub fn next_expiry(&self) -> Option<LogTime> {
        self.queue.next_expiry().into_iter().chain(self.pendings.next_due()).min()
    }

    /// How many entries are wholly applied.
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// Whether an entry is begun and not done.
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// The replicated log time.
    pub fn time(&self) -> LogTime {
        self.time
    }

    /// The ballot of the last `LeaderStart` applied.
    pub fn leader(&self) -> Ballot {
        self.leader
    }

    /// The members that the group's first entry recorded.
    pub fn members(&self) -> Option<&[Member]> {
        self.members.as_deref()
    }

    /// The version of the shard map.
    pub fn epoch(&self) -> Epoch {
        self.accounts.map().epoch
    }

    /// The age counter: a Lamport clock for the order of waiting (hazard L6).
    pub fn counter(&self) -> u64 {
        self.counter
    }

    /// An account outside the log.
    pub fn read(&self, account: AccountId) -> ReadState {
        match self.accounts.whereabouts(account) {
            Whereabouts::Here(place) if self.is_in_doubt(place) && !is_planted(Bug::ReadInDoubt) => ReadState::InDoubt,
            Whereabouts::Here(place) => ReadState::Ready(Some(self.accounts.row(place).account)),
            Whereabouts::Missing | Whereabouts::Nowhere => ReadState::Ready(None),
            Whereabouts::Elsewhere => ReadState::Moved,
        }
    }

    /// Keys and accounts outside the log, between two entries.
    ///
    /// # Panics
    /// If an entry is begun and not done.
    pub fn query(&self, operations: &[Operation]) -> QueryState {
        self.look(operations, true)
    }

    /// As [`Ledger::query`], but what is in doubt is told as it was before: what is prepared has not happened yet.
    ///
    /// # Panics
    /// If an entry is begun and not done.
    pub fn peek(&self, operations: &[Operation]) -> QueryState {
        self.look(operations, false)
    }

    fn look(&self, operations: &[Operation], settled: bool) -> QueryState {
        assert!(self.work.is_none(), "a state is read between two entries");
        let is_locked = |lock: Lock| settled && self.is_locked(&lock);
        let mut found = Vec::with_capacity(operations.len());
        let mut bytes = 0;
        for operation in operations {
            let one = match operation {
                Operation::Get(key) if self.owns(key) && !is_locked(Lock::Shared(key.clone())) => {
                    Found { reply: Reply::Value(self.value(key).cloned()), version: self.versions.of_key(key) }
                }
                Operation::Scan(scan) if self.owns(&scan.from) && !is_locked(Lock::Range(scan.clone())) => {
                    let rows = self.keys.scan(self.accounts.map().shard_of_key(&scan.from), scan);
                    Found { reply: Reply::Rows(rows), version: self.versions.of_part(&scan.from) }
                }
                Operation::Read(account) => match self.accounts.whereabouts(*account) {
                    Whereabouts::Here(place) if settled && self.is_in_doubt(place) => return QueryState::InDoubt,
                    Whereabouts::Here(place) => {
                        let reply = Reply::Account(self.accounts.row(place).account);
                        Found { reply, version: self.versions.of_account(place) }
                    }
                    Whereabouts::Missing | Whereabouts::Nowhere => {
                        Found { reply: Reply::Done(Nothing {}), version: Slot(0) }
                    }
                    Whereabouts::Elsewhere => return QueryState::Moved,
                },
                Operation::List(list) => match list.of.account().map(|account| self.accounts.whereabouts(account)) {
                    Some(Whereabouts::Elsewhere) => return QueryState::Moved,
                    Some(Whereabouts::Here(place)) if settled && self.is_in_doubt(place) => return QueryState::InDoubt,
                    _ => Found { reply: Reply::Listed(self.list(list)), version: self.applied },
                },
                Operation::Get(key) | Operation::Scan(Scan { from: key, .. }) if self.owns(key) => {
                    return QueryState::InDoubt;
                }
                _ => return QueryState::Moved,
            };
            bytes += one.reply.bytes();
            if bytes > REPLIES_LIMIT {
                return QueryState::InDoubt;
            }
            found.push(one);
        }
        QueryState::Ready(found)
    }

    fn is_locked(&self, lock: &Lock) -> bool {
        self.locks.is_in_doubt(lock) && !is_planted(Bug::QueryInDoubt)
    }

    fn is_in_doubt(&self, place: Place) -> bool {
        self.doubts.at(&self.accounts, place).is_some_and(doubt::Busy::in_doubt)
    }

    /// The outcome of an id as applied here.
    pub fn outcome(&self, txn: TxnId) -> Option<Outcome> {
        self.ids.outcome(txn)
    }

    /// Whether something under this id is in doubt or waits.
    pub fn is_under_way(&self, txn: TxnId) -> bool {
        self.queue.named(txn).is_some() || self.transactions.is_under_way(txn)
    }

    /// Everything that this group coordinates, in a fixed order.
    pub fn coordinated(&self) -> Vec<Coordinated> {
        let values = |record: &Coordinated| match (record.vote, record.verdict) {
            (Some(VoteKind::Yes), None) => self.answers_of(&record.action),
            _ => Vec::new(),
        };
        self.transactions.coordinated().map(|record| Coordinated { values: values(record), ..record.clone() }).collect()
    }

    /// Everything in doubt or waiting here that another group decides, in a fixed order.
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        self.transactions.in_doubt().filter(|row| row.coordinator != self.group).collect()
    }

    /// One attempt that this group coordinates.
    pub fn coordinated_one(&self, txn: TxnId, attempt: Attempt) -> Option<Coordinated> {
        self.transactions.record(txn).filter(|record| record.attempt == attempt).cloned()
    }
}

/// Shows what tells two states apart, not the state: the digest covers all rows.
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = self.totals();
        let mut text = f.debug_struct("Ledger");
        text.field("group", &self.group).field("applied", &self.applied).field("time", &self.time);
        text.field("busy", &self.work.as_ref().map(|_| self.last_work)).field("posted", &totals.posted);
        text.field("digest", &format_args!("{:032x}", totals.digest)).finish()
    }
}

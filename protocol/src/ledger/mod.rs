//! The replicated state machine.

pub mod model;
pub mod output;
pub mod records;

use crate::ids::{AccountId, Attempt, Ballot, Epoch, GroupId, Slot, TxnId};
use crate::message::command::Member;
use crate::message::operator::{AccountsCall, AccountsPage, PageCall, PendingPage, PostedDigest, PostedPage, Totals};
use crate::placement::map::ShardMap;
use crate::time::{LogTime, Span};
use model::{Account, Outcome};
use output::Output;
use records::{Coordinated, InDoubt};

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

/// The state of a group's accounts, ids, sessions, queues and transactions.
pub struct Ledger {}

#[allow(unused_variables, missing_docs)]
impl Ledger {
    /// The state before the first entry. `seed` is for the hash tables and may differ per replica.
    pub fn new(seed: u64, genesis: &Genesis) -> Ledger {
        unimplemented!()
    }

    /// Begins to apply the entry at `slot`, which must be the next; the last one must be done. `entry` is an encoded
    /// `command::Entry`.
    pub fn begin(&mut self, slot: Slot, entry: &[u8]) {
        unimplemented!()
    }

    /// Applies up to about `budget` operations of the entry begun; returns whether it is done.
    pub fn apply(&mut self, budget: usize, outputs: &mut Vec<Output>) -> bool {
        unimplemented!()
    }

    /// How many operations the last call of `apply` has done.
    pub fn last_work(&self) -> usize {
        unimplemented!()
    }

    /// When, in log time, the first of the operations that wait expires.
    pub fn next_expiry(&self) -> Option<LogTime> {
        unimplemented!()
    }

    /// How many entries are wholly applied.
    pub fn applied(&self) -> Slot {
        unimplemented!()
    }

    /// Whether an entry is begun and not done.
    pub fn is_busy(&self) -> bool {
        unimplemented!()
    }

    /// The replicated log time.
    pub fn time(&self) -> LogTime {
        unimplemented!()
    }

    /// The ballot of the last `LeaderStart` applied.
    pub fn leader(&self) -> Ballot {
        unimplemented!()
    }

    /// The members that the group's first entry recorded.
    pub fn members(&self) -> Option<&[Member]> {
        unimplemented!()
    }

    /// The version of the shard map.
    pub fn epoch(&self) -> Epoch {
        unimplemented!()
    }

    /// The age counter.
    pub fn counter(&self) -> u64 {
        unimplemented!()
    }

    /// An account outside the log.
    pub fn read(&self, account: AccountId) -> ReadState {
        unimplemented!()
    }

    /// The outcome of an id as applied here.
    pub fn outcome(&self, txn: TxnId) -> Option<Outcome> {
        unimplemented!()
    }

    /// Whether something under this id is in doubt or waits.
    pub fn is_under_way(&self, txn: TxnId) -> bool {
        unimplemented!()
    }

    /// Everything that this group coordinates, in a fixed order.
    pub fn coordinated(&self) -> Vec<Coordinated> {
        unimplemented!()
    }

    /// Everything in doubt or waiting here that another group decides, in a fixed order.
    pub fn in_doubt(&self) -> Vec<InDoubt> {
        unimplemented!()
    }

    /// One attempt that this group coordinates.
    pub fn coordinated_one(&self, txn: TxnId, attempt: Attempt) -> Option<Coordinated> {
        unimplemented!()
    }

    pub fn accounts_page(&self, call: &AccountsCall) -> AccountsPage {
        unimplemented!()
    }

    pub fn posted_page(&self, call: &PageCall) -> PostedPage {
        unimplemented!()
    }

    pub fn posted_digest(&self, call: &PageCall) -> PostedDigest {
        unimplemented!()
    }

    pub fn pending_page(&self) -> PendingPage {
        unimplemented!()
    }

    pub fn totals(&self) -> Totals {
        unimplemented!()
    }
}

//! Lists: the postings of an account, of a code or of some user data, an account's pending transfers, and its balances.

use crate::ids::AccountId;
use crate::ledger::model::{BalancesAt, PendingTransfer, Posted};
use crate::time::LogTime;
use crate::wire::codec::{wire_enum, wire_struct};

/// The most rows of one list in an answer, whatever was asked for.
pub const LIST_LIMIT: u32 = 1024;

/// What is listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ListOf {
    /// What was posted to an account.
    Account(AccountId),
    /// What was posted with this code.
    Code(u16),
    /// What was posted with this user data; 0 stands for none and is not listed.
    UserData128(u128),
    /// Likewise.
    UserData64(u64),
    /// Likewise.
    UserData32(u32),
    /// An account's pending transfers, ended or not.
    Pending(AccountId),
    /// An account's balances after each change, if it keeps a history.
    Balances(AccountId),
}
wire_enum!(ListOf {
    1 => Account, 2 => Code, 3 => UserData128, 4 => UserData64, 5 => UserData32, 6 => Pending, 7 => Balances,
});

/// A page of what a group has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct List {
    /// What.
    pub of: ListOf,
    /// The newest first; otherwise the oldest.
    pub newest: bool,
    /// From this log time of the group on.
    pub since: LogTime,
    /// Up to before this one; nothing: to the end.
    pub until: Option<LogTime>,
    /// Where to go on, as the page before says.
    pub from: Option<u64>,
    /// At most so many rows, and [`LIST_LIMIT`].
    pub limit: u32,
}
wire_struct!(List { of, newest, since, until, from, limit });

/// A page of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// In the order that was asked for.
    pub rows: ListedRows,
    /// Where to go on: there is more.
    pub next: Option<u64>,
}
wire_struct!(Listed { rows, next });

/// The rows of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListedRows {
    /// Of what was posted.
    Posted(Vec<Posted>),
    /// Of pending transfers.
    Pending(Vec<PendingTransfer>),
    /// Of balances.
    Balances(Vec<BalancesAt>),
}
wire_enum!(ListedRows { 1 => Posted, 2 => Pending, 3 => Balances });

impl ListedRows {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            ListedRows::Posted(rows) => rows.len(),
            ListedRows::Pending(rows) => rows.len(),
            ListedRows::Balances(rows) => rows.len(),
        }
    }
}

impl ListOf {
    /// The account that it is about, if it is about one.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            ListOf::Account(account) | ListOf::Pending(account) | ListOf::Balances(account) => Some(*account),
            _ => None,
        }
    }
}

//! Two-phase transfers: reserve, then post or void.
//!
//! A pending transfer is known by its id and its debit account, like any transfer. What ends it names its credit
//! account, too, so that it is known which groups take part.

use crate::ids::{AccountId, TransferId, TxnId};
use crate::ledger::model::Transfer;
use crate::time::Span;
use crate::wire::codec::wire_struct;

/// Reserves an amount of the debit account for the credit account.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pend {
    /// The transfer as it will be if all of it is posted; its id is not 0.
    pub transfer: Transfer,
    /// How long it may stay pending, in the log time of the debit account's group; 0: for ever.
    pub timeout: Span,
}
wire_struct!(Pend { transfer, timeout });

/// Posts a pending transfer, whole or in part; what is not posted is released.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PostPending {
    /// Its own id, unique per debit account, under which the posting appears; 0 for none.
    pub id: TransferId,
    /// The id of the pending transfer.
    pub pending: TransferId,
    /// Its debit account.
    pub debit: AccountId,
    /// Its credit account.
    pub credit: AccountId,
    /// Not zero, and not more than is pending; nothing: all of it.
    pub amount: Option<u128>,
}
wire_struct!(PostPending { id, pending, debit, credit, amount });

/// Releases a pending transfer without posting anything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VoidPending {
    /// Its own id, unique per debit account; 0 for none.
    pub id: TransferId,
    /// The id of the pending transfer.
    pub pending: TransferId,
    /// Its debit account.
    pub debit: AccountId,
    /// Its credit account.
    pub credit: AccountId,
}
wire_struct!(VoidPending { id, pending, debit, credit });

/// A pending transfer between two groups has waited too long: the debit account's group ends it, in both. Groups say
/// this to each other; a client cannot.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Expire {
    /// Made up by the coordinator; another one for each try.
    pub id: TransferId,
    /// The id of the pending transfer.
    pub pending: TransferId,
    /// Its debit account.
    pub debit: AccountId,
    /// Its credit account.
    pub credit: AccountId,
}
wire_struct!(Expire { id, pending, debit, credit });

/// A pending transfer as those name it that end it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Named {
    /// Its identity.
    pub(crate) txn: TxnId,
    /// The credit account that it is said to have.
    pub(crate) credit: AccountId,
}

macro_rules! named {
    ($($name:ident),+) => {$(
        impl $name {
            /// The pending transfer that it is about.
            pub(crate) fn named(&self) -> Named {
                Named { txn: TxnId { id: self.pending, first: self.debit }, credit: self.credit }
            }
        }
    )+};
}
named!(PostPending, VoidPending, Expire);

//! Pending transfers in an image of the ledger.

use std::collections::BTreeMap;

use super::{CHUNK, PendingRow, Pendings};
use crate::ids::{AccountId, TxnId};
use crate::ledger::Ledger;
use crate::ledger::accounts::Place;
use crate::ledger::arena::Frozen;
use crate::ledger::execution::sides;
use crate::ledger::image::{Fault, Rows};
use crate::ledger::model::{PendingTransfer, Sides};
use crate::time::{LogTime, Span};
use crate::wire::codec::Encode;

/// The pending transfers as an image has them.
pub(in crate::ledger) struct PendingsImage(Frozen<PendingRow, CHUNK>);

/// A row of an image: the pending transfer, and when it is to be looked at.
type ImageRow = (PendingTransfer, Option<LogTime>);

impl Rows for PendingsImage {
    fn len(&self, _part: usize) -> usize {
        self.0.len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        let PendingRow { pending, look_at } = self.0.at(row);
        (pending, *look_at).encode(out);
    }
}

impl Pendings {
    /// The pending transfers as they are now.
    pub(in crate::ledger) fn image(&mut self) -> PendingsImage {
        // The rest follows from the rows.
        let Pendings { rows, index: _, due: _, held: _, sum: _ } = self;
        PendingsImage(rows.freeze())
    }
}

impl Ledger {
    /// Takes over the next row of an image.
    pub(in crate::ledger) fn load_pending(&mut self, (pending, look_at): ImageRow) -> Result<(), Fault> {
        let PendingTransfer { transfer, timeout, state: _, made_at: _, ended_at: _, posted: _, .. } = pending;
        let (debit, credit) = self.places(transfer.debit, transfer.credit);
        let mut here = [debit, credit].into_iter().flatten();
        let same_ledger = here.all(|place| self.accounts.row(place).account.ledger == transfer.ledger);
        if sides(debit, credit) != Some(pending.sides) || !same_ledger {
            return Err("a pending transfer of accounts that are not here, or of another ledger");
        }
        let row = PendingRow { pending, look_at };
        let ends_by_itself = row.is_open() && pending.sides != Sides::Credit && timeout > Span(0);
        if look_at.is_some() != ends_by_itself {
            return Err("a pending transfer that is to be looked at and does not end by itself, or the reverse");
        }
        let (txn, position) = (TxnId::from(&transfer), self.pendings.len());
        if self.pendings.get(txn).is_some() {
            return Err("a pending transfer twice");
        }
        self.pendings.insert(txn, row);
        self.index.enter_pending(position, &pending);
        Ok(())
    }

    /// Whether at each account just that is pending which the open pending transfers hold.
    pub(in crate::ledger) fn is_pending_what_is_held(&self) -> bool {
        let mut held: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
        for row in self.pendings.from(0).filter(|row| row.is_open()) {
            let PendingTransfer { transfer, sides, .. } = row.pending;
            let none = (0, 0);
            let debit = (transfer.debit, if sides == Sides::Credit { none } else { (transfer.amount, 0) });
            let credit = (transfer.credit, if sides == Sides::Debit { none } else { (0, transfer.amount) });
            for (account, (debits, credits)) in [debit, credit].into_iter().filter(|(_, amounts)| *amounts != none) {
                let sums = held.entry(account).or_default();
                let (Some(debits), Some(credits)) = (sums.0.checked_add(debits), sums.1.checked_add(credits)) else {
                    return false;
                };
                *sums = (debits, credits);
            }
        }
        let accounts = self.accounts.from(Place::default()).map(|(_, row)| &row.account);
        let pending = |(debits, credits): &(u128, u128)| *debits > 0 || *credits > 0;
        let mut amounts = accounts.map(|account| (account.id, (account.debits_pending, account.credits_pending)));
        amounts.all(|(account, amounts)| held.remove(&account) == Some(amounts).filter(pending)) && held.is_empty()
    }
}

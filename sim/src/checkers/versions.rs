//! Which state of an account a read saw: amounts are never zero, so the totals of an account tell how many of its
//! transfers were posted.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::Account;

use super::End;

/// The states that an account went through.
#[derive(Debug, Default)]
pub struct Versions {
    /// The transfers that touched it, in the order of their posting.
    pub transfers: Vec<TxnId>,
    // By (debits, credits) posted: after how many of them.
    states: BTreeMap<(u128, u128), usize>,
}

impl Versions {
    /// After how many of its transfers the account was in this state; nothing if it never was.
    pub fn of(&self, account: &Account) -> Option<usize> {
        self.states.get(&(account.debits_posted, account.credits_posted)).copied()
    }
}

/// The versions of every account that exists.
pub fn versions(end: &End<'_>) -> BTreeMap<AccountId, Versions> {
    let mut all = BTreeMap::new();
    let mut totals = BTreeMap::new();
    for account in (1..=end.shape.accounts).map(|id| AccountId(u128::from(id))) {
        let opening = (0, end.shape.initial_balance);
        totals.insert(account, opening);
        all.insert(account, Versions { transfers: Vec::new(), states: BTreeMap::from([(opening, 0)]) });
    }
    for (group, replicas) in end.groups {
        for row in replicas.first().map_or(&[][..], |replica| &replica.posted) {
            let (debit, credit, amount) = (row.transfer.debit, row.transfer.credit, row.transfer.amount);
            for (account, change) in [(debit, (amount, 0)), (credit, (0, amount))] {
                if end.shape.map.owner_of(account) != Some(*group) {
                    continue;
                }
                let (Some(total), Some(versions)) = (totals.get_mut(&account), all.get_mut(&account)) else { continue };
                *total = (total.0 + change.0, total.1 + change.1);
                versions.transfers.push(TxnId::from(&row.transfer));
                versions.states.insert(*total, versions.transfers.len());
            }
        }
    }
    all
}

//! Number 7: no account is ever beyond its limit: not after any single posting, and not in any state that was looked at.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, GroupId};
use drachma_protocol::ledger::model::{Account, Flags, Posted, Sides};

use super::pending::is_of_vault;
use super::{Applied, Checker, Sample, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Limits {
    groups: BTreeMap<GroupId, Group>,
    genesis: u64,
    initial_balance: u128,
}

/// A group's accounts as its postings make them.
#[derive(Default)]
struct Group {
    posted: u64,
    accounts: BTreeMap<AccountId, Account>,
}

impl Limits {
    /// An account before its first posting; the rules of one that was created later are known once it is looked at.
    fn opening(&self, id: AccountId) -> Account {
        if !(1..=u128::from(self.genesis)).contains(&id.0) {
            return Account { id, ..Account::default() };
        }
        let flags = Flags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        Account { id, flags, credits_posted: self.initial_balance, ..Account::default() }
    }

    fn post(&mut self, group: GroupId, row: &Posted) -> Verdict {
        let transfer = &row.transfer;
        let sides = [
            (transfer.debit, transfer.amount, 0, row.sides != Sides::Credit),
            (transfer.credit, 0, transfer.amount, row.sides != Sides::Debit),
        ];
        for (id, debit, credit, _) in sides.into_iter().filter(|(.., is_here)| *is_here) {
            let opening = self.opening(id);
            let accounts = &mut self.groups.entry(group).or_default().accounts;
            let account = accounts.entry(id).or_insert(opening);
            account.debits_posted = account.debits_posted.wrapping_add(debit);
            account.credits_posted = account.credits_posted.wrapping_add(credit);
            // A chain acts by its net effect: between two of its postings an account may be anywhere.
            if !is_of_vault(transfer) {
                within(account).map_err(|text| format!("{group} posts {transfer:?}: {text}"))?;
            }
        }
        Ok(())
    }
}

impl Checker for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        (self.genesis, self.initial_balance) = (swarm.shape.accounts, swarm.shape.initial_balance);
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        for (number, row) in (applied.posted_from..).zip(applied.posted) {
            let posted = &mut self.groups.entry(applied.group).or_default().posted;
            if number == *posted {
                *posted += 1;
                self.post(applied.group, row)?;
            }
        }
        Ok(())
    }

    fn on_sample(&mut self, sample: &Sample<'_>) -> Verdict {
        for account in sample.accounts {
            within(account).map_err(|text| format!("{} on {}: {text}", sample.group, sample.node))?;
            if !(1..=u128::from(self.genesis)).contains(&account.id.0) {
                let known = &mut self.groups.entry(sample.group).or_default().accounts;
                let opening = Account { debits_posted: 0, credits_posted: 0, ..*account };
                known.entry(account.id).or_insert(opening).flags = account.flags;
            }
        }
        Ok(())
    }
}

fn within(account: &Account) -> Verdict {
    let debits = account.debits_posted.saturating_add(account.debits_pending);
    let credits = account.credits_posted.saturating_add(account.credits_pending);
    let owes = account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS) && debits > account.credits_posted;
    let is_owed = account.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS) && credits > account.debits_posted;
    if owes || is_owed { Err(format!("beyond its limit: {account:?}")) } else { Ok(()) }
}

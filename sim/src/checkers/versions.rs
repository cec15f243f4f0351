//! Which state of an account a read saw: amounts are never zero, so the totals of an account tell how many of its
//! transfers were posted.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::Account;

use super::End;
use crate::history::History;

/// One transfer as its account saw it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which.
    pub txn: TxnId,
    /// What went out.
    pub debit: u128,
    /// What came in.
    pub credit: u128,
    /// When it was asked for.
    pub invoked: u64,
    /// When its client knew that it had taken effect.
    pub committed: Option<u64>,
}

/// The states that an account went through.
#[derive(Debug, Default)]
pub struct Versions {
    /// Debits and credits before the first transfer.
    pub opening: (u128, u128),
    /// The transfers that touched it, in the order of their posting.
    pub steps: Vec<Step>,
    // By (debits, credits) posted: after how many of them.
    states: BTreeMap<(u128, u128), usize>,
    // By the time at which it was known: how many transfers were surely posted then.
    known: Vec<(u64, usize)>,
    // By the time at which it was asked for: the first position among this transfer and all that were asked for later.
    asked: Vec<(u64, usize)>,
}

impl Versions {
    fn new(opening: (u128, u128), steps: Vec<Step>) -> Versions {
        let mut totals = opening;
        let mut states = BTreeMap::from([(totals, 0)]);
        for (index, step) in steps.iter().enumerate() {
            totals = (totals.0 + step.debit, totals.1 + step.credit);
            states.insert(totals, index + 1);
        }
        let numbered = steps.iter().enumerate();
        let mut known: Vec<(u64, usize)> =
            numbered.filter_map(|(index, step)| Some((step.committed?, index + 1))).collect();
        known.sort_unstable();
        let mut most = 0;
        for (_, count) in &mut known {
            most = most.max(*count);
            *count = most;
        }
        let mut asked: Vec<(u64, usize)> =
            steps.iter().enumerate().map(|(index, step)| (step.invoked, index)).collect();
        asked.sort_unstable();
        let mut least = usize::MAX;
        for (_, index) in asked.iter_mut().rev() {
            least = least.min(*index);
            *index = least;
        }
        Versions { opening, steps, states, known, asked }
    }

    /// Of these steps, in the order of their posting.
    #[cfg(test)]
    pub(super) fn for_tests(opening: (u128, u128), steps: Vec<Step>) -> Versions {
        Versions::new(opening, steps)
    }

    /// After how many of its transfers the account was in this state; nothing if it never was.
    pub fn of(&self, account: &Account) -> Option<usize> {
        self.states.get(&(account.debits_posted, account.credits_posted)).copied()
    }

    /// How many transfers a read that began at `time` saw at least: all up to the last that a client knew before.
    pub fn least(&self, time: u64) -> usize {
        let before = self.known.partition_point(|(at, _)| *at < time);
        before.checked_sub(1).map_or(0, |last| self.known[last].1)
    }

    /// How many transfers a read that ended at `time` saw at most: all before the first that was asked for later.
    pub fn most(&self, time: u64) -> usize {
        let until = self.asked.partition_point(|(at, _)| *at <= time);
        self.asked.get(until).map_or(self.steps.len(), |(_, index)| *index)
    }
}

/// The versions of every account that exists.
pub(super) fn versions(end: &End<'_>) -> BTreeMap<AccountId, Versions> {
    let mut steps: BTreeMap<AccountId, Vec<Step>> = BTreeMap::new();
    for account in (1..=end.shape.accounts).map(|id| AccountId(u128::from(id))) {
        steps.insert(account, Vec::new());
    }
    for (group, replica) in end.furthest() {
        for row in &replica.posted {
            let (debit, credit, amount) = (row.transfer.debit, row.transfer.credit, row.transfer.amount);
            for (account, debit, credit) in [(debit, amount, 0), (credit, 0, amount)] {
                if end.shape.map.owner_of(account) == Some(group) {
                    let step = step(end.history, TxnId::from(&row.transfer), debit, credit);
                    steps.entry(account).or_default().push(step);
                }
            }
        }
    }
    let opening = |account: AccountId| {
        let exists = (1..=u128::from(end.shape.accounts)).contains(&account.0);
        (0, if exists { end.shape.initial_balance } else { 0 })
    };
    steps.into_iter().map(|(account, steps)| (account, Versions::new(opening(account), steps))).collect()
}

fn step(history: &History, txn: TxnId, debit: u128, credit: u128) -> Step {
    let record = history.transfers.get(&txn);
    let (invoked, committed) = record.map_or((0, None), |record| (record.invoked, record.committed_at()));
    Step { txn, debit, credit, invoked, committed }
}

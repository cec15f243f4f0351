//! Number 4: a rejection is an observation. One for want of money needs a moment between its request and its answer at
//! which the account did not allow the transfer even if everything in doubt had gone well for it (hazard S3): with at
//! least the debits' and credits' that clients knew of, and with at most those that had been asked for. The other reasons
//! speak of what does not change, and must be true. What is `fenced` was fenced by an entry of the log.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::{Account, Flags, Outcome, Reason, Transfer};
use drachma_protocol::message::command::{Command, Content};

use super::versions::{Step, Versions, versions};
use super::{Checker, Chosen, End, Verdict};
use crate::history::TransferRecord;

/// See the module.
#[derive(Default)]
pub struct Rejections {
    fenced: BTreeSet<TxnId>,
}

impl Checker for Rejections {
    fn name(&self) -> &'static str {
        "rejections"
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        if let Content::Commands(commands) = &chosen.entry.content {
            let fences = commands.iter().filter_map(|command| match command {
                Command::Fence(fence) => Some(fence.txn),
                _ => None,
            });
            self.fenced.extend(fences);
        }
        Ok(())
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let accounts: BTreeMap<AccountId, Account> = end
            .furthest()
            .flat_map(|(_, replica)| replica.accounts.iter().map(|account| (account.id, *account)))
            .collect();
        for record in end.history.transfers.values() {
            // Not looked at when the answer comes: the rest of a large entry is applied after it.
            let fenced = record.answers.iter().any(|(_, outcome)| *outcome == Outcome::Rejected(Reason::Fenced));
            if fenced && !self.fenced.contains(&TxnId::from(&record.transfer)) {
                return Err(format!("answered as fenced, but nobody has fenced it: {record:?}"));
            }
            if let Some(Outcome::Rejected(reason)) = record.outcome()
                && !is_true(end, &accounts, &record.transfer, reason)
            {
                return Err(format!("the reason of a rejection is not true: {record:?}"));
            }
        }
        let all = versions(end);
        match rejections(end, &all).into_iter().find(|rejection| !rejection.justified) {
            None => Ok(()),
            Some(rejection) => {
                let record = end.history.transfers.get(&rejection.txn);
                Err(format!("at no moment between request and answer was this to be rejected: {record:?}"))
            }
        }
    }
}

/// Whether what a reason says of content and rules is so, as far as it does not change.
fn is_true(end: &End<'_>, accounts: &BTreeMap<AccountId, Account>, transfer: &Transfer, reason: Reason) -> bool {
    let (debit, credit) = (accounts.get(&transfer.debit), accounts.get(&transfer.credit));
    let both = || debit.into_iter().chain(credit);
    let genesis = |account: AccountId| (1..=u128::from(end.shape.accounts)).contains(&account.0);
    match reason {
        Reason::ExceedsCredits => debit.is_some_and(|a| a.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS)),
        Reason::ExceedsDebits => credit.is_some_and(|a| a.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS)),
        Reason::NoSuchAccount => !genesis(transfer.debit) || !genesis(transfer.credit),
        Reason::SameAccount => transfer.debit == transfer.credit,
        Reason::ZeroAmount => transfer.amount == 0,
        Reason::LedgerMismatch => both().any(|account| account.ledger != transfer.ledger),
        Reason::Closed => both().any(|account| account.flags.has(Flags::CLOSED)),
        Reason::Overflow => {
            let most = both().map(|account| account.debits_posted.max(account.credits_posted)).max();
            most.unwrap_or(0).checked_add(transfer.amount).is_none()
        }
        // There are no conditions yet, and a conflict speaks of a content that is not in the history under this id.
        Reason::Condition => false,
        Reason::Fenced | Reason::IdConflict => true,
    }
}

/// On which side of a rejected transfer another one must lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Without it there would have been enough.
    Before,
    /// With it there would have been enough.
    After,
}

/// A transfer that was rejected for want of money.
#[derive(Debug)]
pub struct Rejection {
    /// Which.
    pub txn: TxnId,
    /// There was a moment at which it was to be rejected.
    pub justified: bool,
    /// Which transfers must lie where.
    pub forced: Vec<(TxnId, Side)>,
}

/// All rejections for want of money.
pub fn rejections(end: &End<'_>, all: &BTreeMap<AccountId, Versions>) -> Vec<Rejection> {
    let rejection = |record: &TransferRecord| {
        let (answered, Outcome::Rejected(reason)) = *record.answers.first()? else { return None };
        let account = match reason {
            Reason::ExceedsCredits => record.transfer.debit,
            Reason::ExceedsDebits => record.transfer.credit,
            _ => return None,
        };
        let versions = all.get(&account)?;
        let demand = Demand {
            of_credits: reason == Reason::ExceedsCredits,
            amount: record.transfer.amount,
            invoked: record.invoked,
            answered,
        };
        let txn = TxnId::from(&record.transfer);
        Some(Rejection { txn, justified: demand.is_refused(versions), forced: demand.forced(versions) })
    };
    end.history.transfers.values().filter_map(rejection).collect()
}

/// What a rejected transfer wanted of an account, and when.
struct Demand {
    of_credits: bool,
    amount: u128,
    invoked: u64,
    answered: u64,
}

impl Demand {
    /// What gives room, and what takes it.
    fn sides(&self, (debits, credits): (u128, u128)) -> (u128, u128) {
        if self.of_credits { (credits, debits) } else { (debits, credits) }
    }

    fn step(&self, step: &Step) -> (u128, u128) {
        self.sides((step.debit, step.credit))
    }

    fn is_known(&self, step: &Step) -> bool {
        step.committed.is_some_and(|at| at < self.invoked)
    }

    /// Whether some version that was possible refuses. A debit is posted in its account's group before it is answered; a
    /// credit from another group may be answered first, and is then in doubt: it counts as if it were posted.
    fn is_refused(&self, versions: &Versions) -> bool {
        let known_debit = |step: &Step| step.debit > 0 && self.is_known(step);
        let least = versions.steps.iter().rposition(known_debit).map_or(0, |index| index + 1);
        let most = versions.most(self.answered);
        let late = |step: &Step| if step.credit > 0 && self.is_known(step) { self.step(step).0 } else { 0 };
        let mut in_doubt: u128 = versions.steps.iter().map(late).sum();
        let (mut room, mut used) = self.sides(versions.opening);
        for version in 0..=most {
            if version >= least && used.saturating_add(self.amount) > room + in_doubt {
                return true;
            }
            let Some(step) = versions.steps.get(version) else { break };
            let (gives, takes) = self.step(step);
            (room, used, in_doubt) = (room + gives, used + takes, in_doubt - late(step));
        }
        false
    }

    /// With the least room that any order leaves, what can have made the difference alone?
    fn forced(&self, versions: &Versions) -> Vec<(TxnId, Side)> {
        let (mut room, mut used) = self.sides(versions.opening);
        let possible = || versions.steps.iter().filter(|step| step.invoked <= self.answered);
        for step in possible() {
            let (gives, takes) = self.step(step);
            room += if self.is_known(step) { gives } else { 0 };
            used += takes;
        }
        let Some(missing) = used.saturating_add(self.amount).checked_sub(room).filter(|missing| *missing > 0) else {
            return Vec::new();
        };
        let mut forced = Vec::new();
        for step in possible() {
            let (gives, takes) = self.step(step);
            if takes >= missing {
                forced.push((step.txn, Side::Before));
            } else if gives >= missing && !self.is_known(step) {
                forced.push((step.txn, Side::After));
            }
        }
        forced
    }
}

//! Number 9: a pending transfer ends at most once, and in both groups alike; what was posted of it is posted, and no more
//! than was reserved; after healing nothing holds an amount whose time is over; what is rejected is rejected truly; a
//! chain is posted whole or not at all; and a closed account takes nothing but what releases.
//!
//! All of it happens in the vault, among accounts that nobody else uses, so that every posting there belongs to a
//! transaction of the history.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{AccountId, GroupId, TxnId};
use drachma_protocol::ledger::model::{
    Account, Outcome, PendingState, PendingTransfer, Posted, Reason, Sides, Transfer,
};
use drachma_protocol::ledger::operations::{Operation, Pend};
use drachma_protocol::time::Span;

use super::{Checker, End, Verdict};
use crate::client::vault::{CHAINED, CODE, Vault};
use crate::history::TransactionRecord;

/// See the module.
pub struct Pending;

/// Whether a transfer is one of the vault's: nobody else's have these codes.
pub fn is_of_vault(transfer: &Transfer) -> bool {
    transfer.code == CHAINED || transfer.code == CODE
}

/// What the groups have, by id.
struct Found<'a> {
    end: &'a End<'a>,
    rows: BTreeMap<TxnId, BTreeMap<GroupId, &'a PendingTransfer>>,
    posted: BTreeMap<TxnId, BTreeMap<GroupId, &'a Posted>>,
    // Who made a pending transfer, and who ended it, as far as that committed.
    makers: BTreeMap<TxnId, &'a TransactionRecord>,
    enders: BTreeMap<TxnId, &'a TransactionRecord>,
}

impl Checker for Pending {
    fn name(&self) -> &'static str {
        "pending"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let (rows, posted) = (BTreeMap::new(), BTreeMap::new());
        let mut found = Found { end, rows, posted, makers: BTreeMap::new(), enders: BTreeMap::new() };
        for record in end.history.vault.values().filter(|record| is_committed(record)) {
            for operation in &record.transaction.operations {
                let Some(pending) = about(operation) else { continue };
                let made = matches!(operation, Operation::Pend(_));
                let known = if made { &mut found.makers } else { &mut found.enders };
                known.insert(pending, record);
            }
        }
        for (group, replica) in end.furthest() {
            for pending in &replica.pending {
                let row = found.rows.entry(TxnId::from(&pending.transfer)).or_default();
                if row.insert(group, pending).is_some() {
                    return Err(format!("{group} has two rows of {:?}", pending.transfer));
                }
            }
            for posted in &replica.posted {
                found.posted.entry(TxnId::from(&posted.transfer)).or_default().insert(group, posted);
            }
            holds(group, &replica.accounts, &replica.pending)?;
        }
        sums_agree(end)?;
        found.rows.values().try_for_each(|rows| found.row(rows))?;
        end.history.vault.iter().try_for_each(|(txn, record)| found.record(*txn, record))?;
        found.postings()?;
        found.endings()?;
        found.closings()
    }
}

/// What an account holds as pending is what the open pending transfers hold.
fn holds(group: GroupId, accounts: &[Account], pending: &[PendingTransfer]) -> Verdict {
    let mut held: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
    for row in pending.iter().filter(|row| row.state == PendingState::Open) {
        if row.sides != Sides::Credit {
            held.entry(row.transfer.debit).or_default().0 += row.transfer.amount;
        }
        if row.sides != Sides::Debit {
            held.entry(row.transfer.credit).or_default().1 += row.transfer.amount;
        }
    }
    for account in accounts {
        let expected = held.remove(&account.id).unwrap_or_default();
        if (account.debits_pending, account.credits_pending) != expected {
            return Err(format!("{group}: what is open holds {expected:?} of {account:?}"));
        }
    }
    match held.first_key_value() {
        Some((account, _)) => Err(format!("{group}: something is pending at {account}, which does not exist")),
        None => Ok(()),
    }
}

/// Over all groups, what is pending as debits is pending as credits: nothing is in doubt any more.
fn sums_agree(end: &End<'_>) -> Verdict {
    let mut sums: BTreeMap<u32, (u128, u128)> = BTreeMap::new();
    for ledger in end.furthest().flat_map(|(_, replica)| &replica.totals.ledgers) {
        let sum = sums.entry(ledger.ledger).or_default();
        *sum = (sum.0.wrapping_add(ledger.debits_pending), sum.1.wrapping_add(ledger.credits_pending));
    }
    match sums.iter().find(|(_, (debits, credits))| debits != credits) {
        Some((ledger, sums)) => Err(format!("in ledger {ledger}, pending as debits and credits are {sums:?}")),
        None => Ok(()),
    }
}

impl Found<'_> {
    fn owners(&self, transfer: &Transfer) -> BTreeSet<GroupId> {
        [transfer.debit, transfer.credit].iter().filter_map(|id| self.end.shape.map.owner_of(*id)).collect()
    }

    /// The groups of both accounts have it, and say the same.
    fn row(&self, rows: &BTreeMap<GroupId, &PendingTransfer>) -> Verdict {
        let Some(first) = rows.values().next() else { return Ok(()) };
        let groups: BTreeSet<GroupId> = rows.keys().copied().collect();
        if groups != self.owners(&first.transfer) {
            return Err(format!("only {groups:?} have {first:?}"));
        }
        let said = |row: &PendingTransfer| (row.transfer, row.timeout, row.state, row.posted);
        if let Some(other) = rows.values().find(|row| said(row) != said(first)) {
            return Err(format!("{first:?} in one group is {other:?} in another"));
        }
        if first.posted > first.transfer.amount || (first.state != PendingState::Posted && first.posted > 0) {
            return Err(format!("more is posted than was reserved: {first:?}"));
        }
        let timed = first.timeout > Span(0);
        match first.state {
            PendingState::Open if timed => Err(format!("its time is over: {first:?}")),
            PendingState::Expired if !timed => Err(format!("it has no timeout: {first:?}")),
            // Within one group no one holds it beyond its time.
            PendingState::Posted | PendingState::Voided
                if timed && first.sides == Sides::Both && self.ended_alone(first) =>
            {
                let over = first.made_at + first.timeout;
                if first.ended_at < over { Ok(()) } else { Err(format!("it ended after its time: {first:?}")) }
            }
            _ => Ok(()),
        }
    }

    /// Whether it was ended by a transaction of its group alone, which waits for nobody.
    fn ended_alone(&self, row: &PendingTransfer) -> bool {
        let ender = self.enders.get(&TxnId::from(&row.transfer));
        ender.is_some_and(|record| !record.coordinated && record.transaction.operations.len() == 1)
    }

    /// One outcome, whoever was told; all of a transaction, or nothing; and no reason that is not true.
    fn record(&self, txn: TxnId, record: &TransactionRecord) -> Verdict {
        let Some((_, outcome)) = record.outcome() else { return Ok(()) };
        if let Some((at, other)) = record.outcomes().find(|(_, other)| *other != outcome) {
            return Err(format!("{txn} was answered {outcome:?}, and {other:?} at {at}: {record:?}"));
        }
        for operation in &record.transaction.operations {
            let done = match operation {
                Operation::Transfer(transfer) => self.is_posted(transfer, transfer.amount),
                Operation::Pend(pend) => self.rows.contains_key(&TxnId::from(&pend.transfer)),
                Operation::Post(post) => self.posted.contains_key(&TxnId { id: post.id, first: post.debit }),
                _ => continue,
            };
            if done != (outcome == Outcome::Committed) {
                return Err(format!("{txn} was answered {outcome:?}, but {operation:?} is done: {done}"));
            }
        }
        match outcome {
            Outcome::Rejected(reason) if !self.is_true(record, reason) => {
                Err(format!("the reason of a rejection is not true: {reason} of {record:?}"))
            }
            _ => Ok(()),
        }
    }

    fn is_posted(&self, transfer: &Transfer, amount: u128) -> bool {
        self.posted.get(&TxnId::from(transfer)).is_some_and(|rows| {
            rows.keys().copied().collect::<BTreeSet<_>>() == self.owners(transfer)
                && rows.values().all(|row| row.transfer.amount == amount)
        })
    }

    /// Whether a reason that speaks of pending transfers can be true.
    fn is_true(&self, record: &TransactionRecord, reason: Reason) -> bool {
        let state = |operation: &Operation| {
            let pending = about(operation).filter(|_| !matches!(operation, Operation::Pend(_)))?;
            Some(self.rows.get(&pending).and_then(|rows| rows.values().next().copied()))
        };
        let any = |is: &dyn Fn(Option<&PendingTransfer>, &Operation) -> bool| {
            record.transaction.operations.iter().any(|operation| state(operation).is_some_and(|row| is(row, operation)))
        };
        let ended = |wanted: PendingState| any(&|row, _| row.is_some_and(|row| row.state == wanted));
        match reason {
            Reason::PendingAlreadyPosted => ended(PendingState::Posted),
            Reason::PendingAlreadyVoided => ended(PendingState::Voided),
            Reason::PendingExpired => ended(PendingState::Expired),
            // It may have been made later; not if it was known to be there. The group of another credit account than its
            // own does not have it, and is heard alone if preparing ends before the debit account's group has voted.
            Reason::PendingNotFound => any(&|row, operation| {
                let credit = credit_of(operation);
                row.is_some_and(|row| Some(row.transfer.credit) != credit) || !self.was_known(operation, record.invoked)
            }),
            Reason::PendingDifferentAccounts => {
                any(&|row, operation| row.is_some_and(|row| Some(row.transfer.credit) != credit_of(operation)))
            }
            Reason::ExceedsPendingAmount => any(&|row, operation| match operation {
                Operation::Post(post) => row.is_some_and(|row| post.amount > Some(row.transfer.amount)),
                _ => false,
            }),
            Reason::LinkedEventFailed | Reason::LinkedEventChainOpen => false,
            _ => true,
        }
    }

    /// Whether somebody was told, before `time`, that the pending transfer exists which an operation ends.
    fn was_known(&self, operation: &Operation, time: u64) -> bool {
        let maker = about(operation).and_then(|pending| self.makers.get(&pending));
        maker.and_then(|record| record.outcome()).is_some_and(|(at, _)| at < time)
    }

    /// Every posting of the vault was asked for.
    fn postings(&self) -> Verdict {
        let mut asked: BTreeSet<TxnId> = BTreeSet::new();
        for operation in self.end.history.vault.values().flat_map(|record| &record.transaction.operations) {
            asked.extend(operation.named().filter(|_| !matches!(operation, Operation::Pend(_) | Operation::Void(_))));
        }
        let accounts: BTreeSet<AccountId> = Vault::of(self.end.shape).accounts().map(|account| account.id).collect();
        let strange = self.posted.iter().find(|(txn, _)| accounts.contains(&txn.first) && !asked.contains(txn));
        match strange {
            Some((_, rows)) => Err(format!("nobody asked for this posting: {rows:?}")),
            None => Ok(()),
        }
    }

    /// A pending transfer has one end at most, and it is the one that its row says.
    fn endings(&self) -> Verdict {
        let mut ends: BTreeMap<TxnId, Vec<(&Operation, &TransactionRecord)>> = BTreeMap::new();
        for record in self.end.history.vault.values().filter(|record| is_committed(record)) {
            for operation in record.transaction.operations.iter().filter(|it| !matches!(it, Operation::Pend(_))) {
                if let Some(pending) = about(operation) {
                    ends.entry(pending).or_default().push((operation, record));
                }
            }
        }
        for (pending, ends) in ends {
            let row = self.rows.get(&pending).and_then(|rows| rows.values().next());
            let agrees = |operation: &Operation, row: &PendingTransfer| match operation {
                Operation::Post(post) => {
                    let amount = post.amount.unwrap_or(row.transfer.amount);
                    (row.state, row.posted) == (PendingState::Posted, amount)
                }
                _ => row.state == PendingState::Voided,
            };
            if ends.len() > 1 || row.is_none_or(|row| !agrees(ends[0].0, row)) {
                return Err(format!("{pending} is {row:?}, and was ended by {ends:?}"));
            }
        }
        Ok(())
    }

    /// While an account is known to be closed, nothing but a release is committed there.
    fn closings(&self) -> Verdict {
        let switches = |close: bool| {
            let records = self.end.history.vault.values();
            records.flat_map(move |record| {
                record.transaction.operations.iter().filter_map(move |operation| match operation {
                    Operation::Close(account) if close => Some((*account, record)),
                    Operation::Open(account) if !close => Some((*account, record)),
                    _ => None,
                })
            })
        };
        let opened: Vec<(AccountId, &TransactionRecord)> = switches(false).collect();
        for (account, closing) in switches(true) {
            let Some((closed, Outcome::Committed)) = closing.outcome() else { continue };
            // An opening that may come after it ends what is known.
            let later = opened.iter().filter(|(other, opening)| {
                let over = opening
                    .outcome()
                    .is_some_and(|(at, outcome)| at < closing.invoked || matches!(outcome, Outcome::Rejected(_)));
                *other == account && !over
            });
            let until = later.map(|(_, opening)| opening.invoked).min().unwrap_or(u64::MAX);
            let wrong = self.end.history.vault.values().find(|record| {
                let within = record.invoked > closed
                    && record.outcome().is_some_and(|(at, outcome)| at < until && outcome == Outcome::Committed);
                within && record.transaction.operations.iter().any(|operation| needs_open(operation, account))
            });
            if let Some(wrong) = wrong {
                return Err(format!("{account} was closed by {closing:?}, and then {wrong:?} was committed"));
            }
        }
        Ok(())
    }
}

/// The pending transfer that an operation begins or ends.
fn about(operation: &Operation) -> Option<TxnId> {
    match operation {
        Operation::Pend(pend) => Some(TxnId::from(&pend.transfer)),
        Operation::Post(post) => Some(TxnId { id: post.pending, first: post.debit }),
        Operation::Void(void) => Some(TxnId { id: void.pending, first: void.debit }),
        _ => None,
    }
}

/// The credit account that an end names.
fn credit_of(operation: &Operation) -> Option<AccountId> {
    match operation {
        Operation::Post(post) => Some(post.credit),
        Operation::Void(void) => Some(void.credit),
        _ => None,
    }
}

fn is_committed(record: &TransactionRecord) -> bool {
    record.outcome().is_some_and(|(_, outcome)| outcome == Outcome::Committed)
}

fn needs_open(operation: &Operation, account: AccountId) -> bool {
    let (debit, credit) = match operation {
        Operation::Transfer(transfer) | Operation::Pend(Pend { transfer, .. }) => (transfer.debit, transfer.credit),
        Operation::Post(post) => (post.debit, post.credit),
        _ => return false,
    };
    debit == account || credit == account
}

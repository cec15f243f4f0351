//! A debit is rejected for want of credit only when that can be true.
//!
//! In any serial order a rejection stands between the moment when the transfer was sent first and its first answer. What
//! was answered as committed before that is counted by then, and nothing that was sent after it is. If the account has
//! enough even when every debit that may be counted is, and no credit that may not be, the rejection is wrong (hazard
//! S3).

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Reason};

use super::versions::{Versions, versions};
use super::{Checker, End, Verdict};
use crate::history::TransferRecord;

/// See the module.
pub struct Rejections;

impl Checker for Rejections {
    fn name(&self) -> &'static str {
        "rejections"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let all = versions(end);
        end.history.transfers.values().try_for_each(|record| judge(end, &all, record))
    }
}

fn judge(end: &End<'_>, all: &BTreeMap<AccountId, Versions>, record: &TransferRecord) -> Verdict {
    let Some((answered, Outcome::Rejected(Reason::ExceedsCredits))) = record.answers.first() else { return Ok(()) };
    let account = record.transfer.debit;
    let Some(versions) = all.get(&account) else { return Ok(()) };
    let (mut credits, mut debits) = (end.shape.initial_balance, 0);
    for other in versions.transfers.iter().filter_map(|txn: &TxnId| end.history.transfers.get(txn)) {
        if other.transfer.credit == account && other.committed_at().is_some_and(|at| at < record.invoked) {
            credits += other.transfer.amount;
        }
        if other.transfer.debit == account && other.invoked <= *answered {
            debits += other.transfer.amount;
        }
    }
    if credits >= debits + record.transfer.amount {
        return Err(format!("{record:?} was rejected, but had at least {credits} less {debits} to spend"));
    }
    Ok(())
}

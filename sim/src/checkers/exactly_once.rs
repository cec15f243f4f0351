//! Number 8: an id takes effect at most once, what was answered `committed` took effect, what was answered `rejected` did
//! not, what took effect was asked for as it is, and an answer never contradicts an earlier one.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{GroupId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Posted};

use super::pending::is_of_vault;
use super::{Answered, Applied, Checker, End, PostedById, Verdict};
use crate::history::TransferRecord;

/// See the module.
#[derive(Default)]
pub struct ExactlyOnce {
    groups: BTreeMap<GroupId, (u64, BTreeSet<TxnId>)>,
}

impl Checker for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let group = applied.group;
        let (posted, ids) = self.groups.entry(group).or_default();
        for (number, row) in (applied.posted_from..).zip(applied.posted) {
            if number == *posted {
                *posted += 1;
                if !ids.insert(TxnId::from(&row.transfer)) {
                    return Err(format!("{group} on {} posts twice: {:?}", applied.node, row.transfer));
                }
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, answered: &Answered<'_>) -> Verdict {
        let record = answered.record;
        let (first, last) = (record.outcome(), record.answers.last().map(|(_, outcome)| *outcome));
        if first == last {
            return Ok(());
        }
        Err(format!("{:?} was answered {first:?} and later {last:?}", record.transfer))
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        for (group, replicas) in end.groups {
            for replica in replicas {
                no_doubles(*group, &replica.posted)?;
            }
        }
        let posted = end.posted();
        for (group, rows) in posted {
            for (txn, row) in rows {
                if !is_of_vault(&row.transfer) && !end.history.was_asked(&row.transfer) {
                    let asked = end.history.transfers.get(txn).map(|record| record.transfer);
                    return Err(format!("{group} posted {row:?}; asked was {asked:?}"));
                }
            }
        }
        end.history.transfers.iter().try_for_each(|(txn, record)| answered_as_posted(end, posted, txn, record))
    }
}

fn no_doubles(group: GroupId, posted: &[Posted]) -> Verdict {
    let mut seen = BTreeSet::new();
    match posted.iter().find(|row| !seen.insert(TxnId::from(&row.transfer))) {
        Some(row) => Err(format!("{group} posted twice: {:?}", row.transfer)),
        None => Ok(()),
    }
}

fn answered_as_posted(end: &End<'_>, posted: &PostedById, txn: &TxnId, record: &TransferRecord) -> Verdict {
    let Some(outcome) = record.outcome() else { return Ok(()) };
    // That the other group did the same is another property.
    let Some(group) = end.shape.map.owner_of(record.transfer.debit) else { return Ok(()) };
    let is_posted = posted.get(&group).is_some_and(|rows| rows.contains_key(txn));
    if is_posted != (outcome == Outcome::Committed) {
        let what = if is_posted { "posted" } else { "did not post" };
        return Err(format!("{:?} was answered {outcome:?}, but {group} {what} it", record.transfer));
    }
    Ok(())
}

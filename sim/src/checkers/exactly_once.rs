//! An id takes effect at most once, what was answered `committed` took effect, what was answered `rejected` did not,
//! and an answer never contradicts an earlier one.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{GroupId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Posted, Sides};

use super::{Checker, End, Verdict};
use crate::history::TransferRecord;
use crate::shape::Shape;

/// See the module.
pub struct ExactlyOnce;

impl Checker for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn on_answer(&mut self, record: &TransferRecord) -> Verdict {
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
            let Some(replica) = replicas.first() else { continue };
            for row in &replica.posted {
                follows(end, *group, row)?;
            }
        }
        let posted: BTreeMap<GroupId, BTreeSet<TxnId>> = end
            .groups
            .iter()
            .filter_map(|(group, replicas)| Some((*group, replicas.first()?.posted_by_id().into_keys().collect())))
            .collect();
        end.history.transfers.iter().try_for_each(|(txn, record)| answered_as_posted(end.shape, &posted, txn, record))
    }
}

fn no_doubles(group: GroupId, posted: &[Posted]) -> Verdict {
    let mut seen = BTreeSet::new();
    match posted.iter().find(|row| !seen.insert(TxnId::from(&row.transfer))) {
        Some(row) => Err(format!("{group} posted twice: {:?}", row.transfer)),
        None => Ok(()),
    }
}

/// What was posted was asked for, as it was asked for, on the sides that the group owns.
fn follows(end: &End<'_>, group: GroupId, row: &Posted) -> Verdict {
    let owns = |account| end.shape.map.owner_of(account) == Some(group);
    let sides = match (owns(row.transfer.debit), owns(row.transfer.credit)) {
        (true, true) => Some(Sides::Both),
        (true, false) => Some(Sides::Debit),
        (false, true) => Some(Sides::Credit),
        (false, false) => None,
    };
    if !end.history.was_asked(&row.transfer) || sides != Some(row.sides) {
        let asked = end.history.transfers.get(&TxnId::from(&row.transfer)).map(|record| record.transfer);
        return Err(format!("{group} posted {row:?}; asked was {asked:?}"));
    }
    Ok(())
}

fn answered_as_posted(
    shape: &Shape,
    posted: &BTreeMap<GroupId, BTreeSet<TxnId>>,
    txn: &TxnId,
    record: &TransferRecord,
) -> Verdict {
    let Some(outcome) = record.outcome() else { return Ok(()) };
    for account in [record.transfer.debit, record.transfer.credit] {
        let Some(group) = shape.map.owner_of(account) else { continue };
        let is_posted = posted.get(&group).is_some_and(|ids| ids.contains(txn));
        if is_posted != (outcome == Outcome::Committed) {
            let what = if is_posted { "posted" } else { "did not post" };
            return Err(format!("{:?} was answered {outcome:?}, but {group} {what} it", record.transfer));
        }
    }
    Ok(())
}

//! A transfer between groups is posted in both or in neither.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, TxnId};
use drachma_protocol::ledger::model::Posted;

use super::{Checker, End, Verdict};

/// See the module.
pub struct Atomicity;

impl Checker for Atomicity {
    fn name(&self) -> &'static str {
        "atomicity"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let posted: BTreeMap<GroupId, BTreeMap<TxnId, &Posted>> = end
            .groups
            .iter()
            .filter_map(|(group, replicas)| Some((*group, replicas.first()?.posted_by_id())))
            .collect();
        for (group, rows) in &posted {
            for (txn, row) in rows {
                for account in [row.transfer.debit, row.transfer.credit] {
                    let Some(other) = end.shape.map.owner_of(account) else { continue };
                    if !posted.get(&other).is_some_and(|rows| rows.contains_key(txn)) {
                        return Err(format!("{group} posted {:?}, and {other} did not", row.transfer));
                    }
                }
            }
        }
        Ok(())
    }
}

//! The outcome that a lookup tells is the one that everybody is told, and once there is one it stays.

use std::collections::BTreeMap;

use drachma_protocol::ids::TxnId;
use drachma_protocol::ledger::model::{Outcome, Reason};

use super::{Checker, End, Verdict};

/// See the module.
pub struct Lookups;

impl Checker for Lookups {
    fn name(&self) -> &'static str {
        "lookups"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let mut told: BTreeMap<TxnId, Outcome> = BTreeMap::new();
        for lookup in &end.history.lookups {
            let Some(outcome) = lookup.outcome else { continue };
            if outcome == Outcome::Rejected(Reason::IdConflict) {
                return Err(format!("a conflict is never recorded: {lookup:?}"));
            }
            let first = *told.entry(lookup.txn).or_insert(outcome);
            if first != outcome {
                return Err(format!("an earlier lookup found {first:?}: {lookup:?}"));
            }
        }
        for (txn, outcome) in told {
            let Some(record) = end.history.transfers.get(&txn) else { continue };
            if let Some((_, other)) = record.answers.iter().find(|(_, answer)| *answer != outcome) {
                return Err(format!("{txn} was answered {other:?}, and lookups found {outcome:?}: {record:?}"));
            }
        }
        Ok(())
    }
}

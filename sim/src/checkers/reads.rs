//! A linearizable read of an account sees a state that the account had, with everything that was answered before the
//! read began and nothing that began after its end; reads that follow each other never go back.

use std::collections::BTreeMap;

use drachma_protocol::ids::AccountId;

use super::versions::{Versions, versions};
use super::{Checker, End, Verdict};
use crate::history::ReadRecord;

/// See the module.
pub struct Reads;

impl Checker for Reads {
    fn name(&self) -> &'static str {
        "reads"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let all = versions(end);
        let mut by_account: BTreeMap<AccountId, Vec<(&ReadRecord, usize)>> = BTreeMap::new();
        for read in &end.history.reads {
            let Some(versions) = all.get(&read.account) else {
                continue; // An account that does not exist: see below.
            };
            let seen = read.found.as_ref().and_then(|account| versions.of(account));
            let Some(seen) = seen else {
                return Err(format!("a read saw a state that its account never had: {read:?}"));
            };
            in_real_time(end, read, versions, seen)?;
            by_account.entry(read.account).or_default().push((read, seen));
        }
        by_account.values().try_for_each(|reads| monotonic(reads))
    }
}

fn in_real_time(end: &End<'_>, read: &ReadRecord, versions: &Versions, seen: usize) -> Verdict {
    for (index, txn) in versions.transfers.iter().enumerate() {
        let Some(record) = end.history.transfers.get(txn) else { continue };
        let is_seen = index < seen;
        if !is_seen && record.committed_at().is_some_and(|at| at < read.invoked) {
            return Err(format!("a read missed {record:?}, which was answered before it began: {read:?}"));
        }
        if is_seen && record.invoked > read.completed {
            return Err(format!("a read saw {record:?}, which began after its end: {read:?}"));
        }
    }
    Ok(())
}

fn monotonic(reads: &[(&ReadRecord, usize)]) -> Verdict {
    for (earlier, older) in reads {
        let gone_back = reads.iter().find(|(later, newer)| earlier.completed < later.invoked && newer < older);
        if let Some((later, _)) = gone_back {
            return Err(format!("reads went back: {earlier:?}, then {later:?}"));
        }
    }
    Ok(())
}

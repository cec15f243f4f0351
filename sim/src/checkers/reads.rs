//! Number 4: a linearizable read of an account sees a state that the account had, with everything that was answered
//! before the read began and nothing that was asked for after its end; reads that follow each other never go back. A
//! read of several accounts is held to that for each of them.

use std::collections::BTreeMap;

use drachma_protocol::ids::AccountId;

use super::serializable::{Observation, observations};
use super::versions::Versions;
use super::{Checker, End, Verdict};

/// See the module.
pub struct Reads;

impl Checker for Reads {
    fn name(&self) -> &'static str {
        "reads"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let all = end.versions();
        let observations = observations(end.history);
        let mut by_account: BTreeMap<AccountId, Vec<(&Observation, usize)>> = BTreeMap::new();
        for read in &observations {
            for (account, found) in &read.seen {
                let genesis = (1..=u128::from(end.shape.accounts)).contains(&account.0);
                let (Some(found), Some(versions)) = (found, all.get(account)) else {
                    if genesis {
                        return Err(format!("{} did not find account {account}", read.name));
                    }
                    continue; // It may have been created later, or never.
                };
                let Some(version) = versions.of(found) else {
                    return Err(format!("{} saw a state that account {account} never had: {found:?}", read.name));
                };
                in_real_time(read, *account, versions, version)?;
                by_account.entry(*account).or_default().push((read, version));
            }
        }
        by_account.into_values().try_for_each(monotonic)
    }
}

fn in_real_time(read: &Observation, account: AccountId, versions: &Versions, version: usize) -> Verdict {
    let (begin, end) = read.span;
    if version < versions.least(begin) {
        let missed = versions.steps[version..].iter().find(|step| step.committed.is_some_and(|at| at < begin));
        return Err(format!("{} of account {account} missed what was answered before it began: {missed:?}", read.name));
    }
    if version > versions.most(end) {
        let seen = versions.steps[..version].iter().find(|step| step.invoked > end);
        return Err(format!("{} of account {account} saw what was asked for after its end: {seen:?}", read.name));
    }
    Ok(())
}

/// Sweeps through time: a read that begins sees at least what any read that has ended saw.
fn monotonic(mut reads: Vec<(&Observation, usize)>) -> Verdict {
    let mut ended = reads.clone();
    reads.sort_by_key(|(read, _)| read.span.0);
    ended.sort_by_key(|(read, _)| read.span.1);
    let mut ended = ended.into_iter().peekable();
    let mut newest: Option<(&Observation, usize)> = None;
    for (read, version) in reads {
        while let Some(before) = ended.next_if(|(before, _)| before.span.1 < read.span.0) {
            if newest.is_none_or(|(_, most)| before.1 > most) {
                newest = Some(before);
            }
        }
        if let Some((before, _)) = newest.filter(|(_, most)| version < *most) {
            return Err(format!("reads went back: {}, then {}", before.name, read.name));
        }
    }
    Ok(())
}

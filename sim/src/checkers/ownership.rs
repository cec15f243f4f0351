//! Number 10: every account has exactly one owner. A group posts the sides of a transfer whose accounts it owns, all of
//! them and no other, and holds no account that another group owns. The map is fixed today; entries of older epochs
//! have no object.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{AccountId, GroupId};
use drachma_protocol::ledger::model::{Posted, Sides};
use drachma_protocol::placement::map::ShardMap;

use super::{Applied, Checker, End, Sample, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Ownership {
    map: Option<ShardMap>,
}

impl Checker for Ownership {
    fn name(&self) -> &'static str {
        "ownership"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        self.map = Some(swarm.shape.map.clone());
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Some(map) = &self.map else { return Ok(()) };
        applied.posted.iter().try_for_each(|row| posts_its_own(map, applied.group, row))
    }

    fn on_sample(&mut self, sample: &Sample<'_>) -> Verdict {
        let Some(map) = &self.map else { return Ok(()) };
        let ids = sample.accounts.iter().map(|account| account.id);
        owns(map, sample.group, ids).map_err(|text| format!("{} on {} {text}", sample.group, sample.node))
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let mut holders: BTreeMap<AccountId, GroupId> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (group, replica) in end.furthest() {
            seen.insert(group);
            replica.posted.iter().try_for_each(|row| posts_its_own(&end.shape.map, group, row))?;
            let ids = replica.accounts.iter().map(|account| account.id);
            owns(&end.shape.map, group, ids).map_err(|text| format!("{group} {text}"))?;
            for account in &replica.accounts {
                if let Some(other) = holders.insert(account.id, group) {
                    return Err(format!("account {} is in {other} and in {group}, or twice in one", account.id));
                }
            }
        }
        for account in (1..=end.shape.accounts).map(|id| AccountId(u128::from(id))) {
            let owner = end.shape.map.owner_of(account).filter(|owner| seen.contains(owner));
            if owner.is_some() && !holders.contains_key(&account) {
                return Err(format!("account {account} is nowhere"));
            }
        }
        Ok(())
    }
}

fn owns(map: &ShardMap, group: GroupId, mut accounts: impl Iterator<Item = AccountId>) -> Verdict {
    match accounts.find(|account| map.owner_of(*account) != Some(group)) {
        Some(account) => Err(format!("holds account {account}, which belongs to {:?}", map.owner_of(account))),
        None => Ok(()),
    }
}

fn posts_its_own(map: &ShardMap, group: GroupId, row: &Posted) -> Verdict {
    let owns = |account| map.owner_of(account) == Some(group);
    let sides = match (owns(row.transfer.debit), owns(row.transfer.credit)) {
        (true, true) => Some(Sides::Both),
        (true, false) => Some(Sides::Debit),
        (false, true) => Some(Sides::Credit),
        (false, false) => None,
    };
    if sides == Some(row.sides) { Ok(()) } else { Err(format!("{group} posts {row:?} and owns {sides:?} of it")) }
}

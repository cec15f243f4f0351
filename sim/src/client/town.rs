//! The accounts that clients open beside the first ones, the same in every client of a run: those of the bank and of
//! the ledger, and some whose rules reject what others would not.

use drachma_protocol::ids::{AccountId, GroupId};
use drachma_protocol::ledger::model::{Flags, NewAccount};
use drachma_workload::{bank, ledger};

use crate::shape::Shape;

/// How many accounts the ledger workload has.
const LEDGER_ACCOUNTS: u64 = 4;
/// Where the ids of the bank's funding begin.
const FUNDING: u128 = 0xba << 120;

/// Which accounts there may be.
#[derive(Clone, Debug)]
pub struct Town {
    /// The bank, spread over all groups.
    pub bank: bank::Settings,
    /// The ledger, spread over all groups.
    pub ledger: ledger::Settings,
    /// In each group one without limits, a closed one, one that may not be owed anything, and one of another currency.
    pub special: Vec<Special>,
}

/// Accounts of a group with unusual rules.
#[derive(Clone, Copy, Debug)]
pub struct Special {
    /// The group.
    pub group: GroupId,
    /// Without limits.
    pub source: NewAccount,
    /// Takes no transfers.
    pub closed: NewAccount,
    /// Credits must not exceed debits.
    pub debtor: NewAccount,
    /// Of another currency.
    pub foreign: NewAccount,
}

impl Town {
    /// The town of a cluster.
    pub fn of(shape: &Shape) -> Town {
        let groups: Vec<GroupId> = shape.groups.iter().map(|(group, _)| *group).collect();
        let place = |number: u64| shape.fresh_account(groups[number as usize % groups.len()], number);
        let special = |group: &GroupId| {
            let new = |number, ledger, flags| {
                let id = shape.fresh_account(*group, number);
                NewAccount { id, ledger, code: 1, flags }
            };
            Special {
                group: *group,
                source: new(30, 1, Flags::NONE),
                closed: new(31, 1, Flags::CLOSED),
                debtor: new(32, 1, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS.with(Flags::HISTORY)),
                foreign: new(33, 2, Flags::NONE),
            }
        };
        let accounts: Vec<AccountId> = (0..bank::ACCOUNTS as u64).map(place).collect();
        let ledger = ledger::Settings::new((10..10 + LEDGER_ACCOUNTS).map(place).collect(), place(21));
        Town {
            bank: bank::Settings::new(accounts, place(20), FUNDING),
            ledger,
            special: groups.iter().map(special).collect(),
        }
    }
}

impl Special {
    /// All of them.
    pub fn all(&self) -> [NewAccount; 4] {
        [self.source, self.closed, self.debtor, self.foreign]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use drachma_protocol::rng::Rng;

    use super::*;

    #[test]
    fn every_account_of_the_town_is_another_one_and_belongs_to_its_group() {
        for seed in 0..50 {
            let shape = Shape::draw(&mut Rng::new(seed), 3);
            let town = Town::of(&shape);
            let mut ids: Vec<AccountId> = town.bank.opening().iter().map(|account| account.id).collect();
            ids.extend(town.ledger.opening().iter().map(|account| account.id));
            for special in &town.special {
                let all = special.all();
                assert!(all.iter().all(|account| shape.map.owner_of(account.id) == Some(special.group)));
                ids.extend(all.iter().map(|account| account.id));
            }
            let distinct: BTreeSet<AccountId> = ids.iter().copied().collect();
            assert_eq!(distinct.len(), ids.len(), "seed {seed}");
            assert!(ids.iter().all(|id| shape.map.owner_of(*id).is_some() && id.0 > u128::from(shape.accounts)));
        }
    }
}

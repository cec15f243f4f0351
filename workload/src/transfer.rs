//! Transfers between accounts 1 to N, uniform or with hot accounts, within a group or across.

use drachma_protocol::ids::{AccountId, GroupId, TransferId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::rng::Rng;

/// How often an account is drawn again until it lies where it should; then the draw stands as it is.
const TRIES: usize = 64;

/// What the transfers look like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Accounts 1 to this number exist. At least two.
    pub accounts: u64,
    /// The first so many of each group's draws are hot; zero for none.
    pub hot: u64,
    /// How many of 100 accounts that are drawn are hot ones.
    pub hot_percent: u64,
    /// Amounts are uniform from 1 to this number.
    pub largest_amount: u64,
    /// How many of 100 transfers go to another group; nothing leaves it to the draw of the accounts.
    pub across_percent: Option<u64>,
    /// How many of 100 transfers bear the id of an earlier one under another debit account, which is allowed: an id is
    /// unique per debit account.
    pub shared_id_percent: u64,
    /// The currency.
    pub ledger: u32,
    /// The classification.
    pub code: u16,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            accounts: 10_000,
            hot: 0,
            hot_percent: 0,
            largest_amount: 1,
            across_percent: None,
            shared_id_percent: 0,
            ledger: 1,
            code: 1,
        }
    }
}

/// An endless stream of transfers.
#[derive(Clone, Debug)]
pub struct Transfers {
    settings: Settings,
    map: ShardMap,
    rng: Rng,
    // The last id, if it was a new one, and its debit account.
    fresh: Option<(TransferId, AccountId)>,
}

impl Transfers {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If there are fewer than two accounts, or the largest amount is zero.
    pub fn new(settings: Settings, map: ShardMap, seed: u64) -> Transfers {
        assert!(settings.accounts >= 2, "a transfer has two sides");
        assert!(settings.largest_amount > 0, "an amount is not zero");
        Transfers { settings, map, rng: Rng::new(seed), fresh: None }
    }

    /// The next transfer.
    pub fn draw(&mut self) -> Transfer {
        let debit = self.account();
        let credit = self.credit_for(debit);
        self.between(debit, credit)
    }

    /// The next transfer whose debit account belongs to `debit`, and whose credit account, if `across`, to another
    /// group, else to the same: what a batch needs. Any other is drawn if there are no such accounts.
    pub fn draw_in(&mut self, debit: GroupId, across: bool) -> Transfer {
        let mut pair = (self.account(), self.account());
        for _ in 0..TRIES {
            let owners = (self.map.owner_of(pair.0), self.map.owner_of(pair.1));
            if pair.0 != pair.1 && owners.0 == Some(debit) && (owners.0 != owners.1) == across {
                break;
            }
            pair = (self.account(), self.account());
        }
        if pair.0 == pair.1 {
            pair.1 = self.other_than(pair.0);
        }
        self.between(pair.0, pair.1)
    }

    /// An account, hot ones more often.
    pub fn account(&mut self) -> AccountId {
        let Settings { accounts, hot, hot_percent, .. } = self.settings;
        if hot == 0 || !self.rng.chance(hot_percent) {
            return AccountId(u128::from(self.rng.below(accounts) + 1));
        }
        // Spread over the whole range of ids, so that every group has its share of them.
        let step = (accounts / hot).max(1);
        AccountId(u128::from((self.rng.below(hot) * step) % accounts + 1))
    }

    /// Whether the two sides belong to different groups.
    pub fn is_across(&self, transfer: &Transfer) -> bool {
        self.map.owner_of(transfer.debit) != self.map.owner_of(transfer.credit)
    }

    fn credit_for(&mut self, debit: AccountId) -> AccountId {
        let Some(percent) = self.settings.across_percent else { return self.other_than(debit) };
        let across = self.rng.chance(percent);
        let mut credit = self.other_than(debit);
        for _ in 0..TRIES {
            if (self.map.owner_of(credit) != self.map.owner_of(debit)) == across {
                break;
            }
            credit = self.other_than(debit);
        }
        credit
    }

    fn other_than(&mut self, account: AccountId) -> AccountId {
        for _ in 0..TRIES {
            let other = self.account();
            if other != account {
                return other;
            }
        }
        AccountId(account.0 % u128::from(self.settings.accounts) + 1)
    }

    fn between(&mut self, debit: AccountId, credit: AccountId) -> Transfer {
        Transfer {
            id: self.id_for(debit),
            debit,
            credit,
            amount: u128::from(self.rng.below(self.settings.largest_amount) + 1),
            ledger: self.settings.ledger,
            code: self.settings.code,
            ..Transfer::default()
        }
    }

    fn id_for(&mut self, debit: AccountId) -> TransferId {
        // An id is shared once, so that it never comes back to the account that had it first.
        match self.fresh.take() {
            Some((id, first)) if first != debit && self.rng.chance(self.settings.shared_id_percent) => id,
            _ => {
                let id = TransferId(self.rng.next_u128());
                self.fresh = Some((id, debit));
                id
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use drachma_protocol::ids::Epoch;
    use drachma_protocol::placement::map::{AccountRange, Mode};

    use super::*;

    fn map() -> ShardMap {
        let range = |first, last| AccountRange { first: AccountId(first), last: AccountId(last) };
        ShardMap {
            epoch: Epoch(1),
            mode: Mode::Range(vec![range(1, 50), range(51, 100)]),
            owners: vec![GroupId(1), GroupId(2)],
        }
    }

    fn transfers(settings: Settings) -> Transfers {
        Transfers::new(Settings { accounts: 100, ..settings }, map(), 7)
    }

    #[test]
    fn a_seed_determines_the_transfers() {
        let draw = |seed| {
            let mut stream = Transfers::new(Settings { accounts: 100, ..Settings::default() }, map(), seed);
            (0..50).map(|_| stream.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn sides_differ_and_amounts_keep_to_their_range() {
        let mut stream = transfers(Settings { largest_amount: 3, ..Settings::default() });
        let drawn: Vec<Transfer> = (0..500).map(|_| stream.draw()).collect();
        assert!(drawn.iter().all(|t| t.debit != t.credit && (1..=100).contains(&t.debit.0)));
        let amounts: BTreeSet<u128> = drawn.iter().map(|t| t.amount).collect();
        assert_eq!(amounts, BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn the_share_across_groups_is_kept() {
        for (percent, expected) in [(0, 0..=0), (100, 1000..=1000), (50, 400..=600)] {
            let mut stream = transfers(Settings { across_percent: Some(percent), ..Settings::default() });
            let across = (0..1000).filter(|_| {
                let transfer = stream.draw();
                stream.is_across(&transfer)
            });
            let across = across.count();
            assert!(expected.contains(&across), "{across} of 1000 at {percent} %");
        }
    }

    #[test]
    fn hot_accounts_are_drawn_more_often() {
        let mut stream = transfers(Settings { hot: 2, hot_percent: 90, ..Settings::default() });
        let hot = (0..1000).filter(|_| [1, 51].contains(&stream.account().0)).count();
        assert!(hot > 850, "{hot} of 1000");
    }

    #[test]
    fn a_batch_stays_where_it_was_asked_for() {
        let mut stream = transfers(Settings::default());
        for across in [false, true] {
            for _ in 0..100 {
                let transfer = stream.draw_in(GroupId(2), across);
                assert_eq!(map().owner_of(transfer.debit), Some(GroupId(2)));
                assert_eq!(stream.is_across(&transfer), across);
            }
        }
    }

    #[test]
    fn an_id_is_shared_only_under_another_debit_account() {
        let mut stream = transfers(Settings { shared_id_percent: 50, ..Settings::default() });
        let drawn: Vec<Transfer> = (0..500).map(|_| stream.draw()).collect();
        let ids: BTreeSet<_> = drawn.iter().map(|t| t.id).collect();
        let keys: BTreeSet<_> = drawn.iter().map(|t| (t.id, t.debit)).collect();
        assert!(ids.len() < 400, "{} ids", ids.len());
        assert_eq!(keys.len(), drawn.len());
    }
}

//! Transfers between accounts 1 to N: uniform, zipfian or with hot accounts, within a group or across, one by one or in
//! batches.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, GroupId, TransferId};
use drachma_protocol::ledger::model::{Account, Outcome, Transfer};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::rng::Rng;

use crate::draw::{Zipfian, exponential, scrambled_zipfian};
use crate::{Observed, Operation, Workload};

/// How often an account is drawn again until it lies where it should; then the draw stands as it is.
const TRIES: usize = 64;

/// How accounts are drawn. Zipfian distributions differ: say which one with every figure.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Distribution {
    /// Each as often as any other.
    #[default]
    Uniform,
    /// Plain zipfian with exponent 0.99: account 1 most often (of 1,000 accounts 12.9 %), then account 2. Takes eight
    /// bytes an account.
    Zipfian,
    /// YCSB's zipfian with exponent 0.99, scattered over the ids: the hottest has 3.78 %, however many there are.
    ScrambledZipfian,
}

/// How amounts are drawn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Amounts {
    /// Uniform from 1 to [`Settings::largest_amount`].
    Uniform,
    /// Exponential with this mean, at least 1: the usual mean is 10,000.
    Exponential(u64),
}

/// How the ids of transfers are made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ids {
    /// At random.
    #[default]
    Random,
    /// One after the other, from [`Settings::first_id`] on: clients of one cluster begin far apart.
    Sequential,
    /// The time of [`Transfers::set_time`] in the upper 48 bits, the rest at random, but growing within a stream:
    /// what the client library makes.
    ByTime,
}

/// What the transfers look like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Accounts 1 to this number exist. At least two.
    pub accounts: u64,
    /// How those that are not hot are drawn.
    pub distribution: Distribution,
    /// How amounts are drawn.
    pub amounts: Amounts,
    /// How ids are made.
    pub ids: Ids,
    /// The first of sequential ids.
    pub first_id: u128,
    /// How many transfers an operation of [`Transfers::batch`] has.
    pub batch: u64,
    /// How many of 100 operations read an account instead.
    pub reads_percent: u64,
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
            distribution: Distribution::Uniform,
            amounts: Amounts::Uniform,
            ids: Ids::Random,
            first_id: 1,
            batch: 1,
            reads_percent: 0,
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
    zipfian: Option<Zipfian>,
    // How many ids were made; the time in milliseconds; the last id by time.
    made: u128,
    time: u64,
    newest: u128,
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
        let zipfian = (settings.distribution == Distribution::Zipfian).then(|| Zipfian::new(settings.accounts));
        let rng = Rng::new(seed);
        Transfers { settings, map, rng, zipfian, made: 0, time: 0, newest: 0, fresh: None }
    }

    /// The time for [`Ids::ByTime`], in milliseconds since whenever; it should not go back.
    pub fn set_time(&mut self, milliseconds: u64) {
        self.time = milliseconds;
    }

    /// So many transfers, drawn one by one.
    pub fn batch(&mut self, size: u64) -> Vec<Transfer> {
        (0..size).map(|_| self.draw()).collect()
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
            let drawn = match (self.settings.distribution, &self.zipfian) {
                (Distribution::Zipfian, Some(zipfian)) => zipfian.draw(&mut self.rng),
                (Distribution::ScrambledZipfian, _) => scrambled_zipfian(&mut self.rng, accounts),
                _ => self.rng.below(accounts),
            };
            return AccountId(u128::from(drawn + 1));
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
            amount: u128::from(self.amount()),
            ledger: self.settings.ledger,
            code: self.settings.code,
            ..Transfer::default()
        }
    }

    fn amount(&mut self) -> u64 {
        match self.settings.amounts {
            Amounts::Uniform => self.rng.below(self.settings.largest_amount) + 1,
            Amounts::Exponential(mean) => exponential(&mut self.rng, mean).max(1),
        }
    }

    fn new_id(&mut self) -> TransferId {
        self.made += 1;
        TransferId(match self.settings.ids {
            Ids::Random => self.rng.next_u128(),
            Ids::Sequential => self.settings.first_id + self.made - 1,
            Ids::ByTime => {
                let drawn = u128::from(self.time) << 80 | self.rng.next_u128() >> 48;
                self.newest = drawn.max(self.newest + 1);
                self.newest
            }
        })
    }

    fn id_for(&mut self, debit: AccountId) -> TransferId {
        // An id is shared once, so that it never comes back to the account that had it first.
        match self.fresh.take() {
            Some((id, first)) if first != debit && self.rng.chance(self.settings.shared_id_percent) => id,
            _ => {
                let id = self.new_id();
                self.fresh = Some((id, debit));
                id
            }
        }
    }
}

impl Workload for Transfers {
    fn next(&mut self) -> Option<Operation> {
        let (reads, batch) = (self.settings.reads_percent, self.settings.batch);
        let reads = reads > 0 && self.rng.chance(reads);
        Some(if reads { Operation::Read(self.account()) } else { Operation::Transfers(self.batch(batch)) })
    }

    fn ended(&mut self, _observed: &Observed) {}
}

/// What must hold at the end, when nobody writes any more: an account's totals are what it began with, and all that
/// was committed, and perhaps some of what has no known outcome. `transfers` are all that were asked for, with their
/// final outcomes; accounts that are in one of the two lists only are not looked at.
///
/// # Errors
/// The first account that has less or more.
pub fn check<'a>(
    opening: &[Account],
    closing: &[Account],
    transfers: impl IntoIterator<Item = (&'a Transfer, Option<Outcome>)>,
) -> Result<(), String> {
    // Of an account: the least and the most that was debited, and credited.
    let mut moved: BTreeMap<AccountId, [(u128, u128); 2]> = BTreeMap::new();
    for (transfer, outcome) in transfers {
        let sure = if outcome == Some(Outcome::Committed) { transfer.amount } else { 0 };
        let most = if matches!(outcome, Some(Outcome::Rejected(_))) { 0 } else { transfer.amount };
        for (side, account) in [transfer.debit, transfer.credit].into_iter().enumerate() {
            let bounds = &mut moved.entry(account).or_default()[side];
            *bounds = (bounds.0.saturating_add(sure), bounds.1.saturating_add(most));
        }
    }
    for before in opening {
        let Some(after) = closing.iter().find(|account| account.id == before.id) else { continue };
        let [debits, credits] = moved.get(&before.id).copied().unwrap_or_default();
        let sides = [
            ("debits", before.debits_posted, after.debits_posted, debits),
            ("credits", before.credits_posted, after.credits_posted, credits),
        ];
        for (side, before_it, after_it, (least, most)) in sides {
            let grown = after_it.checked_sub(before_it);
            if !grown.is_some_and(|grown| (least..=most).contains(&grown)) {
                let id = before.id;
                return Err(format!(
                    "{side} of account {id}: {before_it}, then {after_it}; {least} to {most} more expected"
                ));
            }
        }
    }
    Ok(())
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

    #[test]
    fn zipfian_accounts_prefer_the_first_and_scrambled_ones_another() {
        let hottest = |distribution| {
            let mut stream = transfers(Settings { distribution, ..Settings::default() });
            let mut counts = [0u32; 101];
            (0..10_000).for_each(|_| counts[stream.account().0 as usize] += 1);
            let (account, count) = counts.into_iter().enumerate().max_by_key(|(_, count)| *count).unwrap();
            (account, count / 100)
        };
        // Of 100 accounts the first of a plain distribution has 19 %.
        assert!(matches!(hottest(Distribution::Zipfian), (1, 18..=20)), "{:?}", hottest(Distribution::Zipfian));
        let (account, percent) = hottest(Distribution::ScrambledZipfian);
        assert!(account != 1 && (3..=6).contains(&percent), "{account} has {percent} %");
        assert!(hottest(Distribution::Uniform).1 <= 1);
    }

    #[test]
    fn exponential_amounts_have_their_mean_and_are_never_zero() {
        let mut stream = transfers(Settings { amounts: Amounts::Exponential(10_000), ..Settings::default() });
        let amounts: Vec<u128> = (0..10_000).map(|_| stream.draw().amount).collect();
        let mean = amounts.iter().sum::<u128>() / 10_000;
        assert!((9_500..11_000).contains(&mean), "{mean}");
        assert!(amounts.iter().all(|amount| *amount > 0));
    }

    #[test]
    fn ids_are_sequential_or_grow_with_time_as_asked() {
        let mut stream = transfers(Settings { ids: Ids::Sequential, first_id: 7, ..Settings::default() });
        assert_eq!(stream.batch(3).iter().map(|t| t.id.0).collect::<Vec<_>>(), [7, 8, 9]);
        let mut stream = transfers(Settings { ids: Ids::ByTime, ..Settings::default() });
        let mut ids = Vec::new();
        for time in 1000..1100 {
            stream.set_time(time);
            ids.extend(stream.batch(5).iter().map(|t| t.id.0));
        }
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!((1098..=1099).contains(&(ids[499] >> 80)));
    }

    #[test]
    fn operations_are_batches_and_reads_in_their_shares() {
        let mut stream = transfers(Settings { batch: 8, reads_percent: 25, ..Settings::default() });
        let drawn: Vec<Operation> = (0..1000).filter_map(|_| stream.next()).collect();
        let reads = drawn.iter().filter(|operation| matches!(operation, Operation::Read(_))).count();
        assert!((200..300).contains(&reads), "{reads}");
        let full = |operation: &Operation| !matches!(operation, Operation::Transfers(batch) if batch.len() != 8);
        assert!(drawn.iter().all(full));
    }

    fn account(id: u128, debits: u128, credits: u128) -> Account {
        Account { id: AccountId(id), debits_posted: debits, credits_posted: credits, ..Account::default() }
    }

    #[test]
    fn what_was_answered_explains_every_account() {
        let transfer = |amount| Transfer { debit: AccountId(1), credit: AccountId(2), amount, ..Transfer::default() };
        let rejected = Some(Outcome::Rejected(drachma_protocol::ledger::model::Reason::ExceedsCredits));
        let asked = [(transfer(5), Some(Outcome::Committed)), (transfer(3), None), (transfer(50), rejected)];
        let ends = |debits, credits| {
            let opening = [account(1, 0, 10), account(2, 0, 10)];
            let closing = [account(1, debits, 10), account(2, 0, credits)];
            check(&opening, &closing, asked.iter().map(|(transfer, outcome)| (transfer, *outcome)))
        };
        assert_eq!(ends(5, 15), Ok(()));
        assert_eq!(ends(8, 18), Ok(()), "the unknown one may have happened");
        assert!(ends(4, 15).is_err(), "something that was committed is missing");
        assert!(ends(9, 15).is_err(), "more went out than was ever asked for");
        assert!(ends(5, 65).is_err(), "something that was rejected came in");
    }
}

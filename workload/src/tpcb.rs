//! The shape of TPC-B, as pgbench runs it: an account, its teller and its branch grow by the same amount, and a row is
//! appended to the history, in one transaction.
//!
//! The keys of a branch share their part and so lie together: only an account of another branch reaches another shard.

use drachma_protocol::ledger::operations::{Add, Key, Operation, Value};
use drachma_protocol::rng::Rng;

use crate::jobs::{Ended, Job, Jobs, key, put, transaction};

/// Tellers of a branch.
pub const TELLERS: u64 = 10;
/// Accounts of a branch.
pub const ACCOUNTS: u64 = 100_000;
/// Amounts are uniform from minus this to this.
pub const LARGEST: i64 = 5_000;

/// A bank. All clients of one bank have the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many branches there are: the scale.
    pub branches: u64,
    /// Tellers of a branch: usually [`TELLERS`].
    pub tellers: u64,
    /// Accounts of a branch: usually [`ACCOUNTS`].
    pub accounts: u64,
    /// How many of 100 accounts are of another branch than the teller: 0, or 15 as TPC-B has it. No matter with one branch.
    pub remote_percent: u64,
    /// What the names of the keys begin with.
    pub prefix: String,
}

impl Settings {
    /// The usual sizes at this scale.
    pub fn new(branches: u64, remote_percent: u64) -> Settings {
        Settings { branches, tellers: TELLERS, accounts: ACCOUNTS, remote_percent, prefix: "tpcb".to_owned() }
    }

    fn key(&self, branch: u64, rest: &str) -> Key {
        key(format!("{}{branch}/{rest}", self.prefix))
    }

    /// The keys of a branch: every row's key begins with this. Balances that were never touched do not exist, and count
    /// as 0.
    pub fn part(&self, branch: u64) -> Key {
        self.key(branch, "")
    }
}

/// The stream of one client.
#[derive(Clone, Debug)]
pub struct Tpcb {
    settings: Settings,
    rng: Rng,
}

impl Tpcb {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If there is no branch, teller or account.
    pub fn new(settings: Settings, seed: u64) -> Tpcb {
        assert!(settings.branches.min(settings.tellers).min(settings.accounts) > 0, "a bank has something of each");
        Tpcb { settings, rng: Rng::new(seed) }
    }
}

impl Jobs for Tpcb {
    fn next(&mut self) -> Option<Job> {
        let (settings, rng) = (&self.settings, &mut self.rng);
        let branch = rng.below(settings.branches);
        let remote = settings.branches > 1 && rng.chance(settings.remote_percent);
        let home = if remote { (branch + 1 + rng.below(settings.branches - 1)) % settings.branches } else { branch };
        let (teller, account) = (rng.below(settings.tellers), rng.below(settings.accounts));
        let delta = rng.below(2 * LARGEST as u64 + 1) as i64 - LARGEST;
        let add = |key| Operation::Add(Add { key, delta });
        let row = settings.key(branch, &format!("h/{:032x}", rng.next_u128()));
        let operations = vec![
            add(settings.key(home, &format!("a/{account}"))),
            add(settings.key(branch, &format!("t/{teller}"))),
            add(settings.key(branch, "sum")),
            put(row, delta),
        ];
        Some(transaction(rng, Vec::new(), operations))
    }

    fn ended(&mut self, _ended: &Ended) {}
}

/// The sums over accounts, tellers, branches and history.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sums {
    /// Of all accounts.
    pub accounts: i128,
    /// Of all tellers.
    pub tellers: i128,
    /// Of all branches.
    pub branches: i128,
    /// Of the history.
    pub history: i128,
}

impl Sums {
    /// Adds a row, as it was read at one moment with all others.
    ///
    /// # Errors
    /// If it is none of a bank's.
    pub fn add(&mut self, key: &Key, value: &Value) -> Result<(), String> {
        let wrong = || format!("{key:?} holds {value:?}, which is no row of a bank");
        let number = i128::from(value.number().ok_or_else(wrong)?);
        let below = &key.as_bytes()[(key.part().len() + 1).min(key.as_bytes().len())..];
        let sum = match below {
            b"sum" => &mut self.branches,
            [b'a', b'/', ..] => &mut self.accounts,
            [b't', b'/', ..] => &mut self.tellers,
            [b'h', b'/', ..] => &mut self.history,
            _ => return Err(wrong()),
        };
        *sum += number;
        Ok(())
    }

    /// What must hold of them.
    ///
    /// # Errors
    /// If they differ.
    pub fn check(&self) -> Result<(), String> {
        let Sums { accounts, tellers, branches, history } = *self;
        let equal = accounts == tellers && tellers == branches && branches == history;
        if equal { Ok(()) } else { Err(format!("the sums differ: {self:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_four_sums_are_equal_after_whole_transactions_and_differ_after_a_part_of_one() {
        let mut stream = Tpcb::new(Settings { accounts: 50, ..Settings::new(3, 15) }, 7);
        let (mut store, mut remote, mut deltas) = (BTreeMap::<Key, i64>::new(), 0u64, Vec::new());
        for _ in 0..5000 {
            let Some(Job::Transact(transaction)) = stream.next() else { panic!("transactions without end") };
            assert_eq!((transaction.fault(), transaction.operations.len()), (None, 4));
            let parts: Vec<&[u8]> = transaction
                .operations
                .iter()
                .map(|operation| match operation {
                    Operation::Add(Add { key, delta }) => {
                        *store.entry(key.clone()).or_default() += delta;
                        deltas.push(*delta);
                        key.part()
                    }
                    Operation::Put(put) => {
                        store.insert(put.key.clone(), put.value.number().expect("a number"));
                        put.key.part()
                    }
                    other => panic!("{other:?}"),
                })
                .collect();
            assert!(parts[1..].iter().all(|part| *part == parts[1]), "teller, branch and history lie together");
            remote += u64::from(parts[0] != parts[1]);
        }
        assert!((650..850).contains(&remote), "{remote} of 5000 are of another branch, not 15 %");
        assert!(deltas.iter().any(|delta| *delta < -4_900) && deltas.iter().any(|delta| *delta > 4_900));
        assert!(deltas.iter().all(|delta| delta.abs() <= LARGEST));
        let sums = |store: &BTreeMap<Key, i64>| {
            let mut sums = Sums::default();
            store.iter().for_each(|(key, number)| sums.add(key, &Value::from(*number)).expect("a row"));
            sums
        };
        assert_eq!(sums(&store).check(), Ok(()));
        *store.values_mut().next().expect("there are rows") += 1;
        assert!(sums(&store).check().unwrap_err().contains("differ"));
        let stranger = Key::new("tpcb0/x").expect("a key");
        assert!(Sums::default().add(&stranger, &Value::from(1)).is_err());
    }
}

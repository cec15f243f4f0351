//! Jepsen's bank: money moves between a few accounts, and whoever reads all of them at once must always find the same
//! total.
//!
//! The accounts are opened and funded first, once for all clients of one bank: whoever comes later finds that done.

use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::{Account, CreateResult, Flags, NewAccount, Outcome, Transfer};
use drachma_protocol::rng::Rng;

use crate::{Answer, Observed, Operation, Workload};

/// How many accounts Jepsen's bank has.
pub const ACCOUNTS: usize = 8;
/// What they hold together.
pub const TOTAL: u128 = 100;
/// The largest amount of a transfer.
const LARGEST: u64 = 5;

/// A bank. All clients of one bank have the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The accounts: they must not fall below zero. Usually [`ACCOUNTS`] of them; at least two.
    pub accounts: Vec<AccountId>,
    /// Where their money comes from: an account without limits that the bank opens, too.
    pub source: AccountId,
    /// What the accounts hold together: usually [`TOTAL`].
    pub total: u128,
    /// The currency.
    pub ledger: u32,
    /// The classification.
    pub code: u16,
    /// The ids of the transfers that fund the accounts begin here.
    pub first_id: u128,
}

impl Settings {
    /// The bank of Jepsen, over these accounts.
    pub fn new(accounts: Vec<AccountId>, source: AccountId, first_id: u128) -> Settings {
        Settings { accounts, source, total: TOTAL, ledger: 1, code: 1, first_id }
    }

    /// What must exist: the accounts and the source.
    pub fn opening(&self) -> Vec<NewAccount> {
        let (ledger, code) = (self.ledger, self.code);
        let limited = Flags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let own = self.accounts.iter().map(|id| NewAccount { id: *id, ledger, code, flags: limited });
        own.chain([NewAccount { id: self.source, ledger, code, flags: Flags::NONE }]).collect()
    }

    /// What gives the accounts their money: as equal as possible, the first ones have one more.
    pub fn funding(&self) -> Vec<Transfer> {
        let count = self.accounts.len() as u128;
        let (each, more) = (self.total / count, self.total % count);
        let fund = |(index, account): (usize, &AccountId)| Transfer {
            id: TransferId(self.first_id + index as u128),
            debit: self.source,
            credit: *account,
            amount: each + u128::from((index as u128) < more),
            ledger: self.ledger,
            code: self.code,
            ..Transfer::default()
        };
        self.accounts.iter().enumerate().map(fund).filter(|transfer| transfer.amount > 0).collect()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Opening,
    Funding,
    Open,
}

/// The stream of one client.
#[derive(Clone, Debug)]
pub struct Bank {
    settings: Settings,
    rng: Rng,
    phase: Phase,
    // An operation of the phase is under way.
    busy: bool,
}

impl Bank {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If there are fewer than two accounts.
    pub fn new(settings: Settings, seed: u64) -> Bank {
        assert!(settings.accounts.len() >= 2, "a transfer has two sides");
        Bank { settings, rng: Rng::new(seed), phase: Phase::Opening, busy: false }
    }

    fn transfer(&mut self) -> Transfer {
        let count = self.settings.accounts.len() as u64;
        let from = self.rng.below(count);
        let to = (from + 1 + self.rng.below(count - 1)) % count;
        Transfer {
            id: TransferId(self.rng.next_u128()),
            debit: self.settings.accounts[from as usize],
            credit: self.settings.accounts[to as usize],
            amount: u128::from(self.rng.below(LARGEST) + 1),
            ledger: self.settings.ledger,
            code: self.settings.code,
            ..Transfer::default()
        }
    }
}

impl Workload for Bank {
    fn next(&mut self) -> Option<Operation> {
        if self.phase == Phase::Open {
            let reads = self.rng.chance(50);
            let read = || Operation::Snapshot(self.settings.accounts.clone());
            return Some(if reads { read() } else { Operation::Transfers(vec![self.transfer()]) });
        }
        if std::mem::replace(&mut self.busy, true) {
            return None;
        }
        Some(match self.phase {
            Phase::Opening => Operation::CreateAccounts(self.settings.opening()),
            Phase::Funding | Phase::Open => Operation::Transfers(self.settings.funding()),
        })
    }

    fn ended(&mut self, observed: &Observed) {
        if self.phase == Phase::Open {
            return;
        }
        self.busy = false;
        let exists =
            |result: &Option<CreateResult>| matches!(result, Some(CreateResult::Created | CreateResult::Exists));
        self.phase = match (self.phase, &observed.answer) {
            (Phase::Opening, Answer::Created(results)) if results.iter().all(exists) => Phase::Funding,
            (Phase::Funding, Answer::Transfers(results)) if results.iter().all(|r| *r == Some(Outcome::Committed)) => {
                Phase::Open
            }
            (phase, _) => phase,
        };
    }
}

/// What must hold of a read of all accounts, made after the bank was funded.
///
/// # Errors
/// What is wrong: an account is missing or below zero, or the total is not what it was.
pub fn check(settings: &Settings, accounts: &[(AccountId, Option<Account>)]) -> Result<(), String> {
    let mut total = 0u128;
    for id in &settings.accounts {
        let found = accounts.iter().find(|(read, _)| read == id).and_then(|(_, account)| account.as_ref());
        let Some(account) = found else { return Err(format!("account {id} is missing in {accounts:?}")) };
        let balance = account.balance();
        if balance.negative {
            return Err(format!("account {id} is below zero: {balance}"));
        }
        total = total.saturating_add(balance.magnitude);
    }
    if total == settings.total {
        return Ok(());
    }
    let balances: Vec<String> =
        accounts.iter().filter_map(|(id, account)| Some(format!("{id}: {}", account.as_ref()?.balance()))).collect();
    Err(format!("the total is {total} instead of {}: {}", settings.total, balances.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new((1..=8).map(AccountId).collect(), AccountId(9), 1000)
    }

    fn observed(operation: Operation, answer: Answer) -> Observed {
        Observed { operation, answer }
    }

    fn open(bank: &mut Bank) {
        let create = bank.next().unwrap();
        bank.ended(&observed(create, Answer::Created(vec![Some(CreateResult::Created); 9])));
        let fund = bank.next().unwrap();
        bank.ended(&observed(fund, Answer::Transfers(vec![Some(Outcome::Committed); 8])));
    }

    fn read(balances: &[(u128, u128)]) -> Vec<(AccountId, Option<Account>)> {
        let account = |(index, (debits, credits)): (usize, &(u128, u128))| {
            let id = AccountId(index as u128 + 1);
            (id, Some(Account { id, debits_posted: *debits, credits_posted: *credits, ..Account::default() }))
        };
        balances.iter().enumerate().map(account).collect()
    }

    #[test]
    fn the_accounts_are_opened_and_funded_before_anything_else() {
        let mut bank = Bank::new(settings(), 1);
        let create = bank.next().unwrap();
        assert!(matches!(&create, Operation::CreateAccounts(accounts) if accounts.len() == 9));
        assert_eq!(bank.next(), None, "nothing before that is done");
        bank.ended(&observed(create.clone(), Answer::Unknown));
        assert_eq!(bank.next(), Some(create.clone()), "again, as it is not known");
        bank.ended(&observed(create, Answer::Created(vec![Some(CreateResult::Exists); 9])));
        let Some(Operation::Transfers(funding)) = bank.next() else { panic!("they are funded") };
        assert_eq!(funding.iter().map(|transfer| transfer.amount).sum::<u128>(), TOTAL);
        assert_eq!(funding, Bank::new(settings(), 2).settings.funding(), "the same for every client");
    }

    #[test]
    fn half_are_reads_of_all_and_half_transfers_of_1_to_5() {
        let mut bank = Bank::new(settings(), 3);
        open(&mut bank);
        let drawn: Vec<Operation> = (0..1000).filter_map(|_| bank.next()).collect();
        let transfers: Vec<Transfer> = drawn
            .iter()
            .filter_map(|operation| match operation {
                Operation::Transfers(transfers) => Some(transfers[0]),
                _ => None,
            })
            .collect();
        assert!((440..560).contains(&transfers.len()), "{}", transfers.len());
        assert!(transfers.iter().all(|t| t.debit != t.credit && (1..=5).contains(&t.amount)));
        let everything = Operation::Snapshot(settings().accounts);
        assert_eq!(drawn.iter().filter(|operation| **operation == everything).count(), 1000 - transfers.len());
    }

    #[test]
    fn a_right_read_passes() {
        let mut balances = vec![(0, 13); 4];
        balances.extend([(0, 12), (5, 17), (0, 0), (0, 24)]);
        assert_eq!(check(&settings(), &read(&balances)), Ok(()));
    }

    #[test]
    fn a_wrong_total_a_missing_account_and_a_balance_below_zero_are_found() {
        let wrong = check(&settings(), &read(&[(0, 13); 8]));
        assert!(wrong.unwrap_err().contains("the total is 104"));
        let mut missing = read(&[(0, 100), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]);
        missing[3].1 = None;
        assert!(check(&settings(), &missing).unwrap_err().contains("missing"));
        missing.remove(3);
        assert!(check(&settings(), &missing).unwrap_err().contains("missing"));
        let negative = read(&[(5, 0), (0, 105), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]);
        assert!(check(&settings(), &negative).unwrap_err().contains("below zero"));
    }
}

//! SmallBank, the variant `conserving`: customers with a savings and a checking account each.
//!
//! The variants of SmallBank differ between implementations (BenchBase's Amalgamate does not conserve money), so name
//! this one with each figure. Here all money comes from a cash account and goes back there, and the penalty of an
//! overdraft goes to a fee account: the sum over all accounts is zero, always. Savings never fall below zero; checking
//! accounts do, by checks. A transaction that depends on a balance reads it first and has it as its condition: if that
//! does not hold any more, it begins anew.

use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::{Account, Balance, Flags, NewAccount, Reason, Transfer};
use drachma_protocol::ledger::operations::{BalanceIs, Condition, Operation, Reply};
use drachma_protocol::rng::Rng;

use crate::jobs::{Ended, Job, Jobs, transaction, weighted};

/// The name of this variant.
pub const VARIANT: &str = "conserving";
/// Amounts in cents: of a deposit, a payment, a withdrawal from savings, a check, and the penalty of an overdraft.
pub const DEPOSIT: u128 = 130;
/// Of a payment.
pub const PAYMENT: u128 = 500;
/// Of a withdrawal from savings.
pub const SAVINGS: u128 = 2_020;
/// Of a check.
pub const CHECK: u128 = 500;
/// Of an overdraft.
pub const PENALTY: u128 = 100;
/// Opening balances, in cents: from this ...
pub const LEAST: u64 = 1_000_000;
/// ... to this.
pub const MOST: u64 = 5_000_000;
/// Shares of 100: Amalgamate, Balance, DepositChecking, SendPayment, TransactSavings, WriteCheck.
pub const MIX: [u64; 6] = [15, 15, 15, 25, 15, 15];

/// What a client does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// All that a customer has goes to another one's checking account.
    Amalgamate,
    /// Reads both accounts of a customer.
    Balance,
    /// Cash to a checking account.
    DepositChecking,
    /// From one checking account to another, if it is there.
    SendPayment,
    /// Savings to cash, if they are there.
    TransactSavings,
    /// Checking to cash, with a penalty if savings and checking together have less.
    WriteCheck,
}

const KINDS: [Kind; 6] = [
    Kind::Amalgamate,
    Kind::Balance,
    Kind::DepositChecking,
    Kind::SendPayment,
    Kind::TransactSavings,
    Kind::WriteCheck,
];

/// A bank. All clients of one bank have the same.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many customers there are. At least two.
    pub customers: u64,
    /// The first so many are hot; zero for none.
    pub hot: u64,
    /// How many of 100 draws are hot ones.
    pub hot_percent: u64,
    /// The first of the bank's accounts: cash, then the fees, then savings and checking of each customer.
    pub first: AccountId,
    /// The currency.
    pub ledger: u32,
    /// The classification.
    pub code: u16,
}

impl Settings {
    /// BenchBase's sizes: 1,000,000 customers, all alike.
    pub fn uniform(first: AccountId) -> Settings {
        Settings { customers: 1_000_000, hot: 0, hot_percent: 0, first, ledger: 1, code: 1 }
    }

    /// 100,000 customers, of whom 4,000 take 90 %.
    pub fn hot(first: AccountId) -> Settings {
        Settings { customers: 100_000, hot: 4_000, hot_percent: 90, first, ledger: 1, code: 1 }
    }

    fn at(&self, place: u64) -> AccountId {
        AccountId(self.first.0 + u128::from(place))
    }

    /// Where all money comes from and goes to.
    pub fn cash(&self) -> AccountId {
        self.at(0)
    }

    /// Where penalties go.
    pub fn fees(&self) -> AccountId {
        self.at(1)
    }

    /// A customer's savings.
    pub fn savings(&self, customer: u64) -> AccountId {
        self.at(2 + 2 * customer)
    }

    /// A customer's checking account.
    pub fn checking(&self, customer: u64) -> AccountId {
        self.at(3 + 2 * customer)
    }

    /// The accounts of the bank itself.
    pub fn own_accounts(&self) -> [NewAccount; 2] {
        [self.cash(), self.fees()].map(|id| self.account(id, Flags::NONE))
    }

    /// A customer's accounts.
    pub fn accounts(&self, customer: u64) -> [NewAccount; 2] {
        let savings = self.account(self.savings(customer), Flags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        [savings, self.account(self.checking(customer), Flags::NONE)]
    }

    fn account(&self, id: AccountId, flags: Flags) -> NewAccount {
        NewAccount { id, ledger: self.ledger, code: self.code, flags }
    }

    /// What gives a customer's accounts their money: the same for every client. Its ids are those of the accounts.
    pub fn funding(&self, customer: u64) -> [Transfer; 2] {
        let mut rng = Rng::new(customer);
        [self.savings(customer), self.checking(customer)].map(|account| {
            let amount = u128::from(LEAST + rng.below(MOST - LEAST + 1));
            Transfer { id: TransferId(account.0), ..self.transfer(self.cash(), account, amount) }
        })
    }

    /// Without an id: that of its transaction is enough.
    fn transfer(&self, debit: AccountId, credit: AccountId, amount: u128) -> Transfer {
        Transfer { debit, credit, amount, ledger: self.ledger, code: self.code, ..Transfer::default() }
    }
}

/// What was read first.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    from: u64,
    to: u64,
    /// Savings and checking of the first customer.
    seen: Option<[Balance; 2]>,
}

/// The stream of one client.
#[derive(Clone, Debug)]
pub struct Smallbank {
    settings: Settings,
    rng: Rng,
    plan: Option<Plan>,
    busy: bool,
}

impl Smallbank {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If there are fewer than two customers, or no others than hot ones.
    pub fn new(settings: Settings, seed: u64) -> Smallbank {
        assert!(settings.customers >= 2 && settings.hot < settings.customers, "{settings:?}");
        Smallbank { settings, rng: Rng::new(seed), plan: None, busy: false }
    }

    /// What it is doing, between a job and its end.
    pub fn kind(&self) -> Option<Kind> {
        self.plan.map(|plan| plan.kind)
    }

    fn customer(&mut self) -> u64 {
        let Settings { customers, hot, hot_percent, .. } = self.settings;
        if hot > 0 && self.rng.chance(hot_percent) {
            self.rng.below(hot)
        } else {
            hot + self.rng.below(customers - hot)
        }
    }

    fn plan(&mut self) -> Plan {
        let kind = KINDS[weighted(&mut self.rng, &MIX)];
        let from = self.customer();
        let mut to = self.customer();
        while to == from {
            to = self.customer();
        }
        Plan { kind, from, to, seen: None }
    }

    fn both(&self, customer: u64) -> Job {
        let accounts = [self.settings.savings(customer), self.settings.checking(customer)];
        Job::Query(accounts.map(Operation::Read).to_vec())
    }

    fn job(&mut self, plan: Plan) -> Job {
        let settings = &self.settings;
        let (savings, checking) = (settings.savings(plan.from), settings.checking(plan.from));
        let (mut conditions, mut transfers) = (Vec::new(), Vec::new());
        match (plan.kind, plan.seen) {
            (Kind::Balance, _) | (Kind::Amalgamate | Kind::WriteCheck, None) => return self.both(plan.from),
            (Kind::DepositChecking, _) => transfers.push(settings.transfer(settings.cash(), checking, DEPOSIT)),
            (Kind::SendPayment, _) => {
                conditions.push(at_least(checking, balance(PAYMENT)));
                transfers.push(settings.transfer(checking, settings.checking(plan.to), PAYMENT));
            }
            (Kind::TransactSavings, _) => transfers.push(settings.transfer(savings, settings.cash(), SAVINGS)),
            (Kind::WriteCheck, Some(seen)) => {
                transfers.push(settings.transfer(checking, settings.cash(), CHECK));
                let pairs = [savings, checking].into_iter().zip(seen);
                if sum(&seen) < CHECK as i128 {
                    transfers.push(settings.transfer(checking, settings.fees(), PENALTY));
                    conditions.extend(pairs.map(|(account, seen)| at_most(account, seen)));
                } else {
                    conditions.extend(pairs.map(|(account, seen)| at_least(account, seen)));
                }
            }
            (Kind::Amalgamate, Some(seen)) => {
                let to = settings.checking(plan.to);
                for (account, seen) in [savings, checking].into_iter().zip(seen) {
                    conditions.extend([at_least(account, seen), at_most(account, seen)]);
                    let (debit, credit) = if seen.negative { (to, account) } else { (account, to) };
                    if seen.magnitude > 0 {
                        transfers.push(settings.transfer(debit, credit, seen.magnitude));
                    }
                }
            }
        }
        transaction(&mut self.rng, conditions, transfers.into_iter().map(Operation::Transfer).collect())
    }
}

impl Jobs for Smallbank {
    fn next(&mut self) -> Option<Job> {
        if std::mem::replace(&mut self.busy, true) {
            return None;
        }
        let plan = match self.plan.take() {
            // There is nothing to move.
            Some(Plan {
                kind: Kind::Amalgamate,
                seen: Some([Balance { magnitude: 0, .. }, Balance { magnitude: 0, .. }]),
                ..
            })
            | None => self.plan(),
            Some(plan) => plan,
        };
        self.plan = Some(plan);
        Some(self.job(plan))
    }

    fn ended(&mut self, ended: &Ended) {
        self.busy = false;
        let Some(plan) = self.plan.take() else { return };
        let depends = matches!(plan.kind, Kind::Amalgamate | Kind::WriteCheck);
        self.plan = match (ended, plan.seen) {
            (Ended::Replies(replies), None) if depends => match replies[..] {
                [Reply::Account(savings), Reply::Account(checking)] => {
                    Some(Plan { seen: Some([savings.balance(), checking.balance()]), ..plan })
                }
                _ => None,
            },
            (Ended::Rejected(Reason::Condition), Some(_)) => Some(Plan { seen: None, ..plan }),
            _ => None,
        };
    }
}

fn balance(magnitude: u128) -> Balance {
    Balance { negative: false, magnitude }
}

fn at_least(account: AccountId, balance: Balance) -> Condition {
    Condition::AtLeast(BalanceIs { account, balance })
}

fn at_most(account: AccountId, balance: Balance) -> Condition {
    Condition::AtMost(BalanceIs { account, balance })
}

fn signed(balance: Balance) -> i128 {
    let magnitude = i128::try_from(balance.magnitude).unwrap_or(i128::MAX);
    if balance.negative { -magnitude } else { magnitude }
}

fn sum(balances: &[Balance]) -> i128 {
    balances.iter().fold(0, |sum, balance| sum.saturating_add(signed(*balance)))
}

/// What must hold of a read of all accounts of the bank at one moment: they sum up to zero, and no savings are below it.
///
/// # Errors
/// What is wrong.
pub fn check(settings: &Settings, accounts: impl IntoIterator<Item = Account>) -> Result<(), String> {
    let mut total = 0i128;
    for account in accounts {
        let balance = signed(account.balance());
        let place = account.id.0.wrapping_sub(settings.first.0);
        if place >= 2 && place.is_multiple_of(2) && balance < 0 {
            return Err(format!("the savings {} are below zero: {balance}", account.id));
        }
        total = total.saturating_add(balance);
    }
    if total == 0 { Ok(()) } else { Err(format!("{total} is there that came from nowhere")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::jobs::tests::chi_square;

    fn settings() -> Settings {
        Settings { customers: 20, ..Settings::uniform(AccountId(100)) }
    }

    fn post(bank: &mut BTreeMap<AccountId, Account>, transfer: &Transfer) {
        bank.get_mut(&transfer.debit).expect("it is open").debits_posted += transfer.amount;
        bank.get_mut(&transfer.credit).expect("it is open").credits_posted += transfer.amount;
    }

    fn open(settings: &Settings) -> BTreeMap<AccountId, Account> {
        let customers = (0..settings.customers).flat_map(|customer| settings.accounts(customer));
        let all = settings.own_accounts().into_iter().chain(customers);
        let mut bank: BTreeMap<AccountId, Account> =
            all.map(|new| (new.id, Account { id: new.id, flags: new.flags, ..Account::default() })).collect();
        (0..settings.customers).flat_map(|customer| settings.funding(customer)).for_each(|t| post(&mut bank, &t));
        bank
    }

    fn carry_out(bank: &mut BTreeMap<AccountId, Account>, job: &Job) -> Ended {
        let transaction = match job {
            Job::Query(reads) => {
                let read = |operation: &Operation| match operation {
                    Operation::Read(account) => Reply::Account(bank[account]),
                    other => panic!("{other:?}"),
                };
                return Ended::Replies(reads.iter().map(read).collect());
            }
            Job::Transact(transaction) => transaction,
        };
        assert_eq!(transaction.fault(), None);
        let holds = |condition: &Condition| match condition {
            Condition::AtLeast(is) => bank[&is.account].balance().is_at_least(is.balance),
            Condition::AtMost(is) => is.balance.is_at_least(bank[&is.account].balance()),
            other => panic!("{other:?}"),
        };
        if !transaction.conditions.iter().all(holds) {
            return Ended::Rejected(Reason::Condition);
        }
        let mut after = bank.clone();
        transaction.transfers().for_each(|transfer| post(&mut after, transfer));
        let limited = |account: &Account| account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS);
        if after.values().any(|account| limited(account) && account.balance().negative) {
            return Ended::Rejected(Reason::ExceedsCredits);
        }
        *bank = after;
        Ended::Replies(Vec::new())
    }

    #[test]
    fn money_is_conserved_and_all_kinds_happen_as_often_as_they_should() {
        let settings = settings();
        let mut bank = open(&settings);
        let mut clients: Vec<Smallbank> = (0..3).map(|seed| Smallbank::new(settings.clone(), seed)).collect();
        let (mut counts, mut stale, mut rng) = ([0u64; 6], 0, Rng::new(8));
        while counts.iter().sum::<u64>() < 6000 {
            let client = &mut clients[rng.below(3) as usize];
            let is_new = client.plan.is_none();
            let job = client.next().expect("the last one has ended");
            let kind = client.kind().expect("it is under way");
            if is_new {
                counts[KINDS.iter().position(|other| *other == kind).expect("a kind")] += 1;
            }
            let seen = client.plan.is_some_and(|plan| plan.seen.is_some());
            let ended = carry_out(&mut bank, &job);
            stale += u64::from(seen && ended == Ended::Rejected(Reason::Condition));
            client.ended(&ended);
            check(&settings, bank.values().copied()).expect("money is conserved");
        }
        // Five degrees of freedom: 20.5 is passed once in a thousand.
        let chi = chi_square(&counts, &MIX);
        assert!(chi < 20.5, "{counts:?}: chi-square {chi}");
        assert!(stale > 10, "{stale} met a balance that had changed");
        assert!(bank[&settings.fees()].credits_posted > 0, "checks were overdrawn");
    }

    #[test]
    fn the_hot_customers_have_nine_of_ten() {
        let mut client = Smallbank::new(Settings::hot(AccountId(1)), 4);
        let hot = (0..20_000).filter(|_| client.customer() < 4_000).count();
        assert!((17_800..18_200).contains(&hot), "{hot} of 20,000");
        let funding = client.settings.funding(99_999);
        assert!(funding.iter().all(|t| (u128::from(LEAST)..=u128::from(MOST)).contains(&t.amount)), "{funding:?}");
    }

    #[test]
    fn money_from_nowhere_and_savings_below_zero_are_found() {
        let settings = settings();
        let mut bank = open(&settings);
        bank.get_mut(&settings.fees()).expect("it is open").credits_posted += 1;
        assert!(check(&settings, bank.values().copied()).unwrap_err().contains("1 is there"));
        let mut bank = open(&settings);
        let stolen = Transfer { amount: 9_999_999, ..settings.transfer(settings.savings(1), settings.cash(), 0) };
        post(&mut bank, &stolen);
        assert!(check(&settings, bank.values().copied()).unwrap_err().contains("below zero"));
    }
}

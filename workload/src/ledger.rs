//! Jepsen's ledger: an account gets a deposit of 10, then 1 to 16 clients at once withdraw 9 each. One withdrawal fits.
//!
//! A deposit whose outcome is not known counts as made, a withdrawal whose outcome is not known does not: so what is
//! found is never due to an unknown outcome.

use std::collections::{BTreeMap, VecDeque};

use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::{CreateResult, Flags, NewAccount, Outcome, Transfer};
use drachma_protocol::rng::Rng;

use crate::{Answer, Observed, Operation, Workload};

/// The amount of a deposit.
pub const DEPOSIT: u128 = 10;
/// The amount of a withdrawal.
pub const WITHDRAWAL: u128 = 9;
/// The most withdrawals after one deposit.
const MOST: u64 = 16;
/// How many of 100 rounds end with a read of the account.
const READS: u64 = 50;

/// A ledger. Clients may share one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The accounts: they must not fall below zero. At least one.
    pub accounts: Vec<AccountId>,
    /// Where deposits come from and withdrawals go to: an account without limits that the ledger opens, too.
    pub outside: AccountId,
    /// The currency.
    pub ledger: u32,
    /// The classification.
    pub code: u16,
}

impl Settings {
    /// A ledger over these accounts.
    pub fn new(accounts: Vec<AccountId>, outside: AccountId) -> Settings {
        Settings { accounts, outside, ledger: 1, code: 1 }
    }

    /// What must exist: the accounts and the outside.
    pub fn opening(&self) -> Vec<NewAccount> {
        let (ledger, code) = (self.ledger, self.code);
        let limited = Flags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let own = self.accounts.iter().map(|id| NewAccount { id: *id, ledger, code, flags: limited });
        own.chain([NewAccount { id: self.outside, ledger, code, flags: Flags::NONE }]).collect()
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Opening,
    Depositing,
    Withdrawing,
}

/// The stream of one client.
#[derive(Clone, Debug)]
pub struct Ledger {
    settings: Settings,
    rng: Rng,
    phase: Phase,
    busy: bool,
    // What is left of the round: it is yielded without waiting, so that it is concurrent.
    rest: VecDeque<Operation>,
    account: AccountId,
}

impl Ledger {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If there is no account.
    pub fn new(settings: Settings, seed: u64) -> Ledger {
        assert!(!settings.accounts.is_empty(), "somebody gets the deposits");
        let account = settings.accounts[0];
        Ledger { settings, rng: Rng::new(seed), phase: Phase::Opening, busy: false, rest: VecDeque::new(), account }
    }

    fn transfer(&mut self, debit: AccountId, credit: AccountId, amount: u128) -> Operation {
        Operation::Transfers(vec![Transfer {
            id: TransferId(self.rng.next_u128()),
            debit,
            credit,
            amount,
            ledger: self.settings.ledger,
            code: self.settings.code,
            ..Transfer::default()
        }])
    }

    fn deposit(&mut self) -> Operation {
        let count = self.settings.accounts.len() as u64;
        self.account = self.settings.accounts[self.rng.below(count) as usize];
        self.transfer(self.settings.outside, self.account, DEPOSIT)
    }

    fn withdrawals(&mut self) {
        for _ in 0..=self.rng.below(MOST) {
            let withdrawal = self.transfer(self.account, self.settings.outside, WITHDRAWAL);
            self.rest.push_back(withdrawal);
        }
        if self.rng.chance(READS) {
            self.rest.push_back(Operation::Read(self.account));
        }
    }
}

impl Workload for Ledger {
    fn next(&mut self) -> Option<Operation> {
        if self.busy {
            return None;
        }
        if self.phase == Phase::Withdrawing {
            if let Some(operation) = self.rest.pop_front() {
                return Some(operation);
            }
            self.phase = Phase::Depositing;
        }
        self.busy = true;
        Some(match self.phase {
            Phase::Opening => Operation::CreateAccounts(self.settings.opening()),
            Phase::Depositing | Phase::Withdrawing => self.deposit(),
        })
    }

    fn ended(&mut self, observed: &Observed) {
        let exists =
            |result: &Option<CreateResult>| matches!(result, Some(CreateResult::Created | CreateResult::Exists));
        match self.phase {
            Phase::Opening => {
                self.busy = false;
                if matches!(&observed.answer, Answer::Created(results) if results.iter().all(exists)) {
                    self.phase = Phase::Depositing;
                }
            }
            // A withdrawal of the last round may end now; the deposit is the one that is waited for.
            Phase::Depositing => {
                let is_deposit = observed.transfers().any(|(transfer, _)| transfer.debit == self.settings.outside);
                if is_deposit {
                    self.busy = false;
                    self.phase = Phase::Withdrawing;
                    self.withdrawals();
                }
            }
            Phase::Withdrawing => {}
        }
    }
}

/// What must hold of all transfers and reads of a ledger. `transfers` are all that were asked for, with their final
/// outcomes, those of other accounts included.
///
/// # Errors
/// An account that has paid out more than it can have got.
pub fn check<'a>(
    settings: &Settings,
    transfers: impl IntoIterator<Item = (&'a Transfer, Option<Outcome>)>,
) -> Result<(), String> {
    let mut deposits: BTreeMap<AccountId, u128> = BTreeMap::new();
    let mut withdrawals: BTreeMap<AccountId, u128> = BTreeMap::new();
    for (transfer, outcome) in transfers {
        if settings.accounts.contains(&transfer.credit) && !matches!(outcome, Some(Outcome::Rejected(_))) {
            *deposits.entry(transfer.credit).or_default() += transfer.amount;
        }
        if settings.accounts.contains(&transfer.debit) && outcome == Some(Outcome::Committed) {
            *withdrawals.entry(transfer.debit).or_default() += transfer.amount;
        }
    }
    for (account, out) in withdrawals {
        let paid_in = deposits.get(&account).copied().unwrap_or_default();
        if out > paid_in {
            return Err(format!("account {account} paid out {out}, and at most {paid_in} came in"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ledger::model::Reason;

    use super::*;

    fn settings() -> Settings {
        Settings::new(vec![AccountId(1), AccountId(2)], AccountId(9))
    }

    fn transfer(debit: u128, credit: u128, amount: u128) -> Transfer {
        Transfer { debit: AccountId(debit), credit: AccountId(credit), amount, ..Transfer::default() }
    }

    const DONE: Option<Outcome> = Some(Outcome::Committed);
    const REFUSED: Option<Outcome> = Some(Outcome::Rejected(Reason::ExceedsCredits));

    #[test]
    fn a_round_is_a_deposit_and_then_withdrawals_that_wait_for_nothing() {
        let mut ledger = Ledger::new(settings(), 4);
        let create = ledger.next().unwrap();
        ledger.ended(&Observed { operation: create, answer: Answer::Created(vec![Some(CreateResult::Created); 3]) });
        let mut sizes = Vec::new();
        for _ in 0..200 {
            let deposit = ledger.next().unwrap();
            let Operation::Transfers(items) = &deposit else { panic!("a deposit comes first") };
            assert_eq!((items[0].debit, items[0].amount), (AccountId(9), DEPOSIT));
            let account = items[0].credit;
            assert_eq!(ledger.next(), None, "withdrawals wait for the deposit");
            ledger.ended(&Observed { operation: deposit, answer: Answer::Unknown });
            let mut withdrawals = 0;
            while let Some(operation) = (!ledger.rest.is_empty()).then(|| ledger.next()).flatten() {
                match operation {
                    Operation::Transfers(items) => {
                        assert_eq!((items[0].debit, items[0].amount), (account, WITHDRAWAL));
                        withdrawals += 1;
                    }
                    other => assert_eq!(other, Operation::Read(account)),
                }
            }
            sizes.push(withdrawals);
        }
        assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&1), Some(&16)));
    }

    #[test]
    fn one_withdrawal_per_deposit_passes() {
        let history = [(transfer(9, 1, 10), DONE), (transfer(1, 9, 9), DONE), (transfer(1, 9, 9), REFUSED)];
        assert_eq!(check(&settings(), history.iter().map(|(t, outcome)| (t, *outcome))), Ok(()));
    }

    #[test]
    fn a_second_withdrawal_is_found() {
        let history = [(transfer(9, 1, 10), DONE), (transfer(1, 9, 9), DONE), (transfer(1, 9, 9), DONE)];
        assert!(check(&settings(), history.iter().map(|(t, outcome)| (t, *outcome))).is_err());
    }

    #[test]
    fn unknown_deposits_count_and_unknown_withdrawals_do_not() {
        let two = [(transfer(9, 1, 10), None), (transfer(1, 9, 9), DONE), (transfer(1, 9, 9), None)];
        assert_eq!(check(&settings(), two.iter().map(|(t, outcome)| (t, *outcome))), Ok(()));
        let rejected = [(transfer(9, 1, 10), REFUSED), (transfer(1, 9, 9), DONE)];
        assert!(check(&settings(), rejected.iter().map(|(t, outcome)| (t, *outcome))).is_err());
    }

    #[test]
    fn deposits_of_one_account_do_not_pay_for_another() {
        let history = [(transfer(9, 1, 10), DONE), (transfer(2, 9, 9), DONE)];
        assert!(check(&settings(), history.iter().map(|(t, outcome)| (t, *outcome))).is_err());
    }
}

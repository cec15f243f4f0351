//! What clients do: generators of operations, pure and seeded, shared by the load generator and the simulator.
//!
//! A generator is told its settings and a seed and yields operations without end; it knows neither clocks nor
//! connections. Whoever drives it decides when an operation is sent, tells it what became of it, and may keep both:
//! each workload has an invariant that is a function of what was [`Observed`].
//!
//! | file | workload | invariant |
//! |---|---|---|
//! | [`transfer`] | transfers between accounts 1 to N | no account has more or less than what was answered explains |
//! | [`bank`] | Jepsen's bank: transfers, and reads of all accounts at once | a read shows all accounts, none below zero, the right total |
//! | [`ledger`] | Jepsen's ledger: deposits, then concurrent withdrawals | no account pays out more than came in |
//! | [`cycle`] | FoundationDB's cycle: keys form a ring, three successors are rewired | the ring has its full length |
//! | [`ycsb`] | YCSB A to F: records of ten fields | a read shows whole records, each field its own value |
//! | [`tpcb`] | TPC-B: account, teller, branch and history together | the four sums are equal |
//! | [`smallbank`] | SmallBank, conserving: two accounts a customer | all accounts sum up to zero, no savings below it |
//!
//! The last four are streams of [`jobs`]: transactions, and reads of several things at once.

pub mod bank;
pub mod cycle;
pub mod draw;
pub mod jobs;
pub mod ledger;
pub mod smallbank;
pub mod tpcb;
pub mod transfer;
pub mod ycsb;

use drachma_protocol::ids::AccountId;
use drachma_protocol::ledger::model::{Account, CreateResult, NewAccount, Outcome, Transfer};

/// Something that a client does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Create these accounts; to do it again does no harm.
    CreateAccounts(Vec<NewAccount>),
    /// Carry out these transfers, independently of each other. They may belong to different groups.
    Transfers(Vec<Transfer>),
    /// Read one account.
    Read(AccountId),
    /// Read all of these accounts in one transaction: one consistent snapshot.
    Snapshot(Vec<AccountId>),
}

/// What became of an [`Operation`]. Whatever was not answered for good is `None`: it may have taken effect or may not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// One result for each new account.
    Created(Vec<Option<CreateResult>>),
    /// One outcome for each transfer.
    Transfers(Vec<Option<Outcome>>),
    /// The account, if it exists.
    Read(Option<Account>),
    /// The accounts in the order of the question, as far as they exist.
    Snapshot(Vec<Option<Account>>),
    /// Nothing is known of any part of it.
    Unknown,
}

/// An operation and what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// What was asked.
    pub operation: Operation,
    /// What was answered.
    pub answer: Answer,
}

/// A generator that learns from its answers. Several clients may each drive one of the same settings.
pub trait Workload {
    /// The next operation; nothing while one that is under way has to end first.
    fn next(&mut self) -> Option<Operation>;

    /// What became of an operation that [`Workload::next`] has yielded: told once for each.
    fn ended(&mut self, observed: &Observed);
}

impl Observed {
    /// Every transfer of the operation with its outcome; none if it has no transfers.
    pub fn transfers(&self) -> impl Iterator<Item = (&Transfer, Option<Outcome>)> {
        let transfers = match &self.operation {
            Operation::Transfers(transfers) => transfers.as_slice(),
            _ => &[],
        };
        let outcome = |index: usize| match &self.answer {
            Answer::Transfers(outcomes) => outcomes.get(index).copied().flatten(),
            _ => None,
        };
        transfers.iter().enumerate().map(move |(index, transfer)| (transfer, outcome(index)))
    }

    /// Every account that was read, with its id.
    pub fn accounts(&self) -> Vec<(AccountId, Option<Account>)> {
        match (&self.operation, &self.answer) {
            (Operation::Read(id), Answer::Read(account)) => vec![(*id, *account)],
            (Operation::Snapshot(ids), Answer::Snapshot(accounts)) => {
                ids.iter().copied().zip(accounts.iter().copied()).collect()
            }
            _ => Vec::new(),
        }
    }
}

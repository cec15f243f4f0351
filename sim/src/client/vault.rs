//! The vault: accounts of their own for pending transfers, their ends, chains, and closing, the same in every client of
//! a run.

use drachma_protocol::ids::{AccountId, GroupId, TransferId};
use drachma_protocol::ledger::model::{Flags, NewAccount, Transfer};
use drachma_protocol::ledger::operations::{Operation, Pend, PostPending, Transaction, VoidPending};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::time::Span;

use super::Client;
use crate::draw::{between, pick};
use crate::history::History;
use crate::shape::Shape;

/// The code of the vault's accounts: nobody else's have it.
pub const CODE: u16 = 77;
/// The code of transfers that are members of chains.
pub const CHAINED: u16 = 78;
/// No pending transfer has a longer timeout, in microseconds.
pub const LONGEST_TIMEOUT: u64 = 2_000_000;
/// So many of the latest pending transfers a client remembers.
const REMEMBERED: usize = 12;

/// The accounts of the vault.
#[derive(Clone, Debug)]
pub struct Vault {
    /// In each group two without limits, one whose debits must not exceed its credits, one of the reverse, and one
    /// that is closed and opened.
    pub groups: Vec<(GroupId, [NewAccount; 5])>,
}

/// A pending transfer that a client has made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    id: TransferId,
    debit: AccountId,
    credit: AccountId,
    amount: u128,
}

impl Vault {
    /// The vault of a cluster.
    pub fn of(shape: &Shape) -> Vault {
        let new =
            |group, number, flags| NewAccount { id: shape.fresh_account(group, number), ledger: 1, code: CODE, flags };
        let accounts = |group: GroupId| {
            [
                new(group, 40, Flags::NONE),
                new(group, 41, Flags::NONE),
                new(group, 42, Flags::DEBITS_MUST_NOT_EXCEED_CREDITS),
                new(group, 43, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS),
                new(group, 44, Flags::NONE),
            ]
        };
        Vault { groups: shape.groups.iter().map(|(group, _)| (*group, accounts(*group))).collect() }
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = NewAccount> {
        self.groups.iter().flat_map(|(_, accounts)| *accounts)
    }
}

impl Client {
    /// Something with the accounts of the vault.
    pub(super) fn vault_operation(&mut self, now: u64, history: &mut History) {
        match self.rng.below(100) {
            0..4 => {
                let all = self.vault.accounts().collect();
                self.start_job(now, None, drachma_workload::Operation::CreateAccounts(all), history);
            }
            4..38 => {
                let pend = self.pend();
                self.alone(now, Operation::Pend(pend), history);
                // It is ended at once, while it is made or while its time runs out.
                if self.rng.chance(20) {
                    let reserved = *self.reserved.last().expect("it is remembered");
                    self.end_pending(now, reserved, history);
                }
            }
            38..68 => {
                let reserved = self.some_reserved();
                self.end_pending(now, reserved, history);
            }
            68..90 => self.chain(now, history),
            _ => {
                let account = self.switched_account();
                // More often opened than closed, or else nothing moves there.
                let operation = if self.rng.chance(40) { Operation::Close(account) } else { Operation::Open(account) };
                self.vault_transaction(now, None, vec![operation], history);
            }
        }
    }

    fn vault_account(&mut self) -> AccountId {
        let (_, accounts) = pick(&mut self.rng, &self.vault.groups.clone());
        pick(&mut self.rng, &accounts).id
    }

    fn switched_account(&mut self) -> AccountId {
        let (_, accounts) = pick(&mut self.rng, &self.vault.groups.clone());
        accounts[4].id
    }

    fn vault_transfer(&mut self, code: u16) -> Transfer {
        let debit = self.vault_account();
        let mut credit = self.vault_account();
        if credit == debit && self.rng.chance(90) {
            credit = self.vault_account();
        }
        Transfer {
            id: TransferId(self.rng.next_u128()),
            debit,
            credit,
            amount: u128::from(between(&mut self.rng, 1, 50)),
            ledger: 1,
            code,
            user_data_64: self.rng.below(3),
            ..Transfer::default()
        }
    }

    fn pend(&mut self) -> Pend {
        let transfer = self.vault_transfer(CODE);
        let timeout = pick(&mut self.rng, &[0, 0, 1, 30_000, 300_000, LONGEST_TIMEOUT]);
        let Transfer { id, debit, credit, amount, .. } = transfer;
        self.reserved.push(Reserved { id, debit, credit, amount });
        if self.reserved.len() > REMEMBERED {
            self.reserved.remove(0);
        }
        Pend { transfer, timeout: Span(timeout) }
    }

    /// One of the latest pending transfers, ended before or not, or one that never was.
    fn some_reserved(&mut self) -> Reserved {
        let mut reserved = match self.reserved.len() as u64 {
            0 => Reserved {
                id: TransferId(self.rng.next_u128()),
                debit: self.vault_account(),
                credit: self.vault_account(),
                amount: 1,
            },
            len => self.reserved[self.rng.below(len) as usize],
        };
        match self.rng.below(40) {
            0 => reserved.id = TransferId(self.rng.next_u128()),
            1 => reserved.credit = self.vault_account(),
            _ => {}
        }
        reserved
    }

    fn end_pending(&mut self, now: u64, reserved: Reserved, history: &mut History) {
        let operation = match self.rng.below(5) {
            0..3 => Operation::Post(self.post(reserved)),
            _ => Operation::Void(self.void(reserved)),
        };
        self.alone(now, operation, history);
    }

    fn post(&mut self, reserved: Reserved) -> PostPending {
        let Reserved { id: pending, debit, credit, amount } = reserved;
        let amount = match self.rng.below(10) {
            0..4 => None,
            4 => Some(amount + 1),
            5 => Some(amount),
            _ => Some(u128::from(self.rng.below(amount as u64))),
        };
        PostPending { id: TransferId(self.rng.next_u128()), pending, debit, credit, amount }
    }

    fn void(&mut self, reserved: Reserved) -> VoidPending {
        let Reserved { id: pending, debit, credit, .. } = reserved;
        VoidPending { id: TransferId(self.rng.next_u128()), pending, debit, credit }
    }

    /// Nothing but one operation, under its own id.
    fn alone(&mut self, now: u64, operation: Operation, history: &mut History) {
        let id = operation.named().map(|named| named.id);
        self.vault_transaction(now, id, vec![operation], history);
    }

    /// Several transfers, and what else may stand beside them.
    fn chain(&mut self, now: u64, history: &mut History) {
        let mut operations = Vec::new();
        for _ in 0..between(&mut self.rng, 1, 3) {
            operations.push(Operation::Transfer(self.vault_transfer(CHAINED)));
        }
        let reserved = self.some_reserved();
        match self.rng.below(6) {
            0 => operations.push(Operation::Pend(Pend { transfer: self.vault_transfer(CHAINED), timeout: Span(0) })),
            1 => operations.insert(0, Operation::Post(self.post(reserved))),
            2 => operations.push(Operation::Void(self.void(reserved))),
            3 => operations.insert(0, Operation::Close(self.switched_account())),
            _ => {}
        }
        self.vault_transaction(now, None, operations, history);
    }

    fn vault_transaction(
        &mut self,
        now: u64,
        id: Option<TransferId>,
        operations: Vec<Operation>,
        history: &mut History,
    ) {
        let id = id.unwrap_or_else(|| TransferId(self.rng.next_u128()));
        let transaction = Transaction { id, conditions: Vec::new(), operations };
        assert_eq!(transaction.fault(), None, "what clients draw is sound");
        let across = transaction.participants(&self.shape.map).len() > 1;
        let kind = if across || self.rng.chance(5) { CommandKind::TransactOver } else { CommandKind::Transaction };
        let txn = transaction.txn(&self.shape.map);
        history.transact_in_vault(now, txn, &transaction, kind == CommandKind::TransactOver);
        self.send_transaction(now, kind, transaction);
    }
}

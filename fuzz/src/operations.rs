//! Transactions over keys and accounts, drawn so that they often meet.

use drachma_protocol::ids::{AccountId, TransferId, TxnId};
use drachma_protocol::ledger::model::Balance;
use drachma_protocol::ledger::operations::{
    Action, Add, Answered, BalanceIs, Condition, Key, KeyIs, Operation, Pend, PostPending, Put, Reply, Rows, Scan,
    Swap, Swapped, Transaction, Value, VoidPending,
};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::time::Span;

use crate::draw::Draw;
use crate::values::shard_map;

impl Draw<'_> {
    fn key(&mut self) -> Key {
        let names = ["a", "b", "c", "d", "p/1", "p/2", "p/3", "p"];
        Key::new(self.pick(&names)).expect("none is empty or long")
    }

    fn value(&mut self) -> Value {
        match self.below(3) {
            0 => Value::from(i64::from(self.below(9)) - 4),
            1 => Value::from(i64::MAX),
            _ => Value::new(self.bytes()).unwrap_or_default(),
        }
    }

    fn some_value(&mut self) -> Option<Value> {
        self.once_in(2).then(|| self.value())
    }

    fn put(&mut self) -> Put {
        Put { key: self.key(), value: self.value() }
    }

    fn condition(&mut self) -> Condition {
        let account = AccountId(u128::from(self.below(14)));
        let balance = Balance { negative: self.once_in(4), magnitude: u128::from(self.below(30)) };
        match self.below(4) {
            0 => Condition::Is(KeyIs { key: self.key(), value: self.some_value() }),
            1 => Condition::IsNot(KeyIs { key: self.key(), value: self.some_value() }),
            2 => Condition::AtLeast(BalanceIs { account, balance }),
            _ => Condition::AtMost(BalanceIs { account, balance }),
        }
    }

    pub(crate) fn operation(&mut self) -> Operation {
        match self.below(14) {
            0 | 1 => {
                let mut transfer = self.transfer();
                if self.once_in(2) {
                    transfer.id = TransferId(0);
                }
                Operation::Transfer(transfer)
            }
            2 => Operation::Put(self.put()),
            3 => Operation::Delete(self.key()),
            4 => Operation::Append(self.put()),
            5 => Operation::Add(Add { key: self.key(), delta: i64::from(self.below(9)) - 4 }),
            6 => Operation::Swap(Swap { left: self.key(), right: self.key() }),
            7 => Operation::Get(self.key()),
            8 => {
                let (from, to) = (self.key(), self.once_in(2).then(|| self.key()));
                Operation::Scan(Scan { from, to, limit: u32::from(self.below(4)) })
            }
            9 => Operation::Read(AccountId(u128::from(self.below(14)))),
            10 => Operation::Pend(Pend { transfer: self.transfer(), timeout: Span(u64::from(self.below(4)) * 500) }),
            11 => {
                let (id, VoidPending { pending, debit, credit, .. }) = (self.own_id(), self.ending());
                let amount = self.once_in(2).then(|| u128::from(self.below(9)));
                Operation::Post(PostPending { id, pending, debit, credit, amount })
            }
            12 => Operation::Void(self.ending()),
            _ if self.once_in(2) => Operation::Close(AccountId(u128::from(self.below(14)))),
            _ => Operation::Open(AccountId(u128::from(self.below(14)))),
        }
    }

    fn own_id(&mut self) -> TransferId {
        TransferId(u128::from(self.below(8)))
    }

    /// The end of a transfer as [`Input::transfer`] draws it.
    fn ending(&mut self) -> VoidPending {
        let (id, transfer) = (self.own_id(), self.transfer());
        VoidPending { id, pending: transfer.id, debit: transfer.debit, credit: transfer.credit }
    }

    /// One that may have faults of its own.
    pub(crate) fn raw_transaction(&mut self) -> Transaction {
        let conditions = (0..self.below(3)).map(|_| self.condition()).collect();
        let operations = (0..self.below(5)).map(|_| self.operation()).collect();
        Transaction { id: TransferId(u128::from(self.below(8))), conditions, operations }
    }

    /// A transfer, or a transaction as it can come through the wire, with its identity.
    pub(crate) fn action(&mut self) -> (TxnId, Action) {
        let transaction = if self.once_in(2) { Some(self.raw_transaction()) } else { None };
        let action = match transaction.filter(|transaction| transaction.fault().is_none()) {
            Some(transaction) => Action::from(transaction),
            None => Action::from(self.transfer()),
        };
        let txn = if self.once_in(16) { self.txn() } else { action.txn(&shard_map()) };
        (txn, action)
    }

    pub(crate) fn reply(&mut self) -> Reply {
        match self.below(6) {
            0 => Reply::Done(Nothing {}),
            1 => Reply::Value(self.some_value()),
            2 => Reply::Rows(Rows { rows: vec![(self.key(), self.value())], next: None }),
            3 => Reply::Number(i64::from(self.byte())),
            4 => Reply::Length(self.number()),
            _ => Reply::Swapped(Swapped { left: self.some_value(), right: self.some_value() }),
        }
    }

    pub(crate) fn replies(&mut self) -> Vec<Reply> {
        (0..self.below(5)).map(|_| self.reply()).collect()
    }

    pub(crate) fn answers(&mut self) -> Vec<Answered> {
        (0..self.below(4)).map(|_| Answered { operation: u32::from(self.below(5)), reply: self.reply() }).collect()
    }
}

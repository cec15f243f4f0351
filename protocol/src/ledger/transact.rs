//! Transactions all of whose accounts and keys are in this group: carried out at once, or they wait.

use std::sync::Arc;

use super::Ledger;
use super::accounts::Whereabouts;
use super::doubt::{Ahead, Effects, Fit, Rank};
use super::execution::replies_of;
use super::model::{Outcome, Reason, TransferResult};
use super::operations::Transaction;
use super::output::{Output, TransactionResult};
use super::queue::{Asker, Lane, Turn, Waiting, WaitingTransaction};
use super::transfers::{Submitted, Trouble};
use crate::ids::{Age, TxnId};
use crate::time::LogTime;
use crate::txn::table::Known;

impl Ledger {
    /// A transaction of this group arrives; nothing if it waits.
    pub(super) fn transact(
        &mut self,
        transaction: Arc<Transaction>,
        asker: Asker,
        deadline: LogTime,
    ) -> Option<TransactionResult> {
        let (txn, digest) = (transaction.txn(self.accounts.map()), transaction.digest());
        if self.accounts.whereabouts(txn.first) == Whereabouts::Elsewhere {
            return Some(TransferResult::Moved.into());
        }
        if let Some(known) = self.known_result(txn, digest) {
            return Some(known);
        }
        match self.attach(txn, digest, asker) {
            Some(Submitted::Waits) => return None,
            Some(_) => return Some(TransferResult::Retry.into()),
            None => {}
        }
        let needs = match self.needs_of(&transaction, true) {
            Ok(needs) => needs,
            Err(trouble) => return Some(self.in_trouble(txn, digest, &transaction, &trouble)),
        };
        match self.judge(&needs, Ahead::All) {
            Fit::Never(reason) => Some(self.in_trouble(txn, digest, &transaction, &Trouble::Never(reason))),
            Fit::Now => Some(self.carry_out_now(txn, digest, &transaction)),
            Fit::Later if !self.may_queue(&needs) => Some(TransferResult::Retry.into()),
            Fit::Later => {
                self.counter = self.counter.saturating_add(1);
                let rank = Rank { age: Age { counter: self.counter, id: transaction.id }, txn };
                let waiting = WaitingTransaction { txn, transaction, digest };
                let what = Waiting::Transaction(Box::new(waiting));
                self.enqueue(Lane::Local, what, rank, deadline, &needs, vec![asker]);
                None
            }
        }
    }

    /// What is known of a transaction that came before.
    pub(super) fn known_result(&self, txn: TxnId, digest: u128) -> Option<TransactionResult> {
        let (outcome, replayed) = match self.ids.known(txn, digest) {
            Known::Open => return None,
            Known::Committed => (Outcome::Committed, true),
            Known::Rejected(reason) => (Outcome::Rejected(reason), true),
            Known::Conflict => (Outcome::Rejected(Reason::IdConflict), false),
        };
        let replies = if outcome == Outcome::Committed { self.replies.of(txn) } else { None };
        Some(TransactionResult { result: TransferResult::Done(outcome), replayed, replies })
    }

    /// Something has changed for a transaction that waits.
    pub(super) fn reconsider_transaction(
        &mut self,
        turn: Turn,
        waiting: WaitingTransaction,
        outputs: &mut Vec<Output>,
    ) {
        let WaitingTransaction { txn, transaction, digest } = waiting;
        // The ids of its transfers may have been used meanwhile.
        let result = match self.needs_of(&transaction, true) {
            Err(trouble) => self.in_trouble(txn, digest, &transaction, &trouble),
            Ok(needs) => match self.judge(&needs, Ahead::Before(turn)) {
                Fit::Later => return self.keep_waiting(turn, &needs),
                Fit::Never(reason) => self.in_trouble(txn, digest, &transaction, &Trouble::Never(reason)),
                Fit::Now => self.carry_out_now(txn, digest, &transaction),
            },
        };
        let waiter = self.dequeue(turn);
        self.tell(&waiter.askers, result.result, result.replies.as_deref(), outputs);
    }

    /// It cannot be carried out, now or ever.
    fn in_trouble(
        &mut self,
        txn: TxnId,
        digest: u128,
        transaction: &Transaction,
        trouble: &Trouble,
    ) -> TransactionResult {
        let result = match trouble {
            Trouble::Moved => TransferResult::Moved,
            Trouble::Busy => TransferResult::Retry,
            Trouble::Never(reason) => {
                // What only reads is carried out again when it is asked for again.
                if transaction.writes() && *reason != Reason::IdConflict {
                    self.record(txn, Some(digest), Outcome::Rejected(*reason), &Effects::default());
                }
                TransferResult::Done(Outcome::Rejected(*reason))
            }
        };
        result.into()
    }

    /// There is room and its locks are free.
    fn carry_out_now(&mut self, txn: TxnId, digest: u128, transaction: &Transaction) -> TransactionResult {
        let examined = match self.check_pendings(transaction).and_then(|()| self.examine(transaction)) {
            Ok(examined) => examined,
            Err(reason) => return self.in_trouble(txn, digest, transaction, &Trouble::Never(reason)),
        };
        self.execute(txn, transaction, examined.writes, &examined.answers);
        let replies = replies_of(transaction, examined.answers);
        if transaction.writes() {
            self.record(txn, Some(digest), Outcome::Committed, &Effects::default());
            self.replies.keep(txn, &replies);
        }
        let result = TransferResult::Done(Outcome::Committed);
        TransactionResult { result, replayed: false, replies: Some(replies) }
    }
}

//! What the clients asked and what they were told, with the simulated times: the evidence of most checkers.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::{Account, Outcome, Transfer};

/// One transfer as its client saw it.
#[derive(Clone, Debug)]
pub struct TransferRecord {
    /// The content.
    pub transfer: Transfer,
    /// When it was sent first, in microseconds.
    pub invoked: u64,
    /// Every final answer with its time: more than one where copies and fences were answered, too.
    pub answers: Vec<(u64, Outcome)>,
}

impl TransferRecord {
    /// The first answer, if there is one.
    pub fn outcome(&self) -> Option<Outcome> {
        self.answers.first().map(|(_, outcome)| *outcome)
    }

    /// Whether the first answer is a rejection.
    pub fn is_rejected(&self) -> bool {
        matches!(self.outcome(), Some(Outcome::Rejected(_)))
    }

    /// When the client knew that it had taken effect.
    pub fn committed_at(&self) -> Option<u64> {
        self.answers.iter().find(|(_, outcome)| *outcome == Outcome::Committed).map(|(at, _)| *at)
    }
}

/// One linearizable read that was answered.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    /// Which account.
    pub account: AccountId,
    /// When the copy of the request that was answered was sent.
    pub invoked: u64,
    /// When its answer came.
    pub completed: u64,
    /// The answer.
    pub found: Option<Account>,
}

/// Everything that was asked and answered.
#[derive(Debug, Default)]
pub struct History {
    /// By id and debit account.
    pub transfers: BTreeMap<TxnId, TransferRecord>,
    /// In the order of their answers.
    pub reads: Vec<ReadRecord>,
}

impl History {
    /// A transfer is sent for the first time.
    pub fn invoke(&mut self, now: u64, transfer: Transfer) {
        let record = TransferRecord { transfer, invoked: now, answers: Vec::new() };
        let before = self.transfers.insert(TxnId::from(&transfer), record);
        assert!(before.is_none(), "clients do not use an id twice under one account");
    }

    /// A final answer came; returns what is known of the transfer by now.
    pub fn answer(&mut self, now: u64, txn: TxnId, outcome: Outcome) -> Option<&TransferRecord> {
        let record = self.transfers.get_mut(&txn)?;
        record.answers.push((now, outcome));
        Some(record)
    }

    /// How many transfers have a final answer.
    pub fn settled(&self) -> usize {
        self.transfers.values().filter(|record| record.outcome().is_some()).count()
    }
}

//! What the clients asked and what they were told, with the simulated times: the evidence of most checkers.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, GroupId, Session, TxnId};
use drachma_protocol::ledger::model::{Account, CreateResult, NewAccount, Outcome, Transfer};
use drachma_protocol::ledger::operations::{Operation, Reply, Transaction};
use drachma_protocol::message::client::{Response, Why};
use drachma_protocol::message::level::Level;

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

/// Several accounts that were read in one transaction: each twice, the second time begun after the first had ended,
/// and none had changed.
///
/// That is a consistent snapshot. Each single read is linearizable: it shows what its account was at a moment between
/// question and answer when nothing was in doubt there. An account's totals only grow and amounts are never zero, so
/// equal totals mean that nothing was posted to it from its first read to its second. Take any moment after all first
/// reads and before all second ones: every account is then as it was read. Nor is a transaction seen in part: it is
/// posted somewhere only after it was prepared everywhere; so if it shows in one account at its first read, then it
/// was prepared at the other account by then, and there the second read, which waits while it is in doubt, would show
/// it as well.
#[derive(Clone, Debug)]
pub struct SnapshotRecord {
    /// What was read, as far as it exists.
    pub accounts: Vec<(AccountId, Option<Account>)>,
    /// When the first of all reads was sent.
    pub invoked: u64,
    /// When the last answer came.
    pub completed: u64,
}

/// A read from some replica, for a session.
#[derive(Clone, Debug)]
pub struct SessionRead {
    /// The client, and which of its sessions.
    pub session: (u64, u64),
    /// `Session` or `Any`.
    pub level: Level,
    /// Which account.
    pub account: AccountId,
    /// When it was sent first.
    pub invoked: u64,
    /// When the answer came.
    pub completed: u64,
    /// The answer.
    pub found: Option<Account>,
}

/// From some moment on a session sees a transfer of its own.
#[derive(Clone, Copy, Debug)]
pub struct SessionKnown {
    /// The client, and which of its sessions.
    pub session: (u64, u64),
    /// From when on.
    pub at: u64,
    /// The account that it touched.
    pub account: AccountId,
    /// What went out.
    pub debit: u128,
    /// What came in.
    pub credit: u128,
}

/// The creation of accounts, as its client saw it: one command.
#[derive(Clone, Debug)]
pub struct CreationRecord {
    /// The group that was asked.
    pub group: GroupId,
    /// What was asked for.
    pub accounts: Vec<NewAccount>,
    /// When it was sent first.
    pub invoked: u64,
    /// Every answer with its time: one result for each account.
    pub answers: Vec<(u64, Vec<CreateResult>)>,
}

/// A lookup that was answered. Any replica answers it, from what it has applied.
#[derive(Clone, Copy, Debug)]
pub struct LookupRecord {
    /// Of which id.
    pub txn: TxnId,
    /// When the copy of the request that was answered was sent.
    pub invoked: u64,
    /// When the answer came.
    pub completed: u64,
    /// The outcome; "none" is not final.
    pub outcome: Option<Outcome>,
}

/// One content under an id for which there are several.
#[derive(Clone, Debug)]
pub struct RivalRecord {
    /// The content.
    pub transfer: Transfer,
    /// When it was sent first.
    pub invoked: u64,
    /// Every final answer with its time.
    pub answers: Vec<(u64, Outcome)>,
}

/// An id that was used with several contents. If the first of them was settled before the others were sent, it is in
/// [`History::transfers`], otherwise here.
#[derive(Clone, Debug, Default)]
pub struct ContestRecord {
    /// The contents.
    pub rivals: Vec<RivalRecord>,
    /// What fences and lookups of the id answered.
    pub settled: Vec<(u64, Outcome)>,
}

/// A session that a group was not to know, and what was tried under it all the same.
#[derive(Clone, Debug)]
pub struct LostSession {
    /// The group.
    pub group: GroupId,
    /// The session.
    pub session: Session,
    /// When a client was told that it is unknown; zero if it was made up.
    pub since: u64,
    /// What was sent for the first time under it after that.
    pub later: Vec<LaterCommand>,
}

/// A command under a session that is known to be unknown.
#[derive(Clone, Debug)]
pub struct LaterCommand {
    /// Its transfers: nowhere else sent.
    pub transfers: Vec<Transfer>,
    /// Its accounts: nowhere else asked for.
    pub accounts: Vec<NewAccount>,
    /// Every answer with its time.
    pub answers: Vec<(u64, Response)>,
}

/// One final answer to a transaction.
#[derive(Clone, Debug)]
pub struct TransactionAnswer {
    /// When it came.
    pub at: u64,
    /// What it says.
    pub outcome: Outcome,
    /// It says that it had been carried out before.
    pub replayed: bool,
    /// What the operations yielded.
    pub replies: Option<Vec<Reply>>,
}

/// A transaction as its client saw it.
#[derive(Clone, Debug)]
pub struct TransactionRecord {
    /// The content.
    pub transaction: Transaction,
    /// It was sent to be coordinated.
    pub coordinated: bool,
    /// When it was sent first, in microseconds.
    pub invoked: u64,
    /// Every final answer.
    pub answers: Vec<TransactionAnswer>,
    /// What fences and lookups of the id answered.
    pub settled: Vec<(u64, Outcome)>,
}

impl TransactionRecord {
    /// Whether it has one outcome, whoever asks: what only reads in one group is carried out again for everyone.
    pub fn is_recorded(&self) -> bool {
        self.coordinated || self.transaction.writes()
    }

    /// Every final word with its time, in no order.
    pub fn outcomes(&self) -> impl Iterator<Item = (u64, Outcome)> {
        self.answers.iter().map(|answer| (answer.at, answer.outcome)).chain(self.settled.iter().copied())
    }

    /// The first final word with its time.
    pub fn outcome(&self) -> Option<(u64, Outcome)> {
        self.outcomes().min_by_key(|(at, _)| *at)
    }

    /// What the operations yielded, if anybody was told.
    pub fn replies(&self) -> Option<&Vec<Reply>> {
        self.answers.iter().find_map(|answer| answer.replies.as_ref())
    }
}

/// Keys and accounts that were read together, outside a transaction.
#[derive(Clone, Debug)]
pub struct QueryRecord {
    /// What was read.
    pub operations: Vec<Operation>,
    /// What was found, one each.
    pub replies: Vec<Reply>,
    /// When the first of all its requests was sent.
    pub invoked: u64,
    /// When the last answer came.
    pub completed: u64,
}

/// A request that is malformed, or was sent where it does not belong.
#[derive(Clone, Debug)]
pub struct BadRecord {
    /// What is wrong with it.
    pub what: &'static str,
    /// The transfers in it: nowhere else sent.
    pub transfers: Vec<Transfer>,
    /// The accounts in it: nowhere else asked for.
    pub accounts: Vec<NewAccount>,
    /// Every answer with its time.
    pub answers: Vec<(u64, Response)>,
}

/// Everything that was asked and answered.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By id and debit account.
    pub transfers: BTreeMap<TxnId, TransferRecord>,
    /// Transactions, by id and first account.
    pub transactions: BTreeMap<TxnId, TransactionRecord>,
    /// Transactions over the accounts of the vault, likewise.
    pub vault: BTreeMap<TxnId, TransactionRecord>,
    /// In the order of their ends.
    pub queries: Vec<QueryRecord>,
    /// In the order of their answers; those of snapshots are among them.
    pub reads: Vec<ReadRecord>,
    /// In the order of their answers.
    pub session_reads: Vec<SessionRead>,
    /// In the order in which they were known.
    pub session_known: Vec<SessionKnown>,
    /// In the order of their ends.
    pub snapshots: Vec<SnapshotRecord>,
    /// In the order in which they were sent first.
    pub creations: Vec<CreationRecord>,
    /// In the order of their answers.
    pub lookups: Vec<LookupRecord>,
    /// Ids with several contents.
    pub contests: BTreeMap<TxnId, ContestRecord>,
    /// Sessions that no group may know.
    pub lost_sessions: Vec<LostSession>,
    /// Requests that nobody may carry out.
    pub bad: Vec<BadRecord>,
    /// Answers that do not belong to what was asked.
    pub surprises: Vec<String>,
    /// How often a request was refused, by the reason.
    pub refusals: BTreeMap<Why, u64>,
}

impl History {
    /// A transfer is sent for the first time, or by another client that has the same one to send.
    pub fn invoke(&mut self, now: u64, transfer: Transfer) {
        let new = || TransferRecord { transfer, invoked: now, answers: Vec::new() };
        let record = self.transfers.entry(TxnId::from(&transfer)).or_insert_with(new);
        assert_eq!(record.transfer, transfer, "other content under a known id is a contest");
    }

    /// A final answer came; returns what is known of the transfer by now.
    pub fn answer(&mut self, now: u64, txn: TxnId, outcome: Outcome) -> Option<&TransferRecord> {
        let record = self.transfers.get_mut(&txn)?;
        record.answers.push((now, outcome));
        Some(record)
    }

    /// A transaction is sent for the first time.
    pub fn transact(&mut self, now: u64, txn: TxnId, transaction: &Transaction, coordinated: bool) {
        let (transaction, answers, settled) = (transaction.clone(), Vec::new(), Vec::new());
        let record = TransactionRecord { transaction, coordinated, invoked: now, answers, settled };
        assert!(self.transactions.insert(txn, record).is_none(), "every transaction has an id of its own");
    }

    /// As [`History::transact`], of one over the accounts of the vault.
    pub fn transact_in_vault(&mut self, now: u64, txn: TxnId, transaction: &Transaction, coordinated: bool) {
        let (transaction, answers, settled) = (transaction.clone(), Vec::new(), Vec::new());
        let record = TransactionRecord { transaction, coordinated, invoked: now, answers, settled };
        assert!(self.vault.insert(txn, record).is_none(), "every transaction has an id of its own");
    }

    fn transaction(&mut self, txn: TxnId) -> Option<&mut TransactionRecord> {
        self.transactions.get_mut(&txn).or_else(|| self.vault.get_mut(&txn))
    }

    /// A final answer to a transaction came.
    pub fn answer_transaction(&mut self, txn: TxnId, answer: TransactionAnswer) {
        if let Some(record) = self.transaction(txn) {
            record.answers.push(answer);
        }
    }

    /// The outcome of a transaction was told without its content.
    pub fn settle_transaction(&mut self, now: u64, txn: TxnId, outcome: Outcome) {
        if let Some(record) = self.transaction(txn) {
            record.settled.push((now, outcome));
        }
    }

    /// Content under an id that is used with other content, too, is sent.
    pub fn contest(&mut self, now: u64, transfer: Transfer) {
        let contest = self.contests.entry(TxnId::from(&transfer)).or_default();
        if contest.rivals.iter().all(|rival| rival.transfer != transfer) {
            contest.rivals.push(RivalRecord { transfer, invoked: now, answers: Vec::new() });
        }
    }

    /// Whether this very content was sent outside a contest: its outcome is that of its id.
    pub fn is_sole(&self, transfer: &Transfer) -> bool {
        self.transfers.get(&TxnId::from(transfer)).is_some_and(|record| record.transfer == *transfer)
    }

    /// Whether this very content was sent by somebody who meant it.
    pub fn was_asked(&self, transfer: &Transfer) -> bool {
        let contest = self.contests.get(&TxnId::from(transfer));
        self.is_sole(transfer)
            || contest.is_some_and(|contest| contest.rivals.iter().any(|rival| rival.transfer == *transfer))
    }

    /// A final answer to a content in a contest came.
    pub fn answer_rival(&mut self, now: u64, transfer: &Transfer, outcome: Outcome) {
        let Some(contest) = self.contests.get_mut(&TxnId::from(transfer)) else { return };
        if let Some(rival) = contest.rivals.iter_mut().find(|rival| rival.transfer == *transfer) {
            rival.answers.push((now, outcome));
        }
    }

    /// The outcome of a contested id was told without its content.
    pub fn settle_contest(&mut self, now: u64, txn: TxnId, outcome: Outcome) {
        if let Some(contest) = self.contests.get_mut(&txn) {
            contest.settled.push((now, outcome));
        }
    }

    /// How many transfers have a final answer.
    pub fn settled(&self) -> usize {
        self.transfers.values().filter(|record| record.outcome().is_some()).count()
    }
}

//! What applying an entry yields. Followers ignore it.

use crate::ids::{AccountId, Attempt, CommandRef, GroupId, Session, TxnId};
use crate::ledger::model::{Account, CreateResult, ItemResult, Outcome, TransferResult};
use crate::ledger::operations::{Answered, Expire, Reply};
use crate::message::client::Why;
use crate::message::command::Verdict;
use crate::message::txn::VoteKind;

/// One thing that applying yielded.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// For the client whose command it was.
    Client(ClientOutput),
    /// For the coordinator or the participant.
    Txn(TxnOutput),
    /// A `Read` command found its quiet moment: every read of the account that waits at the replica gets this.
    Read(AccountId, Option<Account>),
    /// A `Read` command waited until its deadline, or the queue was full.
    ReadExpired(AccountId),
}

/// What applying yielded for a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientOutput {
    /// The client's command.
    pub command: CommandRef,
    /// The result.
    pub result: CommandResult,
}

/// The result of a client's command.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandResult {
    /// The session is registered.
    Registered(Session),
    /// A batch of transfers was applied.
    Transfers {
        /// All that did not simply commit now, and have a result.
        items: Vec<ItemResult>,
        /// How many wait; each comes later as `Late`.
        waiting: u32,
    },
    /// A transfer of a batch that waited.
    Late(ItemResult),
    /// A transaction; of one that waits this comes later.
    Transaction(TransactionResult),
    /// The results of a batch of new accounts.
    Created(Vec<CreateResult>),
    /// What became of an id: of a fence.
    Settled(Outcome),
    /// A fence found the id in doubt and undecided elsewhere or waiting; it is decided by the record that follows.
    /// Not an answer.
    Refused(Why),
}

/// What became of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransactionResult {
    /// What became of it.
    pub result: TransferResult,
    /// It had its outcome before.
    pub replayed: bool,
    /// Of a commit: what each operation yields. Nothing if that is not kept any more.
    pub replies: Option<Vec<Reply>>,
}

impl From<TransferResult> for TransactionResult {
    fn from(result: TransferResult) -> TransactionResult {
        TransactionResult { result, replayed: false, replies: None }
    }
}

/// What applying yielded for a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TxnOutput {
    /// A Begin was applied and stands. The group's own vote comes as `Voted`.
    Begun {
        /// The transaction.
        txn: TxnId,
        /// The try.
        attempt: Attempt,
    },
    /// A Begin was void: stale, or the same transaction is under way in another attempt.
    Void {
        /// The transaction.
        txn: TxnId,
        /// The try.
        attempt: Attempt,
    },
    /// A Begin found that its id has an outcome (a conflict of content is one): nothing was begun.
    Known {
        /// The transaction.
        txn: TxnId,
        /// The try.
        attempt: Attempt,
        /// The outcome.
        outcome: Outcome,
        /// Of a commit: what each operation yielded, if that is still kept.
        replies: Option<Vec<Reply>>,
    },
    /// The vote of this group, as coordinator or as participant; again when a Prepare comes again.
    Voted {
        /// The transaction.
        txn: TxnId,
        /// The try.
        attempt: Attempt,
        /// The group that decides.
        coordinator: GroupId,
        /// The vote.
        vote: VoteKind,
        /// The group's age counter.
        counter: u64,
        /// Of a yes: what the operations on what this group owns yield.
        values: Vec<Answered>,
    },
    /// This group, as coordinator, has decided; a second decision yields nothing.
    Decided {
        /// The transaction.
        txn: TxnId,
        /// The try.
        attempt: Attempt,
        /// The decision.
        verdict: Verdict,
        /// Of a commit: what each operation yields. Nothing of a transfer alone.
        replies: Vec<Reply>,
    },
    /// The time of a pending transfer between two groups is over: end it, in both. Comes again until it has ended.
    Due(Expire),
    /// A Resolve is applied here, or was before: acknowledge it.
    Resolved {
        /// The transaction.
        txn: TxnId,
        /// The try.
        attempt: Attempt,
        /// The group that decided.
        coordinator: GroupId,
    },
}

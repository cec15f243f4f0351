//! One request with all its copies, until it is over.

use bytes::Bytes;

use drachma_protocol::ids::{AccountId, Epoch, GroupId, NodeId, Session, SessionId, Slot, TxnId};
use drachma_protocol::ledger::model::{NewAccount, Outcome, Transfer, TransferResult};
use drachma_protocol::ledger::operations::{Operation, Transaction};
use drachma_protocol::message::client::{Call, FenceCall, QueryCall, ReadCall, Request, TransfersDone};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::level::{Level, PositionCall, ReplicaReadCall, WriteCall};
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;

/// What is asked.
#[derive(Debug)]
pub(super) enum Ask {
    Transfers {
        kind: CommandKind,
        transfers: Vec<Transfer>,
        session: Option<Session>,
        sequence: u64,
        // Of one group: it is sent at this level. To others: the session is to see it.
        level: Option<Level>,
    },
    Create {
        accounts: Vec<NewAccount>,
        session: Session,
        sequence: u64,
        // Its place in the history.
        record: usize,
    },
    Register {
        identity: usize,
        id: SessionId,
    },
    Read {
        account: AccountId,
    },
    Transaction {
        kind: CommandKind,
        txn: TxnId,
        transaction: Transaction,
        session: Option<Session>,
        sequence: u64,
    },
    Query {
        operations: Vec<Operation>,
        confirmed: bool,
    },
    /// From any replica.
    Look {
        account: AccountId,
        level: Level,
        after: Slot,
    },
    /// How far the group is; the session sees these transfers then.
    Position {
        everywhere: bool,
        covers: Vec<Transfer>,
    },
    Fence {
        txn: TxnId,
    },
    Lookup {
        txn: TxnId,
    },
    /// Under a session that is lost: which one, and which command of it, in the history.
    Later {
        call: Call,
        lost: usize,
        index: usize,
    },
    /// What nobody may carry out, with its place in the history.
    Bad {
        call: Call,
        record: usize,
    },
}

/// Which part of which job an exchange is.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) job: u64,
    /// The places of what is asked in the job's operation.
    pub(super) places: Vec<usize>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) group: GroupId,
    pub(super) ask: Ask,
    pub(super) part: Option<Part>,
    pub(super) deadline: Span,
    /// The version of the map that it names.
    pub(super) epoch: Epoch,
    /// Its deadline can hardly be kept: soon given up.
    pub(super) hurried: bool,
    /// When each copy was sent.
    pub(super) copies: Vec<u64>,
    /// The node that the last of them went to.
    pub(super) asked: Option<NodeId>,
    /// Nobody waits for it; answers that come are still evidence.
    pub(super) over: bool,
    /// Of a batch of transfers: the outcomes that were answered.
    pub(super) known: Vec<Option<Outcome>>,
}

impl Exchange {
    /// The session that it names.
    pub(super) fn session(&self) -> Option<Session> {
        match &self.ask {
            Ask::Transfers { session, .. } | Ask::Transaction { session, .. } => *session,
            Ask::Create { session, .. } => Some(*session),
            _ => None,
        }
    }

    /// The ids that it names.
    pub(super) fn txns(&self) -> Vec<TxnId> {
        match &self.ask {
            Ask::Transfers { transfers, .. } => transfers.iter().map(TxnId::from).collect(),
            Ask::Fence { txn } => vec![*txn],
            // What only reads in one group is not recorded under its id.
            Ask::Transaction { kind, txn, transaction, .. } if transaction.writes() || kind.is_coordinated() => {
                vec![*txn]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn request(&self) -> Request {
        let (deadline, epoch) = (self.deadline, self.epoch);
        let command = |kind, session, sequence, count, body| {
            let body = Bytes::from(body);
            Call::Command(ClientCommand { kind, session, sequence, deadline, epoch, count, body })
        };
        let call = match &self.ask {
            Ask::Transfers { kind, transfers, session, sequence, level } => {
                let call = command(*kind, *session, *sequence, transfers.len() as u32, to_vec(transfers));
                match (call, level) {
                    (Call::Command(command), Some(level)) if *kind == CommandKind::Transfers => {
                        Call::Write(WriteCall { level: *level, command })
                    }
                    (call, _) => call,
                }
            }
            Ask::Create { accounts, session, sequence, .. } => {
                let count = accounts.len() as u32;
                command(CommandKind::CreateAccounts, Some(*session), *sequence, count, to_vec(accounts))
            }
            Ask::Register { id, .. } => command(CommandKind::Register, None, 0, 1, to_vec(id)),
            Ask::Read { account } => Call::Read(ReadCall { account: *account, deadline, epoch }),
            Ask::Transaction { kind, transaction, session, sequence, .. } => {
                command(*kind, *session, *sequence, 1, to_vec(transaction))
            }
            Ask::Query { operations, confirmed } => {
                let (operations, confirmed) = (operations.clone(), *confirmed);
                Call::Query(QueryCall { operations, confirmed, deadline, epoch })
            }
            Ask::Look { account, level, after } => {
                let (operations, after, settled) = (vec![Operation::Read(*account)], *after, *level != Level::Any);
                Call::ReplicaRead(ReplicaReadCall { operations, after, settled, deadline, epoch })
            }
            Ask::Position { everywhere, .. } => {
                Call::Position(PositionCall { everywhere: *everywhere, deadline, epoch })
            }
            Ask::Fence { txn } => Call::Fence(FenceCall { txn: *txn, deadline }),
            Ask::Lookup { txn } => Call::Lookup(FenceCall { txn: *txn, deadline }),
            Ask::Later { call, .. } | Ask::Bad { call, .. } => call.clone(),
        };
        Request { group: self.group, call }
    }
}

/// The outcome of each transfer of a batch, where it has one: what is not listed has committed now.
pub(super) fn outcomes(count: usize, done: &TransfersDone) -> Vec<Option<Outcome>> {
    let mut outcomes = vec![Some(Outcome::Committed); count];
    for item in &done.items {
        if let Some(outcome) = outcomes.get_mut(item.index as usize) {
            *outcome = match item.result {
                TransferResult::Done(outcome) => Some(outcome),
                _ => None,
            };
        }
    }
    outcomes
}

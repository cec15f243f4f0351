//! The client library: sessions, routing, retries, deadlines, pipelining.

use std::time::Duration;

use drachma_protocol::ids::{AccountId, ClusterId, GroupId, NodeId, Slot, TxnId};
use drachma_protocol::ledger::model::{Account, CreateResult, NewAccount, Outcome, Reason, Transfer};
use drachma_protocol::message::client::MapDone;
use drachma_protocol::message::operator::{OperatorAnswer, OperatorCall};

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Some of its nodes, `host:port`; the rest is learnt from them.
    pub endpoints: Vec<String>,
    /// Which cluster must answer; nothing accepts any.
    pub cluster: Option<ClusterId>,
    /// How long a request may take if it does not say so itself; nothing means until it is final.
    pub deadline: Option<Duration>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No endpoint answered in time.
    #[error("no node answered: {0}")]
    Unreachable(String),
    /// A node answered something else than was asked, or refused the connection.
    #[error("{0}")]
    Protocol(String),
}

/// A handle on a cluster; cheap to clone. All clones share one connection per node.
#[derive(Clone)]
pub struct Client {}

/// What became of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Final: it took effect.
    Committed,
    /// Final: it did not and never will.
    Rejected(Reason),
    /// Not final: of a needed group fewer than a majority of replicas could be reached, or all that were reached
    /// denied a quorum.
    Unavailable,
    /// Not final: the deadline passed otherwise.
    Unknown,
}

/// The answer to a write.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// What became of it.
    pub status: Status,
    /// It had its outcome before this request.
    pub replayed: bool,
    /// How often it was sent.
    pub attempts: u32,
}

/// The answer to a read.
#[derive(Clone, Copy, Debug)]
pub struct ReadAnswer {
    /// `Ok(None)`: there is no such account. `Err`: `Unavailable` or `Unknown`.
    pub account: Result<Option<Account>, Status>,
    /// The log position at which it was read.
    pub slot: Slot,
    /// How often it was sent.
    pub attempts: u32,
}

impl Client {
    /// Connects to the first endpoint that answers and learns the map.
    ///
    /// # Errors
    /// If none answers within the deadline (5 s if there is none).
    pub async fn connect(options: Options) -> Result<Client, ClientError> {
        let _ = options;
        unimplemented!()
    }

    /// The map as this client knows it.
    pub fn map(&self) -> MapDone {
        unimplemented!()
    }

    /// Moves money, exactly once however often it is sent. `deadline`: `None` for the client's own.
    pub async fn transfer(&self, transfer: Transfer, deadline: Option<Duration>) -> Answer {
        let _ = (transfer, deadline);
        unimplemented!()
    }

    /// Many independent transfers at once: split by group, one answer each.
    pub async fn transfers(&self, transfers: &[Transfer], deadline: Option<Duration>) -> Vec<Answer> {
        let _ = (transfers, deadline);
        unimplemented!()
    }

    /// Reads an account, linearizably.
    pub async fn read(&self, account: AccountId, deadline: Option<Duration>) -> ReadAnswer {
        let _ = (account, deadline);
        unimplemented!()
    }

    /// Creates accounts; one result each, or why there is none.
    pub async fn create_accounts(
        &self,
        accounts: &[NewAccount],
        deadline: Option<Duration>,
    ) -> Vec<Result<CreateResult, Status>> {
        let _ = (accounts, deadline);
        unimplemented!()
    }

    /// Settles an id for ever: its outcome, or `Rejected(Fenced)` from now on.
    pub async fn fence(&self, txn: TxnId, deadline: Option<Duration>) -> Answer {
        let _ = (txn, deadline);
        unimplemented!()
    }

    /// The outcome of an id, if it has one.
    ///
    /// # Errors
    /// `Unavailable` or `Unknown`.
    pub async fn lookup(&self, txn: TxnId, deadline: Option<Duration>) -> Result<Option<Outcome>, Status> {
        let _ = (txn, deadline);
        unimplemented!()
    }

    /// Asks one node for the command line.
    ///
    /// # Errors
    /// If the node does not answer within `timeout`.
    pub async fn operator(
        &self,
        node: NodeId,
        group: GroupId,
        call: OperatorCall,
        timeout: Duration,
    ) -> Result<OperatorAnswer, ClientError> {
        let _ = (node, group, call, timeout);
        unimplemented!()
    }
}

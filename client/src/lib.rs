//! The client library: sessions, routing, retries, deadlines, pipelining.
//!
//! [`Client::connect`] learns the cluster from any of its nodes; after that every request goes to the group that owns
//! its account. A [`Client`] is a handle: clone it as often as you like, for as many logical clients as you like. All
//! clones share one connection per node, and requests of all of them travel together.
//!
//! # What an answer means
//!
//! [`Status::Committed`] and [`Status::Rejected`] are final. [`Status::Unavailable`] and [`Status::Unknown`] are not:
//! the transfer may have taken effect, or may still do so. Send it again under the same id, as often as you like (it
//! is executed once), or settle it with [`Client::fence`]. Within its deadline the library does just that by itself:
//! everything that is no answer (no leader, overloaded, moved, a lost connection) is tried again under the same id.
//!
//! # Levels
//!
//! All requests are linearizable, but for those of a [`Session`] at another [`Level`]: [`Client::session`].
//!
//! # Histories
//!
//! What a [`Client::recorded`] handle asks and is told can be checked afterwards: [`Recorder`].
//!
//! # Where it runs
//!
//! In a tokio runtime of either kind, with time and I/O enabled: connections are tasks of the runtime in which a
//! request first needed them, so a client is used in one runtime only. Dropping the last clone closes them.
//!
//! # Limits
//!
//! At most 64 MiB, and at most 65,536 requests, are in flight on a connection; more wait for room. A batch of any size
//! is split into commands of at most 8,190.

mod backoff;
mod batch;
mod chain;
mod connection;
mod history;
mod level;
mod link;
mod replicas;
mod request;
mod router;
mod session;
mod single;
mod transaction;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use drachma_protocol::ids::{AccountId, ClusterId, Epoch, GroupId, NodeId, Slot, TxnId};
use drachma_protocol::ledger::model::{Account, CreateResult, NewAccount, Outcome, Reason, Transfer};
use drachma_protocol::ledger::operations::{
    List, Listed, Operation, Pend, PostPending, Reply, Transaction, VoidPending,
};
use drachma_protocol::message::client::{Call, FenceCall, MapCall, MapDone, ReadCall, Request, Response};
use drachma_protocol::message::hello::Hello;
use drachma_protocol::message::operator::{OperatorAnswer, OperatorCall};
use tokio::time::{Instant, sleep, timeout};

pub use crate::chain::Linked;

use crate::backoff::Backoff;
use crate::connection::{SendError, Trouble};
use crate::history::{Asked, Begun, Ended, Recording};
use crate::link::Link;
use crate::request::{deadline_in, within};
use crate::router::Router;
use crate::session::Sessions;

pub use drachma_protocol::message::level::Level;
pub use drachma_protocol::message::token::{NoToken, Token};

pub use crate::history::Recorder;
pub use crate::level::{LevelError, LevelRead, Leveled, OtherCluster, ReadError, Session};

/// How long [`Client::connect`] tries if the options have no deadline.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Some of its nodes, `host:port`; the rest is learnt from them. If these are not all nodes, a [`Session`] reads from
    /// them before others, where the level lets it read from any replica.
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

impl From<Trouble> for ClientError {
    fn from(trouble: Trouble) -> ClientError {
        match trouble {
            Trouble::Unreachable(text) | Trouble::Silent(text) => ClientError::Unreachable(text),
            Trouble::Protocol(text) => ClientError::Protocol(text),
        }
    }
}

/// A handle on a cluster; cheap to clone. All clones share one connection per node.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    recording: Option<Recording>,
}

/// What all clones share.
struct Inner {
    router: Router,
    sessions: Sessions,
    // Numbers the commands without a session.
    sequence: AtomicU64,
    deadline: Option<Duration>,
    // Whom a session asks first.
    near: BTreeSet<NodeId>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Final: it took effect.
    Committed,
    /// Final: it did not and never will.
    Rejected(Reason),
    /// Not final: at level `any`, the leader's own disk has it. It may still be rejected, and a failover may lose it.
    Accepted,
    /// Not final: of a needed group fewer than a majority of replicas could be reached, or all that were reached
    /// denied a quorum.
    Unavailable,
    /// Not final: the deadline passed otherwise.
    Unknown,
}

impl Status {
    /// Whether nothing can change it any more.
    pub fn is_final(self) -> bool {
        matches!(self, Status::Committed | Status::Rejected(_))
    }
}

impl From<Outcome> for Status {
    fn from(outcome: Outcome) -> Status {
        match outcome {
            Outcome::Committed => Status::Committed,
            Outcome::Rejected(reason) => Status::Rejected(reason),
        }
    }
}

/// The answer to a write.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// What became of it.
    pub status: Status,
    /// It had its outcome before the try that was answered: it was sent before, by this request's own earlier tries
    /// (if there was more than one) or by another request.
    pub replayed: bool,
    /// How often it was sent: put on a connection. Zero if it never got so far.
    pub attempts: u32,
}

/// The answer to a transaction.
#[derive(Clone, Debug)]
pub struct Transacted {
    /// What became of it.
    pub status: Status,
    /// It had its outcome before the try that was answered.
    pub replayed: bool,
    /// Of a commit: what each operation yields, in their order. Nothing of one that was repeated long after: what it
    /// yielded is not kept for ever.
    pub replies: Option<Vec<Reply>>,
    /// How often it was sent: put on a connection.
    pub attempts: u32,
}

/// The answer to a read.
#[derive(Clone, Copy, Debug)]
pub struct ReadAnswer {
    /// `Ok(None)`: there is no such account. `Err`: `Unavailable` or `Unknown`.
    pub account: Result<Option<Account>, Status>,
    /// The log position at which it was read; zero if it was not, or no group owns the account.
    pub slot: Slot,
    /// How often it was sent: put on a connection.
    pub attempts: u32,
}

impl Client {
    /// Connects to the first endpoint that answers and learns the map.
    ///
    /// # Errors
    /// If none answers within the deadline (5 s if there is none), or all that answer refuse.
    pub async fn connect(options: Options) -> Result<Client, ClientError> {
        let until = deadline_in(Some(options.deadline.unwrap_or(CONNECT_DEADLINE)));
        let nothing = if options.endpoints.is_empty() { "no endpoint was given" } else { "no answer in time" };
        let mut last = ClientError::Unreachable(nothing.to_owned());
        let found = within(until, search(&options, &mut last)).await.flatten();
        let Some((map, hello)) = found else { return Err(last) };
        let named = map.nodes.iter().filter(|known| options.endpoints.contains(&known.address)).map(|known| known.node);
        let near: BTreeSet<NodeId> = named.collect();
        let router = Router::new(map, hello);
        let inner =
            Inner { router, sessions: Sessions::new(), sequence: AtomicU64::new(1), deadline: options.deadline, near };
        Ok(Client { inner: Arc::new(inner), recording: None })
    }

    /// The map as this client knows it.
    pub fn map(&self) -> MapDone {
        MapDone::clone(&self.inner.router.map().0)
    }

    /// Moves money, exactly once however often it is sent. `deadline`: `None` for the client's own.
    ///
    /// A transfer whose debit account lies outside all ranges is answered `Rejected(NoSuchAccount)` without asking
    /// anybody: its id lives under that account, which no group owns, so it can never take effect.
    pub async fn transfer(&self, transfer: Transfer, deadline: Option<Duration>) -> Answer {
        let begun = self.begin(Asked::Transfer(&transfer), Level::Linearizable);
        let answer = self.transfer_until(transfer, self.until(deadline)).await;
        begun.transferred(&answer);
        answer
    }

    async fn transfer_until(&self, transfer: Transfer, until: Option<Instant>) -> Answer {
        batch::transfers(&self.inner, &[transfer], until).await[0]
    }

    /// Many independent transfers at once: split by group, one answer each, in their order. They are executed
    /// concurrently, in any order.
    pub async fn transfers(&self, transfers: &[Transfer], deadline: Option<Duration>) -> Vec<Answer> {
        let begin = |transfer| self.begin(Asked::Transfer(transfer), Level::Linearizable);
        let begun: Vec<Option<Begun>> = transfers.iter().map(begin).collect();
        let answers = batch::transfers(&self.inner, transfers, self.until(deadline)).await;
        begun.into_iter().zip(&answers).for_each(|(begun, answer)| begun.transferred(answer));
        answers
    }

    /// Transfers of one or two phases, some of which are linked, at once: one answer each, in their order.
    ///
    /// A chain (all members with `linked`, and the first one without it that follows) takes effect as a whole or not at
    /// all, by its net effect. If it is rejected, one of its members is told the reason, and the others
    /// `LinkedEventFailed`. Without asking anybody each member is told `LinkedEventChainOpen` where the batch ends before
    /// its chain does, and a chain is rejected with `TooLarge` if it has more members than a transaction may have
    /// operations, and with `IdConflict` if it has an id twice.
    pub async fn linked(&self, batch: &[Linked], deadline: Option<Duration>) -> Vec<Answer> {
        chain::linked(&self.inner, batch, self.until(deadline)).await
    }

    /// Reserves money, exactly once under the transfer's id: it is posted by [`Client::post`], or released by
    /// [`Client::void`], or when its time is over.
    pub async fn pend(&self, pend: Pend, deadline: Option<Duration>) -> Answer {
        self.alone(Operation::Pend(pend), deadline).await
    }

    /// Posts a pending transfer, whole or in part, exactly once under the posting's id.
    pub async fn post(&self, post: PostPending, deadline: Option<Duration>) -> Answer {
        self.alone(Operation::Post(post), deadline).await
    }

    /// Releases a pending transfer, exactly once under the voiding's id.
    pub async fn void(&self, void: VoidPending, deadline: Option<Duration>) -> Answer {
        self.alone(Operation::Void(void), deadline).await
    }

    async fn alone(&self, operation: Operation, deadline: Option<Duration>) -> Answer {
        let answers = self.linked(&[Linked { operation, linked: false }], deadline).await;
        answers[0]
    }

    /// Carries out a transaction over accounts and keys of any groups, exactly once under its id: all of it, or nothing.
    ///
    /// One that is larger than a frame is answered `Rejected(TooLarge)` without asking anybody, one whose first account
    /// lies outside all ranges `Rejected(NoSuchAccount)`.
    pub async fn transact(&self, transaction: &Transaction, deadline: Option<Duration>) -> Transacted {
        let begun = self.begin(Asked::Transact(transaction), Level::Linearizable);
        let done = self.transact_until(transaction, self.until(deadline)).await;
        begun.transacted(&done);
        done
    }

    async fn transact_until(&self, transaction: &Transaction, until: Option<Instant>) -> Transacted {
        transaction::transact(&self.inner, transaction, until).await
    }

    /// Reads keys and accounts of any groups as one consistent snapshot: `Get`, `Scan` and `Read` operations, up to the
    /// limit of a transaction's. One reply each; `Done` stands for an account that does not exist.
    ///
    /// # Errors
    /// `Unavailable` or `Unknown`; `Rejected` with `too_large` if all that was found is more than a reply may have, and
    /// with `no_such_account` if such an account had to be read together with what is in doubt.
    pub async fn query(&self, operations: &[Operation], deadline: Option<Duration>) -> Result<Vec<Reply>, Status> {
        let begun = self.begin(Asked::Query(operations), Level::Linearizable);
        let read = transaction::query(&self.inner, operations, self.until(deadline)).await;
        if let Some(begun) = begun {
            begun.read(read.as_ref().map_err(|status| *status));
        }
        read
    }

    /// A page of what a group has, linearizably: of an account's list, ask the group that owns it. Waits while something
    /// is in doubt at the account.
    ///
    /// # Errors
    /// `Unavailable` or `Unknown`.
    pub async fn list(&self, group: GroupId, list: List, deadline: Option<Duration>) -> Result<Listed, Status> {
        transaction::list(&self.inner, group, list, self.until(deadline)).await
    }

    /// Reads an account, linearizably.
    pub async fn read(&self, account: AccountId, deadline: Option<Duration>) -> ReadAnswer {
        let begun = self.begin(Asked::Query(&[Operation::Read(account)]), Level::Linearizable);
        let answer = self.read_account(account, deadline).await;
        begun.found(answer.account);
        answer
    }

    async fn read_account(&self, account: AccountId, deadline: Option<Duration>) -> ReadAnswer {
        let call = |deadline, epoch| Call::Read(ReadCall { account, deadline, epoch });
        let accept = |response| match response {
            Response::Read(done) if done.account.is_none_or(|found| found.id == account) => Some(done),
            _ => None,
        };
        let asked = single::ask(&self.inner, account, deadline, call, accept).await;
        let attempts = asked.attempts;
        match asked.result {
            Some(Ok(done)) => ReadAnswer { account: Ok(done.account), slot: done.slot, attempts },
            Some(Err(status)) => ReadAnswer { account: Err(status), slot: Slot(0), attempts },
            None => ReadAnswer { account: Ok(None), slot: Slot(0), attempts },
        }
    }

    /// Creates accounts; one result each, or why there is none.
    ///
    /// Sent in a session, under one sequence number however often. If a group has lost the session meanwhile, a new
    /// one is registered: an account that an earlier try created then answers `Exists`. An id outside all ranges, or a
    /// reserved one, answers `Moved`.
    pub async fn create_accounts(
        &self,
        accounts: &[NewAccount],
        deadline: Option<Duration>,
    ) -> Vec<Result<CreateResult, Status>> {
        session::create(&self.inner, accounts, self.until(deadline)).await
    }

    /// Settles an id for ever: its outcome, or `Rejected(Fenced)` from now on. `replayed` says that it is known to
    /// have had an outcome before: `Fenced` may be an old one or this one.
    ///
    /// An id under an account that no group owns is answered `Rejected(NoSuchAccount)`: see [`Client::transfer`].
    pub async fn fence(&self, txn: TxnId, deadline: Option<Duration>) -> Answer {
        let begun = self.begin(Asked::Fence(txn), Level::Linearizable);
        let answer = self.fence_id(txn, deadline).await;
        begun.settled(match answer.status {
            Status::Committed => Ok(Outcome::Committed),
            Status::Rejected(reason) => Ok(Outcome::Rejected(reason)),
            status => Err(status),
        });
        answer
    }

    async fn fence_id(&self, txn: TxnId, deadline: Option<Duration>) -> Answer {
        let call = |deadline, _: Epoch| Call::Fence(FenceCall { txn, deadline });
        let accept = |response| match response {
            Response::Settled(done) => done.outcome,
            _ => None,
        };
        let asked = single::ask(&self.inner, txn.first, deadline, call, accept).await;
        let attempts = asked.attempts;
        match asked.result {
            Some(Ok(outcome)) => {
                let replayed = outcome != Outcome::Rejected(Reason::Fenced);
                Answer { status: outcome.into(), replayed, attempts }
            }
            Some(Err(status)) => Answer { status, replayed: false, attempts },
            None => Answer { status: Status::Rejected(Reason::NoSuchAccount), replayed: false, attempts },
        }
    }

    /// The outcome of an id, if it has one. `None` is not final: a transfer under way may still arrive.
    ///
    /// An id under an account that no group owns is `Rejected(NoSuchAccount)`: see [`Client::transfer`].
    ///
    /// # Errors
    /// `Unavailable` or `Unknown`.
    pub async fn lookup(&self, txn: TxnId, deadline: Option<Duration>) -> Result<Option<Outcome>, Status> {
        let call = |deadline, _: Epoch| Call::Lookup(FenceCall { txn, deadline });
        let accept = |response| match response {
            Response::Settled(done) => Some(done.outcome),
            _ => None,
        };
        let asked = single::ask(&self.inner, txn.first, deadline, call, accept).await;
        asked.result.unwrap_or(Ok(Some(Outcome::Rejected(Reason::NoSuchAccount))))
    }

    /// Asks one node for the command line, once, over a connection of its own for such calls. `g0` is the node itself.
    ///
    /// # Errors
    /// If the node does not answer within `timeout`, refuses, or the cluster has no such node.
    pub async fn operator(
        &self,
        node: NodeId,
        group: GroupId,
        call: OperatorCall,
        timeout: Duration,
    ) -> Result<OperatorAnswer, ClientError> {
        let unknown = || ClientError::Protocol(format!("the cluster has no node {node}"));
        let link = self.inner.router.operator_link(node).ok_or_else(unknown)?;
        let request = Request { group, call: Call::Operator(call) };
        let silent = |_| Err(ClientError::Unreachable(format!("{node}: no answer in time")));
        self::timeout(timeout, ask_operator(&link, node, &request)).await.unwrap_or_else(silent)
    }

    fn until(&self, deadline: Option<Duration>) -> Option<Instant> {
        deadline_in(deadline.or(self.inner.deadline))
    }
}

/// Asks the endpoints in turn for the map until one tells it. Nothing if all that answer refuse; why is in `last`.
async fn search(options: &Options, last: &mut ClientError) -> Option<(MapDone, Hello)> {
    let hello = Hello { cluster: options.cluster, ..router::hello() };
    let link = |endpoint: &String| Link::new(endpoint.clone(), hello.clone(), None, Box::new(|_| {}));
    let links: Vec<Link> = options.endpoints.iter().map(link).collect();
    let mut backoff = Backoff::of_requests();
    while !links.is_empty() {
        let mut refused = false;
        for link in &links {
            let asking = timeout(Duration::from_secs(2), router::fetch_map(link, MapCall { epoch: Epoch(0) }));
            let trouble = match asking.await {
                Ok(Ok(found)) => return Some(found),
                Ok(Err(trouble)) => trouble,
                Err(_) => Trouble::Silent(format!("{}: no answer", link.address())),
            };
            let refusal = matches!(trouble, Trouble::Protocol(_));
            // A refusal says more than that another endpoint cannot be reached.
            if refusal || !refused {
                *last = trouble.into();
            }
            refused |= refusal;
        }
        if refused {
            return None;
        }
        sleep(backoff.pause()).await;
    }
    None
}

async fn ask_operator(link: &Link, node: NodeId, request: &Request) -> Result<OperatorAnswer, ClientError> {
    let lost = || ClientError::Unreachable(format!("{node}: the connection was lost"));
    let (pipe, _) = link.pipe(true).await?;
    let answer = match pipe.send(request).await {
        Ok(answer) => answer.await,
        Err(SendError::TooLarge) => return Err(ClientError::Protocol("a request over the limit of a frame".into())),
        Err(SendError::Closed | SendError::Congested) => return Err(lost()),
    };
    match answer.ok_or_else(lost)? {
        Response::Operator(answer) => Ok(answer),
        Response::Refused(refused) => Err(ClientError::Protocol(format!("{node}: refused: {:?}", refused.why))),
        _ => Err(ClientError::Protocol(format!("{node}: another answer than was asked for"))),
    }
}

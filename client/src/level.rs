//! Requests at consistency levels, in a session.
//!
//! A [`Session`] knows how far each group is that it has written to or read from, as a [`Token`]; so it sees its own
//! writes, and never less than it has seen, from whatever replica it reads. A write within one group is answered with
//! the group's position; of one over several groups each group is asked for it. Level `all` is met when every replica
//! of every group that was touched has it.
//!
//! Reads at the levels `session` and `any` go to the replicas of a group in turn: first those that were named as
//! endpoints, if these are not all, then the others, in an order that is drawn. A replica that lags says so, and the next one
//! is asked; what no replica answers for a session is asked of the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use drachma_protocol::ids::{AccountId, GroupId, NodeId, Slot};
use drachma_protocol::ledger::model::{Account, Transfer, TransferResult};
use drachma_protocol::ledger::operations::{Operation, Reply, Transaction};
use drachma_protocol::message::client::{Call, Response, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::level::{Level, PositionCall, PositionDone, WriteCall, WriteResult};
use drachma_protocol::message::token::Token;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;
use drachma_protocol::wire::frame::LIMIT_CLIENT;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::batch::{join_all, results};
use crate::history::{Asked, Ended};
use crate::replicas;
use crate::request::{Heard, Pursuit, within};
use crate::single::{pause, wrong_answer};
use crate::transaction::{ENVELOPE_BYTES, Shares, plain, shares};
use crate::{Answer, Client, Inner, Status, Transacted};

/// What a level does not allow.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LevelError {
    /// A write at level `any` that touches several groups.
    #[error("level `any` is for what one group carries out alone; this is about accounts or keys of several groups")]
    SeveralGroups,
}

/// A token is of another cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this session token is of another cluster")]
pub struct OtherCluster;

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// `Unavailable` or `Unknown`; `Rejected` as [`Client::query`] says.
    Status(Status),
    /// At level `all`: two replicas of this group hold different things at the same version. One of them is broken.
    Differ(GroupId),
}

impl From<Status> for ReadError {
    fn from(status: Status) -> ReadError {
        ReadError::Status(status)
    }
}

/// An answer, and whether the level was met.
#[derive(Clone, Debug)]
pub struct Leveled<T> {
    /// The answer.
    pub answer: T,
    /// At level `all`: every replica has it. Elsewhere false only if a write is final and the session could not be told
    /// how far its groups are: then it may read without it.
    pub level_met: bool,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct LevelRead {
    /// One each; `Done` stands for an account that does not exist.
    pub replies: Vec<Reply>,
    /// The position of each group at which it was read.
    pub slots: BTreeMap<GroupId, Slot>,
    /// At level `any`: how old the state was at most when the answer left its replica, of several groups the oldest.
    /// Nothing if that is not known, and at the other levels.
    pub age: Option<Duration>,
    /// At level `all`: every replica has answered. True elsewhere.
    pub level_met: bool,
}

/// Requests that know of each other. Cheap to clone; clones are the same session.
#[derive(Clone)]
pub struct Session {
    client: Client,
    token: Arc<Mutex<Token>>,
}

/// A write that one group carries out.
struct OneGroup {
    kind: CommandKind,
    body: Bytes,
}

impl Client {
    /// A session that has done nothing yet.
    pub fn session(&self) -> Session {
        let token = Token::new(self.inner.router.cluster());
        Session { client: self.clone(), token: Arc::new(Mutex::new(token)) }
    }

    /// A session that goes on where a token was taken.
    ///
    /// # Errors
    /// If the token is of another cluster.
    pub fn resume(&self, token: Token) -> Result<Session, OtherCluster> {
        if token.cluster() != self.inner.router.cluster() {
            return Err(OtherCluster);
        }
        Ok(Session { client: self.clone(), token: Arc::new(Mutex::new(token)) })
    }
}

impl Session {
    /// What the session knows by now.
    pub fn token(&self) -> Token {
        self.known(|token| token.clone())
    }

    // Nothing that is done under this lock can leave it half done, so a panic elsewhere does not matter.
    fn known<T>(&self, with: impl FnOnce(&mut Token) -> T) -> T {
        with(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn inner(&self) -> &Inner {
        &self.client.inner
    }

    /// As [`Client::transfer`], at a level.
    ///
    /// # Errors
    /// If the level does not allow it.
    pub async fn transfer(
        &self,
        transfer: Transfer,
        level: Level,
        deadline: Option<Duration>,
    ) -> Result<Leveled<Answer>, LevelError> {
        let begun = self.client.begin(Asked::Transfer(&transfer), level);
        let done = self.send_transfer(transfer, level, deadline).await;
        match &done {
            Ok(done) => begun.transferred(&done.answer),
            Err(_) => begun.settled(Err(Status::Unknown)), // Nothing was sent; that is no outcome.
        }
        done
    }

    async fn send_transfer(
        &self,
        transfer: Transfer,
        level: Level,
        deadline: Option<Duration>,
    ) -> Result<Leveled<Answer>, LevelError> {
        let until = self.client.until(deadline);
        let owners = || {
            let map = &self.inner().router.map().0.map;
            let debit = map.owner_of(transfer.debit)?;
            Some((debit, BTreeSet::from_iter([Some(debit), map.owner_of(transfer.credit)].into_iter().flatten())))
        };
        let write = OneGroup { kind: CommandKind::Transfers, body: Bytes::from(to_vec(&vec![transfer])) };
        let ended = self.write(owners, &write, level, until).await?;
        let Some((done, level_met)) = ended else {
            let answer = self.client.transfer_until(transfer, until).await;
            let level_met = self.see_after(answer.status, owners().map(|(_, all)| all), level, until).await;
            return Ok(Leveled { answer, level_met });
        };
        let Transacted { status, replayed, attempts, .. } = done;
        Ok(Leveled { answer: Answer { status, replayed, attempts }, level_met })
    }

    /// As [`Client::transact`], at a level.
    ///
    /// # Errors
    /// If the level does not allow it.
    pub async fn transact(
        &self,
        transaction: &Transaction,
        level: Level,
        deadline: Option<Duration>,
    ) -> Result<Leveled<Transacted>, LevelError> {
        let begun = self.client.begin(Asked::Transact(transaction), level);
        let done = self.send_transaction(transaction, level, deadline).await;
        match &done {
            Ok(done) => begun.transacted(&done.answer),
            Err(_) => begun.settled(Err(Status::Unknown)), // Nothing was sent; that is no outcome.
        }
        done
    }

    async fn send_transaction(
        &self,
        transaction: &Transaction,
        level: Level,
        deadline: Option<Duration>,
    ) -> Result<Leveled<Transacted>, LevelError> {
        let until = self.client.until(deadline);
        let owners = || {
            let map = &self.inner().router.map().0.map;
            let first = map.owner_of(transaction.txn(map).first)?;
            Some((first, BTreeSet::from_iter(transaction.participants(map))))
        };
        let body = Bytes::from(to_vec(transaction));
        let write = OneGroup { kind: CommandKind::Transaction, body };
        let fits = write.body.len() <= LIMIT_CLIENT - ENVELOPE_BYTES;
        let ended = if fits { self.write(owners, &write, level, until).await? } else { None };
        let Some((done, level_met)) = ended else {
            let answer = self.client.transact_until(transaction, until).await;
            let level_met = self.see_after(answer.status, owners().map(|(_, all)| all), level, until).await;
            return Ok(Leveled { answer, level_met });
        };
        let replies = done.replies.or_else(|| plain(transaction, done.status));
        Ok(Leveled { answer: Transacted { replies, ..done }, level_met })
    }

    /// Sends a write to the one group that carries it out; nothing if there are several, or none.
    async fn write(
        &self,
        owners: impl Fn() -> Option<(GroupId, BTreeSet<GroupId>)>,
        write: &OneGroup,
        level: Level,
        until: Option<Instant>,
    ) -> Result<Option<(Transacted, bool)>, LevelError> {
        let mut moving = Backoff::of_requests();
        let mut attempts = 0;
        loop {
            let seen = self.inner().router.map().1;
            let Some((group, all)) = owners() else { return Ok(None) };
            if all.len() > 1 {
                return if level == Level::Any { Err(LevelError::SeveralGroups) } else { Ok(None) };
            }
            let mut pursuit = Pursuit::new(&self.inner().router, group, BTreeSet::from([group]), until);
            let ended = self.write_in(&mut pursuit, group, write, level).await;
            attempts += pursuit.attempts();
            if let Some((done, level_met)) = ended {
                return Ok(Some((Transacted { attempts, ..done }, level_met)));
            }
            within(until, self.inner().router.refresh(seen, pursuit.last())).await;
            pause(&mut moving, until).await;
        }
    }

    /// Pursues a write in one group until it is answered; nothing if it has moved.
    async fn write_in(
        &self,
        pursuit: &mut Pursuit<'_>,
        group: GroupId,
        write: &OneGroup,
        level: Level,
    ) -> Option<(Transacted, bool)> {
        let inner = self.inner();
        let sequence = inner.sequence.fetch_add(1, Ordering::Relaxed);
        let epoch = inner.router.map().0.map.epoch;
        let call = |deadline| {
            let (kind, body) = (write.kind, write.body.clone());
            let command = ClientCommand { kind, session: None, sequence, deadline, epoch, count: 1, body };
            Call::Write(WriteCall { level, command })
        };
        let mut unavailable = false;
        loop {
            match pursuit.answer(&call).await {
                Heard::Answer(Response::Written(done)) => {
                    let (result, replayed, replies) = match done.result {
                        WriteResult::Accepted(_) if level == Level::Any => {
                            return Some((Transacted::without(Status::Accepted), true));
                        }
                        WriteResult::Transaction(told) => (told.result, told.replayed, told.replies),
                        WriteResult::Transfers(told) => match results(1, &told).as_deref() {
                            Some([(result, replayed)]) => (*result, *replayed, None),
                            _ => (TransferResult::Unknown, false, None),
                        },
                        WriteResult::Accepted(_) => (TransferResult::Unknown, false, None),
                    };
                    match result {
                        TransferResult::Done(outcome) => {
                            self.known(|token| token.see(group, done.slot));
                            let told = Transacted { status: outcome.into(), replayed, replies, attempts: 0 };
                            return Some((told, done.level_met || level != Level::All));
                        }
                        TransferResult::Moved => return None,
                        result => {
                            unavailable = result == TransferResult::Unavailable;
                            pursuit.again(false);
                        }
                    }
                }
                Heard::Answer(_) => wrong_answer(pursuit, group),
                Heard::Refused(Why::Moved) => return None,
                Heard::Refused(why @ (Why::Malformed | Why::Level)) => {
                    tracing::error!(%group, ?why, "a node refuses a write");
                    return Some((Transacted::without(Status::Unknown), true));
                }
                Heard::Refused(_) => pursuit.again(false),
                Heard::Over => {
                    let status = if unavailable { Status::Unavailable } else { pursuit.status() };
                    return Some((Transacted::without(status), true));
                }
            }
        }
    }

    /// After the answer to a write over these groups: asks them how far they are. Whether the level is met.
    async fn see_after(
        &self,
        status: Status,
        groups: Option<BTreeSet<GroupId>>,
        level: Level,
        until: Option<Instant>,
    ) -> bool {
        match groups {
            Some(groups) if status.is_final() => self.see(&groups, level == Level::All, until).await,
            _ => true, // It is not known whether there is anything to see.
        }
    }

    /// Asks groups how far they are; whether all have told, and every replica is as far, if that is asked.
    async fn see(&self, groups: &BTreeSet<GroupId>, everywhere: bool, until: Option<Instant>) -> bool {
        let asked = groups.iter().map(|group| async move { (*group, self.position(*group, everywhere, until).await) });
        let mut met = true;
        for (group, told) in join_all(asked).await {
            met &= told.is_ok_and(|told| told.everywhere || !everywhere);
            if let Ok(told) = told {
                self.known(|token| token.see(group, told.slot));
            }
        }
        met
    }

    /// How far a group is: everything that was answered before is before that.
    async fn position(&self, group: GroupId, everywhere: bool, until: Option<Instant>) -> Result<PositionDone, Status> {
        let epoch = self.inner().router.map().0.map.epoch;
        let call = |deadline: Span| Call::Position(PositionCall { everywhere, deadline, epoch });
        let mut pursuit = Pursuit::new(&self.inner().router, group, BTreeSet::from([group]), until);
        loop {
            match pursuit.answer(&call).await {
                Heard::Answer(Response::Position(done)) => return Ok(done),
                Heard::Answer(_) => wrong_answer(&mut pursuit, group),
                Heard::Refused(Why::Malformed) => return Err(Status::Unknown),
                Heard::Refused(_) => pursuit.again(false),
                Heard::Over => return Err(pursuit.status()),
            }
        }
    }

    /// Reads an account at a level. `Ok` of nothing: there is no such account.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn read(
        &self,
        account: AccountId,
        level: Level,
        deadline: Option<Duration>,
    ) -> Result<(Option<Account>, LevelRead), ReadError> {
        let read = self.query(&[Operation::Read(account)], level, deadline).await?;
        let found = match read.replies.first() {
            Some(Reply::Account(found)) => Some(*found),
            _ => None,
        };
        Ok((found, read))
    }

    /// Reads keys and accounts: `Get`, `Scan` and `Read` operations, up to the limit of a transaction's. At the levels
    /// `linearizable` and `all` as one consistent snapshot; at `session` and `any` each group by itself.
    ///
    /// # Errors
    /// If nothing was read in time, or replicas differ. What lacks at level `all` is in [`LevelRead::level_met`].
    pub async fn query(
        &self,
        operations: &[Operation],
        level: Level,
        deadline: Option<Duration>,
    ) -> Result<LevelRead, ReadError> {
        let begun = self.client.begin(Asked::Query(operations), level);
        let until = self.client.until(deadline);
        let read = match level {
            Level::Linearizable => self.query_leaders(operations, until).await,
            Level::All => self.query_everywhere(operations, until).await,
            Level::Session | Level::Any => self.query_replicas(operations, level == Level::Session, until).await,
        };
        if let Some(begun) = begun {
            begun.read(match &read {
                Ok(read) => Ok(&read.replies),
                Err(ReadError::Status(status)) => Err(*status),
                Err(ReadError::Differ(_)) => Err(Status::Unknown),
            });
        }
        read
    }

    fn shares(&self, operations: &[Operation], replies: &mut [Option<Reply>]) -> (Shares, u64) {
        let (map, seen) = self.inner().router.map();
        (shares(&map.map, operations, replies), seen)
    }

    /// Linearizably; the session sees what was read.
    async fn query_leaders(&self, operations: &[Operation], until: Option<Instant>) -> Result<LevelRead, ReadError> {
        let replies = crate::transaction::query(self.inner(), operations, until).await?;
        let groups: BTreeSet<GroupId> =
            self.shares(operations, &mut vec![None; operations.len()]).0.into_keys().collect();
        if !self.see(&groups, false, until).await {
            return Err(Status::Unknown.into());
        }
        let slots = groups.iter().map(|group| (*group, self.known(|token| token.slot(*group)))).collect();
        Ok(LevelRead { replies, slots, age: None, level_met: true })
    }

    /// Linearizably, then from every replica: what has the same version must be the same.
    async fn query_everywhere(&self, operations: &[Operation], until: Option<Instant>) -> Result<LevelRead, ReadError> {
        let mut read = self.query_leaders(operations, until).await?;
        let (shares, _) = self.shares(operations, &mut vec![None; operations.len()]);
        let asked = shares.iter().map(|(group, (_, share))| {
            let after = read.slots.get(group).copied().unwrap_or_default();
            async move { (*group, replicas::every(self.inner(), *group, share, after, until).await) }
        });
        for (group, answers) in join_all(asked).await {
            read.level_met &= answers.iter().all(Option::is_some);
            if replicas::differ(answers.iter().flatten()) {
                return Err(ReadError::Differ(group));
            }
        }
        Ok(read)
    }

    /// From one replica of each group.
    async fn query_replicas(
        &self,
        operations: &[Operation],
        settled: bool,
        until: Option<Instant>,
    ) -> Result<LevelRead, ReadError> {
        let mut moving = Backoff::of_requests();
        loop {
            let mut replies = vec![None; operations.len()];
            let (shares, seen) = self.shares(operations, &mut replies);
            let asked = shares.iter().map(|(group, (_, share))| self.query_one(*group, share, settled, until));
            let told = join_all(asked).await.into_iter().collect::<Result<Option<Vec<_>>, Status>>()?;
            let Some(told) = told else {
                within(until, self.inner().router.refresh(seen, None)).await;
                pause(&mut moving, until).await;
                if until.is_some_and(|until| until <= Instant::now()) {
                    return Err(Status::Unknown.into());
                }
                continue;
            };
            let mut read =
                LevelRead { replies: Vec::new(), slots: BTreeMap::new(), age: Some(Duration::ZERO), level_met: true };
            for ((group, (places, _)), told) in shares.iter().zip(told) {
                self.known(|token| token.see(*group, told.slot));
                read.slots.insert(*group, told.slot);
                read.age = read.age.zip(told.age).map(|(oldest, age)| oldest.max(age));
                for (place, reply) in places.iter().zip(told.replies) {
                    replies[*place] = Some(reply);
                }
            }
            if settled {
                read.age = None;
            }
            read.replies = replies.into_iter().flatten().collect();
            return Ok(read);
        }
    }

    /// One group's share from one of its replicas, at last from its leader; nothing if it has moved.
    async fn query_one(
        &self,
        group: GroupId,
        share: &[Operation],
        settled: bool,
        until: Option<Instant>,
    ) -> Result<Option<replicas::Told>, Status> {
        let after = if settled { self.known(|token| token.slot(group)) } else { Slot(0) };
        match replicas::any(self.inner(), group, share, (after, settled), until).await? {
            replicas::Found::Told(told) => Ok(Some(told)),
            replicas::Found::Moved => Ok(None),
            replicas::Found::Nothing => {
                let replies = crate::transaction::query(self.inner(), share, until).await?;
                let slot = self.position(group, false, until).await?.slot;
                Ok(Some(replicas::Told { replies, slot, age: None }))
            }
        }
    }
}

/// The nodes of a group, in the order in which a read asks them.
pub(crate) fn in_turn(inner: &Inner, group: GroupId) -> Vec<NodeId> {
    let mut nodes = inner.router.nodes(group);
    let turn = usize::try_from(crate::backoff::random() % nodes.len().max(1) as u64).unwrap_or(0);
    nodes.rotate_left(turn);
    nodes.sort_by_key(|node| !inner.near.contains(node));
    nodes
}

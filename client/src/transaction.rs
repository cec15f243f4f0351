//! Transactions, and reads of several things as one snapshot.
//!
//! A transaction goes to the group that owns its first account or key: if that group owns all of it, into its log, else
//! to its coordinator. It is sent again under its id until it is final.
//!
//! **Reads over several groups** need no transaction while nothing changes. Each group is read twice: first what its
//! leader has applied, then, when all have answered, linearizably. What has the same version both times held at every
//! moment between the two, and so everything that was read held at one of them, together. What changed meanwhile is read
//! again; what is in doubt, or does not come to rest, is read in a transaction, under locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use drachma_protocol::ids::{Epoch, GroupId, TransferId};
use drachma_protocol::ledger::model::{Outcome, Reason, TransferResult};
use drachma_protocol::ledger::operations::{List, Listed, Operation, Reply, Transaction};
use drachma_protocol::message::client::{Call, Found, QueryCall, QueryDone, Response, TransactionDone, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::wire::codec::to_vec;
use drachma_protocol::wire::frame::LIMIT_CLIENT;
use tokio::time::Instant;

use crate::backoff::{Backoff, random};
use crate::batch::join_all;
use crate::request::{Heard, Pursuit, within};
use crate::single::{pause, wrong_answer};
use crate::{Inner, Status, Transacted};

/// What the head of a request adds to its body, at most.
pub(crate) const ENVELOPE_BYTES: usize = 1024;
/// How often a read over several groups is tried before it takes locks.
const TRIES: u32 = 3;

/// Carries out a transaction.
pub(crate) async fn transact(inner: &Inner, transaction: &Transaction, deadline: Option<Instant>) -> Transacted {
    let body = Bytes::from(to_vec(transaction));
    if body.len() > LIMIT_CLIENT - ENVELOPE_BYTES {
        return Transacted::unsent(Reason::TooLarge);
    }
    let sequence = inner.sequence.fetch_add(1, Ordering::Relaxed);
    let mut moving = Backoff::of_requests();
    let mut attempts = 0;
    loop {
        let (map, seen) = inner.router.map();
        let txn = transaction.txn(&map.map);
        let Some(group) = map.map.owner_of(txn.first) else { return Transacted::unsent(Reason::NoSuchAccount) };
        let needed: BTreeSet<GroupId> = transaction.participants(&map.map).into_iter().collect();
        let kind = if needed.len() > 1 { CommandKind::TransactOver } else { CommandKind::Transaction };
        let (session, epoch, count) = (None, map.map.epoch, 1);
        let call = |deadline| {
            Call::Command(ClientCommand { kind, session, sequence, deadline, epoch, count, body: body.clone() })
        };
        let mut pursuit = Pursuit::new(&inner.router, group, needed, deadline);
        let ended = settle(&mut pursuit, group, &call).await;
        attempts += pursuit.attempts();
        match ended {
            Some(transacted) => {
                let replies = transacted.replies.or_else(|| plain(transaction, transacted.status));
                return Transacted { attempts, replies, ..transacted };
            }
            None => {
                within(deadline, inner.router.refresh(seen, pursuit.last())).await;
                pause(&mut moving, deadline).await;
            }
        }
    }
}

/// What a commit has yielded that says nothing: it is not kept anywhere, so a repeated request is answered without.
pub(crate) fn plain(transaction: &Transaction, status: Status) -> Option<Vec<Reply>> {
    let is_plain = |operation: &Operation| match operation {
        Operation::Transfer(_) | Operation::Put(_) | Operation::Delete(_) => true,
        Operation::Pend(_) | Operation::Post(_) | Operation::Void(_) => true,
        Operation::Close(_) | Operation::Open(_) => true,
        Operation::Append(_) | Operation::Add(_) | Operation::Swap(_) => false,
        Operation::Get(_) | Operation::Scan(_) | Operation::Read(_) | Operation::List(_) => false,
    };
    let all = status == Status::Committed && transaction.operations.iter().all(is_plain);
    all.then(|| vec![Reply::Done(Nothing {}); transaction.operations.len()])
}

/// Pursues a transaction in one group until it is final; nothing if it has moved.
async fn settle(
    pursuit: &mut Pursuit<'_>,
    group: GroupId,
    call: &(impl Fn(drachma_protocol::time::Span) -> Call + Sync),
) -> Option<Transacted> {
    let mut unavailable = false;
    loop {
        match pursuit.answer(call).await {
            Heard::Answer(Response::Transaction(done)) => match done.result {
                TransferResult::Done(outcome) => return Some(Transacted::of(outcome, done)),
                TransferResult::Moved => return None,
                result => {
                    unavailable = result == TransferResult::Unavailable;
                    pursuit.again(false);
                }
            },
            Heard::Answer(_) => wrong_answer(pursuit, group),
            Heard::Refused(Why::Moved) => return None,
            Heard::Refused(Why::Malformed) => {
                tracing::error!(%group, "a node finds a transaction malformed");
                return Some(Transacted::without(Status::Unknown));
            }
            Heard::Refused(_) => pursuit.again(false),
            Heard::Over => {
                let status = if unavailable { Status::Unavailable } else { pursuit.status() };
                return Some(Transacted::without(status));
            }
        }
    }
}

impl Transacted {
    fn of(outcome: Outcome, done: TransactionDone) -> Transacted {
        Transacted { status: outcome.into(), replayed: done.replayed, replies: done.replies, attempts: 0 }
    }

    pub(crate) fn without(status: Status) -> Transacted {
        Transacted { status, replayed: false, replies: None, attempts: 0 }
    }

    fn unsent(reason: Reason) -> Transacted {
        Transacted::without(Status::Rejected(reason))
    }
}

/// What is to be read in one group: the places of the operations, and the operations.
pub(crate) type Shares = BTreeMap<GroupId, (Vec<usize>, Vec<Operation>)>;

/// Splits by owner. What no group owns is answered here: such an account does not exist.
pub(crate) fn shares(map: &ShardMap, operations: &[Operation], replies: &mut [Option<Reply>]) -> Shares {
    let mut shares = Shares::new();
    for (index, operation) in operations.iter().enumerate() {
        let owner = operation.subjects()[0].and_then(|subject| subject.owner(map));
        match owner {
            Some(group) => {
                let share = shares.entry(group).or_default();
                share.0.push(index);
                share.1.push(operation.clone());
            }
            None => replies[index] = Some(Reply::Done(Nothing {})),
        }
    }
    shares
}

/// Reads all of `operations` as one snapshot; one reply each. `Done` stands for an account that does not exist.
pub(crate) async fn query(
    inner: &Inner,
    operations: &[Operation],
    deadline: Option<Instant>,
) -> Result<Vec<Reply>, Status> {
    let (map, _) = inner.router.map();
    let mut replies = vec![None; operations.len()];
    let shares = shares(&map.map, operations, &mut replies);
    let epoch = map.map.epoch;
    let read = async |confirmed: bool| -> Result<Option<Vec<Vec<Found>>>, Status> {
        let asked = shares.iter().map(|(group, (_, share))| ask(inner, *group, share, (confirmed, epoch), deadline));
        join_all(asked).await.into_iter().collect()
    };
    let mut before = if shares.len() > 1 { read(false).await? } else { None };
    for _ in 0..TRIES {
        let Some(found) = read(true).await? else { break };
        if shares.len() > 1 && before.as_ref() != Some(&found) {
            before = Some(found);
            continue;
        }
        for ((places, _), found) in shares.values().zip(found) {
            for (place, found) in places.iter().zip(found) {
                replies[*place] = Some(found.reply);
            }
        }
        return Ok(replies.into_iter().flatten().collect());
    }
    locked(inner, operations, deadline).await
}

/// One group's share; nothing if something of it is in doubt, or has moved.
async fn ask(
    inner: &Inner,
    group: GroupId,
    share: &[Operation],
    (confirmed, epoch): (bool, Epoch),
    deadline: Option<Instant>,
) -> Result<Option<Vec<Found>>, Status> {
    let mut pursuit = Pursuit::new(&inner.router, group, BTreeSet::from([group]), deadline);
    let call = |deadline| Call::Query(QueryCall { operations: share.to_vec(), confirmed, deadline, epoch });
    loop {
        match pursuit.answer(&call).await {
            Heard::Answer(Response::Queried(done)) => match done.found {
                Some(found) if found.len() != share.len() => wrong_answer(&mut pursuit, group),
                found => return Ok(found),
            },
            Heard::Answer(_) => wrong_answer(&mut pursuit, group),
            Heard::Refused(Why::Moved) => return Ok(None),
            Heard::Refused(Why::Malformed) => return Err(Status::Unknown),
            Heard::Refused(_) => pursuit.again(false),
            Heard::Over => return Err(pursuit.status()),
        }
    }
}

/// A page of a list of one group.
pub(crate) async fn list(
    inner: &Inner,
    group: GroupId,
    list: List,
    deadline: Option<Instant>,
) -> Result<Listed, Status> {
    let epoch = inner.router.map().0.map.epoch;
    let mut pursuit = Pursuit::new(&inner.router, group, BTreeSet::from([group]), deadline);
    let operations = vec![Operation::List(list)];
    let call = |deadline| Call::Query(QueryCall { operations: operations.clone(), confirmed: true, deadline, epoch });
    loop {
        match pursuit.answer(&call).await {
            Heard::Answer(Response::Queried(QueryDone { found: None, .. })) => pursuit.again(false),
            Heard::Answer(Response::Queried(QueryDone { found: Some(found), .. })) => {
                match <[Found; 1]>::try_from(found) {
                    Ok([Found { reply: Reply::Listed(listed), .. }]) => return Ok(listed),
                    _ => wrong_answer(&mut pursuit, group),
                }
            }
            Heard::Answer(_) => wrong_answer(&mut pursuit, group),
            Heard::Refused(Why::Moved | Why::Malformed) => return Err(Status::Unknown),
            Heard::Refused(_) => pursuit.again(false),
            Heard::Over => return Err(pursuit.status()),
        }
    }
}

/// Reads in a transaction. Accounts that do not exist are found out one by one: each is a rejection of the rest.
async fn locked(inner: &Inner, operations: &[Operation], deadline: Option<Instant>) -> Result<Vec<Reply>, Status> {
    let id = TransferId(u128::from(random()) << 64 | u128::from(random()));
    let transaction = Transaction { id, conditions: Vec::new(), operations: operations.to_vec() };
    let done = transact(inner, &transaction, deadline).await;
    match (done.status, done.replies) {
        (Status::Committed, Some(replies)) => Ok(replies),
        (Status::Committed, None) => Err(Status::Unknown),
        (status, _) => Err(status),
    }
}

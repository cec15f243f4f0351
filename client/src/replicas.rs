//! Reads from replicas, whoever leads.

use std::collections::BTreeMap;
use std::time::Duration;

use drachma_protocol::ids::{GroupId, NodeId, Slot};
use drachma_protocol::ledger::model::Reason;
use drachma_protocol::ledger::operations::{Operation, Reply};
use drachma_protocol::message::client::{Call, Request, Response, Why};
use drachma_protocol::message::level::{ReplicaReadCall, ReplicaReadDone};
use drachma_protocol::time::Span;
use tokio::time::{Instant, timeout_at};

use crate::backoff::Backoff;
use crate::batch::join_all;
use crate::level::in_turn;
use crate::single::pause;
use crate::{Inner, Status};

/// A replica that has not answered for so long is passed over.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a replica has told.
pub(crate) struct Told {
    pub(crate) replies: Vec<Reply>,
    pub(crate) slot: Slot,
    pub(crate) age: Option<Duration>,
}

/// What came of asking the replicas of a group.
pub(crate) enum Found {
    /// One has answered.
    Told(Told),
    /// The group owns something else by now.
    Moved,
    /// None is far enough.
    Nothing,
}

/// Asks one replica after the other until one answers. For a session (`settled`) each is asked once; else again and
/// again until the deadline: who answers without conditions is there or not.
pub(crate) async fn any(
    inner: &Inner,
    group: GroupId,
    operations: &[Operation],
    (after, settled): (Slot, bool),
    until: Option<Instant>,
) -> Result<Found, Status> {
    let mut backoff = Backoff::of_requests();
    loop {
        for node in in_turn(inner, group) {
            if until.is_some_and(|until| until <= Instant::now()) {
                return Err(crate::request::status(&inner.router, [&group]));
            }
            match ask(inner, (group, node), operations, (after, settled), until).await {
                Some(Response::ReplicaRead(done)) if done.slot >= after => {
                    return told(done, operations.len()).map(Found::Told);
                }
                Some(Response::Refused(refused)) if refused.why == Why::Moved => return Ok(Found::Moved),
                Some(Response::Refused(refused)) if refused.why == Why::Malformed => return Err(Status::Unknown),
                Some(Response::Refused(refused)) => {
                    tracing::debug!(%group, %node, why = ?refused.why, "the next replica is asked");
                }
                Some(_) => tracing::error!(%group, %node, "another answer than was asked for"),
                None => {}
            }
        }
        if settled {
            return Ok(Found::Nothing);
        }
        pause(&mut backoff, until).await;
    }
}

fn told(done: ReplicaReadDone, count: usize) -> Result<Told, Status> {
    let ReplicaReadDone { slot, age, found } = done;
    let found = found.ok_or(Status::Rejected(Reason::TooLarge))?;
    if found.len() != count {
        return Err(Status::Unknown);
    }
    let age = age.map(|age| Duration::from_micros(age.0));
    Ok(Told { replies: found.into_iter().map(|found| found.reply).collect(), slot, age })
}

/// The answer of every replica of a group; nothing of those that are not far enough in time.
pub(crate) async fn every(
    inner: &Inner,
    group: GroupId,
    operations: &[Operation],
    after: Slot,
    until: Option<Instant>,
) -> Vec<Option<ReplicaReadDone>> {
    let nodes = inner.router.nodes(group);
    join_all(nodes.into_iter().map(|node| one(inner, (group, node), operations, after, until))).await
}

async fn one(
    inner: &Inner,
    at: (GroupId, NodeId),
    operations: &[Operation],
    after: Slot,
    until: Option<Instant>,
) -> Option<ReplicaReadDone> {
    let mut backoff = Backoff::of_requests();
    loop {
        match ask(inner, at, operations, (after, true), until).await {
            Some(Response::ReplicaRead(done)) if done.slot >= after => return Some(done),
            Some(Response::Refused(refused)) if matches!(refused.why, Why::Moved | Why::Malformed) => return None,
            _ if until.is_some_and(|until| until <= Instant::now()) => return None,
            _ => pause(&mut backoff, until).await,
        }
    }
}

/// Whether two answers hold different things at the same version.
pub(crate) fn differ<'a>(answers: impl Iterator<Item = &'a ReplicaReadDone>) -> bool {
    let mut known: BTreeMap<(usize, Slot), &Reply> = BTreeMap::new();
    let found = answers.flat_map(|done| done.found.iter().flatten().enumerate());
    found.into_iter().any(|(place, found)| *known.entry((place, found.version)).or_insert(&found.reply) != &found.reply)
}

/// Asks one replica once; nothing if it does not answer.
async fn ask(
    inner: &Inner,
    (group, node): (GroupId, NodeId),
    operations: &[Operation],
    (after, settled): (Slot, bool),
    until: Option<Instant>,
) -> Option<Response> {
    let link = inner.router.link(node)?;
    let now = Instant::now();
    let patience = until.map_or(now + PATIENCE, |until| until.min(now + PATIENCE));
    let deadline = Span(u64::try_from((patience - now).as_micros()).unwrap_or(u64::MAX));
    let epoch = inner.router.map().0.map.epoch;
    let call = ReplicaReadCall { operations: operations.to_vec(), after, settled, deadline, epoch };
    let request = Request { group, call: Call::ReplicaRead(call) };
    let asking = async {
        let (pipe, _) = link.pipe(false).await.ok()?;
        pipe.send(&request).await.ok()?.await
    };
    let answer = timeout_at(patience, asking).await.ok().flatten();
    if answer.is_none() {
        link.poke(); // Whether it can be reached is then known.
    }
    answer
}

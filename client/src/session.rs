//! Sessions, and the commands that need one: the creation of accounts.
//!
//! A session is registered in a group when the first command there needs it. A command keeps its session and sequence
//! number over all its tries. A group that does not know the session (any more) has not executed the command under it,
//! but it may have executed an earlier try; registering again and sending again is right all the same, because
//! creating an account is idempotent by its id: what was created by an earlier try answers `Exists`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use drachma_protocol::ids::{Epoch, GroupId, NodeId, Session, SessionId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, CreateResult, NewAccount};
use drachma_protocol::message::client::{Call, Response, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::wire::codec::{Encode, encode_array_len, to_vec};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::backoff::{Backoff, random};
use crate::batch::join_all;
use crate::request::{Heard, Pursuit, within};
use crate::single::{pause, wrong_answer};
use crate::{Inner, Status};

/// The commands of a session that may be in flight.
const WINDOW: usize = 1024;

type Cell = Arc<tokio::sync::Mutex<Option<Session>>>;

/// The sessions of this client: one id, registered in each group that needs it.
pub(crate) struct Sessions {
    id: SessionId,
    next: AtomicU64,
    // The lock of a cell is held while the session is registered, so that it is registered once.
    groups: Mutex<BTreeMap<GroupId, Cell>>,
    window: Semaphore,
}

impl Sessions {
    /// A new identity, registered nowhere.
    pub(crate) fn new() -> Sessions {
        let id = SessionId(u128::from(random()) << 64 | u128::from(random()));
        Sessions { id, next: AtomicU64::new(1), groups: Mutex::default(), window: Semaphore::new(WINDOW) }
    }

    fn sequence(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn cell(&self, group: GroupId) -> Cell {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(groups.entry(group).or_default())
    }

    /// The session in `group`, registered now if need be: if there is none yet, or it is the one that the group has
    /// `lost`.
    async fn in_group(
        &self,
        inner: &Inner,
        group: GroupId,
        lost: Option<Session>,
        deadline: Option<Instant>,
    ) -> Result<Session, Status> {
        let cell = self.cell(group);
        let over = || crate::request::status(&inner.router, [&group]);
        let mut session = within(deadline, cell.lock()).await.ok_or_else(over)?;
        if let Some(session) = *session
            && Some(session) != lost
        {
            return Ok(session);
        }
        let registered = self.register(inner, group, deadline).await?;
        Ok(*session.insert(registered))
    }

    async fn register(&self, inner: &Inner, group: GroupId, deadline: Option<Instant>) -> Result<Session, Status> {
        let body = Bytes::from(to_vec(&self.id));
        let epoch = inner.router.map().0.map.epoch;
        let call = |deadline| {
            let body = body.clone();
            let kind = CommandKind::Register;
            Call::Command(ClientCommand { kind, session: None, sequence: 0, deadline, epoch, count: 1, body })
        };
        let mut pursuit = Pursuit::new(&inner.router, group, BTreeSet::from([group]), deadline);
        loop {
            match pursuit.answer(&call).await {
                Heard::Answer(Response::Registered(session)) if session.id == self.id => return Ok(session),
                Heard::Answer(_) => wrong_answer(&mut pursuit, group),
                Heard::Refused(Why::Malformed) => return Err(Status::Unknown),
                Heard::Refused(_) => pursuit.again(false),
                Heard::Over => return Err(pursuit.status()),
            }
        }
    }
}

/// The result for one account.
pub(crate) type Created = Result<CreateResult, Status>;

/// New accounts that go out as one command.
struct Chunk {
    group: GroupId,
    epoch: Epoch,
    items: Vec<(usize, NewAccount)>,
}

/// What became of a chunk.
struct Report {
    results: Vec<(usize, Created)>,
    // Not the group's own, or nobody's, it answers.
    moved: Vec<(usize, NewAccount)>,
    // The group refused the whole command, which is no answer.
    refused: Vec<(usize, NewAccount)>,
    node: Option<NodeId>,
}

/// Creates all of `accounts`; one result each, in their order.
pub(crate) async fn create(inner: &Inner, accounts: &[NewAccount], deadline: Option<Instant>) -> Vec<Created> {
    let mut results = vec![Ok(CreateResult::Moved); accounts.len()];
    let mut open: Vec<(usize, NewAccount)> = accounts.iter().copied().enumerate().collect();
    let mut moving = Backoff::of_requests();
    loop {
        let (map, seen) = inner.router.map();
        let chunks = split(&map.map, open);
        let reports = join_all(chunks.into_iter().map(|chunk| carry_out(inner, chunk, deadline))).await;
        open = Vec::new();
        let (mut moved, mut node) = (Vec::new(), None);
        for report in reports {
            for (index, result) in report.results {
                results[index] = result;
            }
            moved.extend(report.moved);
            open.extend(report.refused);
            node = node.or(report.node);
        }
        if moved.is_empty() && open.is_empty() {
            return results;
        }
        within(deadline, inner.router.refresh(seen, node)).await;
        // With the same map they have not moved: they are ids that nobody may create. The results say so already.
        if inner.router.map().0.map.epoch != map.map.epoch {
            open.append(&mut moved);
        }
        if open.is_empty() {
            return results;
        }
        pause(&mut moving, deadline).await;
    }
}

/// Splits into commands. What lies outside all ranges belongs to nobody and stays `Moved`.
fn split(map: &drachma_protocol::placement::map::ShardMap, items: Vec<(usize, NewAccount)>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut filling: BTreeMap<GroupId, usize> = BTreeMap::new();
    for item in items {
        let Some(group) = map.owner_of(item.1.id) else { continue };
        let place = filling.entry(group).or_insert(usize::MAX);
        if chunks.get(*place).is_none_or(|chunk| chunk.items.len() == BATCH_LIMIT) {
            *place = chunks.len();
            chunks.push(Chunk { group, epoch: map.epoch, items: Vec::new() });
        }
        chunks[*place].items.push(item);
    }
    chunks
}

/// Sends a chunk until it is answered, or the deadline passes.
async fn carry_out(inner: &Inner, chunk: Chunk, deadline: Option<Instant>) -> Report {
    let Chunk { group, epoch, items } = chunk;
    let mut body = Vec::with_capacity(8 + items.len() * 16);
    encode_array_len(&mut body, items.len());
    items.iter().for_each(|(_, account)| account.encode(&mut body));
    let (body, count) = (Bytes::from(body), u32::try_from(items.len()).unwrap_or(u32::MAX));
    let all = |result: Created, node| Report {
        results: items.iter().map(|(index, _)| (*index, result)).collect(),
        moved: Vec::new(),
        refused: Vec::new(),
        node,
    };
    let Some(_permit) = within(deadline, inner.sessions.window.acquire()).await else {
        return all(Err(Status::Unknown), None);
    };
    let mut lost = None;
    let mut sequence = inner.sessions.sequence();
    let mut pursuit = Pursuit::new(&inner.router, group, BTreeSet::from([group]), deadline);
    loop {
        let session = match inner.sessions.in_group(inner, group, lost, deadline).await {
            Ok(session) => session,
            Err(status) => return all(Err(status), None),
        };
        let call = |deadline| {
            let (kind, session, body) = (CommandKind::CreateAccounts, Some(session), body.clone());
            Call::Command(ClientCommand { kind, session, sequence, deadline, epoch, count, body })
        };
        match pursuit.answer(&call).await {
            Heard::Answer(Response::Created(done)) if done.results.len() == items.len() => {
                return report(&items, &done.results, pursuit.last());
            }
            Heard::Answer(_) => wrong_answer(&mut pursuit, group),
            Heard::Refused(Why::Moved) => {
                return Report { results: Vec::new(), moved: Vec::new(), refused: items, node: pursuit.last() };
            }
            Heard::Refused(Why::UnknownSession) => {
                lost = Some(session);
                pursuit.again(false);
            }
            Heard::Refused(Why::SessionWindow) => {
                // Later commands have pushed this one out of the window: it needs a new number.
                sequence = inner.sessions.sequence();
                pursuit.again(false);
            }
            Heard::Refused(Why::Malformed) => {
                tracing::error!(%group, "a node finds a command malformed");
                return all(Err(Status::Unknown), None);
            }
            Heard::Refused(_) => pursuit.again(false),
            Heard::Over => return all(Err(pursuit.status()), None),
        }
    }
}

fn report(items: &[(usize, NewAccount)], results: &[CreateResult], node: Option<NodeId>) -> Report {
    let mut report = Report { results: Vec::new(), moved: Vec::new(), refused: Vec::new(), node };
    for (item, result) in items.iter().zip(results) {
        match result {
            CreateResult::Moved => report.moved.push(*item),
            other => report.results.push((item.0, Ok(*other))),
        }
    }
    report
}

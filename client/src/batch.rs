//! Transfers: split into commands by group and kind, each sent until every item is final.
//!
//! A command holds transfers of one debit group and one kind: all accounts in that group, or the credit accounts
//! elsewhere. It is sent again, without the items that are final by then, until all are, or the deadline passes; every
//! item keeps its id, so that nothing is executed twice. Items whose account has moved are split anew by a newer map.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use drachma_protocol::ids::{Epoch, GroupId, NodeId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, Outcome, Reason, Transfer, TransferResult};
use drachma_protocol::message::client::{Call, Response, TransfersDone, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::wire::codec::{Encode, encode_array_len};
use drachma_protocol::wire::frame::LIMIT_CLIENT;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::request::{Heard, Pursuit, status, within};
use crate::single::{pause, wrong_answer};
use crate::{Answer, Inner, Status};

/// The most bytes that a transfer can have: five 128-bit numbers of 18 bytes, numbers of 9, 5, 5 and 3, the head.
const TRANSFER_BYTES: usize = 5 * 18 + 9 + 5 + 5 + 3 + 1;
// A full batch with its envelope fits a client's frame whatever its content.
const _: () = assert!(BATCH_LIMIT * TRANSFER_BYTES + 1024 <= LIMIT_CLIENT);

/// One transfer on its way.
struct Item {
    index: usize,
    transfer: Transfer,
    // The credit account's group, if it has one.
    credit: Option<GroupId>,
    attempts: u32,
    // The coordinator's last word was that a participant cannot be reached.
    unavailable: bool,
}

impl Item {
    fn answer(&self, status: Status, replayed: bool) -> Answer {
        Answer { status, replayed, attempts: self.attempts }
    }
}

/// Transfers that go out as one command.
struct Chunk {
    group: GroupId,
    kind: CommandKind,
    epoch: Epoch,
    items: Vec<Item>,
}

/// What became of a chunk: answers, and items whose account has moved.
struct Report {
    answers: Vec<(usize, Answer)>,
    moved: Vec<Item>,
    // Who said so.
    node: Option<NodeId>,
}

/// Carries out all of `transfers`; one answer each, in their order.
pub(crate) async fn transfers(inner: &Inner, transfers: &[Transfer], deadline: Option<Instant>) -> Vec<Answer> {
    let unknown = Answer { status: Status::Unknown, replayed: false, attempts: 0 };
    let mut answers = vec![unknown; transfers.len()];
    let item = |(index, transfer): (usize, &Transfer)| Item {
        index,
        transfer: *transfer,
        credit: None,
        attempts: 0,
        unavailable: false,
    };
    let mut open: Vec<Item> = transfers.iter().enumerate().map(item).collect();
    let mut moving = Backoff::of_requests();
    while !open.is_empty() {
        let (map, seen) = inner.router.map();
        let chunks = split(&map.map, open, &mut answers);
        let reports = join_all(chunks.into_iter().map(|chunk| carry_out(inner, chunk, deadline))).await;
        open = Vec::new();
        let mut node = None;
        for report in reports {
            for (index, answer) in report.answers {
                answers[index] = answer;
            }
            open.extend(report.moved);
            node = node.or(report.node);
        }
        if !open.is_empty() {
            within(deadline, inner.router.refresh(seen, node)).await;
            pause(&mut moving, deadline).await;
        }
    }
    answers
}

/// Splits into commands. What can never take effect is answered here: an id lives under its debit account, and one
/// that no group owns can neither record nor execute anything.
fn split(map: &ShardMap, items: Vec<Item>, answers: &mut [Answer]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    // The chunk that is being filled.
    let mut filling: BTreeMap<(GroupId, bool), usize> = BTreeMap::new();
    for mut item in items {
        let Some(group) = map.owner_of(item.transfer.debit) else {
            answers[item.index] = item.answer(Status::Rejected(Reason::NoSuchAccount), false);
            continue;
        };
        item.credit = map.owner_of(item.transfer.credit);
        // A credit account that nobody owns is for the debit account's ledger to reject and record.
        let across = item.credit.is_some_and(|credit| credit != group);
        let place = filling.entry((group, across)).or_insert(usize::MAX);
        if chunks.get(*place).is_none_or(|chunk| chunk.items.len() == BATCH_LIMIT) {
            let kind = if across { CommandKind::Transact } else { CommandKind::Transfers };
            *place = chunks.len();
            chunks.push(Chunk { group, kind, epoch: map.epoch, items: Vec::new() });
        }
        chunks[*place].items.push(item);
    }
    chunks
}

/// Sends a chunk until all its items are final or moved, or the deadline passes.
async fn carry_out(inner: &Inner, chunk: Chunk, deadline: Option<Instant>) -> Report {
    let Chunk { group, kind, epoch, mut items } = chunk;
    let needed: BTreeSet<GroupId> = items.iter().filter_map(|item| item.credit).chain([group]).collect();
    let mut pursuit = Pursuit::new(&inner.router, group, needed, deadline);
    let mut report = Report { answers: Vec::with_capacity(items.len()), moved: Vec::new(), node: None };
    let mut counted = 0;
    let mut command = command(inner, kind, epoch, &items);
    loop {
        let heard = pursuit.answer(&|deadline| Call::Command(ClientCommand { deadline, ..command.clone() })).await;
        let sent = pursuit.attempts() - counted;
        counted = pursuit.attempts();
        items.iter_mut().for_each(|item| item.attempts += sent);
        match heard {
            Heard::Answer(Response::Transfers(done)) => match results(items.len(), &done) {
                Some(results) => {
                    let before = items.len();
                    items = settle(items, &results, &mut report);
                    if items.is_empty() {
                        break;
                    }
                    pursuit.again(items.len() < before);
                    if items.len() < before {
                        command = self::command(inner, kind, epoch, &items);
                    }
                }
                None => wrong_answer(&mut pursuit, group),
            },
            Heard::Answer(_) => wrong_answer(&mut pursuit, group),
            Heard::Refused(Why::Moved) => {
                report.moved.append(&mut items);
                break;
            }
            Heard::Refused(Why::Malformed) => {
                tracing::error!(%group, ?kind, "a node finds a command malformed");
                report.answers.extend(items.iter().map(|item| (item.index, item.answer(Status::Unknown, false))));
                break;
            }
            Heard::Refused(_) => pursuit.again(false),
            Heard::Over => {
                report.answers.extend(items.iter().map(|item| (item.index, over(inner, group, item))));
                break;
            }
        }
    }
    report.node = pursuit.last().filter(|_| !report.moved.is_empty());
    report
}

/// The command for these items. Another content has another sequence number.
fn command(inner: &Inner, kind: CommandKind, epoch: Epoch, items: &[Item]) -> ClientCommand {
    let mut body = Vec::with_capacity(8 + items.len() * 40);
    encode_array_len(&mut body, items.len());
    items.iter().for_each(|item| item.transfer.encode(&mut body));
    ClientCommand {
        kind,
        session: None,
        sequence: inner.sequence.fetch_add(1, Ordering::Relaxed),
        deadline: Default::default(),
        epoch,
        count: u32::try_from(items.len()).expect("a chunk has at most BATCH_LIMIT items"),
        body: Bytes::from(body),
    }
}

/// One result per item: what is not listed has committed now. Nothing if the answer does not fit the question.
pub(crate) fn results(count: usize, done: &TransfersDone) -> Option<Vec<(TransferResult, bool)>> {
    let mut listed = vec![None; count];
    for item in &done.items {
        let place = listed.get_mut(usize::try_from(item.index).ok()?)?;
        if place.replace((item.result, item.replayed)).is_some() {
            return None;
        }
    }
    let committed = (TransferResult::Done(Outcome::Committed), false);
    Some(listed.into_iter().map(|result| result.unwrap_or(committed)).collect())
}

/// Takes out what is final or moved and returns the rest.
fn settle(items: Vec<Item>, results: &[(TransferResult, bool)], report: &mut Report) -> Vec<Item> {
    let mut rest = Vec::new();
    for (mut item, (result, replayed)) in items.into_iter().zip(results) {
        item.unavailable = *result == TransferResult::Unavailable;
        match result {
            TransferResult::Done(Outcome::Committed) => {
                report.answers.push((item.index, item.answer(Status::Committed, *replayed)));
            }
            TransferResult::Done(Outcome::Rejected(reason)) => {
                report.answers.push((item.index, item.answer(Status::Rejected(*reason), *replayed)));
            }
            TransferResult::Moved => report.moved.push(item),
            TransferResult::Retry | TransferResult::Unavailable | TransferResult::Unknown => rest.push(item),
        }
    }
    rest
}

/// What to say of an item at the deadline.
fn over(inner: &Inner, group: GroupId, item: &Item) -> Answer {
    let groups = [Some(group), item.credit];
    let status = if item.unavailable { Status::Unavailable } else { status(&inner.router, groups.iter().flatten()) };
    item.answer(status, false)
}

/// All of a few futures, side by side.
pub(crate) async fn join_all<T, F: Future<Output = T>>(futures: impl IntoIterator<Item = F>) -> Vec<T> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<T>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

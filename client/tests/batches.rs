//! Batches: split by group and kind, put together again, tried again item by item.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use drachma_client::Status;
use drachma_protocol::ids::{AccountId, Epoch, GroupId};
use drachma_protocol::ledger::model::{ItemResult, Outcome, Reason, Transfer, TransferResult};
use drachma_protocol::message::client::{CreatedDone, Response, Why};
use drachma_protocol::message::command::CommandKind;
use fake::{Fake, Reply, SHORT, Seen, committed, done, item, refused, transfer};

#[tokio::test]
async fn a_batch_is_split_by_group_and_kind_and_put_together_again() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1], &[2]], &[], move |question| {
        let rejected = TransferResult::Done(Outcome::Rejected(Reason::ExceedsCredits));
        // In each command, ids that end in 5 are rejected; everything else is not listed.
        let fives = (0..).zip(question.transfers()).filter(|(_, transfer)| transfer.id.0 % 10 == 5);
        let items: Vec<ItemResult> = fives.map(|(index, _)| item(index, rejected)).collect();
        asked.lock().unwrap().push(question);
        Reply::Answer(done(items))
    })
    .await;
    let client = fake.client().await;
    // Within g1, within g2, from g1 to g2, from g1 to nowhere, from nowhere.
    let pairs = [(1, 2), (101, 102), (1, 101), (1, 999), (999, 1)];
    let batch: Vec<Transfer> =
        (0..20_000).map(|id| (id, pairs[id as usize % 5])).map(|(id, (from, to))| transfer(id, from, to)).collect();
    let answers = client.transfers(&batch, None).await;
    assert_eq!(answers.len(), batch.len());
    for (transfer, answer) in batch.iter().zip(&answers) {
        let expected = match transfer {
            Transfer { debit: AccountId(999), .. } => (Status::Rejected(Reason::NoSuchAccount), 0),
            Transfer { id, .. } if id.0 % 10 == 5 => (Status::Rejected(Reason::ExceedsCredits), 1),
            _ => (Status::Committed, 1),
        };
        assert_eq!((answer.status, answer.attempts), expected, "{transfer:?}");
    }
    let mut commands: Vec<(u16, u16, CommandKind, u32)> = Vec::new();
    for question in seen.lock().unwrap().iter() {
        let command = question.command();
        commands.push((question.request.group.0, question.node, command.kind, command.count));
    }
    commands.sort_by_key(|command| (command.0, command.2 as u8));
    // To an account that does not exist is for the debit account's ledger to reject.
    assert_eq!(
        commands,
        [
            (1, 1, CommandKind::Transfers, 8000),
            (1, 1, CommandKind::Transact, 4000),
            (2, 2, CommandKind::Transfers, 4000)
        ]
    );
}

#[tokio::test]
async fn a_batch_over_the_limit_becomes_several_commands() {
    let counts: Arc<Mutex<Vec<u32>>> = Arc::default();
    let seen = Arc::clone(&counts);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        seen.lock().unwrap().push(question.command().count);
        committed()
    })
    .await;
    let largest = u128::MAX;
    let batch: Vec<Transfer> = (0..2 * 8190 + 1)
        .map(|id| Transfer { amount: largest, user_data_128: largest, ..transfer(largest - id, 1, 2) })
        .collect();
    let answers = fake.client().await.transfers(&batch, None).await;
    assert!(answers.iter().all(|answer| answer.status == Status::Committed));
    counts.lock().unwrap().sort_unstable();
    assert_eq!(*counts.lock().unwrap(), [1, 8190, 8190]);
    assert!(fake.client().await.transfers(&[], None).await.is_empty());
}

#[tokio::test]
async fn items_without_an_answer_are_sent_again_alone() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let mut asked = asked.lock().unwrap();
        asked.push(question);
        if asked.len() > 1 {
            return committed();
        }
        let rejected = TransferResult::Done(Outcome::Rejected(Reason::Overflow));
        let unknown = [(1, TransferResult::Retry), (2, TransferResult::Unknown), (4, TransferResult::Unavailable)];
        // Those that waited come after the others.
        let items = [(3, rejected)].into_iter().chain(unknown).map(|(index, result)| item(index, result));
        Reply::Answer(done(items.collect()))
    })
    .await;
    let batch: Vec<Transfer> = (0..5).map(|id| transfer(id, 1, 2)).collect();
    let answers = fake.client().await.transfers(&batch, None).await;
    let statuses: Vec<(Status, u32)> = answers.iter().map(|answer| (answer.status, answer.attempts)).collect();
    let again = (Status::Committed, 2);
    assert_eq!(statuses, [(Status::Committed, 1), again, again, (Status::Rejected(Reason::Overflow), 1), again]);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[1].transfers(), [batch[1], batch[2], batch[4]]);
    assert_ne!(seen[0].command().sequence, seen[1].command().sequence, "another content, another number");
}

#[tokio::test]
async fn the_coordinators_last_word_counts_at_the_deadline() {
    let fake = Fake::start(&[&[1], &[2]], &[], |question| {
        let results = [TransferResult::Unavailable, TransferResult::Unknown, TransferResult::Retry];
        let items =
            (0..).zip(question.transfers()).map(|(index, transfer)| item(index, results[transfer.id.0 as usize]));
        Reply::Answer(done(items.collect()))
    })
    .await;
    let batch: Vec<Transfer> = (0..3).map(|id| transfer(id, 1, 101)).collect();
    let answers = fake.client().await.transfers(&batch, SHORT).await;
    let statuses: Vec<Status> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [Status::Unavailable, Status::Unknown, Status::Unknown]);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_the_question_is_not_believed() {
    let tries = AtomicU32::new(0);
    let fake = Fake::start(&[&[1]], &[], move |_| {
        let rejected = TransferResult::Done(Outcome::Rejected(Reason::Closed));
        match tries.fetch_add(1, Ordering::SeqCst) {
            // Past the end, twice the same, another kind.
            0 => Reply::Answer(done(vec![item(2, rejected)])),
            1 => Reply::Answer(done(vec![item(0, rejected), item(0, rejected)])),
            2 => Reply::Answer(Response::Created(CreatedDone { results: Vec::new() })),
            _ => committed(),
        }
    })
    .await;
    let answers = fake.client().await.transfers(&[transfer(1, 1, 2), transfer(2, 1, 2)], None).await;
    assert!(answers.iter().all(|answer| (answer.status, answer.attempts) == (Status::Committed, 4)));
}

#[tokio::test]
async fn moved_fetches_the_map_and_asks_the_new_owner() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1], &[2]], &[], move |question| {
        let (group, epoch) = (question.request.group, question.command().epoch);
        asked.lock().unwrap().push(question);
        match (group, epoch) {
            (GroupId(1), Epoch(1)) => refused(Why::Moved, None),
            (GroupId(2), Epoch(2)) => committed(),
            other => panic!("{other:?}"),
        }
    })
    .await;
    let client = fake.client().await;
    {
        let mut map = fake.map.lock().unwrap();
        map.map.epoch = Epoch(2);
        map.map.owners = vec![GroupId(2), GroupId(1)];
    }
    let answer = client.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Committed, 2));
    assert_eq!(client.map().map.epoch, Epoch(2));
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn moved_items_are_split_anew() {
    let fake = Fake::start(&[&[1], &[2]], &[], |question| {
        if question.request.group == GroupId(1) && question.command().epoch == Epoch(1) {
            return Reply::Answer(done(vec![item(1, TransferResult::Moved)]));
        }
        assert_eq!((question.request.group, question.command().kind), (GroupId(2), CommandKind::Transact));
        assert_eq!(question.transfers(), [transfer(2, 2, 60)]);
        committed()
    })
    .await;
    let client = fake.client().await;
    {
        // Accounts 1 to 50 go to g2.
        let mut map = fake.map.lock().unwrap();
        map.map.epoch = Epoch(2);
        let ranges = [(1, 50), (51, 100), (101, 200)];
        let range = |(first, last)| drachma_protocol::placement::map::AccountRange {
            first: AccountId(first),
            last: AccountId(last),
        };
        map.map.mode = drachma_protocol::placement::map::Mode::Range(ranges.map(range).to_vec());
        map.map.owners = vec![GroupId(2), GroupId(1), GroupId(2)];
    }
    let answers = client.transfers(&[transfer(1, 60, 61), transfer(2, 2, 60)], None).await;
    let statuses: Vec<(Status, u32)> = answers.iter().map(|answer| (answer.status, answer.attempts)).collect();
    assert_eq!(statuses, [(Status::Committed, 1), (Status::Committed, 2)]);
}

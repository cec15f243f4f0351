//! Transactions, and reads of several things together: routed, tried again, compared, locked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use drachma_client::Status;
use drachma_protocol::ids::{AccountId, Epoch, GroupId, Slot, TransferId};
use drachma_protocol::ledger::model::{Outcome, Reason, TransferResult};
use drachma_protocol::ledger::operations::{Key, Operation, Put, Reply as Yielded, Transaction, VALUE_LIMIT, Value};
use drachma_protocol::message::client::{Call, Found, QueryCall, QueryDone, Response, TransactionDone, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::placement::map::{Mode, ShardMap};
use drachma_protocol::wire::codec::from_slice;
use fake::{Fake, Question, Reply, SHORT, Seen, refused};

/// A key of one of two groups; of one alone, if there is no other.
fn key(group: u16, number: usize) -> Key {
    let owners = vec![GroupId(1), GroupId(2)];
    let map = ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners };
    let keys = (0..).map(|n| Key::new(format!("k{n}")).unwrap());
    keys.filter(|key| map.owner_of_key(key) == GroupId(group)).nth(number).unwrap()
}

fn put(key: Key) -> Operation {
    Operation::Put(Put { key, value: Value::new("v").unwrap() })
}

fn of(operations: Vec<Operation>) -> Transaction {
    Transaction { id: TransferId(7), conditions: Vec::new(), operations }
}

fn done(result: TransferResult, replies: Option<Vec<Yielded>>) -> Reply {
    Reply::Answer(Response::Transaction(TransactionDone { result, replayed: false, replies }))
}

fn committed(replies: Vec<Yielded>) -> Reply {
    done(TransferResult::Done(Outcome::Committed), Some(replies))
}

fn query(question: &Question) -> Option<&QueryCall> {
    match &question.request.call {
        Call::Query(query) => Some(query),
        _ => None,
    }
}

fn found(query: &QueryCall, version: u64) -> Reply {
    let one =
        |_: &Operation| Found { reply: Yielded::Value(Some(Value::from(version as i64))), version: Slot(version) };
    let found = Some(query.operations.iter().map(one).collect());
    Reply::Answer(Response::Queried(QueryDone { slot: Slot(version), found }))
}

#[tokio::test]
async fn a_transaction_goes_to_the_group_of_what_it_names_first() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1], &[2]], &[], move |question| {
        let transaction: Transaction = from_slice(&question.command().body).unwrap();
        asked.lock().unwrap().push(question);
        committed(vec![Yielded::Done(Nothing {}); transaction.operations.len()])
    })
    .await;
    let client = fake.client().await;
    let cases = [
        (vec![put(key(1, 0)), put(key(1, 1))], (1, CommandKind::Transaction)),
        (vec![put(key(2, 0))], (2, CommandKind::Transaction)),
        (vec![put(key(2, 0)), put(key(1, 0))], (2, CommandKind::TransactOver)),
        (vec![Operation::Read(AccountId(5)), put(key(2, 0))], (1, CommandKind::TransactOver)),
    ];
    for (operations, expected) in cases {
        let count = operations.len();
        let answer = client.transact(&of(operations), None).await;
        assert_eq!((answer.status, answer.attempts), (Status::Committed, 1));
        assert_eq!(answer.replies.map(|replies| replies.len()), Some(count));
        let question = seen.lock().unwrap().pop().unwrap();
        assert_eq!((question.request.group.0, question.command().kind), expected);
    }
    let outside = client.transact(&of(vec![Operation::Read(AccountId(999)), put(key(1, 0))]), None).await;
    assert_eq!((outside.status, outside.attempts), (Status::Rejected(Reason::NoSuchAccount), 0));
    let large = Value::new(vec![0; VALUE_LIMIT]).unwrap();
    let puts = (0..17).map(|_| Operation::Put(Put { key: key(1, 0), value: large.clone() })).collect();
    let too_large = client.transact(&of(puts), None).await;
    assert_eq!((too_large.status, too_large.attempts), (Status::Rejected(Reason::TooLarge), 0));
    assert!(seen.lock().unwrap().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn what_is_no_answer_is_sent_again_as_it_was() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let mut asked = asked.lock().unwrap();
        asked.push(question);
        match asked.len() {
            1 => done(TransferResult::Retry, None),
            2 => Reply::Answer(Response::refused(Why::Overloaded)),
            3 => Reply::HangUp,
            _ => done(TransferResult::Done(Outcome::Rejected(Reason::Condition)), None),
        }
    })
    .await;
    let client = fake.client().await;
    let answer = client.transact(&of(vec![put(key(1, 0))]), None).await;
    assert_eq!((answer.status, answer.attempts, answer.replies), (Status::Rejected(Reason::Condition), 4, None));
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|question| question.command().body == seen[0].command().body), "under the same id");
}

#[tokio::test]
async fn a_repeated_commit_that_yields_nothing_but_that_it_is_done_says_so() {
    let fake = Fake::start(&[&[1]], &[], |_| done(TransferResult::Done(Outcome::Committed), None)).await;
    let client = fake.client().await;
    let answer = client.transact(&of(vec![put(key(1, 0)), Operation::Delete(key(1, 0))]), None).await;
    assert_eq!((answer.status, answer.replies), (Status::Committed, Some(vec![Yielded::Done(Nothing {}); 2])));
    let answer = client.transact(&of(vec![put(key(1, 0)), Operation::Get(key(1, 1))]), None).await;
    assert_eq!((answer.status, answer.replies), (Status::Committed, None), "what was read is not known any more");
}

#[tokio::test]
async fn a_transaction_without_an_answer_is_unknown_at_its_deadline_and_a_malformed_one_at_once() {
    let fake = Fake::start(&[&[1]], &[], |_| Reply::Silence).await;
    let answer = fake.client().await.transact(&of(vec![put(key(1, 0))]), SHORT).await;
    assert_eq!((answer.status, answer.replies), (Status::Unknown, None));
    let fake = Fake::start(&[&[1]], &[], |_| refused(Why::Malformed, None)).await;
    let answer = fake.client().await.transact(&of(vec![put(key(1, 0))]), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Unknown, 1));
}

#[tokio::test]
async fn one_group_is_read_once_and_confirmed() {
    let reads = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&reads);
    let fake = Fake::start(&[&[1], &[2]], &[], move |question| {
        counter.fetch_add(1, Ordering::SeqCst);
        let query = query(&question).unwrap();
        assert!(query.confirmed);
        found(query, 5)
    })
    .await;
    let client = fake.client().await;
    let gets = [key(1, 0), key(1, 1)].map(Operation::Get);
    let value = Yielded::Value(Some(Value::from(5)));
    assert_eq!(client.query(&gets, None).await, Ok(vec![value.clone(), value]));
    assert_eq!(reads.load(Ordering::SeqCst), 1);
    let nowhere = client.query(&[Operation::Read(AccountId(999))], None).await;
    assert_eq!(nowhere, Ok(vec![Yielded::Done(Nothing {})]), "such an account does not exist");
    assert_eq!(reads.load(Ordering::SeqCst), 1, "nobody was asked");
}

#[tokio::test]
async fn several_groups_are_read_until_nothing_has_changed_between_two_reads() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    // The second group changes between its first and its second read.
    let fake = Fake::start(&[&[1], &[2]], &[], move |question| {
        let mut asked = asked.lock().unwrap();
        let group = question.request.group;
        let before = asked.iter().filter(|known: &&Question| known.request.group == group).count();
        let version = if group == GroupId(2) && before > 0 { 2 } else { 1 };
        let answer = found(query(&question).unwrap(), version);
        asked.push(question);
        answer
    })
    .await;
    let gets = [key(2, 0), key(1, 0)].map(Operation::Get);
    let value = |number: i64| Yielded::Value(Some(Value::from(number)));
    assert_eq!(fake.client().await.query(&gets, None).await, Ok(vec![value(2), value(1)]));
    let confirmed: Vec<bool> = seen.lock().unwrap().iter().map(|question| query(question).unwrap().confirmed).collect();
    assert_eq!(confirmed, [false, false, true, true, true, true], "each pair began after the last one had ended");
}

#[tokio::test]
async fn what_is_in_doubt_or_does_not_come_to_rest_is_read_under_locks() {
    for in_doubt in [true, false] {
        let version = AtomicU32::new(0);
        let fake = Fake::start(&[&[1], &[2]], &[], move |question| match query(&question) {
            Some(_) if in_doubt => Reply::Answer(Response::Queried(QueryDone { slot: Slot(1), found: None })),
            Some(query) => found(query, u64::from(version.fetch_add(1, Ordering::SeqCst))),
            None => {
                assert_eq!(question.command().kind, CommandKind::TransactOver);
                let transaction: Transaction = from_slice(&question.command().body).unwrap();
                assert!(!transaction.writes() && transaction.operations.len() == 2);
                committed(vec![Yielded::Value(None), Yielded::Value(Some(Value::from(9)))])
            }
        })
        .await;
        let gets = [key(1, 0), key(2, 0)].map(Operation::Get);
        let expected = vec![Yielded::Value(None), Yielded::Value(Some(Value::from(9)))];
        assert_eq!(fake.client().await.query(&gets, None).await, Ok(expected), "in doubt: {in_doubt}");
    }
}

//! Levels: what a session sends, whom it asks, and what it makes of the answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drachma_client::{Level, LevelError, OtherCluster, ReadError, Recorder, Status, Token};
use drachma_protocol::ids::{AccountId, ClusterId, GroupId, NodeId, Slot};
use drachma_protocol::ledger::operations::{Operation, Reply as Yielded, Value};
use drachma_protocol::message::client::{Call, Found, QueryDone, Refused, Response, TransfersDone, Why};
use drachma_protocol::message::level::{PositionDone, ReplicaReadCall, ReplicaReadDone, WriteDone, WriteResult};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::time::Span;
use fake::{CLUSTER, Fake, Question, Reply, SHORT, committed, refused, transfer};

fn read(account: u128) -> Vec<Operation> {
    vec![Operation::Read(AccountId(account))]
}

fn number(value: i64) -> Yielded {
    Yielded::Value(Some(Value::from(value)))
}

fn told(call: &ReplicaReadCall, slot: u64, value: i64, age: Option<u64>) -> Reply {
    let one = |_: &Operation| Found { reply: number(value), version: Slot(3) };
    let found = Some(call.operations.iter().map(one).collect());
    Reply::Answer(Response::ReplicaRead(ReplicaReadDone { slot: Slot(slot), age: age.map(Span), found }))
}

fn written(slot: u64) -> Reply {
    let result = WriteResult::Transfers(TransfersDone { items: Vec::new() });
    Reply::Answer(Response::Written(WriteDone { result, slot: Slot(slot), level_met: true }))
}

fn position(slot: u64, everywhere: bool) -> Reply {
    Reply::Answer(Response::Position(PositionDone { slot: Slot(slot), everywhere }))
}

fn confirmed(question: &Question, slot: u64) -> Option<Reply> {
    let Call::Query(query) = &question.request.call else { return None };
    let one = |_: &Operation| Found { reply: number(7), version: Slot(3) };
    let found = Some(query.operations.iter().map(one).collect());
    Some(Reply::Answer(Response::Queried(QueryDone { slot: Slot(slot), found })))
}

#[tokio::test]
async fn a_session_says_how_far_it_is_and_moves_on_from_replicas_that_lag() {
    let asked: Arc<Mutex<Vec<(u16, Slot, bool)>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let fake = Fake::start(&[&[1, 2, 3]], &[], move |question| match &question.request.call {
        Call::Write(write) => {
            assert_eq!(write.level, Level::Session);
            written(40)
        }
        Call::ReplicaRead(call) => {
            seen.lock().unwrap().push((question.node, call.after, call.settled));
            if question.node == 3 { told(call, 45, 9, None) } else { refused(Why::Lagging, Some(1)) }
        }
        other => panic!("{other:?}"),
    })
    .await;
    let session = fake.client().await.session();
    let done = session.transfer(transfer(1, 1, 2), Level::Session, None).await.unwrap();
    assert!(done.level_met && done.answer.status == Status::Committed);
    let read = session.query(&read(1), Level::Session, None).await.unwrap();
    assert_eq!((read.replies, read.slots[&GroupId(1)], read.age), (vec![number(9)], Slot(45), None));
    assert_eq!(session.token().slot(GroupId(1)), Slot(45));
    let asked = asked.lock().unwrap();
    assert_eq!(asked.last().map(|(node, ..)| *node), Some(3));
    assert!(asked.iter().all(|(_, after, settled)| *after == Slot(40) && *settled), "{asked:?}");
}

#[tokio::test]
async fn what_no_replica_answers_for_a_session_is_asked_of_the_leader() {
    let fake = Fake::start(&[&[1, 2, 3]], &[], |question| match &question.request.call {
        Call::ReplicaRead(_) => refused(Why::Lagging, Some(1)),
        Call::Position(_) => position(50, false),
        _ => confirmed(&question, 49).unwrap(),
    })
    .await;
    let session = fake.client().await.session();
    let found = session.query(&read(1), Level::Session, None).await.unwrap();
    assert_eq!((found.replies, found.slots[&GroupId(1)]), (vec![number(7)], Slot(50)));
}

#[tokio::test]
async fn after_a_write_over_groups_each_group_tells_how_far_it_is() {
    let fake = Fake::start(&[&[1], &[2]], &[], |question| match &question.request.call {
        Call::Command(_) => committed(),
        Call::Position(call) => position(u64::from(question.node) * 10, call.everywhere && question.node == 1),
        other => panic!("{other:?}"),
    })
    .await;
    let client = fake.client().await;
    let session = client.session();
    let done = session.transfer(transfer(1, 1, 101), Level::Session, None).await.unwrap();
    assert!(done.level_met);
    let token = session.token();
    assert_eq!((token.slot(GroupId(1)), token.slot(GroupId(2))), (Slot(10), Slot(20)));
    let all = session.transfer(transfer(2, 1, 101), Level::All, None).await.unwrap();
    assert_eq!((all.answer.status, all.level_met), (Status::Committed, false), "the second group has a replica down");
    let any = session.transfer(transfer(3, 1, 101), Level::Any, None).await;
    assert_eq!(any.err(), Some(LevelError::SeveralGroups));
}

#[tokio::test]
async fn level_any_tells_the_age_and_that_a_write_is_only_accepted() {
    let fake = Fake::start(&[&[1, 2]], &[], |question| match &question.request.call {
        Call::Write(_) => {
            let result = WriteResult::Accepted(Nothing {});
            Reply::Answer(Response::Written(WriteDone { result, slot: Slot(0), level_met: true }))
        }
        Call::ReplicaRead(call) => {
            assert!(call.after == Slot(0) && !call.settled);
            let age = (call.operations.len() == 1).then_some(2_000);
            told(call, 8, 1, age)
        }
        other => panic!("{other:?}"),
    })
    .await;
    let session = fake.client().await.session();
    let done = session.transfer(transfer(1, 1, 2), Level::Any, None).await.unwrap();
    assert_eq!((done.answer.status, done.answer.status.is_final()), (Status::Accepted, false));
    assert_eq!(session.token().slot(GroupId(1)), Slot(0), "nobody knows where it will be");
    let age = session.query(&read(1), Level::Any, None).await.unwrap().age;
    assert_eq!(age, Some(Duration::from_millis(2)));
    let two = [read(1), read(2)].concat();
    assert_eq!(session.query(&two, Level::Any, None).await.unwrap().age, None, "unknown");
}

#[tokio::test]
async fn level_all_asks_every_replica_and_compares_what_has_the_same_version() {
    let start = async |bad: Option<u16>, down: Option<u16>| {
        Fake::start(&[&[1, 2, 3]], &[], move |question| match &question.request.call {
            Call::ReplicaRead(call) if down == Some(question.node) => {
                assert_eq!(call.after, Slot(50));
                refused(Why::Lagging, None)
            }
            Call::ReplicaRead(call) => told(call, 51, if bad == Some(question.node) { 8 } else { 7 }, None),
            Call::Position(_) => position(50, false),
            _ => confirmed(&question, 49).unwrap(),
        })
        .await
    };
    let good = start(None, None).await;
    let read_all = async |fake: &Fake| fake.client().await.session().query(&read(1), Level::All, SHORT).await;
    assert!(read_all(&good).await.unwrap().level_met);
    let lagging = start(None, Some(2)).await;
    let found = read_all(&lagging).await.unwrap();
    assert_eq!((found.replies, found.level_met), (vec![number(7)], false));
    let broken = start(Some(3), None).await;
    assert_eq!(read_all(&broken).await.err(), Some(ReadError::Differ(GroupId(1))));
}

#[tokio::test]
async fn a_token_goes_on_where_it_was_taken_but_not_in_another_cluster() {
    let fake = Fake::start(&[&[1]], &[], |_| Reply::Silence).await;
    let client = fake.client().await;
    let mut token = Token::new(CLUSTER);
    token.see(GroupId(1), Slot(12));
    let resumed = client.resume(token.to_string().parse().unwrap()).ok().unwrap();
    assert_eq!(resumed.token(), token);
    assert_eq!(client.resume(Token::new(ClusterId(5))).err(), Some(OtherCluster));
}

/// What is written, kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_recorded_client_writes_the_beginning_and_the_end_of_each_operation() {
    let fake = Fake::start(&[&[1]], &[], |question| match &question.request.call {
        Call::Command(command) if command.sequence == 1 => committed(),
        Call::Command(_) => Reply::Silence,
        _ => {
            let refused = Refused { why: Why::Malformed, leader: Some(NodeId(1)), after: Span(0) };
            Reply::Answer(Response::Refused(refused))
        }
    })
    .await;
    let kept = Kept::default();
    let recorder = Recorder::new(kept.clone());
    let client = fake.client().await.recorded(&recorder);
    client.transfer(transfer(7, 1, 2), None).await;
    client.transfer(transfer(8, 1, 2), SHORT).await;
    recorder.flush().unwrap();
    let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let has = |line: usize, part: &str| assert!(lines[line].contains(part), "{part} in {}", lines[line]);
    assert_eq!(lines.len(), 4, "{text}");
    has(
        0,
        r#"{"client":0,"number":0,"kind":"invoke","operation":{"f":"transfer","id":"00000000000000000000000000000007","content":"99070102010101000000","level":"linearizable"},"start":"#,
    );
    has(1, r#"{"client":0,"number":0,"kind":"ok","answer":{"outcome":"committed","replayed":false},"start":"#);
    has(2, r#""number":1,"kind":"invoke""#);
    has(3, r#""number":1,"kind":"info","answer":{"outcome":"unknown","replayed":false}"#);
}

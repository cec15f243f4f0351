//! The client against nodes that answer as each test says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fake;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drachma_client::{Client, ClientError, Options, Status};
use drachma_protocol::ids::{AccountId, GroupId, NodeId, Session, Slot, TransferId, TxnId};
use drachma_protocol::ids::{Ballot, ClusterId, SessionId};
use drachma_protocol::ledger::model::{Account, CreateResult, ItemResult, NewAccount, Outcome, Reason, TransferResult};
use drachma_protocol::message::client::{Call, CreatedDone, ReadDone, Response, SettledDone, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::operator::{LeaderPhase, LeaderStatus, Nothing, OperatorAnswer, OperatorCall};
use drachma_protocol::wire::codec::from_slice;
use drachma_protocol::wire::frame::{self, Kind, LIMIT_CLIENT};
use fake::{Fake, Reply, SHORT, Seen, committed, done, item, refused, transfer};

#[tokio::test]
async fn hello_passes_and_the_map_is_learnt_from_any_endpoint() {
    let fake = Fake::start(&[&[1, 2, 3]], &[], |_| committed()).await;
    let mut options = fake.options();
    // A port that nobody listens on comes first.
    options.endpoints.insert(0, "127.0.0.1:1".to_owned());
    options.cluster = None;
    let client = Client::connect(options).await.unwrap();
    assert_eq!(client.map(), *fake.map.lock().unwrap());
}

#[tokio::test]
async fn another_cluster_is_refused_and_nobody_is_unreachable() {
    let fake = Fake::start(&[&[1]], &[], |_| committed()).await;
    let options = Options { cluster: Some(ClusterId(1)), ..fake.options() };
    assert!(matches!(Client::connect(options).await, Err(ClientError::Protocol(text)) if text.contains("Cluster")));
    let endpoints = vec!["127.0.0.1:1".to_owned()];
    let options = Options { endpoints, cluster: None, deadline: SHORT };
    assert!(matches!(Client::connect(options).await, Err(ClientError::Unreachable(_))));
    let none = Options { endpoints: Vec::new(), cluster: None, deadline: SHORT };
    assert!(matches!(Client::connect(none).await, Err(ClientError::Unreachable(_))));
}

/// Nothing is answered before all have arrived: so they were all in flight at once.
async fn a_thousand_transfers_share_one_connection() {
    let held: Mutex<Vec<(u64, Response)>> = Mutex::default();
    let connections: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let seen = Arc::clone(&connections);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        seen.lock().unwrap().insert(question.connection);
        let reason = TransferResult::Done(Outcome::Rejected(Reason::Closed));
        let odd = question.transfers()[0].id.0 % 2 == 1;
        let items = if odd { vec![item(0, reason)] } else { Vec::new() };
        let mut held = held.lock().unwrap();
        held.push((question.correlation, done(items)));
        if held.len() < 1000 {
            return Reply::Silence;
        }
        // Answers may come in any order.
        held.reverse();
        Reply::Answers(std::mem::take(&mut held))
    })
    .await;
    let client = fake.client().await;
    let mut tasks = tokio::task::JoinSet::new();
    for id in 0..1000 {
        let client = client.clone();
        tasks.spawn(async move { (id, client.transfer(transfer(id, 1, 2), None).await) });
    }
    for (id, answer) in tasks.join_all().await {
        let expected = if id % 2 == 1 { Status::Rejected(Reason::Closed) } else { Status::Committed };
        assert_eq!((answer.status, answer.attempts), (expected, 1), "transfer {id}");
    }
    assert_eq!(connections.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_thousand_transfers_share_one_connection_on_one_thread() {
    a_thousand_transfers_share_one_connection().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_transfers_share_one_connection_on_two_threads() {
    a_thousand_transfers_share_one_connection().await;
}

#[tokio::test]
async fn a_leader_hint_is_followed_and_remembered() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1, 2, 3]], &[], move |question| {
        let node = question.node;
        asked.lock().unwrap().push(question);
        if node == 3 { committed() } else { refused(Why::NotLeader, Some(3)) }
    })
    .await;
    let client = fake.client().await;
    let first = client.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((first.status, first.attempts), (Status::Committed, 2));
    let second = client.transfer(transfer(2, 1, 2), None).await;
    assert_eq!((second.status, second.attempts), (Status::Committed, 1));
    let nodes: Vec<u16> = seen.lock().unwrap().iter().map(|question| question.node).collect();
    assert_eq!(nodes, [1, 3, 3]);
}

#[tokio::test]
async fn nodes_that_all_deny_a_quorum_are_unavailable() {
    let fake = Fake::start(&[&[1, 2, 3]], &[], |_| refused(Why::NoQuorum, None)).await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), SHORT).await;
    assert_eq!(answer.status, Status::Unavailable);
    assert!(answer.attempts >= 3);
}

#[tokio::test]
async fn one_node_without_a_quorum_is_unknown_not_unavailable() {
    let fake = Fake::start(&[&[1, 2, 3]], &[], |question| match question.node {
        1 => refused(Why::NoQuorum, None),
        _ => refused(Why::NotLeader, None),
    })
    .await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), SHORT).await;
    assert_eq!(answer.status, Status::Unknown);
}

#[tokio::test]
async fn silence_is_unknown_at_the_deadline() {
    let fake = Fake::start(&[&[1, 2, 3]], &[], |_| Reply::Silence).await;
    let client = fake.client().await;
    let began = tokio::time::Instant::now();
    let answer = client.transfer(transfer(1, 1, 2), SHORT).await;
    assert_eq!((answer.status, answer.attempts), (Status::Unknown, 1));
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(client.read(AccountId(1), SHORT).await.account, Err(Status::Unknown));
    assert_eq!(client.lookup(TxnId { id: TransferId(1), first: AccountId(1) }, SHORT).await, Err(Status::Unknown));
}

#[tokio::test]
async fn a_majority_that_refuses_connections_is_unavailable() {
    // The node that is left does not lead: without a majority nobody does.
    let fake = Fake::start(&[&[1, 2, 3]], &[1, 3], |_| refused(Why::NotLeader, None)).await;
    let client = fake.client().await;
    let answer = client.transfer(transfer(1, 1, 2), SHORT).await;
    assert_eq!(answer.status, Status::Unavailable);
    assert_eq!(client.read(AccountId(1), SHORT).await.account, Err(Status::Unavailable));
    let created = client.create_accounts(&[NewAccount { id: AccountId(1), ..NewAccount::default() }], SHORT).await;
    assert_eq!(created, [Err(Status::Unavailable)]);
}

#[tokio::test]
async fn a_minority_that_refuses_connections_is_passed_over() {
    let fake = Fake::start(&[&[1, 2, 3]], &[1], |question| match question.node {
        3 => committed(),
        // A hint at a node that is down is not followed.
        _ => refused(Why::NotLeader, Some(1)),
    })
    .await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Committed, 2));
}

#[tokio::test]
async fn a_lost_connection_is_followed_by_the_same_id_and_body() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let mut asked = asked.lock().unwrap();
        asked.push(question);
        if asked.len() == 1 {
            return Reply::HangUp;
        }
        let replayed = ItemResult { replayed: true, ..item(0, TransferResult::Done(Outcome::Committed)) };
        Reply::Answer(done(vec![replayed]))
    })
    .await;
    let answer = fake.client().await.transfer(transfer(7, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts, answer.replayed), (Status::Committed, 2, true));
    let seen = seen.lock().unwrap();
    let (first, second) = (seen[0].command(), seen[1].command());
    assert_ne!(seen[0].connection, seen[1].connection);
    assert_eq!(first.body, second.body);
    assert_eq!((first.kind, first.sequence, first.count), (second.kind, second.sequence, second.count));
    assert!(second.deadline < first.deadline, "what remains of the deadline travels");
}

#[tokio::test]
async fn a_frame_over_the_limit_closes_the_connection_before_memory_is_taken() {
    let seen: Seen = Arc::default();
    let asked = Arc::clone(&seen);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let mut asked = asked.lock().unwrap();
        asked.push(question);
        match asked.len() {
            // Announced, and never sent: a client that believed it would wait for ever.
            1 => Reply::Raw(u32::try_from(LIMIT_CLIENT + 1 - 8).unwrap().to_be_bytes().to_vec()),
            2 => Reply::Raw(vec![0xff; 64]),
            _ => committed(),
        }
    })
    .await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Committed, 3));
    let connections: BTreeSet<u64> = seen.lock().unwrap().iter().map(|question| question.connection).collect();
    assert_eq!(connections.len(), 3);
}

#[tokio::test]
async fn a_wrong_checksum_or_an_answer_to_nobody_does_no_harm() {
    let tries = AtomicU32::new(0);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let mut bytes = Vec::new();
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => {
                frame::encode(&mut bytes, Kind::Response, question.correlation, &done(Vec::new()));
                bytes[21] ^= 1;
            }
            _ => {
                frame::encode(&mut bytes, Kind::Response, 999_999, &done(vec![item(0, TransferResult::Retry)]));
                frame::encode(&mut bytes, Kind::Response, question.correlation, &done(Vec::new()));
            }
        }
        Reply::Raw(bytes)
    })
    .await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Committed, 2));
}

#[tokio::test]
async fn the_answer_to_an_earlier_try_is_taken() {
    let first = Mutex::new(None);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let mut first = first.lock().unwrap();
        match *first {
            None => {
                *first = Some(question.correlation);
                Reply::Silence
            }
            // When the request comes again, the answer to the first try does.
            Some(correlation) => {
                assert_ne!(correlation, question.correlation);
                Reply::Answers(vec![(correlation, done(Vec::new()))])
            }
        }
    })
    .await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Committed, 2));
}

#[tokio::test]
async fn a_session_is_registered_once_and_anew_when_it_is_lost() {
    let registrations = Arc::new(AtomicU64::new(0));
    let seen: Seen = Arc::default();
    let (asked, registered) = (Arc::clone(&seen), Arc::clone(&registrations));
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let command = question.command();
        if command.kind == CommandKind::Register {
            let id: SessionId = from_slice(&command.body).unwrap();
            let slot = registered.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::Answer(Response::Registered(Session { id, registered: Slot(slot) }));
        }
        let accounts: Vec<NewAccount> = from_slice(&command.body).unwrap();
        let mut asked = asked.lock().unwrap();
        asked.push(question);
        if asked.len() == 1 {
            return refused(Why::UnknownSession, None);
        }
        let results = accounts.iter().map(|account| match account.id.0 {
            50 => CreateResult::Exists,
            _ => CreateResult::Created,
        });
        Reply::Answer(Response::Created(CreatedDone { results: results.collect() }))
    })
    .await;
    let client = fake.client().await;
    let account = |id| NewAccount { id: AccountId(id), ledger: 1, ..NewAccount::default() };
    let results = client.create_accounts(&[account(50), account(999), account(51)], None).await;
    assert_eq!(results, [Ok(CreateResult::Exists), Ok(CreateResult::Moved), Ok(CreateResult::Created)]);
    assert_eq!(client.create_accounts(&[account(52)], None).await, [Ok(CreateResult::Created)]);
    assert_eq!(registrations.load(Ordering::SeqCst), 2);
    let seen = seen.lock().unwrap();
    let envelope = |n: usize| (seen[n].command().session.unwrap().registered, seen[n].command().sequence);
    let ((first, sequence), (second, again), (third, next)) = (envelope(0), envelope(1), envelope(2));
    assert_eq!((first, second, third), (Slot(1), Slot(2), Slot(2)));
    assert_eq!(sequence, again, "a retry keeps its number");
    assert!(next > again);
}

#[tokio::test]
async fn reads_fences_and_lookups() {
    let fake = Fake::start(&[&[1], &[2]], &[], |question| {
        Reply::Answer(match &question.request.call {
            Call::Read(call) => {
                let account = Account { id: call.account, credits_posted: 5, ..Account::default() };
                Response::Read(ReadDone { account: Some(account).filter(|account| account.id.0 != 3), slot: Slot(9) })
            }
            Call::Fence(_) => Response::Settled(SettledDone { outcome: Some(Outcome::Rejected(Reason::Fenced)) }),
            Call::Lookup(call) => {
                Response::Settled(SettledDone { outcome: Some(Outcome::Committed).filter(|_| call.txn.id.0 == 1) })
            }
            other => panic!("{other:?}"),
        })
    })
    .await;
    let client = fake.client().await;
    let read = client.read(AccountId(101), None).await;
    assert_eq!((read.account.unwrap().unwrap().credits_posted, read.slot, read.attempts), (5, Slot(9), 1));
    assert_eq!(client.read(AccountId(3), None).await.account, Ok(None));
    let nowhere = client.read(AccountId(201), None).await;
    assert_eq!((nowhere.account, nowhere.attempts), (Ok(None), 0));
    let txn = |id, first| TxnId { id: TransferId(id), first: AccountId(first) };
    let fenced = client.fence(txn(1, 1), None).await;
    assert_eq!((fenced.status, fenced.replayed), (Status::Rejected(Reason::Fenced), false));
    assert_eq!(client.lookup(txn(1, 1), None).await, Ok(Some(Outcome::Committed)));
    assert_eq!(client.lookup(txn(2, 1), None).await, Ok(None));
    let nobody = Outcome::Rejected(Reason::NoSuchAccount);
    assert_eq!(client.lookup(txn(1, 999), None).await, Ok(Some(nobody)));
    assert_eq!(client.fence(txn(1, 999), None).await.status, nobody.into());
}

#[tokio::test]
async fn an_operator_call_goes_to_one_node_once() {
    let status = LeaderStatus {
        phase: LeaderPhase::Serving,
        ballot: Ballot::default(),
        leader: Some(NodeId(2)),
        no_quorum: false,
        waiting: 0,
        in_flight: 0,
        elections: 1,
    };
    let answer = OperatorAnswer::LeaderStatus(status);
    let told = answer.clone();
    let fake = Fake::start(&[&[1, 2, 3]], &[3], move |question| {
        if question.node == 1 { refused(Why::WrongNode, None) } else { Reply::Answer(Response::Operator(told.clone())) }
    })
    .await;
    let client = fake.client().await;
    let call = || OperatorCall::LeaderStatus(Nothing {});
    let ask = |node| client.operator(NodeId(node), GroupId(1), call(), Duration::from_secs(5));
    assert_eq!(ask(2).await.unwrap(), answer);
    assert!(matches!(ask(1).await, Err(ClientError::Protocol(text)) if text.contains("WrongNode")));
    assert!(matches!(ask(3).await, Err(ClientError::Unreachable(_))));
    assert!(matches!(ask(4).await, Err(ClientError::Protocol(_))));
}

#[tokio::test]
async fn a_request_that_is_found_malformed_is_not_repeated() {
    let fake = Fake::start(&[&[1]], &[], |_| refused(Why::Malformed, None)).await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Unknown, 1));
}

#[tokio::test]
async fn an_overloaded_node_is_asked_again() {
    let tries = AtomicU32::new(0);
    let fake = Fake::start(&[&[1, 2, 3]], &[], move |question| {
        assert_eq!(question.node, 1, "the others would only send it back");
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => refused(Why::Overloaded, None),
            1 => refused(Why::Expired, None),
            _ => committed(),
        }
    })
    .await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), None).await;
    assert_eq!((answer.status, answer.attempts), (Status::Committed, 3));
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_before_the_deadline() {
    // Only the node that is down at first would lead.
    let mut fake = Fake::start(&[&[1, 2, 3]], &[1], |_| refused(Why::NotLeader, Some(1))).await;
    let client = fake.client().await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.transfer(transfer(1, 1, 2), None).await }
    });
    fake.revive(1, |_| committed());
    assert_eq!(asking.await.unwrap().status, Status::Committed);
}

#[tokio::test]
async fn connections_close_with_the_last_client() {
    let fake = Fake::start(&[&[1]], &[], |_| committed()).await;
    let client = fake.client().await;
    let clone = client.clone();
    assert_eq!(client.transfer(transfer(1, 1, 2), None).await.status, Status::Committed);
    drop(client);
    assert_eq!(clone.transfer(transfer(2, 1, 2), None).await.status, Status::Committed);
    drop(clone);
    // Ends when the other side has closed them all.
    fake.until_all_closed().await;
}

#[tokio::test]
async fn a_deadline_beyond_all_clocks_is_none() {
    let fake = Fake::start(&[&[1]], &[], |_| committed()).await;
    let answer = fake.client().await.transfer(transfer(1, 1, 2), Some(Duration::MAX)).await;
    assert_eq!(answer.status, Status::Committed);
}

/// The machine at the other end may have lost its power: TCP would notice after minutes.
#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_silent_is_given_up() {
    let silent = Mutex::new(None);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        let first = *silent.lock().unwrap().get_or_insert(question.connection);
        if question.connection == first { Reply::Silence } else { committed() }
    })
    .await;
    let minute = Some(Duration::from_secs(60));
    assert_eq!(fake.client().await.transfer(transfer(1, 1, 2), minute).await.status, Status::Committed);
}

#[tokio::test]
async fn a_request_without_a_deadline_outlives_a_node_that_was_away() {
    let mut fake = Fake::start(&[&[1], &[2]], &[2], |_| committed()).await;
    let options = Options { deadline: None, ..fake.options() };
    let client = Client::connect(options).await.unwrap();
    let short = client.transfer(transfer(1, 101, 102), SHORT).await;
    assert_eq!((short.status, short.attempts), (Status::Unavailable, 0));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.transfer(transfer(1, 101, 102), None).await }
    });
    let (told, mut deadlines) = tokio::sync::mpsc::unbounded_channel();
    fake.revive(2, move |question| {
        told.send(question.command().deadline).unwrap();
        committed()
    });
    assert_eq!(asking.await.unwrap().status, Status::Committed);
    assert_eq!(deadlines.recv().await.unwrap().as_millis(), 10_000);
}

#[tokio::test]
async fn a_refused_creation_is_no_answer_and_a_reserved_id_is_one() {
    let tries = AtomicU32::new(0);
    let fake = Fake::start(&[&[1]], &[], move |question| {
        if question.command().kind == CommandKind::Register {
            let id: SessionId = from_slice(&question.command().body).unwrap();
            return Reply::Answer(Response::Registered(Session { id, registered: Slot(1) }));
        }
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => refused(Why::Moved, None),
            1 => refused(Why::SessionWindow, None),
            _ => {
                let results = vec![CreateResult::Created, CreateResult::Moved];
                Reply::Answer(Response::Created(CreatedDone { results }))
            }
        }
    })
    .await;
    let accounts = [50, u128::MAX].map(|id| NewAccount { id: AccountId(id), ..NewAccount::default() });
    let results = fake.client().await.create_accounts(&accounts, None).await;
    assert_eq!(results, [Ok(CreateResult::Created), Ok(CreateResult::Moved)]);
}

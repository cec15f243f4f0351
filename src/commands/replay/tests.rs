//! The records of made-up logs.

use super::*;
use bytes::Bytes;
use drachma_protocol::ids::{Age, Ballot, NodeId, ReplicaId, Session, SessionId, TransferId};
use drachma_protocol::ledger::operations::{Add, Answered, Put};
use drachma_protocol::message::command::{Begin, ClientCommand, Decide, FORMAT, Fence, LeaderStart, Member, Prepare};
use drachma_protocol::time::{LogTime, Span};
use drachma_protocol::wire::codec::to_vec;

use crate::settings::Settings;

const BALLOT: Ballot = Ballot { round: 1, replica: ReplicaId(1) };
const ATTEMPT: Attempt = Attempt { ballot: BALLOT, number: 1 };

fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (id, debit, credit) = (TransferId(id), AccountId(debit), AccountId(credit));
    Transfer { id, debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}

/// The log of a group of the sample, from its first leader and one session on.
fn log(group: u16) -> Replay {
    let mut replay = Replay::new(Settings::sample().genesis(GroupId(group)));
    let member = |n| Member { replica: ReplicaId(n), node: NodeId(n as u16), directory: Default::default() };
    let start = LeaderStart { ballot: BALLOT, members: Some((1..=3).map(member).collect()) };
    assert_eq!(replay.apply(&entry(Content::LeaderStart(start))), Ok(vec![]));
    let client = ClientCommand {
        kind: CommandKind::Register,
        session: None,
        sequence: 0,
        body: to_vec(&SessionId(7)).into(),
        ..empty()
    };
    assert_eq!(told(&mut replay, vec![Command::Client(client)]), Vec::<String>::new());
    replay
}

fn empty() -> ClientCommand {
    ClientCommand {
        kind: CommandKind::Transfers,
        session: Some(Session { id: SessionId(7), registered: Slot(1) }),
        sequence: 0,
        deadline: Span::from_millis(2000),
        epoch: drachma_protocol::ids::Epoch(1),
        count: 1,
        body: Bytes::new(),
    }
}

fn batch(sequence: u64, transfers: &[Transfer]) -> Command {
    let body = to_vec(&transfers.to_vec()).into();
    Command::Client(ClientCommand { sequence, count: transfers.len() as u32, body, ..empty() })
}

fn entry(content: Content) -> Vec<u8> {
    to_vec(&Entry { format: FORMAT, time: LogTime(1), wall: 0, content })
}

/// The records of one entry, with the ids cut to their last digits.
fn told(replay: &mut Replay, commands: Vec<Command>) -> Vec<String> {
    let records = replay.apply(&entry(Content::Commands(commands))).unwrap();
    records.iter().map(|record| record.to_string().replace(&"0".repeat(31), "")).collect()
}

#[test]
fn a_batch_is_told_transfer_by_transfer_with_new_balances() {
    let mut replay = log(1);
    let commands = vec![batch(1, &[transfer(1, 5, 6, 4), transfer(2, 5, 6, 7), transfer(3, 5, 6, 6)])];
    let expected = [
        "<1, Start>",
        "<1, Update, 5, 6>",
        "<1, Update, 6, 14>",
        "<1, Commit>",
        "<2, Start>",
        "<2, Abort>",
        "<3, Start>",
        "<3, Update, 5, 0>",
        "<3, Update, 6, 20>",
        "<3, Commit>",
    ];
    assert_eq!(told(&mut replay, commands), expected);
}

#[test]
fn what_is_sent_again_is_told_once() {
    let mut replay = log(1);
    let once = [transfer(1, 5, 6, 4)];
    assert_eq!(told(&mut replay, vec![batch(1, &once), batch(2, &once)]).len(), 4);
    assert_eq!(told(&mut replay, vec![batch(3, &once)]), Vec::<String>::new());
    let other = [transfer(1, 5, 6, 3)];
    assert_eq!(told(&mut replay, vec![batch(4, &other)]), Vec::<String>::new(), "a conflict is no record");
}

#[test]
fn each_group_tells_its_own_side_of_a_transaction() {
    let transfer = transfer(1, 5, 3005, 4);
    let (txn, participants) = (TxnId::from(&transfer), vec![GroupId(1), GroupId(2)]);
    let age = Age { counter: 1, id: transfer.id };
    let deadline = Span::from_millis(2000);
    let mut coordinator = log(1);
    let begin =
        Begin { txn, attempt: ATTEMPT, age, participants: participants.clone(), action: transfer.into(), deadline };
    assert_eq!(told(&mut coordinator, vec![Command::Begin(begin)]), ["<1, Start>"]);
    let decide = || vec![Command::Decide(Decide { txn, attempt: ATTEMPT, verdict: Verdict::Commit, replies: vec![] })];
    assert_eq!(told(&mut coordinator, decide()), ["<1, Update, 5, 6>", "<1, Commit>"]);
    assert_eq!(told(&mut coordinator, decide()), Vec::<String>::new());

    let mut participant = log(2);
    let prepare = Prepare { txn, attempt: ATTEMPT, age, participants, action: transfer.into(), deadline };
    assert_eq!(told(&mut participant, vec![Command::Prepare(prepare)]), ["<1, Start>"]);
    let resolve =
        || vec![Command::Resolve(Resolve { txn, attempt: ATTEMPT, verdict: Verdict::Commit, values: vec![] })];
    assert_eq!(told(&mut participant, resolve()), ["<1, Update, 3005, 14>", "<1, Commit>"]);
    assert_eq!(told(&mut participant, resolve()), Vec::<String>::new());
}

#[test]
fn a_debit_that_waits_is_ended_by_what_it_waited_for() {
    let out = transfer(1, 5, 3005, 8);
    let txn = TxnId::from(&out);
    let age = Age { counter: 1, id: out.id };
    let participants = vec![GroupId(1), GroupId(2)];
    let deadline = Span::from_millis(2000);
    let mut replay = log(1);
    let begin = Begin { txn, attempt: ATTEMPT, age, participants, action: out.into(), deadline };
    assert_eq!(told(&mut replay, vec![Command::Begin(begin)]), ["<1, Start>"]);
    assert_eq!(told(&mut replay, vec![batch(1, &[transfer(2, 5, 6, 7)])]), ["<2, Start>"]);
    let decide = Decide { txn, attempt: ATTEMPT, verdict: Verdict::Abort, replies: vec![] };
    let expected = ["<1, Abort>", "<2, Update, 5, 3>", "<2, Update, 6, 17>", "<2, Commit>"];
    assert_eq!(told(&mut replay, vec![Command::Decide(decide)]), expected);
}

#[test]
fn a_fence_ends_an_id_that_nobody_has_used() {
    let mut replay = log(1);
    let txn = TxnId { id: TransferId(9), first: AccountId(5) };
    assert_eq!(told(&mut replay, vec![Command::Fence(Fence { txn })]), ["<9, Abort>"]);
    assert_eq!(told(&mut replay, vec![Command::Fence(Fence { txn })]), Vec::<String>::new());
}

#[test]
fn what_is_no_entry_is_refused() {
    assert!(log(1).apply(b"nonsense").unwrap_err().contains("slot 2 is no entry"));
}

/// The first key of a group with this beginning.
fn key(group: u16, beginning: &str) -> Key {
    let map = Settings::sample().genesis(GroupId(group)).map;
    let mut keys = (0..).filter_map(|n| Key::new(format!("{beginning}{n}")));
    keys.find(|key| map.owner_of_key(key) == GroupId(group)).unwrap()
}

fn value(text: &str) -> Value {
    Value::new(text.to_owned()).unwrap()
}

fn put(key: &Key, text: &str) -> Operation {
    Operation::Put(Put { key: key.clone(), value: value(text) })
}

fn transaction(id: u128, operations: Vec<Operation>) -> Transaction {
    Transaction { id: TransferId(id), conditions: Vec::new(), operations }
}

fn alone(transaction: &Transaction) -> Command {
    let (kind, body) = (CommandKind::Transaction, to_vec(transaction).into());
    Command::Client(ClientCommand { kind, session: None, body, ..empty() })
}

/// The records of a group with its key's name cut.
fn told_of(key: &Key, replay: &mut Replay, commands: Vec<Command>) -> Vec<String> {
    let name = text::shown(key.as_bytes());
    told(replay, commands).into_iter().map(|record| record.replace(&format!(" {name},"), " k,")).collect()
}

#[test]
fn a_transaction_of_one_group_tells_each_new_value_and_balance_once() {
    let (mut replay, key) = (log(1), key(1, "a"));
    let add = |delta| Operation::Add(Add { key: key.clone(), delta });
    let pay = |amount| Operation::Transfer(transfer(0, 5, 6, amount));
    let first = transaction(1, vec![put(&key, "4"), add(2), pay(3), pay(1)]);
    let expected = ["<1, Start>", "<1, Update, 5, 6>", "<1, Update, 6, 14>", "<1, Update, k, 6>", "<1, Commit>"];
    assert_eq!(told_of(&key, &mut replay, vec![alone(&first)]), expected);
    assert_eq!(told_of(&key, &mut replay, vec![alone(&first)]), Vec::<String>::new(), "it is told once");
    let second = transaction(2, vec![Operation::Append(Put { key: key.clone(), value: value("x") })]);
    assert_eq!(told_of(&key, &mut replay, vec![alone(&second)])[1], "<2, Update, k, 6x>");
    let wrong = transaction(3, vec![add(1)]);
    assert_eq!(told_of(&key, &mut replay, vec![alone(&wrong)]), ["<3, Start>", "<3, Abort>"]);
    let gone = transaction(4, vec![Operation::Delete(key.clone())]);
    assert_eq!(told_of(&key, &mut replay, vec![alone(&gone)])[1], "<4, Update, k, (none)>");
}

#[test]
fn a_swap_between_groups_tells_on_each_side_what_came_from_the_other() {
    let (left, right) = (key(1, "a"), key(2, "a"));
    let swap = transaction(1, vec![Operation::Swap(Swap { left: left.clone(), right: right.clone() })]);
    let map = Settings::sample().genesis(GroupId(1)).map;
    let (txn, participants, action) = (swap.txn(&map), swap.participants(&map), Action::from(swap));
    let (age, deadline) = (Age { counter: 1, id: TransferId(1) }, Span::from_millis(2000));
    let held = Swapped { left: Some(value("l")), right: Some(value("r")) };

    let mut coordinator = log(1);
    told(&mut coordinator, vec![alone(&transaction(8, vec![put(&left, "l")]))]);
    let (of, deciding) = (participants.clone(), action.clone());
    let begin = Begin { txn, attempt: ATTEMPT, age, participants: of, action: deciding, deadline };
    assert_eq!(told(&mut coordinator, vec![Command::Begin(begin)]), ["<1, Start>"]);
    let replies = vec![Reply::Swapped(held.clone())];
    let decide = Decide { txn, attempt: ATTEMPT, verdict: Verdict::Commit, replies };
    let expected = ["<1, Update, k, r>", "<1, Commit>"];
    assert_eq!(told_of(&left, &mut coordinator, vec![Command::Decide(decide)]), expected);

    let mut participant = log(2);
    told(&mut participant, vec![alone(&transaction(9, vec![put(&right, "r")]))]);
    let prepare = Prepare { txn, attempt: ATTEMPT, age, participants, action, deadline };
    assert_eq!(told(&mut participant, vec![Command::Prepare(prepare)]), ["<1, Start>"]);
    let values = vec![Answered { operation: 0, reply: Reply::Swapped(Swapped { right: None, ..held }) }];
    let resolve = Resolve { txn, attempt: ATTEMPT, verdict: Verdict::Commit, values };
    let expected = ["<1, Update, k, l>", "<1, Commit>"];
    assert_eq!(told_of(&right, &mut participant, vec![Command::Resolve(resolve)]), expected);
}

#[test]
fn what_waited_is_told_after_what_it_waited_for() {
    let (mut replay, here, there) = (log(1), key(1, "a"), key(2, "a"));
    let over = transaction(1, vec![put(&here, "first"), put(&there, "x")]);
    let map = Settings::sample().genesis(GroupId(1)).map;
    let (txn, participants) = (over.txn(&map), over.participants(&map));
    let (age, deadline) = (Age { counter: 1, id: TransferId(1) }, Span::from_millis(2000));
    let begin = Begin { txn, attempt: ATTEMPT, age, participants, action: over.into(), deadline };
    assert_eq!(told(&mut replay, vec![Command::Begin(begin)]), ["<1, Start>"]);
    let early = alone(&transaction(2, vec![put(&here, "second")]));
    assert_eq!(told(&mut replay, vec![early.clone()]), ["<2, Start>"], "it waits");
    assert_eq!(told(&mut replay, vec![early]), Vec::<String>::new(), "and is told once, however often it is sent");
    let replies = vec![Reply::Done(drachma_protocol::message::operator::Nothing {}); 2];
    let decide = Command::Decide(Decide { txn, attempt: ATTEMPT, verdict: Verdict::Commit, replies });
    let late = alone(&transaction(3, vec![put(&here, "third")]));
    let expected = [
        "<1, Update, k, first>",
        "<1, Commit>",
        "<2, Update, k, second>",
        "<2, Commit>",
        "<3, Start>",
        "<3, Update, k, third>",
        "<3, Commit>",
    ];
    assert_eq!(told_of(&here, &mut replay, vec![late, decide]), expected);
}

#[test]
fn a_log_without_its_beginning_tells_what_became_of_its_transactions() {
    let mut rest = Rest::new(Settings::sample().shard_map(), Slot(40));
    let transfers = [transfer(1, 1, 2, 5), transfer(2, 1, 2, 5), transfer(3, 1, 2, 5)];
    let commands = vec![batch(1, &transfers), batch(2, &transfers[..1])];
    let page = rest.read(&entry(Content::Commands(commands))).unwrap();
    let [one, two, three] = page.alone[..] else { panic!("{:?}", page.alone) };
    let outcomes = BTreeMap::from([(one, Outcome::Committed), (two, Outcome::Rejected(Reason::ExceedsCredits))]);
    let told: Vec<_> = rest.tell(&page, &outcomes).into_iter().map(|it| (it.slot.0, it.txn, it.event)).collect();
    let expected = [
        (40, one, Event::Start),
        (40, one, Event::Commit),
        (40, two, Event::Start),
        (40, two, Event::Abort(Some(Reason::ExceedsCredits))),
        (40, three, Event::Start),
    ];
    assert_eq!(told, expected);
    // A try that is given up may be followed by another; what has ended has ended.
    let decide = |txn, verdict| Command::Decide(Decide { txn, attempt: ATTEMPT, verdict, replies: Vec::new() });
    for (verdict, count) in [(Verdict::Abort, 1), (Verdict::Commit, 1), (Verdict::Commit, 0)] {
        let page = rest.read(&entry(Content::Commands(vec![decide(three, verdict)]))).unwrap();
        assert_eq!(rest.tell(&page, &BTreeMap::new()).len(), count, "{verdict:?}");
    }
    assert_eq!(rest.next(), Slot(44));
    assert!(rest.read(b"no entry").is_err());
}

//! Keys and transactions that cannot be: at each limit and one past it, each with its typed answer.

use drachma_client::{Status, Transacted};
use drachma_protocol::ids::{AccountId, Epoch, TransferId};
use drachma_protocol::ledger::model::{Balance, Reason};
use drachma_protocol::ledger::operations::{
    Add, BalanceIs, Condition, KEY_LIMIT, Key, KeyIs, OPERATIONS_LIMIT, Operation, Put, Reply, Scan, Swap, Transaction,
    VALUE_LIMIT, Value,
};
use drachma_protocol::message::client::{Call, QueryCall, Response, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;

use crate::rig::{Line, PATIENCE, Rig, raw_command, transfer};

fn key(text: impl Into<String>) -> Key {
    Key::new(text.into()).unwrap()
}

fn value(text: impl Into<String>) -> Value {
    Value::new(text.into()).unwrap()
}

fn put(name: &str, text: &str) -> Operation {
    Operation::Put(Put { key: key(name), value: value(text) })
}

fn get(name: &str) -> Operation {
    Operation::Get(key(name))
}

fn pay(debit: u128, credit: u128, amount: u128) -> Operation {
    Operation::Transfer(transfer(0, debit, credit, amount))
}

fn of(id: u128, operations: Vec<Operation>) -> Transaction {
    Transaction { id: TransferId(id), conditions: Vec::new(), operations }
}

fn when(id: u128, conditions: Vec<Condition>, operations: Vec<Operation>) -> Transaction {
    Transaction { conditions, ..of(id, operations) }
}

impl Rig {
    fn transact(&self, transaction: &Transaction) -> Transacted {
        self.block_on(self.client.transact(transaction, Some(PATIENCE)))
    }

    #[track_caller]
    fn commits(&self, transaction: &Transaction) -> Vec<Reply> {
        let done = self.transact(transaction);
        assert_eq!(done.status, Status::Committed, "{transaction:?}");
        done.replies.unwrap()
    }

    /// Final: the same id gets the same answer again.
    #[track_caller]
    fn rejects(&self, transaction: &Transaction, reason: Reason) {
        for _ in 0..2 {
            assert_eq!(self.transact(transaction).status, Status::Rejected(reason), "{transaction:?}");
        }
    }

    #[track_caller]
    fn holds(&self, name: &str, expected: Option<&str>) {
        let replies = self.block_on(self.client.query(&[get(name)], Some(PATIENCE))).unwrap();
        assert_eq!(replies, [Reply::Value(expected.map(value))], "{name}");
    }

    /// A line to the leader of the group that owns a key, and the group.
    fn line_to(&mut self, name: &str) -> (Line, u16) {
        let group = self.client.map().map.owner_of_key(&key(name)).0;
        let leader = self.leader(group);
        (self.caller(leader), group)
    }

    /// A key of a group, in a part of its own.
    fn name_of(&self, group: u16) -> String {
        let map = self.client.map().map;
        (0..).map(|n| format!("k{n}")).find(|name| map.owner_of_key(&key(name.clone())).0 == group).unwrap()
    }
}

/// A transaction of one group as it is sent, with bytes that may be anything.
fn raw(body: Vec<u8>) -> Call {
    Call::Command(raw_command(CommandKind::Transaction, 1, body))
}

/// The bytes with one part put in place of another.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|part| part == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn keys_and_values_at_their_limits_are_kept_and_one_byte_more_is_refused() {
    let mut rig = Rig::small("sizes");
    let name = "k".repeat(KEY_LIMIT);
    rig.commits(&of(1, vec![put(&name, "held")]));
    rig.holds(&name, Some("held"));
    let (mut line, group) = rig.line_to(&name);
    let good = to_vec(&of(2, vec![put(&name, "other")]));
    let long = [&[0xc5, 4, 1][..], name.as_bytes(), b"k"].concat();
    let bad = replaced(&good, &[&[0xc5, 4, 0][..], name.as_bytes()].concat(), &long);
    assert_eq!(line.refused(group, raw(bad)), Why::Malformed);
    assert_eq!(line.refused(group, raw(replaced(&good, &[0xc5, 4, 0], &[0xc4, 0]))), Why::Malformed, "an empty key");
    rig.holds(&name, Some("held"));

    let large = "v".repeat(VALUE_LIMIT);
    rig.commits(&of(3, vec![put("large", &large)]));
    rig.holds("large", Some(&large));
    let (mut line, group) = rig.line_to("large");
    let good = to_vec(&of(4, vec![put("large", &large)]));
    let bad = replaced(&good, &[&[0xc6, 0, 4, 0, 0][..], large.as_bytes()].concat(), &{
        [&[0xc6, 0, 4, 0, 1][..], large.as_bytes(), b"v"].concat()
    });
    assert_eq!(line.refused(group, raw(bad)), Why::Malformed);
    let append = |id, text: &str| of(id, vec![Operation::Append(Put { key: key("large"), value: value(text) })]);
    rig.rejects(&append(5, "v"), Reason::TooLarge);
    assert_eq!(rig.commits(&append(6, "")), [Reply::Length(VALUE_LIMIT as u64)]);
    rig.holds("large", Some(&large));

    let long = format!("{name}k");
    let output = rig.cli(&["put", &long, "v"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a key has 1 to 1024 bytes, and this one has 1025"));
    let file = |text: &str| format!("[[operations]]\nput = {{ key = \"large\", value = \"{text}\" }}\n");
    rig.scratch.file("fits.txn", &file(&large));
    rig.scratch.file("over.txn", &file(&format!("{large}v")));
    assert_eq!(rig.cli(&["txn", "fits.txn"]).status.code(), Some(0));
    let output = rig.cli(&["txn", "over.txn"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("over.txn:2:") && said.contains("a value has at most 262144 bytes"), "{said}");
    rig.assert_unharmed();
}

#[test]
fn as_many_operations_as_the_limit_are_carried_out_and_one_more_is_refused() {
    let mut rig = Rig::small("operations");
    let add = || Operation::Add(Add { key: key("counter"), delta: 1 });
    let replies = rig.commits(&of(1, vec![add(); OPERATIONS_LIMIT]));
    assert_eq!(replies.last(), Some(&Reply::Number(OPERATIONS_LIMIT as i64)));
    let (mut line, group) = rig.line_to("counter");
    let over = of(2, vec![add(); OPERATIONS_LIMIT + 1]);
    assert_eq!(line.refused(group, raw(to_vec(&over))), Why::Malformed);
    assert_eq!(rig.transact(&over).status, Status::Unknown, "the library cannot know more than that it is malformed");
    let exists = || Condition::IsNot(KeyIs { key: key("counter"), value: None });
    let full = when(3, vec![exists(); OPERATIONS_LIMIT - 1], vec![add()]);
    rig.commits(&full);
    let over = when(4, vec![exists(); OPERATIONS_LIMIT], vec![add()]);
    assert_eq!(line.refused(group, raw(to_vec(&over))), Why::Malformed, "conditions count, too");
    // Over both groups.
    let (here, there) = (rig.name_of(1), rig.name_of(2));
    let spread = |count: usize| (0..count).map(|n| put(if n % 2 == 0 { &here } else { &there }, "v")).collect();
    rig.commits(&of(5, spread(OPERATIONS_LIMIT)));
    let over = to_vec(&of(6, spread(OPERATIONS_LIMIT + 1)));
    let leader = rig.leader(1);
    let over = ClientCommand { kind: CommandKind::TransactOver, ..raw_command(CommandKind::Transaction, 1, over) };
    assert_eq!(rig.caller(leader).refused(1, Call::Command(over)), Why::Malformed);

    let query = |operations| {
        let deadline = Span(PATIENCE.as_micros() as u64);
        Call::Query(QueryCall { operations, confirmed: true, deadline, epoch: Epoch(1) })
    };
    let answer = line.answer(group, query(vec![get("counter"); OPERATIONS_LIMIT]));
    assert!(matches!(answer, Response::Queried(_)), "{answer:?}");
    assert_eq!(line.refused(group, query(vec![get("counter"); OPERATIONS_LIMIT + 1])), Why::Malformed);
    assert_eq!(line.refused(group, query(vec![add()])), Why::Malformed, "a query only reads");
    rig.holds("counter", Some("1025"));

    let line = |count: usize| format!("{{\"operations\":[{}]}}\n", vec!["{\"get\":\"counter\"}"; count].join(","));
    rig.scratch.file("fits.jsonl", &line(OPERATIONS_LIMIT));
    rig.scratch.file("over.jsonl", &line(OPERATIONS_LIMIT + 1));
    assert_eq!(rig.cli(&["txn", "fits.jsonl"]).status.code(), Some(0));
    let output = rig.cli(&["txn", "over.jsonl"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("over.jsonl:1: 1025 conditions and operations"));
    rig.assert_unharmed();
}

#[test]
fn conditions_on_what_does_not_exist_have_one_meaning() {
    let mut rig = Rig::small("conditions");
    let (here, there) = (rig.name_of(1), rig.name_of(2));
    let is = |name: &str, text: Option<&str>| Condition::Is(KeyIs { key: key(name), value: text.map(value) });
    let is_not = |name: &str, text: Option<&str>| Condition::IsNot(KeyIs { key: key(name), value: text.map(value) });
    for (n, missing) in [(0, "missing"), (10, &there[..])] {
        let write = || vec![put(&here, "written")];
        rig.rejects(&when(n + 1, vec![is(missing, Some("x"))], write()), Reason::Condition);
        rig.rejects(&when(n + 2, vec![is(missing, Some(""))], write()), Reason::Condition);
        rig.rejects(&when(n + 3, vec![is_not(missing, None)], write()), Reason::Condition);
        rig.commits(&when(n + 4, vec![is(missing, None)], write()));
        rig.commits(&when(n + 5, vec![is_not(missing, Some("x"))], write()));
    }
    let balance = Balance { negative: false, magnitude: 0 };
    for (n, account) in [(20, 199_999), (21, 299_999), (22, 5_000)] {
        let least = Condition::AtLeast(BalanceIs { account: AccountId(account), balance });
        rig.rejects(&when(n, vec![is(&here, Some("written")), least], vec![put(&here, "x")]), Reason::NoSuchAccount);
        rig.rejects(&of(n + 10, vec![put(&here, "x"), Operation::Read(AccountId(account))]), Reason::NoSuchAccount);
    }
    rig.holds(&here, Some("written"));
    rig.assert_unharmed();
}

#[test]
fn an_account_in_several_operations_counts_by_its_net_effect() {
    let mut rig = Rig::small("net");
    // Account 1 has 10: within g1, and over both groups.
    rig.commits(&of(1, vec![pay(1, 2, 15), pay(2, 1, 10)]));
    rig.commits(&of(2, vec![pay(1, 1001, 15), pay(1001, 1, 15), pay(1, 2, 1)]));
    rig.rejects(&of(3, vec![pay(1, 2, 3), pay(1, 3, 2)]), Reason::ExceedsCredits);
    rig.rejects(&of(4, vec![pay(1, 2, 3), pay(1, 1001, 2)]), Reason::ExceedsCredits);
    rig.rejects(&of(5, vec![pay(1, 1, 1)]), Reason::SameAccount);
    rig.rejects(&of(6, vec![pay(1, 2, 0), pay(1, 1001, 1)]), Reason::ZeroAmount);
    rig.rejects(&of(7, vec![pay(1, 2, u128::MAX), pay(2, 1, u128::MAX)]), Reason::Overflow);
    rig.commits(&of(8, vec![pay(1, 1001, 4)]));
    let read = |id| match rig.block_on(rig.client.read(AccountId(id), Some(PATIENCE))).account {
        Ok(Some(account)) => account.balance().magnitude,
        other => panic!("{other:?}"),
    };
    assert_eq!((read(1), read(2), read(1001)), (0, 16, 14));
    rig.assert_unharmed();
}

#[test]
fn counters_that_are_none_or_overflow_are_rejected_and_change_nothing() {
    let mut rig = Rig::small("counters");
    let add = |name: &str, delta| Operation::Add(Add { key: key(name), delta });
    for (n, text) in [(1, "text"), (2, ""), (3, "007"), (4, "+1"), (5, "9223372036854775808"), (6, "1.5")] {
        rig.commits(&of(100 + n, vec![put("wrong", text)]));
        rig.rejects(&of(n, vec![put("beside", "x"), add("wrong", 1)]), Reason::NotANumber);
        rig.holds("wrong", Some(text));
    }
    rig.holds("beside", None);
    assert_eq!(rig.commits(&of(10, vec![add("top", i64::MAX)])), [Reply::Number(i64::MAX)]);
    rig.rejects(&of(11, vec![add("top", 1)]), Reason::Overflow);
    rig.commits(&of(12, vec![add("bottom", i64::MIN)]));
    rig.rejects(&of(13, vec![add("bottom", -1)]), Reason::Overflow);
    rig.holds("top", Some("9223372036854775807"));
    rig.holds("bottom", Some("-9223372036854775808"));
    let output = rig.cli(&["add", "top", "1", "--output", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"reason\":\"overflow\""), "{output:?}");
    assert_eq!(rig.cli(&["add", "top", "9223372036854775808"]).status.code(), Some(2));
    rig.assert_unharmed();
}

#[test]
fn transactions_that_contradict_themselves_are_malformed() {
    let mut rig = Rig::small("faults");
    let scan = |to: &str| Operation::Scan(Scan { from: key("a/1"), to: Some(key(to)), limit: 10 });
    let swap = |left: &str, right: &str| Operation::Swap(Swap { left: key(left), right: key(right) });
    let with_id = |id| Operation::Transfer(transfer(id, 1, 2, 1));
    let faults = [
        vec![],
        vec![get("a"), scan("b/1")],
        vec![swap("a", "a")],
        vec![swap("a", "b"), swap("b", "c")],
        vec![swap("a", "b"), put("b", "x")],
        vec![with_id(9), with_id(9)],
    ];
    for (n, operations) in (1..).zip(faults) {
        let (mut line, group) = rig.line_to("a");
        let transaction = of(n, operations);
        assert_eq!(line.refused(group, raw(to_vec(&transaction))), Why::Malformed, "{transaction:?}");
    }
    let (mut line, group) = rig.line_to("a");
    let deadline = Span(PATIENCE.as_micros() as u64);
    let apart = QueryCall { operations: vec![scan("b/1")], confirmed: true, deadline, epoch: Epoch(1) };
    assert_eq!(line.refused(group, Call::Query(apart)), Why::Malformed, "a scan over what is placed apart");
    let output = rig.cli(&["scan", "a/1", "--to", "b/1"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("share the part before the first `/`"), "{output:?}");
    // Other content under a known id.
    rig.commits(&of(50, vec![put("a", "1")]));
    rig.commits(&of(50, vec![put("a", "1")]));
    assert_eq!(rig.transact(&of(50, vec![put("a", "2")])).status, Status::Rejected(Reason::IdConflict));
    // Larger than a frame: nobody is asked.
    let large = "v".repeat(VALUE_LIMIT);
    let too_large = of(51, (0..17).map(|n| put(&format!("a/{n}"), &large)).collect());
    assert_eq!(rig.transact(&too_large).status, Status::Rejected(Reason::TooLarge));
    rig.holds("a", Some("1"));
    rig.assert_unharmed();
}

#[test]
fn more_than_a_reply_may_have_is_rejected() {
    let mut rig = Rig::small("replies");
    let large = "v".repeat(VALUE_LIMIT);
    let names: Vec<String> = (0..9).map(|n| format!("large/{n}")).collect();
    for (n, half) in (1..).zip(names.chunks(5)) {
        rig.commits(&of(n, half.iter().map(|name| put(name, &large)).collect()));
    }
    let gets: Vec<Operation> = names.iter().map(|name| get(name)).collect();
    assert_eq!(rig.block_on(rig.client.query(&gets[..7], Some(PATIENCE))).map(|replies| replies.len()), Ok(7));
    let all = rig.block_on(rig.client.query(&gets, Some(PATIENCE)));
    assert_eq!(all, Err(Status::Rejected(Reason::TooLarge)), "2 MiB and more");
    let scan = Operation::Scan(Scan { from: key("large/"), to: None, limit: 1024 });
    match &rig.block_on(rig.client.query(&[scan], Some(PATIENCE))).unwrap()[..] {
        [Reply::Rows(found)] => {
            assert!((1..9).contains(&found.rows.len()), "{}", found.rows.len());
            assert_eq!(found.next, Some(key(&names[found.rows.len()][..])), "where to go on");
        }
        other => panic!("{other:?}"),
    }
    rig.assert_unharmed();
}

//! `docs/test-vectors.json`: values and their bytes. `UPDATE_GOLDEN=1` writes the file anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use drachma_protocol::ids::{
    AccountId, Ballot, ClusterId, Epoch, GroupId, NodeId, ReplicaId, Session, SessionId, Slot, TransferId, TxnId,
};
use drachma_protocol::ledger::model::{
    Account, Balance, CreateResult, Flags, ItemResult, NewAccount, Outcome, PendingState, PendingTransfer, Reason,
    Sides, Transfer, TransferResult,
};
use drachma_protocol::ledger::operations::{
    Add, BalanceIs, Condition, Key, KeyIs, List, ListOf, Listed, ListedRows, Operation, Pend, PostPending, Put, Reply,
    Rows, Scan, Swap, Swapped, Transaction, VoidPending,
};
use drachma_protocol::message::client::{
    Call, CreatedDone, FenceCall, Found, GroupNodes, MapCall, MapDone, NodeAddress, QueryCall, QueryDone, ReadCall,
    ReadDone, Refused, Request, Response, SettledDone, TransactionDone, TransfersDone, Why,
};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::hello::{Caller, Goodbye, Hello, Refusal, Welcome};
use drachma_protocol::message::level::{
    Level, PositionCall, PositionDone, ReplicaReadCall, ReplicaReadDone, WriteCall, WriteDone, WriteResult,
};
use drachma_protocol::message::operator::{
    HandOverCall, HandOverDone, HandOverEnd, Nothing, OperatorAnswer, OperatorCall,
};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::time::{LogTime, Span};
use drachma_protocol::wire::codec::{Decode, Encode, from_slice, to_vec};
use drachma_protocol::wire::frame::{self, Kind};
use rmp::Marker;
use serde_json::{Map, Value, json};

const ABOUT: &str = "Bytes of the wire protocol, see protocol.md. In `value`: an array is an array, a text is a text; \
                     {\"uint\": \"…\"} is a number from 2^53 up, {\"int\": \"…\"} one from -2^31 - 1 down, {\"bin\": \"…\"} a byte string (or a number from 2^64 \
                     up) in hexadecimal digits. `values`: the value and its one form. `frames`: whole frames; `value` \
                     is the body. `routes`: the shard of an account or key. `refused`: bytes that are no value of that type.";

// The keys of every object stand in alphabetical order: so it does not matter whether serde_json sorts them.

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Reads MessagePack without any knowledge of types: a second opinion on what the bytes say.
struct Plain<'a>(&'a [u8]);

impl Plain<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        head
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn length(&mut self, bytes: usize) -> usize {
        usize::try_from(self.number(bytes)).unwrap()
    }

    fn value(&mut self) -> Value {
        let marker = Marker::from_u8(self.take(1)[0]);
        match marker {
            Marker::Null => Value::Null,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(number) => json!(number),
            Marker::U8 => uint(self.number(1)),
            Marker::U16 => uint(self.number(2)),
            Marker::U32 => uint(self.number(4)),
            Marker::U64 => uint(self.number(8)),
            Marker::FixNeg(number) => json!(number),
            Marker::I8 => json!(self.number(1) as u8 as i8),
            Marker::I64 => json!({ "int": (self.number(8) as i64).to_string() }),
            Marker::FixArray(length) => self.array(usize::from(length)),
            Marker::Array16 => {
                let length = self.length(2);
                self.array(length)
            }
            Marker::FixStr(length) => json!(String::from_utf8(self.take(usize::from(length)).to_vec()).unwrap()),
            Marker::Bin8 => {
                let length = self.length(1);
                json!({ "bin": hex(self.take(length)) })
            }
            other => panic!("no vector should need {other:?}"),
        }
    }

    fn array(&mut self, length: usize) -> Value {
        Value::Array((0..length).map(|_| self.value()).collect())
    }
}

fn uint(number: u64) -> Value {
    if number < 1 << 53 { json!(number) } else { json!({ "uint": number.to_string() }) }
}

fn plain(bytes: &[u8]) -> Value {
    let mut reader = Plain(bytes);
    let value = reader.value();
    assert!(reader.0.is_empty(), "a rest after the value");
    value
}

fn value<T: Encode + Decode>(kind: &str, name: &str, value: &T) -> Value {
    let bytes = to_vec(value);
    let again: T = from_slice(&bytes).unwrap();
    assert_eq!(to_vec(&again), bytes);
    json!({ "hex": hex(&bytes), "name": name, "type": kind, "value": plain(&bytes) })
}

fn numbers() -> Vec<Value> {
    let small = [0u64, 1, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, (1 << 53) - 1, 1 << 53];
    let mut vectors: Vec<Value> =
        small.iter().chain([&u64::MAX]).map(|number| value("u64", &format!("{number}"), number)).collect();
    for number in [127u128, u128::from(u64::MAX), 1 << 64, u128::MAX] {
        vectors.push(value("u128", &format!("{number} as a 128-bit number"), &number));
    }
    vectors
}

fn transfer() -> Transfer {
    Transfer {
        id: TransferId(0x0192_4f5a_7b00_7000_8000_0000_0000_0001),
        debit: AccountId(17),
        credit: AccountId(4_211),
        amount: 250,
        ledger: 1,
        code: 1,
        ..Transfer::default()
    }
}

fn largest() -> Transfer {
    Transfer {
        id: TransferId(u128::MAX),
        debit: AccountId(u128::MAX),
        credit: AccountId(u128::MAX - 1),
        amount: u128::MAX,
        ledger: u32::MAX,
        code: u16::MAX,
        user_data_128: u128::MAX,
        user_data_64: u64::MAX,
        user_data_32: u32::MAX,
    }
}

fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

fn text(text: &str) -> drachma_protocol::ledger::operations::Value {
    drachma_protocol::ledger::operations::Value::new(text.to_owned()).unwrap()
}

/// Every condition and every operation once.
fn transaction() -> Transaction {
    let balance = |negative, magnitude| Balance { negative, magnitude };
    let (debit, credit) = (AccountId(17), AccountId(4_211));
    let put = |name: &str, value: &str| Put { key: key(name), value: text(value) };
    Transaction {
        id: TransferId(0xabc),
        conditions: vec![
            Condition::Is(KeyIs { key: key("user/7"), value: None }),
            Condition::IsNot(KeyIs { key: key("state"), value: Some(text("closed")) }),
            Condition::AtLeast(BalanceIs { account: AccountId(17), balance: balance(false, 250) }),
            Condition::AtMost(BalanceIs { account: AccountId(4_211), balance: balance(true, 1) }),
        ],
        operations: vec![
            Operation::Transfer(Transfer { id: TransferId(0), ..transfer() }),
            Operation::Put(put("user/7", "Ada")),
            Operation::Delete(key("user/6")),
            Operation::Append(put("log", "one more")),
            Operation::Add(Add { key: key("count"), delta: -7 }),
            Operation::Swap(Swap { left: key("a"), right: key("b") }),
            Operation::Get(key("state")),
            Operation::Scan(Scan { from: key("user/1"), to: Some(key("user/9")), limit: 10 }),
            Operation::Read(AccountId(17)),
            Operation::Pend(Pend {
                transfer: Transfer { id: TransferId(2), ..transfer() },
                timeout: Span::from_millis(60_000),
            }),
            Operation::Post(PostPending { id: TransferId(3), pending: TransferId(1), debit, credit, amount: Some(5) }),
            Operation::Void(VoidPending { id: TransferId(0), pending: TransferId(4), debit, credit }),
            Operation::Close(AccountId(18)),
            Operation::Open(AccountId(19)),
        ],
    }
}

/// What a client says that posts all of a pending transfer: the transaction and the posting share their id.
fn posting() -> Transaction {
    let transfer = transfer();
    let (id, debit, credit) = (TransferId(5), transfer.debit, transfer.credit);
    let post = PostPending { id, pending: transfer.id, debit, credit, amount: None };
    Transaction { id, conditions: Vec::new(), operations: vec![Operation::Post(post)] }
}

fn results() -> Vec<Value> {
    let mut vectors = Vec::new();
    let committed = [("Committed", Outcome::Committed)];
    let rejected = Reason::ALL.iter().map(|(reason, _)| (*reason, Outcome::Rejected(*reason)));
    for (name, outcome) in committed
        .map(|(name, outcome)| (name.to_owned(), outcome))
        .into_iter()
        .chain(rejected.map(|(reason, outcome)| (format!("rejected: {reason}"), outcome)))
    {
        vectors.push(value("Outcome", &name, &outcome));
        vectors.push(value("TransferResult", &name, &TransferResult::Done(outcome)));
    }
    for result in [TransferResult::Retry, TransferResult::Moved, TransferResult::Unavailable, TransferResult::Unknown] {
        vectors.push(value("TransferResult", &format!("{result:?}"), &result));
    }
    vectors
}

fn values() -> Vec<Value> {
    let mut vectors = numbers();
    vectors.push(value("bytes", "an empty byte string", &Bytes::new()));
    vectors.push(value("text", "a text", &"n1:4001".to_owned()));
    vectors.push(value("Transfer", "a transfer", &transfer()));
    vectors.push(value("Transfer", "the longest transfer", &largest()));
    vectors.push(value("[Transfer]", "the body of Transfers", &vec![transfer()]));
    let flags = Flags::DEBITS_MUST_NOT_EXCEED_CREDITS.with(Flags::HISTORY);
    let account = NewAccount { id: AccountId(9_001), ledger: 1, code: 7, flags };
    vectors.push(value("[NewAccount]", "the body of CreateAccounts", &vec![account]));
    vectors.push(value("SessionId", "the body of Register", &session().id));
    for number in [-1, -32, -33, i64::MIN] {
        vectors.push(value("i64", &format!("{number}"), &number));
    }
    vectors.push(value("Transaction", "the body of Transaction and TransactOver", &transaction()));
    vectors.push(value("Transaction", "the posting of a pending transfer", &posting()));
    vectors.extend(results());
    vectors
}

fn session() -> Session {
    Session { id: SessionId(0xfeed_0000_0000_0000_0000_0000_0000_beef), registered: Slot(77) }
}

fn whole<T: Encode>(name: &str, kind: Kind, correlation: u64, body: &T) -> Value {
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, kind, correlation, body);
    let decoded = frame::decode(&bytes).unwrap();
    let value = plain(decoded.body);
    let (hex, kind) = (hex(&bytes), format!("{kind:?}"));
    json!({ "correlation": uint(correlation), "hex": hex, "kind": kind, "name": name, "value": value })
}

fn command(kind: CommandKind, session: Option<Session>, count: u32, body: Vec<u8>) -> Call {
    let (deadline, epoch) = (Span::from_millis(2000), Epoch(1));
    Call::Command(ClientCommand { kind, session, sequence: 5, deadline, epoch, count, body: body.into() })
}

fn query() -> Call {
    let operations = vec![Operation::Get(key("state")), Operation::Read(AccountId(17))];
    Call::Query(QueryCall { operations, confirmed: true, deadline: Span::from_millis(2000), epoch: Epoch(1) })
}

/// A pending transfer of which a part was posted.
fn pending() -> PendingTransfer {
    PendingTransfer {
        transfer: transfer(),
        sides: Sides::Debit,
        made_at: LogTime(5_000_000),
        timeout: Span::from_millis(60_000),
        state: PendingState::Posted,
        ended_at: LogTime(9_000_000),
        posted: 100,
    }
}

/// The second page of an account's postings, the newest first.
fn list() -> Call {
    let of = ListOf::Account(AccountId(17));
    let list = List { of, newest: true, since: LogTime(0), until: None, from: Some(41), limit: 100 };
    let (operations, deadline) = (vec![Operation::List(list)], Span::from_millis(2000));
    Call::Query(QueryCall { operations, confirmed: true, deadline, epoch: Epoch(1) })
}

/// Every kind of reply.
fn replies() -> Vec<Reply> {
    let rows = vec![(key("user/7"), text("Ada"))];
    vec![
        Reply::Done(Nothing {}),
        Reply::Value(Some(text("open"))),
        Reply::Value(None),
        Reply::Account(Account { id: AccountId(17), ledger: 1, code: 1, credits_posted: 250, ..Account::default() }),
        Reply::Rows(Rows { rows, next: Some(key("user/8")) }),
        Reply::Number(-7),
        Reply::Length(8),
        Reply::Swapped(Swapped { left: Some(text("x")), right: None }),
        Reply::Listed(Listed { rows: ListedRows::Pending(vec![pending()]), next: Some(7) }),
    ]
}

fn write(level: Level) -> Call {
    match command(CommandKind::Transfers, None, 1, to_vec(&vec![transfer()])) {
        Call::Command(command) => Call::Write(WriteCall { level, command }),
        other => other,
    }
}

fn replica_read_call() -> ReplicaReadCall {
    let operations = vec![Operation::Get(key("state")), Operation::Read(AccountId(17))];
    let deadline = Span::from_millis(2000);
    ReplicaReadCall { operations, after: Slot(1230), settled: true, deadline, epoch: Epoch(1) }
}

fn written(result: WriteResult, slot: u64) -> Response {
    Response::Written(WriteDone { result, slot: Slot(slot), level_met: true })
}

fn replica_read(age: Option<Span>) -> Response {
    Response::ReplicaRead(ReplicaReadDone { slot: Slot(1234), age, found: Some(found()) })
}

fn requests() -> Vec<Value> {
    let txn = TxnId { id: TransferId(1), first: AccountId(17) };
    let deadline = Span::from_millis(2000);
    let account = NewAccount { id: AccountId(9_001), ledger: 1, code: 7, flags: Flags::NONE };
    let register = Call::Command(ClientCommand {
        kind: CommandKind::Register,
        session: None,
        sequence: 0,
        deadline,
        epoch: Epoch(1),
        count: 1,
        body: to_vec(&session().id).into(),
    });
    let calls = [
        ("register a session", 1, register),
        ("a transfer within a group", 1, command(CommandKind::Transfers, None, 1, to_vec(&vec![transfer()]))),
        ("a transfer across groups", 1, command(CommandKind::Transact, None, 1, to_vec(&vec![transfer()]))),
        ("a transaction over groups", 1, command(CommandKind::TransactOver, None, 1, to_vec(&transaction()))),
        ("a read of keys", 1, query()),
        ("a page of an account's postings", 1, list()),
        ("a new account", 1, command(CommandKind::CreateAccounts, Some(session()), 1, to_vec(&vec![account]))),
        ("read an account", 2, Call::Read(ReadCall { account: AccountId(4_211), deadline, epoch: Epoch(1) })),
        ("fence an id", 1, Call::Fence(FenceCall { txn, deadline })),
        ("look an id up", 1, Call::Lookup(FenceCall { txn, deadline })),
        ("ask for the map", 0, Call::Map(MapCall { epoch: Epoch(0) })),
        ("ask a node for its status", 0, Call::Operator(OperatorCall::NodeStatus(Nothing {}))),
        ("a transfer of a session", 1, write(Level::Session)),
        ("a transfer that the leader's disk is enough for", 1, write(Level::Any)),
        ("how far is the group", 1, Call::Position(PositionCall { everywhere: true, deadline, epoch: Epoch(1) })),
        ("a read from any replica", 1, Call::ReplicaRead(replica_read_call())),
        ("have another node lead", 1, Call::Operator(OperatorCall::HandOver(HandOverCall { target: Some(NodeId(2)) }))),
    ];
    let request = |(number, (name, group, call)): (u64, (&str, u16, Call))| {
        whole(name, Kind::Request, number, &Request { group: GroupId(group), call })
    };
    (1..).zip(calls).map(request).collect()
}

fn map() -> MapDone {
    let range = |first, last| AccountRange { first: AccountId(first), last: AccountId(last) };
    MapDone {
        map: ShardMap {
            epoch: Epoch(1),
            mode: Mode::Range(vec![range(1, 3000), range(3001, 6000)]),
            owners: vec![GroupId(1), GroupId(2)],
        },
        groups: vec![
            GroupNodes { group: GroupId(1), nodes: vec![NodeId(1), NodeId(2), NodeId(3)] },
            GroupNodes { group: GroupId(2), nodes: vec![NodeId(4), NodeId(5), NodeId(6)] },
        ],
        nodes: vec![NodeAddress { node: NodeId(1), address: "127.0.0.1:4001".to_owned() }],
    }
}

fn found() -> Vec<Found> {
    replies().into_iter().take(2).map(|reply| Found { reply, version: Slot(1200) }).collect()
}

fn responses() -> Vec<Value> {
    let item = |index, result, replayed| ItemResult { index, result, replayed };
    let rejected = TransferResult::Done(Outcome::Rejected(Reason::ExceedsCredits));
    let items = vec![
        item(3, rejected, false),
        item(8, TransferResult::Done(Outcome::Committed), true),
        item(9, TransferResult::Retry, false),
    ];
    let account = Account { id: AccountId(4_211), ledger: 1, code: 1, credits_posted: 250, ..Account::default() };
    let refused = Refused { why: Why::NotLeader, leader: Some(NodeId(3)), after: Span(0) };
    let lagging = Refused { why: Why::Lagging, leader: Some(NodeId(3)), after: Span(0) };
    let ballot = Ballot { round: 7, replica: ReplicaId(2) };
    let moved = HandOverDone { end: HandOverEnd::Moved, leader: NodeId(2), ballot };
    let responses = [
        ("the session is registered", Response::Registered(session())),
        ("all transfers committed", Response::Transfers(TransfersDone { items: Vec::new() })),
        ("all but three committed now", Response::Transfers(TransfersDone { items })),
        ("the account is new", Response::Created(CreatedDone { results: vec![CreateResult::Created] })),
        ("an account", Response::Read(ReadDone { account: Some(account), slot: Slot(1234) })),
        ("no such account", Response::Read(ReadDone { account: None, slot: Slot(1234) })),
        ("fenced", Response::Settled(SettledDone { outcome: Some(Outcome::Rejected(Reason::Fenced)) })),
        ("no outcome", Response::Settled(SettledDone { outcome: None })),
        ("the map", Response::Map(map())),
        ("another node leads", Response::Refused(refused)),
        (
            "a transaction has committed",
            Response::Transaction(TransactionDone {
                result: TransferResult::Done(Outcome::Committed),
                replayed: false,
                replies: Some(replies()),
            }),
        ),
        (
            "a condition of a transaction does not hold",
            Response::Transaction(TransactionDone {
                result: TransferResult::Done(Outcome::Rejected(Reason::Condition)),
                replayed: true,
                replies: None,
            }),
        ),
        ("keys and accounts of a group", Response::Queried(QueryDone { slot: Slot(1234), found: Some(found()) })),
        ("something is in doubt", Response::Queried(QueryDone { slot: Slot(1234), found: None })),
        ("the hand-over is done", Response::Operator(OperatorAnswer::HandOver(moved))),
        ("the leader's own disk has it", written(WriteResult::Accepted(Nothing {}), 0)),
        (
            "all of a batch has committed at a level",
            written(WriteResult::Transfers(TransfersDone { items: vec![] }), 1235),
        ),
        ("how far a group is", Response::Position(PositionDone { slot: Slot(1235), everywhere: true })),
        ("what a replica has read", replica_read(Some(Span::from_millis(3)))),
        ("what a replica has read that does not know its age", replica_read(None)),
        ("the replica lags", Response::Refused(lagging)),
        ("not at this level", Response::refused(Why::Level)),
    ];
    (1..).zip(&responses).map(|(number, (name, body))| whole(name, Kind::Response, number, body)).collect()
}

fn frames() -> Vec<Value> {
    let cluster = ClusterId(0x1234_5678_9abc_def0_1234_5678_9abc_def0);
    let stranger = Hello { lowest: 1, highest: 1, cluster: None, caller: Caller::Client, node: None, directory: None };
    let client = Hello { cluster: Some(cluster), ..stranger.clone() };
    let goodbye = Goodbye { refusal: Refusal::Cluster, text: "another cluster".to_owned() };
    let mut vectors = vec![
        whole("a client that does not know the cluster", Kind::Hello, 0, &stranger),
        whole("a client that knows the cluster", Kind::Hello, 0, &client),
        whole("welcome", Kind::Welcome, 0, &Welcome { version: 1, cluster, node: NodeId(1) }),
        whole("goodbye", Kind::Goodbye, 0, &goodbye),
    ];
    vectors.extend(requests());
    vectors.extend(responses());
    vectors
}

fn routes() -> Vec<Value> {
    let ranges = map().map;
    let hashed = ShardMap { mode: Mode::Hash(Nothing {}), owners: vec![GroupId(1); 16], ..ranges.clone() };
    let accounts = [0, 1, 3000, 3001, 6001, 1 << 64, u128::MAX, u128::MAX - 1, u128::MAX - 2];
    let route = |map: &ShardMap, account: u128| {
        let shard = map.shard_of(AccountId(account)).map(|shard| shard.0);
        json!({ "account": account.to_string(), "map": plain(&to_vec(map)), "shard": shard })
    };
    let keys = ["a", "user", "user/7", "user/8", "/", "\u{20ac}/x"];
    let of_key = |map: &ShardMap, text: &str| json!({ "key": text, "map": plain(&to_vec(map)), "shard": map.shard_of_key(&key(text)).0 });
    let both = [&ranges, &hashed].into_iter();
    both.flat_map(|map| accounts.map(|account| route(map, account)).into_iter().chain(keys.map(|k| of_key(map, k))))
        .collect()
}

/// Bytes that must be refused, and by which type.
fn refused() -> Vec<Value> {
    fn refuse<T: Decode>(kind: &str, why: &str, bytes: &str) -> Value {
        assert!(from_slice::<T>(&unhex(bytes)).is_err(), "{why}");
        json!({ "hex": bytes, "type": kind, "why": why })
    }
    let mut vectors = vec![
        refuse::<u64>("u64", "7 in two bytes", "cc07"),
        refuse::<u64>("u64", "255 in three bytes", "cd00ff"),
        refuse::<u64>("u64", "65535 in five bytes", "ce0000ffff"),
        refuse::<u64>("u64", "2^32-1 in nine bytes", "cf00000000ffffffff"),
        refuse::<u64>("u64", "a signed number", "d007"),
        refuse::<u64>("u64", "a negative number", "ff"),
        refuse::<u64>("u64", "a float", "cb3ff0000000000000"),
        refuse::<u64>("u64", "nothing", ""),
        refuse::<u64>("u64", "cut off", "cd01"),
        refuse::<u64>("u64", "a byte after the value", "0700"),
        refuse::<u16>("u16", "65536 does not fit", "ce00010000"),
        refuse::<u128>("u128", "2^64-1 as bytes", "c4100000000000000000ffffffffffffffff"),
        refuse::<u128>("u128", "a byte string of 15", "c40f00000000000001000000000000000000"),
        refuse::<bool>("bool", "a number for a truth", "01"),
        refuse::<Bytes>("bytes", "a short byte string with a long length", "c5000100"),
        refuse::<Bytes>("bytes", "a text for bytes", "a161"),
        refuse::<String>("text", "a short text with a long length", "d90161"),
        refuse::<String>("text", "not UTF-8", "a1ff"),
        refuse::<Vec<Transfer>>("[Transfer]", "2^32-1 elements announced, none there", "ddffffffff"),
        refuse::<Vec<u64>>("[u64]", "one element with a long length", "dc000107"),
        refuse::<MapCall>("MapCall", "a field too many", "920101"),
        refuse::<MapCall>("MapCall", "a field too few", "90"),
        refuse::<MapCall>("MapCall", "a map for a record", "81a565706f636801"),
        refuse::<Call>("Call", "an unknown tag", "920890"),
        refuse::<Flags>("Flags", "an unknown flag", "10"),
        refuse::<Outcome>("Outcome", "an unknown reason", "16"),
        refuse::<Key>("Key", "an empty key", "c400"),
        refuse::<i64>("i64", "-1 in two bytes", "d0ff"),
        refuse::<i64>("i64", "7 as a signed number", "d007"),
        refuse::<Transaction>("Transaction", "without conditions and operations", "93019090"),
        refuse::<Transaction>("Transaction", "a key swapped with itself", "93019091920692c40161c40161"),
        refuse::<Outcome>("Outcome", "Retry is no outcome", "40"),
        refuse::<TransferResult>("TransferResult", "an unknown result", "44"),
    ];
    let mut good = Vec::new();
    frame::encode(
        &mut good,
        Kind::Request,
        8,
        &Request { group: GroupId(0), call: Call::Map(MapCall { epoch: Epoch(0) }) },
    );
    let damaged = |why: &str, change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let ok = frame::decode(&bytes).is_ok() && frame::length(&bytes, frame::LIMIT_CLIENT).is_ok();
        assert!(!ok, "{why}");
        json!({ "hex": hex(&bytes), "type": "frame", "why": why })
    };
    vectors.push(damaged("a wrong checksum", |bytes| bytes[4] ^= 1));
    vectors.push(damaged("a flipped bit in the body", |bytes| *bytes.last_mut().unwrap() ^= 1));
    vectors.push(damaged("a length below the header's", |bytes| bytes[..4].copy_from_slice(&11u32.to_be_bytes())));
    vectors.push(damaged("a length over the limit", |bytes| {
        bytes[..4].copy_from_slice(&(4 * 1024 * 1024 - 8 + 1u32).to_be_bytes());
    }));
    vectors
}

/// One vector a line: a difference shows which one.
fn document() -> String {
    let sections = [("values", values()), ("frames", frames()), ("routes", routes()), ("refused", refused())];
    let mut text = format!("{{\n\"about\": {},\n\"version\": 1", json!(ABOUT));
    for (name, vectors) in sections {
        let lines: Vec<String> = vectors.iter().map(Value::to_string).collect();
        text.push_str(&format!(",\n\"{name}\": [\n{}\n]", lines.join(",\n")));
    }
    text.push_str("\n}\n");
    text
}

#[test]
fn the_vectors_are_the_codes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/test-vectors.json");
    let expected = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    for (number, (found, expected)) in (1..).zip(found.lines().zip(expected.lines())) {
        assert_eq!(found, expected, "line {number} of {path}; UPDATE_GOLDEN=1 writes it anew");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "UPDATE_GOLDEN=1 writes it anew");
    let parsed: Map<String, Value> = serde_json::from_str(&found).unwrap();
    assert!(["values", "frames", "routes", "refused"].iter().all(|name| parsed[*name].is_array()));
}

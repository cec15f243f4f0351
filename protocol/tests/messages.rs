//! `docs/protocol.md` says what the code does: every definition and every table of messages is compared.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{Attempt, Ballot, Session, TxnId};
use drachma_protocol::ledger::model::{
    Account, BATCH_LIMIT, Balance, BalancesAt, CreateResult, ItemResult, NewAccount, PendingState, PendingTransfer,
    Posted, Reason, Sides, Transfer,
};
use drachma_protocol::ledger::operations::{
    Add, BalanceIs, Condition, KEY_LIMIT, KeyIs, List, ListOf, Listed, ListedRows, OPERATIONS_LIMIT, Operation, Pend,
    PostPending, Put, REPLIES_LIMIT, Reply, Rows, Scan, Swap, Swapped, Transaction, VALUE_LIMIT, VoidPending,
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
    AccountsCall, AccountsPage, ActorStatus, Counter, HandOverCall, HandOverDone, HandOverEnd, KeysCall, KeysPage,
    KindPerformance, LeaderPhase, LeaderStatus, LedgerTotals, LogPage, NodeStatus, Nothing, OperatorAnswer,
    OperatorCall, OutcomesCall, OutcomesPage, PageCall, PendingPage, PendingRow, Performance, PostedDigest, PostedPage,
    ReplicaStatus, Totals,
};
use drachma_protocol::message::token::{GroupSlot, TokenBody};
use drachma_protocol::message::{PaxosMessage, TxnMessage};
use drachma_protocol::placement::map::{AccountRange, Mode, SHARDS_LIMIT, ShardMap};
use drachma_protocol::wire::frame::{Kind, LIMIT_CLIENT, LIMIT_HELLO, LIMIT_PEER};

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    std::fs::read_to_string(path).unwrap()
}

/// The definitions of the page: what stands left and right of `=`, over as many lines as it takes.
fn definitions(page: &str) -> BTreeMap<String, String> {
    let mut definitions = BTreeMap::new();
    for block in page.split("```wire\n").skip(1) {
        let mut name = String::new();
        for line in block.split("```").next().unwrap().lines().filter(|line| !line.is_empty()) {
            if let Some((left, right)) = line.split_once(" = ") {
                name = left.to_owned();
                let before = definitions.insert(name.clone(), right.to_owned());
                assert_eq!(before, None, "{name} is defined twice");
            } else {
                let definition = definitions.get_mut(&name).unwrap();
                definition.push(' ');
                definition.push_str(line.trim());
            }
        }
    }
    definitions
}

/// The fields of a record, by `name: type`.
fn fields(definition: &str) -> Vec<(&str, &str)> {
    let inner = definition.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap();
    inner.split(", ").filter(|field| !field.is_empty()).map(|field| field.split_once(": ").unwrap()).collect()
}

/// The cases of a choice, by `number name`.
fn cases(definition: &str) -> Vec<(String, u64)> {
    let cases = definition.strip_prefix("[tag, value] of ").unwrap_or(definition);
    let case = |case: &str| {
        let (number, name) = case.trim().split_once(' ').unwrap();
        (name.split(':').next().unwrap().to_owned(), number.parse().unwrap())
    };
    cases.split('|').filter(|case| case.trim() != "or a Reason").map(case).collect()
}

/// The rows of the table under `heading`: name, number, and the rest.
fn rows(page: &str, heading: &str) -> Vec<(String, u64, Vec<String>)> {
    let after = page.split(&format!("{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    let table = after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let row = |line: &str| {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        assert!(cells.iter().all(|cell| !cell.is_empty()), "an empty cell in {line}");
        (cells[0].trim_matches('`').to_owned(), cells[1].parse().unwrap(), cells[2..].to_vec())
    };
    table.skip(2).map(row).collect()
}

fn owned(kinds: &[(&str, u64)]) -> Vec<(String, u64)> {
    kinds.iter().map(|(name, tag)| ((*name).to_owned(), *tag)).collect()
}

fn named<T: std::fmt::Debug>(all: &[(T, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(value, tag)| (format!("{value:?}"), *tag)).collect()
}

macro_rules! records {
    ($definitions:ident, $checked:ident: $($name:ident),+ $(,)?) => {$(
        let definition = $definitions.get(stringify!($name)).unwrap_or_else(|| panic!("no {}", stringify!($name)));
        let names: Vec<&str> = fields(definition).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, $name::FIELDS, "the fields of {}", stringify!($name));
        $checked.insert(stringify!($name).to_owned());
    )+};
}

macro_rules! choices {
    ($definitions:ident, $checked:ident, $of:ident, $list:ident: $($name:ident),+ $(,)?) => {$(
        let definition = $definitions.get(stringify!($name)).unwrap_or_else(|| panic!("no {}", stringify!($name)));
        assert_eq!(cases(definition), $of($name::$list), "the cases of {}", stringify!($name));
        $checked.insert(stringify!($name).to_owned());
    )+};
}

#[test]
fn every_definition_is_the_codes() {
    let page = page();
    let definitions = definitions(&page);
    let mut checked = BTreeSet::new();
    records!(definitions, checked:
        Hello, Welcome, Goodbye, Request, ClientCommand, Session, Transfer, TransfersDone, ItemResult, NewAccount,
        CreatedDone, ReadCall, ReadDone, Account, FenceCall, TxnId, SettledDone, MapCall, MapDone, ShardMap,
        AccountRange, GroupNodes, NodeAddress, Refused, Nothing, AccountsCall, PageCall, OutcomesCall, LeaderStatus,
        Ballot, ReplicaStatus, NodeStatus, ActorStatus, Counter, AccountsPage, PostedPage, Posted, PostedDigest,
        LogPage, PendingPage, PendingRow, Attempt, Totals, LedgerTotals, OutcomesPage, Performance, KindPerformance,
        Transaction, KeyIs, BalanceIs, Balance, Put, Add, Swap, Scan, TransactionDone, Rows, Swapped, QueryCall,
        QueryDone, Found, KeysCall, KeysPage, HandOverCall, HandOverDone, WriteCall, WriteDone, PositionCall,
        PositionDone, ReplicaReadCall, ReplicaReadDone, TokenBody, GroupSlot, Pend, PostPending, VoidPending, List,
        Listed, PendingTransfer, BalancesAt,
    );
    choices!(definitions, checked, owned, KINDS: Call, Response, Mode, OperatorCall, OperatorAnswer, Condition, Operation, Reply, WriteResult, ListOf, ListedRows);
    choices!(definitions, checked, named, ALL: Caller, Refusal, CommandKind, Reason, CreateResult, Why, LeaderPhase, Sides, HandOverEnd, Level, PendingState);
    // These two are encoded by hand; the vectors have each of their values.
    let results = [("Committed", 0), ("Retry", 64), ("Moved", 65), ("Unavailable", 66), ("Unknown", 67)];
    assert_eq!(cases(&definitions["TransferResult"]), owned(&results));
    assert_eq!(cases(&definitions["Outcome"]), owned(&results[..1]));
    checked.extend(["TransferResult".to_owned(), "Outcome".to_owned()]);
    // A pair of the two.
    assert_eq!(definitions["Row"], "[key: Key, value: Value]");
    assert_eq!(definitions["KeyPlace"], "[shard: ShardId, key: Key]");
    checked.extend(["Row".to_owned(), "KeyPlace".to_owned()]);

    let numbers = ["u8", "u16", "u32", "u64", "u128", "bytes"];
    let plain = |definition: &String| numbers.contains(&definition.as_str());
    let unchecked: Vec<&String> =
        definitions.iter().filter(|(name, it)| !plain(it) && !checked.contains(*name)).map(|(name, _)| name).collect();
    assert!(unchecked.is_empty(), "nobody compares {unchecked:?}");
}

#[test]
fn every_type_that_is_used_is_defined() {
    let page = page();
    let definitions = definitions(&page);
    let known = |name: &str| {
        let basic = ["u8", "u16", "u32", "u64", "u128", "i64", "bool", "bytes", "text"];
        basic.contains(&name) || definitions.contains_key(name)
    };
    for (name, definition) in &definitions {
        let types: Vec<&str> = match definition {
            choice if choice.starts_with("[tag, value] of ") => {
                choice.split('|').map(|case| case.split_once(": ").unwrap().1).collect()
            }
            record if record.starts_with('[') => fields(record).into_iter().map(|(_, kind)| kind).collect(),
            number if known(number) => vec![number],
            _ => Vec::new(),
        };
        for kind in types {
            let bare = kind.trim().trim_matches(['[', ']', '?']);
            assert!(known(bare), "{name} uses {bare}");
        }
    }
}

#[test]
fn every_message_stands_in_the_table() {
    let page = page();
    let tables: [(&str, &[(&str, u64)]); 4] = [
        ("### Calls: client to node", Call::KINDS),
        ("### Responses: node to client", Response::KINDS),
        ("### Paxos messages: within a group", PaxosMessage::KINDS),
        ("### Transaction messages: between groups", TxnMessage::KINDS),
    ];
    for (heading, kinds) in tables {
        let rows = rows(&page, heading);
        let names: Vec<(String, u64)> = rows.iter().map(|(name, tag, _)| (name.clone(), *tag)).collect();
        assert_eq!(names, owned(kinds), "{heading}");
        for (name, _, rest) in rows {
            assert_eq!(rest.len(), 3, "{name}: from whom to whom, after, sent again");
            assert!(rest[0].contains(" → "), "{name}: from whom to whom");
        }
    }
}

#[test]
fn what_promises_durability_by_type_says_so() {
    let page = page();
    let rows = rows(&page, "### Paxos messages: within a group");
    let gated: Vec<&str> =
        rows.iter().filter(|(_, _, rest)| rest[1].contains("(by type)")).map(|(name, ..)| name.as_str()).collect();
    assert_eq!(gated, ["Promise", "Accepted"]);
}

#[test]
fn every_kind_of_frame_stands_in_the_table_with_its_limit() {
    let page = page();
    let rows = rows(&page, "| 20.. | body |\n");
    let limit = |kind| match kind {
        Kind::Hello | Kind::Welcome | Kind::Goodbye => "4 KiB",
        Kind::Request | Kind::Response => "4 MiB",
        Kind::Paxos | Kind::Txn => "4 MiB + 64 KiB",
    };
    let expected: Vec<(String, u64, &str)> =
        Kind::ALL.into_iter().map(|kind| (format!("{kind:?}"), kind as u64, limit(kind))).collect();
    let found: Vec<(String, u64, &str)> =
        rows.iter().map(|(name, number, rest)| (name.clone(), *number, rest[1].as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!((LIMIT_HELLO, LIMIT_CLIENT, LIMIT_PEER), (4 << 10, 4 << 20, (4 << 20) + (64 << 10)));
}

#[test]
fn the_limits_are_the_codes() {
    let page = page();
    let section = page.split("## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    assert!(section.contains("| transfers or accounts in a command | 8,190 |") && BATCH_LIMIT == 8190);
    let operations = "| conditions and operations in a transaction, together | 1,024 |";
    assert!(section.contains(operations) && OPERATIONS_LIMIT == 1024);
    assert!(section.contains("| a key | 1 to 1,024 bytes |") && KEY_LIMIT == 1024);
    assert!(section.contains("| a value | 256 KiB |") && VALUE_LIMIT == 256 << 10);
    assert!(section.contains("| the replies to a transaction | 2 MiB |") && REPLIES_LIMIT == 2 << 20);
    assert!(section.contains("| shards | 4,096 |") && SHARDS_LIMIT == 4096);
    let limits = drachma_protocol::ledger::Limits::default();
    assert!(section.contains("| sessions of a group | 100,000 |") && limits.sessions == 100_000);
}

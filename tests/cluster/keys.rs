//! The commands for keys and transactions, over three groups.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use drachma::commands::txn::file;
use drachma_protocol::ids::GroupId;
use drachma_protocol::ledger::operations::{Condition, Key, Operation, Transaction};
use serde_json::Value;

use crate::common::{World, text};

/// The first key of a group with this beginning, in a part of its own.
pub(crate) fn key_of(world: &World, group: GroupId, beginning: &str) -> String {
    let map = world.local.settings().shard_map();
    let mut names = (0..).map(|n| format!("{beginning}{n}"));
    names.find(|name| map.owner_of_key(&Key::new(name.clone()).unwrap()) == group).unwrap()
}

/// The objects that a command prints, one a line; it must end with this status.
#[track_caller]
fn rows(world: &World, status: i32, words: &[&str]) -> Vec<Value> {
    let output = world.drachma(&[words, &["--output", "json", "--timeout", "30s"]].concat());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{words:?}: {out}{err}");
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What it says to people.
#[track_caller]
fn said(world: &World, status: i32, words: &[&str]) -> (String, String) {
    let output = world.drachma(&[words, &["--timeout", "30s"]].concat());
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{words:?}: {out}{err}");
    (out, err)
}

#[test]
fn every_command_for_keys_does_what_it_says() {
    let mut world = World::start("every_command_for_keys_does_what_it_says");
    let keys = world.groups().into_iter().map(|group| key_of(&world, group, "k")).collect::<Vec<_>>();
    let [a, b, c] = [&keys[0], &keys[1], &keys[2]].map(String::as_str);
    single_keys(&world, a);
    compare_and_set(&world, b);
    counters_and_scans(&world);
    several_keys(&world, [a, b, c]);
    lookups(&world, c);
    world.verify(&[]);
}

fn single_keys(world: &World, key: &str) {
    let (out, err) = said(world, 1, &["get", key]);
    assert!(out.is_empty() && err.contains(&format!("there is no key {key}")), "{out}{err}");
    let put = rows(world, 0, &["put", key, "one", "--id", "a1"]);
    assert_eq!((&put[0]["id"], &put[0]["outcome"]), (&format!("{:032x}", 0xa1).into(), &"committed".into()), "{put:?}");
    let again = rows(world, 0, &["put", key, "one", "--id", "a1"]);
    assert_eq!(again[0]["replayed"], true, "{again:?}");
    let other = rows(world, 1, &["put", key, "two", "--id", "a1"]);
    assert_eq!((&other[0]["outcome"], &other[0]["reason"]), (&"rejected".into(), &"id_conflict".into()));
    assert_eq!(said(world, 0, &["get", key, "--level", "quorum"]).0, "one\n");
    assert_eq!(rows(world, 0, &["append", key, "+two"])[0]["length"], 7);
    assert_eq!(rows(world, 0, &["get", key])[0]["value"], "one+two");
    assert_eq!(said(world, 0, &["get", key, "--hex"]).0, "6f6e652b74776f\n");
    rows(world, 0, &["put", key, "00ff0a", "--hex"]);
    assert_eq!(said(world, 0, &["get", key]).0, "\\x00\\xff\\n\n", "what is no text is escaped");
    rows(world, 0, &["del", key]);
    rows(world, 0, &["del", key]);
    said(world, 1, &["get", key]);
}

fn compare_and_set(world: &World, key: &str) {
    let wrong = rows(world, 1, &["cas", key, "1", "2"]);
    assert_eq!((&wrong[0]["outcome"], &wrong[0]["reason"]), (&"rejected".into(), &"condition".into()), "{wrong:?}");
    rows(world, 0, &["cas", key, "1", "--absent"]);
    assert_eq!(rows(world, 1, &["cas", key, "1", "--absent"])[0]["reason"], "condition");
    rows(world, 0, &["cas", key, "1", "2"]);
    assert_eq!(said(world, 0, &["get", key]).0, "2\n");
    assert!(said(world, 2, &["cas", key, "1"]).1.contains("KEY EXPECTED VALUE"));
    assert!(said(world, 2, &["cas", key, "1", "2", "--absent"]).1.contains("KEY VALUE"));
}

fn counters_and_scans(world: &World) {
    assert_eq!(rows(world, 0, &["add", "c/1", "5"])[0]["number"], 5);
    assert_eq!(rows(world, 0, &["add", "c/1", "-7"])[0]["number"], -2);
    assert_eq!(rows(world, 0, &["add", "c/3", "3"])[0]["number"], 3);
    assert_eq!(rows(world, 0, &["add", "c/2", "2"])[0]["number"], 2);
    let names = |rows: &[Value]| rows.iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&rows(world, 0, &["scan", "c/"])), ["c/1", "c/2", "c/3"]);
    assert_eq!(names(&rows(world, 0, &["scan", "c/2", "--to", "c/3"])), ["c/2"]);
    let (out, err) = said(world, 0, &["scan", "c/", "--limit", "2"]);
    assert!(out.contains("c/2") && !out.contains("c/3") && err.contains("there is more, from c/3"), "{out}{err}");
    assert!(said(world, 2, &["scan", "c/", "--to", "d/"]).1.contains("share the part before the first `/`"));
}

fn several_keys(world: &World, [a, b, c]: [&str; 3]) {
    rows(world, 0, &["mput", a, "x", b, "y", c, "z"]);
    let values = |rows: &[Value]| rows.iter().map(|row| row["value"].clone()).collect::<Vec<_>>();
    assert_eq!(values(&rows(world, 0, &["mget", a, b, c, "none"])), ["x".into(), "y".into(), "z".into(), Value::Null]);
    assert!(said(world, 0, &["mget", a, "none"]).0.contains("(none)"));
    assert!(said(world, 2, &["mput", a, "x", b]).1.contains("the last key has no value"));
    let swapped = rows(world, 0, &["swap", a, b]);
    assert_eq!((&swapped[0]["left"], &swapped[0]["right"]), (&"y".into(), &"x".into()), "{swapped:?}");
    assert_eq!(values(&rows(world, 0, &["mget", a, b, c])), ["y", "x", "z"]);
    assert!(said(world, 2, &["swap", a, a]).1.contains("swapped"));
    let log = rows(world, 0, &["log", "n1", "--limit", "100000"]);
    let sets = log.iter().filter(|row| row["key"] == a).map(|row| row["value"].clone()).collect::<Vec<_>>();
    assert!(sets.ends_with(&["x".into(), "y".into()]), "what the transactions have set: {sets:?}");
    let table = said(world, 0, &["log", "n1"]).0;
    assert!(table.contains(&format!(", Update, {a}, y>")), "{table}");
}

fn lookups(world: &World, key: &str) {
    rows(world, 0, &["put", key, "v", "--id", "b1"]);
    assert_eq!(rows(world, 0, &["lookup", "b1", "--key", key])[0]["outcome"], "committed");
    assert_eq!(rows(world, 1, &["lookup", "b2", "--key", key])[0]["outcome"], "not_found");
    assert_eq!(rows(world, 1, &["lookup", "b2", "--key", key, "--fence"])[0]["reason"], "fenced");
    assert_eq!(rows(world, 1, &["put", key, "w", "--id", "b2"])[0]["reason"], "fenced");
    assert_eq!(said(world, 0, &["get", key]).0, "v\n");
}

#[test]
fn an_unknown_write_prints_the_line_that_settles_it() {
    let mut world = World::start("an_unknown_write_prints_the_line_that_settles_it");
    let keys: Vec<String> = [1, 2].map(|group| key_of(&world, GroupId(group), "k")).into();
    for node in world.members(GroupId(2)) {
        world.local.kill(node).unwrap();
    }
    let output = world.drachma(&["mput", &keys[0], "x", &keys[1], "y", "--id", "a1", "--timeout", "1s"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{out}{err}");
    assert!(out.contains("unavailable") || out.contains("unknown"), "{out}");
    let line = err.lines().find_map(|line| line.trim().strip_prefix("drachma ")).unwrap_or_else(|| panic!("{err}"));
    assert_eq!(line, format!("lookup {:032x} --key={} --fence", 0xa1, keys[0]));
    world.start_all();
    let settled = rows(&world, 1, &line.split(' ').collect::<Vec<_>>());
    assert_eq!(settled[0]["reason"], "fenced", "{settled:?}");
    assert_eq!(rows(&world, 1, &["mput", &keys[0], "x", &keys[1], "y", "--id", "a1"])[0]["reason"], "fenced");
    world.verify(&[]);
}

/// The sample files, in an order in which all of them commit.
const SAMPLES: [&str; 8] =
    ["basket.txn", "claim.txn", "purchase.txn", "snapshot.txn", "lines.jsonl", "swap.txn", "reserve.txn", "settle.txn"];

fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name).display().to_string()
}

#[test]
fn the_sample_transactions_cover_every_operation_and_condition_and_commit() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let is_sample = |name: &String| name.ends_with(".txn") || name.ends_with(".jsonl");
    let names = std::fs::read_dir(here).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(is_sample).collect::<BTreeSet<_>>(), SAMPLES.map(String::from).into(), "all are run");
    let all: Vec<Transaction> = SAMPLES.iter().flat_map(|name| file::read(Path::new(&sample(name))).unwrap()).collect();
    let operations = all.iter().flat_map(|transaction| &transaction.operations);
    let covered: HashSet<_> = operations.map(std::mem::discriminant::<Operation>).collect();
    assert_eq!(covered.len(), 14, "every operation");
    let kind = |condition: &Condition| match condition {
        Condition::Is(is) => ("is", is.value.is_some()),
        Condition::IsNot(is) => ("is_not", is.value.is_some()),
        Condition::AtLeast(_) => ("at_least", true),
        Condition::AtMost(_) => ("at_most", true),
    };
    let kinds: BTreeSet<_> = all.iter().flat_map(|transaction| &transaction.conditions).map(kind).collect();
    assert_eq!(kinds.len(), 6, "every condition: {kinds:?}");

    let world = World::start("the_sample_transactions_cover_every_operation_and_condition_and_commit");
    for name in SAMPLES {
        let rows = rows(&world, 0, &["txn", &sample(name)]);
        let outcomes: Vec<&Value> = rows.iter().filter(|row| row["outcome"].is_string()).collect();
        assert_eq!(outcomes.len(), if name == "lines.jsonl" { 3 } else { 1 }, "{name}: {rows:?}");
        assert!(outcomes.iter().all(|row| row["outcome"] == "committed"), "{name}: {rows:?}");
        assert_eq!(said(&world, 0, &["get", "journal"]).0, "restocked;\n");
    }
    for again in ["claim.txn", "purchase.txn"] {
        assert_eq!(rows(&world, 1, &["txn", &sample(again)])[0]["reason"], "condition", "{again}");
    }
    assert_eq!(said(&world, 0, &["get", "stock/apple"]).0, "4\n");
    assert_eq!(said(&world, 0, &["balance", "6001"]).0, "13\n");
    assert_eq!(said(&world, 0, &["get", "shelf-1"]).0, "pears\n", "swapped twice");
    let read = rows(&world, 0, &["txn", &sample("snapshot.txn"), "--id", "c1"]);
    let yielded: Vec<(&Value, &Value)> = read[1..].iter().map(|row| (&row["does"], &row["operation"])).collect();
    assert_eq!(yielded.len(), 4, "a value, two rows, an account: {read:?}");
    assert_eq!((&read[1]["value"], &read[4]["balance"]), (&"restocked;".into(), &7.into()), "{read:?}");
    let (table, _) = said(&world, 0, &["txn", &sample("snapshot.txn")]);
    assert!(table.contains("stock/label") && table.contains("\\x00\\xff"), "{table}");
    let replayed = rows(&world, 0, &["txn", &sample("lines.jsonl")]);
    assert!(
        replayed.iter().filter(|row| row["outcome"].is_string()).all(|row| row["replayed"] == true),
        "{replayed:?}"
    );
    assert!(said(&world, 2, &["txn", &sample("lines.jsonl"), "--id", "c2"]).1.contains("--id is for one"));
    assert!(said(&world, 2, &["txn", &sample("plain.csv")]).1.contains("expected a file named .txn or .toml"));
    assert!(said(&world, 2, &["txn", "missing.txn"]).1.contains("missing.txn: No such file"));
}

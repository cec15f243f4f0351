//! Number 5 over keys: one planted history for each rule.

use drachma_protocol::ledger::operations::{
    Add, Condition, KeyIs, Operation, Put, Reply, Rows, Scan, Swap, Swapped, Transaction,
};
use drachma_protocol::message::operator::Nothing;

use super::*;
use crate::client::streets::{RING, SEATS, Street, Streets};
use crate::history::{QueryRecord, TransactionAnswer};

const COMMITTED: Outcome = Outcome::Committed;
const REFUSED: Outcome = Outcome::Rejected(Reason::Condition);

fn streets() -> Streets {
    Streets::of(&swarm().shape)
}

/// A list of the first group, and one of the second.
fn list(place: usize) -> Key {
    streets().key(place, Street::List, 0)
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes().to_vec()).unwrap()
}

fn append(place: usize, token: &str) -> Operation {
    Operation::Append(Put { key: list(place), value: value(token) })
}

fn get(place: usize) -> Operation {
    Operation::Get(list(place))
}

fn held(text: &str) -> Reply {
    Reply::Value(Some(value(text)))
}

const NOTHING: Reply = Reply::Value(None);
const DONE: Reply = Reply::Done(Nothing {});

impl Story {
    /// A transaction over groups is asked for; returns its identity.
    fn transacts(&mut self, id: u128, from: u64, conditions: Vec<Condition>, operations: Vec<Operation>) -> TxnId {
        let transaction = Transaction { id: TransferId(id), conditions, operations };
        let txn = transaction.txn(&self.swarm.shape.map);
        self.history.transact(from, txn, &transaction, true);
        txn
    }

    fn told(&mut self, txn: TxnId, at: u64, outcome: Outcome, replies: Option<Vec<Reply>>) -> &mut Story {
        self.history.answer_transaction(txn, TransactionAnswer { at, outcome, replayed: false, replies });
        self
    }

    /// A transaction that committed.
    fn did(&mut self, id: u128, from: u64, until: u64, operations: Vec<Operation>, replies: Vec<Reply>) -> TxnId {
        let txn = self.transacts(id, from, Vec::new(), operations);
        self.told(txn, until, COMMITTED, Some(replies));
        txn
    }

    fn asks(&mut self, from: u64, until: u64, operations: Vec<Operation>, replies: Vec<Reply>) -> &mut Story {
        self.history.queries.push(QueryRecord { operations, replies, invoked: from, completed: until });
        self
    }

    /// What a key holds at the end, on every replica of its group.
    fn holds(&mut self, key: &Key, text: &str) -> &mut Story {
        let group = self.swarm.shape.map.owner_of_key(key);
        for view in self.groups.get_mut(&group).unwrap() {
            view.keys.insert(key.clone(), value(text));
        }
        self
    }
}

fn fails(story: &Story, part: &str) {
    assert_eq!(story.found(), ["keys"]);
    let said = story.tell(&mut super::super::keys::Keys).unwrap_err();
    assert!(said.contains(part), "{said}");
}

fn passes(story: &Story) {
    assert_eq!(story.tell(&mut super::super::keys::Keys), Ok(()));
    assert_eq!(story.found(), Vec::<&str>::new());
}

/// Two lists, each appended to twice, in one order everywhere.
fn good() -> Story {
    let mut story = Story::new();
    story.did(1, 10, 20, vec![append(0, "aaaaaa"), get(1)], vec![Reply::Length(6), NOTHING]);
    story.did(2, 21, 30, vec![append(1, "bbbbbb"), append(0, "cccccc")], vec![Reply::Length(6), Reply::Length(12)]);
    story.holds(&list(0), "aaaaaacccccc").holds(&list(1), "bbbbbb");
    story
}

#[test]
fn what_has_a_serial_order_passes_answered_or_not() {
    let mut story = good();
    let unknown = story.transacts(3, 25, Vec::new(), vec![append(0, "dddddd")]);
    story.asks(31, 40, vec![get(0), get(1)], vec![held("aaaaaacccccc"), held("bbbbbb")]);
    passes(&story);
    story.holds(&list(0), "aaaaaaccccccdddddd");
    passes(&story);
    story.history.settle_transaction(50, unknown, COMMITTED);
    passes(&story);
}

#[test]
fn a_read_that_misses_what_was_answered_before_is_a_cycle() {
    let mut story = good();
    story.asks(31, 40, vec![get(0)], vec![held("aaaaaa")]);
    fails(&story, "no serial order");
}

#[test]
fn a_fractured_read_is_a_cycle() {
    let mut story = good();
    story.asks(15, 40, vec![get(0), get(1)], vec![held("aaaaaa"), held("bbbbbb")]);
    fails(&story, "no serial order");
}

#[test]
fn write_skew_is_a_cycle() {
    let mut story = Story::new();
    story.did(1, 10, 20, vec![get(1), append(0, "aaaaaa")], vec![NOTHING, Reply::Length(6)]);
    story.did(2, 10, 20, vec![get(0), append(1, "bbbbbb")], vec![NOTHING, Reply::Length(6)]);
    story.holds(&list(0), "aaaaaa").holds(&list(1), "bbbbbb");
    fails(&story, "no serial order");
}

#[test]
fn s2_a_condition_that_held_is_a_read() {
    let mut story = Story::new();
    let absent = |place| vec![Condition::Is(KeyIs { key: list(place), value: None })];
    for (id, place, token) in [(1, 0, "aaaaaa"), (2, 1, "bbbbbb")] {
        let txn = story.transacts(id, 10, absent(1 - place), vec![append(place, token)]);
        story.told(txn, 20, COMMITTED, Some(vec![Reply::Length(6)])).holds(&list(place), token);
    }
    fails(&story, "no serial order");
}

#[test]
fn s6_a_phantom_is_a_cycle() {
    let mut story = Story::new();
    let (from, to) = streets().range(0, Street::List);
    let scan = || Operation::Scan(Scan { from: from.clone(), to: Some(to.clone()), limit: 9 });
    story.did(1, 10, 20, vec![append(0, "aaaaaa"), append(1, "bbbbbb")], vec![Reply::Length(6), Reply::Length(6)]);
    story.holds(&list(0), "aaaaaa").holds(&list(1), "bbbbbb");
    let row = (list(0), value("aaaaaa"));
    story.asks(21, 30, vec![scan()], vec![Reply::Rows(Rows { rows: vec![row], next: None })]);
    passes(&story);
    story.asks(21, 30, vec![scan()], vec![Reply::Rows(Rows::default())]);
    fails(&story, "no serial order");
}

#[test]
fn tokens_that_nobody_meant_or_that_were_rejected_lost_or_doubled_are_found() {
    let mut story = good();
    story.holds(&list(0), "aaaaaaccccccxxxxxx");
    fails(&story, "never to be appended");
    let mut story = good();
    let rejected = story.transacts(3, 10, Vec::new(), vec![append(1, "dddddd")]);
    story.told(rejected, 20, Outcome::Rejected(Reason::Fenced), None).holds(&list(1), "bbbbbbdddddd");
    fails(&story, "what was rejected");
    fails(good().holds(&list(1), ""), "of 2 tokens");
    fails(good().holds(&list(0), "aaaaaaccccccaaaaaa"), "twice");
    let mut story = good();
    story.transacts(3, 10, Vec::new(), vec![append(0, "eeeeee"), append(1, "dddddd")]);
    story.holds(&list(1), "bbbbbbdddddd");
    fails(&story, "of 2 tokens");
}

#[test]
fn a_read_that_is_no_prefix_is_found_and_an_append_is_where_it_says() {
    let mut story = good();
    story.asks(31, 40, vec![get(0)], vec![held("cccccc")]);
    fails(&story, "never held");
    let mut story = Story::new();
    story.did(1, 10, 20, vec![append(0, "aaaaaa")], vec![Reply::Length(12)]);
    story.holds(&list(0), "aaaaaa");
    fails(&story, "was not 12 long");
}

#[test]
fn an_operation_does_not_read_what_it_writes_itself() {
    let mut story = Story::new();
    story.did(1, 10, 20, vec![append(0, "aaaaaa"), get(0)], vec![Reply::Length(6), held("aaaaaa")]);
    story.holds(&list(0), "aaaaaa");
    fails(&story, "what it wrote itself");
}

#[test]
fn answers_to_copies_say_the_same() {
    let mut story = good();
    let txn = story.did(3, 10, 20, vec![get(1)], vec![NOTHING]);
    story.told(txn, 25, COMMITTED, Some(vec![held("bbbbbb")]));
    fails(&story, "yielded different things");
    let mut story = good();
    let txn = story.did(3, 10, 20, vec![get(1)], vec![NOTHING]);
    story.history.settle_transaction(30, txn, Outcome::Rejected(Reason::Fenced));
    fails(&story, "in different ways");
    let mut story = good();
    let txn = story.did(3, 10, 20, vec![get(1)], vec![NOTHING]);
    let (at, outcome, replayed, replies) = (30, COMMITTED, true, None);
    story.history.answer_transaction(txn, TransactionAnswer { at, outcome, replayed, replies });
    fails(&story, "was forgotten");
}

#[test]
fn what_only_reads_in_one_group_is_read_anew_for_everyone_who_asks() {
    let mut story = good();
    let transaction = Transaction { id: TransferId(3), conditions: Vec::new(), operations: vec![get(1)] };
    let txn = transaction.txn(&story.swarm.shape.map);
    story.history.transact(5, txn, &transaction, false);
    story.told(txn, 12, COMMITTED, Some(vec![NOTHING])).told(txn, 40, COMMITTED, Some(vec![held("bbbbbb")]));
    passes(&story);
}

#[test]
fn a_rejection_has_a_reason_that_can_be() {
    let mut story = good();
    let txn = story.transacts(3, 10, Vec::new(), vec![append(0, "dddddd")]);
    story.told(txn, 20, REFUSED, None);
    fails(&story, "was not to be rejected so");
    let mut story = good();
    let key = streets().key(0, Street::Odd, 0);
    story.did(3, 10, 20, vec![Operation::Add(Add { key, delta: 1 })], vec![Reply::Number(1)]);
    fails(&story, "was to be rejected");
}

#[test]
fn a_condition_that_held_all_the_time_does_not_reject() {
    let is = |text| vec![Condition::Is(KeyIs { key: list(1), value: Some(value(text)) })];
    let mut story = good();
    let txn = story.transacts(3, 31, is("bbbbbb"), vec![append(0, "dddddd")]);
    story.told(txn, 40, REFUSED, None);
    fails(&story, "held all the time");
    let mut story = good();
    let txn = story.transacts(3, 29, is("bbbbbb"), vec![append(0, "dddddd")]);
    story.told(txn, 40, REFUSED, None);
    passes(&story);
}

#[test]
fn a_counter_has_what_was_added_to_it() {
    let key = streets().key(0, Street::Counter, 0);
    let add = || vec![Operation::Add(Add { key: key.clone(), delta: 1 })];
    let mut story = Story::new();
    story.did(1, 10, 20, add(), vec![Reply::Number(1)]);
    story.transacts(2, 10, Vec::new(), add());
    passes(story.holds(&key, "1"));
    passes(story.holds(&key, "2"));
    fails(story.holds(&key, "3"), "not from 1 to 2");
    story.did(3, 30, 40, add(), vec![Reply::Number(1)]);
    fails(story.holds(&key, "2"), "twice");
}

fn put_all(street: Street, text: &str) -> Vec<Operation> {
    let keys = streets().everywhere(street);
    keys.into_iter().map(|key| Operation::Put(Put { key, value: value(text) })).collect()
}

#[test]
fn one_value_takes_the_place_of_another_once() {
    let keys = streets().everywhere(Street::Chain);
    let is = |text: Option<&str>| vec![Condition::Is(KeyIs { key: keys[1].clone(), value: text.map(value) })];
    let mut story = Story::new();
    let first = story.transacts(1, 10, is(None), put_all(Street::Chain, "first."));
    let second = story.transacts(2, 20, is(Some("first.")), put_all(Street::Chain, "second"));
    story.told(first, 15, COMMITTED, Some(vec![DONE, DONE])).told(second, 25, COMMITTED, Some(vec![DONE, DONE]));
    for key in &keys {
        story.holds(key, "second");
    }
    passes(&story);
    let third = story.transacts(3, 20, is(Some("first.")), put_all(Street::Chain, "third."));
    passes(&story);
    story.told(third, 25, COMMITTED, Some(vec![DONE, DONE]));
    fails(&story, "not part of the chain");
}

#[test]
fn what_is_written_together_is_seen_together() {
    let keys = streets().everywhere(Street::Board);
    let mut story = Story::new();
    story.did(1, 10, 20, put_all(Street::Board, "first."), vec![DONE, DONE]);
    for key in &keys {
        story.holds(key, "first.");
    }
    passes(&story);
    let get = keys.iter().cloned().map(Operation::Get).collect();
    story.asks(11, 30, get, vec![held("first."), NOTHING]);
    fails(&story, "a mixture");
    let mut story = Story::new();
    story.did(1, 10, 20, put_all(Street::Board, "first."), vec![DONE, DONE]);
    fails(story.holds(&keys[0], "first."), "at the end: a mixture");
}

#[test]
fn a_ring_is_one_ring_and_numbers_that_are_exchanged_stay() {
    let ring = streets().spread(Street::Ring, RING);
    let mut story = Story::new();
    for (number, key) in ring.iter().enumerate() {
        story.holds(key, &((number + 1) % RING).to_string());
    }
    passes(&story);
    story.holds(&ring[0], "3");
    fails(&story, "the ring is broken");
    let seats = streets().spread(Street::Seat, SEATS);
    let mut story = Story::new();
    for (number, key) in seats.iter().enumerate() {
        story.holds(key, &number.to_string());
    }
    let swap = Swap { left: seats[0].clone(), right: seats[1].clone() };
    let swapped = Swapped { left: Some(value("1")), right: Some(value("0")) };
    story.did(1, 10, 20, vec![Operation::Swap(swap)], vec![Reply::Swapped(swapped)]);
    passes(&story);
    fails(story.holds(&seats[0], "1"), "lost or doubled");
}

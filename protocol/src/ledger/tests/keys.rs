//! Keys, conditions and transactions, within one group and between two.

use super::*;
use crate::ledger::QueryState;
use crate::ledger::model::{Balance, Flags};
use crate::ledger::operations::{
    Action, Add, Answered, BalanceIs, Condition, Key, KeyIs, Operation, Put, Reply, Rows, Scan, Swap, Swapped,
    Transaction, VALUE_LIMIT, Value,
};
use crate::ledger::output::TransactionResult;
use crate::message::operator::Nothing;
use crate::rng::Rng;
use crate::txn::replies_for_tests;

/// The `number`th key of a group, each in a part of its own.
pub(super) fn key_of(group: GroupId, number: usize) -> Key {
    let map = genesis(group, Limits::default()).map;
    let keys = (0..).map(|n| Key::new(format!("k{n}")).expect("a key"));
    keys.filter(|key| map.owner_of_key(key) == group).nth(number).expect("there is always another one")
}

fn value(text: &str) -> Value {
    Value::new(text.to_owned()).expect("a value")
}

pub(super) fn put(key: &Key, text: &str) -> Operation {
    Operation::Put(Put { key: key.clone(), value: value(text) })
}

fn get(key: &Key) -> Operation {
    Operation::Get(key.clone())
}

fn swap(left: &Key, right: &Key) -> Operation {
    Operation::Swap(Swap { left: left.clone(), right: right.clone() })
}

fn is(key: &Key, text: Option<&str>) -> Condition {
    Condition::Is(KeyIs { key: key.clone(), value: text.map(value) })
}

pub(super) fn at_least(account: u128, magnitude: u128) -> Condition {
    Condition::AtLeast(BalanceIs { account: AccountId(account), balance: Balance { negative: false, magnitude } })
}

pub(super) fn pay(debit: u128, credit: u128, amount: u128) -> Operation {
    Operation::Transfer(move_money(0, debit, credit, amount))
}

pub(super) fn of(id: u128, operations: &[Operation]) -> Transaction {
    when(id, &[], operations)
}

pub(super) fn when(id: u128, conditions: &[Condition], operations: &[Operation]) -> Transaction {
    let transaction =
        Transaction { id: TransferId(id), conditions: conditions.to_vec(), operations: operations.to_vec() };
    assert_eq!(transaction.fault(), None);
    transaction
}

pub(super) fn command(transaction: &Transaction) -> Command {
    Command::Client(ClientCommand {
        kind: CommandKind::Transaction,
        session: None,
        sequence: 0,
        deadline: LONG,
        epoch: Epoch(1),
        count: 1,
        body: to_vec(transaction).into(),
    })
}

pub(super) fn done(outputs: &[Output]) -> Option<&TransactionResult> {
    outputs.iter().find_map(|output| match output {
        Output::Client(output) => match &output.result {
            CommandResult::Transaction(result) => Some(result),
            _ => None,
        },
        _ => None,
    })
}

impl World {
    /// Carries out a transaction of this group; nothing if it waits.
    pub(super) fn transact(&mut self, transaction: &Transaction) -> Option<TransactionResult> {
        done(&self.one(command(transaction))).cloned()
    }

    pub(super) fn committed(&mut self, transaction: &Transaction) -> Vec<Reply> {
        let result = self.transact(transaction).expect("it does not wait");
        assert_eq!(result.result, COMMITTED);
        result.replies.expect("a commit says what it has yielded")
    }

    fn value(&self, key: &Key) -> Option<Value> {
        match self.ledger.query(&[get(key)]) {
            QueryState::Ready(found) => match &found[0].reply {
                Reply::Value(value) => value.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn holds(&self, key: &Key, text: Option<&str>) -> bool {
        self.value(key) == text.map(value)
    }
}

/// A transaction between the two groups, coordinated by the first.
pub(super) struct Over {
    pub(super) txn: TxnId,
    pub(super) participants: Vec<GroupId>,
    pub(super) action: Action,
    pub(super) number: u64,
    pub(super) counter: u64,
}

impl Over {
    pub(super) fn new(transaction: Transaction, counter: u64) -> Over {
        Over::of(Action::from(transaction), counter)
    }

    pub(super) fn of(action: Action, counter: u64) -> Over {
        let map = genesis(G1, Limits::default()).map;
        Over { txn: action.txn(&map), participants: action.participants(&map), action, number: counter, counter }
    }

    fn age(&self) -> Age {
        Age { counter: self.counter, id: self.txn.id }
    }

    pub(super) fn begin(&self) -> Command {
        let (txn, attempt, age) = (self.txn, attempt(self.number), self.age());
        let (participants, action) = (self.participants.clone(), self.action.clone());
        Command::Begin(Begin { txn, attempt, age, participants, action, deadline: LONG })
    }

    pub(super) fn prepare(&self) -> Command {
        let (txn, attempt, age) = (self.txn, attempt(self.number), self.age());
        let (participants, action) = (self.participants.clone(), self.action.clone());
        Command::Prepare(Prepare { txn, attempt, age, participants, action, deadline: LONG })
    }

    pub(super) fn decide(&self, verdict: Verdict, replies: Vec<Reply>) -> Command {
        Command::Decide(Decide { txn: self.txn, attempt: attempt(self.number), verdict, replies })
    }

    pub(super) fn resolve(&self, verdict: Verdict, values: Vec<Answered>) -> Command {
        Command::Resolve(Resolve { txn: self.txn, attempt: attempt(self.number), verdict, values })
    }

    /// Both groups vote yes; the replies.
    pub(super) fn prepare_both(&self, first: &mut World, second: &mut World) -> Vec<Reply> {
        let (one, other) = (voted(&first.one(self.begin())), voted(&second.one(self.prepare())));
        assert_eq!([one.0, other.0], [VoteKind::Yes, VoteKind::Yes]);
        let map = genesis(G1, Limits::default()).map;
        if self.action.transaction().is_none() {
            return Vec::new();
        }
        replies_for_tests(&self.action, &self.participants, [one.1, other.1], &map)
    }

    pub(super) fn commit(&self, first: &mut World, second: &mut World, replies: Vec<Reply>) {
        let values = crate::ledger::swapped_of(&replies);
        assert_eq!(decided(&first.one(self.decide(Verdict::Commit, replies))), Some(Verdict::Commit));
        assert!(is_resolved(&second.one(self.resolve(Verdict::Commit, values))));
    }
}

pub(super) fn voted(outputs: &[Output]) -> (VoteKind, Vec<Answered>) {
    let found = outputs.iter().find_map(|output| match output {
        Output::Txn(TxnOutput::Voted { vote, values, .. }) => Some((*vote, values.clone())),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no vote in {outputs:?}"))
}

pub(super) fn pair() -> (World, World) {
    (World::new(G1), World::new(G2))
}

#[test]
fn the_operations_on_keys_yield_what_they_do() {
    let mut world = World::new(G1);
    let (a, b) = (key_of(G1, 0), key_of(G1, 1));
    let append = |text: &str| Operation::Append(Put { key: a.clone(), value: value(text) });
    let add = |delta| Operation::Add(Add { key: b.clone(), delta });
    let done = Reply::Done(Nothing {});
    assert_eq!(world.committed(&of(1, &[put(&a, "x"), add(5)])), [done.clone(), Reply::Number(5)]);
    let replies = world.committed(&of(2, &[append("yz"), append("!"), add(-7), get(&a), get(&b)]));
    let before = |text| Reply::Value(Some(value(text)));
    // Reads see the state before, writes follow each other.
    assert_eq!(replies, [Reply::Length(3), Reply::Length(4), Reply::Number(-2), before("x"), before("5")]);
    assert!(world.holds(&a, Some("xyz!")) && world.holds(&b, Some("-2")));
    let (left, right) = (Some(value("xyz!")), Some(value("-2")));
    assert_eq!(world.committed(&of(3, &[swap(&a, &b)])), [Reply::Swapped(Swapped { left, right })]);
    assert!(world.holds(&a, Some("-2")) && world.holds(&b, Some("xyz!")));
    assert_eq!(world.committed(&of(4, &[Operation::Delete(a.clone()), put(&b, "")])), [done.clone(), done]);
    assert!(world.holds(&a, None) && world.holds(&b, Some("")));
    let swapped = Reply::Swapped(Swapped { left: None, right: Some(value("")) });
    assert_eq!(world.committed(&of(5, &[swap(&a, &b)])), [swapped]);
    assert!(world.holds(&a, Some("")) && world.holds(&b, None), "an absent key is swapped, too");
}

#[test]
fn what_a_write_cannot_do_rejects_the_whole_transaction() {
    let mut world = World::new(G1);
    let (a, b) = (key_of(G1, 0), key_of(G1, 1));
    let long = Value::new(vec![b'x'; VALUE_LIMIT]).expect("at the limit");
    world.committed(&of(1, &[put(&a, "no number"), Operation::Put(Put { key: b.clone(), value: long })]));
    let add = |key: &Key, delta| Operation::Add(Add { key: key.clone(), delta });
    let c = key_of(G1, 2);
    let cases = [
        (vec![put(&c, "1"), add(&a, 1)], Reason::NotANumber),
        (vec![put(&c, "1"), Operation::Append(Put { key: b.clone(), value: value("x") })], Reason::TooLarge),
        (vec![add(&c, i64::MAX), add(&c, 1)], Reason::Overflow),
        (vec![put(&c, "1"), pay(1, 2, 11)], Reason::ExceedsCredits),
        (vec![put(&c, "1"), pay(1, 3, 0)], Reason::ZeroAmount),
        (vec![put(&c, "1"), pay(1, 1, 1)], Reason::SameAccount),
        (vec![put(&c, "1"), pay(1, 105, 1)], Reason::NoSuchAccount),
        (vec![put(&c, "1"), Operation::Read(AccountId(105))], Reason::NoSuchAccount),
    ];
    for (id, (operations, reason)) in cases.iter().enumerate() {
        let transaction = of(10 + id as u128, operations);
        let result = world.transact(&transaction).expect("it does not wait");
        assert_eq!((result.result, result.replayed), (rejected(*reason), false), "{operations:?}");
        assert!(world.holds(&c, None), "{operations:?}: all or nothing");
        let again = world.transact(&transaction).expect("it does not wait");
        assert_eq!((again.result, again.replayed), (rejected(*reason), true), "a rejection is recorded");
    }
}

#[test]
fn a_transaction_takes_effect_once_and_a_copy_gets_the_same_replies() {
    let mut world = World::new(G1);
    let a = key_of(G1, 0);
    let add = of(1, &[Operation::Add(Add { key: a.clone(), delta: 1 })]);
    assert_eq!(world.committed(&add), [Reply::Number(1)]);
    world.committed(&of(2, &[Operation::Add(Add { key: a.clone(), delta: 1 })]));
    let again = world.transact(&add).expect("it does not wait");
    let replies = Some(vec![Reply::Number(1)]);
    assert_eq!(again, TransactionResult { result: COMMITTED, replayed: true, replies });
    let other = world.transact(&of(1, &[put(&a, "x")])).expect("it does not wait");
    assert_eq!(other.result, rejected(Reason::IdConflict));
    assert!(world.holds(&a, Some("2")));
}

#[test]
fn conditions_see_keys_and_balances_as_they_were() {
    let mut world = World::new(G1);
    let a = key_of(G1, 0);
    let attempt = |world: &mut World, id, conditions: &[Condition]| {
        let result = world.transact(&when(id, conditions, &[put(&a, "set"), pay(1, 2, 4)]));
        result.expect("it does not wait").result
    };
    assert_eq!(attempt(&mut world, 1, &[is(&a, Some("x"))]), rejected(Reason::Condition));
    assert_eq!(attempt(&mut world, 2, &[is(&a, None), at_least(1, 11)]), rejected(Reason::Condition));
    assert_eq!(attempt(&mut world, 3, &[is(&a, None), at_least(1, 10)]), COMMITTED);
    let not = |text: Option<&str>| Condition::IsNot(KeyIs { key: a.clone(), value: text.map(value) });
    assert_eq!(attempt(&mut world, 4, &[not(Some("set"))]), rejected(Reason::Condition));
    let below = Balance { negative: false, magnitude: 5 };
    let at_most = Condition::AtMost(BalanceIs { account: AccountId(1), balance: below });
    assert_eq!(attempt(&mut world, 5, &[not(None), at_most.clone()]), rejected(Reason::Condition));
    assert_eq!(attempt(&mut world, 6, &[not(None), at_least(1, 6)]), COMMITTED);
    assert_eq!(world.balance(1), 2);
    assert_eq!(world.transact(&when(7, &[at_most], &[])).expect("it does not wait").result, COMMITTED);
}

#[test]
fn an_account_gives_what_it_gets_in_the_same_transaction() {
    let mut world = World::new(G1);
    world.create(&[NewAccount {
        id: AccountId(101),
        ledger: 1,
        code: 1,
        flags: Flags::DEBITS_MUST_NOT_EXCEED_CREDITS,
    }]);
    world.committed(&of(1, &[pay(101, 2, 7), pay(1, 101, 7)]));
    assert_eq!((world.balance(101), world.balance(1), world.balance(2)), (0, 3, 17));
    let short = world.transact(&of(2, &[pay(101, 2, 3), pay(1, 101, 2)])).expect("it does not wait");
    assert_eq!(short.result, rejected(Reason::ExceedsCredits));
}

#[test]
fn a_scan_reads_its_part_in_order_and_says_where_to_go_on() {
    let mut world = World::new(G1);
    let map = genesis(G1, Limits::default()).map;
    let part =
        (0..).map(|n| format!("p{n}")).find(|part| map.owner_of_key(&Key::new(part.clone()).expect("a key")) == G1);
    let part = part.expect("some part is g1's");
    let key = |rest: &str| Key::new(format!("{part}{rest}")).expect("a key");
    let rows: Vec<Operation> = ["", "/b", "/a", "/c/d"].iter().map(|rest| put(&key(rest), rest)).collect();
    world.committed(&of(1, &rows));
    let scan = |from: &str, to: Option<&str>, limit| Operation::Scan(Scan { from: key(from), to: to.map(key), limit });
    let found = |world: &mut World, scan: Operation| match world.committed(&of(9, &[scan])).remove(0) {
        Reply::Rows(Rows { rows, next }) => {
            let texts = rows.iter().map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned());
            (texts.collect::<Vec<_>>(), next)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(found(&mut world, scan("", None, 10)).0, ["", "/a", "/b", "/c/d"]);
    assert_eq!(found(&mut world, scan("/a", Some("/c"), 10)).0, ["/a", "/b"]);
    let (texts, next) = found(&mut world, scan("", None, 2));
    assert_eq!((texts.len(), next), (2, Some(key("/b"))));
    assert_eq!(found(&mut world, scan("/b", None, 2)), (vec!["/b".to_owned(), "/c/d".to_owned()], None));
}

#[test]
fn s5_a_swap_between_groups_writes_what_was_read_under_its_locks() {
    let (mut g1, mut g2) = pair();
    let (a, x) = (key_of(G1, 0), key_of(G2, 0));
    g1.committed(&of(1, &[put(&a, "of g1")]));
    g2.committed(&of(2, &[put(&x, "of g2")]));
    let over = Over::new(of(3, &[swap(&a, &x)]), 1);
    let replies = over.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transact(&of(4, &[put(&a, "lost")])), None, "the key is locked from prepare to resolve");
    over.commit(&mut g1, &mut g2, replies);
    assert!(g2.holds(&x, Some("of g1")));
    assert!(g1.holds(&a, Some("lost")), "the put follows the swap");
}

#[test]
fn s5_a_decision_without_the_values_to_write_is_not_acknowledged() {
    let (mut g1, mut g2) = pair();
    let (a, x) = (key_of(G1, 0), key_of(G2, 0));
    let over = Over::new(of(3, &[swap(&a, &x)]), 1);
    let replies = over.prepare_both(&mut g1, &mut g2);
    assert!(!is_resolved(&g2.one(over.resolve(Verdict::Commit, Vec::new()))));
    over.commit(&mut g1, &mut g2, replies);
}

#[test]
fn s2_a_condition_locks_what_it_has_read_until_the_decision() {
    let (mut g1, mut g2) = pair();
    // Two transactions that would each be rejected after the other.
    let ta = Over::new(when(1, &[at_least(1, 10)], &[pay(11, 12, 10)]), 1);
    let replies = ta.prepare_both(&mut g1, &mut g2);
    // A debit of what was read must wait, and a younger prepare must die.
    assert_eq!(g1.transfer(move_money(9, 1, 2, 10)), None);
    let tb = Over::new(when(2, &[at_least(11, 10)], &[pay(1, 2, 10)]), 2);
    assert_eq!(voted(&g2.one(tb.begin())).0, VoteKind::Die);
    // It may be read by others meanwhile.
    let tc = Over::new(when(3, &[at_least(1, 1)], &[pay(13, 14, 1)]), 3);
    let more = tc.prepare_both(&mut g1, &mut g2);
    tc.commit(&mut g1, &mut g2, more);
    assert_eq!(g1.balance(1), 10);
    ta.commit(&mut g1, &mut g2, replies);
    assert_eq!((g1.balance(1), g2.balance(11)), (0, 0), "the debit follows the decision");
}

#[test]
fn s2_a_read_of_accounts_in_two_groups_sees_no_mixture() {
    let (mut g1, mut g2) = pair();
    let read = |account| Operation::Read(AccountId(account));
    let over = Over::new(of(1, &[read(1), read(11)]), 5);
    // T is in doubt at g2: the read waits there only if it is older, else it dies.
    assert_eq!(g2.prepare(move_money(7, 2, 11, 3), 7, 1), [VoteKind::Yes]);
    assert_eq!(voted(&g1.one(over.begin())).0, VoteKind::Yes);
    assert_eq!(voted(&g2.one(over.prepare())).0, VoteKind::Die);
    let older = Over::new(of(2, &[read(1), read(11)]), 0);
    assert_eq!(voted(&g1.one(older.begin())).0, VoteKind::Yes, "two may read it at once");
    assert!(votes(&g2.one(older.prepare())).is_empty(), "it waits for the younger one");
    let outputs = g2.resolve(move_money(7, 2, 11, 3), 7, Verdict::Commit);
    let (vote, values) = voted(&outputs);
    assert_eq!(vote, VoteKind::Yes);
    let Reply::Account(account) = &values[0].reply else { panic!("{values:?}") };
    assert_eq!(account.credits_posted, 13);
}

#[test]
fn s6_what_is_scanned_does_not_grow_before_the_decision() {
    let (mut g1, mut g2) = pair();
    let x = key_of(G2, 0);
    let below = Key::new([x.as_bytes(), b"/new"].concat()).expect("a key");
    let scan = Operation::Scan(Scan { from: x.clone(), to: None, limit: 10 });
    let over = Over::new(of(1, &[put(&key_of(G1, 0), "1"), scan.clone()]), 1);
    let replies = over.prepare_both(&mut g1, &mut g2);
    assert_eq!(g2.transact(&of(2, &[put(&below, "phantom")])), None, "an absent key of the range is locked");
    assert!(g2.transact(&of(3, &[put(&key_of(G2, 1), "elsewhere")])).is_some());
    over.commit(&mut g1, &mut g2, replies);
    assert!(g2.holds(&below, Some("phantom")));
    // The other way round: a scan waits for what may be inserted.
    let insert = Over::new(of(4, &[put(&key_of(G1, 0), "2"), Operation::Delete(below.clone())]), 2);
    let replies = insert.prepare_both(&mut g1, &mut g2);
    assert_eq!(g2.transact(&of(5, std::slice::from_ref(&scan))), None);
    assert_eq!(g2.ledger.query(&[scan]), QueryState::InDoubt);
    insert.commit(&mut g1, &mut g2, replies);
    assert!(g2.holds(&below, None));
}

#[test]
fn l1_l2_a_prepare_waits_for_younger_ones_only_and_never_for_one_group_operations() {
    let (mut g1, mut g2) = pair();
    let (a, x) = (key_of(G1, 0), key_of(G2, 0));
    let over = |id, counter| Over::new(of(id, &[put(&a, "v"), put(&x, "v")]), counter);
    let holder = over(1, 5);
    let replies = holder.prepare_both(&mut g1, &mut g2);
    let local = of(2, &[put(&x, "local")]);
    assert_eq!(g2.transact(&local), None);
    // Older than what is prepared, but the one-group operation that waits is older still than this one.
    let counter = g2.ledger.counter();
    assert_eq!(voted(&g2.one(over(3, counter + 1).prepare())).0, VoteKind::Die);
    let elder = over(4, 1);
    assert!(votes(&g2.one(elder.prepare())).is_empty(), "older than all: it waits");
    assert_eq!(
        voted(&g2.one(over(5, 3).prepare())).0,
        VoteKind::Die,
        "it is older than the holder, not than who waits"
    );
    holder.commit(&mut g1, &mut g2, replies);
    assert!(!g2.holds_now(&x), "the elder is granted before the one-group operation");
    let outputs = g2.one(elder.resolve(Verdict::Abort, Vec::new()));
    assert!(is_resolved(&outputs));
    assert!(done(&outputs).is_some_and(|done| done.result == COMMITTED), "then it is the waiter's turn");
    assert!(g2.holds(&x, Some("local")));
}

impl World {
    fn holds_now(&self, key: &Key) -> bool {
        matches!(self.ledger.query(&[get(key)]), QueryState::Ready(_))
    }
}

#[test]
fn a_waiting_transaction_expires_and_a_copy_attaches_to_it() {
    let (mut g1, mut g2) = pair();
    let (a, x) = (key_of(G1, 0), key_of(G2, 0));
    let over = Over::new(of(1, &[put(&a, "v"), put(&x, "v")]), 1);
    let replies = over.prepare_both(&mut g1, &mut g2);
    let append = of(2, &[Operation::Append(Put { key: x.clone(), value: value("!") })]);
    assert_eq!(g2.transact(&append), None);
    assert_eq!(g2.transact(&append), None, "s16: a copy waits with it");
    over.commit(&mut g1, &mut g2, replies);
    assert!(g2.holds(&x, Some("v!")), "once");
    let over = Over::new(of(3, &[put(&a, "w"), put(&x, "w")]), 3);
    over.prepare_both(&mut g1, &mut g2);
    let late = of(4, &[put(&x, "late")]);
    assert_eq!(g2.transact(&late), None);
    g2.time += LONG.0 + 1;
    let outputs = g2.run(Vec::new());
    assert_eq!(done(&outputs).map(|done| done.result), Some(TransferResult::Retry), "that is no outcome");
}

#[test]
fn a11_a_transfer_of_a_transaction_has_taken_effect_under_its_own_id_too() {
    let (mut g1, mut g2) = pair();
    let inner = Operation::Transfer(move_money(77, 1, 2, 3));
    g1.committed(&of(1, std::slice::from_ref(&inner)));
    assert_eq!(g1.ledger.outcome(TxnId::from(&move_money(77, 1, 2, 3))), Some(Outcome::Committed));
    assert_eq!(g1.transfer(move_money(77, 1, 2, 3)), Some(COMMITTED));
    assert_eq!(g1.balance(1), 7, "it is known");
    let again = g1.transact(&of(2, &[inner])).expect("it does not wait");
    assert_eq!((again.result, g1.balance(1)), (rejected(Reason::IdConflict), 7));
    // While it is in doubt, its id is under way.
    let over = Over::new(of(3, &[Operation::Transfer(move_money(78, 1, 11, 2))]), 1);
    let replies = over.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transfer(move_money(78, 1, 2, 2)), Some(TransferResult::Retry));
    let fenced = g1.one(fence(move_money(78, 1, 2, 2)));
    assert!(!fenced.is_empty() && g1.ledger.outcome(TxnId::from(&move_money(78, 1, 2, 2))).is_none());
    over.commit(&mut g1, &mut g2, replies);
    assert_eq!(g1.transfer(move_money(78, 1, 2, 2)), Some(rejected(Reason::IdConflict)));
    assert_eq!((g1.balance(1), g2.balance(11)), (5, 12));
}

#[test]
fn a_vote_is_repeated_with_the_same_values() {
    let (mut g1, mut g2) = pair();
    let (a, x) = (key_of(G1, 0), key_of(G2, 0));
    g2.committed(&of(1, &[put(&x, "before")]));
    let add = Operation::Append(Put { key: x.clone(), value: value("+") });
    let over = Over::new(of(2, &[put(&a, "v"), get(&x), add]), 1);
    g1.one(over.begin());
    let first = voted(&g2.one(over.prepare()));
    assert_eq!(first, voted(&g2.one(over.prepare())));
    assert_eq!(first.1.len(), 2);
}

#[test]
fn a_read_of_keys_and_accounts_has_versions_that_every_change_moves() {
    let (mut g1, mut g2) = pair();
    let (a, x) = (key_of(G1, 0), key_of(G2, 0));
    let what = [get(&a), Operation::Read(AccountId(1))];
    let look = |world: &World| match world.ledger.query(&what) {
        QueryState::Ready(found) => found,
        other => panic!("{other:?}"),
    };
    let first = look(&g1);
    g1.committed(&of(1, &[put(&key_of(G1, 1), "another"), pay(3, 4, 1)]));
    assert_eq!(look(&g1), first, "nothing of it has changed");
    g1.committed(&of(2, &[put(&a, "v")]));
    g1.committed(&of(3, &[Operation::Delete(a.clone())]));
    let second = look(&g1);
    assert_eq!(second[0].reply, first[0].reply);
    assert_ne!(second[0].version, first[0].version, "it was another in between");
    let over = Over::new(of(4, &[put(&a, "w"), put(&x, "w")]), 1);
    over.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.ledger.query(&what), QueryState::InDoubt);
    g1.one(over.decide(Verdict::Abort, Vec::new()));
    assert_ne!(look(&g1)[0].version, second[0].version, "it was in doubt in between");
    assert_eq!(g1.ledger.query(&[get(&x)]), QueryState::Moved);
}

/// Drives transactions over both groups to their ends, in a random order of steps.
struct Driver {
    worlds: [World; 2],
    rng: Rng,
    open: Vec<Running>,
    counter: u64,
    committed: usize,
}

struct Running {
    over: Over,
    votes: [Option<(VoteKind, Vec<Answered>)>; 2],
    sent: [bool; 2],
}

impl Driver {
    fn world(&mut self, group: GroupId) -> &mut World {
        &mut self.worlds[usize::from(group.0) - 1]
    }

    fn start(&mut self, transaction: Transaction) {
        self.counter += 1;
        let over = Over::new(transaction, self.counter);
        assert_eq!(over.participants.len(), 2);
        self.open.push(Running { over, votes: [None, None], sent: [false; 2] });
    }

    fn take_votes(&mut self, outputs: &[Output], place_of: impl Fn(&Running) -> usize) {
        for output in outputs {
            let Output::Txn(TxnOutput::Voted { txn, vote, values, .. }) = output else { continue };
            if let Some(running) = self.open.iter_mut().find(|running| running.over.txn == *txn) {
                let place = place_of(running);
                running.votes[place] = Some((*vote, values.clone()));
            }
        }
    }

    /// One step of one transaction, drawn at random.
    fn step(&mut self) {
        let index = self.rng.below(self.open.len() as u64) as usize;
        let place = self.rng.below(2) as usize;
        let running = &mut self.open[index];
        let group = running.over.participants[place];
        if !running.sent[place] {
            running.sent[place] = true;
            let command = if place == 0 { running.over.begin() } else { running.over.prepare() };
            let outputs = self.world(group).one(command);
            return self.take_votes(&outputs, |running| usize::from(running.over.participants[0] != group));
        }
        if running.votes.iter().flatten().any(|(vote, _)| *vote != VoteKind::Yes) {
            return self.end(index, None);
        }
        let [Some(first), Some(second)] = running.votes.clone() else { return };
        let map = genesis(G1, Limits::default()).map;
        let replies = replies_for_tests(&running.over.action, &running.over.participants, [first.1, second.1], &map);
        self.end(index, Some(replies));
    }

    fn end(&mut self, index: usize, replies: Option<Vec<Reply>>) {
        let running = self.open.swap_remove(index);
        let verdict = if replies.is_some() { Verdict::Commit } else { Verdict::Abort };
        self.committed += usize::from(replies.is_some());
        let replies = replies.unwrap_or_default();
        let values = crate::ledger::swapped_of(&replies);
        let over = running.over;
        for (place, group) in over.participants.clone().into_iter().enumerate() {
            if !running.sent[place] {
                continue;
            }
            let command =
                if place == 0 { over.decide(verdict, replies.clone()) } else { over.resolve(verdict, values.clone()) };
            let outputs = self.world(group).one(command);
            self.take_votes(&outputs, |running| usize::from(running.over.participants[0] != group));
        }
    }
}

/// The cycle of FoundationDB's tests: keys form a ring, and transactions rewire three successors, by what they have
/// read before; whatever is interleaved, the ring stays whole.
#[test]
fn a_ring_over_two_groups_stays_whole_under_random_interleavings() {
    const LENGTH: usize = 8;
    for seed in 0..40 {
        let keys: Vec<Key> = (0..LENGTH).map(|n| key_of(if n % 2 == 0 { G1 } else { G2 }, n / 2)).collect();
        let worlds = [World::new(G1), World::new(G2)];
        let mut driver = Driver { worlds, rng: Rng::new(seed), open: Vec::new(), counter: 0, committed: 0 };
        for (n, key) in keys.iter().enumerate() {
            let group = if n % 2 == 0 { G1 } else { G2 };
            let next = ((n + 1) % LENGTH).to_string();
            driver.world(group).committed(&of(1000 + n as u128, &[put(key, &next)]));
        }
        let next = |driver: &Driver, n: usize| {
            let found = driver.worlds[n % 2].ledger.query(&[get(&keys[n])]);
            let QueryState::Ready(found) = found else { return None };
            let Reply::Value(Some(value)) = &found[0].reply else { panic!("{found:?}") };
            value.number().map(|number| number as usize)
        };
        for id in 0..300u128 {
            let first = driver.rng.below(LENGTH as u64) as usize;
            let ring = (|| {
                let second = next(&driver, first)?;
                let third = next(&driver, second)?;
                Some((second, third, next(&driver, third)?))
            })();
            if let Some((second, third, fourth)) = ring {
                let number = |n: usize| n.to_string();
                let link = |from: usize, to: usize| is(&keys[from], Some(&number(to)));
                let rewire = |from: usize, to: usize| put(&keys[from], &number(to));
                let transaction = when(
                    id,
                    &[link(first, second), link(second, third), link(third, fourth)],
                    &[rewire(first, third), rewire(third, second), rewire(second, fourth)],
                );
                let map = genesis(G1, Limits::default()).map;
                if transaction.participants(&map).len() == 2 {
                    driver.start(transaction);
                }
            }
            for _ in 0..driver.rng.below(6) {
                if !driver.open.is_empty() {
                    driver.step();
                }
            }
        }
        while !driver.open.is_empty() {
            driver.step();
        }
        let mut seen = vec![0];
        while seen.len() <= LENGTH {
            let at = seen[seen.len() - 1];
            seen.push(next(&driver, at).expect("nothing is in doubt at the end"));
        }
        let mut sorted = seen[..LENGTH].to_vec();
        sorted.sort_unstable();
        assert_eq!((seen[LENGTH], sorted), (0, (0..LENGTH).collect()), "seed {seed}: {seen:?}");
        assert!(driver.committed > 20, "seed {seed}: only {} committed", driver.committed);
    }
}

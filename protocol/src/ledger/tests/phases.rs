//! Two-phase transfers, chains, limits both ways, and closed accounts.

use super::keys::{Over, command, done, of, pair, pay, voted};
use super::*;
use crate::ledger::model::{Account, Flags, PendingState};
use crate::ledger::operations::{Action, Expire, Operation, Pend, PostPending, Transaction, VoidPending};

const FOR_EVER: Span = Span(0);

/// A pending transfer by itself, under its own id.
fn pend(id: u128, debit: u128, credit: u128, amount: u128, timeout: Span) -> Transaction {
    of(id, &[Operation::Pend(Pend { transfer: move_money(id, debit, credit, amount), timeout })])
}

fn post(id: u128, pending: (u128, u128, u128), amount: Option<u128>) -> Transaction {
    let (pending, debit, credit) = (TransferId(pending.0), AccountId(pending.1), AccountId(pending.2));
    of(id, &[Operation::Post(PostPending { id: TransferId(id), pending, debit, credit, amount })])
}

fn void(id: u128, pending: (u128, u128, u128)) -> Transaction {
    let (pending, debit, credit) = (TransferId(pending.0), AccountId(pending.1), AccountId(pending.2));
    of(id, &[Operation::Void(VoidPending { id: TransferId(id), pending, debit, credit })])
}

fn close(id: u128, account: u128) -> Transaction {
    of(id, &[Operation::Close(AccountId(account))])
}

fn open(id: u128, account: u128) -> Transaction {
    of(id, &[Operation::Open(AccountId(account))])
}

/// A transfer of a chain, with an id of its own.
fn member(id: u128, debit: u128, credit: u128, amount: u128) -> Operation {
    Operation::Transfer(move_money(id, debit, credit, amount))
}

impl World {
    fn account(&self, account: u128) -> Account {
        let super::super::Whereabouts::Here(place) = self.ledger.accounts.whereabouts(AccountId(account)) else {
            panic!("account {account} is not here");
        };
        self.ledger.accounts.row(place).account
    }

    /// Debits pending and posted, credits pending and posted.
    fn totals_of(&self, account: u128) -> [u128; 4] {
        let it = self.account(account);
        [it.debits_pending, it.debits_posted, it.credits_pending, it.credits_posted]
    }

    fn result(&mut self, transaction: &Transaction) -> TransferResult {
        self.transact(transaction).expect("it does not wait").result
    }

    fn state(&self, id: u128, debit: u128) -> Option<PendingState> {
        let txn = TxnId { id: TransferId(id), first: AccountId(debit) };
        self.ledger.pending(txn).map(|pending| pending.state)
    }

    /// An entry without commands at this time.
    fn wait_until(&mut self, time: u64) -> Vec<Output> {
        self.time = time;
        self.run([])
    }
}

fn due(outputs: &[Output]) -> Vec<Expire> {
    let one = |output: &Output| match output {
        Output::Txn(TxnOutput::Due(expire)) => Some(*expire),
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

fn new(id: u128, flags: Flags) -> NewAccount {
    NewAccount { id: AccountId(id), ledger: 1, code: 1, flags }
}

#[test]
fn a_pending_transfer_reserves_and_its_end_posts_or_releases() {
    let mut world = World::new(G1);
    for id in 1..=3 {
        assert_eq!(world.result(&pend(id, 1, 2, 3, FOR_EVER)), COMMITTED);
    }
    assert_eq!((world.totals_of(1), world.totals_of(2)), ([9, 0, 0, 10], [0, 0, 9, 10]));
    assert_eq!(world.result(&post(11, (1, 1, 2), None)), COMMITTED);
    assert_eq!((world.totals_of(1), world.totals_of(2)), ([6, 3, 0, 10], [0, 0, 6, 13]));
    assert_eq!(world.result(&post(12, (2, 1, 2), Some(1))), COMMITTED);
    assert_eq!((world.totals_of(1), world.totals_of(2)), ([3, 4, 0, 10], [0, 0, 3, 14]));
    assert_eq!(world.result(&void(13, (3, 1, 2))), COMMITTED);
    assert_eq!((world.totals_of(1), world.totals_of(2)), ([0, 4, 0, 10], [0, 0, 0, 14]));
    let states = [1, 2, 3].map(|id| world.state(id, 1));
    assert_eq!(states, [PendingState::Posted, PendingState::Posted, PendingState::Voided].map(Some));
    let posted: Vec<(u128, u128)> =
        world.ledger.posted.from(0).map(|row| (row.posted.transfer.id.0, row.posted.transfer.amount)).collect();
    assert_eq!(posted, [(11, 3), (12, 1)], "what is posted appears under the id of the posting");
}

#[test]
fn a_pending_transfer_ends_once_and_every_wrong_end_has_its_reason() {
    let mut world = World::new(G1);
    for (id, credit) in [(1, 2), (2, 2), (3, 2), (4, 2)] {
        assert_eq!(world.result(&pend(id, 1, credit, 2, FOR_EVER)), COMMITTED);
    }
    assert_eq!(world.result(&post(11, (1, 1, 2), None)), COMMITTED);
    assert_eq!(world.result(&void(12, (2, 1, 2))), COMMITTED);
    let cases = [
        (post(21, (1, 1, 2), None), Reason::PendingAlreadyPosted),
        (void(22, (1, 1, 2)), Reason::PendingAlreadyPosted),
        (post(23, (2, 1, 2), None), Reason::PendingAlreadyVoided),
        (void(24, (2, 1, 2)), Reason::PendingAlreadyVoided),
        (post(25, (9, 1, 2), None), Reason::PendingNotFound),
        (void(26, (3, 2, 1)), Reason::PendingNotFound),
        (void(27, (3, 105, 2)), Reason::PendingNotFound),
        (post(28, (3, 1, 3), None), Reason::PendingDifferentAccounts),
        (post(29, (3, 1, 2), Some(3)), Reason::ExceedsPendingAmount),
        (post(30, (3, 1, 2), Some(0)), Reason::ZeroAmount),
    ];
    let before = (world.totals_of(1), world.totals_of(2));
    for (ending, reason) in &cases {
        assert_eq!(world.result(ending), rejected(*reason), "{ending:?}");
        let again = world.transact(ending).expect("it does not wait");
        assert_eq!((again.result, again.replayed), (rejected(*reason), true), "a rejection is recorded");
    }
    assert_eq!((world.totals_of(1), world.totals_of(2)), before);
    assert_eq!(world.result(&post(31, (3, 1, 2), Some(2))), COMMITTED, "all that is pending");
    assert_eq!(world.result(&post(32, (4, 1, 2), Some(1))), COMMITTED);
    let again = world.transact(&post(32, (4, 1, 2), Some(1))).expect("it does not wait");
    assert_eq!((again.result, again.replayed), (COMMITTED, true), "and a posting takes effect once");
    assert_eq!(world.balance(1), 5);
}

#[test]
fn a_pending_transfer_is_checked_like_a_transfer() {
    let mut world = World::new(G1);
    let cases = [
        (pend(1, 1, 1, 2, FOR_EVER), Reason::SameAccount),
        (pend(2, 1, 2, 0, FOR_EVER), Reason::ZeroAmount),
        (pend(3, 1, 105, 1, FOR_EVER), Reason::NoSuchAccount),
        (pend(4, 1, 2, 11, FOR_EVER), Reason::ExceedsCredits),
    ];
    for (pending, reason) in &cases {
        assert_eq!(world.result(pending), rejected(*reason));
    }
    assert_eq!(world.result(&pend(5, 1, 2, 10, FOR_EVER)), COMMITTED, "the limit");
    assert_eq!(world.result(&pend(6, 1, 2, 1, FOR_EVER)), rejected(Reason::ExceedsCredits), "one past it");
    assert_eq!(world.transfer(move_money(7, 2, 3, 11)), Some(rejected(Reason::ExceedsCredits)), "it is not there yet");
    assert_eq!(world.transfer(move_money(5, 1, 2, 10)), Some(rejected(Reason::IdConflict)), "one id, two things");
    assert_eq!(world.result(&pend(5, 1, 2, 9, FOR_EVER)), rejected(Reason::IdConflict));
}

#[test]
fn totals_have_room_for_what_is_pending() {
    let mut world = World::new(G1);
    world.create(&[new(101, Flags::NONE), new(102, Flags::NONE)]);
    assert_eq!(world.result(&pend(1, 101, 102, u128::MAX - 5, FOR_EVER)), COMMITTED);
    assert_eq!(world.result(&pend(2, 101, 102, 6, FOR_EVER)), rejected(Reason::Overflow));
    assert_eq!(world.transfer(move_money(3, 101, 102, 6)), Some(rejected(Reason::Overflow)));
    assert_eq!(world.result(&pend(4, 101, 102, 5, FOR_EVER)), COMMITTED);
    assert_eq!(world.result(&post(5, (1, 101, 102), None)), COMMITTED, "a posting needs no room");
    assert_eq!(world.result(&post(6, (4, 101, 102), None)), COMMITTED);
    assert_eq!(world.totals_of(101), [0, u128::MAX, 0, 0]);
}

#[test]
fn limits_hold_both_ways_for_what_is_pending() {
    let mut world = World::new(G1);
    world.create(&[new(101, Flags::CREDITS_MUST_NOT_EXCEED_DEBITS)]);
    assert_eq!(world.result(&pend(1, 1, 101, 1, FOR_EVER)), rejected(Reason::ExceedsDebits));
    assert_eq!(world.result(&pend(2, 101, 2, 4, FOR_EVER)), COMMITTED);
    assert_eq!(
        world.result(&pend(3, 1, 101, 1, FOR_EVER)),
        rejected(Reason::ExceedsDebits),
        "only posted debits count"
    );
    assert_eq!(world.result(&post(4, (2, 101, 2), None)), COMMITTED);
    assert_eq!(world.result(&pend(5, 1, 101, 4, FOR_EVER)), COMMITTED, "the limit");
    assert_eq!(world.result(&pend(6, 1, 101, 1, FOR_EVER)), rejected(Reason::ExceedsDebits), "one past it");
    assert_eq!(world.result(&void(7, (5, 1, 101))), COMMITTED);
    assert_eq!(world.transfer(move_money(8, 1, 101, 4)), Some(COMMITTED));
}

#[test]
fn a_pending_transfer_expires_by_log_time_at_the_beginning_of_an_entry() {
    let mut world = World::new(G1);
    world.time = 100;
    assert_eq!(world.result(&pend(1, 1, 2, 4, Span(50))), COMMITTED);
    assert_eq!(world.result(&pend(2, 1, 2, 4, Span(51))), COMMITTED);
    assert_eq!(world.ledger.next_expiry(), Some(LogTime(150)));
    world.wait_until(149);
    assert_eq!(world.totals_of(1), [8, 0, 0, 10]);
    world.time = 150;
    assert_eq!(world.result(&post(3, (1, 1, 2), None)), rejected(Reason::PendingExpired), "its time is over");
    assert_eq!(world.result(&void(4, (1, 1, 2))), rejected(Reason::PendingExpired));
    assert_eq!((world.totals_of(1), world.totals_of(2)), ([4, 0, 0, 10], [0, 0, 4, 10]));
    assert_eq!(world.result(&post(5, (2, 1, 2), None)), COMMITTED, "one tick before its end");
    world.wait_until(1000);
    assert_eq!((world.state(1, 1), world.state(2, 1)), (Some(PendingState::Expired), Some(PendingState::Posted)));
    assert_eq!(world.ledger.next_expiry(), None);
}

#[test]
fn a_release_lets_in_who_waits_for_it_and_a_doubtful_one_only_after_its_decision() {
    let (mut g1, mut g2) = pair();
    let reserve = Over::new(pend(1, 1, 11, 8, FOR_EVER), 1);
    let replies = reserve.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transfer(move_money(2, 1, 2, 3)), None, "a reservation in doubt is taken in one case");
    assert_eq!(g1.transfer(move_money(3, 1, 2, 11)), Some(rejected(Reason::ExceedsCredits)), "not even without it");
    reserve.commit(&mut g1, &mut g2, replies);
    assert_eq!(
        g1.ledger.outcome(TxnId { id: TransferId(2), first: AccountId(1) }),
        Some(Outcome::Rejected(Reason::ExceedsCredits))
    );
    let release = Over::new(void(4, (1, 1, 11)), 2);
    let replies = release.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transfer(move_money(5, 1, 2, 3)), None, "a release in doubt gives in one case");
    release.commit(&mut g1, &mut g2, replies);
    assert_eq!((g1.balance(1), g1.totals_of(1)[0], g2.totals_of(11)), (7, 0, [0, 0, 0, 10]));
}

#[test]
fn over_groups_both_rows_end_by_one_decision() {
    let (mut g1, mut g2) = pair();
    for (counter, id) in [(1, 1), (2, 2)] {
        let reserve = Over::new(pend(id, 1, 11, 4, FOR_EVER), counter);
        let replies = reserve.prepare_both(&mut g1, &mut g2);
        reserve.commit(&mut g1, &mut g2, replies);
    }
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([8, 0, 0, 10], [0, 0, 8, 10]));
    let posting = Over::new(post(3, (1, 1, 11), Some(3)), 3);
    let replies = posting.prepare_both(&mut g1, &mut g2);
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([8, 0, 0, 10], [0, 0, 8, 10]), "nothing before the decision");
    posting.commit(&mut g1, &mut g2, replies);
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([4, 3, 0, 10], [0, 0, 4, 13]));
    let late = Over::new(void(4, (1, 1, 11)), 4);
    assert_eq!(voted(&g1.one(late.begin())).0, VoteKind::No(Reason::PendingAlreadyPosted));
    assert_eq!(voted(&g2.one(late.prepare())).0, VoteKind::No(Reason::PendingAlreadyPosted));
    let reason = Verdict::Reject(Reason::PendingAlreadyPosted);
    g1.one(late.decide(reason, Vec::new()));
    let wrong = Over::new(void(5, (2, 1, 12)), 5);
    assert_eq!(voted(&g1.one(wrong.begin())).0, VoteKind::No(Reason::PendingDifferentAccounts));
    assert_eq!(voted(&g2.one(wrong.prepare())).0, VoteKind::No(Reason::PendingDifferentAccounts));
    let unknown = Over::new(void(6, (7, 1, 11)), 6);
    assert_eq!(voted(&g2.one(unknown.prepare())).0, VoteKind::No(Reason::PendingNotFound));
    for (id, world) in [(1, &g1), (1, &g2)] {
        assert_eq!(world.state(id, 1), Some(PendingState::Posted));
    }
    let totals = |world: &World| world.ledger.totals().ledgers[0];
    let (one, other) = (totals(&g1), totals(&g2));
    assert_eq!((one.debits_pending, one.credits_pending, other.debits_pending, other.credits_pending), (4, 0, 0, 4));
}

#[test]
fn an_end_that_overtakes_the_beginning_in_the_other_group_waits_for_it() {
    let (mut g1, mut g2) = pair();
    let reserve = Over::new(pend(1, 1, 11, 4, FOR_EVER), 5);
    let replies = reserve.prepare_both(&mut g1, &mut g2);
    assert_eq!(decided(&g1.one(reserve.decide(Verdict::Commit, replies))), Some(Verdict::Commit));
    // The client has its answer and posts; the decision is not yet known in the other group.
    let younger = Over::new(post(2, (1, 1, 11), None), 6);
    assert_eq!(voted(&g1.one(younger.begin())).0, VoteKind::Yes);
    assert_eq!(voted(&g2.one(younger.prepare())).0, VoteKind::Die, "it must not wait for an older one, nor be told no");
    g1.one(younger.decide(Verdict::Abort, Vec::new()));
    g2.one(younger.resolve(Verdict::Abort, Vec::new()));
    let older = Over::new(post(3, (1, 1, 11), None), 4);
    let one = voted(&g1.one(older.begin()));
    assert_eq!(votes(&g2.one(older.prepare())), [], "an older one waits");
    let outputs = g2.one(reserve.resolve(Verdict::Commit, Vec::new()));
    assert_eq!((one.0, votes(&outputs)), (VoteKind::Yes, vec![VoteKind::Yes]));
    older.commit(&mut g1, &mut g2, vec![crate::ledger::operations::Reply::Done(crate::message::operator::Nothing {})]);
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([0, 4, 0, 10], [0, 0, 0, 14]));
}

/// A pending transfer of 4 from 1 to 11, for 100 from time 0 on, known in both groups.
fn timed() -> (World, World) {
    let (mut g1, mut g2) = pair();
    let reserve = Over::new(pend(1, 1, 11, 4, Span(100)), 1);
    let replies = reserve.prepare_both(&mut g1, &mut g2);
    reserve.commit(&mut g1, &mut g2, replies);
    (g1, g2)
}

#[test]
fn over_groups_the_debit_side_says_when_and_both_end_together() {
    let (mut g1, mut g2) = timed();
    assert_eq!(due(&g1.wait_until(99)), []);
    let expire = due(&g1.wait_until(100))[..].to_vec();
    assert_eq!(expire.len(), 1);
    assert_eq!(due(&g2.wait_until(100_000_000)), [], "the other group's time says nothing");
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([4, 0, 0, 10], [0, 0, 4, 10]), "it is held until the decision");
    let late = Over::new(post(2, (1, 1, 11), None), 2);
    assert_eq!(voted(&g1.one(late.begin())).0, VoteKind::No(Reason::PendingExpired), "but nobody can post it any more");
    assert_eq!(voted(&g2.one(late.prepare())).0, VoteKind::Yes, "the debit account's group judges");
    g1.one(late.decide(Verdict::Reject(Reason::PendingExpired), Vec::new()));
    g2.one(late.resolve(Verdict::Reject(Reason::PendingExpired), Vec::new()));
    let end = Over::of(Action::Expire(expire[0]), 3);
    assert_eq!(end.prepare_both(&mut g1, &mut g2), []);
    end.commit(&mut g1, &mut g2, Vec::new());
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([0, 0, 0, 10], [0, 0, 0, 10]));
    assert_eq!((g1.state(1, 1), g2.state(1, 1)), (Some(PendingState::Expired), Some(PendingState::Expired)));
    assert_eq!(due(&g1.wait_until(100_000_000)), []);
}

#[test]
fn a_posting_in_doubt_is_decided_before_the_time_that_passes_meanwhile() {
    let (mut g1, mut g2) = timed();
    g1.time = 99;
    let posting = Over::new(post(2, (1, 1, 11), None), 2);
    let replies = posting.prepare_both(&mut g1, &mut g2);
    let expire = due(&g1.wait_until(500));
    let end = Over::of(Action::Expire(expire[0]), 3);
    assert_eq!(voted(&g1.one(end.begin())).0, VoteKind::Die, "what is prepared is held");
    g1.one(end.decide(Verdict::Abort, Vec::new()));
    posting.commit(&mut g1, &mut g2, replies);
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([0, 4, 0, 10], [0, 0, 0, 14]));
    assert_eq!(due(&g1.wait_until(100_000_000)), []);
    let again = Over { number: 9, ..end };
    assert_eq!(voted(&g1.one(again.begin())).0, VoteKind::No(Reason::PendingAlreadyPosted), "a late try ends nothing");
}

#[test]
fn a_posting_that_is_aborted_leaves_the_pending_transfer_to_its_time() {
    let (mut g1, mut g2) = timed();
    let posting = Over::new(post(2, (1, 1, 11), None), 2);
    posting.prepare_both(&mut g1, &mut g2);
    assert_eq!(due(&g1.wait_until(100)).len(), 1);
    g1.one(posting.decide(Verdict::Abort, Vec::new()));
    g2.one(posting.resolve(Verdict::Abort, Vec::new()));
    assert_eq!(due(&g1.wait_until(101)), [], "it was told before");
    let again = due(&g1.wait_until(100 + 1_000_000));
    assert_eq!(again.len(), 1, "and is told again, under another id");
    let end = Over::of(Action::Expire(again[0]), 3);
    assert_eq!(end.prepare_both(&mut g1, &mut g2), []);
    end.commit(&mut g1, &mut g2, Vec::new());
    assert_eq!((g1.state(1, 1), g2.state(1, 1)), (Some(PendingState::Expired), Some(PendingState::Expired)));
}

#[test]
fn an_account_that_is_read_in_a_transaction_is_released_afterwards() {
    let (mut g1, mut g2) = pair();
    assert_eq!(g1.result(&pend(1, 1, 2, 4, Span(100))), COMMITTED);
    let reading = Over::new(of(2, &[Operation::Read(AccountId(2)), Operation::Read(AccountId(11))]), 1);
    let replies = reading.prepare_both(&mut g1, &mut g2);
    g1.wait_until(200);
    assert_eq!(g1.state(1, 1), Some(PendingState::Open), "what is read does not change");
    assert_eq!(g1.transact(&post(3, (1, 1, 2), None)), None);
    reading.commit(&mut g1, &mut g2, replies);
    let late = TxnId { id: TransferId(3), first: AccountId(1) };
    assert_eq!(g1.ledger.outcome(late), Some(Outcome::Rejected(Reason::PendingExpired)));
    g1.wait_until(200 + 20_000);
    assert_eq!((g1.state(1, 1), g1.totals_of(1)), (Some(PendingState::Expired), [0, 0, 0, 10]));
}

#[test]
fn a_chain_takes_effect_as_a_whole_and_each_member_once() {
    let mut world = World::new(G1);
    let chain = of(100, &[member(1, 1, 2, 10), member(2, 2, 3, 20), member(3, 3, 4, 30)]);
    assert_eq!(world.result(&chain), COMMITTED, "by its net effect");
    assert_eq!([1, 2, 3, 4].map(|account| world.balance(account)), [0, 0, 0, 40]);
    let broken = of(101, &[member(4, 4, 1, 5), member(5, 1, 2, 6)]);
    assert_eq!(world.result(&broken), rejected(Reason::ExceedsCredits));
    assert_eq!([1, 2, 3, 4].map(|account| world.balance(account)), [0, 0, 0, 40], "no part of it");
    assert_eq!(world.transfer(move_money(4, 4, 1, 5)), Some(COMMITTED), "its members' ids are open");
    assert_eq!(world.result(&of(102, &[member(6, 1, 2, 1), member(2, 2, 3, 1)])), rejected(Reason::IdConflict));
    assert_eq!(world.transfer(move_money(3, 3, 4, 30)).map(|_| ()), Some(()), "a member is a transfer");
    let parts = [
        Operation::Pend(Pend { transfer: move_money(7, 4, 1, 2), timeout: FOR_EVER }),
        member(8, 4, 1, 1),
        Operation::Close(AccountId(9)),
    ];
    assert_eq!(world.result(&of(103, &parts)), COMMITTED, "a chain may hold pending transfers");
    assert_eq!(world.totals_of(4)[0], 2);
    assert_eq!(world.result(&pend(7, 4, 1, 2, FOR_EVER)), rejected(Reason::IdConflict));
}

#[test]
fn a_chain_may_span_groups() {
    let (mut g1, mut g2) = pair();
    let reserve = Operation::Pend(Pend { transfer: move_money(2, 11, 1, 10), timeout: FOR_EVER });
    let chain = Over::new(of(100, &[member(1, 1, 11, 10), reserve, member(3, 11, 2, 10)]), 1);
    let replies = chain.prepare_both(&mut g1, &mut g2);
    chain.commit(&mut g1, &mut g2, replies);
    assert_eq!((g1.balance(1), g1.balance(2), g2.totals_of(11)), (0, 20, [10, 10, 0, 20]));
    let id = |id: u128, first: u128| TxnId { id: TransferId(id), first: AccountId(first) };
    let committed = Some(Outcome::Committed);
    assert_eq!((g1.ledger.outcome(id(1, 1)), g2.ledger.outcome(id(2, 11))), (committed, committed));
    // The pending transfer is the other group's to judge.
    let posting = Over::new(of(101, &[pay(2, 1, 1), post(4, (2, 11, 1), Some(5)).operations[0].clone()]), 2);
    let replies = posting.prepare_both(&mut g1, &mut g2);
    posting.commit(&mut g1, &mut g2, replies);
    assert_eq!((g1.totals_of(1), g2.totals_of(11)), ([0, 10, 0, 16], [0, 15, 0, 20]));
}

#[test]
fn a_closed_account_refuses_all_but_the_voiding_of_what_is_pending() {
    let mut world = World::new(G1);
    for id in 1..=2 {
        assert_eq!(world.result(&pend(id, 1, 2, 2, if id == 2 { Span(50) } else { FOR_EVER })), COMMITTED);
    }
    assert_eq!(world.result(&close(3, 2)), COMMITTED);
    assert_eq!(world.result(&close(4, 2)), COMMITTED, "closing what is closed changes nothing");
    assert!(world.account(2).flags.has(Flags::CLOSED));
    let cases = [pend(5, 1, 2, 1, FOR_EVER), pend(6, 2, 3, 1, FOR_EVER), post(7, (1, 1, 2), None)];
    for case in &cases {
        assert_eq!(world.result(case), rejected(Reason::Closed), "{case:?}");
    }
    assert_eq!(world.transfer(move_money(8, 2, 3, 1)), Some(rejected(Reason::Closed)));
    assert_eq!(world.transfer(move_money(9, 3, 2, 1)), Some(rejected(Reason::Closed)));
    assert_eq!(world.result(&void(10, (1, 1, 2))), COMMITTED);
    world.wait_until(50);
    assert_eq!((world.state(2, 1), world.totals_of(2)), (Some(PendingState::Expired), [0, 0, 0, 10]));
    assert_eq!(world.result(&open(11, 2)), COMMITTED);
    assert_eq!(world.result(&open(12, 105)), rejected(Reason::NoSuchAccount));
    assert_eq!(world.transfer(move_money(13, 3, 2, 1)), Some(COMMITTED));
    let again = world.transact(&close(3, 2)).expect("it does not wait");
    assert_eq!((again.result, again.replayed), (COMMITTED, true));
    assert!(!world.account(2).flags.has(Flags::CLOSED), "a copy of an old closing closes nothing");
}

#[test]
fn an_account_that_was_closed_is_still_the_one_that_was_created() {
    use crate::ledger::model::CreateResult;
    let mut world = World::new(G1);
    let create = |world: &mut World, sequence, account| {
        let session = world.register(7);
        let outputs = world.one(create(session, sequence, &[account]));
        match &outputs[..] {
            [Output::Client(output)] => match &output.result {
                CommandResult::Created(results) => results[0],
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    let account = new(101, Flags::HISTORY);
    assert_eq!(create(&mut world, 1, account), CreateResult::Created);
    assert_eq!(world.result(&close(1, 101)), COMMITTED);
    assert_eq!(create(&mut world, 2, account), CreateResult::Exists, "a copy of the request comes late");
    assert_eq!(create(&mut world, 3, new(101, Flags::NONE)), CreateResult::ExistsDifferent);
}

#[test]
fn hazard_s4_an_account_is_not_closed_under_what_is_in_doubt() {
    let (mut g1, mut g2) = pair();
    let credit = move_money(1, 11, 1, 5);
    assert_eq!(g1.prepare(credit, 1, 7), [VoteKind::Yes]);
    assert_eq!(g1.transact(&close(2, 1)), None, "it waits for the decision");
    assert_eq!(g1.prepare(move_money(3, 12, 1, 5), 1, 9), [VoteKind::Die], "and younger ones give way");
    let outputs = g1.resolve(credit, 1, Verdict::Commit);
    assert_eq!(done(&outputs).map(|done| done.result), Some(COMMITTED));
    assert_eq!((g1.balance(1), g1.account(1).flags.has(Flags::CLOSED)), (15, true));
    // While an opening is in doubt, nobody can say whether the account is closed.
    let opening = Over::new(of(4, &[Operation::Open(AccountId(1)), pay(11, 12, 1)]), 20);
    let replies = opening.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transfer(move_money(5, 1, 2, 1)), None);
    opening.commit(&mut g1, &mut g2, replies);
    assert_eq!(g1.ledger.outcome(TxnId { id: TransferId(5), first: AccountId(1) }), Some(Outcome::Committed));
}

#[test]
fn a_transfer_that_waits_while_its_account_is_closed_is_rejected() {
    let (mut g1, mut g2) = pair();
    let closing = Over::new(of(1, &[Operation::Close(AccountId(2)), pay(11, 12, 1)]), 1);
    let replies = closing.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transfer(move_money(2, 1, 2, 1)), None);
    closing.commit(&mut g1, &mut g2, replies);
    let id = TxnId { id: TransferId(2), first: AccountId(1) };
    assert_eq!(g1.ledger.outcome(id), Some(Outcome::Rejected(Reason::Closed)));
}

#[test]
fn two_ends_at_once_are_decided_one_after_the_other() {
    let (mut g1, mut g2) = pair();
    assert_eq!(g1.result(&pend(1, 1, 2, 4, FOR_EVER)), COMMITTED);
    let posting = Over::new(of(2, &[post(3, (1, 1, 2), Some(1)).operations[0].clone(), pay(11, 12, 1)]), 1);
    let replies = posting.prepare_both(&mut g1, &mut g2);
    assert_eq!(g1.transact(&void(4, (1, 1, 2))), None, "it waits for the decision");
    posting.commit(&mut g1, &mut g2, replies);
    let id = TxnId { id: TransferId(4), first: AccountId(1) };
    assert_eq!(g1.ledger.outcome(id), Some(Outcome::Rejected(Reason::PendingAlreadyPosted)));
    assert_eq!((g1.totals_of(1), g1.totals_of(2)), ([0, 1, 0, 10], [0, 0, 0, 11]));
}

#[test]
fn a_log_with_pending_transfers_replays_in_any_slices() {
    let mut world = World::new(G1);
    let mut outputs = Vec::new();
    for step in 0..200u128 {
        world.time += 7;
        let pending = (1000 + step / 3, 1 + step / 3 % 4, 5 + step / 3 % 4);
        let command = match step % 3 {
            0 => command(&pend(pending.0, pending.1, pending.2, 1 + step % 5, Span((step % 7) as u64 * 5))),
            1 => command(&post(5000 + step, pending, (step % 2 == 0).then_some(1))),
            _ => command(&void(5000 + step, pending)),
        };
        outputs.extend(world.one(command));
    }
    let ended = world.ledger.pendings.from(0).filter(|row| !row.is_open()).count();
    assert!(ended > 25, "{ended} have ended");
    for (budget, seed) in [(1, 3), (2, 4), (512, 5)] {
        world.assert_replays(G1, Limits::default(), &outputs, budget, seed);
    }
}

#[test]
fn what_a_transaction_may_not_say_of_pending_transfers() {
    let fault = |id: u128, operations: &[Operation]| {
        Transaction { id: TransferId(id), conditions: Vec::new(), operations: operations.to_vec() }.fault().is_some()
    };
    let reserve = |id| Operation::Pend(Pend { transfer: move_money(id, 1, 2, 1), timeout: FOR_EVER });
    let ending = |id, pending| post(id, (pending, 1, 2), None).operations[0].clone();
    assert!(!fault(1, &[reserve(1)]) && !fault(1, &[ending(1, 2)]), "alone it may share the transaction's id");
    assert!(fault(1, &[reserve(1), reserve(2)]), "but not beside others");
    assert!(fault(1, &[reserve(0)]), "a pending transfer has a name");
    assert!(fault(1, &[reserve(2), ending(3, 2)]), "and is named once");
    assert!(fault(1, &[reserve(2), reserve(2)]));
    let switch = [Operation::Close(AccountId(1)), Operation::Open(AccountId(1))];
    assert!(fault(1, &switch));
}

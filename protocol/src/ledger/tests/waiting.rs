//! In doubt and waiting: low and high, the order of the queue, votes, expiry.

use super::*;
use crate::ledger::ReadState;

// A transaction of g2 that debits its account 11 and credits 1; and one of g1 that debits 1 and credits 11.
fn incoming(id: u128, to: u128, amount: u128) -> Transfer {
    move_money(id, 11, to, amount)
}

fn outgoing(id: u128, from: u128, amount: u128) -> Transfer {
    move_money(id, from, 11, amount)
}

#[test]
fn between_low_and_high_a_debit_waits_and_follows_the_decision() {
    for (verdict, result) in [(Verdict::Commit, COMMITTED), (Verdict::Abort, rejected(Reason::ExceedsCredits))] {
        let mut world = World::new(G1);
        let credit = incoming(1, 1, 5);
        assert_eq!(world.prepare(credit, 1, 1), [VoteKind::Yes]);
        assert_eq!(world.transfer(move_money(2, 1, 2, 10)), Some(COMMITTED), "low allows it");
        assert_eq!(world.transfer(move_money(3, 1, 2, 6)), Some(rejected(Reason::ExceedsCredits)), "high does not");
        assert_eq!(world.transfer(move_money(4, 1, 2, 5)), None);
        let slot = world.ledger.applied().0 - 1;
        let outputs = world.resolve(credit, 1, verdict);
        assert!(is_resolved(&outputs));
        assert_eq!(late(&outputs), [(slot, 0, result)]);
        assert_eq!(world.ledger.totals().waiting, 0);
    }
}

#[test]
fn an_in_doubt_debit_is_taken_off_until_it_aborts() {
    let mut world = World::new(G1);
    let debit = outgoing(1, 1, 8);
    assert_eq!(world.begin(debit, 1, 1), [VoteKind::Yes]);
    assert_eq!(world.transfer(move_money(2, 1, 2, 2)), Some(COMMITTED));
    assert_eq!(world.transfer(move_money(3, 1, 2, 8)), None);
    let outputs = world.decide(debit, 1, Verdict::Abort);
    assert_eq!(decided(&outputs), Some(Verdict::Abort));
    assert_eq!(late(&outputs).len(), 1);
    assert_eq!((world.balance(1), world.balance(2)), (0, 20));
}

#[test]
fn one_group_credits_release_waiters_too() {
    let mut world = World::new(G1);
    world.prepare(incoming(1, 1, 5), 1, 1);
    assert_eq!(world.transfer(move_money(2, 1, 2, 12)), None);
    let outputs = world.one(transfers(&[move_money(3, 3, 1, 2)]));
    assert_eq!(late(&outputs), [(2, 0, COMMITTED)]);
    assert!(transfers_done(&outputs[0]).is_some(), "the batch is answered before what it released");
}

#[test]
fn the_queue_is_first_in_first_out() {
    let mut world = World::new(G1);
    let debit = outgoing(1, 1, 10);
    world.begin(debit, 1, 1);
    assert_eq!(world.transfer(move_money(2, 1, 2, 6)), None);
    assert_eq!(world.transfer(move_money(3, 1, 2, 6)), None);
    assert_eq!(world.transfer(move_money(4, 1, 2, 4)), None);
    let outputs = world.decide(debit, 1, Verdict::Abort);
    assert_eq!(late(&outputs), [(2, 0, COMMITTED), (3, 0, rejected(Reason::ExceedsCredits)), (4, 0, COMMITTED)]);
}

#[test]
fn waiting_ends_at_the_deadline_and_the_id_stays_open() {
    let mut world = World::new(G1);
    let debit = outgoing(1, 1, 10);
    world.begin(debit, 1, 1);
    assert_eq!(world.transfer(move_money(2, 1, 2, 6)), None);
    world.time += LONG.0 - 1;
    assert_eq!(world.run([]), []);
    world.time += 1;
    assert_eq!(late(&world.run([])), [(2, 0, TransferResult::Retry)]);
    assert_eq!(world.ledger.outcome(TxnId::from(&move_money(2, 1, 2, 6))), None);
    world.decide(debit, 1, Verdict::Abort);
    assert_eq!(world.transfer(move_money(2, 1, 2, 6)), Some(COMMITTED));
}

#[test]
fn what_expires_lets_those_behind_it_go() {
    let mut world = World::new(G1);
    world.begin(outgoing(1, 1, 5), 1, 1);
    assert_eq!(world.transfer(move_money(2, 1, 2, 8)), None);
    world.time += 10;
    assert_eq!(world.transfer(move_money(3, 1, 2, 3)), None, "not before the one that waits");
    world.time = LONG.0;
    assert_eq!(late(&world.run([])), [(2, 0, TransferResult::Retry), (3, 0, COMMITTED)]);
}

#[test]
fn a_prepare_waits_only_for_younger_ones() {
    let mut world = World::new(G1);
    let young = outgoing(1, 1, 8);
    assert_eq!(world.begin(young, 1, 50), [VoteKind::Yes]);
    assert_eq!(world.begin(outgoing(2, 1, 5), 1, 60), [VoteKind::Die]);
    assert_eq!(world.begin(outgoing(3, 1, 5), 1, 40), [], "older: it waits");
    assert_eq!(world.begin(outgoing(4, 1, 1), 1, 45), [VoteKind::Die], "younger than the one that waits");
    let outputs = world.decide(young, 1, Verdict::Abort);
    assert_eq!(votes(&outputs), [VoteKind::Yes]);
    assert_eq!(world.ledger.in_doubt(), []);
    assert_eq!(world.ledger.pending_page().total, 1);
}

#[test]
fn a_waiting_prepare_is_rejected_when_the_decision_leaves_no_room() {
    let mut world = World::new(G1);
    let young = outgoing(1, 1, 8);
    world.begin(young, 1, 50);
    world.begin(outgoing(3, 1, 5), 1, 40);
    let outputs = world.decide(young, 1, Verdict::Commit);
    assert_eq!(votes(&outputs), [VoteKind::No(Reason::ExceedsCredits)]);
}

#[test]
fn a_waiting_prepare_dies_when_an_older_one_is_prepared() {
    let mut world = World::new(G1);
    assert_eq!(world.prepare(incoming(1, 1, 10), 1, 90), [VoteKind::Yes]);
    assert_eq!(world.begin(outgoing(2, 1, 15), 1, 50), [], "it waits for the younger credit");
    // An older credit is prepared: the waiter would wait for an older one now.
    assert_eq!(world.prepare(incoming(3, 1, 1), 1, 40), [VoteKind::Yes, VoteKind::Die]);
}

#[test]
fn a_waiting_prepare_expires_and_a_prepared_one_does_not() {
    let mut world = World::new(G1);
    let young = incoming(1, 1, 8);
    world.prepare(young, 1, 50);
    let waits = outgoing(2, 1, 15);
    assert_eq!(world.begin(waits, 1, 40), []);
    world.time = LONG.0 * 100;
    assert_eq!(votes(&world.run([])), [VoteKind::Expired]);
    assert_eq!(world.ledger.in_doubt().len(), 1);
    assert!(is_resolved(&world.resolve(young, 1, Verdict::Commit)));
    assert_eq!(world.balance(1), 18);
}

#[test]
fn a_read_waits_for_a_quiet_moment_and_one_serves_all() {
    let mut world = World::new(G1);
    assert_eq!(reads(&world.one(read(1))), [Some(10)]);
    assert_eq!(reads(&world.one(read(109))), [None]);
    let credit = incoming(1, 1, 5);
    world.prepare(credit, 1, 1);
    assert_eq!(world.ledger.read(AccountId(1)), ReadState::InDoubt);
    assert_eq!(world.one(read(1)), []);
    assert_eq!(world.one(read(1)), []);
    assert_eq!(world.ledger.totals().waiting, 1);
    assert_eq!(reads(&world.resolve(credit, 1, Verdict::Commit)), [Some(15)]);
    assert!(matches!(world.ledger.read(AccountId(1)), ReadState::Ready(Some(_))));
}

#[test]
fn a_read_that_waits_too_long_expires() {
    let mut world = World::new(G1);
    world.prepare(incoming(1, 1, 5), 1, 1);
    world.one(read(1));
    world.time = LONG.0;
    assert_eq!(world.run([]), [Output::ReadExpired(AccountId(1))]);
}

#[test]
fn a_full_queue_says_retry_and_records_nothing() {
    let mut world = World::with(G1, Limits { waiting: 2, ..Limits::default() });
    world.prepare(incoming(1, 1, 5), 1, 70);
    assert_eq!(world.transfer(move_money(2, 1, 2, 12)), None);
    assert_eq!(world.transfer(move_money(2, 1, 2, 12)), None, "an attached one takes a place, too");
    assert_eq!(world.transfer(move_money(3, 1, 2, 12)), Some(TransferResult::Retry));
    assert_eq!(world.transfer(move_money(2, 1, 2, 12)), Some(TransferResult::Retry));
    assert_eq!(world.one(read(1)), [Output::ReadExpired(AccountId(1))]);
    assert_eq!(world.begin(outgoing(4, 1, 15), 1, 1), [VoteKind::Expired], "older than all, but there is no place");
    assert_eq!(world.ledger.totals().ids, 0);
    assert!(is_resolved(&world.resolve(incoming(1, 1, 5), 1, Verdict::Commit)), "what ends a wait is never refused");
}

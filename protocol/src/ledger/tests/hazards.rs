//! The hazards that touch the ledger, by their numbers.

use super::*;
use crate::ledger::model::Flags;
use crate::message::client::Why;

#[test]
fn s1_a_read_is_evaluated_where_nothing_is_in_doubt() {
    // (b) and (c): what is prepared while it waits, and what one group posts meanwhile, is all in or all out.
    let mut world = World::new(G1);
    let first = move_money(1, 11, 1, 5);
    world.prepare(first, 1, 1);
    assert_eq!(world.one(read(1)), []);
    assert_eq!(world.transfer(move_money(2, 2, 1, 1)), Some(COMMITTED), "one-group transfers may pass");
    let second = move_money(3, 12, 1, 7);
    assert_eq!(world.prepare(second, 1, 0), [VoteKind::Yes], "older than the read: it may pass");
    assert_eq!(reads(&world.resolve(first, 1, Verdict::Commit)), [], "the second is in doubt");
    assert_eq!(reads(&world.resolve(second, 1, Verdict::Commit)), [Some(23)]);
}

#[test]
fn s3a_a_credit_decided_elsewhere_is_not_ignored() {
    let mut world = World::new(G2);
    world.transfer(move_money(1, 11, 12, 10));
    let decided_in_g1 = move_money(2, 1, 11, 10);
    world.prepare(decided_in_g1, 1, 1);
    assert_eq!(world.transfer(move_money(3, 11, 12, 5)), None, "neither rejected nor granted");
    assert_eq!(late(&world.resolve(decided_in_g1, 1, Verdict::Commit))[0].2, COMMITTED);
}

#[test]
fn s3b_all_debits_in_doubt_count_together() {
    let mut world = World::new(G1);
    world.begin(move_money(1, 1, 11, 4), 1, 1);
    world.begin(move_money(2, 1, 11, 4), 1, 2);
    assert_eq!(world.transfer(move_money(3, 1, 2, 3)), None);
    assert_eq!(world.transfer(move_money(4, 1, 2, 11)), Some(rejected(Reason::ExceedsCredits)));
    world.decide(move_money(1, 1, 11, 4), 1, Verdict::Commit);
    let outputs = world.decide(move_money(2, 1, 11, 4), 1, Verdict::Commit);
    assert_eq!(late(&outputs)[0].2, rejected(Reason::ExceedsCredits));
    assert_eq!(world.balance(1), 2);
}

#[test]
fn s4_a_prepared_effect_is_always_applicable() {
    let mut world = World::new(G1);
    world.create(&[NewAccount { id: AccountId(101), ledger: 1, code: 1, flags: Flags::NONE }]);
    world.create_full(101);
    let (a, b) = (move_money(1, 11, 101, 6), move_money(2, 12, 101, 6));
    assert_eq!(world.prepare(a, 1, 9), [VoteKind::Yes]);
    assert_eq!(world.prepare(b, 1, 10), [VoteKind::Die], "it fits only if the first does not");
    assert_eq!(world.prepare(b, 2, 8), [], "an older one may wait for that");
    assert_eq!(world.transfer(move_money(3, 1, 101, 5)), None, "so must a transfer");
    assert_eq!(world.transfer(move_money(4, 1, 101, 4)), Some(COMMITTED));
    let outputs = world.resolve(a, 1, Verdict::Commit);
    assert!(is_resolved(&outputs));
    assert_eq!(votes(&outputs), [VoteKind::No(Reason::Overflow)]);
    assert_eq!(late(&outputs)[0].2, rejected(Reason::Overflow));
}

impl World {
    /// Leaves room for ten more credits.
    fn create_full(&mut self, account: u128) {
        let from = u128::MAX - 2;
        let amount = u128::MAX - 10;
        assert_eq!(self.transfer(move_money(900, from, account, amount)), Some(COMMITTED));
    }
}

#[test]
fn s7_a_delayed_abort_of_an_older_attempt_does_not_release_the_newer() {
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 5);
    assert_eq!(world.prepare(transfer, 1, 1), [VoteKind::Yes]);
    assert_eq!(world.prepare(transfer, 2, 1), [VoteKind::Die], "whoever said yes waits for the end of that attempt");
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Abort)));
    assert_eq!(world.prepare(transfer, 3, 1), [VoteKind::Yes]);
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Abort)));
    assert_eq!(world.ledger.in_doubt()[0].attempt, attempt(3));
    assert!(!is_resolved(&world.resolve(transfer, 1, Verdict::Commit)), "nor is the older one's commit taken for it");
    assert!(is_resolved(&world.resolve(transfer, 3, Verdict::Commit)));
    assert_eq!(world.balance(11), 15);
    assert_eq!(world.prepare(transfer, 1, 1), [VoteKind::AlreadyCommitted]);
}

#[test]
fn s7_a_newer_attempt_does_not_end_one_that_may_be_committed() {
    // Attempt 1 is committed in g1, its resolve is late. A retry of the client makes a Prepare under attempt 2, whose
    // Begin yields `Known`; its cleaning up must not cost attempt 1 its credit.
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 5);
    world.prepare(transfer, 1, 1);
    assert_eq!(world.prepare(transfer, 2, 1), [VoteKind::Die]);
    assert!(is_resolved(&world.resolve(transfer, 2, Verdict::Abort)));
    assert!(is_resolved(&world.resolve(transfer, 2, Verdict::Reject(Reason::IdConflict))));
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Commit)));
    assert_eq!(world.balance(11), 15);
}

#[test]
fn s7_a_begin_after_its_own_abort_is_void() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 11, 5);
    world.begin(transfer, 1, 1);
    world.decide(transfer, 1, Verdict::Abort);
    let void = |outputs: &[Output]| matches!(outputs, [Output::Txn(TxnOutput::Void { .. })]);
    assert!(void(&world.one(begin(transfer, 1, 1))));
    assert_eq!(world.begin(transfer, 2, 1), [VoteKind::Yes], "a newer attempt takes the record over");
    assert!(void(&world.one(begin(transfer, 3, 1))), "while it is undecided, no other begins");
    assert_eq!(world.decide(transfer, 1, Verdict::Abort), [], "the old attempt is gone");
    assert_eq!(decided(&world.decide(transfer, 2, Verdict::Commit)), Some(Verdict::Commit));
}

#[test]
fn s8_a_prepare_repeated_after_the_end_is_answered_from_the_record() {
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 5);
    world.prepare(transfer, 1, 1);
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Commit)));
    assert_eq!(world.prepare(transfer, 1, 1), [VoteKind::AlreadyCommitted]);
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Commit)), "acknowledged again, not applied again");
    assert_eq!(world.balance(11), 15);
    let rejected = move_money(2, 1, 11, 5);
    world.prepare(rejected, 1, 1);
    world.resolve(rejected, 1, Verdict::Reject(Reason::ExceedsCredits));
    assert_eq!(world.prepare(rejected, 1, 1), [VoteKind::No(Reason::ExceedsCredits)]);
    assert_eq!(world.balance(11), 15);
}

#[test]
fn s9_a_decision_without_a_begin_is_void_and_the_first_one_stands() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 11, 5);
    assert_eq!(world.decide(transfer, 1, Verdict::Commit), []);
    assert_eq!(world.ledger.outcome(TxnId::from(&transfer)), None);
    world.begin(transfer, 1, 1);
    assert_eq!(decided(&world.decide(transfer, 1, Verdict::Abort)), Some(Verdict::Abort));
    assert_eq!(world.decide(transfer, 1, Verdict::Commit), []);
    assert_eq!(world.balance(1), 10);
}

#[test]
fn s10_what_is_prepared_never_expires() {
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 5);
    world.prepare(transfer, 1, 1);
    world.time = u64::MAX / 2;
    assert_eq!(world.run([]), []);
    assert_eq!(world.ledger.in_doubt().len(), 1);
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Commit)));
    assert_eq!(world.balance(11), 15);
}

#[test]
fn s11_an_unknown_commit_is_never_acknowledged() {
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 5);
    assert_eq!(world.resolve(transfer, 1, Verdict::Commit), []);
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Abort)));
    assert!(is_resolved(&world.resolve(transfer, 1, Verdict::Reject(Reason::Fenced))));
    assert_eq!(world.resolve(transfer, 1, Verdict::Commit), [], "nor one that contradicts the record");
    assert_eq!(world.prepare(transfer, 2, 1), [VoteKind::No(Reason::Fenced)]);
}

#[test]
fn s15_an_id_belongs_to_its_debit_account_and_rejections_are_final() {
    let mut world = World::new(G1);
    assert_eq!(world.transfer(move_money(7, 1, 2, 1)), Some(COMMITTED));
    assert_eq!(world.transfer(move_money(7, 3, 2, 1)), Some(COMMITTED), "the same id under another account");
    assert_eq!(world.transfer(move_money(8, 1, 2, 12)), Some(rejected(Reason::ExceedsCredits)));
    assert_eq!(world.transfer(move_money(9, 2, 1, 10)), Some(COMMITTED));
    assert_eq!(world.transfer(move_money(8, 1, 2, 12)), Some(rejected(Reason::ExceedsCredits)), "still");
}

#[test]
fn s15_a_fence_stops_the_first_copy_that_arrives_late() {
    let mut world = World::new(G1);
    let transfer = move_money(7, 1, 2, 1);
    let settled = |outputs: &[Output]| match outputs.last() {
        Some(Output::Client(output)) => output.result.clone(),
        _ => panic!("{outputs:?}"),
    };
    let fenced = Outcome::Rejected(Reason::Fenced);
    assert_eq!(settled(&world.one(fence(transfer))), CommandResult::Settled(fenced));
    assert_eq!(world.transfer(transfer), Some(rejected(Reason::Fenced)));
    assert_eq!(world.transfer(Transfer { amount: 2, ..transfer }), Some(rejected(Reason::Fenced)), "any content");
    let done = move_money(8, 1, 2, 1);
    world.transfer(done);
    assert_eq!(settled(&world.one(fence(done))), CommandResult::Settled(Outcome::Committed));
    let elsewhere = move_money(9, 11, 1, 1);
    assert_eq!(settled(&world.one(fence(elsewhere))), CommandResult::Refused(Why::Moved));
}

#[test]
fn s16_a_retry_attaches_to_what_waits() {
    let mut world = World::new(G1);
    let debit = move_money(1, 1, 11, 10);
    world.begin(debit, 1, 1);
    let waits = move_money(2, 1, 2, 6);
    let outputs = world.one(transfers(&[move_money(3, 3, 2, 1), waits, waits]));
    assert_eq!(transfers_done(&outputs[0]).map(|(items, waiting)| (items.len(), waiting)), Some((0, 2)));
    assert_eq!(world.transfer(waits), None);
    assert_eq!(world.transfer(Transfer { amount: 7, ..waits }), Some(TransferResult::Retry), "other content");
    let outputs = world.decide(debit, 1, Verdict::Abort);
    assert_eq!(late(&outputs), [(2, 1, COMMITTED), (2, 2, COMMITTED), (3, 0, COMMITTED)]);
    assert_eq!((world.balance(1), world.ledger.totals().posted), (4, 2));
}

#[test]
fn s17_a_second_registration_is_another_session_and_none_is_evicted() {
    let limits = Limits { sessions: 3, ..Limits::default() };
    let mut world = World::with(G1, limits);
    let (first, second) = (world.register(5), world.register(5));
    assert_ne!(first, second);
    assert!(world.ledger.sessions.is_known(first) && world.ledger.sessions.is_known(second));
    let third = world.register(6);
    let debit = move_money(1, 1, 11, 10);
    world.begin(debit, 1, 1);
    let mut waits = client(CommandKind::Transfers, Some(first), 1, &[move_money(2, 1, 2, 6)]);
    if let Command::Client(command) = &mut waits {
        command.deadline = Span(u64::MAX);
    }
    world.one(waits);
    world.time = limits.session_lifetime.0 * 2;
    world.run([]);
    let known = |world: &World, session| world.ledger.sessions.is_known(session);
    assert!(known(&world, first), "an operation of it waits");
    assert!(!known(&world, second) && !known(&world, third));
    world.decide(debit, 1, Verdict::Abort);
    world.time += limits.session_lifetime.0 * 2;
    world.run([]);
    assert!(!known(&world, first));
}

#[test]
fn s26_log_time_never_goes_back() {
    let mut world = World::new(G1);
    world.time = 100;
    world.run([]);
    world.time = 90;
    world.run([]);
    assert_eq!(world.ledger.time(), LogTime(100));
}

#[test]
fn s35_a_begin_of_an_older_ballot_is_void_after_a_newer_leaders_first_entry() {
    let mut world = World::new(G1);
    world.lead(2);
    let outputs = world.one(begin(move_money(1, 1, 11, 5), 1, 1));
    assert!(matches!(outputs[..], [Output::Txn(TxnOutput::Void { .. })]));
    assert_eq!(world.ledger.coordinated(), []);
}

#[test]
fn l1_a_prepare_does_not_queue_behind_an_older_waiting_one() {
    let mut world = World::new(G1);
    world.begin(move_money(1, 1, 11, 10), 1, 30);
    assert_eq!(world.begin(move_money(2, 1, 11, 10), 1, 10), [], "older than the holder");
    assert_eq!(world.begin(move_money(3, 1, 11, 10), 1, 20), [VoteKind::Die], "older than the holder, not the waiter");
}

#[test]
fn l2_a_prepare_never_waits_for_a_one_group_operation() {
    let mut world = World::new(G1);
    let held = move_money(1, 1, 11, 4);
    world.begin(held, 1, 1);
    assert_eq!(world.transfer(move_money(2, 1, 2, 8)), None);
    let counter = world.ledger.counter();
    assert_eq!(world.begin(move_money(3, 1, 11, 2), 1, counter + 1), [VoteKind::Die], "it dies for an older one");
    assert_eq!(world.begin(move_money(4, 1, 11, 2), 1, 0), [VoteKind::Yes], "it passes a younger one");
}

#[test]
fn l3_a_later_debit_does_not_starve_one_that_waits() {
    let mut world = World::new(G1);
    let held = move_money(1, 1, 11, 5);
    world.begin(held, 1, 1);
    assert_eq!(world.transfer(move_money(2, 1, 2, 8)), None);
    for id in 3..8 {
        assert_eq!(world.transfer(move_money(id, 1, 2, 1)), None, "low alone would allow it");
    }
    let outputs = world.decide(held, 1, Verdict::Abort);
    assert_eq!(late(&outputs)[0].2, COMMITTED);
    assert_eq!(world.balance(1), 0);
}

#[test]
fn l4_later_prepares_die_for_a_read_that_waits() {
    let mut world = World::new(G2);
    let first = move_money(1, 1, 11, 5);
    world.prepare(first, 1, 1);
    world.one(read(11));
    let counter = world.ledger.counter();
    let later = move_money(2, 1, 11, 5);
    assert_eq!(world.prepare(later, 1, counter + 1), [VoteKind::Die], "though there is room for it");
    assert_eq!(reads(&world.resolve(first, 1, Verdict::Commit)), [Some(15)]);
    assert_eq!(world.prepare(later, 2, counter + 1), [VoteKind::Yes]);
}

#[test]
fn l4_a_read_is_evaluated_before_the_next_grant() {
    let mut world = World::new(G1);
    let holder = move_money(1, 1, 11, 10);
    world.begin(holder, 1, 50);
    assert_eq!(world.begin(move_money(2, 1, 11, 4), 1, 40), []);
    world.one(read(1));
    let outputs = world.decide(holder, 1, Verdict::Abort);
    let read_at = outputs.iter().position(|output| matches!(output, Output::Read(..)));
    let vote_at = outputs.iter().position(|output| matches!(output, Output::Txn(TxnOutput::Voted { .. })));
    assert!(read_at.is_some() && read_at < vote_at, "{outputs:?}");
    assert_eq!((reads(&outputs), votes(&outputs)), (vec![Some(10)], vec![VoteKind::Yes]));
}

#[test]
fn l5_deadlines_are_spans_of_this_groups_log_time() {
    let mut world = World::new(G1);
    world.time = 3_600_000_000;
    world.run([]);
    world.prepare(move_money(1, 11, 1, 5), 1, 50);
    assert_eq!(world.begin(move_money(2, 1, 11, 12), 1, 40), []);
    world.time += LONG.0 - 1;
    assert_eq!(world.run([]), []);
    world.time += 1;
    assert_eq!(votes(&world.run([])), [VoteKind::Expired]);
}

#[test]
fn l6_a_group_raises_its_counter_to_what_it_sees() {
    let mut world = World::new(G2);
    world.prepare(move_money(1, 1, 11, 5), 1, 700);
    assert_eq!(world.ledger.counter(), 700);
    world.prepare(move_money(2, 1, 12, 5), 1, u64::MAX);
    assert_eq!(world.transfer(move_money(3, 11, 13, 12)), None, "a counter at its end does no harm");
}

#[test]
fn l8_what_ends_a_wait_is_never_refused() {
    let mut world = World::with(G1, Limits { waiting: 0, in_doubt_per_group: 1, ..Limits::default() });
    let transfer = move_money(1, 1, 11, 5);
    world.begin(transfer, 1, 1);
    assert_eq!(decided(&world.decide(transfer, 1, Verdict::Commit)), Some(Verdict::Commit));
}

#[test]
fn l12_the_abort_of_a_waiting_prepare_takes_it_out() {
    let mut world = World::new(G1);
    let holder = move_money(1, 11, 1, 5);
    world.prepare(holder, 1, 50);
    // g2 coordinates a credit that must wait, on an account whose credits are limited.
    let flags = Flags::CREDITS_MUST_NOT_EXCEED_DEBITS;
    world.create(&[NewAccount { id: AccountId(101), ledger: 1, code: 1, flags }]);
    let debit = move_money(2, 101, 11, 5);
    world.begin(debit, 1, 60);
    let waits = move_money(3, 12, 101, 5);
    assert_eq!(world.prepare(waits, 1, 40), []);
    assert!(world.ledger.in_doubt().iter().any(|row| row.waiting));
    assert!(is_resolved(&world.resolve(waits, 1, Verdict::Abort)));
    let outputs = world.decide(debit, 1, Verdict::Commit);
    assert_eq!(votes(&outputs), [], "nothing is granted any more");
    assert_eq!((world.ledger.in_doubt().len(), world.ledger.totals().waiting), (1, 0));
}

#[test]
fn l14_what_is_in_doubt_for_one_group_is_bounded() {
    let limits = Limits { in_doubt_per_group: 2, ..Limits::default() };
    let mut world = World::with(G2, limits);
    for id in 1..=2 {
        assert_eq!(world.prepare(move_money(id, 1, 11, 1), 1, 1), [VoteKind::Yes]);
    }
    assert_eq!(world.prepare(move_money(3, 1, 12, 1), 1, 1), [VoteKind::Expired]);
    world.resolve(move_money(1, 1, 11, 1), 1, Verdict::Abort);
    assert_eq!(world.prepare(move_money(3, 1, 12, 1), 2, 1), [VoteKind::Yes]);
    let mut world = World::with(G1, limits);
    for id in 1..=2 {
        world.begin(move_money(id, 1, 11, 1), 1, 1);
        world.decide(move_money(id, 1, 11, 1), 1, Verdict::Commit);
    }
    let outputs = world.one(begin(move_money(3, 1, 11, 1), 1, 1));
    assert!(matches!(outputs[..], [Output::Txn(TxnOutput::Void { .. })]), "g2 has acknowledged nothing");
}

#[test]
fn a1_what_is_sent_less_what_is_received_is_the_difference() {
    let mut world = World::new(G1);
    world.begin(move_money(1, 1, 11, 4), 1, 1);
    world.decide(move_money(1, 1, 11, 4), 1, Verdict::Commit);
    world.prepare(move_money(2, 11, 1, 3), 1, 1);
    world.resolve(move_money(2, 11, 1, 3), 1, Verdict::Commit);
    let ledger = world.ledger.totals().ledgers[0];
    assert_eq!((ledger.sent, ledger.received), (4, 3));
    assert_eq!(ledger.debits.wrapping_sub(ledger.credits), 1);
}

#[test]
fn a4_a_batch_is_answered_with_the_number_that_wait() {
    let mut world = World::new(G1);
    world.begin(move_money(1, 1, 11, 10), 1, 1);
    let outputs = world.one(transfers(&[move_money(2, 1, 2, 6), move_money(3, 3, 2, 6), move_money(4, 3, 2, 6)]));
    let (items, waiting) = transfers_done(&outputs[0]).expect("a batch is answered");
    assert_eq!((items.len(), items[0].index, waiting), (1, 2, 1));
}

#[test]
fn a5_expiry_comes_before_the_commands_of_an_entry() {
    let mut world = World::new(G1);
    let debit = move_money(1, 1, 11, 10);
    world.begin(debit, 1, 1);
    world.transfer(move_money(2, 1, 2, 6));
    world.time = LONG.0;
    let outputs = world.decide(debit, 1, Verdict::Abort);
    assert_eq!(late(&outputs), [(2, 0, TransferResult::Retry)], "the release comes too late for it");
}

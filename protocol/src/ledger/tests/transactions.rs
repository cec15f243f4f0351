//! Two-phase commit at apply, beyond the hazards: records, fences, attachments, wrong names.

use super::*;
use crate::ledger::model::Flags;
use crate::message::command::Forget;

fn outcome(world: &World, transfer: Transfer) -> Option<Outcome> {
    world.ledger.outcome(TxnId::from(&transfer))
}

#[test]
fn a_commit_takes_effect_in_both_groups_and_is_forgotten_at_the_end() {
    let (mut g1, mut g2) = (World::new(G1), World::new(G2));
    let transfer = move_money(1, 1, 11, 4);
    assert_eq!(g1.begin(transfer, 1, 1), [VoteKind::Yes]);
    let record = &g1.ledger.coordinated()[0];
    assert_eq!((record.vote, record.verdict), (Some(VoteKind::Yes), None));
    assert_eq!(g2.prepare(transfer, 1, 1), [VoteKind::Yes]);
    assert_eq!(decided(&g1.decide(transfer, 1, Verdict::Commit)), Some(Verdict::Commit));
    assert!(is_resolved(&g2.resolve(transfer, 1, Verdict::Commit)));
    assert_eq!((g1.balance(1), g2.balance(11)), (6, 14));
    assert_eq!(
        g1.ledger.coordinated_one(TxnId::from(&transfer), attempt(1)).and_then(|r| r.verdict),
        Some(Verdict::Commit)
    );
    let forget = Forget { ended: vec![(TxnId::from(&transfer), attempt(2)), (TxnId::from(&transfer), attempt(1))] };
    assert_eq!(g1.one(Command::Forget(forget)), []);
    assert_eq!(g1.ledger.coordinated(), []);
    assert_eq!((outcome(&g1, transfer), outcome(&g2, transfer)), (Some(Outcome::Committed), Some(Outcome::Committed)));
}

#[test]
fn an_undecided_record_is_not_forgotten() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 11, 4);
    world.begin(transfer, 1, 1);
    world.one(Command::Forget(Forget { ended: vec![(TxnId::from(&transfer), attempt(1))] }));
    assert_eq!(world.ledger.coordinated().len(), 1);
}

#[test]
fn a_begin_of_a_known_id_begins_nothing() {
    let mut world = World::new(G1);
    let done = move_money(1, 1, 2, 4);
    world.transfer(done);
    for (transfer, wanted) in [
        (done, Outcome::Committed),
        (Transfer { amount: 5, ..done }, Outcome::Rejected(Reason::IdConflict)),
        (move_money(2, 77, 11, 1), Outcome::Rejected(Reason::NoSuchAccount)),
    ] {
        let outputs = world.one(begin(transfer, 1, 1));
        let [Output::Txn(TxnOutput::Known { outcome, .. })] = outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(outcome, wanted);
    }
    assert_eq!(world.ledger.coordinated(), []);
}

#[test]
fn a_local_rejection_is_a_vote_and_a_rejecting_decision_records_it() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 11, 40);
    assert_eq!(world.begin(transfer, 1, 1), [VoteKind::No(Reason::ExceedsCredits)]);
    assert_eq!(world.ledger.coordinated()[0].vote, Some(VoteKind::No(Reason::ExceedsCredits)));
    assert_eq!(world.decide(transfer, 1, Verdict::Commit), [], "no commit without the own yes");
    world.decide(transfer, 1, Verdict::Reject(Reason::ExceedsCredits));
    assert_eq!(outcome(&world, transfer), Some(Outcome::Rejected(Reason::ExceedsCredits)));
}

#[test]
fn a_conflict_is_not_recorded_by_a_decision() {
    let (mut g1, mut g2) = (World::new(G1), World::new(G2));
    let transfer = move_money(1, 1, 11, 4);
    g1.begin(transfer, 1, 1);
    g2.prepare(transfer, 1, 1);
    g1.decide(transfer, 1, Verdict::Reject(Reason::IdConflict));
    assert!(is_resolved(&g2.resolve(transfer, 1, Verdict::Reject(Reason::IdConflict))));
    assert_eq!((outcome(&g1, transfer), outcome(&g2, transfer)), (None, None));
    assert_eq!((g1.ledger.totals().in_doubt, g2.ledger.totals().in_doubt), (0, 0));
}

#[test]
fn a_repeated_prepare_gets_the_same_vote_and_a_late_copy_none() {
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 4);
    assert_eq!(world.prepare(transfer, 2, 1), [VoteKind::Yes]);
    assert_eq!(world.prepare(transfer, 2, 1), [VoteKind::Yes]);
    assert_eq!(world.prepare(transfer, 1, 1), []);
    assert_eq!(world.ledger.totals().in_doubt, 1);
}

#[test]
fn a_newer_attempt_of_a_waiting_prepare_takes_its_place() {
    let mut world = World::new(G1);
    let flags = Flags::CREDITS_MUST_NOT_EXCEED_DEBITS;
    world.create(&[NewAccount { id: AccountId(101), ledger: 1, code: 1, flags }]);
    let debit = move_money(2, 101, 11, 5);
    world.begin(debit, 1, 60);
    let waits = move_money(3, 12, 101, 5);
    assert_eq!(world.prepare(waits, 1, 40), []);
    assert_eq!(world.prepare(waits, 2, 40), []);
    assert_eq!(world.prepare(waits, 2, 40), [], "a second copy is quiet");
    assert_eq!(world.resolve(waits, 2, Verdict::Commit), [], "a commit of what has not voted is not acknowledged");
    let outputs = world.decide(debit, 1, Verdict::Commit);
    let Some(Output::Txn(TxnOutput::Voted { attempt: voted, vote, .. })) = outputs.last() else {
        panic!("{outputs:?}")
    };
    assert_eq!((*voted, *vote), (attempt(2), VoteKind::Yes));
}

#[test]
fn names_that_do_not_fit_are_voted_down() {
    let mut world = World::new(G2);
    let of = |mut command: Command, change: &dyn Fn(&mut Prepare)| {
        let Command::Prepare(prepare) = &mut command else { panic!("a prepare") };
        change(prepare);
        command
    };
    let transfer = move_money(1, 1, 11, 4);
    type Case<'a> = (&'a dyn Fn(&mut Prepare), &'a [VoteKind]);
    let cases: [Case<'_>; 5] = [
        (&|p| p.participants = Vec::new(), &[]),
        (&|p| p.participants = vec![G2, G1], &[]),
        (&|p| p.participants = vec![GroupId(3), G2], &[VoteKind::Moved]),
        (&|p| p.txn.id = TransferId(5), &[VoteKind::No(Reason::IdConflict)]),
        (&|p| (p.action, p.participants) = (move_money(1, 1, 2, 4).into(), vec![G1, G2]), &[VoteKind::Moved]),
    ];
    for (change, wanted) in cases {
        assert_eq!(votes(&world.one(of(prepare(transfer, 1, 1), change))), wanted);
    }
    assert_eq!(votes(&world.one(prepare(move_money(1, 12, 11, 4), 1, 1))), [], "this group decides that itself");
    assert_eq!(world.ledger.totals().in_doubt, 0);
    assert_eq!(world.resolve(move_money(1, 12, 11, 4), 1, Verdict::Reject(Reason::Closed)), []);
    assert_eq!(world.resolve(move_money(1, 77, 11, 4), 1, Verdict::Reject(Reason::Closed)), []);
    assert_eq!(world.ledger.totals().ids, 0);
}

#[test]
fn a_begin_where_another_group_owns_the_account_is_voted_moved() {
    let mut world = World::new(G2);
    assert_eq!(world.begin(move_money(1, 1, 11, 4), 1, 1), [VoteKind::Moved]);
    world.decide(move_money(1, 1, 11, 4), 1, Verdict::Abort);
    assert_eq!(world.ledger.totals().in_doubt, 0);
}

#[test]
fn a_transaction_within_one_group_is_one_transfer() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 2, 4);
    assert_eq!(world.begin(transfer, 1, 1), [VoteKind::Yes]);
    assert_eq!(world.transfer(transfer), None, "the same content attaches to it");
    assert_eq!(world.transfer(Transfer { amount: 5, ..transfer }), Some(TransferResult::Retry));
    let outputs = world.decide(transfer, 1, Verdict::Commit);
    assert_eq!(late(&outputs), [(2, 0, COMMITTED)]);
    assert_eq!((world.balance(1), world.balance(2)), (6, 14));
    let totals = world.ledger.totals();
    assert_eq!((totals.ledgers[0].sent, totals.ledgers[0].received, totals.posted), (0, 0, 1));
}

#[test]
fn an_abort_tells_who_attached_to_try_again() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 2, 4);
    world.begin(transfer, 1, 1);
    world.transfer(transfer);
    assert_eq!(late(&world.decide(transfer, 1, Verdict::Abort)), [(2, 0, TransferResult::Retry)]);
}

#[test]
fn a_begin_is_void_while_a_one_group_operation_waits_under_its_id() {
    let mut world = World::new(G1);
    let holder = move_money(1, 1, 11, 8);
    world.begin(holder, 1, 1);
    let waits = move_money(2, 1, 2, 8);
    assert_eq!(world.transfer(waits), None);
    let outputs = world.one(begin(waits, 1, 1));
    assert!(matches!(outputs[..], [Output::Txn(TxnOutput::Void { .. })]));
}

#[test]
fn a_fence_decides_what_is_undecided_and_takes_out_what_waits() {
    let mut world = World::new(G1);
    let live = move_money(1, 1, 11, 8);
    world.begin(live, 1, 1);
    let waits = move_money(2, 1, 2, 8);
    assert_eq!(world.transfer(waits), None);
    let outputs = world.one(fence(waits));
    assert_eq!(late(&outputs), [(2, 0, rejected(Reason::Fenced))]);
    let outputs = world.one(fence(live));
    assert_eq!(decided(&outputs), Some(Verdict::Reject(Reason::Fenced)));
    assert_eq!(world.ledger.totals().in_doubt, 0);
    for transfer in [live, waits] {
        assert_eq!(outcome(&world, transfer), Some(Outcome::Rejected(Reason::Fenced)));
        assert!(!world.ledger.is_under_way(TxnId::from(&transfer)));
    }
    assert_eq!(world.decide(live, 1, Verdict::Commit), [], "the first decision stands");
}

#[test]
fn a_fence_after_an_abort_closes_the_id() {
    let mut world = World::new(G1);
    let transfer = move_money(1, 1, 11, 8);
    world.begin(transfer, 1, 1);
    world.decide(transfer, 1, Verdict::Abort);
    world.one(fence(transfer));
    let outputs = world.one(begin(transfer, 2, 1));
    let fenced = Outcome::Rejected(Reason::Fenced);
    assert!(matches!(outputs[..], [Output::Txn(TxnOutput::Known { outcome, .. })] if outcome == fenced));
}

#[test]
fn the_end_of_a_newer_attempt_ends_an_orphan_too() {
    let mut world = World::new(G2);
    let transfer = move_money(1, 1, 11, 4);
    world.prepare(transfer, 1, 1);
    assert!(is_resolved(&world.resolve(transfer, 2, Verdict::Reject(Reason::Fenced))));
    assert_eq!(
        (world.ledger.totals().in_doubt, outcome(&world, transfer)),
        (0, Some(Outcome::Rejected(Reason::Fenced)))
    );
}

#[test]
fn members_and_leaders_are_recorded() {
    use crate::ids::{DirectoryId, NodeId};
    use crate::message::command::Member;
    let mut ledger = Ledger::new(1, &genesis(G1, Limits::default()));
    let member = |n| Member { replica: ReplicaId(n), node: NodeId(n as u16), directory: DirectoryId(u128::from(n)) };
    for (slot, members) in [Some(vec![member(1), member(2)]), None, Some(vec![member(3)])].into_iter().enumerate() {
        let ballot = Ballot { round: slot as u64 + 1, replica: ReplicaId(1) };
        let content = Content::LeaderStart(LeaderStart { ballot, members });
        ledger.begin(Slot(slot as u64), &to_vec(&Entry { format: FORMAT, time: LogTime(0), wall: 0, content }));
        assert!(ledger.apply(10, &mut Vec::new()));
        assert_eq!(ledger.leader(), ballot);
        assert_eq!(ledger.members(), Some(&[member(1), member(2)][..]), "recorded once");
    }
}

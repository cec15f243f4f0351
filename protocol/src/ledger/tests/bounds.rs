//! Work and memory are bounded, and what a leader can never have made is a broken invariant.

use super::*;

#[test]
fn a_cascade_of_waiters_is_applied_in_slices() {
    let mut world = World::new(G1);
    let holder = move_money(1, 1, 11, 10);
    world.begin(holder, 1, 1);
    let batch: Vec<Transfer> = (0..5000).map(|id| move_money(100 + id, 1, 2, 11 - id % 2)).collect();
    let outputs = world.one(transfers(&batch));
    let (items, waiting) = transfers_done(&outputs[0]).expect("a batch is answered");
    assert_eq!((items.len(), waiting), (2500, 2500), "eleven is too much in any case");
    let content = Content::Commands(vec![decide(holder, 1, Verdict::Abort)]);
    let entry = to_vec(&Entry { format: FORMAT, time: LogTime(0), wall: 0, content });
    world.ledger.begin(world.ledger.applied(), &entry);
    let (mut outputs, mut steps) = (Vec::new(), 1);
    while !world.ledger.apply(100, &mut outputs) {
        steps += 1;
    }
    assert!((25..60).contains(&steps), "{steps}");
    let results = late(&outputs);
    assert_eq!((results.len(), results.iter().filter(|(.., result)| *result == COMMITTED).count()), (2500, 1));
}

#[test]
fn expiry_is_applied_in_slices() {
    let mut world = World::new(G1);
    world.begin(move_money(1, 1, 11, 10), 1, 1);
    let batch: Vec<Transfer> = (0..1000).map(|id| move_money(100 + id, 1, 2, 10)).collect();
    world.one(transfers(&batch));
    let content = Content::Commands(Vec::new());
    let entry = to_vec(&Entry { format: FORMAT, time: LogTime(LONG.0), wall: 0, content });
    world.ledger.begin(world.ledger.applied(), &entry);
    let mut outputs = Vec::new();
    assert!(!world.ledger.apply(100, &mut outputs));
    assert_eq!(late(&outputs).len(), 100);
    while !world.ledger.apply(100, &mut outputs) {}
    assert_eq!((late(&outputs).len(), world.ledger.totals().waiting), (1000, 0));
}

#[test]
fn an_account_that_only_receives_does_not_wake_those_who_wait_to_pay_it() {
    let mut world = World::new(G1);
    world.begin(move_money(1, 1, 11, 10), 1, 1);
    let batch: Vec<Transfer> = (0..1000).map(|id| move_money(100 + id, 1, 2, 10)).collect();
    world.one(transfers(&batch));
    let content = Content::Commands(vec![transfers(&[move_money(2, 3, 2, 1)])]);
    let entry = to_vec(&Entry { format: FORMAT, time: LogTime(0), wall: 0, content });
    world.ledger.begin(world.ledger.applied(), &entry);
    assert!(world.ledger.apply(20, &mut Vec::new()), "nobody is looked at");
}

#[test]
#[should_panic(expected = "in their order")]
fn entries_are_applied_in_their_order() {
    World::new(G1).ledger.begin(Slot(5), &[]);
}

#[test]
#[should_panic(expected = "made by a leader")]
fn bytes_that_are_no_entry_are_a_broken_invariant() {
    World::new(G1).ledger.begin(Slot(1), &[0xc1]);
}

#[test]
#[should_panic(expected = "lower ballots")]
fn a_leaders_first_entry_does_not_follow_a_newer_one() {
    let mut world = World::new(G1);
    world.lead(5);
    world.lead(4);
}

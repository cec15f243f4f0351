//! Number 5: histories without a serial order, each read of which is right by itself.

use super::serializable::Observation;
use super::*;

fn sees(name: &str, span: (u64, u64), seen: &[(u128, u128, u128)], writes: Option<&Transfer>) -> Observation {
    let found =
        |(id, debits, credits): &(u128, u128, u128)| (AccountId(*id), Some(account(AccountId(*id), *debits, *credits)));
    let (name, writes) = (name.to_owned(), writes.map(TxnId::from));
    Observation { name, span, seen: seen.iter().map(found).collect(), writes }
}

/// Hazard S1(b): T: X (6) to A (1), home g2. A read of X that began before T2 sees T and not T2, which credits X; another
/// one, of A, sees T3, which was asked for after T2 was answered, and not T. Each read by itself is right.
fn s1b(read_of_x: (u128, u128)) -> Story {
    let (t, t2, t3) = (transfer(1, 6, 1, 3), transfer(2, 7, 6, 1), transfer(3, 2, 1, 2));
    let mut story = Story::new();
    story.asked(t, 5, 90, Outcome::Committed);
    // g2 posts T first, so the read left T2 out and X was (3, 10); g1 posts T3 before T.
    story.posted(t, Sides::Debit).within(t2, 20, 30).within(t3, 31, 40).posted(t, Sides::Credit);
    story.read(6, 6, 95, read_of_x.0, read_of_x.1).read(1, 41, 50, 0, 12);
    story
}

#[test]
fn s1b_a_read_that_adds_later_outcomes_to_an_earlier_value_is_found() {
    let story = s1b((3, 10));
    assert_eq!(story.found(), ["serializable"]);
    let cycle = story.cycle().unwrap();
    assert_eq!(
        cycle,
        "transfer 6 to 1 of 3 [5, 90] was seen by read of 6 [6, 95] did not see transfer 7 to 6 of 1 [20, 30] \
         ended before the beginning of read of 1 [41, 50] did not see transfer 6 to 1 of 3 [5, 90]"
    );
    assert_eq!(s1b((3, 11)).found(), Vec::<&str>::new(), "with T2 in it the read is right");
}

/// Hazard S1(c): T' (1 to 6, home g1) is decided and answered; T4 credits X (6) after that answer; the read
/// of X returns T4 without T'.
fn s1c(read_of_x: (u128, u128)) -> Story {
    let (t, t4) = (transfer(1, 1, 6, 3), transfer(2, 7, 6, 1));
    let mut story = Story::new();
    story.asked(t, 10, 20, Outcome::Committed).posted(t, Sides::Debit);
    // The resolve of T' comes after T4.
    story.within(t4, 30, 40).posted(t, Sides::Credit);
    story.read(6, 5, 50, read_of_x.0, read_of_x.1);
    story
}

#[test]
fn s1c_a_read_that_leaves_out_what_was_prepared_later_is_found() {
    let story = s1c((0, 11));
    assert_eq!(story.found(), ["serializable"]);
    let cycle = story.cycle().unwrap();
    assert_eq!(
        cycle,
        "transfer 1 to 6 of 3 [10, 20] ended before the beginning of transfer 7 to 6 of 1 [30, 40] was seen by \
         read of 6 [5, 50] did not see transfer 1 to 6 of 3 [10, 20]"
    );
    assert_eq!(s1c((0, 14)).found(), Vec::<&str>::new());
    assert_eq!(s1c((0, 10)).found(), Vec::<&str>::new(), "before both is right, too");
}

/// Hazard S2: two operations, each of which looks at an account (its condition) and takes from the other one: neither
/// saw the other.
#[test]
fn s2_write_skew_is_found() {
    let (ta, tb) = (transfer(1, 6, 7, 5), transfer(2, 1, 2, 5));
    let skew = |seen_by_b: (u128, u128)| {
        let mut story = Story::new();
        story.within(ta, 10, 50).within(tb, 10, 50);
        story.extra = vec![
            sees("Ta", (10, 50), &[(1, 0, 10)], Some(&ta)),
            sees("Tb", (10, 50), &[(6, seen_by_b.0, seen_by_b.1)], Some(&tb)),
        ];
        story.cycle()
    };
    let cycle = skew((0, 10)).unwrap();
    assert_eq!(
        cycle,
        "transfer 1 to 2 of 5 [10, 50] did not see transfer 6 to 7 of 5 [10, 50] did not see transfer 1 to 2 of 5 \
         [10, 50]"
    );
    assert_eq!(skew((5, 10)), None, "the second saw the first");
}

/// Hazard S2: a read of A (1) and X (6) sees T3 and not T2, which was answered before T3 was asked for.
#[test]
fn s2_a_fractured_read_is_found() {
    let (t2, t3) = (transfer(1, 1, 2, 4), transfer(2, 7, 6, 4));
    let fractured = |a: (u128, u128), x: (u128, u128)| {
        let mut story = Story::new();
        story.within(t2, 20, 30).within(t3, 40, 50);
        story.extra = vec![sees("both", (10, 60), &[(1, a.0, a.1), (6, x.0, x.1)], None)];
        assert_eq!(story.found(), Vec::<&str>::new());
        story.cycle()
    };
    let cycle = fractured((0, 10), (0, 14)).unwrap();
    assert_eq!(
        cycle,
        "transfer 1 to 2 of 4 [20, 30] ended before the beginning of transfer 7 to 6 of 4 [40, 50] was seen by both \
         did not see transfer 1 to 2 of 4 [20, 30]"
    );
    assert_eq!(fractured((4, 10), (0, 14)), None);
    assert_eq!(fractured((4, 10), (0, 10)), None);
    assert_eq!(fractured((0, 10), (0, 10)), None);
}

/// Two reads of both accounts that see two unrelated transfers in different orders.
#[test]
fn a_long_fork_is_found() {
    let (ta, tx) = (transfer(1, 1, 2, 4), transfer(2, 6, 7, 4));
    let fork = |second: [(u128, u128, u128); 2]| {
        let mut story = Story::new();
        story.within(ta, 10, 90).within(tx, 10, 90);
        story.extra =
            vec![sees("one", (20, 80), &[(1, 4, 10), (6, 0, 10)], None), sees("two", (20, 80), &second, None)];
        story.cycle()
    };
    assert!(fork([(1, 0, 10), (6, 4, 10)]).is_some());
    assert!(fork([(1, 4, 10), (6, 4, 10)]).is_none());
}

/// A took part in T, which nobody was told of; the read that saw it ended before one began that did not.
#[test]
fn what_took_effect_without_an_answer_takes_part() {
    let t = transfer(1, 1, 6, 3);
    let story = |second: u64| {
        let mut story = Story::new();
        story.history.invoke(10, t);
        story.posted(t, Sides::Debit).posted(t, Sides::Credit);
        story.read(1, 20, 30, 3, 10).read(6, second, 60, 0, 10);
        story
    };
    assert_eq!(story(40).found(), ["serializable"]);
    assert_eq!(story(25).found(), Vec::<&str>::new());
}

/// The rejected transfer can only have come before the credit, a read saw the credit, and all that began later.
#[test]
fn a_rejection_is_on_the_right_side_of_what_made_the_difference() {
    let (credit, poor) = (transfer(1, 6, 1, 9), transfer(2, 1, 2, 15));
    let story = |read_ends: u64| {
        let mut story = Story::new();
        story.across(credit, 10, 90);
        // The read that saw the credit had ended before the rejected transfer was asked for.
        story.read(1, 20, read_ends, 0, 19).rejected(poor, 40, 50, Reason::ExceedsCredits);
        story
    };
    assert_eq!(story(30).found(), ["serializable"]);
    assert!(story(30).cycle().unwrap().contains("rejected"));
    assert_eq!(story(45).found(), Vec::<&str>::new());
}

#[test]
fn a_cycle_among_ten_thousand_operations_is_found() {
    let mut story = Story::new();
    story.swarm.shape.initial_balance = 1_000_000;
    for view in story.groups.values_mut().flatten() {
        view.accounts.iter_mut().for_each(|account| account.credits_posted = 1_000_000);
    }
    let mut debits = 0;
    for n in 0..10_000u128 {
        let at = n as u64 * 10;
        let t = transfer(n + 1, 1, 6, 1);
        if n % 2 == 0 {
            story.across(t, at, at + 25);
            debits += 1;
        } else {
            story.read(1, at, at + 35, debits, 1_000_000);
        }
    }
    assert_eq!(story.cycle(), None);
    assert_eq!(story.found(), Vec::<&str>::new());
    // The last read goes back by one transfer that was answered long ago: one cycle through all components.
    story.read(1, 200_000, 200_001, 1, 1_000_000);
    assert!(story.cycle().is_some());
}

//! Planted bugs are found, and where nothing is planted nothing is.

use drachma_protocol::planted::{Bug, Harm};
use drachma_sim::checkers::Class;
use drachma_sim::planted::{Finding, Seeds, control, hunt};
use drachma_sim::roles::REAL;

/// Those that show within a few seeds from zero, one or two for each part of the house.
const QUICK: [Bug; 8] = [
    Bug::HalfIsQuorum,
    Bug::CommitAcrossBallots,
    Bug::OwnLogAdopted,
    Bug::MissedNotAsked,
    Bug::ResolvedTwice,
    Bug::NeverResolved,
    Bug::ReceivedNotCounted,
    Bug::ReadInDoubt,
];

fn seeds(count: u64) -> Seeds {
    Seeds { from: 0, count, threads: std::thread::available_parallelism().map_or(1, usize::from) }
}

fn class(finding: &Finding) -> Option<Class> {
    finding.found.as_ref().map(|(_, violation)| violation.class)
}

#[test]
fn bugs_of_every_part_are_found_and_without_them_the_same_seeds_pass() {
    for bug in QUICK {
        let finding = hunt(&REAL, bug, seeds(40));
        println!("{finding}");
        assert!(finding.found.is_some(), "{} is not found", bug.name());
        if bug.harm() == Harm::Liveness {
            assert_eq!(class(&finding), Some(Class::Liveness), "{}", bug.name());
        }
    }
    assert_eq!(control(&REAL, seeds(40)), None);
}

#[test]
fn what_never_resolves_is_found_as_liveness() {
    assert_eq!(class(&hunt(&REAL, Bug::NeverResolved, seeds(10))), Some(Class::Liveness));
}

#[test]
fn the_first_seed_that_shows_a_bug_does_not_depend_on_the_threads() {
    let found = |threads| hunt(&REAL, Bug::NeverAsks, Seeds { threads, ..seeds(40) }).found;
    assert!(found(1).is_some());
    assert_eq!(found(1), found(3));
}

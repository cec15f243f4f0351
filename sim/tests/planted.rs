//! Planted bugs are found, in seeds that find nothing where nothing is planted.

use drachma_protocol::planted::Bug;
use drachma_sim::checkers::Class;
use drachma_sim::planted::{Finding, Seeds, hunt};
use drachma_sim::roles::REAL;

/// Those that show within a few seeds from zero, whatever else changes: some for each part of the house.
const QUICK: [Bug; 16] = [
    Bug::AcceptedBeforeSync,
    Bug::PromiseNotWritten,
    Bug::HeartbeatBelowPromise,
    Bug::AnyLogAdopted,
    Bug::HalfIsQuorum,
    Bug::OwnDiskAlone,
    Bug::SynchronisedInParts,
    Bug::LogTimeBack,
    Bug::MissedNotAsked,
    Bug::SameAttempt,
    Bug::ForgottenOnSending,
    Bug::ResolvedTwice,
    Bug::NeverResolved,
    Bug::FenceNotRecorded,
    Bug::DebitInDoubtFree,
    Bug::ReceivedNotCounted,
];
/// How many seeds they have.
const FEW: u64 = 8;

fn seeds(count: u64) -> Seeds {
    Seeds { from: 0, count, threads: std::thread::available_parallelism().map_or(1, usize::from) }
}

fn class(finding: &Finding) -> Option<Class> {
    finding.found.as_ref().map(|(_, violation)| violation.class)
}

// The hunt runs each finding seed once more with nothing planted, and counts it only if that passes.
#[test]
fn bugs_of_every_part_are_found_within_a_few_seeds_that_pass_without_them() {
    for bug in QUICK {
        let finding = hunt(&REAL, bug, seeds(FEW));
        println!("{finding}");
        assert!(finding.found.is_some(), "{} is not found", bug.name());
    }
}

#[test]
fn what_never_resolves_is_found_as_liveness() {
    assert_eq!(class(&hunt(&REAL, Bug::NeverResolved, seeds(FEW))), Some(Class::Liveness));
}

#[test]
fn the_first_seed_that_shows_a_bug_does_not_depend_on_the_threads() {
    let found = |threads| hunt(&REAL, Bug::NeverAsks, Seeds { threads, ..seeds(FEW) }).found;
    assert!(found(1).is_some());
    assert_eq!(found(1), found(3));
}

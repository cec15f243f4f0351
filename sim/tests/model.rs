//! The models within small bounds. With the feature `planted`: each planted bug that they can see is found.

use std::sync::{Mutex, PoisonError};

use drachma_sim::model::{self, Claim, Name, Options, Report};

/// A planted bug is there for the whole process, so one test checks at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn check(model: Name, options: &Options) -> Report {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    model::check(model, options, &|_| {})
}

fn assert_good(report: &Report) {
    for verdict in &report.verdicts {
        assert!(!verdict.is_broken(), "{} is broken: {:#?}", verdict.name, verdict.path);
        assert!(!verdict.is_missing(), "{} was not seen in {:?}", verdict.name, report.progress);
    }
    assert!(report.exhausted, "{:?}", report.progress);
    assert!(!report.failed());
}

#[test]
fn two_leaders_agree_in_every_order_of_messages() {
    let options = Options { crashes: 0, invariants: vec!["log-matching".to_owned()], ..Options::of(Name::Paxos) };
    assert_good(&check(Name::Paxos, &Options { doubts: 0, ..options }));
}

#[test]
fn a_hand_over_makes_no_two_logs_in_any_order_of_messages() {
    let bounds = Options { elections: 0, moves: 1, crashes: 0, doubts: 0, ..Options::of(Name::Paxos) };
    assert_good(&check(Name::Paxos, &Options { invariants: vec!["log-matching".to_owned()], ..bounds }));
}

#[test]
fn a_log_that_has_lost_its_end_does_no_harm() {
    let bounds = Options { elections: 0, crashes: 1, doubts: 1, ..Options::of(Name::Paxos) };
    assert_good(&check(Name::Paxos, &bounds));
}

#[test]
fn both_groups_end_a_transfer_alike_whoever_leads() {
    let bounds = Options { elections: 1, crashes: 0, timers: 0, commands: 1, ..Options::of(Name::Commit) };
    let invariants = vec!["votes-are-applied".to_owned()];
    assert_good(&check(Name::Commit, &Options { invariants, ..bounds }));
}

#[test]
fn of_two_transfers_that_do_not_fit_together_one_is_rejected() {
    let bounds = Options { elections: 0, crashes: 0, timers: 0, commands: 2, ..Options::of(Name::Commit) };
    let report = check(Name::Commit, &bounds);
    assert_good(&report);
    let rejected = report.verdicts.iter().find(|verdict| verdict.name == "a client is told `rejected`");
    assert!(rejected.is_some_and(|verdict| verdict.path.is_some()));
}

#[test]
fn what_the_bounds_rule_out_is_named_and_not_missed() {
    let bounds = Options { elections: 0, crashes: 0, doubts: 0, commands: 0, ..Options::of(Name::Paxos) };
    let report = check(Name::Paxos, &bounds);
    assert_good(&report);
    let sometimes = report.verdicts.iter().filter(|verdict| verdict.claim == Claim::Sometimes);
    assert!(sometimes.into_iter().all(|verdict| verdict.needs.is_some() && verdict.path.is_none()));
}

#[test]
fn examples_are_shortest_paths() {
    let bounds = Options { elections: 0, crashes: 0, doubts: 0, examples: true, ..Options::of(Name::Paxos) };
    let report = check(Name::Paxos, &bounds);
    let answered = report.verdicts.iter().find(|verdict| verdict.name == "a command is answered");
    let path = answered.and_then(|verdict| verdict.path.as_ref()).expect("a command is answered");
    // It is sent, one follower accepts it, and the leader hears of that.
    assert_eq!(path.len(), 3, "{path:#?}");
}

#[cfg(feature = "planted")]
#[test]
fn each_planted_bug_is_found_with_a_shortest_path() {
    use drachma_protocol::planted::{Bug, plant};
    let paxos = Options { elections: 1, crashes: 1, doubts: 0, timers: 0, ..Options::of(Name::Paxos) };
    let doubt = Options { doubts: 1, ..paxos.clone() };
    let commit = Options { elections: 1, crashes: 1, timers: 0, commands: 1, ..Options::of(Name::Commit) };
    let votes = Options { invariants: vec!["votes-are-applied".to_owned()], ..commit.clone() };
    let found = [
        (Name::Paxos, &paxos, Bug::AcceptedBeforeSync, "durable before said", 1),
        (Name::Paxos, &paxos, Bug::PromiseIgnored, "agreement", 9),
        (Name::Paxos, &doubt, Bug::DoubtfulVotes, "agreement", 10),
        (Name::Commit, &commit, Bug::VotedOnReceipt, "atomicity", 5),
        (Name::Commit, &votes, Bug::VotedOnReceipt, "votes-are-applied", 2),
        (Name::Commit, &commit, Bug::ResolvedOnReceipt, "without faults everything comes to rest", 9),
    ];
    for (model, bounds, bug, property, steps) in found {
        let report = {
            let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            plant(Some(bug));
            let report = model::check(model, bounds, &|_| {});
            plant(None);
            report
        };
        let broken = report.verdicts.iter().find(|verdict| verdict.is_broken());
        let broken = broken.unwrap_or_else(|| panic!("{} is not found: {:?}", bug.name(), report.progress));
        let path = broken.path.as_ref().unwrap();
        println!("{}: {} in {} steps", bug.name(), broken.name, path.len());
        assert_eq!((broken.name, path.len()), (property, steps), "{path:#?}");
    }
}

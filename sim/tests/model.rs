//! The models within small bounds. With the feature `planted`: each planted bug that they can see is found.

use drachma_sim::model::{Claim, Name, Options, Progress, Report, check};

fn quiet(_: Progress) {}

fn assert_good(report: &Report) {
    for verdict in &report.verdicts {
        assert!(!verdict.is_broken(), "{} is broken: {:#?}", verdict.name, verdict.path);
        let seen = verdict.claim == Claim::Always || verdict.path.is_some();
        assert!(seen, "{} was not seen in {:?}", verdict.name, report.progress);
    }
    assert!(report.exhausted, "{:?}", report.progress);
}

#[test]
fn two_leaders_agree_in_every_order_of_messages() {
    let options = Options { crashes: 0, invariants: vec!["log-matching".to_owned()], ..Options::of(Name::Paxos) };
    assert_good(&check(Name::Paxos, &options, &quiet));
}

#[test]
fn both_groups_end_a_transfer_alike_whoever_leads() {
    let options = Options { crashes: 0, timers: 0, ..Options::of(Name::Commit) };
    assert_good(&check(Name::Commit, &options, &quiet));
}

#[cfg(feature = "planted")]
#[test]
fn each_planted_bug_is_found_with_a_shortest_path() {
    use drachma_protocol::planted::{Bug, plant};
    let found = [
        (Name::Paxos, Bug::AcceptedBeforeSync, "durable before said"),
        (Name::Paxos, Bug::PromiseIgnored, "agreement"),
        (Name::Commit, Bug::VotedOnReceipt, "atomicity"),
        (Name::Commit, Bug::ResolvedOnReceipt, "without faults everything comes to rest"),
    ];
    for (model, bug, property) in found {
        plant(Some(bug));
        let report = check(model, &Options { timers: 0, ..Options::of(model) }, &quiet);
        plant(None);
        let broken = report.verdicts.iter().find(|verdict| verdict.is_broken());
        let broken = broken.unwrap_or_else(|| panic!("{} is not found: {:?}", bug.name(), report.progress));
        let path = broken.path.as_ref().unwrap();
        println!("{}: {} in {} steps", bug.name(), broken.name, path.len());
        assert_eq!(broken.name, property, "{path:#?}");
    }
}

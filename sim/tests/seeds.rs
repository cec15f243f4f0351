//! The hunt as part of the test suite: the real roles under every fault and every checker.
//!
//! `DRACHMA_SEEDS` says how many seeds, `DRACHMA_SEED_FROM` from which on. `drachma sim` does the same, and more.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use drachma_sim::checkers::{Checkers, Class, canary::Canary};
use drachma_sim::plan::{Overrides, Plan};
use drachma_sim::roles::REAL;
use drachma_sim::run::{Hunt, Progress, Simulation};
use drachma_sim::shrink::{Limits, shrink};
use drachma_sim::trace::Keep;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")))
}

#[test]
fn every_seed_keeps_every_promise() {
    let (count, from) = (number("DRACHMA_SEEDS").unwrap_or(60), number("DRACHMA_SEED_FROM").unwrap_or(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{count} seeds from {from}");
    let summary = REAL.hunt(from, count, threads, &|failure| println!("{failure}\n"));
    println!("{summary}");
    assert!(summary.failed.is_empty(), "{} of {count} seeds failed", summary.failed.len());
    assert!(summary.committed > count * 20 && summary.reads > count, "the runs did something");
}

#[test]
fn two_runs_of_a_seed_are_equal() {
    for seed in 0..5 {
        let (first, second) = (REAL.run(seed, 0), REAL.run(seed, 100));
        assert_eq!(
            (first.hash, first.events, first.length),
            (second.hash, second.events, second.length),
            "seed {seed}"
        );
    }
}

#[test]
fn the_whole_trace_of_a_seed_is_the_same_twice() {
    let trace = |seed| REAL.run_plan(&Plan::of(seed), Keep::bytes(64 << 20), u64::MAX).lines;
    for seed in [1, 7] {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > 1000 && first == second, "seed {seed}");
    }
}

#[test]
fn what_is_left_out_leaves_the_rest_as_it_was() {
    // Client 0 asks for the same, whoever else is there; its first operation is drawn before anything is answered.
    let plan = |seed: u64, text: &str| Plan { seed, with: text.parse().expect("it is allowed") };
    let first = |seed: u64, text: &str| {
        let history = REAL.run_plan(&plan(seed, text), Keep::NOTHING, u64::MAX).history;
        let records = history.transfers.into_values();
        records.filter(|record| record.invoked == 1).map(|record| format!("{:?}", record.transfer)).collect::<Vec<_>>()
    };
    let begins = |seed: &u64| !first(*seed, "clients=1,operations=1,faults=0,safety=0.1s").is_empty();
    let seed = (11..40).find(begins).expect("the first client of some seed begins with transfers");
    let (all, one) = (first(seed, ""), first(seed, "clients=1,faults=0,loss=0"));
    assert_eq!(all, one);
    let few = REAL.run_plan(&plan(seed, "clients=1,operations=3,batch=1,safety=0.5s"), Keep::NOTHING, u64::MAX);
    assert!(few.history.transfers.len() + few.history.reads.len() <= 20, "{:?}", few.history);
    assert_eq!(few.violation, None);
}

fn only_a_canary() -> Checkers {
    let mut checkers = Checkers::none();
    checkers.add(Box::new(Canary));
    checkers
}

#[test]
fn a_canary_is_reported_with_its_seed_and_how_to_see_it_again() {
    let simulation = Simulation { checkers: &only_a_canary, ..REAL };
    let failure = simulation.check(3).expect_err("the canary always fails");
    assert_eq!((failure.seed, failure.violation.checker), (3, "canary"));
    assert!(failure.lines.len() > 50);
    assert!(failure.to_string().contains("again: drachma sim --seed 3\n"), "{failure}");
}

#[test]
fn a_canary_is_shrunk_to_almost_nothing_and_fails_again_as_told() {
    let simulation = Simulation { checkers: &only_a_canary, ..REAL };
    let (plan, never) = (Plan::of(3), AtomicBool::new(false));
    let outcome = simulation.run_plan(&plan, Keep::NOTHING, u64::MAX);
    let limits = Limits { time: Duration::from_secs(600), runs: 200 };
    let shrunk = shrink(&simulation, &plan, &outcome, limits, &never).expect("it fails");
    assert!(shrunk.events * 10 < shrunk.before && shrunk.runs <= 200, "{shrunk:?}");
    let said = shrunk.plan.with.to_string();
    let again = Plan { seed: 3, with: said.parse().expect("it is what was said") };
    let outcome = simulation.run_plan(&again, Keep::NOTHING, u64::MAX);
    assert_eq!((outcome.events, outcome.violation.map(|found| found.checker)), (shrunk.events, Some("canary")));
}

fn canary_hunt(stop: &AtomicBool, count: u64) -> (u64, Option<Class>, u64) {
    let simulation = Simulation { checkers: &only_a_canary, ..REAL };
    let (progress, told) = (Progress::default(), std::sync::Mutex::new(Vec::new()));
    let limits = Limits { time: Duration::from_secs(600), runs: 5 };
    let hunt = Hunt {
        from: 5,
        count,
        with: Overrides::default(),
        threads: 2,
        lines: 10,
        shrink: Some(limits),
        stop,
        progress: &progress,
    };
    let summary = simulation.hunt_for(&hunt, &|failure| {
        told.lock().expect("nobody panics").push(failure.lines.len());
    });
    let mut told = told.into_inner().expect("nobody panics");
    told.sort_unstable();
    let expected: &[usize] = if count == 0 || summary.failed.is_empty() { &[] } else { &[0, 0, 10] };
    assert_eq!(told, expected, "only the first failure of a checker is told with its trace");
    (summary.failed.len() as u64, summary.worst(), progress.seeds.into_inner())
}

#[test]
fn a_hunt_counts_its_failures_and_stops_when_told() {
    assert_eq!(canary_hunt(&AtomicBool::new(false), 3), (3, Some(Class::Safety), 3));
    assert_eq!(canary_hunt(&AtomicBool::new(true), 3), (0, None, 0));
}

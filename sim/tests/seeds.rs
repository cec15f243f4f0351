//! The hunt as part of the test suite: the real roles under every fault and every checker.
//!
//! `DRACHMA_SEEDS` says how many seeds, `DRACHMA_SEED_FROM` from which on; `DRACHMA_SEED` runs one, with its trace.

use drachma_sim::checkers::{Checkers, canary::Canary};
use drachma_sim::roles::REAL;
use drachma_sim::run::Simulation;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, not a number")))
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("DRACHMA_SEED") {
        match REAL.check(seed) {
            Ok(_) => return,
            Err(failure) => panic!("{failure}"),
        }
    }
    let (count, from) = (number("DRACHMA_SEEDS").unwrap_or(2000), number("DRACHMA_SEED_FROM").unwrap_or(0));
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
fn a_canary_is_reported_with_its_seed_and_how_to_see_it_again() {
    let checkers = || {
        let mut checkers = Checkers::none();
        checkers.add(Box::new(Canary));
        checkers
    };
    let simulation = Simulation { checkers: &checkers, ..REAL };
    let failure = simulation.check(3).expect_err("the canary always fails");
    assert_eq!((failure.seed, failure.violation.checker), (3, "canary"));
    assert!(failure.lines.len() > 50);
    assert!(failure.to_string().contains("--seed 3"));
}

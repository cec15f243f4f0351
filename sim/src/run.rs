//! One seed, from the draw to the verdict; and many of them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use drachma_protocol::rng::Rng;

use crate::checkers::{Checkers, Class, Violation};
use crate::coverage::Coverage;
use crate::faults::Swarm;
use crate::node::Assembly;
use crate::world::{Outcome, World};

/// How many lines of the trace a report has.
const LINES: usize = 200;

/// A run that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
    /// What happened last.
    pub lines: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            // A batch in hexadecimal helps nobody.
            writeln!(f, "{}", line.chars().take(600).collect::<String>())?;
        }
        let Violation { checker, class, text } = &self.violation;
        writeln!(f, "seed {}: {checker} ({class:?}): {text}", self.seed)?;
        write!(f, "again: cargo run -p drachma-sim --example replay -- --seed {}", self.seed)
    }
}

/// What a seed is turned into.
pub struct Simulation<'a> {
    /// Makes the roles.
    pub assembly: &'a (dyn Fn(&Swarm) -> Box<dyn Assembly> + Sync),
    /// Makes the checkers.
    pub checkers: &'a (dyn Fn() -> Checkers + Sync),
}

impl Simulation<'_> {
    /// Runs one seed and keeps the last `lines` of its trace.
    pub fn run(&self, seed: u64, lines: usize) -> Outcome {
        let mut rng = Rng::new(seed);
        let swarm = Swarm::draw(&mut rng);
        let assembly = (self.assembly)(&swarm);
        World::new(&swarm, assembly.as_ref(), (self.checkers)(), &mut rng, lines).run()
    }

    /// Runs one seed; if it fails, once more with its trace.
    ///
    /// # Errors
    /// What went wrong, and how.
    pub fn check(&self, seed: u64) -> Result<Outcome, Box<Failure>> {
        let outcome = self.run(seed, 0);
        if outcome.violation.is_none() {
            return Ok(outcome);
        }
        let Outcome { violation, lines, .. } = self.run(seed, LINES);
        let violation = violation.unwrap_or_else(|| {
            let text = "a second run of the seed went well: the simulator is not deterministic".to_owned();
            Violation { checker: "world", class: Class::Crash, text }
        });
        Err(Box::new(Failure { seed, violation, lines }))
    }

    /// Runs seeds `from..from + count` on this many threads, and reports the failures as they are found.
    pub fn hunt(&self, from: u64, count: u64, threads: usize, report: &(dyn Fn(&Failure) + Sync)) -> Summary {
        let (next, summary) = (AtomicU64::new(from), Mutex::new(Summary::default()));
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= from.saturating_add(count) {
                    return;
                }
                let result = self.check(seed);
                let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(outcome) => summary.add(seed, &outcome),
                    Err(failure) => {
                        summary.failed.push((seed, failure.violation.clone()));
                        report(&failure);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(work);
            }
        });
        let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
        summary.failed.sort_by_key(|(seed, _)| *seed);
        summary
    }
}

/// What many runs were.
#[derive(Debug, Default)]
pub struct Summary {
    /// Runs that went well.
    pub passed: u64,
    /// Simulated microseconds.
    pub length: u64,
    /// Events.
    pub events: u64,
    /// Transfers that were asked for.
    pub transfers: u64,
    /// Transfers that took effect.
    pub committed: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// The longest time until all that was healed had come to rest, in simulated microseconds, and its seed.
    pub longest_rest: (u64, u64),
    /// What happened how often.
    pub coverage: Coverage,
    /// The seeds that failed, and how.
    pub failed: Vec<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.passed += 1;
        self.length += outcome.length;
        self.events += outcome.events;
        self.transfers += outcome.history.transfers.len() as u64;
        self.committed +=
            outcome.history.transfers.values().filter(|record| record.committed_at().is_some()).count() as u64;
        self.reads += outcome.history.reads.len() as u64;
        self.coverage.merge(&outcome.coverage);
        self.longest_rest = self.longest_rest.max((outcome.rest, seed));
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.coverage)?;
        let (failed, seconds) = (self.failed.len(), self.length / 1_000_000);
        write!(
            f,
            "{} seeds passed, {failed} failed; {seconds} simulated seconds, {} events; ",
            self.passed, self.events
        )?;
        write!(f, "{} transfers ({} committed), {} reads", self.transfers, self.committed, self.reads)
    }
}

//! One seed, from the draw to the verdict; and many of them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::checkers::{Checkers, Class, Violation};
use crate::coverage::Coverage;
use crate::faults::Swarm;
use crate::node::Assembly;
use crate::plan::{Overrides, Plan};
use crate::shrink::{Limits, Shrunk, shrink};
use crate::trace::Keep;
use crate::world::{Outcome, World};

/// How many lines of the trace a report has, if nobody says otherwise.
pub const LINES: usize = 60;
/// The longest line of a report: a batch in hexadecimal helps nobody.
const LONGEST_LINE: usize = 400;

/// A run that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The run.
    pub seed: u64,
    /// What it was run as.
    pub plan: Plan,
    /// What was broken.
    pub violation: Violation,
    /// How many events it took.
    pub events: u64,
    /// The same failure with less around it.
    pub shrunk: Option<Shrunk>,
    /// What happened last, in the smallest run that is known.
    pub lines: Vec<String>,
}

impl Failure {
    /// The smallest run that is known to fail like this.
    pub fn smallest(&self) -> &Plan {
        self.shrunk.as_ref().map_or(&self.plan, |shrunk| &shrunk.plan)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{}", line.chars().take(LONGEST_LINE).collect::<String>())?;
        }
        let Violation { checker, class, text } = &self.violation;
        writeln!(f, "FAILED seed {}: {checker} ({class}): {text}", self.seed)?;
        match &self.shrunk {
            None => writeln!(f, "  {} events", self.events)?,
            Some(shrunk) => {
                let Shrunk { events, before, runs, .. } = shrunk;
                writeln!(
                    f,
                    "  {before} events, shrunk to {events} in {runs} runs; as the seed draws it: {}",
                    self.plan
                )?;
            }
        }
        let again = self.smallest();
        write!(f, "  again: {again}\n         {}", again.to_string().replacen("drachma", "cargo run --release --", 1))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Safety => "safety",
            Class::Liveness => "liveness",
            Class::Crash => "crash",
        })
    }
}

/// What a seed is turned into.
pub struct Simulation<'a> {
    /// Makes the roles.
    pub assembly: &'a (dyn Fn(&Swarm) -> Box<dyn Assembly> + Sync),
    /// Makes the checkers.
    pub checkers: &'a (dyn Fn() -> Checkers + Sync),
}

/// A hunt over many seeds.
pub struct Hunt<'a> {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub count: u64,
    /// What is otherwise than they draw.
    pub with: Overrides,
    /// On how many threads.
    pub threads: usize,
    /// How many lines of its trace a report has.
    pub lines: usize,
    /// The first failure of each checker is shrunk, within these limits, and told with its trace.
    pub shrink: Option<Limits>,
    /// Set it to end early.
    pub stop: &'a AtomicBool,
    /// How far it is.
    pub progress: &'a Progress,
}

/// How far a hunt is, for those who watch it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Seeds that are done.
    pub seeds: AtomicU64,
    /// Of them failed.
    pub failed: AtomicU64,
    /// Events so far.
    pub events: AtomicU64,
    /// Simulated microseconds so far.
    pub length: AtomicU64,
}

impl Progress {
    fn add(&self, outcome: &Outcome) {
        self.seeds.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(outcome.violation.is_some().into(), Ordering::Relaxed);
        self.events.fetch_add(outcome.events, Ordering::Relaxed);
        self.length.fetch_add(outcome.length, Ordering::Relaxed);
    }
}

impl Simulation<'_> {
    /// Runs one seed and keeps the last `lines` of its trace.
    pub fn run(&self, seed: u64, lines: usize) -> Outcome {
        self.run_plan(&Plan::of(seed), Keep::lines(lines), u64::MAX)
    }

    /// Runs a plan, keeps so much of its trace, and gives up without a finding after so many events.
    pub fn run_plan(&self, plan: &Plan, keep: Keep, most_events: u64) -> Outcome {
        let (swarm, mut rng) = plan.draw();
        let assembly = (self.assembly)(&swarm);
        let world = World::new(&swarm, assembly.as_ref(), (self.checkers)(), &mut rng, 0);
        world.keep(keep).until_bored(most_events).run()
    }

    /// Runs one seed; if it fails, once more with its trace.
    ///
    /// # Errors
    /// What went wrong, and how.
    pub fn check(&self, seed: u64) -> Result<Outcome, Box<Failure>> {
        let plan = Plan::of(seed);
        let outcome = self.run_plan(&plan, Keep::NOTHING, u64::MAX);
        match &outcome.violation {
            None => Ok(outcome),
            Some(violation) => Err(Box::new(self.explain(&plan, &outcome, violation, LINES, None))),
        }
    }

    /// Tells of a run that has failed: shrinks it, if asked to, and runs it once more with its trace.
    pub fn explain(
        &self,
        plan: &Plan,
        outcome: &Outcome,
        violation: &Violation,
        lines: usize,
        shrinking: Option<(Limits, &AtomicBool)>,
    ) -> Failure {
        let shrunk = shrinking.and_then(|(limits, stop)| shrink(self, plan, outcome, limits, stop));
        let smallest = shrunk.as_ref().map_or(plan, |shrunk| &shrunk.plan);
        let again = self.run_plan(smallest, Keep::lines(lines), u64::MAX);
        let violation = match again.violation {
            Some(found) if (found.checker, found.class) == (violation.checker, violation.class) => found,
            _ => {
                let text =
                    format!("another run of it ends otherwise: the simulator is not deterministic; {violation:?}");
                Violation { checker: "world", class: Class::Crash, text }
            }
        };
        let (seed, plan) = (plan.seed, plan.clone());
        Failure { seed, plan, violation, events: outcome.events, shrunk, lines: again.lines }
    }

    /// Runs seeds `from..from + count` on this many threads, and reports each failure with its trace.
    pub fn hunt(&self, from: u64, count: u64, threads: usize, report: &(dyn Fn(&Failure) + Sync)) -> Summary {
        let (stop, progress) = (AtomicBool::new(false), Progress::default());
        let with = Overrides::default();
        self.hunt_for(
            &Hunt { from, count, with, threads, lines: LINES, shrink: None, stop: &stop, progress: &progress },
            report,
        )
    }

    /// Hunts, and reports each failure: the first of a checker with its trace, shrunk if that was asked for, the others
    /// with the command that runs them. Without shrinking all have their traces.
    pub fn hunt_for(&self, hunt: &Hunt<'_>, report: &(dyn Fn(&Failure) + Sync)) -> Summary {
        let (next, told) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()));
        // Each thread sums up for itself; nothing is shared while a seed runs.
        let work = || {
            let mut summary = Summary::default();
            while !hunt.stop.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= hunt.count {
                    break;
                }
                let plan = Plan { seed: hunt.from.wrapping_add(number), with: hunt.with.clone() };
                let outcome = self.run_plan(&plan, Keep::NOTHING, u64::MAX);
                hunt.progress.add(&outcome);
                summary.add(plan.seed, &outcome);
                let Some(violation) = &outcome.violation else { continue };
                summary.failed.push((plan.seed, violation.clone()));
                let key = (violation.checker, violation.class as u8);
                let is_first = told.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
                report(&self.explain_one(hunt, &plan, &outcome, violation, is_first));
            }
            summary
        };
        let mut summary = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..hunt.threads.max(1)).map(|_| scope.spawn(work)).collect();
            let mut all = Summary::default();
            for thread in threads {
                match thread.join() {
                    Ok(summary) => all.merge(summary),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            all
        });
        summary.failed.sort_by_key(|(seed, _)| *seed);
        summary
    }

    fn explain_one(
        &self,
        hunt: &Hunt<'_>,
        plan: &Plan,
        outcome: &Outcome,
        violation: &Violation,
        is_first: bool,
    ) -> Failure {
        match hunt.shrink {
            Some(limits) if is_first => self.explain(plan, outcome, violation, hunt.lines, Some((limits, hunt.stop))),
            None => self.explain(plan, outcome, violation, hunt.lines, None),
            Some(_) => Failure {
                seed: plan.seed,
                plan: plan.clone(),
                violation: violation.clone(),
                events: outcome.events,
                shrunk: None,
                lines: Vec::new(),
            },
        }
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
    /// Runs with a group that could not come back, whoever was healed: nothing was asked of their ends.
    pub hopeless: u64,
    /// The longest time until all that was healed had come to rest, in simulated microseconds, and its seed.
    pub longest_rest: (u64, u64),
    /// The same as thousandths of the bound of its run, and its seed.
    pub tightest_rest: (u64, u64),
    /// What happened how often.
    pub coverage: Coverage,
    /// The seeds that failed, and how.
    pub failed: Vec<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        let history = &outcome.history;
        self.passed += u64::from(outcome.violation.is_none());
        self.length += outcome.length;
        self.events += outcome.events;
        self.transfers += history.transfers.len() as u64;
        self.committed += history.transfers.values().filter(|record| record.committed_at().is_some()).count() as u64;
        self.reads += history.reads.len() as u64;
        self.hopeless += u64::from(outcome.hopeless);
        self.coverage.merge(&outcome.coverage);
        if !outcome.hopeless && outcome.violation.is_none() {
            self.longest_rest = self.longest_rest.max((outcome.rest, seed));
            self.tightest_rest = self.tightest_rest.max((outcome.rest * 1000 / outcome.bound.max(1), seed));
        }
    }

    fn merge(&mut self, other: Summary) {
        self.passed += other.passed;
        self.length += other.length;
        self.events += other.events;
        self.transfers += other.transfers;
        self.committed += other.committed;
        self.reads += other.reads;
        self.hopeless += other.hopeless;
        self.coverage.merge(&other.coverage);
        self.longest_rest = self.longest_rest.max(other.longest_rest);
        self.tightest_rest = self.tightest_rest.max(other.tightest_rest);
        self.failed.extend(other.failed);
    }

    /// The worst kind of failure: a broken promise of safety, then a crash, then a cluster that does not come to rest.
    pub fn worst(&self) -> Option<Class> {
        let classes: Vec<Class> = self.failed.iter().map(|(_, violation)| violation.class).collect();
        [Class::Safety, Class::Crash, Class::Liveness].into_iter().find(|class| classes.contains(class))
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
        writeln!(f, "{} transfers ({} committed), {} reads", self.transfers, self.committed, self.reads)?;
        let (rest, seed) = self.longest_rest;
        write!(f, "longest time to come to rest: {:.3} s (seed {seed}), ", rest as f64 / 1e6)?;
        let (share, seed) = self.tightest_rest;
        write!(f, "at most {}.{} % of a run's bound (seed {seed}); ", share / 10, share % 10)?;
        write!(f, "{} hopeless: too many disks were lost to ask for an end", self.hopeless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_failures_is_told() {
        let summary = |classes: &[Class]| {
            let violation = |class: &Class| Violation { checker: "c", class: *class, text: String::new() };
            let failed = classes.iter().map(|class| (1, violation(class))).collect();
            Summary { failed, ..Summary::default() }.worst()
        };
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[Class::Liveness]), Some(Class::Liveness));
        assert_eq!(summary(&[Class::Liveness, Class::Crash]), Some(Class::Crash));
        assert_eq!(summary(&[Class::Crash, Class::Safety, Class::Liveness]), Some(Class::Safety));
    }
}

//! The least that still fails: from a seed that fails to a plan whose run is short enough to be read.
//!
//! Greedy descent on the number of events. Each step leaves something out; because what is left out changes the draws
//! after it (who is asked first, how long a sync takes), each step is tried with several variations of the draws. A step
//! is taken if the same checker fails for the same class of reason after fewer events. A run is given up as soon as it
//! has more events than the best so far, so most cost little.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::checkers::Class;
use crate::faults::{FaultKind, Swarm};
use crate::plan::{Overrides, Plan};
use crate::run::Simulation;
use crate::trace::Keep;
use crate::world::Outcome;

/// How long one looks for less.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most so long.
    pub time: Duration,
    /// At most so many runs.
    pub runs: u64,
}

impl Default for Limits {
    /// Twenty seconds.
    fn default() -> Limits {
        Limits { time: Duration::from_secs(20), runs: 20_000 }
    }
}

/// A failure made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What fails.
    pub plan: Plan,
    /// After so many events.
    pub events: u64,
    /// So many it was.
    pub before: u64,
    /// How many runs it took to find.
    pub runs: u64,
}

/// The time to come to rest is not made shorter than this, in microseconds: a run that ends before a sound cluster is at
/// rest is short, but it shows nothing of what keeps it from that.
const LEAST_REST: u64 = 10_000_000;

/// Faults that are left out one by one; if there are more, only halves are tried.
const FEW_FAULTS: u64 = 60;

/// How many other draws each step is tried with, round after round without success.
const PATIENCE: [u64; 4] = [1, 4, 12, 30];

#[derive(Clone, Debug)]
enum Step {
    Number(&'static str, u64),
    Kinds(BTreeSet<FaultKind>),
    Without(u64),
    Safety(u64),
    Liveness(u64),
    // Only other draws.
    Vary,
}

impl Step {
    fn take(&self, with: &Overrides) -> Option<Overrides> {
        let with = with.clone();
        match self {
            Step::Number(name, value) => with.set(name, *value).ok(),
            Step::Kinds(kinds) => Some(with.only(kinds.clone())),
            Step::Without(fault) => Some(with.without(*fault)),
            Step::Safety(length) => Some(with.safety(*length)),
            Step::Liveness(length) => Some(with.liveness(Some(*length))),
            Step::Vary => Some(with),
        }
    }
}

struct Search<'a> {
    simulation: &'a Simulation<'a>,
    stop: &'a AtomicBool,
    until: Instant,
    limits: Limits,
    wanted: (&'static str, Class),
    best: Plan,
    // What the best run was.
    events: u64,
    length: u64,
    faults: u64,
    runs: u64,
    variation: u64,
}

/// Looks for less than `plan`, whose run was `outcome`, until the limits are reached, nothing helps any more, or `stop`.
pub fn shrink(
    simulation: &Simulation<'_>,
    plan: &Plan,
    outcome: &Outcome,
    limits: Limits,
    stop: &AtomicBool,
) -> Option<Shrunk> {
    let violation = outcome.violation.as_ref()?;
    let mut search = Search {
        simulation,
        stop,
        until: wall_clock() + limits.time,
        limits,
        wanted: (violation.checker, violation.class),
        best: plan.clone(),
        events: outcome.events,
        length: outcome.length,
        faults: outcome.faults,
        runs: 0,
        variation: plan.with.number("vary").unwrap_or(0),
    };
    search.descend();
    Some(Shrunk { plan: search.best, events: search.events, before: outcome.events, runs: search.runs })
}

/// The time that the user waits, which nothing inside a run can see.
#[expect(clippy::disallowed_methods, reason = "it bounds the search between runs, and no run depends on it")]
fn wall_clock() -> Instant {
    Instant::now()
}

impl Search<'_> {
    fn descend(&mut self) {
        let mut round = 0;
        while let Some(variations) = PATIENCE.get(round) {
            let before = self.events;
            for step in self.steps() {
                if self.is_over() {
                    return;
                }
                self.attempt(&step, *variations);
            }
            // As long as something helps, cheap attempts are the best.
            round = if self.events < before { 0 } else { round + 1 };
        }
    }

    fn is_over(&self) -> bool {
        self.runs >= self.limits.runs || self.stop.load(Ordering::Relaxed) || wall_clock() >= self.until
    }

    /// Tries a step as it is, and with other draws.
    fn attempt(&mut self, step: &Step, variations: u64) {
        let Some(with) = step.take(&self.best.with) else { return };
        if with != self.best.with && self.fails_sooner(with.clone()) {
            return;
        }
        for _ in 0..variations {
            self.variation += 1;
            let Ok(varied) = with.clone().set("vary", self.variation) else { return };
            if self.is_over() || self.fails_sooner(varied) {
                return;
            }
        }
    }

    fn fails_sooner(&mut self, with: Overrides) -> bool {
        self.runs += 1;
        let plan = Plan { seed: self.best.seed, with };
        let outcome = self.simulation.run_plan(&plan, Keep::NOTHING, self.events);
        if !self.is_wanted(&outcome) || outcome.events >= self.events || !self.is_stuck_for_good(&plan) {
            return false;
        }
        self.best = plan;
        (self.events, self.length, self.faults) = (outcome.events, outcome.length, outcome.faults);
        true
    }

    fn is_wanted(&self, outcome: &Outcome) -> bool {
        outcome.violation.as_ref().is_some_and(|found| (found.checker, found.class) == self.wanted)
    }

    /// With less time to come to rest a sound run would fail, too: then it must fail with all the time that it had.
    fn is_stuck_for_good(&self, plan: &Plan) -> bool {
        let with = plan.with.clone().liveness(None);
        !plan.with.has_liveness()
            || self.is_wanted(&self.simulation.run_plan(&Plan { with, ..*plan }, Keep::NOTHING, u64::MAX))
    }

    /// What can be left out of the best run, the large parts first.
    fn steps(&self) -> Vec<Step> {
        let (swarm, _) = self.best.draw();
        let has = |name| Overrides::found(&swarm, name).unwrap_or(0);
        let mut steps = vec![Step::Vary];
        if self.wanted.1 == Class::Liveness && swarm.bound() > LEAST_REST {
            steps.extend([LEAST_REST, swarm.bound() / 2].map(Step::Liveness));
        }
        let mut less = |name: &'static str, values: &[u64]| {
            let fewer = values.iter().copied().filter(|value| *value < has(name));
            steps.extend(fewer.map(|value| Step::Number(name, value)));
        };
        let (clients, operations, groups) = (has("clients"), has("operations"), has("groups"));
        less("groups", &[1, groups.saturating_sub(1).max(1)]);
        less("replicas", &[3]);
        less("clients", &[1, clients / 2, clients.saturating_sub(1).max(1)]);
        less("operations", &[1, 2, 4, operations / 4, operations / 2, operations * 3 / 4]);
        less("in-flight", &[1]);
        less("batch", &[1]);
        steps.extend(self.shorter(&swarm).map(Step::Safety));
        steps.extend(self.calmer(&swarm));
        for trouble in ["loss", "duplicate", "straggler", "slow", "torn"] {
            if has(trouble) > 0 {
                steps.push(Step::Number(trouble, 0));
            }
        }
        steps
    }

    fn shorter(&self, swarm: &Swarm) -> impl Iterator<Item = u64> {
        let length = swarm.safety.min(self.length);
        [16, 8, 4, 2].into_iter().map(move |part| length / part).chain([length * 3 / 4, length * 15 / 16])
    }

    fn calmer(&self, swarm: &Swarm) -> Vec<Step> {
        let mut kinds: BTreeSet<FaultKind> = swarm.kinds.iter().copied().collect();
        kinds.retain(|kind| !swarm.withheld.kinds.contains(kind));
        let mut steps = Vec::new();
        if !kinds.is_empty() {
            steps.push(Step::Kinds(BTreeSet::new()));
        }
        if kinds.len() > 1 {
            steps.extend(kinds.iter().map(|kind| Step::Kinds(BTreeSet::from([*kind]))));
            let others = |kind| Step::Kinds(kinds.iter().copied().filter(|other| other != kind).collect());
            steps.extend(kinds.iter().map(others));
        }
        if self.faults > 0 && !kinds.is_empty() {
            steps.extend([self.faults / 4, self.faults / 2, self.faults - 1].map(|most| Step::Number("faults", most)));
            let skipped = &swarm.withheld.numbers;
            steps.extend((0..self.faults.min(FEW_FAULTS)).filter(|n| !skipped.contains(n)).map(Step::Without));
        }
        steps
    }
}

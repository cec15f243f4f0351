//! Hunts for planted bugs: a simulator that does not find what is known to be there finds nothing.
//!
//! One bug is planted at a time, for the whole process, and seeds are run from a base on until one shows it. The first
//! seed that shows it is the same on every machine, however many threads look for it.

use std::fmt;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use drachma_protocol::planted::{Bug, Harm, plant};

use crate::checkers::{Class, Violation};
use crate::run::Simulation;

/// Which seeds are tried.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// How many.
    pub count: u64,
    /// On how many threads.
    pub threads: usize,
}

/// What became of the hunt for a bug.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The bug.
    pub bug: Bug,
    /// The first seed that showed it, and as what.
    pub found: Option<(u64, Violation)>,
    /// How many seeds that took: up to the one that showed it, or all.
    pub seeds: u64,
    /// How long that took.
    pub time: Duration,
}

/// Only one bug is planted in a process at a time.
static FIELD: Mutex<()> = Mutex::new(());

/// While it lives, this bug is planted, and what a role says when it panics is not printed: it is the finding.
struct Planting {
    _field: MutexGuard<'static, ()>,
}

impl Planting {
    fn new(bug: Option<Bug>) -> Planting {
        let field = FIELD.lock().unwrap_or_else(PoisonError::into_inner);
        panic::set_hook(Box::new(|_| {}));
        plant(bug);
        Planting { _field: field }
    }
}

impl Drop for Planting {
    fn drop(&mut self) {
        plant(None);
        // Back to the usual one, unless this thread is unwinding itself.
        if !std::thread::panicking() {
            drop(panic::take_hook());
        }
    }
}

/// Plants a bug and looks for it. A seed that fails with nothing planted, too, shows nothing of the bug.
#[expect(clippy::disallowed_methods, reason = "how long a hunt takes is no part of any run")]
pub fn hunt(simulation: &Simulation<'_>, bug: Bug, seeds: Seeds) -> Finding {
    let begun = Instant::now();
    let end = seeds.from.saturating_add(seeds.count);
    let mut from = seeds.from;
    let found = loop {
        let left = Seeds { from, count: end - from, ..seeds };
        let Some((seed, violation)) = look(simulation, bug, left) else { break None };
        if control(simulation, Seeds { from: seed, count: 1, threads: 1 }).is_none() {
            break Some((seed, violation));
        }
        from = seed + 1;
    };
    let tried = found.as_ref().map_or(seeds.count, |(seed, _)| seed - seeds.from + 1);
    Finding { bug, found, seeds: tried, time: begun.elapsed() }
}

/// Plants a bug and looks for it, without asking whether the seed passes with nothing planted: for those who know that
/// these seeds do. Returns the first seed that shows it, and as what.
pub fn look(simulation: &Simulation<'_>, bug: Bug, seeds: Seeds) -> Option<(u64, Violation)> {
    let _planting = Planting::new(Some(bug));
    first(simulation, seeds, |violation| shows(bug, violation))
}

/// Looks for anything with no bug planted: the first seed that fails, if one does.
pub fn control(simulation: &Simulation<'_>, seeds: Seeds) -> Option<(u64, Violation)> {
    let _planting = Planting::new(None);
    first(simulation, seeds, |_| true)
}

/// Whether a violation is how this bug must be found: one that only keeps others waiting as that, and one that does what
/// never may be done as what it does, not as the standstill that may follow.
fn shows(bug: Bug, violation: &Violation) -> bool {
    (bug.harm() == Harm::Liveness) == (violation.class == Class::Liveness)
}

/// The first seed with such a violation. Seeds are given out in their order, and every smaller one is run to its end.
fn first(
    simulation: &Simulation<'_>,
    seeds: Seeds,
    wanted: impl Fn(&Violation) -> bool + Sync,
) -> Option<(u64, Violation)> {
    let (next, best) = (AtomicU64::new(seeds.from), Mutex::new(None::<(u64, Violation)>));
    let lock = || best.lock().unwrap_or_else(PoisonError::into_inner);
    let end = seeds.from.saturating_add(seeds.count);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end || lock().as_ref().is_some_and(|(found, _)| *found < seed) {
                return;
            }
            let Some(violation) = simulation.run(seed, 0).violation.filter(&wanted) else { continue };
            let mut best = lock();
            if best.as_ref().is_none_or(|(found, _)| seed < *found) {
                *best = Some((seed, violation));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..seeds.threads.max(1) {
            scope.spawn(work);
        }
    });
    best.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A line of the table; [`HEAD`] is its head.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, time) = (self.bug.name(), self.time.as_secs_f64());
        let rule = self.bug.rule();
        match &self.found {
            Some((seed, Violation { checker, class, .. })) => {
                let (seeds, class) = (self.seeds, format!("{class:?}").to_lowercase());
                write!(f, "{name:26} {seeds:>6} {seed:>12}  {checker:14} {class:9} {time:>7.1}  {rule}")
            }
            None => {
                let tried = format!("none of {}", self.seeds);
                write!(f, "{name:26} {tried:>19}  {:14} {:9} {time:>7.1}  {rule}", "NOT FOUND", "")
            }
        }
    }
}

/// The head of the table whose lines [`Finding`]s print.
pub const HEAD: &str = "bug                         seeds         seed  checker        class     seconds  what it does";

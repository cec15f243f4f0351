//! How long a group is silent when its leader is lost, in simulated time: from the loss to the next answer to a client
//! that something is committed.
//!
//! One group of three replicas on a local network, with the timers that a cluster has when its configuration does not
//! say otherwise, under the load of a few clients; each measurement is a world of its own. A client asks another node
//! after [`PATIENCE`] of silence, so that the figure is the group's and not that of the patience of a client.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use drachma_protocol::ids::GroupId;
use drachma_protocol::rng::Rng;
use drachma_protocol::time::Span;

use crate::checkers::Checkers;
use crate::clock::Drift;
use crate::faults::Swarm;
use crate::network::NetworkOptions;
use crate::run::Simulation;
use crate::shape::Shape;
use crate::world::World;

pub use crate::world::Loss;

/// Silence after which a client asks another node, in microseconds.
pub const PATIENCE: u64 = 10_000;

/// Between two heartbeats, and the silence after which a leader is suspected: as shipped.
const TIMERS: (Span, Span) = (Span::from_millis(75), Span::from_millis(250));

/// What was measured.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failovers {
    /// The lengths of those that were noticed by broken connections, in microseconds, ascending.
    pub noticed: Vec<u64>,
    /// The lengths of those that nothing told of.
    pub silent: Vec<u64>,
    /// How many had no answer at all.
    pub unanswered: u64,
}

/// Loses a leader `count` times, from seed `from` on, on this many threads, and ends early when told to `stop`.
pub fn measure(simulation: &Simulation<'_>, from: u64, count: u64, threads: usize, stop: &AtomicBool) -> Failovers {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Failovers::default()));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let loss = if number % 2 == 0 { Loss::Noticed } else { Loss::Silent };
            let length = measure_one(simulation, from.wrapping_add(number), loss);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (length, loss) {
                (None, _) => found.unanswered += 1,
                (Some(length), Loss::Noticed) => found.noticed.push(length),
                (Some(length), Loss::Silent) => found.silent.push(length),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.noticed.sort_unstable();
    found.silent.sort_unstable();
    found
}

/// The time of one loss, in microseconds; nothing if no client had an answer within a simulated minute.
pub fn measure_one(simulation: &Simulation<'_>, seed: u64, loss: Loss) -> Option<u64> {
    let mut rng = Rng::new(seed);
    let swarm = local_network(&mut rng);
    let assembly = (simulation.assembly)(&swarm);
    // At any point between two heartbeats, when the group has long been at work.
    let at = 1_000_000 + rng.below(500_000);
    World::new(&swarm, assembly.as_ref(), Checkers::none(), &mut rng, 0).measure(GroupId(1), loss, at)
}

fn local_network(rng: &mut Rng) -> Swarm {
    let mut swarm = Swarm::draw(rng);
    let mut shape = Shape::draw(rng, 1);
    shape.restrict(1, 3);
    (shape.heartbeat, shape.leader_timeout) = TIMERS;
    swarm.shape = shape;
    swarm.kinds.clear();
    (swarm.drift, swarm.stranger, swarm.moves) = (Drift::None, false, None);
    (swarm.echoes, swarm.late, swarm.asked_around) = (0, 0, 0);
    swarm.network = NetworkOptions::calm(200);
    (swarm.disk.mean_sync, swarm.disk.slow, swarm.disk.torn) = (500, 0, 0);
    let clients = &mut swarm.clients;
    (clients.mean_pause, clients.operations, clients.in_flight) = (5_000, u64::MAX, 1);
    (clients.reads, clients.across, clients.largest_amount, clients.largest_batch) = (0, 0, 1, 1);
    (clients.timeout, clients.deadline) = (PATIENCE, 2_000_000);
    (clients.second_copy, clients.give_up, clients.shared_ids) = (0, 0, 0);
    (clients.bank, clients.ledger, clients.snapshots, clients.mischief, clients.sessions) = (0, 0, 0, 0, 0);
    (clients.late_copies, clients.hurried, clients.bursts, clients.restarts, clients.doubles) = (0, 0, 0, 0, 0);
    swarm.client_count = 8;
    swarm.safety = 60_000_000;
    swarm
}

/// The value below which so many of 1,000 lie; `sorted` must be ascending.
pub fn quantile(sorted: &[u64], permille: usize) -> Option<u64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((sorted.len() * permille / 1000).min(last)).copied()
}

impl fmt::Display for Failovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("connection broken", &self.noticed), ("machine gone", &self.silent)];
        writeln!(f, "{:<18} {:>6} {:>10} {:>10} {:>10}", "leader lost", "times", "median", "p99", "max")?;
        for (name, lengths) in kinds {
            let at = |permille| match quantile(lengths, permille) {
                Some(length) => format!("{}.{:03} ms", length / 1000, length % 1000),
                None => "-".to_owned(),
            };
            writeln!(f, "{name:<18} {:>6} {:>10} {:>10} {:>10}", lengths.len(), at(500), at(990), at(1000))?;
        }
        write!(f, "{} without an answer", self.unanswered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::REAL;

    #[test]
    fn a_lost_leader_is_followed_and_a_broken_connection_tells_sooner() {
        let few = |threads| measure(&REAL, 7, 24, threads, &AtomicBool::new(false));
        let found = few(1);
        assert_eq!((found.noticed.len(), found.silent.len(), found.unanswered), (12, 12, 0), "{found}");
        let median = |lengths: &[u64]| quantile(lengths, 500).unwrap_or_default();
        assert!(median(&found.noticed) < median(&found.silent), "{found}");
        // A silent one is not suspected before its timeout, less what had passed since the last heartbeat.
        assert!(found.silent[0] > 150_000, "{found}");
        assert_eq!(few(3), found, "the threads change nothing");
    }

    #[test]
    fn quantiles_are_of_the_values() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&values, 500), Some(51));
        assert_eq!(quantile(&values, 990), Some(100));
        assert_eq!(quantile(&values, 1000), Some(100));
        assert_eq!(quantile(&[], 500), None);
    }
}

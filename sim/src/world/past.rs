//! Going on from the disks of an earlier world: for tests that prepare one and then change what it has written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use drachma_protocol::ids::{GroupId, NodeId, Slot};
use drachma_protocol::rng::Rng;

use super::{Outcome, World};
use crate::checkers::Checkers;
use crate::disk::{Crash, Disk};
use crate::faults::Swarm;
use crate::history::History;
use crate::node::Assembly;

/// What a world leaves behind.
#[derive(Debug, Default)]
pub struct Past {
    /// When it ended, in simulated microseconds.
    pub now: u64,
    /// The disk of every node, which is down.
    pub disks: BTreeMap<NodeId, Disk>,
    /// What clients asked and were told.
    pub history: History,
    /// The longest log that a replica of each group has applied.
    pub applied: BTreeMap<GroupId, Vec<Bytes>>,
    /// Whether it came to rest.
    pub rested: bool,
}

impl Past {
    /// A copy to go on from.
    pub fn copy(&self) -> Past {
        let disks = self.disks.iter().map(|(node, disk)| (*node, disk.copy())).collect();
        Past { now: self.now, disks, history: self.history.clone(), applied: self.applied.clone(), rested: self.rested }
    }
}

impl<'a> World<'a> {
    /// A world that goes on from these disks; `absent` nodes are down for good, and a `damaged` one may refuse to start.
    /// The times of the swarm count from now on. If it does not come to rest that is no finding, and the checkers are
    /// not asked about the end.
    pub fn from_past(
        (swarm, past): (&'a Swarm, Past),
        assembly: &'a dyn Assembly,
        checkers: Checkers,
        rng: &mut Rng,
        (absent, damaged): (&BTreeSet<NodeId>, Option<NodeId>),
    ) -> World<'a> {
        let mut world = World::new(swarm, assembly, checkers, rng, 0);
        (world.now, world.history, world.patient) = (past.now, past.history, true);
        let mut disks = past.disks;
        for node in &mut world.nodes {
            if let Some(disk) = disks.remove(&node.id) {
                node.disk = disk;
            }
            node.lost = absent.contains(&node.id);
            node.damaged = damaged == Some(node.id);
        }
        world
    }

    /// Runs to the end and keeps what is left.
    pub fn run_and_keep(mut self) -> (Outcome, Past) {
        self.go();
        let rested = self.unrest().is_none();
        let mut applied: BTreeMap<GroupId, Vec<Bytes>> = BTreeMap::new();
        for (node, ledger, group) in self.replicas() {
            let log = node.disk.appended(group, Slot(0), ledger.applied()).to_vec();
            let longest = applied.entry(group).or_default();
            if log.len() > longest.len() {
                *longest = log;
            }
        }
        let mut disks = BTreeMap::new();
        for mut node in std::mem::take(&mut self.nodes) {
            node.disk.crash(Crash::Kill, &mut node.rng);
            disks.insert(node.id, node.disk);
        }
        let now = self.now;
        let mut outcome = self.outcome();
        let history = std::mem::take(&mut outcome.history);
        (outcome, Past { now, disks, history, applied, rested })
    }
}

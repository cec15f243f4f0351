//! One byte of one replica's disk is flipped, at more than a thousand places, and the node is started again: with all
//! others up, and with one of them lagging behind and the third one down. Nothing that was acknowledged may be lost, no
//! answer may be wrong, and the node may not serve what it does not have. It may refuse.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::log::segment::{HEAD, HEADER, claimed_length};
use drachma_protocol::rng::Rng;
use drachma_sim::checkers::{
    Applied, Checker, Checkers, Verdict, conservation, digests, exactly_once, limits, prefix, reads, serializable,
};
use drachma_sim::clock::Drift;
use drachma_sim::disk::device::File;
use drachma_sim::faults::Swarm;
use drachma_sim::network::NetworkOptions;
use drachma_sim::roles::RealRoles;
use drachma_sim::shape::Shape;
use drachma_sim::world::World;
use drachma_sim::world::past::Past;

/// What was chosen before the flip stays chosen.
struct Kept(Rc<BTreeMap<GroupId, Vec<Bytes>>>);

impl Checker for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Some(before) = self.0.get(&applied.group) else { return Ok(()) };
        let from = (applied.from.0 as usize).min(before.len());
        match before[from..].iter().zip(applied.entries).position(|(was, is)| was != is) {
            None => Ok(()),
            Some(at) => Err(format!("{} applies another entry at {} than was chosen", applied.node, from + at)),
        }
    }
}

/// Those that follow what happens from the beginning cannot judge a world that goes on from disks: a group's log is
/// replayed before another's, and what is on the disks came from nowhere.
fn checkers(kept: &Rc<BTreeMap<GroupId, Vec<Bytes>>>) -> Checkers {
    let mut checkers = Checkers::none();
    checkers.add(Box::new(Kept(Rc::clone(kept))));
    checkers.add(Box::new(prefix::Prefix::default()));
    checkers.add(Box::new(digests::Digests::default()));
    checkers.add(Box::new(conservation::Conservation));
    checkers.add(Box::new(limits::Limits::default()));
    checkers.add(Box::new(exactly_once::ExactlyOnce::default()));
    checkers.add(Box::new(reads::Reads));
    checkers.add(Box::new(serializable::Serializable));
    checkers
}

/// Places tried in each variant.
const TRIES: usize = 505;

const VICTIM: NodeId = NodeId(1);
const LAGGING: NodeId = NodeId(2);
const ABSENT: NodeId = NodeId(3);

/// A cluster of three nodes with all groups on each, no faults, and clients that are busy for a moment.
fn swarm(groups: u16, operations: u64) -> Swarm {
    let mut rng = Rng::new(u64::from(groups));
    let mut swarm = Swarm::draw(&mut rng);
    let members = [VICTIM, LAGGING, ABSENT].to_vec();
    swarm.shape = loop {
        let shape = Shape::draw(&mut rng, groups);
        if shape.groups.iter().all(|(_, nodes)| nodes.len() == 3) {
            break shape;
        }
    };
    for (_, nodes) in &mut swarm.shape.groups {
        nodes.clone_from(&members);
    }
    swarm.kinds.clear();
    swarm.network = NetworkOptions::calm(300);
    (swarm.disk.mean_sync, swarm.disk.slow, swarm.drift) = (300, 0, Drift::None);
    (swarm.stranger, swarm.echoes, swarm.late, swarm.quorum_only) = (false, 0, 0, false);
    swarm.asked_around = 0;
    (swarm.clients.bank, swarm.clients.ledger, swarm.clients.mischief, swarm.clients.sessions) = (0, 0, 0, 0);
    (swarm.clients.bursts, swarm.clients.restarts, swarm.clients.doubles, swarm.clients.hurried) = (0, 0, 0, 0);
    (swarm.clients.vault, swarm.clients.levels, swarm.clients.keys) = (0, 0, 20);
    swarm.shape.snapshot_every = u64::MAX;
    (swarm.clients.operations, swarm.clients.mean_pause, swarm.clients.largest_batch) = (operations, 20_000, 3);
    (swarm.clients.reads, swarm.clients.across, swarm.clients.give_up) = (20, 50, 0);
    (swarm.clients.timeout, swarm.clients.deadline, swarm.clients.shared_ids) = (200_000, 1_000_000, 0);
    (swarm.client_count, swarm.safety, swarm.liveness) = (3, operations * 30_000 + 500_000, Some(5_000_000));
    swarm
}

fn go(swarm: &Swarm, past: Past, absent: &[NodeId], damaged: Option<NodeId>, seed: u64) -> (String, Past) {
    let kept = Rc::new(past.applied.clone());
    let roles = RealRoles::new(swarm.shape.clone());
    let absent: BTreeSet<NodeId> = absent.iter().copied().collect();
    let world = World::from_past((swarm, past), &roles, checkers(&kept), &mut Rng::new(seed), (&absent, damaged));
    let (outcome, past) = world.run_and_keep();
    (outcome.violation.map_or(String::new(), |found| format!("{}: {}", found.checker, found.text)), past)
}

/// The worlds to flip bytes in: all at rest together, and one where `LAGGING` has missed the end.
fn prepare(groups: u16) -> (Past, Past) {
    let long = swarm(groups, 120);
    let roles = RealRoles::new(long.shape.clone());
    let world = World::from_past(
        (&long, Past::default()),
        &roles,
        Checkers::none(),
        &mut Rng::new(7),
        (&BTreeSet::new(), None),
    );
    let (_, level) = world.run_and_keep();
    assert!(level.rested, "the clients come to an end");
    assert!(level.history.settled() > 100, "a history to lose");
    let (found, behind) = go(&long, level.copy(), &[LAGGING], None, 8);
    assert_eq!(found, "");
    assert!(behind.rested && behind.applied.values().zip(level.applied.values()).all(|(b, a)| b.len() > a.len()));
    (level, behind)
}

/// Places on the disk of a node: every field of the headers, of records and of promise slots, and bytes in between.
fn places(past: &Past) -> Vec<(File, usize)> {
    let device = past.disks[&VICTIM].device();
    let mut places = Vec::new();
    for (file, size) in device.files() {
        let bytes = device.bytes(file);
        if matches!(file, File::Promise(_)) {
            places.extend((0..52).step_by(3).chain([511, 2000]).chain((4096..4148).step_by(3)).map(|at| (file, at)));
            continue;
        }
        places.extend((0..72).chain([100, 4095, size - 1, size / 2]).map(|at| (file, at)));
        let mut records = Vec::new();
        let mut at = HEADER as usize;
        while let Some(length) = bytes.get(at..).and_then(claimed_length) {
            records.push((at, length as usize));
            at += length as usize;
        }
        places.extend([at, at + 12, at + 600].map(|at| (file, at.min(size - 1))));
        let last = records.len().saturating_sub(6);
        for (number, (start, length)) in records.iter().enumerate() {
            // Whole heads of the last ones; of the others a byte of the head, another one in each, and one of the body.
            let head = if number >= last { (0..40).step_by(2).collect() } else { vec![number * 7 % HEAD as usize] };
            let body = HEAD as usize + number * 13 % (length - HEAD as usize).max(1);
            places.extend(head.into_iter().chain([body.min(length - 1)]).map(|offset| (file, start + offset)));
        }
    }
    places
}

fn flip(past: &Past, (file, at): (File, usize), mask: u8) -> Past {
    let mut past = past.copy();
    let device = past.disks.get_mut(&VICTIM).unwrap().device_mut();
    let byte = device.bytes(file)[at] ^ mask;
    device.damage(file, at, &[byte]);
    past
}

fn flip_everywhere(groups: u16) {
    let (level, behind) = prepare(groups);
    let short = swarm(groups, 4);
    let mut tried = 0;
    let mut rested = [0, 0];
    for (variant, (past, absent)) in [(&level, &[][..]), (&behind, &[ABSENT][..])].into_iter().enumerate() {
        let all = places(past);
        let count = all.len().min(TRIES);
        for (number, place) in (0..count).map(|number| (number, all[number * all.len() / count])) {
            let mask = 1 << (number % 8);
            let (found, after) = go(&short, flip(past, place, mask), absent, Some(VICTIM), 1000 + number as u64);
            assert_eq!(found, "", "{groups} groups, variant {variant}, {place:?} ^ {mask}");
            tried += 1;
            rested[variant] += u64::from(after.rested);
            assert!(variant == 1 || after.rested, "the two others go on: {place:?} ^ {mask}");
        }
    }
    println!("{groups} groups: {tried} flips; came to rest: {rested:?}");
    assert!(tried > 1000 && rested[1] > 0, "{tried}");
}

#[test]
fn one_flipped_byte_in_a_cluster_of_one_group_loses_nothing() {
    flip_everywhere(1);
}

#[test]
fn one_flipped_byte_in_a_cluster_of_three_groups_loses_nothing() {
    flip_everywhere(3);
}

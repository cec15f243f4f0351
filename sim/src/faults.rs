//! What goes wrong: each seed draws which kinds of faults there are at all and how strong they are (swarm testing), and
//! then, step by step, what happens next.
//!
//! This file only decides; the [`world`](crate::world) carries out.

use std::collections::BTreeSet;

use drachma_protocol::ids::NodeId;
use drachma_protocol::rng::Rng;

use crate::client::ClientOptions;
use crate::disk::Crash;
use crate::draw::{between, exponential, permille, pick, shuffle};
use crate::network::{Endpoint, Link, NetworkOptions};
use crate::shape::Shape;

/// A kind of fault that comes and goes; those of the network that are always there are in [`NetworkOptions`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FaultKind {
    /// Two sides that do not reach each other.
    Partition,
    /// One side that is not heard by the other.
    OneWay,
    /// Two majorities that share one node.
    Bridge,
    /// Clients lose the nodes, or the answers of the nodes.
    ClientCut,
    /// Links that stop and then deliver in a burst.
    Clog,
    /// A process is killed.
    Kill,
    /// A machine loses power.
    PowerLoss,
    /// A node goes down at a chosen point of its work.
    CrashPoint,
    /// A process stops for a while and wakes up in the middle of what has come meanwhile.
    Pause,
    /// All nodes go down at once.
    Blackout,
    /// A bit of what a disk holds flips.
    BitRot,
    /// A bit flips on its way from the disk.
    Misread,
    /// A write went to another place than it was meant for.
    Misdirected,
    /// A disk has no room for another file.
    DiskFull,
    /// A sync fails.
    FailedSync,
    /// A data directory is emptied, and perhaps formatted anew.
    Wipe,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 16] = [
        FaultKind::Partition,
        FaultKind::OneWay,
        FaultKind::Bridge,
        FaultKind::ClientCut,
        FaultKind::Clog,
        FaultKind::Kill,
        FaultKind::PowerLoss,
        FaultKind::CrashPoint,
        FaultKind::Pause,
        FaultKind::Blackout,
        FaultKind::BitRot,
        FaultKind::Misread,
        FaultKind::Misdirected,
        FaultKind::DiskFull,
        FaultKind::FailedSync,
        FaultKind::Wipe,
    ];
}

/// A point of a node's work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// A sync is done in the device, but for its last step: nothing of it is durable.
    BeforeSync,
    /// A sync is done, but nobody was told.
    AfterSync,
    /// The roles were told of a sync and have done what they do then.
    AfterPersisted,
    /// After so many more effects: in the middle of what a step wanted done.
    Effects(u32),
}

/// How slow and how treacherous disks are.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// The mean of the exponential duration of a sync, in microseconds.
    pub mean_sync: u64,
    /// How many of 1,000 syncs take a hundred times as long.
    pub slow: u64,
    /// How many of 1,000 losses of unsynced records leave bad bytes at the end of the log.
    pub torn: u64,
}

/// Faults that are drawn and then do not happen: to find out which of them a failure needs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Withheld {
    /// Only the first so many of the faults happen.
    pub from: Option<u64>,
    /// Not these, counted from 0.
    pub numbers: BTreeSet<u64>,
    /// Not those of these kinds.
    pub kinds: BTreeSet<FaultKind>,
}

impl Withheld {
    fn covers(&self, number: u64, kind: FaultKind) -> bool {
        self.from.is_some_and(|from| number >= from) || self.numbers.contains(&number) || self.kinds.contains(&kind)
    }
}

/// Everything that a seed decides about a run.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// The cluster.
    pub shape: Shape,
    /// The network.
    pub network: NetworkOptions,
    /// The disks.
    pub disk: DiskOptions,
    /// The kinds of faults that this run has.
    pub kinds: Vec<FaultKind>,
    /// What of these is left out.
    pub withheld: Withheld,
    /// The mean time between faults, in microseconds.
    pub mean_gap: u64,
    /// The mean length of a fault, in microseconds.
    pub mean_length: u64,
    /// How many nodes may be down at a time, but for a blackout.
    pub most_down: usize,
    /// The clients.
    pub clients: ClientOptions,
    /// How many there are.
    pub client_count: u32,
    /// How long faults and new operations go on, in microseconds.
    pub safety: u64,
    /// How long the cluster then has to come to rest, in microseconds.
    pub liveness: u64,
}

impl Swarm {
    /// Draws a run.
    pub fn draw(rng: &mut Rng) -> Swarm {
        let groups = pick(rng, &[1, 2, 3, 3, 3]);
        let shape = Shape::draw(rng, groups);
        let kinds: Vec<FaultKind> = match rng.below(10) {
            0 => Vec::new(),
            1 => FaultKind::ALL.to_vec(),
            _ => FaultKind::ALL.into_iter().filter(|_| rng.chance(40)).collect(),
        };
        Swarm {
            network: network(rng),
            disk: DiskOptions {
                mean_sync: pick(rng, &[50, 300, 2_000, 10_000]),
                slow: pick(rng, &[0, 0, 2, 20]),
                torn: pick(rng, &[0, 0, 500, 1000]),
            },
            kinds,
            withheld: Withheld::default(),
            mean_gap: pick(rng, &[300_000, 1_000_000, 3_000_000]),
            mean_length: pick(rng, &[100_000, 500_000, 2_000_000]),
            most_down: pick(rng, &[1, 1, 2, shape.nodes().len()]),
            clients: ClientOptions::draw(rng),
            client_count: between(rng, 1, 5) as u32,
            safety: between(rng, 3_000_000, 15_000_000),
            liveness: 120_000_000,
            shape,
        }
    }
}

fn network(rng: &mut Rng) -> NetworkOptions {
    NetworkOptions {
        mean_delay: pick(rng, &[50, 300, 1_000, 5_000]),
        loss: pick(rng, &[0, 0, 5, 50, 150]),
        duplicate: pick(rng, &[0, 0, 10, 100]),
        straggler: pick(rng, &[0, 0, 2, 20]),
        straggler_delay: pick(rng, &[500_000, 3_000_000, 10_000_000]),
        in_order: rng.chance(75),
    }
}

/// What the injector sees.
pub struct Seen<'a> {
    /// The nodes that are up and not paused.
    pub running: &'a [NodeId],
    /// How many nodes are down or paused.
    pub down: usize,
    /// The nodes that lead a group, as far as their traffic shows.
    pub leaders: &'a [NodeId],
}

/// What happens to a disk. The world sees to it that no group suffers more than it can bear.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Harm {
    /// A bit of what it holds flips.
    Rot,
    /// A bit of what is read next flips; the disk has it right.
    Misread,
    /// A write that was made went elsewhere.
    Misdirect,
    /// No room for another file, until the node has stopped by that.
    Fill,
    /// One of the next syncs fails.
    FailSync,
    /// The directory is emptied while the node is down.
    Wipe {
        /// Somebody formats it anew by hand.
        formatted: bool,
    },
}

/// What the world is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Cut these links for so long.
    Cut(BTreeSet<Link>, u64),
    /// Clog these links, each until its time from now.
    Clog(Vec<(Link, u64)>),
    /// This node goes down for so long.
    Crash(NodeId, Crash, u64),
    /// This node goes down when it comes to this point, for so long.
    CrashAt(NodeId, Point, Crash, u64),
    /// This node stands still for so long.
    Pause(NodeId, u64),
    /// The disk of this node comes to harm; if the node goes down by that, it is for so long.
    Damage(NodeId, Harm, u64),
    /// Every node goes down; each comes back after its time.
    Blackout(Crash, Vec<(NodeId, u64)>),
}

/// Decides what goes wrong next.
pub struct Injector {
    // Each fault has a stream of its own, so that one left out changes no other.
    streams: Rng,
    rng: Rng,
    drawn: u64,
    withheld: Withheld,
    kinds: Vec<FaultKind>,
    mean_gap: u64,
    mean_length: u64,
    most_down: usize,
    torn: u64,
    nodes: Vec<NodeId>,
    clients: u32,
}

impl Injector {
    /// The injector of a run.
    pub fn new(swarm: &Swarm, mut streams: Rng) -> Injector {
        Injector {
            rng: streams.fork(),
            streams,
            drawn: 0,
            withheld: swarm.withheld.clone(),
            kinds: swarm.kinds.clone(),
            mean_gap: swarm.mean_gap,
            mean_length: swarm.mean_length,
            most_down: swarm.most_down,
            torn: swarm.disk.torn,
            nodes: swarm.shape.nodes(),
            clients: swarm.client_count,
        }
    }

    /// How many faults were drawn so far, withheld ones included.
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// How long until the next fault; nothing if there are none.
    pub fn gap(&mut self) -> Option<u64> {
        self.rng = self.streams.fork();
        let gap = exponential(&mut self.rng, self.mean_gap);
        (!self.kinds.is_empty()).then_some(gap)
    }

    /// The next fault, if one is possible now.
    pub fn act(&mut self, seen: &Seen<'_>) -> Option<(FaultKind, Act)> {
        let kind = pick(&mut self.rng, &self.kinds);
        let number = self.drawn;
        self.drawn += 1;
        if self.withheld.covers(number, kind) {
            return None;
        }
        let length = exponential(&mut self.rng, self.mean_length).max(1);
        let act = match kind {
            FaultKind::Partition | FaultKind::OneWay | FaultKind::Bridge => {
                Some(Act::Cut(self.sides(kind, seen), length))
            }
            FaultKind::ClientCut => Some(Act::Cut(self.clients_off(), length)),
            FaultKind::Clog => Some(Act::Clog(self.clogs(length))),
            FaultKind::Kill => self.victim(seen).map(|node| Act::Crash(node, Crash::Kill, length)),
            FaultKind::PowerLoss => self.victim(seen).map(|node| Act::Crash(node, self.power_loss(), length)),
            FaultKind::CrashPoint => self.victim(seen).map(|node| {
                let crash = if self.rng.chance(50) { Crash::Kill } else { self.power_loss() };
                Act::CrashAt(node, self.point(), crash, length)
            }),
            FaultKind::Pause => self.victim(seen).map(|node| Act::Pause(node, length)),
            FaultKind::BitRot => self.harm(seen, Harm::Rot, length),
            FaultKind::Misread => self.harm(seen, Harm::Misread, length),
            FaultKind::Misdirected => self.harm(seen, Harm::Misdirect, length),
            FaultKind::DiskFull => self.harm(seen, Harm::Fill, length),
            FaultKind::FailedSync => self.harm(seen, Harm::FailSync, length),
            FaultKind::Wipe => {
                let formatted = self.rng.chance(50);
                self.harm(seen, Harm::Wipe { formatted }, length)
            }
            // All at once is rarer than one at a time.
            FaultKind::Blackout => self.rng.chance(20).then(|| self.blackout(length)),
        };
        act.map(|act| (kind, act))
    }

    fn harm(&mut self, seen: &Seen<'_>, harm: Harm, length: u64) -> Option<Act> {
        self.victim(seen).map(|node| Act::Damage(node, harm, length))
    }

    fn victim(&mut self, seen: &Seen<'_>) -> Option<NodeId> {
        if seen.down >= self.most_down || seen.running.is_empty() {
            return None;
        }
        let leaders: Vec<NodeId> = seen.leaders.iter().copied().filter(|node| seen.running.contains(node)).collect();
        let aims_at_leader = self.rng.chance(50) && !leaders.is_empty();
        Some(pick(&mut self.rng, if aims_at_leader { &leaders } else { seen.running }))
    }

    fn power_loss(&self) -> Crash {
        Crash::PowerLoss { torn: self.torn }
    }

    fn point(&mut self) -> Point {
        match self.rng.below(4) {
            0 => Point::BeforeSync,
            1 => Point::AfterSync,
            2 => Point::AfterPersisted,
            _ => Point::Effects(between(&mut self.rng, 1, 40) as u32),
        }
    }

    fn sides(&mut self, kind: FaultKind, seen: &Seen<'_>) -> BTreeSet<Link> {
        let mut nodes = self.nodes.clone();
        shuffle(&mut self.rng, &mut nodes);
        let bridge = if kind == FaultKind::Bridge { nodes.pop() } else { None };
        let alone = self.rng.chance(50);
        if let (true, Some(leader)) = (alone, seen.leaders.first()) {
            let leader = if seen.leaders.len() > 1 { pick(&mut self.rng, seen.leaders) } else { *leader };
            nodes.sort_by_key(|node| *node != leader);
        }
        let first = if alone { 1 } else { between(&mut self.rng, 1, nodes.len().max(2) as u64 - 1) as usize };
        let (left, right) = nodes.split_at(first.min(nodes.len()));
        debug_assert!(bridge.is_none_or(|node| !nodes.contains(&node)));
        let mut links = BTreeSet::new();
        for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
            links.insert((Endpoint::Node(a), Endpoint::Node(b)));
            if kind != FaultKind::OneWay {
                links.insert((Endpoint::Node(b), Endpoint::Node(a)));
            }
        }
        if kind == FaultKind::OneWay && self.rng.chance(50) {
            links = links.into_iter().map(|(a, b)| (b, a)).collect();
        }
        links
    }

    fn clients_off(&mut self) -> BTreeSet<Link> {
        let (requests, answers) = pick(&mut self.rng, &[(true, false), (false, true), (true, true)]);
        let mut links = BTreeSet::new();
        for node in self.nodes.iter().map(|node| Endpoint::Node(*node)) {
            for client in (0..self.clients).map(Endpoint::Client) {
                if requests {
                    links.insert((client, node));
                }
                if answers {
                    links.insert((node, client));
                }
            }
        }
        links
    }

    fn clogs(&mut self, length: u64) -> Vec<(Link, u64)> {
        let mut clogs = Vec::new();
        let share = between(&mut self.rng, 50, 700);
        for (a, b) in self.nodes.iter().flat_map(|a| self.nodes.iter().map(move |b| (*a, *b))) {
            if a != b && permille(&mut self.rng, share) {
                clogs.push(((Endpoint::Node(a), Endpoint::Node(b)), exponential(&mut self.rng, length) + 1));
            }
        }
        clogs
    }

    fn blackout(&mut self, length: u64) -> Act {
        let crash = if self.rng.chance(50) { Crash::Kill } else { self.power_loss() };
        let back = self.nodes.iter().map(|node| (*node, length + exponential(&mut self.rng, 100_000))).collect();
        Act::Blackout(crash, back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_and_can_act() {
        let mut acted = BTreeSet::new();
        for seed in 0..100 {
            let mut rng = Rng::new(seed);
            let swarm = Swarm::draw(&mut rng);
            let nodes = swarm.shape.nodes();
            let mut injector = Injector::new(&swarm, rng);
            let seen = Seen { running: &nodes, down: 0, leaders: &nodes[..1] };
            for _ in 0..20 {
                if injector.gap().is_some() {
                    acted.extend(injector.act(&seen).map(|(kind, _)| kind));
                }
            }
        }
        assert_eq!(acted.into_iter().collect::<Vec<_>>(), FaultKind::ALL);
    }

    #[test]
    fn no_more_nodes_go_down_than_may() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut swarm = Swarm::draw(&mut rng);
            (swarm.kinds, swarm.most_down) = (vec![FaultKind::Kill, FaultKind::Pause], 1);
            let nodes = swarm.shape.nodes();
            let mut injector = Injector::new(&swarm, rng);
            assert_eq!(injector.act(&Seen { running: &nodes, down: 1, leaders: &[] }), None);
        }
    }
}

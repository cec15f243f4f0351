//! What goes wrong: each seed draws which kinds of faults there are at all and how strong they are (swarm testing), and
//! then, step by step, what happens next.
//!
//! This file only decides; the [`world`](crate::world) carries out.

use std::collections::BTreeSet;

use drachma_protocol::ids::NodeId;
use drachma_protocol::rng::Rng;

use crate::client::ClientOptions;
use crate::client::vault::LONGEST_TIMEOUT;
use crate::clock::{Drift, HOUR};
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
    /// All links of some nodes stop, one node after the other, and go on in another order.
    Swizzle,
    /// A process is killed.
    Kill,
    /// A machine loses power.
    PowerLoss,
    /// A node goes down at a chosen point of its work.
    CrashPoint,
    /// A process is killed soon after each start, several times, and at last its machine loses power.
    CrashLoop,
    /// A process stops for a while and wakes up in the middle of what has come meanwhile.
    Pause,
    /// A process stops for a while at a chosen point of its work.
    PausePoint,
    /// All that a node does takes many times as long.
    Slow,
    /// All nodes of a group go down for long.
    GroupLoss,
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
    /// The monotonic clock of a node jumps forward, by up to an hour.
    ClockJump,
    /// The clock of a node goes at another speed.
    ClockDrift,
    /// The wall clocks of all nodes are set anew, an hour off at most.
    WallClock,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 24] = [
        FaultKind::Partition,
        FaultKind::OneWay,
        FaultKind::Bridge,
        FaultKind::ClientCut,
        FaultKind::Clog,
        FaultKind::Swizzle,
        FaultKind::Kill,
        FaultKind::PowerLoss,
        FaultKind::CrashPoint,
        FaultKind::CrashLoop,
        FaultKind::Pause,
        FaultKind::PausePoint,
        FaultKind::Slow,
        FaultKind::GroupLoss,
        FaultKind::Blackout,
        FaultKind::BitRot,
        FaultKind::Misread,
        FaultKind::Misdirected,
        FaultKind::DiskFull,
        FaultKind::FailedSync,
        FaultKind::Wipe,
        FaultKind::ClockJump,
        FaultKind::ClockDrift,
        FaultKind::WallClock,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            FaultKind::Partition => "partition",
            FaultKind::OneWay => "one-way partition",
            FaultKind::Bridge => "bridge",
            FaultKind::ClientCut => "clients cut off",
            FaultKind::Clog => "clog",
            FaultKind::Swizzle => "swizzle-clog",
            FaultKind::Kill => "kill",
            FaultKind::PowerLoss => "power loss",
            FaultKind::CrashPoint => "crash at a point",
            FaultKind::CrashLoop => "crash loop",
            FaultKind::Pause => "pause",
            FaultKind::PausePoint => "pause at a point",
            FaultKind::Slow => "slow node",
            FaultKind::GroupLoss => "loss of a group",
            FaultKind::Blackout => "blackout",
            FaultKind::ClockJump => "clock jump",
            FaultKind::ClockDrift => "clock drift",
            FaultKind::WallClock => "wall clock",
            FaultKind::BitRot => "bit rot",
            FaultKind::Misread => "bit rot on read",
            FaultKind::Misdirected => "misdirected write",
            FaultKind::DiskFull => "disk full",
            FaultKind::FailedSync => "failed sync",
            FaultKind::Wipe => "wiped directory",
        }
    }
}

/// Something that a node does, before or after which it may go down or stand still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Deed {
    /// Records are written to the log.
    Append,
    /// A promise leaves.
    Promise,
    /// An acceptance leaves.
    Accepted,
    /// A leader's round of heartbeats leaves.
    Heartbeat,
    /// A prepare of a transaction leaves.
    Prepare,
    /// A vote leaves.
    Vote,
    /// A decision is proposed.
    Decide,
    /// The coordinator is told that a decision is applied.
    Decided,
    /// A decision is told to a participant.
    Resolve,
    /// An applied decision is acknowledged.
    Resolved,
    /// A client is answered.
    Acknowledge,
    /// A snapshot is written.
    Snapshot,
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
    /// A client's request has come, and the roles have done what they do then.
    AfterRequest,
    /// It was wanted, and nothing of it was done.
    Before(Deed),
    /// It is done, and nothing that follows.
    After(Deed),
    /// After so many more effects: in the middle of what a step wanted done.
    Effects(u32),
}

impl Point {
    /// Every point; of those in the middle of effects one.
    pub fn all() -> Vec<Point> {
        const DEEDS: [Deed; 12] = [
            Deed::Append,
            Deed::Promise,
            Deed::Accepted,
            Deed::Heartbeat,
            Deed::Prepare,
            Deed::Vote,
            Deed::Decide,
            Deed::Decided,
            Deed::Resolve,
            Deed::Resolved,
            Deed::Acknowledge,
            Deed::Snapshot,
        ];
        let mut points =
            vec![Point::BeforeSync, Point::AfterSync, Point::AfterPersisted, Point::AfterRequest, Point::Effects(1)];
        points.extend(DEEDS.into_iter().flat_map(|deed| [Point::Before(deed), Point::After(deed)]));
        points
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Point::BeforeSync => "before sync",
            Point::AfterSync => "after sync",
            Point::AfterPersisted => "after what follows a sync",
            Point::AfterRequest => "after what follows a request",
            Point::Effects(_) => "in the middle of a step",
            Point::Before(deed) => match deed {
                Deed::Append => "before append",
                Deed::Promise => "before promise",
                Deed::Accepted => "before accepted",
                Deed::Heartbeat => "before heartbeat",
                Deed::Prepare => "before prepare",
                Deed::Vote => "before vote",
                Deed::Decide => "before decide",
                Deed::Decided => "before decided",
                Deed::Resolve => "before resolve",
                Deed::Resolved => "before resolved",
                Deed::Acknowledge => "before acknowledge",
                Deed::Snapshot => "before snapshot",
            },
            Point::After(deed) => match deed {
                Deed::Append => "after append",
                Deed::Promise => "after promise",
                Deed::Accepted => "after accepted",
                Deed::Heartbeat => "after heartbeat",
                Deed::Prepare => "after prepare",
                Deed::Vote => "after vote",
                Deed::Decide => "after decide",
                Deed::Decided => "after decided",
                Deed::Resolve => "after resolve",
                Deed::Resolved => "after resolved",
                Deed::Acknowledge => "after acknowledge",
                Deed::Snapshot => "after snapshot",
            },
        }
    }
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
    /// How many of 1,000 proposals of a role to the leader on its node come once more.
    pub echoes: u64,
    /// The mean delay of such a copy, in microseconds.
    pub mean_echo: u64,
    /// How many of 1,000 questions about something in doubt come to every node of the group at once.
    pub asked_around: u64,
    /// How many of 1,000 proposals with a Begin lie on their way to the leader on its node.
    pub late: u64,
    /// For how long, in microseconds and in the mean, unless the node loses the lead meanwhile: then until it has it again.
    pub mean_late: u64,
    /// How many nodes may be down at a time, but for a blackout.
    pub most_down: usize,
    /// The clients.
    pub clients: ClientOptions,
    /// How many there are.
    pub client_count: u32,
    /// How long faults and new operations go on, in microseconds.
    pub safety: u64,
    /// How well the clocks go.
    pub drift: Drift,
    /// Only a quorum of each group is healed at the end: all else may stay dead or cut off.
    pub quorum_only: bool,
    /// Somebody asks what no good client asks.
    pub stranger: bool,
    /// The mean time between two hand-overs of leadership that an operator asks for, in microseconds, if one does.
    pub moves: Option<u64>,
    /// How long the healed part has to come to rest, in microseconds, if not as long as is fair ([`Swarm::bound`]).
    pub liveness: Option<u64>,
}

/// How long faults and new operations go on, in microseconds: rare things need several faults, one after the other.
const SAFETY: u64 = 60_000_000;

impl Swarm {
    /// Draws a run.
    pub fn draw(rng: &mut Rng) -> Swarm {
        let moves = moves(rng);
        let groups = pick(rng, &[1, 2, 3, 3, 3, 3, 3, 3]);
        let shape = Shape::draw(rng, groups);
        let mut mean_gaps = [300_000, 1_000_000, 3_000_000];
        let kinds: Vec<FaultKind> = match rng.below(20) {
            0 | 1 => Vec::new(),
            2 | 3 => FaultKind::ALL.to_vec(),
            4..7 => {
                // Some bugs want the same rare moment again and again: two kinds of faults, one upon the other.
                mean_gaps = [30_000, 100_000, 300_000];
                (0..2).map(|_| pick(rng, &FaultKind::ALL)).collect()
            }
            _ => FaultKind::ALL.into_iter().filter(|_| rng.chance(40)).collect(),
        };
        // One number is drawn for nothing: without it every seed would be another run.
        rng.below(4);
        Swarm {
            network: network(rng),
            disk: DiskOptions {
                mean_sync: pick(rng, &[50, 300, 2_000, 10_000]),
                slow: pick(rng, &[0, 0, 2, 20]),
                torn: pick(rng, &[0, 0, 500, 1000]),
            },
            kinds,
            withheld: Withheld::default(),
            mean_gap: pick(rng, &mean_gaps),
            mean_length: pick(rng, &[100_000, 500_000, 2_000_000]),
            echoes: pick(rng, &[0, 0, 10, 100]),
            asked_around: asked_around(rng),
            mean_echo: pick(rng, &[200, 5_000, 500_000]),
            late: pick(rng, &[0, 0, 0, 10, 100]),
            mean_late: pick(rng, &[5_000, 500_000]),
            most_down: pick(rng, &[1, 1, 2, shape.nodes().len()]),
            clients: clients(rng, SAFETY),
            client_count: between(rng, 1, 5) as u32,
            safety: SAFETY,
            drift: pick(rng, &[Drift::None, Drift::Usual, Drift::Usual, Drift::Extreme]),
            quorum_only: rng.chance(40),
            stranger: rng.chance(50),
            moves,
            liveness: None,
            shape,
        }
    }

    /// How long the healed part of the cluster has to come to rest, in microseconds.
    ///
    /// The bound is a sum of what may still have to happen, one after the other. What was sent before the healing may
    /// arrive late and begin something anew; a slow sync may be under way. An election may have to be repeated, with timeouts that have adapted to
    /// four times the configured one. A request may wait for its whole deadline before its client learns that it must
    /// try again, and whoever holds what it needs may be one that is asked for, or told, at the longest pause of its
    /// doubling ones. Then comes the same once more for those who waited behind it, and a second for messages and disks.
    pub fn bound(&self) -> u64 {
        if let Some(bound) = self.liveness {
            return bound;
        }
        let late = self.network.straggler_delay * u64::from(self.network.straggler > 0)
            + self.network.mean_delay * 20 * 20 * u64::from(self.network.duplicate > 0);
        let election = 4 * 4 * self.shape.leader_timeout.0;
        // A client may ask every node of the group in vain before the one that leads, and wait for each.
        let nodes = self.shape.groups.iter().map(|(_, nodes)| nodes.len() as u64).max().unwrap_or(1);
        let request = self.clients.deadline + self.clients.timeout * nodes;
        let pause = (8 * self.shape.inquire_after.0).max(16 * self.shape.resend.0);
        let sync = 1_000 * self.disk.mean_sync;
        // What is pending ends by itself, once it has had its time and its coordinator was told again.
        let expiry = if self.clients.vault > 0 { 2 * LONGEST_TIMEOUT + TOLD_AGAIN } else { 0 };
        late + sync + election + expiry + 2 * (request + pause) + 1_000_000
    }
}

/// After so long at most a coordinator is told again that a pending transfer's time is over, and a try of its own ends.
const TOLD_AGAIN: u64 = 10_000_000;

/// Drawn beside the stream: seeds of before are what they were, but for this.
fn moves(rng: &Rng) -> Option<u64> {
    let mut own = Rng::new(rng.clone().next_u64() ^ 0x006d_6f76_6573);
    pick(&mut own, &[None, None, Some(5_000_000), Some(1_000_000), Some(200_000)])
}

/// Drawn beside the stream, as [`moves`].
fn asked_around(rng: &Rng) -> u64 {
    let mut own = Rng::new(rng.clone().next_u64() ^ 0x6172_6f75_6e64);
    pick(&mut own, &[0, 0, 200, 1000])
}

/// Drawn beside the stream, as [`moves`].
fn levels(rng: &Rng) -> u64 {
    let mut own = Rng::new(rng.clone().next_u64() ^ 0x6c65_7665_6c73);
    pick(&mut own, &[0, 0, 20, 50])
}

/// What the clients do: as many operations as the run is long.
fn clients(rng: &mut Rng, safety: u64) -> ClientOptions {
    let mut options = ClientOptions::draw(rng);
    options.operations *= safety / 10_000_000;
    options.levels = levels(rng);
    options
}

fn network(rng: &mut Rng) -> NetworkOptions {
    NetworkOptions {
        mean_delay: pick(rng, &[50, 300, 1_000, 5_000]),
        loss: pick(rng, &[0, 0, 5, 50, 150]),
        duplicate: pick(rng, &[0, 0, 10, 100]),
        straggler: pick(rng, &[0, 0, 2, 20]),
        straggler_delay: pick(rng, &[500_000, 3_000_000, 10_000_000]),
        in_order: rng.chance(50),
        corrupt: pick(rng, &[0, 0, 5, 50, 500]),
        truncate: pick(rng, &[0, 0, 5, 50, 500]),
        misdirect: pick(rng, &[0, 0, 0, 20, 200]),
        mangle: pick(rng, &[0, 0, 0, 20, 200]),
        reconnect: pick(rng, &[1_000, 20_000, 300_000]),
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

/// One time that a node goes down, of several in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fall {
    /// How long after its last start, in microseconds.
    pub up: u64,
    /// How.
    pub crash: Crash,
    /// For how long, in microseconds.
    pub down: u64,
}

/// What the world is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Cut these links for so long.
    Cut(BTreeSet<Link>, u64),
    /// Clog these links, each until its time from now.
    Clog(Vec<(Link, u64)>),
    /// Clog all links of these nodes, each from one time from now to another.
    Swizzle(Vec<(NodeId, u64, u64)>),
    /// This node goes down for so long.
    Crash(NodeId, Crash, u64),
    /// This node goes down when it comes to this point for the so manieth time, for so long; or whoever comes there
    /// first, if there is none.
    CrashAt(Option<NodeId>, Point, u32, Crash, u64),
    /// This node goes down during its next sync for so long, and then in each of these ways, one after the other.
    CrashLoop(NodeId, u64, Vec<Fall>),
    /// This node stands still for so long.
    Pause(NodeId, u64),
    /// This node stands still when it has come to this point for the so manieth time, for so long; or whoever comes
    /// there first, if there is none.
    PauseAt(Option<NodeId>, Point, u32, u64),
    /// The disk of this node comes to harm; if the node goes down by that, it is for so long.
    Damage(NodeId, Harm, u64),
    /// Every node goes down; each comes back after its time.
    /// Each of this node's steps takes so long, in microseconds, for so long.
    Slow(NodeId, u64, u64),
    /// These nodes go down; each comes back after its time.
    Blackout(Crash, Vec<(NodeId, u64)>),
    /// This node's monotonic clock jumps by so much.
    ClockJump(NodeId, u64),
    /// This node's monotonic clock goes at so many millionths of the right speed.
    ClockDrift(NodeId, u64),
    /// All wall clocks are set anew.
    WallClock,
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
    leader_timeout: u64,
    inquire_after: u64,
    most_down: usize,
    torn: u64,
    mean_sync: u64,
    drift: Drift,
    nodes: Vec<NodeId>,
    groups: Vec<Vec<NodeId>>,
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
            leader_timeout: swarm.shape.leader_timeout.0,
            inquire_after: swarm.shape.inquire_after.0,
            most_down: swarm.most_down,
            torn: swarm.disk.torn,
            mean_sync: swarm.disk.mean_sync,
            drift: swarm.drift,
            nodes: swarm.shape.nodes(),
            groups: swarm.shape.groups.iter().map(|(_, nodes)| nodes.clone()).collect(),
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
        // There are many points: they need more than their share.
        let aims = self.kinds.contains(&FaultKind::CrashPoint) && self.rng.chance(20);
        let kind = if aims { FaultKind::CrashPoint } else { pick(&mut self.rng, &self.kinds) };
        let number = self.drawn;
        self.drawn += 1;
        if self.withheld.covers(number, kind) {
            return None;
        }
        let length = exponential(&mut self.rng, self.mean_length).max(1);
        let act = match kind {
            FaultKind::Partition | FaultKind::OneWay => Some(Act::Cut(self.sides(kind, seen), length)),
            FaultKind::Bridge => Some(Act::Cut(self.bridge(), length)),
            FaultKind::ClientCut => Some(Act::Cut(self.clients_off(), length)),
            FaultKind::Clog => Some(Act::Clog(self.clogs(length))),
            FaultKind::Swizzle => Some(Act::Swizzle(self.swizzle(length))),
            FaultKind::Kill => self.victim(seen).map(|node| Act::Crash(node, Crash::Kill, length)),
            FaultKind::PowerLoss => self.victim(seen).map(|node| Act::Crash(node, self.power_loss(), length)),
            FaultKind::CrashPoint => self.victim(seen).map(|node| {
                let (crash, skip) = (self.crash(), self.rng.below(4) as u32);
                let node = self.rng.chance(30).then_some(node);
                Act::CrashAt(node, self.point(), skip, crash, length)
            }),
            FaultKind::CrashLoop => {
                self.victim(seen).map(|node| Act::CrashLoop(node, length / 4 + 1, self.falls(length)))
            }
            FaultKind::Pause => self.victim(seen).map(|node| Act::Pause(node, self.nap(length))),
            FaultKind::PausePoint => self.victim(seen).map(|node| {
                let (skip, node) = (self.rng.below(4) as u32, self.rng.chance(30).then_some(node));
                // Between a round and its answers a leader has most to lose.
                let point = match self.rng.below(4) {
                    0 => Point::After(Deed::Heartbeat),
                    1 => Point::AfterRequest,
                    _ => self.point(),
                };
                Act::PauseAt(node, point, skip, self.nap(length))
            }),
            FaultKind::BitRot => self.harm(seen, Harm::Rot, length),
            FaultKind::Misread => self.harm(seen, Harm::Misread, length),
            FaultKind::Misdirected => self.harm(seen, Harm::Misdirect, length),
            FaultKind::DiskFull => self.harm(seen, Harm::Fill, length),
            FaultKind::FailedSync => self.harm(seen, Harm::FailSync, length),
            FaultKind::Wipe => {
                let formatted = self.rng.chance(50);
                self.harm(seen, Harm::Wipe { formatted }, length)
            }
            FaultKind::Slow => self.victim(seen).map(|node| {
                let step = pick(&mut self.rng, &[40, 200, 1_000, 4_000]);
                Act::Slow(node, step, length)
            }),
            // All at once is rarer than one at a time.
            FaultKind::GroupLoss => self.rng.chance(20).then(|| self.group_loss(length)),
            FaultKind::Blackout => self.rng.chance(20).then(|| self.blackout(length, self.nodes.clone())),
            FaultKind::ClockJump => {
                let longest = pick(&mut self.rng, &[100_000, 2_000_000, 60_000_000, HOUR]);
                let by = between(&mut self.rng, 1, longest);
                Some(Act::ClockJump(pick(&mut self.rng, &self.nodes), by))
            }
            FaultKind::ClockDrift => {
                let rate = self.drift.draw(&mut self.rng);
                Some(Act::ClockDrift(pick(&mut self.rng, &self.nodes), rate))
            }
            FaultKind::WallClock => Some(Act::WallClock),
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

    /// How long a process stands still: often just so long that others have a new leader, of whom it does not know, and
    /// sometimes until those who wait for its group begin to ask all of it.
    fn nap(&mut self, length: u64) -> u64 {
        let (timeout, inquiries) = (self.leader_timeout, 8 * self.inquire_after);
        match self.rng.below(4) {
            0 | 1 => between(&mut self.rng, timeout, 5 * timeout),
            2 => 2 * timeout + between(&mut self.rng, 0, inquiries),
            _ => length,
        }
    }

    /// Kills, each soon after the start that follows the one before it, while what was found on the disk may not have
    /// been synced; then a loss of power.
    fn falls(&mut self, length: u64) -> Vec<Fall> {
        let (kills, last) = (self.rng.below(3), self.power_loss());
        let mean_up = 2 * self.mean_sync;
        let mut fall = |crash, down| Fall { up: 1 + exponential(&mut self.rng, mean_up), crash, down };
        let mut falls: Vec<Fall> = (0..kills).map(|_| fall(Crash::Kill, length / 4 + 1)).collect();
        falls.push(fall(last, length));
        falls
    }

    fn power_loss(&self) -> Crash {
        Crash::PowerLoss { torn: self.torn }
    }

    fn crash(&mut self) -> Crash {
        if self.rng.chance(50) { Crash::Kill } else { self.power_loss() }
    }

    fn point(&mut self) -> Point {
        match pick(&mut self.rng, &Point::all()) {
            Point::Effects(_) => Point::Effects(between(&mut self.rng, 1, 40) as u32),
            point => point,
        }
    }

    fn sides(&mut self, kind: FaultKind, seen: &Seen<'_>) -> BTreeSet<Link> {
        let mut nodes = self.nodes.clone();
        shuffle(&mut self.rng, &mut nodes);
        let alone = self.rng.chance(50);
        if let (true, Some(leader)) = (alone, seen.leaders.first()) {
            let leader = if seen.leaders.len() > 1 { pick(&mut self.rng, seen.leaders) } else { *leader };
            nodes.sort_by_key(|node| *node != leader);
        }
        let first = if alone { 1 } else { between(&mut self.rng, 1, nodes.len().max(2) as u64 - 1) as usize };
        let (left, right) = nodes.split_at(first.min(nodes.len()));
        let mut links = between_sides(left, right, kind != FaultKind::OneWay);
        if kind == FaultKind::OneWay && self.rng.chance(50) {
            links = links.into_iter().map(|(a, b)| (b, a)).collect();
        }
        links
    }

    /// Two majorities of one group that share one node; everybody else is on one of the sides.
    fn bridge(&mut self) -> BTreeSet<Link> {
        let group = self.rng.below(self.groups.len() as u64) as usize;
        let mut members = self.groups[group].clone();
        shuffle(&mut self.rng, &mut members);
        members.pop(); // The one that reaches both.
        let (left, right) = members.split_at(members.len() / 2);
        let (mut left, mut right) = (left.to_vec(), right.to_vec());
        for node in self.nodes.iter().filter(|node| !self.groups[group].contains(node)) {
            if self.rng.chance(50) { left.push(*node) } else { right.push(*node) }
        }
        between_sides(&left, &right, true)
    }

    fn swizzle(&mut self, length: u64) -> Vec<(NodeId, u64, u64)> {
        let mut nodes = self.nodes.clone();
        shuffle(&mut self.rng, &mut nodes);
        nodes.truncate(between(&mut self.rng, 1, nodes.len() as u64) as usize);
        let step = length / nodes.len() as u64;
        let last = length;
        let stops: Vec<(u64, NodeId)> = (0..).map(|n| n * step).zip(nodes.iter().copied()).collect();
        shuffle(&mut self.rng, &mut nodes);
        let release = |node| last + step * nodes.iter().position(|other| *other == node).map_or(0, |n| n as u64);
        stops.into_iter().map(|(stop, node)| (node, stop, release(node).max(stop + 1))).collect()
    }

    fn group_loss(&mut self, length: u64) -> Act {
        let group = self.rng.below(self.groups.len() as u64) as usize;
        let long = length.saturating_mul(between(&mut self.rng, 3, 10)).min(20_000_000);
        self.blackout(long, self.groups[group].clone())
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

    fn blackout(&mut self, length: u64, nodes: Vec<NodeId>) -> Act {
        let crash = self.crash();
        let back = nodes.into_iter().map(|node| (node, length + exponential(&mut self.rng, 100_000))).collect();
        Act::Blackout(crash, back)
    }
}

/// The links from one side to the other, and back if `both`.
fn between_sides(left: &[NodeId], right: &[NodeId], both: bool) -> BTreeSet<Link> {
    let mut links = BTreeSet::new();
    for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
        links.insert((Endpoint::Node(a), Endpoint::Node(b)));
        if both {
            links.insert((Endpoint::Node(b), Endpoint::Node(a)));
        }
    }
    links
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
    fn a_bridge_leaves_two_majorities_of_a_group_that_share_one_node() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let swarm = Swarm::draw(&mut rng);
            let links = Injector::new(&swarm, rng).bridge();
            let reaches = |a: NodeId, b: NodeId| !links.contains(&(Endpoint::Node(a), Endpoint::Node(b)));
            let is_bridged = |nodes: &Vec<NodeId>| {
                let heard = |node: &&NodeId| nodes.iter().filter(|other| reaches(**node, **other)).count();
                let all = nodes.iter().filter(|node| heard(node) == nodes.len()).count();
                let halves = nodes.iter().filter(|node| heard(node) == nodes.len() / 2 + 1).count();
                (all, halves) == (1, nodes.len() - 1)
            };
            assert!(swarm.shape.groups.iter().any(|(_, nodes)| is_bridged(nodes)), "seed {seed}");
        }
    }

    #[test]
    fn a_swizzle_stops_nodes_one_by_one_and_releases_them_in_another_order() {
        let mut orders = BTreeSet::new();
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let swarm = Swarm::draw(&mut rng);
            let stops = Injector::new(&swarm, rng).swizzle(1_000_000);
            assert!(stops.iter().all(|(_, stop, release)| stop < release));
            assert!(stops.is_sorted_by_key(|(_, stop, _)| *stop));
            orders.insert(stops.is_sorted_by_key(|(.., release)| *release));
        }
        assert_eq!(orders.len(), 2);
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

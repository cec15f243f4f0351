//! Faults as they happen: crashes and restarts, pauses, partitions, and what nodes notice of them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::log::record::Recovered;
use drachma_protocol::message::client::Request;
use drachma_protocol::role::{Input, RoleKind};

use super::{Event, REST_EVERY, Trap, World};
use crate::checkers::Restarted;
use crate::disk::Crash;
use crate::draw::{between, exponential};
use crate::faults::{Act, FaultKind, Point, Seen};
use crate::network::{Endpoint, Link};
use crate::node::{Assembly, Birth, Hosted};

/// How fast a broken or new connection is mostly noticed, in microseconds.
const SOON: u64 = 3_000;
/// How long it takes when nothing tells, in microseconds.
const LATE: u64 = 2_000_000;

impl World<'_> {
    pub(super) fn schedule_fault(&mut self) {
        if let Some(gap) = self.injector.gap() {
            self.at(self.now + gap, Event::Fault);
        }
    }

    pub(super) fn on_fault(&mut self) {
        if self.healed {
            return;
        }
        self.schedule_fault();
        let running: Vec<NodeId> = self.nodes.iter().filter(|n| n.is_up() && !n.paused).map(|n| n.id).collect();
        let leaders: Vec<NodeId> = self.leaders.values().copied().collect();
        let down = self.nodes.len() - running.len();
        let Some((kind, act)) = self.injector.act(&Seen { running: &running, down, leaders: &leaders }) else { return };
        self.count(fault_name(kind));
        self.trace.event(self.now, b"fault", || format!("FAULT {kind:?}: {act:?}"));
        match act {
            Act::Cut(links, length) => self.cut(links, length),
            Act::Clog(clogs) => {
                for (link, length) in clogs {
                    self.network.clog(link, self.now + length);
                }
            }
            Act::Crash(node, crash, length) => {
                self.index_of(node).into_iter().for_each(|n| self.crash(n, crash, length))
            }
            Act::CrashAt(node, point, crash, length) => {
                self.trap = self.index_of(node).map(|node| Trap { node, point, crash, length });
            }
            Act::Damage(node, harm, length) => {
                self.index_of(node).into_iter().for_each(|n| self.damage(n, harm, length));
            }
            Act::Pause(node, length) => self.index_of(node).into_iter().for_each(|n| self.pause(n, length)),
            Act::Blackout(crash, back) => {
                for (node, length) in back {
                    self.index_of(node).into_iter().for_each(|n| self.crash(n, crash, length));
                }
            }
        }
    }

    /// Whether this is where a node was to go down.
    pub(super) fn is_trapped_at(&self, node: usize, point: Point) -> bool {
        self.trap.is_some_and(|trap| trap.node == node && trap.point == point)
    }

    /// Counts down the effects of a node that is to go down in the middle of its work.
    pub(super) fn is_trapped_by_effect(&mut self, node: usize) -> bool {
        match &mut self.trap {
            Some(Trap { node: trapped, point: Point::Effects(left), .. }) if *trapped == node => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            _ => false,
        }
    }

    /// The node that was to go down goes down.
    pub(super) fn spring(&mut self) {
        if let Some(trap) = self.trap.take() {
            self.trace.event(self.now, b"trap", || format!("FAULT {trap:?}"));
            self.count("crash at a point");
            self.crash(trap.node, trap.crash, trap.length);
        }
    }

    pub(super) fn crash(&mut self, node: usize, crash: Crash, length: u64) {
        let host = &mut self.nodes[node];
        if !host.is_up() {
            return;
        }
        host.stop();
        let crash = self.bearable(node, crash);
        let host = &mut self.nodes[node];
        host.disk.crash(crash, &mut host.rng);
        let (id, boot) = (host.id, host.boot);
        self.trace.event(self.now, b"crash", || format!("{id} is down: {crash:?}"));
        for peer in self.others(node) {
            self.notice(peer, id, false);
        }
        self.lost.retain(|(watcher, _)| *watcher != id);
        self.at(self.now + length, Event::Start { node, boot });
    }

    /// A node begins to run.
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].lost {
            return; // For the rest of the run.
        }
        if self.is_interrupted(node) {
            return self.start_later(node);
        }
        let groups = self.swarm.shape.groups_on(self.nodes[node].id);
        let witness = Witness::new(self.assembly);
        if let Err(refusal) = self.nodes[node].start(self.now, &groups, &witness) {
            return self.not_started(node, &refusal);
        }
        let id = self.nodes[node].id;
        self.show_start(node, &witness.into_found());
        self.trace.event(self.now, b"start", || format!("{id} starts"));
        for peer in self.others(node) {
            let peer_id = self.nodes[peer].id;
            self.notice(node, peer_id, true);
            self.notice(peer, id, true);
        }
        for seat in 0..self.nodes[node].seats.len() {
            self.arm(node, seat);
        }
        self.run_node(node);
    }

    /// Shows the checkers what a node has found on its disk.
    fn show_start(&mut self, node: usize, found: &[(GroupId, Recovered)]) {
        let (node, damaged) = (self.nodes[node].id, self.nodes[node].damaged);
        for (group, recovered) in found {
            let seen = Restarted { node, group: *group, recovered, damaged };
            let verdict = self.checkers.ask(|checker| checker.on_restart(&seen));
            self.check(verdict);
        }
    }

    pub(super) fn pause(&mut self, node: usize, length: u64) {
        let host = &mut self.nodes[node];
        if host.is_up() && !host.paused {
            host.paused = true;
            let boot = host.boot;
            self.at(self.now + length, Event::Resume { node, boot });
        }
    }

    pub(super) fn resume(&mut self, node: usize) {
        if !self.nodes[node].paused {
            return;
        }
        self.nodes[node].paused = false;
        for seat in 0..self.nodes[node].seats.len() {
            self.arm(node, seat);
        }
        self.run_node(node);
    }

    fn others(&self, node: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != node).collect()
    }

    /// Whether a connection between two nodes holds.
    fn reaches(&self, node: NodeId, peer: NodeId) -> bool {
        let (a, b) = (Endpoint::Node(node), Endpoint::Node(peer));
        let is_up = self.index_of(peer).is_some_and(|peer| self.nodes[peer].is_up());
        is_up && !self.network.is_cut((a, b)) && !self.network.is_cut((b, a))
    }

    /// A node will notice that it has lost or found another one, if it is still so then: a hint only, and it may come
    /// late.
    fn notice(&mut self, watcher: usize, peer: NodeId, up: bool) {
        let boot = self.nodes[watcher].boot;
        let soon = self.rng.chance(80) || self.healed;
        let mut mean = if soon { SOON } else { LATE };
        if let Some(measured) = self.notice_of_loss() {
            let Some(delay) = measured else { return };
            mean = delay;
        }
        let delay = exponential(&mut self.rng, mean);
        self.at(self.now + 1 + delay, Event::Link { node: watcher, boot, peer, up });
    }

    pub(super) fn on_link(&mut self, node: usize, peer: NodeId, up: bool) {
        let id = self.nodes[node].id;
        if self.reaches(id, peer) != up {
            return; // It is no longer so.
        }
        let host = &mut self.nodes[node];
        if up {
            self.lost.remove(&(id, peer));
        } else {
            self.lost.insert((id, peer));
        }
        for seat in &mut host.seats {
            seat.mailbox.push_back(Input::Link { node: peer, up });
        }
        self.trace.event(self.now, b"link", || format!("{id} {} {peer}", if up { "reaches" } else { "has lost" }));
        self.run_node(node);
    }

    fn cut(&mut self, links: BTreeSet<Link>, length: u64) {
        self.network.cut(&links);
        // Mostly a partition is silence; sometimes connections break.
        if self.rng.chance(30) {
            for (watcher, peer) in self.node_pairs(&links) {
                self.notice(watcher, peer, false);
            }
        }
        self.at(self.now + length, Event::Mend(links));
    }

    pub(super) fn mend(&mut self, links: &BTreeSet<Link>) {
        if self.healed {
            return; // Everything was mended at once.
        }
        self.network.mend(links);
        self.trace.event(self.now, b"mend", || format!("mended {} links", links.len()));
        for (watcher, peer) in self.node_pairs(links) {
            self.notice(watcher, peer, true);
        }
    }

    /// Who sits at the ends of these links: each as watcher of the other.
    fn node_pairs(&self, links: &BTreeSet<Link>) -> Vec<(usize, NodeId)> {
        let mut pairs = BTreeSet::new();
        for link in links {
            if let (Endpoint::Node(a), Endpoint::Node(b)) = link {
                pairs.extend(self.index_of(*a).map(|watcher| (watcher, *b)));
                pairs.extend(self.index_of(*b).map(|watcher| (watcher, *a)));
            }
        }
        pairs.into_iter().collect()
    }

    /// The liveness phase begins: nothing fails any more, and clients finish what they have begun.
    pub(super) fn heal(&mut self) {
        self.trace.event(self.now, b"heal", || "HEAL: everything is mended".to_owned());
        self.healed = true;
        self.trap = None;
        self.network.heal();
        self.nodes.iter_mut().for_each(|node| node.disk.device_mut().relieve());
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_up() {
                self.resume(node);
            } else {
                let (boot, at) = (self.nodes[node].boot, self.now + between(&mut self.rng, 1, 100_000));
                self.at(at, Event::Start { node, boot });
            }
        }
        for (watcher, peer) in self.lost.clone() {
            if let Some(watcher) = self.index_of(watcher) {
                self.notice(watcher, peer, true);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].stop(self.now, &mut self.history);
            self.grant(client as u32);
        }
        self.at(self.now + REST_EVERY, Event::Rest);
    }
}

/// Makes the roles of a node and notes what they start from.
struct Witness<'a> {
    assembly: &'a dyn Assembly,
    found: RefCell<Vec<(GroupId, Recovered)>>,
}

impl<'a> Witness<'a> {
    fn new(assembly: &'a dyn Assembly) -> Witness<'a> {
        Witness { assembly, found: RefCell::default() }
    }

    fn into_found(self) -> Vec<(GroupId, Recovered)> {
        self.found.into_inner()
    }
}

impl Assembly for Witness<'_> {
    fn start(&self, birth: Birth) -> Vec<(RoleKind, Box<dyn Hosted>)> {
        self.found.borrow_mut().push((birth.group, birth.recovered.clone()));
        self.assembly.start(birth)
    }

    fn takes(&self, request: &Request) -> RoleKind {
        self.assembly.takes(request)
    }
}

/// How often it happens is counted under this name.
pub(crate) fn fault_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Partition => "partition",
        FaultKind::OneWay => "one-way partition",
        FaultKind::Bridge => "bridge",
        FaultKind::ClientCut => "clients cut off",
        FaultKind::Clog => "clog",
        FaultKind::Kill => "kill",
        FaultKind::PowerLoss => "power loss",
        FaultKind::CrashPoint => "crash point",
        FaultKind::Pause => "pause",
        FaultKind::Blackout => "blackout",
        FaultKind::BitRot => "bit rot",
        FaultKind::Misread => "bit rot on read",
        FaultKind::Misdirected => "misdirected write",
        FaultKind::DiskFull => "disk full",
        FaultKind::FailedSync => "failed sync",
        FaultKind::Wipe => "wiped directory",
    }
}

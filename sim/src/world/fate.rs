//! Faults as they happen: crashes and restarts, pauses, partitions, and what nodes notice of them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::ledger::Genesis;
use drachma_protocol::log::record::Recovered;
use drachma_protocol::message::client::Request;
use drachma_protocol::role::{Input, RoleKind};

use super::events::{Change, Event};
use super::{Trap, World};
use crate::checkers::Restarted;
use crate::coverage::Kind;
use crate::disk::Crash;
use crate::draw::exponential;
use crate::faults::{Act, Fall, Point, Seen};
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
        self.count(Kind::Fault, kind.name());
        self.trace.event(self.now, b"fault", || format!("FAULT {kind:?}: {act:?}"));
        self.befall(act);
    }

    fn befall(&mut self, act: Act) {
        match act {
            Act::Cut(links, length) => self.cut(links, length),
            Act::Clog(clogs) => clogs.into_iter().for_each(|(link, length)| self.network.clog(link, self.now + length)),
            Act::Swizzle(stops) => {
                for (node, stop, release) in stops {
                    self.at(self.now + stop, Event::Clog { node, until: self.now + release });
                }
            }
            Act::Crash(node, crash, length) => self.with(node, |world, node| world.crash(node, crash, length)),
            Act::CrashAt(node, point, skip, crash, length) => {
                self.set_trap(node, point, skip, (Some(crash), length));
            }
            Act::CrashLoop(node, length, falls) => {
                self.set_trap(Some(node), Point::BeforeSync, 0, (Some(Crash::Kill), length));
                self.falls = falls;
            }
            Act::PauseAt(node, point, skip, length) => self.set_trap(node, point, skip, (None, length)),
            Act::Damage(node, harm, length) => self.with(node, |world, node| world.damage(node, harm, length)),
            Act::Pause(node, length) => self.with(node, |world, node| world.pause(node, length)),
            Act::Slow(node, step, length) => self.with(node, |world, node| {
                world.nodes[node].slow = step;
                world.at(world.now + length, Event::Hasten { node, slow: step });
            }),
            Act::Blackout(crash, back) => {
                for (node, length) in back {
                    self.with(node, |world, node| world.crash(node, crash, length));
                }
            }
            Act::ClockJump(node, by) => self.with(node, |world, node| {
                world.nodes[node].clocks.jump(world.now, by);
                world.arm_all(node);
            }),
            Act::ClockDrift(node, rate) => self.with(node, |world, node| {
                world.nodes[node].clocks.set_rate(world.now, rate);
                world.arm_all(node);
            }),
            Act::WallClock => self.nodes.iter_mut().for_each(|node| node.clocks.set_wall(&mut node.rng)),
        }
    }

    fn with(&mut self, node: NodeId, act: impl FnOnce(&mut Self, usize)) {
        if let Some(node) = self.index_of(node) {
            act(self, node);
        }
    }

    /// All links of a node stop, until then.
    pub(super) fn clog(&mut self, node: NodeId, until: u64) {
        if self.healed {
            return;
        }
        let nodes = self.nodes.iter().map(|node| Endpoint::Node(node.id));
        let others: Vec<Endpoint> = nodes.chain((0..self.swarm.client_count).map(Endpoint::Client)).collect();
        let node = Endpoint::Node(node);
        for other in others.into_iter().filter(|other| *other != node) {
            self.network.clog((node, other), until);
            self.network.clog((other, node), until);
        }
    }

    fn set_trap(&mut self, node: Option<NodeId>, point: Point, skip: u32, (crash, length): (Option<Crash>, u64)) {
        let place = node.and_then(|node| self.index_of(node));
        let (anyone, node) = (place.is_none(), place.unwrap_or(0));
        self.falls.clear();
        self.trap = Some(Trap { node, anyone, point, skip, crash, length });
    }

    /// Whether a node is to go down, or to stand still, at some point of its work.
    pub(super) fn has_trap(&self, node: usize) -> bool {
        self.trap.is_some_and(|trap| trap.anyone || trap.node == node)
    }

    /// Whether this is where a node was to go down or to stand still; counts down the times that it comes there.
    pub(super) fn is_trapped_at(&mut self, node: usize, point: Point) -> bool {
        match &mut self.trap {
            Some(trap) if (trap.anyone || trap.node == node) && trap.point == point => {
                let sprung = trap.skip == 0;
                trap.node = node;
                trap.skip = trap.skip.saturating_sub(1);
                sprung
            }
            _ => false,
        }
    }

    /// Counts down the effects of a node that is to go down in the middle of its work.
    pub(super) fn is_trapped_by_effect(&mut self, node: usize) -> bool {
        match &mut self.trap {
            Some(Trap { node: trapped, anyone, point: Point::Effects(left), .. }) if *anyone || *trapped == node => {
                *left = left.saturating_sub(1);
                *trapped = node;
                *left == 0
            }
            _ => false,
        }
    }

    /// The node that was to go down goes down, or it stands still; returns whether it is down.
    pub(super) fn spring(&mut self) -> bool {
        let Some(trap) = self.trap.take() else { return false };
        self.trace.event(self.now, b"trap", || format!("FAULT {trap:?}"));
        match trap.crash {
            Some(crash) => {
                self.count(Kind::Point, trap.point.name());
                self.crash(trap.node, crash, trap.length);
                let falls = std::mem::take(&mut self.falls);
                self.relapse_later(trap.node, trap.length, falls);
            }
            None => self.pause(trap.node, trap.length),
        }
        trap.crash.is_some()
    }

    /// A node goes down again soon after its start, and once more for each that is left.
    pub(super) fn relapse(&mut self, node: usize, mut falls: Vec<Fall>) {
        if self.healed {
            return;
        }
        let Fall { crash, down, .. } = falls.remove(0);
        self.crash(node, crash, down);
        self.relapse_later(node, down, falls);
    }

    fn relapse_later(&mut self, node: usize, down: u64, falls: Vec<Fall>) {
        let Some(next) = falls.first() else { return };
        let boot = self.nodes[node].boot + 1;
        self.at(self.now + down + next.up, Event::Relapse { node, boot, falls });
    }

    pub(super) fn crash(&mut self, node: usize, crash: Crash, length: u64) {
        if !self.nodes[node].is_up() {
            return;
        }
        self.count_rows(node);
        let host = &mut self.nodes[node];
        host.stop();
        let crash = self.bearable(node, crash);
        let host = &mut self.nodes[node];
        host.disk.crash(crash, &mut host.rng);
        let (id, boot) = (host.id, host.boot);
        self.network.forget(Endpoint::Node(id));
        self.trace.event(self.now, b"crash", || format!("{id} is down: {crash:?}"));
        for peer in self.others(node) {
            self.notice(peer, id, Change::Down);
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
            self.notice(node, peer_id, Change::Up);
            self.notice(peer, id, Change::Up);
        }
        self.arm_all(node);
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
        self.nodes[node].mix();
        if self.rng.chance(50) {
            // What has lain in sockets comes piece by piece, and the roles work in between; timers are looked at behind it.
            let boot = self.nodes[node].boot;
            for (to, input) in self.nodes[node].unread() {
                self.at(self.now, Event::Echo { node, boot, to, input: Box::new(input) });
            }
        }
        self.arm_all(node);
        self.run_node(node);
    }

    fn others(&self, node: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|other| *other != node).collect()
    }

    /// Whether a connection between two nodes can be made.
    fn reaches(&self, node: NodeId, peer: NodeId) -> bool {
        let (a, b) = (Endpoint::Node(node), Endpoint::Node(peer));
        let is_up = self.index_of(peer).is_some_and(|peer| self.nodes[peer].is_up());
        is_up && !self.network.is_cut((a, b)) && !self.network.is_cut((b, a))
    }

    /// A node will notice that it has lost or found another one, if it is still so then: a hint only, and it may come
    /// late.
    pub(super) fn notice(&mut self, watcher: usize, peer: NodeId, change: Change) {
        let boot = self.nodes[watcher].boot;
        let soon = self.rng.chance(80) || self.healed;
        let mut mean = if soon { SOON } else { LATE };
        if let Some(measured) = self.notice_of_loss() {
            let Some(delay) = measured else { return };
            mean = delay;
        }
        let delay = exponential(&mut self.rng, mean);
        self.at(self.now + 1 + delay, Event::Link { node: watcher, boot, peer, change });
    }

    pub(super) fn on_link(&mut self, node: usize, peer: NodeId, change: Change) {
        let id = self.nodes[node].id;
        let up = change == Change::Up;
        if change != Change::Broken && self.reaches(id, peer) != up {
            return; // It is no longer so.
        }
        if change == Change::Broken {
            self.notice(node, peer, Change::Up);
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
                self.notice(watcher, peer, Change::Down);
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
            self.notice(watcher, peer, Change::Up);
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

    fn genesis(&self, group: GroupId) -> Option<Genesis> {
        self.assembly.genesis(group)
    }

    fn takes(&self, request: &Request) -> RoleKind {
        self.assembly.takes(request)
    }
}

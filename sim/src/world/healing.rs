//! The liveness phase: a quorum of each group is healed, and must come to rest, whatever becomes of the others.
//!
//! The quorum is drawn among the replicas that may vote (hazard L15). A replica that was damaged or wiped, or whose log is
//! in doubt, counts only when nobody is missing, so where there are not enough others the whole group is healed; so too
//! where a group has not begun, because its first leader needs every replica. A damaged node that finds its disk unusable
//! only now is not waited for. A group that has neither a quorum that may vote nor every replica is hopeless, and nothing
//! is asked of a run with such a group; a hunt counts these.

use std::collections::BTreeSet;

use drachma_protocol::ids::{GroupId, NodeId};

use super::events::{Change, Event};
use super::{REST_EVERY, World};
use crate::clock::Drift;
use crate::disk::Crash;
use crate::draw::{between, shuffle};
use crate::network::{Endpoint, Link};
use crate::shape::Shape;

/// Which replicas may vote.
type Voters = BTreeSet<(NodeId, GroupId)>;

impl World<'_> {
    /// The liveness phase begins: nothing fails any more, and clients finish what they have begun.
    pub(super) fn heal(&mut self) {
        self.trap = None;
        self.hurry();
        self.nodes.iter_mut().for_each(|node| node.disk.device_mut().relieve());
        let voters = self.find_voters();
        self.healthy = self.draw_healthy(&voters);
        self.healed = true;
        let cut = self.leave_the_rest(&voters);
        self.voters = voters;
        self.network.heal(self.now, &cut);
        let healthy = self.healthy.clone();
        self.trace.event(self.now, b"heal", || format!("HEAL: {healthy:?}"));
        for node in self.healthy_indexes() {
            self.heal_node(node);
        }
        for (watcher, peer) in self.lost.clone() {
            if let Some(watcher) = self.index_of(watcher) {
                self.notice(watcher, peer, Change::Up);
            }
        }
        for client in 0..self.clients.len() {
            self.clients[client].stop(self.now, &mut self.history);
            self.grant(client as u32);
        }
        self.at(self.now + REST_EVERY, Event::Rest);
    }

    fn healthy_indexes(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.healthy.contains(&self.nodes[*node].id)).collect()
    }

    fn heal_node(&mut self, node: usize) {
        self.nodes[node].slow = 0;
        if self.swarm.drift == Drift::Extreme {
            // No bound is fair with clocks that differ by a factor of four; jumps are over anyhow.
            let host = &mut self.nodes[node];
            let rate = Drift::Usual.draw(&mut host.rng);
            host.clocks.set_rate(self.now, rate);
            self.arm_all(node);
        }
        if self.nodes[node].is_up() {
            self.resume(node);
        } else {
            let (boot, at) = (self.nodes[node].boot, self.now + between(&mut self.rng, 1, 100_000));
            self.at(at, Event::Start { node, boot });
        }
    }

    /// Everybody, or a quorum of each group.
    fn draw_healthy(&mut self, voters: &Voters) -> BTreeSet<NodeId> {
        let mut healthy = BTreeSet::new();
        for (group, members) in self.swarm.shape.groups.clone() {
            let usable: Vec<NodeId> = members.iter().copied().filter(|node| !self.is_lost(*node)).collect();
            let mut sure: Vec<NodeId> =
                members.iter().copied().filter(|node| voters.contains(&(*node, group))).collect();
            let enough = self.is_enough(group, sure.len());
            self.hopeless |= !enough && !members.iter().all(|node| usable.contains(node) && self.is_admitted(*node));
            if enough && self.swarm.quorum_only {
                shuffle(&mut self.rng, &mut sure);
                healthy.extend(&sure[..members.len() / 2 + 1]);
            } else {
                healthy.extend(usable);
            }
        }
        healthy
    }

    /// Whether so many replicas that may vote are enough for a group, whoever else is missing.
    fn is_enough(&self, group: GroupId, sure: usize) -> bool {
        sure * 2 > self.swarm.shape.members(group).len() && self.begun.contains(&group)
    }

    fn is_lost(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|other| other.id == node && other.lost)
    }

    /// Whether a node has the directory that its groups know.
    fn is_admitted(&self, node: NodeId) -> bool {
        self.nodes.iter().any(|other| other.id == node && other.directory == Shape::directory(node))
    }

    /// A healed node finds its disk unusable. Nobody waits for it; without it, its groups need enough of those that may
    /// vote.
    pub(super) fn lose_for_good(&mut self, node: usize) {
        let id = self.nodes[node].id;
        self.nodes[node].lost = true;
        if !self.healthy.remove(&id) {
            return;
        }
        for group in self.swarm.shape.groups_on(id) {
            let sure = self.voters.iter().filter(|(node, of)| *of == group && self.healthy.contains(node)).count();
            self.hopeless |= !self.is_enough(group, sure);
        }
    }

    /// Which replicas may vote. A node that is down is started for a moment to see; one that was damaged, to see whether
    /// it can be.
    fn find_voters(&mut self) -> Voters {
        let mut voters = BTreeSet::new();
        for node in 0..self.nodes.len() {
            let host = &mut self.nodes[node];
            if host.lost {
                continue;
            }
            let (id, was_up) = (host.id, host.is_up());
            let groups = self.swarm.shape.groups_on(id);
            if !was_up && let Err(refusal) = host.start(self.now, &groups, self.assembly) {
                self.not_started(node, &refusal);
                continue;
            }
            let host = &mut self.nodes[node];
            let may = |group: &GroupId| {
                let mut seats = host.seats.iter().filter(|seat| seat.address.group == *group);
                seats.all(|seat| seat.role.may_vote())
            };
            if !host.damaged && host.directory == Shape::directory(id) {
                voters.extend(groups.into_iter().filter(may).map(|group| (id, group)));
            }
            if !was_up {
                host.stop();
                host.disk.crash(Crash::Kill, &mut host.rng);
            }
        }
        voters
    }

    /// What becomes of the others: some are healed after all, some stay down, some are cut off; returns what stays cut.
    fn leave_the_rest(&mut self, voters: &Voters) -> BTreeSet<Link> {
        let mut cut = BTreeSet::new();
        for node in 0..self.nodes.len() {
            let id = self.nodes[node].id;
            if self.healthy.contains(&id) {
                continue;
            }
            match self.rng.below(3) {
                0 if self.swarm.shape.groups_on(id).into_iter().all(|group| voters.contains(&(id, group))) => {
                    self.healthy.insert(id);
                }
                1 if self.nodes[node].is_up() => {
                    let (from_clients, deaf) = (self.rng.chance(50), self.rng.chance(50));
                    let links = self.isolation(id, from_clients);
                    // One that hears nothing and is heard: whoever led must not go on for ever (hazard L7).
                    cut.extend(links.into_iter().filter(|(_, to)| !deaf || *to == Endpoint::Node(id)));
                }
                _ => self.crash(node, Crash::Kill, 0),
            }
        }
        cut
    }

    fn isolation(&self, node: NodeId, from_clients: bool) -> BTreeSet<Link> {
        let clients = if from_clients { self.swarm.client_count } else { 0 };
        let nodes = self.nodes.iter().map(|node| Endpoint::Node(node.id));
        let node = Endpoint::Node(node);
        let others = nodes.chain((0..clients).map(Endpoint::Client)).filter(|other| *other != node);
        others.flat_map(|other| [(node, other), (other, node)]).collect()
    }
}

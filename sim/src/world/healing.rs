//! The liveness phase: a quorum of each group is healed, and must come to rest, whatever becomes of the others.
//!
//! The quorum is drawn among the replicas that may vote (hazard L15). A replica that was damaged or wiped, or whose log is
//! in doubt, counts only when nobody is missing, so where there are not enough others the whole group is healed; so too
//! where a group has not begun, because its first leader needs every replica. A group that has neither is hopeless, and
//! nothing is asked of a run with such a group.

use std::collections::BTreeSet;

use drachma_protocol::ids::{GroupId, NodeId};

use super::events::{Change, Event};
use super::{REST_EVERY, World};
use crate::clock::Drift;
use crate::disk::Crash;
use crate::draw::{between, shuffle};
use crate::network::{Endpoint, Link};

/// Which replicas may vote.
type Voters = BTreeSet<(NodeId, GroupId)>;

impl World<'_> {
    /// The liveness phase begins: nothing fails any more, and clients finish what they have begun.
    pub(super) fn heal(&mut self) {
        self.trap = None;
        self.nodes.iter_mut().for_each(|node| node.disk.device_mut().relieve());
        let voters = self.voters();
        self.healthy = self.draw_healthy(&voters);
        self.healed = true;
        let cut = self.leave_the_rest(&voters);
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
        let usable: BTreeSet<NodeId> = self.nodes.iter().filter(|node| !node.lost).map(|node| node.id).collect();
        let mut healthy = BTreeSet::new();
        for (group, members) in self.swarm.shape.groups.clone() {
            let quorum = members.len() / 2 + 1;
            let mut sure: Vec<NodeId> =
                members.iter().copied().filter(|node| voters.contains(&(*node, group))).collect();
            let enough = sure.len() >= quorum && self.begun.contains(&group);
            if !enough && members.iter().any(|node| !usable.contains(node)) {
                self.hopeless = true;
            }
            if enough && self.swarm.quorum_only {
                shuffle(&mut self.rng, &mut sure);
                healthy.extend(&sure[..quorum]);
            } else {
                healthy.extend(members.iter().filter(|node| usable.contains(node)));
            }
        }
        healthy
    }

    /// Which replicas may vote. A node that is down is started for a moment to see.
    fn voters(&mut self) -> Voters {
        let mut voters = BTreeSet::new();
        for node in 0..self.nodes.len() {
            let host = &mut self.nodes[node];
            if host.lost || host.damaged || host.directory != crate::shape::Shape::directory(host.id) {
                continue;
            }
            let was_up = host.is_up();
            if !was_up {
                let groups = self.swarm.shape.groups_on(host.id);
                if host.start(self.now, &groups, self.assembly).is_err() {
                    continue; // Its start will show why.
                }
            }
            let may =
                |group: &GroupId| host.seats.iter().all(|seat| seat.address.group != *group || seat.role.may_vote());
            let groups = self.swarm.shape.groups_on(host.id);
            voters.extend(groups.into_iter().filter(may).map(|group| (host.id, group)));
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

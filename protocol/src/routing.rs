//! Whom to ask in a group: hints about leaders, and what is known of who can be reached.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{GroupId, NodeId};
use crate::quorum::Quorum;

/// The groups, their nodes, and who probably leads them.
#[derive(Clone, Debug)]
pub struct Routes {
    groups: BTreeMap<GroupId, Route>,
    down: BTreeSet<NodeId>,
}

#[derive(Clone, Debug)]
struct Route {
    nodes: Vec<NodeId>,
    // An index into `nodes`.
    current: usize,
    // Nodes that have answered that they found no quorum, since the last good answer.
    no_quorum: BTreeSet<NodeId>,
    // Nodes that have not answered, since the last good answer or the last hint to them.
    silent: BTreeSet<NodeId>,
}

impl Routes {
    /// The routes of a cluster.
    pub fn new(groups: impl IntoIterator<Item = (GroupId, Vec<NodeId>)>) -> Routes {
        let route = |nodes| Route { nodes, current: 0, no_quorum: BTreeSet::new(), silent: BTreeSet::new() };
        let groups = groups.into_iter().map(|(group, nodes)| (group, route(nodes))).collect();
        Routes { groups, down: BTreeSet::new() }
    }

    /// The node to ask next; nothing if the group is unknown.
    pub fn target(&self, group: GroupId) -> Option<NodeId> {
        let route = self.groups.get(&group)?;
        route.nodes.get(route.current).copied()
    }

    /// The nodes of a group.
    pub fn nodes(&self, group: GroupId) -> &[NodeId] {
        self.groups.get(&group).map_or(&[], |route| &route.nodes)
    }

    /// A node told who leads; without a hint, the next one that can be reached is asked.
    pub fn redirect(&mut self, group: GroupId, from: NodeId, leader: Option<NodeId>, no_quorum: bool) {
        let Some(route) = self.groups.get_mut(&group) else { return };
        if no_quorum {
            route.no_quorum.insert(from);
        } else {
            route.no_quorum.remove(&from);
        }
        if route.nodes.get(route.current) != Some(&from) {
            return; // Somebody else has been chosen meanwhile.
        }
        // A hint to a node that was silent is passed over once: whoever gives it may know less, or the node may be back.
        let knows = |node: &NodeId| *node != from && !self.down.contains(node) && !route.silent.remove(node);
        let hinted = leader.filter(knows);
        match hinted.and_then(|node| route.nodes.iter().position(|n| *n == node)) {
            Some(index) => route.current = index,
            None => self.advance(group),
        }
    }

    /// The node that is asked did not answer: ask the next, and pass over the next hint back to it.
    pub fn unanswered(&mut self, group: GroupId) {
        if let Some(route) = self.groups.get_mut(&group) {
            route.silent.extend(route.nodes.get(route.current).copied());
        }
        self.advance(group);
    }

    /// Ask the next node.
    pub fn advance(&mut self, group: GroupId) {
        let Some(route) = self.groups.get_mut(&group) else { return };
        let count = route.nodes.len();
        let next = (1..=count).map(|step| (route.current + step) % count.max(1));
        let up = next.clone().find(|index| !self.down.contains(&route.nodes[*index]));
        route.current = up.or(next.clone().next()).unwrap_or(0);
    }

    /// A node answered as leader of the group.
    pub fn confirm(&mut self, group: GroupId, node: NodeId) {
        let Some(route) = self.groups.get_mut(&group) else { return };
        route.no_quorum.clear();
        route.silent.clear();
        if let Some(index) = route.nodes.iter().position(|n| *n == node) {
            route.current = index;
        }
    }

    /// A connection was made or lost.
    pub fn link(&mut self, node: NodeId, up: bool) {
        if up {
            self.down.remove(&node);
            return;
        }
        self.down.insert(node);
        let lost: Vec<GroupId> =
            self.groups.keys().copied().filter(|group| self.target(*group) == Some(node)).collect();
        for group in lost {
            self.advance(group);
        }
    }

    /// Whether the group looks unavailable: fewer than a majority of its nodes can be reached, or all that can have
    /// answered that they found no quorum.
    pub fn unavailable(&self, group: GroupId) -> bool {
        let Some(route) = self.groups.get(&group) else { return true };
        let reached: Vec<&NodeId> = route.nodes.iter().filter(|node| !self.down.contains(node)).collect();
        let quorum = Quorum::new(route.nodes.len().max(1));
        !quorum.is_quorum(reached.len()) || reached.iter().all(|node| route.no_quorum.contains(node))
    }
}

#[cfg(test)]
mod tests {
    use super::Routes;
    use crate::ids::{GroupId, NodeId};

    fn routes() -> Routes {
        Routes::new([(GroupId(1), vec![NodeId(1), NodeId(2), NodeId(3)])])
    }

    #[test]
    fn hints_are_followed_and_dead_nodes_skipped() {
        let (mut routes, g) = (routes(), GroupId(1));
        assert_eq!(routes.target(g), Some(NodeId(1)));
        routes.redirect(g, NodeId(1), Some(NodeId(3)), false);
        assert_eq!(routes.target(g), Some(NodeId(3)));
        routes.link(NodeId(1), false);
        routes.link(NodeId(3), false);
        assert_eq!(routes.target(g), Some(NodeId(2)));
    }

    #[test]
    fn a_hint_to_a_silent_node_does_not_keep_anyone_from_the_others() {
        let (mut routes, g) = (routes(), GroupId(1));
        // Node 1 is silent, and node 2, which is cut off, still takes it for the leader; node 3 leads.
        routes.unanswered(g);
        assert_eq!(routes.target(g), Some(NodeId(2)));
        routes.redirect(g, NodeId(2), Some(NodeId(1)), false);
        assert_eq!(routes.target(g), Some(NodeId(3)));
        // Or node 1 leads, and is back: the next hint is followed.
        routes.redirect(g, NodeId(3), Some(NodeId(1)), false);
        assert_eq!(routes.target(g), Some(NodeId(1)));
        routes.confirm(g, NodeId(3));
        routes.redirect(g, NodeId(3), Some(NodeId(1)), false);
        assert_eq!(routes.target(g), Some(NodeId(1)), "after a good answer hints count again");
    }

    #[test]
    fn a_group_without_a_majority_is_unavailable() {
        let (mut routes, g) = (routes(), GroupId(1));
        assert!(!routes.unavailable(g));
        routes.link(NodeId(1), false);
        assert!(!routes.unavailable(g));
        routes.redirect(g, NodeId(2), None, true);
        routes.redirect(g, NodeId(3), None, true);
        assert!(routes.unavailable(g));
        routes.confirm(g, NodeId(2));
        assert!(!routes.unavailable(g));
        routes.link(NodeId(2), false);
        assert!(routes.unavailable(g));
    }
}

//! The other groups as a role sees them: whom to ask, and when to ask somebody else.

use std::collections::BTreeMap;

use crate::ids::{GroupId, NodeId};
use crate::message::txn::Redirect;
use crate::routing::Routes;
use crate::time::{Span, Time};

/// Routes, and for each group since when it owes an answer.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    routes: Routes,
    contacts: BTreeMap<GroupId, Contact>,
    patience: Span,
}

#[derive(Clone, Debug, Default)]
struct Contact {
    // When the first message left that nothing has been heard after.
    asked: Option<Time>,
    // Who was asked last: another one may have been named since.
    last: Option<NodeId>,
    // When everything for the group was last sent again because of a redirection.
    hurried: Option<Time>,
    // Counts the nodes that were asked against the hints.
    turn: usize,
}

/// Redirections lead to sending everything again at most so often for a group: two nodes that each take the other for
/// the leader must not make us their ball.
const HURRY: Span = Span::from_millis(5);

impl Peers {
    /// A group that has been silent for `patience` is asked at another node.
    pub(super) fn new(routes: Routes, patience: Span) -> Peers {
        Peers { routes, contacts: BTreeMap::new(), patience }
    }

    /// The node to send to; nothing if the group is unknown. The answer is expected from now on.
    pub(super) fn ask(&mut self, group: GroupId, now: Time) -> Option<NodeId> {
        let contact = self.contacts.entry(group).or_default();
        contact.asked.get_or_insert(now);
        contact.last = self.routes.target(group);
        contact.last
    }

    /// The node to send something to again: another one than before if the group has been silent for too long. One that
    /// was named since and not asked yet comes first.
    pub(super) fn ask_again(&mut self, group: GroupId, now: Time) -> Option<NodeId> {
        let contact = self.contacts.entry(group).or_default();
        let asked = *contact.asked.get_or_insert(now);
        if now.since(asked) >= self.patience {
            contact.asked = Some(now);
            if contact.last == self.routes.target(group) {
                self.routes.advance(group);
            }
        }
        contact.last = self.routes.target(group);
        contact.last
    }

    /// The node to send to for the `turn`-th time: the likely leader, then all nodes of the group in turn, whatever is
    /// said about leaders.
    pub(super) fn rotate(&self, group: GroupId, turn: u32) -> Option<NodeId> {
        let nodes = self.routes.nodes(group);
        match turn {
            0 => self.routes.target(group),
            _ => nodes.get(turn as usize % nodes.len().max(1)).copied(),
        }
    }

    /// A node spoke as leader of a group.
    pub(super) fn heard(&mut self, group: GroupId, node: NodeId) {
        if let Some(contact) = self.contacts.get_mut(&group) {
            contact.asked = None;
        }
        self.routes.confirm(group, node);
    }

    /// A node does not lead its group. Returns whether what waits for that group should be sent again at once.
    ///
    /// Hints are followed for as long as patience lasts; then all nodes are tried in turn, or two that each take the
    /// other for the leader would keep us from the third.
    pub(super) fn redirected(&mut self, from: NodeId, redirect: &Redirect, now: Time) -> bool {
        if self.routes.nodes(redirect.group).is_empty() {
            return false;
        }
        let contact = self.contacts.entry(redirect.group).or_default();
        let tired = contact.asked.is_some_and(|asked| now.since(asked) >= self.patience);
        let mut hint = redirect.leader;
        if tired {
            contact.turn += 1;
            let nodes = self.routes.nodes(redirect.group);
            hint = nodes.get(contact.turn % nodes.len()).copied();
        }
        if tired || contact.asked.is_none() {
            contact.asked = Some(now);
        }
        self.routes.redirect(redirect.group, from, hint, redirect.no_quorum);
        if contact.hurried.is_some_and(|last| now.since(last) < HURRY) {
            return false;
        }
        contact.hurried = Some(now);
        true
    }

    /// A connection was made or lost.
    pub(super) fn link(&mut self, node: NodeId, up: bool) {
        self.routes.link(node, up);
    }

    /// Whether the group looks unavailable.
    pub(super) fn unavailable(&self, group: GroupId) -> bool {
        self.routes.unavailable(group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> Peers {
        let routes = Routes::new([(GroupId(2), vec![NodeId(4), NodeId(5), NodeId(6)])]);
        Peers::new(routes, Span::from_millis(100))
    }

    fn at(millis: u64) -> Time {
        Time(0) + Span::from_millis(millis)
    }

    #[test]
    fn a_silent_node_is_left_only_when_patience_ends() {
        let (mut peers, g) = (peers(), GroupId(2));
        assert_eq!(peers.ask(g, at(0)), Some(NodeId(4)));
        assert_eq!(peers.ask_again(g, at(99)), Some(NodeId(4)));
        assert_eq!(peers.ask_again(g, at(100)), Some(NodeId(5)));
        assert_eq!(peers.ask_again(g, at(150)), Some(NodeId(5)));
        peers.heard(g, NodeId(5));
        assert_eq!(peers.ask_again(g, at(1000)), Some(NodeId(5)));
    }

    #[test]
    fn a_redirection_hurries_but_not_all_the_time() {
        let (mut peers, g) = (peers(), GroupId(2));
        let redirect = |leader| Redirect { group: g, leader: Some(NodeId(leader)), no_quorum: false };
        peers.ask(g, at(0));
        assert!(peers.redirected(NodeId(4), &redirect(6), at(1)));
        assert_eq!(peers.ask(g, at(1)), Some(NodeId(6)));
        assert!(!peers.redirected(NodeId(6), &redirect(4), at(2)));
        assert_eq!(peers.ask(g, at(2)), Some(NodeId(4)), "the hint is followed all the same");
        assert!(peers.redirected(NodeId(4), &redirect(6), at(6)));
    }

    #[test]
    fn who_was_named_when_it_was_too_soon_to_ask_is_asked_next() {
        let (mut peers, g) = (peers(), GroupId(2));
        let redirect = |leader| Redirect { group: g, leader, no_quorum: false };
        assert_eq!(peers.ask(g, at(0)), Some(NodeId(4)));
        assert!(peers.redirected(NodeId(4), &redirect(None), at(1)));
        assert_eq!(peers.ask(g, at(1)), Some(NodeId(5)));
        assert!(!peers.redirected(NodeId(5), &redirect(Some(NodeId(6))), at(2)), "so soon nothing is sent");
        assert_eq!(peers.ask_again(g, at(3000)), Some(NodeId(6)));
        assert_eq!(peers.ask_again(g, at(6000)), Some(NodeId(4)));
    }

    #[test]
    fn a_group_that_does_not_exist_takes_no_memory() {
        let mut peers = peers();
        let redirect = Redirect { group: GroupId(9), leader: None, no_quorum: true };
        assert!(!peers.redirected(NodeId(4), &redirect, at(0)));
        assert!(peers.contacts.is_empty());
    }

    #[test]
    fn two_nodes_that_name_each_other_do_not_hide_the_third() {
        let (mut peers, g) = (peers(), GroupId(2));
        let mut target = peers.ask(g, at(0)).unwrap();
        for now in 0..400 {
            if target == NodeId(6) {
                return;
            }
            let leader = Some(NodeId(9 - target.0));
            peers.redirected(target, &Redirect { group: g, leader, no_quorum: false }, at(now));
            target = peers.ask(g, at(now)).unwrap();
        }
        panic!("the third node was never asked");
    }

    #[test]
    fn all_nodes_are_asked_in_turn() {
        let peers = peers();
        let asked: Vec<_> = (0..4).map(|turn| peers.rotate(GroupId(2), turn).unwrap().0).collect();
        assert_eq!(asked, [4, 5, 6, 4]);
        assert_eq!(peers.rotate(GroupId(9), 0), None);
    }
}

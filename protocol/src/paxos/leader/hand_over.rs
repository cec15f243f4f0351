//! Handing leadership over: because an operator wants another node to lead, or because this one stops.
//!
//! Three steps, of which each may be the last. **Choose**: a follower that is reached and lacks little. **Drain**: nothing
//! more is proposed until that follower has accepted all that is, and all of it is chosen; requests that arrive wait.
//! **Tell**: [`TakeOver`]; the follower stands at once, and at its first heartbeat whoever waits here is sent there.
//!
//! Nothing of this is needed for safety: the successor runs phase 1 like every candidate (hazard A7), and until another
//! ballot is promised this leader leads. So a hand-over that comes to nothing is simply over, and the leader goes on.

use crate::ids::{Ballot, NodeId, Origin};
use crate::message::PaxosMessage;
use crate::message::client::Response;
use crate::message::operator::{HandOverCall, HandOverDone, HandOverEnd, OperatorAnswer};
use crate::message::paxos::TakeOver;
use crate::paxos::node_of;
use crate::planted::{Bug, is_planted};
use crate::role::{Effects, RoleKind};
use crate::time::Time;

use super::pipeline::Leading;
use super::{Leader, State};

/// A successor may lack so many entries, and so many bytes of them, when a hand-over begins: it gets them while requests
/// wait.
const LAG_SLOTS: usize = 64;
const LAG_BYTES: usize = 8 * 1024 * 1024;
/// So many operators may wait for the same hand-over.
const ASKERS_LIMIT: usize = 64;

/// A hand-over that is under way.
#[derive(Clone, Debug)]
pub(super) struct HandOver {
    to: NodeId,
    // Any other would do as well.
    any: bool,
    askers: Vec<Origin>,
    until: Time,
    // It has everything, and knows that it is to lead.
    told: bool,
    // Some replica has promised a higher ballot: there is no way back.
    superseded: bool,
}

impl HandOver {
    /// When this step is given up.
    pub(super) fn deadline(&self) -> Time {
        self.until
    }

    /// Whether the successor has been told.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }
}

impl Leading {
    /// Whether a follower can take over; else why not.
    fn fitness(&self, leader: &Leader, node: NodeId) -> Result<(), HandOverEnd> {
        let peer = self.peers.get(&node).ok_or(HandOverEnd::NotMember)?;
        let silent = leader.now.since(peer.heard) >= leader.config.leader_timeout;
        if leader.down.contains(&node) || silent || !peer.promised {
            return Err(HandOverEnd::Down);
        }
        let lacks = self.log.length().distance_from(peer.accepted.min(self.log.length()));
        let near = peer.accepted >= self.log.start() && lacks <= LAG_SLOTS;
        if !peer.synchronised || !near || self.log.bytes_from(peer.accepted) > LAG_BYTES {
            return Err(HandOverEnd::Lagging);
        }
        Ok(())
    }

    /// The follower that lacks least.
    fn closest(&self, leader: &Leader) -> Option<NodeId> {
        let fit = leader.others().filter(|node| self.fitness(leader, *node).is_ok());
        fit.max_by_key(|node| self.peers.get(node).map(|peer| (peer.accepted, std::cmp::Reverse(*node))))
    }

    fn has_drained(&self) -> bool {
        let Some(hand_over) = &self.hand_over else { return false };
        let length = self.log.length();
        let accepted = self.peers.get(&hand_over.to).is_some_and(|peer| peer.accepted == length);
        accepted && self.log.chosen() == length
    }
}

impl Leader {
    /// An operator, or the node that stops, wants another node to lead.
    pub(super) fn on_hand_over(&mut self, origin: Origin, call: HandOverCall, effects: &mut Effects) {
        let refusal = self.refusal();
        let State::Leading(leading) = &mut self.state else { return effects.reply(origin, refusal) };
        if !leading.is_serving() {
            return effects.reply(origin, refusal);
        }
        let own = (self.config.node, leading.ballot);
        if call.target == Some(self.config.node) {
            return answer(origin, HandOverEnd::Already, own, effects);
        }
        if let Some(open) = &mut leading.hand_over {
            if call.target.is_none_or(|node| node == open.to) && open.askers.len() < ASKERS_LIMIT {
                return open.askers.push(origin);
            }
            return answer(origin, HandOverEnd::Busy, own, effects);
        }
        let State::Leading(leading) = &self.state else { return };
        let chosen = match call.target {
            Some(node) => leading.fitness(self, node).map(|()| node),
            None => leading.closest(self).ok_or(HandOverEnd::Down),
        };
        match chosen {
            Ok(to) => self.begin_hand_over(to, call.target.is_none(), vec![origin], effects),
            Err(end) => answer(origin, end, own, effects),
        }
    }

    fn begin_hand_over(&mut self, to: NodeId, any: bool, askers: Vec<Origin>, effects: &mut Effects) {
        let until = self.now + self.config.leader_timeout;
        let State::Leading(leading) = &mut self.state else { return };
        leading.hand_over = Some(HandOver { to, any, askers, until, told: false, superseded: false });
        effects.note("hand_over", format!("to {to}, {} of {}", leading.log.chosen(), leading.log.length()));
        self.tell_successor(effects);
    }

    /// Tells the successor once it has everything, and all of it is chosen.
    pub(super) fn tell_successor(&mut self, effects: &mut Effects) {
        let until = self.now + self.config.leader_timeout;
        let State::Leading(leading) = &mut self.state else { return };
        let drained = leading.has_drained();
        let Some(open) = leading.hand_over.as_mut().filter(|open| drained && !open.told) else { return };
        (open.told, open.until) = (true, until);
        let (to, message) = (open.to, TakeOver { ballot: leading.ballot });
        self.tell_commit(to, effects); // Else it would have to ask what is chosen before it can lead.
        effects.send_paxos(to, RoleKind::Leader, PaxosMessage::TakeOver(message));
    }

    /// The leader of this ballot wants this node to lead. Older leaders, and those who only say that they lead, do not
    /// count.
    pub(super) fn on_take_over(&mut self, node: NodeId, message: &TakeOver, effects: &mut Effects) {
        let leads = node_of(&self.config.nodes, message.ballot.replica) == Some(node);
        let follows = matches!(self.state, State::Following { .. } | State::PreCheck(_));
        if !leads || !follows || message.ballot < self.highest {
            effects.trace("ignore_take_over", || format!("of {} from {node}", message.ballot));
            return;
        }
        effects.note("take_over", format!("from {node}, which leads with {}", message.ballot));
        self.highest = message.ballot;
        self.no_quorum = false;
        self.elections += 1;
        self.stand(effects);
        if let State::Candidate(candidate) = &mut self.state {
            candidate.appointed = is_planted(Bug::HandOverWithoutPhaseOne);
        }
    }

    /// Somebody has promised a higher ballot. True if that may be the successor's: this leader then waits for its first
    /// heartbeat, proposes nothing, and cannot go on.
    pub(super) fn supersede(&mut self, promised: Ballot) -> bool {
        let State::Leading(leading) = &mut self.state else { return false };
        let own = leading.ballot;
        let Some(open) = leading.hand_over.as_mut().filter(|open| open.told && promised > own) else { return false };
        open.superseded = true;
        true
    }

    /// A node's process cannot be reached any more.
    pub(super) fn lose_successor(&mut self, node: NodeId, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        if leading.hand_over.as_ref().is_some_and(|open| open.to == node) {
            self.end_hand_over(HandOverEnd::Down, effects);
        }
    }

    /// The time of a step may be over.
    pub(super) fn on_hand_over_timer(&mut self, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        let Some(open) = leading.hand_over.as_ref().filter(|open| self.now >= open.until) else { return };
        let end = if open.told { HandOverEnd::NotTaken } else { HandOverEnd::Lagging };
        effects.timer("leader/hand_over_end");
        self.end_hand_over(end, effects);
    }

    /// It comes to nothing: the leader goes on, with another successor if any will do.
    fn end_hand_over(&mut self, end: HandOverEnd, effects: &mut Effects) {
        let (node, timeout) = (self.config.node, self.config.leader_timeout);
        let State::Leading(leading) = &mut self.state else { return };
        if is_planted(Bug::HandOverWithoutEnd) {
            leading.hand_over.iter_mut().for_each(|open| open.until = open.until + timeout);
            return;
        }
        let own = (node, leading.ballot);
        if leading.hand_over.as_ref().is_some_and(|open| open.superseded) {
            self.leader = None; // Whoever it was, it does not lead yet.
            return self.become_follower(effects);
        }
        let Some(HandOver { to, any, askers, .. }) = leading.hand_over.take() else { return };
        effects.note("hand_over_ended", format!("to {to}: {end:?}"));
        let State::Leading(leading) = &self.state else { return };
        let next = if any && end == HandOverEnd::Down { leading.closest(self) } else { None };
        if let Some(next) = next {
            return self.begin_hand_over(next, any, askers, effects);
        }
        askers.into_iter().for_each(|asker| answer(asker, end, own, effects));
        self.start_read_round(effects);
        self.propose(effects);
    }

    /// This leadership is over; whoever wanted that is told by whom it was ended.
    pub(super) fn end_with_leadership(&mut self, leading: &Leading, effects: &mut Effects) {
        let Some(open) = &leading.hand_over else { return };
        let newer = self.leader.filter(|(ballot, _)| *ballot > leading.ballot);
        if let Some((ballot, node)) = newer {
            effects.note("handed_over", format!("{node} leads with {ballot}"));
        }
        let refusal = self.refusal();
        for asker in &open.askers {
            match newer {
                Some((ballot, node)) => answer(*asker, HandOverEnd::Moved, (node, ballot), effects),
                None => effects.reply(*asker, refusal.clone()),
            }
        }
    }
}

fn answer(origin: Origin, end: HandOverEnd, (leader, ballot): (NodeId, Ballot), effects: &mut Effects) {
    let done = HandOverDone { end, leader, ballot };
    effects.reply(origin, Response::Operator(OperatorAnswer::HandOver(done)));
}

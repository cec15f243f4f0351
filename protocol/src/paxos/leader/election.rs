//! When to stand for election: suspicion, and the question whether others have lost the leader, too.
//!
//! None of this is needed for safety; a wrong suspicion costs an election.

use std::collections::BTreeSet;

use crate::ids::{Ballot, NodeId, ReplicaId};
use crate::message::PaxosMessage;
use crate::message::local::Heard;
use crate::message::paxos::{PreCheck, PreCheckReply, Refused};
use crate::role::{Effects, RoleKind};
use crate::time::{Span, Time};

use super::{Leader, State};

/// The pre-check is asked again so often, since others may notice the loss a little later.
const CHECK_AGAIN: Span = Span::from_millis(20);

/// How long the next in succession waits for the one before it.
const SUCCESSION_STEP: Span = Span::from_millis(60);

/// When silence becomes suspicious: adapts to the measured rhythm of heartbeats.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    least: Span,
    heard: Time,
    // Moving averages of the gap between heartbeats and of its deviation, in microseconds (Jacobson, 1988).
    gap: u64,
    deviation: u64,
    succession: Vec<ReplicaId>,
}

impl Suspicion {
    pub(super) fn new(least: Span) -> Suspicion {
        Suspicion { least, heard: Time(0), gap: 0, deviation: 0, succession: Vec::new() }
    }

    fn on_heard(&mut self, now: Time, succession: Vec<ReplicaId>) {
        let gap = now.since(self.heard).0.min(self.least.0 * 4);
        self.heard = now;
        self.succession = succession;
        if self.gap == 0 {
            self.gap = gap.min(self.least.0);
            self.deviation = self.gap / 2;
            return;
        }
        let error = gap.abs_diff(self.gap);
        self.gap = (self.gap * 7 + gap) / 8;
        self.deviation = (self.deviation * 3 + error) / 4;
    }

    /// So much silence is suspicious: at least the configured time, at most four times that.
    fn timeout(&self) -> Span {
        Span((self.gap + 4 * self.deviation).clamp(self.least.0, self.least.0 * 4))
    }

    /// How many should stand before this one.
    fn rank(&self, replica: ReplicaId) -> u64 {
        let position = self.succession.iter().position(|other| *other == replica);
        position.unwrap_or(self.succession.len()) as u64
    }
}

/// Asking whether others have lost the leader, too.
#[derive(Clone, Debug)]
pub(super) struct PreChecking {
    round: u64,
    heard: BTreeSet<NodeId>,
    lost: BTreeSet<NodeId>,
    again: Time,
    until: Time,
}

impl PreChecking {
    pub(super) fn next_deadline(&self) -> Time {
        self.again.min(self.until)
    }
}

impl Leader {
    /// A heartbeat of a leader came to the replica on this node.
    pub(super) fn on_heard(&mut self, heard: Heard, effects: &mut Effects) {
        if heard.ballot < self.highest && self.leader.is_some_and(|(ballot, _)| ballot > heard.ballot) {
            return;
        }
        if matches!(&self.state, State::Candidate(candidate) if heard.ballot < candidate.ballot) {
            return; // It was under way when this role stood; the own replica follows it no more.
        }
        self.highest = self.highest.max(heard.ballot);
        if heard.ballot.replica == self.me {
            return; // Our own heartbeat, at our own replica.
        }
        let known = self.leader == Some((heard.ballot, heard.node));
        self.suspicion.on_heard(self.now, heard.succession);
        self.no_quorum = false;
        self.leader = Some((heard.ballot, heard.node));
        let until = self.patience();
        match &mut self.state {
            State::Following { until: old } => *old = until,
            _ => self.become_follower(effects),
        }
        if !known {
            effects.note("follow", format!("{} leads with {}", heard.node, heard.ballot));
            self.tell_follow(effects);
        }
    }

    fn patience(&mut self) -> Time {
        let rank = Span(SUCCESSION_STEP.0 * self.suspicion.rank(self.me));
        let spread = Span(self.rng.below(SUCCESSION_STEP.0 / 2));
        self.suspicion.heard.max(self.now) + self.suspicion.timeout() + rank + spread
    }

    /// The replica on this node has promised somebody else's ballot: let him try.
    pub(super) fn on_promised(&mut self, ballot: Ballot) {
        self.highest = self.highest.max(ballot);
        if ballot.replica == self.me {
            return;
        }
        self.supersede(ballot);
        let until = self.now + self.config.leader_timeout + Span(self.rng.below(self.config.leader_timeout.0));
        if let State::Following { until: old } = &mut self.state {
            *old = (*old).max(until);
        }
    }

    /// A connection to a leader's process that breaks is a strong hint that it is gone.
    pub(super) fn on_link(&mut self, node: NodeId, up: bool, effects: &mut Effects) {
        if up {
            self.down.remove(&node);
            return;
        }
        self.down.insert(node);
        self.lose_successor(node, effects);
        let lost = self.leader.is_some_and(|(_, leader)| leader == node);
        let step = Span(SUCCESSION_STEP.0 / 3 * self.suspicion.rank(self.me));
        if let State::Following { until } = &mut self.state
            && lost
        {
            *until = (*until).min(self.now + step);
            effects.trace("suspect", || format!("the connection to {node} broke"));
        }
    }

    /// Whether this role has no leader that it trusts.
    fn has_lost_leader(&self) -> bool {
        if matches!(self.state, State::Leading(_)) {
            return false;
        }
        let Some((_, node)) = self.leader else { return true };
        self.down.contains(&node) || self.now.since(self.suspicion.heard) >= self.suspicion.timeout()
    }

    pub(super) fn on_election_timer(&mut self, effects: &mut Effects) {
        match &self.state {
            State::Following { until } if self.now >= *until => {
                effects.timer("leader/suspicion");
                self.start_pre_check(effects);
            }
            State::PreCheck(check) if self.now >= check.until => {
                effects.timer("leader/pre_check_end");
                self.end_pre_check(effects);
            }
            State::PreCheck(check) if self.now >= check.again => {
                effects.timer("leader/pre_check_again");
                self.ask_pre_check(effects);
            }
            _ => {}
        }
    }

    fn start_pre_check(&mut self, effects: &mut Effects) {
        let own = BTreeSet::from([self.config.node]);
        self.elections += 1;
        let until = self.now + self.config.leader_timeout;
        self.state = State::PreCheck(PreChecking {
            round: self.elections,
            heard: own.clone(),
            lost: own,
            again: self.now,
            until,
        });
        effects.trace("pre_check", || format!("round {}", self.elections));
        self.ask_pre_check(effects);
        self.judge_pre_check(effects);
    }

    fn ask_pre_check(&mut self, effects: &mut Effects) {
        let ballot = self.highest;
        let State::PreCheck(check) = &mut self.state else { return };
        check.again = self.now + CHECK_AGAIN;
        let message = PreCheck { round: check.round, ballot };
        for node in self.others() {
            effects.send_paxos(node, RoleKind::Leader, PaxosMessage::PreCheck(message.clone()));
        }
    }

    pub(super) fn on_pre_check(&mut self, node: NodeId, check: &PreCheck, effects: &mut Effects) {
        let reply = PreCheckReply { round: check.round, lost: self.has_lost_leader(), ballot: self.highest };
        effects.send_paxos(node, RoleKind::Leader, PaxosMessage::PreCheckReply(reply));
    }

    pub(super) fn on_pre_check_reply(&mut self, node: NodeId, reply: &PreCheckReply, effects: &mut Effects) {
        let State::PreCheck(check) = &mut self.state else { return };
        if check.round != reply.round {
            return;
        }
        self.highest = self.highest.max(reply.ballot);
        check.heard.insert(node);
        if reply.lost {
            check.lost.insert(node);
        } else {
            check.lost.remove(&node);
        }
        self.judge_pre_check(effects);
    }

    fn judge_pre_check(&mut self, effects: &mut Effects) {
        let State::PreCheck(check) = &self.state else { return };
        if self.quorum.is_quorum(check.lost.len()) {
            self.no_quorum = false;
            self.stand(effects);
        }
    }

    /// It did not find a quorum that has lost the leader.
    fn end_pre_check(&mut self, effects: &mut Effects) {
        let State::PreCheck(check) = &self.state else { return };
        let denied = !self.quorum.is_quorum(check.heard.len());
        effects.trace("pre_check_failed", || format!("{} heard, {} lost", check.heard.len(), check.lost.len()));
        if denied {
            self.leader = None;
        }
        if denied != self.no_quorum {
            self.no_quorum = denied;
            self.tell_follow(effects);
        }
        let pause = Span(self.rng.below(self.config.leader_timeout.0 / 4 + 1));
        self.state = State::Following { until: self.now + self.config.heartbeat + pause };
    }

    /// Somebody has promised a higher ballot, or has not promised this one.
    pub(super) fn on_refused(&mut self, node: NodeId, refused: &Refused, effects: &mut Effects) {
        self.highest = self.highest.max(refused.promised);
        let own = match &self.state {
            State::Candidate(candidate) => candidate.ballot,
            State::Leading(leading) => leading.ballot,
            _ => return,
        };
        if refused.promised > own && self.supersede(refused.promised) {
            return; // Whoever was promised it will be heard of soon, and requests wait for that.
        }
        if refused.promised > own {
            effects.note("deposed", format!("{own}: {} was promised", refused.promised));
            if self.leader.is_some_and(|(ballot, _)| ballot == own) {
                self.leader = None;
            }
            self.become_follower(effects);
        } else if refused.ballot == own && refused.promised < own {
            self.on_unpromised(node, effects);
        }
    }

    /// Gives up whatever it does and waits.
    pub(super) fn become_follower(&mut self, effects: &mut Effects) {
        let pause = Span(self.rng.below(self.config.leader_timeout.0 / 2 + 1));
        let until = self.now + self.config.leader_timeout + pause;
        let old = std::mem::replace(&mut self.state, State::Following { until });
        if let State::Leading(leading) = old {
            if self.leader.is_some_and(|(_, node)| node == self.config.node) {
                self.leader = None;
            }
            self.refuse_all(*leading, effects);
            self.tell_follow(effects);
        }
    }
}

//! Confirming reads: a round of heartbeats that began after a read arrived shows that no other leader had been elected
//! by then (hazard S23). One round serves all that wait; what arrives meanwhile waits for the next.

use std::collections::BTreeSet;

use crate::ids::{NodeId, Origin, Slot};
use crate::message::LocalMessage;
use crate::message::client::{Refused, Response, Why};
use crate::message::local::{ConfirmedReads, Read};
use crate::message::paxos::HeartbeatAck;
use crate::planted::{Bug, is_planted};
use crate::role::{Effects, RoleKind};
use crate::time::Span;

use super::hand_over::HandOver;
use super::levels::Questions;
use super::{Leader, State};

/// Reads that may wait for a confirmation.
const READS_LIMIT: usize = 65_536;

/// The rounds of a leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds {
    last: u64,
    // Arrived since the last round began, with the chosen length at the arrival of the last of them.
    arrived: Vec<Read>,
    // Arrived since then, too.
    pub(super) questions: Questions,
    // The round under way for reads, who has answered it, and what it confirms.
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    round: u64,
    answered: BTreeSet<NodeId>,
    at: Slot,
    reads: Vec<Read>,
    questions: Questions,
}

impl Rounds {
    /// Begins a round and returns its number.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Everything that waits.
    pub(super) fn into_origins(self) -> impl Iterator<Item = Origin> {
        let (reads, questions) = self.open.map(|open| (open.reads, open.questions)).unwrap_or_default();
        let reads = self.arrived.into_iter().chain(reads).map(|read| read.origin());
        reads.chain(self.questions.into_origins()).chain(questions.into_origins())
    }
}

impl Leader {
    /// A linearizable read: it waits for the next round.
    pub(super) fn on_read(&mut self, read: Read, effects: &mut Effects) {
        let origin = read.origin();
        let refusal = self.refusal();
        let State::Leading(leading) = &mut self.state else {
            effects.reply(origin, refusal);
            return;
        };
        if leading.rounds.arrived.len() >= READS_LIMIT {
            let refused = Refused { why: Why::Overloaded, leader: None, after: Span::from_millis(5) };
            effects.reply(origin, Response::Refused(refused));
            return;
        }
        match &mut leading.rounds.open {
            Some(open) if is_planted(Bug::ReadJoinsRound) => open.reads.push(read),
            _ => leading.rounds.arrived.push(read),
        }
    }

    /// Begins a round for the reads and questions that have arrived, unless one is under way.
    pub(super) fn start_read_round(&mut self, effects: &mut Effects) {
        let State::Leading(leading) = &mut self.state else { return };
        let nothing = leading.rounds.arrived.is_empty() && leading.rounds.questions.is_empty();
        if !leading.is_serving() || leading.rounds.open.is_some() || nothing {
            return;
        }
        let hands_over = leading.hand_over.is_some() && is_planted(Bug::ReadWhileHandingOver);
        if leading.hand_over.as_ref().is_some_and(HandOver::is_told) && !hands_over {
            return; // The successor confirms them, or this leader when it goes on.
        }
        let reads = std::mem::take(&mut leading.rounds.arrived);
        let questions = std::mem::take(&mut leading.rounds.questions);
        let round = leading.rounds.last + 1;
        let at = leading.log.chosen();
        if is_planted(Bug::ReadUnconfirmed) || hands_over {
            effects.send_local(RoleKind::Replica, LocalMessage::Read(ConfirmedReads { at, reads }));
            return self.answer_questions(questions, at, effects);
        }
        leading.rounds.open = Some(Open { round, answered: BTreeSet::new(), at, reads, questions });
        self.beat(effects);
    }

    pub(super) fn on_heartbeat_ack(&mut self, node: NodeId, ack: &HeartbeatAck, effects: &mut Effects) {
        if !self.is_current(ack.ballot) || !self.heard_from(node) {
            return;
        }
        let quorum = self.quorum;
        let State::Leading(leading) = &mut self.state else { return };
        let Some(open) = &mut leading.rounds.open else { return };
        if ack.round < open.round && !is_planted(Bug::OlderRoundConfirms) {
            return; // It began before these reads arrived.
        }
        open.answered.insert(node);
        if !quorum.is_quorum(open.answered.len()) {
            return;
        }
        let Some(open) = leading.rounds.open.take() else { return };
        if !open.reads.is_empty() {
            let confirmed = ConfirmedReads { at: open.at, reads: open.reads };
            effects.send_local(RoleKind::Replica, LocalMessage::Read(confirmed));
        }
        self.answer_questions(open.questions, open.at, effects);
        self.start_read_round(effects);
    }
}

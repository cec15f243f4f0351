//! Reads by any replica: at level `session`, once it has applied what the session knows and nothing of that is in doubt
//! any more; at level `any`, as it is, with its age.
//!
//! **Age.** Neither a leader's timestamps nor wall clocks say how old a state is (hazard A3). So the replica asks its
//! leader how far the group is, and notes when it asked. The leader answers after a quorum has confirmed it, in a round
//! that began after the question came; so everything that anybody had been told of at the time of asking is within what
//! is told, and once that is applied here the state is no older than the question. A replica that is cut off gets no
//! answer, and its age grows. Replicas ask when they are read at level `any`.

use std::sync::Arc;

use crate::ids::{Origin, Slot};
use crate::ledger::QueryState;
use crate::ledger::operations::Operation;
use crate::message::PaxosMessage;
use crate::message::client::{Found, Refused, Response, Why, only_reads};
use crate::message::level::{ReplicaReadCall, ReplicaReadDone};
use crate::message::paxos::{Aged, AskAge};
use crate::planted::{Bug, is_planted};
use crate::role::Effects;
use crate::time::{Span, Time};

use super::Replica;

/// Reads that may wait.
const LIMIT: usize = 4096;
/// So long a read waits for this replica to catch up, or for what is in doubt; then another one may know.
const PATIENCE: Span = Span::from_millis(50);
/// A state that is younger needs no question.
const YOUNG: Span = Span::from_millis(100);
/// So long a read waits for the answer to the question of how old the state is.
const AGE_PATIENCE: Span = Span::from_millis(20);
/// The leader is asked at most so often.
const ASK_AGAIN: Span = Span::from_millis(10);
/// Answers of leaders that wait until so much is applied.
const ANSWERS: usize = 16;

/// What waits, and how old the state is.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels {
    // Not looked at yet.
    arrived: Vec<Waiting>,
    waiting: Vec<Waiting>,
    // The earliest end of those that wait, or before it.
    first_end: Option<Time>,
    // How much was applied, and the age was known, when those that wait were last looked at.
    looked: (Slot, Option<Time>),
    age: Age,
}

#[derive(Clone, Debug)]
struct Waiting {
    origin: Origin,
    operations: Arc<[Operation]>,
    after: Slot,
    settled: bool,
    until: Time,
}

#[derive(Clone, Debug, Default)]
struct Age {
    // Everything that anybody had been told of at this time is applied.
    fresh: Option<Time>,
    // The same, once so much is applied.
    answers: Vec<(Time, Slot)>,
    asked: Option<Time>,
}

impl Levels {
    pub(super) fn deadline(&self) -> Option<Time> {
        self.first_end
    }
}

impl Replica {
    /// A client reads here, whoever leads.
    pub(super) fn on_replica_read(&mut self, origin: Origin, call: ReplicaReadCall, effects: &mut Effects) {
        if !only_reads(&call.operations) {
            return effects.reply(origin, Response::refused(Why::Malformed));
        }
        if self.levels.waiting.len() + self.levels.arrived.len() >= LIMIT {
            let refused = Refused { why: Why::Overloaded, leader: None, after: Span::from_millis(5) };
            return effects.reply(origin, Response::Refused(refused));
        }
        let ReplicaReadCall { operations, after, settled, deadline, .. } = call;
        let patience = if settled { PATIENCE } else { AGE_PATIENCE };
        let until = self.now + patience.min(deadline);
        let waiting = Waiting { origin, operations: operations.into(), after, settled, until };
        self.levels.arrived.push(waiting);
        if !settled && !self.is_young() {
            self.ask_age(effects);
        }
    }

    fn ask_age(&mut self, effects: &mut Effects) {
        let Some((leader, _)) = self.leader else { return };
        if self.levels.age.asked.is_some_and(|at| self.now < at + ASK_AGAIN) {
            return;
        }
        self.levels.age.asked = Some(self.now);
        let question = AskAge { nonce: self.config.seed, asked: self.now };
        self.send_leader(leader, PaxosMessage::AskAge(question), effects);
    }

    /// The leader has answered how far the group is.
    pub(super) fn on_aged(&mut self, aged: &Aged) {
        let Aged { question, chosen } = *aged;
        if question.nonce != self.config.seed || question.asked > self.now {
            return; // Of an earlier life, whose clock was another one.
        }
        let answers = &mut self.levels.age.answers;
        if answers.len() == ANSWERS {
            answers.pop(); // The first is the one that this replica reaches first.
        }
        let since = if is_planted(Bug::AgeFromAnswer) { self.now } else { question.asked };
        answers.push((since, chosen));
    }

    /// When the state here was known to lack nothing.
    fn fresh(&mut self) -> Option<Time> {
        let (applied, age) = (self.ledger.applied(), &mut self.levels.age);
        for (asked, _) in age.answers.extract_if(.., |(_, chosen)| *chosen <= applied) {
            age.fresh = age.fresh.max(Some(asked));
        }
        age.fresh
    }

    fn is_young(&mut self) -> bool {
        let now = self.now;
        self.fresh().is_some_and(|fresh| now.since(fresh) < YOUNG)
    }

    /// Serves what can be served at this position, and refuses what has waited long enough.
    pub(super) fn serve_levels(&mut self, effects: &mut Effects) {
        if self.ledger.is_busy() || (self.levels.arrived.is_empty() && self.levels.waiting.is_empty()) {
            return;
        }
        let fresh = self.fresh();
        for waiting in std::mem::take(&mut self.levels.arrived) {
            self.serve_or_keep(waiting, fresh, effects);
        }
        let position = (self.ledger.applied(), fresh);
        let is_due = self.levels.first_end.is_some_and(|end| end <= self.now);
        if self.levels.looked == position && !is_due {
            return;
        }
        self.levels.looked = position;
        self.levels.first_end = None;
        for waiting in std::mem::take(&mut self.levels.waiting) {
            self.serve_or_keep(waiting, fresh, effects);
        }
    }

    fn serve_or_keep(&mut self, waiting: Waiting, fresh: Option<Time>, effects: &mut Effects) {
        let over = self.now >= waiting.until;
        let age = fresh.map(|fresh| self.now.since(fresh));
        let is_behind = self.ledger.applied() < waiting.after && !is_planted(Bug::SessionBelowToken);
        let state = match (is_behind, waiting.settled) {
            (true, _) => None,
            (false, true) => match self.ledger.query(&waiting.operations) {
                QueryState::InDoubt => None,
                state => Some(state),
            },
            // An old state may be younger than is known.
            (false, false) if !over && age.is_none_or(|age| age >= YOUNG) => None,
            (false, false) => Some(self.ledger.peek(&waiting.operations)),
        };
        let found = match state {
            Some(QueryState::Ready(found)) => Some(found),
            Some(QueryState::Moved) => return effects.reply(waiting.origin, Response::refused(Why::Moved)),
            // Not in doubt, so it is too large.
            Some(QueryState::InDoubt) => None,
            None if over => {
                effects.timer("replica/level_end");
                let refused = Refused { why: Why::Lagging, leader: self.leader.map(|(node, _)| node), after: Span(0) };
                return effects.reply(waiting.origin, Response::Refused(refused));
            }
            None => {
                let first = self.levels.first_end.map_or(waiting.until, |first| first.min(waiting.until));
                self.levels.first_end = Some(first);
                return self.levels.waiting.push(waiting);
            }
        };
        self.answer_level(waiting.origin, age, found, effects);
    }

    fn answer_level(&self, origin: Origin, age: Option<Span>, found: Option<Vec<Found>>, effects: &mut Effects) {
        let done = ReplicaReadDone { slot: self.ledger.applied(), age, found };
        effects.reply(origin, Response::ReplicaRead(done));
    }
}

//! Levels other than linearizable: commands that are answered when the own disk has them, commands and questions that
//! wait until every replica has accepted enough, and how far the group is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ids::{CommandRef, NodeId, Origin, Slot};
use crate::message::PaxosMessage;
use crate::message::client::{Refused, Response, Why};
use crate::message::command::CommandKind;
use crate::message::level::{Level, PositionCall, PositionDone, WriteCall, WriteDone, WriteResult};
use crate::message::operator::Nothing;
use crate::message::paxos::{Aged, AskAge};
use crate::planted::{Bug, is_planted};
use crate::quorum::Quorum;
use crate::role::{Effects, RoleKind};
use crate::time::{Span, Time};

use super::batch::ClientWork;
use super::pipeline::Leading;
use super::{Leader, State};

/// Questions that may wait for a round, or for every replica.
const LIMIT: usize = 65_536;

/// What a client that waits for a command is to be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// What became of it.
    Result,
    /// The same, or less, with how far the group is; at level `all` at the latest at this time.
    At(Level, Time),
}

/// Three quarters of a deadline: what cannot be met is said while the client still waits.
fn give_up(now: Time, deadline: Span) -> Time {
    now + Span(deadline.0 - deadline.0 / 4)
}

/// A client that asks how far the group is.
#[derive(Clone, Copy, Debug)]
struct Position {
    origin: Origin,
    everywhere: bool,
    until: Time,
}

/// Questions that are answered when a quorum has confirmed the leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    positions: Vec<Position>,
    // Of each replica the last.
    ages: BTreeMap<NodeId, AskAge>,
}

impl Questions {
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.ages.is_empty()
    }

    /// Clients that wait.
    pub(super) fn into_origins(self) -> impl Iterator<Item = Origin> {
        self.positions.into_iter().map(|position| position.origin)
    }
}

/// What waits for more, or less, than a quorum.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels {
    // Answered when the own disk has their entry.
    own: VecDeque<CommandRef>,
    // Answered when every replica has accepted so much, or when their time has come. The second number tells those of
    // one position apart.
    everywhere: BTreeMap<(Slot, u64), Everywhere>,
    ends: BTreeSet<(Time, (Slot, u64))>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Everywhere {
    origin: Origin,
    until: Time,
    // Of a command: what became of it.
    result: Option<WriteResult>,
}

impl Levels {
    /// When something is answered though not every replica has it.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Clients that wait. Those of the own disk wait for their commands.
    pub(super) fn into_origins(self) -> impl Iterator<Item = Origin> {
        self.everywhere.into_values().map(|waiting| waiting.origin)
    }

    fn wait(&mut self, slot: Slot, waiting: Everywhere) {
        self.last += 1;
        let key = (slot, self.last);
        self.ends.insert((waiting.until, key));
        self.everywhere.insert(key, waiting);
    }

    fn end(&mut self, key: (Slot, u64), met: bool, effects: &mut Effects) {
        let Some(waiting) = self.everywhere.remove(&key) else { return };
        self.ends.remove(&(waiting.until, key));
        let slot = key.0;
        let response = match waiting.result {
            Some(result) => Response::Written(WriteDone { result, slot, level_met: met }),
            None => Response::Position(PositionDone { slot, everywhere: met }),
        };
        effects.reply(waiting.origin, response);
    }
}

impl Leading {
    /// A command of level `any` has its place.
    pub(super) fn await_own_disk(&mut self, place: CommandRef, wanted: Wanted) {
        if matches!(wanted, Wanted::At(Level::Any, _)) {
            self.levels.own.push_back(place);
        }
    }

    /// Answers a command that is applied, or says no more than that it is accepted.
    pub(super) fn answer(&mut self, origin: Origin, wanted: Wanted, response: Response, effects: &mut Effects) {
        let Wanted::At(level, until) = wanted else { return effects.reply(origin, response) };
        let result = match response {
            Response::Transfers(_) | Response::Transaction(_) if level == Level::Any => {
                WriteResult::Accepted(Nothing {})
            }
            Response::Transfers(done) => WriteResult::Transfers(done),
            Response::Transaction(done) => WriteResult::Transaction(done),
            other => return effects.reply(origin, other),
        };
        // What is applied is chosen, so this is far enough for it.
        let slot = if level == Level::Any { Slot(0) } else { self.log.chosen() };
        if level == Level::All {
            self.levels.wait(slot, Everywhere { origin, until, result: Some(result) });
        } else {
            effects.reply(origin, Response::Written(WriteDone { result, slot, level_met: true }));
        }
    }

    /// Answers what waits for the disks, as far as they are.
    pub(super) fn answer_levels(&mut self, quorum: Quorum, effects: &mut Effects) {
        let own = self.peers.get(&self.own).map_or(Slot(0), |peer| peer.accepted);
        while let Some(place) = self.levels.own.pop_front_if(|place| place.slot < own) {
            let Some(waiting) = self.waiting.remove(&place) else { continue }; // It is applied, and answered.
            let result = WriteResult::Accepted(Nothing {});
            let done = WriteDone { result, slot: Slot(0), level_met: true };
            effects.reply(waiting.origin(), Response::Written(done));
        }
        let everywhere = if is_planted(Bug::AllOnMajority) {
            self.accepted_by(quorum)
        } else {
            let accepted = |peer: &super::pipeline::Peer| if peer.promised { peer.accepted } else { Slot(0) };
            self.peers.values().map(accepted).min().unwrap_or_default()
        };
        while let Some((key, _)) = self.levels.everywhere.first_key_value().filter(|(key, _)| key.0 <= everywhere) {
            let key = *key;
            self.levels.end(key, true, effects);
        }
    }

    /// Says of what has waited long enough that not every replica has it.
    pub(super) fn end_levels(&mut self, now: Time, effects: &mut Effects) {
        while let Some((_, key)) = self.levels.ends.first().copied().filter(|(at, _)| *at <= now) {
            effects.timer("leader/level_end");
            self.levels.end(key, false, effects);
        }
    }
}

impl Leader {
    /// A command at a level.
    pub(super) fn on_write(&mut self, origin: Origin, write: WriteCall, effects: &mut Effects) {
        let WriteCall { level, command } = write;
        match command.kind {
            CommandKind::Transfers | CommandKind::Transaction => {}
            kind if kind.is_coordinated() => return effects.reply(origin, Response::refused(Why::Level)),
            _ => return effects.reply(origin, Response::refused(Why::Malformed)),
        }
        let wanted = Wanted::At(level, give_up(self.now, command.deadline));
        let deadline = command.deadline;
        self.enqueue(origin, deadline, ClientWork::Command(command), wanted, effects);
    }

    /// A client asks how far the group is: the next round tells.
    pub(super) fn on_position(&mut self, origin: Origin, call: &PositionCall, effects: &mut Effects) {
        let until = give_up(self.now, call.deadline);
        let refusal = self.refusal();
        let State::Leading(leading) = &mut self.state else { return effects.reply(origin, refusal) };
        if leading.rounds.questions.positions.len() + leading.levels.everywhere.len() >= LIMIT {
            let refused = Refused { why: Why::Overloaded, leader: None, after: Span::from_millis(5) };
            return effects.reply(origin, Response::Refused(refused));
        }
        leading.rounds.questions.positions.push(Position { origin, everywhere: call.everywhere, until });
    }

    /// A replica asks how far the group is, so that it knows how old its state is: the next round tells.
    pub(super) fn on_ask_age(&mut self, node: NodeId, question: AskAge, effects: &mut Effects) {
        let State::Leading(leading) = &mut self.state else { return };
        if is_planted(Bug::AgeUnconfirmed) {
            let aged = Aged { question, chosen: leading.log.chosen() };
            return effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Aged(aged));
        }
        leading.rounds.questions.ages.insert(node, question);
    }

    /// A quorum has confirmed this leader after these were asked; `at` was chosen then.
    pub(super) fn answer_questions(&mut self, questions: Questions, at: Slot, effects: &mut Effects) {
        let quorum = self.quorum;
        let State::Leading(leading) = &mut self.state else { return };
        for (node, question) in questions.ages {
            let aged = Aged { question, chosen: at };
            effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Aged(aged));
        }
        for Position { origin, everywhere, until } in questions.positions {
            if everywhere {
                leading.levels.wait(at, Everywhere { origin, until, result: None });
            } else {
                effects.reply(origin, Response::Position(PositionDone { slot: at, everywhere: false }));
            }
        }
        leading.answer_levels(quorum, effects);
    }
}

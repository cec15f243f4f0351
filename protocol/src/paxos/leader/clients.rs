//! Clients' commands: in, and their answers out.

use crate::ids::Origin;
use crate::ledger::model::ItemResult;
use crate::ledger::output::{ClientOutput, CommandResult};
use crate::message::client::{CreatedDone, FenceCall, Refused, Response, SettledDone, TransfersDone, Why};
use crate::message::command::{ClientCommand, Fence};
use crate::planted::{Bug, is_planted};
use crate::role::Effects;
use crate::time::Span;

use super::batch::{ClientWork, Pending};
use super::levels::Wanted;
use super::pipeline::Leading;
use super::{Leader, State};

/// A client that waits for the answer to a command in the log.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    origin: Origin,
    wanted: Wanted,
    // Of a batch: the results so far, and how many are still to come once the entry is applied.
    items: Vec<ItemResult>,
    open: Option<u32>,
    // Results that came before the batch's own: attached to an earlier transfer under the same id.
    early: u32,
}

impl Waiting {
    pub(super) fn new(origin: Origin, wanted: Wanted) -> Waiting {
        Waiting { origin, wanted, items: Vec::new(), open: None, early: 0 }
    }

    /// Where the answer goes.
    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    fn is_complete(&self) -> bool {
        self.open.is_some_and(|open| open == self.early || is_planted(Bug::AnsweredWhileWaiting))
    }

    fn into_response(mut self) -> Response {
        self.items.sort_by_key(|item| item.index);
        Response::Transfers(TransfersDone { items: self.items })
    }
}

impl Leader {
    pub(super) fn on_command(&mut self, origin: Origin, command: ClientCommand, effects: &mut Effects) {
        if command.kind.is_coordinated() {
            effects.reply(origin, Response::refused(Why::Malformed)); // Those are the coordinator's.
            return;
        }
        let deadline = command.deadline;
        self.enqueue(origin, deadline, ClientWork::Command(command), Wanted::Result, effects);
    }

    pub(super) fn on_fence(&mut self, origin: Origin, fence: &FenceCall, effects: &mut Effects) {
        let work = ClientWork::Fence(Fence { txn: fence.txn });
        self.enqueue(origin, fence.deadline, work, Wanted::Result, effects);
    }

    pub(super) fn enqueue(
        &mut self,
        origin: Origin,
        deadline: Span,
        command: ClientWork,
        wanted: Wanted,
        effects: &mut Effects,
    ) {
        let refusal = self.refusal();
        let arrived = self.now;
        let State::Leading(leading) = &mut self.state else {
            effects.reply(origin, refusal);
            return;
        };
        if !leading.batch.push(Pending { origin, wanted, arrived, deadline, command }) {
            let refused = Refused { why: Why::Overloaded, leader: None, after: Span::from_millis(5) };
            effects.reply(origin, Response::Refused(refused));
        }
    }

    /// What applying yielded for clients.
    pub(super) fn on_answers(&mut self, answers: Vec<ClientOutput>, effects: &mut Effects) {
        let quorum = self.quorum;
        let State::Leading(leading) = &mut self.state else { return };
        for answer in answers {
            leading.on_answer(answer, effects);
        }
        leading.answer_levels(quorum, effects);
    }

    /// This role no longer leads: whoever waits asks another one, under the same id.
    pub(super) fn refuse_all(&mut self, leading: Leading, effects: &mut Effects) {
        let refusal = self.refusal();
        self.end_with_leadership(&leading, effects);
        let waiting = leading.waiting.into_values().map(|waiting| waiting.origin);
        let all = waiting.chain(leading.batch.into_origins()).chain(leading.rounds.into_origins());
        let all = all.chain(leading.levels.into_origins());
        self.answers.tell(all.map(|origin| (origin, refusal.clone())), effects);
    }
}

impl Leading {
    fn on_answer(&mut self, answer: ClientOutput, effects: &mut Effects) {
        let Some(waiting) = self.waiting.get_mut(&answer.command) else { return };
        let response = match answer.result {
            CommandResult::Transfers { items, waiting: open } => {
                waiting.items.extend(items);
                waiting.open = Some(open);
                None
            }
            CommandResult::Late(item) => {
                waiting.items.push(item);
                waiting.early += 1;
                None
            }
            CommandResult::Transaction(done) => Some(Response::Transaction(done.into())),
            CommandResult::Registered(session) => Some(Response::Registered(session)),
            CommandResult::Created(results) => Some(Response::Created(CreatedDone { results })),
            CommandResult::Settled(outcome) => Some(Response::Settled(SettledDone { outcome: Some(outcome) })),
            CommandResult::Refused(why) => Some(Response::refused(why)),
        };
        let complete = response.is_some() || waiting.is_complete();
        if !complete {
            return;
        }
        let Some(waiting) = self.waiting.remove(&answer.command) else { return };
        let (origin, wanted) = (waiting.origin, waiting.wanted);
        self.answer(origin, wanted, response.unwrap_or_else(|| waiting.into_response()), effects);
    }
}

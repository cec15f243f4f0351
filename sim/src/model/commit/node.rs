//! A node of the model: the real coordinator and participant of its group.

use std::collections::VecDeque;

use drachma_protocol::ids::{AccountId, Epoch, GroupId, NodeId, Origin, TransferId};
use drachma_protocol::ledger::model::{Outcome, Transfer, TransferResult};
use drachma_protocol::ledger::output::TxnOutput;
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::message::client::{Call, Request, Response};
use drachma_protocol::message::command::{ClientCommand, Command, CommandKind};
use drachma_protocol::message::local::{Follow, LocalMessage, Serve};
use drachma_protocol::message::{Message, TxnMessage};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::role::{Address, Effect, Effects, Input, Role, RoleKind};
use drachma_protocol::routing::Routes;
use drachma_protocol::time::{Span, Time};
use drachma_protocol::txn::{Coordinator, Participant, TxnConfig};
use drachma_protocol::wire::codec::to_vec;

use super::Letter;
use crate::model::network::Envelope;
use crate::model::shared::Shared;

/// The groups; group `n` has the nodes `2n-1` and `2n`, of which one leads.
pub(super) const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

/// What an account holds in the beginning.
pub(super) const BALANCE: u128 = 10;

/// Short enough that preparing ends before anything is sent again: one timer less on the way to an abort.
const DEADLINE: Span = Span::from_millis(40);

/// The transfers of clients, by their number: the second one finds too little if the first one commits, the third runs
/// the other way, the fourth names an account that does not exist.
pub(super) fn transfer(number: u8) -> Transfer {
    let (debit, credit, amount) = [(1, 3, 6), (1, 3, 6), (3, 1, 3), (2, 5, 1)][usize::from(number) % 4];
    Transfer {
        id: TransferId(u128::from(number) + 1),
        debit: AccountId(debit),
        credit: AccountId(credit),
        amount,
        ledger: 1,
        code: 1,
        ..Transfer::default()
    }
}

fn map() -> ShardMap {
    let range = |first, last| AccountRange { first: AccountId(first), last: AccountId(last) };
    ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range(1, 2), range(3, 5)]), owners: GROUPS.to_vec() }
}

/// What a group begins with: accounts 1 and 2 are the first one's, 3 and 4 the second one's.
pub(super) fn genesis(group: GroupId) -> Genesis {
    Genesis { group, map: map(), accounts: 4, initial_balance: BALANCE, limits: Limits::default() }
}

/// The node of an index.
pub(super) fn node_id(index: usize) -> NodeId {
    NodeId(index as u16 + 1)
}

/// How a request ended for its client; nothing if it may try again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Answer {
    Committed,
    Rejected,
}

/// What a step of a node has consequences for.
#[derive(Clone)]
pub(super) enum Said {
    Send(Letter),
    Propose(Shared<Vec<Command>>),
    Answer(u8, Option<Answer>),
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub(super) enum Stimulus {
    Letter(Letter),
    Request(u8),
    Events(Vec<TxnOutput>),
    Serve(Box<Serve>),
    Follow(NodeId),
    Timer,
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    id: NodeId,
    group: GroupId,
    coordinator: Coordinator,
    participant: Participant,
    // Its own clock, which stands still but for timers.
    pub(super) now: Time,
}

impl Node {
    /// A node that has just started, and follows.
    pub(super) fn new(index: usize) -> Node {
        let (id, group) = (node_id(index), GROUPS[index / 2]);
        let routes = Routes::new(
            GROUPS.into_iter().enumerate().map(|(n, group)| (group, vec![node_id(2 * n), node_id(2 * n + 1)])),
        );
        let me = Address { node: id, group, role: RoleKind::Coordinator };
        let config = TxnConfig::new(me, routes, map(), u64::from(id.0));
        let participant = Participant::new(config.clone());
        Node { id, group, coordinator: Coordinator::new(config), participant, now: Time(0) }
    }

    /// The process ends and comes back; its clock goes on.
    pub(super) fn restarted(&self) -> Node {
        Node { now: self.now, ..Node::new(usize::from(self.id.0) - 1) }
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> Option<Time> {
        [self.coordinator.deadline(), self.participant.deadline()].into_iter().flatten().min()
    }

    /// Takes in what happens, then a turn, until nothing moves.
    pub(super) fn take(&mut self, stimulus: &Stimulus) -> Vec<Said> {
        let mut said = Vec::new();
        let mut inputs = self.inputs(stimulus);
        while let Some((role, input)) = inputs.pop_front() {
            self.step(role, input, &mut said);
        }
        while self.step(RoleKind::Coordinator, Input::Turn, &mut said)
            | self.step(RoleKind::Participant, Input::Turn, &mut said)
        {}
        said
    }

    fn inputs(&mut self, stimulus: &Stimulus) -> VecDeque<(RoleKind, Input)> {
        let both = [RoleKind::Coordinator, RoleKind::Participant];
        let local = |role, message| {
            let from = Address { node: self.id, group: self.group, role: RoleKind::Replica };
            (role, Input::Message { from, message: Message::Local(message) })
        };
        match stimulus {
            Stimulus::Letter(letter) => {
                let input = Input::Message { from: letter.from, message: Message::Txn(letter.message.clone()) };
                VecDeque::from([(letter.to.role, input)])
            }
            Stimulus::Request(number) => {
                let origin = Origin { connection: 1, correlation: u64::from(*number) };
                VecDeque::from([(RoleKind::Coordinator, Input::Request { origin, request: self.request(*number) })])
            }
            Stimulus::Events(events) => both.map(|role| local(role, LocalMessage::Events(events.clone()))).into(),
            Stimulus::Serve(serve) => both.map(|role| local(role, LocalMessage::Serve((**serve).clone()))).into(),
            Stimulus::Follow(leader) => {
                let follow = Follow { leader: Some(*leader), no_quorum: false };
                both.map(|role| local(role, LocalMessage::Follow(follow))).into()
            }
            Stimulus::Timer => {
                self.now = self.deadline().map_or(self.now, |at| at.max(self.now));
                both.map(|role| (role, Input::Timer)).into()
            }
        }
    }

    fn request(&self, number: u8) -> Request {
        let command = ClientCommand {
            kind: CommandKind::Transact,
            session: None,
            sequence: 0,
            deadline: DEADLINE,
            epoch: Epoch(1),
            count: 1,
            body: to_vec(&vec![transfer(number)]).into(),
        };
        Request { group: self.group, call: Call::Command(command) }
    }

    /// Returns whether the role wants another turn.
    fn step(&mut self, role: RoleKind, input: Input, said: &mut Vec<Said>) -> bool {
        let me = Address { node: self.id, group: self.group, role };
        let mut effects = Effects::new(me);
        match role {
            RoleKind::Coordinator => self.coordinator.step(self.now, input, &mut effects),
            RoleKind::Participant => self.participant.step(self.now, input, &mut effects),
            RoleKind::Leader | RoleKind::Replica => return false,
        }
        let mut again = false;
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Send { to, message: Message::Txn(message) } => said.push(send(me, to, message)),
                Effect::Send { message: Message::Local(LocalMessage::Propose(commands)), .. } => {
                    said.push(Said::Propose(Shared::new(commands)));
                }
                Effect::Reply { to, response } => {
                    said.push(Said::Answer(to.correlation as u8, answer(&response)));
                }
                Effect::Again => again = true,
                Effect::Send { .. }
                | Effect::Persist { .. }
                | Effect::Fetch { .. }
                | Effect::Snapshot(_)
                | Effect::ReadSnapshot { .. }
                | Effect::Trace(_) => {}
            }
        }
        again
    }
}

fn send(from: Address, to: Address, message: TxnMessage) -> Said {
    Said::Send(Shared::new(Envelope { from, to, message }))
}

fn answer(response: &Response) -> Option<Answer> {
    let Response::Transfers(done) = response else { return None };
    match done.items.first().map(|item| item.result) {
        None | Some(TransferResult::Done(Outcome::Committed)) => Some(Answer::Committed),
        Some(TransferResult::Done(Outcome::Rejected(_))) => Some(Answer::Rejected),
        Some(_) => None,
    }
}

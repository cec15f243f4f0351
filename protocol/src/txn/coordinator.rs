//! The coordinator: begins, decides and ends the transactions whose debit account its group owns.
//!
//! Inputs: client requests of the kinds `Transact` and `TransactOver`; `Serve`, `Follow` and `Events` from its own node; `Vote`, `Resolved`,
//! `Inquire` and `Redirect` from the participants of other groups. Outputs: `Propose` to the leader, once a turn;
//! `Prepare` and `Resolve` to participants; answers to clients.
//!
//! It is a volatile view of records that the group's log holds. Whatever it forgets in a crash, its successor finds
//! again in [`Serve`]; see the table in [`inquiry`](super::inquiry).

mod attempt;
mod endings;
mod expiry;
mod requests;
mod serving;

use std::collections::BTreeMap;

use crate::ids::{GroupId, NodeId, Origin};
use crate::message::Message;
use crate::message::client::{Call, Refused, Request, Response, Why};
use crate::message::local::{Follow, LocalMessage, Serve};
use crate::message::txn::{Redirect, TxnMessage};
use crate::placement::map::ShardMap;
use crate::rng::Rng;
use crate::role::{Address, Answers, Effects, Input, Role, RoleKind};
use crate::time::{Span, Time};

use super::TxnConfig;
use super::peers::Peers;
use serving::Serving;

#[cfg(test)]
pub(crate) use attempt::merge;
#[cfg(test)]
pub(crate) use serving::owns_left;

/// The coordinator of a group, on one node. It works only while its node leads the group.
#[derive(Clone, Debug)]
pub struct Coordinator {
    desk: Desk,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Another node leads, or nobody: everything is refused or redirected.
    Following(Follow),
    /// This node leads, and its first entry is applied.
    Serving(Box<Serving>),
}

/// What outlives a change of leadership.
#[derive(Clone, Debug)]
struct Desk {
    me: Address,
    map: ShardMap,
    peers: Peers,
    rng: Rng,
    // Numbers attempts. Never starts again, so that an attempt is unique even if a ballot were served twice.
    number: u64,
    // Of a leadership that is over.
    answers: Answers,
    resend: Span,
    limit: usize,
    peer_limit: usize,
}

/// What a step works with.
struct Cx<'a> {
    now: Time,
    desk: &'a mut Desk,
    effects: &'a mut Effects,
}

impl Cx<'_> {
    /// Sends to the likely leader of another group; `again` says that an earlier copy had no answer.
    fn ask(&mut self, group: GroupId, again: bool, (role, message): (RoleKind, TxnMessage)) {
        let peers = &mut self.desk.peers;
        let node = if again { peers.ask_again(group, self.now) } else { peers.ask(group, self.now) };
        match node {
            Some(node) => self.effects.send_txn(Address { node, group, role }, message),
            None => self.effects.trace("no_route", || format!("{group}")),
        }
    }
}

/// How many transactions there are for each other group (hazard L14).
#[derive(Clone, Debug, Default)]
struct Load(BTreeMap<GroupId, usize>);

impl Load {
    fn add(&mut self, groups: &[GroupId]) {
        for group in groups {
            *self.0.entry(*group).or_default() += 1;
        }
    }

    fn sub(&mut self, groups: &[GroupId]) {
        for group in groups {
            let count = self.0.get_mut(group).expect("what is taken off was added before");
            *count = count.checked_sub(1).expect("what is taken off was added before");
        }
    }

    fn of(&self, group: GroupId) -> usize {
        self.0.get(&group).copied().unwrap_or(0)
    }

    fn most(&self) -> usize {
        self.0.values().copied().max().unwrap_or(0)
    }
}

impl Coordinator {
    /// A coordinator that does not lead yet.
    pub fn new(config: TxnConfig) -> Coordinator {
        let patience = Span(config.resend.0.saturating_mul(3));
        let desk = Desk {
            me: Address { role: RoleKind::Coordinator, ..config.me },
            map: config.map,
            peers: Peers::new(config.routes, patience),
            rng: Rng::new(config.seed),
            number: 0,
            answers: Answers::default(),
            resend: config.resend,
            limit: config.limit,
            peer_limit: config.peer_limit,
        };
        Coordinator { desk, phase: Phase::Following(Follow { leader: None, no_quorum: false }) }
    }

    fn on_local(&mut self, now: Time, message: LocalMessage, effects: &mut Effects) {
        match message {
            LocalMessage::Serve(serve) => self.become_serving(now, serve, effects),
            LocalMessage::Follow(follow) => self.become_following(follow, effects),
            LocalMessage::Events(events) => {
                if let Phase::Serving(serving) = &mut self.phase {
                    let mut cx = Cx { now, desk: &mut self.desk, effects };
                    events.into_iter().for_each(|event| serving.on_event(event, &mut cx));
                }
            }
            other => effects.trace("coordinator_ignored", || format!("{other:?}")),
        }
    }

    fn become_serving(&mut self, now: Time, serve: Serve, effects: &mut Effects) {
        let me = self.desk.me.node;
        self.become_following(Follow { leader: Some(me), no_quorum: false }, effects);
        let Serve { ballot, time, counter, coordinated, .. } = serve;
        let mut serving = Serving::new(ballot, counter);
        let mut cx = Cx { now, desk: &mut self.desk, effects };
        coordinated.into_iter().for_each(|record| serving.take_over(record, time, &mut cx));
        self.phase = Phase::Serving(Box::new(serving));
    }

    fn become_following(&mut self, follow: Follow, effects: &mut Effects) {
        if let Phase::Serving(serving) = &mut self.phase {
            serving.stop(&refused(&follow), &mut self.desk.answers, effects);
        }
        self.phase = Phase::Following(follow);
    }

    fn on_txn(&mut self, now: Time, from: Address, message: TxnMessage, effects: &mut Effects) {
        let mut cx = Cx { now, desk: &mut self.desk, effects };
        match (&mut self.phase, message) {
            (_, TxnMessage::Prepare(_) | TxnMessage::Resolve(_)) => {
                cx.effects.trace("coordinator_ignored", || format!("a participant's message from {from:?}"));
            }
            (Phase::Serving(serving), TxnMessage::Vote(vote)) => serving.on_vote(from, &vote, &mut cx),
            (Phase::Serving(serving), TxnMessage::Resolved(resolved)) => serving.on_resolved(from, &resolved, &mut cx),
            (Phase::Serving(serving), TxnMessage::Inquire(inquire)) => serving.on_inquire(from, &inquire, &mut cx),
            (Phase::Serving(serving), TxnMessage::Redirect(redirect)) => serving.on_redirect(from, &redirect, &mut cx),
            (Phase::Following(_), TxnMessage::Redirect(_)) => {}
            (Phase::Following(Follow { leader, no_quorum }), _) => {
                let (leader, no_quorum) = (*leader, *no_quorum);
                let redirect = Redirect { group: cx.desk.me.group, leader, no_quorum };
                cx.effects.send_txn(from, TxnMessage::Redirect(redirect));
            }
        }
    }

    fn on_request(&mut self, now: Time, origin: Origin, request: Request, effects: &mut Effects) {
        let command = match request.call {
            _ if request.group != self.desk.me.group => {
                return effects.reply(origin, Response::refused(Why::WrongNode));
            }
            Call::Command(command) if command.kind.is_coordinated() => command,
            _ => return effects.reply(origin, Response::refused(Why::Malformed)),
        };
        match &mut self.phase {
            Phase::Following(follow) => effects.reply(origin, Response::Refused(refused(follow))),
            Phase::Serving(serving) => {
                serving.on_request(origin, &command, &mut Cx { now, desk: &mut self.desk, effects });
            }
        }
    }
}

fn refused(follow: &Follow) -> Refused {
    let why = if follow.no_quorum { Why::NoQuorum } else { Why::NotLeader };
    Refused { why, leader: follow.leader, after: Span(0) }
}

impl Role for Coordinator {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        match input {
            Input::Message { message: Message::Local(message), .. } => self.on_local(now, message, effects),
            Input::Message { from, message: Message::Txn(message) } => self.on_txn(now, from, message, effects),
            Input::Request { origin, request } => self.on_request(now, origin, request, effects),
            Input::Link { node, up } => self.desk.peers.link(node, up),
            Input::Timer | Input::Turn => {
                self.desk.answers.on_turn(effects);
                if let Phase::Serving(serving) = &mut self.phase {
                    let mut cx = Cx { now, desk: &mut self.desk, effects };
                    serving.on_timer(&mut cx);
                    if matches!(input, Input::Turn) {
                        serving.on_turn(&mut cx);
                    }
                }
            }
            Input::Message { message: Message::Paxos(_), .. }
            | Input::Persisted(_)
            | Input::Fetched { .. }
            | Input::Snapshotted { .. }
            | Input::SnapshotDue
            | Input::SnapshotRead { .. } => {
                effects.trace("coordinator_ignored", || "an input of another role".to_owned());
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Following(_) => None,
            Phase::Serving(serving) => serving.deadline(),
        }
    }
}

/// What a node means to a transaction's message.
fn participant(node: NodeId, group: GroupId) -> Address {
    Address { node, group, role: RoleKind::Participant }
}

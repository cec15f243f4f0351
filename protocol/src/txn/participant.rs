//! The participant: takes part in the transactions that other groups coordinate.
//!
//! Inputs: `Prepare` and `Resolve` from coordinators, `Redirect` from nodes that do not lead the coordinator's group;
//! `Serve`, `Follow` and `Events` from its own node. Outputs: `Propose` to the leader, once a turn; `Vote`, `Resolved`
//! and `Inquire` to coordinators.
//!
//! What it says comes from applied state: a vote is what applying the `Prepare` yielded, an acknowledgement what
//! applying the `Resolve` yielded (hazards S9, S11). It never lets go of anything by itself, however long nobody
//! answers (hazard S10): it asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{Attempt, GroupId, NodeId, TxnId};
use crate::ledger::output::TxnOutput;
use crate::ledger::records::InDoubt;
use crate::message::Message;
use crate::message::command::{Command, Prepare, Resolve};
use crate::message::local::{Follow, LocalMessage, Serve};
use crate::message::txn::{Inquire, Redirect, Resolved, TxnMessage, Vote, VoteKind};
use crate::planted::{Bug, is_planted};
use crate::role::{Address, Effects, Input, Role, RoleKind};
use crate::time::{Span, Time};

use super::TxnConfig;
use super::peers::Peers;

/// So many entries are asked about, or told again, in one step.
const SLICE: usize = 512;
/// Pauses between two questions about one attempt double so often.
const DOUBLINGS: u32 = 3;

type Key = (TxnId, Attempt);

/// The participant of a group, on one node. It works only while its node leads the group.
#[derive(Clone, Debug)]
pub struct Participant {
    desk: Desk,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Another node leads, or nobody: senders are redirected.
    Following(Follow),
    /// This node leads, and its first entry is applied.
    Serving(Serving),
}

#[derive(Clone, Debug)]
struct Desk {
    me: Address,
    peers: Peers,
    inquire_after: Span,
    limit: usize,
}

struct Cx<'a> {
    now: Time,
    desk: &'a mut Desk,
    effects: &'a mut Effects,
}

/// The view of a serving participant: the attempts of other groups that something is under way for here.
///
/// - What was proposed in this leadership and has yielded nothing yet is not proposed again: resends cost no log.
/// - An entry with a `yes` goes only when the ledger says that a decision is applied.
#[derive(Clone, Debug, Default)]
struct Serving {
    attempts: BTreeMap<Key, Entry>,
    timers: BTreeSet<(Time, Key)>,
    proposals: Vec<Command>,
}

#[derive(Clone, Debug)]
struct Entry {
    coordinator: GroupId,
    // Who spoke of it last in the coordinator's name.
    node: Option<NodeId>,
    // The vote and the age counter as applied; nothing while the `Prepare` is in the log or waits in the queue.
    vote: Option<(VoteKind, u64)>,
    // With the yes come values that are not kept here: a copy of the `Prepare` makes them anew.
    yields: bool,
    // A `Resolve` is in the log.
    resolving: bool,
    asked: u32,
    due: Time,
}

impl Participant {
    /// A participant that does not lead yet.
    pub fn new(config: TxnConfig) -> Participant {
        let patience = Span(config.resend.0.saturating_mul(3));
        let desk = Desk {
            me: Address { role: RoleKind::Participant, ..config.me },
            peers: Peers::new(config.routes, patience),
            inquire_after: config.inquire_after,
            limit: config.limit,
        };
        Participant { desk, phase: Phase::Following(Follow { leader: None, no_quorum: false }) }
    }

    fn on_local(&mut self, now: Time, message: LocalMessage, effects: &mut Effects) {
        match message {
            LocalMessage::Serve(serve) => {
                let Serve { counter, in_doubt, .. } = serve;
                let due = now + self.desk.inquire_after;
                let mut serving = Serving::default();
                in_doubt.into_iter().for_each(|record| serving.take_over(record, counter, due));
                self.phase = Phase::Serving(serving);
            }
            LocalMessage::Follow(follow) => self.phase = Phase::Following(follow),
            LocalMessage::Events(events) => {
                if let Phase::Serving(serving) = &mut self.phase {
                    let mut cx = Cx { now, desk: &mut self.desk, effects };
                    events.into_iter().for_each(|event| serving.on_event(event, &mut cx));
                }
            }
            other => effects.trace("participant_ignored", || format!("{other:?}")),
        }
    }

    fn on_txn(&mut self, now: Time, from: Address, message: TxnMessage, effects: &mut Effects) {
        let mut cx = Cx { now, desk: &mut self.desk, effects };
        match (&mut self.phase, message) {
            (_, TxnMessage::Vote(_) | TxnMessage::Resolved(_) | TxnMessage::Inquire(_)) => {
                cx.effects.trace("participant_ignored", || format!("a coordinator's message from {from:?}"));
            }
            (Phase::Serving(serving), TxnMessage::Prepare(prepare)) => serving.on_prepare(from, prepare, &mut cx),
            (Phase::Serving(serving), TxnMessage::Resolve(resolve)) => serving.on_resolve(from, resolve, &mut cx),
            (Phase::Serving(serving), TxnMessage::Redirect(redirect)) => serving.on_redirect(from, &redirect, &mut cx),
            (Phase::Following(_), TxnMessage::Redirect(_)) => {}
            (Phase::Following(Follow { leader, no_quorum }), _) => {
                let redirect = Redirect { group: cx.desk.me.group, leader: *leader, no_quorum: *no_quorum };
                cx.effects.send_txn(from, TxnMessage::Redirect(redirect));
            }
        }
    }
}

impl Role for Participant {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        match input {
            Input::Message { message: Message::Local(message), .. } => self.on_local(now, message, effects),
            Input::Message { from, message: Message::Txn(message) } => self.on_txn(now, from, message, effects),
            Input::Link { node, up } => self.desk.peers.link(node, up),
            Input::Timer | Input::Turn => {
                if let Phase::Serving(serving) = &mut self.phase {
                    serving.on_timer(&mut Cx { now, desk: &mut self.desk, effects });
                    if matches!(input, Input::Turn) {
                        serving.on_turn(effects);
                    }
                }
            }
            Input::Request { .. }
            | Input::Message { message: Message::Paxos(_), .. }
            | Input::Persisted(_)
            | Input::Fetched { .. }
            | Input::Snapshotted { .. }
            | Input::SnapshotDue
            | Input::SnapshotRead { .. } => {
                effects.trace("participant_ignored", || "an input of another role".to_owned());
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::Following(_) => None,
            Phase::Serving(serving) => serving.timers.first().map(|(due, _)| *due),
        }
    }
}

impl Serving {
    // What the last leader left: a yes is answered from state when it is asked for again (hazard L13).
    fn take_over(&mut self, record: InDoubt, counter: u64, due: Time) {
        let InDoubt { txn, attempt, coordinator, waiting, yields, .. } = record;
        let vote = (!waiting).then_some((VoteKind::Yes, counter));
        let before = self.insert((txn, attempt), Entry { vote, yields, ..Entry::new(coordinator, None, due) });
        assert!(before.is_none(), "an attempt is in doubt once");
    }

    fn on_prepare(&mut self, from: Address, prepare: Prepare, cx: &mut Cx<'_>) {
        let own = cx.desk.me.group;
        let Some(&coordinator) = prepare.participants.first() else { return ignore("no participants", cx) };
        if coordinator == own || !prepare.participants.contains(&own) {
            return ignore("a prepare that is not for this group", cx);
        }
        cx.desk.peers.heard(coordinator, from.node);
        let key = (prepare.txn, prepare.attempt);
        if let Some(entry) = self.attempts.get_mut(&key) {
            entry.node = Some(from.node);
            // In the log, or in the queue: the vote will come. Voted: it is told again. Being resolved: too late.
            if entry.resolving {
                return;
            }
            entry.tell(key, cx);
            if entry.yields && entry.vote.is_some_and(|(vote, _)| vote == VoteKind::Yes) {
                entry.vote = None; // Until it is applied: further copies are not proposed.
                self.proposals.push(Command::Prepare(prepare));
            }
            return;
        }
        if self.attempts.len() >= cx.desk.limit {
            return ignore("a prepare beyond the limit", cx);
        }
        let due = cx.now + cx.desk.inquire_after;
        let mut entry = Entry::new(coordinator, Some(from.node), due);
        if is_planted(Bug::VotedOnReceipt) {
            entry.vote = Some((VoteKind::Yes, prepare.age.counter));
            entry.tell(key, cx);
        }
        self.insert(key, entry);
        self.proposals.push(Command::Prepare(prepare));
    }

    // Never refused, whatever the load: it is what relieves it (hazard L8).
    fn on_resolve(&mut self, from: Address, resolve: Resolve, cx: &mut Cx<'_>) {
        cx.desk.peers.heard(from.group, from.node);
        let key = (resolve.txn, resolve.attempt);
        let due = cx.now + cx.desk.inquire_after;
        if is_planted(Bug::NeverResolved) {
            return;
        }
        if is_planted(Bug::ResolvedOnReceipt) {
            let resolved = Resolved { txn: resolve.txn, attempt: resolve.attempt, group: cx.desk.me.group };
            cx.effects.send_txn(from, TxnMessage::Resolved(resolved));
        }
        match self.attempts.get_mut(&key) {
            Some(entry) => {
                entry.node = Some(from.node);
                if entry.resolving {
                    return;
                }
                entry.resolving = true;
                self.arm(key, due);
            }
            None => {
                self.insert(key, Entry { resolving: true, ..Entry::new(from.group, Some(from.node), due) });
            }
        }
        self.proposals.push(Command::Resolve(resolve));
    }

    fn on_event(&mut self, event: TxnOutput, cx: &mut Cx<'_>) {
        match event {
            TxnOutput::Voted { txn, attempt, coordinator, vote, counter, values }
                if coordinator != cx.desk.me.group =>
            {
                let (key, due) = ((txn, attempt), cx.now + cx.desk.inquire_after);
                if !self.attempts.contains_key(&key) {
                    self.insert(key, Entry::new(coordinator, None, due));
                }
                let Some(entry) = self.attempts.get_mut(&key) else { return };
                entry.vote = Some((vote, counter));
                entry.yields = !values.is_empty();
                let vote = Vote { txn, attempt, group: cx.desk.me.group, vote, counter, values };
                send(coordinator, entry.node, TxnMessage::Vote(vote), cx);
            }
            TxnOutput::Resolved { txn, attempt, coordinator } => {
                let entry = self.remove((txn, attempt));
                let resolved = TxnMessage::Resolved(Resolved { txn, attempt, group: cx.desk.me.group });
                send(coordinator, entry.and_then(|entry| entry.node), resolved, cx);
            }
            // The coordinator's.
            TxnOutput::Voted { .. }
            | TxnOutput::Begun { .. }
            | TxnOutput::Void { .. }
            | TxnOutput::Known { .. }
            | TxnOutput::Decided { .. }
            | TxnOutput::Due(_) => {}
        }
    }

    fn on_redirect(&mut self, from: Address, redirect: &Redirect, cx: &mut Cx<'_>) {
        let hurry = cx.desk.peers.redirected(from.node, redirect, cx.now);
        for (key, entry) in self.attempts.iter_mut().take(SLICE) {
            if entry.coordinator != redirect.group {
                continue;
            }
            if entry.node == Some(from.node) {
                entry.node = None;
            }
            if hurry {
                entry.tell(*key, cx);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>) {
        for _ in 0..SLICE {
            match self.timers.first() {
                Some((due, key)) if *due <= cx.now => self.on_due(*key, cx),
                _ => return,
            }
        }
    }

    fn on_due(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(entry) = self.attempts.get_mut(&key) else { return };
        let refused = entry.vote.is_some_and(|(vote, _)| vote != VoteKind::Yes);
        if refused || (entry.resolving && entry.vote.is_none()) {
            cx.effects.timer("participant/drop");
            // Holds nothing that this view knows of: what comes again is proposed again, and the ledger answers.
            self.remove(key);
            return;
        }
        cx.effects.timer("participant/inquire");
        // The proposal yielded nothing for long: the next copy of the decision is proposed again.
        entry.resolving = false;
        let inquire = Inquire { txn: key.0, attempt: key.1, group: cx.desk.me.group };
        let node = cx.desk.peers.rotate(entry.coordinator, entry.asked);
        let coordinator = entry.coordinator;
        if is_planted(Bug::NeverAsks) {
            return self.arm(key, cx.now + cx.desk.inquire_after);
        }
        let due = cx.now + Span(cx.desk.inquire_after.0 << entry.asked.min(DOUBLINGS));
        entry.asked = entry.asked.saturating_add(1);
        send(coordinator, node, TxnMessage::Inquire(inquire), cx);
        self.arm(key, due);
    }

    fn on_turn(&mut self, effects: &mut Effects) {
        if !self.proposals.is_empty() {
            let proposals = std::mem::take(&mut self.proposals);
            effects.send_local(RoleKind::Leader, LocalMessage::Propose(proposals));
        }
    }

    fn insert(&mut self, key: Key, entry: Entry) -> Option<Entry> {
        self.timers.insert((entry.due, key));
        self.attempts.insert(key, entry)
    }

    fn remove(&mut self, key: Key) -> Option<Entry> {
        let entry = self.attempts.remove(&key)?;
        self.timers.remove(&(entry.due, key));
        Some(entry)
    }

    fn arm(&mut self, key: Key, due: Time) {
        if let Some(entry) = self.attempts.get_mut(&key) {
            self.timers.remove(&(entry.due, key));
            entry.due = due;
            self.timers.insert((due, key));
        }
    }
}

impl Entry {
    fn new(coordinator: GroupId, node: Option<NodeId>, due: Time) -> Entry {
        Entry { coordinator, node, vote: None, yields: false, resolving: false, asked: 0, due }
    }

    // Tells the vote, if there is one, and nothing that is not kept comes with it.
    fn tell(&self, (txn, attempt): Key, cx: &mut Cx<'_>) {
        if let Some((vote, counter)) = self.vote.filter(|_| !self.yields) {
            let vote = Vote { txn, attempt, group: cx.desk.me.group, vote, counter, values: Vec::new() };
            send(self.coordinator, self.node, TxnMessage::Vote(vote), cx);
        }
    }
}

// To the coordinator on `node`, or on the node that probably leads its group.
fn send(group: GroupId, node: Option<NodeId>, message: TxnMessage, cx: &mut Cx<'_>) {
    match node.or_else(|| cx.desk.peers.ask(group, cx.now)) {
        Some(node) => cx.effects.send_txn(Address { node, group, role: RoleKind::Coordinator }, message),
        None => cx.effects.trace("no_route", || format!("{group}")),
    }
}

fn ignore(why: &'static str, cx: &mut Cx<'_>) {
    cx.effects.trace("participant_ignored", || why.to_owned());
}

//! A node of the model: the real leader and replica, driven as the shell drives them.

use std::collections::VecDeque;

use drachma_protocol::ids::{AccountId, Ballot, DirectoryId, Epoch, GroupId, NodeId, Origin, Slot, TransferId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::message::client::{Call, Request, Response};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::operator::{HandOverCall, OperatorCall};
use drachma_protocol::message::paxos::PreCheckReply;
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::paxos::{Leader, LeaderConfig, Replica, ReplicaConfig};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::role::{Address, Effect, Effects, Input, Role, RoleKind};
use drachma_protocol::time::{Span, Time};
use drachma_protocol::wire::codec::to_vec;

use super::disk::{Disk, Entry};
use crate::model::Rule;
use crate::model::network::Envelope;
use crate::model::shared::Shared;

pub(super) const GROUP: GroupId = GroupId(1);
pub(super) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// What a step of a node has consequences for.
#[derive(Clone)]
pub(super) enum Said {
    /// A message to another node.
    Send(Shared<Envelope<PaxosMessage>>),
    /// The answer to a command: it is committed.
    Committed(u64),
    /// A rule is broken.
    Broken(Rule, String),
}

/// One node with its disk.
#[derive(Clone, Debug)]
pub(super) struct Node {
    id: NodeId,
    pub(super) leader: Leader,
    pub(super) replica: Replica,
    pub(super) disk: Disk,
    // Its own clock, which stands still but for timers.
    now: Time,
    starts: u64,
}

/// How a node is driven in one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drive {
    /// Writes are synced at once: nobody crashes any more.
    pub(super) sync: bool,
    /// A synced record may still be damaged.
    pub(super) rots: bool,
    /// Heartbeats and pre-checks are sent.
    pub(super) chatter: bool,
}

struct Run<'a> {
    node: &'a mut Node,
    drive: Drive,
    standing: bool,
    inputs: VecDeque<(RoleKind, Input)>,
    again: bool,
    said: Vec<Said>,
}

fn genesis() -> Genesis {
    let all = AccountRange { first: AccountId(1), last: AccountId(2) };
    let map = ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![all]), owners: vec![GROUP] };
    Genesis { group: GROUP, map, accounts: 2, initial_balance: 1000, limits: Limits::default() }
}

/// A client's command: a transfer that nothing but its number tells from the others.
fn request(command: u64) -> Request {
    let transfer = Transfer {
        id: TransferId(u128::from(command) + 1),
        debit: AccountId(1),
        credit: AccountId(2),
        amount: 1,
        ledger: 1,
        code: 1,
        ..Transfer::default()
    };
    let command = ClientCommand {
        kind: CommandKind::Transfers,
        session: None,
        sequence: 0,
        deadline: Span::from_millis(60_000),
        epoch: Epoch(1),
        count: 1,
        body: to_vec(&vec![transfer]).into(),
    };
    Request { group: GROUP, call: Call::Command(command) }
}

impl Node {
    /// A node that has never run.
    pub(super) fn new(id: NodeId, drive: Drive) -> (Node, Vec<Said>) {
        Node::start(id, Disk::default(), 0, drive)
    }

    fn start(id: NodeId, disk: Disk, starts: u64, drive: Drive) -> (Node, Vec<Said>) {
        let recovered = disk.recovered();
        let directory = DirectoryId(u128::from(id.0));
        let seed = u64::from(id.0) + 100 * (starts + 1);
        let leader = Leader::new(LeaderConfig {
            node: id,
            group: GROUP,
            nodes: NODES.to_vec(),
            directory,
            heartbeat: Span::from_millis(50),
            leader_timeout: Span::from_millis(250),
            promise: recovered.promise,
            wall: 0,
            seed,
        });
        let (group, nodes) = (GROUP, NODES.to_vec());
        // Every state has its own copy, so a small one.
        let (snapshot_every, parts) = (u64::MAX, 1);
        let config =
            ReplicaConfig { node: id, group, nodes, directory, genesis: genesis(), snapshot_every, parts, seed };
        let replica = Replica::new(config, recovered);
        let mut node = Node { id, leader, replica, disk, now: Time(0), starts };
        let said = node.run(drive, false, VecDeque::from([(RoleKind::Replica, Input::Turn)]));
        (node, said)
    }

    /// The process ends and comes back with what is durable.
    pub(super) fn crash(&self, drive: Drive) -> (Node, Vec<Said>) {
        let mut disk = self.disk.clone();
        disk.crash(drive.rots);
        Node::start(self.id, disk, self.starts + 1, drive)
    }

    /// The same, and the end of its log is found damaged.
    pub(super) fn rot(&self, drive: Drive) -> (Node, Vec<Said>) {
        let mut disk = self.disk.clone();
        disk.rot();
        Node::start(self.id, disk, self.starts + 1, drive)
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, drive: Drive, envelope: &Envelope<PaxosMessage>) -> Vec<Said> {
        let message = Message::Paxos(envelope.message.clone());
        let input = Input::Message { from: envelope.from, message };
        self.run(drive, false, VecDeque::from([(envelope.to.role, input)]))
    }

    /// The disk finishes what was written.
    pub(super) fn sync(&mut self, drive: Drive) -> Vec<Said> {
        match self.disk.sync(drive.rots) {
            Ok(None) => Vec::new(),
            Ok(Some(token)) => self.run(drive, false, VecDeque::from([(RoleKind::Replica, Input::Persisted(token))])),
            Err(text) => vec![Said::Broken(Rule::Assertion, text)],
        }
    }

    /// A client's command arrives.
    pub(super) fn submit(&mut self, drive: Drive, command: u64) -> Vec<Said> {
        let origin = Origin { connection: 1, correlation: command };
        let input = Input::Request { origin, request: request(command) };
        self.run(drive, false, VecDeque::from([(RoleKind::Leader, input)]))
    }

    /// An operator wants another node to lead.
    pub(super) fn hand_over(&mut self, drive: Drive, target: NodeId) -> Vec<Said> {
        let origin = Origin { connection: 2, correlation: 0 };
        let call = Call::Operator(OperatorCall::HandOver(HandOverCall { target: Some(target) }));
        let input = Input::Request { origin, request: Request { group: GROUP, call } };
        self.run(drive, false, VecDeque::from([(RoleKind::Leader, input)]))
    }

    /// It loses its leader, and so have all whom it asks: it stands.
    pub(super) fn stand(&mut self, drive: Drive) -> Vec<Said> {
        self.now = self.leader.deadline().map_or(self.now, |at| at.max(self.now));
        self.run(drive, true, VecDeque::from([(RoleKind::Leader, Input::Timer)]))
    }

    /// Its clock reaches the next deadline.
    pub(super) fn timer(&mut self, drive: Drive) -> Vec<Said> {
        let deadlines = [self.leader.deadline(), self.replica.deadline()];
        let Some(at) = deadlines.into_iter().flatten().min() else { return Vec::new() };
        self.now = self.now.max(at);
        let due = [(RoleKind::Replica, deadlines[1]), (RoleKind::Leader, deadlines[0])];
        let due = due.into_iter().filter(|(_, deadline)| deadline.is_some_and(|at| at <= self.now));
        let inputs = due.map(|(role, _)| (role, Input::Timer)).collect();
        self.run(drive, false, inputs)
    }

    /// How many entries it knows to be chosen.
    pub(super) fn chosen(&self) -> &[Entry] {
        let log = self.disk.log();
        &log[..(self.replica.chosen().0 as usize).min(log.len())]
    }

    /// How many entries it has applied.
    pub(super) fn applied(&self) -> &[Entry] {
        let log = self.disk.log();
        &log[..(self.replica.ledger().applied().0 as usize).min(log.len())]
    }

    fn run(&mut self, drive: Drive, standing: bool, inputs: VecDeque<(RoleKind, Input)>) -> Vec<Said> {
        let mut run = Run { node: self, drive, standing, inputs, again: false, said: Vec::new() };
        run.until_rest();
        let said = run.said;
        let log = self.disk.log();
        for (slot, written) in (0..).map(Slot).zip(log) {
            let own = self.replica.entry(slot);
            assert!(own.is_none_or(|own| *own == **written), "what is in memory is what was written");
        }
        said
    }
}

impl Run<'_> {
    /// Hands in what has come, then a turn, until nothing moves.
    fn until_rest(&mut self) {
        loop {
            while let Some((role, input)) = self.inputs.pop_front() {
                self.step(role, input);
            }
            self.again = false;
            self.step(RoleKind::Replica, Input::Turn);
            self.step(RoleKind::Leader, Input::Turn);
            if !self.inputs.is_empty() || self.again {
                continue;
            }
            if !self.drive.sync || !self.node.disk.is_dirty() {
                return;
            }
            match self.node.disk.sync(self.drive.rots) {
                Ok(Some(token)) => self.inputs.push_back((RoleKind::Replica, Input::Persisted(token))),
                Ok(None) => return,
                Err(text) => return self.said.push(Said::Broken(Rule::Assertion, text)),
            }
        }
    }

    fn step(&mut self, role: RoleKind, input: Input) {
        let me = Address { node: self.node.id, group: GROUP, role };
        let mut effects = Effects::new(me);
        match role {
            RoleKind::Leader => self.node.leader.step(self.node.now, input, &mut effects),
            RoleKind::Replica => self.node.replica.step(self.node.now, input, &mut effects),
            RoleKind::Coordinator | RoleKind::Participant => return,
        }
        while let Some(effect) = effects.pop() {
            self.carry_out(me, effect);
        }
    }

    fn carry_out(&mut self, me: Address, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.send(me, to, message),
            Effect::Persist { token, records } => self.node.disk.write(token, records),
            Effect::Fetch { from, until, .. } => {
                let log = self.node.disk.log();
                let range = from.0 as usize..(until.0 as usize).min(log.len());
                let entries = log.get(range).unwrap_or_default().iter().map(|entry| (**entry).clone()).collect();
                self.inputs.push_back((me.role, Input::Fetched { start: from, entries }));
            }
            Effect::Reply { to, response: Response::Transfers(done) } if done.items.is_empty() => {
                self.said.push(Said::Committed(to.correlation));
            }
            Effect::Snapshot(_) | Effect::ReadSnapshot { .. } => unreachable!("a model's log is never long"),
            Effect::Reply { .. } | Effect::Trace(_) => {}
            Effect::Again => self.again = true,
        }
    }

    fn send(&mut self, from: Address, to: Address, message: Message) {
        if let Message::Paxos(message) = &message
            && let Err(text) = self.is_durable(message)
        {
            self.said.push(Said::Broken(Rule::DurableBeforeSaid, text));
        }
        match message {
            message if to.node == self.node.id => {
                self.inputs.push_back((to.role, Input::Message { from, message }));
            }
            Message::Paxos(PaxosMessage::PreCheck(check)) if self.standing => {
                // Whoever is asked has lost the leader, too; it may know of no higher ballot.
                let reply = PreCheckReply { round: check.round, lost: true, ballot: Ballot::default() };
                let message = Message::Paxos(PaxosMessage::PreCheckReply(reply));
                self.inputs.push_back((RoleKind::Leader, Input::Message { from: to, message }));
            }
            Message::Paxos(
                PaxosMessage::Heartbeat(_)
                | PaxosMessage::HeartbeatAck(_)
                | PaxosMessage::PreCheck(_)
                | PaxosMessage::PreCheckReply(_),
            ) if !self.drive.chatter => {}
            Message::Paxos(message) => self.said.push(Said::Send(Shared::new(Envelope { from, to, message }))),
            Message::Txn(_) | Message::Local(_) => {}
        }
    }

    /// Whether what a message promises is on this node's disk.
    fn is_durable(&self, message: &PaxosMessage) -> Result<(), String> {
        let disk = &self.node.disk;
        let found = disk.recovered();
        let (id, length) = (self.node.id, disk.synced_len());
        match message {
            PaxosMessage::Promise(promise) => {
                let promise = promise.get();
                if found.promise < promise.ballot || found.accepted < promise.accepted {
                    let (said, has) = (promise.ballot, found.promise);
                    return Err(format!("{id} promises {said}, and its disk has the promise of {has}"));
                }
            }
            PaxosMessage::Accepted(accepted) => {
                let accepted = accepted.get();
                let covered = found.accepted == accepted.ballot && length >= accepted.length.0;
                if !covered && found.accepted <= accepted.ballot {
                    let (said, ballot) = (accepted.length, accepted.ballot);
                    let has = found.accepted;
                    return Err(format!(
                        "{id} has accepted {said} entries under {ballot}, and its disk has {length} under {has}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

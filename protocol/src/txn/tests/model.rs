//! The real roles over the simplest ledger that keeps the rules of apply, under seeded faults: messages are lost,
//! doubled and late, leaders change with part of their proposals, deposed ones go on for a while, nodes crash. The
//! groups' logs are taken for granted.
//!
//! Checked at each apply: nothing is applied twice, and a commit finds what it needs. Checked in the end, after a time
//! without faults: both groups agree on every transaction, clients were told what is true, and nothing is left over.

use std::collections::{BTreeMap, BTreeSet};

use super::config;
use crate::ids::{AccountId, Attempt, Ballot, Epoch, GroupId, NodeId, Origin, ReplicaId, TransferId, TxnId};
use crate::ledger::model::{Outcome, Reason, Transfer, TransferResult};
use crate::ledger::output::TxnOutput;
use crate::ledger::records::{Coordinated, InDoubt};
use crate::message::client::{Call, Request, Response};
use crate::message::command::{Begin, ClientCommand, Command, CommandKind, Decide, Prepare, Resolve, Verdict};
use crate::message::local::{Follow, LocalMessage, Serve};
use crate::message::txn::VoteKind;
use crate::message::{Message, TxnMessage};
use crate::rng::Rng;
use crate::role::{Address, Effect, Effects, Input, Role, RoleKind};
use crate::time::{LogTime, Span, Time};
use crate::txn::{Coordinator, Participant};
use crate::wire::codec::to_vec;

const CHAOS: u64 = 3000;
const END: u64 = 12_000;
// A new transaction every so often; the last few are asked for again and again.
const PACE: u64 = 40;
const WINDOW: u64 = 8;

/// What a group has applied.
#[derive(Default)]
struct Ledger {
    ballot: Ballot,
    records: BTreeMap<(TxnId, Attempt), (Coordinated, Option<VoteKind>)>,
    // Attempts of other groups: held if true, waiting for their vote if not.
    held: BTreeMap<TxnId, (Attempt, bool)>,
    outcomes: BTreeMap<TxnId, Outcome>,
    effects: BTreeSet<TxnId>,
}

impl Ledger {
    fn effect(&mut self, txn: TxnId) {
        assert!(self.effects.insert(txn), "{txn} is applied twice");
        self.outcomes.insert(txn, Outcome::Committed);
    }

    fn apply(&mut self, group: GroupId, command: Command, time: LogTime, rng: &mut Rng) -> Vec<TxnOutput> {
        match command {
            Command::Begin(begin) => self.begin(group, begin, time, rng),
            Command::Decide(decide) => self.decide(decide),
            Command::Prepare(prepare) => self.prepare(&prepare, rng),
            Command::Resolve(resolve) => self.resolve(resolve),
            Command::Forget(forget) => {
                for key in forget.ended {
                    let record = self.records.remove(&key);
                    assert!(record.is_none_or(|(record, _)| record.verdict.is_some()), "{key:?} is not decided");
                }
                Vec::new()
            }
            other => panic!("no role proposes {other:?}"),
        }
    }

    fn begin(&mut self, group: GroupId, begin: Begin, time: LogTime, rng: &mut Rng) -> Vec<TxnOutput> {
        let Begin { txn, attempt, age, participants, action, deadline } = begin;
        if let Some(outcome) = self.outcomes.get(&txn) {
            return vec![TxnOutput::Known { txn, attempt, outcome: *outcome, replies: None }];
        }
        let busy = self.records.iter().any(|(key, (record, _))| key.0 == txn && record.verdict.is_none());
        if attempt.ballot < self.ballot || busy {
            return vec![TxnOutput::Void { txn, attempt }];
        }
        let vote = draw(rng);
        let deadline = time + deadline;
        let (values, verdict, swapped) = (Vec::new(), None, Vec::new());
        let record = Coordinated { txn, attempt, age, participants, action, deadline, vote, values, verdict, swapped };
        self.records.insert((txn, attempt), (record, vote));
        let (coordinator, counter) = (group, age.counter);
        let voted = |vote| TxnOutput::Voted { txn, attempt, coordinator, vote, counter, values: Vec::new() };
        let voted = vote.map(voted);
        [TxnOutput::Begun { txn, attempt }].into_iter().chain(voted).collect()
    }

    fn decide(&mut self, Decide { txn, attempt, verdict, replies }: Decide) -> Vec<TxnOutput> {
        let Some((record, vote)) = self.records.get_mut(&(txn, attempt)) else { return Vec::new() };
        if record.verdict.is_some() {
            return Vec::new();
        }
        record.verdict = Some(verdict);
        match verdict {
            Verdict::Commit => {
                assert_eq!(*vote, Some(VoteKind::Yes), "{txn} is committed without the own vote");
                self.effect(txn);
            }
            Verdict::Reject(reason) => drop(self.outcomes.insert(txn, Outcome::Rejected(reason))),
            Verdict::Abort => {}
        }
        vec![TxnOutput::Decided { txn, attempt, verdict, replies }]
    }

    fn prepare(&mut self, prepare: &Prepare, rng: &mut Rng) -> Vec<TxnOutput> {
        let (txn, attempt) = (prepare.txn, prepare.attempt);
        let vote = match (self.outcomes.get(&txn), self.held.get(&txn)) {
            (Some(Outcome::Committed), _) => Some(VoteKind::AlreadyCommitted),
            (Some(Outcome::Rejected(reason)), _) => Some(VoteKind::No(*reason)),
            (None, Some((held, yes))) if *held == attempt => yes.then_some(VoteKind::Yes),
            (None, Some((held, _))) if *held > attempt => Some(VoteKind::Die),
            _ => {
                let vote = draw(rng);
                self.held.remove(&txn);
                if matches!(vote, None | Some(VoteKind::Yes)) {
                    self.held.insert(txn, (attempt, vote.is_some()));
                }
                vote
            }
        };
        let (coordinator, counter) = (prepare.participants[0], prepare.age.counter);
        let voted = |vote| TxnOutput::Voted { txn, attempt, coordinator, vote, counter, values: Vec::new() };
        vote.map(voted).into_iter().collect()
    }

    fn resolve(&mut self, Resolve { txn, attempt, verdict, .. }: Resolve) -> Vec<TxnOutput> {
        let held = self.held.get(&txn).filter(|(held, _)| *held == attempt).copied();
        let done = self.outcomes.get(&txn) == Some(&Outcome::Committed);
        match verdict {
            Verdict::Commit if !done => {
                assert_eq!(held, Some((attempt, true)), "{txn} is committed and not held");
                self.effect(txn);
            }
            Verdict::Reject(reason) => {
                assert!(!done, "{txn} is rejected after it was applied");
                self.outcomes.insert(txn, Outcome::Rejected(reason));
            }
            Verdict::Commit | Verdict::Abort => {}
        }
        if held.is_some() {
            self.held.remove(&txn);
        }
        vec![TxnOutput::Resolved { txn, attempt, coordinator: coordinator_of(txn) }]
    }

    // A waiting vote is found.
    fn wake(&mut self, group: GroupId, rng: &mut Rng) -> Vec<TxnOutput> {
        let mut outputs = Vec::new();
        for (record, vote) in self.records.values_mut() {
            if vote.is_none() && record.verdict.is_none() && rng.chance(3) {
                (*vote, record.vote) = (Some(VoteKind::Yes), Some(VoteKind::Yes));
                let (txn, attempt) = (record.txn, record.attempt);
                let vote = VoteKind::Yes;
                outputs.push(TxnOutput::Voted {
                    txn,
                    attempt,
                    coordinator: group,
                    vote,
                    counter: 0,
                    values: Vec::new(),
                });
            }
        }
        for (txn, (attempt, yes)) in &mut self.held {
            if !*yes && rng.chance(3) {
                *yes = true;
                let (txn, attempt, vote) = (*txn, *attempt, VoteKind::Yes);
                let coordinator = coordinator_of(txn);
                outputs.push(TxnOutput::Voted { txn, attempt, coordinator, vote, counter: 0, values: Vec::new() });
            }
        }
        outputs
    }
}

fn draw(rng: &mut Rng) -> Option<VoteKind> {
    match rng.below(20) {
        0 => Some(VoteKind::No(Reason::Closed)),
        1 | 2 => Some(VoteKind::Die),
        3 => Some(VoteKind::Expired),
        4 | 5 => None,
        _ => Some(VoteKind::Yes),
    }
}

fn coordinator_of(txn: TxnId) -> GroupId {
    GroupId(if txn.first.0 <= 100 { 1 } else { 2 })
}

fn transfer(id: u128) -> Transfer {
    let (debit, credit) = if id.is_multiple_of(2) { (1, 101) } else { (101, 1) };
    Transfer {
        id: TransferId(id),
        debit: AccountId(debit),
        credit: AccountId(credit),
        amount: 1,
        ..Transfer::default()
    }
}

struct Group {
    ledger: Ledger,
    leader: NodeId,
    // Proposed by the leader, not chosen.
    proposed: Vec<Command>,
    // Nothing is chosen before.
    stalled: u64,
}

struct World {
    rng: Rng,
    now: u64,
    groups: BTreeMap<GroupId, Group>,
    roles: BTreeMap<Address, Box<dyn Role>>,
    // What arrives when.
    wire: Vec<(u64, Address, Input)>,
    answers: BTreeMap<TxnId, BTreeSet<bool>>,
    commits: usize,
}

fn address(node: NodeId, role: RoleKind) -> Address {
    Address { node, group: GroupId(node.0.div_ceil(3)), role }
}

fn role(at: Address) -> Box<dyn Role> {
    let config = super::TxnConfig { limit: 100, peer_limit: 50, ..config(at) };
    match at.role {
        RoleKind::Coordinator => Box::new(Coordinator::new(config)),
        _ => Box::new(Participant::new(config)),
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut roles = BTreeMap::new();
        for node in 1..=6 {
            for kind in [RoleKind::Coordinator, RoleKind::Participant] {
                let at = address(NodeId(node), kind);
                roles.insert(at, role(at));
            }
        }
        let group =
            |leader| Group { ledger: Ledger::default(), leader: NodeId(leader), proposed: Vec::new(), stalled: 0 };
        let groups = BTreeMap::from([(GroupId(1), group(1)), (GroupId(2), group(4))]);
        let rng = Rng::new(seed);
        World { rng, now: 0, groups, roles, wire: Vec::new(), answers: BTreeMap::new(), commits: 0 }
    }

    fn step(&mut self, at: Address, input: Input) {
        let mut effects = Effects::new(at);
        let now = Time(self.now * 1000);
        let role = self.roles.get_mut(&at).expect("every role exists");
        role.step(now, input, &mut effects);
        role.step(now, Input::Turn, &mut effects);
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Send { to, message: Message::Txn(message) } => self.transmit(at, to, message),
                Effect::Send { message: Message::Local(LocalMessage::Propose(commands)), .. } => {
                    let group = self.groups.get_mut(&at.group).expect("both groups exist");
                    if group.leader == at.node {
                        group.proposed.extend(commands);
                    }
                }
                Effect::Reply { to, response } => self.answer(to, response),
                Effect::Trace(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn transmit(&mut self, from: Address, to: Address, message: TxnMessage) {
        let chaos = self.now < CHAOS;
        let copies = match self.rng.below(10) {
            0 | 1 if chaos => 0,
            2 if chaos => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = if chaos && self.rng.chance(5) { self.rng.below(1500) } else { self.rng.below(8) };
            let input = Input::Message { from, message: Message::Txn(message.clone()) };
            self.wire.push((self.now + 1 + delay, to, input));
        }
    }

    fn answer(&mut self, to: Origin, response: Response) {
        let Response::Transfers(done) = response else { return };
        let txn = TxnId::from(&transfer(u128::from(to.correlation)));
        match done.items.first().map(|item| item.result) {
            None => drop(self.answers.entry(txn).or_default().insert(true)),
            Some(TransferResult::Done(outcome)) => {
                self.answers.entry(txn).or_default().insert(outcome == Outcome::Committed);
            }
            Some(_) => {}
        }
    }

    fn request(&mut self) {
        let id = self.now / PACE + self.rng.below(WINDOW);
        let transfer = transfer(u128::from(id));
        let group = coordinator_of(TxnId::from(&transfer));
        let node = if self.rng.chance(80) { self.groups[&group].leader } else { NodeId(3 * group.0 - 2) };
        let command = ClientCommand {
            kind: CommandKind::Transact,
            session: None,
            sequence: 1,
            deadline: Span::from_millis(self.rng.below(1000)),
            epoch: Epoch(1),
            count: 1,
            body: to_vec(&vec![transfer]).into(),
        };
        let origin = Origin { connection: 1, correlation: id };
        let request = Request { group, call: Call::Command(command) };
        self.step(address(node, RoleKind::Coordinator), Input::Request { origin, request });
    }

    fn events(&mut self, group: GroupId, outputs: Vec<TxnOutput>) {
        if outputs.is_empty() {
            return;
        }
        let leader = self.groups[&group].leader;
        for kind in [RoleKind::Coordinator, RoleKind::Participant] {
            self.local(address(leader, kind), LocalMessage::Events(outputs.clone()));
        }
    }

    fn local(&mut self, to: Address, message: LocalMessage) {
        let from = Address { role: RoleKind::Replica, ..to };
        self.step(to, Input::Message { from, message: Message::Local(message) });
    }

    // Some of what is proposed is chosen and applied.
    fn apply(&mut self, id: GroupId, limit: u64) {
        let time = LogTime(self.now * 1000);
        let group = self.groups.get_mut(&id).expect("both groups exist");
        let count = (limit as usize).min(group.proposed.len());
        let chosen: Vec<Command> = group.proposed.drain(..count).collect();
        let mut outputs = Vec::new();
        for command in chosen {
            outputs.extend(group.ledger.apply(id, command, time, &mut self.rng));
        }
        self.commits = self.groups.values().map(|group| group.ledger.effects.len()).sum();
        self.events(id, outputs);
    }

    // Part of what the last leader proposed is adopted; the rest is lost. The last leader learns of it late.
    fn elect(&mut self, id: GroupId, round: u64) {
        let adopted = self.rng.below(self.groups[&id].proposed.len() as u64 + 1);
        let old = self.groups[&id].leader;
        let leader = NodeId(3 * id.0 - self.rng.below(3) as u16);
        let (time, late) = (LogTime(self.now * 1000), self.now + self.rng.below(1000));
        let crash = self.rng.chance(50);
        let group = self.groups.get_mut(&id).expect("both groups exist");
        let count = (adopted as usize).min(group.proposed.len());
        let chosen: Vec<Command> = group.proposed.drain(..).take(count).collect();
        for command in chosen {
            group.ledger.apply(id, command, time, &mut self.rng);
        }
        let ballot = Ballot { round, replica: ReplicaId(u32::from(leader.0)) };
        (group.ledger.ballot, group.leader) = (ballot, leader);
        let held = group.ledger.held.iter();
        let serve = Serve {
            ballot,
            time,
            members: Vec::new(),
            counter: 1,
            coordinated: group.ledger.records.values().map(|(record, _)| record.clone()).collect(),
            in_doubt: held
                .map(|(txn, (attempt, yes))| InDoubt {
                    txn: *txn,
                    attempt: *attempt,
                    coordinator: coordinator_of(*txn),
                    since: time,
                    yields: false,
                    waiting: !yes,
                })
                .collect(),
        };
        for kind in [RoleKind::Coordinator, RoleKind::Participant] {
            let at = address(old, kind);
            if crash {
                self.roles.insert(at, role(at));
            } else if old != leader {
                let follow = LocalMessage::Follow(Follow { leader: Some(leader), no_quorum: false });
                let from = Address { role: RoleKind::Leader, ..at };
                self.wire.push((late, at, Input::Message { from, message: Message::Local(follow) }));
            }
            self.wire.retain(|(_, to, input)| *to != address(leader, kind) || !is_local(input));
            self.local(address(leader, kind), LocalMessage::Serve(serve.clone()));
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.wire).into_iter().partition(|(at, ..)| *at <= now);
        self.wire = later;
        let due: Vec<(u64, Address, Input)> = due;
        for (_, to, input) in due {
            self.step(to, input);
        }
        for id in [GroupId(1), GroupId(2)] {
            if now == 1 || (now < CHAOS && self.rng.below(150) == 0) {
                self.elect(id, now);
            }
            if now < CHAOS && self.rng.below(300) == 0 {
                let until = now + self.rng.below(800);
                self.groups.get_mut(&id).expect("both groups exist").stalled = until;
            }
            if now >= self.groups[&id].stalled {
                let limit = self.rng.below(4);
                self.apply(id, limit);
            }
            if self.rng.chance(20) {
                let group = self.groups.get_mut(&id).expect("both groups exist");
                let outputs = group.ledger.wake(id, &mut self.rng);
                self.events(id, outputs);
            }
        }
        let due = |role: &dyn Role| role.deadline().is_some_and(|at| at <= Time(now * 1000));
        let ready: Vec<Address> = self.roles.iter().filter(|(_, role)| due(role.as_ref())).map(|(at, _)| *at).collect();
        for at in ready {
            self.step(at, Input::Timer);
        }
        if now < CHAOS + 1000 && self.rng.chance(20) {
            self.request();
        }
    }

    fn check(&self) {
        let [one, two] = [1, 2].map(|group| &self.groups[&GroupId(group)].ledger);
        assert_eq!(one.effects, two.effects, "the groups disagree");
        for (txn, told) in &self.answers {
            let truth = BTreeSet::from([one.effects.contains(txn)]);
            assert_eq!(*told, truth, "clients were told otherwise about {txn}");
        }
        for ledger in [one, two] {
            assert!(ledger.held.is_empty(), "left over: {:?}", ledger.held);
            assert!(ledger.records.is_empty(), "left over: {:?}", ledger.records);
        }
    }
}

fn is_local(input: &Input) -> bool {
    matches!(input, Input::Message { message: Message::Local(_), .. })
}

fn run(seed: u64) -> usize {
    let mut world = World::new(seed);
    while world.now < END {
        world.tick();
    }
    world.check();
    world.commits
}

#[test]
fn both_groups_end_with_one_outcome_under_every_seed() {
    let mut commits = 0;
    for seed in 0..200 {
        let result = std::panic::catch_unwind(|| run(seed));
        commits += result.unwrap_or_else(|_| panic!("seed {seed} fails"));
    }
    assert!(commits > 10_000, "the runs show something: {commits} effects");
}

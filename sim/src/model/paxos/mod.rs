//! Multi-Paxos: three replicas, leaders that do not know of each other, crashes, and a network that keeps no order.
//!
//! A node is the real [`Leader`](drachma_protocol::paxos::Leader) and [`Replica`](drachma_protocol::paxos::Replica)
//! with a disk between written and synced. The messages of a node to itself are part of its step, as in the shell.
//! The group is formed already: n1 leads it, and its first entry is applied everywhere.

mod disk;
mod node;
mod show;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stateright::{Model, Property};

use drachma_protocol::ids::Ballot;
use drachma_protocol::message::PaxosMessage;

use super::explore::{self, Sometimes, Told};
use super::network::{Envelope, Network};
use super::shared::{Memo, Shared, digest};
use super::{Broken, Options, Rule, panic_text};
use node::{Drive, NODES, Node, Said};

type Letter = Shared<Envelope<PaxosMessage>>;

/// What has been used of each bound.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Spent {
    elections: u8,
    moves: u8,
    crashes: u8,
    doubts: u8,
    duplicates: u8,
    drops: u8,
    timers: u8,
    // Bits: what was submitted, what was answered.
    submitted: u8,
    answered: u8,
    // A crash has lost something that was written.
    lost: bool,
}

/// A state of the model.
#[derive(Clone, Debug, Hash, PartialEq)]
pub(super) struct State {
    nodes: [Shared<Node>; 3],
    network: Network<PaxosMessage>,
    /// The longest row of entries that anybody has known to be chosen, by their digests.
    chosen: Vec<u128>,
    spent: Spent,
    broken: Option<Broken>,
}

/// One step of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Deliver(Letter),
    Duplicate(Letter),
    Drop(Letter),
    Sync(usize),
    Crash(usize),
    /// A crash after which the end of the node's log is found damaged.
    Rot(usize),
    Stand(usize),
    /// An operator asks the first to have the second lead.
    Move(usize, usize),
    Submit(usize, u64),
    Timer(usize),
}

type Turn = (Shared<Node>, Arc<Vec<Said>>);

/// The model, with its bounds.
pub(super) struct Paxos {
    options: Options,
    initial: State,
    memo: Memo<Turn>,
}

impl Paxos {
    pub(super) fn new(options: &Options) -> Paxos {
        let initial = formed(options.doubts.min(options.crashes) > 0);
        Paxos { options: options.clone(), initial, memo: Memo::new() }
    }

    fn drive(&self, spent: &Spent) -> Drive {
        let crashes = spent.crashes < self.options.crashes;
        let rots = crashes && spent.doubts < self.options.doubts;
        Drive { sync: !crashes, rots, chatter: self.options.timers > 0 }
    }

    /// What a node does with an action, looked up or computed.
    fn turn(&self, node: &Shared<Node>, action: &Action, drive: Drive) -> Turn {
        let what = match action {
            Action::Deliver(letter) | Action::Duplicate(letter) => (1, letter.digest()),
            Action::Drop(_) => (0, 0),
            Action::Sync(_) => (2, 0),
            Action::Crash(_) => (3, 0),
            Action::Stand(_) => (4, 0),
            Action::Submit(_, command) => (5, u128::from(*command)),
            Action::Timer(_) => (6, 0),
            Action::Rot(_) => (7, 0),
            Action::Move(_, target) => (8, *target as u128),
        };
        let key = digest(&(node.digest(), what, drive.sync, drive.rots));
        self.memo.get(key, || {
            let step = || step(node, action, drive);
            let (node, said) = catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
                let text = panic_text(panic.as_ref());
                ((**node).clone(), vec![Said::Broken(Rule::Assertion, text)])
            });
            (Shared::new(node), Arc::new(said))
        })
    }
}

fn step(node: &Node, action: &Action, drive: Drive) -> (Node, Vec<Said>) {
    match action {
        Action::Crash(_) => return node.crash(drive),
        Action::Rot(_) => return node.rot(drive),
        _ => {}
    }
    let mut node = node.clone();
    let said = match action {
        Action::Deliver(letter) | Action::Duplicate(letter) => node.deliver(drive, letter),
        Action::Sync(_) => node.sync(drive),
        Action::Stand(_) => node.stand(drive),
        Action::Move(_, target) => node.hand_over(drive, NODES[*target]),
        Action::Submit(_, command) => node.submit(drive, *command),
        Action::Timer(_) => node.timer(drive),
        Action::Crash(_) | Action::Rot(_) | Action::Drop(_) => Vec::new(),
    };
    (node, said)
}

/// A group in which n1 has been elected, and everybody has applied its first entry.
fn formed(rots: bool) -> State {
    let drive = Drive { sync: true, rots, chatter: false };
    let mut nodes = NODES.map(|id| Node::new(id, drive).0);
    let mut said = nodes[0].stand(drive);
    for round in 0..3 {
        while !said.is_empty() {
            for one in std::mem::take(&mut said) {
                let Said::Send(letter) = one else { continue };
                said.extend(nodes[index_of(&letter)].deliver(drive, &letter));
            }
        }
        if round < 2 {
            said = nodes[0].timer(drive); // Tells the others what is chosen.
        }
    }
    let state = State {
        chosen: nodes[0].chosen().iter().map(Shared::digest).collect(),
        nodes: nodes.map(Shared::new),
        network: Network::new(),
        spent: Spent::default(),
        broken: None,
    };
    let ready = state.nodes.iter().all(|node| node.applied().len() == 1);
    assert!(ready && state.nodes[0].leader.is_serving(), "the group has formed");
    state
}

fn index_of(letter: &Envelope<PaxosMessage>) -> usize {
    usize::from(letter.to.node.0) - 1
}

impl State {
    /// Takes in what a node has done.
    fn follow(&mut self, index: usize, (node, said): &Turn) {
        let before = std::mem::replace(&mut self.nodes[index], node.clone());
        for one in said.iter() {
            match one {
                Said::Send(letter) => self.network.add(letter.clone()),
                Said::Committed(command) => self.spent.answered |= 1 << command,
                Said::Broken(rule, text) => self.breaks(*rule, text.clone()),
            }
        }
        let id = NODES[index];
        let chosen: Vec<u128> = node.chosen().iter().map(Shared::digest).collect();
        if chosen.iter().zip(&self.chosen).any(|(one, other)| one != other) {
            self.breaks(Rule::Agreement, format!("{id} takes something for chosen that contradicts what was chosen"));
        } else if chosen.len() > self.chosen.len() {
            self.chosen = chosen;
        }
        let agree = before.applied().iter().zip(node.applied()).all(|(old, new)| old == new);
        if !agree {
            self.breaks(Rule::AppliedPrefix, format!("{id} has applied something else before"));
        }
        if let Some((one, other, ballot)) = self.torn_ballot() {
            let (one, other) = (NODES[one], NODES[other]);
            self.breaks(Rule::OneLogPerBallot, format!("{one} and {other} have different logs under {ballot}"));
        }
    }

    fn breaks(&mut self, rule: Rule, text: String) {
        self.broken.get_or_insert(Broken { rule, text });
    }

    /// Two nodes whose logs of one ballot are no prefixes of one row.
    fn torn_ballot(&self) -> Option<(usize, usize, Ballot)> {
        [(0, 1), (0, 2), (1, 2)].into_iter().find_map(|(one, other)| {
            let (a, b) = (&self.nodes[one], &self.nodes[other]);
            let ballot = a.replica.accepted();
            let same = ballot == b.replica.accepted() && ballot != Ballot::default();
            let differ = || a.disk.log().iter().zip(b.disk.log()).any(|(one, other)| one != other);
            (same && differ()).then_some((one, other, ballot))
        })
    }
}

impl Model for Paxos {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.initial.clone()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        let (spent, bounds) = (&state.spent, &self.options);
        for letter in state.network.iter() {
            actions.push(Action::Deliver(letter.clone()));
            if spent.duplicates < bounds.duplicates {
                actions.push(Action::Duplicate(letter.clone()));
            }
            if spent.drops < bounds.drops {
                actions.push(Action::Drop(letter.clone()));
            }
        }
        for (index, node) in state.nodes.iter().enumerate() {
            if node.disk.is_dirty() {
                actions.push(Action::Sync(index));
            }
            if spent.crashes < bounds.crashes {
                actions.push(Action::Crash(index));
            }
            // Two damaged disks at once can lose what is chosen; nothing protects from that.
            let others_sound = (0..NODES.len()).all(|other| other == index || !state.nodes[other].disk.is_in_doubt());
            if spent.crashes < bounds.crashes && spent.doubts < bounds.doubts && node.disk.can_rot() && others_sound {
                actions.push(Action::Rot(index));
            }
            if spent.elections < bounds.elections && node.leader.ballot().is_none() {
                actions.push(Action::Stand(index));
            }
            if spent.moves < bounds.moves && node.leader.is_serving() {
                let others = (0..NODES.len()).filter(|other| *other != index);
                actions.extend(others.map(|other| Action::Move(index, other)));
            }
            if spent.timers < bounds.timers {
                actions.push(Action::Timer(index));
            }
            // The next command only: they differ in nothing but their number.
            let next = spent.submitted.trailing_ones() as u8;
            if next < bounds.commands && node.leader.is_serving() {
                actions.push(Action::Submit(index, u64::from(next)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let spent = &mut state.spent;
        let index = match &action {
            Action::Deliver(letter) => {
                state.network.take(letter);
                index_of(letter)
            }
            Action::Duplicate(letter) => {
                spent.duplicates += 1;
                index_of(letter)
            }
            Action::Drop(letter) => {
                spent.drops += 1;
                state.network.take(letter);
                return Some(state);
            }
            Action::Sync(index) => *index,
            Action::Crash(index) => {
                spent.crashes += 1;
                spent.lost |= last.nodes[*index].disk.is_dirty();
                *index
            }
            Action::Rot(index) => {
                spent.doubts += 1;
                spent.crashes += 1;
                spent.lost |= last.nodes[*index].disk.is_dirty();
                *index
            }
            Action::Stand(index) => {
                spent.elections += 1;
                *index
            }
            Action::Move(index, _) => {
                spent.moves += 1;
                *index
            }
            Action::Submit(index, command) => {
                spent.submitted |= 1 << command;
                *index
            }
            Action::Timer(index) => {
                spent.timers += 1;
                *index
            }
        };
        let drive = self.drive(&state.spent);
        let turn = self.turn(&last.nodes[index], &action, drive);
        state.follow(index, &turn);
        if drive.sync && !self.drive(&last.spent).sync {
            // The last crash is over: what the others have written need not wait any more.
            for other in (0..NODES.len()).filter(|other| *other != index) {
                if state.nodes[other].disk.is_dirty() || state.nodes[other].disk.can_rot() {
                    let turn = self.turn(&state.nodes[other].clone(), &Action::Sync(other), drive);
                    state.follow(other, &turn);
                }
            }
        }
        Some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        self.tell(action)
    }

    fn properties(&self) -> Vec<Property<Paxos>> {
        let mut always = vec![
            Property::always("agreement", |_, state: &State| !breaks(state, Rule::Agreement)),
            Property::always("the applied prefix never changes", |_, state: &State| {
                !breaks(state, Rule::AppliedPrefix)
            }),
            Property::always("durable before said", |_, state: &State| !breaks(state, Rule::DurableBeforeSaid)),
            Property::always("one log per ballot", |_, state: &State| !breaks(state, Rule::OneLogPerBallot)),
            Property::always("the roles' assertions hold", |_, state: &State| !breaks(state, Rule::Assertion)),
        ];
        if self.options.invariants.iter().any(|name| name == LOG_MATCHING) {
            always.push(Property::always(LOG_MATCHING, log_matching));
        }
        explore::properties(self, always)
    }
}

/// What should happen, and what it takes.
fn sometimes(bounds: &Options) -> Vec<Sometimes<Paxos>> {
    let Options { elections, moves, crashes, doubts, commands, .. } = *bounds;
    let election = |one: Sometimes<Paxos>| one.needs("--elections 1", elections + moves > 0);
    // A new leader writes its first entry, so an election does for a command where only something must be written.
    let write = |one: Sometimes<Paxos>| one.needs("--commands 1", commands + elections + moves > 0);
    let crash = |one: Sometimes<Paxos>| write(one.needs("--crashes 1", crashes > 0));
    vec![
        Sometimes::new("a command is answered", |_, state: &State| state.spent.answered != 0)
            .needs("--commands 1", commands > 0),
        election(Sometimes::new("a second leader serves", second_serves)),
        election(Sometimes::new("two leaders serve at once", |_, state: &State| {
            state.nodes.iter().filter(|node| node.leader.is_serving()).count() > 1
        })),
        // A leader that hands over has nothing left that is not chosen.
        Sometimes::new("a value accepted under an old ballot is adopted", adopts)
            .needs("--elections 1", elections > 0)
            .needs("--commands 1", commands > 0 || elections > 1),
        crash(Sometimes::new("a crash comes between a write and its sync", |_, state: &State| state.spent.lost)),
        crash(Sometimes::new("something is chosen before the leader's own disk has it", outruns)),
        crash(Sometimes::new("a log in doubt is synchronised", |_, state: &State| {
            state.spent.doubts > 0 && state.nodes.iter().all(|node| !node.disk.is_in_doubt())
        }))
        .needs("--doubt 1", doubts > 0),
    ]
}

/// The extra invariants of this model.
pub(super) const INVARIANTS: &[&str] = &[LOG_MATCHING];
const LOG_MATCHING: &str = "log-matching";

fn breaks(state: &State, rule: Rule) -> bool {
    state.broken.as_ref().is_some_and(|broken| broken.rule == rule)
}

fn second_serves(model: &Paxos, state: &State) -> bool {
    let first = model.initial.nodes[0].leader.ballot();
    state.nodes.iter().any(|node| node.leader.is_serving() && node.leader.ballot() != first)
}

/// A leader knows an entry to be chosen that its own disk has not synced: two followers were faster.
fn outruns(_: &Paxos, state: &State) -> bool {
    let mut leading = state.nodes.iter().filter(|node| node.leader.ballot() == Some(node.replica.accepted()));
    leading.any(|node| node.chosen().len() as u64 > node.disk.synced_len())
}

/// A leader's log has an entry of an older ballot that nobody knows to be chosen.
fn adopts(model: &Paxos, state: &State) -> bool {
    let first = model.initial.nodes[0].leader.ballot();
    state.nodes.iter().any(|node| {
        let leads = node.leader.ballot() == Some(node.replica.accepted()) && node.leader.ballot() != first;
        // What it adopted lies before its own first entry, the last one of a log that was just synchronised.
        leads && !node.leader.is_serving() && node.disk.log().len() > state.chosen.len() + 1
    })
}

/// An entry on its way under a ballot is what everybody has there whose log is of that ballot.
fn log_matching(_: &Paxos, state: &State) -> bool {
    let agrees = |ballot: Ballot, slot: u64, entry: &bytes::Bytes| {
        state
            .nodes
            .iter()
            .filter(|node| node.replica.accepted() == ballot)
            .all(|node| node.disk.log().get(slot as usize).is_none_or(|own| **own == *entry))
    };
    state.network.iter().all(|letter| match &letter.message {
        PaxosMessage::Accept(accept) => agrees(accept.ballot, accept.slot.0, &accept.entry),
        PaxosMessage::Synchronise(sync) => {
            let slots = sync.start.0..;
            slots.zip(&sync.entries).all(|(slot, entry)| agrees(sync.ballot, slot, entry))
        }
        _ => true,
    })
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spent { elections, moves, crashes, timers, .. } = self;
        write!(f, "{elections} elections, {moves} hand-overs, {crashes} crashes, {timers} timers")
    }
}

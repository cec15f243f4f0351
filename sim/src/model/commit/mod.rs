//! Two-phase commit: two groups, leaders that fail, and a network between them that keeps no order.
//!
//! A node is the real [`Coordinator`](drachma_protocol::txn::Coordinator) and
//! [`Participant`](drachma_protocol::txn::Participant), a group the real [`Ledger`](drachma_protocol::ledger::Ledger).
//! What lies between them is taken for granted, since the other model checks it: a group's log is one row; what a
//! leader proposes is chosen in its order or lost when the leader fails; its successor's first entry comes before
//! anything that it proposes. A deposed leader may go on until it learns of its successor.

mod group;
mod node;
mod show;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stateright::{Model, Property};

use drachma_protocol::ids::{Attempt, TxnId};
use drachma_protocol::ledger::model::Outcome;
use drachma_protocol::ledger::output::TxnOutput;
use drachma_protocol::message::TxnMessage;
use drachma_protocol::message::command::{Command, Content};
use drachma_protocol::message::txn::VoteKind;
use drachma_protocol::time::{LogTime, Time};

use super::explore::{self, Sometimes};
use super::network::{Envelope, Network};
use super::shared::{Memo, Shared, digest};
use super::{Broken, Options, Rule, panic_text};
use group::{Books, ballot};
use node::{Answer, GROUPS, Node, Said, Stimulus, transfer};

type Letter = Shared<Envelope<TxnMessage>>;
type Turn = (Shared<Node>, Arc<Vec<Said>>, Option<String>);
type Applied = (Shared<Books>, Arc<Vec<TxnOutput>>, Option<String>);

/// How often a client sends its request.
const SENDS: u8 = 2;
/// Timers that fire at most until everything has come to rest.
const PATIENCE: usize = 60;

/// One group.
#[derive(Clone, Debug, Hash, PartialEq)]
struct Group {
    books: Shared<Books>,
    leader: usize,
    /// A deposed leader that does not know it yet.
    deposed: Option<usize>,
    round: u64,
    /// Log time at a moment of the leader's clock.
    clock: (LogTime, Time),
    pending: Vec<Shared<Vec<Command>>>,
    /// Every yes that applying an entry has yielded here; kept only for the invariant about it.
    voted: BTreeSet<(TxnId, Attempt)>,
}

/// One client with its transfer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Client {
    sends: u8,
    /// The node that owes it an answer.
    waits: Option<usize>,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Spent {
    failures: u8,
    crashes: u8,
    duplicates: u8,
    drops: u8,
    timers: u8,
    told_again: bool,
    /// A group has lost its leader while it held something for the other one.
    held_over: bool,
}

/// A state of the model.
#[derive(Clone, Debug, Hash, PartialEq)]
pub(super) struct State {
    groups: [Group; 2],
    nodes: [Shared<Node>; 4],
    network: Network<TxnMessage>,
    clients: Vec<Client>,
    spent: Spent,
    broken: Option<Broken>,
}

/// One step of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Deliver(Letter),
    Duplicate(Letter),
    Drop(Letter),
    /// The first of what waits is chosen and applied.
    Choose(usize),
    /// The leader fails; so many of what waits are adopted. It crashes, or goes on without knowing.
    Fail {
        group: usize,
        adopted: usize,
        crash: bool,
    },
    /// A deposed leader learns of its successor.
    Learn(usize),
    Submit(u8),
    Timer(usize),
    /// Log time goes on, and what waits in the group expires.
    Expire(usize),
}

/// The model, with its bounds.
pub(super) struct Commit {
    options: Options,
    initial: State,
    turns: Memo<Turn>,
    entries: Memo<Applied>,
}

impl Commit {
    pub(super) fn new(options: &Options) -> Commit {
        let commands = options.commands;
        let nodes = [0, 1, 2, 3].map(Node::new);
        let group = |index: usize| Group {
            books: Shared::new(Books::new(index, commands)),
            leader: 2 * index,
            deposed: None,
            round: 0,
            clock: (LogTime(0), Time(0)),
            pending: Vec::new(),
            voted: BTreeSet::new(),
        };
        let empty = State {
            groups: [group(0), group(1)],
            nodes: nodes.map(Shared::new),
            network: Network::new(),
            clients: vec![Client::default(); usize::from(commands)],
            spent: Spent::default(),
            broken: None,
        };
        let (turns, entries) = (Memo::new(), Memo::new());
        let mut model = Commit { options: options.clone(), initial: empty.clone(), turns, entries };
        model.initial = empty;
        for group in 0..GROUPS.len() {
            let mut state = model.initial.clone();
            model.lead(&mut state, group, 2 * group);
            model.initial = state;
        }
        model
    }

    /// Something happens to a node.
    fn give(&self, state: &mut State, index: usize, stimulus: &Stimulus) {
        let node = &state.nodes[index];
        let what = match stimulus {
            Stimulus::Letter(letter) => letter.digest(),
            other => digest(other),
        };
        let (node, said, panic) = self.turns.get(digest(&(node.digest(), what)), || {
            let step = || {
                let mut next = (**node).clone();
                let said = next.take(stimulus);
                (next, said)
            };
            match catch_unwind(AssertUnwindSafe(step)) {
                Ok((next, said)) => (Shared::new(next), Arc::new(said), None),
                Err(panic) => (node.clone(), Arc::default(), Some(panic_text(panic.as_ref()))),
            }
        });
        state.nodes[index] = node;
        if let Some(text) = panic {
            state.breaks(text);
        }
        let group = &mut state.groups[index / 2];
        for one in said.iter() {
            match one {
                Said::Send(letter) => state.network.add(letter.clone()),
                Said::Propose(commands) if group.leader == index => group.pending.push(commands.clone()),
                Said::Propose(_) => {} // Its leader role does not lead any more.
                Said::Answer(number, answer) => state.clients[usize::from(*number)].take(*answer),
            }
        }
    }

    /// An entry is chosen and applied; what it yielded.
    fn apply(&self, state: &mut State, index: usize, time: LogTime, content: Content) -> Arc<Vec<TxnOutput>> {
        let books = &state.groups[index].books;
        let key = digest(&(books.digest(), time, &content));
        let (books, events, panic) = self.entries.get(key, || {
            let step = || books.apply(time, content.clone(), self.options.commands);
            match catch_unwind(AssertUnwindSafe(step)) {
                Ok((next, events)) => (Shared::new(next), Arc::new(events), None),
                Err(panic) => (books.clone(), Arc::default(), Some(panic_text(panic.as_ref()))),
            }
        });
        let group = &mut state.groups[index];
        group.books = books;
        if self.keeps_votes() {
            group.keep_votes(&events);
        }
        if let Some(text) = panic {
            state.breaks(text);
        }
        events
    }

    /// A node is elected, and its first entry applied.
    fn lead(&self, state: &mut State, index: usize, leader: usize) {
        let group = &mut state.groups[index];
        group.round += 1;
        group.leader = leader;
        let content = group.books.start(index, ballot(group.round, leader));
        self.apply(state, index, LogTime(0), content);
        let group = &mut state.groups[index];
        group.clock = (group.books.ledger.time(), state.nodes[leader].now);
        let serve = Box::new(group.books.serve());
        self.give(state, leader, &Stimulus::Serve(serve));
    }

    fn choose(&self, state: &mut State, index: usize) {
        let commands = state.groups[index].pending.remove(0);
        let time = state.log_time(index);
        let events = self.apply(state, index, time, Content::Commands((*commands).clone()));
        self.pass_on(state, index, &events);
    }

    fn pass_on(&self, state: &mut State, index: usize, events: &[TxnOutput]) {
        if !events.is_empty() {
            let leader = state.groups[index].leader;
            self.give(state, leader, &Stimulus::Events(events.to_vec()));
        }
    }

    fn fail(&self, state: &mut State, index: usize, adopted: usize, crash: bool) {
        let old = state.groups[index].leader;
        let pending = std::mem::take(&mut state.groups[index].pending);
        for commands in pending.into_iter().take(adopted) {
            let time = state.log_time(index);
            self.apply(state, index, time, Content::Commands((*commands).clone()));
        }
        if crash {
            state.nodes[old] = Shared::new(state.nodes[old].restarted());
            state.clients.iter_mut().filter(|client| client.waits == Some(old)).for_each(|client| client.waits = None);
        }
        state.groups[index].deposed = (!crash).then_some(old);
        let mut sides = state.groups[index].books.sides.iter().enumerate();
        state.spent.held_over |= sides.any(|(number, side)| side.1 && home(number as u8) != index);
        self.lead(state, index, old ^ 1);
    }

    fn learn(&self, state: &mut State, index: usize) {
        let group = &mut state.groups[index];
        let leader = node::node_id(group.leader);
        if let Some(old) = group.deposed.take() {
            self.give(state, old, &Stimulus::Follow(leader));
        }
    }

    fn expire(&self, state: &mut State, index: usize) {
        let time = state.groups[index].books.ledger.next_expiry().unwrap_or_default();
        let events = self.apply(state, index, time, Content::Commands(Vec::new()));
        self.pass_on(state, index, &events);
    }

    /// Everything is delivered, chosen and learned, until nothing is in doubt; or it never ends.
    fn comes_to_rest(&self, state: &State) -> bool {
        let mut state = state.clone();
        for _ in 0..PATIENCE {
            for group in 0..GROUPS.len() {
                self.learn(&mut state, group);
            }
            while let Some(letter) = state.network.pop() {
                self.give(&mut state, index_of(&letter), &Stimulus::Letter(letter));
            }
            for group in 0..GROUPS.len() {
                while !state.groups[group].pending.is_empty() {
                    self.choose(&mut state, group);
                }
            }
            if !state.is_quiet() {
                continue;
            }
            if state.groups.iter().all(|group| group.books.at_rest) {
                return state.broken.is_none() && atomic(&state);
            }
            let waiting = (0..GROUPS.len()).find(|group| state.groups[*group].books.ledger.next_expiry().is_some());
            for index in 0..state.nodes.len() {
                if state.nodes[index].deadline().is_some() {
                    self.give(&mut state, index, &Stimulus::Timer);
                }
            }
            if let (Some(group), true) = (waiting, state.is_quiet()) {
                self.expire(&mut state, group);
            }
        }
        false
    }
}

fn index_of(letter: &Envelope<TxnMessage>) -> usize {
    usize::from(letter.to.node.0) - 1
}

/// The group that coordinates a transfer.
fn home(number: u8) -> usize {
    usize::from(transfer(number).debit.0 > 2)
}

impl Group {
    fn keep_votes(&mut self, events: &[TxnOutput]) {
        for event in events {
            if let TxnOutput::Voted { txn, attempt, vote: VoteKind::Yes, .. } = event {
                self.voted.insert((*txn, *attempt));
            }
        }
    }
}

impl Client {
    fn take(&mut self, answer: Option<Answer>) {
        self.waits = None;
        self.answer = self.answer.or(answer);
    }
}

impl State {
    fn breaks(&mut self, text: String) {
        self.broken.get_or_insert(Broken { rule: Rule::Assertion, text });
    }

    /// The log time that the group's leader gives to its next entry.
    fn log_time(&self, index: usize) -> LogTime {
        let group = &self.groups[index];
        group.clock.0 + self.nodes[group.leader].now.since(group.clock.1)
    }

    /// Nothing is on its way, within groups or between them.
    fn is_quiet(&self) -> bool {
        self.network.is_empty() && self.groups.iter().all(|group| group.pending.is_empty())
    }
}

impl Model for Commit {
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
        for (index, group) in state.groups.iter().enumerate() {
            if !group.pending.is_empty() {
                actions.push(Action::Choose(index));
            }
            if group.deposed.is_some() {
                actions.push(Action::Learn(index));
            }
            if spent.timers < bounds.timers && group.books.ledger.next_expiry().is_some() {
                actions.push(Action::Expire(index));
            }
            if spent.failures < bounds.elections {
                for adopted in 0..=group.pending.len() {
                    actions.push(Action::Fail { group: index, adopted, crash: false });
                    if spent.crashes < bounds.crashes {
                        actions.push(Action::Fail { group: index, adopted, crash: true });
                    }
                }
            }
        }
        for (number, client) in state.clients.iter().enumerate() {
            let leader = state.groups[home(number as u8)].leader;
            if client.answer.is_none() && client.sends < SENDS && client.waits != Some(leader) {
                actions.push(Action::Submit(number as u8));
            }
        }
        if spent.timers < bounds.timers {
            let armed = (0..state.nodes.len()).filter(|index| state.nodes[*index].deadline().is_some());
            actions.extend(armed.map(Action::Timer));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Deliver(letter) => {
                state.network.take(&letter);
                self.deliver(&mut state, letter);
            }
            Action::Duplicate(letter) => {
                state.spent.duplicates += 1;
                self.deliver(&mut state, letter);
            }
            Action::Drop(letter) => {
                state.spent.drops += 1;
                state.network.take(&letter);
            }
            Action::Choose(group) => self.choose(&mut state, group),
            Action::Fail { group, adopted, crash } => {
                state.spent.failures += 1;
                state.spent.crashes += u8::from(crash);
                self.fail(&mut state, group, adopted, crash);
            }
            Action::Learn(group) => self.learn(&mut state, group),
            Action::Submit(number) => {
                let leader = state.groups[home(number)].leader;
                let client = &mut state.clients[usize::from(number)];
                (client.sends, client.waits) = (client.sends + 1, Some(leader));
                self.give(&mut state, leader, &Stimulus::Request(number));
            }
            Action::Timer(index) => {
                state.spent.timers += 1;
                self.give(&mut state, index, &Stimulus::Timer);
            }
            Action::Expire(group) => {
                state.spent.timers += 1;
                self.expire(&mut state, group);
            }
        }
        Some(state)
    }

    fn format_action(&self, action: &Action) -> String {
        explore::Told::tell(self, action)
    }

    fn properties(&self) -> Vec<Property<Commit>> {
        let mut always = vec![
            Property::always("atomicity", |_, state: &State| atomic(state)),
            Property::always("conservation, and nothing takes effect twice", |_, state: &State| {
                state.groups.iter().all(|group| group.books.balanced)
            }),
            Property::always("what is answered is what happened", |_, state: &State| told_true(state)),
            Property::always("the roles' assertions hold", |_, state: &State| state.broken.is_none()),
            Property::always("without faults everything comes to rest", |model: &Commit, state: &State| {
                !state.is_quiet() || state.broken.is_some() || model.comes_to_rest(state)
            }),
        ];
        if self.keeps_votes() {
            always.push(Property::always(VOTES_ARE_APPLIED, votes_are_applied));
        }
        explore::properties(self, always)
    }
}

/// What should happen, and what it takes.
fn sometimes(bounds: &Options) -> Vec<Sometimes<Commit>> {
    let command = |one: Sometimes<Commit>| one.needs("--commands 1", bounds.commands > 0);
    let commands = |one: Sometimes<Commit>| one.needs("--commands 2", bounds.commands > 1);
    let election = |one: Sometimes<Commit>| one.needs("--elections 1", bounds.elections > 0);
    let timer = |one: Sometimes<Commit>| one.needs("--timers 1", bounds.timers > 0);
    // Preparing ends before anything is sent again, so that takes a copy, or a new coordinator that asks anew.
    let copy = |one: Sometimes<Commit>| one.needs("--duplicating 1", bounds.elections + bounds.duplicates > 0);
    vec![
        command(Sometimes::new("a client is told `committed`", |_, state: &State| is_told(state, Answer::Committed))),
        commands(Sometimes::new("a client is told `rejected`", |_, state: &State| is_told(state, Answer::Rejected))),
        election(command(Sometimes::new("a new coordinator decides", |_, state: &State| {
            state.groups.iter().any(|group| group.books.decided_for_another)
        }))),
        election(command(Sometimes::new("a participant fails over with a transfer in doubt", |_, state: &State| {
            state.spent.held_over
        }))),
        election(Sometimes::new("a deposed leader goes on", |_, state: &State| {
            state.groups.iter().any(|group| group.deposed.is_some())
        })),
        timer(command(Sometimes::new("an aborted transfer is tried again", |_, state: &State| {
            state.groups.iter().any(|group| group.books.tried_again)
        }))),
        copy(command(Sometimes::new("a vote is told again", |_, state: &State| state.spent.told_again))),
    ]
}

fn is_told(state: &State, answer: Answer) -> bool {
    state.clients.iter().any(|client| client.answer == Some(answer))
}

impl Commit {
    fn keeps_votes(&self) -> bool {
        self.options.invariants.iter().any(|name| name == VOTES_ARE_APPLIED)
    }

    fn deliver(&self, state: &mut State, letter: Letter) {
        let index = index_of(&letter);
        let votes = |state: &State| state.network.iter().filter(|l| matches!(l.message, TxnMessage::Vote(_))).count();
        let before = votes(state);
        let prepare = matches!(letter.message, TxnMessage::Prepare(_));
        self.give(state, index, &Stimulus::Letter(letter));
        // Nothing was applied, so the vote was there before.
        state.spent.told_again |= prepare && votes(state) > before;
    }
}

/// The extra invariants of this model.
pub(super) const INVARIANTS: &[&str] = &[VOTES_ARE_APPLIED];
const VOTES_ARE_APPLIED: &str = "votes-are-applied";

/// No group has posted a side that the other one has not posted, or holds for it.
fn atomic(state: &State) -> bool {
    (0..state.clients.len()).all(|number| {
        let home = home(number as u8);
        let (decided, _) = state.groups[home].books.sides[number];
        let (other, held) = state.groups[1 - home].books.sides[number];
        match (decided, other) {
            (Some(Outcome::Committed), None) => held,
            (_, Some(Outcome::Committed)) => decided == Some(Outcome::Committed),
            (Some(decided), Some(other)) => decided == other,
            (_, None) | (None, Some(Outcome::Rejected(_))) => true,
        }
    })
}

/// What clients were told is in the log of the coordinator's group.
fn told_true(state: &State) -> bool {
    state.clients.iter().enumerate().all(|(number, client)| {
        let (decided, _) = state.groups[home(number as u8)].books.sides[number];
        match client.answer {
            None => true,
            Some(Answer::Committed) => decided == Some(Outcome::Committed),
            Some(Answer::Rejected) => matches!(decided, Some(Outcome::Rejected(_))),
        }
    })
}

/// A yes on its way is what applying an entry has yielded: no leader votes from what it has only proposed (hazard S9).
fn votes_are_applied(_: &Commit, state: &State) -> bool {
    state.network.iter().all(|letter| match &letter.message {
        TxnMessage::Vote(vote) if vote.vote == VoteKind::Yes => {
            let mut groups = GROUPS.iter().zip(&state.groups);
            groups.any(|(id, group)| *id == vote.group && group.voted.contains(&(vote.txn, vote.attempt)))
        }
        _ => true,
    })
}

//! The simulated world: one queue of events in simulated time, nodes that run real roles, a network, disks, clients and
//! faults. Everything that happens follows from the seed.
//!
//! A role is driven as the actors do it: everything that has come to it is handed in, then it gets its turn; which of a
//! node's roles goes first is drawn. What leaves a node is encoded, and decoded where it arrives.

mod damage;
mod effects;
mod events;
mod fate;
mod healing;
mod late;
pub mod past;
mod strike;
#[cfg(test)]
mod tests;
mod watching;
mod wire;
mod work;

pub use strike::Loss;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::client::Response;
use drachma_protocol::rng::Rng;
use drachma_protocol::role::{Address, Effects, Input};

use crate::checkers::{Answered, Checkers, Class, Violation};
use crate::client::{Alarm, Client};
use crate::clock::Clock;
use crate::coverage::Coverage;
use crate::disk::Crash;
use crate::faults::{Fall, Injector, Point, Swarm};
use crate::history::History;
use crate::mover::Mover;
use crate::network::Network;
use crate::node::{Assembly, Node};
use crate::panics;
use crate::stranger::Stranger;
use crate::trace::{Keep, Trace};
use events::{Event, Queue};
use work::Work;

/// How often the accounts of all replicas are looked at, in microseconds.
const SAMPLE_EVERY: u64 = 250_000;
/// How often the end is looked for once everything is healed, in microseconds.
const REST_EVERY: u64 = 100_000;
/// More events than any run needs: a role that spins.
const EVENT_LIMIT: u64 = 20_000_000;

/// A node that is to go down, or to stand still, when it comes to some point.
#[derive(Clone, Copy, Debug)]
struct Trap {
    node: usize,
    // Whoever comes there first, instead of that node.
    anyone: bool,
    point: Point,
    // How often it comes there before.
    skip: u32,
    // How it goes down; nothing if it stands still, once the step that brought it there is done.
    crash: Option<Crash>,
    length: u64,
}

/// The world of one run.
pub struct World<'a> {
    assembly: &'a dyn Assembly,
    swarm: &'a Swarm,
    now: u64,
    queue: Queue,
    nodes: Vec<Node>,
    network: Network,
    // Where frames are encoded.
    scratch: Vec<u8>,
    clients: Vec<Client>,
    stranger: Stranger,
    mover: Mover,
    injector: Injector,
    rng: Rng,
    trap: Option<Trap>,
    // What follows when the trap has sprung.
    falls: Vec<Fall>,
    // Whose traffic shows that it leads.
    leaders: BTreeMap<GroupId, NodeId>,
    // Who has been told that whom is gone.
    lost: BTreeSet<(NodeId, NodeId)>,
    // Groups whose first entry was applied somewhere.
    begun: BTreeSet<GroupId>,
    // What was applied anywhere, by group.
    chosen: BTreeMap<GroupId, Vec<Bytes>>,
    healed: bool,
    // Who runs, and is judged, once it is healed.
    healthy: BTreeSet<NodeId>,
    // Whose promises counted in a majority when it was healed.
    voters: BTreeSet<(NodeId, GroupId)>,
    // Some group cannot come back, whoever is healed.
    hopeless: bool,
    /// How many transfers and transactions had an answer when that was last looked at, and when.
    progress: (usize, u64),
    // That it does not come to rest is no finding.
    patient: bool,
    // When it began.
    since: u64,
    checkers: Checkers,
    history: History,
    trace: Trace,
    coverage: Coverage,
    violation: Option<Violation>,
    // How many events there may be before nobody is interested any more.
    patience: u64,
    strike: Option<strike::Strike>,
    late: late::Proposals,
}

/// What a run was.
#[derive(Debug)]
pub struct Outcome {
    /// The finding that ended it.
    pub violation: Option<Violation>,
    /// Equal for equal runs.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// How long it was, in simulated microseconds.
    pub length: u64,
    /// How many faults were drawn.
    pub faults: u64,
    /// How long it took to come to rest once it was healed, in simulated microseconds.
    pub rest: u64,
    /// How long it might have taken for that, in simulated microseconds.
    pub bound: u64,
    /// Some group could not come back, whoever was healed, so nothing was asked of the end.
    pub hopeless: bool,
    /// What happened how often: faults, messages, rows, timers, what the roles told.
    pub coverage: Coverage,
    /// What the clients asked and were told.
    pub history: History,
    /// How many lines before them were not kept.
    pub left_out: u64,
    /// The last lines of the trace, if it was asked for.
    pub lines: Vec<String>,
}

impl<'a> World<'a> {
    /// A world before its first moment; `lines` of its trace are kept.
    pub fn new(swarm: &'a Swarm, assembly: &'a dyn Assembly, checkers: Checkers, rng: &mut Rng, lines: usize) -> Self {
        // One stream for each purpose, so that fewer of one thing shift the draws of no other.
        let (mut for_nodes, mut for_clients) = (rng.fork(), rng.fork());
        let for_moves = rng.clone().fork();
        let node = |id| Node::new(id, swarm.shape.groups_on(id), for_nodes.fork());
        let mut nodes: Vec<Node> = swarm.shape.nodes().into_iter().map(node).collect();
        for node in &mut nodes {
            node.clocks = Clock::new(swarm.drift.draw(&mut node.rng));
        }
        let client = |number| Client::new(&swarm.clients, &swarm.shape, for_clients.fork()).numbered(number);
        let clients = (0..swarm.client_count).map(client).collect();
        World {
            assembly,
            swarm,
            now: 0,
            queue: Queue::default(),
            nodes,
            network: Network::new(swarm.network.clone(), rng.fork()),
            scratch: Vec::new(),
            clients,
            stranger: Stranger::new(rng.fork()),
            mover: Mover::new(for_moves),
            injector: Injector::new(swarm, rng.fork()),
            rng: rng.fork(),
            trap: None,
            falls: Vec::new(),
            leaders: BTreeMap::new(),
            lost: BTreeSet::new(),
            begun: BTreeSet::new(),
            chosen: BTreeMap::new(),
            healed: false,
            healthy: BTreeSet::new(),
            voters: BTreeSet::new(),
            hopeless: false,
            progress: (0, 0),
            patient: false,
            since: 0,
            checkers,
            history: History::default(),
            trace: Trace::new(Keep::lines(lines)),
            coverage: Coverage::default(),
            violation: None,
            patience: u64::MAX,
            strike: None,
            late: late::Proposals::default(),
        }
    }

    /// Keeps this of the trace.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.trace = Trace::new(keep);
        self
    }

    /// Gives up after so many events, without a finding.
    pub fn until_bored(mut self, events: u64) -> Self {
        self.patience = events;
        self
    }

    /// Runs to the end: until everything is at rest, the time is over, or something is found. A role that panics is
    /// a finding, where the build lets panics be caught.
    pub fn run(mut self) -> Outcome {
        if let Err(text) = panics::catch(|| self.go()) {
            self.trace.event(self.now, b"panic", || format!("PANIC {text}"));
            self.fail("assertion", Class::Crash, text);
        }
        self.outcome()
    }

    fn go(&mut self) {
        let swarm = self.swarm;
        self.check_begin(swarm);
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        for client in 0..self.swarm.client_count {
            self.at(self.now + 1 + u64::from(client), Event::Alarm { client, alarm: Alarm::Begin });
        }
        self.since = self.now;
        self.at(self.now + SAMPLE_EVERY, Event::Sample);
        if self.swarm.stranger {
            self.at(self.now + SAMPLE_EVERY, Event::Strange);
        }
        if self.swarm.moves.is_some() {
            self.at(self.now + SAMPLE_EVERY, Event::Move);
        }
        self.at(self.now + self.swarm.safety, Event::Heal);
        self.schedule_fault();
        while self.violation.is_none() && self.trace.events() < self.patience {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = at;
            if matches!(event, Event::Rest) && self.is_over() {
                break;
            }
            self.happen(event);
            if self.trace.events() > EVENT_LIMIT {
                self.fail("world", Class::Liveness, "a role spins: too many events".to_owned());
            }
        }
    }

    fn outcome(self) -> Outcome {
        Outcome {
            violation: self.violation,
            hash: self.trace.hash(),
            events: self.trace.events(),
            length: self.now,
            rest: self.now.saturating_sub(self.since + self.swarm.safety),
            bound: self.swarm.bound(),
            hopeless: self.hopeless,
            coverage: self.coverage,
            history: self.history,
            faults: self.injector.drawn(),
            left_out: self.trace.left_out(),
            lines: self.trace.into_lines(),
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    fn fail(&mut self, checker: &'static str, class: Class, text: String) {
        self.violation.get_or_insert(Violation { checker, class, text });
    }

    fn check(&mut self, found: Result<(), Violation>) {
        if let Err(violation) = found {
            self.violation.get_or_insert(violation);
        }
    }

    fn check_begin(&mut self, swarm: &Swarm) {
        let begun = self.checkers.ask(|checker| {
            checker.on_begin(swarm);
            Ok(())
        });
        self.check(begun);
    }

    fn is_current(&self, node: usize, boot: u32) -> bool {
        self.nodes[node].boot == boot && self.nodes[node].is_up()
    }

    fn index_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|n| n.id == node)
    }

    /// Whether a node may run: once all is healed, only those that were.
    fn may_run(&self, node: usize) -> bool {
        !self.healed || self.healthy.contains(&self.nodes[node].id)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { link, arrival, bytes } => self.on_frame(link, arrival, &bytes),
            Event::Stall { link, life } => self.on_stall(link, life),
            Event::Alarm { client, alarm } => {
                self.clients[client as usize].on_alarm(self.now, alarm, &mut self.history);
                self.grant(client);
            }
            Event::Timer { node, boot, seat } if self.is_current(node, boot) => self.on_timer(node, seat),
            Event::Again { node, boot, seat } if self.is_current(node, boot) => {
                self.nodes[node].seats[seat].turn = true;
                self.run_node(node);
            }
            Event::Echo { node, boot, to, input } if self.is_current(node, boot) => {
                self.nodes[node].put(to, *input);
                self.run_node(node);
            }
            Event::Go { node, boot } if self.is_current(node, boot) => {
                self.nodes[node].busy = false;
                self.run_node(node);
            }
            Event::Synced { node, boot } if self.is_current(node, boot) => self.on_synced(node),
            Event::Fetched { node, boot, seat, start, entries } if self.is_current(node, boot) => {
                self.nodes[node].seats[seat].mailbox.push_back(Input::Fetched { start, entries });
                self.run_node(node);
            }
            Event::Snapshotted { node, boot, seat, slot, bytes } if self.is_current(node, boot) => {
                let group = self.nodes[node].seats[seat].address.group;
                self.nodes[node].disk.finish_snapshot(group);
                self.nodes[node].seats[seat].mailbox.push_back(Input::Snapshotted { slot, bytes });
                self.run_node(node);
            }
            Event::SnapshotRead { node, boot, seat, slot, offset, piece } if self.is_current(node, boot) => {
                self.nodes[node].seats[seat].mailbox.push_back(Input::SnapshotRead { slot, offset, piece });
                self.run_node(node);
            }
            Event::Link { node, boot, peer, change } if self.is_current(node, boot) => self.on_link(node, peer, change),
            Event::Fault => self.on_fault(),
            Event::Mend(links) => self.mend(&links),
            Event::Clog { node, until } => self.clog(node, until),
            Event::Start { node, boot }
                if self.nodes[node].boot == boot && !self.nodes[node].is_up() && self.may_run(node) =>
            {
                self.start(node);
            }
            Event::Relapse { node, boot, falls } if self.is_current(node, boot) => self.relapse(node, falls),
            Event::Resume { node, boot } if self.is_current(node, boot) => self.resume(node),
            Event::Hasten { node, slow } if self.nodes[node].slow == slow => self.nodes[node].slow = 0,
            Event::Late { number } => self.on_late(number),
            Event::Strange => self.on_strange(),
            Event::Move => self.on_move(),
            Event::Sample => self.sample(),
            Event::Heal => self.heal(),
            Event::Rest => self.at(self.now + REST_EVERY, Event::Rest),
            Event::Strike => self.on_strike(),
            Event::Timer { .. }
            | Event::Again { .. }
            | Event::Echo { .. }
            | Event::Go { .. }
            | Event::Synced { .. }
            | Event::Fetched { .. }
            | Event::Snapshotted { .. }
            | Event::SnapshotRead { .. }
            | Event::Link { .. }
            | Event::Start { .. }
            | Event::Relapse { .. }
            | Event::Resume { .. }
            | Event::Hasten { .. } => {}
        }
    }

    fn on_strange(&mut self) {
        if self.healed {
            return;
        }
        let (node, correlation, request) = self.stranger.ask(self.now, &self.swarm.shape, &mut self.history);
        self.ask(self.swarm.client_count, node, correlation, &request);
        let pause = self.stranger.pause();
        self.at(self.now + pause, Event::Strange);
    }

    fn on_move(&mut self) {
        let Some(mean) = self.swarm.moves.filter(|_| !self.healed) else { return };
        let (node, correlation, request) = self.mover.ask(&self.swarm.shape, &self.leaders);
        self.ask(self.swarm.client_count + 1, node, correlation, &request);
        let pause = self.mover.pause(mean);
        self.at(self.now + pause, Event::Move);
    }

    fn on_response(&mut self, client: u32, correlation: u64, from: NodeId, response: &Response) {
        let Some(asker) = self.clients.get_mut(client as usize) else { return self.stranger.on_response(response) };
        let reads = self.history.reads.len();
        let settled = asker.on_response(self.now, from, correlation, response, &mut self.history);
        for (txn, outcome) in settled {
            self.see_answer(from, txn, outcome);
            if let Some(record) = self.history.answer(self.now, txn, outcome) {
                let answered = Answered { client, record };
                let found = self.checkers.ask(|checker| checker.on_answer(&answered));
                self.check(found);
            }
        }
        for read in reads..self.history.reads.len() {
            let found = self.checkers.ask(|checker| checker.on_read(client, &self.history.reads[read]));
            self.check(found);
        }
        self.grant(client);
    }

    fn on_timer(&mut self, node: usize, seat: usize) {
        let now = self.now;
        let host = &mut self.nodes[node];
        let clock = host.clock(now);
        let place = &mut host.seats[seat];
        if place.armed != Some(now) {
            return; // It was armed anew, for an earlier time.
        }
        place.armed = None;
        if host.paused {
            return; // It is armed again when the node goes on.
        }
        if place.role.deadline().is_some_and(|deadline| deadline <= clock) {
            place.mailbox.push_back(Input::Timer);
            let address = place.address;
            self.trace.event(now, b"timer", || format!("{} timer", name(address)));
            self.run_node(node);
        } else {
            self.arm(node, seat);
        }
    }

    /// Lets the roles of a node work until nothing is left to do there. A slow node does one thing, and the next when the
    /// time of that is over.
    fn run_node(&mut self, node: usize) {
        let boot = self.nodes[node].boot;
        while self.is_current(node, boot)
            && !self.nodes[node].paused
            && !self.nodes[node].busy
            && self.violation.is_none()
        {
            let Some(seat) = self.nodes[node].next_seat() else { return };
            let waiting = self.nodes[node].seats[seat].mailbox.len();
            for _ in 0..waiting {
                let Some(input) = self.nodes[node].seats[seat].mailbox.pop_front() else { break };
                self.nodes[node].seats[seat].turn = true;
                self.step(node, seat, input);
                if !self.is_current(node, boot) || self.nodes[node].busy {
                    return;
                }
            }
            if waiting == 0 {
                self.nodes[node].seats[seat].turn = false;
                self.step(node, seat, Input::Turn);
            }
        }
    }

    fn step(&mut self, node: usize, seat: usize, input: Input) {
        let now = self.now;
        let host = &mut self.nodes[node];
        let (clock, boot) = (host.clock(now), host.boot);
        assert!(clock >= host.told, "the clock of a node never goes back for its roles");
        host.told = clock;
        let place = &mut host.seats[seat];
        let mut work = Work::default();
        let applies = matches!(input, Input::Turn);
        let mut effects = std::mem::replace(&mut place.effects, Effects::new(place.address));
        place.role.step(clock, input, &mut effects);
        if let (true, Some(ledger)) = (applies, place.role.ledger()) {
            work.operations = ledger.last_work() as u64;
        }
        self.look(node, seat);
        while let Some(effect) = effects.pop() {
            work.add(&effect);
            self.carry_out(node, seat, effect);
            if !self.is_current(node, boot) {
                return; // It went down in the middle: the rest never happened.
            }
        }
        self.nodes[node].seats[seat].effects = effects;
        if work.cost() > work::MOST {
            let who = name(self.nodes[node].seats[seat].address);
            self.fail("work", Class::Liveness, format!("{who} did too much in one step: {work:?}"));
        }
        self.arm(node, seat);
        let slow = self.nodes[node].slow;
        if slow > 0 {
            self.nodes[node].busy = true;
            self.at(now + slow, Event::Go { node, boot });
        }
    }

    /// Sees to it that the role's deadline is looked at in time.
    fn arm(&mut self, node: usize, seat: usize) {
        let host = &self.nodes[node];
        let Some(deadline) = host.seats[seat].role.deadline() else { return };
        let at = host.clocks.moment(deadline).max(self.now + 1);
        if host.seats[seat].armed.is_none_or(|armed| at < armed) {
            let boot = host.boot;
            self.nodes[node].seats[seat].armed = Some(at);
            self.at(at, Event::Timer { node, boot, seat });
        }
    }

    /// The same for all roles of a node, whose clock may go differently now.
    fn arm_all(&mut self, node: usize) {
        for seat in 0..self.nodes[node].seats.len() {
            self.arm(node, seat);
        }
    }
}

/// `g1/n1/leader`.
fn name(address: Address) -> String {
    format!("{}/{}/{:?}", address.group, address.node, address.role)
}

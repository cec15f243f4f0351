//! The simulated world: one queue of events in simulated time, nodes that run real roles, a network, disks, clients and
//! faults. Everything that happens follows from the seed.
//!
//! A role is driven as the actors do it: everything that has come to it is handed in, then it gets its turn; which of a
//! node's roles goes first is drawn. What leaves a node is encoded, and decoded where it arrives.

mod damage;
mod effects;
mod fate;
pub mod past;
mod strike;
#[cfg(test)]
mod tests;

pub(crate) use fate::fault_name;
pub use strike::Loss;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::Bytes;

use drachma_protocol::ids::{GroupId, NodeId, Slot};
use drachma_protocol::ledger::model::Posted;
use drachma_protocol::message::client::Response;
use drachma_protocol::message::operator::{AccountsCall, PageCall};
use drachma_protocol::message::{Message, PaxosMessage, TxnMessage};
use drachma_protocol::rng::Rng;
use drachma_protocol::role::{Address, Effects, Input, RoleKind};
use drachma_protocol::wire::codec::from_slice;

use crate::checkers::{Answered, Applied, Checkers, Class, End, ReplicaView, Sample, State, Violation};
use crate::client::{Alarm, Client};
use crate::disk::Crash;
use crate::faults::{Injector, Point, Swarm};
use crate::history::History;
use crate::network::{Link, Network};
use crate::node::{Assembly, Node};
use crate::panics;
use crate::trace::{Keep, Trace};

/// How often the accounts of all replicas are looked at, in microseconds.
const SAMPLE_EVERY: u64 = 250_000;
/// How often the end is looked for once everything is healed, in microseconds.
const REST_EVERY: u64 = 100_000;
/// More events than any run needs: a role that spins.
const EVENT_LIMIT: u64 = 20_000_000;

/// What a message between nodes is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    Paxos,
    Txn,
}

/// Something that happens at a point in time. Those with a boot belong to one run of a process.
#[derive(Debug)]
enum Event {
    Message { protocol: Protocol, from: Address, to: Address, bytes: Bytes },
    Request { client: u32, correlation: u64, node: NodeId, bytes: Bytes },
    Response { client: u32, correlation: u64, from: NodeId, bytes: Bytes },
    Alarm { client: u32, alarm: Alarm },
    Timer { node: usize, boot: u32, seat: usize },
    Again { node: usize, boot: u32, seat: usize },
    Synced { node: usize, boot: u32 },
    Fetched { node: usize, boot: u32, seat: usize, start: Slot, entries: Vec<Bytes> },
    Link { node: usize, boot: u32, peer: NodeId, up: bool },
    Fault,
    Mend(BTreeSet<Link>),
    Start { node: usize, boot: u32 },
    Resume { node: usize, boot: u32 },
    Sample,
    Heal,
    Rest,
    Strike,
}

struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Scheduled {}

/// A node that is to go down when it comes to some point.
#[derive(Clone, Copy, Debug)]
struct Trap {
    node: usize,
    point: Point,
    crash: Crash,
    length: u64,
}

/// The world of one run.
pub struct World<'a> {
    assembly: &'a dyn Assembly,
    swarm: &'a Swarm,
    now: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    nodes: Vec<Node>,
    network: Network,
    clients: Vec<Client>,
    injector: Injector,
    rng: Rng,
    trap: Option<Trap>,
    // Whose traffic shows that it leads.
    leaders: BTreeMap<GroupId, NodeId>,
    // Who has been told that whom is gone.
    lost: BTreeSet<(NodeId, NodeId)>,
    healed: bool,
    // That it does not come to rest is no finding.
    patient: bool,
    // When it began.
    begun: u64,
    checkers: Checkers,
    history: History,
    trace: Trace,
    counts: BTreeMap<&'static str, u64>,
    violation: Option<Violation>,
    // How many events there may be before nobody is interested any more.
    patience: u64,
    strike: Option<strike::Strike>,
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
    /// How often each kind of thing happened: messages, faults, what the roles told.
    pub counts: BTreeMap<&'static str, u64>,
    /// What the clients asked and were told.
    pub history: History,
    /// The last lines of the trace, if it was asked for.
    pub lines: Vec<String>,
    /// How many lines before them were not kept.
    pub left_out: u64,
}

impl<'a> World<'a> {
    /// A world before its first moment; `lines` of its trace are kept.
    pub fn new(swarm: &'a Swarm, assembly: &'a dyn Assembly, checkers: Checkers, rng: &mut Rng, lines: usize) -> Self {
        // One stream for each purpose, so that fewer of one thing shift the draws of no other.
        let (mut for_nodes, mut for_clients) = (rng.fork(), rng.fork());
        let nodes = swarm
            .shape
            .nodes()
            .into_iter()
            .map(|id| Node::new(id, swarm.shape.groups_on(id), for_nodes.fork()))
            .collect();
        let client = |_| Client::new(&swarm.clients, &swarm.shape, for_clients.fork());
        let clients = (0..swarm.client_count).map(client).collect();
        World {
            assembly,
            swarm,
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            nodes,
            network: Network::new(swarm.network.clone(), rng.fork()),
            clients,
            injector: Injector::new(swarm, rng.fork()),
            rng: rng.fork(),
            trap: None,
            leaders: BTreeMap::new(),
            lost: BTreeSet::new(),
            healed: false,
            patient: false,
            begun: 0,
            checkers,
            history: History::default(),
            trace: Trace::new(Keep::lines(lines)),
            counts: BTreeMap::new(),
            violation: None,
            patience: u64::MAX,
            strike: None,
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
        self.begun = self.now;
        self.at(self.now + SAMPLE_EVERY, Event::Sample);
        self.at(self.now + self.swarm.safety, Event::Heal);
        self.schedule_fault();
        while self.violation.is_none() && self.trace.events() < self.patience {
            let Some(Reverse(scheduled)) = self.queue.pop() else { break };
            self.now = scheduled.at;
            if matches!(scheduled.event, Event::Rest) && self.is_over() {
                break;
            }
            self.happen(scheduled.event);
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
            counts: self.counts,
            history: self.history,
            faults: self.injector.drawn(),
            left_out: self.trace.left_out(),
            lines: self.trace.into_lines(),
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), sequence: self.sequence, event }));
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
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

    fn happen(&mut self, event: Event) {
        match event {
            Event::Message { protocol, from, to, bytes } => self.on_message(protocol, from, to, &bytes),
            Event::Request { client, correlation, node, bytes } => self.on_request(client, correlation, node, &bytes),
            Event::Response { client, correlation, from, bytes } => self.on_response(client, correlation, from, &bytes),
            Event::Alarm { client, alarm } => {
                self.clients[client as usize].on_alarm(self.now, alarm, &mut self.history);
                self.grant(client);
            }
            Event::Timer { node, boot, seat } if self.is_current(node, boot) => self.on_timer(node, seat),
            Event::Again { node, boot, seat } if self.is_current(node, boot) => {
                self.nodes[node].seats[seat].turn = true;
                self.run_node(node);
            }
            Event::Synced { node, boot } if self.is_current(node, boot) => self.on_synced(node),
            Event::Fetched { node, boot, seat, start, entries } if self.is_current(node, boot) => {
                self.nodes[node].seats[seat].mailbox.push_back(Input::Fetched { start, entries });
                self.run_node(node);
            }
            Event::Link { node, boot, peer, up } if self.is_current(node, boot) => self.on_link(node, peer, up),
            Event::Fault => self.on_fault(),
            Event::Mend(links) => self.mend(&links),
            Event::Start { node, boot } if self.nodes[node].boot == boot && !self.nodes[node].is_up() => {
                self.start(node);
            }
            Event::Resume { node, boot } if self.is_current(node, boot) => self.resume(node),
            Event::Sample => self.sample(),
            Event::Heal => self.heal(),
            Event::Rest => self.at(self.now + REST_EVERY, Event::Rest),
            Event::Strike => self.on_strike(),
            Event::Timer { .. }
            | Event::Again { .. }
            | Event::Synced { .. }
            | Event::Fetched { .. }
            | Event::Link { .. }
            | Event::Start { .. }
            | Event::Resume { .. } => {}
        }
    }

    fn on_message(&mut self, protocol: Protocol, from: Address, to: Address, bytes: &[u8]) {
        let message = match protocol {
            Protocol::Paxos => from_slice::<PaxosMessage>(bytes).map(Message::Paxos),
            Protocol::Txn => from_slice::<TxnMessage>(bytes).map(Message::Txn),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                return self.fail("wire", Class::Safety, format!("{from:?} sent {bytes:x?} to {to:?}: {error}"));
            }
        };
        let Some(node) = self.index_of(to.node).filter(|node| self.nodes[*node].is_up()) else { return };
        self.trace.event(self.now, bytes, || format!("{} <- {} {message:?}", name(to), name(from)));
        self.nodes[node].put(to, Input::Message { from, message });
        self.run_node(node);
    }

    fn on_request(&mut self, client: u32, correlation: u64, to: NodeId, bytes: &[u8]) {
        let Some(node) = self.index_of(to).filter(|node| self.nodes[*node].is_up()) else { return };
        let request = match from_slice::<drachma_protocol::message::client::Request>(bytes) {
            Ok(request) => request,
            Err(error) => return self.fail("wire", Class::Safety, format!("a request {bytes:x?}: {error}")),
        };
        self.trace.event(self.now, bytes, || format!("{to} <- client {client} #{correlation:x} {request:?}"));
        let to = Address { node: to, group: request.group, role: self.assembly.takes(&request) };
        let origin = drachma_protocol::ids::Origin { connection: u64::from(client), correlation };
        self.nodes[node].put(to, Input::Request { origin, request });
        self.run_node(node);
    }

    fn on_response(&mut self, client: u32, correlation: u64, from: NodeId, bytes: &[u8]) {
        let response = match from_slice::<Response>(bytes) {
            Ok(response) => response,
            Err(error) => return self.fail("wire", Class::Safety, format!("a response {bytes:x?}: {error}")),
        };
        self.trace.event(self.now, bytes, || format!("client {client} <- {from} #{correlation:x} {response:?}"));
        let asker = &mut self.clients[client as usize];
        let reads = self.history.reads.len();
        let settled = asker.on_response(self.now, from, correlation, &response, &mut self.history);
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

    /// Lets the roles of a node work until nothing is left to do there.
    fn run_node(&mut self, node: usize) {
        let boot = self.nodes[node].boot;
        while self.is_current(node, boot) && !self.nodes[node].paused && self.violation.is_none() {
            let Some(seat) = self.nodes[node].next_seat() else { return };
            let waiting = self.nodes[node].seats[seat].mailbox.len();
            for _ in 0..waiting {
                let Some(input) = self.nodes[node].seats[seat].mailbox.pop_front() else { break };
                self.nodes[node].seats[seat].turn = true;
                self.step(node, seat, input);
                if !self.is_current(node, boot) {
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
        let place = &mut host.seats[seat];
        let mut effects = Effects::new(place.address);
        place.role.step(clock, input, &mut effects);
        self.look(node, seat);
        while let Some(effect) = effects.pop() {
            self.carry_out(node, seat, effect);
            if !self.is_current(node, boot) {
                return; // It went down in the middle: the rest never happened.
            }
        }
        self.arm(node, seat);
    }

    /// Sees to it that the role's deadline is looked at in time.
    fn arm(&mut self, node: usize, seat: usize) {
        let host = &self.nodes[node];
        let Some(deadline) = host.seats[seat].role.deadline() else { return };
        let at = host.booted_at.saturating_add(deadline.0).max(self.now + 1);
        if host.seats[seat].armed.is_none_or(|armed| at < armed) {
            let boot = host.boot;
            self.nodes[node].seats[seat].armed = Some(at);
            self.at(at, Event::Timer { node, boot, seat });
        }
    }

    /// Shows the checkers what a replica has applied, before anybody hears of it.
    fn look(&mut self, node: usize, seat: usize) {
        let host = &self.nodes[node];
        let place = &host.seats[seat];
        let Some(ledger) = place.role.ledger() else { return };
        let (from, until) = (place.applied, ledger.applied());
        if until == from {
            return;
        }
        let group = place.address.group;
        let totals = (!ledger.is_busy()).then(|| ledger.totals());
        let entries = host.disk.appended(group, from, until);
        let posted = posted_from(ledger, place.posted);
        let seen = Applied {
            node: host.id,
            group,
            from,
            until,
            entries,
            posted_from: place.posted,
            posted: &posted,
            state: totals.as_ref().map(|totals| State { totals, time: ledger.time() }),
        };
        let found = self.checkers.applied(&seen);
        let place = &mut self.nodes[node].seats[seat];
        (place.applied, place.posted) = (until, place.posted + posted.len() as u64);
        self.check(found);
    }

    /// The replicas that run and that their groups admit: a directory that was formatted anew is none of theirs.
    fn replicas(&self) -> impl Iterator<Item = (&Node, &drachma_protocol::ledger::Ledger, GroupId)> {
        let admitted = |node: &&Node| node.directory == crate::shape::Shape::directory(node.id);
        self.nodes.iter().filter(admitted).flat_map(|node| {
            let replicas = node.seats.iter().filter(|seat| seat.address.role == RoleKind::Replica);
            replicas.filter_map(move |seat| Some((node, seat.role.ledger()?, seat.address.group)))
        })
    }

    fn sample(&mut self) {
        self.at(self.now + SAMPLE_EVERY, Event::Sample);
        let mut checkers = std::mem::replace(&mut self.checkers, Checkers::none());
        let mut found = Ok(());
        for (node, ledger, group) in self.replicas() {
            let accounts = all_accounts(ledger);
            let sample = Sample { node: node.id, group, accounts: &accounts };
            found = found.and_then(|()| checkers.ask(|checker| checker.on_sample(&sample)));
        }
        self.checkers = checkers;
        self.check(found);
    }

    /// Whether everything has come to rest, or has not in time; then the checkers have had their last look.
    fn is_over(&mut self) -> bool {
        let stuck = self.unrest();
        if stuck.is_some() && self.now < self.begun + self.swarm.safety + self.swarm.liveness {
            return false;
        }
        if stuck.is_some() && self.patient {
            return true;
        }
        let mut groups: BTreeMap<GroupId, Vec<ReplicaView>> = BTreeMap::new();
        for (node, ledger, group) in self.replicas() {
            groups.entry(group).or_default().push(view(node.id, ledger));
        }
        let end = End { shape: &self.swarm.shape, history: &self.history, groups: &groups, stuck: stuck.as_deref() };
        let found = self.checkers.ask(|checker| checker.at_end(&end));
        self.check(found);
        true
    }

    /// What is not at rest yet.
    fn unrest(&self) -> Option<String> {
        for (number, client) in self.clients.iter().enumerate() {
            if !client.is_done() {
                return Some(format!("client {number} still waits for {}", client.describe_open()));
            }
        }
        let mut lengths: BTreeMap<GroupId, Slot> = BTreeMap::new();
        for (node, ledger, group) in self.replicas() {
            let totals = ledger.totals();
            if totals.in_doubt + totals.coordinated + totals.waiting > 0 {
                return Some(format!("{group} on {} is not at rest: {totals:?}", node.id));
            }
            let length = *lengths.entry(group).or_insert(totals.applied);
            if length != totals.applied {
                return Some(format!(
                    "{group} on {} has applied {}, another replica {length}",
                    node.id, totals.applied
                ));
            }
        }
        None
    }
}

/// `g1/n1/leader`.
fn name(address: Address) -> String {
    format!("{}/{}/{:?}", address.group, address.node, address.role)
}

fn all_accounts(ledger: &drachma_protocol::ledger::Ledger) -> Vec<drachma_protocol::ledger::model::Account> {
    let mut accounts = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let page = ledger.accounts_page(&AccountsCall { from, limit: 1000, changed: false, reserved: true });
        accounts.extend(page.accounts);
        next = page.next;
    }
    accounts
}

fn view(node: NodeId, ledger: &drachma_protocol::ledger::Ledger) -> ReplicaView {
    let posted = posted_from(ledger, 0);
    ReplicaView { node, totals: ledger.totals(), posted, accounts: all_accounts(ledger) }
}

/// The posted transfers from this position on.
fn posted_from(ledger: &drachma_protocol::ledger::Ledger, from: u64) -> Vec<Posted> {
    let mut posted = Vec::new();
    loop {
        let page = ledger.posted_page(&PageCall { from: from + posted.len() as u64, limit: 1000 });
        let is_last = page.rows.is_empty();
        posted.extend(page.rows);
        if is_last {
            return posted;
        }
    }
}

//! A small world for roles: the nodes of one group with their real roles, a network that the fuzzer orders, disks that
//! keep what was confirmed, and strangers that say anything.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use drachma_protocol::ids::{Attempt, Ballot, ClusterId, GroupId, NodeId, Slot, TxnId};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::ledger::image::Image;
use drachma_protocol::log::index::Position;
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::log::snapshot;
use drachma_protocol::log::state::GroupLog;
use drachma_protocol::message::{Message, PaxosMessage, TxnMessage};
use drachma_protocol::paxos::{Leader, LeaderConfig, Replica, ReplicaConfig};
use drachma_protocol::role::{Address, Effect, Effects, Input, Role, RoleKind, Token};
use drachma_protocol::routing::Routes;
use drachma_protocol::time::{Span, Time};
use drachma_protocol::txn::{Coordinator, Participant, TxnConfig};

use crate::values::{OWN, directory, genesis, over_the_wire, shard_map};

/// What is on its way at most; more is lost, as networks do.
const NETWORK: usize = 256;
/// Inputs that one `run` hands in at most: roles that keep each other busy are stopped.
const RUN: usize = 400;
/// The parts of a ledger's tables.
const PARTS: usize = 16;

/// A node's log: what was written, and how much of it is on disk.
#[derive(Default)]
struct Disk {
    records: Vec<Record>,
    /// Tokens that are not confirmed, each with the number of records up to it.
    open: VecDeque<(Token, usize)>,
    durable: usize,
    /// What the durable records add up to, and what all of them do.
    safe: GroupLog,
    /// How long the log has been on disk under its ballot. It may have been cut since, by what was chosen under a higher
    /// one; the acknowledgement of an entry that is told after that does no harm.
    reached: (Ballot, Slot),
    log: GroupLog,
    entries: Vec<Bytes>,
    /// The pieces of every snapshot, each with its offset.
    snapshots: BTreeMap<Slot, BTreeMap<u64, Bytes>>,
}

impl Disk {
    /// What a node finds after it has lost what was not on disk.
    fn restart(&mut self) -> Recovered {
        self.records.truncate(self.durable);
        self.open.clear();
        self.log = GroupLog::default();
        self.entries.clear();
        self.safe = GroupLog::default();
        self.durable = 0;
        let records = std::mem::take(&mut self.records);
        let count = records.len();
        records.iter().for_each(|record| self.append(over_the_wire(record)));
        self.confirm(count);
        self.log.recovered()
    }

    fn confirm(&mut self, until: usize) {
        for record in &self.records[self.durable..until] {
            let fits = self.safe.apply(record, Position { segment: 1, offset: 0 });
            assert!(fits.is_ok(), "what was written fits");
            let accepted = self.safe.recovered().accepted;
            let before = if self.reached.0 == accepted { self.reached.1 } else { Slot(0) };
            self.reached = (accepted, self.safe.len().max(before));
        }
        self.durable = until;
    }

    fn append(&mut self, record: Record) {
        let position = Position { segment: 1, offset: self.records.len() as u32 };
        let old = self.entries.len();
        let fits = self.log.apply(&record, position);
        assert!(fits.is_ok(), "a replica writes what can follow: {fits:?}");
        match &record {
            Record::Accept(accept) => self.entries.push(accept.entry.clone()),
            Record::Synchronise(sync) => {
                self.entries.truncate(sync.from.0 as usize);
                self.entries.extend(sync.entries.iter().cloned());
            }
            Record::Learn(learn) => {
                let start = learn.start.0 as usize;
                let shared = old.min(start + learn.entries.len());
                if self.entries[start..shared] != learn.entries[..shared - start] {
                    self.entries.truncate(start);
                }
                let skip = self.entries.len() - start;
                self.entries.extend(learn.entries.iter().skip(skip).cloned());
            }
            Record::Snapshot(slot) => {
                // Entries that were never here.
                self.entries.resize(old.max(slot.0 as usize), Bytes::new());
            }
            Record::Promise(_) | Record::Chosen(_) | Record::Doubt(_) => {}
            Record::Base(_) => unreachable!("a base is the log's own"),
        }
        assert_eq!(self.entries.len() as u64, self.log.len().0, "the entries are those of the log");
        self.records.push(record);
    }

    fn write_snapshot(&mut self, image: Image) -> (Slot, u64) {
        let (slot, mut offset) = (image.slot(), 0);
        let mut writer = snapshot::Writer::new(ClusterId(1), OWN, image);
        let mut pieces = BTreeMap::new();
        while let Some(piece) = writer.next_piece() {
            let length = piece.len() as u64;
            pieces.insert(offset, Bytes::from(piece));
            offset += length;
        }
        self.snapshots.insert(slot, pieces);
        (slot, offset)
    }

    fn load(&self, slot: Slot, seed: u64) -> Ledger {
        let mut loader = snapshot::Loader::new(slot, seed, &genesis(), PARTS);
        loop {
            let piece = &self.snapshots[&slot][&loader.offset()];
            if let Some(ledger) = loader.push(piece).expect("what was written can be read") {
                return *ledger;
            }
        }
    }

    fn read(&self, from: Slot, until: Slot, bytes: usize) -> Vec<Bytes> {
        let until = (until.0 as usize).min(self.entries.len());
        let mut taken = 0;
        let wanted = self.entries.get(from.0 as usize..until).unwrap_or_default().iter();
        let fits = |entry: &&Bytes| {
            let fits = taken == 0 || taken + entry.len() <= bytes;
            taken += entry.len();
            fits
        };
        wanted.take_while(fits).cloned().collect()
    }
}

/// A node: its roles, what waits for them, and its disk.
pub(crate) struct Node {
    id: NodeId,
    replica: Replica,
    others: BTreeMap<RoleKind, Box<dyn Role>>,
    mail: BTreeMap<RoleKind, VecDeque<Input>>,
    disk: Disk,
    boots: u64,
    booted: Time,
}

impl Node {
    fn role(&mut self, kind: RoleKind) -> &mut dyn Role {
        match kind {
            RoleKind::Replica => &mut self.replica,
            _ => self.others.get_mut(&kind).expect("a node has every role").as_mut(),
        }
    }
}

/// The group and what surrounds it.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Time,
    pub(crate) network: VecDeque<(Address, Address, Message)>,
    /// Attempts that were spoken of, so that strangers can speak of them, too.
    pub(crate) known: Vec<(TxnId, Attempt)>,
    /// Nobody has lied about the group's log.
    pub(crate) honest: bool,
    chosen: Vec<Bytes>,
}

/// The other groups: nobody is there but the fuzzer.
fn routes(members: &[NodeId]) -> Routes {
    let strangers = |group: u16| (GroupId(group), (1..=3).map(|n| NodeId(group * 10 + n)).collect());
    Routes::new([(OWN, members.to_vec()), strangers(2), strangers(3)])
}

fn roles(
    id: NodeId,
    members: &[NodeId],
    (recovered, ledger): (Recovered, Ledger),
    seed: u64,
) -> (Replica, BTreeMap<RoleKind, Box<dyn Role>>) {
    let leader = Leader::new(LeaderConfig {
        node: id,
        group: OWN,
        nodes: members.to_vec(),
        directory: directory(id),
        heartbeat: Span::from_millis(20),
        leader_timeout: Span::from_millis(100),
        promise: recovered.promise,
        wall: 0,
        seed,
    });
    let config = ReplicaConfig {
        node: id,
        group: OWN,
        nodes: members.to_vec(),
        directory: directory(id),
        genesis: genesis(),
        snapshot_every: 500,
        parts: PARTS,
        seed,
    };
    let txn = |role| {
        let config = TxnConfig::new(Address { node: id, group: OWN, role }, routes(members), shard_map(), seed);
        TxnConfig { limit: 12, peer_limit: 6, ..config }
    };
    let others: [(RoleKind, Box<dyn Role>); 3] = [
        (RoleKind::Leader, Box::new(leader)),
        (RoleKind::Coordinator, Box::new(Coordinator::new(txn(RoleKind::Coordinator)))),
        (RoleKind::Participant, Box::new(Participant::new(txn(RoleKind::Participant)))),
    ];
    (Replica::with_ledger(config, recovered, ledger), others.into())
}

impl World {
    /// A group of so many nodes that have never run.
    pub(crate) fn new(count: u16) -> World {
        let members: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let node = |id: &NodeId| {
            let ledger = Ledger::with_parts(u64::from(id.0), &genesis(), PARTS);
            let (replica, others) = roles(*id, &members, (Recovered::default(), ledger), u64::from(id.0));
            let (mail, disk) = (BTreeMap::new(), Disk::default());
            Node { id: *id, replica, others, mail, disk, boots: 1, booted: Time(0) }
        };
        World {
            nodes: members.iter().map(node).collect(),
            now: Time(0),
            network: VecDeque::new(),
            known: Vec::new(),
            honest: true,
            chosen: Vec::new(),
        }
    }

    pub(crate) fn members(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The ballot that a node has promised, and how much is chosen and in its log.
    pub(crate) fn state(&self, node: usize) -> (Ballot, Slot, Slot) {
        let node = &self.nodes[node];
        (node.replica.promise(), node.replica.chosen(), node.disk.log.len())
    }

    /// Hands one input to a role and carries out what it wants done.
    pub(crate) fn step(&mut self, node: usize, kind: RoleKind, input: Input) {
        let me = Address { node: self.nodes[node].id, group: OWN, role: kind };
        let now = Time(self.now.0 - self.nodes[node].booted.0);
        let mut effects = Effects::new(me);
        let role = self.nodes[node].role(kind);
        role.step(now, input, &mut effects);
        let _ = role.deadline();
        while let Some(effect) = effects.pop() {
            self.carry_out(node, me, effect);
        }
        self.check(node);
    }

    fn carry_out(&mut self, node: usize, me: Address, effect: Effect) {
        match effect {
            Effect::Send { to, message } if to.node == me.node => {
                assert_eq!(to.group, OWN, "a node has replicas of one group here");
                self.check_promise(node, &message);
                let input = Input::Message { from: me, message };
                self.nodes[node].mail.entry(to.role).or_default().push_back(input);
            }
            Effect::Send { to, message } => {
                self.check_promise(node, &message);
                self.send(me, to, message);
            }
            Effect::Persist { token, records } => {
                let disk = &mut self.nodes[node].disk;
                records.into_iter().for_each(|record| disk.append(record));
                disk.open.push_back((token, disk.records.len()));
            }
            Effect::Fetch { from, until, bytes } => {
                let entries = self.nodes[node].disk.read(from, until, bytes);
                let input = Input::Fetched { start: from, entries };
                self.nodes[node].mail.entry(me.role).or_default().push_back(input);
            }
            Effect::Snapshot(image) => {
                let (slot, bytes) = self.nodes[node].disk.write_snapshot(image);
                let input = Input::Snapshotted { slot, bytes };
                self.nodes[node].mail.entry(me.role).or_default().push_back(input);
            }
            Effect::ReadSnapshot { slot, offset } => {
                let pieces = self.nodes[node].disk.snapshots.get(&slot);
                let piece = pieces.and_then(|pieces| pieces.get(&offset)).filter(|_| offset > 0).cloned();
                let input = Input::SnapshotRead { slot, offset, piece };
                self.nodes[node].mail.entry(me.role).or_default().push_back(input);
            }
            Effect::Reply { response, .. } => {
                over_the_wire::<drachma_protocol::message::client::Response>(&response);
            }
            // Every run ends with a turn.
            Effect::Again | Effect::Trace(_) => {}
        }
    }

    fn send(&mut self, from: Address, to: Address, message: Message) {
        let message = match message {
            Message::Paxos(message) => Message::Paxos(over_the_wire(&message)),
            Message::Txn(message) => {
                self.learn(&message);
                Message::Txn(over_the_wire(&message))
            }
            Message::Local(message) => panic!("{from:?} sends {message:?} to another node"),
        };
        if self.network.len() < NETWORK {
            self.network.push_back((from, to, message));
        }
    }

    /// Takes note of the attempt that a message speaks of.
    pub(crate) fn learn(&mut self, message: &TxnMessage) {
        let attempt = match message {
            TxnMessage::Prepare(prepare) => (prepare.txn, prepare.attempt),
            TxnMessage::Vote(vote) => (vote.txn, vote.attempt),
            TxnMessage::Resolve(resolve) => (resolve.txn, resolve.attempt),
            TxnMessage::Resolved(resolved) => (resolved.txn, resolved.attempt),
            TxnMessage::Inquire(inquire) => (inquire.txn, inquire.attempt),
            TxnMessage::Redirect(_) => return,
        };
        if !self.known.contains(&attempt) && self.known.len() < 64 {
            self.known.push(attempt);
        }
    }

    /// What promises durability leaves only when the disk has it.
    fn check_promise(&self, node: usize, message: &Message) {
        let safe = &self.nodes[node].disk.safe;
        match message {
            Message::Paxos(PaxosMessage::Promise(promise)) => {
                assert!(safe.promise() >= promise.get().ballot, "a promise is on disk before it is told");
            }
            Message::Paxos(PaxosMessage::Accepted(accepted)) => {
                let told = accepted.get();
                assert!(safe.promise() >= told.ballot, "what is accepted was promised");
                let (ballot, length) = self.nodes[node].disk.reached;
                assert!(ballot != told.ballot || length >= told.length, "entries are on disk before they are told");
            }
            _ => {}
        }
    }

    /// Confirms some of what a node has written.
    pub(crate) fn persist(&mut self, node: usize, tokens: usize) {
        for _ in 0..tokens {
            let disk = &mut self.nodes[node].disk;
            let Some((token, durable)) = disk.open.pop_front() else { return };
            disk.confirm(durable);
            self.nodes[node].mail.entry(RoleKind::Replica).or_default().push_back(Input::Persisted(token));
        }
    }

    /// Hands in the next of what waits for a role; false if nothing does.
    pub(crate) fn next(&mut self, node: usize, kind: RoleKind) -> bool {
        let input = self.nodes[node].mail.get_mut(&kind).and_then(VecDeque::pop_front);
        let some = input.is_some();
        if let Some(input) = input {
            self.step(node, kind, input);
        }
        some
    }

    /// A node does all that it can: its mail, its turns, its disk.
    pub(crate) fn run(&mut self, node: usize) {
        for _ in 0..RUN {
            let mut busy = false;
            for kind in RoleKind::ALL {
                while self.next(node, kind) {
                    busy = true;
                }
                self.step(node, kind, Input::Turn);
            }
            busy |= self.nodes[node].mail.values().any(|mail| !mail.is_empty());
            busy |= !self.nodes[node].disk.open.is_empty();
            self.persist(node, usize::MAX);
            if !busy {
                return;
            }
        }
    }

    /// Time passes; whoever has waited for it is told.
    pub(crate) fn pass(&mut self, span: Span) {
        self.now = Time(self.now.0.saturating_add(span.0).min(u64::MAX / 4));
        for node in 0..self.nodes.len() {
            let own = Time(self.now.0 - self.nodes[node].booted.0);
            for kind in RoleKind::ALL {
                if self.nodes[node].role(kind).deadline().is_some_and(|deadline| deadline <= own) {
                    self.step(node, kind, Input::Timer);
                }
            }
        }
    }

    /// Delivers the message at a place of the network, if somebody is there to get it.
    pub(crate) fn deliver(&mut self, place: usize, keep: bool) {
        if self.network.is_empty() {
            return;
        }
        let place = place % self.network.len();
        let (from, to, message) =
            if keep { self.network[place].clone() } else { self.network.remove(place).expect("it was just counted") };
        let target = self.nodes.iter().position(|node| node.id == to.node && to.group == OWN);
        if let Some(node) = target {
            let input = Input::Message { from, message };
            self.nodes[node].mail.entry(to.role).or_default().push_back(input);
        }
    }

    /// A node loses its memory and what was not on disk.
    pub(crate) fn restart(&mut self, node: usize) {
        let members = self.members();
        let now = self.now;
        let node = &mut self.nodes[node];
        node.boots += 1;
        node.booted = now;
        node.mail.clear();
        let recovered = node.disk.restart();
        let seed = u64::from(node.id.0) + node.boots * 1000;
        let ledger = match recovered.start {
            Slot(0) => Ledger::with_parts(seed, &genesis(), PARTS),
            start => node.disk.load(start, seed),
        };
        (node.replica, node.others) = roles(node.id, &members, (recovered, ledger), seed);
    }

    /// Everything goes well for a while: messages arrive, disks answer, time passes.
    pub(crate) fn smooth(&mut self, rounds: usize) {
        for _ in 0..rounds {
            for node in 0..self.nodes.len() {
                self.run(node);
            }
            for _ in 0..self.network.len() {
                self.deliver(0, false);
            }
            self.pass(Span::from_millis(5));
        }
    }

    /// Everything goes well until the group has a leader whose first entry is applied.
    pub(crate) fn settle(&mut self) {
        for _ in 0..60 {
            if self.nodes.iter().all(|node| node.replica.ledger().members().is_some()) {
                return;
            }
            self.smooth(1);
        }
    }

    /// What is chosen is the same everywhere, and stays.
    fn check(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let chosen = node.replica.chosen().0 as usize;
        assert!(chosen <= node.disk.entries.len(), "what is chosen was written");
        // What came by a snapshot is what the others have chosen.
        for (own, chosen) in node.disk.entries[..chosen].iter_mut().zip(&self.chosen) {
            if own.is_empty() {
                own.clone_from(chosen);
            }
        }
        if !self.honest {
            return;
        }
        let shared = chosen.min(self.chosen.len());
        // Only the end can be new; the rest is compared now and then.
        let from = if chosen > self.chosen.len() || chosen.is_multiple_of(16) { 0 } else { shared.saturating_sub(2) };
        assert_eq!(node.disk.entries[from..shared], self.chosen[from..shared], "replicas agree on what is chosen");
        self.chosen.extend(node.disk.entries[shared..chosen].iter().cloned());
    }
}

//! Golden scripts of a group: one scenario a file in `scripts/`, its first line the claim, then commands; below
//! each command is its full trace. `UPDATE_GOLDEN=1 cargo test -p drachma-protocol` writes the traces anew.
//!
//! | command | meaning |
//! |---|---|
//! | `group N` | a new group on n1 to nN; first line |
//! | `time MS` | time goes on by so much, in steps of 5 ms; timers fire, nothing is delivered |
//! | `run MS` | as `time`, but everything is delivered at every step |
//! | `deliver [FROM] [TO] [KIND]` | delivers everything, or the queued messages that match (`*` for any), once |
//! | `drop [FROM] [TO] [KIND]` | drops the queued messages that match |
//! | `cut NODE`, `mend NODE` | messages from and to the node are lost; and no more |
//! | `cut NODE NODE` | the same for one pair, both ways |
//! | `disk NODE hold`, `disk NODE go` | the disk finishes nothing; and goes on |
//! | `crash NODE`, `start NODE` | what is not on disk is lost; back with what is |
//! | `rot NODE` | the last synced record on its disk rots: when it starts, its log is in doubt |
//! | `tear NODE` | a write that was never synced is torn: its log is in doubt, but has lost nothing |
//! | `wipe NODE` | its disk is formatted anew: empty, with another directory |
//! | `link NODE down`, `link NODE up` | the others see the connection to it break, or come back |
//! | `transfer NODE ID`, `read NODE ACCOUNT` | a client's request at that node |
//! | `write NODE ID LEVEL` | a client's transfer at that node, at a level |
//! | `position NODE [everywhere]` | a client asks there how far the group is |
//! | `look NODE ACCOUNT SLOT`, `look NODE ACCOUNT any` | a client reads from that replica: once it has applied so much, or as it is |
//! | `move NODE [NODE]` | an operator asks the first to have the second lead, or any other |
//! | `snapshots BYTES` | replicas take snapshots after so many bytes of entries; second line |
//! | `damage` | the next piece of a snapshot that is delivered is damaged |
//! | `quiet`, `loud` | stops and starts the trace |
//! | `state` | shows every node |

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::{Leader, LeaderConfig, Replica, ReplicaConfig};
use crate::golden;
use crate::ids::{AccountId, ClusterId, DirectoryId, Epoch, GroupId, NodeId, Origin, Slot, TransferId};
use crate::ledger::image::Image;
use crate::ledger::model::Transfer;
use crate::ledger::operations::{Operation, Reply};
use crate::ledger::{Genesis, Ledger, Limits};
use crate::log::record::{Record, Recovered};
use crate::log::snapshot;
use crate::message::client::{Call, Found, ReadCall, Request, Response};
use crate::message::command::{ClientCommand, CommandKind, Content, Entry};
use crate::message::level::{PositionCall, ReplicaReadCall, WriteCall, WriteResult};
use crate::message::operator::{HandOverCall, OperatorAnswer, OperatorCall};
use crate::message::{LocalMessage, Message, PaxosMessage};
use crate::placement::map::{AccountRange, Mode, ShardMap};
use crate::role::{Address, Effect, Effects, Input, Role, RoleKind};
use crate::time::{Span, Time};
use crate::wire::codec::{from_slice, to_vec};

const GROUP: GroupId = GroupId(1);

struct Node {
    leader: Leader,
    replica: Replica,
    up: bool,
    boot: Time,
    disk: Disk,
}

/// Records in order; those up to `synced` survive a crash.
#[derive(Default)]
struct Disk {
    directory: u128,
    records: Vec<Record>,
    synced: usize,
    // The end is not readable; true if it held something that was synced.
    doubt: Option<bool>,
    hold: bool,
    starts: u64,
    // Those that are durable, each as its pieces, and the one that is being written.
    snapshots: BTreeMap<Slot, Vec<Bytes>>,
    snapshot: Option<Image>,
    // (token, records after it)
    writing: VecDeque<(crate::role::Token, usize)>,
}

impl Disk {
    /// What recovery finds, by the meaning of the records.
    fn recover(&mut self) -> (Recovered, Vec<Bytes>) {
        self.records.truncate(self.synced);
        self.writing.clear();
        if let Some(rot) = self.doubt.take() {
            if rot {
                self.records.pop();
            }
            self.records.push(Record::Doubt(crate::message::operator::Nothing {}));
            self.synced = self.records.len();
        }
        let mut found = Recovered::default();
        let mut log: Vec<Bytes> = Vec::new();
        for record in &self.records {
            match record {
                Record::Promise(ballot) => found.promise = found.promise.max(*ballot),
                Record::Accept(accept) => {
                    assert_eq!(accept.slot, Slot(log.len() as u64), "accepts are contiguous");
                    log.push(accept.entry.clone());
                    found.chosen = found.chosen.max(accept.chosen);
                }
                Record::Synchronise(sync) => {
                    log.truncate(sync.from.0 as usize);
                    log.extend(sync.entries.iter().cloned());
                    found.accepted = sync.ballot;
                    found.promise = found.promise.max(sync.ballot);
                    found.chosen = found.chosen.max(sync.chosen);
                    found.doubtful = false;
                }
                Record::Learn(learn) => {
                    let start = learn.start.0 as usize;
                    for (index, entry) in learn.entries.iter().enumerate() {
                        if log.get(start + index).is_some_and(|own| own != entry) {
                            log.truncate(start + index);
                        }
                        if log.len() == start + index {
                            log.push(entry.clone());
                        }
                    }
                    found.chosen = found.chosen.max(learn.start.plus(learn.entries.len()));
                }
                Record::Chosen(chosen) => found.chosen = found.chosen.max(*chosen),
                Record::Doubt(_) => found.doubtful = true,
                Record::Snapshot(slot) => {
                    found.start = *slot;
                    found.chosen = found.chosen.max(*slot);
                    // Entries that were never here.
                    log.resize(log.len().max(slot.0 as usize), Bytes::new());
                }
                Record::Base(_) => unreachable!("a base is the log's own"),
            }
        }
        found.chosen = found.chosen.min(Slot(log.len() as u64));
        found.tail = log[found.chosen.0 as usize..].to_vec();
        (found, log)
    }
}

impl Disk {
    /// The snapshot that is being written is durable.
    fn write_snapshot(&mut self) -> Option<Slot> {
        let image = self.snapshot.take()?;
        let slot = image.slot();
        let mut writer = snapshot::Writer::new(ClusterId(1), GROUP, image);
        let pieces = std::iter::from_fn(|| writer.next_piece()).map(Bytes::from).collect();
        self.snapshots.insert(slot, pieces);
        Some(slot)
    }

    fn piece(&self, slot: Slot, offset: u64) -> Option<Bytes> {
        let mut at = 0;
        let pieces = self.snapshots.get(&slot)?.iter();
        let mut found = pieces.skip_while(|piece| {
            let before = at < offset;
            at += if before { piece.len() as u64 } else { 0 };
            before
        });
        found.next().filter(|_| at == offset).cloned()
    }

    fn load(&self, slot: Slot, seed: u64) -> Ledger {
        let mut loader = snapshot::Loader::new(slot, seed, &genesis(), 16);
        let pieces = self.snapshots.get(&slot).expect("a snapshot is durable before its record");
        let mut pieces = pieces.iter().skip(1);
        loop {
            let piece = pieces.next().expect("the last piece ends it");
            if let Some(ledger) = loader.push(piece).expect("what was written can be read") {
                return *ledger;
            }
        }
    }
}

struct Group {
    nodes: BTreeMap<NodeId, Node>,
    now: Time,
    wires: VecDeque<(Address, Address, PaxosMessage)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    lost: BTreeSet<NodeId>,
    requests: u64,
    trace: Vec<String>,
    quiet: bool,
    snapshot_every: u64,
    damage: bool,
}

fn genesis() -> Genesis {
    let range = AccountRange { first: AccountId(1), last: AccountId(100) };
    Genesis {
        group: GROUP,
        map: ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range]), owners: vec![GROUP] },
        accounts: 100,
        initial_balance: 10,
        limits: Limits::default(),
    }
}

impl Group {
    fn new(count: u16) -> Group {
        let mut group = Group {
            nodes: BTreeMap::new(),
            now: Time(0),
            wires: VecDeque::new(),
            cut: BTreeSet::new(),
            lost: BTreeSet::new(),
            requests: 0,
            trace: Vec::new(),
            quiet: false,
            snapshot_every: u64::MAX,
            damage: false,
        };
        let all: Vec<NodeId> = (1..=count).map(NodeId).collect();
        for node in &all {
            let mut disk = Disk { directory: u128::from(node.0), ..Disk::default() };
            let (leader, replica) = boot(*node, &all, &mut disk, u64::MAX);
            group.nodes.insert(*node, Node { leader, replica, up: true, boot: Time(0), disk });
        }
        group
    }

    fn say(&mut self, line: &str) {
        if !self.quiet {
            self.trace.push(line.to_owned());
        }
    }

    fn step(&mut self, node: NodeId, role: RoleKind, input: Input) {
        let now = self.now;
        let Some(state) = self.nodes.get_mut(&node) else { return };
        if !state.up {
            return;
        }
        let me = Address { node, group: GROUP, role };
        let mut effects = Effects::new(me);
        let local = Time(now.since(state.boot).0);
        match role {
            RoleKind::Leader => state.leader.step(local, input, &mut effects),
            _ => state.replica.step(local, input, &mut effects),
        }
        while let Some(effect) = effects.pop() {
            self.carry_out(me, effect);
        }
    }

    fn carry_out(&mut self, me: Address, effect: Effect) {
        match effect {
            Effect::Send { to, message } if to.node == me.node => self.local(me, to, message),
            Effect::Send { to, message: Message::Paxos(message) } => self.wires.push_back((me, to, message)),
            Effect::Send { .. } => panic!("local messages stay on their node"),
            Effect::Persist { token, records } => {
                let Some(node) = self.nodes.get_mut(&me.node) else { return };
                node.disk.records.extend(records);
                node.disk.writing.push_back((token, node.disk.records.len()));
            }
            Effect::Fetch { from, until, .. } => {
                let Some(node) = self.nodes.get_mut(&me.node) else { return };
                let (_, log) =
                    Disk { records: node.disk.records.clone(), synced: usize::MAX, ..Disk::default() }.recover();
                let entries = log[from.0 as usize..until.0 as usize].to_vec();
                self.step(me.node, me.role, Input::Fetched { start: from, entries });
            }
            Effect::Snapshot(image) => {
                let Some(node) = self.nodes.get_mut(&me.node) else { return };
                assert!(node.disk.snapshot.replace(image).is_none(), "one snapshot at a time");
            }
            Effect::ReadSnapshot { slot, offset } => {
                let Some(node) = self.nodes.get_mut(&me.node) else { return };
                let piece = node.disk.piece(slot, offset);
                self.step(me.node, me.role, Input::SnapshotRead { slot, offset, piece });
            }
            Effect::Reply { to, response } => {
                let line = format!("  {} answers {}: {}", me.node, to.correlation, show_response(&response));
                self.say(&line);
            }
            Effect::Again => self.step(me.node, me.role, Input::Turn),
            Effect::Trace(trace) if trace.notable => {
                let line = format!("  {} {:?} {}: {}", me.node, me.role, trace.event, trace.detail);
                self.say(&line);
            }
            Effect::Trace(_) => {}
        }
    }

    fn local(&mut self, me: Address, to: Address, message: Message) {
        match (&message, to.role) {
            (Message::Local(LocalMessage::Serve(_) | LocalMessage::Follow(_) | LocalMessage::Events(_)), role)
                if role != RoleKind::Leader && role != RoleKind::Replica => {}
            _ => {
                self.step(to.node, to.role, Input::Message { from: me, message });
                self.step(to.node, to.role, Input::Turn);
            }
        }
    }

    /// Everything that is written and may be confirmed.
    fn disks(&mut self) -> bool {
        let ready: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.up && !n.disk.hold && !n.disk.writing.is_empty())
            .map(|(id, _)| *id)
            .collect();
        let snapshots: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in snapshots {
            let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up && !node.disk.hold) else { continue };
            if let Some(slot) = node.disk.write_snapshot() {
                // A script says by `snapshots` alone when the next one is due.
                self.step(id, RoleKind::Replica, Input::Snapshotted { slot, bytes: 0 });
                self.step(id, RoleKind::Replica, Input::Turn);
            }
        }
        for id in &ready {
            let Some(node) = self.nodes.get_mut(id) else { continue };
            let Some((token, records)) = node.disk.writing.pop_front() else { continue };
            node.disk.synced = records;
            self.step(*id, RoleKind::Replica, Input::Persisted(token));
            self.step(*id, RoleKind::Replica, Input::Turn);
        }
        !ready.is_empty()
    }

    fn deliver(&mut self, index: usize) {
        let Some((from, to, message)) = self.wires.remove(index) else { return };
        let cut = [(from.node, to.node), (to.node, from.node)].iter().any(|pair| self.cut.contains(pair));
        let dead = self.lost.contains(&from.node) || self.lost.contains(&to.node);
        let down = !self.nodes.get(&to.node).is_some_and(|node| node.up);
        let mark = if cut || dead || down { " (lost)" } else { "" };
        let line =
            format!("  {}.{} -> {}.{} {}{mark}", from.node, short(from.role), to.node, short(to.role), show(&message));
        self.say(&line);
        let piece = matches!(&message, PaxosMessage::SnapshotPiece(piece) if !piece.piece.is_empty());
        if mark.is_empty() && piece && std::mem::take(&mut self.damage) {
            let PaxosMessage::SnapshotPiece(mut piece) = message else { return };
            let mut bytes = piece.piece.to_vec();
            bytes[30] ^= 1;
            piece.piece = bytes.into();
            let message = Message::Paxos(PaxosMessage::SnapshotPiece(piece));
            self.step(to.node, to.role, Input::Message { from, message });
        } else if mark.is_empty() {
            let message: PaxosMessage = from_slice(&to_vec(&message)).unwrap();
            self.step(to.node, to.role, Input::Message { from, message: Message::Paxos(message) });
            self.step(to.node, to.role, Input::Turn);
        }
    }

    fn deliver_all(&mut self) {
        loop {
            let wrote = self.disks();
            if self.wires.is_empty() && !wrote {
                return;
            }
            if !self.wires.is_empty() {
                self.deliver(0);
            }
        }
    }

    fn matching(&self, words: &[&str]) -> Vec<usize> {
        let fits = |word: Option<&&str>, value: &str| word.is_none_or(|word| *word == "*" || *word == value);
        let row = |(index, (from, to, message)): (usize, &(Address, Address, PaxosMessage))| {
            let all = fits(words.first(), &from.node.to_string())
                && fits(words.get(1), &to.node.to_string())
                && fits(words.get(2), message.kind());
            all.then_some(index)
        };
        self.wires.iter().enumerate().filter_map(row).collect()
    }

    fn tick(&mut self, deliver: bool) {
        self.now = self.now + Span::from_millis(5);
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            for role in [RoleKind::Leader, RoleKind::Replica] {
                let node = &self.nodes[&id];
                let deadline = if role == RoleKind::Leader { node.leader.deadline() } else { node.replica.deadline() };
                let local = Time(self.now.since(node.boot).0);
                if deadline.is_some_and(|at| at <= local) {
                    self.step(id, role, Input::Timer);
                    self.step(id, role, Input::Turn);
                }
            }
        }
        if deliver {
            self.deliver_all();
        }
    }

    fn request(&mut self, node: NodeId, call: Call) {
        self.requests += 1;
        let origin = Origin { connection: 1, correlation: self.requests };
        let role = if matches!(call, Call::ReplicaRead(_)) { RoleKind::Replica } else { RoleKind::Leader };
        let request = Request { group: GROUP, call };
        self.step(node, role, Input::Request { origin, request });
        self.step(node, role, Input::Turn);
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let node = |index: usize| words[index].parse::<NodeId>().expect("a node");
        let number = |index: usize| words[index].parse::<u64>().expect("a number");
        match words[0] {
            "time" => (0..number(1) / 5).for_each(|_| self.tick(false)),
            "run" => (0..number(1) / 5).for_each(|_| self.tick(true)),
            "deliver" if words.len() == 1 => self.deliver_all(),
            "deliver" => {
                let found = self.matching(&words[1..]);
                assert!(!found.is_empty(), "{line}: nothing of the kind is on its way");
                found.into_iter().rev().collect::<Vec<_>>().into_iter().rev().enumerate().for_each(|(done, index)| {
                    self.deliver(index - done);
                });
                while self.disks() {}
            }
            "drop" => self.matching(&words[1..]).into_iter().rev().for_each(|index| {
                self.wires.remove(index);
            }),
            "cut" if words.len() == 3 => drop(self.cut.insert((node(1), node(2)))),
            "cut" => drop(self.lost.insert(node(1))),
            "mend" if words.len() == 3 => drop(self.cut.remove(&(node(1), node(2)))),
            "mend" => drop(self.lost.remove(&node(1))),
            "disk" => {
                let hold = words[2] == "hold";
                self.nodes.get_mut(&node(1)).expect("a node").disk.hold = hold;
                while self.disks() {}
            }
            "crash" => self.crash(node(1)),
            "start" => self.start(node(1)),
            "rot" => self.nodes.get_mut(&node(1)).expect("a node").disk.doubt = Some(true),
            "tear" => self.nodes.get_mut(&node(1)).expect("a node").disk.doubt = Some(false),
            "wipe" => {
                let directory = u128::from(node(1).0) + 1000;
                self.nodes.get_mut(&node(1)).expect("a node").disk = Disk { directory, ..Disk::default() };
            }
            "link" => {
                let (lost, up) = (node(1), words[2] == "up");
                for id in self.nodes.keys().copied().filter(|id| *id != lost).collect::<Vec<_>>() {
                    self.step(id, RoleKind::Leader, Input::Link { node: lost, up });
                    self.step(id, RoleKind::Replica, Input::Link { node: lost, up });
                }
            }
            "transfer" => self.request(node(1), Call::Command(command(number(2)))),
            "write" => {
                let level = words[3].parse().expect("a level");
                self.request(node(1), Call::Write(WriteCall { level, command: command(number(2)) }));
            }
            "position" => {
                let (everywhere, deadline) = (words.len() > 2, Span::from_millis(2000));
                self.request(node(1), Call::Position(PositionCall { everywhere, deadline, epoch: Epoch(1) }));
            }
            "look" => {
                let operations = vec![Operation::Read(AccountId(u128::from(number(2))))];
                let settled = words[3] != "any";
                let after = Slot(if settled { number(3) } else { 0 });
                let (deadline, epoch) = (Span::from_millis(2000), Epoch(1));
                let call = ReplicaReadCall { operations, after, settled, deadline, epoch };
                self.request(node(1), Call::ReplicaRead(call));
            }
            "read" => {
                let account = AccountId(u128::from(number(2)));
                let read = ReadCall { account, deadline: Span::from_millis(2000), epoch: Epoch(1) };
                self.request(node(1), Call::Read(read));
            }
            "move" => {
                let call = HandOverCall { target: words.get(2).map(|_| node(2)) };
                self.request(node(1), Call::Operator(OperatorCall::HandOver(call)));
            }
            "snapshots" => {
                self.snapshot_every = words[1].parse().expect("`snapshots BYTES`");
                let all: Vec<NodeId> = self.nodes.keys().copied().collect();
                all.into_iter().for_each(|node| self.start(node));
            }
            "damage" => self.damage = true,
            "quiet" => self.quiet = true,
            "loud" => self.quiet = false,
            "state" => self.state(),
            other => panic!("unknown command {other}"),
        }
    }

    fn crash(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).expect("a node").up = false;
        self.wires.retain(|(from, to, _)| from.node != node && to.node != node);
    }

    fn start(&mut self, id: NodeId) {
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("a node");
        (node.leader, node.replica) = boot(id, &all, &mut node.disk, self.snapshot_every);
        node.up = true;
        node.boot = now;
        self.step(id, RoleKind::Replica, Input::Turn);
    }

    fn state(&mut self) {
        let mut lines = Vec::new();
        for (id, node) in &self.nodes {
            let ledger = node.replica.ledger();
            let serving = if node.leader.is_serving() { " serving" } else { "" };
            let up = if node.up { "" } else { " down" };
            lines.push(format!(
                "  {id}{up}: promise {} chosen {} applied {} posted {}{serving}",
                node.replica.promise(),
                node.replica.chosen(),
                ledger.applied(),
                ledger.totals().posted,
            ));
        }
        lines.iter().for_each(|line| self.say(line));
    }

    /// Agreement over everything that is in memory, whatever the scenario.
    fn check_agreement(&self) {
        let mut chosen: BTreeMap<Slot, &Bytes> = BTreeMap::new();
        for node in self.nodes.values().filter(|node| node.up) {
            for slot in (0..node.replica.chosen().0).map(Slot) {
                if let Some(entry) = node.replica.entry(slot) {
                    assert_eq!(*chosen.entry(slot).or_insert(entry), entry, "two values were chosen for {slot}");
                }
            }
        }
    }
}

/// A transfer of 1 from account 1 to account 2.
fn command(id: u64) -> ClientCommand {
    let id = TransferId(u128::from(id));
    let (debit, credit) = (AccountId(1), AccountId(2));
    let transfer = Transfer { id, debit, credit, amount: 1, ledger: 1, code: 1, ..Transfer::default() };
    ClientCommand {
        kind: CommandKind::Transfers,
        session: None,
        sequence: 0,
        deadline: Span::from_millis(2000),
        epoch: Epoch(1),
        count: 1,
        body: Bytes::from(to_vec(&vec![transfer])),
    }
}

fn boot(node: NodeId, all: &[NodeId], disk: &mut Disk, snapshot_every: u64) -> (Leader, Replica) {
    disk.snapshot = None;
    let (recovered, _) = disk.recover();
    let directory = DirectoryId(disk.directory);
    disk.starts += 1;
    let seed = u64::from(node.0) + 100 * disk.starts;
    let promise = recovered.promise;
    let ledger = if recovered.start > Slot(0) {
        disk.load(recovered.start, seed)
    } else {
        Ledger::with_parts(seed, &genesis(), 16)
    };
    let replica = ReplicaConfig {
        node,
        group: GROUP,
        nodes: all.to_vec(),
        directory,
        genesis: genesis(),
        snapshot_every,
        parts: 16,
        seed,
    };
    let leader = LeaderConfig {
        node,
        group: GROUP,
        nodes: all.to_vec(),
        directory,
        heartbeat: Span::from_millis(50),
        leader_timeout: Span::from_millis(250),
        promise,
        wall: 0,
        seed,
    };
    (Leader::new(leader), Replica::with_ledger(replica, recovered, ledger))
}

fn short(role: RoleKind) -> &'static str {
    if role == RoleKind::Leader { "leader" } else { "replica" }
}

fn show_entry(entry: &Bytes) -> String {
    match from_slice::<Entry>(entry) {
        Ok(Entry { content: Content::LeaderStart(start), .. }) => {
            format!("start {}{}", start.ballot, if start.members.is_some() { " with members" } else { "" })
        }
        Ok(Entry { content: Content::Commands(commands), .. }) => format!("{} commands", commands.len()),
        Err(error) => error.to_string(),
    }
}

fn show_entries(entries: &[Bytes]) -> String {
    format!("[{}]", entries.iter().map(show_entry).collect::<Vec<_>>().join(", "))
}

fn show(message: &PaxosMessage) -> String {
    let kind = message.kind();
    let rest = match message {
        PaxosMessage::PreCheck(m) => format!("{}", m.ballot),
        PaxosMessage::PreCheckReply(m) => format!("lost {}", m.lost),
        PaxosMessage::Prepare(m) => {
            format!("{} accepted {} length {} chosen {}", m.ballot, m.accepted, m.length, m.chosen)
        }
        PaxosMessage::Promise(m) => {
            let m = m.get();
            let doubt = if m.doubtful { " doubtful" } else { "" };
            let entries = show_entries(&m.entries);
            format!("{} accepted {} length {} chosen {} {entries}{doubt}", m.ballot, m.accepted, m.length, m.chosen)
        }
        PaxosMessage::Synchronise(m) => format!("{} from {} {}", m.ballot, m.from, show_entries(&m.entries)),
        PaxosMessage::Accept(m) => {
            format!("{} slot {} chosen {}: {}", m.ballot, m.slot, m.chosen, show_entry(&m.entry))
        }
        PaxosMessage::Accepted(m) => format!("{} length {}", m.get().ballot, m.get().length),
        PaxosMessage::Commit(m) => format!("{} chosen {}", m.ballot, m.chosen),
        PaxosMessage::Heartbeat(m) => format!("{} round {}", m.ballot, m.round),
        PaxosMessage::HeartbeatAck(m) => format!("{} round {}", m.ballot, m.round),
        PaxosMessage::Refused(m) => format!("{} promised {}", m.ballot, m.promised),
        PaxosMessage::Missing(m) => format!("{} synchronised {} from {}", m.ballot, m.synchronised, m.from),
        PaxosMessage::TakeOver(m) => format!("{}", m.ballot),
        PaxosMessage::AskAge(m) => format!("at {}", m.asked.0),
        PaxosMessage::Aged(m) => format!("at {} chosen {}", m.question.asked.0, m.chosen),
        PaxosMessage::FetchChosen(m) => format!("from {}", m.from),
        PaxosMessage::ChosenEntries(m) => format!("from {} {} of {}", m.start, m.entries.len(), m.chosen),
        PaxosMessage::FetchSnapshot(m) => format!("{} at {}", m.slot, m.offset),
        PaxosMessage::SnapshotPiece(m) if m.piece.is_empty() => format!("{} is there", m.slot),
        PaxosMessage::SnapshotPiece(m) => format!("{} at {}", m.slot, m.offset),
    };
    format!("{kind} {rest}")
}

fn show_response(response: &Response) -> String {
    match response {
        Response::Transfers(done) if done.items.is_empty() => "committed".to_owned(),
        Response::Transfers(done) => format!("{:?}", done.items),
        Response::Read(done) => {
            let balance = done.account.map(|account| account.balance().to_string());
            format!("balance {} at {}", balance.unwrap_or_default(), done.slot)
        }
        Response::Written(done) => {
            let result = match &done.result {
                WriteResult::Transfers(done) if done.items.is_empty() => "committed".to_owned(),
                other => format!("{other:?}"),
            };
            format!("{result} before {}, level met: {}", done.slot, done.level_met)
        }
        Response::Position(done) => format!("position {}, everywhere: {}", done.slot, done.everywhere),
        Response::ReplicaRead(done) => {
            let balance = |found: &Found| match &found.reply {
                Reply::Account(account) => account.balance().to_string(),
                other => format!("{other:?}"),
            };
            let found: Vec<String> = done.found.iter().flatten().map(balance).collect();
            let age = done.age.map_or("unknown".to_owned(), |age| format!("{} us", age.0));
            format!("{} at {}, age {age}", found.join(", "), done.slot)
        }
        Response::Operator(OperatorAnswer::HandOver(done)) => {
            format!("{:?}, {} leads with {}", done.end, done.leader, done.ballot)
        }
        Response::Refused(refused) => format!("refused {:?}, try {:?}", refused.why, refused.leader),
        other => format!("{other:?}"),
    }
}

#[test]
fn scripts() {
    for name in golden::names("paxos/scripts") {
        let mut group = Group::new(0);
        golden::script(&format!("paxos/scripts/{name}.txt"), |_, line| {
            match line.strip_prefix("group ") {
                Some(count) => group = Group::new(count.parse().expect("`group N`")),
                None => group.command(line),
            }
            group.check_agreement();
            std::mem::take(&mut group.trace)
        });
    }
}

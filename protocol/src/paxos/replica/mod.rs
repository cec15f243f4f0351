//! The replica: acceptor and learner of a group's log, and keeper of its state machine.
//!
//! [`acceptor`] answers candidates and leaders, [`learner`] fetches what is chosen from others and hands it out,
//! [`apply`] runs the ledger in slices, [`snapshot`] bounds the log, [`reads`] serves reads that the leader has confirmed,
//! [`levels`] those at the other levels, [`operator`] answers the command line.

mod acceptor;
mod apply;
mod learner;
mod levels;
mod operator;
#[cfg(feature = "planted")]
mod planted;
mod reads;
mod snapshot;

use std::collections::VecDeque;

use crate::ids::{Ballot, DirectoryId, GroupId, NodeId, ReplicaId, Slot};
use crate::ledger::{Genesis, Ledger};
use crate::log::record::Recovered;
use crate::message::client::{Call, Refused, Request, Response, Why};
use crate::message::local::Follow;
use crate::message::{LocalMessage, Message, PaxosMessage};
use crate::role::{Address, Answers, Effects, Gate, Input, Role, RoleKind, Token};
use crate::time::{LogTime, Span, Time};

use super::replica_on;
use super::window::Window;

/// What a replica is told when it starts.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Where it runs.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// The nodes of the group's first members, in the order of their replica ids.
    pub nodes: Vec<NodeId>,
    /// Its node's data directory.
    pub directory: DirectoryId,
    /// What the group begins with.
    pub genesis: Genesis,
    /// A snapshot is taken when about so many bytes of entries were applied since the last one.
    pub snapshot_every: u64,
    /// Of the ledger's large tables, a power of two.
    pub parts: usize,
    /// For the hash tables of the ledger, and to tell this life of the replica from an earlier one: another one at each
    /// start.
    pub seed: u64,
}

/// A replica of a group.
///
/// - `accepted <= promise`.
/// - Applied is at most chosen, chosen at most the log's length.
/// - While `doubtful`, its promises say so, and it accepts nothing but a synchronisation.
#[derive(Clone, Debug)]
pub struct Replica {
    config: ReplicaConfig,
    me: ReplicaId,
    promise: Ballot,
    accepted: Ballot,
    log: Window,
    doubtful: bool,
    // The directory is not the one that the group admitted: this replica abstains.
    foreign: bool,
    // The promise that was recovered; own ballots up to it belong to an earlier life and are never continued.
    recovered: Ballot,
    gate: Gate,
    // What the log's length was when a token was given: entries below are on disk once it is confirmed.
    durable: VecDeque<(Token, Slot)>,
    durable_length: Slot,
    sync: Option<acceptor::PartialSync>,
    asked: Option<acceptor::Asked>,
    // Whose heartbeat was heard last.
    leader: Option<(NodeId, Ballot)>,
    catch_up: Option<learner::CatchUp>,
    fetches: VecDeque<learner::Fetch>,
    // Entries that were read back, to be applied next.
    backlog: VecDeque<bytes::Bytes>,
    ledger: Ledger,
    snapshots: snapshot::Snapshots,
    members_told: bool,
    // The own ballot whose first entry is the last one applied: outputs go to the roles of this node.
    serving: Option<Ballot>,
    hint: Follow,
    // What the leader was last told.
    told: Option<(Option<LogTime>, Option<Slot>)>,
    reads: reads::Reads,
    levels: levels::Levels,
    // Of reads that it cannot serve any more.
    answers: Answers,
    #[cfg(feature = "planted")]
    captured: Vec<planted::Captured>,
    now: Time,
}

impl Replica {
    /// A replica that goes on from what was recovered, without a snapshot.
    pub fn new(config: ReplicaConfig, recovered: Recovered) -> Replica {
        let ledger = Ledger::with_parts(config.seed, &config.genesis, config.parts);
        Replica::with_ledger(config, recovered, ledger)
    }

    /// As [`Replica::new`], with the state at which the log begins: that of the snapshot, if there is one.
    ///
    /// # Panics
    /// If the state is another one.
    pub fn with_ledger(config: ReplicaConfig, recovered: Recovered, ledger: Ledger) -> Replica {
        let me = replica_on(&config.nodes, config.node);
        assert!(recovered.accepted <= recovered.promise, "a log is accepted under a promised ballot");
        assert_eq!(ledger.applied(), recovered.start, "the log goes on where the state ends");
        let log = Window::new(recovered.chosen, recovered.tail);
        Replica {
            me,
            promise: recovered.promise,
            accepted: recovered.accepted,
            durable_length: log.length(),
            log,
            doubtful: recovered.doubtful,
            foreign: false,
            recovered: recovered.promise,
            gate: Gate::default(),
            durable: VecDeque::new(),
            sync: None,
            asked: None,
            leader: None,
            catch_up: None,
            fetches: VecDeque::new(),
            backlog: VecDeque::new(),
            ledger,
            snapshots: snapshot::Snapshots::starting_at(recovered.start),
            members_told: false,
            serving: None,
            hint: Follow { leader: None, no_quorum: false },
            told: None,
            reads: reads::Reads::default(),
            levels: levels::Levels::default(),
            answers: Answers::default(),
            #[cfg(feature = "planted")]
            captured: Vec::new(),
            now: Time(0),
            config,
        }
    }

    /// The state machine, for checkers.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether its promise counts in a majority: neither is its log in doubt nor its directory another than the one that
    /// was admitted, as far as it knows. For checkers.
    pub fn may_vote(&self) -> bool {
        !self.doubtful && !self.foreign
    }

    /// The chosen length, for checkers.
    pub fn chosen(&self) -> Slot {
        self.log.chosen()
    }

    /// The highest promise, for checkers.
    pub fn promise(&self) -> Ballot {
        self.promise
    }

    /// The ballot under which the log was last accepted, for checkers.
    pub fn accepted(&self) -> Ballot {
        self.accepted
    }

    /// The entry at `slot` if it is in memory, for checkers.
    pub fn entry(&self, slot: Slot) -> Option<&bytes::Bytes> {
        self.log.get(slot)
    }

    fn on_paxos(&mut self, from: Address, message: PaxosMessage, effects: &mut Effects) {
        if from.group != self.config.group || !self.config.nodes.contains(&from.node) {
            effects.trace("ignore_stranger", || format!("{} from {from:?}", message.kind()));
            return;
        }
        match message {
            PaxosMessage::Prepare(prepare) => self.on_prepare(from.node, prepare, effects),
            PaxosMessage::Synchronise(sync) => self.on_synchronise(from.node, sync, effects),
            PaxosMessage::Accept(accept) => self.on_accept(from.node, accept, effects),
            PaxosMessage::Commit(commit) => self.on_commit(from.node, &commit, effects),
            PaxosMessage::Heartbeat(heartbeat) => self.on_heartbeat(from.node, heartbeat, effects),
            PaxosMessage::FetchChosen(fetch) => self.on_fetch_chosen(from.node, &fetch, effects),
            PaxosMessage::ChosenEntries(chosen) => self.on_chosen_entries(from.node, chosen, effects),
            PaxosMessage::FetchSnapshot(fetch) => self.on_fetch_snapshot(from.node, &fetch, effects),
            PaxosMessage::SnapshotPiece(piece) => self.on_snapshot_piece(from.node, &piece, effects),
            PaxosMessage::Aged(aged) => self.on_aged(&aged),
            other => effects.trace("ignore_misdirected", || other.kind().to_owned()),
        }
    }

    fn on_local(&mut self, message: LocalMessage, effects: &mut Effects) {
        match message {
            LocalMessage::Read(reads) => self.on_confirmed_reads(reads, effects),
            LocalMessage::Follow(follow) => {
                self.hint = follow;
                self.refuse_reads(effects);
            }
            _ => effects.trace("ignore_misdirected", || "local message".to_owned()),
        }
    }

    fn on_request(&mut self, origin: crate::ids::Origin, request: Request, effects: &mut Effects) {
        match request.call {
            Call::Operator(call) => self.on_operator(origin, call, effects),
            Call::Lookup(lookup) if self.serving.is_some() => self.on_lookup(origin, &lookup, effects),
            Call::Query(query) if !query.is_sound() => effects.reply(origin, Response::refused(Why::Malformed)),
            Call::Query(query) if self.serving.is_some() => self.on_query(origin, query),
            Call::Lookup(_) | Call::Query(_) => effects.reply(origin, self.not_leader()),
            Call::ReplicaRead(read) => self.on_replica_read(origin, read, effects),
            _ => effects.reply(origin, Response::refused(Why::Malformed)),
        }
    }

    fn not_leader(&self) -> Response {
        let why = if self.hint.no_quorum { Why::NoQuorum } else { Why::NotLeader };
        Response::Refused(Refused { why, leader: self.hint.leader, after: Span(0) })
    }

    fn on_persisted(&mut self, token: Token, effects: &mut Effects) {
        while let Some((given, length)) = self.durable.front() {
            if *given > token {
                break;
            }
            self.durable_length = *length;
            self.durable.pop_front();
        }
        self.gate.on_persisted(token, effects);
    }

    fn check_invariants(&self) {
        assert!(self.accepted <= self.promise, "nothing is accepted under a ballot that was not promised");
        assert!(self.log.chosen() <= self.log.length(), "what is chosen is in the log");
        assert!(self.ledger.applied() <= self.log.chosen(), "only what is chosen is applied");
    }
}

impl Role for Replica {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        assert!(now >= self.now, "time does not go back");
        self.now = now;
        match input {
            Input::Message { from, message: Message::Paxos(message) } => self.on_paxos(from, message, effects),
            Input::Message { message: Message::Local(message), .. } => self.on_local(message, effects),
            Input::Message { message: Message::Txn(_), .. } => {
                effects.trace("ignore_misdirected", || "transaction message".to_owned());
            }
            Input::Request { origin, request } => self.on_request(origin, request, effects),
            Input::Persisted(token) => self.on_persisted(token, effects),
            Input::Fetched { start, entries } => self.on_fetched(start, entries, effects),
            Input::Snapshotted { slot, bytes } => self.on_snapshotted(slot, bytes, effects),
            Input::SnapshotDue => self.on_snapshot_due(effects),
            Input::SnapshotRead { slot, offset, piece } => self.on_snapshot_read(slot, offset, piece, effects),
            Input::Link { node, up } => self.on_link(node, up, effects),
            Input::Timer => self.on_timer(effects),
            Input::Turn => self.on_turn(effects),
        }
        self.check_invariants();
    }

    fn deadline(&self) -> Option<Time> {
        let catch_up = self.catch_up.as_ref().map(|catch_up| catch_up.retry);
        catch_up.into_iter().chain(self.reads.deadline()).chain(self.levels.deadline()).min()
    }
}

impl Replica {
    fn on_timer(&mut self, effects: &mut Effects) {
        self.retry_catch_up(effects);
        self.on_read_timer(effects);
    }

    fn send_leader(&self, node: NodeId, message: PaxosMessage, effects: &mut Effects) {
        effects.send_paxos(node, RoleKind::Leader, message);
    }
}

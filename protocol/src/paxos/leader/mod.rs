//! The leader: stands for election, and while it leads gathers commands into entries and gets them chosen.
//!
//! [`election`] decides when to stand, [`candidate`] runs phase 1, [`pipeline`] brings followers in line and keeps
//! entries in flight, [`batch`] gathers commands, [`clients`] answers them, [`reads`] confirms reads, [`levels`] knows the
//! other levels, [`hand_over`] has another node lead instead.

mod batch;
mod candidate;
mod clients;
mod election;
mod hand_over;
mod levels;
mod pipeline;
mod reads;

use std::collections::BTreeSet;

use crate::ids::{Ballot, DirectoryId, GroupId, NodeId, Origin, ReplicaId};
use crate::message::client::{Call, Refused, Request, Response, Why};
use crate::message::command::Member;
use crate::message::local::{Follow, QueryTicket, Read, ReadTicket};
use crate::message::operator::{LeaderPhase, LeaderStatus, OperatorAnswer, OperatorCall};
use crate::message::{LocalMessage, Message, PaxosMessage};
use crate::planted::{Bug, is_planted};
use crate::quorum::Quorum;
use crate::rng::Rng;
use crate::role::{Address, Answers, Effects, Input, Role, RoleKind};
use crate::time::{Span, Time};

use super::replica_on;
use candidate::Candidate;
use election::{PreChecking, Suspicion};
use pipeline::Leading;

/// What a leader role is told when it starts.
#[derive(Clone, Debug)]
pub struct LeaderConfig {
    /// Where it runs.
    pub node: NodeId,
    /// Its group.
    pub group: GroupId,
    /// The nodes of the group's first members, in the order of their replica ids.
    pub nodes: Vec<NodeId>,
    /// Its node's data directory.
    pub directory: DirectoryId,
    /// Between two heartbeats.
    pub heartbeat: Span,
    /// Silence after which a leader is suspected; grows with measured delays.
    pub leader_timeout: Span,
    /// What the replica on this node has promised, as recovered.
    pub promise: Ballot,
    /// The wall clock at [`Time`] zero, in microseconds since 1970; shown in entries, never used.
    pub wall: u64,
    /// For the spread of election timeouts.
    pub seed: u64,
}

/// The leader role of a group on one node; at most times it follows.
#[derive(Clone, Debug)]
pub struct Leader {
    config: LeaderConfig,
    me: ReplicaId,
    quorum: Quorum,
    rng: Rng,
    now: Time,
    // The highest ballot that was heard of.
    highest: Ballot,
    members: Option<Vec<Member>>,
    // Who leads, as far as this role knows.
    leader: Option<(Ballot, NodeId)>,
    suspicion: Suspicion,
    // Nodes whose connection is broken.
    down: BTreeSet<NodeId>,
    // It has looked for a quorum and found none.
    no_quorum: bool,
    elections: u64,
    // Of a leadership that is over.
    answers: Answers,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Following { until: Time },
    PreCheck(PreChecking),
    Candidate(Box<Candidate>),
    Leading(Box<Leading>),
}

impl Leader {
    /// A role that follows until it has reason to stand.
    pub fn new(config: LeaderConfig) -> Leader {
        let me = replica_on(&config.nodes, config.node);
        let mut rng = Rng::new(config.seed);
        // The first members stand one after the other, so that a new group's first election has one candidate.
        let patience = config.leader_timeout.0 / 4 * u64::from(me.0 - 1) + rng.below(config.leader_timeout.0 / 8 + 1);
        Leader {
            me,
            quorum: Quorum::new(config.nodes.len()),
            rng,
            now: Time(0),
            highest: config.promise,
            members: None,
            leader: None,
            suspicion: Suspicion::new(config.leader_timeout),
            down: BTreeSet::new(),
            no_quorum: false,
            elections: 0,
            answers: Answers::default(),
            state: State::Following { until: Time(0) + config.heartbeat + Span(patience) },
            config,
        }
    }

    /// Whether it leads and serves, for checkers.
    pub fn is_serving(&self) -> bool {
        matches!(&self.state, State::Leading(leading) if leading.is_serving())
    }

    /// The ballot that it stands or leads with, for checkers.
    pub fn ballot(&self) -> Option<Ballot> {
        match &self.state {
            State::Following { .. } | State::PreCheck(_) => None,
            State::Candidate(candidate) => Some(candidate.ballot),
            State::Leading(leading) => Some(leading.ballot),
        }
    }

    fn on_paxos(&mut self, from: Address, message: PaxosMessage, effects: &mut Effects) {
        if from.group != self.config.group || !self.config.nodes.contains(&from.node) {
            effects.trace("ignore_stranger", || format!("{} from {from:?}", message.kind()));
            return;
        }
        match message {
            PaxosMessage::PreCheck(check) => self.on_pre_check(from.node, &check, effects),
            PaxosMessage::PreCheckReply(reply) => self.on_pre_check_reply(from.node, &reply, effects),
            PaxosMessage::Promise(promise) => self.on_promise(from.node, promise.into_inner(), effects),
            PaxosMessage::Accepted(accepted) => self.on_accepted(from.node, accepted.get(), effects),
            PaxosMessage::HeartbeatAck(ack) => self.on_heartbeat_ack(from.node, &ack, effects),
            PaxosMessage::Refused(refused) => self.on_refused(from.node, &refused, effects),
            PaxosMessage::Missing(missing) => self.on_missing(from.node, &missing, effects),
            PaxosMessage::TakeOver(message) => self.on_take_over(from.node, &message, effects),
            PaxosMessage::AskAge(question) => self.on_ask_age(from.node, question, effects),
            other => effects.trace("ignore_misdirected", || other.kind().to_owned()),
        }
    }

    fn on_local(&mut self, message: LocalMessage, effects: &mut Effects) {
        match message {
            LocalMessage::Heard(heard) => self.on_heard(heard, effects),
            LocalMessage::Promised(ballot) => self.on_promised(ballot),
            LocalMessage::Members(members) => self.on_members(members, effects),
            LocalMessage::Applied(applied) => self.on_applied(&applied, effects),
            LocalMessage::Serve(serve) => self.on_serve(&serve, effects),
            LocalMessage::Propose(commands) => self.on_propose(commands, effects),
            LocalMessage::Answers(answers) => self.on_answers(answers, effects),
            _ => effects.trace("ignore_misdirected", || "local message".to_owned()),
        }
    }

    fn on_request(&mut self, origin: Origin, request: Request, effects: &mut Effects) {
        match request.call {
            Call::Operator(OperatorCall::LeaderStatus(_)) => {
                let answer = OperatorAnswer::LeaderStatus(self.status());
                effects.reply(origin, Response::Operator(answer));
            }
            Call::Operator(OperatorCall::HandOver(call)) => self.on_hand_over(origin, call, effects),
            Call::Command(command) => self.on_command(origin, command, effects),
            Call::Fence(fence) => self.on_fence(origin, &fence, effects),
            Call::Write(write) => self.on_write(origin, write, effects),
            Call::Position(call) => self.on_position(origin, &call, effects),
            Call::Read(read) => {
                let ticket = ReadTicket { origin, account: read.account, deadline: read.deadline };
                self.on_read(Read::Account(ticket), effects);
            }
            Call::Query(query) if query.is_sound() => {
                let operations = query.operations.into();
                self.on_read(Read::Query(QueryTicket { origin, operations }), effects);
            }
            _ => effects.reply(origin, Response::refused(Why::Malformed)),
        }
    }

    fn status(&self) -> LeaderStatus {
        let (phase, waiting, in_flight) = match &self.state {
            State::Following { .. } => (LeaderPhase::Following, 0, 0),
            State::PreCheck(_) => (LeaderPhase::PreCheck, 0, 0),
            State::Candidate(_) => (LeaderPhase::Candidate, 0, 0),
            State::Leading(leading) => {
                let phase = if leading.is_serving() { LeaderPhase::Serving } else { LeaderPhase::Leading };
                (phase, leading.batch.len() as u64, leading.in_flight() as u64)
            }
        };
        LeaderStatus {
            phase,
            ballot: self.highest,
            leader: self.leader.map(|(_, node)| node),
            no_quorum: self.no_quorum,
            waiting,
            in_flight,
            elections: self.elections,
        }
    }

    fn refusal(&self) -> Response {
        let why = if self.no_quorum { Why::NoQuorum } else { Why::NotLeader };
        let leader = self.leader.map(|(_, node)| node).filter(|node| *node != self.config.node);
        Response::Refused(Refused { why, leader, after: Span(0) })
    }

    fn follow_hint(&self) -> Follow {
        let leader = self.leader.map(|(_, node)| node).filter(|node| *node != self.config.node);
        Follow { leader, no_quorum: self.no_quorum }
    }

    /// Tells the other roles of this node that it does not lead, and who may.
    fn tell_follow(&self, effects: &mut Effects) {
        let follow = self.follow_hint();
        for role in [RoleKind::Replica, RoleKind::Coordinator, RoleKind::Participant] {
            effects.send_local(role, LocalMessage::Follow(follow));
        }
    }

    fn others(&self) -> impl Iterator<Item = NodeId> + use<'_> {
        self.config.nodes.iter().copied().filter(|node| *node != self.config.node)
    }

    fn replica_of(&self, node: NodeId) -> ReplicaId {
        replica_on(&self.config.nodes, node)
    }

    /// Whether a replica's directory is the one that was admitted, as far as is known here.
    fn admitted(&self, node: NodeId, directory: DirectoryId) -> bool {
        let replica = self.replica_of(node);
        let founders = match &self.state {
            State::Leading(leading) => leading.founders.as_ref(),
            _ => None,
        };
        let members = self.members.as_ref().or(founders);
        let admits = members.is_none_or(|members| {
            members.iter().any(|m| m.replica == replica && m.node == node && m.directory == directory)
        });
        admits || is_planted(Bug::StrangerVotes)
    }

    fn send_all(&self, message: &PaxosMessage, effects: &mut Effects) {
        for node in self.config.nodes.clone() {
            effects.send_paxos(node, RoleKind::Replica, message.clone());
        }
    }
}

impl Role for Leader {
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
            Input::Link { node, up } => self.on_link(node, up, effects),
            Input::Timer => self.on_timer(effects),
            Input::Turn => self.on_turn(effects),
            Input::Persisted(_)
            | Input::Fetched { .. }
            | Input::Snapshotted { .. }
            | Input::SnapshotRead { .. }
            | Input::SnapshotDue => {
                effects.trace("ignore_misdirected", || "disk".to_owned());
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Following { until } => Some(*until),
            State::PreCheck(check) => Some(check.next_deadline()),
            State::Candidate(candidate) => Some(candidate.next_deadline()),
            State::Leading(leading) => Some(leading.next_deadline()),
        }
    }
}

impl Leader {
    fn on_timer(&mut self, effects: &mut Effects) {
        match &self.state {
            State::Following { .. } | State::PreCheck(_) => self.on_election_timer(effects),
            State::Candidate(_) => self.on_candidate_timer(effects),
            State::Leading(_) => self.on_leading_timer(effects),
        }
    }

    fn on_turn(&mut self, effects: &mut Effects) {
        self.answers.on_turn(effects);
        if matches!(self.state, State::Leading(_)) {
            self.start_read_round(effects);
            self.propose(effects);
            self.expire(effects);
        }
    }

    fn is_current(&self, ballot: Ballot) -> bool {
        matches!(&self.state, State::Leading(leading) if leading.ballot == ballot)
    }
}

//! Leading: bringing followers in line, keeping entries in flight, counting what is chosen.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::ids::{Ballot, CommandRef, NodeId, Slot};
use crate::message::command::{Command, Content, Entry, FORMAT, LeaderStart, Member};
use crate::message::local::Serve;
use crate::message::paxos::{
    Accept, Accepted, ChosenEntries, Commit, Heartbeat, Missing, Prepare, Promise, Synchronise,
};
use crate::message::{LocalMessage, PaxosMessage};
use crate::paxos::window::Window;
use crate::paxos::{PART_BYTES, parts};
use crate::planted::{Bug, is_planted};
use crate::quorum::Quorum;
use crate::role::{Effects, RoleKind};
use crate::time::{LogTime, Span, Time};
use crate::wire::codec::to_vec;

use super::batch::Batch;
use super::candidate::Adopted;
use super::clients::Waiting;
use super::hand_over::HandOver;
use super::levels::Levels;
use super::reads::Rounds;
use super::{Leader, State};

/// Entries that may be proposed and not yet chosen.
const WINDOW_SLOTS: usize = 8;
/// Bytes of entries that may be proposed and not yet chosen; one entry is always admitted.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Chosen entries that the own disk may not have yet: beyond that a leader does not propose.
const OWN_LAG_SLOTS: usize = 64;
/// Chosen entries that are kept in memory for followers that missed a frame.
const KEEP_BYTES: usize = 8 * 1024 * 1024;
/// An idle leader tells followers what is chosen after this long; a busy one with its next entry.
const COMMIT_AFTER: Span = Span::from_millis(2);
/// A follower that lacks entries gets so many at once, and as many bytes as a part has; it asks for the rest when it has
/// these. A leader's step stays short however far a follower is behind.
const RESEND_SLOTS: usize = 64;
/// The same entries are sent again to the same follower at most so often.
const RESEND_AFTER: Span = Span::from_millis(10);

/// A ballot that was won.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    // The node that leads.
    pub(super) own: NodeId,
    pub(super) ballot: Ballot,
    // Whom its first entry admits, if that is the group's first.
    pub(super) founders: Option<Vec<Member>>,
    pub(super) log: Window,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    // Log time at a moment of the local clock, once the first entry is applied.
    serving: Option<(LogTime, Time)>,
    pub(super) rounds: Rounds,
    pub(super) levels: Levels,
    next_heartbeat: Time,
    // When to see whether a quorum and the own disk are still there; read rounds do not put it off.
    next_check: Time,
    // The chosen length that followers were last told, and when to tell them the next.
    committed: Slot,
    commit_at: Option<Time>,
    // When the own disk last showed progress, or had nothing to do.
    disk_at: Time,
    pub(super) expiry: Option<LogTime>,
    pub(super) batch: Batch,
    pub(super) waiting: BTreeMap<CommandRef, Waiting>,
    // While it is under way nothing is proposed.
    pub(super) hand_over: Option<HandOver>,
}

#[derive(Clone, Debug)]
pub(super) struct Peer {
    // It has promised this ballot with an admitted directory: only then does anything of it count.
    pub(super) promised: bool,
    pub(super) synchronised: bool,
    pub(super) accepted: Slot,
    pub(super) heard: Time,
    resent: Option<(Slot, Time)>,
}

impl Peer {
    fn new(now: Time) -> Peer {
        Peer { promised: false, synchronised: false, accepted: Slot(0), heard: now, resent: None }
    }
}

impl Leading {
    pub(super) fn is_serving(&self) -> bool {
        self.serving.is_some()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.log.length().distance_from(self.log.chosen())
    }

    // The own disk is waited for like a quorum: what it has not written is bounded by the same window.
    fn has_room(&self) -> bool {
        if self.hand_over.is_some() {
            return false; // What is proposed now would keep the successor from having everything.
        }
        let written = self.peers.get(&self.own).map_or(Slot(0), |peer| peer.accepted);
        let (chosen, written) = (self.log.chosen(), written.max(self.log.start()));
        if chosen.distance_from(written) > OWN_LAG_SLOTS || self.log.bytes_from(written) > 2 * WINDOW_BYTES {
            return false;
        }
        let open = self.in_flight();
        open == 0 || (open < WINDOW_SLOTS && self.log.bytes_from(chosen) < WINDOW_BYTES)
    }

    /// The length that a quorum has accepted under this ballot.
    pub(super) fn accepted_by(&self, quorum: Quorum) -> Slot {
        let mut lengths: Vec<Slot> = self.peers.values().filter(|p| p.promised).map(|p| p.accepted).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        if is_planted(Bug::AcceptedTwice) {
            lengths.insert(0, lengths.first().copied().unwrap_or_default());
        }
        if is_planted(Bug::OwnDiskAlone) {
            return self.peers.get(&self.own).map_or(Slot(0), |peer| peer.accepted);
        }
        lengths.get(quorum.size() - 1).copied().unwrap_or_default()
    }

    /// Bytes of entries from `slot` on that are chosen, as far as they are in memory.
    fn chosen_beyond(&self, slot: Slot) -> usize {
        let chosen = self.log.chosen();
        self.log.bytes_from(slot.min(chosen)) - self.log.bytes_from(chosen)
    }

    /// The group's log time as this leader advances it: by its monotonic clock from the last applied value.
    pub(super) fn log_time(&self, now: Time) -> LogTime {
        self.serving.map_or(LogTime(0), |(time, since)| time + now.since(since))
    }

    pub(super) fn next_deadline(&self) -> Time {
        let expiry = self.serving.zip(self.expiry).filter(|_| self.has_room());
        let expiry = expiry.map(|((time, since), expiry)| since + Span(expiry.0.saturating_sub(time.0)));
        let hand_over = self.hand_over.as_ref().map(HandOver::deadline);
        [self.commit_at, expiry, hand_over, self.levels.deadline()]
            .into_iter()
            .flatten()
            .fold(self.next_heartbeat.min(self.next_check), Time::min)
    }
}

impl Leader {
    /// The election is won: everybody's log becomes this one, and the first entry names the ballot.
    pub(super) fn lead(&mut self, adopted: Adopted, effects: &mut Effects) {
        let now = self.now;
        let mut log = Window::new(adopted.start, adopted.entries);
        let content = Content::LeaderStart(LeaderStart { ballot: adopted.ballot, members: adopted.members.clone() });
        log.append(self.encode(LogTime(0), content));
        self.leader = Some((adopted.ballot, self.config.node));
        self.no_quorum = false;
        effects.note("lead", format!("with {} from {}", adopted.ballot, adopted.start));
        self.state = State::Leading(Box::new(Leading {
            own: self.config.node,
            ballot: adopted.ballot,
            founders: adopted.members,
            peers: self.config.nodes.iter().map(|node| (*node, Peer::new(now))).collect(),
            log,
            serving: is_planted(Bug::ServesUnapplied).then_some((LogTime(0), now)),
            rounds: Rounds::default(),
            levels: Levels::default(),
            next_heartbeat: now,
            next_check: now + self.config.heartbeat,
            committed: adopted.start,
            commit_at: None,
            disk_at: now,
            expiry: None,
            batch: Batch::default(),
            waiting: BTreeMap::new(),
            hand_over: None,
        }));
        for (node, chosen) in adopted.followers {
            self.welcome(node, chosen, 0, effects);
        }
        self.beat(effects);
    }

    fn encode(&self, time: LogTime, content: Content) -> Bytes {
        let wall = self.config.wall + self.now.0;
        Bytes::from(to_vec(&Entry { format: FORMAT, time, wall, content }))
    }

    /// A replica that has promised is synchronised; one that lacks much learns what is chosen first, page by page, so that
    /// a synchronisation is not much more than what is in flight.
    fn welcome(&mut self, node: NodeId, chosen: Slot, nonce: u64, effects: &mut Effects) {
        let State::Leading(leading) = &mut self.state else { return };
        let lacks_much = chosen < leading.log.start() || leading.chosen_beyond(chosen) > PART_BYTES;
        let Some(peer) = leading.peers.get_mut(&node) else { return };
        peer.promised = true;
        if lacks_much {
            self.hint_chosen(node, chosen, effects);
            return;
        }
        peer.synchronised = true;
        let from = chosen.min(leading.log.length());
        let entries = leading.log.from(from, leading.log.length(), usize::MAX);
        let parts = parts(&entries);
        let count = parts.len();
        let mut start = from;
        for (index, entries) in parts.into_iter().enumerate() {
            let next = start.plus(entries.len());
            let last = index + 1 == count;
            let (ballot, chosen) = (leading.ballot, leading.log.chosen());
            let message = Synchronise { ballot, from, start, entries, last, chosen, nonce };
            effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Synchronise(message));
            start = next;
        }
    }

    /// Tells a replica that it has something to learn, from the replica on this node.
    pub(super) fn hint_chosen(&self, node: NodeId, from: Slot, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        let hint = ChosenEntries { start: from, entries: Vec::new(), chosen: leading.log.chosen() };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::ChosenEntries(hint));
    }

    /// A replica that was not heard in phase 1 has promised after all.
    pub(super) fn on_late_promise(&mut self, node: NodeId, promise: &Promise, effects: &mut Effects) {
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        let length = leading.log.length();
        let Some(peer) = leading.peers.get_mut(&node) else { return };
        if peer.promised || !promise.last {
            return;
        }
        peer.heard = now;
        // Its chosen length says nothing about this log: it may have learned what was chosen under a newer ballot. Only
        // what is accepted under this one counts.
        if is_planted(Bug::LatePromiseChooses) {
            peer.accepted = promise.chosen.min(length);
        }
        if is_planted(Bug::OlderAcceptanceCounted) {
            peer.accepted = promise.length.min(length);
        }
        self.welcome(node, promise.chosen, 0, effects);
    }

    /// A follower lacks something.
    pub(super) fn on_missing(&mut self, node: NodeId, missing: &Missing, effects: &mut Effects) {
        if !self.is_current(missing.ballot) {
            return;
        }
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        let Some(peer) = leading.peers.get_mut(&node) else { return };
        if !peer.promised {
            self.prepare_late(node, effects);
            return;
        }
        peer.heard = now;
        if peer.resent.is_some_and(|(from, at)| from == missing.from && now < at + RESEND_AFTER) {
            return;
        }
        peer.resent = Some((missing.from, now));
        if !missing.synchronised {
            self.welcome(node, missing.from, missing.nonce, effects);
        } else if missing.from < leading.log.start() {
            self.hint_chosen(node, missing.from, effects);
        } else {
            self.resend(node, missing.from, effects);
        }
    }

    fn resend(&self, node: NodeId, from: Slot, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        let until = leading.log.length().min(from.plus(RESEND_SLOTS));
        let entries = leading.log.from(from, until, PART_BYTES);
        for (index, entry) in entries.into_iter().enumerate() {
            let (ballot, chosen) = (leading.ballot, leading.log.chosen());
            let accept = Accept { ballot, slot: from.plus(index), chosen, entry };
            effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Accept(accept));
        }
    }

    /// Asks a replica that was not heard in phase 1; nothing of it counts before it has promised.
    fn prepare_late(&self, node: NodeId, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        let prepare = Prepare {
            ballot: leading.ballot,
            accepted: leading.ballot, // Nothing can be better than this log: send no entries.
            length: leading.log.length(),
            chosen: leading.log.chosen(),
            directory: self.config.directory,
        };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Prepare(prepare));
    }

    /// A replica that had promised says that it has not: it is another directory, or one that has lost what it promised.
    /// Nothing of it counts until it promises again.
    pub(super) fn on_unpromised(&mut self, node: NodeId, effects: &mut Effects) {
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        let Some(peer) = leading.peers.get_mut(&node) else { return };
        let before = std::mem::replace(peer, Peer::new(now));
        if before.promised {
            effects.note("unpromised", format!("{node} has not promised {}", leading.ballot));
            self.prepare_late(node, effects);
        }
    }

    /// A follower's disk has so much of this ballot's log.
    pub(super) fn on_accepted(&mut self, node: NodeId, accepted: &Accepted, effects: &mut Effects) {
        let (now, own) = (self.now, self.config.node);
        let State::Leading(leading) = &mut self.state else { return };
        if leading.ballot != accepted.ballot {
            return;
        }
        let length = leading.log.length();
        let Some(peer) = leading.peers.get_mut(&node) else { return };
        if !peer.promised || accepted.length > length {
            effects.note("ignore_accepted", format!("{} of {length} from {node}", accepted.length));
            return;
        }
        peer.heard = now;
        peer.accepted = peer.accepted.max(accepted.length);
        if node == own {
            leading.disk_at = now;
        }
        leading.answer_levels(self.quorum, effects);
        let chosen = leading.accepted_by(self.quorum);
        if chosen > leading.log.chosen() {
            leading.log.choose(chosen);
            leading.commit_at.get_or_insert(now + COMMIT_AFTER);
            self.tell_commit(own, effects);
            self.trim();
            self.propose(effects);
            self.expire(effects);
        }
        self.tell_successor(effects);
    }

    fn trim(&mut self) {
        let State::Leading(leading) = &mut self.state else { return };
        let everywhere = leading.peers.values().map(|peer| peer.accepted).min().unwrap_or_default();
        leading.log.trim(everywhere, 0);
        let chosen = leading.log.chosen();
        leading.log.trim(chosen, KEEP_BYTES);
    }

    pub(super) fn tell_commit(&self, node: NodeId, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        let commit = Commit { ballot: leading.ballot, chosen: leading.log.chosen() };
        effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Commit(commit));
    }

    /// The first entry of this ballot is applied here: serve.
    pub(super) fn on_serve(&mut self, serve: &Serve, effects: &mut Effects) {
        self.members = Some(serve.members.clone());
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        if leading.ballot != serve.ballot {
            return;
        }
        leading.serving = Some((serve.time, now));
        effects.note("serve", format!("with {}", serve.ballot));
        self.propose(effects);
    }

    /// Fills the pipeline: a batch closes when there is room for it, so an idle group adds no delay and a busy one
    /// gathers larger batches by itself.
    pub(super) fn propose(&mut self, effects: &mut Effects) {
        loop {
            let now = self.now;
            let State::Leading(leading) = &mut self.state else { return };
            if !leading.is_serving() || !leading.has_room() {
                return;
            }
            let slot = leading.log.length();
            let Some(commands) = leading.next_batch(slot, now, effects) else { return };
            self.append(commands, effects);
        }
    }

    fn append(&mut self, commands: Vec<Command>, effects: &mut Effects) {
        let State::Leading(leading) = &self.state else { return };
        let time = leading.log_time(self.now);
        let entry = self.encode(time, Content::Commands(commands));
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        let slot = leading.log.length();
        if leading.peers.get(&leading.own).is_some_and(|peer| peer.accepted == slot) {
            leading.disk_at = now; // The own disk has nothing to do but this.
        }
        leading.log.append(entry.clone());
        let chosen = leading.log.chosen();
        leading.committed = chosen;
        leading.commit_at = None;
        let accept = Accept { ballot: leading.ballot, slot, chosen, entry };
        let ready: BTreeSet<NodeId> =
            leading.peers.iter().filter(|(_, peer)| peer.synchronised).map(|(node, _)| *node).collect();
        for node in ready {
            effects.send_paxos(node, RoleKind::Replica, PaxosMessage::Accept(accept.clone()));
        }
    }

    pub(super) fn on_leading_timer(&mut self, effects: &mut Effects) {
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        if leading.commit_at.is_some_and(|at| now >= at) {
            leading.commit_at = None;
            effects.timer("leader/commit");
            if leading.committed < leading.log.chosen() {
                leading.committed = leading.log.chosen();
                let others: Vec<NodeId> = self.others().collect();
                for node in others {
                    self.tell_commit(node, effects);
                }
            }
        }
        let State::Leading(leading) = &mut self.state else { return };
        leading.end_levels(now, effects);
        self.expire(effects);
        self.on_hand_over_timer(effects);
        let State::Leading(leading) = &mut self.state else { return };
        if now >= leading.next_check {
            leading.next_check = now + self.config.heartbeat;
            effects.timer("leader/quorum_check");
            if self.step_down_if_alone(effects) {
                return;
            }
        }
        let State::Leading(leading) = &self.state else { return };
        if now >= leading.next_heartbeat {
            effects.timer("leader/heartbeat");
            self.beat(effects);
        }
    }

    /// Something that waits expires now: an empty entry makes log time go on.
    pub(super) fn expire(&mut self, effects: &mut Effects) {
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return };
        let due = leading.is_serving() && leading.expiry.is_some_and(|expiry| leading.log_time(now) >= expiry);
        if due && leading.has_room() {
            effects.timer("leader/expiry");
            leading.expiry = None; // The replica says what comes next.
            self.append(Vec::new(), effects);
        }
    }

    /// A leader that has heard no quorum for an election timeout, or whose own disk hangs that long, steps down and
    /// says so (hazard L7).
    fn step_down_if_alone(&mut self, effects: &mut Effects) -> bool {
        let (now, timeout) = (self.now, self.config.leader_timeout);
        let State::Leading(leading) = &mut self.state else { return true };
        let heard = leading.peers.values().filter(|peer| peer.promised && now.since(peer.heard) < timeout).count();
        let own = leading.peers.get(&self.config.node).map_or(Slot(0), |peer| peer.accepted);
        if own == leading.log.length() {
            leading.disk_at = now;
        }
        let hangs = now.since(leading.disk_at) >= timeout;
        let alone = !self.quorum.is_quorum(heard);
        if (!alone && !hangs) || is_planted(Bug::LeadsAlone) {
            return false;
        }
        effects.note("step_down", format!("{heard} heard, disk hangs: {hangs}"));
        self.no_quorum = alone;
        self.leader = None;
        self.become_follower(effects);
        true
    }

    /// One round of heartbeats.
    pub(super) fn beat(&mut self, effects: &mut Effects) {
        let now = self.now;
        let own = self.config.node;
        let State::Leading(leading) = &mut self.state else { return };
        leading.next_heartbeat = now + self.config.heartbeat;
        let round = leading.rounds.next();
        let mut order: Vec<(&NodeId, &Peer)> = leading.peers.iter().filter(|(node, _)| **node != own).collect();
        order.sort_by_key(|(node, peer)| (std::cmp::Reverse(peer.accepted), **node));
        let order: Vec<NodeId> = order.into_iter().map(|(node, _)| *node).collect();
        let late: Vec<NodeId> = leading.peers.iter().filter(|(_, p)| !p.promised).map(|(node, _)| *node).collect();
        let heartbeat = Heartbeat {
            ballot: leading.ballot,
            round,
            length: leading.log.length(),
            chosen: leading.log.chosen(),
            succession: order.iter().map(|node| self.replica_of(*node)).collect(),
        };
        self.send_all(&PaxosMessage::Heartbeat(heartbeat), effects);
        for node in late {
            self.prepare_late(node, effects);
        }
    }

    /// A replica has promised nothing higher; takes note of it and returns whether it counts.
    pub(super) fn heard_from(&mut self, node: NodeId) -> bool {
        let now = self.now;
        let State::Leading(leading) = &mut self.state else { return false };
        let Some(peer) = leading.peers.get_mut(&node) else { return false };
        peer.heard = now;
        peer.promised
    }

    /// From the other roles of this node: never refused while leading (hazard L8), lost if not.
    pub(super) fn on_propose(&mut self, commands: Vec<Command>, effects: &mut Effects) {
        match &mut self.state {
            State::Leading(leading) => leading.batch.push_internal(commands),
            _ => effects.send_local(RoleKind::Replica, LocalMessage::Follow(self.follow_hint())),
        }
    }
}

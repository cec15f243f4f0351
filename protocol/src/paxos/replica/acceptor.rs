//! The acceptor: what a replica answers to candidates and leaders.

use bytes::Bytes;

use crate::ids::{Ballot, NodeId, Slot};
use crate::log::record::{AcceptRecord, Record, SynchroniseRecord};
use crate::message::command::Entry;
use crate::message::local::Heard;
use crate::message::paxos::{
    Accept, Accepted, ChosenEntries, Commit, Heartbeat, HeartbeatAck, Missing, Prepare, Promise, Refused, Synchronise,
};
use crate::message::{LocalMessage, PaxosMessage};
use crate::paxos::{node_of, parts};
use crate::planted::{Bug, is_planted};
use crate::role::{Effects, Gated, RoleKind};
use crate::time::{Span, Time};

use super::Replica;

/// The same thing is asked of a leader at most so often.
const ASK_AGAIN: Span = Span::from_millis(20);

/// A synchronisation of which parts have arrived.
#[derive(Clone, Debug)]
pub(super) struct PartialSync {
    ballot: Ballot,
    from: Slot,
    entries: Vec<Bytes>,
}

/// What was last asked of the leader.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    missing: Missing,
    at: Time,
}

impl Replica {
    /// Phase 1.
    pub(super) fn on_prepare(&mut self, node: NodeId, prepare: Prepare, effects: &mut Effects) {
        if !self.admits(node, &prepare) {
            effects.note("ignore_foreign", format!("a candidate on {node} with a directory that was not admitted"));
            return;
        }
        if self.foreign {
            return;
        }
        if prepare.ballot < self.promise {
            self.refuse(node, prepare.ballot, effects);
            return;
        }
        if prepare.ballot > self.promise {
            self.promise = prepare.ballot;
            self.sync = None;
            if !is_planted(Bug::PromiseNotWritten) {
                self.persist(vec![Record::Promise(prepare.ballot)], effects);
            }
            effects.send_local(RoleKind::Leader, LocalMessage::Promised(prepare.ballot));
        }
        self.send_promise(node, &prepare, effects);
        if self.log.chosen() > prepare.chosen {
            // The candidate lacks something that is chosen; its replica fetches it from here.
            let chosen = ChosenEntries { start: prepare.chosen, entries: Vec::new(), chosen: self.log.chosen() };
            effects.send_paxos(node, RoleKind::Replica, PaxosMessage::ChosenEntries(chosen));
        }
    }

    /// Whether the candidate is a member with the directory that it was admitted with, as far as is known here.
    fn admits(&self, node: NodeId, prepare: &Prepare) -> bool {
        if is_planted(Bug::StrangerVotes) {
            return true;
        }
        if node_of(&self.config.nodes, prepare.ballot.replica) != Some(node) {
            return false;
        }
        let Some(members) = self.ledger.members() else { return true };
        let found = members.iter().find(|member| member.replica == prepare.ballot.replica);
        found.is_some_and(|member| member.node == node && member.directory == prepare.directory)
    }

    fn send_promise(&mut self, node: NodeId, prepare: &Prepare, effects: &mut Effects) {
        let length = self.log.length();
        let start = self.log.chosen().max(prepare.chosen);
        let better = (self.accepted, length) > (prepare.accepted, prepare.length);
        let entries = if better && start < length { self.log.from(start, length, usize::MAX) } else { Vec::new() };
        let parts = parts(&entries);
        let count = parts.len();
        let mut at = start;
        for (index, entries) in parts.into_iter().enumerate() {
            let next = at.plus(entries.len());
            let promise = Promise {
                ballot: prepare.ballot,
                accepted: self.accepted,
                length,
                chosen: self.log.chosen(),
                start: at,
                entries,
                last: index + 1 == count,
                doubtful: self.doubtful,
                directory: self.config.directory,
            };
            self.gate.hold(node, Gated::Promise(promise), effects);
            at = next;
        }
    }

    /// Whether this replica has promised exactly this ballot; says so to the leader if not. Nothing is taken under a
    /// ballot that was not promised, so a directory that was formatted anew meanwhile, which has forgotten what it
    /// promised, is found out by its next promise (hazard S25).
    fn has_promised(&self, node: NodeId, ballot: Ballot, effects: &mut Effects) -> bool {
        if ballot != self.promise {
            self.refuse(node, ballot, effects);
        }
        ballot == self.promise
    }

    /// A leader makes this log its own, from the chosen length on.
    pub(super) fn on_synchronise(&mut self, node: NodeId, message: Synchronise, effects: &mut Effects) {
        if !self.has_promised(node, message.ballot, effects) {
            return;
        }
        let goes_on = is_planted(Bug::SynchronisedInParts) && message.start > message.from;
        if self.is_synchronised(message.ballot) && !goes_on {
            self.acknowledge(node, effects); // It came before; the acknowledgement may have been lost.
            return;
        }
        if message.from > self.log.chosen() || self.foreign || !self.cures_doubt(&message) {
            self.ask(node, message.ballot, effects);
            return;
        }
        if !self.are_well_formed(node, &message.entries, effects) {
            return;
        }
        let Some((from, entries)) = self.collect(message.clone()) else {
            return;
        };
        let end = from.plus(entries.len());
        let chosen = self.log.chosen();
        if end < chosen {
            // Every leader's log begins with what is chosen; one that does not is no leader of ours.
            effects.note("ignore_short_sync", format!("to {end} from {node}, but {chosen} are chosen"));
            return;
        }
        let entries: Vec<Bytes> = entries.into_iter().skip(chosen.distance_from(from)).collect();
        self.accepted = message.ballot;
        self.doubtful = false;
        self.cut(chosen);
        for entry in &entries {
            self.log.append(entry.clone());
        }
        let record = SynchroniseRecord { ballot: message.ballot, from: chosen, entries, chosen };
        self.persist(vec![Record::Synchronise(record)], effects);
        self.asked = None;
        self.acknowledge(node, effects);
        self.choose(message.chosen);
    }

    /// Whether a synchronisation gives back what a log in doubt may have lost. One from before this replica started may
    /// be older than what it accepted since: it must answer a question of this life, or come from a leader that was
    /// elected in it (hazard S28).
    fn cures_doubt(&self, message: &Synchronise) -> bool {
        !self.doubtful || message.ballot > self.recovered || message.nonce == self.config.seed
    }

    /// Adds a part; once the last one is there, the whole.
    fn collect(&mut self, part: Synchronise) -> Option<(Slot, Vec<Bytes>)> {
        if part.start == part.from {
            self.sync = Some(PartialSync { ballot: part.ballot, from: part.from, entries: Vec::new() });
        }
        let sync = self.sync.as_mut()?;
        let next = sync.from.plus(sync.entries.len());
        if (sync.ballot, sync.from, next) != (part.ballot, part.from, part.start) {
            self.sync = None; // A part was lost; the leader sends all of them again when it is asked.
            return None;
        }
        sync.entries.extend(part.entries);
        if !part.last {
            let whole = self.sync.as_ref().filter(|_| is_planted(Bug::SynchronisedInParts));
            return whole.map(|sync| (sync.from, sync.entries.clone()));
        }
        self.sync.take().map(|sync| (sync.from, sync.entries))
    }

    /// The next entry.
    pub(super) fn on_accept(&mut self, node: NodeId, accept: Accept, effects: &mut Effects) {
        if !is_planted(Bug::PromiseIgnored) && !self.has_promised(node, accept.ballot, effects) {
            return;
        }
        if is_planted(Bug::AcceptedUnsynchronised) && !self.doubtful && accept.slot <= self.log.length() {
            (self.promise, self.accepted) = (accept.ballot, accept.ballot);
        }
        if !self.is_synchronised(accept.ballot) || accept.slot > self.log.length() {
            self.ask(node, accept.ballot, effects);
            return;
        }
        if accept.slot == self.log.length() {
            if !self.are_well_formed(node, std::slice::from_ref(&accept.entry), effects) {
                return;
            }
            let record = AcceptRecord { slot: accept.slot, chosen: self.log.chosen(), entry: accept.entry.clone() };
            self.log.append(accept.entry);
            self.persist(vec![Record::Accept(record)], effects);
        }
        self.acknowledge(node, effects);
        self.choose(accept.chosen);
    }

    /// Whether entries of a peer can be applied. One that cannot must not get into the log: if it were chosen, no replica
    /// could go on, now or after a restart. What this node's own leader sends was made, or looked at, by it.
    pub(super) fn are_well_formed(&self, node: NodeId, entries: &[Bytes], effects: &mut Effects) -> bool {
        let good = node == self.config.node || entries.iter().all(|entry| Entry::is_well_formed(entry));
        if !good {
            effects.note("ignore_malformed", format!("{node} sends bytes that are no entry"));
        }
        good
    }

    /// So much is chosen; that counts only for a log that was synchronised under the same ballot (hazard S20).
    pub(super) fn on_commit(&mut self, node: NodeId, commit: &Commit, effects: &mut Effects) {
        if !self.has_promised(node, commit.ballot, effects) {
            return;
        }
        if self.is_synchronised(commit.ballot) || is_planted(Bug::CommitAcrossBallots) {
            self.choose(commit.chosen);
        } else {
            self.ask(node, commit.ballot, effects);
        }
    }

    /// The leader is there.
    pub(super) fn on_heartbeat(&mut self, node: NodeId, heartbeat: Heartbeat, effects: &mut Effects) {
        if heartbeat.ballot < self.promise && !is_planted(Bug::HeartbeatBelowPromise) {
            self.refuse(node, heartbeat.ballot, effects);
            return;
        }
        if self.foreign {
            return;
        }
        self.leader = Some((node, heartbeat.ballot));
        let heard = Heard { ballot: heartbeat.ballot, node, succession: heartbeat.succession };
        effects.send_local(RoleKind::Leader, LocalMessage::Heard(heard));
        if !is_planted(Bug::HeartbeatBelowPromise) && !self.has_promised(node, heartbeat.ballot, effects) {
            return;
        }
        let ack = HeartbeatAck { ballot: heartbeat.ballot, round: heartbeat.round, chosen: self.log.chosen() };
        self.send_leader(node, PaxosMessage::HeartbeatAck(ack), effects);
        let synchronised = self.is_synchronised(heartbeat.ballot);
        if synchronised {
            self.choose(heartbeat.chosen);
            if heartbeat.chosen < self.log.length() {
                // Perhaps the acknowledgement was lost, and nothing follows that would bring another one.
                self.acknowledge(node, effects);
            }
        }
        if !synchronised || heartbeat.length > self.log.length() {
            self.ask(node, heartbeat.ballot, effects);
        }
    }

    /// Whether this log is the leader's under `ballot`. One that may have lost its end is not: it takes nothing but a
    /// whole synchronisation, which gives back all that it can have accepted (hazard S28).
    fn is_synchronised(&self, ballot: Ballot) -> bool {
        self.accepted == ballot && !self.doubtful
    }

    /// Tells the leader what this replica lacks, not too often.
    pub(super) fn ask(&mut self, node: NodeId, ballot: Ballot, effects: &mut Effects) {
        if is_planted(Bug::MissedNotAsked) {
            return;
        }
        let synchronised = self.is_synchronised(ballot);
        let from = if synchronised { self.log.length() } else { self.log.chosen() };
        let missing = Missing { ballot, synchronised, from, nonce: self.config.seed };
        if let Some(asked) = &self.asked
            && asked.missing == missing
            && self.now < asked.at + ASK_AGAIN
        {
            return;
        }
        self.asked = Some(Asked { missing: missing.clone(), at: self.now });
        self.send_leader(node, PaxosMessage::Missing(missing), effects);
    }

    fn refuse(&self, node: NodeId, ballot: Ballot, effects: &mut Effects) {
        let refused = Refused { ballot, promised: self.promise };
        self.send_leader(node, PaxosMessage::Refused(refused), effects);
    }

    fn acknowledge(&mut self, node: NodeId, effects: &mut Effects) {
        let accepted = Accepted { ballot: self.accepted, length: self.log.length() };
        self.gate.hold(node, Gated::Accepted(accepted), effects);
    }

    /// The leader's chosen length, as far as this log reaches.
    pub(super) fn choose(&mut self, chosen: Slot) {
        self.log.choose(chosen.min(self.log.length()));
    }

    /// Removes what is not chosen from `slot` on. What is on disk there is no longer this log's.
    pub(super) fn cut(&mut self, slot: Slot) {
        self.log.truncate(slot);
        self.durable_length = self.durable_length.min(slot);
        for (_, length) in &mut self.durable {
            *length = (*length).min(slot);
        }
    }

    pub(super) fn persist(&mut self, records: Vec<Record>, effects: &mut Effects) {
        let token = self.gate.persist(records, effects);
        self.durable.push_back((token, self.log.length()));
    }
}

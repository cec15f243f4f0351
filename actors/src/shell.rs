//! The engine around one pure role: steps it, and carries out its effects in their order.
//!
//! Nothing here decides anything, and nothing waits. What a handler run has for siblings and for the gateway is
//! collected and handed over at its end, one message each, and the links are flushed then: so whatever a turn says to
//! other nodes is on its way before the next turn applies anything.
//!
//! **The log's credit.** Entries of another node reach a replica only while the log has room for them beyond
//! [`LOG_RESERVE`]; else they are dropped and counted, and the protocol sends them again. Everything else a replica
//! persists is small, or bounded by its own leader's window; if the log refuses it nevertheless it waits here, in
//! order, and is offered again: a record is never lost and never overtaken.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use drachma_protocol::ids::{GroupId, Origin, Slot};
use drachma_protocol::ledger::image::Image;
use drachma_protocol::log::record::Record;
use drachma_protocol::message::client::Response;
use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::{Address, Effect, Effects, Input, Role, RoleKind, Token, Trace};
use drachma_protocol::time::{Span, Time};
use drachma_protocol::wire::frame::LIMIT_PEER;

use crate::clock::Clock;
use crate::counters::Counters;
use crate::mailbox::{Roster, name};
use crate::storage::{Full, LogHandle, SnapshotState};
use crate::transport::Links;

/// What of the log's credit stays free when entries of other nodes are taken in.
pub(crate) const LOG_RESERVE: usize = LIMIT_PEER;

/// When the log is offered again what it refused, if it says nothing before.
const RETRY: Span = Span::from_millis(1);

/// What the shell needs of the log.
pub(crate) trait Log: Send + Sync {
    /// Queues records; `Persisted` follows.
    ///
    /// # Errors
    /// If there is no room; nothing was queued.
    fn append(&self, group: GroupId, token: Token, records: Vec<Record>) -> Result<(), Full>;
    /// Asks for entries; `Fetched` follows.
    fn fetch(&self, group: GroupId, from: Slot, until: Slot, bytes: usize);
    /// Has a snapshot written; `Snapshotted` follows.
    fn snapshot(&self, group: GroupId, image: Image);
    /// Asks for a piece of a snapshot; `SnapshotRead` follows.
    fn read_snapshot(&self, group: GroupId, slot: Slot, offset: u64);
    /// What is known of each group's snapshots.
    fn snapshots(&self) -> Vec<(GroupId, SnapshotState)> {
        Vec::new()
    }
    /// Bytes that may still be queued.
    fn credit(&self) -> usize;
    /// What it has done since it was started, by name; times in microseconds.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    /// How long its syncs took, see [`LogHandle::sync_times`].
    fn sync_times(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }
    /// Writes what is queued and ends.
    fn close(&self);
}

impl Log for LogHandle {
    fn append(&self, group: GroupId, token: Token, records: Vec<Record>) -> Result<(), Full> {
        LogHandle::append(self, group, token, records)
    }

    fn fetch(&self, group: GroupId, from: Slot, until: Slot, bytes: usize) {
        LogHandle::fetch(self, group, from, until, bytes);
    }

    fn snapshot(&self, group: GroupId, image: Image) {
        LogHandle::snapshot(self, group, image);
    }

    fn read_snapshot(&self, group: GroupId, slot: Slot, offset: u64) {
        LogHandle::read_snapshot(self, group, slot, offset);
    }

    fn snapshots(&self) -> Vec<(GroupId, SnapshotState)> {
        LogHandle::snapshots(self)
    }

    fn credit(&self) -> usize {
        LogHandle::credit(self)
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        LogHandle::counters(self)
    }

    fn sync_times(&self) -> Vec<(u64, u64)> {
        LogHandle::sync_times(self)
    }

    fn close(&self) {
        self.clone().close();
    }
}

/// What a shell is connected to; shared by the roles of a group.
#[derive(Clone)]
pub(crate) struct Wiring {
    /// The node's clock.
    pub(crate) clock: Clock,
    /// The node's mailboxes.
    pub(crate) roster: Roster,
    /// The links of this thread.
    pub(crate) links: Rc<Links>,
    /// The node's log.
    pub(crate) log: Arc<dyn Log>,
    /// The node's counts.
    pub(crate) counters: Arc<Counters>,
}

/// What a replica wants of the log. A question about entries waits behind those that are still to be written.
enum LogWork {
    Append(Token, Vec<Record>),
    Fetch(Slot, Slot, usize),
}

/// A role and what surrounds it.
pub(crate) struct Shell {
    me: Address,
    role: Box<dyn Role>,
    wiring: Wiring,
    effects: Effects,
    // For roles of this node, in the order of their first message.
    local: Vec<(GroupId, RoleKind, Vec<Input>)>,
    replies: Vec<(Origin, Response)>,
    // What the log has refused, and what must not overtake it, in order.
    backlog: VecDeque<LogWork>,
    // Bytes of entries taken in since the last turn: they may not have reached the log yet.
    admitted: usize,
    again: bool,
}

impl Shell {
    /// Surrounds a role.
    pub(crate) fn new(me: Address, role: Box<dyn Role>, wiring: Wiring) -> Shell {
        Shell {
            me,
            role,
            wiring,
            effects: Effects::new(me),
            local: Vec::new(),
            replies: Vec::new(),
            backlog: VecDeque::new(),
            admitted: 0,
            again: false,
        }
    }

    /// Which role it is.
    pub(crate) fn me(&self) -> Address {
        self.me
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Time {
        self.wiring.clock.now()
    }

    /// Hands in a batch.
    pub(crate) fn take(&mut self, inputs: Vec<Input>) {
        let now = self.now();
        for input in inputs {
            if self.admits(&input) {
                self.step(now, input);
            } else {
                self.wiring.counters.no_credit_dropped.bump();
            }
        }
    }

    /// Everything that was there has been handed in.
    pub(crate) fn turn(&mut self) {
        self.step(self.now(), Input::Turn);
        self.admitted = 0;
    }

    /// The time of [`deadline`](Shell::deadline) may have come; returns whether it has, for the role.
    pub(crate) fn timer(&mut self) -> bool {
        let now = self.now();
        let due = self.role.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.step(now, Input::Timer);
        }
        due
    }

    /// When [`timer`](Shell::timer) is wanted.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let retry = (!self.backlog.is_empty()).then(|| self.now() + RETRY);
        [self.role.deadline(), retry].into_iter().flatten().min()
    }

    /// Ends a handler run: hands over what was collected. Returns whether the role wants another turn.
    pub(crate) fn finish(&mut self) -> bool {
        self.offer_backlog();
        self.wiring.links.flush();
        for (group, role, inputs) in self.local.drain(..) {
            match self.wiring.roster.role(group, role) {
                Some(mailbox) => mailbox.deliver(inputs, 0),
                None => self.wiring.counters.peer_messages_misrouted.add(inputs.len() as u64),
            }
        }
        if !self.replies.is_empty() {
            self.wiring.roster.gateway().deliver(std::mem::take(&mut self.replies));
        }
        std::mem::take(&mut self.again)
    }

    // Whether the log has room for what this brings. Only entries from other nodes are ever turned away: heartbeats,
    // promises and commits must pass even if the disk is slow.
    fn admits(&mut self, input: &Input) -> bool {
        let Input::Message { from, message: Message::Paxos(message) } = input else { return true };
        if self.me.role != RoleKind::Replica || from.node == self.me.node {
            return true;
        }
        let Some(bytes) = entry_bytes(message) else { return true };
        let needed = LOG_RESERVE.saturating_add(self.admitted).saturating_add(bytes);
        if !self.backlog.is_empty() || self.wiring.log.credit() < needed {
            return false;
        }
        self.admitted = self.admitted.saturating_add(bytes);
        true
    }

    fn step(&mut self, now: Time, input: Input) {
        self.role.step(now, input, &mut self.effects);
        while let Some(effect) = self.effects.pop() {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } if to.node == self.me.node => self.keep(to, message),
            Effect::Send { to, message } => self.wiring.links.send(self.me, to, &message),
            Effect::Persist { token, records } => self.persist(token, records),
            Effect::Fetch { from, until, bytes } => {
                self.backlog.push_back(LogWork::Fetch(from, until, bytes));
                self.offer_backlog();
            }
            // Neither waits for the log, nor the log for them.
            Effect::Snapshot(image) => self.wiring.log.snapshot(self.me.group, image),
            Effect::ReadSnapshot { slot, offset } => self.wiring.log.read_snapshot(self.me.group, slot, offset),
            Effect::Reply { to, response } => self.replies.push((to, response)),
            Effect::Again => self.again = true,
            Effect::Trace(trace) => self.tell(&trace),
        }
    }

    // For a role of this node: collected, so that it becomes one message.
    fn keep(&mut self, to: Address, message: Message) {
        let input = Input::Message { from: self.me, message };
        match self.local.iter_mut().find(|(group, role, _)| (*group, *role) == (to.group, to.role)) {
            Some((.., inputs)) => inputs.push(input),
            None => self.local.push((to.group, to.role, vec![input])),
        }
    }

    fn persist(&mut self, token: Token, records: Vec<Record>) {
        assert_eq!(self.me.role, RoleKind::Replica, "only replicas persist: the log confirms to them");
        self.backlog.push_back(LogWork::Append(token, records));
        self.offer_backlog();
        if !self.backlog.is_empty() {
            self.wiring.counters.log_full.bump();
        }
    }

    fn offer_backlog(&mut self) {
        while let Some(work) = self.backlog.front() {
            match work {
                // Entries are counted references: the copy is cheap, and the log keeps what it refuses from nobody.
                LogWork::Append(token, records) => {
                    if self.wiring.log.append(self.me.group, *token, records.clone()).is_err() {
                        return;
                    }
                }
                LogWork::Fetch(from, until, bytes) => self.wiring.log.fetch(self.me.group, *from, *until, *bytes),
            }
            self.backlog.pop_front();
        }
    }

    fn tell(&self, trace: &Trace) {
        let Address { node, group, role } = self.me;
        let (role, event) = (name(role), trace.event);
        if trace.notable {
            tracing::info!(%node, %group, role, event, "{}", trace.detail);
        } else {
            tracing::debug!(%node, %group, role, event, "{}", trace.detail);
        }
    }
}

// The bytes that a replica will persist because of this message, if it carries entries and may be turned away.
fn entry_bytes(message: &PaxosMessage) -> Option<usize> {
    let entries = match message {
        PaxosMessage::Accept(accept) => std::slice::from_ref(&accept.entry),
        // Turning away a later part would waste all before it; the whole is bounded by the leader's window.
        PaxosMessage::Synchronise(synchronise) if synchronise.start > synchronise.from => return None,
        PaxosMessage::Synchronise(synchronise) => &synchronise.entries,
        PaxosMessage::ChosenEntries(chosen) => &chosen.entries,
        _ => return None,
    };
    Some(entries.iter().map(bytes::Bytes::len).sum())
}

#[cfg(test)]
mod tests;

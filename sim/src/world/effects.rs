//! Carrying out what roles and clients want done.

use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::ledger::image::Image;
use drachma_protocol::ledger::output::TxnOutput;
use drachma_protocol::log::record::Record;
use drachma_protocol::message::command::Command;
use drachma_protocol::message::{LocalMessage, Message, PaxosMessage, TxnMessage};
use drachma_protocol::role::{Address, Effect, Input, RoleKind, TIMERS, Trace};

use super::events::Event;
use super::{World, name};
use crate::checkers::{Class, Persisted, Reply, Sent};
use crate::client::Wish;
use crate::coverage::{self, Kind, Wire};
use crate::draw::{between, exponential, permille};
use crate::faults::{Deed, Point};
use crate::node::{Seat, Wanted};

/// How long a node reads from its disk at most, in microseconds.
const LONGEST_FETCH: u64 = 2_000;
/// How long a snapshot takes at most, in microseconds.
const LONGEST_SNAPSHOT: u64 = 2_000_000;
/// How long the rest of a long turn waits at most, in microseconds.
const LONGEST_AGAIN: u64 = 50;

/// What a node does by carrying out an effect, if it is one of the deeds before and after which nodes go down or stand
/// still.
fn deed(effect: &Effect) -> Option<Deed> {
    let is_decide = |commands: &[Command]| commands.iter().any(|command| matches!(command, Command::Decide(_)));
    let is_decided = |events: &[TxnOutput]| events.iter().any(|event| matches!(event, TxnOutput::Decided { .. }));
    match effect {
        Effect::Persist { .. } => Some(Deed::Append),
        Effect::Reply { .. } => Some(Deed::Acknowledge),
        Effect::Snapshot(_) => Some(Deed::Snapshot),
        Effect::Send { message, .. } => match message {
            Message::Paxos(PaxosMessage::Promise(_)) => Some(Deed::Promise),
            Message::Paxos(PaxosMessage::Accepted(_)) => Some(Deed::Accepted),
            Message::Paxos(PaxosMessage::Heartbeat(_)) => Some(Deed::Heartbeat),
            Message::Txn(TxnMessage::Prepare(_)) => Some(Deed::Prepare),
            Message::Txn(TxnMessage::Vote(_)) => Some(Deed::Vote),
            Message::Txn(TxnMessage::Resolve(_)) => Some(Deed::Resolve),
            Message::Txn(TxnMessage::Resolved(_)) => Some(Deed::Resolved),
            Message::Local(LocalMessage::Propose(commands)) if is_decide(commands) => Some(Deed::Decide),
            Message::Local(LocalMessage::Events(events)) if is_decided(events) => Some(Deed::Decided),
            _ => None,
        },
        _ => None,
    }
}

impl World<'_> {
    pub(super) fn carry_out(&mut self, node: usize, seat: usize, effect: Effect) {
        let deed = if self.has_trap(node) { deed(&effect) } else { None };
        let before = |world: &mut Self, deed| world.is_trapped_at(node, Point::Before(deed));
        if (self.is_trapped_by_effect(node) || deed.is_some_and(|deed| before(self, deed))) && self.spring() {
            return;
        }
        self.do_effect(node, seat, effect);
        if deed.is_some_and(|deed| self.is_trapped_at(node, Point::After(deed))) {
            self.spring();
        }
    }

    fn do_effect(&mut self, node: usize, seat: usize, effect: Effect) {
        let from = self.nodes[node].seats[seat].address;
        let boot = self.nodes[node].boot;
        match effect {
            Effect::Send { to, message } if to.node == from.node => {
                self.trace.event(self.now, b"local", || format!("{} -> {} {message:?}", name(from), name(to)));
                match &message {
                    Message::Paxos(message) => self.count(Kind::Paxos, message.kind()),
                    Message::Txn(message) => self.count(Kind::Txn, message.kind()),
                    Message::Local(message) => self.count(Kind::Local, message.kind()),
                }
                if !matches!(message, Message::Local(_)) {
                    self.show_message(from, to, &message, 0);
                }
                if let Message::Local(LocalMessage::Propose(commands)) = &message {
                    self.echo((node, boot), (from, to), commands);
                }
                if matches!((&message, to.role), (Message::Local(LocalMessage::Serve(_)), RoleKind::Coordinator)) {
                    self.begin_again(node, from.group);
                }
                let message = self.hold_up((node, boot), (from, to), message);
                self.nodes[node].put(to, Input::Message { from, message });
            }
            Effect::Send { to, message } => self.send(from, to, &message),
            Effect::Persist { token, records } => {
                self.trace.event(self.now, b"persist", || format!("{} persists {} {records:?}", name(from), token.0));
                let chosen = self.chosen.get(&from.group).map_or(&[][..], Vec::as_slice);
                let disk = &mut self.nodes[node].disk;
                let filled = records.iter().try_for_each(|record| match record {
                    Record::Snapshot(slot) => disk.fill(from.group, *slot, chosen),
                    _ => Ok(()),
                });
                if let Err(text) = filled.and_then(|()| disk.append(from.group, &records)) {
                    return self.fail("log", Class::Safety, format!("{}: {text}", name(from)));
                }
                let seen = Persisted { node: from.node, group: from.group, token, records: &records };
                let found = self.checkers.ask(|checker| checker.on_persist(&seen));
                self.check(found);
                self.nodes[node].unsynced.push((seat, token));
                self.sync(node);
            }
            Effect::Fetch { from, until, bytes } => {
                // What was appended before is found: it is committed first.
                let host = &mut self.nodes[node];
                let after = host.syncs.0 + u64::from(host.disk.is_queued());
                host.fetches.push_back((after, Wanted { seat, from, until, bytes }));
                self.fetch(node);
            }
            Effect::Snapshot(image) => self.snapshot(node, seat, image),
            Effect::ReadSnapshot { slot, offset } => {
                let piece = match self.nodes[node].disk.read_snapshot(from.group, slot, offset) {
                    Ok(piece) => piece,
                    Err(refusal) => return self.disk_failed(node, &refusal),
                };
                let place = &mut self.nodes[node].seats[seat];
                let at = (self.now + between(&mut self.rng, 1, LONGEST_FETCH)).max(place.fetched);
                place.fetched = at;
                self.at(at, Event::SnapshotRead { node, boot, seat, slot, offset, piece });
            }
            Effect::Reply { to, response } => {
                let place = self.nodes[node]
                    .seats
                    .iter()
                    .find(|place| (place.address.group, place.address.role) == (from.group, RoleKind::Replica));
                let applied = place.map_or(Slot(0), |place| place.applied);
                let clock = self.nodes[node].clocks.now(self.now);
                let seen = Reply { from, to, response: &response, applied, clock };
                let found = self.checkers.ask(|checker| checker.on_reply(&seen));
                self.check(found);
                self.reply(from.node, to, &response);
            }
            Effect::Again => {
                let at = self.now + between(&mut self.rng, 1, LONGEST_AGAIN);
                self.at(at, Event::Again { node, boot, seat });
            }
            Effect::Trace(told) => {
                let line = || format!("{}: {} {}", name(from), told.event, told.detail);
                self.trace.event(self.now, told.event.as_bytes(), line);
                self.count_told(&told);
            }
        }
    }

    /// Begins to write a snapshot; it takes a while, and often long.
    fn snapshot(&mut self, node: usize, seat: usize, image: Image) {
        let (from, boot, slot) = (self.nodes[node].seats[seat].address, self.nodes[node].boot, image.slot());
        self.trace.event(self.now, b"snapshot", || format!("{} writes a snapshot at {slot}", name(from)));
        let bytes = match self.nodes[node].disk.start_snapshot(from.group, image) {
            Ok(bytes) => bytes,
            Err(refusal) => return self.disk_failed(node, &refusal),
        };
        let longest = if !self.healed && self.rng.chance(30) { LONGEST_SNAPSHOT } else { LONGEST_SNAPSHOT / 50 };
        let at = self.now + between(&mut self.rng, 1_000, longest);
        self.at(at, Event::Snapshotted { node, boot, seat, slot, bytes });
    }

    /// Of what is proposed, copies may come to the leader once more: records are judged when they are applied. Not so a
    /// Begin: its coordinator proposes it once, and no copy of it comes after the attempt was forgotten.
    fn echo(&mut self, (node, boot): (usize, u32), (from, to): (Address, Address), commands: &[Command]) {
        if self.healed || !permille(&mut self.rng, self.swarm.echoes) {
            return;
        }
        let again =
            |command: &&Command| matches!(command, Command::Prepare(_) | Command::Decide(_) | Command::Resolve(_));
        let commands: Vec<Command> = commands.iter().filter(again).cloned().collect();
        if commands.is_empty() {
            return;
        }
        self.count(Kind::Wire, coverage::wire(Wire::Echoed));
        let at = self.now + 1 + exponential(&mut self.rng, self.swarm.mean_echo);
        let input = Input::Message { from, message: Message::Local(LocalMessage::Propose(commands)) };
        self.at(at, Event::Echo { node, boot, to, input: Box::new(input) });
    }

    fn count_told(&mut self, told: &Trace) {
        if TIMERS.contains(&told.event) {
            return self.count(Kind::Timer, told.event);
        }
        self.count(Kind::Event, told.event);
        if let "inquiry" | "taken_over" = told.event {
            let row = told.detail.split(' ').next().unwrap_or_default();
            self.count(Kind::Recovery, row);
        }
    }

    /// Begins a sync, if there is something to sync and none is under way.
    fn sync(&mut self, node: usize) {
        let host = &mut self.nodes[node];
        if host.syncing || host.unsynced.is_empty() {
            return;
        }
        host.syncing = true;
        host.syncs.0 += 1;
        host.in_sync = std::mem::take(&mut host.unsynced);
        match host.disk.start_sync(self.swarm.shape.snapshot_every) {
            Ok(None) => {}
            Ok(Some(group)) => self.snapshot_due(node, group),
            Err(refusal) => return self.disk_failed(node, &refusal),
        }
        let options = &self.swarm.disk;
        let slowness = if !self.healed && permille(&mut self.rng, options.slow) { 100 } else { 1 };
        // A slow node's disk is slow, too. A sync that is under way at the healing still has to end within the bound.
        let slowness = slowness.max(1 + self.nodes[node].slow / 20).min(100);
        let at = self.now + 1 + exponential(&mut self.rng, options.mean_sync * slowness);
        let boot = self.nodes[node].boot;
        self.at(at, Event::Synced { node, boot });
    }

    /// The log of a node is long for the sake of one group.
    fn snapshot_due(&mut self, node: usize, group: GroupId) {
        let of_group = |seat: &Seat| seat.address.group == group && seat.address.role == RoleKind::Replica;
        if let Some(seat) = self.nodes[node].seats.iter().position(of_group) {
            self.nodes[node].seats[seat].mailbox.push_back(Input::SnapshotDue);
        }
    }

    pub(super) fn show_message(&mut self, from: Address, to: Address, message: &Message, bytes: usize) {
        let sent = Sent { from, to, message, bytes, at: self.now };
        let found = self.checkers.ask(|checker| checker.on_message(&sent));
        self.check(found);
    }

    /// Reads what roles want and what is committed.
    fn fetch(&mut self, node: usize) {
        let boot = self.nodes[node].boot;
        while let Some((_, wanted)) = {
            let host = &mut self.nodes[node];
            let ended = host.syncs.1;
            host.fetches.pop_front_if(|(after, _)| *after <= ended)
        } {
            let host = &mut self.nodes[node];
            let Wanted { seat, from: start, until, bytes } = wanted;
            let group = host.seats[seat].address.group;
            let entries = match host.disk.read(group, start, until, bytes) {
                Ok(entries) => entries,
                Err(refusal) => return self.disk_failed(node, &refusal),
            };
            let place = &mut self.nodes[node].seats[seat];
            let at = (self.now + between(&mut self.rng, 1, LONGEST_FETCH)).max(place.fetched);
            place.fetched = at;
            self.at(at, Event::Fetched { node, boot, seat, start, entries });
        }
    }

    pub(super) fn on_synced(&mut self, node: usize) {
        if self.is_trapped_at(node, Point::BeforeSync) && self.spring() {
            return;
        }
        self.nodes[node].disk.finish_sync();
        if self.is_trapped_at(node, Point::AfterSync) && self.spring() {
            return;
        }
        let host = &mut self.nodes[node];
        host.syncing = false;
        host.syncs.1 = host.syncs.0;
        let (boot, id) = (host.boot, host.id);
        let mut found = Ok(());
        for (seat, token) in std::mem::take(&mut host.in_sync) {
            let group = host.seats[seat].address.group;
            found = found.and_then(|()| self.checkers.ask(|checker| checker.on_durable(id, group, token)));
            host.seats[seat].mailbox.push_back(Input::Persisted(token));
        }
        self.check(found);
        self.trace.event(self.now, b"synced", || format!("{id} synced"));
        self.fetch(node);
        if self.is_current(node, boot) {
            self.sync(node);
        }
        self.run_node(node);
        if self.is_current(node, boot) && self.is_trapped_at(node, Point::AfterPersisted) {
            self.spring();
        }
    }

    /// Does what a client wishes.
    pub(super) fn grant(&mut self, client: u32) {
        for wish in self.clients[client as usize].wishes() {
            match wish {
                Wish::Wake { at, alarm } => self.at(at, Event::Alarm { client, alarm }),
                Wish::Send { node, correlation, request } => {
                    let found = self.checkers.ask(|checker| checker.on_request(client, &request));
                    self.check(found);
                    self.ask(client, node, correlation, &request);
                }
            }
        }
    }
}

//! Carrying out what roles and clients want done.

use bytes::Bytes;

use drachma_protocol::message::{Message, PaxosMessage};
use drachma_protocol::role::{Address, Effect, Input};
use drachma_protocol::wire::codec::to_vec;

use super::{Event, Protocol, World, name};
use crate::checkers::{Class, Persisted, Sent};
use crate::client::Wish;
use crate::draw::{between, exponential, permille};
use crate::faults::Point;
use crate::network::Endpoint;
use crate::node::Wanted;

/// How long a node reads from its disk at most, in microseconds.
const LONGEST_FETCH: u64 = 2_000;
/// How long the rest of a long turn waits at most, in microseconds.
const LONGEST_AGAIN: u64 = 50;

impl World<'_> {
    pub(super) fn carry_out(&mut self, node: usize, seat: usize, effect: Effect) {
        if self.is_trapped_by_effect(node) {
            return self.spring();
        }
        let from = self.nodes[node].seats[seat].address;
        let boot = self.nodes[node].boot;
        match effect {
            Effect::Send { to, message } if to.node == from.node => {
                self.trace.event(self.now, b"local", || format!("{} -> {} {message:?}", name(from), name(to)));
                if !matches!(message, Message::Local(_)) {
                    self.show_message(from, to, &message, 0);
                }
                self.nodes[node].put(to, Input::Message { from, message });
            }
            Effect::Send { to, message } => self.send(from, to, &message),
            Effect::Persist { token, records } => {
                self.trace.event(self.now, b"persist", || format!("{} persists {} {records:?}", name(from), token.0));
                if let Err(text) = self.nodes[node].disk.append(from.group, &records) {
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
            Effect::Reply { to, response } => {
                let (client, correlation) = (to.connection as u32, to.correlation);
                let bytes = Bytes::from(to_vec(&response));
                let fate = self.network.send(self.now, Endpoint::Node(from.node), Endpoint::Client(client));
                let line = || format!("{} replies to client {client} #{correlation:x} {response:?}", name(from));
                self.trace.note(self.now, line);
                for at in [fate.first, fate.second].into_iter().flatten() {
                    self.at(at, Event::Response { client, correlation, from: from.node, bytes: bytes.clone() });
                }
                self.count(response.kind());
            }
            Effect::Again => {
                let at = self.now + between(&mut self.rng, 1, LONGEST_AGAIN);
                self.at(at, Event::Again { node, boot, seat });
            }
            Effect::Trace(told) => {
                let line = || format!("{}: {} {}", name(from), told.event, told.detail);
                self.trace.event(self.now, told.event.as_bytes(), line);
                self.count(told.event);
            }
        }
    }

    fn send(&mut self, from: Address, to: Address, message: &Message) {
        let (protocol, bytes, kind) = match message {
            Message::Paxos(message) => (Protocol::Paxos, to_vec(message), message.kind()),
            Message::Txn(message) => (Protocol::Txn, to_vec(message), message.kind()),
            Message::Local(message) => {
                return self.fail("wire", Class::Safety, format!("{} sent {message:?} to another node", name(from)));
            }
        };
        self.count(kind);
        self.show_message(from, to, message, bytes.len());
        if let Message::Paxos(PaxosMessage::Accept(_) | PaxosMessage::Heartbeat(_)) = message {
            self.leaders.insert(from.group, from.node);
        }
        let bytes = Bytes::from(bytes);
        let fate = self.network.send(self.now, Endpoint::Node(from.node), Endpoint::Node(to.node));
        if fate.first.is_none() {
            self.trace.event(self.now, b"lost", || format!("{} -> {} lost {message:?}", name(from), name(to)));
        }
        for at in [fate.first, fate.second].into_iter().flatten() {
            self.trace
                .note(self.now, || format!("{} -> {} {kind}, there after {} us", name(from), name(to), at - self.now));
            self.at(at, Event::Message { protocol, from, to, bytes: bytes.clone() });
        }
    }

    fn show_message(&mut self, from: Address, to: Address, message: &Message, bytes: usize) {
        let sent = Sent { from, to, message, bytes, at: self.now };
        let found = self.checkers.ask(|checker| checker.on_message(&sent));
        self.check(found);
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
        if let Err(refusal) = host.disk.start_sync() {
            return self.disk_failed(node, &refusal);
        }
        let options = &self.swarm.disk;
        let slowness = if !self.healed && permille(&mut self.rng, options.slow) { 100 } else { 1 };
        let at = self.now + 1 + exponential(&mut self.rng, options.mean_sync * slowness);
        let boot = self.nodes[node].boot;
        self.at(at, Event::Synced { node, boot });
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
        if self.is_trapped_at(node, Point::BeforeSync) {
            return self.spring();
        }
        self.nodes[node].disk.finish_sync();
        if self.is_trapped_at(node, Point::AfterSync) {
            return self.spring();
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
                    let bytes = Bytes::from(to_vec(&request));
                    let fate = self.network.send(self.now, Endpoint::Client(client), Endpoint::Node(node));
                    for at in [fate.first, fate.second].into_iter().flatten() {
                        self.at(at, Event::Request { client, correlation, node, bytes: bytes.clone() });
                    }
                    self.count(request.call.kind());
                }
            }
        }
    }
}

//! Looking: what the checkers are shown, what is counted, and when a run is over.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, NodeId, Slot};
use drachma_protocol::ledger::model::{Account, PendingTransfer, Posted};
use drachma_protocol::ledger::operations::{Key, Operation, Reply, Scan, Value};
use drachma_protocol::ledger::{Ledger, QueryState};
use drachma_protocol::message::operator::{AccountsCall, PageCall};
use drachma_protocol::role::RoleKind;
use drachma_protocol::txn::table::Row;

use super::events::Event;
use super::{SAMPLE_EVERY, World};
use crate::checkers::{Applied, Checkers, Class, End, ReplicaView, Sample, State};
use crate::client::streets::Streets;
use crate::coverage::Kind;
use crate::node::Node;

impl World<'_> {
    pub(super) fn count(&mut self, kind: Kind, name: &str) {
        if let Err(text) = self.coverage.add(kind, name) {
            self.fail("coverage", Class::Crash, text);
        }
    }

    /// Counts the rows that the replicas of a node have taken; they are lost when it stops.
    pub(super) fn count_rows(&mut self, node: usize) {
        let World { nodes, coverage, .. } = self;
        for ledger in nodes[node].seats.iter().filter_map(|seat| seat.role.ledger()) {
            for row in Row::ALL {
                let counted = coverage.add_many(Kind::Row, row.name(), ledger.rows().of(*row));
                debug_assert!(counted.is_ok(), "the rows are listed");
            }
        }
    }

    /// Shows the checkers what a replica has applied, before anybody hears of it.
    pub(super) fn look(&mut self, node: usize, seat: usize) {
        let host = &self.nodes[node];
        let place = &host.seats[seat];
        let Some(ledger) = place.role.ledger() else { return };
        let (from, until) = (place.applied, ledger.applied());
        if until == from {
            return;
        }
        let group = place.address.group;
        let totals = (!ledger.is_busy()).then(|| ledger.totals());
        let known = self.chosen.entry(group).or_default();
        let mut entries = host.disk.appended(group, from, until);
        let new = entries.get(known.len().saturating_sub(from.0 as usize)..).unwrap_or_default();
        if from.0 as usize <= known.len() {
            known.extend_from_slice(new);
        }
        if entries.len() < until.distance_from(from) {
            // The state came as a snapshot, and not by these entries.
            entries = known.get(from.0 as usize..until.0 as usize).unwrap_or(entries);
        }
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
        self.begun.insert(group);
        self.check(found);
    }

    /// The replicas that run and that their groups admit: a directory that was formatted anew is none of theirs.
    pub(super) fn replicas(&self) -> impl Iterator<Item = (&Node, &Ledger, GroupId)> {
        let admitted = |node: &&Node| node.directory == crate::shape::Shape::directory(node.id);
        self.nodes.iter().filter(admitted).flat_map(|node| {
            let replicas = node.seats.iter().filter(|seat| seat.address.role == RoleKind::Replica);
            replicas.filter_map(move |seat| Some((node, seat.role.ledger()?, seat.address.group)))
        })
    }

    /// The replicas of whom something is asked at the end.
    fn healthy_replicas(&self) -> impl Iterator<Item = (&Node, &Ledger, GroupId)> {
        self.replicas().filter(|(node, ..)| self.healthy.contains(&node.id))
    }

    pub(super) fn sample(&mut self) {
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
    pub(super) fn is_over(&mut self) -> bool {
        let stuck = self.unrest();
        if stuck.is_some() && self.is_within_bound() {
            return false;
        }
        for node in 0..self.nodes.len() {
            self.count_rows(node);
        }
        if self.hopeless || (stuck.is_some() && self.patient) {
            return true;
        }
        let streets = Streets::of(&self.swarm.shape);
        let mut groups: BTreeMap<GroupId, Vec<ReplicaView>> = BTreeMap::new();
        for (node, ledger, group) in self.healthy_replicas() {
            groups.entry(group).or_default().push(view(node.id, ledger, all_keys(ledger, group, &streets)));
        }
        let end = End::new(&self.swarm.shape, &self.history, &groups, stuck.as_deref());
        let found = self.checkers.ask(|checker| checker.at_end(&end));
        self.check(found);
        true
    }

    /// Whether there is time left. What is left to do is finite, but may be much, one after the other: beyond the bound
    /// there is another one as long as something gets its first answer within each.
    fn is_within_bound(&mut self) -> bool {
        let bound = self.swarm.bound();
        if self.now < self.since + self.swarm.safety + bound {
            return true;
        }
        if self.swarm.liveness.is_some() {
            return false;
        }
        let (answered, at) = self.progress;
        let history = &self.history;
        let transfers = history.transfers.values().filter(|record| !record.answers.is_empty()).count();
        let transactions = history.transactions.values().chain(history.vault.values());
        let transactions = transactions.filter(|record| !record.answers.is_empty()).count();
        if transfers + transactions > answered {
            self.progress = (transfers + transactions, self.now);
            return true;
        }
        self.now < at + bound
    }

    /// What is not at rest yet, among the healed.
    pub(super) fn unrest(&self) -> Option<String> {
        for (number, client) in self.clients.iter().enumerate() {
            if !client.is_done() {
                return Some(format!("client {number} still waits for {}", client.describe_open()));
            }
        }
        if let Some(down) = self.nodes.iter().find(|node| self.healthy.contains(&node.id) && !node.is_up()) {
            return Some(format!("{} has not come back", down.id));
        }
        let mut lengths: BTreeMap<GroupId, Slot> = BTreeMap::new();
        for (node, ledger, group) in self.healthy_replicas() {
            let totals = ledger.totals();
            if totals.in_doubt + totals.coordinated + totals.waiting > 0 {
                return Some(format!("{group} on {} is not at rest: {totals:?}", node.id));
            }
            if ledger.next_expiry().is_some() {
                return Some(format!("{group} on {} holds what is to expire", node.id));
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

fn all_accounts(ledger: &Ledger) -> Vec<Account> {
    let mut accounts = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let page = ledger.accounts_page(&AccountsCall { from, limit: 1000, changed: false, reserved: true });
        accounts.extend(page.accounts);
        next = page.next;
    }
    accounts
}

fn all_pending(ledger: &Ledger) -> Vec<PendingTransfer> {
    let mut pending = Vec::new();
    loop {
        let page = ledger.pending_transfers(pending.len() as u64, 1000);
        if page.is_empty() {
            return pending;
        }
        pending.extend(page);
    }
}

/// Every key of the clients; none while something is in doubt.
fn all_keys(ledger: &Ledger, group: GroupId, streets: &Streets) -> BTreeMap<Key, Value> {
    let mut keys = BTreeMap::new();
    let own = streets.parts.iter().filter(|(owner, _)| *owner == group && !ledger.is_busy());
    for (_, part) in own {
        let mut next = Key::new(part.clone());
        while let Some(from) = next.take() {
            let scan = Operation::Scan(Scan { from, to: None, limit: 1000 });
            let QueryState::Ready(found) = ledger.query(&[scan]) else { break };
            for found in found {
                let Reply::Rows(rows) = found.reply else { continue };
                next = rows.next;
                keys.extend(rows.rows);
            }
        }
    }
    keys
}

fn view(node: NodeId, ledger: &Ledger, keys: BTreeMap<Key, Value>) -> ReplicaView {
    let mut posted = Vec::new();
    loop {
        let page = ledger.posted_page(&PageCall { from: posted.len() as u64, limit: 1000 });
        let is_last = page.rows.is_empty();
        posted.extend(page.rows);
        if is_last {
            let (totals, accounts, pending) = (ledger.totals(), all_accounts(ledger), all_pending(ledger));
            return ReplicaView { node, totals, posted, accounts, keys, pending };
        }
    }
}

/// The posted transfers from this position on.
fn posted_from(ledger: &Ledger, from: u64) -> Vec<Posted> {
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

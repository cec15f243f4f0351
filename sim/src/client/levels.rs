//! Requests at consistency levels: transfers, reads from any replica, and questions how far a group is.
//!
//! A client has one session at a time, as the client library's: for each group the largest position that it was told. It
//! is forgotten when the client restarts.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, GroupId, NodeId, Slot, TransferId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Transfer};
use drachma_protocol::ledger::operations::Reply;
use drachma_protocol::message::client::Call;
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::level::{Level, PositionDone, ReplicaReadDone, WriteCall, WriteDone, WriteResult};
use drachma_protocol::wire::codec::to_vec;

use super::Client;
use super::exchange::{Ask, outcomes};
use super::jobs::PartEnd;
use crate::draw::{between, pick};
use crate::history::{BadRecord, History, SessionKnown, SessionRead};

/// So many copies of a read go to replicas before the client gives it up.
const LOOKS: usize = 12;

/// What a session knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Told apart from those before the last restarts.
    number: u64,
    slots: BTreeMap<GroupId, Slot>,
}

impl Known {
    /// The session is over.
    pub(super) fn forget(&mut self) {
        *self = Known { number: self.number + 1, slots: BTreeMap::new() };
    }

    fn slot(&self, group: GroupId) -> Slot {
        self.slots.get(&group).copied().unwrap_or_default()
    }

    fn see(&mut self, group: GroupId, slot: Slot) {
        let known = self.slots.entry(group).or_default();
        *known = slot.max(*known);
    }
}

impl Client {
    /// Something at a level.
    pub(super) fn at_level(&mut self, now: u64, history: &mut History) {
        match self.rng.below(20) {
            0..7 => self.look(now, Level::Session),
            7..11 => self.look(now, Level::Any),
            11..15 => self.write_at(now, false, history),
            15..18 => self.write_at(now, true, history),
            18 => {
                let (group, everywhere) = (pick(&mut self.rng, &self.groups), self.rng.chance(50));
                self.lone(now, group, Ask::Position { everywhere, covers: Vec::new() });
            }
            _ => self.write_over_at_any(now, history),
        }
    }

    fn look(&mut self, now: u64, level: Level) {
        // Mostly one that somebody writes.
        let account = self.transfers.account();
        let group = self.group_of(account);
        let after = if level == Level::Session { self.known_slots.slot(group) } else { Slot(0) };
        self.lone(now, group, Ask::Look { account, level, after });
    }

    /// A node of the group, any; often the one that leads, or did a moment ago.
    pub(super) fn any_node(&mut self, group: GroupId) -> Option<NodeId> {
        if !self.stopped && self.rng.chance(40) {
            return self.routes.target(group);
        }
        let nodes = self.routes.nodes(group).to_vec();
        (!nodes.is_empty()).then(|| pick(&mut self.rng, &nodes))
    }

    /// Transfers of one group, or to others, after which those are asked how far they are.
    fn write_at(&mut self, now: u64, across: bool, history: &mut History) {
        let group = pick(&mut self.rng, &self.groups);
        let across = across && self.groups.len() > 1;
        let count = between(&mut self.rng, 1, 3);
        let drawn: Vec<Transfer> = (0..count).map(|_| self.transfers.draw_in(group, across)).collect();
        // Where there are no such accounts others are drawn, and they do not belong into one request.
        let owner = |account| self.shape.map.owner_of(account);
        let fits = |it: &Transfer| owner(it.debit) == Some(group) && (owner(it.credit) != Some(group)) == across;
        let transfers: Vec<Transfer> = drawn.into_iter().filter(fits).collect();
        if transfers.is_empty() {
            return self.look(now, Level::Any);
        }
        let levels = [Level::Session, Level::Session, Level::All, Level::Any, Level::Linearizable];
        let level = if across { Level::Session } else { pick(&mut self.rng, &levels) };
        transfers.iter().for_each(|transfer| history.invoke(now, *transfer));
        let kind = if across { CommandKind::Transact } else { CommandKind::Transfers };
        let (session, sequence, level) = (None, 0, Some(level));
        self.lone(now, group, Ask::Transfers { kind, transfers, session, sequence, level });
    }

    /// What several groups would have to carry out is not to be had at level `any`.
    fn write_over_at_any(&mut self, now: u64, history: &mut History) {
        let group = pick(&mut self.rng, &self.groups);
        let drawn = self.transfers.draw_in(group, self.groups.len() > 1);
        let transfers = vec![Transfer { id: TransferId(self.rng.next_u128()), ..drawn }];
        let Call::Command(command) = self.command(CommandKind::Transact, None, 1, to_vec(&transfers)) else { return };
        let call = Call::Write(WriteCall { level: Level::Any, command });
        let (record, accounts, answers) = (history.bad.len(), Vec::new(), Vec::new());
        history.bad.push(BadRecord { what: "several groups at level any", transfers, accounts, answers });
        self.lone(now, group, Ask::Bad { call, record });
    }

    /// A write at a level was answered.
    pub(super) fn on_written(
        &mut self,
        now: u64,
        correlation: u64,
        done: &WriteDone,
        history: &mut History,
    ) -> Vec<(TxnId, Outcome)> {
        let number = (correlation / super::COPIES) as usize;
        let exchange = &self.exchanges[number];
        let Ask::Transfers { transfers, .. } = &exchange.ask else { return Vec::new() };
        let (group, transfers, over) = (exchange.group, transfers.clone(), exchange.over);
        match &done.result {
            WriteResult::Accepted(_) if over => Vec::new(),
            WriteResult::Accepted(_) => {
                // Nobody knows what will become of it: like what is given up.
                self.orphans.extend(transfers.iter().map(TxnId::from));
                if self.stopped {
                    self.unsettled.extend(transfers.iter().map(TxnId::from));
                }
                // Settles the next, if it has stopped.
                self.close(now, number, PartEnd::Unknown, history);
                Vec::new()
            }
            WriteResult::Transfers(told) => {
                let outcomes = outcomes(transfers.len(), told);
                if done.slot > Slot(0) {
                    self.known_slots.see(group, done.slot);
                }
                if !over && done.slot > Slot(0) && outcomes.iter().all(Option::is_some) {
                    let committed = committed(&transfers, &outcomes, history);
                    self.learn_own(now, group, &committed, history);
                }
                self.on_outcomes(now, correlation, &transfers, outcomes, history)
            }
            WriteResult::Transaction(_) => {
                history.surprises.push(format!("transfers were answered {done:?}"));
                Vec::new()
            }
        }
    }

    /// Transfers to other groups are final: what the session is to see of them, it must be told by each group.
    pub(super) fn ask_positions(
        &mut self,
        now: u64,
        transfers: &[Transfer],
        outcomes: &[Option<Outcome>],
        history: &History,
    ) {
        let covers = committed(transfers, outcomes, history);
        let owners = covers.iter().flat_map(|transfer| [transfer.debit, transfer.credit]);
        let mut groups: Vec<GroupId> = owners.filter_map(|account| self.shape.map.owner_of(account)).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.lone(now, group, Ask::Position { everywhere: false, covers: covers.clone() });
        }
    }

    /// A group has told how far it is.
    pub(super) fn on_position(&mut self, now: u64, number: usize, done: &PositionDone, history: &mut History) {
        let exchange = &self.exchanges[number];
        let Ask::Position { covers, .. } = &exchange.ask else { return };
        let (group, covers, over) = (exchange.group, covers.clone(), exchange.over);
        self.known_slots.see(group, done.slot);
        if !over {
            self.learn_own(now, group, &covers, history);
            self.close(now, number, PartEnd::Unknown, history);
        }
    }

    /// From now on the session sees these, as far as they are the group's.
    fn learn_own(&mut self, now: u64, group: GroupId, transfers: &[Transfer], history: &mut History) {
        for transfer in transfers {
            for (account, debit, credit) in
                [(transfer.debit, transfer.amount, 0), (transfer.credit, 0, transfer.amount)]
            {
                if self.shape.map.owner_of(account) == Some(group) {
                    let session = (self.number, self.known_slots.number);
                    history.session_known.push(SessionKnown { session, at: now, account, debit, credit });
                }
            }
        }
    }

    /// A replica has read.
    pub(super) fn on_look(&mut self, now: u64, number: usize, done: &ReplicaReadDone, history: &mut History) {
        let exchange = &self.exchanges[number];
        let (Ask::Look { account, level, .. }, false) = (&exchange.ask, exchange.over) else { return };
        let (account, level, group): (AccountId, Level, GroupId) = (*account, *level, exchange.group);
        let invoked = exchange.copies.first().copied().unwrap_or(now);
        let found = match done.found.as_deref() {
            Some([found]) => match &found.reply {
                Reply::Account(found) if found.id == account => Some(*found),
                _ => None,
            },
            _ => {
                history.surprises.push(format!("one account was asked for, and {done:?} found"));
                None
            }
        };
        self.known_slots.see(group, done.slot);
        let session = (self.number, self.known_slots.number);
        history.session_reads.push(SessionRead { session, level, account, invoked, completed: now, found });
        self.close(now, number, PartEnd::Unknown, history);
    }

    /// A replica is not far enough: another one may be.
    pub(super) fn on_lagging(&mut self, now: u64, correlation: u64, history: &mut History) {
        let number = (correlation / super::COPIES) as usize;
        if !self.stopped && self.exchanges[number].copies.len() >= LOOKS {
            return self.close(now, number, PartEnd::Unknown, history);
        }
        self.retry_soon(now, correlation, drachma_protocol::time::Span(0), 10_000);
    }
}

/// Those that have committed, and are nobody else's.
fn committed(transfers: &[Transfer], outcomes: &[Option<Outcome>], history: &History) -> Vec<Transfer> {
    let pairs = transfers.iter().zip(outcomes);
    let good = pairs.filter(|(transfer, outcome)| **outcome == Some(Outcome::Committed) && history.is_sole(transfer));
    good.map(|(transfer, _)| *transfer).collect()
}

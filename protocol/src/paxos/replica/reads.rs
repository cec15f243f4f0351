//! Linearizable reads, after the leader was confirmed.
//!
//! A read is evaluated at a log position where nothing that it reads is in doubt (hazard S1). Usually that is now. If
//! something is in doubt the read is parked: most such moments pass within a round, and then it is answered. If none
//! comes it goes through the log, once for all that wait: there it holds back younger prepares, so that even a hot
//! account comes to rest (hazard L4), at most every 20 ms.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{AccountId, Origin};
use crate::ledger::model::Account;
use crate::ledger::{QueryState, ReadState};
use crate::message::LocalMessage;
use crate::message::client::{FenceCall, QueryCall, QueryDone, ReadDone, Refused, Response, SettledDone, Why};
use crate::message::command::{Command, ReadCommand};
use crate::message::local::{ConfirmedReads, QueryTicket, Read, ReadTicket};
use crate::planted::{Bug, is_planted};
use crate::role::{Effects, RoleKind};
use crate::time::{Span, Time};

use super::Replica;

/// So long a read waits for a quiet moment before it asks for one.
const GRACE: Span = Span::from_millis(5);

/// An account is brought to rest at most so often.
const DRAIN_EVERY: Span = Span::from_millis(20);

#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    confirmed: VecDeque<ConfirmedReads>,
    unconfirmed: Vec<QueryTicket>,
    parked: BTreeMap<AccountId, Parked>,
    // When each account was last brought to rest; forgotten after `DRAIN_EVERY`.
    drained: BTreeMap<AccountId, Time>,
}

#[derive(Clone, Debug)]
struct Parked {
    tickets: Vec<(ReadTicket, Time)>,
    // When to ask for a quiet moment; nothing once that is done.
    ask_at: Option<Time>,
    // The earliest end of the tickets, or before it.
    first_end: Time,
}

impl Reads {
    pub(super) fn deadline(&self) -> Option<Time> {
        let asks = self.parked.values().filter_map(|parked| parked.ask_at);
        let ends = self.parked.values().map(|parked| parked.first_end);
        asks.chain(ends).min()
    }
}

impl Replica {
    pub(super) fn on_confirmed_reads(&mut self, reads: ConfirmedReads, effects: &mut Effects) {
        if self.serving.is_none() && !is_planted(Bug::ServesUnapplied) {
            for read in reads.reads {
                effects.reply(read.origin(), self.not_leader());
            }
            return;
        }
        self.reads.confirmed.push_back(reads);
    }

    /// Serves what can be served at this position.
    pub(super) fn serve_reads(&mut self, effects: &mut Effects) {
        if self.ledger.is_busy() {
            return;
        }
        for ticket in std::mem::take(&mut self.reads.unconfirmed) {
            self.serve_query(&ticket, effects);
        }
        while self.reads.confirmed.front().is_some_and(|reads| reads.at <= self.ledger.applied()) {
            let Some(reads) = self.reads.confirmed.pop_front() else { break };
            for read in reads.reads {
                match read {
                    Read::Account(ticket) => self.serve_read(ticket, effects),
                    Read::Query(ticket) => self.serve_query(&ticket, effects),
                }
            }
        }
        #[cfg(feature = "planted")]
        self.serve_captured(effects);
        let quiet: Vec<AccountId> =
            self.reads.parked.keys().copied().filter(|account| self.is_quiet(*account)).collect();
        for account in quiet {
            let parked = self.reads.parked.remove(&account);
            for (ticket, _) in parked.into_iter().flat_map(|parked| parked.tickets) {
                self.serve_read(ticket, effects);
            }
        }
    }

    fn is_quiet(&self, account: AccountId) -> bool {
        !matches!(self.ledger.read(account), ReadState::InDoubt)
    }

    fn serve_read(&mut self, ticket: ReadTicket, effects: &mut Effects) {
        match self.ledger.read(ticket.account) {
            ReadState::Ready(account) => self.answer_read(ticket, account, effects),
            ReadState::Moved => effects.reply(ticket.origin, Response::refused(Why::Moved)),
            #[cfg(feature = "planted")]
            ReadState::InDoubt if self.capture(ticket) => {}
            ReadState::InDoubt => {
                let drained = self.reads.drained.get(&ticket.account).map(|at| *at + DRAIN_EVERY);
                let ask_at = (self.now + GRACE).max(drained.unwrap_or_default());
                let end = self.now + ticket.deadline;
                let new = || Parked { tickets: Vec::new(), ask_at: Some(ask_at), first_end: end };
                let parked = self.reads.parked.entry(ticket.account).or_insert_with(new);
                parked.first_end = parked.first_end.min(end);
                parked.tickets.push((ticket, end));
            }
        }
    }

    /// Keys and accounts of this group, at this position. What is in doubt is read by a transaction, which waits.
    fn serve_query(&self, ticket: &QueryTicket, effects: &mut Effects) {
        let found = match self.ledger.query(&ticket.operations) {
            QueryState::Ready(found) => Some(found),
            QueryState::InDoubt => None,
            QueryState::Moved => return effects.reply(ticket.origin, Response::refused(Why::Moved)),
        };
        let done = QueryDone { slot: self.ledger.applied(), found };
        effects.reply(ticket.origin, Response::Queried(done));
    }

    /// Reads what is applied here, between two entries, without confirmation.
    pub(super) fn on_query(&mut self, origin: Origin, query: QueryCall) {
        let ticket = QueryTicket { origin, operations: query.operations.into() };
        self.reads.unconfirmed.push(ticket);
    }

    fn answer_read(&self, ticket: ReadTicket, account: Option<Account>, effects: &mut Effects) {
        let done = ReadDone { account, slot: self.ledger.applied() };
        effects.reply(ticket.origin, Response::Read(done));
    }

    /// A quiet moment that was asked for has come.
    pub(super) fn on_read_output(&mut self, account: AccountId, value: Option<Account>, effects: &mut Effects) {
        let parked = self.reads.parked.remove(&account);
        for (ticket, _) in parked.into_iter().flat_map(|parked| parked.tickets) {
            self.answer_read(ticket, value, effects);
        }
    }

    /// It did not come in time.
    pub(super) fn on_read_expired(&mut self, account: AccountId, effects: &mut Effects) {
        let parked = self.reads.parked.remove(&account);
        let refused = Refused { why: Why::Overloaded, leader: None, after: DRAIN_EVERY };
        for (ticket, _) in parked.into_iter().flat_map(|parked| parked.tickets) {
            effects.reply(ticket.origin, Response::Refused(refused.clone()));
        }
    }

    pub(super) fn on_read_timer(&mut self, effects: &mut Effects) {
        let now = self.now;
        self.reads.drained.retain(|_, at| now < *at + DRAIN_EVERY);
        let mut commands = Vec::new();
        for (account, parked) in &mut self.reads.parked {
            if now < parked.first_end && parked.ask_at.is_none_or(|at| now < at) {
                continue;
            }
            let (expired, kept) = std::mem::take(&mut parked.tickets).into_iter().partition(|(_, end)| now >= *end);
            parked.tickets = kept;
            parked.first_end = parked.tickets.iter().map(|(_, end)| *end).min().unwrap_or(now);
            let expired: Vec<(ReadTicket, Time)> = expired;
            for (ticket, _) in expired {
                effects.timer("replica/read_end");
                effects.reply(ticket.origin, Response::refused(Why::Expired));
            }
            if parked.ask_at.is_some_and(|at| now >= at) {
                effects.timer("replica/read_in_turn");
                parked.ask_at = None;
                self.reads.drained.insert(*account, now);
                let longest = parked.tickets.iter().map(|(_, end)| *end).max().unwrap_or(now);
                commands.push(Command::Read(ReadCommand { account: *account, deadline: longest.since(now) }));
            }
        }
        self.reads.parked.retain(|_, parked| !parked.tickets.is_empty());
        if !commands.is_empty() {
            effects.send_local(RoleKind::Leader, LocalMessage::Propose(commands));
        }
    }

    /// This node no longer leads: whoever waits asks another one.
    pub(super) fn refuse_reads(&mut self, effects: &mut Effects) {
        #[cfg(feature = "planted")]
        self.captured.clear();
        let reads = std::mem::take(&mut self.reads);
        let confirmed = reads.confirmed.into_iter().flat_map(|reads| reads.reads).map(|read| read.origin());
        let unconfirmed = reads.unconfirmed.into_iter().map(|ticket| ticket.origin);
        let parked = reads.parked.into_values().flat_map(|parked| parked.tickets).map(|(ticket, _)| ticket.origin);
        let refusal = self.not_leader();
        let origins = confirmed.chain(unconfirmed).chain(parked);
        self.answers.tell(origins.map(|origin| (origin, refusal.clone())), effects);
    }

    /// The outcome of an id, as far as it is known.
    pub(super) fn on_lookup(&mut self, origin: Origin, lookup: &FenceCall, effects: &mut Effects) {
        let done = SettledDone { outcome: self.ledger.outcome(lookup.txn) };
        effects.reply(origin, Response::Settled(done));
    }
}

//! What clients do out of the ordinary: all of it has a defined answer, and none of it may change what it should not.

use bytes::Bytes;

use drachma_protocol::ids::{AccountId, GroupId, Session, SessionId, ShardId, Slot, TransferId, TxnId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, Flags, NewAccount, Transfer};
use drachma_protocol::message::client::{Call, FenceCall, ReadCall};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;
use drachma_workload::Operation;

use super::Client;
use super::exchange::Ask;
use super::sessions::Pending;
use super::town::Special;
use crate::draw::{between, pick, shuffle};
use crate::history::{BadRecord, History, LaterCommand, LostSession};

/// Ids of accounts that clients open at random, so few that they meet.
const OPENED: (u64, u64) = (100, 160);
/// Ids of accounts that are named only where nothing may come of it.
const NEVER: (u64, u64) = (8_000, 15_000);
/// How far back a client looks for something that it has sent.
const RECENT: u64 = 60;

impl Client {
    pub(super) fn mischief(&mut self, now: u64, history: &mut History) {
        let done = match self.rng.below(12) {
            0 => self.look_up(now),
            1 => self.fence_something(now),
            2 => self.retry_orphan(now, history),
            3 => self.conflict(now, history),
            4 => self.contest(now, history),
            5 => self.create_something(now, history),
            6 => self.use_lost_session(now, history),
            7 | 8 => self.send_bad(now, history),
            9 if self.rng.chance(50) => self.besiege(now, history),
            _ => false,
        };
        if !done {
            let odd = self.odd_transfer();
            self.start_job(now, None, Operation::Transfers(vec![odd]), history);
        }
    }

    /// An id that the client has used lately, or one that it has given up.
    fn some_id(&mut self) -> Option<TxnId> {
        if !self.orphans.is_empty() && self.rng.chance(50) {
            let place = self.rng.below(self.orphans.len() as u64) as usize;
            return self.orphans.iter().nth(place).copied();
        }
        self.recent_transfer().map(|transfer| TxnId::from(&transfer))
    }

    fn recent_transfer(&mut self) -> Option<Transfer> {
        let from = (self.exchanges.len() as u64).saturating_sub(RECENT);
        for _ in 0..8 {
            let number = from + self.rng.below((self.exchanges.len() as u64 - from).max(1));
            if let Some(Ask::Transfers { transfers, .. }) = self.exchanges.get(number as usize).map(|e| &e.ask) {
                let transfers = transfers.clone();
                return Some(pick(&mut self.rng, &transfers));
            }
        }
        None
    }

    fn look_up(&mut self, now: u64) -> bool {
        let Some(txn) = self.some_id() else { return false };
        let Some(group) = self.shape.map.owner_of(txn.first) else { return false };
        // Any replica answers.
        if self.rng.chance(50) {
            self.routes.advance(group);
        }
        self.lone(now, group, Ask::Lookup { txn });
        true
    }

    fn fence_something(&mut self, now: u64) -> bool {
        let Some(txn) = self.some_id() else { return false };
        let Some(group) = self.shape.map.owner_of(txn.first) else { return false };
        self.lone(now, group, Ask::Fence { txn });
        true
    }

    fn retry_orphan(&mut self, now: u64, history: &mut History) -> bool {
        let Some(txn) = self.some_id() else { return false };
        let Some(record) = history.transfers.get(&txn) else { return false };
        let transfer = record.transfer;
        self.start_job(now, None, Operation::Transfers(vec![transfer]), history);
        true
    }

    /// Other content under an id that is settled.
    fn conflict(&mut self, now: u64, history: &mut History) -> bool {
        let Some(transfer) = self.recent_transfer() else { return false };
        let is_settled = |record: &crate::history::TransferRecord| record.outcome().is_some();
        if !history.is_sole(&transfer) || !history.transfers.get(&TxnId::from(&transfer)).is_some_and(is_settled) {
            return false;
        }
        let rival = self.variation(transfer);
        self.send_rival(now, rival, history);
        true
    }

    /// Two contents under one id, at the same time.
    fn contest(&mut self, now: u64, history: &mut History) -> bool {
        let drawn = self.draw_transfers()[0];
        let first = Transfer { id: TransferId(self.rng.next_u128()), ..drawn };
        let second = self.variation(first);
        self.send_rival(now, first, history);
        self.send_rival(now, second, history);
        true
    }

    fn send_rival(&mut self, now: u64, rival: Transfer, history: &mut History) {
        history.contest(now, rival);
        let owners = (self.shape.map.owner_of(rival.debit), self.shape.map.owner_of(rival.credit));
        let group = self.group_of(rival.debit);
        let ask = self.transfers_ask(group, owners.0.is_some() && owners.0 != owners.1, vec![rival]);
        self.lone(now, group, ask);
    }

    /// The same id and debit account, and something else.
    fn variation(&mut self, transfer: Transfer) -> Transfer {
        match self.rng.below(5) {
            0 => Transfer { amount: transfer.amount.wrapping_add(1), ..transfer },
            1 => Transfer { user_data_64: transfer.user_data_64 + 1, ..transfer },
            2 if transfer.amount != 0 => Transfer { amount: 0, ..transfer },
            3 if transfer.credit != transfer.debit => Transfer { credit: transfer.debit, ..transfer },
            _ => {
                let other = self.transfers.account();
                let credit = if other == transfer.credit { AccountId(u128::from(u64::MAX)) } else { other };
                Transfer { credit, ..transfer }
            }
        }
    }

    /// A transfer that is mostly rejected; together they meet every reason.
    fn odd_transfer(&mut self) -> Transfer {
        let drawn = self.draw_transfers()[0];
        let transfer = Transfer { id: TransferId(self.rng.next_u128()), ..drawn };
        let specials = self.town.special.clone();
        let (here, there) = (pick(&mut self.rng, &specials), pick(&mut self.rng, &specials));
        match self.rng.below(14) {
            0 => Transfer { credit: transfer.debit, ..transfer },
            1 => Transfer { amount: 0, ..transfer },
            2 => Transfer { ledger: 2, ..transfer },
            3 => Transfer { credit: AccountId(1 << 100), ..transfer },
            4 => Transfer { debit: AccountId(1 << 100), ..transfer },
            5 => Transfer { credit: here.closed.id, ..transfer },
            6 => Transfer { debit: here.closed.id, ..transfer },
            7 => Transfer { debit: here.source.id, credit: there.debtor.id, ..transfer },
            8 => Transfer { debit: here.debtor.id, ..transfer },
            9 => Transfer { credit: here.foreign.id, ..transfer },
            10 => Transfer { debit: here.source.id, credit: there.foreign.id, ledger: 2, ..transfer },
            11 => Transfer { amount: u128::MAX, debit: here.source.id, ..transfer },
            12 if here.group != there.group || self.rng.chance(50) => {
                Transfer { amount: u128::MAX / 2, debit: here.source.id, credit: there.source.id, ..transfer }
            }
            12 => Transfer { amount: u128::MAX - 3, ..transfer },
            // The other side of a shard's opening balances is an account as well.
            _ => Transfer { debit: ShardMap::reserved(ShardId(0)), ..transfer },
        }
    }

    /// Many at once into and out of an account that may not be owed anything, by payers who have too little for all: what
    /// becomes of one depends on what is in doubt, on both of its sides, so that it waits, dies and comes again. Those of
    /// a closed account are rejected where they begin, while they wait here.
    fn besiege(&mut self, now: u64, history: &mut History) -> bool {
        let specials = self.town.special.clone();
        let special = pick(&mut self.rng, &specials);
        let elsewhere: Vec<Special> = specials.into_iter().filter(|other| other.group != special.group).collect();
        if elsewhere.is_empty() {
            return false;
        }
        if self.rng.chance(25) {
            let all = self.town.special.iter().flat_map(Special::all).collect();
            self.start_job(now, None, Operation::CreateAccounts(all), history);
        }
        let amount = u128::from(self.rng.below(self.shape.initial_balance as u64)) + 1;
        let mut transfers = Vec::new();
        for _ in 0..between(&mut self.rng, 1, 2) {
            let other = pick(&mut self.rng, &elsewhere);
            let third = elsewhere.iter().copied().find(|third| third.group != other.group).unwrap_or(other);
            let drawn = self.transfers.draw_in(other.group, false);
            let mut pay = |debit, credit| {
                transfers.push(Transfer { id: TransferId(self.rng.next_u128()), debit, credit, amount, ..drawn });
            };
            // While the third group is silent, what it takes part in stays in doubt at both others, so that they try again.
            pay(special.debtor.id, third.source.id);
            pay(special.debtor.id, third.source.id);
            pay(drawn.debit, third.source.id);
            pay(drawn.debit, special.debtor.id);
            pay(other.closed.id, special.debtor.id);
        }
        shuffle(&mut self.rng, &mut transfers);
        self.start_job(now, None, Operation::Transfers(transfers), history);
        true
    }

    /// Accounts: the special ones of a group; or any, whose ids others use, too, with other rules; or such that the
    /// ids may not be used.
    fn create_something(&mut self, now: u64, history: &mut History) -> bool {
        let specials = self.town.special.clone();
        let special = pick(&mut self.rng, &specials);
        let new = |id, flags| NewAccount { id, ledger: 1, code: 1, flags };
        let accounts = match self.rng.below(4) {
            0 | 1 => special.all().to_vec(),
            2 => (0..between(&mut self.rng, 1, 4))
                .map(|_| {
                    let number = between(&mut self.rng, OPENED.0, OPENED.1);
                    let flags = pick(&mut self.rng, &[Flags::NONE, Flags::HISTORY, Flags::CLOSED]);
                    new(self.shape.fresh_account(special.group, number), flags)
                })
                .collect(),
            _ => {
                let own = self.transfers.account();
                let reserved = ShardMap::reserved(ShardId(0));
                let ids = [own, AccountId(1 << 100), AccountId(u128::MAX >> 1), reserved];
                ids.map(|id| new(id, Flags::DEBITS_MUST_NOT_EXCEED_CREDITS)).to_vec()
            }
        };
        if self.rng.chance(50) {
            // One command, whatever group owns them.
            self.open += 1;
            let (identity, group) = (self.sessions.pick(&mut self.rng), special.group);
            self.create(now, Pending { identity, group, accounts, part: None }, history);
        } else {
            self.start_job(now, None, Operation::CreateAccounts(accounts), history);
        }
        true
    }

    /// A command under a session that its group has lost, or never had (hazard S17).
    fn use_lost_session(&mut self, now: u64, history: &mut History) -> bool {
        if history.lost_sessions.is_empty() || self.rng.chance(20) {
            let group = pick(&mut self.rng, &self.groups);
            let session = Session { id: SessionId(self.rng.next_u128()), registered: Slot(self.rng.below(50)) };
            history.lost_sessions.push(LostSession { group, session, since: 0, later: Vec::new() });
        }
        let lost = self.rng.below(history.lost_sessions.len() as u64) as usize;
        let LostSession { group, session, .. } = history.lost_sessions[lost];
        let (transfers, accounts) = if self.rng.chance(50) {
            (Vec::new(), vec![self.never(group)])
        } else {
            (vec![self.never_transfer(group, false)], Vec::new())
        };
        let (kind, body) = match accounts.is_empty() {
            true => (CommandKind::Transfers, to_vec(&transfers)),
            false => (CommandKind::CreateAccounts, to_vec(&accounts)),
        };
        let call = self.command(kind, Some(session), 1, body);
        let index = history.lost_sessions[lost].later.len();
        history.lost_sessions[lost].later.push(LaterCommand { transfers, accounts, answers: Vec::new() });
        self.lone(now, group, Ask::Later { call, lost, index });
        true
    }

    fn never(&mut self, group: GroupId) -> NewAccount {
        let number = between(&mut self.rng, NEVER.0, NEVER.1 - 1);
        NewAccount { id: self.shape.fresh_account(group, number), ledger: 1, code: 1, flags: Flags::NONE }
    }

    /// A good transfer, but for whoever it is sent to.
    fn never_transfer(&mut self, group: GroupId, across: bool) -> Transfer {
        let drawn = self.transfers.draw_in(group, across);
        Transfer { id: TransferId(self.rng.next_u128()), ..drawn }
    }

    pub(super) fn command(&mut self, kind: CommandKind, session: Option<Session>, count: u32, body: Vec<u8>) -> Call {
        let (deadline, epoch) = (Span(self.options.deadline), self.shape.map.epoch);
        Call::Command(ClientCommand { kind, session, sequence: 1, deadline, epoch, count, body: Bytes::from(body) })
    }

    fn send_bad(&mut self, now: u64, history: &mut History) -> bool {
        let group = pick(&mut self.rng, &self.groups);
        let bad = if self.rng.chance(60) { self.malformed(group) } else { self.misrouted(group) };
        let Some((what, call, transfers, accounts)) = bad else { return false };
        let record = history.bad.len();
        history.bad.push(BadRecord { what, transfers, accounts, answers: Vec::new() });
        self.lone(now, group, Ask::Bad { call, record });
        true
    }

    /// A body that is not what its envelope says.
    fn malformed(&mut self, group: GroupId) -> Option<Bad> {
        let across = self.rng.chance(50);
        let kind = if across { CommandKind::Transact } else { CommandKind::Transfers };
        let transfers: Vec<Transfer> =
            (0..between(&mut self.rng, 1, 4)).map(|_| self.never_transfer(group, across)).collect();
        let (mut count, mut body) = (transfers.len() as u32, to_vec(&transfers));
        let what = match self.rng.below(9) {
            0 => {
                body.truncate(self.rng.below(body.len() as u64) as usize);
                "truncated"
            }
            1 => {
                body.push(0);
                "a byte too many"
            }
            2 => {
                body = (0..self.rng.below(64)).map(|_| self.rng.next_u64() as u8).collect();
                "noise"
            }
            3 => {
                count = if self.rng.chance(50) { count + 1 } else { u32::MAX };
                "count too high"
            }
            4 => {
                count = 0;
                "count too low"
            }
            5 => {
                // An array of 2^32 - 1 items.
                body = vec![0xdd, 0xff, 0xff, 0xff, 0xff];
                count = u32::MAX;
                "no room for so many"
            }
            6 => {
                // Beyond the limit of a batch, by one.
                let size = BATCH_LIMIT as u32 + 1;
                body = [&[0xdd], size.to_be_bytes().as_slice(), &vec![0xc0; BATCH_LIMIT + 1]].concat();
                count = size;
                "a batch too large"
            }
            7 => {
                let call = self.command(CommandKind::Register, None, 1, vec![0xc1, 0xff]);
                return Some(("a session id that is none", call, transfers, Vec::new()));
            }
            _ => {
                let account = self.never(group);
                let call = self.command(CommandKind::CreateAccounts, None, 1, to_vec(&vec![account]));
                return Some(("accounts without a session", call, Vec::new(), vec![account]));
            }
        };
        Some((what, self.command(kind, None, count, body), transfers, Vec::new()))
    }

    /// Well made, and sent to a group that does not own it.
    fn misrouted(&mut self, group: GroupId) -> Option<Bad> {
        let others: Vec<GroupId> = self.groups.iter().copied().filter(|other| *other != group).collect();
        if others.is_empty() {
            return None;
        }
        let other = pick(&mut self.rng, &others);
        let across = self.rng.chance(50);
        let owner = if self.rng.chance(50) { other } else { group };
        let transfer = self.never_transfer(owner, across);
        // The draw may have found no such accounts.
        let found = self.shape.map.owner_of(transfer.debit) == Some(owner)
            && (self.shape.map.owner_of(transfer.credit) != Some(owner)) == across;
        let (deadline, epoch) = (Span(self.options.deadline), self.shape.map.epoch);
        match self.rng.below(5) {
            0 if found && owner == other => {
                let read = Call::Read(ReadCall { account: transfer.debit, deadline, epoch });
                Some(("a read elsewhere", read, Vec::new(), Vec::new()))
            }
            1 if found && owner == other => {
                let fence = Call::Fence(FenceCall { txn: TxnId::from(&transfer), deadline });
                Some(("a fence elsewhere", fence, Vec::new(), Vec::new()))
            }
            // Of another group; or the kind of the other sort.
            _ if found && (owner == other || !across) => {
                let kind = if owner == other && !across { CommandKind::Transfers } else { CommandKind::Transact };
                let call = self.command(kind, None, 1, to_vec(&vec![transfer]));
                Some(("transfers elsewhere", call, vec![transfer], Vec::new()))
            }
            _ if found => {
                let call = self.command(CommandKind::Transfers, None, 1, to_vec(&vec![transfer]));
                Some(("a transfer across, not told so", call, vec![transfer], Vec::new()))
            }
            _ => None,
        }
    }
}

/// What is wrong, the request, and what is in it.
type Bad = (&'static str, Call, Vec<Transfer>, Vec<NewAccount>);

//! Transactions and queries over keys: what clients draw, send, and read together.
//!
//! Nothing is planned over several steps: a client remembers what it has last seen of each key, and what it does next is
//! on condition of that.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, Slot, TransferId, TxnId};
use drachma_protocol::ledger::model::TransferResult;
use drachma_protocol::ledger::operations::{
    Add, Condition, Key, KeyIs, Operation, Put, Reply, Scan, Swap, Transaction, Value,
};
use drachma_protocol::message::client::{Call, Found, QueryCall, TransactionDone};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;

use super::Client;
use super::exchange::{Ask, Part};
use super::jobs::PartEnd;
use super::streets::{COUNTERS, LISTS, ODDS, RING, SEATS, Street, TOKEN};
use crate::draw::{between, pick};
use crate::history::{BadRecord, History, QueryRecord, TransactionAnswer};

/// So long, in microseconds, are the same lists in use: they stay short, and absent keys are written again and again.
const ERA: u64 = 4_000_000;
/// How often a query over several groups is confirmed before it takes locks.
const CONFIRMATIONS: u32 = 3;
/// How far back a client looks for a transaction that it has sent.
const RECENT: u64 = 40;
/// The most rows of a scan: more than there are.
const ROWS: u32 = 1000;

/// What is read together, in several groups.
#[derive(Debug)]
pub(super) struct Gather {
    operations: Vec<Operation>,
    shares: Vec<(GroupId, Vec<usize>)>,
    found: Vec<Option<Found>>,
    before: Option<Vec<Found>>,
    // The first round of several groups is not confirmed.
    round: u32,
    left: usize,
    in_doubt: bool,
    failed: bool,
    invoked: u64,
}

fn get(keys: Vec<Key>) -> Vec<Operation> {
    keys.into_iter().map(Operation::Get).collect()
}

impl Client {
    /// Something over keys.
    pub(super) fn key_operation(&mut self, now: u64, history: &mut History) {
        match self.rng.below(100) {
            0..46 => self.list_transaction(now, history),
            46..54 => self.replace_chain(now, history),
            54..60 => self.write_board(now, history),
            60..68 => self.rewire(now, history),
            68..75 => self.change_seats(now, history),
            75..92 => self.look_at_keys(now, history),
            92..95 => self.odd_keys(now, history),
            95..97 => self.ask_again(now, history),
            97 => self.rival_transaction(now, history),
            _ => self.bad_transaction(now, history),
        }
    }

    fn token(&mut self) -> Value {
        Value::new(self.rng.next_u64().to_be_bytes()[..TOKEN].to_vec()).expect("a token is short")
    }

    /// A group among those that this operation is about.
    fn place(&mut self, places: &[usize]) -> usize {
        pick(&mut self.rng, places)
    }

    fn places(&mut self) -> Vec<usize> {
        let all = self.streets.parts.len();
        let most = if self.rng.chance(self.options.keys_across) { 3 } else { 1 };
        let first = self.rng.below(all as u64) as usize;
        (0..between(&mut self.rng, 1, most) as usize).map(|step| (first + step) % all).collect()
    }

    fn list(&mut self, now: u64, places: &[usize]) -> Key {
        let place = self.place(places);
        let number = now / ERA * LISTS + self.rng.below(self.options.lists.min(LISTS));
        self.streets.key(place, Street::List, number)
    }

    /// Appends and reads, as Elle does it, and beside it counters, accounts, conditions and whole ranges.
    fn list_transaction(&mut self, now: u64, history: &mut History) {
        let places = self.places();
        let (mut conditions, mut operations) = (Vec::new(), Vec::new());
        for _ in 0..between(&mut self.rng, 1, 4) {
            let key = self.list(now, &places);
            operations.push(match self.rng.below(20) {
                0..10 => Operation::Append(Put { key, value: self.token() }),
                10..16 => Operation::Get(key),
                16..18 => self.scan(&places),
                18 => Operation::Read(self.transfers.account()),
                _ => self.count(&places),
            });
        }
        if self.rng.chance(15) {
            let key = self.list(now, &places);
            conditions.push(match self.known.get(&key).cloned() {
                Some(value) if self.rng.chance(80) => Condition::Is(KeyIs { key, value }),
                _ => Condition::IsNot(KeyIs { key, value: Some(Value::from(0)) }),
            });
        }
        // One addition to a counter: then its number is the transaction's.
        let mut counted = Vec::new();
        operations.retain(|operation| match operation {
            Operation::Add(add) => {
                !counted.contains(&add.key) && {
                    counted.push(add.key.clone());
                    true
                }
            }
            _ => true,
        });
        self.transact(now, conditions, operations, history);
    }

    fn scan(&mut self, places: &[usize]) -> Operation {
        let place = self.place(places);
        let (from, to) = self.streets.range(place, Street::List);
        let to = if self.rng.chance(80) { Some(to) } else { None };
        Operation::Scan(Scan { from, to, limit: ROWS })
    }

    fn count(&mut self, places: &[usize]) -> Operation {
        let (place, number) = (self.place(places), self.rng.below(COUNTERS));
        Operation::Add(Add { key: self.streets.key(place, Street::Counter, number), delta: 1 })
    }

    /// A new value in every group, if a known one is still there.
    fn replace_chain(&mut self, now: u64, history: &mut History) {
        let keys = self.streets.everywhere(Street::Chain);
        let Some(known) = keys.iter().find_map(|key| self.known.get(key).cloned()) else {
            return self.query(now, get(keys), history);
        };
        let place = self.rng.below(keys.len() as u64) as usize;
        let condition = Condition::Is(KeyIs { key: keys[place].clone(), value: known });
        let value = self.token();
        let operations = keys.into_iter().map(|key| Operation::Put(Put { key, value: value.clone() })).collect();
        self.transact(now, vec![condition], operations, history);
    }

    /// A new value in every group, or what two of them hold exchanged.
    fn write_board(&mut self, now: u64, history: &mut History) {
        let street = if self.rng.chance(30) { Street::Chain } else { Street::Board };
        let keys = self.streets.everywhere(street);
        if keys.len() > 1 && (street == Street::Chain || self.rng.chance(50)) {
            let left = self.rng.below(keys.len() as u64) as usize;
            let right = (left + 1) % keys.len();
            let swap = Swap { left: keys[left].clone(), right: keys[right].clone() };
            return self.transact(now, Vec::new(), vec![Operation::Swap(swap)], history);
        }
        let value = self.token();
        let put = |key: Key| Operation::Put(Put { key, value: value.clone() });
        let operations = self.streets.everywhere(Street::Board).into_iter().map(put).collect();
        self.transact(now, Vec::new(), operations, history);
    }

    /// What all of these held when they were last seen; nothing if one was never seen.
    fn seen(&self, keys: &[Key]) -> Option<Vec<Option<Value>>> {
        keys.iter().map(|key| self.known.get(key).cloned()).collect()
    }

    /// Takes the second key of the ring behind a key out, and puts it behind the third, on condition of all three.
    fn rewire(&mut self, now: u64, history: &mut History) {
        let keys = self.streets.spread(Street::Ring, RING);
        let Some(seen) = self.seen(&keys) else { return self.query(now, get(keys), history) };
        if seen.iter().any(Option::is_none) {
            return self.open_row(now, &keys, |number| (number + 1) % RING, history);
        }
        let next = |of: usize| seen[of].as_ref().and_then(Value::number).map_or(0, |next| next as usize % RING);
        let first = self.rng.below(RING as u64) as usize;
        let second = next(first);
        let third = next(second);
        let is = |of: usize| Condition::Is(KeyIs { key: keys[of].clone(), value: seen[of].clone() });
        let put = |of: usize, to: usize| Operation::Put(Put { key: keys[of].clone(), value: Value::from(to as i64) });
        let conditions = [first, second, third].map(is).to_vec();
        let operations = vec![put(first, third), put(second, next(third)), put(third, second)];
        self.transact(now, conditions, operations, history);
    }

    /// Exchanges what two of the seats hold.
    fn change_seats(&mut self, now: u64, history: &mut History) {
        let keys = self.streets.spread(Street::Seat, SEATS);
        let Some(seen) = self.seen(&keys) else { return self.query(now, get(keys), history) };
        if seen.iter().any(Option::is_none) {
            return self.open_row(now, &keys, |number| number, history);
        }
        let left = self.rng.below(SEATS as u64) as usize;
        let right = (left + between(&mut self.rng, 1, SEATS as u64 - 1) as usize) % SEATS;
        let mut operations = vec![Operation::Swap(Swap { left: keys[left].clone(), right: keys[right].clone() })];
        if self.rng.chance(30) {
            let other = self.rng.below(SEATS as u64) as usize;
            operations.push(Operation::Get(keys[other].clone()));
        }
        self.transact(now, Vec::new(), operations, history);
    }

    /// Sets all keys of a row, if none of them exists.
    fn open_row(&mut self, now: u64, keys: &[Key], value: impl Fn(usize) -> usize, history: &mut History) {
        let absent = |key: &Key| Condition::Is(KeyIs { key: key.clone(), value: None });
        let put = |(number, key): (usize, &Key)| {
            Operation::Put(Put { key: key.clone(), value: Value::from(value(number) as i64) })
        };
        // What was seen may be old: whoever finds them there looks again.
        keys.iter().for_each(|key| drop(self.known.remove(key)));
        let operations = keys.iter().enumerate().map(put).collect();
        self.transact(now, keys.iter().map(absent).collect(), operations, history);
    }

    fn look_at_keys(&mut self, now: u64, history: &mut History) {
        let places = self.places();
        let mut operations = match self.rng.below(8) {
            0 => get(self.streets.spread(Street::Ring, RING)),
            1 => get(self.streets.spread(Street::Seat, SEATS)),
            2 => get(self.streets.everywhere(Street::Chain)),
            3 => get([Street::Chain, Street::Board].map(|street| self.streets.everywhere(street)).concat()),
            _ => Vec::new(),
        };
        if operations.is_empty() || self.rng.chance(20) {
            for _ in 0..between(&mut self.rng, 1, 4) {
                operations.push(match self.rng.below(8) {
                    0..4 => Operation::Get(self.list(now, &places)),
                    4..6 => self.scan(&places),
                    6 => Operation::Read(self.transfers.account()),
                    _ => {
                        let place = self.place(&places);
                        Operation::Get(self.streets.key(place, Street::Counter, self.rng.below(COUNTERS)))
                    }
                });
            }
        }
        if self.rng.chance(30) {
            return self.transact(now, Vec::new(), operations, history);
        }
        self.query(now, operations, history);
    }

    /// Keys that are put and deleted without order, and what can never be carried out.
    fn odd_keys(&mut self, now: u64, history: &mut History) {
        let places = self.places();
        let (place, number) = (self.place(&places), self.rng.below(ODDS));
        let key = self.streets.key(place, Street::Odd, number);
        let put = Operation::Put(Put { key: key.clone(), value: self.token() });
        let other = self.list(now, &places);
        let beside = Operation::Append(Put { key: other, value: self.token() });
        let operations = match self.rng.below(10) {
            0..4 => vec![put, Operation::Get(key)],
            4..7 => vec![Operation::Delete(key), beside],
            7..9 => vec![beside, put, Operation::Add(Add { key, delta: 1 })],
            _ => {
                let large = Value::new(vec![b'x'; drachma_protocol::ledger::operations::VALUE_LIMIT]);
                let value = large.expect("a value may have so many bytes");
                let append = Operation::Append(Put { key: key.clone(), value: Value::from(1) });
                vec![beside, Operation::Put(Put { key, value }), append]
            }
        };
        self.transact(now, Vec::new(), operations, history);
    }

    /// A new transaction.
    fn transact(&mut self, now: u64, conditions: Vec<Condition>, operations: Vec<Operation>, history: &mut History) {
        let transaction = Transaction { id: TransferId(self.rng.next_u128()), conditions, operations };
        let across = transaction.participants(&self.shape.map).len() > 1;
        // What one group owns may be coordinated, too.
        let kind = if across || self.rng.chance(5) { CommandKind::TransactOver } else { CommandKind::Transaction };
        let txn = transaction.txn(&self.shape.map);
        history.transact(now, txn, &transaction, kind == CommandKind::TransactOver);
        self.send_transaction(now, kind, transaction);
    }

    pub(super) fn send_transaction(&mut self, now: u64, kind: CommandKind, transaction: Transaction) {
        let txn = transaction.txn(&self.shape.map);
        let group = self.group_of(txn.first);
        let identity = self.sessions.pick(&mut self.rng);
        let session = self.sessions.in_group(identity, group).filter(|_| self.rng.chance(20));
        let sequence = if session.is_some() { self.sessions.sequence(&mut self.rng, identity) } else { 0 };
        self.lone(now, group, Ask::Transaction { kind, txn, transaction, session, sequence });
    }

    /// An answer to a transaction came; says whether it is final.
    pub(super) fn on_transaction(
        &mut self,
        now: u64,
        txn: TxnId,
        operations: &[Operation],
        done: &TransactionDone,
        history: &mut History,
    ) -> bool {
        let TransferResult::Done(outcome) = done.result else { return false };
        if let Some(replies) = &done.replies {
            for (operation, reply) in operations.iter().zip(replies) {
                self.learn(operation, reply);
            }
        }
        let answer = TransactionAnswer { at: now, outcome, replayed: done.replayed, replies: done.replies.clone() };
        history.answer_transaction(txn, answer);
        self.orphans.remove(&txn);
        true
    }

    /// Remembers what a key held.
    fn learn(&mut self, operation: &Operation, reply: &Reply) {
        match (operation, reply) {
            (Operation::Get(key), Reply::Value(value)) => drop(self.known.insert(key.clone(), value.clone())),
            (Operation::Scan(_), Reply::Rows(rows)) => {
                self.known.extend(rows.rows.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
            }
            _ => {}
        }
    }

    /// A transaction that the client has sent lately.
    fn recent_transaction(&mut self) -> Option<(CommandKind, Transaction)> {
        let from = (self.exchanges.len() as u64).saturating_sub(RECENT);
        for _ in 0..8 {
            let number = from + self.rng.below((self.exchanges.len() as u64 - from).max(1));
            if let Some(Ask::Transaction { kind, transaction, .. }) =
                self.exchanges.get(number as usize).map(|e| &e.ask)
            {
                return Some((*kind, transaction.clone()));
            }
        }
        None
    }

    /// The same under the same id once more, whatever became of it.
    fn ask_again(&mut self, now: u64, history: &mut History) {
        match self.recent_transaction() {
            Some((kind, transaction)) => self.send_transaction(now, kind, transaction),
            None => self.list_transaction(now, history),
        }
    }

    /// Other content under an id that is settled.
    fn rival_transaction(&mut self, now: u64, history: &mut History) {
        let Some((kind, mut transaction)) = self.recent_transaction() else {
            return self.list_transaction(now, history);
        };
        let txn = transaction.txn(&self.shape.map);
        let settled = |record: &crate::history::TransactionRecord| record.is_recorded() && !record.answers.is_empty();
        if !history.transactions.get(&txn).is_some_and(settled) {
            return self.list_transaction(now, history);
        }
        let place = self.rng.below(self.streets.parts.len() as u64) as usize;
        let key = self.list(now, &[place]);
        transaction.operations.push(Operation::Append(Put { key, value: self.token() }));
        let across = transaction.participants(&self.shape.map).len() > 1;
        let kind = if across { CommandKind::TransactOver } else { kind };
        let group = self.group_of(txn.first);
        let call = self.command(kind, None, 1, to_vec(&transaction));
        self.send_bad_call(now, group, "other content under a settled id", call, history);
    }

    fn send_bad_call(&mut self, now: u64, group: GroupId, what: &'static str, call: Call, history: &mut History) {
        let record = history.bad.len();
        history.bad.push(BadRecord { what, transfers: Vec::new(), accounts: Vec::new(), answers: Vec::new() });
        self.lone(now, group, Ask::Bad { call, record });
    }

    /// Malformed, or sent where it does not belong.
    fn bad_transaction(&mut self, now: u64, history: &mut History) {
        let parts = self.streets.parts.len();
        let place = self.rng.below(parts as u64) as usize;
        let group = self.streets.parts[place].0;
        let (here, there) = (self.list(now, &[place]), self.list(now, &[place + 1]));
        let mut append = |key| Operation::Append(Put { key, value: self.token() });
        let (here, there) = (append(here), append(there));
        let id = TransferId(self.rng.next_u128());
        let made = |operations| Transaction { id, conditions: Vec::new(), operations };
        let one = to_vec(&made(vec![here.clone()]));
        let kind = pick(&mut self.rng, &[CommandKind::Transaction, CommandKind::TransactOver]);
        let single = CommandKind::Transaction;
        let (what, kind, body) = match self.rng.below(8) {
            0 => ("a truncated transaction", kind, one[..self.rng.below(one.len() as u64) as usize].to_vec()),
            1 => ("a transaction and a byte", kind, [one, vec![0]].concat()),
            2 => ("noise", kind, (0..self.rng.below(64)).map(|_| self.rng.next_u64() as u8).collect()),
            3 => ("an empty transaction", kind, to_vec(&made(Vec::new()))),
            4 if parts > 1 => ("a transaction elsewhere", kind, to_vec(&made(vec![there]))),
            5 if parts > 1 => ("a transaction over groups, not told so", single, to_vec(&made(vec![here, there]))),
            6 if parts > 1 => {
                let (operations, confirmed) = (vec![Operation::Get(self.list(now, &[place + 1]))], true);
                let (deadline, epoch) = (Span(self.options.deadline), self.shape.map.epoch);
                let call = Call::Query(QueryCall { operations, confirmed, deadline, epoch });
                return self.send_bad_call(now, group, "a query elsewhere", call, history);
            }
            _ => {
                let (operations, confirmed) = (vec![here], self.rng.chance(50));
                let (deadline, epoch) = (Span(self.options.deadline), self.shape.map.epoch);
                let call = Call::Query(QueryCall { operations, confirmed, deadline, epoch });
                return self.send_bad_call(now, group, "a query that writes", call, history);
            }
        };
        let call = self.command(kind, None, 1, body);
        self.send_bad_call(now, group, what, call, history);
    }

    /// Reads all of this as one snapshot, as the client library does: in each group first what its leader has applied,
    /// then confirmed, and again, until nothing has changed in between; under locks if that does not come to rest.
    fn query(&mut self, now: u64, operations: Vec<Operation>, history: &mut History) {
        let mut shares: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (place, operation) in operations.iter().enumerate() {
            let owner = operation.subjects()[0].and_then(|subject| subject.owner(&self.shape.map));
            shares.entry(owner.unwrap_or(self.groups[0])).or_default().push(place);
        }
        if shares.is_empty() {
            return self.list_transaction(now, history);
        }
        self.open += 1;
        self.last_job += 1;
        let job = self.last_job;
        let gather = Gather {
            found: vec![None; operations.len()],
            operations,
            round: u32::from(shares.len() == 1),
            shares: shares.into_iter().collect(),
            before: None,
            left: 0,
            in_doubt: false,
            failed: false,
            invoked: now,
        };
        self.gathers.insert(job, gather);
        self.ask_round(now, job);
    }

    fn ask_round(&mut self, now: u64, job: u64) {
        let Some(gather) = self.gathers.get_mut(&job) else { return };
        gather.left = gather.shares.len();
        (gather.in_doubt, gather.failed) = (false, false);
        let confirmed = gather.round > 0;
        let asks: Vec<(GroupId, Vec<usize>, Vec<Operation>)> = gather
            .shares
            .iter()
            .map(|(group, places)| {
                (*group, places.clone(), places.iter().map(|place| gather.operations[*place].clone()).collect())
            })
            .collect();
        for (group, places, operations) in asks {
            self.exchange(now, group, Ask::Query { operations, confirmed }, Some(Part { job, places }));
        }
    }

    /// A group has answered, or will not.
    pub(super) fn end_share(&mut self, now: u64, part: &Part, end: PartEnd, history: &mut History) {
        let Some(gather) = self.gathers.get_mut(&part.job) else { return };
        gather.left -= 1;
        match end {
            PartEnd::Queried(Some(found)) => {
                for (place, found) in part.places.iter().zip(found) {
                    gather.found[*place] = Some(found);
                }
            }
            PartEnd::Queried(None) => gather.in_doubt = true,
            _ => gather.failed = true,
        }
        if gather.left == 0 {
            self.end_round(now, part.job, history);
        }
    }

    fn end_round(&mut self, now: u64, job: u64, history: &mut History) {
        let Some(mut gather) = self.gathers.remove(&job) else { return };
        let nothing = vec![None; gather.found.len()];
        let found: Option<Vec<Found>> = std::mem::replace(&mut gather.found, nothing).into_iter().collect();
        let is_quiet = found.is_some() && !gather.in_doubt;
        let alone = gather.shares.len() == 1;
        if gather.failed {
            return self.close_unit(now);
        }
        // The versions alone say that nothing has changed: that is what they are for.
        let versions = |found: &Option<Vec<Found>>| -> Option<Vec<Slot>> {
            found.as_ref().map(|found| found.iter().map(|found| found.version).collect())
        };
        let unchanged = versions(&gather.before) == versions(&found);
        if gather.round > 0 && is_quiet && (alone || unchanged) {
            let replies: Vec<Reply> = found.into_iter().flatten().map(|found| found.reply).collect();
            for (operation, reply) in gather.operations.iter().zip(&replies) {
                self.learn(operation, reply);
            }
            let Gather { operations, invoked, .. } = gather;
            history.queries.push(QueryRecord { operations, replies, invoked, completed: now });
            return self.close_unit(now);
        }
        if gather.round > 0 && (!is_quiet || gather.round >= CONFIRMATIONS) {
            if !self.stopped {
                self.transact(now, Vec::new(), gather.operations, history);
            }
            return self.close_unit(now);
        }
        gather.before = found.filter(|_| is_quiet);
        gather.round += 1;
        self.gathers.insert(job, gather);
        self.ask_round(now, job);
    }
}

//! Random histories of one group in which everything happens that an image must have: sessions and their answers,
//! operations that wait, transactions in doubt of both kinds, fences, swaps, scans, pending transfers and their ends,
//! chains, accounts that are closed and opened, histories of balances.

use crate::ids::{AccountId, Age, GroupId, SessionId, TransferId, TxnId};
use crate::ids::{Ballot, Epoch, ReplicaId, Session};
use crate::ledger::model::{Balance, Flags, NewAccount, PendingState, PendingTransfer, Reason, Sides, Transfer};
use crate::ledger::operations::{
    Action, Add, BalanceIs, Condition, Expire, Key, KeyIs, Operation, Pend, PostPending, Put, Reply, Rows, Scan, Swap,
    Swapped, Transaction, Value, VoidPending,
};
use crate::ledger::output::{CommandResult, Output, TxnOutput};
use crate::ledger::swapped_of;
use crate::ledger::tests::{G1, G2, LONG, World, attempt, client, create, genesis, move_money, register};
use crate::ledger::{Ledger, Limits};
use crate::message::command::{
    Begin, ClientCommand, Command, CommandKind, Content, Decide, Fence, Forget, LeaderStart, Prepare, ReadCommand,
    Resolve, Verdict,
};
use crate::message::operator::{AccountsCall, Nothing};
use crate::placement::map::ShardMap;
use crate::rng::Rng;
use crate::time::Span;
use crate::wire::codec::to_vec;

/// A group, and what was tried in it.
pub(super) struct Story {
    pub(super) world: World,
    rng: Rng,
    map: ShardMap,
    sessions: Vec<Session>,
    sequence: u64,
    // What was begun or prepared: attempts may be ended, again and again.
    tried: Vec<(Action, u64)>,
    // What was to be reserved, and what this group is to end.
    pended: Vec<Transfer>,
    due: Vec<Expire>,
    round: u64,
    ids: u128,
    seen: Seen,
}

/// How often something was there when it mattered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    in_doubt: u64,
    coordinated: u64,
    waiting: u64,
    keys: u64,
    posted: u64,
    sessions: u64,
    committed: u64,
    due: u64,
    balances: u64,
    closed: u64,
    // Of pending transfers: open, posted, voided, expired.
    pending: [u64; 4],
    // Expired by a transaction over both groups.
    expired_over: u64,
}

impl Seen {
    pub(super) fn add(&mut self, story: &Story) {
        let Seen {
            in_doubt,
            coordinated,
            waiting,
            keys,
            posted,
            sessions,
            committed,
            due,
            balances,
            closed,
            pending,
            expired_over,
        } = story.seen;
        self.in_doubt += in_doubt;
        self.coordinated += coordinated;
        self.waiting += waiting;
        self.keys += keys;
        self.posted += posted;
        self.sessions += sessions;
        self.committed += committed;
        self.due += due;
        self.balances += balances;
        self.closed += closed;
        self.expired_over += expired_over;
        self.pending.iter_mut().zip(pending).for_each(|(sum, number)| *sum += number);
    }

    /// The histories do something.
    pub(super) fn check(&self) {
        println!("{self:?}");
        let Seen {
            in_doubt,
            coordinated,
            waiting,
            keys,
            posted,
            sessions,
            committed,
            due,
            balances,
            closed,
            pending,
            expired_over,
        } = *self;
        let all = [in_doubt, coordinated, waiting, keys, posted, sessions, committed, balances, closed];
        assert!(all.into_iter().all(|number| number > 2_000), "{self:?}");
        assert!(pending.into_iter().all(|number| number > 500) && due > 50 && expired_over > 100, "{self:?}");
    }

    fn count(&mut self, ledger: &Ledger, outputs: &[Output]) {
        let totals = ledger.totals();
        self.in_doubt += totals.in_doubt;
        self.coordinated += totals.coordinated;
        self.waiting += totals.waiting;
        self.keys += totals.keys;
        self.posted += totals.posted;
        self.sessions += ledger.sessions.len() as u64;
        self.committed += outputs.len() as u64;
        self.due += outputs.iter().filter(|output| matches!(output, Output::Txn(TxnOutput::Due(_)))).count() as u64;
        self.balances += ledger.balances.len();
        let all = AccountsCall { from: 0, limit: 8190, changed: false, reserved: false };
        let closed = ledger.accounts_page(&all).accounts.into_iter().filter(|account| account.flags.has(Flags::CLOSED));
        self.closed += closed.count() as u64;
        for pending in ledger.pending_transfers(0, 8190) {
            let state = match pending.state {
                PendingState::Open => 0,
                PendingState::Posted => 1,
                PendingState::Voided => 2,
                PendingState::Expired => 3,
            };
            self.pending[state] += 1;
            self.expired_over += u64::from(state == 3 && pending.sides != Sides::Both);
        }
    }
}

impl Story {
    pub(super) fn new(seed: u64, limits: Limits) -> Story {
        Story {
            world: World::with(G1, limits),
            rng: Rng::new(seed),
            map: genesis(G1, limits).map,
            sessions: Vec::new(),
            sequence: 0,
            tried: Vec::new(),
            pended: Vec::new(),
            due: Vec::new(),
            round: 1,
            ids: 0,
            seen: Seen::default(),
        }
    }

    /// The entry that was applied last.
    pub(super) fn last_entry(&self) -> &[u8] {
        self.world.log.last().expect("there is one")
    }

    /// One more entry; what it has yielded.
    pub(super) fn step(&mut self) -> Vec<Output> {
        self.world.time += if self.rng.chance(3) { 2_000_000_000 } else { self.rng.below(60_000) };
        let outputs = if self.rng.chance(2) {
            self.round += 1;
            let ballot = Ballot { round: self.round, replica: ReplicaId(1) };
            self.world.entry(Content::LeaderStart(LeaderStart { ballot, members: None }))
        } else {
            let commands: Vec<Command> = (0..1 + self.rng.below(4)).map(|_| self.command()).collect();
            self.world.run(commands)
        };
        for output in &outputs {
            match output {
                Output::Client(output) => {
                    if let CommandResult::Registered(session) = output.result {
                        self.sessions.push(session);
                    }
                }
                Output::Txn(TxnOutput::Due(expire)) => self.due.push(*expire),
                _ => {}
            }
        }
        self.seen.count(&self.world.ledger, &outputs);
        outputs
    }

    fn command(&mut self) -> Command {
        match self.rng.below(100) {
            0..18 => self.batch(),
            18..38 => {
                let transaction = self.transaction(false);
                self.client(CommandKind::Transaction, to_vec(&transaction), 1)
            }
            38..62 => self.attempt(),
            62..82 => self.end(),
            82..86 => register(u128::from(self.rng.below(9))),
            86..91 => self.accounts(),
            91..95 => Command::Read(ReadCommand { account: self.account(true), deadline: LONG }),
            95..97 => Command::Fence(Fence { txn: self.some_txn() }),
            _ => {
                let ended = (0..3).map(|_| (self.some_txn(), attempt(1 + self.rng.below(2))));
                Command::Forget(Forget { ended: ended.collect::<Vec<_>>() })
            }
        }
    }

    fn client(&mut self, kind: CommandKind, body: Vec<u8>, count: u32) -> Command {
        let session = self.session();
        self.sequence += self.rng.below(3);
        let (sequence, deadline) = (self.sequence, Span(self.rng.below(2_000_000)));
        let body = body.into();
        Command::Client(ClientCommand { kind, session, sequence, deadline, epoch: Epoch(1), count, body })
    }

    fn session(&mut self) -> Option<Session> {
        let unknown = Session { id: SessionId(77), registered: crate::ids::Slot(0) };
        match self.rng.below(10) {
            0..5 => None,
            5 => Some(unknown),
            _ => Some(self.sessions.get(self.rng.below(12) as usize).copied().unwrap_or(unknown)),
        }
    }

    fn id(&mut self) -> u128 {
        if self.rng.chance(15) {
            return u128::from(self.rng.below(1 + self.ids as u64));
        }
        self.ids += 1;
        self.ids
    }

    /// Few, so that they meet.
    fn account(&mut self, here: bool) -> AccountId {
        let number = match (here, self.rng.below(8)) {
            (true, 6) => 101 + self.rng.below(4),
            (true, 7) => 11,
            (true, _) => 1 + self.rng.below(3),
            (false, _) => 11 + self.rng.below(3),
        };
        AccountId(u128::from(number))
    }

    fn transfer(&mut self, over: bool) -> Transfer {
        let (home, away) = (self.account(true).0, self.account(!over).0);
        let (debit, credit) = if self.rng.chance(50) { (home, away) } else { (away, home) };
        Transfer {
            user_data_64: self.rng.below(3),
            ..move_money(self.id(), debit, credit, u128::from(1 + self.rng.below(9)))
        }
    }

    fn batch(&mut self) -> Command {
        let items: Vec<Transfer> = (0..1 + self.rng.below(4)).map(|_| self.transfer(false)).collect();
        let session = self.session();
        self.sequence += 1;
        client(CommandKind::Transfers, session, self.sequence, &items)
    }

    fn accounts(&mut self) -> Command {
        let new = |number: u128, flags| NewAccount { id: AccountId(number), ledger: 1, code: 1, flags };
        let number = 101 + u128::from(self.rng.below(10));
        let also = [Flags::NONE, Flags::CLOSED, Flags::HISTORY, Flags::HISTORY][self.rng.below(4) as usize];
        let limited = Flags::CREDITS_MUST_NOT_EXCEED_DEBITS.with(Flags::HISTORY);
        let items = [new(number, Flags::NONE.with(also)), new(104, limited)];
        let session = self.session().unwrap_or_default();
        self.sequence += self.rng.below(2);
        create(session, self.sequence, &items)
    }

    /// A key of this group, or of the other one.
    fn key(&mut self, here: bool) -> Key {
        let group = if here { G1 } else { G2 };
        key_of(&self.map, group, self.rng.below(3) as usize, self.rng.below(4) as usize)
    }

    fn operation(&mut self, here: bool) -> Operation {
        let key = self.key(here);
        let number = self.rng.below(100) as i64;
        match self.rng.below(18) {
            0 | 1 => Operation::Put(Put { key, value: number.into() }),
            2 => Operation::Delete(key),
            3 => Operation::Append(Put { key, value: number.into() }),
            4 => Operation::Add(Add { key, delta: number }),
            5 => Operation::Get(key),
            6 => Operation::Scan(Scan { from: key, to: None, limit: 3 }),
            7 => Operation::Read(self.account(here)),
            8 => {
                let right = self.key(!here);
                Operation::Swap(Swap { left: key, right })
            }
            9 | 10 => {
                let transfer = self.transfer(!here);
                self.pend(transfer)
            }
            11..14 => self.ending(),
            14 if self.rng.chance(40) => Operation::Close(self.account(here)),
            14 => Operation::Open(self.account(here)),
            _ => {
                let transfer = self.transfer(!here);
                let id = if self.rng.chance(50) { TransferId(0) } else { transfer.id };
                Operation::Transfer(Transfer { id, ..transfer })
            }
        }
    }

    /// A pending transfer has an id.
    fn pend(&mut self, transfer: Transfer) -> Operation {
        let id = TransferId(transfer.id.0.max(1));
        let transfer = Transfer { id, user_data_32: self.rng.below(2) as u32, ..transfer };
        let timeout = if self.rng.chance(40) { Span(0) } else { Span(self.rng.below(2_000_000)) };
        self.pended.push(transfer);
        Operation::Pend(Pend { transfer, timeout })
    }

    /// The end of a pending transfer, mostly of a late one.
    fn ending(&mut self) -> Operation {
        let late = |len: u64, back: u64| len.saturating_sub(1 + back);
        let back = self.rng.below(6);
        let made = self.world.ledger.pending_transfers(late(self.world.ledger.pendings.len(), back), 1);
        let pended = match made.first().filter(|_| self.rng.chance(85)) {
            Some(pending) => pending.transfer,
            None => self.pended.get(late(self.pended.len() as u64, back) as usize).copied().unwrap_or_default(),
        };
        let Transfer { id: pending, debit, mut credit, .. } = pended;
        if self.rng.chance(3) {
            credit = self.account(true);
        }
        let id = if self.rng.chance(50) { TransferId(0) } else { TransferId(self.id()) };
        let amount = self.rng.chance(40).then(|| u128::from(1 + self.rng.below(6)));
        if self.rng.chance(65) {
            Operation::Post(PostPending { id, pending, debit, credit, amount })
        } else {
            Operation::Void(VoidPending { id, pending, debit, credit })
        }
    }

    fn condition(&mut self, here: bool) -> Condition {
        let is = KeyIs { key: self.key(here), value: None };
        let balance = Balance { negative: false, magnitude: u128::from(self.rng.below(12)) };
        match self.rng.below(4) {
            0 => Condition::Is(is),
            1 | 2 => Condition::IsNot(is),
            _ => Condition::AtLeast(BalanceIs { account: self.account(here), balance }),
        }
    }

    /// A transaction that may be sent; `over`: it may be about both groups.
    fn transaction(&mut self, over: bool) -> Transaction {
        loop {
            let conditions = (0..self.rng.below(2)).map(|_| self.condition(true)).collect();
            let count = if self.rng.chance(40) { 1 } else { 1 + self.rng.below(3) };
            let operations = (0..count).map(|_| {
                let here = !over || self.rng.chance(50);
                self.operation(here)
            });
            let transaction = Transaction { id: TransferId(0), conditions, operations: operations.collect() };
            let id = match transaction.operations[..] {
                [Operation::Pend(Pend { transfer, .. })] if self.rng.chance(50) => transfer.id,
                _ => TransferId(self.id()),
            };
            let transaction = Transaction { id, ..transaction };
            if transaction.fault().is_none() {
                return transaction;
            }
        }
    }

    /// A try at something over both groups: a new one, or another one at what was tried.
    fn attempt(&mut self) -> Command {
        let known = self.tried.len() as u64;
        let (action, number) = if known > 0 && self.rng.chance(25) {
            let (action, number) = self.tried[self.rng.below(known) as usize].clone();
            (action, number + self.rng.below(2))
        } else {
            let turn = if self.due.is_empty() { self.rng.below(10) } else { 3 };
            let action = match turn {
                0..3 => self.transfer(true).into(),
                3 | 4 => self.expiry(),
                5 | 6 => {
                    let transfer = self.transfer(true);
                    let operations = vec![self.pend(transfer)];
                    Transaction { id: TransferId(transfer.id.0.max(1)), conditions: Vec::new(), operations }.into()
                }
                7 => {
                    let operations = vec![self.ending()];
                    Transaction { id: TransferId(self.id()), conditions: Vec::new(), operations }.into()
                }
                _ => Action::from(self.transaction(true)),
            };
            (action, 1)
        };
        self.tried.push((action.clone(), number));
        let counter = self.world.ledger.counter() + self.rng.below(4);
        try_it(&self.map, action, number, counter, Span(self.rng.below(1_000_000)))
    }

    /// The end of a pending transfer by its time: as this group was told, or as the other one says.
    fn expiry(&mut self) -> Action {
        if let Some(expire) = self.due.pop() {
            return Action::Expire(expire);
        }
        let mut made = self.world.ledger.pending_transfers(0, 8190).into_iter().rev();
        let of_the_other = |row: &PendingTransfer| row.sides == Sides::Credit && row.state == PendingState::Open;
        match made.find(of_the_other).map(|row| row.transfer) {
            Some(Transfer { id: pending, debit, credit, .. }) => {
                Action::Expire(Expire { id: TransferId(self.id()), pending, debit, credit })
            }
            None => self.transfer(true).into(),
        }
    }

    fn end(&mut self) -> Command {
        let known = self.tried.len() as u64;
        if known == 0 {
            return self.batch();
        }
        // The latest, mostly: the others have their ends.
        let index = known - 1 - self.rng.below(known.min(6));
        let (action, number) = self.tried[index as usize].clone();
        let (txn, attempt) = (action.txn(&self.map), attempt(number));
        let verdict = match self.rng.below(10) {
            0..6 => Verdict::Commit,
            6..9 => Verdict::Abort,
            _ => Verdict::Reject(Reason::Condition),
        };
        let replies: Vec<Reply> = match action.transaction() {
            Some(transaction) if verdict == Verdict::Commit => transaction.operations.iter().map(reply_to).collect(),
            _ => Vec::new(),
        };
        if owner(&self.map, &action) == Some(G1) {
            Command::Decide(Decide { txn, attempt, verdict, replies })
        } else {
            Command::Resolve(Resolve { txn, attempt, verdict, values: swapped_of(&replies) })
        }
    }

    fn some_txn(&mut self) -> TxnId {
        match self.tried.get(self.rng.below(40) as usize) {
            Some((action, _)) => action.txn(&self.map),
            None => TxnId { id: TransferId(self.id()), first: self.account(true) },
        }
    }
}

fn owner(map: &ShardMap, action: &Action) -> Option<GroupId> {
    map.owner_of(action.txn(map).first)
}

fn key_of(map: &ShardMap, group: GroupId, part: usize, number: usize) -> Key {
    let parts = (0..).map(|n: u32| Key::new(format!("k{n}")).expect("a key"));
    let part = parts.filter(|key| map.owner_of_key(key) == group).nth(part).expect("there is always another one");
    if number == 0 { part } else { Key::new([part.as_bytes(), b"/", &[number as u8]].concat()).expect("a key") }
}

fn reply_to(operation: &Operation) -> Reply {
    match operation {
        Operation::Transfer(_) | Operation::Put(_) | Operation::Delete(_) => Reply::Done(Nothing {}),
        Operation::Pend(_) | Operation::Post(_) | Operation::Void(_) => Reply::Done(Nothing {}),
        Operation::Close(_) | Operation::Open(_) => Reply::Done(Nothing {}),
        Operation::List(_) => unreachable!("no transaction has one"),
        Operation::Append(_) => Reply::Length(7),
        Operation::Add(_) => Reply::Number(-7),
        Operation::Swap(_) => Reply::Swapped(Swapped { left: Some(Value::from(1)), right: None }),
        Operation::Get(_) => Reply::Value(Some(Value::from(2))),
        Operation::Scan(_) => Reply::Rows(Rows::default()),
        Operation::Read(_) => Reply::Account(crate::ledger::model::Account::default()),
    }
}

/// Begins what this group coordinates, prepares what another one does.
fn try_it(map: &ShardMap, action: Action, number: u64, counter: u64, deadline: Span) -> Command {
    let (txn, attempt) = (action.txn(map), attempt(number));
    let (age, participants) = (Age { counter, id: txn.id }, action.participants(map));
    if owner(map, &action) == Some(G1) {
        Command::Begin(Begin { txn, attempt, age, participants, action, deadline })
    } else {
        Command::Prepare(Prepare { txn, attempt, age, participants, action, deadline })
    }
}

/// Begins a transaction over both groups.
pub(super) fn over(id: u128, operations: Vec<Operation>) -> Command {
    let map = genesis(G1, Limits::default()).map;
    let transaction = Transaction { id: TransferId(id), conditions: Vec::new(), operations };
    try_it(&map, transaction.into(), 1, 1, LONG)
}

/// A write to a key of the other group.
pub(super) fn put_elsewhere(map: &ShardMap) -> Operation {
    Operation::Put(Put { key: key_of(map, G2, 0, 0), value: Value::from(1) })
}

/// Sends a transaction of this group.
pub(super) fn run_transaction(world: &mut World, transaction: &Transaction) {
    let body = to_vec(transaction).into();
    let (kind, session, sequence, deadline, epoch) = (CommandKind::Transaction, None, 0, LONG, Epoch(1));
    world.one(Command::Client(ClientCommand { kind, session, sequence, deadline, epoch, count: 1, body }));
}

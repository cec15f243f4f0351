//! A simulated client: it follows the rules of the client library, and sometimes the worst that they allow.
//!
//! A request goes to the node that is believed to lead; a refusal redirects it, silence sends it to the next node; every
//! retry has the same id and body. Sometimes a second copy goes elsewhere at once, and sometimes the client gives up
//! and never tries again: such orphans are fenced at the end, which settles them.

use std::collections::BTreeSet;

use bytes::Bytes;

use drachma_protocol::ids::{AccountId, GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Transfer, TransferResult};
use drachma_protocol::message::client::{Call, FenceCall, ReadCall, Request, Response};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::rng::Rng;
use drachma_protocol::routing::Routes;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;
use drachma_workload::transfer::{Settings, Transfers};

use crate::draw::{between, exponential, permille, pick};
use crate::history::{History, ReadRecord};
use crate::shape::Shape;

/// What the clients of a run do.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The mean time between the end of an operation and the next, in microseconds.
    pub mean_pause: u64,
    /// How many operations a client begins at most.
    pub operations: u64,
    /// How many operations a client has under way at a time.
    pub in_flight: u64,
    /// The most transfers of a request.
    pub largest_batch: u64,
    /// How many of 100 operations read.
    pub reads: u64,
    /// How many of 100 batches go to other groups.
    pub across: u64,
    /// Amounts are up to this.
    pub largest_amount: u64,
    /// The number of hot accounts.
    pub hot: u64,
    /// How many of 100 accounts are hot ones.
    pub hot_percent: u64,
    /// Silence after which a client tries another node, in microseconds.
    pub timeout: u64,
    /// The deadline of a request, in microseconds.
    pub deadline: u64,
    /// How many of 1,000 requests go to a second node at once.
    pub second_copy: u64,
    /// How many of 1,000 silences make the client give up for ever.
    pub give_up: u64,
    /// How many of 100 ids are used again under another debit account.
    pub shared_ids: u64,
}

impl ClientOptions {
    /// Draws what clients do.
    pub fn draw(rng: &mut Rng) -> ClientOptions {
        ClientOptions {
            mean_pause: pick(rng, &[100_000, 300_000, 1_000_000]),
            operations: between(rng, 20, 150),
            in_flight: between(rng, 1, 3),
            largest_batch: pick(rng, &[1, 1, 3]),
            reads: pick(rng, &[0, 20, 50]),
            across: pick(rng, &[0, 30, 70, 100]),
            largest_amount: pick(rng, &[1, 20, 200]),
            hot: pick(rng, &[0, 2, 4]),
            hot_percent: pick(rng, &[50, 90]),
            timeout: pick(rng, &[100_000, 500_000, 2_000_000]),
            deadline: pick(rng, &[200_000, 1_000_000, 5_000_000]),
            second_copy: pick(rng, &[0, 0, 50, 300]),
            give_up: pick(rng, &[0, 0, 100, 500]),
            shared_ids: pick(rng, &[0, 0, 10]),
        }
    }
}

/// What a client wants done.
#[derive(Debug)]
pub enum Wish {
    /// Send a request.
    Send {
        /// To whom.
        node: NodeId,
        /// Comes back with the answer.
        correlation: u64,
        /// The request.
        request: Request,
    },
    /// Wake me.
    Wake {
        /// When, in microseconds.
        at: u64,
        /// What for.
        alarm: Alarm,
    },
}

/// What a client is woken for.
#[derive(Clone, Copy, Debug)]
pub enum Alarm {
    /// To begin something new.
    Begin,
    /// This copy of a request has had no answer for too long.
    Silence(u64),
    /// This copy of a request was refused: try again.
    Refused(u64),
}

#[derive(Debug)]
enum Work {
    Transfers { kind: CommandKind, transfers: Vec<Transfer> },
    Read { account: AccountId },
    Fence { txn: TxnId },
}

#[derive(Debug)]
struct Operation {
    group: GroupId,
    work: Work,
    // When each copy was sent.
    copies: Vec<u64>,
    // Nobody waits for it; answers that come are still evidence.
    over: bool,
}

/// The copies of a request are told apart by the low bits of the correlation id.
const COPIES: u64 = 1 << 16;

/// A client.
pub struct Client {
    options: ClientOptions,
    rng: Rng,
    transfers: Transfers,
    map: ShardMap,
    groups: Vec<GroupId>,
    routes: Routes,
    operations: Vec<Operation>,
    open: u64,
    stopped: bool,
    orphans: BTreeSet<TxnId>,
    wishes: Vec<Wish>,
}

impl Client {
    /// A client of a cluster.
    pub fn new(options: &ClientOptions, shape: &Shape, mut rng: Rng) -> Client {
        let settings = Settings {
            accounts: shape.accounts,
            hot: options.hot,
            hot_percent: options.hot_percent,
            largest_amount: options.largest_amount,
            across_percent: None,
            shared_id_percent: options.shared_ids,
            ledger: 1,
            code: 1,
        };
        let groups: Vec<GroupId> = shape.groups.iter().map(|(group, _)| *group).collect();
        let owned = |group: &&GroupId| {
            (1..=shape.accounts).any(|id| shape.map.owner_of(AccountId(u128::from(id))) == Some(**group))
        };
        Client {
            options: options.clone(),
            transfers: Transfers::new(settings, shape.map.clone(), rng.next_u64()),
            map: shape.map.clone(),
            groups: groups.iter().filter(owned).copied().collect(),
            routes: Routes::new(shape.groups.iter().cloned()),
            rng,
            operations: Vec::new(),
            open: 0,
            stopped: false,
            orphans: BTreeSet::new(),
            wishes: Vec::new(),
        }
    }

    /// Takes what the client wants done.
    pub fn wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// Whether nothing is open and every id is settled.
    pub fn is_done(&self) -> bool {
        self.stopped && self.open == 0 && self.orphans.is_empty()
    }

    /// What is still open, for a report.
    pub fn describe_open(&self) -> String {
        let open: Vec<&Operation> = self.operations.iter().filter(|operation| !operation.over).collect();
        format!("{} operations, the first {:?}", open.len(), open.first())
    }

    fn begin(&mut self, now: u64, history: &mut History) {
        let most = self.options.operations;
        while !self.stopped && self.open < self.options.in_flight && (self.operations.len() as u64) < most {
            let operation = self.draw(now, history);
            self.open(now, operation);
        }
    }

    /// No more new operations; what was given up is fenced, and a read in each group shows that it works again: what
    /// is chosen there and known to nobody after a blackout is found again by its next leader only.
    pub fn stop(&mut self, now: u64) {
        self.stopped = true;
        for group in self.groups.clone() {
            let account = self.transfers.draw_in(group, false).debit;
            let group = self.map.owner_of(account).unwrap_or(group);
            self.open(now, Operation { group, work: Work::Read { account }, copies: Vec::new(), over: false });
        }
        let orphans: Vec<TxnId> = self.orphans.iter().copied().collect();
        for txn in orphans {
            if let Some(group) = self.map.owner_of(txn.first) {
                self.open(now, Operation { group, work: Work::Fence { txn }, copies: Vec::new(), over: false });
            }
        }
    }

    fn draw(&mut self, now: u64, history: &mut History) -> Operation {
        let new = |group, work| Operation { group, work, copies: Vec::new(), over: false };
        let group = pick(&mut self.rng, &self.groups);
        if self.rng.chance(self.options.reads) {
            let account = self.transfers.account();
            return new(self.map.owner_of(account).unwrap_or(group), Work::Read { account });
        }
        let across = self.groups.len() > 1 && self.rng.chance(self.options.across);
        let count = between(&mut self.rng, 1, self.options.largest_batch);
        let drawn = (0..count).map(|_| self.transfers.draw_in(group, across)).collect::<Vec<Transfer>>();
        // All of one kind, and all of the group that owns the first: the draw may have found no such accounts.
        let first = drawn[0];
        let group = self.map.owner_of(first.debit).unwrap_or(group);
        let across = self.transfers.is_across(&first);
        let fits = |t: &Transfer| self.map.owner_of(t.debit) == Some(group) && self.transfers.is_across(t) == across;
        let transfers: Vec<Transfer> = drawn.into_iter().filter(fits).collect();
        transfers.iter().for_each(|transfer| history.invoke(now, *transfer));
        let kind = if across { CommandKind::Transact } else { CommandKind::Transfers };
        new(group, Work::Transfers { kind, transfers })
    }

    fn open(&mut self, now: u64, operation: Operation) {
        self.operations.push(operation);
        self.open += 1;
        let number = self.operations.len() - 1;
        self.send(now, number);
        if permille(&mut self.rng, self.options.second_copy) {
            self.routes.advance(self.operations[number].group);
            self.send(now, number);
        }
    }

    fn send(&mut self, now: u64, number: usize) {
        let request = self.request(number);
        let operation = &mut self.operations[number];
        let Some(node) = self.routes.target(operation.group) else { return };
        let correlation = number as u64 * COPIES + operation.copies.len() as u64;
        operation.copies.push(now);
        self.wishes.push(Wish::Send { node, correlation, request });
        self.wake(now + self.options.timeout, Alarm::Silence(correlation));
    }

    fn request(&self, number: usize) -> Request {
        let operation = &self.operations[number];
        let deadline = Span(self.options.deadline);
        let call = match &operation.work {
            Work::Transfers { kind, transfers } => Call::Command(ClientCommand {
                kind: *kind,
                session: None,
                sequence: number as u64,
                deadline,
                epoch: self.map.epoch,
                count: transfers.len() as u32,
                body: Bytes::from(to_vec(transfers)),
            }),
            Work::Read { account } => Call::Read(ReadCall { account: *account, deadline, epoch: self.map.epoch }),
            Work::Fence { txn } => Call::Fence(FenceCall { txn: *txn, deadline }),
        };
        Request { group: operation.group, call }
    }

    /// The time of an alarm has come.
    pub fn on_alarm(&mut self, now: u64, alarm: Alarm, history: &mut History) {
        let (Alarm::Silence(correlation) | Alarm::Refused(correlation)) = alarm else {
            return self.begin(now, history);
        };
        let number = (correlation / COPIES) as usize;
        if self.operations[number].over || !self.is_last(correlation) {
            return;
        }
        if let Alarm::Silence(_) = alarm {
            if !self.stopped && permille(&mut self.rng, self.options.give_up) {
                return self.give_up(now, number);
            }
            self.routes.advance(self.operations[number].group);
        }
        self.send(now, number);
    }

    fn is_last(&self, correlation: u64) -> bool {
        self.operations[(correlation / COPIES) as usize].copies.len() as u64 == correlation % COPIES + 1
    }

    fn wake(&mut self, at: u64, alarm: Alarm) {
        self.wishes.push(Wish::Wake { at, alarm });
    }

    fn give_up(&mut self, now: u64, number: usize) {
        if let Work::Transfers { transfers, .. } = &self.operations[number].work {
            self.orphans.extend(transfers.iter().map(TxnId::from));
        }
        self.close(now, number);
    }

    fn close(&mut self, now: u64, number: usize) {
        let operation = &mut self.operations[number];
        if !operation.over {
            operation.over = true;
            self.open -= 1;
            let at = now + exponential(&mut self.rng, self.options.mean_pause);
            self.wake(at, Alarm::Begin);
        }
    }

    /// An answer came. Returns the ids that it settles.
    pub fn on_response(
        &mut self,
        now: u64,
        from: NodeId,
        correlation: u64,
        response: &Response,
        history: &mut History,
    ) -> Vec<(TxnId, Outcome)> {
        let number = (correlation / COPIES) as usize;
        let Some(operation) = self.operations.get(number) else { return Vec::new() };
        let group = operation.group;
        if let Response::Refused(refused) = response {
            self.routes.redirect(group, from, refused.leader, false);
            self.retry_soon(now, correlation, refused.after);
            return Vec::new();
        }
        self.routes.confirm(group, from);
        match (&operation.work, response) {
            (Work::Transfers { transfers, .. }, Response::Transfers(done)) => {
                let results = results(transfers, done);
                let settled: Vec<(TxnId, Outcome)> =
                    results.iter().filter_map(|(txn, outcome)| Some((*txn, (*outcome)?))).collect();
                self.orphans.retain(|orphan| settled.iter().all(|(txn, _)| txn != orphan));
                if settled.len() == results.len() {
                    self.close(now, number);
                } else {
                    self.retry_soon(now, correlation, Span(0));
                }
                settled
            }
            (Work::Read { account }, Response::Read(done)) => {
                let invoked = operation.copies[(correlation % COPIES) as usize];
                history.reads.push(ReadRecord { account: *account, invoked, completed: now, found: done.account });
                self.close(now, number);
                Vec::new()
            }
            (Work::Fence { txn }, Response::Settled(done)) => {
                let txn = *txn;
                let Some(outcome) = done.outcome else { return Vec::new() };
                self.orphans.remove(&txn);
                self.close(now, number);
                vec![(txn, outcome)]
            }
            _ => Vec::new(),
        }
    }

    /// Tries again after a short while, if the refused copy was the last.
    fn retry_soon(&mut self, now: u64, correlation: u64, after: Span) {
        if self.operations[(correlation / COPIES) as usize].over || !self.is_last(correlation) {
            return;
        }
        let at = now + after.0.max(exponential(&mut self.rng, 10_000)) + 1;
        self.wake(at, Alarm::Refused(correlation));
    }
}

/// The outcome of each transfer of a batch, where it has one: what is not listed has committed now.
fn results(
    transfers: &[Transfer],
    done: &drachma_protocol::message::client::TransfersDone,
) -> Vec<(TxnId, Option<Outcome>)> {
    let mut results: Vec<(TxnId, Option<Outcome>)> =
        transfers.iter().map(|transfer| (TxnId::from(transfer), Some(Outcome::Committed))).collect();
    for item in &done.items {
        if let Some(result) = results.get_mut(item.index as usize) {
            result.1 = match item.result {
                TransferResult::Done(outcome) => Some(outcome),
                _ => None,
            };
        }
    }
    results
}

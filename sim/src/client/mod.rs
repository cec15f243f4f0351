//! A simulated client: it follows the rules of the client library, and sometimes the worst that they allow.
//!
//! What it does comes from the workloads (transfers, the bank, the ledger) and from a mischief of its own: conflicts,
//! rejections, lookups, fences, lost sessions, malformed requests. An operation is taken apart into requests, one group
//! each, and put together again (`jobs`). A request goes to the node that is believed to lead; a refusal redirects it,
//! silence sends it to the next node; every retry has the same id and body. Sometimes a second copy goes elsewhere at
//! once, or comes long after, and sometimes the client gives up, or restarts and knows nothing but its ids: such
//! orphans are tried again, looked up, or fenced, at the latest at the end, which settles them.

mod exchange;
mod jobs;
mod keys;
mod levels;
mod mischief;
mod options;
mod sessions;
pub mod streets;
pub mod town;
pub mod vault;

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{AccountId, Epoch, GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Transfer, TransferResult};
use drachma_protocol::ledger::operations::{Key, Value};
use drachma_protocol::message::client::{Refused, Request, Response, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::rng::Rng;
use drachma_protocol::routing::Routes;
use drachma_protocol::time::Span;
use drachma_workload::bank::Bank;
use drachma_workload::ledger::Ledger;
use drachma_workload::transfer::{Settings, Transfers};
use drachma_workload::{Operation, Workload};

use crate::draw::{between, exponential, permille, pick};
use crate::history::{History, LookupRecord, LostSession, ReadRecord};
use crate::shape::Shape;
use exchange::{Ask, Exchange, Part, outcomes};
use jobs::{Job, PartEnd};
use keys::Gather;
use levels::Known;
pub use options::ClientOptions;
use sessions::Sessions;
use streets::Streets;
use town::Town;
use vault::{Reserved, Vault};

/// The copies of a request are told apart by the low bits of the correlation id.
const COPIES: u64 = 1 << 16;
/// So many copies of a hurried request are sent.
const HURRIED_COPIES: usize = 3;
/// The mean pause before a full group is asked again for a session, in microseconds.
const SESSION_PAUSE: u64 = 300_000;
/// So many fences a client has under way at the end.
const SETTLING: usize = 64;
/// The places of the other workloads among the generators.
const BANK: usize = 0;
const LEDGER: usize = 1;

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
    /// A copy of this request was under way all the time, and arrives now.
    Late(u64),
}

/// A client.
pub struct Client {
    options: ClientOptions,
    shape: Shape,
    town: Town,
    streets: Streets,
    vault: Vault,
    // Pending transfers that the client has made lately.
    reserved: Vec<Reserved>,
    rng: Rng,
    transfers: Transfers,
    generators: [Box<dyn Workload>; 2],
    // Those that own accounts of the beginning.
    groups: Vec<GroupId>,
    routes: Routes,
    sessions: Sessions,
    exchanges: Vec<Exchange>,
    // What was sent before the last restart: its answers reach nobody.
    forgotten: usize,
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
    gathers: BTreeMap<u64, Gather>,
    // What keys held when the client last saw them.
    known: BTreeMap<Key, Option<Value>>,
    // Told apart from the others.
    number: u64,
    known_slots: Known,
    // Jobs and requests of no job that are under way.
    open: u64,
    begun: u64,
    stopped: bool,
    orphans: BTreeSet<TxnId>,
    // Of them, those that still have to be fenced at the end.
    unsettled: Vec<TxnId>,
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
            ..Settings::default()
        };
        let owned = |group: &GroupId| {
            (1..=shape.accounts).any(|id| shape.map.owner_of(AccountId(u128::from(id))) == Some(*group))
        };
        let town = Town::of(shape);
        Client {
            options: options.clone(),
            transfers: Transfers::new(settings, shape.map.clone(), rng.next_u64()),
            generators: generators(&town, &mut rng),
            town,
            streets: Streets::of(shape),
            vault: Vault::of(shape),
            reserved: Vec::new(),
            groups: shape.groups.iter().map(|(group, _)| *group).filter(owned).collect(),
            routes: Routes::new(shape.groups.iter().cloned()),
            shape: shape.clone(),
            sessions: Sessions::new(&mut rng, options.sessions),
            rng,
            exchanges: Vec::new(),
            forgotten: 0,
            jobs: BTreeMap::new(),
            last_job: 0,
            gathers: BTreeMap::new(),
            known: BTreeMap::new(),
            number: 0,
            known_slots: Known::default(),
            open: 0,
            begun: 0,
            stopped: false,
            orphans: BTreeSet::new(),
            unsettled: Vec::new(),
            wishes: Vec::new(),
        }
    }

    /// Told apart from the others by this.
    pub fn numbered(self, number: u32) -> Client {
        Client { number: number.into(), ..self }
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
        let open: Vec<&Exchange> = self.exchanges.iter().filter(|exchange| !exchange.over).collect();
        let (operations, orphans) = (self.open, self.orphans.len());
        format!("{operations} operations, {orphans} orphans, {} requests, the first {:?}", open.len(), open.first())
    }

    fn begin(&mut self, now: u64, history: &mut History) {
        let burst = permille(&mut self.rng, self.options.bursts);
        let most = if burst { self.options.burst } else { self.options.in_flight };
        let mut tries = most;
        while !self.stopped && tries > 0 && self.open < most && self.begun < self.options.operations {
            tries -= 1;
            self.begun += 1;
            if self.rng.chance(self.options.mischief) {
                self.mischief(now, history);
                continue;
            }
            if self.options.vault > 0 && self.rng.chance(self.options.vault) {
                self.vault_operation(now, history);
                continue;
            }
            if self.options.levels > 0 && self.rng.chance(self.options.levels) {
                self.at_level(now, history);
                continue;
            }
            if self.rng.chance(self.options.keys) {
                self.key_operation(now, history);
                continue;
            }
            let (generator, operation) = self.draw();
            self.start_job(now, generator, operation, history);
        }
    }

    /// The next operation. Where a generator waits for something, plain transfers fill the gap.
    fn draw(&mut self) -> (Option<usize>, Operation) {
        let choice = self.rng.below(100);
        let (bank, ledger) = (self.options.bank, self.options.ledger);
        let generator = match choice {
            _ if choice < bank => Some(BANK),
            _ if choice < bank + ledger => Some(LEDGER),
            _ => None,
        };
        if let Some(generator) = generator
            && let Some(operation) = self.generators[generator].next()
        {
            return (Some(generator), operation);
        }
        if !self.rng.chance(self.options.reads) {
            return (None, Operation::Transfers(self.draw_transfers()));
        }
        if self.rng.chance(self.options.snapshots) {
            let count = between(&mut self.rng, 2, 4);
            return (None, Operation::Snapshot((0..count).map(|_| self.transfers.account()).collect()));
        }
        (None, Operation::Read(self.transfers.account()))
    }

    /// A batch of one kind, if there are such accounts.
    fn draw_transfers(&mut self) -> Vec<Transfer> {
        let group = pick(&mut self.rng, &self.groups);
        let across = self.groups.len() > 1 && self.rng.chance(self.options.across);
        let count = between(&mut self.rng, 1, self.options.largest_batch);
        let mut drawn: Vec<Transfer> = (0..count).map(|_| self.transfers.draw_in(group, across)).collect();
        if permille(&mut self.rng, self.options.doubles) {
            let double = pick(&mut self.rng, &drawn);
            drawn.push(double);
        }
        drawn
    }

    /// No more new operations; what was given up is fenced, and a read in each group shows that it works again: what
    /// is chosen there and known to nobody after a blackout is found again by its next leader only.
    pub fn stop(&mut self, now: u64, history: &mut History) {
        self.stopped = true;
        for pending in std::mem::take(&mut self.sessions.pending) {
            self.end(now, pending.part.as_ref(), PartEnd::Unknown, history);
        }
        for number in 0..self.exchanges.len() {
            if matches!(self.exchanges[number].ask, Ask::Register { .. }) {
                self.close(now, number, PartEnd::Unknown, history);
            }
        }
        for group in self.groups.clone() {
            let account = self.transfers.draw_in(group, false).debit;
            self.start_job(now, None, Operation::Read(account), history);
        }
        self.unsettled = self.orphans.iter().copied().collect();
        for _ in 0..SETTLING {
            self.settle_next(now);
        }
    }

    /// Fences the next id that has no answer yet.
    fn settle_next(&mut self, now: u64) {
        while let Some(txn) = self.unsettled.pop() {
            if self.orphans.contains(&txn) {
                return self.fence(now, txn);
            }
        }
    }

    /// Settles an id for ever, if it lives anywhere.
    fn fence(&mut self, now: u64, txn: TxnId) {
        match self.shape.map.owner_of(txn.first) {
            Some(group) => self.lone(now, group, Ask::Fence { txn }),
            None => {
                self.orphans.remove(&txn);
            }
        }
    }

    /// A request of no job.
    fn lone(&mut self, now: u64, group: GroupId, ask: Ask) {
        self.open += 1;
        self.exchange(now, group, ask, None);
    }

    fn exchange(&mut self, now: u64, group: GroupId, ask: Ask, part: Option<Part>) {
        let hurried = !self.stopped && permille(&mut self.rng, self.options.hurried);
        let deadline = if hurried { between(&mut self.rng, 50, 5_000) } else { self.options.deadline };
        // A map of another version is as good as the right one, as long as the group owns what is named.
        let epoch = if self.rng.chance(2) { Epoch(self.rng.below(9)) } else { self.shape.map.epoch };
        let (deadline, copies, over, known, asked) = (Span(deadline), Vec::new(), false, Vec::new(), None);
        let number = self.exchanges.len();
        self.exchanges.push(Exchange { group, ask, part, deadline, epoch, hurried, copies, asked, over, known });
        self.send(now, number);
        if permille(&mut self.rng, self.options.second_copy) {
            self.routes.advance(group);
            self.send(now, number);
        }
        if permille(&mut self.rng, self.options.late_copies) {
            let at = now + exponential(&mut self.rng, self.options.late_delay);
            self.wake(at, Alarm::Late(number as u64 * COPIES));
        }
    }

    fn send(&mut self, now: u64, number: usize) {
        let (group, looks) = (self.exchanges[number].group, matches!(self.exchanges[number].ask, Ask::Look { .. }));
        let node = if looks { self.any_node(group) } else { self.routes.target(group) };
        let Some(node) = node else { return };
        let exchange = &mut self.exchanges[number];
        if self.stopped {
            exchange.deadline = exchange.deadline.max(Span(self.options.deadline));
        }
        let request = exchange.request();
        let correlation = number as u64 * COPIES + exchange.copies.len() as u64;
        exchange.copies.push(now);
        exchange.asked = Some(node);
        self.wishes.push(Wish::Send { node, correlation, request });
        self.wake(now + self.options.timeout, Alarm::Silence(correlation));
    }

    /// The time of an alarm has come.
    pub fn on_alarm(&mut self, now: u64, alarm: Alarm, history: &mut History) {
        let correlation = match alarm {
            Alarm::Begin => return self.begin(now, history),
            Alarm::Silence(correlation) | Alarm::Refused(correlation) | Alarm::Late(correlation) => correlation,
        };
        let number = (correlation / COPIES) as usize;
        if let Alarm::Late(_) = alarm {
            if !self.stopped {
                self.send(now, number);
            }
            return;
        }
        let exchange = &self.exchanges[number];
        if exchange.over || !self.is_last(correlation) {
            return;
        }
        if !self.stopped && exchange.hurried && exchange.copies.len() >= HURRIED_COPIES {
            return self.give_up(now, number, history);
        }
        if let Alarm::Silence(_) = alarm {
            if !self.stopped && permille(&mut self.rng, self.options.give_up) {
                return self.give_up(now, number, history);
            }
            // Only from the node that was asked: several requests that wait would else chase each other past the leader.
            let (group, asked) = (self.exchanges[number].group, self.exchanges[number].asked);
            if self.routes.target(group) == asked {
                self.routes.unanswered(group);
            }
        }
        if !self.rng.chance(50) || !self.narrow(now, number, history) {
            self.send(now, number);
        }
    }

    /// Tries again only what has no outcome yet, if that is not all: else a large batch may stand in its own way.
    fn narrow(&mut self, now: u64, number: usize, history: &mut History) -> bool {
        let exchange = &mut self.exchanges[number];
        let (Ask::Transfers { transfers, .. }, Some(part)) = (&exchange.ask, exchange.part.clone()) else {
            return false;
        };
        if exchange.known.iter().all(Option::is_none) {
            return false;
        }
        let (mut open, mut settled) = (part.clone(), part.clone());
        (open.places, settled.places) = (Vec::new(), Vec::new());
        let (mut rest, mut outcomes) = (Vec::new(), Vec::new());
        for ((transfer, place), outcome) in transfers.iter().zip(&part.places).zip(&exchange.known) {
            if outcome.is_some() {
                settled.places.push(*place);
                outcomes.push(*outcome);
            } else {
                open.places.push(*place);
                rest.push(*transfer);
            }
        }
        let across = matches!(exchange.ask, Ask::Transfers { kind: CommandKind::Transact, .. });
        let group = exchange.group;
        exchange.over = true;
        self.add_part(part.job);
        let ask = self.transfers_ask(group, across, rest);
        self.exchange(now, group, ask, Some(open));
        self.end_part(now, &settled, PartEnd::Transfers(outcomes), history);
        true
    }

    fn is_last(&self, correlation: u64) -> bool {
        self.exchanges[(correlation / COPIES) as usize].copies.len() as u64 == correlation % COPIES + 1
    }

    fn wake(&mut self, at: u64, alarm: Alarm) {
        self.wishes.push(Wish::Wake { at, alarm });
    }

    /// The client waits no longer for a request; what became of it is not known.
    fn give_up(&mut self, now: u64, number: usize, history: &mut History) {
        if let Ask::Register { identity, .. } = self.exchanges[number].ask {
            // Something waits for it: another try.
            let group = self.exchanges[number].group;
            self.close(now, number, PartEnd::Unknown, history);
            self.sessions.registering.remove(&(identity, group));
            return self.register(now, identity, group);
        }
        let txns = self.exchanges[number].txns();
        self.orphans.extend(txns.iter().copied());
        self.close(now, number, PartEnd::Unknown, history);
        // What is given up may wait, or be under way: the best moment to fence it.
        let fences = self.stopped || self.rng.chance(30);
        txns.into_iter().filter(|_| fences).for_each(|txn| self.fence(now, txn));
    }

    /// A request is over.
    fn close(&mut self, now: u64, number: usize, end: PartEnd, history: &mut History) {
        let exchange = &mut self.exchanges[number];
        if exchange.over {
            return;
        }
        exchange.over = true;
        let (part, registers) = (exchange.part.clone(), matches!(exchange.ask, Ask::Register { .. }));
        if !registers {
            self.end(now, part.as_ref(), end, history);
        }
    }

    /// A part of a job is over, or something of no job.
    fn end(&mut self, now: u64, part: Option<&Part>, end: PartEnd, history: &mut History) {
        match part {
            Some(part) => self.end_part(now, part, end, history),
            None => self.close_unit(now),
        }
    }

    fn close_unit(&mut self, now: u64) {
        self.open -= 1;
        if self.stopped {
            return self.settle_next(now);
        }
        if permille(&mut self.rng, self.options.restarts) {
            self.restart();
        }
        let at = now + exponential(&mut self.rng, self.options.mean_pause);
        self.wake(at, Alarm::Begin);
    }

    /// The process of the client begins anew: it knows the ids that it has used, and nothing else.
    fn restart(&mut self) {
        for exchange in &mut self.exchanges[self.forgotten..] {
            if !exchange.over {
                exchange.over = true;
                self.orphans.extend(exchange.txns());
            }
        }
        self.forgotten = self.exchanges.len();
        self.known_slots.forget();
        self.jobs.clear();
        self.gathers.clear();
        self.known.clear();
        self.open = 0;
        self.sessions = Sessions::new(&mut self.rng, self.options.sessions);
        self.generators = generators(&self.town, &mut self.rng);
        self.routes = Routes::new(self.shape.groups.iter().cloned());
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
        if number < self.forgotten || number >= self.exchanges.len() {
            return Vec::new();
        }
        if let Response::Refused(refused) = response {
            self.on_refused(now, from, correlation, refused, history);
            return Vec::new();
        }
        let sent = self.exchanges[number].copies[(correlation % COPIES) as usize];
        // Any replica answers these.
        let any = matches!(
            self.exchanges[number].ask,
            Ask::Lookup { .. } | Ask::Query { confirmed: false, .. } | Ask::Look { .. }
        );
        if !any {
            self.routes.confirm(self.exchanges[number].group, from);
        }
        match (&self.exchanges[number].ask, response) {
            (Ask::Transfers { transfers, .. }, Response::Transfers(done)) => {
                let (transfers, outcomes) = (transfers.clone(), outcomes(transfers.len(), done));
                self.on_outcomes(now, correlation, &transfers, outcomes, history)
            }
            (Ask::Transfers { level: Some(_), kind, .. }, Response::Written(done)) if !kind.is_coordinated() => {
                self.on_written(now, correlation, done, history)
            }
            (Ask::Position { .. }, Response::Position(done)) => {
                self.on_position(now, number, done, history);
                Vec::new()
            }
            (Ask::Look { .. }, Response::ReplicaRead(done)) => {
                self.on_look(now, number, done, history);
                Vec::new()
            }
            (Ask::Create { record, .. }, Response::Created(done)) => {
                history.creations[*record].answers.push((now, done.results.clone()));
                self.close(now, number, PartEnd::Created(done.results.clone()), history);
                Vec::new()
            }
            (Ask::Register { identity, .. }, Response::Registered(session)) => {
                self.on_registered(now, number, *identity, *session, history);
                Vec::new()
            }
            (Ask::Read { account }, Response::Read(done)) => {
                let read = ReadRecord { account: *account, invoked: sent, completed: now, found: done.account };
                history.reads.push(read);
                self.close(now, number, PartEnd::Read(done.account), history);
                Vec::new()
            }
            (Ask::Transaction { txn, transaction, .. }, Response::Transaction(done)) => {
                let (txn, operations) = (*txn, transaction.operations.clone());
                if !self.on_transaction(now, txn, &operations, done, history) {
                    self.retry_soon(now, correlation, Span(0), 30_000);
                    return Vec::new();
                }
                self.close(now, number, PartEnd::Unknown, history);
                match done.result {
                    TransferResult::Done(outcome) => vec![(txn, outcome)],
                    _ => Vec::new(),
                }
            }
            (Ask::Query { operations, .. }, Response::Queried(done))
                if done.found.as_ref().is_none_or(|found| found.len() == operations.len()) =>
            {
                self.close(now, number, PartEnd::Queried(done.found.clone()), history);
                Vec::new()
            }
            (Ask::Fence { txn }, Response::Settled(done)) => {
                let (txn, outcome) = (*txn, done.outcome);
                outcome.map_or_else(Vec::new, |outcome| self.on_settled(now, number, txn, outcome, history))
            }
            (Ask::Lookup { txn }, Response::Settled(done)) => {
                let (txn, outcome) = (*txn, done.outcome);
                history.lookups.push(LookupRecord { txn, invoked: sent, completed: now, outcome });
                match outcome {
                    Some(outcome) => self.on_settled(now, number, txn, outcome, history),
                    None => {
                        self.close(now, number, PartEnd::Unknown, history);
                        Vec::new()
                    }
                }
            }
            (Ask::Later { lost, index, .. }, response) => {
                history.lost_sessions[*lost].later[*index].answers.push((now, response.clone()));
                self.close(now, number, PartEnd::Unknown, history);
                Vec::new()
            }
            (Ask::Bad { record, .. }, response) => {
                history.bad[*record].answers.push((now, response.clone()));
                self.close(now, number, PartEnd::Unknown, history);
                Vec::new()
            }
            (ask, response) => {
                history.surprises.push(format!("{ask:?} was answered {response:?}"));
                Vec::new()
            }
        }
    }

    fn on_outcomes(
        &mut self,
        now: u64,
        correlation: u64,
        transfers: &[Transfer],
        outcomes: Vec<Option<Outcome>>,
        history: &mut History,
    ) -> Vec<(TxnId, Outcome)> {
        let mut settled = Vec::new();
        for (transfer, outcome) in transfers.iter().zip(&outcomes) {
            let Some(outcome) = *outcome else { continue };
            let txn = TxnId::from(transfer);
            if history.is_sole(transfer) {
                self.orphans.remove(&txn);
                settled.push((txn, outcome));
            } else {
                history.answer_rival(now, transfer, outcome);
            }
        }
        let exchange = &mut self.exchanges[(correlation / COPIES) as usize];
        // What has no job is never narrowed, and a batch may be larger than what finds a place at a time.
        let before = if exchange.part.is_none() { exchange.known.clone() } else { Vec::new() };
        let before = before.into_iter().chain(std::iter::repeat(None));
        let outcomes: Vec<Option<Outcome>> = outcomes.into_iter().zip(before).map(|(new, old)| new.or(old)).collect();
        exchange.known.clone_from(&outcomes);
        let over = exchange.over;
        if outcomes.iter().all(Option::is_some) {
            let exchange = &self.exchanges[(correlation / COPIES) as usize];
            let covered = matches!(&exchange.ask, Ask::Transfers { kind, level: Some(_), .. } if kind.is_coordinated());
            if covered && !over && !self.stopped {
                self.ask_positions(now, transfers, &outcomes, history);
            }
            self.close(now, (correlation / COPIES) as usize, PartEnd::Transfers(outcomes), history);
        } else {
            self.retry_soon(now, correlation, Span(0), 30_000);
        }
        settled
    }

    fn on_settled(
        &mut self,
        now: u64,
        number: usize,
        txn: TxnId,
        outcome: Outcome,
        history: &mut History,
    ) -> Vec<(TxnId, Outcome)> {
        self.orphans.remove(&txn);
        history.settle_contest(now, txn, outcome);
        history.settle_transaction(now, txn, outcome);
        self.close(now, number, PartEnd::Unknown, history);
        vec![(txn, outcome)]
    }

    fn on_registered(
        &mut self,
        now: u64,
        number: usize,
        identity: usize,
        session: drachma_protocol::ids::Session,
        history: &mut History,
    ) {
        let group = self.exchanges[number].group;
        if self.exchanges[number].over {
            return;
        }
        self.close(now, number, PartEnd::Unknown, history);
        for pending in self.sessions.registered(identity, group, session) {
            self.create(now, pending, history);
        }
        // The identity may have become another one meanwhile.
        if self.sessions.pending.iter().any(|pending| (pending.identity, pending.group) == (identity, group)) {
            self.register(now, identity, group);
        }
    }

    fn on_refused(&mut self, now: u64, from: NodeId, correlation: u64, refused: &Refused, history: &mut History) {
        *history.refusals.entry(refused.why).or_default() += 1;
        let number = (correlation / COPIES) as usize;
        let exchange = &self.exchanges[number];
        let (group, session) = (exchange.group, exchange.session());
        let pause = if matches!(exchange.ask, Ask::Register { .. }) { SESSION_PAUSE } else { 10_000 };
        match refused.why {
            Why::NotLeader | Why::NoQuorum | Why::WrongNode => {
                self.routes.redirect(group, from, refused.leader, refused.why == Why::NoQuorum);
                return self.retry_soon(now, correlation, refused.after, 10_000);
            }
            Why::Overloaded | Why::Expired => return self.retry_soon(now, correlation, refused.after, pause),
            Why::Lagging => return self.on_lagging(now, correlation, history),
            Why::UnknownSession | Why::SessionWindow | Why::Malformed | Why::Moved | Why::Level => {}
        }
        match (&exchange.ask, refused.why) {
            (Ask::Later { lost, index, .. }, _) => {
                let answers = &mut history.lost_sessions[*lost].later[*index].answers;
                answers.push((now, Response::Refused(refused.clone())));
            }
            (Ask::Bad { record, .. }, _) => {
                history.bad[*record].answers.push((now, Response::Refused(refused.clone())));
            }
            (_, Why::UnknownSession) if session.is_some() => {
                session.into_iter().for_each(|session| self.lose(now, group, session, history));
            }
            (Ask::Create { .. }, Why::SessionWindow) => {}
            (ask, why) => history.surprises.push(format!("{ask:?} was refused: {why:?}")),
        }
        self.close(now, number, PartEnd::Unknown, history);
    }

    /// A group does not know a session: what is under way under it is of unknown fate (hazard S17).
    fn lose(&mut self, now: u64, group: GroupId, session: drachma_protocol::ids::Session, history: &mut History) {
        let known = |lost: &LostSession| (lost.group, lost.session) == (group, session);
        if !history.lost_sessions.iter().any(known) {
            history.lost_sessions.push(LostSession { group, session, since: now, later: Vec::new() });
        }
        self.sessions.lose(&mut self.rng, session);
        for number in self.forgotten..self.exchanges.len() {
            let exchange = &self.exchanges[number];
            if !exchange.over && exchange.group == group && exchange.session() == Some(session) {
                self.give_up(now, number, history);
            }
        }
    }

    /// Tries again after a short while, if the refused copy was the last.
    fn retry_soon(&mut self, now: u64, correlation: u64, after: Span, pause: u64) {
        if self.exchanges[(correlation / COPIES) as usize].over || !self.is_last(correlation) {
            return;
        }
        let at = now + after.0.max(exponential(&mut self.rng, pause)) + 1;
        self.wake(at, Alarm::Refused(correlation));
    }
}

fn generators(town: &Town, rng: &mut Rng) -> [Box<dyn Workload>; 2] {
    [Box::new(Bank::new(town.bank.clone(), rng.next_u64())), Box::new(Ledger::new(town.ledger.clone(), rng.next_u64()))]
}

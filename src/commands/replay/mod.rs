//! The log as transaction records: entries are applied again here, to know outcomes, new balances and new values.

mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use drachma_protocol::ids::{AccountId, Attempt, CommandRef, GroupId, Slot, TxnId};
use drachma_protocol::ledger::model::{Account, Balance, ItemResult, Outcome, Reason, Transfer, TransferResult};
use drachma_protocol::ledger::operations::{Action, Key, Operation, Reply, Swap, Swapped, Transaction, Value};
use drachma_protocol::ledger::output::{ClientOutput, CommandResult, Output, TransactionResult, TxnOutput};
use drachma_protocol::ledger::{Genesis, Ledger};
use drachma_protocol::message::command::{Command, CommandKind, Content, Entry, Resolve, Verdict};
use drachma_protocol::wire::codec::from_slice;

use super::text;

pub use rest::Rest;

/// One record of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogRecord {
    /// The entry that it comes from.
    pub slot: Slot,
    /// The transaction.
    pub txn: TxnId,
    /// What happened.
    pub event: Event,
}

/// What happens to a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// It has arrived.
    Start,
    /// It has changed an account's balance to this.
    Update(AccountId, Balance),
    /// It has set a key to this; nothing: it has removed it.
    Set(Key, Option<Value>),
    /// It has taken effect.
    Commit,
    /// It has not: for ever, with a reason, or in this try.
    Abort(Option<Reason>),
}

impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.txn.id;
        match &self.event {
            Event::Start => write!(f, "<{id}, Start>"),
            Event::Update(account, balance) => write!(f, "<{id}, Update, {account}, {balance}>"),
            Event::Set(key, value) => {
                let value =
                    value.as_ref().map_or_else(|| text::ABSENT.to_owned(), |value| text::brief(value.as_bytes()));
                write!(f, "<{id}, Update, {}, {value}>", text::shown(key.as_bytes()))
            }
            Event::Commit => write!(f, "<{id}, Commit>"),
            Event::Abort(_) => write!(f, "<{id}, Abort>"),
        }
    }
}

/// A group's log, applied entry by entry.
pub struct Replay {
    genesis: Genesis,
    ledger: Ledger,
    accounts: BTreeMap<AccountId, Account>,
    keys: BTreeMap<Key, Value>,
    // The pending transfers: a posting says only which.
    pendings: BTreeMap<TxnId, Transfer>,
    // Started and not ended.
    open: BTreeMap<TxnId, Action>,
    // Prepares that have no vote yet.
    prepared: BTreeMap<(TxnId, Attempt), Action>,
    // Commands of which some part waits.
    waiting: BTreeMap<CommandRef, Vec<Action>>,
}

/// One entry while it is told.
struct Telling<'a> {
    slot: Slot,
    commands: &'a [Command],
    /// Items of batches that waited and have come to their end in this very entry.
    late: BTreeSet<(CommandRef, u32)>,
    /// The transactions that need no record any more.
    seen: BTreeSet<TxnId>,
    list: Vec<LogRecord>,
}

impl Telling<'_> {
    fn push(&mut self, txn: TxnId, event: Event) {
        self.list.push(LogRecord { slot: self.slot, txn, event });
    }

    fn resolve(&self, txn: TxnId, attempt: Attempt) -> Option<&Resolve> {
        self.commands.iter().find_map(|command| match command {
            Command::Resolve(resolve) if (resolve.txn, resolve.attempt) == (txn, attempt) => Some(resolve),
            _ => None,
        })
    }
}

/// What the keys of swaps held in other groups, by the place of the operation.
type Elsewhere = BTreeMap<usize, Swapped>;

impl Replay {
    /// The state before the first entry.
    pub fn new(genesis: Genesis) -> Replay {
        let ledger = Ledger::new(0, &genesis);
        Replay {
            genesis,
            ledger,
            accounts: BTreeMap::new(),
            keys: BTreeMap::new(),
            pendings: BTreeMap::new(),
            open: BTreeMap::new(),
            prepared: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// The next slot.
    pub fn next(&self) -> Slot {
        self.ledger.applied()
    }

    /// Applies the entry of the next slot and gives its records.
    ///
    /// # Errors
    /// If it is no entry.
    pub fn apply(&mut self, entry: &[u8]) -> Result<Vec<LogRecord>, String> {
        let slot = self.next();
        let decoded: Entry = from_slice(entry).map_err(|error| format!("slot {slot} is no entry: {error}"))?;
        let commands = match decoded.content {
            Content::LeaderStart(_) => Vec::new(),
            Content::Commands(commands) => commands,
        };
        let seen = commands.iter().flat_map(|command| self.starts(command)).filter(|t| self.is_settled(*t)).collect();
        for command in &commands {
            if let Command::Prepare(prepare) = command {
                self.prepared.insert((prepare.txn, prepare.attempt), prepare.action.clone());
            }
        }
        let outputs = self.step(slot, entry);
        let late = outputs.iter().filter_map(|output| match output {
            Output::Client(ClientOutput { command, result: CommandResult::Late(item) }) => Some((*command, item.index)),
            _ => None,
        });
        let mut telling = Telling { slot, commands: &commands, late: late.collect(), seen, list: Vec::new() };
        // In the order in which they were yielded: values depend on it.
        for output in outputs {
            match output {
                Output::Client(output) => self.client(output, &mut telling),
                Output::Txn(output) => self.txn(output, &mut telling),
                Output::Read(..) | Output::ReadExpired(_) => {}
            }
        }
        self.begin_what_waits(&mut telling);
        let (open, map) = (&self.open, &self.genesis.map);
        self.waiting.retain(|_, actions| actions.iter().any(|action| open.contains_key(&action.txn(map))));
        Ok(telling.list)
    }

    fn is_settled(&self, txn: TxnId) -> bool {
        self.ledger.outcome(txn).is_some()
    }

    fn step(&mut self, slot: Slot, entry: &[u8]) -> Vec<Output> {
        const BUDGET: usize = 512;
        let mut outputs = Vec::new();
        self.ledger.begin(slot, entry);
        while !self.ledger.apply(BUDGET, &mut outputs) {}
        outputs
    }

    /// What a client's command of this entry, or an earlier one that waited, asks for.
    fn asked(&self, at: CommandRef, telling: &Telling<'_>) -> Vec<Action> {
        if at.slot != telling.slot {
            return self.waiting.get(&at).cloned().unwrap_or_default();
        }
        telling.commands.get(at.index as usize).map(actions).unwrap_or_default()
    }

    fn client(&mut self, ClientOutput { command, result }: ClientOutput, telling: &mut Telling<'_>) {
        match result {
            CommandResult::Transfers { items, waiting } => {
                let batch = self.asked(command, telling);
                self.batch(command, &batch, &items, waiting > 0, telling);
                if waiting > 0 {
                    self.waiting.insert(command, batch);
                }
            }
            CommandResult::Late(item) => {
                let Some(action) = self.asked(command, telling).into_iter().nth(item.index as usize) else { return };
                self.end(action.txn(&self.genesis.map), ending(item.result), &Elsewhere::new(), telling);
            }
            CommandResult::Transaction(result) => {
                if let Some(action) = self.asked(command, telling).into_iter().next() {
                    self.transaction(action, &result, telling);
                }
            }
            CommandResult::Settled(Outcome::Rejected(Reason::Fenced)) => {
                let Some(Command::Fence(fence)) = telling.commands.get(command.index as usize) else { return };
                let txn = fence.txn;
                if telling.seen.insert(txn) {
                    self.open.remove(&txn);
                    telling.push(txn, Event::Abort(Some(Reason::Fenced)));
                }
            }
            _ => {}
        }
    }

    fn txn(&mut self, output: TxnOutput, telling: &mut Telling<'_>) {
        match output {
            TxnOutput::Begun { txn, attempt } => {
                let begun = telling.commands.iter().find_map(|command| match command {
                    Command::Begin(begin) if (begin.txn, begin.attempt) == (txn, attempt) => Some(begin.action.clone()),
                    _ => None,
                });
                if let Some(action) = begun {
                    self.begin(txn, action, telling);
                }
            }
            TxnOutput::Voted { txn, attempt, .. } => {
                if let Some(action) = self.prepared.remove(&(txn, attempt)) {
                    self.begin(txn, action, telling);
                }
            }
            TxnOutput::Decided { txn, verdict, replies, .. } => {
                let swapped = replies.into_iter().enumerate().filter_map(|(place, reply)| swapped(place, reply));
                self.end(txn, Some(verdict), &swapped.collect(), telling);
            }
            TxnOutput::Resolved { txn, attempt, .. } => {
                let Some(resolve) = telling.resolve(txn, attempt) else { return };
                let values = resolve.values.iter();
                let swapped = values.filter_map(|value| swapped(value.operation as usize, value.reply.clone()));
                let (verdict, swapped) = (resolve.verdict, swapped.collect());
                self.end(txn, Some(verdict), &swapped, telling);
            }
            TxnOutput::Void { .. } | TxnOutput::Known { .. } | TxnOutput::Due(_) => {}
        }
    }

    fn batch(
        &mut self,
        at: CommandRef,
        batch: &[Action],
        items: &[ItemResult],
        some_wait: bool,
        telling: &mut Telling<'_>,
    ) {
        let told: BTreeMap<u32, &ItemResult> = items.iter().map(|item| (item.index, item)).collect();
        for (index, action) in (0..).zip(batch) {
            let txn = action.txn(&self.genesis.map);
            let item = told.get(&index);
            let nothing_new = item.is_some_and(|item| is_nothing_new(item.result, item.replayed));
            if nothing_new || self.open.contains_key(&txn) || !telling.seen.insert(txn) {
                continue;
            }
            self.begin_unseen(txn, action.clone(), telling);
            let not_yet = telling.late.contains(&(at, index)) || !self.is_settled(txn);
            let waits = some_wait && item.is_none() && not_yet;
            if !waits {
                let result = item.map_or(TransferResult::Done(Outcome::Committed), |item| item.result);
                self.end(txn, ending(result), &Elsewhere::new(), telling);
            }
        }
    }

    /// A transaction of this group alone has come to its end.
    fn transaction(&mut self, action: Action, result: &TransactionResult, telling: &mut Telling<'_>) {
        let txn = action.txn(&self.genesis.map);
        if !self.open.contains_key(&txn) {
            if is_nothing_new(result.result, result.replayed) || !telling.seen.insert(txn) {
                return;
            }
            self.begin_unseen(txn, action, telling);
        }
        self.end(txn, ending(result.result), &Elsewhere::new(), telling);
    }

    /// Transactions of this group alone that have come and not to their end.
    fn begin_what_waits(&mut self, telling: &mut Telling<'_>) {
        for (index, command) in (0..).zip(telling.commands) {
            let at = CommandRef { slot: telling.slot, index };
            let waits = |action: &Action| self.ledger.is_under_way(action.txn(&self.genesis.map));
            if let Some(action) = actions(command).into_iter().find(|action| is_transaction(command) && waits(action)) {
                self.waiting.insert(at, vec![action.clone()]);
                self.begin(action.txn(&self.genesis.map), action, telling);
            }
        }
    }

    fn begin(&mut self, txn: TxnId, action: Action, telling: &mut Telling<'_>) {
        if !self.open.contains_key(&txn) && !telling.seen.contains(&txn) {
            self.begin_unseen(txn, action, telling);
        }
    }

    fn begin_unseen(&mut self, txn: TxnId, action: Action, telling: &mut Telling<'_>) {
        self.open.insert(txn, action);
        telling.push(txn, Event::Start);
    }

    /// Ends what is open; with nothing as verdict, only its waiting.
    fn end(&mut self, txn: TxnId, verdict: Option<Verdict>, elsewhere: &Elsewhere, telling: &mut Telling<'_>) {
        let Some(action) = self.open.remove(&txn) else { return };
        if matches!(verdict, Some(Verdict::Commit | Verdict::Reject(_))) {
            // All who asked are told; it happened once.
            telling.seen.insert(txn);
        }
        match verdict {
            Some(Verdict::Commit) => {
                match &action {
                    Action::Transfer(transfer) => self.post_all(txn, std::iter::once(transfer), telling),
                    Action::Expire(_) => {} // No balance changes.
                    Action::Transaction(transaction) => {
                        let transfers = self.posted_by(transaction);
                        self.post_all(txn, transfers.iter(), telling);
                        self.write_all(txn, transaction, elsewhere, telling);
                    }
                }
                telling.push(txn, Event::Commit);
            }
            Some(Verdict::Reject(reason)) => telling.push(txn, Event::Abort(Some(reason))),
            Some(Verdict::Abort) | None => telling.push(txn, Event::Abort(None)),
        }
    }

    /// What a transaction posts: its transfers, and what it posts of pending ones.
    fn posted_by(&mut self, transaction: &Transaction) -> Vec<Transfer> {
        let mut transfers = Vec::new();
        for operation in &transaction.operations {
            match operation {
                Operation::Transfer(transfer) => transfers.push(*transfer),
                Operation::Pend(pend) => {
                    self.pendings.insert(TxnId::from(&pend.transfer), pend.transfer);
                }
                Operation::Post(post) => {
                    let pending = self.pendings.get(&TxnId { id: post.pending, first: post.debit });
                    transfers.extend(
                        pending.map(|pending| Transfer { amount: post.amount.unwrap_or(pending.amount), ..*pending }),
                    );
                }
                _ => {}
            }
        }
        transfers
    }

    /// Posts what is of this group, and tells each account's new balance once.
    fn post_all<'a>(&mut self, txn: TxnId, transfers: impl Iterator<Item = &'a Transfer>, telling: &mut Telling<'_>) {
        let mut balances: Vec<(AccountId, Balance)> = Vec::new();
        for transfer in transfers {
            for (account, debit) in [(transfer.debit, true), (transfer.credit, false)] {
                if self.genesis.map.owner_of(account) == Some(self.genesis.group) {
                    let balance = self.post(account, transfer.amount, debit);
                    match balances.iter_mut().find(|(known, _)| *known == account) {
                        Some(known) => known.1 = balance,
                        None => balances.push((account, balance)),
                    }
                }
            }
        }
        balances.into_iter().for_each(|(account, balance)| telling.push(txn, Event::Update(account, balance)));
    }

    fn post(&mut self, id: AccountId, amount: u128, debit: bool) -> Balance {
        let made = (1..=u128::from(self.genesis.accounts)).contains(&id.0);
        let opening = if made { self.genesis.initial_balance } else { 0 };
        let account = self.accounts.entry(id).or_insert(Account { id, credits_posted: opening, ..Account::default() });
        let total = if debit { &mut account.debits_posted } else { &mut account.credits_posted };
        // What is posted was checked; a wrong balance on the screen is better than none.
        *total = total.saturating_add(amount);
        account.balance()
    }

    /// Writes the keys of this group, and tells each one's new value once.
    fn write_all(&mut self, txn: TxnId, transaction: &Transaction, elsewhere: &Elsewhere, telling: &mut Telling<'_>) {
        let mut written: Vec<&Key> = Vec::new();
        for (place, operation) in transaction.operations.iter().enumerate() {
            let held = |key: &Key| self.keys.get(key).cloned();
            let values: Vec<(&Key, Option<Value>)> = match operation {
                Operation::Put(put) => vec![(&put.key, Some(put.value.clone()))],
                Operation::Delete(key) => vec![(key, None)],
                Operation::Append(put) => {
                    let before = held(&put.key).unwrap_or_default();
                    vec![(&put.key, Value::new([before.as_bytes(), put.value.as_bytes()].concat()))]
                }
                Operation::Add(add) => {
                    let before = held(&add.key).and_then(|value| value.number()).unwrap_or_default();
                    vec![(&add.key, Some(before.saturating_add(add.delta).into()))]
                }
                Operation::Swap(Swap { left, right }) => {
                    let there = elsewhere.get(&place).cloned().unwrap_or_default();
                    let side = |key, there| if self.owns(key) { held(key) } else { there };
                    vec![(left, side(right, there.right)), (right, side(left, there.left))]
                }
                Operation::Transfer(_) | Operation::Get(_) | Operation::Scan(_) | Operation::Read(_) => Vec::new(),
                Operation::Pend(_) | Operation::Post(_) | Operation::Void(_) => Vec::new(),
                Operation::Close(_) | Operation::Open(_) | Operation::List(_) => Vec::new(),
            };
            for (key, value) in values {
                if !self.owns(key) {
                    continue;
                }
                match value {
                    Some(value) => self.keys.insert(key.clone(), value),
                    None => self.keys.remove(key),
                };
                if !written.contains(&key) {
                    written.push(key);
                }
            }
        }
        for key in written {
            telling.push(txn, Event::Set(key.clone(), self.keys.get(key).cloned()));
        }
    }

    fn owns(&self, key: &Key) -> bool {
        self.genesis.map.owner_of_key(key) == self.genesis.group
    }

    /// The transactions that a command may start.
    fn starts(&self, command: &Command) -> Vec<TxnId> {
        match command {
            Command::Begin(begin) => vec![begin.txn],
            Command::Prepare(prepare) => vec![prepare.txn],
            Command::Fence(fence) => vec![fence.txn],
            command => actions(command).iter().map(|action| action.txn(&self.genesis.map)).collect(),
        }
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.genesis.group
    }
}

/// What a client's command asks for.
fn actions(command: &Command) -> Vec<Action> {
    let Command::Client(client) = command else { return Vec::new() };
    match client.kind {
        CommandKind::Transfers => from_slice::<Vec<Transfer>>(&client.body)
            .map_or(Vec::new(), |batch| batch.into_iter().map(Action::from).collect()),
        CommandKind::Transaction => {
            from_slice::<Transaction>(&client.body).map_or(Vec::new(), |transaction| vec![Action::from(transaction)])
        }
        _ => Vec::new(),
    }
}

fn is_transaction(command: &Command) -> bool {
    matches!(command, Command::Client(client) if client.kind == CommandKind::Transaction)
}

fn swapped(place: usize, reply: Reply) -> Option<(usize, Swapped)> {
    match reply {
        Reply::Swapped(swapped) => Some((place, swapped)),
        _ => None,
    }
}

fn is_nothing_new(result: TransferResult, replayed: bool) -> bool {
    match result {
        TransferResult::Done(outcome) => replayed || outcome == Outcome::Rejected(Reason::IdConflict),
        _ => true,
    }
}

fn ending(result: TransferResult) -> Option<Verdict> {
    match result {
        TransferResult::Done(Outcome::Committed) => Some(Verdict::Commit),
        TransferResult::Done(Outcome::Rejected(reason)) => Some(Verdict::Reject(reason)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

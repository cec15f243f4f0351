//! The log as transaction records: entries are applied again here, to know outcomes and new balances.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use drachma_protocol::ids::{AccountId, Attempt, CommandRef, GroupId, Slot, TxnId};
use drachma_protocol::ledger::model::{Account, Balance, ItemResult, Outcome, Reason, Transfer, TransferResult};
use drachma_protocol::ledger::output::{ClientOutput, CommandResult, Output, TxnOutput};
use drachma_protocol::ledger::{Genesis, Ledger};
use drachma_protocol::message::command::{Command, CommandKind, Content, Entry, Verdict};
use drachma_protocol::wire::codec::from_slice;

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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// It has arrived.
    Start,
    /// It has changed an account's balance to this.
    Update(AccountId, Balance),
    /// It has taken effect.
    Commit,
    /// It has not: for ever, with a reason, or in this try.
    Abort(Option<Reason>),
}

impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.txn.id;
        match self.event {
            Event::Start => write!(f, "<{id}, Start>"),
            Event::Update(account, balance) => write!(f, "<{id}, Update, {account}, {balance}>"),
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
    // Started and not ended.
    open: BTreeMap<TxnId, Transfer>,
    // Batches of which some transfer waits.
    waiting: BTreeMap<CommandRef, Vec<Transfer>>,
}

/// What applying one entry yielded, by command.
#[derive(Default)]
struct Yield {
    batches: BTreeMap<CommandRef, (Vec<ItemResult>, u32)>,
    late: Vec<(CommandRef, ItemResult)>,
    begun: BTreeSet<(TxnId, Attempt)>,
    voted: BTreeSet<(TxnId, Attempt)>,
    decided: BTreeMap<(TxnId, Attempt), Verdict>,
    resolved: BTreeSet<(TxnId, Attempt)>,
    fenced: BTreeSet<CommandRef>,
}

impl Replay {
    /// The state before the first entry.
    pub fn new(genesis: Genesis) -> Replay {
        let ledger = Ledger::new(0, &genesis);
        Replay { genesis, ledger, accounts: BTreeMap::new(), open: BTreeMap::new(), waiting: BTreeMap::new() }
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
        let settled: BTreeSet<TxnId> = commands.iter().flat_map(transactions).filter(|t| self.is_settled(*t)).collect();
        let yielded = self.step(slot, entry);
        let mut records = Records { slot, seen: settled, list: Vec::new() };
        for (index, command) in (0..).zip(&commands) {
            self.command(CommandRef { slot, index }, command, &yielded, &mut records);
        }
        for (command, item) in &yielded.late {
            let transfer = self.waiting.get(command).and_then(|batch| batch.get(item.index as usize)).copied();
            let Some(transfer) = transfer else { continue };
            self.end(TxnId::from(&transfer), ending(item.result), &mut records);
        }
        self.waiting.retain(|_, batch| batch.iter().any(|transfer| self.open.contains_key(&TxnId::from(transfer))));
        Ok(records.list)
    }

    fn is_settled(&self, txn: TxnId) -> bool {
        self.ledger.outcome(txn).is_some()
    }

    fn step(&mut self, slot: Slot, entry: &[u8]) -> Yield {
        const BUDGET: usize = 512;
        let mut outputs = Vec::new();
        self.ledger.begin(slot, entry);
        while !self.ledger.apply(BUDGET, &mut outputs) {}
        Yield::new(outputs)
    }

    fn command(&mut self, at: CommandRef, command: &Command, yielded: &Yield, records: &mut Records) {
        match command {
            Command::Client(client) if client.kind == CommandKind::Transfers => {
                let Ok(batch) = from_slice::<Vec<Transfer>>(&client.body) else { return };
                if let Some((items, waiting)) = yielded.batches.get(&at) {
                    self.batch(&batch, items, *waiting > 0, records);
                    if *waiting > 0 {
                        self.waiting.insert(at, batch);
                    }
                }
            }
            Command::Begin(begin) if yielded.begun.contains(&(begin.txn, begin.attempt)) => {
                self.begin(begin.txn, begin.transfer, records);
            }
            Command::Prepare(prepare) if yielded.voted.contains(&(prepare.txn, prepare.attempt)) => {
                self.begin(prepare.txn, prepare.transfer, records);
            }
            Command::Decide(decide) => {
                if let Some(verdict) = yielded.decided.get(&(decide.txn, decide.attempt)) {
                    self.end(decide.txn, Some(*verdict), records);
                }
            }
            Command::Resolve(resolve) if yielded.resolved.contains(&(resolve.txn, resolve.attempt)) => {
                self.end(resolve.txn, Some(resolve.verdict), records);
            }
            Command::Fence(fence) if yielded.fenced.contains(&at) && records.seen.insert(fence.txn) => {
                self.open.remove(&fence.txn);
                records.push(fence.txn, Event::Abort(Some(Reason::Fenced)));
            }
            _ => {}
        }
    }

    fn batch(&mut self, batch: &[Transfer], items: &[ItemResult], some_wait: bool, records: &mut Records) {
        let told: BTreeMap<u32, &ItemResult> = items.iter().map(|item| (item.index, item)).collect();
        for (index, transfer) in (0..).zip(batch) {
            let txn = TxnId::from(transfer);
            let item = told.get(&index);
            let nothing_new = item.is_some_and(|item| match item.result {
                TransferResult::Done(outcome) => item.replayed || outcome == Outcome::Rejected(Reason::IdConflict),
                _ => true,
            });
            if nothing_new || self.open.contains_key(&txn) || !records.seen.insert(txn) {
                continue;
            }
            self.begin_unseen(txn, *transfer, records);
            let waits = some_wait && item.is_none() && self.ledger.outcome(txn).is_none();
            if !waits {
                let result = item.map_or(TransferResult::Done(Outcome::Committed), |item| item.result);
                self.end(txn, ending(result), records);
            }
        }
    }

    fn begin(&mut self, txn: TxnId, transfer: Transfer, records: &mut Records) {
        if self.open.contains_key(&txn) || records.seen.contains(&txn) {
            return;
        }
        self.begin_unseen(txn, transfer, records);
    }

    fn begin_unseen(&mut self, txn: TxnId, transfer: Transfer, records: &mut Records) {
        self.open.insert(txn, transfer);
        records.push(txn, Event::Start);
    }

    /// Ends what is open; with nothing as verdict, only its waiting.
    fn end(&mut self, txn: TxnId, verdict: Option<Verdict>, records: &mut Records) {
        let Some(transfer) = self.open.remove(&txn) else { return };
        match verdict {
            Some(Verdict::Commit) => {
                let sides = [(transfer.debit, true), (transfer.credit, false)];
                for (account, debit) in sides {
                    if self.genesis.map.owner_of(account) == Some(self.genesis.group) {
                        let balance = self.post(account, transfer.amount, debit);
                        records.push(txn, Event::Update(account, balance));
                    }
                }
                records.push(txn, Event::Commit);
            }
            Some(Verdict::Reject(reason)) => records.push(txn, Event::Abort(Some(reason))),
            Some(Verdict::Abort) | None => records.push(txn, Event::Abort(None)),
        }
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

    /// The group.
    pub fn group(&self) -> GroupId {
        self.genesis.group
    }
}

/// The records of one entry, and the transactions that need none any more.
struct Records {
    slot: Slot,
    seen: BTreeSet<TxnId>,
    list: Vec<LogRecord>,
}

impl Records {
    fn push(&mut self, txn: TxnId, event: Event) {
        self.list.push(LogRecord { slot: self.slot, txn, event });
    }
}

impl Yield {
    fn new(outputs: Vec<Output>) -> Yield {
        let mut yielded = Yield::default();
        for output in outputs {
            match output {
                Output::Client(output) => yielded.client(output),
                Output::Txn(output) => yielded.txn(&output),
                Output::Read(..) | Output::ReadExpired(_) => {}
            }
        }
        yielded
    }

    fn client(&mut self, ClientOutput { command, result }: ClientOutput) {
        match result {
            CommandResult::Transfers { items, waiting } => {
                self.batches.insert(command, (items, waiting));
            }
            CommandResult::Late(item) => self.late.push((command, item)),
            CommandResult::Settled(Outcome::Rejected(Reason::Fenced)) => {
                self.fenced.insert(command);
            }
            _ => {}
        }
    }

    fn txn(&mut self, output: &TxnOutput) {
        match output {
            TxnOutput::Begun { txn, attempt } => {
                self.begun.insert((*txn, *attempt));
            }
            TxnOutput::Voted { txn, attempt, .. } => {
                self.voted.insert((*txn, *attempt));
            }
            TxnOutput::Decided { txn, attempt, verdict } => {
                self.decided.insert((*txn, *attempt), *verdict);
            }
            TxnOutput::Resolved { txn, attempt, .. } => {
                self.resolved.insert((*txn, *attempt));
            }
            TxnOutput::Void { .. } | TxnOutput::Known { .. } => {}
        }
    }
}

/// The transactions that a command may start.
fn transactions(command: &Command) -> Vec<TxnId> {
    match command {
        Command::Client(client) if client.kind == CommandKind::Transfers => from_slice::<Vec<Transfer>>(&client.body)
            .map_or(Vec::new(), |batch| batch.iter().map(TxnId::from).collect()),
        Command::Begin(begin) => vec![begin.txn],
        Command::Prepare(prepare) => vec![prepare.txn],
        Command::Fence(fence) => vec![fence.txn],
        _ => Vec::new(),
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
mod tests {
    use super::*;
    use bytes::Bytes;
    use drachma_protocol::ids::{Age, Ballot, NodeId, ReplicaId, Session, SessionId, TransferId};
    use drachma_protocol::message::command::{
        Begin, ClientCommand, Decide, FORMAT, Fence, LeaderStart, Member, Prepare, Resolve,
    };
    use drachma_protocol::time::{LogTime, Span};
    use drachma_protocol::wire::codec::to_vec;

    use crate::settings::Settings;

    const BALLOT: Ballot = Ballot { round: 1, replica: ReplicaId(1) };
    const ATTEMPT: Attempt = Attempt { ballot: BALLOT, number: 1 };

    fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
        let (id, debit, credit) = (TransferId(id), AccountId(debit), AccountId(credit));
        Transfer { id, debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
    }

    /// The log of a group of the sample, from its first leader and one session on.
    fn log(group: u16) -> Replay {
        let mut replay = Replay::new(Settings::sample().genesis(GroupId(group)));
        let member = |n| Member { replica: ReplicaId(n), node: NodeId(n as u16), directory: Default::default() };
        let start = LeaderStart { ballot: BALLOT, members: Some((1..=3).map(member).collect()) };
        assert_eq!(replay.apply(&entry(Content::LeaderStart(start))), Ok(vec![]));
        let client = ClientCommand {
            kind: CommandKind::Register,
            session: None,
            sequence: 0,
            body: to_vec(&SessionId(7)).into(),
            ..empty()
        };
        assert_eq!(told(&mut replay, vec![Command::Client(client)]), Vec::<String>::new());
        replay
    }

    fn empty() -> ClientCommand {
        ClientCommand {
            kind: CommandKind::Transfers,
            session: Some(Session { id: SessionId(7), registered: Slot(1) }),
            sequence: 0,
            deadline: Span::from_millis(2000),
            epoch: drachma_protocol::ids::Epoch(1),
            count: 1,
            body: Bytes::new(),
        }
    }

    fn batch(sequence: u64, transfers: &[Transfer]) -> Command {
        let body = to_vec(&transfers.to_vec()).into();
        Command::Client(ClientCommand { sequence, count: transfers.len() as u32, body, ..empty() })
    }

    fn entry(content: Content) -> Vec<u8> {
        to_vec(&Entry { format: FORMAT, time: LogTime(1), wall: 0, content })
    }

    /// The records of one entry, with the ids cut to their last digits.
    fn told(replay: &mut Replay, commands: Vec<Command>) -> Vec<String> {
        let records = replay.apply(&entry(Content::Commands(commands))).unwrap();
        records.iter().map(|record| record.to_string().replace(&"0".repeat(31), "")).collect()
    }

    #[test]
    fn a_batch_is_told_transfer_by_transfer_with_new_balances() {
        let mut replay = log(1);
        let commands = vec![batch(1, &[transfer(1, 5, 6, 4), transfer(2, 5, 6, 7), transfer(3, 5, 6, 6)])];
        let expected = [
            "<1, Start>",
            "<1, Update, 5, 6>",
            "<1, Update, 6, 14>",
            "<1, Commit>",
            "<2, Start>",
            "<2, Abort>",
            "<3, Start>",
            "<3, Update, 5, 0>",
            "<3, Update, 6, 20>",
            "<3, Commit>",
        ];
        assert_eq!(told(&mut replay, commands), expected);
    }

    #[test]
    fn what_is_sent_again_is_told_once() {
        let mut replay = log(1);
        let once = [transfer(1, 5, 6, 4)];
        assert_eq!(told(&mut replay, vec![batch(1, &once), batch(2, &once)]).len(), 4);
        assert_eq!(told(&mut replay, vec![batch(3, &once)]), Vec::<String>::new());
        let other = [transfer(1, 5, 6, 3)];
        assert_eq!(told(&mut replay, vec![batch(4, &other)]), Vec::<String>::new(), "a conflict is no record");
    }

    #[test]
    fn each_group_tells_its_own_side_of_a_transaction() {
        let transfer = transfer(1, 5, 3005, 4);
        let (txn, participants) = (TxnId::from(&transfer), vec![GroupId(1), GroupId(2)]);
        let age = Age { counter: 1, id: transfer.id };
        let deadline = Span::from_millis(2000);
        let mut coordinator = log(1);
        let begin = Begin { txn, attempt: ATTEMPT, age, participants: participants.clone(), transfer, deadline };
        assert_eq!(told(&mut coordinator, vec![Command::Begin(begin)]), ["<1, Start>"]);
        let decide = || vec![Command::Decide(Decide { txn, attempt: ATTEMPT, verdict: Verdict::Commit })];
        assert_eq!(told(&mut coordinator, decide()), ["<1, Update, 5, 6>", "<1, Commit>"]);
        assert_eq!(told(&mut coordinator, decide()), Vec::<String>::new());

        let mut participant = log(2);
        let prepare = Prepare { txn, attempt: ATTEMPT, age, participants, transfer, deadline };
        assert_eq!(told(&mut participant, vec![Command::Prepare(prepare)]), ["<1, Start>"]);
        let resolve = || vec![Command::Resolve(Resolve { txn, attempt: ATTEMPT, verdict: Verdict::Commit })];
        assert_eq!(told(&mut participant, resolve()), ["<1, Update, 3005, 14>", "<1, Commit>"]);
        assert_eq!(told(&mut participant, resolve()), Vec::<String>::new());
    }

    #[test]
    fn a_debit_that_waits_is_ended_by_what_it_waited_for() {
        let out = transfer(1, 5, 3005, 8);
        let txn = TxnId::from(&out);
        let age = Age { counter: 1, id: out.id };
        let participants = vec![GroupId(1), GroupId(2)];
        let deadline = Span::from_millis(2000);
        let mut replay = log(1);
        let begin = Begin { txn, attempt: ATTEMPT, age, participants, transfer: out, deadline };
        assert_eq!(told(&mut replay, vec![Command::Begin(begin)]), ["<1, Start>"]);
        assert_eq!(told(&mut replay, vec![batch(1, &[transfer(2, 5, 6, 7)])]), ["<2, Start>"]);
        let decide = Decide { txn, attempt: ATTEMPT, verdict: Verdict::Abort };
        let expected = ["<1, Abort>", "<2, Update, 5, 3>", "<2, Update, 6, 17>", "<2, Commit>"];
        assert_eq!(told(&mut replay, vec![Command::Decide(decide)]), expected);
    }

    #[test]
    fn a_fence_ends_an_id_that_nobody_has_used() {
        let mut replay = log(1);
        let txn = TxnId { id: TransferId(9), first: AccountId(5) };
        assert_eq!(told(&mut replay, vec![Command::Fence(Fence { txn })]), ["<9, Abort>"]);
        assert_eq!(told(&mut replay, vec![Command::Fence(Fence { txn })]), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        assert!(log(1).apply(b"nonsense").unwrap_err().contains("slot 2 is no entry"));
    }
}

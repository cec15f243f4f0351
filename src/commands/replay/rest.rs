//! What a log tells whose beginning is in a snapshot: it cannot be applied again, so there are no new balances and
//! values, and what became of a transaction of this group alone is asked of the replica.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{Slot, TxnId};
use drachma_protocol::ledger::model::{Outcome, Reason, TransferResult};
use drachma_protocol::message::command::{Command, Content, Entry, Verdict};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::wire::codec::from_slice;

use super::{Event, LogRecord, actions, ending};

/// The rest of a group's log, entry by entry.
pub struct Rest {
    map: ShardMap,
    next: Slot,
    started: BTreeSet<TxnId>,
    ended: BTreeSet<TxnId>,
}

/// One entry.
pub struct Page {
    commands: Vec<Command>,
    /// The transactions of this group alone that it has, each once.
    pub alone: Vec<TxnId>,
}

impl Rest {
    /// The log from `next` on.
    pub fn new(map: ShardMap, next: Slot) -> Rest {
        Rest { map, next, started: BTreeSet::new(), ended: BTreeSet::new() }
    }

    /// The next slot.
    pub fn next(&self) -> Slot {
        self.next
    }

    /// Reads the entry of the next slot.
    ///
    /// # Errors
    /// If it is no entry.
    pub fn read(&self, entry: &[u8]) -> Result<Page, String> {
        let decoded: Entry = from_slice(entry).map_err(|error| format!("slot {} is no entry: {error}", self.next))?;
        let commands = match decoded.content {
            Content::LeaderStart(_) => Vec::new(),
            Content::Commands(commands) => commands,
        };
        let alone: BTreeSet<TxnId> = commands.iter().flat_map(|command| self.alone(command)).collect();
        Ok(Page { commands, alone: alone.into_iter().collect() })
    }

    /// The records of the entry of the next slot. `outcomes` has what the replica knows of those alone in this group.
    pub fn tell(&mut self, page: &Page, outcomes: &BTreeMap<TxnId, Outcome>) -> Vec<LogRecord> {
        let mut records = Vec::new();
        for command in &page.commands {
            match command {
                Command::Begin(begin) => self.start(begin.txn, &mut records),
                Command::Prepare(prepare) => self.start(prepare.txn, &mut records),
                Command::Decide(decide) => self.end(decide.txn, Some(decide.verdict), &mut records),
                Command::Resolve(resolve) => self.end(resolve.txn, Some(resolve.verdict), &mut records),
                command => {
                    for txn in self.alone(command) {
                        let outcome = outcomes.get(&txn);
                        let fenced = outcome == Some(&Outcome::Rejected(Reason::Fenced));
                        if !fenced {
                            self.start(txn, &mut records);
                        }
                        if let Some(outcome) = outcome {
                            self.end(txn, ending(TransferResult::Done(*outcome)), &mut records);
                        }
                    }
                }
            }
        }
        self.next = self.next.next();
        records
    }

    fn alone(&self, command: &Command) -> Vec<TxnId> {
        match command {
            Command::Fence(fence) => vec![fence.txn],
            command => actions(command).iter().map(|action| action.txn(&self.map)).collect(),
        }
    }

    fn start(&mut self, txn: TxnId, records: &mut Vec<LogRecord>) {
        if !self.ended.contains(&txn) && self.started.insert(txn) {
            records.push(LogRecord { slot: self.next, txn, event: Event::Start });
        }
    }

    fn end(&mut self, txn: TxnId, verdict: Option<Verdict>, records: &mut Vec<LogRecord>) {
        if self.ended.contains(&txn) {
            return;
        }
        self.started.remove(&txn);
        let event = match verdict {
            Some(Verdict::Commit) => Event::Commit,
            Some(Verdict::Reject(reason)) => Event::Abort(Some(reason)),
            Some(Verdict::Abort) | None => Event::Abort(None),
        };
        if matches!(verdict, Some(Verdict::Commit | Verdict::Reject(_))) {
            self.ended.insert(txn);
        }
        records.push(LogRecord { slot: self.next, txn, event });
    }
}

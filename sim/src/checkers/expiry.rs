//! Number 9: nothing ends a pending transfer after its time. When one was ended says nothing: who has voted yes in time
//! holds it until the decision comes. What counts is when the debit account's group first looked at the attempt that
//! ended it, and that is known from the group's log.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{Attempt, GroupId, TxnId};
use drachma_protocol::ledger::model::{Outcome, PendingState, PendingTransfer, Sides};
use drachma_protocol::ledger::operations::{Operation, Transaction};
use drachma_protocol::message::command::{Command, CommandKind, Content, Verdict as Decision};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::time::{LogTime, Span};
use drachma_protocol::wire::codec::from_slice;

use super::{Checker, Chosen, End, Verdict};
use crate::faults::Swarm;

/// See the module.
#[derive(Default)]
pub struct Expiry {
    map: Option<ShardMap>,
    times: BTreeMap<GroupId, LogTime>,
    // By the pending transfer: who was to end it, with which attempt if over groups, and the log time at which the debit
    // account's group first saw that.
    tries: BTreeMap<TxnId, BTreeMap<(TxnId, Option<Attempt>), LogTime>>,
    commits: BTreeSet<(TxnId, Attempt)>,
}

impl Expiry {
    fn see(&mut self, group: GroupId, (txn, attempt): (TxnId, Option<Attempt>), transaction: &Transaction) {
        let time = self.times[&group];
        for operation in &transaction.operations {
            let pending = match operation {
                Operation::Post(post) => TxnId { id: post.pending, first: post.debit },
                Operation::Void(void) => TxnId { id: void.pending, first: void.debit },
                _ => continue,
            };
            if self.map.as_ref().is_some_and(|map| map.owner_of(pending.first) == Some(group)) {
                self.tries.entry(pending).or_default().entry((txn, attempt)).or_insert(time);
            }
        }
    }

    /// Whether some attempt that may have ended it was seen in time; nothing if none was seen at all.
    fn in_time(&self, row: &PendingTransfer, took_effect: impl Fn(TxnId) -> bool) -> Option<bool> {
        let over = row.made_at + row.timeout;
        let tries = self.tries.get(&TxnId::from(&row.transfer))?;
        let enders = tries.iter().filter(|((txn, attempt), _)| match attempt {
            Some(attempt) => self.commits.contains(&(*txn, *attempt)),
            None => took_effect(*txn),
        });
        enders.map(|(_, time)| *time < over).reduce(|one, other| one || other)
    }
}

impl Checker for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        self.map = Some(swarm.shape.map.clone());
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        let time = self.times.entry(chosen.group).or_default();
        *time = (*time).max(chosen.entry.time);
        let Content::Commands(commands) = &chosen.entry.content else { return Ok(()) };
        for command in commands {
            match command {
                Command::Client(command) if command.kind == CommandKind::Transaction => {
                    let (Ok(transaction), Some(map)) = (from_slice::<Transaction>(&command.body), &self.map) else {
                        continue;
                    };
                    self.see(chosen.group, (transaction.txn(map), None), &transaction);
                }
                Command::Begin(begin) => {
                    if let Some(transaction) = begin.action.transaction() {
                        self.see(chosen.group, (begin.txn, Some(begin.attempt)), transaction);
                    }
                }
                Command::Prepare(prepare) => {
                    if let Some(transaction) = prepare.action.transaction() {
                        self.see(chosen.group, (prepare.txn, Some(prepare.attempt)), transaction);
                    }
                }
                Command::Decide(decide) if decide.verdict == Decision::Commit => {
                    self.commits.insert((decide.txn, decide.attempt));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let took_effect = |txn: TxnId| {
            let outcome = end.history.vault.get(&txn).and_then(|record| record.outcome());
            outcome.is_some_and(|(_, outcome)| outcome == Outcome::Committed)
        };
        let rows = end.furthest().flat_map(|(_, replica)| &replica.pending);
        let mut ended = rows.filter(|row| {
            let by_somebody = matches!(row.state, PendingState::Posted | PendingState::Voided);
            by_somebody && row.sides != Sides::Credit && row.timeout > Span(0)
        });
        match ended.find(|row| self.in_time(row, took_effect) == Some(false)) {
            None => Ok(()),
            Some(row) => Err(format!("it was ended by what came after its time: {row:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{AccountId, TransferId};
    use drachma_protocol::ledger::model::Transfer;

    use super::*;

    fn row(timeout: u64) -> PendingTransfer {
        let transfer = Transfer { id: TransferId(7), debit: AccountId(1), credit: AccountId(2), ..Transfer::default() };
        let (sides, made_at, ended_at) = (Sides::Both, LogTime(100), LogTime(200));
        let (timeout, state) = (Span(timeout), PendingState::Posted);
        PendingTransfer { transfer, sides, made_at, timeout, state, ended_at, posted: 1 }
    }

    #[test]
    fn what_ends_it_is_seen_before_its_time_is_over() {
        let (row, ender) = (row(30), TxnId { id: TransferId(8), first: AccountId(1) });
        let attempt = |number| Attempt { number, ..Attempt::default() };
        let judged = |tries: &[(Option<Attempt>, u64)], committed: &[Attempt]| {
            let tries = tries.iter().map(|(attempt, time)| ((ender, *attempt), LogTime(*time))).collect();
            let expiry = Expiry {
                tries: BTreeMap::from([(TxnId::from(&row.transfer), tries)]),
                commits: committed.iter().map(|attempt| (ender, *attempt)).collect(),
                ..Expiry::default()
            };
            expiry.in_time(&row, |txn| txn == ender)
        };
        assert_eq!(judged(&[(None, 129)], &[]), Some(true));
        assert_eq!(judged(&[(None, 130)], &[]), Some(false));
        assert_eq!(judged(&[(Some(attempt(1)), 129), (Some(attempt(2)), 131)], &[attempt(2)]), Some(false));
        assert_eq!(judged(&[(Some(attempt(1)), 129), (Some(attempt(2)), 131)], &[attempt(1)]), Some(true));
        assert_eq!(judged(&[(Some(attempt(1)), 131)], &[]), None, "whoever else has ended it");
    }
}

//! Number 9: no group commits what another one aborted. Judged from the chosen entries and from what was posted, as it
//! happens: a participant commits only what its coordinator's group has decided to commit and has posted itself; none
//! lets go of an attempt that is committed before it has posted its part (afterwards an abort may be presumed, without
//! consequence); a commit is decided only when every participant has logged its prepare, is posted by whoever logs it,
//! and is forgotten only when every participant has logged it. And at the end: a transfer between
//! groups is in both or in neither, and in a majority of every group nothing is in doubt, waits, or is still
//! coordinated.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{Attempt, GroupId, Slot, TxnId};
use drachma_protocol::ledger::model::Posted;
use drachma_protocol::ledger::operations::Action;
use drachma_protocol::message::command::{Command, Content, Decide, Resolve, Verdict as Ending};
use drachma_protocol::message::operator::Totals;
use drachma_protocol::table::Table;

use super::pending::is_of_vault;
use super::{Applied, Checker, Chosen, End, Verdict};
use crate::faults::Swarm;
use crate::shape::Shape;

/// See the module.
pub struct Atomicity {
    shape: Option<Shape>,
    tried: BTreeMap<TxnId, BTreeMap<Attempt, Tried>>,
    // What the coordinator's group has posted.
    posted: Table<TxnId, ()>,
    // By group: what participants must have posted by now, with the position of the entry that says so.
    owed: BTreeMap<GroupId, BTreeMap<TxnId, Slot>>,
    // What participants have posted.
    paid: Table<(GroupId, TxnId), ()>,
}

impl Default for Atomicity {
    fn default() -> Atomicity {
        // All ids of a run, asked for at every posting of every replica: nobody needs their order.
        let (posted, paid) = (Table::new(0, 1), Table::new(0, 1));
        Atomicity { shape: None, tried: BTreeMap::new(), posted, owed: BTreeMap::new(), paid }
    }
}

/// What the logs say of one attempt.
#[derive(Default)]
struct Tried {
    participants: Vec<GroupId>,
    // It moves money, so that who takes part posts it.
    posts: bool,
    // The first decision in the log of the coordinator's group: it stands, unless the id was settled before.
    decision: Option<Ending>,
    prepared: BTreeSet<GroupId>,
    committed: BTreeSet<GroupId>,
    // Who let go without having committed.
    released: BTreeSet<GroupId>,
}

impl Atomicity {
    fn coordinator(&self, txn: TxnId) -> Option<GroupId> {
        self.shape.as_ref().and_then(|shape| shape.map.owner_of(txn.first))
    }

    fn tried(&mut self, txn: TxnId, attempt: Attempt) -> &mut Tried {
        self.tried.entry(txn).or_default().entry(attempt).or_default()
    }

    fn log(&mut self, group: GroupId, slot: Slot, command: &Command) -> Verdict {
        match command {
            Command::Begin(begin) => {
                let tried = self.tried(begin.txn, begin.attempt);
                tried.participants.clone_from(&begin.participants);
                tried.posts = matches!(begin.action, Action::Transfer(_));
            }
            Command::Prepare(prepare) => {
                self.tried(prepare.txn, prepare.attempt).prepared.insert(group);
            }
            Command::Decide(decide) => self.decide(group, decide)?,
            Command::Resolve(resolve) => {
                self.resolve(group, resolve)?;
                // A copy that went astray to a group that takes no part has no consequence there.
                let is_coordinator = self.coordinator(resolve.txn) == Some(group);
                let tried = self.tried(resolve.txn, resolve.attempt);
                let is_told = !is_coordinator && tried.posts && tried.participants.contains(&group);
                if is_told && resolve.verdict == Ending::Commit && self.paid.get(&(group, resolve.txn)).is_none() {
                    self.owed.entry(group).or_default().insert(resolve.txn, slot);
                }
            }
            Command::Forget(forget) => {
                for (txn, attempt) in &forget.ended {
                    self.forget(group, *txn, *attempt)?;
                }
            }
            Command::Client(_) | Command::Read(_) | Command::Fence(_) => {}
        }
        Ok(())
    }

    fn decide(&mut self, group: GroupId, decide: &Decide) -> Verdict {
        let Decide { txn, attempt, verdict, .. } = *decide;
        let tried = self.tried(txn, attempt);
        tried.decision.get_or_insert(verdict);
        let is_missing = |other: &&GroupId| **other != group && !tried.prepared.contains(other);
        match tried.participants.iter().find(is_missing) {
            Some(other) if verdict == Ending::Commit => {
                Err(format!("{group} decides to commit {txn} {attempt:?}, which {other} has not prepared"))
            }
            _ => Ok(()),
        }
    }

    /// What a participant has logged as committed it has posted, once it has applied the entry.
    fn pay(&mut self, applied: &Applied<'_>) -> Verdict {
        let group = applied.group;
        let Some(owed) = self.owed.get_mut(&group) else { return Ok(()) };
        owed.retain(|txn, _| self.paid.get(&(group, *txn)).is_none());
        match owed.iter().find(|(_, slot)| **slot < applied.until && applied.state.is_some()) {
            Some((txn, slot)) => Err(format!("{group} commits {txn} at slot {slot}, and posts nothing")),
            None => Ok(()),
        }
    }

    fn resolve(&mut self, group: GroupId, resolve: &Resolve) -> Verdict {
        let Resolve { txn, attempt, verdict, .. } = *resolve;
        if self.coordinator(txn) == Some(group) {
            return Ok(()); // Nobody resolves in the group that decides: without consequence.
        }
        let is_posted = self.posted.get(&txn).is_some();
        let tried = self.tried(txn, attempt);
        let decided = tried.decision == Some(Ending::Commit);
        if verdict == Ending::Commit {
            if !decided {
                return Err(format!("{group} commits {txn} {attempt:?}, which its coordinator never decided"));
            }
            if tried.released.contains(&group) {
                return Err(format!("{group} commits {txn} {attempt:?}, which it let go before"));
            }
            tried.committed.insert(group);
        } else if !tried.committed.contains(&group) {
            if decided && is_posted {
                return Err(format!("{group} lets go of {txn} {attempt:?}, which is committed"));
            }
            tried.released.insert(group);
        }
        Ok(())
    }

    fn forget(&mut self, group: GroupId, txn: TxnId, attempt: Attempt) -> Verdict {
        let is_posted = self.posted.get(&txn).is_some();
        let tried = self.tried(txn, attempt);
        let late = tried.participants.iter().find(|other| **other != group && !tried.committed.contains(other));
        match late {
            Some(late) if is_posted && tried.decision == Some(Ending::Commit) => {
                Err(format!("{group} forgets {txn} {attempt:?}, which {late} has not committed yet"))
            }
            _ => Ok(()),
        }
    }

    fn post(&mut self, group: GroupId, row: &Posted) -> Verdict {
        let txn = TxnId::from(&row.transfer);
        if self.coordinator(txn) != Some(group) {
            let known = self.posted.get(&txn).is_some();
            let text = || format!("{group} posts {:?}, and its coordinator's group has not", row.transfer);
            return if known { Ok(()) } else { Err(text()) };
        }
        self.posted.insert(txn, ());
        let attempts = self.tried.get(&txn).into_iter().flat_map(BTreeMap::values);
        let mut committed = attempts.filter(|tried| tried.decision == Some(Ending::Commit));
        match committed.find_map(|tried| tried.released.first()) {
            Some(other) => Err(format!("{group} posts {:?}, which {other} has let go", row.transfer)),
            None => Ok(()),
        }
    }
}

impl Checker for Atomicity {
    fn name(&self) -> &'static str {
        "atomicity"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        self.shape = Some(swarm.shape.clone());
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        let Content::Commands(commands) = &chosen.entry.content else { return Ok(()) };
        commands.iter().try_for_each(|command| {
            self.log(chosen.group, chosen.slot, command).map_err(|text| format!("slot {}: {text}", chosen.slot))
        })
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        if self.shape.is_none() {
            return Ok(());
        }
        for row in applied.posted {
            self.paid.insert((applied.group, TxnId::from(&row.transfer)), ());
        }
        // A chain's members are posted under ids of their own, which say nothing of who decides.
        let mut own = applied.posted.iter().filter(|row| !is_of_vault(&row.transfer));
        own.try_for_each(|row| self.post(applied.group, row))?;
        self.pay(applied)
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        nothing_left(end)?;
        let posted = end.posted();
        for (group, rows) in posted {
            for (txn, row) in rows {
                for account in [row.transfer.debit, row.transfer.credit] {
                    let Some(other) = end.shape.map.owner_of(account) else { continue };
                    if !posted.get(&other).is_some_and(|rows| rows.contains_key(txn)) {
                        return Err(format!("{group} posted {:?}, and {other} did not", row.transfer));
                    }
                }
            }
        }
        Ok(())
    }
}

/// In a majority of every group nothing is in doubt, waits, or is still coordinated.
fn nothing_left(end: &End<'_>) -> Verdict {
    for (group, replicas) in end.groups {
        let at_rest = |totals: &Totals| totals.in_doubt == 0 && totals.coordinated == 0 && totals.waiting == 0;
        let free = replicas.iter().filter(|replica| at_rest(&replica.totals)).count();
        let majority = end.shape.members(*group).len() / 2 + 1;
        if free < majority {
            let totals: Vec<_> = replicas.iter().map(|replica| (replica.node, &replica.totals)).collect();
            return Err(format!("{group} is at rest on {free} replicas only: {totals:?}"));
        }
    }
    Ok(())
}

//! The end of a set, or of the run: balances, all nodes back, open transfers settled, the audit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use drachma_client::Status;
use drachma_protocol::ids::{AccountId, NodeId};
use drachma_protocol::ledger::model::{Account, Balance};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::engine::{Engine, unwritable};
use super::report::{Amount, BalancesLine, Held};
use crate::audit::{self, Fetch, Opening};
use crate::exit::Failure;
use crate::scenario::{Action, Set};

/// How long one replica may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the replicas that run may take to apply what is chosen before their balances are read.
const QUIET: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);
/// How long settling one open transfer may take.
const FENCE: Duration = Duration::from_secs(10);
/// Open transfers that are settled at the same time.
const FENCES: usize = 64;

impl Engine<'_> {
    /// Ends `set`; `rows` are those since the last time.
    pub(super) async fn settle(&mut self, set: &Set, rows: Range<usize>) -> Result<(), Failure> {
        self.balances(set.number, rows).await?;
        self.cluster.restore().await?;
        let unsettled = self.fence().await?;
        let settings = self.cluster.settings();
        let opening = Opening { accounts: settings.accounts(), balance: settings.initial_balance() };
        let answered = self.committed.len() as u64;
        let plan = self.plan;
        let committed = std::mem::take(&mut self.committed);
        let acknowledged = committed.into_iter().flat_map(|index| plan.traces(index));
        let client = self.link().client.clone();
        let mut report = audit::audit(&client, Some(opening), acknowledged, audit::SETTLE).await;
        report.acknowledged = answered;
        for index in unsettled {
            report.incomplete(format!("row {index} could not be settled: its outcome is not known"));
        }
        match &mut self.audit {
            Some(sum) => sum.merge(report),
            None => self.audit = Some(report),
        }
        Ok(())
    }

    /// Prints the accounts that rows have named and that have changed, on every replica.
    async fn balances(&mut self, set: u64, rows: Range<usize>) -> Result<(), Failure> {
        let fetch = Fetch::new(self.link().client.clone(), ANSWER);
        self.quiet(&fetch).await;
        let named = self.named(rows);
        let settings = self.cluster.settings().clone();
        let opening = Opening { accounts: settings.accounts(), balance: settings.initial_balance() };
        for group in settings.groups() {
            let mut replicas: BTreeMap<NodeId, Option<Vec<Account>>> = BTreeMap::new();
            for node in &group.nodes {
                let running = self.cluster.is_running(*node);
                let accounts = if running { fetch.changed(*node, group.id).await.ok() } else { None };
                replicas.insert(*node, accounts);
            }
            for (account, held) in side_by_side(opening, &replicas) {
                if named.contains(&account) {
                    let line = BalancesLine::new(set, account.0, held);
                    self.report.balances(&line).map_err(unwritable)?;
                }
            }
        }
        self.report.flush().map_err(unwritable)
    }

    /// Every account that a transfer names.
    fn named(&self, rows: Range<usize>) -> BTreeSet<AccountId> {
        let mut named = BTreeSet::new();
        for index in rows {
            let row = self.plan.scenario.row(index);
            if !matches!(row.action, Action::Balance(_)) {
                named.extend(row.members().iter().flat_map(Action::accounts));
            }
        }
        named
    }

    /// Waits a moment until the running replicas of each group have applied the same.
    async fn quiet(&mut self, fetch: &Fetch) {
        let mut groups = self.link().client.map().groups;
        for group in &mut groups {
            group.nodes.retain(|node| self.cluster.is_running(*node));
        }
        let end = Instant::now() + QUIET;
        while !fetch.is_level(&groups).await && Instant::now() < end {
            sleep(PAUSE).await;
        }
    }

    /// Makes every open transfer final, and prints what it is. Returns those that could not be.
    async fn fence(&mut self) -> Result<Vec<usize>, Failure> {
        let mut open = std::mem::take(&mut self.open).into_iter();
        let mut settled = BTreeMap::new();
        let mut flight = JoinSet::new();
        loop {
            while flight.len() < FENCES
                && let Some(index) = open.next()
            {
                let (client, txn) = (self.link().client.clone(), self.plan.txn(index));
                let txn = txn.expect("only what writes is kept as open");
                flight.spawn(async move { (index, client.fence(txn, Some(FENCE)).await.status) });
            }
            match flight.join_next().await {
                Some(Ok((index, status))) => drop(settled.insert(index, status)),
                Some(Err(error)) => return Err(Failure::failed(format!("a row was not settled: {error}"))),
                None => break,
            }
        }
        let mut unsettled = Vec::new();
        for (index, status) in settled {
            match status {
                Status::Committed => self.report.settled(index, None).map_err(unwritable)?,
                Status::Rejected(reason) => self.report.settled(index, Some(reason)).map_err(unwritable)?,
                Status::Accepted | Status::Unavailable | Status::Unknown => unsettled.push(index),
            }
        }
        self.report.flush().map_err(unwritable)?;
        Ok(unsettled)
    }
}

/// What each replica holds of every account that has changed on one of them. Where it has not, the replica holds what
/// the account had from the beginning; an account that came later and is not there yet is left out.
fn side_by_side(
    opening: Opening,
    replicas: &BTreeMap<NodeId, Option<Vec<Account>>>,
) -> BTreeMap<AccountId, BTreeMap<String, Held>> {
    let mut rows: BTreeMap<AccountId, BTreeMap<String, Held>> = BTreeMap::new();
    for (node, accounts) in replicas {
        for account in accounts.iter().flatten() {
            let held = Held::Amount(Amount(account.balance()));
            rows.entry(account.id).or_default().insert(node.to_string(), held);
        }
    }
    let opened = Held::Amount(Amount(Balance { negative: false, magnitude: opening.balance }));
    for (account, row) in &mut rows {
        let from_the_beginning = (1..=u128::from(opening.accounts)).contains(&account.0);
        for (node, accounts) in replicas {
            match accounts {
                None => drop(row.insert(node.to_string(), Held::Down)),
                Some(_) if from_the_beginning => drop(row.entry(node.to_string()).or_insert(opened)),
                Some(_) => {}
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(id: u128, debits: u128, credits: u128) -> Account {
        Account { id: AccountId(id), debits_posted: debits, credits_posted: credits, ..Account::default() }
    }

    fn held(negative: bool, magnitude: u128) -> Held {
        Held::Amount(Amount(Balance { negative, magnitude }))
    }

    #[test]
    fn replicas_stand_side_by_side() {
        let replicas = BTreeMap::from([
            (NodeId(1), Some(vec![account(1, 1, 10), account(500, 7, 0)])),
            (NodeId(2), Some(vec![])),
            (NodeId(3), None),
        ]);
        let rows = side_by_side(Opening { accounts: 100, balance: 10 }, &replicas);
        let row = |cells: &[(&str, Held)]| cells.iter().map(|(node, held)| ((*node).to_owned(), *held)).collect();
        let expected = BTreeMap::from([
            (AccountId(1), row(&[("n1", held(false, 9)), ("n2", held(false, 10)), ("n3", Held::Down)])),
            (AccountId(500), row(&[("n1", held(true, 7)), ("n3", Held::Down)])),
        ]);
        assert_eq!(rows, expected);
    }
}

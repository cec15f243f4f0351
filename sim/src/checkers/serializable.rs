//! Number 5: strict serializability of transfers and reads over all groups.
//!
//! The operations must have an order that agrees with real time and in which each read sees exactly the transfers
//! before it. What a read saw of an account is known (see [`super::versions`]), so the order must put the transfers that
//! it saw before it and the other ones of that account after it; transfers commute among each other where no read tells
//! them apart. A read of several accounts is one operation, at one instant. A rejection is an observation, too: where
//! only one transfer can have made the difference, it must lie on its side ([`super::rejections`]). Transfers that took
//! effect without an answer take part, with an end that nobody knows.
//!
//! Such an order exists if the graph of these demands and of real time has no cycle. Totals alone, and each read by
//! itself, do not show what this shows (hazards S1 and S2).

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::Account;
use drachma_protocol::ledger::operations::Reply;

use super::graph::{Graph, Node, Span, Why};
use super::rejections::{Side, rejections};
use super::versions::Versions;
use super::{Checker, End, Verdict};
use crate::history::History;

/// See the module.
pub struct Serializable;

impl Checker for Serializable {
    fn name(&self) -> &'static str {
        "serializable"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        match build(end, &observations(end.history)).cycle() {
            None => Ok(()),
            Some(cycle) => Err(format!("no serial order exists: {cycle}")),
        }
    }
}

/// What an operation saw of some accounts, all at one instant.
#[derive(Clone, Debug)]
pub struct Observation {
    /// For reports.
    pub name: String,
    /// When it began and when it ended, in microseconds.
    pub span: (u64, u64),
    /// What it found.
    pub seen: Vec<(AccountId, Option<Account>)>,
    /// The transfer that is part of the same operation: then none of its accounts is in `seen`.
    pub writes: Option<TxnId>,
}

/// Everything that the clients observed.
pub fn observations(history: &History) -> Vec<Observation> {
    let single = history.reads.iter().map(|read| Observation {
        name: format!("read of {} [{}, {}]", read.account, read.invoked, read.completed),
        span: (read.invoked, read.completed),
        seen: vec![(read.account, read.found)],
        writes: None,
    });
    single.chain(transactions(history)).chain(queries(history)).collect()
}

/// The accounts among what operations found.
fn accounts(replies: &[Reply]) -> Vec<(AccountId, Option<Account>)> {
    let account = |reply: &Reply| match reply {
        Reply::Account(account) => Some((account.id, Some(*account))),
        _ => None,
    };
    replies.iter().filter_map(account).collect()
}

/// What transactions have read of accounts. All answers to one that has a record are the same.
fn transactions(history: &History) -> impl Iterator<Item = Observation> {
    history.transactions.iter().flat_map(|(txn, record)| {
        let most = if record.is_recorded() { 1 } else { usize::MAX };
        let told = record.answers.iter().filter_map(|answer| Some((answer.at, accounts(answer.replies.as_deref()?))));
        let read = told.filter(|(_, seen)| !seen.is_empty()).take(most);
        read.map(move |(at, seen)| {
            let name = format!("transaction {txn} [{}, {at}]", record.invoked);
            Observation { name, span: (record.invoked, at), seen, writes: None }
        })
    })
}

/// What queries have read of accounts.
fn queries(history: &History) -> impl Iterator<Item = Observation> {
    history.queries.iter().map(|query| Observation {
        name: format!("query [{}, {}]", query.invoked, query.completed),
        span: (query.invoked, query.completed),
        seen: accounts(&query.replies),
        writes: None,
    })
}

/// Makes the graph of all demands.
pub fn build(end: &End<'_>, observations: &[Observation]) -> Graph {
    let all = end.versions();
    let mut builder = Builder { end, graph: Graph::default(), spans: Vec::new(), transfers: BTreeMap::new() };
    for step in all.values().flat_map(|versions| &versions.steps) {
        builder.transfer(step.txn);
    }
    let mut reads: BTreeMap<AccountId, BTreeMap<usize, Vec<Node>>> = BTreeMap::new();
    for observation in observations {
        let node = builder.observation(observation);
        for (account, found) in &observation.seen {
            let version = all.get(account).zip(found.as_ref()).and_then(|(versions, found)| versions.of(found));
            if let Some(version) = version {
                reads.entry(*account).or_default().entry(version).or_default().push(node);
            }
        }
    }
    for (account, reads) in &reads {
        if let Some(versions) = all.get(account) {
            builder.account(versions, reads);
        }
    }
    for rejection in rejections(end, all) {
        let node = builder.transfer(rejection.txn);
        for (txn, side) in rejection.forced {
            let other = builder.transfer(txn);
            match (side, node, other) {
                (Side::Before, Some(node), Some(other)) => builder.graph.order(other, node, Why::RejectedAfter),
                (Side::After, Some(node), Some(other)) => builder.graph.order(node, other, Why::RejectedBefore),
                _ => {}
            }
        }
    }
    builder.graph.real_time(&builder.spans);
    builder.graph
}

struct Builder<'a> {
    end: &'a End<'a>,
    graph: Graph,
    spans: Vec<(Node, Span)>,
    transfers: BTreeMap<TxnId, Node>,
}

impl Builder<'_> {
    /// The operation of a transfer; nothing for one that nobody asked for, which another checker finds.
    fn transfer(&mut self, txn: TxnId) -> Option<Node> {
        if let Some(node) = self.transfers.get(&txn) {
            return Some(*node);
        }
        let record = self.end.history.transfers.get(&txn)?;
        let (transfer, ended) = (&record.transfer, record.answers.first().map(|(at, _)| *at));
        let end = ended.map_or_else(|| "unanswered".to_owned(), |at| at.to_string());
        let outcome = if record.is_rejected() { " rejected" } else { "" };
        let (debit, credit, amount) = (transfer.debit, transfer.credit, transfer.amount);
        let name = format!("transfer {debit} to {credit} of {amount}{outcome} [{}, {end}]", record.invoked);
        let node = self.graph.operation(name);
        self.spans.push((node, (record.invoked, ended)));
        self.transfers.insert(txn, node);
        Some(node)
    }

    fn observation(&mut self, observation: &Observation) -> Node {
        if let Some(node) = observation.writes.and_then(|txn| self.transfer(txn)) {
            return node;
        }
        let node = self.graph.operation(observation.name.clone());
        self.spans.push((node, (observation.span.0, Some(observation.span.1))));
        node
    }

    /// Each version that was read has a helper before its reads, after the transfers that they saw, and one after them,
    /// before the transfers that they did not see.
    fn account(&mut self, versions: &Versions, reads: &BTreeMap<usize, Vec<Node>>) {
        let mut before: Option<(usize, Node, Node)> = None;
        for (version, nodes) in reads {
            let (seen, not_seen) = (self.graph.helper(), self.graph.helper());
            if let Some((_, seen_before, not_seen_before)) = before {
                self.graph.order(seen_before, seen, Why::Seen);
                self.graph.order(not_seen_before, not_seen, Why::NotSeen);
            }
            for node in nodes {
                self.graph.order(seen, *node, Why::Seen);
                self.graph.order(*node, not_seen, Why::NotSeen);
            }
            let first = before.map_or(0, |(first, ..)| first);
            self.between(versions, first..*version, before.map(|(_, _, not_seen)| not_seen), Some(seen));
            before = Some((*version, seen, not_seen));
        }
        let Some((last, _, not_seen)) = before else { return };
        self.between(versions, last..versions.steps.len(), Some(not_seen), None);
    }

    fn between(&mut self, versions: &Versions, range: std::ops::Range<usize>, from: Option<Node>, to: Option<Node>) {
        for step in &versions.steps[range] {
            let Some(node) = self.transfer(step.txn) else { continue };
            from.into_iter().for_each(|helper| self.graph.order(helper, node, Why::NotSeen));
            to.into_iter().for_each(|helper| self.graph.order(node, helper, Why::Seen));
        }
    }
}

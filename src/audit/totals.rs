//! Judging what the replicas say of themselves. Pure: fetching is elsewhere.

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::operator::{LedgerTotals, Totals};

use super::report::AuditReport;

/// One replica's totals; nothing if it did not answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ReplicaView {
    pub(super) node: NodeId,
    pub(super) totals: Option<Totals>,
}

/// A group as its replicas say it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupView {
    pub(super) group: GroupId,
    pub(super) replicas: Vec<ReplicaView>,
}

impl GroupView {
    /// The replicas that answered.
    pub(super) fn seen(&self) -> impl Iterator<Item = (NodeId, &Totals)> {
        self.replicas.iter().filter_map(|replica| Some((replica.node, replica.totals.as_ref()?)))
    }

    /// The replica that the others are compared with: one of those that most agree with; of equals the one that has
    /// applied most, then the first.
    pub(super) fn reference(&self) -> Option<(NodeId, &Totals)> {
        let alike = |totals: &Totals| {
            self.seen().filter(|(_, other)| (other.applied, other.digest) == (totals.applied, totals.digest)).count()
        };
        self.seen().max_by_key(|(node, totals)| (alike(totals), totals.applied, std::cmp::Reverse(*node)))
    }

    /// Every replica answered, all at one position, with nothing under way.
    fn is_quiet(&self) -> bool {
        let idle = |totals: &Totals| totals.in_doubt == 0 && totals.waiting == 0;
        let first = self.seen().next().map(|(_, totals)| totals.applied);
        self.seen().count() == self.replicas.len()
            && self.seen().all(|(_, totals)| Some(totals.applied) == first && idle(totals))
    }
}

/// Whether the whole cluster stands still and can be seen.
pub(super) fn is_quiet(groups: &[GroupView]) -> bool {
    groups.iter().all(GroupView::is_quiet)
}

/// Judges each group, and all of them together if they stood still while they were asked: otherwise their sums are
/// those of different moments.
pub(super) fn judge(groups: &[GroupView], still: bool, report: &mut AuditReport) {
    for group in groups {
        report.replicas += group.seen().count() as u64;
        judge_visibility(group, report);
        judge_digests(group, report);
        for (node, totals) in group.seen() {
            judge_replica(group.group, node, totals, report);
        }
        let in_doubt = group.seen().map(|(_, totals)| totals.in_doubt).max().unwrap_or(0);
        if in_doubt > 0 {
            report.in_doubt += in_doubt;
            report.incomplete(format!("{}: {in_doubt} transactions are in doubt", group.group));
        }
    }
    if still {
        judge_sums(groups, report);
    }
}

fn judge_visibility(group: &GroupView, report: &mut AuditReport) {
    for replica in group.replicas.iter().filter(|replica| replica.totals.is_none()) {
        report.incomplete(format!("{}: {} does not answer", group.group, replica.node));
    }
    let positions: BTreeMap<_, Vec<String>> = group.seen().fold(BTreeMap::new(), |mut positions, (node, totals)| {
        positions.entry(totals.applied).or_insert_with(Vec::new).push(node.to_string());
        positions
    });
    if positions.len() > 1 {
        let list: Vec<String> = positions.iter().map(|(at, nodes)| format!("{} at {at}", nodes.join(", "))).collect();
        report.incomplete(format!("{}: the replicas are not at one position: {}", group.group, list.join("; ")));
    }
}

/// Equal positions have equal states.
fn judge_digests(group: &GroupView, report: &mut AuditReport) {
    let Some((reference, expected)) = group.reference() else { return };
    for (node, totals) in group.seen() {
        if totals.applied == expected.applied && totals.digest != expected.digest {
            report.violated(format!(
                "{}: {node} differs from {reference} after {} entries: digest {:032x}, not {:032x}",
                group.group, totals.applied, totals.digest, expected.digest
            ));
        }
    }
}

fn judge_replica(group: GroupId, node: NodeId, totals: &Totals, report: &mut AuditReport) {
    for ledger in &totals.ledgers {
        let LedgerTotals { ledger, debits, credits, sent, received, .. } = *ledger;
        if debits.wrapping_sub(credits) != sent.wrapping_sub(received) {
            report.conserved = false;
            report.violated(format!(
                "{group}: {node} does not conserve ledger {ledger}: debits {debits} less credits {credits} is not \
                 sent {sent} less received {received}"
            ));
        }
    }
}

/// What was sent has been received, if all groups were seen and nothing is under way between them.
fn judge_sums(groups: &[GroupView], report: &mut AuditReport) {
    if !has_sums(groups) {
        return;
    }
    for (ledger, (sent, received)) in sums(groups) {
        if sent != received {
            report.conserved = false;
            report.violated(format!("ledger {ledger}: {sent} were sent between groups, but {received} were received"));
        }
    }
    let pending = sums_of(groups, |ledger| (ledger.debits_pending, ledger.credits_pending));
    for (ledger, (debits, credits)) in pending.into_iter().filter(|(_, (debits, credits))| debits != credits) {
        report.conserved = false;
        report.violated(format!("ledger {ledger}: {debits} are pending as debits, but {credits} as credits"));
    }
}

/// Whether the sums over all groups mean something. What is decided and not yet carried out everywhere is in doubt at
/// a participant; a record that a coordinator merely has not forgotten moves nothing any more.
fn has_sums(groups: &[GroupView]) -> bool {
    groups.iter().all(|group| group.reference().is_some_and(|(_, totals)| totals.in_doubt == 0))
}

/// Whether more or less was received than was sent, as far as that can be said.
pub(super) fn sums_differ(groups: &[GroupView]) -> bool {
    has_sums(groups) && sums(groups).values().any(|(sent, received)| sent != received)
}

fn sums(groups: &[GroupView]) -> BTreeMap<u32, (u128, u128)> {
    sums_of(groups, |ledger| (ledger.sent, ledger.received))
}

/// Two sums by ledger over all groups, modulo 2^128.
fn sums_of(groups: &[GroupView], of: impl Fn(&LedgerTotals) -> (u128, u128)) -> BTreeMap<u32, (u128, u128)> {
    let mut sums: BTreeMap<u32, (u128, u128)> = BTreeMap::new();
    for totals in groups.iter().filter_map(|group| Some(group.reference()?.1)) {
        for ledger in &totals.ledgers {
            let (left, right) = sums.entry(ledger.ledger).or_default();
            let more = of(ledger);
            (*left, *right) = (left.wrapping_add(more.0), right.wrapping_add(more.1));
        }
    }
    sums
}

//! Whether a cluster is consistent, seen over all its replicas.
//!
//! All replicas are brought to one position first: the totals of everything are asked for until two rounds are equal
//! and nothing is under way, or the time is up. What was answered in two equal rounds held at every moment between
//! them, so the sums over all groups are those of one cut. Then:
//!
//! - replicas at one position have one digest, and each conserves money: debits less credits are what was sent to
//!   other groups less what was received, modulo 2^128; over all groups that cancels;
//! - the postings of each replica are compared with those of a reference (a replica that most agree with) by digests
//!   of ranges; from the first range that differs on, the postings themselves are compared, and what is missing,
//!   doubled or different is named; the accounts of a replica whose digest differs are recomputed from its postings;
//! - every transfer that was answered `committed` is known as committed by every replica of both its groups;
//! - while there are at most [`MATCH_LIMIT`] postings, or when the sums do not agree, those of all groups are matched
//!   with each other: nothing twice, and both sides of everything. Beyond that the counts and sums must do.
//!
//! What cannot be seen makes the verdict `incomplete`, what is wrong `violated`.

mod command;
mod fetch;
mod judgement;
mod postings;
mod report;
#[cfg(test)]
mod tests;
mod totals;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drachma_client::Client;
use drachma_protocol::ids::{GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, Posted, Transfer};
use drachma_protocol::message::client::MapDone;
use drachma_protocol::message::operator::Totals;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

pub use command::command;
pub(crate) use fetch::{Fetch, Silent};
pub use postings::Opening;
pub use report::{AuditReport, FINDINGS_LIMIT, Verdict};

use judgement::Judgement;
use postings::{Comparison, Matching, Recomputed};
use totals::GroupView;

/// Up to so many postings are matched between groups one by one.
pub const MATCH_LIMIT: u64 = 200_000;
/// Beyond this they are not even when the sums do not agree: they would not fit into memory.
const NAME_LIMIT: u64 = 10_000_000;
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the replicas may take to come to one position.
pub const SETTLE: Duration = Duration::from_secs(10);
const ROUND: Duration = Duration::from_millis(50);

/// Audits every replica that `client` knows of. Without the `opening` balances accounts are not recomputed. `acknowledged` are transfers that were answered `committed`;
/// `settle` is how long the replicas may take to come to one position.
pub async fn audit(
    client: &Client,
    opening: Option<Opening>,
    acknowledged: impl Iterator<Item = Transfer>,
    settle: Duration,
) -> AuditReport {
    let audit = Audit { fetch: Fetch::new(client.clone(), ANSWER), map: client.map(), opening };
    let mut judgement = Judgement::default();
    let (groups, still) = audit.settle(settle).await;
    totals::judge(&groups, still, &mut judgement.report);
    for group in &groups {
        if let Err(silent) = audit.compare_group(group, &mut judgement).await {
            judgement.report.incomplete(unseen(&silent));
        }
    }
    if let Err(silent) = audit.match_groups(&groups, &mut judgement).await {
        judgement.report.incomplete(unseen(&silent));
    }
    audit.look_for(&groups, acknowledged, &mut judgement).await;
    judgement.finish()
}

fn unseen(silent: &Silent) -> String {
    format!("{}: {} does not answer: {}", silent.group, silent.node, silent.why)
}

struct Audit {
    fetch: Fetch,
    map: MapDone,
    opening: Option<Opening>,
}

impl Audit {
    /// The totals of all replicas: of two equal quiet rounds, or the last ones before the time was up; and whether they
    /// were those of the round before.
    async fn settle(&self, limit: Duration) -> (Vec<GroupView>, bool) {
        let end = Instant::now() + limit;
        let mut last: Option<Vec<GroupView>> = None;
        loop {
            let groups = self.fetch.totals(&self.map.groups).await;
            let same = last.as_ref() == Some(&groups);
            if same && totals::is_quiet(&groups) || Instant::now() >= end {
                return (groups, same);
            }
            last = Some(groups);
            sleep(ROUND).await;
        }
    }

    /// Compares the postings of a group's replicas, and recomputes the accounts of those that differ.
    async fn compare_group(&self, view: &GroupView, judgement: &mut Judgement) -> Result<(), Silent> {
        let Some((reference, expected)) = view.reference() else { return Ok(()) };
        let ranges = self.ranges(reference, view.group, expected.posted).await?;
        let mut suspects = BTreeSet::new();
        for (node, totals) in view.seen().filter(|(node, _)| *node != reference) {
            let same = totals.applied == expected.applied && totals.digest == expected.digest;
            let from = self.first_difference(node, view.group, &ranges, totals, expected).await?;
            match from {
                Some(from) if totals.applied == expected.applied => {
                    let counts = (expected.posted, totals.posted);
                    self.name_differences(view.group, (reference, node), from, counts, judgement).await?;
                }
                // What a replica that lags has not posted yet is not missing.
                Some(from) => judgement.report.violated(format!(
                    "{}: the postings of {node} differ from those of {reference} from number {from} on",
                    view.group
                )),
                None => {}
            }
            if from.is_some() || (totals.applied == expected.applied && !same) {
                suspects.extend([reference, node]);
            }
        }
        for node in suspects {
            self.recompute(node, view.group, judgement).await?;
        }
        Ok(())
    }

    /// The digests of the reference's postings: where a range begins, how long it is, its digest.
    async fn ranges(&self, node: NodeId, group: GroupId, total: u64) -> Result<Vec<(u64, u32, u128)>, Silent> {
        let mut ranges = Vec::new();
        let mut from = 0;
        while from < total {
            let limit = u32::try_from(total - from).unwrap_or(u32::MAX).min(RANGE);
            let digest = self.fetch.digest(node, group, from, limit).await?;
            let rows = u32::try_from(digest.rows).unwrap_or(u32::MAX).min(limit);
            if rows == 0 {
                break; // It has fewer than it said; the other checks say so.
            }
            ranges.push((from, rows, digest.digest));
            from += u64::from(rows);
        }
        Ok(ranges)
    }

    /// Where the postings of a replica begin to differ from the reference's. A replica that lags has a shorter list.
    async fn first_difference(
        &self,
        node: NodeId,
        group: GroupId,
        ranges: &[(u64, u32, u128)],
        totals: &Totals,
        expected: &Totals,
    ) -> Result<Option<u64>, Silent> {
        for (from, rows, digest) in ranges.iter().copied() {
            let end = from + u64::from(rows);
            if totals.posted < end && totals.applied < expected.applied {
                return Ok(None);
            }
            let found = self.fetch.digest(node, group, from, rows).await?;
            if found.rows != u64::from(rows) || found.digest != digest {
                return Ok(Some(from));
            }
        }
        let longer = totals.applied == expected.applied && totals.posted != expected.posted;
        Ok(longer.then_some(expected.posted.min(totals.posted)))
    }

    /// Names the postings that two replicas at one position do not share, from a number on; `counts` is how many each
    /// had there.
    async fn name_differences(
        &self,
        group: GroupId,
        (reference, other): (NodeId, NodeId),
        start: u64,
        counts: (u64, u64),
        judgement: &mut Judgement,
    ) -> Result<(), Silent> {
        let mut comparison = Comparison::default();
        let (mut here, mut there) = (start, start);
        loop {
            let rows = self.posted_before(reference, group, here, counts.0).await?;
            let others = self.posted_before(other, group, there, counts.1).await?;
            if rows.is_empty() && others.is_empty() {
                break;
            }
            here += rows.len() as u64;
            there += others.len() as u64;
            rows.into_iter().for_each(|row| comparison.reference(row));
            others.into_iter().for_each(|row| comparison.other(row));
        }
        let differences = comparison.differences();
        if differences.is_empty() {
            judgement.report.violated(format!(
                "{group}: {other} has posted the same as {reference}, but from number {start} on in another order or \
                 at other times"
            ));
        }
        judgement.differences(group, (reference, other), differences);
        Ok(())
    }

    /// A page of postings from a number on, none from `end` on.
    async fn posted_before(&self, node: NodeId, group: GroupId, from: u64, end: u64) -> Result<Vec<Posted>, Silent> {
        let left = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(Vec::new());
        }
        let mut rows = self.fetch.posted(node, group, from).await?;
        rows.truncate(left);
        Ok(rows)
    }

    /// Recomputes the accounts of one replica from its postings.
    async fn recompute(&self, node: NodeId, group: GroupId, judgement: &mut Judgement) -> Result<(), Silent> {
        let Some(opening) = self.opening else { return Ok(()) };
        let mut recomputed = Recomputed::default();
        self.each_posting(node, group, |row| recomputed.posted(&row)).await?;
        let changed = self.fetch.changed(node, group).await?;
        for contradiction in recomputed.contradictions(opening, &changed) {
            judgement.report.violated(format!("{group}: {node}: {contradiction}"));
        }
        Ok(())
    }

    async fn each_posting(&self, node: NodeId, group: GroupId, mut visit: impl FnMut(Posted)) -> Result<(), Silent> {
        let mut from = 0;
        loop {
            let rows = self.fetch.posted(node, group, from).await?;
            if rows.is_empty() {
                return Ok(());
            }
            from += rows.len() as u64;
            rows.into_iter().for_each(&mut visit);
        }
    }

    /// Matches the postings of all groups with each other. Meaningless while anything is under way.
    async fn match_groups(&self, groups: &[GroupView], judgement: &mut Judgement) -> Result<(), Silent> {
        let references: Vec<(GroupId, NodeId, u64)> =
            groups.iter().filter_map(|view| view.reference().map(|(node, t)| (view.group, node, t.posted))).collect();
        let total: u64 = references.iter().map(|(_, _, posted)| posted).sum();
        let limit = if totals::sums_differ(groups) { NAME_LIMIT } else { MATCH_LIMIT };
        if references.len() != groups.len() || !totals::is_quiet(groups) || total > limit {
            return Ok(());
        }
        let mut matching = Matching::default();
        for (group, node, _) in references {
            self.each_posting(node, group, |row| matching.posted(group, row)).await?;
        }
        matching.judge(judgement);
        Ok(())
    }

    /// Looks for every acknowledged transfer in every replica that must have it.
    async fn look_for(
        &self,
        groups: &[GroupView],
        mut acknowledged: impl Iterator<Item = Transfer>,
        judgement: &mut Judgement,
    ) {
        loop {
            let batch: Vec<Transfer> = acknowledged.by_ref().take(BATCH_LIMIT).collect();
            if batch.is_empty() {
                return;
            }
            judgement.report.acknowledged += batch.len() as u64;
            let mut asked = JoinSet::new();
            for (group, node, places) in self.askings(groups, &batch) {
                let ids = places.iter().map(|place| TxnId::from(&batch[*place])).collect();
                let fetch = self.fetch.clone();
                asked.spawn(async move { (group, node, places, fetch.outcomes(node, group, ids).await) });
            }
            while let Some(Ok((group, node, places, outcomes))) = asked.join_next().await {
                match outcomes {
                    Ok(outcomes) => {
                        let found = places.into_iter().zip(outcomes);
                        judgement.outcomes(group, node, &batch, found);
                    }
                    Err(silent) => judgement.report.incomplete(unseen(&silent)),
                }
            }
        }
    }

    /// Whom to ask for which places of a batch: every replica that was seen, for what its group must know.
    fn askings(&self, groups: &[GroupView], batch: &[Transfer]) -> Vec<(GroupId, NodeId, Vec<usize>)> {
        let mut places: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (place, transfer) in batch.iter().enumerate() {
            let owners: BTreeSet<GroupId> = [transfer.debit, transfer.credit]
                .iter()
                .filter_map(|account| self.map.map.owner_of(*account))
                .collect();
            owners.into_iter().for_each(|group| places.entry(group).or_default().push(place));
        }
        let seen = groups.iter().flat_map(|view| view.seen().map(|(node, _)| (view.group, node)));
        seen.filter_map(|(group, node)| Some((group, node, places.get(&group)?.clone()))).collect()
    }
}

/// The postings of a range; a node may answer for fewer.
const RANGE: u32 = 65_536;

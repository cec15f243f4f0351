//! An audit under way: what was found, each transfer counted once however often it is met.

use std::collections::BTreeSet;

use drachma_protocol::ids::{GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::{Outcome, Transfer};

use super::postings::Difference;
use super::report::{AuditReport, name};

/// A report, and which transfers it has counted.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) report: AuditReport,
    missing: BTreeSet<TxnId>,
    doubled: BTreeSet<TxnId>,
}

impl Judgement {
    /// What two replicas do not share.
    pub(super) fn differences(
        &mut self,
        group: GroupId,
        (reference, other): (NodeId, NodeId),
        differences: Vec<Difference>,
    ) {
        for difference in differences {
            match difference {
                Difference::Missing(row) => {
                    let transfer = name(&row.transfer);
                    let finding = format!("{group}: {other} has lost {transfer}: {reference} has posted it");
                    self.lost(&row.transfer, finding);
                }
                Difference::Extra(row) => {
                    let transfer = name(&row.transfer);
                    let finding = format!("{group}: {other} has posted {transfer} once more than {reference}");
                    self.posted_twice(&row.transfer, finding);
                }
                Difference::Changed { reference: expected, other: row } => {
                    let (row, expected) = (name(&row.transfer), name(&expected.transfer));
                    self.report.violated(format!("{group}: {other} has posted {row}, but {reference} {expected}"));
                }
            }
        }
    }

    /// What a replica says of transfers that were acknowledged, by their places in the batch.
    pub(super) fn outcomes(
        &mut self,
        group: GroupId,
        node: NodeId,
        batch: &[Transfer],
        found: impl Iterator<Item = (usize, Option<Outcome>)>,
    ) {
        for (place, outcome) in found {
            let said = match outcome {
                Some(Outcome::Committed) => continue,
                Some(Outcome::Rejected(reason)) => format!("says `{reason}` of"),
                None => "does not know".to_owned(),
            };
            let transfer = &batch[place];
            self.lost(transfer, format!("{group}: {node} {said} {}, which was acknowledged", name(transfer)));
        }
    }

    /// A transfer that is not everywhere where it must be.
    pub(super) fn lost(&mut self, transfer: &Transfer, finding: String) {
        self.missing.insert(TxnId::from(transfer));
        self.report.violated(finding);
    }

    /// A transfer that took effect more than once.
    pub(super) fn posted_twice(&mut self, transfer: &Transfer, finding: String) {
        self.doubled.insert(TxnId::from(transfer));
        self.report.violated(finding);
    }

    /// The report with its counts.
    pub(super) fn finish(mut self) -> AuditReport {
        self.report.missing = self.missing.len() as u64;
        self.report.doubled = self.doubled.len() as u64;
        self.report
    }
}

//! What an audit says.

use drachma_protocol::ledger::model::Transfer;
use serde::Serialize;

/// The worst that was found.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was seen, and it is as it must be.
    #[default]
    Clean,
    /// Not everything could be seen, or something is in doubt; what was seen is as it must be.
    Incomplete,
    /// Something is wrong.
    Violated,
}

/// The result of an audit, or of several.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AuditReport {
    /// The worst that was found.
    pub verdict: Verdict,
    /// No money came from nowhere or went there: in each group, and over all of them.
    pub conserved: bool,
    /// Transfers that were answered `committed` and looked for.
    pub acknowledged: u64,
    /// How many transfers, acknowledged or posted elsewhere, are not everywhere where they must be.
    pub missing: u64,
    /// How many transfers a replica has posted twice.
    pub doubled: u64,
    /// Transactions in doubt at the end.
    pub in_doubt: u64,
    /// Replicas that were seen.
    pub replicas: u64,
    /// What was found, for people; at most [`FINDINGS_LIMIT`] and a line that says so.
    pub findings: Vec<String>,
}

/// The most findings that a report lists.
pub const FINDINGS_LIMIT: usize = 100;

impl Default for AuditReport {
    fn default() -> AuditReport {
        AuditReport {
            verdict: Verdict::Clean,
            conserved: true,
            acknowledged: 0,
            missing: 0,
            doubled: 0,
            in_doubt: 0,
            replicas: 0,
            findings: Vec::new(),
        }
    }
}

impl AuditReport {
    /// Something is wrong.
    pub fn violated(&mut self, finding: String) {
        self.verdict = Verdict::Violated;
        self.find(finding);
    }

    /// Something cannot be seen.
    pub fn incomplete(&mut self, finding: String) {
        self.verdict = self.verdict.max(Verdict::Incomplete);
        self.find(finding);
    }

    /// Adds another audit: numbers are summed, the worst verdict stays.
    pub fn merge(&mut self, other: AuditReport) {
        self.verdict = self.verdict.max(other.verdict);
        self.conserved &= other.conserved;
        self.acknowledged += other.acknowledged;
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.in_doubt += other.in_doubt;
        self.replicas += other.replicas;
        other.findings.into_iter().for_each(|finding| self.find(finding));
    }

    fn find(&mut self, finding: String) {
        match self.findings.len() {
            length if length < FINDINGS_LIMIT => self.findings.push(finding),
            FINDINGS_LIMIT => self.findings.push("there are more findings".to_owned()),
            _ => {}
        }
    }
}

/// A transfer, so that it can be found.
pub(super) fn name(transfer: &Transfer) -> String {
    format!("transfer {} of {} from {} to {}", transfer.id, transfer.amount, transfer.debit, transfer.credit)
}

//! The command.

use std::io::Write;
use std::time::Duration;

use super::{AuditReport, Opening, SETTLE, Verdict, audit};
use crate::commands::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell, Format};

/// Carries out `drachma audit`. `settle`: how long the replicas may take to come to one position, if not as usual.
///
/// # Errors
/// If standard output fails. The exit status is 1 if the cluster is not consistent, 3 if that cannot be said.
pub async fn command(context: &Context, settle: Option<Duration>) -> Outcome {
    let Context { client, settings, verified, format, .. } = context;
    // Another cluster's configuration says nothing of this one's opening balances.
    let opening = verified.then(|| Opening { accounts: settings.accounts(), balance: settings.initial_balance() });
    let report = audit(client, opening, std::iter::empty(), settle.unwrap_or(SETTLE)).await;
    print(&report, *format)?;
    Ok(report.exit())
}

impl AuditReport {
    /// How a command that has nothing worse to say ends.
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Clean => Exit::Done,
            Verdict::Violated => Exit::Failed,
            Verdict::Incomplete => Exit::Unavailable,
        }
    }
}

fn print(report: &AuditReport, format: Format) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if format == Format::Json {
        serde_json::to_writer(&mut out, report)?;
        return writeln!(out);
    }
    let verdict = match report.verdict {
        Verdict::Clean => "clean",
        Verdict::Incomplete => "incomplete",
        Verdict::Violated => "violated",
    };
    let cells = vec![
        Cell::Text(verdict.to_owned()),
        Cell::Bool(report.conserved),
        Cell::Number(report.replicas.to_string()),
        Cell::Number(report.missing.to_string()),
        Cell::Number(report.doubled.to_string()),
        Cell::Number(report.in_doubt.to_string()),
    ];
    let headers = ["verdict", "conserved", "replicas", "missing", "doubled", "in_doubt"];
    output::rows(&mut out, format, &headers, &[cells])?;
    report.findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))
}

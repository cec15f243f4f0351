//! The command.

use std::io::Write;
use std::process::ExitCode;

use drachma_client::{Client, Options};

use super::{AuditReport, Opening, SETTLE, Verdict, audit};
use crate::cli::Globals;
use crate::exit::{self, Exit, Failure};
use crate::output::{self, Cell, Format};
use crate::settings::Settings;

/// Carries out `drachma audit`.
pub fn main(globals: &Globals) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let exit = match runtime {
        Ok(runtime) => runtime.block_on(command(globals)),
        Err(error) => Err(Failure::failed(format!("cannot start: {error}"))),
    };
    exit.unwrap_or_else(|failure| failure.report()).into()
}

async fn command(globals: &Globals) -> exit::Outcome {
    let settings = Settings::load(globals.config.as_deref()).map_err(Failure::usage)?;
    let endpoints = if globals.endpoints.is_empty() { settings.endpoints() } else { globals.endpoints.clone() };
    let options = Options { endpoints, cluster: Some(settings.cluster_id()), deadline: globals.timeout };
    let client = Client::connect(options).await.map_err(Failure::unavailable)?;
    let opening = Opening { accounts: settings.accounts(), balance: settings.initial_balance() };
    let settle = globals.timeout.unwrap_or(SETTLE);
    let report = audit(&client, opening, std::iter::empty(), settle).await;
    print(&report, globals.output).map_err(|error| Failure::failed(format!("cannot write the report: {error}")))?;
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

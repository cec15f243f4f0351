//! `drachma config check`.

use clap::Subcommand;
use drachma_protocol::placement::map::Mode;

use super::settings;
use crate::cli::Globals;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

/// `drachma config`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and say what it means
    Check,
}

/// Checks the configuration and prints what it means.
///
/// # Errors
/// With exit status 2 and the place, if it cannot be used.
pub fn check(globals: &Globals) -> Outcome {
    let settings = settings(globals)?;
    let map = settings.shard_map();
    let mode = if matches!(map.mode, Mode::Range(_)) { "range" } else { "hash" };
    let facts = [
        ("configuration", Cell::text(settings.origin())),
        ("name", Cell::text(settings.name())),
        ("cluster", Cell::text(settings.cluster_id())),
        ("data_dir", Cell::text(settings.data_dir().display())),
        ("nodes", Cell::number(settings.nodes().len())),
        ("groups", Cell::number(settings.groups().len())),
        ("placement", Cell::text(mode)),
        ("shards", Cell::number(map.owners.len())),
        ("accounts", Cell::number(settings.accounts())),
        ("initial_balance", Cell::number(settings.initial_balance())),
        ("warnings", Cell::number(settings.warnings().len())),
    ];
    let (names, cells): (Vec<&str>, Vec<Cell>) = facts.into_iter().unzip();
    match globals.output {
        output::Format::Json => output::print(globals.output, &names, &[cells])?,
        output::Format::Table => {
            let rows: Vec<Vec<Cell>> =
                names.iter().zip(cells).map(|(name, cell)| vec![Cell::text(name.replace('_', " ")), cell]).collect();
            let rows: Vec<Vec<Cell>> = rows.into_iter().map(as_text).collect();
            output::print(globals.output, &["setting", "value"], &rows)?;
        }
    }
    Ok(Exit::Done)
}

/// In a column of names and numbers nothing stands right.
fn as_text(row: Vec<Cell>) -> Vec<Cell> {
    row.into_iter()
        .map(|cell| match cell {
            Cell::Number(digits) => Cell::Text(digits),
            other => other,
        })
        .collect()
}

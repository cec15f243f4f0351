//! What `drachma run` takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::duration;

/// `drachma run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Files of transactions, carried out one after the other
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Start a cluster of its own on free ports; it ends with the run
    #[arg(long)]
    pub embedded: bool,
    /// Format all nodes anew before each set (needs --embedded)
    #[arg(long)]
    pub isolate_sets: bool,
    /// Rows in flight
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub clients: usize,
    /// How long a row may take; `none` retries until every row is final
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub deadline: Deadline,
    /// Repeat a run under its id: rows that were executed answer as they did
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// Compare the rows with those of a file of JSON
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Wait for a key between sets, and take commands there
    #[arg(long)]
    pub step: bool,
    /// Write what was asked and answered, and when, to this file: one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
}

/// A duration, or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadline(pub Option<Duration>);

impl std::str::FromStr for Deadline {
    type Err = String;
    fn from_str(text: &str) -> Result<Deadline, String> {
        if text == "none" { Ok(Deadline(None)) } else { duration(text).map(|duration| Deadline(Some(duration))) }
    }
}

//! The command line: its words, and who does what.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Globals {
    /// The cluster's configuration [default: ./cluster.toml, else the built-in sample]
    #[arg(long, global = true, env = "DRACHMA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Nodes to ask, `host:port`, separated by commas [default: those of the configuration]
    #[arg(long, global = true, env = "DRACHMA_ENDPOINTS", value_name = "LIST", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// The directory with one data directory per node [default: that of the configuration]
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// How long to wait for an answer, such as `500ms` or `2s` [default: the configuration's deadline]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// How results are printed
    #[arg(long, global = true, value_name = "FORMAT", default_value = "table")]
    pub output: Format,
}

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
    /// Repeat a run under its id
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// Compare the rows with those of a file of JSON
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Wait for a key between sets, and take commands there
    #[arg(long)]
    pub step: bool,
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

/// Reads a duration such as `100ms` or `2s`.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let _ = text;
    unimplemented!()
}

#[derive(Debug, Parser)]
#[command(name = "drachma")]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a file of transactions
    Run(RunArgs),
    /// Check a running cluster: conservation, ids, digests over all replicas
    Audit,
}

/// Carries out the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(args) => crate::run::main(&args, &cli.globals),
        Command::Audit => crate::audit::main(&cli.globals),
    }
}

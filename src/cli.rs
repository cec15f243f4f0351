//! The command line: its words, and who does what.

mod ask;
mod line;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use ask::Ask;
pub(crate) use line::{Parsed, grammar, parse_line};

#[cfg(feature = "verification")]
use crate::commands::check::CheckArgs;
use crate::commands::config::ConfigCommand;
use crate::commands::node::NodeArgs;
use crate::commands::nodes::TargetArgs;
#[cfg(feature = "verification")]
use crate::commands::sim::SimArgs;
use crate::commands::up::UpArgs;
#[cfg(feature = "verification")]
use crate::commands::verify::VerifyArgs;
use crate::commands::{self, ask};
use crate::exit::{Exit, Outcome};
use crate::output::Format;
use crate::run::RunArgs;
use crate::settings::units;
use crate::shell::ShellArgs;

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
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

impl Globals {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |option: &str, value: OsString| arguments.extend([option.into(), value]);
        self.config.iter().for_each(|config| add("--config", config.into()));
        if !self.endpoints.is_empty() {
            add("--endpoints", self.endpoints.join(",").into());
        }
        self.data.iter().for_each(|data| add("--data", data.into()));
        self.timeout.iter().for_each(|timeout| add("--timeout", units::show(*timeout).into()));
        add("--output", if self.output == Format::Json { "json" } else { "table" }.into());
        arguments
    }
}

/// Reads a duration such as `100ms` or `2s`.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::parse(text).map_err(|message| format!("it is {message}"))
}

#[derive(Debug, Parser)]
#[command(
    name = "drachma",
    version,
    about = "A sharded, replicated ledger and key-value store: moves money between accounts, atomically and exactly once",
    after_help = "TARGET is a node (n1), a group (g1), a list (n1,n2) or `all`.\nExit status: 0 done; 1 rejected, or a \
                  check failed; 2 wrong usage or configuration; 3 unavailable, unknown, or the level was not met; 130 interrupted.",
    max_term_width = 120
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start every node of the configuration as its own process; ready when every group has a leader
    Up(UpArgs),
    /// Stop every node that `up` has started
    Down,
    /// Stop nodes in order (SIGTERM): what they lead is handed over first
    Stop(TargetArgs),
    /// Kill nodes (SIGKILL), as a failure would
    Fail(TargetArgs),
    /// Start nodes again, and wait until they have caught up
    #[command(alias = "recover")]
    Start(TargetArgs),
    /// Run one node in the foreground; prints `ready n1 ADDRESS` when it serves
    Node(NodeArgs),
    /// Run a file of transactions
    Run(RunArgs),
    /// Take commands line by line, with one connection for all of them: by hand, or from a file or program
    Shell(ShellArgs),
    #[command(flatten)]
    Ask(Ask),
    /// Check a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Hunt for bugs in simulated clusters: seeds, faults, checkers
    #[cfg(feature = "verification")]
    Sim(SimArgs),
    /// Check a model of a protocol exhaustively, up to its bounds
    #[cfg(feature = "verification")]
    Check(CheckArgs),
    /// Judge a recorded history: whether what clients were told can be explained
    #[cfg(feature = "verification")]
    Verify(VerifyArgs),
    /// Print a shell's completions
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// Carries out the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let globals = &cli.globals;
    if !cli.command.catches_panics() {
        drachma_actors::node::abort_on_panic();
    }
    let outcome = match cli.command {
        Command::Run(args) => return crate::run::main(&args, globals),
        Command::Up(args) => commands::up::up(args, globals),
        Command::Down => commands::up::down(globals),
        Command::Stop(args) => commands::nodes::stop(&args, globals),
        Command::Fail(args) => commands::nodes::fail(&args, globals),
        Command::Start(args) => commands::nodes::start(&args, globals),
        Command::Node(args) => commands::node::node(args, globals),
        Command::Shell(args) => crate::shell::shell(&args, globals),
        Command::Ask(asked) => ask(globals, async |context| asked.carry_out(context, globals).await),
        Command::Config(ConfigCommand::Check) => commands::config::check(globals),
        #[cfg(feature = "verification")]
        Command::Sim(args) => commands::sim::sim(&args, globals.output),
        #[cfg(feature = "verification")]
        Command::Check(args) => commands::check::check(&args),
        #[cfg(feature = "verification")]
        Command::Verify(args) => commands::verify::verify(&args, globals),
        Command::Completions { shell } => completions(shell),
        Command::Version => commands::version::version(globals),
    };
    outcome.unwrap_or_else(|failure| failure.report()).into()
}

impl Command {
    /// The simulator and the model checker catch the panics of roles and report them.
    fn catches_panics(&self) -> bool {
        #[cfg(feature = "verification")]
        return matches!(self, Command::Sim(_) | Command::Check(_));
        #[cfg(not(feature = "verification"))]
        false
    }
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "drachma", &mut text);
    crate::output::line(String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Deadline;
    use clap::CommandFactory;

    const WRONG_FOR_THE_SIMULATOR: [&str; 10] = [
        "sim --seed x",
        "sim --seed -1",
        "sim --seed 1 --seeds 2",
        "sim --seeds many",
        "sim --threads 0",
        "sim --trace file",
        "sim --seed 1 --trace f --trace-limit large",
        "sim --with colour=red",
        "sim --failovers 5 --seed 1",
        "check paxos --bfs --dfs",
    ];

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_words_are_understood() {
        for line in [
            "up --detach --fresh",
            "down",
            "stop n1",
            "fail n1,n2",
            "start all",
            "recover g1 --timeout 5s",
            "node --id n1 --format --data d",
            "node --id n1 --die-with-parent 7",
            "run a.csv b.csv --embedded --isolate-sets --clients 64 --deadline none --run-id x --expect f --step",
            "status --actors --output json",
            "leader",
            "leader move g1 n2 --timeout 1s --output json",
            "ping --endpoints 127.0.0.1:1,127.0.0.1:2",
            "pending",
            "performance",
            "audit",
            "db",
            "db g1",
            "log n1 --from 5 --limit 10 --follow --txn ff",
            "committed all",
            "account create 5 6 --ledger 2 --code 3 --rule none",
            "account show 5",
            "account list --all",
            "balance 5 --level QUORUM",
            "transfer 1 2 3 --id ab --level ryw",
            "transfer 1 2 3 --pending --expires 30s",
            "transfer post ab 1 2 --amount 5 --id 7",
            "transfer void ab 1 2",
            "transfer list --account 7 --newest --limit 10 --from 5",
            "transfer list --user-data-64 9 --since 5 --until 10",
            "account create 5 --rule none --history",
            "account close 5 --id 7",
            "account open 5",
            "account history 5 --newest",
            "lookup ab --at 1 --fence",
            "lookup ab --key a/b",
            "get a --level quorum --hex",
            "put a b --id ab",
            "put a -- -b",
            "del a --id ab",
            "append a b",
            "cas a b c --id ab",
            "cas a --absent c",
            "add a -5 --id ab",
            "scan a/b --to a/c --limit 1024",
            "mget a b c",
            "mput a b c d --id ab",
            "swap a b --id ab",
            "txn a.txn --id ab",
            "shell --keep-going --session s --level any --output json",
            "config check --config x.toml",
            "check paxos",
            "check commit --timers --lossy 2 --duplicating --crashes 1 --depth 5 --dfs --invariant votes-are-applied",
            "check paxos --moves --elections 0",
            "check paxos --serve 127.0.0.1:3000 --verbose --threads 1",
            "completions bash",
            "version",
            "sim",
            "sim --seed 7 --trace t --trace-limit 1KiB --lines 5 --with clients=1,kinds=kill+pause,safety=1.2s",
            "sim --seeds 100 --from 5 --threads 2 --no-shrink --shrink-for 1s --output json",
            "sim --failovers 10 --from 3",
        ] {
            let words = std::iter::once("drachma").chain(line.split(' '));
            assert!(Cli::try_parse_from(words.clone()).is_ok(), "{line}: {:?}", Cli::try_parse_from(words).err());
        }
        for line in [
            "",
            "node",
            "node --id x",
            "stop",
            "transfer 1 2 -3",
            "transfer 1 2",
            "transfer 1 2 3 --expires 5s",
            "transfer list",
            "transfer list --code 1 --account 2",
            "ping --timeout 5",
            "frobnicate",
        ]
        .into_iter()
        .chain(["lookup ab", "lookup ab --at 1 --key a", "get", "put a", "add a b", "mput a", "swap a", "txn"])
        .chain(["scan a --limit 0", "scan a --limit 1025", "cas a", "cas a b c d", "put a b --id x"])
        .chain(WRONG_FOR_THE_SIMULATOR)
        {
            let words = std::iter::once("drachma").chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).map(|_| ()).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_deadline_is_a_duration_or_none() {
        assert_eq!("none".parse(), Ok(Deadline(None)));
        assert_eq!("2s".parse(), Ok(Deadline(Some(Duration::from_secs(2)))));
        assert!("2".parse::<Deadline>().is_err());
    }
}

//! The command line: its words, and who does what.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::account::AccountCommand;
use crate::commands::balance::BalanceArgs;
#[cfg(feature = "verification")]
use crate::commands::check::CheckArgs;
use crate::commands::config::ConfigCommand;
use crate::commands::db::DbArgs;
use crate::commands::keys::{AddArgs, CasArgs, GetArgs, MgetArgs, MputArgs, OneKeyArgs, PutArgs, ScanArgs, SwapArgs};
use crate::commands::leader::{LeaderArgs, LeaderCommand};
use crate::commands::log::LogArgs;
use crate::commands::lookup::LookupArgs;
use crate::commands::node::NodeArgs;
use crate::commands::nodes::TargetArgs;
#[cfg(feature = "verification")]
use crate::commands::sim::SimArgs;
use crate::commands::status::StatusArgs;
use crate::commands::transfer::TransferArgs;
use crate::commands::txn::TxnArgs;
use crate::commands::up::UpArgs;
use crate::commands::{self, ask, keys};
use crate::exit::{Exit, Outcome};
use crate::output::Format;
use crate::run::RunArgs;
use crate::settings::units;

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
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
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
    /// Show every replica: who leads, what is chosen and applied
    Status(StatusArgs),
    /// Show the leader of every group, or have another node lead one
    Leader(LeaderArgs),
    /// Ask every node for a sign of life, and time it
    Ping,
    /// Show what is in doubt, since when, and who decides it
    Pending,
    /// Show rates and latencies since the last such call
    Performance,
    /// Check a running cluster: conservation, ids, digests over all replicas
    Audit,
    /// Show every account that differs from its opening balance, on every replica side by side
    Db(DbArgs),
    /// Show the replicated log as transaction records
    Log(LogArgs),
    /// Show the transfers that replicas have applied
    Committed(TargetArgs),
    /// Create, show or list accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// Show an account's balance
    Balance(BalanceArgs),
    /// Move money from one account to another, exactly once
    Transfer(TransferArgs),
    /// Show what became of a transfer or a transaction
    Lookup(LookupArgs),
    /// Show what a key holds
    Get(GetArgs),
    /// Set a key
    Put(PutArgs),
    /// Remove a key, if it exists
    Del(OneKeyArgs),
    /// Append to what a key holds, or to nothing; shows the new length
    Append(PutArgs),
    /// Set a key if it holds what is expected
    Cas(CasArgs),
    /// Add to the number that a key holds, or to 0; shows the new number
    Add(AddArgs),
    /// Show the keys of a range, in order; they share the part before the first `/`
    Scan(ScanArgs),
    /// Show what several keys hold, as one consistent snapshot
    Mget(MgetArgs),
    /// Set several keys: all of them, or none
    Mput(MputArgs),
    /// Exchange what two keys hold
    Swap(SwapArgs),
    /// Carry out the transactions of a file, one after the other
    Txn(TxnArgs),
    /// Check a configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Hunt for bugs in simulated clusters: seeds, faults, checkers
    #[cfg(feature = "verification")]
    Sim(SimArgs),
    /// Check a model of a protocol exhaustively, up to its bounds
    #[cfg(feature = "verification")]
    Check(CheckArgs),
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
        Command::Audit => return crate::audit::main(globals),
        Command::Up(args) => commands::up::up(args, globals),
        Command::Down => commands::up::down(globals),
        Command::Stop(args) => commands::nodes::stop(&args, globals),
        Command::Fail(args) => commands::nodes::fail(&args, globals),
        Command::Start(args) => commands::nodes::start(&args, globals),
        Command::Node(args) => commands::node::node(args, globals),
        Command::Status(args) => ask(globals, async |context| commands::status::status(context, args.actors).await),
        Command::Leader(LeaderArgs { command: None }) => {
            ask(globals, async |context| commands::leader::leader(context).await)
        }
        Command::Leader(LeaderArgs { command: Some(LeaderCommand::Move { group, node }) }) => {
            ask(globals, async |context| commands::leader::move_to(context, group, node).await)
        }
        Command::Ping => ask(globals, async |context| commands::ping::ping(context).await),
        Command::Pending => ask(globals, async |context| commands::pending::pending(context).await),
        Command::Performance => ask(globals, async |context| commands::performance::performance(context).await),
        Command::Db(args) => ask(globals, async |context| commands::db::db(context, &args.target).await),
        Command::Log(args) => ask(globals, async |context| commands::log::log(context, &args).await),
        Command::Committed(args) => {
            ask(globals, async |context| commands::committed::committed(context, &args.target).await)
        }
        Command::Account(command) => ask(globals, async |context| commands::account::account(context, &command).await),
        Command::Balance(args) => ask(globals, async |context| commands::balance::balance(context, &args).await),
        Command::Transfer(args) => ask(globals, async |context| commands::transfer::transfer(context, &args).await),
        Command::Lookup(args) => ask(globals, async |context| commands::lookup::lookup(context, &args).await),
        Command::Get(args) => ask(globals, async |context| keys::get(context, &args).await),
        Command::Put(args) => ask(globals, async |context| keys::put(context, &args).await),
        Command::Del(args) => ask(globals, async |context| keys::del(context, &args).await),
        Command::Append(args) => ask(globals, async |context| keys::append(context, &args).await),
        Command::Cas(args) => ask(globals, async |context| keys::cas(context, &args).await),
        Command::Add(args) => ask(globals, async |context| keys::add(context, &args).await),
        Command::Scan(args) => ask(globals, async |context| keys::scan(context, &args).await),
        Command::Mget(args) => ask(globals, async |context| keys::mget(context, &args).await),
        Command::Mput(args) => ask(globals, async |context| keys::mput(context, &args).await),
        Command::Swap(args) => ask(globals, async |context| keys::swap(context, &args).await),
        Command::Txn(args) => ask(globals, async |context| commands::txn::txn(context, &args).await),
        Command::Config(ConfigCommand::Check) => commands::config::check(globals),
        #[cfg(feature = "verification")]
        Command::Sim(args) => commands::sim::sim(&args, globals.output),
        #[cfg(feature = "verification")]
        Command::Check(args) => commands::check::check(&args),
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

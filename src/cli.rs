//! The command line: its words, and who does what.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use drachma_client::Level;
use drachma_protocol::ids::{AccountId, GroupId, NodeId, TransferId};
use drachma_protocol::ledger::operations::{Key, SCAN_LIMIT};

use crate::commands::{self, ask, keys, text};
use crate::exit::{Exit, Outcome};
use crate::output::Format;
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

/// Reads a duration such as `100ms` or `2s`.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    units::parse(text).map_err(|message| format!("it is {message}"))
}

/// How consistent a command is to be, and what it is to see.
#[derive(Args, Clone, Debug, Default)]
pub struct LevelArgs {
    /// How consistent: linearizable (or quorum); all (every replica); session (ryw: sees what this session has done,
    /// wherever it reads); any (eventual: a read from any replica; a write that a failover may lose) [default:
    /// linearizable; with --session: session]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Level>,
    /// Keep in this file what the session has written and read; made if there is none
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
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

/// `drachma up`.
#[derive(Args, Clone, Copy, Debug)]
pub struct UpArgs {
    /// Leave the nodes running and return when they are ready
    #[arg(long)]
    pub detach: bool,
    /// Remove all old data first
    #[arg(long)]
    pub fresh: bool,
}

/// A command with a target.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// A node (n1), a group (g1), a list (n1,n2) or `all`
    pub target: String,
}

/// `drachma node`.
#[derive(Args, Clone, Copy, Debug)]
pub struct NodeArgs {
    /// Which node of the configuration
    #[arg(long)]
    pub id: NodeId,
    /// Format its data directory instead: once, when the cluster is created
    #[arg(long)]
    pub format: bool,
    /// End when this process, the parent, ends
    #[arg(long, hide = true, value_name = "PROCESS")]
    pub die_with_parent: Option<u32>,
}

/// `drachma status`.
#[derive(Args, Clone, Copy, Debug)]
pub struct StatusArgs {
    /// Show every role actor with the depth of its queue instead
    #[arg(long)]
    pub actors: bool,
}

/// `drachma db`.
#[derive(Args, Clone, Debug)]
pub struct DbArgs {
    /// A node (n1), a group (g1), a list (n1,n2) or `all`
    #[arg(default_value = "all")]
    pub target: String,
}

/// `drachma log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// A node (n1), a group (g1), a list (n1,n2) or `all`
    pub target: String,
    /// From this slot of the log on
    #[arg(long, value_name = "SLOT", default_value_t = 0)]
    pub from: u64,
    /// At most so many records of each replica
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on with what comes later, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Only this transaction
    #[arg(long, value_name = "ID")]
    pub txn: Option<TransferId>,
}

/// `drachma account`.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountCommand {
    /// Create accounts; those that exist with the same content are left as they are
    Create(CreateArgs),
    /// Show an account with its four totals
    Show {
        /// Which
        id: AccountId,
    },
    /// Close an account: it takes no transfers any more, and what is pending there can only be voided
    Close(SwitchArgs),
    /// Open an account that is closed
    Open(SwitchArgs),
    /// Show an account's balances after each change, if it was created with `--history`
    History(HistoryArgs),
    /// List the accounts, as the leaders have applied them
    List {
        /// The shards' reserved accounts, too
        #[arg(long)]
        all: bool,
    },
}

/// `drachma account create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// The accounts' ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<AccountId>,
    /// The currency
    #[arg(long, default_value_t = 1)]
    pub ledger: u32,
    /// Your own classification
    #[arg(long, default_value_t = 1)]
    pub code: u16,
    /// Which way the balance is limited
    #[arg(long, value_enum, default_value_t)]
    pub rule: Rule,
    /// Keep a history of balances
    #[arg(long)]
    pub history: bool,
    /// Create them closed
    #[arg(long)]
    pub closed: bool,
}

/// `drachma account close` and `drachma account open`.
#[derive(Args, Clone, Debug)]
pub struct SwitchArgs {
    /// Which account
    pub account: AccountId,
    /// The id of the closing or opening, 1 to 32 hexadecimal digits: sent again under the same id, it takes effect once
    /// [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// Which way an account's balance is limited.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Rule {
    /// The balance never falls below zero.
    #[default]
    DebitsMustNotExceedCredits,
    /// The balance never rises above zero.
    CreditsMustNotExceedDebits,
    /// No rule.
    None,
}

/// `drachma leader`.
#[derive(Args, Clone, Copy, Debug)]
pub struct LeaderArgs {
    /// Nothing shows the leaders
    #[command(subcommand)]
    pub command: Option<LeaderCommand>,
}

/// `drachma leader move`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LeaderCommand {
    /// Have a node lead a group: planned, without an election timeout; no request is lost
    Move {
        /// The group
        group: GroupId,
        /// The node that is to lead, one of the group's
        node: NodeId,
    },
}

/// `drachma balance`.
#[derive(Args, Clone, Debug)]
pub struct BalanceArgs {
    /// Which account
    pub id: AccountId,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma transfer`.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TransferArgs {
    /// Nothing makes a transfer
    #[command(subcommand)]
    pub command: Option<TransferCommand>,
    /// The account that it comes from
    #[arg(required = true)]
    pub debit: Option<AccountId>,
    /// The account that it goes to
    #[arg(required = true)]
    pub credit: Option<AccountId>,
    /// How much
    #[arg(required = true)]
    pub amount: Option<u128>,
    /// The transfer's id, 1 to 32 hexadecimal digits: sent again under the same id, it takes effect once
    /// [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// The currency of both accounts
    #[arg(long, default_value_t = 1)]
    pub ledger: u32,
    /// Your own classification
    #[arg(long, default_value_t = 1)]
    pub code: u16,
    /// Only reserve the amount; `transfer post` or `transfer void` ends it
    #[arg(long)]
    pub pending: bool,
    /// How long it may stay pending, such as `30s`; then it is voided by itself [default: for ever]
    #[arg(long, value_parser = duration, requires = "pending")]
    pub expires: Option<Duration>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// What ends a pending transfer.
#[derive(Clone, Debug, Subcommand)]
pub enum TransferCommand {
    /// Post a pending transfer, all of it or a part; the rest is released
    Post(PostArgs),
    /// Release a pending transfer
    Void(VoidArgs),
    /// List what was posted to an account, with a code or with user data, or what is pending at an account
    List(ListArgs),
}

/// `drachma transfer list`.
#[derive(Args, Clone, Copy, Debug)]
#[command(group = clap::ArgGroup::new("of").required(true))]
pub struct ListArgs {
    /// What was posted to this account
    #[arg(long, group = "of")]
    pub account: Option<AccountId>,
    /// What was posted with this code
    #[arg(long, group = "of")]
    pub code: Option<u16>,
    /// What was posted with these 128 bits of user data
    #[arg(long, group = "of")]
    pub user_data_128: Option<u128>,
    /// What was posted with these 64 bits of user data
    #[arg(long, group = "of")]
    pub user_data_64: Option<u64>,
    /// What was posted with these 32 bits of user data
    #[arg(long, group = "of")]
    pub user_data_32: Option<u32>,
    /// The pending transfers of this account, ended or not
    #[arg(long, group = "of")]
    pub pending: Option<AccountId>,
    /// Which page
    #[command(flatten)]
    pub page: ListPage,
}

/// A page of a list.
#[derive(Args, Clone, Copy, Debug)]
pub struct ListPage {
    /// The newest first
    #[arg(long)]
    pub newest: bool,
    /// From this log time of the group on, in microseconds
    #[arg(long, value_name = "US", default_value_t = 0)]
    pub since: u64,
    /// Up to before this log time of the group, in microseconds
    #[arg(long, value_name = "US")]
    pub until: Option<u64>,
    /// Where to go on, as the page before says; for lists of one account
    #[arg(long)]
    pub from: Option<u64>,
    /// At most so many rows
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
}

/// `drachma account history`.
#[derive(Args, Clone, Copy, Debug)]
pub struct HistoryArgs {
    /// Which account
    pub account: AccountId,
    /// Which page
    #[command(flatten)]
    pub page: ListPage,
}

/// `drachma transfer post`.
#[derive(Args, Clone, Debug)]
pub struct PostArgs {
    /// The pending transfer's id
    pub pending: TransferId,
    /// The account that it comes from
    pub debit: AccountId,
    /// The account that it goes to
    pub credit: AccountId,
    /// How much of it [default: all]
    #[arg(long)]
    pub amount: Option<u128>,
    /// The id of the posting, 1 to 32 hexadecimal digits: sent again under the same id, it takes effect once
    /// [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma transfer void`.
#[derive(Args, Clone, Debug)]
pub struct VoidArgs {
    /// The pending transfer's id
    pub pending: TransferId,
    /// The account that it comes from
    pub debit: AccountId,
    /// The account that it goes to
    pub credit: AccountId,
    /// The id of the voiding, 1 to 32 hexadecimal digits: sent again under the same id, it takes effect once
    /// [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma lookup`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub struct LookupArgs {
    /// The id of the transfer or transaction
    pub id: TransferId,
    /// The account that it comes from; of a transaction the first that it names
    #[arg(long, value_name = "ACCOUNT", group = "where")]
    pub at: Option<AccountId>,
    /// The first key that the transaction names, if that comes before any account
    #[arg(long, value_name = "KEY", value_parser = text::key, allow_hyphen_values = true, group = "where")]
    pub key: Option<Key>,
    /// Settle it for ever: if it has no outcome, it never will have one
    #[arg(long)]
    pub fence: bool,
}

/// `drachma get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma del`.
#[derive(Args, Clone, Debug)]
pub struct OneKeyArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma put` and `append`.
#[derive(Args, Clone, Debug)]
pub struct PutArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// The value; put `--` before one that begins with `-`
    pub value: String,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma cas`.
#[derive(Args, Clone, Debug)]
pub struct CasArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// What it must hold, and what it then holds; with --absent only the latter
    #[arg(required = true, num_args = 1..=2, value_names = ["EXPECTED", "VALUE"])]
    pub values: Vec<String>,
    /// The key must not exist
    #[arg(long)]
    pub absent: bool,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// What is added; negative to take off
    #[arg(allow_negative_numbers = true)]
    pub number: i64,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma scan`.
#[derive(Args, Clone, Debug)]
pub struct ScanArgs {
    /// The first key, if it exists
    #[arg(value_parser = text::key)]
    pub from: Key,
    /// The first key that is not shown any more [default: all that share the part before the first `/`]
    #[arg(long, value_name = "KEY", value_parser = text::key)]
    pub to: Option<Key>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = SCAN_LIMIT, value_parser = scan_limit)]
    pub limit: u32,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

fn scan_limit(text: &str) -> Result<u32, String> {
    let limit = text.parse().ok().filter(|limit| (1..=SCAN_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("1 to {SCAN_LIMIT} is allowed"))
}

/// `drachma mget`.
#[derive(Args, Clone, Debug)]
pub struct MgetArgs {
    /// Which keys
    #[arg(required = true, value_name = "KEY", value_parser = text::key)]
    pub keys: Vec<Key>,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma mput`.
#[derive(Args, Clone, Debug)]
pub struct MputArgs {
    /// A key, its value, and so on
    #[arg(required = true, num_args = 2.., value_name = "KEY VALUE")]
    pub pairs: Vec<String>,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma swap`.
#[derive(Args, Clone, Debug)]
pub struct SwapArgs {
    /// One key
    #[arg(value_name = "KEY", value_parser = text::key)]
    pub left: Key,
    /// Another one
    #[arg(value_name = "KEY", value_parser = text::key)]
    pub right: Key,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma txn`.
#[derive(Args, Clone, Debug)]
pub struct TxnArgs {
    /// A transaction in TOML (.txn, .toml), or one a line in JSON (.jsonl, .json)
    pub file: PathBuf,
    /// The transaction's id, instead of the file's [default: a new one, if the file has none]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma config`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and say what it means
    Check,
}

/// `drachma sim`.
#[cfg(feature = "verification")]
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit status: 0 nothing found; 1 a promise of safety was broken; 4 a cluster did not come to rest; \
                        5 a role's own assertion failed; of several the first of 1, 5, 4; 2 wrong usage; 130 interrupted."
)]
pub struct SimArgs {
    /// Run this seed, and tell what happened if it fails
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Run so many seeds [default: 100]
    #[arg(long, value_name = "COUNT", conflicts_with = "seed")]
    pub seeds: Option<u64>,
    /// The first of the seeds
    #[arg(long, value_name = "SEED", default_value_t = 0, conflicts_with = "seed")]
    pub from: u64,
    /// How many threads hunt [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Write the whole trace of the seed to this file
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub trace: Option<PathBuf>,
    /// How large the file may be, such as `500KiB` or `1GiB`; of a longer trace the last part is kept
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    pub trace_limit: usize,
    /// How many lines of its trace a failure is told with [default: 60]; with `--seed`, a success, too
    #[arg(long, value_name = "N")]
    pub lines: Option<usize>,
    /// Run the seeds otherwise than they draw, such as `clients=1,operations=5,kinds=kill+pause,faults=2,safety=1.2s`
    #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true, long_help = with_help())]
    pub with: drachma_sim::plan::Overrides,
    /// Do not look for a smaller run that fails the same (a seed that is run with `--with` is left as it is anyway)
    #[arg(long)]
    pub no_shrink: bool,
    /// How long to look for a smaller run
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub shrink_for: Duration,
    /// Measure instead how long a group is silent that loses its leader: so many times
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["seed", "seeds", "with", "trace"])]
    pub failovers: Option<u64>,
    /// Plant known bugs, these or all, one at a time, and see that each is found (in a build that has them)
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "seed")]
    pub planted: Option<Vec<String>>,
}

#[cfg(feature = "verification")]
fn with_help() -> String {
    format!("Run the seeds otherwise than they draw. A list of: {}", drachma_sim::plan::Overrides::HELP)
}

/// Reads a size such as `64MiB` or `1000`.
///
/// # Errors
/// What is allowed.
#[cfg(feature = "verification")]
fn size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];
    let parsed = units.iter().find_map(|(unit, factor)| {
        let number: usize = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*factor)
    });
    parsed.ok_or_else(|| "it is not a size such as 1000, 500KiB, 64MiB or 1GiB".to_owned())
}

/// `drachma check`. What is not given has the model's own default.
#[cfg(feature = "verification")]
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Which model: `paxos` or `commit`
    pub model: String,
    /// Look at paths of at most so many steps [default: all]
    #[arg(long, value_name = "N")]
    pub depth: Option<usize>,
    /// Stop after about so many states [default: all; a simulation: 1000000]
    #[arg(long, value_name = "N")]
    pub states: Option<usize>,
    /// So many elections after the first; for `commit`, failures of leaders
    #[arg(long, value_name = "N")]
    pub elections: Option<u8>,
    /// So many hand-overs of leadership (only `paxos`)
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub moves: Option<u8>,
    /// So many crashes
    #[arg(long, value_name = "N")]
    pub crashes: Option<u8>,
    /// Of the crashes, after so many the last record of the node's log is found damaged (only `paxos`) [default: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub doubt: Option<u8>,
    /// Let timers fire, so often
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub timers: Option<u8>,
    /// Lose so many messages
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub lossy: Option<u8>,
    /// Deliver so many messages once more
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub duplicating: Option<u8>,
    /// So many commands of clients, at most 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=4))]
    pub commands: Option<u8>,
    /// Check this invariant, too: for `paxos` log-matching, for `commit` votes-are-applied
    #[arg(long, value_name = "NAME")]
    pub invariant: Vec<String>,
    /// Search with so many threads [default: 2; with `--depth` 1, since only then nothing just below it is left out]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Visit states by their distance from the beginning: a counterexample is a shortest one (the default)
    #[arg(long, group = "order")]
    pub bfs: bool,
    /// Visit states depth first: less memory
    #[arg(long, group = "order")]
    pub dfs: bool,
    /// Walk at random instead
    #[arg(long, group = "order")]
    pub simulate: bool,
    /// Determines the walks of `--simulate`
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Show progress, and a shortest path to everything that happens sometimes
    #[arg(long)]
    pub verbose: bool,
    /// Serve the explorer to a browser at this address instead, until interrupted
    #[arg(long, value_name = "ADDRESS")]
    pub serve: Option<std::net::SocketAddr>,
    /// Plant this bug first (only in builds with the feature `planted`)
    #[arg(long, value_name = "NAME")]
    pub plant: Option<String>,
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

//! The commands that ask a running cluster: they need nothing but a connection.

use clap::Subcommand;

use super::Globals;
use crate::commands::account::AccountCommand;
use crate::commands::balance::BalanceArgs;
use crate::commands::db::DbArgs;
use crate::commands::keys::{
    self, AddArgs, CasArgs, GetArgs, MgetArgs, MputArgs, OneKeyArgs, PutArgs, ScanArgs, SwapArgs,
};
use crate::commands::leader::{LeaderArgs, LeaderCommand};
use crate::commands::log::LogArgs;
use crate::commands::lookup::LookupArgs;
use crate::commands::nodes::TargetArgs;
use crate::commands::status::StatusArgs;
use crate::commands::transfer::TransferArgs;
use crate::commands::txn::TxnArgs;
use crate::commands::{self, Context};
use crate::exit::Outcome;

/// A command that asks a running cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
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
    Transfer(Box<TransferArgs>),
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
}

impl Ask {
    /// Carries it out.
    ///
    /// # Errors
    /// As each command.
    pub(crate) async fn carry_out(&self, context: &Context, globals: &Globals) -> Outcome {
        match self {
            Ask::Status(args) => commands::status::status(context, args.actors).await,
            Ask::Leader(LeaderArgs { command: None }) => commands::leader::leader(context).await,
            Ask::Leader(LeaderArgs { command: Some(LeaderCommand::Move { group, node }) }) => {
                commands::leader::move_to(context, *group, *node).await
            }
            Ask::Ping => commands::ping::ping(context).await,
            Ask::Pending => commands::pending::pending(context).await,
            Ask::Audit => crate::audit::command(context, globals.timeout).await,
            Ask::Performance => commands::performance::performance(context).await,
            Ask::Db(args) => commands::db::db(context, &args.target).await,
            Ask::Log(args) => commands::log::log(context, args).await,
            Ask::Committed(args) => commands::committed::committed(context, &args.target).await,
            Ask::Account(command) => commands::account::account(context, command).await,
            Ask::Balance(args) => commands::balance::balance(context, args).await,
            Ask::Transfer(args) => commands::transfer::transfer(context, args).await,
            Ask::Lookup(args) => commands::lookup::lookup(context, args).await,
            Ask::Get(args) => keys::get(context, args).await,
            Ask::Put(args) => keys::put(context, args).await,
            Ask::Del(args) => keys::del(context, args).await,
            Ask::Append(args) => keys::append(context, args).await,
            Ask::Cas(args) => keys::cas(context, args).await,
            Ask::Add(args) => keys::add(context, args).await,
            Ask::Scan(args) => keys::scan(context, args).await,
            Ask::Mget(args) => keys::mget(context, args).await,
            Ask::Mput(args) => keys::mput(context, args).await,
            Ask::Swap(args) => keys::swap(context, args).await,
            Ask::Txn(args) => commands::txn::txn(context, args).await,
        }
    }
}

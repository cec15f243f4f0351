//! `drachma lookup`.

use clap::Args;
use drachma_client::Status;
use drachma_protocol::ids::{AccountId, TransferId, TxnId};
use drachma_protocol::ledger::model::Outcome as Settled;
use drachma_protocol::ledger::operations::Key;
use drachma_protocol::placement::map::ShardMap;

use super::{Context, text, transfer};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell};

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

/// Shows what became of a transfer or a transaction; with a fence, settles it.
///
/// # Errors
/// With exit status 3 if there is no answer in time. The exit status is 0 if it committed, 1 if it was
/// rejected or is not found.
pub async fn lookup(context: &Context, args: &LookupArgs) -> Outcome {
    let map = context.client.map().map;
    // A transaction that begins with a key has its id at the reserved account of the key's shard.
    let of_key = args.key.as_ref().map(|key| ShardMap::reserved(map.shard_of_key(key)));
    let Some(first) = args.at.or(of_key) else { return Err(Failure::usage("--at ACCOUNT or --key KEY is needed")) };
    let txn = TxnId { id: args.id, first };
    let status = if args.fence {
        Some(context.client.fence(txn, Some(context.timeout)).await.status)
    } else {
        let found = context.client.lookup(txn, Some(context.timeout)).await;
        match found.map_err(|_| Failure::unavailable(format!("no answer in time about {}; try again", args.id)))? {
            Some(Settled::Committed) => Some(Status::Committed),
            Some(Settled::Rejected(reason)) => Some(Status::Rejected(reason)),
            None => None,
        }
    };
    let (outcome, reason, exit) = status.map_or(("not_found", Cell::None, Exit::Failed), transfer::words);
    let row = vec![Cell::text(args.id), Cell::text(outcome), reason];
    output::print(context.format, &["id", "outcome", "reason"], &[row])?;
    if status.is_none() {
        eprintln!("not final: it may be on its way; --fence settles it for ever");
    }
    Ok(exit)
}

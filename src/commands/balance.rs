//! `drachma balance`.

use clap::Args;
use drachma_client::Status;
use drachma_protocol::ids::AccountId;
use drachma_protocol::ledger::operations::{Operation, Reply};

use super::Context;
use super::level::{LevelArgs, Requests, Unread};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};

/// `drachma balance`.
#[derive(Args, Clone, Debug)]
pub struct BalanceArgs {
    /// Which account
    pub id: AccountId,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// Reads an account's balance.
///
/// # Errors
/// With exit status 1 if there is no such account, or replicas differ, 3 if it cannot be read in time. The exit status is
/// 3, too, if not every replica has answered and the level wants that.
pub async fn balance(context: &Context, args: &BalanceArgs) -> Outcome {
    let (id, requests) = (args.id, Requests::open(context, &args.at)?);
    let read = requests.query(&[Operation::Read(id)]).await.map_err(|unread| match unread {
        Unread::Status(status) => not_read(id, status),
        Unread::Failure(failure) => failure,
    })?;
    let Some(Reply::Account(account)) = read.replies.first() else { return Err(no_account(id)) };
    let (age, slot) = (requests.age(&read), read.slots.values().next());
    if context.format == Format::Table {
        output::line(account.balance())?;
    } else {
        let (balance, slot) = (Cell::number(account.balance()), slot.map_or(Cell::None, Cell::number));
        let row = vec![Cell::number(id), balance, slot, age, requests.met(read.level_met)];
        output::print(context.format, &["account", "balance", "slot", "age_us", "level_met"], &[row])?;
    }
    Ok(requests.exit(Exit::Done, read.level_met))
}

/// The words for a read that has no answer.
pub(super) fn not_read(id: AccountId, status: Status) -> Failure {
    match status {
        Status::Unavailable => Failure::unavailable(format!(
            "unavailable: the group of account {id} has no majority; `drachma status` shows which nodes are down"
        )),
        _ => Failure::unavailable(format!("account {id} could not be read in time; a longer --timeout may help")),
    }
}

pub(super) fn no_account(id: AccountId) -> Failure {
    Failure::failed(format!("there is no account {id}"))
}

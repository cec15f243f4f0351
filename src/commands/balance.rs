//! `drachma balance`.

use drachma_client::Status;
use drachma_protocol::ids::AccountId;

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};

/// Reads an account's balance, linearizably.
///
/// # Errors
/// With exit status 1 if there is no such account, 3 if it cannot be read in time.
pub async fn balance(context: &Context, id: AccountId) -> Outcome {
    let answer = context.client.read(id, Some(context.timeout)).await;
    let account = answer.account.map_err(|status| not_read(id, status))?;
    let account = account.ok_or_else(|| no_account(id))?;
    if context.format == Format::Table {
        output::line(account.balance())?;
        return Ok(Exit::Done);
    }
    let row = vec![Cell::number(id), Cell::number(account.balance()), Cell::number(answer.slot)];
    output::print(context.format, &["account", "balance", "slot"], &[row])?;
    Ok(Exit::Done)
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

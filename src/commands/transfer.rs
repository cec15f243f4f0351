//! `drachma transfer`, `transfer post` and `transfer void`; `transfer list` is in `lists`.

use std::time::Duration;

use clap::{Args, Subcommand};
use drachma_client::{Answer, Leveled, Status};
use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::ledger::operations::{Operation, Pend, PostPending, Transaction, VoidPending};
use drachma_protocol::time::Span;

use super::level::{LevelArgs, Requests};
use super::lists::ListArgs;
use super::{Context, lists, txn};
use crate::cli::duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell};

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

const HEADERS: [&str; 5] = ["id", "outcome", "reason", "replayed", "attempts"];

/// Moves money, or reserves it, or ends what is reserved: exactly once under its id.
///
/// # Errors
/// If standard output fails. The exit status is 1 if it was rejected, 3 if its outcome is not known; then the line that
/// settles it is printed. It is 3, too, if the level was not met.
pub async fn transfer(context: &Context, args: &TransferArgs) -> Outcome {
    match &args.command {
        None => make(context, args).await,
        Some(TransferCommand::Post(args)) => {
            let PostArgs { pending, debit, credit, amount, id, at } = args;
            let id = txn::id(*id)?;
            let post = PostPending { id, pending: *pending, debit: *debit, credit: *credit, amount: *amount };
            alone(context, at, id, *debit, Operation::Post(post)).await
        }
        Some(TransferCommand::List(args)) => lists::transfers(context, *args).await,
        Some(TransferCommand::Void(args)) => {
            let VoidArgs { pending, debit, credit, id, at } = args;
            let id = txn::id(*id)?;
            let void = VoidPending { id, pending: *pending, debit: *debit, credit: *credit };
            alone(context, at, id, *debit, Operation::Void(void)).await
        }
    }
}

async fn make(context: &Context, args: &TransferArgs) -> Outcome {
    let (Some(debit), Some(credit), Some(amount)) = (args.debit, args.credit, args.amount) else {
        return Err(Failure::usage("a transfer has a debit account, a credit account and an amount"));
    };
    let id = txn::id(args.id)?;
    let (ledger, code) = (args.ledger, args.code);
    let transfer = Transfer { id, debit, credit, amount, ledger, code, ..Transfer::default() };
    if args.pending {
        let timeout =
            args.expires.map_or(Span(0), |timeout| Span(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX)));
        return alone(context, &args.at, id, debit, Operation::Pend(Pend { transfer, timeout })).await;
    }
    let requests = Requests::open(context, &args.at)?;
    let done = requests.transfer(transfer).await?;
    told(context, &requests, id, debit, &done)
}

/// Nothing but this, under its own id. `first`: the account that the id belongs to.
pub(super) async fn alone(
    context: &Context,
    at: &LevelArgs,
    id: TransferId,
    first: AccountId,
    operation: Operation,
) -> Outcome {
    let requests = Requests::open(context, at)?;
    let transaction = Transaction { id, conditions: Vec::new(), operations: vec![operation] };
    let Leveled { answer: done, level_met } = txn::carry_out(&requests, &transaction).await?;
    let answer = Answer { status: done.status, replayed: done.replayed, attempts: done.attempts };
    told(context, &requests, id, first, &Leveled { answer, level_met })
}

/// Says what became of it, and how to settle what is not known.
fn told(
    context: &Context,
    requests: &Requests<'_>,
    id: TransferId,
    first: AccountId,
    done: &Leveled<Answer>,
) -> Outcome {
    let (mut row, exit) = row(id, &done.answer);
    let mut headers = HEADERS.to_vec();
    requests.add_met(done.level_met, &mut headers, &mut row);
    output::print(context.format, &headers, &[row])?;
    if exit == Exit::Unavailable {
        eprintln!("whether it took effect is not known; this tells, and settles it:");
        eprintln!("  drachma lookup {id} --at {first} --fence");
    }
    if exit == Exit::Done && done.answer.status == Status::Accepted {
        eprintln!("accepted is no outcome; this tells what became of it:");
        eprintln!("  drachma lookup {id} --at {first}");
    }
    Ok(requests.exit(exit, done.level_met))
}

fn row(id: TransferId, answer: &Answer) -> (Vec<Cell>, Exit) {
    let (outcome, reason, exit) = words(answer.status);
    let replayed = if answer.replayed { Cell::Bool(true) } else { Cell::None };
    (vec![Cell::text(id), Cell::text(outcome), reason, replayed, Cell::number(answer.attempts)], exit)
}

/// An outcome in the vocabulary that is the same everywhere, its reason, and the exit status.
pub(super) fn words(status: Status) -> (&'static str, Cell, Exit) {
    match status {
        Status::Committed => ("committed", Cell::None, Exit::Done),
        Status::Rejected(reason) => ("rejected", Cell::text(reason), Exit::Failed),
        Status::Accepted => ("accepted", Cell::None, Exit::Done),
        Status::Unavailable => ("unavailable", Cell::None, Exit::Unavailable),
        Status::Unknown => ("unknown", Cell::None, Exit::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drachma_protocol::ledger::model::Reason;

    #[test]
    fn every_outcome_has_its_exit_status() {
        let of = |status| {
            let (row, exit) = row(TransferId(255), &Answer { status, replayed: false, attempts: 2 });
            (output::object(&HEADERS, &row), exit.status())
        };
        let id = "\"id\":\"000000000000000000000000000000ff\"";
        assert_eq!(of(Status::Committed), (format!("{{{id},\"outcome\":\"committed\",\"attempts\":2}}"), 0));
        let rejected = format!("{{{id},\"outcome\":\"rejected\",\"reason\":\"exceeds_credits\",\"attempts\":2}}");
        assert_eq!(of(Status::Rejected(Reason::ExceedsCredits)), (rejected, 1));
        assert_eq!(of(Status::Accepted), (format!("{{{id},\"outcome\":\"accepted\",\"attempts\":2}}"), 0));
        assert_eq!(of(Status::Unavailable).1, 3);
        assert_eq!(of(Status::Unknown).1, 3);
    }
}

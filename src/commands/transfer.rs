//! `drachma transfer`.

use drachma_client::{Answer, Status};
use drachma_protocol::ids::TransferId;
use drachma_protocol::ledger::model::Transfer;

use super::Context;
use super::level::Requests;
use crate::cli::TransferArgs;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

const HEADERS: [&str; 5] = ["id", "outcome", "reason", "replayed", "attempts"];

/// Moves money, exactly once under its id.
///
/// # Errors
/// If standard output fails. The exit status is 1 if it was rejected, 3 if its outcome is not known; then the line that
/// settles it is printed. It is 3, too, if the level was not met.
pub async fn transfer(context: &Context, args: &TransferArgs) -> Outcome {
    let requests = Requests::open(context, &args.at)?;
    let id = match args.id {
        Some(id) => id,
        None => TransferId(crate::id::fresh()?),
    };
    let transfer = Transfer {
        id,
        debit: args.debit,
        credit: args.credit,
        amount: args.amount,
        ledger: args.ledger,
        code: args.code,
        ..Transfer::default()
    };
    let done = requests.transfer(transfer).await?;
    let (mut row, exit) = row(id, &done.answer);
    let mut headers = HEADERS.to_vec();
    requests.add_met(done.level_met, &mut headers, &mut row);
    output::print(context.format, &headers, &[row])?;
    if exit == Exit::Unavailable {
        eprintln!("whether it took effect is not known; this tells, and settles it:");
        eprintln!("  drachma lookup {id} --at {} --fence", args.debit);
    }
    if exit == Exit::Done && done.answer.status == Status::Accepted {
        eprintln!("accepted is no outcome; this tells what became of it:");
        eprintln!("  drachma lookup {id} --at {}", args.debit);
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

//! Of several contents under one id at most one has an outcome of its own; the others are told of the conflict.

use drachma_protocol::ids::TxnId;
use drachma_protocol::ledger::model::{Outcome, Reason, Transfer};

use super::{Checker, End, Verdict};
use crate::history::{ContestRecord, TransferRecord};

const CONFLICT: Outcome = Outcome::Rejected(Reason::IdConflict);
const FENCED: Outcome = Outcome::Rejected(Reason::Fenced);

/// See the module.
pub struct Contests;

impl Checker for Contests {
    fn name(&self) -> &'static str {
        "contests"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        for (txn, contest) in &end.history.contests {
            let outcome = match end.history.transfers.get(txn) {
                Some(first) => late_rivals(first, contest)?,
                None => equal_rivals(contest)?,
            };
            posted_as_answered(end, *txn, outcome)?;
        }
        Ok(())
    }
}

/// The id was settled before the rivals were sent: all they can be told is that, or of the conflict.
fn late_rivals(first: &TransferRecord, contest: &ContestRecord) -> Result<Option<(Transfer, Outcome)>, String> {
    let Some(settled) = first.outcome() else { return Ok(None) };
    for rival in &contest.rivals {
        // A fence answers whatever content comes.
        let is_right = |answer: Outcome| answer == CONFLICT || (settled == FENCED && answer == FENCED);
        if let Some((_, wrong)) = rival.answers.iter().find(|(_, answer)| !is_right(*answer)) {
            return Err(format!("{rival:?} was answered {wrong:?} under an id that was settled before: {first:?}"));
        }
    }
    Ok(Some((first.transfer, settled)))
}

/// Nobody was first: the first outcome of any of them is the outcome of the id.
fn equal_rivals(contest: &ContestRecord) -> Result<Option<(Transfer, Outcome)>, String> {
    let mut winner: Option<(Transfer, Outcome)> = None;
    let mut fenced = false;
    for rival in &contest.rivals {
        for (_, answer) in &rival.answers {
            match (*answer, winner) {
                (CONFLICT, _) => {}
                (FENCED, _) => fenced = true,
                (outcome, None) => winner = Some((rival.transfer, outcome)),
                (outcome, Some((transfer, known))) if (transfer, known) == (rival.transfer, outcome) => {}
                (outcome, Some(other)) => {
                    return Err(format!("{:?} was answered {outcome:?}, and {other:?} has the id", rival.transfer));
                }
            }
        }
    }
    for (_, outcome) in &contest.settled {
        let is_right = match winner {
            Some((_, won)) => won == *outcome,
            None => *outcome != CONFLICT,
        };
        if !is_right || (fenced && *outcome != FENCED) {
            return Err(format!("the id was settled as {outcome:?}: {contest:?}"));
        }
    }
    if fenced && winner.is_some() {
        return Err(format!("the id was fenced and has another outcome: {contest:?}"));
    }
    Ok(winner)
}

/// What is posted under the id is the content that was committed.
fn posted_as_answered(end: &End<'_>, txn: TxnId, outcome: Option<(Transfer, Outcome)>) -> Verdict {
    let Some((transfer, outcome)) = outcome else { return Ok(()) };
    for (group, rows) in end.posted() {
        let row = rows.get(&txn);
        let owns = |account| end.shape.map.owner_of(account) == Some(*group);
        let touches = owns(transfer.debit) || owns(transfer.credit);
        match row {
            Some(row) if outcome != Outcome::Committed || row.transfer != transfer => {
                return Err(format!("{group} posted {row:?}; {transfer:?} was answered {outcome:?}"));
            }
            None if outcome == Outcome::Committed && touches => {
                return Err(format!("{group} did not post {transfer:?}, which was answered {outcome:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

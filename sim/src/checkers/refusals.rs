//! What is malformed, or was sent where it does not belong, is refused and changes nothing; what is well made is not
//! refused as malformed.

use drachma_protocol::ids::TxnId;
use drachma_protocol::ledger::model::{CreateResult, NewAccount, Outcome, Reason, Transfer, TransferResult};
use drachma_protocol::message::client::Response;

use super::{Checker, End, Verdict};
use crate::history::BadRecord;

/// See the module.
pub struct Refusals;

impl Checker for Refusals {
    fn name(&self) -> &'static str {
        "refusals"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        if let Some(surprise) = end.history.surprises.first() {
            return Err(surprise.clone());
        }
        for bad in &end.history.bad {
            if let Some((at, wrong)) = bad.answers.iter().find(|(_, response)| !is_refusal(bad, response)) {
                return Err(format!("at {at} this was answered {wrong:?}: {bad:?}"));
            }
            untouched(end, &bad.transfers, &bad.accounts)?;
        }
        Ok(())
    }
}

fn is_refusal(bad: &BadRecord, response: &Response) -> bool {
    match response {
        Response::Refused(_) => true,
        Response::Transfers(done) => {
            done.items.len() == bad.transfers.len()
                && done.items.iter().all(|item| matches!(item.result, TransferResult::Moved | TransferResult::Unknown))
        }
        // Other content under an id says that it is, or that nothing may ever come of the id.
        Response::Transaction(done) => !matches!(done.result, TransferResult::Done(outcome)
            if !matches!(outcome, Outcome::Rejected(Reason::IdConflict | Reason::Fenced))),
        Response::Created(done) => done.results.iter().all(|result| *result == CreateResult::Moved),
        _ => false,
    }
}

/// None of this has happened anywhere.
pub(super) fn untouched(end: &End<'_>, transfers: &[Transfer], accounts: &[NewAccount]) -> Verdict {
    for (group, replicas) in end.groups {
        let Some(replica) = replicas.first() else { continue };
        for transfer in transfers {
            if end.posted().get(group).is_some_and(|rows| rows.contains_key(&TxnId::from(transfer))) {
                return Err(format!("{group} posted {transfer:?}, which was never to be carried out"));
            }
        }
        for new in accounts {
            if replica.accounts.iter().any(|account| account.id == new.id) {
                return Err(format!("{group} created {new:?}, which was never to be carried out"));
            }
        }
    }
    Ok(())
}

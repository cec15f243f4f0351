//! The invariants of the bank and of the ledger, on what their clients saw.

use drachma_protocol::ledger::model::{Account, Flags};
use drachma_workload::{bank, ledger};

use super::{Checker, End, Verdict};
use crate::client::town::Town;

/// See the module.
pub struct Workloads;

impl Checker for Workloads {
    fn name(&self) -> &'static str {
        "workloads"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let town = Town::of(end.shape);
        for snapshot in &end.history.snapshots {
            // All at once are read only by clients that have seen the bank funded.
            if snapshot.accounts.iter().map(|(id, _)| id).eq(&town.bank.accounts) {
                bank::check(&town.bank, &snapshot.accounts)
                    .map_err(|text| format!("{text}; read from {} to {}", snapshot.invoked, snapshot.completed))?;
            }
        }
        let transfers = end.history.transfers.values().map(|record| (&record.transfer, record.outcome()));
        ledger::check(&town.ledger, transfers)?;
        end.history.reads.iter().filter_map(|read| read.found.as_ref()).try_for_each(not_negative)
    }
}

fn not_negative(account: &Account) -> Verdict {
    let is_limited = account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS);
    if is_limited && account.balance().negative {
        return Err(format!("a read found less than nothing: {account:?}"));
    }
    Ok(())
}

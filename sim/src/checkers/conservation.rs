//! Money is neither made nor lost: in each group at every moment, over all groups when nothing is under way, and in
//! each account as the posted transfers say.

use std::collections::BTreeMap;

use drachma_protocol::ids::AccountId;
use drachma_protocol::ledger::model::Sides;
use drachma_protocol::message::operator::Totals;

use super::{Applied, Checker, End, ReplicaView, Verdict};
use crate::shape::Shape;

/// See the module.
pub struct Conservation;

impl Checker for Conservation {
    fn name(&self) -> &'static str {
        "conservation"
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        balanced(applied.totals).map_err(|text| format!("{} on {}: {text}", applied.group, applied.node))
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let mut sums: BTreeMap<u32, (u128, u128)> = BTreeMap::new();
        for (group, replicas) in end.groups {
            let Some(replica) = replicas.first() else { continue };
            books(end.shape, replica).map_err(|text| format!("{group}: {text}"))?;
            for totals in &replica.totals.ledgers {
                let sum = sums.entry(totals.ledger).or_default();
                sum.0 = sum.0.wrapping_add(totals.sent);
                sum.1 = sum.1.wrapping_add(totals.received);
            }
        }
        match sums.iter().find(|(_, (sent, received))| sent != received) {
            Some((ledger, (sent, received))) => {
                Err(format!("in ledger {ledger} the groups sent {sent} to each other and received {received}"))
            }
            None => Ok(()),
        }
    }
}

fn balanced(totals: &Totals) -> Verdict {
    for ledger in &totals.ledgers {
        let held = ledger.debits.wrapping_sub(ledger.credits);
        if held != ledger.sent.wrapping_sub(ledger.received) {
            return Err(format!("debits less credits are not sent less received at {}: {ledger:?}", totals.applied));
        }
    }
    Ok(())
}

/// Each account holds what it began with and what was posted.
fn books(shape: &Shape, replica: &ReplicaView) -> Verdict {
    let mut posted: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
    for row in &replica.posted {
        if row.sides != Sides::Credit {
            posted.entry(row.transfer.debit).or_default().0 += row.transfer.amount;
        }
        if row.sides != Sides::Debit {
            posted.entry(row.transfer.credit).or_default().1 += row.transfer.amount;
        }
    }
    for account in &replica.accounts {
        if account.id.0 > u128::from(shape.accounts) {
            continue; // The other side of the opening balances takes part in no transfer.
        }
        let (debits, credits) = posted.get(&account.id).copied().unwrap_or_default();
        let expected = (debits, credits + shape.initial_balance);
        if (account.debits_posted, account.credits_posted) != expected {
            return Err(format!("the posted transfers make {expected:?} of account {account:?}"));
        }
    }
    Ok(())
}

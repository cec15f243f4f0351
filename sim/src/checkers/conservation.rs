//! Number 6: money is neither made nor lost. In each group and ledger, after every entry, debits less credits are what
//! was sent to other groups less what was received. At the end each account holds what it began with and what was
//! posted, what was sent and received is what was posted by halves, and over all groups it cancels on a cut in which
//! what one group has posted counts as posted everywhere (hazard A1).

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::Sides;
use drachma_protocol::message::operator::Totals;

use super::{Applied, Checker, End, ReplicaView, Verdict};
use crate::shape::Shape;

/// See the module.
pub struct Conservation;

/// By ledger: what was sent, and what was received.
type Flows = BTreeMap<u32, (u128, u128)>;

impl Checker for Conservation {
    fn name(&self) -> &'static str {
        "conservation"
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Some(state) = applied.state else { return Ok(()) };
        balanced(state.totals).map_err(|text| format!("{} on {}: {text}", applied.group, applied.node))
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let mut sums = Flows::new();
        for (group, replica) in end.furthest() {
            balanced(&replica.totals).map_err(|text| format!("{group}: {text}"))?;
            books(end.shape, replica).map_err(|text| format!("{group}: {text}"))?;
            let posted = halves(replica);
            for totals in &replica.totals.ledgers {
                let (sent, received) = posted.get(&totals.ledger).copied().unwrap_or_default();
                if (sent, received) != (totals.sent, totals.received) {
                    return Err(format!("{group} posted {sent} sent and {received} received, and counts {totals:?}"));
                }
                let sum = sums.entry(totals.ledger).or_default();
                *sum = (sum.0.wrapping_add(sent), sum.1.wrapping_add(received));
            }
        }
        under_way(end, &mut sums);
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

/// What was posted one side only.
fn halves(replica: &ReplicaView) -> Flows {
    let mut flows = Flows::new();
    for row in &replica.posted {
        let flow = flows.entry(row.transfer.ledger).or_default();
        match row.sides {
            Sides::Debit => flow.0 = flow.0.wrapping_add(row.transfer.amount),
            Sides::Credit => flow.1 = flow.1.wrapping_add(row.transfer.amount),
            Sides::Both => {}
        }
    }
    flows
}

/// Adds the other half of what only one group has posted: on the cut it is everywhere.
fn under_way(end: &End<'_>, sums: &mut Flows) {
    let mut halves: BTreeMap<(TxnId, bool), (u32, u128)> = BTreeMap::new();
    for (_, replica) in end.furthest() {
        for row in replica.posted.iter().filter(|row| row.sides != Sides::Both) {
            let key = (TxnId::from(&row.transfer), row.sides == Sides::Debit);
            halves.insert(key, (row.transfer.ledger, row.transfer.amount));
        }
    }
    for ((txn, is_debit), (ledger, amount)) in &halves {
        if !halves.contains_key(&(*txn, !is_debit)) {
            let sum = sums.entry(*ledger).or_default();
            let side = if *is_debit { &mut sum.1 } else { &mut sum.0 };
            *side = side.wrapping_add(*amount);
        }
    }
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
        if account.id.0 > u128::MAX - shape.map.owners.len() as u128 {
            continue; // The other side of the opening balances takes part in no transfer.
        }
        let (debits, credits) = posted.get(&account.id).copied().unwrap_or_default();
        let exists = (1..=u128::from(shape.accounts)).contains(&account.id.0);
        let opening = if exists { shape.initial_balance } else { 0 };
        let expected = (debits, credits + opening);
        if (account.debits_posted, account.credits_posted) != expected {
            return Err(format!("the posted transfers make {expected:?} of account {account:?}"));
        }
    }
    Ok(())
}

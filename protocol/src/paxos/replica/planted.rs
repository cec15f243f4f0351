//! Reads that do not wait for a quiet moment (hazards S1b, S1c), for the bugs of that name; no part of other builds.

use std::collections::BTreeMap;

use crate::ids::TxnId;
use crate::ledger::model::{Account, Outcome};
use crate::message::client::{ReadDone, Response};
use crate::message::local::ReadTicket;
use crate::planted::{Bug, is_planted};
use crate::role::Effects;

use super::Replica;

/// A read, the account as it was posted at its arrival, and what was in doubt then.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    ticket: ReadTicket,
    account: Account,
    in_doubt: BTreeMap<TxnId, (u128, u128)>,
}

impl Replica {
    /// Remembers what a read that meets something in doubt sees; false if no such bug is planted.
    pub(super) fn capture(&mut self, ticket: ReadTicket) -> bool {
        if !is_planted(Bug::ReadAddsOutcomes) && !is_planted(Bug::ReadOmitsPrepares) {
            return false;
        }
        let Some(account) = self.ledger.posted_account(ticket.account) else { return false };
        let doubts = self.ledger.doubts_of(ticket.account);
        let in_doubt = doubts.into_iter().map(|(txn, debit, credit)| (txn, (debit, credit))).collect();
        self.captured.push(Captured { ticket, account, in_doubt });
        true
    }

    /// Answers the reads for which all that was in doubt at their arrival is resolved.
    pub(super) fn serve_captured(&mut self, effects: &mut Effects) {
        let ledger = &self.ledger;
        let open = |read: &Captured| {
            ledger.doubts_of(read.ticket.account).iter().any(|(txn, ..)| read.in_doubt.contains_key(txn))
        };
        for read in self.captured.extract_if(.., |read| !open(read)).collect::<Vec<_>>() {
            let mut account = self.ledger.posted_account(read.ticket.account).unwrap_or(read.account);
            if is_planted(Bug::ReadAddsOutcomes) {
                account = read.account;
                for (txn, (debit, credit)) in &read.in_doubt {
                    if self.ledger.outcome(*txn) == Some(Outcome::Committed) {
                        account.debits_posted += debit;
                        account.credits_posted += credit;
                    }
                }
            }
            let done = ReadDone { account: Some(account), slot: self.ledger.applied() };
            effects.reply(read.ticket.origin, Response::Read(done));
        }
    }
}

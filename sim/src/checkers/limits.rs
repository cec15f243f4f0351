//! No account is ever beyond its limit.

use drachma_protocol::ledger::model::Flags;

use super::{Checker, Sample, Verdict};

/// See the module.
pub struct Limits;

impl Checker for Limits {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn on_sample(&mut self, sample: &Sample<'_>) -> Verdict {
        for account in sample.accounts {
            let debits = account.debits_posted.saturating_add(account.debits_pending);
            let credits = account.credits_posted.saturating_add(account.credits_pending);
            let owes = account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS) && debits > account.credits_posted;
            let is_owed = account.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS) && credits > account.debits_posted;
            if owes || is_owed {
                return Err(format!("{} on {}: beyond its limit: {account:?}", sample.group, sample.node));
            }
        }
        Ok(())
    }
}

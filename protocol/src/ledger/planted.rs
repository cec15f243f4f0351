//! What bugs that are planted here need beyond a condition at their place; no part of other builds.

use super::Ledger;
use super::accounts::Whereabouts;
use super::model::Account;
use super::transfers::Post;
use crate::ids::{AccountId, TxnId};
use crate::planted::{Bug, is_planted};
use crate::time::{LogTime, Span};

/// What is prepared is let go after so long, if that bug is planted.
const PATIENCE: Span = Span::from_millis(2_000);

impl Ledger {
    /// Lets go of what was prepared long before `now` for other groups.
    pub(super) fn lose_holds(&mut self, bug: Bug, now: LogTime) {
        if !is_planted(bug) {
            return;
        }
        for txn in self.transactions.prepared_for_others(self.group, now, PATIENCE) {
            self.let_go(txn);
        }
    }

    /// Posts once more what was posted under an id.
    pub(super) fn post_again(&mut self, txn: TxnId) {
        let transfer = self.posted.from(0).map(|row| row.posted.transfer).find(|transfer| TxnId::from(transfer) == txn);
        if let Some(transfer) = transfer
            && let Ok(effects) = self.effects_here(&transfer)
        {
            self.post_all(&[Post::alone(&transfer, transfer.digest(), &effects)]);
        }
    }

    /// An account as posted, whatever is in doubt.
    pub(crate) fn posted_account(&self, account: AccountId) -> Option<Account> {
        match self.accounts.whereabouts(account) {
            Whereabouts::Here(place) => Some(self.accounts.row(place).account),
            _ => None,
        }
    }

    /// What is in doubt at an account: by transaction, what would go out and what would come in.
    pub(crate) fn doubts_of(&self, account: AccountId) -> Vec<(TxnId, u128, u128)> {
        let Whereabouts::Here(place) = self.accounts.whereabouts(account) else { return Vec::new() };
        let effects = self.transactions.prepared_effects();
        effects
            .filter(|(_, effect)| effect.place == place)
            .map(|(txn, e)| (txn, e.debit.posts, e.credit.posts))
            .collect()
    }
}

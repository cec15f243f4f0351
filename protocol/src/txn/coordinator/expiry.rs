//! The end of pending transfers between groups whose time is over.
//!
//! The ledger says when, again and again until the pending transfer has ended; so nothing is remembered here beyond what
//! is under way, a new leader need not be told, and a try that comes to nothing is not repeated from here.

use super::Cx;
use super::serving::{Serving, Txn};
use crate::ids::Age;
use crate::ledger::operations::{Action, Expire};
use crate::time::Span;

/// How long one try may take.
pub(super) const PATIENCE: Span = Span::from_millis(5_000);

impl Serving {
    /// A pending transfer's time is over: a transaction of the coordinator's own ends it.
    pub(super) fn on_due(&mut self, expire: Expire, cx: &mut Cx<'_>) {
        let action = Action::Expire(expire);
        let id = action.txn(&cx.desk.map);
        let participants = action.participants(&cx.desk.map);
        let others = participants.get(1..).unwrap_or_default();
        let full = self.txns.len() >= cx.desk.limit
            || others.iter().any(|group| self.load.of(*group) + self.endings.load(*group) >= cx.desk.peer_limit);
        let mine = participants.first() == Some(&cx.desk.me.group);
        if full || !mine || self.txns.contains_key(&id) || !self.expiring.insert(expire.named().txn) {
            return;
        }
        cx.effects.trace("expires", || format!("{} {}", expire.named().txn, id.id));
        self.counter = self.counter.saturating_add(1);
        let age = Age { counter: self.counter, id: id.id };
        self.load.add(others);
        let txn = Txn { action, age, participants, waiters: Vec::new(), tries: 0, due: None, current: None };
        self.txns.insert(id, txn);
        self.begin(id, cx);
    }
}

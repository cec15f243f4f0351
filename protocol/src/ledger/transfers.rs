//! Operations of one group: transfers between two of its accounts, reads in their turn, and what waits.

use super::Ledger;
use super::accounts::{NO_TRANSFER, Whereabouts};
use super::doubt::{Ahead, Effect, Effects, Fit, Rank};
use super::model::{Account, Flags, ItemResult, Outcome, Posted, Reason, Sides, Transfer, TransferResult};
use super::output::{ClientOutput, CommandResult, Output};
use super::posted::PostedRow;
use super::queue::{Asker, Key, Lane, Operation, Waiter, WaitingTransfer};
use crate::ids::{AccountId, Age, ShardId, TransferId, TxnId};
use crate::message::command::ReadCommand;
use crate::message::txn::VoteKind;
use crate::planted::{Bug, is_planted};
use crate::time::LogTime;
use crate::txn::table::Known;

/// What became of a transfer of a batch.
pub(super) enum Submitted {
    /// It took effect now.
    Committed,
    /// It waits.
    Waits,
    /// It has a result.
    Known {
        /// The result.
        result: TransferResult,
        /// It had it before.
        replayed: bool,
    },
}

impl Submitted {
    fn now(result: TransferResult) -> Submitted {
        Submitted::Known { result, replayed: false }
    }
}

/// Why a transfer has no effects in this group.
pub(super) enum Trouble {
    /// It can never have any.
    Never(Reason),
    /// Another group owns what it names.
    Moved,
}

impl Ledger {
    /// A transfer arrives.
    pub(super) fn submit(&mut self, transfer: &Transfer, digest: u128, asker: Asker, deadline: LogTime) -> Submitted {
        let txn = TxnId::from(transfer);
        let debit = self.accounts.whereabouts(transfer.debit);
        if debit == Whereabouts::Elsewhere {
            return Submitted::now(TransferResult::Moved);
        }
        let replayed = |outcome| Submitted::Known { result: TransferResult::Done(outcome), replayed: true };
        match self.ids.known(txn, digest) {
            Known::Open => {}
            Known::Committed => return replayed(Outcome::Committed),
            Known::Rejected(reason) => return replayed(Outcome::Rejected(reason)),
            Known::Conflict => {
                return Submitted::now(TransferResult::Done(Outcome::Rejected(Reason::IdConflict)));
            }
        }
        if !is_planted(Bug::WaitingUnknown)
            && let Some(submitted) = self.attach(txn, digest, asker)
        {
            return submitted;
        }
        let effects = match self.effects_within(transfer, debit) {
            Ok(effects) => effects,
            Err(Trouble::Moved) => return Submitted::now(TransferResult::Moved),
            Err(Trouble::Never(reason)) => return self.reject_now(txn, digest, reason),
        };
        match self.doubts.judge(&self.accounts, transfer.ledger, &effects, Ahead::All) {
            Fit::Never(reason) => self.reject_now(txn, digest, reason),
            Fit::Now => {
                self.post(transfer, digest, &effects);
                self.record(txn, Some(digest), Outcome::Committed, &effects);
                Submitted::Committed
            }
            Fit::Later if self.queue.is_full() => Submitted::now(TransferResult::Retry),
            Fit::Later => {
                self.counter = self.counter.saturating_add(1);
                let rank = Rank { age: Age { counter: self.counter, id: transfer.id }, txn };
                let waiting = WaitingTransfer { transfer: *transfer, digest, effects };
                let operation = Operation::Transfer(Box::new(waiting));
                self.enqueue(Lane::Local, operation, rank, deadline, &effects, vec![asker]);
                Submitted::Waits
            }
        }
    }

    /// What is under way under an id has its answer later: whoever asks again is told, too (hazard S16). Other content
    /// under such an id has no answer yet, because what is under way may still end without an outcome.
    fn attach(&mut self, txn: TxnId, digest: u128, asker: Asker) -> Option<Submitted> {
        let attached = if let Some(key) = self.queue.transfer(txn) {
            let waiter = self.queue.get(key).expect("the index names what waits");
            let same = matches!(&waiter.operation, Operation::Transfer(waiting) if waiting.digest == digest);
            same && self.queue.attach(key, asker)
        } else if self.transactions.is_under_way(txn) {
            self.transactions.attach(txn, digest, asker, self.limits.waiting)
        } else {
            return None;
        };
        if !attached {
            return Some(Submitted::now(TransferResult::Retry));
        }
        if let Some(session) = asker.session {
            self.sessions.begin_waiting(session);
        }
        Some(Submitted::Waits)
    }

    fn reject_now(&mut self, txn: TxnId, digest: u128, reason: Reason) -> Submitted {
        if !is_planted(Bug::RejectionNotRecorded) {
            self.record(txn, Some(digest), Outcome::Rejected(reason), &Effects::default());
        }
        Submitted::now(TransferResult::Done(Outcome::Rejected(reason)))
    }

    /// Records an outcome under its id, with the shard that the row moves with: that of the first account that the
    /// operation touches here; without effects, that of the account under which the id is unique, if it is ours.
    pub(super) fn record(&mut self, txn: TxnId, digest: Option<u128>, outcome: Outcome, effects: &Effects) {
        let map = self.accounts.map();
        let own = || map.shard_of(txn.first).filter(|shard| map.owners[usize::from(shard.0)] == self.group);
        let shard: Option<ShardId> = match effects.as_slice().first() {
            Some(effect) => Some(self.accounts.shard(effect.place)),
            None => own(),
        };
        self.ids.record(txn, digest, outcome, shard);
    }

    /// The effects of a transfer both of whose accounts must be here.
    fn effects_within(&self, transfer: &Transfer, debit: Whereabouts) -> Result<Effects, Trouble> {
        check_content(transfer)?;
        let credit = self.accounts.whereabouts(transfer.credit);
        match (debit, credit) {
            (Whereabouts::Here(from), Whereabouts::Here(to)) => {
                let mut effects = Effects::default();
                effects.push(Effect { place: from, debit: transfer.amount, credit: 0 });
                effects.push(Effect { place: to, debit: 0, credit: transfer.amount });
                Ok(effects)
            }
            (Whereabouts::Here(_), Whereabouts::Elsewhere) => Err(Trouble::Moved),
            _ => Err(Trouble::Never(Reason::NoSuchAccount)),
        }
    }

    /// The effects of a transfer on the accounts that are here; other groups have the rest.
    pub(super) fn effects_here(&self, transfer: &Transfer) -> Result<Effects, Trouble> {
        check_content(transfer)?;
        let mut effects = Effects::default();
        for (account, debit, credit) in [(transfer.debit, transfer.amount, 0), (transfer.credit, 0, transfer.amount)] {
            match self.accounts.whereabouts(account) {
                Whereabouts::Here(place) => effects.push(Effect { place, debit, credit }),
                Whereabouts::Missing | Whereabouts::Nowhere => return Err(Trouble::Never(Reason::NoSuchAccount)),
                Whereabouts::Elsewhere => {}
            }
        }
        if effects.as_slice().is_empty() { Err(Trouble::Moved) } else { Ok(effects) }
    }

    /// Posts what was granted.
    pub(super) fn post(&mut self, transfer: &Transfer, digest: u128, effects: &Effects) {
        let position = self.posted.len();
        let (mut before_debit, mut before_credit) = (NO_TRANSFER, NO_TRANSFER);
        let flow = self.flows.entry(transfer.ledger).or_default();
        for effect in effects.as_slice() {
            let row = self.accounts.row_mut(effect.place);
            let before = std::mem::replace(&mut row.last, position);
            apply_effect(&mut row.account, effect);
            flow.difference = flow.difference.wrapping_add(effect.debit).wrapping_sub(effect.credit);
            if effect.debit > 0 {
                before_debit = before;
            } else {
                before_credit = before;
            }
        }
        let sides = match effects.as_slice() {
            [_, _] => Sides::Both,
            [only] if only.debit > 0 => Sides::Debit,
            _ => Sides::Credit,
        };
        match sides {
            Sides::Debit => flow.sent = flow.sent.wrapping_add(transfer.amount),
            Sides::Credit if is_planted(Bug::ReceivedNotCounted) => {}
            Sides::Credit => flow.received = flow.received.wrapping_add(transfer.amount),
            Sides::Both => {}
        }
        assert_eq!(flow.difference, flow.sent.wrapping_sub(flow.received), "money is neither made nor lost");
        let posted = Posted { transfer: *transfer, sides, posted_at: self.time };
        self.posted.push(PostedRow { posted, before_debit, before_credit }, digest);
        for effect in effects.as_slice() {
            self.stir(effect.place, None);
        }
    }

    /// Puts an operation into the queue, which has a place.
    pub(super) fn enqueue(
        &mut self,
        lane: Lane,
        operation: Operation,
        rank: Rank,
        deadline: LogTime,
        effects: &Effects,
        askers: Vec<Asker>,
    ) -> Key {
        let at = match lane {
            Lane::Read => *effects,
            Lane::Prepare | Lane::Local => self.doubts.obstacles(&self.accounts, effects),
        };
        for session in askers.iter().filter_map(|asker| asker.session) {
            self.sessions.begin_waiting(session);
        }
        let key = self.queue.next_key(lane);
        self.doubts.claim(&mut self.accounts, key, rank, &at);
        self.queue.insert(key, Waiter { operation, rank, deadline, at, askers });
        key
    }

    /// Takes an operation out of the queue; whoever was behind it may move.
    pub(super) fn dequeue(&mut self, key: Key) -> Waiter {
        let waiter = self.queue.remove(key).expect("it waits");
        self.doubts.unclaim(&mut self.accounts, key, &waiter.at);
        for effect in waiter.at.as_slice() {
            self.stir(effect.place, Some(key));
        }
        waiter
    }

    /// It goes on waiting, perhaps for something else.
    pub(super) fn keep_waiting(&mut self, key: Key, effects: &Effects) {
        let waiter = self.queue.get(key).expect("it waits");
        let (rank, before) = (waiter.rank, waiter.at);
        let at = self.doubts.obstacles(&self.accounts, effects);
        if at != before {
            // First the new place, then the old one goes: an account that stays is not forgotten in between.
            let (new, old) = (difference(&at, &before), difference(&before, &at));
            self.doubts.claim(&mut self.accounts, key, rank, &new);
            self.doubts.unclaim(&mut self.accounts, key, &old);
            self.queue.move_to(key, at);
            for effect in old.as_slice() {
                self.stir(effect.place, Some(key));
            }
        }
    }

    /// Something has changed for an operation that waits, if it still does.
    pub(super) fn reconsider(&mut self, key: Key, outputs: &mut Vec<Output>) {
        let Some(waiter) = self.queue.get(key) else { return };
        match &waiter.operation {
            Operation::Read(account, place) => {
                let (account, place) = (*account, *place);
                if !self.is_in_doubt(place) {
                    self.dequeue(key);
                    outputs.push(Output::Read(account, Some(self.accounts.row(place).account)));
                }
            }
            Operation::Prepare(txn) => self.reconsider_prepare(*txn, key, outputs),
            Operation::Transfer(waiting) => {
                let WaitingTransfer { transfer, digest, effects } = **waiting;
                let outcome = match self.doubts.judge(&self.accounts, transfer.ledger, &effects, Ahead::Before(key)) {
                    Fit::Later => return self.keep_waiting(key, &effects),
                    Fit::Never(reason) => Outcome::Rejected(reason),
                    Fit::Now => Outcome::Committed,
                };
                let waiter = self.dequeue(key);
                if outcome == Outcome::Committed {
                    self.post(&transfer, digest, &effects);
                }
                self.record(TxnId::from(&transfer), Some(digest), outcome, &effects);
                self.tell(&waiter.askers, TransferResult::Done(outcome), outputs);
            }
        }
    }

    /// Tells everyone who asked for a transfer that waited.
    pub(super) fn tell(&mut self, askers: &[Asker], result: TransferResult, outputs: &mut Vec<Output>) {
        for asker in askers {
            if let Some(session) = asker.session {
                self.sessions.end_waiting(session, self.time);
            }
            let item = ItemResult { index: asker.index, result, replayed: false };
            outputs.push(Output::Client(ClientOutput { command: asker.command, result: CommandResult::Late(item) }));
        }
    }

    /// Ends the waiting of one operation, or one session, whose time has come; false if there is none. What is
    /// prepared never expires (hazard S10), and that something has waited too long is no outcome (hazard L10).
    pub(super) fn expire_one(&mut self, outputs: &mut Vec<Output>) -> bool {
        #[cfg(feature = "planted")]
        self.lose_holds(Bug::PreparedExpires, self.time);
        let Some(key) = self.queue.expired(self.time) else { return self.sessions.expire_one(self.time) };
        let waiter = self.dequeue(key);
        match waiter.operation {
            Operation::Read(account, _) => outputs.push(Output::ReadExpired(account)),
            Operation::Prepare(txn) => self.end_prepare(txn, VoteKind::Expired, outputs),
            Operation::Transfer(_) => self.tell(&waiter.askers, TransferResult::Retry, outputs),
        }
        true
    }

    /// A read that met something in doubt: it is evaluated where nothing is (hazard S1).
    pub(super) fn read_in_turn(&mut self, read: ReadCommand, outputs: &mut Vec<Output>) {
        let account = read.account;
        let place = match self.accounts.whereabouts(account) {
            Whereabouts::Here(place) => place,
            Whereabouts::Missing | Whereabouts::Nowhere => return outputs.push(Output::Read(account, None)),
            Whereabouts::Elsewhere => return outputs.push(Output::ReadExpired(account)),
        };
        let deadline = self.time + read.deadline;
        if !self.is_in_doubt(place) {
            outputs.push(Output::Read(account, Some(self.accounts.row(place).account)));
        } else if let Some(key) = self.queue.read(account) {
            self.queue.extend(key, deadline);
        } else if self.queue.is_full() {
            outputs.push(Output::ReadExpired(account));
        } else {
            self.counter = self.counter.saturating_add(1);
            let txn = TxnId { id: TransferId(0), first: account };
            let rank = Rank { age: Age { counter: self.counter, id: TransferId(0) }, txn };
            let mut effects = Effects::default();
            effects.push(Effect { place, debit: 0, credit: 0 });
            self.enqueue(Lane::Read, Operation::Read(account, place), rank, deadline, &effects, Vec::new());
        }
    }
}

/// What can be said of a transfer without knowing an account.
fn check_content(transfer: &Transfer) -> Result<(), Trouble> {
    if transfer.amount == 0 {
        return Err(Trouble::Never(Reason::ZeroAmount));
    }
    let AccountId(debit) = transfer.debit;
    if debit == transfer.credit.0 { Err(Trouble::Never(Reason::SameAccount)) } else { Ok(()) }
}

fn apply_effect(account: &mut Account, effect: &Effect) {
    const FITS: &str = "what was granted can be applied";
    account.debits_posted = account.debits_posted.checked_add(effect.debit).expect(FITS);
    account.credits_posted = account.credits_posted.checked_add(effect.credit).expect(FITS);
    if effect.debit > 0 && account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS) {
        assert!(account.debits_posted <= account.credits_posted, "an account never owes more than its rules allow");
    }
    if effect.credit > 0 && account.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS) {
        assert!(account.credits_posted <= account.debits_posted, "an account is never owed more than its rules allow");
    }
}

/// The effects of `all` at places that are not in `without`.
fn difference(all: &Effects, without: &Effects) -> Effects {
    let mut rest = Effects::default();
    for effect in all.as_slice() {
        if !without.as_slice().contains(effect) {
            rest.push(*effect);
        }
    }
    rest
}

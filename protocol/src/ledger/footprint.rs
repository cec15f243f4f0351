//! What an operation needs in this group: room on accounts, and locks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Ledger;
use super::accounts::{Place, Whereabouts};
use super::doubt::{Ahead, Change, Effect, Effects, Fit, Rank};
use super::image::Fault;
use super::locks::{Lock, PartId};
use super::model::{Reason, Transfer};
use super::operations::{Action, Key, Named, Operation, Subject, Transaction};
use super::pending::PendingRow;
use super::queue::{Turn, Waiter, Waiting};
use super::transfers::{Trouble, check_content};
use crate::ids::{AccountId, TxnId};
use crate::planted::{Bug, is_planted};
use crate::txn::table::Known;
use crate::wire::codec::{Decode, DecodeError, Encode, Reader};

/// Where an operation waits: at an account, or at a part of the keys.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Spot {
    /// An account.
    Account(Place),
    /// A part of the keys.
    Part(PartId),
}

/// What an operation needs in this group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Footprint {
    /// On accounts.
    pub(super) effects: Effects,
    /// On keys, one for each key or range; none of transfers.
    locks: Option<Arc<[Lock]>>,
}

impl From<Effects> for Footprint {
    fn from(effects: Effects) -> Footprint {
        Footprint { effects, locks: None }
    }
}

impl Footprint {
    /// The locks on keys.
    pub(super) fn locks(&self) -> &[Lock] {
        self.locks.as_deref().unwrap_or_default()
    }

    /// Where something changes when it comes or goes.
    fn spots(&self) -> impl Iterator<Item = Spot> + use<> {
        let accounts: Vec<Spot> = self.effects.as_slice().iter().map(|effect| Spot::Account(effect.place)).collect();
        let mut parts: Vec<PartId> = self.locks().iter().map(Lock::part).collect();
        parts.sort_unstable();
        parts.dedup();
        accounts.into_iter().chain(parts.into_iter().map(Spot::Part))
    }

    fn is_empty(&self) -> bool {
        self.effects.as_slice().is_empty() && self.locks.is_none()
    }
}

impl Encode for Footprint {
    fn encode(&self, out: &mut Vec<u8>) {
        let Footprint { effects, locks } = self;
        (effects, locks.as_ref()).encode(out);
    }
}

impl Decode for Footprint {
    fn decode(reader: &mut Reader<'_>) -> Result<Footprint, DecodeError> {
        let (effects, locks): (Effects, Option<Vec<Lock>>) = Decode::decode(reader)?;
        Ok(Footprint { effects, locks: locks.map(Arc::from) })
    }
}

/// Collects what a transaction needs.
#[derive(Default)]
struct Needs {
    effects: BTreeMap<Place, Effect>,
    // Whether the key is written.
    keys: BTreeMap<Key, bool>,
    // Ranges of keys, and pending transfers.
    others: Vec<Lock>,
    elsewhere: bool,
}

impl Needs {
    fn key(&mut self, key: &Key, written: bool) {
        *self.keys.entry(key.clone()).or_default() |= written;
    }

    fn effect(&mut self, place: Place) -> &mut Effect {
        self.effects.entry(place).or_insert(Effect { place, ..Effect::default() })
    }

    fn change(&mut self, place: Place, debit: Change, credit: Change) -> Result<(), Trouble> {
        const OVERFLOW: Trouble = Trouble::Never(Reason::Overflow);
        let effect = self.effect(place);
        effect.debit = effect.debit.and(debit).ok_or(OVERFLOW)?;
        effect.credit = effect.credit.and(credit).ok_or(OVERFLOW)?;
        Ok(())
    }

    fn into_footprint(self) -> Footprint {
        let mut effects = Effects::default();
        self.effects.into_values().for_each(|effect| effects.push(effect));
        let lock = |(key, written)| if written { Lock::Exclusive(key) } else { Lock::Shared(key) };
        let locks: Vec<Lock> = self.keys.into_iter().map(lock).chain(self.others).collect();
        Footprint { effects, locks: (!locks.is_empty()).then(|| locks.into()) }
    }
}

impl Ledger {
    /// What an action needs here.
    pub(super) fn needs_here(&self, action: &Action) -> Result<Footprint, Trouble> {
        match action {
            Action::Transfer(transfer) => {
                let effects = self.effects_here(transfer)?;
                match self.doubts.are_of(&self.accounts, transfer.ledger, &effects) {
                    false => Err(Trouble::Never(Reason::LedgerMismatch)),
                    true => Ok(effects.into()),
                }
            }
            Action::Transaction(transaction) => self.needs_of(transaction, false),
            Action::Expire(expire) => {
                let mut needs = Needs::default();
                self.need_end(expire.named(), None, &mut needs)?;
                let footprint = needs.into_footprint();
                if footprint.is_empty() { Err(Trouble::Moved) } else { Ok(footprint) }
            }
        }
    }

    /// What a transaction needs here; `whole`: all of it must be here.
    pub(super) fn needs_of(&self, transaction: &Transaction, whole: bool) -> Result<Footprint, Trouble> {
        let mut needs = Needs::default();
        for condition in &transaction.conditions {
            match condition.subject() {
                Subject::Account(account) => self.need_read(account, &mut needs)?,
                Subject::Key(_) if is_planted(Bug::ConditionUnlocked) => {}
                Subject::Key(key) => self.need_key(key, false, &mut needs),
            }
        }
        for operation in &transaction.operations {
            self.need(operation, &mut needs)?;
            self.need_id(operation, transaction)?;
        }
        if whole && needs.elsewhere {
            return Err(Trouble::Moved);
        }
        let footprint = needs.into_footprint();
        let unlocked = is_planted(Bug::ConditionUnlocked) || is_planted(Bug::ScanUnlocked);
        if footprint.is_empty() && !unlocked {
            return Err(Trouble::Moved);
        }
        Ok(footprint)
    }

    fn need(&self, operation: &Operation, needs: &mut Needs) -> Result<(), Trouble> {
        match operation {
            Operation::Transfer(transfer) => self.need_transfer(transfer, Change::of(transfer.amount), needs)?,
            Operation::Pend(pend) => {
                let reserved = Change { grows: pend.transfer.amount, ..Change::default() };
                self.need_transfer(&pend.transfer, reserved, needs)?;
                needs.others.push(Lock::Pending(TxnId::from(&pend.transfer)));
            }
            Operation::Post(post) => self.need_end(post.named(), Some(post.amount), needs)?,
            Operation::Void(void) => self.need_end(void.named(), None, needs)?,
            Operation::Close(account) | Operation::Open(account) => {
                if let Some(place) = self.need_account(*account, needs)? {
                    needs.effect(place).switched = true;
                }
            }
            Operation::Put(put) | Operation::Append(put) => self.need_key(&put.key, true, needs),
            Operation::Delete(key) => self.need_key(key, true, needs),
            Operation::Add(add) => self.need_key(&add.key, true, needs),
            Operation::Swap(swap) => {
                self.need_key(&swap.left, true, needs);
                self.need_key(&swap.right, true, needs);
            }
            Operation::Get(key) => self.need_key(key, false, needs),
            Operation::Scan(_) if is_planted(Bug::ScanUnlocked) => {}
            Operation::Scan(scan) if self.owns(&scan.from) => needs.others.push(Lock::Range(scan.clone())),
            Operation::Scan(_) => needs.elsewhere = true,
            Operation::Read(account) => self.need_read(*account, needs)?,
            Operation::List(_) => needs.elsewhere = true, // No transaction has one.
        }
        Ok(())
    }

    /// Whether this group owns a key.
    pub(super) fn owns(&self, key: &Key) -> bool {
        self.accounts.map().owner_of_key(key) == self.group
    }

    fn need_key(&self, key: &Key, written: bool, needs: &mut Needs) {
        if self.owns(key) {
            needs.key(key, written);
        } else {
            needs.elsewhere = true;
        }
    }

    fn need_read(&self, account: AccountId, needs: &mut Needs) -> Result<(), Trouble> {
        if let Some(place) = self.need_account(account, needs)? {
            needs.effect(place).read = true;
        }
        Ok(())
    }

    /// Where an account lies, if it is here.
    fn need_account(&self, account: AccountId, needs: &mut Needs) -> Result<Option<Place>, Trouble> {
        match self.accounts.whereabouts(account) {
            Whereabouts::Here(place) => Ok(Some(place)),
            Whereabouts::Missing | Whereabouts::Nowhere => Err(Trouble::Never(Reason::NoSuchAccount)),
            Whereabouts::Elsewhere => {
                needs.elsewhere = true;
                Ok(None)
            }
        }
    }

    /// `change`: what it does to the debit side of one account, and to the credit side of the other.
    fn need_transfer(&self, transfer: &Transfer, change: Change, needs: &mut Needs) -> Result<(), Trouble> {
        check_content(transfer)?;
        let none = Change::default();
        for (account, debit, credit) in [(transfer.debit, change, none), (transfer.credit, none, change)] {
            let Some(place) = self.need_account(account, needs)? else { continue };
            if self.accounts.row(place).account.ledger != transfer.ledger {
                return Err(Trouble::Never(Reason::LedgerMismatch));
            }
            needs.change(place, debit, credit)?;
        }
        Ok(())
    }

    /// The end of a pending transfer: of a posting `amount` says how much, or all. What it does is known when nobody
    /// else has it locked; whoever waits for that is looked at again, and so are its needs.
    fn need_end(&self, named: Named, amount: Option<Option<u128>>, needs: &mut Needs) -> Result<(), Trouble> {
        let lock = Lock::Pending(named.txn);
        let free = !self.locks.is_in_doubt(&lock);
        let same = |row: &&PendingRow| row.is_open() && row.pending.transfer.credit == named.credit;
        let pending = self.pendings.get(named.txn).filter(|_| free).filter(same);
        let change = pending.map(|pending| pending.ending(amount)).unwrap_or_default();
        let none = Change::default();
        let mut here = false;
        for (account, debit, credit) in [(named.txn.first, change, none), (named.credit, none, change)] {
            match self.accounts.whereabouts(account) {
                // Of another account than the named one nothing is released: that will be a rejection.
                Whereabouts::Here(place) => {
                    here = true;
                    needs.change(place, debit, credit)?;
                }
                Whereabouts::Missing => here = true,
                Whereabouts::Elsewhere => needs.elsewhere = true,
                Whereabouts::Nowhere => {}
            }
        }
        if here && !is_planted(Bug::PendingUnlocked) {
            needs.others.push(lock);
        }
        Ok(())
    }

    /// What has an id of its own takes effect once, in a transaction too (hazard A11).
    fn need_id(&self, operation: &Operation, transaction: &Transaction) -> Result<(), Trouble> {
        let map = self.accounts.map();
        let here = |txn: &TxnId| matches!(self.accounts.whereabouts(txn.first), Whereabouts::Here(_));
        match operation.named().filter(here).filter(|txn| *txn != transaction.txn(map)) {
            Some(txn) if self.ids.known(txn, 0) != Known::Open => Err(Trouble::Never(Reason::IdConflict)),
            Some(txn) if self.is_under_way(txn) => Err(Trouble::Busy),
            _ => Ok(()),
        }
    }

    /// Whether there is room for an operation, and its locks are free.
    pub(super) fn judge(&self, needs: &Footprint, ahead: Ahead) -> Fit {
        match self.doubts.judge(&self.accounts, &needs.effects, ahead) {
            Fit::Now if !self.locks.are_free(needs.locks(), ahead) => Fit::Later,
            fit => fit,
        }
    }

    /// Whether one more may wait for these.
    pub(super) fn may_queue(&self, needs: &Footprint) -> bool {
        !self.queue.is_full() && self.locks.may_queue(needs.locks())
    }

    /// Whether a prepare is older than everything in its way: then it may wait (hazards L1, L2).
    pub(super) fn may_wait(&self, needs: &Footprint, rank: Rank) -> bool {
        self.doubts.may_wait(&self.accounts, &needs.effects, rank) && self.locks.may_wait(needs.locks(), rank)
    }

    /// Whether a prepare that waits is still older than everything that was prepared meanwhile: then it may go on.
    pub(super) fn may_go_on_waiting(&self, needs: &Footprint, rank: Rank) -> bool {
        self.doubts.may_go_on_waiting(&self.accounts, &needs.effects, rank)
            && self.locks.may_go_on_waiting(needs.locks(), rank)
    }

    /// Holds what a transaction needs that has voted yes.
    pub(super) fn hold_needs(&mut self, needs: &Footprint, rank: Rank) {
        self.doubts.hold(&mut self.accounts, &needs.effects, rank);
        self.locks.hold(needs.locks(), rank);
        self.touch(needs);
        // A prepare that waits may not wait for an older one.
        self.stir_all(needs, None);
    }

    /// Lets go of it; whoever waited for it may move.
    pub(super) fn release_needs(&mut self, needs: &Footprint, rank: Rank) {
        self.doubts.release(&mut self.accounts, &needs.effects, rank);
        self.locks.release(needs.locks(), rank);
        self.touch(needs);
        self.stir_all(needs, None);
    }

    /// An operation begins to wait.
    pub(super) fn claim(&mut self, turn: Turn, rank: Rank, at: &Footprint) {
        self.doubts.claim(&mut self.accounts, turn, rank, &at.effects);
        self.locks.claim(turn, rank, at.locks());
    }

    /// Takes over the next row of an image: what waited, waits again.
    pub(super) fn load_waiter(&mut self, (turn, waiter): (Turn, Waiter)) -> Result<(), Fault> {
        let (rank, at) = (waiter.rank, waiter.at.clone());
        match &waiter.what {
            Waiting::Read(account, place) if self.accounts.whereabouts(*account) != Whereabouts::Here(*place) => {
                return Err("a read of an account that is not where it says");
            }
            Waiting::Transfer(waiting) => self.doubts.check(&self.accounts, &waiting.effects)?,
            _ => {}
        }
        self.queue.load(turn, waiter)?;
        self.doubts.load_claim(&mut self.accounts, turn, rank, &at.effects)?;
        self.locks.claim(turn, rank, at.locks());
        Ok(())
    }

    /// It no longer waits; whoever was behind it may move.
    pub(super) fn unclaim(&mut self, turn: Turn, rank: Rank, at: &Footprint) {
        self.doubts.unclaim(&mut self.accounts, turn, rank, &at.effects);
        self.locks.unclaim(turn, rank, at.locks());
        self.stir_all(at, Some(turn));
    }

    /// Where an operation that does not fit waits: for its locks, and at the accounts that are in its way.
    pub(super) fn obstacles(&self, needs: &Footprint) -> Footprint {
        let effects = self.doubts.obstacles(&self.accounts, &needs.effects);
        let at = Footprint { effects, locks: needs.locks.clone() };
        assert!(!at.is_empty(), "what waits, waits for something");
        at
    }

    /// Whoever waits at one of these must be looked at again.
    pub(super) fn stir_all(&mut self, needs: &Footprint, after: Option<Turn>) {
        for spot in needs.spots() {
            self.stir(spot, after);
        }
    }

    /// Whoever waits at a spot must be looked at again, from the first on or from the one after `after`.
    pub(super) fn stir(&mut self, spot: Spot, after: Option<Turn>) {
        let next = match spot {
            Spot::Account(place) => self.doubts.at(&self.accounts, place).and_then(|busy| busy.next_claim(after)),
            Spot::Part(part) => self.locks.next_waiting(part, after),
        };
        if let Some(turn) = next {
            self.wake.mark(spot, turn);
        }
    }

    /// What is read together twice and has the same version both times has not changed in between.
    pub(super) fn touch(&mut self, needs: &Footprint) {
        for effect in needs.effects.as_slice().iter().filter(|effect| effect.writes()) {
            self.versions.touch_account(effect.place, self.applied);
        }
        for lock in needs.locks() {
            if let Lock::Exclusive(key) = lock {
                self.versions.touch_key(key, self.applied);
            }
        }
    }
}

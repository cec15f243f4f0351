//! Two-phase transfers: what is reserved, and how it ends.
//!
//! A pending transfer has a row in every group that owns one of its accounts, for ever: whoever comes to end it once
//! more is told how it ended. Who begins or ends one locks it (`locks`), so over groups both rows change by one decision.
//!
//! **Expiry** is decided in one place, by the log time of the debit account's group. If that group owns both accounts
//! the row ends at the beginning of an entry, as whatever else expires. If it does not, its coordinator is told that the
//! time is over, and begins a transaction of its own ([`Expire`]) that ends both rows. Until that is decided the pending
//! transfer is held, but nobody else can end it any more: from the first entry on whose time is not before its end, a
//! posting or a voiding that is not yet prepared is refused. One that is prepared by then holds its lock, and is decided
//! first.

mod image;

use std::collections::{BTreeMap, BTreeSet};

use super::Ledger;
use super::accounts::{Place, Whereabouts};
use super::arena::Arena;
use super::digest::Packer;
use super::doubt::{Ahead, Change, Fit};
use super::execution::sides;
use super::footprint::Spot;
use super::model::{BATCH_LIMIT, Flags, PendingState, PendingTransfer, Reason, Sides, Transfer};
use super::operations::{Action, Expire, Named, Operation, Pend, Transaction};
use super::output::{Output, TxnOutput};
use crate::ids::{AccountId, TransferId, TxnId};
use crate::planted::{Bug, is_planted};
use crate::table::Table;
use crate::time::{LogTime, Span};
use crate::wire::codec::to_vec;

pub(super) use image::PendingsImage;

/// What has expired and cannot end because it is in doubt is looked at again after so long.
const LOOK_AGAIN: Span = Span::from_millis(20);
/// The coordinator is told again, after so long at first, and after so long at last.
const TELL_AGAIN: Span = Span::from_millis(1_000);
const TELL_AGAIN_AT_LAST: Span = Span::from_millis(10_000);

/// Rows that are allocated, and copied after an image was taken, at a time.
const CHUNK: usize = 1024;

/// A pending transfer with what the group keeps beside it.
#[derive(Clone)]
pub(super) struct PendingRow {
    /// What clients see of it.
    pub(super) pending: PendingTransfer,
    /// When it is to be looked at; nothing: never.
    pub(super) look_at: Option<LogTime>,
}

impl PendingRow {
    /// Whether it still holds its amount.
    pub(super) fn is_open(&self) -> bool {
        self.pending.state == PendingState::Open
    }

    /// What its end does to each side. Of a posting `amount` says how much, or all.
    pub(super) fn ending(&self, amount: Option<Option<u128>>) -> Change {
        let reserved = self.pending.transfer.amount;
        let posts = amount.map_or(0, |part| part.unwrap_or(reserved).min(reserved));
        Change { grows: 0, posts, frees: reserved - posts }
    }

    /// Whether its time is over; only the debit account's group can tell.
    fn is_over(&self, now: LogTime) -> bool {
        let PendingTransfer { sides, made_at, timeout, .. } = self.pending;
        sides != Sides::Credit && timeout > Span(0) && made_at + timeout <= now
    }

    fn hash(&self, position: u64) -> u128 {
        let PendingTransfer { transfer, sides, made_at, timeout, state, ended_at, posted } = &self.pending;
        let content = xxhash_rust::xxh3::xxh3_128(&to_vec(&(*transfer, *timeout, *posted)));
        let look_at = self.look_at.map_or(u64::MAX, |time| time.0);
        Packer::new(b'u')
            .put(&position.to_be_bytes())
            .put(&content.to_be_bytes())
            .put(&[*sides as u8, *state as u8])
            .put(&made_at.0.to_be_bytes())
            .put(&ended_at.0.to_be_bytes())
            .put(&look_at.to_be_bytes())
            .hash()
    }
}

/// The pending transfers of a group, in the order in which they were made.
#[derive(Clone)]
pub(super) struct Pendings {
    rows: Arena<PendingRow, CHUNK>,
    // What follows is derived from the rows.
    index: Table<TxnId, u64>,
    due: BTreeSet<(LogTime, u64)>,
    /// What the open ones hold, by ledger: debits and credits, modulo 2^128.
    held: BTreeMap<u32, (u128, u128)>,
    sum: u128,
}

impl Pendings {
    /// None yet.
    pub(super) fn new(seed: u64) -> Pendings {
        Pendings {
            rows: Arena::new(),
            index: Table::new(seed, 64),
            due: BTreeSet::new(),
            held: BTreeMap::new(),
            sum: 0,
        }
    }

    /// The one of this identity.
    pub(super) fn get(&self, txn: TxnId) -> Option<&PendingRow> {
        if self.index.is_empty() { None } else { self.index.get(&txn).map(|position| self.rows.at(*position as usize)) }
    }

    /// The rows from a position on.
    pub(super) fn from(&self, position: u64) -> impl Iterator<Item = &PendingRow> {
        self.rows.from(usize::try_from(position).unwrap_or(usize::MAX).min(self.rows.len()))
    }

    /// The row at a position, which must exist.
    pub(super) fn at(&self, position: u64) -> &PendingRow {
        self.rows.at(position as usize)
    }

    /// How many there ever were.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// What the open ones hold, by ledger: debits and credits, modulo 2^128.
    pub(super) fn held(&self) -> &BTreeMap<u32, (u128, u128)> {
        &self.held
    }

    /// The order-free digest of all rows with their positions.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// When, in log time, the next one is to be looked at.
    pub(super) fn next_due(&self) -> Option<LogTime> {
        self.due.first().map(|(time, _)| *time)
    }

    fn insert(&mut self, txn: TxnId, row: PendingRow) {
        let position = self.len();
        self.sum = self.sum.wrapping_add(row.hash(position));
        self.due.extend(row.look_at.map(|time| (time, position)));
        if row.is_open() {
            self.hold(&row.pending, true); // What an image has may have ended.
        }
        let before = self.index.insert(txn, position);
        assert!(before.is_none(), "a pending transfer is made once");
        self.rows.push(row);
    }

    fn hold(&mut self, pending: &PendingTransfer, up: bool) {
        let Transfer { ledger, amount, .. } = pending.transfer;
        let (debits, credits) = self.held.entry(ledger).or_default();
        let add = |total: &mut u128| *total = if up { total.wrapping_add(amount) } else { total.wrapping_sub(amount) };
        if pending.sides != Sides::Credit {
            add(debits);
        }
        if pending.sides != Sides::Debit {
            add(credits);
        }
    }

    /// Changes a row; the sums and the index of what is due follow.
    fn change(&mut self, position: u64, change: impl FnOnce(&mut PendingRow)) {
        let row = self.rows.at_mut(position as usize);
        let before = row.clone();
        change(row);
        let after = row.clone();
        self.sum = self.sum.wrapping_sub(before.hash(position)).wrapping_add(after.hash(position));
        if let Some(time) = before.look_at {
            self.due.remove(&(time, position));
        }
        self.due.extend(after.look_at.map(|time| (time, position)));
        if before.is_open() && !after.is_open() {
            self.hold(&after.pending, false);
        }
    }

    fn end(&mut self, txn: TxnId, state: PendingState, posted: u128, now: LogTime) {
        let position = *self.index.get(&txn).expect("what ends is pending");
        self.change(position, |row| {
            assert!(row.is_open(), "a pending transfer ends once");
            row.pending = PendingTransfer { state, posted, ended_at: now, ..row.pending };
            row.look_at = None;
        });
    }

    fn look_at(&mut self, position: u64, time: LogTime) {
        self.change(position, |row| row.look_at = Some(time));
    }
}

impl Ledger {
    /// Where the accounts of a transfer lie, as far as they are here.
    pub(super) fn places(&self, debit: AccountId, credit: AccountId) -> (Option<Place>, Option<Place>) {
        let place = |account| match self.accounts.whereabouts(account) {
            Whereabouts::Here(place) => Some(place),
            _ => None,
        };
        (place(debit), place(credit))
    }

    /// A pending transfer by its identity.
    pub fn pending(&self, txn: TxnId) -> Option<PendingTransfer> {
        self.pendings.get(txn).map(|row| row.pending)
    }

    /// The pending transfers from a position on, in the order in which they were made: at most so many.
    pub fn pending_transfers(&self, from: u64, limit: usize) -> Vec<PendingTransfer> {
        self.pendings.from(from).take(limit.min(BATCH_LIMIT)).map(|row| row.pending).collect()
    }

    /// Whether the pending transfers that a transaction begins or ends here can be begun or ended: looked at when it votes, or is carried
    /// out, with their locks free; what has voted yes is not asked again, since time goes on.
    pub(super) fn check_pendings(&self, transaction: &Transaction) -> Result<(), Reason> {
        transaction.operations.iter().try_for_each(|operation| match operation {
            Operation::Post(post) => self.check_ending(post.named(), post.amount, self.time),
            Operation::Void(void) => self.check_ending(void.named(), None, self.time),
            // The id is the debit account's group's to judge; whatever it says, there is one row.
            Operation::Pend(pend) if self.pendings.get(TxnId::from(&pend.transfer)).is_some() => {
                Err(Reason::IdConflict)
            }
            _ => Ok(()),
        })
    }

    /// As [`Ledger::check_pendings`], of any action.
    pub(super) fn check_action(&self, action: &Action) -> Result<(), Reason> {
        match action {
            Action::Transfer(_) => Ok(()),
            Action::Transaction(transaction) => self.check_pendings(transaction),
            // That its time is over is why it comes.
            Action::Expire(expire) => self.check_ending(expire.named(), None, LogTime(0)),
        }
    }

    fn check_ending(&self, named: Named, amount: Option<u128>, now: LogTime) -> Result<(), Reason> {
        if !self.is_owner_of(named) {
            return Ok(()); // Other groups have it.
        }
        let row = self.pendings.get(named.txn).ok_or(Reason::PendingNotFound)?;
        let Transfer { credit, amount: reserved, .. } = row.pending.transfer;
        if credit != named.credit {
            return Err(Reason::PendingDifferentAccounts);
        }
        let again = is_planted(Bug::VoidedTwice) && row.pending.state == PendingState::Voided;
        if let Some(reason) = row.pending.state.refusal().filter(|_| !again) {
            return Err(reason);
        }
        if row.is_over(now) && !is_planted(Bug::PostedAfterExpiry) {
            return Err(Reason::PendingExpired);
        }
        match amount {
            Some(0) => Err(Reason::ZeroAmount),
            Some(amount) if amount > reserved => Err(Reason::ExceedsPendingAmount),
            _ => Ok(()),
        }
    }

    /// Whether one of the accounts is this group's, or would be.
    fn is_owner_of(&self, named: Named) -> bool {
        let map = self.accounts.map();
        [named.txn.first, named.credit].into_iter().any(|account| map.owner_of(account) == Some(self.group))
    }

    /// Reserves an amount, which was granted.
    pub(super) fn begin_pending(&mut self, pend: &Pend) {
        const FITS: &str = "what was granted can be applied";
        let Pend { transfer, timeout } = *pend;
        let (debit, credit) = self.places(transfer.debit, transfer.credit);
        let Some(sides) = sides(debit, credit) else { return };
        if let Some(place) = debit {
            let account = &mut self.accounts.row_mut(place).account;
            account.debits_pending = account.debits_pending.checked_add(transfer.amount).expect(FITS);
        }
        if let Some(place) = credit {
            let account = &mut self.accounts.row_mut(place).account;
            account.credits_pending = account.credits_pending.checked_add(transfer.amount).expect(FITS);
        }
        let (made_at, ended_at, state) = (self.time, LogTime(0), PendingState::Open);
        let pending = PendingTransfer { transfer, sides, made_at, timeout, state, ended_at, posted: 0 };
        let look_at = (sides != Sides::Credit && timeout > Span(0)).then(|| made_at + timeout);
        let position = self.pendings.len();
        self.pendings.insert(TxnId::from(&transfer), PendingRow { pending, look_at });
        self.index.enter_pending(position, &pending);
        for place in [debit, credit].into_iter().flatten() {
            self.note_balances(place, transfer.id);
        }
        self.changed(debit, credit);
    }

    /// Releases what a pending transfer holds, and remembers how it ended. What is posted of it is posted by the caller.
    pub(super) fn end_pending(&mut self, txn: TxnId, state: PendingState, posted: u128) {
        const HELD: &str = "what is released was reserved";
        let Transfer { id, debit, credit, amount, .. } =
            self.pendings.get(txn).expect("what ends is pending").pending.transfer;
        let (debit, credit) = self.places(debit, credit);
        let amount = if is_planted(Bug::RestHeld) && posted > 0 { posted } else { amount };
        if let Some(place) = debit {
            let account = &mut self.accounts.row_mut(place).account;
            account.debits_pending = account.debits_pending.checked_sub(amount).expect(HELD);
        }
        if let Some(place) = credit {
            let account = &mut self.accounts.row_mut(place).account;
            account.credits_pending = account.credits_pending.checked_sub(amount).expect(HELD);
        }
        self.pendings.end(txn, state, posted, self.time);
        for place in [debit, credit].into_iter().flatten().filter(|_| state != PendingState::Posted) {
            self.note_balances(place, id); // A posting has a row of its own.
        }
        self.changed(debit, credit);
    }

    /// Closes or opens an account of this group.
    pub(super) fn switch_account(&mut self, account: AccountId, close: bool) {
        let Whereabouts::Here(place) = self.accounts.whereabouts(account) else { return };
        let flags = &mut self.accounts.row_mut(place).account.flags;
        *flags = if close { flags.with(Flags::CLOSED) } else { flags.without(Flags::CLOSED) };
        self.changed(Some(place), None);
    }

    /// These accounts have changed, other than by a posting.
    fn changed(&mut self, debit: Option<Place>, credit: Option<Place>) {
        for place in [debit, credit].into_iter().flatten() {
            self.versions.touch_account(place, self.applied);
            self.stir(Spot::Account(place), None);
        }
    }

    /// Looks at one pending transfer whose time is over; false if there is none.
    pub(super) fn expire_pending(&mut self, outputs: &mut Vec<Output>) -> bool {
        let now = self.time;
        let Some((time, position)) = self.pendings.due.first().copied().filter(|(time, _)| *time <= now) else {
            return false;
        };
        let PendingTransfer { transfer, sides, made_at, timeout, .. } =
            self.pendings.rows.at(position as usize).pending;
        let Transfer { id: pending, debit, credit, .. } = transfer;
        let txn = TxnId::from(&transfer);
        let id = TransferId(xxhash_rust::xxh3::xxh3_128(&to_vec(&(txn, time))));
        let expire = Expire { id, pending, debit, credit };
        if sides == Sides::Debit {
            if is_planted(Bug::ExpiredOnOneSide) {
                self.end_pending(txn, PendingState::Expired, 0);
                return true;
            }
            let late = now.0.saturating_sub((made_at + timeout).0);
            let pause = Span(late.clamp(TELL_AGAIN.0, TELL_AGAIN_AT_LAST.0));
            self.pendings.look_at(position, now + pause);
            if !is_planted(Bug::ExpiryNotTold) {
                outputs.push(Output::Txn(TxnOutput::Due(expire)));
            }
            return true;
        }
        let free = match self.needs_here(&Action::Expire(expire)) {
            Ok(needs) => self.judge(&needs, Ahead::All) == Fit::Now,
            Err(_) => false,
        };
        if free {
            self.end_pending(txn, PendingState::Expired, 0);
        } else {
            self.pendings.look_at(position, now + LOOK_AGAIN);
        }
        true
    }
}

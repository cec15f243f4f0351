//! What is in doubt and what waits at an account, and what that leaves room for.
//!
//! A prepared transaction may still commit or abort, so an account has not one balance but an interval. `low` takes off
//! every in-doubt debit and counts no in-doubt credit; `high` the reverse. An operation that `low` allows succeeds at
//! once, whatever becomes of the transactions in doubt; one that `high` does not allow is rejected at once; anything
//! between waits (hazard S3). Totals that might overflow are treated alike: what is granted can always be applied
//! (hazard S4). The user's own pending amounts count as taken and never as received, in both.

//!
//! A transaction that reads an account locks it: what is read is read where nothing is in doubt, and no effect is
//! granted there before the transaction has ended (hazard S2). Others may read it meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::accounts::{Accounts, Place};
use super::image::Fault;
use super::model::{Account, Flags, Reason};
use super::queue::{Lane, Turn};
use crate::ids::{Age, TxnId};
use crate::planted::{Bug, is_planted};
use crate::table::Table;
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, wire_struct};

/// A place in the order of waiting; smaller is older. The transaction makes it unique.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Rank {
    /// Given once, kept over retries.
    pub(super) age: Age,
    /// Breaks ties.
    pub(super) txn: TxnId,
}
wire_struct!(Rank { age, txn });

/// The effect of an operation on one account.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Effect {
    /// The account.
    pub(super) place: Place,
    /// What goes out.
    pub(super) debit: u128,
    /// What comes in.
    pub(super) credit: u128,
    /// It is read.
    pub(super) read: bool,
}
wire_struct!(Effect { place, debit, credit, read });

impl Effect {
    /// Whether it changes the account.
    pub(super) fn writes(&self) -> bool {
        self.debit > 0 || self.credit > 0
    }

    /// The net effect: what goes out, or what comes in.
    fn net(&self) -> (u128, u128) {
        (self.debit.saturating_sub(self.credit), self.credit.saturating_sub(self.debit))
    }
}

/// The effects of an operation in this group: one for each account that it owns.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Effects(SmallVec<[Effect; 2]>);

impl Effects {
    /// Appends an effect, on another account than the others.
    pub(super) fn push(&mut self, effect: Effect) {
        self.0.push(effect);
    }

    /// The effects.
    pub(super) fn as_slice(&self) -> &[Effect] {
        &self.0
    }
}

impl Encode for Effects {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.as_slice().encode(out);
    }
}

impl Decode for Effects {
    fn decode(reader: &mut Reader<'_>) -> Result<Effects, DecodeError> {
        Vec::decode(reader).map(|effects| Effects(effects.into()))
    }
}

/// Whether there is room for an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fit {
    /// In every case.
    Now,
    /// That depends on what is in doubt, or on what waits ahead of it.
    Later,
    /// In no case.
    Never(Reason),
}

/// Which waiting operations an operation may not overtake (hazard L3).
#[derive(Clone, Copy, Debug)]
pub(super) enum Ahead {
    /// All of them: a one-group operation that arrives.
    All,
    /// All prepares, and one-group operations that are older: a prepare that arrives.
    Older(Rank),
    /// Those before it in the queue: an operation that waits itself.
    Before(Turn),
}

/// What a waiting operation would do to an account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// How old it is.
    pub(super) rank: Rank,
    /// What would go out, net.
    pub(super) debit: u128,
    /// What would come in, net.
    pub(super) credit: u128,
}

/// An account at which something is in doubt or waits.
#[derive(Clone, Default)]
pub(super) struct Busy {
    // All in-doubt amounts, and what is left of each operation's when its own are offset: a total must have room for
    // the former, a limit only for the latter.
    debits: u128,
    credits: u128,
    net_debits: u128,
    net_credits: u128,
    /// What is prepared here, the oldest first.
    prepared: BTreeSet<Rank>,
    /// How many of it change the account, and how many read it.
    writers: usize,
    readers: usize,
    /// What waits here, in the order of the queue.
    claims: BTreeMap<Turn, Claim>,
    /// What waits here to read.
    waiting_readers: BTreeSet<Rank>,
}

impl Busy {
    /// Whether anything is in doubt.
    pub(super) fn in_doubt(&self) -> bool {
        self.writers > 0
    }

    /// The first waiter after `key`, or the first of all.
    pub(super) fn next_claim(&self, after: Option<Turn>) -> Option<Turn> {
        match after {
            None => self.claims.first_key_value().map(|(key, _)| *key),
            Some(after) => {
                let bounds = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
                self.claims.range(bounds).next().map(|(key, _)| *key)
            }
        }
    }

    /// Whether a read waits here that is older than `rank`: prepares may not go before it (hazard L4).
    fn older_read(&self, rank: Rank) -> bool {
        self.waiting_readers.first().is_some_and(|oldest| *oldest < rank)
    }

    /// Whether everything prepared or waiting here is younger than `rank`, so that a prepare may wait for it. Prepares
    /// wait in such an order that the last is the oldest, one-group operations in the order of their ages.
    fn all_younger(&self, rank: Rank) -> bool {
        let local = Turn { lane: Lane::Local, arrival: 0 };
        let oldest_prepare = self.claims.range(..local).next_back().map(|(_, claim)| claim.rank);
        let oldest_local = self.claims.range(local..).next().map(|(_, claim)| claim.rank);
        self.all_prepared_younger(rank)
            && oldest_prepare.is_none_or(|other| rank < other)
            && oldest_local.is_none_or(|other| rank < other)
    }

    fn all_prepared_younger(&self, rank: Rank) -> bool {
        self.prepared.first().is_none_or(|oldest| rank < *oldest)
    }

    /// Whether the amounts that wait ahead take more than `spare`.
    fn ahead_exceeds(&self, ahead: Ahead, spare: u128, amount: impl Fn(&Claim) -> u128) -> bool {
        let mut sum: u128 = 0;
        for (key, claim) in &self.claims {
            match ahead {
                Ahead::Before(own) if *key >= own => return false,
                // One-group operations wait in the order of their ages: all that follow are younger, too.
                Ahead::Older(rank) if key.lane == Lane::Local && claim.rank > rank => return false,
                _ => sum = sum.saturating_add(amount(claim)),
            }
            if sum > spare {
                return true;
            }
        }
        false
    }
}

/// Room in the totals: `Later` if only what is in doubt may make them overflow.
fn room(account: &Account, busy: Option<&Busy>, effect: &Effect) -> Fit {
    let sums = busy.map_or((0, 0), |busy| (busy.debits, busy.credits));
    let sides = [
        (account.debits_posted, account.debits_pending, effect.debit, sums.0),
        (account.credits_posted, account.credits_pending, effect.credit, sums.1),
    ];
    let mut fit = Fit::Now;
    for (posted, pending, amount, in_doubt) in sides {
        let Some(total) = posted.checked_add(pending).and_then(|sum| sum.checked_add(amount)) else {
            return Fit::Never(Reason::Overflow);
        };
        if amount > 0 && total.checked_add(in_doubt).is_none() {
            fit = Fit::Later;
        }
    }
    fit
}

/// Room under one limit: `amount` more on the limited side, whose total is `used`, against the other side's `granted`.
/// `taken` and `coming` are in doubt on the limited and on the other side.
fn margin(used: u128, granted: u128, taken: u128, coming: u128, amount: u128) -> Result<Option<u128>, ()> {
    let (mut coming, mut granted, mut taken) = (coming, granted, taken);
    if is_planted(Bug::RejectedAtLow) {
        coming = 0;
    } else if is_planted(Bug::CreditInDoubtSpent) {
        granted = granted.saturating_add(coming);
    } else if is_planted(Bug::DebitInDoubtFree) {
        taken = 0;
    }
    let high = granted.saturating_add(coming).saturating_sub(used);
    if amount > high {
        return Err(());
    }
    // What is left over if everything in doubt goes against it.
    Ok(granted.checked_sub(used).and_then(|rest| rest.checked_sub(taken)).and_then(|low| low.checked_sub(amount)))
}

/// Room under the account's rules.
fn limit(account: &Account, busy: Option<&Busy>, effect: &Effect, ahead: Ahead) -> Fit {
    let (debits, credits) = busy.map_or((0, 0), |busy| (busy.net_debits, busy.net_credits));
    let (debit, credit) = effect.net();
    let used_debits = account.debits_posted.saturating_add(account.debits_pending);
    let used_credits = account.credits_posted.saturating_add(account.credits_pending);
    let mut fit = Fit::Now;
    if debit > 0 && account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS) {
        match margin(used_debits, account.credits_posted, debits, credits, debit) {
            Err(()) => return Fit::Never(Reason::ExceedsCredits),
            Ok(None) => fit = Fit::Later,
            Ok(Some(spare)) => {
                if busy.is_some_and(|busy| busy.ahead_exceeds(ahead, spare, |claim| claim.debit)) {
                    fit = Fit::Later;
                }
            }
        }
    }
    if credit > 0 && account.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS) {
        match margin(used_credits, account.debits_posted, credits, debits, credit) {
            Err(()) => return Fit::Never(Reason::ExceedsDebits),
            Ok(None) => fit = Fit::Later,
            Ok(Some(spare)) => {
                if busy.is_some_and(|busy| busy.ahead_exceeds(ahead, spare, |claim| claim.credit)) {
                    fit = Fit::Later;
                }
            }
        }
    }
    fit
}

/// Whether an account's rules limit an effect: then it waits its turn there.
fn is_limited(account: &Account, effect: &Effect) -> bool {
    let (debit, credit) = effect.net();
    (debit > 0 && account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS))
        || (credit > 0 && account.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS))
}

/// Whether a lock is in the way: a read where something is in doubt, or a change where something was read.
fn is_locked(busy: Option<&Busy>, effect: &Effect) -> bool {
    busy.is_some_and(|busy| (effect.read && busy.writers > 0) || (effect.writes() && busy.readers > 0))
}

/// The accounts at which something is in doubt or waits. An account's row says whether it is among them, so that the
/// others cost no lookup.
#[derive(Clone)]
pub(super) struct Doubts {
    busy: Table<Place, Busy>,
}

impl Doubts {
    /// Nothing is in doubt.
    pub(super) fn new(seed: u64) -> Doubts {
        Doubts { busy: Table::new(seed, 64) }
    }

    /// What is in doubt or waits at an account.
    pub(super) fn at(&self, accounts: &Accounts, place: Place) -> Option<&Busy> {
        if accounts.row(place).busy { self.busy.get(&place) } else { None }
    }

    fn at_mut(&mut self, accounts: &mut Accounts, place: Place) -> &mut Busy {
        let row = accounts.row_mut(place);
        if !row.busy {
            row.busy = true;
            self.busy.insert(place, Busy::default());
        }
        self.busy.get_mut(&place).expect("a busy account has a row")
    }

    /// Forgets an account at which nothing is in doubt or waits any more.
    fn tidy(&mut self, accounts: &mut Accounts, place: Place) {
        let idle = self.busy.get(&place).is_some_and(|busy| busy.prepared.is_empty() && busy.claims.is_empty());
        if idle {
            let busy = self.busy.remove(&place).expect("it was just there");
            let sums = [busy.debits, busy.credits, busy.net_debits, busy.net_credits];
            let counts = [busy.writers, busy.readers, busy.waiting_readers.len()];
            assert!(sums == [0; 4] && counts == [0; 3], "no effect is in doubt without a transaction");
            accounts.row_mut(place).busy = false;
        }
    }

    /// Why an operation can never be applied to accounts of these ledgers as they are, if that is so.
    pub(super) fn never(&self, accounts: &Accounts, ledger: u32, effects: &Effects) -> Option<Reason> {
        let effects = effects.as_slice();
        if effects.iter().any(|effect| accounts.row(effect.place).account.ledger != ledger) {
            return Some(Reason::LedgerMismatch);
        }
        self.is_closed(accounts, effects).then_some(Reason::Closed)
    }

    /// Whether an account that would change is closed.
    pub(super) fn is_closed(&self, accounts: &Accounts, effects: &[Effect]) -> bool {
        let closed = |effect: &Effect| accounts.row(effect.place).account.flags.has(Flags::CLOSED);
        effects.iter().any(|effect| effect.writes() && closed(effect))
    }

    /// Whether there is room for an operation. The checks are made in a fixed order, each on all accounts.
    pub(super) fn judge(&self, accounts: &Accounts, effects: &Effects, ahead: Ahead) -> Fit {
        let effects = effects.as_slice();
        let locked = effects.iter().any(|effect| is_locked(self.at(accounts, effect.place), effect));
        let rooms = effects
            .iter()
            .map(|effect| room(&accounts.row(effect.place).account, self.at(accounts, effect.place), effect));
        let limits = effects
            .iter()
            .map(|effect| limit(&accounts.row(effect.place).account, self.at(accounts, effect.place), effect, ahead));
        let mut all = if locked { Fit::Later } else { Fit::Now };
        for fit in rooms.chain(limits) {
            match fit {
                Fit::Now => {}
                Fit::Later => all = Fit::Later,
                Fit::Never(_) => return fit,
            }
        }
        all
    }

    /// Where an operation that waits has to be looked at again: where a rule limits it, and where only what is in
    /// doubt leaves no room. An account that merely receives is not among them: its traffic must not wake it.
    pub(super) fn obstacles(&self, accounts: &Accounts, effects: &Effects) -> Effects {
        let mut found = Effects::default();
        for effect in effects.as_slice() {
            let account = &accounts.row(effect.place).account;
            let busy = self.at(accounts, effect.place);
            let full = room(account, busy, effect) != Fit::Now;
            if full || effect.read || is_locked(busy, effect) || is_limited(account, effect) {
                found.push(*effect);
            }
        }
        found
    }

    /// Whether a read that is older than the prepare waits at one of its accounts.
    pub(super) fn read_is_ahead(&self, accounts: &Accounts, effects: &Effects, rank: Rank) -> bool {
        let mut writes = effects.as_slice().iter().filter(|effect| effect.writes());
        writes.any(|effect| self.at(accounts, effect.place).is_some_and(|busy| busy.older_read(rank)))
    }

    /// Whether a prepare is older than everything in its way: then it may wait (hazards L1, L2).
    pub(super) fn may_wait(&self, accounts: &Accounts, effects: &Effects, rank: Rank) -> bool {
        effects.as_slice().iter().filter_map(|e| self.at(accounts, e.place)).all(|busy| busy.all_younger(rank))
    }

    /// Whether a prepare that waits is still older than everything that was prepared meanwhile: then it may go on.
    pub(super) fn may_go_on_waiting(&self, accounts: &Accounts, effects: &Effects, rank: Rank) -> bool {
        let mut busy = effects.as_slice().iter().filter_map(|e| self.at(accounts, e.place));
        busy.all(|busy| busy.all_prepared_younger(rank))
    }

    /// Holds the effects of a transaction that has voted yes.
    pub(super) fn hold(&mut self, accounts: &mut Accounts, effects: &Effects, rank: Rank) {
        const FITS: &str = "a granted effect fits with all in doubt";
        for effect in effects.as_slice() {
            let (debit, credit) = effect.net();
            let busy = self.at_mut(accounts, effect.place);
            busy.debits = busy.debits.checked_add(effect.debit).expect(FITS);
            busy.credits = busy.credits.checked_add(effect.credit).expect(FITS);
            busy.net_debits += debit;
            busy.net_credits += credit;
            busy.writers += usize::from(effect.writes());
            busy.readers += usize::from(effect.read);
            assert!(busy.prepared.insert(rank), "a transaction is prepared once at an account");
        }
    }

    /// Lets go of the effects of a transaction.
    pub(super) fn release(&mut self, accounts: &mut Accounts, effects: &Effects, rank: Rank) {
        const HELD: &str = "what is let go was held";
        for effect in effects.as_slice() {
            let (debit, credit) = effect.net();
            let busy = self.at_mut(accounts, effect.place);
            busy.debits = busy.debits.checked_sub(effect.debit).expect(HELD);
            busy.credits = busy.credits.checked_sub(effect.credit).expect(HELD);
            busy.net_debits = busy.net_debits.checked_sub(debit).expect(HELD);
            busy.net_credits = busy.net_credits.checked_sub(credit).expect(HELD);
            busy.writers = busy.writers.checked_sub(usize::from(effect.writes())).expect(HELD);
            busy.readers = busy.readers.checked_sub(usize::from(effect.read)).expect(HELD);
            assert!(busy.prepared.remove(&rank), "{HELD}");
            self.tidy(accounts, effect.place);
        }
    }

    /// An operation begins to wait at the places of `effects`.
    pub(super) fn claim(&mut self, accounts: &mut Accounts, turn: Turn, rank: Rank, effects: &Effects) {
        for effect in effects.as_slice() {
            let (debit, credit) = effect.net();
            let busy = self.at_mut(accounts, effect.place);
            let before = busy.claims.insert(turn, Claim { rank, debit, credit });
            assert!(before.is_none(), "an operation waits once at an account");
            if effect.read {
                busy.waiting_readers.insert(rank);
            }
        }
    }

    /// An operation no longer waits at the places of `effects`.
    pub(super) fn unclaim(&mut self, accounts: &mut Accounts, turn: Turn, rank: Rank, effects: &Effects) {
        for effect in effects.as_slice() {
            let busy = self.at_mut(accounts, effect.place);
            let claim = busy.claims.remove(&turn);
            assert!(claim.is_some(), "an operation waits where it was put");
            if effect.read {
                busy.waiting_readers.remove(&rank);
            }
            self.tidy(accounts, effect.place);
        }
    }
}

/// What an image says of accounts: it is looked at before [`Doubts::hold`] and [`Doubts::claim`] rely on it.
impl Doubts {
    /// As [`Doubts::hold`], of an image's row.
    pub(super) fn load_held(&mut self, accounts: &mut Accounts, effects: &Effects, rank: Rank) -> Result<(), Fault> {
        are_apart(accounts, effects)?;
        let fits = |effect: &Effect| {
            let Some(busy) = self.at(accounts, effect.place) else { return true };
            let sums = (busy.debits.checked_add(effect.debit), busy.credits.checked_add(effect.credit));
            sums.0.is_some() && sums.1.is_some() && !busy.prepared.contains(&rank)
        };
        if !effects.as_slice().iter().all(fits) {
            return Err("more in doubt at an account than fits, or a transaction twice");
        }
        self.hold(accounts, effects, rank);
        Ok(())
    }

    /// As [`Doubts::claim`], of an image's row with a place in the queue of its own.
    pub(super) fn load_claim(
        &mut self,
        accounts: &mut Accounts,
        turn: Turn,
        rank: Rank,
        effects: &Effects,
    ) -> Result<(), Fault> {
        are_apart(accounts, effects)?;
        self.claim(accounts, turn, rank, effects);
        Ok(())
    }
}

/// Whether effects are on accounts that exist, each on another one.
fn are_apart(accounts: &Accounts, effects: &Effects) -> Result<(), Fault> {
    let mut places: Vec<Place> = effects.as_slice().iter().map(|effect| effect.place).collect();
    places.sort_unstable();
    let twice = places.windows(2).any(|pair| pair[0] == pair[1]);
    if twice || !places.into_iter().all(|place| accounts.has(place)) {
        return Err("effects on no account, or twice on one");
    }
    Ok(())
}

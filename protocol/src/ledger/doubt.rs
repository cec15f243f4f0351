//! What is in doubt and what waits at an account, and what that leaves room for.
//!
//! A prepared transaction may still commit or abort, so an account has not one balance but an interval. `low` takes off
//! every in-doubt debit and counts no in-doubt credit; `high` the reverse. An operation that `low` allows succeeds at
//! once, whatever becomes of the transactions in doubt; one that `high` does not allow is rejected at once; anything
//! between waits (hazard S3). Totals that might overflow are treated alike: what is granted can always be applied
//! (hazard S4). The user's own pending amounts count as taken and never as received, in both; a posting or the release of
//! a pending amount that is itself in doubt gives back what it may give back in `high` only.
//!
//! A transaction that reads an account locks it: what is read is read where nothing is in doubt, and no effect is
//! granted there before the transaction has ended (hazard S2). Others may read it meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::accounts::{Accounts, Place, Row};
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

const HELD: &str = "what is let go was held";

/// What an operation does to one side of an account.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Change {
    /// What it adds to posted and pending together.
    pub(super) grows: u128,
    /// What it adds to posted.
    pub(super) posts: u128,
    /// What it takes off posted and pending together: of a pending amount, what is not posted.
    pub(super) frees: u128,
}
wire_struct!(Change { grows, posts, frees });

impl Change {
    /// Of a transfer that is posted at once.
    pub(super) fn of(amount: u128) -> Change {
        Change { grows: amount, posts: amount, frees: 0 }
    }

    fn is_none(&self) -> bool {
        *self == Change::default()
    }

    /// Both together; nothing if a sum does not fit.
    pub(super) fn and(self, other: Change) -> Option<Change> {
        Some(Change {
            grows: self.grows.checked_add(other.grows)?,
            posts: self.posts.checked_add(other.posts)?,
            frees: self.frees.checked_add(other.frees)?,
        })
    }
}

/// What is left of an operation under one limit, when its own amounts are offset. Each sum over all that is in doubt
/// fits, because the totals have room for it; the two gifts together need not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Net {
    /// What it takes of the room.
    takes: u128,
    /// What it gives by a release on the limited side.
    frees: u128,
    /// What it gives by a posting on the other side.
    grants: u128,
}

impl Net {
    /// `limited` is the side that may not grow beyond what is posted on the other.
    fn of(limited: &Change, other: &Change) -> Net {
        let after_frees = limited.grows.saturating_sub(limited.frees);
        Net {
            takes: after_frees.saturating_sub(other.posts),
            frees: limited.frees.saturating_sub(limited.grows),
            grants: other.posts.saturating_sub(after_frees),
        }
    }

    /// Both together; nothing if a sum does not fit.
    fn and(self, other: Net) -> Option<Net> {
        Some(Net {
            takes: self.takes.checked_add(other.takes)?,
            frees: self.frees.checked_add(other.frees)?,
            grants: self.grants.checked_add(other.grants)?,
        })
    }

    fn add(&mut self, other: Net) {
        *self = self.and(other).expect("the totals have room for all that is in doubt");
    }

    fn sub(&mut self, other: Net) {
        self.takes = self.takes.checked_sub(other.takes).expect(HELD);
        self.frees = self.frees.checked_sub(other.frees).expect(HELD);
        self.grants = self.grants.checked_sub(other.grants).expect(HELD);
    }

    fn gives(&self) -> u128 {
        self.frees.saturating_add(self.grants)
    }
}

/// The effect of an operation on one account.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Effect {
    /// The account.
    pub(super) place: Place,
    /// What goes out.
    pub(super) debit: Change,
    /// What comes in.
    pub(super) credit: Change,
    /// It is read.
    pub(super) read: bool,
    /// It is closed or opened: nothing else may be in doubt.
    pub(super) switched: bool,
}
wire_struct!(Effect { place, debit, credit, read, switched });

impl Effect {
    /// A debit that is posted at once.
    pub(super) fn debit(place: Place, amount: u128) -> Effect {
        Effect { place, debit: Change::of(amount), ..Effect::default() }
    }

    /// A credit that is posted at once.
    pub(super) fn credit(place: Place, amount: u128) -> Effect {
        Effect { place, credit: Change::of(amount), ..Effect::default() }
    }

    /// Whether it changes the account.
    pub(super) fn writes(&self) -> bool {
        self.switched || !self.debit.is_none() || !self.credit.is_none()
    }

    /// Whether it is granted only where nothing is in doubt.
    fn is_quiet(&self) -> bool {
        self.read || self.switched
    }

    /// Whether a closed account refuses it: everything but a release.
    fn needs_open(&self) -> bool {
        let credit = if is_planted(Bug::ClosedForDebitsOnly) { &Change::default() } else { &self.credit };
        [&self.debit, credit].iter().any(|side| side.grows > 0 || side.posts > 0)
    }

    /// Under "debits must not exceed credits".
    fn debit_net(&self) -> Net {
        Net::of(&self.debit, &self.credit)
    }

    /// Under "credits must not exceed debits".
    fn credit_net(&self) -> Net {
        Net::of(&self.credit, &self.debit)
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

    /// Those for which `first` holds, and the others.
    pub(super) fn partition(self, first: impl Fn(&Effect) -> bool) -> (Effects, Effects) {
        let (yes, no) = self.0.into_iter().partition(first);
        (Effects(yes), Effects(no))
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
    /// What it would take of the room for debits.
    pub(super) debit: u128,
    /// What it would take of the room for credits.
    pub(super) credit: u128,
}

/// An account at which something is in doubt or waits.
#[derive(Clone, Default)]
pub(super) struct Busy {
    // All in-doubt amounts, and what is left of each operation's when its own are offset: a total must have room for
    // the former, a limit only for the latter.
    debits: u128,
    credits: u128,
    debit_nets: Net,
    credit_nets: Net,
    /// What is prepared here, the oldest first.
    prepared: BTreeSet<Rank>,
    /// How many of it change the account, read it, and close or open it.
    writers: usize,
    readers: usize,
    switches: usize,
    /// What waits here, in the order of the queue.
    claims: BTreeMap<Turn, Claim>,
    /// What waits here for a quiet moment: to read, to close or to open.
    waiting_quiet: BTreeSet<Rank>,
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

    /// Whether something waits here for a quiet moment that is older than `rank`: prepares may not go before it
    /// (hazard L4).
    fn older_read(&self, rank: Rank) -> bool {
        self.waiting_quiet.first().is_some_and(|oldest| *oldest < rank)
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
        (account.debits_posted, account.debits_pending, effect.debit.grows, sums.0),
        (account.credits_posted, account.credits_pending, effect.credit.grows, sums.1),
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
/// `doubt`: what is in doubt may take of that room, and may give.
fn margin(used: u128, granted: u128, doubt: Net, amount: u128) -> Result<Option<u128>, ()> {
    let (mut coming, mut granted, mut taken) = (doubt.gives(), granted, doubt.takes);
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
    let (debits, credits) = busy.map_or_else(Default::default, |busy| (busy.debit_nets, busy.credit_nets));
    let (debit, credit) = (effect.debit_net().takes, effect.credit_net().takes);
    let used_debits = account.debits_posted.saturating_add(account.debits_pending);
    let used_credits = account.credits_posted.saturating_add(account.credits_pending);
    let mut fit = Fit::Now;
    if debit > 0 && account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS) {
        match margin(used_debits, account.credits_posted, debits, debit) {
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
        match margin(used_credits, account.debits_posted, credits, credit) {
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
    (effect.debit_net().takes > 0 && account.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS))
        || (effect.credit_net().takes > 0 && account.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS))
}

/// Whether a lock is in the way: where something is in doubt of what wants quiet, or a change where something was read
/// or is being closed or opened.
fn is_locked(busy: Option<&Busy>, effect: &Effect) -> bool {
    busy.is_some_and(|busy| {
        (effect.is_quiet() && busy.writers > 0) || (effect.writes() && (busy.readers > 0 || busy.switches > 0))
    })
}

/// Whether the account is closed to an effect: `Later` if that is in doubt.
fn closed(account: &Account, busy: Option<&Busy>, effect: &Effect) -> Fit {
    if !effect.needs_open() || !account.flags.has(Flags::CLOSED) {
        Fit::Now // Where it is about to be closed, the lock is in the way.
    } else if busy.is_some_and(|busy| busy.switches > 0) {
        Fit::Later
    } else {
        Fit::Never(Reason::Closed)
    }
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
        self.of(accounts.row(place), place)
    }

    fn of(&self, row: &Row, place: Place) -> Option<&Busy> {
        if row.busy { self.busy.get(&place) } else { None }
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
            let nets = [busy.debit_nets, busy.credit_nets];
            let counts = [busy.writers, busy.readers, busy.switches, busy.waiting_quiet.len()];
            let none = (busy.debits, busy.credits) == (0, 0) && nets == [Net::default(); 2] && counts == [0; 4];
            assert!(none, "no effect is in doubt without a transaction");
            accounts.row_mut(place).busy = false;
        }
    }

    /// Whether the accounts are all of one ledger.
    pub(super) fn are_of(&self, accounts: &Accounts, ledger: u32, effects: &Effects) -> bool {
        effects.as_slice().iter().all(|effect| accounts.row(effect.place).account.ledger == ledger)
    }

    /// Whether there is room for an operation. That an account is closed goes before that another has no room, and that
    /// before that another's rules do not allow it; else the first account's reason counts.
    pub(super) fn judge(&self, accounts: &Accounts, effects: &Effects, ahead: Ahead) -> Fit {
        let mut all = Fit::Now;
        // One for each of the checks, which count in their order whichever account they are made on.
        let mut refused: [Option<Reason>; 3] = [None; 3];
        for effect in effects.as_slice() {
            let row = accounts.row(effect.place);
            let busy = self.of(row, effect.place);
            if is_locked(busy, effect) {
                all = Fit::Later;
            }
            let account = &row.account;
            let fits =
                [closed(account, busy, effect), room(account, busy, effect), limit(account, busy, effect, ahead)];
            for (refused, fit) in refused.iter_mut().zip(fits) {
                match fit {
                    Fit::Now => {}
                    Fit::Later => all = Fit::Later,
                    Fit::Never(reason) => *refused = refused.or(Some(reason)),
                }
            }
        }
        refused.into_iter().flatten().next().map_or(all, Fit::Never)
    }

    /// Where an operation that waits has to be looked at again: where a rule limits it, and where only what is in
    /// doubt leaves no room. An account that merely receives is not among them: its traffic must not wake it.
    pub(super) fn obstacles(&self, accounts: &Accounts, effects: &Effects) -> Effects {
        let mut found = Effects::default();
        for effect in effects.as_slice() {
            let account = &accounts.row(effect.place).account;
            let busy = self.at(accounts, effect.place);
            let full = room(account, busy, effect) != Fit::Now;
            if full || effect.is_quiet() || is_locked(busy, effect) || is_limited(account, effect) {
                found.push(*effect);
            }
        }
        found
    }

    /// Whether a read, a closing or an opening that is older than the prepare waits at one of its accounts.
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
            let busy = self.at_mut(accounts, effect.place);
            busy.debits = busy.debits.checked_add(effect.debit.grows).expect(FITS);
            busy.credits = busy.credits.checked_add(effect.credit.grows).expect(FITS);
            busy.debit_nets.add(effect.debit_net());
            busy.credit_nets.add(effect.credit_net());
            busy.writers += usize::from(effect.writes());
            busy.readers += usize::from(effect.read);
            busy.switches += usize::from(effect.switched);
            assert!(busy.prepared.insert(rank), "a transaction is prepared once at an account");
        }
    }

    /// Lets go of the effects of a transaction.
    pub(super) fn release(&mut self, accounts: &mut Accounts, effects: &Effects, rank: Rank) {
        for effect in effects.as_slice() {
            let busy = self.at_mut(accounts, effect.place);
            busy.debits = busy.debits.checked_sub(effect.debit.grows).expect(HELD);
            busy.credits = busy.credits.checked_sub(effect.credit.grows).expect(HELD);
            busy.debit_nets.sub(effect.debit_net());
            busy.credit_nets.sub(effect.credit_net());
            busy.writers = busy.writers.checked_sub(usize::from(effect.writes())).expect(HELD);
            busy.readers = busy.readers.checked_sub(usize::from(effect.read)).expect(HELD);
            busy.switches = busy.switches.checked_sub(usize::from(effect.switched)).expect(HELD);
            assert!(busy.prepared.remove(&rank), "{HELD}");
            self.tidy(accounts, effect.place);
        }
    }

    /// An operation begins to wait at the places of `effects`.
    pub(super) fn claim(&mut self, accounts: &mut Accounts, turn: Turn, rank: Rank, effects: &Effects) {
        for effect in effects.as_slice() {
            let busy = self.at_mut(accounts, effect.place);
            let (debit, credit) = (effect.debit_net().takes, effect.credit_net().takes);
            let before = busy.claims.insert(turn, Claim { rank, debit, credit });
            assert!(before.is_none(), "an operation waits once at an account");
            if effect.is_quiet() {
                busy.waiting_quiet.insert(rank);
            }
        }
    }

    /// An operation no longer waits at the places of `effects`.
    pub(super) fn unclaim(&mut self, accounts: &mut Accounts, turn: Turn, rank: Rank, effects: &Effects) {
        for effect in effects.as_slice() {
            let busy = self.at_mut(accounts, effect.place);
            let claim = busy.claims.remove(&turn);
            assert!(claim.is_some(), "an operation waits where it was put");
            if effect.is_quiet() {
                busy.waiting_quiet.remove(&rank);
            }
            self.tidy(accounts, effect.place);
        }
    }
}

/// What an image says of accounts: it is looked at before [`Doubts::hold`] and [`Doubts::claim`] rely on it.
impl Doubts {
    /// As [`Doubts::hold`], of an image's row.
    pub(super) fn load_held(&mut self, accounts: &mut Accounts, effects: &Effects, rank: Rank) -> Result<(), Fault> {
        self.check(accounts, effects)?;
        let fits = |effect: &Effect| {
            let Some(busy) = self.at(accounts, effect.place) else { return true };
            let debits = busy.debits.checked_add(effect.debit.grows);
            let credits = busy.credits.checked_add(effect.credit.grows);
            let nets = (busy.debit_nets.and(effect.debit_net()), busy.credit_nets.and(effect.credit_net()));
            let fit = debits.is_some() && credits.is_some() && nets.0.is_some() && nets.1.is_some();
            fit && !busy.prepared.contains(&rank)
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
        self.check(accounts, effects)?;
        self.claim(accounts, turn, rank, effects);
        Ok(())
    }

    /// Whether effects are on accounts that exist, each on another one.
    pub(super) fn check(&self, accounts: &Accounts, effects: &Effects) -> Result<(), Fault> {
        let mut places: Vec<Place> = effects.as_slice().iter().map(|effect| effect.place).collect();
        places.sort_unstable();
        let twice = places.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || !places.into_iter().all(|place| accounts.has(place)) {
            return Err("effects on no account, or twice on one");
        }
        Ok(())
    }
}

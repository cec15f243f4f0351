//! Operations of one group: transfers between two of its accounts, reads in their turn, and what waits.

use super::Ledger;
use super::accounts::{NO_TRANSFER, Place, Whereabouts};
use super::doubt::{Ahead, Effect, Effects, Fit, Rank};
use super::execution::sides;
use super::footprint::{Footprint, Spot};
use super::locks::Lock;
use super::model::{Account, Flags, ItemResult, Outcome, Posted, Reason, Sides, Transfer, TransferResult};
use super::operations::Reply;
use super::output::{ClientOutput, CommandResult, Output, TransactionResult};
use super::posted::PostedRow;
use super::queue::{Asker, Lane, Turn, Waiter, Waiting, WaitingTransfer};
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
    /// Something else is under way under an id that it names.
    Busy,
}

/// A transfer that is to be posted, with its accounts of this group.
pub(super) struct Post {
    /// The transfer.
    pub(super) transfer: Transfer,
    /// Of its content.
    pub(super) digest: u128,
    /// Where the debit account lies, if it is here.
    pub(super) debit: Option<Place>,
    credit: Option<Place>,
    sides: Sides,
}

impl Post {
    /// Nothing if neither account is here.
    pub(super) fn new(transfer: Transfer, digest: u128, places: (Option<Place>, Option<Place>)) -> Option<Post> {
        let (debit, credit) = places;
        let sides = sides(debit, credit)?;
        Some(Post { transfer, digest, debit, credit, sides })
    }

    /// Of a transfer by itself, whose effects these are.
    pub(super) fn alone(transfer: &Transfer, digest: u128, effects: &Effects) -> Post {
        let side = |debit: bool| {
            let found = effects.as_slice().iter().find(|effect| (effect.debit.posts > 0) == debit);
            found.map(|effect| effect.place)
        };
        let post = Post::new(*transfer, digest, (side(true), side(false)));
        post.expect("what takes effect here has an account here")
    }
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
            Err(Trouble::Busy) => return Submitted::now(TransferResult::Retry),
            Err(Trouble::Never(reason)) => return self.reject_now(txn, digest, reason),
        };
        match self.doubts.judge(&self.accounts, &effects, Ahead::All) {
            Fit::Never(reason) => self.reject_now(txn, digest, reason),
            Fit::Now => {
                self.post_all(&[Post::alone(transfer, digest, &effects)]);
                self.record(txn, Some(digest), Outcome::Committed, &effects);
                Submitted::Committed
            }
            Fit::Later if self.queue.is_full() => Submitted::now(TransferResult::Retry),
            Fit::Later => {
                self.counter = self.counter.saturating_add(1);
                let rank = Rank { age: Age { counter: self.counter, id: transfer.id }, txn };
                let needs = Footprint::from(effects.clone());
                let waiting = WaitingTransfer { transfer: *transfer, digest, effects };
                self.enqueue(Lane::Local, Waiting::Transfer(Box::new(waiting)), rank, deadline, &needs, vec![asker]);
                Submitted::Waits
            }
        }
    }

    /// What is under way under an id has its answer later: whoever asks again is told, too (hazard S16). Other content
    /// under such an id has no answer yet, because what is under way may still end without an outcome.
    pub(super) fn attach(&mut self, txn: TxnId, digest: u128, asker: Asker) -> Option<Submitted> {
        let attached = if let Some(turn) = self.queue.named(txn) {
            let waiter = self.queue.get(turn).expect("the index names what waits");
            let same = match &waiter.what {
                Waiting::Transfer(waiting) => waiting.digest == digest,
                Waiting::Transaction(waiting) => waiting.digest == digest,
                Waiting::Prepare(_) | Waiting::Read(..) => false,
            };
            same && self.queue.attach(turn, asker)
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

    /// As [`Ledger::record`], of what may touch only keys here.
    pub(super) fn record_at(&mut self, txn: TxnId, digest: Option<u128>, outcome: Outcome, needs: &Footprint) {
        match (needs.effects.as_slice(), needs.locks().first().and_then(Lock::key)) {
            ([], Some(key)) => {
                let shard = self.accounts.map().shard_of_key(key);
                self.ids.record(txn, digest, outcome, Some(shard));
            }
            _ => self.record(txn, digest, outcome, &needs.effects),
        }
    }

    /// The effects of a transfer both of whose accounts must be here.
    fn effects_within(&self, transfer: &Transfer, debit: Whereabouts) -> Result<Effects, Trouble> {
        check_content(transfer)?;
        let credit = self.accounts.whereabouts(transfer.credit);
        match (debit, credit) {
            (Whereabouts::Here(from), Whereabouts::Here(to)) => {
                let mut effects = Effects::default();
                effects.push(Effect::debit(from, transfer.amount));
                effects.push(Effect::credit(to, transfer.amount));
                match self.doubts.are_of(&self.accounts, transfer.ledger, &effects) {
                    false => Err(Trouble::Never(Reason::LedgerMismatch)),
                    true => Ok(effects),
                }
            }
            (Whereabouts::Here(_), Whereabouts::Elsewhere) => Err(Trouble::Moved),
            _ => Err(Trouble::Never(Reason::NoSuchAccount)),
        }
    }

    /// The effects of a transfer on the accounts that are here; other groups have the rest.
    pub(super) fn effects_here(&self, transfer: &Transfer) -> Result<Effects, Trouble> {
        check_content(transfer)?;
        let mut effects = Effects::default();
        let debit = Effect::debit as fn(Place, u128) -> Effect;
        let both = [(transfer.debit, debit), (transfer.credit, Effect::credit)];
        for (account, effect) in both {
            match self.accounts.whereabouts(account) {
                Whereabouts::Here(place) => effects.push(effect(place, transfer.amount)),
                Whereabouts::Missing | Whereabouts::Nowhere => return Err(Trouble::Never(Reason::NoSuchAccount)),
                Whereabouts::Elsewhere => {}
            }
        }
        if effects.as_slice().is_empty() { Err(Trouble::Moved) } else { Ok(effects) }
    }

    /// Posts what was granted, together: an account obeys its rules before it and after it.
    pub(super) fn post_all(&mut self, posts: &[Post]) {
        for post in posts {
            self.post(post);
        }
        for post in posts {
            let flow = self.flows.get(&post.transfer.ledger).expect("what was posted has flowed");
            assert_eq!(flow.difference, flow.sent.wrapping_sub(flow.received), "money is neither made nor lost");
            for place in [post.debit, post.credit].into_iter().flatten() {
                check_rules(&self.accounts.row(place).account);
                self.versions.touch_account(place, self.applied);
                self.stir(Spot::Account(place), None);
            }
        }
    }

    fn post(&mut self, post: &Post) {
        const FITS: &str = "what was granted can be applied";
        let Post { transfer, digest, sides, .. } = post;
        let amount = transfer.amount;
        let (position, flow) = (self.posted.len(), self.flows.entry(transfer.ledger).or_default());
        let (mut before_debit, mut before_credit) = (NO_TRANSFER, NO_TRANSFER);
        if let Some(place) = post.debit {
            let row = self.accounts.row_mut(place);
            row.account.debits_posted = row.account.debits_posted.checked_add(amount).expect(FITS);
            before_debit = std::mem::replace(&mut row.last, position);
            flow.difference = flow.difference.wrapping_add(amount);
        }
        if let Some(place) = post.credit {
            let row = self.accounts.row_mut(place);
            row.account.credits_posted = row.account.credits_posted.checked_add(amount).expect(FITS);
            before_credit = std::mem::replace(&mut row.last, position);
            flow.difference = flow.difference.wrapping_sub(amount);
        }
        match sides {
            Sides::Debit => flow.sent = flow.sent.wrapping_add(amount),
            Sides::Credit if is_planted(Bug::ReceivedNotCounted) => {}
            Sides::Credit => flow.received = flow.received.wrapping_add(amount),
            Sides::Both => {}
        }
        let posted = Posted { transfer: *transfer, sides: *sides, posted_at: self.time };
        self.posted.push(PostedRow { posted, before_debit, before_credit }, *digest);
        self.index.enter_posting(position, &posted);
        for place in [post.debit, post.credit].into_iter().flatten() {
            self.note_balances(place, transfer.id);
        }
    }

    /// Puts an operation into the queue, which has a place.
    pub(super) fn enqueue(
        &mut self,
        lane: Lane,
        what: Waiting,
        rank: Rank,
        deadline: LogTime,
        needs: &Footprint,
        askers: Vec<Asker>,
    ) -> Turn {
        let at = match lane {
            Lane::Read => needs.clone(),
            Lane::Prepare | Lane::Local => self.obstacles(needs),
        };
        for session in askers.iter().filter_map(|asker| asker.session) {
            self.sessions.begin_waiting(session);
        }
        let turn = self.queue.next_turn(lane);
        self.claim(turn, rank, &at);
        self.queue.insert(turn, Waiter { what, rank, deadline, at, askers });
        turn
    }

    /// Takes an operation out of the queue; whoever was behind it may move.
    pub(super) fn dequeue(&mut self, turn: Turn) -> Waiter {
        let waiter = self.queue.remove(turn).expect("it waits");
        self.unclaim(turn, waiter.rank, &waiter.at);
        waiter
    }

    /// It goes on waiting, perhaps for something else.
    pub(super) fn keep_waiting(&mut self, turn: Turn, needs: &Footprint) {
        let waiter = self.queue.get(turn).expect("it waits");
        let (rank, before) = (waiter.rank, waiter.at.clone());
        let at = self.obstacles(needs);
        if at != before {
            // First the new place, then the old one goes: an account that stays is not forgotten in between.
            let (new, old) = (difference(&at.effects, &before.effects), difference(&before.effects, &at.effects));
            // Where it waits for another amount than before there is one claim: the old one goes first.
            let (same, gone) = old.clone().partition(|old| new.as_slice().iter().any(|new| new.place == old.place));
            self.doubts.unclaim(&mut self.accounts, turn, rank, &same);
            self.doubts.claim(&mut self.accounts, turn, rank, &new);
            self.doubts.unclaim(&mut self.accounts, turn, rank, &gone);
            self.queue.move_to(turn, at);
            for effect in old.as_slice() {
                self.stir(Spot::Account(effect.place), Some(turn));
            }
        }
    }

    /// Something has changed for an operation that waits, if it still does.
    pub(super) fn reconsider(&mut self, turn: Turn, outputs: &mut Vec<Output>) {
        let Some(waiter) = self.queue.get(turn) else { return };
        match &waiter.what {
            Waiting::Read(account, place) => {
                let (account, place) = (*account, *place);
                if !self.is_in_doubt(place) {
                    self.dequeue(turn);
                    outputs.push(Output::Read(account, Some(self.accounts.row(place).account)));
                }
            }
            Waiting::Prepare(txn) => self.reconsider_prepare(*txn, turn, outputs),
            Waiting::Transfer(waiting) => {
                let WaitingTransfer { transfer, digest, effects } = (**waiting).clone();
                let outcome = match self.doubts.judge(&self.accounts, &effects, Ahead::Before(turn)) {
                    Fit::Later => return self.keep_waiting(turn, &effects.into()),
                    Fit::Never(reason) => Outcome::Rejected(reason),
                    Fit::Now => Outcome::Committed,
                };
                let waiter = self.dequeue(turn);
                if outcome == Outcome::Committed {
                    self.post_all(&[Post::alone(&transfer, digest, &effects)]);
                }
                self.record(TxnId::from(&transfer), Some(digest), outcome, &effects);
                self.tell(&waiter.askers, TransferResult::Done(outcome), None, outputs);
            }
            Waiting::Transaction(waiting) => {
                let waiting = (**waiting).clone();
                self.reconsider_transaction(turn, waiting, outputs);
            }
        }
    }

    /// Tells everyone who asked for what waited. `replies`: of a transaction, what it yields.
    pub(super) fn tell(
        &mut self,
        askers: &[Asker],
        result: TransferResult,
        replies: Option<&[Reply]>,
        outputs: &mut Vec<Output>,
    ) {
        for asker in askers {
            if let Some(session) = asker.session {
                self.sessions.end_waiting(session, self.time);
            }
            let result = if asker.alone {
                let replies = replies.map(<[_]>::to_vec);
                CommandResult::Transaction(TransactionResult { result, replayed: false, replies })
            } else {
                CommandResult::Late(ItemResult { index: asker.index, result, replayed: false })
            };
            outputs.push(Output::Client(ClientOutput { command: asker.command, result }));
        }
    }

    /// Ends the waiting of one operation, or one session, whose time has come; false if there is none. What is
    /// prepared never expires (hazard S10), and that something has waited too long is no outcome (hazard L10).
    pub(super) fn expire_one(&mut self, outputs: &mut Vec<Output>) -> bool {
        #[cfg(feature = "planted")]
        self.lose_holds(Bug::PreparedExpires, self.time);
        let Some(key) = self.queue.expired(self.time) else {
            return self.expire_pending(outputs) || self.sessions.expire_one(self.time);
        };
        let waiter = self.dequeue(key);
        match waiter.what {
            Waiting::Read(account, _) => outputs.push(Output::ReadExpired(account)),
            Waiting::Prepare(txn) => self.end_prepare(txn, VoteKind::Expired, outputs),
            Waiting::Transfer(_) | Waiting::Transaction(_) => {
                self.tell(&waiter.askers, TransferResult::Retry, None, outputs);
            }
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
            effects.push(Effect { place, read: true, ..Effect::default() });
            let what = Waiting::Read(account, place);
            self.enqueue(Lane::Read, what, rank, deadline, &effects.into(), Vec::new());
        }
    }
}

/// What can be said of a transfer without knowing an account.
pub(super) fn check_content(transfer: &Transfer) -> Result<(), Trouble> {
    if transfer.amount == 0 {
        return Err(Trouble::Never(Reason::ZeroAmount));
    }
    let AccountId(debit) = transfer.debit;
    if debit == transfer.credit.0 { Err(Trouble::Never(Reason::SameAccount)) } else { Ok(()) }
}

/// What holds of an account before and after each operation.
pub(super) fn check_rules(account: &Account) {
    const FITS: &str = "what was granted can be applied";
    let Account { flags, debits_pending, debits_posted, credits_pending, credits_posted, .. } = account;
    let debits = debits_posted.checked_add(*debits_pending).expect(FITS);
    let credits = credits_posted.checked_add(*credits_pending).expect(FITS);
    if flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS) {
        assert!(debits <= *credits_posted, "an account never owes more than its rules allow");
    }
    if flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS) {
        assert!(credits <= *debits_posted, "an account is never owed more than its rules allow");
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

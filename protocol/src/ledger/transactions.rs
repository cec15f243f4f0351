//! The records of two-phase commit, carried out row by row of [`crate::txn::table`].
//!
//! As participant a group holds, under a transaction's id, one attempt: prepared (its effects are in doubt, however
//! long that takes, hazard S10) or waiting for its vote. As coordinator it has a record from Begin until every
//! participant has acknowledged the end, and its own part is held like a participant's. When an id has its outcome,
//! nothing is held under it any more.

mod image;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Ledger;
use super::accounts::Whereabouts;
use super::digest::Sum;
use super::doubt::{Ahead, Effects, Fit, Rank};
use super::execution::swapped_of;
use super::footprint::Footprint;
use super::image::Row;
use super::model::{Outcome, PendingState, Reason, TransferResult};
use super::operations::{Action, Answered, Reply};
use super::output::{CommandResult, Output, TxnOutput};
use super::queue::{Asker, Lane, Turn, Waiting};
use super::records::{Coordinated, InDoubt};
use super::transfers::{Post, Trouble};
use crate::ids::{Attempt, GroupId, TxnId};
use crate::message::client::Why;
use crate::message::command::{Begin, Decide, Prepare, Resolve, Verdict};
use crate::message::txn::VoteKind;
use crate::planted::{Bug, is_planted};
use crate::time::LogTime;
use crate::txn::table::{self, BeginRow, DecideRow, FenceRow, Held as HeldHere, Known, PrepareRow, Record, ResolveRow};
use crate::wire::codec::wire_struct;

/// One attempt that is prepared or waits for its vote.
#[derive(Clone, Debug)]
pub(super) struct Held {
    txn: TxnId,
    attempt: Attempt,
    /// Who takes part, the coordinator first (hazard S14).
    participants: Vec<GroupId>,
    coordinator: GroupId,
    rank: Rank,
    action: Action,
    digest: u128,
    needs: Footprint,
    since: LogTime,
    /// Its place in the queue; nothing once it has voted yes.
    waiting: Option<Turn>,
}
wire_struct!(Held { txn, attempt, participants, coordinator, rank, action, digest, needs, since, waiting });

/// A coordinator's record.
#[derive(Clone)]
pub(super) struct Coordination {
    record: Coordinated,
    digest: u128,
    /// Who sent the same transfer as one of this group, and is told when there is a decision.
    askers: Vec<Asker>,
}
wire_struct!(Coordination { record, digest, askers });

/// Everything that is under way between groups.
#[derive(Clone, Default)]
pub(super) struct Transactions {
    // Behind `Arc`s, because an image shares them.
    held: BTreeMap<TxnId, Arc<Held>>,
    records: BTreeMap<TxnId, Arc<Coordination>>,
    /// How many are prepared here, by the group that decides (hazard L14).
    prepared: BTreeMap<GroupId, usize>,
    /// How many records wait for a group's acknowledgement (hazard L14).
    unacknowledged: BTreeMap<GroupId, usize>,
    /// The ids of the transfers within what is prepared, that live here.
    inner: BTreeSet<TxnId>,
    attached: usize,
}

fn count(counts: &mut BTreeMap<GroupId, usize>, group: GroupId, up: bool) {
    let entry = counts.entry(group).or_default();
    if up {
        *entry += 1;
    } else {
        *entry = entry.checked_sub(1).expect("what ends was counted");
        if *entry == 0 {
            counts.remove(&group);
        }
    }
}

/// The vote on what has no footprint here.
fn refusal(trouble: &Trouble) -> VoteKind {
    match trouble {
        Trouble::Never(reason) => VoteKind::No(*reason),
        Trouble::Moved => VoteKind::Moved,
        Trouble::Busy => VoteKind::Expired,
    }
}

impl Transactions {
    /// Everything that this group coordinates.
    pub(super) fn coordinated(&self) -> impl Iterator<Item = &Coordinated> {
        self.records.values().map(|coordination| &coordination.record)
    }

    /// Everything that is prepared or waits for its vote.
    pub(super) fn in_doubt(&self) -> impl Iterator<Item = InDoubt> {
        self.held.values().map(|held| InDoubt {
            txn: held.txn,
            attempt: held.attempt,
            coordinator: held.coordinator,
            since: held.since,
            waiting: held.waiting.is_some(),
            yields: held.action.transaction().is_some(),
        })
    }

    /// How many operations something has that is held under an id.
    pub(super) fn held_operations(&self, txn: TxnId) -> usize {
        self.held.get(&txn).map_or(0, |held| held.action.len())
    }

    /// How many have voted yes and are not resolved.
    pub(super) fn prepared_len(&self) -> usize {
        self.prepared.values().sum()
    }

    /// How many are prepared or wait for their vote.
    pub(super) fn held_len(&self) -> usize {
        self.held.len()
    }

    /// How many records there are.
    pub(super) fn records_len(&self) -> usize {
        self.records.len()
    }

    /// The record of a transaction.
    pub(super) fn record(&self, txn: TxnId) -> Option<&Coordinated> {
        self.records.get(&txn).map(|coordination| &coordination.record)
    }

    /// Whether this group coordinates an undecided attempt.
    fn is_live(&self, txn: TxnId) -> bool {
        self.record(txn).is_some_and(|record| record.verdict.is_none())
    }

    /// Whether anything is prepared, waits or is undecided under an id.
    pub(super) fn is_under_way(&self, txn: TxnId) -> bool {
        self.held.contains_key(&txn) || self.is_live(txn) || self.is_inner(txn)
    }

    /// Whether it is the id of a transfer within something that is prepared.
    fn is_inner(&self, txn: TxnId) -> bool {
        !self.inner.is_empty() && self.inner.contains(&txn)
    }

    fn compare_record(&self, txn: TxnId, attempt: Attempt) -> Record {
        let Some(record) = self.record(txn) else { return Record::Nothing };
        match (record.verdict, record.attempt.cmp(&attempt)) {
            (None, Ordering::Equal) => Record::Live,
            (None, _) => Record::LiveOther,
            (Some(_), Ordering::Equal) => Record::Ended,
            (Some(_), Ordering::Less) => Record::EndedOlder,
            (Some(_), Ordering::Greater) => Record::EndedNewer,
        }
    }

    fn compare_held(&self, txn: TxnId, attempt: Attempt) -> HeldHere {
        let Some(held) = self.held.get(&txn) else { return HeldHere::Nothing };
        let waiting = held.waiting.is_some();
        match held.attempt.cmp(&attempt) {
            Ordering::Equal => HeldHere::This { waiting },
            Ordering::Less => HeldHere::Older { waiting },
            Ordering::Greater => HeldHere::Newer,
        }
    }

    /// One more wants to know what becomes of an undecided transaction of this content. False if that cannot be.
    pub(super) fn attach(&mut self, txn: TxnId, digest: u128, asker: Asker, limit: usize) -> bool {
        let Some(coordination) = self.records.get_mut(&txn) else { return false };
        let live = coordination.record.verdict.is_none();
        if !live || coordination.digest != digest || self.attached >= limit {
            return false;
        }
        self.attached += 1;
        Arc::make_mut(coordination).askers.push(asker);
        true
    }

    fn insert_record(&mut self, coordination: Coordination, group: GroupId) {
        for peer in coordination.record.participants.iter().filter(|peer| **peer != group) {
            count(&mut self.unacknowledged, *peer, true);
        }
        if let Some(before) = self.records.insert(coordination.record.txn, Arc::new(coordination)) {
            self.unaccount(&before, group);
        }
    }

    fn unaccount(&mut self, gone: &Coordination, group: GroupId) {
        assert!(gone.record.verdict.is_some() && gone.askers.is_empty(), "a record goes after its decision");
        for peer in gone.record.participants.iter().filter(|peer| **peer != group) {
            count(&mut self.unacknowledged, *peer, false);
        }
    }

    /// Every participant has acknowledged: a decided record goes. Anything else stays.
    pub(super) fn forget(&mut self, txn: TxnId, attempt: Attempt, group: GroupId) {
        if self.compare_record(txn, attempt) == Record::Ended {
            let gone = self.records.remove(&txn).expect("it was just compared");
            self.unaccount(&gone, group);
        }
    }

    /// What has voted yes long ago and another group decides.
    #[cfg(feature = "planted")]
    pub(super) fn prepared_for_others(&self, group: GroupId, now: LogTime, patience: crate::time::Span) -> Vec<TxnId> {
        let old =
            |held: &&Arc<Held>| held.waiting.is_none() && held.coordinator != group && held.since + patience <= now;
        self.held.values().filter(old).map(|held| held.txn).collect()
    }

    /// The effects of what has voted yes.
    #[cfg(feature = "planted")]
    pub(super) fn prepared_effects(&self) -> impl Iterator<Item = (TxnId, super::doubt::Effect)> {
        let prepared = self.held.values().filter(|held| held.waiting.is_none());
        prepared.flat_map(|held| held.needs.effects.as_slice().iter().map(|effect| (held.txn, *effect)))
    }

    /// Adds everything to a digest.
    pub(super) fn digest(&self, sum: &mut Sum) {
        self.held.values().for_each(|held| held.digest(sum));
        self.records.values().for_each(|coordination| coordination.digest(sum));
    }
}

impl Ledger {
    fn raise(&mut self, counter: u64) {
        self.counter = self.counter.max(counter);
    }

    /// A vote of this group. The coordinator's own is kept in its record: a new leader hears no other word of it.
    fn voted(&mut self, txn: TxnId, attempt: Attempt, coordinator: GroupId, vote: VoteKind) -> Output {
        if coordinator == self.group {
            let coordination = self.transactions.records.get_mut(&txn);
            let coordination = coordination.expect("a coordinator's own part has a record");
            Arc::make_mut(coordination).record.vote = Some(vote);
        }
        let prepared = self.transactions.held.get(&txn).filter(|_| vote == VoteKind::Yes);
        let values = prepared.map(|held| self.answers_of(&held.action)).unwrap_or_default();
        Output::Txn(TxnOutput::Voted { txn, attempt, coordinator, vote, counter: self.counter, values })
    }

    /// Coordinator: a transaction begins.
    pub(super) fn begin_transaction(&mut self, begin: Begin, outputs: &mut Vec<Output>) {
        let Begin { txn, attempt, .. } = begin;
        self.raise(begin.age.counter);
        let digest = begin.action.digest();
        let known = self.ids.known(txn, digest);
        let record = self.transactions.compare_record(txn, attempt);
        let live = matches!(record, Record::Live | Record::LiveOther);
        let other = self.transactions.held.contains_key(&txn) || self.transactions.is_inner(txn);
        let rival = self.queue.named(txn).is_some() || (!live && other);
        let row = if begin.action.txn(self.accounts.map()) == txn {
            table::begin(attempt.ballot == self.leader, known, record, rival)
        } else {
            BeginRow::Stale // Its content is not that of its id: as if it had never been.
        };
        self.rows.add(row.row());
        let output = match row {
            BeginRow::Stale | BeginRow::UnderWay | BeginRow::Ended => TxnOutput::Void { txn, attempt },
            BeginRow::Repeated => return,
            BeginRow::Known => {
                let outcome = match known {
                    Known::Committed => Outcome::Committed,
                    Known::Rejected(reason) => Outcome::Rejected(reason),
                    Known::Conflict | Known::Open => Outcome::Rejected(Reason::IdConflict),
                };
                let replies = if outcome == Outcome::Committed { self.replies.of(txn) } else { None };
                TxnOutput::Known { txn, attempt, outcome, replies }
            }
            BeginRow::Fresh | BeginRow::Again if self.peers_are_full(&begin.participants) => {
                TxnOutput::Void { txn, attempt }
            }
            BeginRow::Fresh | BeginRow::Again => return self.begin_now(begin, digest, outputs),
        };
        outputs.push(Output::Txn(output));
    }

    /// Whether a group that takes part has not acknowledged too many decisions (hazard L14).
    fn peers_are_full(&self, participants: &[GroupId]) -> bool {
        let waits_for = |peer: &GroupId| self.transactions.unacknowledged.get(peer).copied().unwrap_or(0);
        participants.iter().any(|peer| waits_for(peer) >= self.limits.in_doubt_per_group)
    }

    fn begin_now(&mut self, begin: Begin, digest: u128, outputs: &mut Vec<Output>) {
        let Begin { txn, attempt, age, participants, action, deadline } = begin;
        let first = self.accounts.whereabouts(txn.first);
        if first == Whereabouts::Nowhere {
            // No group owns the id, so none could be told the end: it is rejected at once.
            let outcome = Outcome::Rejected(Reason::NoSuchAccount);
            self.record(txn, Some(digest), outcome, &Effects::default());
            outputs.push(Output::Txn(TxnOutput::Known { txn, attempt, outcome, replies: None }));
            return;
        }
        let deadline = self.time + deadline;
        let verdict = None;
        let held_participants = participants.clone();
        let (vote, values, swapped) = (None, Vec::new(), Vec::new());
        let of_record = action.clone();
        let record = Coordinated {
            txn,
            attempt,
            age,
            participants,
            action: of_record,
            deadline,
            vote,
            values,
            verdict,
            swapped,
        };
        self.transactions.insert_record(Coordination { record, digest, askers: Vec::new() }, self.group);
        outputs.push(Output::Txn(TxnOutput::Begun { txn, attempt }));
        let held = Held {
            txn,
            attempt,
            participants: held_participants,
            coordinator: self.group,
            rank: Rank { age, txn },
            action,
            digest,
            needs: Footprint::default(),
            since: self.time,
            waiting: None,
        };
        let vote = if first == Whereabouts::Elsewhere { Some(VoteKind::Moved) } else { self.evaluate(held, deadline) };
        if let Some(vote) = vote {
            outputs.push(self.voted(txn, attempt, self.group, vote));
        }
    }

    /// Participant: promise to be able to apply.
    pub(super) fn prepare_transaction(&mut self, prepare: Prepare, outputs: &mut Vec<Output>) {
        let Prepare { txn, attempt, age, participants, action, deadline } = prepare;
        self.raise(age.counter);
        let Some(coordinator) = participants.first().copied().filter(|group| *group != self.group) else {
            return; // Nobody to vote to.
        };
        let digest = action.digest();
        let owner = self.accounts.map().owner_of(txn.first);
        let vote = if action.txn(self.accounts.map()) != txn {
            Some(VoteKind::No(Reason::IdConflict))
        } else if owner.is_none() {
            Some(VoteKind::No(Reason::NoSuchAccount))
        } else if owner != Some(coordinator) {
            Some(VoteKind::Moved)
        } else {
            let own = self.transactions.is_live(txn) || self.queue.named(txn).is_some();
            let held = if own { HeldHere::Own } else { self.transactions.compare_held(txn, attempt) };
            let known = if is_planted(Bug::CreditUnchecked) { Known::Open } else { self.ids.known(txn, digest) };
            let row = table::prepare(known, held);
            self.rows.add(row.row());
            let rank = Rank { age, txn };
            let (needs, since, waiting) = (Footprint::default(), self.time, None);
            let new = Held { txn, attempt, participants, coordinator, rank, action, digest, needs, since, waiting };
            self.vote_on(row, new, self.time + deadline)
        };
        if let Some(vote) = vote {
            outputs.push(self.voted(txn, attempt, coordinator, vote));
        }
    }

    fn vote_on(&mut self, row: PrepareRow, new: Held, deadline: LogTime) -> Option<VoteKind> {
        match row {
            PrepareRow::Committed => Some(VoteKind::AlreadyCommitted),
            PrepareRow::Rejected(reason) => Some(VoteKind::No(reason)),
            PrepareRow::Conflict => Some(VoteKind::No(Reason::IdConflict)),
            PrepareRow::Busy | PrepareRow::Unresolved => Some(VoteKind::Die),
            PrepareRow::Repeat => Some(VoteKind::Yes),
            PrepareRow::Quiet | PrepareRow::Stale => None,
            PrepareRow::Fresh => self.evaluate(new, deadline),
            PrepareRow::Replace => {
                self.let_go(new.txn);
                self.evaluate(new, deadline)
            }
        }
    }

    /// The vote on what is new here; nothing if it waits.
    fn evaluate(&mut self, mut held: Held, deadline: LogTime) -> Option<VoteKind> {
        let needs = match self.needs_here(&held.action) {
            Ok(needs) => needs,
            Err(trouble) => return Some(refusal(&trouble)),
        };
        let rank = held.rank;
        held.needs = needs.clone();
        match self.judge(&needs, Ahead::Older(rank)) {
            Fit::Never(reason) => Some(VoteKind::No(reason)),
            _ if self.doubts.read_is_ahead(&self.accounts, &needs.effects, rank) => Some(VoteKind::Die),
            Fit::Now => Some(self.vote_now(held)),
            Fit::Later if !self.may_wait(&needs, rank) => Some(VoteKind::Die),
            Fit::Later if !self.may_queue(&needs) => Some(VoteKind::Expired),
            Fit::Later => {
                let what = Waiting::Prepare(held.txn);
                let turn = self.enqueue(Lane::Prepare, what, rank, deadline, &needs, Vec::new());
                held.waiting = Some(turn);
                self.transactions.held.insert(held.txn, Arc::new(held));
                None
            }
        }
    }

    /// The vote on what has room and whose locks are free: with a yes it holds them.
    fn vote_now(&mut self, held: Held) -> VoteKind {
        let examined = held.action.transaction().map_or(Ok(()), |transaction| self.examine(transaction).map(drop));
        if let Err(reason) = self.check_action(&held.action).and(examined) {
            return VoteKind::No(reason);
        }
        if self.is_full_for(held.coordinator) {
            return VoteKind::Expired;
        }
        if is_planted(Bug::WrittenAtPrepare)
            && let Some(transaction) = held.action.transaction().cloned()
            && let Ok(examined) = self.examine(&transaction)
        {
            self.execute(held.txn, &transaction, examined.writes, &[]);
        }
        self.hold(held);
        VoteKind::Yes
    }

    fn is_full_for(&self, coordinator: GroupId) -> bool {
        let prepared = self.transactions.prepared.get(&coordinator).copied().unwrap_or(0);
        prepared >= self.limits.in_doubt_per_group
    }

    /// It votes yes: from now on only the coordinator's group decides.
    fn hold(&mut self, held: Held) {
        assert!(held.waiting.is_none(), "what is prepared does not wait");
        self.hold_needs(&held.needs, held.rank);
        for inner in self.inner_ids(&held.action) {
            assert!(self.transactions.inner.insert(inner), "an id is prepared once");
        }
        count(&mut self.transactions.prepared, held.coordinator, true);
        self.transactions.held.insert(held.txn, Arc::new(held));
    }

    /// What is held under an id goes, without effect; whoever waited for it may move.
    pub(super) fn let_go(&mut self, txn: TxnId) -> Option<Held> {
        let held = Arc::unwrap_or_clone(self.transactions.held.remove(&txn)?);
        match held.waiting {
            Some(turn) => {
                self.dequeue(turn);
            }
            None => {
                self.release_needs(&held.needs, held.rank);
                for inner in self.inner_ids(&held.action) {
                    self.transactions.inner.remove(&inner);
                }
                count(&mut self.transactions.prepared, held.coordinator, false);
            }
        }
        Some(held)
    }

    /// A prepare that waited gets its vote, and it is not yes.
    pub(super) fn end_prepare(&mut self, txn: TxnId, vote: VoteKind, outputs: &mut Vec<Output>) {
        let held = self.transactions.held.remove(&txn).expect("what waits is held");
        outputs.push(self.voted(txn, held.attempt, held.coordinator, vote));
    }

    /// Something has changed for a prepare that waits.
    pub(super) fn reconsider_prepare(&mut self, txn: TxnId, turn: Turn, outputs: &mut Vec<Output>) {
        let held = self.transactions.held.get(&txn).expect("what waits is held");
        let (rank, coordinator, attempt) = (held.rank, held.coordinator, held.attempt);
        // The ids of its transfers may have been used meanwhile.
        let needs = match self.needs_here(&held.action) {
            Ok(needs) => needs,
            Err(trouble) => {
                self.dequeue(turn);
                return self.end_prepare(txn, refusal(&trouble), outputs);
            }
        };
        let refused = match self.judge(&needs, Ahead::Before(turn)) {
            Fit::Later if self.may_go_on_waiting(&needs, rank) => return self.keep_waiting(turn, &needs),
            Fit::Later => Some(VoteKind::Die),
            Fit::Never(reason) => Some(VoteKind::No(reason)),
            Fit::Now => None,
        };
        self.dequeue(turn);
        if let Some(vote) = refused {
            return self.end_prepare(txn, vote, outputs);
        }
        let mut held = Arc::unwrap_or_clone(self.transactions.held.remove(&txn).expect("it was just there"));
        held.waiting = None;
        let vote = self.vote_now(held);
        outputs.push(self.voted(txn, attempt, coordinator, vote));
    }

    /// Coordinator: the decision.
    pub(super) fn decide_transaction(&mut self, decide: Decide, outputs: &mut Vec<Output>) {
        let Decide { txn, attempt, verdict, replies } = decide;
        let record = self.transactions.compare_record(txn, attempt);
        let held = self.transactions.held.get(&txn);
        let prepared = held.is_some_and(|held| {
            let own = held.coordinator == self.group && held.attempt == attempt && held.waiting.is_none();
            own && held.action.transaction().is_none_or(|transaction| transaction.takes(&replies))
        });
        let row = table::decide(record, prepared, verdict);
        self.rows.add(row.row());
        match row {
            DecideRow::NoBegin | DecideRow::OtherAttempt | DecideRow::Second | DecideRow::Unprepared => {}
            DecideRow::Commit | DecideRow::Abort | DecideRow::Reject(_) => {
                self.conclude(txn, verdict, replies, outputs);
            }
        }
    }

    /// The decision on a live record takes effect here.
    fn conclude(&mut self, txn: TxnId, verdict: Verdict, replies: Vec<Reply>, outputs: &mut Vec<Output>) {
        let coordination = self.transactions.records.get_mut(&txn).expect("only a live record is decided");
        let coordination = Arc::make_mut(coordination);
        assert!(coordination.record.verdict.is_none(), "the first decision stands");
        coordination.record.verdict = Some(verdict);
        coordination.record.swapped = swapped_of(&replies);
        let swapped = coordination.record.swapped.clone();
        let askers = std::mem::take(&mut coordination.askers);
        let (attempt, digest) = (coordination.record.attempt, coordination.digest);
        self.transactions.attached -= askers.len();
        let held = self.let_go(txn);
        let result = match verdict {
            Verdict::Commit => {
                let held = held.expect("a commit needs this group's own yes");
                self.take_effect(&held, &swapped);
                self.replies.keep(txn, &replies);
                TransferResult::Done(Outcome::Committed)
            }
            Verdict::Abort => TransferResult::Retry,
            Verdict::Reject(reason) => {
                self.record_rejection(
                    txn,
                    Some(digest),
                    reason,
                    &held.map(|held| held.needs.effects).unwrap_or_default(),
                );
                TransferResult::Done(Outcome::Rejected(reason))
            }
        };
        if is_planted(Bug::ForgottenOnDecision) {
            self.transactions.forget(txn, attempt, self.group);
        }
        outputs.push(Output::Txn(TxnOutput::Decided { txn, attempt, verdict, replies: replies.clone() }));
        self.tell(&askers, result, (verdict == Verdict::Commit).then_some(&replies), outputs);
    }

    /// `swapped`: what the keys of its swaps held.
    fn take_effect(&mut self, held: &Held, swapped: &[Answered]) {
        assert!(held.waiting.is_none(), "only what has voted yes takes effect");
        match &held.action {
            Action::Transfer(transfer) => {
                self.post_all(&[Post::alone(transfer, held.digest, &held.needs.effects)]);
            }
            Action::Expire(expire) => self.end_pending(expire.named().txn, PendingState::Expired, 0),
            Action::Transaction(transaction) => {
                let examined = self.examine(transaction).expect("what was prepared can be carried out");
                if is_planted(Bug::SwapValuesIgnored) && held.coordinator != self.group {
                    self.execute(held.txn, transaction, examined.writes, &examined.answers);
                } else if is_planted(Bug::WrittenAtPrepare) {
                    self.execute(held.txn, transaction, BTreeMap::new(), swapped);
                } else {
                    self.execute(held.txn, transaction, examined.writes, swapped);
                }
            }
        }
        if is_planted(Bug::OutcomeForgotten) && held.coordinator != self.group {
            return;
        }
        self.record_at(held.txn, Some(held.digest), Outcome::Committed, &held.needs);
    }

    /// A conflict speaks of one content only, so it is not the id's outcome.
    fn record_rejection(&mut self, txn: TxnId, digest: Option<u128>, reason: Reason, effects: &Effects) {
        if reason != Reason::IdConflict {
            self.record(txn, digest, Outcome::Rejected(reason), effects);
        }
    }

    /// Participant: the decision.
    pub(super) fn resolve_transaction(&mut self, resolve: Resolve, outputs: &mut Vec<Output>) {
        let Resolve { txn, attempt, verdict, values } = resolve;
        let Some(coordinator) = self.accounts.map().owner_of(txn.first).filter(|group| *group != self.group) else {
            return; // No other group decides this.
        };
        let own = self.transactions.is_live(txn);
        let held = if own { HeldHere::Own } else { self.transactions.compare_held(txn, attempt) };
        let known = match self.ids.outcome(txn) {
            None => Known::Open,
            Some(Outcome::Committed) => Known::Committed,
            Some(Outcome::Rejected(reason)) => Known::Rejected(reason),
        };
        let row = table::resolve(known, held, verdict);
        let here = self.transactions.held.get(&txn);
        if row == ResolveRow::Apply && here.is_some_and(|held| !self.has_values_for(&held.action, &values)) {
            return; // It cannot be carried out without them: a copy that has them will come.
        }
        self.rows.add(row.row());
        match row {
            ResolveRow::Premature | ResolveRow::Unknown | ResolveRow::OtherCommit | ResolveRow::Contradiction => return,
            #[cfg(feature = "planted")]
            ResolveRow::Applied if is_planted(Bug::ResolvedTwice) => self.post_again(txn),
            ResolveRow::Acknowledge | ResolveRow::Applied | ResolveRow::Other => {}
            ResolveRow::Apply => {
                let held = self.let_go(txn).expect("it was just compared");
                self.take_effect(&held, &values);
            }
            ResolveRow::Release | ResolveRow::TakeOut | ResolveRow::ReleaseOlder | ResolveRow::Record => {
                let (digest, effects) = self.let_go(txn).map(|held| (held.digest, held.needs.effects)).unzip();
                if let Verdict::Reject(reason) = verdict {
                    self.record_rejection(txn, digest, reason, &effects.unwrap_or_default());
                }
            }
        }
        outputs.push(Output::Txn(TxnOutput::Resolved { txn, attempt, coordinator }));
    }

    /// Settles an id for ever, where it lives.
    pub(super) fn fence(&mut self, txn: TxnId, outputs: &mut Vec<Output>) -> CommandResult {
        if self.accounts.whereabouts(txn.first) == Whereabouts::Elsewhere {
            return CommandResult::Refused(Why::Moved);
        }
        let settled = self.ids.outcome(txn);
        if is_planted(Bug::FenceNotRecorded) && settled.is_none() && !self.is_under_way(txn) {
            return CommandResult::Settled(Outcome::Rejected(Reason::Fenced));
        }
        if is_planted(Bug::FencedUnderWay) && settled.is_none() {
            self.record(txn, None, Outcome::Rejected(Reason::Fenced), &Effects::default());
            return CommandResult::Settled(Outcome::Rejected(Reason::Fenced));
        }
        if self.transactions.is_inner(txn) {
            return CommandResult::Refused(Why::Overloaded); // What it is part of has its decision soon.
        }
        let waiting = self.queue.named(txn);
        let fenced = Outcome::Rejected(Reason::Fenced);
        let row = table::fence(settled.is_some(), self.transactions.is_live(txn), waiting.is_some());
        self.rows.add(row.row());
        match row {
            FenceRow::Settled => return CommandResult::Settled(settled.expect("this row has an outcome")),
            FenceRow::Decide => self.conclude(txn, Verdict::Reject(Reason::Fenced), Vec::new(), outputs),
            FenceRow::TakeOut => {
                let waiter = self.dequeue(waiting.expect("this row has a waiter"));
                self.record(txn, None, fenced, &Effects::default());
                self.tell(&waiter.askers, TransferResult::Done(fenced), None, outputs);
            }
            FenceRow::Record => self.record(txn, None, fenced, &Effects::default()),
        }
        CommandResult::Settled(fenced)
    }
}

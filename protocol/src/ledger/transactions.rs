//! The records of two-phase commit, carried out row by row of [`crate::txn::table`].
//!
//! As participant a group holds, under a transaction's id, one attempt: prepared (its effects are in doubt, however
//! long that takes, hazard S10) or waiting for its vote. As coordinator it has a record from Begin until every
//! participant has acknowledged the end, and its own part is held like a participant's. When an id has its outcome,
//! nothing is held under it any more.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Ledger;
use super::accounts::Whereabouts;
use super::digest::Sum;
use super::doubt::{Ahead, Effects, Fit, Rank};
use super::model::{Outcome, Reason, Transfer, TransferResult};
use super::output::{CommandResult, Output, TxnOutput};
use super::queue::{Asker, Key, Lane, Operation};
use super::records::{Coordinated, InDoubt};
use super::transfers::Trouble;
use crate::ids::{Attempt, GroupId, TxnId};
use crate::message::client::Why;
use crate::message::command::{Begin, Decide, Prepare, Resolve, Verdict};
use crate::message::txn::VoteKind;
use crate::planted::{Bug, is_planted};
use crate::time::LogTime;
use crate::txn::table::{self, BeginRow, DecideRow, FenceRow, Held as HeldHere, Known, PrepareRow, Record, ResolveRow};

/// One attempt that is prepared or waits for its vote.
#[derive(Clone, Debug)]
pub(super) struct Held {
    txn: TxnId,
    attempt: Attempt,
    /// Who takes part, the coordinator first (hazard S14).
    participants: Vec<GroupId>,
    coordinator: GroupId,
    rank: Rank,
    transfer: Transfer,
    digest: u128,
    effects: Effects,
    since: LogTime,
    /// Its place in the queue; nothing once it has voted yes.
    waiting: Option<Key>,
}

/// A coordinator's record.
#[derive(Clone)]
struct Coordination {
    record: Coordinated,
    digest: u128,
    /// Who sent the same transfer as one of this group, and is told when there is a decision.
    askers: Vec<Asker>,
}

/// Everything that is under way between groups.
#[derive(Clone, Default)]
pub(super) struct Transactions {
    held: BTreeMap<TxnId, Held>,
    records: BTreeMap<TxnId, Coordination>,
    /// How many are prepared here, by the group that decides (hazard L14).
    prepared: BTreeMap<GroupId, usize>,
    /// How many records wait for a group's acknowledgement (hazard L14).
    unacknowledged: BTreeMap<GroupId, usize>,
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
        })
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
        self.held.contains_key(&txn) || self.is_live(txn)
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
        coordination.askers.push(asker);
        true
    }

    fn insert_record(&mut self, coordination: Coordination, group: GroupId) {
        for peer in coordination.record.participants.iter().filter(|peer| **peer != group) {
            count(&mut self.unacknowledged, *peer, true);
        }
        if let Some(before) = self.records.insert(coordination.record.txn, coordination) {
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
        let old = |held: &&Held| held.waiting.is_none() && held.coordinator != group && held.since + patience <= now;
        self.held.values().filter(old).map(|held| held.txn).collect()
    }

    /// The effects of what has voted yes.
    #[cfg(feature = "planted")]
    pub(super) fn prepared_effects(&self) -> impl Iterator<Item = (TxnId, super::doubt::Effect)> {
        let prepared = self.held.values().filter(|held| held.waiting.is_none());
        prepared.flat_map(|held| held.effects.as_slice().iter().map(|effect| (held.txn, *effect)))
    }

    /// Adds everything to a digest.
    pub(super) fn digest(&self, sum: &mut Sum) {
        for held in self.held.values() {
            let place = held.waiting.map_or(0, |key| key.arrival);
            let names: [&dyn crate::wire::codec::Encode; 4] =
                [&held.txn, &held.attempt, &held.coordinator, &held.participants];
            let rest: [&dyn crate::wire::codec::Encode; 4] = [&held.rank.age, &held.digest, &held.since, &place];
            sum.row(b'd', &[names, rest].concat());
        }
        for coordination in self.records.values() {
            let record = &coordination.record;
            let asked = coordination.askers.len() as u64;
            let names: [&dyn crate::wire::codec::Encode; 4] =
                [&record.txn, &record.attempt, &record.age, &record.participants];
            let rest: [&dyn crate::wire::codec::Encode; 5] =
                [&coordination.digest, &record.deadline, &record.vote, &record.verdict, &asked];
            sum.row(b'c', &[&names[..], &rest[..]].concat());
        }
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
            coordination.expect("a coordinator's own part has a record").record.vote = Some(vote);
        }
        Output::Txn(TxnOutput::Voted { txn, attempt, coordinator, vote, counter: self.counter })
    }

    /// Coordinator: a transaction begins.
    pub(super) fn begin_transaction(&mut self, begin: Begin, outputs: &mut Vec<Output>) {
        let Begin { txn, attempt, .. } = begin;
        self.raise(begin.age.counter);
        let digest = begin.transfer.digest();
        let known = self.ids.known(txn, digest);
        let record = self.transactions.compare_record(txn, attempt);
        let live = matches!(record, Record::Live | Record::LiveOther);
        let rival = self.queue.transfer(txn).is_some() || (!live && self.transactions.held.contains_key(&txn));
        let row = if TxnId::from(&begin.transfer) == txn {
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
                TxnOutput::Known { txn, attempt, outcome }
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
        let Begin { txn, attempt, age, participants, transfer, deadline } = begin;
        let first = self.accounts.whereabouts(txn.first);
        if first == Whereabouts::Nowhere {
            // No group owns the id, so none could be told the end: it is rejected at once.
            let outcome = Outcome::Rejected(Reason::NoSuchAccount);
            self.record(txn, Some(digest), outcome, &Effects::default());
            outputs.push(Output::Txn(TxnOutput::Known { txn, attempt, outcome }));
            return;
        }
        let deadline = self.time + deadline;
        let verdict = None;
        let held_participants = participants.clone();
        let record = Coordinated { txn, attempt, age, participants, transfer, deadline, vote: None, verdict };
        self.transactions.insert_record(Coordination { record, digest, askers: Vec::new() }, self.group);
        outputs.push(Output::Txn(TxnOutput::Begun { txn, attempt }));
        let held = Held {
            txn,
            attempt,
            participants: held_participants,
            coordinator: self.group,
            rank: Rank { age, txn },
            transfer,
            digest,
            effects: Effects::default(),
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
        let Prepare { txn, attempt, age, participants, transfer, deadline } = prepare;
        self.raise(age.counter);
        let Some(coordinator) = participants.first().copied().filter(|group| *group != self.group) else {
            return; // Nobody to vote to.
        };
        let digest = transfer.digest();
        let owner = self.accounts.map().owner_of(txn.first);
        let vote = if TxnId::from(&transfer) != txn {
            Some(VoteKind::No(Reason::IdConflict))
        } else if owner.is_none() {
            Some(VoteKind::No(Reason::NoSuchAccount))
        } else if owner != Some(coordinator) {
            Some(VoteKind::Moved)
        } else {
            let own = self.transactions.is_live(txn) || self.queue.transfer(txn).is_some();
            let held = if own { HeldHere::Own } else { self.transactions.compare_held(txn, attempt) };
            let known = if is_planted(Bug::CreditUnchecked) { Known::Open } else { self.ids.known(txn, digest) };
            let row = table::prepare(known, held);
            self.rows.add(row.row());
            let rank = Rank { age, txn };
            let (effects, since, waiting) = (Effects::default(), self.time, None);
            let new = Held { txn, attempt, participants, coordinator, rank, transfer, digest, effects, since, waiting };
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
        held.effects = match self.effects_here(&held.transfer) {
            Ok(effects) => effects,
            Err(Trouble::Never(reason)) => return Some(VoteKind::No(reason)),
            Err(Trouble::Moved) => return Some(VoteKind::Moved),
        };
        let (effects, rank) = (held.effects, held.rank);
        let fit = self.doubts.judge(&self.accounts, held.transfer.ledger, &effects, Ahead::Older(rank));
        match fit {
            Fit::Never(reason) => Some(VoteKind::No(reason)),
            _ if self.doubts.read_is_ahead(&self.accounts, &effects, rank) => Some(VoteKind::Die),
            Fit::Now if self.is_full_for(held.coordinator) => Some(VoteKind::Expired),
            Fit::Now => {
                self.hold(held);
                Some(VoteKind::Yes)
            }
            Fit::Later if !self.doubts.may_wait(&self.accounts, &effects, rank) => Some(VoteKind::Die),
            Fit::Later if self.queue.is_full() => Some(VoteKind::Expired),
            Fit::Later => {
                let operation = Operation::Prepare(held.txn);
                let key = self.enqueue(Lane::Prepare, operation, rank, deadline, &effects, Vec::new());
                held.waiting = Some(key);
                self.transactions.held.insert(held.txn, held);
                None
            }
        }
    }

    fn is_full_for(&self, coordinator: GroupId) -> bool {
        let prepared = self.transactions.prepared.get(&coordinator).copied().unwrap_or(0);
        prepared >= self.limits.in_doubt_per_group
    }

    /// It votes yes: from now on only the coordinator's group decides.
    fn hold(&mut self, held: Held) {
        assert!(held.waiting.is_none(), "what is prepared does not wait");
        self.doubts.hold(&mut self.accounts, &held.effects, held.rank);
        count(&mut self.transactions.prepared, held.coordinator, true);
        // A prepare that waits may not wait for an older one.
        for effect in held.effects.as_slice() {
            self.stir(effect.place, None);
        }
        self.transactions.held.insert(held.txn, held);
    }

    /// What is held under an id goes, without effect; whoever waited for it may move.
    pub(super) fn let_go(&mut self, txn: TxnId) -> Option<Held> {
        let held = self.transactions.held.remove(&txn)?;
        match held.waiting {
            Some(key) => {
                self.dequeue(key);
            }
            None => {
                self.doubts.release(&mut self.accounts, &held.effects, held.rank);
                count(&mut self.transactions.prepared, held.coordinator, false);
                for effect in held.effects.as_slice() {
                    self.stir(effect.place, None);
                }
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
    pub(super) fn reconsider_prepare(&mut self, txn: TxnId, key: Key, outputs: &mut Vec<Output>) {
        let held = self.transactions.held.get(&txn).expect("what waits is held");
        let (effects, rank, coordinator) = (held.effects, held.rank, held.coordinator);
        let fit = self.doubts.judge(&self.accounts, held.transfer.ledger, &effects, Ahead::Before(key));
        let vote = match fit {
            Fit::Later if self.doubts.may_go_on_waiting(&self.accounts, &effects, rank) => {
                return self.keep_waiting(key, &effects);
            }
            Fit::Later => VoteKind::Die,
            Fit::Never(reason) => VoteKind::No(reason),
            Fit::Now if self.is_full_for(coordinator) => VoteKind::Expired,
            Fit::Now => VoteKind::Yes,
        };
        self.dequeue(key);
        if vote != VoteKind::Yes {
            return self.end_prepare(txn, vote, outputs);
        }
        let mut held = self.transactions.held.remove(&txn).expect("it was just there");
        held.waiting = None;
        let attempt = held.attempt;
        self.hold(held);
        outputs.push(self.voted(txn, attempt, coordinator, vote));
    }

    /// Coordinator: the decision.
    pub(super) fn decide_transaction(&mut self, decide: Decide, outputs: &mut Vec<Output>) {
        let Decide { txn, attempt, verdict } = decide;
        let record = self.transactions.compare_record(txn, attempt);
        let held = self.transactions.held.get(&txn);
        let prepared = held
            .is_some_and(|held| held.coordinator == self.group && held.attempt == attempt && held.waiting.is_none());
        let row = table::decide(record, prepared, verdict);
        self.rows.add(row.row());
        match row {
            DecideRow::NoBegin | DecideRow::OtherAttempt | DecideRow::Second | DecideRow::Unprepared => {}
            DecideRow::Commit | DecideRow::Abort | DecideRow::Reject(_) => self.conclude(txn, verdict, outputs),
        }
    }

    /// The decision on a live record takes effect here.
    fn conclude(&mut self, txn: TxnId, verdict: Verdict, outputs: &mut Vec<Output>) {
        let coordination = self.transactions.records.get_mut(&txn).expect("only a live record is decided");
        assert!(coordination.record.verdict.is_none(), "the first decision stands");
        coordination.record.verdict = Some(verdict);
        let askers = std::mem::take(&mut coordination.askers);
        let (attempt, digest) = (coordination.record.attempt, coordination.digest);
        self.transactions.attached -= askers.len();
        let held = self.let_go(txn);
        let result = match verdict {
            Verdict::Commit => {
                let held = held.expect("a commit needs this group's own yes");
                self.take_effect(&held);
                TransferResult::Done(Outcome::Committed)
            }
            Verdict::Abort => TransferResult::Retry,
            Verdict::Reject(reason) => {
                self.record_rejection(txn, Some(digest), reason, &held.map(|held| held.effects).unwrap_or_default());
                TransferResult::Done(Outcome::Rejected(reason))
            }
        };
        if is_planted(Bug::ForgottenOnDecision) {
            self.transactions.forget(txn, attempt, self.group);
        }
        outputs.push(Output::Txn(TxnOutput::Decided { txn, attempt, verdict }));
        self.tell(&askers, result, outputs);
    }

    fn take_effect(&mut self, held: &Held) {
        assert!(held.waiting.is_none(), "only what has voted yes takes effect");
        self.post(&held.transfer, held.digest, &held.effects);
        if is_planted(Bug::OutcomeForgotten) && held.coordinator != self.group {
            return;
        }
        self.record(held.txn, Some(held.digest), Outcome::Committed, &held.effects);
    }

    /// A conflict speaks of one content only, so it is not the id's outcome.
    fn record_rejection(&mut self, txn: TxnId, digest: Option<u128>, reason: Reason, effects: &Effects) {
        if reason != Reason::IdConflict {
            self.record(txn, digest, Outcome::Rejected(reason), effects);
        }
    }

    /// Participant: the decision.
    pub(super) fn resolve_transaction(&mut self, resolve: Resolve, outputs: &mut Vec<Output>) {
        let Resolve { txn, attempt, verdict } = resolve;
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
        self.rows.add(row.row());
        match row {
            ResolveRow::Premature | ResolveRow::Unknown | ResolveRow::OtherCommit | ResolveRow::Contradiction => return,
            #[cfg(feature = "planted")]
            ResolveRow::Applied if is_planted(Bug::ResolvedTwice) => self.post_again(txn),
            ResolveRow::Acknowledge | ResolveRow::Applied | ResolveRow::Other => {}
            ResolveRow::Apply => {
                let held = self.let_go(txn).expect("it was just compared");
                self.take_effect(&held);
            }
            ResolveRow::Release | ResolveRow::TakeOut | ResolveRow::ReleaseOlder | ResolveRow::Record => {
                let (digest, effects) = self.let_go(txn).map(|held| (held.digest, held.effects)).unzip();
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
        let waiting = self.queue.transfer(txn);
        let fenced = Outcome::Rejected(Reason::Fenced);
        let row = table::fence(settled.is_some(), self.transactions.is_live(txn), waiting.is_some());
        self.rows.add(row.row());
        match row {
            FenceRow::Settled => return CommandResult::Settled(settled.expect("this row has an outcome")),
            FenceRow::Decide => self.conclude(txn, Verdict::Reject(Reason::Fenced), outputs),
            FenceRow::TakeOut => {
                let waiter = self.dequeue(waiting.expect("this row has a waiter"));
                self.record(txn, None, fenced, &Effects::default());
                self.tell(&waiter.askers, TransferResult::Done(fenced), outputs);
            }
            FenceRow::Record => self.record(txn, None, fenced, &Effects::default()),
        }
        CommandResult::Settled(fenced)
    }
}

//! Two-phase commit at apply: what a group does with a record, as one table.
//!
//! Each function takes a small summary of what the group knows and yields one row; the ledger carries the row out.
//! Votes, decisions and acknowledgements therefore depend on applied state and on nothing else (hazard S9). Cases that
//! the state machine cannot be in, whatever comes from outside, are asserted; all others have a row.

use crate::ledger::model::Reason;
use crate::message::command::Verdict;
use crate::planted::{Bug, is_planted};

/// What the id index says about the id and the content of a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known {
    /// It has no outcome.
    Open,
    /// This content has taken effect here.
    Committed,
    /// This content was rejected, or the id was fenced.
    Rejected(Reason),
    /// Other content has an outcome under this id.
    Conflict,
}

/// What is held here under a transaction, compared with the attempt that a record names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// That attempt: prepared, or waiting for its vote.
    This {
        /// It waits; otherwise it has voted yes.
        waiting: bool,
    },
    /// An older attempt.
    Older {
        /// It waits; otherwise it has voted yes.
        waiting: bool,
    },
    /// A newer attempt.
    Newer,
    /// This group itself decides what is under way under the id: as its coordinator, or as a waiting operation.
    Own,
}

/// What the group has recorded as coordinator, compared with the attempt that a record names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Record {
    /// Nothing.
    Nothing,
    /// That attempt, undecided.
    Live,
    /// Another attempt, undecided.
    LiveOther,
    /// That attempt, decided.
    Ended,
    /// An older attempt, decided.
    EndedOlder,
    /// A newer attempt, decided.
    EndedNewer,
}

/// What to do with a `Prepare`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PrepareRow {
    /// P1: the id has taken effect here before: vote `AlreadyCommitted` (hazard S8).
    Committed,
    /// P2: the id was rejected here before: repeat the rejection.
    Rejected(Reason),
    /// P3: the id has an outcome with other content: vote no, with a conflict.
    Conflict,
    /// P4: this group itself has something under way under the id: vote `Die`.
    Busy,
    /// P5: the first that is heard of it: evaluate it.
    Fresh,
    /// P6: prepared before: repeat the yes.
    Repeat,
    /// P7: it still waits: say nothing; the vote comes when it leaves the queue.
    Quiet,
    /// P8: an older attempt waits and has no vote yet: let it go, and evaluate this one (hazard S7).
    Replace,
    /// P9: an older attempt than the one held: a late copy; say nothing.
    Stale,
    /// P10: an older attempt has voted yes, and its end is not known here: vote `Die`. A prepare travels beside its
    /// Begin, so it does not prove that the Begin stands and the older attempt was aborted: if that one was committed
    /// and its resolve is late, letting it go would lose a side of it.
    Unresolved,
}

/// What to do with a `Begin`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BeginRow {
    /// B1: its ballot is not that of the last leader that started: void (hazard S35).
    Stale,
    /// B2: the id has an outcome: nothing is begun.
    Known,
    /// B3: a second copy of a live Begin: nothing happens.
    Repeated,
    /// B4: another attempt, or a one-group operation, is under way under the id: void.
    UnderWay,
    /// B5: this attempt, or a newer one, has ended: void (hazard S7).
    Ended,
    /// B6: begin.
    Fresh,
    /// B7: begin; the record of the ended older attempt is replaced.
    Again,
}

/// What to do with a `Decide`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecideRow {
    /// D1: there was no Begin: void (hazard S9).
    NoBegin,
    /// D2: another attempt is recorded: void.
    OtherAttempt,
    /// D3: decided before: the first decision stands.
    Second,
    /// D4: a commit without this group's own yes: void.
    Unprepared,
    /// D5: take effect, record the outcome.
    Commit,
    /// D6: let go; the id stays open.
    Abort,
    /// D7: let go, record the rejection.
    Reject(Reason),
}

/// What to do with a `Resolve`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResolveRow {
    /// R1: prepared, commit: take effect, record the outcome, acknowledge.
    Apply,
    /// R2: prepared, not committed: let go, record a rejection, acknowledge.
    Release,
    /// R3: waiting, not committed: take it out of the queue, record a rejection, acknowledge (hazard L12).
    TakeOut,
    /// R4: a commit of what has not voted yes: no acknowledgement.
    Premature,
    /// R5: nothing is held, and nothing is to be done: acknowledge.
    Acknowledge,
    /// R6: nothing is held; record the rejection, acknowledge.
    Record,
    /// R7: a commit that has taken effect before: acknowledge, do not apply it again (hazard S8).
    Applied,
    /// R8: a commit that this group does not know: never acknowledge (hazard S11).
    Unknown,
    /// R9: another attempt than the one held ends, and that says nothing about the one held: acknowledge, change
    /// nothing (hazard S7). An attempt that never began may end so, even after an older one was committed.
    Other,
    /// R10: the id is rejected, under a newer attempt than the one held, so no attempt ever commits: let the held one
    /// go, record the rejection, acknowledge.
    ReleaseOlder,
    /// R11: a commit of another attempt than the one held: no acknowledgement.
    OtherCommit,
    /// R12: it contradicts the outcome recorded here, or what this group itself decides: no acknowledgement.
    Contradiction,
}

/// What to do with a `Fence`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FenceRow {
    /// F1: the id has an outcome: that is the answer.
    Settled,
    /// F2: a transaction is under way, undecided: decide it now: rejected, fenced.
    Decide,
    /// F3: an operation waits: take it out, rejected, fenced.
    TakeOut,
    /// F4: nothing is known: record the fence.
    Record,
}

macro_rules! labels {
    ($($row:ident { $($variant:ident $(($field:pat))? => $label:ident),+ $(,)? })+) => {
        /// The name of a row of these tables.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        #[allow(missing_docs)]
        pub enum Row { $($($label),+),+ }

        impl Row {
            /// Every row.
            pub const ALL: &'static [Row] = &[$($(Row::$label),+),+];

            /// Its name in the table.
            pub const fn name(self) -> &'static str {
                match self { $($(Row::$label => stringify!($label)),+),+ }
            }
        }

        $(impl $row {
            /// Which row it is.
            pub fn row(&self) -> Row {
                match self { $($row::$variant $(($field))? => Row::$label),+ }
            }

            /// The row's name in the table.
            pub fn label(&self) -> &'static str {
                self.row().name()
            }
        })+
    };
}
labels! {
    PrepareRow { Committed => P1, Rejected(_) => P2, Conflict => P3, Busy => P4, Fresh => P5, Repeat => P6,
        Quiet => P7, Replace => P8, Stale => P9, Unresolved => P10 }
    BeginRow { Stale => B1, Known => B2, Repeated => B3, UnderWay => B4, Ended => B5, Fresh => B6, Again => B7 }
    DecideRow { NoBegin => D1, OtherAttempt => D2, Second => D3, Unprepared => D4, Commit => D5, Abort => D6,
        Reject(_) => D7 }
    ResolveRow { Apply => R1, Release => R2, TakeOut => R3, Premature => R4, Acknowledge => R5, Record => R6,
        Applied => R7, Unknown => R8, Other => R9, ReleaseOlder => R10, OtherCommit => R11, Contradiction => R12 }
    FenceRow { Settled => F1, Decide => F2, TakeOut => F3, Record => F4 }
}

/// How often each row was taken at one replica since it started. For statistics: no part of the replicated state.
#[derive(Clone, Debug)]
pub struct RowCounts([u64; Row::ALL.len()]);

impl Default for RowCounts {
    fn default() -> RowCounts {
        RowCounts([0; Row::ALL.len()])
    }
}

impl RowCounts {
    /// A row was taken.
    pub fn add(&mut self, row: Row) {
        self.0[row as usize] += 1;
    }

    /// How often a row was taken.
    pub fn of(&self, row: Row) -> u64 {
        self.0[row as usize]
    }
}

/// A `Prepare` at a participant.
///
/// # Panics
/// If something is held under an id that has an outcome: an outcome ends what is held.
pub fn prepare(known: Known, held: Held) -> PrepareRow {
    assert!(known == Known::Open || held == Held::Nothing, "nothing is held under an id that has an outcome");
    match (known, held) {
        (Known::Committed, _) => PrepareRow::Committed,
        (Known::Rejected(reason), _) => PrepareRow::Rejected(reason),
        (Known::Conflict, _) => PrepareRow::Conflict,
        (Known::Open, Held::Own) => PrepareRow::Busy,
        (Known::Open, Held::Nothing) => PrepareRow::Fresh,
        (Known::Open, Held::This { waiting: false }) => PrepareRow::Repeat,
        (Known::Open, Held::This { waiting: true }) => PrepareRow::Quiet,
        (Known::Open, Held::Older { waiting: true }) => PrepareRow::Replace,
        (Known::Open, Held::Older { waiting: false }) => PrepareRow::Unresolved,
        (Known::Open, Held::Newer) => PrepareRow::Stale,
    }
}

/// A `Begin` at the coordinator. `current`: its ballot is that of the last leader that started. `rival`: something
/// else is under way under the id, outside the coordinator's records.
///
/// # Panics
/// If a record is live under an id that has an outcome: an outcome ends it.
pub fn begin(current: bool, known: Known, record: Record, rival: bool) -> BeginRow {
    let live = matches!(record, Record::Live | Record::LiveOther);
    assert!(known == Known::Open || !(live || rival), "nothing is under way under an id that has an outcome");
    match (current, known, record) {
        (false, ..) => BeginRow::Stale,
        (true, Known::Committed | Known::Rejected(_) | Known::Conflict, _) => BeginRow::Known,
        (true, Known::Open, Record::Live) => BeginRow::Repeated,
        (true, Known::Open, Record::LiveOther) => BeginRow::UnderWay,
        (true, Known::Open, Record::Ended | Record::EndedNewer) => BeginRow::Ended,
        (true, Known::Open, Record::Nothing | Record::EndedOlder) if rival => BeginRow::UnderWay,
        (true, Known::Open, Record::Nothing) => BeginRow::Fresh,
        (true, Known::Open, Record::EndedOlder) => BeginRow::Again,
    }
}

/// A `Decide` at the coordinator. `prepared`: this group has voted yes itself and holds what it needs.
///
/// # Panics
/// If this group is prepared for an attempt that is not live: the decision ends what is held.
pub fn decide(record: Record, prepared: bool, verdict: Verdict) -> DecideRow {
    assert!(!prepared || record == Record::Live, "a group is prepared as coordinator for live attempts only");
    match (record, verdict) {
        (Record::Nothing, _) => DecideRow::NoBegin,
        (Record::LiveOther | Record::EndedOlder | Record::EndedNewer, _) => DecideRow::OtherAttempt,
        (Record::Ended, Verdict::Abort) if is_planted(Bug::SecondDecision) => DecideRow::Abort,
        (Record::Ended, Verdict::Reject(reason)) if is_planted(Bug::SecondDecision) => DecideRow::Reject(reason),
        (Record::Ended, Verdict::Commit) if is_planted(Bug::SecondDecision) => DecideRow::Commit,
        (Record::Ended, _) => DecideRow::Second,
        (Record::Live, Verdict::Commit) if !prepared => DecideRow::Unprepared,
        (Record::Live, Verdict::Commit) => DecideRow::Commit,
        (Record::Live, Verdict::Abort) => DecideRow::Abort,
        (Record::Live, Verdict::Reject(reason)) => DecideRow::Reject(reason),
    }
}

/// A `Resolve` at a participant. It names no content, so `known` is never a conflict.
///
/// # Panics
/// If something is held under an id that has an outcome, or `known` is a conflict.
pub fn resolve(known: Known, held: Held, verdict: Verdict) -> ResolveRow {
    assert!(known != Known::Conflict, "a resolve names no content");
    assert!(known == Known::Open || held == Held::Nothing, "nothing is held under an id that has an outcome");
    let commit = verdict == Verdict::Commit;
    match (held, known, verdict) {
        (Held::Own, ..) => ResolveRow::Contradiction,
        (Held::This { waiting: false }, ..) if commit => ResolveRow::Apply,
        (Held::This { waiting: false }, ..) => ResolveRow::Release,
        (Held::This { waiting: true }, ..) if commit => ResolveRow::Premature,
        (Held::This { waiting: true }, ..) => ResolveRow::TakeOut,
        (Held::Older { .. } | Held::Newer, ..) if commit => ResolveRow::OtherCommit,
        // A conflict speaks of the content of one attempt only.
        (Held::Older { .. }, _, Verdict::Reject(reason)) if reason != Reason::IdConflict => ResolveRow::ReleaseOlder,
        (Held::Newer, ..) if is_planted(Bug::OlderAbortReleases) => ResolveRow::Release,
        (Held::Older { .. } | Held::Newer, ..) => ResolveRow::Other,
        (Held::Nothing, Known::Committed, Verdict::Commit) => ResolveRow::Applied,
        (Held::Nothing, Known::Committed, Verdict::Reject(_)) => ResolveRow::Contradiction,
        (Held::Nothing, Known::Rejected(_), Verdict::Commit) => ResolveRow::Contradiction,
        (Held::Nothing, _, Verdict::Commit) => ResolveRow::Unknown,
        (Held::Nothing, Known::Open, Verdict::Reject(_)) => ResolveRow::Record,
        (Held::Nothing, _, Verdict::Abort | Verdict::Reject(_)) => ResolveRow::Acknowledge,
    }
}

/// A `Fence` where the id lives. `live`: a transaction is under way under it, undecided; `waiting`: a one-group
/// operation waits under it.
///
/// # Panics
/// If two of these hold at once: they exclude each other.
pub fn fence(settled: bool, live: bool, waiting: bool) -> FenceRow {
    let states = usize::from(settled) + usize::from(live) + usize::from(waiting);
    assert!(states <= 1, "an id is settled, or decided by a transaction, or waits");
    match (settled, live, waiting) {
        (true, ..) => FenceRow::Settled,
        (_, true, _) => FenceRow::Decide,
        (.., true) => FenceRow::TakeOut,
        _ => FenceRow::Record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: Reason = Reason::ExceedsCredits;
    const YES: Held = Held::This { waiting: false };
    const OLDER: Held = Held::Older { waiting: false };
    const WAITS: Held = Held::This { waiting: true };

    macro_rules! rows {
        ($($name:ident: $call:expr => $row:expr, $label:literal;)+) => {$(
            #[test]
            fn $name() {
                let row = $call;
                assert_eq!(row, $row);
                assert_eq!(row.label(), $label);
            }
        )+};
    }

    rows! {
        p1_committed_before: prepare(Known::Committed, Held::Nothing) => PrepareRow::Committed, "P1";
        p2_rejected_before: prepare(Known::Rejected(REASON), Held::Nothing) => PrepareRow::Rejected(REASON), "P2";
        p3_other_content: prepare(Known::Conflict, Held::Nothing) => PrepareRow::Conflict, "P3";
        p4_own_operation_under_way: prepare(Known::Open, Held::Own) => PrepareRow::Busy, "P4";
        p5_first_heard: prepare(Known::Open, Held::Nothing) => PrepareRow::Fresh, "P5";
        p6_prepared_before: prepare(Known::Open, YES) => PrepareRow::Repeat, "P6";
        p7_still_waits: prepare(Known::Open, WAITS) => PrepareRow::Quiet, "P7";
        p8_newer_attempt: prepare(Known::Open, Held::Older { waiting: true }) => PrepareRow::Replace, "P8";
        p10_newer_attempt_of_a_yes: prepare(Known::Open, OLDER) => PrepareRow::Unresolved, "P10";
        p9_older_attempt: prepare(Known::Open, Held::Newer) => PrepareRow::Stale, "P9";
        b1_older_ballot: begin(false, Known::Open, Record::Nothing, false) => BeginRow::Stale, "B1";
        b2_outcome: begin(true, Known::Committed, Record::Nothing, false) => BeginRow::Known, "B2";
        b2_outcome_of_an_ended_record: begin(true, Known::Conflict, Record::Ended, false) => BeginRow::Known, "B2";
        b3_second_copy: begin(true, Known::Open, Record::Live, false) => BeginRow::Repeated, "B3";
        b4_other_attempt_live: begin(true, Known::Open, Record::LiveOther, false) => BeginRow::UnderWay, "B4";
        b4_one_group_operation: begin(true, Known::Open, Record::Nothing, true) => BeginRow::UnderWay, "B4";
        b4_one_group_operation_after_an_end: begin(true, Known::Open, Record::EndedOlder, true)
            => BeginRow::UnderWay, "B4";
        b5_ended: begin(true, Known::Open, Record::Ended, false) => BeginRow::Ended, "B5";
        b5_a_newer_one_ended: begin(true, Known::Open, Record::EndedNewer, false) => BeginRow::Ended, "B5";
        b6_fresh: begin(true, Known::Open, Record::Nothing, false) => BeginRow::Fresh, "B6";
        b7_after_an_older_one_ended: begin(true, Known::Open, Record::EndedOlder, false) => BeginRow::Again, "B7";
        d1_no_begin: decide(Record::Nothing, false, Verdict::Commit) => DecideRow::NoBegin, "D1";
        d2_other_attempt_live: decide(Record::LiveOther, false, Verdict::Abort) => DecideRow::OtherAttempt, "D2";
        d2_other_attempt_ended: decide(Record::EndedNewer, false, Verdict::Commit) => DecideRow::OtherAttempt, "D2";
        d3_second: decide(Record::Ended, false, Verdict::Commit) => DecideRow::Second, "D3";
        d4_not_prepared: decide(Record::Live, false, Verdict::Commit) => DecideRow::Unprepared, "D4";
        d5_commit: decide(Record::Live, true, Verdict::Commit) => DecideRow::Commit, "D5";
        d6_abort: decide(Record::Live, true, Verdict::Abort) => DecideRow::Abort, "D6";
        d6_abort_unprepared: decide(Record::Live, false, Verdict::Abort) => DecideRow::Abort, "D6";
        d7_reject: decide(Record::Live, false, Verdict::Reject(REASON)) => DecideRow::Reject(REASON), "D7";
        r1_commit: resolve(Known::Open, YES, Verdict::Commit) => ResolveRow::Apply, "R1";
        r2_abort: resolve(Known::Open, YES, Verdict::Abort) => ResolveRow::Release, "R2";
        r2_reject: resolve(Known::Open, YES, Verdict::Reject(REASON)) => ResolveRow::Release, "R2";
        r3_abort_of_a_waiter: resolve(Known::Open, WAITS, Verdict::Abort) => ResolveRow::TakeOut, "R3";
        r4_commit_of_a_waiter: resolve(Known::Open, WAITS, Verdict::Commit) => ResolveRow::Premature, "R4";
        r5_unknown_abort: resolve(Known::Open, Held::Nothing, Verdict::Abort) => ResolveRow::Acknowledge, "R5";
        r5_late_abort: resolve(Known::Committed, Held::Nothing, Verdict::Abort) => ResolveRow::Acknowledge, "R5";
        r5_repeated_reject: resolve(Known::Rejected(REASON), Held::Nothing, Verdict::Reject(REASON))
            => ResolveRow::Acknowledge, "R5";
        r6_unknown_reject: resolve(Known::Open, Held::Nothing, Verdict::Reject(REASON)) => ResolveRow::Record, "R6";
        r7_repeated_commit: resolve(Known::Committed, Held::Nothing, Verdict::Commit) => ResolveRow::Applied, "R7";
        r8_unknown_commit: resolve(Known::Open, Held::Nothing, Verdict::Commit) => ResolveRow::Unknown, "R8";
        r9_end_of_an_older_attempt: resolve(Known::Open, Held::Newer, Verdict::Abort) => ResolveRow::Other, "R9";
        r9_rejection_of_an_older_attempt: resolve(Known::Open, Held::Newer, Verdict::Reject(REASON))
            => ResolveRow::Other, "R9";
        r9_abort_of_a_newer_attempt: resolve(Known::Open, OLDER, Verdict::Abort) => ResolveRow::Other, "R9";
        r9_conflict_of_a_newer_attempt: resolve(Known::Open, OLDER, Verdict::Reject(Reason::IdConflict))
            => ResolveRow::Other, "R9";
        r10_rejection_of_a_newer_attempt: resolve(Known::Open, OLDER, Verdict::Reject(REASON))
            => ResolveRow::ReleaseOlder, "R10";
        r11_commit_of_an_older_attempt: resolve(Known::Open, Held::Newer, Verdict::Commit)
            => ResolveRow::OtherCommit, "R11";
        r11_commit_of_a_newer_attempt: resolve(Known::Open, OLDER, Verdict::Commit)
            => ResolveRow::OtherCommit, "R11";
        r12_commit_of_a_rejection: resolve(Known::Rejected(REASON), Held::Nothing, Verdict::Commit)
            => ResolveRow::Contradiction, "R12";
        r12_rejection_of_a_commit: resolve(Known::Committed, Held::Nothing, Verdict::Reject(REASON))
            => ResolveRow::Contradiction, "R12";
        r12_own: resolve(Known::Open, Held::Own, Verdict::Abort) => ResolveRow::Contradiction, "R12";
        f1_settled: fence(true, false, false) => FenceRow::Settled, "F1";
        f2_live: fence(false, true, false) => FenceRow::Decide, "F2";
        f3_waiting: fence(false, false, true) => FenceRow::TakeOut, "F3";
        f4_unknown: fence(false, false, false) => FenceRow::Record, "F4";
    }

    #[test]
    #[should_panic(expected = "nothing is held under an id that has an outcome")]
    fn an_outcome_ends_what_is_held() {
        prepare(Known::Committed, YES);
    }

    #[test]
    #[should_panic(expected = "live attempts only")]
    fn a_decision_ends_what_the_coordinator_holds() {
        decide(Record::Ended, true, Verdict::Commit);
    }
}
